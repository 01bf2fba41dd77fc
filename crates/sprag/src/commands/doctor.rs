//! `sprag doctor`: what stands in the way, here and in a task.

use std::path::Path;

use serde_json::json;
use sprag_engine::proposer::found_agents;
use sprag_engine::runner::{self, Finding, Severity};
use sprag_engine::sandbox;
use sprag_engine::task::{FILE, Task};
use sprag_measure::{machine, process};
use sprag_train::data::Manifest;

use super::{print_json, println_or_stop, quoted};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::machine::file;
use crate::template;
use crate::ui::{Tone, tame, toned};

/// Look for what stands in the way: tools, sandbox, stale locks and worktrees
///
/// With --fix it also removes what a crash or a kill left behind, provided that nothing runs there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag doctor --fix --task sprag-quickstart/task")]
pub struct Args {
    /// Folder of the task, or one below it; without a task only the machine is looked at
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".")]
    task: std::path::PathBuf,
    /// Mend what can be mended
    #[arg(long)]
    fix: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what it found.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut findings = tools(context);
    findings.extend(confinement(context)?);
    findings.push(agents(context));
    findings.push(probed(context));
    let start = std::path::absolute(&args.task)?;
    match start.ancestors().find(|folder| folder.join(FILE).is_file()) {
        Some(dir) => {
            findings.extend(runner::doctor(dir, args.fix));
            findings.extend(prepared(dir, context));
        }
        None => findings.push(Finding::note(
            format!("there is no task in {} or above it", start.display()),
            "name one with `--task DIR`, or make one with `sprag init gpt DIR`",
        )),
    }
    let problems = findings.iter().any(|finding| finding.severity == Severity::Problem && !finding.fixed);
    if args.json {
        print_json(&json!({ "problems": problems, "findings": findings }))?;
    } else {
        for finding in &findings {
            print(finding, context)?;
        }
    }
    Ok(if problems { ExitCode::Problems } else { ExitCode::Success })
}

fn print(finding: &Finding, context: &Context) -> anyhow::Result<()> {
    let (word, tone) = match (finding.severity, finding.fixed) {
        (_, true) => ("fixed", Tone::Good),
        (Severity::Fine, _) => ("ok", Tone::Good),
        (Severity::Note, _) => ("note", Tone::Doubt),
        (Severity::Problem, _) => ("PROBLEM", Tone::Bad),
    };
    let word = toned(&format!("{word:<8}"), tone, context.terminal.colour_out);
    println_or_stop(&format!("{word} {}", tame(&finding.what)))?;
    match &finding.hint {
        Some(hint) if !finding.fixed => println_or_stop(&format!("         hint: {}", tame(hint))),
        _ => Ok(()),
    }
}

/// The coding agents that `sprag run --proposer` finds here; none is needed.
fn agents(context: &Context) -> Finding {
    let found = found_agents(&context.environment.variables);
    let found: Vec<String> =
        found.iter().map(|(name, program)| format!("{name} ({})", program.display())).collect();
    match found.as_slice() {
        [] => Finding::fine("no coding agent is in PATH; the built-in `search` needs none"),
        some => Finding::fine(format!("coding agents: {}", some.join(", "))),
    }
}

/// Whether this machine was measured.
fn probed(context: &Context) -> Finding {
    let hint = "`sprag probe --quick` measures it in 20 s";
    let path = match file::of(&machine::facts(), &context.environment) {
        Ok(path) => path,
        Err(error) => return Finding::note(error.to_string(), hint),
    };
    match file::read(&path) {
        Ok(Some(probe)) => Finding::fine(format!("this machine was probed at {}", probe.at)),
        Ok(None) => Finding::note("this machine was not probed, so briefs do not say what it can do", hint),
        Err(error) => Finding::note(error.to_string(), "move the file away, and probe again"),
    }
}

/// Git for the loop; cargo, rustc and a linker for tasks in Rust.
fn tools(context: &Context) -> Vec<Finding> {
    let cargo = context.environment.cargo();
    let rustc = template::rustc(&cargo);
    let mut findings = Vec::new();
    for (name, program, needed, hint) in [
        ("git", Path::new("git").to_owned(), true, "install git 2.31 or newer"),
        ("cargo", cargo, false, "tasks in Rust need it: install Rust from rustup.rs"),
        ("rustc", rustc, false, "tasks in Rust need it: install Rust from rustup.rs"),
        ("cc", Path::new("cc").to_owned(), false, "tasks in Rust need a linker: install gcc or clang"),
    ] {
        let output = process::output(&program, ["--version"], Path::new("/"), &context.environment.variables);
        findings.push(match output {
            Ok(output) if output.success() => {
                Finding::fine(output.text().lines().next().unwrap_or(name).to_owned())
            }
            _ if needed => Finding::problem(format!("{name} does not start"), hint),
            _ => Finding::note(format!("{name} does not start"), hint),
        });
    }
    findings.push(match template::workspace() {
        Ok(path) => Finding::fine(format!("Sprag's sources are at {}", path.display())),
        Err(error) => Finding::note(
            error.to_string(),
            "`init gpt` and `--source cargo` need them; run Sprag from its clone",
        ),
    });
    findings
}

/// The data that a task names, where it is one of ours.
fn prepared(dir: &Path, context: &Context) -> Option<Finding> {
    let task = Task::load(dir).ok()?;
    let data = Path::new(task.vars.get("data")?);
    Some(match Manifest::read(data) {
        Ok(_) => Finding::fine(format!("data is prepared in {}", data.display())),
        Err(error) => {
            let out = quoted(&data.to_string_lossy());
            Finding::problem(
                error.to_string(),
                format!("{} data prepare --out {out}", context.program_word()),
            )
        }
    })
}

fn confinement(context: &Context) -> anyhow::Result<Vec<Finding>> {
    let capabilities = sandbox::capabilities(&context.launcher()?);
    let mut findings: Vec<Finding> =
        capabilities.enforced.iter().map(|part| Finding::fine(format!("sandbox: {part}"))).collect();
    for missing in &capabilities.missing {
        let hint = format!("{}; or run with --allow-unsandboxed", missing.hint);
        findings.push(Finding::problem(format!("sandbox lacks {missing}"), hint));
    }
    for weaker in &capabilities.weaker {
        findings.push(Finding::note(format!("sandbox without a second wall, {weaker}"), weaker.hint.clone()));
    }
    Ok(findings)
}
