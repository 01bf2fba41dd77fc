//! Asks for this machine's Neural Engine and, where there is one, multiplies on it and compares with the emulator: the first thing
//! to run on a Mac. `cargo run -p sprag-ane --bin ane-device`

use half::f16;
use sprag_ane::emulator::Emulator;
use sprag_ane::graphs::probes;
use sprag_ane::profile::Profile;
use sprag_ane::runtime::{DeviceOptions, Runtime, RuntimeError, Spent, check_finite, device};

/// What a chain of two convolutions makes of a ramp.
fn evaluate(runtime: &dyn Runtime) -> Result<(Vec<f32>, Spent), RuntimeError> {
    let graph = probes::convolutions(64, [1, 64], 2)?;
    let program = runtime.dialect(&graph.program);
    let kernel = runtime.compile(&program, &graph.weights)?;
    let (input, output) =
        (runtime.surface(kernel.inputs()[0].bytes())?, runtime.surface(kernel.outputs()[0].bytes())?);
    input.write(&mut |bytes| {
        for (at, pair) in bytes.chunks_exact_mut(2).take(64 * 64).enumerate() {
            pair.copy_from_slice(&f16::from_f32(at as f32 / 4096.0).to_le_bytes());
        }
    })?;
    let mut request = kernel.bind(&[input], std::slice::from_ref(&output))?;
    let spent = request.evaluate()?;
    check_finite(&kernel.outputs()[0], output.as_ref())?;
    let mut numbers = Vec::new();
    output.read(&mut |bytes| {
        numbers =
            bytes.chunks_exact(2).take(64 * 64).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    })?;
    Ok((numbers, spent))
}

fn main() -> Result<(), RuntimeError> {
    let (expected, _) = evaluate(&Emulator::new(Profile::default()))?;
    let device = match device(DeviceOptions::default()) {
        Ok(device) => device,
        Err(error) => {
            println!("{error}");
            return Ok(());
        }
    };
    println!("{}", device.about().name);
    let (found, spent) = evaluate(device.as_ref())?;
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("two convolutions: {:.3} ms, at most {apart} from the emulator", spent.seconds() * 1e3);
    Ok(())
}
