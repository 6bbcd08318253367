//! Tiny random llama models, made in memory: every variant of the architecture in a few hundred
//! kilobytes, the same bytes on every machine.
//!
//! Each model has a twin for the truth: the same numbers, dequantised, all F32, in a form that
//! llama.cpp loads. So a reference that quantises activations never hides what we get wrong.
//! Where llama.cpp refuses a variant, the twin says the same thing in another way:
//!
//! - rotating only the first dimensions of a head: `rope_freqs` with infinite divisors for the rest;
//! - value heads shorter than key heads: values padded with zeros.
//!
//! To add a variant: a line in [`SPECS`], then `tests/tools/tiny_goldens.py`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use powerinfer::api::{LoadOptions, Model};
use powerinfer::gguf::{Array, ByteStr, Magic, ModelFiles, StrArray, Value, Writer};
use powerinfer::quant::QuantType::{self, BF16, F16, F32, Q4_0, Q4_1, Q8_0};
use powerinfer::quant::{dequantize_row, needs_importance, quantize_row};

/// What is special about a model's rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rope {
    Plain,
    /// Positions divided by 4.
    Linear,
    /// The same by 2, with the key of old files.
    OldLinear,
    /// YaRN from 64 tokens to 256.
    Yarn,
    /// A tensor of divisors, as in Llama 3.1.
    Factors,
}

/// Where the attention's input matrices are, and their biases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Qkv {
    Apart,
    ApartWithBiases,
    Fused,
    FusedWithBias,
    /// One matrix, three biases: files of old converters.
    FusedWithBiasesApart,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub n_vocab: usize,
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_ff: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub head_dim_k: usize,
    pub head_dim_v: usize,
    pub n_rot: usize,
    /// Number formats of the matrices, one after the other.
    pub types: &'static [QuantType],
    pub tied: bool,
    pub qkv: Qkv,
    /// Biases of `attn_output` and the feed-forward network.
    pub biases: bool,
    pub rope: Rope,
    pub seed: u64,
}

const MIXED: &[QuantType] = &[Q4_0, F16, Q8_0, BF16, Q4_1, F32];

const GQA: Spec = Spec {
    name: "gqa",
    n_vocab: 96,
    n_embd: 64,
    n_layer: 3,
    n_ff: 96,
    n_head: 4,
    n_head_kv: 2,
    head_dim_k: 16,
    head_dim_v: 16,
    n_rot: 16,
    types: MIXED,
    tied: false,
    qkv: Qkv::Apart,
    biases: false,
    rope: Rope::Plain,
    seed: 1,
};

const HEAD_32: Spec = Spec { head_dim_k: 32, head_dim_v: 32, n_rot: 32, ..GQA };

/// A model of 5 KB, for tests that load it very often.
pub const MICRO: Spec = Spec {
    name: "micro",
    n_vocab: 40,
    n_embd: 32,
    n_layer: 1,
    n_ff: 32,
    n_head: 2,
    n_head_kv: 1,
    types: &[Q4_0],
    rope: Rope::Factors,
    seed: 99,
    ..GQA
};

/// One layer: what it has in its cache depends on tokens and positions alone, never on what
/// attention saw, so that any history of the cache has a fresh run that must give the same.
pub const ONE_LAYER: Spec =
    Spec { name: "one-layer", n_layer: 1, rope: Rope::Yarn, types: &[F32, F16], seed: 2, ..GQA };

/// All models that have goldens.
pub const SPECS: &[Spec] = &[
    GQA,
    ONE_LAYER,
    MICRO,
    Spec { name: "tied", n_embd: 128, n_layer: 2, n_ff: 192, tied: true, seed: 3, ..HEAD_32 },
    Spec { name: "mqa", n_head_kv: 1, rope: Rope::OldLinear, seed: 4, ..GQA },
    Spec { name: "mha", n_head_kv: 4, n_layer: 2, seed: 5, ..GQA },
    // Heads that together are wider than the residual stream.
    Spec { name: "wide-heads", seed: 6, ..HEAD_32 },
    Spec { name: "biases", qkv: Qkv::ApartWithBiases, biases: true, seed: 7, ..GQA },
    Spec { name: "fused", qkv: Qkv::Fused, biases: true, seed: 8, ..GQA },
    Spec { name: "fused-bias", qkv: Qkv::FusedWithBias, seed: 9, ..GQA },
    Spec { name: "fused-biases-apart", qkv: Qkv::FusedWithBiasesApart, seed: 10, ..GQA },
    Spec { name: "linear", rope: Rope::Linear, seed: 11, ..GQA },
    Spec { name: "yarn", rope: Rope::Yarn, seed: 12, ..HEAD_32 },
    Spec { name: "factors", rope: Rope::Factors, seed: 13, ..GQA },
    Spec { name: "partial-rope", n_rot: 8, n_layer: 2, seed: 14, ..GQA },
    Spec { name: "short-values", head_dim_v: 16, n_layer: 2, seed: 15, ..HEAD_32 },
    // Sizes that are multiples of nothing, and weights as exact as they can be.
    Spec {
        name: "odd",
        n_vocab: 97,
        n_embd: 70,
        n_ff: 101,
        head_dim_k: 18,
        head_dim_v: 18,
        n_rot: 18,
        types: &[F16, F32, BF16],
        seed: 16,
        ..GQA
    },
    Spec { name: "q8_0", types: &[Q8_0], seed: 17, ..GQA },
    Spec { name: "q4_0", types: &[Q4_0], seed: 18, ..GQA },
    Spec { name: "q4_1", types: &[Q4_1], seed: 19, ..GQA },
];

/// The model of this name.
pub fn spec(name: &str) -> Spec {
    *SPECS.iter().find(|s| s.name == name).unwrap()
}

/// The file.
pub fn bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec, false), &tensors(spec, false))
}

/// The same numbers for llama.cpp: all F32.
pub fn twin_bytes(spec: &Spec) -> Vec<u8> {
    write(&keys(spec, true), &tensors(spec, true))
}

/// The file with other keys and tensors than it should have.
pub fn edited_bytes(spec: &Spec, edit: impl FnOnce(&mut Writer, &mut Vec<Tensor>)) -> Vec<u8> {
    let (mut keys, mut tensors) = (keys(spec, false), tensors(spec, false));
    edit(&mut keys, &mut tensors);
    write(&keys, &tensors)
}

/// The model without its vocabulary.
pub fn bare_model(spec: &Spec) -> Arc<powerinfer::model::Model> {
    bare_model_of(&bytes(spec))
}

/// The model in these bytes without its vocabulary.
pub fn bare_model_of(bytes: &[u8]) -> Arc<powerinfer::model::Model> {
    let options = LoadOptions::default();
    let files = ModelFiles::open_file(unnamed_file(bytes), "tiny.gguf", &options).unwrap();
    Arc::new(
        powerinfer::model::Model::load(files, false, Default::default(), &mut |_| true).unwrap(),
    )
}

/// Loads a model from memory.
pub fn load(bytes: &[u8], options: &LoadOptions) -> Result<Model, powerinfer::api::Error> {
    Model::load_file(unnamed_file(bytes), "tiny.gguf", options, &mut |_| true)
}

/// An open file with this content and without a name, which goes away when it is closed.
pub fn unnamed_file(bytes: &[u8]) -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = Some(PathBuf::from("/dev/shm")).filter(|d| d.is_dir());
    let dir = dir.unwrap_or_else(std::env::temp_dir);
    let path = dir.join(format!("powerinfer-tiny-{}-{number}", std::process::id()));
    let mut options = File::options();
    let mut file = options.read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// FNV-1a over eight bytes at a time: notices when the generator makes other models.
pub fn fingerprint(bytes: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform in `-1 .. 1`, a multiple of 2^-23.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` numbers around `mean` with this standard deviation. Exact arithmetic only, so that
    /// every machine gets the same.
    pub fn numbers(&mut self, n: usize, mean: f32, deviation: f32) -> Vec<f32> {
        let scale = deviation * 3f32.sqrt();
        (0..n).map(|_| mean + scale * self.uniform()).collect()
    }
}

/// A tensor to be.
pub struct Tensor {
    pub name: String,
    pub dims: Vec<usize>,
    pub ty: QuantType,
    pub data: Vec<u8>,
}

struct Tensors<'a> {
    spec: &'a Spec,
    twin: bool,
    rng: Rng,
    n_matrices: usize,
    all: Vec<Tensor>,
}

impl Tensors<'_> {
    fn push(&mut self, name: String, dims: &[usize], ty: QuantType, numbers: &[f32]) {
        let data = quantized(ty, numbers);
        self.all.push(Tensor { name, dims: dims.to_vec(), ty, data });
    }

    fn vector(&mut self, name: String, len: usize, mean: f32, deviation: f32) {
        let numbers = self.rng.numbers(len, mean, deviation);
        self.push(name, &[len], F32, &numbers);
    }

    fn bias(&mut self, name: String, len: usize) {
        self.vector(name, len, 0.0, 0.3);
    }

    /// A matrix `[n_in, n_out]` whose products of unit inputs are about `gain` large.
    fn matrix(&mut self, name: String, n_in: usize, n_out: usize, gain: f32) {
        let numbers = self.rng.numbers(n_in * n_out, 0.0, gain / (n_in as f32).sqrt());
        let ty = self.spec.types[self.n_matrices % self.spec.types.len()];
        self.n_matrices += 1;
        if !self.twin {
            return self.push(name, &[n_in, n_out], ty, &numbers);
        }
        let mut exact = vec![0.0; numbers.len()];
        dequantize_row(ty, &quantized(ty, &numbers), &mut exact).unwrap();
        let (n_in, n_out, exact) = self.padded(&name, n_in, n_out, exact);
        self.push(name, &[n_in, n_out], F32, &exact);
    }

    /// For the twin of a model with short value heads: zero values, and zero weights for them.
    fn padded(
        &self,
        name: &str,
        n_in: usize,
        n_out: usize,
        x: Vec<f32>,
    ) -> (usize, usize, Vec<f32>) {
        let (dk, dv) = (self.spec.head_dim_k, self.spec.head_dim_v);
        if dk == dv {
            return (n_in, n_out, x);
        }
        let pad = |x: Vec<f32>, from: usize, to: usize| -> Vec<f32> {
            let zeros = std::iter::repeat_n(0.0, to - from);
            x.chunks(from).flat_map(|c| c.iter().copied().chain(zeros.clone())).collect()
        };
        if name.contains("attn_v") {
            (n_in, n_out / dv * dk, pad(x, n_in * dv, n_in * dk))
        } else if name.contains("attn_output") {
            (n_in / dv * dk, n_out, pad(x, dv, dk))
        } else {
            (n_in, n_out, x)
        }
    }

    fn layer(&mut self, il: usize) {
        let s = *self.spec;
        let name = |part: &str| format!("blk.{il}.{part}");
        let (n_q, n_k, n_v) =
            (s.n_head * s.head_dim_k, s.n_head_kv * s.head_dim_k, s.n_head_kv * s.head_dim_v);
        let (bias_apart, bias_fused) = match s.qkv {
            Qkv::ApartWithBiases | Qkv::FusedWithBiasesApart => (true, false),
            Qkv::FusedWithBias => (false, true),
            Qkv::Apart | Qkv::Fused => (false, false),
        };
        self.vector(name("attn_norm.weight"), s.n_embd, 1.0, 0.3);
        match s.qkv {
            Qkv::Apart | Qkv::ApartWithBiases => {
                self.matrix(name("attn_q.weight"), s.n_embd, n_q, 1.4);
                self.matrix(name("attn_k.weight"), s.n_embd, n_k, 1.4);
                self.matrix(name("attn_v.weight"), s.n_embd, n_v, 1.0);
            }
            _ => self.matrix(name("attn_qkv.weight"), s.n_embd, n_q + n_k + n_v, 1.4),
        }
        if bias_apart {
            self.bias(name("attn_q.bias"), n_q);
            self.bias(name("attn_k.bias"), n_k);
            self.bias(name("attn_v.bias"), n_v);
        }
        if bias_fused {
            self.bias(name("attn_qkv.bias"), n_q + n_k + n_v);
        }
        self.matrix(name("attn_output.weight"), s.n_head * s.head_dim_v, s.n_embd, 1.0);
        self.vector(name("ffn_norm.weight"), s.n_embd, 1.0, 0.3);
        self.matrix(name("ffn_gate.weight"), s.n_embd, s.n_ff, 1.5);
        self.matrix(name("ffn_up.weight"), s.n_embd, s.n_ff, 1.0);
        self.matrix(name("ffn_down.weight"), s.n_ff, s.n_embd, 1.0);
        if s.biases {
            self.bias(name("attn_output.bias"), s.n_embd);
            self.bias(name("ffn_gate.bias"), s.n_ff);
            self.bias(name("ffn_up.bias"), s.n_ff);
            self.bias(name("ffn_down.bias"), s.n_embd);
        }
    }

    /// Divisors of rotation frequencies.
    fn rope_freqs(&mut self) {
        let s = self.spec;
        let pairs = s.head_dim_k / 2;
        if s.rope == Rope::Factors {
            let divisors: Vec<f32> = (0..pairs).map(|i| 1.0 + i as f32 * 0.75).collect();
            self.push("rope_freqs.weight".into(), &[pairs], F32, &divisors);
        } else if self.twin && s.n_rot < s.head_dim_k {
            // base^(-2i/n_rot) out of base^(-2i/head_dim), and a standstill for the rest.
            let exponent = 2.0 / s.n_rot as f64 - 2.0 / s.head_dim_k as f64;
            let divisor = |i: usize| match i < s.n_rot / 2 {
                true => 10000f64.powf(i as f64 * exponent) as f32,
                false => f32::INFINITY,
            };
            let divisors: Vec<f32> = (0..pairs).map(divisor).collect();
            self.push("rope_freqs.weight".into(), &[pairs], F32, &divisors);
        }
    }
}

pub fn quantized(ty: QuantType, numbers: &[f32]) -> Vec<u8> {
    let n_bytes = ty.row_bytes(numbers.len() as u64).unwrap();
    let mut data = vec![0; n_bytes as usize];
    let ones = needs_importance(ty).then(|| vec![1.0; numbers.len()]);
    quantize_row(ty, numbers, ones.as_deref(), &mut data).unwrap();
    data
}

fn tensors(spec: &Spec, twin: bool) -> Vec<Tensor> {
    let s = spec;
    let rng = Rng(s.seed << 32);
    let mut t = Tensors { spec, twin, rng, n_matrices: 0, all: Vec::new() };
    t.rope_freqs();
    t.matrix("token_embd.weight".into(), s.n_embd, s.n_vocab, (s.n_embd as f32).sqrt() * 0.7);
    for il in 0..s.n_layer {
        t.layer(il);
    }
    t.vector("output_norm.weight".into(), s.n_embd, 1.0, 0.3);
    if !s.tied {
        t.matrix("output.weight".into(), s.n_embd, s.n_vocab, 3.0);
    }
    t.all
}

fn keys(spec: &Spec, twin: bool) -> Writer {
    let mut w = Writer::new(Magic::Gguf);
    for (key, value) in metadata(spec, twin) {
        w.set(key, value).unwrap();
    }
    w
}

pub fn write(keys: &Writer, tensors: &[Tensor]) -> Vec<u8> {
    let mut w = keys.clone();
    for t in tensors {
        let dims: Vec<u64> = t.dims.iter().map(|&d| d as u64).collect();
        w.add_tensor(&t.name, &dims, t.ty).unwrap();
    }
    let mut out = w.start(Vec::new()).unwrap();
    for t in tensors {
        out.write(&t.data).unwrap();
    }
    out.finish().unwrap()
}

fn metadata(s: &Spec, twin: bool) -> Vec<(&'static str, Value)> {
    let u32 = |n: usize| Value::U32(n as u32);
    let str = |text: &str| Value::Str(ByteStr::from(text));
    let (n_rot, head_dim_v) =
        if twin { (s.head_dim_k, s.head_dim_k) } else { (s.n_rot, s.head_dim_v) };
    let mut kvs = vec![
        ("general.architecture", str("llama")),
        ("general.name", str(s.name)),
        ("general.alignment", Value::U32(32)),
        ("llama.context_length", u32(256)),
        ("llama.embedding_length", u32(s.n_embd)),
        ("llama.block_count", u32(s.n_layer)),
        ("llama.feed_forward_length", u32(s.n_ff)),
        ("llama.attention.head_count", u32(s.n_head)),
        ("llama.attention.head_count_kv", u32(s.n_head_kv)),
        ("llama.attention.key_length", u32(s.head_dim_k)),
        ("llama.attention.value_length", u32(head_dim_v)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", u32(n_rot)),
        ("llama.rope.freq_base", Value::F32(10000.0)),
        ("llama.vocab_size", u32(s.n_vocab)),
    ];
    match s.rope {
        Rope::Plain | Rope::Factors => {}
        Rope::OldLinear => kvs.push(("llama.rope.scale_linear", Value::F32(2.0))),
        Rope::Linear => kvs.extend([
            ("llama.rope.scaling.type", str("linear")),
            ("llama.rope.scaling.factor", Value::F32(4.0)),
        ]),
        Rope::Yarn => kvs.extend([
            ("llama.rope.scaling.type", str("yarn")),
            ("llama.rope.scaling.factor", Value::F32(4.0)),
            ("llama.rope.scaling.original_context_length", Value::U32(64)),
        ]),
    }
    kvs.extend(vocabulary_keys(s.n_vocab));
    kvs
}

/// Keys of a vocabulary of this size.
pub fn vocabulary_keys(n_vocab: usize) -> Vec<(&'static str, Value)> {
    let str = |text: &str| Value::Str(ByteStr::from(text));
    let u32 = |n: usize| Value::U32(n as u32);
    let vocabulary = vocabulary(n_vocab);
    vec![
        ("tokenizer.ggml.model", str("gpt2")),
        ("tokenizer.ggml.pre", str("gpt-2")),
        ("tokenizer.ggml.tokens", strings(&vocabulary.tokens)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(vocabulary.types))),
        ("tokenizer.ggml.merges", strings(&vocabulary.merges)),
        ("tokenizer.ggml.bos_token_id", u32(n_vocab - 4)),
        ("tokenizer.ggml.eos_token_id", u32(n_vocab - 3)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ]
}

fn strings(texts: &[String]) -> Value {
    let mut array = StrArray::with_capacity(texts.len(), 0);
    texts.iter().for_each(|t| array.push(t.as_bytes()));
    Value::Array(Array::Str(array))
}

struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

/// Byte-level BPE over a few characters: those, what merges make, control tokens at the end.
fn vocabulary(n: usize) -> Vocabulary {
    const CHARS: &str = "ĊĠabcdefghijklmnopqrstuvwxyz\
        ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-:;()/\"+*";
    const MERGES: [&str; 16] = [
        "Ġ t", "h e", "Ġt he", "i n", "Ġ a", "r e", "o n", "Ġ s", "a t", "e n", "Ġa n", "o r",
        "in g", "e r", "o u", "Ġan d",
    ];
    const CONTROL: [&str; 4] = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"];
    let merges = &MERGES[..if n < 64 { 8 } else { 16 }];
    let n_chars = n - merges.len() - CONTROL.len();
    let mut tokens: Vec<String> = CHARS.chars().take(n_chars).map(String::from).collect();
    assert_eq!(tokens.len(), n_chars, "more characters are needed");
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    tokens.extend(CONTROL.map(String::from));
    let types = (0..n).map(|i| if i < n - CONTROL.len() { 1 } else { 3 }).collect();
    Vocabulary { tokens, types, merges: merges.iter().map(|m| (*m).to_owned()).collect() }
}

/// The tokens that goldens are about: 100 at once, then 8 single ones.
pub fn tokens(n: usize, n_vocab: usize) -> Vec<i32> {
    let mut rng = Rng(42);
    (0..n).map(|_| (rng.next() % n_vocab as u64) as i32).collect()
}
