//! Power and temperature, where the system lets them be read; the reason where it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What the package drew while arithmetic was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Mean over the measurement.
    Watts(f64),
    /// Why it is not known, and what would help.
    NotReadable(String),
}

/// Counters of energy (the Linux kernel's powercap, Intel and AMD packages).
const COUNTERS: &str = "/sys/class/powercap";

/// Counts from its start on.
pub struct Meter {
    began: Instant,
    start: Result<Vec<(PathBuf, u64)>, String>,
}

impl Meter {
    /// Begins to count.
    pub fn start() -> Meter {
        Meter { began: Instant::now(), start: counters(Path::new(COUNTERS)) }
    }

    /// The power since then.
    pub fn finish(self) -> Power {
        let seconds = self.began.elapsed().as_secs_f64();
        let joules = self.start.and_then(|start| {
            let parts = start.iter().map(|(path, before)| {
                let after = read(path)?;
                // The counter begins anew at a value of its own.
                let most = path.parent().map(|zone| zone.join("max_energy_range_uj"));
                let most = most.and_then(|path| read(&path).ok()).unwrap_or(u64::MAX);
                let used = if after >= *before { after - before } else { most - before + after };
                Ok(used as f64 * 1e-6)
            });
            parts.sum::<Result<f64, String>>()
        });
        match joules {
            Ok(joules) => Power::Watts(joules / seconds),
            Err(why) => Power::NotReadable(why),
        }
    }
}

/// The packages' counters and what they show; parts of packages are not counted twice.
fn counters(folder: &Path) -> Result<Vec<(PathBuf, u64)>, String> {
    if cfg!(target_os = "macos") {
        return Err("`powermetrics` tells it to the administrator alone".into());
    }
    let none =
        || format!("there is no counter of energy below {}; virtual machines have none", folder.display());
    let entries = fs::read_dir(folder).map_err(|_| none())?;
    let package = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.matches(':').count() == 1 && !name.contains("mmio")
    };
    let zones = entries.flatten().map(|entry| entry.path()).filter(package);
    let counters: Vec<PathBuf> =
        zones.map(|zone| zone.join("energy_uj")).filter(|path| path.exists()).collect();
    if counters.is_empty() {
        return Err(none());
    }
    counters.into_iter().map(|path| Ok((path.clone(), read(&path)?))).collect()
}

fn read(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!(
                "{} may be read by root alone; `chmod a+r` on it until the next start helps",
                path.display()
            )
        }
        _ => format!("read {}: {cause}", path.display()),
    })?;
    text.trim().parse().map_err(|_| format!("{} holds no number", path.display()))
}

/// Of the warmest sensor; `None` where none can be read.
pub fn temperature_celsius() -> Option<f64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?;
    let read = |path: PathBuf| fs::read_to_string(path.join("temp")).ok()?.trim().parse::<f64>().ok();
    let warm = zones.flatten().filter_map(|zone| read(zone.path())).map(|thousandths| thousandths / 1000.0);
    warm.filter(|celsius| (1.0..150.0).contains(celsius)).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_counted_and_their_parts_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(counters(dir.path()).unwrap_err().contains("no counter"));
        for (zone, energy) in
            [("intel-rapl:0", "5000000"), ("intel-rapl:0:0", "7"), ("intel-rapl-mmio:0", "9")]
        {
            fs::create_dir(dir.path().join(zone)).unwrap();
            fs::write(dir.path().join(zone).join("energy_uj"), energy).unwrap();
        }
        fs::create_dir(dir.path().join("intel-rapl")).unwrap();
        let found = counters(dir.path()).unwrap();
        assert_eq!(found.iter().map(|(_, energy)| *energy).collect::<Vec<_>>(), [5_000_000]);
        fs::write(dir.path().join("intel-rapl:0/energy_uj"), "1000").unwrap();
        fs::write(dir.path().join("intel-rapl:0/max_energy_range_uj"), "6000000").unwrap();
        let meter = Meter { began: Instant::now() - std::time::Duration::from_secs(1), start: Ok(found) };
        let Power::Watts(watts) = meter.finish() else { panic!("not readable") };
        assert!((0.9..=1.01).contains(&watts), "{watts}: it began anew after one joule");
    }
}
