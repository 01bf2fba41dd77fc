//! A file of claims: any text is claims that are judged, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_measure::claims::{judge, read_claims};

fuzz_target!(|text: &str| {
    let Ok(claims) = read_claims(text) else { return };
    for claim in &claims {
        let _ = judge(claim, &claims);
    }
});
