//! One line at the bottom that is redrawn in place, where the terminal can; elsewhere nothing.

use std::io::Write;

use super::{Terminal, tame};

/// The line. Dropping it wipes it.
#[derive(Debug)]
pub struct Live {
    terminal: Terminal,
    shown: bool,
}

impl Live {
    /// A line that shows nothing yet.
    pub fn new(terminal: Terminal) -> Live {
        Live { terminal, shown: false }
    }

    /// Shows the text in place of the last one, cut to the width.
    pub fn show(&mut self, text: &str) {
        if !self.terminal.live {
            return;
        }
        let fitting: String = tame(text).chars().take(self.terminal.width - 1).collect();
        let mut stream = std::io::stderr().lock();
        // A view may fail: the loop goes on.
        let _ = write!(stream, "\r{fitting}\u{1b}[K").and_then(|()| stream.flush());
        self.shown = true;
    }

    /// Wipes the line, before something else is printed.
    pub fn wipe(&mut self) {
        if !std::mem::take(&mut self.shown) {
            return;
        }
        let mut stream = std::io::stderr().lock();
        let _ = write!(stream, "\r\u{1b}[K").and_then(|()| stream.flush());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A bar of that many cells for a part of 0 to 1.
pub fn bar(part: f64, cells: usize) -> String {
    let filled = (part.clamp(0.0, 1.0) * cells as f64).round() as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(cells - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_keeps_its_length() {
        for part in [-1.0, 0.0, 0.5, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(part, 10).len(), 12, "{part}");
        }
        assert_eq!(bar(0.5, 4), "[##..]");
    }
}
