//! The socket to the candidate, where nothing waits past a deadline.
//!
//! A deadline holds for a whole message: a candidate that sends a byte now and then gains no time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::EvalError;
use crate::protocol::{self, Answer, FromCandidate, Message, ProtocolError};

/// Largest message accepted besides logits.
const SMALL_BYTES: u32 = 1 << 16;

/// Most characters of a candidate's own words that are passed on.
const QUOTED_CHARS: usize = 600;

/// Why an evaluation ends without a score: the candidate's fault.
#[derive(Debug)]
pub(super) struct Ended {
    /// The class, as the loop's records name it.
    pub(super) reason: &'static str,
    /// What exactly.
    pub(super) detail: String,
}

impl Ended {
    pub(super) fn invalid(reason: &'static str, detail: impl Into<String>) -> Self {
        Ended { reason, detail: detail.into() }
    }
}

/// Why a message did not come or go.
#[derive(Debug)]
pub(super) enum Broken {
    /// The deadline passed.
    Late,
    /// The other side is gone.
    Gone,
    /// What came is not the protocol.
    Protocol(ProtocolError),
}

impl Broken {
    /// What it means in a stage where being late means `late`.
    pub(super) fn during(self, stage: &str, late: impl FnOnce() -> Ended) -> Ended {
        match self {
            Broken::Late => late(),
            Broken::Gone => Ended::invalid("crash", format!("connection ended during {stage}")),
            Broken::Protocol(error) => Ended::invalid("protocol", format!("{error}, during {stage}")),
        }
    }
}

/// The evaluator's end of the socket.
pub(super) struct Channel {
    stream: UnixStream,
    deadline: Instant,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Result<Self, EvalError> {
        stream.set_nonblocking(false).map_err(EvalError::Socket)?;
        Ok(Channel { stream, deadline: Instant::now() })
    }

    pub(super) fn send(&mut self, message: &impl Message, deadline: Instant) -> Result<(), Broken> {
        self.deadline = deadline;
        protocol::send(self, message).map_err(broken)
    }

    pub(super) fn receive(&mut self, deadline: Instant) -> Result<FromCandidate, Broken> {
        self.deadline = deadline;
        protocol::receive(self, SMALL_BYTES).map_err(broken)
    }

    /// Waits for `logits`, or for whatever comes instead.
    pub(super) fn receive_answer(&mut self, logits: &mut [f32], deadline: Instant) -> Result<Answer, Broken> {
        self.deadline = deadline;
        protocol::receive_answer(self, logits, SMALL_BYTES).map_err(broken)
    }

    fn left(&self) -> io::Result<std::time::Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: ProtocolError) -> Broken {
    match error {
        ProtocolError::Io(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Broken::Late
        }
        ProtocolError::Io(_) => Broken::Gone,
        error => Broken::Protocol(error),
    }
}

/// A candidate's own words, made fit for a terminal and a line of JSON.
pub(super) fn quoted(text: &str) -> String {
    let printable = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.trim().chars().take(QUOTED_CHARS).map(printable).collect()
}
