use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A repository with one commit and a user whose configuration is hostile: hooks that fail, signing with a
/// program that does not exist, a filter that fails.
struct Fixture {
    root: TempDir,
    repo: Repo,
}

impl Fixture {
    fn new() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let task = root.path().join("task");
        let home = root.path().join("home");
        fs::create_dir_all(task.join("src")).unwrap();
        fs::create_dir_all(&home).unwrap();
        fs::write(
            home.join(".gitconfig"),
            "[user]\n name = Someone\n email = someone@example.org\n[commit]\n gpgSign = true\n\
             [gpg]\n program = /nonexistent\n[core]\n hooksPath = /nonexistent\n excludesFile = ~/ignore\n\
             [filter \"lfs\"]\n clean = cat\n smudge = false\n required = true\n",
        )
        .unwrap();
        fs::write(home.join("ignore"), "*.rs\n").unwrap();
        let environment = [
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("HOME".into(), home.into_os_string()),
            ("GIT_DIR".into(), "/nonexistent".into()),
        ];
        let plain = Repo {
            dir: task.canonicalize().unwrap(),
            common: task.join(".git"),
            environment: git::environment(&environment),
            empty_tree: String::new(),
        };
        let git = |args: &[git::Arg]| plain.git(&task, &[], args).unwrap();
        git(&[&"init", &"-q", &"-b", &"main"]);
        fs::write(task.join("src/train.rs"), "one\ntwo\nthree\nfour\nfive\n").unwrap();
        fs::write(task.join("src/main.rs"), "main\n").unwrap();
        fs::write(task.join("data.bin"), "data\n").unwrap();
        fs::write(task.join(".gitignore"), "target/\n*.log\n").unwrap();
        fs::write(task.join(".gitattributes"), "data.bin filter=lfs\n").unwrap();
        git(&[&"add", &"-A"]);
        git(&[&"commit", &"-q", &"-m", &"start"]);
        for hook in ["post-checkout", "reference-transaction", "pre-commit", "post-merge"] {
            let hook = task.join(".git/hooks").join(hook);
            fs::create_dir_all(hook.parent().unwrap()).unwrap();
            fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let repo = Repo::open_with(&task, &environment).unwrap();
        repo.exclude(".sprag/").unwrap();
        Fixture { root, repo }
    }

    fn task(&self) -> PathBuf {
        self.root.path().join("task")
    }

    fn worktree(&self, name: &str) -> PathBuf {
        let path = self.task().join(".sprag/worktrees").join(name);
        self.repo.worktree_add(&path, &self.repo.head().unwrap()).unwrap();
        path
    }

    /// Commits other content of a file on top of a commit, as a proposal would.
    fn propose(&self, name: &str, path: &str, content: &str) -> CommitId {
        let worktree = self.worktree(name);
        fs::write(worktree.join(path), content).unwrap();
        self.repo.commit_all(&worktree, name, &self.repo.head().unwrap()).unwrap()
    }

    fn user_commit(&self, path: &str, content: &str) {
        fs::write(self.task().join(path), content).unwrap();
        let repo = Repo { empty_tree: String::new(), ..self.repo.clone() };
        repo.git(&self.task(), &[], &[&"commit", &"-q", &"-a", &"-m", &"user"]).unwrap();
    }

    fn status(&self) -> String {
        self.repo.git(&self.task(), &[], &[&"status", &"--porcelain"]).unwrap()
    }
}

fn found(changes: &[Change]) -> Vec<(&str, ChangeKind)> {
    changes.iter().map(|change| (change.path.as_str(), change.kind)).collect()
}

#[test]
fn proposal_is_committed_and_the_users_checkout_is_not_touched() {
    let fixture = Fixture::new();
    let (repo, head) = (&fixture.repo, fixture.repo.head().unwrap());
    let commit = fixture.propose("a", "src/train.rs", "one\ntwo\n3\nfour\nfive\n");
    assert_eq!(repo.diff_stat(&head, &commit).unwrap(), (1, 1));
    assert!(repo.diff(&head, &commit).unwrap().contains("-three\n+3\n"));
    assert_eq!(repo.show(&commit, "src/train.rs").unwrap().unwrap(), b"one\ntwo\n3\nfour\nfive\n");
    assert_eq!(repo.show(&commit, "src/absent.rs").unwrap(), None);
    assert_eq!(repo.show(&commit, "src").unwrap(), None);
    assert_eq!(
        repo.files(&commit).unwrap(),
        [".gitattributes", ".gitignore", "data.bin", "src/main.rs", "src/train.rs"]
    );
    assert_eq!(repo.head().unwrap(), head);
    assert_eq!(fixture.status(), "");
    assert_eq!(repo.current_branch().unwrap().as_deref(), Some("main"));
}

#[test]
fn refs_are_written_listed_and_deleted() {
    let fixture = Fixture::new();
    let (repo, head) = (&fixture.repo, fixture.repo.head().unwrap());
    let other = fixture.propose("a", "src/train.rs", "x");
    assert_eq!(repo.read_ref("refs/sprag/run-1/1").unwrap(), None);
    repo.set_ref("refs/sprag/run-1/1", &other, None).unwrap();
    repo.set_ref("refs/sprag/run-1/1", &other, None).unwrap();
    assert!(repo.set_ref("refs/sprag/run-1/1", &head, Some(&head)).is_err());
    repo.set_ref("refs/sprag/run-1/1", &head, Some(&other)).unwrap();
    assert_eq!(repo.list_refs("refs/sprag").unwrap(), [("refs/sprag/run-1/1".to_owned(), head.clone())]);
    repo.delete_ref("refs/sprag/run-1/1").unwrap();
    repo.delete_ref("refs/sprag/run-1/1").unwrap();
    assert_eq!(repo.list_refs("refs/sprag").unwrap(), []);
    assert_eq!(repo.resolve("main").unwrap(), head);
    assert!(repo.resolve("--help").is_err());
}

#[test]
fn every_kind_of_change_is_told_apart() {
    let fixture = Fixture::new();
    let head = fixture.repo.head().unwrap();
    let worktree = fixture.worktree("a");
    let at = |path: &str| worktree.join(path);
    fs::write(at("src/train.rs"), "other").unwrap();
    fs::set_permissions(at("src/main.rs"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(at(".gitattributes")).unwrap();
    fs::write(at("src/new file.rs"), "").unwrap();
    symlink("/etc/passwd", at("src/link.rs")).unwrap();
    fs::create_dir_all(at("target/deep/.git")).unwrap();
    fs::write(at("target/deep/x"), "").unwrap();
    fs::write(at("src/noise.log"), "").unwrap();
    fs::create_dir_all(at("vendor/.git")).unwrap();
    fs::write(at("vendor/.git/hidden"), "").unwrap();
    fs::write(at("vendor/code.rs"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("src/socket")).unwrap();
    let changes = fixture.repo.changes(&worktree, &head).unwrap();
    assert_eq!(
        found(&changes),
        [
            (".gitattributes", ChangeKind::Deleted),
            ("src/link.rs", ChangeKind::Symlink),
            ("src/main.rs", ChangeKind::Mode),
            ("src/new file.rs", ChangeKind::Added),
            ("src/noise.log", ChangeKind::Ignored),
            ("src/socket", ChangeKind::Special),
            ("src/train.rs", ChangeKind::Modified),
            ("target/", ChangeKind::Ignored),
            ("vendor/.git", ChangeKind::Repository),
        ]
    );
    fixture.repo.commit_all(&worktree, "all the same", &head).unwrap();
    fixture.repo.worktree_remove(&worktree).unwrap();
}

#[test]
fn what_a_proposer_does_to_git_itself_changes_nothing() {
    let fixture = Fixture::new();
    let (repo, head) = (&fixture.repo, fixture.repo.head().unwrap());
    let expect = [("src/train.rs", ChangeKind::Modified)];
    let tamperings: [fn(&Repo, &Path); 5] = [
        |_, worktree| fs::remove_file(worktree.join(".git")).unwrap(),
        |_, worktree| fs::write(worktree.join(".git"), "gitdir: /nonexistent\n").unwrap(),
        |repo, worktree| {
            fs::remove_file(worktree.join(".git")).unwrap();
            repo.git(worktree, &[], &[&"init", &"-q"]).unwrap();
        },
        |repo, worktree| {
            repo.git(worktree, &[], &[&"checkout", &"-q", &"-b", &"mine"]).unwrap();
            repo.git(worktree, &[], &[&"commit", &"-q", &"-a", &"-m", &"mine"]).unwrap();
        },
        |repo, worktree| {
            repo.git(worktree, &[], &[&"update-index", &"--assume-unchanged", &"src/train.rs"]).unwrap();
        },
    ];
    for (number, tamper) in tamperings.iter().enumerate() {
        let worktree = fixture.worktree("a");
        fs::write(worktree.join("src/train.rs"), format!("{number}")).unwrap();
        tamper(repo, &worktree);
        assert_eq!(found(&repo.changes(&worktree, &head).unwrap()), expect, "tampering {number}");
        let commit = repo.commit_all(&worktree, "proposal", &head).unwrap();
        assert_eq!(repo.resolve(&format!("{commit}^")).unwrap(), head);
        let top = repo.git(&worktree, &[], &[&"rev-parse", &"--show-toplevel"]).unwrap();
        assert_eq!(Path::new(&top), worktree.canonicalize().unwrap(), "the link is mended");
        repo.worktree_remove(&worktree).unwrap();
    }
    assert_eq!(repo.head().unwrap(), head);
    assert_eq!(fixture.status(), "");
}

#[test]
fn removed_worktree_counts_as_deleted_files() {
    let fixture = Fixture::new();
    let worktree = fixture.worktree("a");
    fs::remove_dir_all(&worktree).unwrap();
    let changes = fixture.repo.changes(&worktree, &fixture.repo.head().unwrap()).unwrap();
    assert_eq!(changes.len(), 5);
    assert!(changes.iter().all(|change| change.kind == ChangeKind::Deleted));
}

#[test]
fn two_hundred_worktrees_leave_nothing_behind() {
    let fixture = Fixture::new();
    let head = fixture.repo.head().unwrap();
    for number in 0..200 {
        let worktree = fixture.worktree(&format!("run-1-{number}"));
        match number % 20 {
            1 => {
                // A crash between the folder's end and git's notes.
                fs::remove_dir_all(&worktree).unwrap();
                fixture.repo.prune().unwrap();
            }
            2 => {
                fs::create_dir(worktree.join("locked")).unwrap();
                fs::set_permissions(worktree.join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
                fixture.repo.worktree_remove(&worktree).unwrap();
            }
            3 => {
                fixture.repo.worktree_add(&worktree, &head).unwrap();
                fixture.repo.worktree_remove(&worktree).unwrap();
            }
            _ => fixture.repo.worktree_remove(&worktree).unwrap(),
        }
    }
    let entries = |path: &str| fs::read_dir(fixture.task().join(path)).map_or(0, |entries| entries.count());
    assert_eq!(entries(".sprag/worktrees"), 0);
    assert_eq!(entries(".git/worktrees"), 0);
    let leftovers = fs::read_dir(fixture.task().join(".git")).unwrap().flatten();
    let ours: Vec<_> =
        leftovers.filter(|entry| entry.file_name().to_string_lossy().contains("sprag")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!(fixture.status(), "");
}

#[test]
fn prune_leaves_the_users_own_worktrees_alone() {
    let fixture = Fixture::new();
    let theirs = fixture.root.path().join("theirs");
    let head = fixture.repo.head().unwrap();
    fixture
        .repo
        .git(&fixture.task(), &[], &[&"worktree", &"add", &"-q", &"--detach", &theirs, &head])
        .unwrap();
    fs::rename(&theirs, fixture.root.path().join("unplugged")).unwrap();
    fixture.repo.prune().unwrap();
    assert_eq!(fs::read_dir(fixture.task().join(".git/worktrees")).unwrap().count(), 1);
}

#[test]
fn only_our_own_leftovers_are_removed() {
    let fixture = Fixture::new();
    let git = fixture.task().join(".git");
    let ours =
        ["refs/heads/sprag/run-1.lock", "refs/sprag/run-1/3.lock", "sprag-index-a-7", "sprag-merge-7/old"];
    let theirs = ["index.lock", "refs/heads/main.lock", "packed-refs.lock"];
    for path in ours.iter().chain(&theirs).map(|name| git.join(name)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let head = fixture.repo.head().unwrap();
    assert!(fixture.repo.set_ref("refs/sprag/run-1/3", &head, None).is_err(), "a lock stops git");
    assert_eq!(fixture.repo.leftovers().len(), ours.len());
    fixture.repo.remove_leftovers().unwrap();
    assert_eq!(fixture.repo.leftovers(), [] as [PathBuf; 0]);
    assert!(theirs.iter().all(|name| git.join(name).exists()));
    fixture.repo.set_ref("refs/sprag/run-1/3", &head, None).unwrap();
}

#[test]
fn champion_arrives_as_one_commit_in_a_clean_checkout() {
    let fixture = Fixture::new();
    let (repo, base) = (&fixture.repo, fixture.repo.head().unwrap());
    let champion = fixture.propose("a", "src/train.rs", "ONE\ntwo\nthree\nfour\nfive\n");
    fixture.user_commit("src/train.rs", "one\ntwo\nthree\nfour\nFIVE\n");
    let before = repo.head().unwrap();
    fs::write(fixture.task().join("notes.txt"), "untracked").unwrap();
    let commit = repo.merge_into("main", &base, &champion, "Take it\n\nEvidence.").unwrap();
    assert_eq!(repo.head().unwrap(), commit);
    assert_eq!(repo.resolve(&format!("{commit}^")).unwrap(), before);
    let text = fs::read_to_string(fixture.task().join("src/train.rs")).unwrap();
    assert_eq!(text, "ONE\ntwo\nthree\nfour\nFIVE\n");
    assert_eq!(fixture.status(), "?? notes.txt");
    let author = repo.git(&fixture.task(), &[], &[&"log", &"-1", &"--format=%an"]).unwrap();
    assert_eq!(author, "Someone");
    let again = repo.merge_into("main", &base, &champion, "Take it").unwrap_err();
    assert!(matches!(again, RepoError::NothingToMerge { .. }), "{again}");
}

#[test]
fn branch_that_is_not_checked_out_moves_alone() {
    let fixture = Fixture::new();
    let (repo, base) = (&fixture.repo, fixture.repo.head().unwrap());
    let champion = fixture.propose("a", "src/new.rs", "new\n");
    repo.set_ref("refs/heads/other", &base, None).unwrap();
    fs::write(fixture.task().join("src/train.rs"), "the user is at work").unwrap();
    let commit = repo.merge_into("other", &base, &champion, "Take it").unwrap();
    assert_eq!(repo.read_ref("refs/heads/other").unwrap(), Some(commit.clone()));
    assert_eq!(repo.show(&commit, "src/new.rs").unwrap().unwrap(), b"new\n");
    assert_eq!(repo.head().unwrap(), base);
    assert_eq!(fixture.status(), " M src/train.rs");
}

#[test]
fn merge_that_cannot_be_clean_changes_nothing_and_says_what_to_do() {
    let fixture = Fixture::new();
    let (repo, base) = (&fixture.repo, fixture.repo.head().unwrap());
    let champion = fixture.propose("a", "src/train.rs", "ONE\n");
    let missing = repo.merge_into("absent", &base, &champion, "x").unwrap_err().to_string();
    assert!(missing.contains("git branch absent"), "{missing}");

    fs::write(fixture.task().join("src/main.rs"), "not committed").unwrap();
    let dirty = repo.merge_into("main", &base, &champion, "x").unwrap_err().to_string();
    assert!(dirty.contains("src/main.rs") && dirty.contains("commit or stash"), "{dirty}");

    fixture.user_commit("src/train.rs", "uno\n");
    let before = repo.head().unwrap();
    let conflict = repo.merge_into("main", &base, &champion, "x").unwrap_err().to_string();
    assert!(conflict.contains("src/train.rs") && conflict.contains("git merge"), "{conflict}");
    assert_eq!(repo.head().unwrap(), before);
    assert_eq!(fixture.status(), "");
}

#[test]
fn folders_that_are_no_task_repository_are_named() {
    let fixture = Fixture::new();
    let complaint = |path: &Path| Repo::open(path).unwrap_err().to_string();
    let inner = complaint(&fixture.task().join("src"));
    assert!(inner.contains("top folder is") && inner.contains("git init"), "{inner}");
    let plain = complaint(fixture.root.path());
    assert!(plain.contains("not a git repository"), "{plain}");
    assert!(complaint(Path::new("/nonexistent")).contains("/nonexistent"));
    let empty = fixture.root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fixture.repo.git(&empty, &[], &[&"init", &"-q"]).unwrap();
    let no_commit = Repo::open(&empty).unwrap().head().unwrap_err().to_string();
    assert!(no_commit.contains("commit the task's files"), "{no_commit}");
}

/// Git counts its syncs in its trace from 2.36 on, which also is the first that can be told to make them.
#[test]
fn objects_and_refs_are_synced_to_the_disk() {
    let fixture = Fixture::new();
    let (repo, task) = (&fixture.repo, fixture.task());
    let trace = fixture.root.path().join("trace");
    let syncs = |args: &[git::Arg]| {
        let _ = fs::remove_file(&trace);
        let env: [(&str, git::Arg); 1] = [("GIT_TRACE2_PERF", &trace)];
        repo.git(&task, &env, args).unwrap();
        fs::read_to_string(&trace).unwrap().contains("hardware-flush")
    };
    let version = repo.git(&task, &[], &[&"version"]).unwrap();
    let mut numbers = version.split(|sign: char| !sign.is_ascii_digit()).filter_map(|part| part.parse().ok());
    let can_sync = (numbers.next(), numbers.next()) >= (Some(2), Some(36));
    fs::write(task.join("new"), "new\n").unwrap();
    assert_eq!(syncs(&[&"hash-object", &"-w", &"new"]), can_sync, "a loose object");
    assert_eq!(syncs(&[&"update-ref", &"refs/sprag/run-1/1", &repo.head().unwrap()]), can_sync, "a ref");
    assert!(!syncs(&[&"rev-parse", &"HEAD"]), "the trace tells reading from writing");
}

#[test]
fn exclude_is_written_once() {
    let fixture = Fixture::new();
    fixture.repo.exclude(".sprag/").unwrap();
    let text = fs::read_to_string(fixture.task().join(".git/info/exclude")).unwrap();
    assert_eq!(text.matches(".sprag/").count(), 1);
}

#[test]
fn what_the_user_excludes_stays_whatever_its_bytes() {
    let fixture = Fixture::new();
    let info = fixture.task().join(".git/info");
    fs::write(info.join("exclude"), b"caf\xe9\nlast").unwrap();
    fixture.repo.exclude(".sprag/").unwrap();
    assert_eq!(fs::read(info.join("exclude")).unwrap(), b"caf\xe9\nlast\n.sprag/\n");
    assert_eq!(fs::read_dir(&info).unwrap().count(), 1, "nothing is left beside it");
    // A name that cannot be written: the old file stays whole.
    fs::write(info.join("exclude"), "mine\n").unwrap();
    fs::create_dir(info.join("exclude.sprag-partial")).unwrap();
    assert!(fixture.repo.exclude(".sprag/").is_err());
    assert_eq!(fs::read_to_string(info.join("exclude")).unwrap(), "mine\n");
}
