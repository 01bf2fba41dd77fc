//! AdamW (Loshchilov and Hutter, <https://arxiv.org/abs/1711.05101>).

use burn::tensor::Tensor;

use super::param::{Memory, Param, changed};
use crate::kernels::optimiser;
use crate::ops;

/// Adam with decoupled weight decay: each number moves by about the learning rate.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Size of a step, in units of the parameter.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of their squares.
    pub beta2: f64,
    /// Added to the root of the squares.
    pub epsilon: f64,
    /// Part of the value taken away a step, times the learning rate.
    pub weight_decay: f64,
}

impl AdamW {
    /// Makes one step with the accumulated gradient and uses it up.
    pub fn step(&self, param: &mut Param) {
        param.update(|value, gradient, memory| {
            let (steps, mean, square) = match std::mem::take(memory) {
                Memory::AdamW { steps, mean, square } => (steps + 1, mean, square),
                _ => (1, gradient.zeros_like(), gradient.zeros_like()),
            };
            let (value, mean, square) = if ops::is_on_cpu(&value) {
                self.in_one_pass(value, gradient, mean, square, steps)
            } else {
                self.in_plain_operations(value, gradient, mean, square, steps)
            };
            *memory = Memory::AdamW { steps, mean, square };
            value
        });
    }

    /// Bias corrections, folded into two numbers so that they cost no pass over the tensors: of the mean,
    /// with the learning rate in it, and of the root of the squares.
    fn corrections(&self, steps: i32) -> (f64, f64) {
        let mean = self.learning_rate / (1.0 - self.beta1.powi(steps));
        (mean, (1.0 - self.beta2.powi(steps)).sqrt().recip())
    }

    fn kept(&self) -> f64 {
        1.0 - self.learning_rate * self.weight_decay
    }

    fn in_one_pass(
        &self,
        value: Tensor<2>,
        gradient: Tensor<2>,
        mean: Tensor<2>,
        square: Tensor<2>,
        steps: i32,
    ) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let (mean_scale, root_scale) = self.corrections(steps);
        let step = optimiser::AdamW {
            mean: [self.beta1 as f32, (1.0 - self.beta1) as f32],
            square: [self.beta2 as f32, (1.0 - self.beta2) as f32],
            mean_scale: mean_scale as f32,
            root_scale: root_scale as f32,
            epsilon: self.epsilon as f32,
            kept: self.kept() as f32,
        };
        let gradient = ops::storage(gradient);
        let [value, mean, square] = changed([value, mean, square], |[value, mean, square]| {
            optimiser::adamw(value, mean, square, ops::numbers(&gradient), step);
        });
        (value, mean, square)
    }

    fn in_plain_operations(
        &self,
        value: Tensor<2>,
        gradient: Tensor<2>,
        mean: Tensor<2>,
        square: Tensor<2>,
        steps: i32,
    ) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let (mean_scale, root_scale) = self.corrections(steps);
        let mean = mean * self.beta1 + gradient.clone() * (1.0 - self.beta1);
        let square = square * self.beta2 + gradient.square() * (1.0 - self.beta2);
        let root = square.clone().sqrt() * root_scale + self.epsilon;
        let value = value * self.kept() - mean.clone() * mean_scale / root;
        (value, mean, square)
    }
}
