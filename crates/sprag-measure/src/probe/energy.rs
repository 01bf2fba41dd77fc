//! Joules of an operation and of a byte: power while nothing runs, while memory is read, and while matrices are multiplied.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::power::{Meter, Power};
use super::{Effort, Multiply, memory};
use crate::machine::Machine;

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Energy {
    /// Power of the package in watts, and what it did for it.
    Measured {
        /// While this program slept.
        idle_watts: f64,
        /// While memory was read on all cores.
        memory_watts: f64,
        /// At that rate.
        bytes_per_second: f64,
        /// While matrices were multiplied in single precision, and at which rate; absent without something to multiply with.
        arithmetic: Option<(f64, f64)>,
    },
    /// Why it is not known.
    NotReadable(String),
}

impl Default for Energy {
    fn default() -> Energy {
        Energy::NotReadable("this machine file is older than the measurement".to_owned())
    }
}

impl Energy {
    /// Joules of a byte from memory, all that the package draws included.
    pub fn joules_a_byte(&self) -> Option<f64> {
        match self {
            Energy::Measured { memory_watts, bytes_per_second, .. } => Some(memory_watts / bytes_per_second),
            Energy::NotReadable(_) => None,
        }
    }

    /// Joules of an operation in single precision.
    pub fn joules_a_flop(&self) -> Option<f64> {
        match self {
            Energy::Measured { arithmetic, .. } => arithmetic.map(|(watts, rate)| watts / rate),
            Energy::NotReadable(_) => None,
        }
    }
}

/// Measures it, where power can be read at all: else nothing is spent.
pub fn measure(effort: Effort, machine: &Machine, cores: &[usize], multiply: Option<Multiply<'_>>) -> Energy {
    let span = match effort {
        Effort::Quick => Duration::from_millis(400),
        Effort::Normal | Effort::Thorough => Duration::from_secs(2),
    };
    if let Power::NotReadable(why) = Meter::start().finish() {
        return Energy::NotReadable(why);
    }
    let watts = |power: Power| match power {
        Power::Watts(watts) => Ok(watts),
        Power::NotReadable(why) => Err(why),
    };
    let measured = || {
        let idle = Meter::start();
        std::thread::sleep(span);
        let idle_watts = watts(idle.finish())?;
        let reading = Meter::start();
        let bytes_per_second = memory::sustained(machine, cores, span)
            .ok_or_else(|| "there is no room to read memory for so long".to_owned())?;
        let memory_watts = watts(reading.finish())?;
        let multiplying = Meter::start();
        let rate = multiply.and_then(|multiply| multiply([1024, 1024, 1024], "fp32", span));
        let drawn = watts(multiplying.finish())?;
        let arithmetic = rate.map(|rate| (drawn, rate));
        Ok(Energy::Measured { idle_watts, memory_watts, bytes_per_second, arithmetic })
    };
    measured().unwrap_or_else(Energy::NotReadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joules_are_power_over_rate() {
        let energy = Energy::Measured {
            idle_watts: 10.0,
            memory_watts: 50.0,
            bytes_per_second: 25e9,
            arithmetic: Some((100.0, 2e11)),
        };
        assert_eq!((energy.joules_a_byte(), energy.joules_a_flop()), (Some(2e-9), Some(5e-10)));
        let unknown = Energy::default();
        assert_eq!((unknown.joules_a_byte(), unknown.joules_a_flop()), (None, None));
    }
}
