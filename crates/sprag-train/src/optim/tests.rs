use burn::tensor::{Device, Tensor, TensorData};

use super::*;

fn matrix(numbers: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), device)
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.inner().try_into_vec_as().unwrap()
}

/// Gives `param` the gradient that it would get from `sum(param * gradient)`.
fn feed(param: &mut Param, gradient: &[f32]) {
    let device = Device::flex().autodiff();
    let weights = matrix(gradient, param.dims(), &device);
    let mut gradients = (param.get() * weights).sum().backward();
    param.accumulate(&mut gradients, 1.0);
}

#[track_caller]
fn assert_close(left: &[f32], right: &[f64], tolerance: f64) {
    assert_eq!(left.len(), right.len());
    for (l, r) in left.iter().zip(right) {
        assert!((f64::from(*l) - r).abs() <= tolerance, "{left:?} against {right:?}");
    }
}

#[test]
fn adamw_follows_its_formula_step_by_step() {
    let rule = AdamW { learning_rate: 0.1, beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.5 };
    let mut param = Param::new(matrix(&[1.0, -2.0], [1, 2], &Device::flex().autodiff()));
    let (mut value, mut mean, mut square) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
    for (step, gradient) in [[0.5f32, -1.0], [0.1, 3.0], [-2.0, 0.0]].into_iter().enumerate() {
        feed(&mut param, &gradient);
        rule.step(&mut param);
        for i in 0..2 {
            let g = f64::from(gradient[i]);
            mean[i] = 0.8 * mean[i] + 0.2 * g;
            square[i] = 0.9 * square[i] + 0.1 * g * g;
            let count = step as i32 + 1;
            let mean_hat = mean[i] / (1.0 - 0.8f64.powi(count));
            let square_hat = square[i] / (1.0 - 0.9f64.powi(count));
            value[i] = value[i] * (1.0 - 0.1 * 0.5) - 0.1 * mean_hat / (square_hat.sqrt() + 1e-3);
        }
        assert_close(&numbers(param.get()), &value, 1e-5);
    }
}

#[test]
fn a_step_without_a_gradient_changes_nothing() {
    let mut param = Param::new(matrix(&[1.0, 2.0], [1, 2], &Device::flex().autodiff()));
    AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.9, epsilon: 1e-8, weight_decay: 0.1 }.step(&mut param);
    assert_eq!(numbers(param.get()), [1.0, 2.0]);
}

#[test]
fn accumulated_gradients_add_up_and_a_step_uses_them_up() {
    let mut param = Param::new(matrix(&[0.0, 0.0], [1, 2], &Device::flex().autodiff()));
    feed(&mut param, &[1.0, 2.0]);
    feed(&mut param, &[10.0, -2.0]);
    assert_eq!(numbers(param.gradient().unwrap()), [11.0, 0.0]);
    AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.9, epsilon: 1e-8, weight_decay: 0.0 }.step(&mut param);
    assert!(param.gradient().is_none());
}

#[test]
fn clipping_scales_the_joint_norm_down_but_never_up() {
    let device = Device::flex().autodiff();
    let (mut one, mut two) =
        (Param::new(matrix(&[0.0], [1, 1], &device)), Param::new(matrix(&[0.0], [1, 1], &device)));
    feed(&mut one, &[3.0]);
    feed(&mut two, &[4.0]);
    assert!((clip_gradients(&mut [&mut one, &mut two], 10.0) - 5.0).abs() < 1e-6);
    assert_eq!(numbers(one.gradient().unwrap()), [3.0]);
    assert!((clip_gradients(&mut [&mut one, &mut two], 1.0) - 5.0).abs() < 1e-6);
    assert_close(&numbers(one.gradient().unwrap()), &[0.6], 1e-6);
    assert_close(&numbers(two.gradient().unwrap()), &[0.8], 1e-6);
}

/// Numbers in -1..1 that look random.
fn scattered(count: usize) -> Vec<f32> {
    (1..=count).map(|i| (i as f32 * 12.9898).sin() * 43758.547).map(|x| (x - x.floor()) * 2.0 - 1.0).collect()
}

/// Lengths to which `x` stretches vectors of its shorter side, scattered and along the axes: all lie between
/// its least and its largest singular value.
fn stretches(x: Tensor<2>) -> Vec<f32> {
    let [rows, columns] = x.dims();
    let x = if rows > columns { x.transpose() } else { x };
    let short = rows.min(columns);
    let directions = Tensor::cat(
        vec![matrix(&scattered(20 * short), [20, short], &x.device()), Tensor::eye(short, &x.device())],
        0,
    );
    let lengths = directions.clone().square().sum_dim(1).sqrt();
    let stretched = directions.matmul(x).square().sum_dim(1).sqrt();
    numbers(stretched / lengths)
}

#[test]
fn both_orthogonalise_matrices_of_any_shape() {
    for shape in [[8, 8], [6, 24], [24, 6]] {
        for orthogonaliser in [Orthogonaliser::NewtonSchulz, Orthogonaliser::PolarExpress] {
            let x = matrix(&scattered(shape[0] * shape[1]), shape, &Device::flex());
            let stretches = stretches(orthogonalise(x, orthogonaliser));
            let all_near_one = stretches.iter().all(|stretch| (0.65..1.25).contains(stretch));
            assert!(all_near_one, "{shape:?} {orthogonaliser:?}: {stretches:?}");
        }
    }
}

#[test]
fn in_a_graph_orthogonalising_gives_the_same() {
    let numbers_of = |device: &Device| {
        numbers(orthogonalise(matrix(&scattered(24), [4, 6], device), Orthogonaliser::PolarExpress))
    };
    let (plain, in_graph) = (numbers_of(&Device::flex()), numbers_of(&Device::flex().autodiff()));
    let in_graph: Vec<f64> = in_graph.into_iter().map(f64::from).collect();
    assert_close(&plain, &in_graph, 1e-5);
}

#[test]
fn singular_values_end_within_the_band_of_each_method() {
    // On a diagonal matrix the iteration acts on each singular value alone.
    let values = [1.0f32, 0.5, 0.3, 0.1, 0.05];
    let mut diagonal = vec![0.0; 25];
    for (i, value) in values.into_iter().enumerate() {
        diagonal[i * 6] = value;
    }
    let bands = [(Orthogonaliser::NewtonSchulz, 0.68..1.2), (Orthogonaliser::PolarExpress, 0.85..1.15)];
    for (orthogonaliser, band) in bands {
        let result = numbers(orthogonalise(matrix(&diagonal, [5, 5], &Device::flex()), orthogonaliser));
        for (index, value) in result.into_iter().enumerate() {
            if index % 6 == 0 {
                assert!(band.contains(&value), "{orthogonaliser:?}: singular value {value}");
            } else {
                assert!(value.abs() < 1e-5);
            }
        }
    }
}

#[test]
fn orthogonalising_keeps_the_singular_vectors() {
    // A rotation scaled by unequal factors: the nearest orthogonal matrix is the rotation.
    let (sin, cos) = 0.7f32.sin_cos();
    let stretched = [cos * 3.0, -sin * 3.0, sin * 2.0, cos * 2.0];
    let x = matrix(&stretched, [2, 2], &Device::flex());
    let result = numbers(orthogonalise(x, Orthogonaliser::PolarExpress));
    assert_close(&result, &[cos.into(), (-sin).into(), sin.into(), cos.into()], 0.15);
}

#[test]
fn muon_moves_a_fresh_square_matrix_by_about_its_learning_rate() {
    let device = Device::flex().autodiff();
    let mut param = Param::new(matrix(&[0.0; 16], [4, 4], &device));
    feed(&mut param, &scattered(16));
    let rule = Muon {
        learning_rate: 0.1,
        momentum: 0.95,
        weight_decay: 0.0,
        orthogonaliser: Orthogonaliser::PolarExpress,
    };
    rule.step(&mut param);
    let moved = stretches(param.get().inner());
    assert!(moved.iter().all(|moved| (0.08..0.12).contains(moved)), "{moved:?}");
}

#[test]
fn muon_momentum_and_decay_follow_their_formula() {
    // One number: orthogonalising leaves its sign, so only sign and decay can be seen.
    let mut param = Param::new(matrix(&[1.0], [1, 1], &Device::flex().autodiff()));
    let rule = Muon {
        learning_rate: 0.1,
        momentum: 0.9,
        weight_decay: 0.5,
        orthogonaliser: Orthogonaliser::PolarExpress,
    };
    feed(&mut param, &[10.0]);
    rule.step(&mut param);
    assert_close(&numbers(param.get()), &[0.95 - 0.1], 2e-2);
    // The gradient turns, the momentum of ten times its size does not yet.
    feed(&mut param, &[-1.0]);
    rule.step(&mut param);
    assert_close(&numbers(param.get()), &[0.85 * 0.95 - 0.1], 3e-2);
}
