//! The run as a fold over its ledger.
//!
//! Pure: lines in, state out. Nothing else knows what happened.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::gate::chain::Chain;
use crate::gate::curve::WOULD_HAVE_STOPPED;
use crate::memory::Plateau;
use crate::record::{
    Asked, AuditEnd, AuditId, CommitId, Direction, Effect, Invalid, Measure, MeasureId, Outcome, Proposed,
    Purpose, Reason, Record, RunStarted, Score, Spending, TrialId, Verdict,
};

/// Everything that the ledger says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// The frame; `None` before the first line.
    pub run: Option<RunStarted>,
    /// When the run started, RFC 3339.
    pub started_at: Option<String>,
    /// When the last line was written, RFC 3339.
    pub updated_at: Option<String>,
    /// Trials in order; index is the id.
    pub trials: Vec<Trial>,
    /// Trial whose code is the incumbent, once there is one.
    pub incumbent: Option<TrialId>,
    /// Trial whose code is the certified champion: the baseline until an audit certifies a tip.
    pub certified: Option<TrialId>,
    /// What audits have said of the keeps since the certified champion; see [`State::uncertified`].
    pub chain: Chain,
    /// Audits in order; number is index plus one.
    pub audits: Vec<Audit>,
    /// The holdout score that is shown, once the holdout was asked.
    pub holdout: Option<f64>,
    /// Where the run's branch is.
    pub tip: Option<CommitId>,
    /// A branch move that was begun and not finished.
    pub pending: Option<Pending>,
    /// Trial and branch of a merge that was begun and not finished.
    pub merging: Option<(TrialId, String)>,
    /// Finished merges, oldest first: the trial whose code went, and its commit on the user's branch.
    pub merges: Vec<(TrialId, CommitId)>,
    /// When no program carried the run on.
    pub pauses: Vec<Pause>,
    /// Number of the next measurement.
    pub next_measure: MeasureId,
    /// Set when the run ended by itself.
    pub finished: Option<String>,
    /// What proposers cost so far, also for trials that never came to be.
    pub spent: Spending,
    /// What proposers were last asked for because the run stands still; `None` since the last keep.
    pub plateau: Option<Plateau>,
    /// Why the last proposer stopped, if it did.
    pub proposer_stopped: Option<String>,
    /// How trials were confined, from first to last.
    pub confined: Vec<Confined>,
    /// Times the run was resumed.
    pub resumed: u32,
    /// Trials there were when it was last resumed.
    pub trials_at_resume: usize,
    /// Torn lines that were cut off.
    pub repaired: u32,
}

/// What the sandbox enforced from a trial on, until the next of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confined {
    /// The trial; it may have begun under the one before.
    pub from: TrialId,
    /// What was enforced.
    pub enforced: Vec<String>,
    /// What lacked.
    pub missing: Vec<String>,
}

impl Confined {
    fn since(from: TrialId, enforced: &[String], missing: &[String]) -> Confined {
        Confined { from, enforced: enforced.to_vec(), missing: missing.to_vec() }
    }
}

/// A branch move between its intent and its completion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pending {
    /// The trial.
    pub trial: TrialId,
    /// Where the branch goes.
    pub to: CommitId,
    /// True when it takes a decision back.
    pub undo: bool,
    /// The audit that makes it do so.
    pub audit: Option<AuditId>,
}

/// One audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Its number.
    pub id: AuditId,
    /// The trial that is audited; its runs and the champion's are among that trial's runs.
    pub tip: TrialId,
    /// The certified champion then.
    pub against: TrialId,
    /// Keeps from the champion to the audited trial.
    pub keeps: u32,
    /// The level granted to it.
    pub level: f64,
    /// Its runs have numbers from this one on.
    pub first_measure: MeasureId,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// How it ended; `None` while it is under way.
    pub end: Option<AuditEnd>,
    /// The evidence that the tip is better.
    pub e_value: Option<f64>,
    /// The tip's advantage.
    pub effect: Option<Effect>,
    /// In plain words.
    pub reason: Option<String>,
}

/// A time between the last line of one program and the first line of the next, both RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pause {
    /// When the last line before it was written.
    pub from: String,
    /// When the first line after it was written.
    pub to: String,
}

/// One trial.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trial {
    /// Its number.
    pub id: TrialId,
    /// The proposer asked.
    pub proposer: String,
    /// Commit it started from.
    pub parent: CommitId,
    /// Trial that was the incumbent then.
    pub parent_trial: Option<TrialId>,
    /// SHA-256 of the brief that its proposer was given last.
    pub brief: Option<String>,
    /// Askings of a proposer that cost something, in order.
    pub asked: Vec<Asked>,
    /// The proposal, its last attempt.
    pub proposed: Option<Proposed>,
    /// Builds, one for each attempt that ended.
    pub builds: Vec<Build>,
    /// A build was begun and has not ended.
    pub build_pending: bool,
    /// Executions on this trial's behalf, in order.
    pub runs: Vec<Run>,
    /// The decision, once there is one.
    pub verdict: Option<Verdict>,
    /// Its reason in plain words.
    pub reason: Option<String>,
    /// What it taught, in at most two sentences.
    pub lesson: Option<String>,
    /// The branch moved to it.
    pub kept: bool,
    /// The decision was taken back.
    pub undone: bool,
    /// The audit that did not bear it out, when it was taken back for that.
    pub failed_audit: Option<AuditId>,
    /// The trial whose change it tries once more.
    pub again: Option<TrialId>,
    /// The first trial of its heat; `None` when it does not race.
    pub heat: Option<TrialId>,
    /// Decisions of the run before its own, once it is decided: trials of a heat are not decided in order.
    pub decision: Option<u32>,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// When it was decided, RFC 3339.
    pub decided_at: Option<String>,
}

/// What stopping screening runs early did, and what it would have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EarlyStops {
    /// Trials whose screening run was stopped.
    pub stopped: u32,
    /// Trials whose screening run would have been stopped and went on all the same.
    pub run_on: u32,
    /// Trials among those that were decided to be better: false stops, had they been stopped.
    pub kept: u32,
}

/// One build.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Build {
    /// Wall seconds.
    pub seconds: f64,
    /// The end of the compiler's output when it failed.
    pub error: Option<String>,
    /// It was stopped because it took too long.
    pub timed_out: bool,
}

impl Build {
    /// What a failed build makes of its trial when nobody mends it.
    pub fn invalid(&self) -> Option<Invalid> {
        let reason = if self.timed_out { Reason::BuildTimeout } else { Reason::Build };
        self.error.clone().map(|detail| Invalid::new(reason, detail))
    }
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// What was executed.
    pub measure: Measure,
    /// `None` while it runs, or when the program was killed during it.
    pub outcome: Option<Outcome>,
    /// Wall seconds.
    pub seconds: f64,
}

impl Run {
    /// Why it has no score, if it ended without one.
    pub fn invalid(&self) -> Option<&Invalid> {
        match &self.outcome {
            Some(Outcome::Invalid(invalid)) => Some(invalid),
            _ => None,
        }
    }

    /// Its score, when it has one that compares with others: on the validation text, under the whole budget.
    pub fn score(&self) -> Option<&Score> {
        match &self.outcome {
            Some(Outcome::Scored(score)) if self.measure.purpose.scores() => Some(score),
            _ => None,
        }
    }
}

impl Trial {
    /// Scores of the given arm and purpose, with their seeds, in order.
    pub fn scores(&self, arm: TrialId, purpose: Purpose) -> impl Iterator<Item = (u64, &Score)> {
        self.runs.iter().filter_map(move |run| match &run.outcome {
            Some(Outcome::Scored(score)) if run.measure.arm == arm && run.measure.purpose == purpose => {
                Some((run.measure.seed, score))
            }
            _ => None,
        })
    }

    /// Its score in the rung of its heat that has this seed.
    pub fn raced(&self, seed: u64) -> Option<f64> {
        self.scores(self.id, Purpose::Race).find(|(used, _)| *used == seed).map(|(_, score)| score.value)
    }

    /// Where its screening run left the incumbent's band, when it was stopped for that.
    pub fn stopped(&self) -> Option<&str> {
        self.runs.iter().find_map(|run| match &run.outcome {
            Some(Outcome::Stopped(stopped)) if run.measure.arm == self.id => Some(stopped.detail.as_str()),
            _ => None,
        })
    }

    /// True when its screening run has a score only because `gate::curve::runs_on` spared it.
    fn ran_on(&self) -> bool {
        self.scores(self.id, Purpose::Screen).any(|(_, score)| score.facts.contains_key(WOULD_HAVE_STOPPED))
    }

    /// The first invalid outcome of this trial's own code for which that code is to blame.
    pub fn invalid(&self) -> Option<&Invalid> {
        let own = self.runs.iter().filter(|run| run.measure.arm == self.id);
        own.filter_map(Run::invalid).find(|invalid| invalid.reason != Reason::Machine)
    }

    /// The effect in its verdict, if the verdict has one.
    pub fn effect(&self) -> Option<Effect> {
        match &self.verdict {
            Some(Verdict::Win(effect) | Verdict::Loss(effect) | Verdict::Inconclusive(effect)) => {
                Some(*effect)
            }
            _ => None,
        }
    }

    /// The line of `hypotheses.md` that it tries.
    pub fn idea(&self) -> Option<&str> {
        self.proposed.as_ref()?.idea.as_deref()
    }

    /// One line that says what it is.
    pub fn title(&self) -> &str {
        self.proposed.as_ref().map_or("no proposal", |proposed| proposed.title.as_str())
    }
}

impl State {
    /// Folds lines into a state.
    pub fn fold<'a>(lines: impl IntoIterator<Item = (&'a str, &'a Record)>) -> State {
        let mut state = State::default();
        for (at, record) in lines {
            state.apply(at, record);
        }
        state
    }

    /// Takes one record in; `at` is the time of its line.
    pub fn apply(&mut self, at: &str, record: &Record) {
        if opens(record)
            && let Some(from) = self.updated_at.take()
        {
            self.pauses.push(Pause { from, to: at.to_owned() });
        }
        self.updated_at = Some(at.to_owned());
        match record {
            Record::RunStarted(run) => {
                self.confined.push(Confined::since(0, &run.sandbox, &run.sandbox_missing));
                self.started_at = Some(at.to_owned());
                self.tip = Some(run.base.clone());
                self.run = Some((**run).clone());
            }
            Record::RunResumed { sandbox, sandbox_missing, .. } => {
                self.confine(sandbox.as_deref(), sandbox_missing);
                self.trials_at_resume = self.trials.len();
                self.resumed += 1;
                self.finished = None;
                self.proposer_stopped = None;
            }
            Record::LedgerRepaired { .. } => self.repaired += 1,
            Record::TrialStarted { trial, proposer, parent, again, heat } => {
                let incumbent = self.incumbent;
                let entry = self.trial_entry(*trial);
                entry.proposer = proposer.clone();
                entry.again = *again;
                entry.heat = *heat;
                entry.parent = parent.clone();
                entry.parent_trial = incumbent;
                entry.started_at = at.to_owned();
            }
            Record::Proposed(proposed) => self.trial_entry(proposed.trial).proposed = Some(proposed.clone()),
            Record::ProposerStopped { trial, reason } => {
                self.trials.truncate(*trial as usize);
                self.proposer_stopped = Some(reason.clone());
            }
            Record::Asked(asked) => {
                self.spent = self.spent.plus(asked.spending);
                self.trial_entry(asked.trial).asked.push(asked.clone());
            }
            Record::Briefed { trial, sha256, .. } => {
                self.trial_entry(*trial).brief = Some(sha256.clone());
            }
            Record::Plateau { stage, without_win, .. } => {
                self.plateau = Some(Plateau { without_win: *without_win, stage: *stage });
            }
            Record::Lesson { trial, text, .. } => self.trial_entry(*trial).lesson = Some(text.clone()),
            Record::BuildStarted { trial, .. } => self.trial_entry(*trial).build_pending = true,
            Record::Built { trial, seconds, error, timed_out, .. } => {
                let entry = self.trial_entry(*trial);
                entry.build_pending = false;
                entry.builds.push(Build { seconds: *seconds, error: error.clone(), timed_out: *timed_out });
            }
            Record::MeasureStarted(measure) => {
                self.next_measure = self.next_measure.max(measure.measure + 1);
                let run = Run { measure: measure.clone(), outcome: None, seconds: 0.0 };
                self.trial_entry(measure.trial).runs.push(run);
            }
            Record::Measured { measure, outcome, seconds } => {
                let runs = &mut self.trial_entry(measure.trial).runs;
                if let Some(run) = runs.iter_mut().find(|run| run.measure.measure == measure.measure) {
                    run.outcome = Some(outcome.clone());
                    run.seconds = *seconds;
                }
            }
            Record::Disqualified { trial, measure, detail } => {
                let runs = &mut self.trial_entry(*trial).runs;
                if let Some(run) = runs.iter_mut().find(|run| run.measure.measure == *measure) {
                    let facts = run.outcome.as_ref().and_then(Outcome::facts).cloned().unwrap_or_default();
                    let curve =
                        run.outcome.as_ref().map(|outcome| outcome.curve().to_vec()).unwrap_or_default();
                    let invalid = Invalid::new(Reason::Machine, detail.clone());
                    run.outcome = Some(Outcome::Invalid(Invalid { facts, curve, ..invalid }));
                }
            }
            Record::Decided { trial, verdict, reason } => {
                if matches!(verdict, Verdict::Baseline { .. }) {
                    self.incumbent = Some(*trial);
                    self.certified = Some(*trial);
                }
                let decided = self.trials.iter().filter_map(|trial| trial.decision).max();
                let entry = self.trial_entry(*trial);
                entry.kept = matches!(verdict, Verdict::Baseline { .. });
                entry.decision = Some(decided.map_or(0, |last| last + 1));
                entry.verdict = Some(verdict.clone());
                entry.reason = Some(reason.clone());
                entry.decided_at = Some(at.to_owned());
            }
            Record::AdvanceStarted { trial, to, .. } => {
                self.pending = Some(Pending { trial: *trial, to: to.clone(), undo: false, audit: None });
            }
            Record::Advanced { trial, to } => {
                self.pending = None;
                self.tip = Some(to.clone());
                self.incumbent = Some(*trial);
                self.plateau = None;
                self.trial_entry(*trial).kept = true;
            }
            Record::UndoStarted { trial, to, audit } => {
                self.pending = Some(Pending { trial: *trial, to: to.clone(), undo: true, audit: *audit });
            }
            Record::Undone { trial, to } => {
                let audit = self.pending.take().and_then(|pending| pending.audit);
                self.tip = Some(to.clone());
                let entry = self.trial_entry(*trial);
                let (was_kept, parent_trial) = (entry.kept, entry.parent_trial);
                entry.kept = false;
                entry.undone = true;
                entry.failed_audit = audit;
                if was_kept {
                    // An audit of code that is gone ends with it.
                    let audit = self.audits.last_mut().filter(|audit| audit.end.is_none());
                    if let Some(audit) = audit.filter(|audit| [audit.tip, audit.against].contains(trial)) {
                        audit.end = Some(AuditEnd::Open);
                        audit.reason = Some(format!("trial {trial} was taken back"));
                    }
                    self.incumbent = parent_trial;
                    if self.certified == Some(*trial) {
                        // A person takes a certified champion back: what is left was certified before it.
                        self.certified = self.last_certified();
                        self.chain = Chain::default();
                    } else {
                        let keeps = self.uncertified().len() as u32;
                        self.chain.undone(keeps);
                    }
                }
            }
            Record::AuditStarted { audit, tip, against, keeps, level } => self.audits.push(Audit {
                id: *audit,
                tip: *tip,
                against: *against,
                keeps: *keeps,
                level: *level,
                first_measure: self.next_measure,
                started_at: at.to_owned(),
                end: None,
                e_value: None,
                effect: None,
                reason: None,
            }),
            Record::Audited { audit, end, e_value, effect, holdout, gave_up, reason } => {
                let Some(entry) = self.audits.iter_mut().find(|entry| entry.id == *audit) else { return };
                entry.end = Some(*end);
                entry.e_value = Some(*e_value);
                entry.effect = *effect;
                entry.reason = Some(reason.clone());
                let (tip, keeps) = (entry.tip, entry.keeps);
                self.holdout = holdout.or(self.holdout);
                let all = self.uncertified().len() as u32;
                if *gave_up {
                    self.chain.gave_up(all);
                } else {
                    self.chain.audited(keeps, all, *end);
                }
                if *end == AuditEnd::Certified {
                    self.certified = Some(tip);
                }
            }
            Record::MergeStarted { trial, branch } => self.merging = Some((*trial, branch.clone())),
            Record::Merged { trial, commit, .. } => {
                self.merging = None;
                self.merges.push((*trial, commit.clone()));
            }
            Record::RunFinished { reason } => self.finished = Some(reason.clone()),
        }
    }

    /// Takes in what the sandbox does from here on. The frame keeps what held all the time as enforced, and what
    /// lacked at any time as missing.
    fn confine(&mut self, sandbox: Option<&[String]>, missing: &[String]) {
        let trial = self.open_trials().next().map_or(self.trials.len() as TrialId, |trial| trial.id);
        let Some(run) = &mut self.run else { return };
        let enforced = sandbox.unwrap_or(&run.sandbox).to_vec();
        run.sandbox.retain(|part| enforced.contains(part));
        let new = missing.iter().filter(|part| !run.sandbox_missing.contains(part));
        let new: Vec<String> = new.cloned().collect();
        run.sandbox_missing.extend(new);
        let now = Confined::since(trial, &enforced, missing);
        let same = |last: &Confined| (&last.enforced, &last.missing) == (&now.enforced, &now.missing);
        if !self.confined.last().is_some_and(same) {
            self.confined.push(now);
        }
    }

    fn trial_entry(&mut self, id: TrialId) -> &mut Trial {
        while self.trials.len() <= id as usize {
            let id = self.trials.len() as TrialId;
            self.trials.push(Trial { id, ..Trial::default() });
        }
        &mut self.trials[id as usize]
    }

    /// Which way is better; `Lower` before the run has a frame.
    pub fn direction(&self) -> Direction {
        self.run.as_ref().map_or(Direction::Lower, |run| run.direction)
    }

    /// The trial with that number.
    pub fn trial(&self, id: TrialId) -> Option<&Trial> {
        self.trials.get(id as usize)
    }

    /// The last trial, unless it is decided. Of a heat it is the only one that can be without a proposal or a build.
    pub fn open_trial(&self) -> Option<&Trial> {
        self.trials.last().filter(|trial| trial.verdict.is_none())
    }

    /// The newest heat, as the trials that belong to it, decided or not; the last trial alone when it does not race.
    pub fn heat(&self) -> &[Trial] {
        let Some(last) = self.trials.last() else { return &[] };
        &self.trials[last.heat.unwrap_or(last.id).min(last.id) as usize..]
    }

    /// Trials of the newest heat that are not decided, in order.
    pub fn open_trials(&self) -> impl Iterator<Item = &Trial> {
        self.heat().iter().filter(|trial| trial.verdict.is_none())
    }

    /// The winner that the branch has not moved to yet.
    pub fn winner(&self) -> Option<&Trial> {
        let won = |trial: &&Trial| matches!(trial.verdict, Some(Verdict::Win(_)));
        self.heat().iter().filter(won).find(|trial| !trial.kept && !trial.undone)
    }

    /// The audit under way.
    pub fn open_audit(&self) -> Option<&Audit> {
        self.audits.last().filter(|audit| audit.end.is_none())
    }

    /// Trials kept since the certified champion, oldest first.
    pub fn uncertified(&self) -> Vec<TrialId> {
        let mut keeps = Vec::new();
        let mut at = self.incumbent;
        while let Some(trial) = at.filter(|trial| Some(*trial) != self.certified) {
            keeps.push(trial);
            at = self.trial(trial).and_then(|trial| trial.parent_trial);
        }
        keeps.reverse();
        keeps
    }

    /// The newest certified champion that was not taken back.
    fn last_certified(&self) -> Option<TrialId> {
        let certified = self.audits.iter().rev().filter(|audit| audit.end == Some(AuditEnd::Certified));
        let mut champions = certified.map(|audit| audit.tip).chain([0]);
        champions.find(|tip| self.trial(*tip).is_some_and(|trial| trial.kept))
    }

    /// Executions on the sealed holdout that gave a score.
    pub fn holdout_queries(&self) -> u32 {
        let asked = self.runs().filter(|run| run.measure.purpose == Purpose::Holdout);
        let disturbed = |run: &Run| run.invalid().is_some_and(|invalid| invalid.reason == Reason::Machine);
        asked.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))) || disturbed(run)).count() as u32
    }

    /// What stopping early did; trials that a person took back count as well.
    pub fn early_stops(&self) -> EarlyStops {
        let count = |of: &dyn Fn(&Trial) -> bool| self.trials.iter().filter(|trial| of(trial)).count() as u32;
        EarlyStops {
            stopped: count(&|trial| trial.stopped().is_some()),
            run_on: count(&Trial::ran_on),
            kept: count(&|trial| trial.ran_on() && matches!(trial.verdict, Some(Verdict::Win(_)))),
        }
    }

    /// All executions, trial by trial.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.trials.iter().flat_map(|trial| &trial.runs)
    }

    /// Every full-budget score of that trial's code, whatever it was made for, with its seed.
    pub fn scores_of(&self, arm: TrialId) -> Vec<(u64, f64)> {
        let own = self.runs().filter(|run| run.measure.arm == arm);
        own.filter_map(|run| Some((run.measure.seed, run.score()?.value))).collect()
    }

    /// Proposals that count as tried: not those that a person took back, nor those that the machine kept from being
    /// judged, which may be proposed again.
    pub fn tried(&self) -> impl Iterator<Item = &Trial> {
        let unjudged = |trial: &Trial| matches!(&trial.verdict, Some(Verdict::Invalid(invalid)) if invalid.reason == Reason::Machine);
        let tried = self.trials.iter().filter(|trial| !trial.undone || trial.failed_audit.is_some());
        tried.filter(move |trial| trial.proposed.is_some() && !unjudged(trial))
    }

    /// Normalised contents already tried, with the trial that tried each first.
    pub fn contents(&self) -> BTreeMap<&str, TrialId> {
        let mut contents = BTreeMap::new();
        for proposed in self.tried().filter_map(|trial| trial.proposed.as_ref()) {
            contents.entry(proposed.content.as_str()).or_insert(proposed.trial);
        }
        contents
    }

    /// The noise floor: mean, standard deviation and count of the baseline's repeats.
    pub fn baseline(&self) -> Option<(f64, f64, u32)> {
        match self.trials.first()?.verdict {
            Some(Verdict::Baseline { mean, sd, n }) => Some((mean, sd, n)),
            _ => None,
        }
    }
}

/// True for what a program writes first when it takes up a run that another one left.
fn opens(record: &Record) -> bool {
    matches!(
        record,
        Record::RunResumed { .. }
            | Record::LedgerRepaired { .. }
            | Record::UndoStarted { .. }
            | Record::MergeStarted { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn resumed(sandbox: Option<&str>, missing: &str) -> Record {
        Record::RunResumed {
            sprag_version: String::new(),
            sandbox: sandbox.map(parts),
            sandbox_missing: parts(missing),
            machine: BTreeMap::new(),
        }
    }

    #[test]
    fn a_run_resumed_without_a_sandbox_does_not_show_its_parts_as_enforced() {
        let started = RunStarted { sandbox: parts("files network"), ..RunStarted::default() };
        let trial = Record::TrialStarted {
            trial: 0,
            proposer: String::new(),
            parent: String::new(),
            again: None,
            heat: None,
        };
        let verdict = Verdict::Baseline { mean: 1.0, sd: 0.1, n: 5 };
        let decided = Record::Decided { trial: 0, verdict, reason: String::new() };
        let records = [
            Record::RunStarted(Box::new(started)),
            resumed(Some("files network"), ""),
            trial,
            decided,
            resumed(Some(""), "files network"),
            resumed(Some("files network"), ""),
        ];
        let state = State::fold(records.iter().map(|record| ("", record)));
        let whole = |from| Confined { from, enforced: parts("files network"), missing: Vec::new() };
        let none = Confined { from: 1, enforced: Vec::new(), missing: parts("files network") };
        assert_eq!(state.confined, [whole(0), none, whole(1)]);
        let run = state.run.unwrap();
        assert_eq!((run.sandbox, run.sandbox_missing), (Vec::new(), parts("files network")));
    }

    #[test]
    fn a_line_that_does_not_say_what_is_enforced_changes_only_what_is_missing() {
        let line = r#"{"type":"run_resumed","sprag_version":"","sandbox_missing":["network"]}"#;
        let old: Record = serde_json::from_str(line).unwrap();
        assert_eq!(old, resumed(None, "network"));
        let started = RunStarted { sandbox: parts("files"), ..RunStarted::default() };
        let records = [Record::RunStarted(Box::new(started)), old];
        let run = State::fold(records.iter().map(|record| ("", record))).run.unwrap();
        assert_eq!((run.sandbox, run.sandbox_missing), (parts("files"), parts("network")));
    }
}
