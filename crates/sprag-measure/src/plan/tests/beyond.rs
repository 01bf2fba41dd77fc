//! Beyond one sequence on one machine: experts shared by a batch, drafts, training, clusters, sweeps.

use super::*;

fn job<'a>(model: &'a Architecture, quant: &str, context: u64) -> Job<'a> {
    Job { model, quant: find_quant(quant).unwrap(), exact: None, context, batch: 1, cache_bytes: 2.0 }
}

#[test]
fn a_batch_reads_more_experts_than_one_token_and_never_more_than_there_are() {
    let model = shipped("Qwen3-30B-A3B");
    assert_eq!(model.read_params(1.0).round() as u64, model.active_params());
    let mut before = 0.0;
    for tokens in [1.0, 2.0, 8.0, 64.0, 4096.0] {
        let read = model.read_params(tokens);
        assert!(read > before, "{tokens}");
        before = read;
    }
    let all = (model.params() - model.vocab * model.d_model) as f64;
    assert!(near(before, all, 1e-6), "{before} of {all}");
    // 128 experts, 8 for a token: two tokens want 128 x (1 - (120/128)^2) = 15.5 of them.
    let an_expert = 3.0 * 2048.0 * 768.0 * 48.0;
    let more = (model.read_params(2.0) - model.read_params(1.0)) / an_expert;
    assert!((more - 7.5).abs() < 1e-6, "{more}");
    let dense = shipped("Llama-3-8B");
    assert_eq!(dense.read_params(1.0), dense.read_params(100.0));
}

#[test]
fn a_prompt_needs_the_output_matrix_once() {
    let model = shipped("Llama-3.2-1B");
    let output = 2.0 * 128_256.0 * 2048.0;
    // Of one token all is needed; of many the output matrix is spread over them.
    assert_eq!(model.prompt_flop_a_token(1), model.flop_a_token(0));
    let long = model.prompt_flop_a_token(4096);
    assert!((long - (model.flop_a_token(2048) - output + output / 4096.0)).abs() < 1.0, "{long}");
}

#[test]
fn drafts_follow_the_published_formula() {
    // Leviathan et al. 2023, equation 1, by hand: 1 + 0.8 + 0.64 + 0.512 + 0.4096.
    assert!((tokens_a_round(0.8, 4) - 3.3616).abs() < 1e-12);
    assert_eq!((tokens_a_round(1.0, 4), tokens_a_round(0.0, 4)), (5.0, 1.0));
    let (large, small) = (shipped("Llama-3-70B"), shipped("Llama-3.2-1B"));
    let device = find_device("M4 Max 40-core").unwrap();
    let plain = estimate(&job(&large, "Q4_K_M", 1024), &device).decode;
    let mut before = 0.0;
    for acceptance in [0.0, 0.3, 0.6, 0.9, 1.0] {
        let draft = Draft { job: job(&small, "Q4_K_M", 1024), tokens: 4, acceptance };
        let found = speculate(&job(&large, "Q4_K_M", 1024), &draft, &device);
        assert!(found.expected > before && found.expected <= found.ceiling, "{found:?}");
        assert!(near(found.gain, found.expected / plain.expected, 1e-9));
        before = found.expected;
    }
    // Nothing accepted: slower than without.
    let draft = Draft { job: job(&small, "Q4_K_M", 1024), tokens: 4, acceptance: 0.0 };
    assert!(speculate(&job(&large, "Q4_K_M", 1024), &draft, &device).gain < 1.0);
}

#[test]
fn training_is_counted_as_the_papers_count_it() {
    let model = shipped("Llama-3-8B");
    let training = Training {
        model: &model,
        precision: Precision::Bf16,
        optimiser: Optimiser::AdamW,
        seq_len: 2048,
        batch: 1,
        grad_accum: 4,
        recompute: true,
        seconds: 300.0,
    };
    let device = find_device("H100 SXM").unwrap();
    let plan = train(&training, &device);
    // 16 bytes a parameter.
    assert!(near(plan.bytes[0].value + plan.bytes[1].value, 16.0 * 8.030e9, 0.001));
    // 6 x 7.505e9 + 3 x 32 layers x 4 x 4096 x 1024.
    assert!(near(plan.flop_a_token, 6.0 * 7.505e9 + 3.0 * 32.0 * 4.0 * 4096.0 * 1024.0, 0.001));
    assert_eq!(plan.tokens_a_step, 8192);
    assert!(!plan.fit.fits());
    let [low, usual, high, ceiling] = plan.tokens_per_second.unwrap();
    assert!(low < usual && usual < high && high < ceiling);
    assert!(near(ceiling, 989e12 / plan.flop_a_token, 1e-12));
    assert!(near(plan.steps.unwrap()[1], usual * 300.0 / 8192.0, 1e-12));
    let kept = train(&Training { recompute: false, ..training.clone() }, &device);
    assert!(kept.bytes[2].value > 5.0 * plan.bytes[2].value);
    // 32 layers x (4 x 4096 + 2 x 4096 + 2 x 1024 + 3 x 14336) numbers x 2 bytes x 2048 tokens.
    let numbers = 32.0 * (6.0 * 4096.0 + 2048.0 + 43_008.0);
    assert_eq!(kept.bytes[2].value, numbers * 2.0 * 2048.0);
}

fn plan(model: &Architecture, nodes: &[&str], link: &str, split: Split, prompt: u64) -> ClusterPlan {
    let nodes: Vec<Device> = nodes.iter().map(|name| find_device(name).unwrap()).collect();
    cluster(&job(model, "Q4_K_M", prompt), &nodes, &find_link(link).unwrap(), split).unwrap()
}

#[test]
fn closed_forms_are_what_a_simulation_plays() {
    let close = |timed: Timed| near(timed.closed, timed.played, 1e-9);
    for model in models() {
        let model = &model.architecture;
        for link in ["rdma", "tcp", "10gbe", "0.01:5000"] {
            for prompt in [1, 700, 8192] {
                for nodes in [&["H100 SXM", "RTX 4090"][..], &["M3 Ultra"; 4], &["M1", "RTX 3090", "H200"]] {
                    let found = plan(model, nodes, link, Split::Pipeline, prompt);
                    assert!(close(found.token), "{} {link} {found:?}", model.name);
                    assert!(found.prompt.is_none_or(close), "{} {link} {prompt} {found:?}", model.name);
                    assert_eq!(found.layers.iter().sum::<usize>(), model.blocks.len());
                }
                let nodes = ["DGX Spark", "M3 Ultra"];
                let found = plan(model, &nodes, link, Split::PrefillDecode, prompt);
                assert!(found.prompt.is_some_and(close), "{} {link} {prompt} {found:?}", model.name);
                if model.cannot_be_split(2).is_empty() {
                    let found = plan(model, &["H100 SXM", "RTX 4090"], link, Split::Tensor, prompt);
                    assert!(
                        close(found.token) && found.prompt.is_none_or(close),
                        "{} {link} {found:?}",
                        model.name
                    );
                }
            }
        }
    }
}

#[test]
fn two_machines_in_a_row_are_the_simulation_for_any_times() {
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 40) as f64 / 1e6
    };
    for length in 0..40 {
        let first: Vec<f64> = (0..length).map(|_| next()).collect();
        let second: Vec<f64> = (0..length).map(|_| if next() < 4.0 { 0.0 } else { next() }).collect();
        let mut tasks = Vec::new();
        for (one, two) in first.iter().zip(&second) {
            tasks.push(Task { resource: 0, seconds: *one, after: Vec::new() });
            tasks.push(Task { resource: 1, seconds: *two, after: vec![(tasks.len() - 1, 0.0)] });
        }
        let played = simulate(&tasks).into_iter().fold(0.0, f64::max);
        assert!((two_in_a_row(&first, &second) - played).abs() < 1e-9, "{first:?} {second:?}");
    }
}

#[test]
fn a_slower_link_is_never_better_and_heads_must_divide() {
    let model = shipped("Qwen3-235B-A22B");
    for split in [Split::Pipeline, Split::Tensor] {
        let fast = plan(&model, &["M3 Ultra"; 4], "rdma", split, 4096);
        let slow = plan(&model, &["M3 Ultra"; 4], "tcp", split, 4096);
        assert!(fast.token.closed < slow.token.closed);
    }
    // Two reductions in each of 94 layers, 300 us each: at least 56 ms.
    assert!(plan(&model, &["M3 Ultra"; 4], "tcp", Split::Tensor, 1).token.closed > 0.0564);
    let nodes: Vec<Device> = vec![find_device("M3 Ultra").unwrap(); 3];
    let link = find_link("rdma").unwrap();
    let error = cluster(&job(&model, "Q4_K_M", 1), &nodes, &link, Split::Tensor).unwrap_err().to_string();
    assert!(error.contains("64 heads of queries do not divide by 3"), "{error}");
    assert!(cluster(&job(&model, "Q4_K_M", 1), &nodes[..1], &link, Split::Pipeline).is_err());
    assert!(cluster(&job(&model, "Q4_K_M", 1), &nodes, &link, Split::PrefillDecode).is_err());
    // Four heads of keys and values on eight nodes are held twice; a latent on every node.
    assert_eq!(model.context_share(8), 0.25);
    assert_eq!(shipped("DeepSeek-V3").context_share(8), 1.0);
}

#[test]
fn the_break_even_is_where_the_split_begins_to_win() {
    let model = shipped("Llama-3.1-8B");
    let nodes: Vec<Device> =
        ["DGX Spark", "M3 Ultra"].iter().map(|name| find_device(name).unwrap()).collect();
    let (link, job) = (find_link("10gbe").unwrap(), job(&model, "F16", 1));
    let prompt = break_even(&job, &nodes, &link, Split::PrefillDecode, 32, 1 << 20).unwrap().unwrap();
    let wins = |prompt: u64| {
        let plan =
            cluster(&Job { context: prompt, ..job.clone() }, &nodes, &link, Split::PrefillDecode).unwrap();
        plan.answer(32).unwrap()
            < plan.alone.iter().map(|one| one.answer(32).unwrap()).fold(f64::INFINITY, f64::min)
    };
    assert!(prompt > 1 && wins(prompt) && !wins(prompt - 1), "{prompt}");
    let hopeless = find_link("0.0001:1000000").unwrap();
    assert_eq!(break_even(&job, &nodes, &hopeless, Split::PrefillDecode, 32, 1 << 16).unwrap(), None);
}

#[test]
fn a_sweep_finds_who_is_best_at_each_size() {
    let devices: Vec<Device> =
        ["RTX 5090", "M4 Max 40-core", "M3 Ultra"].iter().map(|name| find_device(name).unwrap()).collect();
    let workload =
        Workload { quant: find_quant("Q4_K_M").unwrap(), prompt: 1024, answer: 256, cache_bytes: 2.0 };
    let (rows, changes) = sweep(&devices, &workload);
    assert!(rows.len() > 100 && rows.windows(2).all(|pair| pair[0].params < pair[1].params));
    for at in 0..devices.len() {
        // Once it does not fit, it never fits again; it gets slower with size.
        assert!(rows.windows(2).all(|pair| pair[0].points[at].fits || !pair[1].points[at].fits));
        assert!(rows.windows(2).all(|pair| pair[0].points[at].seconds < pair[1].points[at].seconds));
    }
    // The card is fastest as long as its 32 GB last; at the end nothing fits.
    let first = &changes[0];
    assert_eq!((first.from, first.because_of_memory), (Some(0), true), "{changes:?}");
    assert!(first.between.0 > 30_000_000_000 && first.between.1 < 60_000_000_000, "{changes:?}");
    assert_eq!(changes.last().unwrap().to, None);
}

#[test]
fn dense_models_of_that_shape_are_about_as_large_as_the_llamas() {
    assert!(near(Architecture::dense(32).params() as f64, 8.03e9, 0.03));
    assert!(Architecture::dense(80).is_plausible());
}
