use super::*;

/// Whether two versions of a file are the same once normalised.
#[track_caller]
fn check(path: &str, before: &str, after: &str, same: bool) {
    let (before, after) = (normalise(path, before), normalise(path, after));
    assert_eq!(before == after, same, "\n{before}\n--\n{after}");
}

#[test]
fn comments_and_layout_do_not_count() {
    check("a.rs", "fn f() { 1 }", "// why\nfn  f ( )\n{\n\t1 /* a /* nested */ b */ }\n", true);
    check("a.rs", "/// knob: log 1..2\nconst A: f64 = 1.0;", "/// other\nconst A:f64=1.0;", true);
    check("a.rs", "let x = 1;", "let x = 1; // done", true);
    check("a.c", "int a = 1; /* x */", "int a=1;", true);
    check("a.cu", "a<<<1, 2>>>(x);", "a<<<1,2>>>( x ) ; // launch", true);
    check("a.py", "x = 1  # one\n\n\ny = 2\n", "x = 1\n# two\ny = 2", true);
    check("a.py", "f(1,\n  2)", "f(1, 2)", true);
    check("a.toml", "a = 1 # one\nb = 2", "a=1\n\nb=2\n", true);
}

#[test]
fn what_a_program_means_does_count() {
    check("a.rs", "let ab = 1;", "let a b = 1;", false);
    check("a.rs", "a - -b", "a--b", false);
    check("a.rs", "x = 1", "x = 2", false);
    check("a.rs", r#"f("// a")"#, r#"f("// b")"#, false);
    check("a.rs", r#"f("a  b")"#, r#"f("a b")"#, false);
    check("a.rs", r#"f("\"/*", 1, "*/")"#, r#"f("\"/*", 2, "*/")"#, false);
    check("a.rs", "r#\"\"// a\"#; x", "r#\"\"// a\"#; y", false);
    check("a.rs", "f('\"', 1 /* \" */)", "f('\"', 2 /* \" */)", false);
    check("a.rs", "fn f<'a>(x: &'a str) {} // 'x", "fn f<'a>(x: &'b str) {} // 'x", false);
    check("a.c", "#define A 1\nint x;", "#define A 1 int x;", false);
    check("a.c", "int x = 1'000 + 1; // '", "int x = 1'000 + 2; // '", false);
    check("a.cpp", "R\"x()\" // )x\"; a", "R\"x()\" // )x\"; b", false);
    check("a.py", "if a:\n  b\n  c", "if a:\n  b\nc", false);
    check("a.py", "x = '#1'", "x = '#2'", false);
    check("a.py", "x = \"\"\"a\n# b\"\"\"", "x = \"\"\"a\n# c\"\"\"", false);
    check("a.toml", "a = 1\nb = 2", "a = 1 b = 2", false);
    check("a.txt", "# one", "# two", false);
}

#[test]
fn unfinished_literals_and_comments_end_with_the_file() {
    for text in ["\"", "'\\", "/* /* */", "r#\"", "R\"(", "'''", "b'", "1e", "1.", "\\", "é'é"] {
        for path in ["a.rs", "a.c", "a.py", "a.toml", "a"] {
            normalise(path, text);
            assert!(!seed_only(path, text, text));
        }
    }
}

#[test]
fn of_a_language_that_is_not_known_only_trailing_space_means_nothing() {
    check("a.yaml", "a:\n  b: 1\n", "a:\nb: 1\n", false);
    check("Makefile", "all:\n\tcc a b\n", "all:\n\tcc a  b\n", false);
    check("a.yaml", "a: 1  \nb: 2\n\n", "a: 1\nb: 2\n", true);
    check("a.txt", "one  two", "one two", false);
}

#[test]
fn only_seeds_changed() {
    for (path, before, after, expect) in [
        ("a.rs", "const SEED: u64 = 1;", "const SEED: u64 = 2;", true),
        ("a.rs", "let rng = Rng::new(1);", "let rng = Rng::new(0x9E37_79B9);", true),
        ("a.rs", "let r = StdRng::seed_from_u64(42); // a", "let r = StdRng::seed_from_u64(43_u64);", true),
        ("a.py", "fit(x, 5, random_state=0)\n", "fit(x, 5, random_state=7)\n", true),
        ("a.py", "torch.manual_seed(1)\nlr = 1\n", "torch.manual_seed(2)\nlr = 1\n", true),
        ("a.rs", "Config { seed: 1, width: 2 }", "Config { seed: 9, width: 2 }", true),
        ("a.py", "torch.set_rng_state(states[0])\n", "torch.set_rng_state(states[1])\n", true),
        ("a.rs", "const DATA_ORDER: u64 = 1;", "const DATA_ORDER: u64 = 2;", true),
        ("a.py", "load(shuffle_order=0)\n", "load(shuffle_order=3)\n", true),
        // Not only, or not at all.
        ("a.rs", "Config { seed: 1, width: 2 }", "Config { seed: 9, width: 3 }", false),
        ("a.rs", "Config { seed: 1, width: 2 }", "Config { seed: 1, width: 3 }", false),
        ("a.rs", "model(seed, 128)", "model(seed, 256)", false),
        ("a.rs", "random(shape, Normal(0.0, 0.02))", "random(shape, Normal(0.0, 0.05))", false),
        ("a.rs", "const SEED_STD: f64 = 1.0;", "const SEED_STD: f64 = 2.0;", false),
        ("a.py", "seed = 1\nlr = 1\n", "seed = 1\nlr = 2\n", false),
        ("a.rs", "const SHUFFLE_BUFFER: usize = 100;", "const SHUFFLE_BUFFER: usize = 200;", false),
        ("a.rs", "const N_SEEDS: usize = 1;", "const N_SEEDS: usize = 2;", false),
        ("a.rs", "let x = rng.below(4);", "let x = rng.below(8);", false),
        ("a.rs", "let string = 1;", "let string = 2;", false),
        ("a.rs", "let seed = 1;", "let seed = other();", false),
        ("a.rs", "let seed = 1; // a", "let seed = 1; // b", false),
    ] {
        assert_eq!(seed_only(path, before, after), expect, "{before} | {after}");
    }
}

#[test]
fn hash_covers_names_and_binary_files() {
    let hash = |files: &[(&str, &[u8])]| {
        sha256(&files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect())
    };
    assert_eq!(hash(&[("a.rs", b"x // 1")]), hash(&[("a.rs", b"x")]));
    let different = [
        hash(&[("a.rs", b"x")]),
        hash(&[("b.rs", b"x")]),
        hash(&[("a.rs", b"\xff")]),
        hash(&[("a.rs", b"\xff\xfe")]),
        hash(&[("a.rs", b"x"), ("b.rs", b"")]),
        hash(&[]),
    ];
    for (at, one) in different.iter().enumerate() {
        assert!(!different[at + 1..].contains(one), "{at}");
    }
}
