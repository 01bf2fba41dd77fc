//! Repositories that were made for another loop.

use super::*;
use crate::record::Budget;

const PROGRAM: &str = "# tiny\n\
    \n\
    - `learn.py` — the file you modify, all of it.\n\
    - `data.py` — loading and scoring. Do not modify.\n\
    \n\
    You launch it simply as: `uv run learn.py`. The time budget is 2 minutes of training.\n\
    We want the lowest val_loss.\n\
    Memory is a soft constraint; peak_mem_mb is printed.\n\
    \n\
    Run it: `uv run learn.py > run.log 2>&1`, then `grep \"^val_loss:\\|^peak_mem_mb:\" run.log`.\n\
    If a run exceeds 4 minutes, kill it.\n\
    Setup: tell the human to run `uv run data.py`.\n";

const LEARN: &str = "import torch\nfrom data import evaluate\n\
    x = torch.zeros(1, device=\"cuda\")\n\
    print(f\"val_loss:   {evaluate():.6f}\")\nprint(f\"peak_mem_mb: {1.0:.1f}\")\n";

const DATA: &str =
    "import os\nTIME_BUDGET = 120\nDIR = os.path.join(os.path.expanduser(\"~\"), \".cache\", \"tiny\")\n";

const PYPROJECT: &str = "[project]\nname = \"tiny\"\ndependencies = [\n    \"torch==2.9.1\",\n]\n";

const KARPATHY: &[(&str, &str)] = &[
    ("program.md", PROGRAM),
    ("learn.py", LEARN),
    ("data.py", DATA),
    ("pyproject.toml", PYPROJECT),
    ("uv.lock", ""),
];

#[test]
fn a_program_md_says_what_may_change_how_it_runs_and_what_counts() {
    let contract = contract(KARPATHY, &Wishes::default(), &with_venv());
    assert_eq!(contract.mutable, ["learn.py"]);
    assert_eq!(contract.fixed, ["data.py", "program.md", "pyproject.toml", "uv.lock"]);
    assert_eq!(contract.command, ["{venv}/bin/python", "learn.py"]);
    assert_eq!(
        (contract.metric.name.as_str(), pattern(&contract.metric)),
        ("val_loss", r"^val_loss:\s*(\S+)")
    );
    assert_eq!(contract.direction, Direction::Lower);
    assert_eq!(contract.budget, Budget::Seconds(120.0));
    assert_eq!(contract.timeout_seconds, Some(240.0));
    assert_eq!(contract.devices, ["/dev/nvidia*"]);
    assert_eq!(contract.vars, [("venv".to_owned(), "./.venv".to_owned())]);
    assert_eq!(contract.run_read, ["{venv}", "/home/someone/.python", "/home/someone/.cache/tiny"]);
    assert!(contract.env.contains(&("HOME".into(), "/home/someone".into())), "{:?}", contract.env);
    let guard = &contract.guards[0];
    assert_eq!((guard.name.as_str(), guard.limit), ("peak_mem_mb", "<= 1.25 x incumbent".parse().ok()));
}

#[test]
fn each_guess_names_the_line_that_says_so() {
    let adoption = adopted(KARPATHY, &Wishes::default(), &with_venv());
    for (key, places) in [
        ("files.mutable", vec!["program.md:3"]),
        ("run.command", vec!["program.md:6", "program.md:10"]),
        ("metric.name", vec!["program.md:10", "learn.py:4"]),
        ("metric.direction", vec!["program.md:7"]),
        ("budget", vec!["data.py:2", "program.md:6"]),
        ("run.timeout_seconds", vec!["program.md:11"]),
        ("sandbox.run_read", vec!["data.py:3"]),
    ] {
        let found: Vec<String> = reason(&adoption, key).evidence.iter().map(ToString::to_string).collect();
        assert_eq!(found, places, "{key}");
        assert!(reason(&adoption, key).confidence >= Confidence::Likely, "{key}");
    }
}

#[test]
fn packages_without_an_environment_are_asked_for_and_nothing_is_half_written() {
    let adoption = adopted(KARPATHY, &Wishes::default(), &machine());
    assert_eq!(asked(&adoption), ["--venv"]);
    assert!(adoption.questions[0].text.contains("uv sync"), "{}", adoption.questions[0].text);
    assert!(adoption.contract.is_none());
}

#[test]
fn what_is_missing_on_this_machine_is_said() {
    let away = Machine { caches: Vec::new(), ..with_venv() };
    let mut files = KARPATHY.to_vec();
    files.push(("prepare.py", ""));
    let adoption = adopted(&files, &Wishes::default(), &away);
    let warnings = adoption.warnings.join("\n");
    assert!(warnings.contains("/home/someone/.cache/tiny does not exist yet"), "{warnings}");
    assert!(warnings.contains("no NVIDIA device"), "{warnings}");
    assert_eq!(adoption.first, ["uv run prepare.py"]);
}

#[test]
fn what_the_person_says_comes_first() {
    let wishes = Wishes {
        run: Some("python3 learn.py --fast".into()),
        metric: Some("peak_mem_mb".into()),
        direction: Some(Direction::Higher),
        mutable: vec!["data.py".into()],
        fixed: vec!["learn.py".into()],
        budget: Some(7.0),
        ..Wishes::default()
    };
    let contract = contract(KARPATHY, &wishes, &with_venv());
    assert_eq!((contract.mutable, contract.fixed), (vec!["data.py".into()], vec!["learn.py".to_owned()]));
    assert_eq!(contract.command, ["{venv}/bin/python", "learn.py", "--fast"]);
    assert_eq!(contract.metric.name, "peak_mem_mb");
    assert_eq!((contract.direction, contract.budget), (Direction::Higher, Budget::Seconds(7.0)));
}

const MEASURE: &str =
    "#!/bin/bash\nset -e\n./build.sh\necho \"METRIC total_ms=$t\"\necho \"METRIC size_kb=$s\"\n";
const PROMPT: &str = "# Goal\n\n## Metrics\n- **Primary**: total_ms (ms, lower is better) — what counts\n\n\
    ## Files in Scope\n- `src/engine.rs` — the hot loop\n- src/lib — helpers\n- nowhere.rs — gone\n\n\
    ## Off Limits\n- `tests` — as they are\n\n## Constraints\n- `other.rs`\n";
const SESSION: &[(&str, &str)] = &[
    (".auto/measure.sh", MEASURE),
    (".auto/prompt.md", PROMPT),
    (".auto/checks.sh", "#!/bin/bash\ntrue\n"),
    ("src/engine.rs", ""),
    ("src/lib/one.rs", ""),
    ("other.rs", ""),
    ("tests/a.rs", ""),
];

#[test]
fn an_auto_folder_says_what_may_change_and_which_metric_line_counts() {
    let contract = contract(SESSION, &Wishes::default(), &machine());
    assert_eq!(contract.mutable, ["src/engine.rs", "src/lib"]);
    assert_eq!(contract.fixed, ["tests", ".auto/measure.sh", ".auto/checks.sh"]);
    assert_eq!(contract.command, ["bash", ".auto/measure.sh"]);
    assert_eq!(
        (contract.metric.name.as_str(), pattern(&contract.metric)),
        ("total_ms", r"^METRIC\s+total_ms=(\S+)")
    );
    assert_eq!(contract.direction, Direction::Lower);
    assert_eq!(contract.budget, Budget::Evaluations(1));
    assert_eq!(contract.guards[0].name, "checks");
}

#[test]
fn a_file_that_must_stay_among_those_that_may_change_is_kept_out_of_them() {
    let prompt = "## Files in Scope\n- `src` — all\n\n## Off Limits\n- `src/score.rs` — measures\n";
    let files =
        [(".auto/measure.sh", MEASURE), (".auto/prompt.md", prompt), ("src/a.rs", ""), ("src/score.rs", "")];
    let wishes = Wishes { metric: Some("size_kb".into()), ..Wishes::default() };
    let contract = contract(&files, &wishes, &machine());
    assert_eq!(contract.mutable, ["src/a.rs"]);
    assert_eq!(contract.fixed, ["src/score.rs", ".auto/measure.sh"]);
}

#[test]
fn a_limit_that_ends_before_the_budget_is_not_taken() {
    let program = PROGRAM.replace("exceeds 4 minutes", "exceeds 2 minutes");
    let mut files = KARPATHY.to_vec();
    files[0].1 = &program;
    let adoption = adopted(&files, &Wishes::default(), &with_venv());
    assert_eq!(adoption.contract.unwrap().timeout_seconds, None);
    assert!(
        adoption.warnings.iter().any(|warning| warning.contains("program.md:11")),
        "{:?}",
        adoption.warnings
    );
}

#[test]
fn records_of_another_loop_are_found() {
    let mut files = KARPATHY.to_vec();
    files.push(("results.tsv", ""));
    assert_eq!(adopted(&files, &Wishes::default(), &with_venv()).histories, ["results.tsv"]);
}

#[test]
fn the_log_of_a_session_outweighs_its_prompt() {
    let mut files = SESSION.to_vec();
    files.push((
        ".auto/log.jsonl",
        "{\"type\":\"hook\"}\n{\"type\":\"config\",\"metricName\":\"size_kb\",\"bestDirection\":\"higher\"}\n",
    ));
    let adoption = adopted(&files, &Wishes::default(), &machine());
    assert_eq!(reason(&adoption, "metric.name").value, "size_kb");
    assert_eq!(reason(&adoption, "metric.direction").value, "higher");
    let places: Vec<String> =
        reason(&adoption, "metric.name").evidence.iter().map(ToString::to_string).collect();
    assert_eq!(places, [".auto/log.jsonl:2", ".auto/measure.sh:5"]);
}

#[test]
fn an_older_session_beside_the_code_is_read_and_its_commit_paths_may_change() {
    let files = [
        ("autoresearch.sh", "printf 'METRIC seconds=%s\\n' \"$s\"\n"),
        ("autoresearch.md", "# Session\n\n## Metric Contract\n\n- Primary: seconds (`s`, lower is better)\n"),
        ("autoresearch.config.json", "{\n  \"commitPaths\": [\"src/indexer\"]\n}\n"),
        ("src/indexer/a.ts", ""),
    ];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!(contract.mutable, ["src/indexer"]);
    assert_eq!(contract.command, ["bash", "autoresearch.sh"]);
    assert_eq!((contract.metric.name.as_str(), contract.direction), ("seconds", Direction::Lower));
}

#[test]
fn a_measuring_script_that_is_not_committed_stands_in_the_way() {
    let mut sources: Vec<Source> = tree(SESSION).tracked().cloned().collect();
    for source in sources.iter_mut().filter(|source| source.path.starts_with(".auto/")) {
        source.tracked = false;
    }
    let adoption = adopt("x", &Tree::new(sources), &Wishes::default(), &machine());
    assert!(adoption.contract.is_none());
    assert!(adoption.questions.iter().any(|question| question.text.contains("not committed")));
}

const HELIX: &str = "name: my helix\ndomain: AI\ndescription: >\n  something\n  long\nscope:\n  editable: [infer.py]\n  \
    readonly:\n    - evaluate.py\n    - helix.yaml\nmetrics:\n  primary:\n    name: tokens\n    optimize: maximize\n  \
    quality_guard:\n    name: ppl\n    optimize: minimize\n    max_degradation: 0.02\n  evaluate:\n    \
    command: python evaluate.py\n    timeout_seconds: 90\n    patterns:\n      primary: '^tokens:\\s+([\\d.]+)'\n      \
    quality_guard: \"^ppl: (.*)\"\n";

#[test]
fn a_helix_yaml_states_everything() {
    let files = [("helix.yaml", HELIX), ("infer.py", ""), ("evaluate.py", "import infer\n")];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!(contract.name, "my-helix");
    assert_eq!(
        (contract.mutable, contract.fixed),
        (vec!["infer.py".into()], vec!["evaluate.py".to_owned(), "helix.yaml".into()])
    );
    assert_eq!(contract.command, ["/usr/bin/python3.11", "evaluate.py"]);
    assert_eq!(
        (contract.metric.name.as_str(), pattern(&contract.metric)),
        ("tokens", r"^tokens:\s+([\d.]+)")
    );
    assert_eq!((contract.direction, contract.timeout_seconds), (Direction::Higher, Some(90.0)));
    assert_eq!(contract.guards[0].limit, "<= 1.02 x incumbent".parse().ok());
}

#[test]
fn a_program_that_keeps_the_time_of_helix_is_not_ended_when_it_is_over() {
    let infer = "import os\nBUDGET = int(os.environ[\"HELIX_TIME_BUDGET\"])\n";
    let files = [("helix.yaml", HELIX), ("infer.py", infer), ("evaluate.py", "import infer\n")];
    let contract = contract(&files, &Wishes::default(), &machine());
    assert_eq!((contract.budget, contract.timeout_seconds), (Budget::Seconds(90.0), None));
    assert_eq!(contract.env[0], ("HELIX_TIME_BUDGET".to_owned(), "90".to_owned()));
}

#[test]
fn a_helix_yaml_that_cannot_be_read_is_said_and_guessing_goes_on() {
    let adoption = adopted(&[("helix.yaml", "a: [1\nb: }")], &Wishes::default(), &machine());
    assert!(adoption.warnings.iter().any(|warning| warning.contains("helix.yaml is not read")));
    assert_eq!(asked(&adoption), ["--run", "--mutable", "--pattern"]);
}
