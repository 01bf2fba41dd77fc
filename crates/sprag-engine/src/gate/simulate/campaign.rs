//! A whole search: ideas of known effect, judged one after the other until the executions are spent.

use serde::Serialize;

use super::noise::{Draws, Kind, Stream};
use crate::gate::audit;
use crate::gate::chain::{Chain, Plan};
use crate::gate::level::Level;
use crate::gate::tentative::{self, Evidence, Look};
use crate::gate::{Noise, online};
use crate::record::{AuditEnd, Direction, Policy, Preset};

/// Executions of a campaign.
pub const RUNS: u32 = 120;

/// How often ideas help, and how much. Of those that do not help, three in ten change nothing and the others
/// harm, by one sigma in the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// One in four helps, by 1.5 sigma.
    Rich,
    /// One in ten helps, by one sigma.
    Late,
    /// One in twenty helps, by 0.7 sigma.
    Plateau,
}

/// How the effects of helpful ideas are spread about the regime's figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// All alike.
    Equal,
    /// Exponentially: many small ones, few large ones, the same mean.
    Exponential,
}

impl Spread {
    /// In a word.
    pub fn words(self) -> &'static str {
        match self {
            Spread::Equal => "equal",
            Spread::Exponential => "exponential",
        }
    }
}

impl Regime {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Regime::Rich => "rich: 25 % help by 1.5",
            Regime::Late => "late: 10 % help by 1",
            Regime::Plateau => "plateau: 5 % help by 0.7",
        }
    }

    /// All of them.
    pub const ALL: [Regime; 3] = [Regime::Rich, Regime::Late, Regime::Plateau];

    fn idea(self, spread: Spread, draws: &mut Draws) -> f64 {
        let (helps, gain) = match self {
            Regime::Rich => (0.25, 1.5),
            Regime::Late => (0.10, 1.0),
            Regime::Plateau => (0.05, 0.7),
        };
        let (which, size) = (draws.uniform(), draws.exponential(1.0));
        if which < helps {
            gain * if spread == Spread::Equal { 1.0 } else { size }
        } else if which < helps + (1.0 - helps) * 0.3 {
            0.0
        } else {
            -size
        }
    }
}

/// How a campaign ended; gains are true ones, in sigma.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Played {
    /// The tip's gain over the baseline.
    pub tip: f64,
    /// The certified champion's.
    pub certified: f64,
    /// By how much what is reported of the tip is better than the tip is.
    pub optimism: f64,
    /// Executions.
    pub runs: u32,
    /// Ideas that were judged.
    pub candidates: u32,
    /// Keeps.
    pub keeps: u32,
    /// Keeps that do not help.
    pub false_keeps: u32,
    /// Certified champions.
    pub certifications: u32,
    /// Those that are no better than the one before.
    pub false_certifications: u32,
    /// Audits.
    pub audits: u32,
    /// Ideas that change nothing.
    pub nulls: u32,
    /// Those that were kept.
    pub nulls_kept: u32,
}

/// Code that was kept.
#[derive(Clone, Debug)]
struct Arm {
    /// True gain over the baseline.
    truth: f64,
    /// Gain over the arm it was made on.
    effect: f64,
    /// Its runs.
    runs: Vec<f64>,
    /// Those that did not select it.
    fair: Vec<f64>,
    /// Where the arm that it was made from stood.
    before: Option<Level>,
}

impl Arm {
    fn level(&self) -> Option<Level> {
        match self.before {
            Some(before) => Some(before.followed_by(&self.runs)),
            None => Level::of(&self.runs),
        }
    }
}

/// A search under way.
pub struct Campaign<'a> {
    policy: &'a Policy,
    stream: Stream,
    draws: Draws,
    ideas: (Regime, Spread),
    /// Runs that did not select their arm, of arms that were undone.
    gone: Vec<Vec<f64>>,
    champion: Arm,
    keeps: Vec<Arm>,
    again: Vec<f64>,
    chain: Chain,
    since: u32,
    best: f64,
    played: Played,
}

impl<'a> Campaign<'a> {
    /// Plays one to its end.
    pub fn play(ideas: (Regime, Spread), kind: &Kind, policy: &'a Policy, seed: u64) -> Played {
        let champion = Arm { truth: 0.0, effect: 0.0, runs: Vec::new(), fair: Vec::new(), before: None };
        let mut campaign = Campaign {
            policy,
            stream: Stream::new(kind, seed),
            draws: Draws::new(seed ^ 0x1DEA),
            ideas,
            gone: Vec::new(),
            champion,
            keeps: Vec::new(),
            again: Vec::new(),
            chain: Chain::default(),
            since: 0,
            best: f64::INFINITY,
            played: Played::default(),
        };
        let repeats = if policy.preset == Preset::Naive { 1 } else { policy.baseline_repeats };
        for _ in 0..repeats {
            campaign.anchor();
        }
        campaign.best = campaign.champion.runs[0];
        while campaign.played.runs < RUNS {
            campaign.candidate();
            campaign.audits();
        }
        campaign.end()
    }

    fn end(mut self) -> Played {
        let tip = self.tip().clone();
        let reported = if self.policy.preset == Preset::Naive {
            self.best
        } else {
            tip.level().map_or(-tip.truth, |level| level.mean)
        };
        self.played.tip = tip.truth;
        self.played.certified = self.champion.truth;
        self.played.optimism = -reported - tip.truth;
        self.played
    }

    fn tip(&self) -> &Arm {
        self.keeps.last().unwrap_or(&self.champion)
    }

    /// The noise of one run, pooled over every arm that was kept.
    fn noise(&self) -> Noise {
        let kept = self.keeps.iter().chain([&self.champion]).map(|arm| &arm.fair);
        Noise::pooled(kept.chain(&self.gone).map(Vec::as_slice))
    }

    fn run(&mut self, truth: f64) -> f64 {
        self.played.runs += 1;
        self.since += 1;
        self.stream.draw() - truth
    }

    /// One more run of the tip.
    fn anchor(&mut self) -> f64 {
        let score = self.run(self.tip().truth);
        self.since = 0;
        let tip = self.keeps.last_mut().unwrap_or(&mut self.champion);
        tip.runs.push(score);
        tip.fair.push(score);
        score
    }

    fn candidate(&mut self) {
        let effect = self.again.pop().unwrap_or_else(|| self.ideas.0.idea(self.ideas.1, &mut self.draws));
        let truth = self.tip().truth + effect;
        self.played.candidates += 1;
        self.played.nulls += u32::from(effect == 0.0);
        if self.policy.preset == Preset::Naive {
            let score = self.run(truth);
            if score < self.best {
                self.best = score;
                self.keep(Arm { truth, effect, runs: vec![score], fair: Vec::new(), before: None });
            }
            return;
        }
        if self.since >= self.policy.anchor_every {
            self.anchor();
        }
        let Some(incumbent) = self.tip().level() else { return };
        let noise = self.noise();
        let screening = self.run(truth);
        let (mut repeats, mut anchors) = (Vec::new(), Vec::new());
        loop {
            let evidence = Evidence { incumbent, noise, screening, repeats: &repeats, anchors: &anchors };
            match tentative::look(&evidence, Direction::Lower, self.policy) {
                Some(Look::More(_)) => {}
                Some(Look::Keep(_)) => {
                    let before = self.tip().level();
                    let runs = [&[screening][..], &repeats].concat();
                    self.keep(Arm { truth, effect, runs, fair: Vec::new(), before });
                    return;
                }
                Some(Look::Drop(_)) | None => return,
            }
            if self.since >= self.policy.anchor_every {
                let anchor = self.anchor();
                anchors.push(anchor);
            }
            repeats.push(self.run(truth));
        }
    }

    fn keep(&mut self, arm: Arm) {
        self.played.keeps += 1;
        self.played.false_keeps += u32::from(arm.effect <= 0.0);
        self.played.nulls_kept += u32::from(arm.effect == 0.0);
        self.keeps.push(arm);
    }

    fn audits(&mut self) {
        if self.policy.preset == Preset::Naive {
            return;
        }
        loop {
            match self.chain.plan(self.keeps.len() as u32, self.policy, false) {
                Plan::Wait => return,
                Plan::Audit(_) if self.played.runs >= RUNS => return,
                Plan::Audit(first) => {
                    let keeps = self.keeps.len() as u32;
                    let end = self.audit(first as usize);
                    self.chain.audited(first, keeps, end);
                }
                Plan::Undo => {
                    // The oldest adds nothing; those made on it are proposed again.
                    let undone: Vec<Arm> = self.keeps.drain(..).collect();
                    self.again.extend(undone.iter().skip(1).rev().map(|arm| arm.effect));
                    self.gone.extend(undone.into_iter().map(|arm| arm.fair));
                    self.chain = Chain::default();
                }
            }
        }
    }

    fn audit(&mut self, first: usize) -> AuditEnd {
        self.played.audits += 1;
        let level = online::level(self.played.audits, self.played.certifications, self.policy);
        let (tip, champion) = (self.keeps[first - 1].truth, self.champion.truth);
        let noise = self.noise();
        let mut pairs: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        let mut differences = Vec::new();
        let end = loop {
            // ABBA: the arm that goes first alternates.
            let pair = if differences.len() % 2 == 0 {
                [self.run(tip), self.run(champion)]
            } else {
                let champion = self.run(champion);
                [self.run(tip), champion]
            };
            pairs[0].push(pair[0]);
            pairs[1].push(pair[1]);
            differences.push(pair[1] - pair[0]);
            if let Some(end) = audit::judge(&differences, noise, level, self.policy) {
                break end;
            }
        };
        self.since = 0;
        let arm = &mut self.keeps[first - 1];
        arm.runs.extend(&pairs[0]);
        arm.fair.extend(&pairs[0]);
        self.champion.runs.extend(&pairs[1]);
        self.champion.fair.extend(&pairs[1]);
        if end == AuditEnd::Certified {
            self.played.certifications += 1;
            self.played.false_certifications += u32::from(tip <= champion);
            let mut certified: Vec<Arm> = self.keeps.drain(..first).collect();
            if let Some(champion) = certified.pop() {
                let last = std::mem::replace(&mut self.champion, champion);
                self.gone.extend(certified.into_iter().chain([last]).map(|arm| arm.fair));
            }
        }
        end
    }
}
