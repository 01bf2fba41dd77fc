//! What candidate and evaluator say to each other, over one stream socket (the candidate's standard input).
//!
//! The evaluator holds the data, the clock and the score. The candidate asks for batches, trains, and then
//! answers windows with logits; it is not told which windows are probes. Frames are little-endian:
//! `u8` tag, `u32` payload length, payload. Neither side trusts the other: lengths are bounded before
//! anything is allocated.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// Version of this protocol; both sides state theirs first.
pub const VERSION: u32 = 1;

/// Longest payload accepted, in bytes.
pub const MAX_PAYLOAD_BYTES: u32 = 1 << 30;

/// What the candidate must know before it starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// Seed of all randomness of this run.
    pub seed: u64,
    /// Number of token ids; logits have this many columns.
    pub vocab_size: u32,
    /// Longest window, in tokens, that will be asked for.
    pub max_seq_len: u32,
    /// Id that begins each document.
    pub bos: u32,
    /// What training may spend.
    pub budget: Budget,
}

/// What training may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Seconds on the evaluator's clock, from the first batch served.
    Seconds(f64),
    /// Tokens served.
    Tokens(u64),
    /// Batches served. An optimiser step is a candidate's own affair, so this is what a step means here: one
    /// that adds up the gradients of several batches spends as many. Smoke tests have a few.
    Steps(u64),
}

/// A budget as the command line writes it: `20s`, `10000000tokens`, `500steps`.
impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let wrong = || BudgetError::Unreadable(text.to_owned());
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (amount, unit) = text.split_at(unit_at);
        let count = || amount.parse::<u64>().ok().filter(|&count| count > 0).ok_or_else(wrong);
        match unit {
            "s" => {
                let seconds = amount.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0);
                seconds.map(Budget::Seconds).ok_or_else(wrong)
            }
            "tokens" => count().map(Budget::Tokens),
            "steps" => count().map(Budget::Steps),
            "evaluations" => count().and_then(|_| Err(BudgetError::Evaluations(text.to_owned()))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Budget::Seconds(seconds) => write!(f, "{seconds}s"),
            Budget::Tokens(tokens) => write!(f, "{tokens}tokens"),
            Budget::Steps(steps) => write!(f, "{steps}steps"),
        }
    }
}

/// A text that is no budget of training.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// This text is no budget at all.
    #[error(
        "`{0}` is not a budget (write a number above zero and its unit: `20s`, `10000000tokens` or `500steps`)"
    )]
    Unreadable(String),
    /// This text is a budget of evaluations, which training has none of.
    #[error(
        "`{0}`: evaluations are for tasks whose own command counts them; training is bounded in seconds, tokens or steps"
    )]
    Evaluations(String),
}

/// From evaluator to candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum ToCandidate {
    /// First message.
    Start(Start),
    /// Tokens to train on: `rows * (seq_len + 1)` ids, row-major; inputs are `[.., ..seq_len]`, targets
    /// `[.., 1..]`.
    Batch {
        /// Part of the budget spent when the batch was served, 0 to 1.
        progress: f64,
        /// The ids.
        tokens: Vec<u32>,
    },
    /// The budget is spent: stop training now, then say `Trained`.
    Stop,
    /// Answer with the logits of these windows: `rows * seq_len` ids, row-major.
    Score {
        /// Windows in this request.
        rows: u32,
        /// Tokens in each.
        seq_len: u32,
        /// The ids.
        tokens: Vec<u32>,
    },
    /// Nothing more will be asked; exit with status 0.
    Finish,
}

/// From candidate to evaluator.
#[derive(Clone, Debug, PartialEq)]
pub enum FromCandidate {
    /// First message, before anything else.
    Hello {
        /// `VERSION` of the candidate's library.
        version: u32,
    },
    /// Asks for a batch; the first one starts the clock.
    NextBatch {
        /// Rows wanted.
        rows: u32,
        /// Tokens a row (one more is served, for the targets).
        seq_len: u32,
    },
    /// One optimiser step was made. Self-reported: used for curves and progress, never for the score.
    Step {
        /// Mean training loss of the step, in nats a token.
        loss: f32,
    },
    /// A number about the candidate, self-reported (`parameters`, `flops_per_token`).
    Fact {
        /// Name, unit last.
        name: String,
        /// Value.
        value: f64,
    },
    /// Training is over; windows may be asked for.
    Trained,
    /// `rows * seq_len * vocab_size` logits of the last `Score`, row-major.
    Logits(Vec<f32>),
    /// The candidate gives up on itself, for example because the loss exploded.
    GaveUp {
        /// True when the loss was not finite or exploded.
        diverged: bool,
        /// Why.
        message: String,
    },
}

/// The other side broke the protocol, or is gone.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The connection ended or failed.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// A frame with an unknown tag.
    #[error("unknown message tag {0}")]
    Tag(u8),
    /// A payload over the bound.
    #[error("a message of {0} bytes, over the limit")]
    TooLong(u32),
    /// A payload that does not fit its tag.
    #[error("a malformed message with tag {0}")]
    Malformed(u8),
}

/// A message that can travel.
pub trait Message: Sized {
    /// Tag and payload.
    fn encode(&self) -> (u8, Vec<u8>);
    /// Back from tag and payload.
    fn decode(tag: u8, payload: &[u8]) -> Result<Self, ProtocolError>;
}

/// Writes one message as one frame.
pub fn send(to: &mut impl Write, message: &impl Message) -> Result<(), ProtocolError> {
    let (tag, payload) = message.encode();
    send_frame(to, tag, &[&payload])
}

/// Writes logits without copying them into a message first.
pub fn send_logits(to: &mut impl Write, logits: &[f32]) -> Result<(), ProtocolError> {
    if cfg!(target_endian = "little") {
        return send_frame(to, LOGITS, &[bytemuck::cast_slice(logits)]);
    }
    send(to, &FromCandidate::Logits(logits.to_vec()))
}

/// Reads one message; at most `limit` payload bytes are accepted.
pub fn receive<M: Message>(from: &mut impl Read, limit: u32) -> Result<M, ProtocolError> {
    let (tag, length) = receive_head(from)?;
    receive_payload(from, tag, length, limit)
}

/// What came when logits were asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// As many logits as expected; they are in the caller's buffer.
    Logits,
    /// Another number of payload bytes; they were not read.
    WrongLength(u32),
    /// Another message.
    Other(FromCandidate),
}

/// Reads one message, and when it is `Logits` of the expected number, straight into `logits`.
/// Any other message may have at most `limit` payload bytes.
pub fn receive_answer(from: &mut impl Read, logits: &mut [f32], limit: u32) -> Result<Answer, ProtocolError> {
    let (tag, length) = receive_head(from)?;
    if tag != LOGITS {
        return receive_payload(from, tag, length, limit).map(Answer::Other);
    }
    if length as usize != size_of_val(logits) {
        return Ok(Answer::WrongLength(length));
    }
    from.read_exact(bytemuck::cast_slice_mut(logits))?;
    if cfg!(target_endian = "big") {
        for logit in logits {
            *logit = f32::from_bits(logit.to_bits().swap_bytes());
        }
    }
    Ok(Answer::Logits)
}

fn receive_head(from: &mut impl Read) -> Result<(u8, u32), ProtocolError> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [tag, length @ ..] = head;
    Ok((tag, u32::from_le_bytes(length)))
}

fn receive_payload<M: Message>(
    from: &mut impl Read,
    tag: u8,
    length: u32,
    limit: u32,
) -> Result<M, ProtocolError> {
    if length > limit.min(MAX_PAYLOAD_BYTES) {
        return Err(ProtocolError::TooLong(length));
    }
    // Memory grows with what arrives, not with what the head claims.
    let mut payload = Vec::new();
    if from.take(u64::from(length)).read_to_end(&mut payload)? < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    M::decode(tag, &payload)
}

const START: u8 = 1;
const BATCH: u8 = 2;
const STOP: u8 = 3;
const SCORE: u8 = 4;
const FINISH: u8 = 5;
const HELLO: u8 = 65;
const NEXT_BATCH: u8 = 66;
const STEP: u8 = 67;
const FACT: u8 = 68;
const TRAINED: u8 = 69;
const LOGITS: u8 = 70;
const GAVE_UP: u8 = 71;

fn send_frame(to: &mut impl Write, tag: u8, parts: &[&[u8]]) -> Result<(), ProtocolError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| ProtocolError::TooLong(u32::MAX))?;
    if length > MAX_PAYLOAD_BYTES {
        return Err(ProtocolError::TooLong(length));
    }
    let mut head = [tag, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    to.write_all(&head)?;
    for part in parts {
        to.write_all(part)?;
    }
    to.flush()?;
    Ok(())
}

/// Reads fixed-width fields off the front of a payload.
struct Fields<'a> {
    tag: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(ProtocolError::Malformed(self.tag))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.take().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64, ProtocolError> {
        self.take().map(f64::from_le_bytes)
    }

    fn words(&mut self) -> Result<&'a [[u8; 4]], ProtocolError> {
        let (words, []) = self.rest.as_chunks::<4>() else { return Err(ProtocolError::Malformed(self.tag)) };
        self.rest = &[];
        Ok(words)
    }

    fn ids(&mut self) -> Result<Vec<u32>, ProtocolError> {
        Ok(self.words()?.iter().copied().map(u32::from_le_bytes).collect())
    }

    fn text(&mut self) -> Result<String, ProtocolError> {
        let text = std::str::from_utf8(self.rest).map_err(|_| ProtocolError::Malformed(self.tag))?;
        self.rest = &[];
        Ok(text.to_owned())
    }

    fn end<T>(self, value: T) -> Result<T, ProtocolError> {
        if self.rest.is_empty() { Ok(value) } else { Err(ProtocolError::Malformed(self.tag)) }
    }
}

fn push_ids(payload: &mut Vec<u8>, ids: &[u32]) {
    payload.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

impl Message for ToCandidate {
    fn encode(&self) -> (u8, Vec<u8>) {
        let mut payload = Vec::new();
        let tag = match self {
            ToCandidate::Start(start) => {
                let (kind, amount) = match start.budget {
                    Budget::Seconds(seconds) => (0u32, seconds.to_bits()),
                    Budget::Tokens(tokens) => (1, tokens),
                    Budget::Steps(steps) => (2, steps),
                };
                payload.extend(VERSION.to_le_bytes());
                payload.extend(start.seed.to_le_bytes());
                for field in [start.vocab_size, start.max_seq_len, start.bos, kind] {
                    payload.extend(field.to_le_bytes());
                }
                payload.extend(amount.to_le_bytes());
                START
            }
            ToCandidate::Batch { progress, tokens } => {
                payload.extend(progress.to_le_bytes());
                push_ids(&mut payload, tokens);
                BATCH
            }
            ToCandidate::Stop => STOP,
            ToCandidate::Score { rows, seq_len, tokens } => {
                payload.extend(rows.to_le_bytes());
                payload.extend(seq_len.to_le_bytes());
                push_ids(&mut payload, tokens);
                SCORE
            }
            ToCandidate::Finish => FINISH,
        };
        (tag, payload)
    }

    fn decode(tag: u8, payload: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields { tag, rest: payload };
        let message = match tag {
            START => {
                if fields.u32()? != VERSION {
                    return Err(ProtocolError::Malformed(tag));
                }
                let seed = fields.u64()?;
                let (vocab_size, max_seq_len, bos) = (fields.u32()?, fields.u32()?, fields.u32()?);
                let budget = match (fields.u32()?, fields.u64()?) {
                    (0, bits) => Budget::Seconds(f64::from_bits(bits)),
                    (1, tokens) => Budget::Tokens(tokens),
                    (2, steps) => Budget::Steps(steps),
                    _ => return Err(ProtocolError::Malformed(tag)),
                };
                ToCandidate::Start(Start { seed, vocab_size, max_seq_len, bos, budget })
            }
            BATCH => ToCandidate::Batch { progress: fields.f64()?, tokens: fields.ids()? },
            STOP => ToCandidate::Stop,
            SCORE => {
                ToCandidate::Score { rows: fields.u32()?, seq_len: fields.u32()?, tokens: fields.ids()? }
            }
            FINISH => ToCandidate::Finish,
            _ => return Err(ProtocolError::Tag(tag)),
        };
        fields.end(message)
    }
}

impl Message for FromCandidate {
    fn encode(&self) -> (u8, Vec<u8>) {
        let mut payload = Vec::new();
        let tag = match self {
            FromCandidate::Hello { version } => {
                payload.extend(version.to_le_bytes());
                HELLO
            }
            FromCandidate::NextBatch { rows, seq_len } => {
                payload.extend(rows.to_le_bytes());
                payload.extend(seq_len.to_le_bytes());
                NEXT_BATCH
            }
            FromCandidate::Step { loss } => {
                payload.extend(loss.to_le_bytes());
                STEP
            }
            FromCandidate::Fact { name, value } => {
                payload.extend(value.to_le_bytes());
                payload.extend(name.as_bytes());
                FACT
            }
            FromCandidate::Trained => TRAINED,
            FromCandidate::Logits(logits) => {
                payload.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
                LOGITS
            }
            FromCandidate::GaveUp { diverged, message } => {
                payload.push(u8::from(*diverged));
                payload.extend(message.as_bytes());
                GAVE_UP
            }
        };
        (tag, payload)
    }

    fn decode(tag: u8, payload: &[u8]) -> Result<Self, ProtocolError> {
        let mut fields = Fields { tag, rest: payload };
        let message = match tag {
            HELLO => FromCandidate::Hello { version: fields.u32()? },
            NEXT_BATCH => FromCandidate::NextBatch { rows: fields.u32()?, seq_len: fields.u32()? },
            STEP => FromCandidate::Step { loss: f32::from_le_bytes(fields.take()?) },
            FACT => {
                let value = fields.f64()?;
                FromCandidate::Fact { name: fields.text()?, value }
            }
            TRAINED => FromCandidate::Trained,
            LOGITS => {
                FromCandidate::Logits(fields.words()?.iter().copied().map(f32::from_le_bytes).collect())
            }
            GAVE_UP => {
                let diverged = match fields.take()? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(ProtocolError::Malformed(tag)),
                };
                FromCandidate::GaveUp { diverged, message: fields.text()? }
            }
            _ => return Err(ProtocolError::Tag(tag)),
        };
        fields.end(message)
    }
}

#[cfg(test)]
mod tests;
