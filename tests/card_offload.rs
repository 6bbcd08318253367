//! What of a model goes to a card within a budget, and what happens when the card has less room than
//! it said. Runs on the fake driver, and unchanged on a real card.

mod common;
mod cuda_support;

use common::{decode, nmse, tiny, tiny_sparse};
use powerinfer::api::{CardRequest, Model};
use powerinfer::engine::ContextParams;
use powerinfer::quant::QuantType::F32;

const PARTS: [usize; 3] = [9, 1, 3];

/// A model with predictors, exact numbers alone, and more neurons than the rest weighs.
fn bytes() -> Vec<u8> {
    let spec = tiny_sparse::spec("llama");
    tiny_sparse::bytes(&tiny_sparse::Spec {
        types: &[F32],
        predictor: (F32, F32),
        n_ff: 640,
        ..spec
    })
}

fn model() -> Model {
    tiny::load(&bytes(), &Default::default()).unwrap()
}

fn logits(model: &Model) -> Vec<Vec<f32>> {
    let params: ContextParams = common::params(|p| {
        (p.n_ctx, p.n_batch, p.n_ubatch) = (64, 64, 64);
        (p.type_k, p.type_v) = (F32, F32);
    });
    let mut ctx = model.context(params).unwrap();
    let mut all = Vec::new();
    let mut tokens = &tiny::tokens(PARTS.iter().sum(), tiny_sparse::N_VOCAB)[..];
    for n in PARTS {
        let (part, rest) = tokens.split_at(n);
        decode(&mut ctx, part, true);
        all.extend((0..n).map(|i| ctx.outputs().logits_ith(i as i32).unwrap().to_vec()));
        tokens = rest;
    }
    all
}

/// A card that may use so many bytes.
fn with_budget(budget: usize) -> Model {
    let mut model = model();
    let request = CardRequest { n_layers: -1, budget: Some(budget), ..CardRequest::default() };
    model.offload(&request).unwrap();
    model
}

#[test]
fn every_budget_is_kept_and_used() {
    cuda_support::once(|| {
        let expected = logits(&model());
        let whole = with_budget(1 << 30);
        assert_eq!(whole.hot_neurons(), None, "everything finds room");
        assert!(nmse(&logits(&whole), &expected) < 1e-10);
        let most = whole.card_budget().unwrap().used();
        let mut shares = Vec::new();
        for share in (0..=20).map(|i| i * most / 8) {
            let model = with_budget(share);
            let error = nmse(&logits(&model), &expected);
            assert!(error < 1e-10, "{share} bytes: NMSE {error:.1e}");
            if let Some(budget) = model.card_budget() {
                assert!(budget.used() <= share, "{} of {share} bytes", budget.used());
            }
            shares.push(model.hot_neurons().map_or(0, |(hot, _)| hot));
        }
        let mut distinct = shares.clone();
        distinct.dedup();
        assert!(distinct.len() > 4, "more bytes, more neurons: {shares:?}");
    });
}

/// Whatever allocation fails, the model runs, on the card or without.
#[test]
fn allocations_that_fail_leave_a_model_that_runs() {
    for at in 1..=24 {
        let at = at.to_string();
        let settings = [("FAKE_CUDA_FAIL_NAME", "cuMemAlloc"), ("FAKE_CUDA_FAIL_AT", &at[..])];
        cuda_support::passes_with(&settings, || {
            let mut split = model();
            let request =
                CardRequest { n_layers: -1, budget: Some(6 << 20), ..CardRequest::default() };
            // What the card refuses while layers are brought is an error, and no layer is there.
            let _ = split.offload(&request);
            let error = nmse(&logits(&split), &logits(&model()));
            assert!(error < 1e-10, "NMSE {error:.1e}");
        });
    }
}
