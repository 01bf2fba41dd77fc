//! Weights for others: a safetensors file with the names and layout of Llama models in Hugging Face's transformers. Rotary
//! embeddings turn pairs `(i, i + dim / 2)` there and neighbours here, so rows of queries and keys change places.
//!
//! The residual scale `alpha` and the softcap are said in the file's metadata: a reader that does not know them computes another
//! function.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::TrainError;
use super::checkpoint::{failed, write_whole};
use super::params::Params;
use crate::config::Config;
use crate::recipe::{Gain, Weight};

/// Writes the weights.
///
/// # Errors
/// When the file cannot be written.
pub fn export(path: &Path, config: &Config, params: &Params, softcap: f32) -> Result<(), TrainError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let (d, dim) = (config.d_model, config.head_dim);
    tensors.push((
        "model.embed_tokens.weight".to_owned(),
        vec![config.vocab, d],
        params.embedding.value.clone(),
    ));
    for (at, layer) in params.layers.iter().enumerate() {
        for weight in Weight::ALL {
            let [rows, columns] = weight.shape(config);
            let own = &layer.weight(weight).value;
            let numbers = match weight {
                Weight::Query | Weight::Key => halves_apart(own, dim, columns),
                _ => own.clone(),
            };
            tensors.push((
                format!("model.layers.{at}.{}.weight", public_name(weight)),
                vec![rows, columns],
                numbers,
            ));
        }
        for (gain, name) in [(Gain::Attention, "input_layernorm"), (Gain::Mlp, "post_attention_layernorm")] {
            let own = layer.gain(gain).value.clone();
            tensors.push((format!("model.layers.{at}.{name}.weight"), vec![d], own));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![d], params.gain.value.clone()));
    let views: Result<Vec<(String, TensorView<'_>)>, TrainError> = tensors
        .iter()
        .map(|(name, shape, numbers)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(numbers));
            view.map(|view| (name.clone(), view)).map_err(|error| failed(path, error))
        })
        .collect();
    let said: HashMap<String, String> = [
        ("format", "pt".to_owned()),
        ("architecture", "llama with scaled residuals, tied head and softcap".to_owned()),
        ("n_head", config.n_head.to_string()),
        ("n_kv_head", config.n_kv_head.to_string()),
        ("head_dim", config.head_dim.to_string()),
        ("seq_len", config.seq_len.to_string()),
        ("residual_scale", config.alpha().to_string()),
        ("softcap", softcap.to_string()),
        ("rms_norm_eps", super::host::EPSILON.to_string()),
        ("rope_theta", "10000".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let bytes = safetensors::serialize(views?, Some(said)).map_err(|error| failed(path, error))?;
    write_whole(path, &bytes)
}

fn public_name(weight: Weight) -> &'static str {
    match weight {
        Weight::Query => "self_attn.q_proj",
        Weight::Key => "self_attn.k_proj",
        Weight::Value => "self_attn.v_proj",
        Weight::Output => "self_attn.o_proj",
        Weight::Gate => "mlp.gate_proj",
        Weight::Down => "mlp.down_proj",
        Weight::Up => "mlp.up_proj",
    }
}

/// Rows of each head: even ones, then odd ones.
fn halves_apart(numbers: &[f32], dim: usize, columns: usize) -> Vec<f32> {
    let row = |at: usize| &numbers[at * columns..(at + 1) * columns];
    let heads = numbers.len() / (dim * columns);
    let order = (0..heads).flat_map(|head| {
        let even = (0..dim / 2).map(move |pair| head * dim + 2 * pair);
        even.chain((0..dim / 2).map(move |pair| head * dim + 2 * pair + 1))
    });
    order.flat_map(|at| row(at).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_rows_come_before_odd_ones_in_each_head() {
        let rows: Vec<f32> = (0..8).map(|at| at as f32).collect();
        assert_eq!(halves_apart(&rows, 4, 1), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }
}
