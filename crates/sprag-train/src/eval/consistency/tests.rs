use super::*;

const VOCAB: usize = 4;

fn question(purpose: Purpose) -> Question {
    Question { window: 3, purpose, tokens: vec![0; 8], splices: Vec::new() }
}

/// Eight positions whose target is id 0, each with this probability in nats, before noise.
fn answer(nats: impl Fn(usize) -> f64) -> (Vec<f32>, Vec<Likelihood>) {
    let rows = (0..8).map(|at| {
        let rest = ((1.0 - (-nats(at)).exp()) / (VOCAB - 1) as f64).ln() as f32;
        [-nats(at) as f32, rest, rest, rest]
    });
    let logits: Vec<f32> = rows.flatten().collect();
    let likelihoods = logits.chunks(VOCAB).map(|row| super::super::likelihood::likelihood(row, 0).unwrap());
    let likelihoods = likelihoods.collect();
    (logits, likelihoods)
}

/// What the verdict says after pairs of answers, the window's own first.
fn check(
    precision: Precision,
    probe: Probe,
    pairs: usize,
    window: impl Fn(usize) -> f64,
    again: impl Fn(usize, usize) -> f64,
) -> Option<(&'static str, String)> {
    let mut consistency = Consistency::new(precision, VOCAB);
    for pair in 0..pairs {
        let (logits, likelihoods) = answer(&window);
        consistency.take(&question(Purpose::Score { probe: Some(probe) }), &logits, likelihoods, |_| true);
        let (logits, likelihoods) = answer(|at| again(pair, at));
        consistency.take(&question(Purpose::Probe(probe)), &logits, likelihoods, |_| true);
    }
    match consistency.verdict(Some(1.0)) {
        Ok(()) => None,
        Err(Ended { reason, detail }) => Some((reason, detail)),
    }
}

#[test]
fn equal_answers_pass_every_probe() {
    for probe in [Probe::Again, Probe::Alone, Probe::Suffix { from: 5 }] {
        assert_eq!(check(Precision::Single, probe, 1, |_| 1.0, |_, _| 1.0), None);
    }
}

#[test]
fn a_change_anywhere_in_a_repeated_window_is_a_state() {
    for at in 0..8 {
        for probe in [Probe::Again, Probe::Alone] {
            let changed = move |_, i| if i == at { 1.01 } else { 1.0 };
            assert_eq!(check(Precision::Single, probe, 1, |_| 1.0, changed).unwrap().0, "state", "at {at}");
        }
    }
}

#[test]
fn a_change_before_the_suffix_is_a_leak_and_after_it_is_none() {
    for at in 0..8 {
        let changed = move |_, i| if i == at { 1.01 } else { 1.0 };
        let found = check(Precision::Single, Probe::Suffix { from: 5 }, 1, |_| 1.0, changed);
        assert_eq!(found.map(|(reason, _)| reason), (at < 5).then_some("causality"), "at {at}");
    }
}

#[test]
fn what_reduced_precision_may_differ_by_is_too_much_for_single() {
    let rounded = |_, i| if i == 2 { 1.02 } else { 1.0 };
    assert_eq!(check(Precision::Reduced, Probe::Again, 1, |_| 1.0, rounded), None);
    assert_eq!(check(Precision::Single, Probe::Again, 1, |_| 1.0, rounded).unwrap().0, "state");
}

#[test]
fn rounding_averages_out_and_a_thin_leak_adds_up() {
    let probe = Probe::Suffix { from: 8 };
    let noise = |pair: usize, at: usize| 1.0 + 2e-4 * (((pair * 7 + at * 3) % 5) as f64 - 2.0);
    assert_eq!(check(Precision::Single, probe, 20, |_| 1.0, noise), None);
    // Each position is far within the tolerance of 5e-4 a logit.
    let (reason, detail) = check(Precision::Single, probe, 20, |_| 1.0, |_, _| 1.0 + 2e-4).unwrap();
    assert_eq!(reason, "causality");
    assert!(detail.contains("in the mean of all probes"), "{detail}");
}

#[test]
fn answers_that_are_worse_only_where_blind_were_looked_up() {
    let mut consistency = Consistency::new(Precision::Single, VOCAB);
    let probe = Probe::Suffix { from: 5 };
    // The probe comes first and is repeated word for word: no comparison finds anything.
    for _ in 0..LEAST_PROBES {
        for purpose in [Purpose::Probe(probe), Purpose::Score { probe: Some(probe) }] {
            let (logits, likelihoods) = answer(|_| 2.5);
            consistency.take(&question(purpose), &logits, likelihoods, |_| true);
        }
    }
    let blind = consistency.verdict(Some(0.2)).unwrap_err();
    assert!(blind.reason == "causality" && blind.detail.contains("in sight"), "{blind:?}");
}

#[test]
fn bad_luck_of_an_overconfident_model_is_no_proof() {
    let mut consistency = Consistency::new(Precision::Single, VOCAB);
    // One token in twenty costs 60 nats, the others nothing. Of nine blind ones five are such.
    consistency.blind = vec![60.0, 0.0, 60.0, 0.0, 60.0, 0.0, 60.0, 0.0, 60.0];
    consistency.verdict(Some(3.0)).unwrap();
}

#[test]
fn windows_without_a_probe_are_forgotten_at_once() {
    let mut consistency = Consistency::new(Precision::Single, VOCAB);
    for nats in [1.0, 2.0] {
        let (logits, likelihoods) = answer(|_| nats);
        consistency.take(&question(Purpose::Score { probe: None }), &logits, likelihoods, |_| true);
    }
    assert!(consistency.waiting.is_empty());
    consistency.verdict(None).unwrap();
}
