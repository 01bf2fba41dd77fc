//! What a model needs and what a machine gives: whether it fits, and how fast it can be, before anything is bought or
//! downloaded. Pure arithmetic over data; every figure knows the formula that it comes from.

mod architecture;
mod cluster;
mod config;
mod cost;
mod device;
mod efficiency;
mod estimate;
mod gguf;
mod grade;
mod quant;
mod safetensors;
mod shipped;
mod simulate;
mod speculative;
mod sweep;
mod synthetic;
mod training;

pub use architecture::{Architecture, Block, Feed, Mixer};
pub use cluster::{
    Alone, ClusterError, ClusterPlan, Link, Split, Timed, break_even, cluster, find_link, links, two_in_a_row,
};
pub use config::{ConfigError, from_config, supported};
pub use cost::{Cost, Prices, cost};
pub use device::{Device, DeviceClass, DeviceError, Kind, Source, devices, find_device, read_device};
pub use efficiency::{Efficiency, Load, efficiency_of, fit};
pub use estimate::{Estimate, Fit, Job, Line, Rates, bytes_a_token, bytes_needed, estimate};
pub use gguf::{GgufError, GgufModel, read_gguf};
pub use grade::{Grade, GradeError, Graded, Table, grade};
pub use quant::{Quant, find_quant, quants};
pub use safetensors::{SafetensorsError, SafetensorsModel, read_safetensors, safetensors_header_bytes};
pub use shipped::{ShippedModel, find_model, models};
pub use simulate::{Task, simulate};
pub use speculative::{Draft, Speculation, speculate, tokens_a_round};
pub use sweep::{Crossover, SweepPoint, SweepRow, Workload, sweep};
pub use synthetic::{SyntheticError, SyntheticFormat, write_synthetic};
pub use training::{Optimiser, Precision, Training, TrainingPlan, train};

#[cfg(test)]
mod tests;
