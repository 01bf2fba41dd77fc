use std::collections::HashMap;

use super::super::tests::corpus::Counting;
use super::*;

const SEQ_LEN: u32 = 16;
const ROWS: usize = 8;

fn plan(count: u64, seed: u64) -> (Windows, Vec<Vec<Question>>) {
    let windows = Windows::draw(&Counting::default(), SEQ_LEN, count).unwrap();
    let probes = Probes::among(windows.len());
    let requests = requests(&windows, probes, ROWS, &mut PrivateRandom::from_seed(seed));
    (windows, requests)
}

#[test]
fn every_window_is_scored_exactly_once() {
    for count in [3, 4, 17, 256] {
        let (windows, requests) = plan(count, 5);
        let mut scored = vec![0; windows.len()];
        for question in requests.iter().flatten() {
            if let Purpose::Score { .. } = question.purpose {
                scored[question.window] += 1;
                assert_eq!(question.tokens, windows.inputs(question.window));
            }
        }
        assert_eq!(scored, vec![1; count as usize]);
    }
}

#[test]
fn every_probe_is_one_pair() {
    for count in [3, 17, 256] {
        let (_, requests) = plan(count, 6);
        let mut halves: HashMap<usize, Vec<Purpose>> = HashMap::new();
        for question in requests.iter().flatten().filter(|question| question.purpose.probe().is_some()) {
            halves.entry(question.window).or_default().push(question.purpose);
        }
        let Probes { suffix, again, alone } = Probes::among(count as usize);
        assert_eq!(halves.len(), suffix + again + alone);
        for pair in halves.values() {
            let [a, b] = pair[..] else { panic!("{pair:?}") };
            assert_eq!(a.probe(), b.probe());
            assert_ne!(a, b);
        }
    }
}

#[test]
fn false_suffixes_begin_where_they_say() {
    let (windows, requests) = plan(256, 7);
    for question in requests.iter().flatten() {
        let Purpose::Probe(Probe::Suffix { from }) = question.purpose else { continue };
        let inputs = windows.inputs(question.window);
        assert_eq!(question.tokens[..from], inputs[..from]);
        assert_ne!(question.tokens[from], inputs[from]);
        assert!(question.tokens.iter().all(|&id| (id as usize) < windows.vocab_size()));
    }
}

#[test]
fn half_of_the_false_suffixes_come_first() {
    let (_, requests) = plan(256, 10);
    let mut first = HashMap::new();
    for question in requests.iter().flatten() {
        if let Some(Probe::Suffix { .. }) = question.purpose.probe() {
            first.entry(question.window).or_insert(question.purpose);
        }
    }
    let blind = first.values().filter(|purpose| matches!(purpose, Purpose::Probe(_))).count();
    assert_eq!((blind, first.len()), (16, 32));
}

#[test]
fn probes_of_state_are_far_apart_or_alone() {
    let (_, requests) = plan(256, 8);
    for (at, request) in requests.iter().enumerate() {
        for question in request {
            match question.purpose {
                Purpose::Probe(Probe::Alone) => assert_eq!(request.len(), 1),
                Purpose::Probe(Probe::Again) => assert!(at > requests.len() / 2),
                Purpose::Score { probe: Some(Probe::Again) } => assert!(at < requests.len() / 2),
                _ => {}
            }
        }
    }
}

#[test]
fn requests_are_bounded_and_differ_in_size() {
    let (_, requests) = plan(256, 9);
    assert!(requests.iter().all(|request| (1..=ROWS).contains(&request.len())));
    let sizes: std::collections::HashSet<usize> = requests.iter().map(Vec::len).collect();
    assert!(sizes.len() > 2, "{sizes:?}");
}

#[test]
fn the_order_is_another_each_time() {
    let orders: Vec<u64> = (0..2).map(|_| PrivateRandom::from_system().next()).collect();
    assert_ne!(orders[0], orders[1]);
    assert_ne!(plan(64, 1).1, plan(64, 2).1);
}
