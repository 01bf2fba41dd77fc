//! The live console: one line a finished trial, and below them a line that says what happens now.
//!
//! It folds the ledger's lines it sees into a state of its own and shows what the report's model says,
//! so that no number is computed twice. Where the terminal cannot redraw, phases are plain lines.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sprag_engine::event::{Event, Observer, Phase, Progress};
use sprag_engine::record::{AuditId, Measure, Outcome, Purpose, Reason, Record, TrialId};
use sprag_engine::state::State;

use super::live::Live;
use super::{Terminal, Tone, tame, toned, words};
use crate::numbers;
use crate::report::model::{self, Extras};

/// How often the live line is redrawn.
const TICK: Duration = Duration::from_millis(200);

/// What the console must know to say how long it will take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The run's time, in seconds from now.
    pub seconds: Option<f64>,
    /// The run's trials.
    pub trials: Option<u32>,
}

/// Observes a run.
#[derive(Debug)]
pub struct Console {
    screen: Arc<Mutex<Screen>>,
}

impl Console {
    /// `state` is what was recorded before, for a run that is resumed.
    pub fn new(terminal: Terminal, limits: Limits, state: State) -> Console {
        let screen =
            Screen { terminal, limits, state, live: Live::new(terminal), began: Instant::now(), now: None };
        let screen = Arc::new(Mutex::new(screen));
        if terminal.live {
            let weak = Arc::downgrade(&screen);
            std::thread::spawn(move || {
                while let Some(screen) = weak.upgrade() {
                    lock(&screen).redraw();
                    drop(screen);
                    std::thread::sleep(TICK);
                }
            });
        }
        Console { screen }
    }

    /// Wipes the live line and takes back the state as the console saw it.
    pub fn finish(self) -> State {
        let mut screen = lock(&self.screen);
        screen.now = None;
        screen.live.wipe();
        screen.state.clone()
    }
}

impl Observer for Console {
    fn observe(&mut self, event: &Event) {
        lock(&self.screen).observe(event);
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    // A view that panicked once may still draw: it holds no invariant that matters.
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Screen {
    terminal: Terminal,
    limits: Limits,
    state: State,
    live: Live,
    began: Instant,
    now: Option<Now>,
}

/// What happens now.
#[derive(Debug)]
struct Now {
    trial: TrialId,
    phase: Phase,
    measure: Option<Measure>,
    expected_seconds: Option<f64>,
    since: Instant,
    progress: Progress,
    output: String,
}

impl Screen {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::Recorded { line } => {
                self.state.apply(&line.at, &line.record);
                self.recorded(&line.record);
            }
            Event::Phase { trial, phase, measure, expected_seconds } => {
                // Training and scoring are one execution: its clock and expectation go on.
                let same = |now: &&Now| measure.is_some() && now.measure == *measure;
                let since = self.now.as_ref().filter(same).map_or_else(Instant::now, |now| now.since);
                self.now = Some(Now {
                    trial: *trial,
                    phase: *phase,
                    measure: measure.clone(),
                    expected_seconds: *expected_seconds,
                    since,
                    progress: Progress::default(),
                    output: String::new(),
                });
                self.announce();
            }
            Event::Progress(progress) => {
                if let Some(now) = &mut self.now {
                    now.progress = progress.clone();
                }
            }
            Event::Output { text, .. } => {
                if let Some(now) = self.now.as_mut().filter(|_| !text.trim().is_empty()) {
                    now.output = text.trim().to_owned();
                }
            }
            Event::Warning { text, hint } => {
                let word = toned("warning:", Tone::Doubt, self.terminal.colour_err);
                self.talk(&format!("{word} {}", tame(text)));
                if let Some(hint) = hint {
                    self.talk(&format!("hint: {}", tame(hint)));
                }
            }
        }
    }

    fn recorded(&mut self, record: &Record) {
        match record {
            Record::RunStarted(run) => {
                let proposers = run.proposers.join(", ");
                self.talk(&format!(
                    "run {} of task {}: {} ({} is better), {} a trial, proposals by {proposers}, seed {}",
                    run.run,
                    run.task,
                    run.metric,
                    words_of(run.direction),
                    crate::report::html::budget(run.budget),
                    run.seed
                ));
            }
            Record::RunResumed { .. } => {
                let counts = self.page().map(|page| words::counts(&page.counts)).unwrap_or_default();
                let name = self.state.run.as_ref().map_or("", |run| run.run.as_str()).to_owned();
                self.talk(&format!("resuming run {name}: {counts} so far"));
            }
            Record::LedgerRepaired { dropped_bytes } => {
                self.talk(&format!(
                    "warning: a torn last line of {dropped_bytes} bytes was cut off the ledger"
                ));
            }
            // What follows is not that phase any more, even before the next one is announced.
            Record::Measured { outcome: Outcome::Invalid(invalid), .. }
                if invalid.reason == Reason::Machine =>
            {
                self.now = None;
                self.talk(&format!(
                    "the machine was disturbed, this execution is made again: {}",
                    tame(&invalid.detail)
                ));
            }
            Record::Built { .. } | Record::Measured { .. } => self.now = None,
            Record::Decided { trial, .. } => self.decided(*trial),
            Record::ProposerStopped { reason, .. } => {
                self.talk(&format!("no more proposals: {}", tame(reason)))
            }
            Record::Undone { trial, .. } => {
                let audit = self.state.trial(*trial).and_then(|trial| trial.failed_audit);
                let why = audit.map_or(String::new(), |audit| format!(": audit {audit} did not bear it out"));
                self.talk(&format!("trial {trial} was taken back{why}"));
            }
            Record::AuditStarted { audit, tip, against, keeps, .. } => {
                let keeps = if *keeps == 1 { "1 keep".to_owned() } else { format!("{keeps} keeps") };
                self.talk(&format!("audit {audit}: {keeps}, trial {tip} against trial {against}"));
            }
            Record::Audited { audit, .. } => self.audited(*audit),
            Record::Plateau { without_win, stage, .. } => self.talk(&format!(
                "plateau: nothing was kept in {without_win} judged trials; proposers are asked for {}",
                stage.words()
            )),
            Record::RunFinished { reason } => self.talk(&format!("run finished: {}", tame(reason))),
            _ => {}
        }
    }

    fn page(&self) -> Option<model::Page> {
        model::page(&self.state, Extras::default())
    }

    /// The one line of a finished trial; a result, so it goes to standard output.
    fn decided(&mut self, id: TrialId) {
        self.now = None;
        let Some(page) = self.page() else { return };
        let Some(trial) = page.trials.get(id as usize) else { return };
        let line = words::trial_line(trial, &page, self.terminal.colour_out);
        self.live.wipe();
        let mut stream = std::io::stdout().lock();
        let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
    }

    /// The one line of an audit; a result, too.
    fn audited(&mut self, id: AuditId) {
        self.now = None;
        let Some(page) = self.page() else { return };
        let Some(audit) = page.audits.iter().find(|audit| audit.id == id) else { return };
        let line = words::audit_line(audit, page.decimals);
        self.live.wipe();
        let mut stream = std::io::stdout().lock();
        let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
    }

    fn talk(&mut self, text: &str) {
        self.live.wipe();
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Without redrawing, the phases that take long are lines of their own.
    fn announce(&mut self) {
        if self.terminal.live {
            return self.redraw();
        }
        let Some(now) = &self.now else { return };
        let what = match now.phase {
            Phase::Build => "build".to_owned(),
            Phase::Run => self.what(now),
            Phase::Propose | Phase::Smoke | Phase::Evaluate | Phase::Guard => return,
        };
        let about = now
            .expected_seconds
            .map_or(String::new(), |seconds| format!(", about {}", numbers::duration(seconds)));
        let line = format!("trial {}: {what}{about}", now.trial);
        self.talk(&line);
    }

    /// What is executed, in words: `baseline run 2 of up to 10`, `run`, `repeat 1`, `audit 2, pair 1, tip`.
    fn what(&self, now: &Now) -> String {
        let Some(measure) = &now.measure else { return "run".to_owned() };
        let trial = self.state.trial(now.trial);
        match measure.purpose {
            Purpose::Baseline => {
                let repeats = self.state.run.as_ref().map_or(0, |run| run.policy.baseline_repeats);
                // Those that were disturbed or interrupted do not count.
                let scored = trial.into_iter().flat_map(|trial| trial.scores(trial.id, Purpose::Baseline));
                format!("baseline run {} of up to {repeats}", scored.count() + 1)
            }
            Purpose::Confirm if measure.arm != now.trial => "incumbent beside it".to_owned(),
            Purpose::Confirm => {
                let own = trial.into_iter().flat_map(|trial| trial.scores(trial.id, Purpose::Confirm));
                format!("repeat {}", own.count() + 1)
            }
            Purpose::Anchor => "incumbent again".to_owned(),
            Purpose::Audit => {
                let Some(audit) = self.state.open_audit() else { return "audit".to_owned() };
                let arm = if measure.arm == audit.tip { "tip" } else { "champion" };
                let pair = sprag_engine::session::audit_pairs(&self.state, audit).len() + 1;
                format!("audit {}, pair {pair}, {arm}", audit.id)
            }
            Purpose::Holdout => "sealed holdout".to_owned(),
            Purpose::Smoke => "smoke test".to_owned(),
            Purpose::Guard => "guards".to_owned(),
            Purpose::Screen => "run".to_owned(),
            Purpose::Check => "check".to_owned(),
            Purpose::Second => {
                let code = if measure.arm == measure.trial { "tip" } else { "incumbent before it" };
                format!("second budget, {code}")
            }
            Purpose::Race => {
                let budget = measure.budget.map(|part| part.to_string()).unwrap_or_default();
                format!("race on {budget}")
            }
        }
    }

    fn redraw(&mut self) {
        if let Some(now) = &self.now {
            let text = self.line(now);
            self.live.show(&text);
        }
    }

    /// `trial 4  run  12/23 s  25.1 k tok/s  loss 5.13  ETA 0:11  |  3:41 of 10:00, 2 wins`.
    fn line(&self, now: &Now) -> String {
        let elapsed = now.since.elapsed().as_secs_f64();
        let phase = match now.phase {
            Phase::Propose => "propose".to_owned(),
            Phase::Build => "build".to_owned(),
            Phase::Smoke => "smoke test".to_owned(),
            Phase::Guard => "guards".to_owned(),
            Phase::Run => self.what(now),
            Phase::Evaluate => format!("{}, evaluate", self.what(now)),
        };
        let mut parts = vec![format!("trial {}", now.trial), phase, numbers::clock(elapsed)];
        if let Some(rate) = now.progress.tokens_per_second {
            parts.push(format!("{} tok/s", numbers::count(rate)));
        }
        if let Some(loss) = now.progress.loss {
            parts.push(format!("loss {loss:.3}"));
        }
        if let Some(seconds) = remaining(now, elapsed) {
            parts.push(format!("ETA {}", numbers::clock(seconds)));
        }
        if now.phase == Phase::Build && !now.output.is_empty() {
            parts.push(tame(&now.output));
        }
        parts.push(self.overall());
        parts.join("  ")
    }

    /// Where the run stands as a whole.
    fn overall(&self) -> String {
        let elapsed = numbers::clock(self.began.elapsed().as_secs_f64());
        let kept = self.state.trials.iter().filter(|trial| trial.id > 0 && trial.kept).count();
        let decided =
            self.state.trials.iter().filter(|trial| trial.id > 0 && trial.verdict.is_some()).count();
        let mut text = format!("| {elapsed}");
        if let Some(seconds) = self.limits.seconds {
            text += &format!(" of {}", numbers::clock(seconds));
        }
        text += &match self.limits.trials {
            Some(trials) => format!(", {decided} of {trials} tried, {kept} kept"),
            None => format!(", {decided} tried, {kept} kept"),
        };
        text
    }
}

/// Seconds that the phase will still take, from what such phases took or from its own pace.
fn remaining(now: &Now, elapsed: f64) -> Option<f64> {
    if let Some(expected) = now.expected_seconds {
        return Some((expected - elapsed).max(0.0));
    }
    let fraction = now.progress.fraction.filter(|fraction| *fraction > 0.02 && *fraction <= 1.0)?;
    let spent = now.progress.elapsed_seconds.unwrap_or(elapsed);
    Some(spent * (1.0 - fraction) / fraction)
}

/// `lower` or `higher`.
fn words_of(direction: sprag_engine::record::Direction) -> &'static str {
    match direction {
        sprag_engine::record::Direction::Lower => "lower",
        sprag_engine::record::Direction::Higher => "higher",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn screen(limits: Limits) -> Screen {
        let terminal = Terminal::PLAIN;
        Screen {
            terminal,
            limits,
            state: fixture::state(),
            live: Live::new(terminal),
            began: Instant::now(),
            now: None,
        }
    }

    fn now(screen: &Screen, purpose: Purpose, arm: TrialId, phase: Phase) -> Now {
        let trial = screen.state.trials.len() as TrialId - 1;
        Now {
            trial,
            phase,
            measure: Some(Measure { measure: 90, trial, arm, seed: 1, purpose, budget: None }),
            expected_seconds: Some(23.0),
            since: Instant::now(),
            progress: Progress {
                tokens_per_second: Some(25_123.0),
                loss: Some(5.1234),
                ..Progress::default()
            },
            output: String::new(),
        }
    }

    #[test]
    fn the_progress_line_has_phase_elapsed_rate_loss_and_eta() {
        let screen = screen(Limits { seconds: Some(600.0), trials: None });
        let line = screen.line(&now(&screen, Purpose::Screen, 25, Phase::Run));
        assert_eq!(
            line,
            "trial 25  run  0:00  25.1 k tok/s  loss 5.123  ETA 0:23  | 0:00 of 10:00, 24 tried, 4 kept"
        );
    }

    #[test]
    fn a_repeat_says_which_arm_runs() {
        let screen = screen(Limits { seconds: None, trials: Some(30) });
        let line = screen.line(&now(&screen, Purpose::Confirm, 21, Phase::Evaluate));
        assert!(line.starts_with("trial 25  incumbent beside it, evaluate"), "{line}");
        assert!(line.ends_with("24 of 30 tried, 4 kept"), "{line}");
    }

    #[test]
    fn without_expectation_the_pace_gives_the_eta() {
        let screen = screen(Limits::default());
        let mut now = now(&screen, Purpose::Screen, 25, Phase::Run);
        now.expected_seconds = None;
        assert_eq!(remaining(&now, 5.0), None);
        now.progress.fraction = Some(0.25);
        now.progress.elapsed_seconds = Some(5.0);
        assert_eq!(remaining(&now, 6.0), Some(15.0));
    }
}
