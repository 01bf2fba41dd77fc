//! A pre-norm decoder with the layout of Llama models: RMSNorm with gains, rotary embeddings, grouped queries, SwiGLU, a tied head.
//! What other trainers export is loaded here, scored, and trained on.
//!
//! Source of the layout: `transformers`' Llama (<https://arxiv.org/abs/2302.13971>), with a scale on what each part adds to the
//! stream and a softcap on logits.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::ops::{self, Rotary};
use crate::optim::Param;

/// Sizes and constants that weights do not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderShape {
    /// Layers.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads.
    pub n_kv_head: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Most tokens of a sequence.
    pub max_seq: usize,
    /// What each part is scaled by before it is added to the stream; 1 in Llama.
    pub residual_scale: f64,
    /// Bound on logits in nats; infinite in Llama.
    pub softcap: f64,
    /// Added to mean squares.
    pub epsilon: f64,
    /// Base of rotary angles.
    pub rotary_base: f64,
}

/// A tensor of a file: its sizes, and its numbers row by row.
pub type FileTensor = (Vec<usize>, Vec<f32>);

/// Why weights make no decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderError(String);

impl std::fmt::Display for DecoderError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for DecoderError {}

struct Block {
    gains: [Param; 2],     // [1, d_model]
    attention: [Param; 4], // [d_model, q], [d_model, kv] twice, [q, d_model]
    gate: Param,           // [d_model, hidden]
    up: Param,             // [d_model, hidden]
    down: Param,           // [hidden, d_model]
}

/// The model.
pub struct Decoder {
    shape: DecoderShape,
    embedding: Param, // [vocab, d_model]
    blocks: Vec<Block>,
    gain: Param, // [1, d_model]
    rotary: Rotary,
}

impl Decoder {
    /// A decoder of tensors with the names of Llama models, matrices `[out, in]` as they are stored there.
    ///
    /// # Errors
    /// The first tensor that is missing or has other sizes.
    pub fn new(
        shape: DecoderShape,
        tensors: &BTreeMap<String, FileTensor>,
        device: &Device,
    ) -> Result<Decoder, DecoderError> {
        let look = |name: &str| {
            tensors.get(name).ok_or_else(|| DecoderError(format!("the tensor `{name}` is missing")))
        };
        let (sizes, _) = look("model.embed_tokens.weight")?;
        let d_model = *sizes.get(1).ok_or_else(|| DecoderError("the embedding is no matrix".to_owned()))?;
        let take = |name: &str, rows: Option<usize>, columns: usize| -> Result<Tensor<2>, DecoderError> {
            let (sizes, numbers) = look(name)?;
            let found = match sizes.as_slice() {
                [columns] => [1, *columns],
                [rows, columns] => [*rows, *columns],
                _ => return Err(DecoderError(format!("`{name}` has sizes {sizes:?}"))),
            };
            let fits = rows.is_none_or(|rows| rows == found[0]) && columns == found[1];
            if !fits || numbers.len() != found[0] * found[1] {
                let wanted = rows.map_or_else(|| "..".to_owned(), |rows| rows.to_string());
                return Err(DecoderError(format!(
                    "`{name}` has sizes {sizes:?}, and not [{wanted}, {columns}]"
                )));
            }
            Ok(Tensor::from_data(TensorData::new(numbers.clone(), found), device))
        };
        // Products here take `[in, out]`.
        let turned = |name: &str, rows: Option<usize>, columns: usize| {
            take(name, rows, columns).map(|tensor| Param::new(tensor.transpose()))
        };
        let (q, kv) = (shape.n_head * shape.head_dim, shape.n_kv_head * shape.head_dim);
        let mut blocks = Vec::with_capacity(shape.n_layer);
        for at in 0..shape.n_layer {
            let name = |part: &str| format!("model.layers.{at}.{part}.weight");
            let gate = turned(&name("mlp.gate_proj"), None, d_model)?;
            let hidden = gate.dims()[1];
            blocks.push(Block {
                gains: [
                    Param::new(take(&name("input_layernorm"), Some(1), d_model)?),
                    Param::new(take(&name("post_attention_layernorm"), Some(1), d_model)?),
                ],
                attention: [
                    turned(&name("self_attn.q_proj"), Some(q), d_model)?,
                    turned(&name("self_attn.k_proj"), Some(kv), d_model)?,
                    turned(&name("self_attn.v_proj"), Some(kv), d_model)?,
                    turned(&name("self_attn.o_proj"), Some(d_model), q)?,
                ],
                gate,
                up: turned(&name("mlp.up_proj"), Some(hidden), d_model)?,
                down: turned(&name("mlp.down_proj"), Some(d_model), hidden)?,
            });
        }
        let embedding = Param::new(take("model.embed_tokens.weight", None, d_model)?);
        let gain = Param::new(take("model.norm.weight", Some(1), d_model)?);
        let rotary = Rotary::new(shape.max_seq, shape.head_dim, shape.rotary_base, device);
        Ok(Decoder { shape, embedding, blocks, gain, rotary })
    }

    fn norm(&self, x: Tensor<3>, gain: &Param) -> Tensor<3> {
        let square = (x.clone() * x.clone()).mean_dim(2); // [rows, seq, 1]
        let scale = (square + self.shape.epsilon).sqrt().recip();
        let [_, width] = gain.dims();
        x * scale * gain.get().reshape([1, 1, width]) // [rows, seq, d_model]
    }

    fn attention(&self, x: Tensor<3>, block: &Block) -> Tensor<3> {
        let [query, key, value, output] = &block.attention;
        let [query, key, value] = ops::qkv(x, [query.get(), key.get(), value.get()]);
        let query = ops::rotary(ops::split_heads(query, self.shape.n_head), &self.rotary);
        let key = ops::rotary(ops::split_heads(key, self.shape.n_kv_head), &self.rotary);
        let value = ops::split_heads(value, self.shape.n_kv_head);
        let mixed = ops::attention(query, key, value, None); // [rows, head, seq, head_dim]
        ops::linear(ops::join_heads(mixed), output.get())
    }

    /// What the head reads, `[rows, seq, d_model]`.
    pub fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let mut x = ops::embedding(self.embedding.get(), tokens);
        for block in &self.blocks {
            let normed = self.norm(x.clone(), &block.gains[0]);
            x = x + self.attention(normed, block) * self.shape.residual_scale;
            let normed = self.norm(x.clone(), &block.gains[1]);
            let mlp = ops::swiglu(normed, block.gate.get(), block.up.get(), block.down.get());
            x = x + mlp * self.shape.residual_scale;
        }
        self.norm(x, &self.gain)
    }

    /// Mean loss in nats a token.
    pub fn loss(
        &self,
        tokens: Tensor<2, Int>,  // [rows, seq]
        targets: Tensor<2, Int>, // [rows, seq]
    ) -> Tensor<1> {
        let head = self.embedding.get().transpose(); // [d_model, vocab]
        ops::head_loss(self.hidden(tokens), head, targets, self.shape.softcap)
    }

    /// All parameters: the embedding, each layer's (two gains; query, key, value, output; gate, up, down), the last gain.
    pub fn params(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.embedding];
        for Block { gains, attention, gate, up, down } in &mut self.blocks {
            params.extend(gains.iter_mut());
            params.extend(attention.iter_mut());
            params.extend([gate, up, down]);
        }
        params.push(&mut self.gain);
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> DecoderShape {
        DecoderShape {
            n_layer: 1,
            n_head: 2,
            n_kv_head: 1,
            head_dim: 4,
            max_seq: 8,
            residual_scale: 0.5,
            softcap: 15.0,
            epsilon: 1e-5,
            rotary_base: 10_000.0,
        }
    }

    fn tensors() -> BTreeMap<String, FileTensor> {
        let of = |sizes: Vec<usize>| {
            let count: usize = sizes.iter().product();
            let numbers = (0..count).map(|at| ((at * 37 % 19) as f32 - 9.0) / 20.0).collect();
            (sizes, numbers)
        };
        [
            ("model.embed_tokens.weight", vec![10, 8]),
            ("model.norm.weight", vec![8]),
            ("model.layers.0.input_layernorm.weight", vec![8]),
            ("model.layers.0.post_attention_layernorm.weight", vec![8]),
            ("model.layers.0.self_attn.q_proj.weight", vec![8, 8]),
            ("model.layers.0.self_attn.k_proj.weight", vec![4, 8]),
            ("model.layers.0.self_attn.v_proj.weight", vec![4, 8]),
            ("model.layers.0.self_attn.o_proj.weight", vec![8, 8]),
            ("model.layers.0.mlp.gate_proj.weight", vec![16, 8]),
            ("model.layers.0.mlp.up_proj.weight", vec![16, 8]),
            ("model.layers.0.mlp.down_proj.weight", vec![8, 16]),
        ]
        .into_iter()
        .map(|(name, sizes)| (name.to_owned(), of(sizes)))
        .collect()
    }

    #[test]
    fn it_scores_and_has_gradients_everywhere() {
        let device = Device::default().autodiff();
        let mut decoder = Decoder::new(shape(), &tensors(), &device).unwrap();
        let tokens = Tensor::from_ints([[1, 2, 3, 4]], &device);
        let targets = Tensor::from_ints([[2, 3, 4, 5]], &device);
        let loss = decoder.loss(tokens, targets);
        let mut gradients = loss.backward();
        assert!((0.5..5.0).contains(&loss.into_scalar::<f32>()));
        for param in decoder.params() {
            param.accumulate(&mut gradients, 1.0);
            assert!(param.gradient().is_some());
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let device = Device::default().autodiff();
        let mut without = tensors();
        without.remove("model.norm.weight");
        let error = Decoder::new(shape(), &without, &device).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`model.norm.weight` is missing"), "{error}");
        let mut wrong = tensors();
        wrong.insert("model.layers.0.self_attn.k_proj.weight".into(), (vec![8, 8], vec![0.0; 64]));
        let error = Decoder::new(shape(), &wrong, &device).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("and not [4, 8]"), "{error}");
    }
}
