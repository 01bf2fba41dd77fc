use std::fs;

use super::*;
use crate::proposer::fixture::{Place, brief};
use crate::proposer::{AskingLimits, ProposerSpec, parse_proposer};
use crate::record::{Effect, Measure, Outcome, Proposed, Record, Score, Verdict};
use crate::repo::fixture;
use crate::state::State;

const SOURCE: &str = "// --- Rates ---\n/// knob: log 1e-3..1.0\nconst LR: f64 = 0.02;\n// --- Shape ---\n\
    /// knob: linear 1..8\nconst DEPTH: usize = 2;\n/// knob: choice Relu|Gelu\nconst ACT: Act = Relu;\n";

/// A package of the same name with the few words of Optuna that the script uses; it answers the upper ends and writes
/// down what it was told.
const PACKAGE: &str = r#"
import json, os, types
__version__ = "0.0"
told = {"trials": []}
class Distribution:
    def __init__(self, *values, log=False):
        self.values, self.log = values, log
distributions = types.SimpleNamespace(
    CategoricalDistribution=lambda choices: Distribution(*choices),
    IntDistribution=Distribution, FloatDistribution=Distribution)
logging = types.SimpleNamespace(ERROR=40, set_verbosity=lambda level: None)
samplers = types.SimpleNamespace(TPESampler=lambda seed: told.update(seed=seed))
trial = types.SimpleNamespace(
    TrialState=types.SimpleNamespace(FAIL="fail"),
    create_trial=lambda params, distributions, **result: {"params": params, **result})
class Study:
    def add_trial(self, trial):
        told["trials"].append(trial)
    def ask(self, fixed_distributions):
        told["space"] = {name: [one.values, one.log] for name, one in fixed_distributions.items()}
        with open(os.environ["TOLD"], "w") as file:
            json.dump(told, file)
        return types.SimpleNamespace(params={name: one.values[-1] for name, one in fixed_distributions.items()})
def create_study(direction, sampler):
    told["direction"] = direction
    return Study()
"#;

struct Bench {
    place: Place,
    environment: Vec<(OsString, OsString)>,
    told: PathBuf,
}

impl Bench {
    fn new(package: &str) -> Bench {
        let place = Place::new();
        let root = place.dir.path().join(".sprag/python");
        fs::create_dir_all(root.join("optuna")).unwrap();
        fs::write(root.join("optuna/__init__.py"), package).unwrap();
        fs::write(place.dir.path().join("src/train.rs"), SOURCE).unwrap();
        // What lies in the worktree is not imported.
        fs::write(place.dir.path().join("src/optuna.py"), "raise SystemExit('of the worktree')\n").unwrap();
        let mut environment = fixture::environment();
        let told = root.join("told.json");
        environment.push(("PYTHONPATH".into(), root.into()));
        environment.push(("TOLD".into(), told.clone().into()));
        Bench { place, environment, told }
    }

    fn propose(&self, state: &State) -> Result<Proposal, Declined> {
        let spec = parse_proposer("optuna").unwrap();
        let mut proposer = spec.open_with(&self.place.task, &self.environment, &AskingLimits::default());
        let brief_dir = self.place.brief_dir();
        let worktree = self.place.dir.path();
        proposer.propose(&Brief {
            brief_dir: &brief_dir,
            ..brief(&self.place.task, &self.place.repo, state, worktree)
        })
    }

    /// Trials whose code is a commit of this source, with a score or without.
    fn state(&self, trials: &[(&str, Option<f64>)]) -> State {
        let mut state = State::default();
        let parent = self.place.repo.head().unwrap();
        for (trial, (source, score)) in (0..).zip(trials) {
            let worktree = self.place.worktree();
            self.place.repo.worktree_add(&worktree, &parent).unwrap();
            fs::write(worktree.join("src/train.rs"), source).unwrap();
            let commit = self.place.repo.commit_all(&worktree, "trial", &parent).unwrap();
            let started = Record::TrialStarted {
                trial,
                proposer: "p".into(),
                parent: parent.clone(),
                again: None,
                heat: None,
            };
            state.apply("", &started);
            state.apply("", &Record::Proposed(Proposed { trial, commit, ..Proposed::default() }));
            let purpose = Purpose::Screen;
            let measure = Measure { measure: trial, trial, arm: trial, seed: 1, purpose, budget: None };
            let effect = Effect { gain: 0.0, low: -1.0, high: 1.0, runs: 1, sigma: 1.0 };
            let verdict = match score {
                Some(value) => {
                    state.apply("", &Record::MeasureStarted(measure.clone()));
                    let outcome = Outcome::Scored(Score { value: *value, ..Score::default() });
                    state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
                    Verdict::Loss(effect)
                }
                None => Verdict::Stopped { detail: String::new() },
            };
            state.apply("", &Record::Decided { trial, verdict, reason: String::new() });
        }
        state
    }
}

#[test]
fn the_study_is_made_from_the_ledger_and_the_point_is_written_into_the_files() {
    let bench = Bench::new(PACKAGE);
    let other = SOURCE.replace("0.02", "0.5").replace("= Relu", "= Elu").replace("usize = 2", "usize = 9");
    let state = bench.state(&[(SOURCE, Some(1.5)), (&other, None), ("no knobs here\n", Some(1.0))]);
    let proposal = bench.propose(&state).unwrap();
    let told: Value = serde_json::from_str(&fs::read_to_string(&bench.told).unwrap()).unwrap();
    assert_eq!(told["direction"], "minimize");
    assert_eq!(
        told["space"],
        json!({
            "LR": [[0.001, 1.0], true], "DEPTH": [[1, 8], false], "ACT": [["Relu", "Gelu"], false],
        })
    );
    // What is out of its range today is left out.
    assert_eq!(
        told["trials"],
        json!([
            {"params": {"LR": 0.02, "DEPTH": 2, "ACT": "Relu"}, "value": 1.5},
            {"params": {"LR": 0.5}, "state": "fail"},
        ])
    );
    let text = fs::read_to_string(bench.place.dir.path().join("src/train.rs")).unwrap();
    assert_eq!(
        text,
        SOURCE.replace("0.02", "1.0").replace("usize = 2", "usize = 8").replace("= Relu", "= Gelu")
    );
    assert_eq!(proposal.title, "LR 0.02 -> 1.0 and 2 more knobs");
    assert_eq!(proposal.family.as_deref(), Some("several knobs"));
    assert!(proposal.hypothesis.unwrap().contains("Optuna 0.0 asks for this point after 2 trials"));
}

#[test]
fn a_point_that_was_tried_is_asked_for_again_and_then_given_up() {
    let bench = Bench::new(PACKAGE);
    fs::remove_file(bench.place.dir.path().join("src/optuna.py")).unwrap();
    let mut state = bench.state(&[(SOURCE, Some(1.5))]);
    bench.propose(&state).unwrap();
    let content = crate::proposer::content_of(&bench.place.task, bench.place.dir.path()).unwrap();
    state.apply("", &Record::Proposed(Proposed { trial: 0, content, ..Proposed::default() }));
    fs::write(bench.place.dir.path().join("src/train.rs"), SOURCE).unwrap();
    let answer = bench.propose(&state);
    assert!(matches!(&answer, Err(Declined::Exhausted(why)) if why.contains("tried before")), "{answer:?}");
}

#[test]
fn a_package_that_is_missing_and_a_script_that_fails_are_told() {
    let bench = Bench::new("raise ImportError('nothing here')\n");
    let answer = bench.propose(&State::default());
    assert!(
        matches!(&answer, Err(Declined::Failed(why)) if why.contains("pip install optuna")),
        "{answer:?}"
    );
    let spec = |text: &str| match parse_proposer(text).unwrap() {
        ProposerSpec::Optuna(spec) => spec,
        other => panic!("{other:?}"),
    };
    assert!(spec("optuna").check(&bench.environment).unwrap_err().contains("pip install optuna"));
    let absent = spec("optuna:/nowhere/python").check(&bench.environment).unwrap_err();
    assert!(absent.contains("there is no `/nowhere/python`"), "{absent}");
    assert_eq!(spec("optuna:/nowhere/python").to_string(), "optuna:/nowhere/python");
    assert_eq!(spec("optuna").to_string(), "optuna");

    let bench = Bench::new("raise ValueError('a broken install')\n");
    let answer = bench.propose(&State::default());
    assert!(matches!(&answer, Err(Declined::Failed(why)) if why.contains("a broken install")), "{answer:?}");

    fs::write(bench.place.dir.path().join("src/train.rs"), "nothing to turn\n").unwrap();
    assert!(matches!(bench.propose(&State::default()), Err(Declined::Exhausted(_))));
}

#[test]
fn numbers_keep_four_digits() {
    assert_eq!([0.012345678, 3.0, 12345.678, 0.0].map(rounded), [0.01235, 3.0, 12350.0, 0.0]);
}
