//! Every restriction: broken on a chip on which it holds, with the effect that its sources tell. What cannot be broken through
//! this library, and what only a device in use shows, is listed as that.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::f16;
use sprag_ane::blob::{BlobType, BlobWriter};
use sprag_ane::emulator::Emulator;
use sprag_ane::emulator::cost::{FITTED, Work};
use sprag_ane::mil::{Effect, Program, Shows, lint, lint_for, rules};
use sprag_ane::profile::Profile;
use sprag_ane::runtime::{Reloaded, Runtime, RuntimeError, Surface, Weights};

const X: &str = "tensor<fp16, [1, 64, 1, 64]> x";
const KEPT: &str = "tensor<fp16, [1, 64, 1, 64]>";

fn text(inputs: &str, body: &str, outputs: &str) -> String {
    format!(
        "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}"
    )
}

fn program(inputs: &str, body: &str, outputs: &str) -> Program {
    Program::parse(&text(inputs, body, outputs)).unwrap()
}

fn emulator(chip: &str) -> Emulator {
    Emulator::new(Profile::of(chip).unwrap())
}

fn weights(halves: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = halves.iter().flat_map(|own| f16::from_f32(*own).to_le_bytes()).collect();
    let mut writer = BlobWriter::new();
    writer.add(BlobType::Fp16, &bytes).unwrap();
    writer.finish()
}

/// What compiling says of a program in the chip's own form; a program that compiles says nothing.
fn compile(chip: &str, inputs: &str, body: &str, outputs: &str) -> String {
    let (emulator, program) = (emulator(chip), program(inputs, body, outputs));
    let compiled = emulator.compile(&emulator.dialect(&program), &Weights::new());
    compiled.err().map(|error| error.to_string()).unwrap_or_default()
}

/// Evaluates with surfaces of these sizes in bytes (or as the ports need), and gives outputs by their order.
fn evaluate(
    chip: &str,
    program: &Program,
    files: &Weights,
    data: &[&[f32]],
    sizes: Option<(&[usize], &[usize])>,
) -> Result<Vec<Vec<f32>>, RuntimeError> {
    let emulator = emulator(chip);
    let kernel = emulator.compile(program, files)?;
    let make = |bytes: usize| emulator.surface(bytes).unwrap();
    type Surfaces = Vec<Arc<dyn Surface>>;
    let (inputs, outputs): (Surfaces, Surfaces) = match sizes {
        Some((inputs, outputs)) => {
            (inputs.iter().map(|own| make(*own)).collect(), outputs.iter().map(|own| make(*own)).collect())
        }
        None => (
            kernel.inputs().iter().map(|port| make(port.bytes())).collect(),
            kernel.outputs().iter().map(|port| make(port.bytes())).collect(),
        ),
    };
    for (surface, numbers) in inputs.iter().zip(data) {
        surface.write(&mut |bytes| {
            for (pair, number) in bytes.chunks_exact_mut(2).zip(*numbers) {
                pair.copy_from_slice(&f16::from_f32(*number).to_le_bytes());
            }
        })?;
    }
    for surface in &outputs {
        surface.write(&mut |bytes| bytes.fill(0x11))?;
    }
    kernel.bind(&inputs, &outputs)?.evaluate()?;
    let mut found = Vec::new();
    for (port, surface) in kernel.outputs().iter().zip(&outputs) {
        surface.read(&mut |bytes| {
            let numbers = bytes[..port.bytes()].chunks_exact(2);
            found.push(numbers.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect());
        })?;
    }
    Ok(found)
}

fn fails_with_0x1d(rule: &str, result: Result<Vec<Vec<f32>>, RuntimeError>) {
    match result {
        Err(RuntimeError::Evaluate { status: 0x1d, detail }) => {
            assert!(detail.starts_with(rule), "{rule}: {detail}")
        }
        other => panic!("{rule}: {other:?}"),
    }
}

/// A restriction that some chips do not compile: refused there by its number, and taken on another.
fn refused(rule: &str, chip: &str, other: Option<&str>, inputs: &str, body: &str, outputs: &str) {
    let said = compile(chip, inputs, body, outputs);
    assert!(said.contains(&format!("{rule} at")), "{rule} on {chip}: {said}");
    if let Some(other) = other {
        let said = compile(other, inputs, body, outputs);
        assert!(!said.contains(&format!("{rule} at")), "{rule} on {other}: {said}");
    }
}

#[test]
fn what_the_compiler_refuses() {
    let of = |rest: &str| format!("{KEPT} y = {rest}[];");
    let axis = |value: i32| format!("int32 a = const()[val = int32({value})];");
    let join = |value: i32, parts: &str, shape: &str| {
        format!("{} tensor<fp16, [{shape}]> y = concat(values = ({parts}), axis = a)[];", axis(value))
    };
    refused("R01", "M1", Some("M4"), X, &join(1, "x, x", "1, 128, 1, 64"), "y");
    refused("R01", "M4-orion", Some("M4"), X, &join(1, "x, x", "1, 128, 1, 64"), "y");
    refused("R10", "M4", Some("M4-e5rt"), X, &of("gelu(x = x)"), "y");
    refused("R15", "M4", Some("M4-e5rt"), X, &of("matmul(x = x, y = x, transpose_y = bool(true))"), "y");
    let conv = "tensor<fp16, [64, 64, 1, 1]> w = const()[val = tensor<fp16, [64, 64, 1, 1]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];";
    refused("R16", "M4", None, X, &format!("{conv} {}", of("conv(x = x, weight = w, bias = x)")), "y");
    refused("R17", "M4", None, X, "", "z");
    refused("R22", "M3", Some("M4"), "tensor<fp16, [1, 4, 1, 17920]> x", "", "x");
    assert_eq!(compile("M3", "tensor<fp16, [1, 4, 1, 16384]> x", "", "x"), "");
    let wide = "tensor<fp16, [64, 32000, 1, 1]> w = const()[val = tensor<fp16, [64, 32000, 1, 1]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];";
    let classify = format!("{wide} tensor<fp16, [1, 64, 1, 32]> y = conv(x = x, weight = w)[];");
    refused("R23", "M4", None, "tensor<fp16, [1, 32000, 1, 32]> x", &classify, "y");
    refused("R24", "M4", None, "tensor<fp16, [1, 1, 1, 1, 1, 32]> x", "", "x");
    for op in ["rsqrt", "sqrt", "inverse", "reduce_mean"] {
        refused("R27", "M4", None, X, &of(&format!("{op}(x = x)")), "y");
    }
    let backward = format!(
        "{KEPT} p = softmax(x = x)[]; {KEPT} m = mul(x = p, y = x)[]; {KEPT} s = reduce_sum(x = m)[]; {}",
        of("matmul(x = p, y = x)")
    );
    refused("R29", "M4", None, X, &backward, "y");
    refused("R31", "M3", Some("M4"), X, &join(3, "x, x", "1, 64, 1, 128"), "y");
    refused("R32", "M1", Some("M4"), "tensor<fp32, [1, 64, 1, 64]> x", "", "x");
    let error = emulator("M2").compile(&program(X, &axis(1), "x"), &Weights::new()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("R33 at `a`"), "{error}");
    assert_eq!(compile("M2", X, &axis(1), "x"), "");
    let chunk = |name: &str, offset: u32| {
        format!(
            "tensor<fp16, [32]> {name} = const()[val = tensor<fp16, [32]>(BLOBFILE(path = string(\"w\"), offset = uint64({offset})))];"
        )
    };
    refused("R34", "M1", Some("M4"), X, &(chunk("a", 64) + &chunk("b", 192)), "x");
    let zero = format!(
        "tensor<fp16, []> o = const()[val = tensor<fp16, []>(0.0)]; {KEPT} s = reduce_sum(x = x)[]; {}",
        of("mul(x = s, y = o)")
    );
    refused("R40", "M5", Some("M4"), X, &zero, "y");
    refused(
        "R41",
        "M3",
        Some("M4"),
        "tensor<fp16, [1, 64, 1, 96]> x",
        "tensor<fp16, [1, 64, 1, 96]> y = softmax(x = x)[];",
        "y",
    );
    refused("R42", "M3", Some("M4"), X, &of("slice_by_index(x = x)"), "y");
    let kernel = format!("tensor<fp16, [8, 8, 1, 17]> w = const()[]; {}", of("conv(x = x, weight = w)"));
    refused("R43", "M4", None, X, &kernel, "y");
    refused("R44", "M4-e5rt", Some("M4"), X, &join(1, "x, x, x", "1, 192, 1, 64"), "y");
    refused("R45", "M4", None, "tensor<int32, [1, 64, 1, 64]> x", "", "x");
    // Shapes that are not fixed are no text of a program.
    let free = Program::parse(&text("tensor<fp16, [1, ?, 1, 64]> x", "", "x")).unwrap_err();
    assert!(free.to_string().contains("a size"), "R51: {free}");
    let dynamic = "tensor<fp16, [8, 8, 1, 1]> w = add(x = x, y = x)[]; tensor<fp16, [8, 8, 1, 32]> y = conv(x = x, weight = w)[];";
    refused("R52", "M5", Some("M4"), "tensor<fp16, [8, 8, 1, 32]> x", dynamic, "y");
}

#[test]
fn what_compiles_and_does_not_evaluate() {
    let both = program(X, &format!("{KEPT} y = add(x = x, y = x)[];"), "x, y");
    let ones = vec![1.0; 64 * 64];
    let enough = 64 * 64 * 2;
    let with = |chip: &str, program: &Program, inputs: &[usize], outputs: &[usize]| {
        evaluate(chip, program, &Weights::new(), &[&ones, &ones], Some((inputs, outputs)))
    };
    fails_with_0x1d("R02", with("M4", &both, &[enough], &[enough, 2 * enough]));
    assert!(with("M4", &both, &[enough], &[enough, enough]).is_ok());
    let one = program(X, &format!("{KEPT} y = add(x = x, y = x)[];"), "y");
    fails_with_0x1d("R04", with("M4-orion", &one, &[enough], &[enough]));
    assert!(with("M4-orion", &one, &[49_152], &[49_152]).is_ok());
    assert!(with("M4", &one, &[enough], &[enough]).is_ok());
    let two = program(&format!("{X}, {KEPT} z"), &format!("{KEPT} y = add(x = x, y = z)[];"), "y");
    fails_with_0x1d("R12", with("M4", &two, &[enough, 2 * enough], &[enough]));
    assert!(with("M4", &two, &[2 * enough, 2 * enough], &[enough]).is_ok());
    // An M1 gives zeros instead, unless inputs ascend and outputs descend.
    let old = two.for_old_compilers();
    let found = with("M1", &old, &[2 * enough, enough], &[enough]).unwrap();
    assert!(found[0].iter().all(|own| *own == 0.0), "R12 on M1");
    assert_eq!(with("M1", &old, &[enough, 2 * enough], &[enough]).unwrap()[0][0], 2.0);
    let short =
        program("tensor<fp32, [1, 64, 1, 8]> x", "tensor<fp32, [1, 64, 1, 8]> y = add(x = x, y = x)[];", "y");
    fails_with_0x1d("R19", with("M4-orion", &short, &[65_536], &[65_536]));
    let chain: String = (0..20)
        .map(|at| {
            let before = if at == 0 { "x".to_owned() } else { format!("y{}", at - 1) };
            format!("tensor<fp16, [1, 1, 1, 14600]> y{at} = add(x = {before}, y = x)[];")
        })
        .collect();
    let odd = program("tensor<fp16, [1, 1, 1, 14600]> x", &chain, "y19");
    fails_with_0x1d("R26", evaluate("M4", &odd, &Weights::new(), &[], None));
    let even = Program::parse(&odd.to_string().replace("14600", "14592")).unwrap();
    assert!(evaluate("M4", &even, &Weights::new(), &[], None).is_ok());
    let mixed = program(
        &format!("{X}, {KEPT} z"),
        "tensor<int32, [4]> s = const()[val = tensor<int32, [4]>([1, 64, 64, 1])];
         bool f = const()[val = bool(false)]; int32 a = const()[val = int32(2)];
         tensor<fp16, [1, 64, 2, 64]> j = concat(values = (x, x), axis = a)[];
         tensor<fp16, [1, 64, 64, 1]> v = reshape(x = z, shape = s)[];
         tensor<fp16, [1, 64, 2, 1]> y = matmul(x = j, y = v, transpose_x = f, transpose_y = f)[];",
        "y",
    );
    fails_with_0x1d("R28", evaluate("M4", &mixed, &Weights::new(), &[], None));
    let large = program(
        "tensor<fp16, [1, 4096, 1, 32]> x",
        "tensor<int32, [4]> r = const()[val = tensor<int32, [4]>([1, 1, 1, 129])]; tensor<fp16, [1, 4096, 1, 4128]> y = tile(x = x, reps = r)[];",
        "y",
    );
    fails_with_0x1d("R46", evaluate("M4", &large, &Weights::new(), &[], None));
}

#[test]
fn what_is_wrong_in_silence() {
    let none = Weights::new();
    let row = "tensor<fp16, [1, 1, 1, 32]>";
    let numbers = |first: f32| -> Vec<f32> { (0..32).map(|at| if at == 0 { first } else { 0.0 }).collect() };
    // R03, R13: ports bind by name, whatever stands first.
    let swapped = program(
        &format!("{row} b, {row} a"),
        &format!("{row} z = sub(x = b, y = a)[]; {row} c = add(x = b, y = b)[];"),
        "z, c",
    );
    let found = evaluate("M4", &swapped, &none, &[&numbers(1.0), &numbers(10.0)], None).unwrap();
    assert_eq!((found[0][0], found[1][0]), (20.0, 9.0));
    // R08: a place that is no descriptor is told here, where the device takes what lies there.
    let baked = |offset: u32| {
        program(
            &format!("{row} x"),
            &format!(
                "{row} w = const()[val = {row}(BLOBFILE(path = string(\"w\"), offset = uint64({offset})))]; {row} y = add(x = x, y = w)[];"
            ),
            "y",
        )
    };
    let files = Weights::from([("w".to_owned(), weights(&numbers(5.0)))]);
    assert!(
        lint_for(&baked(0), &Profile::default())
            .iter()
            .any(|own| own.rule.id == "R08" && own.effect == Effect::Silent)
    );
    let error = evaluate("M4", &baked(128), &files, &[&numbers(1.0)], None).unwrap_err();
    assert!(error.to_string().contains("no descriptor at byte 128"), "R08: {error}");
    assert_eq!(evaluate("M4", &baked(64), &files, &[&numbers(1.0)], None).unwrap()[0][0], 6.0);
    // R14: numbers are read from the first byte on, without gaps, however large the surface is.
    let plain = program(&format!("{row} x"), &format!("{row} y = add(x = x, y = x)[];"), "y");
    let found = evaluate("M4", &plain, &none, &[&numbers(3.0)], Some((&[1024], &[512]))).unwrap();
    assert_eq!(found[0], numbers(6.0));
    // R25: ragged rows.
    let ragged =
        program("tensor<fp16, [1, 2, 1, 20]> x", "tensor<fp16, [1, 2, 1, 20]> y = add(x = x, y = x)[];", "y");
    assert!(evaluate("M4", &ragged, &none, &[&[1.0; 40]], None).unwrap()[0].iter().all(|own| *own == 0.0));
    // R35, R37, R38.
    let product = program(
        &format!("{row} x"),
        "bool f = const()[val = bool(false)]; bool t = const()[val = bool(true)];
         tensor<fp16, [1, 1, 1, 1]> p = matmul(x = x, y = x, transpose_x = f, transpose_y = t)[];
         tensor<int32, [4]> r = const()[val = tensor<int32, [4]>([1, 1, 1, 32])];
         tensor<fp16, [1, 1, 1, 32]> y = tile(x = p, reps = r)[];",
        "y",
    );
    let of = |first: f32| evaluate("M4", &product, &none, &[&numbers(first)], None).unwrap()[0][0];
    assert_eq!((of(180.0), of(200.0)), (32_400.0, f32::INFINITY));
    let sum = program(
        "tensor<fp16, [1, 4096, 1, 32]> x",
        "tensor<int32, [1]> a = const()[val = tensor<int32, [1]>([1])]; bool t = const()[val = bool(true)];
         tensor<fp16, [1, 1, 1, 32]> y = reduce_sum(x = x, axes = a, keep_dims = t)[];",
        "y",
    );
    assert_eq!(evaluate("M4", &sum, &none, &[&vec![1.0; 4096 * 32]], None).unwrap()[0][0], 2048.0);
    let table = program(&format!("{row} x"), &format!("{row} y = sigmoid(x = x)[];"), "y");
    assert_eq!(evaluate("M4", &table, &none, &[&numbers(f32::NAN)], None).unwrap()[0][0], 1.0);
    // R36: on an M2, and not on an M4.
    let late = program(
        "tensor<fp16, [1, 1, 1, 64]> x",
        &format!(
            "tensor<int32, [4]> b = const()[val = tensor<int32, [4]>([0, 0, 0, 32])]; tensor<int32, [4]> s = const()[val = tensor<int32, [4]>([1, 1, 1, 32])]; {row} y = slice_by_size(x = x, begin = b, size = s)[];"
        ),
        "y",
    );
    let data = vec![5000.0; 64];
    assert_eq!(evaluate("M4", &late, &none, &[&data], None).unwrap()[0][0], 5000.0);
    assert_eq!(
        evaluate("M2", &late.for_old_compilers(), &none, &[&data], None).unwrap()[0][0],
        f32::INFINITY
    );
    // R06 and R39 by the attention layer.
    let attention = |positions: u32, mask: &str| {
        let all = format!("tensor<fp16, [1, 1, {positions}, 32]>");
        program(
            &format!("{all} x"),
            &format!("{all} y = scaled_dot_product_attention(query = x, key = x, value = x{mask})[];"),
            "y",
        )
    };
    let data: Vec<f32> = (0..32 * 32).map(|at| (at % 7) as f32).collect();
    let masked = evaluate("M4", &attention(32, ", attn_mask = x"), &none, &[&data], None).unwrap();
    assert_eq!(masked, evaluate("M4", &attention(32, ""), &none, &[&data], None).unwrap());
    assert_ne!(
        masked,
        evaluate("M4-e5rt", &attention(32, ", attn_mask = x"), &none, &[&data], None).unwrap()
    );
    // Ignoring is counted, so that it can be told.
    let emulator = emulator("M4");
    let kernel = emulator.compile(&attention(32, ", attn_mask = x"), &none).unwrap();
    let surfaces = [0, 1].map(|_| emulator.surface(2048).unwrap());
    kernel.bind(&surfaces[..1], &surfaces[1..]).unwrap().evaluate().unwrap();
    assert_eq!(emulator.remarks().masks_ignored, 1);
    let m5 = Profile::of("M5").unwrap();
    assert!(
        lint_for(&attention(512, ""), &m5)
            .iter()
            .any(|own| own.rule.id == "R39" && own.effect == Effect::Silent)
    );
    assert!(lint_for(&attention(256, ""), &m5).is_empty());
}

#[test]
fn what_shows_over_a_process() {
    // R05: the budget of compiles; the same program again costs nothing.
    let emulator = emulator("M4");
    let made = |at: u32| {
        program(X, &format!("fp16 c = const()[val = fp16({at}.0)]; {KEPT} y = mul(x = x, y = c)[];"), "y")
    };
    for at in 0..119 {
        emulator.compile(&made(at), &Weights::new()).map(|_| ()).unwrap();
    }
    emulator.compile(&made(3), &Weights::new()).map(|_| ()).unwrap();
    assert_eq!(emulator.budget().spent, 119);
    let error = emulator.compile(&made(119), &Weights::new()).map(|_| ()).unwrap_err();
    assert_eq!(error, RuntimeError::Budget { spent: 119, limit: 119 });
    // R07: weights stay as they were compiled; Orion's second version says otherwise.
    let row = "tensor<fp16, [1, 1, 1, 32768]>";
    let baked = program(
        &format!("{row} x"),
        &format!(
            "{row} w = const()[val = {row}(BLOBFILE(path = string(\"w\"), offset = uint64(64)))]; {row} y = add(x = x, y = w)[];"
        ),
        "y",
    );
    let file = |value: f32| Weights::from([("w".to_owned(), weights(&vec![value; 32_768]))]);
    for (chip, said, expected) in [("M4", Reloaded::Stale, 1.0), ("M4-orion", Reloaded::Fresh, 2.0)] {
        let emulator = self::emulator(chip);
        let kernel = emulator.compile(&baked, &file(1.0)).unwrap();
        let (input, output) = (emulator.surface(65_536).unwrap(), emulator.surface(65_536).unwrap());
        let mut request = kernel.bind(&[input], std::slice::from_ref(&output)).unwrap();
        assert_eq!(kernel.reload(&file(2.0)).unwrap(), said);
        request.evaluate().unwrap();
        output
            .read(&mut |bytes| assert_eq!(f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(), expected))
            .unwrap();
    }
    // R21: a size that is not the tensor's: refused by name on M3, told on M4.
    let mut short = weights(&[1.0; 32]);
    short[72] = 62;
    for (chip, refused) in [("M3", true), ("M4", false)] {
        let row = "tensor<fp16, [1, 1, 1, 32]>";
        let one = program(
            &format!("{row} x"),
            &format!(
                "{row} w = const()[val = {row}(BLOBFILE(path = string(\"w\"), offset = uint64(64)))]; {row} y = add(x = x, y = w)[];"
            ),
            "y",
        );
        let files = Weights::from([("w".to_owned(), short.clone())]);
        let error = self::emulator(chip).compile(&one, &files).map(|_| ()).unwrap_err();
        assert_eq!(matches!(error, RuntimeError::Compile { .. }), refused, "R21 on {chip}: {error}");
    }
    // R54: surfaces are rounded up.
    assert_eq!(self::emulator("M5").surface(100).unwrap().bytes(), 128);
}

#[test]
fn what_is_slower_or_contested() {
    let warned = |rule: &str, inputs: &str, body: &str| {
        let found = lint(&program(inputs, body, "x"));
        assert!(
            found.iter().any(|own| own.rule.id == rule && own.effect == Effect::Warning),
            "{rule}: {found:?}"
        );
    };
    let large = "tensor<fp16, [1, 4096, 1, 8192]>";
    warned("R18", X, &format!("{large} y = f(x = x)[];"));
    warned("R30", X, "tensor<fp16, [1, 128, 1, 64]> y = concat(values = (x, x))[];");
    warned("R48", "tensor<fp16, [1, 5120, 1, 64]> x", "tensor<fp16, [1, 5120, 1, 64]> y = conv(x = x)[];");
    // R18: what does not fit 32 MB is predicted to be slower.
    let of = |size: f64, largest: f64| FITTED.seconds(&Work { products: size, largest, ..Work::default() });
    assert!(of(1e9, 64e6) > 1.3 * of(1e9, 16e6));
}

/// What cannot be broken through this library, and what shows only on a device in use.
#[test]
fn every_restriction_is_broken_somewhere_or_cannot_be() {
    let broken: BTreeSet<&str> = [
        "R01", "R02", "R03", "R04", "R05", "R06", "R07", "R08", "R10", "R12", "R13", "R14", "R15", "R16",
        "R17", "R18", "R19", "R21", "R22", "R23", "R24", "R25", "R26", "R27", "R28", "R29", "R30", "R31",
        "R32", "R33", "R34", "R35", "R36", "R37", "R38", "R39", "R40", "R41", "R42", "R43", "R44", "R45",
        "R46", "R48", "R51", "R52", "R54",
    ]
    .into();
    // Programs go over as typed values (R09), weights as a map that may be empty (R11), kernels unload themselves (R20), and
    // compiling is in memory alone (R53).
    let impossible: BTreeSet<&str> = ["R09", "R11", "R20", "R53"].into();
    // Decay on two dies, other processes, the system's cache: nothing of a device that is not there.
    let in_use: BTreeSet<&str> = ["R47", "R49", "R50"].into();
    for rule in rules() {
        let sets = [&broken, &impossible, &in_use].into_iter().filter(|set| set.contains(rule.id)).count();
        assert_eq!(sets, 1, "{}", rule.id);
        if impossible.contains(rule.id) {
            assert_eq!(rule.shows, Shows::Library, "{}", rule.id);
        }
    }
    let empty = emulator("M4")
        .compile(&program(X, &format!("{KEPT} y = add(x = x, y = x)[];"), "y"), &Weights::new());
    assert!(empty.is_ok());
}
