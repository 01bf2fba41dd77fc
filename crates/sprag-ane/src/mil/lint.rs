//! What the Neural Engine's compiler and hardware refuse, spoil in silence or do slowly, as far as a program's text shows it.
//! Each rule says who found it and on which chips; where sources contradict each other, it says so and warns.

use super::{Argument, Function, Operation, Scalar, Type};

/// What happens when a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Slower, or contested among sources.
    Warning,
    /// Wrong numbers without a word.
    Silent,
    /// It compiles, and evaluating it fails.
    Evaluation,
    /// It does not compile.
    Compile,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number in the list of restrictions.
    pub id: &'static str,
    /// What breaking it does.
    pub effect: Effect,
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
    ($($name:ident $id:literal $effect:ident $text:literal $chips:literal $source:literal $mend:literal)*) => {
        $(static $name: Rule = Rule {
            id: $id, effect: Effect::$effect, text: $text, chips: $chips, source: $source, mend: $mend,
        };)*

        /// All rules that a program's text can break.
        pub fn rules() -> Vec<&'static Rule> {
            vec![$(&$name),*]
        }
    };
}

rules! {
    CONCAT "R01" Warning "some compilers refuse `concat`" "M1; M4 Max with several outputs"
        "Orion, constraint 1; contradicted by maderix/ANE on M4" "join on the host where a chip refuses it"
    OUTPUTS "R03" Silent "outputs bind in the alphabetical order of their names" "all" "Orion, constraint 3"
        "name outputs so that their order is the alphabetical one"
    MASK "R06" Silent "`scaled_dot_product_attention` ignores its mask" "M4" "maderix/ANE; Orion, constraint 6"
        "add a constant mask before `softmax`"
    GELU "R10" Compile "there is no `gelu`" "M4 Max" "Orion, constraint 10" "write it with `tanh`"
    INPUT_SIZES "R12" Evaluation "all inputs take surfaces of one size" "M4 Max; M1 in another way" "Orion, constraint 12"
        "pack inputs into one, or pad them to the largest"
    INPUTS "R13" Silent "inputs bind in the alphabetical order of their names" "all" "Orion, constraint 13"
        "name inputs so that their order is the alphabetical one"
    FLAGS "R15" Compile "the flags of `matmul` are names of constants" "M4 Max" "Orion" "make a `const` for each flag"
    BIAS "R16" Compile "`conv` takes no `bias`" "M4 Max" "Orion" "add it by `add`"
    RETURNED "R17" Compile "what is returned is a result or an input" "M4 Max" "Orion" "return a name that is given"
    WIDTH "R22" Compile "the last axis has at most 16384 places (65536 from M4 on)" "M3 Ultra, M4, M5"
        "rustane, issue 13; ANEForge" "split along that axis"
    CHANNELS "R23" Compile "the channels are at most 65536, and 32000 into a convolution are refused" "M1 to M5"
        "ANEForge; maderix/ANE" "use `matmul`, or split"
    RANK "R24" Compile "there are at most five axes, each of 1 to 65536" "all" "ANEForge" "fold axes together"
    ROWS "R25" Silent "a row of an input or output is a multiple of 64 bytes" "M1, M4 Max" "rustane; maderix/ANE, issue 47"
        "pad the last axis to 32 halves or 16 singles"
    REFUSED "R27" Compile "`rsqrt`, `sqrt`, `inverse` and `reduce_mean` are refused in text" "M3 Max, M4"
        "ane-prefill-bench; rustane; h3" "use `pow` with -0.5, `real_div`, or `reduce_sum` and a factor"
    KERNEL "R43" Compile "a kernel of `conv` is at most 13 wide (15 on newer chips)" "all" "ANEForge" "split the kernel"
    PORTS "R45" Compile "inputs and outputs are fp16, fp32 or bytes" "all; fp32 from M3 on" "ANEForge; maderix/ANE"
        "cast within the program"
}

/// Most places along the last axis, by the older limit.
const MOST_WIDTH: u64 = 16_384;
/// Most along any axis.
const MOST_AXIS: u64 = 65_536;
/// Channels into a convolution from which on it is refused.
const MOST_CONV_CHANNELS: u64 = 32_000;
/// Bytes that rows of inputs and outputs are multiples of.
const ROW: u64 = 64;

fn bytes(scalar: Scalar) -> u64 {
    match scalar {
        Scalar::Fp16 => 2,
        Scalar::Fp32 | Scalar::Int32 => 4,
        Scalar::Uint64 => 8,
        Scalar::Int8 | Scalar::Uint8 | Scalar::Bool | Scalar::String => 1,
    }
}

/// All rules that a function breaks, in the order of its text.
pub fn lint(function: &Function) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |rule: &'static Rule, at: &str, detail: String| {
        findings.push(Finding { rule, at: at.to_owned(), detail });
    };
    let named: Vec<&str> = function.inputs.iter().map(|(_, name)| name.as_str()).collect();
    alphabetical(&named, &INPUTS, &mut add);
    let given = |name: &str| {
        let result = function.body.iter().rev().find(|operation| operation.result == name);
        let input = || function.inputs.iter().find(|(_, own)| own == name).map(|(ty, _)| ty);
        result.map(|operation| &operation.ty).or_else(input)
    };
    for (ty, name) in &function.inputs {
        port(ty, name, &mut add);
        axes(ty, name, &mut add);
    }
    let sizes: Vec<Option<u64>> =
        function.inputs.iter().map(|(ty, _)| ty.count()?.checked_mul(bytes(ty.scalar()))).collect();
    if sizes.windows(2).any(|pair| pair[0] != pair[1]) {
        add(&INPUT_SIZES, &named.join(", "), format!("{} inputs differ in size", named.len()));
    }
    for operation in &function.body {
        axes(&operation.ty, &operation.result, &mut add);
        one(operation, &given, &mut add);
    }
    let outputs: Vec<&str> = function.outputs.iter().map(String::as_str).collect();
    alphabetical(&outputs, &OUTPUTS, &mut add);
    for output in outputs {
        match given(output) {
            Some(ty) => port(ty, output, &mut add),
            None => add(&RETURNED, output, "nothing gives it".to_owned()),
        }
    }
    findings
}

type Add<'a> = &'a mut dyn FnMut(&'static Rule, &str, String);

fn alphabetical(names: &[&str], rule: &'static Rule, add: Add<'_>) {
    if let Some(pair) = names.windows(2).find(|pair| pair[0] > pair[1]) {
        add(rule, pair[0], format!("it stands before `{}`", pair[1]));
    }
}

/// Inputs and outputs.
fn port(ty: &Type, name: &str, add: Add<'_>) {
    if !matches!(ty.scalar(), Scalar::Fp16 | Scalar::Fp32 | Scalar::Int8 | Scalar::Uint8) {
        add(&PORTS, name, format!("it is {}", ty.scalar().word()));
    }
    let row = ty.shape().last().copied().unwrap_or(1).saturating_mul(bytes(ty.scalar()));
    if !row.is_multiple_of(ROW) {
        add(&ROWS, name, format!("its rows have {row} bytes"));
    }
}

fn axes(ty: &Type, name: &str, add: Add<'_>) {
    let shape = ty.shape();
    if shape.len() > 5 || shape.iter().any(|size| !(1..=MOST_AXIS).contains(size)) {
        add(&RANK, name, format!("it is {ty}"));
    } else if shape.len() == 4 && shape[3] > MOST_WIDTH {
        add(&WIDTH, name, format!("its last axis has {}", shape[3]));
    }
}

fn one<'a>(operation: &Operation, given: &dyn Fn(&str) -> Option<&'a Type>, add: Add<'_>) {
    let at = operation.result.as_str();
    let argument =
        |name: &str| operation.arguments.iter().find(|(own, _)| own == name).map(|(_, argument)| argument);
    let shape = |name: &str| match argument(name) {
        Some(Argument::Name(name)) => given(name).map(Type::shape).unwrap_or_default(),
        _ => &[],
    };
    match operation.op.as_str() {
        "concat" => add(&CONCAT, at, "it joins".to_owned()),
        "gelu" => add(&GELU, at, "it is one".to_owned()),
        "rsqrt" | "sqrt" | "inverse" | "reduce_mean" => {
            add(&REFUSED, at, format!("it is `{}`", operation.op))
        }
        "scaled_dot_product_attention" if argument("attn_mask").is_some() => {
            add(&MASK, at, "it has a mask".to_owned());
        }
        "matmul" => {
            for flag in ["transpose_x", "transpose_y"] {
                if matches!(argument(flag), Some(Argument::Value(_))) {
                    add(&FLAGS, at, format!("`{flag}` is a value in place"));
                }
            }
        }
        "conv" => {
            if argument("bias").is_some() {
                add(&BIAS, at, "it has a bias".to_owned());
            }
            let channels = shape("x").get(1).copied().unwrap_or(0);
            if channels >= MOST_CONV_CHANNELS {
                add(&CHANNELS, at, format!("{channels} channels go in"));
            }
            let kernel = shape("weight").get(3).copied().unwrap_or(1);
            if kernel > 13 {
                add(&KERNEL, at, format!("its kernel is {kernel} wide"));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;

    fn found(inputs: &str, body: &str, outputs: &str) -> Vec<(&'static str, String)> {
        let text = format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}"
        );
        let program = Program::parse(&text).unwrap();
        lint(&program.functions[0]).into_iter().map(|finding| (finding.rule.id, finding.at)).collect()
    }

    const X: &str = "tensor<fp16, [1, 64, 1, 64]> x";

    #[test]
    fn a_program_that_breaks_nothing_has_no_findings() {
        let body = "tensor<fp16, [1, 64, 1, 64]> y = add(x = x, y = x)[];";
        assert_eq!(found(X, body, "y"), []);
    }

    /// Each rule by a program that breaks it and no other.
    #[test]
    fn each_rule_is_found_by_what_breaks_it() {
        let y = "tensor<fp16, [1, 64, 1, 64]> y";
        let kept = "tensor<fp16, [1, 64, 1, 64]>";
        let cases = [
            (
                "R01",
                X.to_owned(),
                "tensor<fp16, [1, 128, 1, 64]> y = concat(values = (x, x))[];".to_owned(),
                "y",
            ),
            (
                "R03",
                X.to_owned(),
                format!("{kept} b = add(x = x, y = x)[]; {kept} a = add(x = x, y = x)[];"),
                "b, a",
            ),
            (
                "R06",
                X.to_owned(),
                format!("{y} = scaled_dot_product_attention(query = x, attn_mask = x)[];"),
                "y",
            ),
            ("R10", X.to_owned(), format!("{y} = gelu(x = x)[];"), "y"),
            ("R12", format!("{X}, tensor<fp16, [1, 64, 1, 128]> z"), String::new(), "x"),
            ("R13", format!("{X}, tensor<fp16, [1, 64, 1, 64]> a"), String::new(), "x"),
            ("R15", X.to_owned(), format!("{y} = matmul(x = x, y = x, transpose_y = bool(true))[];"), "y"),
            (
                "R16",
                X.to_owned(),
                format!("{y} = conv(x = x, weight = x, bias = x)[];")
                    .replace("weight = x", "weight = bool(true)"),
                "y",
            ),
            ("R17", X.to_owned(), String::new(), "z"),
            ("R22", "tensor<fp16, [1, 4, 1, 16416]> x".to_owned(), String::new(), "x"),
            (
                "R23",
                "tensor<fp16, [1, 32000, 1, 32]> x".to_owned(),
                "tensor<fp16, [1, 64, 1, 32]> y = conv(x = x)[];".to_owned(),
                "y",
            ),
            ("R24", "tensor<fp16, [1, 70000, 1, 32]> x".to_owned(), String::new(), "x"),
            ("R25", X.to_owned(), "tensor<fp16, [1, 64, 1, 20]> y = f(x = x)[];".to_owned(), "y"),
            ("R27", X.to_owned(), format!("{y} = rsqrt(x = x)[];"), "y"),
            (
                "R43",
                X.to_owned(),
                format!("tensor<fp16, [8, 8, 1, 17]> w = f(x = x)[]; {y} = conv(x = x, weight = w)[];"),
                "y",
            ),
            ("R45", X.to_owned(), "tensor<int32, [1, 64, 1, 64]> y = f(x = x)[];".to_owned(), "y"),
        ];
        for (rule, inputs, body, outputs) in &cases {
            let ids: Vec<&str> = found(inputs, body, outputs).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, [*rule], "{inputs} {body}");
        }
        let covered: Vec<&str> = cases.iter().map(|case| case.0).collect();
        assert_eq!(covered, rules().iter().map(|rule| rule.id).collect::<Vec<_>>());
        assert!(rules().iter().all(|rule| !rule.source.is_empty() && !rule.mend.is_empty()));
    }

    #[test]
    fn a_finding_tells_rule_place_source_and_mend() {
        let text = format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({X}) {{ }} -> (z); }}"
        );
        let program = Program::parse(&text).unwrap();
        let line = lint(&program.functions[0])[0].to_string();
        assert!(line.starts_with("R17 at `z`: nothing gives it") && line.contains("Orion"), "{line}");
    }
}
