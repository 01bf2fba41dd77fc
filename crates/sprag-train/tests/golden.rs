//! A tiny GPT, and steps of both optimisers, are what PyTorch says: `golden/make.py` made `golden/gpt.json`.

#![cfg(feature = "model")]

use serde::Deserialize;
use sprag_train::burn::tensor::{Device, Int, Tensor, TensorData};
use sprag_train::ops::{self, Rotary};
use sprag_train::optim::{AdamW, Muon, Orthogonaliser, Param};

const VOCAB: usize = 11;
const WIDTH: usize = 8;
const HEADS: usize = 2;
const KV_HEADS: usize = 1;
const HIDDEN: usize = 16;
const LAYERS: usize = 2;
const ROWS: usize = 2;
const SEQ: usize = 6;
const DIM: usize = WIDTH / HEADS;

#[derive(Deserialize)]
struct Golden {
    logits: Vec<f64>,
    loss: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    adamw: Vec<f64>,
    muon_wide: Vec<f64>,
    muon_tall: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/gpt.json")).unwrap()
}

/// The formula of `make.py`.
fn weights(number: usize, [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..rows * columns)
        .map(|at| (0.5 * (0.7 * (at * at) as f64 + 1.3 * number as f64).sin()) as f32)
        .collect()
}

fn matrix(numbers: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex().autodiff())
}

fn params() -> Vec<Param> {
    let kv = KV_HEADS * DIM;
    let mut shapes = vec![[VOCAB, WIDTH], [WIDTH, VOCAB]];
    for _ in 0..LAYERS {
        shapes.extend([
            [WIDTH, WIDTH],
            [WIDTH, kv],
            [WIDTH, kv],
            [WIDTH, WIDTH],
            [WIDTH, HIDDEN],
            [HIDDEN, WIDTH],
            [1, 2],
        ]);
    }
    let param = |(number, shape)| Param::new(matrix(weights(number, shape), shape));
    shapes.into_iter().enumerate().map(param).collect()
}

/// What the head reads, `[rows, seq, width]`.
fn hidden(params: &[Param], tokens: Tensor<2, Int>) -> Tensor<3> {
    let rotary = Rotary::new(SEQ, DIM, 100.0, &Device::flex());
    let first = ops::rms_norm(ops::embedding(params[0].get(), tokens));
    let mut x = first.clone();
    for layer in params[2..].chunks(7) {
        let [query, key, value, output, up, down, mix] = std::array::from_fn(|at| layer[at].get());
        x = ops::mix(x, first.clone(), mix);
        let y = ops::rms_norm(x.clone());
        let query = ops::split_heads(ops::linear(y.clone(), query), HEADS);
        let key = ops::split_heads(ops::linear(y.clone(), key), KV_HEADS);
        let value = ops::split_heads(ops::linear(y, value), KV_HEADS);
        let (query, key) = (ops::rotary_norm(query, &rotary, 1.3), ops::rotary_norm(key, &rotary, 1.0));
        x = x + ops::linear(ops::join_heads(ops::attention(query, key, value, Some(4))), output);
        x = x.clone() + ops::mlp(ops::rms_norm(x), up, down);
    }
    ops::rms_norm(x)
}

fn ids(f: impl Fn(usize, usize) -> usize) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..ROWS * SEQ).map(|at| f(at / SEQ, at % SEQ) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [ROWS, SEQ]), &Device::flex().autodiff())
}

#[track_caller]
fn assert_close<const D: usize>(what: &str, ours: Tensor<D>, theirs: &[f64]) {
    let ours: Vec<f32> = ours.inner().try_into_vec_as().unwrap();
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0, |largest: f64, number| largest.max(number.abs()));
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let error = (f64::from(*ours) - theirs).abs();
        assert!(error <= 1e-5 * largest.max(1.0), "{what} at {at}: {ours}, not {theirs}");
    }
}

#[test]
fn logits_loss_and_gradients_are_those_of_pytorch() {
    let (golden, params) = (golden(), params());
    let token = |row: usize, at: usize| (3 * row + 5 * at) % VOCAB;
    let x = hidden(&params, ids(token));
    let logits = ops::softcap(ops::linear(x.clone(), params[1].get()), 15.0);
    assert_close("logits", logits, &golden.logits);
    let targets = ids(|row, at| (token(row, at) * 7 + 2) % VOCAB);
    let loss = ops::head_loss(x, params[1].get(), targets, 15.0);
    assert_close("loss", loss.clone(), &golden.loss);
    let gradients = loss.backward();
    assert_eq!(params.len(), golden.gradients.len());
    for (number, (param, theirs)) in params.iter().zip(&golden.gradients).enumerate() {
        let gradient = param.get().grad(&gradients).unwrap();
        assert_close(&format!("gradient of parameter {number}"), gradient, theirs);
    }
}

/// The value of a parameter after the three gradients of `make.py`.
fn after(value: Tensor<2>, gradients: [Tensor<2>; 3], mut step: impl FnMut(&mut Param)) -> Tensor<2> {
    let mut param = Param::new(value);
    for gradient in gradients {
        let mut graph = (param.get() * gradient).sum().backward();
        param.accumulate(&mut graph, 1.0);
        step(&mut param);
    }
    param.get()
}

#[test]
fn optimiser_steps_are_those_of_pytorch() {
    let golden = golden();
    let shape = [WIDTH, HIDDEN];
    let up = || matrix(weights(6, shape), shape);
    let first = golden.gradients[6].iter().map(|number| *number as f32).collect();
    let first = matrix(first, shape);
    let gradients = || [first.clone(), first.clone().flip([0]) * -0.5, first.clone().flip([1])];

    let adamw = AdamW { learning_rate: 0.01, beta1: 0.8, beta2: 0.9, epsilon: 1e-6, weight_decay: 0.1 };
    assert_close("adamw", after(up(), gradients(), |param| adamw.step(param)), &golden.adamw);

    let muon = Muon {
        learning_rate: 0.02,
        momentum: 0.9,
        weight_decay: 0.1,
        orthogonaliser: Orthogonaliser::NewtonSchulz,
    };
    assert_close("muon", after(up(), gradients(), |param| muon.step(param)), &golden.muon_wide);
    let tall = gradients().map(Tensor::transpose);
    assert_close("muon", after(up().transpose(), tall, |param| muon.step(param)), &golden.muon_tall);
}
