//! The loop with real git and a real ledger, on a lane that needs no processes.

mod audits;
mod curves;
mod race;
mod second;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use sprag_measure::process;

use super::steps::Steps;
use super::*;
use crate::event::{Event, Phase};
use crate::lane::{Arm, BuildEnd, Job, JobPhase, MeasureEnd, Sign, Watch};
use crate::ledger::Dies;
use crate::proposer::{AskingLimits, Brief, Declined, Proposal, Proposer};
use crate::record::{Budget, Invalid, Mix, Outcome, Purpose, Reason, Record, Score, Verdict};

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
[gate]
baseline_repeats = 5
"#;

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::of(TASK)
    }

    fn of(task: &str) -> Fixture {
        Fixture::within(&std::env::temp_dir(), task)
    }

    fn within(folder: &Path, task: &str) -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir_in(folder).unwrap() };
        for (name, text) in [
            ("task.toml", task),
            ("model.txt", "1.0\n"),
            ("fixed.txt", "fixed\n"),
            (".gitignore", "cheat.txt\n"),
        ] {
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

    /// What lies below `.sprag/` for single trials, and how many worktrees git knows.
    fn folders(&self) -> (Vec<String>, usize) {
        let layout = Layout::of(&self.dir().canonicalize().unwrap());
        let mut names = Vec::new();
        for folder in [layout.worktrees(), layout.outs(), layout.run("run-1")] {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                // How often a proposer was asked, and at which line, depends on the kill.
                let plain = name.split("-ask").next().filter(|_| name.starts_with("brief-"));
                names.push(entry.path().with_file_name(plain.unwrap_or(&name)));
            }
        }
        names.sort();
        names.dedup();
        let root = layout.root().to_owned();
        let names =
            names.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
        (names, self.git(&["worktree", "list"]).lines().count())
    }

    fn setup(&self, max_trials: u32) -> Setup {
        Setup {
            asking: AskingLimits::default(),
            task: Task::load(self.dir()).unwrap(),
            run: None,
            new_run: false,
            proposers: Vec::new(),
            mix: Mix::default(),
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
        self.run_to(script, script.len() as u32)
    }

    fn run_to(&self, script: &[&str], max_trials: u32) -> (State, Counts) {
        let counts = Counts::default();
        let setup = self.setup(max_trials);
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
        sign: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        sign(Sign::Phase(Phase::Build));
        let text = std::fs::read_to_string(arm.worktree.join("model.txt")).unwrap();
        self.count(format!("build {}", text.trim()));
        std::fs::create_dir_all(&arm.out).unwrap();
        Ok(match text.trim() {
            text if text.contains("broken") => BuildEnd::Failed("it is broken".into()),
            text if text.contains("endless") => BuildEnd::TimedOut("it takes too long".into()),
            _ => BuildEnd::Done,
        })
    }

    fn measure(
        &mut self,
        arm: &Arm,
        job: &Job,
        _: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        let text = std::fs::read_to_string(arm.worktree.join("model.txt")).unwrap();
        if job.phase == JobPhase::Smoke {
            return Ok(MeasureEnd::Done(Outcome::Passed));
        }
        let tokens = matches!(job.budget, Budget::Tokens(_));
        self.count(format!("measure {} {}{}", text.trim(), job.seed, if tokens { " tokens" } else { "" }));
        if tokens && text.contains("silent") {
            return Ok(MeasureEnd::NoAnswer("it does not know tokens".into()));
        } else if tokens && text.contains("slow") {
            return Ok(MeasureEnd::Done(Outcome::Invalid(Invalid::new(Reason::Timeout, "too slow"))));
        }
        if arm.worktree.join("cheat.txt").exists() {
            return Ok(MeasureEnd::Done(Outcome::Scored(Score::default())));
        }
        if text.contains("tamper") {
            std::fs::write(arm.worktree.join("fixed.txt"), "changed").unwrap();
        }
        let number = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let Some(number) = number else {
            let invalid = Invalid::new(Reason::Crash, "no number");
            return Ok(MeasureEnd::Done(Outcome::Invalid(invalid)));
        };
        let noise = ((job.seed % 1000) as f64 / 1000.0 - 0.5) * 0.02;
        Ok(MeasureEnd::Done(Outcome::Scored(Score { value: number + noise, ..Score::default() })))
    }
}

/// What becomes of the scores of another lane: the candidate's text, its score, and who listens.
struct Then<F>(FakeLane, F);

impl<F> Lane for Then<F>
where
    F: FnMut(&str, Score, &mut dyn FnMut(Sign) -> Watch) -> MeasureEnd,
{
    fn build(
        &mut self,
        arm: &Arm,
        longest: Option<Duration>,
        sign: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        self.0.build(arm, longest, sign)
    }

    fn measure(
        &mut self,
        arm: &Arm,
        job: &Job,
        sign: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        let text = std::fs::read_to_string(arm.worktree.join("model.txt")).unwrap();
        Ok(match self.0.measure(arm, job, sign)? {
            MeasureEnd::Done(Outcome::Scored(score)) => (self.1)(&text, score, sign),
            end => end,
        })
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
        if brief.repair.is_some() && text.contains("for good") {
            return Err(Declined::Exhausted("it cannot be mended".into()));
        } else if brief.repair.is_some() {
            std::fs::write(brief.worktree.join("model.txt"), "0.1 repaired\n").unwrap();
        } else if text.contains("cheat") {
            std::fs::write(brief.worktree.join("cheat.txt"), "what git ignores").unwrap();
            std::fs::write(brief.worktree.join("model.txt"), "2.0\n").unwrap();
        } else if let Some(name) = text.strip_prefix('!') {
            std::fs::write(brief.worktree.join(name), "changed\n").unwrap();
        } else {
            std::fs::write(brief.worktree.join("model.txt"), format!("{text}\n")).unwrap();
        }
        let idea = text.contains("idea").then(|| "an idea".to_owned());
        Ok(Proposal { title: format!("write {text}"), idea, ..Proposal::default() })
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
    // Nor the attempts that a repair replaced.
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/7:model.txt"]), "0.1 repaired\n");
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/7-a0:model.txt"]), "broken\n");
}

#[test]
fn a_first_build_says_nothing_of_how_long_candidates_take_to_build() {
    let fixture = Fixture::new();
    let (mut events, lane) = (Vec::new(), Box::new(FakeLane(Counts::default())));
    let state = run_with(fixture.setup(2), lane, proposers(&["1.5", "1.6"]), &mut events).unwrap();
    let expected = events.iter().filter_map(|event| match event {
        Event::Phase { trial, phase: Phase::Build, expected_seconds, .. } => {
            Some((*trial, *expected_seconds))
        }
        _ => None,
    });
    let last = state.trial(1).unwrap().builds[0].seconds;
    assert_eq!(expected.collect::<Vec<_>>(), [(0, None), (1, None), (2, Some(last))]);
}

#[test]
fn what_git_ignores_is_not_in_the_commit_and_decides_no_score() {
    for task in [TASK.to_owned(), TASK.replace("[build]\ncommand = [\"true\"]\n", "")] {
        let fixture = Fixture::of(&task);
        let (state, _) = fixture.run(&["cheat"]);
        assert_eq!(words(&state), ["BASELINE", "LOSS"], "{task}");
    }
}

/// Notes where it was asked to work.
struct Noted(Rc<RefCell<Vec<PathBuf>>>);

impl Proposer for Noted {
    fn name(&self) -> &str {
        "noted"
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        self.0.borrow_mut().extend([brief.worktree.to_owned(), brief.brief_dir.to_owned()]);
        let text = if self.0.borrow().len() > 4 { "0.5 mended\n" } else { "0.5 broken\n" };
        std::fs::write(brief.worktree.join("model.txt"), text).unwrap();
        Ok(Proposal::default())
    }

    fn can_repair(&self) -> bool {
        true
    }
}

#[test]
fn every_asking_has_folders_that_no_earlier_one_had() {
    let fixture = Fixture::new();
    let folders = Rc::new(RefCell::new(Vec::new()));
    let proposer = || -> Vec<Box<dyn Proposer>> { vec![Box::new(Noted(folders.clone()))] };
    let mut nobody = ();
    let lane = || Box::new(FakeLane(Counts::default()));
    let mut steps = Steps::open(fixture.setup(1), lane(), proposer(), &mut nobody).unwrap();
    // Killed after the proposer worked and before its proposal was recorded.
    let before = 18;
    steps.set_fuse(before, Dies::BeforeTheLine);
    assert!(steps.run().is_err());
    assert_eq!((steps.state().trials.len(), folders.borrow().len()), (2, 2));
    drop(steps);
    let state = run_with(fixture.setup(1), lane(), proposer(), &mut ()).unwrap();
    assert_eq!(words(&state), ["BASELINE", "WIN"]);
    let folders = folders.borrow();
    let different: std::collections::BTreeSet<&PathBuf> = folders.iter().collect();
    assert_eq!(
        (folders.len(), different.len()),
        (6, 6),
        "asked, asked again, asked for a repair: {folders:?}"
    );
}

const KILLED: [&str; 4] = ["0.5", "0.9", "broken", "!fixed.txt"];

/// Kills a run at each of its lines, resumes it, and compares with a run that nobody killed.
fn killed_at_every_line(task: &str, script: &[&str], most: u32, dies: Dies) {
    let reference = Fixture::of(task);
    let (expected, counts) = reference.run_to(script, most);
    let lines = load(reference.dir(), None).unwrap().1.len() as u64;
    let model = reference.git(&["show", "sprag/run-1:model.txt"]);
    for fuse in 0..lines {
        let at = format!("line {fuse}, {dies:?}");
        let fixture = Fixture::of(task);
        let both = Counts::default();
        let lane = || Box::new(FakeLane(both.clone()));
        let mut nobody = ();
        let mut steps =
            Steps::open_only(fixture.setup(most), lane(), proposers(script), &mut nobody).unwrap();
        steps.set_fuse(fuse, dies);
        let end = steps.begin_or_resume().and_then(|()| steps.run());
        assert!(end.is_err(), "the fuse did not blow at {at} of {lines}");
        drop(steps);
        let state = run_with(fixture.setup(most), lane(), proposers(script), &mut ()).unwrap();
        assert_eq!(words(&state), words(&expected), "{at}");
        assert_eq!(state.incumbent, expected.incumbent, "{at}");
        assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), model, "{at}");
        assert_eq!(fixture.folders(), reference.folders(), "{at}");
        // Only the execution under way at the kill is made again, and nothing twice after its record.
        let again: u32 = both.borrow().values().sum::<u32>() - counts.borrow().values().sum::<u32>();
        assert!(again <= 1, "{again} executions more than needed at {at}");
        let mut seen = std::collections::BTreeSet::new();
        for line in load(fixture.dir(), None).unwrap().1 {
            if let Record::Measured { measure, outcome: Outcome::Scored(_), .. } = line.record
                && measure.purpose != Purpose::Smoke
            {
                let key = (measure.trial, measure.arm, measure.seed);
                assert!(seen.insert(key), "{key:?} was recorded twice at {at}");
            }
        }
    }
}

#[test]
fn a_kill_before_any_ledger_line_resumes_to_the_same_end_and_runs_nothing_twice() {
    killed_at_every_line(TASK, &KILLED, 4, Dies::BeforeTheLine);
}

#[test]
fn a_kill_after_any_ledger_line_resumes_to_the_same_end_and_runs_nothing_twice() {
    killed_at_every_line(TASK, &KILLED, 4, Dies::AfterTheLine);
}

#[test]
fn a_kill_at_any_line_of_an_undo_takes_back_all_of_it_or_nothing() {
    for (fuse, dies, undone) in [
        (0, Dies::BeforeTheLine, false),
        (0, Dies::AfterTheLine, true),
        (1, Dies::BeforeTheLine, true),
        (1, Dies::AfterTheLine, true),
    ] {
        for again in [false, true] {
            let at = format!("line {fuse}, {dies:?}, undone once more: {again}");
            let fixture = Fixture::new();
            fixture.run(&["0.5", "0.3"]);
            let mut nobody = ();
            let mut steps = champion::open_existing(fixture.setup(2), &mut nobody).unwrap();
            steps.set_fuse(fuse, dies);
            assert!(steps.undo().is_err(), "{at}");
            drop(steps);
            // The same command finishes what was begun; so does going on with the run.
            let pending = load(fixture.dir(), None).unwrap().0.pending.is_some();
            if again && (pending || !undone) {
                assert_eq!(undo(fixture.setup(2), &mut ()).unwrap().0, 2, "{at}");
            }
            let (state, _) = fixture.run(&["0.5", "0.3"]);
            let (incumbent, model) = if undone || again { (1, "0.5\n") } else { (2, "0.3\n") };
            assert_eq!(state.incumbent, Some(incumbent), "{at}");
            assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), model, "{at}");
            assert!(
                !fixture.folders().0.contains(&"worktrees/run-1-2".to_owned()) || !(undone || again),
                "{at}"
            );
        }
    }
}

#[test]
fn a_kill_at_any_line_of_a_merge_leaves_one_commit_in_the_end() {
    for (fuse, dies) in
        [(0, Dies::BeforeTheLine), (0, Dies::AfterTheLine), (1, Dies::BeforeTheLine), (1, Dies::AfterTheLine)]
    {
        let fixture = Fixture::new();
        fixture.run(&["0.5"]);
        let mut nobody = ();
        let mut steps = champion::open_existing(fixture.setup(1), &mut nobody).unwrap();
        steps.set_fuse(fuse, dies);
        assert!(champion::bring(&mut steps, None, false).is_err(), "line {fuse}, {dies:?}");
        drop(steps);
        let recorded = (fuse, dies) == (1, Dies::AfterTheLine);
        assert_eq!(merge(fixture.setup(1), None, false, &mut ()).is_err(), recorded, "line {fuse}, {dies:?}");
        assert_eq!(fixture.git(&["rev-list", "--count", "main"]).trim(), "2", "line {fuse}, {dies:?}");
        let merged = load(fixture.dir(), None).unwrap().1.into_iter().filter(
            |line| matches!(&line.record, Record::Merged { trial: 1, branch, .. } if branch == "main"),
        );
        assert_eq!(merged.count(), 1, "line {fuse}, {dies:?}");
    }
}

#[test]
fn an_arm_that_is_not_whole_is_built_again() {
    for (killed, builds) in [(false, None), (true, Some(1))] {
        let fixture = Fixture::new();
        fixture.run(&["1.5"]);
        if killed {
            // Half-way: the folders are there, and not all that belongs into them.
            let layout = Layout::of(&fixture.dir().canonicalize().unwrap());
            std::fs::remove_file(layout.ready("run-1", 0)).unwrap();
            std::fs::remove_file(layout.worktree("run-1", 0).join("model.txt")).unwrap();
        }
        // The incumbent is executed again when a promising candidate is paired with it.
        let (state, counts) = fixture.run(&["1.5", "0.5"]);
        assert_eq!(words(&state), ["BASELINE", "LOSS", "WIN"]);
        assert_eq!(counts.borrow().get("build 1.0").copied(), builds);
    }
}

/// The real lane, without a sandbox: a candidate that says hello to its evaluator and waits for the answer.
const BESIDE: &str = r#"
format = 1
name = "beside"
[files]
mutable = ["model.txt"]
[run]
command = ["/bin/sh", "-c", "echo hello >&0; read answer || exit 1; cat model.txt"]
timeout_seconds = 30
[evaluate]
command = ["/bin/sh", "-c", "read hello; . {task}/evaluator.sh"]
channel = true
[metric]
name = "loss"
direction = "lower"
[budget]
seconds = 1.0
"#;

const ANSWER: &str = "echo bye >&0; echo '{\"type\":\"score\",\"value\":1}'\n";

#[test]
fn a_dying_evaluator_ends_the_run_and_not_the_candidate() {
    for dying in ["exit 1", "echo no data >&2; exit 1", "kill -9 $$"] {
        let fixture = Fixture::of(BESIDE);
        let environment = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        let setup = || Setup { environment: environment.clone(), ..fixture.setup(0) };
        let evaluator = fixture.dir().join("evaluator.sh");
        std::fs::write(&evaluator, format!("{dying}\n")).unwrap();
        let mut events: Vec<Event> = Vec::new();
        let error = run(setup(), &mut events).unwrap_err();
        assert!(matches!(error, EngineError::Evaluator { trial: 0, .. }), "{dying}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("again")), "{error}");
        assert_eq!(error.to_string().contains("no data"), dying.contains("no data"), "{error}");
        let warned = events.iter().filter(|event| matches!(event, Event::Warning { .. })).count();
        assert_eq!(warned, 1, "repeated once, aloud: {dying}");
        let (state, _) = load(fixture.dir(), None).unwrap();
        assert_eq!(words(&state), ["open"], "{dying}");
        // Mended, the same command goes on; one that dies only now and then does not stop it.
        let once = "[ -e {dir}/died ] || { touch {dir}/died; exit 1; }\n";
        let once = once.replace("{dir}", &fixture.dir().display().to_string());
        std::fs::write(&evaluator, once + ANSWER).unwrap();
        let state = run(setup(), &mut ()).unwrap();
        assert!(state.baseline().is_some(), "{dying}: {:?}", state.trials[0].reason);
    }
}

/// Is out of order whenever it is to execute something.
struct Broken(FakeLane);

impl Lane for Broken {
    fn build(
        &mut self,
        arm: &Arm,
        longest: Option<Duration>,
        watch: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        self.0.build(arm, longest, watch)
    }

    fn measure(
        &mut self,
        _: &Arm,
        _: &Job,
        _: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        Err(LaneError::new("execute", "the lane is out of order"))
    }
}

#[test]
fn a_lane_that_is_out_of_order_is_no_fault_of_what_it_was_to_execute() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        let lane = Box::new(Broken(FakeLane(Counts::default())));
        let error = run_with(fixture.setup(1), lane, proposers(&["0.5"]), &mut ()).unwrap_err();
        assert!(error.to_string().contains("out of order"), "{error}");
    }
    assert_eq!(words(&fixture.run(&["0.5"]).0), ["BASELINE", "WIN"]);
}

#[test]
fn a_build_that_takes_too_long_is_told_from_one_that_fails() {
    for (command, reason) in [("sleep 100", "build-timeout"), ("exit 1", "build")] {
        let build =
            format!("[build]\ncommand = [\"/bin/sh\", \"-c\", \"{command}\"]\ntimeout_seconds = 1\n[run]");
        let fixture = Fixture::of(&BESIDE.replace("[run]", &build));
        let environment = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        let state = run(Setup { environment, ..fixture.setup(0) }, &mut ()).unwrap();
        assert_eq!(words(&state), [reason]);
    }
}

#[test]
fn a_candidate_that_dies_of_itself_is_to_blame() {
    let fixture = Fixture::of(&BESIDE.replace("echo hello >&0;", "echo hello >&0; kill -8 $$;"));
    std::fs::write(
        fixture.dir().join("evaluator.sh"),
        "read more; echo '{\"type\":\"invalid\",\"reason\":\"protocol\"}'\n",
    )
    .unwrap();
    let environment = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
    let state = run(Setup { environment, ..fixture.setup(0) }, &mut ()).unwrap();
    assert_eq!(words(&state), ["crash"]);
}

#[test]
fn a_proposal_that_nobody_mends_is_decided_and_not_lost() {
    let fixture = Fixture::new();
    let (state, _) = fixture.run(&["broken for good", "0.5", "endless for good"]);
    assert_eq!(words(&state), ["BASELINE", "build", "WIN", "build-timeout"]);
    assert!(state.trials[1].reason.as_ref().unwrap().contains("it is broken"), "{:?}", state.trials[1]);
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/1:model.txt"]), "broken for good\n");
}

#[test]
fn patches_that_do_not_apply_do_not_keep_the_others_from_being_tried() {
    let fixture = Fixture::new();
    let patches = fixture.dir().join("patches");
    std::fs::create_dir(&patches).unwrap();
    for number in 1..=10 {
        let old = if number < 10 { "not this" } else { "1.0" };
        let text = format!("--- a/model.txt\n+++ b/model.txt\n@@ -1 +1 @@\n-{old}\n+0.5\n");
        std::fs::write(patches.join(format!("{number:02}.patch")), text).unwrap();
    }
    let setup = fixture.setup(20);
    let patches = crate::proposer::ProposerSpec::Patches(patches).open(&setup.task);
    let state = run_with(setup, Box::new(FakeLane(Counts::default())), vec![patches], &mut ()).unwrap();
    assert_eq!((state.trials.len(), words(&state)[10].as_str()), (11, "WIN"));
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
fn what_was_open_on_a_trial_that_is_taken_back_goes_with_it() {
    let fixture = Fixture::new();
    fixture.run(&["0.5", "0.3"]);
    // Trial 3 is open: its proposal is recorded, and the next line is not.
    let script = ["0.5", "0.3", "0.2"];
    let mut nobody = ();
    let lane = || Box::new(FakeLane(Counts::default()));
    let mut steps = Steps::open(fixture.setup(3), lane(), proposers(&script), &mut nobody).unwrap();
    steps.set_fuse(2, Dies::BeforeTheLine);
    assert!(steps.run().is_err());
    drop(steps);
    for (expected, incumbent) in [(2, 1), (1, 0)] {
        let (trial, state) = undo(fixture.setup(3), &mut ()).unwrap();
        assert_eq!((trial, state.incumbent), (expected, Some(incumbent)));
    }
    // Its idea was not judged, so it may be tried again.
    let script = ["", "", "", "0.2"];
    let state = run_with(fixture.setup(4), lane(), proposers(&script), &mut ()).unwrap();
    assert_eq!((words(&state)[4].as_str(), state.incumbent), ("WIN", Some(4)));
}

#[test]
fn a_tick_that_a_kill_prevented_is_made_up_and_an_undo_takes_it_away() {
    let fixture = Fixture::new();
    let copy = Layout::of(&fixture.dir().canonicalize().unwrap()).hypotheses();
    let open = "- [ ] an idea\n";
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::write(&copy, open).unwrap();
    fixture.run(&["0.5 idea"]);
    let ticked = std::fs::read_to_string(&copy).unwrap();
    assert!(ticked.starts_with("- [x] an idea (trial 1: WIN"), "{ticked}");
    std::fs::write(&copy, open).unwrap();
    fixture.run(&["0.5 idea"]);
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), ticked);
    undo(fixture.setup(1), &mut ()).unwrap();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), open);
}

#[test]
fn merge_brings_one_commit_with_its_evidence() {
    let fixture = Fixture::new();
    assert!(matches!(merge(fixture.setup(0), None, false, &mut ()), Err(EngineError::NoRun { .. })));
    fixture.run(&["0.5", "0.3"]);
    let merged = merge(fixture.setup(2), None, false, &mut ()).unwrap();
    assert_eq!(merged.branch, "main");
    assert_eq!(fixture.git(&["show", "main:model.txt"]), "0.3\n");
    assert_eq!(std::fs::read_to_string(fixture.dir().join("model.txt")).unwrap(), "0.3\n");
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]).trim(), "2");
    let message = fixture.git(&["log", "-1", "--format=%B", "main"]);
    assert!(
        message.contains("sd ") && message.contains("Certified by audit 1") && message.contains("n="),
        "{message}"
    );
}

#[test]
fn a_merge_cut_off_before_its_record_is_recorded_by_the_next() {
    let fixture = Fixture::new();
    fixture.run(&["0.5", "0.3"]);
    let first = merge(fixture.setup(2), None, false, &mut ()).unwrap();
    let layout = Layout::of(&fixture.dir().canonicalize().unwrap());
    let path = layout.ledger(runs(fixture.dir()).last().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.trim_end().rfind('\n').unwrap();
    assert!(text[last..].contains("\"merged\""), "{text}");
    std::fs::write(&path, &text[..=last]).unwrap();
    let again = merge(fixture.setup(2), None, false, &mut ()).unwrap();
    assert_eq!((again.trial, again.commit), (first.trial, first.commit));
    assert_eq!(load(fixture.dir(), None).unwrap().0.merging, None);
    let third = merge(fixture.setup(2), None, false, &mut ()).unwrap_err();
    assert!(third.to_string().contains("already") || third.to_string().contains("nothing"), "{third}");
}

#[test]
fn a_second_win_on_a_merged_line_merges_too() {
    let fixture = Fixture::new();
    fixture.run(&["0.5"]);
    merge(fixture.setup(1), None, false, &mut ()).unwrap();
    fixture.run(&["0.5", "0.3"]);
    let second = merge(fixture.setup(2), None, false, &mut ()).unwrap();
    assert_eq!(second.trial, 2);
    assert_eq!(fixture.git(&["show", "main:model.txt"]), "0.3\n");
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]).trim(), "3");
    // A branch that never took the first merge gets both wins at once.
    fixture.git(&["branch", "other", "main~2"]);
    merge(fixture.setup(2), Some("other"), false, &mut ()).unwrap();
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
fn a_run_is_not_resumed_on_another_machine() {
    let facts = |cpu: &str, cores: &str, memory: &str| {
        let facts = [("cpu", cpu), ("usable_cores", cores), ("memory_bytes", memory)];
        let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
        known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let fixture = Fixture::new();
    let go_on = |machine: BTreeMap<String, String>, trials: u32| {
        let script = ["1.5", "1.6", "1.7", "1.8"];
        let setup = Setup { machine, ..fixture.setup(trials) };
        run_with(setup, Box::new(FakeLane(Counts::default())), proposers(&script), &mut ())
    };
    go_on(facts("A", "2", "1000"), 1).unwrap();
    for (other, fact) in [
        (facts("B", "2", "1000"), "`cpu` was A and is B"),
        (facts("A", "4", "1000"), "`usable_cores` was 2 and is 4"),
        (facts("A", "2", "2000"), "`memory_bytes` was 1000 and is 2000"),
    ] {
        let lines = load(fixture.dir(), None).unwrap().1;
        let error = go_on(other, 2).unwrap_err();
        assert!(matches!(&error, EngineError::OtherMachine { what, .. } if what.contains(fact)), "{error}");
        assert!(error.hint().unwrap().contains("--new"));
        assert_eq!(load(fixture.dir(), None).unwrap().1, lines, "nothing is recorded");
    }
    go_on(facts("A", "2", "1020"), 2).unwrap();
    go_on(facts("A", "", ""), 3).unwrap();
}

#[test]
fn a_check_does_not_compare_with_scores_of_another_task() {
    let fixture = Fixture::new();
    let library = fixture.dir().join("library.txt");
    std::fs::write(&library, "one").unwrap();
    let task =
        TASK.replace("fixed = [\"fixed.txt\"]", "fixed = [\"fixed.txt\"]\nexternal = [\"library.txt\"]");
    std::fs::write(fixture.dir().join("task.toml"), &task).unwrap();
    fixture.git(&["add", "task.toml"]);
    fixture.git(&["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Add"]);
    fixture.run(&["0.5"]);
    let refused = |what: &str| {
        let error = check(fixture.setup(1), &mut ()).unwrap_err();
        assert!(
            matches!(&error, EngineError::Changed { what: found, .. } if found.contains(what)),
            "{error}"
        );
        assert!(error.to_string().starts_with("compare with run `run-1`"), "{error}");
    };
    std::fs::write(&library, "two").unwrap();
    refused("external");
    std::fs::write(&library, "one").unwrap();
    std::fs::write(fixture.dir().join("task.toml"), task.replace("seconds = 1.0", "seconds = 60.0")).unwrap();
    refused("task.toml");
    std::fs::write(fixture.dir().join("task.toml"), &task).unwrap();
    let report = check(fixture.setup(1), &mut ()).unwrap();
    assert_eq!(report.incumbent.unwrap().trial, 1);
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

/// Names the folder that a test finds a small disk of its own at, when it runs again below one.
const OWN_DISK: &str = "SPRAG_TEST_OWN_DISK";

/// Runs the test of that name once more, in namespaces where it may mount, with a small disk: gives the disk's
/// folder there, and nothing where the test is only the one that started it.
fn own_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(OWN_DISK) {
        return Some(disk.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let environment = [("PATH".into(), path), (OWN_DISK.into(), folder.path().into())];
    let below = |script: &str| {
        let own =
            ["--user", "--map-root-user", "--mount", "/bin/sh", "-c", script].map(std::ffi::OsString::from);
        let program = std::env::current_exe().unwrap().into_os_string();
        let arguments = own.into_iter().chain([folder.path().as_os_str().to_owned(), program]);
        process::output("unshare", arguments, folder.path(), &environment)
    };
    let mount = "mount -t tmpfs -o size=300m sprag-test \"$0\"";
    if !below(mount).is_ok_and(|output| output.success()) {
        eprintln!(
            "NOT TESTED: this machine lets nobody mount a disk of their own (`unshare --user --mount`)"
        );
        return None;
    }
    let again = format!("{mount} && cd \"$0\" && exec \"$1\" --exact --nocapture runner::tests::{test}");
    let output = below(&again).unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.success() && said.contains("1 passed"), "below a disk of its own: {said}");
    None
}

/// Fills the disk while it builds a certain text, and fails as a compiler then does.
struct Filling {
    lane: FakeLane,
    ballast: PathBuf,
}

impl Lane for Filling {
    fn build(
        &mut self,
        arm: &Arm,
        longest: Option<Duration>,
        watch: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        match self.lane.build(arm, longest, watch)? {
            BuildEnd::Done if std::fs::read(arm.worktree.join("model.txt")).unwrap() == b"0.5\n" => {
                std::fs::write(&self.ballast, vec![0; 100 << 20]).unwrap();
                Ok(BuildEnd::Failed("No space left on device".into()))
            }
            end => Ok(end),
        }
    }

    fn measure(
        &mut self,
        arm: &Arm,
        job: &Job,
        watch: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        self.lane.measure(arm, job, watch)
    }
}

#[test]
fn a_full_disk_is_a_clear_error_blames_nobody_and_leaves_the_ledger_intact() {
    let Some(disk) = own_disk("a_full_disk_is_a_clear_error_blames_nobody_and_leaves_the_ledger_intact")
    else {
        return;
    };
    let fixture = Fixture::within(&disk, TASK);
    let ballast = disk.join("ballast");
    let go_on = |lane: Box<dyn Lane>| run_with(fixture.setup(2), lane, proposers(&["0.5", "0.9"]), &mut ());
    let fake = || FakeLane(Counts::default());
    let lines = || load(fixture.dir(), None).unwrap().1;

    let error = go_on(Box::new(Filling { lane: fake(), ballast: ballast.clone() })).unwrap_err();
    assert!(matches!(error, EngineError::DiskFull { .. }) && error.hint().is_some(), "{error}");
    let error = go_on(Box::new(fake())).unwrap_err();
    assert!(matches!(error, EngineError::DiskFull { .. }), "{error}");
    assert_eq!(words(&load(fixture.dir(), None).unwrap().0), ["BASELINE", "open"]);

    // Not even a line of the ledger fits now.
    let before = lines();
    let full = process::output("dd", ["if=/dev/zero", "of=more", "bs=4k"], &disk, &[]);
    assert!(!full.unwrap().success(), "the disk is full");
    let error = go_on(Box::new(fake())).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.starts_with("free ")), "{error}");
    assert_eq!(lines(), before);

    std::fs::remove_file(disk.join("more")).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let state = go_on(Box::new(fake())).unwrap();
    assert_eq!((words(&state), state.repaired), (["BASELINE", "WIN", "LOSS"].map(str::to_owned).to_vec(), 0));
    assert_eq!(lines()[..before.len()], before[..]);
}

#[test]
fn a_read_only_task_folder_is_a_clear_error_and_leaves_the_ledger_intact() {
    let Some(disk) = own_disk("a_read_only_task_folder_is_a_clear_error_and_leaves_the_ledger_intact") else {
        return;
    };
    let fixture = Fixture::within(&disk, TASK);
    let remount = |how: &str| {
        let environment = [("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        let options = format!("remount,{how}");
        let arguments = ["-o".as_ref(), options.as_ref(), disk.as_os_str()];
        assert!(process::output("mount", arguments, Path::new("/"), &environment).unwrap().success());
    };
    let go_on = |trials: u32| {
        run_with(
            fixture.setup(trials),
            Box::new(FakeLane(Counts::default())),
            proposers(&["0.5", "0.9"]),
            &mut (),
        )
    };
    let refused = |trials: u32| {
        remount("ro");
        let error = go_on(trials).unwrap_err();
        assert!(error.to_string().contains("Read-only") && error.hint().is_some(), "{error}");
        assert!(error.to_string().contains(".sprag"), "{error}");
    };
    refused(1);
    remount("rw");
    assert_eq!(words(&go_on(1).unwrap()), ["BASELINE", "WIN"]);
    let before = load(fixture.dir(), None).unwrap().1;
    refused(2);
    assert_eq!(load(fixture.dir(), None).unwrap().1, before, "the ledger can be read");
    remount("rw");
    assert_eq!(words(&go_on(2).unwrap()), ["BASELINE", "WIN", "LOSS"]);
}
