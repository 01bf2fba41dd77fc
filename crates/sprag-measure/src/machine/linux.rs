//! Facts from `/proc` and `/etc/os-release`.

use std::collections::BTreeSet;
use std::fs;

use super::load::{Times, read_stat};
use super::{Machine, control_group};

/// Flags of `/proc/cpuinfo` that tell how fast arithmetic can be; the others are noise in a report.
const ARITHMETIC: &[&str] = &[
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "sme",
];

pub(super) fn probe() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut machine = Machine { load_average: super::load_average(), ..Machine::default() };
    read_cpuinfo(&mut machine, &read("/proc/cpuinfo"));
    let memory = read("/proc/meminfo");
    machine.memory_bytes = kibibytes(&memory, "MemTotal:");
    machine.memory_limit_bytes =
        control_group::memory_limit_bytes(&read("/proc/self/cgroup"), |path| fs::read_to_string(path).ok());
    machine.available_memory_bytes = kibibytes(&memory, "MemAvailable:");
    machine.os = os_name(&read("/etc/os-release")).unwrap_or_else(|| "Linux".to_owned());
    machine.kernel =
        Some(read("/proc/sys/kernel/osrelease").trim().to_owned()).filter(|text| !text.is_empty());
    machine
}

/// Of the processors that this process may use.
pub(super) fn processor_times() -> Option<Times> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let usable = rustix::thread::sched_getaffinity(None).ok()?;
    let most = rustix::thread::CpuSet::MAX_CPU;
    read_stat(&text, rustix::param::clock_ticks_per_second(), |cpu| cpu < most && usable.is_set(cpu))
}

fn read_cpuinfo(machine: &mut Machine, text: &str) {
    let values = |name: &'static str| {
        text.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    machine.cpu = values("model name").next().map(str::to_owned);
    machine.logical_cores = u32::try_from(values("processor").count()).ok().filter(|count| *count > 0);
    let cores: BTreeSet<(&str, &str)> = values("physical id").zip(values("core id")).collect();
    machine.physical_cores = u32::try_from(cores.len()).ok().filter(|count| *count > 0);
    // x86 says `flags`, ARM `Features`.
    let flags: BTreeSet<&str> = values("flags")
        .next()
        .or(values("Features").next())
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    machine.features =
        ARITHMETIC.iter().filter(|name| flags.contains(*name)).map(|name| (*name).to_owned()).collect();
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn os_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperthreads_of_one_core_count_once() {
        let block = |processor: u32, core: u32| {
            format!(
                "processor\t: {processor}\nmodel name\t: Test CPU @ 3 GHz\nphysical id\t: 0\ncore id\t\t: {core}\nflags\t\t: fpu avx2 amx_tile\n\n"
            )
        };
        let mut machine = Machine::default();
        read_cpuinfo(&mut machine, &[block(0, 0), block(1, 0), block(2, 1), block(3, 1)].concat());
        assert_eq!(machine.cpu.as_deref(), Some("Test CPU @ 3 GHz"));
        assert_eq!((machine.physical_cores, machine.logical_cores), (Some(2), Some(4)));
        assert_eq!(machine.features, ["avx2", "amx_tile"]);
    }

    #[test]
    fn a_processor_that_says_nothing_is_unknown() {
        let mut machine = Machine::default();
        read_cpuinfo(&mut machine, "");
        assert_eq!(machine, Machine::default());
    }

    #[test]
    fn memory_and_names_are_read() {
        assert_eq!(kibibytes("MemTotal:       2048 kB\n", "MemTotal:"), Some(2 << 20));
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Test Linux 1\"\n").as_deref(), Some("Test Linux 1"));
    }
}
