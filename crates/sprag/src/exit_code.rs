//! Exit statuses, all in one place; scripts may rely on them.

use std::process::ExitCode as Status;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// Something could not be done; what was recorded before is intact.
    Failure = 1,
    /// The command line is wrong (clap's own status).
    Usage = 2,
    /// `check`: the working tree does not look better than the incumbent.
    NotBetter = 3,
    /// `check`: the working tree has no score; `run`: the baseline has none, so nothing could be tried.
    Invalid = 4,
    /// The sandbox lacks a part here and `--allow-unsandboxed` was not given.
    Unconfined = 5,
    /// Another sprag works on the task.
    Locked = 6,
    /// `doctor`: it found something that stands in the way of a run. `ane check`: a program would fail.
    Problems = 7,
    /// Stopped by Ctrl-C or a signal; the same command resumes.
    Interrupted = 130,
}

impl ExitCode {
    /// All of them, in order.
    pub const ALL: [ExitCode; 9] = [
        ExitCode::Success,
        ExitCode::Failure,
        ExitCode::Usage,
        ExitCode::NotBetter,
        ExitCode::Invalid,
        ExitCode::Unconfined,
        ExitCode::Locked,
        ExitCode::Problems,
        ExitCode::Interrupted,
    ];

    /// What it means, for the help.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::Success => "done",
            ExitCode::Failure => "something could not be done; what was recorded before is intact",
            ExitCode::Usage => "the command line is wrong",
            ExitCode::NotBetter => "check: the working tree does not look better than the incumbent",
            ExitCode::Invalid => "check: the working tree has no score; run: the baseline has none",
            ExitCode::Unconfined => "the sandbox lacks a part here and --allow-unsandboxed was not given",
            ExitCode::Locked => "another sprag works on the task",
            ExitCode::Problems => {
                "doctor: something stands in the way of a run; ane check: the program would fail"
            }
            ExitCode::Interrupted => "stopped by Ctrl-C or a signal; the same command resumes",
        }
    }

    /// The table in the help.
    pub fn help() -> String {
        let lines: Vec<String> =
            ExitCode::ALL.iter().map(|code| format!("  {:>3}  {}", *code as u8, code.meaning())).collect();
        format!("Exit status:\n{}", lines.join("\n"))
    }
}

impl From<ExitCode> for Status {
    fn from(code: ExitCode) -> Status {
        Status::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_distinct_and_in_order() {
        assert!(ExitCode::ALL.windows(2).all(|pair| (pair[0] as u8) < pair[1] as u8));
    }
}
