//! The numbers that decide what is kept and certified, and their presets.

use serde::{Deserialize, Serialize};

/// The gate's numbers; see `gate` and `docs/statistics.md` for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The preset that the other numbers start from.
    pub preset: Preset,
    /// Executions of the baseline before anything is tried, at least 5.
    pub baseline_repeats: u32,
    /// A candidate is executed again when its first run is better than the incumbent's mean by this many
    /// standard errors.
    pub screen_z: f64,
    /// One-sided error level of each look at a candidate that is executed again.
    pub alpha: f64,
    /// A candidate is dropped when all its runs together are better by fewer standard errors than this.
    pub futility_z: f64,
    /// Most executions of one candidate after the first.
    #[serde(alias = "max_pairs")]
    pub max_repeats: u32,
    /// Executions of other code after which the incumbent is executed again before anything rests on it.
    pub anchor_every: u32,
    /// Keeps after which the tip is audited; 0 leaves audits to `sprag certify`.
    pub audit_every: u32,
    /// Highest level of one audit: it certifies a tip that is not better at most this often.
    pub audit_alpha: f64,
    /// Most pairs of one audit.
    pub audit_pairs: u32,
    /// Bound on the expected share of false certifications over all audits of a run (e-LOND).
    pub audit_fdr: f64,
    /// Scores that a run may ask of the sealed holdout.
    pub holdout_queries: u32,
    /// Candidates of one heat, a power of two: they race on parts of the budget, and the one that is left is judged.
    /// 1 judges every candidate.
    pub race: u32,
    /// A screening run whose loss leaves the band of the incumbent's curves is stopped. Runs of programs before this
    /// did not do so.
    #[serde(default)]
    pub early_stop: bool,
}

/// How much a keep must show, from little to much. `Display` and `task.toml` use the word in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Keeps sooner, audits later: for the first night of a new task.
    Explore,
    /// Few executions, audits every few keeps.
    #[default]
    Balanced,
    /// A run of the incumbent after every other one, audits after every other keep.
    Strict,
    /// What a loop without statistics does, for comparison: one run better than the best recorded is kept. Audits
    /// are left to `sprag certify`.
    Naive,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 4] = [Preset::Explore, Preset::Balanced, Preset::Strict, Preset::Naive];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Preset::Explore => "explore",
            Preset::Balanced => "balanced",
            Preset::Strict => "strict",
            Preset::Naive => "naive",
        }
    }

    /// Its numbers.
    pub fn policy(self) -> Policy {
        let balanced = Policy {
            preset: self,
            baseline_repeats: 10,
            screen_z: 0.7,
            alpha: 0.08,
            futility_z: 1.0,
            max_repeats: 3,
            anchor_every: 12,
            audit_every: 6,
            audit_alpha: 0.01,
            audit_pairs: 8,
            audit_fdr: 0.05,
            holdout_queries: 20,
            race: 1,
            early_stop: true,
        };
        match self {
            Preset::Balanced => balanced,
            Preset::Explore => Policy {
                baseline_repeats: 6,
                screen_z: 0.4,
                alpha: 0.15,
                futility_z: 0.5,
                max_repeats: 2,
                anchor_every: 16,
                audit_every: 10,
                ..balanced
            },
            Preset::Strict => Policy {
                baseline_repeats: 12,
                alpha: 0.02,
                max_repeats: 4,
                anchor_every: 2,
                audit_every: 2,
                audit_alpha: 0.005,
                audit_fdr: 0.01,
                early_stop: false,
                ..balanced
            },
            Preset::Naive => Policy { baseline_repeats: 5, audit_every: 0, early_stop: false, ..balanced },
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.word())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Preset::default().policy()
    }
}
