//! How several proposers share the trials of a run. Pure: the same ledger gives the same choice.

use std::collections::BTreeMap;

use sprag_measure::stats::chi_squared_quantile;

use crate::memory::{Yield, borne_out, yields};
use crate::record::Mix;
use crate::state::State;

impl Mix {
    /// Which of these proposes next; 0 where there is none to choose.
    pub fn choose(&self, proposers: &[&str], state: &State) -> usize {
        match self {
            Mix::Weights(weights) => by_weight(proposers, weights, state),
            Mix::Bandit { usd_per_hour } => by_gain(proposers, *usd_per_hour, state),
        }
    }
}

/// The one that is furthest behind its share of the trials since the run was begun or resumed, the first of equals
/// (the divisor method of Jefferson, as it hands out seats one by one).
fn by_weight(proposers: &[&str], weights: &BTreeMap<String, f64>, state: &State) -> usize {
    let since = state.trials.get(state.trials_at_resume..).unwrap_or_default();
    let turn = |name: &str| {
        let had = since.iter().filter(|trial| trial.proposer == name && trial.again.is_none()).count();
        (had as f64 + 1.0) / weights.get(name).copied().unwrap_or(1.0)
    };
    least(proposers.iter().map(|name| turn(name)))
}

/// Bayes-UCB (Kaufmann, Cappé, Garivier 2012, "On Bayesian upper confidence bounds for bandit problems") on rates: gain
/// comes at a rate per cost, whose posterior is a gamma distribution. A sigma of gain counts as one event; what no audit
/// was asked about yet counts by the share that audits bore out so far. The prior is one event for the cost of one
/// trial, so everybody is asked, and who costs more must bring more. The one with the highest quantile 1 - 1/t is asked.
fn by_gain(proposers: &[&str], usd_per_hour: f64, state: &State) -> usize {
    let yields = yields(state);
    let known = |name: &str| yields.iter().find(|one| one.proposer == name);
    let tried: u32 = yields.iter().map(|one| one.tried).sum();
    let costs: f64 = yields.iter().map(|one| one.cost(usd_per_hour)).sum();
    let one_trial = if costs > 0.0 { costs / f64::from(tried.max(1)) } else { 1.0 };
    let share = borne_out(state);
    let behind = |name: &str| {
        let nothing = Yield::default();
        let one = known(name).unwrap_or(&nothing);
        if one.tried == 0 {
            return f64::NEG_INFINITY;
        }
        let events = 1.0 + one.certified_gain_sigmas + share * one.tentative_gain_sigmas;
        let p = 1.0 - 1.0 / (f64::from(tried) + 1.0);
        // A gamma quantile is half a chi-squared one of twice the shape.
        let quantile = chi_squared_quantile(p, 2.0 * events).unwrap_or(2.0 * events) / 2.0;
        // What is under way has its cost before it.
        let cost = one.cost(usd_per_hour) + f64::from(one.open) * one_trial;
        -quantile / (one_trial + cost)
    };
    least(proposers.iter().map(|name| behind(name)))
}

fn least(values: impl Iterator<Item = f64>) -> usize {
    values.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Asked, AuditEnd, Effect, Invalid, Reason, Record, Spending, Verdict};
    use crate::session::split_mix;

    /// A run in which each proposer finds a sigma with its chance, an asking costs what it costs, and every fifth keep
    /// is followed by an audit that bears it out.
    fn campaign(mix: &Mix, proposers: &[(&str, f64, f64)], trials: u32) -> State {
        let names: Vec<&str> = proposers.iter().map(|(name, ..)| *name).collect();
        let mut state = State::default();
        let mut random = 7;
        let mut keeps = 0;
        let start = |trial, proposer: &str| Record::TrialStarted {
            trial,
            proposer: proposer.into(),
            parent: "c".into(),
            again: None,
            heat: None,
        };
        state.apply("", &start(0, "baseline"));
        let verdict = Verdict::Baseline { mean: 1.0, sd: 0.1, n: 5 };
        state.apply("", &Record::Decided { trial: 0, verdict, reason: String::new() });
        for trial in 1..=trials {
            let (name, chance, usd) = proposers[mix.choose(&names, &state)];
            state.apply("", &start(trial, name));
            let spending = Spending { usd: Some(usd), ..Spending::default() };
            state.apply(
                "",
                &Record::Asked(Asked { trial, proposer: name.into(), spending, end: "proposed".into() }),
            );
            random = split_mix(random, 1);
            let wins = (random >> 11) as f64 / (1u64 << 53) as f64 <= chance;
            let effect = Effect { gain: 0.2, low: 0.1, high: 0.3, runs: 2, sigma: 0.1 };
            let verdict = match wins {
                true => Verdict::Win(effect),
                false => Verdict::Invalid(Invalid::new(Reason::Crash, "x")),
            };
            state.apply("", &Record::Decided { trial, verdict, reason: String::new() });
            if !wins {
                continue;
            }
            state.apply("", &Record::Advanced { trial, to: "t".into() });
            keeps += 1;
            if keeps % 5 == 0 {
                let audit = keeps / 5;
                let against = state.certified.unwrap();
                state.apply("", &Record::AuditStarted { audit, tip: trial, against, keeps: 5, level: 0.01 });
                let (end, reason) = (AuditEnd::Certified, String::new());
                state.apply(
                    "",
                    &Record::Audited {
                        audit,
                        end,
                        e_value: 200.0,
                        effect: Some(effect),
                        holdout: None,
                        gave_up: false,
                        reason,
                    },
                );
            }
        }
        state
    }

    fn tried(state: &State) -> BTreeMap<String, u32> {
        yields(state).into_iter().map(|one| (one.proposer, one.tried)).collect()
    }

    #[test]
    fn weights_share_the_trials_and_equal_ones_take_turns() {
        let mix = Mix::Weights(BTreeMap::from([("a".to_owned(), 2.0)]));
        let state = campaign(&mix, &[("a", 0.0, 0.0), ("b", 0.0, 0.0)], 9);
        let order: String = state.trials[1..].iter().map(|trial| trial.proposer.as_str()).collect();
        assert_eq!(order, "aabaabaab");
        let state = campaign(&Mix::default(), &[("a", 0.0, 0.0), ("b", 0.0, 0.0)], 4);
        let order: String = state.trials[1..].iter().map(|trial| trial.proposer.as_str()).collect();
        assert_eq!(order, "abab");
    }

    #[test]
    fn the_bandit_asks_who_brings_more_for_the_cost() {
        let mix = Mix::Bandit { usd_per_hour: 1.0 };
        let tried =
            tried(&campaign(&mix, &[("dull", 0.02, 0.1), ("keen", 0.3, 0.1), ("dear", 0.4, 0.4)], 200));
        assert!(tried["keen"] > 120 && tried["dull"] < 60 && tried["dear"] < 30, "{tried:?}");
        assert!(tried["dear"] > 1, "nobody is given up for good: {tried:?}");
    }

    #[test]
    fn where_nothing_is_found_the_bandit_shares_the_cost_evenly() {
        let mix = Mix::Bandit { usd_per_hour: 1.0 };
        let state = campaign(&mix, &[("cheap", 0.0, 0.1), ("dear", 0.0, 1.0)], 110);
        let costs: Vec<f64> = yields(&state).iter().map(|one| one.cost(1.0)).collect();
        assert!((costs[0] / costs[1] - 1.0).abs() < 0.2, "{costs:?}");
    }

    #[test]
    fn yields_tell_apart_what_is_certified_and_what_is_not_yet() {
        let state = campaign(&Mix::default(), &[("a", 1.0, 0.5)], 7);
        let all = yields(&state);
        let one = &all[0];
        assert_eq!((one.tried, one.kept, one.certified, one.invalid), (7, 7, 5, 0));
        assert!(
            (one.certified_gain_sigmas - 5.0).abs() < 1e-9 && (one.tentative_gain_sigmas - 2.0).abs() < 1e-9
        );
        assert_eq!((one.spending.usd, one.cost(1.0)), (Some(3.5), 3.5));
        assert!((borne_out(&state) - 6.0 / 7.0).abs() < 1e-9);
    }
}
