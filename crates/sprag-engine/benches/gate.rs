//! What the gate risks, finds, spends and gains, with each preset and each kind of noise:
//! `cargo bench -p sprag-engine --bench gate [-- RERUNS.csv]`.
//!
//! Seeded: the same figures come out everywhere. The bars that a balanced policy must keep stand beside them.

use sprag_engine::gate::simulate::{self, Figures, Kind, Request};
use sprag_engine::record::Preset;

/// Draws of each figure.
const DRAWS: u32 = 20_000;

fn main() {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut kinds =
        vec![(Kind::Gaussian, Vec::new()), (Kind::HeavyTailed, Vec::new()), (Kind::Drifting, Vec::new())];
    if let Some(path) = file {
        let text = std::fs::read_to_string(&path).expect("the file of re-runs can be read");
        let reruns = simulate::parse_reruns(&text).expect("its columns are as documented");
        let groups = simulate::groups_of(&reruns);
        let scores = groups.values().map(|group| group.iter().map(|rerun| rerun.val_bpb).collect()).collect();
        let rates = groups
            .values()
            .map(|group| group.iter().filter_map(|rerun| rerun.tokens_per_second).collect())
            .collect();
        kinds.push((Kind::Recorded(scores), rates));
    }
    for preset in [Preset::Balanced, Preset::Explore, Preset::Strict] {
        for (kind, rates) in &kinds {
            let request = Request { policy: preset.policy(), draws: DRAWS, seed: 1, rates: rates.clone() };
            say(preset, &simulate::study(kind, &request));
        }
    }
}

fn say(preset: Preset, figures: &Figures) {
    println!(
        "\n{preset}, {} noise ({} null candidates, {} null audits)",
        figures.noise, figures.candidates, figures.audits
    );
    let line = |what: &str, value: f64, bar: &str| println!("  {what:<52} {value:>8.4}   {bar}");
    line("certified false keep per audit", figures.certified_false_keep, "<= 0.01");
    line("tentative false keep per null candidate", figures.tentative_false_keep, "<= 0.10");
    line("power at 2 sigma", figures.power_2sigma, ">= 0.80");
    line("power at 3 sigma", figures.power_3sigma, ">= 0.97");
    line("power of an audit at 3 sigma", figures.audit_power_3sigma, "");
    line("runs per null candidate", figures.runs_per_null, "<= 1.9");
    line("pairs per null audit", figures.pairs_per_null_audit, "");
    line("optimism of the final value, in sigma", figures.optimism_sigma, "<= 0.3");
    line("  the same without statistics", figures.naive_optimism_sigma, "");
    line("planted 5 % dips found", figures.dips_found.unwrap_or(f64::NAN), ">= 0.95");
    line("  false alarms", figures.dip_false_alarms.unwrap_or(f64::NAN), "<= 0.01");
    println!(
        "  campaigns of {} runs: gain of the tip, certified, naive, ratio; extra runs; nulls kept",
        figures.campaigns[0].runs
    );
    for campaign in &figures.campaigns {
        println!(
            "    {:<26} {:<12} {:>6.2} {:>6.2} {:>6.2} {:>6}   {:>4.0} %  {:.3}   false keeps {:.2} (naive {:.2}), false certified {:.4}",
            campaign.regime.words(),
            campaign.spread.words(),
            campaign.tip_gain_sigma,
            campaign.certified_gain_sigma,
            campaign.naive_gain_sigma,
            campaign.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            campaign.extra_runs * 100.0,
            campaign.nulls_kept,
            campaign.false_keeps,
            campaign.naive_false_keeps,
            campaign.false_certified,
        );
    }
}
