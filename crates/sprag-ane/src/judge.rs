//! Judges another recipe: whether it computes the same function as ours, on numbers that it never saw, and how long a step with
//! it is predicted to take. Whoever wrote it has no part in this.

use std::cmp::Ordering;

use crate::config::Config;
use crate::emulator::Emulator;
use crate::emulator::cost::Rates;
use crate::emulator::cost::rows::{M4_MAX_HOST, StepTime, step_time};
use crate::graphs::Rotary;
use crate::mil::{Effect, Shows, lint_for};
use crate::profile::Profile;
use crate::recipe::{Fused, Recipe};
use crate::train::params::{Group, Params, Random};
use crate::train::{Options, TrainError, Trainer};

/// How far the loss and each tensor's gradient may be from ours, in parts of them: about twice what ways of joining our own
/// programs differ by, which is the rounding of halves.
pub const NEAR: (f64, f64) = (2e-3, 2e-2);

/// What a recipe is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// How far its loss is from ours, in parts of it.
    pub loss_apart: f64,
    /// How far the gradient that is furthest from ours is from it, in parts of its norm.
    pub gradients_apart: f64,
    /// Predicted time of a step of one sequence.
    pub time: StepTime,
    /// The same of our plain recipe.
    pub ours: StepTime,
    /// Dispatches a layer.
    pub dispatches: usize,
}

/// Why a recipe is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// It makes no sense, or the chip refuses it.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// It computes something else.
    #[error("it computes another function: {0}")]
    Another(String),
    /// The chip refuses a program, or spoils what it computes.
    #[error("{0}")]
    Chip(String),
}

/// Parameters where nothing is zero, so that everything is tried.
fn awake(config: &Config, seed: u64) -> Params {
    let mut params = Params::random(config, seed);
    let mut random = Random(seed ^ 0x5DEE_CE66);
    for (group, param) in params.all_mut() {
        let (center, bound) = match group {
            Group::Matrix => (0.0, 0.12),
            Group::Gain => (1.0, 0.2),
            Group::Embedding => (0.0, 0.5),
        };
        param
            .value
            .iter_mut()
            .for_each(|value| *value = center + ((2.0 * random.uniform() - 1.0) * bound) as f32);
    }
    params
}

/// Rows of the embedding that judging takes: the head is no part of a recipe.
const VOCABULARY: usize = 512;

/// Judges a recipe of a model: all of it is executed, and its step is predicted.
///
/// # Errors
/// When it makes no sense, the chip refuses a program or spoils it in silence, or it computes something else.
pub fn judge(recipe: &Recipe, full: &Config, profile: &Profile, seed: u64) -> Result<Judgement, Rejected> {
    full.check().map_err(TrainError::from)?;
    recipe.check(full).map_err(TrainError::from)?;
    for kernel in recipe.kernels() {
        let program = profile.dialect(&kernel.graph.program);
        // Late slices (R36) spoil large numbers alone: whether they do here is seen when it is executed.
        let hard = lint_for(&program, profile).into_iter().find(|found| {
            found.rule.shows == Shows::Text && found.effect >= Effect::Silent && found.rule.id != "R36"
        });
        if let Some(found) = hard {
            return Err(Rejected::Chip(format!("{}: {}: {found}", kernel.graph.name, found.effect.words())));
        }
    }
    let config = &Config { vocab: full.vocab.min(VOCABULARY), ..full.clone() };
    let plain = || {
        let rotary = if profile.refuses.contains(&"R31") { Rotary::Permute } else { Rotary::Join };
        Recipe::new(full, rotary, Fused::default()).map_err(TrainError::from)
    };
    let mut random = Random(seed);
    let sequence: Vec<u32> =
        (0..=config.seq_len).map(|_| (random.bits() % config.vocab as u64) as u32).collect();
    let run = |recipe: Recipe| -> Result<(f64, Params), TrainError> {
        let emulator = Emulator::new(*profile);
        let options = Options { loss_scale: 128.0, ..Options::default() };
        let mut trainer = Trainer::new(&emulator, config, options, awake(config, seed), recipe)?;
        let (loss, _) = trainer.accumulate(&sequence, 1.0)?;
        Ok((loss, trainer.into_params()))
    };
    let ours = plain()?;
    let (expected, reference) = run(ours.clone())?;
    let (loss, found) = run(recipe.clone())?;
    let loss_apart = (loss / expected - 1.0).abs();
    // What is no number is not near.
    if !matches!(loss_apart.partial_cmp(&NEAR.0), Some(Ordering::Less | Ordering::Equal)) {
        return Err(Rejected::Another(format!("its loss is {loss_apart:.1e} apart")));
    }
    // Each tensor for itself: beside the embedding's the gradient of a gain is lost.
    let mut gradients_apart = 0.0;
    for ((name, _, reference), (_, _, found)) in reference.named().iter().zip(found.named()) {
        let norm = |all: &mut dyn Iterator<Item = f64>| all.map(|own| own * own).sum::<f64>().sqrt();
        let differences = found.gradient.iter().zip(&reference.gradient).map(|(a, b)| f64::from(a - b));
        let apart =
            norm(&mut { differences }) / norm(&mut reference.gradient.iter().map(|own| f64::from(*own)));
        if !matches!(apart.partial_cmp(&NEAR.1), Some(Ordering::Less | Ordering::Equal)) {
            return Err(Rejected::Another(format!("its gradient of {name} is {apart:.1e} apart")));
        }
        gradients_apart = f64::max(gradients_apart, apart);
    }
    let rates = Rates::of_chip(profile);
    let predicted = |recipe| step_time(recipe, full, &rates, &M4_MAX_HOST).map_err(TrainError::from);
    let (time, ours) = (predicted(recipe)?, predicted(&ours)?);
    Ok(Judgement { loss_apart, gradients_apart, time, ours, dispatches: recipe.kernels().count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Gain, Host, Node};

    fn recipe(fused: Fused) -> (Config, Recipe) {
        let config = Config::of("tiny").unwrap();
        let recipe = Recipe::new(&config, Rotary::Join, fused).unwrap();
        (config, recipe)
    }

    #[test]
    fn fewer_dispatches_are_predicted_to_be_faster_and_are_the_same_function() {
        let (config, recipe) = recipe(Fused { attention_output: true, projections: true });
        let found = judge(&recipe, &config, &Profile::default(), 7).unwrap();
        assert!(found.time.seconds() < found.ours.seconds() && found.dispatches == 8, "{found:?}");
        let published = Recipe::published(&config).unwrap();
        let found = judge(&published, &config, &Profile::default(), 7).unwrap();
        assert!(found.dispatches == 10 && found.gradients_apart < NEAR.1 / 2.0, "{found:?}");
    }

    #[test]
    fn another_function_is_worth_nothing() {
        let profile = Profile::default();
        let (config, mut wrong) = recipe(Fused::default());
        // Queries are not turned back.
        for node in &mut wrong.backward {
            if let Node::Host(Host::TurnBack { x, out }) = node {
                *node = Node::Host(Host::Add { a: x.clone(), b: x.clone(), scaled: true, out: out.clone() });
            }
        }
        let error = judge(&wrong, &config, &profile, 7).unwrap_err().to_string();
        assert!(error.contains("another function"), "{error}");
        // A gain's gradient is next to nothing beside the embedding's: one from the wrong values is found all the same.
        let (config, mut shifted) = recipe(Fused::default());
        for node in &mut shifted.backward {
            if let Node::Host(Host::NormBackward { gain: Gain::Mlp, dy, .. }) = node {
                "d_next".clone_into(dy);
            }
        }
        assert!(judge(&shifted, &config, &profile, 7).unwrap_err().to_string().contains("its gradient of"));
        let (config, mut without) = recipe(Fused::default());
        without.forward.remove(0);
        assert!(judge(&without, &config, &profile, 7).is_err());
        let (config, joined) = recipe(Fused::default());
        let error = judge(&joined, &config, &Profile::of("M1").unwrap(), 7).unwrap_err().to_string();
        assert!(error.contains("R01"), "{error}");
    }
}
