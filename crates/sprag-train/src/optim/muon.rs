//! Muon: momentum whose steps are made orthogonal (Jordan et al.,
//! <https://kellerjordan.github.io/posts/muon/>).

use burn::tensor::Tensor;

use super::param::{Memory, Param, changed};
use crate::kernels::memory::Buffer;
use crate::kernels::optimiser;
use crate::ops;

/// Coefficients `(a, b, c)` of one iteration `X <- a X + b (X Xt) X + c (X Xt)^2 X`.
type Iteration = (f64, f64, f64);

/// Jordan's quintic: fast rather than exact, singular values end between 0.68 and 1.2, those
/// below a hundredth of the norm lower.
const NEWTON_SCHULZ: [Iteration; 5] = [(3.4445, -4.7750, 2.0315); 5];

/// Polar Express (Amsel et al., <https://arxiv.org/abs/2505.16932>): a best polynomial for each of five
/// iterations, with the safety factor 1.02 of its published table. Singular values end between 0.85 and 1.15.
const POLAR_EXPRESS: [Iteration; 5] = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
];

/// How a matrix is brought near the closest orthogonal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orthogonaliser {
    /// Five equal Newton-Schulz iterations.
    NewtonSchulz,
    /// Five iterations with coefficients of their own; closer to orthogonal at the same cost.
    PolarExpress,
}

/// Momentum with orthogonal steps, for hidden matrices.
#[derive(Clone, Copy, Debug)]
pub struct Muon {
    /// Size of a step: every singular value of a square matrix changes by about this.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub momentum: f64,
    /// Part of the value taken away a step, times the learning rate.
    pub weight_decay: f64,
    /// How steps are made orthogonal.
    pub orthogonaliser: Orthogonaliser,
}

impl Muon {
    /// Makes one step with the accumulated gradient and uses it up.
    pub fn step(&self, param: &mut Param) {
        param.update(|value, gradient, memory| {
            let momentum = match std::mem::take(memory) {
                Memory::Muon { momentum } => momentum,
                _ => gradient.zeros_like(),
            };
            let on_cpu = ops::is_on_cpu(&value);
            let (ahead, momentum) = self.look_ahead(gradient, momentum, on_cpu);
            *memory = Memory::Muon { momentum };
            let [inputs, outputs] = value.dims();
            // Layers that widen take larger steps, so that outputs of every layer change alike.
            let rate = self.learning_rate * (outputs as f64 / inputs as f64).max(1.0).sqrt();
            let change = orthogonalise(ahead, self.orthogonaliser);
            let kept = 1.0 - self.learning_rate * self.weight_decay;
            if !on_cpu {
                return value * kept - change * rate;
            }
            let change = ops::storage(change);
            let [value] = changed([value], |[value]| {
                optimiser::step(value, ops::numbers(&change), kept as f32, rate as f32);
            });
            value
        });
    }

    /// Nesterov: the momentum after this gradient, and where it is going.
    fn look_ahead(&self, gradient: Tensor<2>, momentum: Tensor<2>, on_cpu: bool) -> (Tensor<2>, Tensor<2>) {
        if on_cpu {
            let [ahead, momentum] = changed([gradient, momentum], |[gradient, momentum]| {
                optimiser::nesterov(momentum, gradient, self.momentum as f32);
            });
            return (ahead, momentum);
        }
        let momentum = momentum * self.momentum + gradient.clone() * (1.0 - self.momentum);
        let ahead = gradient * (1.0 - self.momentum) + momentum.clone() * self.momentum;
        (ahead, momentum)
    }
}

/// The orthogonal matrix nearest to `matrix`, about: the same singular vectors, all singular values near one.
pub fn orthogonalise(matrix: Tensor<2>, orthogonaliser: Orthogonaliser) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    // The product X Xt is smallest when X is wide.
    let wide = if rows > columns { matrix.transpose() } else { matrix };
    let (iterations, safety) = match orthogonaliser {
        Orthogonaliser::NewtonSchulz => (&NEWTON_SCHULZ, 1.0),
        Orthogonaliser::PolarExpress => (&POLAR_EXPRESS, 1.02),
    };
    // In a graph, the plain operations have gradients.
    let x = if ops::is_on_cpu(&wide) && !wide.is_autodiff() {
        let shape = wide.dims();
        let wide = ops::storage(wide);
        let mut numbers = Buffer::new(rows * columns);
        numbers.copy_from_slice(ops::numbers(&wide));
        let result = optimiser::orthogonalise(numbers, shape, iterations, safety, ops::precision());
        ops::tensor_of(ops::tensor(result, shape))
    } else {
        in_plain_operations(wide, iterations, safety)
    };
    if rows > columns { x.transpose() } else { x }
}

fn in_plain_operations(wide: Tensor<2>, iterations: &[Iteration], safety: f64) -> Tensor<2> {
    // The Frobenius norm bounds the largest singular value.
    let norm = wide.clone().square().sum().sqrt() * safety + 1e-7; // [1]
    let mut x = wide / norm.reshape([1, 1]);
    for (a, b, c) in iterations {
        let gram = x.clone().matmul(x.clone().transpose()); // [short, short]
        let mixed = gram.clone() * *b + gram.clone().matmul(gram) * *c; // [short, short]
        x = x.clone() * *a + mixed.matmul(x); // [short, long]
    }
    x
}
