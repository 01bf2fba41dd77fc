//! Training on the emulator against training the same model on the CPU trainer: one loss and its gradients, and a run on real
//! text.

#[path = "support/decoder.rs"]
mod decoder;

use std::path::Path;

use sprag_ane::config::Config;
use sprag_ane::emulator::Emulator;
use sprag_ane::graphs::Rotary;
use sprag_ane::profile::Profile;
use sprag_ane::recipe::{Fused, Recipe};
use sprag_ane::train::params::{Params, Random};
use sprag_ane::train::weights::export;
use sprag_ane::train::{Options, Trainer};
use sprag_train::burn::tensor::Device;
use sprag_train::ops::{self, Precision};

fn device() -> Device {
    ops::set_precision(Precision::Fp32);
    Device::default().autodiff()
}

fn config(kv: usize) -> Config {
    Config { vocab: 256, n_kv_head: kv, ..Config::of("tiny").unwrap() }
}

fn trainer(config: &Config, options: &Options, params: Params) -> Trainer {
    let recipe = Recipe::new(config, Rotary::Join, Fused::default()).unwrap();
    Trainer::new(&Emulator::new(Profile::default()), config, options.clone(), params, recipe).unwrap()
}

/// Bytes of this repository's own documents: real text.
fn text() -> Vec<u32> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    ["task.md", "statistics.md", "planner.md", "glossary.md", "adopt.md"]
        .iter()
        .flat_map(|name| std::fs::read(docs.join(name)).unwrap())
        .map(u32::from)
        .collect()
}

fn draw(text: &[u32], random: &mut Random, rows: usize, seq: usize) -> Vec<Vec<u32>> {
    (0..rows)
        .map(|_| {
            let from = (random.uniform() * (text.len() - seq - 1) as f64) as usize;
            text[from..=from + seq].to_vec()
        })
        .collect()
}

/// Parameters where nothing is zero.
fn awake(config: &Config) -> Params {
    let mut params = Params::random(config, 3);
    let mut random = Random(4);
    for (_, param) in params.all_mut() {
        let spread = 0.1;
        param.value.iter_mut().for_each(|value| *value += ((2.0 * random.uniform() - 1.0) * spread) as f32);
    }
    params
}

#[test]
fn loss_and_gradients_agree_for_every_sharing_of_heads() {
    let device = device();
    for kv in [1, 2, 4] {
        let config = config(kv);
        let params = awake(&config);
        let options = Options { loss_scale: 128.0, ..Options::default() };
        let mut ours = trainer(&config, &options, params.clone());
        let sequence = draw(&text(), &mut Random(1), 1, config.seq_len);
        let (loss, _) = ours.accumulate(&sequence[0], 1.0).unwrap();

        let mut theirs = decoder::decoder(&config, &params, options.softcap, &device);
        let [inputs, targets] = decoder::batch(&sequence, &device);
        let expected = theirs.loss(inputs, targets);
        let mut gradients = expected.backward();
        let expected = f64::from(expected.into_scalar::<f32>());
        assert!((loss / expected - 1.0).abs() < 1e-3, "{loss} {expected}");

        // Our gradients in the layout of exported weights, where rows of queries and keys change places.
        let mut as_weights = ours.params().clone();
        for (_, param) in as_weights.all_mut() {
            param.value = param.gradient.iter().map(|own| own / 128.0).collect();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gradients.safetensors");
        export(&path, &config, &as_weights, options.softcap).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = vec!["model.embed_tokens".to_owned()];
        for layer in 0..config.n_layer {
            let parts = [
                "input_layernorm",
                "post_attention_layernorm",
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            ];
            names.extend(parts.map(|part| format!("model.layers.{layer}.{part}")));
        }
        names.push("model.norm".to_owned());
        let norm = |all: &[f32]| all.iter().map(|own| f64::from(*own).powi(2)).sum::<f64>().sqrt();
        let params = theirs.params();
        assert_eq!(params.len(), names.len());
        for (name, param) in names.iter().zip(params) {
            param.accumulate(&mut gradients, 1.0);
            let gradient = param.gradient().unwrap();
            let gradient = if name.ends_with("_proj") { gradient.transpose() } else { gradient };
            let theirs: Vec<f32> = gradient.into_data().try_into_vec().unwrap();
            let tensor = file.tensor(&format!("{name}.weight")).unwrap();
            let ours: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            assert_eq!(ours.len(), theirs.len(), "{name}");
            let apart: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
            let apart = norm(&apart) / norm(&theirs);
            assert!(apart < 1e-2, "{kv} key heads, {name}: {apart} apart");
        }
    }
}

/// The same start, the same batches: the emulator's loss falls as the CPU trainer's does, far closer to it than runs that start
/// elsewhere.
#[test]
fn three_hundred_steps_on_real_text_fall_as_on_the_cpu() {
    let device = device();
    let config = config(2);
    let text = text();
    let options = Options { learning_rate: 2e-3, warmup: 20, steps: 300, ..Options::default() };
    let rows = 2;
    let last = |losses: &[f64]| losses[250..].iter().sum::<f64>() / 50.0;
    let start = |seed: u64| Params::random(&config, seed);
    let on_cpu = |seed: u64| -> Vec<f64> {
        let mut model = decoder::decoder(&config, &start(seed), options.softcap, &device);
        let mut random = Random(100 + seed);
        (0..300)
            .map(|at| decoder::step(&mut model, &options, at, &draw(&text, &mut random, rows, 64), &device))
            .collect()
    };
    let mut ours = trainer(&config, &options, start(1));
    let mut random = Random(101);
    let emulated: Vec<f64> =
        (0..300).map(|_| ours.step(&draw(&text, &mut random, rows, 64)).unwrap().loss).collect();
    let cpu: Vec<Vec<f64>> = (1..=4).map(on_cpu).collect();
    assert!((emulated[0] - 256_f64.ln()).abs() < 0.2, "{}", emulated[0]);
    assert!(last(&emulated) < 2.9, "{}", last(&emulated));
    let ends: Vec<f64> = cpu.iter().map(|losses| last(losses)).collect();
    let mean = ends.iter().sum::<f64>() / 4.0;
    let noise = (ends.iter().map(|end| (end - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
    let apart = (last(&emulated) - ends[0]).abs();
    println!("emulated {:.4}, CPU {:.4}, seeds {ends:.4?}, sd {noise:.4}", last(&emulated), ends[0]);
    assert!(apart < noise, "{apart} apart, and seeds differ by {noise}");
    assert_eq!(ours.progress().skipped, 0);
}

/// What is exported is loaded by the CPU trainer and scored to the same bits per byte.
#[test]
fn exported_weights_score_the_same() {
    let device = device();
    let config = config(2);
    let params = awake(&config);
    let options = Options::default();
    let mut ours = trainer(&config, &options, params.clone());
    let theirs = decoder::decoder(&config, &params, options.softcap, &device);
    let sequences = draw(&text(), &mut Random(9), 4, config.seq_len);
    let mut sums = [0.0, 0.0];
    for sequence in &sequences {
        sums[0] += ours.evaluate(sequence).unwrap().iter().map(|loss| f64::from(*loss)).sum::<f64>();
        let [inputs, targets] = decoder::batch(std::slice::from_ref(sequence), &device);
        sums[1] += f64::from(theirs.loss(inputs, targets).into_scalar::<f32>()) * config.seq_len as f64;
    }
    assert!((sums[0] / sums[1] - 1.0).abs() < 5e-4, "{sums:?}");
}
