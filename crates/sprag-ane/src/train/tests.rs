use super::*;
use crate::emulator::Emulator;
use params::Random;

fn tiny() -> Config {
    Config::of("tiny").unwrap()
}

fn sequence(config: &Config, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..=config.seq_len).map(|_| (random.bits() % config.vocab as u64) as u32).collect()
}

/// Parameters where nothing is zero, so that every gradient is there.
fn awake(config: &Config, seed: u64) -> Params {
    let mut params = Params::random(config, seed);
    let mut random = Random(seed + 1);
    for (group, param) in params.all_mut() {
        let bound = match group {
            Group::Matrix => 0.12,
            Group::Gain => 0.2,
            Group::Embedding => 0.5,
        };
        for value in &mut param.value {
            let center = if group == Group::Gain { 1.0 } else { 0.0 };
            *value = center + ((2.0 * random.uniform() - 1.0) * bound) as f32;
        }
    }
    params
}

fn trainer(config: &Config, options: Options, recipe: Recipe) -> Trainer {
    let emulator = Emulator::new(Profile::default());
    Trainer::new(&emulator, config, options, awake(config, 5), recipe).unwrap()
}

fn plain(config: &Config) -> Recipe {
    Recipe::new(config, Rotary::Join, Fused::default()).unwrap()
}

fn mean_loss(trainer: &mut Trainer, sequence: &[u32]) -> f64 {
    let losses = trainer.evaluate(sequence).unwrap();
    losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
}

/// The gradient along a direction is the slope of the loss: for each tensor, in the direction of its own gradient, so that the
/// slope is large against the rounding of halves.
#[test]
fn gradients_are_slopes_of_the_loss() {
    for kv in [1, 2, 4] {
        let config = Config { n_kv_head: kv, ..tiny() };
        let mut trainer =
            trainer(&config, Options { loss_scale: 64.0, ..Options::default() }, plain(&config));
        let sequence = sequence(&config, 1);
        trainer.accumulate(&sequence, 1.0).unwrap();
        let gradients: Vec<(String, Vec<f32>)> = trainer
            .params()
            .named()
            .into_iter()
            .map(|(name, _, param)| (name, param.gradient.iter().map(|own| own / 64.0).collect()))
            .collect();
        for (at, (name, gradient)) in gradients.iter().enumerate() {
            let norm = gradient.iter().map(|own| f64::from(*own) * f64::from(*own)).sum::<f64>().sqrt();
            assert!(norm > 1e-3, "{name} has no gradient");
            // As far as moves the loss by about 0.02.
            let step = (0.02 / norm) / norm;
            let mut moved = |by: f64| {
                let (_, param) = trainer.params_mut().all_mut().remove(at);
                param
                    .value
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(value, own)| *value += (f64::from(*own) * by) as f32);
                let loss = mean_loss(&mut trainer, &sequence);
                let (_, param) = trainer.params_mut().all_mut().remove(at);
                param
                    .value
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(value, own)| *value -= (f64::from(*own) * by) as f32);
                loss
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step * norm * norm);
            assert!((slope - 1.0).abs() < 0.06, "{kv} key heads, {name}: slope {slope} of 1");
        }
    }
}

#[test]
fn all_recipes_and_both_heads_give_the_same_gradients() {
    let config = tiny();
    let sequence = sequence(&config, 2);
    let run = |recipe: Recipe, head_on_device: bool| {
        let mut trainer = trainer(&config, Options { head_on_device, ..Options::default() }, recipe);
        let (loss, _) = trainer.accumulate(&sequence, 1.0).unwrap();
        let gradients: Vec<f32> =
            trainer.params().named().into_iter().flat_map(|(_, _, param)| param.gradient.clone()).collect();
        (loss, gradients)
    };
    let (loss, gradients) = run(plain(&config), false);
    let norm = |all: &[f32]| all.iter().map(|own| f64::from(*own) * f64::from(*own)).sum::<f64>().sqrt();
    let mut others: Vec<(String, (f64, Vec<f32>))> = Fused::ALL
        .into_iter()
        .flat_map(|fused| {
            [Rotary::Join, Rotary::Permute].map(|rotary| Recipe::new(&config, rotary, fused).unwrap())
        })
        .map(|recipe| (recipe.name.clone(), run(recipe, false)))
        .collect();
    others.push(("published".into(), run(Recipe::published(&config).unwrap(), false)));
    others.push(("head on the device".into(), run(plain(&config), true)));
    for (name, (own, found)) in others {
        // Logits around 15 are multiples of 0.008 in halves.
        let near = if name == "head on the device" { 6e-3 } else { 2e-3 };
        assert!((own - loss).abs() < near, "{name}: {own} {loss}");
        let apart: Vec<f32> = found.iter().zip(&gradients).map(|(a, b)| a - b).collect();
        let apart = norm(&apart) / norm(&gradients);
        assert!(apart < 6e-3, "{name}: gradients are {apart} apart");
    }
}

#[test]
fn validation_is_the_function_that_is_trained() {
    let config = tiny();
    let sequence = sequence(&config, 3);
    for head_on_device in [false, true] {
        // A small cap: a validation without it would be far away.
        let options = Options { softcap: 2.0, head_on_device, ..Options::default() };
        let mut trainer = trainer(&config, options, plain(&config));
        let (trained, _) = trainer.accumulate(&sequence, 1.0).unwrap();
        let found = mean_loss(&mut trainer, &sequence);
        assert!((trained - found).abs() < 1e-5, "{trained} {found}");
        assert_eq!(trainer.evaluate(&sequence).unwrap().len(), config.seq_len);
    }
}

#[test]
fn training_learns_and_goes_on_from_a_checkpoint_to_the_bit() {
    let config = Config { vocab: 64, ..tiny() };
    let options = Options { learning_rate: 3e-3, warmup: 5, steps: 40, ..Options::default() };
    let emulator = Emulator::new(Profile::default());
    let new = || {
        Trainer::new(&emulator, &config, options.clone(), Params::random(&config, 1), plain(&config)).unwrap()
    };
    // Counting up is easy to learn.
    let batch = |step: u64| -> Vec<Vec<u32>> {
        (0..2).map(|row| (0..=64).map(|at| ((step * 7 + row * 13 + at) % 64) as u32).collect()).collect()
    };
    let mut whole = new();
    let losses: Vec<f64> = (0..30).map(|step| whole.step(&batch(step)).unwrap().loss).collect();
    assert!(losses[0] > 4.0 && losses[29] < 1.0, "{losses:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let mut first = new();
    (0..12).for_each(|step| {
        first.step(&batch(step)).unwrap();
    });
    let drawn = checkpoint::Drawn { drawn: 24, rows: 2, seed: 9, steps: 40, vocabulary: vec![3, 70_000] };
    let state = checkpoint::State::new(&config, first.progress(), drawn);
    checkpoint::save(&path, first.params(), &state).unwrap();
    let (params, found) = checkpoint::load(&path).unwrap();
    assert_eq!(found, state);
    let mut second = Trainer::new(&emulator, &found.config, options.clone(), params, plain(&config)).unwrap();
    second.resume(found.progress);
    (12..30).for_each(|step| {
        second.step(&batch(step)).unwrap();
    });
    let values = |trainer: &Trainer| -> Vec<f32> {
        trainer.params().named().into_iter().flat_map(|(_, _, param)| param.value.clone()).collect()
    };
    assert_eq!(values(&second), values(&whole));
    // What is no checkpoint is told, and a half one was never there.
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..5000]).unwrap();
    assert!(checkpoint::load(&path).is_err());
    std::fs::write(&path, b"nothing").unwrap();
    assert!(checkpoint::load(&path).is_err());
    assert!(!folder.path().join("c.partial").exists());
}

#[test]
fn overflows_are_skipped_counted_and_answered_by_a_smaller_scale() {
    let config = tiny();
    let options = Options { loss_scale: 65_536.0, growth_every: 2, ..Options::default() };
    let mut trainer = trainer(&config, options, plain(&config));
    let batch = vec![sequence(&config, 4)];
    let before: Vec<f32> = trainer.params().layers[0].weights[0].value.clone();
    // Gradients times 65536 times 1e5 are no halves.
    trainer.params_mut().gain.value.iter_mut().for_each(|gain| *gain *= 40.0);
    let first = trainer.step(&batch).unwrap();
    assert!(first.skipped.is_some() && first.gradient_norm.is_none(), "{first:?}");
    assert_eq!(trainer.params().layers[0].weights[0].value, before);
    assert_eq!((trainer.progress().loss_scale, trainer.progress().skipped), (32_768.0, 1));
    let mut scales = Vec::new();
    for _ in 0..25 {
        let report = trainer.step(&batch).unwrap();
        scales.push(report.loss_scale);
    }
    // It falls until steps go through, and then tries higher ones again.
    let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(least < 32_768.0 && *scales.last().unwrap() >= least, "{scales:?}");
    assert!(trainer.progress().updates > 0);
    // Activations that overflow are no matter of the scale.
    trainer.params_mut().layers[0]
        .weights
        .iter_mut()
        .for_each(|w| w.value.iter_mut().for_each(|v| *v *= 1e4));
    let error = (0..20).find_map(|_| trainer.step(&batch).err()).unwrap();
    assert!(error.to_string().contains("diverged"), "{error}");
}

#[test]
fn tokens_and_lengths_are_checked_before_anything_runs() {
    let config = Config { vocab: 70_000, ..tiny() };
    let emulator = Emulator::new(Profile::default());
    let params = Params::random(&config, 1);
    let mut trainer = Trainer::new(&emulator, &config, Options::default(), params, plain(&config)).unwrap();
    let mut sequence: Vec<u32> = (0..=64).collect();
    // Above what 16 bits hold.
    sequence[3] = 69_999;
    assert!(trainer.evaluate(&sequence).is_ok());
    sequence[5] = 70_000;
    assert!(trainer.evaluate(&sequence).unwrap_err().to_string().contains("token 70000 at place 5"));
    assert!(trainer.evaluate(&[1, 2]).unwrap_err().to_string().contains("65 are taken"));
}

/// The stream is as large as it likes: only what programs see is halves, and that is normed.
#[test]
fn the_stream_may_be_beyond_halves() {
    let config = tiny();
    let mut trainer = trainer(&config, Options::default(), plain(&config));
    trainer.params_mut().embedding.value.iter_mut().for_each(|value| *value *= 1e6);
    assert!(trainer.evaluate(&sequence(&config, 6)).unwrap().iter().all(|loss| loss.is_finite()));
    // The published program has it in halves.
    let mut published = self::trainer(&config, Options::default(), Recipe::published(&config).unwrap());
    published.params_mut().embedding.value.iter_mut().for_each(|value| *value *= 1e6);
    let error = published.evaluate(&sequence(&config, 6)).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { back: false, .. }), "{error}");
}

#[test]
fn the_fastest_recipe_is_one_that_the_chip_takes() {
    let config = Config::of("gpt_karpathy").unwrap();
    let (m4, seconds) = fastest(&config, &Profile::default()).unwrap();
    assert!(m4.kernels().count() < 10 && seconds > 0.0, "{}", m4.name);
    let (m3, _) = fastest(&config, &Profile::of("M3").unwrap()).unwrap();
    let joins = m3.kernels().any(|kernel| kernel.graph.program.to_string().contains("rot_pairs"));
    assert!(!joins);
    let error = fastest(&config, &Profile::of("M1").unwrap()).unwrap_err().to_string();
    assert!(error.contains("R01"), "{error}");
    // An M2 reads the longer form, in which they are handed over.
    let tiny = tiny();
    let m2 = Profile::of("M2").unwrap();
    let (recipe, _) = fastest(&tiny, &m2).unwrap();
    let mut trainer =
        Trainer::new(&Emulator::new(m2), &tiny, Options::default(), awake(&tiny, 5), recipe).unwrap();
    assert!(trainer.step(&[sequence(&tiny, 8)]).unwrap().skipped.is_none());
}

/// The norm of all gradients is summed in double precision, a share of 16384 at a time in single: many small ones are not lost beside
/// a large one, which a sum in single precision would give as 1.
#[test]
fn the_norm_of_gradients_loses_nothing() {
    let config = tiny();
    let mut params = Params::random(&config, 1);
    let count = params.count();
    for (_, param) in params.all_mut() {
        param.gradient.fill(1e-4);
    }
    params.embedding.gradient[0] = 1.0;
    let expected = (1.0 + (count - 1) as f64 * 1e-8).sqrt();
    assert!((params.gradient_norm() / expected - 1.0).abs() < 1e-5, "{} {expected}", params.gradient_norm());
}
