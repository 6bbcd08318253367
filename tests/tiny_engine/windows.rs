//! Layers with a window: what they see, and caches that keep only that.

use std::sync::Arc;

use powerinfer::engine::{Context, ContextParams};
use powerinfer::model::Model;
use powerinfer::quant::QuantType;

use crate::common::{context, tiny, windowed};
use crate::{assert_close, feed, pos_max, try_feed};

const WINDOW: i32 = 40;

/// A context of 1024 tokens, of which the windowed layers keep 256.
fn keeping(model: &Arc<Model>, change: impl FnOnce(&mut ContextParams)) -> Context {
    context(model, |p| {
        (p.swa_full, p.n_ubatch) = (false, 64);
        change(p);
    })
}

fn positions(range: std::ops::Range<i32>) -> Vec<i32> {
    range.collect()
}

/// Feeds tokens of a long text as sequence `seq` from `pos.start` on.
fn go(ctx: &mut Context, pos: std::ops::Range<i32>, seq: i32) -> Vec<f32> {
    let text = tiny::tokens(pos.end as usize, 96);
    feed(ctx, &text[pos.start as usize..], &positions(pos), &[seq])
}

/// A cache that keeps everything, cut up in another way.
fn truth(model: &Arc<Model>, n: i32) -> Vec<f32> {
    let mut ctx = context(model, |p| p.n_ubatch = 100);
    go(&mut ctx, 0..n, 0)
}

#[test]
fn a_token_sees_its_window_and_no_more() {
    // Through four layers it sees four times as far.
    let (window, n) = (9, 300);
    let model = windowed::model(window, 0);
    let reach = 4 * (window - 1) as usize;
    let text = tiny::tokens(n, 96);
    let run = |changed: usize| {
        let mut text = text.clone();
        text[n - 1 - changed] = (text[n - 1 - changed] + 1) % 90;
        let mut ctx = context(&model, |p| p.n_ubatch = 128);
        feed(&mut ctx, &text, &positions(0..n as i32), &[0])
    };
    let plain = run(n - 1);
    for far in [reach + 1, reach + 2, 60, 250] {
        assert_eq!(run(far), plain, "{far}");
    }
    for near in [reach, reach - 1, 9, 1, 0] {
        assert_ne!(run(near), plain, "{near}");
    }
}

#[test]
fn what_windows_do_not_show_can_be_forgotten() {
    for every in [0, 2] {
        let model = windowed::model(WINDOW as u32, every);
        let expected = truth(&model, 1000);
        for (n_ubatch, n_threads) in [(64, 2), (1, 1), (7, 3), (200, 2)] {
            let mut ctx = keeping(&model, |p| {
                (p.n_ubatch, p.n_threads, p.n_threads_batch) = (n_ubatch, n_threads, n_threads);
            });
            go(&mut ctx, 0..990, 0);
            for pos in 990..999 {
                go(&mut ctx, pos..pos + 1, 0);
            }
            let kept = 999 - ctx.kv().pos_min(0);
            assert!((WINDOW..=256).contains(&kept), "{kept}");
            assert!(go(&mut ctx, 999..1000, 0) == expected, "{n_ubatch} {n_threads} {every}");
            assert_eq!((pos_max(&ctx, 0), ctx.kv().pos_max(0)), (999, 999));
            assert_eq!(ctx.kv().stream(0).n_free(), 24);
        }
    }
}

#[test]
fn caches_of_all_formats_can_forget() {
    let model = windowed::model(WINDOW as u32, 2);
    for ty in [QuantType::F32, QuantType::BF16] {
        let run = |swa_full: bool, n_ubatch: u32| {
            let mut ctx = context(&model, |p| {
                (p.type_k, p.type_v, p.swa_full, p.n_ubatch) = (ty, ty, swa_full, n_ubatch);
            });
            go(&mut ctx, 0..700, 0)
        };
        assert_eq!(run(true, 512), run(false, 33), "{ty}");
    }
}

#[test]
fn a_keeping_cache_takes_less_memory_and_does_not_shift() {
    let model = windowed::model(WINDOW as u32, 2);
    let mut full = context(&model, |_| ());
    let mut small = keeping(&model, |_| ());
    // 4 layers, 2 heads of 16 elements, keys and values, 2 bytes each.
    assert_eq!(full.memory_use().kv, 4 * 1024 * 2 * 16 * 2 * 2);
    assert_eq!(small.memory_use().kv, 2 * (1024 + 256) * 2 * 16 * 2 * 2);
    assert_eq!((full.kv().can_shift(), small.kv().can_shift()), (true, false));
    // Windows and ubatches as long as the context: nothing to gain.
    let mut same = keeping(&model, |p| p.n_ubatch = 1000);
    assert_eq!(same.memory_use().kv, full.memory_use().kv);
    assert!(same.kv().can_shift());
    // One stream for three sequences has room for three windows.
    let mut three = keeping(&model, |p| (p.n_seq_max, p.kv_unified, p.n_ubatch) = (3, true, 200));
    assert_eq!(three.memory_use().kv, 2 * (1024 + 512) * 2 * 16 * 2 * 2);
    assert_eq!(full.kv().pos_min(0), -1);
    go(&mut full, 0..300, 0);
    assert_eq!((full.kv().pos_min(0), full.kv().pos_max(0)), (0, 299));
}

#[test]
fn sequences_share_forget_and_are_copied() {
    let model = windowed::model(WINDOW as u32, 2);
    let expected = truth(&model, 400);
    for unified in [true, false] {
        let mut ctx = keeping(&model, |p| {
            (p.n_ctx, p.n_seq_max, p.kv_unified) = (4096, 4, unified);
        });
        let stranger = |ctx: &mut Context, seq: i32, from: i32, n: i32| {
            let text: Vec<i32> = (0..n).map(|i| (i * 31 + seq * 7 + from) % 90).collect();
            feed(ctx, &text, &positions(from..from + n), &[seq]);
        };
        stranger(&mut ctx, 1, 0, 500);
        go(&mut ctx, 0..250, 0);
        stranger(&mut ctx, 2, 0, 90);
        // A prefix for sequence 3, the first of which goes another way from then on.
        assert!(ctx.kv_mut().seq_cp(0, 3, 0, i32::MAX));
        assert_eq!(ctx.kv().pos_max(3), 249);
        stranger(&mut ctx, 0, 250, 300);
        stranger(&mut ctx, 1, 500, 100);
        go(&mut ctx, 250..330, 3);
        ctx.kv_mut().seq_rm(Some(1), 0, i32::MAX);
        stranger(&mut ctx, 2, 90, 300);
        assert!(go(&mut ctx, 330..400, 3) == expected, "unified: {unified}");
        ctx.kv_mut().seq_keep(3);
        assert_eq!((ctx.kv().pos_min(0), ctx.kv().pos_max(2), ctx.kv().pos_max(3)), (-1, -1, 399));
        ctx.kv_mut().clear(true);
        assert_eq!((ctx.kv().pos_min(3), pos_max(&ctx, 3)), (-1, -1));
        assert!(go(&mut ctx, 0..400, 1) == expected);
    }
}

/// Tokens of two sequences at once are forgotten by each in its own time.
#[test]
fn shared_tokens_are_forgotten_one_sequence_after_the_other() {
    let model = windowed::model(WINDOW as u32, 2);
    let mut ctx = keeping(&model, |p| (p.n_seq_max, p.kv_unified) = (2, true));
    let text = tiny::tokens(400, 96);
    feed(&mut ctx, &text[..100], &positions(0..100), &[0, 1]);
    go(&mut ctx, 100..600, 0);
    // Sequence 1 still has what it needs.
    assert!(ctx.kv().pos_min(1) <= 101 - WINDOW && ctx.kv().pos_min(0) > 350);
    assert_eq!(go(&mut ctx, 100..400, 1), truth(&model, 400));
    assert_eq!(go(&mut ctx, 600..620, 0), truth(&model, 620));
}

#[test]
fn the_last_tokens_can_be_taken_back() {
    let model = windowed::model(WINDOW as u32, 2);
    let mut ctx = keeping(&model, |_| ());
    go(&mut ctx, 0..700, 0);
    for back in [1, 5, 30] {
        // Another way, in single steps, and back.
        for i in 0..back {
            feed(&mut ctx, &[i % 90], &[700 + i], &[0]);
        }
        ctx.kv_mut().seq_rm(Some(0), 700, i32::MAX);
        assert_eq!(ctx.kv().pos_max(0), 699);
    }
    assert_eq!(go(&mut ctx, 700..701, 0), truth(&model, 701));
    // Farther back than what is kept: the position says so.
    ctx.kv_mut().seq_rm(Some(0), 300, i32::MAX);
    assert_eq!((ctx.kv().pos_min(0), ctx.kv().pos_max(0), pos_max(&ctx, 0)), (-1, -1, 299));
    ctx.kv_mut().seq_rm(Some(0), 0, i32::MAX);
    assert_eq!(go(&mut ctx, 0..701, 0), truth(&model, 701));
}

#[test]
fn gaps_and_long_positions_do_not_matter() {
    let model = windowed::model(WINDOW as u32, 2);
    let run = |swa_full: bool, n_ubatch: u32| {
        let mut ctx = context(&model, |p| (p.swa_full, p.n_ubatch) = (swa_full, n_ubatch));
        let start = 1_000_000;
        let text = tiny::tokens(600, 96);
        feed(&mut ctx, &text[..300], &positions(start..start + 300), &[0]);
        // Holes inside of the window.
        ctx.kv_mut().seq_rm(Some(0), start + 270, start + 273);
        ctx.kv_mut().seq_rm(Some(0), start + 290, start + 291);
        feed(&mut ctx, &text[300..320], &positions(start + 300..start + 320), &[0])
    };
    assert_eq!(run(true, 512), run(false, 16));
}

#[test]
fn a_moved_sequence_equals_one_that_was_there() {
    let model = windowed::model(WINDOW as u32, 2);
    let text = tiny::tokens(121, 96);
    let at = |from: i32| positions(from..from + 120);
    for swa_full in [true, false] {
        let made = |shift: i32| {
            let mut ctx = context(&model, |p| {
                (p.swa_full, p.n_ubatch, p.reference) = (swa_full, 64, true);
            });
            feed(&mut ctx, &text[..120], &at(shift), &[0]);
            ctx.kv_mut().seq_add(0, 0, i32::MAX, 10 - shift);
            feed(&mut ctx, &text[120..], &[130], &[0])
        };
        assert_close(&made(300), &made(10), "moved");
    }
}

#[test]
fn a_full_context_is_full_and_a_kept_window_never() {
    let model = windowed::model(WINDOW as u32, 2);
    let mut ctx = keeping(&model, |_| ());
    go(&mut ctx, 0..1024, 0);
    let error = try_feed(&mut ctx, &[1], &[1024], &[0]).unwrap_err();
    assert_eq!(error.code(), 1);
    // Without layers that see all, the cells for those are the limit all the same, as in llama.cpp.
    let mut ctx = keeping(&windowed::model(WINDOW as u32, 0), |_| ());
    go(&mut ctx, 0..1024, 0);
    assert_eq!(try_feed(&mut ctx, &[1], &[1024], &[0]).unwrap_err().code(), 1);
}

/// Positions that were divided lie so close that a window holds more than it has cells.
#[test]
fn too_dense_a_window_is_refused_before_anything_changes() {
    let model = windowed::model(WINDOW as u32, 2);
    let mut ctx = keeping(&model, |_| ());
    go(&mut ctx, 0..256, 0);
    ctx.kv_mut().seq_div(0, 0, i32::MAX, 8);
    let error = try_feed(&mut ctx, &[1; 20], &positions(32..52), &[0]).unwrap_err();
    assert_eq!((error.code(), pos_max(&ctx, 0)), (1, 31));
    assert_eq!(ctx.kv().stream(0).n_free(), 1024 - 256);
    assert_eq!(try_feed(&mut ctx, &[1], &[32], &[0]).unwrap_err().code(), 1);
    ctx.kv_mut().seq_rm(Some(0), 0, 5);
    try_feed(&mut ctx, &[1; 20], &positions(32..52), &[0]).unwrap();
}
