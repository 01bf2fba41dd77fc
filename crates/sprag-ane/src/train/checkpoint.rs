//! Checkpoints: all that training goes on from, in one safetensors file. It is written beside its place and then moved there, so
//! that a kill at any moment leaves the old one or the new one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::params::{Param, Params};
use super::{Progress, TrainError};
use crate::config::Config;

/// Version of the format.
const VERSION: u32 = 1;

/// What a checkpoint says besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of the format.
    pub version: u32,
    /// The model's sizes.
    pub config: Config,
    /// What the trainer goes on from.
    pub progress: Progress,
    /// Where the data is.
    pub data: Drawn,
}

impl State {
    /// What is said of a training.
    pub fn new(config: &Config, progress: Progress, data: Drawn) -> State {
        State { version: VERSION, config: config.clone(), progress, data }
    }
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// Batches that were drawn.
    pub drawn: u64,
    /// Sequences of each.
    pub rows: usize,
    /// The seed of their order.
    pub seed: u64,
    /// Steps over which the learning rate falls.
    pub steps: u64,
    /// Ids of the data that the model has rows for, in the order of its rows; empty for all.
    pub vocabulary: Vec<u32>,
}

pub(super) fn failed(path: &Path, problem: impl std::fmt::Display) -> TrainError {
    TrainError::File { path: path.display().to_string(), problem: problem.to_string() }
}

/// Writes a file so that it is there whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let beside = path.with_extension("partial");
    let wrong = |error: std::io::Error| failed(path, error);
    let mut file = File::create(&beside).map_err(wrong)?;
    file.write_all(bytes).map_err(wrong)?;
    file.sync_all().map_err(wrong)?;
    std::fs::rename(&beside, path).map_err(wrong)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // The name is safe once the folder is.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
    }
    Ok(())
}

/// Writes a checkpoint.
///
/// # Errors
/// When the file cannot be written; the old one is still there then.
pub fn save(path: &Path, params: &Params, state: &State) -> Result<(), TrainError> {
    let named = params.named();
    let mut tensors = Vec::with_capacity(3 * named.len());
    for (name, _, param) in &named {
        for (part, numbers) in [("value", &param.value), ("mean", &param.mean), ("square", &param.square)] {
            let bytes = bytemuck::cast_slice(numbers.as_slice());
            let view = TensorView::new(Dtype::F32, vec![numbers.len()], bytes)
                .map_err(|error| failed(path, error))?;
            tensors.push((format!("{name}.{part}"), view));
        }
    }
    let state = serde_json::to_string(state).map_err(|error| failed(path, error))?;
    let said = HashMap::from([("sprag_ane".to_owned(), state)]);
    let bytes = safetensors::serialize(tensors, Some(said)).map_err(|error| failed(path, error))?;
    write_whole(path, &bytes)
}

/// Reads a checkpoint.
///
/// # Errors
/// When it is none, of another version, or its tensors are not those of its sizes.
pub fn load(path: &Path) -> Result<(Params, State), TrainError> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| failed(path, error))?;
    let said = header.metadata().as_ref().and_then(|said| said.get("sprag_ane"));
    let said = said.ok_or_else(|| failed(path, "it is no checkpoint of `sprag ane train`"))?;
    let state: State = serde_json::from_str(said).map_err(|error| failed(path, error))?;
    if state.version != VERSION {
        return Err(failed(path, format!("it has version {}, and {VERSION} is read", state.version)));
    }
    let config = &state.config;
    config.check()?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| failed(path, error))?;
    let mut params = Params::random(config, 0);
    let names: Vec<String> = params.named().into_iter().map(|(name, _, _)| name).collect();
    for (name, (_, param)) in names.iter().zip(params.all_mut()) {
        let Param { value, mean, square, .. } = param;
        for (part, numbers) in [("value", value), ("mean", mean), ("square", square)] {
            let name = format!("{name}.{part}");
            let tensor = tensors.tensor(&name).map_err(|error| failed(path, error))?;
            if tensor.dtype() != Dtype::F32 || tensor.data().len() != 4 * numbers.len() {
                return Err(failed(path, format!("`{name}` has not {} numbers of fp32", numbers.len())));
            }
            for (number, four) in numbers.iter_mut().zip(tensor.data().chunks_exact(4)) {
                *number = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            }
        }
    }
    Ok((params, state))
}
