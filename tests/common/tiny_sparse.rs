//! Tiny models of PowerInfer's kind (magic `PWRI`), made in memory: a third or so of their neurons fire,
//! and predictors of which nothing is known but what they say, so that an engine that takes the
//! wrong input, threshold or neurons is seen.
//!
//! Channel 0 of the residual stream is larger than the others, and gates and predictors are biased
//! by it. Each model has a twin in F32 as in [`super::tiny`]: an ordinary file that says by
//! `powerinfer.activation` what a file of PowerInfer is known for.
//!
//! To add one: a line in [`SPECS`], then `tests/tools/sparse_goldens.py`.

use powerinfer::gguf::{Magic, Value, Writer};
use powerinfer::quant::QuantType::{self, BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0};
use powerinfer::quant::dequantize_row;

use super::tiny::{Rng, Tensor, quantized, vocabulary_keys, write};

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub arch: &'static str,
    pub n_vocab: usize,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    /// Rows of `fc1`, layer by layer in turn.
    pub rank: &'static [usize],
    /// Number formats of the neurons' matrices, one after the other.
    pub types: &'static [QuantType],
    /// Of `fc1` and `fc2`.
    pub predictor: (QuantType, QuantType),
    /// The key `powerinfer.sparse_threshold`, if the file has it.
    pub threshold: Option<f32>,
    /// A norm of its own for attention (Falcon 40B).
    pub attn_norm_2: bool,
    pub seed: u64,
}

/// Tokens of all models that have goldens.
pub const N_VOCAB: usize = 96;
const N_POSITIONS: usize = 66;

const LLAMA: Spec = Spec {
    name: "llama",
    arch: "llama",
    n_vocab: N_VOCAB,
    n_embd: 64,
    n_ff: 100,
    n_layer: 3,
    n_head: 4,
    n_head_kv: 2,
    rank: &[24, 17, 40],
    types: &[F16, BF16, F32],
    predictor: (F16, F32),
    threshold: None,
    attn_norm_2: false,
    seed: 1,
};

const FALCON: Spec = Spec { arch: "falcon", n_head_kv: 1, ..LLAMA };
const OPT: Spec = Spec { arch: "opt", n_head_kv: 4, ..LLAMA };

/// All models that have goldens.
pub const SPECS: &[Spec] = &[
    LLAMA,
    Spec {
        name: "llama-q4_0",
        n_ff: 1056,
        n_layer: 2,
        rank: &[32],
        types: &[Q4_0],
        predictor: (Q4_0, Q4_0),
        threshold: Some(0.0),
        seed: 2,
        ..LLAMA
    },
    Spec {
        name: "llama-mixed",
        n_ff: 101,
        rank: &[32, 64],
        types: &[Q8_0, Q4_1, F16, Q4_0],
        predictor: (Q8_0, Q4_1),
        threshold: Some(0.25),
        seed: 3,
        ..LLAMA
    },
    Spec {
        name: "llama-k",
        n_embd: 256,
        n_ff: 77,
        n_layer: 2,
        types: &[Q4_K, Q6_K, Q4_K, Q6_K, Q6_K],
        predictor: (Q6_K, F16),
        threshold: Some(-0.5),
        seed: 4,
        ..LLAMA
    },
    // The smallest block, and one layer with so few neurons that no vector is full.
    Spec {
        name: "llama-small",
        n_embd: 32,
        n_ff: 5,
        n_head: 2,
        n_head_kv: 1,
        rank: &[3],
        types: &[Q4_0, Q8_0],
        predictor: (Q8_0, F16),
        seed: 5,
        ..LLAMA
    },
    Spec {
        name: "bamboo",
        arch: "bamboo",
        types: &[Q8_0],
        predictor: (BF16, F16),
        seed: 6,
        ..LLAMA
    },
    Spec {
        name: "bamboo-q4_0",
        arch: "bamboo",
        n_ff: 1023,
        n_layer: 2,
        rank: &[64],
        types: &[Q4_0],
        predictor: (Q4_0, Q8_0),
        threshold: Some(0.1),
        seed: 7,
        ..LLAMA
    },
    Spec { name: "falcon-7b", types: &[F16], predictor: (F16, F16), seed: 8, ..FALCON },
    Spec {
        name: "falcon-40b",
        n_head_kv: 2,
        n_ff: 130,
        rank: &[32],
        types: &[Q4_0, Q4_1],
        predictor: (Q4_0, Q4_0),
        threshold: Some(-0.2),
        attn_norm_2: true,
        seed: 9,
        ..FALCON
    },
    Spec { name: "opt", types: &[F16, BF16], predictor: (F16, BF16), seed: 10, ..OPT },
    Spec {
        name: "opt-q8_0",
        n_ff: 1001,
        n_layer: 2,
        rank: &[32],
        types: &[Q8_0, Q4_0],
        predictor: (Q8_0, Q4_0),
        threshold: Some(0.3),
        seed: 11,
        ..OPT
    },
];

/// A model of 16 KB, for tests that load it very often.
pub const MICRO: Spec = Spec {
    name: "micro",
    n_vocab: 40,
    n_embd: 32,
    n_ff: 20,
    n_layer: 1,
    n_head: 2,
    n_head_kv: 1,
    rank: &[32],
    types: &[Q4_0],
    predictor: (Q4_0, Q4_0),
    threshold: Some(0.0),
    seed: 99,
    ..LLAMA
};

/// The model of this name.
pub fn spec(name: &str) -> Spec {
    *SPECS.iter().find(|s| s.name == name).unwrap()
}

/// The file.
pub fn bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec, false), &tensors(spec, false))
}

/// The same numbers as an ordinary file: all F32, no predictors.
pub fn twin_bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec, true), &tensors(spec, true))
}

/// The file with other keys and tensors than it should have.
pub fn edited_bytes(spec: &Spec, edit: impl FnOnce(&mut Writer, &mut Vec<Tensor>)) -> Vec<u8> {
    let (mut keys, mut tensors) = (keys(spec, false), tensors(spec, false));
    edit(&mut keys, &mut tensors);
    write(&keys, &tensors)
}

struct Tensors {
    spec: Spec,
    twin: bool,
    rng: Rng,
    n_matrices: usize,
    all: Vec<Tensor>,
}

impl Tensors {
    fn vector(&mut self, name: String, len: usize, mean: f32, deviation: f32) {
        let numbers = self.rng.numbers(len, mean, deviation);
        let data = quantized(F32, &numbers);
        self.all.push(Tensor { name, dims: vec![len], ty: F32, data });
    }

    fn norm(&mut self, name: &str) {
        let n_embd = self.spec.n_embd;
        self.vector(format!("{name}.weight"), n_embd, 1.0, 0.2);
        if matches!(self.spec.arch, "falcon" | "opt") {
            self.vector(format!("{name}.bias"), n_embd, 0.0, 0.1);
        }
    }

    /// A matrix `[n_in, n_out]` whose products of unit inputs are about `gain` large, with
    /// `bias` / sqrt(n_in) in column 0.
    fn matrix(
        &mut self,
        name: String,
        (n_in, n_out): (usize, usize),
        ty: QuantType,
        (gain, bias): (f32, f32),
    ) {
        let per_in = 1.0 / (n_in as f32).sqrt();
        let mut numbers = self.rng.numbers(n_in * n_out, 0.0, gain * per_in);
        if bias != 0.0 {
            numbers.chunks_exact_mut(n_in).for_each(|row| row[0] = bias * per_in);
        }
        let data = quantized(ty, &numbers);
        if !self.twin {
            return self.all.push(Tensor { name, dims: vec![n_in, n_out], ty, data });
        }
        let mut exact = vec![0.0; numbers.len()];
        dequantize_row(ty, &data, &mut exact).unwrap();
        let (name, dims, exact) = match name.contains("ffn_down_t") {
            false => (name, vec![n_in, n_out], exact),
            true => {
                let column = |j: usize| exact[j..].iter().step_by(n_in).copied();
                let turned = (0..n_in).flat_map(column).collect();
                (name.replace("ffn_down_t", "ffn_down"), vec![n_out, n_in], turned)
            }
        };
        self.all.push(Tensor { name, dims, ty: F32, data: quantized(F32, &exact) });
    }

    /// One of the neurons' matrices.
    fn neurons(&mut self, name: String, gain: (f32, f32)) {
        let s = self.spec;
        let ty = s.types[self.n_matrices % s.types.len()];
        self.n_matrices += 1;
        self.matrix(name, (s.n_embd, s.n_ff), ty, gain);
    }

    fn layer(&mut self, il: usize) {
        let s = self.spec;
        let name = |part: &str| format!("blk.{il}.{part}");
        let biases = s.arch == "opt";
        let n_kv = s.n_embd / s.n_head * s.n_head_kv;
        self.norm(&name("attn_norm"));
        if s.attn_norm_2 {
            self.norm(&name("attn_norm_2"));
        }
        if s.arch == "falcon" {
            let shape = (s.n_embd, s.n_embd + 2 * n_kv);
            self.matrix(name("attn_qkv.weight"), shape, F16, (1.2, 0.0));
        } else {
            for (part, n) in [("q", s.n_embd), ("k", n_kv), ("v", n_kv)] {
                let shape = (s.n_embd, n);
                self.matrix(name(&format!("attn_{part}.weight")), shape, F16, (1.2, 0.0));
                if biases {
                    self.vector(name(&format!("attn_{part}.bias")), n, 0.0, 0.2);
                }
            }
        }
        self.matrix(name("attn_output.weight"), (s.n_embd, s.n_embd), F16, (0.7, 0.0));
        if biases {
            self.vector(name("attn_output.bias"), s.n_embd, 0.0, 0.2);
        }
        if s.arch != "falcon" {
            self.norm(&name("ffn_norm"));
        }
        if matches!(s.arch, "llama" | "bamboo") {
            self.neurons(name("ffn_gate.weight"), (1.5, -1.4));
            self.neurons(name("ffn_up.weight"), (1.2, 0.0));
        } else {
            self.neurons(name("ffn_up.weight"), (1.5, -1.4));
        }
        self.neurons(name("ffn_down_t.weight"), (1.2, 0.0));
        if biases {
            self.vector(name("ffn_up.bias"), s.n_ff, 0.0, 0.3);
            let down = if self.twin { "ffn_down.bias" } else { "ffn_down_t.bias" };
            self.vector(name(down), s.n_embd, 0.0, 0.2);
        }
        if !self.twin {
            let rank = s.rank[il % s.rank.len()];
            let (fc1, fc2) = s.predictor;
            self.matrix(name("fc1.weight"), (s.n_embd, rank), fc1, (1.0, 0.3));
            self.matrix(name("fc2.weight"), (rank, s.n_ff), fc2, (1.5, -0.5));
        }
    }
}

fn tensors(spec: &Spec, twin: bool) -> Vec<Tensor> {
    let s = *spec;
    let mut t =
        Tensors { spec: s, twin, rng: Rng(s.seed << 32 | 7), n_matrices: 0, all: Vec::new() };
    // Column 0 is as large as 5 others.
    let width = (s.n_embd as f32).sqrt();
    t.matrix("token_embd.weight".into(), (s.n_embd, s.n_vocab), F16, (width, 5.0 * width));
    if s.arch == "opt" {
        t.matrix("position_embd.weight".into(), (s.n_embd, N_POSITIONS), F16, (0.5 * width, 0.0));
    }
    for il in 0..s.n_layer {
        // A twin without predictors has the same numbers after them all the same.
        t.rng = Rng(s.seed << 32 | (il as u64 + 1) << 16);
        t.layer(il);
    }
    t.rng = Rng(s.seed << 32 | 11);
    t.norm("output_norm");
    if s.arch != "opt" {
        t.matrix("output.weight".into(), (s.n_embd, s.n_vocab), F16, (3.0, 0.0));
    }
    t.all
}

fn keys(s: &Spec, twin: bool) -> Writer {
    let mut w = Writer::new(if twin { Magic::Gguf } else { Magic::Pwri });
    let mut set = |key: &str, value: Value| w.set(key, value).unwrap();
    set("general.architecture", Value::Str(s.arch.into()));
    set("general.name", Value::Str("tiny".into()));
    let context = if s.arch == "opt" { N_POSITIONS } else { 64 };
    let mut numbers = vec![
        ("context_length", context),
        ("embedding_length", s.n_embd),
        ("block_count", s.n_layer),
        ("feed_forward_length", s.n_ff),
        ("attention.head_count", s.n_head),
        ("attention.head_count_kv", s.n_head_kv),
    ];
    if s.arch != "opt" {
        numbers.push(("rope.dimension_count", s.n_embd / s.n_head));
    }
    for (key, n) in numbers {
        set(&format!("{}.{key}", s.arch), Value::U32(n as u32));
    }
    let eps = match s.arch {
        "llama" | "bamboo" => "attention.layer_norm_rms_epsilon",
        _ => "attention.layer_norm_epsilon",
    };
    set(&format!("{}.{eps}", s.arch), Value::F32(1e-5));
    match (twin, s.threshold) {
        // ReLU on both is what bamboo is.
        (true, _) if s.arch != "bamboo" => {
            set("powerinfer.activation", Value::Str("relu".into()));
        }
        (false, Some(threshold)) => set("powerinfer.sparse_threshold", Value::F32(threshold)),
        _ => {}
    }
    vocabulary_keys(s.n_vocab).into_iter().for_each(|(key, value)| set(key, value));
    w
}
