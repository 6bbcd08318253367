//! Number formats of the cache.

use std::sync::Arc;

use powerinfer::engine::kv::TYPES;
use powerinfer::engine::{Context, ContextError};
use powerinfer::quant::QuantType::{self, BF16, F16, F32, Q4_0, Q4_1, Q8_0};

use powerinfer::model::Model;

use crate::common::{context, params, tiny};
use crate::feed;

/// How far a format's numbers are from the true ones, relative to the largest of a block: half a
/// step for rounding.
fn step(ty: QuantType) -> f32 {
    match ty {
        F32 => 0.0,
        F16 => 2f32.powi(-11),
        BF16 => 2f32.powi(-8),
        Q8_0 => 1.0 / 254.0,
        QuantType::Q5_0 | QuantType::Q5_1 => 1.0 / 31.0,
        _ => 1.0 / 14.0,
    }
}

/// A model that computes with floats only: what is lost is lost in the cache.
fn model() -> Arc<Model> {
    tiny::bare_model(&tiny::Spec { types: &[F32], ..tiny::spec("tied") })
}

/// Logits of 40 tokens and 3 steps with keys and values in these formats, after one token more in
/// between has been taken back.
fn run(types: (QuantType, QuantType), n_ubatch: u32, n_threads: usize) -> Vec<f32> {
    let mut ctx = context(&model(), |p| {
        (p.type_k, p.type_v, p.n_ubatch) = (types.0, types.1, n_ubatch);
        (p.n_threads, p.n_threads_batch) = (n_threads, n_threads);
    });
    let tokens = tiny::tokens(44, 96);
    let mut all = feed(&mut ctx, &tokens[..40], &(0..40).collect::<Vec<_>>(), &[0]);
    feed(&mut ctx, &[90], &[40], &[0]);
    ctx.kv_mut().seq_rm(Some(0), 40, 41);
    for i in 40..44 {
        all.extend(feed(&mut ctx, &tokens[i..=i], &[i as i32], &[0]));
    }
    all
}

/// Relative error, in root mean squares.
fn error(x: &[f32], truth: &[f32]) -> f32 {
    let sum =
        |f: &dyn Fn(f32, f32) -> f32| -> f32 { x.iter().zip(truth).map(|(a, b)| f(*a, *b)).sum() };
    (sum(&|a, b| (a - b).powi(2)) / sum(&|_, b| b * b)).sqrt()
}

#[test]
fn each_format_is_as_near_to_f32_as_its_steps_are_fine() {
    let truth = run((F32, F32), 512, 2);
    for &ty in TYPES {
        for (k, v) in [(ty, F32), (F32, ty), (ty, ty)] {
            let logits = run((k, v), 512, 2);
            let (error, step) = (error(&logits, &truth), step(ty));
            // Scores and logits are sums of many errors of either sign. From below: the format
            // is really in use.
            assert!(error <= 4.0 * step && error >= step / 40.0, "{k}/{v}: {error} of {step}");
        }
    }
}

#[test]
fn bytes_are_the_same_for_any_threads_and_ubatches() {
    for &ty in TYPES {
        let whole = run((ty, F16), 512, 1);
        assert_eq!(run((ty, F16), 7, 3), whole, "{ty}");
        let whole = run((F16, ty), 512, 1);
        assert_eq!(run((F16, ty), 7, 3), whole, "{ty}");
    }
}

/// Moved keys are decoded, turned and rounded again.
#[test]
fn quantised_keys_can_be_moved() {
    let model = model();
    let tokens = tiny::tokens(40, 96);
    for ty in [F32, Q8_0, Q4_0] {
        let moved = |shift: i32| {
            let mut ctx = context(&model, |p| (p.type_k, p.type_v) = (ty, F32));
            let pos: Vec<i32> = (shift..shift + 39).collect();
            feed(&mut ctx, &tokens[..39], &pos, &[0]);
            ctx.kv_mut().seq_add(0, 0, i32::MAX, 5 - shift);
            feed(&mut ctx, &tokens[39..], &[44], &[0])
        };
        let error = error(&moved(25), &moved(5));
        assert!(error <= 4.0 * step(ty) + 1e-5, "{ty}: {error}");
    }
}

#[test]
fn memory_is_what_the_formats_take() {
    let model = tiny::bare_model(&tiny::spec("tied"));
    let kv = |k, v| {
        let mut ctx = context(&model, |p| (p.type_k, p.type_v, p.n_ctx) = (k, v, 256));
        ctx.memory_use().kv
    };
    // 2 layers, 256 cells, 2 heads of 32 elements.
    assert_eq!(kv(F16, F16), 2 * 256 * 2 * 64 * 2);
    assert_eq!(kv(Q8_0, Q4_0), 2 * 256 * 2 * (34 + 18));
    assert_eq!(kv(F32, Q4_1), 2 * 256 * 2 * (128 + 20));
}

#[test]
fn impossible_formats_are_refused_by_name() {
    let refused = |spec: &str, types: (QuantType, QuantType)| {
        let model = tiny::bare_model(&tiny::spec(spec));
        let params = params(|p| (p.type_k, p.type_v) = types);
        let sparse = crate::common::sparse(&model);
        match Context::new(model, sparse, params) {
            Err(ContextError::Invalid(text)) => text,
            other => panic!("{:?}", other.map(|_| "a context")),
        }
    };
    let text = refused("tied", (F16, QuantType::Q6_K));
    assert!(text.starts_with("V cache of type q6_K is not supported (f32, f16, bf16, "), "{text}");
    let text = refused("tied", (QuantType::I8, F16));
    assert!(text.starts_with("K cache of type i8 is not supported"), "{text}");
    assert_eq!(
        refused("gqa", (Q8_0, F16)),
        "K cache of type q8_0 has blocks of 32, heads of 16 elements (layer 0) are not whole blocks"
    );
    let text = refused("short-values", (Q8_0, Q4_0));
    assert!(text.starts_with("V cache of type q4_0 has blocks of 32, heads of 16"), "{text}");
}
