//! What a process gives up: capabilities, descriptors, room to grow; and when it dies.

use std::io;
use std::os::fd::AsRawFd;

use super::{SetupError, check};
use crate::sandbox::Policy;

const POLITE: [libc::c_int; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

/// Closes everything but the standard streams.
pub(super) fn close_inherited_descriptors() -> Result<(), SetupError> {
    // SAFETY: takes numbers. Nothing in this program has opened a descriptor above 2 that it still wants.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    check("close inherited descriptors", result).map(drop)
}

/// Asks for SIGKILL when the parent dies.
pub(super) fn die_with_parent() -> Result<(), SetupError> {
    // SAFETY: takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check("tie to the parent", result).map(drop)
}

/// No program started from here on gains anything by being set-user-id.
pub(super) fn no_new_privileges() -> Result<(), SetupError> {
    // SAFETY: takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check("set no_new_privs", result).map(drop)
}

/// Leaves requests to end to the command.
pub(super) fn block_polite_signals() -> Result<(), SetupError> {
    set_mask(libc::SIG_BLOCK, &POLITE)
}

/// What a program expects at its start; Rust programs ignore SIGPIPE, others do not.
pub(super) fn default_signals() -> Result<(), SetupError> {
    for signal in POLITE {
        // SAFETY: SIG_DFL is a valid disposition and no handler of ours is involved.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(libc::SIG_UNBLOCK, &POLITE)
}

fn set_mask(how: libc::c_int, signals: &[libc::c_int]) -> Result<(), SetupError> {
    // SAFETY: an all-zero set is a valid value, and it is initialised again by sigemptyset; all pointers are
    // to live locals.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(how, &raw const set, std::ptr::null_mut())
    };
    check("set the signal mask", result).map(drop)
}

/// Ends this process by that signal, if it is one that ends processes.
pub(super) fn die_by(signal: libc::c_int) {
    // An error leaves the caller's own exit status.
    let _ = set_mask(libc::SIG_UNBLOCK, &[signal]);
    // SAFETY: SIG_DFL is a valid disposition, and raising takes a number.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Points the standard streams at nothing.
pub(super) fn let_go_of_streams() {
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else {
        // Without it they are closed, which the other ends cannot tell apart.
        for stream in 0..3 {
            // SAFETY: takes a number; these streams are not used again.
            unsafe { libc::close(stream) };
        }
        return;
    };
    for stream in 0..3 {
        // SAFETY: takes numbers; the streams are not used again.
        unsafe { libc::dup2(null.as_raw_fd(), stream) };
    }
}

/// Limits on what one process, or the user inside the namespace, may hold. Must come after the user
/// namespace: the limit on processes would otherwise count all of the user's.
pub(super) fn limit_resources(policy: &Policy) -> Result<(), SetupError> {
    limit(libc::RLIMIT_CORE, 0, "limit core dumps")?;
    limit(libc::RLIMIT_FSIZE, policy.file_bytes, "limit file size")?;
    limit(libc::RLIMIT_NOFILE, policy.open_files, "limit open files")?;
    // Init counts too.
    limit(libc::RLIMIT_NPROC, u64::from(policy.processes) + 1, "limit processes")
}

fn limit(resource: libc::__rlimit_resource_t, value: u64, step: &str) -> Result<(), SetupError> {
    let mut current = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable `rlimit`.
    check(step, unsafe { libc::getrlimit(resource, &raw mut current) })?;
    let value = value.min(current.rlim_max);
    let wanted = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a live `rlimit`.
    check(step, unsafe { libc::setrlimit(resource, &raw const wanted) }).map(drop)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Gives up all capabilities for good, also for a process that is user 0 inside the namespace.
pub(super) fn drop_capabilities() -> Result<(), SetupError> {
    for capability in 0..64 {
        // SAFETY: takes numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            let error = io::Error::last_os_error();
            // The first number that is no capability ends the list.
            if capability > 0 && error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(SetupError::new("drop capabilities", error));
        }
    }
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let none = [CapabilityData::default(); 2];
    // SAFETY: both pointers are to live values laid out as capset(2) wants for version 3; it only reads.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    check("drop capabilities", result).map(drop)
}
