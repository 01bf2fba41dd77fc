//! Limits that kept code must stay within, whatever its score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A guard of a run: one fact and its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardRule {
    /// The guard's name in `task.toml`.
    pub name: String,
    /// The fact that it looks at.
    pub fact: String,
    /// How far it may go.
    pub limit: Limit,
}

/// A limit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Which side is allowed.
    pub side: Side,
    /// The number, or the factor.
    pub amount: f64,
    /// It is a factor: times the incumbent's mean.
    pub times_incumbent: bool,
}

/// Which side of a limit is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At most so much.
    AtMost,
    /// At least so much.
    AtLeast,
}

impl Limit {
    /// At most, or at least, that many times what the incumbent has.
    pub fn times_incumbent(side: Side, factor: f64) -> Limit {
        Limit { side, amount: factor, times_incumbent: true }
    }
}

impl std::str::FromStr for Limit {
    type Err = String;

    /// Reads `<= 500`, `>= 0.9`, `<= 1.05 x incumbent`.
    fn from_str(text: &str) -> Result<Limit, String> {
        let wrong = || format!("`{text}` is no limit; write `<= 500`, `>= 0.9` or `<= 1.05 x incumbent`");
        let text = text.trim();
        let (side, rest) = if let Some(rest) = text.strip_prefix("<=") {
            (Side::AtMost, rest)
        } else if let Some(rest) = text.strip_prefix(">=") {
            (Side::AtLeast, rest)
        } else {
            return Err(wrong());
        };
        let rest = rest.trim();
        let factor =
            rest.strip_suffix("incumbent").map(str::trim_end).and_then(|rest| rest.strip_suffix(['x', '*']));
        let number = factor.unwrap_or(rest).trim().replace('_', "");
        let amount: f64 = number.parse().map_err(|_| wrong())?;
        if !amount.is_finite() {
            return Err(wrong());
        }
        Ok(Limit { side, amount, times_incumbent: factor.is_some() })
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.side == Side::AtMost { "<=" } else { ">=" };
        let of = if self.times_incumbent { " x incumbent" } else { "" };
        write!(formatter, "{sign} {}{of}", self.amount)
    }
}

impl GuardRule {
    /// Why the candidate violates it; `None` when it does not. A fact that is missing violates it: nothing is known
    /// of what is to be guarded. A relative limit without a known incumbent holds.
    pub fn violation(
        &self,
        candidate: &BTreeMap<String, f64>,
        incumbent: Option<&BTreeMap<String, f64>>,
    ) -> Option<String> {
        let GuardRule { name, fact, limit } = self;
        let Some(found) = candidate.get(fact) else {
            return Some(format!("guard `{name}`: no run tells its `{fact}`"));
        };
        let bound = match limit.times_incumbent {
            true => limit.amount * incumbent?.get(fact)?,
            false => limit.amount,
        };
        let holds = match limit.side {
            Side::AtMost => *found <= bound,
            Side::AtLeast => *found >= bound,
        };
        let shown =
            if limit.times_incumbent { format!("{limit}, which is {bound}") } else { limit.to_string() };
        (!holds).then(|| format!("guard `{name}`: {fact} is {found}, allowed is {shown}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("size".to_owned(), value)])
    }

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, side, amount, times_incumbent) in [
            ("<= 500", Side::AtMost, 500.0, false),
            (">=0.9", Side::AtLeast, 0.9, false),
            ("<= 16_000_000", Side::AtMost, 16e6, false),
            (" <= 1.05 x incumbent ", Side::AtMost, 1.05, true),
            (">= 0.9*incumbent", Side::AtLeast, 0.9, true),
        ] {
            assert_eq!(text.parse(), Ok(Limit { side, amount, times_incumbent }), "{text}");
        }
        for text in ["", "500", "< 500", "<=", "<= much", "<= nan", "<= 1.05 incumbent", "<= x incumbent"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
        let limit: Limit = "<= 1.05 x incumbent".parse().unwrap();
        assert_eq!(limit.to_string().parse(), Ok(limit));
    }

    #[test]
    fn a_guard_holds_on_its_limit_and_not_beyond_it() {
        let rule = |limit: &str| GuardRule {
            name: "small".into(),
            fact: "size".into(),
            limit: limit.parse().unwrap(),
        };
        assert_eq!(rule("<= 10").violation(&facts(10.0), None), None);
        assert!(rule("<= 10").violation(&facts(10.5), None).is_some_and(|why| why.contains("10.5")));
        assert!(rule(">= 10").violation(&facts(9.0), None).is_some());
        assert_eq!(rule("<= 1.5 x incumbent").violation(&facts(15.0), Some(&facts(10.0))), None);
        assert!(rule("<= 1.5 x incumbent").violation(&facts(16.0), Some(&facts(10.0))).is_some());
        assert_eq!(rule("<= 1.5 x incumbent").violation(&facts(16.0), None), None);
        assert!(rule("<= 10").violation(&BTreeMap::new(), None).is_some_and(|why| why.contains("no run")));
    }
}
