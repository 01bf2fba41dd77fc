//! A program of the Neural Engine: any text is a program that reads back, is checked, compiled and, where it is small, evaluated, or
//! an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sprag_ane::emulator::Emulator;
use sprag_ane::emulator::cost::Work;
use sprag_ane::mil::{Program, check_types, lint};
use sprag_ane::profile::PROFILES;
use sprag_ane::runtime::{Runtime, Weights};

fuzz_target!(|text: &str| {
    let Ok(program) = Program::parse(text) else { return };
    assert_eq!(Program::parse(&program.to_string()).as_ref(), Ok(&program));
    let _ = lint(&program);
    let [function] = program.functions.as_slice() else { return };
    if check_types(function).is_err() {
        return;
    }
    // Slow is no crash.
    let numbers: u64 = function.body.iter().filter_map(|one| one.ty.count()).fold(0, u64::saturating_add);
    let work = Work::of(function);
    if numbers > 1 << 20 || work.products + work.convolutions > 1e8 {
        return;
    }
    for profile in PROFILES {
        let emulator = Emulator::new(profile);
        let Ok(kernel) = emulator.compile(&program, &Weights::new()) else { continue };
        let surfaces = |ports: &[sprag_ane::runtime::Port]| -> Option<Vec<_>> {
            ports.iter().map(|port| emulator.surface(port.bytes().min(1 << 20)).ok()).collect()
        };
        let (Some(inputs), Some(outputs)) = (surfaces(kernel.inputs()), surfaces(kernel.outputs())) else { continue };
        if let Ok(mut request) = kernel.bind(&inputs, &outputs) {
            let _ = request.evaluate();
        }
    }
});
