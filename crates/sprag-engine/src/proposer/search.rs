//! The built-in proposer: turns one knob at a time, and learns from the ledger which are worth turning.
//!
//! It knows no machine learning, only the ranges that people wrote beside the constants (`knobs`). A bandit
//! over families of knobs says where to look (UCB1-tuned: Auer, Cesa-Bianchi, Fischer 2002, "Finite-time
//! analysis of the multiarmed bandit problem"); within a knob, a direction that won is followed and one that
//! was refused is not tried again (pattern search: Hooke, Jeeves 1961). The same ledger and seed give the
//! same proposal.

mod bandit;
mod moves;

use std::collections::BTreeMap;

use super::knobs::{self, Knob};
use super::{Brief, Declined, Proposal, Proposer, content};
use crate::session::split_mix;
use bandit::Arm;
use moves::{Memory, Move};

/// The search proposer. It keeps nothing: what it knows is in the ledger.
pub struct Search;

/// A turn of a knob that nobody tried.
struct Candidate {
    knob: Knob,
    turn: Move,
    text: String,
}

impl Proposer for Search {
    fn name(&self) -> &str {
        "search"
    }

    fn can_repair(&self) -> bool {
        false
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let (files, knobs) = knobs::of(brief)?;
        let memory = Memory::of(brief.state);
        let candidates = candidates(brief, &files, &knobs, &memory);
        let Some(chosen) = choose(brief, &knobs, candidates, &memory) else {
            return Err(Declined::Exhausted(format!(
                "every neighbourhood of {} knobs was tried",
                knobs.len()
            )));
        };
        let path = brief.worktree.join(&chosen.knob.path);
        std::fs::write(&path, &chosen.text)
            .map_err(|cause| Declined::Failed(format!("write {}: {cause}", path.display())))?;
        Ok(Proposal {
            title: format!(
                "{} {} -> {}",
                knobs::label(&knobs, &chosen.knob),
                chosen.knob.literal,
                chosen.turn.literal
            ),
            hypothesis: Some(hypothesis(&chosen, &knobs, &memory)),
            family: Some(chosen.knob.family),
            ..Proposal::default()
        })
    }
}

/// All turns that are neither refused by memory nor, as whole contents, tried before.
fn candidates(
    brief: &Brief<'_>,
    files: &BTreeMap<String, Vec<u8>>,
    knobs: &[Knob],
    memory: &Memory,
) -> Vec<Candidate> {
    let tried = brief.state.contents();
    let mut candidates = Vec::new();
    for knob in knobs {
        let text =
            files.get(&knob.path).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        for turn in memory.moves(&knobs::label(knobs, knob), knob) {
            let turned = knob.turned(text, &turn.literal);
            let mut after = files.clone();
            after.insert(knob.path.clone(), turned.clone().into_bytes());
            if !tried.contains_key(content::sha256(&after).as_str()) {
                candidates.push(Candidate { knob: knob.clone(), turn, text: turned });
            }
        }
    }
    candidates
}

/// First the family, by the bandit; then the knob and its turn: one that goes on where it won, else of the
/// knob least tried, else of the one that did best.
fn choose(
    brief: &Brief<'_>,
    knobs: &[Knob],
    candidates: Vec<Candidate>,
    memory: &Memory,
) -> Option<Candidate> {
    let mut families: Vec<&str> = candidates.iter().map(|candidate| candidate.knob.family.as_str()).collect();
    families.sort_unstable();
    families.dedup();
    let rewards = bandit::rewards(brief.state);
    let arms: Vec<Arm> = families
        .iter()
        .map(|family| Arm {
            rewards: rewards.get(*family).cloned().unwrap_or_default(),
            tie: draw(brief, family),
        })
        .collect();
    let family = families[bandit::choose(&arms)?].to_owned();
    let in_family = candidates.into_iter().filter(|candidate| candidate.knob.family == family);
    in_family.max_by(|a, b| {
        let rank = |candidate: &Candidate| {
            let label = knobs::label(knobs, &candidate.knob);
            (candidate.turn.follows_win, std::cmp::Reverse(memory.tries(&label)), memory.best(&label))
        };
        let ((follows_a, tries_a, best_a), (follows_b, tries_b, best_b)) = (rank(a), rank(b));
        let order = follows_a.cmp(&follows_b).then(tries_a.cmp(&tries_b)).then(best_a.total_cmp(&best_b));
        let seed =
            |candidate: &Candidate| draw(brief, &format!("{}{}", candidate.knob.name, candidate.turn.up));
        // Of one direction the larger step comes first: it shows more per trial.
        order.then(seed(a).cmp(&seed(b))).then(a.turn.size.total_cmp(&b.turn.size))
    })
}

/// A number that depends on the run's seed, the trial and a text alone.
fn draw(brief: &Brief<'_>, text: &str) -> u64 {
    let start = split_mix(brief.seed, u64::from(brief.trial));
    text.bytes().fold(start, |state, byte| split_mix(state, u64::from(byte)))
}

/// One sentence, from what the ledger knows.
fn hypothesis(chosen: &Candidate, knobs: &[Knob], memory: &Memory) -> String {
    let label = knobs::label(knobs, &chosen.knob);
    let family = &chosen.knob.family;
    let kind = if chosen.turn.up { "a larger" } else { "a smaller" };
    if let Some((trial, sigmas)) = memory.last_win(&label).filter(|_| chosen.turn.follows_win) {
        return format!(
            "Turning {label} this way gained {sigmas:.1} sigma in trial {trial}, so going on may gain more."
        );
    }
    let refused = memory.refused(&label);
    if refused > 0 {
        let trials = if refused == 1 { "1 turn".to_owned() } else { format!("{refused} turns") };
        return format!(
            "{trials} of {label} did not help, but {} has not been tried; it may.",
            chosen.turn.literal
        );
    }
    let moved = knobs
        .iter()
        .filter(|knob| knob.family == *family && memory.tries(&knobs::label(knobs, knob)) > 0)
        .count();
    if moved == 0 {
        return format!("No knob of {family} has been turned yet; {kind} {label} shows whether it matters.");
    }
    format!(
        "{label} has not been turned yet, unlike {moved} other knobs of {family}; {kind} value may fit better."
    )
}

#[cfg(test)]
mod tests;
