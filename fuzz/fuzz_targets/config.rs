//! A `config.json`: any text is a model that can be planned with, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_measure::plan::{
    Job, Optimiser, Precision, Training, devices, estimate, find_quant, from_config, train,
};

fuzz_target!(|text: &str| {
    let Ok(model) = from_config(text, "fuzzed") else { return };
    let Some(quant) = find_quant("Q4_0") else { return };
    let job = Job { model: &model, quant, exact: None, context: 4096, batch: 2, cache_bytes: 2.0 };
    let plan = estimate(&job, &devices()[0]);
    assert!(plan.decode.expected <= plan.decode.ceiling, "{plan:?}");
    let training = Training {
        model: &model,
        precision: Precision::Bf16,
        optimiser: Optimiser::AdamW,
        seq_len: 128,
        batch: 1,
        grad_accum: 1,
        recompute: false,
        seconds: 1.0,
    };
    assert!(train(&training, &devices()[0]).fit.needed >= 0.0);
});
