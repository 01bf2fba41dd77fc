//! The emulator's operations against NumPy and coremltools, by a file that `golden/make.py` makes: no Python is needed here.

use half::f16;
use serde_json::Value;
use sprag_ane::emulator::{Plan, View};
use sprag_ane::mil::{Program, Scalar};
use sprag_ane::profile::Profile;
use sprag_ane::runtime::Weights;

const GOLDEN: &str = include_str!("golden/operations.json");

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|own| own.as_i64().unwrap()).collect()
}

/// Steps between halves, counted from one to the other.
fn steps(a: u16, b: u16) -> u32 {
    let order = |bits: u16| {
        let size = i32::from(bits & 0x7FFF);
        if bits & 0x8000 == 0 { size } else { -size }
    };
    order(a).abs_diff(order(b))
}

#[test]
fn operations_give_what_numpy_and_coremltools_give() {
    let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    assert!(cases.len() >= 45);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let (mut ports, mut views) = (Vec::new(), Vec::new());
        for input in case["inputs"].as_array().unwrap() {
            let shape: Vec<usize> = integers(&input["shape"]).iter().map(|own| *own as usize).collect();
            let numbers: Vec<f32> =
                integers(&input["bits"]).iter().map(|bits| f16::from_bits(*bits as u16).to_f32()).collect();
            ports.push(format!("tensor<fp16, {shape:?}> {}", input["name"].as_str().unwrap()));
            views.push(View::of(Scalar::Fp16, shape, &numbers));
        }
        let (output, operation) = (case["output"].as_str().unwrap(), case["operation"].as_str().unwrap());
        let text = format!(
            "program(1.3) [buildInfo = dict<string, string>({{}})] {{ func main<ios18>({}) {{ {output} y = {operation}[]; }} -> (y); }}",
            ports.join(", ")
        );
        let program = Program::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan = Plan::new(&program.functions[0], &Weights::new(), Profile::default());
        let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = plan.run(views).0.remove(0).to_vec();
        let allowed = case["ulps"].as_u64().unwrap() as u32;
        if output.contains("fp16") {
            let expected = integers(&case["bits"]);
            assert_eq!(found.len(), expected.len(), "{name}");
            // Sums near zero in another order are far in their own steps: those of the largest result count, too.
            let largest =
                expected.iter().map(|bits| f16::from_bits(*bits as u16).to_f32().abs()).fold(0.0, f32::max);
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let expected = *expected as u16;
                let own = f16::from_f32(*found).to_bits();
                let near =
                    (found - f16::from_bits(expected).to_f32()).abs() <= allowed as f32 * largest * 1e-5;
                assert!(steps(own, expected) <= allowed || near && allowed > 2, "{name} at {at}: {found}");
            }
        } else {
            let expected: Vec<f32> =
                case["bits"].as_array().unwrap().iter().map(|own| own.as_f64().unwrap() as f32).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
