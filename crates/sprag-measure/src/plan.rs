//! What a model needs and what a machine gives: whether it fits, and how fast it can be, before anything is bought or
//! downloaded. Pure arithmetic over data; every figure knows the formula that it comes from.

mod architecture;
mod config;
mod device;
mod efficiency;
mod estimate;
mod gguf;
mod grade;
mod quant;
mod shipped;

pub use architecture::{Architecture, Block, Feed, Mixer};
pub use config::{ConfigError, from_config, supported};
pub use device::{Device, DeviceClass, Kind, devices, find_device};
pub use efficiency::{Efficiency, Load, efficiency_of, fit};
pub use estimate::{Estimate, Fit, Job, Line, Rates, estimate};
pub use gguf::{GgufError, GgufModel, read_gguf};
pub use grade::{Grade, GradeError, Graded, Table, grade};
pub use quant::{Quant, find_quant, quants};
pub use shipped::{ShippedModel, find_model, models};

#[cfg(test)]
mod tests;
