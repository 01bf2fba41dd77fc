use super::*;

/// A product with weights that come along in the input, as programs of the dynamic kind are written.
const DYNAMIC: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-component-MIL", "3510.2.1"}, {"coremltools-version", "9.0"}})]
{
    func main<ios18>(tensor<fp16, [1, 64, 1, 96]> x) {
        tensor<int32, [4]> b0 = const()[name = string("b0"), val = tensor<int32, [4]>([0, 0, 0, 0])];
        tensor<int32, [4]> s0 = const()[name = string("s0"), val = tensor<int32, [4]>([1, 64, 1, 32])];
        tensor<fp16, [1, 64, 1, 32]> act = slice_by_size(x = x, begin = b0, size = s0)[name = string("act")];
        bool bF = const()[name = string("bF"), val = bool(false)];
        fp16 scale = const()[name = string("scale"), val = fp16(0x1p-3)];
        tensor<fp16, [1, 64, 1, 32]> half = mul(x = act, y = scale)[name = string("half")];
        tensor<fp16, [64, 64, 1, 1]> w = const()[name = string("w"), val = tensor<fp16, [64, 64, 1, 1]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
        int32 axis = const()[name = string("axis"), val = int32(1)];
        tensor<fp16, [1, 128, 1, 32]> both = concat(values = (act, half), axis = axis, interleave = bF)[name = string("both")];
    } -> (both);
}
"#;

#[test]
fn programs_are_read_and_printed_without_loss() {
    let program = Program::parse(DYNAMIC).unwrap();
    let main = &program.functions[0];
    assert_eq!(
        (main.inputs.len(), main.body.len(), main.outputs.as_slice()),
        (1, 9, &["both".to_owned()][..])
    );
    assert_eq!(main.body[0].attributes[1].1.literal, Literal::List(vec![Literal::Int(0); 4]));
    assert_eq!(
        main.body[4].attributes[1].1,
        Value { ty: Type::Scalar(Scalar::Fp16), literal: Literal::Real(0.125) }
    );
    let blob = Literal::Blob { path: "@model_path/weights/w.bin".to_owned(), offset: 64 };
    assert_eq!(main.body[6].attributes[1].1.literal, blob);
    assert_eq!(main.body[8].arguments[0].1, Argument::Names(vec!["act".to_owned(), "half".to_owned()]));
    let printed = program.to_string();
    assert_eq!(Program::parse(&printed).unwrap(), program);
    // But for the hexadecimal number it was written as it is printed.
    assert_eq!(printed, DYNAMIC.replace("0x1p-3", "0.125"));
}

#[test]
fn white_space_is_free_and_both_forms_of_scalars_are_kept() {
    let dense: String = DYNAMIC.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    assert_eq!(Program::parse(&dense).unwrap(), Program::parse(DYNAMIC).unwrap());
    let long = DYNAMIC.replace("bool(false)", "tensor<bool, []>(false)");
    let program = Program::parse(&long).unwrap();
    assert_eq!(program.functions[0].body[3].attributes[1].1.ty, Type::Tensor(Scalar::Bool, Vec::new()));
    assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
    let in_place = DYNAMIC.replace("axis = axis", "axis = int32(1)");
    let program = Program::parse(&in_place).unwrap();
    assert!(
        matches!(&program.functions[0].body[8].arguments[1].1, Argument::Value(value) if value.literal == Literal::Int(1))
    );
    assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
}

#[test]
fn numbers_keep_their_value() {
    for (text, expected) in [
        ("0x1p-3", 0.125),
        ("-0x1.8p+1", -3.0),
        ("0x1.fffffep127", f64::from(f32::MAX)),
        ("1e-05", 1e-5),
        ("-65504.0", -65504.0),
        ("0.353553", 0.353_553),
    ] {
        let program = Program::parse(&DYNAMIC.replace("0x1p-3", text)).unwrap();
        assert_eq!(program.functions[0].body[4].attributes[1].1.literal, Literal::Real(expected), "{text}");
        assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
    }
}

#[test]
fn text_with_quotes_and_ends_of_lines_comes_back() {
    let mut program = Program::parse(DYNAMIC).unwrap();
    program.build_info.push(("a \"name\"".to_owned(), "line\nback\\slash\ttab".to_owned()));
    assert_eq!(Program::parse(&program.to_string()).unwrap(), program);
}

#[test]
fn errors_name_line_column_and_what_was_expected() {
    for (from, to, line, said) in [
        ("program", "porgram", 1, "expected `program`"),
        ("ios18", "18", 4, "a set of operations"),
        ("fp16, [1, 64, 1, 96]", "fp17, [1, 64, 1, 96]", 4, "expected a type, found `fp17"),
        ("[1, 64, 1, 96]", "[1, -64, 1, 96]", 4, "a size"),
        ("bool(false)", "bool(maybe)", 8, "a literal"),
        ("0x1p-3", "0x1p-9999", 9, "a literal"),
        ("0x1p-3", "nan", 9, "a literal"),
        ("-> (both);", "-> (both)", 15, "expected `;`"),
        ("uint64(64)", "uint64(-64)", 11, "BLOBFILE takes"),
        ("string(\"axis\")", "string(\"axis)", 12, "does not end on its line"),
    ] {
        let error = Program::parse(&DYNAMIC.replacen(from, to, 1)).unwrap_err();
        assert!(error.problem.contains(said), "{to}: {error}");
        assert_eq!(error.line, line, "{to}: {error}");
    }
    let deep = format!("tensor<int32, [4]>({}", "[".repeat(100_000));
    let error = Program::parse(&DYNAMIC.replace("tensor<int32, [4]>([0, 0, 0, 0])", &deep)).unwrap_err();
    assert!(error.problem.contains("nested deeper"), "{error}");
}

#[test]
fn any_text_is_a_program_or_an_error() {
    for end in (0..DYNAMIC.len()).filter(|end| DYNAMIC.is_char_boundary(*end)) {
        if DYNAMIC[end..].trim().is_empty() {
            continue;
        }
        assert!(Program::parse(&DYNAMIC[..end]).is_err(), "cut at {end}");
    }
    let mut random = 5_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize
    };
    for _ in 0..5000 {
        let mut bytes = DYNAMIC.as_bytes().to_vec();
        for _ in 0..=next() % 3 {
            let at = next() % bytes.len();
            bytes[at] = b"(){}[]<>=,;\"\\ 0xp-.tensor"[next() % 25];
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(program) = Program::parse(&text) {
            assert_eq!(Program::parse(&program.to_string()).as_ref(), Ok(&program), "{text}");
        }
    }
}

/// Names that nobody gives, that come later, or that come from themselves are errors; so are more operations than any compiler takes.
#[test]
fn names_in_circles_and_endless_programs_are_errors() {
    let program = |body: &str| {
        format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>(tensor<fp16, [1, 32]> x) {{ {body} }} -> (x); }}"
        )
    };
    for body in [
        "tensor<fp16, [1, 32]> a = add(x = b, y = x)[]; tensor<fp16, [1, 32]> b = add(x = a, y = x)[];",
        "tensor<fp16, [1, 32]> a = add(x = a, y = x)[];",
        "tensor<fp16, [1, 32]> a = add(x = nothing, y = x)[];",
    ] {
        let program = Program::parse(&program(body)).unwrap();
        let error = check_types(&program.functions[0]).unwrap_err().to_string();
        assert!(error.contains("is not given before"), "{error}");
    }
    let endless = "fp16 a = f()[];".repeat((1 << 20) + 1);
    let error = Program::parse(&program(&endless)).unwrap_err();
    assert!(error.problem.contains("more than 1048576 operations"), "{error}");
}

#[test]
fn the_program_in_the_document_is_one() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ane.md")).unwrap();
    let text = document.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let program = Program::parse(text).unwrap();
    assert_eq!(check_types(&program.functions[0]), Ok(()));
    assert_eq!(lint_for(&program, &crate::profile::Profile::default()), []);
}
