//! How one layer is computed, forth and back: which programs the device runs on what, and what the host does between. A recipe
//! is data: the trainer executes it, the cost model predicts it, and whoever wants another split between device and host writes
//! another one.
//!
//! Values are matrices `[channels, seq]` with names. Forth, `x` is given and `next` is wanted; back, `d_next` (the gradient by
//! `next`, times the loss scale) is given beside all values of the way forth, and `d_x` and the gradients of all weights are
//! wanted.

mod files;
mod ours;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::graphs::Graph;
use crate::mil::{TypeError, check_types};
pub use files::FileError;
pub use ours::Fused;

/// How one layer is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is called.
    pub name: String,
    /// Forth, in order.
    pub forward: Vec<Node>,
    /// Back, in order.
    pub backward: Vec<Node>,
}

/// A step of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The device runs a program.
    Kernel(Kernel),
    /// The host does something.
    Host(Host),
}

/// A program with what goes where.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// The program, with one input and one output.
    pub graph: Graph,
    /// What the input holds.
    pub parts: Vec<Part>,
    /// What the output holds, on its channels from the first on: a name and how many; no name for what nobody needs.
    pub outputs: Vec<(Option<String>, usize)>,
}

/// Something in an input, with its first channel and its first place on the last axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What.
    pub what: What,
    /// First channel.
    pub channel: usize,
    /// First place.
    pub place: usize,
}

/// What a part of an input is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A value by its name, `[channels, seq]`.
    Value(String),
    /// A weight as it is stored, `[out, in]`.
    Weight(Weight),
    /// A weight turned, `[in, out]`.
    Turned(Weight),
}

/// A matrix of a layer, stored `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// `[Q, D]`.
    Query,
    /// `[K, D]`.
    Key,
    /// `[K, D]`.
    Value,
    /// `[D, Q]`.
    Output,
    /// W1, `[H, D]`: what is opened by SiLU.
    Gate,
    /// W2, `[D, H]`.
    Down,
    /// W3, `[H, D]`.
    Up,
}

impl Weight {
    /// All of a layer, in the order of public checkpoints.
    pub const ALL: [Weight; 7] =
        [Weight::Query, Weight::Key, Weight::Value, Weight::Output, Weight::Gate, Weight::Down, Weight::Up];

    /// Rows and columns: outputs and inputs.
    pub fn shape(self, config: &Config) -> [usize; 2] {
        let (d, h) = (config.d_model, config.d_hidden);
        match self {
            Weight::Query => [config.q_dim(), d],
            Weight::Key | Weight::Value => [config.kv_dim(), d],
            Weight::Output => [d, config.q_dim()],
            Weight::Gate | Weight::Up => [h, d],
            Weight::Down => [d, h],
        }
    }
}

/// A gain of a layer's norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// Before attention.
    Attention,
    /// Before the MLP.
    Mlp,
}

/// What the host does, in single precision. Results come last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// `out = x / rms(x) * gain`.
    Norm {
        /// What is normed.
        x: String,
        /// By which gain.
        gain: Gain,
        /// The result.
        out: String,
    },
    /// Gradient of [`Host::Norm`] by `x`; the gain's is added to what the optimiser gets.
    NormBackward {
        /// What was normed.
        x: String,
        /// By which gain.
        gain: Gain,
        /// Gradient by the result.
        dy: String,
        /// Gradient by `x`.
        out: String,
    },
    /// `out = a + alpha b` with the model's `alpha`, or `out = a + b`.
    Add {
        /// The stream, most often.
        a: String,
        /// What is added.
        b: String,
        /// Whether `b` is scaled by `alpha`.
        scaled: bool,
        /// The result.
        out: String,
    },
    /// `out = alpha x`.
    Scale {
        /// What is scaled.
        x: String,
        /// The result.
        out: String,
    },
    /// Gradients of `silu(h1) h3`.
    SwigluBackward {
        /// What is opened by SiLU.
        h1: String,
        /// What it is multiplied with.
        h3: String,
        /// Gradient by the product.
        dgate: String,
        /// Gradient by `h1`.
        dh1: String,
        /// Gradient by `h3`.
        dh3: String,
    },
    /// Each key head for all query heads that share it.
    Repeat {
        /// `[K, seq]`.
        x: String,
        /// `[Q, seq]`.
        out: String,
    },
    /// The sum over query heads that share a key head: the gradient of [`Host::Repeat`].
    Gather {
        /// `[Q, seq]`.
        x: String,
        /// `[K, seq]`.
        out: String,
    },
    /// Rotary embedding the other way round: its gradient.
    TurnBack {
        /// `[heads dim, seq]`.
        x: String,
        /// The result.
        out: String,
    },
    /// Adds `dy x^T` to a weight's gradient.
    WeightGradient {
        /// Which.
        weight: Weight,
        /// Gradient by what the weight gives.
        dy: String,
        /// What it takes.
        x: String,
    },
}

/// Why a recipe makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecipeError {
    /// A program's types do not go together.
    #[error(transparent)]
    Types(#[from] TypeError),
    /// Anything else.
    #[error("{at}: {problem}")]
    Step {
        /// The step.
        at: String,
        /// What is wrong.
        problem: String,
    },
}

/// A value, as a part of an input.
pub fn value(name: &str) -> What {
    What::Value(name.to_owned())
}

/// A weight as it is stored, `[out, in]`, as a part of an input.
pub fn weight(weight: Weight) -> What {
    What::Weight(weight)
}

/// A weight turned, `[in, out]`, as a part of an input.
pub fn turned(weight: Weight) -> What {
    What::Turned(weight)
}

/// Parts side by side, from the first channel on: what, and how many places it takes.
pub fn beside(all: &[(What, usize)]) -> Vec<Part> {
    let mut place = 0;
    all.iter()
        .map(|(what, width)| {
            let part = Part { what: what.clone(), channel: 0, place };
            place += width;
            part
        })
        .collect()
}

/// Values one below the other: names, and how many channels each has.
pub fn stacked(names: &[(&str, usize)]) -> Vec<Part> {
    let mut channel = 0;
    names
        .iter()
        .map(|(name, channels)| {
            let part = Part { what: value(name), channel, place: 0 };
            channel += channels;
            part
        })
        .collect()
}

impl Recipe {
    /// All kernels, forth and back.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.forward.iter().chain(&self.backward).filter_map(|node| match node {
            Node::Kernel(kernel) => Some(kernel),
            Node::Host(_) => None,
        })
    }

    /// Checks that every step gets what it takes, that inputs hold what is put there, and that all that is wanted comes out once.
    ///
    /// # Errors
    /// The first step that does not fit.
    pub fn check(&self, config: &Config) -> Result<(), RecipeError> {
        self.walk(config).map(|_| ())
    }

    /// Its steps, forth and back, each with the channels of the values that it reads and gives.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn walk(&self, config: &Config) -> Result<[Vec<Step<'_>>; 2], RecipeError> {
        let wrong = |problem: String| RecipeError::Step { at: self.name.clone(), problem };
        let wanted = |known: &BTreeMap<String, usize>, name: &str| match known.get(name) {
            Some(rows) if *rows == config.d_model => Ok(()),
            Some(rows) => Err(wrong(format!("`{name}` has {rows} channels, and not {}", config.d_model))),
            None => Err(wrong(format!("nothing gives `{name}`"))),
        };
        let mut known = BTreeMap::from([("x".to_owned(), config.d_model)]);
        let mut done = Done::default();
        fn walk<'a>(
            nodes: &'a [Node],
            config: &Config,
            known: &mut BTreeMap<String, usize>,
            done: &mut Done,
        ) -> Result<Vec<Step<'a>>, RecipeError> {
            nodes
                .iter()
                .map(|node| node.check(config, known, done).map(|[reads, gives]| Step { node, reads, gives }))
                .collect()
        }
        let forth = walk(&self.forward, config, &mut known, &mut done)?;
        wanted(&known, "next")?;
        if !done.weights.is_empty() || !done.gains.is_empty() {
            return Err(wrong("gradients are made on the way forth".to_owned()));
        }
        known.insert("d_next".to_owned(), config.d_model);
        let back = walk(&self.backward, config, &mut known, &mut done)?;
        wanted(&known, "d_x")?;
        if let Some(weight) = Weight::ALL.iter().find(|weight| !done.weights.contains(weight)) {
            return Err(wrong(format!("nothing makes the gradient of {weight:?}")));
        }
        for gain in [Gain::Attention, Gain::Mlp] {
            if !done.gains.contains(&gain) {
                return Err(wrong(format!("nothing makes the gradient of the gain {gain:?}")));
            }
        }
        Ok([forth, back])
    }
}

/// A step of a recipe that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<'a> {
    /// What is done.
    pub node: &'a Node,
    /// Channels of the values that it reads; weights are none.
    pub reads: Vec<usize>,
    /// Channels of the values that it gives.
    pub gives: Vec<usize>,
}

/// What was made so far.
#[derive(Default)]
struct Done {
    weights: BTreeSet<Weight>,
    gains: BTreeSet<Gain>,
}

impl Node {
    /// As people call it.
    pub fn name(&self) -> String {
        match self {
            Node::Kernel(kernel) => kernel.graph.name.clone(),
            Node::Host(host) => host.name().to_owned(),
        }
    }

    /// Channels of what it reads and of what it gives, which is known from then on.
    fn check(
        &self,
        config: &Config,
        known: &mut BTreeMap<String, usize>,
        done: &mut Done,
    ) -> Result<[Vec<usize>; 2], RecipeError> {
        let at = self.name();
        let wrong = |problem: String| RecipeError::Step { at: at.clone(), problem };
        let (names, given) = match self {
            Node::Kernel(kernel) => {
                kernel.check(config, known)?;
                (kernel.reads(), kernel.outputs.clone())
            }
            Node::Host(host) => {
                let given = host.check(config, known).map_err(wrong)?;
                let again = match host {
                    Host::WeightGradient { weight, .. } => !done.weights.insert(*weight),
                    Host::NormBackward { gain, .. } => !done.gains.insert(*gain),
                    _ => false,
                };
                if again {
                    return Err(wrong("this gradient was made before".to_owned()));
                }
                (host.reads(), given.into_iter().map(|(name, rows)| (Some(name), rows)).collect())
            }
        };
        let reads = names.into_iter().filter_map(|name| known.get(name).copied()).collect();
        let gives = given.iter().map(|(_, rows)| *rows).collect();
        for (name, rows) in given {
            let Some(name) = name else { continue };
            if known.insert(name.clone(), rows).is_some() {
                return Err(wrong(format!("`{name}` is there already")));
            }
        }
        Ok([reads, gives])
    }
}

impl Kernel {
    /// A step that runs a program: what its input holds, and what its output holds by channels; an empty name for what nobody
    /// needs.
    #[expect(clippy::new_ret_no_self, reason = "a kernel is always a step of a recipe")]
    pub fn new(graph: Graph, parts: Vec<Part>, outputs: &[(&str, usize)]) -> Node {
        let outputs = outputs
            .iter()
            .map(|(name, rows)| ((!name.is_empty()).then(|| (*name).to_owned()), *rows))
            .collect();
        Node::Kernel(Kernel { graph, parts, outputs })
    }

    /// Names of the values that its input holds.
    fn reads(&self) -> Vec<&str> {
        let values = self.parts.iter().filter_map(|part| match &part.what {
            What::Value(name) => Some(name.as_str()),
            What::Weight(_) | What::Turned(_) => None,
        });
        values.collect()
    }

    /// Channels and places of the input, and of the output.
    pub fn sizes(&self) -> Option<[usize; 4]> {
        let [function] = self.graph.program.functions.as_slice() else { return None };
        let [(input, _)] = function.inputs.as_slice() else { return None };
        let [output] = function.outputs.as_slice() else { return None };
        let output = &function.body.iter().rev().find(|one| one.result == *output)?.ty;
        let size = |shape: &[u64]| -> Option<[usize; 2]> {
            let [1, channels, 1, places] = shape else { return None };
            Some([usize::try_from(*channels).ok()?, usize::try_from(*places).ok()?])
        };
        let ([a, b], [c, d]) = (size(input.shape())?, size(output.shape())?);
        Some([a, b, c, d])
    }

    fn check(&self, config: &Config, known: &BTreeMap<String, usize>) -> Result<(), RecipeError> {
        let wrong = |problem: String| RecipeError::Step { at: self.graph.name.clone(), problem };
        for function in &self.graph.program.functions {
            check_types(function)?;
        }
        let Some([channels, places, out_channels, out_places]) = self.sizes() else {
            return Err(wrong(
                "a program takes one input and gives one output, each [1, channels, 1, places]".into(),
            ));
        };
        let mut taken: Vec<[usize; 4]> = Vec::new();
        for part in &self.parts {
            let (rows, columns) = match &part.what {
                What::Value(name) => {
                    let rows = known.get(name).ok_or_else(|| wrong(format!("`{name}` is not there yet")))?;
                    (*rows, config.seq_len)
                }
                What::Weight(weight) => {
                    let [rows, columns] = weight.shape(config);
                    (rows, columns)
                }
                What::Turned(weight) => {
                    let [rows, columns] = weight.shape(config);
                    (columns, rows)
                }
            };
            let (end, far) = (part.channel.saturating_add(rows), part.place.saturating_add(columns));
            if end > channels || far > places {
                let problem = format!(
                    "{:?} takes channels to {end} and places to {far}, and the input has {channels} x {places}",
                    part.what
                );
                return Err(wrong(problem));
            }
            let crosses = |other: &[usize; 4]| {
                part.channel < other[1] && other[0] < end && part.place < other[3] && other[2] < far
            };
            if taken.iter().any(crosses) {
                return Err(wrong(format!("{:?} lies over another part", part.what)));
            }
            taken.push([part.channel, end, part.place, far]);
        }
        let rows: usize = self.outputs.iter().map(|(_, rows)| *rows).sum();
        if rows > out_channels || out_places != config.seq_len {
            let problem = format!(
                "{rows} channels of {} tokens are read, and the output has {out_channels} x {out_places}",
                config.seq_len
            );
            return Err(wrong(problem));
        }
        Ok(())
    }
}

impl Host {
    /// As people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Host::Norm { .. } => "norm",
            Host::NormBackward { .. } => "norm backward",
            Host::Add { .. } => "add",
            Host::Scale { .. } => "scale",
            Host::SwigluBackward { .. } => "SwiGLU backward",
            Host::Repeat { .. } => "repeat heads",
            Host::Gather { .. } => "gather heads",
            Host::TurnBack { .. } => "turn back",
            Host::WeightGradient { .. } => "weight gradient",
        }
    }

    /// What it gives, with channels.
    fn check(
        &self,
        config: &Config,
        known: &BTreeMap<String, usize>,
    ) -> Result<Vec<(String, usize)>, String> {
        let rows =
            |name: &String| known.get(name).copied().ok_or_else(|| format!("`{name}` is not there yet"));
        let same = |a: &String, b: &String| -> Result<usize, String> {
            let (own, other) = (rows(a)?, rows(b)?);
            (own == other)
                .then_some(own)
                .ok_or_else(|| format!("`{a}` has {own} channels, and `{b}` {other}"))
        };
        let of = |name: &String, wanted: usize| -> Result<(), String> {
            let found = rows(name)?;
            (found == wanted)
                .then_some(())
                .ok_or_else(|| format!("`{name}` has {found} channels, and not {wanted}"))
        };
        let d = config.d_model;
        match self {
            Host::Norm { x, out, .. } => {
                of(x, d)?;
                Ok(vec![(out.clone(), d)])
            }
            Host::NormBackward { x, dy, out, .. } => {
                of(x, d)?;
                of(dy, d)?;
                Ok(vec![(out.clone(), d)])
            }
            Host::Add { a, b, out, .. } => Ok(vec![(out.clone(), same(a, b)?)]),
            Host::Scale { x, out } => Ok(vec![(out.clone(), rows(x)?)]),
            Host::SwigluBackward { h1, h3, dgate, dh1, dh3 } => {
                same(h1, h3)?;
                let rows = same(h1, dgate)?;
                Ok(vec![(dh1.clone(), rows), (dh3.clone(), rows)])
            }
            Host::Repeat { x, out } => {
                of(x, config.kv_dim())?;
                Ok(vec![(out.clone(), config.q_dim())])
            }
            Host::Gather { x, out } => {
                of(x, config.q_dim())?;
                Ok(vec![(out.clone(), config.kv_dim())])
            }
            Host::TurnBack { x, out } => {
                let rows = rows(x)?;
                let whole = rows.is_multiple_of(config.head_dim);
                whole.then_some(vec![(out.clone(), rows)]).ok_or_else(|| format!("`{x}` is no whole heads"))
            }
            Host::WeightGradient { weight, dy, x } => {
                let [outputs, inputs] = weight.shape(config);
                of(dy, outputs)?;
                of(x, inputs)?;
                Ok(Vec::new())
            }
        }
    }

    /// Names that it reads.
    fn reads(&self) -> Vec<&str> {
        match self {
            Host::Norm { x, .. } | Host::Scale { x, .. } | Host::Repeat { x, .. } => vec![x],
            Host::Gather { x, .. } | Host::TurnBack { x, .. } => vec![x],
            Host::NormBackward { x, dy, .. } => vec![x, dy],
            Host::Add { a, b, .. } => vec![a, b],
            Host::SwigluBackward { h1, h3, dgate, .. } => vec![h1, h3, dgate],
            Host::WeightGradient { dy, x, .. } => vec![dy, x],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphs::Rotary;

    #[test]
    fn what_does_not_fit_is_named_with_its_step() {
        let config = Config::of("tiny").unwrap();
        let broken = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = Recipe::new(&config, Rotary::Join, Fused::default()).unwrap();
            change(&mut recipe);
            recipe.check(&config).unwrap_err().to_string()
        };
        let with_kernel = |change: &dyn Fn(&mut Kernel)| {
            broken(&|recipe| {
                if let Node::Kernel(kernel) = &mut recipe.forward[1] {
                    change(kernel);
                }
            })
        };
        assert!(with_kernel(&|kernel| kernel.parts[1].place = 0).contains("lies over another part"));
        assert!(with_kernel(&|kernel| kernel.parts[1].place = 4000).contains("takes channels to"));
        assert!(
            with_kernel(&|kernel| kernel.parts[0].what = value("later")).contains("`later` is not there yet")
        );
        assert!(with_kernel(&|kernel| kernel.outputs[0].1 = 4000).contains("channels of 64 tokens are read"));
        assert!(
            broken(&|recipe| {
                let gradient =
                    recipe.backward.iter().find(|node| node.name() == "norm backward").cloned().unwrap();
                let Node::Host(Host::NormBackward { gain, .. }) = gradient else { panic!("{gradient:?}") };
                let [x, dy, out] = ["x", "x", "early"].map(str::to_owned);
                recipe.forward.push(Node::Host(Host::NormBackward { x, gain, dy, out }));
            })
            .contains("on the way forth")
        );
        assert!(
            broken(&|recipe| {
                recipe.forward.pop();
            })
            .contains("nothing gives `next`")
        );
        let without =
            |name: &'static str| broken(&move |recipe| recipe.backward.retain(|node| node.name() != name));
        assert!(without("weight gradient").contains("gradient of Query"));
        assert!(
            broken(&|recipe| {
                let last = recipe.backward.iter().rposition(|node| node.name() == "weight gradient").unwrap();
                let again = recipe.backward[last].clone();
                recipe.backward.push(again);
            })
            .contains("made before")
        );
    }
}
