//! Machines as data: one file a device in `devices/`, every figure with its source and what kind of figure it is. The class
//! says how near to them programs come.

use serde::Deserialize;

/// Which kind of machine, for the efficiency that is expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// NVIDIA cards, with their own memory.
    NvidiaCuda,
    /// Apple's chips: the GPU, with memory shared by all.
    Apple,
    /// Other chips whose GPU shares the memory.
    Unified,
    /// Processors.
    Cpu,
}

impl DeviceClass {
    /// As files name it.
    pub fn word(self) -> &'static str {
        match self {
            DeviceClass::NvidiaCuda => "nvidia-cuda",
            DeviceClass::Apple => "apple",
            DeviceClass::Unified => "unified",
            DeviceClass::Cpu => "cpu",
        }
    }

    /// The class that a file names.
    pub fn of(word: &str) -> Option<DeviceClass> {
        let all = [DeviceClass::NvidiaCuda, DeviceClass::Apple, DeviceClass::Unified, DeviceClass::Cpu];
        all.into_iter().find(|class| class.word() == word || word.starts_with(&format!("{}-", class.word())))
    }

    /// The part of memory that a model may take.
    pub fn usable_memory(self) -> f64 {
        match self {
            DeviceClass::NvidiaCuda => 0.95,
            // What macOS lends the GPU without a changed limit.
            DeviceClass::Apple => 0.75,
            DeviceClass::Unified => 0.85,
            DeviceClass::Cpu => 0.85,
        }
    }
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its maker says so.
    Datasheet,
    /// It was measured.
    Measured,
    /// Computed from figures that its maker tells.
    Derived,
    /// Whoever asks says so.
    Given,
    /// Somebody expects it; no such machine can be bought.
    Projected,
}

impl Kind {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Datasheet => "datasheet",
            Kind::Measured => "measured",
            Kind::Derived => "derived",
            Kind::Given => "as given",
            Kind::Projected => "PROJECTED",
        }
    }
}

/// Where a figure comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which figure.
    pub figure: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Who says so.
    pub text: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: DeviceClass,
    /// Bytes a second of its memory.
    pub bytes_per_second: f64,
    /// Operations a second in half precision without sparsity; `None` where nobody says it.
    pub flop_per_second: Option<f64>,
    /// Memory sizes that it is sold with, in bytes of 10^9.
    pub memory_bytes: Vec<f64>,
    /// Power under load, of the card or of the whole machine as its source says, in watts.
    pub watts: Option<f64>,
    /// Cores of an Apple GPU.
    pub gpu_cores: Option<u64>,
    /// Operations a second of a neural engine as they are presented.
    pub neural_engine_ops: Option<f64>,
    /// Of every figure.
    pub sources: Vec<Source>,
}

impl Device {
    /// One whose figures all come from one place.
    pub fn of_one_source(
        name: String,
        class: DeviceClass,
        [bytes_per_second, memory_bytes]: [f64; 2],
        flop_per_second: Option<f64>,
        kind: Kind,
        text: &str,
    ) -> Device {
        let figures: [&'static str; 3] = ["bandwidth", "memory", "operations"];
        let told = figures.into_iter().filter(|figure| *figure != "operations" || flop_per_second.is_some());
        Device {
            name,
            class,
            bytes_per_second,
            flop_per_second,
            memory_bytes: vec![memory_bytes],
            watts: None,
            gpu_cores: None,
            neural_engine_ops: None,
            sources: told.map(|figure| Source { figure, kind, text: text.to_owned() }).collect(),
        }
    }

    /// What its figures are, the least sure of them.
    pub fn kind(&self) -> Kind {
        self.sources.iter().map(|source| source.kind).max().unwrap_or(Kind::Given)
    }

    /// True when nobody sells it.
    pub fn is_projected(&self) -> bool {
        self.kind() == Kind::Projected
    }

    /// Who says all of it, each source once.
    pub fn source(&self) -> String {
        let mut texts: Vec<&str> = Vec::new();
        for source in &self.sources {
            if !texts.contains(&source.text.as_str()) {
                texts.push(&source.text);
            }
        }
        texts.join("; ")
    }

    /// The largest memory that it is sold with.
    pub fn most_memory(&self) -> f64 {
        self.memory_bytes.iter().copied().fold(0.0, f64::max)
    }

    /// Bytes that a model may take of the largest memory.
    pub fn usable_memory(&self) -> f64 {
        self.most_memory() * self.class.usable_memory()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    value: f64,
    kind: Kind,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    sizes: Vec<f64>,
    kind: Kind,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    name: String,
    class: String,
    gigabytes_per_second: Figure,
    teraflop_per_second: Option<Figure>,
    memory_gigabytes: Sizes,
    watts: Option<Figure>,
    gpu_cores: Option<Figure>,
    neural_engine_tops: Option<Figure>,
}

/// Why a device file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// It is not TOML of that form.
    #[error("{0}")]
    Syntax(String),
    /// It names a class that is not known here.
    #[error("`class` is `{0}`; known are nvidia-cuda, apple, unified, cpu")]
    Class(String),
    /// A figure makes no sense.
    #[error("`{0}` is not a number above 0")]
    Figure(&'static str),
}

/// Reads a device file.
///
/// # Errors
/// See [`DeviceError`].
pub fn read_device(text: &str) -> Result<Device, DeviceError> {
    let file: DeviceFile = toml::from_str(text).map_err(|cause| DeviceError::Syntax(cause.to_string()))?;
    let class = DeviceClass::of(&file.class).ok_or(DeviceError::Class(file.class))?;
    let mut sources = Vec::new();
    let mut take = |figure: &'static str, from: Figure, factor: f64| {
        sources.push(Source { figure, kind: from.kind, text: from.source });
        let value = from.value * factor;
        if value > 0.0 && value.is_finite() { Ok(value) } else { Err(DeviceError::Figure(figure)) }
    };
    let bytes_per_second = take("bandwidth", file.gigabytes_per_second, 1e9)?;
    let flop_per_second =
        file.teraflop_per_second.map(|figure| take("operations", figure, 1e12)).transpose()?;
    let watts = file.watts.map(|figure| take("power", figure, 1.0)).transpose()?;
    let gpu_cores = file.gpu_cores.map(|figure| take("GPU cores", figure, 1.0)).transpose()?;
    let neural = file.neural_engine_tops.map(|figure| take("neural engine", figure, 1e12)).transpose()?;
    let Sizes { sizes, kind, source } = file.memory_gigabytes;
    sources.push(Source { figure: "memory", kind, text: source });
    if sizes.is_empty() || sizes.iter().any(|size| !(*size > 0.0 && size.is_finite())) {
        return Err(DeviceError::Figure("memory"));
    }
    Ok(Device {
        name: file.name,
        class,
        bytes_per_second,
        flop_per_second,
        memory_bytes: sizes.iter().map(|giga| giga * 1e9).collect(),
        watts,
        gpu_cores: gpu_cores.map(|cores| cores as u64),
        neural_engine_ops: neural,
        sources,
    })
}

/// The files, in the order of their names; a test compares them with the folder.
pub(super) const FILES: [&str; 65] = [
    include_str!("../../devices/a100-pcie-40gb.toml"),
    include_str!("../../devices/a100-pcie-80gb.toml"),
    include_str!("../../devices/a100-sxm-80gb.toml"),
    include_str!("../../devices/a40.toml"),
    include_str!("../../devices/b200.toml"),
    include_str!("../../devices/core-i9-14900k-ddr5-5600.toml"),
    include_str!("../../devices/core-ultra-9-285k-ddr5-6400.toml"),
    include_str!("../../devices/dgx-spark.toml"),
    include_str!("../../devices/epyc-9004-12-x-ddr5-4800.toml"),
    include_str!("../../devices/epyc-9005-12-x-ddr5-6000.toml"),
    include_str!("../../devices/h100-pcie.toml"),
    include_str!("../../devices/h100-sxm.toml"),
    include_str!("../../devices/h200.toml"),
    include_str!("../../devices/l4.toml"),
    include_str!("../../devices/l40s.toml"),
    include_str!("../../devices/m1-max.toml"),
    include_str!("../../devices/m1-pro.toml"),
    include_str!("../../devices/m1-ultra.toml"),
    include_str!("../../devices/m1.toml"),
    include_str!("../../devices/m2-max.toml"),
    include_str!("../../devices/m2-pro.toml"),
    include_str!("../../devices/m2-ultra.toml"),
    include_str!("../../devices/m2.toml"),
    include_str!("../../devices/m3-max-30-core.toml"),
    include_str!("../../devices/m3-max-40-core.toml"),
    include_str!("../../devices/m3-pro.toml"),
    include_str!("../../devices/m3-ultra.toml"),
    include_str!("../../devices/m3.toml"),
    include_str!("../../devices/m4-max-32-core.toml"),
    include_str!("../../devices/m4-max-40-core.toml"),
    include_str!("../../devices/m4-pro.toml"),
    include_str!("../../devices/m4.toml"),
    include_str!("../../devices/m5-max-32-core.toml"),
    include_str!("../../devices/m5-max-40-core.toml"),
    include_str!("../../devices/m5-pro.toml"),
    include_str!("../../devices/m5-ultra.toml"),
    include_str!("../../devices/m5.toml"),
    include_str!("../../devices/rtx-3060-12gb.toml"),
    include_str!("../../devices/rtx-3070.toml"),
    include_str!("../../devices/rtx-3080-10gb.toml"),
    include_str!("../../devices/rtx-3080-ti.toml"),
    include_str!("../../devices/rtx-3090-ti.toml"),
    include_str!("../../devices/rtx-3090.toml"),
    include_str!("../../devices/rtx-4060-ti-16gb.toml"),
    include_str!("../../devices/rtx-4060.toml"),
    include_str!("../../devices/rtx-4070-super.toml"),
    include_str!("../../devices/rtx-4070-ti-super.toml"),
    include_str!("../../devices/rtx-4070-ti.toml"),
    include_str!("../../devices/rtx-4070.toml"),
    include_str!("../../devices/rtx-4080-super.toml"),
    include_str!("../../devices/rtx-4080.toml"),
    include_str!("../../devices/rtx-4090.toml"),
    include_str!("../../devices/rtx-5060-ti-16gb.toml"),
    include_str!("../../devices/rtx-5070-ti.toml"),
    include_str!("../../devices/rtx-5070.toml"),
    include_str!("../../devices/rtx-5080.toml"),
    include_str!("../../devices/rtx-5090.toml"),
    include_str!("../../devices/rtx-6000-ada.toml"),
    include_str!("../../devices/rtx-a6000.toml"),
    include_str!("../../devices/rtx-pro-6000-blackwell.toml"),
    include_str!("../../devices/ryzen-7-7700x-ddr5-5200.toml"),
    include_str!("../../devices/ryzen-9-9950x-ddr5-5600.toml"),
    include_str!("../../devices/strix-halo.toml"),
    include_str!("../../devices/threadripper-7980x-4-x-ddr5-5200.toml"),
    include_str!("../../devices/xeon-6-p-core-12-x-mrdimm-8800.toml"),
];

/// All of them; a file that cannot be read is missing, which a test forbids.
pub fn devices() -> &'static [Device] {
    static DEVICES: std::sync::OnceLock<Vec<Device>> = std::sync::OnceLock::new();
    DEVICES.get_or_init(|| FILES.iter().filter_map(|text| read_device(text).ok()).collect())
}

/// The device of that name, or the only one whose name has all of its words; those that it may be where there are
/// several.
///
/// # Errors
/// Names that it may be; empty where nothing is like it.
pub fn find_device(name: &str) -> Result<Device, Vec<String>> {
    let wanted = name.trim().to_lowercase();
    let all = devices();
    if let Some(device) = all.iter().find(|device| device.name.to_lowercase() == wanted) {
        return Ok(device.clone());
    }
    let words: Vec<&str> = wanted.split([' ', '-', '_']).filter(|word| !word.is_empty()).collect();
    let like = |device: &&Device| {
        let own = device.name.to_lowercase();
        let own: Vec<&str> = own.split([' ', '-', ',']).collect();
        !words.is_empty() && words.iter().all(|word| own.contains(word))
    };
    let found: Vec<&Device> = all.iter().filter(like).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        several => Err(several.iter().map(|device| device.name.clone()).collect()),
    }
}
