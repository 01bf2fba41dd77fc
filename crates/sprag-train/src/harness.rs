//! The fixed side of a candidate: it brings seed, device and batches to `train`, and answers with logits.
//!
//! It speaks [`protocol`] over standard input, which the evaluator makes a socket. What is
//! trained, and how, is the candidate's; clock, data and score are the evaluator's.

mod device;
mod explosion;
mod serve;

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernels;
use crate::ops::{self, Choice, Precision};
use crate::protocol::{self, Budget, FromCandidate, ProtocolError, Start, ToCandidate};
use explosion::Explosion;

/// Stack of the threads that compute, and of `train`.
const STACK_BYTES: usize = 8 << 20;

/// What `train` returns: a model that answers windows.
pub trait Model: Send + Sync {
    /// Logits of the next token after each position: `[rows, seq]` to `[rows, seq, vocab]`. Position `i` may
    /// depend on tokens `0..=i` of its own row alone, and on nothing that was asked before.
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3>;
}

/// One batch of training data.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the model sees, `[rows, seq]`.
    pub inputs: Tensor<2, Int>,
    /// What it should say, `[rows, seq]`: the inputs, one token later.
    pub targets: Tensor<2, Int>,
    /// Part of the budget that was spent when the batch was served, 0 to 1.
    pub progress: f64,
}

/// Why training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The loss is not finite, or far above where it was.
    #[error("training diverged: {0}")]
    Diverged(String),
    /// The candidate cannot go on, for a reason of its own.
    #[error("{0}")]
    GaveUp(String),
    /// The conversation with the evaluator broke.
    #[error("lost the evaluator: {0}")]
    Protocol(#[from] ProtocolError),
}

/// The evaluator's side of a run, as `train` sees it.
#[derive(Debug)]
pub struct Run {
    socket: UnixStream,
    start: Start,
    device: Device,
    explosion: Explosion,
}

impl Run {
    /// Seed of all randomness; the device's generator is already seeded with it.
    pub fn seed(&self) -> u64 {
        self.start.seed
    }

    /// The device to train on, gradients enabled.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.start.vocab_size as usize
    }

    /// Longest window, in tokens, that will be asked for.
    pub fn max_seq_len(&self) -> usize {
        self.start.max_seq_len as usize
    }

    /// What training may spend, on the evaluator's clock.
    pub fn budget(&self) -> Budget {
        self.start.budget
    }

    /// Sets what matrix products on the CPU are rounded to, and logs what was chosen and why.
    pub fn set_precision(&mut self, precision: Precision) -> Result<(), Stop> {
        let Choice { precision, because } = ops::set_precision(precision);
        if !device::is_cpu(&self.device) {
            say("precision: fp32, as the device computes it");
            return Ok(());
        }
        say(&format!("precision: {precision}, because {because}"));
        // Of the processor alone: what limits a run is told beside what was measured of that.
        self.report("precision_bits", if precision == Precision::Bf16 { 16.0 } else { 32.0 })
    }

    /// The next `rows` windows of `seq_len` tokens, or `None` when the budget is spent.
    pub fn next_batch(&mut self, rows: usize, seq_len: usize) -> Result<Option<Batch>, Stop> {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let ask = FromCandidate::NextBatch { rows: narrow(rows), seq_len: narrow(seq_len) };
        protocol::send(&mut self.socket, &ask)?;
        let (progress, tokens) = match protocol::receive(&mut self.socket, protocol::MAX_PAYLOAD_BYTES)? {
            ToCandidate::Batch { progress, tokens } => (progress, tokens),
            ToCandidate::Stop => return Ok(None),
            _ => return Err(unexpected("a batch")),
        };
        if tokens.len() != rows * (seq_len + 1) {
            return Err(unexpected("a batch of the size it asked for"));
        }
        let both = id_tensor(&tokens, [rows, seq_len + 1], &self.device); // [rows, seq + 1]
        let inputs = both.clone().narrow(1, 0, seq_len);
        let targets = both.narrow(1, 1, seq_len);
        Ok(Some(Batch { inputs, targets, progress }))
    }

    /// Tells that one optimiser step was made, with its mean loss in nats a token. Ends training when the
    /// loss is not finite or has exploded.
    pub fn step(&mut self, loss: f32) -> Result<(), Stop> {
        self.explosion.check(loss).map_err(Stop::Diverged)?;
        Ok(protocol::send(&mut self.socket, &FromCandidate::Step { loss })?)
    }

    /// Tells a number about the candidate (`parameters`, `flops_per_token`): shown, never scored.
    pub fn report(&mut self, name: &str, value: f64) -> Result<(), Stop> {
        Ok(protocol::send(&mut self.socket, &FromCandidate::Fact { name: name.to_owned(), value })?)
    }
}

/// Runs a candidate from its first message to its last; the whole of its `main`.
///
/// Exit status 0: the conversation ended as the protocol says, which includes giving up after telling the
/// evaluator why. 1: it broke. 2: there is no evaluator on standard input.
pub fn run<M: Model>(train: impl FnOnce(&mut Run) -> Result<M, Stop> + Send) -> ExitCode {
    let Some(socket) = socket_on_stdin() else {
        say("no evaluator on standard input: this program is started by one, not by hand");
        say("hint: `sprag check` scores the working tree, `sprag run` starts the loop");
        return ExitCode::from(2);
    };
    // On a thread of the pool that kernels share their work with, so that it takes part instead of waiting, and with
    // a stack as large as a main thread's.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES).build_global();
    if let Err(error) = pool {
        say(&format!("start the threads that compute: {error}"));
        return ExitCode::FAILURE;
    }
    match rayon::scope(|_| converse(socket, train)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop @ (Stop::Diverged(_) | Stop::GaveUp(_))) => {
            say(&stop.to_string());
            ExitCode::SUCCESS
        }
        Err(stop) => {
            say(&stop.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The whole conversation over `socket`. `Err` is what ended it early; the evaluator has been told, where
/// it still listens.
fn converse<M: Model>(
    mut socket: UnixStream,
    train: impl FnOnce(&mut Run) -> Result<M, Stop> + Send,
) -> Result<(), Stop> {
    protocol::send(&mut socket, &FromCandidate::Hello { version: protocol::VERSION })?;
    let ToCandidate::Start(start) = protocol::receive(&mut socket, protocol::MAX_PAYLOAD_BYTES)? else {
        return Err(unexpected("the start of the run"));
    };
    let device = match device::choose() {
        Ok(device) => device,
        Err(stop) => return Err(give_up(&mut socket, stop)?),
    };
    device.seed(start.seed);
    let mut run = Run { socket, start, device: device.autodiff(), explosion: Explosion::default() };
    match train(&mut run) {
        Ok(model) => {
            protocol::send(&mut run.socket, &FromCandidate::Trained)?;
            // What answers need has other sizes than what training needed.
            kernels::memory::release();
            serve::answer(&mut run.socket, &model, &run.device.inner())
        }
        Err(stop) => Err(give_up(&mut run.socket, stop)?),
    }
}

/// Tells the evaluator why there is no model.
fn give_up(socket: &mut UnixStream, stop: Stop) -> Result<Stop, Stop> {
    let diverged = matches!(stop, Stop::Diverged(_));
    protocol::send(socket, &FromCandidate::GaveUp { diverged, message: stop.to_string() })?;
    // The evaluator reads the reason before it sees the end.
    socket.shutdown(Shutdown::Write).map_err(ProtocolError::Io)?;
    Ok(stop)
}

/// Standard input, where it is a Unix socket.
fn socket_on_stdin() -> Option<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    socket.local_addr().is_ok().then_some(socket)
}

fn id_tensor(ids: &[u32], shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
    Tensor::from_data(TensorData::new(ids, shape), device)
}

fn unexpected(wanted: &str) -> Stop {
    let message = format!("the evaluator did not send {wanted}");
    Stop::Protocol(ProtocolError::Io(io::Error::new(io::ErrorKind::InvalidData, message)))
}

/// Writes a line to the log. A log that is gone is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests;
