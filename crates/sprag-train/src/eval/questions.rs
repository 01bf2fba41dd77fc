//! Asks the windows of a plan, one request ahead of the answers, and scores them as they come.

use std::time::{Duration, Instant};

use super::Facts;
use super::channel::{Channel, Ended, quoted};
use super::consistency::{Consistency, Precision};
use super::corpus::Windows;
use super::likelihood::{Likelihood, likelihood};
use super::outcome::{EvalEvent, Reporter, Stage};
use super::overtime::Allowance;
use super::plan::{Purpose, Question};
use super::tally::Tally;
use super::training::Reported;
use crate::protocol::{Answer, FromCandidate, ToCandidate};

/// Most bytes of logits in one answer: large enough to keep a device busy, small enough for any memory.
const ANSWER_BYTES: usize = 32 << 20;

/// Most windows in one request.
const MOST_ROWS: usize = 32;

/// What holds while answers are awaited.
pub(super) struct Rules {
    pub(super) precision: Precision,
    /// For one answer.
    pub(super) silence: Duration,
    /// For all of them.
    pub(super) patience: Duration,
    /// Beyond which answers count as training; `None` where training is not bounded by time.
    pub(super) allowance: Option<Allowance>,
}

/// What the answers were worth.
pub(super) struct Asked {
    tally: Tally,
    answer_overtime_seconds: Option<f64>,
}

impl Asked {
    pub(super) fn bits_per_byte(&self) -> Option<f64> {
        self.tally.bits_per_byte()
    }

    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts::from([
            ("val_tokens".to_owned(), self.tally.tokens() as f64),
            ("val_bytes".to_owned(), self.tally.bytes() as f64),
        ]);
        facts.extend(self.tally.standard_error().map(|error| ("val_standard_error".to_owned(), error)));
        let overtime = self.answer_overtime_seconds;
        facts.extend(overtime.map(|seconds| ("answer_overtime_seconds".to_owned(), seconds)));
        facts
    }
}

/// Windows in a usual request.
pub(super) fn rows_per_request(windows: &Windows) -> usize {
    let window_bytes = windows.seq_len() * windows.vocab_size() * size_of::<f32>();
    (ANSWER_BYTES / window_bytes).clamp(1, MOST_ROWS)
}

/// Asks everything and judges the consistency of the answers.
pub(super) fn ask(
    channel: &mut Channel,
    windows: &Windows,
    requests: &[Vec<Question>],
    rules: Rules,
    reported: &mut Reported,
    reporter: &mut Reporter,
) -> Result<Asked, Ended> {
    let begun = Instant::now();
    let consistency = Consistency::new(rules.precision, windows.vocab_size());
    let mut asking = Asking {
        channel,
        windows,
        deadline: begun + rules.patience,
        rules,
        consistency,
        tally: Tally::default(),
        logits: Vec::new(),
    };
    if let Some(first) = requests.first() {
        asking.send(first)?;
    }
    let mut answered = 0;
    for (at, request) in requests.iter().enumerate() {
        // The candidate computes the next answer while this one is scored.
        if let Some(next) = requests.get(at + 1) {
            asking.send(next)?;
        }
        asking.receive(request, reported)?;
        asking.score_all(request)?;
        answered += request.len() * windows.seq_len();
        reporter.progress(Stage::Evaluate, || {
            let elapsed_seconds = begun.elapsed().as_secs_f64();
            EvalEvent::Progress {
                stage: Stage::Evaluate,
                fraction: (at + 1) as f64 / requests.len() as f64,
                elapsed_seconds,
                tokens: answered as u64,
                tokens_per_second: answered as f64 / elapsed_seconds.max(1e-9),
                loss: reported.loss,
                mean_loss: None,
                step: reported.steps,
            }
        });
    }
    asking.consistency.verdict(asking.tally.nats_per_token())?;
    let answer_overtime_seconds = asking.rules.allowance.map(|allowance| allowance.overtime());
    Ok(Asked { tally: asking.tally, answer_overtime_seconds })
}

struct Asking<'a> {
    channel: &'a mut Channel,
    windows: &'a Windows,
    rules: Rules,
    deadline: Instant,
    consistency: Consistency,
    tally: Tally,
    /// Answers are read here, so that memory is touched once.
    logits: Vec<f32>,
}

impl Asking<'_> {
    fn wait_until(&self) -> Instant {
        self.deadline.min(Instant::now() + self.rules.silence)
    }

    /// What it means that nothing came until now.
    fn late(&self) -> Ended {
        if Instant::now() >= self.deadline {
            let seconds = self.rules.patience.as_secs_f64();
            Ended::invalid("timeout", format!("still answering {seconds:.1} s after training ended"))
        } else {
            let seconds = self.rules.silence.as_secs_f64();
            Ended::invalid("silence", format!("no answer to a window for {seconds:.1} s"))
        }
    }

    fn send(&mut self, request: &[Question]) -> Result<(), Ended> {
        let message = ToCandidate::Score {
            rows: request.len() as u32,
            seq_len: self.windows.seq_len() as u32,
            tokens: request.iter().flat_map(|question| &question.tokens).copied().collect(),
        };
        let until = self.wait_until();
        self.channel.send(&message, until).map_err(|broken| broken.during("evaluation", || self.late()))
    }

    /// Waits for the logits of a request. The wait alone is charged: scoring is the evaluator's time.
    fn receive(&mut self, request: &[Question], reported: &mut Reported) -> Result<(), Ended> {
        let begun = Instant::now();
        let mut logits = std::mem::take(&mut self.logits);
        logits.resize(request.len() * self.row_len(), 0.0);
        let until = self.wait_until();
        loop {
            let answer = self.channel.receive_answer(&mut logits, until);
            match answer.map_err(|broken| broken.during("evaluation", || self.late()))? {
                Answer::Logits => break,
                Answer::WrongLength(bytes) => return Err(self.wrong_length(request.len(), bytes)),
                Answer::Other(FromCandidate::Fact { name, value }) => reported.take(name, value)?,
                Answer::Other(FromCandidate::GaveUp { message, .. }) => {
                    let detail = format!("gave up during evaluation: {}", quoted(&message));
                    return Err(Ended::invalid("crash", detail));
                }
                Answer::Other(_) => {
                    return Err(Ended::invalid("protocol", "something other than logits during evaluation"));
                }
            }
        }
        self.logits = logits;
        let Some(allowance) = &mut self.rules.allowance else { return Ok(()) };
        allowance.take(request.len() * self.windows.seq_len(), begun.elapsed());
        allowance.exceeded().map_or(Ok(()), |detail| Err(Ended::invalid("overtime", detail)))
    }

    fn score_all(&mut self, request: &[Question]) -> Result<(), Ended> {
        let logits = std::mem::take(&mut self.logits);
        for (question, logits) in request.iter().zip(logits.chunks_exact(self.row_len())) {
            self.score(question, logits)?;
        }
        self.logits = logits;
        Ok(())
    }

    /// Logits of one window.
    fn row_len(&self) -> usize {
        self.windows.seq_len() * self.windows.vocab_size()
    }

    fn wrong_length(&self, rows: usize, bytes: u32) -> Ended {
        let (seq_len, vocab_size) = (self.windows.seq_len(), self.windows.vocab_size());
        let expected = rows * seq_len * vocab_size;
        let got = bytes as usize / size_of::<f32>();
        let detail =
            format!("{got} logits where [{rows}, {seq_len}, {vocab_size}] = {expected} were asked for");
        Ended::invalid("shape", detail)
    }

    fn score(&mut self, question: &Question, logits: &[f32]) -> Result<(), Ended> {
        let targets = self.windows.targets(question.window);
        let rows = logits.chunks_exact(self.windows.vocab_size()).zip(targets);
        let likelihoods: Option<Vec<Likelihood>> =
            rows.map(|(row, &target)| likelihood(row, target as usize)).collect();
        let Some(likelihoods) = likelihoods else {
            let bad = logits.iter().position(|logit| !logit.is_finite()).unwrap_or_default();
            let (at, id) = (bad / self.windows.vocab_size(), bad % self.windows.vocab_size());
            let detail = format!("logit {id} at position {at} is {}", logits[bad]);
            return Err(Ended::invalid("non_finite", detail));
        };
        let windows = self.windows;
        if let Purpose::Score { .. } = question.purpose {
            let scored = likelihoods.iter().zip(targets);
            let scored = scored.filter_map(|(said, &target)| Some((said.nats, windows.bytes(target)?)));
            self.tally.add(scored);
        }
        self.consistency.take(question, logits, likelihoods, |at| windows.bytes(targets[at]).is_some());
        Ok(())
    }
}
