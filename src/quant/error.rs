//! What can be wrong with a request to a codec.

use super::types::QuantType;

/// Why bytes and numbers could not be turned into each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Blocks of this type can be read, not made.
    #[error("numbers cannot be quantised to type {ty}")]
    NoQuantizer {
        /// The type.
        ty: QuantType,
    },
    /// The bytes are not a whole number of blocks.
    #[error("found {found} bytes of type {ty}, expected a multiple of {expected}")]
    BlockSize {
        /// The type.
        ty: QuantType,
        /// Bytes given.
        found: usize,
        /// Bytes in a block.
        expected: usize,
    },
    /// Bytes and numbers do not belong to rows of the same length.
    #[error("found {bytes} bytes of type {ty} for a row of {len} elements, expected {expected}")]
    RowSize {
        /// The type.
        ty: QuantType,
        /// Bytes given.
        bytes: usize,
        /// Elements given.
        len: usize,
        /// How many bytes the elements take.
        expected: String,
    },
    /// Importances do not belong to the row.
    #[error("found {found} importances for a row of {expected} elements")]
    Importance {
        /// Importances given.
        found: usize,
        /// Elements given.
        expected: usize,
    },
    /// The type takes no numbers without importances.
    #[error("numbers cannot be quantised to type {ty} without importances")]
    NeedsImportance {
        /// The type.
        ty: QuantType,
    },
    /// A number or a block's scale is NaN or infinite.
    #[error("a value or scale of type {ty} at element {element} that is not finite")]
    NotFinite {
        /// The type.
        ty: QuantType,
        /// Index of the number, or of the first number in the block.
        element: usize,
    },
}
