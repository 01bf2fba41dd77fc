use super::*;

fn flat(value: f64) -> Sample {
    Sample { median: value, low: value, high: value, n: 1 }
}

#[test]
fn a_probe_of_this_machine_is_whole_and_nothing_beats_its_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    let multiply = |[m, n, k]: [u32; 3], precision: &str, _: Duration| {
        (precision == "fp32").then(|| f64::from(m) + f64::from(n) + f64::from(k))
    };
    let options =
        Options { effort: Effort::Quick, folder: folder.path().to_owned(), multiply: Some(&multiply) };
    let mut steps = Vec::new();
    let probe = probe(&options, &mut |step| steps.push(step.to_owned()));
    assert!(steps.len() >= 5, "{steps:?}");
    assert!(probe.best(Transfer::Read).is_some_and(|best| best.bytes_per_second.low > 1e8));
    assert!(probe.peak("fp32").is_some_and(|peak| peak > 1e8));
    assert!(probe.ladder.len() > 8 && probe.ladder.windows(2).all(|pair| pair[0].bytes < pair[1].bytes));
    let (first, last) = (&probe.ladder[0], probe.ladder.last().unwrap());
    assert!(first.latency_seconds.median < last.latency_seconds.median);
    assert!(probe.floor.fsync_seconds.is_some() && probe.floor.process_start_seconds.is_some());
    assert_eq!(probe.products.iter().map(|one| one.precision.as_str()).collect::<Vec<_>>(), ["fp32", "fp32"]);
    let ridge = probe.ridge("fp32").unwrap();
    for intensity in [0.01, 1.0, 1e4] {
        assert!(ridge.at(intensity) <= ridge.flop_per_second);
        assert!(ridge.at(intensity) <= ridge.bytes_per_second * intensity);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on the disk");
    // Kept and read again, it is the same.
    let text = serde_json::to_string(&probe).unwrap();
    assert_eq!(serde_json::from_str::<Probe>(&text).unwrap(), probe);
}

#[test]
fn what_is_counted_and_what_moves_are_told_apart() {
    let bandwidth = |transfer, value| Bandwidth { transfer, threads: 1, bytes_per_second: flat(value) };
    assert_eq!([Transfer::Triad.traffic(), Transfer::TriadPast.traffic()], [4.0 / 3.0, 1.0]);
    let one = bandwidth(Transfer::Triad, 30.0);
    let other = bandwidth(Transfer::TriadPast, 35.0);
    let moved = [one, other].map(|one| one.bytes_per_second.median * one.transfer.traffic());
    assert!(moved[0] > moved[1], "the slower one moves more");
    assert_eq!((flat(2.0).times(3.0).median, flat(2.0).spread()), (6.0, 0.0));
}
