//! The template as every run begins with it: it learns, passes the evaluator's probes and has a score. What the
//! evaluator makes of worse candidates is tested in the library.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sprag_train::eval::{Corpus, EvalOutcome, Options, evaluate_on};
use sprag_train::protocol::Budget;

/// Token ids; 0 begins a document, and each other stands for one byte.
const VOCAB: u32 = 12;

/// Training is this many steps of the template's batch of 4 rows of 256 tokens.
const STEPS: u64 = 40;

/// Text to learn: ids in a circle, each of which is followed by the next one three times out of four.
struct Circle {
    lengths: Vec<u32>,
    state: u64,
}

impl Circle {
    fn window(state: &mut u64, len: usize) -> Vec<u32> {
        let mut window = vec![0];
        while window.len() < len {
            // Knuth's constants for a linear congruential generator; its high bits are the good ones.
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (*state >> 33) as u32;
            let last = window[window.len() - 1];
            window.push(if random.is_multiple_of(4) {
                1 + random / 4 % (VOCAB - 1)
            } else {
                last % (VOCAB - 1) + 1
            });
        }
        window
    }
}

impl Corpus for Circle {
    fn vocab_size(&self) -> u32 {
        VOCAB
    }

    fn bos(&self) -> u32 {
        0
    }

    fn byte_lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn is_special(&self, id: u32) -> bool {
        id == 0
    }

    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32> {
        (0..rows).flat_map(|_| Circle::window(&mut self.state, seq_len as usize + 1)).collect()
    }

    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>> {
        let mut state = 2;
        (0..count).map(|_| Circle::window(&mut state, seq_len as usize + 1)).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a task depends on nothing but the library, its tests neither")]
fn start(channel: UnixStream) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpt"));
    command.stdin(Stdio::from(OwnedFd::from(channel))).spawn().unwrap()
}

#[test]
fn it_learns_passes_the_probes_and_has_a_score() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut candidate = start(theirs);
    let mut options = Options::new(PathBuf::new(), 1, Budget::Tokens(STEPS * 4 * 256));
    options.max_seq_len = 64;
    options.val_tokens = Some(64 * 48);
    let mut lengths = vec![1; VOCAB as usize];
    lengths[0] = 0;
    let mut corpus = Circle { lengths, state: 1 };
    let outcome = evaluate_on(ours, &mut corpus, &options, &mut |_| {}).unwrap();
    assert!(candidate.wait().unwrap().success());
    let EvalOutcome::Scored { value, facts, curve, .. } = outcome else {
        panic!("{outcome:?} instead of a score")
    };
    assert_eq!(facts["steps"], STEPS as f64);
    let (first, last) = (curve[0][1], curve[curve.len() - 1][1]);
    assert!(last < first - 0.5, "the loss went from {first} to {last} nats a token");
    // The evaluator's own number: well below the guess that knows nothing.
    assert!(value < 0.8 * f64::from(VOCAB).log2(), "{value} bits per byte");
}
