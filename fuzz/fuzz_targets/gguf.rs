//! A GGUF header: any bytes are a model that can be planned with, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_measure::plan::{Job, devices, estimate, find_quant, read_gguf};

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = read_gguf(bytes) else { return };
    let Some(quant) = find_quant("Q4_0") else { return };
    let exact = Some((model.weight_bytes, model.embedding_bytes));
    for exact in [exact, None] {
        let job = Job { model: &model.architecture, quant, exact, context: 4096, batch: 2, cache_bytes: 2.0 };
        let plan = estimate(&job, &devices()[0]);
        assert!(plan.decode.expected <= plan.decode.ceiling, "{plan:?}");
    }
});
