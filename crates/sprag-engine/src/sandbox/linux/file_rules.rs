//! Files by allow-list, with Landlock (Salaün, "Landlock LSM", Linux `userspace-api/landlock`).

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::SetupError;
use super::namespace::Mounts;
use crate::sandbox::{Policy, system_reads};

/// The newest set of rights that this file was written for.
const NEWEST: ABI = ABI::V6;
/// The first that controls truncation; before, a second wall must.
const WITH_TRUNCATION: ABI = ABI::V3;

/// Restricts this process and its descendants to the policy's files.
pub(super) fn restrict(policy: &Policy, mounts: &Mounts) -> Result<(), SetupError> {
    let needed = if mounts.is_read_only() { ABI::V1 } else { WITH_TRUNCATION };
    let shared_memory = mounts.shared_memory.then_some("/dev/shm");
    let read = system_reads().into_iter().chain(["/proc".into()]);
    let read = read.chain(policy.read.iter().cloned()).chain(["/dev/random".into(), "/dev/urandom".into()]);
    // A listed folder that cannot be written would be a riddle to whoever reads the command's errors.
    let write = policy.write.iter().map(|path| {
        PathFd::new(path)
            .map_err(|error| SetupError::new(format!("open {}", path.display()), io::Error::other(error)))
    });
    let write: Vec<PathFd> = write.collect::<Result<_, _>>()?;
    let every = AccessFs::from_all(NEWEST);
    let build = || -> Result<_, RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(needed))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(every)?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(read, AccessFs::from_read(NEWEST)))?
            .add_rules(path_beneath_rules(devices(policy), AccessFs::from_file(NEWEST) & !AccessFs::Execute))?
            .add_rules(path_beneath_rules(shared_memory, every))?
            .add_rules(write.iter().map(|path| Ok::<_, RulesetError>(PathBeneath::new(path, every))))?
            .restrict_self()
    };
    let failed = |error: io::Error| SetupError::new("restrict files with Landlock", error);
    let status = build().map_err(|error| failed(io::Error::other(error)))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(failed(io::Error::other("the kernel enforces none of it")));
    }
    Ok(())
}

/// Files that are read and written but neither run nor replaced.
fn devices(policy: &Policy) -> Vec<PathBuf> {
    let harmless = ["/dev/null", "/dev/zero", "/dev/full"].map(PathBuf::from);
    harmless.into_iter().chain(policy.devices.iter().cloned()).collect()
}
