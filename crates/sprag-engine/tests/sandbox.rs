//! What a confined command can and cannot do, tried for real.
//!
//! Where the kernel lacks a required part, each test says so and checks the refusal instead.
#![cfg(target_os = "linux")]

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sprag_engine::sandbox::{
    Capabilities, Launcher, Network, OnViolation, Part, Policy, SETUP_FAILED, capabilities,
    killed_by_sandbox, setup_error, wrap,
};
use sprag_measure::process::{Cancel, Command, End, Finished, Limits, Stdin, run};

/// Cargo builds the examples of a package before it runs its tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let path = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p sprag-engine --examples`", path.display());
    path
}

fn launcher() -> Launcher {
    Launcher { program: example("sandbox_launcher"), args: Vec::new() }
}

/// Folders for one test.
struct Cell {
    dir: tempfile::TempDir,
}

impl Cell {
    /// `None`, aloud, where this machine cannot confine; then the refusal is checked instead.
    fn new() -> Option<Cell> {
        static CAPABILITIES: OnceLock<Capabilities> = OnceLock::new();
        let capabilities = CAPABILITIES.get_or_init(|| capabilities(&launcher()));
        let cell = Cell { dir: tempfile::tempdir().expect("a temporary folder") };
        for name in ["scratch", "listed", "unlisted"] {
            fs::create_dir(cell.path(name)).expect("a folder");
        }
        fs::write(cell.path("listed/file"), "listed").expect("a file");
        fs::write(cell.path("unlisted/file"), "unlisted").expect("a file");
        if capabilities.complete() {
            return Some(cell);
        }
        for missing in &capabilities.missing {
            eprintln!("NOT TESTED: this machine has no {missing}; {}", missing.hint);
        }
        let finished = cell.run(cell.policy(), &Limits::default(), "/bin/sh", &["-c", "echo started"]);
        assert!(setup_error(&finished).is_some(), "an incomplete sandbox must refuse to start the command");
        assert!(finished.stdout.is_empty());
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    fn policy(&self) -> Policy {
        Policy {
            keep: Vec::new(),
            read: vec![self.path("listed"), example("sandbox_inmate")],
            write: vec![self.path("scratch")],
            devices: Vec::new(),
            network: Network::None,
            on_network: OnViolation::Refuse,
            processes: 64,
            file_bytes: 1 << 20,
            open_files: 64,
        }
    }

    fn command(&self, program: impl Into<PathBuf>, args: &[&str]) -> Command {
        Command::new(program, self.path("scratch")).args(args).env("PATH", "/usr/bin:/bin")
    }

    fn run(&self, policy: Policy, limits: &Limits, program: impl Into<PathBuf>, args: &[&str]) -> Finished {
        let command = wrap(self.command(program, args), &policy, &launcher());
        run(command, limits, &Cancel::default(), &mut |_, _| ()).expect("the launcher starts")
    }

    fn sh(&self, script: &str) -> Finished {
        self.run(self.policy(), &Limits::default(), "/bin/sh", &["-c", script])
    }

    /// What the inmate says of its attempt.
    fn attempt(&self, args: &[&str]) -> String {
        let finished = self.run(self.policy(), &Limits::default(), example("sandbox_inmate"), args);
        assert!(finished.end.success(), "{args:?}: {} {}", finished.end, finished.stderr.text());
        finished.stdout.text().trim().to_owned()
    }

    fn check_denied(&self, args: &[&str]) {
        let answer = self.attempt(args);
        // Landlock says EACCES, read-only mounts EROFS, a link across mounts EXDEV, seccomp EPERM.
        let denials = [libc::EACCES, libc::EROFS, libc::EXDEV, libc::EPERM];
        assert!(denials.iter().any(|errno| answer == format!("error {errno}")), "{args:?}: {answer}");
    }

    fn check_allowed(&self, args: &[&str]) {
        assert_eq!(self.attempt(args), "ok", "{args:?}");
    }
}

#[test]
fn only_listed_files_can_be_read() {
    let Some(cell) = Cell::new() else { return };
    cell.check_allowed(&["read", &cell.text("listed/file")]);
    cell.check_allowed(&["list", &cell.text("listed")]);
    cell.check_denied(&["read", &cell.text("unlisted/file")]);
    cell.check_denied(&["list", &cell.text("unlisted")]);
    cell.check_denied(&["read", "/etc/hostname"]);
    cell.check_denied(&["list", "/"]);
    let climbing = format!("{}/../unlisted/file", cell.text("listed"));
    cell.check_denied(&["read", &climbing]);
}

#[test]
fn only_the_scratch_folder_can_be_written() {
    let Some(cell) = Cell::new() else { return };
    let (inside, outside) = (cell.text("scratch/file"), cell.text("listed/file"));
    cell.check_allowed(&["write", &inside]);
    cell.check_allowed(&["write", "relative"]);
    cell.check_allowed(&["append", &inside]);
    cell.check_allowed(&["change-mode", &inside]);
    cell.check_allowed(&["make-folder", &cell.text("scratch/folder")]);
    cell.check_allowed(&["rename", &inside, &cell.text("scratch/folder/file")]);
    assert_eq!(fs::read_to_string(cell.path("scratch/folder/file")).expect("kept"), "written");
    for attempt in ["write", "append", "truncate", "remove", "change-mode"] {
        cell.check_denied(&[attempt, &outside]);
    }
    cell.check_denied(&["write", &cell.text("listed/new")]);
    cell.check_denied(&["make-folder", &cell.text("unlisted/new")]);
    cell.check_denied(&["rename", &cell.text("scratch/relative"), &cell.text("listed/relative")]);
    cell.check_denied(&["rename", &outside, &cell.text("scratch/stolen")]);
    assert_eq!(fs::read_to_string(cell.path("listed/file")).expect("kept"), "listed");
}

#[test]
fn links_do_not_lead_out_of_the_scratch_folder() {
    let Some(cell) = Cell::new() else { return };
    for (target, link) in [("listed/file", "scratch/to-listed"), ("unlisted/file", "scratch/to-unlisted")] {
        cell.check_allowed(&["symbolic-link", &cell.text(target), &cell.text(link)]);
        cell.check_denied(&["write", &cell.text(link)]);
        cell.check_denied(&["hard-link", &cell.text(target), &cell.text("scratch/hard")]);
    }
    cell.check_allowed(&["read", &cell.text("scratch/to-listed")]);
    cell.check_denied(&["read", &cell.text("scratch/to-unlisted")]);
    assert_eq!(fs::read_to_string(cell.path("listed/file")).expect("kept"), "listed");
    assert_eq!(fs::read_to_string(cell.path("unlisted/file")).expect("kept"), "unlisted");
}

#[test]
fn there_is_no_network() {
    let Some(cell) = Cell::new() else { return };
    let refused = format!("error {}", libc::EPERM);
    assert_eq!(cell.attempt(&["tcp"]), refused);
    assert_eq!(cell.attempt(&["udp"]), refused);
    assert_eq!(cell.attempt(&["unix-listen", &cell.text("scratch/socket")]), refused);
    assert_eq!(cell.attempt(&["unix-datagram-pair"]), refused);
    cell.check_allowed(&["unix-pair"]);
}

#[test]
fn a_socket_kills_where_the_policy_says_so() {
    let Some(cell) = Cell::new() else { return };
    let policy = Policy { on_network: OnViolation::Kill, ..cell.policy() };
    for family in ["tcp", "udp"] {
        let finished = cell.run(policy.clone(), &Limits::default(), example("sandbox_inmate"), &[family]);
        assert_eq!(finished.end, End::Signalled(libc::SIGSYS));
        assert!(killed_by_sandbox(finished.end) && finished.stdout.is_empty());
    }
    let finished = cell.run(policy, &Limits::default(), example("sandbox_inmate"), &["unix-pair"]);
    assert!(finished.end.success(), "{}", finished.end);
}

#[test]
fn the_end_of_the_command_is_the_end_that_is_seen() {
    let Some(cell) = Cell::new() else { return };
    assert_eq!(cell.sh("exit 0").end, End::Exited(0));
    assert_eq!(cell.sh("exit 7").end, End::Exited(7));
    assert_eq!(cell.sh("exit 139").end, End::Exited(139));
    for (name, signal) in [("SEGV", libc::SIGSEGV), ("KILL", libc::SIGKILL), ("TERM", libc::SIGTERM)] {
        let finished = cell.sh(&format!("kill -{name} $$"));
        assert_eq!(finished.end, End::Signalled(signal));
        assert!(!killed_by_sandbox(finished.end));
    }
}

#[test]
fn a_failed_setup_is_told_from_a_failed_command() {
    let Some(cell) = Cell::new() else { return };
    let refused = i32::from(SETUP_FAILED);
    let finished = cell.run(cell.policy(), &Limits::default(), "no-such-program", &[]);
    assert_eq!(finished.end, End::Exited(refused));
    let error = setup_error(&finished).expect("not started");
    assert!(error.contains("no-such-program"), "{error}");

    let policy = Policy { write: vec![cell.path("absent")], ..cell.policy() };
    let error = setup_error(&cell.run(policy, &Limits::default(), "/bin/sh", &["-c", "exit 0"]))
        .expect("not started");
    assert!(error.contains("absent"), "{error}");

    let finished = cell.sh(&format!("exit {refused}"));
    assert_eq!((finished.end, setup_error(&finished)), (End::Exited(refused), None));
}

#[test]
fn a_kept_file_below_a_writable_folder_is_not_changed() {
    let Some(cell) = Cell::new() else { return };
    std::fs::write(cell.path("scratch/kept"), "as it was").unwrap();
    let policy = Policy { keep: vec![cell.path("scratch/kept")], ..cell.policy() };
    let script =
        "echo x > new && cat kept && ! echo y > kept && ! rm kept && ! mv kept gone && ! ln -f new kept";
    let finished = cell.run(policy, &Limits::default(), "/bin/sh", &["-c", script]);
    let mounts = capabilities(&launcher()).weaker.iter().all(|weaker| weaker.part != Part::Mounts);
    assert_eq!(finished.end.success(), mounts, "{} {}", finished.end, finished.stderr.text());
    assert!(!mounts || std::fs::read_to_string(cell.path("scratch/kept")).unwrap() == "as it was");
}

#[test]
fn streams_environment_and_folder_are_the_commands_own() {
    let Some(cell) = Cell::new() else { return };
    let command =
        cell.command("/bin/sh", &["-c", "cat; echo \"$MARK $TMPDIR\"; pwd; exec env"]).env("MARK", "set");
    let command = wrap(command.stdin(Stdin::Bytes(b"input\n".to_vec())), &cell.policy(), &launcher());
    let mut lines = Vec::new();
    run(command, &Limits::default(), &Cancel::default(), &mut |_, line| lines.push(line.to_owned()))
        .expect("starts");
    let scratch = cell.text("scratch");
    assert_eq!(lines[..3], ["input".to_owned(), format!("set {scratch}"), scratch]);
    let mut names: Vec<&str> = lines[3..].iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // The shell's own additions.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["MARK", "PATH", "TMPDIR"]);
}

#[test]
fn a_temporary_folder_named_by_the_command_stays() {
    let policy = Policy { write: vec!["/one".into(), "/two".into()], ..bare_policy() };
    let tmpdir = |command: Command| {
        let wrapped =
            wrap(command, &policy, &Launcher { program: "launcher".into(), args: vec!["hidden".into()] });
        assert_eq!(wrapped.program, Path::new("launcher"));
        assert_eq!(wrapped.args[0], "hidden");
        assert_eq!(wrapped.args[2..], ["--", "program", "argument"].map(OsString::from));
        let parsed: Policy = serde_json::from_str(wrapped.args[1].to_str().expect("text")).expect("a policy");
        assert_eq!(parsed, policy);
        wrapped
            .env
            .into_iter()
            .filter(|(name, _)| name == "TMPDIR")
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let command = || Command::new("program", "/").args(["argument"]);
    assert_eq!(tmpdir(command()), ["/two"]);
    assert_eq!(tmpdir(command().env("TMPDIR", "/own")), ["/own"]);
}

#[test]
fn a_listed_device_can_be_written() {
    let Some(cell) = Cell::new() else { return };
    let open = |policy| {
        let finished =
            cell.run(policy, &Limits::default(), example("sandbox_inmate"), &["append", "/dev/random"]);
        finished.stdout.text().trim().to_owned()
    };
    let listed = Policy { devices: vec!["/dev/random".into()], ..cell.policy() };
    assert_eq!(open(listed), "ok");
    assert_ne!(open(cell.policy()), "ok", "everybody may read it, nobody may write to it");
}

fn bare_policy() -> Policy {
    Policy {
        keep: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
        devices: Vec::new(),
        network: Network::None,
        on_network: OnViolation::Refuse,
        processes: 8,
        file_bytes: 1,
        open_files: 8,
    }
}

#[test]
fn the_peer_of_a_socket_sees_the_command_close_it() {
    let Some(cell) = Cell::new() else { return };
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let command =
        cell.command("/bin/sh", &["-c", "echo through >&0; exec 0</dev/null; echo closed; sleep 600"]);
    let command = wrap(command.stdin(Stdin::Socket(OwnedFd::from(theirs))), &cell.policy(), &launcher());
    let cancel = Cancel::default();
    let mut heard = String::new();
    let finished = run(command, &Limits::default(), &cancel, &mut |_, line| {
        assert_eq!(line, "closed");
        // Returns only when the launcher holds no copy either.
        ours.read_to_string(&mut heard).expect("the end comes while the command lives");
        cancel.cancel();
    });
    assert_eq!(finished.expect("starts").end, End::Cancelled);
    assert_eq!(heard, "through\n");
}

#[test]
fn no_privilege_is_left() {
    let Some(cell) = Cell::new() else { return };
    let status = cell.sh("cat /proc/self/status").stdout.text();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim_start_matches(':').trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{set}");
    }
    assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp").as_str()), ("1", "2"));
}

#[test]
fn other_processes_cannot_be_seen_or_signalled() {
    let Some(cell) = Cell::new() else { return };
    let own = std::process::id();
    for file in ["environ", "mem", "maps", "fd/0"] {
        let answer = cell.attempt(&["read", &format!("/proc/{own}/{file}")]);
        assert!(answer.starts_with("error"), "{file}: {answer}");
    }
    // Nor init's and the shim's, whose numbers inside are 1 and none.
    cell.check_denied(&["read", "/proc/1/environ"]);
    assert_eq!(cell.sh(&format!("kill -0 {own}")).end, End::Exited(1));
    assert_eq!(cell.sh("kill -KILL 1; echo alive").stdout.text(), "alive\n");
    cell.check_allowed(&["read", "/proc/self/maps"]);
    cell.check_allowed(&["read", "/sys/devices/system/cpu/possible"]);
    cell.check_allowed(&["thread"]);
}

#[test]
fn shared_memory_is_private() {
    let Some(cell) = Cell::new() else { return };
    if !capabilities(&launcher()).weaker.is_empty() {
        eprintln!("NOT TESTED: no private mounts on this machine");
        return;
    }
    let name = format!("/dev/shm/sprag-test-{}", std::process::id());
    cell.check_allowed(&["write", &name]);
    assert!(!Path::new(&name).exists());
}

#[test]
fn files_have_a_largest_size() {
    let Some(cell) = Cell::new() else { return };
    let finished = cell.sh("exec head -c 4000000 /dev/zero > large");
    assert_eq!(finished.end, End::Signalled(libc::SIGXFSZ));
    assert_eq!(fs::metadata(cell.path("scratch/large")).expect("written").len(), 1 << 20);
}

#[test]
fn memory_is_counted_through_the_sandbox() {
    let Some(cell) = Cell::new() else { return };
    let limits =
        Limits { memory_bytes: Some(64 << 20), wall: Some(Duration::from_secs(60)), ..Limits::default() };
    let eater = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo ${#x}; sleep 600";
    let finished = cell.run(cell.policy(), &limits, "/bin/sh", &["-c", eater]);
    assert_eq!(finished.end, End::MemoryExceeded);
    assert!(finished.peak_memory_bytes > 64 << 20 && finished.stdout.is_empty());
}

/// Far beyond what any of these needs; a test that reaches it fails by the end it reports.
fn patient() -> Limits {
    Limits { wall: Some(Duration::from_secs(120)), ..Limits::default() }
}

/// A word by which a process of this test is known among all of the machine's.
fn mark(name: &str) -> String {
    format!("sprag-{name}-{}", std::process::id())
}

/// Processes, zombies aside, whose command line holds the word: number, parent, and whether it is a launcher.
fn marked(mark: &str) -> Vec<(u32, u32, bool)> {
    let numbers = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let look = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        line.contains(mark)
            .then(|| (pid, parent, line.split('\0').next().is_some_and(|it| it.ends_with("launcher"))))
    };
    numbers.filter_map(look).collect()
}

/// Leaves a process in a session of its own, orphaned, without our pipes.
fn daemon(mark: &str) -> String {
    format!("(setsid sh -c 'sleep 600; : {mark}' </dev/null >/dev/null 2>&1 &); echo ready;")
}

#[test]
fn a_daemon_dies_when_the_command_ends() {
    let Some(cell) = Cell::new() else { return };
    let mark = mark("daemon");
    let script = format!("{} read line; exit 3", daemon(&mark));
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let command = cell.command("/bin/sh", &["-c", &script]).stdin(Stdin::Socket(OwnedFd::from(theirs)));
    let (mut met, mut ours) = (Vec::new(), Some(ours));
    let finished =
        run(wrap(command, &cell.policy(), &launcher()), &patient(), &Cancel::default(), &mut |_, _| {
            met = marked(&mark);
            // The end of its input lets the shell go on.
            ours = None;
        });
    assert_eq!(finished.expect("starts").end, End::Exited(3));
    assert!(met.iter().any(|(_, _, launcher)| !launcher), "something ran inside");
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_daemon_dies_with_the_launcher_itself() {
    let Some(cell) = Cell::new() else { return };
    let mark = mark("orphan");
    let script = format!("{} exec sleep 600", daemon(&mark));
    let confined = wrap(cell.command("/bin/sh", &["-c", &script]), &cell.policy(), &launcher());
    // A shell around the launcher outlives it, so that nothing but the kernel ends what was inside.
    let mut words = vec![OsString::from("-c"), "\"$@\"; echo over; read line".into(), "outer".into()];
    words.push(confined.program.into());
    words.extend(confined.args);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let command = cell.command("/bin/sh", &[]).args(words).stdin(Stdin::Socket(OwnedFd::from(theirs)));
    let (mut killed, mut ours) = (false, Some(ours));
    run(command, &patient(), &Cancel::default(), &mut |_, line| match line {
        "ready" => {
            let all = marked(&mark);
            let launchers: Vec<u32> =
                all.iter().filter(|(_, _, launcher)| *launcher).map(|(pid, ..)| *pid).collect();
            let shim = all.iter().find(|(_, parent, launcher)| *launcher && !launchers.contains(parent));
            let (shim, ..) = shim.expect("the launcher runs");
            assert!(all.len() > launchers.len(), "something runs inside");
            let kill = Command::new("/bin/sh", "/").args(["-c".to_owned(), format!("kill -KILL {shim}")]);
            run(kill, &Limits::default(), &Cancel::default(), &mut |_, _| ()).expect("a shell");
            killed = true;
        }
        "over" => {
            let deadline = Instant::now() + Duration::from_secs(20);
            // The outer shell's command line holds the word as well, and it alone stays.
            while marked(&mark).len() > 1 {
                assert!(Instant::now() < deadline, "still there: {:?}", marked(&mark));
                std::thread::sleep(Duration::from_millis(5));
            }
            ours = None;
        }
        _ => {}
    })
    .expect("starts");
    assert!(killed && ours.is_none());
}

#[test]
fn a_crowd_is_stopped_and_none_of_it_survives() {
    let Some(cell) = Cell::new() else { return };
    let mark = mark("crowd");
    let limits = Limits { processes: Some(32), ..Limits::default() };
    let crowd = format!(": {mark}; for i in $(seq 100); do (setsid sleep 600 &); sleep 600 & done; wait");
    let policy = Policy { processes: 512, ..cell.policy() };
    let finished = cell.run(policy, &limits, "/bin/sh", &["-c", &crowd]);
    assert_eq!(finished.end, End::TooManyProcesses);
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_fork_bomb_is_bounded_and_none_of_it_survives() {
    let Some(cell) = Cell::new() else { return };
    let mark = mark("bomb");
    let limits = Limits { processes: Some(128), wall: Some(Duration::from_secs(2)), ..Limits::default() };
    let bomb = format!("bomb() {{ bomb & bomb & sleep 600; }}; : {mark}; bomb");
    let finished = cell.run(cell.policy(), &limits, "/bin/sh", &["-c", &bomb]);
    // Whatever comes first: a fork refused to the outermost shell, the watchdog, or the deadline.
    assert!(!finished.end.success(), "{}", finished.end);
    assert_eq!(marked(&mark), []);
}

#[test]
fn a_small_crate_builds_offline_and_cannot_include_what_is_not_listed() {
    let Some(cell) = Cell::new() else { return };
    let cargo = Path::new(env!("CARGO"));
    let toolchain = cargo.ancestors().nth(2).expect("<toolchain>/bin/cargo");
    let package = cell.path("scratch/package");
    fs::create_dir_all(package.join("src")).expect("a folder");
    // Read-only for the build: cargo must do without the lock that it keeps there.
    fs::create_dir(cell.path("listed/home")).expect("a folder");
    let manifest = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(package.join("Cargo.toml"), manifest).expect("a file");
    let build = |source: String| {
        fs::write(package.join("src/main.rs"), source).expect("a file");
        let path = format!("{}:/usr/bin:/bin", toolchain.join("bin").display());
        let mut command =
            Command::new(cargo, &package).args(["build", "--offline", "--quiet"]).env("PATH", path);
        command = command.env("CARGO_HOME", cell.path("listed/home"));
        command =
            command.env("CARGO_TARGET_DIR", cell.path("scratch/target")).env("HOME", cell.path("scratch"));
        let policy = Policy { file_bytes: 1 << 30, open_files: 1024, processes: 512, ..cell.policy() };
        let policy = Policy { read: [policy.read, vec![toolchain.to_owned()]].concat(), ..policy };
        let command = wrap(command, &policy, &launcher());
        run(command, &Limits::default(), &Cancel::default(), &mut |_, _| ()).expect("starts")
    };
    let include = |name: &str| {
        build(format!("fn main() {{ print!(\"{{}}\", include_bytes!({:?}).len()) }}", cell.path(name)))
    };
    let finished = include("listed/file");
    assert!(finished.end.success(), "{}", finished.stderr.text());
    assert!(cell.path("scratch/target/debug/small").exists());
    let finished = include("unlisted/file");
    assert_eq!(finished.end, End::Exited(101));
    assert!(finished.stderr.text().contains("Permission denied"), "{}", finished.stderr.text());
}

#[test]
fn a_launcher_that_does_not_answer_is_a_missing_part_with_a_hint() {
    for program in ["/bin/true", "/no/such/launcher"] {
        let answer = capabilities(&Launcher { program: program.into(), args: Vec::new() });
        assert!(!answer.complete() && answer.enforced.is_empty());
        assert!(answer.missing.iter().all(|missing| !missing.why.is_empty() && !missing.hint.is_empty()));
    }
}
