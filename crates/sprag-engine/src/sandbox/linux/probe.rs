//! Tries every part on this machine, in processes that are thrown away.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::namespace::{self, Mounts};
use super::{SetupError, exit_now, file_rules, fork, pipe, privilege, system_calls, wait_for};
use crate::sandbox::{Capabilities, Missing, Network, OnViolation, Part, Policy};

/// Prints [`Capabilities`] as JSON on standard output.
pub(in crate::sandbox) fn print_capabilities() -> ExitCode {
    let capabilities = probe();
    let printed = serde_json::to_string(&capabilities).map_err(io::Error::from);
    match printed.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One attempt at everything, from the outer wall to the inner.
fn probe() -> Capabilities {
    let policy = Policy {
        keep: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
        devices: Vec::new(),
        network: Network::None,
        on_network: OnViolation::Refuse,
        processes: 64,
        file_bytes: 1 << 20,
        open_files: 64,
    };
    let mut answers: Vec<(Part, Option<String>)> = Vec::new();
    let mut note = |part: Part, result: Result<(), SetupError>| {
        let why = result.err().map(|error| error.to_string());
        match answers.iter_mut().find(|(known, _)| *known == part) {
            Some((_, known)) => *known = known.take().or(why),
            None => answers.push((part, why)),
        }
    };
    // The writable memory of a forked process does not come back: each hands its answer through a pipe.
    note(Part::User, in_child(|| privilege::no_new_privileges().and_then(|()| namespace::enter_user())));
    for (flag, part, step) in namespace::REQUIRED {
        note(part, in_child(|| namespace::enter_user().and_then(|()| namespace::unshare(flag, step))));
    }
    note(Part::User, in_child(|| namespace::enter_user().and_then(|()| privilege::drop_capabilities())));
    note(Part::Mounts, in_namespaces(&policy, |mounts| mounts.read_only.unwrap_or(Ok(()))));
    note(Part::Proc, in_namespaces(&policy, |mounts| mounts.proc.unwrap_or(Ok(()))));
    let files = in_child(|| {
        privilege::no_new_privileges()?;
        file_rules::restrict(&policy, &Mounts::default())
    });
    // With an old Landlock the read-only mounts must stand.
    let files = files.or_else(|_| in_namespaces(&policy, |mounts| file_rules::restrict(&policy, &mounts)));
    note(Part::Files, files);
    note(
        Part::SystemCalls,
        in_child(|| privilege::no_new_privileges().and_then(|()| system_calls::restrict(OnViolation::Kill))),
    );
    note(Part::Resources, in_child(|| privilege::limit_resources(&policy)));
    summarise(answers)
}

fn summarise(answers: Vec<(Part, Option<String>)>) -> Capabilities {
    let mut capabilities = Capabilities::default();
    for (part, why) in answers {
        let Some(why) = why else {
            capabilities.enforced.push(part);
            continue;
        };
        let missing = Missing { part, why, hint: hint(part).to_owned() };
        if part.required() {
            capabilities.missing.push(missing);
        } else {
            capabilities.weaker.push(missing);
        }
    }
    capabilities
}

fn hint(part: Part) -> &'static str {
    match part {
        Part::Files => {
            "use Linux 5.13 or newer (6.2 in containers) with `landlock` in its `lsm=` boot parameter"
        }
        Part::SystemCalls => "use a kernel with CONFIG_SECCOMP_FILTER; in a container, allow seccomp(2)",
        Part::Resources => "raise the hard limits of this shell (`ulimit -H -a`)",
        Part::Mounts | Part::Proc => {
            "nothing need be done; containers often forbid it, and the other walls hold"
        }
        Part::User | Part::Network | Part::Processes | Part::Ipc | Part::Seatbelt => {
            "allow unprivileged user namespaces: `sysctl kernel.unprivileged_userns_clone=1` on Debian, \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, \
             `user.max_user_namespaces` above 0 elsewhere; in a container, run it with a seccomp profile that \
             allows unshare(2)"
        }
    }
}

/// Runs a step in a forked process.
fn in_child(step: impl FnOnce() -> Result<(), SetupError>) -> Result<(), SetupError> {
    let (mut reader, writer) = pipe()?;
    match fork()? {
        0 => {
            drop(reader);
            answer(&writer, step());
        }
        child => {
            drop(writer);
            let mut text = String::new();
            let read = reader.read_to_string(&mut text);
            wait_for(child)?;
            let failed = |step: &str, error| Err(SetupError::new(step, error));
            match (read, text.as_str()) {
                (Ok(_), "ok") => Ok(()),
                (Ok(_), "") => failed("try it", io::Error::other("the process that tried it was killed")),
                (Ok(_), text) => {
                    let (step, why) = text.rsplit_once(": ").unwrap_or(("try it", text));
                    failed(step, io::Error::other(why.to_owned()))
                }
                (Err(error), _) => failed("read the answer", error),
            }
        }
    }
}

fn answer(mut writer: &File, result: Result<(), SetupError>) -> ! {
    let text = result.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    // The other end says for itself that nothing came.
    let _ = writer.write_all(text.as_bytes());
    exit_now(0)
}

/// Runs a step in process 1 of new namespaces with arranged mounts.
fn in_namespaces(
    policy: &Policy,
    step: impl FnOnce(Mounts) -> Result<(), SetupError>,
) -> Result<(), SetupError> {
    in_child(|| {
        privilege::no_new_privileges()?;
        namespace::enter_user()?;
        namespace::unshare(libc::CLONE_NEWPID, "make a process namespace")?;
        namespace::enter_mounts()?;
        in_child(|| step(namespace::arrange_mounts(policy)))
    })
}
