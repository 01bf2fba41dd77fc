//! The gate against an independent implementation: `tests/reference/gate_values.py` computed the stored values with
//! scipy.

use serde_json::Value;

use super::level::{Level, RECENT, STEP};
use super::tentative::{Evidence, Look, look};
use super::*;
use crate::record::Preset;

fn values() -> Value {
    serde_json::from_str(include_str!("../../tests/reference/gate_values.json")).unwrap()
}

fn cases(name: &str, least: usize) -> Vec<Value> {
    let cases = values()[name].as_array().unwrap().clone();
    assert!(cases.len() >= least, "{} cases of {name}", cases.len());
    cases
}

fn number(case: &Value, name: &str) -> f64 {
    case[name].as_f64().unwrap()
}

fn numbers(case: &Value) -> Vec<f64> {
    case.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect()
}

fn close(ours: f64, theirs: f64, scale: f64) {
    assert!((ours - theirs).abs() <= 1e-9 * scale.abs(), "{ours} is not {theirs}");
}

#[test]
fn looks_and_the_smallest_gain_agree() {
    for case in cases("looks", 20) {
        let noise = Noise { squares: number(&case, "squares"), freedom: number(&case, "freedom") };
        let incumbent = Level { mean: number(&case, "level"), variance: number(&case, "variance") };
        let (repeats, anchors) = (numbers(&case["repeats"]), numbers(&case["anchors"]));
        let screening = number(&case, "screening");
        let policy = Policy {
            alpha: number(&case, "alpha"),
            screen_z: number(&case, "screen_z"),
            max_repeats: number(&case, "max_repeats") as u32,
            ..Preset::Balanced.policy()
        };
        let evidence = Evidence { incumbent, noise, screening, repeats: &repeats, anchors: &anchors };
        let looked = look(&evidence, Direction::Lower, &policy).unwrap();
        let (Look::More(effect) | Look::Keep(effect) | Look::Drop(effect)) = looked;
        let [gain, low, high] = numbers(&case["effect"])[..] else { panic!("an effect has three numbers") };
        close(effect.gain, gain, 1.0);
        close(effect.low, low, 1.0);
        close(effect.high, high, 1.0);
        let better = |runs: &[f64]| mean(runs).is_none_or(|anchor| anchor > mean(&repeats).unwrap_or(anchor));
        if !repeats.is_empty() {
            let passes = number(&case, "statistic") >= number(&case, "quantile");
            assert_eq!(matches!(looked, Look::Keep(_)), passes && gain > 0.0 && better(&anchors), "{case}");
        }
        let found = detectable(noise, incumbent.variance, &policy, 0.8).unwrap();
        close(found, number(&case, "detectable"), found);
    }
}

#[test]
fn the_filter_is_the_least_squares_that_it_stands_for() {
    assert_eq!((STEP, RECENT), (0.75, 12), "as in the script");
    for case in cases("levels", 10) {
        let line: Vec<Vec<f64>> = case["line"].as_array().unwrap().iter().map(numbers).collect();
        let start = Level::of(&line[0]).unwrap();
        let level = line[1..].iter().fold(start, |level, runs| level.followed_by(runs));
        close(level.mean, number(&case, "mean"), 1.0);
        close(level.variance, number(&case, "variance"), 1.0);
    }
}

#[test]
fn the_parts_of_the_error_agree() {
    let gamma = numbers(&values()["gamma"]);
    for (number, expected) in (1..).zip(&gamma) {
        close(online::gamma(number), *expected, 1.0);
    }
}

#[test]
fn arms_that_were_executed_once_say_nothing_of_the_noise() {
    let noise = Noise::pooled([&[1.0, 3.0][..], &[7.0], &[], &[2.0, 2.0, 2.0]]);
    assert_eq!((noise.squares, noise.freedom), (2.0, 3.0));
    assert_eq!(Noise::pooled([&[1.0][..]]).sigma(), None);
    assert_eq!(baseline(&[1.0]), None);
    let Some(Verdict::Baseline { mean, sd, n }) = baseline(&[1.0, 3.0]) else {
        panic!("two runs have a spread")
    };
    assert_eq!((mean, sd, n), (2.0, 2f64.sqrt(), 2));
}
