//! What to do about the keeps between the certified champion and the tip: wait, audit some of them, undo some.
//!
//! Keeps are a chain: each was made on the one before. A chain whose audit fails is bisected by its beginnings:
//! what carries the gain is certified, the first keep that adds nothing and all that were made on it are undone,
//! and those after it are proposed again on what is left.

use serde::Serialize;

use crate::record::{AuditEnd, Policy};

/// What audits have said of the uncertified keeps so far. Keeps count from 1, the oldest; how many there are is the
/// caller's to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// How many there were when an audit of all of them was left open.
    pub open_at: u32,
    /// The first that many together do not carry a gain.
    pub failed: Option<u32>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: go on with candidates.
    Wait,
    /// Audit the first that many.
    Audit(u32),
    /// Undo all of them.
    Undo,
}

impl Chain {
    /// What to do next about `keeps` uncertified keeps. `now` asks for an audit of all of them before the policy would.
    pub fn plan(&self, keeps: u32, policy: &Policy, now: bool) -> Plan {
        match self.failed {
            _ if keeps == 0 => Plan::Wait,
            Some(0 | 1) => Plan::Undo,
            Some(first) => Plan::Audit(first / 2),
            None if now => Plan::Audit(keeps),
            None if policy.audit_every > 0 && keeps >= self.open_at + policy.audit_every => {
                Plan::Audit(keeps)
            }
            None => Plan::Wait,
        }
    }

    /// The newest keep was taken back; so many are left.
    pub fn undone(&mut self, keeps: u32) {
        self.open_at = self.open_at.min(keeps);
        self.failed = self.failed.filter(|first| *first <= keeps);
    }

    /// An audit ended that says nothing of the `keeps`: they stay, and wait for more.
    pub fn gave_up(&mut self, keeps: u32) {
        *self = Chain { open_at: keeps, failed: None };
    }

    /// An audit of the first `first` of `keeps` ended.
    pub fn audited(&mut self, first: u32, keeps: u32, end: AuditEnd) {
        match end {
            AuditEnd::Certified => {
                let known_bad = self.failed.map(|failed| failed.saturating_sub(first));
                *self = Chain { open_at: 0, failed: known_bad.filter(|rest| *rest > 0) };
            }
            // Half of a chain that failed is not left open: what cannot be shown goes.
            AuditEnd::Open if self.failed.is_none() => self.open_at = keeps,
            AuditEnd::Open | AuditEnd::Failed => self.failed = Some(first.min(keeps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Preset;

    /// Plays a chain of keeps, of which some help and the others do nothing: an audit certifies what has at least
    /// one that helps in it. Gives the certified keeps and those that were undone, by number from 1.
    fn play(helps: &[bool]) -> (Vec<usize>, Vec<usize>) {
        let policy = Policy { audit_every: helps.len() as u32, ..Preset::Balanced.policy() };
        let mut chain = Chain::default();
        let (mut left, mut certified) = ((1..=helps.len()).collect::<Vec<_>>(), Vec::new());
        for _ in 0..100 {
            match chain.plan(left.len() as u32, &policy, false) {
                Plan::Wait => return (certified, Vec::new()),
                Plan::Undo => return (certified, left),
                Plan::Audit(first) => {
                    let first = first as usize;
                    let carries = left[..first].iter().filter(|keep| helps[**keep - 1]).count() * 2 > first;
                    let end = if carries { AuditEnd::Certified } else { AuditEnd::Failed };
                    chain.audited(first as u32, left.len() as u32, end);
                    if carries {
                        certified.extend(left.drain(..first));
                    }
                }
            }
        }
        panic!("it goes in circles")
    }

    #[test]
    fn a_chain_that_holds_is_certified_whole() {
        assert_eq!(play(&[true, true, true]), (vec![1, 2, 3], vec![]));
    }

    #[test]
    fn a_beginning_that_holds_is_certified_and_the_rest_undone() {
        assert_eq!(play(&[true, true, false, false, false, false]), (vec![1, 2, 3], vec![4, 5, 6]));
        assert_eq!(play(&[true, false]), (vec![1], vec![2]));
    }

    #[test]
    fn a_chain_without_gain_is_undone() {
        assert_eq!(play(&[false; 6]), (vec![], vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(play(&[false, true]), (vec![], vec![1, 2]));
        assert_eq!(play(&[false]), (vec![], vec![1]));
    }

    #[test]
    fn an_open_audit_waits_for_more_keeps() {
        let policy = Policy { audit_every: 2, ..Preset::Balanced.policy() };
        let mut chain = Chain::default();
        chain.audited(2, 2, AuditEnd::Open);
        assert_eq!(
            (chain.plan(2, &policy, false), chain.plan(2, &policy, true)),
            (Plan::Wait, Plan::Audit(2))
        );
        assert_eq!(
            (chain.plan(3, &policy, false), chain.plan(4, &policy, false)),
            (Plan::Wait, Plan::Audit(4))
        );
    }

    #[test]
    fn an_audit_that_says_nothing_undoes_nothing() {
        let policy = Policy { audit_every: 2, ..Preset::Balanced.policy() };
        let mut chain = Chain { open_at: 0, failed: Some(2) };
        chain.gave_up(3);
        assert_eq!(
            (chain.plan(3, &policy, false), chain.plan(5, &policy, false)),
            (Plan::Wait, Plan::Audit(5))
        );
    }

    #[test]
    fn what_a_person_takes_back_is_not_audited() {
        let mut chain = Chain { open_at: 2, failed: Some(2) };
        chain.undone(1);
        assert_eq!(chain, Chain { open_at: 1, failed: None });
        chain.undone(0);
        assert_eq!((chain, chain.plan(0, &Preset::Strict.policy(), true)), (Chain::default(), Plan::Wait));
    }
}
