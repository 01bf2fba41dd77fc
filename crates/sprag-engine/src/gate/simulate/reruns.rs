//! Recorded re-runs of identical configurations: comma-separated, with a header that names
//! `group,order,val_bpb,num_steps,tokens_per_second`.

use std::collections::BTreeMap;

/// One execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    /// Its configuration.
    pub group: String,
    /// Its place in time within the group.
    pub order: u64,
    /// Its score, in bits per byte.
    pub val_bpb: f64,
    /// Optimiser steps, where recorded.
    pub num_steps: Option<f64>,
    /// Throughput, where recorded.
    pub tokens_per_second: Option<f64>,
}

/// A file of re-runs cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct RerunsError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

/// Parses the text of such a file. Columns may stand in any order; others are passed over.
pub fn parse_reruns(text: &str) -> Result<Vec<Rerun>, RerunsError> {
    let mut lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let wrong = |line: usize, problem: String| RerunsError { line: line + 1, problem };
    let Some((at, header)) = lines.next() else {
        return Err(wrong(
            0,
            "the file is empty; it begins with `group,order,val_bpb,num_steps,tokens_per_second`".into(),
        ));
    };
    let names: Vec<&str> = header.split(',').map(str::trim).collect();
    let column = |name: &str| names.iter().position(|known| *known == name);
    let required = |name: &str| {
        column(name)
            .ok_or_else(|| wrong(at, format!("there is no column `{name}`, only {}", names.join(", "))))
    };
    let (group, order, score) = (required("group")?, required("order")?, required("val_bpb")?);
    let (steps, rate) = (column("num_steps"), column("tokens_per_second"));
    let mut reruns = Vec::new();
    for (at, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |index: usize| {
            let missing = || wrong(at, format!("there are {} columns, not {}", cells.len(), names.len()));
            cells.get(index).copied().ok_or_else(missing)
        };
        let number = |index: usize| -> Result<f64, RerunsError> {
            let text = cell(index)?;
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| wrong(at, format!("`{text}` in column `{}` is not a number", names[index])))
        };
        let optional = |index: Option<usize>| match index {
            Some(index) if !cell(index)?.is_empty() => number(index).map(Some),
            _ => Ok(None),
        };
        let place = number(order)?;
        if place < 0.0 {
            return Err(wrong(at, format!("`{place}` in column `order` is negative")));
        }
        reruns.push(Rerun {
            group: cell(group)?.to_owned(),
            order: place as u64,
            val_bpb: number(score)?,
            num_steps: optional(steps)?,
            tokens_per_second: optional(rate)?,
        });
    }
    Ok(reruns)
}

/// Re-runs by group, each in time order; groups in order of their names.
pub fn groups_of(reruns: &[Rerun]) -> BTreeMap<&str, Vec<&Rerun>> {
    let mut groups: BTreeMap<&str, Vec<&Rerun>> = BTreeMap::new();
    for rerun in reruns {
        groups.entry(rerun.group.as_str()).or_default().push(rerun);
    }
    groups.values_mut().for_each(|group| group.sort_by_key(|rerun| rerun.order));
    groups
}
