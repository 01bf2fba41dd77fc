//! Cargo: compiled once for a trial, outside its worktree, then run as the program that was built.

use super::{Build, Environment, Machine, Tree};
use crate::adopt::Question;
use crate::adopt::guess::{Confidence, Evidence, Guess};
use crate::adopt::metric::regex;

/// Builds in a copy of the checkout that is a workspace of its own: worktrees lie below the task's folder, and
/// cargo looks for a workspace in every folder above. Then copies what cargo says it built, because benchmarks have
/// a hash in their names.
const BUILD: &str = "set -e; out=$0; rm -rf \"$1/checkout\"; cp -R \"$2\" \"$1/checkout\"; cd \"$1/checkout\"; \
     grep -q '^\\[workspace' Cargo.toml || printf '\\n[workspace]\\n' >> Cargo.toml; shift 2; \
     \"$@\" > \"$out/built.json\"; \
     built=$(sed -n 's/.*\"executable\":\"\\([^\"]*\\)\".*/\\1/p' \"$out/built.json\" | tail -n 1); cp \"$built\" \"$out/built\"";

/// Splits `cargo run` and `cargo bench` into a build and a run.
pub(super) fn settle(environment: &mut Environment, tree: &Tree, machine: &Machine) {
    let typed = environment.command.clone();
    let words: Vec<&str> = typed.iter().map(String::as_str).collect();
    let (verb, rest) = match words[..] {
        ["cargo", verb @ ("run" | "bench"), ref rest @ ..] => (verb, rest),
        ["cargo", ..] => {
            environment
                .warnings
                .push("cargo needs a folder to build in; name the built program with --run".into());
            return;
        }
        _ => return,
    };
    let Some(rust) = &machine.rust else {
        environment.questions.push(Question {
            text: "which Rust builds it? rustc is not on the search path".into(),
            choices: Vec::new(),
            flag: "--run 'CMD'",
        });
        return;
    };
    let split = rest.iter().position(|word| *word == "--").unwrap_or(rest.len());
    let (options, arguments) = (&rest[..split], rest.get(split + 1..).unwrap_or_default());
    let mut command = vec!["{rust}/bin/cargo".to_owned()];
    command.extend(
        if verb == "run" { vec!["build"] } else { vec!["bench", "--no-run"] }.into_iter().map(str::to_owned),
    );
    command.extend(options.iter().map(|word| (*word).to_owned()));
    command.extend(["--offline", "--message-format=json-render-diagnostics"].map(str::to_owned));
    if tree.tracks("Cargo.lock") {
        command.push("--locked".into());
    }
    let mut run = vec!["{out}/built".to_owned()];
    // Cargo tells a benchmark that it is one.
    run.extend((verb == "bench").then(|| "--bench".to_owned()));
    run.extend(arguments.iter().map(|word| (*word).to_owned()));
    environment.command = run;
    environment.vars.push(("rust".into(), rust.sysroot.display().to_string()));
    let shell = ["/bin/sh", "-c", BUILD, "{out}", "{cache}", "{worktree}"].map(str::to_owned);
    environment.build = Some(Build {
        command: shell.into_iter().chain(command).collect(),
        keep: Vec::new(),
        env: build_variables(rust),
    });
    environment.build_read.push("{rust}".into());
    // Its configuration is looked for in every folder above, too.
    if tree.has_folder(".cargo") {
        environment.build_read.push("{task}/.cargo".into());
    }
    let packages =
        ["registry", "git", "config.toml"].map(|name| rust.cargo_home.join(name).display().to_string());
    environment.build_read.extend(packages);
    environment.first.push("cargo fetch".into());
    let why = "a trial is compiled once, without the network, into a folder that trials share, and then run \
        as a program";
    let reason = Guess::likely((), Evidence::new("Cargo.toml", 1), why)
        .reason("build.command", format!("cargo {verb}"));
    environment.reasons.push(reason);
    let why = "the toolchain that rustc on the search path belongs to";
    environment.reasons.push(
        Guess::new((), Confidence::Likely, why).reason("vars.rust", rust.sysroot.display().to_string()),
    );
    if tree.tracked().any(|source| source.path.starts_with("rust-toolchain")) {
        environment.warnings.push(
            "rust-toolchain names a toolchain; `[vars] rust` is the one that is on the path now".into(),
        );
    }
    if tree.find("Cargo.toml", &regex(r"\bcriterion\b")).is_some() {
        environment.warnings.push(
            "criterion prints times in changing units; a pattern cannot compare them, its estimates.json \
             can (--result)"
                .into(),
        );
    }
}

fn build_variables(rust: &super::Rust) -> Vec<(String, String)> {
    [
        ("CARGO_HOME", rust.cargo_home.display().to_string()),
        ("CARGO_TARGET_DIR", "{cache}".to_owned()),
        ("PATH", "{rust}/bin:/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("RUSTC", "{rust}/bin/rustc".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
