//! Runs a plan: batches, ubatches, KV cache, outputs.
//!
//! [`Context::decode`] checks a batch ([`batch`]), gives its tokens cells ([`kv`]), and lets all
//! threads walk the plan's steps ubatch by ubatch ([`run`]) over buffers that are allocated once
//! (`buffers`). What a context remembers becomes bytes and comes back from them in [`state`].
//!
//! To add a format of the KV cache: its name in `kv/format.rs`; rows are written by the codec of
//! `quant`, or faster there, and read by the kernel table's `dequant_row`. To add a step: see
//! [`run`]. To add a way of pooling: `outputs`.

mod adapters;
pub mod batch;
mod buffers;
pub mod card;
mod classify;
mod context;
pub mod kv;
mod measure;
mod outputs;
mod params;
mod perf;
pub mod run;
pub mod state;
pub mod token;

pub use batch::{Batch, Input};
pub use context::{Context, MemoryUse};
pub use measure::all_rows_from;
pub use params::{ContextParams, Sizes};
pub use perf::Perf;
pub use run::Abort;
pub use run::observe::{Content, Node, Observer, Op, Value};
pub use state::{StateError, StateScope};

use crate::backend::cuda::CudaError;
use crate::util::aligned::OutOfMemory;

/// Why a context cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Parameters that make no sense, or that are not supported.
    #[error("{0}")]
    Invalid(String),
    /// The card failed, and what was in its memory is lost.
    #[error("{0}; the context goes on without it, and empty")]
    Card(CudaError),
    /// The model was loaded without weights.
    #[error("the model was loaded without its weights")]
    NoWeights,
    /// No memory for the cache or the buffers.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Why a batch was not computed. [`DecodeError::code`] is what `llama_decode` returns.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The batch breaks a rule; nothing was changed.
    #[error("{0}")]
    InvalidBatch(String),
    /// The cache has too few free cells; nothing was changed.
    #[error("no room in the KV cache for a batch of {needed} tokens ({free} cells are free)")]
    NoSlot {
        /// Cells that the batch needs.
        needed: usize,
        /// Cells that there are.
        free: usize,
    },
    /// The abort callback stopped it; tokens before the stopped ubatch stay in the cache.
    #[error("aborted by the caller")]
    Aborted,
    /// No memory for buffers.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The card failed, and what was in its memory is lost.
    #[error("{0}; the context goes on without it, and empty")]
    Card(CudaError),
    /// The model was loaded without weights.
    #[error("the model was loaded without its weights")]
    NoWeights,
}

impl DecodeError {
    /// The code in llama.h's terms.
    pub fn code(&self) -> i32 {
        match self {
            Self::InvalidBatch(_) => -1,
            Self::NoSlot { .. } => 1,
            Self::Aborted => 2,
            Self::OutOfMemory(_) => -2,
            Self::Card(_) | Self::NoWeights => -3,
        }
    }
}
