//! Products by AMX, the tile unit of Intel's server processors: one instruction adds the products of 16 x 32 and
//! 32 x 16 bfloat16 numbers to 16 x 16 sums in single precision (Intel, *Architecture Instruction Set Extensions
//! Programming Reference*, chapter 3).
//!
//! It is so fast that single precision goes through it, too: a number is the sum of three bfloat16 numbers, and six of
//! their nine products are added up (Henry, Tang and Heinecke, <https://arxiv.org/abs/1904.06376>). The other three are
//! together below 2^-23 of the product. The unit takes what is below 2^-126 for zero, so small numbers lose bits.
//!
//! Both factors are first brought into the order in which the unit reads them. A *step* is 32 numbers of the summed
//! dimension, as 16 words of two. The left factor lies in tiles of 32 rows: for each step, for each part of the
//! numbers, two registers of 16 rows. The right one lies in panels of 32 columns: for each step, for each part, the
//! 16 words of all columns, one after the other.

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::avx512::{self, lanes_mask, side_by_side, transposed, words_mut};
use super::memory::Buffer;
use super::{Matrix, MatrixMut, Precision};

/// Rows of a register, and words in a row.
const SIDE: usize = 16;
/// Words of a register.
const REGISTER: usize = SIDE * SIDE;
/// Numbers of the summed dimension in a register.
const STEP: usize = 2 * SIDE;
/// Rows of a tile, and columns of a panel: two registers.
const EDGE: usize = super::COLS_TOGETHER;
/// Words of a part of a tile or panel in one step.
const PART: usize = 2 * REGISTER;
/// Tiles below each other that panels pass by together.
const GROUP: usize = 2;
/// Rows and columns of the result that a thread takes at a time. With what it reads of both factors for a block of the
/// summed dimension they take 0.9 to 1.2 MiB, a part of the second-level cache; less where pieces are lower.
const HEIGHT: usize = 128;
const WIDTH: usize = 512;
/// Most panels that a thread packs at a time, where threads share the work.
const PANELS: usize = 8;

/// True where the processor has the unit and the system lets this process use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| present() && permitted())
}

/// True where the processor has the unit, whether or not the system lends it.
pub(super) fn present() -> bool {
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    avx512::available() && __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
}

/// Asks the kernel, which keeps the 8 KiB of registers only for processes that asked, and refuses where it cannot.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// bfloat16 numbers that make up one number.
fn parts(precision: Precision) -> usize {
    match precision {
        Precision::Fp32 => 3,
        Precision::Bf16 => 1,
    }
}

/// Steps of the summed dimension at a time.
fn steps_a_block(parts: usize) -> usize {
    if parts == 1 { 16 } else { 8 }
}

/// A right factor in panels: for each block of the summed dimension, its panels one after the other.
#[derive(Debug)]
pub struct Packed {
    words: Buffer,
    /// Rows and columns.
    shape: [usize; 2],
    parts: usize,
}

impl Packed {
    /// Packs `b`, on all threads or on this one alone.
    pub(super) fn new(b: Matrix<'_>, precision: Precision, together: bool) -> Packed {
        assert!(available(), "this process may not use AMX");
        let (shape, parts) = ([b.rows(), b.cols()], parts(precision));
        let (steps, panels) = (b.rows().div_ceil(STEP), b.cols().div_ceil(EDGE));
        let mut packed = Packed { words: Buffer::new(steps * panels * parts * PART), shape, parts };
        if packed.words.is_empty() {
            return packed;
        }
        let group =
            if together { panels.div_ceil(2 * rayon::current_num_threads()).min(PANELS) } else { panels };
        let block = steps_a_block(parts);
        let blocks = words_mut(&mut packed.words).chunks_mut(block * panels * parts * PART).enumerate();
        let groups = blocks.flat_map(|(number, words)| {
            let steps = words.len() / (panels * parts * PART);
            let groups = words.chunks_mut(group * steps * parts * PART).enumerate();
            groups.map(move |(group_number, words)| {
                let lanes = Lanes { first: group_number * group * EDGE, from: number * block * STEP, steps };
                (lanes, words)
            })
        });
        let lanes_of_b = b.transposed();
        let pack =
            |(lanes, words): &mut (Lanes, &mut [u32])| lanes.pack(words, lanes_of_b, parts, Factor::Right);
        let mut groups: Vec<_> = groups.collect();
        if together {
            groups.par_iter_mut().for_each(pack);
        } else {
            groups.iter_mut().for_each(pack);
        }
        packed
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
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
        assert!(first.is_multiple_of(EDGE) && first + out.cols() <= self.shape[1]);
        let threads = if together { rayon::current_num_threads() } else { 1 };
        // Enough pieces for all threads to end at about the same time.
        let pieces = |height: usize| out.rows().div_ceil(height) * out.cols().div_ceil(WIDTH);
        let mut height = HEIGHT;
        while threads > 1 && height > EDGE && pieces(height) < 2 * threads {
            height /= 2;
        }
        let rows = out.split_rows(height).into_iter().enumerate();
        let pieces = rows.flat_map(|(row, rows)| {
            let cols = rows.split_cols(WIDTH).into_iter().enumerate();
            cols.map(move |(col, piece)| (row * height, first + col * WIDTH, piece))
        });
        let mut pieces: Vec<_> = pieces.collect();
        let piece = |(row, col, out): &mut (usize, usize, MatrixMut<'_>)| {
            let a = a.rows_from(*row, out.rows());
            match self.parts {
                1 => self.multiply_piece::<1>(out, a, *col, accumulate),
                _ => self.multiply_piece::<3>(out, a, *col, accumulate),
            }
        };
        if threads > 1 {
            pieces.par_iter_mut().with_max_len(1).for_each(piece);
        } else {
            pieces.iter_mut().for_each(piece);
        }
    }

    /// At most HEIGHT x WIDTH; columns of the right factor begin at the one given.
    fn multiply_piece<const PARTS: usize>(
        &self,
        out: &mut MatrixMut<'_>,
        a: Matrix<'_>,
        first_col: usize,
        accumulate: bool,
    ) {
        let (rows, cols, stride) = (out.rows(), out.cols(), out.row_stride());
        let (steps, panels) = (self.shape[0].div_ceil(STEP), self.shape[1].div_ceil(EDGE));
        let (tiles, block) = (rows.div_ceil(EDGE), steps_a_block(PARTS));
        let mut ready = Buffer::new(tiles * block.min(steps) * PARTS * PART);
        let ready = words_mut(&mut ready);
        let words: &[u32] = bytemuck::cast_slice(&self.words);
        let unit = Unit::new();
        for (number, block_of_b) in words.chunks(block * panels * PARTS * PART).enumerate() {
            let steps = block_of_b.len() / (panels * PARTS * PART);
            let size = steps * PARTS * PART;
            let ready = &mut ready[..tiles * size];
            Lanes { first: 0, from: number * block * STEP, steps }.pack(ready, a, PARTS, Factor::Left);
            let add = accumulate || number > 0;
            let panels = &block_of_b[first_col / EDGE * size..][..cols.div_ceil(EDGE) * size];
            for (group, a) in ready.chunks(GROUP * size).enumerate() {
                for (panel, b) in panels.chunks_exact(size).enumerate() {
                    for (tile, a) in a.chunks_exact(size).enumerate() {
                        let (row, col) = ((group * GROUP + tile) * EDGE, panel * EDGE);
                        // SAFETY: `out` may be written in all of its rows and columns, of which the tile is a part.
                        unsafe {
                            let corner = out.as_mut_ptr().add(row * stride + col);
                            let shape = [EDGE.min(rows - row), EDGE.min(cols - col)];
                            unit.tile::<PARTS>(a, b, Tile { corner, stride, shape, add });
                        }
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    Left,
    Right,
}

/// Some of a factor: lanes are the rows of the left one and the columns of the right one.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    /// The first lane.
    first: usize,
    /// The first number in each.
    from: usize,
    steps: usize,
}

impl Lanes {
    /// Packs as many tiles or panels of `matrix`, whose rows are lanes, as fit `words`. What it does not have is zero.
    fn pack(self, words: &mut [u32], matrix: Matrix<'_>, parts: usize, factor: Factor) {
        assert!(available());
        // SAFETY: just asserted; AMX is available only where AVX-512 is.
        unsafe {
            match parts {
                1 => self.pack_parts::<1>(words, matrix, factor),
                _ => self.pack_parts::<3>(words, matrix, factor),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pack_parts<const PARTS: usize>(self, words: &mut [u32], matrix: Matrix<'_>, factor: Factor) {
        let size = self.steps * PARTS * PART;
        assert!(words.len().is_multiple_of(size));
        let mut parts = [[_mm512_setzero_si512(); SIDE]; PARTS];
        // Where lanes lie side by side, long stretches are read of each place of the summed dimension.
        for step in 0..self.steps {
            let at = self.from + step * STEP;
            let count = matrix.cols().saturating_sub(at).min(STEP);
            for (number, words) in words.chunks_exact_mut(size).enumerate() {
                let words = &mut words[step * PARTS * PART..][..PARTS * PART];
                for half in 0..2 {
                    let first = self.first + number * EDGE + half * SIDE;
                    let lanes = matrix.rows().saturating_sub(first).min(SIDE);
                    let register = Register { matrix, first, at, shape: [lanes, count] };
                    register.read(&mut parts, factor);
                    for (part, words) in parts.iter().zip(words.chunks_exact_mut(PART)) {
                        put(words, part, half, factor);
                    }
                }
            }
        }
    }
}

/// Puts a register where the factor keeps its first or second `half` of lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn put(words: &mut [u32], register: &[__m512i; SIDE], half: usize, factor: Factor) {
    let (first, apart) = match factor {
        Factor::Left => (half * REGISTER, SIDE),
        Factor::Right => (half * SIDE, EDGE),
    };
    for (row, line) in register.iter().enumerate() {
        let words = &mut words[first + row * apart..][..SIDE];
        // SAFETY: sixteen words.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), *line) }
    }
}

/// What becomes a register: some rows of a matrix, over some of its columns.
#[derive(Clone, Copy)]
struct Register<'a> {
    matrix: Matrix<'a>,
    /// The first row and column.
    first: usize,
    at: usize,
    /// Rows and columns that there are, at most SIDE and STEP.
    shape: [usize; 2],
}

impl Register<'_> {
    /// For each part of the numbers: words row by row for a left factor, and word by word for a right one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn read<const PARTS: usize>(self, parts: &mut [[__m512i; SIDE]; PARTS], factor: Factor) {
        let [lanes, count] = self.shape;
        if lanes == 0 || count == 0 {
            *parts = [[_mm512_setzero_si512(); SIDE]; PARTS];
            return;
        }
        let (row_stride, col_stride) = (self.matrix.row_stride(), self.matrix.col_stride());
        let numbers = &self.matrix.data()[self.first * row_stride + self.at * col_stride..];
        assert!((lanes - 1) * row_stride + (count - 1) * col_stride < numbers.len());
        let order = if row_stride == 1 && col_stride != 1 {
            // SAFETY: the assertion found the last number of the last column.
            unsafe { read_columns(parts, numbers.as_ptr(), col_stride, self.shape) }
            Factor::Right
        } else if col_stride == 1 {
            // SAFETY: the assertion found the last number of the last row.
            unsafe { read_rows(parts, numbers.as_ptr(), row_stride, self.shape) }
            Factor::Left
        } else {
            let mut kept = [0.0_f32; SIDE * STEP];
            for (lane, kept) in kept.chunks_exact_mut(STEP).enumerate().take(lanes) {
                for (at, number) in kept.iter_mut().enumerate().take(count) {
                    *number = numbers[lane * row_stride + at * col_stride];
                }
            }
            // SAFETY: sixteen rows of STEP numbers.
            unsafe { read_rows(parts, kept.as_ptr(), STEP, self.shape) }
            Factor::Left
        };
        if order != factor {
            for part in parts {
                *part = transposed(*part);
            }
        }
    }
}

/// Words of sixteen lanes, word by word.
///
/// # Safety
/// From `numbers` on there are `count` columns, `stride` apart, of `lanes` numbers side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn read_columns<const PARTS: usize>(
    words: &mut [[__m512i; SIDE]; PARTS],
    numbers: *const f32,
    stride: usize,
    [lanes, count]: [usize; 2],
) {
    let mask = lanes_mask(lanes);
    let column = |at: usize| {
        if at >= count {
            return _mm512_setzero_ps();
        }
        // SAFETY: by the contract.
        unsafe { _mm512_maskz_loadu_ps(mask, numbers.add(at * stride)) }
    };
    for word in 0..SIDE {
        let (first, second) = (split::<PARTS>(column(2 * word)), split::<PARTS>(column(2 * word + 1)));
        for (words, (first, second)) in words.iter_mut().zip(first.into_iter().zip(second)) {
            words[word] = side_by_side(first, second);
        }
    }
}

/// Words of sixteen lanes, lane by lane.
///
/// # Safety
/// From `numbers` on there are `lanes` rows, `stride` apart, of `count` numbers side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn read_rows<const PARTS: usize>(
    words: &mut [[__m512i; SIDE]; PARTS],
    numbers: *const f32,
    stride: usize,
    [lanes, count]: [usize; 2],
) {
    let masks = [lanes_mask(count), lanes_mask(count.saturating_sub(SIDE))];
    for lane in 0..SIDE {
        if lane >= lanes {
            words.iter_mut().for_each(|words| words[lane] = _mm512_setzero_si512());
            continue;
        }
        // SAFETY: the contract; the masks leave only what a row has. `wrapping_add`, because the second half may lie
        // beyond it.
        let (low, high) = unsafe {
            let row = numbers.add(lane * stride);
            let high = row.wrapping_add(SIDE);
            (_mm512_maskz_loadu_ps(masks[0], row), _mm512_maskz_loadu_ps(masks[1], high))
        };
        let (low, high) = (split::<PARTS>(low), split::<PARTS>(high));
        for (words, (low, high)) in words.iter_mut().zip(low.into_iter().zip(high)) {
            let both = _mm512_cvtne2ps_pbh(high, low);
            // SAFETY: 512 bits without a meaning of their own.
            words[lane] = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
        }
    }
}

/// Numbers as sums of bfloat16 numbers, or left to be rounded where one part is all there is. Infinities, NaN
/// and what rounds to an infinity are their first part alone.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn split<const PARTS: usize>(numbers: __m512) -> [__m512; PARTS] {
    let mut parts = [numbers; PARTS];
    for part in 1..PARTS {
        let rounded = rounded(parts[part - 1]);
        let finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(rounded), _mm512_set1_ps(f32::INFINITY));
        parts[part] = _mm512_maskz_sub_ps(finite, parts[part - 1], rounded);
        parts[part - 1] = rounded;
    }
    parts
}

/// The nearest bfloat16 numbers, ties to even.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rounded(numbers: __m512) -> __m512 {
    // SAFETY: 256 bits without a meaning of their own.
    let halves = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(numbers)) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}

/// Where a tile is written.
#[derive(Clone, Copy)]
struct Tile {
    corner: *mut f32,
    /// From one row to the next.
    stride: usize,
    /// Rows and columns, at most EDGE.
    shape: [usize; 2],
    /// To what is there, rather than over it.
    add: bool,
}

/// The tile unit of the current thread, set up: eight registers of 16 rows by 64 bytes. It stays so until this is
/// dropped: nothing but this module knows these registers, and nothing that could make another `Unit` on this thread,
/// as waiting for other threads' work could, is called before.
struct Unit {
    /// A thread's own.
    thread: PhantomData<*const ()>,
}

impl Unit {
    fn new() -> Unit {
        #[repr(C, align(64))]
        struct Setup([u8; 64]);
        let mut setup = Setup([0; 64]);
        setup.0[0] = 1; // the only palette there is
        for register in 0..8 {
            setup.0[16 + 2 * register] = (4 * SIDE) as u8; // bytes a row, in 16 bits
            setup.0[48 + register] = SIDE as u8; // rows
        }
        assert!(available());
        // SAFETY: the process may use the unit, and the instruction reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const setup, options(readonly, nostack, preserves_flags))
        }
        Unit { thread: PhantomData }
    }

    /// Sums of one tile, of the products of a tile of the left factor and a panel of the right one.
    ///
    /// # Safety
    /// `to` is valid for its rows and columns.
    unsafe fn tile<const PARTS: usize>(&self, a: &[u32], b: &[u32], to: Tile) {
        assert!(a.len() == b.len() && a.len().is_multiple_of(PARTS * PART) && !a.is_empty());
        let [rows, cols] = to.shape;
        if to.shape == [EDGE, EDGE] {
            // SAFETY: a whole tile may be written.
            return unsafe { self.whole_tile::<PARTS>(a, b, to) };
        }
        #[repr(C, align(64))]
        struct Scratch([f32; EDGE * EDGE]);
        let mut scratch = Scratch([0.0; EDGE * EDGE]);
        for (row, kept) in scratch.0.chunks_exact_mut(EDGE).enumerate().take(if to.add { rows } else { 0 }) {
            // SAFETY: a row of what the contract promises.
            let there = unsafe { std::slice::from_raw_parts(to.corner.add(row * to.stride), cols) };
            kept[..cols].copy_from_slice(there);
        }
        let whole = Tile { corner: scratch.0.as_mut_ptr(), stride: EDGE, ..to };
        // SAFETY: `scratch` is a whole tile.
        unsafe { self.whole_tile::<PARTS>(a, b, whole) };
        for (row, sums) in scratch.0.chunks_exact(EDGE).enumerate().take(rows) {
            // SAFETY: a row of what the contract promises.
            let there = unsafe { std::slice::from_raw_parts_mut(to.corner.add(row * to.stride), cols) };
            there.copy_from_slice(&sums[..cols]);
        }
    }

    /// # Safety
    /// `to` is valid for EDGE rows of EDGE numbers; `a` and `b` have the same length, a multiple of a step, not zero.
    unsafe fn whole_tile<const PARTS: usize>(&self, a: &[u32], b: &[u32], to: Tile) {
        /// Sums into `tmm0..4`: what is there, or zeros; `tmm4..8` for the factors; sums go back.
        macro_rules! sum_up {
            ($($step:literal),+ $(,)?) => {
                // SAFETY: the unit was set up when `self` was made, on this thread, and this process may use it. The
                // instructions read `a` and `b` to their ends, a step at a time, and read and write sums where the
                // contract allows.
                unsafe {
                    asm!(
                        "test {add:e}, {add:e}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + {line} * 1]",
                        "tileloadd tmm1, [{c} + {line} * 1 + 64]",
                        "tileloadd tmm2, [{lower} + {line} * 1]",
                        "tileloadd tmm3, [{lower} + {line} * 1 + 64]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "3:",
                        $($step,)+
                        "add {a}, {bytes}",
                        "add {b}, {bytes}",
                        "dec {count}",
                        "jnz 3b",
                        "tilestored [{c} + {line} * 1], tmm0",
                        "tilestored [{c} + {line} * 1 + 64], tmm1",
                        "tilestored [{lower} + {line} * 1], tmm2",
                        "tilestored [{lower} + {line} * 1 + 64], tmm3",
                        add = in(reg) u32::from(to.add),
                        a = inout(reg) a.as_ptr() => _,
                        b = inout(reg) b.as_ptr() => _,
                        c = in(reg) to.corner,
                        lower = in(reg) to.corner.add(SIDE * to.stride),
                        line = in(reg) 4 * to.stride,
                        row = in(reg) 4 * SIDE,
                        pair = in(reg) 4 * EDGE,
                        bytes = const 4 * PARTS * PART,
                        count = inout(reg) a.len() / (PARTS * PART) => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            };
        }
        if PARTS == 1 {
            sum_up!(
                "tileloadd tmm4, [{b} + {pair} * 1]",
                "tileloadd tmm6, [{a} + {row} * 1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tileloadd tmm5, [{b} + {pair} * 1 + 64]",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a} + {row} * 1 + 1024]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
            );
        } else {
            sum_up!(
                // The third part of the right factor by the first of the left one.
                "tileloadd tmm4, [{b} + {pair} * 1 + 4096]",
                "tileloadd tmm6, [{a} + {row} * 1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tileloadd tmm5, [{b} + {pair} * 1 + 4160]",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a} + {row} * 1 + 1024]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                // The second part by the first,
                "tileloadd tmm4, [{b} + {pair} * 1 + 2048]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tileloadd tmm5, [{b} + {pair} * 1 + 2112]",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                // and by the second.
                "tileloadd tmm6, [{a} + {row} * 1 + 2048]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a} + {row} * 1 + 3072]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                // The first part by the second,
                "tileloadd tmm4, [{b} + {pair} * 1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tileloadd tmm5, [{b} + {pair} * 1 + 64]",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                // by the third,
                "tileloadd tmm6, [{a} + {row} * 1 + 4096]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a} + {row} * 1 + 5120]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                // and by the first.
                "tileloadd tmm6, [{a} + {row} * 1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a} + {row} * 1 + 1024]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
            );
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the unit was set up on this thread. Released, it costs nothing when threads change.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
    }
}
