use std::thread;

use super::*;
use crate::optim::{AdamW, Param};
use crate::{ops, protocol};

const VOCAB: u32 = 16;

/// Predicts the next token from the current one alone.
struct Bigram {
    table: Param,
}

impl Model for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        ops::embedding(self.table.get(), tokens)
    }
}

fn train_bigram(run: &mut Run) -> Result<Bigram, Stop> {
    let vocab = run.vocab_size();
    let mut model = Bigram { table: Param::normal([vocab, vocab], 0.1, run.device()) };
    run.report("parameters", model.table.count() as f64)?;
    let rule = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0 };
    while let Some(batch) = run.next_batch(4, 8)? {
        let loss = ops::loss(model.logits(batch.inputs), batch.targets, 15.0);
        let mut gradients = loss.backward();
        model.table.accumulate(&mut gradients, 1.0);
        rule.step(&mut model.table);
        run.step(loss.into_scalar::<f32>())?;
    }
    model.table.freeze();
    Ok(model)
}

/// Every token is followed by the one three further on.
fn pattern(first: u32, count: u32) -> Vec<u32> {
    (0..count).map(|i| (first + 3 * i) % VOCAB).collect()
}

/// What an evaluator saw.
#[derive(Default)]
struct Seen {
    losses: Vec<f32>,
    facts: Vec<(String, f64)>,
    gave_up: Option<(bool, String)>,
    answers: Vec<Vec<f32>>,
}

/// Plays the evaluator: `batches` batches of the pattern, then each window.
fn evaluate(mut socket: UnixStream, batches: u32, windows: &[Vec<u32>]) -> Seen {
    let mut seen = Seen::default();
    let hello: FromCandidate = protocol::receive(&mut socket, 64).unwrap();
    assert_eq!(hello, FromCandidate::Hello { version: protocol::VERSION });
    let start =
        Start { seed: 7, vocab_size: VOCAB, max_seq_len: 8, bos: 0, budget: Budget::Steps(batches.into()) };
    protocol::send(&mut socket, &ToCandidate::Start(start)).unwrap();
    let mut served = 0;
    loop {
        match protocol::receive(&mut socket, 1 << 20).unwrap() {
            FromCandidate::NextBatch { rows, seq_len } => {
                let reply = if served < batches {
                    let tokens = (0..rows).flat_map(|row| pattern(row + served, seq_len + 1)).collect();
                    ToCandidate::Batch { progress: f64::from(served) / f64::from(batches), tokens }
                } else {
                    ToCandidate::Stop
                };
                served += 1;
                protocol::send(&mut socket, &reply).unwrap();
            }
            FromCandidate::Step { loss } => seen.losses.push(loss),
            FromCandidate::Fact { name, value } => seen.facts.push((name, value)),
            FromCandidate::GaveUp { diverged, message } => {
                seen.gave_up = Some((diverged, message));
                return seen;
            }
            FromCandidate::Trained => break,
            other => panic!("{other:?} while training"),
        }
    }
    for window in windows {
        let score = ToCandidate::Score { rows: 1, seq_len: window.len() as u32, tokens: window.clone() };
        protocol::send(&mut socket, &score).unwrap();
        match protocol::receive(&mut socket, 1 << 20).unwrap() {
            FromCandidate::Logits(logits) => seen.answers.push(logits),
            other => panic!("{other:?} instead of logits"),
        }
    }
    protocol::send(&mut socket, &ToCandidate::Finish).unwrap();
    seen
}

fn conversation<M: Model>(
    train: impl FnOnce(&mut Run) -> Result<M, Stop> + Send,
    batches: u32,
    windows: Vec<Vec<u32>>,
) -> (Result<(), Stop>, Seen) {
    let (candidate, evaluator) = UnixStream::pair().unwrap();
    let evaluator = thread::spawn(move || evaluate(evaluator, batches, &windows));
    let ended = converse(candidate, train);
    (ended, evaluator.join().unwrap())
}

#[test]
fn a_small_model_learns_a_pattern_and_answers_windows() {
    let (ended, seen) = conversation(train_bigram, 60, vec![pattern(1, 8), pattern(5, 3)]);
    ended.unwrap();
    assert_eq!(seen.losses.len(), 60);
    assert!((seen.losses[0] - (VOCAB as f32).ln()).abs() < 0.2, "starts near uniform: {}", seen.losses[0]);
    assert!(seen.losses[59] < 0.2, "ends near certainty: {}", seen.losses[59]);
    assert_eq!(seen.facts, [("parameters".to_owned(), 256.0)]);
    assert_eq!(seen.answers.iter().map(Vec::len).collect::<Vec<_>>(), [8 * 16, 3 * 16]);
    let last = &seen.answers[1][2 * 16..];
    let best = (0..16).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    assert_eq!(best, 5 + 3 * 3);
}

#[test]
fn targets_are_the_inputs_one_token_later() {
    let mut pairs = Vec::new();
    let train = |run: &mut Run| -> Result<Bigram, Stop> {
        while let Some(batch) = run.next_batch(2, 5)? {
            let read = |ids: Tensor<2, Int>| ids.try_into_vec_as::<i32>().unwrap();
            pairs.push((batch.progress, read(batch.inputs), read(batch.targets)));
        }
        Err(Stop::GaveUp("seen enough".to_owned()))
    };
    let (ended, seen) = conversation(train, 2, vec![]);
    assert!(matches!(ended, Err(Stop::GaveUp(_))));
    assert_eq!(seen.gave_up, Some((false, "seen enough".to_owned())));
    assert_eq!(pairs.len(), 2);
    assert_eq!(pairs[0].0, 0.0);
    assert_eq!(pairs[0].1, [0, 3, 6, 9, 12, 1, 4, 7, 10, 13]);
    assert_eq!(pairs[0].2, [3, 6, 9, 12, 15, 4, 7, 10, 13, 0]);
    assert_eq!(pairs[1].0, 0.5);
}

#[test]
fn a_loss_that_is_not_a_number_ends_training_and_tells_the_evaluator() {
    let train = |run: &mut Run| -> Result<Bigram, Stop> {
        run.next_batch(1, 4)?;
        run.step(f32::NAN)?;
        unreachable!("the step must have ended training")
    };
    let (ended, seen) = conversation(train, 5, vec![]);
    assert!(matches!(ended, Err(Stop::Diverged(_))));
    let (diverged, message) = seen.gave_up.unwrap();
    assert!(diverged && message.contains("NaN"), "{message}");
}

#[test]
fn an_evaluator_that_leaves_is_a_protocol_error() {
    let (candidate, evaluator) = UnixStream::pair().unwrap();
    drop(evaluator);
    assert!(matches!(converse(candidate, train_bigram), Err(Stop::Protocol(_))));
}
