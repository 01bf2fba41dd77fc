//! Numbers into the words that products read.

use std::arch::x86_64::*;

use super::{DEPTH, ROW, available};
use crate::kernels::Matrix;

/// Words that are packed into one panel before the next panel's turn, where lanes lie side by side in memory.
const PACKED_TOGETHER: usize = 8;

/// Numbers that are converted while those of a later row are on their way.
const AHEAD: usize = 512;

/// Columns `from..from + depth` of `matrix` as words, rows ROW apart. Where the last word has only one number, the
/// other is zero.
pub(super) fn rows_to_words<const PER_WORD: usize>(
    words: &mut [u32],
    matrix: Matrix<'_>,
    from: usize,
    depth: usize,
) {
    assert!(available() && matrix.col_stride() == 1 && depth <= DEPTH * PER_WORD);
    for (row, words) in words.chunks_exact_mut(ROW).enumerate().take(matrix.rows()) {
        let numbers = &matrix.data()[row * matrix.row_stride() + from..][..depth];
        let ahead = matrix.row_stride() * (AHEAD / depth).max(1);
        // SAFETY: `available` was asserted; a row has room for DEPTH words and sixteen more.
        unsafe { numbers_to_words::<PER_WORD>(words, numbers, ahead) }
    }
}

/// # Safety
/// The processor is [`available`]; `words` has room for those of `numbers`, rounded up to sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn numbers_to_words<const PER_WORD: usize>(words: &mut [u32], numbers: &[f32], ahead: usize) {
    debug_assert!(numbers.len().div_ceil(16 * PER_WORD) * 16 <= words.len());
    for (numbers, words) in numbers.chunks(16 * PER_WORD).zip(words.chunks_exact_mut(16)) {
        // SAFETY: the masks leave only what `numbers` has; `words` is sixteen long.
        unsafe {
            let ahead = numbers.as_ptr().wrapping_add(ahead);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            if PER_WORD == 2 {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
            }
            let row = words_of_row::<PER_WORD>(numbers.as_ptr(), numbers.len());
            _mm512_storeu_si512(words.as_mut_ptr().cast(), row);
        }
    }
}

/// The next `count` numbers, at most those of sixteen words, as words; what is missing is zero.
///
/// # Safety
/// The processor is [`available`]; `from` is valid for `count` numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn words_of_row<const PER_WORD: usize>(from: *const f32, count: usize) -> __m512i {
    // SAFETY: the masks leave only the numbers that the contract promises. `wrapping_add`, because the second half
    // may begin beyond them when all of it is masked out.
    unsafe {
        if PER_WORD == 1 {
            return _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes_mask(count), from));
        }
        let low = _mm512_maskz_loadu_ps(lanes_mask(count.min(16)), from);
        let high = _mm512_maskz_loadu_ps(lanes_mask(count.saturating_sub(16)), from.wrapping_add(16));
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// The first so many of sixteen; all where there are more.
pub(in crate::kernels) fn lanes_mask(lanes: usize) -> __mmask16 {
    if lanes >= 16 { u16::MAX } else { (1 << lanes) - 1 }
}

/// Some rows of a matrix that become the lanes of a panel: those from `first`, over `depth` columns from
/// `from`.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    pub matrix: Matrix<'a>,
    pub first: usize,
    pub from: usize,
    pub depth: usize,
}

impl Lanes<'_> {
    /// Packs as many panels of W rows as fit `packed`, one after the other.
    pub(super) fn pack_panels<const W: usize, const PER_WORD: usize>(self, packed: &mut [u32]) {
        let words = self.depth.div_ceil(PER_WORD);
        // Where lanes of neighbouring panels lie side by side in memory, some columns of all panels come before
        // the next columns: memory is read in longer stretches, and a page is not left after every few bytes.
        let step = if self.matrix.row_stride() == 1 { PACKED_TOGETHER } else { words };
        for word in (0..words).step_by(step) {
            let depth = (PER_WORD * step).min(self.depth - PER_WORD * word);
            for (panel, packed) in packed.chunks_exact_mut(W * words).enumerate() {
                let from = self.from + PER_WORD * word;
                let part = Lanes { first: self.first + panel * W, from, depth, ..self };
                part.pack::<W, PER_WORD>(&mut packed[word * W..][..depth.div_ceil(PER_WORD) * W]);
            }
        }
    }

    /// Packs W rows: word `word * W + lane` holds column `word` of row `lane`, or columns `2 word` (low half) and
    /// `2 word + 1`. Rows and columns that the matrix does not have are zero.
    fn pack<const W: usize, const PER_WORD: usize>(self, packed: &mut [u32]) {
        let words = self.depth.div_ceil(PER_WORD);
        assert!(packed.len() == W * words);
        for offset in (0..W).step_by(16) {
            let lanes = self.matrix.rows().saturating_sub(self.first + offset).min(16).min(W - offset);
            let part = Lanes { first: self.first + offset, ..self };
            // SAFETY: only `Panels::new`, which asserts `available`, packs anything. The words from `offset` on
            // hold `words` rows, W apart, of at least `W - offset` words.
            unsafe { part.pack_lanes::<PER_WORD>(&mut packed[offset..], W, lanes, (W - offset).min(16)) }
        }
    }

    /// Packs the first `lanes` rows and zeros up to `keep`, at most 16.
    ///
    /// # Safety
    /// The processor is [`available`]; `packed` has a row for each word, `width` apart, of `keep` words; the
    /// matrix has `lanes` rows from `first` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pack_lanes<const PER_WORD: usize>(
        self,
        packed: &mut [u32],
        width: usize,
        lanes: usize,
        keep: usize,
    ) {
        let (data, row_stride, col_stride) =
            (self.matrix.data(), self.matrix.row_stride(), self.matrix.col_stride());
        let words = self.depth.div_ceil(PER_WORD);
        debug_assert!((words - 1) * width + keep <= packed.len() && lanes <= keep && keep <= 16);
        let (keep, have) = (lanes_mask(keep), lanes_mask(lanes));
        let to = packed.as_mut_ptr();
        if lanes == 0 {
            for word in 0..words {
                // SAFETY: rows of `packed`, by the contract.
                unsafe { _mm512_mask_storeu_epi32(to.add(word * width).cast(), keep, _mm512_setzero_si512()) }
            }
            return;
        }
        let start = self.first * row_stride + self.from * col_stride;
        debug_assert!(start + (lanes - 1) * row_stride + (self.depth - 1) * col_stride < data.len());
        // SAFETY: the first element that is read; the matrix contains it.
        let from = unsafe { data.as_ptr().add(start) };
        if row_stride == 1 {
            for word in 0..words {
                // SAFETY: lanes of one column lie side by side; only columns below `depth` are read.
                unsafe {
                    let column = |at: usize| {
                        if at >= self.depth {
                            return _mm512_setzero_ps();
                        }
                        let place = from.add(at * col_stride);
                        // What the next call for these lanes reads: no hardware sees these short stretches coming.
                        let ahead = place.wrapping_add(PACKED_TOGETHER * PER_WORD * col_stride);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        _mm512_maskz_loadu_ps(have, place)
                    };
                    let both = if PER_WORD == 1 {
                        _mm512_castps_si512(column(word))
                    } else {
                        side_by_side(column(2 * word), column(2 * word + 1))
                    };
                    _mm512_mask_storeu_epi32(to.add(word * width).cast(), keep, both);
                }
            }
        } else if col_stride == 1 {
            for word in (0..words).step_by(16) {
                let at = word * PER_WORD;
                let count = (self.depth - at).min(16 * PER_WORD);
                let mut rows = [_mm512_setzero_si512(); 16];
                for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
                    // SAFETY: a row of the matrix has `depth` columns.
                    unsafe { *row = words_of_row::<PER_WORD>(from.add(lane * row_stride + at), count) }
                }
                let columns = transposed(rows).into_iter().take(count.div_ceil(PER_WORD));
                for (next, column) in columns.enumerate() {
                    // SAFETY: rows of `packed`, by the contract.
                    unsafe { _mm512_mask_storeu_epi32(to.add((word + next) * width).cast(), keep, column) }
                }
            }
        } else {
            for word in 0..words {
                let mut columns = [[0.0_f32; 16]; PER_WORD];
                for (at, column) in (PER_WORD * word..self.depth).zip(&mut columns) {
                    for (lane, number) in column.iter_mut().enumerate().take(lanes) {
                        *number = data[start + lane * row_stride + at * col_stride];
                    }
                }
                // SAFETY: rows of `packed`, by the contract; the columns are 16 numbers each.
                unsafe {
                    let columns = columns.map(|column| _mm512_loadu_ps(column.as_ptr()));
                    let both = if PER_WORD == 1 {
                        _mm512_castps_si512(columns[0])
                    } else {
                        side_by_side(columns[0], columns[PER_WORD - 1])
                    };
                    _mm512_mask_storeu_epi32(to.add(word * width).cast(), keep, both);
                }
            }
        }
    }
}

/// Rounds both; lane by lane, the first goes into the low half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::kernels) fn side_by_side(first: __m512, second: __m512) -> __m512i {
    // SAFETY: both are 512 bits without a meaning of their own.
    let halves: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) };
    let mut places = [0_i16; 32];
    for (at, place) in places.iter_mut().enumerate() {
        *place = (at / 2 + at % 2 * 16) as i16;
    }
    // SAFETY: 32 numbers of 16 bits.
    let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
    _mm512_permutexvar_epi16(places, halves)
}

/// Words of 16 rows as 16 columns.
#[target_feature(enable = "avx512f")]
pub(in crate::kernels) fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut two = rows;
    for (pair, to) in rows.chunks_exact(2).zip(two.chunks_exact_mut(2)) {
        to[0] = _mm512_unpacklo_epi32(pair[0], pair[1]);
        to[1] = _mm512_unpackhi_epi32(pair[0], pair[1]);
    }
    // Word `4 q + j`, part `l` of four: column `4 l + j` of rows `4 q..4 q + 4`.
    let mut four = two;
    for (group, to) in two.chunks_exact(4).zip(four.chunks_exact_mut(4)) {
        to[0] = _mm512_unpacklo_epi64(group[0], group[2]);
        to[1] = _mm512_unpackhi_epi64(group[0], group[2]);
        to[2] = _mm512_unpacklo_epi64(group[1], group[3]);
        to[3] = _mm512_unpackhi_epi64(group[1], group[3]);
    }
    let mut columns = four;
    for j in 0..4 {
        let even = |a, b| _mm512_shuffle_i32x4::<0x88>(a, b);
        let odd = |a, b| _mm512_shuffle_i32x4::<0xdd>(a, b);
        let (a, b) = (even(four[j], four[4 + j]), even(four[8 + j], four[12 + j]));
        let (c, d) = (odd(four[j], four[4 + j]), odd(four[8 + j], four[12 + j]));
        columns[j] = even(a, b);
        columns[4 + j] = even(c, d);
        columns[8 + j] = odd(a, b);
        columns[12 + j] = odd(c, d);
    }
    columns
}
