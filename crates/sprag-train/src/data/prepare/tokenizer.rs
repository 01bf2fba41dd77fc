//! Trains and applies the byte-level BPE tokenizer.
//!
//! The crate `tokenizers` learns the merges, applies them to words and defines `tokenizer.json`. Splitting text into
//! words and counting them is done here, without the offset bookkeeping that `tokenizers` does for every
//! word; each known word is merged once and then looked up. A test holds the two to the same answer.

use std::collections::HashSet;

use ahash::AHashMap;
use compact_str::CompactString;
use fancy_regex::{Regex, RegexBuilder};
use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, Tokenizer};

use super::corpus::Text;
use crate::data::DataError;

/// What no text can spell; ids 0 to 3. The first begins each document, the others are free for later use.
pub(crate) const SPECIALS: [&str; 4] = ["<|bos|>", "<|reserved_1|>", "<|reserved_2|>", "<|reserved_3|>"];
/// Id of `<|bos|>`.
pub(crate) const BOS: u32 = 0;

/// Words as GPT-4's tokenizer splits them, except that digits go in groups of one or two: with a small vocabulary
/// a thousand groups of three would take a quarter of it (nanochat does the same).
const PATTERN: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)",
    r"|[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"|\p{N}{1,2}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*",
    r"|\s*[\r\n]",
    r"|\s+(?!\S)",
    r"|\s+"
);

/// Least and most token ids, specials included.
const VOCAB_SIZES: std::ops::RangeInclusive<u32> = 256 + SPECIALS.len() as u32..=65_536;
/// Longest word that is looked at as one, in bytes.
const MOST_WORD_BYTES: usize = 1 << 10;

/// The vocabulary size to train for: 256 stands for bytes alone.
pub(crate) fn checked_vocab_size(wanted: u32) -> Result<u32, DataError> {
    let least = *VOCAB_SIZES.start();
    match wanted {
        256 => Ok(least),
        wanted if VOCAB_SIZES.contains(&wanted) => Ok(wanted),
        _ => Err(DataError::Option(format!(
            "a vocabulary of {wanted} is not possible; choose 256 (bytes alone) or {least} to {}",
            VOCAB_SIZES.end()
        ))),
    }
}

/// Divides text into words.
struct Words {
    regex: Regex,
}

impl Words {
    fn new() -> Result<Words, DataError> {
        let regex =
            RegexBuilder::new(PATTERN).build().map_err(|error| DataError::Tokenizer(error.to_string()))?;
        Ok(Words { regex })
    }

    /// Calls `word` for each word, in order; together they are the text.
    fn each<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        let mut at = 0;
        while at < text.len() {
            // The pattern matches at every place. What it gives up on, such as a very long run of spaces, is taken
            // as words of a fixed length.
            let end = match self.regex.find_from_pos(text, at) {
                Ok(Some(found)) if found.start() == at && found.end() > at => found.end(),
                _ => text.ceil_char_boundary((at + MOST_WORD_BYTES).min(text.len())),
            };
            word(&text[at..end]);
            at = end;
        }
    }
}

/// How often each word occurs in what the merges are learnt from.
#[derive(Default)]
pub(crate) struct WordCounts {
    counts: AHashMap<CompactString, u64>,
    bytes: u64,
}

impl WordCounts {
    /// Bytes counted so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts the words of some texts.
    pub(crate) fn add(&mut self, texts: &[Text]) -> Result<(), DataError> {
        let words = Words::new()?;
        let share = texts.len().div_ceil(rayon::current_num_threads() * 2).max(1);
        let counts: Vec<AHashMap<&str, u64>> = texts
            .par_chunks(share)
            .map(|texts| {
                let mut counts = AHashMap::new();
                for text in texts {
                    words.each(&text.text, |word| *counts.entry(word).or_default() += 1);
                }
                counts
            })
            .collect();
        for (word, count) in counts.into_iter().flatten() {
            match self.counts.get_mut(word) {
                Some(known) => *known += count,
                None => drop(self.counts.insert(word.into(), count)),
            }
        }
        self.bytes += texts.iter().map(|text| text.text.len() as u64).sum::<u64>();
        Ok(())
    }
}

/// A trained tokenizer, ready to encode.
pub(crate) struct Trained {
    words: Words,
    model: BPE,
    alphabet: [char; 256],
    json: String,
    known: AHashMap<CompactString, Box<[u32]>>,
    bytes: u64,
    sampled: bool,
}

impl Trained {
    /// Learns merges from counted words until there are `vocab_size` ids, or no pair occurs twice.
    pub(crate) fn learn(counts: &WordCounts, vocab_size: u32, sampled: bool) -> Result<Trained, DataError> {
        let failed = |error: tokenizers::Error| DataError::Tokenizer(error.to_string());
        let alphabet = alphabet()?;
        let specials: Vec<AddedToken> = SPECIALS.map(|special| AddedToken::from(special, true)).into();
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size as usize)
            .min_frequency(2)
            .initial_alphabet(alphabet.iter().copied().collect::<HashSet<char>>())
            .special_tokens(specials.clone())
            .build();
        let words: Vec<(&CompactString, u64)> =
            counts.counts.iter().map(|(word, count)| (word, *count)).collect();
        let spelled = words.iter().map(|(word, count)| (spell(&alphabet, word), *count)).collect();
        let mut model = BPE::default();
        trainer.do_train(&spelled, &mut model).map_err(failed)?;
        drop(spelled);

        let mut tokenizer = Tokenizer::new(model.clone());
        let pattern = SplitPattern::Regex(PATTERN.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
        let bytes = ByteLevel::new(false, false, false);
        tokenizer
            .with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])))
            .with_decoder(Some(bytes));
        tokenizer.add_special_tokens(specials).map_err(failed)?;
        let json = tokenizer.to_string(false).map_err(failed)?;

        let mut trained = Trained {
            words: Words::new()?,
            model,
            alphabet,
            json,
            known: AHashMap::new(),
            bytes: counts.bytes,
            sampled,
        };
        // A word met once is likely not met again.
        let often = words.par_iter().filter(|(_, count)| *count > 1);
        let known: Vec<_> = often
            .map(|(word, _)| Ok(((*word).clone(), trained.merge(word)?.into_boxed_slice())))
            .collect::<Result<_, DataError>>()?;
        trained.known = known.into_iter().collect();
        Ok(trained)
    }

    /// The text of `tokenizer.json`.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// Bytes of text that the merges were learnt from.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether that was only a part of the train split.
    pub(crate) fn sampled(&self) -> bool {
        self.sampled
    }

    /// The token ids of a text, without BOS. Specials cannot come out, whatever the text says.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut failed = None;
        self.words.each(text, |word| match self.known.get(word) {
            Some(known) => ids.extend_from_slice(known),
            None => match self.merge(word) {
                Ok(merged) => ids.extend(merged),
                Err(error) => failed = Some(error),
            },
        });
        failed.map_or(Ok(ids), Err)
    }

    fn merge(&self, word: &str) -> Result<Vec<u32>, DataError> {
        let tokens = self.model.tokenize(&spell(&self.alphabet, word));
        let tokens = tokens.map_err(|error| DataError::Tokenizer(error.to_string()))?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }
}

/// A word's bytes in the byte-level alphabet.
fn spell(alphabet: &[char; 256], word: &str) -> CompactString {
    word.bytes().map(|byte| alphabet[usize::from(byte)]).collect()
}

/// The character that stands for each byte, in the order that `tokenizers` gives them: sorted, the bytes that stand
/// for themselves come before the others.
fn alphabet() -> Result<[char; 256], DataError> {
    let mut characters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    characters.sort_unstable();
    let mut others = characters.iter().copied().filter(|character| u32::from(*character) > 0xff);
    let mut table = [char::REPLACEMENT_CHARACTER; 256];
    for (byte, entry) in (0..=u8::MAX).zip(&mut table) {
        let same = char::from(byte);
        let character = if characters.binary_search(&same).is_ok() { Some(same) } else { others.next() };
        *entry = character.ok_or_else(|| {
            DataError::Tokenizer("the byte-level alphabet has fewer than 256 letters".to_owned())
        })?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split as Part, Vocabulary};

    fn train(texts: &[&str], vocab_size: u32) -> Trained {
        let texts: Vec<Text> =
            texts.iter().map(|text| Text { split: Part::Train, text: (*text).to_owned() }).collect();
        let mut counts = WordCounts::default();
        counts.add(&texts).unwrap();
        Trained::learn(&counts, vocab_size, false).unwrap()
    }

    const TEXT: &str = "fn main() {\n    let größe = 12345; // naïve 日本語 \u{1f600}\n\n\n\tprintln!(\"it's  {größe}\");   \r\n}\n";

    #[test]
    fn ids_are_those_of_the_crate_tokenizers() {
        let trained = train(&[TEXT, TEXT, "let größe"], 320);
        let mut tokenizer: Tokenizer = trained.json().parse().unwrap();
        tokenizer.set_encode_special_tokens(true);
        for text in
            [TEXT, "größe12 3456\t\t x", "   ", "\r\n\r\n", "never seen: Ωμέγα ½²", "<|bos|> is text", ""]
        {
            let expected = tokenizer.encode_fast(text, false).unwrap();
            assert_eq!(trained.encode(text).unwrap(), expected.get_ids(), "{text:?}");
        }
    }

    #[test]
    fn training_twice_gives_the_same_tokenizer() {
        let text: String =
            (0..400).map(|number| format!("word{} other{} ", number % 37, number % 11)).collect();
        assert_eq!(train(&[&text, TEXT], 400).json(), train(&[&text, TEXT], 400).json());
    }

    /// With few merges, tokens end inside the characters of this text. Their lengths must add up all the same.
    #[test]
    fn byte_lengths_add_up_when_tokens_cut_characters() {
        for vocab_size in [260, 264, 300] {
            let trained = train(&[TEXT, TEXT], vocab_size);
            let vocabulary = Vocabulary::parse(trained.json()).unwrap();
            let ids = trained.encode(TEXT).unwrap();
            let cut = ids.iter().filter(|&&id| std::str::from_utf8(vocabulary.bytes(id)).is_err()).count();
            assert!(cut > 0, "no token of {vocab_size} cuts a character");
            let sum: u32 = ids.iter().map(|&id| vocabulary.byte_lengths()[id as usize]).sum();
            assert_eq!(sum as usize, TEXT.len());
            assert_eq!(vocabulary.decode(ids), TEXT.as_bytes());
        }
    }

    #[test]
    fn specials_come_first_and_no_text_spells_them() {
        let trained = train(&["<|bos|><|bos|> <|reserved_1|>"], 300);
        let vocabulary = Vocabulary::parse(trained.json()).unwrap();
        assert!((0..4).all(|id| vocabulary.is_special(id)) && !vocabulary.is_special(4));
        let ids = trained.encode("<|bos|> <|reserved_1|>").unwrap();
        assert!(ids.iter().all(|&id| id >= 4), "{ids:?}");
    }

    #[test]
    fn bytes_alone_have_260_ids() {
        assert_eq!(checked_vocab_size(256).unwrap(), 260);
        let trained = train(&[TEXT, TEXT], 260);
        assert_eq!(Vocabulary::parse(trained.json()).unwrap().size(), 260);
        assert_eq!(trained.encode(TEXT).unwrap().len(), TEXT.len());
    }

    #[test]
    fn impossible_vocabularies_are_refused() {
        for wanted in [0, 255, 257, 259, 65_537] {
            assert!(checked_vocab_size(wanted).is_err(), "{wanted}");
        }
        assert_eq!(checked_vocab_size(65_536).unwrap(), 65_536);
    }

    #[test]
    fn a_run_of_spaces_too_long_for_the_pattern_is_kept() {
        let text = format!("a{}b", " ".repeat(300_000));
        let trained = train(&[TEXT], 260);
        assert_eq!(trained.encode(&text).unwrap().len(), text.len());
    }
}
