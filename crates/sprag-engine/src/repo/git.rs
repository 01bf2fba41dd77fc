//! How git is called: which settings it sees, and how its refusals become errors.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use sprag_measure::process::{self, Cancel, Command, Limits, Output};

use super::{Repo, RepoError};

/// An argument or the value of a variable.
pub(super) type Arg<'a> = &'a dyn AsRef<OsStr>;

/// What would let the user's configuration change what a trial is made of. Given as arguments, which git
/// ranks above every file.
const HERMETIC: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.sparseCheckout=false",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.quotePath=false",
    // Like the ledger, which names them: a commit that power loss took back could never be resumed. Git
    // before 2.36 does not know the setting and passes it over.
    "core.fsync=loose-object,reference",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "commit.gpgSign=false",
    "worktree.useRelativePaths=false",
    "submodule.recurse=false",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "diff.renames=false",
    "advice.addEmbeddedRepo=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "user.name=Sprag",
    "user.email=sprag@localhost",
    "safe.directory=*",
];

/// Folders searched for git when the caller gives no `PATH`.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin:/run/current-system/sw/bin";

/// The few variables that git gets, whoever calls.
pub(super) fn environment(ambient: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let wanted = ["PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR"];
    let kept = ambient.iter().filter(|(name, _)| wanted.iter().any(|wanted| name == wanted));
    let mut environment: Vec<_> = kept.cloned().collect();
    if !environment.iter().any(|(name, _)| name == "PATH") {
        environment.push(("PATH".into(), USUAL_PATH.into()));
    }
    environment.push(("LC_ALL".into(), "C".into()));
    environment.push(("GIT_TERMINAL_PROMPT".into(), "0".into()));
    environment.push(("GIT_OPTIONAL_LOCKS".into(), "0".into()));
    environment
}

impl Repo {
    /// Runs git hermetically; standard output without its last newline.
    pub(super) fn git(&self, dir: &Path, env: &[(&str, Arg)], args: &[Arg]) -> Result<String, RepoError> {
        Ok(self.output(dir, env, args)?.text())
    }

    /// As [`Repo::git`], but exit status 1 means that there is no answer.
    pub(super) fn try_git(
        &self,
        dir: &Path,
        env: &[(&str, Arg)],
        args: &[Arg],
    ) -> Result<Option<String>, RepoError> {
        let output = self.hermetic(dir, env, args)?;
        if output.end == process::End::Exited(1) {
            return Ok(None);
        }
        Ok(Some(accept(output, dir, args)?.text()))
    }

    /// As [`Repo::git`], with all of the output.
    pub(super) fn output(&self, dir: &Path, env: &[(&str, Arg)], args: &[Arg]) -> Result<Output, RepoError> {
        accept(self.hermetic(dir, env, args)?, dir, args)
    }

    pub(super) fn hermetic(
        &self,
        dir: &Path,
        env: &[(&str, Arg)],
        args: &[Arg],
    ) -> Result<Output, RepoError> {
        let mut command = Command::new("git", dir);
        for setting in HERMETIC {
            command = command.args(["-c", setting]);
        }
        command.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        command.env = self.environment.clone();
        command = command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TEMPLATE_DIR", "")
            .env("GIT_LITERAL_PATHSPECS", "0");
        if !self.empty_tree.is_empty() {
            // No attributes at all: neither a proposal's `.gitattributes` nor the task's may filter contents.
            command = command.env("GIT_ATTR_SOURCE", &self.empty_tree);
        }
        for (name, value) in env {
            command = command.env(name, value.as_ref());
        }
        Ok(process::capture(command, &Limits::default(), &Cancel::default())?)
    }

    /// Runs git as the user would in their own checkout, hooks left out: line endings and large-file
    /// filters there are theirs.
    pub(super) fn as_user(&self, dir: &Path, env: &[(&str, Arg)], args: &[Arg]) -> Result<Output, RepoError> {
        let mut command =
            Command::new("git", dir).args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"]);
        command.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        command.env = self.environment.clone();
        for (name, value) in env {
            command = command.env(name, value.as_ref());
        }
        Ok(process::capture(command, &Limits::default(), &Cancel::default())?)
    }
}

/// Turns a failure into an error that names the subcommand.
pub(super) fn accept(output: Output, dir: &Path, args: &[Arg]) -> Result<Output, RepoError> {
    if output.success() {
        return Ok(output);
    }
    let mut words = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned());
    let subcommand = words.find(|word| !word.starts_with('-')).unwrap_or_default();
    let said = output.error_text();
    let detail = if said.is_empty() { output.end.to_string() } else { said.replace('\n', "; ") };
    Err(RepoError::Git { command: subcommand, dir: dir.to_owned(), detail })
}
