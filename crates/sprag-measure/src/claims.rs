//! Public claims about machines and models as data, judged by the planner's own functions. A claim says what was said, by
//! whom, and which quantities it must agree with; its verdict is computed each time and stored nowhere.

mod quantity;

use serde::Deserialize;

pub use quantity::{Computed, Interval, Quantity, QuantityError};

/// Where the claimed and the computed number differ by less than that part, they agree: people round. A number of few
/// digits is given half a unit of its last one, up to the larger part.
const TOLERANCE: f64 = 0.03;
const MOST_TOLERANCE: f64 = 0.05;

/// A claim.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Claim {
    /// Its number; other claims name it by that.
    pub id: u32,
    /// What is claimed, in one sentence.
    pub statement: String,
    /// Who says so.
    pub source: String,
    /// The number, or the lowest and the highest.
    pub claimed: Vec<f64>,
    /// In which unit.
    pub unit: Unit,
    /// What the number says of the quantity.
    #[serde(default)]
    pub relation: Relation,
    /// What it must agree with.
    #[serde(default)]
    pub check: Vec<Check>,
    /// What lacks for judging it; with this it is never said to hold.
    pub missing: Option<String>,
}

/// What a number says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// So much.
    #[default]
    Is,
    /// So much or more.
    AtLeast,
    /// So much or less.
    AtMost,
}

/// One thing that a claim must agree with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// How the quantity bears on the claim.
    pub role: Role,
    /// The quantity.
    pub value: Quantity,
    /// The claimed numbers that this check is about, where they are not the claim's main ones; in its unit.
    pub claimed: Option<Vec<f64>>,
    /// Under which other assumption it is asked: an assumption never decides, it is told.
    pub assuming: Option<String>,
    /// Claims that the quantity is made of.
    #[serde(default)]
    pub of_claims: Vec<u32>,
}

/// How a quantity bears on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The claimed number must be it.
    Value,
    /// The claimed number cannot be more.
    Ceiling,
    /// The claimed number cannot be less.
    Floor,
    /// It must be at most 1: a part of the memory that is there.
    Fits,
    /// It is told besides, and decides nothing.
    Told,
}

/// A unit as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Unit {
    /// Bytes of 10^3.
    KB,
    /// Bytes of 10^6.
    MB,
    /// Bytes of 10^9.
    GB,
    /// Bytes of 10^12.
    TB,
    /// Bytes a second of 10^9.
    #[serde(rename = "GB/s")]
    GBps,
    /// Tokens a second.
    #[serde(rename = "tok/s")]
    TokensPerSecond,
    /// Operations a second of 10^12.
    TFLOPS,
    /// The same of whole numbers.
    TOPS,
    /// Operations a second and watt of 10^12.
    #[serde(rename = "TFLOPS/W")]
    TFLOPSPerWatt,
    /// Operations a byte.
    #[serde(rename = "FLOP/byte")]
    FlopPerByte,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Hundredths.
    #[serde(rename = "%")]
    Percent,
    /// Times.
    #[serde(rename = "x")]
    Times,
    /// Pieces.
    #[serde(rename = "1")]
    Pieces,
}

impl Unit {
    /// The unit as a part of the one without a prefix, and how it is written.
    pub fn parts(self) -> (f64, &'static str) {
        match self {
            Unit::KB => (1e3, "KB"),
            Unit::MB => (1e6, "MB"),
            Unit::GB => (1e9, "GB"),
            Unit::TB => (1e12, "TB"),
            Unit::GBps => (1e9, "GB/s"),
            Unit::TokensPerSecond => (1.0, "tokens/s"),
            Unit::TFLOPS => (1e12, "TFLOP/s"),
            Unit::TOPS => (1e12, "TOP/s"),
            Unit::TFLOPSPerWatt => (1e12, "TFLOP/s/W"),
            Unit::FlopPerByte => (1.0, "FLOP/byte"),
            Unit::Seconds => (1.0, "s"),
            Unit::Milliseconds => (1e-3, "ms"),
            Unit::Microseconds => (1e-6, "us"),
            Unit::Percent => (0.01, "%"),
            Unit::Times => (1.0, "x"),
            Unit::Pieces => (1.0, ""),
        }
    }

    /// A prefix of two instead of ten, and what mixing them up does.
    fn slips(self) -> Option<(f64, &'static str)> {
        match self {
            Unit::KB => Some((1.024, "KiB written as KB")),
            Unit::MB => Some((1.048_576, "MiB written as MB")),
            Unit::GB | Unit::GBps => Some((1.073_741_824, "GiB written as GB")),
            Unit::TB => Some((1.099_511_627_776, "TiB written as TB")),
            _ => None,
        }
    }

    fn show(self, value: Interval) -> String {
        let (factor, word) = self.parts();
        let one = |value: f64| {
            let value = value / factor;
            match value.abs() {
                size if size >= 1000.0 => format!("{value:.0}"),
                size if size >= 100.0 => format!("{value:.1}"),
                size if size >= 1.0 => format!("{value:.2}"),
                _ => format!("{value:.3}"),
            }
        };
        let number = match one(value.low) == one(value.high) {
            true => one(value.low),
            false => format!("{} to {}", one(value.low), one(value.high)),
        };
        format!("{number} {word}").trim_end().to_owned()
    }
}

/// What a claim is worth.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It agrees with all that can be computed.
    Holds,
    /// It cannot happen on the machine that it names, whatever its arithmetic.
    CannotHappen {
        /// Does not fit, or above what the machine can do.
        why: String,
    },
    /// It is that many times what is right.
    Wrong {
        /// Claimed over computed.
        factor: f64,
    },
    /// It would hold in another unit.
    UnitSlip {
        /// Which.
        what: &'static str,
    },
    /// It is about a machine that nobody sells.
    Projection,
    /// It cannot be true together with others.
    Contradicts {
        /// Their numbers.
        claims: Vec<u32>,
    },
    /// It cannot be judged by arithmetic.
    NotJudged {
        /// What lacks.
        missing: String,
    },
}

impl Verdict {
    /// One or two words.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::CannotHappen { .. } => "cannot happen",
            Verdict::Wrong { .. } => "wrong",
            Verdict::UnitSlip { .. } => "unit slip",
            Verdict::Projection => "projection",
            Verdict::Contradicts { .. } => "contradicts",
            Verdict::NotJudged { .. } => "not judged",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Holds => formatter.write_str("holds"),
            Verdict::CannotHappen { why } => write!(formatter, "cannot happen: {why}"),
            Verdict::Wrong { factor } => write!(formatter, "wrong by x{}", times(*factor)),
            Verdict::UnitSlip { what } => write!(formatter, "unit slip: {what}"),
            Verdict::Projection => formatter.write_str("projection: nobody sells this machine"),
            Verdict::Contradicts { claims } => {
                let plural = if claims.len() > 1 { "s" } else { "" };
                let claims: Vec<String> = claims.iter().map(u32::to_string).collect();
                write!(formatter, "contradicts claim{plural} {}", claims.join(" and "))
            }
            Verdict::NotJudged { missing } => write!(formatter, "not judged: {missing}"),
        }
    }
}

fn times(factor: f64) -> String {
    match factor {
        small if small < 0.01 => format!("{small:.1e}"),
        small if small < 0.1 => format!("{small:.3}"),
        usual if usual < 10.0 => format!("{usual:.2}"),
        large => format!("{large:.0}"),
    }
}

/// A claim with its verdict.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// What it is worth.
    pub verdict: Verdict,
    /// How that was found, a line a check.
    pub working: Vec<String>,
    /// A machine that nobody sells is part of it.
    pub projected: bool,
}

/// Why a file of claims cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClaimsError {
    /// It is not TOML of that form.
    #[error("{0}")]
    Syntax(String),
    /// Two claims have one number.
    #[error("two claims have the number {0}")]
    Twice(u32),
    /// The claimed numbers make no sense.
    #[error("claim {0}: `claimed` is one number, or the lowest and the highest")]
    Numbers(u32),
    /// A quantity cannot be computed.
    #[error("claim {id}: {cause}")]
    Quantity {
        /// The claim.
        id: u32,
        /// Why.
        cause: QuantityError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsFile {
    claim: Vec<Claim>,
}

/// The claims that ship.
pub const SHIPPED: &str = include_str!("../claims/stack.toml");

/// Reads a file of claims.
///
/// # Errors
/// See [`ClaimsError`].
pub fn read_claims(text: &str) -> Result<Vec<Claim>, ClaimsError> {
    let file: ClaimsFile = toml::from_str(text).map_err(|cause| ClaimsError::Syntax(cause.to_string()))?;
    let mut seen = std::collections::BTreeSet::new();
    for claim in &file.claim {
        if !seen.insert(claim.id) {
            return Err(ClaimsError::Twice(claim.id));
        }
        let lists = claim.check.iter().filter_map(|check| check.claimed.as_ref()).chain([&claim.claimed]);
        for numbers in lists {
            let sound = numbers.iter().all(|number| number.is_finite());
            if !sound || !matches!(numbers.as_slice(), [_] | [_, _]) || numbers.first() > numbers.last() {
                return Err(ClaimsError::Numbers(claim.id));
            }
        }
    }
    Ok(file.claim)
}

/// Judges one claim; the others are those that it may name.
///
/// # Errors
/// When one of its quantities cannot be computed: an unknown model, machine, format or claim.
pub fn judge<'a>(claim: &'a Claim, all: &[Claim]) -> Result<Judged<'a>, ClaimsError> {
    let (factor, _) = claim.unit.parts();
    let said = |numbers: &[f64]| Interval::of(numbers).scaled(factor);
    let mut found = Found::default();
    let mut working = Vec::new();
    let mut projected = false;
    for check in &claim.check {
        let computed =
            check.value.compute(all).map_err(|cause| ClaimsError::Quantity { id: claim.id, cause })?;
        // What only is told or assumed makes no projection of a claim.
        projected |= computed.projected && check.assuming.is_none() && check.role != Role::Told;
        let written = check.claimed.as_ref().unwrap_or(&claim.claimed);
        let (line, fault) = weigh(claim, check, said(written), tolerance(written), &computed);
        working.push(match &check.assuming {
            Some(assumption) => format!("if {assumption}: {line}"),
            None => line,
        });
        if check.assuming.is_none() {
            found.add(fault);
        }
    }
    if let Some(missing) = &claim.missing {
        working.push(format!("missing: {missing}"));
    }
    let verdict = found.verdict(claim, projected);
    Ok(Judged { claim, verdict, working, projected })
}

/// What is wrong with a claim by one check.
enum Fault {
    None,
    DoesNotFit(String),
    Off(f64),
    Slip(&'static str),
    Beyond(String),
    Against(Vec<u32>),
}

#[derive(Default)]
struct Found {
    does_not_fit: Option<String>,
    beyond: Option<String>,
    off: Option<f64>,
    slip: Option<&'static str>,
    against: Vec<u32>,
    checked: bool,
}

impl Found {
    fn add(&mut self, fault: Fault) {
        self.checked = true;
        match fault {
            Fault::None => {}
            Fault::DoesNotFit(why) => self.does_not_fit = Some(why),
            Fault::Beyond(why) => self.beyond = Some(why),
            Fault::Off(factor) => self.off = Some(factor),
            Fault::Slip(what) => self.slip = Some(what),
            Fault::Against(claims) => self.against.extend(claims),
        }
    }

    /// What does not fit cannot be fast; then what no machine does, then what is wrong, then what others deny.
    fn verdict(self, claim: &Claim, projected: bool) -> Verdict {
        if let Some(why) = self.does_not_fit.or(self.beyond) {
            return Verdict::CannotHappen { why };
        }
        if let Some(factor) = self.off {
            return Verdict::Wrong { factor };
        }
        if let Some(what) = self.slip {
            return Verdict::UnitSlip { what };
        }
        if !self.against.is_empty() {
            return Verdict::Contradicts { claims: self.against };
        }
        if let Some(missing) = &claim.missing {
            return Verdict::NotJudged { missing: missing.clone() };
        }
        if !self.checked {
            return Verdict::NotJudged { missing: "nothing to compute it from".to_owned() };
        }
        if projected { Verdict::Projection } else { Verdict::Holds }
    }
}

/// The part by which a number may be off, by the digits that it is written with.
fn tolerance(written: &[f64]) -> f64 {
    let half_unit = |number: &f64| {
        let digits = number.to_string();
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        0.5 * 10f64.powi(-(decimals as i32)) / number.abs()
    };
    written.iter().map(half_unit).fold(TOLERANCE, f64::max).min(MOST_TOLERANCE)
}

/// Whether claimed and computed agree, but for that part.
fn agree(relation: Relation, claimed: Interval, computed: Interval, tolerance: f64) -> bool {
    let near = |value: f64| tolerance * value.abs();
    match relation {
        Relation::Is => {
            claimed.low <= computed.high + near(computed.high)
                && claimed.high >= computed.low - near(computed.low)
        }
        Relation::AtLeast => computed.high >= claimed.low - near(claimed.low),
        Relation::AtMost => computed.low <= claimed.high + near(claimed.high),
    }
}

/// How many times the nearest computed number the nearest claimed one is.
fn apart(claimed: Interval, computed: Interval) -> f64 {
    if claimed.low > computed.high { claimed.low / computed.high } else { claimed.high / computed.low }
}

fn weigh(
    claim: &Claim,
    check: &Check,
    claimed: Interval,
    tolerance: f64,
    computed: &Computed,
) -> (String, Fault) {
    let Computed { value, formula, .. } = computed;
    let shown = claim.unit.show(*value);
    match check.role {
        Role::Told => (format!("{formula} = {}", computed.shown()), Fault::None),
        Role::Fits => {
            let part = value.low;
            let line = format!("{formula}: x{} of the memory", times(part));
            let fault = if part > 1.0 {
                Fault::DoesNotFit(format!("needs x{} of the memory", times(part)))
            } else {
                Fault::None
            };
            (line, fault)
        }
        Role::Ceiling => {
            let share = Interval { low: claimed.low / value.high, high: claimed.high / value.high };
            let part = match share.low == share.high {
                true => format!("{:.0} %", share.high * 100.0),
                false => format!("{:.0} to {:.0} %", share.low * 100.0, share.high * 100.0),
            };
            let line =
                format!("at most {shown} = {formula}; claimed {} is {part} of it", claim.unit.show(claimed));
            // A hundredth more is rounding.
            let above = share.high > 1.01;
            let fault = match above {
                true => Fault::Beyond(format!("x{} of the most that is possible", times(share.high))),
                false => Fault::None,
            };
            (line, fault)
        }
        Role::Floor => {
            let line = format!(
                "at least {shown} = {formula}; claimed {} is x{} of it",
                claim.unit.show(claimed),
                times(claimed.low / value.low)
            );
            let below = claimed.low < value.low * 0.99;
            let fault = match below {
                true => Fault::Beyond(format!(
                    "x{} of the least that is possible",
                    times(claimed.low / value.low)
                )),
                false => Fault::None,
            };
            (line, fault)
        }
        Role::Value => {
            let agrees = agree(claim.relation, claimed, *value, tolerance);
            let line = format!("{shown} = {formula}; claimed {}", claim.unit.show(claimed));
            if agrees {
                return (line, Fault::None);
            }
            let slip = claim
                .unit
                .slips()
                .filter(|(factor, _)| agree(claim.relation, claimed.scaled(*factor), *value, tolerance));
            let factor = apart(claimed, *value);
            let fault = match slip {
                Some((_, what)) => Fault::Slip(what),
                None if !check.of_claims.is_empty() => Fault::Against(check.of_claims.clone()),
                None => Fault::Off(factor),
            };
            (format!("{line}: x{}", times(factor)), fault)
        }
    }
}

#[cfg(test)]
mod tests;
