//! Runs machine-learning experiments by itself on the machine you own, and keeps only what is really better.
//!
//! The program: command line, terminal, reports. The loop is `sprag-engine`'s, training `sprag-train`'s.

mod bench;
mod commands;
mod context;
mod environment;
mod error;
mod exit_code;
mod interrupt;
mod machine;
mod mcp;
mod numbers;
mod report;
mod template;
mod ui;

use std::process::ExitCode as Status;

use clap::{Parser, Subcommand};

use crate::context::Context;
use crate::exit_code::ExitCode;

/// Run machine-learning experiments by yourself, on the machine you own
///
/// Sprag proposes a change to a task's code, builds it, trains it for a fixed budget, has a separate
/// evaluator score it, and keeps the change only if it is better than the noise of this machine explains.
/// Everything is recorded; any command can be stopped at any time, and resumed.
#[derive(Debug, Parser)]
#[command(
    name = "sprag",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(after_help = "Begin with `sprag quickstart`.", after_long_help = help_end())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn help_end() -> String {
    format!("Begin with `sprag quickstart`.\n\n{}", ExitCode::help())
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(commands::quickstart::Args),
    Init(commands::init::Args),
    Adopt(commands::adopt::Args),
    Run(commands::run::Args),
    Check(commands::check::Args),
    Status(commands::status::Args),
    Noise(commands::noise::Args),
    Log(commands::log::Args),
    Show(commands::show::Args),
    Diff(commands::diff::Args),
    Brief(commands::brief::Args),
    Steer(commands::steer::Args),
    Undo(commands::undo::Args),
    Certify(commands::certify::Args),
    Merge(commands::merge::Args),
    Report(commands::report::Args),
    History(commands::history::Args),
    Gate(commands::gate::Args),
    Mcp(commands::mcp::Args),
    Data(commands::data::Args),
    Doctor(commands::doctor::Args),
    Probe(commands::probe::Args),
    Plan(Box<commands::plan::Args>),
    Claims(commands::claims::Args),
    Bench(commands::bench::Args),
    Ane(Box<commands::ane::Args>),
    #[command(hide = true)]
    Train(commands::train::Args),
    #[command(hide = true)]
    BenchWorker(commands::bench_worker::Args),
    #[command(hide = true)]
    SandboxExec(commands::sandbox_exec::Args),
}

fn main() -> Status {
    let cli = Cli::parse();
    // The launcher must be entered before anything starts a thread or looks around.
    if let Command::SandboxExec(args) = cli.command {
        return commands::sandbox_exec::run(args);
    }
    let context = Context::read();
    let code = match dispatch(cli.command, &context) {
        Ok(code) => code,
        Err(error) => error::report(&error, context.terminal),
    };
    code.into()
}

fn dispatch(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Quickstart(args) => commands::quickstart::run(args, context),
        Command::Init(args) => commands::init::run(args, context),
        Command::Adopt(args) => commands::adopt::run(args, context),
        Command::Run(args) => commands::run::run(args, context),
        Command::Check(args) => commands::check::run(args, context),
        Command::Status(args) => commands::status::run(args, context),
        Command::Noise(args) => commands::noise::run(args, context),
        Command::Log(args) => commands::log::run(args, context),
        Command::Show(args) => commands::show::run(args, context),
        Command::Diff(args) => commands::diff::run(args, context),
        Command::Brief(args) => commands::brief::run(args, context),
        Command::Steer(args) => commands::steer::run(args, context),
        Command::Undo(args) => commands::undo::run(args, context),
        Command::Certify(args) => commands::certify::run(args, context),
        Command::Merge(args) => commands::merge::run(args, context),
        Command::Report(args) => commands::report::run(args, context),
        Command::History(args) => commands::history::run(args, context),
        Command::Gate(args) => commands::gate::run(args),
        Command::Mcp(args) => commands::mcp::run(args, context),
        Command::Data(args) => commands::data::run(args, context),
        Command::Doctor(args) => commands::doctor::run(args, context),
        Command::Probe(args) => commands::probe::run(args, context),
        Command::Plan(args) => commands::plan::run(*args, context),
        Command::Claims(args) => commands::claims::run(&args),
        Command::Ane(args) => commands::ane::run(*args, context),
        Command::Bench(args) => commands::bench::run(&args, context),
        Command::BenchWorker(args) => commands::bench_worker::run(&args),
        Command::Train(args) => commands::train::run(args),
        Command::SandboxExec(args) => {
            let _ = commands::sandbox_exec::run(args);
            Ok(ExitCode::Failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The reference in `docs/cli.md` is what `--help` says; `SPRAG_UPDATE=1 cargo test -p sprag` writes it.
    #[test]
    fn the_reference_in_the_docs_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
        let reference = reference();
        if std::env::var_os("SPRAG_UPDATE").is_some() {
            std::fs::write(&path, &reference).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == reference, "docs/cli.md is stale; run `SPRAG_UPDATE=1 cargo test -p sprag`");
    }

    fn reference() -> String {
        let mut text =
            "# Command line\n\nGenerated from the program's help; do not edit by hand.\n".to_owned();
        let command = Cli::command().term_width(100);
        describe(&mut text, command, "");
        text
    }

    fn describe(text: &mut String, mut command: clap::Command, parent: &str) {
        let name = format!("{parent}{}", command.get_name());
        let heading = if parent.is_empty() { "##" } else { "###" };
        let help = command.clone().bin_name(&name).render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        *text += &format!("\n{heading} `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
        command.build();
        let children: Vec<clap::Command> = command
            .get_subcommands()
            .filter(|child| !child.is_hide_set() && child.get_name() != "help")
            .cloned()
            .collect();
        for child in children {
            describe(text, child, &format!("{name} "));
        }
    }

    #[test]
    fn every_command_teaches_with_an_example() {
        let mut command = Cli::command();
        command.build();
        for child in
            command.get_subcommands().filter(|child| !child.is_hide_set() && child.get_name() != "help")
        {
            let leaves: Vec<&clap::Command> = match child.get_subcommands().next() {
                Some(_) => child.get_subcommands().filter(|child| child.get_name() != "help").collect(),
                None => vec![child],
            };
            for leaf in leaves {
                let help = leaf.clone().render_long_help().to_string();
                assert!(help.contains("Example"), "`{}` has no example", leaf.get_name());
                assert!(leaf.get_about().is_some(), "`{}` says nothing about itself", leaf.get_name());
            }
        }
    }
}
