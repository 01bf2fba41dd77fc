//! What the ends of processes mean: one outcome from how candidate and evaluator ended and what was answered.

use sprag_measure::machine::Load;
use sprag_measure::process::{End, Finished};

use crate::gate::throughput;
use crate::lane::MeasureEnd;
use crate::record::{Invalid, Outcome, Reason};
use crate::sandbox;

/// What candidate's end, evaluator's end and evaluator's answer mean together.
pub(super) fn combine(answer: Option<Outcome>, candidate: &Finished, evaluator: &Finished) -> MeasureEnd {
    let died = classify(candidate);
    let outcome = match (answer, died) {
        (Some(Outcome::Scored(mut score)), None) => {
            score.facts.extend(facts_of(candidate));
            Outcome::Scored(score)
        }
        (Some(Outcome::Passed), None) => Outcome::Passed,
        // It answered well and then broke a limit or crashed: a crash has no metric.
        (Some(Outcome::Scored(score)), Some(died)) => {
            Outcome::Invalid(Invalid { facts: score.facts, curve: score.curve, ..died })
        }
        (Some(Outcome::Passed), Some(died)) => Outcome::Invalid(died),
        (Some(Outcome::Invalid(invalid)), died) => {
            // The evaluator sees a dead candidate as a broken connection; how it died says more.
            let vague = matches!(
                invalid.reason,
                Reason::Crash | Reason::Protocol | Reason::Timeout | Reason::Silence
            );
            match died.filter(|_| vague && candidate.end != End::Cancelled) {
                Some(Invalid { reason, detail, .. }) => {
                    Outcome::Invalid(Invalid { reason, detail, ..invalid })
                }
                None => Outcome::Invalid(invalid),
            }
        }
        (_, died) if broke_down(evaluator) && may_follow_the_evaluator(candidate, died.as_ref()) => {
            let what = format!("the evaluator {} without an answer", evaluator.end);
            return MeasureEnd::NoAnswer(with_tail(what, evaluator));
        }
        (_, Some(died)) if candidate.end != End::Cancelled => Outcome::Invalid(died),
        _ => {
            let what = format!("the evaluator {} without an answer", evaluator.end);
            Outcome::Invalid(Invalid::new(Reason::Evaluator, with_tail(what, evaluator)))
        }
    };
    MeasureEnd::Done(outcome)
}

/// True for an end that is the evaluator's own; one that we stopped, or that left in order, broke nothing.
fn broke_down(evaluator: &Finished) -> bool {
    matches!(evaluator.end, End::Exited(_) | End::Signalled(_)) && !evaluator.end.success()
}

/// True for an end that a dying evaluator can bring about: a candidate whose connection breaks crashes, or is
/// stopped because it does not leave. Limits and refusals are broken by nobody but the candidate.
fn may_follow_the_evaluator(candidate: &Finished, died: Option<&Invalid>) -> bool {
    candidate.end == End::Cancelled || died.is_none_or(|died| died.reason == Reason::Crash)
}

/// Why a candidate that ended like this has no score; `None` when it ended well.
pub(super) fn classify(finished: &Finished) -> Option<Invalid> {
    if let Some(why) = sandbox::setup_error(finished) {
        // A candidate can print that line too, so it is no reason to stop the whole run.
        let detail = format!("the sandbox did not start the candidate: {why}");
        return Some(Invalid::new(Reason::Evaluator, detail));
    }
    let reason = match finished.end {
        End::Exited(0) => return None,
        End::Exited(_) if looks_denied(finished) => Reason::Denied,
        end if sandbox::killed_by_sandbox(end) => Reason::Denied,
        End::Signalled(signal) if signal == libc::SIGXFSZ => Reason::Output,
        End::Exited(_) | End::Signalled(_) => Reason::Crash,
        End::TimedOut => Reason::Timeout,
        End::Cancelled => {
            let detail = "it did not leave after its last answer".to_owned();
            return Some(Invalid::new(Reason::Timeout, detail));
        }
        End::Silent => Reason::Silence,
        End::MemoryExceeded => Reason::Memory,
        End::OutputExceeded => Reason::Output,
        End::TooManyProcesses => Reason::Processes,
    };
    Some(Invalid::new(reason, with_tail(format!("the candidate {}", finished.end), finished)))
}

/// An error exit whose last words are those of a refused system call.
fn looks_denied(finished: &Finished) -> bool {
    let words = finished.stderr.text();
    [
        "Permission denied",
        "os error 13",
        "Operation not permitted",
        "os error 1)",
        "Network is unreachable",
        "Read-only file system",
    ]
    .iter()
    .any(|refusal| words.contains(refusal))
}

pub(super) fn with_tail(what: String, finished: &Finished) -> String {
    let mut detail = what;
    let stderr = finished.stderr.text();
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(12)..] {
        detail.push('\n');
        detail.extend(line.chars().take(300));
    }
    detail
}

/// The part of a build's output that says what is wrong: from the first error on, cut.
pub(super) fn first_errors(log: &[String]) -> String {
    let says_error =
        |line: &String| line.starts_with("error") || line.contains(" error: ") || line.contains(": error");
    let start = log.iter().position(says_error).unwrap_or(log.len().saturating_sub(60));
    let cut: Vec<String> =
        log[start..].iter().take(80).map(|line| line.chars().take(400).collect()).collect();
    cut.join("\n")
}

/// What was measured of a candidate from outside.
pub(super) fn facts_of(finished: &Finished) -> impl Iterator<Item = (String, f64)> {
    let facts = [
        ("peak_memory_bytes", finished.peak_memory_bytes as f64),
        ("wall_seconds", finished.wall.as_secs_f64()),
        ("cpu_seconds", finished.cpu.as_secs_f64()),
    ];
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact))
}

/// What else the machine did meanwhile, in the evaluator's time, too: both are ours.
pub(super) fn add_load(outcome: &mut Outcome, load: Load) {
    let facts = match outcome {
        Outcome::Scored(score) => &mut score.facts,
        Outcome::Invalid(invalid) => &mut invalid.facts,
        Outcome::Passed | Outcome::Interrupted | Outcome::Stopped(_) => return,
    };
    facts.insert(throughput::OTHER_PROCESSES.into(), load.other_processes);
    facts.insert(throughput::STEAL.into(), load.steal);
}
