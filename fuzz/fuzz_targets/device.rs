//! A device file: any text is a machine with sound figures, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_measure::plan::read_device;

fuzz_target!(|text: &str| {
    if let Ok(device) = read_device(text) {
        assert!(device.bytes_per_second > 0.0 && device.most_memory() > 0.0);
    }
});
