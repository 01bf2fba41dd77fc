//! `inbox`: waits for a proposal that another program puts into a folder of the run.
//!
//! The other program may come and go, and is told at once whether its offer can be tried: one that cannot costs no
//! trial. `sprag mcp` is the door to it for agents. Files: `waiting.json` while a proposal is wanted, `NAME.offer.json`
//! for an offer, renamed to `NAME.taken.json` by whoever takes it, and `NAME.receipt.json` for what became of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sprag_measure::clock;

use super::hypotheses::Idea;
use super::offer::{Offer, Unusable};
use super::{AskingLimits, Brief, Declined, Proposal, Proposer, admit, brief};
use crate::record::TrialId;
use crate::repo::remove_all;

/// Between two looks into the folder.
const LOOK: Duration = Duration::from_millis(50);
/// How long a taken offer may take until there is a receipt.
const TAKEN: Duration = Duration::from_secs(60);

const WAITING: &str = "waiting.json";
const OFFER: &str = ".offer.json";
const TAKEN_OFFER: &str = ".taken.json";
const RECEIPT: &str = ".receipt.json";

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// A proposal.
    Proposal,
    /// The same proposal, so that it builds.
    Repair,
    /// A second thought on the proposal, which is nearly that of an earlier trial.
    SecondThought,
}

/// Said while a proposal is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For this trial.
    pub trial: TrialId,
    /// What.
    pub wanted: Wanted,
    /// The brief.
    pub brief: PathBuf,
}

/// An offer with a diff in the place of edits, or beside them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// Words and edits.
    pub offer: Offer,
    /// A unified diff against the files of the brief.
    #[serde(default)]
    pub patch: Option<String>,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// It is tried, as this trial.
    Accepted(TrialId),
    /// It cannot be tried; nothing was spent.
    Refused(String),
}

/// What a program that waits at this folder wants; `None` when none waits. A program that was killed leaves it behind,
/// so whoever asks makes sure that one is at work.
pub fn waiting(inbox: &Path) -> Option<Waiting> {
    serde_json::from_slice(&fs::read(inbox.join(WAITING)).ok()?).ok()
}

/// Offers, and waits for the receipt: `None` when nobody took it in that time. Then it is taken back.
///
/// # Errors
/// The folder cannot be written.
pub fn offer(inbox: &Path, parcel: &Parcel, patience: Duration) -> io::Result<Option<Receipt>> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{:012}-{}-{number:06}", clock::seconds_since_epoch(), std::process::id());
    let place = |kind: &str| inbox.join(format!("{name}{kind}"));
    fs::create_dir_all(inbox)?;
    write(&place(OFFER), parcel)?;
    let mut until = Instant::now() + patience;
    loop {
        if let Ok(bytes) = fs::read(place(RECEIPT)) {
            remove_all(&place(RECEIPT))?;
            return serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other);
        }
        if Instant::now() >= until {
            match fs::remove_file(place(OFFER)) {
                Ok(()) => return Ok(None),
                // It was taken in the last moment.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound && place(TAKEN_OFFER).exists() => {
                    until = Instant::now() + TAKEN;
                }
                Err(_) => return Ok(None),
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Written beside its place and renamed into it: nobody reads half of it.
fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(value)?)?;
    fs::rename(&partial, path)
}

/// The proposer.
pub struct InboxProposer {
    pub(super) limits: AskingLimits,
}

/// Takes `waiting.json` away, however the waiting ends.
struct Sign(PathBuf);

impl Drop for Sign {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Proposer for InboxProposer {
    fn name(&self) -> &str {
        "inbox"
    }

    fn can_repair(&self) -> bool {
        true
    }

    fn can_reconsider(&self) -> bool {
        true
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let told = brief::tell(brief, brief::Reader::Text)?;
        fs::create_dir_all(brief.inbox)
            .map_err(|cause| Declined::Failed(format!("make the inbox: {cause}")))?;
        self.wait(brief, &told.open).map_err(|refusal| match refusal {
            Ended::Declined(declined) => declined,
            Ended::Io(cause) => Declined::Failed(format!("read the inbox: {cause}")),
        })
    }
}

/// Why the waiting ended without a proposal.
enum Ended {
    Declined(Declined),
    Io(io::Error),
}

impl From<io::Error> for Ended {
    fn from(cause: io::Error) -> Ended {
        Ended::Io(cause)
    }
}

impl InboxProposer {
    fn wait(&self, brief: &Brief<'_>, open: &[Idea]) -> Result<Proposal, Ended> {
        let wanted = match (brief.repair, brief.note) {
            (Some(_), _) => Wanted::Repair,
            (None, Some(_)) => Wanted::SecondThought,
            (None, None) => Wanted::Proposal,
        };
        let sign = brief.inbox.join(WAITING);
        let text = brief.brief_dir.join(brief::FILE);
        write(&sign, &Waiting { trial: brief.trial, wanted, brief: text })?;
        let _sign = Sign(sign);
        let began = Instant::now();
        loop {
            if brief.stop.is_cancelled() || brief.cancel.is_cancelled() {
                return Err(Ended::Declined(Declined::Stopped));
            }
            if let Some(name) = oldest(brief.inbox)? {
                let (proposal, receipt) = match take(brief, open, &name)? {
                    Ok(proposal) => (Some(proposal), Receipt::Accepted(brief.trial)),
                    Err(problem) => (None, Receipt::Refused(problem.0)),
                };
                write(&brief.inbox.join(format!("{name}{RECEIPT}")), &receipt)?;
                remove_all(&brief.inbox.join(format!("{name}{TAKEN_OFFER}")))?;
                if let Some(proposal) = proposal {
                    return Ok(proposal);
                }
                continue;
            }
            if began.elapsed() >= self.limits.agent_timeout {
                return Err(Ended::Declined(Declined::Exhausted(format!(
                    "nobody proposed anything for {} s",
                    self.limits.agent_timeout.as_secs()
                ))));
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The name of the offer that waits longest.
fn oldest(inbox: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(inbox)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(OFFER).map(str::to_owned));
    }
    Ok(names.into_iter().min())
}

/// Takes an offer and tries it on the worktree; one that is refused leaves the worktree as it was.
fn take(brief: &Brief<'_>, open: &[Idea], name: &str) -> Result<Result<Proposal, Unusable>, Ended> {
    let taken = brief.inbox.join(format!("{name}{TAKEN_OFFER}"));
    fs::rename(brief.inbox.join(format!("{name}{OFFER}")), &taken)?;
    let parcel: Parcel = match serde_json::from_slice(&fs::read(&taken)?) {
        Ok(parcel) => parcel,
        Err(cause) => return Ok(Err(Unusable::new(format!("the offer cannot be read: {cause}")))),
    };
    match carry_out(brief, &parcel) {
        Ok(()) => {
            let proposal = parcel.offer.into_answer().into_proposal(brief, open);
            Ok(Ok(proposal.map_err(Ended::Declined)?))
        }
        Err(problem) => {
            let cleaned = brief.repo.worktree_add(brief.worktree, brief.from);
            cleaned.map_err(|cause| Ended::Io(io::Error::other(cause.to_string())))?;
            Ok(Err(problem))
        }
    }
}

fn carry_out(brief: &Brief<'_>, parcel: &Parcel) -> Result<(), Unusable> {
    parcel.offer.gives_up()?;
    if let Some(patch) = &parcel.patch {
        let file = brief.brief_dir.join("offer.patch");
        fs::write(&file, patch).map_err(|cause| Unusable::new(format!("keep the patch: {cause}")))?;
        let applied = brief.repo.apply(brief.worktree, &file);
        applied.map_err(|cause| Unusable::new(format!("the patch does not apply: {cause}")))?;
    }
    if parcel.patch.is_none() || !parcel.offer.edits.is_empty() {
        parcel.offer.carry_out(brief)?;
    }
    // What would be rejected is refused while there is somebody to hear it.
    let parent = brief.state.trial(brief.trial).map_or(brief.from, |trial| trial.parent.as_str());
    match admit(brief.task, brief.repo, brief.worktree, parent, brief.state, brief.trial) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(invalid)) => Err(Unusable::new(invalid.detail)),
        Err(cause) => Err(Unusable::new(format!("the change cannot be read: {cause}"))),
    }
}

#[cfg(test)]
mod tests;
