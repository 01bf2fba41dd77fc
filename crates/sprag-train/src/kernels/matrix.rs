//! Views of numbers in memory: matrices to read, matrices to write, and heads of attention.

use std::marker::PhantomData;

/// A matrix to read: element `(row, col)` lies at `row * row_stride + col * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other, without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::strided(data, rows, cols, cols, 1)
    }

    /// Any layout.
    ///
    /// # Panics
    /// The last element lies outside `data`.
    pub fn strided(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Matrix<'a> {
        let last = || {
            let (down, along) = ((rows - 1).checked_mul(row_stride)?, (cols - 1).checked_mul(col_stride)?);
            down.checked_add(along)
        };
        let fits = rows == 0 || cols == 0 || last().is_some_and(|last| last < data.len());
        assert!(fits, "{rows} x {cols} does not fit {} numbers", data.len());
        Matrix { data, rows, cols, row_stride, col_stride }
    }

    /// Rows as columns. Nothing is moved.
    pub fn transposed(self) -> Matrix<'a> {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// `count` rows from `first` on.
    ///
    /// # Panics
    /// There are not so many.
    pub fn rows_from(self, first: usize, count: usize) -> Matrix<'a> {
        let fits = first.checked_add(count).is_some_and(|end| end <= self.rows);
        assert!(fits, "{count} rows from {first} of {}", self.rows);
        let data = if count == 0 { &[] } else { &self.data[first * self.row_stride..] };
        Matrix { data, rows: count, ..self }
    }

    /// `count` columns from `first` on.
    ///
    /// # Panics
    /// There are not so many.
    pub fn cols_from(self, first: usize, count: usize) -> Matrix<'a> {
        self.transposed().rows_from(first, count).transposed()
    }

    /// The numbers, from the first element on.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between neighbours in a column.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Distance between neighbours in a row.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }
}

/// A matrix to write, row after row, `row_stride` apart. It can be cut into parts that threads write at the
/// same time.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]` (or a part that no other `MatrixMut` has), which may be sent.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// Rows one after the other, without gaps.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> MatrixMut<'a> {
        MatrixMut::strided(data, rows, cols, cols)
    }

    /// Rows `row_stride` apart.
    ///
    /// # Panics
    /// Rows overlap, or the last element lies outside `data`.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> MatrixMut<'a> {
        assert!(row_stride >= cols, "rows of {cols} overlap at a distance of {row_stride}");
        let end = || (rows - 1).checked_mul(row_stride)?.checked_add(cols);
        let fits = rows == 0 || end().is_some_and(|end| end <= data.len());
        assert!(fits, "{rows} x {cols} does not fit {} numbers", data.len());
        MatrixMut { start: data.as_mut_ptr(), rows, cols, row_stride, lent: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between neighbours in a column.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The first element. All of the shape may be written through it while `self` is borrowed.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start
    }

    /// One row.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the constructor checked that all rows lie in what was lent to `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.cols) }
    }

    /// The same for a shorter time.
    pub fn again(&mut self) -> MatrixMut<'_> {
        MatrixMut { lent: PhantomData, ..*self }
    }

    /// `count` rows from `first` on, for a shorter time.
    ///
    /// # Panics
    /// There are not so many.
    pub fn rows_from(&mut self, first: usize, count: usize) -> MatrixMut<'_> {
        let fits = first.checked_add(count).is_some_and(|end| end <= self.rows);
        assert!(fits, "{count} rows from {first} of {}", self.rows);
        let stride = self.row_stride;
        MatrixMut { rows: count, ..self.again() }.moved(first * stride)
    }

    /// Cuts it into parts of `height` rows; the last may have fewer.
    ///
    /// # Panics
    /// `height` is zero.
    pub fn split_rows(self, height: usize) -> Vec<MatrixMut<'a>> {
        let parts = (0..self.rows).step_by(height).map(|first| {
            let rows = height.min(self.rows - first);
            // Parts have no row in common, and together no more than `self`, which is gone.
            MatrixMut { start: self.start, rows, lent: PhantomData, ..self }.moved(first * self.row_stride)
        });
        parts.collect()
    }

    /// Cuts it into parts of `width` columns; the last may have fewer.
    ///
    /// # Panics
    /// `width` is zero.
    pub fn split_cols(self, width: usize) -> Vec<MatrixMut<'a>> {
        let parts = (0..self.cols).step_by(width).map(|first| {
            let cols = width.min(self.cols - first);
            MatrixMut { start: self.start, cols, lent: PhantomData, ..self }.moved(first)
        });
        parts.collect()
    }

    /// Cuts it into at most `parts` parts that are about as high as each other: they differ by `unit` rows at most,
    /// of which they are multiples, but for the last one. Each comes with its first row.
    ///
    /// # Panics
    /// `parts` or `unit` is zero.
    pub fn split_rows_evenly(self, parts: usize, unit: usize) -> Vec<(usize, MatrixMut<'a>)> {
        assert!(parts > 0, "{} rows in no part", self.rows);
        let units = self.rows.div_ceil(unit);
        let first = |part| part * units / parts * unit;
        let cuts = (0..parts).map(|part| (first(part), first(part + 1).min(self.rows)));
        let parts = cuts.filter(|(first, end)| first < end).map(|(first, end)| {
            let part = MatrixMut { start: self.start, rows: end - first, lent: PhantomData, ..self };
            (first, part.moved(first * self.row_stride))
        });
        parts.collect()
    }

    fn moved(self, by: usize) -> MatrixMut<'a> {
        // Where it is empty, `by` may lead beyond what was lent: nothing is ever read or written there.
        MatrixMut { start: self.start.wrapping_add(by), ..self }
    }
}

/// Vectors of `dim` numbers, one a row of the batch, head and position: an activation `[rows, seq, heads *
/// dim]` seen as `[rows, heads, seq, dim]`, or any other layout in which a vector's numbers lie side by side.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    data: &'a [f32],
    /// Rows, heads, positions.
    shape: [usize; 3],
    dim: usize,
    /// From one row, head, position to the next.
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// A view of `data` with `shape` rows, heads and positions.
    ///
    /// # Panics
    /// The last vector lies outside `data`.
    pub fn new(data: &'a [f32], shape: [usize; 3], dim: usize, strides: [usize; 3]) -> Heads<'a> {
        let last: usize =
            shape.iter().zip(strides).map(|(size, stride)| size.saturating_sub(1) * stride).sum();
        let empty = dim == 0 || shape.contains(&0);
        assert!(empty || last + dim <= data.len(), "{shape:?} x {dim} does not fit {} numbers", data.len());
        Heads { data, shape, dim, strides }
    }

    /// Rows, heads, positions.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Numbers in a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One vector.
    pub fn vector(&self, row: usize, head: usize, position: usize) -> &'a [f32] {
        &self.data[row * self.strides[0] + head * self.strides[1] + position * self.strides[2]..][..self.dim]
    }

    /// All positions of one head: `[seq, dim]`.
    pub fn matrix(&self, row: usize, head: usize) -> Matrix<'a> {
        let data = &self.data[row * self.strides[0] + head * self.strides[1]..];
        Matrix::strided(data, self.shape[2], self.dim, self.strides[2], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_matrix_without_overlap() {
        let mut data = vec![0.0; 5 * 8];
        let matrix = MatrixMut::strided(&mut data, 5, 7, 8);
        for (at, part) in matrix.split_rows(2).into_iter().enumerate() {
            for (to, mut part) in part.split_cols(3).into_iter().enumerate() {
                for row in 0..part.rows() {
                    part.row(row).iter_mut().for_each(|number| *number += (10 * at + to + 1) as f32);
                }
            }
        }
        let expected = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 0.0];
        for (row, numbers) in data.chunks_exact(8).enumerate() {
            let here = (10 * (row / 2)) as f32;
            let expected = expected.map(|number| if number == 0.0 { 0.0 } else { number + here });
            assert_eq!(numbers, expected, "row {row}");
        }
    }

    #[test]
    fn even_parts_cover_all_rows_and_are_about_as_high() {
        let mut data = [0.0; 100];
        for (rows, parts, unit, expected) in [
            (100, 3, 12, vec![(0, 36), (36, 36), (72, 28)]),
            (20, 4, 7, vec![(0, 7), (7, 7), (14, 6)]),
            (3, 1, 12, vec![(0, 3)]),
            (0, 2, 12, vec![]),
        ] {
            let matrix = MatrixMut::new(&mut data[..rows], rows, 1);
            let parts = matrix.split_rows_evenly(parts, unit);
            let found: Vec<_> = parts.iter().map(|(first, part)| (*first, part.rows())).collect();
            assert_eq!(found, expected, "{rows} rows");
        }
    }

    #[test]
    #[should_panic(expected = "2 x 3 does not fit 5 numbers")]
    fn a_matrix_larger_than_its_numbers_is_refused() {
        MatrixMut::new(&mut [0.0; 5], 2, 3);
    }

    #[test]
    #[should_panic(expected = "3 x 1 does not fit 1 numbers")]
    fn sizes_beyond_all_memory_are_refused() {
        MatrixMut::strided(&mut [0.0], 3, 1, 1 << (usize::BITS - 1));
    }

    #[test]
    fn heads_find_their_vectors_in_any_layout() {
        let numbers: Vec<f32> = (0..2 * 3 * 4 * 5).map(|number| number as f32).collect();
        let split = Heads::new(&numbers, [2, 4, 3], 5, [60, 5, 20]); // [rows, seq, heads, dim] in memory
        assert_eq!(split.vector(1, 2, 1), &numbers[60 + 20 + 10..][..5]);
        assert_eq!(split.matrix(1, 2).rows_from(1, 1).data()[..5], numbers[60 + 20 + 10..][..5]);
    }
}
