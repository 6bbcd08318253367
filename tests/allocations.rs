//! Once a ubatch of a size was computed, the next of that size allocates nothing worth a mention.
//!
//! This test is alone in its program: it counts what every thread of it allocates.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{context, tiny};
use powerinfer::engine::{Batch, Context, Input};

struct Counting;

/// Bytes asked for so far, and how many times.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BYTES.fetch_add(new_size, Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes and calls while a batch of `n` tokens is computed, all outputs wanted.
fn cost(ctx: &mut Context, n: usize) -> (usize, usize) {
    let tokens = tiny::tokens(n, 96);
    let outputs = vec![true; n];
    let batch =
        Batch { input: Input::Tokens(&tokens), pos: None, seq_ids: None, outputs: Some(&outputs) };
    let before = (BYTES.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
    ctx.decode(&batch).unwrap();
    let after = (BYTES.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
    (after.0 - before.0, after.1 - before.1)
}

/// What the check of a batch takes: a list of its tokens.
fn is_small(n: usize, bytes: usize) -> bool {
    bytes <= 64 * n + 1024
}

#[test]
fn later_ubatches_of_a_size_allocate_nothing_large() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    for (n_threads, embeddings) in [(1, false), (3, false), (2, true)] {
        let mut ctx = context(&model, |p| {
            (p.n_ctx, p.n_ubatch, p.embeddings) = (2048, 128, embeddings);
            (p.n_threads, p.n_threads_batch) = (n_threads, n_threads);
        });
        // Only chance says which thread meets which kind of task first, and gets memory for it:
        // it takes some rounds until all have.
        let mut rounds = (0..20).map(|_| {
            ctx.kv_mut().seq_rm(None, 0, i32::MAX);
            [128, 1, 100, 1, 256, 128, 1].map(|n| (n, cost(&mut ctx, n)))
        });
        let first = rounds.next().unwrap();
        assert!(!is_small(128, first[0].1.0), "the count does not work: {first:?}");
        let rest: Vec<_> = rounds.collect();
        let is_small_round = |round: &[(usize, (usize, usize)); 7]| {
            round.iter().all(|&(n, (bytes, calls))| is_small(n, bytes) && calls < 10)
        };
        let n_small = rest.iter().filter(|round| is_small_round(round)).count();
        assert!(n_small >= 10, "tokens, (bytes, calls): {rest:?}");
    }
}
