//! The probe's figures beside those of the tools that are used for them today, measured in turns.
//!
//! `cargo bench -p sprag --bench probe [-- ROUNDS]` needs what it compares with in `PATH`, and says what is missing:
//! `likwid-bench` and `stream` (bandwidth on all cores), `mbw` (copies on one) and a `python3` with numpy (OpenBLAS or MKL;
//! `SPRAG_PEER_PYTHON` names another interpreter). Each round probes once with `--quick` and runs each peer once; printed is the median ratio of rounds,
//! ours over theirs, with the range.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use sprag_measure::{machine, process, stats};

/// A transfer of ours, and likwid's kernel for it.
const TRANSFERS: [(&str, &str); 7] = [
    ("read", "load_sse"),
    ("write", "store_sse"),
    ("write_past", "store_mem_sse"),
    ("copy", "copy_sse"),
    ("copy_past", "copy_mem_sse"),
    ("triad", "stream_sse"),
    ("triad_past", "stream_mem_sse"),
];

const PRODUCT: &str = "import numpy, time\n\
    a = numpy.ones((1024, 1024), numpy.float32); b = a * 0.5; out = a @ b\n\
    def go():\n    start = time.perf_counter(); numpy.matmul(a, b, out=out); return time.perf_counter() - start\n\
    go(); times = sorted(go() for _ in range(21))\n\
    print(2 * 1024**3 / times[10])\n";

fn main() {
    let rounds: u32 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cores = machine::facts().get("usable_cores").cloned().unwrap_or_else(|| "1".to_owned());
    let mut figures: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for _ in 0..rounds {
        let ours = probe(folder.path());
        for (transfer, kernel) in TRANSFERS {
            match likwid(kernel, &cores) {
                Ok(theirs) => {
                    let own = bandwidth(&ours, transfer);
                    figures
                        .entry(format!("{transfer} / likwid-bench {kernel}"))
                        .or_default()
                        .extend(own.map(|own| (own, theirs)));
                }
                Err(why) => drop(missing.insert("likwid-bench", why)),
            }
        }
        for (transfer, kernel) in [("copy", "Copy:"), ("triad", "Triad:")] {
            match stream(kernel) {
                Ok(theirs) => {
                    let own = bandwidth(&ours, transfer).map(|own| (own, theirs));
                    figures.entry(format!("{transfer} / stream {kernel}")).or_default().extend(own);
                }
                Err(why) => drop(missing.insert("stream", why)),
            }
        }
        match mbw() {
            Ok(theirs) => {
                let own = on_one(&ours, "copy_past").map(|own| (own, theirs));
                figures.entry("copy_past on one core / mbw MEMCPY".to_owned()).or_default().extend(own);
            }
            Err(why) => drop(missing.insert("mbw", why)),
        }
        match product() {
            Ok(theirs) => {
                let own = ours["products"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|one| one["m"] == 1024 && one["precision"] == "fp32");
                let own = own.and_then(|one| one["flop_per_second"]["median"].as_f64());
                figures
                    .entry("fp32 product of 1024 / numpy".to_owned())
                    .or_default()
                    .extend(own.map(|own| (own, theirs)));
            }
            Err(why) => drop(missing.insert("numpy", why)),
        }
    }
    println!("{rounds} rounds, {cores} cores; medians in G/s, ratio ours over theirs [least, most]");
    for (name, pairs) in figures {
        let median = |of: fn(&(f64, f64)) -> f64| {
            stats::median(&pairs.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let ends = |pick: fn(f64, f64) -> f64| ratios.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        println!(
            "{name:<42} {:>7.1} {:>7.1}   {:.3} [{:.3}, {:.3}]",
            median(|pair| pair.0) / 1e9,
            median(|pair| pair.1) / 1e9,
            stats::median(&ratios).unwrap_or(f64::NAN),
            ends(f64::min),
            ends(f64::max)
        );
    }
    for (peer, why) in missing {
        println!("{peer} is not compared: {why}");
    }
}

fn probe(folder: &Path) -> Value {
    let out = folder.join("machine.toml");
    let words: [OsString; 5] =
        ["probe".into(), "--quick".into(), "--json".into(), "--out".into(), out.into()];
    let text = output(env!("CARGO_BIN_EXE_sprag"), words).expect("a probe");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    value["probe"].clone()
}

/// On the most threads, as STREAM counts.
fn bandwidth(probe: &Value, transfer: &str) -> Option<f64> {
    let own = probe["memory"].as_array()?.iter().filter(|one| one["transfer"] == transfer);
    own.max_by_key(|one| one["threads"].as_u64())?["bytes_per_second"]["median"].as_f64()
}

/// On one thread.
fn on_one(probe: &Value, transfer: &str) -> Option<f64> {
    let own =
        probe["memory"].as_array()?.iter().find(|one| one["transfer"] == transfer && one["threads"] == 1);
    own?["bytes_per_second"]["median"].as_f64()
}

/// McCalpin's program tells its best rate in MB/s, on as many threads as OpenMP takes.
fn stream(kernel: &str) -> Result<f64, String> {
    let text = output::<&str>("stream", [])?;
    let line = text.lines().find_map(|line| line.strip_prefix(kernel));
    let rate = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    rate.map(|rate| rate * 1e6).ok_or_else(|| "it told no rate".to_owned())
}

/// mbw counts what is copied once, in MiB; STREAM counts the reading too.
fn mbw() -> Result<f64, String> {
    let text = output("mbw", ["-q", "-n", "5", "-t0", "256"])?;
    let line = text.lines().find(|line| line.starts_with("AVG"));
    let rate =
        line.and_then(|line| line.split("Copy:").nth(1)?.split_whitespace().next()?.parse::<f64>().ok());
    rate.map(|rate| 2.0 * rate * f64::from(1 << 20)).ok_or_else(|| "it told no rate".to_owned())
}

fn likwid(kernel: &str, cores: &str) -> Result<f64, String> {
    let work = format!("S0:576MB:{cores}");
    let text = output("likwid-bench", ["-t", kernel, "-w", &work])?;
    let line = text.lines().find_map(|line| line.strip_prefix("MByte/s:"));
    line.and_then(|rate| rate.trim().parse::<f64>().ok())
        .map(|rate| rate * 1e6)
        .ok_or_else(|| "it told no rate".to_owned())
}

fn product() -> Result<f64, String> {
    let python = std::env::var_os("SPRAG_PEER_PYTHON").unwrap_or_else(|| "python3".into());
    let text = output(python, ["-c", PRODUCT])?;
    text.trim().parse().map_err(|_| format!("it printed {text:?}"))
}

fn output<W: Into<OsString>>(
    program: impl Into<OsString>,
    words: impl IntoIterator<Item = W>,
) -> Result<String, String> {
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let program: OsString = program.into();
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let output =
        process::output(&program, &words, Path::new("/"), &environment).map_err(|cause| cause.to_string())?;
    match output.success() {
        true => Ok(output.text()),
        false => Err(output.error_text().lines().last().unwrap_or("it failed").to_owned()),
    }
}
