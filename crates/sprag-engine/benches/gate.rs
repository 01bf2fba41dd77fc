//! What the gate risks, finds, spends and gains: `cargo bench -p sprag-engine --bench gate`.

use sprag_engine::gate::simulate::{self, Kind, Request};
use sprag_engine::record::Preset;

fn main() {
    for preset in [Preset::Explore, Preset::Balanced, Preset::Strict] {
        for kind in [Kind::Gaussian, Kind::HeavyTailed] {
            let request = Request { policy: preset.policy(), draws: 20_000, seed: 1 };
            let figures = simulate::study(&kind, &request);
            println!("{preset} {figures:#?}");
        }
    }
}
