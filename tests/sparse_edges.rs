//! Neurons that skip at the edges: none fires, all fire, gates that are no numbers, sizes that are
//! multiples of nothing; and what the statistics say of the bytes that are read.

mod common;

use common::tiny::{self, Spec, Tensor};
use powerinfer::api::{ContextParams, KvOverride, LoadOptions, Model, OverrideValue};
use powerinfer::engine::{Batch, Context, Input};
use powerinfer::gguf::Value;
use powerinfer::quant::QuantType::{self, F16, F32, Q4_0, Q8_0};

fn load(bytes: &[u8], mode: &str) -> Model {
    let option = |key: &str, value| KvOverride { key: key.into(), value };
    let kv_overrides = vec![option("powerinfer.sparse", OverrideValue::Str(mode.into()))];
    tiny::load(bytes, &LoadOptions { kv_overrides, ..LoadOptions::default() }).unwrap()
}

/// A llama with ReLU whose gates are changed: `edit` gets each gate's rows.
fn model(spec: &Spec, edit: impl Fn(&mut [f32])) -> Vec<u8> {
    tiny::edited_bytes(spec, |keys, tensors: &mut Vec<Tensor>| {
        keys.set("powerinfer.activation", Value::Str("relu".into())).unwrap();
        for t in tensors.iter_mut().filter(|t| t.name.contains("ffn_gate")) {
            let mut rows = vec![0.0; t.dims.iter().product::<usize>()];
            powerinfer::quant::dequantize_row(t.ty, &t.data, &mut rows).unwrap();
            edit(&mut rows);
            t.data = tiny::quantized(t.ty, &rows);
        }
    })
}

fn spec(n_ff: usize, types: &'static [QuantType]) -> Spec {
    Spec { n_ff, types, n_layer: 2, seed: 55, ..tiny::spec("gqa") }
}

fn context(model: &Model, reference: bool) -> Context {
    model
        .context(ContextParams { n_ctx: 256, n_threads: 2, reference, ..Default::default() })
        .unwrap()
}

/// Bits of the logits of some tokens, `at_once` at a time.
fn run(ctx: &mut Context, at_once: usize) -> Vec<u32> {
    let tokens = tiny::tokens(8, 96);
    let mut all = Vec::new();
    for part in tokens.chunks(at_once) {
        let outputs = vec![true; part.len()];
        let input = Input::Tokens(part);
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: Some(&outputs) }).unwrap();
        for i in 0..part.len() {
            let logits = ctx.outputs().logits_ith(i as i32).unwrap();
            all.extend(logits.iter().map(|x| x.to_bits()));
        }
    }
    all
}

/// Exact gates against the dense run, both in reference mode; NaN equals NaN.
fn check(name: &str, bytes: &[u8]) -> Context {
    let dense = run(&mut context(&load(bytes, "off"), true), 1);
    let exact = load(bytes, "exact");
    for at_once in [1, 3, 8] {
        let ours = run(&mut context(&exact, true), at_once);
        let same = |(a, b): (&u32, &u32)| {
            a == b || (f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan())
        };
        assert!(dense.iter().zip(&ours).all(same), "{name}, {at_once} tokens at once");
    }
    let mut ctx = context(&exact, false);
    run(&mut ctx, 1);
    for layer in ctx.sparse_stats() {
        assert!(layer.bytes <= layer.dense_bytes, "{name}: {layer:?}");
    }
    ctx
}

/// Activated share of all layers.
fn share(ctx: &Context) -> f64 {
    let reports = ctx.sparse_stats();
    let all: u64 = reports.iter().map(|r| r.tokens * r.n_ff as u64).sum();
    reports.iter().map(|r| r.fired).sum::<u64>() as f64 / all as f64
}

#[test]
fn neurons_that_never_fire() {
    // A gate of zeros is zero, which ReLU keeps.
    for types in [&[F16][..], &[Q8_0], &[Q4_0], &[F32]] {
        let bytes = model(&spec(96, types), |rows| rows.fill(0.0));
        assert_eq!(share(&check("silent", &bytes)), 0.0);
    }
}

#[test]
fn neurons_that_always_fire() {
    // Of two opposite gates one fires; with all of them, neither list is short.
    for types in [&[F16][..], &[Q8_0], &[F32]] {
        let bytes = model(&spec(96, types), |rows| {
            let half = rows.len() / 2;
            let (a, b) = rows.split_at_mut(half);
            b.iter_mut().zip(a).for_each(|(b, a)| *b = -*a);
        });
        let share = share(&check("half", &bytes));
        assert!((0.49..=0.5).contains(&share), "{share}");
    }
}

#[test]
fn gates_that_are_no_numbers() {
    let bytes = model(&spec(96, &[F32]), |rows| rows[70..75].fill(f32::NAN));
    let mut ctx = check("NaN", &bytes);
    // What cannot be judged is computed, and is seen in the output.
    assert!(run(&mut ctx, 1).iter().all(|b| f32::from_bits(*b).is_nan()));
}

#[test]
fn sizes_that_are_multiples_of_nothing() {
    for n_ff in [1, 3, 33, 101, 1003] {
        check(&format!("n_ff {n_ff}"), &model(&spec(n_ff, &[F16]), |_| {}));
    }
    // The narrowest stream that blocks of 32 allow, and the fewest neurons.
    let narrow = Spec { n_embd: 32, n_ff: 32, types: &[Q4_0], ..spec(32, &[Q4_0]) };
    check("narrow", &model(&narrow, |_| {}));
}
