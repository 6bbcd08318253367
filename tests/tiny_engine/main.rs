//! The engine on tiny models: the cache's operations against fresh runs, batches that are refused
//! or stopped, embeddings. Nothing to download.

mod cache;
#[path = "../common/mod.rs"]
mod common;
mod embeddings;
mod history;
mod refusals;
mod windows;

use powerinfer::engine::{Batch, Context, Input};

/// The same logits up to the rounding of cosines and sines.
const CLOSE: f32 = 1e-4;

/// Decodes tokens at these positions, each of the same sequences; the last token's output.
fn try_feed(
    ctx: &mut Context,
    tokens: &[i32],
    pos: &[i32],
    seqs: &[i32],
) -> Result<(), powerinfer::engine::DecodeError> {
    let seqs = vec![seqs; tokens.len()];
    let (pos, seq_ids) = (Some(pos), Some(&seqs[..]));
    ctx.decode(&Batch { input: Input::Tokens(tokens), pos, seq_ids, outputs: None })
}

/// The logits of the last token.
fn feed(ctx: &mut Context, tokens: &[i32], pos: &[i32], seqs: &[i32]) -> Vec<f32> {
    try_feed(ctx, tokens, pos, seqs).unwrap();
    ctx.outputs().logits_ith(-1).unwrap().to_vec()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < CLOSE, "{what}: logits differ by {worst}");
}

fn pos_max(ctx: &Context, seq: usize) -> i32 {
    let kv = ctx.kv();
    kv.stream(kv.stream_of(seq)).pos_max(seq)
}
