//! Hyper-parameters, weights, one short file per architecture under [`arch`], whose page says how
//! to add one.
//!
//! A [`Model`] is loaded in three steps: the metadata becomes [`Hparams`], the tensor table becomes
//! a plan (every weight that the architecture needs is there, with the right shape and a type that
//! can be computed with), and only then the weights come into memory.

pub mod arch;
mod fingerprint;
mod ftype;
mod hparams;
mod layout;
mod load;
mod outline;
mod rope;
mod save;

pub use fingerprint::Fingerprint;
pub use ftype::Ftype;
pub use hparams::{Hparams, Pooling, classifier_labels};
pub use layout::Layout;
pub use load::{Model, Weight, can_compute};
pub use outline::{Wanted, wanted};
pub use rope::{RopeFreqs, RopeParams, RopeScaling, RopeTraining};
pub use save::SaveError;

use crate::gguf;
use crate::plan::BuildError;
use crate::util::aligned::OutOfMemory;

/// Why a file is no model that runs here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container is damaged, or not what it says.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// No such architecture here.
    #[error("unsupported architecture '{name}' (supported: {supported})")]
    UnsupportedArch {
        /// What the file says.
        name: String,
        /// What there is, separated by commas.
        supported: String,
    },
    /// A hyper-parameter makes no sense.
    #[error("key '{key}' has {found}, expected {expected}")]
    BadHparam {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A variant of the architecture that does not run yet.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// No memory for a weight.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A weight is missing or does not fit.
    #[error(transparent)]
    Build(#[from] BuildError),
}
