//! Records made for these tests, in the forms of other loops.

use std::collections::BTreeMap;

use super::*;
use crate::record::{Effect, Invalid, Measure, Outcome, Proposed, Purpose, Record, Score};

const TSV: &str = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n\
    a000001\t1.200000\t3.0\tkeep\tbaseline\n\
    a000002\t1.300000\t3.0\tdiscard\twider\n\
    a000003\t0.000000\t0.0\tcrash\tdeeper\n";

const LOG: &str = concat!(
    r#"{"type":"config","name":"x","metricName":"total_ms","bestDirection":"lower"}"#,
    "\n\n",
    r#"{"type":"hook","stage":"before","exit_code":0}"#,
    "\n",
    r#"{"run":1,"commit":"b000001","metric":15.5,"status":"keep","description":"baseline"}"#,
    "\n",
    r#"{"run":2,"commit":"b000002","metric":12,"status":"checks_failed","description":"skip a step"}"#,
    "\n",
    r#"{"run":3,"commit":"b000003","metric":0,"status":"crash","description":"threads"}"#,
    "\n",
);

#[test]
fn both_forms_are_read() {
    let tsv = read("results.tsv", TSV).unwrap();
    let kinds: Vec<(Status, Option<f64>)> =
        tsv.entries.iter().map(|entry| (entry.status, entry.score)).collect();
    assert_eq!(tsv.metric, "val_bpb");
    assert_eq!(kinds, [(Status::Keep, Some(1.2)), (Status::Discard, Some(1.3)), (Status::Crash, None)]);
    let log = read("log.jsonl", LOG).unwrap();
    let kinds: Vec<(Status, Option<f64>)> =
        log.entries.iter().map(|entry| (entry.status, entry.score)).collect();
    assert_eq!(log.metric, "total_ms");
    assert_eq!(
        kinds,
        [(Status::Keep, Some(15.5)), (Status::ChecksFailed, Some(12.0)), (Status::Crash, None)]
    );
}

#[test]
fn what_is_no_record_is_refused_with_its_line() {
    for (text, message) in [
        ("{\"run\":1}\nnonsense\n", "line 2: "),
        ("{\"type\":\"config\"}\n", "no line records an experiment"),
        ("a,b,c\n", "the header says"),
        ("", "there is no header"),
    ] {
        let error = read("x", text).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn what_was_stored_is_told_row_by_row_and_replaced_by_name() {
    let task = tempfile::tempdir().unwrap();
    assert_eq!(rows(task.path()), [""; 0]);
    let mut foreign = read("results.tsv", TSV).unwrap();
    store(task.path(), &foreign).unwrap();
    let told = rows(task.path());
    assert!(told.contains(&"keep val_bpb 1.200000: baseline (results.tsv)".to_owned()), "{told:?}");
    assert!(told.contains(&"crash: deeper (results.tsv)".to_owned()), "{told:?}");
    // The same source again replaces what it said before.
    foreign.entries.truncate(1);
    store(task.path(), &foreign).unwrap();
    assert_eq!(stored(task.path()), [foreign]);
}

#[test]
fn a_brief_keeps_what_was_kept_and_the_newest_of_the_rest() {
    let entry = |number: usize| Entry {
        commit: String::new(),
        status: if number < 3 { Status::Keep } else { Status::Discard },
        score: Some(number as f64),
        description: format!("idea {number}"),
    };
    let entries: Vec<Entry> = (0..40).map(entry).collect();
    let numbers: Vec<f64> = shown(&entries).iter().filter_map(|entry| entry.score).collect();
    assert_eq!(numbers.len(), SHOWN);
    assert_eq!(numbers[..4], [2.0, 1.0, 0.0, 39.0]);
    assert_eq!(numbers.last(), Some(&19.0));
}

fn scored(measure: u32, arm: TrialId, value: f64) -> [Record; 2] {
    let facts = BTreeMap::from([("peak_memory_bytes".to_owned(), 1.5 * 1024f64.powi(3))]);
    let outcome = Outcome::Scored(Score { value, facts, ..Score::default() });
    let measure = Measure {
        measure,
        trial: arm,
        arm,
        seed: u64::from(measure),
        purpose: Purpose::Screen,
        budget: None,
    };
    [Record::MeasureStarted(measure.clone()), Record::Measured { measure, outcome, seconds: 1.0 }]
}

fn begun(trial: TrialId, title: &str) -> [Record; 2] {
    let started = Record::TrialStarted {
        trial,
        proposer: "p".into(),
        parent: "0123456789abcdef".into(),
        again: None,
        heat: None,
    };
    let proposed = Proposed {
        trial,
        attempt: 0,
        commit: format!("c{trial}00000000"),
        title: title.to_owned(),
        hypothesis: None,
        family: None,
        idea: None,
        expected_gain: None,
        near: None,
        content: title.to_owned(),
        paths: Vec::new(),
        insertions: 1,
        deletions: 1,
    };
    [started, Record::Proposed(proposed)]
}

fn decided(trial: TrialId, verdict: Verdict) -> Record {
    Record::Decided { trial, verdict, reason: String::new() }
}

#[test]
fn a_run_becomes_rows_that_the_reader_takes_back() {
    let effect = Effect { gain: 0.1, low: 0.0, high: 0.2, runs: 2, sigma: 0.05 };
    let invalid = |reason| Verdict::Invalid(Invalid::new(reason, ""));
    let records = [
        vec![Record::RunStarted(Box::default())],
        vec![begun(0, "baseline")[0].clone()],
        scored(1, 0, 1.0).to_vec(),
        scored(2, 0, 1.25).to_vec(),
        vec![decided(0, Verdict::Baseline { mean: 1.125, sd: 0.1, n: 2 })],
        begun(1, "a tab\there").to_vec(),
        scored(3, 1, 0.5).to_vec(),
        vec![
            decided(1, Verdict::Win(effect)),
            Record::AdvanceStarted { trial: 1, from: "0123456789abcdef".into(), to: "c100000000".into() },
        ],
        vec![Record::Advanced { trial: 1, to: "c100000000".into() }],
        begun(2, "worse").to_vec(),
        scored(4, 2, 2.0).to_vec(),
        vec![decided(2, Verdict::Loss(effect))],
        begun(3, "crashes").to_vec(),
        vec![decided(3, invalid(Reason::Crash))],
        begun(4, "seen before").to_vec(),
        vec![decided(4, invalid(Reason::Duplicate))],
        begun(5, "open").to_vec(),
    ];
    let state = State::fold(records.iter().flatten().map(|record| ("", record)));
    let exported = export("loss", &state);
    assert_eq!(exported.left_out, [4, 5]);
    let text = tsv(&exported.results);
    let expected = "commit\tloss\tmemory_gb\tstatus\tdescription\n\
        0123456\t1.125000\t1.5\tkeep\tbaseline\n\
        c100000\t0.500000\t1.5\tkeep\ta tab\\there\n\
        c200000\t2.000000\t1.5\tdiscard\tworse\n\
        c300000\t0.000000\t0.0\tcrash\tcrashes\n";
    assert_eq!(text, expected);
    let again = read("results.tsv", &text).unwrap();
    let scores: Vec<Option<f64>> = again.entries.iter().map(|entry| entry.score).collect();
    assert_eq!(scores, [Some(1.125), Some(0.5), Some(2.0), None]);
    assert_eq!(replay::parse(&text).unwrap().rows.len(), 4);
}
