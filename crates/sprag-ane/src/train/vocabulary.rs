//! A vocabulary of the tokens that the data has: rows for ids that never come up would be multiplied for nothing.

use std::collections::BTreeMap;

/// Ids of the data and rows of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compact {
    ids: Vec<u32>,
    rows: BTreeMap<u32, u32>,
}

impl Compact {
    /// The ids that come up in some texts: those of training and those of validation, so that none is unknown later.
    pub fn of(tokens: impl IntoIterator<Item = u32>) -> Compact {
        let mut ids: Vec<u32> = tokens.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Compact::from_ids(ids)
    }

    /// These ids, as a checkpoint has them.
    pub fn from_ids(ids: Vec<u32>) -> Compact {
        let rows = ids.iter().enumerate().map(|(row, id)| (*id, row as u32)).collect();
        Compact { ids, rows }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Ids in the order of rows.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The row of an id; `None` where it never came up.
    pub fn row(&self, id: u32) -> Option<u32> {
        self.rows.get(&id).copied()
    }

    /// Rows of a sequence.
    ///
    /// # Errors
    /// The first id that never came up.
    pub fn rows(&self, sequence: &[u32]) -> Result<Vec<u32>, u32> {
        sequence.iter().map(|id| self.row(*id).ok_or(*id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_any_width_get_rows_in_order() {
        let compact = Compact::of([151_000, 7, 7, 70_000]);
        assert_eq!(compact.ids(), [7, 70_000, 151_000]);
        assert_eq!(compact.rows(&[70_000, 151_000, 7]), Ok(vec![1, 2, 0]));
        assert_eq!(compact.rows(&[7, 8]), Err(8));
        assert_eq!(Compact::from_ids(compact.ids().to_vec()), compact);
    }
}
