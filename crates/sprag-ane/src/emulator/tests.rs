use super::arithmetic::{half, kept};
use super::*;
use crate::blob::{BlobType, BlobWriter};

/// What a program gives, by the order of its outputs' names.
fn emulate(inputs: &str, body: &str, outputs: &str, data: &[&[f32]], chip: &str) -> Vec<Vec<f32>> {
    let mut writer = BlobWriter::new();
    // [[1, 2], [3, 4]] in halves.
    let place = writer.add(BlobType::Fp16, &[0, 0x3C, 0, 0x40, 0, 0x42, 0, 0x44]).unwrap();
    assert_eq!(place, 64);
    let files = Weights::from([("w".to_owned(), writer.finish())]);
    let program = program(inputs, body, outputs);
    let plan = Plan::new(&program.functions[0], &files, Profile::of(chip).unwrap()).unwrap();
    let views = plan.inputs().into_iter().zip(data).map(|(port, data)| {
        let shape = port.ty.shape().iter().map(|size| *size as usize).collect();
        let data: Vec<f32> = data.iter().map(|value| kept(port.ty.scalar(), *value)).collect();
        View::of(port.ty.scalar(), shape, &data)
    });
    plan.run(views.collect()).0.iter().map(View::to_vec).collect()
}

fn program(inputs: &str, body: &str, outputs: &str) -> Program {
    let text = format!(
        "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}"
    );
    Program::parse(&text).unwrap()
}

fn one(inputs: &str, body: &str, data: &[&[f32]]) -> Vec<f32> {
    emulate(inputs, body, "r", data, "M4").remove(0)
}

const X: &str = "tensor<fp16, [1, 2, 1, 3]> x";

#[test]
fn operations_give_what_numpy_gives_in_halves() {
    let x: &[f32] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let run = |body: &str| one(X, body, &[x]);
    assert_eq!(run("tensor<fp16, [1, 2, 1, 3]> r = add(x = x, y = x)[];"), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    assert_eq!(
        run("tensor<fp16, [1, 2, 3, 1]> r = transpose(x = x, perm = tensor<int32, [4]>([0, 1, 3, 2]))[];"),
        x
    );
    assert_eq!(
        run("tensor<fp16, [3, 1, 1, 2]> r = transpose(x = x, perm = tensor<int32, [4]>([3, 0, 2, 1]))[];"),
        [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
    );
    let slice = "tensor<fp16, [1, 2, 1, 2]> r = slice_by_size(x = x, begin = tensor<int32, [4]>([0, 0, 0, 1]), size = tensor<int32, [4]>([1, 2, 1, 2]))[];";
    assert_eq!(run(slice), [2.0, 3.0, 5.0, 6.0]);
    assert_eq!(
        run("tensor<fp16, [1, 4, 1, 3]> r = concat(values = (x, x), axis = int32(1))[];"),
        [x, x].concat()
    );
    assert_eq!(
        run("tensor<fp16, [1, 2, 1, 6]> r = concat(values = (x, x), axis = int32(-1))[];"),
        [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]
    );
    let sum = "tensor<fp16, [1, 1, 1, 3]> r = reduce_sum(x = x, axes = tensor<int32, [1]>([1]), keep_dims = bool(true))[];";
    assert_eq!(run(sum), [5.0, 7.0, 9.0]);
    assert_eq!(
        run("tensor<fp16, [2, 1]> r = reduce_max(x = x, axes = tensor<int32, [2]>([0, 3]))[];"),
        [3.0, 6.0]
    );
    // x (2 x 3) by its transpose, over the fourth axis: np.einsum("abcd,abed->abce").
    assert_eq!(
        run("tensor<fp16, [1, 2, 1, 1]> r = matmul(x = x, y = x, transpose_y = bool(true))[];"),
        [14.0, 77.0]
    );
    assert_eq!(
        run("tensor<fp16, [1, 2, 3, 3]> r = matmul(x = x, y = x, transpose_x = bool(true))[];"),
        [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 3.0, 6.0, 9.0, 16.0, 20.0, 24.0, 20.0, 25.0, 30.0, 24.0, 30.0, 36.0]
    );
    let conv = "tensor<fp16, [2, 2, 1, 1]> w = const()[val = tensor<fp16, [2, 2, 1, 1]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];
        tensor<fp16, [1, 2, 1, 3]> r = conv(x = x, weight = w)[];";
    // [[1, 2], [3, 4]] @ [[1, 2, 3], [4, 5, 6]].
    assert_eq!(run(conv), [9.0, 12.0, 15.0, 19.0, 26.0, 33.0]);
    // np.float16(1 / (1 + np.exp(-1))) and so on.
    assert_eq!(run("tensor<fp16, [1, 2, 1, 3]> r = sigmoid(x = x)[];")[..2], [0.731_f32, 0.8809].map(half));
    // np.exp([1, 2, 3] - 3) / sum.
    assert_eq!(
        run("tensor<fp16, [1, 2, 1, 3]> r = softmax(x = x)[];")[..3],
        [0.090_03_f32, 0.244_73, 0.665_24].map(half)
    );
}

#[test]
fn sums_in_products_are_wide_and_end_at_half_of_the_largest_half() {
    let inputs = "tensor<fp16, [1, 2]> a, tensor<fp16, [2, 1]> b";
    let body = "tensor<fp16, [1, 1]> r = matmul(x = a, y = b)[];";
    assert_eq!(one(inputs, body, &[&[100.0, 0.0], &[320.0, 0.0]]), [32_000.0]);
    assert_eq!(one(inputs, body, &[&[200.0, 0.0], &[200.0, 0.0]]), [f32::INFINITY]);
    assert_eq!(one(inputs, body, &[&[-200.0, 0.0], &[200.0, 0.0]]), [f32::NEG_INFINITY]);
    // 60,000 - 40,000: only the end counts.
    assert_eq!(one(inputs, body, &[&[300.0, -200.0], &[200.0, 200.0]]), [20_000.0]);
    // Wide sums keep what halves would lose: 2048 + 1 rounds to 2048 in halves either way, 4096 x 0.5 does not drift.
    let long = "tensor<fp16, [1, 4096]> a, tensor<fp16, [4096, 1]> b";
    assert_eq!(one(long, body, &[&[0.5; 4096], &[1.0; 4096]]), [2048.0]);
}

#[test]
fn reductions_are_narrow_and_exact_to_2048_alone() {
    let body = "tensor<fp16, [1]> r = reduce_sum(x = x, axes = tensor<int32, [1]>([1]))[];";
    let sum = |count: usize| one(&format!("tensor<fp16, [1, {count}]> x"), body, &[&vec![1.0; count]]);
    assert_eq!((sum(2048), sum(2049), sum(4000)), (vec![2048.0], vec![2048.0], vec![2048.0]));
}

#[test]
fn late_slices_lose_large_numbers_on_older_chips_alone() {
    let slice = |begin: u32| {
        format!(
            "tensor<fp16, [1, 2]> r = slice_by_size(x = x, begin = tensor<int32, [2]>([0, {begin}]), size = tensor<int32, [2]>([1, 2]))[];"
        )
    };
    let run = |begin: u32, chip: &str| {
        emulate("tensor<fp16, [1, 3]> x", &slice(begin), "r", &[&[4094.0, -5000.0, 4096.0]], chip).remove(0)
    };
    assert_eq!(run(1, "M1"), [f32::NEG_INFINITY, f32::INFINITY]);
    assert_eq!(run(1, "M2"), [f32::NEG_INFINITY, f32::INFINITY]);
    assert_eq!(run(0, "M1"), [4094.0, -5000.0]);
    assert_eq!(run(1, "M4"), [-5000.0, 4096.0]);
}

#[test]
fn tables_know_no_nan_and_halves_overflow() {
    let body = "tensor<fp16, [2]> r = sigmoid(x = x)[];";
    assert_eq!(one("tensor<fp16, [2]> x", body, &[&[f32::NAN, -70_000.0]]), [1.0, 0.0]);
    let body = "tensor<fp16, [2]> r = add(x = x, y = x)[];";
    let found = one("tensor<fp16, [2]> x", body, &[&[f32::NAN, 40_000.0]]);
    assert!(found[0].is_nan() && found[1] == f32::INFINITY);
    let wide = "tensor<fp32, [2]> w = cast(x = x, dtype = string(\"fp32\"))[]; tensor<fp32, [2]> r = add(x = w, y = w)[];";
    assert_eq!(one("tensor<fp16, [2]> x", wide, &[&[1.0, 40_000.0]]), [2.0, 80_000.0]);
}

#[test]
fn ports_bind_in_the_order_of_their_names() {
    let inputs = "tensor<fp16, [1]> b, tensor<fp16, [1]> a";
    let body = "tensor<fp16, [1]> z = sub(x = b, y = a)[]; tensor<fp16, [1]> c = add(x = b, y = b)[];";
    // The first surface is `a`, the first result `c`.
    let found = emulate(inputs, body, "z, c", &[&[1.0], &[10.0]], "M4");
    assert_eq!((found[0][0], found[1][0]), (20.0, 9.0));
}

#[test]
fn what_cannot_be_made_is_named() {
    let make = |body: &str, files: Weights| {
        let program = program("tensor<fp16, [1, 1, 1, 32]> x", body, "x");
        Emulator::new(Profile::default()).compile(&program, &files).map(|_| ()).unwrap_err().to_string()
    };
    let constant = "tensor<fp16, [3]> w = const()[val = tensor<fp16, [3]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];";
    assert!(make(constant, Weights::new()).contains("`w`: it is not given"));
    let mut writer = BlobWriter::new();
    writer.add(BlobType::Fp16, &[0; 4]).unwrap();
    let file = writer.finish();
    assert!(make(constant, Weights::from([("w".to_owned(), file.clone())])).contains("4 bytes of Fp16"));
    assert!(make(constant, Weights::from([("w".to_owned(), file[..70].to_vec())])).contains("ends before"));
    assert!(make("fp16 y = gelu(x = x)[];", Weights::new()).contains("R10"));
    assert!(make("fp16 y = erf(x = x)[];", Weights::new()).contains("`erf` is not known"));
    let large = "tensor<fp16, [1, 65536, 1, 65536]> y = const()[val = tensor<fp16, [1, 65536, 1, 65536]>(BLOBFILE(path = string(\"w\"), offset = uint64(64)))];";
    assert!(make(large, Weights::new()).contains("more numbers than are emulated"));
    let many = "tensor<fp16, [1, 32768, 1, 32]> a = tile(x = x, reps = tensor<int32, [4]>([1, 32768, 1, 1]))[];
        tensor<fp16, [1, 32768, 1, 32768]> b = tile(x = a, reps = tensor<int32, [4]>([1, 1, 1, 1024]))[];
        tensor<fp16, [1, 32768, 32768, 1]> c = reshape(x = b, shape = tensor<int32, [4]>([1, 32768, 32768, 1]))[];
        tensor<fp16, [1, 1, 32768, 32768]> d = reshape(x = b, shape = tensor<int32, [4]>([1, 1, 32768, 32768]))[];
        bool f = const()[val = bool(false)];"
        .to_owned()
        + &(0..20).map(|at| format!("tensor<fp16, [1, 1, 32768, 32768]> m{at} = matmul(x = d, y = d, transpose_x = f, transpose_y = f)[];")).collect::<String>();
    assert!(make(&many, Weights::new()).contains("nobody waits for"), "{}", make(&many, Weights::new()));
    let none = Program::parse("program(1.3) [buildInfo = dict<string, string>({})] { }").unwrap();
    let error = Emulator::new(Profile::default()).compile(&none, &Weights::new()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("0 functions"), "{error}");
}
