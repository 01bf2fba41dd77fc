//! What becomes of a child's output: lines of bounded length, or everything.

use super::Stream;

/// Longest line that is given on whole; a progress bar without line ends must not eat memory.
const LINE_BYTES: usize = 64 << 10;

/// Receives output as it comes.
pub(super) trait Sink {
    /// The next bytes of a stream.
    fn bytes(&mut self, stream: Stream, bytes: &[u8]);
    /// No more will come.
    fn end(&mut self, stream: Stream);
}

/// Cuts both streams into lines.
pub(super) struct Splitter<'a> {
    on_line: &'a mut dyn FnMut(Stream, &str),
    /// Unfinished line of each stream, cut at `LINE_BYTES`.
    open: [Vec<u8>; 2],
}

impl<'a> Splitter<'a> {
    pub(super) fn new(on_line: &'a mut dyn FnMut(Stream, &str)) -> Splitter<'a> {
        Splitter { on_line, open: [Vec::new(), Vec::new()] }
    }

    fn emit(&mut self, stream: Stream) {
        let open = &mut self.open[stream as usize];
        let line = open.strip_suffix(b"\r").unwrap_or(open);
        (self.on_line)(stream, &String::from_utf8_lossy(line));
        open.clear();
    }
}

impl Sink for Splitter<'_> {
    fn bytes(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let open = &mut self.open[stream as usize];
            let room = LINE_BYTES - open.len();
            open.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.emit(stream);
            }
        }
    }

    fn end(&mut self, stream: Stream) {
        if !self.open[stream as usize].is_empty() {
            self.emit(stream);
        }
    }
}

/// Keeps everything; the caller bounds it with `Limits::output_bytes`.
#[derive(Default)]
pub(super) struct Collector {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Sink for Collector {
    fn bytes(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
    }

    fn end(&mut self, _stream: Stream) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut on_line = |_: Stream, line: &str| lines.push(line.to_owned());
        let mut splitter = Splitter::new(&mut on_line);
        for chunk in chunks {
            splitter.bytes(Stream::Stdout, chunk);
        }
        splitter.end(Stream::Stdout);
        lines
    }

    #[test]
    fn lines_are_the_same_wherever_the_chunks_break() {
        let text = "one\r\n\ntwo é\nlast".as_bytes();
        for at in 0..=text.len() {
            assert_eq!(split(&[&text[..at], &text[at..]]), ["one", "", "two é", "last"], "{at}");
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; LINE_BYTES];
        let lines = split(&[&long, &long, &long, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].len(), lines[1].as_str()), (LINE_BYTES, "next"));
    }

    #[test]
    fn streams_do_not_mix() {
        let mut lines = Vec::new();
        let mut on_line = |stream: Stream, line: &str| lines.push((stream, line.to_owned()));
        let mut splitter = Splitter::new(&mut on_line);
        splitter.bytes(Stream::Stdout, b"o");
        splitter.bytes(Stream::Stderr, b"e\n");
        splitter.bytes(Stream::Stdout, b"ut\n");
        assert_eq!(lines, [(Stream::Stderr, "e".to_owned()), (Stream::Stdout, "out".to_owned())]);
    }
}
