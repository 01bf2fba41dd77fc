//! candle in this process: its quantised Llama.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::{Ask, BenchPlan, Runtime, Timing, likeliest, own_memory_bytes, tokens};

/// A loaded model.
pub struct Candle {
    model: ModelWeights,
    end: Option<usize>,
    vocab: u32,
}

impl Candle {
    /// Loads a GGUF file.
    pub fn load(path: &Path, plan: &BenchPlan) -> anyhow::Result<Candle> {
        let longest = plan.prompts.iter().copied().max().unwrap_or(0) + plan.generate;
        if longest as usize > MAX_SEQ_LEN {
            bail!("candle's Llama ends at {MAX_SEQ_LEN} positions; choose shorter `--prompts`");
        }
        let mut file =
            std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let content =
            Content::read(&mut file).with_context(|| format!("candle cannot read {}", path.display()))?;
        let number = |name: &str| content.metadata.get(name).and_then(|value| value.to_u32().ok());
        let end = number("tokenizer.ggml.eos_token_id").map(|end| end as usize);
        let embedding = content.tensor_infos.get("token_embd.weight");
        let vocab =
            embedding.and_then(|info| info.shape.dims().first().copied()).context("it has no embedding")?;
        let model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .with_context(|| format!("candle cannot load {}", path.display()))?;
        Ok(Candle { model, end, vocab: u32::try_from(vocab)? })
    }

    /// One step, and the likeliest token after it that is not the end.
    fn step(&mut self, tokens: &[u32], position: usize) -> anyhow::Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits: Vec<f32> = self.model.forward(&input, position)?.flatten_all()?.to_vec1()?;
        Ok(u32::try_from(likeliest(&logits, self.end))?)
    }
}

impl Runtime for Candle {
    fn name(&self) -> String {
        "candle 0.11".to_owned()
    }

    fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing> {
        let prompt = tokens(ask, self.vocab);
        self.model.clear_kv_cache();
        let began = Instant::now();
        let mut token = self.step(&prompt, 0)?;
        let prompt_seconds = began.elapsed().as_secs_f64();
        let first = Instant::now();
        for made in 1..ask.generate {
            token = self.step(&[token], (ask.prompt + made) as usize - 1)?;
        }
        Ok(Timing::whole(ask, prompt_seconds, first))
    }

    fn memory_bytes(&self) -> Option<u64> {
        own_memory_bytes()
    }
}
