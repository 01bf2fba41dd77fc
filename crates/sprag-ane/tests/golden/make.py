"""Makes operations.json: what operations of the language give, by two implementations that are not ours.

NumPy computes in halves with sums in single precision, as the device's products do. coremltools builds the same operation and
infers its value; both must agree before anything is written. Convolutions and dequantisation have no value there, so NumPy alone
says them. What the device does differently (limits of products, narrow sums, tables without NaN) is in neither and is tested
elsewhere.

    python3 crates/sprag-ane/tests/golden/make.py      (needs numpy and coremltools)
"""

import json
import pathlib

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

random = np.random.default_rng(7)
cases = []


def halves(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(np.float16)


def wide(f, *arrays):
    """f in single precision, rounded once at the end."""
    return f(*[array.astype(np.float32) for array in arrays]).astype(np.float16)


def inferred(build):
    """The value that coremltools infers for what `build` makes of constants."""
    found = {}

    @mb.program(input_specs=[], opset_version=ct.target.iOS18)
    def program():
        result = build()
        found["value"] = result.val
        return result

    return None if found["value"] is None else np.asarray(found["value"])


def scalar(value, kind):
    return f"{kind}({value})"


def integers(values):
    return f"tensor<int32, [{len(values)}]>([{', '.join(map(str, values))}])"


def text(shape, kind="fp16"):
    return f"tensor<{kind}, [{', '.join(map(str, shape))}]>"


def case(name, operation, inputs, expected, build=None, ulps=0, kind="fp16", theirs=1):
    """`operation` names its inputs a, b, ..; `ulps` is how far sums in another order may be, `theirs` how far coremltools, which
    computes functions in halves step by step."""
    expected = np.asarray(expected)
    if build is not None:
        other = inferred(build)
        assert other is not None, name
        assert other.shape == expected.shape, (name, other.shape, expected.shape)
        near = np.abs(other.astype(np.float64) - expected.astype(np.float64))
        step = np.spacing(np.abs(expected.astype(np.float16))).astype(np.float64)
        worst = (near / np.maximum(step, 6e-8)).max() if expected.dtype == np.float16 else near.max()
        assert worst <= max(ulps, theirs), (name, worst)
    bits = expected.view(np.uint16) if expected.dtype == np.float16 else expected
    cases.append(
        {
            "name": name,
            "operation": operation,
            "inputs": [
                {"name": key, "shape": list(array.shape), "bits": array.view(np.uint16).ravel().tolist()}
                for key, array in inputs.items()
            ],
            "output": text(expected.shape, kind),
            "bits": bits.ravel().tolist(),
            "ulps": ulps,
        }
    )


def main():
    a, b = halves(2, 3, 4, 8), halves(2, 3, 4, 8)
    row, column, one = halves(1, 1, 1, 8), halves(1, 3, 1, 1), halves(1, 1, 1, 1)
    for op, f in [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("real_div", np.divide)]:
        for other in (b, row, column, one):
            with np.errstate(all="ignore"):
                expected = wide(f, a, other)
            make = lambda op=op, other=other: getattr(mb, op)(x=a, y=other)
            case(f"{op} {other.shape}", f"{op}(x = a, y = b)", {"a": a, "b": other}, expected, make)
    for op, f in [("maximum", np.maximum), ("minimum", np.minimum)]:
        case(op, f"{op}(x = a, y = b)", {"a": a, "b": row}, wide(f, a, row), lambda op=op: getattr(mb, op)(x=a, y=row))
    positive = np.abs(a) + np.float16(0.1)
    half = np.float16(-0.5)
    case("pow", "pow(x = a, y = fp16(-0.5))", {"a": positive}, wide(np.power, positive, half), lambda: mb.pow(x=positive, y=half), ulps=1)
    for op, f in [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("exp", np.exp),
        ("relu", lambda x: np.maximum(x, 0)),
        ("abs", np.abs),
        ("identity", lambda x: x),
    ]:
        case(op, f"{op}(x = a)", {"a": a}, wide(f, a), lambda op=op: getattr(mb, op)(x=a), ulps=1, theirs=8)

    def softmax(x, axis):
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    for axis in (-1, 1, 2):
        expected = softmax(a.astype(np.float32), axis).astype(np.float16)
        case(f"softmax {axis}", f"softmax(x = a, axis = int32({axis}))", {"a": a}, expected, lambda axis=axis: mb.softmax(x=a, axis=axis), ulps=2, theirs=12)
    # Whole numbers up to 2048 add up exactly, narrow or wide.
    whole = random.integers(-8, 9, (2, 6, 4, 8)).astype(np.float16)
    for axes in ([1], [-1], [1, 3]):
        expected = whole.astype(np.float32).sum(axis=tuple(axes), keepdims=True).astype(np.float16)
        operation = f"reduce_sum(x = a, axes = {integers(axes)}, keep_dims = bool(true))"
        case(f"reduce_sum {axes}", operation, {"a": whole}, expected, lambda axes=axes: mb.reduce_sum(x=whole, axes=axes, keep_dims=True))
    expected = whole.max(axis=3)
    case("reduce_max", f"reduce_max(x = a, axes = {integers([3])}, keep_dims = bool(false))", {"a": whole}, expected, lambda: mb.reduce_max(x=whole, axes=[3], keep_dims=False))
    begin, size = [0, 1, 2, 3], [2, 2, 1, 5]
    cut = a[0:2, 1:3, 2:3, 3:8]
    case("slice_by_size", f"slice_by_size(x = a, begin = {integers(begin)}, size = {integers(size)})", {"a": a}, cut, lambda: mb.slice_by_size(x=a, begin=begin, size=size))
    end = [2, 3, 3, 8]
    case("slice_by_index", f"slice_by_index(x = a, begin = {integers(begin)}, end = {integers(end)})", {"a": a}, cut, lambda: mb.slice_by_index(x=a, begin=begin, end=end))
    case("reshape", f"reshape(x = a, shape = {integers([1, 6, 8, 4])})", {"a": a}, a.reshape(1, 6, 8, 4), lambda: mb.reshape(x=a, shape=[1, 6, 8, 4]))
    for order in ([0, 1, 3, 2], [3, 0, 2, 1]):
        case(f"transpose {order}", f"transpose(x = a, perm = {integers(order)})", {"a": a}, a.transpose(order), lambda order=order: mb.transpose(x=a, perm=order))
    for axis in (1, 3):
        expected = np.concatenate([a, b, a], axis=axis)
        case(f"concat {axis}", f"concat(values = (a, b, a), axis = int32({axis}), interleave = bool(false))", {"a": a, "b": b}, expected, lambda axis=axis: mb.concat(values=[a, b, a], axis=axis, interleave=False))
    case("tile", f"tile(x = a, reps = {integers([1, 2, 1, 3])})", {"a": a}, np.tile(a, (1, 2, 1, 3)), lambda: mb.tile(x=a, reps=[1, 2, 1, 3]))
    big = halves(2, 8, scale=200.0)
    case("cast", 'cast(x = a, dtype = string("fp32"))', {"a": big}, big.astype(np.float32), lambda: mb.cast(x=big, dtype="fp32"), kind="fp32")
    for turn_x in (False, True):
        for turn_y in (False, True):
            x, y = halves(2, 3, 5, 7), halves(2, 3, 7, 6)
            left = x.transpose(0, 1, 3, 2) if turn_x else x
            right = y.transpose(0, 1, 3, 2) if turn_y else y
            left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
            expected = (x.astype(np.float32) @ y.astype(np.float32)).astype(np.float16)
            flags = f"transpose_x = bool({str(turn_x).lower()}), transpose_y = bool({str(turn_y).lower()})"
            make = lambda left=left, right=right, turn_x=turn_x, turn_y=turn_y: mb.matmul(x=left, y=right, transpose_x=turn_x, transpose_y=turn_y)
            case(f"matmul {turn_x} {turn_y}", f"matmul({flags}, x = a, y = b)", {"a": left, "b": right}, expected, make, ulps=4)
    long = halves(1, 1, 4, 768, scale=0.3), halves(1, 1, 768, 4, scale=0.3)
    expected = (long[0].astype(np.float32) @ long[1].astype(np.float32)).astype(np.float16)
    # Other orders of 768 sums, near zero: steps of the largest result rather than of each.
    case("matmul 768", "matmul(transpose_x = bool(false), transpose_y = bool(false), x = a, y = b)", {"a": long[0], "b": long[1]}, expected, ulps=4)
    # Attention as the layer of the language has it.
    q, k, v = halves(1, 2, 4, 8), halves(1, 2, 6, 8), halves(1, 2, 6, 8)
    scores = (q.astype(np.float32) @ k.astype(np.float32).transpose(0, 1, 3, 2)).astype(np.float16)
    scaled = (scores.astype(np.float32) * np.float32(np.float16(1 / np.sqrt(8)))).astype(np.float16)
    probs = softmax(scaled.astype(np.float32), -1).astype(np.float16)
    expected = (probs.astype(np.float32) @ v.astype(np.float32)).astype(np.float16)
    case("attention", "scaled_dot_product_attention(query = a, key = b, value = c)", {"a": q, "b": k, "c": v}, expected, ulps=4)
    step = np.float16(0.05)
    bytes_ = np.clip(np.rint(a.astype(np.float32) / np.float32(step)), -128, 127)
    case("quantize", 'quantize(input = a, output_dtype = string("int8"), scale = fp16(0.05))', {"a": a}, bytes_.astype(np.int32), lambda: mb.quantize(input=a, scale=step, output_dtype="int8"), kind="int8")
    path = pathlib.Path(__file__).with_name("operations.json")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


main()
