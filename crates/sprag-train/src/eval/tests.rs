//! Whole evaluations with candidates in a thread, over a real socket.

mod candidate;
pub(super) mod corpus;

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::*;
use crate::protocol::{FromCandidate, ProtocolError};
use candidate::{Bigram, Connection, answering, hang};
use corpus::{Babbling, Counting, VOCAB};

fn options() -> Options {
    let mut options = Options::new(PathBuf::new(), 42, Budget::Tokens(6400));
    options.max_seq_len = 16;
    options.val_tokens = Some(16 * 128);
    options.limits.startup = Duration::from_secs(10);
    options.limits.silence = Duration::from_secs(10);
    options
}

/// What comes of a candidate, and the events on the way.
fn run(
    options: &Options,
    candidate: impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static,
) -> (EvalOutcome, Vec<EvalEvent>) {
    run_on(&mut Counting::default(), options, candidate)
}

fn run_on(
    corpus: &mut dyn Corpus,
    options: &Options,
    candidate: impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static,
) -> (EvalOutcome, Vec<EvalEvent>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || candidate(&mut Connection(theirs)));
    let mut events = Vec::new();
    let outcome = evaluate_on(ours, corpus, options, &mut |event| events.push(event)).unwrap();
    // What a judged candidate makes of the end of its connection does not matter, but it must not panic.
    let _ = thread.join().unwrap();
    (outcome, events)
}

fn check_invalid(
    reason: &str,
    candidate: impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static,
) -> String {
    check_invalid_with(&options(), reason, candidate)
}

fn check_invalid_with(
    options: &Options,
    expect: &str,
    candidate: impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static,
) -> String {
    match run(options, candidate).0 {
        EvalOutcome::Invalid { reason, detail, .. } => {
            assert_eq!(reason, expect, "{detail}");
            detail
        }
        EvalOutcome::Scored { value, .. } => panic!("a score of {value} instead of {expect}"),
        EvalOutcome::Passed => panic!("passed instead of {expect}"),
    }
}

fn honest(model: &Bigram, windows: &[&[u32]], _: usize) -> Vec<f32> {
    model.answer(windows)
}

fn scored(options: &Options) -> (f64, Facts, Vec<[f64; 2]>) {
    match run(options, answering(honest)).0 {
        EvalOutcome::Scored { value, facts, curve, .. } => (value, facts, curve),
        EvalOutcome::Invalid { reason, detail, .. } => panic!("{reason} ({detail}) instead of a score"),
        EvalOutcome::Passed => panic!("passed instead of a score"),
    }
}

#[test]
fn an_honest_model_gets_the_score_computed_by_hand() {
    let (value, facts, curve) = scored(&options());

    // The same bigram, in double precision, without any of the evaluator's code.
    let mut counts = vec![0.1f64; (VOCAB * VOCAB) as usize];
    let mut corpus = Counting::default();
    for _ in 0..100 {
        for row in corpus.next_batch(4, 16).chunks(17) {
            row.windows(2).for_each(|pair| counts[(pair[0] * VOCAB + pair[1]) as usize] += 1.0);
        }
    }
    let (mut nats, mut bytes) = (0.0, 0);
    for window in corpus.validation_windows(128, 16) {
        for pair in window.windows(2).filter(|pair| pair[1] != corpus::BOS) {
            let row = &counts[(pair[0] * VOCAB) as usize..][..VOCAB as usize];
            nats -= (row[pair[1] as usize] / row.iter().sum::<f64>()).ln();
            bytes += pair[1]; // Id n stands for n bytes.
        }
    }
    let expected = nats / (std::f64::consts::LN_2 * f64::from(bytes));
    assert!((value - expected).abs() < 1e-6, "{value} for {expected}");
    assert_eq!(facts["val_bytes"], f64::from(bytes));
    assert_eq!(facts["val_tokens"], 128.0 * 16.0);
    assert_eq!((facts["train_tokens"], facts["batches"], facts["steps"]), (6400.0, 100.0, 100.0));
    assert_eq!(facts["reported_parameters"], 144.0);
    let error = facts["val_standard_error"];
    assert!(error > 0.0 && error < value / 5.0, "{error}");
    assert_eq!((curve.len(), curve[0]), (100, [64.0, 3.0]));
}

#[test]
fn the_score_does_not_depend_on_the_order_of_the_probes() {
    assert_eq!(scored(&options()).0.to_bits() >> 8, scored(&options()).0.to_bits() >> 8);
}

#[test]
fn seconds_are_the_evaluators() {
    let mut options = options();
    options.budget = Budget::Seconds(0.4);
    let (value, facts, curve) = scored(&options);
    assert!(value > 0.0 && !curve.is_empty());
    assert!(facts["train_seconds"] >= 0.4);
    assert!((facts["train_seconds"] - 0.4 - facts["overshoot_seconds"]).abs() < 1e-9);
}

#[test]
fn each_point_of_the_curve_has_its_step_and_events_have_the_mean_of_the_losses_between_them() {
    let (outcome, events) = run(&Options { budget: Budget::Seconds(1.0), ..options() }, answering(honest));
    let EvalOutcome::Scored { curve, curve_steps, facts, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(curve_steps.len(), curve.len());
    assert!(curve_steps.windows(2).all(|pair| pair[0] < pair[1]), "{curve_steps:?}");
    // The loss told with step n is 3 / n: what stands in an event are the steps since the one before.
    let mut before = 0;
    let mut means = 0;
    for event in events {
        let EvalEvent::Progress { stage: Stage::Train, mean_loss, step, tokens, .. } = event else {
            continue;
        };
        assert!(tokens >= step * 64 && tokens as f64 <= facts["train_tokens"], "{tokens} at {step}");
        let Some(mean) = mean_loss else { continue };
        let losses = (before + 1..=step).map(|step| f64::from(3.0 / step as f32));
        let expected = losses.sum::<f64>() / (step - before) as f64;
        assert!((mean - expected).abs() < 1e-9, "{mean} for {expected}");
        (before, means) = (step, means + 1);
    }
    assert!(means >= 2, "{means} events with a mean in a second of training");
}

#[test]
fn a_batch_that_would_exceed_the_budget_is_not_served() {
    let mut options = options();
    options.budget = Budget::Tokens(6399);
    assert_eq!(scored(&options).1["train_tokens"], 6336.0);
}

#[test]
fn steps_are_batches_served_whatever_a_candidate_says_of_its_own() {
    let mut options = options();
    options.budget = Budget::Steps(40);
    let (_, facts, curve) = scored(&options);
    assert_eq!((facts["batches"], facts["steps"], facts["train_tokens"]), (40.0, 40.0, 40.0 * 64.0));
    assert!(!facts.contains_key("overshoot_seconds"));
    assert_eq!((curve.len(), curve[0], curve[39][0]), (40, [1.0, 3.0], 40.0));
    // None of its steps is told, or a hundred for each batch: both get forty batches, and learn how far they are.
    for told in [0, 100] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (outcome, _) = run(&options, move |connection| {
            let start = connection.greet()?;
            assert_eq!(start.budget, Budget::Steps(40));
            loop {
                connection.say(FromCandidate::NextBatch { rows: 4, seq_len: 16 })?;
                let ToCandidate::Batch { progress, .. } = connection.hear()? else { break };
                sender.send(progress).unwrap();
                for _ in 0..told {
                    connection.say(FromCandidate::Step { loss: 1.0 })?;
                }
            }
            connection.answer(&Bigram::new(), &mut honest)
        });
        assert!(matches!(outcome, EvalOutcome::Scored { .. }), "{outcome:?}");
        let progress: Vec<f64> = receiver.iter().collect();
        assert_eq!((progress.len(), progress[0], progress[39]), (40, 0.0, 39.0 / 40.0), "{told} told");
    }
}

#[test]
fn training_on_after_the_last_step_has_no_score() {
    let mut options = options();
    options.budget = Budget::Steps(10);
    options.limits.finish = Duration::from_millis(100);
    let detail = check_invalid_with(&options, "overtime", |connection| {
        connection.greet()?;
        connection.train(Duration::ZERO)?;
        for _ in 0..100 {
            connection.say(FromCandidate::Step { loss: 1.0 })?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    assert!(detail.contains("10steps"), "{detail}");
}

#[test]
fn a_batch_larger_than_allowed_has_no_score() {
    let mut options = options();
    options.budget = Budget::Steps(40);
    options.limits.batch_tokens = 64;
    assert_eq!(scored(&options).1["batches"], 40.0);
    options.limits.batch_tokens = 63;
    let detail = check_invalid_with(&options, "protocol", answering(honest));
    assert!(detail.contains("4 x 16 tokens (1 to 63"), "{detail}");
}

#[test]
fn a_smoke_test_passes_an_honest_model_and_catches_the_others() {
    let options = Options { smoke: true, ..options() };
    let (outcome, events) = run(&options, answering(honest));
    assert_eq!(outcome, EvalOutcome::Passed);
    assert!(!events.is_empty());
    check_invalid_with(&options, "causality", answering(looks_ahead));
    check_invalid_with(&options, "state", answering(counts_requests));
}

/// Puts its weight on the next token, where that is in sight.
fn looks_ahead(model: &Bigram, windows: &[&[u32]], _: usize) -> Vec<f32> {
    let mut logits = model.answer(windows);
    let mut row = 0;
    for window in windows {
        for at in 0..window.len() {
            if let Some(&next) = window.get(at + 1) {
                logits[row * VOCAB as usize + next as usize] += 10.0;
            }
            row += 1;
        }
    }
    logits
}

fn counts_requests(model: &Bigram, windows: &[&[u32]], before: usize) -> Vec<f32> {
    model.answer(windows).into_iter().map(|logit| logit * (1.0 + before as f32 / 100.0)).collect()
}

#[test]
fn looking_ahead_is_found() {
    let detail = check_invalid("causality", answering(looks_ahead));
    assert!(detail.contains("position"), "{detail}");
}

#[test]
fn looking_ahead_a_long_way_is_found() {
    check_invalid(
        "causality",
        answering(|model, windows, _| {
            let mut logits = model.answer(windows);
            for (rows, window) in logits.chunks_mut(16 * VOCAB as usize).zip(windows) {
                rows[0] += window[window.len() - 1] as f32 / 10.0;
            }
            logits
        }),
    );
}

/// Looks ahead, and repeats itself wherever it has seen the same beginning before; short beginnings, which
/// many windows share, it answers honestly.
#[test]
fn looking_ahead_with_a_memory_is_found() {
    let mut options = options();
    (options.max_seq_len, options.val_tokens) = (64, Some(64 * 256));
    let mut said: HashMap<Vec<u32>, Vec<f32>> = HashMap::new();
    let respond = move |model: &Bigram, windows: &[&[u32]], before: usize| {
        let rows = looks_ahead(model, windows, before);
        let mut rows = rows.chunks(VOCAB as usize);
        let mut logits = Vec::new();
        for window in windows {
            for end in 1..=window.len() {
                let row = rows.next().unwrap();
                if end < 12 {
                    logits.extend(model.logits(window[end - 1]));
                } else {
                    logits.extend(said.entry(window[..end].to_vec()).or_insert_with(|| row.to_vec()).iter());
                }
            }
        }
        logits
    };
    let detail = check_invalid_with(&options, "causality", answering(respond));
    assert!(detail.contains("in sight"), "{detail}");
}

/// Mixes a little of the next token into the best of models, and repeats itself word for word.
#[test]
fn a_little_looking_ahead_with_a_memory_is_found_by_default() {
    let options = Options { max_seq_len: DEFAULT_MAX_SEQ_LEN, val_tokens: None, ..options() };
    let model: Vec<Vec<f64>> = (0..Babbling::VOCAB).map(Babbling::probabilities).collect();
    let mut seen: HashMap<Vec<u32>, u32> = HashMap::new();
    let respond = move |_: &Bigram, windows: &[&[u32]], _: usize| {
        let mut logits = Vec::new();
        for window in windows {
            for end in 1..=window.len() {
                let next = window.get(end).copied().unwrap_or_default();
                let next = *seen.entry(window[..end].to_vec()).or_insert(next);
                let row = model[window[end - 1] as usize].iter().zip(0u32..).map(|(&probability, id)| {
                    let mixed = probability * 0.98 + if id == next { 0.02 } else { 0.0 };
                    mixed.max(1e-9).ln() as f32
                });
                logits.extend(row);
            }
        }
        logits
    };
    let candidate = move |connection: &mut Connection| {
        connection.greet()?;
        connection.answer(&Bigram::new(), &mut { respond })
    };
    let outcome = run_on(&mut Babbling::default(), &options, candidate).0;
    assert!(matches!(&outcome, EvalOutcome::Invalid { reason: "causality", .. }), "{outcome:?}");
}

#[test]
fn keeping_state_between_windows_is_found() {
    check_invalid("state", answering(counts_requests));
}

#[test]
fn learning_from_windows_already_answered_is_found() {
    let mut bias = vec![0.0f32; VOCAB as usize];
    check_invalid(
        "state",
        answering(move |model, windows, _| {
            let mut logits = model.answer(windows);
            logits
                .chunks_mut(VOCAB as usize)
                .for_each(|row| row.iter_mut().zip(&bias).for_each(|(l, b)| *l += b));
            windows.iter().flat_map(|window| window.iter()).for_each(|&id| bias[id as usize] += 1e-3);
            logits
        }),
    );
}

#[test]
fn attention_across_the_rows_of_a_batch_is_found() {
    check_invalid(
        "state",
        answering(|model, windows, _| {
            let mut logits = model.answer(windows);
            let neighbours: u32 = windows.iter().map(|window| window[0] + window[1]).sum();
            logits.iter_mut().step_by(2).for_each(|logit| *logit += neighbours as f32 / 100.0);
            logits
        }),
    );
}

#[test]
fn a_number_that_is_not_finite_is_found() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let detail = check_invalid(
            "non_finite",
            answering(move |model, windows, before| {
                let mut logits = model.answer(windows);
                if before == 3 {
                    logits[17] = bad;
                }
                logits
            }),
        );
        assert!(detail.starts_with("logit 5 at position 1"), "{detail}");
    }
}

#[test]
fn an_answer_of_another_shape_is_found() {
    let short = |model: &Bigram, windows: &[&[u32]], _| {
        let mut logits = model.answer(windows);
        logits.truncate(logits.len() - windows.len());
        logits
    };
    let detail = check_invalid("shape", answering(short));
    assert!(detail.contains("16, 12]"), "{detail}");
    check_invalid("shape", answering(|_, _, _| Vec::new()));
}

#[test]
fn another_version_is_refused() {
    let detail = check_invalid("protocol", |connection| {
        connection.say(FromCandidate::Hello { version: 999 })?;
        hang(connection);
        Ok(())
    });
    assert!(detail.contains("999"), "{detail}");
}

#[test]
fn messages_out_of_turn_are_refused() {
    let after_greeting = |message: FromCandidate| {
        move |connection: &mut Connection| {
            connection.greet()?;
            connection.say(message)?;
            hang(connection);
            Ok(())
        }
    };
    check_invalid("protocol", |connection: &mut Connection| {
        connection.say(FromCandidate::Trained)?;
        hang(connection);
        Ok(())
    });
    let name = |name: &str, value| FromCandidate::Fact { name: name.into(), value };
    for message in [
        FromCandidate::Hello { version: 1 },
        FromCandidate::Logits(vec![0.0]),
        FromCandidate::NextBatch { rows: 0, seq_len: 16 },
        FromCandidate::NextBatch { rows: u32::MAX, seq_len: u32::MAX },
        FromCandidate::NextBatch { rows: 1, seq_len: 1 << 17 },
        name("Parameters", 1.0),
        name("", 1.0),
        name(&"a".repeat(49), 1.0),
        name("mfu", f64::NAN),
    ] {
        check_invalid("protocol", after_greeting(message));
    }
}

#[test]
fn floods_of_facts_and_steps_are_refused() {
    check_invalid("protocol", |connection| {
        connection.greet()?;
        for number in 0..40 {
            connection.say(FromCandidate::Fact { name: format!("fact_{number}"), value: 1.0 })?;
        }
        Ok(())
    });
    check_invalid("protocol", |connection| {
        connection.greet()?;
        for _ in 0..20_000 {
            connection.say(FromCandidate::Step { loss: 1.0 })?;
        }
        Ok(())
    });
}

#[test]
fn garbage_is_refused() {
    for garbage in [
        &b"\x00\x00\x00\x00\x00"[..],
        b"Hello, world, what is this?",
        &[0xff; 64],
        &[65, 3, 0, 0, 0, 1, 2, 3],
    ] {
        check_invalid("protocol", move |connection| {
            connection.0.write_all(garbage)?;
            hang(connection);
            Ok(())
        });
    }
}

#[test]
fn an_ended_connection_is_a_crash_and_names_the_stage() {
    assert!(check_invalid("crash", |_| Ok(())).contains("start-up"));
    let in_training = |connection: &mut Connection| {
        connection.greet()?;
        connection.say(FromCandidate::NextBatch { rows: 1, seq_len: 16 })?;
        connection.hear().map(|_| ())
    };
    assert!(check_invalid("crash", in_training).contains("training"));
    let in_evaluation = |connection: &mut Connection| {
        connection.greet()?;
        connection.train(Duration::ZERO)?;
        connection.say(FromCandidate::Trained)
    };
    assert!(check_invalid("crash", in_evaluation).contains("evaluation"));
}

#[test]
fn giving_up_and_losses_that_are_no_numbers_are_told_apart() {
    let gives_up = |diverged| {
        move |connection: &mut Connection| {
            connection.greet()?;
            connection.say(FromCandidate::GaveUp { diverged, message: "the loss\u{7} exploded".into() })
        }
    };
    let detail = check_invalid("diverged", gives_up(true));
    assert_eq!(detail, "gave up during training: the loss  exploded");
    check_invalid("crash", gives_up(false));
    check_invalid("diverged", |connection| {
        connection.greet()?;
        connection.say(FromCandidate::Step { loss: f32::NAN })?;
        hang(connection);
        Ok(())
    });
}

#[test]
fn a_candidate_that_never_starts_runs_into_the_limit() {
    let mut options = options();
    options.limits.startup = Duration::from_millis(80);
    check_invalid_with(&options, "timeout", |connection| {
        hang(connection);
        Ok(())
    });
}

#[test]
fn a_byte_now_and_then_is_no_sign_of_life() {
    let mut options = options();
    options.limits.startup = Duration::from_millis(150);
    check_invalid_with(&options, "timeout", |connection| {
        for byte in [65, 200, 0, 0, 0].iter().chain(&[0; 200]) {
            connection.0.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
}

#[test]
fn a_candidate_that_hangs_in_training_is_silent() {
    let hangs = |connection: &mut Connection| {
        connection.greet()?;
        connection.say(FromCandidate::NextBatch { rows: 1, seq_len: 16 })?;
        hang(connection);
        Ok(())
    };
    let mut options = options();
    options.limits.silence = Duration::from_millis(80);
    check_invalid_with(&options, "silence", hangs);
    // A budget in seconds that ends first says the same.
    options.limits = Limits { least_overshoot: Duration::from_millis(20), ..Limits::default() };
    options.budget = Budget::Seconds(0.1);
    check_invalid_with(&options, "silence", hangs);
}

#[test]
fn a_candidate_that_hangs_in_evaluation_is_silent_or_out_of_time() {
    let hangs = |connection: &mut Connection| {
        connection.greet()?;
        connection.train(Duration::ZERO)?;
        connection.say(FromCandidate::Trained)?;
        hang(connection);
        Ok(())
    };
    let mut options = options();
    options.limits.silence = Duration::from_millis(80);
    check_invalid_with(&options, "silence", hangs);
    options.limits =
        Limits { evaluation: Duration::from_millis(80), evaluation_factor: 0.0, ..Limits::default() };
    check_invalid_with(&options, "timeout", hangs);
}

#[test]
fn training_past_the_deadline_has_no_score() {
    let mut options = options();
    options.budget = Budget::Seconds(0.2);
    options.limits.least_overshoot = Duration::from_millis(100);
    let detail = check_invalid_with(&options, "overtime", |connection| {
        connection.greet()?;
        connection.train(Duration::from_millis(5))?;
        for _ in 0..100 {
            connection.say(FromCandidate::Step { loss: 1.0 })?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    assert!(detail.contains("0.2s"), "{detail}");
    options.budget = Budget::Tokens(640);
    options.limits.finish = Duration::from_millis(100);
    check_invalid_with(&options, "overtime", |connection| {
        connection.greet()?;
        connection.train(Duration::ZERO)?;
        for _ in 0..100 {
            connection.say(FromCandidate::NextBatch { rows: 1, seq_len: 16 })?;
            connection.hear()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
}

/// Half a second of training, and answers that each may take a tenth of a second longer than usual.
fn timed() -> Options {
    let mut options = options();
    options.budget = Budget::Seconds(0.5);
    options.limits.answer_grace = Duration::from_millis(100);
    options
}

/// A candidate that answers well, and trains on in the answers for which `pauses` says how long.
fn pausing(
    pauses: impl Fn(usize) -> Duration + Send + 'static,
) -> impl FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send + 'static {
    answering(move |model, windows, before| {
        thread::sleep(pauses(before));
        model.answer(windows)
    })
}

#[test]
fn training_on_in_the_first_answer_is_overtime() {
    let slow_first = |before| Duration::from_millis(if before == 0 { 2000 } else { 0 });
    let detail = check_invalid_with(&timed(), "overtime", pausing(slow_first));
    assert!(detail.contains("answers took"), "{detail}");
    // A budget in tokens bounds no time: computing longer on them is allowed before and after.
    let options = Options { budget: Budget::Tokens(6400), ..timed() };
    assert!(matches!(run(&options, pausing(slow_first)).0, EvalOutcome::Scored { .. }));
}

#[test]
fn training_on_in_all_answers_is_overtime() {
    let detail = check_invalid_with(&timed(), "overtime", pausing(|_| Duration::from_millis(400)));
    assert!(detail.contains("answers took"), "{detail}");
}

#[test]
fn few_served_tokens_buy_no_time_for_answers() {
    // 80 tokens in half a second: at this pace an answer might take three.
    let detail = check_invalid_with(&timed(), "overtime", |connection| {
        connection.greet()?;
        connection.say(FromCandidate::NextBatch { rows: 1, seq_len: 16 })?;
        connection.hear()?;
        let model = connection.train(Duration::from_millis(500))?;
        connection.answer(&model, &mut |model, windows, before| {
            thread::sleep(Duration::from_millis(if before == 0 { 2000 } else { 0 }));
            model.answer(windows)
        })
    });
    assert!(detail.contains("answers took"), "{detail}");
}

#[test]
fn start_up_beyond_its_grace_spends_the_budget() {
    let first_progress = |budget, grace| {
        let mut options = options();
        options.budget = budget;
        options.limits.startup_grace = grace;
        let (sender, receiver) = std::sync::mpsc::channel();
        let (outcome, _) = run(&options, move |connection| {
            connection.greet()?;
            thread::sleep(Duration::from_millis(400));
            connection.say(FromCandidate::NextBatch { rows: 4, seq_len: 16 })?;
            if let ToCandidate::Batch { progress, .. } = connection.hear()? {
                sender.send(progress).unwrap();
            }
            let model = connection.train(Duration::ZERO)?;
            connection.answer(&model, &mut honest)
        });
        assert!(matches!(outcome, EvalOutcome::Scored { .. }), "{outcome:?}");
        receiver.recv().unwrap()
    };
    let [none, long] = [Duration::ZERO, Duration::from_secs(10)];
    assert!(first_progress(Budget::Seconds(1.0), none) >= 0.4);
    assert!(first_progress(Budget::Seconds(1.0), long) < 0.4);
    assert_eq!(first_progress(Budget::Tokens(640), none), 0.0);
}

#[test]
fn who_starts_for_longer_than_the_budget_is_told_to_stop_at_once() {
    let mut options = options();
    options.budget = Budget::Seconds(0.1);
    options.limits.startup_grace = Duration::ZERO;
    let detail = check_invalid_with(&options, "overtime", |connection| {
        connection.greet()?;
        thread::sleep(Duration::from_millis(1000));
        connection.say(FromCandidate::NextBatch { rows: 1, seq_len: 16 })?;
        hang(connection);
        Ok(())
    });
    assert!(detail.contains("in start-up"), "{detail}");
}

#[test]
fn what_was_seen_of_a_candidate_without_a_score_is_kept() {
    let invalid = |candidate| match run(&options(), candidate).0 {
        EvalOutcome::Invalid { facts, curve, .. } => (facts, curve),
        other => panic!("{other:?}"),
    };
    let (facts, curve) = invalid(Box::new(answering(looks_ahead)) as Box<Fault>);
    assert_eq!((facts["train_tokens"], facts["steps"], facts["reported_parameters"]), (6400.0, 100.0, 144.0));
    assert!(facts["evaluation_seconds"] > 0.0 && !facts.contains_key("val_tokens"));
    assert_eq!(curve.len(), 100);
    let diverges = |connection: &mut Connection| {
        connection.greet()?;
        connection.say(FromCandidate::NextBatch { rows: 4, seq_len: 16 })?;
        connection.hear()?;
        connection.say(FromCandidate::Step { loss: 2.0 })?;
        connection.say(FromCandidate::Step { loss: f32::NAN })
    };
    let (facts, curve) = invalid(Box::new(diverges));
    assert_eq!((facts["train_tokens"], facts["steps"], curve), (64.0, 2.0, vec![[64.0, 2.0]]));
    assert!(!facts.contains_key("evaluation_seconds"));
}

/// A candidate as a value.
type Fault = dyn FnOnce(&mut Connection) -> Result<(), ProtocolError> + Send;

#[test]
fn too_little_text_is_the_evaluators_fault() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let options = Options { max_seq_len: 0, ..options() };
    let error = evaluate_on(ours, &mut Counting::default(), &options, &mut |_| ()).unwrap_err();
    assert!(matches!(error, EvalError::TooFewWindows { .. }) && error.hint().is_some());
}

#[test]
fn lines_are_what_the_loop_reads() {
    let event = EvalEvent::Progress {
        stage: Stage::Train,
        fraction: 0.25,
        elapsed_seconds: 5.0,
        tokens: 125_000,
        tokens_per_second: 25_000.0,
        loss: None,
        mean_loss: None,
        step: 12,
    };
    let line = r#"{"type":"progress","stage":"train","fraction":0.25,"elapsed_seconds":5.0,"tokens":125000,"tokens_per_second":25000.0,"step":12}"#;
    assert_eq!(event.to_json_line(), line);
    assert_eq!(EvalOutcome::Passed.to_json_line(), r#"{"type":"passed"}"#);
    let facts = Facts::from([("steps".to_owned(), 3.0)]);
    let score = EvalOutcome::Scored { value: 2.5, facts, curve: vec![[0.5, 4.0]], curve_steps: vec![3.0] };
    assert_eq!(
        score.to_json_line(),
        r#"{"type":"score","value":2.5,"facts":{"steps":3.0},"curve":[[0.5,4.0]],"curve_steps":[3.0]}"#
    );
    let invalid = |facts, curve| {
        EvalOutcome::Invalid { reason: "shape", detail: "two\nlines".into(), facts, curve }.to_json_line()
    };
    assert_eq!(
        invalid(Facts::new(), Vec::new()),
        r#"{"type":"invalid","reason":"shape","detail":"two\nlines"}"#
    );
    assert_eq!(
        invalid(Facts::from([("steps".to_owned(), 3.0)]), vec![[0.5, 4.0]]),
        r#"{"type":"invalid","reason":"shape","detail":"two\nlines","facts":{"steps":3.0},"curve":[[0.5,4.0]]}"#
    );
}
