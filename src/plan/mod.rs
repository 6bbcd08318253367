//! The forward pass as a list of steps, and the builder that architectures write into.
//!
//! A plan is made once per model. It names weights by [`TensorId`] and activations by [`SlotId`];
//! which number format an activation has, how steps are split over threads and what memory they
//! use is the business of the engine that runs the plan.
//!
//! To add a step: a variant of [`StepKind`], a method on [`Builder`] that checks shapes, and its
//! execution in `engine/run`.

mod builder;

pub use builder::{BuildError, Builder, TensorFacts, Tensors};

use crate::quant::QuantType;

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
#[derive(Clone, Debug)]
pub struct Slot {
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

/// Sizes of one attention layer.
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
    /// Leading elements of a head that are rotated.
    pub n_rot: usize,
    /// Factor on the scores.
    pub scale: f32,
}

impl Attention {
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

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// `dst[t] = rows of weight` by token id, or the caller's embeddings.
    Embed {
        /// `[n_embd, n_vocab]`.
        weight: TensorId,
        /// Residual stream.
        dst: SlotId,
    },
    /// Root-mean-square norm of each row, times a weight.
    RmsNorm {
        /// Input.
        src: SlotId,
        /// `[width]`.
        weight: TensorId,
        /// Added to the mean square.
        eps: f32,
        /// Output.
        dst: SlotId,
    },
    /// `dst = concat(mats · src)`; with `add`, `dst += …`.
    MatMul {
        /// Input.
        src: SlotId,
        /// Matrices whose outputs stand side by side in `dst`.
        mats: Vec<Mat>,
        /// Output.
        dst: SlotId,
        /// Adds to what is in `dst` (the residual stream).
        add: bool,
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
    /// `dst = silu(gate) * up` over `src = [gate | up]`.
    SiluMul {
        /// Input, twice as wide as `dst`.
        src: SlotId,
        /// Output.
        dst: SlotId,
    },
    /// Keeps only the rows whose output was asked for.
    Select {
        /// Input, a row per token.
        src: SlotId,
        /// Output, a row per output.
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
    /// Logits, a row per output.
    pub logits: Option<SlotId>,
    /// Divides each pair's rotation frequency (Llama 3.1's `rope_freqs`), `[n_rot / 2]`.
    pub rope_factors: Option<TensorId>,
}

impl Plan {
    /// A buffer's facts.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }
}
