//! The launcher on Linux: three processes, each confined more than the one before.
//!
//! The *shim* is what the caller started. It makes the namespaces and waits. Its child, *init*, is process 1
//! of the new process namespace: it arranges mounts, drops capabilities, reaps orphans, and with its end the
//! kernel ends all below. Its child becomes the *command*, under Landlock and seccomp. Each dies with its
//! parent, so killing the shim kills everything.

mod file_rules;
mod namespace;
mod privilege;
mod probe;
mod system_calls;

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use super::{Policy, SETUP_FAILED, SETUP_PREFIX, refuse};

pub(super) use probe::print_capabilities;

/// A step that did not work.
#[derive(Debug)]
struct SetupError {
    step: String,
    source: io::Error,
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.source)
    }
}

impl SetupError {
    fn new(step: impl Into<String>, source: impl Into<io::Error>) -> SetupError {
        SetupError { step: step.into(), source: source.into() }
    }

    fn last(step: impl Into<String>) -> SetupError {
        SetupError::new(step, io::Error::last_os_error())
    }
}

/// Turns a system call's -1 into its error.
fn check(step: &str, result: impl Into<i64>) -> Result<i64, SetupError> {
    match result.into() {
        -1 => Err(SetupError::last(step)),
        value => Ok(value),
    }
}

/// A wait status, as the kernel encodes it.
#[derive(Clone, Copy)]
struct Status(i32);

impl Status {
    const SETUP_FAILED: Status = Status((SETUP_FAILED as i32) << 8);
}

/// Confines, runs, and ends as the command ended.
pub(super) fn enter(policy: &Policy, command: &[OsString]) -> ExitCode {
    match shim(policy, command) {
        Ok(status) => leave_as(status),
        Err(error) => refuse(&error.to_string()),
    }
}

fn shim(policy: &Policy, command: &[OsString]) -> Result<Status, SetupError> {
    if command.is_empty() {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(SetupError::new("start the command: none was given", source));
    }
    privilege::close_inherited_descriptors()?;
    privilege::die_with_parent()?;
    privilege::no_new_privileges()?;
    // Asking for a gentle end is for the command to answer: these two wait for it, or for SIGKILL.
    privilege::block_polite_signals()?;
    let own_mounts = namespace::enter()?;
    privilege::limit_resources(policy)?;
    let (mut status_reader, status_writer) = pipe()?;
    match fork()? {
        0 => {
            drop(status_reader);
            let status = init(policy, command, own_mounts, &status_writer).unwrap_or_else(|error| {
                let _ = writeln!(io::stderr(), "{SETUP_PREFIX}{error}");
                Status::SETUP_FAILED
            });
            // When this fails the shim is gone, and so is everybody who wanted to know.
            let _ = (&status_writer).write_all(&status.0.to_ne_bytes());
            exit_now(0)
        }
        init => {
            drop(status_writer);
            // Whoever waits at the other end of these must see the command close them.
            privilege::let_go_of_streams();
            let mut bytes = [0; 4];
            let told = status_reader.read_exact(&mut bytes);
            // Init's end means that the kernel has ended all others in its namespace.
            let status = wait_for(init)?;
            Ok(if told.is_ok() { Status(i32::from_ne_bytes(bytes)) } else { status })
        }
    }
}

/// Process 1 of the namespace.
fn init(
    policy: &Policy,
    command: &[OsString],
    own_mounts: bool,
    parent: &File,
) -> Result<Status, SetupError> {
    privilege::die_with_parent()?;
    if parent_is_gone(parent) {
        exit_now(1);
    }
    namespace::limit_processes(policy);
    let mounts = match own_mounts {
        true => namespace::arrange_mounts(policy),
        false => namespace::Mounts::default(),
    };
    privilege::drop_capabilities()?;
    match fork()? {
        0 => {
            let error = match become_command(policy, command, &mounts) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let _ = writeln!(io::stderr(), "{SETUP_PREFIX}{error}");
            exit_now(i32::from(SETUP_FAILED))
        }
        command => {
            privilege::let_go_of_streams();
            loop {
                let (pid, status) = wait_for_any()?;
                if pid == command {
                    return Ok(status);
                }
            }
        }
    }
}

fn become_command(
    policy: &Policy,
    command: &[OsString],
    mounts: &namespace::Mounts,
) -> Result<Infallible, SetupError> {
    privilege::default_signals()?;
    // Prepared before the filters forbid anything.
    let words = command.iter().map(|word| CString::new(word.as_bytes()));
    let words: Vec<CString> = words
        .collect::<Result<_, _>>()
        .map_err(|error| SetupError::new("start the command", io::Error::from(error)))?;
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    file_rules::restrict(policy, mounts)?;
    system_calls::restrict(policy.on_network)?;
    // SAFETY: `pointers` is a null-terminated array of pointers to NUL-terminated strings that outlive the
    // call; nothing else runs in this process.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    let error = io::Error::last_os_error();
    Err(SetupError::new(format!("start `{}`", command[0].display()), error))
}

/// Ends this process by the given status, so that the caller sees what it would have seen of the command.
fn leave_as(status: Status) -> ExitCode {
    if libc::WIFSIGNALED(status.0) {
        let signal = libc::WTERMSIG(status.0);
        privilege::die_by(signal);
        // Only a signal that does not end a process comes back; the shell's convention is what remains.
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    ExitCode::from(u8::try_from(libc::WEXITSTATUS(status.0)).unwrap_or(u8::MAX))
}

fn pipe() -> Result<(File, File), SetupError> {
    let (reader, writer) = io::pipe().map_err(|error| SetupError::new("make a pipe", error))?;
    Ok((File::from(std::os::fd::OwnedFd::from(reader)), File::from(std::os::fd::OwnedFd::from(writer))))
}

/// True when nobody holds the reading end any more.
fn parent_is_gone(writer: &File) -> bool {
    let mut descriptor = libc::pollfd { fd: writer.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: the pointer is to one live `pollfd`, and one is announced.
    unsafe { libc::poll(&raw mut descriptor, 1, 0) };
    descriptor.revents & libc::POLLERR != 0
}

fn fork() -> Result<libc::pid_t, SetupError> {
    // SAFETY: the launcher has a single thread (a user namespace is not given to more), so the child may do
    // whatever the parent could.
    let pid = unsafe { libc::fork() };
    check("fork", pid)?;
    Ok(pid)
}

fn wait_for(pid: libc::pid_t) -> Result<Status, SetupError> {
    wait(pid).map(|(_, status)| status)
}

fn wait_for_any() -> Result<(libc::pid_t, Status), SetupError> {
    wait(-1)
}

fn wait(which: libc::pid_t) -> Result<(libc::pid_t, Status), SetupError> {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live, writable integer.
        let pid = unsafe { libc::waitpid(which, &raw mut status, 0) };
        if pid >= 0 {
            return Ok((pid, Status(status)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(SetupError::new("wait for the command", error));
        }
    }
}

/// Ends a forked process without running what the shim would run at its end.
fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number, never returns.
    unsafe { libc::_exit(code) }
}
