//! The machine that is planned for: one that ships, a machine file, this machine, or numbers.

use std::path::Path;

use sprag_measure::machine;
use sprag_measure::plan::{Device, DeviceClass, Kind, find_device, read_device};
use sprag_measure::probe::Probe;

use crate::context::Context;
use crate::error::Failure;
use crate::machine::file;

/// Which machine.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// A name that `sprag plan list` knows, a machine file of `sprag probe`, or a device file [default: this machine, once it
    /// was probed]
    #[arg(long, value_name = "M", conflicts_with_all = ["bandwidth", "tflops", "memory"])]
    machine: Option<String>,
    /// Memory bandwidth in GB/s, in the place of a machine
    #[arg(long, value_name = "GB/S", requires = "memory", value_parser = positive)]
    bandwidth: Option<f64>,
    /// Operations in half precision, in TFLOP/s
    #[arg(long, value_name = "N", requires = "bandwidth", value_parser = positive)]
    tflops: Option<f64>,
    /// Memory in GB
    #[arg(long, value_name = "GB", requires = "bandwidth", value_parser = positive)]
    memory: Option<f64>,
    /// Which class it is of, for what is expected of it
    #[arg(long, value_name = "CLASS", requires = "bandwidth", default_value = "unified",
          value_parser = ["nvidia-cuda", "apple", "unified", "cpu"])]
    class: String,
}

/// A number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("write a number above 0".to_owned()),
    }
}

impl TargetArgs {
    /// The machine.
    pub fn device(&self, context: &Context) -> anyhow::Result<Device> {
        if let (Some(bandwidth), Some(memory)) = (self.bandwidth, self.memory) {
            return Ok(Device::of_one_source(
                "a machine of these numbers".to_owned(),
                DeviceClass::of(&self.class).unwrap_or(DeviceClass::Unified),
                [bandwidth * 1e9, memory * 1e9],
                self.tflops.map(|tera| tera * 1e12),
                Kind::Given,
                "the command line",
            ));
        }
        match &self.machine {
            Some(name) => named(name),
            None => {
                let path = file::of(&machine::facts(), &context.environment)?;
                match file::read(&path)? {
                    Some(probe) => of_probe(&probe),
                    None => Err(Failure::new("this machine was not probed yet")
                        .hint("`sprag probe --quick` takes 20 s; or name another with `--machine`")
                        .into()),
                }
            }
        }
    }
}

/// One by its name or its file.
pub fn named(name: &str) -> anyhow::Result<Device> {
    let path = Path::new(name);
    if path.is_file() {
        // A device file as they ship, or what a probe found.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.contains("gigabytes_per_second") {
            return Ok(read_device(&text).map_err(|error| {
                Failure::new(format!("{name} is no device file: {error}"))
                    .hint("docs/planner.md describes them")
            })?);
        }
        let probe = file::read(path)?;
        return of_probe(&probe.ok_or_else(|| Failure::new(format!("{name} is gone")))?);
    }
    find_device(name).map_err(|like| {
        let failure = Failure::new(format!("`{name}` is no machine that is known here"));
        match like.is_empty() {
            true => failure.hint("`sprag plan list` shows them; or give `--bandwidth` and `--memory`").into(),
            false => failure.hint(format!("it may be {}", like.join(", or "))).into(),
        }
    })
}

/// A machine that was probed: its processor.
fn of_probe(probe: &Probe) -> anyhow::Result<Device> {
    let unknown = |what: &str| Failure::new(format!("the machine file tells no {what}")).hint("probe again");
    let fact = |name: &str| probe.machine.get(name).and_then(|value| value.parse::<f64>().ok());
    let memory =
        fact("memory_limit_bytes").or_else(|| fact("memory_bytes")).ok_or_else(|| unknown("memory"))?;
    Ok(Device::of_one_source(
        probe.machine.get("cpu").cloned().unwrap_or_else(|| "a processor".to_owned()),
        DeviceClass::Cpu,
        [probe.memory_ceiling().ok_or_else(|| unknown("bandwidth"))?, memory],
        probe.peak("bf16").into_iter().chain(probe.peak("fp32")).reduce(f64::max),
        Kind::Measured,
        &format!("probed at {}", probe.at),
    ))
}

/// Every figure's source, for programs.
pub fn sources(device: &Device) -> Vec<serde_json::Value> {
    let one = |source: &sprag_measure::plan::Source| serde_json::json!({ "figure": source.figure, "kind": source.kind.word(), "source": source.text });
    device.sources.iter().map(one).collect()
}
