//! Quantities with their unit in the type, shown the way people read them.
//!
//! Stored formats keep plain numbers whose name ends in the unit; these types are for boundaries and text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes; shown in binary multiples.
///
/// ```
/// use sprag_measure::units::Bytes;
/// assert_eq!(Bytes(1_288_490_189).to_string(), "1.2 GiB");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// That many mebibytes; saturates.
    pub const fn from_mib(mebibytes: u64) -> Bytes {
        Bytes(mebibytes.saturating_mul(1 << 20))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(count) = *self;
        if count < 1024 {
            return f.pad(&format!("{count} B"));
        }
        let mut value = count as f64;
        let mut unit = "B";
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            // 1023.95 would be printed as 1024.0 of the smaller unit.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

/// A length of time in seconds.
///
/// ```
/// use sprag_measure::units::Seconds;
/// assert_eq!(Seconds(245.0).to_string(), "4m 05s");
/// assert_eq!(Seconds(0.0123).to_string(), "12.3 ms");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Seconds {
        Seconds(duration.as_secs_f64())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&seconds_text(self.0))
    }
}

fn seconds_text(seconds: f64) -> String {
    if !seconds.is_finite() {
        return format!("{seconds} s");
    }
    if seconds < 0.0 {
        return format!("-{}", seconds_text(-seconds));
    }
    // Each bound is where rounding would spill into the next form.
    if seconds == 0.0 {
        "0 s".to_owned()
    } else if seconds < 0.999_95e-6 {
        format!("{:.1} ns", seconds * 1e9)
    } else if seconds < 0.999_95e-3 {
        format!("{:.1} µs", seconds * 1e6)
    } else if seconds < 0.999_95 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
        match (days, hours) {
            (0, 0) => format!("{minutes}m {:02}s", whole % 60),
            (0, _) => format!("{hours}h {minutes:02}m"),
            _ => format!("{days}d {hours:02}h"),
        }
    }
}

/// Events per second, for example tokens per second.
///
/// ```
/// use sprag_measure::units::Rate;
/// assert_eq!(Rate(25_340.0).to_string(), "25.3k/s");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", Count(self.0)))
    }
}

/// A dimensionless amount, shown with a decimal prefix: tokens, parameters, operations.
///
/// ```
/// use sprag_measure::units::Count;
/// assert_eq!(Count(10_000_000.0).to_string(), "10.0M");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Count(pub f64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if !size.is_finite() {
            return f.pad(&self.0.to_string());
        }
        if size < 999.95 {
            let decimals = usize::from(size.fract() != 0.0);
            return f.pad(&format!("{:.decimals$}", self.0));
        }
        let mut value = self.0;
        let mut prefix = "";
        for next in ["k", "M", "G", "T", "P", "E"] {
            if value.abs() < 999.95 {
                break;
            }
            value /= 1000.0;
            prefix = next;
        }
        f.pad(&format!("{value:.1}{prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: fmt::Display>(wrap: impl Fn(f64) -> T, cases: &[(f64, &str)]) {
        for (value, expect) in cases {
            assert_eq!(wrap(*value).to_string(), *expect, "{value}");
        }
    }

    #[test]
    fn bytes_change_unit_where_rounding_would_spill() {
        check(
            |value| Bytes(value as u64),
            &[
                (0.0, "0 B"),
                (1023.0, "1023 B"),
                (1024.0, "1.0 KiB"),
                (1_048_575.0, "1.0 MiB"),
                (1_288_490_189.0, "1.2 GiB"),
            ],
        );
        assert_eq!(Bytes(u64::MAX).to_string(), "16.0 EiB");
    }

    #[test]
    fn seconds_choose_a_readable_form() {
        check(
            Seconds,
            &[
                (0.0, "0 s"),
                (5e-9, "5.0 ns"),
                (0.000_25, "250.0 µs"),
                (0.999_99, "1.0 s"),
                (20.0, "20.0 s"),
                (59.96, "1m 00s"),
                (245.0, "4m 05s"),
                (7_260.0, "2h 01m"),
                (180_000.0, "2d 02h"),
                (-245.0, "-4m 05s"),
                (f64::NAN, "NaN s"),
            ],
        );
    }

    #[test]
    fn rates_and_counts_use_decimal_prefixes() {
        check(Rate, &[(7.0, "7/s"), (7.25, "7.2/s"), (999.96, "1.0k/s"), (3.2e9, "3.2G/s")]);
        check(Count, &[(0.0, "0"), (999.0, "999"), (1e7, "10.0M"), (f64::INFINITY, "inf")]);
    }

    #[test]
    fn width_and_alignment_are_honoured() {
        assert_eq!(format!("[{:>8}]", Bytes(10)), "[    10 B]");
    }
}
