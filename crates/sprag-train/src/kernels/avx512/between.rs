//! Products that only other products read: their numbers never lie in memory as such.
//!
//! The hidden layer of an MLP is a left factor going forward, and a right factor, its rows summed over, for the gradient
//! by the weights behind it; its gradient likewise. So a tile of it goes from the registers of its sums into the words
//! that both will read. As a left factor it is read at once, by the thread that has these rows in its cache.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::pack::{lanes_mask, rows_to_words, side_by_side};
use super::{
    DEPTH, Left, MR, NR, Packed, Panels, ROW, Tile, add_tile, even_pieces, per_word, tile_of, transposed,
    words_mut,
};
use crate::kernels::memory::Buffer;
use crate::kernels::{Matrix, MatrixMut, Precision};

/// Some rows of a left factor in words: for each DEPTH words of the summed dimension, all rows, ROW apart.
#[derive(Debug)]
pub struct Rows {
    words: Buffer,
    shape: [usize; 2],
}

impl Rows {
    fn new([rows, depth]: [usize; 2], per_word: usize) -> Rows {
        let blocks = depth.div_ceil(DEPTH * per_word);
        Rows { words: Buffer::new(blocks * rows.next_multiple_of(MR) * ROW), shape: [rows, depth] }
    }

    /// Numbers in a row.
    pub(super) fn depth(&self) -> usize {
        self.shape[1]
    }

    fn block_size(&self) -> usize {
        self.shape[0].next_multiple_of(MR) * ROW
    }

    /// The words of all rows in a block of the summed dimension.
    pub(super) fn block(&self, number: usize) -> &[u32] {
        let size = self.block_size();
        &bytemuck::cast_slice(&self.words)[number * size..][..size]
    }

    /// The words of MR rows' numbers in a panel of columns: those of the first row, from where the others lie ROW apart.
    fn tile_mut(&mut self, row: usize, first_word: usize) -> &mut [u32] {
        let start = first_word / DEPTH * self.block_size() + row * ROW + first_word % DEPTH;
        &mut words_mut(&mut self.words)[start..]
    }
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

    /// `out = f(a self) next` on all threads, where `then` says what `f` is. Returns `f(a self)` as a right factor. Numbers
    /// of a row of `a` lie side by side; nothing is empty.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn multiply_through(
        &self,
        out: MatrixMut<'_>,
        a: Matrix<'_>,
        then: Then<'_>,
        next: &Packed,
    ) -> Packed {
        let shape = [a.rows(), self.panels.lanes];
        assert!(a.cols() == self.panels.depth && a.col_stride() == 1 && !shape.contains(&0) && a.cols() > 0);
        assert!(next.panels.depth == shape[1] && [out.rows(), out.cols()] == [shape[0], next.panels.lanes]);
        assert!(next.precision == self.precision);
        if let Then::TimesSlopeAt(activated) = then {
            assert!(activated.shape() == shape && activated.precision == self.precision);
        }
        let mut between = Packed::unfilled(shape, self.precision);
        let to = Shared { words: words_mut(&mut between.panels.words).as_mut_ptr(), shape };
        let mut pieces = even_pieces(out, rayon::current_num_threads());
        pieces.par_iter_mut().with_max_len(1).for_each(|(first, out)| {
            let a = a.rows_from(*first, out.rows());
            match self.precision {
                Precision::Fp32 => {
                    let rows = self.piece_between::<1>(a, *first, then, &to);
                    next.multiply_piece::<1>(out, 0, [0, 0], &Left::Words(&rows), false);
                }
                Precision::Bf16 => {
                    let rows = self.piece_between::<2>(a, *first, then, &to);
                    next.multiply_piece::<2>(out, 0, [0, 0], &Left::Words(&rows), false);
                }
            }
        });
        between
    }

    /// All columns of some rows, from `first` on, a multiple of MR: written to `to`, and returned.
    fn piece_between<const PER_WORD: usize>(
        &self,
        a: Matrix<'_>,
        first: usize,
        then: Then<'_>,
        to: &Shared,
    ) -> Rows {
        let tiles = a.rows().div_ceil(MR);
        let blocks: Vec<_> = self.panels.blocks(PER_WORD).collect();
        let mut ready = Buffer::new(blocks.len() * tiles * MR * ROW);
        let ready = words_mut(&mut ready);
        for (number, ready) in ready.chunks_exact_mut(tiles * MR * ROW).enumerate() {
            let from = number * DEPTH * PER_WORD;
            let depth = (DEPTH * PER_WORD).min(a.cols() - from);
            rows_to_words::<PER_WORD>(ready, a, from, depth);
        }
        let left = |number: usize, tile: usize| &ready[(number * tiles + tile) * MR * ROW..][..MR * ROW];
        let mut rows = Rows::new([a.rows(), self.panels.lanes], PER_WORD);
        // Sums over all blocks but the last, tile after tile: few enough to stay in the first-level cache.
        let mut sums = Buffer::new(if blocks.len() > 1 { tiles * MR * NR } else { 0 });
        for panel in 0..self.panels.lanes.div_ceil(NR) {
            for (number, (words, block)) in blocks.iter().enumerate() {
                let right = &block[panel * NR * words..][..NR * words];
                let last = number + 1 == blocks.len();
                for tile in 0..tiles {
                    let left = left(number, tile);
                    let sums = sums.get_mut(tile * MR * NR..).unwrap_or_default();
                    // SAFETY: a `Packed` is made only where the processor is `available`; both factors have `words`
                    // words. `sums` has room for a tile where there is more than one block. `to` has room for all rows
                    // and columns, and no other piece has these rows.
                    unsafe {
                        if last {
                            let before = (number > 0).then(|| &sums[..MR * NR]);
                            let place = Place { row: first + tile * MR, row_of_piece: tile * MR, panel };
                            tile_between::<PER_WORD>(
                                *words,
                                [left, right],
                                before,
                                then,
                                (to, &mut rows),
                                place,
                            );
                        } else {
                            let corner = sums.as_mut_ptr();
                            let to = Tile { corner, stride: NR, rows: MR, cols: NR, add: number > 0 };
                            tile_of::<PER_WORD, ROW, 1>(*words, left, right, to);
                        }
                    }
                }
            }
        }
        rows
    }

    /// `out = (a self)` with rows and columns exchanged, on all threads.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn multiply_transposed(&self, out: MatrixMut<'_>, a: Matrix<'_>) {
        let mut product = Buffer::new(a.rows() * self.panels.lanes);
        let (rows, cols) = (a.rows(), self.panels.lanes);
        assert!([out.rows(), out.cols()] == [cols, rows] && a.cols() == self.panels.depth);
        self.multiply(MatrixMut::new(&mut product, rows, cols), a, 0, false, true);
        let mut parts = out.split_rows(64);
        parts.par_iter_mut().enumerate().for_each(|(part, out)| {
            // SAFETY: a `Packed` is made only where the processor is `available`.
            unsafe { transpose(out, Matrix::new(&product, rows, cols).cols_from(part * 64, out.rows())) }
        });
    }
}

/// The words of a right factor that several threads write, each its own rows.
struct Shared {
    words: *mut u32,
    /// Rows and columns.
    shape: [usize; 2],
}

// SAFETY: threads write different words: one belongs to one row, or to two of the same MR.
unsafe impl Sync for Shared {}

/// Where a tile lies.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    row_of_piece: usize,
    panel: usize,
}

/// Where the words that hold `row`, the first in them, of a panel lie in [`Panels`] of this many lanes and numbers a
/// lane.
fn word_of_panel<const PER_WORD: usize>([depth, lanes]: [usize; 2], row: usize, panel: usize) -> usize {
    let (word, words) = (row / PER_WORD, depth.div_ceil(PER_WORD));
    let before = word - word % DEPTH;
    before * lanes.next_multiple_of(NR) + panel * NR * DEPTH.min(words - before) + word % DEPTH * NR
}

/// A tile: as many of its MR rows as there are, and a panel's columns. `before` is added to its sums.
///
/// # Safety
/// As for [`tile_of`]; `shared` has room for its shape, whose rows and columns `then`'s matrix has, and the place lies in
/// it and in `rows`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_between<const PER_WORD: usize>(
    words: usize,
    [a, b]: [&[u32]; 2],
    before: Option<&[f32]>,
    then: Then<'_>,
    (shared, rows): (&Shared, &mut Rows),
    place: Place,
) {
    let count = MR.min(shared.shape[0] - place.row);
    let in_rows = rows.tile_mut(place.row_of_piece, place.panel * NR / PER_WORD);
    assert!(in_rows.len() >= (MR - 1) * ROW + NR / PER_WORD);
    let in_shared =
        |pair: usize| word_of_panel::<PER_WORD>(shared.shape, place.row + pair * PER_WORD, place.panel);
    let activated: &[u32] = match then {
        Then::SquaredRelu => &[],
        Then::TimesSlopeAt(activated) => bytemuck::cast_slice(&activated.panels.words),
    };
    // As in `tile_of`: all that is touched at the end is asked for now. A prefetch may point anywhere.
    for pair in 0..count.div_ceil(PER_WORD) {
        for line in 0..2 {
            let at = in_shared(pair) + 16 * line;
            _mm_prefetch::<_MM_HINT_T1>(shared.words.wrapping_add(at).cast());
            if !activated.is_empty() {
                _mm_prefetch::<_MM_HINT_T1>(activated.as_ptr().wrapping_add(at).cast());
            }
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
    // Rows and columns that the matrix does not have stand in words beside some that it has.
    for sums in &mut sums[count..] {
        *sums = [_mm512_setzero_ps(); 2];
    }
    let cols = shared.shape[1] - place.panel * NR;
    if cols < NR {
        for [first, second] in &mut sums {
            *first = _mm512_maskz_mov_ps(lanes_mask(cols), *first);
            *second = _mm512_maskz_mov_ps(lanes_mask(cols.saturating_sub(16)), *second);
        }
    }
    match then {
        Then::SquaredRelu => {
            for sum in sums.as_flattened_mut() {
                // NaN, the second one, stays.
                let positive = _mm512_max_ps(_mm512_setzero_ps(), *sum);
                *sum = _mm512_mul_ps(positive, positive);
            }
        }
        Then::TimesSlopeAt(_) => {
            for (pair, sums) in sums.chunks_exact_mut(PER_WORD).enumerate().take(count.div_ceil(PER_WORD)) {
                let words = &activated[in_shared(pair)..][..NR];
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
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: asserted above; a row's words in a panel are those of one or two vectors.
        unsafe {
            let to: *mut __m512i = in_rows.as_mut_ptr().add(row * ROW).cast();
            if PER_WORD == 1 {
                _mm512_storeu_si512(to, _mm512_castps_si512(sums[0]));
                _mm512_storeu_si512(to.add(1), _mm512_castps_si512(sums[1]));
            } else {
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(sums[1], sums[0]));
                _mm512_storeu_si512(to, both);
            }
        }
    }
    for (pair, sums) in sums.chunks_exact(PER_WORD).enumerate().take(count.div_ceil(PER_WORD)) {
        let to: *mut __m512i = shared.words.wrapping_add(in_shared(pair)).cast();
        for (half, (first, last)) in sums[0].iter().zip(&sums[PER_WORD - 1]).enumerate() {
            let words = if PER_WORD == 1 { _mm512_castps_si512(*first) } else { side_by_side(*first, *last) };
            // SAFETY: `shared` has room for this row's words of all columns of the panel.
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
    if PER_WORD == 2 {
        return _mm512_add_ps(root, root);
    }
    // 2 root (3 - root^2 / square) / 2.
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
