use super::*;
use crate::kernels::testing::numbers;

fn at(matrix: &Matrix<'_>, row: usize, col: usize) -> f32 {
    matrix.data()[row * matrix.row_stride() + col * matrix.col_stride()]
}

/// Compares every way with the definition in double precision.
fn check(a: Matrix<'_>, b: Matrix<'_>, gap: usize, precision: Precision) {
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    let stride = n + gap;
    let ways: Vec<_> =
        [true, false].map(|together| Prepared::every(b, precision, together)).into_iter().flatten().collect();
    for (way, accumulate) in ways.iter().flat_map(|way| [(way, false), (way, true)]) {
        let before = numbers(m * stride, 9);
        let mut out = before.clone();
        way.multiply(MatrixMut::strided(&mut out, m, n, stride), a, accumulate);
        let prepare = |x: f32| f64::from(if precision == Precision::Bf16 { to_bf16(x) } else { x });
        for row in 0..m {
            for col in 0..stride {
                let found = out[row * stride + col];
                if col >= n {
                    assert_eq!(found, before[row * stride + col], "the gap between rows was written");
                    continue;
                }
                let products = (0..k).map(|i| prepare(at(&a, row, i)) * prepare(at(&b, i, col)));
                let start = if accumulate { f64::from(before[row * stride + col]) } else { 0.0 };
                let expected = start + products.sum::<f64>();
                let tolerance = 2e-7 * (k as f64 + 8.0);
                assert!(
                    (f64::from(found) - expected).abs() < tolerance,
                    "{m} x {k} x {n}, {precision:?}: ({row}, {col}) is {found}, not {expected}"
                );
            }
        }
    }
}

fn precisions() -> [Precision; 2] {
    [Precision::Fp32, Precision::Bf16]
}

#[test]
fn products_of_odd_shapes_in_every_layout_are_those_of_the_definition() {
    let sizes = [1, 2, 7, 12, 31, 33, 64, 255];
    for (number, &m) in sizes.iter().enumerate() {
        for &n in &sizes {
            let k = sizes[(number * 3 + n) % sizes.len()];
            let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
            for precision in precisions() {
                let a = [Matrix::new(&left, m, k), Matrix::new(&left, k, m).transposed()];
                let b = [Matrix::new(&right, k, n), Matrix::new(&right, n, k).transposed()];
                for a in a {
                    for b in b {
                        check(a, b, n % 3, precision);
                    }
                }
            }
        }
    }
}

#[test]
fn long_sums_and_scattered_elements_are_right() {
    for precision in precisions() {
        let (m, n, k) = (13, 35, 2100);
        let (left, right) = (numbers(m * k * 3, 3), numbers(k * n * 2, 4));
        // Neither rows nor columns are contiguous.
        check(Matrix::strided(&left, m, k, 3 * k, 3), Matrix::strided(&right, k, n, 2, 2 * k), 0, precision);
        check(Matrix::new(&left, m, k), Matrix::new(&right, k, n), 5, precision);
        // Wider than what a thread takes at a time.
        check(Matrix::new(&left, 40, 40), Matrix::new(&right, 40, 1100), 3, precision);
        // As for the gradient by a weight: both factors are read column after column.
        check(Matrix::new(&left, k, m).transposed(), Matrix::new(&right, k, n), 0, precision);
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (m, n, k) = (97, 70, 600);
    let (left, right) = (numbers(m * k, 5), numbers(k * n, 6));
    let (left, b) = (Matrix::new(&left, m, k), Matrix::new(&right, k, n));
    // `gemm`, the first way, takes other orders for other shapes.
    let ways = precisions()
        .into_iter()
        .flat_map(|precision| Prepared::every(b, precision, true).into_iter().skip(1));
    for way in ways {
        for accumulate in [false, true] {
            let mut all = vec![0.5; m * n];
            way.multiply(MatrixMut::new(&mut all, m, n), left, accumulate);
            for row in [0, 11, 12, 50, 96] {
                let mut alone = vec![0.5; n];
                way.multiply(MatrixMut::new(&mut alone, 1, n), left.rows_from(row, 1), accumulate);
                assert_eq!(alone, all[row * n..][..n], "row {row}");
            }
        }
    }
}

#[test]
fn single_precision_keeps_all_bits_of_its_factors() {
    // Sums that cancel but for the last bits of one factor.
    let (m, n, k) = (40, 33, 64);
    let ones = vec![1.0; m * k];
    let mut right = numbers(k * n, 11);
    for row in (0..k).step_by(2) {
        for col in 0..n {
            let next = f32::from_bits(right[row * n + col].to_bits() + 1);
            right[(row + 1) * n + col] = -next;
        }
    }
    let b = Matrix::new(&right, k, n);
    for way in Prepared::every(b, Precision::Fp32, true) {
        let mut out = vec![0.0; m * n];
        way.multiply(MatrixMut::new(&mut out, m, n), Matrix::new(&ones, m, k), false);
        for (at, found) in out.iter().enumerate() {
            let exact: f64 = (0..k).map(|row| f64::from(right[row * n + at % n])).sum();
            assert!((f64::from(*found) - exact).abs() < 2e-6, "{at}: {found}, not {exact}");
        }
    }
}

#[test]
fn numbers_from_1e_30_on_are_multiplied_and_infinities_do_not_vanish() {
    for precision in precisions() {
        for size in [1e-30_f32, 1e-12, 1e12, 1e30, 3.3e38] {
            let b = [size; 32];
            for way in Prepared::every(Matrix::new(&b, 1, 32), precision, true) {
                let mut out = [0.0; 32];
                way.multiply(MatrixMut::new(&mut out, 1, 32), Matrix::new(&[0.5], 1, 1), false);
                let expected = if precision == Precision::Bf16 { to_bf16(size) } else { size } / 2.0;
                assert!(out.iter().all(|found| (found / expected - 1.0).abs() < 3e-7), "{size}: {}", out[0]);
            }
        }
        for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            for way in Prepared::every(Matrix::new(&[odd], 1, 1), precision, true) {
                let mut out = [0.0];
                way.multiply(MatrixMut::new(&mut out, 1, 1), Matrix::new(&[0.3], 1, 1), false);
                assert!(!out[0].is_finite(), "{odd}: {}", out[0]);
            }
        }
    }
}

#[test]
fn an_empty_sum_is_zero() {
    for precision in precisions() {
        let mut out = [1.0; 4];
        matmul(
            MatrixMut::new(&mut out, 2, 2),
            Matrix::new(&[], 2, 0),
            Matrix::new(&[], 0, 2),
            true,
            precision,
        );
        assert_eq!(out, [1.0; 4]);
        matmul(
            MatrixMut::new(&mut out, 2, 2),
            Matrix::new(&[], 2, 0),
            Matrix::new(&[], 0, 2),
            false,
            precision,
        );
        assert_eq!(out, [0.0; 4]);
    }
}

#[test]
#[should_panic(expected = "3 columns for a factor of 4")]
fn a_whole_product_fills_all_columns() {
    let prepared = Prepared::new(Matrix::new(&[0.0; 8], 2, 4), Precision::Fp32);
    prepared.multiply(MatrixMut::new(&mut [0.0; 3], 1, 3), Matrix::new(&[0.0; 2], 1, 2), false);
}

#[test]
fn a_factor_without_columns_can_be_made_ready() {
    for precision in precisions() {
        let prepared = Prepared::new(Matrix::new(&[], 8, 0), precision);
        prepared.multiply(MatrixMut::new(&mut [], 3, 0), Matrix::new(&[1.0; 24], 3, 8), false);
    }
}

#[test]
#[should_panic(expected = "2 x 3 times 2 x 2 is not 2 x 2")]
fn shapes_that_do_not_fit_are_refused() {
    let mut out = [0.0; 4];
    matmul(
        MatrixMut::new(&mut out, 2, 2),
        Matrix::new(&[0.0; 6], 2, 3),
        Matrix::new(&[0.0; 4], 2, 2),
        false,
        Precision::Fp32,
    );
}

#[test]
fn prepared_or_alone_the_product_is_the_same() {
    let (m, n, k) = (130, 70, 1100);
    let (left, right) = (numbers(m * k, 5), numbers(k * n, 6));
    let (a, b) = (Matrix::new(&left, m, k), Matrix::new(&right, k, n));
    for precision in precisions() {
        let [mut together, mut alone, mut prepared] =
            [const { Vec::new() }; 3].map(|_: Vec<f32>| vec![0.0; m * n]);
        matmul(MatrixMut::new(&mut together, m, n), a, b, false, precision);
        matmul_alone(MatrixMut::new(&mut alone, m, n), a, b, false, precision);
        Prepared::new(b, precision).multiply(MatrixMut::new(&mut prepared, m, n), a, false);
        for ((together, alone), prepared) in together.iter().zip(&alone).zip(&prepared) {
            assert!((together - alone).abs() < 1e-4 && together == prepared, "{precision:?}");
        }
    }
}

#[test]
fn rounding_goes_to_the_nearest_and_keeps_nan() {
    for (exact, expected) in [(1.0, 1.0), (1.003_906_2, 1.0), (1.005, 1.007_812_5), (-3.02, -3.015_625)] {
        assert_eq!(to_bf16(exact), expected, "{exact}");
    }
    assert!(to_bf16(f32::NAN).is_nan() && to_bf16(f32::MAX).is_infinite());
}

#[test]
fn a_part_of_a_prepared_factor_is_those_columns_of_the_product() {
    let (m, n, k) = (13, 150, 600);
    let (left, right) = (numbers(m * k, 7), numbers(k * n, 8));
    let (a, b) = (Matrix::new(&left, m, k), Matrix::new(&right, n, k).transposed());
    for precision in precisions() {
        for prepared in Prepared::every(b, precision, false) {
            let mut all = vec![0.0; m * n];
            prepared.multiply_alone(MatrixMut::new(&mut all, m, n), a, 0);
            for (first, count) in [(0, 40), (32, 118), (64, 1), (128, 0)] {
                let mut part = vec![0.0; m * count];
                prepared.multiply_alone(MatrixMut::new(&mut part, m, count), a, first);
                for (row, part) in part.chunks_exact(count.max(1)).enumerate() {
                    for (part, all) in part.iter().zip(&all[row * n + first..]) {
                        assert!((part - all).abs() < 1e-4, "{precision:?}, from {first}");
                    }
                }
            }
        }
    }
}

#[test]
fn products_by_some_rows_of_a_factor_are_those_of_these_rows() {
    let (m, n, rows) = (14, 70, 1300);
    let right = numbers(rows * n, 9);
    let b = Matrix::new(&right, rows, n);
    for precision in precisions() {
        let prepared = [PreparedRows::new(b, precision), PreparedRows::Each(b, precision)];
        // Within one block of the kernels, across several, up to the end, and none.
        for (first, count) in [(0, rows), (0, 37), (500, 64), (510, 650), (1298, 2), (64, 0)] {
            let left = numbers(m * count, 10);
            let a = Matrix::new(&left, m, count);
            for accumulate in [false, true] {
                let mut expected = vec![0.5; m * n];
                let to = MatrixMut::new(&mut expected, m, n);
                matmul_alone(to, a, b.rows_from(first, count), accumulate, precision);
                for prepared in &prepared {
                    let mut found = vec![0.5; m * n];
                    prepared.multiply_alone(MatrixMut::new(&mut found, m, n), a, first, accumulate);
                    let pairs = found.iter().zip(&expected);
                    assert!(
                        pairs.clone().all(|(found, expected)| (found - expected).abs() < 1e-4),
                        "{precision:?}, {count} from {first}"
                    );
                }
            }
        }
    }
}
