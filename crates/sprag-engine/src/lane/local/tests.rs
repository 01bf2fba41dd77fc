//! Executions of shell commands, without a sandbox.

use super::*;
use sprag_measure::machine::Load;

use crate::gate::throughput;
use crate::record::Score;

/// A lane in a folder of its own, without a sandbox, on a task of shell commands.
struct Shell {
    lane: Local,
    arm: Arm,
    _root: tempfile::TempDir,
}

/// A lane without a sandbox, whose folders lie in `root`.
fn lane(text: &str, task_dir: &Path, root: &Path) -> Local {
    Local {
        task: Task::parse(text, task_dir).unwrap(),
        confinement: Confinement::Unsandboxed,
        sprag: "sprag".into(),
        environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
        cache: root.join("cache"),
        scratch: root.join("scratch"),
        default_memory_bytes: None,
        kill: Cancel::default(),
    }
}

impl Shell {
    /// `sections`: `[run]`, who scores, and `[budget]`.
    fn new(sections: &str) -> Shell {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "format = 1\nname = \"shell\"\n[files]\nmutable = [\"x\"]\n[metric]\nname = \"loss\"\n\
             direction = \"lower\"\n{sections}"
        );
        let lane = lane(&text, root.path(), root.path());
        let arm = Arm {
            worktree: root.path().to_owned(),
            out: root.path().to_owned(),
            pristine: root.path().to_owned(),
        };
        Shell { lane, arm, _root: root }
    }

    fn job(&self, phase: JobPhase) -> Job {
        Job { seed: 1, budget: self.lane.task.budget, phase, longest: None }
    }
}

#[test]
fn the_load_is_a_fact_of_every_outcome_that_has_facts() {
    let load = Load { other_processes: 0.31, steal: 0.02 };
    let scored = Outcome::Scored(Score { value: 1.0, ..Score::default() });
    for mut outcome in [scored, Outcome::Invalid(Invalid::new(Reason::Crash, "exit 1"))] {
        add_load(&mut outcome, load);
        assert_eq!(outcome.facts().and_then(throughput::load), Some(load), "{outcome:?}");
    }
    let mut passed = Outcome::Passed;
    add_load(&mut passed, load);
    assert_eq!(passed, Outcome::Passed);
}

/// Executes `run` and then has `evaluate` score what it left.
fn measured(run: &str, evaluate: &str) -> Outcome {
    let command = |what: &str| format!("command = [\"/bin/sh\", \"-c\", '''{what}''']");
    let (run, evaluate) = (command(run), command(evaluate));
    let mut shell = Shell::new(&format!("[run]\n{run}\n[evaluate]\n{evaluate}\n[budget]\nseconds = 2\n"));
    let job = shell.job(JobPhase::Run);
    match shell.lane.measure(&shell.arm, &job, &mut |_| Watch::GoOn).unwrap() {
        MeasureEnd::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_execution_tells_the_load_beside_it_with_a_score_and_without() {
    let scored = measured("sleep 1.2", r#"echo "{{\"type\":\"score\",\"value\":1}}""#);
    let crashed = measured("sleep 1.2; exit 3", "exit 0");
    assert!(matches!((&scored, &crashed), (Outcome::Scored(_), Outcome::Invalid(_))), "{scored:?}");
    for outcome in [scored, crashed] {
        let load = outcome.facts().and_then(throughput::load);
        assert_eq!(load.is_some(), cfg!(target_os = "linux"), "{outcome:?}");
        let parts = load.map_or([0.0; 2], |load| [load.other_processes, load.steal]);
        assert!(parts.iter().all(|part| *part >= 0.0) && parts.iter().sum::<f64>() <= 1.0, "{outcome:?}");
    }
}

/// Prints where it stands and never ends.
const ENDLESS: &str = r#"echo '{"type":"progress","stage":"train","fraction":0.5,"loss":3.5,"step":7,\
"elapsed_seconds":1.5}'; exec sleep 1000"#;

/// Stops an execution of these sections at its first progress, or at its first line of output where the
/// candidate is alone.
fn stopped(sections: &str) -> MeasureEnd {
    let mut shell = Shell::new(&format!("{sections}\n[budget]\ntokens = 1000\n"));
    let job = shell.job(JobPhase::Run);
    let mut watch = |sign| if matches!(sign, Sign::Phase(_)) { Watch::GoOn } else { Watch::Stop };
    let end = shell.lane.measure(&shell.arm, &job, &mut watch).unwrap();
    assert!(!shell.lane.kill.is_cancelled());
    end
}

#[test]
fn an_execution_that_the_caller_stops_is_neither_a_crash_nor_an_interruption() {
    // Whoever is not stopped runs into a limit, and its outcome says so.
    let limits = "timeout_seconds = 60";
    let sleeps = "command = [\"/bin/sh\", \"-c\", \"exec sleep 1000\"]";
    let says = |what: &str| format!("command = [\"/bin/sh\", \"-c\", '''{what}''']");
    let endless = says(&ENDLESS.replace("\\\n", ""));
    let beside = format!("[run]\n{sleeps}\n{limits}\n[evaluate]\n{endless}\nchannel = true");
    let seen = |end: MeasureEnd| match end {
        MeasureEnd::Stopped { facts, curve } => {
            assert!(facts.contains_key("wall_seconds"), "{facts:?}");
            (["steps", "train_seconds"].map(|name| facts.get(name).copied()), curve)
        }
        other => panic!("{other:?}"),
    };
    let told = ([Some(7.0), Some(1.5)], vec![[500.0, 3.5]]);
    assert_eq!(seen(stopped(&beside)), told);
    let after = format!("[run]\n{}\n[evaluate]\n{endless}\n{limits}", says("true"));
    assert_eq!(seen(stopped(&after)), told);
    let before =
        format!("[run]\n{}\n{limits}\n[evaluate]\n{}", says("echo a; exec sleep 1000"), says("true"));
    assert_eq!(seen(stopped(&before)), ([None, None], Vec::new()));
    // What is said in the same breath as the end is not too late.
    let alone = format!("pattern = 'loss (.*)'\n[run]\n{}\n{limits}", says("echo loss 1"));
    assert_eq!(seen(stopped(&alone)), ([None, None], Vec::new()));
}

#[test]
fn a_person_who_stops_everything_interrupts_whatever_the_caller_said() {
    let mut shell = Shell::new(
        "pattern = 'loss (.*)'\n[run]\ncommand = [\"/bin/sh\", \"-c\", \"echo; exec sleep 1000\"]\n\
         timeout_seconds = 60\n[budget]\nsteps = 3\n",
    );
    let (kill, job) = (shell.lane.kill.clone(), shell.job(JobPhase::Run));
    let mut watch = |sign| {
        if matches!(sign, Sign::Phase(_)) {
            return Watch::GoOn;
        }
        kill.cancel();
        Watch::Stop
    };
    let end = shell.lane.measure(&shell.arm, &job, &mut watch).unwrap();
    assert_eq!(end, MeasureEnd::Done(Outcome::Interrupted));
}

#[test]
fn more_cores_may_have_more_threads() {
    assert_eq!((candidate_processes(2), build_processes(2)), (256, 1024));
    assert_eq!((candidate_processes(192), build_processes(192)), (1536, 3072));
    assert_eq!((candidate_processes(u32::MAX), build_processes(u32::MAX)), (u32::MAX, u32::MAX));
}

/// Executes `run` in a copy, alone, with the number's source and guards as written.
fn alone(run: &str, source: &str, guards: &str, phase: JobPhase) -> Outcome {
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "format = 1\nname = \"alone\"\n[files]\nmutable = [\"x\"]\nfixed = [\"fixed.txt\"]\n[run]\ntree = \"copy\"\n\
         command = [\"/bin/sh\", \"-c\", '''{run}''']\n[metric]\nname = \"loss\"\ndirection = \"lower\"\n{source}\n\
         {guards}\n[budget]\nseconds = 2\n"
    );
    let worktree = root.path().join("worktree");
    fs::create_dir(&worktree).unwrap();
    fs::write(worktree.join("fixed.txt"), "as it was").unwrap();
    fs::write(worktree.join("results.json"), r#"{"loss": 0.001}"#).unwrap();
    fs::write(root.path().join("secret.json"), r#"{"loss": 0.001}"#).unwrap();
    let mut lane = lane(&text, &worktree, root.path());
    let arm = Arm { worktree: worktree.clone(), out: root.path().join("out"), pristine: worktree.clone() };
    let job = Job { seed: 1, budget: lane.task.budget, phase, longest: None };
    let end = lane.measure(&arm, &job, &mut |_| Watch::GoOn).unwrap();
    assert_eq!(
        fs::read_to_string(worktree.join("fixed.txt")).unwrap(),
        "as it was",
        "the checkout is untouched"
    );
    match end {
        MeasureEnd::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

const JSON: &str = r#"json = { file = "results.json", pointer = "/loss" }"#;

#[test]
fn a_score_comes_from_where_the_task_says_and_only_from_this_execution() {
    for (run, source, expect) in [
        ("echo loss: 0.7; echo loss: 0.5", "pattern = '^loss: (.*)'", Ok((0.5, true))),
        (r#"echo "{{\"loss\": 0.25}}" > results.json"#, JSON, Ok((0.25, true))),
        (r#"echo "{{\"loss\": \"0.25\"}}" > results.json"#, JSON, Ok((0.25, true))),
        ("exit 3", "exit_code = true", Ok((3.0, true))),
        // What the commit holds is no result.
        ("true", JSON, Err((Reason::NoMetric, "left no results.json"))),
        ("ln -s ../../secret.json results.json", JSON, Err((Reason::NoMetric, "symbolic link"))),
        ("mkdir results.json", JSON, Err((Reason::NoMetric, "not a plain file"))),
        ("mkfifo results.json", JSON, Err((Reason::NoMetric, "not a plain file"))),
        (r#"echo "{{\"other\": 1}}" > results.json"#, JSON, Err((Reason::NoMetric, "it has /other"))),
        (r#"echo "{{\"loss\": true}}" > results.json"#, JSON, Err((Reason::NoMetric, "a boolean"))),
        (r#"echo "{{\"loss\": NaN}}" > results.json"#, JSON, Err((Reason::NoMetric, "not JSON"))),
        (r#"echo "{{\"loss\": \"inf\"}}" > results.json"#, JSON, Err((Reason::NoMetric, "finite"))),
        ("truncate -s 17M results.json", JSON, Err((Reason::NoMetric, "at most"))),
        ("kill -9 $$", "exit_code = true", Err((Reason::Crash, "SIGKILL"))),
        ("exit 1", JSON, Err((Reason::Crash, "1"))),
    ] {
        match (alone(run, source, "", JobPhase::Run), expect) {
            (Outcome::Scored(score), Ok((value, own))) => {
                assert_eq!((score.value, score.self_reported), (value, own), "{run}");
            }
            (Outcome::Invalid(invalid), Err((reason, words))) => {
                assert_eq!(invalid.reason, reason, "{run}: {invalid}");
                assert!(invalid.detail.contains(words), "{run}: {}", invalid.detail);
            }
            (outcome, expect) => panic!("{run}: {outcome:?}, not {expect:?}"),
        }
    }
}

#[test]
fn wall_time_is_measured_and_not_reported() {
    let Outcome::Scored(score) = alone("sleep 0.2", "wall_seconds = true", "", JobPhase::Run) else {
        panic!("it ended well")
    };
    assert!(score.value >= 0.2 && !score.self_reported);
    assert_eq!(score.facts.get("wall_seconds"), Some(&score.value));
}

#[test]
fn a_candidate_that_changes_a_fixed_file_of_its_copy_has_no_score() {
    for run in [
        "echo changed > fixed.txt; exit 4",
        "rm fixed.txt; exit 4",
        "rm fixed.txt; ln -s /dev/null fixed.txt",
    ] {
        match alone(run, "exit_code = true", "", JobPhase::Run) {
            Outcome::Invalid(invalid) => assert_eq!(invalid.reason, Reason::FixedFile, "{run}"),
            other => panic!("{run}: {other:?}"),
        }
    }
    assert!(matches!(
        alone("echo new > other.txt", "exit_code = true", "", JobPhase::Run),
        Outcome::Scored(_)
    ));
}

#[test]
fn guards_add_their_numbers_and_one_that_is_missing_leaves_no_score() {
    let guards = r#"[guards]
steps = { pattern = '^steps (\d+)', limit = "<= 10" }
model_bytes = { file_size = "model.bin", limit = "<= 1000" }
depth = { json = { file = "facts.json", pointer = "/depth" }, limit = "<= 8" }"#;
    let all = r#"echo steps 5; printf abc > model.bin; echo "{{\"depth\": 3}}" > facts.json"#;
    let Outcome::Scored(score) = alone(all, "exit_code = true", guards, JobPhase::Run) else {
        panic!("scored")
    };
    for (fact, value) in [("reported_steps", 5.0), ("model_bytes", 3.0), ("reported_depth", 3.0)] {
        assert_eq!(score.facts.get(fact), Some(&value), "{fact}");
    }
    match alone("echo steps 5; printf abc > model.bin", "exit_code = true", guards, JobPhase::Run) {
        Outcome::Invalid(invalid) => {
            assert_eq!(invalid.reason, Reason::Guard);
            assert!(invalid.detail.contains("`depth`: the run left no facts.json"), "{invalid}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guard_command_that_passes_by_changing_a_fixed_file_does_not_pass() {
    let cheat = "[guards]\ntests = { command = [\"/bin/sh\", \"-c\", \"echo easy > fixed.txt\"] }";
    match alone("exit 0", "exit_code = true", cheat, JobPhase::Guard) {
        Outcome::Invalid(invalid) => assert_eq!(invalid.reason, Reason::FixedFile),
        other => panic!("{other:?}"),
    }
}

#[test]
fn guard_commands_run_instead_of_the_candidate() {
    let guards = |exit: &str| {
        format!(
            "[guards]\ntests = {{ command = [\"/bin/sh\", \"-c\", \"test -e fixed.txt && exit {exit}\"] }}"
        )
    };
    let run = "echo never > ran; exit 9";
    assert_eq!(alone(run, "exit_code = true", &guards("0"), JobPhase::Guard), Outcome::Passed);
    match alone(run, "exit_code = true", &guards("2"), JobPhase::Guard) {
        Outcome::Invalid(invalid) => {
            assert_eq!(invalid.reason, Reason::Guard);
            assert!(invalid.detail.starts_with("guard `tests` does not pass"), "{invalid}");
        }
        other => panic!("{other:?}"),
    }
}
