//! Facts about the machine, as data: what a result must name to mean anything.
//!
//! Reading them is the business of one file per platform; everything else takes a [`Machine`].

#[cfg(target_os = "linux")]
mod control_group;
mod load;
#[cfg(target_os = "linux")]
#[path = "machine/linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "machine/macos.rs"]
mod platform;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[path = "machine/other.rs"]
mod platform;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use load::{Load, LoadMeter, UnknownLoad};

/// A machine. What could not be found out is `None`, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: Option<String>,
    /// Physical cores.
    pub physical_cores: Option<u32>,
    /// Hardware threads.
    pub logical_cores: Option<u32>,
    /// Hardware threads that this process may use (affinity, control group).
    pub usable_cores: Option<u32>,
    /// Installed memory.
    pub memory_bytes: Option<u64>,
    /// Most memory that the control groups around this process leave it.
    pub memory_limit_bytes: Option<u64>,
    /// Memory that can be used without swapping, now.
    pub available_memory_bytes: Option<u64>,
    /// Operating system and its version.
    pub os: String,
    /// Version of the kernel.
    pub kernel: Option<String>,
    /// Instruction set, for example `x86_64`.
    pub architecture: String,
    /// Extensions of the instruction set that matter for arithmetic, in the kernel's spelling.
    pub features: Vec<String>,
    /// Cores of the GPU that Apple's chips have.
    #[serde(default)]
    pub gpu_cores: Option<u32>,
    /// Load averages over 1, 5 and 15 minutes, now.
    pub load_average: Option<[f64; 3]>,
}

impl Machine {
    /// Looks at this machine.
    pub fn probe() -> Machine {
        let mut machine = platform::probe();
        machine.usable_cores =
            std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
        machine.architecture = std::env::consts::ARCH.to_owned();
        machine
    }

    /// Memory that processes started from here may use together: what is installed, or less where control
    /// groups say so.
    pub fn usable_memory_bytes(&self) -> Option<u64> {
        self.memory_bytes.into_iter().chain(self.memory_limit_bytes).min()
    }

    /// The facts that do not change from minute to minute, by name.
    ///
    /// ```
    /// let facts = sprag_measure::machine::Machine::probe().facts();
    /// assert!(facts.contains_key("architecture"));
    /// assert!(!facts.contains_key("load_average"));
    /// ```
    pub fn facts(&self) -> BTreeMap<String, String> {
        let number = |value: Option<u32>| value.map(|value| value.to_string());
        let facts = [
            ("cpu", self.cpu.clone()),
            ("physical_cores", number(self.physical_cores)),
            ("logical_cores", number(self.logical_cores)),
            ("usable_cores", number(self.usable_cores)),
            ("gpu_cores", number(self.gpu_cores)),
            ("memory_bytes", self.memory_bytes.map(|bytes| bytes.to_string())),
            ("memory_limit_bytes", self.memory_limit_bytes.map(|bytes| bytes.to_string())),
            ("os", Some(self.os.clone())),
            ("kernel", self.kernel.clone()),
            ("architecture", Some(self.architecture.clone())),
            ("features", Some(self.features.join(" ")).filter(|text| !text.is_empty())),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// [`Machine::facts`] of this machine.
pub fn facts() -> BTreeMap<String, String> {
    Machine::probe().facts()
}

/// The number of GPU cores in what `ioreg` prints of the accelerator.
#[cfg(any(target_os = "macos", test))]
fn gpu_cores(listing: &str) -> Option<u32> {
    let line = listing.lines().find(|line| line.contains("\"gpu-core-count\""))?;
    line.rsplit('=').next()?.trim().parse().ok()
}

/// Load averages over 1, 5 and 15 minutes; `None` where the system keeps none.
pub fn load_average() -> Option<[f64; 3]> {
    let mut averages = [0.0; 3];
    // SAFETY: the pointer is to three writable doubles, and three are asked for.
    let count = unsafe { libc::getloadavg(averages.as_mut_ptr(), 3) };
    (count == 3).then_some(averages)
}

/// Bytes that may still be written to the disk that holds `path`, what is reserved for root left out.
///
/// # Errors
/// The path does not exist or cannot be looked at.
pub fn free_disk_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_cores_are_read_from_the_accelerator() {
        let listing = "+-o AGXAcceleratorG16X\n    {\n      \"gpu-core-count\" = 40\n      \"model\" = \"Apple M4 Max\"\n";
        assert_eq!(
            (gpu_cores(listing), gpu_cores(""), gpu_cores("\"gpu-core-count\" = x")),
            (Some(40), None, None)
        );
    }

    #[test]
    fn this_machine_has_cores_and_a_system() {
        let machine = Machine::probe();
        assert!(machine.usable_cores.is_some_and(|cores| cores > 0));
        assert!(!machine.os.is_empty() && !machine.architecture.is_empty());
        if let (Some(physical), Some(logical)) = (machine.physical_cores, machine.logical_cores) {
            assert!(0 < physical && physical <= logical);
        }
    }

    #[test]
    fn a_disk_has_some_free_space_and_an_absent_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_disk_bytes(folder.path()).unwrap() > 0);
        assert!(free_disk_bytes(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn the_smaller_of_memory_and_its_limit_can_be_used() {
        let usable = |memory_bytes, memory_limit_bytes| {
            Machine { memory_bytes, memory_limit_bytes, ..Machine::default() }.usable_memory_bytes()
        };
        assert_eq!(usable(Some(64), Some(16)), Some(16));
        assert_eq!(usable(Some(64), Some(128)), Some(64));
        assert_eq!(
            (usable(Some(64), None), usable(None, Some(16)), usable(None, None)),
            (Some(64), Some(16), None)
        );
    }

    #[test]
    fn unknown_facts_are_left_out() {
        let machine = Machine { os: "Plan 9".into(), memory_bytes: Some(64), ..Machine::default() };
        let facts = machine.facts();
        assert_eq!(facts.get("memory_bytes").map(String::as_str), Some("64"));
        assert!(!facts.contains_key("cpu") && !facts.contains_key("features"));
    }
}
