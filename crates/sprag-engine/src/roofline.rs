//! What limits a run: the shares of its machine that it reached, and the bound of the roofline (Williams, Waterman, Patterson
//! 2009). Pure: facts of a run and facts of its machine in, facts out.
//!
//! A run is compared only where all of it is known: operations and bytes a second (or for each token, with tokens a second),
//! the bits of the factors that it multiplies, and a probe of the machine. The evaluator or the candidate tells the former; what
//! a candidate says is an estimate, and never a score.

use std::collections::BTreeMap;

/// Facts of a machine by which runs are compared, as plain numbers a second.
pub const MEMORY: &str = "measured_bytes_per_second";
/// Operations a second with factors of 32 bits.
pub const PEAK_FP32: &str = "measured_fp32_flop_per_second";
/// The same with factors of 16.
pub const PEAK_BF16: &str = "measured_bf16_flop_per_second";

/// True for a fact of a machine that is a plain number for programs: people are told the same in units, under another name.
pub fn is_for_programs(name: &str) -> bool {
    [MEMORY, PEAK_FP32, PEAK_BF16].contains(&name)
}

/// Facts that [`add_shares`] adds to a run's; estimated, because a part of what they are made of may be the candidate's word.
pub const FLOP_SHARE: &str = "estimated_flop_share";
/// Of the bytes a second.
pub const BANDWIDTH_SHARE: &str = "estimated_bandwidth_share";
/// Of the most operations a second that the roofline allows at the run's intensity.
pub const ROOFLINE_SHARE: &str = "estimated_roofline_share";
/// That most.
pub const ROOFLINE_BOUND: &str = "estimated_roofline_flop_per_second";

/// What limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Of the peak, 0 to 1.
    pub flop_share: f64,
    /// Of the bandwidth; more than 1 where caches serve a part.
    pub bandwidth_share: f64,
    /// Of the bound.
    pub roofline_share: f64,
    /// Most operations a second at this intensity.
    pub bound: f64,
    /// Operations a byte.
    pub intensity: f64,
    /// Operations a byte from which on arithmetic limits.
    pub ridge: f64,
}

impl Limit {
    /// Of a run's facts on a machine; `None` where a part is not known.
    pub fn of(facts: &BTreeMap<String, f64>, machine: &BTreeMap<String, String>) -> Option<Limit> {
        let sound = |value: &f64| *value > 0.0 && value.is_finite();
        let fact = |name: &str| {
            let reported = format!("reported_{name}");
            facts.get(name).or_else(|| facts.get(&reported)).copied().filter(sound)
        };
        let rate = |a_second: &str, a_token: &str| {
            fact(a_second).or_else(|| Some(fact(a_token)? * fact("tokens_per_second")?))
        };
        let of_machine = |name: &str| machine.get(name)?.parse::<f64>().ok().filter(sound);
        let flop = rate("flop_per_second", "flops_per_token")?;
        let bytes = rate("bytes_per_second", "bytes_per_token")?;
        let peak = match fact("precision_bits")? {
            16.0 => of_machine(PEAK_BF16).or_else(|| of_machine(PEAK_FP32))?,
            _ => of_machine(PEAK_FP32)?,
        };
        let bandwidth = of_machine(MEMORY)?;
        let intensity = flop / bytes;
        let bound = peak.min(intensity * bandwidth);
        Some(Limit {
            flop_share: flop / peak,
            bandwidth_share: bytes / bandwidth,
            roofline_share: flop / bound,
            bound,
            intensity,
            ridge: peak / bandwidth,
        })
    }

    /// Arithmetic limits, and not memory.
    pub fn by_arithmetic(self) -> bool {
        self.intensity >= self.ridge
    }

    /// One line for proposers and people.
    pub fn line(self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let (what, help) = match (self.by_arithmetic(), self.roofline_share) {
            (true, share) if share >= 0.5 => ("arithmetic", "fewer operations a token make it faster"),
            (false, share) if share >= 0.5 => ("memory", "fewer bytes a token make it faster"),
            (true, _) => {
                ("overhead, before arithmetic", "larger products and fewer small steps make it faster")
            }
            (false, _) => ("overhead, before memory", "larger batches and fewer small steps make it faster"),
        };
        format!(
            "it is limited by {what}: it reaches {} of the roofline ({} of the peak, about {} of the bandwidth; {:.1} FLOP a \
             byte, the ridge is at {:.1}); {help}",
            percent(self.roofline_share),
            percent(self.flop_share),
            percent(self.bandwidth_share),
            self.intensity,
            self.ridge
        )
    }
}

/// Adds the shares to a run's facts, where they are known and nobody has told them.
pub fn add_shares(facts: &mut BTreeMap<String, f64>, machine: &BTreeMap<String, String>) {
    let Some(limit) = Limit::of(facts, machine) else { return };
    for (name, value) in [
        (FLOP_SHARE, limit.flop_share),
        (BANDWIDTH_SHARE, limit.bandwidth_share),
        (ROOFLINE_SHARE, limit.roofline_share),
        (ROOFLINE_BOUND, limit.bound),
    ] {
        facts.entry(name.to_owned()).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> BTreeMap<String, String> {
        let facts = [(MEMORY, "5e10"), (PEAK_FP32, "2e11"), (PEAK_BF16, "4e11")];
        facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn facts(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    /// 1e7 operations and 1e6 bytes a token at 10,000 tokens/s: 1e11 and 1e10 a second; 10 operations a byte.
    const RUN: [(&str, f64); 4] = [
        ("reported_flops_per_token", 1e7),
        ("reported_bytes_per_token", 1e6),
        ("reported_precision_bits", 32.0),
        ("tokens_per_second", 1e4),
    ];

    #[test]
    fn plain_numbers_are_for_programs_and_what_is_told_in_units_for_people() {
        assert!(machine().keys().all(|name| is_for_programs(name)));
        assert!(!is_for_programs("measured_memory_bandwidth") && !is_for_programs("cpu"));
    }

    #[test]
    fn shares_are_of_the_measured_machine() {
        let mut run = facts(&RUN);
        add_shares(&mut run, &machine());
        assert_eq!((run[FLOP_SHARE], run[BANDWIDTH_SHARE]), (0.5, 0.2));
        // The ridge is at 4: arithmetic bounds.
        assert_eq!((run[ROOFLINE_SHARE], run[ROOFLINE_BOUND]), (0.5, 2e11));
        run.insert("reported_precision_bits".into(), 16.0);
        let limit = Limit::of(&run, &machine()).unwrap();
        assert_eq!((limit.flop_share, limit.ridge, limit.by_arithmetic()), (0.25, 8.0, true));
    }

    #[test]
    fn below_the_ridge_memory_bounds_and_the_line_says_so() {
        let mut run = facts(&RUN);
        run.insert("reported_bytes_per_token".into(), 4e6);
        let limit = Limit::of(&run, &machine()).unwrap();
        // 2.5 operations a byte x 5e10.
        assert_eq!((limit.bound, limit.roofline_share, limit.bandwidth_share), (1.25e11, 0.8, 0.8));
        assert!(
            limit.line().starts_with("it is limited by memory: it reaches 80 % of the roofline"),
            "{}",
            limit.line()
        );
        run.insert("tokens_per_second".into(), 1e3);
        assert!(Limit::of(&run, &machine()).unwrap().line().contains("overhead"));
    }

    #[test]
    fn nothing_is_said_where_a_part_is_unknown_or_makes_no_sense() {
        for lacking in RUN {
            let mut run = facts(&RUN);
            run.remove(lacking.0);
            assert_eq!(Limit::of(&run, &machine()), None, "{}", lacking.0);
            run.insert(lacking.0.to_owned(), f64::NAN);
            assert_eq!(Limit::of(&run, &machine()), None, "{}", lacking.0);
        }
        assert_eq!(Limit::of(&facts(&RUN), &BTreeMap::new()), None);
        let mut told = facts(&RUN);
        told.insert(FLOP_SHARE.to_owned(), 0.9);
        add_shares(&mut told, &machine());
        assert_eq!(told[FLOP_SHARE], 0.9);
    }
}
