use std::path::Path;
use std::time::Duration;

use super::*;
use crate::sandbox::OnViolation;

const GOOD: &str = r#"format = 1
name = "gpt"

[files]
mutable = ["src/train.rs", "kernels/**/*.cu"]
fixed = ["Cargo.toml", "src/main.rs"]

[vars]
data = "../data"
steps = "100"

[build]
command = ["cargo", "build", "--release"]
keep = ["release/gpt"]
timeout_seconds = 1200
env = { CARGO_TARGET_DIR = "{cache}" }

[run]
command = ["{out}/gpt", "--steps", "{steps}"]
memory_mib = 8192

[evaluate]
command = ["{sprag}", "train", "eval", "--data", "{data}", "--seed", "{seed}", "--phase", "{phase}"]
channel = true

[metric]
name = "val_bpb"
direction = "lower"

[budget]
seconds = 20

[sandbox]
read = ["{data}/train.bin", "vendor"]
devices = ["/dev/nvidia*"]
env = ["PATH"]

[gate]
baseline_repeats = 7
alpha = 0.1

[lanes]
local = 1
"#;

fn parse(text: &str) -> Result<Task, TaskError> {
    Task::parse(text, Path::new("/nowhere/tasks/gpt"))
}

/// Replaces `from` in the good task and expects the complaint.
#[track_caller]
fn check(from: &str, to: &str, expect: &str) {
    assert!(GOOD.contains(from), "{from}");
    let complaint = parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
    assert_eq!(complaint, expect);
}

#[test]
fn good_task_becomes_absolute_and_typed() {
    let task = parse(GOOD).unwrap();
    assert_eq!(task.vars["data"], "/nowhere/tasks/data");
    assert_eq!(task.vars["steps"], "100");
    assert_eq!(task.run.memory_bytes, Some(8192 << 20));
    assert_eq!(task.build.as_ref().unwrap().timeout(None), Duration::from_secs(1200));
    assert_eq!(task.sandbox.read[0], Path::new("/nowhere/tasks/data/train.bin"));
    assert_eq!(task.sandbox.read[1], Path::new("/nowhere/tasks/gpt/vendor"));
    assert_eq!(task.sandbox.devices.patterns().collect::<Vec<_>>(), ["/dev/nvidia*"]);
    assert_eq!((task.gate.baseline_repeats, task.gate.alpha), (7, 0.1));
    assert_eq!(task.budget, Budget::Seconds(20.0));
    assert!(task.has_smoke());
}

#[test]
fn a_second_budget_is_of_another_kind_or_equal_in_tokens() {
    let second = |to: &str| {
        let task = parse(&GOOD.replacen("seconds = 20\n", to, 1)).unwrap();
        (task.budget, task.second)
    };
    let (seconds, tokens) = (Budget::Seconds(20.0), Budget::Tokens(500_000));
    assert_eq!(second("seconds = 20\n"), (seconds, None));
    let fixed = |budget| Some(SecondBudget::Fixed(budget));
    assert_eq!(second("seconds = 20\nsecond = { tokens = 500_000 }\n"), (seconds, fixed(tokens)));
    assert_eq!(second("tokens = 500_000\nsecond = { seconds = 20.0 }\n"), (tokens, fixed(seconds)));
    let equal = Some(SecondBudget::EqualTokens);
    assert_eq!(second("seconds = 20\nsecond = \"equal-tokens\"\n"), (seconds, equal));
}

#[test]
fn what_candidates_must_not_see_may_not_lie_below_what_they_read() {
    let readable = [PathBuf::from("/usr/share"), PathBuf::from("/elsewhere")];
    let exposed = |dir: &str, from: &str, to: &str| {
        Task::parse(&GOOD.replacen(from, to, 1), Path::new(dir)).unwrap().exposed(&readable)
    };
    let pair = |place: &str, by: &str| Some((PathBuf::from(place), PathBuf::from(by)));
    let read = "\"{data}/train.bin\", \"vendor\"";
    assert_eq!(exposed("/nowhere/tasks/gpt", "", ""), None);
    assert_eq!(exposed("/usr/share/gpt", "", ""), pair("/usr/share/gpt", "/usr/share"));
    assert_eq!(exposed("/usr/shared/gpt", "", ""), None);
    assert_eq!(exposed("/nowhere/gpt", "../data", "/elsewhere/data"), pair("/elsewhere/data", "/elsewhere"));
    assert_eq!(exposed("/nowhere/gpt", "steps = \"100\"", "steps = \"/elsewhere/not-told\""), None);
    assert_eq!(exposed("/nowhere/gpt", read, "\"..\""), pair("/nowhere/gpt", "/nowhere"));
    assert_eq!(exposed("/nowhere/a/gpt", "../data", "../../b/data"), None);
    assert_eq!(exposed("/nowhere/gpt", read, "\"{data}\""), None, "listed by its own name");
}

#[test]
fn every_complaint_names_line_column_and_key() {
    check("name = \"gpt\"", "nmae = \"gpt\"", "task.toml:2:1: `nmae`: unknown key; did you mean `name`?");
    check(
        "timeout_seconds = 1200",
        "timeout = 1200",
        "task.toml:15:1: `build.timeout`: unknown key; did you mean `timeout_seconds`?",
    );
    check("name = \"gpt\"\n", "", "task.toml:1:1: `name`: missing; add `name`");
    check("name = \"gpt\"", "name = 3", "task.toml:2:8: `name`: expected a string, found an integer");
    check(
        "direction = \"lower\"\n",
        "",
        "task.toml:26:1: `metric.direction`: missing; add `direction` in [metric]",
    );
    check(
        "\"lower\"",
        "\"down\"",
        "task.toml:28:13: `metric.direction`: is `down`; write \"lower\" or \"higher\"",
    );
    check(
        "seconds = 20\n",
        "seconds = 0\n",
        "task.toml:31:11: `budget.seconds`: is 0; it must be greater than zero",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\ntokens = 5\n",
        "task.toml:32:10: `budget.tokens`: there is `seconds` too; a budget is one of them",
    );
    check(
        "seconds = 20\n",
        "",
        "task.toml:30:1: `budget`: is empty; write `seconds = 20.0`, `tokens = 10_000_000`, `steps = 500` or \
         `evaluations = 200`",
    );
    check(
        "seconds = 20\n",
        "evaluations = 3\nsteps = 5\n",
        "task.toml:31:15: `budget.evaluations`: there is `steps` too; a budget is one of them",
    );
    check("seconds = 20\n", "steps = 0\n", "task.toml:31:9: `budget.steps`: is 0; at least 1 is needed");
    check(
        "seconds = 20\n",
        "evaluations = 2.5\n",
        "task.toml:31:15: `budget.evaluations`: expected an integer, found a number",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\nsecond = { seconds = 5 }\n",
        "task.toml:32:10: `budget.second`: is of the same kind as the first; only another kind tells speed from learning",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\nsecond = { tokens = 0 }\n",
        "task.toml:32:21: `budget.second.tokens`: is 0; at least 1 is needed",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\nsecond = { tokens = 5, second = \"equal-tokens\" }\n",
        "task.toml:32:33: `budget.second.second`: a second budget has no second one",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\nsecond = \"same-tokens\"\n",
        "task.toml:32:10: `budget.second`: is `same-tokens`; write `{ tokens = 500_000 }` or \"equal-tokens\"",
    );
    check(
        "seconds = 20\n",
        "tokens = 20\nsecond = \"equal-tokens\"\n",
        "task.toml:32:10: `budget.second`: is \"equal-tokens\": as many as the baseline is served within a budget in \
         seconds; the first budget is not in seconds",
    );
    check(
        "seconds = 20\n",
        "seconds = 20\nsecond = 5\n",
        "task.toml:32:10: `budget.second`: expected a table, found an integer",
    );
    check(
        "baseline_repeats = 7",
        "baseline_repeats = 4",
        "task.toml:39:20: `gate.baseline_repeats`: is 4; it must lie within 5 and 1000",
    );
    check(
        "alpha = 0.1",
        "alpha = 0.5",
        "task.toml:40:9: `gate.alpha`: is 0.5; an error level is less than 0.5",
    );
    check(
        "alpha = 0.1",
        "race = 3",
        "task.toml:40:8: `gate.race`: is 3; write 1, 2, 4, 8 or 16: a heat is halved",
    );
    check("alpha = 0.1", "race = 32", "task.toml:40:8: `gate.race`: is 32; it must lie within 1 and 16");
    check(
        "local = 1",
        "local = 2",
        "task.toml:43:9: `lanes.local`: only 1 trial at a time can run in this version",
    );
    check(
        "\"{steps}\"",
        "\"{stesp}\"",
        "task.toml:19:36: `run.command`: unknown placeholder {stesp} in `{stesp}`; did you mean {steps}? \
         (a literal brace is written twice)",
    );
    check(
        "[\"{data}/train.bin\"",
        "[\"~/train.bin\"",
        "task.toml:34:9: `sandbox.read`: `~/train.bin`: `~` is not expanded; write the whole path",
    );
    check(
        "command = [\"{out}/gpt\", \"--steps\", \"{steps}\"]",
        "command = []",
        "task.toml:19:11: `run.command`: is empty; write the program and its arguments as a list of strings",
    );
    check(
        "steps = \"100\"",
        "seed = \"100\"",
        "task.toml:10:8: `vars.seed`: Sprag fills in {seed} itself; choose another name",
    );
}

#[test]
fn broken_syntax_names_its_line() {
    let complaint = parse("format = 1\nname = \n").unwrap_err().to_string();
    assert!(complaint.starts_with("task.toml:2:"), "{complaint}");
}

#[test]
fn unknown_format_is_named_before_anything_else() {
    let newer = parse("format = 2\nfuture = true\n").unwrap_err().to_string();
    assert!(newer.contains("format 2 is newer than this program"), "{newer}");
    let missing = parse("name = \"x\"\n").unwrap_err().to_string();
    assert!(missing.contains("`format`: missing"), "{missing}");
}

#[test]
fn build_is_not_told_the_seed() {
    let complaint = parse(&GOOD.replace("\"--release\"", "\"{seed}\"")).unwrap_err().to_string();
    assert!(complaint.contains("`build.command`: unknown placeholder {seed}"), "{complaint}");
}

#[test]
fn score_has_exactly_one_source() {
    let both = GOOD.replace("direction = \"lower\"", "direction = \"lower\"\npattern = '^x: (\\S+)'");
    assert!(parse(&both).unwrap_err().to_string().contains("a score has one source"));
    let start = GOOD.find("[evaluate]").unwrap();
    let neither = format!("{}{}", &GOOD[..start], &GOOD[GOOD.find("[metric]").unwrap()..]);
    assert!(parse(&neither).unwrap_err().to_string().contains("nobody scores"));
    let text = neither.replace("direction = \"lower\"", "direction = \"lower\"\npattern = '^x:\\s*(\\S+)'");
    let task = parse(&text).unwrap();
    let Source::Pattern(pattern) = &task.metric.source else { panic!("{:?}", task.metric) };
    let captures = pattern.captures("noise\nx: 0.5\n").unwrap();
    assert_eq!(&captures[1], "0.5");
    let no_group = text.replace("(\\S+)", "\\S+");
    assert!(parse(&no_group).unwrap_err().to_string().contains("has no group"));
}

#[test]
fn numbers_without_an_evaluator_have_one_source_and_a_plain_place() {
    let start = GOOD.find("[evaluate]").unwrap();
    let neither = format!("{}{}", &GOOD[..start], &GOOD[GOOD.find("[metric]").unwrap()..]);
    let with = |lines: &str| {
        parse(&neither.replace("direction = \"lower\"", &format!("direction = \"lower\"\n{lines}")))
    };
    for (lines, own) in [
        (r#"json = { file = "{scratch}/results.json", pointer = "" }"#, true),
        ("exit_code = true", true),
        ("wall_seconds = true", false),
    ] {
        assert_eq!(with(lines).unwrap().metric.source.is_self_reported(), own, "{lines}");
    }
    let copy = neither.replace("[run]\n", "[run]\ntree = \"copy\"\n");
    let json = "direction = \"lower\"\njson = { file = \"out/results.json\", pointer = \"/a/0\" }";
    assert!(parse(&copy.replace("direction = \"lower\"", json)).is_ok());
    for (lines, words) in [
        ("exit_code = true\nwall_seconds = true", "a score has one source"),
        ("exit_code = false", "leave it out"),
        (r#"json = { file = "r.json", pointer = "a.b" }"#, "write `/a/b`"),
        (r#"json = { file = "../r.json", pointer = "/a" }"#, "must be a plain path"),
        (r#"json = { file = "/tmp/r.json", pointer = "/a" }"#, "must be a plain path"),
        (r#"json = { file = "{scratch}/../r.json", pointer = "/a" }"#, "must be a plain path"),
        (r#"json = { file = "*.json", pointer = "/a" }"#, "must be a plain path"),
        (r#"json = { file = "r.json" }"#, "missing"),
        (r#"json = { file = "out/r.json", pointer = "/a" }"#, "add `tree = \"copy\"`"),
    ] {
        let complaint = with(lines).expect_err(lines).to_string();
        assert!(complaint.contains(words), "{lines}: {complaint}");
    }
}

#[test]
fn guards_are_named_and_have_one_source_and_a_limit_unless_they_are_commands() {
    let with = |line: &str| parse(&format!("{GOOD}\n[guards]\n{line}\n"));
    let task = with("memory = { fact = \"peak_memory_bytes\", limit = \"<= 1.05 x incumbent\" }\n\
        tests = { command = [\"sh\", \"{worktree}/test.sh\"] }\nsize = { file_size = \"{out}/model\", limit = \"<= 16_000_000\" }")
    .unwrap();
    let facts: Vec<Option<String>> = task.guards.iter().map(Guard::fact).collect();
    assert_eq!(facts, [Some("peak_memory_bytes".into()), Some("size_bytes".into()), None]);
    assert_eq!((task.guard_rules.len(), task.has_guard_commands()), (2, true));
    for (line, words) in [
        ("a = { fact = \"x\" }", "has no limit"),
        ("a = { fact = \"x\", limit = \"< 5\" }", "is no limit"),
        ("a = { limit = \"<= 5\" }", "where it comes from"),
        ("a = { fact = \"x\", file_size = \"y\", limit = \"<= 5\" }", "one source"),
        ("a = { command = [\"x\"], limit = \"<= 5\" }", "has no number"),
        ("a = { pattern = \"x\", limit = \"<= 5\" }", "has no group"),
        ("\"a b\" = { fact = \"x\", limit = \"<= 5\" }", "letters, digits"),
    ] {
        let complaint = with(line).expect_err(line).to_string();
        assert!(complaint.contains(words), "{line}: {complaint}");
    }
}

#[test]
fn what_follows_a_try_for_the_network_is_a_word_of_two() {
    let with =
        |word: &str| parse(&GOOD.replace("[sandbox]\n", &format!("[sandbox]\non_network = {word:?}\n")));
    assert_eq!(parse(GOOD).unwrap().sandbox.on_network, OnViolation::Kill);
    assert_eq!(with("refuse").unwrap().sandbox.on_network, OnViolation::Refuse);
    assert!(with("allow").unwrap_err().to_string().contains("write \"kill\" or \"refuse\""));
}

#[test]
fn the_folders_of_run_and_evaluator_are_words_of_a_list() {
    let run = |tree: &str| parse(&GOOD.replace("[run]\n", &format!("[run]\ntree = {tree:?}\n")));
    assert_eq!(run("copy").unwrap().run.tree, RunTree::Copy);
    assert!(run("moved").unwrap_err().to_string().contains("write \"read-only\" or \"copy\""));
    let after = GOOD.replace("channel = true\n", "");
    let evaluate =
        |tree: &str| parse(&after.replace("[evaluate]\n", &format!("[evaluate]\ntree = {tree:?}\n")));
    assert!(evaluate("pristine").unwrap().needs_pristine());
    assert!(!evaluate("candidate").unwrap().needs_pristine());
    assert!(evaluate("other").unwrap_err().to_string().contains("write \"candidate\" or \"pristine\""));
}

#[test]
fn path_is_never_both_mutable_and_fixed() {
    for (mutable, fixed) in [
        ("src/train.rs", "src/train.rs"),
        ("src/**", "src/main.rs"),
        ("src", "src/main.rs"),
        ("src/main.rs", "src"),
        ("src/main.rs", "src/*.rs"),
        ("src/*.rs", "src/*.rs"),
    ] {
        let text = GOOD
            .replace("\"src/train.rs\", \"kernels/**/*.cu\"", &format!("{mutable:?}"))
            .replace("\"Cargo.toml\", \"src/main.rs\"", &format!("{fixed:?}"));
        let complaint = parse(&text).expect_err(fixed).to_string();
        assert!(complaint.contains("a path is one or the other"), "{complaint}");
    }
}

#[test]
fn paths_that_leave_the_task_or_steer_git_are_refused() {
    for (mutable, expect) in [
        ("/etc/passwd", "must be relative"),
        ("../other", "`..` parts"),
        ("./src", "`..` parts"),
        ("src//x", "`..` parts"),
        ("src/[", "not a valid glob"),
        ("task.toml", "can never be mutable"),
        (".gitattributes", "can never be mutable"),
        ("src/.git", "can never be mutable"),
    ] {
        let text = GOOD.replace("\"src/train.rs\", \"kernels/**/*.cu\"", &format!("{mutable:?}"));
        let complaint = parse(&text).expect_err(mutable).to_string();
        assert!(complaint.contains(expect), "{complaint}");
    }
}

#[test]
fn globs_do_not_reach_what_decides() {
    let text = GOOD
        .replace("\"src/train.rs\", \"kernels/**/*.cu\"", "\"**\"")
        .replace("fixed = [\"Cargo.toml\", \"src/main.rs\"]", "");
    let files = parse(&text).unwrap().files;
    for (path, mutable) in [
        ("src/train.rs", true),
        ("a/b/c.py", true),
        ("task.toml", false),
        ("sub/task.toml", true),
        (".gitattributes", false),
        ("src/.gitattributes", false),
        ("src/.GIT/config", false),
        (".sprag/x", false),
    ] {
        assert_eq!(files.is_mutable(path), mutable, "{path}");
    }
}

#[test]
fn star_stays_within_a_folder() {
    let set = PathSet::new(["src/*.rs", "kernels/**/*.cu", "lib"]).unwrap();
    for (path, contained) in [
        ("src/a.rs", true),
        ("src/deep/a.rs", false),
        ("kernels/a.cu", true),
        ("kernels/x/y/a.cu", true),
        ("lib", true),
        ("lib/x/y", true),
        ("library/x", false),
    ] {
        assert_eq!(set.contains(path), contained, "{path}");
    }
}

#[test]
fn placeholders_expand_and_literal_braces_stay() {
    let values = Values::default().with("out", "/o").with("seed", "7");
    for (template, expect) in [
        ("{out}/gpt", "/o/gpt"),
        ("{seed}{seed}", "77"),
        ("{{seed}}", "{seed}"),
        ("{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}"),
        ("{ }", "{ }"),
        ("x}", "x}"),
        ("", ""),
    ] {
        assert_eq!(expand(template, &values).unwrap(), expect, "{template}");
    }
    let unknown = expand("{sede}", &values).unwrap_err();
    assert_eq!((unknown.name.as_str(), unknown.nearest.as_deref()), ("sede", Some("seed")));
}

#[test]
fn fixed_hash_follows_content_names_and_external_files() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    std::fs::create_dir_all(tree.join("src")).unwrap();
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    std::fs::write(tree.join("src/train.rs"), "1").unwrap();
    std::fs::write(tree.join("Cargo.toml"), "a").unwrap();
    std::fs::write(tree.join("src/main.rs"), "b").unwrap();
    std::fs::write(outside.join("deep/data.bin"), "c").unwrap();
    let text = GOOD.replace("[vars]", &format!("external = [{:?}]\n[vars]", outside.to_str().unwrap()));
    std::fs::write(tree.join(FILE), text).unwrap();
    let task = Task::load(&tree).unwrap();
    let hash = || task.fixed_sha256(&tree).unwrap();

    let first = hash();
    std::fs::write(tree.join("src/train.rs"), "2").unwrap();
    assert_eq!(hash(), first, "a mutable file is not part of it");
    let mut seen = vec![first];
    for (path, content) in [
        (tree.join("Cargo.toml"), "ab"),
        (tree.join("src/main.rs"), ""),
        (outside.join("deep/data.bin"), "d"),
        (outside.join("more"), ""),
    ] {
        std::fs::write(&path, content).unwrap();
        assert!(!seen.contains(&hash()), "{}", path.display());
        seen.push(hash());
    }
    std::fs::remove_file(tree.join("src/main.rs")).unwrap();
    let complaint = task.fixed_sha256(&tree).unwrap_err().to_string();
    assert!(complaint.contains("fixed file `src/main.rs` does not exist"), "{complaint}");
}

#[test]
fn task_whose_mutable_files_do_not_exist_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), GOOD).unwrap();
    let complaint = Task::load(dir.path()).unwrap_err().to_string();
    assert!(complaint.contains("matches no file"), "{complaint}");
    let complaint = Task::load(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(complaint.starts_with("cannot read"), "{complaint}");
}

#[test]
fn a_budget_of_each_kind_is_read_told_and_limited() {
    for (text, budget, told) in [
        ("seconds = 2.5", Budget::Seconds(2.5), "2.5s"),
        ("tokens = 10_000_000", Budget::Tokens(10_000_000), "10000000tokens"),
        ("steps = 500", Budget::Steps(500), "500steps"),
        ("evaluations = 200", Budget::Evaluations(200), "200evaluations"),
    ] {
        let task = parse(&GOOD.replace("seconds = 20", text)).unwrap();
        assert_eq!((task.budget, task.budget.to_string().as_str()), (budget, told));
        let record = serde_json::to_string(&budget).unwrap();
        assert_eq!(serde_json::from_str::<Budget>(&record).unwrap(), budget, "{record}");
        if !matches!(budget, Budget::Seconds(_)) {
            // Nothing says how long so much takes before it was seen.
            assert_eq!(task.run.timeout(budget, None), Duration::from_secs(4 * 3600), "{text}");
            assert_eq!(task.run.silence(budget), Duration::from_secs(300), "{text}");
        }
        assert_eq!(task.run.timeout(budget, Some(Duration::from_secs(100))), Duration::from_secs(200));
    }
}

#[test]
fn default_limits_derive_from_budget_and_baseline() {
    let task = parse(&GOOD.replace("timeout_seconds = 1200\n", "")).unwrap();
    let (run, build) = (&task.run, task.build.as_ref().unwrap());
    let seconds = Duration::from_secs;
    assert_eq!(run.timeout(task.budget, None), seconds(360));
    assert_eq!(run.timeout(task.budget, Some(seconds(25))), seconds(55));
    assert_eq!(run.timeout(task.budget, Some(seconds(100))), seconds(200));
    assert_eq!(run.smoke_timeout(task.budget, None), seconds(120));
    assert_eq!(run.silence(task.budget), seconds(120));
    assert_eq!(build.timeout(None), seconds(1200));
    assert_eq!(build.timeout(Some(seconds(3))), seconds(120));
    assert_eq!(build.timeout(Some(seconds(60))), seconds(300));
}

#[test]
fn a_task_that_tells_nobody_its_budget_cannot_race() {
    let untold = GOOD.replace("alpha = 0.1", "race = 4");
    let error = parse(&untold).unwrap_err().to_string();
    assert!(error.starts_with("task.toml:40:8: `gate.race`: needs `{budget}`"), "{error}");
    assert_eq!(parse(&untold.replace("race = 4", "race = 1")).unwrap().gate.race, 1);
    for (old, told) in [("\"{phase}\"", "\"{phase}\", \"{budget}\""), ("\"{steps}\"", "\"{budget}\"")] {
        assert_eq!(parse(&untold.replace(old, told)).unwrap().gate.race, 4, "{told}");
    }
}
