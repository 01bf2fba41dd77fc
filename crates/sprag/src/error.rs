//! How failures reach people: what, why, and what to do next.

use std::fmt;

use sprag_engine::runner::EngineError;
use sprag_train::data::DataError;
use sprag_train::eval::EvalError;

use crate::exit_code::ExitCode;
use crate::ui::{Terminal, Tone, tame, toned};

/// A failure that the program itself words.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: ExitCode,
}

impl Failure {
    /// A failure with the general status.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, code: ExitCode::Failure }
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the status.
    pub fn code(mut self, code: ExitCode) -> Failure {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints a failure and gives its exit status.
pub fn report(error: &anyhow::Error, terminal: Terminal) -> ExitCode {
    for line in lines(error) {
        let (word, rest) = line.split_once(':').unwrap_or(("", &line));
        let tone = if word == "error" { Tone::Bad } else { Tone::Strong };
        eprintln!("{}{rest}", toned(&format!("{word}:"), tone, terminal.colour_err));
    }
    status(error)
}

/// `error:`, then `because:` for each cause that says something new, then `hint:`.
pub fn lines(error: &anyhow::Error) -> Vec<String> {
    // Errors of the engine are fragments that begin with the verb of what was tried.
    let fragment =
        error.downcast_ref::<EngineError>().is_some_and(|error| !error.to_string().starts_with("cannot"));
    let place =
        error.downcast_ref::<EngineError>().is_some_and(|error| matches!(error, EngineError::Task(_)));
    let said = error.to_string();
    let mut lines =
        vec![if fragment && !place { format!("error: failed to {said}") } else { format!("error: {said}") }];
    let mut before = said;
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many messages carry their cause already.
        if !before.contains(&cause) {
            lines.push(format!("because: {cause}"));
        }
        before += &cause;
    }
    lines.extend(hint(error).map(|hint| format!("hint: {hint}")));
    lines.iter().flat_map(|line| line.lines()).map(tame).collect()
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.hint.clone();
        }
        if let Some(error) = cause.downcast_ref::<EngineError>() {
            return error.hint();
        }
        if let Some(error) = cause.downcast_ref::<EvalError>() {
            return error.hint().map(str::to_owned);
        }
        cause.downcast_ref::<DataError>().and_then(|error| error.hint().map(str::to_owned))
    })
}

fn status(error: &anyhow::Error) -> ExitCode {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        if matches!(cause.downcast_ref::<EngineError>(), Some(EngineError::Locked { .. })) {
            return Some(ExitCode::Locked);
        }
        cause.downcast_ref::<Failure>().map(|failure| failure.code)
    };
    error.chain().find_map(of).unwrap_or(ExitCode::Failure)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let cause = Failure::new("disk full").hint("free some space").code(ExitCode::Problems);
        let error = Err::<(), _>(anyhow::Error::from(cause)).context("cannot write the report").unwrap_err();
        assert_eq!(
            lines(&error),
            ["error: cannot write the report", "because: disk full", "hint: free some space"]
        );
        assert_eq!(status(&error), ExitCode::Problems);
    }

    #[test]
    fn engine_errors_read_as_sentences() {
        let error = EngineError::Locked { task: "/tmp/x".into(), holder: "(since noon)".into() };
        let lines = lines(&anyhow::Error::from(error));
        assert!(lines[0].starts_with("error: failed to work on /tmp/x"), "{lines:?}");
        assert!(lines[1].starts_with("hint: "), "{lines:?}");
    }

    #[test]
    fn a_cause_that_is_already_said_is_not_repeated() {
        let cause = std::io::Error::other("no space");
        let error = anyhow::Error::from(cause).context("cannot write: no space");
        assert_eq!(lines(&error), ["error: cannot write: no space"]);
    }

    #[test]
    fn an_error_text_cannot_move_the_cursor() {
        let error = anyhow::Error::from(Failure::new("bad \u{1b}[2J name"));
        assert_eq!(lines(&error), ["error: bad  [2J name"]);
    }
}
