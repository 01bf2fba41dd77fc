//! The header of a GGUF file: metadata and a list of tensors, never the weights. Source: the GGUF specification of ggml
//! (version 3; 2 differs in nothing that is read here).
//!
//! Files come from strangers: every length is checked against what is left before anything is reserved for it.

use std::collections::BTreeMap;

use super::architecture::{Architecture, Block, Feed, Mixer};

/// Why a header cannot be planned with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// It does not begin as one.
    #[error("it is no GGUF file")]
    Magic,
    /// A version that is not known here.
    #[error("it has GGUF version {0}; known are 2 and 3")]
    Version(u32),
    /// It ends within its header, or a length in it cannot be.
    #[error("its header is cut off or wrong at byte {0}")]
    Broken(usize),
    /// It names an architecture that is not known here.
    #[error("its `general.architecture` is `{0}`; known are {known}", known = KINDS.join(", "))]
    Unknown(String),
    /// A field lacks, or makes no sense.
    #[error("its `{0}` is missing or makes no sense")]
    Field(String),
    /// A format of weights that is not known here.
    #[error("tensor `{name}` has the unknown format {kind}")]
    Format {
        /// The tensor.
        name: String,
        /// Number of the format.
        kind: u32,
    },
}

/// A model as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufModel {
    /// What it is made of.
    pub architecture: Architecture,
    /// Bytes of all tensors, exactly.
    pub weight_bytes: u64,
    /// Bytes of the embedding, of which one row a token is read unless it is the output matrix too.
    pub embedding_bytes: u64,
    /// Weights.
    pub params: u64,
}

/// Architectures that are known.
const KINDS: [&str; 12] = [
    "llama",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "gemma3",
    "deepseek2",
    "gpt-oss",
    "qwen3next",
    "qwen35",
    "qwen35moe",
    "mamba",
    "rwkv7",
];

/// Most of anything that a header may count.
const MOST: u64 = 1 << 24;

enum Value {
    Number(u64),
    Real(f64),
    Text(String),
    /// Numbers of an array, or how many elements it has of another kind.
    Numbers(Vec<u64>),
    Other(u64),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], GgufError> {
        let broken = GgufError::Broken(self.at);
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let part = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(broken)?;
        self.at += part.len();
        Ok(part)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(self.take(4)?.try_into().map_or(0, u32::from_le_bytes))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(self.take(8)?.try_into().map_or(0, u64::from_le_bytes))
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// A count of things that each take at least so many bytes.
    fn count(&mut self, least: u64) -> Result<u64, GgufError> {
        let at = self.at;
        let count = self.u64()?;
        let left = (self.bytes.len() - self.at) as u64;
        if count > MOST || count.saturating_mul(least) > left {
            Err(GgufError::Broken(at))
        } else {
            Ok(count)
        }
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, GgufError> {
        let at = self.at;
        let signed = |bytes: &[u8]| {
            let mut wide = [if bytes.last().is_some_and(|last| *last > 127) { 0xFF } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            u64::try_from(i64::from_le_bytes(wide)).unwrap_or(0)
        };
        Ok(match kind {
            0 | 7 => Value::Number(u64::from(self.take(1)?[0])),
            1 => Value::Number(signed(self.take(1)?)),
            2 => Value::Number(
                self.take(2)?.try_into().map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes))),
            ),
            3 => Value::Number(signed(self.take(2)?)),
            4 => Value::Number(u64::from(self.u32()?)),
            5 => Value::Number(signed(self.take(4)?)),
            6 => Value::Real(f64::from(f32::from_bits(self.u32()?))),
            8 => Value::Text(self.text()?),
            9 if depth == 0 => {
                let kind = self.u32()?;
                let count = self.count(1)?;
                let mut numbers = Vec::new();
                for _ in 0..count {
                    // Only short lists of numbers are of use: one a layer.
                    if let Value::Number(number) = self.value(kind, depth + 1)?
                        && count <= 4096
                    {
                        numbers.push(number);
                    }
                }
                if numbers.is_empty() { Value::Other(count) } else { Value::Numbers(numbers) }
            }
            10 | 11 => Value::Number(self.u64()?),
            12 => Value::Real(f64::from_bits(self.u64()?)),
            _ => return Err(GgufError::Broken(at)),
        })
    }
}

/// Weights of a block and its bytes, by the number of the format in ggml.
fn format(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 => (1, 4),
        1 | 30 => (1, 2),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        21 => (256, 110),
        22 => (256, 82),
        23 => (256, 136),
        24 => (1, 1),
        25 => (1, 2),
        26 => (1, 4),
        27 | 28 => (1, 8),
        29 => (256, 56),
        39 => (32, 17),
        _ => return None,
    })
}

/// Reads the beginning of a file; as many bytes as the header has must be there.
///
/// # Errors
/// See [`GgufError`].
pub fn read_gguf(bytes: &[u8]) -> Result<GgufModel, GgufError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4) != Ok(b"GGUF") {
        return Err(GgufError::Magic);
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensors = reader.count(24)?;
    let pairs = reader.count(13)?;
    let mut fields = BTreeMap::new();
    for _ in 0..pairs {
        let name = reader.text()?;
        let kind = reader.u32()?;
        let value = reader.value(kind, 0)?;
        fields.insert(name, value);
    }
    let (mut weight_bytes, mut embedding_bytes, mut params, mut output) = (0_u64, 0, 0_u64, false);
    for _ in 0..tensors {
        let at = reader.at;
        let name = reader.text()?;
        let dimensions = reader.u32()?;
        if dimensions > 4 {
            return Err(GgufError::Broken(at));
        }
        let mut count = 1_u64;
        for _ in 0..dimensions {
            count = count
                .checked_mul(reader.u64()?)
                .filter(|count| *count <= 1 << 48)
                .ok_or(GgufError::Broken(at))?;
        }
        let kind = reader.u32()?;
        reader.u64()?;
        let (block, size) = format(kind).ok_or_else(|| GgufError::Format { name: name.clone(), kind })?;
        let own = count.div_ceil(block) * size;
        weight_bytes = weight_bytes.saturating_add(own);
        params = params.saturating_add(count);
        if name == "token_embd.weight" {
            embedding_bytes = own;
        }
        output |= name == "output.weight";
    }
    let architecture = architecture(&fields, !output)?;
    Ok(GgufModel { architecture, weight_bytes, embedding_bytes, params })
}

fn architecture(fields: &BTreeMap<String, Value>, tied: bool) -> Result<Architecture, GgufError> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let kind = text("general.architecture").unwrap_or_default();
    if !KINDS.contains(&kind.as_str()) {
        return Err(GgufError::Unknown(kind));
    }
    let field = |name: &str| format!("{kind}.{name}");
    let maybe = |name: &str, layer: usize| match fields.get(&field(name)) {
        Some(Value::Number(number)) => Some(*number),
        Some(Value::Numbers(numbers)) => numbers.get(layer).copied(),
        Some(Value::Real(real)) => Some(*real as u64),
        _ => None,
    };
    let number = |name: &str, layer: usize| {
        let found = maybe(name, layer).filter(|number| (1..=1 << 32).contains(number));
        found.ok_or_else(|| GgufError::Field(field(name)))
    };
    let d_model = number("embedding_length", 0)?;
    let layers = number("block_count", 0)?;
    if layers > 4096 {
        return Err(GgufError::Field(field("block_count")));
    }
    let vocab = match (maybe("vocab_size", 0), fields.get("tokenizer.ggml.tokens")) {
        (Some(vocab), _) => vocab,
        (None, Some(Value::Other(tokens))) => *tokens,
        _ => return Err(GgufError::Field(field("vocab_size"))),
    };
    let hybrid = kind.starts_with("qwen3next") || kind.starts_with("qwen35");
    let every = maybe("full_attention_interval", 0).filter(|every| *every > 0).unwrap_or(4);
    let block = |layer: usize| {
        if kind == "mamba" {
            let mixer = Mixer::Mamba {
                inner: number("ssm.inner_size", 0)?,
                state: number("ssm.state_size", 0)?,
                dt_rank: number("ssm.time_step_rank", 0)?,
                conv: number("ssm.conv_kernel", 0)?,
            };
            return Ok(Block { mixer, feed: Feed::None });
        }
        if kind == "rwkv7" {
            let mut ranks = 0;
            for rank in ["decay", "iclr", "value_residual_mix", "gate"] {
                ranks += number(&format!("attention.{rank}_lora_rank"), 0)?;
            }
            let mixer = Mixer::Rwkv7 { head_dim: number("wkv.head_size", 0)?, ranks };
            return Ok(Block { mixer, feed: Feed::Plain { ff: number("feed_forward_length", layer)? } });
        }
        let q_heads = number("attention.head_count", layer)?;
        let kv_heads = maybe("attention.head_count_kv", layer).filter(|heads| *heads > 0).unwrap_or(q_heads);
        let head_dim =
            maybe("attention.key_length", layer).filter(|width| *width > 0).unwrap_or(d_model / q_heads);
        let latent = maybe("attention.kv_lora_rank", layer).filter(|rank| *rank > 0);
        let mixer = match latent {
            _ if hybrid && !(layer as u64 + 1).is_multiple_of(every) => {
                let v_heads = number("ssm.time_step_rank", 0)?;
                Mixer::DeltaNet {
                    k_heads: number("ssm.group_count", 0)?,
                    v_heads,
                    k_dim: number("ssm.state_size", 0)?,
                    v_dim: number("ssm.inner_size", 0)? / v_heads,
                    conv: number("ssm.conv_kernel", 0)?,
                }
            }
            Some(kv_rank) => {
                let rope_dim = number("rope.dimension_count", layer)?;
                let key = maybe("attention.key_length_mla", layer).unwrap_or(head_dim);
                let value =
                    maybe("attention.value_length_mla", layer).or(maybe("attention.value_length", layer));
                Mixer::Latent {
                    heads: q_heads,
                    q_rank: maybe("attention.q_lora_rank", layer).filter(|rank| *rank > 0),
                    kv_rank,
                    nope_dim: key.saturating_sub(rope_dim),
                    rope_dim,
                    v_dim: value.unwrap_or(key),
                }
            }
            None => {
                let window = maybe("attention.sliding_window", layer).filter(|window| *window > 0);
                let slides = match kind.as_str() {
                    "gemma3" => !(layer + 1).is_multiple_of(6),
                    "gpt-oss" => layer.is_multiple_of(2),
                    _ => false,
                };
                let bias = matches!(kind.as_str(), "qwen2" | "gpt-oss");
                Mixer::Attention {
                    q_heads,
                    kv_heads,
                    head_dim,
                    window: window.filter(|_| slides),
                    gated: hybrid,
                    bias,
                }
            }
        };
        let experts = maybe("expert_count", layer).unwrap_or(0);
        let dense = maybe("leading_dense_block_count", layer).unwrap_or(0);
        let feed = if experts == 0 || (layer as u64) < dense {
            Feed::Dense { ff: number("feed_forward_length", layer)? }
        } else {
            let top_k = number("expert_used_count", layer)?;
            if top_k > experts || experts > 1 << 20 {
                return Err(GgufError::Field(field("expert_used_count")));
            }
            let ff = maybe("expert_feed_forward_length", layer).filter(|width| *width > 0);
            let ff = ff.map_or_else(|| number("feed_forward_length", layer), Ok)?;
            let shared = match maybe("expert_shared_feed_forward_length", layer).filter(|width| *width > 0) {
                Some(width) => width.min(1 << 32),
                None => maybe("expert_shared_count", layer).unwrap_or(0).saturating_mul(ff).min(1 << 32),
            };
            Feed::Experts { experts, top_k, ff, shared_ff: shared, shared_gate: hybrid && shared > 0 }
        };
        Ok(Block { mixer, feed })
    };
    let architecture = Architecture {
        name: text("general.name").unwrap_or_else(|| kind.clone()),
        d_model,
        vocab,
        tied,
        blocks: (0..layers as usize).map(block).collect::<Result<_, GgufError>>()?,
    };
    let plausible = architecture.is_plausible();
    if plausible { Ok(architecture) } else { Err(GgufError::Field(field("embedding_length"))) }
}
