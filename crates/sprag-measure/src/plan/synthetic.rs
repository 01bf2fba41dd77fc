//! A GGUF file of a real shape with random weights: what a runtime does with it takes as long as with trained ones, and
//! nothing has to be downloaded. Its answers mean nothing.

use std::io::{self, Write};

use super::architecture::{Architecture, Feed, Mixer};

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticFormat {
    /// All matrices in half precision.
    F16,
    /// Blocks of 32 with 8 bits.
    Q8_0,
    /// Blocks of 32 with 4 bits; the output matrix in `Q6_K`, as llama.cpp's quantize does it.
    Q4_0,
    /// `Q4_K`, with some matrices in `Q6_K` by the rule of llama.cpp's quantize.
    Q4KM,
    /// Blocks of 256 with 6 bits.
    Q6K,
}

impl SyntheticFormat {
    /// All, with the names that people use.
    pub const ALL: [(&'static str, SyntheticFormat); 5] = [
        ("f16", SyntheticFormat::F16),
        ("q8_0", SyntheticFormat::Q8_0),
        ("q4_0", SyntheticFormat::Q4_0),
        ("q4_k_m", SyntheticFormat::Q4KM),
        ("q6_k", SyntheticFormat::Q6K),
    ];

    /// Number in `general.file_type` (llama.h).
    fn file_type(self) -> u32 {
        match self {
            SyntheticFormat::F16 => 1,
            SyntheticFormat::Q8_0 => 7,
            SyntheticFormat::Q4_0 => 2,
            SyntheticFormat::Q4KM => 15,
            SyntheticFormat::Q6K => 18,
        }
    }
}

/// Why such a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// A part that is not written.
    #[error(
        "{0} cannot be written; known are models with plain attention, dense or with experts, without biases"
    )]
    Part(&'static str),
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How a tensor is kept: its number in ggml, numbers of a block, bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    F32,
    F16,
    Q4_0,
    Q8_0,
    Q4K,
    Q6K,
}

impl Kept {
    fn parts(self) -> (u32, u64, u64) {
        match self {
            Kept::F32 => (0, 1, 4),
            Kept::F16 => (1, 1, 2),
            Kept::Q4_0 => (2, 32, 18),
            Kept::Q8_0 => (8, 32, 34),
            Kept::Q4K => (12, 256, 144),
            Kept::Q6K => (14, 256, 210),
        }
    }

    /// The widest of those that a row of this length can be kept in.
    fn for_row(self, row: u64) -> Kept {
        let fits = |kept: Kept| row.is_multiple_of(kept.parts().1);
        match self {
            kept if fits(kept) => kept,
            Kept::Q4K if fits(Kept::Q4_0) => Kept::Q4_0,
            Kept::Q6K if fits(Kept::Q8_0) => Kept::Q8_0,
            _ => Kept::F16,
        }
    }
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
    kept: Kept,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        let (_, block, size) = self.kept.parts();
        self.shape.iter().product::<u64>() / block * size
    }
}

/// Bytes at whose multiples tensors begin.
const ALIGNMENT: u64 = 32;

/// Writes the file.
///
/// # Errors
/// See [`SyntheticError`].
pub fn write_synthetic(
    model: &Architecture,
    format: SyntheticFormat,
    out: &mut impl Write,
) -> Result<(), SyntheticError> {
    let tensors = tensors(model, format)?;
    let mut header = Header::default();
    fields(model, format, &mut header);
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(header.count.to_le_bytes());
    bytes.extend(&header.bytes);
    let mut offset = 0_u64;
    for tensor in &tensors {
        text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(tensor.kept.parts().0.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    out.write_all(&bytes)?;
    let mut pools = Pools::default();
    for tensor in &tensors {
        pools.write(tensor, out)?;
    }
    Ok(())
}

fn tensors(model: &Architecture, format: SyntheticFormat) -> Result<Vec<Tensor>, SyntheticError> {
    let (main, output) = match format {
        SyntheticFormat::F16 => (Kept::F16, Kept::F16),
        SyntheticFormat::Q8_0 => (Kept::Q8_0, Kept::Q8_0),
        SyntheticFormat::Q4_0 => (Kept::Q4_0, Kept::Q6K),
        SyntheticFormat::Q4KM => (Kept::Q4K, Kept::Q6K),
        SyntheticFormat::Q6K => (Kept::Q6K, Kept::Q6K),
    };
    let (d, vocab) = (model.d_model, model.vocab);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[u64], kept: Kept| {
        all.push(Tensor { name, shape: shape.to_vec(), kept: kept.for_row(shape[0]) });
    };
    let embedding = if model.tied { output } else { main };
    add("token_embd.weight".into(), &[d, vocab], embedding);
    add("output_norm.weight".into(), &[d], Kept::F32);
    if !model.tied {
        add("output.weight".into(), &[d, vocab], output);
    }
    let layers = model.blocks.len();
    for (layer, block) in model.blocks.iter().enumerate() {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let (q, kv) = match block.mixer {
            Mixer::Attention { bias: true, .. } => return Err(SyntheticError::Part("a bias")),
            Mixer::Attention { gated: true, .. } => return Err(SyntheticError::Part("gated attention")),
            Mixer::Attention { window: Some(_), .. } => return Err(SyntheticError::Part("a window")),
            Mixer::Attention { q_heads, kv_heads, head_dim, .. } => (q_heads * head_dim, kv_heads * head_dim),
            Mixer::Latent { .. } => return Err(SyntheticError::Part("latent attention")),
            _ => return Err(SyntheticError::Part("a recurrent layer")),
        };
        // The first and the last eighth, and every third between (llama.cpp, `use_more_bits`).
        let eighth = layers / 8;
        let more = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
        let wider = if format == SyntheticFormat::Q4KM && more { Kept::Q6K } else { main };
        add(name("attn_norm"), &[d], Kept::F32);
        add(name("attn_q"), &[d, q], main);
        add(name("attn_k"), &[d, kv], main);
        add(name("attn_v"), &[d, kv], wider);
        add(name("attn_output"), &[q, d], main);
        add(name("ffn_norm"), &[d], Kept::F32);
        match block.feed {
            Feed::Dense { ff } => {
                add(name("ffn_gate"), &[d, ff], main);
                add(name("ffn_up"), &[d, ff], main);
                add(name("ffn_down"), &[ff, d], wider);
            }
            Feed::Experts { experts, ff, shared_ff: 0, .. } => {
                add(name("ffn_gate_inp"), &[d, experts], Kept::F32);
                add(name("ffn_gate_exps"), &[d, ff, experts], main);
                add(name("ffn_up_exps"), &[d, ff, experts], main);
                add(name("ffn_down_exps"), &[ff, d, experts], wider);
            }
            Feed::Experts { .. } => return Err(SyntheticError::Part("a shared expert")),
            Feed::Plain { .. } | Feed::None => return Err(SyntheticError::Part("this feed-forward network")),
        }
    }
    Ok(all)
}

#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    count: u64,
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Header {
    fn begin(&mut self, name: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        text(&mut self.bytes, name);
        self.bytes.extend(kind.to_le_bytes());
        &mut self.bytes
    }

    fn number(&mut self, name: &str, value: u64) {
        // Nothing that is counted here comes near the end of 32 bits.
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.begin(name, 4).extend(value.to_le_bytes());
    }

    fn real(&mut self, name: &str, value: f32) {
        self.begin(name, 6).extend(value.to_le_bytes());
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.begin(name, 7).push(u8::from(value));
    }

    fn word(&mut self, name: &str, value: &str) {
        text(self.begin(name, 8), value);
    }

    fn list(&mut self, name: &str, kind: u32, count: u64) -> &mut Vec<u8> {
        let bytes = self.begin(name, 9);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes
    }
}

fn fields(model: &Architecture, format: SyntheticFormat, header: &mut Header) {
    header.word("general.architecture", "llama");
    header.word("general.name", &format!("{} (random weights)", model.name));
    header.number("general.file_type", u64::from(format.file_type()));
    header.number("llama.context_length", 131_072);
    header.number("llama.embedding_length", model.d_model);
    header.number("llama.block_count", model.blocks.len() as u64);
    header.number("llama.vocab_size", model.vocab);
    header.real("llama.attention.layer_norm_rms_epsilon", 1e-5);
    header.real("llama.rope.freq_base", 500_000.0);
    if let Some(block) = model.blocks.first() {
        if let Mixer::Attention { q_heads, kv_heads, head_dim, .. } = block.mixer {
            header.number("llama.attention.head_count", q_heads);
            header.number("llama.attention.head_count_kv", kv_heads);
            header.number("llama.attention.key_length", head_dim);
            header.number("llama.attention.value_length", head_dim);
            header.number("llama.rope.dimension_count", head_dim);
        }
        match block.feed {
            Feed::Dense { ff } => header.number("llama.feed_forward_length", ff),
            Feed::Experts { experts, top_k, ff, .. } => {
                header.number("llama.feed_forward_length", ff);
                header.number("llama.expert_count", experts);
                header.number("llama.expert_used_count", top_k);
            }
            Feed::Plain { .. } | Feed::None => {}
        }
    }
    vocabulary(model.vocab, header);
}

/// A vocabulary of bytes, filled up with tokens that no text has.
fn vocabulary(vocab: u64, header: &mut Header) {
    const NAMED: [(&str, i32); 3] = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
    let token = |at: u64| match at {
        0..=2 => NAMED[at as usize].0.to_owned(),
        3..=258 => format!("<0x{:02X}>", at - 3),
        other => format!("<extra_{other}>"),
    };
    // Of the kinds of llama.h: 2 unknown, 3 control, 5 unused, 6 a byte.
    let kind = |at: u64| match at {
        0..=2 => NAMED[at as usize].1,
        3..=258 => 6,
        _ => 5,
    };
    header.word("tokenizer.ggml.model", "llama");
    let bytes = header.list("tokenizer.ggml.tokens", 8, vocab);
    (0..vocab).for_each(|at| text(bytes, &token(at)));
    let bytes = header.list("tokenizer.ggml.scores", 6, vocab);
    (0..vocab).for_each(|_| bytes.extend(0_f32.to_le_bytes()));
    let bytes = header.list("tokenizer.ggml.token_type", 5, vocab);
    (0..vocab).for_each(|at| bytes.extend(kind(at).to_le_bytes()));
    header.number("tokenizer.ggml.unknown_token_id", 0);
    header.number("tokenizer.ggml.bos_token_id", 1);
    header.number("tokenizer.ggml.eos_token_id", 2);
    header.flag("tokenizer.ggml.add_bos_token", true);
}

/// Random blocks, made once for each kind and laid end to end as often as needed, each tensor beginning elsewhere.
#[derive(Default)]
struct Pools {
    made: Vec<(Kept, Vec<u8>)>,
    random: u64,
}

/// Blocks of a pool.
const BLOCKS: usize = 1 << 14;

impl Pools {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn write(&mut self, tensor: &Tensor, out: &mut impl Write) -> io::Result<()> {
        let bytes = tensor.bytes();
        let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
        if tensor.kept == Kept::F32 && tensor.shape.len() == 1 {
            // Norms.
            for _ in 0..bytes / 4 {
                out.write_all(&1_f32.to_le_bytes())?;
            }
        } else {
            let (_, _, size) = tensor.kept.parts();
            let begin = (self.next() as usize % BLOCKS) * size as usize;
            let at = self.pool(tensor.kept);
            let pool = &self.made[at].1;
            let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
            let mut from = begin;
            while left > 0 {
                let part = left.min(pool.len() - from);
                out.write_all(&pool[from..from + part])?;
                left -= part;
                from = 0;
            }
        }
        out.write_all(&vec![0; padding as usize])
    }

    fn pool(&mut self, kept: Kept) -> usize {
        if let Some(at) = self.made.iter().position(|(known, _)| *known == kept) {
            return at;
        }
        let mut bytes = Vec::new();
        for _ in 0..BLOCKS {
            self.block(kept, &mut bytes);
        }
        self.made.push((kept, bytes));
        self.made.len() - 1
    }

    /// Random numbers with a spread of about 0.02, as trained weights have.
    fn block(&mut self, kept: Kept, bytes: &mut Vec<u8>) {
        let mut random = |count: usize, bytes: &mut Vec<u8>| {
            for _ in 0..count.div_ceil(8) {
                bytes.extend(self.next().to_le_bytes());
            }
        };
        let begin = bytes.len();
        match kept {
            Kept::F32 | Kept::F16 => {
                let part = (self.next() >> 40) as f32 / (1 << 24) as f32;
                let value = (part - 0.5) * 0.07;
                match kept {
                    Kept::F32 => bytes.extend(value.to_le_bytes()),
                    _ => bytes.extend(half(value).to_le_bytes()),
                }
            }
            Kept::Q4_0 => {
                bytes.extend(half(0.0043).to_le_bytes());
                random(16, bytes);
            }
            Kept::Q8_0 => {
                bytes.extend(half(0.000_27).to_le_bytes());
                random(32, bytes);
            }
            Kept::Q4K => {
                bytes.extend(half(0.000_14).to_le_bytes());
                bytes.extend(half(0.001).to_le_bytes());
                random(140, bytes);
                bytes.truncate(begin + 144);
            }
            Kept::Q6K => {
                random(192, bytes);
                let scales = [16_i8, -15, 14, -17, 18, 12, -16, 13, 16, -14, 15, -12, 17, 16, -18, 11];
                bytes.extend(scales.map(|scale| scale as u8));
                bytes.extend(half(0.000_07).to_le_bytes());
            }
        }
    }
}

/// The nearest number in half precision, of those that are neither tiny nor huge; others become 0.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xFF) as i32 - 127 + 15;
    if !(1..31).contains(&exponent) {
        return 0;
    }
    let rounded = (bits & 0x7F_FFFF) + 0x1000;
    let (exponent, fraction) = match rounded >> 23 {
        0 => (exponent as u32, rounded >> 13),
        _ => (exponent as u32 + 1, 0),
    };
    ((bits >> 16) & 0x8000) as u16 | ((exponent << 10) | fraction) as u16
}

#[cfg(test)]
mod tests {
    use super::super::{find_model, read_gguf};
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_the_same_model() {
        for (name, format) in SyntheticFormat::ALL {
            let mut model = find_model("Llama-3.2-1B").unwrap().architecture;
            model.vocab = 1000;
            model.blocks.truncate(3);
            let mut bytes = Vec::new();
            write_synthetic(&model, format, &mut bytes).unwrap();
            let read = read_gguf(&bytes).unwrap();
            assert_eq!(read.architecture.blocks, model.blocks, "{name}");
            assert_eq!((read.architecture.tied, read.architecture.vocab), (true, 1000));
            assert_eq!(read.params, model.params(), "{name}");
            assert!(bytes.len() as u64 > read.weight_bytes);
        }
    }

    #[test]
    fn experts_and_an_output_of_its_own_are_written() {
        let mut model = find_model("Llama-3-8B").unwrap().architecture;
        model.vocab = 300;
        model.blocks.truncate(1);
        model.blocks[0].feed =
            Feed::Experts { experts: 4, top_k: 2, ff: 256, shared_ff: 0, shared_gate: false };
        let mut bytes = Vec::new();
        write_synthetic(&model, SyntheticFormat::Q4_0, &mut bytes).unwrap();
        let read = read_gguf(&bytes).unwrap();
        assert_eq!((&read.architecture.blocks, read.architecture.tied), (&model.blocks, false));
        assert_eq!(read.params, model.params());
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        for (name, said) in [
            ("DeepSeek-V3", "latent attention"),
            ("Qwen3.5-9B", "a recurrent layer"),
            ("gpt-oss-20b", "a bias"),
            ("Gemma-3-4B", "a window"),
        ] {
            let model = find_model(name).unwrap().architecture;
            let error = write_synthetic(&model, SyntheticFormat::F16, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with(said), "{name}: {error}");
        }
    }

    #[test]
    fn halves_are_the_nearest_ones() {
        // By numpy: np.float16(x).view(np.uint16).
        for (value, bits) in
            [(1.0, 0x3C00), (-2.0, 0xC000), (0.0043, 0x1C67), (0.000_27, 0x0C6C), (0.02, 0x251F), (0.0, 0)]
        {
            assert_eq!(half(value), bits, "{value}");
        }
    }
}
