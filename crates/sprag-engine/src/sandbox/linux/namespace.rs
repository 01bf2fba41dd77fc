//! Own namespaces, and what is mounted in them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{SetupError, check};
use crate::sandbox::{Part, Policy};

/// Largest private `/dev/shm`.
const SHARED_MEMORY_BYTES: u64 = 1 << 30;

/// Process numbers that the kernel does not hand out again (`RESERVED_PIDS`).
const RESERVED_NUMBERS: u64 = 300;

/// Which mounts could be arranged; the errors of those that could not.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) read_only: Option<Result<(), SetupError>>,
    pub(super) proc: Option<Result<(), SetupError>>,
    pub(super) shared_memory: bool,
}

impl Mounts {
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.read_only, Some(Ok(())))
    }
}

/// The namespaces besides the user's, with the part that each serves.
pub(super) const REQUIRED: [(libc::c_int, Part, &str); 4] = [
    (libc::CLONE_NEWNET, Part::Network, "make a network namespace"),
    (libc::CLONE_NEWPID, Part::Processes, "make a process namespace"),
    (libc::CLONE_NEWIPC, Part::Ipc, "make an IPC namespace"),
    (libc::CLONE_NEWUTS, Part::Ipc, "make a host-name namespace"),
];

/// Enters new namespaces; true when mounts can be arranged in them.
pub(super) fn enter() -> Result<bool, SetupError> {
    enter_user()?;
    for (flag, _, step) in REQUIRED {
        unshare(flag, step)?;
    }
    Ok(enter_mounts().is_ok())
}

pub(super) fn enter_user() -> Result<(), SetupError> {
    // SAFETY: take nothing, cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER, "make a user namespace")?;
    // Each is itself inside, so that files keep their owner; nobody else exists.
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{user} {user} 1")),
        ("/proc/self/gid_map", format!("{group} {group} 1")),
    ] {
        fs::write(file, text).map_err(|error| SetupError::new(format!("write {file}"), error))?;
    }
    Ok(())
}

pub(super) fn enter_mounts() -> Result<(), SetupError> {
    unshare(libc::CLONE_NEWNS, "make a mount namespace")
}

pub(super) fn unshare(flag: libc::c_int, step: &str) -> Result<(), SetupError> {
    // SAFETY: takes a number.
    check(step, unsafe { libc::unshare(flag) }).map(drop)
}

/// Makes all but the writable folders read-only, and `/proc` and `/dev/shm` the sandbox's own.
///
/// A second wall: each part may fail (in containers, on old kernels), and is then reported, not fatal.
pub(super) fn arrange_mounts(policy: &Policy) -> Mounts {
    let dir = std::env::current_dir();
    let mut mounts = Mounts { read_only: Some(make_read_only(policy)), ..Mounts::default() };
    let shared = Path::new("/dev/shm");
    let size = format!("mode=1777,size={}", SHARED_MEMORY_BYTES.min(policy.file_bytes));
    // Not over a folder of the policy's that happens to lie there.
    mounts.shared_memory = mounts.is_read_only()
        && !policy.read.iter().chain(&policy.write).any(|path| path.starts_with(shared))
        && mount(Some(Path::new("tmpfs")), shared, Some("tmpfs"), SAFE, Some(&size)).is_ok();
    mounts.proc = Some(mount_proc());
    // The folder we are in may now lie below a writable mount: enter it anew.
    if let Ok(dir) = dir {
        let _ = std::env::set_current_dir(dir);
    }
    mounts
}

const SAFE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

fn make_read_only(policy: &Policy) -> Result<(), SetupError> {
    let root = Path::new("/");
    mount(None, root, None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    let writable = || policy.write.iter().filter(|path| path.is_dir() || path.is_file());
    for path in writable() {
        mount(Some(path), path, None, libc::MS_BIND | libc::MS_REC, None)?;
    }
    set_attributes(root, libc::MOUNT_ATTR_RDONLY, 0)?;
    for path in writable() {
        set_attributes(path, 0, libc::MOUNT_ATTR_RDONLY)?;
    }
    for path in policy.keep.iter().filter(|path| path.exists()) {
        mount(Some(path), path, None, libc::MS_BIND, None)?;
        set_attributes(path, libc::MOUNT_ATTR_RDONLY, 0)?;
    }
    Ok(())
}

fn mount_proc() -> Result<(), SetupError> {
    let proc = Path::new("/proc");
    mount(Some(Path::new("proc")), proc, Some("proc"), SAFE, None)?;
    set_attributes(proc, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Bounds all processes together where RLIMIT_NPROC does not count, as for the machine's root. A second wall
/// behind the watchdog, so it may fail.
pub(super) fn limit_processes(policy: &Policy) {
    if numbers_are_per_namespace(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()) {
        let most = RESERVED_NUMBERS + u64::from(policy.processes) + 8;
        let _ = fs::write("/proc/sys/kernel/pid_max", most.to_string());
    }
}

/// Since Linux 6.14 `pid_max` belongs to the namespace; before, writing it would change the whole machine.
fn numbers_are_per_namespace(release: &str) -> bool {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 14),
        _ => false,
    }
}

fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: libc::c_ulong,
    data: Option<&str>,
) -> Result<(), SetupError> {
    let step = format!("mount {}", target.display());
    let error = |error: std::ffi::NulError| SetupError::new(step.clone(), io::Error::from(error));
    let text = |value: Option<&[u8]>| value.map(CString::new).transpose();
    let source = text(source.map(|path| path.as_os_str().as_bytes())).map_err(error)?;
    let target = CString::new(target.as_os_str().as_bytes()).map_err(error)?;
    let kind = text(kind.map(str::as_bytes)).map_err(error)?;
    let data = text(data.map(str::as_bytes)).map_err(error)?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: every pointer is null or to a NUL-terminated string that lives until the end of this function.
    let result = unsafe {
        libc::mount(pointer(&source), target.as_ptr(), pointer(&kind), flags, pointer(&data).cast())
    };
    check(&step, result).map(drop)
}

/// Sets and clears attributes of a mount and of all below it.
fn set_attributes(path: &Path, set: u64, clear: u64) -> Result<(), SetupError> {
    let step = format!("change the mount {}", path.display());
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| SetupError::new(step.clone(), io::Error::from(error)))?;
    // SAFETY: the path is NUL-terminated and the structure is live, with its true size announced.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(&step, result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_numbers_are_bounded_only_where_they_are_the_namespaces_own() {
        for (release, expect) in [
            ("6.14.0", true),
            ("6.18.44-arch1", true),
            ("10.0", true),
            ("6.13.9-generic", false),
            ("5.15.0", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(numbers_are_per_namespace(release), expect, "{release}");
        }
    }
}
