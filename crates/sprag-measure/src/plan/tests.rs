use super::*;

mod beyond;
mod readers;

fn shipped(name: &str) -> Architecture {
    find_model(name).unwrap_or_else(|| panic!("{name}")).architecture
}

fn near(value: f64, expected: f64, part: f64) -> bool {
    (value / expected - 1.0).abs() <= part
}

/// Counts that model cards and safetensors indices on Hugging Face tell, in thousand millions.
#[test]
fn parameters_are_those_that_are_published() {
    for (name, billions) in [
        ("Llama-3-8B", 8.030),
        ("Llama-3-70B", 70.554),
        ("Llama-3.1-405B", 405.853),
        ("Llama-3.2-1B", 1.236),
        ("Llama-3.2-3B", 3.213),
        ("Llama-2-7B", 6.738),
        ("Qwen3-8B", 8.191),
        ("Qwen3-32B", 32.762),
        ("Qwen3-30B-A3B", 30.532),
        ("Qwen3-235B-A22B", 235.094),
        ("DeepSeek-V3", 671.026),
        ("gpt-oss-20b", 20.9),
        ("gpt-oss-120b", 116.8),
        ("Qwen3.5-9B", 8.95),
        ("Qwen3.5-27B", 26.9),
        ("Qwen3.5-35B-A3B", 34.66),
        ("Qwen3.5-122B-A10B", 122.11),
        ("Qwen3.5-397B-A17B", 396.35),
        ("Qwen3-Next-80B-A3B", 79.67),
    ] {
        let params = shipped(name).params() as f64 / 1e9;
        assert!(near(params, billions, 0.002), "{name}: {params} instead of {billions}");
    }
}

#[test]
fn active_parameters_caches_and_states_are_counted_by_hand() {
    for (name, active, cache, recurrent_and_inputs) in [
        ("Qwen3.5-9B", 7.94, 32_768.0, 50.3 + 1.18),
        ("Qwen3.5-27B", 25.62, 65_536.0, 151.0 + 2.95),
        ("Qwen3.5-397B-A17B", 16.33, 30_720.0, 188.7 + 3.32),
        ("Qwen3-Next-80B-A3B", 3.56, 24_576.0, 75.5 + 1.77),
    ] {
        let model = shipped(name);
        assert!(near(model.active_params() as f64 / 1e9, active, 0.005), "{name}: {}", model.active_params());
        assert_eq!(model.cache_bytes(1, 2.0), cache, "{name}");
        assert!(
            near(model.state_bytes() / 1e6, recurrent_and_inputs, 0.01),
            "{name}: {}",
            model.state_bytes()
        );
    }
    // 2 x 32 layers x 8 heads x 128 x 2 bytes.
    assert_eq!(shipped("Llama-3-8B").cache_bytes(1000, 2.0), 131_072_000.0);
    // (512 + 64) x 61 layers x 2 bytes.
    assert_eq!(shipped("DeepSeek-V3").cache_bytes(1, 2.0), 70_272.0);
    // Half of the layers stop growing at 128 positions.
    let windowed = shipped("gpt-oss-20b");
    assert_eq!(
        windowed.cache_bytes(1128, 2.0) - windowed.cache_bytes(128, 2.0),
        1000.0 * 12.0 * 2.0 * 8.0 * 64.0 * 2.0
    );
}

#[test]
fn nothing_beats_its_ceiling_and_bytes_grow_with_context_and_batch() {
    for model in models() {
        for device in devices() {
            let mut before = 0.0;
            for context in [1, 1024, 8192, 131_072] {
                for batch in [1, 8] {
                    let quant = find_quant("Q4_K_M").unwrap();
                    let job = Job {
                        model: &model.architecture,
                        quant,
                        exact: None,
                        context,
                        batch,
                        cache_bytes: 2.0,
                    };
                    let plan = estimate(&job, device);
                    let Rates { ceiling, expected, low, high } = plan.decode;
                    assert!(0.0 < low && low <= expected && expected <= high && high <= ceiling, "{plan:?}");
                    if let Some(prefill) = plan.prefill {
                        assert!(prefill.expected <= prefill.ceiling && prefill.high <= prefill.ceiling);
                    }
                    assert!(plan.fit.needed > 0.0 && plan.fit.needed.is_finite());
                    if batch == 1 {
                        assert!(plan.fit.needed > before, "{}", model.architecture.name);
                        before = plan.fit.needed;
                    }
                    assert_eq!(plan.remedies.is_empty(), plan.fit.fits(), "{plan:?}");
                }
            }
        }
    }
}

#[test]
fn fits_is_monotone_in_memory_and_remedies_do_fit() {
    let model = shipped("Llama-3-70B");
    let quant = find_quant("Q4_K_M").unwrap();
    let job = Job { model: &model, quant, exact: None, context: 131_072, batch: 1, cache_bytes: 2.0 };
    let mut device = find_device("RTX 4090").unwrap();
    let mut fitted = false;
    for giga in [8.0, 24.0, 48.0, 80.0, 96.0, 141.0] {
        device.memory_bytes = vec![giga * 1e9];
        let plan = estimate(&job, &device);
        assert!(plan.fit.fits() || !fitted, "{giga}");
        fitted = plan.fit.fits();
    }
    device.memory_bytes = vec![64e9];
    let plan = estimate(&job, &device);
    let context: u64 = plan.remedies[0].split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(estimate(&Job { context, ..job.clone() }, &device).fit.fits(), "{:?}", plan.remedies);
    assert!(!estimate(&Job { context: context + 2, ..job.clone() }, &device).fit.fits());
}

#[test]
fn devices_are_found_by_their_words_and_projections_are_marked() {
    assert_eq!(find_device("rtx 4090").unwrap().name, "RTX 4090");
    assert_eq!(find_device("M4 Max 40-core").unwrap().bytes_per_second, 546e9);
    assert_eq!(find_device("m4 max").unwrap_err().len(), 2);
    assert!(find_device("abacus").unwrap_err().is_empty());
    assert!(find_device("M5 Ultra").unwrap().is_projected());
    let projected: Vec<&str> =
        devices().iter().filter(|device| device.is_projected()).map(|device| device.name.as_str()).collect();
    assert_eq!(projected, ["M5 Ultra"]);
}

const HEADER: [&str; 10] = [
    "device",
    "device_class",
    "nodes",
    "mem_bw_GBps",
    "model",
    "quant",
    "active_bytes_per_token_GB",
    "kv_bytes_per_ctx_token",
    "context",
    "tg_tps",
];

/// Rows of devices that obey one law, with a little noise.
fn published(noise: f64) -> Vec<(usize, Vec<String>)> {
    let truth = Efficiency { share: 0.8, layer_seconds: 80e-6, ..efficiency_of(DeviceClass::NvidiaCuda) };
    let mut rows = Vec::new();
    for (number, bandwidth) in [300.0, 450.0, 600.0, 750.0, 900.0, 1000.0].into_iter().enumerate() {
        for (model, gigabytes, layers) in
            [("Llama-3-8B", 4.64, 32.0), ("Llama-3-8B", 15.0, 32.0), ("Llama-3-70B", 41.8, 80.0)]
        {
            let load = Load {
                bytes: gigabytes * 1e9,
                bytes_per_second: bandwidth * 1e9,
                flop_per_second: None,
                packed_weights: 0.0,
                positions: 0.0,
                layers,
                nodes: 1.0,
            };
            let sign = if rows.len() % 2 == 0 { noise } else { -noise };
            let measured = truth.decode(load) * (1.0 + sign);
            let cells = [
                format!("card {number}"),
                "nvidia-cuda".into(),
                "1".into(),
                bandwidth.to_string(),
                model.into(),
                "Q4".into(),
                gigabytes.to_string(),
                "0".into(),
                "1024 gen".into(),
                measured.to_string(),
            ];
            rows.push((rows.len() + 2, cells.to_vec()));
        }
    }
    rows
}

#[test]
fn a_grade_learns_the_law_of_other_devices_and_never_the_device_itself() {
    let table = Table { header: HEADER.to_vec(), rows: published(0.02) };
    let found = grade(&table).unwrap();
    assert!(found.decode_mdape < 0.04, "{}", found.decode_mdape);
    assert_eq!((found.above_roofline, found.measured_above, found.rows.len()), (0, 0, 18));
    assert_eq!(found.by_class["nvidia-cuda"].1, 18);
    // A device that lies about itself is found out, and does not spoil the others.
    let mut rows = published(0.0);
    for (_, cells) in rows.iter_mut().filter(|(_, cells)| cells[0] == "card 3") {
        cells[9] = (cells[9].parse::<f64>().unwrap() / 2.0).to_string();
    }
    let found = grade(&Table { header: HEADER.to_vec(), rows }).unwrap();
    assert!(found.decode_mdape < 0.05, "{}", found.decode_mdape);
    assert!(
        found.rows[..3].iter().all(|row| row.device == "card 3" && row.error() > 0.5),
        "{:?}",
        &found.rows[..4]
    );
}

#[test]
fn files_that_cannot_be_graded_are_named_with_column_and_line() {
    let without = Table { header: HEADER[1..].to_vec(), rows: Vec::new() };
    assert_eq!(grade(&without), Err(GradeError::Column("device")));
    let empty = Table { header: HEADER.to_vec(), rows: Vec::new() };
    assert_eq!(grade(&empty), Err(GradeError::Empty));
    let mut rows = published(0.0);
    rows[1].1[3] = "NaN".to_owned();
    let error = grade(&Table { header: HEADER.to_vec(), rows }).unwrap_err();
    assert_eq!(error, GradeError::Cell { line: 3, column: "mem_bw_GBps" });
}
