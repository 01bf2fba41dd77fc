//! Products with factors rounded to bfloat16, by `vdpbf16ps`: it adds two products to each of 16 sums.
//!
//! Both factors are packed into panels first, rounded and with two neighbours of the summed dimension in one
//! word, so that the inner loop reads memory in order: the blocking of Goto and van de Geijn
//! (<https://doi.org/10.1145/1356052.1356053>). A panel of `b` stays in the first-level cache while the panels
//! of a block of `a`, which fits the second, pass by it.

use std::arch::x86_64::*;
use std::cell::RefCell;

use rayon::prelude::*;

use super::memory::Buffer;
use super::{Matrix, MatrixMut};

/// Rows of a tile: 12 x 2 registers of sums, 2 of `b`, 1 of `a`, of 32.
const MR: usize = 12;
/// Columns of a tile: two registers.
const NR: usize = 32;
/// Summed at a time: a panel of `b` takes 32 KiB.
const KC: usize = 512;
/// Most rows packed at a time by a thread: 96 KiB.
const MC: usize = 96;

/// True where the processor has what the functions here are compiled for.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// A right factor in panels: for each KC of the summed dimension, for each NR columns, a word for each pair of
/// summed elements and column.
#[derive(Debug)]
pub struct Packed {
    words: Buffer,
    shape: [usize; 2],
}

impl Packed {
    /// Packs `b`, on all threads or on this one alone.
    pub(super) fn new(b: Matrix<'_>, together: bool) -> Packed {
        assert!(available(), "this processor does not multiply bfloat16");
        let (k, n) = (b.rows(), b.cols());
        let panels = n.div_ceil(NR);
        let mut words = Buffer::new(panels * NR * k.next_multiple_of(2) / 2);
        let mut rest = words_mut(&mut words);
        for from in (0..k).step_by(KC) {
            let depth = KC.min(k - from);
            let pairs = depth.div_ceil(2);
            let block = rest.split_off_mut(..panels * NR * pairs).expect("there is a word for every pair");
            // Neighbours together, but something to do for every thread.
            let group =
                if together { (panels / (2 * rayon::current_num_threads())).clamp(1, 8) } else { panels };
            let pack = |(number, packed): (usize, &mut [u32])| {
                let first = number * group * NR;
                Lanes { matrix: b.transposed(), first, from, depth }.pack_panels::<NR>(packed);
            };
            if together {
                block.par_chunks_mut(group * NR * pairs).enumerate().for_each(pack);
            } else {
                block.chunks_mut(group * NR * pairs).enumerate().for_each(pack);
            }
        }
        Packed { words, shape: [k, n] }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

/// Pairs of bfloat16 are kept in memory that is lent as numbers; both are words without invalid values.
fn words_mut(buffer: &mut Buffer) -> &mut [u32] {
    bytemuck::cast_slice_mut(buffer)
}

/// `out (+)= a b`. Shapes were checked; nothing is empty.
pub(super) fn multiply(out: MatrixMut<'_>, a: Matrix<'_>, b: &Packed, accumulate: bool, together: bool) {
    // Where there are few rows, enough pieces that threads which are held up can be helped.
    let share = out.rows().div_ceil(2 * rayon::current_num_threads()).next_multiple_of(MR);
    let height = if together { share.min(MC) } else { MC };
    let mut pieces = out.split_rows(height);
    let piece = |(number, out): (usize, &mut MatrixMut<'_>)| {
        let a = a.rows_from(number * height, out.rows());
        multiply_piece(out, a, b, accumulate);
    };
    if together {
        pieces.par_iter_mut().enumerate().for_each(piece);
    } else {
        pieces.iter_mut().enumerate().for_each(piece);
    }
}

thread_local! {
    /// Where a thread packs its rows.
    static ROWS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// At most MC rows.
fn multiply_piece(out: &mut MatrixMut<'_>, a: Matrix<'_>, b: &Packed, accumulate: bool) {
    let [k, n] = b.shape;
    let (rows, stride) = (out.rows(), out.row_stride());
    let tiles = rows.div_ceil(MR);
    let panels = n.div_ceil(NR);
    let mut words: &[u32] = bytemuck::cast_slice(&b.words);
    ROWS.with_borrow_mut(|packed_a| {
        packed_a.resize(MC * KC / 2, 0);
        for from in (0..k).step_by(KC) {
            let depth = KC.min(k - from);
            let pairs = depth.div_ceil(2);
            let packed_a = &mut packed_a[..tiles * MR * pairs];
            Lanes { matrix: a, first: 0, from, depth }.pack_panels::<MR>(packed_a);
            let block = words.split_off(..panels * NR * pairs).expect("there is a word for every pair");
            let add = accumulate || from > 0;
            for (panel, b) in block.chunks_exact(NR * pairs).enumerate() {
                let cols = NR.min(n - panel * NR);
                for (tile, a) in packed_a.chunks_exact(MR * pairs).enumerate() {
                    let rows = MR.min(rows - tile * MR);
                    // SAFETY: a `Packed` is made only where the processor is `available`. `a` and `b` hold
                    // `pairs` times MR and NR words. `out` may be written in all of its rows and columns, of
                    // which the tile is a part.
                    unsafe {
                        let corner = out.as_mut_ptr().add(tile * MR * stride + panel * NR);
                        tile_of(pairs, a, b, corner, stride, rows, cols, add);
                    }
                }
            }
        }
    });
}

/// One tile: up to MR rows and NR columns.
///
/// # Safety
/// The processor is [`available`]; `a` and `b` hold `pairs` times MR and NR words; `out` is valid for `rows`
/// rows of `cols` elements, `stride` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::too_many_arguments, reason = "the innermost kernel: all of it is one address computation")]
unsafe fn tile_of(
    pairs: usize,
    a: &[u32],
    b: &[u32],
    out: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    add: bool,
) {
    for row in 0..rows {
        // The tile is written at the end, all at once: its lines are asked for now. A prefetch may point anywhere.
        _mm_prefetch::<_MM_HINT_ET0>(out.wrapping_add(row * stride).cast());
        _mm_prefetch::<_MM_HINT_ET0>(out.wrapping_add(row * stride + 16).cast());
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; MR];
    let (mut a, mut b) = (a.as_ptr(), b.as_ptr());
    for _ in 0..pairs {
        // SAFETY: by the contract, `pairs` rows of MR and NR words follow.
        unsafe {
            let left: __m512bh = std::mem::transmute(_mm512_loadu_si512(b.cast()));
            let right: __m512bh = std::mem::transmute(_mm512_loadu_si512(b.add(16).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let both: __m512bh = std::mem::transmute(_mm512_set1_epi32((*a.add(row)).cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], both, left);
                sums[1] = _mm512_dpbf16_ps(sums[1], both, right);
            }
            a = a.add(MR);
            b = b.add(NR);
        }
    }
    let masks = [lanes_mask(cols.min(16)), lanes_mask(cols.saturating_sub(16))];
    if rows == MR {
        // The number of rows is known, so that the sums need not leave their registers before this.
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: the contract, for this row.
            unsafe { write_row(out.add(row * stride), *sums, masks, add) }
        }
    } else {
        let sums = sums;
        for (row, sums) in sums.iter().enumerate().take(rows) {
            // SAFETY: the contract, for this row.
            unsafe { write_row(out.add(row * stride), *sums, masks, add) }
        }
    }
}

/// Writes or adds one row of a tile.
///
/// # Safety
/// The processor is [`available`]; `to` is valid where the masks have ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write_row(to: *mut f32, sums: [__m512; 2], masks: [__mmask16; 2], add: bool) {
    for (half, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
        // The second half of the last panel may lie beyond the matrix: then nothing of it is touched.
        let to = to.wrapping_add(half * 16);
        // SAFETY: the masks leave only the elements that the contract promises.
        unsafe {
            let sum = if add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum) } else { sum };
            _mm512_mask_storeu_ps(to, mask, sum);
        }
    }
}

fn lanes_mask(lanes: usize) -> __mmask16 {
    if lanes >= 16 { u16::MAX } else { (1 << lanes) - 1 }
}

/// Some rows of a matrix that become the lanes of a panel: those from `first`, over `depth` columns from
/// `from`.
#[derive(Clone, Copy)]
struct Lanes<'a> {
    matrix: Matrix<'a>,
    first: usize,
    from: usize,
    depth: usize,
}

impl Lanes<'_> {
    /// Packs as many panels of W rows as fit `packed`, one after the other.
    fn pack_panels<const W: usize>(self, packed: &mut [u32]) {
        let pairs = self.depth.div_ceil(2);
        // Where lanes of neighbouring panels lie side by side in memory, some columns of all panels come before
        // the next columns: memory is read in longer stretches, and a page is not left after every few bytes.
        let step = if self.matrix.row_stride() == 1 { 8 } else { pairs };
        for pair in (0..pairs).step_by(step) {
            let depth = (2 * step).min(self.depth - 2 * pair);
            for (panel, packed) in packed.chunks_exact_mut(W * pairs).enumerate() {
                let part = Lanes { first: self.first + panel * W, from: self.from + 2 * pair, depth, ..self };
                part.pack::<W>(&mut packed[pair * W..][..depth.div_ceil(2) * W]);
            }
        }
    }

    /// Packs W rows: word `pair * W + lane` holds columns `2 pair` (low half) and `2 pair + 1` of row `lane`.
    /// Rows and columns that the matrix does not have are zero.
    fn pack<const W: usize>(self, packed: &mut [u32]) {
        let pairs = self.depth.div_ceil(2);
        assert!(packed.len() == W * pairs);
        for offset in (0..W).step_by(16) {
            let lanes = self.matrix.rows().saturating_sub(self.first + offset).min(16).min(W - offset);
            let part = Lanes { first: self.first + offset, ..self };
            // SAFETY: only `Packed::new`, which asserts `available`, and `multiply`, which needs a `Packed`, pack
            // anything. The words from `offset` on hold `pairs` rows, W apart, of at least `W - offset` words.
            unsafe { part.pack_lanes(&mut packed[offset..], W, lanes, (W - offset).min(16)) }
        }
    }

    /// Packs the first `lanes` rows and zeros up to `keep`, at most 16.
    ///
    /// # Safety
    /// The processor is [`available`]; `packed` has `pairs` rows, `width` apart, of `keep` words; the matrix
    /// has `lanes` rows from `first` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pack_lanes(self, packed: &mut [u32], width: usize, lanes: usize, keep: usize) {
        let (data, row_stride, col_stride) =
            (self.matrix.data(), self.matrix.row_stride(), self.matrix.col_stride());
        let pairs = self.depth.div_ceil(2);
        debug_assert!((pairs - 1) * width + keep <= packed.len() && lanes <= keep && keep <= 16);
        let (keep, have) = (lanes_mask(keep), lanes_mask(lanes));
        let to = packed.as_mut_ptr();
        if lanes == 0 {
            for pair in 0..pairs {
                // SAFETY: rows of `packed`, by the contract.
                unsafe { _mm512_mask_storeu_epi32(to.add(pair * width).cast(), keep, _mm512_setzero_si512()) }
            }
            return;
        }
        let start = self.first * row_stride + self.from * col_stride;
        debug_assert!(start + (lanes - 1) * row_stride + (self.depth - 1) * col_stride < data.len());
        // SAFETY: the first element that is read; the matrix contains it.
        let from = unsafe { data.as_ptr().add(start) };
        if row_stride == 1 {
            for pair in 0..pairs {
                let at = 2 * pair;
                // SAFETY: lanes of one column lie side by side; only columns below `depth` are read.
                unsafe {
                    let first = _mm512_maskz_loadu_ps(have, from.add(at * col_stride));
                    let second = if at + 1 < self.depth {
                        _mm512_maskz_loadu_ps(have, from.add((at + 1) * col_stride))
                    } else {
                        _mm512_setzero_ps()
                    };
                    _mm512_mask_storeu_epi32(to.add(pair * width).cast(), keep, side_by_side(first, second));
                }
            }
        } else if col_stride == 1 {
            for at in (0..self.depth).step_by(32) {
                let left = (self.depth - at).min(32);
                let masks = (lanes_mask(left.min(16)), lanes_mask(left.saturating_sub(16)));
                let mut rows = [_mm512_setzero_si512(); 16];
                for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
                    // SAFETY: the masks leave only columns below `depth`. `wrapping_add`, because the second
                    // half may begin beyond the slice when all of it is masked out.
                    unsafe {
                        let source = from.add(lane * row_stride + at);
                        let low = _mm512_maskz_loadu_ps(masks.0, source);
                        let high = _mm512_maskz_loadu_ps(masks.1, source.wrapping_add(16));
                        *row = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                    }
                }
                for (pair, word) in transposed(rows).into_iter().enumerate().take(left.div_ceil(2)) {
                    // SAFETY: rows of `packed`, by the contract.
                    unsafe { _mm512_mask_storeu_epi32(to.add((at / 2 + pair) * width).cast(), keep, word) }
                }
            }
        } else {
            for pair in 0..pairs {
                let mut columns = [[0.0_f32; 16]; 2];
                for (at, column) in (2 * pair..self.depth).zip(&mut columns) {
                    for (lane, number) in column.iter_mut().enumerate().take(lanes) {
                        *number = data[start + lane * row_stride + at * col_stride];
                    }
                }
                // SAFETY: rows of `packed`, by the contract; the columns are 16 numbers each.
                unsafe {
                    let [first, second] = columns.map(|column| _mm512_loadu_ps(column.as_ptr()));
                    _mm512_mask_storeu_epi32(to.add(pair * width).cast(), keep, side_by_side(first, second));
                }
            }
        }
    }
}

/// Rounds both; lane by lane, the first goes into the low half.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn side_by_side(first: __m512, second: __m512) -> __m512i {
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
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
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
