//! System calls that a confined command has no use for, refused by seccomp filters.
//!
//! A deny-list, because compilers and numeric runtimes use most of the rest; files, processes and the network
//! are held by namespaces and Landlock whatever is called.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::SetupError;
use crate::sandbox::OnViolation;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused with EPERM whatever the arguments.
const REFUSED: &[i64] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Large or rarely tried parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Memory that the watchdog does not see.
    libc::SYS_shmget,
    // Sockets, as far as namespaces leave any.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Said not to exist, so that libraries fall back: `clone3` hides its flags behind a pointer, and files that
/// `memfd_create` makes are memory that the watchdog does not see.
const ABSENT: &[i64] = &[libc::SYS_clone3, libc::SYS_memfd_create, libc::SYS_memfd_secret];

/// Families that reach other machines.
const NETWORKS: &[libc::c_int] = &[libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_VSOCK];

/// Filters this process and its descendants, for good.
pub(super) fn restrict(on_network: OnViolation) -> Result<(), SetupError> {
    let failed = |source: io::Error| SetupError::new("restrict system calls with seccomp", source);
    let programs = programs(on_network).map_err(|error| failed(io::Error::other(error)))?;
    for program in programs {
        apply_filter(&program).map_err(|error| failed(io::Error::other(error)))?;
    }
    Ok(())
}

/// One filter for each answer; of several that speak, the kernel takes the strictest.
fn programs(on_network: OnViolation) -> Result<Vec<BpfProgram>, BackendError> {
    let mut refused: Rules = REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    // Unix sockets reach services outside, too. Connected pairs are harmless; datagram pairs could be sent
    // anywhere.
    refused.insert(libc::SYS_socket, Vec::new());
    let pair = vec![
        SeccompRule::new(vec![condition(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?])?,
        SeccompRule::new(vec![condition(1, SeccompCmpOp::MaskedEq(0xf), libc::SOCK_DGRAM as u64)?])?,
    ];
    refused.insert(libc::SYS_socketpair, pair);
    refused.insert(libc::SYS_clone, namespace_flags()?);
    // Typing into a terminal.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX];
    let typing =
        typing.into_iter().map(|request| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?]));
    refused.insert(libc::SYS_ioctl, typing.collect::<Result<_, _>>()?);

    let mut programs = vec![
        filter(refused, SeccompAction::Errno(libc::EPERM as u32))?,
        filter(
            ABSENT.iter().map(|number| (*number, Vec::new())).collect(),
            SeccompAction::Errno(libc::ENOSYS as u32),
        )?,
    ];
    if on_network == OnViolation::Kill {
        let families = NETWORKS.iter();
        let families =
            families.map(|family| SeccompRule::new(vec![condition(0, SeccompCmpOp::Eq, *family as u64)?]));
        let rules = Rules::from([(libc::SYS_socket, families.collect::<Result<_, _>>()?)]);
        programs.push(filter(rules, SeccompAction::KillProcess)?);
    }
    #[cfg(target_arch = "x86_64")]
    programs.push(refuse_x32());
    Ok(programs)
}

fn namespace_flags() -> Result<Vec<SeccompRule>, BackendError> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let rule = |flag: libc::c_int| {
        let flag = flag as u64;
        SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    flags.into_iter().map(rule).collect()
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// Calls of another architecture (32-bit entry) are killed by every filter.
fn filter(rules: Rules, action: SeccompAction) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?.try_into()
}

/// The x32 entry has the same architecture but other numbers, which would slip past all other filters.
#[cfg(target_arch = "x86_64")]
fn refuse_x32() -> BpfProgram {
    const X32_BIT: u32 = 0x4000_0000;
    let instruction =
        |code: u32, jt: u8, jf: u8, k: u32| seccompiler::sock_filter { code: code as u16, jt, jf, k };
    vec![
        // The system call's number is the first field of `seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        // -1 is what a tracer leaves of a call that it skips.
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, u32::MAX),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, X32_BIT),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}
