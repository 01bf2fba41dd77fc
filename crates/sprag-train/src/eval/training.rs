//! The first half of an evaluation: greets a candidate, serves it batches, and holds the clock.

use std::time::{Duration, Instant};

use super::channel::{Channel, Ended, quoted};
use super::corpus::Corpus;
use super::curve::Curve;
use super::outcome::{EvalEvent, Reporter, Stage};
use super::overtime::Pace;
use super::{Facts, Limits};
use crate::protocol::{self, Budget, FromCandidate, Start, ToCandidate};

/// Most tokens in one row.
const ROW_TOKENS: u32 = 1 << 16;

/// Most messages between two batches: nobody needs them, and they would pass for signs of life.
const MESSAGES_PER_BATCH: u32 = 10_000;

/// Most facts that a candidate may report, and the longest name of one.
const FACTS: usize = 32;
const FACT_NAME_BYTES: usize = 48;

/// What training left behind.
pub(super) struct Training {
    startup_seconds: f64,
    /// On the budget's clock, to `Trained`.
    pub(super) seconds: f64,
    overshoot_seconds: Option<f64>,
    /// What is left of the overshoot that a budget in seconds allows.
    pub(super) overshoot_left: Duration,
    batches: u64,
    pub(super) tokens: u64,
    pub(super) reported: Reported,
    pub(super) curve: Curve,
}

impl Training {
    /// As numbers by name.
    pub(super) fn facts(&self) -> Facts {
        let rate = if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 };
        let mut facts: Facts = [
            ("startup_seconds", self.startup_seconds),
            ("train_seconds", self.seconds),
            ("train_tokens", self.tokens as f64),
            ("tokens_per_second", rate),
            ("batches", self.batches as f64),
            ("steps", self.reported.steps as f64),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        facts.extend(self.overshoot_seconds.map(|seconds| ("overshoot_seconds".to_owned(), seconds)));
        facts.extend(self.reported.facts.iter().map(|(name, value)| (format!("reported_{name}"), *value)));
        facts
    }
}

/// What a candidate says about itself.
#[derive(Default)]
pub(super) struct Reported {
    facts: Facts,
    /// The training loss it last told.
    pub(super) loss: Option<f64>,
    /// Optimiser steps it told of.
    pub(super) steps: u64,
}

impl Reported {
    /// Takes a fact, within bounds; a later value replaces an earlier one.
    pub(super) fn take(&mut self, name: String, value: f64) -> Result<(), Ended> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > FACT_NAME_BYTES || !name.bytes().all(letters) {
            let detail = format!("`{}` is no name of a fact (a-z, 0-9, _; at most 48)", quoted(&name));
            return Err(Ended::invalid("protocol", detail));
        }
        if !value.is_finite() {
            return Err(Ended::invalid("protocol", format!("the fact {name} is {value}")));
        }
        self.facts.insert(name, value);
        if self.facts.len() > FACTS {
            return Err(Ended::invalid("protocol", format!("more than {FACTS} facts")));
        }
        Ok(())
    }
}

/// Runs a candidate from its first message to `Trained`. What training left behind is there however it ended.
pub(super) fn train(
    channel: &mut Channel,
    corpus: &mut dyn Corpus,
    start: Start,
    limits: &Limits,
    reporter: &mut Reporter,
) -> (Training, Result<(), Ended>) {
    let now = Instant::now();
    let mut trainer = Trainer {
        channel,
        corpus,
        budget: start.budget,
        limits,
        begun: now,
        heard: now,
        started: None,
        clock: None,
        asked: None,
        pace: Pace::default(),
        stopped: None,
        messages: 0,
        batches: 0,
        tokens: 0,
        reported: Reported::default(),
        recent: (0.0, 0),
        curve: Curve::new(),
    };
    let ended = trainer.converse(start, reporter);
    (trainer.finish(), ended)
}

struct Trainer<'a> {
    channel: &'a mut Channel,
    corpus: &'a mut dyn Corpus,
    budget: Budget,
    limits: &'a Limits,
    begun: Instant,
    /// When the last message came.
    heard: Instant,
    /// When the first request for a batch came.
    started: Option<Instant>,
    /// When the budget's clock started: with the first request for a batch, or earlier where start-up was long.
    clock: Option<Instant>,
    /// When the last request for a batch came.
    asked: Option<Instant>,
    pace: Pace,
    /// When the candidate was first told that the budget is spent.
    stopped: Option<Instant>,
    /// Since the last batch.
    messages: u32,
    batches: u64,
    tokens: u64,
    reported: Reported,
    /// Sum and number of the losses told since the last event.
    recent: (f64, u32),
    curve: Curve,
}

impl Trainer<'_> {
    fn converse(&mut self, start: Start, reporter: &mut Reporter) -> Result<(), Ended> {
        self.greet(start)?;
        self.report(reporter);
        loop {
            match self.hear()? {
                FromCandidate::NextBatch { rows, seq_len } => self.serve(rows, seq_len)?,
                FromCandidate::Step { loss } => self.step(loss)?,
                FromCandidate::Fact { name, value } => self.reported.take(name, value)?,
                FromCandidate::Trained => return Ok(()),
                FromCandidate::GaveUp { diverged, message } => {
                    let detail = format!("gave up during training: {}", quoted(&message));
                    return Err(Ended::invalid(if diverged { "diverged" } else { "crash" }, detail));
                }
                FromCandidate::Hello { .. } => return Err(Ended::invalid("protocol", "a second greeting")),
                FromCandidate::Logits(_) => {
                    return Err(Ended::invalid("protocol", "logits before anything was asked"));
                }
            }
            self.report(reporter);
        }
    }

    fn greet(&mut self, start: Start) -> Result<(), Ended> {
        let until = self.wait_until();
        let sent = self.channel.send(&ToCandidate::Start(start), until);
        sent.map_err(|broken| broken.during("start-up", || self.late()))?;
        match self.hear()? {
            FromCandidate::Hello { version: protocol::VERSION } => Ok(()),
            FromCandidate::Hello { version } => {
                let ours = protocol::VERSION;
                let detail = format!(
                    "speaks version {version} of the protocol, the evaluator {ours}: build it against the same release"
                );
                Err(Ended::invalid("protocol", detail))
            }
            _ => Err(Ended::invalid("protocol", "did not greet first")),
        }
    }

    fn stage(&self) -> &'static str {
        if self.clock.is_some() { "training" } else { "start-up" }
    }

    fn hear(&mut self) -> Result<FromCandidate, Ended> {
        let until = self.wait_until();
        let heard = self.channel.receive(until);
        let message = heard.map_err(|broken| broken.during(self.stage(), || self.late()))?;
        self.heard = Instant::now();
        self.messages += 1;
        if self.messages > MESSAGES_PER_BATCH {
            let detail = format!("more than {MESSAGES_PER_BATCH} messages without asking for a batch");
            return Err(Ended::invalid("protocol", detail));
        }
        Ok(message)
    }

    /// When training must have ended, where that is known.
    fn end(&self) -> Option<Instant> {
        match self.budget {
            Budget::Seconds(seconds) => {
                let overshoot = self.overshoot();
                Some(self.clock? + Duration::try_from_secs_f64(seconds).ok()? + overshoot)
            }
            Budget::Tokens(_) | Budget::Steps(_) => Some(self.stopped? + self.limits.finish),
        }
    }

    /// By how much a budget in seconds may be overdrawn.
    fn overshoot(&self) -> Duration {
        match self.budget {
            Budget::Seconds(seconds) => self.pace.overshoot(seconds, self.limits),
            Budget::Tokens(_) | Budget::Steps(_) => Duration::ZERO,
        }
    }

    fn wait_until(&self) -> Instant {
        if self.clock.is_none() {
            return self.begun + self.limits.startup;
        }
        let silence = self.heard + self.limits.silence;
        self.end().map_or(silence, |end| end.min(silence))
    }

    /// What it means that the last wait was in vain. A candidate that said nothing for half of all its time
    /// hangs; one that spoke since, or was told to stop, trains on.
    fn late(&self) -> Ended {
        let Some(clock) = self.clock else {
            let seconds = self.limits.startup.as_secs_f64();
            return Ended::invalid(
                "timeout",
                format!("asked for no batch within {seconds:.1} s of its start"),
            );
        };
        let silent = self.heard.elapsed();
        let hangs = self.stopped.is_none() && silent * 2 > clock.elapsed();
        if hangs || silent >= self.limits.silence {
            let seconds = silent.as_secs_f64();
            return Ended::invalid("silence", format!("said nothing for {seconds:.1} s of training"));
        }
        let (budget, spent) = (self.budget, clock.elapsed().as_secs_f64());
        let detail = match budget {
            Budget::Seconds(_) => {
                let overshoot = self.overshoot().as_secs_f64();
                let startup = self.started.map_or(0.0, |started| (started - clock).as_secs_f64());
                format!(
                    "still training after {spent:.1} s of {budget}, {startup:.1} s of it in start-up (allowed overshoot: {overshoot:.1} s)"
                )
            }
            _ => {
                let since = self.stopped.map_or(0.0, |stopped| stopped.elapsed().as_secs_f64());
                format!("still training {since:.1} s after {budget}")
            }
        };
        Ended::invalid("overtime", detail)
    }

    fn serve(&mut self, rows: u32, seq_len: u32) -> Result<(), Ended> {
        let asked = u64::from(rows) * u64::from(seq_len);
        let most = self.limits.batch_tokens;
        if asked == 0 || asked > most || seq_len > ROW_TOKENS {
            let detail = format!(
                "asked for a batch of {rows} x {seq_len} tokens (1 to {most}, at most {ROW_TOKENS} a row)"
            );
            return Err(Ended::invalid("protocol", detail));
        }
        self.messages = 0;
        self.ask(Instant::now());
        let message = if self.spent(asked) {
            self.stopped.get_or_insert_with(Instant::now);
            ToCandidate::Stop
        } else {
            let tokens = self.corpus.next_batch(rows, seq_len);
            let progress = self.progress();
            self.batches += 1;
            self.tokens += asked;
            ToCandidate::Batch { progress, tokens }
        };
        let until = self.wait_until();
        let sent = self.channel.send(&message, until);
        sent.map_err(|broken| broken.during(self.stage(), || self.late()))
    }

    /// Notes a request for a batch. The first one starts the clock, and where start-up took longer than it may,
    /// the clock counts that as well: who computes before the first batch spends the budget.
    fn ask(&mut self, now: Instant) {
        self.started.get_or_insert(now);
        if let Some(before) = self.asked.replace(now) {
            self.pace.add(now - before);
        }
        let clock = match self.budget {
            Budget::Seconds(_) => {
                let free_until = self.begun.checked_add(self.limits.startup_grace);
                free_until.map_or(now, |until| now.min(until))
            }
            Budget::Tokens(_) | Budget::Steps(_) => now,
        };
        self.clock.get_or_insert(clock);
    }

    /// Whether a batch of this many tokens is refused. A batch that would exceed a budget of tokens is:
    /// nobody trains on more than the budget, whatever the size of its batches.
    fn spent(&self, asked: u64) -> bool {
        match self.budget {
            Budget::Seconds(seconds) => self.elapsed_seconds() >= seconds,
            Budget::Tokens(tokens) => self.tokens.saturating_add(asked) > tokens,
            Budget::Steps(steps) => self.batches >= steps,
        }
    }

    fn elapsed_seconds(&self) -> f64 {
        self.clock.map_or(0.0, |at| at.elapsed().as_secs_f64())
    }

    /// Part of the budget that is spent.
    fn progress(&self) -> f64 {
        let spent = match self.budget {
            Budget::Seconds(seconds) => self.elapsed_seconds() / seconds,
            Budget::Tokens(tokens) => self.tokens as f64 / tokens as f64,
            Budget::Steps(steps) => self.batches as f64 / steps as f64,
        };
        spent.clamp(0.0, 1.0)
    }

    fn step(&mut self, loss: f32) -> Result<(), Ended> {
        self.reported.steps += 1;
        if !loss.is_finite() {
            let step = self.reported.steps;
            return Err(Ended::invalid("diverged", format!("the training loss is {loss} at step {step}")));
        }
        self.reported.loss = Some(f64::from(loss));
        let x = match self.budget {
            Budget::Seconds(_) => self.elapsed_seconds(),
            Budget::Tokens(_) => self.tokens as f64,
            Budget::Steps(_) => self.batches as f64,
        };
        self.curve.push([x, f64::from(loss), self.reported.steps as f64]);
        self.recent.0 += f64::from(loss);
        self.recent.1 += 1;
        Ok(())
    }

    fn report(&mut self, reporter: &mut Reporter) {
        let stage = if self.clock.is_some() { Stage::Train } else { Stage::Start };
        reporter.progress(stage, || {
            let training = self.elapsed_seconds();
            let (sum, told) = std::mem::take(&mut self.recent);
            EvalEvent::Progress {
                stage,
                fraction: self.progress(),
                elapsed_seconds: if stage == Stage::Train {
                    training
                } else {
                    self.begun.elapsed().as_secs_f64()
                },
                tokens: self.tokens,
                tokens_per_second: if training > 0.0 { self.tokens as f64 / training } else { 0.0 },
                loss: self.reported.loss,
                mean_loss: (told > 0).then(|| sum / f64::from(told)),
                step: self.reported.steps,
            }
        });
    }

    fn finish(self) -> Training {
        let seconds = self.elapsed_seconds();
        let overshoot_seconds = match self.budget {
            Budget::Seconds(budget) => Some((seconds - budget).max(0.0)),
            Budget::Tokens(_) | Budget::Steps(_) => None,
        };
        let used = Duration::try_from_secs_f64(overshoot_seconds.unwrap_or(0.0)).unwrap_or(Duration::MAX);
        Training {
            startup_seconds: (self.started.unwrap_or_else(Instant::now) - self.begun).as_secs_f64(),
            seconds,
            overshoot_seconds,
            overshoot_left: self.overshoot().saturating_sub(used),
            batches: self.batches,
            tokens: self.tokens,
            reported: self.reported,
            curve: self.curve,
        }
    }
}
