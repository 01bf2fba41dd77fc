//! Which part goes to which split: about 90 % train, 5 % validation, 5 % holdout by bytes, decided by names.
//!
//! A part (a package with all its versions, or a file) is never divided. Parts are dealt out in the order of a
//! hash of their names, so that neighbours in the alphabet, which often are one family, do not go together.
//! Where most parts may only be trained on, validation and holdout share what is left.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::data::Split;

/// Validation and holdout each get one part in this many.
pub(crate) const SMALL_SHARE: u64 = 20;

/// A part of more than the share's one in this many goes to validation or holdout only when smaller ones do not
/// fill it: a score should rest on many authors.
const LARGE_PART: u64 = 5;

/// The first 64 bits of a SHA-256, the same on every machine and in every version.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The split of each part, given its name and bytes, those of `train_only` being in train; none if there are
/// fewer parts than splits.
pub(crate) fn deal(parts: &[(String, u64)], train_only: &BTreeSet<String>) -> Option<Vec<Split>> {
    if parts.len() < Split::ALL.len() {
        return None;
    }
    let may_score = |part: &usize| !train_only.contains(&parts[*part].0);
    let mut order: Vec<usize> = (0..parts.len()).filter(may_score).collect();
    let total: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let scorable: u64 = order.iter().map(|&part| parts[part].1).sum();
    let target = (total / SMALL_SHARE).min(scorable / 2);
    order.sort_by_key(|&part| {
        let (name, bytes) = &parts[part];
        (*bytes > target / LARGE_PART, stable_hash(name.as_bytes()), name)
    });
    let mut splits = vec![Split::Train; parts.len()];
    let mut taken = [0; Split::ALL.len()];
    for &part in &order {
        // The emptier one is served, so that neither takes what the other needs.
        let emptier = if taken[Split::Holdout as usize] < taken[Split::Val as usize] {
            Split::Holdout
        } else {
            Split::Val
        };
        let taken = &mut taken[emptier as usize];
        // A part is taken when more than half of it is still wanted.
        if *taken + parts[part].1.div_ceil(2) <= target {
            splits[part] = emptier;
            *taken += parts[part].1;
        }
    }
    for split in [Split::Val, Split::Holdout] {
        if !splits.contains(&split) {
            let train = order.iter().copied().filter(|&part| splits[part] == Split::Train);
            let smallest = train.min_by_key(|&part| parts[part].1)?;
            splits[smallest] = split;
        }
    }
    Some(splits)
}

/// The split of a document by its text alone, for sources without parts.
pub(crate) fn by_text(text: &str) -> Split {
    match stable_hash(text.as_bytes()) % SMALL_SHARE {
        0 => Split::Val,
        1 => Split::Holdout,
        _ => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[u64]) -> Vec<(String, u64)> {
        sizes.iter().enumerate().map(|(number, size)| (format!("part-{number}"), *size)).collect()
    }

    fn bytes(parts: &[(String, u64)], splits: &[Split], split: Split) -> u64 {
        parts.iter().zip(splits).filter(|(_, of)| **of == split).map(|(part, _)| part.1).sum()
    }

    #[test]
    fn parts_that_candidates_can_read_are_never_scored_on() {
        let parts = parts(&[100; 60]);
        let kept: BTreeSet<String> = (0..40).map(|number| format!("part-{number}")).collect();
        let splits = deal(&parts, &kept).unwrap();
        assert!(
            parts.iter().zip(&splits).all(|(part, split)| !kept.contains(&part.0) || *split == Split::Train)
        );
        assert!(splits.contains(&Split::Val) && splits.contains(&Split::Holdout));
    }

    #[test]
    fn what_may_be_scored_on_is_divided_evenly_when_it_is_little() {
        // As measured on the default corpus: most packages are linked by candidates, and some are large.
        let sizes: Vec<u64> =
            (0..500).map(|number| if number % 5 == 0 { 400 } else { 1 + number % 70 }).collect();
        let parts = parts(&sizes);
        let kept: BTreeSet<String> = (50..500).map(|number| format!("part-{number}")).collect();
        let splits = deal(&parts, &kept).unwrap();
        let scorable: u64 = sizes[..50].iter().sum();
        for split in [Split::Val, Split::Holdout] {
            let found = bytes(&parts, &splits, split);
            assert!(found * 5 > scorable * 2, "{split} has {found} of {scorable}");
            let members = parts.iter().zip(&splits).filter(|(_, of)| **of == split).map(|(part, _)| part.1);
            assert!(members.clone().count() >= 10, "{split} rests on {} parts", members.count());
            assert!(members.max().unwrap() * 4 <= found, "one part dominates {split}");
        }
    }

    #[test]
    fn large_parts_stay_in_train_while_small_ones_fill_the_share() {
        let parts = parts(&[vec![50; 4], vec![10; 200]].concat());
        let splits = deal(&parts, &BTreeSet::new()).unwrap();
        assert_eq!(splits[..4], [Split::Train; 4]);
        assert_eq!(bytes(&parts, &splits, Split::Val), 110);
    }

    #[test]
    fn shares_are_near_90_5_5() {
        let parts = parts(&(0..300).map(|number| 1000 + number * number % 9000).collect::<Vec<_>>());
        let splits = deal(&parts, &BTreeSet::new()).unwrap();
        let total: u64 = parts.iter().map(|part| part.1).sum();
        for (split, share) in [(Split::Train, 0.9), (Split::Val, 0.05), (Split::Holdout, 0.05)] {
            let found = bytes(&parts, &splits, split) as f64 / total as f64;
            assert!((found - share).abs() < 0.005, "{split} has {found}");
        }
    }

    #[test]
    fn order_of_the_parts_does_not_matter() {
        let forward = parts(&[10, 20, 30, 40, 50, 60, 70, 80, 90, 900]);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let mut splits = deal(&backward, &BTreeSet::new()).unwrap();
        splits.reverse();
        assert_eq!(deal(&forward, &BTreeSet::new()).unwrap(), splits);
    }

    #[test]
    fn no_split_is_empty_even_with_few_large_parts() {
        assert_eq!(deal(&parts(&[5, 5]), &BTreeSet::new()), None);
        for sizes in [vec![100, 100, 100], vec![1, 1000, 1000, 1000]] {
            let splits = deal(&parts(&sizes), &BTreeSet::new()).unwrap();
            assert!(Split::ALL.iter().all(|split| splits.contains(split)), "{splits:?}");
        }
    }
}
