use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::record::{Effect, Proposed, Reason, Record, Verdict};
use crate::repo::fixture;

const TASK: &str = "format = 1\nname = \"t\"\n[files]\nmutable = [\"src/**\"]\nfixed = [\"Makefile\"]\n[run]\n\
    command = [\"x\"]\n[metric]\nname = \"val_bpb\"\ndirection = \"lower\"\npattern = '(.*)'\n[budget]\nseconds = 20\n";
const TRAIN: &str = "let seed = 1;\nlet rate = 2; // two\n";

struct Bench {
    dir: TempDir,
    repo: Repo,
    task: Task,
    state: State,
    machine: BTreeMap<String, String>,
    asked: u32,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("task.toml", TASK),
            ("Makefile", "all:\n"),
            ("src/train.rs", TRAIN),
            ("program.md", "Be bold.\n"),
            (".gitignore", "target/\n"),
        ];
        let repo = fixture::init(dir.path(), &files);
        let task = Task::load(dir.path()).unwrap();
        let machine = BTreeMap::from([("cpu".to_owned(), "made up".to_owned())]);
        let mut bench = Bench { dir, repo, task, state: State::default(), machine, asked: 0 };
        let content = content_of(&bench.task, bench.dir.path()).unwrap();
        bench.record(0, "baseline", "", &content, Verdict::Baseline { mean: 1.0, sd: 0.01, n: 5 });
        bench
    }

    fn record(&mut self, trial: TrialId, proposer: &str, title: &str, content: &str, verdict: Verdict) {
        let parent = self.repo.head().unwrap();
        let proposed = Proposed {
            trial,
            title: title.into(),
            content: content.into(),
            commit: parent.clone(),
            ..Proposed::default()
        };
        self.state.apply(
            "",
            &Record::TrialStarted { trial, proposer: proposer.into(), parent, again: None, heat: None },
        );
        self.state.apply("", &Record::Proposed(proposed));
        self.state.apply("", &Record::Decided { trial, verdict, reason: "because | so".into() });
    }

    fn worktree(&self) -> PathBuf {
        let path = self.dir.path().join(".sprag/worktrees/run-1-1");
        self.repo.worktree_add(&path, &self.repo.head().unwrap()).unwrap();
        path
    }

    fn propose(&mut self, spec: &str, repair: Option<&str>) -> Result<Proposal, Declined> {
        let worktree = self.worktree();
        let trial = self.state.trials.len() as TrialId;
        let mut proposer = parse_proposer(spec).unwrap().open_with(
            &self.task,
            &fixture::environment(),
            &AskingLimits::default(),
        );
        let parent = self.repo.head().unwrap();
        let mut state = self.state.clone();
        state.apply(
            "",
            &Record::TrialStarted {
                trial,
                proposer: proposer.name().into(),
                parent,
                again: None,
                heat: None,
            },
        );
        if repair.is_some() {
            let title = "First".into();
            state.apply("", &Record::Proposed(Proposed { trial, title, ..Proposed::default() }));
        }
        self.asked += 1;
        let (brief_dir, hypotheses) =
            (format!(".sprag/brief-{}", self.asked), self.dir.path().join(".sprag/hypotheses.md"));
        let brief_dir = self.dir.path().join(brief_dir);
        let brief = Brief {
            trial,
            worktree: &worktree,
            brief_dir: &brief_dir,
            hypotheses: &hypotheses,
            repair,
            machine: &self.machine,
            ..super::fixture::brief(&self.task, &self.repo, &state, self.dir.path())
        };
        proposer.propose(&brief)
    }

    fn admit(&self, worktree: &Path) -> Result<Admitted, (Reason, String)> {
        let parent = self.repo.head().unwrap();
        let admitted = admit(&self.task, &self.repo, worktree, &parent, &self.state, 1).unwrap();
        admitted.map_err(|invalid| (invalid.reason, invalid.detail))
    }
}

#[test]
fn proposals_that_may_not_be_tried_are_told_apart() {
    let bench = Bench::new();
    let train =
        |text: &'static str| move |worktree: &Path| fs::write(worktree.join("src/train.rs"), text).unwrap();
    type Edit = Box<dyn Fn(&Path)>;
    let cases: Vec<(Edit, Reason, &str)> = vec![
        (Box::new(|_| ()), Reason::Empty, "no file changed"),
        (
            Box::new(|worktree| {
                fs::create_dir(worktree.join("target")).unwrap();
                fs::write(worktree.join("target/x"), "built").unwrap();
            }),
            Reason::Empty,
            "what git ignores: target/",
        ),
        (Box::new(train("let seed=1;\nlet rate = 2;\n// none\n")), Reason::Duplicate, "it is trial 0 again"),
        (Box::new(train("let seed = 7;\nlet rate = 2; // 2\n")), Reason::SeedOnly, "src/train.rs"),
        (
            Box::new(|worktree| fs::write(worktree.join("Makefile"), "x").unwrap()),
            Reason::OutsideMutable,
            "Makefile changed and is not mutable",
        ),
        (
            Box::new(|worktree| fs::write(worktree.join("build.rs"), "x").unwrap()),
            Reason::OutsideMutable,
            "build.rs was added",
        ),
        (
            Box::new(|worktree| fs::remove_file(worktree.join("task.toml")).unwrap()),
            Reason::OutsideMutable,
            "task.toml was deleted",
        ),
        (
            Box::new(|worktree| fs::write(worktree.join("src/.gitattributes"), "x").unwrap()),
            Reason::OutsideMutable,
            "src/.gitattributes was added",
        ),
        (
            Box::new(|worktree| symlink("/etc/passwd", worktree.join("src/data.rs")).unwrap()),
            Reason::OutsideMutable,
            "src/data.rs became a symbolic link",
        ),
        (
            Box::new(|worktree| {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(worktree.join("src/train.rs"), mode).unwrap();
            }),
            Reason::OutsideMutable,
            "file mode of src/train.rs",
        ),
        (
            Box::new(|worktree| fs::create_dir_all(worktree.join("src/deep/.git")).unwrap()),
            Reason::OutsideMutable,
            "a git repository within the task",
        ),
    ];
    for (edit, reason, detail) in cases {
        let worktree = bench.worktree();
        edit(&worktree);
        let (found, said) = bench.admit(&worktree).expect_err(detail);
        assert_eq!(found, reason, "{said}");
        assert!(said.contains(detail), "{said}");
    }
}

#[test]
fn proposal_within_the_mutable_files_is_admitted_once() {
    let mut bench = Bench::new();
    let worktree = bench.worktree();
    fs::write(worktree.join("src/train.rs"), "let seed = 1;\nlet rate = 3;\n").unwrap();
    fs::write(worktree.join("src/new.rs"), "x").unwrap();
    fs::create_dir(worktree.join("target")).unwrap();
    fs::write(worktree.join("target/x"), "ignored files are no obstacle").unwrap();
    let admitted = bench.admit(&worktree).unwrap();
    assert_eq!(admitted.paths, ["src/new.rs", "src/train.rs"]);

    let effect = Effect { gain: 0.0, low: 0.0, high: 0.0, runs: 1, sigma: 0.01 };
    bench.record(1, "x", "first", &admitted.content, Verdict::Loss(effect));
    assert_eq!(bench.admit(&worktree).unwrap(), admitted, "a trial is no duplicate of itself");
    bench.state.trials[1].proposed.as_mut().unwrap().content = "other".into();
    bench.record(2, "x", "second", &admitted.content, Verdict::Loss(effect));
    let (reason, detail) = bench.admit(&worktree).unwrap_err();
    assert_eq!((reason, detail.contains("trial 2 again (second)")), (Reason::Duplicate, true), "{detail}");
}

#[test]
fn patches_are_taken_in_order_and_a_bad_one_does_not_stop_the_rest() {
    let mut bench = Bench::new();
    let ideas = bench.dir.path().join("ideas");
    fs::create_dir(&ideas).unwrap();
    let patch = |rate: &str| {
        format!(
            "--- a/src/train.rs\n+++ b/src/train.rs\n@@ -1,2 +1,2 @@\n let seed = 1;\n-let rate = 2; // two\n+let rate = {rate};\n"
        )
    };
    fs::write(ideas.join("2-bad.diff"), patch("9").replace("seed = 1", "seed = 5")).unwrap();
    fs::write(ideas.join("1-good.patch"), format!("# Triple it\n# Rates are low.\n{}", patch("3"))).unwrap();
    fs::write(
        ideas.join("3-evil.diff"),
        patch("9")
            .replace("b/src/train.rs", "b/../../../outside")
            .replace("a/src/train.rs", "a/../../../outside"),
    )
    .unwrap();
    fs::write(ideas.join("notes.txt"), "no patch").unwrap();
    let effect = Effect { gain: 0.0, low: 0.0, high: 0.0, runs: 1, sigma: 0.01 };

    let first = bench.propose("patches:ideas", None).unwrap();
    assert_eq!((first.title.as_str(), first.hypothesis.as_deref()), ("Triple it", Some("Rates are low.")));
    let worktree = bench.dir.path().join(".sprag/worktrees/run-1-1");
    assert!(fs::read_to_string(worktree.join("src/train.rs")).unwrap().contains("rate = 3"));
    assert_eq!(
        bench.propose("patches:ideas", None).unwrap(),
        first,
        "asked again after a crash it says the same"
    );
    bench.record(1, "patches:ideas", "Triple it", "1", Verdict::Loss(effect));
    for (trial, name) in [(2, "2-bad.diff does not apply"), (3, "3-evil.diff does not apply")] {
        match bench.propose("patches:ideas", None) {
            Err(Declined::Failed(cause)) => assert!(cause.contains(name), "{cause}"),
            other => panic!("{other:?}"),
        }
        bench.record(trial, "patches:ideas", "", &trial.to_string(), Verdict::Loss(effect));
    }
    match bench.propose("patches:ideas", None) {
        Err(Declined::Exhausted(reason)) => assert!(reason.contains("all 3 patches"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(bench.propose("patches:absent", None), Err(Declined::Exhausted(_))));
}

#[test]
fn command_reads_the_brief_edits_the_worktree_and_answers() {
    let mut bench = Bench::new();
    fs::write(bench.dir.path().join("hypotheses.md"), "- [ ] wider\n- [ ] halve the rate\n").unwrap();
    let effect = Effect { gain: 0.02, low: 0.01, high: 0.03, runs: 3, sigma: 0.01 };
    bench.record(1, "search", "RATE 1 -> 2", "1", Verdict::Win(effect));
    let script = r#"command:grep -q 'Be bold' "$SPRAG_BRIEF" && grep -q '2. halve the rate' "$SPRAG_BRIEF" &&
        grep -q 'trial 1: WIN +2.0 \[+1.0, +3.0\], "RATE 1 -> 2", "because \\| so"' "$SPRAG_BRIEF" &&
        grep -q 'cpu: "made up"' "$SPRAG_BRIEF" && grep -q 'gain_in_sigma": 2' "$SPRAG_BRIEF_DIR/history.json" &&
        echo 'let rate = 1;' > src/train.rs &&
        printf '%s' '{"title": "Halve\n it", "hypothesis": "smoother", "family": "rates", "idea": 2, "expected_gain": 0.02, "more": 1}' > "$SPRAG_BRIEF_DIR/proposal.json""#;
    let proposal = bench.propose(script, None).unwrap();
    let expect = Proposal {
        title: "Halve it".into(),
        hypothesis: Some("smoother".into()),
        family: Some("rates".into()),
        idea: Some("halve the rate".into()),
        expected_gain: Some(0.02),
        ..Proposal::default()
    };
    assert_eq!(proposal, expect);
    let silent = bench.propose("command:echo 'let rate = 1;' > src/train.rs", None).unwrap();
    assert_eq!(
        silent,
        Proposal { title: "change src/train.rs".into(), ..Proposal::default() },
        "the changed files speak"
    );
}

#[test]
fn command_that_repairs_sees_the_error_and_keeps_its_title() {
    let mut bench = Bench::new();
    let repair = "command:grep -q 'expected `;`' \"$SPRAG_BRIEF\"";
    assert_eq!(bench.propose(repair, Some("error: expected `;`")).unwrap().title, "First");
}

#[test]
fn command_that_fails_says_why() {
    let mut bench = Bench::new();
    for (command, declined) in [
        ("echo no key >&2; exit 3", Declined::Failed("the command exited with status 3: no key".into())),
        ("exit 1", Declined::Failed("the command exited with status 1".into())),
        (
            r#"echo '{"exhausted": "out of ideas"}' > "$SPRAG_BRIEF_DIR/proposal.json""#,
            Declined::Exhausted("out of ideas".into()),
        ),
    ] {
        assert_eq!(bench.propose(&format!("command:{command}"), None), Err(declined));
    }
    let garbled = bench.propose(r#"command:echo '{' > "$SPRAG_BRIEF_DIR/proposal.json""#, None);
    assert!(matches!(garbled, Err(Declined::Failed(cause)) if cause.contains("proposal.json")));
}

#[test]
fn proposers_are_read_and_written_alike() {
    for spec in ["search", "patches:ideas", "command:sh -c 'a:b'"] {
        assert_eq!(parse_proposer(spec).unwrap().to_string(), spec);
    }
    for (spec, expect) in [
        ("serch", "did you mean `search`?"),
        ("patch:x", "did you mean `patches`?"),
        ("patches", "as in `patches:ideas/`"),
        ("command:", "as in `command:./propose.sh`"),
        ("search:x", "takes nothing after it"),
        ("", "there are `search`"),
    ] {
        let complaint = parse_proposer(spec).expect_err(spec).to_string();
        assert!(complaint.contains(expect), "{complaint}");
    }
}
