//! The header of a safetensors file: names, formats and places of tensors, never the weights. Source: the format's
//! description in the repository of huggingface/safetensors.
//!
//! It tells bytes exactly, and nothing about heads or windows: the architecture comes from the `config.json` beside it.

use serde_json::Value;

/// Why a header cannot be planned with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorsError {
    /// It ends within its header, or the header's length cannot be.
    #[error("its header is cut off: it should have {0} bytes")]
    Short(u64),
    /// The length that it tells is more than any header has.
    #[error("it is no safetensors file: its header would have {0} bytes")]
    Length(u64),
    /// The header is not JSON.
    #[error("its header is not JSON: {0}")]
    Syntax(String),
    /// A tensor's entry makes no sense.
    #[error("its entry for `{0}` makes no sense")]
    Tensor(String),
}

/// Longest header that the format allows.
const MOST: u64 = 100_000_000;

/// What a header tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafetensorsModel {
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Bytes of the embedding.
    pub embedding_bytes: u64,
    /// Numbers in them.
    pub params: u64,
}

impl SafetensorsModel {
    /// Those of two files together.
    pub fn and(self, other: SafetensorsModel) -> SafetensorsModel {
        SafetensorsModel {
            weight_bytes: self.weight_bytes.saturating_add(other.weight_bytes),
            embedding_bytes: self.embedding_bytes.saturating_add(other.embedding_bytes),
            params: self.params.saturating_add(other.params),
        }
    }
}

/// How long the header is that begins with these bytes, its length included.
///
/// # Errors
/// When they are fewer than eight, or tell a length that cannot be.
pub fn safetensors_header_bytes(begin: &[u8]) -> Result<u64, SafetensorsError> {
    let length = begin.first_chunk::<8>().ok_or(SafetensorsError::Short(8))?;
    match u64::from_le_bytes(*length) {
        length if length <= MOST => Ok(length + 8),
        length => Err(SafetensorsError::Length(length)),
    }
}

/// Reads the beginning of a file; the whole header must be there.
///
/// # Errors
/// See [`SafetensorsError`].
pub fn read_safetensors(bytes: &[u8]) -> Result<SafetensorsModel, SafetensorsError> {
    let length = safetensors_header_bytes(bytes)?;
    let header = usize::try_from(length).ok().and_then(|length| bytes.get(8..length));
    let header = header.ok_or(SafetensorsError::Short(length))?;
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(header).map_err(|cause| SafetensorsError::Syntax(cause.to_string()))?;
    let mut model = SafetensorsModel::default();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let wrong = || SafetensorsError::Tensor(name.chars().take(200).collect());
        let place = |at: usize| entry["data_offsets"][at].as_u64();
        let own = match (place(0), place(1)) {
            (Some(from), Some(to)) if from <= to => to - from,
            _ => return Err(wrong()),
        };
        let shape = entry["shape"].as_array().ok_or_else(wrong)?;
        let count = shape.iter().try_fold(1_u64, |count, size| count.checked_mul(size.as_u64()?));
        model.weight_bytes = model.weight_bytes.saturating_add(own);
        model.params = model.params.saturating_add(count.ok_or_else(wrong)?);
        if name.ends_with("embed_tokens.weight") {
            model.embedding_bytes = own;
        }
    }
    Ok(model)
}
