//! Batches that are refused or stopped leave the context as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use powerinfer::engine::{Abort, Batch, Context, Input};
use powerinfer::model::Model;

use crate::common::{context, tiny};
use crate::{feed, pos_max, try_feed};

fn gqa() -> Arc<Model> {
    tiny::bare_model(&tiny::spec("gqa"))
}

/// Logits of a run that nothing disturbed: `n` tokens, then token 7.
fn undisturbed(model: &Arc<Model>, n: i32) -> Vec<f32> {
    let mut ctx = context(model, |p| p.n_ctx = 256);
    let tokens = tiny::tokens(n as usize, 96);
    feed(&mut ctx, &tokens, &(0..n).collect::<Vec<_>>(), &[0]);
    feed(&mut ctx, &[7], &[n], &[0])
}

#[test]
fn a_full_cache_refuses_and_goes_on_with_less() {
    let model = gqa();
    for kv_unified in [true, false] {
        let mut ctx = context(&model, |p| {
            p.n_ctx = if kv_unified { 256 } else { 512 };
            (p.n_seq_max, p.kv_unified) = (2, kv_unified);
        });
        let tokens = tiny::tokens(250, 96);
        feed(&mut ctx, &tokens, &(0..250).collect::<Vec<_>>(), &[0]);
        for n in [7, 100] {
            let pos: Vec<i32> = (250..250 + n).collect();
            let error = try_feed(&mut ctx, &tokens[..n as usize], &pos, &[0]).unwrap_err();
            assert_eq!(error.code(), 1);
            let text =
                format!("no room in the KV cache for a batch of {n} tokens (6 cells are free)");
            assert_eq!(error.to_string(), text);
            assert_eq!((pos_max(&ctx, 0), ctx.kv().stream(0).n_free()), (249, 6));
        }
        assert_eq!(feed(&mut ctx, &[7], &[250], &[0]), undisturbed(&model, 250));
        feed(&mut ctx, &tokens[..5], &[251, 252, 253, 254, 255], &[0]);
        assert_eq!(try_feed(&mut ctx, &[1], &[256], &[0]).unwrap_err().code(), 1);
        // The other sequence has cells of its own, or none either.
        let other = try_feed(&mut ctx, &[1], &[0], &[1]).map_err(|e| e.code());
        assert_eq!(other, if kv_unified { Err(1) } else { Ok(()) });
        ctx.kv_mut().seq_rm(Some(0), 250, i32::MAX);
        assert_eq!(feed(&mut ctx, &[7], &[250], &[0]), undisturbed(&model, 250));
    }
}

#[test]
fn invalid_batches_change_nothing() {
    let model = gqa();
    let mut ctx = context(&model, |p| (p.n_ctx, p.n_batch, p.n_seq_max) = (512, 64, 2));
    let tokens = tiny::tokens(10, 96);
    feed(&mut ctx, &tokens, &(0..10).collect::<Vec<_>>(), &[0]);
    feed(&mut ctx, &[1, 2], &[0, 1], &[1]);

    let none = Batch { input: Input::Tokens(&[]), pos: None, seq_ids: None, outputs: None };
    let ids = |ids| Batch { input: Input::Tokens(ids), ..none };
    let at = |pos| Batch { pos: Some(pos), ..ids(&[1, 2]) };
    let of = |seq_ids| Batch { seq_ids: Some(seq_ids), ..ids(&[1, 2]) };
    let long = [1; 65];
    let cases: &[(Batch<'_>, &str)] = &[
        (none, "the batch has no tokens"),
        (ids(&[1, 96]), "token 1 of the batch is 96, the vocabulary has 96"),
        (ids(&[-1]), "token 0 of the batch is -1, the vocabulary has 96"),
        (ids(&long), "the batch has 65 tokens, n_batch is 64"),
        (at(&[10]), "the batch has 2 tokens but other lists have [Some(1), None, None] elements"),
        (at(&[10, -1]), "token 1 of the batch has position -1"),
        (at(&[11, 12]), "sequence 0 ends at position 9 but the batch goes on at 11"),
        (at(&[9, 10]), "sequence 0 ends at position 9 but the batch goes on at 9"),
        (at(&[10, 12]), "sequence 0 has positions 10 to 12 in the batch but only 2 tokens"),
        (of(&[&[0], &[2]]), "token 1 is of sequence 2, there are 2"),
        (of(&[&[0], &[-1]]), "token 1 is of sequence -1, there are 2"),
        (of(&[&[0], &[]]), "token 1 of the batch is of no sequence"),
        (of(&[&[0]]), "the batch has 2 tokens but other lists have [None, Some(1), None] elements"),
        (
            Batch { input: Input::Embeddings(&[0.0; 65]), ..none },
            "the batch has 65 numbers, no whole embeddings of 64",
        ),
        (
            Batch { outputs: Some(&[true]), ..ids(&[1, 2]) },
            "the batch has 2 tokens but other lists have [None, None, Some(1)] elements",
        ),
    ];
    for (batch, expected) in cases {
        let error = ctx.decode(batch).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (-1, *expected));
        assert_eq!((pos_max(&ctx, 0), pos_max(&ctx, 1)), (9, 1));
    }
    // One token of two sequences that end in different places.
    let shared = try_feed(&mut ctx, &[1], &[10], &[0, 1]).unwrap_err();
    assert_eq!(shared.code(), -1, "{shared}");
    assert_eq!(feed(&mut ctx, &[7], &[10], &[0]), undisturbed(&model, 10));
}

/// Says stop when asked for the n-th time.
struct After(AtomicI32);

impl Abort for After {
    fn should_abort(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

fn is_stopped(ctx: &mut Context, n: i32, tokens: &[i32], pos: &[i32]) -> bool {
    ctx.set_abort(Some(Box::new(After(AtomicI32::new(n)))));
    let result = try_feed(ctx, tokens, pos, &[0]);
    ctx.set_abort(None);
    if let Err(e) = &result {
        assert_eq!(e.code(), 2, "{e}");
    }
    result.is_err()
}

#[test]
fn an_aborted_batch_keeps_whole_ubatches_only() {
    let model = gqa();
    let expected = undisturbed(&model, 30);
    let tokens = tiny::tokens(30, 96);
    let pos: Vec<i32> = (0..30).collect();
    let n_steps = model.plan().unwrap().steps.len() as i32;
    for n_threads in [1, 3] {
        // Asked before each step of each of three ubatches.
        for n in (1..=3 * n_steps + 1).step_by(5).chain([3 * n_steps, 3 * n_steps + 1]) {
            let mut ctx = context(&model, |p| {
                (p.n_ctx, p.n_ubatch) = (256, 10);
                (p.n_threads, p.n_threads_batch) = (n_threads, n_threads);
            });
            let stopped = is_stopped(&mut ctx, n, &tokens, &pos);
            assert_eq!(stopped, n <= 3 * n_steps, "{n} of {n_steps} steps");
            let left = pos_max(&ctx, 0) + 1;
            assert_eq!(left, (n - 1) / n_steps * 10, "{n} of {n_steps} steps");
            assert_eq!(ctx.kv().stream(0).n_free(), 256 - left as usize);
            if left < 30 {
                feed(&mut ctx, &tokens[left as usize..], &pos[left as usize..], &[0]);
            }
            assert_eq!(feed(&mut ctx, &[7], &[30], &[0]), expected);
        }
    }
}

/// More rows for one thread than the bookkeeping of tiles counts.
#[test]
fn a_huge_ubatch_in_one_thread() {
    let model = tiny::bare_model(&tiny::MICRO);
    let run = |n_ubatch: u32| {
        let mut ctx = context(&model, |p| {
            (p.n_ctx, p.n_batch, p.n_ubatch) = (20224, 20000, n_ubatch);
            (p.n_seq_max, p.kv_unified, p.n_threads, p.n_threads_batch) = (200, true, 1, 1);
        });
        let tokens = tiny::tokens(20000, 40);
        let pos: Vec<i32> = (0..20000).map(|i| i / 200).collect();
        let seqs: Vec<[i32; 1]> = (0..20000).map(|i| [i % 200]).collect();
        let seqs: Vec<&[i32]> = seqs.iter().map(|s| &s[..]).collect();
        let batch = Batch {
            input: Input::Tokens(&tokens),
            pos: Some(&pos),
            seq_ids: Some(&seqs),
            outputs: None,
        };
        ctx.decode(&batch).unwrap();
        ctx.outputs().logits_ith(-1).unwrap().to_vec()
    };
    assert_eq!(run(20000), run(100));
}
