//! AdamW (Loshchilov and Hutter, <https://arxiv.org/abs/1711.05101>).

use super::param::{Memory, Param};

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
                Memory::AdamW { steps, mean, square } => (
                    steps + 1,
                    mean * self.beta1 + gradient.clone() * (1.0 - self.beta1),
                    square * self.beta2 + gradient.square() * (1.0 - self.beta2),
                ),
                _ => (1, gradient.clone() * (1.0 - self.beta1), gradient.square() * (1.0 - self.beta2)),
            };
            // Bias corrections, folded into two numbers so that they cost no pass over the tensors.
            let mean_scale = self.learning_rate / (1.0 - self.beta1.powi(steps));
            let square_scale = (1.0 - self.beta2.powi(steps)).sqrt().recip();
            let root = square.clone().sqrt() * square_scale + self.epsilon;
            let change = mean.clone() * mean_scale / root;
            *memory = Memory::AdamW { steps, mean, square };
            let kept = 1.0 - self.learning_rate * self.weight_decay;
            if kept == 1.0 { value - change } else { value * kept - change }
        });
    }
}
