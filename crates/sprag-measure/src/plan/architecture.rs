//! What a model is made of, and what follows from that by counting.

/// What mixes positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Attention; queries may share keys and values.
    Attention {
        /// Heads of queries.
        q_heads: u64,
        /// Heads of keys and of values.
        kv_heads: u64,
        /// Width of a head.
        head_dim: u64,
        /// Positions that it looks back, where that is not all of them.
        window: Option<u64>,
        /// Its output is gated: queries are projected twice as wide.
        gated: bool,
        /// Queries, keys and values have a bias.
        bias: bool,
    },
    /// Attention over a latent (DeepSeek-AI 2024, "DeepSeek-V2": MLA): the cache holds the latent and the rotated part.
    Latent {
        /// Heads.
        heads: u64,
        /// Width of the latent of queries, where they have one.
        q_rank: Option<u64>,
        /// Width of the latent of keys and values.
        kv_rank: u64,
        /// Width of a head's part without rotation.
        nope_dim: u64,
        /// Width of the rotated part, shared by all heads.
        rope_dim: u64,
        /// Width of a head of values.
        v_dim: u64,
    },
    /// Gated DeltaNet (Yang, Kautz, Hatamizadeh 2024): a state instead of a cache.
    DeltaNet {
        /// Heads of keys.
        k_heads: u64,
        /// Heads of values.
        v_heads: u64,
        /// Width of a key.
        k_dim: u64,
        /// Width of a value.
        v_dim: u64,
        /// Positions of the convolution.
        conv: u64,
    },
}

/// What works on each position alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// One network with a gate: three matrices.
    Dense {
        /// Width inside.
        ff: u64,
    },
    /// Experts, of which some are used for each token.
    Experts {
        /// How many there are.
        experts: u64,
        /// How many are used.
        top_k: u64,
        /// Width inside of one.
        ff: u64,
        /// Width inside of those that are always used, together.
        shared_ff: u64,
        /// Those are weighted by a gate of their own.
        shared_gate: bool,
    },
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Over positions.
    pub mixer: Mixer,
    /// On each position.
    pub feed: Feed,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Its name.
    pub name: String,
    /// Width.
    pub d_model: u64,
    /// Tokens that it knows.
    pub vocab: u64,
    /// The output matrix is the embedding.
    pub tied: bool,
    /// Layers in order.
    pub blocks: Vec<Block>,
}

impl Mixer {
    fn params(self, d: u64) -> u64 {
        match self {
            Mixer::Attention { q_heads, kv_heads, head_dim, gated, bias, .. } => {
                let q = q_heads * head_dim;
                let kv = kv_heads * head_dim;
                let queries = if gated { 2 * d * q } else { d * q };
                queries + 2 * d * kv + q * d + if bias { q + 2 * kv } else { 0 }
            }
            Mixer::Latent { heads, q_rank, kv_rank, nope_dim, rope_dim, v_dim } => {
                let q = heads * (nope_dim + rope_dim);
                let queries = q_rank.map_or(d * q, |rank| d * rank + rank + rank * q);
                queries
                    + d * (kv_rank + rope_dim)
                    + kv_rank
                    + kv_rank * heads * (nope_dim + v_dim)
                    + heads * v_dim * d
            }
            Mixer::DeltaNet { k_heads, v_heads, k_dim, v_dim, conv } => {
                let (k, v) = (k_heads * k_dim, v_heads * v_dim);
                d * (2 * k + 2 * v) + 2 * d * v_heads + (2 * k + v) * conv + 2 * v_heads + v_dim + v * d
            }
        }
    }

    /// Bytes that one more token takes in the cache, at so many bytes a number.
    fn cache_bytes_a_token(self, bytes: f64) -> f64 {
        match self {
            Mixer::Attention { kv_heads, head_dim, .. } => (2 * kv_heads * head_dim) as f64 * bytes,
            Mixer::Latent { kv_rank, rope_dim, .. } => (kv_rank + rope_dim) as f64 * bytes,
            Mixer::DeltaNet { .. } => 0.0,
        }
    }

    /// Bytes of the cache at a context, a window respected.
    fn cache_bytes(self, context: u64, bytes: f64) -> f64 {
        let kept = match self {
            Mixer::Attention { window: Some(window), .. } => context.min(window),
            _ => context,
        };
        kept as f64 * self.cache_bytes_a_token(bytes)
    }

    /// Bytes of a state that does not grow: the recurrent one in fp32, as the reference and llama.cpp keep it, and the
    /// convolution's last inputs in bf16.
    fn state_bytes(self) -> f64 {
        match self {
            Mixer::DeltaNet { k_heads, v_heads, k_dim, v_dim, conv } => {
                let recurrent = v_heads * k_dim * v_dim * 4;
                let inputs = (2 * k_heads * k_dim + v_heads * v_dim) * conv.saturating_sub(1) * 2;
                (recurrent + inputs) as f64
            }
            Mixer::Attention { .. } | Mixer::Latent { .. } => 0.0,
        }
    }

    /// Operations of one token over the positions that it looks at, projections left out.
    fn mixing_flop(self, context: u64) -> f64 {
        match self {
            Mixer::Attention { q_heads, head_dim, window, .. } => {
                let seen = window.map_or(context, |window| context.min(window));
                (4 * q_heads * head_dim) as f64 * seen as f64
            }
            Mixer::Latent { heads, kv_rank, rope_dim, .. } => {
                (2 * heads * (2 * kv_rank + rope_dim)) as f64 * context as f64
            }
            Mixer::DeltaNet { v_heads, k_dim, v_dim, .. } => (7 * v_heads * k_dim * v_dim) as f64,
        }
    }
}

impl Feed {
    fn params(self, d: u64) -> u64 {
        match self {
            Feed::Dense { ff } => 3 * d * ff,
            Feed::Experts { experts, ff, shared_ff, shared_gate, .. } => {
                experts * 3 * d * ff + d * experts + 3 * d * shared_ff + if shared_gate { d } else { 0 }
            }
        }
    }

    fn active_params(self, d: u64) -> u64 {
        match self {
            Feed::Dense { .. } => self.params(d),
            Feed::Experts { experts, top_k, ff, .. } => {
                self.params(d) - (experts - top_k.min(experts)) * 3 * d * ff
            }
        }
    }
}

impl Architecture {
    /// All parameters, the embedding included.
    pub fn params(&self) -> u64 {
        let blocks: u64 =
            self.blocks.iter().map(|block| self.block(block) + block.feed.params(self.d_model)).sum();
        let ends = self.vocab * self.d_model * if self.tied { 1 } else { 2 };
        blocks + ends + self.d_model
    }

    /// Parameters that are read for one token: without the embedding, of which one row is looked up, and of experts those
    /// that are used.
    pub fn active_params(&self) -> u64 {
        let blocks: u64 =
            self.blocks.iter().map(|block| self.block(block) + block.feed.active_params(self.d_model)).sum();
        blocks + self.vocab * self.d_model + self.d_model
    }

    /// The mixer and both norms.
    fn block(&self, block: &Block) -> u64 {
        block.mixer.params(self.d_model) + 2 * self.d_model
    }

    /// Bytes of the cache for one sequence, at so many bytes a number.
    pub fn cache_bytes(&self, context: u64, bytes: f64) -> f64 {
        self.blocks.iter().map(|block| block.mixer.cache_bytes(context, bytes)).sum()
    }

    /// Bytes of states that do not grow, for one sequence.
    pub fn state_bytes(&self) -> f64 {
        self.blocks.iter().map(|block| block.mixer.state_bytes()).sum()
    }

    /// Operations of one token at a context: two for each parameter that is used, and those over positions.
    pub fn flop_a_token(&self, context: u64) -> f64 {
        let mixing: f64 = self.blocks.iter().map(|block| block.mixer.mixing_flop(context)).sum();
        2.0 * self.active_params() as f64 + mixing
    }
}
