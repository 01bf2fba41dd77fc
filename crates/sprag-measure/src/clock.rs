//! Time: a monotonic stopwatch with a known resolution, and the date of the wall clock.
//!
//! The one place that reads the wall clock. Durations never come from it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts up from the moment it was made; never goes back.
///
/// ```
/// let stopwatch = sprag_measure::clock::Stopwatch::start();
/// assert!(stopwatch.elapsed() <= stopwatch.elapsed());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts counting now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Seconds since the start.
    pub fn elapsed_seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// The smallest step of the monotonic clock that can be seen here: what no difference can beat.
///
/// The minimum over many non-zero differences of neighbouring readings, as divan measures its timers
/// (`time/timer.rs`). Takes well under a millisecond on common machines.
pub fn resolution() -> Duration {
    let mut smallest = Duration::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        let mut step = Duration::ZERO;
        while step.is_zero() {
            step = start.elapsed();
        }
        smallest = smallest.min(step);
    }
    smallest
}

/// The wall clock in UTC to the second, as RFC 3339: `2026-03-21T17:04:09Z`.
pub fn now_rfc3339() -> String {
    rfc3339(seconds_since_epoch())
}

/// Whole seconds since 1970-01-01T00:00:00Z; negative when the clock is set before it.
#[expect(clippy::disallowed_methods, reason = "this module is where the wall clock is read")]
pub fn seconds_since_epoch() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// Seconds since the epoch as RFC 3339 in UTC.
///
/// The date is computed by Hinnant's `civil_from_days` ("chrono-Compatible Low-Level Date Algorithms").
pub fn rfc3339(seconds: i64) -> String {
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 0000-03-01, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads back what [`rfc3339`] writes (UTC, whole seconds); `None` for anything else.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // Inverse of the above, Hinnant's `days_from_civil`.
    let shifted_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let month_from_march = (month + 9).rem_euclid(12);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    // Writing it again rejects wrong separators and days that do not exist.
    (rfc3339(seconds) == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_across_leap_years_are_right() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), expect);
            assert_eq!(parse_rfc3339(expect), Some(seconds));
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = (1970, 1, 1);
        for day in 0..146_097_i64 {
            let text = rfc3339(day * 86_400);
            let (year, month, date) = expected;
            assert_eq!(text, format!("{year:04}-{month:02}-{date:02}T00:00:00Z"));
            assert_eq!(parse_rfc3339(&text), Some(day * 86_400));
            expected = next_day(expected);
        }
    }

    fn next_day((year, month, day): (i64, i64, i64)) -> (i64, i64, i64) {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        match (day == last, month) {
            (false, _) => (year, month, day + 1),
            (true, 12) => (year + 1, 1, 1),
            (true, _) => (year, month + 1, 1),
        }
    }

    #[test]
    fn text_that_is_not_a_date_is_refused() {
        for text in [
            "",
            "2023-02-29T00:00:00Z",
            "2024-02-29 00:00:00Z",
            "2024-02-29T00:00:00",
            "+024-02-29T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn the_wall_clock_is_after_this_was_written() {
        assert!(now_rfc3339().as_str() > "2025-01-01T00:00:00Z");
    }

    #[test]
    fn the_clock_has_a_resolution() {
        assert!(resolution() > Duration::ZERO);
    }
}
