//! Any bytes as a LoRA adapter: loading one neither panics nor takes long, and a model with what is
//! accepted computes, and says the old things again without it.
#![no_main]
#![allow(dead_code, reason = "tests use the rest")]

mod loading;
#[path = "../../common/tiny.rs"]
mod tiny;
#[path = "../../common/tiny_lora.rs"]
mod tiny_lora;

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use powerinfer::adapter::Lora;
use powerinfer::engine::{Batch, Context, ContextParams, Input};
use powerinfer::model::Model;
use powerinfer::quant::QuantType::{BF16, F16, F32, Q8_0};
use powerinfer::sparse::{Options, Sparse};
use tiny_lora::Shape;

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const PLAIN: Shape = Shape { rank: 2, alpha: Some(3.0), ty: F32, gain: 0.5, seed: 1 };
    let model = tiny::bytes(&tiny::MICRO);
    let shapes = [
        ("plain", PLAIN),
        ("f16", Shape { rank: 1, alpha: None, ty: F16, ..PLAIN }),
        ("bf16", Shape { rank: 3, ty: BF16, ..PLAIN }),
        ("q8_0", Shape { rank: 32, ty: Q8_0, ..PLAIN }),
    ];
    shapes.into_iter().map(|(name, shape)| (name, tiny_lora::bytes(&model, shape))).collect()
}

fn model() -> &'static (Arc<Model>, Arc<Sparse>) {
    static MODEL: OnceLock<(Arc<Model>, Arc<Sparse>)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let model = tiny::bare_model(&tiny::MICRO);
        let sparse = Arc::new(Sparse::new(model.plan(), &Options::default()));
        (model, sparse)
    })
}

/// Logits after three tokens at once and one alone.
fn logits(ctx: &mut Context) -> Vec<f32> {
    ctx.kv_mut().clear(false);
    for tokens in [&[1, 5, 3][..], &[4]] {
        let input = Input::Tokens(tokens);
        let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
        ctx.decode(&batch).expect("there is room");
    }
    ctx.outputs().logits_ith(-1).expect("the last token's").to_vec()
}

fuzz_target!(init: loading::init(seeds), |bytes: &[u8]| {
    let (model, sparse) = model();
    let Ok(lora) = tiny_lora::load(bytes, model) else { return };
    let params = ContextParams {
        n_ctx: 64,
        n_threads: 1,
        n_threads_batch: 1,
        reference: bytes.len() % 2 == 1,
        ..ContextParams::default()
    };
    let mut ctx =
        Context::new(Arc::clone(model), Arc::clone(sparse), params).expect("good parameters");
    let plain = logits(&mut ctx);
    let set = |ctx: &mut Context, all: &[(Arc<Lora>, f32)]| ctx.set_loras(all).is_ok();
    if set(&mut ctx, &[(lora, 1.5)]) {
        let changed = logits(&mut ctx);
        assert_eq!(changed.len(), plain.len());
        assert!(set(&mut ctx, &[]), "an adapter can be taken away");
    }
    assert!(logits(&mut ctx) == plain, "without it all is as before");
});
