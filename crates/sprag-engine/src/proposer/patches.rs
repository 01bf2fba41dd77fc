//! `patches:DIR`: a folder of diffs, one a trial, in order of their names.

use std::path::{Path, PathBuf};

use super::{Brief, Declined, Proposal, Proposer};

/// The patches proposer. How far it got is in the ledger: one trial a patch, whatever came of it.
pub struct Patches {
    pub(super) name: String,
    pub(super) dir: PathBuf,
}

impl Proposer for Patches {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        false
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let patches = list(&self.dir).map_err(|cause| {
            Declined::Exhausted(format!("read the folder of patches {}: {cause}", self.dir.display()))
        })?;
        let earlier =
            brief.state.trials.iter().filter(|trial| trial.proposer == self.name && trial.id < brief.trial);
        let Some(patch) = patches.get(earlier.count()) else {
            return Err(Declined::Exhausted(format!(
                "all {} patches in {} were tried",
                patches.len(),
                self.dir.display()
            )));
        };
        let file = patch.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(patch).map_err(|cause| Declined::Failed(format!("read {file}: {cause}")))?;
        brief
            .repo
            .apply(brief.worktree, patch)
            .map_err(|cause| Declined::Failed(format!("{file} does not apply to the incumbent: {cause}")))?;
        Ok(describe(&file, &String::from_utf8_lossy(&text)))
    }
}

fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut patches = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "diff" || extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    Ok(patches)
}

/// Title and hypothesis from the text above the diff: a mail's subject, else its first line, `#` taken off; the
/// file's name where there is none.
fn describe(file: &str, text: &str) -> Proposal {
    let begins_diff = |line: &&str| {
        !(line.starts_with("diff ")
            || line.starts_with("--- ")
            || line.starts_with("Index: ")
            || line.trim() == "---")
    };
    let lines: Vec<&str> = text.lines().take_while(begins_diff).collect();
    let subject = lines.iter().position(|line| line.starts_with("Subject:"));
    let of_mail = |line: &str| {
        ["From ", "From:", "Date:", "To:", "Message-Id:"].iter().any(|head| line.starts_with(head))
    };
    let mut words = lines
        .iter()
        .skip(subject.unwrap_or(0))
        .filter(|line| !of_mail(line))
        .map(|line| line.trim_start_matches('#').trim_start_matches("//").trim())
        .skip_while(|line| line.is_empty());
    let first = words.next().map(|line| without_tag(line.strip_prefix("Subject:").unwrap_or(line).trim()));
    let rest: Vec<&str> = words.filter(|line| !line.is_empty()).collect();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    Proposal {
        title: first.filter(|title| !title.is_empty()).unwrap_or(stem).to_owned(),
        hypothesis: (!rest.is_empty()).then(|| rest.join(" ")),
        ..Proposal::default()
    }
}

/// Takes `[PATCH 2/7]` off.
fn without_tag(subject: &str) -> &str {
    match subject.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((tag, title)) if tag.contains("PATCH") => title.trim(),
        _ => subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_comes_from_what_stands_above_the_diff() {
        for (text, title, hypothesis) in [
            (
                "# Raise the rate\n# It is low.\n# Very.\n\n--- a/x\n",
                "Raise the rate",
                Some("It is low. Very."),
            ),
            (
                "From 12ab Mon\nFrom: A <a@b>\nDate: now\nSubject: [PATCH 1/2] Use gelu\n\nSmoother.\n---\n x | 2\n",
                "Use gelu",
                Some("Smoother."),
            ),
            ("diff --git a/x b/x\n", "03-gelu", None),
            ("Wider\ndiff --git a/x b/x\n", "Wider", None),
            ("", "03-gelu", None),
        ] {
            let proposal = describe("03-gelu.patch", text);
            assert_eq!(
                (proposal.title.as_str(), proposal.hypothesis.as_deref()),
                (title, hypothesis),
                "{text}"
            );
        }
    }
}
