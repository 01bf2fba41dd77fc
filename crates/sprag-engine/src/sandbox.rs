//! Confines what a build or a candidate can do: no network, reads from a list, writes to a shorter one,
//! bounded files and processes, and a tree that dies as one.
//!
//! On Linux the command runs below a launcher (this program, entered again through a hidden subcommand) in
//! its own user, network, process, IPC, host-name and mount namespaces, with every capability dropped, all
//! mounts but the writable folders read-only, a fresh `/proc`, Landlock and seccomp. On macOS it runs below
//! `sandbox-exec`. Memory and time are the business of `sprag_measure::process`.
//!
//! What it does not stop:
//! - reading anything below a listed path or the system's own folders (programs, libraries and `share` below `/usr`, `/lib`, parts of `/etc`,
//!   `/proc/sys`, `/sys/devices/system/cpu`), and telling by `stat` whether a path exists elsewhere;
//! - a kernel bug: there is no virtual machine;
//! - what a driver does for a device file that the task lists: a GPU's memory is not watched, and its driver
//!   is a large part of the kernel;
//! - using the processor, memory bandwidth and disk of the whole machine, so that neighbours become slower;
//! - filling the disk by many files below the size limit, or up to 1 GiB of memory through its private
//!   `/dev/shm`, which the memory watchdog sees only where it is mapped;
//! - talking through descriptors that it was given: its standard streams;
//! - side channels: timing, cache contents, and the load it puts on the machine;
//! - what the caller does with the files that it leaves behind;
//! - on macOS also: its own processes outliving it when they detach, system services that need no network,
//!   and files of any size.

#[cfg(target_os = "linux")]
mod linux;
mod seatbelt;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use sprag_measure::process::{Command, End, Finished};

pub use seatbelt::seatbelt_profile;

/// What a confined command may do. Execution is implied by reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Files and folders that it may read, besides the system's own; those that do not exist are passed over.
    #[serde(with = "paths")]
    pub read: Vec<PathBuf>,
    /// Files and folders that it may read and write; each must exist.
    #[serde(with = "paths")]
    pub write: Vec<PathBuf>,
    /// Files below writable folders that it may read and not change. Where mounts cannot be arranged this does not
    /// hold, and nowhere against replacing a folder above them: whoever cares compares them afterwards.
    #[serde(with = "paths", default)]
    pub keep: Vec<PathBuf>,
    /// Device files that it may read and write, besides `/dev/null` and its like.
    #[serde(with = "paths")]
    pub devices: Vec<PathBuf>,
    /// Its network.
    pub network: Network,
    /// What follows when it tries to open an internet socket.
    pub on_network: OnViolation,
    /// Processes and threads alive at once.
    pub processes: u32,
    /// Size of one file that it writes.
    pub file_bytes: u64,
    /// Files that one process may have open.
    pub open_files: u64,
}

/// The network of a confined command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// None, loopback included.
    None,
}

/// What follows a forbidden act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// The process that tried it is killed by `SIGSYS` (Linux; refused on macOS).
    #[default]
    Kill,
    /// The system call fails with `EPERM`.
    Refuse,
}

/// How to enter this program again as the sandbox's launcher: its hidden subcommand calls [`enter`] with
/// what follows `args`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// What comes before the policy.
    pub args: Vec<OsString>,
}

/// Whether children are confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Through this launcher.
    Sandboxed(Launcher),
    /// Not at all, because a person said so.
    Unsandboxed,
}

/// One part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Own user namespace, every capability dropped.
    User,
    /// Own network namespace with nothing in it.
    Network,
    /// Own process namespace: nothing outside can be seen or signalled, the tree dies as one.
    Processes,
    /// Own System V IPC and host name.
    Ipc,
    /// Files by allow-list.
    Files,
    /// Forbidden system calls.
    SystemCalls,
    /// Limits on file size, open files, processes, core dumps.
    Resources,
    /// All mounts but the writable folders read-only; private `/dev/shm`.
    Mounts,
    /// A `/proc` that shows only the sandbox's own processes.
    Proc,
    /// Apple's `sandbox-exec`.
    Seatbelt,
}

impl Part {
    /// True when the sandbox is refused without it; the others only stand behind these as a second wall.
    pub fn required(self) -> bool {
        !matches!(self, Part::Mounts | Part::Proc)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::User => "own user namespace without capabilities",
            Part::Network => "own, empty network namespace",
            Part::Processes => "own process namespace",
            Part::Ipc => "own IPC and host-name namespaces",
            Part::Files => "files by allow-list: Landlock",
            Part::SystemCalls => "forbidden system calls: seccomp",
            Part::Resources => "resource limits",
            Part::Mounts => "read-only mounts",
            Part::Proc => "own /proc",
            Part::Seatbelt => "files and network: sandbox-exec",
        })
    }
}

/// A part that does not work here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The part.
    pub part: Part,
    /// What the system said.
    pub why: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

/// What the sandbox can do on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Parts that work.
    pub enforced: Vec<Part>,
    /// Required parts that do not: with any of these, running confined is refused.
    pub missing: Vec<Missing>,
    /// Second walls that do not stand; the sandbox holds without them.
    pub weaker: Vec<Missing>,
}

impl Capabilities {
    /// True when no required part is missing.
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    fn nothing(part: Part, why: impl Into<String>, hint: impl Into<String>) -> Capabilities {
        let missing = Missing { part, why: why.into(), hint: hint.into() };
        Capabilities { missing: vec![missing], ..Capabilities::default() }
    }
}

/// Argument in place of a policy that makes [`enter`] try every part and print [`Capabilities`] as JSON.
#[cfg(target_os = "linux")]
const PROBE: &str = "probe";

/// Exit status of the launcher when it could not set the sandbox up or start the command. The command may
/// use it too: [`setup_error`] tells them apart by what was printed.
pub const SETUP_FAILED: u8 = 125;

/// Begins the launcher's own line on standard error.
const SETUP_PREFIX: &str = "sprag sandbox: ";

/// Tries every part in a throw-away child of the launcher.
#[cfg(target_os = "linux")]
pub fn capabilities(launcher: &Launcher) -> Capabilities {
    use std::time::Duration;

    use sprag_measure::process::{Cancel, Limits, capture};

    let command = Command::new(&launcher.program, "/").args(launcher.args.iter().cloned()).args([PROBE]);
    let limits = Limits { wall: Some(Duration::from_secs(20)), ..Limits::default() };
    let hint = "check that the launcher is this program and can be started";
    match capture(command, &limits, &Cancel::default()) {
        Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let why =
                format!("the launcher {} and gave no answer ({error}): {}", output.end, output.error_text());
            Capabilities::nothing(Part::User, why, hint)
        }),
        Err(error) => Capabilities::nothing(Part::User, error.to_string(), hint),
    }
}

/// Tries `sandbox-exec`.
#[cfg(target_os = "macos")]
pub fn capabilities(_launcher: &Launcher) -> Capabilities {
    seatbelt::capabilities()
}

/// Nothing is known about confining processes on this system.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn capabilities(_launcher: &Launcher) -> Capabilities {
    let why = format!("there is no sandbox for {}", std::env::consts::OS);
    Capabilities::nothing(Part::Files, why, "run on Linux or macOS, for example in a virtual machine")
}

/// The same command, confined. Its program, folder, environment and input stay; `TMPDIR` becomes the last
/// writable folder unless the command names one.
pub fn wrap(mut command: Command, policy: &Policy, launcher: &Launcher) -> Command {
    if let Some(scratch) = policy.write.last()
        && !command.env.iter().any(|(name, _)| name == OsStr::new("TMPDIR"))
    {
        command.env.push(("TMPDIR".into(), scratch.into()));
    }
    let program = std::mem::take(&mut command.program).into_os_string();
    let (outer, before) = outer(policy, launcher);
    let inner = std::mem::take(&mut command.args);
    command.program = outer;
    command.args = before.into_iter().chain([program]).chain(inner).collect();
    command
}

/// Program and first arguments of a confined command.
#[cfg(not(target_os = "macos"))]
fn outer(policy: &Policy, launcher: &Launcher) -> (PathBuf, Vec<OsString>) {
    // Plain data with text for paths: there is nothing in it that JSON cannot hold.
    let policy = serde_json::to_string(policy).unwrap_or_default();
    let mut args = launcher.args.clone();
    args.extend([OsString::from(policy), OsString::from("--")]);
    (launcher.program.clone(), args)
}

/// Program and first arguments of a confined command.
#[cfg(target_os = "macos")]
fn outer(policy: &Policy, _launcher: &Launcher) -> (PathBuf, Vec<OsString>) {
    (PathBuf::from(seatbelt::PROGRAM), vec!["-p".into(), seatbelt_profile(policy).into()])
}

/// Body of the hidden subcommand: confines this process by the policy, runs the command, and ends as it
/// ended, by the same status or the same signal.
///
/// To be called before the program has started any thread. A leading `--` in `command` is passed over.
pub fn enter(policy_json: &str, command: &[OsString]) -> ExitCode {
    let command = match command.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => command,
    };
    #[cfg(target_os = "linux")]
    {
        if policy_json == PROBE {
            return linux::print_capabilities();
        }
        match serde_json::from_str(policy_json) {
            Ok(policy) => linux::enter(&policy, command),
            Err(error) => refuse(&format!("read the policy: {error}")),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (policy_json, command);
        refuse("this system has no launcher")
    }
}

/// Says why the command was not started, and gives the status for it.
fn refuse(why: &str) -> ExitCode {
    use std::io::Write;

    // Standard error is all there is to say it on.
    let _ = writeln!(std::io::stderr(), "{SETUP_PREFIX}{why}");
    ExitCode::from(SETUP_FAILED)
}

/// Why the sandbox did not start the command; `None` when it did.
pub fn setup_error(finished: &Finished) -> Option<String> {
    let setup_failed = finished.end == End::Exited(i32::from(SETUP_FAILED));
    let text = setup_failed.then(|| finished.stderr.text())?;
    text.lines().find_map(|line| line.strip_prefix(SETUP_PREFIX)).map(str::to_owned)
}

/// True when the command was killed for a forbidden system call.
pub fn killed_by_sandbox(end: End) -> bool {
    // SIGSYS has another number on other systems, where nothing is killed for it.
    cfg!(target_os = "linux") && end == End::Signalled(libc::SIGSYS)
}

/// What every confined command may read, links resolved: nothing secret may lie below these.
pub fn always_readable() -> Vec<PathBuf> {
    system_reads().iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// Folders and files of the system that every program may read.
fn system_reads() -> Vec<PathBuf> {
    let paths: &[&str] = if cfg!(target_os = "macos") {
        &["/bin", "/sbin", "/System", "/Library/Apple", "/Library/Developer", "/private/var/db/dyld"]
    } else {
        &[
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/nix/store",
            "/gnu/store",
            "/run/current-system/sw",
            "/etc/alternatives",
            "/etc/ld.so.cache",
            "/etc/ld.so.conf",
            "/etc/ld.so.conf.d",
            "/etc/localtime",
            "/etc/nsswitch.conf",
            "/etc/passwd",
            "/etc/group",
            "/sys/fs/cgroup",
            "/sys/devices/system/cpu",
            "/sys/devices/system/node",
            "/sys/kernel/mm/transparent_hugepage",
        ]
    };
    let own = paths.iter().map(|path| Path::new(path).to_owned());
    // Not `/usr` as a whole: in containers, cargo's registry or a clone with data may lie there.
    let below = ["/usr", "/usr/local"].into_iter().flat_map(|base| {
        let folders = ["bin", "sbin", "lib", "lib32", "lib64", "libexec", "include", "share", "cuda"];
        folders.map(|folder| Path::new(base).join(folder))
    });
    own.chain(below).collect()
}

/// Paths as JSON text. A path that is not UTF-8 loses its strange bytes and then names nothing: it is not
/// readable, or the sandbox says that it does not exist.
mod paths {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Vec::deserialize(deserializer)
    }
}
