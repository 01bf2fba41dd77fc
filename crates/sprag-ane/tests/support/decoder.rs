//! The same model on the CPU trainer: loaded from what the Neural Engine's trainer exports, and moved by the same optimiser.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use sprag_ane::config::Config;
use sprag_ane::train::Options;
use sprag_ane::train::params::Params;
use sprag_ane::train::weights::export;
use sprag_train::burn::tensor::{Device, Int, Tensor, TensorData};
use sprag_train::decoder::{Decoder, DecoderShape, FileTensor};
use sprag_train::optim::{AdamW, clip_gradients};

/// A decoder of an exported file, with the constants that its metadata tells.
pub fn load(path: &Path, device: &Device) -> Decoder {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let said = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: BTreeMap<String, FileTensor> = file
        .iter()
        .map(|(name, tensor)| {
            let numbers = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            (name.to_owned(), (tensor.shape().to_vec(), numbers.collect()))
        })
        .collect();
    let real = |name: &str| said[name].parse::<f64>().unwrap();
    let shape = DecoderShape {
        n_layer: tensors.keys().filter(|name| name.ends_with("input_layernorm.weight")).count(),
        n_head: real("n_head") as usize,
        n_kv_head: real("n_kv_head") as usize,
        head_dim: real("head_dim") as usize,
        max_seq: real("seq_len") as usize,
        residual_scale: real("residual_scale"),
        softcap: real("softcap"),
        epsilon: real("rms_norm_eps"),
        rotary_base: real("rope_theta"),
    };
    Decoder::new(shape, &tensors, device).unwrap()
}

/// The decoder of some parameters.
pub fn decoder(config: &Config, params: &Params, softcap: f32, device: &Device) -> Decoder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    export(&path, config, params, softcap).unwrap();
    load(&path, device)
}

/// Inputs and targets of sequences, a row each.
pub fn batch(sequences: &[Vec<u32>], device: &Device) -> [Tensor<2, Int>; 2] {
    let seq = sequences[0].len() - 1;
    [0, 1].map(|from| {
        let ids: Vec<i32> =
            sequences.iter().flat_map(|own| &own[from..from + seq]).map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(ids, [sequences.len(), seq]), device)
    })
}

/// One step of the optimiser, as the Neural Engine's trainer makes it; gives the loss.
pub fn step(
    decoder: &mut Decoder,
    options: &Options,
    at: u64,
    sequences: &[Vec<u32>],
    device: &Device,
) -> f64 {
    let [inputs, targets] = batch(sequences, device);
    let loss = decoder.loss(inputs, targets);
    let mut gradients = loss.backward();
    let mut params = decoder.params();
    for param in &mut params {
        param.accumulate(&mut gradients, 1.0);
    }
    clip_gradients(&mut params, options.clip_norm);
    for (place, param) in params.into_iter().enumerate() {
        let (units, weight_decay) = match (place, param.dims()) {
            (0, _) => (options.embedding_rate, 0.0),
            (_, [1, _]) => (1.0, 0.0),
            _ => (options.matrix_rate, options.weight_decay),
        };
        let learning_rate = options.learning_rate * units * options.rate(at);
        AdamW { learning_rate, beta1: options.beta1, beta2: options.beta2, epsilon: 1e-8, weight_decay }
            .step(param);
    }
    f64::from(loss.into_scalar::<f32>())
}
