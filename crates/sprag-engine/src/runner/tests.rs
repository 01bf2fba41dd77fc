//! The loop with real git and a real ledger, on a lane that needs no processes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use sprag_measure::process;

use super::steps::Steps;
use super::*;
use crate::event::Event;
use crate::lane::{Arm, BuildEnd, Job, Sign};
use crate::proposer::{Brief, Declined, Proposal, Proposer};
use crate::record::{Invalid, Outcome, Purpose, Reason, Record, Score, Verdict};

/// A task whose candidate is a number in `model.txt`; smaller is better, down to zero.
const TASK: &str = r#"
format = 1
name = "number"
[files]
mutable = ["model.txt"]
fixed = ["fixed.txt"]
[build]
command = ["true"]
[run]
command = ["true", "{phase}"]
[metric]
name = "loss"
direction = "lower"
pattern = "loss (.*)"
[budget]
seconds = 1.0
"#;

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
        for (name, text) in [("task.toml", TASK), ("model.txt", "1.0\n"), ("fixed.txt", "fixed\n")] {
            std::fs::write(fixture.dir().join(name), text).unwrap();
        }
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "-A"],
            &["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Begin"],
        ] {
            fixture.git(arguments);
        }
        fixture
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let environment = [("PATH".into(), path), ("GIT_CONFIG_NOSYSTEM".into(), "1".into())];
        let output = process::output("git", arguments.iter().copied(), self.dir(), &environment).unwrap();
        assert!(output.end.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn setup(&self, max_trials: u32) -> Setup {
        Setup {
            task: Task::load(self.dir()).unwrap(),
            run: None,
            new_run: false,
            proposers: Vec::new(),
            seed: 7,
            max_trials: Some(max_trials),
            max_seconds: None,
            confinement: Confinement::Unsandboxed,
            sandbox_facts: Default::default(),
            sprag_program: PathBuf::from("sprag"),
            sprag_version: "test".into(),
            environment: Vec::new(),
            machine: BTreeMap::new(),
            default_memory_bytes: None,
            cancel: Cancel::default(),
            kill: Cancel::default(),
        }
    }

    fn run(&self, script: &[&str]) -> (State, Counts) {
        let counts = Counts::default();
        let setup = self.setup(script.len() as u32);
        let state = run_with(setup, Box::new(FakeLane(counts.clone())), proposers(script), &mut ()).unwrap();
        (state, counts)
    }
}

/// Executions by what was executed.
type Counts = Rc<RefCell<BTreeMap<String, u32>>>;

struct FakeLane(Counts);

impl FakeLane {
    fn count(&self, what: String) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }
}

impl Lane for FakeLane {
    fn build(
        &mut self,
        arm: &Arm,
        _: Option<Duration>,
        _: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        let text = std::fs::read_to_string(arm.worktree.join("model.txt")).unwrap();
        self.count(format!("build {}", text.trim()));
        std::fs::create_dir_all(&arm.out).unwrap();
        Ok(if text.contains("broken") { BuildEnd::Failed("it is broken".into()) } else { BuildEnd::Done })
    }

    fn measure(&mut self, arm: &Arm, job: &Job, _: &mut dyn FnMut(Sign)) -> Result<Outcome, LaneError> {
        let text = std::fs::read_to_string(arm.worktree.join("model.txt")).unwrap();
        if job.smoke {
            return Ok(Outcome::Passed);
        }
        self.count(format!("measure {} {}", text.trim(), job.seed));
        if text.contains("tamper") {
            std::fs::write(arm.worktree.join("fixed.txt"), "changed").unwrap();
        }
        let number = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let Some(number) = number else {
            return Ok(Outcome::Invalid(Invalid { reason: Reason::Crash, detail: "no number".into() }));
        };
        let noise = ((job.seed % 1000) as f64 / 1000.0 - 0.5) * 0.02;
        Ok(Outcome::Scored(Score { value: number + noise, ..Score::default() }))
    }
}

/// Writes the script's text of a trial into `model.txt`; `!name` writes another file instead.
struct Scripted(Vec<String>);

impl Proposer for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let Some(text) = self.0.get(brief.trial as usize - 1) else {
            return Err(Declined::Exhausted("the script is at its end".into()));
        };
        if brief.repair.is_some() {
            std::fs::write(brief.worktree.join("model.txt"), "0.1 repaired\n").unwrap();
        } else if let Some(name) = text.strip_prefix('!') {
            std::fs::write(brief.worktree.join(name), "changed\n").unwrap();
        } else {
            std::fs::write(brief.worktree.join("model.txt"), format!("{text}\n")).unwrap();
        }
        Ok(Proposal { title: format!("write {text}"), hypothesis: None, family: None, idea: None })
    }

    fn can_repair(&self) -> bool {
        true
    }
}

fn proposers(script: &[&str]) -> Vec<Box<dyn Proposer>> {
    vec![Box::new(Scripted(script.iter().map(|text| (*text).to_owned()).collect()))]
}

fn words(state: &State) -> Vec<String> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Invalid(invalid) => invalid.reason.word().to_owned(),
        other => other.word().to_owned(),
    };
    state.trials.iter().map(|trial| trial.verdict.as_ref().map_or("open".into(), word)).collect()
}

#[test]
fn each_kind_of_proposal_gets_its_verdict() {
    let fixture = Fixture::new();
    let script = ["0.5", "0.9", "!fixed.txt", "0.5", "tamper", "crash", "broken"];
    let (state, _) = fixture.run(&script);
    let expected = ["BASELINE", "WIN", "LOSS", "outside-mutable", "empty", "fixed-file", "crash", "WIN"]
        .map(str::to_owned);
    assert_eq!(words(&state), expected);
    assert_eq!(state.incumbent, Some(7));
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), "0.1 repaired\n");
    // The user's checkout and branch are as they were.
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(fixture.git(&["show", "main:model.txt"]), "1.0\n");
    // No idea is lost: discarded and rejected ones stay reachable.
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/2:model.txt"]), "0.9\n");
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/3:fixed.txt"]), "changed\n");
}

#[test]
fn a_kill_after_any_ledger_line_resumes_to_the_same_end_and_runs_nothing_twice() {
    let script = ["0.5", "0.9", "broken", "!fixed.txt"];
    let reference = Fixture::new();
    let (expected, counts) = reference.run(&script);
    let lines = load(reference.dir(), None).unwrap().1.len() as u64;
    let model = reference.git(&["show", "sprag/run-1:model.txt"]);
    for fuse in 0..lines - 1 {
        let fixture = Fixture::new();
        let both = Counts::default();
        let mut nobody = ();
        let lane = Box::new(FakeLane(both.clone()));
        let mut steps = Steps::open(fixture.setup(4), lane, proposers(&script), &mut nobody).unwrap();
        steps.set_fuse(fuse);
        assert!(steps.run().is_err(), "the fuse {fuse} of {lines} lines did not blow");
        drop(steps);
        let lane = Box::new(FakeLane(both.clone()));
        let state = run_with(fixture.setup(4), lane, proposers(&script), &mut ()).unwrap();
        assert_eq!(words(&state), words(&expected), "after {fuse} lines");
        assert_eq!(state.incumbent, expected.incumbent, "after {fuse} lines");
        assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), model, "after {fuse} lines");
        // Only the execution under way at the kill is made again, and nothing twice after its record.
        let again: u32 = both.borrow().values().sum::<u32>() - counts.borrow().values().sum::<u32>();
        assert!(again <= 1, "{again} executions more than needed after {fuse} lines");
        let scored = load(fixture.dir(), None).unwrap().1;
        let mut seen = std::collections::BTreeSet::new();
        for line in &scored {
            if let Record::Measured { measure, outcome: Outcome::Scored(_), .. } = &line.record
                && measure.purpose != Purpose::Smoke
            {
                let key = (measure.trial, measure.arm, measure.seed);
                assert!(seen.insert(key), "{key:?} was recorded twice after {fuse} lines");
            }
        }
    }
}

#[test]
fn two_runs_on_one_task_exclude_each_other() {
    let fixture = Fixture::new();
    let mut nobody = ();
    let first =
        Steps::open(fixture.setup(1), Box::new(FakeLane(Counts::default())), proposers(&[]), &mut nobody);
    let second = run_with(fixture.setup(1), Box::new(FakeLane(Counts::default())), proposers(&[]), &mut ());
    assert!(matches!(second, Err(EngineError::Locked { .. })));
    drop(first);
    run_with(fixture.setup(1), Box::new(FakeLane(Counts::default())), proposers(&[]), &mut ()).unwrap();
}

#[test]
fn a_torn_line_is_repaired_aloud_and_the_run_goes_on() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    let ledger = Layout::of(&fixture.dir().canonicalize().unwrap()).ledger("run-1");
    let whole = std::fs::read(&ledger).unwrap();
    std::fs::write(&ledger, &whole[..whole.len() - 9]).unwrap();
    let mut events: Vec<Event> = Vec::new();
    let lane = Box::new(FakeLane(Counts::default()));
    let state = run_with(fixture.setup(1), lane, proposers(&["0.5"]), &mut events).unwrap();
    assert_eq!(state.repaired, 1);
    assert!(events.iter().any(|event| matches!(event, Event::Warning { text, .. } if text.contains("torn"))));
    assert_eq!(words(&state), ["BASELINE", "WIN"]);
}

#[test]
fn undo_takes_decisions_back_and_erases_nothing() {
    let fixture = Fixture::new();
    fixture.run(&["0.5", "0.3"]);
    let before = load(fixture.dir(), None).unwrap().1;
    let (trial, state) = undo(fixture.setup(2), &mut ()).unwrap();
    assert_eq!((trial, state.incumbent), (2, Some(1)));
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), "0.5\n");
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/2:model.txt"]), "0.3\n");
    let (trial, state) = undo(fixture.setup(2), &mut ()).unwrap();
    assert_eq!((trial, state.incumbent), (1, Some(0)));
    assert!(undo(fixture.setup(2), &mut ()).is_err());
    let after = load(fixture.dir(), None).unwrap().1;
    assert_eq!(after[..before.len()], before[..]);
    // The loop goes on from the baseline, whose arm is checked out again when it is needed.
    let lane = Box::new(FakeLane(Counts::default()));
    let state = run_with(fixture.setup(3), lane, proposers(&["", "", "0.4"]), &mut ()).unwrap();
    assert_eq!((words(&state)[3].as_str(), state.incumbent), ("WIN", Some(3)));
}

#[test]
fn merge_brings_one_commit_with_its_evidence() {
    let fixture = Fixture::new();
    assert!(matches!(merge(fixture.setup(0), None, &mut ()), Err(EngineError::NoRun { .. })));
    fixture.run(&["0.5", "0.3"]);
    let merged = merge(fixture.setup(2), None, &mut ()).unwrap();
    assert_eq!(merged.branch, "main");
    assert_eq!(fixture.git(&["show", "main:model.txt"]), "0.3\n");
    assert_eq!(std::fs::read_to_string(fixture.dir().join("model.txt")).unwrap(), "0.3\n");
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]).trim(), "2");
    let message = fixture.git(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("sd ") && message.contains("pairs") && message.contains("n="), "{message}");
}

#[test]
fn a_merge_cut_off_before_its_record_is_recorded_by_the_next() {
    let fixture = Fixture::new();
    fixture.run(&["0.5", "0.3"]);
    let first = merge(fixture.setup(2), None, &mut ()).unwrap();
    let layout = Layout::of(&fixture.dir().canonicalize().unwrap());
    let path = layout.ledger(runs(fixture.dir()).last().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.trim_end().rfind('\n').unwrap();
    assert!(text[last..].contains("\"merged\""), "{text}");
    std::fs::write(&path, &text[..=last]).unwrap();
    let again = merge(fixture.setup(2), None, &mut ()).unwrap();
    assert_eq!((again.trial, again.commit), (first.trial, first.commit));
    assert_eq!(load(fixture.dir(), None).unwrap().0.merging, None);
    let third = merge(fixture.setup(2), None, &mut ()).unwrap_err();
    assert!(third.to_string().contains("already") || third.to_string().contains("nothing"), "{third}");
}

#[test]
fn a_second_win_on_a_merged_line_merges_too() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    merge(fixture.setup(1), None, &mut ()).unwrap();
    fixture.run(&["0.5", "0.3"]);
    let second = merge(fixture.setup(2), None, &mut ()).unwrap();
    assert_eq!(second.trial, 2);
    assert_eq!(fixture.git(&["show", "main:model.txt"]), "0.3\n");
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]).trim(), "3");
    // A branch that never took the first merge gets both wins at once.
    fixture.git(&["branch", "other", "main~2"]);
    merge(fixture.setup(2), Some("other"), &mut ()).unwrap();
    assert_eq!(fixture.git(&["show", "other:model.txt"]), "0.3\n");
}

#[test]
fn locks_that_a_kill_left_in_git_stop_no_resume_and_the_doctor_removes_them() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    let lock = fixture.dir().join(".git/refs/heads/sprag/run-1.lock");
    let index = fixture.dir().join(".git/sprag-index-run-1-2-99.lock");
    std::fs::write(&lock, "").unwrap();
    std::fs::write(&index, "").unwrap();
    let left = |fix| {
        let findings = doctor(fixture.dir(), fix);
        findings
            .iter()
            .filter(|finding| finding.what.contains(".lock is left over") && !finding.fixed)
            .count()
    };
    assert_eq!(left(false), 2);
    assert_eq!(left(true), 0);
    assert!(!lock.exists() && !index.exists());
    std::fs::write(&lock, "").unwrap();
    let (state, _) = fixture.run(&["0.5", "0.3"]);
    assert_eq!(words(&state), ["BASELINE", "WIN", "WIN"]);
}

#[test]
fn the_latest_run_is_the_one_that_began_last_whatever_its_name() {
    let fixture = Fixture::new();
    let layout = Layout::of(fixture.dir());
    for (run, began) in
        [("zeta", "10:00:00"), ("run-2", "11:00:00"), ("alpha", "12:00:00"), ("run-1", "09:00:00")]
    {
        let (mut ledger, _) = ledger::Ledger::open(&layout.ledger(run)).unwrap();
        let started = crate::record::RunStarted { run: run.into(), ..Default::default() };
        ledger.append(&format!("2026-01-01T{began}Z"), &Record::RunStarted(Box::new(started))).unwrap();
    }
    assert_eq!(runs(fixture.dir()), ["run-1", "zeta", "run-2", "alpha"]);
    assert_eq!(load(fixture.dir(), None).unwrap().0.run.unwrap().run, "alpha");
    // A kill before the first line: that run is the one that was asked for last.
    ledger::Ledger::open(&layout.ledger("beta")).unwrap();
    assert_eq!(runs(fixture.dir()).last().unwrap(), "beta");
}

#[test]
fn the_runs_branch_is_not_moved_under_a_persons_feet() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    let resume = || {
        let lane = Box::new(FakeLane(Counts::default()));
        run_with(fixture.setup(2), lane, proposers(&["0.5", "0.3"]), &mut ())
    };
    // Looked at: its files would stay behind when it moves.
    fixture.git(&["checkout", "-q", "sprag/run-1"]);
    let error = resume().unwrap_err();
    assert!(matches!(error, EngineError::Repo(RepoError::CheckedOut { .. })), "{error}");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    // Worked on: the commit would be lost.
    std::fs::write(fixture.dir().join("fixed.txt"), "mine\n").unwrap();
    let author = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    fixture.git(&[&author[..], &["commit", "-q", "-a", "-m", "Mine"]].concat());
    fixture.git(&["checkout", "-q", "main"]);
    let error = resume().unwrap_err();
    assert!(matches!(error, EngineError::Repo(RepoError::Moved { .. })), "{error}");
    assert!(undo(fixture.setup(2), &mut ()).is_err());
    assert_eq!(fixture.git(&["show", "sprag/run-1:fixed.txt"]), "mine\n");
    // What the message says to do.
    fixture.git(&["branch", "my-work", "sprag/run-1"]);
    fixture.git(&["branch", "--force", "sprag/run-1", "sprag/run-1~1"]);
    let (_, undone) = undo(fixture.setup(2), &mut ()).unwrap();
    assert_eq!(undone.incumbent, Some(1));
    // A resume finds out before it pays for a trial; a branch that is gone is made anew.
    fixture.git(&["branch", "--force", "sprag/run-1", "main"]);
    assert!(matches!(resume().unwrap_err(), EngineError::Repo(RepoError::Moved { .. })));
    fixture.git(&["branch", "-D", "sprag/run-1"]);
    resume().unwrap();
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), "0.5\n");
    assert_eq!(fixture.git(&["show", "my-work:fixed.txt"]), "mine\n");
}

#[test]
fn a_changed_task_is_not_resumed() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    std::fs::write(fixture.dir().join("task.toml"), TASK.replace("seconds = 1.0", "seconds = 2.0")).unwrap();
    let lane = Box::new(FakeLane(Counts::default()));
    let error = run_with(fixture.setup(2), lane, proposers(&[]), &mut ()).unwrap_err();
    assert!(matches!(&error, EngineError::Changed { what, .. } if what == "task.toml"), "{error}");
    assert!(error.hint().unwrap().contains("--new"));
}

#[test]
fn two_hundred_trials_leave_two_worktrees_and_every_ref() {
    let fixture = Fixture::new();
    let script: Vec<String> = (1..=200).map(|trial| format!("{}", 1.0 + f64::from(trial))).collect();
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    let (state, _) = fixture.run(&script);
    assert_eq!(state.trials.len(), 201);
    let layout = Layout::of(&fixture.dir().canonicalize().unwrap());
    for folder in [layout.worktrees(), layout.outs()] {
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "{}", folder.display());
    }
    assert_eq!(fixture.git(&["worktree", "list"]).lines().count(), 2);
    assert_eq!(fixture.git(&["for-each-ref", "refs/sprag"]).lines().count(), 201);
    assert!(doctor(fixture.dir(), false).iter().all(|finding| finding.severity == Severity::Fine));
}

#[test]
fn a_read_only_task_folder_is_a_clear_error() {
    let fixture = Fixture::new();
    std::fs::write(fixture.dir().join(".sprag"), "in the way").unwrap();
    let error = run_with(fixture.setup(1), Box::new(FakeLane(Counts::default())), proposers(&[]), &mut ())
        .unwrap_err();
    assert!(error.to_string().contains(".sprag") && error.hint().is_some(), "{error}");
}
