//! The planner against published measurements, each device predicted without its own rows.

use std::collections::BTreeMap;

use super::device::DeviceClass;
use super::efficiency::{Load, efficiency_of, fit};
use crate::stats;

/// Why a file cannot be graded against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GradeError {
    /// A column lacks.
    #[error("column `{0}` is missing")]
    Column(&'static str),
    /// A cell cannot be read.
    #[error("line {line}: `{column}` is not a number above 0")]
    Cell {
        /// Of the file, from 1.
        line: usize,
        /// The column.
        column: &'static str,
    },
    /// No row has a decode rate.
    #[error("no row has a decode rate in `tg_tps`")]
    Empty,
}

/// One row with its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Graded {
    /// Of the file, from 1.
    pub line: usize,
    /// Its device.
    pub device: String,
    /// Its model and format.
    pub model: String,
    /// Devices in a row.
    pub nodes: f64,
    /// Published tokens a second.
    pub measured: f64,
    /// Predicted ones.
    pub predicted: f64,
    /// Bandwidth over bytes.
    pub ceiling: f64,
}

impl Graded {
    /// Distance as a part of what was measured.
    pub fn error(&self) -> f64 {
        (self.predicted / self.measured - 1.0).abs()
    }
}

/// How well the planner does.
#[derive(Clone, Debug, PartialEq)]
pub struct Grade {
    /// Median absolute error of decode, as a part.
    pub decode_mdape: f64,
    /// The same for each class, with its rows.
    pub by_class: BTreeMap<String, (f64, usize)>,
    /// Predictions above their roofline.
    pub above_roofline: usize,
    /// Measurements above their roofline: rows that contradict themselves.
    pub measured_above: usize,
    /// All rows, the worst first.
    pub rows: Vec<Graded>,
}

/// Header and cells of a file; cells as many as the header has.
pub struct Table<'a> {
    /// Names of columns.
    pub header: Vec<&'a str>,
    /// Line of the file and cells.
    pub rows: Vec<(usize, Vec<String>)>,
}

/// Grades against a table with the columns `device`, `device_class`, `nodes`, `mem_bw_GBps`, `model`, `quant`,
/// `active_bytes_per_token_GB`, `kv_bytes_per_ctx_token`, `context`, `tg_tps`. A device is predicted from the rows of its
/// class on other devices; with fewer than eight of those, from the constants that ship.
///
/// # Errors
/// See [`GradeError`].
pub fn grade(table: &Table<'_>) -> Result<Grade, GradeError> {
    let column = |name: &'static str| {
        table.header.iter().position(|known| *known == name).ok_or(GradeError::Column(name))
    };
    let (device, class, model, quant) =
        (column("device")?, column("device_class")?, column("model")?, column("quant")?);
    let (nodes, bandwidth, bytes) =
        (column("nodes")?, column("mem_bw_GBps")?, column("active_bytes_per_token_GB")?);
    let (cache, context, measured) =
        (column("kv_bytes_per_ctx_token")?, column("context")?, column("tg_tps")?);
    // Of use where it is there.
    let flop = table.header.iter().position(|known| *known == "fp16_dense_TFLOPS");
    let cell =
        |cells: &[String], at: usize| cells.get(at).map(|cell| cell.trim().to_owned()).unwrap_or_default();
    let mut known: Vec<(Graded, DeviceClass, String, Load)> = Vec::new();
    for (line, cells) in &table.rows {
        if cell(cells, measured).is_empty() {
            continue;
        }
        let number = |at: usize, column: &'static str| {
            let value: Option<f64> = cell(cells, at).parse().ok();
            let value = value.filter(|value| value.is_finite() && *value > 0.0);
            value.ok_or(GradeError::Cell { line: *line, column })
        };
        let class_word = cell(cells, class);
        let own = DeviceClass::of(&class_word).unwrap_or(DeviceClass::Unified);
        // `1024 gen` begins with nothing and ends with so many.
        let text = cell(cells, context);
        let positions: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        let mean = if text.contains("gen") { positions / 2.0 } else { positions };
        let read = number(bytes, "active_bytes_per_token_GB")? * 1e9
            + cell(cells, cache).parse::<f64>().unwrap_or(0.0) * mean;
        let format = super::quant::find_quant(&cell(cells, quant));
        let bits = format.map_or(4.85, |format| format.bits);
        let weights = number(bytes, "active_bytes_per_token_GB")? * 1e9 * 8.0 / bits;
        let tera = flop.and_then(|at| cell(cells, at).parse::<f64>().ok()).filter(|tera| *tera > 0.0);
        let load = Load {
            bytes: read,
            bytes_per_second: number(bandwidth, "mem_bw_GBps")? * 1e9,
            flop_per_second: tera.map(|tera| tera * 1e12),
            packed_weights: if bits < 16.0 { weights } else { 0.0 },
            positions: mean,
            layers: layers(&cell(cells, model), cell(cells, cache).parse().unwrap_or(0.0)),
            nodes: number(nodes, "nodes")?,
        };
        let graded = Graded {
            line: *line,
            device: cell(cells, device),
            model: format!("{} {}", cell(cells, model), cell(cells, quant)),
            nodes: load.nodes,
            measured: number(measured, "tg_tps")?,
            predicted: 0.0,
            ceiling: load.bytes_per_second / read,
        };
        known.push((graded, own, class_word, load));
    }
    if known.is_empty() {
        return Err(GradeError::Empty);
    }
    let mut fitted = BTreeMap::new();
    let mut rows = Vec::new();
    for (graded, class, word, load) in &known {
        let key = (word.clone(), graded.device.clone());
        let efficiency = *fitted.entry(key).or_insert_with(|| {
            let others =
                known.iter().filter(|(other, _, own, _)| own == word && other.device != graded.device);
            let others: Vec<(Load, f64)> =
                others.map(|(other, _, _, load)| (*load, other.measured)).collect();
            if others.len() < 8 { efficiency_of(*class) } else { fit(efficiency_of(*class), &others) }
        });
        let predicted = efficiency.decode(*load).min(graded.ceiling);
        rows.push((word.clone(), Graded { predicted, ..graded.clone() }));
    }
    let errors = |of: &dyn Fn(&str) -> bool| {
        let errors: Vec<f64> = rows.iter().filter(|(word, _)| of(word)).map(|(_, row)| row.error()).collect();
        (stats::median(&errors).unwrap_or(f64::NAN), errors.len())
    };
    let classes: std::collections::BTreeSet<String> = rows.iter().map(|(word, _)| word.clone()).collect();
    let by_class = classes.into_iter().map(|class| (class.clone(), errors(&|word| word == class))).collect();
    let decode_mdape = errors(&|_| true).0;
    let above_roofline = rows.iter().filter(|(_, row)| row.predicted > row.ceiling).count();
    let measured_above = rows.iter().filter(|(_, row)| row.measured > row.ceiling).count();
    let mut rows: Vec<Graded> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_by(|a, b| b.error().total_cmp(&a.error()));
    Ok(Grade { decode_mdape, by_class, above_roofline, measured_above, rows })
}

/// Layers of a model: of one that ships, else from its cache (eight heads of 128 in half precision are usual), else 40.
fn layers(model: &str, cache_bytes_a_position: f64) -> f64 {
    if let Some(model) = super::shipped::find_model(model) {
        return model.architecture.blocks.len() as f64;
    }
    let usual = cache_bytes_a_position / (2.0 * 8.0 * 128.0 * 2.0);
    if usual >= 1.0 { usual.round() } else { 40.0 }
}
