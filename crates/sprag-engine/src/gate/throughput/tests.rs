use super::study::uniform;
use super::*;

const UNIT: &str = "tokens_per_second";
/// Five repeats of a baseline on a quiet machine.
const QUIET: [f64; 5] = [25_100.0, 25_140.0, 25_090.0, 25_120.0, 25_070.0];

fn judged(own: &[f64], rate: f64) -> Judgement {
    judge(UNIT, Some(rate), None, &History { own, others: &[QUIET.to_vec()], loads: &[] })
}

fn kind(answer: &Answer) -> Option<FaultKind> {
    match answer {
        Answer::Fault(fault) => Some(fault.kind),
        Answer::Sound | Answer::CannotTell(_) => None,
    }
}

#[test]
fn a_dip_is_a_fault_and_the_line_says_how_deep() {
    let judgement = judged(&[1000.0, 1002.0, 999.0], 951.0);
    let Answer::Fault(fault) = judgement.answer else { panic!("{judgement:?}") };
    assert_eq!(
        (fault.kind, fault.to_string().as_str()),
        (FaultKind::Slow, "tokens/s 4.9 % below this code's other runs")
    );
    assert!(judgement.earlier.is_empty());
    assert_eq!(judged(&[1000.0, 1002.0, 999.0], 990.0).answer, Answer::Sound);
}

#[test]
fn two_earlier_runs_are_enough_on_a_machine_of_which_nothing_else_is_known() {
    let history = History { own: &[1000.0, 1001.0], ..History::default() };
    assert_eq!(kind(&judge(UNIT, Some(950.0), None, &history).answer), Some(FaultKind::Slow));
    assert_eq!(judge(UNIT, Some(1000.0), None, &history).answer, Answer::Sound);
}

#[test]
fn a_faster_run_is_never_a_fault() {
    for gain in [1.001, 1.03, 1.05, 1.5, 100.0] {
        for own in [&[1000.0][..], &[1000.0, 1001.0], &[1000.0, 1001.0, 999.0, 1000.0]] {
            let answer = judged(own, 1000.0 * gain).answer;
            assert_eq!(answer, Answer::Sound, "{gain} times as fast as {own:?}");
        }
    }
}

#[test]
fn slower_code_is_never_a_fault() {
    for factor in [0.95, 0.5, 0.01] {
        for runs in 0..4 {
            let own: Vec<f64> = QUIET[..runs].iter().map(|rate| factor * rate).collect();
            let judgement = judged(&own, factor * QUIET[runs]);
            assert_eq!((kind(&judgement.answer), judgement.earlier), (None, Vec::new()), "{factor} {runs}");
        }
    }
}

#[test]
fn a_bad_first_run_is_known_by_the_good_ones_after_it() {
    let second = judged(&[950.0], 1000.0);
    assert_eq!(second, Judgement { answer: Answer::Sound, earlier: vec![0] });
    let third = judged(&[950.0, 1000.0], 1001.0);
    assert_eq!(third, Judgement { answer: Answer::Sound, earlier: vec![0] });
    let dip = judged(&[950.0, 1000.0], 950.0);
    assert_eq!((kind(&dip.answer), dip.earlier), (Some(FaultKind::Slow), vec![0]));
}

#[test]
fn a_few_dips_do_not_spoil_the_reference() {
    let own = [1000.0, 1001.0, 950.0, 999.0, 1000.0, 948.0, 1000.0];
    let judgement = judged(&own, 951.0);
    assert_eq!((kind(&judgement.answer), judgement.earlier), (Some(FaultKind::Slow), vec![2, 5]));
    assert_eq!(judged(&own, 1000.0).answer, Answer::Sound);
}

#[test]
fn a_slow_drift_is_followed_and_a_dip_in_it_found() {
    let own: Vec<f64> = (0..40).map(|run| 1000.0 * 0.998_f64.powi(run)).collect();
    for runs in 2..own.len() {
        assert_eq!(kind(&judged(&own[..runs], own[runs]).answer), None, "run {runs}");
        let dip = judged(&own[..runs], 0.95 * own[runs]).answer;
        assert_eq!(kind(&dip), Some(FaultKind::Slow), "a dip in run {runs}");
    }
}

#[test]
fn a_speed_that_lasts_is_the_machines_new_one() {
    let mut own = vec![1000.0, 1001.0, 999.0];
    let kinds: Vec<Option<FaultKind>> = [950.0, 951.0, 949.0, 950.0]
        .into_iter()
        .map(|rate| {
            let answer = judged(&own, rate).answer;
            own.push(rate);
            kind(&answer)
        })
        .collect();
    assert_eq!(kinds, [Some(FaultKind::Slow), Some(FaultKind::Slow), None, None]);
    assert_eq!(kind(&judged(&own, 903.0).answer), Some(FaultKind::Slow));
}

#[test]
fn a_machine_that_scatters_widely_is_said_to_hide_a_dip() {
    let wide = [1000.0, 960.0, 1045.0, 985.0, 1030.0, 940.0, 1010.0, 1060.0, 970.0, 1000.0];
    let history = History { own: &wide, ..History::default() };
    let Answer::CannotTell(Unseen::TooWide { smallest }) = judge(UNIT, Some(955.0), None, &history).answer
    else {
        panic!("a drop within the scatter was told")
    };
    assert!(DIP < smallest && smallest < 0.3, "{smallest}");
    assert_eq!(kind(&judge(UNIT, Some(700.0), None, &history).answer), Some(FaultKind::Slow));
}

#[test]
fn a_first_run_has_only_the_load_to_speak_against_it() {
    let first = |load, loads: &[Load]| {
        let history = History { own: &[], others: &[QUIET.to_vec()], loads };
        judge(UNIT, Some(1.0), load, &history).answer
    };
    let load = |other_processes, steal| Load { other_processes, steal };
    assert_eq!(first(None, &[]), Answer::CannotTell(Unseen::NothingToCompare));
    assert_eq!(first(Some(load(0.01, 0.001)), &[]), Answer::CannotTell(Unseen::NothingToCompare));
    let Answer::Fault(busy) = first(Some(load(0.31, 0.0)), &[]) else { panic!("a busy machine is a fault") };
    assert_eq!(busy.kind, FaultKind::Busy);
    assert_eq!(busy.to_string(), "other processes used 31 % of the processors meanwhile");
    let Answer::Fault(stolen) = first(Some(load(0.0, 0.1)), &[]) else { panic!("stolen time is a fault") };
    assert_eq!(stolen.to_string(), "the hypervisor took 10 % of the processors meanwhile");
    // What is always so is not in the way of one execution more than of the others.
    let always = [load(0.3, 0.0), load(0.32, 0.0), load(0.29, 0.0)];
    assert_eq!(kind(&first(Some(load(0.31, 0.0)), &always)), None);
    assert_eq!(kind(&first(Some(load(0.6, 0.0)), &always)), Some(FaultKind::Busy));
}

#[test]
fn a_run_that_kept_its_pace_on_a_busy_machine_is_sound() {
    let history = History { own: &QUIET, ..History::default() };
    let busy = Load { other_processes: 0.4, steal: 0.0 };
    assert_eq!(judge(UNIT, Some(25_080.0), Some(busy), &history).answer, Answer::Sound);
    assert_eq!(kind(&judge(UNIT, None, Some(busy), &history).answer), Some(FaultKind::Busy));
}

#[test]
fn what_is_no_rate_counts_as_none() {
    for rate in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
        let history = History { own: &QUIET, ..History::default() };
        assert_eq!(judge(UNIT, rate, None, &history).answer, Answer::CannotTell(Unseen::NoRate), "{rate:?}");
    }
    let own = [f64::NAN, 950.0, 0.0, 1000.0];
    assert_eq!(judged(&own, 1001.0), Judgement { answer: Answer::Sound, earlier: vec![1] });
}

#[test]
fn the_load_is_read_from_facts_only_when_both_parts_are_there() {
    let mut facts = BTreeMap::from([(OTHER_PROCESSES.to_owned(), 0.25)]);
    assert_eq!(load(&facts), None);
    facts.insert(STEAL.to_owned(), 0.5);
    assert_eq!(load(&facts), Some(Load { other_processes: 0.25, steal: 0.5 }));
}

/// The promise: of drops of 5 % at least 95 % are found, and at most 1 % of the others are called faults,
/// whatever the noise looks like, as far as it leaves room for both.
#[test]
fn planted_dips_are_found_and_false_alarms_are_rare() {
    let drift = |run: usize| 0.02 * (run as f64 * std::f64::consts::TAU / 100.0).sin();
    for (name, sd, tails) in
        [("still", 0.001, false), ("usual", 0.005, false), ("loud", 0.009, false), ("tails", 0.006, true)]
    {
        let noise = if tails { student } else { normal };
        let mut tally = Tally::default();
        for seed in 0..12 {
            let mut random = seed;
            let mut run = 0;
            let mut arm = |speed: f64| -> Vec<f64> {
                let rate = |_| {
                    run += 1;
                    speed * (1.0 + drift(run) + sd * noise(&mut random))
                };
                (0..12).map(rate).collect()
            };
            let groups: Vec<Vec<f64>> = (1..=12).map(|speed| arm(f64::from(speed) * 1000.0)).collect();
            tally += study(&groups, Dips { depth: DIP, share: 0.05, seed, alone: false });
        }
        assert!(tally.found_share().is_some_and(|share| share >= POWER), "{name}: {tally:?}");
        assert!(tally.false_alarm_share().is_some_and(|share| share <= 0.01), "{name}: {tally:?}");
    }
}

/// By Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).
fn normal(random: &mut u64) -> f64 {
    (-2.0 * (1.0 - uniform(random)).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos()
}

/// Student's t with 3 degrees of freedom, scaled to a standard deviation of 1.
fn student(random: &mut u64) -> f64 {
    let squares: f64 = (0..3).map(|_| normal(random).powi(2)).sum();
    normal(random) / squares.sqrt()
}
