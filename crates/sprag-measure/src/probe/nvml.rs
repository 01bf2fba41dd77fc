//! What NVIDIA's driver tells of its cards besides (NVML, loaded when it is there).

/// Memory, clocks, power and limit of the card of that name, as text; why not, where the driver does not answer; `None` for
/// other makers' devices.
#[cfg(feature = "nvml")]
pub fn told(name: &str) -> Option<String> {
    use nvml_wrapper::Nvml;
    use nvml_wrapper::enum_wrappers::device::Clock;

    if !name.contains("NVIDIA") && !name.contains("GeForce") && !name.contains("Tesla") {
        return None;
    }
    let asked = || {
        let nvml = Nvml::init()?;
        for index in 0..nvml.device_count()? {
            let device = nvml.device_by_index(index)?;
            if device.name()? != name {
                continue;
            }
            let memory = device.memory_info()?;
            let power =
                device.power_usage().map_or("?".to_owned(), |milli| (f64::from(milli) / 1e3).to_string());
            let limit = device
                .enforced_power_limit()
                .map_or("?".to_owned(), |milli| (f64::from(milli) / 1e3).to_string());
            let clock = |clock| device.clock_info(clock).map_or("?".to_owned(), |mhz| mhz.to_string());
            return Ok::<_, nvml_wrapper::error::NvmlError>(format!(
                "{:.1} GB of {:.1} GB free, {power} W of {limit} W, clocks {} MHz and {} MHz (memory)",
                memory.free as f64 / 1e9,
                memory.total as f64 / 1e9,
                clock(Clock::SM),
                clock(Clock::Memory),
            ));
        }
        Ok(format!("NVML knows no {name}"))
    };
    Some(asked().unwrap_or_else(|cause| format!("NVML does not answer: {cause}")))
}

/// Nothing is asked without the feature.
#[cfg(all(feature = "wgpu", not(feature = "nvml")))]
pub fn told(name: &str) -> Option<String> {
    name.contains("NVIDIA").then(|| "not asked: this program was built without the feature `nvml`".to_owned())
}
