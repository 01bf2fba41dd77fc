//! Numbers with a shape and strides: what slices, transposes and most reshapes give without moving anything.

use std::sync::Arc;

use rayon::prelude::*;
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::vector::vectorised;

use crate::mil::Scalar;

/// Numbers that a thread takes at a time, about.
const SHARE: usize = 16 * 1024;

/// A tensor. Halves are kept as the singles of the same value.
#[derive(Clone, Debug)]
pub struct View {
    /// What the numbers are.
    pub scalar: Scalar,
    data: Arc<Buffer>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Strides of numbers row by row.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// Axes that belong to one loop are one axis; axes of size 1 are gone. `strides` has one list a tensor.
fn collapsed(shape: &[usize], strides: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let (mut sizes, mut steps): (Vec<usize>, Vec<Vec<usize>>) = (Vec::new(), vec![Vec::new(); strides.len()]);
    for axis in (0..shape.len()).filter(|axis| shape[*axis] != 1) {
        let joins = sizes.last().is_some()
            && strides
                .iter()
                .zip(&steps)
                .all(|(own, steps)| steps.last() == Some(&(own[axis] * shape[axis])));
        match (joins, sizes.last_mut()) {
            (true, Some(size)) => {
                *size *= shape[axis];
                steps.iter_mut().zip(strides).for_each(|(steps, own)| {
                    if let Some(step) = steps.last_mut() {
                        *step = own[axis];
                    }
                });
            }
            _ => {
                sizes.push(shape[axis]);
                steps.iter_mut().zip(strides).for_each(|(steps, own)| steps.push(own[axis]));
            }
        }
    }
    if sizes.is_empty() {
        return (vec![1], vec![vec![0]; strides.len()]);
    }
    (sizes, steps)
}

/// Where the row of that number begins: rows are counted over all axes but the last.
fn place(mut row: usize, sizes: &[usize], strides: &[usize]) -> usize {
    let mut place = 0;
    for (size, stride) in sizes.iter().zip(strides).rev() {
        place += row % size * stride;
        row /= size;
    }
    place
}

impl View {
    /// Numbers row by row.
    pub fn new(scalar: Scalar, shape: Vec<usize>, data: Buffer) -> View {
        let strides = row_major(&shape);
        View { scalar, data: Arc::new(data), offset: 0, shape, strides }
    }

    /// Numbers row by row, from a slice.
    pub fn of(scalar: Scalar, shape: Vec<usize>, numbers: &[f32]) -> View {
        let mut data = Buffer::new(numbers.len());
        data.copy_from_slice(numbers);
        View::new(scalar, shape, data)
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Steps from one number to the next along each axis.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// All numbers that it may reach, from its first on.
    pub fn from_first(&self) -> &[f32] {
        &self.data[self.offset..]
    }

    /// Numbers in it.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its numbers where they lie row by row.
    pub fn rows(&self) -> Option<&[f32]> {
        let (_, strides) = collapsed(&self.shape, std::slice::from_ref(&self.strides));
        let together = matches!(strides[0].as_slice(), [1] | [0]) && self.count() > 0;
        together.then(|| &self.data[self.offset..][..self.count()])
    }

    /// The same numbers row by row.
    pub fn packed(&self) -> View {
        if self.rows().is_some() {
            return View { strides: row_major(&self.shape), ..self.clone() };
        }
        let mut data = Buffer::new(self.count());
        copy(&mut data, &row_major(&self.shape), self);
        View::new(self.scalar, self.shape.clone(), data)
    }

    /// Its numbers row by row, as a list.
    pub fn to_vec(&self) -> Vec<f32> {
        self.packed().rows().map(<[f32]>::to_vec).unwrap_or_default()
    }

    /// The same numbers, called another type.
    pub fn called(&self, scalar: Scalar) -> View {
        View { scalar, ..self.clone() }
    }

    /// Axes in another order.
    pub fn transposed(&self, axes: &[usize]) -> View {
        let shape = axes.iter().map(|axis| self.shape[*axis]).collect();
        let strides = axes.iter().map(|axis| self.strides[*axis]).collect();
        View { shape, strides, ..self.clone() }
    }

    /// A part.
    pub fn part(&self, begin: &[usize], shape: &[usize]) -> View {
        let by: usize = begin.iter().zip(&self.strides).map(|(at, stride)| at * stride).sum();
        View { offset: self.offset + by, shape: shape.to_vec(), ..self.clone() }
    }

    /// Another shape of the same numbers; moved only where the axes cannot be cut that way.
    pub fn reshaped(&self, shape: &[usize]) -> View {
        match regrouped(&self.shape, &self.strides, shape) {
            Some(strides) => View { shape: shape.to_vec(), strides, ..self.clone() },
            None => View { shape: shape.to_vec(), strides: row_major(shape), ..self.packed() },
        }
    }

    /// Strides within a larger shape: axes that are missing or 1 stand still.
    pub fn spread(&self, shape: &[usize]) -> Vec<usize> {
        let missing = shape.len() - self.shape.len();
        let own = |axis: usize| {
            (axis >= missing && self.shape[axis - missing] != 1).then(|| self.strides[axis - missing])
        };
        (0..shape.len()).map(|axis| own(axis).unwrap_or(0)).collect()
    }
}

/// Strides of a new shape over the same memory, where there are such: groups of old and new axes with the same product must
/// each lie together.
fn regrouped(old: &[usize], strides: &[usize], new: &[usize]) -> Option<Vec<usize>> {
    let old: Vec<(usize, usize)> = old
        .iter()
        .zip(strides)
        .filter(|(size, _)| **size != 1)
        .map(|(size, stride)| (*size, *stride))
        .collect();
    let (mut at, mut out) = (0, vec![0; new.len()]);
    let mut axis = 0;
    while axis < new.len() {
        if new[axis] == 1 {
            axis += 1;
            continue;
        }
        let (begin, mut whole) = (axis, new[axis]);
        let (first, mut own) = (at, old.get(at)?.0);
        while whole != own {
            if whole < own {
                axis += 1;
                whole *= new.get(axis)?;
            } else {
                at += 1;
                own *= old.get(at)?.0;
            }
        }
        // Old axes of the group must be one.
        let together = (first..at).all(|axis| old[axis].1 == old[axis + 1].1 * old[axis + 1].0);
        if !together {
            return None;
        }
        let mut stride = old[at].1;
        for axis in (begin..=axis).rev() {
            out[axis] = stride;
            stride *= new[axis];
        }
        (at, axis) = (at + 1, axis + 1);
    }
    Some(out)
}

/// Writes a view's numbers with the given strides.
pub fn copy(out: &mut [f32], out_strides: &[usize], from: &View) {
    let (sizes, steps) = collapsed(&from.shape, &[out_strides.to_vec(), from.strides.clone()]);
    let [to, by] = steps.as_slice() else { return };
    let count: usize = sizes.iter().product();
    if count == 0 {
        return;
    }
    let dense = *to == row_major(&sizes) && out.len() >= count;
    let numbers = from.from_first();
    if !dense {
        scatter(out, &sizes, to, numbers, by);
        return;
    }
    let out = &mut out[..count];
    let inner = sizes.len() - 1;
    match (0..inner).find(|axis| by[*axis] == 1).filter(|_| by[inner] != 1) {
        Some(0) => turn(out, [sizes[0], count / sizes[0]], &sizes, by, numbers),
        Some(axis) => {
            // The loops before the turned axis are shared out, each with a turned matrix.
            let before: usize = sizes[..axis].iter().product();
            let each = count / before;
            out.par_chunks_mut(each).enumerate().for_each(|(at, out)| {
                let numbers = &numbers[place(at, &sizes[..axis], &by[..axis])..];
                turn(out, [sizes[axis], each / sizes[axis]], &sizes[axis..], &by[axis..], numbers);
            });
        }
        None => {
            let (width, step) = (sizes[inner], by[inner]);
            let rows = (SHARE / width).max(1);
            out.par_chunks_mut(rows * width).enumerate().for_each(|(at, out)| {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    let begin = place(at * rows + row, &sizes[..inner], &by[..inner]);
                    line(out, &numbers[begin..], step);
                }
            });
        }
    }
}

fn line(out: &mut [f32], numbers: &[f32], step: usize) {
    match step {
        1 => out.copy_from_slice(&numbers[..out.len()]),
        0 => out.fill(numbers[0]),
        _ => out.iter_mut().zip(numbers.iter().step_by(step)).for_each(|(out, number)| *out = *number),
    }
}

/// Rows of `out` are the first axis, along which the source lies together: in squares, so that both sides stay in caches.
fn turn(out: &mut [f32], [height, width]: [usize; 2], sizes: &[usize], by: &[usize], numbers: &[f32]) {
    const SQUARE: usize = 32;
    let rest: Vec<usize> = (0..width).map(|column| place(column, &sizes[1..], &by[1..])).collect();
    out.par_chunks_mut(SQUARE * width).enumerate().for_each(|(at, out)| {
        let first = at * SQUARE;
        let rows = SQUARE.min(height - first);
        for columns in (0..width).step_by(SQUARE) {
            let end = (columns + SQUARE).min(width);
            for row in 0..rows {
                let line = &mut out[row * width..(row + 1) * width];
                for column in columns..end {
                    line[column] = numbers[rest[column] + first + row];
                }
            }
        }
    });
}

/// To places that do not lie together.
fn scatter(out: &mut [f32], sizes: &[usize], to: &[usize], numbers: &[f32], by: &[usize]) {
    let inner = sizes.len() - 1;
    let rows: usize = sizes[..inner].iter().product();
    for row in 0..rows {
        let (begin, from) =
            (place(row, &sizes[..inner], &to[..inner]), place(row, &sizes[..inner], &by[..inner]));
        for at in 0..sizes[inner] {
            out[begin + at * to[inner]] = numbers[from + at * by[inner]];
        }
    }
}

/// The order of axes in which a view's numbers lie, from the slowest.
fn slowest_first(view: &View) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..view.shape.len()).collect();
    axes.sort_by_key(|axis| {
        std::cmp::Reverse(if view.shape[*axis] == 1 { usize::MAX } else { view.strides[*axis] })
    });
    axes
}

/// `f` of each number; the result lies as `x` does.
pub fn map(x: &View, scalar: Scalar, f: impl Fn(f32) -> f32 + Sync) -> View {
    both(x, x, x.shape(), scalar, |a, _| f(a))
}

/// `f` of the numbers of two tensors, spread over a shape; the result lies as the larger of them does.
pub fn both(x: &View, y: &View, shape: &[usize], scalar: Scalar, f: impl Fn(f32, f32) -> f32 + Sync) -> View {
    let like = if x.shape == shape { x } else { y };
    let order = if like.shape == shape { slowest_first(like) } else { (0..shape.len()).collect() };
    let sizes: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let pick = |strides: Vec<usize>| -> Vec<usize> { order.iter().map(|axis| strides[*axis]).collect() };
    let own = row_major(&sizes);
    let (loops, steps) = collapsed(&sizes, &[own.clone(), pick(x.spread(shape)), pick(y.spread(shape))]);
    let count: usize = shape.iter().product();
    let mut data = Buffer::new(count);
    let [_, left, right] = steps.as_slice() else { return x.clone() };
    let inner = loops.len() - 1;
    let (width, by_x, by_y) = (loops[inner], left[inner], right[inner]);
    let (xs, ys) = (x.from_first(), y.from_first());
    let begins = |row: usize| [left, right].map(|steps| place(row, &loops[..inner], &steps[..inner]));
    if width >= SHARE {
        for (row, out) in data.chunks_exact_mut(width).enumerate() {
            let [from_x, from_y] = begins(row);
            out.par_chunks_mut(SHARE).enumerate().for_each(|(at, out)| {
                let column = at * SHARE;
                run(out, &xs[from_x + column * by_x..], &ys[from_y + column * by_y..], [by_x, by_y], &f);
            });
        }
    } else {
        let rows = SHARE / width.max(1);
        data.par_chunks_mut((rows * width).max(1)).enumerate().for_each(|(at, out)| {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let [from_x, from_y] = begins(at * rows + row);
                run(out, &xs[from_x..], &ys[from_y..], [by_x, by_y], &f);
            }
        });
    }
    let mut strides = vec![0; shape.len()];
    order.iter().zip(own).for_each(|(axis, stride)| strides[*axis] = stride);
    View { scalar, data: Arc::new(data), offset: 0, shape: shape.to_vec(), strides }
}

#[inline(always)]
fn run(out: &mut [f32], xs: &[f32], ys: &[f32], steps: [usize; 2], f: &impl Fn(f32, f32) -> f32) {
    vectorised(
        #[inline(always)]
        || match steps {
            [1, 1] => {
                let (xs, ys) = (&xs[..out.len()], &ys[..out.len()]);
                out.iter_mut().zip(xs).zip(ys).for_each(|((out, x), y)| *out = f(*x, *y));
            }
            [1, 0] => {
                let y = ys[0];
                out.iter_mut().zip(xs).for_each(|(out, x)| *out = f(*x, y));
            }
            [0, 1] => {
                let x = xs[0];
                out.iter_mut().zip(ys).for_each(|(out, y)| *out = f(x, *y));
            }
            [by_x, by_y] => {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = f(xs[at * by_x], ys[at * by_y]);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> View {
        let numbers: Vec<f32> = (0..shape.iter().product::<usize>()).map(|at| at as f32).collect();
        View::of(Scalar::Fp32, shape.to_vec(), &numbers)
    }

    /// Where a number of a shape stands, by its place in reading order.
    fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
        let count: usize = shape.iter().product();
        let strides = row_major(shape);
        (0..count)
            .map(|at| strides.iter().zip(shape).map(|(stride, size)| at / stride % size).collect())
            .collect()
    }

    #[test]
    fn turned_and_cut_views_read_as_they_should() {
        let x = counting(&[3, 70, 45]);
        for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1], [1, 0, 2]] {
            let turned = x.transposed(&order);
            let expected: Vec<f32> = indices(turned.shape())
                .iter()
                .map(|index| {
                    let mut own = [0; 3];
                    order.iter().zip(index).for_each(|(axis, at)| own[*axis] = *at);
                    (own[0] * 70 * 45 + own[1] * 45 + own[2]) as f32
                })
                .collect();
            assert_eq!(turned.to_vec(), expected, "{order:?}");
            let again = turned.reshaped(&[turned.count()]);
            assert_eq!(again.to_vec(), expected);
        }
        let part = x.part(&[1, 2, 3], &[2, 5, 4]);
        let expected: Vec<f32> = indices(&[2, 5, 4])
            .iter()
            .map(|i| ((1 + i[0]) * 3150 + (2 + i[1]) * 45 + 3 + i[2]) as f32)
            .collect();
        assert_eq!(part.to_vec(), expected);
        assert_eq!(part.reshaped(&[10, 2, 2]).to_vec(), expected);
        assert_eq!(part.reshaped(&[2, 1, 5, 4, 1]).to_vec(), expected);
    }

    #[test]
    fn shapes_change_without_moving_where_they_can() {
        let x = counting(&[1, 6, 1, 8]).transposed(&[0, 3, 2, 1]);
        assert_eq!(regrouped(x.shape(), x.strides(), &[8, 6]), Some(vec![1, 8]));
        assert_eq!(regrouped(x.shape(), x.strides(), &[2, 4, 3, 2]), Some(vec![4, 1, 16, 8]));
        assert_eq!(regrouped(x.shape(), x.strides(), &[48]), None);
        assert_eq!(regrouped(&[1, 1], &[5, 1], &[1]), Some(vec![0]));
    }

    #[test]
    fn two_tensors_go_together_in_any_layout() {
        let shape = [6, 4, 5];
        let x = counting(&[4, 5, 6]).transposed(&[2, 0, 1]);
        for y in
            [counting(&[4, 5]), counting(&[6, 1, 1]), counting(&[1, 5]), counting(&[]), counting(&[6, 4, 5])]
        {
            for (a, b) in [(&x, &y), (&y, &x)] {
                let found = both(a, b, &shape, Scalar::Fp32, |a, b| 2.0 * a + b);
                let value = |view: &View, index: &[usize]| {
                    let place: usize =
                        index.iter().zip(view.spread(&shape)).map(|(at, stride)| at * stride).sum();
                    view.from_first()[place]
                };
                let expected: Vec<f32> =
                    indices(&shape).iter().map(|index| 2.0 * value(a, index) + value(b, index)).collect();
                assert_eq!(found.to_vec(), expected, "{:?}", y.shape());
            }
        }
        let long = counting(&[3, 40_000]);
        let row = counting(&[40_000]);
        let sum = both(&long, &row, &[3, 40_000], Scalar::Fp32, |a, b| a - b).to_vec();
        assert!(sum.iter().enumerate().all(|(at, value)| *value == (at / 40_000 * 40_000) as f32));
    }
}
