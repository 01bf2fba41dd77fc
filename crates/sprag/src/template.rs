//! The task that `init gpt` and `quickstart` write: the template of this repository, made to stand alone.
//!
//! Its sources are part of this program; the library they link is taken from the clone that the program was
//! built from, and its dependencies from cargo's registry folder, so nothing is downloaded.

pub mod ane;
mod cargo_home;
pub mod command;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sprag_engine::record::Budget;
use sprag_measure::process;
use sprag_train::data::{cargo_metadata_arguments, cargo_tree_arguments, cargo_tree_packages};

use crate::context::Context;
use crate::environment::Environment;
use crate::error::Failure;

const MANIFEST: &str = include_str!("../../../templates/gpt/Cargo.toml");
const MAIN: &str = include_str!("../../../templates/gpt/src/main.rs");
const TRAIN: &str = include_str!("../../../templates/gpt/src/train.rs");
const PROGRAM: &str = include_str!("../../../templates/gpt/program.md");
const HYPOTHESES: &str = include_str!("../../../templates/gpt/hypotheses.md");
const PROFILE: &str = include_str!("../../../templates/gpt/profile.toml");

/// Where the template's own manifest finds the library.
const LIBRARY: &str = "../../crates/sprag-train";

/// What is written where.
#[derive(Clone, Debug)]
pub struct Gpt {
    /// The task's folder.
    pub dir: PathBuf,
    /// The prepared data, absolute or relative to the task's folder.
    pub data: String,
    /// What a trial may spend.
    pub budget: Budget,
    /// What candidates compute on.
    pub device: Device,
}

/// What candidates compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor, all cores
    #[default]
    Cpu,
    /// A GPU of NVIDIA's
    Cuda,
    /// A GPU of Apple's
    Metal,
    /// Any GPU, through Vulkan, Metal or DirectX
    Wgpu,
}

impl Device {
    /// The feature of the template that builds for it.
    fn feature(self) -> Option<&'static str> {
        match self {
            Device::Cpu => None,
            Device::Cuda => Some("cuda"),
            Device::Metal => Some("metal"),
            Device::Wgpu => Some("wgpu"),
        }
    }

    /// The device files that its driver opens, on Linux.
    fn files(self) -> &'static [&'static str] {
        match self {
            Device::Cpu | Device::Metal => &[],
            Device::Cuda => &["/dev/nvidia*"],
            Device::Wgpu => &["/dev/dri/*", "/dev/nvidia*"],
        }
    }
}

/// The clone that this program was built from.
pub fn workspace() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().ok().filter(|root| root.join("crates/sprag-train/Cargo.toml").is_file()).ok_or_else(
        || {
            let root = std::path::absolute(&root).unwrap_or(root);
            let message =
                format!("Sprag's own sources are gone from {}, where this program was built", root.display());
            Failure::new(message)
                .hint("clone Sprag again and build it there: candidates link its library")
                .into()
        },
    )
}

/// The compiler beside that cargo.
pub fn rustc(cargo: &Path) -> PathBuf {
    let beside = cargo.parent().map(|folder| folder.join("rustc")).filter(|rustc| rustc.is_file());
    beside.unwrap_or_else(|| PathBuf::from("rustc"))
}

/// Writes the task and commits it to a new git repository.
pub fn write(gpt: &Gpt, context: &Context) -> anyhow::Result<()> {
    let workspace = workspace()?;
    let files = [
        ("Cargo.toml", manifest(&workspace)),
        ("src/main.rs", MAIN.to_owned()),
        ("src/train.rs", TRAIN.to_owned()),
        ("program.md", PROGRAM.to_owned()),
        ("hypotheses.md", HYPOTHESES.to_owned()),
    ];
    write_task(&gpt.dir, &files, &workspace, gpt.device, context, &|toolchain, packages| {
        task_toml(gpt, &workspace, toolchain, packages)
    })
}

/// Writes a task whose candidates are a package of Rust, its lock and its cargo home, and commits it. `contract` gives the text of
/// task.toml from the compiler and the packages that builds read.
fn write_task(
    dir: &Path,
    files: &[(&str, String)],
    workspace: &Path,
    device: Device,
    context: &Context,
    contract: &dyn Fn(&Toolchain, &[PathBuf]) -> String,
) -> anyhow::Result<()> {
    let toolchain = Toolchain::find(&context.environment)?;
    if dir.join("task.toml").exists() || dir.join(".git").exists() {
        let failure = Failure::new(format!("{} holds a task or a repository already", dir.display()));
        return Err(failure.hint("choose another folder; nothing was changed").into());
    }
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    for (name, text) in files {
        write(name, text)?;
    }
    write(".gitignore", &format!("/target\n/{}\n", cargo_home::NAME))?;
    let lock = workspace.join("Cargo.lock");
    std::fs::copy(&lock, dir.join("Cargo.lock"))
        .with_context(|| format!("cannot copy {}", lock.display()))?;
    let metadata = toolchain.settle_lock(dir, device, &context.environment)?;
    let linked = toolchain.linked(dir, device, &context.environment)?;
    let packages = cargo_home::write(&dir.join(cargo_home::NAME), &toolchain.cargo_home, &metadata, &linked)?;
    write("task.toml", &contract(&toolchain, &packages))?;
    commit(dir, &context.environment)
}

fn manifest(workspace: &Path) -> String {
    let library = quoted(workspace.join("crates/sprag-train"));
    let manifest = MANIFEST.replace(&format!("\"{LIBRARY}\""), &library);
    format!(
        "{}\n\n# A workspace of its own, wherever the folder lies.\n[workspace]\n\n{}",
        manifest.trim_end(),
        PROFILE.trim_start_matches(|character| character != '[')
    )
}

fn task_toml(gpt: &Gpt, workspace: &Path, toolchain: &Toolchain, packages: &[PathBuf]) -> String {
    let budget = match gpt.budget {
        Budget::Seconds(seconds) => format!("seconds = {seconds:?}"),
        Budget::Tokens(tokens) => format!("tokens = {tokens}"),
        Budget::Steps(steps) => format!("steps = {steps}"),
        Budget::Evaluations(evaluations) => format!("evaluations = {evaluations}"),
    };
    let library = workspace.join("crates/sprag-train");
    let build_read = build_read(toolchain, &[library.clone(), workspace.join("Cargo.toml")], packages);
    let features =
        gpt.device.feature().map(|feature| format!(" \"--features\", \"{feature}\",")).unwrap_or_default();
    // Kernels of GPUs multiply in TF32 or bf16 where that is faster.
    // A first step on a device compiles its kernels, for minutes where the device is a processor in disguise.
    let silence = if gpt.device == Device::Cpu { "" } else { "\nsilence_seconds = 300" };
    let precision =
        if gpt.device == Device::Cpu { "" } else { ", \"--precision\", \"reduced\", \"--silence\", \"5m\"" };
    let devices: Vec<String> = gpt.device.files().iter().map(quoted).collect();
    let devices =
        if devices.is_empty() { String::new() } else { format!("devices = [{}]\n", devices.join(", ")) };
    let build = build_toml(toolchain, "gpt", &features);
    format!(
        r#"# The contract of this task; every key is described in docs/task.md of Sprag.
format = 1
name = "gpt"

[files]
mutable = ["src/train.rs"]
fixed = ["Cargo.toml", "Cargo.lock", "src/main.rs", ".gitignore"]
external = [
    {library_source},
    {library_manifest},
    {workspace_manifest},
    "{{data}}/manifest.json",
]

[vars]
data = {data}

{build}[run]
command = ["{{out}}/gpt"]{silence}

[evaluate]
command = ["{{sprag}}", "train", "eval", "--data", "{{data}}", "--seed", "{{seed}}", "--budget", "{{budget}}", "--phase", "{{phase}}"{precision}]
channel = true
holdout = true

[metric]
name = "val_bpb"
direction = "lower"

[budget]
{budget}

[sandbox]
{devices}build_read = [
    "{{task}}/{cargo_home}",
{build_read}]
"#,
        library_source = quoted(library.join("src")),
        library_manifest = quoted(library.join("Cargo.toml")),
        workspace_manifest = quoted(workspace.join("Cargo.toml")),
        data = quoted(&gpt.data),
        cargo_home = cargo_home::NAME,
    )
}

/// What builds may read: the compiler, these paths, and the packages.
fn build_read(toolchain: &Toolchain, paths: &[PathBuf], packages: &[PathBuf]) -> String {
    let mut readable = vec![toolchain.sysroot.clone()];
    readable.extend(paths.iter().chain(packages).cloned());
    readable.retain(|path| path.exists());
    readable.iter().map(|path| format!("    {},\n", quoted(path))).collect()
}

/// How candidates are built: what the configuration in cargo's home folder may set is set here.
fn build_toml(toolchain: &Toolchain, package: &str, features: &str) -> String {
    let bin = toolchain.sysroot.join("bin");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    format!(
        r#"[build]
# From the root of the file system: cargo would read the configuration of every folder above this one.
command = [
    "/bin/sh", "-c", "cd / && exec \"$0\" \"$@\"", {cargo}, "build", "--release", "--offline", "--locked",
    "--manifest-path", "{{worktree}}/Cargo.toml", "--target", {host},{features}
]
keep = [{built}]

# What the configuration in cargo's home folder may set is set here: programs there that a build cannot reach, and
# folders that nobody looks into. An empty value means none.
# CARGO_HOME is made by `sprag init` and not in git: a clone of this task needs a copy of it.
[build.env]
CARGO_BUILD_BUILD_DIR = "{{cache}}"
CARGO_ENCODED_RUSTFLAGS = ""
CARGO_HOME = "{{task}}/{cargo_home}"
CARGO_TARGET_DIR = "{{cache}}"
PATH = {path}
RUSTC = {rustc}
RUSTC_WORKSPACE_WRAPPER = ""
RUSTC_WRAPPER = ""

"#,
        cargo = quoted(bin.join("cargo")),
        rustc = quoted(bin.join("rustc")),
        host = quoted(&toolchain.host),
        built = quoted(format!("{}/release/{package}", toolchain.host)),
        cargo_home = cargo_home::NAME,
        path = quoted(&path),
    )
}

/// A TOML string; JSON's escapes are a part of TOML's.
fn quoted(text: impl AsRef<Path>) -> String {
    serde_json::Value::from(text.as_ref().to_string_lossy()).to_string()
}

/// The Rust that builds candidates.
struct Toolchain {
    sysroot: PathBuf,
    cargo_home: PathBuf,
    /// This platform, as rustc names it.
    host: String,
}

impl Toolchain {
    fn find(environment: &Environment) -> anyhow::Result<Toolchain> {
        let rustc = rustc(&environment.cargo());
        let hint = "install Rust from rustup.rs, or add cargo and rustc to PATH";
        let arguments = ["--print", "sysroot", "--print", "host-tuple"];
        let output = process::output(&rustc, arguments, Path::new("/"), &environment.variables)
            .with_context(|| Failure::new("cannot ask rustc where it lives").hint(hint))?;
        let text = output.text();
        let Some((sysroot, host)) = text.split_once('\n').filter(|_| output.success()) else {
            return Err(Failure::new(format!("rustc does not say where it lives: {}", output.error_text()))
                .hint(hint)
                .into());
        };
        let cargo_home = environment.cargo_home();
        let cargo_home = cargo_home
            .ok_or_else(|| Failure::new("neither CARGO_HOME nor HOME is set").hint("set one of them"))?;
        let cargo_home = std::path::absolute(&cargo_home).unwrap_or(cargo_home);
        Ok(Toolchain { sysroot: PathBuf::from(sysroot), cargo_home, host: host.to_owned() })
    }

    /// Has cargo drop from the copied lock what the task does not need, and returns what it says about the rest.
    /// Done now, because the lock is a fixed file: a build that rewrote it would make every trial invalid.
    fn settle_lock(&self, dir: &Path, device: Device, environment: &Environment) -> anyhow::Result<Vec<u8>> {
        // For this platform alone: packages of others were never fetched.
        self.ask(cargo_metadata_arguments(&dir.join("Cargo.toml"), Some(&self.host)), device, environment)
    }

    /// Names and versions of the packages that builds really read.
    fn linked(
        &self,
        dir: &Path,
        device: Device,
        environment: &Environment,
    ) -> anyhow::Result<BTreeSet<(String, String)>> {
        let arguments = cargo_tree_arguments(&dir.join("Cargo.toml"), Some(&self.host));
        Ok(cargo_tree_packages(&String::from_utf8_lossy(&self.ask(arguments, device, environment)?)))
    }

    /// What cargo prints about the task's packages, those for its device included.
    fn ask(
        &self,
        mut arguments: Vec<OsString>,
        device: Device,
        environment: &Environment,
    ) -> anyhow::Result<Vec<u8>> {
        arguments.extend(device.feature().map(|feature| OsString::from(format!("--features={feature}"))));
        let cargo = self.sysroot.join("bin/cargo");
        let variables = environment.without(&["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]);
        // Where builds are started, too: another configuration could name another registry.
        let output =
            process::output(&cargo, arguments, Path::new("/"), &variables).context("cannot start cargo")?;
        if output.success() {
            return Ok(output.stdout);
        }
        let failure = Failure::new(format!(
            "cargo cannot resolve the task's dependencies offline: {}",
            output.error_text()
        ));
        Err(failure
            .hint("run `cargo fetch` in Sprag's own folder (it needs the network once), then try again")
            .into())
    }
}

/// The first commit, by nobody's configuration: no hooks, no signing, no identity of the user's.
fn commit(dir: &Path, environment: &Environment) -> anyhow::Result<()> {
    let mut variables: Vec<(OsString, OsString)> =
        environment.get("PATH").map(|path| ("PATH".into(), path.into())).into_iter().collect();
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "sprag"),
        ("GIT_AUTHOR_EMAIL", "sprag@localhost"),
        ("GIT_COMMITTER_NAME", "sprag"),
        ("GIT_COMMITTER_EMAIL", "sprag@localhost"),
    ] {
        variables.push((name.into(), value.into()));
    }
    for arguments in [
        &["init", "--quiet", "--initial-branch=main", "--template="][..],
        &["add", "--all"],
        &["commit", "--quiet", "--no-verify", "--message=Begin from Sprag's template"],
    ] {
        let output = process::output("git", arguments.iter().copied(), dir, &variables);
        let output =
            output.with_context(|| Failure::new("cannot start git").hint("install git 2.31 or newer"))?;
        if !output.success() {
            anyhow::bail!("git {} in {}: {}", arguments[0], dir.display(), output.error_text());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use sprag_engine::task::{Task, Values, expand};

    use super::*;

    /// What people write into cargo's configuration for builds of their own.
    const HOSTILE: &str = r#"
[build]
build-dir = "/nowhere/build"
rustc = "/nowhere/rustc"
rustc-wrapper = "/nowhere/sccache"
rustc-workspace-wrapper = "/nowhere/clippy"
rustflags = ["-Clink-arg=-fuse-ld=/nowhere/mold"]
target = "wasm32-unknown-unknown"
target-dir = "/nowhere/target"
"#;

    fn gpt(budget: Budget) -> Gpt {
        Gpt { dir: "/tmp/gpt".into(), data: "../data".to_owned(), budget, device: Device::Cpu }
    }

    fn toolchain() -> Toolchain {
        Toolchain {
            sysroot: "/opt/rust \"quoted\"".into(),
            cargo_home: "/home/someone/.cargo".into(),
            host: "riscv64gc-unknown-linux-gnu".to_owned(),
        }
    }

    /// The written build command, carried out on a package of one line instead of the template.
    fn build(task: &Task, worktree: &Path, cache: &Path) -> process::Output {
        let build = task.build.as_ref().unwrap();
        let values =
            Values::default().with("worktree", worktree).with("cache", cache).with("task", &task.dir);
        let expand = |text: &String| expand(text, &values).unwrap();
        let command: Vec<OsString> = build.command.iter().map(expand).collect();
        let variables: Vec<_> = build.env.iter().map(|(name, value)| (name.into(), expand(value))).collect();
        process::output(&command[0], &command[1..], worktree, &variables).unwrap()
    }

    #[test]
    fn no_configuration_of_cargo_reaches_a_build() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (worktree, cache) = (dir.join("above/worktree"), dir.join("cache"));
        for (path, text) in [
            (dir.join(cargo_home::NAME).join("config.toml"), HOSTILE),
            // One that cargo cannot read stands for one that the sandbox keeps from it.
            (dir.join("above/.cargo/config.toml"), "not [a configuration"),
            (worktree.join("Cargo.toml"), "[package]\nname = \"gpt\"\nedition = \"2024\"\n[workspace]\n"),
            (worktree.join("Cargo.lock"), "version = 4\n[[package]]\nname = \"gpt\"\nversion = \"0.0.0\"\n"),
            (worktree.join("src/main.rs"), "fn main() {}\n"),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let toolchain = Toolchain::find(&Environment::read()).unwrap();
        let text = task_toml(&gpt(Budget::Seconds(1.0)), Path::new("/src/sprag"), &toolchain, &[]);
        let task = Task::parse(&text, &dir).unwrap();
        let output = build(&task, &worktree, &cache);
        assert!(output.success(), "{}", output.error_text());
        let kept = &task.build.as_ref().unwrap().keep[0];
        assert!(cache.join(kept).is_file(), "the build left no {kept} in its cache");
    }

    #[test]
    fn the_written_task_is_valid_for_each_kind_of_budget() {
        let seconds = [Budget::Seconds(20.0), Budget::Seconds(2.5)];
        let counts = [Budget::Tokens(10_000_000), Budget::Steps(500), Budget::Evaluations(9)];
        for budget in seconds.into_iter().chain(counts) {
            let text = task_toml(&gpt(budget), Path::new("/src/sprag"), &toolchain(), &[]);
            let task = Task::parse(&text, Path::new("/tmp/gpt")).unwrap();
            assert_eq!(task.budget, budget);
            assert!(task.has_smoke());
        }
    }

    #[test]
    fn what_scores_rest_on_outside_the_task_is_hashed() {
        let text = task_toml(&gpt(Budget::Seconds(1.0)), Path::new("/src/sprag"), &toolchain(), &[]);
        let task = Task::parse(&text, Path::new("/tmp/gpt")).unwrap();
        // Version and features of Burn stand in the workspace's manifest; the data's hashes in its own.
        for path in ["/src/sprag/crates/sprag-train/src", "/src/sprag/Cargo.toml", "/tmp/data/manifest.json"]
        {
            assert!(task.files.external.contains(&PathBuf::from(path)), "{path} is not hashed");
        }
    }

    #[test]
    fn each_device_has_a_feature_and_gpus_may_round_more() {
        for device in Device::value_variants() {
            let gpt = Gpt { device: *device, ..gpt(Budget::Seconds(1.0)) };
            let text = task_toml(&gpt, Path::new("/src/sprag"), &toolchain(), &[]);
            let task = Task::parse(&text, Path::new("/tmp/gpt")).unwrap();
            let silence = task.run.silence.map(|silence| silence.as_secs());
            assert_eq!(silence, (*device != Device::Cpu).then_some(300));
            let (build, evaluate) = (task.build.unwrap().command, task.evaluate.unwrap().command);
            let after = |command: &[String], option: &str| {
                let at = command.iter().position(|argument| argument == option)?;
                Some(command[at + 1].clone())
            };
            assert_eq!(after(&build, "--features").as_deref(), device.feature());
            let Some(feature) = device.feature() else {
                assert_eq!(after(&evaluate, "--precision"), None);
                assert_eq!(after(&evaluate, "--silence"), None);
                continue;
            };
            assert_eq!(after(&evaluate, "--precision").unwrap(), "reduced");
            assert_eq!(after(&evaluate, "--silence").unwrap(), "5m");
            assert!(MANIFEST.contains(&format!("\n{feature} = [\"sprag-train/{feature}\"]\n")));
        }
    }

    #[test]
    fn the_manifest_stands_alone() {
        let manifest = manifest(Path::new("/src/sprag"));
        assert!(manifest.contains("\"/src/sprag/crates/sprag-train\""));
        assert!(!manifest.contains(LIBRARY) && manifest.contains("\n[workspace]\n"));
    }

    #[test]
    fn what_candidates_are_built_from_is_fetched_with_the_program() {
        let fetched = include_str!("../../../templates/packages/Cargo.toml");
        let names = |manifest: &str| -> Vec<String> {
            let table = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
            let lines = table.lines().filter(|line| !line.starts_with('#'));
            lines.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
        };
        let library = include_str!("../../sprag-train/Cargo.toml");
        let model = library.lines().find_map(|line| line.strip_prefix("model = ")).unwrap();
        let wanted = names(MANIFEST).into_iter().filter(|name| name != "sprag-train");
        let linked = model.split('"').filter_map(|word| word.strip_prefix("dep:")).map(str::to_owned);
        for name in wanted.chain(linked) {
            assert!(names(fetched).contains(&name), "templates/packages lacks {name}");
        }
    }

    /// The values that a knob of the template can take.
    fn choices(knob: &str) -> Vec<usize> {
        let constant = format!("\nconst {knob}: usize = ");
        let range = TRAIN[..TRAIN.find(&constant).unwrap()].lines().last().unwrap();
        let range = range.strip_prefix("/// knob: choice ").unwrap();
        range.split('|').map(|value| value.parse().unwrap()).collect()
    }

    #[test]
    fn no_choice_of_heads_and_width_gives_shapes_that_do_not_fit() {
        // Key and value heads follow from the knobs, so this is the whole space.
        assert!(TRAIN.contains("\nconst N_KV_HEAD: usize = N_HEAD.div_ceil(KV_SHARE);\n"));
        for (heads, share) in choices("N_HEAD")
            .into_iter()
            .flat_map(|heads| choices("KV_SHARE").into_iter().map(move |share| (heads, share)))
        {
            let kv_heads = heads.div_ceil(share);
            assert!(heads.is_multiple_of(kv_heads), "{heads} heads cannot share {kv_heads}");
            for width in choices("D_MODEL") {
                // Rotary angles turn channels in pairs.
                assert!(
                    width.is_multiple_of(2 * heads),
                    "{width} channels are no whole pairs for {heads} heads"
                );
            }
        }
    }

    #[test]
    fn credentials_of_cargo_stay_out_of_reach() {
        let text = task_toml(&gpt(Budget::Seconds(1.0)), Path::new("/src/sprag"), &toolchain(), &[]);
        let task = Task::parse(&text, Path::new("/tmp/gpt")).unwrap();
        assert!(!task.sandbox.build_read.contains(&PathBuf::from("/home/someone/.cargo")));
    }
}
