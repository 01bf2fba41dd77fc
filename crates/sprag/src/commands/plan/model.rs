//! Which model is meant: a name, a configuration, a header, a folder of those, or the same on Hugging Face.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sprag_measure::plan::{
    self, Architecture, GgufError, GgufModel, Job, Quant, SafetensorsModel, find_model, find_quant,
    from_config, read_gguf, read_safetensors, safetensors_header_bytes,
};

use super::hub::{Hub, Wanted};
use crate::environment::Environment;
use crate::error::Failure;

/// What is read of a GGUF file at first, and at most.
const FIRST_BYTES: u64 = 16 << 20;
const MOST_BYTES: u64 = 1 << 30;

/// Which model, and how it is used.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// A name, a `config.json`, a GGUF or safetensors file, a folder with those, or `hf:ORGANISATION/NAME[/FILE.gguf]`
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Format of the weights; of a GGUF or safetensors file what it holds [default: Q4_K_M]
    #[arg(long, value_name = "Q")]
    pub quant: Option<String>,
    /// Positions, of prompt and answer together
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub context: u64,
    /// Sequences at once
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    pub batch: u64,
    /// Format of the numbers in the KV cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = ["f32", "f16", "q8_0", "q4_0"])]
    pub cache_type: String,
}

/// A model as it was named.
pub struct Chosen {
    /// What it is made of.
    pub architecture: Architecture,
    /// The format of its weights.
    pub quant: Quant,
    /// Bytes of the weights and of the embedding, where files tell them exactly.
    pub exact: Option<(u64, u64)>,
    /// Where its figures stand.
    pub source: String,
}

impl ModelArgs {
    /// Finds it.
    pub fn choose(&self, environment: &Environment) -> anyhow::Result<Chosen> {
        let quant = match &self.quant {
            None => None,
            Some(name) => Some(find_quant(name).ok_or_else(|| {
                let known: Vec<&str> = plan::quants().iter().map(|quant| quant.name).collect();
                Failure::new(format!("`{name}` is no format of weights that is known here"))
                    .hint(format!("known are {}", known.join(", ")))
            })?),
        };
        let model = self.model.as_ref();
        let model =
            model.ok_or_else(|| Failure::new("no model is named").hint("`sprag plan list` shows some"))?;
        if let Some(name) = model.strip_prefix("hf:") {
            return on_hub(&Hub::new(environment), &Wanted::parse(name)?, quant);
        }
        let path = Path::new(model);
        if path.is_dir() {
            return in_folder(path, quant);
        }
        if !path.is_file() {
            let found = find_model(model).ok_or_else(|| {
                Failure::new(format!("`{model}` is no file, and no model that is known here")).hint(
                    "`sprag plan list` shows the names; of any other model give its `config.json` or GGUF file",
                )
            })?;
            return Ok(Chosen {
                architecture: found.architecture,
                quant: or_usual(quant),
                exact: None,
                source: found.source,
            });
        }
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("gguf") => of_gguf(gguf_header(path)?, quant, path.display().to_string()),
            Some("safetensors") => {
                let config = path.with_file_name("config.json");
                with_weights(&config, &[path.to_owned()], quant)
            }
            _ => of_config(path, quant),
        }
    }

    /// What is to be planned.
    pub fn job<'a>(&self, chosen: &'a Chosen) -> Job<'a> {
        let bits = find_quant(&self.cache_type).map_or(16.0, |quant| quant.bits);
        Job {
            model: &chosen.architecture,
            quant: chosen.quant,
            exact: chosen.exact,
            context: self.context,
            batch: self.batch,
            cache_bytes: bits / 8.0,
        }
    }
}

/// What people download where nothing is said.
fn or_usual(quant: Option<Quant>) -> Quant {
    const USUAL: Quant = Quant { name: "Q4_K_M", bits: 4.85, source: "the usual choice" };
    quant.or_else(|| find_quant(USUAL.name)).unwrap_or(USUAL)
}

fn refuse_quant(quant: Option<Quant>, what: &str) -> anyhow::Result<()> {
    match quant {
        None => Ok(()),
        Some(_) => {
            Err(Failure::new(format!("{what} has its format already")).hint("leave `--quant` out").into())
        }
    }
}

fn of_gguf(model: GgufModel, quant: Option<Quant>, shown: String) -> anyhow::Result<Chosen> {
    refuse_quant(quant, "a GGUF file")?;
    Ok(Chosen {
        quant: Quant::of_file(model.weight_bytes, model.params),
        exact: Some((model.weight_bytes, model.embedding_bytes)),
        architecture: model.architecture,
        source: format!("header of {shown}"),
    })
}

/// The folder's name is the model's.
fn read_config(path: &Path) -> anyhow::Result<Architecture> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = whole.parent().and_then(Path::file_name);
    let name = name.map_or_else(|| shown.to_string(), |name| name.to_string_lossy().into_owned());
    config(&text, &name, &shown.to_string())
}

fn config(text: &str, name: &str, shown: &str) -> anyhow::Result<Architecture> {
    Ok(from_config(text, name).map_err(|error| {
        Failure::new(format!("cannot plan with {shown}: {error}")).hint("give the model's own `config.json`")
    })?)
}

fn of_config(path: &Path, quant: Option<Quant>) -> anyhow::Result<Chosen> {
    let architecture = read_config(path)?;
    Ok(Chosen { architecture, quant: or_usual(quant), exact: None, source: path.display().to_string() })
}

/// A folder as it is downloaded: `config.json`, and safetensors or one GGUF file.
fn in_folder(folder: &Path, quant: Option<Quant>) -> anyhow::Result<Chosen> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let with = |extension: &str| {
        let mut found: Vec<PathBuf> = files
            .iter()
            .filter(|path| path.extension().is_some_and(|own| own == extension))
            .cloned()
            .collect();
        found.sort();
        found
    };
    let (weights, gguf) = (with("safetensors"), with("gguf"));
    let settings = folder.join("config.json");
    match (settings.is_file(), weights.is_empty(), gguf.as_slice()) {
        (true, false, _) if quant.is_none() => with_weights(&settings, &weights, None),
        (true, ..) => of_config(&settings, quant),
        (false, _, [one]) => of_gguf(gguf_header(one)?, quant, one.display().to_string()),
        _ => Err(Failure::new(format!(
            "there is no `config.json` and no single GGUF file in {}",
            folder.display()
        ))
        .hint("name the file")
        .into()),
    }
}

/// A configuration with the exact sizes of its safetensors.
fn with_weights(settings: &Path, weights: &[PathBuf], quant: Option<Quant>) -> anyhow::Result<Chosen> {
    refuse_quant(quant, "a safetensors file")?;
    if !settings.is_file() {
        return Err(Failure::new(format!(
            "{} is missing: safetensors do not tell heads and windows",
            settings.display()
        ))
        .hint("put the model's `config.json` beside the file")
        .into());
    }
    let architecture = read_config(settings)?;
    let mut all = SafetensorsModel::default();
    for path in weights {
        all = all.and(safetensors_header(path)?);
    }
    Ok(of_safetensors(
        architecture,
        all,
        format!("headers of {} files and {}", weights.len(), settings.display()),
    ))
}

fn of_safetensors(architecture: Architecture, all: SafetensorsModel, source: String) -> Chosen {
    Chosen {
        architecture,
        quant: Quant::of_file(all.weight_bytes, all.params),
        exact: Some((all.weight_bytes, all.embedding_bytes)),
        source,
    }
}

fn beginning(path: &Path, length: u64) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

fn safetensors_header(path: &Path) -> anyhow::Result<SafetensorsModel> {
    let wrong = |error| Failure::new(format!("cannot plan with {}: {error}", path.display()));
    let length = safetensors_header_bytes(&beginning(path, 8)?).map_err(wrong)?;
    Ok(read_safetensors(&beginning(path, length)?).map_err(wrong)?)
}

/// Reads a file's beginning, and more of it as long as its header goes on.
pub fn gguf_header(path: &Path) -> anyhow::Result<GgufModel> {
    grown(&path.display().to_string(), |length| beginning(path, length))
}

fn grown(shown: &str, read: impl Fn(u64) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<GgufModel> {
    let mut length = FIRST_BYTES;
    loop {
        let bytes = read(length)?;
        match read_gguf(&bytes) {
            Ok(model) => return Ok(model),
            Err(GgufError::Broken(_)) if bytes.len() as u64 == length && length < MOST_BYTES => length *= 4,
            Err(error) => {
                return Err(Failure::new(format!("cannot plan with {shown}: {error}"))
                    .hint("give the model's `config.json` instead")
                    .into());
            }
        }
    }
}

/// The same from Hugging Face: only configurations and headers travel.
fn on_hub(hub: &Hub, wanted: &Wanted, quant: Option<Quant>) -> anyhow::Result<Chosen> {
    let shown = |file: &str| format!("hf:{}/{file}", wanted.repository);
    if let Some(file) = &wanted.file {
        if file.ends_with(".gguf") {
            let model = grown(&shown(file), |length| hub.beginning(&wanted.repository, file, length))?;
            return of_gguf(model, quant, shown(file));
        }
        if file != "config.json" {
            return Err(Failure::new(format!("cannot plan with {}", shown(file)))
                .hint("name the repository, its `config.json`, or a GGUF file in it")
                .into());
        }
    }
    let text = hub.text(&wanted.repository, "config.json")?;
    let text = text.ok_or_else(|| {
        Failure::new(format!("{} is not there", shown("config.json"))).hint(
            "is the name right? of a repository with GGUF files name one: hf:ORGANISATION/NAME/FILE.gguf",
        )
    })?;
    let name = wanted.repository.rsplit('/').next().unwrap_or(&wanted.repository);
    let architecture = config(&text, name, &shown("config.json"))?;
    let weights = match quant {
        Some(_) => None,
        None => hub.weights(&wanted.repository)?,
    };
    Ok(match weights {
        Some(all) => {
            of_safetensors(architecture, all, format!("hf:{}, configuration and headers", wanted.repository))
        }
        None => Chosen { architecture, quant: or_usual(quant), exact: None, source: shown("config.json") },
    })
}
