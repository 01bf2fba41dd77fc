//! `command:CMD`: any program that edits the worktree it is started in.
//!
//! It is the user's own and runs outside the sandbox, with the user's environment. It may say what it did in
//! `proposal.json` beside the brief; if it says nothing, the changed files speak.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sprag_measure::process::{self, End, Limits, Stream};

use super::hypotheses::{self, Idea};
use super::{Brief, Declined, Proposal, Proposer, brief};

/// The command proposer.
pub struct CommandProposer {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) timeout: Duration,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// `proposal.json`, all of it optional.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    title: Option<String>,
    hypothesis: Option<String>,
    family: Option<String>,
    /// The text of an open idea, or its number in the brief.
    idea: Option<IdeaRef>,
    /// Set when there is nothing left to propose: why.
    exhausted: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum IdeaRef {
    Number(usize),
    Text(String),
}

impl Proposer for CommandProposer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        true
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |cause: std::io::Error| Declined::Failed(format!("{what}: {cause}"))
        };
        let own = brief.task.dir.join(hypotheses::FILE);
        let ideas = hypotheses::refresh(&own, brief.hypotheses).map_err(failed("read hypotheses.md"))?;
        let open: Vec<&Idea> = ideas.iter().filter(|idea| !idea.done).collect();
        brief::write(brief, &open).map_err(failed("write the brief"))?;
        self.run(brief)?;
        let answer = read_answer(&brief.brief_dir.join("proposal.json"))?;
        let answer = answer.or_else(|| earlier_answer(brief)).unwrap_or_default();
        if let Some(reason) = answer.exhausted {
            return Err(Declined::Exhausted(one_line(&reason)));
        }
        let idea = answer.idea.as_ref().and_then(|idea| find(idea, &open)).or_else(|| {
            let named = [answer.title.as_deref(), answer.hypothesis.as_deref()];
            open.iter().find(|idea| named.contains(&Some(idea.text.as_str()))).map(|idea| idea.text.clone())
        });
        let title = answer.title.map(|title| one_line(&title)).filter(|title| !title.is_empty());
        Ok(Proposal {
            title: title.or_else(|| idea.clone()).unwrap_or_else(|| title_of(brief)),
            hypothesis: answer.hypothesis.filter(|text| !text.trim().is_empty()),
            family: answer.family.map(|family| one_line(&family)).filter(|family| !family.is_empty()),
            idea,
        })
    }
}

impl CommandProposer {
    fn run(&self, brief: &Brief<'_>) -> Result<(), Declined> {
        let mut command = process::Command::new("/bin/sh", brief.worktree).args(["-c", &self.command]);
        command.env = self.environment.clone();
        // Variables that would lead git in the worktree to another repository.
        command.env.retain(|(name, _)| {
            !["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"].iter().any(|git| name == git)
        });
        let command = command
            .env("SPRAG_BRIEF", brief.brief_dir.join("brief.md"))
            .env("SPRAG_BRIEF_DIR", brief.brief_dir)
            .env("SPRAG_TASK", &brief.task.dir)
            .env("SPRAG_TRIAL", brief.trial.to_string());
        let limits = Limits { wall: Some(self.timeout), gentle: Duration::from_secs(5), ..Limits::default() };
        let mut last = String::new();
        let finished = process::run(command, &limits, brief.cancel, &mut |stream, line| {
            if stream == Stream::Stderr && !line.trim().is_empty() {
                last = line.trim().to_owned();
            }
        });
        let finished = finished.map_err(|cause| Declined::Failed(cause.to_string()))?;
        let _ = std::fs::write(brief.brief_dir.join("stdout.log"), finished.stdout.text());
        let _ = std::fs::write(brief.brief_dir.join("stderr.log"), finished.stderr.text());
        match finished.end {
            End::Exited(0) => Ok(()),
            End::TimedOut => {
                Err(Declined::Failed(format!("the command took longer than {} s", self.timeout.as_secs())))
            }
            end if last.is_empty() => Err(Declined::Failed(format!("the command {end}"))),
            end => Err(Declined::Failed(format!("the command {end}: {last}"))),
        }
    }
}

fn find(idea: &IdeaRef, open: &[&Idea]) -> Option<String> {
    match idea {
        IdeaRef::Number(number) => open.get(number.checked_sub(1)?).map(|idea| idea.text.clone()),
        IdeaRef::Text(text) => {
            open.iter().find(|idea| idea.text == text.trim()).map(|idea| idea.text.clone())
        }
    }
}

fn read_answer(path: &Path) -> Result<Option<Answer>, Declined> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Declined::Failed(format!("read proposal.json: {cause}"))),
    };
    let answer = serde_json::from_slice(&bytes);
    answer
        .map(Some)
        .map_err(|cause| Declined::Failed(format!("proposal.json is not as the brief says: {cause}")))
}

/// What was said of a proposal that is to be repaired holds for its repair.
fn earlier_answer(brief: &Brief<'_>) -> Option<Answer> {
    let proposed = brief.state.trial(brief.trial)?.proposed.clone().filter(|_| brief.repair.is_some())?;
    Some(Answer {
        title: Some(proposed.title),
        hypothesis: proposed.hypothesis,
        family: proposed.family,
        idea: proposed.idea.map(IdeaRef::Text),
        exhausted: None,
    })
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// What changed, for those who did not say: `src/train.rs`, `3 files`.
fn title_of(brief: &Brief<'_>) -> String {
    let parent = brief.state.trial(brief.trial).map(|trial| trial.parent.as_str()).unwrap_or_default();
    let changes = brief.repo.changes(brief.worktree, parent).unwrap_or_default();
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    match paths.as_slice() {
        [] => "no change".to_owned(),
        [one] => format!("change {one}"),
        [first, rest @ ..] => format!("change {first} and {} more", rest.len()),
    }
}
