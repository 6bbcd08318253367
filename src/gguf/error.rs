//! What can be wrong with a GGUF file or with a question to it.

use std::io;

use crate::util::aligned::OutOfMemory;

/// Short form for this layer.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with a file, or why it could not be read or written.
///
/// Messages say where, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file in which the inner error happened.
    #[error("{file}: {source}")]
    InFile {
        /// Path, or another name for what was read.
        file: String,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// The system refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// No memory for tensor data.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A directory, pipe or device.
    #[error("not a regular file")]
    NotAFile,
    /// The first four bytes are no magic that we know.
    #[error("not a GGUF file: it starts with {found}, expected \"GGUF\" or \"PWRI\"")]
    Magic {
        /// The bytes, escaped.
        found: String,
    },
    /// Known magic, version that cannot be read.
    #[error("GGUF version {found} is not supported, expected 2 or 3{hint}")]
    Version {
        /// The version field, read as little-endian.
        found: u32,
        /// What it probably means.
        hint: &'static str,
    },
    /// The file ends too early.
    #[error("the file ends inside {what}: {need} bytes are needed, found {have}")]
    Truncated {
        /// What was being read.
        what: String,
        /// Length in bytes that the file must have at least.
        need: u64,
        /// Its length in bytes.
        have: u64,
    },
    /// A header count that the file's length rules out.
    #[error("the header claims {found} {what}, but the file has room for at most {most}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The claim.
        found: u64,
        /// The most that the rest of the file could hold.
        most: u64,
    },
    /// A metadata key or value that breaks a rule or is not what the reader asked for.
    #[error("key '{key}': found {found}, expected {expected}")]
    Key {
        /// The key, or `#n` where there is none yet.
        key: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A metadata key that has to be there is not.
    #[error("key '{key}' is missing, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// Type of value that was wanted.
        expected: &'static str,
    },
    /// A tensor that breaks a rule.
    #[error("tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// Its name, or `#n` where there is none yet.
        tensor: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A set of split files that does not fit together.
    #[error("split files: found {found}, expected {expected}")]
    Split {
        /// What the set has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// Tensor data was asked for before `load_tensors`, or of a file opened without data.
    #[error("the data of tensor '{tensor}' is not loaded")]
    NotLoaded {
        /// The tensor.
        tensor: String,
    },
    /// The progress callback asked to stop.
    #[error("loading was cancelled")]
    Cancelled,
}

impl Error {
    pub(super) fn key(key: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Key { key: printable(key), found: found.into(), expected: expected.into() }
    }

    pub(super) fn tensor(
        name: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Tensor { tensor: printable(name), found: found.into(), expected: expected.into() }
    }

    pub(super) fn split(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Split { found: found.into(), expected: expected.into() }
    }

    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// Adds the file's name, once.
    pub(super) fn in_file(self, file: &str) -> Self {
        match self {
            Self::InFile { .. } | Self::Cancelled => self,
            source => Self::InFile { file: file.to_owned(), source: Box::new(source) },
        }
    }

    /// The error without the name of the file.
    pub fn cause(&self) -> &Error {
        match self {
            Self::InFile { source, .. } => source.cause(),
            other => other,
        }
    }
}

/// Text from a file as a message may show it: one line, no control characters, not endless.
pub(super) fn printable(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
