//! How one layer of the GPT is computed: which programs the Neural Engine runs, what each input holds and where, what the host
//! does between. The one file that is edited to make a training step faster.
//!
//! Sizes: D = d_model, Q and K = channels of all query and key heads, H = d_hidden, S = seq_len. Values are `[channels, S]` in
//! single precision on the host and halves on the device. A program has one input `[1, channels, 1, places]`, which holds values
//! and weights side by side (or values one below the other), and one output, which is read from its first channel on.
//!
//! Forth, `x` is given and `next` is wanted; back, `d_next` is given, and `d_x` and the gradients of all weights are wanted.

use sprag_ane::config::Config;
use sprag_ane::graphs::{Graphs, Rotary};
use sprag_ane::mil::{Builder, Program, Scalar, TypeError};
use sprag_ane::recipe::{Gain, Host, Kernel, Node, Recipe, Weight, beside, stacked, turned, value, weight};

// --- Fusion ---

/// Attention and its output projection are one program.
/// knob: choice true|false
const FUSE_ATTENTION_OUTPUT: bool = false;

/// The backward passes of query, key and value projection are one program.
/// knob: choice true|false
const FUSE_PROJECTIONS_BACKWARD: bool = false;

// --- Where it is computed ---

/// The gradient of `silu(h1) h3` is computed on the device rather than on the host.
/// knob: choice true|false
const SWIGLU_BACKWARD_ON_DEVICE: bool = false;

// --- Form ---

/// Rotary embeddings by a product with a permutation rather than by slices that are joined again.
/// knob: choice true|false
const ROTARY_BY_PRODUCT: bool = false;

/// The layer.
pub fn recipe(config: &Config) -> Result<Recipe, TypeError> {
    let rotary = if ROTARY_BY_PRODUCT { Rotary::Permute } else { Rotary::Join };
    let graphs = Graphs::new(config, rotary);
    Ok(Recipe {
        name: "layer".to_owned(),
        forward: forward(config, &graphs)?,
        backward: backward(config, &graphs)?,
    })
}

fn forward(config: &Config, graphs: &Graphs<'_>) -> Result<Vec<Node>, TypeError> {
    let (d, q, k, h, s) = (config.d_model, config.q_dim(), config.kv_dim(), config.d_hidden, config.seq_len);
    let mut nodes = vec![norm("x", Gain::Attention, "xnorm")];

    // [D, S + Q + 2 K]: the normed stream, then the projections, turned to [in, out].
    let mut input = vec![
        (value("xnorm"), s),
        (turned(Weight::Query), q),
        (turned(Weight::Key), k),
        (turned(Weight::Value), k),
    ];
    if FUSE_ATTENTION_OUTPUT {
        input.push((turned(Weight::Output), d)); // [Q, D]
        let output = [("o", d), ("attn", q), ("q", q), ("k", k), ("v", k)];
        nodes.push(Kernel::new(graphs.attention_output()?, beside(&input), &output));
    } else {
        let output = [("attn", q), ("q", q), ("k", k), ("v", k)];
        nodes.push(Kernel::new(graphs.attention(false)?, beside(&input), &output));
        let input = beside(&[(value("attn"), s), (turned(Weight::Output), d)]); // [Q, S + D]
        nodes.push(Kernel::new(graphs.linear("woFwd", q as u64, d as u64)?, input, &[("o", d)]));
    }
    nodes.push(add("x", "o", true, "x2")); // the stream stays in single precision

    nodes.push(norm("x2", Gain::Mlp, "x2norm"));
    // [D, S + 3 H]
    let input = beside(&[
        (value("x2norm"), s),
        (turned(Weight::Gate), h),
        (turned(Weight::Up), h),
        (weight(Weight::Down), h),
    ]);
    nodes.push(Kernel::new(graphs.mlp()?, input, &[("down", d), ("h1", h), ("h3", h), ("gate", h)]));
    nodes.push(add("x2", "down", true, "next"));
    Ok(nodes)
}

fn backward(config: &Config, graphs: &Graphs<'_>) -> Result<Vec<Node>, TypeError> {
    let (d, q, k, h, s) = (config.d_model, config.q_dim(), config.kv_dim(), config.d_hidden, config.seq_len);
    let square = config.n_head * s; // channels of all attention weights
    let shared = config.group() > 1;

    // The MLP.
    let mut nodes = vec![scale("d_next", "dffn")];
    let input = beside(&[(value("dffn"), s), (weight(Weight::Down), h)]); // [D, S + H]
    nodes.push(Kernel::new(graphs.linear("ffnBwdW2t", d as u64, h as u64)?, input, &[("dgate", h)]));
    nodes.push(gradient(Weight::Down, "dffn", "gate"));
    if SWIGLU_BACKWARD_ON_DEVICE {
        let input = stacked(&[("h1", h), ("h3", h), ("dgate", h)]); // [3 H, S]
        nodes.push(Kernel::new(swiglu_backward(config)?, input, &[("dh1", h), ("dh3", h)]));
    } else {
        let [h1, h3, dgate, dh1, dh3] = ["h1", "h3", "dgate", "dh1", "dh3"].map(str::to_owned);
        nodes.push(Node::Host(Host::SwigluBackward { h1, h3, dgate, dh1, dh3 }));
    }
    let input =
        beside(&[(value("dh1"), s), (value("dh3"), s), (weight(Weight::Gate), d), (weight(Weight::Up), d)]); // [H, 2 S + 2 D]
    nodes.push(Kernel::new(graphs.two_linear("ffnBwdW13t", h as u64, d as u64)?, input, &[("dx2norm", d)]));
    nodes.push(gradient(Weight::Gate, "dh1", "x2norm"));
    nodes.push(gradient(Weight::Up, "dh3", "x2norm"));
    nodes.push(norm_backward("x2", Gain::Mlp, "dx2norm", "dx2_mlp"));
    nodes.push(add("d_next", "dx2_mlp", false, "dx2"));

    // Attention: its weights are computed again rather than kept.
    nodes.push(scale("dx2", "do"));
    let input = beside(&[(value("do"), s), (weight(Weight::Output), q)]); // [D, S + Q]
    nodes.push(Kernel::new(graphs.linear("wotBwd", d as u64, q as u64)?, input, &[("da", q)]));
    nodes.push(gradient(Weight::Output, "do", "attn"));
    let (keys, values, by_keys, by_values) =
        if shared { ("k_all", "v_all", "dk_all", "dv_all") } else { ("k", "v", "dk_turned", "dv") };
    if shared {
        nodes.push(Node::Host(Host::Repeat { x: "k".to_owned(), out: "k_all".to_owned() }));
        nodes.push(Node::Host(Host::Repeat { x: "v".to_owned(), out: "v_all".to_owned() }));
    }
    let input = stacked(&[("q", q), (keys, q), (values, q), ("da", q)]); // [4 Q, S]
    let output = [(by_values, q), ("probs", square), ("dp", square)];
    nodes.push(Kernel::new(graphs.attention_backward_1()?, input, &output));
    let input = stacked(&[("probs", square), ("dp", square), ("q", q), (keys, q)]);
    nodes.push(Kernel::new(graphs.attention_backward_2()?, input, &[("dq_turned", q), (by_keys, q)]));
    if shared {
        nodes.push(Node::Host(Host::Gather { x: "dv_all".to_owned(), out: "dv".to_owned() }));
        nodes.push(Node::Host(Host::Gather { x: "dk_all".to_owned(), out: "dk_turned".to_owned() }));
    }
    nodes.push(Node::Host(Host::TurnBack { x: "dq_turned".to_owned(), out: "dq".to_owned() }));
    nodes.push(Node::Host(Host::TurnBack { x: "dk_turned".to_owned(), out: "dk".to_owned() }));
    nodes.push(gradient(Weight::Query, "dq", "xnorm"));
    nodes.push(gradient(Weight::Key, "dk", "xnorm"));
    nodes.push(gradient(Weight::Value, "dv", "xnorm"));
    if FUSE_PROJECTIONS_BACKWARD {
        let input = beside(&[
            (value("dq"), s),
            (value("dk"), s),
            (value("dv"), s),
            (weight(Weight::Query), d),
            (weight(Weight::Key), d),
            (weight(Weight::Value), d),
        ]); // [Q, 3 S + 3 D]
        nodes.push(Kernel::new(graphs.projections_backward()?, input, &[("dxnorm", d)]));
    } else {
        let input = beside(&[(value("dq"), s), (weight(Weight::Query), d)]); // [Q, S + D]
        nodes.push(Kernel::new(graphs.linear("qBwd", q as u64, d as u64)?, input, &[("dxnorm_q", d)]));
        let input = beside(&[
            (value("dk"), s),
            (value("dv"), s),
            (weight(Weight::Key), d),
            (weight(Weight::Value), d),
        ]); // [K, 2 S + 2 D]
        nodes.push(Kernel::new(graphs.two_linear("kvBwd", k as u64, d as u64)?, input, &[("dxnorm_kv", d)]));
        nodes.push(add("dxnorm_q", "dxnorm_kv", false, "dxnorm"));
    }
    nodes.push(norm_backward("x", Gain::Attention, "dxnorm", "dx_attn"));
    nodes.push(add("dx2", "dx_attn", false, "d_x"));
    Ok(nodes)
}

/// `h1, h3, dgate` `[3 H, S]` to `dh1, dh3` `[2 H, S]`: a program of one's own.
fn swiglu_backward(config: &Config) -> Result<sprag_ane::graphs::Graph, TypeError> {
    let (h, s) = (config.d_hidden as u64, config.seq_len as u64);
    let mut f = Builder::new();
    let x = f.input("x", Scalar::Fp16, &[1, 3 * h, 1, s]);
    let h1 = f.channels("h1", &x, 0, h);
    let h3 = f.channels("h3", &x, h, h);
    let dgate = f.channels("dgate", &x, 2 * h, h);
    let open = f.unary("sigmoid", "open", &h1);
    let silu = f.mul("silu", &h1, &open);
    let dh3 = f.mul("dh3", &dgate, &silu);
    let one = f.number(1.0, &open);
    let shut = f.sub("shut", &one, &open);
    let bend = f.mul("bend", &silu, &shut);
    let slope = f.add("slope", &open, &bend); // silu' = open + silu (1 - open)
    let dsilu = f.mul("dsilu", &dgate, &h3);
    let dh1 = f.mul("dh1", &dsilu, &slope);
    let y = f.concat("y", &[&dh1, &dh3], 1);
    let program: Program = f.finish(&[&y])?;
    Ok(sprag_ane::graphs::Graph { name: "swigluBwd".to_owned(), program, weights: Default::default() })
}

fn norm(x: &str, gain: Gain, out: &str) -> Node {
    Node::Host(Host::Norm { x: x.to_owned(), gain, out: out.to_owned() })
}

fn norm_backward(x: &str, gain: Gain, dy: &str, out: &str) -> Node {
    Node::Host(Host::NormBackward { x: x.to_owned(), gain, dy: dy.to_owned(), out: out.to_owned() })
}

fn add(a: &str, b: &str, scaled: bool, out: &str) -> Node {
    Node::Host(Host::Add { a: a.to_owned(), b: b.to_owned(), scaled, out: out.to_owned() })
}

fn scale(x: &str, out: &str) -> Node {
    Node::Host(Host::Scale { x: x.to_owned(), out: out.to_owned() })
}

fn gradient(weight: Weight, dy: &str, x: &str) -> Node {
    Node::Host(Host::WeightGradient { weight, dy: dy.to_owned(), x: x.to_owned() })
}
