//! How alike two changes are, by shingles of their tokens (Broder 1997, "On the resemblance and containment of
//! documents"). Compared are the changed lines alone: whole files of small changes are all alike.

use std::collections::BTreeSet;

use crate::record::TrialId;

/// Tokens of one shingle.
const WIDTH: usize = 3;

/// Resemblance from which a change counts as nearly that of an earlier trial.
pub const NEAR: f64 = 0.8;

/// The shingles of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shingles(BTreeSet<Vec<String>>);

/// The shingles of a unified diff: of each run of added or of removed lines, with the sign; context, names of files
/// and layout do not count.
pub fn shingles(diff: &str) -> Shingles {
    let mut all = BTreeSet::new();
    let mut run: (char, Vec<String>) = (' ', Vec::new());
    let mut within = false;
    for line in diff.lines() {
        if line.starts_with("diff --git") {
            within = false;
        } else if line.starts_with("@@") {
            within = true;
        }
        let sign = match line.chars().next() {
            Some(sign @ ('+' | '-')) if within => sign,
            _ => ' ',
        };
        if sign != run.0 {
            take(&mut all, &run);
            run = (sign, Vec::new());
        }
        if sign != ' ' {
            run.1.extend(tokens(&line[1..]));
        }
    }
    take(&mut all, &run);
    Shingles(all)
}

fn take(all: &mut BTreeSet<Vec<String>>, (sign, tokens): &(char, Vec<String>)) {
    if *sign == ' ' || tokens.is_empty() {
        return;
    }
    let signed =
        |window: &[String]| std::iter::once(sign.to_string()).chain(window.iter().cloned()).collect();
    match tokens.len() < WIDTH {
        true => drop(all.insert(signed(tokens))),
        false => all.extend(tokens.windows(WIDTH).map(signed)),
    }
}

/// Words and numbers, and every other visible character by itself.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut joined = false;
    for c in line.chars() {
        let word = c.is_alphanumeric() || c == '_' || c == '.';
        match tokens.last_mut() {
            Some(last) if word && joined => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        joined = word;
    }
    tokens
}

impl Shingles {
    /// Share of the shingles of both that both have, 0 to 1; nothing is like nothing else.
    pub fn resemblance(&self, other: &Shingles) -> f64 {
        let both = self.0.intersection(&other.0).count();
        let all = self.0.len() + other.0.len() - both;
        if all == 0 { 0.0 } else { both as f64 / all as f64 }
    }
}

/// The earlier change that is most like this one, when it is near; of two alike the newer.
pub fn nearest<'a>(
    change: &Shingles,
    earlier: impl IntoIterator<Item = (TrialId, &'a Shingles)>,
) -> Option<(TrialId, f64)> {
    let scored = earlier.into_iter().map(|(trial, other)| (trial, change.resemblance(other)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))).filter(|(_, likeness)| *likeness >= NEAR)
}
