//! From state to page: levels, intervals, shares of time, means of facts.

use std::collections::BTreeMap;

use sprag_engine::record::{
    Budget, Direction, Effect, Outcome, Policy, Preset, Purpose, Reason, Score, TrialId, Verdict,
};
use sprag_engine::state::{Audit, Run, State, Trial};
use sprag_engine::{gate, memory, session};
use sprag_measure::clock;
use sprag_measure::stats::{self, Interval};

use super::{
    AuditView, Counts, Curve, DETECTABLE_POWER, EffectView, Estimate, Extras, FORMAT, FactView, Headline,
    Mark, MeasurementView, Noise, Page, Repeat, Scoring, Standing, TimeSplit, TrialView,
};
use crate::numbers;

/// Derives the page; `None` before the run has a frame.
pub fn page(state: &State, extras: Extras) -> Option<Page> {
    let run = state.run.clone()?;
    let levels = Levels::of(state);
    let mut diffs = extras.diffs;
    let trials: Vec<TrialView> =
        state.trials.iter().map(|trial| trial_view(state, trial, &levels, diffs.remove(&trial.id))).collect();
    let noise = noise(state);
    let sigma = noise.as_ref().and_then(|noise| noise.score.sd);
    Some(Page {
        format: FORMAT,
        decimals: numbers::decimals(sigma),
        headline: headline(state, &run.policy),
        noise,
        certified: state.certified,
        tentative: state.uncertified().len(),
        audits: state.audits.iter().map(audit_view).collect(),
        expected_false_certifications: state
            .audits
            .iter()
            .filter(|audit| audit.end.is_some())
            .map(|audit| audit.level)
            .sum(),
        holdout: state.holdout,
        holdout_queries: state.holdout_queries(),
        disturbed: disturbed(state),
        families: memory::families(state),
        yields: memory::yields(state),
        predictions: predictions(state),
        plateau: memory::plateau(state),
        spent: state.spent,
        self_reported: state.runs().filter_map(Run::score).any(|score| score.self_reported),
        early_stops: state.early_stops(),
        counts: counts(state),
        time: time_split(state),
        scoring: scoring(state, run.budget),
        trials,
        task: run.task,
        run: run.run,
        metric: run.metric,
        direction: run.direction,
        budget: run.budget,
        policy: run.policy,
        seed: run.seed,
        proposers: run.proposers,
        sprag_version: run.sprag_version,
        made_by: extras.sprag_version,
        generated_at: extras.generated_at,
        started_at: state.started_at.clone().unwrap_or_default(),
        updated_at: state.updated_at.clone().unwrap_or_default(),
        finished: state.finished.clone(),
        resumed: state.resumed,
        repaired: state.repaired,
        base: run.base,
        task_sha256: run.task_sha256,
        fixed_sha256: run.fixed_sha256,
        machine: run.machine,
        sandbox: run.sandbox,
        sandbox_missing: run.sandbox_missing,
        data: extras.data,
        reproduce: extras.reproduce,
    })
}

/// Where each kept code stands on the metric's axis, by the same rule as the headline. Gains that were added up
/// would be too good: each is of a candidate that was kept because it looked good.
struct Levels {
    of: BTreeMap<TrialId, (f64, Option<Interval>)>,
    sign: f64,
}

impl Levels {
    fn of(state: &State) -> Levels {
        // A gain moves the level down when lower is better.
        let sign = if state.direction() == Direction::Lower { -1.0 } else { 1.0 };
        let naive = state.run.as_ref().is_some_and(|run| run.policy.preset == Preset::Naive);
        let freedom = session::noise(state).freedom;
        let confidence = 1.0 - 2.0 * alpha(state);
        let mut of = BTreeMap::new();
        for trial in &state.trials {
            let runs = state.scores_of(trial.id).len();
            let level = match &trial.verdict {
                Some(Verdict::Baseline { mean, sd, n }) => {
                    let n = f64::from(*n);
                    let interval = stats::interval(*mean, sd / n.sqrt(), n - 1.0, confidence, n as usize);
                    Some((*mean, interval))
                }
                Some(Verdict::Win(_)) if naive => {
                    let scores: Vec<f64> =
                        state.scores_of(trial.id).into_iter().map(|(_, value)| value).collect();
                    stats::mean(&scores).map(|mean| (mean, None))
                }
                Some(Verdict::Win(_)) => {
                    standing(state, trial.id).map(|Standing { mean, standard_error }| {
                        (mean, stats::interval(mean, standard_error, freedom, confidence, runs))
                    })
                }
                _ => None,
            };
            if let Some(level) = level {
                of.insert(trial.id, level);
            }
        }
        Levels { of, sign }
    }

    fn get(&self, trial: Option<TrialId>) -> Option<f64> {
        self.of.get(&trial?).map(|(mean, _)| *mean)
    }

    fn moved(&self, parent: Option<TrialId>, gain: f64) -> Option<f64> {
        Some(self.get(parent)? + self.sign * gain)
    }

    /// Of kept code where it stands; of other code its incumbent's level, moved by what it was measured to gain.
    fn place(&self, trial: &Trial) -> (Option<f64>, Option<[f64; 2]>) {
        if let Some((mean, interval)) = self.of.get(&trial.id) {
            return (Some(*mean), interval.map(|interval| [interval.low, interval.high]));
        }
        let Some(effect) = trial.effect() else { return (None, None) };
        let ends = [effect.low, effect.high].map(|gain| self.moved(trial.parent_trial, gain));
        let interval = match ends {
            [Some(one), Some(other)] => Some([one.min(other), one.max(other)]),
            _ => None,
        };
        (self.moved(trial.parent_trial, effect.gain), interval)
    }
}

fn trial_view(state: &State, trial: &Trial, levels: &Levels, diff: Option<String>) -> TrialView {
    let proposed = trial.proposed.as_ref();
    let effect = trial.effect();
    let (level, level_interval) = levels.place(trial);
    TrialView {
        id: trial.id,
        mark: Mark::of(trial),
        title: if trial.id == 0 { "the code as it was".to_owned() } else { trial.title().to_owned() },
        hypothesis: proposed.and_then(|proposed| proposed.hypothesis.clone()),
        family: proposed.and_then(|proposed| proposed.family.clone()),
        proposer: trial.proposer.clone(),
        reason: trial.reason.clone(),
        invalid: match &trial.verdict {
            Some(Verdict::Invalid(invalid)) => Some((invalid.reason.to_string(), invalid.detail.clone())),
            _ => None,
        },
        commit: proposed.map(|proposed| proposed.commit.clone()),
        parent_trial: trial.parent_trial,
        paths: proposed.map(|proposed| proposed.paths.clone()).unwrap_or_default(),
        insertions: proposed.map_or(0, |proposed| proposed.insertions),
        deletions: proposed.map_or(0, |proposed| proposed.deletions),
        effect: effect.map(effect_view),
        raced: match &trial.verdict {
            Some(Verdict::Raced(raced)) => Some(*raced),
            _ => None,
        },
        level,
        level_interval,
        incumbent_level: levels.get(trial.parent_trial),
        second: session::second(state, trial),
        build_seconds: trial.builds.iter().map(|build| build.seconds).sum(),
        builds: trial.builds.len(),
        build_error: trial.builds.last().and_then(|build| build.error.clone()),
        run_seconds: trial.runs.iter().map(|run| run.seconds).sum(),
        measurements: trial.runs.iter().map(measurement_view).collect(),
        curves: curves(state, trial),
        facts: facts(trial),
        diff,
        started_at: trial.started_at.clone(),
        decided_at: trial.decided_at.clone(),
    }
}

fn effect_view(effect: Effect) -> EffectView {
    EffectView {
        gain: effect.gain,
        low: effect.low,
        high: effect.high,
        runs: effect.runs,
        sigma: effect.sigma,
        sigmas: (effect.sigma > 0.0).then(|| effect.gain / effect.sigma),
    }
}

fn audit_view(audit: &Audit) -> AuditView {
    AuditView {
        id: audit.id,
        tip: audit.tip,
        against: audit.against,
        keeps: audit.keeps,
        level: audit.level,
        end: audit.end,
        e_value: audit.e_value,
        effect: audit.effect.map(effect_view),
        reason: audit.reason.clone(),
    }
}

/// All together first, then each proposer where there are several.
fn predictions(state: &State) -> Vec<memory::Predictions> {
    let each = memory::predictions_by_proposer(state);
    let each = if each.len() > 1 { each } else { Vec::new() };
    memory::predictions(state).into_iter().chain(each).collect()
}

fn disturbed(state: &State) -> usize {
    state.runs().filter_map(Run::invalid).filter(|invalid| invalid.reason == Reason::Machine).count()
}

fn measurement_view(run: &Run) -> MeasurementView {
    let (outcome, detail, score): (String, Option<String>, Option<&Score>) = match &run.outcome {
        None => ("not finished".to_owned(), None, None),
        Some(Outcome::Passed) => ("passed".to_owned(), None, None),
        Some(Outcome::Interrupted) => ("interrupted".to_owned(), None, None),
        Some(Outcome::Stopped(stopped)) => ("stopped early".to_owned(), Some(stopped.detail.clone()), None),
        Some(Outcome::Invalid(invalid)) => {
            (format!("invalid: {}", invalid.reason), Some(invalid.detail.clone()), None)
        }
        // What the sealed holdout answers is shown by the Ladder's steps alone.
        Some(Outcome::Scored(_)) if run.measure.purpose == Purpose::Holdout => {
            ("asked".to_owned(), None, None)
        }
        Some(Outcome::Scored(score)) => ("scored".to_owned(), None, Some(score)),
    };
    MeasurementView {
        measure: run.measure.clone(),
        outcome,
        detail,
        value: score.map(|score| score.value),
        self_reported: score.is_some_and(|score| score.self_reported),
        seconds: run.seconds,
    }
}

/// What was measured in a run besides its score, if it had one.
fn seen(run: &Run) -> Option<&BTreeMap<String, f64>> {
    run.outcome.as_ref()?.facts()
}

/// The candidate's curves and its incumbent's beside them; an incumbent that did not run in this trial
/// lends the curve of its own last run.
fn curves(state: &State, trial: &Trial) -> Vec<Curve> {
    let finite = |point: &[f64; 2]| point.iter().all(|x| x.is_finite());
    let curve_of = |run: &Run| {
        // Over another budget, which has an axis of its own.
        if run.measure.budget.is_some() {
            return None;
        }
        let points: Vec<[f64; 2]> = run.outcome.as_ref()?.curve().iter().copied().filter(finite).collect();
        let candidate = run.measure.arm == trial.id;
        (points.len() > 1).then_some(Curve {
            arm: run.measure.arm,
            candidate,
            seed: run.measure.seed,
            points,
        })
    };
    // On a part of the budget the schedule is at another place: such curves do not lie over whole ones.
    let whole =
        |run: &&Run| !matches!(run.measure.purpose, Purpose::Race | Purpose::Holdout | Purpose::Audit);
    let mut curves: Vec<Curve> = trial.runs.iter().filter(whole).filter_map(curve_of).collect();
    let has_incumbent = curves.iter().any(|curve| !curve.candidate);
    if let (false, false, Some(parent)) = (curves.is_empty(), has_incumbent, trial.parent_trial) {
        let earlier = state.trials[..trial.id as usize].iter().flat_map(|trial| &trial.runs);
        let of_parent = earlier.filter(whole).filter(|run| run.measure.arm == parent);
        curves.extend(of_parent.filter_map(curve_of).next_back());
    }
    curves
}

fn facts(trial: &Trial) -> Vec<FactView> {
    let mut sums: BTreeMap<&str, [(f64, u32); 2]> = BTreeMap::new();
    // In an audit the other arm is the champion, not the incumbent.
    let beside = |run: &&Run| !matches!(run.measure.purpose, Purpose::Holdout | Purpose::Audit);
    for run in trial.runs.iter().filter(|run| run.measure.budget.is_none()).filter(beside) {
        let arm = usize::from(run.measure.arm != trial.id);
        for (name, value) in seen(run).into_iter().flatten() {
            let (sum, n) = &mut sums.entry(name).or_default()[arm];
            *sum += value;
            *n += 1;
        }
    }
    let mean = |(sum, n): (f64, u32)| (n > 0).then(|| sum / f64::from(n));
    sums.into_iter()
        .map(|(name, [candidate, incumbent])| FactView {
            name: name.to_owned(),
            candidate: mean(candidate),
            incumbent: mean(incumbent),
        })
        .collect()
}

fn alpha(state: &State) -> f64 {
    state.run.as_ref().map_or(0.05, |run| run.policy.alpha)
}

fn headline(state: &State, policy: &Policy) -> Option<Headline> {
    let (mean, sd, n) = state.baseline()?;
    let tip = state.trial(state.incumbent?)?;
    let mut scores = session::unbiased_scores(state, tip.id);
    if scores.is_empty() {
        scores = state.scores_of(tip.id).into_iter().map(|(_, value)| value).collect();
    }
    let n = n as usize;
    let baseline = Estimate { mean, sd: (n > 1).then_some(sd), n };
    let score = if tip.id == 0 { baseline } else { Estimate::of(&scores)? };
    let standing = standing(state, tip.id).filter(|_| tip.id != 0 && policy.preset != Preset::Naive);
    let gain = gain_over(state, score, standing, baseline, policy);
    Some(Headline {
        tip: tip.id,
        title: if tip.id == 0 { "the baseline".to_owned() } else { tip.title().to_owned() },
        score,
        standing,
        baseline,
        gain: gain.filter(|_| tip.id != 0),
        detectable: session::detectable(state, DETECTABLE_POWER),
    })
}

fn standing(state: &State, arm: TrialId) -> Option<Standing> {
    let level = session::level(state, arm, None)?;
    let standard_error = session::noise(state).sigma()? * level.variance.sqrt();
    Some(Standing { mean: level.mean, standard_error })
}

/// Difference of the tip, where it stands, and the baseline's mean. Without a standing the tip's own runs count, with
/// the pooled noise for their spread: one that ran once has none of its own.
fn gain_over(
    state: &State,
    score: Estimate,
    standing: Option<Standing>,
    baseline: Estimate,
    policy: &Policy,
) -> Option<Interval> {
    let noise = session::noise(state);
    let own = Standing { mean: score.mean, standard_error: noise.sigma()? / (score.n as f64).sqrt() };
    let Standing { mean, standard_error } = standing.unwrap_or(own);
    let error = standard_error.hypot(noise.sigma()? / (baseline.n as f64).sqrt());
    let gain = gate::advantage(mean, baseline.mean, state.direction());
    let n = if standing.is_some() { runs_of_line(state, state.incumbent?) } else { score.n };
    stats::interval(gain, error, noise.freedom, 1.0 - 2.0 * policy.alpha, n)
}

/// Runs that place an arm: its own and those of what it was made from.
fn runs_of_line(state: &State, arm: TrialId) -> usize {
    let parent = |arm: &TrialId| state.trial(*arm)?.parent_trial;
    std::iter::successors(Some(arm), parent).map(|arm| state.scores_of(arm).len()).sum()
}

fn noise(state: &State) -> Option<Noise> {
    let baseline = state.trials.first()?;
    let repeats: Vec<Repeat> = baseline
        .scores(0, Purpose::Baseline)
        .map(|(seed, score)| Repeat {
            seed,
            value: score.value,
            tokens_per_second: score.facts.get("tokens_per_second").copied(),
        })
        .collect();
    let values: Vec<f64> = repeats.iter().map(|repeat| repeat.value).collect();
    let pairs: Vec<(f64, f64)> =
        repeats.iter().filter_map(|repeat| Some((repeat.tokens_per_second?, repeat.value))).collect();
    Some(Noise { score: Estimate::of(&values)?, throughput_correlation: stats::correlation(&pairs), repeats })
}

fn counts(state: &State) -> Counts {
    let mut counts = Counts::default();
    for trial in &state.trials {
        match Mark::of(trial) {
            Mark::Baseline => {}
            Mark::Win => counts.wins += 1,
            Mark::Loss => counts.losses += 1,
            Mark::Inconclusive => counts.inconclusive += 1,
            Mark::Outrun => counts.outrun += 1,
            Mark::Stopped => counts.stopped += 1,
            Mark::Undone => counts.undone += 1,
            Mark::Open if trial.id == 0 => {}
            Mark::Open => counts.open += 1,
            Mark::Invalid => {
                if let Some(Verdict::Invalid(invalid)) = &trial.verdict {
                    *counts.invalid.entry(invalid.reason.to_string()).or_default() += 1;
                }
            }
        }
    }
    counts
}

fn time_split(state: &State) -> TimeSplit {
    let mut time = TimeSplit::default();
    let mut until = None;
    for trial in &state.trials {
        time.total_seconds += working_seconds(state, trial, &mut until).unwrap_or(0.0);
        time.build_seconds += trial.builds.iter().map(|build| build.seconds).sum::<f64>();
        for run in &trial.runs {
            if matches!(run.measure.purpose, Purpose::Smoke | Purpose::Guard) {
                time.smoke_seconds += run.seconds;
                continue;
            }
            if run.measure.purpose == Purpose::Second {
                // After the decision, which ends the time of its trial.
                time.total_seconds += run.seconds;
            }
            let fact = |name: &str| seen(run).and_then(|facts| facts.get(name)).copied().unwrap_or(0.0);
            let (train, evaluation) = (fact("train_seconds"), fact("evaluation_seconds"));
            time.train_seconds += train;
            time.evaluation_seconds += evaluation;
            time.other_run_seconds += (run.seconds - train - evaluation).max(0.0);
        }
    }
    let accounted = time.build_seconds
        + time.smoke_seconds
        + time.train_seconds
        + time.evaluation_seconds
        + time.other_run_seconds;
    time.engine_seconds = (time.total_seconds - accounted).max(0.0);
    time
}

fn scoring(state: &State, budget: Budget) -> Option<Scoring> {
    let runs = state.trials.iter().flat_map(|trial| &trial.runs);
    let runs = runs.filter(|run| run.measure.budget.is_none());
    let scored = runs.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
    let seconds: Vec<f64> = scored.filter_map(|run| seen(run)?.get("evaluation_seconds").copied()).collect();
    let seconds = Estimate::of(&seconds)?;
    let share = match budget {
        Budget::Seconds(budget) => (budget > 0.0).then(|| seconds.mean / budget),
        Budget::Tokens(_) | Budget::Steps(_) | Budget::Evaluations(_) => None,
    };
    Some(Scoring { seconds, share })
}

/// From a trial's start to its decision, or to the last line, without the pauses in between and without what lies
/// before `until`, the Unix second up to which trials before it were counted: those of a heat are open together.
fn working_seconds(state: &State, trial: &Trial, until: &mut Option<i64>) -> Option<f64> {
    let end = trial.decided_at.as_deref().or(state.updated_at.as_deref())?;
    let (began, end) = (clock::parse_rfc3339(&trial.started_at)?, clock::parse_rfc3339(end)?);
    let begin = until.map_or(began, |until| began.max(until));
    *until = Some(until.map_or(end, |until| end.max(until)));
    let pauses = state.pauses.iter().filter_map(|pause| {
        let (from, to) = (clock::parse_rfc3339(&pause.from)?, clock::parse_rfc3339(&pause.to)?);
        Some((to.min(end) - from.max(begin)).max(0))
    });
    let paused: i64 = pauses.sum();
    Some((end - begin - paused).max(0) as f64)
}

#[cfg(test)]
mod tests {
    use sprag_engine::record::{Measure, Raced, Record};

    use super::super::super::fixture;
    use super::*;

    fn resumed() -> Record {
        Record::RunResumed {
            sprag_version: String::new(),
            sandbox: None,
            sandbox_missing: Vec::new(),
            machine: BTreeMap::new(),
        }
    }

    #[test]
    fn a_run_that_stood_still_for_a_week_did_not_work_for_a_week() {
        let mut state = State::default();
        let started = Record::TrialStarted {
            trial: 0,
            proposer: String::new(),
            parent: String::new(),
            again: None,
            heat: None,
        };
        let built = |seconds| Record::Built { trial: 0, attempt: 0, seconds, error: None, timed_out: false };
        state.apply("2026-01-01T00:00:00Z", &started);
        state.apply("2026-01-01T00:00:30Z", &built(20.0));
        // Cut off with a torn line, taken up a week later, then once more.
        state.apply("2026-01-08T00:00:30Z", &Record::LedgerRepaired { dropped_bytes: 3 });
        state.apply("2026-01-08T00:00:31Z", &resumed());
        state.apply("2026-01-08T00:00:40Z", &built(5.0));
        state.apply("2026-01-09T00:00:00Z", &resumed());
        state.apply("2026-01-09T00:00:20Z", &built(20.0));
        let time = time_split(&state);
        // 30 s, then 9 s after the repair, then 20 s; what lies between repair and resume counts as a pause.
        assert_eq!((time.total_seconds, time.build_seconds, time.engine_seconds), (59.0, 45.0, 14.0));
    }

    #[test]
    fn trials_that_are_open_together_are_not_counted_twice_and_what_they_raced_is_no_curve_of_theirs() {
        let mut state = State::default();
        let join = |trial| Record::TrialStarted {
            trial,
            proposer: String::new(),
            parent: String::new(),
            again: None,
            heat: Some(1),
        };
        let budget = Budget::Seconds(5.0);
        let raced = Raced { place: 2, of: 2, against: 1, behind: 0.5, budget };
        let decided =
            |trial| Record::Decided { trial, verdict: Verdict::Raced(raced), reason: String::new() };
        let measure =
            Measure { measure: 0, trial: 1, arm: 1, seed: 3, purpose: Purpose::Race, budget: Some(budget) };
        let score = Score { curve: vec![[1.0, 3.0], [2.0, 2.0]], ..Score::default() };
        state.apply("2026-01-01T00:00:00Z", &join(1));
        state.apply("2026-01-01T00:00:10Z", &join(2));
        state.apply("2026-01-01T00:00:10Z", &Record::MeasureStarted(measure.clone()));
        let measured = Record::Measured { measure, outcome: Outcome::Scored(score), seconds: 6.0 };
        state.apply("2026-01-01T00:00:16Z", &measured);
        state.apply("2026-01-01T00:00:20Z", &decided(2));
        state.apply("2026-01-01T00:00:50Z", &decided(1));
        // Trial 0 has no start and counts nothing.
        assert_eq!(time_split(&state).total_seconds, 50.0);
        assert_eq!(counts(&state).outrun, 2);
        assert_eq!(curves(&state, &state.trials[1]).len(), 0);
    }

    #[test]
    fn a_run_without_a_score_shows_how_far_it_came() {
        let page = fixture::filled_page();
        let memory = page
            .trials
            .iter()
            .find(|trial| trial.invalid.as_ref().is_some_and(|(reason, _)| reason == "memory"));
        let trial = memory.expect("a trial that used too much memory");
        let own: Vec<usize> =
            trial.curves.iter().filter(|curve| curve.candidate).map(|curve| curve.points.len()).collect();
        assert_eq!(own, [13]);
        let trained = trial.facts.iter().find(|fact| fact.name == "train_seconds");
        assert_eq!(trained.and_then(|fact| fact.candidate), Some(6.5));
    }

    #[test]
    fn runs_under_the_second_budget_are_shown_as_such_and_in_no_mean_or_curve() {
        let page = fixture::page_of_two_budgets();
        let trial = &page.trials[1];
        let second = trial.second.as_ref().expect("it was kept");
        assert_eq!((second.against, second.differences.len(), second.cause.word()), (0, 2, "by speed"));
        assert!(second.speed.is_some_and(|speed| speed.low > 1.0 && speed.n == 4));
        let others = trial.measurements.iter().filter(|one| one.measure.budget.is_some()).count();
        let scored = trial.measurements.iter().filter(|one| one.value.is_some()).count();
        assert_eq!((others, scored, trial.curves.len()), (4, 11, 7));
        let all: usize = page
            .trials
            .iter()
            .flat_map(|trial| &trial.measurements)
            .filter(|one| one.value.is_some())
            .count();
        assert_eq!(page.scoring.as_ref().map(|scoring| scoring.seconds.n), Some(all - 8));
        assert!(page.time.total_seconds >= page.time.train_seconds, "{:?}", page.time);
        assert!(fixture::filled_page().trials.iter().all(|trial| trial.second.is_none()));
    }

    #[test]
    fn the_line_of_the_picture_ends_where_the_headline_stands() {
        let page = fixture::filled_page();
        let headline = page.headline.as_ref().expect("it has a baseline");
        assert_ne!(headline.tip, 0, "something was kept");
        let stands = headline.standing.expect("kept by statistics").mean;
        let tip = &page.trials[headline.tip as usize];
        assert_eq!(tip.level, Some(stands));
        let [low, high] = tip.level_interval.expect("of its standing");
        assert!(low < stands && stands < high);
        // The gain that it was kept for is the luckier figure, and is not what the line shows.
        let gain = tip.effect.as_ref().expect("measured").gain;
        assert!((tip.incumbent_level.expect("it had one") - stands - gain).abs() > 1e-9);
        // The gain rests on the baseline's runs at least, and says so.
        assert!(headline.gain.is_some_and(|gain| gain.n > headline.baseline.n));
    }

    #[test]
    fn scoring_is_told_as_a_share_of_the_budget() {
        let page = fixture::filled_page();
        let scoring = page.scoring.expect("scored runs");
        assert!(scoring.seconds.n > 5 && scoring.seconds.sd.is_some());
        assert_eq!(scoring.share, Some(scoring.seconds.mean / 20.0));
        let words = scoring.to_string();
        assert!(words.starts_with("1.9") && words.ends_with("% of the budget"), "{words}");
    }
}
