//! A hand-made run of 25 trials that shows every kind of ending; the tests of all views read it.

use std::collections::BTreeMap;

use sprag_engine::gate;
use sprag_engine::record::{
    Budget, Direction, Effect, Invalid, Measure, Mix, Outcome, Policy, Proposed, Purpose, Reason, Record,
    RunStarted, Score, SecondBudget, TrialId, Verdict,
};
use sprag_engine::session::{Rules, Step, next_step};
use sprag_engine::state::State;
use sprag_measure::clock;

use super::model::{Extras, Page, page};

/// The states after each of its ledger's lines.
pub fn states() -> Vec<State> {
    let mut states = vec![State::default()];
    for (at, record) in filled().records {
        let mut state = states.last().cloned().unwrap_or_default();
        state.apply(&at, &record);
        states.push(state);
    }
    states
}

/// The state after all trials.
pub fn state() -> State {
    filled().state
}

fn filled() -> Builder {
    let mut ledger = Builder::new();
    ledger.baseline(&[2.4132, 2.4071, 2.4189, 2.4102, 2.4166]);
    ledger.loss("LEARNING_RATE 3e-3 -> 3e-2", -0.21, 0);
    ledger.win("N_LAYER 4 -> 3", 0.0312, 2);
    ledger.invalid("BATCH_SIZE 16 -> 256", Reason::Memory, "used 8.4 GiB of 8.0 GiB");
    ledger.inconclusive("WARMUP 0.02 -> 0.05", 0.0041, 3);
    ledger.loss("N_HEAD 4 -> 8", -0.0212, 0);
    ledger.win("MUON_RATE 0.02 -> 0.035", 0.0198, 3);
    ledger.invalid(
        "attention without its mask",
        Reason::Causality,
        "logits at 17 moved by 3.1 when token 40 changed",
    );
    ledger.loss("SOFTCAP 15 -> none", -0.0391, 0);
    ledger.inconclusive("BETA2 0.95 -> 0.99", -0.0018, 0);
    ledger.win("SEQ_LEN 256 -> 192", 0.0241, 2);
    ledger.undo();
    ledger.invalid("LEARNING_RATE 3e-3 -> 0.4", Reason::Diverged, "the loss is not finite at step 212");
    ledger.build_failure(
        "a gate on the MLP",
        "error[E0061]: this function takes 2 arguments but 1 was supplied",
    );
    ledger.loss("MLP_RATIO 4 -> 2", -0.0107, 1);
    ledger.rejected("only the seed", Reason::SeedOnly, "LEARNING_RATE is the same, `SEED` differs");
    ledger.win("BATCH_SIZE 16 -> 8", 0.0409, 1);
    ledger.inconclusive("WEIGHT_DECAY 0.1 -> 0.01", 0.0032, 3);
    ledger.loss("<script>alert('title')</script> & \"quotes\"", -0.0522, 0);
    ledger.inconclusive("N_KV_HEAD 4 -> 2", 0.0012, 0);
    ledger.rejected("the same again", Reason::Duplicate, "the same content as trial 5");
    ledger.loss("ROTARY_BASE 10000 -> 1000", -0.0077, 0);
    ledger.win("COOLDOWN 0.3 -> 0.6", 0.0166, 3);
    ledger.invalid("prints forever", Reason::Output, "wrote more than 16 MiB");
    ledger.loss("EMBEDDING_RATE 0.2 -> 1.6", -0.0894, 0);
    ledger.inconclusive("CLIP 1.0 -> 0.5", -0.0009, 0);
    ledger.open("N_LAYER 3 -> 2");
    ledger
}

/// Its page.
pub fn filled_page() -> Page {
    let diff = "diff --git a/src/train.rs b/src/train.rs\n--- a/src/train.rs\n+++ b/src/train.rs\n@@ -11,7 +11,7 @@\n \
                /// Layers.\n-const N_LAYER: usize = 4;\n+const N_LAYER: usize = 3; // </pre><script>alert(1)</script>\n";
    let state = state();
    let extras = Extras {
        diffs: state.trials.iter().skip(1).map(|trial| (trial.id, diff.to_owned())).collect(),
        data: vec![
            ("source".to_owned(), "cargo: 412 packages".to_owned()),
            ("train".to_owned(), "21.4 M tokens of 71.9 MB in 8123 documents".to_owned()),
            ("tokenizer".to_owned(), "byte-level BPE, 4096 ids".to_owned()),
        ],
        reproduce: vec!["git checkout 1111111".to_owned(), "sprag run --seed 7 --trials 26".to_owned()],
        sprag_version: "0.1.0".to_owned(),
        generated_at: "2026-11-21T10:20:00Z".to_owned(),
    };
    page(&state, extras).expect("the fixture has a frame")
}

/// A page of three keeps under a second budget of 500 000 tokens: by speed, by learning, and one whose pairs had no
/// score.
pub fn page_of_two_budgets() -> Page {
    let mut ledger = Builder::new();
    if let Some((_, Record::RunStarted(run))) = ledger.records.first_mut() {
        run.second = Some(SecondBudget::Fixed(Budget::Tokens(500_000)));
    }
    let again: Vec<(String, Record)> = std::mem::take(&mut ledger.records);
    ledger.state = State::default();
    for (at, record) in again {
        ledger.state.apply(&at, &record);
        ledger.records.push((at, record));
    }
    ledger.baseline(&[2.4132, 2.4071, 2.4189, 2.4102, 2.4166]);
    ledger.speed = 1.2;
    ledger.win("PRECISION fp32 -> bf16", 0.0912, 3);
    ledger.under_second(1, &[Some(0.002), Some(-0.001)]);
    ledger.win("MUON_RATE 0.02 -> 0.035", 0.0698, 3);
    ledger.under_second(2, &[Some(0.061), Some(0.066)]);
    ledger.win("SOFTCAP none -> 15", 0.0241, 2);
    ledger.under_second(3, &[None, None]);
    page(&ledger.state, Extras::default()).expect("there is a frame")
}

struct Builder {
    state: State,
    records: Vec<(String, Record)>,
    now_seconds: i64,
    next_measure: u32,
    noise: u64,
    /// Tokens a second of every code but the baseline's, as a multiple of that.
    speed: f64,
}

impl Builder {
    fn new() -> Builder {
        let state = State::default();
        let mut builder = Builder {
            state,
            records: Vec::new(),
            now_seconds: 1_795_255_200,
            next_measure: 0,
            noise: 7,
            speed: 1.0,
        };
        let machine = [
            ("cpu", "AMD EPYC 9454 (2 of 96 cores)"),
            ("memory_bytes", "24.0 GiB"),
            ("os", "Linux 6.1"),
            ("rustc", "1.95.0"),
        ];
        builder.record(Record::RunStarted(Box::new(RunStarted {
            guards: Vec::new(),
            run: "one".to_owned(),
            sprag_version: "0.1.0".to_owned(),
            task: "gpt".to_owned(),
            task_sha256: "ab".repeat(32),
            base: "1".repeat(40),
            fixed_sha256: "cd".repeat(32),
            metric: "val_bpb".to_owned(),
            direction: Direction::Lower,
            budget: Budget::Seconds(20.0),
            second: None,
            policy: Policy::default(),
            seed: 7,
            proposers: vec!["search".to_owned()],
            mix: Mix::default(),
            sandbox: vec!["files: Landlock".to_owned(), "network: seccomp and own namespace".to_owned()],
            sandbox_missing: Vec::new(),
            machine: machine.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        })));
        builder
    }

    fn record(&mut self, record: Record) {
        let at = clock::rfc3339(self.now_seconds);
        self.state.apply(&at, &record);
        self.records.push((at, record));
    }

    fn random(&mut self) -> f64 {
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    fn start(&mut self, title: &str) -> TrialId {
        let trial = self.state.trials.len() as TrialId;
        let parent = self.state.tip.clone().unwrap_or_default();
        self.record(Record::TrialStarted {
            trial,
            proposer: "search".to_owned(),
            parent,
            again: None,
            heat: None,
        });
        self.now_seconds += 1;
        if trial > 0 {
            self.record(Record::Proposed(Proposed {
                trial,
                attempt: 0,
                commit: format!("{trial:040x}"),
                title: title.to_owned(),
                hypothesis: Some(format!("{title}: more steps fit into the budget & the loss <falls>")),
                idea: None,
                expected_gain: Some(0.01),
                near: None,
                family: title.split(' ').next().map(str::to_owned),
                content: format!("{trial:064x}"),
                paths: vec!["src/train.rs".to_owned()],
                insertions: 1,
                deletions: 1,
            }));
        }
        trial
    }

    fn build(&mut self, trial: TrialId, attempt: u32, error: Option<String>) {
        self.record(Record::BuildStarted { trial, attempt });
        self.now_seconds += 3;
        let seconds = if trial == 0 { 84.2 } else { 2.9 };
        self.record(Record::Built { trial, attempt, seconds, error, timed_out: false });
    }

    fn measure(&mut self, trial: TrialId, arm: TrialId, purpose: Purpose, outcome: Outcome) {
        let seconds = if purpose == Purpose::Smoke { 0.9 } else { 22.6 };
        let measure = Measure {
            measure: self.next_measure,
            trial,
            arm,
            seed: 1000 + u64::from(self.next_measure),
            purpose,
            budget: None,
        };
        self.next_measure += 1;
        self.record(Record::MeasureStarted(measure.clone()));
        self.now_seconds += seconds as i64;
        self.record(Record::Measured { measure, outcome, seconds });
    }

    fn scored(&mut self, arm: TrialId, value: f64) -> Outcome {
        let speed = if arm == 0 { 1.0 } else { self.speed };
        let rate = 25_000.0 * speed * (1.0 + 0.04 * self.random());
        let facts = [
            ("evaluation_seconds", 1.9 + 0.1 * self.random()),
            ("train_seconds", 20.0),
            ("tokens_per_second", rate),
            ("train_tokens", rate * 20.0),
            ("steps", (rate * 20.0 / 4096.0).round()),
            ("peak_memory_bytes", 3.1e8 + 1e7 * self.random()),
            ("val_standard_error", 0.0031),
            ("reported_parameters", 1_432_576.0),
        ];
        let curve = (0..40).map(|step| {
            let seconds = 0.5 * f64::from(step + 1);
            [seconds, value + 6.0 * (-seconds / 3.0).exp() + 0.05 * self.random()]
        });
        let curve = curve.collect();
        let facts: BTreeMap<String, f64> = facts.map(|(name, value)| (name.to_owned(), value)).into();
        Outcome::Scored(Score { value, facts, curve, ..Score::default() })
    }

    fn baseline(&mut self, scores: &[f64]) {
        let trial = self.start("");
        self.build(trial, 0, None);
        self.measure(trial, trial, Purpose::Smoke, Outcome::Passed);
        for &score in scores {
            let outcome = self.scored(trial, score);
            self.measure(trial, trial, Purpose::Baseline, outcome);
        }
        let verdict = gate::baseline(scores).expect("there are repeats");
        self.decide(trial, verdict, "the noise floor is known");
    }

    fn decide(&mut self, trial: TrialId, verdict: Verdict, reason: &str) {
        let kept = matches!(verdict, Verdict::Win(_));
        self.record(Record::Decided { trial, verdict, reason: reason.to_owned() });
        if kept {
            let (from, to) = (self.state.tip.clone().unwrap_or_default(), format!("{trial:040x}"));
            self.record(Record::AdvanceStarted { trial, from, to: to.clone() });
            self.record(Record::Advanced { trial, to });
        }
        self.now_seconds += 1;
    }

    /// Smoke test, screening and pairs that show that gain.
    fn tried(&mut self, title: &str, gain: f64, pairs: u32) -> (TrialId, Effect) {
        let trial = self.start(title);
        let incumbent = self.state.incumbent.unwrap_or(0);
        let level = 2.4132 - 0.02 * f64::from(incumbent).sqrt();
        self.build(trial, 0, None);
        self.measure(trial, trial, Purpose::Smoke, Outcome::Passed);
        let outcome = self.scored(trial, level - gain * 1.2);
        self.measure(trial, trial, Purpose::Screen, outcome);
        for pair in 0..pairs {
            let noise = 0.003 * self.random();
            let arms = [(trial, level - gain + noise), (incumbent, level - noise)];
            for turn in 0..2 {
                let (arm, value) = arms[(pair as usize + turn) % 2];
                let outcome = self.scored(arm, value);
                self.measure(trial, arm, Purpose::Confirm, outcome);
            }
        }
        let half = 0.024 / f64::from(pairs.max(1)).sqrt();
        (trial, Effect { gain, low: gain - half, high: gain + half, runs: pairs, sigma: 0.0047 })
    }

    fn win(&mut self, title: &str, gain: f64, pairs: u32) {
        let (trial, effect) = self.tried(title, gain, pairs);
        let effect = Effect { low: gain * 0.2, high: gain * 1.8, ..effect };
        self.decide(trial, Verdict::Win(effect), "the interval lies above zero");
    }

    /// What the session asks for under the second budget after a keep: the pairs show these gains, or the arm that
    /// goes first gives no score.
    fn under_second(&mut self, trial: TrialId, gains: &[Option<f64>]) {
        let rules = Rules {
            guards: false,
            builds: true,
            smokes: true,
            holdout: false,
            repairs: true,
            circles: true,
            affordable_repeats: None,
            max_trials: None,
        };
        let mut seeds = Vec::new();
        while let Step::Measure(measure) = next_step(&self.state, rules) {
            assert_eq!((measure.trial, measure.purpose), (trial, Purpose::Second));
            if !seeds.contains(&measure.seed) {
                seeds.push(measure.seed);
            }
            let outcome = match gains[seeds.len() - 1] {
                Some(gain) => self.scored(measure.arm, if measure.arm == trial { 2.4 - gain } else { 2.4 }),
                None => Outcome::Invalid(Invalid::new(Reason::Timeout, "no end after 55 s")),
            };
            self.next_measure = measure.measure + 1;
            self.record(Record::MeasureStarted(measure.clone()));
            self.now_seconds += 18;
            self.record(Record::Measured { measure, outcome, seconds: 18.4 });
        }
        assert_eq!(seeds.len(), gains.len());
    }

    fn loss(&mut self, title: &str, gain: f64, pairs: u32) {
        let (trial, effect) = self.tried(title, -gain.abs(), pairs);
        let effect = Effect { low: effect.gain * 1.6, high: effect.gain * 0.3, ..effect };
        self.decide(trial, Verdict::Loss(effect), "the interval lies below zero");
    }

    fn inconclusive(&mut self, title: &str, gain: f64, pairs: u32) {
        let (trial, effect) = self.tried(title, gain, pairs);
        self.decide(trial, Verdict::Inconclusive(effect), "the interval spans zero");
    }

    fn invalid(&mut self, title: &str, reason: Reason, detail: &str) {
        let trial = self.start(title);
        self.build(trial, 0, None);
        // It came a third of the way.
        let facts = BTreeMap::from([("train_seconds".to_owned(), 6.5)]);
        let curve = (1..=13).map(|step| [0.5 * f64::from(step), 9.0 - 0.2 * f64::from(step)]).collect();
        let invalid = Invalid { facts, curve, ..Invalid::new(reason, detail) };
        let verdict = invalid.verdict();
        self.measure(trial, trial, Purpose::Screen, Outcome::Invalid(invalid));
        self.decide(trial, verdict, detail);
    }

    fn build_failure(&mut self, title: &str, error: &str) {
        let trial = self.start(title);
        for attempt in 0..3 {
            self.build(trial, attempt, Some(error.to_owned()));
        }
        let invalid = Invalid::new(Reason::Build, error);
        self.decide(trial, Verdict::Invalid(invalid), "it did not build, two repairs included");
    }

    fn rejected(&mut self, title: &str, reason: Reason, detail: &str) {
        let trial = self.start(title);
        self.decide(trial, Verdict::Invalid(Invalid::new(reason, detail)), detail);
    }

    fn undo(&mut self) {
        let trial = self.state.incumbent.unwrap_or(0);
        let parent = self.state.trials[trial as usize].parent_trial.unwrap_or(0);
        let to = format!("{parent:040x}");
        self.record(Record::UndoStarted { trial, to: to.clone(), audit: None });
        self.record(Record::Undone { trial, to });
    }

    fn open(&mut self, title: &str) {
        let trial = self.start(title);
        self.build(trial, 0, None);
        self.measure(trial, trial, Purpose::Smoke, Outcome::Passed);
    }
}
