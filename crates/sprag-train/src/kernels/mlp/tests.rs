use super::*;
use crate::kernels::testing::numbers;

/// How far numbers are from others, as a part of them, in the root of the mean square.
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert!(found.len() == expected.len());
    let off = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).powi(2));
    (off.sum::<f64>() / expected.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

/// `a b` in double precision, where `a` has so many columns.
fn times(a: &[f64], b: &[f64], depth: usize) -> Vec<f64> {
    let width = b.len() / depth;
    let element = |row: &[f64], col: usize| (0..depth).map(|at| row[at] * b[at * width + col]).sum::<f64>();
    a.chunks_exact(depth).flat_map(|row| (0..width).map(move |col| element(row, col))).collect()
}

fn turned(a: &[f64], width: usize) -> Vec<f64> {
    (0..width).flat_map(|col| a.iter().skip(col).step_by(width).copied()).collect()
}

/// Output, and gradients by `x`, `up` and `down`, by the definition.
fn definition(
    [x, up, down, gradient]: [&[f32]; 4],
    [tokens, width, hidden, outputs]: [usize; 4],
) -> [Vec<f64>; 4] {
    let [x, up, down, gradient] =
        [x, up, down, gradient].map(|numbers| numbers.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
    let positive: Vec<_> = times(&x, &up, width).into_iter().map(|x| x.max(0.0)).collect();
    let activated: Vec<_> = positive.iter().map(|x| x * x).collect();
    let by_activated = times(&gradient, &turned(&down, outputs), outputs);
    let by_hidden: Vec<_> = by_activated.iter().zip(&positive).map(|(by, x)| 2.0 * x * by).collect();
    [
        times(&activated, &down, hidden),
        times(&by_hidden, &turned(&up, hidden), hidden),
        times(&turned(&x, width), &by_hidden, tokens),
        times(&turned(&activated, hidden), &gradient, tokens),
    ]
}

#[test]
fn every_way_through_the_hidden_layer_is_that_of_the_definition() {
    // Rows and columns that fill no tile, and sums over more than one block.
    for shape in [[2, 1, 1, 1], [7, 5, 31, 3], [13, 33, 64, 40], [100, 600, 70, 90], [1101, 40, 1030, 21]] {
        let [tokens, width, hidden, outputs] = shape;
        let sizes = [tokens * width, width * hidden, hidden * outputs, tokens * outputs];
        let [x, up, down, gradient] = [0, 1, 2, 3].map(|which| numbers(sizes[which], which as u32 + 1));
        let expected = definition([&x, &up, &down, &gradient], shape);
        let (x, gradient) = (Matrix::new(&x, tokens, width), Matrix::new(&gradient, tokens, outputs));
        for precision in [Precision::Fp32, Precision::Bf16] {
            let (up, down) = (Matrix::new(&up, width, hidden), Matrix::new(&down, hidden, outputs));
            let mlp = Mlp { up, down, precision };
            let mut ways = vec![mlp.forward_by_numbers(x)];
            #[cfg(target_arch = "x86_64")]
            if avx512::available() {
                ways.push(mlp.forward_between_products(x));
            }
            // A number of one product goes through five factors that are rounded.
            let tolerance = if precision == Precision::Bf16 { 1.5e-2 } else { 1e-6 };
            for (way, (out, hidden)) in ways.into_iter().enumerate() {
                let by = mlp.backward(x, &hidden, gradient, [true; 3]);
                let found = std::iter::once(&out).chain(by.iter().flatten());
                for (which, (found, expected)) in found.zip(&expected).enumerate() {
                    let distance = distance(found, expected);
                    assert!(
                        distance <= tolerance,
                        "{shape:?}, {precision:?}, way {way}, {which}: off by {distance:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn only_wanted_gradients_are_made() {
    let (x, up, down) = (numbers(6, 1), numbers(12, 2), numbers(8, 3));
    let mlp = Mlp { up: Matrix::new(&up, 3, 4), down: Matrix::new(&down, 4, 2), precision: Precision::Fp32 };
    let (out, hidden) = mlp.forward(Matrix::new(&x, 2, 3));
    for wanted in [[true, false, false], [false, true, false], [false, false, true], [false; 3]] {
        let by = mlp.backward(Matrix::new(&x, 2, 3), &hidden, Matrix::new(&out, 2, 2), wanted);
        assert_eq!(by.map(|by| by.is_some()), wanted);
    }
}

#[test]
fn a_hidden_layer_that_explodes_is_seen_behind_it() {
    for odd in [f32::NAN, f32::INFINITY] {
        let mlp = Mlp {
            up: Matrix::new(&[1.0; 40], 1, 40),
            down: Matrix::new(&[1.0; 40], 40, 1),
            precision: Precision::Bf16,
        };
        let (out, hidden) = mlp.forward(Matrix::new(&[odd], 1, 1));
        let by = mlp.backward(Matrix::new(&[odd], 1, 1), &hidden, Matrix::new(&[1.0], 1, 1), [true; 3]);
        assert!(!out[0].is_finite() && by.iter().flatten().all(|by| !by[0].is_finite()));
    }
}

#[test]
fn what_an_odd_hidden_layer_lacks_does_not_spoil_it() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mlp = Mlp { up: Matrix::new(&[-1.0], 1, 1), down: Matrix::new(&[1.0], 1, 1), precision };
        let (out, _) = mlp.forward(Matrix::new(&[f32::INFINITY], 1, 1));
        assert_eq!(out[0], 0.0, "{precision:?}");
    }
}

#[test]
fn without_a_hidden_layer_nothing_comes_through() {
    let mlp = Mlp { up: Matrix::new(&[], 3, 0), down: Matrix::new(&[], 0, 2), precision: Precision::Fp32 };
    let (out, _) = mlp.forward(Matrix::new(&[1.0; 6], 2, 3));
    assert_eq!(out[..], [0.0; 4]);
}

#[test]
#[should_panic(expected = "2 x 3 does not go through 4 x 1 and 1 x 1")]
fn shapes_that_do_not_fit_are_refused() {
    let mlp =
        Mlp { up: Matrix::new(&[0.0; 4], 4, 1), down: Matrix::new(&[0.0], 1, 1), precision: Precision::Fp32 };
    mlp.forward(Matrix::new(&[0.0; 6], 2, 3));
}
