//! Draws batches: rows that all begin at a BOS and are full to the last token, in an order set by a seed.
//!
//! Documents are cut into pieces that fit a row, each behind a BOS, and the pieces of the whole file are
//! visited in a random order, so that a batch never is one long file. A row starts with the next piece; the
//! space it leaves is given to the longest piece of a small window that fits (best-fit packing, as in Ding et al.,
//! "Fewer truncations improve language modeling", 2024, and in nanochat's loader); only where none fits is
//! a piece cut, and its rest stays in the window, so that no token of an epoch is lost and none is padding.

use std::collections::BTreeMap;

use super::permutation::{Permutation, mix, next_random};
use super::token_file::TokenFile;

/// Pieces among which the best fit is sought.
const WINDOW: usize = 512;

/// Serves batches without end; equal files, seeds and calls give equal batches.
#[derive(Clone, Debug)]
pub struct Loader {
    file: TokenFile,
    random: u64,
    /// Tokens of a row besides its BOS, which pieces are cut for.
    seq_len: u64,
    /// Number of pieces before each document, and of all at the end.
    pieces_before: Vec<u64>,
    order: Permutation,
    next: u64,
    arrivals: u64,
    window: Window,
}

/// Tokens of one document, to be served behind a BOS.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    len: u64,
}

impl Loader {
    /// A loader at the start of its first epoch.
    pub fn new(file: &TokenFile, seed: u64) -> Loader {
        Loader {
            file: file.clone(),
            random: mix(seed),
            seq_len: 0,
            pieces_before: vec![],
            order: Permutation::new(0, 0),
            next: 0,
            arrivals: 0,
            window: Window::default(),
        }
    }

    /// The next `rows * (seq_len + 1)` ids, row-major. A change of `seq_len` begins a new epoch.
    pub fn batch(&mut self, rows: usize, seq_len: usize) -> Vec<u32> {
        if self.seq_len != seq_len.max(1) as u64 {
            self.cut(seq_len.max(1) as u64);
        }
        let mut ids = Vec::with_capacity(rows.saturating_mul(seq_len + 1));
        for row in 1..=rows {
            self.row(&mut ids, row * (seq_len + 1));
        }
        ids
    }

    /// Fills `ids` up to `end`.
    fn row(&mut self, ids: &mut Vec<u32>, end: usize) {
        while ids.len() < end {
            self.fill_window();
            let space = (end - ids.len()) as u64;
            let first = space == self.seq_len + 1;
            let taken = if first { self.window.take_oldest() } else { self.window.take_best_fit(space) };
            let Some((arrival, piece)) = taken else { return };
            let served = piece.len.min(space - 1);
            ids.push(self.file.bos());
            self.file.tokens().slice(piece.start, piece.start + served).extend(ids);
            if served < piece.len {
                self.window.insert(arrival, Piece { start: piece.start + served, len: piece.len - served });
            }
        }
    }

    fn cut(&mut self, seq_len: u64) {
        self.seq_len = seq_len;
        self.window = Window::default();
        let mut total = 0;
        self.pieces_before = vec![0];
        for document in 0..self.file.document_count() {
            let body = self.file.start(document + 1) - self.file.start(document) - 1;
            total += body.div_ceil(seq_len);
            self.pieces_before.push(total);
        }
        self.begin_epoch();
    }

    fn begin_epoch(&mut self) {
        let pieces = self.pieces_before.last().copied().unwrap_or(0);
        self.order = Permutation::new(pieces, next_random(&mut self.random));
        self.next = 0;
    }

    fn fill_window(&mut self) {
        let pieces = self.pieces_before.last().copied().unwrap_or(0);
        while self.window.len() < WINDOW && pieces > 0 {
            if self.next == pieces {
                self.begin_epoch();
            }
            let piece = self.piece(self.order.at(self.next));
            self.next += 1;
            self.arrivals += 1;
            self.window.insert(self.arrivals, piece);
        }
    }

    /// The piece with this number, counted through all documents.
    fn piece(&self, number: u64) -> Piece {
        let document = self.pieces_before.partition_point(|&before| before <= number) - 1;
        let offset = (number - self.pieces_before[document]) * self.seq_len;
        let document = document as u64;
        let start = self.file.start(document) + 1 + offset;
        Piece { start, len: self.seq_len.min(self.file.start(document + 1) - start) }
    }
}

/// Pieces waiting, by arrival and by length.
#[derive(Clone, Debug, Default)]
struct Window {
    by_arrival: BTreeMap<u64, Piece>,
    by_length: BTreeMap<(u64, u64), ()>,
}

impl Window {
    fn len(&self) -> usize {
        self.by_arrival.len()
    }

    fn insert(&mut self, arrival: u64, piece: Piece) {
        self.by_arrival.insert(arrival, piece);
        self.by_length.insert((piece.len, arrival), ());
    }

    fn remove(&mut self, arrival: u64) -> Option<(u64, Piece)> {
        let piece = self.by_arrival.remove(&arrival)?;
        self.by_length.remove(&(piece.len, arrival));
        Some((arrival, piece))
    }

    fn take_oldest(&mut self) -> Option<(u64, Piece)> {
        let arrival = *self.by_arrival.first_key_value()?.0;
        self.remove(arrival)
    }

    /// The longest piece that fits `space` with its BOS, the oldest of equals; else the shortest of all.
    fn take_best_fit(&mut self, space: u64) -> Option<(u64, Piece)> {
        let fits = self.by_length.range(..(space, 0)).next_back().map(|((len, _), ())| *len);
        let from = fits.unwrap_or(0);
        let arrival = self.by_length.range((from, 0)..).next()?.0.1;
        self.remove(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TokenFileWriter;
    use std::collections::HashMap;

    const BOS: u32 = 0;

    /// Documents of these lengths; every token of a document is unique in the file.
    fn file(lengths: &[u32]) -> (tempfile::TempDir, TokenFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.bin");
        let mut writer = TokenFileWriter::create(&path, 1 << 16, BOS).unwrap();
        let mut next = 1;
        for length in lengths {
            writer.document(&(next..next + length).collect::<Vec<_>>()).unwrap();
            next += length;
        }
        writer.finish().unwrap();
        let file = TokenFile::open(&path).unwrap();
        (dir, file)
    }

    fn count(ids: &[u32]) -> HashMap<u32, u32> {
        let mut counts = HashMap::new();
        ids.iter().filter(|&&id| id != BOS).for_each(|id| *counts.entry(*id).or_default() += 1);
        counts
    }

    #[test]
    fn every_row_is_full_and_begins_with_bos() {
        let (_dir, file) = file(&[3, 1, 200, 45, 7, 16, 33]);
        let mut loader = Loader::new(&file, 1);
        for _ in 0..50 {
            let ids = loader.batch(5, 16);
            assert_eq!(ids.len(), 5 * 17);
            assert!(ids.chunks(17).all(|row| row[0] == BOS));
        }
    }

    /// Between two BOS only consecutive tokens of one document stand.
    #[test]
    fn rows_hold_unbroken_runs_of_documents() {
        let lengths = [3, 1, 200, 45, 7, 16, 33];
        let (_dir, file) = file(&lengths);
        let mut document_of = vec![usize::MAX];
        for (document, length) in lengths.iter().enumerate() {
            document_of.extend(vec![document; *length as usize]);
        }
        let ids = Loader::new(&file, 3).batch(200, 24);
        for row in ids.chunks(25) {
            for pair in row.windows(2).filter(|pair| pair[0] != BOS && pair[1] != BOS) {
                assert_eq!(pair[1], pair[0] + 1);
                assert_eq!(document_of[pair[0] as usize], document_of[pair[1] as usize]);
            }
        }
    }

    #[test]
    fn no_token_of_an_epoch_is_lost() {
        let lengths: Vec<u32> = (1..120).collect();
        let total: u32 = lengths.iter().sum();
        let (_dir, file) = file(&lengths);
        let mut loader = Loader::new(&file, 9);
        let mut served = HashMap::new();
        // Three epochs: what waits in the window is less than two epochs' worth here.
        while served.values().sum::<u32>() < 4 * total {
            for (id, times) in count(&loader.batch(8, 32)) {
                *served.entry(id).or_insert(0) += times;
            }
        }
        assert_eq!(served.len() as u32, total);
        let (least, most) = (served.values().min().unwrap(), served.values().max().unwrap());
        assert!(*least >= 2 && *most <= 6, "tokens served {least} to {most} times");
    }

    #[test]
    fn seed_and_calls_decide_the_batches() {
        let (_dir, file) = file(&(1..300).collect::<Vec<_>>());
        let batches = |seed| {
            let mut loader = Loader::new(&file, seed);
            (0..5).map(|_| loader.batch(4, 20)).collect::<Vec<_>>()
        };
        assert_eq!(batches(7), batches(7));
        assert_ne!(batches(7), batches(8));
        assert_eq!(
            Loader::new(&file, 7).batch(20, 20),
            batches(7).concat(),
            "rows do not depend on batch size"
        );
    }

    #[test]
    fn rows_of_a_batch_come_from_many_documents() {
        let (_dir, file) = file(&[5000; 10]);
        let ids = Loader::new(&file, 5).batch(50, 50);
        let documents: std::collections::HashSet<u32> =
            ids.chunks(51).map(|row| (row[1] - 1) / 5000).collect();
        assert!(documents.len() >= 8, "50 rows of 10 long documents came from {}", documents.len());
    }

    #[test]
    fn little_is_spent_on_bos() {
        let (_dir, file) = file(&(1..300).collect::<Vec<_>>());
        let ids = Loader::new(&file, 5).batch(400, 64);
        let share = ids.iter().filter(|&&id| id == BOS).count() as f64 / ids.len() as f64;
        // 299 documents of 44 850 tokens at 64 a row need 838 BOS at least: 1.8 %.
        assert!(share < 0.03, "{share} of all tokens are BOS");
    }

    #[test]
    fn length_may_change_between_batches_and_extremes_work() {
        let (_dir, file) = file(&[1, 500]);
        let mut loader = Loader::new(&file, 5);
        assert!(loader.batch(0, 10).is_empty());
        assert_eq!(loader.batch(3, 0), [BOS; 3]);
        assert_eq!(loader.batch(2, 1).len(), 4);
        assert_eq!(loader.batch(1, 4000).len(), 4001);
        assert_eq!(loader.batch(2, 8).len(), 18);
    }
}
