//! Data and models that lie below the home folder, and GPUs: what a program opens besides its own folder.

use std::sync::LazyLock;

use regex::Regex;

use super::{Environment, Machine, Tree};
use crate::adopt::guess::{Confidence, Evidence, Guess};
use crate::adopt::metric::regex;

/// `~/.cache/name`, as text or as parts of a path.
static CACHE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?:~|HOME\}?|\.home\(\)|expanduser\(["']~["']\))["']?\s*[,/]\s*["']?\.cache["']?\s*[,/]\s*["']?([\w.-]+)"#,
    )
});
/// Calls that fetch from the Hugging Face hub unless the files are in its cache.
static HUB: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"\b(get_kernel|from_pretrained|hf_hub_download|snapshot_download|load_dataset)\(")
});
static TORCH: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*(?:import|from) torch\b"));
static CUDA: LazyLock<Regex> = LazyLock::new(|| regex(r#"\.cuda\b|["']cuda(:\d)?["']|torch\.cuda"#));
static OTHER_DEVICE: LazyLock<Regex> = LazyLock::new(|| regex(r#"["'](mps|xpu)["']|\belse\s+["']cpu["']"#));
static ROCM: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\brocm\d"));
static MLX: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*(?:import|from) mlx\b"));

/// Lets the run read what its files name, and says what is missing.
pub(super) fn settle(environment: &mut Environment, tree: &Tree, machine: &Machine) {
    let mut home = Vec::new();
    for (at, name) in named_caches(tree) {
        home.push((at, name, "data of the program"));
    }
    if let Some(at) = first(tree, &HUB) {
        home.push((
            at,
            "huggingface".to_owned(),
            "models and kernels from the Hugging Face hub, which a run cannot reach",
        ));
        environment.env.push(("HF_HUB_OFFLINE".into(), "1".into()));
    }
    for (at, name, what) in &home {
        below_home(environment, tree, machine, at, name, what);
    }
    if let Some(folder) = machine.home.as_ref().filter(|_| !home.is_empty()) {
        environment.env.push(("HOME".into(), folder.display().to_string()));
        let why = "the program looks below its home folder; of that it sees only what `run_read` lists, and \
            may write nothing";
        environment.reasons.push(Guess::new((), Confidence::Likely, why).reason("run.env", "HOME"));
    }
    devices(environment, tree, machine);
}

fn named_caches(tree: &Tree) -> Vec<(Evidence, String)> {
    let mut found: Vec<(Evidence, String)> = Vec::new();
    for source in tree.tracked().filter(|source| source.path.ends_with(".py") || source.path.ends_with(".sh"))
    {
        for (at, line) in tree.lines(&source.path) {
            for captures in CACHE.captures_iter(line) {
                let name = captures[1].trim_end_matches('.').to_owned();
                // The sandbox gives no link or parent away.
                if !name.is_empty()
                    && !name.starts_with('.')
                    && !found.iter().any(|(_, known)| *known == name)
                {
                    found.push((at.clone(), name));
                }
            }
        }
    }
    found
}

fn below_home(
    environment: &mut Environment,
    tree: &Tree,
    machine: &Machine,
    at: &Evidence,
    name: &str,
    what: &str,
) {
    let Some(home) = &machine.home else {
        environment.warnings.push(format!("{at} names ~/.cache/{name}, but no home folder is known"));
        return;
    };
    let path = home.join(".cache").join(name).display().to_string();
    let why = format!("{what}, read-only for every trial");
    environment.reasons.push(Guess::likely((), at.clone(), why).reason("sandbox.run_read", &path));
    environment.run_read.push(path.clone());
    if !machine.caches.iter().any(|known| known == name) {
        environment.warnings.push(format!("{path} does not exist yet; a run would fail without it"));
        if name != "huggingface" && tree.tracks("prepare.py") {
            let program = if tree.has("uv.lock") { "uv run prepare.py" } else { "python3 prepare.py" };
            environment.first.push(program.to_owned());
        }
    }
}

fn devices(environment: &mut Environment, tree: &Tree, machine: &Machine) {
    if let Some(at) = first(tree, &TORCH) {
        environment.env.push(("TRITON_CACHE_DIR".into(), "{scratch}/triton".into()));
        let why = "compiled kernels go to the scratch folder, which is emptied: trials must not leave each \
            other files";
        environment.reasons.push(Guess::likely((), at, why).reason("run.env", "TRITON_CACHE_DIR"));
        let rocm = tree.find("pyproject.toml", &ROCM).map(|(at, _)| at);
        let (files, at, gpu) = match rocm {
            Some(at) => (vec!["/dev/kfd", "/dev/dri/*"], Some(at), "an AMD GPU"),
            None => (vec!["/dev/nvidia*"], first(tree, &CUDA), "an NVIDIA GPU"),
        };
        if let Some(at) = at {
            environment.devices = files.into_iter().map(str::to_owned).collect();
            let why = format!("the program computes on {gpu}, so runs may open its driver");
            environment
                .reasons
                .push(Guess::likely((), at, why).reason("sandbox.devices", environment.devices.join(" ")));
            let only = first(tree, &OTHER_DEVICE).is_none();
            if gpu == "an NVIDIA GPU" && only && !machine.nvidia {
                environment
                    .warnings
                    .push("the program asks for CUDA and this machine has no NVIDIA device".into());
            }
        }
    }
    if let Some(at) = first(tree, &MLX) {
        environment.warnings.push(format!("{at} imports MLX, which computes on Apple silicon"));
    }
}

/// The first line of a Python file that matches.
fn first(tree: &Tree, kind: &Regex) -> Option<Evidence> {
    let files = tree.tracked().filter(|source| source.path.ends_with(".py"));
    files.into_iter().find_map(|source| Some(tree.find(&source.path, kind)?.0))
}
