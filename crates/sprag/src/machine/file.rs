//! Machine files: one probe as TOML, in a folder of the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sprag_engine::roofline;
use sprag_measure::probe::{FORMAT, Probe};

use crate::commands::write_whole;
use crate::environment::Environment;
use crate::error::Failure;

/// Where they lie: `machines/` in the folder for the program's data.
pub fn folder(environment: &Environment) -> anyhow::Result<PathBuf> {
    let data = environment.data_folder();
    let data = data.ok_or_else(|| {
        Failure::new("cannot find a folder for machine files").hint("set HOME, or name one with `--out FILE`")
    })?;
    Ok(data.join("sprag").join("machines"))
}

/// A name made of what the machine is: `amd-epyc-9654-2-cores`.
pub fn name(facts: &BTreeMap<String, String>) -> String {
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    let text = format!("{} {} cores", fact("cpu"), fact("usable_cores"));
    let mut name = String::new();
    for word in
        text.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
    {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(word);
    }
    name
}

/// The file of the machine with these facts.
pub fn of(facts: &BTreeMap<String, String>, environment: &Environment) -> anyhow::Result<PathBuf> {
    Ok(folder(environment)?.join(format!("{}.toml", name(facts))))
}

/// What a run says of its machine besides its own facts: what was reached when it was probed.
pub fn measured(probe: &Probe) -> BTreeMap<String, String> {
    let giga = |value: f64, unit: &str| format!("{:.1} G{unit}", value / 1e9);
    let mut facts = BTreeMap::from([("probed_at".to_owned(), probe.at.clone())]);
    facts.extend(
        probe.memory_ceiling().map(|most| ("measured_memory_bandwidth".to_owned(), giga(most, "B/s"))),
    );
    // The same as plain numbers, for the shares that runs are told.
    let plain = |name: &str, value: Option<f64>| value.map(|value| (name.to_owned(), format!("{value:e}")));
    facts.extend(plain(roofline::MEMORY, probe.memory_ceiling()));
    facts.extend(plain(roofline::PEAK_FP32, probe.peak("fp32")));
    facts.extend(plain(roofline::PEAK_BF16, probe.peak("bf16")));
    for precision in ["fp32", "bf16"] {
        facts.extend(
            probe.peak(precision).map(|peak| (format!("measured_{precision}_peak"), giga(peak, "FLOP/s"))),
        );
        let ridge = probe.ridge(precision).map(|ridge| format!("{:.1} FLOP a byte", ridge.flop_per_byte()));
        facts.extend(ridge.map(|ridge| (format!("measured_{precision}_ridge"), ridge)));
    }
    facts
}

/// Reads one; `None` where there is none.
///
/// # Errors
/// It cannot be read, or is of another form.
pub fn read(path: &Path) -> anyhow::Result<Option<Probe>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause).with_context(|| format!("cannot read {}", path.display())),
    };
    let hint = "move it away, and probe again";
    let probe: Probe = toml::from_str(&text).map_err(|cause| {
        Failure::new(format!("{} is no machine file: {}", path.display(), cause.message())).hint(hint)
    })?;
    if probe.format != FORMAT {
        let problem =
            format!("{} has format {}, and this program reads {FORMAT}", path.display(), probe.format);
        return Err(Failure::new(problem).hint(hint).into());
    }
    Ok(Some(probe))
}

/// Writes one whole or not at all. An earlier one stays, under a name with its date.
pub fn write(path: &Path, probe: &Probe, earlier: Option<&Probe>) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    if let Some(earlier) = earlier {
        let date: String = earlier.at.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        std::fs::copy(path, path.with_file_name(format!("{stem}.{date}.toml"))).with_context(failed)?;
    }
    let text = toml::to_string(probe).context("cannot write the probe as TOML")?;
    write_whole(path, &text)
}

#[cfg(test)]
mod tests {
    use super::super::words::fixture;
    use super::*;

    #[test]
    fn a_file_is_named_after_the_machine_and_an_earlier_one_stays() {
        let probe = fixture();
        assert_eq!(name(&probe.machine), "made-up-9000-2-cores");
        let told = measured(&probe);
        assert_eq!(told["measured_fp32_peak"], "240.0 GFLOP/s");
        assert_eq!(
            (told["measured_memory_bandwidth"].as_str(), told["measured_fp32_ridge"].as_str()),
            ("35.0 GB/s", "6.9 FLOP a byte")
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machines/here.toml");
        assert!(read(&path).unwrap().is_none());
        write(&path, &probe, None).unwrap();
        assert_eq!(read(&path).unwrap(), Some(probe.clone()));
        let later = Probe { at: "2026-03-22T00:00:00Z".to_owned(), ..probe.clone() };
        write(&path, &later, Some(&probe)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(later));
        let earlier = dir.path().join("machines/here.20260321T170409Z.toml");
        assert_eq!(read(&earlier).unwrap(), Some(probe));
    }

    #[test]
    fn another_format_is_refused_with_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("here.toml");
        write(&path, &Probe { format: 9, ..fixture() }, None).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("has format 9"), "{error}");
    }
}
