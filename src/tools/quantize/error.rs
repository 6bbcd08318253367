use std::io;
use std::path::PathBuf;

use crate::gguf;
use crate::quant::{self, QuantType};

/// Why a file was not quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The model cannot be read, or the new one not be laid out.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A tensor override that is no regular expression, or one that takes too long.
    #[error("the pattern '{pattern}' of a tensor override: {error}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
    /// Rows that are no whole blocks of the type, nor of a type in its place.
    #[error("{tensor}: rows of {n_cols} elements, expected a multiple of {} for type {ty}", ty.block_len())]
    NoFallback {
        /// The tensor.
        tensor: String,
        /// The type that it was to get.
        ty: QuantType,
        /// Elements of a row.
        n_cols: u64,
    },
    /// A name of a model with experts without a layer of the model.
    #[error("{tensor}: no layer in the name, expected one of 0 to {n_layer}, exclusive")]
    BadLayer {
        /// The tensor.
        tensor: String,
        /// Layers of the model.
        n_layer: u32,
    },
    /// A type that is no better than noise without importances.
    #[error("{tensor}: type {ty} requires an importance matrix for this tensor")]
    NeedsImatrix {
        /// The tensor.
        tensor: String,
        /// The type that it was to get.
        ty: QuantType,
    },
    /// An importance matrix of another model.
    #[error("{tensor}: {found} importances, expected {expected}, one for each column")]
    ImatrixSize {
        /// The tensor.
        tensor: String,
        /// Importances given.
        found: usize,
        /// Columns, of all experts.
        expected: u64,
    },
    /// Importances that are no numbers.
    #[error("the importance matrix of {tensor} has a value that is not finite")]
    ImatrixValue {
        /// The entry's name.
        tensor: String,
    },
    /// A tensor that is quantised already.
    #[error("{tensor}: requantizing from type {ty} is disabled (allow_requantize)")]
    Requantize {
        /// The tensor.
        tensor: String,
        /// The type that it has.
        ty: QuantType,
    },
    /// A tensor of integers or doubles, which nothing converts.
    #[error("{tensor}: cannot convert from type {ty}")]
    NotFloat {
        /// The tensor.
        tensor: String,
        /// The type that it has.
        ty: QuantType,
    },
    /// A type that there is no encoder for.
    #[error("{tensor}: this version cannot quantise to type {ty}")]
    NoQuantizer {
        /// The tensor.
        tensor: String,
        /// The type that it was to get.
        ty: QuantType,
    },
    /// Data that are no finite numbers, before or after.
    #[error("{tensor}: {what} has {error}")]
    BadData {
        /// The tensor.
        tensor: String,
        /// Which data: the file's or the new one's.
        what: &'static str,
        /// What is wrong.
        error: quant::Error,
    },
    /// All layers would be left out.
    #[error("pruning leaves none of the {n_layer} layers")]
    NoLayers {
        /// Layers of the model.
        n_layer: u32,
    },
    /// The new file would replace a file that is read.
    #[error("'{}' is the file that is read, expected another one", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// The system refused an operation.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There are no threads to work with.
    #[error("cannot start {n} threads: {error}")]
    Threads {
        /// How many.
        n: usize,
        /// Why not.
        error: rayon::ThreadPoolBuildError,
    },
}

impl QuantizeError {
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }
}
