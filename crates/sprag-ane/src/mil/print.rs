//! Programs as text.

use std::fmt::{self, Display, Formatter};

use super::{Argument, Function, Literal, Operation, Program, Type, Value};

/// Text in quotes; quotes, backslashes and ends of lines are escaped.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("\"")?;
        for letter in self.0.chars() {
            match letter {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\t' => out.write_str("\\t")?,
                '\r' => out.write_str("\\r")?,
                other => write!(out, "{other}")?,
            }
        }
        out.write_str("\"")
    }
}

/// Writes things with commas between.
fn listed<T>(
    out: &mut Formatter<'_>,
    all: &[T],
    mut one: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in all.iter().enumerate() {
        if at > 0 {
            out.write_str(", ")?;
        }
        one(out, item)?;
    }
    Ok(())
}

impl Display for Program {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "program({})", self.version)?;
        out.write_str("[buildInfo = dict<string, string>({")?;
        listed(out, &self.build_info, |out, (name, value)| {
            write!(out, "{{{}, {}}}", Quoted(name), Quoted(value))
        })?;
        out.write_str("})]\n{\n")?;
        for function in &self.functions {
            write!(out, "{function}")?;
        }
        out.write_str("}\n")
    }
}

impl Display for Function {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "    func {}<{}>(", self.name, self.opset)?;
        listed(out, &self.inputs, |out, (ty, name)| write!(out, "{ty} {name}"))?;
        out.write_str(") {\n")?;
        for operation in &self.body {
            writeln!(out, "        {operation}")?;
        }
        out.write_str("    } -> (")?;
        listed(out, &self.outputs, |out, name| out.write_str(name))?;
        out.write_str(");\n")
    }
}

impl Display for Operation {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} = {}(", self.ty, self.result, self.op)?;
        listed(out, &self.arguments, |out, (name, argument)| write!(out, "{name} = {argument}"))?;
        out.write_str(")[")?;
        listed(out, &self.attributes, |out, (name, value)| write!(out, "{name} = {value}"))?;
        out.write_str("];")
    }
}

impl Display for Argument {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Name(name) => out.write_str(name),
            Argument::Names(names) => {
                out.write_str("(")?;
                listed(out, names, |out, name| out.write_str(name))?;
                out.write_str(")")
            }
            Argument::Value(value) => write!(out, "{value}"),
        }
    }
}

impl Display for Type {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Type::Scalar(scalar) => out.write_str(scalar.word()),
            Type::Tensor(scalar, shape) => {
                write!(out, "tensor<{}, [", scalar.word())?;
                listed(out, shape, |out, size| write!(out, "{size}"))?;
                out.write_str("]>")
            }
        }
    }
}

impl Display for Value {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{}({})", self.ty, self.literal)
    }
}

impl Display for Literal {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Int(value) => write!(out, "{value}"),
            // The shortest decimals that give the same number; always with a point or an exponent.
            Literal::Real(value) => write!(out, "{value:?}"),
            Literal::Bool(value) => write!(out, "{value}"),
            Literal::Text(text) => write!(out, "{}", Quoted(text)),
            Literal::List(all) => {
                out.write_str("[")?;
                listed(out, all, |out, one| write!(out, "{one}"))?;
                out.write_str("]")
            }
            Literal::Blob { path, offset } => {
                write!(out, "BLOBFILE(path = string({}), offset = uint64({offset}))", Quoted(path))
            }
        }
    }
}
