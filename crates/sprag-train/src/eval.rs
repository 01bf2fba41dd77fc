//! The evaluator: holds data, clock and score while a candidate trains and then answers.
//!
//! [`evaluate`] speaks [`protocol`](crate::protocol) with one candidate and ends in one [`EvalOutcome`]. It
//! knows nothing of processes: starting, confining and killing candidates belongs to the loop.
//!
//! # What a candidate cannot do
//!
//! It gets tokens only as answers on the socket: training text while the budget lasts, then windows of
//! validation text without the token that follows each of them. The windows are the same for every
//! candidate of a data folder, whatever the seed. Among them, in an order drawn from the operating system's
//! entropy, stand probes:
//!
//! - *causality*: a window again, with another suffix from a random place on. Logits before that place must
//!   agree, one by one within [`Precision`]'s tolerance, and in the sum of their log-probabilities: a leak
//!   spread thinly over many logits does not pass by being small in each.
//! - *state*: a window early and late, and a window alone and among others. All logits must agree, which
//!   forbids training on while answering, caches across windows and attention across rows.
//! - *blindness*: a candidate could look ahead and yet pass, by remembering what it said on a window's first
//!   showing and repeating it on the second. But where the false suffix came first, the true next token was
//!   not there to be seen: if such answers are much worse than all others, the others were looked up.
//! - *foresight*: false suffixes break off again and again, each time at a token drawn at random. Who gives
//!   these more probability than others drawn alike has seen them. This needs no second showing, so memory does
//!   not help against it. Look-ahead mixed in at 2 % is found with overwhelming odds.
//!
//! Blindness and foresight are tests without assumptions (`wager`): an honest candidate, of whatever quality
//! and calibration, fails each of them at most once in 10^8 evaluations.
//!
//! Every logit must be finite, every answer as long as asked for. The clock runs from the first request for
//! a batch to `Trained`, and what start-up takes beyond [`Limits::startup_grace`] is on it, too. Answers that
//! take longer than training took for as many tokens and sending takes for their logits, beyond
//! [`Limits::answer_grace`], are on it as well: each for itself, so that quick answers pay for no slow one. Who
//! overdraws a budget in seconds by more than the allowed overshoot has no score.
//!
//! # What this does not stop
//!
//! - Overshoot. A candidate learns at its next request that time is up, so the step under way may end late.
//!   Tolerated, and recorded as `overshoot_seconds`, are two median intervals between requests, at least
//!   [`Limits::least_overshoot`] and at most [`Limits::overshoot_fraction`] of the budget. One step must
//!   therefore be shorter than that.
//! - Computing within the graces: [`Limits::startup_grace`] before the first batch, without training text, and
//!   [`Limits::answer_grace`] in the first answer, where what a usual answer does not need of its own allowance
//!   comes on top. `startup_seconds` and `answer_overtime_seconds` are recorded. A machine that becomes some
//!   four times slower between training and answering, or one so busy that a candidate trains on fewer tokens
//!   than it answers, can make an honest candidate late.
//! - Look-ahead confined to tokens that were likely anyway gains less and is found less surely (`foresight`
//!   says how surely).
//! - Leaks below the tolerance: in single precision at most about 0.0005 nats a token, a tenth of what a
//!   change of seed does; [`Precision`] gives the sums.
//! - Learning from windows already answered by a candidate that also remembers all its answers (about a
//!   gigabyte) and repeats them when a prefix comes back. It gains what adapting to a few hundred windows
//!   gives; the time it may take is bounded ([`Limits::evaluation`]), its memory by the loop.
//! - Tokens as a budget bound tokens, not compute: many passes over the same batch are allowed.
//! - Steps as a budget bound batches served, not optimiser steps: how often a candidate changes its weights
//!   nobody sees, and what it says of it is not believed. So many updates on one batch spend one step, and one update
//!   from the gradients of several batches spends several. Nor do they bound text or compute, but through
//!   [`Limits::batch_tokens`]: where that is not set, larger batches buy more of both.
//! - A lucky start. The device's generator is seeded with the run's seed, and a change of a seed alone is
//!   rejected before it runs, but code may seed anew or carry a generator of its own, and so make every run begin
//!   alike. It shrinks the noise of its own scores; repeats and audits measure what is left.
//! - Words about itself: `reported_*` facts and the loss curve are the candidate's own, never the score.

mod channel;
mod consistency;
mod corpus;
mod curve;
mod foresight;
mod likelihood;
mod outcome;
mod overtime;
mod plan;
mod questions;
mod splice;
mod tally;
#[cfg(test)]
mod tests;
mod training;
mod wager;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::data::Split;
use crate::protocol::{Budget, Start, ToCandidate};
use channel::{Channel, Ended};
use corpus::Windows;
use outcome::Reporter;
use overtime::Allowance;
use plan::{PrivateRandom, Probes};
use questions::Asked;
use training::Training;

pub use consistency::Precision;
pub use corpus::{Corpus, PreparedCorpus};
pub use outcome::{EvalError, EvalEvent, EvalOutcome, Stage};

/// Validation tokens scored by default: 144 windows of 256 tokens.
///
/// On the sources of cargo's packages (4096 ids, 3 bytes a token, 2.3 bits per byte) that leaves a standard
/// error of about 0.06 on a score, nearly all of it the choice of text, which is the same for every candidate.
/// On the difference of two bigram models 0.06 apart it leaves between 0.006 (256 windows) and 0.009 (128
/// windows), below the noise of one run.
///
/// A 20-second budget allows three seconds, 15 %, for these and the probes. In a whole quickstart on 2 cores
/// (AMD EPYC, flex) they took 2.24 s with a standard deviation of 0.26 s, at most 2.88 s: 11 % of the budget in
/// the mean of 28 runs. `sprag run` and the report show this share for every run.
pub const DEFAULT_VAL_TOKENS: u64 = 36_864;

/// Longest window asked for by default, in tokens.
pub const DEFAULT_MAX_SEQ_LEN: u32 = 256;

/// Windows of a smoke test: one for each kind of probe.
const SMOKE_WINDOWS: u64 = 3;

/// Batches of a smoke test.
const SMOKE_STEPS: u64 = 3;

/// How long a smoke test may train on after it was told to stop: there is nothing to finish but the step under way.
const SMOKE_FINISH: Duration = Duration::from_secs(10);

/// Most tokens in one batch by default.
pub const DEFAULT_BATCH_TOKENS: u64 = 1 << 22;

/// What to evaluate on, and by which rules.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder made by `sprag data prepare`.
    pub data: PathBuf,
    /// Seed of the run: decides the order of training text and all randomness of the candidate.
    pub seed: u64,
    /// What training may spend.
    pub budget: Budget,
    /// A few batches, a few windows with every kind of probe, and no score.
    pub smoke: bool,
    /// Validation tokens to score; `None` is [`DEFAULT_VAL_TOKENS`], or all there are.
    pub val_tokens: Option<u64>,
    /// Longest window asked for, in tokens.
    pub max_seq_len: u32,
    /// Text to score on.
    pub split: Split,
    /// Arithmetic of the candidate's device, which decides what counts as the same answer.
    pub precision: Precision,
    /// How long to wait.
    pub limits: Limits,
}

impl Options {
    /// The usual rules.
    pub fn new(data: PathBuf, seed: u64, budget: Budget) -> Options {
        Options {
            data,
            seed,
            budget,
            smoke: false,
            val_tokens: None,
            max_seq_len: DEFAULT_MAX_SEQ_LEN,
            split: Split::Val,
            precision: Precision::Single,
            limits: Limits::default(),
        }
    }
}

/// How long the evaluator waits for a candidate; the loop has limits of its own around these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// From the start to the first request for a batch. Generous: kernels may be compiled here.
    pub startup: Duration,
    /// So much of that is free. What is beyond it spends a budget in seconds.
    pub startup_grace: Duration,
    /// Between two messages.
    pub silence: Duration,
    /// Part of a budget in seconds by which `Trained` may come late at most; within it, two steps.
    pub overshoot_fraction: f64,
    /// At least this late it may come.
    pub least_overshoot: Duration,
    /// Under a budget in seconds, by how much all answers together may take longer than such answers should.
    /// What is beyond counts as overshoot. Covers what a first answer sets up.
    pub answer_grace: Duration,
    /// Most tokens in one batch; who asks for more has no score. A budget of steps bounds training text through it
    /// alone.
    pub batch_tokens: u64,
    /// From `Stop` to `Trained` when the budget is not in seconds.
    pub finish: Duration,
    /// For answering, besides [`Limits::evaluation_factor`].
    pub evaluation: Duration,
    /// Answering may take this many times longer a token than training did. A forward pass is a third of a
    /// training step, so an honest candidate needs a third.
    pub evaluation_factor: f64,
    /// Answering never takes longer.
    pub longest_evaluation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            startup: Duration::from_secs(60),
            startup_grace: Duration::from_secs(3),
            silence: Duration::from_secs(60),
            overshoot_fraction: 0.1,
            least_overshoot: Duration::from_millis(500),
            answer_grace: Duration::from_secs(1),
            batch_tokens: DEFAULT_BATCH_TOKENS,
            finish: Duration::from_secs(60),
            evaluation: Duration::from_secs(30),
            evaluation_factor: 4.0,
            longest_evaluation: Duration::from_secs(600),
        }
    }
}

/// Trains and judges the candidate at the other end of `channel`, on prepared data.
///
/// `Err` is never the candidate's fault.
pub fn evaluate(
    channel: UnixStream,
    options: &Options,
    on_event: &mut dyn FnMut(EvalEvent),
) -> Result<EvalOutcome, EvalError> {
    let mut corpus = PreparedCorpus::open(&options.data, options.split, options.seed)?;
    evaluate_on(channel, &mut corpus, options, on_event)
}

/// As [`evaluate`], on any corpus; `data` and `split` of the options are not looked at.
pub fn evaluate_on(
    channel: UnixStream,
    corpus: &mut dyn Corpus,
    options: &Options,
    on_event: &mut dyn FnMut(EvalEvent),
) -> Result<EvalOutcome, EvalError> {
    let windows = Windows::draw(corpus, options.max_seq_len, windows_wanted(options))?;
    let channel = Channel::new(channel)?;
    Evaluation { options, windows, channel, reporter: Reporter::new(on_event) }.run(corpus)
}

fn windows_wanted(options: &Options) -> u64 {
    let tokens = options.val_tokens.unwrap_or(DEFAULT_VAL_TOKENS);
    if options.smoke { SMOKE_WINDOWS } else { tokens.div_ceil(u64::from(options.max_seq_len.max(1))) }
}

struct Evaluation<'a> {
    options: &'a Options,
    windows: Windows,
    channel: Channel,
    reporter: Reporter<'a>,
}

impl Evaluation<'_> {
    fn run(mut self, corpus: &mut dyn Corpus) -> Result<EvalOutcome, EvalError> {
        let Options { seed, mut budget, smoke, max_seq_len, mut limits, .. } = *self.options;
        if smoke {
            budget = Budget::Steps(SMOKE_STEPS);
            limits.finish = limits.finish.min(SMOKE_FINISH);
        }
        let start = Start { seed, vocab_size: corpus.vocab_size(), max_seq_len, bos: corpus.bos(), budget };
        let (mut training, trained) =
            training::train(&mut self.channel, corpus, start, &limits, &mut self.reporter);
        let begun = Instant::now();
        let evaluated = trained.is_ok();
        let asked = trained.and_then(|()| self.ask(budget, &mut training));
        let mut facts = training.facts();
        if evaluated {
            facts.insert("evaluation_seconds".to_owned(), begun.elapsed().as_secs_f64());
        }
        let curve = training.curve.points();
        match asked {
            Ok(_) if smoke => Ok(EvalOutcome::Passed),
            Ok(asked) => {
                let value = asked.bits_per_byte().ok_or(EvalError::NothingToScore)?;
                facts.extend(asked.facts());
                Ok(EvalOutcome::Scored { value, facts, curve, curve_steps: training.curve.steps() })
            }
            Err(Ended { reason, detail }) => Ok(EvalOutcome::Invalid { reason, detail, facts, curve }),
        }
    }

    /// Has all windows answered by a candidate that has trained.
    fn ask(&mut self, budget: Budget, training: &mut Training) -> Result<Asked, Ended> {
        let Options { max_seq_len, limits, precision, .. } = *self.options;
        let mut random = PrivateRandom::from_system();
        let probes = Probes::among(self.windows.len());
        let rows = questions::rows_per_request(&self.windows);
        let requests = plan::requests(&self.windows, probes, rows, &mut random);
        let questions = requests.iter().map(Vec::len).sum::<usize>();
        let rules = questions::Rules {
            precision,
            silence: limits.silence,
            patience: patience(&limits, training, questions, max_seq_len),
            allowance: self.allowance(budget, training, questions),
        };
        let asked = questions::ask(
            &mut self.channel,
            &self.windows,
            &requests,
            rules,
            &mut training.reported,
            &mut self.reporter,
        )?;
        // A candidate that is gone by now has answered everything: nothing is lost.
        let _ = self.channel.send(&ToCandidate::Finish, Instant::now() + Duration::from_secs(1));
        Ok(asked)
    }

    /// The account of slow answers, where time is what training is bounded by.
    fn allowance(&self, budget: Budget, training: &Training, questions: usize) -> Option<Allowance> {
        let Budget::Seconds(budget) = budget else { return None };
        Some(Allowance::new(
            &self.options.limits,
            budget,
            (training.seconds, training.tokens),
            questions * self.windows.seq_len(),
            self.windows.vocab_size(),
            training.overshoot_left,
        ))
    }
}

/// How long answering may take: in proportion to how long training took, so that a slow answer buys no time.
fn patience(limits: &Limits, training: &Training, questions: usize, seq_len: u32) -> Duration {
    let seconds_per_token = training.seconds / training.tokens.max(1) as f64;
    let seconds = questions as f64 * f64::from(seq_len) * seconds_per_token * limits.evaluation_factor;
    let extra = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    limits.evaluation.saturating_add(extra).min(limits.longest_evaluation)
}

/// Facts about a measurement, name to value.
type Facts = BTreeMap<String, f64>;
