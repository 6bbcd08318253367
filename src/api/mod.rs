//! The safe façade that the C boundary and Rust users call.
//!
//! A [`Model`] is shared (`Arc`) and immutable; a [`Context`] belongs to one caller at a time.
//! To add a capability: a method here over the layer that has it, then a function in `ffi`.

mod calibrate;
mod model;
mod offload;

pub use crate::adapter::{Error as AdapterError, Lora};
pub use crate::engine::card::CardRequest;
pub use crate::engine::kv::{KvCache, MAX_SEQS};
pub use crate::engine::state::{PREFIX_BYTES, claimed_len, count_tokens};
pub use crate::engine::{
    Abort, Batch, Content, Context, ContextError, ContextParams, DecodeError, Input, MemoryUse,
    Node, Observer, Op, Perf, Sizes, StateError, StateScope, Value,
};
pub use crate::gguf::{KvOverride, LoadMode, LoadOptions, OverrideValue, Progress};
pub use crate::model::{Ftype, Hparams, Pooling, RopeParams, RopeScaling, SaveError, Wanted};
pub use crate::plan::RopeStyle;
pub use crate::sparse::{
    ActivationCounts, LayerReport, Mode as SparseMode, Request as SparseRequest,
};
pub use crate::tools::quantize::{
    FileType, Imatrix, Params as QuantizeParams, QuantizeError, Summary as QuantizeSummary,
    TypePattern, quantize,
};
pub use calibrate::CalibrationError;
pub use model::{Error, Model};
