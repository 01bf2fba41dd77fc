//! Candidates in a thread of the test: a bigram model, honest or with one fault.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::corpus::VOCAB;
use crate::protocol::{self, Budget, FromCandidate, ProtocolError, Start, ToCandidate, VERSION};

/// Logits of one request: the windows, and how many requests came before.
pub(super) type Respond = dyn FnMut(&Bigram, &[&[u32]], usize) -> Vec<f32>;

/// Counts of pairs of ids.
pub(super) struct Bigram {
    counts: Vec<f32>,
}

impl Bigram {
    pub(super) fn new() -> Self {
        Bigram { counts: vec![0.1; (VOCAB * VOCAB) as usize] }
    }

    fn learn(&mut self, row: &[u32]) {
        row.windows(2).for_each(|pair| self.counts[(pair[0] * VOCAB + pair[1]) as usize] += 1.0);
    }

    /// Logarithms of counts: the softmax makes frequencies of them.
    pub(super) fn logits(&self, id: u32) -> Vec<f32> {
        let from = (id * VOCAB) as usize;
        self.counts[from..from + VOCAB as usize].iter().map(|count| count.ln()).collect()
    }

    pub(super) fn answer(&self, windows: &[&[u32]]) -> Vec<f32> {
        windows.iter().flat_map(|window| window.iter()).flat_map(|&id| self.logits(id)).collect()
    }
}

pub(super) struct Connection(pub(super) UnixStream);

impl Connection {
    pub(super) fn say(&mut self, message: FromCandidate) -> Result<(), ProtocolError> {
        protocol::send(&mut self.0, &message)
    }

    pub(super) fn hear(&mut self) -> Result<ToCandidate, ProtocolError> {
        protocol::receive(&mut self.0, 1 << 24)
    }

    pub(super) fn greet(&mut self) -> Result<Start, ProtocolError> {
        self.say(FromCandidate::Hello { version: VERSION })?;
        match self.hear()? {
            ToCandidate::Start(start) => Ok(start),
            other => panic!("{other:?} instead of a start"),
        }
    }

    /// Asks for batches until told to stop.
    pub(super) fn train(&mut self, pause: Duration) -> Result<Bigram, ProtocolError> {
        let mut model = Bigram::new();
        for step in 1.. {
            self.say(FromCandidate::NextBatch { rows: 4, seq_len: 16 })?;
            let ToCandidate::Batch { tokens, .. } = self.hear()? else { break };
            tokens.chunks(17).for_each(|row| model.learn(row));
            self.say(FromCandidate::Step { loss: 3.0 / step as f32 })?;
            std::thread::sleep(pause);
        }
        Ok(model)
    }

    /// Answers until told to finish.
    pub(super) fn answer(&mut self, model: &Bigram, respond: &mut Respond) -> Result<(), ProtocolError> {
        self.say(FromCandidate::Trained)?;
        let mut before = 0;
        while let ToCandidate::Score { seq_len, tokens, .. } = self.hear()? {
            let windows: Vec<&[u32]> = tokens.chunks(seq_len as usize).collect();
            let logits = respond(model, &windows, before);
            protocol::send_logits(&mut self.0, &logits)?;
            before += 1;
        }
        Ok(())
    }
}

/// A candidate that trains as it should and answers in its own way.
pub(super) fn answering(
    mut respond: impl FnMut(&Bigram, &[&[u32]], usize) -> Vec<f32> + Send + 'static,
) -> impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static {
    move |connection| {
        let start = connection.greet()?;
        // Seconds are spent slowly enough not to learn megabytes.
        let pause = Duration::from_millis(if matches!(start.budget, Budget::Seconds(_)) { 5 } else { 0 });
        connection.say(FromCandidate::Fact { name: "parameters".into(), value: 144.0 })?;
        let model = connection.train(pause)?;
        connection.answer(&model, &mut respond)
    }
}

/// Sleeps until the evaluator has gone, but not forever.
pub(super) fn hang(connection: &mut Connection) {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        match connection.hear() {
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
