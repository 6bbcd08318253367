//! States that stay with their context: the caller gets a ticket of a few bytes.
//!
//! This is llama.h's flag `ON_DEVICE`: the bulk of a state does not travel through the caller's
//! memory. As there, each sequence has one; taking the next makes earlier tickets worthless.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::{In, Out};
use super::{
    Context, HASH_BYTES, HOLDS_TICKET, MAGIC, PREFIX_BYTES, StateError, StateScope, VERSION,
    mismatch_of, unsealed,
};
use crate::util::hash::StreamHash;

/// Bytes of a ticket: what it holds, the number.
const TICKET_BYTES: u64 = (PREFIX_BYTES + 4 + 8 + HASH_BYTES) as u64;

/// The states of a context that its callers have tickets for.
#[derive(Debug, Default)]
pub struct KeptStates {
    by_seq: HashMap<Option<usize>, Kept>,
}

#[derive(Debug)]
struct Kept {
    /// No other state of the process has it.
    number: u64,
    partial: bool,
    state: Vec<u8>,
}

impl Context {
    /// Bytes of a ticket for a state.
    pub fn ticket_size(&self, scope: &StateScope) -> Result<u64, StateError> {
        self.check_scope(scope).map(|()| TICKET_BYTES)
    }

    /// Takes a state, keeps it in place of the sequence's last one, and writes a ticket for it.
    /// Returns how many bytes that has.
    pub fn keep_state(
        &mut self,
        scope: &StateScope,
        out: &mut dyn Write,
    ) -> Result<u64, StateError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let n_bytes = self.state_size(scope)?;
        let mut state = Vec::new();
        let reserved = usize::try_from(n_bytes).map(|n| state.try_reserve_exact(n));
        if !matches!(reserved, Ok(Ok(()))) {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory).into());
        }
        self.write_state(scope, &mut state)?;
        let mut out = Out::to(out, StreamHash::default());
        out.u32(MAGIC)?;
        out.u32(VERSION)?;
        out.u64(TICKET_BYTES)?;
        out.u32(scope.holds(self.has_memory()) | HOLDS_TICKET)?;
        out.u64(number)?;
        out.u64(out.hash())?;
        let kept = Kept { number, partial: scope.partial, state };
        self.kept_states().by_seq.insert(scope.seq, kept);
        Ok(out.n_bytes())
    }

    /// Restores the state that a ticket is for; see [`Self::read_state`]. Returns how many bytes
    /// the ticket has.
    pub fn restore_kept(&mut self, scope: &StateScope, ticket: &[u8]) -> Result<u64, StateError> {
        let mut src = In(unsealed(StreamHash::default(), ticket)?);
        let (holds, wanted) = (src.u32()?, scope.holds(self.has_memory()) | HOLDS_TICKET);
        if holds != wanted {
            return Err(mismatch_of(holds, wanted));
        }
        let number = src.u64()?;
        let same_kind = |seq: &Option<usize>, kept: &Kept| {
            seq.is_some() == scope.seq.is_some() && kept.partial == scope.partial
        };
        let mut all = self.kept_states().by_seq.iter_mut();
        let found = all.find(|(seq, kept)| kept.number == number && same_kind(seq, kept));
        let Some((&seq, kept)) = found else {
            let text = "it is no longer on the device, or on another context's".into();
            return Err(StateError::Mismatch(text));
        };
        let state = std::mem::take(&mut kept.state);
        let result = self.read_state(scope, &state);
        if let Some(kept) = self.kept_states().by_seq.get_mut(&seq) {
            kept.state = state;
        }
        result.map(|_| TICKET_BYTES)
    }
}
