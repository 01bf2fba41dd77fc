//! Published measurements of the M4 family, as rows that rates are fitted to. All times are of the projects named, measured by
//! them; none of them was measured here.

use super::fit::Row;
use super::{Rates, Work};
use crate::config::Config;
use crate::recipe::{Host, Kernel, Node, Recipe, RecipeError, Step};

/// Work of a chain of convolutions over so many positions.
pub fn convolutions(channels: u64, positions: u64, depth: u64, io_bytes: u64) -> Work {
    let (channels, positions, depth) = (channels as f64, positions as f64, depth as f64);
    let weight = 2.0 * channels * channels;
    Work {
        convolutions: 2.0 * channels * channels * positions * depth,
        surfaces: 2.0 * channels * positions * io_bytes as f64,
        weight,
        largest: weight + 4.0 * channels * positions,
        ..Work::default()
    }
}

/// Work of a square product whose factors come in one input.
pub fn product(size: u64) -> Work {
    let square = (size * size) as f64;
    Work {
        products: 2.0 * square * size as f64,
        surfaces: 6.0 * square,
        largest: 6.0 * square,
        ..Work::default()
    }
}

fn kernels(nodes: &[Node]) -> impl Iterator<Item = &Kernel> {
    nodes.iter().filter_map(|node| match node {
        Node::Kernel(kernel) => Some(kernel),
        Node::Host(_) => None,
    })
}

/// Work of all programs of some nodes, each as often as there are layers.
pub fn layers(nodes: &[Node], layers: usize) -> Vec<(Work, f64)> {
    let functions = kernels(nodes).flat_map(|kernel| &kernel.graph.program.functions);
    functions.map(|function| (Work::of(function), layers as f64)).collect()
}

/// Sizes of the pipelines whose device times were published: tokens, layers, milliseconds forth and back.
///
/// Sources: ncdrone/autoresearch-ANE, `results/overnight_ane_nl6_s512_v3.log` (quiet machine), `results/overnight_s1024_v1.log`,
/// `viz/ane_probe_results.py`; all M4 Max.
pub const PIPELINES: [(usize, usize, f64, f64); 3] =
    [(256, 8, 10.4, 15.4), (512, 6, 16.1, 17.6), (1024, 6, 37.9, 40.8)];

/// All rows.
pub fn rows() -> Vec<Row> {
    let row = |name: String, work: Vec<(Work, f64)>, milliseconds: f64| Row {
        name,
        work,
        seconds: milliseconds / 1e3,
    };
    let mut rows = Vec::new();
    // maderix/ANE, issue 3 (M4 mini, `inmem_bench`): one convolution over 64 positions, fp32 in and out.
    for (channels, milliseconds) in
        [(256, 0.106), (512, 0.084), (1024, 0.116), (2048, 0.237), (3072, 0.421), (4096, 1.012)]
    {
        let work = convolutions(channels, 64, 1, 4);
        rows.push(row(format!("conv {channels} ch, 64 positions"), vec![(work, 1.0)], milliseconds));
    }
    // The same issue, `inmem_peak`: chains of convolutions.
    for (channels, depth, milliseconds) in [
        (512, 32, 0.160),
        (512, 48, 0.190),
        (512, 64, 0.223),
        (512, 96, 0.302),
        (512, 128, 0.366),
        (256, 64, 0.124),
        (256, 128, 0.153),
        (256, 256, 0.220),
        (384, 64, 0.163),
        (384, 128, 0.230),
    ] {
        let work = convolutions(channels, 64, depth, 4);
        rows.push(row(format!("{depth} conv {channels} ch, 64 positions"), vec![(work, 1.0)], milliseconds));
    }
    // README of maderix/ANE, M4: 64 x 64 positions.
    for (depth, milliseconds) in [(64, 7.5), (128, 14.8)] {
        let work = convolutions(512, 4096, depth, 2);
        rows.push(row(format!("{depth} conv 512 ch, 64 x 64"), vec![(work, 1.0)], milliseconds));
    }
    // The second article on maderix/ANE, M4: 5.7 and 4.0 TFLOP/s.
    for (size, rate) in [(2048, 5.7e12), (4096, 4.0e12)] {
        let work = product(size);
        rows.push(row(format!("product {size}"), vec![(work, 1.0)], work.products / rate * 1e3));
    }
    for (seq_len, n_layer, forth, back) in PIPELINES {
        let Ok(base) = Config::of("gpt_karpathy") else { continue };
        let config = Config { seq_len, n_layer, ..base };
        let Ok(recipe) = Recipe::published(&config) else { continue };
        let name = |way: &str| format!("pipeline {way}, {n_layer} layers, {seq_len} tokens");
        rows.push(row(name("forth"), layers(&recipe.forward, n_layer), forth));
        rows.push(row(name("back"), layers(&recipe.backward, n_layer), back));
    }
    rows
}

/// Seconds of the host's work of a step: rates of an M4 Max, each from one line of the logs of ncdrone/autoresearch-ANE (6 layers,
/// 512 tokens, 8192 ids). Lines that the quiet night does not tell are those of a busy one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostRates {
    /// Seconds a byte that is put into a surface or taken out of it: 3.7 ms forth and 7.0 back. Sums, scaling and moving heads
    /// are taken to run at the same rate, which nobody published.
    pub staging: f64,
    /// Seconds a number of SwiGLU's backward pass: 6.4 ms.
    pub swiglu: f64,
    /// Seconds a number of a norm forth and of one back: 1.9 and 6.1 ms (busy).
    pub norm: [f64; 2],
    /// Seconds a FLOP of the head and its loss: 25.9 ms.
    pub head: f64,
    /// Seconds a byte that is copied for weight gradients, which are added up beside the device: 12.1 ms (busy).
    pub copies: f64,
}

/// See [`HostRates`].
pub const M4_MAX_HOST: HostRates = HostRates {
    staging: 10.7e-3 / 287e6,
    swiglu: 6.4e-3 / 6.29e6,
    norm: [1.9e-3 / 5.1e6, 6.1e-3 / 5.1e6],
    head: 25.9e-3 / 19.3e9,
    copies: 12.1e-3 / 179e6,
};

/// What a step is predicted to take, in seconds, part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Programs forth and back.
    pub device: [f64; 2],
    /// Values into surfaces and out of them.
    pub staging: f64,
    /// Norms, SwiGLU's backward pass, sums, scaling, moving heads.
    pub elements: f64,
    /// Head and loss.
    pub head: f64,
    /// Copies for weight gradients.
    pub copies: f64,
}

impl StepTime {
    /// All together: the device and the host take turns.
    pub fn seconds(&self) -> f64 {
        self.device.iter().sum::<f64>() + self.staging + self.elements + self.head + self.copies
    }
}

/// Predicts a step of one sequence on a Mac whose host is an M4 Max.
///
/// # Errors
/// When the recipe does not fit the model.
pub fn step_time(
    recipe: &Recipe,
    config: &Config,
    rates: &Rates,
    host: &HostRates,
) -> Result<StepTime, RecipeError> {
    let mut time = StepTime::default();
    let mut staged = 0.0;
    for (way, device) in recipe.walk(config)?.iter().zip(&mut time.device) {
        for Step { node, reads, gives } in way {
            // Channels times tokens, over all layers.
            let numbers =
                |rows: &[usize]| (rows.iter().sum::<usize>() * config.seq_len * config.n_layer) as f64;
            match node {
                Node::Kernel(kernel) => {
                    let functions = &kernel.graph.program.functions;
                    let once: f64 = functions.iter().map(|function| rates.seconds(&Work::of(function))).sum();
                    *device += once * config.n_layer as f64;
                    staged += numbers(reads) + numbers(gives);
                }
                Node::Host(Host::Norm { .. }) => time.elements += host.norm[0] * numbers(gives),
                Node::Host(Host::NormBackward { .. }) => time.elements += host.norm[1] * numbers(gives),
                Node::Host(Host::SwigluBackward { .. }) => {
                    time.elements += host.swiglu * numbers(gives) / 2.0
                }
                Node::Host(Host::WeightGradient { .. }) => time.copies += host.copies * 4.0 * numbers(reads),
                Node::Host(
                    Host::Add { .. }
                    | Host::Scale { .. }
                    | Host::Repeat { .. }
                    | Host::Gather { .. }
                    | Host::TurnBack { .. },
                ) => time.elements += host.staging * 4.0 * (numbers(reads) + numbers(gives)),
            }
        }
    }
    // Halves.
    time.staging = host.staging * 2.0 * staged;
    time.head = host.head * 6.0 * (config.seq_len * config.d_model * config.vocab) as f64;
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::super::fit::{fit, left_out, median_error};
    use super::super::{FITTED, Warmth};
    use super::*;
    use crate::graphs::probes;

    #[test]
    fn formulas_are_the_work_of_the_programs() {
        let found = Work::of(&probes::convolutions(64, [1, 64], 3).unwrap().program.functions[0]);
        assert_eq!(found, convolutions(64, 64, 3, 2));
        let found = Work::of(&probes::product(64).unwrap().program.functions[0]);
        assert_eq!(found, product(64));
    }

    /// A convolution is fast by baked weights alone: weights that come along in the input get the rate of products, whatever the
    /// operation is called, and so does a product with a constant.
    #[test]
    fn only_baked_convolutions_get_their_rate() {
        use crate::mil::{Builder, Scalar};
        let work = |build: &dyn Fn(&mut Builder) -> crate::mil::Var| {
            let mut f = Builder::new();
            let y = build(&mut f);
            let work = Work::of(&f.finish(&[&y]).unwrap().functions[0]);
            (work.convolutions, work.products)
        };
        let flops = 2.0 * 32.0 * 32.0 * 64.0;
        let by_input = work(&|f| {
            let x = f.input("x", Scalar::Fp16, &[1, 32, 1, 96]);
            let act = f.range("act", &x, 3, 0, 64);
            let weight = f.range("part", &x, 3, 64, 32);
            let weight = f.reshape("weight", &weight, &[32, 32, 1, 1]);
            f.conv("y", &act, &weight, 1)
        });
        let baked = work(&|f| {
            let x = f.input("x", Scalar::Fp16, &[1, 32, 1, 64]);
            let weight = f.weight("w", Scalar::Fp16, &[32, 32, 1, 1], "w.bin", 64);
            f.conv("y", &x, &weight, 1)
        });
        let product = work(&|f| {
            let x = f.input("x", Scalar::Fp16, &[1, 1, 64, 32]);
            let weight = f.weight("w", Scalar::Fp16, &[1, 1, 32, 32], "w.bin", 64);
            f.matmul("y", &x, &weight, false, false)
        });
        assert_eq!((by_input, baked, product), ((0.0, flops), (flops, 0.0), (0.0, flops)));
    }

    /// The constants are what the fit gives, and the fit predicts what it never saw.
    #[test]
    fn rates_are_fitted_and_rows_left_out_are_predicted() {
        let rows = rows();
        let fitted = fit(&rows);
        let ratios = left_out(&rows);
        for (row, ratio) in rows.iter().zip(&ratios) {
            let fit = row.predicted(&fitted) / row.seconds;
            println!("{:44} {:8.3} ms  fitted {fit:.2}  left out {ratio:.2}", row.name, row.seconds * 1e3);
        }
        println!("{fitted:?}\nmedian left out {:.3}", median_error(&ratios));
        for (found, constant) in fitted.numbers().into_iter().zip(FITTED.numbers()) {
            assert!((found - constant).abs() <= 0.01 * constant + 1e-16, "{found:e} {constant:e}");
        }
        assert!(median_error(&ratios) < 0.25);
    }

    /// Published: 7.8 and 4.0 ms (README of maderix/ANE, M4); the gain over halves is theirs, the rest is not fitted to these.
    #[test]
    fn chains_in_bytes_are_predicted() {
        for (depth, milliseconds) in [(128, 7.8), (64, 4.0)] {
            let program = probes::bytes(512, [64, 64], depth).unwrap().program;
            let seconds = FITTED.seconds(&Work::of(&program.functions[0]));
            let ratio = seconds * 1e3 / milliseconds;
            println!(
                "{depth} convolutions in bytes: {:.2} ms, {ratio:.2} of what was published",
                seconds * 1e3
            );
            assert!((ratio - 1.0).abs() < 0.15, "{ratio}");
        }
    }

    #[test]
    fn published_steps_are_predicted() {
        let config = Config::of("gpt_karpathy").unwrap();
        let of = |config: &Config| {
            let recipe = Recipe::published(config).unwrap();
            step_time(&recipe, config, &FITTED, &M4_MAX_HOST).unwrap()
        };
        let time = of(&config);
        println!("{time:?} {:.1} ms", time.seconds() * 1e3);
        // 99.3 ms on a quiet M4 Max.
        assert!((time.seconds() * 1e3 / 99.3 - 1.0).abs() < 0.15, "{time:?}");
        // Not fitted: 8 layers of 256 tokens, 91.4 ms.
        let other = of(&Config { seq_len: 256, n_layer: 8, ..config.clone() });
        println!("{other:?} {:.1} ms of 91.4", other.seconds() * 1e3);
    }

    #[test]
    fn depth_and_fast_memory_turn_as_published() {
        // M4 Max, one series after the other from a pause: 0.408, 0.262, 0.244, 0.326, 0.385 ms.
        let mut warmth = Warmth::cold();
        let mut series = Vec::new();
        for depth in [32, 48, 64, 96, 128] {
            let warm = FITTED.seconds(&convolutions(512, 64, depth, 4));
            let all: f64 = (0..50).map(|_| warmth.take(warm)).sum();
            series.push(all / 50.0);
        }
        println!("{series:?}");
        let least = series.iter().copied().fold(f64::INFINITY, f64::min);
        let place = series.iter().position(|own| *own == least).unwrap();
        assert!((1..=3).contains(&place), "{series:?}");
        // Twice the time a FLOP beyond 32 MB.
        let rate = |channels: u64| {
            let work = convolutions(channels, 64, 1, 4);
            work.convolutions / FITTED.seconds(&work)
        };
        assert!(
            rate(3072) > rate(2048) && rate(4096) < rate(3072),
            "{} {} {}",
            rate(2048),
            rate(3072),
            rate(4096)
        );
        assert!(
            product(2048).products / FITTED.seconds(&product(2048))
                > product(4096).products / FITTED.seconds(&product(4096))
        );
    }
}
