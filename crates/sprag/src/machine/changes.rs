//! What differs between two probes of one machine, by more than both of them scatter.

use std::collections::BTreeMap;

use sprag_measure::probe::{Probe, Sample};

/// One figure that changed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Change {
    /// What.
    pub figure: String,
    /// Before.
    pub before: f64,
    /// Now.
    pub now: f64,
    /// Now over before.
    pub ratio: f64,
}

/// Figures whose ranges do not overlap, the largest changes first.
pub fn changes(before: &Probe, now: &Probe) -> Vec<Change> {
    let (earlier, later) = (figures(before), figures(now));
    let mut changes: Vec<Change> = later
        .into_iter()
        .filter_map(|(figure, now)| {
            let before = *earlier.get(&figure)?;
            let apart = now.low > before.high || now.high < before.low;
            let ratio = now.median / before.median;
            // Ranges of few goes miss the other's by chance, a little.
            (apart && (ratio - 1.0).abs() > 0.02).then_some(Change {
                figure,
                before: before.median,
                now: now.median,
                ratio,
            })
        })
        .collect();
    changes.sort_by(|a, b| b.ratio.ln().abs().total_cmp(&a.ratio.ln().abs()));
    changes
}

fn figures(probe: &Probe) -> BTreeMap<String, Sample> {
    let mut figures = BTreeMap::new();
    for one in &probe.memory {
        figures.insert(
            format!("{} on {} threads, bytes/s", one.transfer.word(), one.threads),
            one.bytes_per_second,
        );
    }
    for one in &probe.compute {
        let name = format!("{} {} on {} threads, operations/s", one.precision, one.unit.word(), one.threads);
        figures.insert(name, one.operations_per_second);
    }
    for one in &probe.products {
        let name = format!("{} product {}x{}x{}, operations/s", one.precision, one.m, one.n, one.k);
        figures.insert(name, one.flop_per_second);
    }
    for rung in &probe.ladder {
        figures.insert(format!("latency over {} bytes, s", rung.bytes), rung.latency_seconds);
    }
    let floor = &probe.floor;
    for (name, sample) in [
        ("thread start, s", floor.thread_start_seconds),
        ("thread wake, s", floor.thread_wake_seconds),
        ("process start, s", floor.process_start_seconds),
        ("fsync, s", floor.fsync_seconds),
    ] {
        figures.extend(sample.map(|sample| (name.to_owned(), sample)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::super::words::fixture;
    use super::*;

    #[test]
    fn only_what_lies_apart_has_changed() {
        let before = fixture();
        assert_eq!(changes(&before, &before), []);
        let mut now = before.clone();
        now.memory[0].bytes_per_second = now.memory[0].bytes_per_second.times(0.5);
        // Within what both scatter.
        now.compute[0].operations_per_second.median *= 1.01;
        let found = changes(&before, &now);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((found[0].ratio - 0.5).abs() < 1e-9 && found[0].figure.contains("threads"));
    }
}
