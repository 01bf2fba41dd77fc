use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use super::*;

fn device() -> Device {
    Device::flex()
}

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    // Seeding is global to the process, so numbers come from a generator of our own: tests run in parallel.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(numbers, shape), &device())
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().try_into_vec_as().unwrap()
}

#[track_caller]
fn assert_close<const D: usize>(left: Tensor<D>, right: Tensor<D>, tolerance: f32) {
    assert_eq!(left.dims(), right.dims());
    for (index, (l, r)) in numbers(left).into_iter().zip(numbers(right)).enumerate() {
        assert!((l - r).abs() <= tolerance * (1.0 + r.abs()), "at {index}: {l} against {r}");
    }
}

/// Compares the gradient of `sum(f(x) * w)` along random directions with central differences.
#[track_caller]
fn check_gradient<const D: usize, const E: usize>(at: Tensor<D>, f: impl Fn(Tensor<D>) -> Tensor<E>) {
    let weights = random(f(at.clone()).dims(), 99);
    let scalar = |x: Tensor<D>| (f(x) * weights.clone()).sum();
    let leaf = Tensor::from_inner(at.clone()).require_grad();
    let weighted = (f(leaf.clone()) * Tensor::from_inner(weights.clone())).sum();
    let gradient = leaf.grad(&weighted.backward()).expect("a gradient");
    for seed in 0..3 {
        let direction = random(at.dims(), 7 + seed);
        let step = 1e-2;
        let ahead = numbers(scalar(at.clone() + direction.clone() * step))[0];
        let behind = numbers(scalar(at.clone() - direction.clone() * step))[0];
        let slope = f64::from(ahead - behind) / (2.0 * step);
        let exact = f64::from(numbers((gradient.clone() * direction).sum())[0]);
        assert!((slope - exact).abs() < 5e-3 * (1.0 + exact.abs()), "{slope} against {exact}");
    }
}

fn ids<const D: usize>(ids: &[i32], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), shape), &device())
}

#[test]
fn gradient_of_linear() {
    let (x, weight) = (random([2, 3, 4], 1), random([4, 5], 2));
    check_gradient(x.clone(), |x| linear(x, weight.clone()));
    check_gradient(weight.clone(), |weight| linear(x.clone(), weight));
}

#[test]
fn gradient_of_embedding() {
    let tokens = ids(&[0, 2, 2, 1, 4, 0], [2, 3]);
    check_gradient(random([5, 4], 1), |table| embedding(table, tokens.clone()));
}

#[test]
fn gradient_of_rms_norm() {
    check_gradient(random([2, 3, 8], 1), rms_norm);
}

#[test]
fn gradient_of_rotary() {
    let angles = Rotary::new(6, 8, 100.0, &device());
    check_gradient(random([2, 3, 5, 8], 1), |x| rotary(x, &angles));
}

#[test]
fn gradient_of_attention() {
    let (query, key, value) = (random([2, 4, 6, 8], 1), random([2, 2, 6, 8], 2), random([2, 2, 6, 8], 3));
    for window in [None, Some(3)] {
        check_gradient(query.clone(), |q| attention_composed(q, key.clone(), value.clone(), window));
        check_gradient(key.clone(), |k| attention_composed(query.clone(), k, value.clone(), window));
        check_gradient(value.clone(), |v| attention_composed(query.clone(), key.clone(), v, window));
    }
}

#[test]
fn gradient_of_mlp() {
    let (x, up, down) = (random([2, 3, 4], 1), random([4, 16], 2), random([16, 4], 3));
    check_gradient(x.clone(), |x| mlp(x, up.clone(), down.clone()));
    check_gradient(up.clone(), |up| mlp(x.clone(), up, down.clone()));
    check_gradient(down.clone(), |down| mlp(x.clone(), up.clone(), down));
}

#[test]
fn gradient_of_loss() {
    let targets = ids(&[3, 0, 6, 2, 2, 5], [2, 3]);
    for cap in [15.0, 40.0, f64::INFINITY] {
        check_gradient(random([2, 3, 7], 1) * 4.0, |logits| loss(logits, targets.clone(), cap));
    }
}

#[test]
fn rms_norm_leaves_a_root_mean_square_of_one() {
    let squares = rms_norm(random([3, 4, 16], 1) * 50.0).square().mean_dim(2);
    assert_close(squares, Tensor::ones([3, 4, 1], &device()), 1e-4);
}

#[test]
fn rotary_keeps_lengths_and_makes_products_depend_on_distance_alone() {
    let angles = Rotary::new(16, 8, 100.0, &device());
    let one = random([1, 1, 1, 8], 1).expand([1, 1, 16, 8]);
    let other = random([1, 1, 1, 8], 2).expand([1, 1, 16, 8]);
    let turned = rotary(one.clone(), &angles);
    assert_close(turned.clone().square().sum_dim(3), one.square().sum_dim(3), 1e-5);
    let products = turned.matmul(rotary(other, &angles).swap_dims(2, 3)); // [1, 1, 16, 16]
    let products = numbers(products);
    let at = |row: usize, column: usize| products[row * 16 + column];
    assert!((at(5, 2) - at(12, 9)).abs() < 1e-4);
    assert!((at(5, 2) - at(5, 4)).abs() > 1e-3);
}

#[test]
fn attention_does_not_look_ahead() {
    let (query, key, value) = (random([1, 2, 8, 4], 1), random([1, 2, 8, 4], 2), random([1, 2, 8, 4], 3));
    let changed = |x: Tensor<4>| Tensor::cat(vec![x.narrow(2, 0, 5), random([1, 2, 3, 4], 9)], 2);
    for attend in [attention_composed, attention_fused] {
        for window in [None, Some(3)] {
            let before = attend(query.clone(), key.clone(), value.clone(), window);
            let after = attend(changed(query.clone()), changed(key.clone()), changed(value.clone()), window);
            assert_close(before.clone().narrow(2, 0, 5), after.clone().narrow(2, 0, 5), 0.0);
            let difference = (before - after).narrow(2, 5, 3).abs().sum();
            assert!(numbers(difference)[0] > 0.1, "later positions must have changed");
        }
    }
}

#[test]
fn a_window_of_one_returns_the_values_themselves() {
    let (query, key, value) = (random([2, 2, 6, 4], 1), random([2, 2, 6, 4], 2), random([2, 2, 6, 4], 3));
    for attend in [attention_composed, attention_fused] {
        assert_close(attend(query.clone(), key.clone(), value.clone(), Some(1)), value.clone(), 1e-6);
    }
}

#[test]
fn a_window_hides_exactly_what_lies_before_it() {
    let (query, key, value) = (random([1, 1, 8, 4], 1), random([1, 1, 8, 4], 2), random([1, 1, 8, 4], 3));
    let first_changed = |x: Tensor<4>| Tensor::cat(vec![random([1, 1, 1, 4], 9), x.narrow(2, 1, 7)], 2);
    for attend in [attention_composed, attention_fused] {
        let before = attend(query.clone(), key.clone(), value.clone(), Some(3));
        let after = attend(query.clone(), first_changed(key.clone()), first_changed(value.clone()), Some(3));
        assert_close(before.clone().narrow(2, 3, 5), after.clone().narrow(2, 3, 5), 0.0);
        let difference = (before - after).narrow(2, 2, 1).abs().sum();
        assert!(numbers(difference)[0] > 1e-3, "position 2 still sees position 0");
    }
}

#[test]
fn grouped_query_attention_equals_repeated_heads() {
    let (query, key, value) = (random([2, 6, 5, 4], 1), random([2, 2, 5, 4], 2), random([2, 2, 5, 4], 3));
    let repeated = |x: &Tensor<4>| {
        let heads = (0..6).map(|head| x.clone().narrow(1, head / 3, 1)).collect();
        Tensor::cat(heads, 1)
    };
    for attend in [attention_composed, attention_fused] {
        for window in [None, Some(2)] {
            let grouped = attend(query.clone(), key.clone(), value.clone(), window);
            let plain = attend(query.clone(), repeated(&key), repeated(&value), window);
            assert_close(grouped, plain, 1e-5);
        }
    }
}

#[test]
fn fused_and_composed_attention_agree() {
    let (query, key, value) = (random([2, 4, 33, 8], 1), random([2, 2, 33, 8], 2), random([2, 2, 33, 8], 3));
    for window in [None, Some(1), Some(7), Some(33), Some(1000)] {
        let fused = attention_fused(query.clone(), key.clone(), value.clone(), window);
        let composed = attention_composed(query.clone(), key.clone(), value.clone(), window);
        assert_close(fused, composed, 1e-5);
    }
}

#[test]
fn mlp_squares_what_relu_lets_through() {
    let identity = Tensor::<2>::eye(3, &device());
    let x = Tensor::<3>::from_floats([[[-2.0, 0.5, 3.0]]], &device());
    let expected = Tensor::<3>::from_floats([[[0.0, 0.25, 9.0]]], &device());
    assert_close(mlp(x, identity.clone(), identity), expected, 1e-6);
}

#[test]
fn head_loss_and_its_gradients_are_those_of_the_two_operations() {
    // Three blocks, the last one short; the device's threads share them.
    let (hidden, head) = (random([3, 50, 8], 1), random([8, 11], 2));
    let targets: Vec<i32> = (0..150).map(|i| i * 7 % 11).collect();
    let targets = ids(&targets, [3, 50]);
    for cap in [5.0, 15.0, 60.0] {
        let gradients = |together: bool| {
            let hidden = Tensor::from_inner(hidden.clone() * 3.0).require_grad();
            let head = Tensor::from_inner(head.clone() * 3.0).require_grad();
            let loss = if together {
                head_loss(hidden.clone(), head.clone(), targets.clone(), cap)
            } else {
                loss(linear(hidden.clone(), head.clone()), targets.clone(), cap)
            };
            let gradients = loss.backward();
            (loss, hidden.grad(&gradients).unwrap(), head.grad(&gradients).unwrap())
        };
        let (one, other) = (gradients(true), gradients(false));
        assert_close(one.0, other.0, 1e-5);
        assert_close(one.1, other.1, 1e-5);
        assert_close(one.2, other.2, 1e-5);
    }
}

/// The definition, in double precision.
fn naive_loss(logits: &[f32], targets: &[i32], vocab: usize, cap: f64) -> f64 {
    let total: f64 = logits
        .chunks(vocab)
        .zip(targets)
        .map(|(row, &target)| {
            let bend = |logit: f32| {
                if cap.is_finite() { (f64::from(logit) / cap).tanh() * cap } else { logit.into() }
            };
            let sum: f64 = row.iter().map(|&logit| bend(logit).exp()).sum();
            sum.ln() - bend(row[target as usize])
        })
        .sum();
    total / targets.len() as f64
}

#[test]
fn loss_equals_its_definition_even_for_large_logits() {
    let targets = [3, 0, 6, 2, 2, 5];
    for scale in [0.1, 5.0, 80.0] {
        let logits = random([2, 3, 7], 1) * scale;
        for cap in [5.0, 15.0, 30.0, 60.0, f64::INFINITY] {
            let loss = numbers(loss(logits.clone(), ids(&targets, [2, 3]), cap))[0];
            let naive = naive_loss(&numbers(logits.clone()), &targets, 7, cap);
            assert!((f64::from(loss) - naive).abs() < 1e-4 * (1.0 + naive), "{loss} against {naive}");
        }
    }
}

#[test]
fn softcap_bounds_logits_and_hardly_moves_small_ones() {
    let logits = Tensor::<1>::from_floats([-1000.0, -0.01, 0.0, 0.01, 1000.0], &device());
    let expected = Tensor::<1>::from_floats([-15.0, -0.01, 0.0, 0.01, 15.0], &device());
    assert_close(softcap(logits, 15.0), expected, 1e-5);
}

#[test]
fn flops_of_a_known_model() {
    // GPT-2 small without its embedding: 124M - 39M - 0.8M weights, 12 layers of 768 over 1024 tokens.
    assert_eq!(flops_per_token(85_000_000, 12, 768, 1024), 6.0 * 85e6 + 12.0 * 12.0 * 768.0 * 1024.0);
}

#[test]
fn heads_split_and_join_without_loss() {
    let x = Tensor::<3>::random([2, 5, 12], Distribution::Default, &device());
    assert_close(join_heads(split_heads(x.clone(), 3)), x, 0.0);
}
