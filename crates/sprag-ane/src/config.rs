//! Sizes of the models that are trained: GPTs with RMSNorm, rotary embeddings in pairs of neighbours, grouped queries, SwiGLU and
//! a tied head.

use serde::{Deserialize, Serialize};

/// A model's sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Channels of the residual stream.
    pub d_model: usize,
    /// Channels inside the MLP.
    pub d_hidden: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; `n_head` is a multiple.
    pub n_kv_head: usize,
    /// Channels of a head; even.
    pub head_dim: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Layers.
    pub n_layer: usize,
    /// Ids of tokens.
    pub vocab: usize,
}

/// Why sizes make no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Parameters of the largest model that is taken.
const MOST_PARAMETERS: u128 = 1 << 36;

/// Names of the configurations that there are.
pub const NAMES: [&str; 6] =
    ["tiny", "small", "gpt_karpathy", "gpt_autoresearch", "stories110m", "qwen3_06b"];

impl Config {
    /// One of the configurations of the public projects, or one of two small ones of our own.
    ///
    /// # Errors
    /// The names that there are.
    pub fn of(name: &str) -> Result<Config, ConfigError> {
        let (d_model, d_hidden, heads, head_dim, seq_len, n_layer, vocab) = match name {
            "tiny" => (64, 192, (4, 2), 16, 64, 2, 512),
            "small" => (256, 704, (4, 2), 64, 256, 4, 4096),
            // ncdrone/autoresearch-ANE and maderix/ANE.
            "gpt_karpathy" => (768, 2048, (6, 6), 128, 512, 6, 8192),
            "gpt_autoresearch" => (768, 2048, (6, 6), 128, 256, 8, 32_768),
            "stories110m" => (768, 2048, (12, 12), 64, 256, 12, 32_000),
            "qwen3_06b" => (1024, 3072, (16, 8), 128, 256, 28, 151_936),
            _ => {
                return Err(ConfigError(format!(
                    "there is no configuration `{name}`; there are {}",
                    NAMES.join(", ")
                )));
            }
        };
        let (n_head, n_kv_head) = heads;
        Ok(Config {
            name: name.to_owned(),
            d_model,
            d_hidden,
            n_head,
            n_kv_head,
            head_dim,
            seq_len,
            n_layer,
            vocab,
        })
    }

    /// Checks that the sizes go together, and that rows of surfaces are whole.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |problem: String| Err(ConfigError(format!("`{}`: {problem}", self.name)));
        let sizes = [
            ("d_model", self.d_model),
            ("d_hidden", self.d_hidden),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
            ("head_dim", self.head_dim),
            ("seq_len", self.seq_len),
            ("n_layer", self.n_layer),
            ("vocab", self.vocab),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=1 << 24).contains(size)) {
            return wrong(format!("{name} is {size}"));
        }
        if self.wide_parameters() > MOST_PARAMETERS {
            return wrong(format!(
                "it has {} parameters, and {MOST_PARAMETERS} are the most",
                self.wide_parameters()
            ));
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            return wrong(format!("{} query heads cannot share {} key heads", self.n_head, self.n_kv_head));
        }
        if !self.head_dim.is_multiple_of(2) {
            return wrong(format!("a head has {} channels, and rotary embeddings turn pairs", self.head_dim));
        }
        for (name, size) in
            [("seq_len", self.seq_len), ("d_model", self.d_model), ("d_hidden", self.d_hidden)]
        {
            if !size.is_multiple_of(32) {
                return wrong(format!(
                    "{name} is {size}, and rows of surfaces are multiples of 32 halves (R25)"
                ));
            }
        }
        Ok(())
    }

    /// Channels of all query heads.
    pub fn q_dim(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Channels of all key heads.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Query heads that share a key and a value head.
    pub fn group(&self) -> usize {
        self.n_head / self.n_kv_head
    }

    /// What each part of a layer is scaled by before it is added to the stream: `1 / sqrt(2 n_layer)`.
    pub fn alpha(&self) -> f32 {
        (1.0 / (2.0 * self.n_layer as f64).sqrt()) as f32
    }

    /// Numbers that are trained.
    pub fn parameters(&self) -> usize {
        usize::try_from(self.wide_parameters()).unwrap_or(usize::MAX)
    }

    /// Sizes of strangers may multiply to more than any memory has.
    fn wide_parameters(&self) -> u128 {
        let [d, q, k, h, layers, vocab] =
            [self.d_model, self.q_dim(), self.kv_dim(), self.d_hidden, self.n_layer, self.vocab]
                .map(|size| size as u128);
        layers * (2 * q * d + 2 * k * d + 3 * h * d + 2 * d) + d + vocab * d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes_have_their_published_parameters() {
        // In millions, as ncdrone/autoresearch-ANE and maderix/ANE tell them.
        for (name, millions) in
            [("gpt_karpathy", 48.8), ("gpt_autoresearch", 81.8), ("stories110m", 109.5), ("qwen3_06b", 596.0)]
        {
            let config = Config::of(name).unwrap();
            assert_eq!(config.check(), Ok(()));
            let found = config.parameters() as f64 / 1e6;
            assert!((found / millions - 1.0).abs() < 0.002, "{name}: {found}");
        }
        assert!(Config::of("huge").unwrap_err().to_string().contains("tiny, small"));
    }

    #[test]
    fn sizes_that_do_not_go_together_are_named() {
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::of("tiny").unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(with(&|config| config.n_kv_head = 3).contains("cannot share 3"));
        assert!(with(&|config| config.head_dim = 15).contains("turn pairs"));
        assert!(with(&|config| config.seq_len = 60).contains("R25"));
        assert!(with(&|config| config.vocab = 0).contains("vocab is 0"));
        let huge = with(&|config| {
            (config.d_model, config.d_hidden, config.n_layer) = (1 << 23, 1 << 23, 1 << 23);
            (config.n_head, config.n_kv_head, config.head_dim) = (1 << 23, 1 << 23, 1 << 23);
        });
        assert!(huge.contains("are the most"), "{huge}");
    }
}
