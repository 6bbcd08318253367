//! What a context remembers as bytes: all of it or one sequence, in memory and in files.
//!
//! A state is the cache's cells and rows ([`crate::engine::kv::KvCache::write_state`]) in an envelope:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic `pist` |
//! | 4 | version |
//! | 8 | length of all |
//! | 4 | what it holds: one sequence? the windowed part alone? a cache at all? |
//! | 4 + n | architecture |
//! | ... | the cache |
//! | 8 | hash of all before |
//!
//! Outputs of the last batch are not part of it, nor are samplers. What has a version or a form
//! that this does not know is refused: states are made to be read by the library that wrote them.
//!
//! States are hostile until proven good: the length and the hash are held against the bytes that
//! are there, then every number against the context, and only when all fits is the cache touched.
//! A state that is refused changes nothing.

mod file;
mod kept;
pub mod wire;

use std::io::{self, Write};

pub use file::{LoadedTokens, count_tokens};
pub use kept::KeptStates;

use super::Context;
use super::kv::MAX_SEQS;
use crate::util::hash::StreamHash;
use wire::{In, Out};

/// `pist`: this library's states. llama.cpp's begin otherwise.
const MAGIC: u32 = u32::from_le_bytes(*b"pist");
const VERSION: u32 = 1;

/// Bytes at the start of a state that say how long it is.
pub const PREFIX_BYTES: usize = 16;
const HASH_BYTES: usize = 8;

const HOLDS_ONE_SEQ: u32 = 1;
const HOLDS_PARTIAL: u32 = 2;
const HOLDS_CACHE: u32 = 4;
const HOLDS_TICKET: u32 = 8;

/// Which part of what a context remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateScope {
    /// One sequence; all of them when `None`.
    pub seq: Option<usize>,
    /// Only what the layers with a window keep, where they keep less than the others.
    pub partial: bool,
}

impl StateScope {
    /// Everything.
    pub const ALL: Self = Self { seq: None, partial: false };

    /// All of one sequence.
    pub fn seq(seq: usize) -> Self {
        Self { seq: Some(seq), partial: false }
    }

    fn holds(&self, has_cache: bool) -> u32 {
        u32::from(self.seq.is_some()) * HOLDS_ONE_SEQ
            + u32::from(self.partial) * HOLDS_PARTIAL
            + u32::from(has_cache) * HOLDS_CACHE
    }
}

/// Why a state was not written or not restored. Then nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes are something else.
    #[error("no state of this library: it begins with {found:08x}, expected {MAGIC:08x}")]
    Foreign {
        /// The first four bytes.
        found: u32,
    },
    /// Another version of this library wrote it.
    #[error("the state has version {found}, expected {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Not all of it is there.
    #[error("the state is cut off: it has {found} bytes, expected {expected}")]
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that it says it has.
        expected: u64,
    },
    /// The bytes are not those that were written.
    #[error("the state is damaged: its hash is {found:016x}, expected {expected:016x}")]
    Damaged {
        /// Hash of the bytes.
        found: u64,
        /// Hash at their end.
        expected: u64,
    },
    /// It contradicts itself.
    #[error("the state is malformed: {0}")]
    Malformed(String),
    /// It is another context's or another model's.
    #[error("the state does not fit the context: {0}")]
    Mismatch(String),
    /// The cache has too few cells.
    #[error("no room in the KV cache for {needed} tokens of the state ({free} cells are free)")]
    NoRoom {
        /// Cells that it needs.
        needed: usize,
        /// Cells that there are for it.
        free: usize,
    },
    /// No such sequence.
    #[error("there is no sequence {seq}, n_seq_max is {n_seq_max}")]
    NoSuchSeq {
        /// Its number.
        seq: usize,
        /// Sequences that there are.
        n_seq_max: usize,
    },
    /// More tokens than the caller has room for.
    #[error("the file has {found} tokens, there is room for {capacity}")]
    TooManyTokens {
        /// Tokens of the file.
        found: usize,
        /// Tokens that fit.
        capacity: usize,
    },
    /// A file's first two numbers are not those of such a file.
    #[error(
        "unknown magic and version ({magic:08x}, {version}), expected ({expected:08x}, {known})"
    )]
    UnknownFile {
        /// What it has.
        magic: u32,
        /// What it has.
        version: u32,
        /// What it should have.
        expected: u32,
        /// What it should have.
        known: u32,
    },
    /// The place for the bytes is too small, or a file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The length that a state says it has, from its first [`PREFIX_BYTES`] bytes.
pub fn claimed_len(prefix: &[u8]) -> Result<u64, StateError> {
    let cut_off =
        StateError::Truncated { found: prefix.len() as u64, expected: PREFIX_BYTES as u64 };
    let mut src = In(prefix.get(..PREFIX_BYTES).ok_or(cut_off)?);
    match src.u32()? {
        MAGIC => {}
        found => return Err(StateError::Foreign { found }),
    }
    match src.u32()? {
        VERSION => src.u64(),
        found => Err(StateError::Version { found }),
    }
}

/// Writes the right hash at the end of a state that was changed: for tests of what stands behind
/// that check.
pub fn rehash(state: &mut [u8]) {
    if let Some((body, end)) = state.split_last_chunk_mut::<HASH_BYTES>() {
        let mut hash = StreamHash::default();
        hash.add(body);
        *end = hash.finish().to_le_bytes();
    }
}

impl Context {
    /// Bytes that [`Self::write_state`] would write now.
    pub fn state_size(&mut self, scope: &StateScope) -> Result<u64, StateError> {
        self.check_scope(scope)?;
        let mut count = Out::count();
        self.put_state(scope, 0, &mut count)?;
        Ok(count.n_bytes())
    }

    /// Writes the state, and returns how many bytes it has.
    pub fn write_state(
        &mut self,
        scope: &StateScope,
        out: &mut dyn Write,
    ) -> Result<u64, StateError> {
        self.write_state_after(scope, StreamHash::default(), out)
    }

    /// The same for a state that stands in a file: its hash is of all that is before it too.
    fn write_state_after(
        &mut self,
        scope: &StateScope,
        before: StreamHash,
        out: &mut dyn Write,
    ) -> Result<u64, StateError> {
        let len = self.state_size(scope)?;
        let mut out = Out::to(out, before);
        self.put_state(scope, len, &mut out)?;
        Ok(out.n_bytes())
    }

    fn put_state(&mut self, scope: &StateScope, len: u64, out: &mut Out<'_>) -> io::Result<()> {
        out.u32(MAGIC)?;
        out.u32(VERSION)?;
        out.u64(len)?;
        out.u32(scope.holds(self.has_memory()))?;
        let arch = self.model().arch_name().as_bytes();
        out.u32(arch.len() as u32)?;
        out.bytes(arch)?;
        if self.has_memory() {
            self.kv_mut().write_state(scope, out)?;
        }
        out.u64(out.hash())
    }

    /// Restores the state at the start of `bytes`, in place of all or of the sequence that `scope`
    /// names, which may be another one than it was taken of. Returns how many bytes it has.
    pub fn read_state(&mut self, scope: &StateScope, bytes: &[u8]) -> Result<u64, StateError> {
        self.read_state_after(scope, StreamHash::default(), bytes)
    }

    fn read_state_after(
        &mut self,
        scope: &StateScope,
        before: StreamHash,
        bytes: &[u8],
    ) -> Result<u64, StateError> {
        self.check_scope(scope)?;
        let body = unsealed(before, bytes)?;
        let mut src = In(body);
        let holds = src.u32()?;
        let wanted = scope.holds(self.has_memory());
        if holds != wanted {
            return Err(mismatch_of(holds, wanted));
        }
        let n = src.u32()? as usize;
        let arch = src.bytes(n)?;
        if arch != self.model().arch_name().as_bytes() {
            let (found, own) = (String::from_utf8_lossy(arch), self.model().arch_name());
            let text = format!("it is of architecture '{found:.64}', expected '{own}'");
            return Err(StateError::Mismatch(text));
        }
        let restored =
            self.has_memory().then(|| self.kv().read_state(scope, &mut src)).transpose()?;
        if !src.0.is_empty() {
            let text = format!("{} bytes are left over", src.0.len());
            return Err(StateError::Malformed(text));
        }
        if let Some(restored) = restored {
            self.kv_mut().restore(restored);
        }
        Ok((body.len() + PREFIX_BYTES + HASH_BYTES) as u64)
    }

    fn check_scope(&self, scope: &StateScope) -> Result<(), StateError> {
        let n_seq_max = self.sizes().n_seq_max.min(MAX_SEQS);
        match scope.seq {
            Some(seq) if seq >= n_seq_max => Err(StateError::NoSuchSeq { seq, n_seq_max }),
            _ => Ok(()),
        }
    }
}

/// What is between the length and the hash, if both are right.
fn unsealed(mut hash: StreamHash, bytes: &[u8]) -> Result<&[u8], StateError> {
    let claimed = claimed_len(bytes)?;
    if claimed < (PREFIX_BYTES + HASH_BYTES) as u64 {
        return Err(StateError::Malformed(format!("it says that it has {claimed} bytes")));
    }
    let all = usize::try_from(claimed).ok().and_then(|n| bytes.get(..n));
    let found = bytes.len() as u64;
    let all = all.ok_or(StateError::Truncated { found, expected: claimed })?;
    let (body, end) = all.split_at(all.len() - HASH_BYTES);
    hash.add(body);
    let (found, expected) = (hash.finish(), In(end).u64()?);
    if found != expected {
        return Err(StateError::Damaged { found, expected });
    }
    Ok(&body[PREFIX_BYTES..])
}

fn mismatch_of(holds: u32, wanted: u32) -> StateError {
    let differs = (holds ^ wanted) & (holds ^ wanted).wrapping_neg();
    let is = holds & differs != 0;
    StateError::Mismatch(match (differs, is) {
        (HOLDS_ONE_SEQ, true) => "it is of one sequence, expected all".into(),
        (HOLDS_ONE_SEQ, false) => "it is of all sequences, expected one".into(),
        (HOLDS_PARTIAL, true) => "it was taken with the flag PARTIAL_ONLY, expected without".into(),
        (HOLDS_PARTIAL, false) => "it was taken without the flag PARTIAL_ONLY".into(),
        (HOLDS_TICKET, true) => "it was left on the device (flag ON_DEVICE)".into(),
        (HOLDS_TICKET, false) => "it was taken without the flag ON_DEVICE".into(),
        (HOLDS_CACHE, true) => "it has a cache, the context has none".into(),
        (HOLDS_CACHE, false) => "it has no cache".into(),
        _ => format!("it holds things that are not known ({holds:x})"),
    })
}
