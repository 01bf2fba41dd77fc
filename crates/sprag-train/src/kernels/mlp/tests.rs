use super::*;

/// Numbers that look random, the same each time.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// How far numbers are from others, as a part of them, in the root of the mean square.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert!(found.len() == expected.len());
    let square = |x: f32| f64::from(x).powi(2);
    let off: f64 = found.iter().zip(expected).map(|(found, expected)| square(found - expected)).sum();
    (off / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

/// Both ways through the hidden layer come to the same.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_hidden_layer_that_stays_between_products_changes_nothing() {
    if !crate::kernels::avx512::available() {
        return;
    }
    // Rows and columns that fill no tile, and sums over more than one block.
    for (tokens, width, hidden, outputs) in
        [(1, 1, 1, 1), (7, 5, 31, 3), (13, 33, 64, 40), (100, 600, 70, 90), (1101, 40, 1030, 21)]
    {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let x = numbers(tokens * width, 1);
            let up = numbers(width * hidden, 2);
            let down = numbers(hidden * outputs, 3);
            let gradient = numbers(tokens * outputs, 4);
            let mlp = Mlp {
                up: Matrix::new(&up, width, hidden),
                down: Matrix::new(&down, hidden, outputs),
                precision,
            };
            let (x, gradient) = (Matrix::new(&x, tokens, width), Matrix::new(&gradient, tokens, outputs));
            let (expected_out, numbers) = mlp.forward_by_numbers(x);
            let (out, packed) = mlp.forward_between_products(x);
            assert!(matches!(packed, Hidden::Packed(_)));
            let expected = mlp.backward(x, &numbers, gradient, [true; 3]);
            let found = mlp.backward(x, &packed, gradient, [true; 3]);
            // In bfloat16 the slope is told from activations that were rounded.
            let tolerance = if precision == Precision::Bf16 { 8e-3 } else { 1e-6 };
            let pairs = found.iter().flatten().zip(expected.iter().flatten());
            for (which, (found, expected)) in std::iter::once((&out, &expected_out)).chain(pairs).enumerate()
            {
                let distance = distance(found, expected);
                assert!(
                    distance <= tolerance,
                    "{tokens} x {width} x {hidden} x {outputs}, {precision:?}, {which}: off by {distance:e}"
                );
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
