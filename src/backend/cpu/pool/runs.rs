//! The runs in progress, of all pools: what keeps two of them from sharing one buffer. No part of how
//! the threads of a pool meet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

static RUNS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn runs() -> MutexGuard<'static, Vec<u64>> {
    RUNS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Registers a run for as long as it lives.
pub(super) struct Run(u64);

impl Run {
    pub(super) fn begin() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let run = Self(NEXT.fetch_add(1, Ordering::Relaxed));
        runs().push(run.0);
        run
    }

    /// Its number, unique in the process.
    pub(super) fn id(&self) -> u64 {
        self.0
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        runs().retain(|&r| r != self.0);
    }
}

/// Whether this run of some pool is still in progress.
pub(super) fn is_running(run: u64) -> bool {
    runs().contains(&run)
}
