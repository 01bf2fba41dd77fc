//! The profile that macOS's `sandbox-exec` enforces.
//!
//! Text generation is pure and tested everywhere; only starting it is for macOS.

use std::path::Path;

use super::{Policy, system_reads};

/// Apple's launcher.
#[cfg(target_os = "macos")]
pub(super) const PROGRAM: &str = "/usr/bin/sandbox-exec";

/// Everything that is not listed is denied.
const PREAMBLE: &str = r#"(version 1)
(deny default)
(allow process-exec)
(allow process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow file-read-metadata)
(allow file-read* (literal "/"))
(allow file-read* file-write-data (literal "/dev/null") (literal "/dev/zero"))
(allow file-read* (literal "/dev/random") (literal "/dev/urandom") (literal "/dev/autofs_nowait"))
(allow ipc-posix-sem)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(deny network*)
"#;

/// The policy in the language of `sandbox-exec`. Later rules win, so the network stays denied.
pub fn seatbelt_profile(policy: &Policy) -> String {
    let mut profile = PREAMBLE.to_owned();
    let system = system_reads();
    for path in system.iter().chain(&policy.read) {
        profile.push_str(&format!("(allow file-read* {})\n", subpath(path)));
    }
    for path in &policy.write {
        profile.push_str(&format!("(allow file-read* file-write* {})\n", subpath(path)));
    }
    for path in &policy.keep {
        profile.push_str(&format!("(deny file-write* {})\n", subpath(path)));
    }
    for path in &policy.devices {
        profile.push_str(&format!("(allow file-read* file-write-data file-ioctl {})\n", subpath(path)));
    }
    profile
}

/// A folder with all below it, or a file. Links are resolved where the path exists, as the system matches
/// real paths (`/tmp` is `/private/tmp`).
fn subpath(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut quoted = String::from("\"");
    for character in real.to_string_lossy().chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    format!("(subpath {quoted}\")")
}

/// Tries it on a program that does nothing.
#[cfg(target_os = "macos")]
pub(super) fn capabilities() -> super::Capabilities {
    use super::{Capabilities, Part};

    let args = ["-p", "(version 1)(allow default)", "/usr/bin/true"];
    match sprag_measure::process::output(PROGRAM, args, Path::new("/"), &[]) {
        Ok(output) if output.success() => {
            Capabilities { enforced: vec![Part::Seatbelt], ..Capabilities::default() }
        }
        Ok(output) => {
            let why = format!("{PROGRAM} {}: {}", output.end, output.error_text());
            Capabilities::nothing(Part::Seatbelt, why, "do not start this program inside another sandbox")
        }
        Err(error) => {
            Capabilities::nothing(Part::Seatbelt, error.to_string(), "restore /usr/bin/sandbox-exec")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Network, OnViolation};
    use super::*;

    fn policy(read: &[&str], write: &[&str]) -> Policy {
        let paths = |list: &[&str]| list.iter().map(Into::into).collect();
        Policy {
            read: paths(read),
            write: paths(write),
            keep: Vec::new(),
            devices: paths(&["/dev/absent"]),
            network: Network::None,
            on_network: OnViolation::Refuse,
            processes: 1,
            file_bytes: 1,
            open_files: 1,
        }
    }

    #[test]
    fn only_listed_paths_are_allowed_and_only_writable_ones_for_writing() {
        let profile = seatbelt_profile(&policy(&["/absent/in"], &["/absent/out"]));
        assert!(profile.starts_with("(version 1)\n(deny default)\n"));
        let lines: Vec<&str> = profile.lines().filter(|line| line.contains("absent")).collect();
        assert_eq!(
            lines,
            [
                "(allow file-read* (subpath \"/absent/in\"))",
                "(allow file-read* file-write* (subpath \"/absent/out\"))",
                "(allow file-read* file-write-data file-ioctl (subpath \"/dev/absent\"))",
            ]
        );
        assert!(profile.contains("(deny network*)") && !profile.contains("(allow network"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_quotes() {
        let profile = seatbelt_profile(&policy(&["/absent/a\") (allow network*) (\"\\"], &[]));
        assert!(profile.contains(r#"(subpath "/absent/a\") (allow network*) (\"\\")"#));
    }

    #[test]
    fn links_are_resolved() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let link = dir.path().join("link");
        std::fs::create_dir(dir.path().join("real")).expect("a folder");
        std::os::unix::fs::symlink(dir.path().join("real"), &link).expect("a link");
        let profile = seatbelt_profile(&policy(&[], &[link.to_str().expect("text")]));
        assert!(profile.contains("/real\"))") && !profile.contains("/link\"))"));
    }
}
