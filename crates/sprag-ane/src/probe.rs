//! What a device does: the floor of a dispatch, peaks, convolutions against products, chains by their depth, where fast memory
//! ends, bytes against halves, compile times, how wide surfaces may be. On the emulator the same programs run, and times are what
//! the cost model predicts.

use std::time::Instant;

use crate::graphs::{Graph, probes};
use crate::runtime::{Port, Runtime, RuntimeError, Spent};

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was tried: `conv`, `depth`, `product`, `bytes`, `floor`, `compile`, `width`.
    pub kind: &'static str,
    /// The size that was varied: channels, depth, or places.
    pub size: u64,
    /// Median, least and most in seconds; for `width` whether it compiled, as 1 or 0.
    pub seconds: [f64; 3],
    /// How often.
    pub goes: u32,
    /// Floating-point operations of one evaluation; 0 where that says nothing.
    pub flops: f64,
}

impl Figure {
    /// FLOP/s by the median.
    pub fn rate(&self) -> f64 {
        self.flops / self.seconds[0]
    }
}

/// All figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// What was asked.
    pub name: String,
    /// Whether times are predictions.
    pub predicted: bool,
    /// In the order in which they were taken.
    pub figures: Vec<Figure>,
}

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Small sizes, few goes.
    Quick,
    /// The sizes of the published probes, 50 goes.
    Normal,
}

/// Tries everything; says what comes next.
///
/// # Errors
/// When the runtime fails on something that it took.
pub fn probe(
    runtime: &dyn Runtime,
    effort: Effort,
    on_step: &mut dyn FnMut(&str),
) -> Result<Probed, RuntimeError> {
    let about = runtime.about();
    let quick = effort == Effort::Quick;
    let goes = if quick { 10 } else { 50 };
    let mut figures = Vec::new();
    let mut compiles = Vec::new();
    let mut take = |kind, size, flops, graph: Graph| -> Result<(), RuntimeError> {
        on_step(&format!("{kind} {size}"));
        let (compiled, figure) = measure(runtime, &graph, goes)?;
        compiles.push(compiled);
        figures.push(Figure { kind, size, seconds: figure, goes, flops });
        Ok(())
    };
    let conv = |channels: u64, places: u64, depth: u64| (2 * channels * channels * places * depth) as f64;
    // The chains come first: a device that rested is slower, and the published series shows it.
    for depth in [32, 48, 64, 96, 128] {
        let depth = if quick { depth / 8 } else { depth };
        take("depth", depth, conv(512, 64, depth), probes::convolutions(512, [1, 64], depth as u32)?)?;
    }
    take("floor", 32, 0.0, probes::convolutions(32, [1, 32], 1)?)?;
    let channels: &[u64] = if quick { &[256, 512, 1024] } else { &[256, 512, 1024, 2048, 3072, 4096] };
    for channels in channels {
        take("conv", *channels, conv(*channels, 64, 1), probes::convolutions(*channels, [1, 64], 1)?)?;
    }
    let sizes: &[u64] = if quick { &[256, 512] } else { &[256, 512, 1024, 2048] };
    for size in sizes {
        take("product", *size, 2.0 * (*size as f64).powi(3), probes::product(*size)?)?;
    }
    let (places, depth) = if quick { ([8, 32], 4) } else { ([16, 64], 16) };
    let flops = conv(512, places[0] * places[1], u64::from(depth));
    take("halves", 512, flops, probes::convolutions(512, places, depth)?)?;
    take("bytes", 512, flops, probes::bytes(512, places, depth)?)?;
    if !about.emulated {
        // How long the emulator takes to read a program says nothing of a compiler.
        figures.push(Figure {
            kind: "compile",
            size: 0,
            seconds: spread(&mut compiles),
            goes: compiles.len() as u32,
            flops: 0.0,
        });
    }
    for width in [16_384, 16_416, 65_536] {
        on_step(&format!("width {width}"));
        let graph = probes::convolutions(8, [1, width], 1)?;
        let taken = match runtime.compile(&runtime.dialect(&graph.program), &graph.weights) {
            Ok(_) => 1.0,
            Err(RuntimeError::Compile { .. } | RuntimeError::Load { .. }) => 0.0,
            Err(other) => return Err(other),
        };
        figures.push(Figure { kind: "width", size: width, seconds: [taken; 3], goes: 1, flops: 0.0 });
    }
    Ok(Probed { name: about.name, predicted: about.emulated, figures })
}

/// Median, least and most.
fn spread(all: &mut [f64]) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    match all {
        [] => [f64::NAN; 3],
        all => [all[all.len() / 2], all[0], all[all.len() - 1]],
    }
}

fn measure(runtime: &dyn Runtime, graph: &Graph, goes: u32) -> Result<(f64, [f64; 3]), RuntimeError> {
    let began = Instant::now();
    let kernel = runtime.compile(&runtime.dialect(&graph.program), &graph.weights)?;
    let compiled = began.elapsed().as_secs_f64();
    let surfaces = |ports: &[Port]| -> Result<Vec<_>, RuntimeError> {
        ports.iter().map(|port| runtime.surface(port.bytes())).collect()
    };
    let (inputs, outputs) = (surfaces(kernel.inputs())?, surfaces(kernel.outputs())?);
    for input in &inputs {
        // 0.5 in halves everywhere.
        input.write(&mut |bytes| {
            bytes.chunks_exact_mut(2).for_each(|pair| pair.copy_from_slice(&[0x00, 0x38]))
        })?;
    }
    let mut request = kernel.bind(&inputs, &outputs)?;
    let mut all = Vec::with_capacity(goes as usize);
    for _ in 0..goes {
        let (Spent::Measured(seconds) | Spent::Predicted(seconds)) = request.evaluate()?;
        all.push(seconds);
    }
    Ok((compiled, spread(&mut all)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::Emulator;
    use crate::profile::Profile;

    #[test]
    fn the_emulator_is_probed_and_says_that_it_predicts() {
        let emulator = Emulator::new(Profile::default());
        let mut steps = 0;
        let found = probe(&emulator, Effort::Quick, &mut |_| steps += 1).unwrap();
        assert!(found.predicted && found.name == "emulated M4" && steps > 10);
        let of = |kind: &str, size: u64| {
            found.figures.iter().find(|own| own.kind == kind && own.size == size).unwrap()
        };
        assert!(of("conv", 1024).seconds[0] > of("floor", 32).seconds[0]);
        // Bytes are faster where computing is what takes time, and rates are no hundred times too high.
        let (bytes, halves) = (of("bytes", 512), of("halves", 512));
        assert!(bytes.rate() < 40e12 && halves.rate() < 20e12, "{bytes:?} {halves:?}");
        assert!(found.figures.iter().all(|own| own.kind != "compile"));
        assert_eq!((of("width", 16_384).seconds[0], of("width", 16_416).seconds[0]), (1.0, 1.0));
        let m3 = Emulator::new(Profile::of("M3").unwrap());
        let found = probe(&m3, Effort::Quick, &mut |_| {}).unwrap();
        let width = found.figures.iter().find(|own| own.kind == "width" && own.size == 16_416).unwrap();
        assert_eq!(width.seconds[0], 0.0);
    }
}
