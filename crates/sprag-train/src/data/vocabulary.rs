//! The raw bytes behind each token id, read from `tokenizer.json`.
//!
//! Byte-level BPE writes each byte as one printable character (the table of GPT-2), so a token has as many
//! bytes as characters, also when it ends inside a UTF-8 sequence and could not be decoded by itself. Bits per
//! byte stand on these lengths. Encoding text is left to the crate `tokenizers`, behind `prepare`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::DataError;

/// Most token ids a vocabulary may have.
const MAX_SIZE: usize = 1 << 24;

/// Raw bytes by token id.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    bytes: Vec<Vec<u8>>,
    lengths: Vec<u32>,
    special: Vec<bool>,
}

#[derive(Deserialize)]
struct TokenizerJson {
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
}

impl Vocabulary {
    /// Reads `tokenizer.json`.
    pub fn read(path: &Path) -> Result<Vocabulary, DataError> {
        let text = fs::read_to_string(path).map_err(DataError::io("read", path))?;
        Vocabulary::parse(&text).map_err(|problem| DataError::format(path, problem))
    }

    /// Reads the text of `tokenizer.json`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Vocabulary, String> {
        let json: TokenizerJson = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let specials = json.added_tokens.iter().filter(|token| token.special).map(|token| token.id);
        let ids = json.model.vocab.values().copied().chain(specials.clone());
        let size = ids.max().map_or(0, |id| id as usize + 1);
        if size == 0 || size > MAX_SIZE {
            return Err(format!("it has {size} token ids, of 1 to {MAX_SIZE} possible"));
        }
        let mut special = vec![false; size];
        for id in specials {
            special[id as usize] = true;
        }
        let alphabet = alphabet();
        let mut bytes: Vec<Option<Vec<u8>>> = special.iter().map(|is| is.then(Vec::new)).collect();
        for (token, id) in json.model.vocab {
            if special[id as usize] {
                continue;
            }
            let raw: Option<Vec<u8>> =
                token.chars().map(|character| alphabet.get(&character).copied()).collect();
            let raw = raw.ok_or_else(|| format!("token {id} is not written in the byte-level alphabet"))?;
            if raw.is_empty() {
                return Err(format!("token {id} is empty and not special"));
            }
            if bytes[id as usize].replace(raw).is_some() {
                return Err(format!("token id {id} is given twice"));
            }
        }
        if let Some(gap) = bytes.iter().position(Option::is_none) {
            return Err(format!("token id {gap} is not given"));
        }
        let bytes: Vec<Vec<u8>> = bytes.into_iter().flatten().collect();
        let lengths = bytes.iter().map(|raw| raw.len() as u32).collect();
        Ok(Vocabulary { bytes, lengths, special })
    }

    /// Number of token ids, specials included.
    pub fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Raw bytes of a token; empty for specials and unknown ids.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Number of raw bytes by token id; 0 for specials.
    pub fn byte_lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Whether an id stands for no bytes.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The bytes of a run of tokens, one after the other.
    pub fn decode(&self, ids: impl IntoIterator<Item = u32>) -> Vec<u8> {
        ids.into_iter().flat_map(|id| self.bytes(id).iter().copied()).collect()
    }
}

/// The byte that each character of the byte-level alphabet stands for: printable Latin-1 characters stand for
/// themselves, the 68 other bytes follow from U+0100 in order.
fn alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=u8::MAX)
        .map(|byte| {
            let character = match byte {
                b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
                _ => {
                    next += 1;
                    char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            };
            (character, byte)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(vocab: &str) -> String {
        format!(
            r#"{{"added_tokens":[{{"id":0,"content":"<|bos|>","special":true}}],"model":{{"vocab":{vocab}}}}}"#
        )
    }

    #[test]
    fn every_byte_has_its_own_character() {
        let alphabet = alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!(alphabet[&'Ġ'], b' ');
        assert_eq!(alphabet[&'Ċ'], b'\n');
        assert_eq!(alphabet[&'ä'], 0xe4);
    }

    /// `é` is 0xc3 0xa9; a token that holds only its first byte cannot be decoded alone and still is one byte.
    #[test]
    fn a_token_cut_inside_a_character_counts_its_raw_bytes() {
        let vocabulary = Vocabulary::parse(&json(r#"{"<|bos|>":0,"Ã":1,"©":2,"Ã©":3,"aÃ":4}"#)).unwrap();
        assert_eq!(vocabulary.byte_lengths(), [0, 1, 1, 2, 2]);
        assert_eq!(vocabulary.decode([0, 4, 2]), "aé".as_bytes());
        assert!(vocabulary.is_special(0) && !vocabulary.is_special(1) && !vocabulary.is_special(99));
    }

    #[test]
    fn a_broken_vocabulary_says_what_is_wrong() {
        for (vocab, problem) in [
            (r#"{"a":1,"b":1}"#, "given twice"),
            (r#"{"a":1,"b":3}"#, "2 is not given"),
            (r#"{"日":1}"#, "alphabet"),
            (r#"{"":1}"#, "empty"),
            (r#"{"a":4294967295}"#, "possible"),
        ] {
            let error = Vocabulary::parse(&json(vocab)).unwrap_err();
            assert!(error.contains(problem), "{vocab}: {error}");
        }
    }
}
