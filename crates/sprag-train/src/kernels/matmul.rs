//! Matrix products of `f32` matrices, in full precision or with both factors rounded to bfloat16 and sums kept in
//! `f32`: by our own kernels where the processor has AMX, or AVX-512 with bfloat16, by the `gemm` crate elsewhere.
//!
//! An element of a product by our kernels depends on its own row and column alone, bit for bit: not on how many
//! other rows there are, nor on the number of threads; for some rows of a right factor ([`PreparedRows`]), on which these
//! are, too. `gemm` takes other ways for other shapes.

use rayon::prelude::*;

use super::memory::Buffer;
use super::{Matrix, MatrixMut};

/// What the factors of a product are rounded to. Sums are always single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Not rounded. Where the processor has AMX, a factor is the sum of three bfloat16 numbers, which lose no more than
    /// sums do while factors and products are above 1e-31: what is smaller loses bits. An infinity among the factors, or
    /// a number from 3.396e38 on, may make NaN then.
    Fp32,
    /// 8 bits of significand. Where the processor cannot multiply them itself it is as slow as `Fp32`, with the
    /// same results as elsewhere but for the order of sums.
    Bf16,
}

impl Precision {
    /// The instructions by which the processor multiplies bfloat16 itself, where they are faster than single precision.
    /// Where a processor has AMX that the system does not lend, they are not: its AVX-512 BF16 runs at half pace.
    pub fn fast_bf16() -> Option<&'static str> {
        #[cfg(target_arch = "x86_64")]
        if super::amx::available() {
            return Some("AMX");
        } else if super::avx512::available() && !super::amx::present() {
            return Some("AVX-512 BF16");
        }
        None
    }
}

/// Columns of a right factor that are made ready together: parts of it begin at a multiple.
pub const COLS_TOGETHER: usize = 32;

/// A right factor, made ready for many products.
#[derive(Debug)]
pub enum Prepared<'a> {
    /// As it is.
    Plain(Matrix<'a>),
    /// In the order in which it is read, rounded or not.
    #[cfg(target_arch = "x86_64")]
    Packed(super::avx512::Packed),
    /// The same for the tile unit.
    #[cfg(target_arch = "x86_64")]
    Tiles(super::amx::Packed),
    /// Rounded, row after row, for processors that cannot multiply bfloat16.
    Rounded {
        /// Its numbers.
        data: Buffer,
        /// Rows and columns.
        shape: [usize; 2],
    },
}

impl<'a> Prepared<'a> {
    /// Makes `b` ready, on all threads.
    pub fn new(b: Matrix<'a>, precision: Precision) -> Prepared<'a> {
        Prepared::with_threads(b, precision, true)
    }

    /// Makes `b` ready, on the current thread alone.
    pub fn alone(b: Matrix<'a>, precision: Precision) -> Prepared<'a> {
        Prepared::with_threads(b, precision, false)
    }

    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "packing is the kernel's"))]
    fn with_threads(b: Matrix<'a>, precision: Precision, together: bool) -> Prepared<'a> {
        #[cfg(target_arch = "x86_64")]
        if super::amx::available() {
            return Prepared::Tiles(super::amx::Packed::new(b, precision, together));
        }
        #[cfg(target_arch = "x86_64")]
        if super::avx512::available() {
            return Prepared::Packed(super::avx512::Packed::new(b, precision, together));
        }
        Prepared::for_any_processor(b, precision)
    }

    /// Every way that this processor has.
    #[cfg(test)]
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, unused_mut, reason = "packing is the kernels'")
    )]
    fn every(b: Matrix<'a>, precision: Precision, together: bool) -> Vec<Prepared<'a>> {
        let mut ways = vec![Prepared::for_any_processor(b, precision)];
        #[cfg(target_arch = "x86_64")]
        if super::avx512::available() {
            ways.push(Prepared::Packed(super::avx512::Packed::new(b, precision, together)));
        }
        #[cfg(target_arch = "x86_64")]
        if super::amx::available() {
            ways.push(Prepared::Tiles(super::amx::Packed::new(b, precision, together)));
        }
        ways
    }

    fn for_any_processor(b: Matrix<'a>, precision: Precision) -> Prepared<'a> {
        match precision {
            Precision::Fp32 => Prepared::Plain(b),
            Precision::Bf16 => Prepared::Rounded { data: rounded(b), shape: [b.rows(), b.cols()] },
        }
    }

    fn shape(&self) -> [usize; 2] {
        match self {
            Prepared::Plain(b) => [b.rows(), b.cols()],
            #[cfg(target_arch = "x86_64")]
            Prepared::Packed(b) => b.shape(),
            #[cfg(target_arch = "x86_64")]
            Prepared::Tiles(b) => b.shape(),
            Prepared::Rounded { shape, .. } => *shape,
        }
    }

    /// `out = a b`, or `out += a b` to `accumulate`, on all threads of the current rayon pool.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn multiply(&self, out: MatrixMut<'_>, a: Matrix<'_>, accumulate: bool) {
        let [_, cols] = self.shape();
        assert!(out.cols() == cols, "{} columns for a factor of {cols}", out.cols());
        self.multiply_part(out, a, 0, accumulate, true);
    }

    /// `out = a b` for as many columns of `b` as `out` has, from `first` on, on the current thread alone.
    ///
    /// # Panics
    /// Shapes do not fit together, or `first` is no multiple of [`COLS_TOGETHER`].
    pub fn multiply_alone(&self, out: MatrixMut<'_>, a: Matrix<'_>, first: usize) {
        self.multiply_part(out, a, first, false, false);
    }

    fn multiply_part(
        &self,
        mut out: MatrixMut<'_>,
        a: Matrix<'_>,
        first: usize,
        accumulate: bool,
        together: bool,
    ) {
        let ([rows, cols], count) = (self.shape(), out.cols());
        let whole = first == 0 && count == cols;
        assert!(whole || first.is_multiple_of(COLS_TOGETHER) && first + count <= cols, "{count} of {cols}");
        if !something_to_add(&mut out, a, [rows, count], accumulate) {
            return;
        }
        match self {
            Prepared::Plain(b) => full(out, a, b.cols_from(first, count), accumulate, together),
            #[cfg(target_arch = "x86_64")]
            Prepared::Packed(b) => b.multiply(out, a, first, accumulate, together),
            #[cfg(target_arch = "x86_64")]
            Prepared::Tiles(b) => b.multiply(out, a, first, accumulate, together),
            Prepared::Rounded { data, shape: [rows, cols] } => {
                let rounded_a = rounded(a);
                let a = Matrix::new(&rounded_a, a.rows(), a.cols());
                let b = Matrix::new(data, *rows, *cols).cols_from(first, count);
                full(out, a, b, accumulate, together);
            }
        }
    }
}

/// A right factor of which products take some rows at a time, each on one thread.
#[derive(Debug)]
pub enum PreparedRows<'a> {
    /// Made ready once for all of them.
    #[cfg(target_arch = "x86_64")]
    Packed(super::avx512::Packed),
    /// Made ready by each product.
    Each(Matrix<'a>, Precision),
}

impl<'a> PreparedRows<'a> {
    /// Makes `b` ready, on the current thread alone.
    pub fn new(b: Matrix<'a>, precision: Precision) -> PreparedRows<'a> {
        #[cfg(target_arch = "x86_64")]
        if super::avx512::chosen() {
            return PreparedRows::Packed(super::avx512::Packed::new(b, precision, false));
        }
        PreparedRows::Each(b, precision)
    }

    /// `out = a b`, or `out += a b` to `accumulate`, for as many rows of `b` as `a` has columns, from `first` on.
    ///
    /// # Panics
    /// Shapes do not fit together, `first` is odd, or numbers of a row of `a` do not lie side by side.
    pub fn multiply_alone(&self, mut out: MatrixMut<'_>, a: Matrix<'_>, first: usize, accumulate: bool) {
        assert!(first.is_multiple_of(2) && a.col_stride() == 1, "rows from {first} of a right factor");
        let part = [a.cols(), self.cols()];
        if !something_to_add(&mut out, a, part, accumulate) {
            return;
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            PreparedRows::Packed(b) => b.multiply_by_rows(out, a, first, accumulate),
            PreparedRows::Each(b, precision) => {
                matmul_alone(out, a, b.rows_from(first, a.cols()), accumulate, *precision);
            }
        }
    }

    fn cols(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            PreparedRows::Packed(b) => b.shape()[1],
            PreparedRows::Each(b, _) => b.cols(),
        }
    }
}

/// `out = a b`, or `out += a b` to `accumulate`, on all threads of the current rayon pool.
///
/// # Panics
/// Shapes do not fit together.
pub fn matmul(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, accumulate: bool, precision: Precision) {
    multiply(out, a, b, accumulate, precision, true);
}

/// `a b` as a new matrix, on all threads of the current rayon pool.
///
/// # Panics
/// Shapes do not fit together.
pub fn product(a: Matrix<'_>, b: Matrix<'_>, precision: Precision) -> Buffer {
    let mut out = Buffer::new(a.rows() * b.cols());
    matmul(MatrixMut::new(&mut out, a.rows(), b.cols()), a, b, false, precision);
    out
}

/// [`matmul`] on the current thread alone.
pub fn matmul_alone(
    out: MatrixMut<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
    precision: Precision,
) {
    multiply(out, a, b, accumulate, precision, false);
}

fn multiply(
    mut out: MatrixMut<'_>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    accumulate: bool,
    precision: Precision,
    together: bool,
) {
    if something_to_add(&mut out, a, [b.rows(), b.cols()], accumulate) {
        let b = Prepared::with_threads(b, precision, together);
        b.multiply_part(out, a, 0, accumulate, together);
    }
}

/// Checks shapes, and answers products that are empty sums: false when nothing is left to do.
fn something_to_add(
    out: &mut MatrixMut<'_>,
    a: Matrix<'_>,
    [rows, cols]: [usize; 2],
    accumulate: bool,
) -> bool {
    assert!(
        a.cols() == rows && out.rows() == a.rows() && out.cols() == cols,
        "{} x {} times {rows} x {cols} is not {} x {}",
        a.rows(),
        a.cols(),
        out.rows(),
        out.cols()
    );
    if rows == 0 && !accumulate {
        (0..out.rows()).for_each(|row| out.row(row).fill(0.0));
    }
    rows > 0 && out.rows() > 0 && out.cols() > 0
}

/// All elements, row after row, rounded to bfloat16.
fn rounded(matrix: Matrix<'_>) -> Buffer {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut numbers = Buffer::new(rows * cols);
    numbers.par_chunks_mut(cols.max(1)).enumerate().for_each(|(row, numbers)| {
        for (col, number) in numbers.iter_mut().enumerate() {
            let exact = matrix.data()[row * matrix.row_stride() + col * matrix.col_stride()];
            *number = to_bf16(exact);
        }
    });
    numbers
}

/// The nearest bfloat16, ties to even. NaN stays NaN.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = f32::from_bits((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) & 0xffff_0000);
    if x.is_nan() { x } else { rounded }
}

fn full(mut out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, accumulate: bool, together: bool) {
    let threads = if together { rayon::current_num_threads() } else { 1 };
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: the constructors of `Matrix` and `MatrixMut` checked that every element of the given shapes and
    // strides lies inside what they borrow, and `out` is borrowed mutably, so it overlaps neither factor.
    // Strides of slices fit `isize`. With `read_dst` false, `out` is not read.
    unsafe {
        gemm::gemm(
            out.rows(),
            out.cols(),
            a.cols(),
            out.as_mut_ptr(),
            1,
            out.row_stride().cast_signed(),
            accumulate,
            a.data().as_ptr(),
            a.col_stride().cast_signed(),
            a.row_stride().cast_signed(),
            b.data().as_ptr(),
            b.col_stride().cast_signed(),
            b.row_stride().cast_signed(),
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests;
