//! `command:CMD`: any program that edits the worktree it is started in.
//!
//! It is the user's own and runs outside the sandbox, with the user's environment. It may say what it did in
//! `proposal.json` beside the brief; if it says nothing, the changed files speak.

use std::ffi::OsString;
use std::time::Duration;

use sprag_measure::process::{self, End, Limits, Stream};

use super::{Brief, Declined, Proposal, Proposer, answer, brief};

/// The command proposer.
pub struct CommandProposer {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) timeout: Duration,
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Proposer for CommandProposer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        true
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let told = brief::tell(brief, brief::Reader::Files)?;
        self.run(brief)?;
        answer::read(brief)?.into_proposal(brief, &told.open)
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
