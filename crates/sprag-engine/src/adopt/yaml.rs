//! YAML as a flat list: for each scalar the keys that lead to it, and its line.

use saphyr_parser::{Event, Parser, ScanError};

/// A scalar. Items of a list have the list's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Keys, joined by dots.
    pub keys: String,
    /// The scalar.
    pub value: String,
    /// Line, from 1.
    pub line: usize,
}

/// What an open collection waits for.
enum Open {
    /// A mapping whose next scalar is a key.
    Key,
    /// A mapping whose next node is a value.
    Value,
    /// A sequence.
    Items,
}

/// Reads the first document. Aliases stand for nothing.
pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, ScanError> {
    let (mut leaves, mut keys, mut open): (Vec<Leaf>, Vec<String>, Vec<Open>) = Default::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        match event {
            Event::Scalar(key, ..) if matches!(open.last(), Some(Open::Key)) => {
                keys.push(key.into_owned());
                open.pop();
                open.push(Open::Value);
            }
            Event::Scalar(value, ..) => {
                leaves.push(Leaf {
                    keys: keys.join("."),
                    value: value.into_owned(),
                    line: span.start.line(),
                });
                ended(&mut keys, &mut open);
            }
            Event::Alias(_) => ended(&mut keys, &mut open),
            Event::MappingStart(..) => open.push(Open::Key),
            Event::SequenceStart(..) => open.push(Open::Items),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                ended(&mut keys, &mut open);
            }
            Event::DocumentEnd => break,
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::Nothing => {}
        }
    }
    Ok(leaves)
}

/// A value of a mapping is whole: the next scalar is a key again.
fn ended(keys: &mut Vec<String>, open: &mut [Open]) {
    if let Some(last) = open.last_mut()
        && matches!(last, Open::Value)
    {
        *last = Open::Key;
        keys.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let leaves = leaves(text).unwrap();
        let found: Vec<(&str, &str, usize)> =
            leaves.iter().map(|leaf| (leaf.keys.as_str(), leaf.value.as_str(), leaf.line)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_scalar_has_its_keys_and_line() {
        check(
            "a: 1\nb:\n  c: 'x y'\n  d:\n    - one\n    - two\ne: [p, q]\nf: >\n  long\n  text\n",
            &[
                ("a", "1", 1),
                ("b.c", "x y", 3),
                ("b.d", "one", 5),
                ("b.d", "two", 6),
                ("e", "p", 7),
                ("e", "q", 7),
                ("f", "long text\n", 9),
            ],
        );
    }

    #[test]
    fn lists_of_mappings_keep_their_keys_apart() {
        check(
            "a:\n- b: 1\n  c: 2\n- b: 3\nd: 4\n",
            &[("a.b", "1", 2), ("a.c", "2", 3), ("a.b", "3", 4), ("d", "4", 5)],
        );
    }

    #[test]
    fn what_is_no_yaml_is_an_error() {
        assert!(leaves("a: [1, 2\nb: }").is_err());
        assert!(leaves("").unwrap().is_empty());
    }
}
