//! Answers the evaluator's windows once training is over.

use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::thread;

use burn::tensor::Device;

use super::{Model, Stop, id_tensor, unexpected};
use crate::protocol::{self, ToCandidate};

/// Answers every window with the model's logits, as they come, until the evaluator says it has finished.
///
/// Wrong shapes and numbers that are not finite are sent as they are: judging them is the evaluator's.
pub(super) fn answer(socket: &mut UnixStream, model: &impl Model, device: &Device) -> Result<(), Stop> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    loop {
        let (rows, seq_len, tokens) = match protocol::receive(socket, protocol::MAX_PAYLOAD_BYTES)? {
            ToCandidate::Score { rows, seq_len, tokens } => (rows as usize, seq_len as usize, tokens),
            ToCandidate::Finish => return Ok(()),
            _ => return Err(unexpected("windows to answer")),
        };
        if Some(tokens.len()) != rows.checked_mul(seq_len) {
            return Err(unexpected("as many tokens as it said"));
        }
        let logits = logits(model, &tokens, seq_len, cores, device)?;
        protocol::send_logits(socket, &logits)?;
    }
}

/// Logits of all windows in order, a share of the windows on each core: on the CPU most operations between
/// the matrix products use one core alone.
fn logits(
    model: &impl Model,
    tokens: &[u32],
    seq_len: usize,
    cores: usize,
    device: &Device,
) -> Result<Vec<f32>, Stop> {
    if seq_len == 0 {
        return Ok(Vec::new());
    }
    let share = (tokens.len() / seq_len).div_ceil(cores).max(1) * seq_len;
    let answer = |tokens: &[u32]| {
        let windows = id_tensor(tokens, [tokens.len() / seq_len, seq_len], device); // [rows, seq]
        let logits = model.logits(windows).inner(); // [rows, seq, vocab]
        logits
            .try_into_vec_as::<f32>()
            .map_err(|error| Stop::GaveUp(format!("could not read the logits: {error:?}")))
    };
    let mut answers = thread::scope(|scope| {
        let threads: Vec<_> = tokens.chunks(share).map(|part| scope.spawn(move || answer(part))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<f32>, Stop>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, Stop>>()
    })?;
    // One window, one answer: nothing to put together.
    Ok(if answers.len() == 1 { answers.remove(0) } else { answers.concat() })
}
