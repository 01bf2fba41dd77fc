//! What the Neural Engine's compiler and hardware refuse, spoil in silence or do slowly. Each restriction says who found it, on
//! which chips, and what to do instead; where sources contradict each other it says so, and holds on the chips of those who
//! found it. What a program's text shows is found here; what surfaces, arithmetic or a process show is found where they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Argument, Function, Literal, Operation, Program, Scalar, Type};
use crate::profile::Profile;
use crate::runtime::width;

/// What happens when a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It cannot be broken through this library.
    Impossible,
    /// Slower, a loss of something, or refused by some.
    Warning,
    /// Wrong numbers without a word.
    Silent,
    /// It compiles, and evaluating it fails.
    Evaluation,
    /// It does not compile.
    Compile,
}

impl Effect {
    /// As people say it.
    pub fn words(self) -> &'static str {
        match self {
            Effect::Impossible => "cannot happen here",
            Effect::Warning => "warning",
            Effect::Silent => "wrong numbers in silence",
            Effect::Evaluation => "evaluating fails",
            Effect::Compile => "does not compile",
        }
    }
}

/// Where breaking a rule shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// In a program's text: [`lint`] finds it.
    Text,
    /// In the surfaces that are bound.
    Surfaces,
    /// In the numbers.
    Arithmetic,
    /// Over a process, or its weight files.
    Process,
    /// Nowhere: this library keeps it.
    Library,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number in the list of restrictions.
    pub id: &'static str,
    /// What breaking it does, where it holds.
    pub effect: Effect,
    /// Where that shows.
    pub shows: Shows,
    /// What it asks for.
    pub text: &'static str,
    /// Where it was seen.
    pub chips: &'static str,
    /// Who says so.
    pub source: &'static str,
    /// What to do instead.
    pub mend: &'static str,
}

/// A rule that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it does on the chip that was asked for.
    pub effect: Effect,
    /// The result, input or output that breaks it.
    pub at: String,
    /// How.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rule { id, text, mend, source, chips, .. } = self.rule;
        write!(out, "{id} at `{}`: {}; {text} ({chips}; {source}); {mend}", self.at, self.detail)
    }
}

macro_rules! rules {
    ($($name:ident $id:literal $effect:ident $shows:ident $text:literal $chips:literal $source:literal $mend:literal)*) => {
        $(static $name: Rule = Rule {
            id: $id,
            effect: Effect::$effect,
            shows: Shows::$shows,
            text: $text,
            chips: $chips,
            source: $source,
            mend: $mend,
        };)*

        /// All restrictions, by number.
        pub fn rules() -> Vec<&'static Rule> {
            vec![$(&$name),*]
        }
    };
}

rules! {
    R01 "R01" Warning Text
        "`concat` is refused by some compilers"
        "M1; M4 Max with several outputs" "Orion, constraint 1; issue 47 of maderix/ANE; contradicted by maderix/ANE, h3 and others on M4"
        "join on the host where a chip refuses it"
    R02 "R02" Evaluation Surfaces
        "surfaces of outputs are equally large"
        "M4 Max" "Orion, constraint 2"
        "give one output, or pad surfaces to the largest"
    R03 "R03" Silent Text
        "outputs bind in the alphabetical order of their names"
        "all" "Orion, constraint 3"
        "name outputs so that their order is the alphabetical one"
    R04 "R04" Evaluation Surfaces
        "a surface has 49152 bytes or more"
        "M4 Max" "Orion, constraint 4; contradicted by maderix/ANE, whose tests pass with 8 KiB"
        "pad surfaces to 49152 bytes where a chip asks for it"
    R05 "R05" Compile Process
        "one process compiles about 119 programs"
        "M4, M4 Max" "maderix/ANE; Orion, constraint 5; ANEForge"
        "pass weights in the input, so that a program is compiled once; else start another process"
    R06 "R06" Silent Text
        "`scaled_dot_product_attention` ignores its mask"
        "M4" "maderix/ANE; Orion, constraint 6; e5rt is said to honour it"
        "add a constant mask before `softmax`"
    R07 "R07" Silent Process
        "weights are read when a program is compiled, and not when it is loaded again"
        "M4, M5" "maderix/ANE, m5result.md; Orion, constraint 7, whose second version says otherwise"
        "compile again, or pass weights in the input"
    R08 "R08" Silent Text
        "BLOBFILE names the place of a descriptor, 64 for the first"
        "M4 Max" "Orion, constraint 8; coremltools' reader"
        "write files with `blob::BlobWriter`, which gives the place"
    R09 "R09" Impossible Library
        "the program is handed over as UTF-8 data, and not as a string object"
        "M4 Max" "Orion, constraint 9"
        "hand over a `Program`"
    R10 "R10" Compile Text
        "there is no `gelu`"
        "M4 Max" "Orion, constraint 10; e5rt accepts one mode of it"
        "write it with `tanh`"
    R11 "R11" Impossible Library
        "the dictionary of weights is empty rather than nothing"
        "M4 Max" "Orion, constraint 11"
        "hand over `Weights`, empty or not"
    R12 "R12" Evaluation Surfaces
        "surfaces of inputs are equally large"
        "M4 Max; on M1 they ascend, and outputs descend" "Orion, constraint 12; issue 47 of maderix/ANE; h3 runs two inputs"
        "pack inputs into one, or pad surfaces to the largest"
    R13 "R13" Silent Text
        "inputs bind in the alphabetical order of their names"
        "all" "Orion, constraint 13; h3"
        "name inputs so that their order is the alphabetical one"
    R14 "R14" Silent Library
        "numbers lie packed by the declared shape from the first byte on"
        "M4 Max" "Orion, constraint 14"
        "write rows without gaps, also into larger surfaces"
    R15 "R15" Compile Text
        "the flags of `matmul` are names of constants"
        "M4 Max" "Orion; arXiv 2603.06728; e5rt takes values in place"
        "make a `const` for each flag"
    R16 "R16" Compile Text
        "`conv` takes no `bias`"
        "M4 Max" "Orion"
        "add it by `add`"
    R17 "R17" Compile Text
        "what is returned is a result or an input"
        "M4 Max" "Orion"
        "return a name that is given"
    R18 "R18" Warning Text
        "the largest tensor fits 32 MB of fast memory"
        "M4" "Orion; maderix/ANE"
        "split it, or expect the lower rate"
    R19 "R19" Evaluation Text
        "there are 16 positions or more"
        "M4 Max" "Orion; contradicted as R04 is"
        "pad the last axis to 16"
    R20 "R20" Warning Library
        "programs are unloaded"
        "all" "Orion"
        "nothing: a kernel unloads itself when it is dropped"
    R21 "R21" Compile Process
        "the size in a weight's descriptor is the size of its tensor"
        "M3 Pro, M3 Ultra, M4 Max" "ncdrone/autoresearch-ANE, commit a3f25e5; issues 3 and 42 of maderix/ANE; tolerated on M4 and M5"
        "write files with `blob::BlobWriter`"
    R22 "R22" Compile Text
        "the last axis has at most 16384 places (65536 from M4 on)"
        "M3 Ultra, M4, M5" "rustane, issue 13; ANEForge"
        "split along that axis"
    R23 "R23" Compile Text
        "channels are at most 65536, and 32000 into a convolution are refused"
        "M1 to M5" "ANEForge; maderix/ANE"
        "use `matmul`, or split"
    R24 "R24" Compile Text
        "there are at most five axes, each of 1 to 65536"
        "all" "ANEForge"
        "fold axes together"
    R25 "R25" Silent Text
        "a row of an input or output is a multiple of 64 bytes"
        "M1, M4 Max" "rustane; issue 47 of maderix/ANE"
        "pad the last axis to 32 halves or 16 singles"
    R26 "R26" Evaluation Text
        "the last axis of an input is not between 14593 and 14622"
        "M4" "ane-prefill-bench"
        "use 14592 or 14624"
    R27 "R27" Compile Text
        "`rsqrt`, `sqrt`, `inverse` and `reduce_mean` are refused in text"
        "M3 Max, M4" "ane-prefill-bench; rustane; h3"
        "use `pow` with -0.5, `real_div`, or `reduce_sum` and a factor"
    R28 "R28" Evaluation Text
        "what `matmul` takes after a join comes from one input"
        "M4" "ane-prefill-bench"
        "pack all of it into one input"
    R29 "R29" Compile Text
        "the backward pass of attention is no single program"
        "M4" "fiale-plus/autoresearch-ane"
        "give the probabilities from one program to the next"
    R30 "R30" Warning Text
        "shared key and value heads crash one compiler"
        "not told" "fiale-plus/autoresearch-ane; contradicted by maderix/ANE with Qwen3"
        "repeat heads on the host where it happens"
    R31 "R31" Warning Text
        "rotary embedding by joins along the last axis is refused by some compilers"
        "M3 Ultra" "rustane, pull request 9"
        "multiply by a permutation matrix"
    R32 "R32" Warning Text
        "`cast` and single precision at inputs and outputs are refused by older compilers"
        "M1, M2" "maderix/ANE, pull request 6"
        "use halves at inputs and outputs"
    R33 "R33" Warning Text
        "older compilers read scalars in their longer form alone"
        "M1, M2" "maderix/ANE, pull request 6"
        "print `Program::for_old_compilers`"
    R34 "R34" Warning Text
        "several tensors of one weight file are refused by some compilers"
        "M1 Pro, M1 Max" "report in maderix/ANE; it may be R21 again"
        "one file a tensor"
    R35 "R35" Silent Arithmetic
        "a product is infinite beyond 32752"
        "M1 to M5" "ANEForge"
        "scale before, or keep activations small"
    R36 "R36" Silent Text
        "a slice that begins late on the last axis loses numbers beyond 4094"
        "M1, M2" "ANEForge"
        "keep numbers below 4094, or slice along channels"
    R37 "R37" Silent Arithmetic
        "`reduce_sum` adds in halves: whole numbers are exact to 2048"
        "all that were measured" "ANEForge"
        "multiply by ones"
    R38 "R38" Silent Arithmetic
        "tables of activations know no NaN"
        "all" "the guide, chapter 3; ANEForge"
        "look for NaN on the host"
    R39 "R39" Silent Text
        "the attention layer takes at most 2048 positions, and fewer than 512 on one side"
        "M5" "ANEForge"
        "write attention with `matmul` and `softmax`"
    R40 "R40" Compile Text
        "a reduction is not multiplied by zero"
        "M5" "ANEForge"
        "leave it out"
    R41 "R41" Warning Text
        "`softmax` over a size that is no power of two is refused by one compiler"
        "M3 Max" "Espresso; contradicted by maderix/ANE, which runs it over 32000 on M4"
        "pad to a power of two"
    R42 "R42" Warning Text
        "`slice_by_index` of an input is refused by one compiler"
        "M3 Max" "Espresso"
        "use `slice_by_size`"
    R43 "R43" Compile Text
        "a kernel of `conv` is at most 13 wide (15 on newer chips)"
        "all" "ANEForge"
        "split the kernel"
    R44 "R44" Warning Text
        "`concat` joins two through e5rt"
        "e5rt" "ANEForge; contradicted by joins of five in maderix/ANE"
        "join in pairs"
    R45 "R45" Compile Text
        "inputs and outputs are fp16, fp32 or bytes"
        "all; fp32 from M3 on" "ANEForge; maderix/ANE"
        "cast within the program"
    R46 "R46" Evaluation Text
        "an output has at most 32 MiB"
        "M4 Max" "results of ncdrone/autoresearch-ANE: 26.7 MB at 1024 positions run, 33.6 MB at 1152 fail; that size is the cause is assumed"
        "split the program"
    R47 "R47" Warning Process
        "after 100000 direct evaluations throughput decays on chips of two dies"
        "M3 Ultra" "rustane, pull request 9"
        "compile again"
    R48 "R48" Warning Text
        "channels beyond 4096 are several times slower"
        "M4 Max, M5 Max" "rustane"
        "split them"
    R49 "R49" Warning Process
        "one process at a time has the device"
        "all" "ncdrone/autoresearch-ANE; ANEForge"
        "run one"
    R50 "R50" Warning Process
        "each compile leaves a copy in the system's cache"
        "M4" "h3"
        "compile the same text again, which is found there"
    R51 "R51" Compile Library
        "shapes are fixed"
        "all" "ANEForge"
        "write a program for each shape"
    R52 "R52" Warning Text
        "a convolution by weights that are no constants takes one group and one image"
        "M1, M5" "issue 47 of maderix/ANE; ANEForge"
        "use `matmul`"
    R53 "R53" Impossible Library
        "compiling by file fails on macOS 26"
        "M1 Ultra" "maderix/ANE, pull request 27; Espresso, issue 18"
        "compile in memory"
    R54 "R54" Warning Surfaces
        "surfaces are multiples of 16384 bytes"
        "M4, M5" "h3; pull request 35 of maderix/ANE says 128"
        "round sizes up"
}

/// Most along any axis.
const MOST_AXIS: u64 = 65_536;
/// Channels into a convolution from which on it is refused.
const MOST_CONV_CHANNELS: u64 = 32_000;
/// Bytes that rows of inputs and outputs are multiples of.
const ROW: u64 = 64;
/// Bytes of fast memory, and of the largest output that was seen to run, about.
const FAST: u64 = 32 << 20;
/// Positions that are no fewer.
const LEAST_WIDTH: u64 = 16;
/// Channels from which on products are several times slower.
const QUICK_CHANNELS: u64 = 4096;
/// Operations from which on a graph is complex, which its source does not say: more than any of the small probes.
const COMPLEX: usize = 16;

/// All rules that a program's text breaks on some chip, in the order of its text.
pub fn lint(program: &Program) -> Vec<Finding> {
    let strictest = Profile { most_width: 16_384, refuses: &[], allows: &[], ..Profile::default() };
    lint_for(program, &strictest)
}

/// The rules that a program's text breaks on a chip.
pub fn lint_for(program: &Program, profile: &Profile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in &program.functions {
        let mut add = |rule: &'static Rule, at: &str, detail: String| {
            if profile.allows(rule.id) {
                return;
            }
            let effect = if profile.refuses.contains(&rule.id) { Effect::Compile } else { rule.effect };
            findings.push(Finding { rule, effect, at: at.to_owned(), detail });
        };
        Checked::new(function).all(profile.most_width, &mut add);
    }
    findings
}

type Add<'a> = &'a mut dyn FnMut(&'static Rule, &str, String);

/// A function, with what each name is and comes from.
struct Checked<'a> {
    function: &'a Function,
    given: BTreeMap<&'a str, &'a Operation>,
    /// Inputs that each name comes from.
    origins: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Names that come from a join.
    joined: BTreeSet<&'a str>,
}

impl<'a> Checked<'a> {
    fn new(function: &'a Function) -> Checked<'a> {
        let mut checked =
            Checked { function, given: BTreeMap::new(), origins: BTreeMap::new(), joined: BTreeSet::new() };
        for (_, name) in &function.inputs {
            checked.origins.insert(name, BTreeSet::from([name.as_str()]));
        }
        for operation in &function.body {
            let name = operation.result.as_str();
            let mut from = BTreeSet::new();
            let mut joined = operation.op == "concat";
            for part in names(operation) {
                from.extend(checked.origins.get(part).into_iter().flatten().copied());
                joined |= checked.joined.contains(part);
            }
            checked.origins.insert(name, from);
            if joined {
                checked.joined.insert(name);
            }
            checked.given.insert(name, operation);
        }
        checked
    }

    fn ty(&self, name: &str) -> Option<&'a Type> {
        let input = || self.function.inputs.iter().find(|(_, own)| own == name).map(|(ty, _)| ty);
        self.given.get(name).map(|operation| &operation.ty).or_else(input)
    }

    /// The operation that gives what a parameter gets.
    fn giver(&self, operation: &'a Operation, parameter: &str) -> Option<&'a Operation> {
        self.given.get(named(operation, parameter)?).copied()
    }

    fn all(&self, most_width: u64, add: Add<'_>) {
        let function = self.function;
        let inputs: Vec<&str> = function.inputs.iter().map(|(_, name)| name.as_str()).collect();
        alphabetical(&inputs, &R13, add);
        for (ty, name) in &function.inputs {
            port(ty, name, add);
            axes(ty, name, most_width, add);
            let last = ty.shape().last().copied().unwrap_or(1);
            if last < LEAST_WIDTH {
                add(&R19, name, format!("it has {last} positions"));
            }
            if (14_593..=14_622).contains(&last) && function.body.len() > COMPLEX {
                add(&R26, name, format!("its last axis has {last}"));
            }
        }
        self.equally_large(&inputs, &R12, add);
        for operation in &function.body {
            axes(&operation.ty, &operation.result, most_width, add);
            self.one(operation, add);
        }
        self.short_scalars(add);
        self.files(add);
        self.attention_backward(add);
        let outputs: Vec<&str> = function.outputs.iter().map(String::as_str).collect();
        alphabetical(&outputs, &R03, add);
        self.equally_large(&outputs, &R02, add);
        for output in outputs {
            let Some(ty) = self.ty(output) else {
                add(&R17, output, "nothing gives it".to_owned());
                continue;
            };
            port(ty, output, add);
            if bytes(ty) > FAST {
                add(&R46, output, format!("it has {} bytes", bytes(ty)));
            }
        }
    }

    fn equally_large(&self, names: &[&str], rule: &'static Rule, add: Add<'_>) {
        let sizes: Vec<Option<u64>> = names.iter().map(|name| self.ty(name).map(bytes)).collect();
        if sizes.windows(2).any(|pair| pair[0] != pair[1]) {
            add(rule, &names.join(", "), "they differ in size, so their surfaces need padding".to_owned());
        }
    }

    /// Scalars in their shorter form; the first is enough to know it.
    fn short_scalars(&self, add: Add<'_>) {
        let short = |ty: &Type| matches!(ty, Type::Scalar(_));
        let written =
            |one: &&Operation| short(&one.ty) || one.attributes.iter().any(|(_, value)| short(&value.ty));
        if let Some(operation) = self.function.body.iter().find(written) {
            add(&R33, &operation.result, "it is written in the shorter form".to_owned());
        }
    }

    /// Weight files: places of descriptors, and several tensors in one.
    fn files(&self, add: Add<'_>) {
        let mut places: BTreeMap<&str, u64> = BTreeMap::new();
        for operation in &self.function.body {
            for (_, value) in &operation.attributes {
                let Literal::Blob { path, offset } = &value.literal else { continue };
                if *offset < ROW || !offset.is_multiple_of(ROW) {
                    add(&R08, &operation.result, format!("it names byte {offset}"));
                }
                if *places.entry(path).or_insert(*offset) != *offset {
                    add(&R34, &operation.result, format!("`{path}` has others"));
                }
            }
        }
    }

    /// The backward pass of attention in one program: probabilities that are multiplied with a gradient and summed, and are also
    /// a factor of a product.
    fn attention_backward(&self, add: Add<'_>) {
        for softmax in self.function.body.iter().filter(|one| one.op == "softmax") {
            let uses = |op: &str| {
                let uses = self.function.body.iter().filter(|one| one.op == op);
                uses.filter(|one| names(one).any(|name| name == softmax.result)).collect::<Vec<_>>()
            };
            let summed = uses("mul").into_iter().any(|product| {
                self.function
                    .body
                    .iter()
                    .any(|one| one.op == "reduce_sum" && names(one).any(|name| name == product.result))
            });
            if summed && !uses("matmul").is_empty() {
                add(&R29, &softmax.result, "its gradient is made in the same program".to_owned());
            }
        }
    }

    fn one(&self, operation: &'a Operation, add: Add<'_>) {
        let at = operation.result.as_str();
        let argument = |name: &str| argument(operation, name);
        let shape = |parameter: &str| {
            named(operation, parameter).and_then(|name| self.ty(name)).map(Type::shape).unwrap_or_default()
        };
        if operation.op != "const" && bytes(&operation.ty) > FAST {
            add(&R18, at, format!("it has {} bytes", bytes(&operation.ty)));
        }
        match operation.op.as_str() {
            "concat" => self.join(operation, add),
            "gelu" => add(&R10, at, "it is one".to_owned()),
            "cast" => add(&R32, at, "it is one".to_owned()),
            "rsqrt" | "sqrt" | "inverse" | "reduce_mean" => {
                add(&R27, at, format!("it is `{}`", operation.op))
            }
            "scaled_dot_product_attention" => {
                if argument("attn_mask").is_some() {
                    add(&R06, at, "it has a mask".to_owned());
                }
                let positions = |parameter: &str| shape(parameter).iter().rev().nth(1).copied().unwrap_or(1);
                let (queries, keys) = (positions("query"), positions("key"));
                if queries.max(keys) > 2048 || queries.min(keys) >= 512 {
                    add(&R39, at, format!("it has {queries} queries and {keys} keys"));
                }
            }
            "slice_by_size" => {
                let late =
                    self.giver(operation, "begin").and_then(last_integer).is_some_and(|begin| begin > 0);
                if late && operation.ty.scalar() == Scalar::Fp16 {
                    add(&R36, at, "it begins late on the last axis".to_owned());
                }
            }
            "slice_by_index" if named(operation, "x").is_some_and(|name| !self.given.contains_key(name)) => {
                add(&R42, at, "it slices an input".to_owned());
            }
            "mul" => {
                let is = |side: &str, what: &dyn Fn(&Operation) -> bool| {
                    self.giver(operation, side).is_some_and(what)
                };
                let reduced = |one: &Operation| one.op.starts_with("reduce_");
                let zero = |one: &Operation| super::shapes::constant_of(one) == Some(Literal::Real(0.0));
                if is("x", &reduced) && is("y", &zero) || is("y", &reduced) && is("x", &zero) {
                    add(&R40, at, "it does".to_owned());
                }
            }
            "softmax" => {
                let shape = shape("x");
                let axis = self.giver(operation, "axis").and_then(last_integer).unwrap_or(-1);
                let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
                let size = usize::try_from(axis).ok().and_then(|axis| shape.get(axis)).copied().unwrap_or(1);
                if !size.is_power_of_two() {
                    add(&R41, at, format!("it goes over {size}"));
                }
            }
            "matmul" => {
                for flag in ["transpose_x", "transpose_y"] {
                    if matches!(argument(flag), Some(Argument::Value(_))) {
                        add(&R15, at, format!("`{flag}` is a value in place"));
                    }
                }
                let sides: Vec<&str> =
                    ["x", "y"].into_iter().filter_map(|side| named(operation, side)).collect();
                let from: BTreeSet<&str> =
                    sides.iter().filter_map(|name| self.origins.get(name)).flatten().copied().collect();
                if from.len() > 1 && sides.iter().any(|name| self.joined.contains(name)) {
                    let from: Vec<&str> = from.into_iter().collect();
                    add(&R28, at, format!("it comes from {}", from.join(" and ")));
                }
            }
            "conv" => self.convolution(operation, add),
            _ => {}
        }
        if matches!(operation.op.as_str(), "conv" | "matmul") {
            let most =
                shape("x").iter().rev().skip(1).chain(shape("weight").first()).copied().max().unwrap_or(1);
            if most > QUICK_CHANNELS {
                add(&R48, at, format!("it has {most}"));
            }
        }
    }

    fn join(&self, operation: &Operation, add: Add<'_>) {
        let at = operation.result.as_str();
        let Some(Argument::Names(parts)) = argument(operation, "values") else { return };
        add(&R01, at, "it joins".to_owned());
        if parts.len() != 2 {
            add(&R44, at, format!("it joins {}", parts.len()));
        }
        let again = parts.iter().collect::<BTreeSet<_>>().len() < parts.len();
        if again {
            add(&R30, at, "it repeats heads".to_owned());
        }
        let axis = self.giver(operation, "axis").and_then(last_integer);
        let rank = operation.ty.shape().len() as i64;
        if axis.is_some_and(|axis| axis == rank - 1 || axis == -1) {
            add(&R31, at, "it joins along the last axis".to_owned());
        }
    }

    fn convolution(&self, operation: &'a Operation, add: Add<'_>) {
        let at = operation.result.as_str();
        let shape = |parameter: &str| {
            named(operation, parameter).and_then(|name| self.ty(name)).map(Type::shape).unwrap_or_default()
        };
        if argument(operation, "bias").is_some() {
            add(&R16, at, "it has a bias".to_owned());
        }
        let channels = shape("x").get(1).copied().unwrap_or(0);
        if channels >= MOST_CONV_CHANNELS {
            add(&R23, at, format!("{channels} channels go in"));
        }
        let kernel = shape("weight").get(3).copied().unwrap_or(1);
        if kernel > 13 {
            add(&R43, at, format!("its kernel is {kernel} wide"));
        }
        let baked = self.giver(operation, "weight").is_none_or(|giver| giver.op.starts_with("const"));
        let runtime = !baked || named(operation, "weight").is_some_and(|name| !self.given.contains_key(name));
        let groups = self.giver(operation, "groups").and_then(last_integer).unwrap_or(1);
        let images = shape("x").first().copied().unwrap_or(1);
        if runtime && (groups > 1 || images > 1) {
            add(&R52, at, format!("it has {groups} groups and {images} images"));
        }
    }
}

fn bytes(ty: &Type) -> u64 {
    ty.count().and_then(|count| count.checked_mul(width(ty.scalar()) as u64)).unwrap_or(u64::MAX)
}

fn argument<'a>(operation: &'a Operation, name: &str) -> Option<&'a Argument> {
    operation.arguments.iter().find(|(own, _)| own == name).map(|(_, argument)| argument)
}

fn named<'a>(operation: &'a Operation, parameter: &str) -> Option<&'a str> {
    match argument(operation, parameter)? {
        Argument::Name(name) => Some(name),
        _ => None,
    }
}

/// All names that an operation takes.
fn names(operation: &Operation) -> impl Iterator<Item = &str> {
    operation
        .arguments
        .iter()
        .flat_map(|(_, argument)| match argument {
            Argument::Name(name) => std::slice::from_ref(name),
            Argument::Names(all) => all.as_slice(),
            Argument::Value(_) => &[],
        })
        .map(String::as_str)
}

/// The last whole number of a constant.
fn last_integer(operation: &Operation) -> Option<i64> {
    match super::shapes::constant_of(operation)? {
        Literal::Int(value) => Some(value),
        Literal::List(all) => match all.last()? {
            Literal::Int(value) => Some(*value),
            _ => None,
        },
        _ => None,
    }
}

fn alphabetical(names: &[&str], rule: &'static Rule, add: Add<'_>) {
    if let Some(pair) = names.windows(2).find(|pair| pair[0] > pair[1]) {
        add(rule, pair[0], format!("it stands before `{}`", pair[1]));
    }
}

/// Inputs and outputs.
fn port(ty: &Type, name: &str, add: Add<'_>) {
    if !matches!(ty.scalar(), Scalar::Fp16 | Scalar::Fp32 | Scalar::Int8 | Scalar::Uint8) {
        add(&R45, name, format!("it is {}", ty.scalar().word()));
    }
    if ty.scalar() == Scalar::Fp32 {
        add(&R32, name, "it is fp32".to_owned());
    }
    let row = ty.shape().last().copied().unwrap_or(1).saturating_mul(width(ty.scalar()) as u64);
    if !row.is_multiple_of(ROW) {
        add(&R25, name, format!("its rows have {row} bytes"));
    }
}

fn axes(ty: &Type, name: &str, most_width: u64, add: Add<'_>) {
    let shape = ty.shape();
    if shape.len() > 5 || shape.iter().any(|size| !(1..=MOST_AXIS).contains(size)) {
        add(&R24, name, format!("it is {ty}"));
    } else if shape.len() == 4 && shape[3] > most_width {
        add(&R22, name, format!("its last axis has {}", shape[3]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(inputs: &str, body: &str, outputs: &str) -> Program {
        let text = format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}"
        );
        Program::parse(&text).unwrap()
    }

    const X: &str = "tensor<fp16, [1, 64, 1, 64]> x";
    const KEPT: &str = "tensor<fp16, [1, 64, 1, 64]>";

    #[test]
    fn a_program_that_breaks_nothing_has_no_findings() {
        let body = "tensor<fp16, [1, 64, 1, 64]> y = add(x = x, y = x)[];";
        assert_eq!(lint(&program(X, body, "y")), []);
    }

    /// Each rule that text shows by a program that breaks it, with what else that program cannot help breaking.
    #[test]
    fn each_rule_is_found_by_what_breaks_it() {
        let y = format!("{KEPT} y");
        let of = |rest: &str| format!("{y} = {rest}[];");
        let many = format!("{KEPT} y = add(x = x, y = x)[];")
            + &(0..20).map(|at| format!("{KEPT} z{at} = add(x = x, y = x)[];")).collect::<String>();
        let blob = |name: &str, offset: u32| {
            format!(
                "tensor<fp16, [1]> {name} = const()[val = tensor<fp16, [1]>(BLOBFILE(path = string(\"w\"), offset = uint64({offset})))];"
            )
        };
        let axis =
            |value: i32| format!("tensor<int32, [1]> a = const()[val = tensor<int32, [1]>([{value}])];");
        let cases: Vec<(&str, String, String, &str)> = vec![
            ("R01", X.into(), "tensor<fp16, [1, 128, 1, 64]> y = concat(values = (x, z))[];".into(), "y"),
            ("R02", X.into(), "tensor<fp16, [1, 32, 1, 64]> a = f(x = x)[];".into(), "a, x"),
            (
                "R03",
                X.into(),
                format!("{KEPT} b = add(x = x, y = x)[]; {KEPT} a = add(x = x, y = x)[];"),
                "b, a",
            ),
            ("R06", X.into(), of("scaled_dot_product_attention(query = x, key = x, attn_mask = x)"), "y"),
            ("R08", X.into(), blob("w", 128) + &blob("v", 0).replace("\"w\"", "\"v\""), "x"),
            ("R10", X.into(), of("gelu(x = x)"), "y"),
            ("R12", format!("{X}, tensor<fp16, [1, 64, 1, 128]> z"), String::new(), "x"),
            ("R13", format!("{X}, {KEPT} a"), String::new(), "x"),
            ("R15", X.into(), of("matmul(x = x, y = x, transpose_y = bool(true))"), "y"),
            ("R16", X.into(), of("conv(x = x, bias = x)"), "y"),
            ("R17", X.into(), String::new(), "z"),
            ("R18", X.into(), "tensor<fp16, [1, 4096, 1, 8192]> y = f(x = x)[];".into(), "x"),
            ("R19", "tensor<fp32, [1, 64, 1, 8]> x".into(), String::new(), "x"),
            ("R22", "tensor<fp16, [1, 4, 1, 16416]> x".into(), String::new(), "x"),
            (
                "R23",
                "tensor<fp16, [1, 32000, 1, 32]> x".into(),
                "tensor<fp16, [1, 64, 1, 32]> y = conv(x = x)[];".into(),
                "y",
            ),
            ("R24", "tensor<fp16, [1, 70000, 1, 32]> x".into(), String::new(), "x"),
            ("R25", X.into(), "tensor<fp16, [1, 64, 1, 20]> y = f(x = x)[];".into(), "y"),
            ("R26", "tensor<fp16, [1, 64, 1, 14600]> x".into(), many.clone(), "y"),
            ("R27", X.into(), of("rsqrt(x = x)"), "y"),
            (
                "R28",
                format!("{X}, {KEPT} z"),
                format!("{KEPT} j = concat(values = (x, w))[]; {}", of("matmul(x = j, y = z)")),
                "y",
            ),
            (
                "R29",
                X.into(),
                format!(
                    "{KEPT} p = softmax(x = x)[]; {KEPT} m = mul(x = p, y = x)[]; {KEPT} s = reduce_sum(x = m)[]; {}",
                    of("matmul(x = p, y = x)")
                ),
                "y",
            ),
            ("R30", X.into(), "tensor<fp16, [1, 128, 1, 64]> y = concat(values = (x, x))[];".into(), "y"),
            (
                "R31",
                X.into(),
                axis(3) + "tensor<fp16, [1, 64, 1, 128]> y = concat(values = (x, z), axis = a)[];",
                "y",
            ),
            ("R32", X.into(), of("cast(x = x)"), "y"),
            ("R33", X.into(), "fp16 h = const()[val = fp16(1.0)];".into(), "x"),
            ("R34", X.into(), blob("w", 64) + &blob("v", 192), "x"),
            ("R36", X.into(), axis(1) + &of("slice_by_size(x = x, begin = a)"), "y"),
            (
                "R39",
                "tensor<fp16, [1, 1, 512, 64]> x".into(),
                "tensor<fp16, [1, 1, 512, 64]> y = scaled_dot_product_attention(query = x, key = x)[];"
                    .into(),
                "y",
            ),
            (
                "R40",
                X.into(),
                format!(
                    "tensor<fp16, []> o = const()[val = tensor<fp16, []>(0.0)]; {KEPT} s = reduce_sum(x = x)[]; {}",
                    of("mul(x = s, y = o)")
                ),
                "y",
            ),
            (
                "R41",
                "tensor<fp16, [1, 64, 1, 96]> x".into(),
                "tensor<fp16, [1, 64, 1, 96]> y = softmax(x = x)[];".into(),
                "y",
            ),
            ("R42", X.into(), of("slice_by_index(x = x)"), "y"),
            (
                "R43",
                X.into(),
                format!("tensor<fp16, [8, 8, 1, 17]> w = const()[]; {}", of("conv(x = x, weight = w)")),
                "y",
            ),
            ("R44", X.into(), "tensor<fp16, [1, 192, 1, 64]> y = concat(values = (x, z, w))[];".into(), "y"),
            ("R45", X.into(), "tensor<int32, [1, 64, 1, 64]> y = f(x = x)[];".into(), "y"),
            ("R46", X.into(), "tensor<fp16, [1, 4096, 1, 8192]> y = f(x = x)[];".into(), "y"),
            (
                "R48",
                "tensor<fp16, [1, 8192, 1, 64]> x".into(),
                "tensor<fp16, [1, 8192, 1, 64]> y = conv(x = x)[];".into(),
                "y",
            ),
            (
                "R52",
                "tensor<fp16, [2, 64, 1, 64]> x".into(),
                "tensor<fp16, [64, 64, 1, 1]> w = f(x = x)[]; tensor<fp16, [2, 64, 1, 64]> y = conv(x = x, weight = w)[];".into(),
                "y",
            ),
        ];
        let besides: BTreeMap<&str, &[&str]> = BTreeMap::from([
            ("R28", ["R01"].as_slice()),
            ("R19", &["R25", "R32"]),
            ("R23", &["R48"]),
            ("R26", &["R25"]),
            ("R30", &["R01"]),
            ("R31", &["R01"]),
            ("R44", &["R01"]),
            ("R46", &["R18"]),
        ]);
        for (rule, inputs, body, outputs) in &cases {
            let found: BTreeSet<&str> =
                lint(&program(inputs, body, outputs)).into_iter().map(|finding| finding.rule.id).collect();
            let mut expected = BTreeSet::from([*rule]);
            expected.extend(besides.get(rule).copied().unwrap_or_default());
            assert_eq!(found, expected, "{inputs} {body}");
        }
        let covered: BTreeSet<&str> = cases.iter().map(|case| case.0).collect();
        let wanted: BTreeSet<&str> = rules()
            .iter()
            .filter(|rule| matches!(rule.shows, Shows::Text) || matches!(rule.id, "R02" | "R12"))
            .map(|rule| rule.id)
            .collect();
        assert_eq!(covered, wanted);
    }

    #[test]
    fn all_fifty_four_are_there_in_order_with_source_and_mend() {
        let ids: Vec<String> = rules().iter().map(|rule| rule.id.to_owned()).collect();
        assert_eq!(ids, (1..=54).map(|at| format!("R{at:02}")).collect::<Vec<_>>());
        assert!(rules().iter().all(|rule| ![rule.text, rule.chips, rule.source, rule.mend].contains(&"")));
        for profile in crate::profile::PROFILES {
            for rule in profile.refuses.iter().chain(profile.allows) {
                assert!(ids.iter().any(|id| id == rule), "{} names {rule}", profile.name);
            }
        }
    }

    #[test]
    fn chips_differ_in_what_they_refuse() {
        let join = program(X, "tensor<fp16, [1, 128, 1, 64]> y = concat(values = (x, x))[];", "y");
        let effects = |chip: &str| -> Vec<Effect> {
            lint_for(&join, &Profile::of(chip).unwrap()).into_iter().map(|finding| finding.effect).collect()
        };
        assert_eq!(effects("M4"), []);
        assert_eq!(effects("M1"), [Effect::Compile]);
        assert_eq!(effects("M4-orion"), [Effect::Compile]);
        let wide = program("tensor<fp16, [1, 4, 1, 16416]> x", "", "x");
        let ids = |chip: &str| lint_for(&wide, &Profile::of(chip).unwrap()).len();
        assert_eq!((ids("M3"), ids("M4"), ids("M5")), (1, 0, 0));
    }

    #[test]
    fn a_finding_tells_rule_place_source_and_mend() {
        let line = lint(&program(X, "", "z"))[0].to_string();
        assert!(line.starts_with("R17 at `z`: nothing gives it") && line.contains("Orion"), "{line}");
    }
}
