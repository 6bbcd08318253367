//! Which contexts take a state: of other lengths, streams and windows, and what each refuses.

use powerinfer::engine::{Context, StateError, StateScope};
use powerinfer::quant::QuantType;

use crate::common::{self, tiny, windowed};
use crate::{ALL, assert_refused, four, go, restore, spans, state};

#[test]
fn a_context_of_another_length() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let tokens = tiny::tokens(300, 90);
    let of_len = |n_ctx| common::context(&model, |p| p.n_ctx = n_ctx);
    let mut long = of_len(1024);
    go(&mut long, &tokens[..200], &[0]);
    for scope in [ALL, StateScope::seq(0)] {
        let saved = state(&mut long, scope);
        for n_ctx in [256, 512, 2048] {
            let mut other = of_len(n_ctx);
            restore(&mut other, scope, &saved);
            let mut again = of_len(1024);
            restore(&mut again, scope, &saved);
            assert_eq!(go(&mut other, &tokens[..9], &[0]), go(&mut again, &tokens[..9], &[0]));
        }
    }
    go(&mut long, &tokens[..57], &[0]);
    for scope in [ALL, StateScope::seq(0)] {
        let saved = state(&mut long, scope);
        let mut short = of_len(256);
        go(&mut short, &tokens[..5], &[0]);
        let error = assert_refused(&mut short, scope, &saved, "no room");
        assert!(matches!(error, StateError::NoRoom { needed: 257, free: 256 }), "{error}");
    }
}

#[test]
fn a_sequence_needs_the_room_that_others_leave() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let unified = || four(&model, |p| (p.n_ctx, p.kv_unified) = (256, true));
    let (mut from, mut to) = (unified(), unified());
    go(&mut from, &tiny::tokens(100, 90), &[0]);
    let saved = state(&mut from, StateScope::seq(0));
    go(&mut to, &tiny::tokens(100, 90), &[1]);
    go(&mut to, &tiny::tokens(60, 90), &[2]);
    assert_refused(&mut to, StateScope::seq(3), &saved, "100 tokens of the state (96 cells");
    // What the sequence itself has makes room.
    restore(&mut to, StateScope::seq(2), &saved);
    assert_eq!(spans(&to), [(-1, -1), (0, 99), (0, 99), (-1, -1)]);
    // Cells that it shares do not.
    assert!(to.kv_mut().seq_cp(1, 3, 0, i32::MAX));
    assert_refused(&mut to, StateScope::seq(3), &saved, "no room");
}

#[test]
fn streams_and_one_cache_for_all() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let of_kind = |unified| four(&model, |p| p.kv_unified = unified);
    let tokens = tiny::tokens(20, 90);
    for unified in [true, false] {
        let (mut from, mut to) = (of_kind(unified), of_kind(!unified));
        go(&mut from, &tokens, &[0]);
        go(&mut from, &tokens[3..], &[2]);
        let saved = state(&mut from, ALL);
        restore(&mut to, ALL, &saved);
        assert_eq!(spans(&to), spans(&from));
        for seq in [2, 0] {
            assert_eq!(go(&mut to, &tokens, &[seq]), go(&mut from, &tokens, &[seq]));
        }
    }
    let mut shared = of_kind(true);
    go(&mut shared, &tokens, &[0, 1]);
    let saved = state(&mut shared, ALL);
    assert_refused(&mut of_kind(false), ALL, &saved, "kv_unified");
    // One of the two alone is fine.
    let saved = state(&mut shared, StateScope::seq(1));
    restore(&mut of_kind(false), StateScope::seq(3), &saved);
}

#[test]
fn sequences_that_the_context_does_not_have() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let mut from = four(&model, |_| {});
    go(&mut from, &tiny::tokens(5, 90), &[3]);
    let mut to = common::context(&model, |p| p.n_seq_max = 2);
    let saved = state(&mut from, ALL);
    assert_refused(&mut to, ALL, &saved, "it has sequence 3, n_seq_max is 2");
    let saved = state(&mut from, StateScope::seq(3));
    assert_refused(&mut to, StateScope::seq(2), &saved, "there is no sequence 2");
    restore(&mut to, StateScope::seq(1), &saved);
    for scope in [StateScope::seq(4), StateScope::seq(usize::MAX)] {
        assert!(matches!(from.state_size(&scope), Err(StateError::NoSuchSeq { .. })));
        assert!(matches!(from.keep_state(&scope, &mut vec![]), Err(StateError::NoSuchSeq { .. })));
    }
}

/// A cache whose windowed layers keep 256 cells.
fn keeping(model: &std::sync::Arc<powerinfer::model::Model>, n_ctx: u32) -> Context {
    common::context(model, |p| (p.n_ctx, p.n_ubatch, p.swa_full) = (n_ctx, 64, false))
}

#[test]
fn caches_that_keep_more_and_less() {
    let model = windowed::model(40, 2);
    let full = || common::context(&model, |p| (p.n_ctx, p.swa_full) = (2048, true));
    let tokens = tiny::tokens(400, 90);
    let mut all = full();
    go(&mut all, &tokens[..300], &[0]);
    let mut least = keeping(&model, 2048);
    go(&mut least, &tokens[..300], &[0]);
    assert_eq!((spans(&all)[0], spans(&least)[0].1), ((0, 299), 299));
    for scope in [ALL, StateScope::seq(0)] {
        let saved = state(&mut all, scope);
        let mut other = keeping(&model, 1024);
        restore(&mut other, scope, &saved);
        assert_eq!(spans(&other)[0], (260, 299), "what fits is what the next token sees");
        let mut again = full();
        restore(&mut again, scope, &saved);
        let expected = go(&mut again, &tokens[300..], &[0]);
        assert_eq!(go(&mut other, &tokens[300..], &[0]), expected);
        // The other way round, what is missing is what nothing sees any more.
        let saved = state(&mut least, scope);
        let mut other = full();
        restore(&mut other, scope, &saved);
        assert_eq!(spans(&other)[0], (if scope.seq.is_some() { 260 } else { 44 }, 299));
        assert_eq!(go(&mut other, &tokens[300..], &[0]), expected);
    }
    // Nothing has been forgotten yet.
    let mut short = keeping(&model, 2048);
    go(&mut short, &tokens[..30], &[0]);
    for scope in [ALL, StateScope::seq(0)] {
        let saved = state(&mut short, scope);
        let mut other = full();
        restore(&mut other, scope, &saved);
        let mut again = keeping(&model, 2048);
        restore(&mut again, scope, &saved);
        assert_eq!(go(&mut other, &tokens[..9], &[0]), go(&mut again, &tokens[..9], &[0]));
    }
}

#[test]
fn a_sequence_leaves_behind_what_its_last_token_does_not_see() {
    let model = windowed::model(40, 2);
    let mut ctx = keeping(&model, 2048);
    go(&mut ctx, &tiny::tokens(100, 90), &[0]);
    assert_eq!(spans(&ctx)[0], (0, 99), "256 cells are not full");
    let (whole, one) = (state(&mut ctx, ALL), state(&mut ctx, StateScope::seq(0)));
    assert!(one.len() < whole.len());
    let mut other = keeping(&model, 2048);
    restore(&mut other, ALL, &whole);
    assert_eq!(spans(&other)[0], (0, 99));
    restore(&mut other, StateScope::seq(0), &one);
    assert_eq!(spans(&other)[0], (60, 99));
}

/// A server's checkpoint: later tokens are taken back, and what windows had is brought back.
#[test]
fn the_windowed_part_alone() {
    let model = windowed::model(40, 2);
    let partial = StateScope { seq: Some(0), partial: true };
    let tokens = tiny::tokens(800, 90);
    let mut ctx = keeping(&model, 2048);
    go(&mut ctx, &tokens[..100], &[0]);
    let (part, one) = (state(&mut ctx, partial), state(&mut ctx, StateScope::seq(0)));
    assert!(part.len() < one.len() * 2 / 3, "{} of {}", part.len(), one.len());
    let mut plain = keeping(&model, 2048);
    restore(&mut plain, StateScope::seq(0), &one);
    go(&mut ctx, &tokens[100..600], &[0]);
    ctx.kv_mut().seq_rm(Some(0), 100, i32::MAX);
    assert_eq!(spans(&ctx)[0], (-1, -1), "the window has moved on");
    restore(&mut ctx, partial, &part);
    assert_eq!(spans(&ctx)[0], (60, 99));
    assert_eq!(go(&mut ctx, &tokens[700..], &[0]), go(&mut plain, &tokens[700..], &[0]));

    assert_refused(&mut ctx, StateScope::seq(0), &part, "taken with the flag PARTIAL_ONLY");
    assert_refused(&mut ctx, partial, &one, "taken without the flag PARTIAL_ONLY");
    let mut full = common::context(&model, |p| (p.n_ctx, p.swa_full) = (2048, true));
    restore(&mut full, partial, &part);
    // A cache that keeps everything saves no more of its windows.
    go(&mut full, &tokens[100..200], &[0]);
    let part = state(&mut full, partial);
    assert!(part.len() < state(&mut full, StateScope::seq(0)).len() * 2 / 3);
    restore(&mut keeping(&model, 2048), partial, &part);
}

#[test]
fn other_models_and_formats() {
    let gqa = tiny::spec("gqa");
    let mut from = four(&tiny::bare_model(&gqa), |_| {});
    go(&mut from, &tiny::tokens(5, 90), &[0]);
    for scope in [ALL, StateScope::seq(0)] {
        let saved = state(&mut from, scope);
        let refused = |spec: &tiny::Spec, text: &str| {
            let mut ctx = four(&tiny::bare_model(spec), |_| {});
            go(&mut ctx, &tiny::tokens(3, 30), &[0]);
            assert_refused(&mut ctx, scope, &saved, text);
        };
        refused(&tiny::Spec { n_layer: 2, ..gqa }, "it has 3 layers, expected 2");
        refused(&tiny::Spec { n_head_kv: 4, ..gqa }, "n_head_kv: 2");
        refused(&tiny::Spec { n_head: 2, n_head_kv: 1, ..gqa }, "n_head_kv: 2");
        refused(&tiny::Spec { head_dim_k: 18, n_rot: 18, ..gqa }, "head_dim_k: 16");
        refused(&tiny::Spec { head_dim_v: 8, ..gqa }, "head_dim_v: 16");
        let mut ctx = common::context(&windowed::model(9, 2), |_| {});
        assert_refused(&mut ctx, scope, &saved, "of architecture 'llama', expected 'gemma2'");
        let model = tiny::bare_model(&gqa);
        let mut ctx = four(&model, |p| p.type_k = QuantType::BF16);
        assert_refused(&mut ctx, scope, &saved, "its K cache is of type 1, expected");
        let mut ctx = four(&model, |p| p.type_v = QuantType::F32);
        assert_refused(&mut ctx, scope, &saved, "its V cache is of type 1, expected");
    }
    let mut narrow = common::context(&windowed::model(9, 2), |_| {});
    let saved = state(&mut narrow, ALL);
    let mut wide = common::context(&windowed::model(10, 2), |_| {});
    assert_refused(&mut wide, ALL, &saved, "window: (1, 9)");
}

#[test]
fn one_sequence_is_not_all_of_them() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let mut ctx = four(&model, |_| {});
    go(&mut ctx, &tiny::tokens(5, 90), &[0]);
    let (whole, one) = (state(&mut ctx, ALL), state(&mut ctx, StateScope::seq(0)));
    assert_refused(&mut ctx, StateScope::seq(0), &whole, "it is of all sequences, expected one");
    assert_refused(&mut ctx, ALL, &one, "it is of one sequence, expected all");
    // An empty one replaces what there is.
    let none = state(&mut ctx, StateScope::seq(1));
    restore(&mut ctx, StateScope::seq(0), &none);
    assert_eq!(spans(&ctx)[0], (-1, -1));
}

#[test]
fn states_that_stay_with_the_context() {
    let model = tiny::bare_model(&tiny::spec("gqa"));
    let mut ctx = four(&model, |_| {});
    let tokens = tiny::tokens(40, 90);
    go(&mut ctx, &tokens[..9], &[0]);
    let of = |seq| StateScope::seq(seq);
    let keep = |ctx: &mut Context, seq| {
        let mut ticket = Vec::new();
        let size = ctx.ticket_size(&of(seq)).unwrap();
        assert_eq!(ctx.keep_state(&of(seq), &mut ticket).unwrap(), size);
        assert_eq!((ticket.len() as u64, size), (size, 36));
        ticket
    };
    let first = keep(&mut ctx, 0);
    let (other, one) = (keep(&mut ctx, 1), state(&mut ctx, of(0)));
    let truth = go(&mut ctx, &tokens[9..], &[0]);
    for to in [0, 2, 0] {
        assert_eq!(ctx.restore_kept(&of(to), &first).unwrap(), 36);
        assert_eq!(go(&mut ctx, &tokens[9..], &[to as i32]), truth, "again and again");
    }
    let second = keep(&mut ctx, 0);
    let gone = ctx.restore_kept(&of(0), &first).unwrap_err().to_string();
    assert!(gone.contains("no longer on the device"), "{gone}");
    ctx.restore_kept(&of(0), &second).unwrap();
    ctx.restore_kept(&of(0), &other).unwrap();
    assert_eq!(spans(&ctx)[0], (-1, -1));

    assert_refused(&mut ctx, of(0), &second, "left on the device (flag ON_DEVICE)");
    let plain = ctx.restore_kept(&of(0), &one).unwrap_err().to_string();
    assert!(plain.contains("taken without the flag ON_DEVICE"), "{plain}");
    let mut stranger = four(&model, |_| {});
    assert!(stranger.restore_kept(&of(0), &second).is_err());
    for n in 0..second.len() {
        assert!(ctx.restore_kept(&of(0), &second[..n]).is_err(), "{n} bytes");
    }
}
