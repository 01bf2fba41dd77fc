//! Tokens per second of the loader, on documents as long as source files are: it must be far from being what a
//! trainer waits for. Run with `cargo bench -p sprag-train --no-default-features --bench loader`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sprag_train::data::{Loader, TokenFile, TokenFileWriter};

const DOCUMENTS: u32 = 8_000;
const ROWS: usize = 32;
const LEAST: Duration = Duration::from_secs(1);
const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("train.bin");
    let mut writer = TokenFileWriter::create(&path, 4096, 0)?;
    for document in 0..DOCUMENTS {
        // From 16 to 16 384 tokens, evenly by order of magnitude.
        let length = 16 << (document % 11);
        writer.document(&(0..length).map(|token| 4 + (token * 7 + document) % 4000).collect::<Vec<_>>())?;
    }
    writer.finish()?;
    let file = TokenFile::open(&path)?;
    println!("{} tokens in {} documents", file.token_count(), file.document_count());
    for seq_len in [128, 256, 1024, 2048] {
        let mut rates: Vec<f64> = (0..REPEATS).map(|seed| rate(&file, seed as u64, seq_len)).collect();
        rates.sort_by(f64::total_cmp);
        let million = |rate: f64| rate / 1e6;
        println!(
            "{ROWS} rows of {seq_len}: {:.0} million tokens/s (median of {REPEATS}; {:.0} to {:.0})",
            million(rates[REPEATS / 2]),
            million(rates[0]),
            million(rates[REPEATS - 1]),
        );
    }
    Ok(())
}

fn rate(file: &TokenFile, seed: u64, seq_len: usize) -> f64 {
    let mut loader = Loader::new(file, seed);
    let begin = Instant::now();
    let mut tokens = 0;
    while begin.elapsed() < LEAST {
        tokens += black_box(loader.batch(ROWS, seq_len)).len();
    }
    tokens as f64 / begin.elapsed().as_secs_f64()
}
