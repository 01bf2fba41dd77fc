//! What the evaluator itself costs: a candidate that answers from a table, so that transfer and scoring are
//! nearly all there is. `cargo bench -p sprag-train --no-default-features --bench eval`

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use sprag_train::eval::{Corpus, EvalOutcome, Options, evaluate_on};
use sprag_train::protocol::{self, Budget, FromCandidate, ProtocolError, ToCandidate};

const VOCAB: u32 = 4096;
const TABLE_ROWS: u32 = 64;

/// Ids that look random; each stands for four bytes.
struct Noise {
    state: u32,
    bytes: Vec<u32>,
}

impl Noise {
    fn window(state: &mut u32, seq_len: u32) -> Vec<u32> {
        let mut id = || {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1 + (*state >> 8) % (VOCAB - 1)
        };
        (0..=seq_len).map(|_| id()).collect()
    }
}

impl Corpus for Noise {
    fn vocab_size(&self) -> u32 {
        VOCAB
    }

    fn bos(&self) -> u32 {
        0
    }

    fn byte_lengths(&self) -> &[u32] {
        &self.bytes
    }

    fn is_special(&self, id: u32) -> bool {
        id == 0
    }

    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32> {
        (0..rows).flat_map(|_| Self::window(&mut self.state, seq_len)).collect()
    }

    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>> {
        let mut state = 1;
        (0..count).map(|_| Self::window(&mut state, seq_len)).collect()
    }
}

fn candidate(mut socket: UnixStream) -> Result<(), ProtocolError> {
    let table: Vec<f32> = (0..TABLE_ROWS * VOCAB).map(|at| (at as f32 * 0.37).sin() * 8.0).collect();
    let row = |id: u32| &table[((id % TABLE_ROWS) * VOCAB) as usize..][..VOCAB as usize];
    protocol::send(&mut socket, &FromCandidate::Hello { version: protocol::VERSION })?;
    protocol::receive::<ToCandidate>(&mut socket, 1 << 20)?;
    loop {
        protocol::send(&mut socket, &FromCandidate::NextBatch { rows: 16, seq_len: 256 })?;
        if protocol::receive::<ToCandidate>(&mut socket, 1 << 20)? == ToCandidate::Stop {
            break;
        }
    }
    protocol::send(&mut socket, &FromCandidate::Trained)?;
    let mut logits = Vec::new();
    while let ToCandidate::Score { tokens, .. } = protocol::receive(&mut socket, 1 << 20)? {
        logits.clear();
        tokens.iter().for_each(|&id| logits.extend_from_slice(row(id)));
        protocol::send_logits(&mut socket, &logits)?;
    }
    Ok(())
}

fn main() {
    let options = Options::new(PathBuf::new(), 1, Budget::Steps(100));
    for _ in 0..3 {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let thread = thread::spawn(|| candidate(theirs));
        let mut corpus = Noise { state: 7, bytes: vec![4; VOCAB as usize] };
        let outcome = evaluate_on(ours, &mut corpus, &options, &mut |_| ()).expect("a working evaluator");
        thread.join().expect("no panic").expect("an unbroken conversation");
        let EvalOutcome::Scored { facts, .. } = outcome else { panic!("{}", outcome.to_json_line()) };
        let (seconds, tokens) = (facts["evaluation_seconds"], facts["val_tokens"]);
        println!(
            "{seconds:.2} s for {tokens} tokens besides probes: {:.0} tokens/s, {:.0} M logits/s; training {:.0} tokens/s",
            tokens / seconds,
            tokens * f64::from(VOCAB) / seconds / 1e6,
            facts["tokens_per_second"],
        );
    }
}
