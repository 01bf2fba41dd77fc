//! Foreign repositories as people meet them: adopted, run, and their histories taken in and written out.

#[path = "support/place.rs"]
mod place;

use std::fs;

use place::Place;
use serde_json::Value;

/// A repository in the style of pi-autoresearch: a script that prints `METRIC` lines, and a file to improve.
const SESSION: &[(&str, &str)] = &[
    (
        ".auto/measure.sh",
        "#!/bin/bash\nread -r n < speed.txt\necho \"METRIC cost=$n\"\necho done > written-here\n",
    ),
    (
        ".auto/prompt.md",
        "# Goal\n\n- **Primary**: cost (units, lower is better)\n\n## Files in Scope\n- `speed.txt`\n",
    ),
    ("speed.txt", "50\n"),
    ("README.md", "Faster is better.\n"),
];

/// One patch for `speed.txt`.
fn patches(place: &Place) -> String {
    let folder = place.path("patches");
    fs::create_dir(&folder).unwrap();
    let diff = "--- a/speed.txt\n+++ b/speed.txt\n@@ -1 +1 @@\n-50\n+40\n";
    fs::write(folder.join("1-faster.diff"), diff).unwrap();
    format!("patches:{}", folder.display())
}

#[test]
fn an_adopted_repository_runs_and_git_sees_no_change() {
    let place = Place::with_files(SESSION);
    let before = place.git(&["rev-parse", "HEAD^{tree}"]);
    let answer = place.done(&["adopt"]);
    assert!(answer.out.contains(".auto/prompt.md:3"), "{}", answer.out);
    assert!(answer.out.contains("next: ") && answer.out.contains(" doctor"), "{}", answer.out);
    assert!(answer.out.contains("note: The score is self-reported"), "{}", answer.out);
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    let patches = patches(&place);
    place.done(&["run", "--proposer", &patches, "--allow-unsandboxed"]);
    let log = place.done(&["log", "--json"]).out;
    let marks: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["mark"].clone()).collect();
    assert_eq!(marks, ["baseline", "win"]);
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    assert_eq!(place.git(&["rev-parse", "HEAD^{tree}"]), before);
}

#[test]
fn a_contract_that_is_there_is_replaced_only_by_force() {
    let place = Place::with_files(SESSION);
    let file = place.path("task/task.toml");
    assert!(place.done(&["adopt", "--dry-run"]).out.contains("mutable = [\"speed.txt\"]"));
    assert!(!file.exists());
    place.done(&["adopt"]);
    fs::write(&file, "mine").unwrap();
    let answer = place.sprag(&["adopt"]);
    assert_eq!((answer.status, fs::read_to_string(&file).unwrap().as_str()), (1, "mine"));
    assert!(answer.err.contains("--force"), "{}", answer.err);
    place.done(&["adopt", "--force"]);
    assert!(fs::read_to_string(&file).unwrap().contains("speed.txt"));
}

#[test]
fn what_is_not_known_is_listed_with_the_flag_that_settles_it_and_nothing_is_written() {
    let place = Place::with_files(&[("notes.txt", "hello\n")]);
    let answer = place.sprag(&["adopt"]);
    assert_eq!(answer.status, 1);
    for flag in ["--run", "--mutable", "--pattern"] {
        assert!(answer.err.contains(flag), "{}", answer.err);
    }
    let answer = place.sprag(&["adopt", "--json"]);
    let view: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.status, view["questions"].as_array().unwrap().len()), (1, 3));
    assert_eq!(view["written"], false);
    assert!(!place.path("task/task.toml").exists());
    assert!(
        !fs::read_to_string(place.path("task/.git/info/exclude")).unwrap_or_default().contains("task.toml")
    );
}

#[test]
fn a_folder_that_is_no_repository_is_refused_with_the_next_step() {
    let place = Place::empty();
    let answer = place.sprag(&["adopt"]);
    assert_eq!(answer.status, 1);
    assert!(answer.err.contains("git init"), "{}", answer.err);
}

#[test]
fn a_task_around_a_command_runs_at_once() {
    let place = Place::empty();
    place.done(&["init", "command", "task"]);
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    place.done(&["run", "--proposer", "command:sh propose.sh", "--trials", "3", "--allow-unsandboxed"]);
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["counts"]["wins"], 2, "{status}");
    // Its record goes out and comes in again, and the next brief shows it.
    let file = place.path("results.tsv");
    let file = file.to_str().unwrap();
    assert!(place.done(&["history", "export", "--out", file]).out.contains("rows"));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with("commit\tloss\tmemory_gb\tstatus\tdescription\n"), "{text}");
    let view = place.json(&["history", "import", file, "--json"]);
    assert_eq!(view["history"]["entries"][0]["status"], "keep");
    let propose = "command:grep -q 'Tried elsewhere' \"$SPRAG_BRIEF\" && sh propose.sh";
    place.done(&["run", "--new", "--proposer", propose, "--trials", "1", "--allow-unsandboxed"]);
    let log = place.done(&["log", "--json"]).out;
    assert!(log.lines().last().unwrap().contains("\"win\""), "{log}");
}

#[test]
fn a_task_around_ones_own_command_takes_the_folders_files() {
    let place = Place::empty();
    fs::create_dir(place.path("task")).unwrap();
    fs::write(place.path("task/size.txt"), "12\n").unwrap();
    let own = ["--run", "cat size.txt", "--metric", "size", "--direction", "lower", "--pattern", "^(.*)$"];
    let init = |mutable: &str| {
        let arguments = [&["init", "command", "."], &own[..], &["--mutable", mutable]].concat();
        place.sprag(&arguments)
    };
    let answer = init("nothing.txt");
    assert!(answer.status == 1 && answer.err.contains("matches no file"), "{}", answer.err);
    assert!(!place.path("task/task.toml").exists());
    let answer = init("size.txt");
    assert_eq!(answer.status, 0, "{}", answer.err);
    assert_eq!(place.json(&["check", "--json", "--allow-unsandboxed"])["outcome"]["scored"]["value"], 12.0);
    assert_eq!(init("size.txt").status, 1);
}

#[test]
fn a_record_that_cannot_be_read_is_refused_with_its_line() {
    let place = Place::empty();
    place.done(&["init", "command", "task"]);
    let file = place.path("log.jsonl");
    fs::write(&file, "{\"run\": 1}\nnonsense\n").unwrap();
    let answer = place.sprag(&["history", "import", file.to_str().unwrap()]);
    assert_eq!(answer.status, 1);
    assert!(answer.err.contains("line 2") && answer.err.contains("hint: "), "{}", answer.err);
    assert!(!place.path("task/.sprag/history").exists());
}
