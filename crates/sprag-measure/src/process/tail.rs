//! The beginning and the end of a stream of any length, in bounded memory.

use std::collections::VecDeque;

/// Bytes kept from the beginning.
const HEAD_BYTES: usize = 8 << 10;
/// Bytes kept from the end: an error comes last, and must fit with its context.
const LAST_BYTES: usize = 32 << 10;

/// First and last bytes of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    head: Vec<u8>,
    last: VecDeque<u8>,
    total_bytes: u64,
}

impl Tail {
    /// Takes in what comes next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(LAST_BYTES)..];
        let surplus = (self.last.len() + rest.len()).saturating_sub(LAST_BYTES);
        self.last.drain(..surplus);
        self.last.extend(rest);
    }

    /// Length of the whole stream.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// True when nothing came.
    pub fn is_empty(&self) -> bool {
        self.total_bytes == 0
    }

    /// Lossy text; says in the middle how many bytes were left out, if any were.
    pub fn text(&self) -> String {
        let omitted = self.total_bytes - (self.head.len() + self.last.len()) as u64;
        let mut bytes = self.head.clone();
        if omitted > 0 {
            bytes.extend_from_slice(format!("\n[... {omitted} bytes left out ...]\n").as_bytes());
        }
        bytes.extend(&self.last);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of it, at most so many.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_streams_are_whole() {
        let mut tail = Tail::default();
        tail.push(b"one\n");
        tail.push(b"two\xff\n");
        assert_eq!(tail.text(), "one\ntwo\u{fffd}\n");
        assert_eq!(tail.last_lines(1), "two\u{fffd}");
    }

    #[test]
    fn long_streams_keep_both_ends_in_bounded_memory() {
        let mut tail = Tail::default();
        let chunk = vec![b'x'; 100_000];
        tail.push(b"first");
        for _ in 0..50 {
            tail.push(&chunk);
            assert!(tail.head.len() <= HEAD_BYTES && tail.last.len() <= LAST_BYTES);
        }
        tail.push(b"last");
        let text = tail.text();
        assert!(text.starts_with("firstxx") && text.ends_with("xxlast"));
        let omitted = 5_000_009 - HEAD_BYTES - LAST_BYTES;
        assert!(text.contains(&format!("[... {omitted} bytes left out ...]")));
    }

    #[test]
    fn a_stream_that_just_fits_leaves_nothing_out() {
        let mut tail = Tail::default();
        tail.push(&vec![b'x'; HEAD_BYTES + LAST_BYTES]);
        assert_eq!(tail.text().len(), HEAD_BYTES + LAST_BYTES);
    }
}
