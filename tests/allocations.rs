//! Once a ubatch of a size was computed, the next of that size allocates nothing worth a mention.
//!
//! This test is alone in its program: it counts what every thread of it allocates.
#![allow(unsafe_code, dead_code, reason = "counts what the engine allocates")]

mod common;
#[path = "common/meter.rs"]
mod meter;

use common::{context, tiny};
use powerinfer::engine::{Batch, Context, Input};

/// Bytes and calls while a batch of `n` tokens is computed, all outputs wanted.
fn cost(ctx: &mut Context, n: usize) -> (usize, usize) {
    let tokens = tiny::tokens(n, 96);
    let outputs = vec![true; n];
    let batch =
        Batch { input: Input::Tokens(&tokens), pos: None, seq_ids: None, outputs: Some(&outputs) };
    meter::total(|| ctx.decode(&batch).unwrap())
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
