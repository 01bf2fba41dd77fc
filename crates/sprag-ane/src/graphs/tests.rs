use super::*;
use crate::emulator::Emulator;
use crate::mil::lint_for;
use crate::profile::Profile;
use crate::runtime::Runtime;

/// Random numbers around zero, always the same.
fn numbers(count: usize, scale: f32, seed: u64) -> Vec<f32> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 40) as f32 / (1 << 24) as f32 - 0.5) * 2.0 * scale
        })
        .collect()
}

/// Compiles on a chip, evaluates once with small random numbers, and gives what came out.
fn run(graph: &Graph, chip: &str) -> Vec<f32> {
    let emulator = Emulator::new(Profile::of(chip).unwrap());
    let kernel = emulator
        .compile(&graph.program, &graph.weights)
        .unwrap_or_else(|error| panic!("{}: {error}", graph.name));
    let surfaces = |ports: &[crate::runtime::Port]| -> Vec<_> {
        ports.iter().map(|port| emulator.surface(port.bytes()).unwrap()).collect()
    };
    let (inputs, outputs) = (surfaces(kernel.inputs()), surfaces(kernel.outputs()));
    for (port, surface) in kernel.inputs().iter().zip(&inputs) {
        let single = port.ty.scalar() == Scalar::Fp32;
        let all = numbers(port.ty.count().unwrap() as usize, 0.5, 3);
        surface
            .write(&mut |bytes| {
                let width = if single { 4 } else { 2 };
                for (bytes, number) in bytes.chunks_exact_mut(width).zip(&all) {
                    match single {
                        true => bytes.copy_from_slice(&number.to_le_bytes()),
                        false => bytes.copy_from_slice(&f16::from_f32(*number).to_le_bytes()),
                    }
                }
            })
            .unwrap();
    }
    kernel.bind(&inputs, &outputs).unwrap().evaluate().unwrap();
    let mut found = Vec::new();
    let port = &kernel.outputs()[0];
    outputs[0]
        .read(&mut |bytes| {
            found = match port.ty.scalar() {
                Scalar::Fp32 => {
                    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
                }
                _ => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            };
        })
        .unwrap();
    found
}

fn static_graphs(config: &Config) -> Vec<Graph> {
    let (d, h) = (config.d_model, config.d_hidden);
    let square = numbers(d * d, 0.1, 1);
    let wide = numbers(d * h, 0.1, 2);
    let gain = vec![1.0; d];
    let weights = fixed::LayerWeights {
        attention: [&square, &square, &square, &square],
        mlp: [&wide, &wide, &wide],
        norms: [&gain, &gain],
    };
    fixed::all(config, &weights, &numbers(config.vocab * d, 0.1, 4)).unwrap()
}

/// A model without shared heads whose attention is as wide as its stream, as the static programs are.
fn plain() -> Config {
    Config { n_kv_head: 4, ..Config::of("tiny").unwrap() }
}

fn small_programs() -> Vec<Graph> {
    let tiny = Config::of("tiny").unwrap();
    let mut all = Vec::new();
    for rotary in [Rotary::Join, Rotary::Permute] {
        let graphs = Graphs::new(&tiny, rotary);
        all.extend(graphs.published().unwrap());
        all.push(graphs.attention(false).unwrap());
        all.push(graphs.attention_output().unwrap());
        all.push(graphs.mlp().unwrap());
        all.push(graphs.projections_backward().unwrap());
    }
    all.extend(static_graphs(&plain()));
    all.extend(probes::all().unwrap());
    all
}

#[test]
fn every_program_reads_back_passes_the_checks_for_m4_and_runs() {
    for graph in small_programs() {
        let text = graph.program.to_string();
        assert_eq!(Program::parse(&text).unwrap(), graph.program, "{}", graph.name);
        let dense: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(Program::parse(&dense).unwrap().to_string(), text, "{}", graph.name);
        let findings = lint_for(&graph.program, &Profile::default());
        // The mask of the attention layer is what that probe is about.
        let unexpected: Vec<_> = findings.iter().filter(|finding| finding.rule.id != "R06").collect();
        assert!(unexpected.is_empty(), "{}: {unexpected:?}", graph.name);
        let found = run(&graph, "M4");
        assert!(found.iter().all(|number| number.is_finite()), "{}", graph.name);
        assert!(found.iter().any(|number| *number != 0.0), "{}", graph.name);
    }
}

/// All programs of all published configurations: too large to run here, small enough to be checked.
#[test]
fn programs_of_published_sizes_are_checked_and_have_the_published_surfaces() {
    // Channels and places of input and output, as the sizes published by maderix/ANE give them.
    let expected = [
        ("gpt_karpathy", "sdpaFwd", [768, 2816, 3840, 512]),
        ("gpt_karpathy", "ffnFused", [768, 7168, 6912, 512]),
        ("gpt_karpathy", "sdpaBwd1", [3072, 512, 6912, 512]),
        ("gpt_karpathy", "sdpaBwd2", [7680, 512, 1536, 512]),
        ("gpt_autoresearch", "ffnBwdW13t", [2048, 2048, 768, 256]),
        ("stories110m", "sdpaBwd1", [3072, 256, 6912, 256]),
        ("qwen3_06b", "sdpaFwd", [1024, 4352, 7168, 256]),
        ("qwen3_06b", "ffnFused", [1024, 9728, 10_240, 256]),
        ("qwen3_06b", "woFwd", [2048, 1280, 1024, 256]),
        ("qwen3_06b", "kvBwd", [1024, 2560, 1024, 256]),
    ];
    for name in ["gpt_karpathy", "gpt_autoresearch", "stories110m", "qwen3_06b"] {
        let config = Config::of(name).unwrap();
        let all = Graphs::new(&config, Rotary::Join).published().unwrap();
        assert_eq!(all.len(), 10);
        for graph in &all {
            assert!(lint_for(&graph.program, &Profile::default()).is_empty(), "{name} {}", graph.name);
            let function = &graph.program.functions[0];
            let x = function.inputs[0].0.shape();
            let y = function.body.last().unwrap().ty.shape();
            let found = [x[1], x[3], y[1], y[3]];
            for (_, _, sizes) in
                expected.iter().filter(|(config, kernel, _)| *config == name && *kernel == graph.name)
            {
                assert_eq!(found, *sizes, "{name} {}", graph.name);
            }
        }
    }
}

#[test]
fn the_same_sizes_make_the_same_program() {
    let config = Config::of("gpt_karpathy").unwrap();
    let graphs = Graphs::new(&config, Rotary::Join);
    let of = |name: &str| graphs.linear(name, 768, 768).unwrap().program;
    assert_eq!(of("woFwd"), of("qBwd"));
}

#[test]
fn both_ways_of_turning_agree() {
    let tiny = Config::of("tiny").unwrap();
    let [joined, permuted] = [Rotary::Join, Rotary::Permute]
        .map(|rotary| run(&Graphs::new(&tiny, rotary).attention(false).unwrap(), "M4"));
    assert_eq!(joined, permuted);
    // An M3 refuses joins along the last axis, and takes the other.
    let emulator = Emulator::new(Profile::of("M3").unwrap());
    let refused = Graphs::new(&tiny, Rotary::Join).attention(false).unwrap();
    let error = emulator.compile(&refused.program, &refused.weights).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("R31"), "{error}");
    run(&Graphs::new(&tiny, Rotary::Permute).attention(false).unwrap(), "M3");
}

#[test]
fn the_device_ignores_the_mask_of_its_attention_layer() {
    let [with, without] =
        [true, false].map(|masked| run(&probes::attention(2, 32, 32, masked).unwrap(), "M4"));
    assert_eq!(with, without);
    let honoured = run(&probes::attention(2, 32, 32, true).unwrap(), "M4-e5rt");
    assert_ne!(honoured, without);
}

/// A query head reads the key head that it shares with its neighbours, as the backward pass and the public models have it; the
/// published generator joined whole blocks, so that head h read head h mod kv_heads.
#[test]
fn shared_heads_belong_to_neighbouring_queries() {
    let config = Config { n_head: 4, n_kv_head: 2, head_dim: 16, d_model: 64, ..Config::of("tiny").unwrap() };
    let graph = Graphs::new(&config, Rotary::Join).attention(false).unwrap();
    let join = graph.program.functions[0].body.iter().find(|one| one.result == "k_all").unwrap();
    let parts = match &join.arguments.iter().find(|(name, _)| name == "values").unwrap().1 {
        crate::mil::Argument::Names(parts) => parts.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(parts, ["k_head0", "k_head0", "k_head1", "k_head1"]);
}

/// The int8 probe computes what it should: the same chain in halves, but for the rounding of activations to bytes. (The published
/// one wrote files that a reader refuses, and never looked at its numbers.)
#[test]
fn bytes_compute_what_halves_compute() {
    let (bytes, halves) =
        (probes::bytes(32, [8, 32], 1).unwrap(), probes::convolutions(32, [8, 32], 1).unwrap());
    let (bytes, halves) = (run(&bytes, "M4"), run(&halves, "M4"));
    let norm = |all: &[f32]| all.iter().map(|own| f64::from(*own).powi(2)).sum::<f64>().sqrt();
    let apart: Vec<f32> = bytes.iter().zip(&halves).map(|(a, b)| a - b).collect();
    // A step of 1/32 on numbers up to a half is an error of about 3 %.
    let apart = norm(&apart) / norm(&halves);
    assert!(apart > 1e-4 && apart < 0.05, "{apart}");
}

/// Nothing is given out that nobody reads, and programs of the same text are compiled once and outlive each other.
#[test]
fn equal_programs_are_one_and_outlive_each_other() {
    let config = Config { n_kv_head: 4, ..Config::of("tiny").unwrap() };
    let emulator = Emulator::new(Profile::default());
    let graphs = Graphs::new(&config, Rotary::Join);
    let [d, q] = [config.d_model as u64, config.q_dim() as u64];
    let first = graphs.linear("woFwd", q, d).unwrap();
    let kept = emulator.compile(&first.program, &first.weights).unwrap();
    for graph in [graphs.linear("qBwd", q, d).unwrap(), graphs.linear("wotBwd", d, q).unwrap()] {
        drop(emulator.compile(&graph.program, &graph.weights).unwrap());
    }
    assert_eq!(emulator.budget().spent, 1);
    let surface = |bytes| emulator.surface(bytes).unwrap();
    let (input, output) = (surface(kept.inputs()[0].bytes()), surface(kept.outputs()[0].bytes()));
    assert!(kept.bind(&[input], &[output]).unwrap().evaluate().is_ok());
    let plain = graphs.attention(false).unwrap().program;
    let published = graphs.attention(true).unwrap().program;
    let channels = |program: &Program| program.functions[0].body.last().unwrap().ty.shape()[1];
    assert_eq!(channels(&published) - channels(&plain), d);
}
