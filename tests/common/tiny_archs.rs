//! Tiny random models of every architecture beside llama, made in memory, with what real models
//! have: fewer key heads than query heads, windows shorter than the prompt, 2 of 8 experts, odd
//! scales, rotation of a part of each head.
//!
//! Each has a twin in F32 as in [`super::tiny`]. To add one: a line in [`SPECS`] with the tensors
//! and keys that its files have, then `tests/tools/tiny_goldens.py`.

use powerinfer::gguf::{Array, Magic, Value, Writer};
use powerinfer::quant::QuantType::{self, BF16, F16, F32, Q4_0, Q4_1, Q8_0};
use powerinfer::quant::dequantize_row;

use super::tiny::{Rng, Tensor, quantized, vocabulary_keys, write};

/// Where the attention's input matrices are, and their biases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Qkv {
    Apart { bias: bool },
    Fused { bias: bool },
}

/// What the norms of queries and keys are as wide as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkNorm {
    None,
    /// One head; all have the same weights.
    Head,
    /// One head; each has its own weights.
    OwnHead,
    /// All heads together.
    All,
}

/// Matrices of the feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ffn {
    Gated,
    /// `ffn_up` holds gate and up.
    GatedFused,
    Plain,
    /// 2 of 8 experts.
    Experts,
    /// The same with biases.
    ExpertsWithBiases,
    /// The same and one that computes every token.
    ExpertsAndShared,
}

/// A key after `<arch>.` and its value.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    U(&'static str, u32),
    F(&'static str, f32),
    S(&'static str, &'static str),
    B(&'static str, bool),
    L(&'static str, &'static [&'static str]),
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub arch: &'static str,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub head_dim: usize,
    pub n_rot: usize,
    pub qkv: Qkv,
    pub qk_norm: QkNorm,
    pub out_bias: bool,
    /// Norms of a layer.
    pub norms: &'static [&'static str],
    /// Layer norms with this bias, or RMS norms.
    pub layer_norm: Option<bool>,
    pub ffn: Ffn,
    pub ffn_bias: bool,
    pub tied: bool,
    /// Rows of the table of positions; 0 for none.
    pub learned_positions: usize,
    /// Normed embeddings.
    pub embd_norm: bool,
    /// Bias of `output`.
    pub output_bias: bool,
    pub sinks: bool,
    /// `rope_factors_long` and `rope_factors_short`.
    pub long_rope: bool,
    /// Factors on the products of all matrices of layers.
    pub scales: bool,
    /// `powerinfer.activation`, if not empty.
    pub activation: &'static str,
    /// Several residual streams, and inputs that each layer has for itself.
    pub altup: bool,
    /// Normed embeddings with token types; no norm and no logits at the end.
    pub encoder: bool,
    /// Matrices of the classifier, with their outputs.
    pub classifier: &'static [(&'static str, usize)],
    pub keys: &'static [Key],
    pub seed: u64,
}

pub const N_VOCAB: usize = 96;
pub const N_EMBD: usize = 64;
const N_FF: usize = 96;
const N_FF_EXP: usize = 32;
const N_EXPERT: usize = 8;
// What llama.cpp takes for given of Gemma 3n.
const N_STREAMS: usize = 4;
const N_EMBD_PER_LAYER: usize = 256;
const LAUREL_RANK: usize = 64;
const TYPES: &[QuantType] = &[F16, Q8_0, BF16, Q4_1, F32, Q4_0];

const LLAMA: Spec = Spec {
    name: "llama",
    arch: "llama",
    n_layer: 3,
    n_head: 4,
    n_head_kv: 2,
    head_dim: 16,
    n_rot: 16,
    qkv: Qkv::Apart { bias: false },
    qk_norm: QkNorm::None,
    out_bias: false,
    norms: &["attn_norm", "ffn_norm"],
    layer_norm: None,
    ffn: Ffn::Gated,
    ffn_bias: false,
    tied: false,
    learned_positions: 0,
    embd_norm: false,
    output_bias: false,
    sinks: false,
    long_rope: false,
    scales: false,
    activation: "",
    altup: false,
    encoder: false,
    classifier: &[],
    keys: &[],
    seed: 0,
};

const SANDWICH: &[&str] = &["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"];
const BITNET: Spec = Spec {
    name: "bitnet",
    arch: "bitnet",
    norms: &["attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm"],
    scales: true,
    tied: true,
    seed: 130,
    ..LLAMA
};
const PARALLEL: Spec = Spec { layer_norm: Some(true), norms: &["attn_norm"], ..LLAMA };
const YARN: [Key; 3] = [
    Key::S("rope.scaling.type", "yarn"),
    Key::F("rope.scaling.factor", 4.0),
    Key::U("rope.scaling.original_context_length", 64),
];
const EXPERTS: [Key; 3] = [
    Key::U("expert_count", 8),
    Key::U("expert_used_count", 2),
    Key::U("expert_feed_forward_length", 32),
];

/// All models that have goldens.
pub const SPECS: &[Spec] = &[
    Spec { name: "arcee", arch: "arcee", ffn: Ffn::Plain, seed: 101, ..LLAMA },
    Spec { name: "bamboo", arch: "bamboo", seed: 126, ..LLAMA },
    BITNET,
    Spec { name: "bitnet-b1.58", arch: "bitnet-b1.58", seed: 131, ..BITNET },
    Spec {
        name: "command-r",
        arch: "command-r",
        layer_norm: Some(false),
        tied: true,
        keys: &[Key::F("logit_scale", 0.25)],
        seed: 102,
        ..PARALLEL
    },
    Spec {
        name: "falcon-7b",
        arch: "falcon",
        n_head_kv: 1,
        qkv: Qkv::Fused { bias: false },
        ffn: Ffn::Plain,
        tied: true,
        seed: 103,
        ..PARALLEL
    },
    Spec {
        name: "falcon-40b",
        arch: "falcon",
        norms: &["attn_norm", "attn_norm_2"],
        qkv: Qkv::Fused { bias: false },
        ffn: Ffn::Plain,
        seed: 104,
        ..PARALLEL
    },
    Spec { name: "gemma", arch: "gemma", head_dim: 32, n_rot: 32, tied: true, seed: 105, ..LLAMA },
    Spec {
        name: "gemma2",
        arch: "gemma2",
        norms: SANDWICH,
        tied: true,
        n_layer: 4,
        keys: &[
            Key::U("attention.sliding_window", 12),
            Key::F("attn_logit_softcapping", 2.0),
            Key::F("final_logit_softcapping", 5.0),
        ],
        seed: 106,
        ..LLAMA
    },
    Spec {
        name: "gemma3",
        arch: "gemma3",
        norms: SANDWICH,
        qk_norm: QkNorm::Head,
        tied: true,
        n_layer: 4,
        head_dim: 32,
        n_rot: 32,
        n_head_kv: 1,
        keys: &[
            Key::U("attention.sliding_window", 12),
            Key::U("attention.sliding_window_pattern", 3),
            Key::F("rope.freq_base", 1e6),
            Key::S("rope.scaling.type", "linear"),
            Key::F("rope.scaling.factor", 8.0),
        ],
        seed: 107,
        ..LLAMA
    },
    Spec {
        name: "gemma3n",
        arch: "gemma3n",
        norms: SANDWICH,
        qk_norm: QkNorm::Head,
        tied: true,
        altup: true,
        // The last two see keys and values of the 19th and 20th.
        n_layer: 22,
        keys: &[
            Key::U("attention.sliding_window", 12),
            Key::U("attention.sliding_window_pattern", 2),
            Key::U("attention.shared_kv_layers", 2),
            Key::U("altup.num_inputs", 4),
            Key::U("altup.active_idx", 0),
            Key::U("embedding_length_per_layer_input", N_EMBD_PER_LAYER as u32),
            Key::F("rope.freq_base", 1e6),
            Key::F("final_logit_softcapping", 30.0),
        ],
        seed: 133,
        ..LLAMA
    },
    Spec {
        name: "glm4",
        arch: "glm4",
        norms: SANDWICH,
        n_rot: 8,
        qkv: Qkv::Apart { bias: true },
        ffn: Ffn::GatedFused,
        seed: 108,
        ..LLAMA
    },
    Spec {
        name: "gpt2",
        arch: "gpt2",
        n_head_kv: 4,
        layer_norm: Some(true),
        qkv: Qkv::Fused { bias: true },
        out_bias: true,
        ffn: Ffn::Plain,
        ffn_bias: true,
        tied: true,
        learned_positions: 256,
        seed: 109,
        ..LLAMA
    },
    Spec {
        name: "gpt-oss",
        arch: "gpt-oss",
        norms: &["attn_norm", "post_attention_norm"],
        qkv: Qkv::Apart { bias: true },
        out_bias: true,
        ffn: Ffn::ExpertsWithBiases,
        sinks: true,
        n_layer: 4,
        keys: &[
            EXPERTS[0],
            EXPERTS[1],
            EXPERTS[2],
            YARN[0],
            YARN[1],
            YARN[2],
            Key::U("attention.sliding_window", 12),
        ],
        seed: 310, // no router that rounding turns
        ..LLAMA
    },
    Spec {
        name: "granite",
        arch: "granite",
        out_bias: true,
        ffn_bias: true,
        tied: true,
        keys: &[
            Key::F("embedding_scale", 3.0),
            Key::F("residual_scale", 0.3),
            Key::F("attention.scale", 0.125),
            Key::F("logit_scale", 4.0),
        ],
        seed: 111,
        ..LLAMA
    },
    Spec { name: "llama-relu", activation: "relu", seed: 132, ..LLAMA },
    Spec {
        name: "mixtral",
        ffn: Ffn::Experts,
        keys: &[EXPERTS[0], EXPERTS[1], Key::U("feed_forward_length", 32)],
        seed: 412, // no router that rounding turns
        ..LLAMA
    },
    Spec {
        name: "mistral3",
        arch: "mistral3",
        keys: &[
            YARN[0],
            YARN[1],
            Key::U("rope.scaling.original_context_length", 32),
            Key::F("rope.scaling.yarn_log_multiplier", 1.0),
            Key::F("attention.temperature_scale", 0.3),
        ],
        seed: 113,
        ..LLAMA
    },
    Spec {
        name: "nemotron",
        arch: "nemotron",
        n_rot: 8,
        layer_norm: Some(true),
        ffn: Ffn::Plain,
        seed: 114,
        ..LLAMA
    },
    Spec {
        name: "olmo2",
        arch: "olmo2",
        norms: &["post_attention_norm", "post_ffw_norm"],
        qk_norm: QkNorm::All,
        seed: 115,
        ..LLAMA
    },
    Spec {
        name: "olmo3",
        arch: "olmo2",
        norms: &["post_attention_norm", "post_ffw_norm"],
        qk_norm: QkNorm::All,
        n_layer: 4,
        keys: &[YARN[0], YARN[1], YARN[2], Key::U("attention.sliding_window", 12)],
        seed: 116,
        ..LLAMA
    },
    Spec {
        name: "opt",
        arch: "opt",
        n_head_kv: 4,
        layer_norm: Some(true),
        qkv: Qkv::Apart { bias: true },
        out_bias: true,
        ffn: Ffn::Plain,
        ffn_bias: true,
        tied: true,
        learned_positions: 258,
        seed: 127,
        ..LLAMA
    },
    Spec {
        name: "phi3-long",
        arch: "phi3",
        qkv: Qkv::Fused { bias: false },
        ffn: Ffn::GatedFused,
        long_rope: true,
        keys: &[
            Key::U("rope.scaling.original_context_length", 64),
            Key::F("rope.scaling.attn_factor", 1.19),
        ],
        seed: 117,
        ..LLAMA
    },
    Spec {
        name: "phi3-short",
        arch: "phi3",
        n_head_kv: 4,
        n_rot: 12,
        qkv: Qkv::Fused { bias: false },
        ffn: Ffn::GatedFused,
        long_rope: true,
        keys: &[Key::U("rope.scaling.original_context_length", 256)],
        seed: 118,
        ..LLAMA
    },
    Spec {
        name: "qwen2",
        arch: "qwen2",
        qkv: Qkv::Apart { bias: true },
        tied: true,
        seed: 119,
        ..LLAMA
    },
    Spec {
        name: "qwen3",
        arch: "qwen3",
        head_dim: 32,
        n_rot: 32,
        qk_norm: QkNorm::Head,
        tied: true,
        seed: 120,
        ..LLAMA
    },
    Spec {
        name: "qwen2moe",
        arch: "qwen2moe",
        qkv: Qkv::Apart { bias: true },
        ffn: Ffn::ExpertsAndShared,
        keys: &[
            EXPERTS[0],
            EXPERTS[1],
            EXPERTS[2],
            Key::U("expert_shared_feed_forward_length", 64),
        ],
        seed: 121,
        ..LLAMA
    },
    Spec {
        name: "qwen3moe",
        arch: "qwen3moe",
        qk_norm: QkNorm::Head,
        ffn: Ffn::Experts,
        keys: &EXPERTS,
        seed: 222,
        ..LLAMA
    },
    Spec {
        name: "stablelm",
        arch: "stablelm",
        n_head_kv: 4,
        n_rot: 4,
        layer_norm: Some(true),
        qkv: Qkv::Apart { bias: true },
        seed: 123,
        ..LLAMA
    },
    Spec {
        name: "stablelm-12b",
        arch: "stablelm",
        n_rot: 4,
        qk_norm: QkNorm::OwnHead,
        seed: 124,
        ..PARALLEL
    },
    Spec {
        name: "bloom",
        arch: "bloom",
        n_head_kv: 4,
        layer_norm: Some(true),
        qkv: Qkv::Fused { bias: true },
        out_bias: true,
        ffn: Ffn::Plain,
        ffn_bias: true,
        tied: true,
        embd_norm: true,
        seed: 126,
        ..LLAMA
    },
    Spec {
        name: "phi2",
        arch: "phi2",
        n_head_kv: 4,
        n_rot: 8,
        qkv: Qkv::Apart { bias: true },
        out_bias: true,
        ffn: Ffn::Plain,
        ffn_bias: true,
        output_bias: true,
        seed: 127,
        ..PARALLEL
    },
    Spec {
        name: "smallthinker",
        arch: "smallthinker",
        ffn: Ffn::Experts,
        n_layer: 5,
        keys: &[
            EXPERTS[0],
            EXPERTS[1],
            EXPERTS[2],
            Key::U("attention.sliding_window", 4096),
            Key::U("expert_gating_func", 2),
        ],
        seed: 229,
        ..LLAMA
    },
    Spec { name: "smollm3", arch: "smollm3", n_layer: 4, tied: true, seed: 128, ..LLAMA },
    Spec {
        name: "starcoder2",
        arch: "starcoder2",
        layer_norm: Some(true),
        qkv: Qkv::Apart { bias: true },
        out_bias: true,
        ffn: Ffn::Plain,
        ffn_bias: true,
        tied: true,
        seed: 125,
        ..LLAMA
    },
];

const BERT: Spec = Spec {
    name: "bert",
    arch: "bert",
    qkv: Qkv::Apart { bias: true },
    out_bias: true,
    norms: &["attn_output_norm", "layer_output_norm"],
    layer_norm: Some(true),
    ffn: Ffn::Plain,
    ffn_bias: true,
    learned_positions: 256,
    embd_norm: true,
    encoder: true,
    classifier: &[("cls", N_EMBD), ("cls.output", 3)],
    keys: &[
        Key::B("attention.causal", false),
        Key::U("pooling_type", 2),
        Key::L("classifier.output_labels", &["red", "green", "blue"]),
    ],
    seed: 301,
    ..LLAMA
};

/// Models that have goldens of their embeddings: encoders, and a decoder that ranks.
pub const EMBEDDERS: &[Spec] = &[
    BERT,
    Spec {
        name: "bert-fused",
        n_head_kv: 4,
        qkv: Qkv::Fused { bias: true },
        classifier: &[("cls.output", 1)],
        keys: &[Key::B("attention.causal", false)],
        seed: 302,
        ..BERT
    },
    Spec {
        name: "nomic-bert",
        arch: "nomic-bert",
        n_head_kv: 4,
        qkv: Qkv::Fused { bias: false },
        out_bias: false,
        ffn: Ffn::Gated,
        ffn_bias: false,
        learned_positions: 0,
        classifier: &[],
        keys: &[
            Key::B("attention.causal", false),
            Key::U("pooling_type", 1),
            Key::F("rope.freq_base", 1000.0),
        ],
        seed: 303,
        ..BERT
    },
    Spec {
        name: "qwen3-reranker",
        arch: "qwen3",
        qk_norm: QkNorm::Head,
        tied: true,
        classifier: &[("cls.output", 2)],
        keys: &[Key::U("pooling_type", 4), Key::L("classifier.output_labels", &["yes", "no"])],
        seed: 304,
        ..LLAMA
    },
];

/// The file.
pub fn bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec), &tensors(spec, false))
}

/// The same numbers for the truth: all F32.
pub fn twin_bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec), &tensors(spec, true))
}

/// The file with other keys and tensors than it should have.
pub fn edited_bytes(spec: &Spec, edit: impl FnOnce(&mut Writer, &mut Vec<Tensor>)) -> Vec<u8> {
    let (mut keys, mut tensors) = (keys(spec), tensors(spec, false));
    edit(&mut keys, &mut tensors);
    write(&keys, &tensors)
}

/// The model of this name.
pub fn spec(name: &str) -> Spec {
    *SPECS.iter().chain(EMBEDDERS).find(|s| s.name == name).unwrap()
}

struct Tensors {
    twin: bool,
    rng: Rng,
    n_matrices: usize,
    all: Vec<Tensor>,
}

impl Tensors {
    fn push(&mut self, name: String, dims: &[usize], ty: QuantType, numbers: &[f32]) {
        let data = quantized(ty, numbers);
        self.all.push(Tensor { name, dims: dims.to_vec(), ty, data });
    }

    fn vector(&mut self, name: String, dims: &[usize], mean: f32, deviation: f32) {
        let numbers = self.rng.numbers(dims.iter().product(), mean, deviation);
        self.push(name, dims, F32, &numbers);
    }

    fn bias(&mut self, name: String, dims: &[usize]) {
        self.vector(name, dims, 0.0, 0.3);
    }

    /// Matrices `[n_in, n_out, ..]` whose products of unit inputs are about `gain` large.
    fn matrix(&mut self, name: String, dims: &[usize], gain: f32) {
        let n = dims.iter().product();
        let numbers = self.rng.numbers(n, 0.0, gain / (dims[0] as f32).sqrt());
        let ty = TYPES[self.n_matrices % TYPES.len()];
        self.n_matrices += 1;
        if !self.twin {
            return self.push(name, dims, ty, &numbers);
        }
        let mut exact = vec![0.0; n];
        dequantize_row(ty, &quantized(ty, &numbers), &mut exact).unwrap();
        self.push(name, dims, F32, &exact);
    }

    fn norm(&mut self, s: &Spec, name: String) {
        let width = if name.ends_with("ffn_sub_norm") { N_FF } else { N_EMBD };
        // Through many layers rounding would grow to a size where nothing can be told.
        let scale = if s.altup && name.contains(".post_") { 0.3 } else { 1.0 };
        self.vector(format!("{name}.weight"), &[width], scale, 0.3 * scale);
        if s.layer_norm == Some(true) {
            self.bias(format!("{name}.bias"), &[N_EMBD]);
        }
    }

    fn layer(&mut self, s: &Spec, il: usize) {
        let name = |part: &str| format!("blk.{il}.{part}");
        for norm in s.norms {
            self.norm(s, name(norm));
        }
        self.attention(s, il);
        if s.altup {
            self.altup_layer(il);
        }
        match s.ffn {
            Ffn::Gated | Ffn::Plain | Ffn::GatedFused => {
                if s.ffn == Ffn::Gated {
                    self.matrix(name("ffn_gate.weight"), &[N_EMBD, N_FF], 1.5);
                }
                let n_up = if s.ffn == Ffn::GatedFused { 2 * N_FF } else { N_FF };
                self.matrix(name("ffn_up.weight"), &[N_EMBD, n_up], 1.2);
                self.matrix(name("ffn_down.weight"), &[N_FF, N_EMBD], 1.0);
                if s.ffn_bias {
                    if s.ffn == Ffn::Gated {
                        self.bias(name("ffn_gate.bias"), &[N_FF]);
                    }
                    self.bias(name("ffn_up.bias"), &[n_up]);
                    self.bias(name("ffn_down.bias"), &[N_EMBD]);
                }
            }
            Ffn::Experts | Ffn::ExpertsWithBiases | Ffn::ExpertsAndShared => {
                self.experts(s, il);
            }
        }
        if s.scales {
            let parts =
                ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
            for part in parts {
                self.vector(name(&format!("{part}.scale")), &[1], 1.0, 0.2);
            }
        }
    }

    fn attention(&mut self, s: &Spec, il: usize) {
        let name = |part: &str| format!("blk.{il}.{part}");
        let (n_q, n_kv) = (s.n_head * s.head_dim, s.n_head_kv * s.head_dim);
        match s.qkv {
            Qkv::Apart { bias } => {
                for (part, n, gain) in [("q", n_q, 1.4), ("k", n_kv, 1.4), ("v", n_kv, 1.0)] {
                    self.matrix(name(&format!("attn_{part}.weight")), &[N_EMBD, n], gain);
                    if bias {
                        self.bias(name(&format!("attn_{part}.bias")), &[n]);
                    }
                }
            }
            Qkv::Fused { bias } => {
                let n = n_q + 2 * n_kv;
                self.matrix(name("attn_qkv.weight"), &[N_EMBD, n], 1.4);
                if bias {
                    self.bias(name("attn_qkv.bias"), &[n]);
                }
            }
        }
        for (part, n_head) in [("q", s.n_head), ("k", s.n_head_kv)] {
            let dims: &[usize] = match s.qk_norm {
                QkNorm::None => continue,
                QkNorm::Head => &[s.head_dim],
                QkNorm::OwnHead => &[s.head_dim, n_head],
                QkNorm::All => &[s.head_dim * n_head],
            };
            // Where scores are not divided by the root of the width.
            let scale = if s.altup { 0.5 } else { 1.0 };
            let name = name(&format!("attn_{part}_norm.weight"));
            self.vector(name, dims, 1.2 * scale, 0.3 * scale);
        }
        if s.sinks {
            self.vector(name("attn_sinks.weight"), &[s.n_head], 0.5, 1.0);
        }
        self.matrix(name("attn_output.weight"), &[n_q, N_EMBD], 1.0);
        if s.out_bias {
            self.bias(name("attn_output.bias"), &[N_EMBD]);
        }
    }

    /// Routers over a norm divided by its width, so that they have large weights.
    fn altup_layer(&mut self, il: usize) {
        let name = |part: &str| format!("blk.{il}.{part}.weight");
        let n = N_STREAMS;
        self.vector(name("altup_router"), &[N_EMBD, n], 0.0, 4.0);
        self.vector(name("altup_predict_coef"), &[n, n * n], 0.0, 0.1);
        self.vector(name("altup_correct_coef"), &[n, n], 0.0, 0.3);
        for (part, mean) in [
            ("altup_router_norm", 1.0),
            ("altup_correct_scale", 1.0),
            ("laurel_post_norm", 0.3),
            ("post_norm", 0.3),
        ] {
            self.vector(name(part), &[N_EMBD], mean, 0.3 * mean);
        }
        self.matrix(name("laurel_l"), &[N_EMBD, LAUREL_RANK], 1.0);
        self.matrix(name("laurel_r"), &[LAUREL_RANK, N_EMBD], 1.0);
        self.matrix(name("inp_gate"), &[N_EMBD, N_EMBD_PER_LAYER], 1.0);
        self.matrix(name("proj"), &[N_EMBD_PER_LAYER, N_EMBD], 1.0);
    }

    fn experts(&mut self, s: &Spec, il: usize) {
        let name = |part: &str| format!("blk.{il}.{part}");
        // Routers decide: what is rounded there must not turn the choice.
        let router = self.rng.numbers(N_EMBD * N_EXPERT, 0.0, 2.0 / (N_EMBD as f32).sqrt());
        self.push(name("ffn_gate_inp.weight"), &[N_EMBD, N_EXPERT], F32, &router);
        let biases = s.ffn == Ffn::ExpertsWithBiases;
        if biases {
            self.bias(name("ffn_gate_inp.bias"), &[N_EXPERT]);
        }
        for (part, n_in, n_out) in
            [("gate", N_EMBD, N_FF_EXP), ("up", N_EMBD, N_FF_EXP), ("down", N_FF_EXP, N_EMBD)]
        {
            let tensor = format!("ffn_{part}_exps");
            self.matrix(name(&format!("{tensor}.weight")), &[n_in, n_out, N_EXPERT], 1.4);
            if biases {
                self.bias(name(&format!("{tensor}.bias")), &[n_out, N_EXPERT]);
            }
        }
        if s.ffn == Ffn::ExpertsAndShared {
            self.vector(name("ffn_gate_inp_shexp.weight"), &[N_EMBD], 0.0, 0.2);
            self.matrix(name("ffn_gate_shexp.weight"), &[N_EMBD, 64], 1.4);
            self.matrix(name("ffn_up_shexp.weight"), &[N_EMBD, 64], 1.4);
            self.matrix(name("ffn_down_shexp.weight"), &[64, N_EMBD], 1.4);
        }
    }
}

fn tensors(s: &Spec, twin: bool) -> Vec<Tensor> {
    let mut t = Tensors { twin, rng: Rng(s.seed << 32), n_matrices: 0, all: Vec::new() };
    // Models that scale embeddings by 8 have small ones.
    let gain = match s.arch {
        "opt" => 0.16, // small as they are, so that the norms' constant counts
        arch if arch.starts_with("gemma") => 0.7,
        _ => 5.6,
    };
    t.matrix("token_embd.weight".into(), &[N_EMBD, N_VOCAB], gain);
    if s.encoder {
        // llama.cpp adds a row as it is.
        t.vector("token_types.weight".into(), &[N_EMBD, 2], 0.0, 0.4);
    }
    if s.embd_norm {
        t.norm(s, "token_embd_norm".into());
    }
    if s.learned_positions > 0 {
        t.matrix("position_embd.weight".into(), &[N_EMBD, s.learned_positions], gain / 2.0);
    }
    if s.long_rope {
        let pairs = s.n_rot / 2;
        for (part, step) in [("long", 0.75), ("short", 0.1)] {
            let divisors: Vec<f32> = (0..pairs).map(|i| 1.0 + i as f32 * step).collect();
            t.push(format!("rope_factors_{part}.weight"), &[pairs], F32, &divisors);
        }
    }
    if s.altup {
        let n = N_EMBD_PER_LAYER * s.n_layer;
        for part in ["altup_proj", "altup_unembd_proj"] {
            t.matrix(format!("{part}.weight"), &[N_EMBD, N_EMBD, N_STREAMS - 1], 1.0);
        }
        t.matrix("per_layer_token_embd.weight".into(), &[n, N_VOCAB], 0.06 * (n as f32).sqrt());
        t.matrix("per_layer_model_proj.weight".into(), &[N_EMBD, n], 1.0);
        t.vector("per_layer_proj_norm.weight".into(), &[N_EMBD_PER_LAYER], 1.0, 0.3);
    }
    for il in 0..s.n_layer {
        t.layer(s, il);
    }
    if !s.encoder {
        t.norm(s, "output_norm".into());
    }
    if !s.encoder && !s.tied {
        t.matrix("output.weight".into(), &[N_EMBD, N_VOCAB], 3.0);
    }
    if s.output_bias {
        t.bias("output.bias".into(), &[N_VOCAB]);
    }
    for &(name, n) in s.classifier {
        t.matrix(format!("{name}.weight"), &[N_EMBD, n], 1.0);
        if s.encoder {
            t.bias(format!("{name}.bias"), &[n]);
        }
    }
    t.all
}

fn keys(s: &Spec) -> Writer {
    let mut w = Writer::new(Magic::Gguf);
    let mut set = |key: &str, value: Value| w.set(key, value).unwrap();
    let str = |text: &str| Value::Str(text.into());
    set("general.architecture", str(s.arch));
    // Names of real models have a meaning to tokenizers.
    set("general.name", str("tiny"));
    let eps = match s.layer_norm {
        Some(_) => "attention.layer_norm_epsilon",
        None => "attention.layer_norm_rms_epsilon",
    };
    let common = [
        Key::U("context_length", s.learned_positions.max(256) as u32),
        Key::U("embedding_length", N_EMBD as u32),
        Key::U("block_count", s.n_layer as u32),
        Key::U("feed_forward_length", N_FF as u32),
        Key::U("attention.head_count", s.n_head as u32),
        Key::U("attention.head_count_kv", s.n_head_kv as u32),
        Key::U("attention.key_length", s.head_dim as u32),
        Key::U("attention.value_length", s.head_dim as u32),
        Key::U("rope.dimension_count", s.n_rot as u32),
        Key::F("rope.freq_base", 10000.0),
        Key::F(eps, 1e-5),
    ];
    // PowerInfer's converter writes the first five, up to the number of heads.
    let n_common = if s.arch == "opt" { 5 } else { common.len() };
    for key in common[..n_common].iter().chain(s.keys) {
        let (name, value) = match *key {
            Key::U(name, x) => (name, Value::U32(x)),
            Key::F(name, x) => (name, Value::F32(x)),
            Key::S(name, x) => (name, str(x)),
            Key::B(name, x) => (name, Value::Bool(x)),
            Key::L(name, x) => (name, Value::Array(Array::Str(x.iter().copied().collect()))),
        };
        set(&format!("{}.{name}", s.arch), value);
    }
    if !s.activation.is_empty() {
        set("powerinfer.activation", str(s.activation));
    }
    if s.encoder {
        set("tokenizer.ggml.token_type_count", Value::U32(2));
    }
    for (key, value) in vocabulary_keys(N_VOCAB) {
        set(key, value);
    }
    w
}
