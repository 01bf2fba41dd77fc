//! A weight file, and a checkpoint of the public projects: any bytes are one, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_ane::blob::{blob_count, read_blob};
use sprag_ane::train::public;

fuzz_target!(|bytes: &[u8]| {
    let _ = blob_count(bytes);
    for place in [0, 64, 128, 192, u64::MAX] {
        let _ = read_blob(bytes, place);
    }
    let _ = public::parse(bytes);
});
