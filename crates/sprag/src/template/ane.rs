//! The task that `init ane` writes: an agent edits how one layer is computed on the Neural Engine, and the evaluator says what a
//! step takes, or what training with it reaches.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Device, Toolchain, build_read, build_toml, cargo_home, quoted, workspace, write_task};
use crate::context::Context;

const MANIFEST: &str = include_str!("../../../../templates/ane/Cargo.toml");
const MAIN: &str = include_str!("../../../../templates/ane/src/main.rs");
const LAYER: &str = include_str!("../../../../templates/ane/src/layer.rs");
const PROGRAM: &str = include_str!("../../../../templates/ane/program.md");

/// Where the template's own manifest finds the library.
const LIBRARY: &str = "../../crates/sprag-ane";

/// What is written where.
#[derive(Clone, Debug)]
pub struct Ane {
    /// The task's folder.
    pub dir: PathBuf,
    /// Configuration of the model.
    pub config: String,
    /// Chip that is emulated.
    pub chip: String,
    /// Train with it on this data, relative to the task's folder, and for so many seconds; else a step is predicted.
    pub train: Option<(String, f64)>,
    /// Train on this machine's device rather than on the emulator.
    pub on_device: bool,
}

/// Writes the task and commits it to a new git repository.
pub fn write(ane: &Ane, context: &Context) -> anyhow::Result<()> {
    let workspace = workspace()?;
    let library = quoted(workspace.join("crates/sprag-ane"));
    let manifest = MANIFEST.replace(&format!("\"{LIBRARY}\""), &library);
    let manifest = format!(
        "{}\n\n# A workspace of its own, wherever the folder lies.\n[workspace]\n",
        manifest.trim_end()
    );
    let files = [
        ("Cargo.toml", manifest),
        ("src/main.rs", MAIN.to_owned()),
        ("src/layer.rs", LAYER.to_owned()),
        ("program.md", PROGRAM.to_owned()),
    ];
    write_task(&ane.dir, &files, &workspace, Device::Cpu, context, &|toolchain, packages| {
        task_toml(ane, &workspace, toolchain, packages)
    })
    .with_context(|| format!("cannot write the task to {}", ane.dir.display()))
}

fn task_toml(ane: &Ane, workspace: &Path, toolchain: &Toolchain, packages: &[PathBuf]) -> String {
    let crates = workspace.join("crates");
    // Cargo opens the manifests of what the library could link, too.
    let paths = ["sprag-ane", "sprag-train"].map(|name| crates.join(name));
    let build_read = build_read(toolchain, &[&paths[..], &[workspace.join("Cargo.toml")]].concat(), packages);
    let (metric, budget, data, more) = match &ane.train {
        None => ("predicted_step_ms", 1.0, String::new(), String::new()),
        Some((data, seconds)) => (
            "val_bpb",
            *seconds,
            format!("\n[vars]\ndata = {}\n", quoted(data)),
            r#", "--data", "{data}", "--budget", "{budget}""#.to_owned(),
        ),
    };
    let device = if ane.on_device { "" } else { "\"--emulate\", " };
    format!(
        r#"# The contract of this task; every key is described in docs/task.md of Sprag.
format = 1
name = "ane"

[files]
mutable = ["src/layer.rs"]
fixed = ["Cargo.toml", "Cargo.lock", "src/main.rs", ".gitignore"]
external = [{library_source}, {library_manifest}, {workspace_manifest}]
{data}
{build}[run]
command = ["{{out}}/ane-layer", {config}, "{{scratch}}/recipe"]
timeout_seconds = 60

# Another process, after the candidate's: what was written is executed and judged there.
[evaluate]
command = ["{{sprag}}", "ane", "judge", {device}"--chip", {chip}, "--config", {config}, "--recipe", "{{scratch}}/recipe", "--seed", "{{seed}}"{more}]
timeout_seconds = {timeout}

[metric]
name = "{metric}"
direction = "lower"

[budget]
seconds = {budget:?}

[sandbox]
build_read = [
    "{{task}}/{cargo_home}",
{build_read}]
"#,
        library_source = quoted(paths[0].join("src")),
        library_manifest = quoted(paths[0].join("Cargo.toml")),
        workspace_manifest = quoted(workspace.join("Cargo.toml")),
        build = build_toml(toolchain, "ane-layer", ""),
        config = quoted(&ane.config),
        chip = quoted(&ane.chip),
        timeout = 600.0 + 10.0 * budget,
        cargo_home = cargo_home::NAME,
    )
}
