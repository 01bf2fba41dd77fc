//! A safetensors header: any bytes are sizes, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_measure::plan::{read_safetensors, safetensors_header_bytes};

fuzz_target!(|bytes: &[u8]| {
    let _ = safetensors_header_bytes(bytes);
    let _ = read_safetensors(bytes);
});
