//! Facts from `sysctl`, `sw_vers` and `ioreg`.

use std::path::Path;

use super::Machine;
use super::load::Times;
use crate::process;

/// `hw.optional.arm` keys, with the names under which they are reported.
const ARITHMETIC: &[(&str, &str)] = &[
    ("hw.optional.arm.FEAT_FP16", "asimdhp"),
    ("hw.optional.arm.FEAT_DotProd", "asimddp"),
    ("hw.optional.arm.FEAT_BF16", "bf16"),
    ("hw.optional.arm.FEAT_I8MM", "i8mm"),
    ("hw.optional.arm.FEAT_SME", "sme"),
    ("hw.optional.avx2_0", "avx2"),
    ("hw.optional.avx512f", "avx512f"),
];

pub(super) fn probe() -> Machine {
    let version = ask("/usr/bin/sw_vers", "-productVersion");
    let features = ARITHMETIC.iter().filter(|(key, _)| sysctl(key).as_deref() == Some("1"));
    Machine {
        cpu: sysctl("machdep.cpu.brand_string"),
        physical_cores: sysctl("hw.physicalcpu").and_then(|text| text.parse().ok()),
        logical_cores: sysctl("hw.logicalcpu").and_then(|text| text.parse().ok()),
        memory_bytes: sysctl("hw.memsize").and_then(|text| text.parse().ok()),
        os: version.map_or_else(|| "macOS".to_owned(), |version| format!("macOS {version}")),
        kernel: sysctl("kern.osrelease"),
        features: features.map(|(_, name)| (*name).to_owned()).collect(),
        gpu_cores: ask_all("/usr/sbin/ioreg", &["-rc", "AGXAccelerator", "-d", "1"])
            .and_then(|listing| super::gpu_cores(&listing)),
        load_average: super::load_average(),
        ..Machine::default()
    }
}

/// Not counted in a way that is read here.
pub(super) fn processor_times() -> Option<Times> {
    None
}

fn sysctl(key: &str) -> Option<String> {
    ask_all("/usr/sbin/sysctl", &["-n", key])
}

fn ask(program: &str, argument: &str) -> Option<String> {
    ask_all(program, &[argument])
}

fn ask_all(program: &str, arguments: &[&str]) -> Option<String> {
    let output = process::output(program, arguments.iter().copied(), Path::new("/"), &[]).ok()?;
    let text = output.text().trim().to_owned();
    (output.success() && !text.is_empty()).then_some(text)
}
