//! What files of each architecture hold: their keys and their tensors.

use powerinfer::gguf::Value;
use powerinfer::quant::QuantType;

use crate::recipe::{ATTN_GAIN, Content, Matrix, Shape};

/// Architectures with ReLU, or with a variant by [`crate::files::Kind::Relu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    Llama,
    Bamboo,
    Falcon,
    Opt,
    Nemotron,
    Arcee,
}

impl Arch {
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Bamboo => "bamboo",
            Self::Falcon => "falcon",
            Self::Opt => "opt",
            Self::Nemotron => "nemotron",
            Self::Arcee => "arcee",
        }
    }

    /// Whether PowerInfer has it, so that there are files with predictors.
    pub fn in_powerinfer(self) -> bool {
        !matches!(self, Self::Nemotron | Self::Arcee)
    }

    pub fn layer_norm(self) -> bool {
        matches!(self, Self::Falcon | Self::Opt | Self::Nemotron)
    }

    /// Whether there are gates; else the up projection plays their part.
    fn gated(self) -> bool {
        matches!(self, Self::Llama | Self::Bamboo)
    }
}

/// Which files have a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum In {
    All,
    /// Files with predictors.
    Sparse,
    /// Ordinary files.
    Dense,
}

/// Which of the types that the user chose a tensor has.
#[derive(Clone, Copy)]
pub enum Class {
    /// F32: vectors.
    Vector,
    Weight,
    Predictor,
    Output,
}

/// A tensor to be.
pub struct Tensor {
    pub name: String,
    /// Contiguous dimension first.
    pub dims: Vec<usize>,
    pub class: Class,
    pub files: In,
    /// Whose numbers it has; those outside layers have layer 0's.
    pub layer: usize,
    pub content: Content,
}

/// Positions that files of OPT have a row for; two more stand before them.
const N_POSITIONS: usize = 2048;

/// The keys of the architecture.
pub fn keys(s: &Shape, file_type: u32) -> Vec<(String, Value)> {
    let key = |name: &str| format!("{}.{name}", s.arch.name());
    let number = |n: usize| Value::U32(n as u32);
    let context = N_POSITIONS + if s.arch == Arch::Opt { 2 } else { 0 };
    let mut keys = vec![
        ("general.architecture".into(), Value::Str(s.arch.name().into())),
        ("general.name".into(), Value::Str("synthetic sparse model".into())),
        ("general.file_type".into(), Value::U32(file_type)),
        (key("context_length"), number(context)),
        (key("embedding_length"), number(s.n_embd)),
        (key("block_count"), number(s.n_layer)),
        (key("feed_forward_length"), number(s.n_ff)),
        (key("attention.head_count"), number(s.n_head)),
        (key("attention.head_count_kv"), number(s.n_head_kv)),
    ];
    if s.arch != Arch::Opt {
        keys.push((key("rope.dimension_count"), number(s.n_embd / s.n_head)));
    }
    let norm = match s.arch.layer_norm() {
        true => "attention.layer_norm_epsilon",
        false => "attention.layer_norm_rms_epsilon",
    };
    keys.push((key(norm), Value::F32(1e-5)));
    keys
}

/// The numbers of the types, by class.
pub fn type_of(class: Class, weights: QuantType, predictors: QuantType, n: usize) -> QuantType {
    match class {
        Class::Vector => QuantType::F32,
        Class::Weight => weights,
        Class::Predictor => predictors,
        // As PowerInfer's and llama.cpp's programs do it.
        Class::Output if weights.block_len() == 1 => weights,
        Class::Output if n.is_multiple_of(QuantType::Q6_K.block_len()) => QuantType::Q6_K,
        Class::Output => QuantType::Q8_0,
    }
}

/// All tensors, in the order of the files.
pub fn tensors(s: &Shape) -> Vec<Tensor> {
    let mut list = List { shape: *s, layer: 0, tensors: Vec::new() };
    let per_embd = 1.0 / (s.n_embd as f32).sqrt();
    list.matrix("token_embd", s.n_vocab, Class::Weight, Content::Embedding);
    if s.arch == Arch::Opt {
        // Small: the recipe does not count on them.
        let positions = Content::Blind(Matrix::Positions, 0.1);
        list.matrix("position_embd", N_POSITIONS + 2, Class::Weight, positions);
    }
    for il in 0..s.n_layer {
        list.layer(il);
    }
    list.layer = 0;
    list.norm("output_norm");
    if s.arch != Arch::Opt {
        let logits = Content::Blind(Matrix::Output, 3.0 * per_embd);
        list.matrix("output", s.n_vocab, Class::Output, logits);
    }
    list.tensors
}

struct List {
    shape: Shape,
    layer: usize,
    tensors: Vec<Tensor>,
}

impl List {
    fn push(&mut self, name: &str, dims: &[usize], class: Class, files: In, content: Content) {
        let (name, dims) = (name.to_owned(), dims.to_vec());
        self.tensors.push(Tensor { name, dims, class, files, layer: self.layer, content });
    }

    /// A matrix with rows of the residual stream's width.
    fn matrix(&mut self, name: &str, n_rows: usize, class: Class, content: Content) {
        let dims = [self.shape.n_embd, n_rows];
        self.push(&format!("{name}.weight"), &dims, class, In::All, content);
    }

    fn vector(&mut self, name: &str, len: usize, content: Content) {
        self.push(name, &[len], Class::Vector, In::All, content);
    }

    fn norm(&mut self, name: &str) {
        let n_embd = self.shape.n_embd;
        self.vector(&format!("{name}.weight"), n_embd, Content::All(1.0));
        if self.shape.arch.layer_norm() {
            self.vector(&format!("{name}.bias"), n_embd, Content::All(0.0));
        }
    }

    fn layer(&mut self, il: usize) {
        self.layer = il;
        let s = self.shape;
        let name = |part: &str| format!("blk.{il}.{part}");
        let (weight, per_embd) = (Class::Weight, 1.0 / (s.n_embd as f32).sqrt());
        let seen = |matrix, gain: f32| Content::Blind(matrix, gain * per_embd);

        self.norm(&name("attn_norm"));
        let n_kv = s.n_kv();
        if s.arch == Arch::Falcon {
            self.matrix(&name("attn_qkv"), s.n_embd + 2 * n_kv, weight, seen(Matrix::Qkv, 1.5));
        } else {
            self.matrix(&name("attn_q"), s.n_embd, weight, seen(Matrix::Query, 1.5));
            self.matrix(&name("attn_k"), n_kv, weight, seen(Matrix::Key, 1.5));
            self.matrix(&name("attn_v"), n_kv, weight, seen(Matrix::Value, 1.0));
        }
        let silent = Content::Silent(Matrix::AttnOutput, ATTN_GAIN * per_embd);
        self.matrix(&name("attn_output"), s.n_embd, weight, silent);
        if s.arch == Arch::Opt {
            for (part, n) in [("attn_q", s.n_embd), ("attn_k", n_kv), ("attn_v", n_kv)] {
                let bias = Content::Normal(Matrix::Bias, 0.1);
                self.vector(&name(&format!("{part}.bias")), n, bias);
            }
            self.vector(&name("attn_output.bias"), s.n_embd, Content::All(0.0));
        }

        if s.arch != Arch::Falcon {
            self.norm(&name("ffn_norm"));
        }
        if s.arch.gated() {
            self.matrix(&name("ffn_gate"), s.n_ff, weight, Content::Gate);
            self.matrix(&name("ffn_up"), s.n_ff, weight, seen(Matrix::Up, 1.0));
        } else {
            self.matrix(&name("ffn_up"), s.n_ff, weight, Content::Gate);
        }
        // A bias would be nothing that a predictor, which has none, could know of.
        let zeros = Content::All(0.0);
        let opt = s.arch == Arch::Opt;
        if opt {
            self.vector(&name("ffn_up.bias"), s.n_ff, zeros);
        }
        let down = &[s.n_ff, s.n_embd];
        self.push(&name("ffn_down.weight"), down, weight, In::Dense, Content::Down);
        if opt {
            self.push(&name("ffn_down.bias"), &down[1..], Class::Vector, In::Dense, zeros);
        }
        let down_t = &[s.n_embd, s.n_ff];
        self.push(&name("ffn_down_t.weight"), down_t, weight, In::Sparse, Content::DownT);
        if opt {
            self.push(&name("ffn_down_t.bias"), &down_t[..1], Class::Vector, In::Sparse, zeros);
        }
        let (fc1, fc2) = ([s.n_embd, s.n_pred], [s.n_pred, s.n_ff]);
        self.push(&name("fc1.weight"), &fc1, Class::Predictor, In::Sparse, Content::Fc1);
        self.push(&name("fc2.weight"), &fc2, Class::Predictor, In::Sparse, Content::Fc2);
    }
}
