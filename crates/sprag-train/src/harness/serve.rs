//! Answers the evaluator's windows once training is over.

use std::os::unix::net::UnixStream;

use burn::tensor::Device;

use super::{Model, Stop, id_tensor, unexpected};
use crate::protocol::{self, ToCandidate};

/// Answers every window with the model's logits, as they come, until the evaluator says it has finished.
///
/// Wrong shapes and numbers that are not finite are sent as they are: judging them is the evaluator's.
pub(super) fn answer(socket: &mut UnixStream, model: &impl Model, device: &Device) -> Result<(), Stop> {
    loop {
        let (rows, seq_len, tokens) = match protocol::receive(socket, protocol::MAX_PAYLOAD_BYTES)? {
            ToCandidate::Score { rows, seq_len, tokens } => (rows as usize, seq_len as usize, tokens),
            ToCandidate::Finish => return Ok(()),
            _ => return Err(unexpected("windows to answer")),
        };
        if Some(tokens.len()) != rows.checked_mul(seq_len) {
            return Err(unexpected("as many tokens as it said"));
        }
        let unreadable = |error| Stop::GaveUp(format!("could not read the logits: {error:?}"));
        let data = model.logits(id_tensor(&tokens, [rows, seq_len], device)).inner().into_data(); // [rows, seq, vocab]
        protocol::send_logits(socket, data.as_slice::<f32>().map_err(unreadable)?)?;
    }
}
