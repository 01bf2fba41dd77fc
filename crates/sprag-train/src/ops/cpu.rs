//! The operations on the CPU, by [`kernels`](crate::kernels), each with its gradient.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Tensor};

use super::Rotary;
use super::fused::{
    Gradient, GradientOfSeveral, apply, apply_several, contiguous, dims, heads, ids, numbers, numbers_mut,
    storage, tensor, tensor_of_heads, with_whole_vectors,
};
use crate::kernels::activation::Activation;
use crate::kernels::attention::Attention;
use crate::kernels::memory::Buffer;
use crate::kernels::mlp::{Hidden, Mlp};
use crate::kernels::rotary::Angles;
use crate::kernels::{
    Matrix, MatrixMut, Precision, activation, loss, matmul, mix as mixing, norm, optimiser, product, rotary,
};

/// A tensor of any number of dimensions as rows of its last one.
fn rows_of(x: &FlexTensor) -> Matrix<'_> {
    let width = x.layout().shape().last().copied().unwrap_or(1);
    let numbers = numbers(x);
    Matrix::new(numbers, numbers.len() / width.max(1), width)
}

/// A new tensor like `x`, filled by `f`.
fn like(x: &FlexTensor, f: impl FnOnce(&mut [f32])) -> FlexTensor {
    let mut out = Buffer::new(numbers(x).len());
    f(&mut out);
    shaped_like(out, x)
}

fn shaped_like(buffer: Buffer, x: &FlexTensor) -> FlexTensor {
    tensor(buffer, [numbers(x).len()]).reshape(x.layout().shape().clone())
}

// --- Embedding ---

#[derive(Clone, Debug)]
struct EmbeddingGradient {
    tokens: Arc<Vec<usize>>,
    shape: [usize; 2],
}

pub(super) fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
    let [rows, seq] = tokens.dims();
    let tokens = ids(tokens);
    let output = apply([table.into_dispatch()], |[table]| {
        let table = contiguous(table);
        let [vocab, width] = dims(&table);
        let mut out = Buffer::new(tokens.len() * width);
        loss::take_rows(&mut out, &tokens, rows_of(&table));
        let gradient = EmbeddingGradient { tokens: Arc::new(tokens), shape: [vocab, width] };
        (tensor(out, [rows, seq, width]), gradient)
    });
    Tensor::from_dispatch(output)
}

impl Gradient<1> for EmbeddingGradient {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [vocab, width] = self.shape;
        let mut by_table = Buffer::zeros(vocab * width);
        loss::add_rows(&mut by_table, &self.tokens, numbers(&contiguous(output)), width);
        [Some(tensor(by_table, [vocab, width]))]
    }
}

// --- Linear ---

#[derive(Clone, Debug)]
struct LinearGradient {
    x: FlexTensor,
    weight: FlexTensor,
    precision: Precision,
}

pub(super) fn linear(x: Tensor<3>, weight: Tensor<2>, precision: Precision) -> Tensor<3> {
    let output = apply([x.into_dispatch(), weight.into_dispatch()], |inputs| {
        let [x, weight] = inputs.map(contiguous);
        let [rows, seq, _] = dims(&x);
        let out = product(rows_of(&x), rows_of(&weight), precision);
        let out = tensor(out, [rows, seq, rows_of(&weight).cols()]);
        (out, LinearGradient { x, weight, precision })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<2> for LinearGradient {
    fn backward(self, output: FlexTensor, [x, weight]: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let output = contiguous(output);
        let gradient = rows_of(&output);
        let by_x = || product(gradient, rows_of(&self.weight).transposed(), self.precision);
        let by_weight = || product(rows_of(&self.x).transposed(), gradient, self.precision);
        [x.then(|| shaped_like(by_x(), &self.x)), weight.then(|| shaped_like(by_weight(), &self.weight))]
    }
}

#[derive(Clone, Debug)]
struct QkvGradient {
    x: FlexTensor,
    weights: [FlexTensor; 3],
    precision: Precision,
}

pub(super) fn qkv(x: Tensor<3>, weights: [Tensor<2>; 3], precision: Precision) -> [Tensor<3>; 3] {
    let [query, key, value] = weights.map(Tensor::into_dispatch);
    let outputs = apply_several([x.into_dispatch(), query, key, value], |inputs| {
        let [x, query, key, value] = inputs.map(contiguous);
        let weights = [query, key, value];
        let [rows, seq, _] = dims(&x);
        let outputs = weights.each_ref().map(|weight| {
            let out = product(rows_of(&x), rows_of(weight), precision);
            tensor(out, [rows, seq, rows_of(weight).cols()])
        });
        (outputs, QkvGradient { x, weights, precision })
    });
    outputs.map(Tensor::from_dispatch)
}

impl GradientOfSeveral<4, 3> for QkvGradient {
    fn backward(self, outputs: [Option<FlexTensor>; 3], wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let mut by_x = None;
        let mut by_weights = [None, None, None];
        for (which, output) in outputs.into_iter().enumerate() {
            let Some(output) = output.map(contiguous) else { continue };
            let (gradient, weight) = (rows_of(&output), &self.weights[which]);
            if wanted[0] {
                let add = by_x.is_some();
                let by_x = by_x.get_or_insert_with(|| Buffer::new(numbers(&self.x).len()));
                let to = MatrixMut::new(by_x, gradient.rows(), rows_of(&self.x).cols());
                matmul(to, gradient, rows_of(weight).transposed(), add, self.precision);
            }
            if wanted[which + 1] {
                let by_weight = product(rows_of(&self.x).transposed(), gradient, self.precision);
                by_weights[which] = Some(shaped_like(by_weight, weight));
            }
        }
        let [query, key, value] = by_weights;
        [by_x.map(|by_x| shaped_like(by_x, &self.x)), query, key, value]
    }
}

// --- Norms and positions ---

#[derive(Clone, Debug)]
struct NormGradient {
    x: FlexTensor,
}

pub(super) fn rms_norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let output = apply([x.into_dispatch()], |inputs| {
        let [x] = inputs.map(contiguous);
        let out = like(&x, |out| norm::rms_norm(out, numbers(&x), rows_of(&x).cols()));
        (out, NormGradient { x })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<1> for NormGradient {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (x, output) = (self.x, contiguous(output));
        let width = rows_of(&x).cols();
        [Some(like(&x, |out| norm::rms_norm_gradient(out, numbers(&x), numbers(&output), width, false)))]
    }
}

#[derive(Clone, Debug)]
struct BranchGradient {
    x: FlexTensor,
}

/// `x` and its norm. Their gradients meet in one pass.
pub(super) fn norm_branch(x: Tensor<3>) -> [Tensor<3>; 2] {
    let outputs = apply_several([x.into_dispatch()], |inputs| {
        let [x] = inputs.map(contiguous);
        let normed = like(&x, |out| norm::rms_norm(out, numbers(&x), rows_of(&x).cols()));
        ([x.clone(), normed], BranchGradient { x })
    });
    outputs.map(Tensor::from_dispatch)
}

impl GradientOfSeveral<1, 2> for BranchGradient {
    fn backward(self, outputs: [Option<FlexTensor>; 2], _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (x, width) = (&self.x, rows_of(&self.x).cols());
        let [stream, normed] = outputs.map(|output| output.map(contiguous));
        let Some(normed) = normed else { return [stream] };
        let Some(mut stream) = stream else {
            let gradient =
                |out: &mut [f32]| norm::rms_norm_gradient(out, numbers(x), numbers(&normed), width, false);
            return [Some(like(x, gradient))];
        };
        norm::rms_norm_gradient(numbers_mut(&mut stream), numbers(x), numbers(&normed), width, true);
        [Some(stream)]
    }
}

#[derive(Clone, Debug)]
struct SumGradient;

pub(super) fn add(x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    assert!(x.dims() == y.dims(), "two activations alike, not {:?} and {:?}", x.dims(), y.dims());
    let output = apply([x.into_dispatch(), y.into_dispatch()], |inputs| {
        let [x, y] = inputs.map(contiguous);
        (like(&x, |out| mixing::mix(out, numbers(&x), numbers(&y), [1.0, 1.0])), SumGradient)
    });
    Tensor::from_dispatch(output)
}

impl Gradient<2> for SumGradient {
    fn backward(self, output: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        [Some(output.clone()), Some(output)]
    }
}

#[derive(Clone, Debug)]
struct RotaryNormGradient {
    x: FlexTensor,
    cos: FlexTensor,
    sin: FlexTensor,
    scale: f32,
}

impl RotaryNormGradient {
    fn angles(&self) -> Angles<'_> {
        Angles { cos: numbers(&self.cos), sin: numbers(&self.sin) }
    }
}

pub(super) fn rotary_norm(x: Tensor<4>, angles: &Rotary, scale: f64) -> Tensor<4> {
    let ([_, _, seq, dim], [_, _, positions, half]) = (x.dims(), angles.cos.dims());
    assert!(
        dim == 2 * half && seq <= positions,
        "angles for {positions} x {} do not fit {seq} x {dim}",
        2 * half
    );
    let (cos, sin) = (storage(angles.cos.clone()), storage(angles.sin.clone()));
    let output = apply([x.into_dispatch()], |[x]| {
        let gradient = RotaryNormGradient { x: with_whole_vectors(x), cos, sin, scale: scale as f32 };
        let view = heads(&gradient.x);
        let mut out = Buffer::new(view.shape().into_iter().product::<usize>() * view.dim());
        rotary::rotary_norm(&mut out, view, gradient.angles(), gradient.scale);
        (tensor_of_heads(out, view.shape(), view.dim()), gradient)
    });
    Tensor::from_dispatch(output)
}

impl Gradient<1> for RotaryNormGradient {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let output = with_whole_vectors(output);
        let view = heads(&self.x);
        let mut by_x = Buffer::new(view.shape().into_iter().product::<usize>() * view.dim());
        rotary::rotary_norm_gradient(&mut by_x, view, heads(&output), self.angles(), self.scale);
        [Some(tensor_of_heads(by_x, view.shape(), view.dim()))]
    }
}

// --- Attention ---

#[derive(Clone, Debug)]
struct AttentionGradient {
    attention: Attention,
    inputs: [FlexTensor; 3],
    output: FlexTensor,
    log_sums: Arc<Buffer>,
}

pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    window: usize,
    precision: Precision,
) -> Tensor<4> {
    let [_, _, _, dim] = query.dims();
    let attention = Attention { window: window.max(1), scale: (dim as f32).sqrt().recip(), precision };
    let output = apply([query, key, value].map(Tensor::into_dispatch), |inputs| {
        let inputs = inputs.map(with_whole_vectors);
        let [query, key, value] = inputs.each_ref().map(heads);
        let queries = query.shape().into_iter().product::<usize>();
        let (mut out, mut log_sums) = (Buffer::new(queries * value.dim()), Buffer::new(queries));
        attention.forward(&mut out, &mut log_sums, query, key, value);
        let output = tensor_of_heads(out, query.shape(), value.dim());
        (output.clone(), AttentionGradient { attention, inputs, output, log_sums: Arc::new(log_sums) })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<3> for AttentionGradient {
    fn backward(self, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let gradient = with_whole_vectors(gradient);
        let [of_query, of_key, of_value] = self.inputs.each_ref().map(heads);
        let [mut query, mut key, mut value] = [of_query, of_key, of_value]
            .map(|view| Buffer::new(view.shape().into_iter().product::<usize>() * view.dim()));
        let by = [&mut query[..], &mut key[..], &mut value[..]];
        let views = [heads(&self.output), of_query, of_key, of_value];
        self.attention.backward(by, heads(&gradient), views, &self.log_sums);
        [(query, of_query), (key, of_key), (value, of_value)]
            .map(|(by, view)| Some(tensor_of_heads(by, view.shape(), view.dim())))
    }
}

// --- Activations ---

#[derive(Clone, Debug)]
struct ActivationGradient {
    x: FlexTensor,
    f: Activation,
}

pub(super) fn activate<const D: usize>(x: Tensor<D>, f: Activation) -> Tensor<D> {
    let output = apply([x.into_dispatch()], |inputs| {
        let [x] = inputs.map(contiguous);
        (like(&x, |out| activation::activate(out, numbers(&x), f)), ActivationGradient { x, f })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<1> for ActivationGradient {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut output = contiguous(output);
        activation::activate_gradient(numbers_mut(&mut output), numbers(&self.x), self.f);
        [Some(output)]
    }
}

// --- MLP ---

#[derive(Clone, Debug)]
struct MlpGradient {
    x: FlexTensor,
    up: FlexTensor,
    down: FlexTensor,
    precision: Precision,
    hidden: Arc<Hidden>,
}

pub(super) fn mlp(x: Tensor<3>, up: Tensor<2>, down: Tensor<2>, precision: Precision) -> Tensor<3> {
    let output = apply([x.into_dispatch(), up.into_dispatch(), down.into_dispatch()], |inputs| {
        let [x, up, down] = inputs.map(contiguous);
        let ([rows, seq, _], [_, outputs]) = (dims(&x), dims(&down));
        let (out, hidden) = Mlp { up: rows_of(&up), down: rows_of(&down), precision }.forward(rows_of(&x));
        (tensor(out, [rows, seq, outputs]), MlpGradient { x, up, down, precision, hidden: Arc::new(hidden) })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<3> for MlpGradient {
    fn backward(self, output: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (x, output) = (rows_of(&self.x), contiguous(output));
        let mlp = Mlp { up: rows_of(&self.up), down: rows_of(&self.down), precision: self.precision };
        let [by_x, by_up, by_down] = mlp.backward(x, &self.hidden, rows_of(&output), wanted);
        let pairs = [(by_x, &self.x), (by_up, &self.up), (by_down, &self.down)];
        pairs.map(|(by, like)| by.map(|by| shaped_like(by, like)))
    }
}

#[derive(Clone, Debug)]
struct SwigluGradient {
    /// `x`, `gate`, `up`, `down`.
    inputs: [FlexTensor; 4],
    /// Before the activation, `[tokens, hidden]`: through the gate, and up.
    hidden: [Arc<Buffer>; 2],
    precision: Precision,
}

pub(super) fn swiglu(x: Tensor<3>, [gate, up, down]: [Tensor<2>; 3], precision: Precision) -> Tensor<3> {
    let inputs = [x.into_dispatch(), gate.into_dispatch(), up.into_dispatch(), down.into_dispatch()];
    let output = apply(inputs, |inputs| {
        let inputs = inputs.map(contiguous);
        let [x, gate, up, down] = &inputs;
        let hidden = [gate, up].map(|weight| Arc::new(product(rows_of(x), rows_of(weight), precision)));
        let mut activated = Buffer::new(hidden[0].len());
        activation::swiglu(&mut activated, &hidden[0], &hidden[1]);
        let ([rows, seq, _], [width, outputs]) = (dims(x), dims(down));
        let out = product(Matrix::new(&activated, rows * seq, width), rows_of(down), precision);
        (tensor(out, [rows, seq, outputs]), SwigluGradient { inputs, hidden, precision })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<4> for SwigluGradient {
    fn backward(self, output: FlexTensor, _: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let output = contiguous(output);
        let (gradient, precision) = (rows_of(&output), self.precision);
        let [x, gate, up, down] = &self.inputs;
        let [width, _] = dims(down);
        let [through_gate, through_up] = &self.hidden;
        let mut activated = Buffer::new(through_up.len());
        activation::swiglu(&mut activated, through_gate, through_up);
        let transposed = Matrix::new(&activated, gradient.rows(), width).transposed();
        let by_down = product(transposed, gradient, precision);
        // Not needed any more: its place is taken.
        let mut by_gate = activated;
        let mut by_up = product(gradient, rows_of(down).transposed(), precision);
        activation::swiglu_gradient(&mut by_gate, &mut by_up, through_gate, through_up);
        let [by_gate, by_up] = [&by_gate, &by_up].map(|numbers| Matrix::new(numbers, gradient.rows(), width));
        let mut by_x = product(by_gate, rows_of(gate).transposed(), precision);
        let to = MatrixMut::new(&mut by_x, gradient.rows(), rows_of(x).cols());
        matmul(to, by_up, rows_of(up).transposed(), true, precision);
        let weight = |by| product(rows_of(x).transposed(), by, precision);
        [
            Some(shaped_like(by_x, x)),
            Some(shaped_like(weight(by_gate), gate)),
            Some(shaped_like(weight(by_up), up)),
            Some(shaped_like(by_down, down)),
        ]
    }
}

// --- Residual stream ---

#[derive(Clone, Debug)]
struct MixGradient {
    inputs: [FlexTensor; 2],
    weights: [f32; 2],
}

pub(super) fn mix(x: Tensor<3>, first: Tensor<3>, weights: Tensor<2>) -> Tensor<3> {
    assert!(x.dims() == first.dims() && weights.dims() == [1, 2], "two activations alike and [1, 2] weights");
    let inputs = [x.into_dispatch(), first.into_dispatch(), weights.into_dispatch()];
    let output = apply(inputs, |inputs| {
        let [x, first, weights] = inputs.map(contiguous);
        let weights = [numbers(&weights)[0], numbers(&weights)[1]];
        let out = like(&x, |out| mixing::mix(out, numbers(&x), numbers(&first), weights));
        (out, MixGradient { inputs: [x, first], weights })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<3> for MixGradient {
    fn backward(self, output: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let output = contiguous(output);
        let [x, first] = &self.inputs;
        let (mut by_x, mut by_first) = (Buffer::new(numbers(x).len()), Buffer::new(numbers(x).len()));
        let by = [&mut by_x[..], &mut by_first[..]];
        let by_weights =
            mixing::mix_gradient(by, numbers(&output), [numbers(x), numbers(first)], self.weights);
        let mut pair = Buffer::new(2);
        pair.copy_from_slice(&by_weights);
        [Some(shaped_like(by_x, x)), Some(shaped_like(by_first, first)), Some(tensor(pair, [1, 2]))]
    }
}

// --- Head and loss ---

#[derive(Clone, Debug)]
struct SoftcapGradient {
    bent: FlexTensor,
    cap: f32,
}

pub(super) fn softcap<const D: usize>(logits: Tensor<D>, cap: f64) -> Tensor<D> {
    let cap = cap as f32;
    let output = apply([logits.into_dispatch()], |inputs| {
        let [logits] = inputs.map(contiguous);
        let bent = like(&logits, |out| activation::softcap(out, numbers(&logits), cap));
        (bent.clone(), SoftcapGradient { bent, cap })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<1> for SoftcapGradient {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let (bent, output) = (self.bent, contiguous(output));
        let by_logits = like(&bent, |out| {
            activation::softcap_gradient(out, numbers(&bent), numbers(&output), self.cap);
        });
        [Some(by_logits)]
    }
}

#[derive(Clone, Debug)]
struct HeadLossGradient {
    /// By hidden states and by the head, of the mean loss.
    by: [FlexTensor; 2],
}

pub(super) fn head_loss(
    hidden: Tensor<3>,
    head: Tensor<2>,
    targets: Tensor<2, Int>,
    cap: f64,
    precision: Precision,
) -> Tensor<1> {
    let targets = ids(targets);
    let output = apply([hidden.into_dispatch(), head.into_dispatch()], |inputs| {
        let [hidden, head] = inputs.map(contiguous);
        let result = loss::head_loss(rows_of(&hidden), rows_of(&head), &targets, cap as f32, precision);
        let by = [shaped_like(result.by_hidden, &hidden), shaped_like(result.by_head, &head)];
        let mut mean = Buffer::new(1);
        mean[0] = result.loss;
        (tensor(mean, [1]), HeadLossGradient { by })
    });
    Tensor::from_dispatch(output)
}

impl Gradient<2> for HeadLossGradient {
    fn backward(self, output: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let factor = numbers(&contiguous(output))[0];
        self.by.map(|mut by| {
            if factor != 1.0 {
                optimiser::scale(numbers_mut(&mut by), factor);
            }
            Some(by)
        })
    }
}
