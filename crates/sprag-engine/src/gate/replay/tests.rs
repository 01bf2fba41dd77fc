//! A small record, made for this test, in the form of karpathy/autoresearch.

use super::*;

const RESULTS: &str = "\u{feff}# made by hand\r\n\
    \r\n\
    commit\tval_bpb\tmemory_gb\tstatus\tdescription\r\n\
    0000000\t9.9\t0.0\tdiscard\tscored before there was a baseline\r\n\
    a000000\t1.0000\t44.0\tkeep\tbaseline\r\n\
    a000001\t0.9900\t44.0\tkeep\ta large step\r\n\
    # a comment in between\r\n\
    a000002\t0.9910\t44.0\tdiscard\tnot better\r\n\
    a000003\t0.0000\t0.0\tcrash\tout of memory\r\n\
    a000004\t0.9898\t44.0\tkeep\ta small\tstep with a tab\r\n\
    a000005\t0.9899\t44.0\tkeep\tkept although it is worse\r\n\
    a000006\t0.9883\t44.1\tkeep\tbetween\r\n";

fn replay() -> Replay {
    Replay::of(&parse(RESULTS).unwrap()).unwrap()
}

#[test]
fn rows_are_read_with_their_line_numbers() {
    let results = parse(RESULTS).unwrap();
    assert_eq!(results.metric, "val_bpb");
    let lines: Vec<usize> = results.rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [4, 5, 6, 8, 9, 10, 11, 12]);
    assert_eq!(results.rows[4].status, Status::Crash);
    assert_eq!(
        (results.rows[5].description.as_str(), results.rows[5].kept()),
        ("a small\tstep with a tab", Some(0.9898))
    );
}

#[test]
fn what_is_written_is_read_again() {
    let row = |line, commit: &str, status, memory_gb, description: &str| Row {
        line,
        commit: commit.to_owned(),
        status,
        memory_gb,
        description: description.to_owned(),
    };
    let results = Results {
        metric: "val_bpb".to_owned(),
        rows: vec![
            row(2, "a000001", Status::Keep(0.987654), 44.3, "baseline"),
            row(3, "a000002", Status::Discard(1.5), 0.1, r"tab\tline\nback\\slash"),
            row(4, "a000003", Status::Crash, 0.0, "out of memory"),
        ],
    };
    let text = write(&results);
    assert_eq!(parse(&text).unwrap(), results_escaped(&results));
    assert_eq!(text.lines().next(), Some("commit\tval_bpb\tmemory_gb\tstatus\tdescription"));
    assert_eq!(text.lines().last(), Some("a000003\t0.000000\t0.0\tcrash\tout of memory"));
}

/// What comes back of a text with backslashes: the same, escaped once.
fn results_escaped(results: &Results) -> Results {
    let rows = results
        .rows
        .iter()
        .map(|row| Row { description: row.description.replace('\\', r"\\"), ..row.clone() });
    Results { metric: results.metric.clone(), rows: rows.collect() }
}

#[test]
fn a_text_with_tabs_and_lines_stays_one_row() {
    let row = Row {
        line: 2,
        commit: "#1".to_owned(),
        status: Status::Keep(1.0),
        memory_gb: 0.0,
        description: "a\tb\nc\r\n".to_owned(),
    };
    let text = write(&Results { metric: "loss".to_owned(), rows: vec![row] });
    let rows = parse(&text).unwrap().rows;
    assert_eq!((rows.len(), rows[0].description.as_str(), rows[0].commit.as_str()), (1, r"a\tb\nc", r"\#1"));
}

#[test]
fn what_is_wrong_is_named_with_line_column_and_next_step() {
    let header = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n";
    for (text, message, hint) in [
        ("", "there is no header: the text is empty", "separated by tabs"),
        ("# nothing\n\n", "there is no header: the text is empty", "separated by tabs"),
        (
            "commit,val_bpb,memory_gb,status,description\n",
            "line 1, column 1: the header says `commit,val_bpb,memory_gb,status,description` where `commit` is expected",
            "separated by tabs",
        ),
        (
            "#\ncommit\tval_bpb\tmemory_gb\n",
            "line 2, column 4: the header says `` where `status` is expected",
            "separated by tabs",
        ),
        (
            &format!("{header}a\t1.0\t2.0\n"),
            "line 2, column 4: `status` is missing; the line ends after column 3",
            "tabs",
        ),
        (
            &format!("{header}\na\tfast\t2.0\tkeep\tx\n"),
            "line 3, column 2 (val_bpb): `fast` is not a finite number",
            "0.973104",
        ),
        (
            &format!("{header}a\tNaN\t2.0\tdiscard\tx\n"),
            "line 2, column 2 (val_bpb): `NaN` is not a finite number",
            "crash",
        ),
        (
            &format!("{header}a\t1.0\t\tkeep\tx\n"),
            "line 2, column 3 (memory_gb): `` is not a finite number",
            "0.973104",
        ),
        (
            &format!("{header}a\t1.0\t2.0\tkept\tx\n"),
            "line 2, column 4 (status): `kept` is none of keep, discard, crash",
            "small letters",
        ),
        (
            &format!("{header}a\t1.0\t2.0\tdiscard\tx\n"),
            "no row was kept, so there is no baseline",
            "baseline",
        ),
        (header, "no row was kept, so there is no baseline", "baseline"),
    ] {
        let error = parse(text).and_then(|results| Replay::of(&results)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().contains(hint), "{message}: {}", error.hint());
    }
}

#[test]
fn a_crash_needs_no_number_and_counts_as_no_score() {
    let text = "commit\tloss\tmemory_gb\tstatus\tdescription\na\t1\t0\tkeep\t\nb\t-\t0\tcrash\tbroke\n";
    let replay = Replay::of(&parse(text).unwrap()).unwrap();
    assert_eq!((replay.rows, replay.crashed, replay.chance.scored), (2, 1, 1));
    assert_eq!((replay.chance.false_keeps, replay.metric.as_str()), (0.0, "loss"));
    assert_eq!(replay.at(0.1).below_share, None);
}

#[test]
fn gains_are_against_the_best_kept_before() {
    let replay = replay();
    assert_eq!((replay.rows, replay.kept, replay.discarded, replay.crashed), (8, 5, 2, 1));
    assert_eq!((replay.baseline, replay.best), (1.0, 0.9883));
    let gains: Vec<String> = replay.keeps.iter().map(|keep| format!("{:.4}", keep.gain)).collect();
    assert_eq!(gains, ["0.0100", "0.0002", "-0.0001", "0.0015"]);
    let positive: f64 = replay.keeps.iter().map(|keep| keep.gain.max(0.0)).sum();
    assert!((positive - replay.total_gain).abs() < 1e-12);
    assert_eq!((replay.keeps[0].row, replay.keeps[3].row), (3, 8));
    // What was scored before the baseline is no part of the chain.
    assert_eq!(replay.chance.scored, 6);
}

#[test]
fn a_keep_is_judged_by_the_noise_of_a_difference() {
    let judged = replay().at(0.001);
    let classes: Vec<Class> = judged.keeps.iter().map(|keep| keep.class).collect();
    assert_eq!(classes, [Class::ProvenByOnePair, Class::WithinNoise, Class::NoGain, Class::Unproven]);
    assert!((judged.one_pair_proves - 1.644_853_6 * 2f64.sqrt() * 0.001).abs() < 1e-9);
    assert_eq!(judged.below, 3);
    assert!((judged.below_share.unwrap() - 0.0017 / 0.0117).abs() < 1e-9);
    // (1.644854 + 0.841621)² = 6.182557; times 2 sigma² over the gain squared.
    let pairs: Vec<Option<u32>> = judged.keeps.iter().map(|keep| keep.pairs).collect();
    assert_eq!(pairs, [Some(1), Some(310), None, Some(6)]);
}

#[test]
fn the_number_of_pairs_is_what_finds_such_a_gain_with_that_power() {
    for gain in [0.3, 0.9, 2.0] {
        let pairs = judge(gain, 1.0).pairs.unwrap();
        let power = |pairs: u32| normal_cdf(gain * (f64::from(pairs) / 2.0).sqrt() - level());
        assert!(power(pairs) >= POWER && power(pairs - 1) < POWER, "{gain}: {pairs}");
    }
}

#[test]
fn chance_alone_agrees_with_tables_and_with_draws() {
    for (n, expect) in
        [(1, 0.0), (2, 0.564_189_583_5), (5, 1.162_964_473_6), (10, 1.538_752_730_8), (100, 2.507_593_6)]
    {
        assert!((expected_maximum(n) - expect).abs() < 1e-7, "{n}: {}", expected_maximum(n));
    }
    assert!((Chance::of(4).false_keeps - 13.0 / 12.0).abs() < 1e-12);
    // Chains of 50 equal runs.
    let mut seed = 1;
    let mut draw = || {
        seed = crate::session::split_mix(seed, 0);
        normal_quantile(((seed >> 11) as f64 + 0.5) / (1u64 << 53) as f64).unwrap()
    };
    let (mut keeps, mut best_sum, chains) = (0, 0.0, 1500);
    for _ in 0..chains {
        let mut best = draw();
        for _ in 1..50 {
            let value = draw();
            if value < best {
                best = value;
                keeps += 1;
            }
        }
        best_sum += best;
    }
    let chance = Chance::of(50);
    assert!((f64::from(keeps) / f64::from(chains) - chance.false_keeps).abs() < 0.15);
    assert!((-best_sum / f64::from(chains) - chance.optimism_sigmas).abs() < 0.05);
}
