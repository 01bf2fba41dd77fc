//! llama.cpp in this process (`llama-cpp-2`).

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::{Ask, BenchPlan, Runtime, Timing, likeliest, own_memory_bytes, tokens};

/// Tokens that are given to it at once.
const BATCH: usize = 512;

/// A loaded model with a context.
pub struct Llama {
    context: LlamaContext<'static>,
    model: &'static LlamaModel,
}

impl Llama {
    /// Loads a GGUF file.
    pub fn load(path: &Path, plan: &BenchPlan) -> anyhow::Result<Llama> {
        let mut backend = LlamaBackend::init().context("start llama.cpp")?;
        backend.void_logs();
        let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default())
            .with_context(|| format!("llama.cpp cannot load {}", path.display()))?;
        // The worker ends with its one model: both live as long as it.
        let backend: &'static LlamaBackend = Box::leak(Box::new(backend));
        let model: &'static LlamaModel = Box::leak(Box::new(model));
        let longest = plan.prompts.iter().copied().max().unwrap_or(0) + plan.generate + 8;
        let threads = i32::try_from(plan.threads).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(longest.next_multiple_of(256)))
            .with_n_batch(BATCH as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let context = model.new_context(backend, params).context("llama.cpp cannot make a context")?;
        Ok(Llama { context, model })
    }

    /// The likeliest token that is not an end.
    fn choose(&self, logits: &[f32]) -> LlamaToken {
        let end = usize::try_from(self.model.vocab().eos().0).ok();
        let best = i32::try_from(likeliest(logits, end)).unwrap_or(0);
        LlamaToken(best)
    }
}

impl Runtime for Llama {
    fn name(&self) -> String {
        let native =
            if cfg!(target_feature = "avx512f") || cfg!(target_feature = "avx2") { ", native" } else { "" };
        format!("llama.cpp (llama-cpp-2{native})")
    }

    fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing> {
        let vocab = u32::try_from(self.model.n_vocab()).unwrap_or(1);
        let prompt: Vec<LlamaToken> =
            tokens(ask, vocab).into_iter().map(|id| LlamaToken(id as i32)).collect();
        self.context.clear_kv_cache();
        let mut batch = LlamaBatch::new(BATCH, 1);
        let began = Instant::now();
        let mut position = 0;
        for chunk in prompt.chunks(BATCH) {
            batch.clear();
            for token in chunk {
                let last = position + 1 == prompt.len() as i32;
                batch.add(*token, position, &[0], last).context("fill a batch")?;
                position += 1;
            }
            self.context.decode(&mut batch).context("llama.cpp cannot read the prompt")?;
        }
        let mut token = self.choose(self.context.get_logits_ith(batch.n_tokens() - 1));
        let prompt_seconds = began.elapsed().as_secs_f64();
        let first = Instant::now();
        for _ in 1..ask.generate {
            batch.clear();
            batch.add(token, position, &[0], true).context("fill a batch")?;
            position += 1;
            self.context.decode(&mut batch).context("llama.cpp cannot decode")?;
            token = self.choose(self.context.get_logits_ith(0));
        }
        Ok(Timing::whole(ask, prompt_seconds, first))
    }

    fn memory_bytes(&self) -> Option<u64> {
        own_memory_bytes()
    }
}
