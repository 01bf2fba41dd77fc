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
    /// A selective state space (Gu, Dao 2023, "Mamba").
    Mamba {
        /// Width inside.
        inner: u64,
        /// Numbers of state a channel.
        state: u64,
        /// Rank of the step's projection.
        dt_rank: u64,
        /// Positions of the convolution.
        conv: u64,
    },
    /// Its second form, with heads (Dao, Gu 2024, "Transformers are SSMs").
    Mamba2 {
        /// Heads.
        heads: u64,
        /// Width of a head.
        head_dim: u64,
        /// Numbers of state a channel.
        state: u64,
        /// Groups of heads that share what goes into the state and comes out.
        groups: u64,
        /// Positions of the convolution.
        conv: u64,
    },
    /// The mixing over time of RWKV-7 (Peng et al. 2025, "Goose").
    Rwkv7 {
        /// Width of a head; its state is a square of that.
        head_dim: u64,
        /// Ranks of decay, learning rate, value mix and gate, summed.
        ranks: u64,
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
    /// One network without a gate: two matrices, and a mix with the token before.
    Plain {
        /// Width inside.
        ff: u64,
    },
    /// Nothing: the mixer does it all.
    None,
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
            Mixer::Mamba { inner, state, dt_rank, conv } => {
                let step = inner * (dt_rank + 2 * state) + dt_rank * inner + inner;
                3 * d * inner + inner * (conv + 1) + step + inner * state + inner
            }
            Mixer::Mamba2 { heads, head_dim, state, groups, conv } => {
                let inner = heads * head_dim;
                let both = 2 * groups * state;
                d * (2 * inner + both + heads) + (inner + both) * (conv + 1) + 3 * heads + inner + inner * d
            }
            // Four square matrices, both halves of the low ranks with their biases, and vectors.
            Mixer::Rwkv7 { ranks, .. } => 4 * d * d + 2 * d * ranks + 14 * d,
        }
    }

    /// Bytes that one more token takes in the cache, at so many bytes a number.
    fn cache_bytes_a_token(self, bytes: f64) -> f64 {
        match self {
            Mixer::Attention { kv_heads, head_dim, .. } => (2 * kv_heads * head_dim) as f64 * bytes,
            Mixer::Latent { kv_rank, rope_dim, .. } => (kv_rank + rope_dim) as f64 * bytes,
            Mixer::DeltaNet { .. } | Mixer::Mamba { .. } | Mixer::Mamba2 { .. } | Mixer::Rwkv7 { .. } => 0.0,
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
    fn state_bytes(self, d: u64) -> f64 {
        let inputs = |width: u64, conv: u64| width * conv.saturating_sub(1) * 2;
        let bytes = match self {
            Mixer::DeltaNet { k_heads, v_heads, k_dim, v_dim, conv } => {
                v_heads * k_dim * v_dim * 4 + inputs(2 * k_heads * k_dim + v_heads * v_dim, conv)
            }
            Mixer::Mamba { inner, state, conv, .. } => inner * state * 4 + inputs(inner, conv),
            Mixer::Mamba2 { heads, head_dim, state, groups, conv } => {
                heads * head_dim * state * 4 + inputs(heads * head_dim + 2 * groups * state, conv)
            }
            // A square a head, and the token before for both halves of the layer.
            Mixer::Rwkv7 { head_dim, .. } => d * head_dim * 4 + 2 * d * 2,
            Mixer::Attention { .. } | Mixer::Latent { .. } => 0,
        };
        bytes as f64
    }

    /// Operations of one token over the positions that it looks at, projections left out.
    fn mixing_flop(self, d: u64, context: u64) -> f64 {
        match self {
            Mixer::Attention { q_heads, head_dim, window, .. } => {
                let seen = window.map_or(context, |window| context.min(window));
                (4 * q_heads * head_dim) as f64 * seen as f64
            }
            Mixer::Latent { heads, kv_rank, rope_dim, .. } => {
                (2 * heads * (2 * kv_rank + rope_dim)) as f64 * context as f64
            }
            Mixer::DeltaNet { v_heads, k_dim, v_dim, .. } => (7 * v_heads * k_dim * v_dim) as f64,
            Mixer::Mamba { inner, state, .. } => (7 * inner * state) as f64,
            Mixer::Mamba2 { heads, head_dim, state, .. } => (6 * heads * head_dim * state) as f64,
            Mixer::Rwkv7 { head_dim, .. } => (9 * d * head_dim) as f64,
        }
    }
}

impl Feed {
    fn params(self, d: u64) -> u64 {
        match self {
            Feed::Dense { ff } => 3 * d * ff,
            Feed::Plain { ff } => 2 * d * ff + d,
            Feed::None => 0,
            Feed::Experts { experts, ff, shared_ff, shared_gate, .. } => {
                experts * 3 * d * ff + d * experts + 3 * d * shared_ff + if shared_gate { d } else { 0 }
            }
        }
    }

    /// Those that are read for some tokens at once: of experts as many as are expected to be wanted by one of them, where
    /// each token chooses on its own.
    fn read_params(self, d: u64, tokens: f64) -> f64 {
        let all = self.params(d) as f64;
        match self {
            Feed::Dense { .. } | Feed::Plain { .. } | Feed::None => all,
            Feed::Experts { experts, top_k, ff, .. } => {
                let (experts, top_k) = (experts as f64, top_k.min(experts) as f64);
                let unread = experts * (1.0 - top_k / experts).powf(tokens);
                all - unread * (3 * d * ff) as f64
            }
        }
    }
}

/// Most parameters that are believed.
const MOST_PARAMS: f64 = 1e15;

impl Architecture {
    /// False for one that cannot be: the counting of this module would overflow. Whoever reads a stranger's file asks
    /// this first.
    pub fn is_plausible(&self) -> bool {
        let real = |numbers: &[u64]| numbers.iter().map(|number| *number as f64).product::<f64>();
        let widest = |block: &Block| {
            let mixer = match block.mixer {
                Mixer::Attention { q_heads, head_dim, .. } => real(&[q_heads, head_dim]),
                Mixer::Latent { heads, q_rank, kv_rank, nope_dim, rope_dim, v_dim } => {
                    let ranks = q_rank.unwrap_or(1).max(kv_rank);
                    let dims = nope_dim.max(rope_dim).max(v_dim);
                    real(&[heads, dims]) * (ranks as f64 / self.d_model as f64).max(1.0)
                }
                Mixer::DeltaNet { k_heads, v_heads, k_dim, v_dim, conv } => {
                    real(&[k_heads.max(v_heads), k_dim.max(v_dim), conv]).max(real(&[v_heads, k_dim, v_dim]))
                }
                Mixer::Mamba { inner, state, dt_rank, conv } => real(&[inner, state.max(dt_rank).max(conv)]),
                Mixer::Mamba2 { heads, head_dim, state, groups, conv } => {
                    real(&[heads, head_dim, state, conv]).max(real(&[groups, state, conv]))
                }
                Mixer::Rwkv7 { head_dim, ranks } => real(&[head_dim.max(ranks)]).max(self.d_model as f64),
            };
            let feed = match block.feed {
                Feed::Dense { ff } | Feed::Plain { ff } => ff as f64,
                Feed::None => 0.0,
                Feed::Experts { experts, ff, shared_ff, .. } => real(&[experts, ff]) + shared_ff as f64,
            };
            mixer + feed
        };
        let inside: f64 = self.blocks.iter().map(widest).sum();
        self.d_model > 0 && self.d_model as f64 * (inside + self.vocab as f64) < MOST_PARAMS
    }

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
        self.read_params(1.0).round() as u64
    }

    /// Parameters that are read for some tokens at once, one of each sequence: experts are shared where tokens choose alike.
    pub fn read_params(&self, tokens: f64) -> f64 {
        let d = self.d_model;
        let blocks: f64 = self
            .blocks
            .iter()
            .map(|block| self.block(block) as f64 + block.feed.read_params(d, tokens))
            .sum();
        blocks + (self.vocab * d + d) as f64
    }

    /// The mixer and its norms.
    fn block(&self, block: &Block) -> u64 {
        let norms = match (block.mixer, block.feed) {
            (_, Feed::None) => 1,
            // With their biases.
            (Mixer::Rwkv7 { .. }, _) => 4,
            _ => 2,
        };
        block.mixer.params(self.d_model) + norms * self.d_model
    }

    /// Layers that look at the whole context.
    pub fn attending_layers(&self) -> f64 {
        let whole = |block: &&Block| {
            matches!(block.mixer, Mixer::Attention { window: None, .. } | Mixer::Latent { .. })
        };
        self.blocks.iter().filter(whole).count() as f64
    }

    /// Parameters of each layer that are read for one token.
    pub fn layer_active_params(&self) -> Vec<f64> {
        let read = |block: &Block| self.block(block) as f64 + block.feed.read_params(self.d_model, 1.0);
        self.blocks.iter().map(read).collect()
    }

    /// Bytes of cache and state that each layer holds of one sequence.
    pub fn layer_context_bytes(&self, context: u64, bytes: f64) -> Vec<f64> {
        let held =
            |block: &Block| block.mixer.cache_bytes(context, bytes) + block.mixer.state_bytes(self.d_model);
        self.blocks.iter().map(held).collect()
    }

    /// Operations over positions of each layer, for one token.
    pub fn layer_mixing_flop(&self, context: u64) -> Vec<f64> {
        self.blocks.iter().map(|block| block.mixer.mixing_flop(self.d_model, context)).collect()
    }

    /// What forbids splitting every layer over so many nodes: heads and widths must divide.
    pub fn cannot_be_split(&self, nodes: u64) -> Vec<String> {
        let mut why = Vec::new();
        let mut check = |what: &str, count: u64| {
            let text = format!("{count} {what} do not divide by {nodes}");
            if !count.is_multiple_of(nodes) && !why.contains(&text) {
                why.push(text);
            }
        };
        for block in &self.blocks {
            match block.mixer {
                Mixer::Attention { q_heads, kv_heads, .. } => {
                    check("heads of queries", q_heads);
                    // Fewer heads than nodes are held more than once.
                    if kv_heads >= nodes || !nodes.is_multiple_of(kv_heads) {
                        check("heads of keys and values", kv_heads);
                    }
                }
                Mixer::Latent { heads, .. } => check("heads", heads),
                Mixer::DeltaNet { k_heads, v_heads, .. } => {
                    check("heads of keys in Gated DeltaNet", k_heads);
                    check("heads of values in Gated DeltaNet", v_heads);
                }
                Mixer::Mamba { inner, .. } => check("inner channels", inner),
                Mixer::Mamba2 { heads, .. } => check("heads", heads),
                Mixer::Rwkv7 { head_dim, .. } => check("heads", self.d_model / head_dim.max(1)),
            }
            match block.feed {
                Feed::Dense { ff } | Feed::Plain { ff } => check("inner widths", ff),
                Feed::Experts { ff, shared_ff, .. } => {
                    check("inner widths of an expert", ff);
                    check("inner widths of the shared expert", shared_ff);
                }
                Feed::None => {}
            }
        }
        why
    }

    /// The part of caches that each of so many nodes holds when every layer is split: heads that are fewer than nodes, and
    /// latents, are held more than once.
    pub fn context_share(&self, nodes: u64) -> f64 {
        let shares = self.blocks.iter().map(|block| match block.mixer {
            Mixer::Attention { kv_heads, .. } => 1.0 / nodes.min(kv_heads.max(1)) as f64,
            Mixer::Latent { .. } => 1.0,
            _ => 1.0 / nodes as f64,
        });
        shares.fold(0.0, f64::max)
    }

    /// A dense model of the shape of the Llamas: `layers` of width 128 x `layers`, heads of 128, eight of keys and values,
    /// inner width 3.5 x the outer one, 128,256 tokens.
    pub fn dense(layers: u64) -> Architecture {
        let d_model = 128 * layers;
        let mixer = Mixer::Attention {
            q_heads: layers,
            kv_heads: 8.min(layers),
            head_dim: 128,
            window: None,
            gated: false,
            bias: false,
        };
        Architecture {
            name: format!("dense, {layers} layers"),
            d_model,
            vocab: 128_256,
            tied: false,
            blocks: vec![Block { mixer, feed: Feed::Dense { ff: d_model * 7 / 2 } }; layers as usize],
        }
    }

    /// Bytes of the cache for one sequence, at so many bytes a number.
    pub fn cache_bytes(&self, context: u64, bytes: f64) -> f64 {
        self.blocks.iter().map(|block| block.mixer.cache_bytes(context, bytes)).sum()
    }

    /// Bytes of states that do not grow, for one sequence.
    pub fn state_bytes(&self) -> f64 {
        self.blocks.iter().map(|block| block.mixer.state_bytes(self.d_model)).sum()
    }

    /// Operations of one token at a context: two for each parameter that is used, and those over positions.
    pub fn flop_a_token(&self, context: u64) -> f64 {
        2.0 * self.active_params() as f64 + self.mixing_flop(context)
    }

    /// Operations of one token of a prompt of so many, in the mean: it looks at half of them, and the output matrix is needed
    /// for the last one alone.
    pub fn prompt_flop_a_token(&self, prompt: u64) -> f64 {
        let output = 2.0 * (self.vocab * self.d_model) as f64;
        self.flop_a_token(prompt / 2) - output + output / prompt.max(1) as f64
    }

    /// Of those the ones over positions.
    pub fn mixing_flop(&self, context: u64) -> f64 {
        self.blocks.iter().map(|block| block.mixer.mixing_flop(self.d_model, context)).sum()
    }
}
