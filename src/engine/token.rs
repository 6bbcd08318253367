//! What the engine keeps of each token of a batch.

use super::kv::SeqSet;

/// One checked token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Position.
    pub pos: i32,
    /// Sequences that it belongs to.
    pub seqs: SeqSet,
    /// The sequence that it attends to: the first of them.
    pub seq: usize,
    /// Whether its output is wanted.
    pub output: bool,
}
