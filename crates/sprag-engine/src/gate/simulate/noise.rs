//! Where simulated runs come from: invented noise, or recorded re-runs in the order in which they were made.

use crate::session::split_mix;

/// A kind of noise of unit standard deviation, or recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Normal.
    Gaussian,
    /// Student's t with three degrees of freedom, scaled to unit variance: about one run in fifty beyond three
    /// standard deviations.
    HeavyTailed,
    /// Normal, half of its variance in a drift that halves in ten runs: a machine with moods.
    Drifting,
    /// Scores of re-runs, one list a configuration, in time order; a smaller score is better.
    Recorded(Vec<Vec<f64>>),
}

/// Runs after which half of a drift is forgotten.
const MEMORY: f64 = 10.0;

/// Executions of one configuration in time order: first the calibration, then what is judged.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Scores.
    pub runs: &'a [f64],
    /// How many of them are the calibration.
    pub calibration: usize,
    /// Standard deviation of one run.
    pub sigma: f64,
}

impl Kind {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Gaussian => "gaussian",
            Kind::HeavyTailed => "heavy-tailed",
            Kind::Drifting => "drifting",
            Kind::Recorded(_) => "recorded",
        }
    }

    /// Shows `draws` windows of invented noise, or every window of recorded runs. A recorded group that is too short
    /// for `calibration` runs is calibrated on at least half as many; groups that are too short even for that are
    /// standardised and joined in order, so that their windows go across them.
    pub fn windows(
        &self,
        calibration: usize,
        judged: usize,
        draws: u32,
        seed: u64,
        each: &mut dyn FnMut(Window<'_>),
    ) {
        if let Kind::Recorded(groups) = self {
            let long = |group: &&Vec<f64>| group.len() >= calibration / 2 + judged;
            let short: Vec<f64> =
                groups.iter().filter(|group| !long(group)).flat_map(|group| standardised(group)).collect();
            for runs in short.windows(calibration + judged) {
                each(Window { runs, calibration, sigma: 1.0 });
            }
            for group in groups.iter().filter(long) {
                let calibration = calibration.min(group.len().saturating_sub(judged)).max(calibration / 2);
                let sigma = sprag_measure::stats::sample_sd(group).unwrap_or(0.0);
                for runs in group.windows(calibration + judged) {
                    each(Window { runs, calibration, sigma });
                }
            }
            return;
        }
        let mut stream = Stream::new(self, seed);
        let mut runs = vec![0.0; calibration + judged];
        for _ in 0..draws {
            runs.iter_mut().for_each(|run| *run = stream.draw());
            each(Window { runs: &runs, calibration, sigma: 1.0 });
        }
    }
}

/// Uniform and normal numbers from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

impl Draws {
    /// From a seed.
    pub fn new(seed: u64) -> Draws {
        Draws(split_mix(seed, 0))
    }

    /// Between 0 and 1, neither of them.
    pub fn uniform(&mut self) -> f64 {
        self.0 = split_mix(self.0, 1);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Exponential with that mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }
}

/// An endless sequence of noise of unit standard deviation.
#[derive(Clone, Debug)]
pub struct Stream {
    draws: Draws,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Gaussian,
    HeavyTailed,
    Drifting(f64),
    Recorded { residuals: std::sync::Arc<[f64]>, at: usize },
}

impl Stream {
    /// From a seed; recorded residuals are standardised within their groups, joined in order, and begin anywhere.
    pub fn new(kind: &Kind, seed: u64) -> Stream {
        let mut draws = Draws::new(seed);
        let source = match kind {
            Kind::Gaussian => Source::Gaussian,
            Kind::HeavyTailed => Source::HeavyTailed,
            Kind::Drifting => Source::Drifting(draws.normal()),
            Kind::Recorded(groups) => {
                let residuals: Vec<f64> = groups.iter().flat_map(|group| standardised(group)).collect();
                let at = (draws.uniform() * residuals.len() as f64) as usize;
                Source::Recorded { residuals: residuals.into(), at }
            }
        };
        Stream { draws, source }
    }

    /// The next one.
    pub fn draw(&mut self) -> f64 {
        match &mut self.source {
            Source::Gaussian => self.draws.normal(),
            Source::HeavyTailed => {
                let squares: f64 = (0..3).map(|_| self.draws.normal().powi(2)).sum();
                self.draws.normal() / squares.sqrt()
            }
            Source::Drifting(mood) => {
                // A first-order autoregressive process of unit variance.
                let keeps = 0.5f64.powf(1.0 / MEMORY);
                *mood = keeps * *mood + (1.0 - keeps * keeps).sqrt() * self.draws.normal();
                (*mood + self.draws.normal()) / 2f64.sqrt()
            }
            Source::Recorded { residuals, .. } if residuals.is_empty() => self.draws.normal(),
            Source::Recorded { residuals, at } => {
                *at = (*at + 1) % residuals.len();
                residuals[*at]
            }
        }
    }
}

/// Residuals about the group's mean, in its standard deviations; nothing of a group of fewer than three runs or
/// without spread.
fn standardised(group: &[f64]) -> Vec<f64> {
    if group.len() < 3 {
        return Vec::new();
    }
    let (Some(center), Some(sd)) =
        (sprag_measure::stats::mean(group), sprag_measure::stats::sample_sd(group))
    else {
        return Vec::new();
    };
    if sd == 0.0 {
        return Vec::new();
    }
    group.iter().map(|run| (run - center) / sd).collect()
}
