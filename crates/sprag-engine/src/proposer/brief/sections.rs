//! The sections of the brief, in order, each with its share of the whole.

use std::collections::BTreeMap;

use super::quote;
use super::{Brief, Idea, Reader, TOKENS, TOKENS_OF_FILES};
use crate::memory::{self, Stage};
use crate::proposer::answer;
use crate::record::{Effect, Verdict};
use crate::roofline::{self, Limit};
use crate::session;
use crate::state::{Run, Trial};

/// A heading, what is always said, and lines of which the first are the most worth.
pub(super) struct Section {
    title: &'static str,
    head: String,
    lines: Vec<String>,
    /// Of the whole text, 0 to 1; what is always said is not cut.
    share: f64,
    /// What is left out, in the plural, and where it is.
    what: &'static str,
}

impl Section {
    fn new(title: &'static str, head: impl Into<String>) -> Section {
        Section { title, head: head.into(), lines: Vec::new(), share: 1.0, what: "" }
    }

    fn with(mut self, lines: Vec<String>, share: f64, what: &'static str) -> Section {
        (self.lines, self.share, self.what) = (lines, share, what);
        self
    }

    /// The section within its share of so many bytes; empty when it says nothing.
    pub(super) fn fitted(&self, whole: usize) -> String {
        if self.head.is_empty() && self.lines.is_empty() {
            return String::new();
        }
        let mut text = format!("## {}\n\n", self.title);
        if !self.head.is_empty() {
            text.push_str(&self.head);
            text.push('\n');
        }
        let most = (whole as f64 * self.share) as usize;
        let mut used = 0;
        let fits = self.lines.iter().take_while(|line| {
            used += line.len() + 1;
            used <= most
        });
        let fits = fits.count();
        for line in &self.lines[..fits] {
            text.push_str(line);
            text.push('\n');
        }
        match self.lines.len() - fits {
            0 => {}
            more => text.push_str(&format!("\n{more} more {}.\n", self.what)),
        }
        text
    }
}

pub(super) fn all(brief: &Brief<'_>, open: &[Idea], reader: Reader) -> [Section; 15] {
    [
        task(brief, reader),
        note(brief),
        repair(brief),
        steering(brief),
        incumbent(brief, reader),
        limits(brief),
        kept(brief),
        misses(brief),
        failures(brief),
        foreign(brief),
        ideas(open),
        next(brief, reader),
        changes(brief, reader),
        code(brief, reader),
        words_of_the_user(brief),
    ]
}

fn task(brief: &Brief<'_>, reader: Reader) -> Section {
    let task = brief.task;
    let better = task.metric.direction.word();
    let paths: Vec<String> = task.files.mutable.patterns().map(|path| format!("`{path}`")).collect();
    let guards: Vec<String> =
        task.guard_rules.iter().map(|rule| format!("`{}` {}", rule.fact, rule.limit)).collect();
    let guards = match guards.as_slice() {
        [] => String::new(),
        some => format!(" Whatever the score, it must keep {}.", some.join(", ")),
    };
    let (files, said) = match reader {
        Reader::Files => (
            "the files of the current folder, a checkout of the incumbent",
            format!(
                "Say what you did in `{}`, all keys optional:\n\n\
                 ```json\n{{\"title\": \"one line\", \"hypothesis\": \"what you expect, and why\", \"family\": \"kind of \
                 idea\", \"expected_gain\": 0.01, \"lesson\": \"what the last trial taught\", \"idea\": 1}}\n```",
                brief.brief_dir.join(answer::FILE).display()
            ),
        ),
        Reader::Text => (
            "the files below",
            "Say what you did: `title` (one line), `hypothesis` (what you expect, and why), `family` (the kind of idea), \
             `lesson` (what the last trial taught)."
                .to_owned(),
        ),
    };
    Section::new(
        "What to do",
        format!(
            "Edit {files}, so that `{}` gets {better} within a budget of {}.{guards} One idea a trial. You may change {} \
             and nothing else; what changes anything else, only comments or seeds, or repeats an earlier trial is \
             rejected unseen. Do not commit.\n\n{said}\n\n\
             `expected_gain` is in units of `{}`, positive when better, negative when you try something that you expect \
             to be worse; how well proposers foresee effects is scored. `idea` is the number of an open idea below. \
             `exhausted` (why) says that you have nothing left to propose.\n",
            task.metric.name,
            task.budget,
            paths.join(", "),
            task.metric.name,
        ),
    )
}

fn note(brief: &Brief<'_>) -> Section {
    Section::new("Before it runs", brief.note.map(|note| format!("{note}\n")).unwrap_or_default())
}

fn repair(brief: &Brief<'_>) -> Section {
    let head = brief.repair.map(|error| {
        format!(
            "The worktree holds the proposal as it was built. Mend it, and change nothing else.\n\n{}\n",
            quote::block(error, 80, 400)
        )
    });
    Section::new("The build failed", head.unwrap_or_default())
}

fn steering(brief: &Brief<'_>) -> Section {
    Section::new(
        "From the person who runs this",
        brief.steering.map(|text| format!("{}\n", text.trim())).unwrap_or_default(),
    )
}

fn incumbent(brief: &Brief<'_>, reader: Reader) -> Section {
    let mut lines = Vec::new();
    if let Some((mean, sd, n)) = brief.state.baseline() {
        lines.push(format!("- baseline: {mean:.5}, noise of one run (sd) {sd:.5}, n = {n}"));
    }
    if let Some(trial) = brief.state.incumbent.and_then(|id| brief.state.trial(id)) {
        let title = quote::line(trial.title(), 120);
        let stands =
            session::level(brief.state, trial.id, None).map(|level| format!(", stands at {:.5}", level.mean));
        lines.push(format!("- incumbent: trial {} ({title}){}", trial.id, stands.unwrap_or_default()));
    }
    if let Some(gain) = session::detectable(brief.state, 0.8) {
        lines.push(format!(
            "- a gain of {gain:.5} is found 8 times in 10; smaller ones are mostly lost in noise"
        ));
    }
    if reader == Reader::Files {
        lines.push(format!("- its code: the current folder, {}", brief.worktree.display()));
    }
    if let Ok(files) = brief.task.files.mutable_in(brief.worktree) {
        lines.extend(files.into_iter().map(|file| format!("  - {}", quote::line(&file, 200))));
    }
    Section::new("Incumbent", "").with(lines, 0.1, "files are in that folder")
}

/// What the last runs of the incumbent used, and the machine: what is not measured is said to be unknown.
fn limits(brief: &Brief<'_>) -> Section {
    let runs = brief.state.incumbent.map(|arm| {
        let own =
            brief.state.runs().filter(move |run| run.measure.arm == arm && run.measure.budget.is_none());
        own.filter_map(Run::score).collect::<Vec<_>>()
    });
    let runs = runs.unwrap_or_default();
    let mut sums: BTreeMap<&str, (f64, u32)> = BTreeMap::new();
    for (name, value) in runs.iter().rev().take(5).flat_map(|score| &score.facts) {
        let (sum, n) = sums.entry(name).or_default();
        *sum += value;
        *n += 1;
    }
    let mut lines: Vec<String> = sums
        .iter()
        .map(|(name, (sum, n))| {
            format!("- {}: {:.6} (mean of {n} runs)", quote::line(name, 60), sum / f64::from(*n))
        })
        .collect();
    let means: BTreeMap<String, f64> =
        sums.iter().map(|(name, (sum, n))| ((*name).to_owned(), sum / f64::from(*n))).collect();
    // What matters most comes first.
    lines.insert(
        0,
        match Limit::of(&means, brief.machine) {
            Some(limit) => format!("- what limits the incumbent now: {}", limit.line()),
            None => "- what limits the incumbent now: not known (operations, bytes, or the machine are not measured)"
                .to_owned(),
        },
    );
    let for_people = brief.machine.iter().filter(|(name, _)| !roofline::is_for_programs(name));
    lines.extend(for_people.map(|(name, value)| format!("- machine, {name}: {}", quote::line(value, 100))));
    Section::new("What it uses, and of what", "").with(lines, 0.08, "facts were measured")
}

/// The files as they are now, shortest first: as many as have room are there in full.
fn code(brief: &Brief<'_>, reader: Reader) -> Section {
    let files = brief.task.files.mutable_in(brief.worktree).unwrap_or_default();
    let read = |file: String| Some((std::fs::read_to_string(brief.worktree.join(&file)).ok()?, file));
    let mut texts: Vec<(String, String)> = files.into_iter().filter_map(read).collect();
    texts.sort_by_key(|(text, file)| (text.len(), file.clone()));
    let parts = texts.iter().map(|(text, file)| {
        let fence = quote::fence(text);
        format!("{file}:\n\n{fence}\n{}\n{fence}\n", text.trim_end())
    });
    let (share, more) = match reader {
        Reader::Files => (0.35, "are too long for here: open them"),
        Reader::Text => {
            (TOKENS_OF_FILES as f64 / TOKENS as f64, "are too long for here: leave them as they are")
        }
    };
    Section::new("The files that may change", "").with(parts.collect(), share, more)
}

fn kept(brief: &Brief<'_>) -> Section {
    let state = brief.state;
    let uncertified = state.uncertified();
    let kept = state.trials.iter().rev().filter(|trial| trial.kept && trial.id > 0);
    let lines = kept.map(|trial| {
        let level = if uncertified.contains(&trial.id) { "tentative" } else { "certified" };
        format!("- {level}, trial {}: {}", trial.id, told(trial))
    });
    Section::new("What was kept, newest first", "").with(lines.collect(), 0.15, "keeps are in `history.json`")
}

fn misses(brief: &Brief<'_>) -> Section {
    let missed = memory::near_misses(brief.state);
    let trials = missed.iter().filter_map(|(trial, _)| brief.state.trial(*trial));
    let lines = trials.map(|trial| format!("- trial {}: {}", trial.id, told(trial))).collect();
    Section::new("Near misses: perhaps better, not shown to be", "").with(
        lines,
        0.12,
        "near misses are in `history.json`",
    )
}

/// Everything else that was tried, by family, the families with the newest trials first.
fn failures(brief: &Brief<'_>) -> Section {
    let state = brief.state;
    let mut families = memory::families(state);
    families.sort_by_key(|family| std::cmp::Reverse(family.last));
    let missed = memory::near_misses(state);
    let mut lines = Vec::new();
    for family in families {
        let gain = match (&family.gain, family.mean_gain) {
            (Some(gain), _) => format!(
                ", mean gain {:+.1} sigma [{:+.1}, {:+.1}], n = {}",
                gain.estimate, gain.low, gain.high, gain.n
            ),
            (None, Some(gain)) => format!(", gain {gain:+.1} sigma, n = 1"),
            (None, None) => String::new(),
        };
        lines.push(format!(
            "- family {}: tried {}, kept {}, without a score {}{gain}",
            quote::line(&family.name, 60),
            family.tried,
            family.kept,
            family.invalid
        ));
        let own = |trial: &&Trial| {
            let name = trial.proposed.as_ref().and_then(|proposed| proposed.family.as_deref());
            let name = name.map(memory::family_name).filter(|name| !name.is_empty());
            name.unwrap_or_else(|| "other".to_owned()) == family.name
        };
        let failed = |trial: &&Trial| !trial.kept && !missed.iter().any(|(near, _)| *near == trial.id);
        let tried = state.trials.iter().rev().filter(|trial| trial.id > 0 && trial.verdict.is_some());
        lines.extend(
            tried.filter(own).filter(failed).map(|trial| format!("  - trial {}: {}", trial.id, told(trial))),
        );
    }
    let head = match lines.is_empty() {
        true => "Nothing was tried yet.\n",
        false => {
            "Gains are over the incumbent of their time in sigma (sd of one run), positive when better.\n"
        }
    };
    Section::new("What was tried, by family, newest first", head).with(
        lines,
        0.3,
        "lines are in `history.json`",
    )
}

/// One trial: outcome, effect, and what it taught, all of it in quotes that somebody wrote.
fn told(trial: &Trial) -> String {
    let word = trial.verdict.as_ref().map_or("open", Verdict::word);
    let undone = if trial.undone { " (taken back)" } else { "" };
    let gain = trial.effect().and_then(in_sigma).map(|gain| format!(" {gain}")).unwrap_or_default();
    match &trial.lesson {
        Some(lesson) if lesson.starts_with(trial.title()) => {
            format!("{word}{undone}{gain}, {}", quote::line(lesson, 300))
        }
        Some(lesson) => {
            format!("{word}{undone}{gain}, {}: {}", quote::line(trial.title(), 120), quote::line(lesson, 300))
        }
        None => {
            let reason = trial.reason.as_deref().map(|reason| format!(", {}", quote::line(reason, 160)));
            format!("{word}{undone}{gain}, {}{}", quote::line(trial.title(), 120), reason.unwrap_or_default())
        }
    }
}

fn in_sigma(effect: Effect) -> Option<String> {
    if effect.sigma <= 0.0 {
        return None;
    }
    let [gain, low, high] = [effect.gain, effect.low, effect.high].map(|end| end / effect.sigma);
    Some(format!("{gain:+.1} [{low:+.1}, {high:+.1}]"))
}

/// What another loop recorded: other seeds, perhaps another machine, so it is no evidence here.
fn foreign(brief: &Brief<'_>) -> Section {
    let rows = crate::history::rows(&brief.task.dir);
    let lines: Vec<String> = rows.iter().map(|row| format!("- {}", quote::line(row, 200))).collect();
    let head = match lines.is_empty() {
        true => "",
        false => {
            "Recorded by another loop, newest first: single runs without repeats, perhaps on another machine.\n"
        }
    };
    Section::new("Tried elsewhere", head).with(lines, 0.1, "rows were imported")
}

fn ideas(open: &[Idea]) -> Section {
    let lines = open.iter().enumerate().map(|(at, idea)| format!("{}. {}", at + 1, idea.text));
    Section::new("Open ideas", "").with(lines.collect(), 0.08, "ideas are in `hypotheses.md`")
}

/// What to go for now: better of the same, or, at a plateau, something else.
fn next(brief: &Brief<'_>, reader: Reader) -> Section {
    let state = brief.state;
    let names = |trials: &[u32]| {
        let commit = |trial: &u32| {
            let proposed = state.trial(*trial)?.proposed.as_ref()?;
            Some(format!(
                "trial {trial} (commit {}, against {})",
                cut(&proposed.commit),
                cut(&state.trial(*trial)?.parent)
            ))
        };
        trials.iter().filter_map(commit).collect::<Vec<_>>().join(", ")
    };
    let head = match memory::plateau(state) {
        None if state.trials.len() > 1 => {
            "Go on where gains were found, or test the cheapest doubt about what limits the incumbent.\n"
                .to_owned()
        }
        None => String::new(),
        Some(plateau) => {
            let since = plateau.without_win;
            let asked = match plateau.stage {
                Stage::AnotherFamily => {
                    let tried: Vec<String> = memory::families(state)
                        .iter()
                        .take(5)
                        .map(|family| quote::line(&family.name, 60))
                        .collect();
                    format!("Propose something of another family than {}.", tried.join(", "))
                }
                Stage::CombineNearMisses => {
                    let missed: Vec<u32> =
                        memory::near_misses(state).iter().take(4).map(|(trial, _)| *trial).collect();
                    let told =
                        if reader == Reader::Files { "`git show` tells each" } else { "they stand below" };
                    format!(
                        "Combine two or more of the near misses in one change: {}; {told}.",
                        names(&missed)
                    )
                }
                Stage::OlderChampion => {
                    let older: Vec<u32> = memory::older_champions(state).into_iter().take(3).collect();
                    let told = match reader {
                        Reader::Files => "`git show COMMIT:PATH` tells it",
                        Reader::Text => "the ways back stand below",
                    };
                    format!(
                        "Begin from older code and take another way: {}; {told}. It is still compared with the incumbent.",
                        names(&older)
                    )
                }
            };
            format!("Nothing was kept in the last {since} trials that were judged. {asked}\n")
        }
    };
    Section::new("What to go for", head)
}

/// What a reader without `git` needs for what it is asked at a plateau.
fn changes(brief: &Brief<'_>, reader: Reader) -> Section {
    let state = brief.state;
    let stage = memory::plateau(state).map(|plateau| plateau.stage).filter(|_| reader == Reader::Text);
    let commit = |id: u32| state.trial(id)?.proposed.as_ref().map(|proposed| proposed.commit.as_str());
    let pairs: Vec<(u32, Option<&str>, Option<&str>)> = match stage {
        Some(Stage::CombineNearMisses) => {
            let missed = memory::near_misses(state).into_iter().take(4);
            missed
                .map(|(id, _)| (id, state.trial(id).map(|trial| trial.parent.as_str()), commit(id)))
                .collect()
        }
        Some(Stage::OlderChampion) => {
            let older = memory::older_champions(state).into_iter().take(3);
            older.map(|id| (id, Some(brief.from), commit(id))).collect()
        }
        Some(Stage::AnotherFamily) | None => Vec::new(),
    };
    let parts = pairs.into_iter().filter_map(|(id, from, to)| {
        let diff = brief.repo.diff(from?, to?).ok()?;
        Some(format!("trial {id}:\n\n{}\n", quote::block(&diff, 400, 400)))
    });
    Section::new("Changes of earlier trials", "").with(parts.collect(), 0.6, "changes are too long for here")
}

fn cut(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// `program.md` is the user's own and is taken as it is.
fn words_of_the_user(brief: &Brief<'_>) -> Section {
    // One that trials may change is not the user's any more.
    let own = !brief.task.files.is_mutable("program.md");
    let program = std::fs::read_to_string(brief.worktree.join("program.md")).ok().filter(|_| own);
    Section::new("program.md", program.unwrap_or_default())
}
