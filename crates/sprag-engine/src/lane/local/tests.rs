//! Executions of shell commands, without a sandbox.

use super::*;

/// A lane in a folder of its own, without a sandbox, on a task of shell commands.
struct Shell {
    lane: Local,
    arm: Arm,
    _root: tempfile::TempDir,
}

impl Shell {
    /// `sections`: `[run]`, who scores, and `[budget]`.
    fn new(sections: &str) -> Shell {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "format = 1\nname = \"shell\"\n[files]\nmutable = [\"x\"]\n[metric]\nname = \"loss\"\n\
             direction = \"lower\"\n{sections}"
        );
        let lane = Local {
            task: Task::parse(&text, root.path()).unwrap(),
            confinement: Confinement::Unsandboxed,
            sprag: "sprag".into(),
            environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
            cache: root.path().join("cache"),
            scratch: root.path().join("scratch"),
            default_memory_bytes: None,
            kill: Cancel::default(),
        };
        let arm = Arm { worktree: root.path().to_owned(), out: root.path().to_owned() };
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
