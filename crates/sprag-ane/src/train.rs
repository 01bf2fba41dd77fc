//! Trains a GPT on the device, or on the emulator: programs compiled once, weights passed in beside activations, embedding, norms,
//! loss and optimiser on the host in single precision.
//!
//! The model and the split between device and host are those of maderix/ANE (`training_dynamic`) and ncdrone/autoresearch-ANE;
//! what was wrong there is right here and has a test: shared heads, the softcap in validation, results of dispatches, token ids of
//! any width, the stream's precision, checkpoints.

pub mod checkpoint;
mod head;
pub mod host;
pub mod layers;
pub mod params;
pub mod public;
pub mod vocabulary;
pub mod weights;

use std::sync::Arc;
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::optimiser::{AdamW, adamw, scale};
use sprag_train::kernels::{Matrix, loss};

use crate::config::{Config, ConfigError};
use crate::emulator::cost::{Rates, Work};
use crate::graphs::Rotary;
use crate::mil::TypeError;
use crate::profile::Profile;
use crate::recipe::{Fused, Recipe, RecipeError};
use crate::runtime::{Runtime, RuntimeError};
use head::Head;
use layers::{Layers, Times, Value, Values, transposed};
use params::{Group, Params};

/// How it is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Peak learning rate, of gains.
    pub learning_rate: f64,
    /// That of matrices, in units of the peak.
    pub matrix_rate: f64,
    /// That of the embedding, in units of the peak.
    pub embedding_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Decay of matrices a step, in units of the learning rate.
    pub weight_decay: f64,
    /// Joint norm to which gradients are clipped.
    pub clip_norm: f64,
    /// Steps over which the learning rate rises.
    pub warmup: u64,
    /// Steps of the whole run, over which it falls as a cosine. It must be as long as the run is.
    pub steps: u64,
    /// Where it ends, in units of the peak.
    pub last_rate: f64,
    /// Bound on the logits in nats; infinite for none.
    pub softcap: f32,
    /// Loss scale to begin with.
    pub loss_scale: f32,
    /// Steps without an overflow after which the loss scale doubles.
    pub growth_every: u32,
    /// Head and softmax on the device rather than on the host.
    pub head_on_device: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            learning_rate: 1e-3,
            matrix_rate: 1.0,
            embedding_rate: 5.0,
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 0.1,
            clip_norm: 1.0,
            warmup: 100,
            steps: 10_000,
            last_rate: 0.1,
            softcap: 15.0,
            loss_scale: 256.0,
            growth_every: 200,
            head_on_device: false,
        }
    }
}

impl Options {
    /// Learning rate of a step, from 0, in units of its group's peak: rising, then falling as a cosine.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1);
        let part = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        self.last_rate + (1.0 - self.last_rate) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
    }
}

/// Why training does not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Sizes make no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program makes no sense.
    #[error(transparent)]
    Types(#[from] TypeError),
    /// A recipe makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A value was never given.
    #[error("the value `{0}` was never given")]
    Missing(String),
    /// A program gave numbers that are not finite.
    #[error("{place}: `{kernel}` gave numbers that are not finite")]
    NotFinite {
        /// Which program.
        kernel: String,
        /// Which layer, from 0, or the head.
        place: String,
        /// On the way back: a smaller loss scale helps.
        back: bool,
    },
    /// A token that the model has no row for.
    #[error("token {token} at place {place} is not below the vocabulary of {vocab}")]
    Token {
        /// Its id.
        token: u32,
        /// Where.
        place: usize,
        /// Ids that there are.
        vocab: usize,
    },
    /// Sequences of another length.
    #[error("a sequence has {found} tokens, and {wanted} are taken: one more than seq_len")]
    Length {
        /// How many.
        found: usize,
        /// How many are taken.
        wanted: usize,
    },
    /// Activations overflow whatever the loss scale is.
    #[error(
        "{steps} steps in a row overflowed on the way forth ({last}): training has diverged; lower the learning rate"
    )]
    Diverged {
        /// How many.
        steps: u32,
        /// The last one's message.
        last: String,
    },
    /// Gradients overflow at the lowest loss scale.
    #[error("gradients overflow at a loss scale of {0}: training has diverged; lower the learning rate")]
    Gradients(f32),
    /// A file cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// Why.
        problem: String,
    },
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// Mean loss in nats a token.
    pub loss: f64,
    /// Norm of the gradients before clipping; `None` where the step was skipped.
    pub gradient_norm: Option<f64>,
    /// Learning rate in units of the peak.
    pub rate: f64,
    /// Loss scale that it was made with.
    pub loss_scale: f32,
    /// Largest number of the residual stream: up to 5 is healthy, over 50 is lost (ncdrone/autoresearch-ANE).
    pub stream: f32,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// Device time of the step.
    pub device: Times,
}

/// What is remembered between steps besides parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps tried.
    pub step: u64,
    /// Steps that the optimiser made.
    pub updates: u64,
    /// Steps that were skipped.
    pub skipped: u64,
    /// Steps in a row that were skipped for activations.
    pub diverging: u32,
    /// The loss scale.
    pub loss_scale: f32,
    /// Steps since it changed.
    pub steady: u32,
}

/// Lowest and highest loss scale.
const SCALES: (f32, f32) = (1.0, 65_536.0);
/// Steps in a row that may overflow on the way forth.
const DIVERGED: u32 = 8;

/// A model in training.
pub struct Trainer {
    config: Config,
    options: Options,
    params: Params,
    layers: Layers,
    head: Option<Head>,
    progress: Progress,
    /// Whether surfaces hold older weights.
    stale: bool,
    /// Whether weight gradients are added up while the device computes; the emulator needs all processors itself.
    beside: bool,
}

/// What a sequence gave on the way forth.
struct Forward {
    layers: Vec<Values>,
    /// The stream behind the last layer, `[d_model, seq]`.
    last: Arc<Buffer>,
    /// Normed, `[d_model, seq]`.
    hidden: Buffer,
    stream: f32,
}

/// A loss and its gradients.
struct Loss {
    /// In nats, of each target.
    losses: Vec<f32>,
    /// Gradient of their mean by the normed stream, `[d_model, seq]`.
    by_hidden: Buffer,
}

impl Trainer {
    /// A model with these parameters on a runtime.
    ///
    /// # Errors
    /// When sizes do not go together, or the runtime refuses a program.
    pub fn new(
        runtime: &dyn Runtime,
        config: &Config,
        options: Options,
        params: Params,
        recipe: Recipe,
    ) -> Result<Trainer, TrainError> {
        config.check()?;
        let layers = Layers::new(runtime, recipe, config)?;
        let head = match options.head_on_device {
            true => Some(Head::new(runtime, config, options.softcap)?),
            false => None,
        };
        let progress = Progress {
            step: 0,
            updates: 0,
            skipped: 0,
            diverging: 0,
            loss_scale: options.loss_scale,
            steady: 0,
        };
        Ok(Trainer {
            config: config.clone(),
            options,
            params,
            layers,
            head,
            progress,
            stale: true,
            beside: !runtime.about().emulated,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it is trained.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes how it is trained from the next step on; the head stays where it is.
    pub fn set_options(&mut self, options: Options) {
        self.options =
            Options { head_on_device: self.options.head_on_device, softcap: self.options.softcap, ..options };
    }

    /// Its parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its parameters, with the gradients that were added up; training ends.
    pub fn into_params(self) -> Params {
        self.params
    }

    /// Its parameters, to be changed.
    pub fn params_mut(&mut self) -> &mut Params {
        self.stale = true;
        &mut self.params
    }

    /// What is remembered between steps.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Goes on from there.
    pub fn resume(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// How layers are computed.
    pub fn recipe(&self) -> &Recipe {
        self.layers.recipe()
    }

    fn stage(&mut self) -> Result<(), TrainError> {
        if self.stale {
            self.layers.stage(&self.params)?;
            if let Some(head) = &self.head {
                head.stage(&self.params.embedding.value)?;
            }
            self.stale = false;
        }
        Ok(())
    }

    fn tokens(&self, sequence: &[u32]) -> Result<Vec<usize>, TrainError> {
        let wanted = self.config.seq_len + 1;
        if sequence.len() != wanted {
            return Err(TrainError::Length { found: sequence.len(), wanted });
        }
        let vocab = self.config.vocab;
        match sequence.iter().position(|token| *token as usize >= vocab) {
            Some(place) => Err(TrainError::Token { token: sequence[place], place, vocab }),
            None => Ok(sequence.iter().map(|token| *token as usize).collect()),
        }
    }

    /// Forth through all layers.
    fn forward(&mut self, tokens: &[usize]) -> Result<Forward, TrainError> {
        self.stage()?;
        let (d, seq) = (self.config.d_model, self.config.seq_len);
        let mut rows = Buffer::new(seq * d);
        loss::take_rows(&mut rows, tokens, Matrix::new(&self.params.embedding.value, self.config.vocab, d));
        let mut x = Value::single(transposed(&rows, [seq, d]));
        let mut all = Vec::with_capacity(self.config.n_layer);
        for (at, layer) in self.params.layers.iter().enumerate() {
            let mut values = Values::from([("x".to_owned(), x)]);
            self.layers.forward(at, layer, &mut values)?;
            x = values.get("next").cloned().ok_or_else(|| TrainError::Missing("next".to_owned()))?;
            all.push(values);
        }
        let last = x.numbers();
        let stream = last.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let hidden = host::norm(&last, &self.params.gain.value, seq);
        Ok(Forward { layers: all, last, hidden, stream })
    }

    /// The loss of targets, and where `learn` says so gradients, times the loss scale; the head's is added to the embedding's.
    fn loss(&mut self, hidden: &Buffer, targets: &[usize], learn: Option<f32>) -> Result<Loss, TrainError> {
        let (d, seq, vocab) = (self.config.d_model, self.config.seq_len, self.config.vocab);
        if let Some(head) = &mut self.head {
            let embedding = &mut self.params.embedding;
            let (losses, by_hidden, spent) = head.run(hidden, targets, learn, &mut embedding.gradient)?;
            spent.into_iter().for_each(|spent| self.layers.times.add(spent));
            return Ok(Loss { losses, by_hidden });
        }
        head::on_host(
            hidden,
            targets,
            learn,
            self.options.softcap,
            [d, seq, vocab],
            &self.params.embedding.value,
            &mut self.params.embedding.gradient,
        )
        .map(|(losses, by_hidden)| Loss { losses, by_hidden })
    }

    /// The loss in nats of each target of a sequence, by the same function that is trained.
    ///
    /// # Errors
    /// Tokens that are not known, or what the runtime says.
    pub fn evaluate(&mut self, sequence: &[u32]) -> Result<Vec<f32>, TrainError> {
        let tokens = self.tokens(sequence)?;
        // Within the pool, so that its threads need not be woken for each loop.
        rayon::scope(|_| {
            let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
            let forward = self.forward(inputs)?;
            Ok(self.loss(&forward.hidden, targets, None)?.losses)
        })
    }

    /// Adds the gradients of a sequence's mean loss, times the loss scale and `share`, to what the optimiser gets, and gives the
    /// mean loss and the stream's largest number.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`], and numbers that are not finite.
    pub fn accumulate(&mut self, sequence: &[u32], share: f32) -> Result<(f64, f32), TrainError> {
        let tokens = self.tokens(sequence)?;
        rayon::scope(|_| self.accumulate_tokens(&tokens, share))
    }

    fn accumulate_tokens(&mut self, tokens: &[usize], share: f32) -> Result<(f64, f32), TrainError> {
        let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let (d, seq) = (self.config.d_model, self.config.seq_len);
        let forward = self.forward(inputs)?;
        let scale = self.progress.loss_scale * share;
        let Loss { losses, by_hidden } = self.loss(&forward.hidden, targets, Some(scale))?;
        let gain = &mut self.params.gain;
        let by_last = host::norm_backward(&forward.last, &gain.value, &by_hidden, &mut gain.gradient, seq);
        let mut gradient = Value::single(by_last);
        let mut owed: layers::Gradients = self
            .params
            .layers
            .iter_mut()
            .map(|layer| layer.weights.each_mut().map(|w| std::mem::take(&mut w.gradient)))
            .collect();
        let config = self.config.clone();
        let (sender, receiver) = channel();
        let beside = self.beside;
        let back = |pay: &mut dyn FnMut()| -> Result<(), TrainError> {
            for (at, mut values) in forward.layers.into_iter().enumerate().rev() {
                values.insert("d_next".to_owned(), gradient.clone());
                self.layers.backward(at, &mut self.params.layers[at], &mut values, &sender)?;
                pay();
                let by_x = values.remove("d_x").ok_or_else(|| TrainError::Missing("d_x".to_owned()))?;
                gradient = by_x;
            }
            drop(sender);
            Ok(())
        };
        let result = match beside {
            // The device computes while the host adds up.
            true => std::thread::scope(|scope| {
                let (config, owed) = (&config, &mut owed);
                let paid = scope.spawn(move || layers::pay(config, owed, receiver.into_iter()));
                let result = back(&mut || {});
                // A panic of the helper is one of ours.
                if let Err(panic) = paid.join() {
                    std::panic::resume_unwind(panic);
                }
                result
            }),
            false => back(&mut || layers::pay(&config, &mut owed, receiver.try_iter())),
        };
        for (layer, gradients) in self.params.layers.iter_mut().zip(owed) {
            layer.weights.iter_mut().zip(gradients).for_each(|(weight, gradient)| weight.gradient = gradient);
        }
        result?;
        let rows = transposed(&gradient.numbers(), [d, seq]);
        loss::add_rows(&mut self.params.embedding.gradient, inputs, &rows, d);
        let mean = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64;
        Ok((mean, forward.stream))
    }

    /// One step of the optimiser over some sequences. A step whose gradients overflow is skipped and counted, and the loss scale
    /// halved; after enough good ones it doubles.
    ///
    /// # Errors
    /// What the runtime says, unknown tokens, or training that has diverged for good.
    pub fn step(&mut self, sequences: &[Vec<u32>]) -> Result<StepReport, TrainError> {
        self.layers.times = Times::default();
        let share = 1.0 / sequences.len().max(1) as f32;
        let (mut loss, mut stream) = (0.0, 0.0_f32);
        let mut skipped = None;
        let mut forth = false;
        self.params.clear();
        for sequence in sequences {
            match self.accumulate(sequence, share) {
                Ok((own, most)) => {
                    loss += own * f64::from(share);
                    stream = stream.max(most);
                }
                Err(error @ TrainError::NotFinite { back, .. }) => {
                    forth = !back;
                    skipped = Some(error.to_string());
                    loss = f64::NAN;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let norm = self.params.gradient_norm() / f64::from(self.progress.loss_scale);
        if skipped.is_none() && !norm.is_finite() {
            skipped = Some("gradients are not finite".to_owned());
        }
        let (rate, loss_scale) = (self.options.rate(self.progress.step), self.progress.loss_scale);
        self.progress.step += 1;
        let step = self.progress.step;
        let gradient_norm = match &skipped {
            Some(why) => {
                self.skip(forth, why)?;
                None
            }
            None => {
                self.update(norm, rate);
                Some(norm)
            }
        };
        let device = self.layers.times;
        Ok(StepReport { step, loss, gradient_norm, rate, loss_scale, stream, skipped, device })
    }

    fn skip(&mut self, forth: bool, why: &str) -> Result<(), TrainError> {
        let progress = &mut self.progress;
        progress.skipped += 1;
        progress.steady = 0;
        if forth {
            // No loss scale helps activations.
            progress.diverging += 1;
            if progress.diverging >= DIVERGED {
                return Err(TrainError::Diverged { steps: progress.diverging, last: why.to_owned() });
            }
            return Ok(());
        }
        if progress.loss_scale <= SCALES.0 {
            return Err(TrainError::Gradients(progress.loss_scale));
        }
        progress.loss_scale = (progress.loss_scale / 2.0).max(SCALES.0);
        Ok(())
    }

    fn update(&mut self, norm: f64, rate: f64) {
        self.progress.updates += 1;
        self.progress.diverging = 0;
        let options = &self.options;
        let times = self.progress.updates.min(i32::MAX as u64) as i32;
        let clip = if norm > options.clip_norm { options.clip_norm / norm } else { 1.0 };
        let by = (clip / f64::from(self.progress.loss_scale)) as f32;
        for (group, param) in self.params.all_mut() {
            let (units, decay) = match group {
                Group::Matrix => (options.matrix_rate, options.weight_decay),
                Group::Gain => (1.0, 0.0),
                Group::Embedding => (options.embedding_rate, 0.0),
            };
            let rate = options.learning_rate * units * rate;
            scale(&mut param.gradient, by);
            let step = AdamW {
                mean: [options.beta1 as f32, (1.0 - options.beta1) as f32],
                square: [options.beta2 as f32, (1.0 - options.beta2) as f32],
                mean_scale: (rate / (1.0 - options.beta1.powi(times))) as f32,
                root_scale: (1.0 / (1.0 - options.beta2.powi(times)).sqrt()) as f32,
                epsilon: 1e-8,
                kept: (1.0 - rate * decay) as f32,
            };
            adamw(&mut param.value, &mut param.mean, &mut param.square, &param.gradient, step);
        }
        self.stale = true;
        self.progress.steady += 1;
        if self.progress.steady >= self.options.growth_every {
            self.progress.loss_scale = (self.progress.loss_scale * 2.0).min(SCALES.1);
            self.progress.steady = 0;
        }
    }
}

/// The recipe that is predicted to be the fastest on a chip, among all ways of joining programs; programs that the chip refuses
/// do not count.
///
/// # Errors
/// When none is taken: why the last was not.
pub fn fastest(config: &Config, profile: &Profile) -> Result<(Recipe, f64), TrainError> {
    config.check()?;
    let rates = Rates::of_chip(profile);
    let mut best: Option<(Recipe, f64)> = None;
    let mut refused = None;
    for fused in Fused::ALL {
        for rotary in [Rotary::Join, Rotary::Permute] {
            let recipe = Recipe::new(config, rotary, fused)?;
            let findings = recipe.kernels().flat_map(|kernel| {
                let program = profile.dialect(&kernel.graph.program);
                crate::mil::lint_for(&program, profile)
            });
            let hard = findings.into_iter().find(|one| {
                one.rule.shows == crate::mil::Shows::Text && one.effect >= crate::mil::Effect::Evaluation
            });
            if let Some(finding) = hard {
                refused = Some(finding);
                continue;
            }
            let seconds = predicted(&recipe, &rates);
            if best.as_ref().is_none_or(|(_, least)| seconds < *least) {
                best = Some((recipe, seconds));
            }
        }
    }
    best.ok_or_else(|| {
        let why = refused.map_or_else(String::new, |finding| finding.to_string());
        TrainError::Runtime(RuntimeError::Compile {
            code: crate::runtime::CompileCode::CompilationFailure,
            detail: format!("{} takes no recipe of `{}`: {why}", profile.name, config.name),
        })
    })
}

/// Predicted device seconds of a layer, forth and back.
pub fn predicted(recipe: &Recipe, rates: &Rates) -> f64 {
    let functions = recipe.kernels().flat_map(|kernel| &kernel.graph.program.functions);
    functions.map(|function| rates.seconds(&Work::of(function))).sum()
}

#[cfg(test)]
mod tests;
