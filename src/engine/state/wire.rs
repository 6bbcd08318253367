//! Numbers and bytes of a state on their way out and in. All numbers are little-endian.

use std::io::{self, Write};

use super::StateError;
use crate::util::hash::StreamHash;

/// Counts and hashes what goes out; without an output it only counts.
pub struct Out<'a> {
    to: Option<(&'a mut dyn Write, StreamHash)>,
    n_bytes: u64,
}

impl<'a> Out<'a> {
    /// Writes; the hash goes on from what it has seen already.
    pub fn to(out: &'a mut dyn Write, hash: StreamHash) -> Self {
        Self { to: Some((out, hash)), n_bytes: 0 }
    }

    /// Counts.
    pub fn count() -> Self {
        Self { to: None, n_bytes: 0 }
    }

    /// Bytes so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.to.as_ref().map_or(0, |(_, hash)| hash.finish())
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.n_bytes += bytes.len() as u64;
        if let Some((out, hash)) = &mut self.to {
            hash.add(bytes);
            out.write_all(bytes)?;
        }
        Ok(())
    }

    /// Appends a number.
    pub fn u32(&mut self, x: u32) -> io::Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    /// Appends a number with a sign.
    pub fn i32(&mut self, x: i32) -> io::Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    /// Appends a long number.
    pub fn u64(&mut self, x: u64) -> io::Result<()> {
        self.bytes(&x.to_le_bytes())
    }
}

/// The rest of a state.
#[derive(Clone, Copy, Debug)]
pub struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], StateError> {
        let (first, rest) = self.0.split_at_checked(n).ok_or_else(|| {
            StateError::Malformed(format!("it wants {n} more bytes where it has {}", self.0.len()))
        })?;
        self.0 = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    /// The next number.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next number with a sign.
    pub fn i32(&mut self) -> Result<i32, StateError> {
        self.array().map(i32::from_le_bytes)
    }

    /// The next long number.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        self.array().map(u64::from_le_bytes)
    }
}
