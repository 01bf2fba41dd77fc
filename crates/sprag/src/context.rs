//! What every command needs from outside: environment, terminal, this program's own path, the task.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sprag_engine::proposer::{AskingLimits, ProposerSpec};
use sprag_engine::record::Mix;
use sprag_engine::runner::Setup;
use sprag_engine::sandbox::{self, Confinement, Launcher};
use sprag_engine::task::{FILE, Task};
use sprag_measure::machine::Machine;
use sprag_measure::process;

use crate::environment::Environment;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::machine::file;
use crate::ui::Terminal;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The outside.
#[derive(Clone, Debug)]
pub struct Context {
    /// Variables.
    pub environment: Environment,
    /// What the streams can show.
    pub terminal: Terminal,
}

impl Context {
    /// Looks around.
    pub fn read() -> Context {
        let environment = Environment::read();
        let terminal = Terminal::probe(&environment);
        Context { environment, terminal }
    }

    /// This program.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        std::env::current_exe().context("cannot find this program's own file")
    }

    /// This program as people type it, for next steps.
    pub fn program_word(&self) -> String {
        let Ok(program) = self.program() else { return "sprag".to_owned() };
        let path = self.environment.get("PATH").unwrap_or_default();
        if std::env::split_paths(path).any(|folder| folder.join("sprag") == program) {
            return "sprag".to_owned();
        }
        let here = std::env::current_dir().unwrap_or_default();
        program.strip_prefix(&here).unwrap_or(&program).display().to_string()
    }

    /// Enters this program again as the sandbox's launcher.
    pub fn launcher(&self) -> anyhow::Result<Launcher> {
        Ok(Launcher { program: self.program()?, args: vec![OsString::from("sandbox-exec")] })
    }

    /// The task in that folder or the nearest one above it.
    pub fn task(&self, dir: &Path) -> anyhow::Result<Task> {
        let start = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
        let found = start.ancestors().find(|folder| folder.join(FILE).is_file());
        let Some(found) = found else {
            let failure = Failure::new(format!("there is no {FILE} in {} or above it", start.display()));
            return Err(failure
                .hint(
                    "name the task's folder with `--task DIR`, make one with `sprag init gpt DIR`, or have `sprag adopt` \
                     write its contract",
                )
                .into());
        };
        Ok(Task::load(found).map_err(sprag_engine::runner::EngineError::from)?)
    }

    /// A setup that executes nothing; `run` and `check` add how children are confined.
    pub fn setup(&self, task: Task, run: Option<String>) -> anyhow::Result<Setup> {
        let machine = Machine::probe();
        let default_memory_bytes = machine.usable_memory_bytes().map(|bytes| bytes / 4 * 3);
        let mut facts = machine.facts();
        // What a probe found is told along; `sprag doctor` says when its file cannot be read.
        let probed = file::of(&facts, &self.environment).and_then(|path| file::read(&path)).ok().flatten();
        facts.extend(probed.iter().flat_map(file::measured));
        Ok(Setup {
            task,
            run,
            new_run: false,
            proposers: Vec::<ProposerSpec>::new(),
            mix: Mix::default(),
            asking: AskingLimits::default(),
            seed: 0,
            max_trials: None,
            max_seconds: None,
            confinement: Confinement::Unsandboxed,
            sandbox_facts: (Vec::new(), Vec::new()),
            sprag_program: self.program()?,
            sprag_version: VERSION.to_owned(),
            environment: self.environment.variables.clone(),
            machine: facts,
            default_memory_bytes,
            cancel: process::Cancel::default(),
            kill: process::Cancel::default(),
        })
    }

    /// Confines the setup's children and watches for Ctrl-C; refuses where the sandbox lacks a part, unless
    /// that is allowed.
    pub fn confine(&self, setup: &mut Setup, allow_unsandboxed: bool) -> anyhow::Result<Interrupt> {
        self.wall_in(setup, allow_unsandboxed)?;
        let interrupt = Interrupt::watch()?;
        setup.cancel = interrupt.cancel.clone();
        setup.kill = interrupt.kill.clone();
        Ok(interrupt)
    }

    /// The first half of that: whoever calls stops the setup by its own means.
    pub fn wall_in(&self, setup: &mut Setup, allow_unsandboxed: bool) -> anyhow::Result<()> {
        let launcher = self.launcher()?;
        let capabilities = self.capabilities(allow_unsandboxed)?;
        let mut facts: Vec<String> = capabilities.enforced.iter().map(ToString::to_string).collect();
        facts.extend(capabilities.weaker.iter().map(|weaker| format!("without a second wall: {weaker}")));
        facts.extend(device_facts(&setup.task));
        if capabilities.complete() {
            refuse_exposed(&setup.task)?;
            setup.confinement = Confinement::Sandboxed(launcher);
            setup.sandbox_facts = (facts, Vec::new());
        } else {
            // Nothing is confined then, so what this machine could enforce is missing as much as what it lacks.
            let mut missing: Vec<String> = capabilities.missing.iter().map(ToString::to_string).collect();
            let unused =
                capabilities.enforced.iter().map(|part| format!("{part}: not used without the others"));
            missing.extend(unused);
            setup.confinement = Confinement::Unsandboxed;
            setup.sandbox_facts = (Vec::new(), missing);
        }
        Ok(())
    }

    /// What the sandbox can do here; refused when that is not all and nobody said to go on without.
    pub fn capabilities(&self, allow_unsandboxed: bool) -> anyhow::Result<sandbox::Capabilities> {
        let capabilities = sandbox::capabilities(&self.launcher()?);
        if capabilities.complete() || allow_unsandboxed {
            return Ok(capabilities);
        }
        let missing: Vec<String> = capabilities.missing.iter().map(ToString::to_string).collect();
        let hints: Vec<&str> = capabilities.missing.iter().map(|missing| missing.hint.as_str()).collect();
        let hint = format!(
            "{}; or pass --allow-unsandboxed to run code without a sandbox, which the report will say",
            hints.join("; ")
        );
        let failure = Failure::new(format!("the sandbox is not complete here: {}", missing.join("; ")));
        Err(failure.hint(hint).code(ExitCode::Unconfined).into())
    }
}

/// A sandbox whose walls do not stand around the task and its data would be a promise not kept.
fn refuse_exposed(task: &Task) -> anyhow::Result<()> {
    let Some((place, by)) = task.exposed(&sandbox::always_readable()) else { return Ok(()) };
    let failure = Failure::new(format!(
        "candidates could read {}: it lies below {}, which the sandbox lets them read",
        place.display(),
        by.display()
    ));
    Err(failure
        .hint("move it elsewhere, for example below your home folder, or shorten `sandbox.read`")
        .into())
}

/// Which device files candidates may open: a hole in the sandbox that the task asked for.
fn device_facts(task: &Task) -> Option<String> {
    let devices = &task.sandbox.devices;
    let patterns: Vec<String> = devices.patterns().collect();
    let present: Vec<String> = devices.present().iter().map(|path| path.display().to_string()).collect();
    let here = if present.is_empty() { "none is here".to_owned() } else { present.join(", ") };
    (!patterns.is_empty()).then(|| format!("devices {}: {here}", patterns.join(" ")))
}
