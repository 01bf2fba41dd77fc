//! The head and the loss as one operation that never holds all logits.
//!
//! Logits are by far the largest tensor of a small model. Here a block of tokens at a time goes through the
//! head, its loss and the gradient of both, while it is in the cache, on every core. The gradient is written
//! out by hand and handed to the gradient machinery through a product that has it as its derivative. Doing
//! without the logits is the idea of Cut Cross-Entropy (Wijmans et al., <https://arxiv.org/abs/2411.09009>).

use std::num::NonZero;
use std::thread;

use burn::tensor::{Int, Tensor};

/// Tokens in a block. With a vocabulary of 4096, a block of logits is a megabyte.
const BLOCK: usize = 64;

/// What one block, or the sum of several, comes to.
struct Part {
    loss: Tensor<1>,        // [1], summed over tokens
    hidden: Vec<Tensor<2>>, // [block, width] each: gradient of the hidden states
    head: Tensor<2>,        // [width, vocab]: gradient of the head
}

/// The same as [`loss`](super::loss) of [`linear`](super::linear)`(hidden, head)`, faster.
///
/// A cap above 30 goes the plain way.
pub fn head_loss(
    hidden: Tensor<3>,       // [rows, seq, width]
    head: Tensor<2>,         // [width, vocab]
    targets: Tensor<2, Int>, // [rows, seq]
    cap: f64,
) -> Tensor<1> {
    if !(cap > 0.0 && cap <= super::LARGEST_SHIFT) {
        return super::loss(super::linear(hidden, head), targets, cap);
    }
    let [rows, seq, width] = hidden.dims();
    let tokens = rows * seq;
    let hidden = hidden.reshape([tokens, width]);
    let targets = targets.inner().reshape([tokens, 1]); // [tokens, 1]
    let part = on_all_cores(hidden.clone().inner(), head.clone().inner(), targets, cap);

    let scale = 1.0 / tokens as f64;
    let hidden_gradient = Tensor::cat(part.hidden, 0) * scale; // [tokens, width]
    let head_gradient = part.head * scale; // [width, vocab]
    // Its derivatives by `hidden` and `head` are those gradients; its value is taken out again.
    let carrier = (hidden * Tensor::from_inner(hidden_gradient)).sum()
        + (head * Tensor::from_inner(head_gradient)).sum();
    Tensor::from_inner(part.loss * scale) + carrier.clone() - carrier.detach()
}

fn on_all_cores(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<2, Int>, cap: f64) -> Part {
    let [tokens, _] = hidden.dims();
    // Devices other than the CPU find their own parallelism, and want large blocks.
    let (cores, block) = if cfg!(any(feature = "cuda", feature = "metal", feature = "wgpu")) {
        (1, tokens)
    } else {
        (thread::available_parallelism().map_or(1, NonZero::get), BLOCK)
    };
    let share = tokens.div_ceil(cores).next_multiple_of(block);
    let parts: Vec<Part> = thread::scope(|scope| {
        let threads: Vec<_> = (0..tokens)
            .step_by(share)
            .map(|first| {
                let count = share.min(tokens - first);
                let hidden = hidden.clone().narrow(0, first, count);
                let targets = targets.clone().narrow(0, first, count);
                let head = head.clone();
                scope.spawn(move || in_blocks(hidden, head, targets, cap, block))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Part>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    parts.into_iter().reduce(Part::plus).expect("a batch has tokens")
}

fn in_blocks(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<2, Int>, cap: f64, block: usize) -> Part {
    let [tokens, _] = hidden.dims();
    let blocks = (0..tokens).step_by(block).map(|first| {
        let count = block.min(tokens - first);
        let hidden = hidden.clone().narrow(0, first, count);
        of_block(hidden, head.clone(), targets.clone().narrow(0, first, count), cap)
    });
    blocks.reduce(Part::plus).expect("a share has tokens")
}

/// Loss and gradients of one block, with `y = 2 cap sigmoid(2 x / cap) - cap` for the softcap.
fn of_block(hidden: Tensor<2>, head: Tensor<2>, targets: Tensor<2, Int>, cap: f64) -> Part {
    let logits = hidden.clone().matmul(head.clone()); // [block, vocab]
    let bent = burn::tensor::activation::sigmoid(logits * (2.0 / cap)); // [block, vocab], in 0..1
    let target = bent.clone().gather(1, targets.clone()) * (2.0 * cap) - 2.0 * cap; // [block, 1]
    let weights = (bent.clone() * (2.0 * cap) - 2.0 * cap).exp(); // [block, vocab], at most 1
    let total = weights.clone().sum_dim(1); // [block, 1]
    let loss = (total.clone().log() - target).sum(); // [1]
    // By the bent logits it is the probabilities, less one at the target.
    let one = Tensor::full(targets.dims(), -1.0, &total.device()); // [block, 1]
    let by_bent = (weights * total.recip()).scatter(1, targets, one, burn::tensor::IndexingUpdateOp::Add);
    // By the logits, times the slope of the bend, 4 s (1 - s); the 4 is left to the small results.
    let slope = bent.clone() - bent.square(); // [block, vocab]
    let by_logits = by_bent * slope; // [block, vocab]
    Part {
        loss,
        hidden: vec![by_logits.clone().matmul(head.transpose()) * 4.0], // [block, width]
        head: hidden.transpose().matmul(by_logits) * 4.0,               // [width, vocab]
    }
}

impl Part {
    fn plus(mut self, other: Part) -> Part {
        self.hidden.extend(other.hidden);
        Part { loss: self.loss + other.loss, hidden: self.hidden, head: self.head + other.head }
    }
}
