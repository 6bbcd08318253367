//! Saved and restored, a context computes what it would have without that, to the last bit.

use std::sync::Arc;

use powerinfer::engine::kv::TYPES;
use powerinfer::engine::{Batch, Context, ContextParams, Input, StateScope};
use powerinfer::model::Model;
use proptest::prelude::*;

use crate::common::{tiny, tiny_archs, windowed};
use crate::{ALL, assert_refused, four, go, restore, spans, state};

/// What a caller can do to a cache.
#[derive(Clone, Debug)]
enum Op {
    Feed(usize, usize),
    FeedBoth(usize),
    Rm(usize, i32, i32),
    Cp(usize, usize),
    Keep(usize),
    Add(usize, i32, i32, i32),
    Div(usize, i32, i32),
}

fn op() -> impl Strategy<Value = Op> {
    let seq = || 0..4usize;
    prop_oneof![
        6 => (seq(), 1..9usize).prop_map(|(s, n)| Op::Feed(s, n)),
        2 => (1..6usize).prop_map(Op::FeedBoth),
        2 => (seq(), 0..20i32, 1..9i32).prop_map(|(s, a, n)| Op::Rm(s, a, a + n)),
        2 => (seq(), seq()).prop_map(|(s, t)| Op::Cp(s, t)),
        1 => seq().prop_map(Op::Keep),
        3 => (seq(), 0..20i32, 1..20i32, -5..6i32).prop_map(|(s, a, n, d)| Op::Add(s, a, a + n, d)),
        2 => (seq(), 0..20i32, 1..20i32).prop_map(|(s, a, n)| Op::Div(s, a, a + n)),
    ]
}

fn apply(ctx: &mut Context, op: &Op) -> Option<Vec<f32>> {
    match *op {
        Op::Feed(s, n) => return Some(go(ctx, &tiny::tokens(n, 90), &[s as i32])),
        Op::FeedBoth(n) => {
            let both = ctx.kv().is_unified() && ctx.kv().pos_max(0) == ctx.kv().pos_max(1);
            return both.then(|| go(ctx, &tiny::tokens(n, 90), &[0, 1]));
        }
        Op::Rm(s, a, b) => ctx.kv_mut().seq_rm(Some(s), a, b),
        Op::Cp(s, t) if s == t => {}
        Op::Cp(s, t) => {
            ctx.kv_mut().seq_rm(Some(t), 0, i32::MAX);
            assert!(ctx.kv_mut().seq_cp(s, t, 0, i32::MAX));
        }
        Op::Keep(s) => ctx.kv_mut().seq_keep(s),
        Op::Add(s, a, b, d) => ctx.kv_mut().seq_add(s, a, b, d),
        Op::Div(s, a, b) => ctx.kv_mut().seq_div(s, a, b, 2),
    }
    None
}

/// Wherever the interruption is, what follows is the same.
fn check(
    model: &Arc<Model>,
    before: &[Op],
    dirt: &[Op],
    after: &[Op],
    p: impl Fn(&mut ContextParams),
) {
    let mut plain = four(model, &p);
    for op in before {
        apply(&mut plain, op);
    }
    let saved = state(&mut plain, ALL);
    let mut other = four(model, &p);
    for op in dirt {
        apply(&mut other, op);
    }
    restore(&mut other, ALL, &saved);
    assert_eq!(spans(&other), spans(&plain));
    assert!(state(&mut other, ALL) == saved, "restored, the state has the same bytes");
    // Each sequence alone, as another one, among what others have.
    let mut alone = four(model, &p);
    for op in dirt {
        apply(&mut alone, op);
    }
    for seq in 0..4 {
        let to = (seq + 1) % 4;
        let others = |ctx: &Context| {
            let mut spans = spans(ctx);
            spans.remove(to);
            spans
        };
        let untouched = others(&alone);
        let one = state(&mut plain, StateScope::seq(seq));
        restore(&mut alone, StateScope::seq(to), &one);
        assert_eq!(others(&alone), untouched);
        assert_eq!(alone.kv().pos_max(to), plain.kv().pos_max(seq));
        let mut whole = four(model, &p);
        restore(&mut whole, ALL, &saved);
        let tokens = tiny::tokens(5, 90);
        let mut other = four(model, &p);
        restore(&mut other, StateScope::seq(to), &one);
        let truth = go(&mut whole, &tokens, &[seq as i32]);
        assert_eq!(go(&mut other, &tokens, &[to as i32]), truth, "sequence {seq} as {to}");
        assert_eq!(go(&mut alone, &tokens, &[to as i32]), truth, "sequence {seq} among others");
        alone.kv_mut().seq_rm(Some(to), plain.kv().pos_max(seq) + 1, i32::MAX);
    }
    for op in after {
        assert_eq!(apply(&mut other, op), apply(&mut plain, op), "{op:?}");
        assert_eq!(spans(&other), spans(&plain), "{op:?}");
    }
}

fn histories() -> impl Strategy<Value = [Vec<Op>; 3]> {
    let ops = |n| proptest::collection::vec(op(), 1..n);
    (ops(14), ops(6), ops(8)).prop_map(|(a, b, c)| [a, b, c])
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn any_history_goes_on_after_any_other() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    proptest!(config(24), |([before, dirt, after] in histories(), unified: bool)| {
        check(&model, &before, &dirt, &after, |p| p.kv_unified = unified);
    });
}

#[test]
fn every_format_of_the_cache() {
    // Heads of 32 elements, so that all formats have whole blocks.
    let model = tiny::bare_model(&tiny::spec("tied"));
    let feed = |s, n| Op::Feed(s, n);
    let before = [feed(0, 9), feed(1, 4), Op::Add(0, 3, 7, -2), Op::Rm(1, 0, 1), Op::Cp(0, 2)];
    let after = [feed(0, 3), Op::Add(0, 2, 9, 1), feed(0, 1), feed(2, 4), feed(1, 2)];
    for (i, &ty_k) in TYPES.iter().enumerate() {
        let ty_v = TYPES[(i + 4) % TYPES.len()];
        for unified in [true, false] {
            check(&model, &before, &[feed(0, 5), feed(3, 2)], &after, |p| {
                (p.type_k, p.type_v, p.kv_unified) = (ty_k, ty_v, unified);
            });
        }
    }
}

#[test]
fn caches_that_keep_only_what_windows_show() {
    for every in [0, 2] {
        let model = windowed::model(30, every);
        for (unified, swa_full) in [(true, false), (false, false), (false, true)] {
            let feed = |s, n| Op::Feed(s, n);
            let before = [feed(0, 400), feed(1, 40), feed(2, 7), feed(0, 30), Op::Rm(0, 425, 430)];
            let after = [feed(0, 20), feed(1, 100), feed(2, 1), feed(0, 90)];
            let dirt = [feed(0, 90), feed(1, 300), feed(3, 20)];
            check(&model, &before, &dirt, &after, |p| {
                (p.n_ctx, p.n_ubatch) = (4096, 64);
                (p.kv_unified, p.swa_full) = (unified, swa_full);
            });
        }
    }
}

#[test]
fn windowed_histories() {
    let model = windowed::model(9, 2);
    proptest!(config(8), |([before, dirt, after] in histories(), unified: bool)| {
        // Moved positions are not for caches that forget.
        let not_moved = |ops: &[Op]| -> Vec<Op> {
            let moves = |op: &Op| matches!(op, Op::Add(..) | Op::Div(..) | Op::Rm(..));
            ops.iter().filter(|op| !moves(op)).cloned().collect()
        };
        let [before, dirt, after] = [&before[..], &dirt, &after].map(not_moved);
        check(&model, &before, &dirt, &after, |p| {
            (p.n_ctx, p.n_ubatch, p.swa_full, p.kv_unified) = (4096, 64, false, unified);
        });
    });
}

#[test]
fn a_shift_that_waits_is_applied_once() {
    let model = tiny::bare_model(&tiny::ONE_LAYER);
    let tokens = tiny::tokens(12, 90);
    let mut plain = four(&model, |_| {});
    go(&mut plain, &tokens, &[0]);
    plain.kv_mut().seq_rm(Some(0), 0, 4);
    plain.kv_mut().seq_add(0, 4, 12, -4);
    let saved = state(&mut plain, ALL);
    let mut other = four(&model, |_| {});
    restore(&mut other, ALL, &saved);
    assert_eq!(spans(&other)[0], (0, 7));
    // Moved once more before it is applied: one rotation, not two.
    for ctx in [&mut plain, &mut other] {
        ctx.kv_mut().seq_add(0, 0, 8, 3);
    }
    let next = go(&mut plain, &tokens[..2], &[0]);
    assert_eq!(go(&mut other, &tokens[..2], &[0]), next);
    let mut unmoved = four(&model, |_| {});
    go(&mut unmoved, &tokens, &[0]);
    unmoved.kv_mut().seq_rm(Some(0), 0, 4);
    assert_ne!(go(&mut unmoved, &tokens[..2], &[0]), next, "positions count");
}

#[test]
fn embeddings_go_on_too() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let with_embeddings = |p: &mut ContextParams| p.embeddings = true;
    let (mut plain, mut other) = (four(&model, with_embeddings), four(&model, with_embeddings));
    let tokens = tiny::tokens(9, 90);
    go(&mut plain, &tokens, &[0]);
    let saved = state(&mut plain, ALL);
    restore(&mut other, ALL, &saved);
    assert_eq!(go(&mut other, &tokens, &[0]), go(&mut plain, &tokens, &[0]));
    let own = plain.outputs().embeddings_ith(-1).unwrap().to_vec();
    assert_eq!(other.outputs().embeddings_ith(-1).unwrap(), own);
    // Nor does a state depend on whether its context gave embeddings.
    restore(&mut four(&model, |_| {}), ALL, &saved);
}

/// Whatever a layer keeps, or sees of another layer's.
#[test]
fn every_architecture() {
    let tokens = tiny::tokens(40, 90);
    for spec in tiny_archs::SPECS {
        let model = tiny::bare_model_of(&tiny_archs::bytes(spec));
        let small = |p: &mut ContextParams| p.swa_full = false;
        let (mut plain, mut other) = (four(&model, small), four(&model, small));
        go(&mut plain, &tokens[..30], &[0]);
        let one = state(&mut plain, StateScope::seq(0));
        restore(&mut other, StateScope::seq(3), &one);
        let truth = go(&mut plain, &tokens[30..], &[0]);
        assert_eq!(go(&mut other, &tokens[30..], &[3]), truth, "{}", spec.name);
    }
}

/// Encoders remember nothing: their states say whose they are.
#[test]
fn without_a_memory() {
    for spec in tiny_archs::EMBEDDERS {
        let model = tiny::bare_model_of(&tiny_archs::bytes(spec));
        let mut ctx = four(&model, |p| p.embeddings = true);
        if ctx.has_memory() {
            continue;
        }
        let empty = state(&mut ctx, ALL);
        let tokens = tiny::tokens(9, 90);
        let input = Input::Tokens(&tokens);
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
        for scope in [ALL, StateScope::seq(1)] {
            let saved = state(&mut ctx, scope);
            assert!(saved.len() < 64, "{}: {} bytes", spec.name, saved.len());
            restore(&mut ctx, scope, &saved);
            let mut decoder = four(&tiny::bare_model(&tiny::MICRO), |_| {});
            assert_refused(&mut decoder, scope, &saved, "it has no cache");
        }
        assert!(state(&mut ctx, ALL) == empty, "{}", spec.name);
    }
}
