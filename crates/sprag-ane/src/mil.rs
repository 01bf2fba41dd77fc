//! Core ML's model intermediate language as text: what the Neural Engine's compiler takes. A program is data; [`Program`]
//! prints as text that reads back as the same program.
//!
//! Source: the text form as coremltools prints it and as the public projects for the Neural Engine write it. Both ways of
//! writing a scalar's type are read (`string` and `tensor<string, []>`) and kept apart, because old compilers take only the
//! longer one.

mod builder;
mod lint;
mod parse;
mod print;
mod shapes;

pub use builder::{Builder, Var};
pub use lint::{Effect, Finding, Rule, Shows, lint, lint_for, rules};
pub use parse::ParseError;
pub use shapes::{TypeError, check_types};

/// A program.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Version of the language, `1.3`.
    pub version: String,
    /// What wrote it: names and values.
    pub build_info: Vec<(String, String)>,
    /// Functions in order.
    pub functions: Vec<Function>,
}

/// A function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name, `main`.
    pub name: String,
    /// The set of operations that it uses, `ios18`.
    pub opset: String,
    /// What it takes: type and name.
    pub inputs: Vec<(Type, String)>,
    /// Operations in order.
    pub body: Vec<Operation>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
}

/// One operation and the name of its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Type of the result.
    pub ty: Type,
    /// Name of the result, by which others use it.
    pub result: String,
    /// What is done, `matmul`.
    pub op: String,
    /// Inputs by the names of parameters.
    pub arguments: Vec<(String, Argument)>,
    /// What stands in brackets behind: a name, and a constant's value.
    pub attributes: Vec<(String, Value)>,
}

/// What a parameter gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A result or an input.
    Name(String),
    /// Several: those of `concat`.
    Names(Vec<String>),
    /// A value in place.
    Value(Value),
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `fp16`.
    Scalar(Scalar),
    /// `tensor<fp16, [1, 64, 1, 16]>`; without sizes a scalar in its longer form.
    Tensor(Scalar, Vec<u64>),
}

impl Type {
    /// What its numbers are.
    pub fn scalar(&self) -> Scalar {
        match self {
            Type::Scalar(scalar) | Type::Tensor(scalar, _) => *scalar,
        }
    }

    /// Its sizes; none of a scalar.
    pub fn shape(&self) -> &[u64] {
        match self {
            Type::Scalar(_) => &[],
            Type::Tensor(_, shape) => shape,
        }
    }

    /// Numbers in it; `None` where the product of its sizes is more than can be counted.
    pub fn count(&self) -> Option<u64> {
        self.shape().iter().try_fold(1_u64, |count, size| count.checked_mul(*size))
    }
}

/// What numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Half precision.
    Fp16,
    /// Single precision.
    Fp32,
    /// Whole numbers.
    Int32,
    /// Bytes with a sign.
    Int8,
    /// Bytes without a sign.
    Uint8,
    /// Places in files.
    Uint64,
    /// True or false.
    Bool,
    /// Text.
    String,
}

impl Scalar {
    const ALL: [(&'static str, Scalar); 8] = [
        ("fp16", Scalar::Fp16),
        ("fp32", Scalar::Fp32),
        ("int32", Scalar::Int32),
        ("int8", Scalar::Int8),
        ("uint8", Scalar::Uint8),
        ("uint64", Scalar::Uint64),
        ("bool", Scalar::Bool),
        ("string", Scalar::String),
    ];

    /// As programs write it.
    pub fn word(self) -> &'static str {
        Scalar::ALL.iter().find(|(_, own)| *own == self).map_or("", |(word, _)| word)
    }

    /// The one of that word.
    pub fn of(word: &str) -> Option<Scalar> {
        Scalar::ALL.iter().find(|(own, _)| *own == word).map(|(_, scalar)| *scalar)
    }
}

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its type.
    pub ty: Type,
    /// What it is.
    pub literal: Literal,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A whole number.
    Int(i64),
    /// A number with a point or an exponent, or in hexadecimal (`0x1p-3`).
    Real(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Several.
    List(Vec<Literal>),
    /// A tensor in a weight file.
    Blob {
        /// The file as programs name it, `@model_path/weights/name.bin`.
        path: String,
        /// Place of the descriptor.
        offset: u64,
    },
}

impl Program {
    /// Reads a program's text.
    ///
    /// ```
    /// use sprag_ane::mil::Program;
    /// let text = r#"program(1.3)
    /// [buildInfo = dict<string, string>({{"coremlc-version", "3505.4.1"}})]
    /// {
    ///     func main<ios18>(tensor<fp16, [1, 64, 1, 16]> x) {
    ///         tensor<fp16, [1, 64, 1, 16]> y = add(x = x, y = x)[name = string("y")];
    ///     } -> (y);
    /// }"#;
    /// let program = Program::parse(text).unwrap();
    /// assert_eq!(program.functions[0].body[0].op, "add");
    /// assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
    /// ```
    ///
    /// # Errors
    /// The line and column of the first thing that is not as it must be. Any text is a program or an error.
    pub fn parse(text: &str) -> Result<Program, ParseError> {
        parse::program(text)
    }
}

#[cfg(test)]
mod tests;
