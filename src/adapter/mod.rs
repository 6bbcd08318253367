//! What is added to a model while it runs: LoRA adapters and control vectors.
//!
//! A [`Lora`] adds a product of low rank to products of the model: `W x + scale * B (A x)`. A
//! [`ControlVector`] adds a direction to the state after each of some layers. Both become steps of
//! the plan ([`Adapted`]), laid out once when a context gets them: a context without any runs the
//! model's own plan, and pays nothing.
//!
//! | file | what it is |
//! |---|---|
//! | `lora` | adapter files: keys, pairs of matrices, what is refused |
//! | `control` | control vectors: layout and layers |
//! | `adapt` | the plan with what is added |
//! | `pack` | the matrices of all adapters for one product, as two |
//!
//! To add a step that multiplies weights: say in `adapt` where its product of low rank goes.

mod adapt;
mod control;
mod lora;
mod pack;

pub use adapt::Adapted;
pub use control::ControlVector;
pub use lora::Lora;

use crate::gguf;
use crate::quant::QuantType;
use crate::tensor::Shape;
use crate::util::aligned::OutOfMemory;

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container is damaged, or not what it says.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A file of another kind.
    #[error("key '{key}' is '{found}', expected '{expected}'")]
    Kind {
        /// The key that says what the file is.
        key: &'static str,
        /// What it says; empty when it is not there.
        found: String,
        /// What an adapter for this model says.
        expected: String,
    },
    /// Tokens that switch an adapter on, in another form than a list of numbers.
    #[error("key '{key}' is no array of u32")]
    InvocationTokens {
        /// The key.
        key: &'static str,
    },
    /// A tensor that is no part of an adapter.
    #[error("tensor '{name}' ends neither in .lora_a nor in .lora_b")]
    Suffix {
        /// Its name.
        name: String,
    },
    /// Half of a pair.
    #[error("'{name}' has no {missing}")]
    Half {
        /// The model's tensor.
        name: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The model has no such tensor.
    #[error("the model has no tensor '{name}' (is the adapter for another model?)")]
    Unknown {
        /// The name without the suffix.
        name: String,
    },
    /// Matrices that do not fit the model's, or each other.
    #[error(
        "'{name}' is {} in the model, which lora_a {} and lora_b {} do not fit (is the adapter for \
         another model?)", shapes[0], shapes[1], shapes[2]
    )]
    WrongShape {
        /// The model's tensor.
        name: String,
        /// Its extents, and those of the adapter's matrices.
        shapes: Box<[Shape; 3]>,
    },
    /// Numbers that are no weights.
    #[error("'{name}' has matrices of type {found}, which is not supported")]
    UnsupportedType {
        /// The model's tensor.
        name: String,
        /// Type in the adapter.
        found: QuantType,
    },
    /// The model has no plan to add to.
    #[error("the model was loaded without its weights")]
    NoWeights,
    /// No memory for the matrices.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}
