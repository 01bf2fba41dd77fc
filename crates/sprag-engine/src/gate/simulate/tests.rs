//! The simulation, small enough for every build; the figures of the documentation come from the bench.

use super::*;

fn request(preset: Preset) -> Request {
    Request { policy: preset.policy(), draws: 600, seed: 3, rates: Vec::new() }
}

#[test]
fn a_balanced_policy_keeps_its_aims_per_candidate_and_per_audit() {
    for kind in [Kind::Gaussian, Kind::HeavyTailed] {
        let request = request(Preset::Balanced);
        let null = candidates(&kind, 0.0, &request, 1);
        assert!(null.kept <= 0.10 && null.runs <= 1.9, "{} kept, {} runs", null.kept, null.runs);
        assert!(candidates(&kind, 2.0, &request, 4).kept >= 0.80);
        assert!(candidates(&kind, 3.0, &request, 5).kept >= 0.96);
        let audited = audits(&kind, 0.0, &request, 2);
        assert!(audited.certified <= 0.01 && audited.n == request.draws, "{} certified", audited.certified);
        assert!(audits(&kind, 3.0, &request, 3).certified >= 0.8);
    }
}

#[test]
fn stricter_presets_keep_fewer_null_candidates() {
    let kept = |preset| candidates(&Kind::Gaussian, 0.0, &request(preset), 1).kept;
    assert!(kept(Preset::Strict) < kept(Preset::Balanced) && kept(Preset::Balanced) < kept(Preset::Explore));
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_one_others() {
    let play = |seed| {
        let policy = Preset::Balanced.policy();
        Campaign::play((Regime::Late, Spread::Exponential), &Kind::HeavyTailed, &policy, seed)
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2));
}

#[test]
fn without_statistics_the_end_is_reported_too_good_and_nothing_is_certified() {
    let request = Request { draws: 100, ..request(Preset::Naive) };
    let figures = study(&Kind::Gaussian, &request);
    assert!(figures.optimism_sigma > 1.0 && figures.optimism_sigma == figures.naive_optimism_sigma);
    for campaign in &figures.campaigns {
        assert_eq!((campaign.certified_gain_sigma, campaign.false_certified), (0.0, 0.0));
        assert!((campaign.tip_gain_sigma - campaign.naive_gain_sigma).abs() < 1e-12);
    }
}

#[test]
fn every_recorded_run_is_used_short_groups_joined() {
    let long: Vec<f64> = (0..30).map(|run| f64::from(run % 7)).collect();
    let short = vec![vec![5.0, 6.0, 7.0, 5.5]; 10];
    let windows = |groups: Vec<Vec<f64>>| {
        let mut count = 0;
        Kind::Recorded(groups).windows(10, 8, 0, 0, &mut |window| {
            assert!(window.calibration == 10 && window.sigma > 0.0);
            count += 1;
        });
        count
    };
    assert_eq!((windows(vec![long.clone()]), windows(short.clone())), (13, 23));
    assert_eq!(windows([vec![long], short].concat()), 36);
    assert_eq!(windows(vec![vec![1.0, 1.0, 1.0]; 20]), 0, "what has no spread is no noise");
}

#[test]
fn re_runs_are_read_in_time_order_and_what_is_wrong_is_named() {
    let text =
        "# a note\nval_bpb,group,order,other,tokens_per_second\n0.9,a,2,x,100\n\n0.8,a,1,y,\n0.7,b,1,z,90\n";
    let reruns = parse_reruns(text).unwrap();
    let groups = groups_of(&reruns);
    let scores: Vec<f64> = groups["a"].iter().map(|rerun| rerun.val_bpb).collect();
    assert_eq!((groups.len(), scores), (2, vec![0.8, 0.9]));
    assert_eq!((groups["a"][0].tokens_per_second, groups["a"][1].tokens_per_second), (None, Some(100.0)));
    assert_eq!(groups["b"][0].num_steps, None);
    for (text, line, word) in [
        ("", 1, "empty"),
        ("group,order\na,1\n", 1, "`val_bpb`"),
        ("group,order,val_bpb\na,1\n", 2, "2 columns"),
        ("group,order,val_bpb\na,1,0.9\na,2,nan\n", 3, "`nan`"),
        ("group,order,val_bpb\na,-1,0.9\n", 2, "negative"),
    ] {
        let error = parse_reruns(text).unwrap_err();
        assert!(error.line == line && error.to_string().contains(word), "{error}");
    }
}
