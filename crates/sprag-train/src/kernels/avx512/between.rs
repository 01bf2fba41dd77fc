//! Products that only other products read: their numbers never lie in memory as such.
//!
//! The hidden layer of an MLP is a left factor going forward, and a right factor, its rows summed over, for the gradient
//! by the weights behind it; its gradient likewise. So a tile of it goes from the registers of its sums into the words
//! that both will read.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::pack::{lanes_mask, rows_to_words, side_by_side};
use super::{DEPTH, MR, NR, Packed, Panels, ROW, TILES, Tile, add_tile, per_word, tile_of, transposed, words_mut};
use crate::kernels::memory::Buffer;
use crate::kernels::{Matrix, MatrixMut, Precision};

/// A left factor in words, row after row: for each DEPTH words of the summed dimension, all rows, ROW apart.
#[derive(Debug)]
pub struct Rows {
    words: Buffer,
    shape: [usize; 2],
    precision: Precision,
}

impl Rows {
    fn new([rows, depth]: [usize; 2], precision: Precision) -> Rows {
        let blocks = depth.div_ceil(DEPTH * per_word(precision));
        Rows { words: Buffer::new(blocks * rows.next_multiple_of(MR) * ROW), shape: [rows, depth], precision }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The words of all rows in a block of the summed dimension.
    pub(super) fn block(&self, number: usize) -> &[u32] {
        let size = self.shape[0].next_multiple_of(MR) * ROW;
        &bytemuck::cast_slice(&self.words)[number * size..][..size]
    }
}

/// A matrix as products read it.
#[derive(Debug)]
pub struct Between {
    /// As their left factor.
    pub rows: Rows,
    /// As their right factor.
    pub right: Packed,
}

/// What is made of a product's numbers.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// `max(x, 0)^2`.
    SquaredRelu,
    /// Their product with the slope of the squared ReLU where it came to these numbers.
    TimesSlopeAt(&'a Packed),
}

impl Packed {
    /// A matrix to be filled with words.
    fn unfilled([depth, lanes]: [usize; 2], precision: Precision) -> Packed {
        let words = Buffer::new(lanes.next_multiple_of(NR) * depth.div_ceil(per_word(precision)));
        Packed { panels: Panels { words, lanes, depth }, precision }
    }

    /// What `then` makes of `a self`, on all threads. Numbers of a row of `a` lie side by side; nothing is empty.
    pub fn multiply_between(&self, a: Matrix<'_>, then: Then<'_>) -> Between {
        let shape = [a.rows(), self.panels.lanes];
        assert!(a.cols() == self.panels.depth && a.col_stride() == 1 && !shape.contains(&0) && a.cols() > 0);
        if let Then::TimesSlopeAt(activated) = then {
            assert!(activated.shape() == shape && activated.precision == self.precision);
        }
        let mut between =
            Between { rows: Rows::new(shape, self.precision), right: Packed::unfilled(shape, self.precision) };
        let tiles = a.rows().div_ceil(MR);
        let pieces = tiles.div_ceil(TILES).max(tiles.min(8 * rayon::current_num_threads()));
        let to = Destination {
            rows: words_mut(&mut between.rows.words).as_mut_ptr(),
            right: words_mut(&mut between.right.panels.words).as_mut_ptr(),
            shape,
        };
        (0..pieces).into_par_iter().with_max_len(1).for_each(|piece| {
            let [first, end] = [piece, piece + 1].map(|piece| (piece * tiles / pieces * MR).min(a.rows()));
            let a = a.rows_from(first, end - first);
            match self.precision {
                Precision::Fp32 => self.piece_between::<1>(a, first, then, &to),
                Precision::Bf16 => self.piece_between::<2>(a, first, then, &to),
            }
        });
        between
    }

    /// Rows from `first` on, a multiple of MR.
    fn piece_between<const PER_WORD: usize>(
        &self,
        a: Matrix<'_>,
        first: usize,
        then: Then<'_>,
        to: &Destination,
    ) {
        let tiles = a.rows().div_ceil(MR);
        let blocks: Vec<_> = self.panels.blocks(PER_WORD).collect();
        let mut ready = Buffer::new(blocks.len() * tiles * MR * ROW);
        let ready = words_mut(&mut ready);
        for (number, ready) in ready.chunks_exact_mut(tiles * MR * ROW).enumerate() {
            let from = number * DEPTH * PER_WORD;
            let depth = (DEPTH * PER_WORD).min(a.cols() - from);
            rows_to_words::<PER_WORD>(ready, a, from, depth);
        }
        // Sums over all blocks but the last, tile after tile: few enough to stay in the first-level cache.
        let mut sums = Buffer::new(tiles * MR * NR);
        let [.., (last_words, last_block)] = blocks[..] else { return };
        for panel in 0..self.panels.lanes.div_ceil(NR) {
            let left = |number: usize, tile: usize| &ready[(number * tiles + tile) * MR * ROW..][..MR * ROW];
            for (number, (words, block)) in blocks.iter().enumerate().take(blocks.len() - 1) {
                let right = &block[panel * NR * words..][..NR * words];
                for (tile, sums) in sums.chunks_exact_mut(MR * NR).enumerate() {
                    let to =
                        Tile { corner: sums.as_mut_ptr(), stride: NR, rows: MR, cols: NR, add: number > 0 };
                    // SAFETY: a `Packed` is made only where the processor is `available`; both factors have `words`
                    // words, and `sums` has room for a tile.
                    unsafe { tile_of::<PER_WORD, ROW, 1>(*words, left(number, tile), right, to) }
                }
            }
            let right = &last_block[panel * NR * last_words..][..NR * last_words];
            for (tile, sums) in sums.chunks_exact(MR * NR).enumerate() {
                let before = (blocks.len() > 1).then_some(sums);
                let left = left(blocks.len() - 1, tile);
                // SAFETY: as above; `to` has room for all rows and columns, and no other piece has these rows.
                unsafe {
                    tile_between::<PER_WORD>(last_words, left, right, before, then, to, [first + tile * MR, panel]);
                }
            }
        }
    }

    /// `out = (a self)` with rows and columns exchanged, on all threads.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn multiply_transposed(&self, mut out: MatrixMut<'_>, a: Matrix<'_>) {
        let mut product = Buffer::new(a.rows() * self.panels.lanes);
        let (rows, cols) = (a.rows(), self.panels.lanes);
        assert!([out.rows(), out.cols()] == [cols, rows] && a.cols() == self.panels.depth);
        self.multiply(MatrixMut::new(&mut product, rows, cols), a, 0, false, true);
        let mut parts = out.again().split_rows(64);
        parts.par_iter_mut().enumerate().for_each(|(part, out)| {
            // SAFETY: a `Packed` is made only where the processor is `available`.
            unsafe { transpose(out, Matrix::new(&product, rows, cols).cols_from(part * 64, out.rows())) }
        });
    }
}

/// Where a [`Between`] is written by several threads, each of which has rows of its own, a multiple of MR of them.
struct Destination {
    rows: *mut u32,
    right: *mut u32,
    shape: [usize; 2],
}

// SAFETY: threads write different rows. Words of both forms belong to one row, or to two of the same MR.
unsafe impl Sync for Destination {}

impl Destination {
    /// The words of a row from a panel's first column on.
    fn row<const PER_WORD: usize>(&self, row: usize, panel: usize) -> *mut u32 {
        let (block, word) = (panel * NR / PER_WORD / DEPTH, panel * NR / PER_WORD % DEPTH);
        self.rows.wrapping_add((block * self.shape[0].next_multiple_of(MR) + row) * ROW + word)
    }
}

/// Where the words that hold `row`, the first in them, of a panel lie in [`Panels`] of this many lanes and numbers a
/// lane.
fn word_of_panel<const PER_WORD: usize>([depth, lanes]: [usize; 2], row: usize, panel: usize) -> usize {
    let (word, words) = (row / PER_WORD, depth.div_ceil(PER_WORD));
    let before = word - word % DEPTH;
    before * lanes.next_multiple_of(NR) + panel * NR * DEPTH.min(words - before) + word % DEPTH * NR
}

/// The tile of rows `row..row + MR`, as many of them as there are, and of a panel's columns. `before` is added.
///
/// # Safety
/// As for [`tile_of`]; `to` has room for the rows and columns of its shape, and `then`'s matrix has them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_between<const PER_WORD: usize>(
    words: usize,
    a: &[u32],
    b: &[u32],
    before: Option<&[f32]>,
    then: Then<'_>,
    to: &Destination,
    [row, panel]: [usize; 2],
) {
    let rows = MR.min(to.shape[0] - row);
    let place = |row: usize| word_of_panel::<PER_WORD>(to.shape, row, panel);
    // As in `tile_of`: all that is touched at the end is asked for now. A prefetch may point anywhere.
    for pair in 0..rows.div_ceil(PER_WORD) {
        let place = place(row + pair * PER_WORD);
        for line in 0..2 {
            _mm_prefetch::<_MM_HINT_T1>(to.right.wrapping_add(place + 16 * line).cast());
            if let Then::TimesSlopeAt(activated) = then {
                let activated: &[u32] = bytemuck::cast_slice(&activated.panels.words);
                _mm_prefetch::<_MM_HINT_T1>(activated.as_ptr().wrapping_add(place + 16 * line).cast());
            }
        }
    }
    for row in row..row + rows {
        for line in 0..2 / PER_WORD {
            _mm_prefetch::<_MM_HINT_T1>(to.row::<PER_WORD>(row, panel).wrapping_add(16 * line).cast());
        }
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; MR];
    // SAFETY: the same contract.
    unsafe { add_tile::<PER_WORD, ROW, 1>(&mut sums, words, a, b) };
    if let Some(before) = before {
        assert!(before.len() == MR * NR);
        for (sum, before) in sums.as_flattened_mut().iter_mut().zip(before.as_chunks::<16>().0) {
            // SAFETY: sixteen numbers.
            *sum = _mm512_add_ps(*sum, unsafe { _mm512_loadu_ps(before.as_ptr()) });
        }
    }
    // Rows that the matrix does not have stand in words beside some that it has.
    for sums in &mut sums[rows..] {
        *sums = [_mm512_setzero_ps(); 2];
    }
    match then {
        Then::SquaredRelu => {
            for sum in sums.as_flattened_mut() {
                // NaN, the second one, stays.
                let positive = _mm512_max_ps(_mm512_setzero_ps(), *sum);
                *sum = _mm512_mul_ps(positive, positive);
            }
        }
        Then::TimesSlopeAt(activated) => {
            let activated: &[u32] = bytemuck::cast_slice(&activated.panels.words);
            for (pair, sums) in sums.chunks_exact_mut(PER_WORD).enumerate().take(rows.div_ceil(PER_WORD)) {
                let words = &activated[place(row + pair * PER_WORD)..][..NR];
                for half in 0..2 {
                    // SAFETY: two times sixteen words.
                    let words = unsafe { _mm512_loadu_si512(words.as_ptr().add(half * 16).cast()) };
                    for (which, sums) in sums.iter_mut().enumerate() {
                        sums[half] = _mm512_mul_ps(sums[half], slope::<PER_WORD>(words, which));
                    }
                }
            }
        }
    }
    for (number, sums) in sums.iter().enumerate().take(rows) {
        let to: *mut __m512i = to.row::<PER_WORD>(row + number, panel).cast();
        // SAFETY: `to` has room for a row's columns, and a block of them for all of a panel's.
        unsafe {
            if PER_WORD == 1 {
                _mm512_storeu_si512(to, _mm512_castps_si512(sums[0]));
                _mm512_storeu_si512(to.add(1), _mm512_castps_si512(sums[1]));
            } else {
                let row = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(sums[1], sums[0]));
                _mm512_storeu_si512(to, row);
            }
        }
    }
    for (pair, sums) in sums.chunks_exact(PER_WORD).enumerate().take(rows.div_ceil(PER_WORD)) {
        let to: *mut __m512i = to.right.wrapping_add(place(row + pair * PER_WORD)).cast();
        for half in 0..2 {
            let words = if PER_WORD == 1 {
                _mm512_castps_si512(sums[0][half])
            } else {
                side_by_side(sums[0][half], sums[PER_WORD - 1][half])
            };
            // SAFETY: `to` has room for this row's word of all columns of the panel.
            unsafe { _mm512_storeu_si512(to.add(half), words) }
        }
    }
}

/// The slope of the squared ReLU, `2 max(x, 0)`, where it came to a word's first number, or to its second one: two times
/// its root.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn slope<const PER_WORD: usize>(words: __m512i, which: usize) -> __m512 {
    let square = _mm512_castsi512_ps(match (PER_WORD, which) {
        (1, _) => words,
        (_, 0) => _mm512_slli_epi32::<16>(words),
        _ => _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())),
    });
    // An estimate of 14 bits, more than bfloat16 has; for single precision a step of Newton's doubles them. Where there
    // is nothing, the estimate is infinite, and left out. NaN is something.
    let some = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(square, _mm512_setzero_ps());
    let inverse = _mm512_maskz_rsqrt14_ps(some, square);
    let root = _mm512_mul_ps(square, inverse);
    let two = _mm512_set1_ps(2.0);
    if PER_WORD == 2 {
        return _mm512_mul_ps(root, two);
    }
    // 2 root (3 - square / root^2) / 2.
    _mm512_mul_ps(root, _mm512_fnmadd_ps(root, inverse, _mm512_set1_ps(3.0)))
}

/// `out` is `matrix` with rows and columns exchanged. Numbers of a row of `matrix` lie side by side.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn transpose(out: &mut MatrixMut<'_>, matrix: Matrix<'_>) {
    assert!([out.rows(), out.cols()] == [matrix.cols(), matrix.rows()] && matrix.col_stride() == 1);
    for row in (0..matrix.rows()).step_by(16) {
        let height = 16.min(matrix.rows() - row);
        for col in (0..matrix.cols()).step_by(16) {
            let width = 16.min(matrix.cols() - col);
            let mut rows = [_mm512_setzero_si512(); 16];
            for (number, to) in rows.iter_mut().enumerate().take(height) {
                let from = &matrix.data()[(row + number) * matrix.row_stride() + col..][..width];
                // SAFETY: the mask leaves only what `from` has.
                *to = unsafe { _mm512_maskz_loadu_epi32(lanes_mask(width), from.as_ptr().cast()) };
            }
            for (number, column) in transposed(rows).iter().enumerate().take(width) {
                let to = &mut out.row(col + number)[row..][..height];
                // SAFETY: the mask leaves only what `to` has.
                unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), lanes_mask(height), *column) }
            }
        }
    }
}
