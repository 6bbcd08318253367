//! What a context remembers as bytes: restored it goes on as if nothing had happened, and bytes
//! that are wrong change nothing. On tiny models.

#[path = "../common/mod.rs"]
mod common;
mod fits;
mod hostile;
mod round_trips;

use std::sync::Arc;

use powerinfer::engine::{Batch, Context, ContextParams, Input, StateError, StateScope};
use powerinfer::model::Model;

const ALL: StateScope = StateScope::ALL;

/// The bytes of a state, whose size was told before.
fn state(ctx: &mut Context, scope: StateScope) -> Vec<u8> {
    let mut out = Vec::new();
    let size = ctx.state_size(&scope).unwrap();
    assert_eq!(ctx.write_state(&scope, &mut out).unwrap(), size);
    assert_eq!(out.len() as u64, size);
    out
}

fn restore(ctx: &mut Context, scope: StateScope, bytes: &[u8]) {
    assert_eq!(ctx.read_state(&scope, bytes).unwrap(), bytes.len() as u64);
}

/// Asserts that a state is refused with a text, and that nothing has changed.
#[track_caller]
fn assert_refused(ctx: &mut Context, scope: StateScope, bytes: &[u8], text: &str) -> StateError {
    let before = state(ctx, ALL);
    let error = ctx.read_state(&scope, bytes).unwrap_err();
    assert!(error.to_string().contains(text), "{error}, expected '{text}'");
    assert!(state(ctx, ALL) == before, "it has changed");
    error
}

/// Decodes tokens at the next positions of some sequences; the last token's logits.
fn go(ctx: &mut Context, tokens: &[i32], seqs: &[i32]) -> Vec<f32> {
    let first = ctx.kv().pos_max(seqs[0] as usize) + 1;
    let pos: Vec<i32> = (first..first + tokens.len() as i32).collect();
    let ids = vec![seqs; tokens.len()];
    let input = Input::Tokens(tokens);
    ctx.decode(&Batch { input, pos: Some(&pos), seq_ids: Some(&ids), outputs: None }).unwrap();
    ctx.outputs().logits_ith(-1).unwrap().to_vec()
}

/// A context of four sequences.
fn four(model: &Arc<Model>, change: impl FnOnce(&mut ContextParams)) -> Context {
    common::context(model, |p| {
        p.n_seq_max = 4;
        change(p);
    })
}

/// First and last position of each sequence.
fn spans(ctx: &Context) -> Vec<(i32, i32)> {
    (0..ctx.sizes().n_seq_max).map(|s| (ctx.kv().pos_min(s), ctx.kv().pos_max(s))).collect()
}
