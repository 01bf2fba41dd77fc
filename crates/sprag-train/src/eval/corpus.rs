//! Where the evaluator's text comes from: training batches and validation windows.

use std::collections::HashSet;
use std::path::Path;

use super::EvalError;
use crate::data::{Loader, Prepared, Split, TokenFile};

/// Seed of the order in which validation windows are drawn: fixed, so that every candidate of a data folder
/// is scored on the same text.
const WINDOW_SEED: u64 = 0x005e_ed0f_0a0b;

/// Text to train and score on.
pub trait Corpus {
    /// Number of token ids.
    fn vocab_size(&self) -> u32;
    /// Id that begins each document.
    fn bos(&self) -> u32;
    /// Raw bytes that each id stands for.
    fn byte_lengths(&self) -> &[u32];
    /// Whether an id stands for no text and is therefore not scored.
    fn is_special(&self, id: u32) -> bool;
    /// The next `rows * (seq_len + 1)` ids of training text, row-major.
    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32>;
    /// Up to `count` windows of `seq_len + 1` ids of validation text, the same at every call.
    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>>;
}

/// Prepared data, as [`Corpus`].
#[derive(Debug)]
pub struct PreparedCorpus {
    prepared: Prepared,
    train: Loader,
    validation: TokenFile,
}

impl PreparedCorpus {
    /// Opens a folder made by `sprag data prepare`; `seed` orders the training text, `split` is scored.
    pub fn open(data: &Path, split: Split, seed: u64) -> Result<Self, EvalError> {
        let prepared = Prepared::open(data)?;
        let train = Loader::new(&prepared.split(Split::Train)?, seed);
        let validation = prepared.split(split)?;
        Ok(PreparedCorpus { prepared, train, validation })
    }
}

impl Corpus for PreparedCorpus {
    fn vocab_size(&self) -> u32 {
        self.prepared.vocab_size()
    }

    fn bos(&self) -> u32 {
        self.prepared.bos()
    }

    fn byte_lengths(&self) -> &[u32] {
        self.prepared.byte_lengths()
    }

    fn is_special(&self, id: u32) -> bool {
        self.prepared.is_special(id)
    }

    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32> {
        self.train.batch(rows as usize, seq_len as usize)
    }

    /// Windows as the loader packs them, so that they look like what was trained on. At most one pass over
    /// the split, so that no text is asked for twice.
    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>> {
        let one_pass = self.validation.token_count() / (u64::from(seq_len) + 1);
        let rows = usize::try_from(count.min(one_pass)).unwrap_or(usize::MAX);
        let width = seq_len as usize + 1;
        let ids = Loader::new(&self.validation, WINDOW_SEED).batch(rows, seq_len as usize);
        ids.chunks_exact(width).map(<[u32]>::to_vec).collect()
    }
}

/// The windows that are scored, with what is known of their tokens.
pub(super) struct Windows {
    windows: Vec<Vec<u32>>,
    seq_len: usize,
    vocab_size: usize,
    /// Bytes by token id; `None` for specials, which are not scored.
    bytes: Vec<Option<u32>>,
}

impl Windows {
    /// Draws windows and checks what everything after relies on: lengths, ids, and at least three of them.
    pub(super) fn draw(corpus: &dyn Corpus, seq_len: u32, count: u64) -> Result<Self, EvalError> {
        let vocab_size = corpus.vocab_size() as usize;
        if corpus.byte_lengths().len() != vocab_size {
            let lengths = corpus.byte_lengths().len();
            let problem = format!("{lengths} byte lengths for a vocabulary of {vocab_size}");
            return Err(EvalError::Damaged(problem));
        }
        let mut windows = corpus.validation_windows(count.max(3), seq_len);
        let mut seen = HashSet::new();
        windows.retain(|window| seen.insert(window.clone()));
        if let Some(id) = windows.iter().flatten().find(|&&id| id as usize >= vocab_size) {
            return Err(EvalError::Damaged(format!("token {id} in a vocabulary of {vocab_size}")));
        }
        if windows.len() < 3 || seq_len == 0 {
            return Err(EvalError::TooFewWindows { windows: windows.len(), seq_len });
        }
        let bytes = (0u32..).zip(corpus.byte_lengths());
        let bytes = bytes.map(|(id, &length)| (!corpus.is_special(id)).then_some(length)).collect();
        Ok(Windows { windows, seq_len: seq_len as usize, vocab_size, bytes })
    }

    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn seq_len(&self) -> usize {
        self.seq_len
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What the candidate sees of a window.
    pub(super) fn inputs(&self, window: usize) -> &[u32] {
        &self.windows[window][..self.seq_len]
    }

    /// What should follow each of its tokens.
    pub(super) fn targets(&self, window: usize) -> &[u32] {
        &self.windows[window][1..]
    }

    /// Bytes of a token; `None` when it is not scored.
    pub(super) fn bytes(&self, id: u32) -> Option<u32> {
        self.bytes[id as usize]
    }
}

#[cfg(all(test, feature = "prepare"))]
mod tests {
    use super::*;
    use crate::data::{PrepareOptions, Source, prepare};

    /// A prepared folder of many small documents without repetitions.
    fn prepared() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        for package in 0..60 {
            let package = text.join(format!("package-{package}"));
            std::fs::create_dir_all(&package).unwrap();
            let mut state = package.as_os_str().len() as u64
                + package.to_string_lossy().bytes().map(u64::from).sum::<u64>();
            for file in 0..3 {
                let mut words = String::new();
                for _ in 0..200 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    words += &format!("word{} ", (state >> 33) % 5000);
                }
                std::fs::write(package.join(format!("file-{file}.md")), words).unwrap();
            }
        }
        prepare(&PrepareOptions::new(Source::Dir(text), dir.path().join("data")), &mut |_| ()).unwrap();
        dir
    }

    #[test]
    fn windows_are_fixed_and_batches_follow_the_seed() {
        let dir = prepared();
        let open = |seed| PreparedCorpus::open(&dir.path().join("data"), Split::Val, seed).unwrap();
        let (mut one, mut two) = (open(1), open(2));
        assert_eq!(one.validation_windows(8, 32), two.validation_windows(8, 32));
        assert_ne!(one.next_batch(4, 32), two.next_batch(4, 32));
        assert_eq!(open(1).next_batch(4, 32), open(1).next_batch(4, 32));

        let windows = one.validation_windows(u64::MAX, 32);
        assert!(windows.iter().all(|window| window.len() == 33 && window[0] == one.bos()));
        assert!(windows.len() as u64 <= one.validation.token_count() / 33, "text is asked for twice");
        let drawn = Windows::draw(&one, 32, 8).unwrap();
        assert_eq!(drawn.len(), 8);
        assert_eq!(drawn.bytes(one.bos()), None);
    }

    #[test]
    fn windows_longer_than_the_split_are_an_error() {
        let dir = prepared();
        let corpus = PreparedCorpus::open(&dir.path().join("data"), Split::Val, 1).unwrap();
        assert!(matches!(
            Windows::draw(&corpus, 1 << 20, 8),
            Err(EvalError::TooFewWindows { windows: 0, .. })
        ));
    }

    #[test]
    fn a_folder_without_data_is_an_error_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let error = PreparedCorpus::open(dir.path(), Split::Val, 1).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("data prepare")), "{error}");
    }
}
