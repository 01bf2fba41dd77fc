//! Chores of this repository, kept in Rust so that they run wherever the project builds.

mod ane_mac;
mod deny;
mod example;
mod quickstart;
mod screenshot;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let chore = std::env::args().nth(1).unwrap_or_default();
    let done = match chore.as_str() {
        "tidy" => tidy::run(&root()),
        "ane-mac" => ane_mac::run(&root()),
        "deny" => deny::run(&root()),
        "example" => example::run(&root()),
        "quickstart" => quickstart::run(&root()),
        "screenshot" => screenshot::run(&report()),
        _ => {
            eprintln!(
                "usage: cargo run -p xtask -- tidy|deny|ane-mac|example|quickstart|screenshot [REPORT.html]"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(summary) => {
            println!("{chore}: {summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{chore}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where cargo puts what it builds.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The report to look at: the one that is named, else a quickstart's.
fn report() -> PathBuf {
    std::env::args_os().nth(2).map_or_else(|| root().join("sprag-quickstart/report.html"), PathBuf::from)
}
