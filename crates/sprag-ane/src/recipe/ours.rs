//! The recipes that we write: our own, with programs joined or not, and the public pipeline's.

use super::{Gain, Host, Kernel, Node, Recipe, Weight, What, beside, stacked, value};
use crate::config::Config;
use crate::graphs::{Graphs, Rotary};
use crate::mil::TypeError;

/// Which programs are joined into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fused {
    /// Attention and its output projection.
    pub attention_output: bool,
    /// The backward passes of all three projections.
    pub projections: bool,
}

impl Fused {
    /// All ways.
    pub const ALL: [Fused; 4] = [
        Fused { attention_output: false, projections: false },
        Fused { attention_output: true, projections: false },
        Fused { attention_output: false, projections: true },
        Fused { attention_output: true, projections: true },
    ];
}

impl Recipe {
    /// Ours: the stream stays on the host in single precision, nothing is passed through that nobody needs.
    ///
    /// # Errors
    /// When sizes do not go together.
    pub fn new(config: &Config, rotary: Rotary, fused: Fused) -> Result<Recipe, TypeError> {
        Build { config, graphs: Graphs::new(config, rotary), fused, published: false }.recipe()
    }

    /// The public pipeline's, kernel by kernel, with its pass-through and the stream in halves; only the order of shared heads is
    /// mended. For comparing and predicting.
    ///
    /// # Errors
    /// When sizes do not go together.
    pub fn published(config: &Config) -> Result<Recipe, TypeError> {
        let graphs = Graphs::new(config, Rotary::Join);
        Build { config, graphs, fused: Fused::default(), published: true }.recipe()
    }
}

/// Writes recipes.
struct Build<'a> {
    config: &'a Config,
    graphs: Graphs<'a>,
    fused: Fused,
    published: bool,
}

fn text(word: &str) -> String {
    word.to_owned()
}

impl Build<'_> {
    fn recipe(&self) -> Result<Recipe, TypeError> {
        let name = match (self.published, self.fused) {
            (true, _) => "published".to_owned(),
            (false, Fused { attention_output: false, projections: false }) => "plain".to_owned(),
            (false, Fused { attention_output, projections }) => {
                let parts = [(attention_output, "sdpa+Wo"), (projections, "q+kv backward")];
                let parts: Vec<&str> =
                    parts.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
                format!("fused {}", parts.join(", "))
            }
        };
        Ok(Recipe { name, forward: self.forward()?, backward: self.backward()? })
    }

    fn sizes(&self) -> [usize; 5] {
        let config = self.config;
        [config.d_model, config.q_dim(), config.kv_dim(), config.d_hidden, config.seq_len]
    }

    fn forward(&self) -> Result<Vec<Node>, TypeError> {
        use Weight::{Down, Gate, Key, Output, Query, Up, Value};
        let [d, q, k, h, seq] = self.sizes();
        let mut nodes =
            vec![Node::Host(Host::Norm { x: text("x"), gain: Gain::Attention, out: text("xnorm") })];
        let mut inputs = vec![
            (value("xnorm"), seq),
            (What::Turned(Query), q),
            (What::Turned(Key), k),
            (What::Turned(Value), k),
        ];
        let attention = [("attn", q), ("q", q), ("k", k), ("v", k)];
        if self.fused.attention_output {
            inputs.push((What::Turned(Output), d));
            let mut outs = vec![("o", d)];
            outs.extend(attention);
            nodes.push(Kernel::new(self.graphs.attention_output()?, beside(&inputs), &outs));
        } else {
            let mut outs = attention.to_vec();
            if self.published {
                outs.push(("", d));
            }
            nodes.push(Kernel::new(self.graphs.attention(self.published)?, beside(&inputs), &outs));
            let parts = beside(&[(value("attn"), seq), (What::Turned(Output), d)]);
            nodes.push(Kernel::new(self.graphs.linear("woFwd", q as u64, d as u64)?, parts, &[("o", d)]));
        }
        nodes.push(Node::Host(Host::Add { a: text("x"), b: text("o"), scaled: true, out: text("x2") }));
        nodes.push(Node::Host(Host::Norm { x: text("x2"), gain: Gain::Mlp, out: text("x2norm") }));
        let weights = [(What::Turned(Gate), h), (What::Turned(Up), h), (What::Weight(Down), h)];
        if self.published {
            let mut parts = vec![(value("x2norm"), seq), (value("x2"), seq)];
            parts.extend(weights);
            let outs = [("next", d), ("h1", h), ("h3", h), ("gate", h)];
            nodes.push(Kernel::new(self.graphs.mlp_residual()?, beside(&parts), &outs));
        } else {
            let mut parts = vec![(value("x2norm"), seq)];
            parts.extend(weights);
            let outs = [("down", d), ("h1", h), ("h3", h), ("gate", h)];
            nodes.push(Kernel::new(self.graphs.mlp()?, beside(&parts), &outs));
            nodes.push(Node::Host(Host::Add {
                a: text("x2"),
                b: text("down"),
                scaled: true,
                out: text("next"),
            }));
        }
        Ok(nodes)
    }

    fn backward(&self) -> Result<Vec<Node>, TypeError> {
        use Weight::{Down, Gate, Key, Output, Query, Up, Value};
        let [d, q, k, h, seq] = self.sizes();
        let square = self.config.n_head * seq;
        let gradient =
            |weight, dy: &str, x: &str| Node::Host(Host::WeightGradient { weight, dy: text(dy), x: text(x) });
        let graphs = &self.graphs;
        let mut nodes = vec![
            Node::Host(Host::Scale { x: text("d_next"), out: text("dffn") }),
            Kernel::new(
                graphs.linear("ffnBwdW2t", d as u64, h as u64)?,
                beside(&[(value("dffn"), seq), (What::Weight(Down), h)]),
                &[("dgate", h)],
            ),
            Node::Host(Host::SwigluBackward {
                h1: text("h1"),
                h3: text("h3"),
                dgate: text("dgate"),
                dh1: text("dh1"),
                dh3: text("dh3"),
            }),
            gradient(Down, "dffn", "gate"),
            Kernel::new(
                graphs.two_linear("ffnBwdW13t", h as u64, d as u64)?,
                beside(&[
                    (value("dh1"), seq),
                    (value("dh3"), seq),
                    (What::Weight(Gate), d),
                    (What::Weight(Up), d),
                ]),
                &[("dx2norm", d)],
            ),
            gradient(Gate, "dh1", "x2norm"),
            gradient(Up, "dh3", "x2norm"),
            Node::Host(Host::NormBackward {
                x: text("x2"),
                gain: Gain::Mlp,
                dy: text("dx2norm"),
                out: text("dx2_mlp"),
            }),
            Node::Host(Host::Add { a: text("d_next"), b: text("dx2_mlp"), scaled: false, out: text("dx2") }),
            Node::Host(Host::Scale { x: text("dx2"), out: text("do") }),
            Kernel::new(
                graphs.linear("wotBwd", d as u64, q as u64)?,
                beside(&[(value("do"), seq), (What::Weight(Output), q)]),
                &[("da", q)],
            ),
            gradient(Output, "do", "attn"),
        ];
        let shared = self.config.group() > 1;
        let (all_keys, all_values) = if shared { ("k_all", "v_all") } else { ("k", "v") };
        if shared {
            nodes.push(Node::Host(Host::Repeat { x: text("k"), out: text("k_all") }));
            nodes.push(Node::Host(Host::Repeat { x: text("v"), out: text("v_all") }));
        }
        let (by_keys, by_values) = if shared { ("dk_all", "dv_all") } else { ("dk_turned", "dv") };
        nodes.push(Kernel::new(
            graphs.attention_backward_1()?,
            stacked(&[("q", q), (all_keys, q), (all_values, q), ("da", q)]),
            &[(by_values, q), ("probs", square), ("dp", square)],
        ));
        nodes.push(Kernel::new(
            graphs.attention_backward_2()?,
            stacked(&[("probs", square), ("dp", square), ("q", q), (all_keys, q)]),
            &[("dq_turned", q), (by_keys, q)],
        ));
        if shared {
            nodes.push(Node::Host(Host::Gather { x: text("dv_all"), out: text("dv") }));
            nodes.push(Node::Host(Host::Gather { x: text("dk_all"), out: text("dk_turned") }));
        }
        nodes.push(Node::Host(Host::TurnBack { x: text("dq_turned"), out: text("dq") }));
        nodes.push(Node::Host(Host::TurnBack { x: text("dk_turned"), out: text("dk") }));
        nodes.extend([
            gradient(Query, "dq", "xnorm"),
            gradient(Key, "dk", "xnorm"),
            gradient(Value, "dv", "xnorm"),
        ]);
        if self.fused.projections {
            let parts = [
                (value("dq"), seq),
                (value("dk"), seq),
                (value("dv"), seq),
                (What::Weight(Query), d),
                (What::Weight(Key), d),
                (What::Weight(Value), d),
            ];
            nodes.push(Kernel::new(graphs.projections_backward()?, beside(&parts), &[("dxnorm", d)]));
        } else {
            nodes.push(Kernel::new(
                graphs.linear("qBwd", q as u64, d as u64)?,
                beside(&[(value("dq"), seq), (What::Weight(Query), d)]),
                &[("dxnorm_q", d)],
            ));
            nodes.push(Kernel::new(
                graphs.two_linear("kvBwd", k as u64, d as u64)?,
                beside(&[
                    (value("dk"), seq),
                    (value("dv"), seq),
                    (What::Weight(Key), d),
                    (What::Weight(Value), d),
                ]),
                &[("dxnorm_kv", d)],
            ));
            nodes.push(Node::Host(Host::Add {
                a: text("dxnorm_q"),
                b: text("dxnorm_kv"),
                scaled: false,
                out: text("dxnorm"),
            }));
        }
        nodes.push(Node::Host(Host::NormBackward {
            x: text("x"),
            gain: Gain::Attention,
            dy: text("dxnorm"),
            out: text("dx_attn"),
        }));
        nodes.push(Node::Host(Host::Add {
            a: text("dx2"),
            b: text("dx_attn"),
            scaled: false,
            out: text("d_x"),
        }));
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recipes_fit_all_configurations() {
        for name in crate::config::NAMES {
            let config = Config::of(name).unwrap();
            assert_eq!(Recipe::published(&config).unwrap().check(&config), Ok(()), "{name}");
            for fused in Fused::ALL {
                for rotary in [Rotary::Join, Rotary::Permute] {
                    let recipe = Recipe::new(&config, rotary, fused).unwrap();
                    assert_eq!(recipe.check(&config), Ok(()), "{name} {}", recipe.name);
                }
            }
        }
        let config = Config::of("gpt_karpathy").unwrap();
        let dispatches = |fused| Recipe::new(&config, Rotary::Join, fused).unwrap().kernels().count();
        assert_eq!(Fused::ALL.map(dispatches), [10, 9, 9, 8]);
    }
}
