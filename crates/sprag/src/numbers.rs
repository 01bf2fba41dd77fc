//! Numbers as people read them: digits that the noise leaves meaning to, units by the last word of a name.

/// Decimals worth showing beside that spread: two significant digits of the spread.
pub fn decimals(spread: Option<f64>) -> usize {
    match spread {
        Some(spread) if spread.is_finite() && spread > 0.0 => {
            let magnitude = spread.log10().floor();
            (1.0 - magnitude).clamp(0.0, 9.0) as usize
        }
        _ => 4,
    }
}

/// A value with that many decimals.
pub fn plain(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

/// A value with its sign, always.
pub fn signed(value: f64, decimals: usize) -> String {
    format!("{value:+.decimals$}")
}

/// A duration in at most two units: `4.2 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A clock for progress lines: `0:07`, `12:34`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let whole = if seconds.is_finite() && seconds > 0.0 { seconds.round() as u64 } else { 0 };
    match whole {
        0..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole % 3600 / 60, whole % 60),
    }
}

/// A count in three significant digits with a decimal prefix: `812`, `25.1 k`, `1.43 M`.
pub fn count(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        magnitude if magnitude >= 1e12 => (value / 1e12, " T"),
        magnitude if magnitude >= 1e9 => (value / 1e9, " G"),
        magnitude if magnitude >= 1e6 => (value / 1e6, " M"),
        magnitude if magnitude >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    if prefix.is_empty() {
        return if scaled.fract() == 0.0 { format!("{scaled:.0}") } else { significant(scaled) };
    }
    significant(scaled) + prefix
}

/// Bytes with a binary prefix.
pub fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    match value {
        value if value < KIB => format!("{value:.0} B"),
        value if value < KIB * KIB => format!("{} KiB", significant(value / KIB)),
        value if value < KIB * KIB * KIB => format!("{} MiB", significant(value / KIB / KIB)),
        _ => format!("{} GiB", significant(value / KIB / KIB / KIB)),
    }
}

/// A fact's value with its unit, which is the last word of its name.
pub fn quantity(name: &str, value: f64) -> String {
    if name.ends_with("per_second") {
        return format!("{}/s", count(value));
    }
    match name.rsplit('_').next() {
        Some("bytes") => bytes(value),
        Some("seconds") => duration(value),
        Some("ratio" | "fraction") => format!("{:.1} %", value * 100.0),
        _ => count(value),
    }
}

/// A fact's name for people: underscores gone, and whose word it is.
pub fn fact_name(name: &str) -> String {
    match name.strip_prefix("reported_") {
        Some(rest) => format!("{} (reported)", rest.replace('_', " ")),
        None => name.replace('_', " "),
    }
}

/// `1 pair`, `2 pairs`.
pub fn pairs(pairs: u32) -> String {
    if pairs == 1 { "1 pair".to_owned() } else { format!("{pairs} pairs") }
}

/// What an effect rests on.
pub fn repeats(repeats: u32) -> String {
    match repeats {
        0 => "1 screening run".to_owned(),
        1 => "1 repeat".to_owned(),
        _ => format!("{repeats} repeats"),
    }
}

/// An e-value: `0.31`, `148`, `3.2e9`.
pub fn e_value(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2}"),
        middle if middle < 1e6 => format!("{middle:.0}"),
        large => format!("{large:.1e}"),
    }
}

/// A commit's short name.
pub fn short_commit(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude >= 99.95 => 0,
        magnitude if magnitude >= 9.995 => 1,
        magnitude if magnitude >= 0.1 => 2,
        magnitude if magnitude >= 1e-5 => decimals(Some(magnitude)),
        _ => return format!("{value:.1e}"),
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_follow_the_spread() {
        assert_eq!(decimals(Some(0.0061)), 4);
        assert_eq!(decimals(Some(12.0)), 0);
        assert_eq!(decimals(Some(0.0)), 4);
        assert_eq!(decimals(None), 4);
        assert_eq!(decimals(Some(f64::NAN)), 4);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7800.0, "2 h 10 min"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn the_last_word_of_a_name_is_its_unit() {
        for (name, value, text) in [
            ("tokens_per_second", 25_123.0, "25.1 k/s"),
            ("peak_memory_bytes", 1.5 * 1024.0 * 1024.0, "1.50 MiB"),
            ("evaluation_seconds", 2.31, "2.3 s"),
            ("reported_parameters", 1_430_000.0, "1.43 M"),
            ("steps", 812.0, "812"),
            ("val_standard_error", 0.0031, "0.0031"),
        ] {
            assert_eq!(quantity(name, value), text);
        }
    }
}
