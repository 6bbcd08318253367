//! The engine's promise: the same bytes for any number of threads, in any batch company, in any
//! ubatch size, wherever the cells happen to be. In depth on a few models and the real one; every
//! architecture and every type of weights in [`matrix`].

#![allow(clippy::needless_range_loop, reason = "positions, not only indices")]

#[path = "../common/mod.rs"]
mod common;
mod matrix;

use std::sync::Arc;

use common::{context, model, tiny, windowed};
use powerinfer::engine::{Batch, Context, ContextParams, Input};
use powerinfer::model::Model;

/// Tiny models, and the real one if it is there.
fn models() -> Vec<Arc<Model>> {
    let tiny = ["gqa", "odd", "tied", "fused-biases-apart"];
    let tiny = tiny.iter().map(|name| tiny::bare_model(&tiny::spec(name)));
    // Layers with a window shorter than the prompt, and longer than a chunk of attention.
    tiny.chain([windowed::model(37, 2), windowed::model(270, 3)]).chain(model()).collect()
}

fn name(model: &Model) -> String {
    model.meta().get_str("general.name").unwrap().unwrap_or_default().to_owned()
}

/// Tokens of a text that is longer than a chunk of attention (256 positions).
fn tokens(model: &Model, n: usize, salt: i32) -> Vec<i32> {
    let n_vocab = model.hparams().unwrap().n_vocab as i32;
    (0..n as i32).map(|i| (i * 7919 + i * i * 31 + salt * 977) % n_vocab).collect()
}

const PROMPT: usize = 300;
const STEPS: usize = 3;

/// Bits of the logits at the prompt's end and after each single-token step.
type Bits = Vec<Vec<u32>>;

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Decodes `tokens` as sequence `seq` from position `pos` on; the last token's logits.
fn feed(ctx: &mut Context, tokens: &[i32], pos: i32, seq: i32) -> Vec<u32> {
    let pos: Vec<i32> = (pos..pos + tokens.len() as i32).collect();
    let own = [seq];
    let seqs = vec![&own[..]; tokens.len()];
    let mut outputs = vec![false; tokens.len()];
    *outputs.last_mut().unwrap() = true;
    ctx.decode(&Batch {
        input: Input::Tokens(tokens),
        pos: Some(&pos),
        seq_ids: Some(&seqs),
        outputs: Some(&outputs),
    })
    .unwrap();
    bits(ctx.outputs().logits_ith(-1).unwrap())
}

fn lone_run(model: &Arc<Model>, change: impl FnOnce(&mut ContextParams)) -> Bits {
    let mut ctx = context(model, change);
    let text = tokens(model, PROMPT + STEPS, 0);
    let mut all = vec![feed(&mut ctx, &text[..PROMPT], 0, 0)];
    for i in PROMPT..PROMPT + STEPS {
        all.push(feed(&mut ctx, &text[i..=i], i as i32, 0));
    }
    all
}

fn assert_same(a: &Bits, b: &Bits, what: &str) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let n = a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert_eq!(n, 0, "{what}: {n} logits differ at output {i}");
    }
}

#[test]
fn threads_do_not_matter() {
    for model in models() {
        let one = lone_run(&model, |p| (p.n_threads, p.n_threads_batch) = (1, 1));
        for n in [2, 3, 8] {
            let many = lone_run(&model, |p| (p.n_threads, p.n_threads_batch) = (n, n));
            assert_same(&one, &many, &format!("{}, {n} threads", name(&model)));
        }
    }
}

#[test]
fn ubatches_do_not_matter() {
    for model in models() {
        let whole = lone_run(&model, |_| {});
        for n_ubatch in [1, 7, 64, 299] {
            // Where there are windows: keeping all, or what they show.
            let swa_full = n_ubatch == 64;
            let cut = lone_run(&model, |p| (p.n_ubatch, p.swa_full) = (n_ubatch, swa_full));
            assert_same(&whole, &cut, &format!("{}, ubatches of {n_ubatch}", name(&model)));
        }
    }
}

#[test]
fn company_and_cells_do_not_matter() {
    for model in models() {
        let alone = lone_run(&model, |_| {});
        for kv_unified in [true, false] {
            let mut ctx = context(&model, |p| {
                (p.n_seq_max, p.kv_unified, p.n_ctx) = (4, kv_unified, 2048);
                (p.swa_full, p.n_ubatch) = (false, 90);
            });
            let text = tokens(&model, PROMPT + STEPS, 0);
            // Strangers come first; one leaves again, so that free cells lie scattered.
            feed(&mut ctx, &tokens(&model, 50, 1), 0, 1);
            feed(&mut ctx, &tokens(&model, 40, 2), 0, 2);
            ctx.kv_mut().seq_rm(Some(1), 0, i32::MAX);
            feed(&mut ctx, &tokens(&model, 30, 3), 0, 1);
            // The prompt, half of it alone, half interleaved with another sequence's.
            feed(&mut ctx, &text[..100], 0, 3);
            let (mut ids, mut pos, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
            for (i, stranger) in tokens(&model, PROMPT - 100, 4).into_iter().enumerate() {
                ids.extend([text[100 + i], stranger]);
                pos.extend([100 + i as i32, 40 + i as i32]);
                seqs.extend([&[3][..], &[2][..]]);
            }
            let mut outputs = vec![false; ids.len()];
            outputs[ids.len() - 2] = true;
            let batch = Batch {
                input: Input::Tokens(&ids),
                pos: Some(&pos),
                seq_ids: Some(&seqs),
                outputs: Some(&outputs),
            };
            ctx.decode(&batch).unwrap();
            let mut all = vec![bits(ctx.outputs().logits_ith(-1).unwrap())];
            // Single steps together with the strangers' steps.
            for i in PROMPT..PROMPT + STEPS {
                let pos_2 = (i - PROMPT) as i32 + 40 + (PROMPT - 100) as i32;
                let batch = Batch {
                    input: Input::Tokens(&[5, text[i], 6]),
                    pos: Some(&[30 + (i - PROMPT) as i32, i as i32, pos_2]),
                    seq_ids: Some(&[&[1], &[3], &[2]]),
                    outputs: Some(&[true, true, false]),
                };
                ctx.decode(&batch).unwrap();
                all.push(bits(ctx.outputs().logits_ith(1).unwrap()));
            }
            assert_same(
                &alone,
                &all,
                &format!("{} in company, unified: {kv_unified}", name(&model)),
            );
        }
    }
}

#[test]
fn a_shared_prefix_and_a_reused_one_do_not_matter() {
    for model in models() {
        let alone = lone_run(&model, |_| {});
        for kv_unified in [true, false] {
            let mut ctx = context(&model, |p| {
                (p.n_seq_max, p.kv_unified, p.n_ctx) = (2, kv_unified, 2048);
                p.swa_full = false;
            });
            let text = tokens(&model, PROMPT + STEPS, 0);
            // The prefix comes from sequence 0, which first went another way.
            feed(&mut ctx, &text[..200], 0, 0);
            feed(&mut ctx, &tokens(&model, 20, 9), 200, 0);
            ctx.kv_mut().seq_rm(Some(0), 150, i32::MAX);
            assert!(ctx.kv_mut().seq_cp(0, 1, 0, i32::MAX));
            feed(&mut ctx, &tokens(&model, 10, 8), 150, 0);
            let mut all = vec![feed(&mut ctx, &text[150..PROMPT], 150, 1)];
            for i in PROMPT..PROMPT + STEPS {
                all.push(feed(&mut ctx, &text[i..=i], i as i32, 1));
            }
            assert_same(
                &alone,
                &all,
                &format!("{} with a shared prefix, unified: {kv_unified}", name(&model)),
            );
        }
    }
}

#[test]
fn tokens_of_two_sequences_do_not_matter() {
    for model in models() {
        let alone = lone_run(&model, |_| {});
        let mut ctx = context(&model, |p| {
            (p.n_seq_max, p.kv_unified, p.n_ctx, p.n_ubatch) = (3, true, 2048, 64);
            p.swa_full = false;
        });
        let text = tokens(&model, PROMPT + STEPS, 0);
        feed(&mut ctx, &tokens(&model, 30, 1), 0, 1);
        // Sequences 0 and 2 begin with the same tokens, computed once, then part within a batch.
        let both: Vec<i32> = (0..200).collect();
        let seqs = vec![&[0, 2][..]; 200];
        let (ids, own) = (&text[..200], |s: &'static [i32]| vec![s; PROMPT - 200]);
        let (stranger, rest) = (tokens(&model, PROMPT - 200, 5), &text[200..PROMPT]);
        let rest_pos: Vec<i32> = (200..PROMPT as i32).collect();
        let mut outputs = vec![false; 200 + 2 * rest.len()];
        *outputs.last_mut().unwrap() = true;
        let batch = Batch {
            input: Input::Tokens(&[ids, &stranger, rest].concat()),
            pos: Some(&[both, rest_pos.clone(), rest_pos].concat()),
            seq_ids: Some(&[seqs, own(&[0]), own(&[2])].concat()),
            outputs: Some(&outputs),
        };
        ctx.decode(&batch).unwrap();
        let mut all = vec![bits(ctx.outputs().logits_ith(-1).unwrap())];
        for i in PROMPT..PROMPT + STEPS {
            all.push(feed(&mut ctx, &text[i..=i], i as i32, 2));
        }
        assert_same(&alone, &all, &format!("{} beside a sequence that shares", name(&model)));
    }
}
