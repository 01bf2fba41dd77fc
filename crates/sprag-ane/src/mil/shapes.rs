//! What the result of an operation is: shapes and types by the rules of the language (coremltools, iOS 18 opset), for the
//! operations that programs for the Neural Engine use.

use std::collections::BTreeMap;

use super::{Argument, Function, Literal, Operation, Scalar, Type, Value};

/// What an operation's input is: its type, and its value where it is a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) ty: Type,
    pub(super) value: Option<Literal>,
}

/// Why a function makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{result}` = {op}: {problem}")]
pub struct TypeError {
    /// The name of the result, or of the function.
    pub result: String,
    /// The operation.
    pub op: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks that every operation of a function gets what it takes and gives what it says.
///
/// # Errors
/// The first operation that does not.
pub fn check_types(function: &Function) -> Result<(), TypeError> {
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    for (ty, name) in &function.inputs {
        known.insert(name, Known { ty: ty.clone(), value: None });
    }
    for operation in &function.body {
        let wrong = |problem: String| TypeError {
            result: operation.result.clone(),
            op: operation.op.clone(),
            problem,
        };
        let found = result(operation, &|name| known.get(name)).map_err(wrong)?;
        // Both forms of a scalar are one type.
        let same = found.scalar() == operation.ty.scalar() && found.shape() == operation.ty.shape();
        if !same {
            return Err(wrong(format!("it gives {found}, and the program says {}", operation.ty)));
        }
        known.insert(&operation.result, Known { ty: operation.ty.clone(), value: constant_of(operation) });
    }
    for output in &function.outputs {
        if !known.contains_key(output.as_str()) {
            let problem = format!("it returns `{output}`, which nothing gives");
            return Err(TypeError { result: function.name.clone(), op: "func".to_owned(), problem });
        }
    }
    Ok(())
}

/// The value of a constant.
pub(super) fn constant_of(operation: &Operation) -> Option<Literal> {
    let value = (operation.op == "const").then(|| attribute(operation, "val").ok())??;
    Some(value.literal.clone())
}

fn attribute<'a>(operation: &'a Operation, name: &str) -> Result<&'a Value, String> {
    let found = operation.attributes.iter().find(|(own, _)| own == name);
    found.map(|(_, value)| value).ok_or_else(|| format!("the attribute `{name}` is missing"))
}

/// The inputs of an operation, by the names of its parameters.
struct Inputs<'a> {
    operation: &'a Operation,
    known: &'a dyn Fn(&str) -> Option<&'a Known>,
}

impl Inputs<'_> {
    fn look(&self, name: &str) -> Result<Known, String> {
        let known = (self.known)(name);
        known.cloned().ok_or_else(|| format!("`{name}` is not given before"))
    }

    fn maybe(&self, parameter: &str) -> Result<Option<Known>, String> {
        let found = self.operation.arguments.iter().find(|(own, _)| own == parameter);
        match found.map(|(_, argument)| argument) {
            None => Ok(None),
            Some(Argument::Name(name)) => self.look(name).map(Some),
            Some(Argument::Value(value)) => {
                Ok(Some(Known { ty: value.ty.clone(), value: Some(value.literal.clone()) }))
            }
            Some(Argument::Names(_)) => Err(format!("`{parameter}` takes one input")),
        }
    }

    fn one(&self, parameter: &str) -> Result<Known, String> {
        self.maybe(parameter)?.ok_or_else(|| format!("the parameter `{parameter}` is missing"))
    }

    fn several(&self, parameter: &str) -> Result<Vec<Known>, String> {
        let found = self.operation.arguments.iter().find(|(own, _)| own == parameter);
        match found.map(|(_, argument)| argument) {
            Some(Argument::Names(names)) => names.iter().map(|name| self.look(name)).collect(),
            Some(_) => Err(format!("`{parameter}` takes several inputs")),
            None => Err(format!("the parameter `{parameter}` is missing")),
        }
    }

    fn tensor(&self, parameter: &str) -> Result<(Scalar, Vec<u64>), String> {
        let known = self.one(parameter)?;
        Ok((known.ty.scalar(), known.ty.shape().to_vec()))
    }

    /// A tensor of that type.
    fn of(&self, parameter: &str, scalar: Scalar) -> Result<Vec<u64>, String> {
        let (found, shape) = self.tensor(parameter)?;
        match found == scalar {
            true => Ok(shape),
            false => Err(format!("`{parameter}` is {}, and not {}", found.word(), scalar.word())),
        }
    }

    /// A constant list of whole numbers.
    fn integers(&self, parameter: &str) -> Result<Vec<i64>, String> {
        let whole = |literal: &Literal| match literal {
            Literal::Int(value) => Ok(*value),
            _ => Err(format!("`{parameter}` is no whole number")),
        };
        match self.one(parameter)?.value {
            Some(Literal::List(all)) => all.iter().map(whole).collect(),
            Some(one) => Ok(vec![whole(&one)?]),
            None => Err(format!("`{parameter}` must be a constant")),
        }
    }

    fn flag(&self, parameter: &str, default: bool) -> Result<bool, String> {
        match self.maybe(parameter)?.map(|known| known.value) {
            None => Ok(default),
            Some(Some(Literal::Bool(value))) => Ok(value),
            Some(_) => Err(format!("`{parameter}` must be a constant true or false")),
        }
    }

    /// An axis of so many, counted from the end where it is below 0.
    fn axis(&self, value: i64, rank: usize) -> Result<usize, String> {
        let rank = rank as i64;
        let own = if value < 0 { value + rank } else { value };
        match (0..rank).contains(&own) {
            true => Ok(own as usize),
            false => Err(format!("there is no axis {value} of {rank}")),
        }
    }
}

fn sizes(shape: &[u64]) -> String {
    format!("{shape:?}")
}

/// The shape of both together: sizes agree, or one is 1 (numpy's rule).
fn broadcast(a: &[u64], b: &[u64]) -> Result<Vec<u64>, String> {
    let rank = a.len().max(b.len());
    let size = |shape: &[u64], at: usize| {
        let missing = rank - shape.len();
        if at < missing { 1 } else { shape[at - missing] }
    };
    (0..rank)
        .map(|at| match (size(a, at), size(b, at)) {
            (one, other) if one == other => Ok(one),
            (1, other) => Ok(other),
            (one, 1) => Ok(one),
            _ => Err(format!("{} and {} do not go together", sizes(a), sizes(b))),
        })
        .collect()
}

/// The type of an operation's result, from what is known of its inputs.
pub(super) fn result<'a>(
    operation: &'a Operation,
    known: &'a dyn Fn(&str) -> Option<&'a Known>,
) -> Result<Type, String> {
    let inputs = Inputs { operation, known };
    let tensor = |scalar: Scalar, shape: Vec<u64>| {
        Ok(if shape.is_empty() { Type::Scalar(scalar) } else { Type::Tensor(scalar, shape) })
    };
    match operation.op.as_str() {
        "const" => constant(attribute(operation, "val")?),
        "add" | "sub" | "mul" | "real_div" | "pow" | "maximum" | "minimum" => {
            let ((a, left), (b, right)) = (inputs.tensor("x")?, inputs.tensor("y")?);
            if a != b {
                return Err(format!("`x` is {} and `y` is {}", a.word(), b.word()));
            }
            tensor(a, broadcast(&left, &right)?)
        }
        "sigmoid" | "tanh" | "relu" | "exp" | "sqrt" | "rsqrt" | "identity" | "abs" | "softplus"
        | "softmax" => {
            let (scalar, shape) = inputs.tensor("x")?;
            if operation.op == "softmax" && shape.is_empty() {
                return Err("`x` has no axis".to_owned());
            }
            if operation.op == "softmax" && inputs.maybe("axis")?.is_some() {
                let axis = inputs.integers("axis")?;
                inputs.axis(axis.first().copied().unwrap_or(-1), shape.len())?;
            }
            tensor(scalar, shape)
        }
        "cast" => {
            let (_, shape) = inputs.tensor("x")?;
            match inputs.one("dtype")?.value {
                Some(Literal::Text(word)) => {
                    tensor(Scalar::of(&word).ok_or_else(|| format!("there is no type `{word}`"))?, shape)
                }
                _ => Err("`dtype` must be a constant text".to_owned()),
            }
        }
        "reshape" => reshape(&inputs),
        "transpose" => {
            let (scalar, shape) = inputs.tensor("x")?;
            let order = inputs.integers("perm")?;
            let axes =
                order.iter().map(|axis| inputs.axis(*axis, shape.len())).collect::<Result<Vec<_>, _>>()?;
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if sorted != (0..shape.len()).collect::<Vec<_>>() {
                return Err(format!("{order:?} is no order of {} axes", shape.len()));
            }
            tensor(scalar, axes.iter().map(|axis| shape[*axis]).collect())
        }
        "slice_by_size" => slice(&inputs),
        "concat" => concat(&inputs),
        "matmul" => matmul(&inputs),
        "conv" => conv(&inputs),
        "slice_by_index" => slice_by_index(&inputs),
        "tile" => {
            let (scalar, shape) = inputs.tensor("x")?;
            let times = inputs.integers("reps")?;
            let sizes: Option<Vec<u64>> = shape
                .iter()
                .zip(&times)
                .map(|(size, times)| size.checked_mul(u64::try_from(*times).ok()?))
                .collect();
            match sizes.filter(|sizes| times.len() == shape.len() && sizes.iter().all(|size| *size > 0)) {
                Some(sizes) => tensor(scalar, sizes),
                None => Err(format!("`reps` {times:?} does not repeat {shape:?}")),
            }
        }
        "scaled_dot_product_attention" => attention(&inputs),
        "quantize" => {
            let (scalar, shape) = inputs.tensor("input")?;
            inputs.of("scale", scalar)?;
            match inputs.one("output_dtype")?.value {
                Some(Literal::Text(word)) if word == "int8" => tensor(Scalar::Int8, shape),
                Some(Literal::Text(word)) if word == "uint8" => tensor(Scalar::Uint8, shape),
                _ => Err("`output_dtype` must be \"int8\" or \"uint8\"".to_owned()),
            }
        }
        "dequantize" => {
            let (scalar, shape) = inputs.tensor("input")?;
            if !matches!(scalar, Scalar::Int8 | Scalar::Uint8) {
                return Err(format!("`input` is {}, and no byte", scalar.word()));
            }
            tensor(inputs.one("scale")?.ty.scalar(), shape)
        }
        "constexpr_affine_dequantize" => {
            let (data, scale) = (attribute(operation, "quantized_data")?, attribute(operation, "scale")?);
            attribute(operation, "zero_point")?;
            attribute(operation, "axis")?;
            constant(data)?;
            if !matches!(data.ty.scalar(), Scalar::Int8 | Scalar::Uint8) {
                return Err(format!("`quantized_data` is {}, and no byte", data.ty.scalar().word()));
            }
            tensor(scale.ty.scalar(), data.ty.shape().to_vec())
        }
        "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_log_sum_exp" => {
            let (scalar, shape) = inputs.tensor("x")?;
            let keep = inputs.flag("keep_dims", false)?;
            let axes = match inputs.maybe("axes")? {
                None => (0..shape.len()).collect(),
                Some(_) => {
                    let axes = inputs.integers("axes")?;
                    axes.iter().map(|axis| inputs.axis(*axis, shape.len())).collect::<Result<Vec<_>, _>>()?
                }
            };
            let kept = shape.iter().enumerate().filter_map(|(at, size)| match axes.contains(&at) {
                true => keep.then_some(1),
                false => Some(*size),
            });
            tensor(scalar, kept.collect())
        }
        other => Err(format!("the operation `{other}` is not known here")),
    }
}

fn constant(value: &Value) -> Result<Type, String> {
    let count = value.ty.count().ok_or("it has more numbers than can be counted")?;
    let scalar = value.ty.scalar();
    // How many there are, each of the type's kind.
    fn leaves(literal: &Literal, scalar: Scalar) -> Option<u64> {
        let fits = match literal {
            Literal::List(all) => {
                return all.iter().try_fold(0_u64, |sum, one| Some(sum + leaves(one, scalar)?));
            }
            Literal::Text(_) => scalar == Scalar::String,
            Literal::Bool(_) => scalar == Scalar::Bool,
            Literal::Int(_) => !matches!(scalar, Scalar::String | Scalar::Bool),
            Literal::Real(_) => matches!(scalar, Scalar::Fp16 | Scalar::Fp32),
            // A file is a whole tensor, and no part of one.
            Literal::Blob { .. } => false,
        };
        fits.then_some(1)
    }
    if matches!(value.literal, Literal::Blob { .. }) {
        return Ok(value.ty.clone());
    }
    match leaves(&value.literal, scalar) {
        Some(found) if found == count => Ok(value.ty.clone()),
        Some(found) => Err(format!("{} takes {count} numbers, and {found} are there", value.ty)),
        None => Err(format!("{} takes other values than are there", value.ty)),
    }
}

fn reshape(inputs: &Inputs<'_>) -> Result<Type, String> {
    let known = inputs.one("x")?;
    let wanted = inputs.integers("shape")?;
    let count = known.ty.count().ok_or("it has more numbers than can be counted")?;
    let free = wanted.iter().filter(|size| **size == -1).count();
    let fixed = wanted
        .iter()
        .filter(|size| **size != -1)
        .try_fold(1_u64, |product, size| product.checked_mul(u64::try_from(*size).ok()?));
    let fixed = fixed.ok_or_else(|| format!("{wanted:?} is no shape"))?;
    let fits = match free {
        0 => fixed == count,
        1 => fixed > 0 && count.is_multiple_of(fixed),
        _ => false,
    };
    if !fits {
        return Err(format!("{} cannot become {wanted:?}", sizes(known.ty.shape())));
    }
    let shape = wanted.iter().map(|size| u64::try_from(*size).unwrap_or(count / fixed.max(1))).collect();
    Ok(Type::Tensor(known.ty.scalar(), shape))
}

fn slice(inputs: &Inputs<'_>) -> Result<Type, String> {
    let (scalar, shape) = inputs.tensor("x")?;
    let (begin, size) = (inputs.integers("begin")?, inputs.integers("size")?);
    if begin.len() != shape.len() || size.len() != shape.len() {
        return Err(format!("`begin` and `size` have as many numbers as `x` has axes, {}", shape.len()));
    }
    let mut taken = Vec::new();
    for ((whole, begin), size) in shape.iter().zip(&begin).zip(&size) {
        let begin = u64::try_from(*begin).map_err(|_| format!("a slice cannot begin at {begin}"))?;
        let size = match size {
            -1 => whole.checked_sub(begin),
            size => u64::try_from(*size).ok(),
        };
        let size = size.filter(|size| *size > 0 && begin.checked_add(*size).is_some_and(|end| end <= *whole));
        taken.push(size.ok_or_else(|| format!("the slice leaves {}", sizes(&shape)))?);
    }
    Ok(Type::Tensor(scalar, taken))
}

/// Begins and ends along each axis, with steps of 1; ends below 0 count from the end of the axis.
fn slice_by_index(inputs: &Inputs<'_>) -> Result<Type, String> {
    let (scalar, shape) = inputs.tensor("x")?;
    let (begin, end) = (inputs.integers("begin")?, inputs.integers("end")?);
    if begin.len() != shape.len() || end.len() != shape.len() {
        return Err(format!("`begin` and `end` have as many numbers as `x` has axes, {}", shape.len()));
    }
    let mut taken = Vec::new();
    for ((size, begin), end) in shape.iter().zip(&begin).zip(&end) {
        let place = |at: i64| if at < 0 { i64::try_from(*size).ok()?.checked_add(at) } else { Some(at) };
        let (from, to) = (place(*begin), place(*end));
        let count = from
            .zip(to)
            .filter(|(from, to)| *from >= 0 && from < to && u64::try_from(*to).is_ok_and(|to| to <= *size));
        let count = count.and_then(|(from, to)| u64::try_from(to - from).ok());
        taken.push(count.ok_or_else(|| format!("the slice leaves {}", sizes(&shape)))?);
    }
    Ok(Type::Tensor(scalar, taken))
}

/// Queries `[.., seq, dim]` over keys and values `[.., kv_seq, dim]`.
fn attention(inputs: &Inputs<'_>) -> Result<Type, String> {
    let (scalar, query) = inputs.tensor("query")?;
    let (key, value) = (inputs.of("key", scalar)?, inputs.of("value", scalar)?);
    let rank = query.len();
    let fits = rank >= 3
        && key.len() == rank
        && value.len() == rank
        && query[..rank - 2] == key[..rank - 2]
        && key[..rank - 1] == value[..rank - 1]
        && query[rank - 1] == key[rank - 1];
    if !fits {
        return Err(format!("{query:?}, {key:?} and {value:?} are no queries, keys and values"));
    }
    if inputs.maybe("attn_mask")?.is_some() {
        let mask = inputs.of("attn_mask", scalar)?;
        let mut scores = query.clone();
        scores[rank - 1] = key[rank - 2];
        if broadcast(&scores, &mask)? != scores {
            return Err(format!("the mask {mask:?} does not fit scores of {scores:?}"));
        }
    }
    let mut shape = query;
    shape[rank - 1] = value[rank - 1];
    Ok(Type::Tensor(scalar, shape))
}

fn concat(inputs: &Inputs<'_>) -> Result<Type, String> {
    let parts = inputs.several("values")?;
    let axis = inputs.integers("axis")?.first().copied().ok_or("`axis` is empty")?;
    let first = parts.first().ok_or("`values` is empty")?;
    let axis = inputs.axis(axis, first.ty.shape().len())?;
    let mut shape = first.ty.shape().to_vec();
    for part in &parts[1..] {
        let own = part.ty.shape();
        let alike = own.len() == shape.len()
            && part.ty.scalar() == first.ty.scalar()
            && own.iter().zip(&shape).enumerate().all(|(at, (a, b))| at == axis || a == b);
        if !alike {
            return Err(format!("{} and {} cannot be joined along axis {axis}", first.ty, part.ty));
        }
        shape[axis] = shape[axis].checked_add(own[axis]).ok_or("it has more numbers than can be counted")?;
    }
    Ok(Type::Tensor(first.ty.scalar(), shape))
}

fn matmul(inputs: &Inputs<'_>) -> Result<Type, String> {
    let ((a, left), (b, right)) = (inputs.tensor("x")?, inputs.tensor("y")?);
    if a != b {
        return Err(format!("`x` is {} and `y` is {}", a.word(), b.word()));
    }
    let turned = |shape: &[u64], turn: bool| -> Option<(Vec<u64>, u64, u64)> {
        let (rows, columns) = (*shape.get(shape.len().checked_sub(2)?)?, *shape.last()?);
        let batch = shape[..shape.len() - 2].to_vec();
        Some(if turn { (batch, columns, rows) } else { (batch, rows, columns) })
    };
    let flags = (inputs.flag("transpose_x", false)?, inputs.flag("transpose_y", false)?);
    let (batch, rows, inner) = turned(&left, flags.0).ok_or("`x` is no matrix")?;
    let (other, inner_too, columns) = turned(&right, flags.1).ok_or("`y` is no matrix")?;
    if inner != inner_too {
        return Err(format!(
            "{} and {} do not multiply: {inner} is not {inner_too}",
            sizes(&left),
            sizes(&right)
        ));
    }
    let mut shape = broadcast(&batch, &other)?;
    shape.extend([rows, columns]);
    Ok(Type::Tensor(a, shape))
}

fn conv(inputs: &Inputs<'_>) -> Result<Type, String> {
    let ((scalar, shape), (_, weight)) = (inputs.tensor("x")?, inputs.tensor("weight")?);
    let groups = match inputs.maybe("groups")? {
        Some(_) => inputs.integers("groups")?.first().and_then(|groups| u64::try_from(*groups).ok()),
        None => Some(1),
    };
    let groups = groups.filter(|groups| *groups > 0).ok_or("`groups` is no number above 0")?;
    let ([batch, channels, high, wide], [out, own, kernel_high, kernel_wide]) =
        (shape.as_slice(), weight.as_slice())
    else {
        return Err("`x` and `weight` have four axes".to_owned());
    };
    if own.checked_mul(groups) != Some(*channels) || !out.is_multiple_of(groups) {
        return Err(format!("{} does not go over {} in {groups} groups", sizes(&weight), sizes(&shape)));
    }
    if (*kernel_high, *kernel_wide) != (1, 1) {
        return Err("only kernels of 1 x 1 are known here".to_owned());
    }
    Ok(Type::Tensor(scalar, vec![*batch, *out, *high, *wide]))
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;

    fn check(body: &str) -> Result<(), String> {
        let text = format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>(tensor<fp16, [1, 64, 1, 96]> x, \
             tensor<fp16, [1, 4, 16, 8]> h) {{ {body} }} -> (x); }}"
        );
        check_types(&Program::parse(&text).unwrap().functions[0]).map_err(|error| error.to_string())
    }

    const CONSTANTS: &str = "
        tensor<int32, [4]> b = const()[val = tensor<int32, [4]>([0, 0, 0, 32])];
        tensor<int32, [4]> s = const()[val = tensor<int32, [4]>([1, 64, 1, 64])];
        tensor<int32, [4]> p = const()[val = tensor<int32, [4]>([0, 1, 3, 2])];
        tensor<int32, [1]> a = const()[val = tensor<int32, [1]>([-1])];
        int32 one = const()[val = int32(1)];
        bool yes = const()[val = bool(true)];
        fp16 half = const()[val = fp16(0.5)];
        tensor<fp16, [32, 64, 1, 1]> w = const()[val = tensor<fp16, [32, 64, 1, 1]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];";

    #[test]
    fn operations_give_what_the_language_says() {
        for line in [
            "tensor<fp16, [1, 64, 1, 64]> r = slice_by_size(x = x, begin = b, size = s)[];",
            "tensor<fp16, [1, 4, 8, 16]> r = transpose(x = h, perm = p)[];",
            "tensor<fp16, [1, 4, 16, 16]> r = matmul(x = h, y = h, transpose_y = yes)[];",
            "tensor<fp16, [1, 4, 8, 8]> r = matmul(x = h, y = h, transpose_x = yes)[];",
            "tensor<fp16, [1, 32, 1, 96]> r = conv(x = x, weight = w)[];",
            "tensor<fp16, [1, 64, 1, 96]> r = mul(x = x, y = half)[];",
            "tensor<fp16, [1, 64, 1, 1]> r = reduce_sum(x = x, axes = a, keep_dims = yes)[];",
            "tensor<fp16, [1, 64, 1]> r = reduce_sum(x = x, axes = a)[];",
            "tensor<fp16, [1, 128, 1, 96]> r = concat(values = (x, x), axis = one)[];",
            "tensor<fp32, [1, 64, 1, 96]> r = cast(x = x, dtype = string(\"fp32\"))[];",
            "tensor<fp16, [6144]> r = reshape(x = x, shape = tensor<int32, [1]>([-1]))[];",
            "tensor<fp16, [1, 64, 1, 96]> r = softmax(x = x, axis = int32(-1))[];",
        ] {
            assert_eq!(check(&format!("{CONSTANTS} {line}")), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named_with_its_result_and_operation() {
        for (line, said) in [
            (
                "tensor<fp16, [1, 64, 1, 63]> r = slice_by_size(x = x, begin = b, size = s)[];",
                "`r` = slice_by_size: it gives",
            ),
            (
                "tensor<fp16, [1, 64, 1, 96]> r = slice_by_size(x = x, begin = s, size = s)[];",
                "leaves [1, 64, 1, 96]",
            ),
            ("tensor<fp16, [1, 4, 16, 8]> r = matmul(x = h, y = h)[];", "8 is not 16"),
            ("tensor<fp16, [1, 32, 1, 96]> r = conv(x = h, weight = w)[];", "does not go over"),
            ("tensor<fp16, [1, 64, 1, 96]> r = mul(x = x, y = one)[];", "`y` is int32"),
            ("tensor<fp16, [1, 64, 1, 96]> r = add(x = x, y = h)[];", "do not go together"),
            ("tensor<fp16, [1, 64, 1, 96]> r = add(x = x)[];", "the parameter `y` is missing"),
            ("tensor<fp16, [1, 64, 1, 96]> r = add(x = x, y = later)[];", "`later` is not given before"),
            ("tensor<fp16, [1, 64, 1, 96]> r = gelu(x = x)[];", "`gelu` is not known"),
            (
                "tensor<fp16, [2]> r = const()[val = tensor<fp16, [2]>([1.0])];",
                "takes 2 numbers, and 1 are there",
            ),
            ("tensor<fp16, [1]> r = const()[val = tensor<fp16, [1]>([\"one\"])];", "takes other values"),
            ("fp16 r = const()[val = fp16(true)];", "takes other values"),
            (
                "tensor<fp16, [1]> r = const()[val = tensor<fp16, [1]>([BLOBFILE(path = string(\"w\"), offset = uint64(64))])];",
                "takes other values",
            ),
            ("fp16 r = softmax(x = half)[];", "has no axis"),
            (
                "tensor<fp16, [1, 4]> r = reshape(x = x, shape = tensor<int32, [2]>([1, 4]))[];",
                "cannot become [1, 4]",
            ),
            ("tensor<fp16, [1, 64, 1, 96]> r = softmax(x = x, axis = int32(4))[];", "no axis 4 of 4"),
            (
                "tensor<fp16, [1, 4, 8, 16]> r = transpose(x = h, perm = tensor<int32, [4]>([0, 1, 1, 2]))[];",
                "no order",
            ),
        ] {
            let error = check(&format!("{CONSTANTS} {line}")).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
        let text =
            "program(1) [buildInfo = dict<string, string>({})] { func main<ios18>(fp16 x) { } -> (y); }";
        let error = check_types(&Program::parse(text).unwrap().functions[0]).unwrap_err();
        assert!(error.to_string().contains("returns `y`"), "{error}");
    }
}
