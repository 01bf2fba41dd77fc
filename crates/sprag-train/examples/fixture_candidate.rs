//! A candidate without Burn, for tests of the whole loop: a bigram model that really learns, or one fault.
//!
//! `fixture_candidate [BEHAVIOUR [ARGUMENT]]`, started by an evaluator with the socket as standard input:
//! `honest`, `lookahead`, `stateful`, `nan`, `wrong-shape`, `diverge`, `overtime`, `hang`, `silent`,
//! `eat-memory`, `fork`, `print-forever`, `write-outside PATH`, `read-file PATH`, `open-socket`, `crash`.
//! What the sandbox should refuse ends with status 1 where it is refused; where it is not, the candidate goes
//! on and scores, so that a test sees it. Every fault has an end of its own, so that a test that fails leaves
//! nothing behind.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sprag_train::protocol::{self, FromCandidate, ProtocolError, Start, ToCandidate};

const ROWS: u32 = 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let behaviour = arguments.next().unwrap_or_else(|| "honest".to_owned());
    let argument = arguments.next().unwrap_or_default();
    match run(&behaviour, &argument) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fixture candidate ({behaviour}): {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(behaviour: &str, argument: &str) -> Result<(), ProtocolError> {
    if behaviour == "child" {
        sleep(Duration::from_secs(60));
        return Ok(());
    }
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if behaviour == "silent" {
        sleep(Duration::from_secs(600));
    }
    protocol::send(&mut socket, &FromCandidate::Hello { version: protocol::VERSION })?;
    let ToCandidate::Start(start) = protocol::receive(&mut socket, 1 << 10)? else {
        return Err(io::Error::other("no start").into());
    };
    let mut model = train(&mut socket, start, behaviour, argument)?;
    protocol::send(&mut socket, &FromCandidate::Trained)?;
    let mut requests = 0;
    while let ToCandidate::Score { seq_len, tokens, .. } = protocol::receive(&mut socket, 1 << 28)? {
        let mut logits = Vec::new();
        for window in tokens.chunks(seq_len as usize) {
            for (at, &id) in window.iter().enumerate() {
                model.push_logits(id, &mut logits);
                if behaviour == "lookahead"
                    && let Some(&next) = window.get(at + 1)
                {
                    let row = logits.len() - model.unigram.len();
                    logits[row + next as usize] += 5.0;
                }
            }
        }
        match behaviour {
            "stateful" => logits.iter_mut().step_by(2).for_each(|logit| *logit += requests as f32 * 0.01),
            "nan" => logits[0] = f32::NAN,
            "wrong-shape" => logits.truncate(logits.len() / 2),
            _ => {}
        }
        protocol::send_logits(&mut socket, &logits)?;
        requests += 1;
    }
    Ok(())
}

fn train(
    socket: &mut UnixStream,
    start: Start,
    behaviour: &str,
    argument: &str,
) -> Result<Bigram, ProtocolError> {
    let mut model = Bigram::new(start.vocab_size as usize);
    let seq_len = start.max_seq_len;
    protocol::send(socket, &FromCandidate::Fact { name: "parameters".into(), value: 0.0 })?;
    let mut step = 0u32;
    loop {
        protocol::send(socket, &FromCandidate::NextBatch { rows: ROWS, seq_len })?;
        let ToCandidate::Batch { tokens, .. } = protocol::receive(socket, 1 << 28)? else { break };
        let mut loss = tokens.chunks(seq_len as usize + 1).map(|row| model.learn(row)).sum::<f64>();
        loss /= f64::from(ROWS * seq_len);
        if step == 0 {
            misbehave(behaviour, argument)?;
        }
        if behaviour == "diverge" {
            loss = f64::NAN;
        }
        protocol::send(socket, &FromCandidate::Step { loss: loss as f32 })?;
        step += 1;
        // Counting is far faster than training a network: without a pause the table would eat the memory.
        sleep(Duration::from_millis(2));
    }
    if behaviour == "overtime" {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(600) {
            protocol::send(socket, &FromCandidate::Step { loss: 1.0 })?;
            sleep(Duration::from_millis(100));
        }
    }
    model.finish();
    Ok(model)
}

/// Faults that have nothing to do with the answers; they happen at the first step.
fn misbehave(behaviour: &str, argument: &str) -> io::Result<()> {
    match behaviour {
        "hang" => sleep(Duration::from_secs(600)),
        "crash" => std::process::abort(),
        "eat-memory" => {
            // Written to, because memory that is never touched is never given. 64 GiB at most.
            let mut eaten = Vec::new();
            while eaten.len() < 1024 {
                eaten.push(vec![1u8; 64 << 20]);
                sleep(Duration::from_millis(5));
            }
        }
        "fork" => {
            let program = std::env::current_exe()?;
            let mut children = Vec::new();
            for _ in 0..512 {
                children.push(child(&program)?);
                sleep(Duration::from_millis(2));
            }
            sleep(Duration::from_secs(60));
            for mut child in children {
                child.wait()?;
            }
        }
        "print-forever" => {
            let line = "all work and no play makes a candidate a dull process\n".repeat(100);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(60) {
                io::stdout().write_all(line.as_bytes())?;
            }
        }
        "write-outside" => std::fs::write(argument, "a candidate was here\n")?,
        "read-file" => {
            let bytes = std::fs::read(argument)?;
            eprintln!("read {} bytes of {argument}", bytes.len());
        }
        "open-socket" => match TcpStream::connect("127.0.0.1:9") {
            // Nobody listens there, but asking was allowed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(_) => {}
            Err(error) => return Err(error),
        },
        _ => {}
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program plays one that ignores the one door to processes"
)]
fn child(program: &std::path::Path) -> io::Result<std::process::Child> {
    std::process::Command::new(program).arg("child").stdin(std::process::Stdio::null()).spawn()
}

/// Frequencies of pairs of ids, mixed with those of single ids.
struct Bigram {
    pairs: Vec<HashMap<u32, f32>>,
    unigram: Vec<f32>,
    /// Sum of `unigram`, and by id the sum of its pairs.
    total: f32,
    totals: Vec<f32>,
    /// Logarithms of `unigram` over `total`.
    log_unigram: Vec<f32>,
    /// Logits after an id, once they were asked for.
    answers: HashMap<u32, Vec<f32>>,
}

/// Weight of the single ids, in counts.
const PRIOR: f32 = 2.0;

impl Bigram {
    fn new(vocab_size: usize) -> Self {
        Bigram {
            pairs: vec![HashMap::new(); vocab_size],
            unigram: vec![0.1; vocab_size],
            total: 0.1 * vocab_size as f32,
            totals: vec![0.0; vocab_size],
            log_unigram: Vec::new(),
            answers: HashMap::new(),
        }
    }

    /// Learns a row; returns its loss in nats before that.
    fn learn(&mut self, row: &[u32]) -> f64 {
        let mut nats = 0.0;
        for pair in row.windows(2) {
            let [id, next] = [pair[0] as usize, pair[1] as usize];
            let seen = self.pairs[id].get(&pair[1]).copied().unwrap_or(0.0);
            let prior = PRIOR * self.unigram[next] / self.total;
            nats -= f64::from((seen + prior) / (self.totals[id] + PRIOR)).ln();
            *self.pairs[id].entry(pair[1]).or_default() += 1.0;
            self.totals[id] += 1.0;
            self.unigram[next] += 1.0;
            self.total += 1.0;
        }
        nats
    }

    fn finish(&mut self) {
        self.log_unigram = self.unigram.iter().map(|count| (count / self.total).ln()).collect();
    }

    /// Logarithms of the probabilities after `id`, up to a constant.
    fn push_logits(&mut self, id: u32, logits: &mut Vec<f32>) {
        let row = self.answers.entry(id).or_insert_with(|| {
            let mut row = self.log_unigram.clone();
            for (&next, &seen) in &self.pairs[id as usize] {
                let prior = PRIOR * self.unigram[next as usize] / self.total;
                row[next as usize] = ((seen + prior) / PRIOR).ln();
            }
            row
        });
        logits.extend_from_slice(row);
    }
}
