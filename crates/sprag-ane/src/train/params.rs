//! The numbers that are trained, their gradients and what the optimiser remembers of them.

use rayon::prelude::*;
use sprag_train::kernels::optimiser;

use crate::config::Config;
use crate::recipe::{Gain, Weight};

/// A tensor with its gradient and AdamW's moments, all equally long.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Row by row.
    pub value: Vec<f32>,
    /// Added up since the last step, times the loss scale.
    pub gradient: Vec<f32>,
    /// Running mean of gradients.
    pub mean: Vec<f32>,
    /// Running mean of their squares.
    pub square: Vec<f32>,
}

impl Param {
    /// One that nothing is remembered of.
    pub fn new(value: Vec<f32>) -> Param {
        let zeros = vec![0.0; value.len()];
        Param { value, gradient: zeros.clone(), mean: zeros.clone(), square: zeros }
    }
}

/// A layer's.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// In the order of [`Weight::ALL`], each `[out, in]`.
    pub weights: [Param; 7],
    /// Before attention and before the MLP, `[d_model]`.
    pub gains: [Param; 2],
}

/// A model's.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// `[vocab, d_model]`, also the head.
    pub embedding: Param,
    /// Layers from the first.
    pub layers: Vec<Layer>,
    /// Gain of the last norm, `[d_model]`.
    pub gain: Param,
}

/// How a tensor is moved: which learning rate, and whether it decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Matrices of layers; they decay.
    Matrix,
    /// Gains of norms.
    Gain,
    /// The embedding.
    Embedding,
}

/// A stream of random numbers whose state is one number (SplitMix64, Steele et al., 2014).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn around_zero(&mut self, count: usize, bound: f64) -> Vec<f32> {
        (0..count).map(|_| ((2.0 * self.uniform() - 1.0) * bound) as f32).collect()
    }
}

impl Layer {
    /// A weight.
    pub fn weight(&self, weight: Weight) -> &Param {
        &self.weights[place(weight)]
    }

    /// A gain.
    pub fn gain(&self, gain: Gain) -> &Param {
        &self.gains[usize::from(gain == Gain::Mlp)]
    }

    /// A gain, to be changed.
    pub fn gain_mut(&mut self, gain: Gain) -> &mut Param {
        &mut self.gains[usize::from(gain == Gain::Mlp)]
    }
}

fn place(weight: Weight) -> usize {
    match weight {
        Weight::Query => 0,
        Weight::Key => 1,
        Weight::Value => 2,
        Weight::Output => 3,
        Weight::Gate => 4,
        Weight::Down => 5,
        Weight::Up => 6,
    }
}

impl Params {
    /// Random ones: matrices uniform within one over the root of their inputs, what is added to the stream zero, the embedding
    /// within 0.02, gains one (ncdrone/autoresearch-ANE).
    pub fn random(config: &Config, seed: u64) -> Params {
        let mut random = Random(seed);
        let embedding = Param::new(random.around_zero(config.vocab * config.d_model, 0.02));
        let ones = || Param::new(vec![1.0; config.d_model]);
        let layers = (0..config.n_layer)
            .map(|_| {
                let weights = Weight::ALL.map(|weight| {
                    let [outputs, inputs] = weight.shape(config);
                    let bound = match weight {
                        Weight::Output | Weight::Down => 0.0,
                        Weight::Gate | Weight::Up => 1.0 / (config.d_hidden as f64).sqrt(),
                        _ => 1.0 / (inputs as f64).sqrt(),
                    };
                    Param::new(random.around_zero(outputs * inputs, bound))
                });
                Layer { weights, gains: [ones(), ones()] }
            })
            .collect();
        Params { embedding, layers, gain: ones() }
    }

    /// All with their names and groups, in the order of files.
    pub fn named(&self) -> Vec<(String, Group, &Param)> {
        let mut all = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            for (weight, param) in Weight::ALL.iter().zip(&layer.weights) {
                all.push((format!("layers.{at}.{}", word(*weight)), Group::Matrix, param));
            }
            all.push((format!("layers.{at}.gain_attention"), Group::Gain, &layer.gains[0]));
            all.push((format!("layers.{at}.gain_mlp"), Group::Gain, &layer.gains[1]));
        }
        all.push(("gain".to_owned(), Group::Gain, &self.gain));
        all.push(("embedding".to_owned(), Group::Embedding, &self.embedding));
        all
    }

    /// All, to be changed, in the order of [`Params::named`].
    pub fn all_mut(&mut self) -> Vec<(Group, &mut Param)> {
        let mut all = Vec::new();
        for layer in &mut self.layers {
            all.extend(layer.weights.iter_mut().map(|param| (Group::Matrix, param)));
            all.extend(layer.gains.iter_mut().map(|param| (Group::Gain, param)));
        }
        all.push((Group::Gain, &mut self.gain));
        all.push((Group::Embedding, &mut self.embedding));
        all
    }

    /// Numbers in it.
    pub fn count(&self) -> usize {
        self.named().iter().map(|(_, _, param)| param.value.len()).sum()
    }

    /// Norm of all gradients together, summed in double precision.
    pub fn gradient_norm(&mut self) -> f64 {
        self.all_mut().iter().map(|(_, param)| optimiser::sum_of_squares(&param.gradient)).sum::<f64>().sqrt()
    }

    /// Forgets gradients.
    pub fn clear(&mut self) {
        for (_, param) in self.all_mut() {
            param.gradient.par_chunks_mut(64 * 1024).for_each(|part| part.fill(0.0));
        }
    }
}

/// As files write a weight.
pub fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Query => "wq",
        Weight::Key => "wk",
        Weight::Value => "wv",
        Weight::Output => "wo",
        Weight::Gate => "w1",
        Weight::Down => "w2",
        Weight::Up => "w3",
    }
}
