//! Speculative decoding: a small model proposes tokens, the large one checks them all at once (Leviathan, Kalman, Matias
//! 2023, "Fast Inference from Transformers via Speculative Decoding").

use super::device::Device;
use super::efficiency::efficiency_of;
use super::estimate::{Job, load_on};

/// How it is drafted.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The small model; its context is that of the large one.
    pub job: Job<'a>,
    /// Tokens that it proposes in a round.
    pub tokens: u32,
    /// Part of them that the large model accepts, each on its own.
    pub acceptance: f64,
}

/// What it gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speculation {
    /// Tokens that a round is expected to give: `(1 - a^(k+1)) / (1 - a)`.
    pub tokens_a_round: f64,
    /// Seconds of a round's drafts.
    pub draft_seconds: f64,
    /// Seconds of a round's check: all `k + 1` tokens read the weights once, of experts more than one token does.
    pub check_seconds: f64,
    /// Tokens a second.
    pub expected: f64,
    /// The same where memory reaches its bandwidth and nothing else takes time.
    pub ceiling: f64,
    /// Times as fast as without.
    pub gain: f64,
}

/// Tokens that a round gives.
pub fn tokens_a_round(acceptance: f64, tokens: u32) -> f64 {
    let tokens = f64::from(tokens);
    if acceptance >= 1.0 { tokens + 1.0 } else { (1.0 - acceptance.powf(tokens + 1.0)) / (1.0 - acceptance) }
}

/// Plans it for one sequence.
pub fn speculate(job: &Job<'_>, draft: &Draft<'_>, device: &Device) -> Speculation {
    let efficiency = efficiency_of(device.class);
    // Expected and least seconds for some tokens at once.
    let seconds = |job: &Job<'_>, tokens: f64| {
        let load = load_on(job, device, tokens);
        let flop = job.model.flop_a_token(job.context) * tokens;
        let computing = device.flop_per_second.map_or(0.0, |rate| flop / rate);
        let expected = (1.0 / efficiency.decode(load)).max(computing / efficiency.prefill_share);
        (expected, (load.bytes / device.bytes_per_second).max(computing))
    };
    let k = f64::from(draft.tokens);
    let (draft_one, draft_least) = seconds(&draft.job, 1.0);
    let (check, check_least) = seconds(job, k + 1.0);
    let (plain, _) = seconds(job, 1.0);
    let tokens = tokens_a_round(draft.acceptance, draft.tokens);
    let expected = tokens / (k * draft_one + check);
    Speculation {
        tokens_a_round: tokens,
        draft_seconds: k * draft_one,
        check_seconds: check,
        expected,
        ceiling: tokens / (k * draft_least + check_least),
        gain: expected * plain,
    }
}
