//! Repositories that no loop was ever made for.

use super::*;
use crate::record::Budget;

#[test]
fn a_make_target_that_runs_a_c_benchmark_is_found() {
    let files = [
        (
            "Makefile",
            "all: bench\n\nbench: bench.c sort.c\n\tcc -O2 -o bench bench.c sort.c\n\t./bench\n\nCFLAGS := \
             -O2\n",
        ),
        ("bench.c", "int main(void) {\n    printf(\"elements_per_second: %.1f\\n\", x);\n}\n"),
        ("sort.c", "void sort(int *a, int n) {}\n"),
        ("test_sort.c", ""),
    ];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!(contract.command, ["make", "bench"]);
    assert_eq!(contract.metric.name, "elements_per_second");
    assert_eq!(contract.direction, Direction::Higher);
    assert_eq!(contract.mutable, ["sort.c"]);
    assert_eq!(contract.fixed, ["Makefile", "bench.c"]);
    assert_eq!(contract.budget, Budget::Evaluations(1));
}

#[test]
fn a_make_target_that_only_compiles_is_run_afterwards() {
    let files = [
        (
            "Makefile",
            "benchmark: benchmark.c sort.h\n\t$(CC) benchmark.c -o $@\n\ndemo: demo.c\n\tcc demo.c\n",
        ),
        ("benchmark.c", "printf(\"%-40s %16.1f ns/op\", name, x);\n"),
        ("demo.c", ""),
        ("sort.h", ""),
    ];
    let wishes = Wishes {
        pattern: Some(r"^Quick_sort .* ([\d.]+) ns/op".into()),
        metric: Some("quick_sort_ns".into()),
        ..Wishes::default()
    };
    let contract = contract(&files, &wishes, &machine());
    assert_eq!(contract.command, ["/bin/sh", "-c", "make benchmark && ./benchmark"]);
    assert_eq!((contract.mutable, contract.direction), (vec!["sort.h".to_owned()], Direction::Lower));
    assert_eq!(contract.fixed, ["Makefile", "benchmark.c"]);
}

#[test]
fn a_cargo_benchmark_is_built_once_and_run_as_a_program() {
    let files = [
        ("Cargo.toml", "[package]\nname = \"codec\"\n[[bench]]\nname = \"speed\"\nharness = false\n"),
        ("Cargo.lock", ""),
        ("benches/speed.rs", concat!("fn main() {\n    print", "ln!(\"bytes_out: {}\", n);\n}\n")),
        ("src/lib.rs", ""),
        ("src/tables.rs", ""),
    ];
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert_eq!(adoption.first, ["cargo fetch"]);
    let contract = adoption.contract.unwrap();
    let build = contract.build.unwrap();
    assert_eq!(
        build.command[5..],
        [
            "{worktree}",
            "{rust}/bin/cargo",
            "bench",
            "--no-run",
            "--bench",
            "speed",
            "--offline",
            "--message-format=json-render-diagnostics",
            "--locked"
        ]
    );
    assert_eq!(contract.command, ["{out}/built", "--bench"]);
    assert_eq!(contract.mutable, ["src"]);
    assert_eq!(contract.fixed, ["Cargo.toml", "Cargo.lock", "benches/speed.rs"]);
    assert_eq!((contract.metric.name.as_str(), contract.direction), ("bytes_out", Direction::Lower));
    assert!(contract.run_read.is_empty() && contract.build_read.contains(&"{rust}".to_owned()));
}

#[test]
fn a_python_benchmark_scores_the_module_that_it_imports() {
    let files = [
        ("bench.py", "import json\nimport sorting\nprint(\"comparisons:\", n)\n"),
        ("sorting.py", ""),
        ("README.md", "The comparisons should be as low as possible.\n"),
    ];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!(contract.command, ["/usr/bin/python3.11", "bench.py"]);
    assert_eq!((contract.mutable, contract.fixed), (vec!["sorting.py".into()], vec!["bench.py".to_owned()]));
    assert_eq!((contract.metric.name.as_str(), contract.direction), ("comparisons", Direction::Lower));
}

#[test]
fn an_npm_script_finds_its_packages_in_the_tasks_folder() {
    let files = [
        ("package.json", "{\n  \"scripts\": {\n    \"bench\": \"node bench.js\"\n  }\n}\n"),
        ("bench.js", "console.log(`ops: ${n}`)\n"),
        ("parse.js", ""),
    ];
    let here = Machine { node_modules: true, ..machine() };
    let contract = contract(&files, &Wishes::default(), &here);
    assert!(contract.env.contains(&("UV_USE_IO_URING".to_owned(), "0".to_owned())), "{:?}", contract.env);
    let link = "ln -s \"$0\" node_modules && exec \"$@\"";
    assert_eq!(contract.command, ["/bin/sh", "-c", link, "{modules}", "node", "bench.js"]);
    assert_eq!(contract.run_read, ["{modules}"]);
    assert_eq!((contract.mutable, contract.direction), (vec!["parse.js".to_owned()], Direction::Higher));
}

#[test]
fn a_number_in_a_json_file_is_a_metric() {
    let files = [
        (
            "evaluate.py",
            "import model\nwith open(\"out/results.json\", \"w\") as f:\n    json.dump({\"rmse\": r}, f)\n",
        ),
        ("model.py", ""),
    ];
    let contract = contract(&files, &Wishes::default(), &machine());
    let source = MetricSource::Json { file: "out/results.json".into(), pointer: "/rmse".into() };
    assert_eq!(contract.metric, Metric { name: "rmse".into(), source });
    assert_eq!(contract.direction, Direction::Lower);
}

#[test]
fn two_metrics_are_a_question_that_a_flag_or_a_document_settles() {
    let files = [("bench.py", "import a\nprint(f\"speed: {x}\")\nprint(f\"size: {y}\")\n"), ("a.py", "")];
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert_eq!(asked(&adoption), ["--metric"]);
    let flags: Vec<&str> = adoption.questions[0].choices.iter().map(|choice| choice.flag.as_str()).collect();
    assert_eq!(flags, ["--metric speed", "--metric size"]);
    assert!(adoption.questions[0].choices[1].why.contains("bench.py:3"));
    let wishes = Wishes { metric: Some("size".into()), ..Wishes::default() };
    assert_eq!(contract(&files, &wishes, &machine()).direction, Direction::Lower);
    let mut documented = files.to_vec();
    documented.push(("README.md", "We minimize size.\n"));
    assert_eq!(contract(&documented, &Wishes::default(), &machine()).metric.name, "size");
}

#[test]
fn a_direction_that_nothing_says_is_a_question() {
    let files = [("bench.py", "import a\nprint(f\"quux: {x}\")\n"), ("a.py", "")];
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert_eq!(asked(&adoption), ["--direction"]);
    assert!(adoption.contract.is_none());
    let mut wishes = Wishes::default();
    wishes.answer(adoption.questions[0].flag, "higher").unwrap();
    assert_eq!(contract(&files, &wishes, &machine()).direction, Direction::Higher);
}

#[test]
fn several_commands_are_a_question() {
    let files = [("bench.py", "print(f\"a: {x}\")\n"), ("evaluate.py", "print(f\"b: {x}\")\n")];
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert!(asked(&adoption).contains(&"--run"), "{:?}", adoption.questions);
    let flags: Vec<&str> = adoption.questions[0].choices.iter().map(|choice| choice.flag.as_str()).collect();
    assert_eq!(flags, ["--run 'python3 bench.py'", "--run 'python3 evaluate.py'"]);
}

#[test]
fn a_repository_that_says_nothing_asks_for_everything_and_guesses_nothing() {
    let adoption = adopted(&[("notes.txt", "hello\n")], &Wishes::default(), &machine());
    assert_eq!(asked(&adoption), ["--run", "--mutable", "--pattern"]);
    assert!(adoption.contract.is_none());
    assert!(adoption.questions.iter().all(|question| question.choices.is_empty()));
}

#[test]
fn flags_alone_make_a_contract_of_a_repository_that_says_nothing() {
    let wishes = Wishes {
        run: Some("./measure < notes.txt | tail -n 1".into()),
        pattern: Some(r"took (\d+) ms".into()),
        direction: Some(Direction::Lower),
        mutable: vec!["*.txt".into()],
        ..Wishes::default()
    };
    let contract = contract(&[("notes.txt", "hello\n")], &wishes, &machine());
    assert_eq!(contract.command, ["/bin/sh", "-c", "./measure < notes.txt | tail -n 1"]);
    assert_eq!((contract.name.as_str(), contract.metric.name.as_str()), ("some-repo", "took"));
    let timed = Wishes { pattern: None, wall_time: true, ..wishes };
    let metric = super::contract(&[("notes.txt", "hello\n")], &timed, &machine()).metric;
    assert_eq!(metric.source, MetricSource::WallSeconds);
}

#[test]
fn globs_that_match_no_committed_file_are_refused() {
    let wishes = Wishes { mutable: vec!["nothing/**".into()], ..Wishes::default() };
    let files = [("bench.py", "import a\nprint(f\"loss: {x}\")\n"), ("a.py", "")];
    let adoption = adopted(&files, &wishes, &machine());
    assert!(adoption.questions[0].text.contains("matches no committed file"), "{:?}", adoption.questions);
}

#[test]
fn numbers_of_other_programs_are_offered_and_not_taken() {
    let files = [
        ("bench.py", "import engine\nengine.run()\n"),
        ("engine.py", ""),
        ("tool.py", "print(\"METRIC latency_ms=3\")\n"),
    ];
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert_eq!(asked(&adoption), ["--metric"]);
    assert_eq!(adoption.questions[0].choices[0].flag, "--metric latency_ms");
    let nothing = adopted(&files[1..], &Wishes::default(), &machine());
    assert!(nothing.questions.iter().all(|question| !question.flag.starts_with("--metric")), "{nothing:?}");
}

#[test]
fn a_recipe_whose_name_only_begins_like_a_measuring_one_is_none() {
    let text = "bench-all:\n    cargo bench\n\n[unix]\nbench *args:\n    sh bench.sh\n\n[macos]\nbench \
        *args:\n    sh bench.sh\n";
    let files = [("justfile", text), ("bench.sh", "echo \"loss: $x\"\n"), ("a.c", "")];
    assert_eq!(contract(&files, &Wishes::default(), &machine()).command, ["just", "bench"]);
}

#[test]
fn what_a_script_starts_is_part_of_the_command() {
    let files = [
        ("bench.sh", "python3 measure_it.py\n"),
        ("measure_it.py", "import a\nprint(\"loss:\", x)\n"),
        ("a.py", ""),
    ];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!((contract.metric.name.as_str(), contract.mutable), ("loss", vec!["a.py".to_owned()]));
    assert_eq!(contract.fixed, ["measure_it.py", "bench.sh"]);
}
