//! Writes programs from code. Each operation's shape and type are checked when it is added, by the same rules that check a
//! program's text; the first mistake is kept, named with its operation, and told by [`Builder::finish`], so that a graph reads
//! as the mathematics that it is.

use std::collections::{BTreeMap, BTreeSet};

use half::f16;

use super::shapes::{Known, constant_of, result};
use super::{Argument, Function, Literal, Operation, Program, Scalar, Type, TypeError, Value};

/// A result of an operation, or an input: its name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Var {
    name: String,
    ty: Type,
}

impl Var {
    /// By which others use it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Its sizes.
    pub fn shape(&self) -> &[u64] {
        self.ty.shape()
    }
}

/// A function that is being written.
///
/// ```
/// use sprag_ane::mil::{Builder, Scalar};
/// // y = W x for 32 positions, with the weights behind the activations: [1, 64, 1, 32 + 64].
/// let mut f = Builder::new();
/// let x = f.input("x", Scalar::Fp16, &[1, 64, 1, 96]);
/// let act = f.slice("act", &x, &[0, 0, 0, 0], &[1, 64, 1, 32]);
/// let weight = f.slice("weight", &x, &[0, 0, 0, 32], &[1, 64, 1, 64]);
/// let act = f.reshape("rows", &act, &[1, 1, 64, 32]);
/// let weight = f.reshape("matrix", &weight, &[1, 1, 64, 64]);
/// let y = f.matmul("y", &act, &weight, true, false);
/// let program = f.finish(&[&y]).unwrap();
/// assert_eq!(y.shape(), [1, 1, 32, 64]);
/// assert_eq!(program.functions[0].body.last().unwrap().op, "matmul");
///
/// let mut f = Builder::new();
/// let x = f.input("x", Scalar::Fp16, &[1, 64, 1, 96]);
/// let wrong = f.reshape("wrong", &x, &[1, 63, 1, 96]);
/// let sum = f.add("sum", &wrong, &x);
/// assert_eq!(f.finish(&[&sum]).unwrap_err().result, "wrong");
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    function: Function,
    known: BTreeMap<String, Known>,
    /// Constants that are there already, by what they say.
    constants: BTreeMap<String, Var>,
    inputs: BTreeSet<String>,
    error: Option<TypeError>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// A function `main` of the opset of iOS 18.
    pub fn new() -> Builder {
        let function = Function {
            name: "main".to_owned(),
            opset: "ios18".to_owned(),
            inputs: Vec::new(),
            body: Vec::new(),
            outputs: Vec::new(),
        };
        let (known, constants, inputs) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Builder { function, known, constants, inputs, error: None }
    }

    fn fail(&mut self, result: &str, op: &str, problem: String) {
        self.error.get_or_insert(TypeError { result: result.to_owned(), op: op.to_owned(), problem });
    }

    /// An input.
    pub fn input(&mut self, name: &str, scalar: Scalar, shape: &[u64]) -> Var {
        let ty = Type::Tensor(scalar, shape.to_vec());
        if !self.inputs.insert(name.to_owned()) {
            self.fail(name, "func", format!("there are two inputs `{name}`"));
        }
        self.known.insert(name.to_owned(), Known { ty: ty.clone(), value: None });
        self.function.inputs.push((ty.clone(), name.to_owned()));
        Var { name: name.to_owned(), ty }
    }

    /// Any operation, for what has no method of its own. The result's type follows from the inputs.
    pub fn op(
        &mut self,
        name: &str,
        op: &str,
        arguments: Vec<(&str, Argument)>,
        attributes: Vec<(&str, Value)>,
    ) -> Var {
        let named = |(name, value): (&str, Value)| (name.to_owned(), value);
        let mut operation = Operation {
            ty: Type::Scalar(Scalar::Bool),
            result: name.to_owned(),
            op: op.to_owned(),
            arguments: arguments.into_iter().map(|(name, argument)| (name.to_owned(), argument)).collect(),
            attributes: [named(("name", text(name)))]
                .into_iter()
                .chain(attributes.into_iter().map(named))
                .collect(),
        };
        let known = &self.known;
        let found = result(&operation, &|name| known.get(name));
        let fresh = !known.contains_key(name);
        match found {
            Ok(ty) => operation.ty = ty,
            Err(problem) => self.fail(name, op, problem),
        }
        if !fresh {
            self.fail(name, op, format!("the name `{name}` is taken"));
        }
        let value = constant_of(&operation);
        let ty = operation.ty.clone();
        self.known.insert(name.to_owned(), Known { ty: ty.clone(), value });
        self.function.body.push(operation);
        Var { name: name.to_owned(), ty }
    }

    /// A constant; one that is there already is used again.
    pub fn constant(&mut self, value: Value) -> Var {
        let key = value.to_string();
        if let Some(there) = self.constants.get(&key) {
            return there.clone();
        }
        let name = format!("c{}", self.constants.len());
        let made = self.op(&name, "const", Vec::new(), vec![("val", value)]);
        self.constants.insert(key, made.clone());
        made
    }

    /// A constant of a weight file, at the place of its descriptor.
    pub fn weight(&mut self, name: &str, scalar: Scalar, shape: &[u64], file: &str, offset: u64) -> Var {
        let literal = Literal::Blob { path: format!("@model_path/weights/{file}"), offset };
        let value = Value { ty: Type::Tensor(scalar, shape.to_vec()), literal };
        self.op(name, "const", Vec::new(), vec![("val", value)])
    }

    /// A number as what `like` holds.
    pub fn number(&mut self, number: f64, like: &Var) -> Var {
        let ty = Type::Scalar(like.ty.scalar());
        let number = match like.ty.scalar() {
            Scalar::Fp16 => f16::from_f64(number).to_f64(),
            _ => number,
        };
        self.constant(Value { ty, literal: Literal::Real(number) })
    }

    fn integers(&mut self, all: &[i64]) -> Argument {
        let ty = Type::Tensor(Scalar::Int32, vec![all.len() as u64]);
        let literal = Literal::List(all.iter().map(|one| Literal::Int(*one)).collect());
        name(&self.constant(Value { ty, literal }))
    }

    fn integer(&mut self, one: i64) -> Argument {
        name(&self.constant(Value { ty: Type::Scalar(Scalar::Int32), literal: Literal::Int(one) }))
    }

    fn flag(&mut self, value: bool) -> Argument {
        name(&self.constant(Value { ty: Type::Scalar(Scalar::Bool), literal: Literal::Bool(value) }))
    }

    fn word(&mut self, word: &str) -> Argument {
        name(&self.constant(text(word)))
    }

    fn both(&mut self, op: &str, result: &str, x: &Var, y: &Var) -> Var {
        self.op(result, op, vec![("x", name(x)), ("y", name(y))], Vec::new())
    }

    /// `x + y`, by numpy's rule of shapes.
    pub fn add(&mut self, result: &str, x: &Var, y: &Var) -> Var {
        self.both("add", result, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, result: &str, x: &Var, y: &Var) -> Var {
        self.both("sub", result, x, y)
    }

    /// `x * y`.
    pub fn mul(&mut self, result: &str, x: &Var, y: &Var) -> Var {
        self.both("mul", result, x, y)
    }

    /// `x` times a number.
    pub fn scale(&mut self, result: &str, x: &Var, by: f64) -> Var {
        let by = self.number(by, x);
        self.mul(result, x, &by)
    }

    /// `x` to the power of a number.
    pub fn pow(&mut self, result: &str, x: &Var, exponent: f64) -> Var {
        let exponent = self.number(exponent, x);
        self.both("pow", result, x, &exponent)
    }

    /// An operation on single numbers: `sigmoid`, `tanh`, `exp`, `relu`, `identity`.
    pub fn unary(&mut self, op: &str, result: &str, x: &Var) -> Var {
        self.op(result, op, vec![("x", name(x))], Vec::new())
    }

    /// The same numbers in another type.
    pub fn cast(&mut self, result: &str, x: &Var, to: Scalar) -> Var {
        let dtype = self.word(to.word());
        self.op(result, "cast", vec![("dtype", dtype), ("x", name(x))], Vec::new())
    }

    /// A part: where it begins, and how large it is, along each axis.
    pub fn slice(&mut self, result: &str, x: &Var, begin: &[i64], size: &[i64]) -> Var {
        let (begin, size) = (self.integers(begin), self.integers(size));
        self.op(result, "slice_by_size", vec![("x", name(x)), ("begin", begin), ("size", size)], Vec::new())
    }

    /// A range of channels (axis 1) of `[1, channels, ..]`.
    pub fn channels(&mut self, result: &str, x: &Var, from: u64, count: u64) -> Var {
        self.range(result, x, 1, from, count)
    }

    /// A range along one axis.
    pub fn range(&mut self, result: &str, x: &Var, axis: usize, from: u64, count: u64) -> Var {
        let mut size: Vec<i64> = x.shape().iter().map(|size| *size as i64).collect();
        let mut begin = vec![0; size.len()];
        if let (Some(at), Some(size)) = (begin.get_mut(axis), size.get_mut(axis)) {
            (*at, *size) = (from as i64, count as i64);
        }
        self.slice(result, x, &begin, &size)
    }

    /// The same numbers in another shape.
    pub fn reshape(&mut self, result: &str, x: &Var, shape: &[u64]) -> Var {
        let shape: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let shape = self.integers(&shape);
        self.op(result, "reshape", vec![("shape", shape), ("x", name(x))], Vec::new())
    }

    /// The axes in another order.
    pub fn transpose(&mut self, result: &str, x: &Var, order: &[i64]) -> Var {
        let order = self.integers(order);
        self.op(result, "transpose", vec![("perm", order), ("x", name(x))], Vec::new())
    }

    /// Matrices of the last two axes, each turned or not.
    pub fn matmul(&mut self, result: &str, x: &Var, y: &Var, turn_x: bool, turn_y: bool) -> Var {
        let (turn_x, turn_y) = (self.flag(turn_x), self.flag(turn_y));
        let arguments =
            vec![("transpose_x", turn_x), ("transpose_y", turn_y), ("x", name(x)), ("y", name(y))];
        self.op(result, "matmul", arguments, Vec::new())
    }

    /// A convolution of 1 x 1 by `[out, in / groups, 1, 1]`.
    pub fn conv(&mut self, result: &str, x: &Var, weight: &Var, groups: i64) -> Var {
        let ones = self.integers(&[1, 1]);
        let pad = self.integers(&[0, 0, 0, 0]);
        let (groups, valid) = (self.integer(groups), self.word("valid"));
        let arguments = vec![
            ("dilations", ones.clone()),
            ("groups", groups),
            ("pad", pad),
            ("pad_type", valid),
            ("strides", ones),
            ("weight", name(weight)),
            ("x", name(x)),
        ];
        self.op(result, "conv", arguments, Vec::new())
    }

    /// Parts one after the other along an axis.
    pub fn concat(&mut self, result: &str, parts: &[&Var], axis: i64) -> Var {
        let (axis, no) = (self.integer(axis), self.flag(false));
        let parts = Argument::Names(parts.iter().map(|part| part.name.clone()).collect());
        self.op(result, "concat", vec![("axis", axis), ("interleave", no), ("values", parts)], Vec::new())
    }

    /// Exponentials along an axis, so that they sum to one.
    pub fn softmax(&mut self, result: &str, x: &Var, axis: i64) -> Var {
        let axis = self.integer(axis);
        self.op(result, "softmax", vec![("axis", axis), ("x", name(x))], Vec::new())
    }

    /// Sums along axes, which stay with a size of 1.
    pub fn reduce_sum(&mut self, result: &str, x: &Var, axes: &[i64]) -> Var {
        let (axes, yes) = (self.integers(axes), self.flag(true));
        self.op(result, "reduce_sum", vec![("x", name(x)), ("axes", axes), ("keep_dims", yes)], Vec::new())
    }

    /// The program that gives these.
    ///
    /// # Errors
    /// The first operation that did not get what it takes.
    pub fn finish(mut self, outputs: &[&Var]) -> Result<Program, TypeError> {
        match self.error {
            Some(error) => Err(error),
            None => {
                self.function.outputs = outputs.iter().map(|output| output.name.clone()).collect();
                Ok(Program::of(self.function))
            }
        }
    }
}

fn name(var: &Var) -> Argument {
    Argument::Name(var.name.clone())
}

fn text(word: &str) -> Value {
    Value { ty: Type::Scalar(Scalar::String), literal: Literal::Text(word.to_owned()) }
}

impl Program {
    /// A program of one function, for the compilers of macOS 15 and later.
    pub fn of(function: Function) -> Program {
        let info = [
            ("coremlc-component-MIL", "3510.2.1"),
            ("coremlc-version", "3505.4.1"),
            ("coremltools-component-milinternal", ""),
            ("coremltools-version", "9.0"),
        ];
        Program {
            version: "1.3".to_owned(),
            build_info: info.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            functions: vec![function],
        }
    }

    /// The same program as older compilers (M1, M2) read it: version 1.0, opset of iOS 16, scalars in their longer form.
    ///
    /// Source: maderix/ANE, pull request 6.
    #[must_use]
    pub fn for_old_compilers(&self) -> Program {
        fn longer(ty: &mut Type) {
            if let Type::Scalar(scalar) = ty {
                *ty = Type::Tensor(*scalar, Vec::new());
            }
        }
        let mut program = self.clone();
        program.version = "1.0".to_owned();
        for function in &mut program.functions {
            function.opset = "ios16".to_owned();
            for operation in &mut function.body {
                longer(&mut operation.ty);
                operation.attributes.iter_mut().for_each(|(_, value)| longer(&mut value.ty));
                for (_, argument) in &mut operation.arguments {
                    if let Argument::Value(value) = argument {
                        longer(&mut value.ty);
                    }
                }
            }
        }
        program
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_types;
    use super::*;

    #[test]
    fn what_is_built_reads_back_and_is_checked_like_text() {
        let mut f = Builder::new();
        let x = f.input("x", Scalar::Fp16, &[1, 8, 1, 32]);
        let w = f.weight("w", Scalar::Fp16, &[16, 8, 1, 1], "w.bin", 64);
        let y = f.conv("y", &x, &w, 1);
        let half = f.scale("half", &y, 0.5);
        let again = f.scale("again", &half, 0.5);
        let both = f.concat("both", &[&half, &again], 1);
        let p = f.softmax("p", &both, -1);
        let s = f.reduce_sum("s", &p, &[1]);
        let r = f.pow("r", &s, -0.5);
        let wide = f.cast("wide", &r, Scalar::Fp32);
        let program = f.finish(&[&wide]).unwrap();
        assert_eq!(wide.ty(), &Type::Tensor(Scalar::Fp32, vec![1, 1, 1, 32]));
        assert_eq!(check_types(&program.functions[0]), Ok(()));
        assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
        // One constant for the two halves.
        let halves = program.to_string().matches("fp16(0.5)").count();
        assert_eq!(halves, 1);
        assert!(crate::mil::lint_for(&program, &crate::profile::Profile::default()).is_empty());
        let old = program.for_old_compilers();
        assert!(!old.to_string().contains(" fp16(") && old.to_string().contains("main<ios16>"));
        assert_eq!(Program::parse(&old.to_string()).unwrap(), old);
        assert_eq!(check_types(&old.functions[0]), Ok(()));
    }

    #[test]
    fn the_first_mistake_is_told_with_its_operation() {
        let wrong = |build: &dyn Fn(&mut Builder, &Var) -> Var| {
            let mut f = Builder::new();
            let x = f.input("x", Scalar::Fp16, &[1, 8, 1, 32]);
            let y = build(&mut f, &x);
            f.finish(&[&y]).unwrap_err().to_string()
        };
        let found = wrong(&|f, x| f.slice("s", x, &[0, 0, 0, 8], &[1, 8, 1, 32]));
        assert!(found.starts_with("`s` = slice_by_size: the slice leaves"), "{found}");
        let found = wrong(&|f, x| f.matmul("m", x, x, false, false));
        assert!(found.starts_with("`m` = matmul: ") && found.contains("do not multiply"), "{found}");
        let found = wrong(&|f, x| f.add("x", x, x));
        assert!(found.contains("the name `x` is taken"), "{found}");
        let found = wrong(&|f, x| {
            let cast = f.cast("c", x, Scalar::Fp32);
            f.add("a", x, &cast)
        });
        assert!(found.contains("`x` is fp16 and `y` is fp32"), "{found}");
        let found = wrong(&|f, _| f.input("x", Scalar::Fp16, &[1]));
        assert!(found.contains("two inputs `x`"), "{found}");
    }
}
