//! A trainable matrix with its gradient and what its optimiser remembers.

use burn::tensor::{Device, Distribution, Gradients, Tensor};

use crate::kernels::optimiser;
use crate::ops;

/// A trainable matrix. Vectors are matrices of one row.
#[derive(Debug)]
pub struct Param {
    value: Tensor<2>,
    gradient: Option<Tensor<2>>,
    pub(super) memory: Memory,
}

/// What an optimiser remembers about one parameter. A rule that finds another's memory starts afresh.
#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "one a parameter, and it stays where it is")]
pub(super) enum Memory {
    #[default]
    Nothing,
    AdamW {
        steps: i32,
        mean: Tensor<2>,
        square: Tensor<2>,
    },
    Muon {
        momentum: Tensor<2>,
    },
}

impl Param {
    /// A parameter that starts at `value`.
    pub fn new(value: Tensor<2>) -> Self {
        Param { value: value.detach().require_grad(), gradient: None, memory: Memory::Nothing }
    }

    /// Normal random numbers around zero.
    pub fn normal(shape: [usize; 2], standard_deviation: f64, device: &Device) -> Self {
        Param::new(Tensor::random(shape, Distribution::Normal(0.0, standard_deviation), device))
    }

    /// Uniform random numbers with the given standard deviation: no outliers.
    pub fn uniform(shape: [usize; 2], standard_deviation: f64, device: &Device) -> Self {
        let bound = 3f64.sqrt() * standard_deviation;
        Param::new(Tensor::random(shape, Distribution::Uniform(-bound, bound), device))
    }

    /// The same number everywhere.
    pub fn full(shape: [usize; 2], number: f64, device: &Device) -> Self {
        Param::new(Tensor::full(shape, number, device))
    }

    /// The value, to compute with. A cheap handle, not a copy.
    pub fn get(&self) -> Tensor<2> {
        self.value.clone()
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.value.dims()
    }

    /// Numbers in it.
    pub fn count(&self) -> usize {
        self.dims().into_iter().product()
    }

    /// Adds this parameter's part of `gradients`, times `weight`, to what the next step will use.
    pub fn accumulate(&mut self, gradients: &mut Gradients, weight: f64) {
        let Some(new) = self.value.grad_remove(gradients) else { return };
        let new = if weight == 1.0 { new } else { new * weight };
        self.gradient = Some(match self.gradient.take() {
            Some(sum) => sum + new,
            None => new,
        });
    }

    /// The accumulated gradient, where there is one.
    pub fn gradient(&self) -> Option<Tensor<2>> {
        self.gradient.clone()
    }

    /// Ends training: the value leaves the gradient machinery, so that computing with it is cheaper.
    pub fn freeze(&mut self) {
        (self.gradient, self.memory) = (None, Memory::Nothing);
        self.value = self.value.clone().inner();
    }

    /// Hands value, gradient and memory to a rule and keeps the value it returns. Without a gradient
    /// nothing happens.
    pub(super) fn update(&mut self, rule: impl FnOnce(Tensor<2>, Tensor<2>, &mut Memory) -> Tensor<2>) {
        let Some(gradient) = self.gradient.take() else { return };
        let placeholder = Tensor::empty([1, 1], &gradient.device());
        let value = std::mem::replace(&mut self.value, placeholder).inner();
        self.value = Tensor::from_inner(rule(value, gradient, &mut self.memory)).require_grad();
    }
}

/// Lets `change` write the numbers of plain tensors on the CPU, in place where no other handle shares them.
pub(super) fn changed<const N: usize>(
    tensors: [Tensor<2>; N],
    change: impl FnOnce([&mut [f32]; N]),
) -> [Tensor<2>; N] {
    let mut storages = tensors.map(ops::storage);
    change(storages.each_mut().map(ops::numbers_mut));
    storages.map(ops::tensor_of)
}

/// Scales all gradients down together so that their joint norm is at most `limit`, and returns the norm they
/// had (Pascanu et al., <https://arxiv.org/abs/1211.5063>).
pub fn clip_gradients(params: &mut [&mut Param], limit: f64) -> f64 {
    let norm = joint_norm(params);
    if norm > limit {
        let factor = limit / norm;
        for param in params {
            param.gradient = param.gradient.take().map(|gradient| {
                if !ops::is_on_cpu(&gradient) {
                    return gradient * factor;
                }
                let [gradient] = changed([gradient], |[gradient]| optimiser::scale(gradient, factor as f32));
                gradient
            });
        }
    }
    norm
}

fn joint_norm(params: &[&mut Param]) -> f64 {
    let gradients: Vec<_> = params.iter().filter_map(|param| param.gradient()).collect();
    if gradients.iter().all(ops::is_on_cpu) {
        let square = |gradient| optimiser::sum_of_squares(ops::numbers(&ops::storage(gradient)));
        return gradients.into_iter().map(square).sum::<f64>().sqrt();
    }
    let squares = gradients.into_iter().map(|gradient| gradient.square().sum());
    let total = squares.reduce(|sum, square| sum + square);
    total.map_or(0.0, |total| f64::from(total.into_scalar::<f32>()).sqrt())
}
