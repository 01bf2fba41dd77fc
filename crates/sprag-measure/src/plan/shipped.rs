//! Models that people ask about, from their published configurations.

use super::architecture::{Architecture, Block, Feed, Mixer};

/// A model and where its figures stand.
#[derive(Clone, Debug, PartialEq)]
pub struct ShippedModel {
    /// What it is made of.
    pub architecture: Architecture,
    /// Its configuration.
    pub source: String,
}

/// Name, d_model, vocab, tied, and layers: how many, of what.
struct Row(&'static str, &'static str, u64, u64, bool, fn(u64) -> Block, u64);

fn attention(q_heads: u64, kv_heads: u64, head_dim: u64, bias: bool) -> Mixer {
    Mixer::Attention { q_heads, kv_heads, head_dim, window: None, gated: false, bias }
}

fn dense(mixer: Mixer, ff: u64) -> Block {
    Block { mixer, feed: Feed::Dense { ff } }
}

/// Three layers of Gated DeltaNet, then one of gated attention.
fn hybrid(layer: u64, heads: [u64; 4], feed: Feed) -> Block {
    let [q_heads, kv_heads, k_heads, v_heads] = heads;
    let mixer = match (layer + 1) % 4 {
        0 => Mixer::Attention { q_heads, kv_heads, head_dim: 256, window: None, gated: true, bias: false },
        _ => Mixer::DeltaNet { k_heads, v_heads, k_dim: 128, v_dim: 128, conv: 4 },
    };
    Block { mixer, feed }
}

fn experts(experts: u64, top_k: u64, ff: u64, shared_ff: u64) -> Feed {
    Feed::Experts { experts, top_k, ff, shared_ff, shared_gate: shared_ff > 0 }
}

/// DeepSeek-V3's layers, with so many experts and dense layers, and heads.
fn latent(layer: u64, dense_layers: u64, heads: u64, number: u64) -> Block {
    let mixer =
        Mixer::Latent { heads, q_rank: Some(1536), kv_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128 };
    let feed = if layer < dense_layers {
        Feed::Dense { ff: 18432 }
    } else {
        Feed::Experts { experts: number, top_k: 8, ff: 2048, shared_ff: 2048, shared_gate: false }
    };
    Block { mixer, feed }
}

/// gpt-oss: every other layer looks back 128 positions.
fn gpt_oss(layer: u64, number: u64) -> Block {
    let window = layer.is_multiple_of(2).then_some(128);
    let mixer = Mixer::Attention { q_heads: 64, kv_heads: 8, head_dim: 64, window, gated: false, bias: true };
    Block { mixer, feed: experts(number, 4, 2880, 0) }
}

/// Gemma 3: five layers look back, the sixth sees all.
fn gemma3(layer: u64, heads: [u64; 3], window: u64, ff: u64) -> Block {
    let [q_heads, kv_heads, head_dim] = heads;
    let window = (!(layer + 1).is_multiple_of(6)).then_some(window);
    dense(Mixer::Attention { q_heads, kv_heads, head_dim, window, gated: false, bias: false }, ff)
}

const ROWS: [Row; 24] = [
    Row(
        "Llama-3-8B",
        "meta-llama/Meta-Llama-3-8B",
        4096,
        128_256,
        false,
        |_| dense(attention(32, 8, 128, false), 14_336),
        32,
    ),
    Row(
        "Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B",
        4096,
        128_256,
        false,
        |_| dense(attention(32, 8, 128, false), 14_336),
        32,
    ),
    Row(
        "Llama-3-70B",
        "meta-llama/Meta-Llama-3-70B",
        8192,
        128_256,
        false,
        |_| dense(attention(64, 8, 128, false), 28_672),
        80,
    ),
    Row(
        "Llama-3.3-70B",
        "meta-llama/Llama-3.3-70B-Instruct",
        8192,
        128_256,
        false,
        |_| dense(attention(64, 8, 128, false), 28_672),
        80,
    ),
    Row(
        "Llama-3.1-405B",
        "meta-llama/Llama-3.1-405B",
        16_384,
        128_256,
        false,
        |_| dense(attention(128, 8, 128, false), 53_248),
        126,
    ),
    Row(
        "Llama-3.2-1B",
        "meta-llama/Llama-3.2-1B",
        2048,
        128_256,
        true,
        |_| dense(attention(32, 8, 64, false), 8192),
        16,
    ),
    Row(
        "Llama-3.2-3B",
        "meta-llama/Llama-3.2-3B",
        3072,
        128_256,
        true,
        |_| dense(attention(24, 8, 128, false), 8192),
        28,
    ),
    Row(
        "Llama-2-7B",
        "meta-llama/Llama-2-7b-hf",
        4096,
        32_000,
        false,
        |_| dense(attention(32, 32, 128, false), 11_008),
        32,
    ),
    Row(
        "Qwen3-8B",
        "Qwen/Qwen3-8B",
        4096,
        151_936,
        false,
        |_| dense(attention(32, 8, 128, false), 12_288),
        36,
    ),
    Row(
        "Qwen3-32B",
        "Qwen/Qwen3-32B",
        5120,
        151_936,
        false,
        |_| dense(attention(64, 8, 128, false), 25_600),
        64,
    ),
    Row(
        "Qwen3-30B-A3B",
        "Qwen/Qwen3-30B-A3B",
        2048,
        151_936,
        false,
        |_| Block { mixer: attention(32, 4, 128, false), feed: experts(128, 8, 768, 0) },
        48,
    ),
    Row(
        "Qwen3-235B-A22B",
        "Qwen/Qwen3-235B-A22B",
        4096,
        151_936,
        false,
        |_| Block { mixer: attention(64, 4, 128, false), feed: experts(128, 8, 1536, 0) },
        94,
    ),
    Row(
        "Qwen3-Next-80B-A3B",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        2048,
        151_936,
        false,
        |layer| hybrid(layer, [16, 2, 16, 32], experts(512, 10, 512, 512)),
        48,
    ),
    Row(
        "Qwen3.5-9B",
        "Qwen/Qwen3.5-9B",
        4096,
        248_320,
        false,
        |layer| hybrid(layer, [16, 4, 16, 32], Feed::Dense { ff: 12_288 }),
        32,
    ),
    Row(
        "Qwen3.5-27B",
        "Qwen/Qwen3.5-27B",
        5120,
        248_320,
        false,
        |layer| hybrid(layer, [24, 4, 16, 48], Feed::Dense { ff: 17_408 }),
        64,
    ),
    Row(
        "Qwen3.5-35B-A3B",
        "Qwen/Qwen3.5-35B-A3B",
        2048,
        248_320,
        false,
        |layer| hybrid(layer, [16, 2, 16, 32], experts(256, 8, 512, 512)),
        40,
    ),
    Row(
        "Qwen3.5-122B-A10B",
        "Qwen/Qwen3.5-122B-A10B",
        3072,
        248_320,
        false,
        |layer| hybrid(layer, [32, 2, 16, 64], experts(256, 8, 1024, 1024)),
        48,
    ),
    Row(
        "Qwen3.5-397B-A17B",
        "Qwen/Qwen3.5-397B-A17B",
        4096,
        248_320,
        false,
        |layer| hybrid(layer, [32, 2, 16, 64], experts(512, 10, 1024, 1024)),
        60,
    ),
    Row(
        "DeepSeek-V3",
        "deepseek-ai/DeepSeek-V3",
        7168,
        129_280,
        false,
        |layer| latent(layer, 3, 128, 256),
        61,
    ),
    Row(
        "Kimi-K2",
        "moonshotai/Kimi-K2-Instruct",
        7168,
        163_840,
        false,
        |layer| latent(layer, 1, 64, 384),
        61,
    ),
    Row("gpt-oss-20b", "openai/gpt-oss-20b", 2880, 201_088, false, |layer| gpt_oss(layer, 32), 24),
    Row("gpt-oss-120b", "openai/gpt-oss-120b", 2880, 201_088, false, |layer| gpt_oss(layer, 128), 36),
    Row(
        "Gemma-3-4B",
        "google/gemma-3-4b-pt",
        2560,
        262_208,
        true,
        |layer| gemma3(layer, [8, 4, 256], 1024, 10_240),
        34,
    ),
    Row(
        "Gemma-3-27B",
        "google/gemma-3-27b-pt",
        5376,
        262_208,
        true,
        |layer| gemma3(layer, [32, 16, 128], 1024, 21_504),
        62,
    ),
];

/// All of them.
pub fn models() -> Vec<ShippedModel> {
    let model = |Row(name, source, d_model, vocab, tied, block, layers): &Row| ShippedModel {
        architecture: Architecture {
            name: (*name).to_owned(),
            d_model: *d_model,
            vocab: *vocab,
            tied: *tied,
            blocks: (0..*layers).map(block).collect(),
        },
        source: format!("config.json of {source} on Hugging Face"),
    };
    ROWS.iter().map(model).collect()
}

/// The one of that name, whatever the case and the marks between its words; else the only one that has all of its words.
///
/// ```
/// use sprag_measure::plan::find_model;
/// assert_eq!(find_model("llama 3 8b").map(|model| model.architecture.name), Some("Llama-3-8B".to_owned()));
/// assert_eq!(find_model("llama-1b").map(|model| model.architecture.name), Some("Llama-3.2-1B".to_owned()));
/// assert!(find_model("llama 9").is_none() && find_model("llama").is_none());
/// ```
pub fn find_model(name: &str) -> Option<ShippedModel> {
    let plain =
        |name: &str| name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let wanted = plain(name);
    let all = models();
    if let Some(exact) = all.iter().find(|model| plain(&model.architecture.name) == wanted) {
        return Some(exact.clone());
    }
    let words = |name: &str| {
        let name = name.to_lowercase();
        name.split(['-', ' ', '_']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let wanted = words(name);
    let mut like = all.into_iter().filter(|model| {
        let own = words(&model.architecture.name);
        !wanted.is_empty() && wanted.iter().all(|word| own.contains(word))
    });
    like.next().filter(|_| like.next().is_none())
}
