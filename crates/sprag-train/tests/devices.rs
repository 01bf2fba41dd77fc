//! The operations on a graphics processor are those on the CPU: outputs, gradients, optimiser steps.
//!
//! `cargo test -p sprag-train --features wgpu --test devices` needs a device that wgpu sees; Mesa's lavapipe, which
//! computes on the CPU, is one.

#![cfg(any(feature = "cuda", feature = "metal", feature = "wgpu"))]

use sprag_train::burn::tensor::{Device, DeviceType, Int, Tensor, TensorData};
use sprag_train::ops::{self, Rotary};
use sprag_train::optim::{AdamW, Muon, Orthogonaliser, Param, clip_gradients};

/// Of the largest number: single precision, in another order.
const TOLERANCE: f32 = 2e-5;

fn gpu() -> Device {
    #[cfg(feature = "cuda")]
    let kind = DeviceType::Cuda;
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    let kind = DeviceType::Metal;
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    let kind = DeviceType::Wgpu;
    Device::enumerate(kind)
        .first()
        .cloned()
        .expect("a device; for wgpu install mesa-vulkan-drivers")
        .autodiff()
}

/// Inputs whose gradients are compared, on one device.
struct Leaves {
    device: Device,
    all: Vec<Box<dyn Fn(&sprag_train::burn::tensor::Gradients) -> Vec<f32>>>,
}

impl Leaves {
    fn random<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let leaf = Tensor::from_data(random(shape, self.all.len() as u32 + 1), &self.device).require_grad();
        let kept = leaf.clone();
        self.all.push(Box::new(move |gradients| numbers(kept.grad(gradients).expect("a gradient"))));
        leaf
    }

    fn ids(&self, shape: [usize; 2], below: usize) -> Tensor<2, Int> {
        let ids: Vec<i32> = (0..shape[0] * shape[1]).map(|at| (at * 7 % below) as i32).collect();
        Tensor::from_data(TensorData::new(ids, shape), &self.device)
    }
}

fn random<const D: usize>(shape: [usize; D], seed: u32) -> TensorData {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
        })
        .collect();
    TensorData::new(numbers, shape)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().try_into_vec_as().expect("numbers")
}

/// Compares the output of `f`, and the gradients of a weighted sum of it, between the device and the CPU.
#[track_caller]
fn check<const D: usize>(f: impl Fn(&mut Leaves) -> Tensor<D>) {
    let [here, there] = [Device::flex().autodiff(), gpu()].map(|device| {
        let mut leaves = Leaves { device: device.clone(), all: Vec::new() };
        let output = f(&mut leaves);
        let weights = Tensor::from_data(random(output.dims(), 99), &device);
        let gradients = (output.clone() * weights).sum().backward();
        let mut all = vec![numbers(output)];
        all.extend(leaves.all.iter().map(|read| read(&gradients)));
        all
    });
    for (which, (here, there)) in here.iter().zip(&there).enumerate() {
        assert_same(here, there, &if which == 0 { "the output".into() } else { format!("gradient {which}") });
    }
}

#[track_caller]
fn assert_same(here: &[f32], there: &[f32], what: &str) {
    assert_eq!(here.len(), there.len());
    let largest = here.iter().fold(1.0, |largest: f32, number| largest.max(number.abs()));
    for (at, (here, there)) in here.iter().zip(there).enumerate() {
        assert!((here - there).abs() <= TOLERANCE * largest, "{what} at {at}: {there}, on the CPU {here}");
    }
}

#[test]
fn linear_embedding_and_norm() {
    check(|leaves| ops::linear(leaves.random([2, 7, 31]), leaves.random([31, 33])));
    check(|leaves| {
        let ids = leaves.ids([3, 5], 11);
        ops::embedding(leaves.random([11, 9]), ids)
    });
    check(|leaves| ops::rms_norm(leaves.random([2, 5, 31])));
}

#[test]
fn attention_with_rotary_norm_groups_and_windows() {
    for window in [None, Some(3)] {
        check(|leaves| {
            let rotary = Rotary::new(16, 8, 1e4, &leaves.device);
            let query = ops::rotary_norm(leaves.random([2, 4, 13, 8]), &rotary, 1.3);
            let key = ops::rotary_norm(leaves.random([2, 2, 13, 8]), &rotary, 1.0);
            ops::attention(query, key, leaves.random([2, 2, 13, 8]), window)
        });
    }
}

#[test]
fn mlps_activations_and_mix() {
    check(|leaves| {
        let x = leaves.random([2, 5, 12]);
        ops::mlp(x, leaves.random([12, 31]), leaves.random([31, 12]))
    });
    check(|leaves| {
        let x = leaves.random([2, 5, 12]);
        let (gate, up) = (leaves.random([12, 31]), leaves.random([12, 31]));
        ops::swiglu(x, gate, up, leaves.random([31, 12]))
    });
    for f in [ops::squared_relu, ops::gelu, ops::silu] {
        check(|leaves| f(leaves.random([2, 5, 12]) * 4.0));
    }
    check(|leaves| {
        let (x, first) = (leaves.random([2, 3, 8]), leaves.random([2, 3, 8]));
        ops::mix(x, first, leaves.random([1, 2]))
    });
}

#[test]
fn head_and_loss() {
    for cap in [15.0, f64::INFINITY] {
        check(|leaves| {
            let targets = leaves.ids([2, 9], 33);
            let hidden = leaves.random([2, 9, 12]) * 3.0;
            ops::head_loss(hidden, leaves.random([12, 33]) * 3.0, targets, cap)
        });
    }
}

#[test]
fn optimiser_steps() {
    let adamw = AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };
    let muon =
        |orthogonaliser| Muon { learning_rate: 0.02, momentum: 0.9, weight_decay: 0.1, orthogonaliser };
    let stepped = |device: &Device, step: &dyn Fn(&mut Param)| {
        let mut param = Param::new(Tensor::<2>::from_data(random([12, 20], 3), device));
        for turn in 0..3 {
            let factor = Tensor::<2>::from_data(random([12, 20], 10 + turn), device);
            let mut gradients = (param.get() * factor).sum().backward();
            param.accumulate(&mut gradients, 1.0);
            clip_gradients(&mut [&mut param], 1.0);
            step(&mut param);
        }
        numbers(param.get())
    };
    let steps: [(&str, &dyn Fn(&mut Param)); 3] = [
        ("AdamW", &|param| adamw.step(param)),
        ("Muon, Newton-Schulz", &|param| muon(Orthogonaliser::NewtonSchulz).step(param)),
        ("Muon, Polar Express", &|param| muon(Orthogonaliser::PolarExpress).step(param)),
    ];
    for (name, step) in steps {
        let here = stepped(&Device::flex().autodiff(), step);
        assert_same(&here, &stepped(&gpu(), step), name);
    }
}
