use burn::tensor::{DType, Device, Distribution, Gradients, Int, Tensor, TensorData};

use super::plain::{attention_composed, attention_of_backend};
use super::*;
use crate::kernels;
use burn::tensor::activation;

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

/// Reads a leaf's gradient, in double precision.
type ReadGradient = Box<dyn Fn(&Gradients) -> Vec<f64>>;

/// Inputs of an operation under test, of one number type.
struct Leaves {
    dtype: DType,
    gradients: Vec<ReadGradient>,
}

impl Leaves {
    /// A random input whose gradient will be compared.
    fn random<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let seed = self.gradients.len() as u64 + 1;
        let leaf = Tensor::from_inner(random(shape, seed).cast(self.dtype)).require_grad();
        let kept = leaf.clone();
        let read = move |gradients: &Gradients| doubles(kept.grad(gradients).expect("a gradient"));
        self.gradients.push(Box::new(read));
        leaf
    }
}

fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.inner().cast(DType::F64).try_into_vec_as().unwrap()
}

/// Output of `f`, and the gradients of a weighted sum of it.
fn forth_and_back<const D: usize>(dtype: DType, f: &dyn Fn(&mut Leaves) -> Tensor<D>) -> Vec<Vec<f64>> {
    let mut leaves = Leaves { dtype, gradients: Vec::new() };
    let output = f(&mut leaves);
    let weights = Tensor::from_inner(random(output.dims(), 99).cast(dtype));
    let gradients = (output.clone() * weights).sum().backward();
    let mut all = vec![doubles(output)];
    all.extend(leaves.gradients.iter().map(|read| read(&gradients)));
    all
}

/// Output and gradients in single precision, by the kernels, are those of the plain operations in double
/// precision, to `tolerance` of the largest of them or of one, whichever is more: what cancels to less than the
/// inputs, which are about one, cannot be more exact than they are.
#[track_caller]
fn check<const D: usize>(tolerance: f64, f: impl Fn(&mut Leaves) -> Tensor<D>) {
    let (single, double) = (forth_and_back(DType::F32, &f), forth_and_back(DType::F64, &f));
    for (which, (single, double)) in single.iter().zip(&double).enumerate() {
        assert_eq!(single.len(), double.len());
        let largest = double.iter().fold(1.0, |largest: f64, number| largest.max(number.abs()));
        for (at, (single, double)) in single.iter().zip(double).enumerate() {
            let what = if which == 0 { "the output".to_owned() } else { format!("gradient {which}") };
            let error = (single - double).abs();
            assert!(error <= tolerance * largest, "{what} at {at}: {single} against {double} of {largest}");
        }
    }
}

/// Sizes of which the last is no multiple of anything.
const ODD: [usize; 5] = [1, 7, 31, 33, 255];

#[test]
fn linear_is_the_plain_one() {
    for (at, width) in ODD.into_iter().enumerate() {
        let outputs = ODD[(at + 2) % 5];
        check(2e-6, |leaves| linear(leaves.random([2, 3, width]), leaves.random([width, outputs])));
    }
}

#[test]
fn linear_takes_and_gives_gradients_of_any_layout() {
    check(2e-6, |leaves| {
        let x = leaves.random([5, 4, 3]).permute([2, 1, 0]); // [3, 4, 5], columns far apart
        linear(x, leaves.random([7, 5]).transpose()).swap_dims(0, 2)
    });
}

#[test]
fn linear_in_bf16_is_off_by_the_rounding_of_its_factors() {
    check(1.5e-2, |leaves| {
        let (x, weight) = (leaves.random([2, 33, 70]), leaves.random([70, 31]));
        if leaves.dtype == DType::F32 {
            cpu::linear(x, weight, kernels::Precision::Bf16)
        } else {
            linear(x, weight)
        }
    });
}

#[test]
fn embedding_is_the_plain_one() {
    let tokens = ids(&[0, 2, 2, 1, 4, 0], [2, 3]);
    for width in ODD {
        check(1e-6, |leaves| embedding(leaves.random([5, width]), tokens.clone()));
    }
}

#[test]
#[should_panic(expected = "token 5 of a vocabulary of 5")]
fn a_token_that_no_table_has_is_refused() {
    embedding(random([5, 4], 1), ids(&[5], [1, 1]));
}

#[test]
fn rms_norm_is_the_plain_one() {
    for width in ODD {
        check(3e-6, |leaves| rms_norm(leaves.random([2, 3, width])));
    }
    check(3e-6, |leaves| rms_norm(leaves.random([2, 8, 3]).swap_dims(1, 2)));
}

#[test]
fn rotary_norm_is_the_plain_one() {
    for (dtype_dim, heads) in [(8, 3), (2, 1), (66, 2)] {
        let angles = Rotary::new(6, dtype_dim, 100.0, &device());
        check(3e-6, |leaves| {
            let x = split_heads(leaves.random([2, 5, heads * dtype_dim]), heads);
            let angles = Rotary {
                cos: angles.cos.clone().cast(leaves.dtype),
                sin: angles.sin.clone().cast(leaves.dtype),
            };
            join_heads(rotary_norm(x, &angles, 1.7))
        });
    }
}

#[test]
fn attention_is_the_plain_one() {
    // One block of queries, a second one begun, several; groups of heads; windows inside and across blocks.
    for (seq, heads, kv_heads, dim) in [(1, 1, 1, 2), (7, 4, 2, 8), (65, 2, 1, 4), (200, 3, 3, 33)] {
        for window in [None, Some(1), Some(5), Some(70), Some(1000)] {
            check(5e-6, |leaves| {
                let mut random = |heads| split_heads(leaves.random([2, seq, heads * dim]), heads);
                let (query, key, value) = (random(heads) * 3.0, random(kv_heads) * 3.0, random(kv_heads));
                join_heads(attention(query, key, value, window))
            });
        }
    }
}

#[test]
fn attention_takes_heads_of_any_layout() {
    check(5e-6, |leaves| {
        let query = leaves.random([2, 4, 9, 6]);
        let key = leaves.random([6, 9, 2, 2]).permute([3, 2, 1, 0]);
        attention(query, key, leaves.random([2, 2, 9, 5]), Some(4))
    });
}

#[test]
fn attention_in_bf16_is_off_by_the_rounding_of_its_factors() {
    for (seq, window) in [(80, None), (101, None), (101, Some(4)), (101, Some(70))] {
        check(3e-2, |leaves| {
            let (query, key) = (leaves.random([2, 4, seq, 16]), leaves.random([2, 2, seq, 16]));
            let value = leaves.random([2, 2, seq, 16]);
            if leaves.dtype == DType::F32 {
                let window = window.unwrap_or(usize::MAX);
                cpu::attention(query, key, value, window, kernels::Precision::Bf16)
            } else {
                attention(query, key, value, window)
            }
        });
    }
}

#[test]
fn in_bf16_a_token_that_sees_itself_alone_has_no_gradient_by_its_key() {
    let leaf = |seed| Tensor::from_inner(random([1, 2, 5, 16], seed));
    let [query, key, value] = [1, 2, 3].map(|seed| leaf(seed).require_grad());
    let precision = kernels::Precision::Bf16;
    let out = cpu::attention(query.clone(), key.clone(), value.clone(), 1, precision);
    let gradients = (out * leaf(4)).sum().backward();
    for leaf in [query, key] {
        let largest = leaf.grad(&gradients).expect("a leaf").abs().max().into_scalar::<f32>();
        assert!(largest < 1e-5, "{largest:e}");
    }
}

#[test]
fn mlps_are_the_plain_ones() {
    for (width, hidden) in [(4, 16), (33, 7), (1, 1), (64, 255)] {
        check(5e-6, |leaves| {
            let x = leaves.random([2, 3, width]);
            mlp(x, leaves.random([width, hidden]), leaves.random([hidden, width]))
        });
        check(5e-6, |leaves| {
            let (x, gate) = (leaves.random([2, 3, width]), leaves.random([width, hidden]));
            swiglu(x, gate, leaves.random([width, hidden]), leaves.random([hidden, width]))
        });
    }
}

#[test]
fn mix_is_the_plain_one() {
    check(2e-6, |leaves| mix(leaves.random([2, 3, 700]), leaves.random([2, 3, 700]), leaves.random([1, 2])));
}

#[test]
fn head_loss_is_the_plain_one() {
    let targets: Vec<i32> = (0..150).map(|i| i * 7 % 11).collect();
    let targets = ids(&targets, [3, 50]);
    for cap in [5.0, 15.0, 60.0, f64::INFINITY] {
        check(5e-6, |leaves| {
            let (hidden, head) = (leaves.random([3, 50, 8]) * 3.0, leaves.random([8, 11]) * 3.0);
            head_loss(hidden, head, targets.clone(), cap) * 150.0
        });
    }
    // Several blocks, the last one short.
    let many: Vec<i32> = (0..300).map(|i| i * 977 % 33_000).collect();
    check(5e-6, |leaves| {
        let (hidden, head) = (leaves.random([1, 300, 4]), leaves.random([4, 33_000]));
        head_loss(hidden, head, ids(&many, [1, 300]), 15.0) * 300_000.0
    });
}

#[test]
fn queries_keys_and_values_are_three_linear_layers() {
    check(2e-6, |leaves| {
        let x = leaves.random([2, 7, 31]);
        let weights = [leaves.random([31, 12]), leaves.random([31, 6]), leaves.random([31, 6])];
        let [query, key, value] = qkv(x, weights);
        Tensor::cat(vec![query, key * 2.0, value * 3.0], 2)
    });
    // An output that nothing depends on leaves the others their gradients, and its own weight none.
    let x = random([1, 3, 4], 1);
    let leaves = [2, 3, 4].map(|seed| Tensor::from_inner(random([4, 4], seed)).require_grad());
    let [query, _, value] = qkv(Tensor::from_inner(x.clone()), leaves.clone());
    let gradients = (query + value).sum().backward();
    let expected = x.clone().sum_dim(1).reshape([4, 1]).repeat_dim(1, 4);
    assert_close(leaves[0].grad(&gradients).unwrap(), expected.clone(), 1e-5);
    assert_close(leaves[2].grad(&gradients).unwrap(), expected, 1e-5);
    assert!(leaves[1].grad(&gradients).is_none());
}

#[test]
fn a_residual_adds_to_the_stream_what_comes_of_its_norm() {
    check(2e-6, |leaves| {
        let weight = leaves.random([31, 31]);
        residual(leaves.random([2, 5, 31]), |x| linear(x, weight))
    });
    // Either way alone.
    check(2e-6, |leaves| residual(leaves.random([2, 5, 31]), |x| x * 0.0));
    check(2e-6, |leaves| {
        let x = leaves.random([2, 5, 31]);
        x.clone() * residual(x, |normed| normed.clone() * normed)
    });
}

#[test]
fn activations_are_the_plain_ones() {
    // Both tails as well: numbers from -12 to 12.
    check(2e-6, |leaves| squared_relu(leaves.random([2, 3, 255]) * 12.0));
    check(2e-6, |leaves| gelu(leaves.random([2, 3, 255]) * 12.0));
    check(2e-6, |leaves| silu(leaves.random([2, 3, 255]) * 12.0));
}

#[test]
fn softcap_is_the_plain_one() {
    check(2e-6, |leaves| softcap(leaves.random([2, 3, 5]) * 40.0, 15.0));
    check(2e-6, |leaves| softcap(leaves.random([2, 3, 5]), f64::INFINITY));
}

#[test]
fn any_other_operation_may_stand_between_them() {
    check(1e-5, |leaves| {
        let x = rms_norm(leaves.random([2, 5, 6]));
        let hidden = activation::gelu(linear(x.clone(), leaves.random([6, 9]))).powf_scalar(2.0);
        (linear(hidden, leaves.random([9, 6])) + x).tanh()
    });
}

#[test]
fn an_input_that_needs_no_gradient_gets_none() {
    let (x, weight) = (random([2, 3, 4], 1), random([4, 5], 2));
    let leaf = Tensor::from_inner(weight).require_grad();
    let output = linear(Tensor::from_inner(x.clone()), leaf.clone());
    let gradient = leaf.grad(&output.sum().backward()).unwrap();
    let columns = x.reshape([6, 4]).sum_dim(0).reshape([4, 1]).expand([4, 5]);
    assert_close(gradient, columns, 1e-6);
}

#[test]
fn gradient_by_finite_differences() {
    let (query, key, value) = (random([2, 4, 6, 8], 1), random([2, 2, 6, 8], 2), random([2, 2, 6, 8], 3));
    check_gradient(query.clone(), |q| attention(q, key.clone(), value.clone(), Some(3)));
    check_gradient(key.clone(), |k| attention(query.clone(), k, value.clone(), Some(3)));
    check_gradient(value.clone(), |v| attention(query.clone(), key.clone(), v, Some(3)));
    let (x, up, down) = (random([2, 3, 4], 1), random([4, 16], 2), random([16, 4], 3));
    check_gradient(x.clone(), |x| mlp(x, up.clone(), down.clone()));
    for f in [squared_relu, gelu, silu] {
        check_gradient(x.clone(), f);
    }
    check_gradient(x.clone(), |x| swiglu(x, up.clone(), up.clone(), down.clone()));
    check_gradient(x, rms_norm);
    let angles = Rotary::new(6, 8, 100.0, &device());
    check_gradient(query, |x| rotary_norm(x, &angles, 1.3));
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
    for attend in [attention, attention_composed, attention_of_backend] {
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
    for attend in [attention, attention_composed, attention_of_backend] {
        assert_close(attend(query.clone(), key.clone(), value.clone(), Some(1)), value.clone(), 1e-6);
    }
}

#[test]
fn a_window_hides_exactly_what_lies_before_it() {
    let (query, key, value) = (random([1, 1, 8, 4], 1), random([1, 1, 8, 4], 2), random([1, 1, 8, 4], 3));
    let first_changed = |x: Tensor<4>| Tensor::cat(vec![random([1, 1, 1, 4], 9), x.narrow(2, 1, 7)], 2);
    for attend in [attention, attention_composed, attention_of_backend] {
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
    for attend in [attention, attention_composed, attention_of_backend] {
        for window in [None, Some(2)] {
            let grouped = attend(query.clone(), key.clone(), value.clone(), window);
            let plain = attend(query.clone(), repeated(&key), repeated(&value), window);
            assert_close(grouped, plain, 1e-5);
        }
    }
}

#[test]
fn mlp_squares_what_relu_lets_through() {
    let identity = Tensor::<2>::eye(3, &device());
    let x = Tensor::<3>::from_floats([[[-2.0, 0.5, 3.0]]], &device());
    let expected = Tensor::<3>::from_floats([[[0.0, 0.25, 9.0]]], &device());
    assert_close(mlp(x, identity.clone(), identity), expected, 1e-6);
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
fn bytes_of_a_known_model() {
    // A thousand weights, 10 tokens: 20 bytes a weight and micro-batch, 28 a weight and step; 2 layers of 8 x 4 + 2 x 16
    // numbers, 8 bytes each.
    let layers = 2.0 * (8.0 * 4.0 + 2.0 * 16.0) * 8.0;
    assert_eq!(bytes_per_token(1000, 10, 1, 2, 4, 16), 48_000.0 / 10.0 + layers);
    assert_eq!(bytes_per_token(1000, 10, 4, 2, 4, 16), 108_000.0 / 40.0 + layers);
}

#[test]
fn heads_split_and_join_without_loss() {
    let x = Tensor::<3>::random([2, 5, 12], Distribution::Default, &device());
    assert_close(join_heads(split_heads(x.clone(), 3)), x, 0.0);
}
