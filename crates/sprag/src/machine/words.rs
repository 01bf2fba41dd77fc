//! A probe as people read it.

use sprag_measure::probe::{Energy, Gpus, NeuralEngine, Power, Probe, Rung, Sample, Transfer};
use sprag_measure::units::{Bytes, Seconds};

use super::changes::Change;
use crate::ui::tame;

/// Shares above which a machine was not alone.
const BUSY: f64 = 0.05;
/// The same for what a hypervisor took.
const STOLEN: f64 = 0.02;
/// Spread above which a figure is called uncertain.
const WIDE: f64 = 0.10;

/// `31.2 GB/s ±2 %, n=5`; `unit` is a thousand million of it.
pub fn giga(sample: Sample, unit: &str) -> String {
    format!("{:.1} G{unit} {}", sample.median / 1e9, spread(sample))
}

/// `±2 %, n=5`.
pub fn spread(sample: Sample) -> String {
    format!("±{:.0} %, n={}", sample.spread() * 100.0, sample.n)
}

/// All of it.
pub fn lines(probe: &Probe) -> Vec<String> {
    let fact = |name: &str| probe.machine.get(name).map_or("?", String::as_str);
    let mut lines = Vec::new();
    let memory =
        fact("memory_bytes").parse().map(Bytes).map_or_else(|_| "?".to_owned(), |bytes| bytes.to_string());
    lines.push(format!("machine   {}, {} usable cores, {memory}", tame(fact("cpu")), fact("usable_cores")));
    lines.extend(clock(probe));
    lines.extend(caches(probe));
    lines.push(String::new());
    lines.extend(bandwidth(probe));
    lines.push(String::new());
    lines.push("working set   latency of a load      one core reads".to_owned());
    lines.extend(steps(&probe.ladder).into_iter().map(|rung| {
        format!(
            "{:>11}   {:>8} {:<11}  {}",
            Bytes(rung.bytes).to_string(),
            Seconds(rung.latency_seconds.median).to_string(),
            spread(rung.latency_seconds),
            giga(rung.read_bytes_per_second, "B/s")
        )
    }));
    lines.push(String::new());
    lines.extend(arithmetic(probe));
    lines.push(String::new());
    lines.extend(floor(probe));
    lines.push(match &probe.power {
        Power::Watts(watts) => format!("power     {watts:.1} W in the mean while arithmetic was measured"),
        Power::NotReadable(why) => format!("power     not readable: {}", tame(why)),
    });
    lines.push(match &probe.energy {
        Energy::Measured { idle_watts, memory_watts, .. } => {
            let flop = probe.energy.joules_a_flop().map(|joules| format!(", {:.1} pJ a FLOP (fp32)", joules * 1e12));
            format!(
                "energy    {:.0} pJ a byte{}; {idle_watts:.1} W idle, {memory_watts:.1} W while memory is read",
                probe.energy.joules_a_byte().unwrap_or(f64::NAN) * 1e12,
                flop.unwrap_or_default()
            )
        }
        Energy::NotReadable(why) => format!("energy    not readable: {}", tame(why)),
    });
    lines.extend(gpus(&probe.gpus));
    lines.extend(probe.neural_engine.as_ref().map(neural_engine));
    if let Some([before, after]) = probe.temperature_celsius {
        lines.push(format!("warmth    {before:.0} to {after:.0} degrees Celsius"));
    }
    lines.extend(doubts(probe));
    lines
}

/// GPUs, one after the other; or why there are none.
/// What `sprag ane probe` found, in a line.
fn neural_engine(engine: &NeuralEngine) -> String {
    let most = engine.figures.iter().filter_map(|figure| figure.flops).fold(0.0, f64::max);
    let floor =
        engine.figures.iter().find(|figure| figure.kind == "floor").map_or(f64::NAN, |own| own.seconds[0]);
    let how = if engine.predicted { "PREDICTED, nothing was measured" } else { "measured" };
    format!(
        "ane       {}: at most {:.1} TFLOP/s, {:.3} ms a dispatch ({how}, {})",
        engine.name,
        most / 1e12,
        floor * 1e3,
        engine.at
    )
}

fn gpus(gpus: &Gpus) -> Vec<String> {
    let found = match gpus {
        Gpus::None(why) => return vec![format!("GPU       none: {}", tame(why))],
        Gpus::Found(found) => found,
    };
    let mut lines = Vec::new();
    for gpu in found {
        lines.push(format!(
            "GPU       {}, {} through {} ({})",
            tame(&gpu.name),
            gpu.kind,
            tame(&gpu.backend),
            tame(&gpu.driver)
        ));
        lines.extend(gpu.management.as_ref().map(|told| format!("          {}", tame(told))));
        match &gpu.measured {
            Ok(figures) => {
                lines.push(format!(
                    "          copy                {}",
                    giga(figures.copy_bytes_per_second, "B/s")
                ));
                let mut flop = |name: &str, sample: Option<Sample>| {
                    lines.extend(
                        sample.map(|sample| format!("          {name:<19} {}", giga(sample, "FLOP/s"))),
                    );
                };
                flop("fp32 in registers", figures.fp32_flop_per_second);
                flop("fp32 product", Some(figures.product_flop_per_second));
                flop("bf16 product", figures.bf16_product_flop_per_second);
                lines.push(format!(
                    "          empty dispatch      {} {}",
                    Seconds(figures.dispatch_seconds.median),
                    spread(figures.dispatch_seconds)
                ));
            }
            Err(why) => lines.push(format!("          not measured: {}", tame(why))),
        }
    }
    lines
}

fn clock(probe: &Probe) -> Option<String> {
    let presented = probe.presented.clock_hz.map(|hertz| format!(", presented {:.2}", hertz / 1e9));
    let [before, after] = probe.clock_hz?;
    let drift = (after.median / before.median - 1.0) * 100.0;
    Some(format!(
        "clock     {:.2} GHz measured under load ({}), {drift:+.1} % at the end{}",
        before.median / 1e9,
        spread(before),
        presented.unwrap_or_default()
    ))
}

fn caches(probe: &Probe) -> Option<String> {
    let cache = |cache: &sprag_measure::probe::Cache| {
        let shared =
            if cache.shared_by > 1 { format!(" shared by {}", cache.shared_by) } else { String::new() };
        format!("L{} {}{shared}", cache.level, Bytes(cache.bytes))
    };
    let all: Vec<String> = probe.presented.caches.iter().map(cache).collect();
    (!all.is_empty()).then(|| format!("caches    presented: {}", all.join(", ")))
}

fn bandwidth(probe: &Probe) -> Vec<String> {
    let mut lines =
        vec!["memory              threads   as STREAM counts          with write-allocate".to_owned()];
    let most = probe.memory.iter().map(|one| one.threads).max().unwrap_or(1);
    let shown = probe.memory.iter().filter(|one| one.threads == 1 || one.threads == most);
    lines.extend(shown.map(|one| {
        format!(
            "{:<20}{:>6}    {:<24}  {:.1} GB/s",
            one.transfer.word(),
            one.threads,
            giga(one.bytes_per_second, "B/s"),
            one.bytes_per_second.median * one.transfer.traffic() / 1e9
        )
    }));
    if let (Some(triad), Some(ceiling)) = (probe.best(Transfer::Triad), probe.memory_ceiling()) {
        lines.push(format!(
            "the most that surely moved: {:.1} GB/s; Triad counts {:.0} % of that",
            ceiling / 1e9,
            triad.bytes_per_second.median / ceiling * 100.0
        ));
    }
    lines
}

/// Rungs that tell something: the first, the last, and both sides of each step.
fn steps(ladder: &[Rung]) -> Vec<&Rung> {
    let steep =
        |pair: &[Rung]| matches!(pair, [a, b] if b.latency_seconds.median > 1.25 * a.latency_seconds.median);
    let wanted = |at: usize| {
        at == 0
            || at + 1 == ladder.len()
            || ladder.get(at..at + 2).is_some_and(steep)
            || at.checked_sub(1).and_then(|before| ladder.get(before..=at)).is_some_and(steep)
    };
    ladder.iter().enumerate().filter(|(at, _)| wanted(*at)).map(|(_, rung)| rung).collect()
}

fn arithmetic(probe: &Probe) -> Vec<String> {
    // Whoever was not let run for a while seems to have had a slow clock.
    let hertz = probe.clock_hz.map(|[before, after]| before.high.max(after.high));
    let mut lines =
        vec!["arithmetic                     threads   reached                  a cycle and core".to_owned()];
    lines.extend(probe.compute.iter().map(|one| {
        let cycle = hertz.map_or_else(
            || "clock unknown".to_owned(),
            |hertz| format!("{:.1}", one.operations_per_second.median / hertz / f64::from(one.threads)),
        );
        let unit = if one.precision == "int8" { "OP/s" } else { "FLOP/s" };
        format!(
            "{:<6} {:<22}{:>8}    {:<24} {cycle}",
            one.precision,
            one.unit.word(),
            one.threads,
            giga(one.operations_per_second, unit)
        )
    }));
    for one in &probe.products {
        let share = probe.peak(&one.precision).map(|peak| one.flop_per_second.median / peak * 100.0);
        lines.push(format!(
            "{:<6} product {:<14}{:>8}    {:<24} {:.0} % of the peak",
            one.precision,
            format!("{}x{}x{}", one.m, one.n, one.k),
            probe.machine.get("usable_cores").map_or("?", String::as_str),
            giga(one.flop_per_second, "FLOP/s"),
            share.unwrap_or(0.0)
        ));
    }
    for precision in ["fp32", "bf16"] {
        if let Some(ridge) = probe.ridge(precision) {
            lines.push(format!(
                "{precision}: below {:.1} FLOP a byte memory limits, above it arithmetic",
                ridge.flop_per_byte()
            ));
        }
    }
    lines
}

fn floor(probe: &Probe) -> Vec<String> {
    let floor = &probe.floor;
    let time = |sample: Option<Sample>| {
        sample.map_or_else(
            || "not measured".to_owned(),
            |sample| format!("{} ({})", Seconds(sample.median), spread(sample)),
        )
    };
    vec![
        format!(
            "floor     clock step {}, reading it {}",
            Seconds(floor.timer_resolution_seconds),
            time(floor.timer_overhead_seconds)
        ),
        format!(
            "          thread start {}, wake {}",
            time(floor.thread_start_seconds),
            time(floor.thread_wake_seconds)
        ),
        format!("          process start {}", time(floor.process_start_seconds)),
        format!("          fsync {}", time(floor.fsync_seconds)),
    ]
}

/// Why these figures may not be the machine's.
pub fn doubts(probe: &Probe) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(share) = probe.other_processes.filter(|share| *share > BUSY) {
        doubts.push(format!(
            "note      other processes used {:.0} % of the processors meanwhile",
            share * 100.0
        ));
    }
    if let Some(share) = probe.steal.filter(|share| *share > STOLEN) {
        doubts.push(format!(
            "note      a hypervisor gave {:.0} % of the processors to others meanwhile",
            share * 100.0
        ));
    }
    let memory = probe.memory.iter().map(|one| one.bytes_per_second);
    let all = memory.chain(probe.compute.iter().map(|one| one.operations_per_second));
    let (wide, count) =
        all.fold((0, 0), |(wide, count), sample| (wide + usize::from(sample.spread() > WIDE), count + 1));
    if wide > 0 {
        doubts.push(format!(
            "note      {wide} of {count} rates scatter by more than {:.0} %: something else used this machine, or it is shared",
            WIDE * 100.0
        ));
    }
    doubts
}

/// What changed since an earlier probe.
pub fn changed(changes: &[Change], since: &str) -> Vec<String> {
    if changes.is_empty() {
        return vec![format!("changes   none since {since}, beyond what both scatter")];
    }
    let line = |change: &Change| {
        format!(
            "          {}: {:.3e} -> {:.3e}, x{:.2}",
            change.figure, change.before, change.now, change.ratio
        )
    };
    let mut lines = vec![format!("changes   since {since}, beyond what both scatter:")];
    lines.extend(changes.iter().take(12).map(line));
    if changes.len() > 12 {
        lines.push(format!("          and {} more; `--json` has all", changes.len() - 12));
    }
    lines
}

/// A probe of a machine that does not exist.
#[cfg(test)]
pub fn fixture() -> Probe {
    use sprag_measure::probe::{
        Arithmetic, Bandwidth, Cache, Effort, FORMAT, Floor, Presented, Product, Unit,
    };
    let sample = |median: f64| Sample { median, low: 0.98 * median, high: 1.02 * median, n: 5 };
    let rung = |bytes, nanoseconds: f64| Rung {
        bytes,
        latency_seconds: sample(nanoseconds * 1e-9),
        read_bytes_per_second: sample(64e9 / nanoseconds),
    };
    let facts = [("cpu", "Made up 9000"), ("usable_cores", "2"), ("memory_bytes", "17179869184")];
    let bandwidth =
        |transfer, threads, giga: f64| Bandwidth { transfer, threads, bytes_per_second: sample(giga * 1e9) };
    let peak = |precision: &str, unit, giga: f64| Arithmetic {
        precision: precision.to_owned(),
        unit,
        threads: 2,
        operations_per_second: sample(giga * 1e9),
    };
    Probe {
        format: FORMAT,
        at: "2026-03-21T17:04:09Z".to_owned(),
        seconds: 12.0,
        effort: Effort::Quick,
        machine: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        presented: Presented {
            clock_hz: Some(2.6e9),
            caches: vec![Cache { level: 1, bytes: 32 << 10, shared_by: 1 }],
        },
        clock_hz: Some([sample(3.7e9), sample(3.7e9)]),
        temperature_celsius: None,
        other_processes: Some(0.01),
        steal: Some(0.0),
        power: Power::NotReadable("this machine does not exist".to_owned()),
        energy: Energy::NotReadable("this machine does not exist".to_owned()),
        gpus: Gpus::None("this machine does not exist".to_owned()),
        neural_engine: None,
        floor: Floor {
            timer_resolution_seconds: 2e-8,
            timer_overhead_seconds: Some(sample(2e-8)),
            thread_start_seconds: Some(sample(2e-5)),
            thread_wake_seconds: Some(sample(5e-6)),
            process_start_seconds: Some(sample(1e-3)),
            fsync_seconds: None,
        },
        memory: vec![bandwidth(Transfer::Triad, 2, 30.0), bandwidth(Transfer::TriadPast, 2, 35.0)],
        ladder: vec![rung(4 << 10, 1.0), rung(32 << 10, 1.0), rung(256 << 10, 4.0), rung(64 << 20, 90.0)],
        compute: vec![peak("fp32", Unit::Avx512, 240.0), peak("bf16", Unit::Avx512Bf16, 480.0)],
        products: vec![Product {
            m: 1024,
            n: 1024,
            k: 1024,
            precision: "fp32".to_owned(),
            flop_per_second: sample(220e9),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_has_its_spread_and_what_is_unknown_says_so() {
        let text = lines(&fixture()).join("\n");
        for part in [
            "Made up 9000, 2 usable cores, 16.0 GiB",
            "3.70 GHz measured under load (±2 %, n=5), +0.0 % at the end, presented 2.60",
            "L1 32.0 KiB",
            "30.0 GB/s ±2 %, n=5",
            "40.0 GB/s",
            "the most that surely moved: 35.0 GB/s; Triad counts 86 % of that",
            "92 % of the peak",
            "fp32: below 6.9 FLOP a byte memory limits",
            "fsync not measured",
            "not readable: this machine does not exist",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("note"), "{text}");
    }

    #[test]
    fn a_machine_that_was_not_alone_is_doubted() {
        let mut probe = fixture();
        (probe.other_processes, probe.steal) = (Some(0.4), Some(0.1));
        probe.memory[0].bytes_per_second.low *= 0.5;
        let text = doubts(&probe).join("\n");
        for part in ["40 %", "10 % of the processors to others", "1 of 4 rates"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
