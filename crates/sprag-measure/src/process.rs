//! The only door to child processes: each runs in its own process group, under limits, and its whole tree
//! is gone when [`run`] returns.
//!
//! The tree is followed through `/proc` (Linux) or `ps` (macOS): descendants, those that left the process
//! group or session included, and whoever still holds the output pipes. What a descendant can do to stay
//! unseen without a sandbox: detach itself (double fork, new session), close both pipes, and have all its
//! ancestors end between two looks. Inside the sandbox of `sprag-engine` it cannot: there the process-id
//! namespace dies as one.

mod drive;
mod lines;
mod tail;
mod tree;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use tail::Tail;

/// What to start. Nothing is inherited: the environment is complete as given.
#[derive(Debug)]
pub struct Command {
    /// The program: a path, or a name looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub dir: PathBuf,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard input.
    pub stdin: Stdin,
}

impl Command {
    /// A command without arguments, environment or input.
    pub fn new(program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Command {
        Command {
            program: program.into(),
            args: Vec::new(),
            dir: dir.into(),
            env: Vec::new(),
            stdin: Stdin::Null,
        }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Replaces the standard input.
    pub fn stdin(mut self, stdin: Stdin) -> Command {
        self.stdin = stdin;
        self
    }
}

/// Standard input of a child.
#[derive(Debug)]
pub enum Stdin {
    /// Nothing to read.
    Null,
    /// One end of a socket (or any descriptor), which the child alone holds from then on.
    Socket(OwnedFd),
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

/// What a child and all its descendants may use together. The default is no limit, killed without warning.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Time from the start.
    pub wall: Option<Duration>,
    /// Time without output on either stream and without a beat of `heartbeat`.
    pub silence: Option<Duration>,
    /// Sign of life from elsewhere, for example from what the child says over its socket.
    pub heartbeat: Option<Heartbeat>,
    /// Resident memory of the whole tree; pages shared within it count once before it is stopped for them.
    pub memory_bytes: Option<u64>,
    /// Processes alive at once, the child itself and a sandbox's two included.
    pub processes: Option<u32>,
    /// Bytes on both streams together.
    pub output_bytes: Option<u64>,
    /// Time between SIGTERM and SIGKILL; zero kills at once.
    pub gentle: Duration,
}

/// Tells a running [`run`] that its child is alive although it prints nothing.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// One sign of life.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Stops a [`run`] from another thread or a signal handler's thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    asked: Arc<AtomicBool>,
    above: Option<Arc<Cancel>>,
}

impl Cancel {
    /// One that is asked whenever this one is, and can be asked without it.
    pub fn below(&self) -> Cancel {
        Cancel { asked: Arc::default(), above: Some(Arc::new(self.clone())) }
    }

    /// Asks to stop; never taken back.
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// True once asked.
    pub fn is_cancelled(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.above.as_ref().is_some_and(|above| above.is_cancelled())
    }

    /// Waits, and less when it is asked meanwhile; true once asked.
    pub fn sleep(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !self.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        self.is_cancelled()
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// Stopped: past `wall`.
    TimedOut,
    /// Stopped: past `silence`.
    Silent,
    /// Stopped: past `memory_bytes`.
    MemoryExceeded,
    /// Stopped: past `output_bytes`.
    OutputExceeded,
    /// Stopped: past `processes`.
    TooManyProcesses,
    /// Stopped: by [`Cancel`].
    Cancelled,
}

impl End {
    /// True for exit status 0.
    pub fn success(self) -> bool {
        self == End::Exited(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exited with status {code}"),
            End::Signalled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
            End::TimedOut => f.write_str("stopped at its time limit"),
            End::Silent => f.write_str("stopped after saying nothing for too long"),
            End::MemoryExceeded => f.write_str("stopped at its memory limit"),
            End::OutputExceeded => f.write_str("stopped for printing too much"),
            End::TooManyProcesses => f.write_str("stopped for starting too many processes"),
            End::Cancelled => f.write_str("cancelled"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS (a forbidden system call)",
        _ => return None,
    })
}

/// A child's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What is known of a child that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// From start to end.
    pub wall: Duration,
    /// Processor time of the tree, as far as it was seen.
    pub cpu: Duration,
    /// Largest resident memory of the tree at one look (several a second), or of one process at any time.
    pub peak_memory_bytes: u64,
    /// First and last of standard output.
    pub stdout: Tail,
    /// First and last of standard error.
    pub stderr: Tail,
}

/// Why a child could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It did not start.
    #[error("start `{program}` in `{dir}`: {source}; {hint}", program = program.display(), dir = dir.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Its working directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// It started, and then the system refused to let us follow it. Its tree was killed.
    #[error("follow `{program}`: {source}", program = program.display())]
    Follow {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a child to its end, calls `on_line` for every line of its output, and leaves nothing of it behind.
///
/// Lines are lossy UTF-8 without their end; of a line longer than 64 KiB only the beginning is given.
/// `on_line` runs on the calling thread: while it works, the child's pipes may fill and the child wait.
///
/// The child also dies when the calling thread does, as far as the system can arrange it (Linux).
///
/// ```
/// use sprag_measure::process::{Cancel, Command, End, Limits, run};
/// let command = Command::new("/bin/sh", "/").args(["-c", "echo one; echo two; exit 3"]);
/// let mut lines = Vec::new();
/// let finished = run(command, &Limits::default(), &Cancel::default(), &mut |_, line| lines.push(line.to_owned()))?;
/// assert_eq!(finished.end, End::Exited(3));
/// assert_eq!(lines, ["one", "two"]);
/// # Ok::<(), sprag_measure::process::ProcessError>(())
/// ```
pub fn run(
    command: Command,
    limits: &Limits,
    cancel: &Cancel,
    on_line: &mut dyn FnMut(Stream, &str),
) -> Result<Finished, ProcessError> {
    let mut splitter = lines::Splitter::new(on_line);
    drive::drive(command, limits, cancel, &mut splitter)
}

/// All that a short-lived program printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// Its standard error, whole.
    pub stderr: Vec<u8>,
}

impl Output {
    /// True for exit status 0.
    pub fn success(&self) -> bool {
        self.end.success()
    }

    /// Standard output as text, without the line end that closes it.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.stdout);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Standard error as trimmed text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Most that [`capture`] holds when the caller names no limit.
const CAPTURE_BYTES: u64 = 1 << 30;

/// Runs a child and keeps all of its output, byte for byte; up to 1 GiB when `limits` names no other bound.
pub fn capture(command: Command, limits: &Limits, cancel: &Cancel) -> Result<Output, ProcessError> {
    let mut limits = limits.clone();
    limits.output_bytes.get_or_insert(CAPTURE_BYTES);
    let mut collector = lines::Collector::default();
    let finished = drive::drive(command, &limits, cancel, &mut collector)?;
    Ok(Output { end: finished.end, stdout: collector.stdout, stderr: collector.stderr })
}

/// [`capture`] without input or limits, for git and the like. `env` is the whole environment.
pub fn output(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    dir: &Path,
    env: &[(OsString, OsString)],
) -> Result<Output, ProcessError> {
    let mut command = Command::new(program.as_ref(), dir).args(args);
    command.env = env.to_vec();
    capture(command, &Limits::default(), &Cancel::default())
}
