//! The forward pass as a list of steps, and the builder that architectures write into.
//!
//! A plan is made once per model. It names weights by [`TensorId`] and activations by [`SlotId`];
//! which number format an activation has, how steps are split over threads and what memory they
//! use is the business of the engine that runs the plan.
//!
//! To add a step: a variant of [`StepKind`], a method on [`Builder`] that checks shapes
//! (`builder.rs`; what several architectures lay out alike is in `blocks.rs`), the formats that it
//! reads in `engine/buffers.rs` and its execution in `engine/run`.

mod blocks;
mod builder;
mod experts;
mod flow;
mod skipping;
mod streams;
mod unfused;

pub use builder::{BuildError, Builder, TensorFacts, Tensors};
pub use experts::{Experts, SkippingExperts};
pub use flow::{Flow, Leg};
pub use skipping::{Down, DownRows, FfnShape, Predictor, Skipping, SkippingFfn};
pub use streams::STREAMS;
pub(crate) use unfused::with_layer;

use crate::quant::QuantType;
use crate::tensor::Activation;

/// A weight of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// An activation buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub usize);

/// Which rows of a ubatch a buffer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row per token.
    Tokens,
    /// One row per token whose output was asked for.
    Outputs,
}

/// An activation buffer: `[rows, width]`. Buffers of the same name are one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Rows for each token or output: 1, or the experts that compute it.
    pub per_row: usize,
    /// Name, without a layer number.
    pub name: &'static str,
    /// Elements per row.
    pub width: usize,
    /// Rows it has.
    pub rows: Rows,
}

/// One matrix of a [`StepKind::MatMul`]; its rows are outputs.
#[derive(Clone, Copy, Debug)]
pub struct Mat {
    /// Weight, `[n_in, n_out]`.
    pub weight: TensorId,
    /// Number format of the weight.
    pub ty: QuantType,
    /// Row of the weight that gives the first output.
    pub first_row: usize,
    /// Number of outputs.
    pub n_out: usize,
    /// Factor of one element on the product.
    pub scale: Option<TensorId>,
    /// `[n_out]`, added to the product.
    pub bias: Option<TensorId>,
    /// The factor comes after the bias.
    pub scale_last: bool,
}

impl Mat {
    /// A whole weight, with neither factor nor bias.
    pub fn plain(weight: TensorId, ty: QuantType, n_out: usize) -> Self {
        Self { weight, ty, first_row: 0, n_out, scale: None, bias: None, scale_last: false }
    }
}

/// What an adapter adds to the product of matrices side by side with one input: `b(a(x))`, of low
/// rank (LoRA, arXiv 2106.09685).
#[derive(Clone, Debug)]
pub struct LowRank<M> {
    /// `[n_in, rank]`
    pub a: M,
    /// Outputs of `a`.
    pub hidden: SlotId,
    /// `[rank, n_out]` for each of the matrices, in their order.
    pub b: Vec<M>,
}

/// Which elements of a head are rotated as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours: `2i` and `2i + 1`.
    Norm,
    /// Halves of the rotated part: `i` and `i + n_rot / 2`.
    Neox,
}

/// How the queries and keys of a layer are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Which elements make a pair.
    pub style: RopeStyle,
    /// Leading elements of a head that are rotated.
    pub n_rot: usize,
    /// Table of angles: an index of [`Plan::ropes`].
    pub table: usize,
}

/// Divisors of rotation frequencies, `[n_rot / 2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeFactors {
    /// Always these (Llama 3.1's `rope_freqs`).
    One(TensorId),
    /// By the context's length: `long` beyond the original training length (LongRoPE).
    ByLength {
        /// For contexts of more than the original length.
        long: TensorId,
        /// For shorter ones.
        short: TensorId,
    },
}

/// Constants of a table that do not follow the context's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedRope {
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Factor on positions.
    pub freq_scale: f32,
    /// Whether YaRN's corrections and the factors on the magnitude count here too.
    pub scaled: bool,
}

/// A table of rotation angles, shared by the layers that name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeTable {
    /// Elements that are rotated, two per angle.
    pub n_rot: usize,
    /// Constants of these layers alone (Gemma 3's local ones); `None` for the model's and the
    /// context's.
    pub fixed: Option<FixedRope>,
    /// Divisors of the frequencies.
    pub factors: Option<RopeFactors>,
}

/// What a token sees beside the causal mask. Distances are in positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Itself and the `n - 1` before.
    Sliding(usize),
    /// From the last multiple of `n` on (Llama 4).
    Chunked(usize),
    /// `n / 2` to each side (encoders).
    Symmetric(usize),
}

/// A factor on queries that grows with the position (Llama 4, Mistral 3):
/// `1 + scale * ln(1 + floor((pos + offset) / length))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// See above.
    pub scale: f32,
    /// Positions of a step.
    pub length: f32,
    /// See above.
    pub offset: f32,
}

/// A matrix for each expert, one behind the other in one tensor.
#[derive(Clone, Copy, Debug)]
pub struct ExpertMat {
    /// Weight, `[n_in, n_out, n_expert]`.
    pub weight: TensorId,
    /// Number format of the weight.
    pub ty: QuantType,
    /// Outputs of an expert.
    pub n_out: usize,
    /// `[n_expert]`, factors on the product.
    pub scale: Option<TensorId>,
    /// `[n_out, n_expert]`, added to the product.
    pub bias: Option<TensorId>,
}

/// How a router's logits become shares of experts; the numbers are those of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts, then the best.
    Softmax = 1,
    /// Sigmoid of each, then the best.
    Sigmoid = 2,
    /// The best, then softmax over these.
    SoftmaxOfBest = 3,
}

/// How a token finds its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Experts that compute a token.
    pub n_used: usize,
    /// What becomes of the logits.
    pub gating: Gating,
    /// Shares are divided by their sum.
    pub normalized: bool,
    /// Factor on shares.
    pub scale: f32,
    /// `[n_expert]`, added for the choice alone.
    pub bias: Option<TensorId>,
}

/// Sizes and kind of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Elements of a query and key head.
    pub head_dim_k: usize,
    /// Elements of a value head.
    pub head_dim_v: usize,
    /// Rotation of queries and keys.
    pub rope: Option<Rope>,
    /// Factor on the scores.
    pub scale: f32,
    /// Limit on what is seen.
    pub window: Option<Window>,
    /// Scores become `cap * tanh(score / cap)`; 0 for none (Gemma 2).
    pub softcap: f32,
    /// A score of its own per query head that takes its share of the softmax and gives nothing,
    /// `[n_head]` (gpt-oss).
    pub sinks: Option<TensorId>,
    /// Greatest slope of ALiBi's linear penalty on distance; 0 for none (arXiv 2108.12409).
    pub max_alibi_bias: f32,
    /// Factor on queries by position.
    pub temperature: Option<Temperature>,
    /// The earlier layer whose keys and values it sees, in place of its own (Gemma 3n).
    pub kv_of: Option<usize>,
}

impl Attention {
    /// Plain attention, neither rotated nor limited.
    pub fn new(n_head: usize, n_head_kv: usize, head_dim_k: usize, head_dim_v: usize) -> Self {
        Self {
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v,
            rope: None,
            scale: 1.0 / (head_dim_k as f32).sqrt(),
            window: None,
            softcap: 0.0,
            sinks: None,
            max_alibi_bias: 0.0,
            temperature: None,
            kv_of: None,
        }
    }

    /// Elements of a token's keys.
    pub fn n_embd_k(&self) -> usize {
        self.n_head_kv * self.head_dim_k
    }

    /// Elements of a token's values.
    pub fn n_embd_v(&self) -> usize {
        self.n_head_kv * self.head_dim_v
    }

    /// Elements of a token's queries.
    pub fn n_embd_q(&self) -> usize {
        self.n_head * self.head_dim_k
    }
}

/// How a norm measures its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// By the root of the mean square.
    Rms,
    /// By mean and variance (layer norm).
    Layer,
}

/// A norm and its trained weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// What it divides by.
    pub kind: NormKind,
    /// Factors.
    pub weight: Option<TensorId>,
    /// Summands.
    pub bias: Option<TensorId>,
    /// Added to the mean square or variance.
    pub eps: f32,
}

/// Which row of a table belongs to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOf {
    /// Its id; 0 where the caller gives embeddings.
    Token,
    /// Its position, plus this.
    Position(usize),
    /// Always this one.
    Fixed(usize),
}

/// A change of every element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Map {
    /// Times this.
    Scale(f32),
    /// `cap * tanh(x / cap)`
    SoftCap(f32),
    /// `tanh(factor * x)`
    Tanh(f32),
}

/// The head that makes scores of a pooled embedding (classifiers, rerankers):
/// `softmax(out(tanh(dense(x))))`, of which a model has some parts.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// First matrix, before tanh.
    pub dense: Option<Mat>,
    /// Last matrix.
    pub out: Option<Mat>,
    /// Whether the scores are shares of 1.
    pub softmax: bool,
    /// Scores.
    pub n_out: usize,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// `dst[t] = rows of weight` by token id, or the caller's embeddings.
    Embed {
        /// `[n_embd, n_vocab]`.
        weight: TensorId,
        /// Residual stream.
        dst: SlotId,
        /// Factor on rows of the weight.
        scale: f32,
        /// Factor on the caller's embeddings; without one their rows are zero.
        input_scale: Option<f32>,
    },
    /// Adds a row of a table, times `scale`, to each token's row: positions, token types.
    AddRow {
        /// `[n_embd, rows]`.
        table: TensorId,
        /// Which row.
        row: RowOf,
        /// Factor on the row.
        scale: f32,
        /// Residual stream.
        dst: SlotId,
    },
    /// Norm of each row.
    Norm {
        /// Input.
        src: SlotId,
        /// Its weights are as wide as a row.
        norm: Norm,
        /// Output.
        dst: SlotId,
        /// Adds to what is in `dst` (the residual stream).
        add: bool,
    },
    /// Norm in place of each head in a part of the columns.
    NormHeads {
        /// Usually `[queries | keys | values]`.
        slot: SlotId,
        /// First column of the first head.
        first: usize,
        /// Heads.
        n_head: usize,
        /// Columns of a head.
        head_dim: usize,
        /// Its weights are as wide as a head, or as all heads together.
        norm: Norm,
    },
    /// `dst = concat(mats · src)`; with `add`, `dst += add * …`.
    MatMul {
        /// Input.
        src: SlotId,
        /// Matrices whose outputs stand side by side in `dst`.
        mats: Vec<Mat>,
        /// Output.
        dst: SlotId,
        /// Adds to what is in `dst` (the residual stream), times this.
        add: Option<f32>,
    },
    /// Rotates the keys in `qkv` and stores keys and values in the layer's cache.
    StoreKv {
        /// Layer.
        layer: usize,
        /// `[queries | keys | values]`.
        qkv: SlotId,
    },
    /// Rotates the queries in `qkv` and attends to the layer's cache.
    Attend {
        /// Layer.
        layer: usize,
        /// `[queries | keys | values]`.
        qkv: SlotId,
        /// Output, `n_head * head_dim_v` wide.
        dst: SlotId,
    },
    /// `dst = act(src)`, or with `gated` `dst = act(gate) * up` over `src = [gate | up]`.
    Activate {
        /// Input.
        src: SlotId,
        /// Which function.
        act: Activation,
        /// Whether the second half of `src` is multiplied in.
        gated: bool,
        /// Output.
        dst: SlotId,
    },
    /// `dst = act(src) * by`, which is some columns of a wider buffer.
    ActivateBy {
        /// Input.
        src: SlotId,
        /// Which function.
        act: Activation,
        /// The other factors.
        by: SlotId,
        /// Column of the first of them.
        first: usize,
        /// Output.
        dst: SlotId,
    },
    /// Sets the gates of `[gate | up]` that do not stand out to zero, and leaves of the others what
    /// is beyond the cutoff: see [`FfnShape::cutoff`].
    CutGates {
        /// `[gate | up]`.
        slot: SlotId,
        /// Standard deviations beyond the mean.
        cutoff: f32,
    },
    /// `dst = src * factors`, a factor for each column.
    Multiply {
        /// Input.
        src: SlotId,
        /// As wide as a row.
        factors: TensorId,
        /// Output.
        dst: SlotId,
    },
    /// `dst = src * |like| / |src|`, row by row; with `add`, `dst += …`.
    Rescale {
        /// Input.
        src: SlotId,
        /// Has the length that rows shall have.
        like: SlotId,
        /// Output.
        dst: SlotId,
        /// Adds to what is in `dst`.
        add: bool,
    },
    /// Adds sums of all residual streams to each: see [`Builder::mix_streams`].
    MixStreams {
        /// The streams.
        streams: Vec<SlotId>,
        /// A factor for each pair of them.
        coefs: SlotId,
    },
    /// Adds what a layer changed in one stream to all: see [`Builder::correct_streams`].
    CorrectStreams {
        /// The streams.
        streams: Vec<SlotId>,
        /// Which one the layer had.
        active: usize,
        /// What became of it.
        src: SlotId,
        /// A factor for each stream, less 1.
        coefs: SlotId,
    },
    /// Changes every element in place.
    Map {
        /// What changes.
        slot: SlotId,
        /// How.
        map: Map,
    },
    /// `dst += sigmoid(gate) * src`.
    Add {
        /// Input.
        src: SlotId,
        /// One number per row.
        gate: SlotId,
        /// Changed.
        dst: SlotId,
    },
    /// Chooses experts for each row, until the next `Route`.
    Route {
        /// `[n_expert]` per row.
        logits: SlotId,
        /// How.
        router: Router,
    },
    /// Copies each row once for each of its experts, sorted by expert.
    ToExperts {
        /// Input.
        src: SlotId,
        /// Output, `n_used` rows for each of the input.
        dst: SlotId,
    },
    /// Products of sorted rows with their expert's matrices, side by side.
    ExpertMatMul {
        /// Input, sorted by expert.
        src: SlotId,
        /// Matrices of all experts.
        mats: Vec<ExpertMat>,
        /// Output, sorted by expert.
        dst: SlotId,
        /// Adds to what is in `dst`.
        add: bool,
    },
    /// `dst += scale * sum of the experts' rows, each times its share`.
    FromExperts {
        /// Input, sorted by expert.
        src: SlotId,
        /// Factor on the sum.
        scale: f32,
        /// Changed.
        dst: SlotId,
    },
    /// Experts that can skip neurons.
    SkippingExperts(Box<SkippingExperts>),
    /// A feed-forward network that can skip neurons.
    SkippingFfn(Box<SkippingFfn>),
    /// Applies the factors and biases of products that stand side by side, in place.
    FinishProducts {
        /// The matrices.
        mats: Vec<Mat>,
        /// Their products.
        slot: SlotId,
    },
    /// Rotates heads in a part of the columns, in place.
    Rotate {
        /// Usually `[queries | keys | values]`.
        slot: SlotId,
        /// First column of the first head.
        first: usize,
        /// Heads.
        n_head: usize,
        /// Columns of a head.
        head_dim: usize,
        /// How.
        rope: Rope,
    },
    /// `dst += scale * src`
    Accumulate {
        /// Input.
        src: SlotId,
        /// Factor.
        scale: f32,
        /// Changed.
        dst: SlotId,
    },
    /// A copy in the formats that the copy's readers want. Between tokens and outputs it keeps
    /// only the rows whose output was asked for.
    Copy {
        /// Input.
        src: SlotId,
        /// Output.
        dst: SlotId,
    },
}

/// A step and the name of what it makes, as llama.cpp calls the node (`ffn_norm-3`).
#[derive(Clone, Debug)]
pub struct Step {
    /// Node name.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
}

/// The forward pass of a model.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Activation buffers.
    pub slots: Vec<Slot>,
    /// Attention sizes per layer.
    pub layers: Vec<Attention>,
    /// Normed final state, a row per output: the embeddings.
    pub embeddings: Option<SlotId>,
    /// Logits, a row per output; models that only embed have none.
    pub logits: Option<SlotId>,
    /// Makes scores of pooled embeddings.
    pub classifier: Option<Classifier>,
    /// Each batch stands alone (encoders): every token sees all of its sequence in the batch and
    /// nothing else, and every token is an output.
    pub stateless: bool,
    /// Positions that a table of learned positions has; `None` when there is no such table.
    pub n_pos: Option<usize>,
    /// Tables of rotation angles.
    pub ropes: Vec<RopeTable>,
}

impl Plan {
    /// A buffer's facts.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    /// Whether any layer can guess which of its neurons fire.
    pub fn has_predictors(&self) -> bool {
        self.steps.iter().any(|step| match &step.kind {
            StepKind::SkippingFfn(ffn) => ffn.predictor.is_some(),
            _ => false,
        })
    }

    /// Whether steps write products to a buffer or add to it, which then is kept in f32 alone: the
    /// residual stream.
    pub fn is_f32_alone(&self, id: SlotId) -> bool {
        self.steps.iter().any(|step| match &step.kind {
            StepKind::SkippingFfn(ffn) => ffn.dst == id,
            StepKind::MatMul { dst, .. } | StepKind::Norm { dst, add: true, .. } => *dst == id,
            StepKind::MixStreams { streams, .. } | StepKind::CorrectStreams { streams, .. } => {
                streams.contains(&id)
            }
            StepKind::Embed { dst, .. } | StepKind::AddRow { dst, .. } => *dst == id,
            StepKind::Rescale { dst, .. }
            | StepKind::Add { dst, .. }
            | StepKind::Accumulate { dst, .. }
            | StepKind::FromExperts { dst, .. } => *dst == id,
            _ => false,
        })
    }
}
