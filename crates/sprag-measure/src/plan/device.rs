//! Machines as data: what their makers say of them. One line a device; the class says how near to it programs come.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its maker says so.
    Datasheet,
    /// It was measured.
    Measured,
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
            Kind::Given => "as given",
            Kind::Projected => "PROJECTED",
        }
    }
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
    /// What the figures are.
    pub kind: Kind,
    /// Who says so.
    pub source: String,
}

type Row = (&'static str, DeviceClass, f64, Option<f64>, &'static [u32], Kind, &'static str);

const NVIDIA: &str =
    "NVIDIA, architecture paper of the card: half precision, sums in single precision, dense";
const APPLE: &str = "Apple, technical specifications of the machine";

/// Name, class, GB/s, TFLOP/s, memory sizes in GB, kind, source.
const ROWS: [Row; 44] = [
    ("RTX 3060 12GB", DeviceClass::NvidiaCuda, 360.0, Some(25.5), &[12], Kind::Datasheet, NVIDIA),
    ("RTX 3090", DeviceClass::NvidiaCuda, 936.0, Some(71.2), &[24], Kind::Datasheet, NVIDIA),
    ("RTX 4060 Ti 16GB", DeviceClass::NvidiaCuda, 288.0, Some(44.1), &[16], Kind::Datasheet, NVIDIA),
    ("RTX 4070 Ti", DeviceClass::NvidiaCuda, 504.0, Some(80.2), &[12], Kind::Datasheet, NVIDIA),
    ("RTX 4080", DeviceClass::NvidiaCuda, 717.0, Some(97.5), &[16], Kind::Datasheet, NVIDIA),
    ("RTX 4090", DeviceClass::NvidiaCuda, 1008.0, Some(165.2), &[24], Kind::Datasheet, NVIDIA),
    ("RTX 5070 Ti", DeviceClass::NvidiaCuda, 896.0, Some(87.9), &[16], Kind::Datasheet, NVIDIA),
    ("RTX 5080", DeviceClass::NvidiaCuda, 960.0, Some(112.6), &[16], Kind::Datasheet, NVIDIA),
    ("RTX 5090", DeviceClass::NvidiaCuda, 1792.0, Some(209.5), &[32], Kind::Datasheet, NVIDIA),
    ("RTX A6000", DeviceClass::NvidiaCuda, 768.0, Some(154.8), &[48], Kind::Datasheet, NVIDIA),
    ("RTX 6000 Ada", DeviceClass::NvidiaCuda, 960.0, Some(182.2), &[48], Kind::Datasheet, NVIDIA),
    ("L40S", DeviceClass::NvidiaCuda, 864.0, Some(181.0), &[48], Kind::Datasheet, NVIDIA),
    ("A100 PCIe 80GB", DeviceClass::NvidiaCuda, 1935.0, Some(312.0), &[80], Kind::Datasheet, NVIDIA),
    ("A100 SXM 80GB", DeviceClass::NvidiaCuda, 2039.0, Some(312.0), &[80], Kind::Datasheet, NVIDIA),
    ("H100 PCIe", DeviceClass::NvidiaCuda, 2000.0, Some(756.0), &[80], Kind::Datasheet, NVIDIA),
    ("H100 SXM", DeviceClass::NvidiaCuda, 3350.0, Some(989.0), &[80], Kind::Datasheet, NVIDIA),
    ("H200", DeviceClass::NvidiaCuda, 4800.0, Some(989.0), &[141], Kind::Datasheet, NVIDIA),
    ("B200", DeviceClass::NvidiaCuda, 8000.0, Some(2250.0), &[180], Kind::Datasheet, NVIDIA),
    ("DGX Spark", DeviceClass::Unified, 273.0, Some(100.0), &[128], Kind::Datasheet, NVIDIA),
    (
        "Strix Halo",
        DeviceClass::Unified,
        256.0,
        Some(59.4),
        &[32, 64, 96, 128],
        Kind::Datasheet,
        "AMD, Ryzen AI Max+ 395",
    ),
    ("M1", DeviceClass::Apple, 68.25, Some(2.6), &[8, 16], Kind::Datasheet, APPLE),
    ("M1 Pro", DeviceClass::Apple, 200.0, Some(5.2), &[16, 32], Kind::Datasheet, APPLE),
    ("M1 Max", DeviceClass::Apple, 400.0, Some(10.4), &[32, 64], Kind::Datasheet, APPLE),
    ("M1 Ultra", DeviceClass::Apple, 800.0, Some(21.0), &[64, 128], Kind::Datasheet, APPLE),
    ("M2", DeviceClass::Apple, 100.0, Some(3.6), &[8, 16, 24], Kind::Datasheet, APPLE),
    ("M2 Pro", DeviceClass::Apple, 200.0, Some(6.8), &[16, 32], Kind::Datasheet, APPLE),
    ("M2 Max", DeviceClass::Apple, 400.0, Some(13.6), &[32, 64, 96], Kind::Datasheet, APPLE),
    ("M2 Ultra", DeviceClass::Apple, 800.0, Some(27.2), &[64, 128, 192], Kind::Datasheet, APPLE),
    ("M3", DeviceClass::Apple, 100.0, None, &[8, 16, 24], Kind::Datasheet, APPLE),
    ("M3 Pro", DeviceClass::Apple, 150.0, None, &[18, 36], Kind::Datasheet, APPLE),
    ("M3 Max 30-core", DeviceClass::Apple, 300.0, None, &[36, 96], Kind::Datasheet, APPLE),
    ("M3 Max 40-core", DeviceClass::Apple, 400.0, None, &[48, 64, 128], Kind::Datasheet, APPLE),
    ("M3 Ultra", DeviceClass::Apple, 819.0, None, &[96, 256, 512], Kind::Datasheet, APPLE),
    ("M4", DeviceClass::Apple, 120.0, None, &[16, 24, 32], Kind::Datasheet, APPLE),
    ("M4 Pro", DeviceClass::Apple, 273.0, None, &[24, 48, 64], Kind::Datasheet, APPLE),
    ("M4 Max 32-core", DeviceClass::Apple, 410.0, None, &[36], Kind::Datasheet, APPLE),
    ("M4 Max 40-core", DeviceClass::Apple, 546.0, None, &[48, 64, 128], Kind::Datasheet, APPLE),
    ("M5", DeviceClass::Apple, 153.0, None, &[16, 24, 32], Kind::Datasheet, APPLE),
    ("M5 Max 40-core", DeviceClass::Apple, 614.0, None, &[48, 64, 128], Kind::Datasheet, APPLE),
    (
        "M5 Ultra",
        DeviceClass::Apple,
        1228.0,
        None,
        &[256, 512],
        Kind::Projected,
        "twice an M5 Max; nobody sells it",
    ),
    (
        "Ryzen 9 9950X, DDR5-5600",
        DeviceClass::Cpu,
        89.6,
        None,
        &[64, 96, 192],
        Kind::Datasheet,
        "AMD; two channels of 64 bits",
    ),
    (
        "Core Ultra 9 285K, DDR5-6400",
        DeviceClass::Cpu,
        102.4,
        None,
        &[64, 96, 192],
        Kind::Datasheet,
        "Intel; two channels of 64 bits",
    ),
    (
        "EPYC 9005, 12 x DDR5-6000",
        DeviceClass::Cpu,
        576.0,
        None,
        &[384, 768, 1536],
        Kind::Datasheet,
        "AMD; twelve channels of 64 bits",
    ),
    (
        "Xeon 6 P-core, 12 x MRDIMM-8800",
        DeviceClass::Cpu,
        844.8,
        None,
        &[384, 768, 1536],
        Kind::Datasheet,
        "Intel; twelve channels of 64 bits",
    ),
];

/// All of them.
pub fn devices() -> Vec<Device> {
    let device = |(name, class, giga, tera, memory, kind, source): &Row| Device {
        name: (*name).to_owned(),
        class: *class,
        bytes_per_second: giga * 1e9,
        flop_per_second: tera.map(|tera| tera * 1e12),
        memory_bytes: memory.iter().map(|giga| f64::from(*giga) * 1e9).collect(),
        kind: *kind,
        source: (*source).to_owned(),
    };
    ROWS.iter().map(device).collect()
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
