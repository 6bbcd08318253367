//! States in files: magic, version, number of tokens, tokens, the state; u32 and i32 each.
//!
//! The hash at the end of the state is of all that is before it in the file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::wire::In;
use super::{Context, PREFIX_BYTES, StateError, StateScope, claimed_len};
use crate::util::hash::StreamHash;

/// Magic `ggsn` and version of files of all sequences.
const SESSION: (u32, u32) = (u32::from_be_bytes(*b"ggsn"), 10);
/// Magic `ggsq` and version of files of one sequence.
const SEQUENCE: (u32, u32) = (u32::from_be_bytes(*b"ggsq"), 3);
/// Bytes before the tokens.
const HEADER_BYTES: u64 = 12;

/// What a file gives beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedTokens {
    /// The tokens that were saved with the state.
    pub tokens: Vec<i32>,
    /// Bytes of the file.
    pub n_bytes: u64,
}

impl Context {
    /// Writes a state and its caller's tokens to a file. Returns how many bytes that has.
    pub fn save_state(
        &mut self,
        scope: &StateScope,
        path: &Path,
        tokens: &[i32],
    ) -> Result<u64, StateError> {
        self.check_scope(scope)?;
        let n_tokens = u32::try_from(tokens.len()).map_err(|_| StateError::TooManyTokens {
            found: tokens.len(),
            capacity: u32::MAX as usize,
        })?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut hash = StreamHash::default();
        let mut put = |x: [u8; 4]| {
            hash.add(&x);
            out.write_all(&x)
        };
        let (magic, version) = kind(scope);
        for x in [magic, version, n_tokens] {
            put(x.to_le_bytes())?;
        }
        tokens.iter().try_for_each(|token| put(token.to_le_bytes()))?;
        let n_bytes = self.write_state_after(scope, hash, &mut out)?;
        out.flush()?;
        Ok(HEADER_BYTES + 4 * u64::from(n_tokens) + n_bytes)
    }

    /// Restores a state from a file that has at most `capacity` tokens.
    pub fn load_state(
        &mut self,
        scope: &StateScope,
        path: &Path,
        capacity: usize,
    ) -> Result<LoadedTokens, StateError> {
        self.check_scope(scope)?;
        let mut file = BufReader::new(File::open(path)?);
        let mut hash = StreamHash::default();
        let n_tokens = n_tokens(scope, &mut file, &mut hash)?;
        if n_tokens > capacity {
            return Err(StateError::TooManyTokens { found: n_tokens, capacity });
        }
        let bytes = up_to(&mut file, n_tokens as u64 * 4)?;
        hash.add(&bytes);
        let tokens = bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
        let mut state = up_to(&mut file, PREFIX_BYTES as u64)?;
        let len = claimed_len(&state)?;
        (&mut file).take(len.saturating_sub(state.len() as u64)).read_to_end(&mut state)?;
        // As in llama.cpp, what follows a sequence is somebody else's.
        if scope.seq.is_none() && file.read(&mut [0])? > 0 {
            return Err(StateError::Malformed("there is more in the file behind it".into()));
        }
        self.read_state_after(scope, hash, &state)?;
        Ok(LoadedTokens { tokens, n_bytes: HEADER_BYTES + 4 * n_tokens as u64 + len })
    }
}

/// Number of tokens in a file of one sequence, and bytes before them.
pub fn count_tokens(path: &Path) -> Result<(usize, u64), StateError> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let found = n_tokens(&StateScope::seq(0), &mut file, &mut StreamHash::default())?;
    let expected = HEADER_BYTES + 4 * found as u64;
    if len < expected {
        return Err(StateError::Truncated { found: len, expected });
    }
    Ok((found, HEADER_BYTES))
}

fn kind(scope: &StateScope) -> (u32, u32) {
    if scope.seq.is_some() { SEQUENCE } else { SESSION }
}

/// Reads the three numbers at the start of a file.
fn n_tokens(
    scope: &StateScope,
    file: &mut impl Read,
    hash: &mut StreamHash,
) -> Result<usize, StateError> {
    let bytes = up_to(file, HEADER_BYTES)?;
    hash.add(&bytes);
    let mut src = In(&bytes);
    let (magic, version) = (src.u32()?, src.u32()?);
    let (expected, known) = kind(scope);
    if (magic, version) != (expected, known) {
        return Err(StateError::UnknownFile { magic, version, expected, known });
    }
    Ok(src.u32()? as usize)
}

/// The next `n` bytes; no more memory is taken than there are bytes.
fn up_to(file: &mut impl Read, n: u64) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::new();
    let found = file.take(n).read_to_end(&mut bytes)? as u64;
    if found < n {
        return Err(StateError::Truncated { found, expected: n });
    }
    Ok(bytes)
}
