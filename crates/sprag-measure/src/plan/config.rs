//! A model's `config.json`, as on Hugging Face.

use serde_json::Value;

use super::architecture::{Architecture, Block, Feed, Mixer};

/// Why a configuration cannot be planned with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Syntax(String),
    /// It names an architecture that is not known here.
    #[error("`model_type` is `{found}`; known are {known}")]
    Unknown {
        /// What it says.
        found: String,
        /// What is supported.
        known: String,
    },
    /// A field lacks, or is not a whole number that makes sense.
    #[error("`{0}` is missing or no whole number above 0")]
    Field(String),
    /// Fields contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// Largest number that a field may have: more is an error or an attack.
const MOST: u64 = 1 << 32;
/// Most layers.
const MOST_LAYERS: u64 = 4096;

const DENSE: [&str; 8] = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_text", "phi3"];
const EXPERTS: [&str; 4] = ["mixtral", "qwen3_moe", "gpt_oss", "qwen2_moe"];
const LATENT: [&str; 3] = ["deepseek_v2", "deepseek_v3", "kimi_k2"];
const STATE: [&str; 4] = ["mamba", "falcon_mamba", "mamba2", "rwkv7"];
const HYBRID: [&str; 6] =
    ["qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next_moe"];

/// The `model_type`s that are known.
pub fn supported() -> Vec<&'static str> {
    [&DENSE[..], &EXPERTS, &LATENT, &HYBRID, &STATE].concat()
}

/// Reads one.
///
/// # Errors
/// See [`ConfigError`]; it names the field.
pub fn from_config(text: &str, name: &str) -> Result<Architecture, ConfigError> {
    let whole: Value = serde_json::from_str(text).map_err(|cause| ConfigError::Syntax(cause.to_string()))?;
    // Of models that see, the part that speaks.
    let fields = Fields(if whole["text_config"].is_object() { &whole["text_config"] } else { &whole });
    let kind = fields.0["model_type"].as_str().or(whole["model_type"].as_str()).unwrap_or_default();
    if !supported().contains(&kind) {
        return Err(ConfigError::Unknown { found: kind.to_owned(), known: supported().join(", ") });
    }
    let d_model = fields.number("hidden_size")?;
    let layers = fields.number("num_hidden_layers")?;
    if layers > MOST_LAYERS {
        return Err(ConfigError::Field("num_hidden_layers".into()));
    }
    let blocks =
        (0..layers).map(|layer| block(&fields, kind, d_model, layer)).collect::<Result<Vec<_>, _>>()?;
    // Families whose configuration leaves it out tie the output to the embedding.
    let tied = kind.starts_with("gemma") || kind.starts_with("mamba");
    let architecture = Architecture {
        name: name.to_owned(),
        d_model,
        vocab: fields.number("vocab_size")?,
        tied: fields.flag("tie_word_embeddings").or(whole["tie_word_embeddings"].as_bool()).unwrap_or(tied),
        blocks,
    };
    if architecture.is_plausible() {
        Ok(architecture)
    } else {
        Err(ConfigError::Contradiction("its numbers make a model that cannot be".to_owned()))
    }
}

struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn number(&self, name: &str) -> Result<u64, ConfigError> {
        self.maybe(name)?.filter(|value| *value > 0).ok_or_else(|| ConfigError::Field(name.into()))
    }

    /// `None` where it is absent or null.
    fn maybe(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        let value = &self.0[name];
        if value.is_null() {
            return Ok(None);
        }
        let number = value.as_u64().filter(|number| *number <= MOST);
        number.map(Some).ok_or_else(|| ConfigError::Field(name.into()))
    }

    fn or(&self, name: &str, default: u64) -> Result<u64, ConfigError> {
        Ok(self.maybe(name)?.unwrap_or(default))
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.0[name].as_bool()
    }
}

fn block(fields: &Fields<'_>, kind: &str, d_model: u64, layer: u64) -> Result<Block, ConfigError> {
    if STATE.contains(&kind) {
        return state_space(fields, kind, d_model);
    }
    let mixer =
        if LATENT.contains(&kind) { latent(fields)? } else { attention(fields, kind, d_model, layer)? };
    Ok(Block { mixer, feed: feed(fields, kind, layer)? })
}

/// Models without attention.
fn state_space(fields: &Fields<'_>, kind: &str, d_model: u64) -> Result<Block, ConfigError> {
    if kind == "rwkv7" {
        let mut ranks = 0;
        for name in ["decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim"] {
            ranks += fields.number(name)?;
        }
        let ff = match fields.maybe("intermediate_size")? {
            Some(ff) if ff > 0 => ff,
            _ => 4 * d_model,
        };
        let mixer = Mixer::Rwkv7 { head_dim: fields.or("head_dim", 64)?, ranks };
        return Ok(Block { mixer, feed: Feed::Plain { ff } });
    }
    let inner = match fields.maybe("intermediate_size")? {
        Some(inner) if inner > 0 => inner,
        _ => fields.or("expand", 2)?.saturating_mul(d_model),
    };
    let conv = fields.or("conv_kernel", 4)?;
    let mixer = if kind == "mamba2" {
        let (heads, head_dim) = (fields.number("num_heads")?, fields.or("head_dim", 64)?);
        Mixer::Mamba2 {
            heads,
            head_dim,
            state: fields.number("state_size")?,
            groups: fields.or("n_groups", 1)?,
            conv,
        }
    } else {
        let automatic = fields.0["time_step_rank"].as_str() == Some("auto");
        let dt_rank = if automatic { d_model.div_ceil(16) } else { fields.number("time_step_rank")? };
        Mixer::Mamba { inner, state: fields.number("state_size")?, dt_rank, conv }
    };
    Ok(Block { mixer, feed: Feed::None })
}

fn attention(fields: &Fields<'_>, kind: &str, d_model: u64, layer: u64) -> Result<Mixer, ConfigError> {
    let hybrid = HYBRID.contains(&kind);
    let every = fields.or("full_attention_interval", 4)?.max(1);
    let named = fields.0["layer_types"][layer as usize].as_str();
    let linear = named.map_or(!(layer + 1).is_multiple_of(every), |named| named == "linear_attention");
    if hybrid && linear {
        return Ok(Mixer::DeltaNet {
            k_heads: fields.number("linear_num_key_heads")?,
            v_heads: fields.number("linear_num_value_heads")?,
            k_dim: fields.number("linear_key_head_dim")?,
            v_dim: fields.number("linear_value_head_dim")?,
            conv: fields.or("linear_conv_kernel_dim", 4)?,
        });
    }
    let q_heads = fields.number("num_attention_heads")?;
    let kv_heads = fields.or("num_key_value_heads", q_heads)?.max(1);
    if !q_heads.is_multiple_of(kv_heads) {
        let text = format!("{q_heads} heads of queries cannot share {kv_heads} of keys and values");
        return Err(ConfigError::Contradiction(text));
    }
    let head_dim = match fields.maybe("head_dim")? {
        Some(width) if width > 0 => width,
        _ => d_model / q_heads,
    };
    let window = fields.maybe("sliding_window")?.filter(|window| *window > 0);
    let slides = match named {
        Some(named) => named == "sliding_attention",
        // Patterns of families whose configuration does not name each layer.
        None if kind == "gemma2" => layer.is_multiple_of(2),
        None if kind.starts_with("gemma3") => {
            let pattern = fields.or("sliding_window_pattern", 6)?.max(1);
            !(layer + 1).is_multiple_of(pattern)
        }
        None if kind == "gpt_oss" => layer.is_multiple_of(2),
        None => fields.flag("use_sliding_window").unwrap_or(kind == "mistral"),
    };
    Ok(Mixer::Attention {
        q_heads,
        kv_heads,
        head_dim,
        window: window.filter(|_| slides),
        gated: hybrid,
        bias: fields.flag("attention_bias").unwrap_or(matches!(kind, "qwen2" | "qwen2_moe" | "gpt_oss")),
    })
}

fn latent(fields: &Fields<'_>) -> Result<Mixer, ConfigError> {
    Ok(Mixer::Latent {
        heads: fields.number("num_attention_heads")?,
        q_rank: fields.maybe("q_lora_rank")?.filter(|rank| *rank > 0),
        kv_rank: fields.number("kv_lora_rank")?,
        nope_dim: fields.number("qk_nope_head_dim")?,
        rope_dim: fields.number("qk_rope_head_dim")?,
        v_dim: fields.number("v_head_dim")?,
    })
}

fn feed(fields: &Fields<'_>, kind: &str, layer: u64) -> Result<Feed, ConfigError> {
    let dense = || Ok(Feed::Dense { ff: fields.number("intermediate_size")? });
    let names = ["num_experts", "num_local_experts", "n_routed_experts"];
    let mut experts = 0;
    for name in names {
        experts = experts.max(fields.or(name, 0)?);
    }
    if experts == 0 || DENSE.contains(&kind) {
        return dense();
    }
    if layer < fields.or("first_k_dense_replace", 0)? {
        return dense();
    }
    let top_k = match fields.maybe("num_experts_per_tok")? {
        Some(top_k) if top_k > 0 => top_k,
        _ => fields.number("experts_per_token")?,
    };
    if top_k > experts {
        return Err(ConfigError::Contradiction(format!("{top_k} of {experts} experts cannot be used")));
    }
    let ff = match fields.maybe("moe_intermediate_size")? {
        Some(ff) if ff > 0 => ff,
        _ => fields.number("intermediate_size")?,
    };
    let shared = match fields.maybe("shared_expert_intermediate_size")? {
        Some(width) => width,
        None => fields.or("n_shared_experts", 0)?.saturating_mul(ff),
    };
    let shared_gate = shared > 0 && !LATENT.contains(&kind);
    Ok(Feed::Experts { experts, top_k, ff, shared_ff: shared, shared_gate })
}
