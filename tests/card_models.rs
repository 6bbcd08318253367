//! Whole models on a card: what they compute there is what they compute on the processor. Runs on
//! the fake driver, and unchanged on a real card.

mod common;
mod cuda_support;

use std::sync::Arc;

use common::{context, decode, nmse, tiny, tiny_archs};
use powerinfer::engine::card::{CardModel, CardRequest};
use powerinfer::engine::state::StateScope;
use powerinfer::engine::{Batch, Context, ContextParams, DecodeError, Input};
use powerinfer::model::Model;
use powerinfer::quant::QuantType;

/// Tokens decoded at once; single ones follow.
const BATCH: usize = 20;
const SINGLE: usize = 3;

fn card(model: &Model, n_layers: i32) -> Option<Arc<CardModel>> {
    let request = CardRequest { n_layers, ..CardRequest::default() };
    CardModel::new(model, &request).unwrap().map(Arc::new)
}

fn logits(
    model: &Arc<Model>,
    n_vocab: usize,
    set: impl FnOnce(&mut ContextParams),
) -> Vec<Vec<f32>> {
    let mut ctx = context(model, |p| {
        (p.n_ctx, p.n_batch) = (256, 256);
        set(p);
    });
    let tokens = tiny::tokens(BATCH + SINGLE, n_vocab);
    decode(&mut ctx, &tokens[..BATCH], true);
    let row = |ctx: &mut Context, i: i32| ctx.outputs().logits_ith(i).unwrap().to_vec();
    let mut all: Vec<Vec<f32>> = [0, 7, -1].map(|i| row(&mut ctx, i)).to_vec();
    for token in &tokens[BATCH..] {
        decode(&mut ctx, &[*token], true);
        all.push(row(&mut ctx, -1));
    }
    all
}

/// Models as files have them, and the same with all weights in F32.
fn models() -> impl Iterator<Item = (&'static str, usize, Vec<u8>, Vec<u8>)> {
    let llamas =
        tiny::SPECS.iter().map(|s| (s.name, s.n_vocab, tiny::bytes(s), tiny::twin_bytes(s)));
    let archs = tiny_archs::SPECS
        .iter()
        .map(|s| (s.name, tiny_archs::N_VOCAB, tiny_archs::bytes(s), tiny_archs::twin_bytes(s)));
    llamas.chain(archs)
}

/// With all in F32 results differ by the order of sums alone. With 8-bit activations now and then a
/// number is rounded to the other side; what that does is less than what 8 bits do by themselves.
#[test]
fn models_compute_on_a_card_what_they_compute_without() {
    cuda_support::once(|| {
        let mut bad = Vec::new();
        for (name, n_vocab, bytes, twin) in models() {
            let errors = |bytes: &[u8], ty: QuantType| {
                let model = tiny::bare_model_of(bytes);
                let card = card(&model, -1).expect("layers on the card");
                let run = |set: &dyn Fn(&mut ContextParams)| {
                    logits(&model, n_vocab, |p| {
                        (p.type_k, p.type_v) = (ty, ty);
                        set(p);
                    })
                };
                let expected = run(&|_| {});
                let found = run(&|p| p.card = Some(Arc::clone(&card)));
                let exact = run(&|p| p.reference = true);
                (nmse(&found, &expected), nmse(&expected, &exact))
            };
            let (of_f32, _) = errors(&twin, QuantType::F32);
            let (error, rounding) = errors(&bytes, QuantType::F16);
            if of_f32 >= 1e-10 || error >= rounding.max(1e-9) {
                bad.push(format!(
                    "{name}: NMSE {of_f32:.1e}; in 8 bits {error:.1e} of {rounding:.1e}"
                ));
            }
        }
        assert!(bad.is_empty(), "{bad:#?}");
    });
}

/// A number that is rounded to the other side in the cache makes more than the order of sums does.
#[test]
fn keys_and_values_of_different_types() {
    cuda_support::once(|| {
        let spec = tiny::spec("gqa");
        let model = tiny::bare_model_of(&tiny::twin_bytes(&spec));
        let card = card(&model, -1).expect("layers on the card");
        for types in [(QuantType::F16, QuantType::F32), (QuantType::F32, QuantType::F16)] {
            let run = |on_card: bool| {
                logits(&model, spec.n_vocab, |p| {
                    (p.type_k, p.type_v) = types;
                    p.card = on_card.then(|| Arc::clone(&card));
                })
            };
            let error = nmse(&run(true), &run(false));
            assert!(error < 1e-6, "{types:?}: {error:.1e}");
        }
    });
}

/// A context of `gqa` with exact weights and cache, on a card that has this many layers.
fn exact(n_layers: i32) -> Context {
    let model = tiny::bare_model_of(&tiny::twin_bytes(&tiny::spec("gqa")));
    let card = card(&model, n_layers);
    context(&model, |p| {
        (p.card, p.n_ctx, p.n_batch) = (card, 64, 64);
        (p.type_k, p.type_v, p.n_seq_max) = (QuantType::F32, QuantType::F32, 2);
    })
}

fn last(ctx: &mut Context) -> Vec<Vec<f32>> {
    vec![ctx.outputs().logits_ith(-1).unwrap().to_vec()]
}

/// Rows of the cache come home for whoever looks at them or moves them, and go back.
#[test]
fn caches_on_a_card_can_be_saved_moved_and_taken_along() {
    cuda_support::once(|| {
        let tokens = tiny::tokens(24, tiny::spec("gqa").n_vocab);
        let state = |ctx: &mut Context| {
            let mut state = Vec::new();
            ctx.write_state(&StateScope::ALL, &mut state).unwrap();
            state
        };
        // What stays of the first 20 tokens moves to the front, and a state of it goes elsewhere.
        let go_on = |from: i32, to: i32| {
            let mut ctx = exact(from);
            decode(&mut ctx, &tokens[..20], false);
            ctx.kv_mut().seq_rm(Some(0), 2, 8);
            ctx.kv_mut().seq_add(0, 8, 20, -6);
            decode(&mut ctx, &tokens[20..22], false);
            let moved = state(&mut ctx);
            let mut other = exact(to);
            other.read_state(&StateScope::ALL, &moved).unwrap();
            decode(&mut other, &tokens[22..], false);
            last(&mut other)
        };
        let expected = go_on(0, 0);
        // All layers, the output and the last layer, or none.
        for (from, to) in [(-1, -1), (-1, 0), (0, -1), (2, -1)] {
            let error = nmse(&go_on(from, to), &expected);
            assert!(error < 1e-10, "from {from} to {to} layers: NMSE {error:.1e}");
        }
    });
}

/// What fails on the card is computed on the processor, with all that was computed before.
#[test]
fn a_card_that_fails_is_left() {
    let settings = [("FAKE_CUDA_FAIL_NAME", "cuLaunchKernel"), ("FAKE_CUDA_FAIL_AT", "300")];
    cuda_support::passes_with(&settings, || {
        let tokens = tiny::tokens(40, tiny::spec("gqa").n_vocab);
        let run = |n_layers| {
            let mut ctx = exact(n_layers);
            tokens.iter().for_each(|token| decode(&mut ctx, &[*token], false));
            last(&mut ctx)
        };
        let error = nmse(&run(-1), &run(0));
        assert!(error < 1e-10, "NMSE {error:.1e}");
    });
}

/// With the card the cache is gone: an error says so once, and the context goes on, empty.
#[test]
fn a_card_that_is_lost_takes_the_cache_along() {
    let settings = [("FAKE_CUDA_FAIL_AT", "1500"), ("FAKE_CUDA_LOST", "1")];
    cuda_support::passes_with(&settings, || {
        let tokens = tiny::tokens(20, tiny::spec("gqa").n_vocab);
        let mut ctx = exact(-1);
        let error = tokens.iter().cycle().take(60).find_map(|token| {
            let input = Input::Tokens(std::slice::from_ref(token));
            ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).err()
        });
        let error = error.expect("the card is lost on the way");
        assert!(matches!(error, DecodeError::Card(_)), "{error}");
        ctx.kv_mut().clear(true);
        tokens.iter().for_each(|token| decode(&mut ctx, &[*token], false));
        let mut other = exact(0);
        tokens.iter().for_each(|token| decode(&mut other, &[*token], false));
        assert_eq!(last(&mut ctx), last(&mut other));
    });
}
