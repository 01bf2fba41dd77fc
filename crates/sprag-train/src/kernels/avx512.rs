//! Products by AVX-512: single precision, or bfloat16 by `vdpbf16ps`, which adds two products to each of 16 sums.
//!
//! Both factors are brought into words first, in the order in which the inner loop reads them: the blocking of
//! Goto and van de Geijn (<https://doi.org/10.1145/1356052.1356053>). A word is one number, or two neighbours of
//! the summed dimension rounded to bfloat16. A panel of the right factor passes by some rows of the left one,
//! which stay in the second-level cache.

mod between;
mod pack;

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::memory::Buffer;
use super::{Matrix, MatrixMut, Precision};
use between::Rows;
pub(super) use between::Then;
use pack::{Lanes, rows_to_words};
pub(super) use pack::{lanes_mask, side_by_side, transposed};

/// Rows of a tile: 12 x 2 registers of sums, 2 of the right factor, 1 of the left one, of 32.
const MR: usize = 12;
/// Columns of a tile: two registers.
const NR: usize = super::COLS_TOGETHER;
/// Words of the summed dimension at a time: a panel of the right factor takes 32 KiB.
const DEPTH: usize = 256;
/// From one row of the left factor to the next, in words. A constant, so that all rows of a tile are reached from
/// one register; no power of two, so that they share the sets of the cache.
const ROW: usize = DEPTH + 16;
/// Most tiles that share the rows a thread makes ready at a time: 102 KiB.
const TILES: usize = 8;

/// True where the processor has what the functions here are compiled for.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// True where products go this way: AMX, where it is lent, is faster.
pub(super) fn chosen() -> bool {
    available() && !super::amx::available()
}

/// Numbers of the summed dimension in a word.
fn per_word(precision: Precision) -> usize {
    match precision {
        Precision::Fp32 => 1,
        Precision::Bf16 => 2,
    }
}

/// A factor in panels of W lanes, which are its rows on the left and its columns on the right: for each DEPTH
/// words of the summed dimension, for each panel, for each word, the lanes.
#[derive(Debug)]
struct Panels<const W: usize> {
    words: Buffer,
    lanes: usize,
    /// Numbers in a lane.
    depth: usize,
}

impl<const W: usize> Panels<W> {
    /// The rows of `matrix` become lanes, on all threads or on this one alone.
    fn new(matrix: Matrix<'_>, precision: Precision, together: bool) -> Panels<W> {
        assert!(available(), "this processor has no AVX-512 with bfloat16");
        let (lanes, depth) = (matrix.rows(), matrix.cols());
        let panels = lanes.div_ceil(W);
        let per_word = per_word(precision);
        let mut words = Buffer::new(panels * W * depth.div_ceil(per_word));
        if words.is_empty() {
            return Panels { words, lanes, depth };
        }
        let pack_block = |(number, block): (usize, &mut [u32]), group: usize| {
            let from = number * DEPTH * per_word;
            let depth = (DEPTH * per_word).min(depth - from);
            let size = group * W * depth.div_ceil(per_word);
            let pack = |(number, packed): (usize, &mut [u32])| {
                let lanes = Lanes { matrix, first: number * group * W, from, depth };
                match precision {
                    Precision::Fp32 => lanes.pack_panels::<W, 1>(packed),
                    Precision::Bf16 => lanes.pack_panels::<W, 2>(packed),
                }
            };
            if together && group < panels {
                block.par_chunks_mut(size).enumerate().for_each(pack);
            } else {
                block.chunks_mut(size).enumerate().for_each(pack);
            }
        };
        let all = words_mut(&mut words);
        let blocks = all.len().div_ceil(panels * W * DEPTH);
        let threads = if together { rayon::current_num_threads() } else { 1 };
        if blocks >= 2 * threads && threads > 1 {
            // Long stretches of memory for each thread.
            let blocks = all.par_chunks_mut(panels * W * DEPTH).enumerate();
            blocks.with_max_len(1).for_each(|block| pack_block(block, panels));
        } else {
            let group = if together { (panels / (2 * threads)).clamp(1, 8) } else { panels };
            all.chunks_mut(panels * W * DEPTH).enumerate().for_each(|block| pack_block(block, group));
        }
        Panels { words, lanes, depth }
    }

    /// For each block of the summed dimension: its words a lane, and its panels one after the other.
    fn blocks(&self, per_word: usize) -> impl Iterator<Item = (usize, &[u32])> {
        let width = self.lanes.div_ceil(W) * W;
        let words: &[u32] = bytemuck::cast_slice(&self.words);
        debug_assert!(words.len() == width * self.depth.div_ceil(per_word));
        words.chunks(width * DEPTH).map(move |block| (block.len() / width, block))
    }
}

/// Words are kept in memory that is lent as numbers; neither has invalid values.
pub(super) fn words_mut(buffer: &mut Buffer) -> &mut [u32] {
    bytemuck::cast_slice_mut(buffer)
}

/// A right factor in panels.
#[derive(Debug)]
pub struct Packed {
    panels: Panels<NR>,
    precision: Precision,
}

impl Packed {
    /// Packs `b`, on all threads or on this one alone.
    pub(super) fn new(b: Matrix<'_>, precision: Precision, together: bool) -> Packed {
        Packed { panels: Panels::new(b.transposed(), precision, together), precision }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.panels.depth, self.panels.lanes]
    }

    /// `out (+)= a self`, or by as many of its columns as `out` has, from `first` on, a multiple of
    /// [`COLS_TOGETHER`](super::COLS_TOGETHER). Shapes were checked; nothing is empty.
    pub(super) fn multiply(
        &self,
        out: MatrixMut<'_>,
        a: Matrix<'_>,
        first: usize,
        accumulate: bool,
        together: bool,
    ) {
        assert!(first.is_multiple_of(NR) && first + out.cols() <= self.panels.lanes);
        assert!(a.cols() == self.panels.depth);
        // Rows that lie in memory as they are read are made ready a few at a time; others all at once, so that
        // threads read long stretches of memory.
        let left = if a.col_stride() == 1 {
            Left::Numbers(a)
        } else {
            Left::Panels(Panels::new(a, self.precision, together))
        };
        self.multiply_left(out, &left, [0, first], accumulate, together);
    }

    /// `out (+)= a self` by as many of its rows as `a` has columns, from `first` on, an even one, on this thread alone.
    /// Numbers of a row of `a` lie side by side.
    pub(super) fn multiply_by_rows(&self, out: MatrixMut<'_>, a: Matrix<'_>, first: usize, accumulate: bool) {
        assert!(first.is_multiple_of(2) && first + a.cols() <= self.panels.depth && a.col_stride() == 1);
        assert!(out.rows() == a.rows() && out.cols() == self.panels.lanes);
        self.multiply_left(out, &Left::Numbers(a), [first, 0], accumulate, false);
    }

    /// By a part of the right factor that begins at the given row and column.
    fn multiply_left(
        &self,
        out: MatrixMut<'_>,
        left: &Left<'_>,
        part: [usize; 2],
        accumulate: bool,
        together: bool,
    ) {
        let threads = if together { rayon::current_num_threads() } else { 1 };
        let mut pieces = even_pieces(out, threads);
        let piece = |(row, out): &mut (usize, MatrixMut<'_>)| match self.precision {
            Precision::Fp32 => self.multiply_piece::<1>(out, *row, part, left, accumulate),
            Precision::Bf16 => self.multiply_piece::<2>(out, *row, part, left, accumulate),
        };
        if threads > 1 {
            pieces.par_iter_mut().with_max_len(1).for_each(piece);
        } else {
            pieces.iter_mut().for_each(piece);
        }
    }

    /// At most TILES tiles high; the left factor's rows begin at `first`, the right factor's part at the row and column
    /// given.
    fn multiply_piece<const PER_WORD: usize>(
        &self,
        out: &mut MatrixMut<'_>,
        first: usize,
        [first_row, first_col]: [usize; 2],
        left: &Left<'_>,
        accumulate: bool,
    ) {
        let (rows, n, stride) = (out.rows(), out.cols(), out.row_stride());
        let depth = left.depth();
        debug_assert!(
            first_row == 0 || matches!(left, Left::Numbers(_)),
            "others are cut as the right factor is"
        );
        let mut ready = match left {
            Left::Numbers(_) => Buffer::new(rows.next_multiple_of(MR) * ROW),
            Left::Words(_) | Left::Panels(_) => Buffer::new(0),
        };
        let mut done = 0;
        for (number, (words_of_block, block)) in self.panels.blocks(PER_WORD).enumerate() {
            // The words of this block that belong to the part.
            let start = number * DEPTH;
            let skipped = (first_row / PER_WORD).saturating_sub(start).min(words_of_block);
            let words = (words_of_block - skipped).min((depth - done).div_ceil(PER_WORD));
            if words == 0 {
                continue;
            }
            let (a, tile_step) = match left {
                Left::Numbers(matrix) => {
                    let ready = words_mut(&mut ready);
                    let depth = (words * PER_WORD).min(depth - done);
                    rows_to_words::<PER_WORD>(ready, matrix.rows_from(first, rows), done, depth);
                    (&*ready, MR * ROW)
                }
                Left::Words(rows) => (&rows.block(number)[first * ROW..], MR * ROW),
                Left::Panels(panels) => {
                    let (_, block) = panels.blocks(PER_WORD).nth(number).expect("as many as on the right");
                    (&block[first * words..], MR * words)
                }
            };
            let add = accumulate || done > 0;
            done = (done + words * PER_WORD).min(depth);
            let panels = block.chunks_exact(NR * words_of_block).skip(first_col / NR).take(n.div_ceil(NR));
            for (panel, b) in panels.enumerate() {
                let b = &b[skipped * NR..][..words * NR];
                let cols = NR.min(n - panel * NR);
                for tile in 0..rows.div_ceil(MR) {
                    let rows = MR.min(rows - tile * MR);
                    let a = &a[tile * tile_step..][..tile_step];
                    // SAFETY: a `Packed` is made only where the processor is `available`. `b` holds `words` times
                    // NR words, and `a` the rows or the panel of a tile. `out` may be written in all of its rows
                    // and columns, of which the tile is a part.
                    unsafe {
                        let corner = out.as_mut_ptr().add(tile * MR * stride + panel * NR);
                        let to = Tile { corner, stride, rows, cols, add };
                        match left {
                            Left::Numbers(_) | Left::Words(_) => tile_of::<PER_WORD, ROW, 1>(words, a, b, to),
                            Left::Panels(_) => tile_of::<PER_WORD, 1, MR>(words, a, b, to),
                        }
                    }
                }
            }
        }
    }
}

/// Pieces that so many threads take in turn, with their first rows: enough, and alike enough, for all to end at about the
/// same time.
fn even_pieces(out: MatrixMut<'_>, threads: usize) -> Vec<(usize, MatrixMut<'_>)> {
    let tiles = out.rows().div_ceil(MR);
    let enough = if threads == 1 { 1 } else { tiles.clamp(1, 8 * threads) };
    out.split_rows_evenly(tiles.div_ceil(TILES).max(enough), MR)
}

/// A left factor.
enum Left<'a> {
    /// Numbers of a row lie side by side.
    Numbers(Matrix<'a>),
    Words(&'a Rows),
    Panels(Panels<MR>),
}

impl Left<'_> {
    /// Numbers that are summed over.
    fn depth(&self) -> usize {
        match self {
            Left::Numbers(matrix) => matrix.cols(),
            Left::Words(rows) => rows.depth(),
            Left::Panels(panels) => panels.depth,
        }
    }
}

/// Where a tile is written.
#[derive(Clone, Copy)]
struct Tile {
    corner: *mut f32,
    /// From one row to the next.
    stride: usize,
    /// At most MR.
    rows: usize,
    /// At most NR.
    cols: usize,
    /// To what is there, rather than over it.
    add: bool,
}

/// One tile. Word `w` of row `r` of the left factor is `a[r * ROW_STEP + w * WORD_STEP]`.
///
/// # Safety
/// The processor is [`available`]; `a` holds `words` words of MR rows, `b` `words` times NR words; `to` is valid for
/// its rows and columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_of<const PER_WORD: usize, const ROW_STEP: usize, const WORD_STEP: usize>(
    words: usize,
    a: &[u32],
    b: &[u32],
    to: Tile,
) {
    for row in 0..to.rows {
        // The tile is written at the end, all at once: its lines are asked for now, and wait in the second-level
        // cache, for in the first one rows of some lengths would drive each other out. A prefetch may point anywhere.
        let row = to.corner.wrapping_add(row * to.stride);
        _mm_prefetch::<_MM_HINT_T1>(row.cast());
        _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(16).cast());
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; MR];
    // SAFETY: the same contract.
    unsafe { add_tile::<PER_WORD, ROW_STEP, WORD_STEP>(&mut sums, words, a, b) };
    if to.rows == MR && to.cols == NR {
        // Sizes are known, so that the sums need not leave their registers before this.
        for (row, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                // SAFETY: the contract, for this row.
                unsafe {
                    let place = to.corner.add(row * to.stride + half * 16);
                    let sum = if to.add { _mm512_add_ps(_mm512_loadu_ps(place), *sum) } else { *sum };
                    _mm512_storeu_ps(place, sum);
                }
            }
        }
        return;
    }
    // A copy, so that the sums of a whole tile need no memory.
    let sums = sums;
    let masks = [lanes_mask(to.cols), lanes_mask(to.cols.saturating_sub(16))];
    for (row, sums) in sums.iter().enumerate().take(to.rows) {
        for (half, (sum, mask)) in sums.iter().zip(masks).enumerate() {
            // The second half may lie beyond the matrix: then nothing of it is touched.
            let place = to.corner.wrapping_add(row * to.stride + half * 16);
            // SAFETY: the masks leave only the columns that the contract promises.
            unsafe {
                let sum = if to.add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), *sum) } else { *sum };
                _mm512_mask_storeu_ps(place, mask, sum);
            }
        }
    }
}

/// Adds the products of a tile to its sums.
///
/// # Safety
/// As for [`tile_of`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn add_tile<const PER_WORD: usize, const ROW_STEP: usize, const WORD_STEP: usize>(
    sums: &mut [[__m512; 2]; MR],
    words: usize,
    a: &[u32],
    b: &[u32],
) {
    debug_assert!((MR - 1) * ROW_STEP + (words - 1) * WORD_STEP < a.len() && words * NR <= b.len());
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    for _ in 0..words {
        // SAFETY: by the contract, `words` words of MR rows and of NR columns follow.
        unsafe {
            let right = [_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(16).cast())];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_epi32((*a.add(row * ROW_STEP)).cast_signed());
                sums[0] = add_products::<PER_WORD>(sums[0], left, right[0]);
                sums[1] = add_products::<PER_WORD>(sums[1], left, right[1]);
            }
            // Behind the last word it may point outside.
            a = a.wrapping_add(WORD_STEP);
            b = b.add(NR);
        }
    }
}

/// Adds the products of the numbers in each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn add_products<const PER_WORD: usize>(sums: __m512, left: __m512i, right: __m512i) -> __m512 {
    if PER_WORD == 1 {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sums);
    }
    // SAFETY: all are 512 bits without a meaning of their own.
    let [left, right] = unsafe { std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([left, right]) };
    _mm512_dpbf16_ps(sums, left, right)
}
