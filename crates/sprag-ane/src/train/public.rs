//! Checkpoints of maderix/ANE and ncdrone/autoresearch-ANE: a header of 96 bytes that begins with "BLZT" backwards, then tensors in
//! single precision. Version 4 is the dynamic pipeline's, version 2 the static one's, which knows no shared heads.
//!
//! They have no check of their content, no state of the random numbers, and were not written whole or not at all: what can be
//! checked is.

use std::path::Path;

use super::TrainError;
use super::checkpoint::failed;
use super::params::{Param, Params};
use crate::config::Config;

const MAGIC: i32 = 0x424C_5A54;
/// Bytes of the header.
const HEADER: usize = 96;

/// What such a file has.
#[derive(Clone, Debug, PartialEq)]
pub struct Public {
    /// The model's sizes.
    pub config: Config,
    /// Parameters with their moments.
    pub params: Params,
    /// Steps done, and steps of the whole run.
    pub steps: [u64; 2],
    /// Steps of the optimiser.
    pub updates: u64,
    /// The last loss that it tells.
    pub loss: f32,
}

/// Reads a file.
///
/// # Errors
/// When it is none of them, of another version, its sizes make no model, or it is shorter or longer than they say.
pub fn read(path: &Path) -> Result<Public, TrainError> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
    parse(&bytes).map_err(|problem| failed(path, problem))
}

/// Reads the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<Public, String> {
    if bytes.len() < HEADER {
        return Err(format!("it has {} bytes, and its header alone {HEADER}", bytes.len()));
    }
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let int = |at: usize| i32::from_le_bytes(four(at));
    if int(0) != MAGIC {
        return Err("it does not begin as a checkpoint of these projects".to_owned());
    }
    let version = int(4);
    if !matches!(version, 2 | 4) {
        return Err(format!("it has version {version}, and 2 and 4 are read"));
    }
    let size = |name: &str, at: usize| -> Result<usize, String> {
        let found = int(at);
        usize::try_from(found)
            .ok()
            .filter(|size| (1..=1 << 24).contains(size))
            .ok_or_else(|| format!("{name} is {found}"))
    };
    let [n_layer, vocab, d_model, d_hidden, n_head, seq_len] = [
        size("n_layers", 16)?,
        size("vocab", 20)?,
        size("dim", 24)?,
        size("hidden", 28)?,
        size("heads", 32)?,
        size("seq", 36)?,
    ];
    // lr and loss at 40, three doubles from 48 (aligned), steps from 72.
    let loss = f32::from_le_bytes(four(44));
    let (n_kv_head, head_dim) = match version {
        4 => (size("kv_heads", 84)?, size("head_dim", 88)?),
        _ => (n_head, d_model / n_head),
    };
    let config = Config {
        name: "public".to_owned(),
        d_model,
        d_hidden,
        n_head,
        n_kv_head,
        head_dim,
        seq_len,
        n_layer,
        vocab,
    };
    config.check().map_err(|error| error.to_string())?;
    let numbers = config.parameters();
    let expected = (numbers as u128) * 3 * 4 + HEADER as u128;
    if expected != bytes.len() as u128 {
        return Err(format!("it has {} bytes, and its sizes make {expected}", bytes.len()));
    }
    let mut at = HEADER;
    let mut take = |count: usize| -> Vec<f32> {
        let own = bytes[at..at + 4 * count].chunks_exact(4);
        at += 4 * count;
        own.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
    };
    let mut params = Params::random(&config, 0);
    for layer in &mut params.layers {
        // Values of all, then means and squares one tensor after the other.
        let mut all: Vec<&mut Param> = layer.weights.iter_mut().chain(layer.gains.iter_mut()).collect();
        for param in &mut all {
            param.value = take(param.value.len());
        }
        for param in &mut all {
            (param.mean, param.square) = (take(param.mean.len()), take(param.square.len()));
        }
    }
    for param in [&mut params.gain, &mut params.embedding] {
        let count = param.value.len();
        (param.value, param.mean, param.square) = (take(count), take(count), take(count));
    }
    let count = |at: usize| u64::try_from(int(at)).unwrap_or(0);
    Ok(Public { config, params, steps: [count(8), count(12)], updates: count(80), loss })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(config: &Config, version: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let sizes =
            [config.n_layer, config.vocab, config.d_model, config.d_hidden, config.n_head, config.seq_len];
        for number in [MAGIC, version, 70, 100].into_iter().chain(sizes.map(|size| size as i32)) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(3e-4_f32.to_le_bytes());
        bytes.extend(2.5_f32.to_le_bytes());
        bytes.extend([0; 24]);
        for number in [0, 0, 7, config.n_kv_head as i32, config.head_dim as i32, config.q_dim() as i32] {
            bytes.extend(number.to_le_bytes());
        }
        assert_eq!(bytes.len(), HEADER);
        let count = 3 * config.parameters();
        bytes.extend((0..count).flat_map(|at| (at as f32).to_le_bytes()));
        bytes
    }

    #[test]
    fn tensors_are_read_in_the_order_of_the_file() {
        let tiny = Config::of("tiny").unwrap();
        let found = parse(&file(&tiny, 4)).unwrap();
        assert_eq!(Config { name: "tiny".to_owned(), ..found.config.clone() }, tiny);
        assert_eq!((found.steps, found.updates, found.loss), ([70, 100], 7, 2.5));
        let first = &found.params.layers[0];
        assert_eq!(first.weights[0].value[..2], [0.0, 1.0]);
        let own: usize = first.weights.iter().chain(&first.gains).map(|param| param.value.len()).sum();
        assert_eq!(first.weights[0].mean[0], own as f32);
        assert_eq!(first.weights[0].square[0], (own + first.weights[0].value.len()) as f32);
        assert_eq!(found.params.embedding.square.last(), Some(&((3 * tiny.parameters() - 1) as f32)));
        let plain = Config { n_kv_head: 4, ..tiny };
        assert_eq!(parse(&file(&plain, 2)).unwrap().config.n_kv_head, 4);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tiny = Config::of("tiny").unwrap();
        let good = file(&tiny, 4);
        let with = |at: usize, value: i32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            parse(&bytes).unwrap_err()
        };
        assert!(with(0, 1).contains("does not begin"));
        assert!(with(4, 3).contains("version 3"));
        assert!(with(16, -1).contains("n_layers is -1"));
        assert!(with(84, 3).contains("cannot share 3"));
        assert!(with(20, 513).contains("its sizes make"));
        assert!(parse(&good[..50]).unwrap_err().contains("its header alone"));
        assert!(parse(&good[..good.len() - 4]).unwrap_err().contains("its sizes make"));
        let mut random = 3_u64;
        for _ in 0..2000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = good.clone();
            bytes[(random >> 40) as usize % HEADER] = (random >> 33) as u8;
            let _ = parse(&bytes);
        }
    }
}
