//! What people see while the program works. Results go to standard output, talk to standard error.

pub mod console;
pub mod live;
pub mod words;

use std::io::IsTerminal;

use crate::environment::Environment;

/// What the two streams can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Standard output may carry colours.
    pub colour_out: bool,
    /// Standard error may carry colours.
    pub colour_err: bool,
    /// Standard error can redraw a line.
    pub live: bool,
    /// Columns.
    pub width: usize,
}

impl Terminal {
    /// No colours, no redrawing: for tests.
    #[cfg(test)]
    pub const PLAIN: Terminal = Terminal { colour_out: false, colour_err: false, live: false, width: 100 };

    /// Looks at the streams. `NO_COLOR` (<https://no-color.org>) takes the colours away, `TERM=dumb` also the
    /// redrawing; both leave every word in place.
    pub fn probe(environment: &Environment) -> Terminal {
        let dumb = environment.text("TERM") == Some("dumb");
        let colours = !dumb && environment.get("NO_COLOR").is_none();
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
        Terminal {
            colour_out: colours && out,
            colour_err: colours && err,
            live: err && !dumb,
            width: width.max(20),
        }
    }
}

/// How a word is set off, on top of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Neither.
    Doubt,
    /// Beside the point.
    Faint,
    /// Headings.
    Strong,
}

/// The text in that tone, or as it is without colours.
pub fn toned(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Doubt => "33",
        Tone::Faint => "2",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Text from outside on one line of a terminal: no control characters, so nothing can move the cursor.
pub fn tame(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
