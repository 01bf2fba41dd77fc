//! Measures the gate: the very functions that decide in a run, against invented and recorded noise.
//!
//! [`study`] asks what one candidate and one audit risk, [`campaign`] what a whole search gains. Everything is
//! drawn from a seed and comes out the same on every machine.

pub mod campaign;
mod noise;
mod reruns;

pub use noise::{Draws, Kind, Stream};
pub use reruns::{Rerun, RerunsError, groups_of, parse_reruns};

use serde::Serialize;

use super::audit;
use super::level::Level;
use super::tentative::{self, Evidence, Look};
use super::{Noise, online, throughput};
use crate::record::{AuditEnd, Direction, Policy, Preset};
use campaign::Campaign;
pub use campaign::{Regime, Spread};

/// Gain, in sigma, below which a ratio to it says nothing.
const LEAST_GAIN: f64 = 0.25;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The gate.
    pub policy: Policy,
    /// Draws of each figure; there is one campaign for fifty of them.
    pub draws: u32,
    /// Where the randomness begins.
    pub seed: u64,
    /// Throughputs of re-runs, one list a configuration in time order; empty: invented ones.
    pub rates: Vec<Vec<f64>>,
}

/// What a policy does, per candidate, per audit and per campaign.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The noise.
    pub noise: String,
    /// Candidates that are no better and are kept.
    pub tentative_false_keep: f64,
    /// Audits of a tip that is no better and is certified.
    pub certified_false_keep: f64,
    /// Candidates two sigma better that are kept.
    pub power_2sigma: f64,
    /// Candidates three sigma better that are kept.
    pub power_3sigma: f64,
    /// Executions spent on a candidate that is no better, those of the incumbent included.
    pub runs_per_null: f64,
    /// By how many sigma the value reported of the final tip is better than the truth, in the mean of campaigns.
    pub optimism_sigma: f64,
    /// The same of a loop without statistics.
    pub naive_optimism_sigma: f64,
    /// Audits of a tip three sigma better that are certified.
    pub audit_power_3sigma: f64,
    /// Pairs of an audit of a tip that is no better, in the mean.
    pub pairs_per_null_audit: f64,
    /// Planted dips of 5 % of throughput that are called a fault of the machine; `None` without any.
    pub dips_found: Option<f64>,
    /// Executions without a planted dip that are called one.
    pub dip_false_alarms: Option<f64>,
    /// Null candidates behind the first figures.
    pub candidates: u32,
    /// Null audits behind the second.
    pub audits: u32,
    /// Searches with this policy and without statistics.
    pub campaigns: Vec<CampaignFigures>,
}

/// Searches in one regime.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CampaignFigures {
    /// How often ideas help, and how much.
    pub regime: Regime,
    /// How the helpful ones are spread.
    pub spread: Spread,
    /// Executions that both may spend.
    pub runs: u32,
    /// True gain of the tip, in sigma.
    pub tip_gain_sigma: f64,
    /// True gain of the certified champion.
    pub certified_gain_sigma: f64,
    /// True gain of a loop without statistics.
    pub naive_gain_sigma: f64,
    /// The tip's gain over the naive one; `None` where the naive one has hardly any.
    pub ratio: Option<f64>,
    /// Ideas that change nothing and were kept, over all such ideas.
    pub nulls_kept: f64,
    /// Keeps that do not help, over all keeps.
    pub false_keeps: f64,
    /// The same of a loop without statistics.
    pub naive_false_keeps: f64,
    /// Certified champions that are no better than the one before, over all certified.
    pub false_certified: f64,
    /// Executions beyond one a candidate, over candidates.
    pub extra_runs: f64,
    /// Campaigns behind the figures.
    pub campaigns: u32,
}

/// Executions that one candidate, its anchors included, takes at most.
fn candidate_runs(policy: &Policy) -> usize {
    2 * policy.max_repeats as usize + 2
}

/// Executions that one audit takes at most.
fn audit_runs(policy: &Policy) -> usize {
    2 * policy.audit_pairs.max(audit::LEAST_PAIRS) as usize
}

/// Recorded runs, of all groups together, that every figure needs at least.
pub fn least_runs(policy: &Policy) -> usize {
    policy.baseline_repeats as usize + candidate_runs(policy).max(audit_runs(policy))
}

/// Measures a policy against one kind of noise.
pub fn study(kind: &Kind, request: &Request) -> Figures {
    let null = candidates(kind, 0.0, request, 1);
    let audited = audits(kind, 0.0, request, 2);
    let all = [Spread::Equal, Spread::Exponential].into_iter();
    let all = all.flat_map(|spread| Regime::ALL.into_iter().map(move |regime| (regime, spread)));
    let campaigns: Vec<((Regime, Spread), [Tally; 2])> =
        all.map(|ideas| (ideas, compare(kind, ideas, request))).collect();
    let dips = dips(request);
    let optimism = |which: usize| {
        let tallies = campaigns.iter().map(|(_, tallies)| &tallies[which]);
        tallies.map(|tally| tally.optimism).sum::<f64>() / campaigns.len() as f64
    };
    Figures {
        noise: kind.word().to_owned(),
        tentative_false_keep: null.kept,
        certified_false_keep: audited.certified,
        power_2sigma: candidates(kind, 2.0, request, 4).kept,
        power_3sigma: candidates(kind, 3.0, request, 5).kept,
        runs_per_null: null.runs,
        optimism_sigma: optimism(0),
        naive_optimism_sigma: optimism(1),
        audit_power_3sigma: audits(kind, 3.0, request, 3).certified,
        pairs_per_null_audit: audited.pairs,
        dips_found: dips.found_share(),
        dip_false_alarms: dips.false_alarm_share(),
        candidates: null.n,
        audits: audited.n,
        campaigns: campaigns
            .iter()
            .map(|(ideas, [ours, naive])| CampaignFigures {
                regime: ideas.0,
                spread: ideas.1,
                runs: campaign::RUNS,
                tip_gain_sigma: ours.tip,
                certified_gain_sigma: ours.certified,
                naive_gain_sigma: naive.tip,
                ratio: (naive.tip > LEAST_GAIN).then(|| ours.tip / naive.tip),
                nulls_kept: ours.nulls_kept,
                false_keeps: ours.false_keeps,
                naive_false_keeps: naive.false_keeps,
                false_certified: ours.false_certified,
                extra_runs: ours.extra_runs,
                campaigns: campaigns_of(request),
            })
            .collect(),
    }
}

/// Plants dips of 5 % in every tenth throughput: recorded ones, or invented ones that scatter by 0.3 %.
fn dips(request: &Request) -> throughput::Tally {
    let mut draws = Draws::new(request.seed ^ 6);
    let mut invented = || (0..25).map(|_| 1e5 * (1.0 + 0.003 * draws.normal())).collect::<Vec<f64>>();
    let invented: Vec<Vec<f64>> = (0..40).map(|_| invented()).collect();
    let rates = if request.rates.is_empty() { &invented } else { &request.rates };
    let mut tally = throughput::Tally::default();
    for seed in 0..10 {
        let dips = throughput::Dips { depth: 0.05, share: 0.1, seed: request.seed ^ seed, alone: false };
        tally += throughput::study(rates, dips);
    }
    tally
}

struct Candidates {
    /// Part of them that was kept.
    kept: f64,
    /// Executions spent on one, in the mean.
    runs: f64,
    n: u32,
}

struct Audits {
    /// Part of them that certified.
    certified: f64,
    /// Pairs spent on one, in the mean.
    pairs: f64,
    n: u32,
}

/// Candidates that are `effect` sigma better than an incumbent known from the calibration runs.
fn candidates(kind: &Kind, effect: f64, request: &Request, salt: u64) -> Candidates {
    let policy = &request.policy;
    let needed = candidate_runs(policy);
    let (mut kept, mut runs, mut n) = (0u32, 0u32, 0u32);
    kind.windows(
        policy.baseline_repeats as usize,
        needed,
        request.draws,
        request.seed ^ salt,
        &mut |window| {
            let (pool, rest) = window.runs.split_at(window.calibration);
            let mut trial = Trial { rest, next: 0, since: 0, better: effect * window.sigma };
            n += 1;
            kept += u32::from(judge(pool, &mut trial, policy));
            runs += trial.next as u32;
        },
    );
    let part = |count: u32| f64::from(count) / f64::from(n.max(1));
    Candidates { kept: part(kept), runs: part(runs), n }
}

/// A sequence of executions in time order, from which both arms take theirs.
struct Trial<'a> {
    rest: &'a [f64],
    next: usize,
    since: u32,
    better: f64,
}

impl Trial<'_> {
    fn candidate(&mut self) -> f64 {
        self.next += 1;
        self.since += 1;
        self.rest[self.next - 1] - self.better
    }

    fn incumbent(&mut self) -> f64 {
        self.next += 1;
        self.since = 0;
        self.rest[self.next - 1]
    }
}

fn judge(pool: &[f64], trial: &mut Trial<'_>, policy: &Policy) -> bool {
    let noise = Noise::pooled([pool]);
    let screening = trial.candidate();
    if policy.preset == Preset::Naive {
        let best = pool.iter().copied().fold(f64::INFINITY, f64::min);
        return matches!(tentative::naive(screening, best, noise, Direction::Lower, policy), Look::Keep(_));
    }
    let Some(incumbent) = Level::of(pool) else { return false };
    let (mut repeats, mut anchors) = (Vec::new(), Vec::new());
    loop {
        let evidence = Evidence { incumbent, noise, screening, repeats: &repeats, anchors: &anchors };
        match tentative::look(&evidence, Direction::Lower, policy) {
            Some(Look::More(_)) => {}
            Some(Look::Keep(_)) => return true,
            Some(Look::Drop(_)) | None => return false,
        }
        if trial.since >= policy.anchor_every {
            anchors.push(trial.incumbent());
        }
        repeats.push(trial.candidate());
    }
}

/// Audits of a tip that is `effect` sigma better, as the first audit of a run.
fn audits(kind: &Kind, effect: f64, request: &Request, salt: u64) -> Audits {
    let policy = &request.policy;
    let most = audit_runs(policy) / 2;
    let level = online::level(1, 0, policy);
    let (mut certified, mut pairs, mut n) = (0u32, 0u32, 0u32);
    kind.windows(
        policy.baseline_repeats as usize,
        2 * most,
        request.draws,
        request.seed ^ salt,
        &mut |window| {
            let (pool, rest) = window.runs.split_at(window.calibration);
            let noise = Noise::pooled([pool]);
            n += 1;
            let mut differences = Vec::new();
            for (number, pair) in rest.chunks_exact(2).take(most).enumerate() {
                // ABBA: the arm that goes first alternates.
                let (tip, champion) = if number % 2 == 0 { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
                differences.push(champion - (tip - effect * window.sigma));
                if let Some(end) = audit::judge(&differences, noise, level, policy) {
                    certified += u32::from(end == AuditEnd::Certified);
                    break;
                }
            }
            pairs += differences.len() as u32;
        },
    );
    let part = |count: u32| f64::from(count) / f64::from(n.max(1));
    Audits { certified: part(certified), pairs: part(pairs), n }
}

/// Means over campaigns.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tip: f64,
    certified: f64,
    nulls_kept: f64,
    false_keeps: f64,
    false_certified: f64,
    extra_runs: f64,
    optimism: f64,
}

fn campaigns_of(request: &Request) -> u32 {
    (request.draws / 50).max(20)
}

/// This policy and the naive one on the same ideas and the same budget of executions.
fn compare(kind: &Kind, ideas: (Regime, Spread), request: &Request) -> [Tally; 2] {
    let naive = Preset::Naive.policy();
    let mut tallies = [Tally::default(); 2];
    for (tally, policy) in tallies.iter_mut().zip([&request.policy, &naive]) {
        let campaigns = campaigns_of(request);
        let (mut keeps, mut false_keeps, mut certified, mut false_certified) = (0u32, 0u32, 0u32, 0u32);
        let (mut nulls, mut nulls_kept) = (0u32, 0u32);
        for number in 0..campaigns {
            let seed = crate::session::split_mix(request.seed ^ 77, u64::from(number));
            let one = Campaign::play(ideas, kind, policy, seed);
            tally.tip += one.tip;
            tally.certified += one.certified;
            tally.optimism += one.optimism;
            tally.extra_runs += f64::from(one.runs) / f64::from(one.candidates.max(1)) - 1.0;
            nulls += one.nulls;
            nulls_kept += one.nulls_kept;
            keeps += one.keeps;
            false_keeps += one.false_keeps;
            certified += one.certifications;
            false_certified += one.false_certifications;
        }
        let all = f64::from(campaigns);
        tally.tip /= all;
        tally.certified /= all;
        tally.optimism /= all;
        tally.extra_runs /= all;
        tally.nulls_kept = f64::from(nulls_kept) / f64::from(nulls.max(1));
        tally.false_keeps = f64::from(false_keeps) / f64::from(keeps.max(1));
        tally.false_certified = f64::from(false_certified) / f64::from(certified.max(1));
    }
    tallies
}

#[cfg(test)]
mod tests;
