//! Tiny Gemma 2 models made of the tiny llama models: layers with a window, capped scores.

use std::sync::Arc;

use powerinfer::gguf::{ByteStr, LoadOptions, ModelFiles, Value};
use powerinfer::model::Model;
use powerinfer::quant::QuantType::F32;

use super::tiny::{self, Spec, Tensor};

/// A model whose layers see `window` tokens; with `every` each `every`-th layer sees all.
pub fn model(window: u32, every: u32) -> Arc<Model> {
    let spec = Spec { name: "windowed", n_layer: 4, ..tiny::spec("gqa") };
    let bytes = bytes(&spec, window, every);
    let options = LoadOptions::default();
    let file = tiny::unnamed_file(&bytes);
    let files = ModelFiles::open_file(file, "windowed.gguf", &options).unwrap();
    Arc::new(Model::load(files, false, Default::default(), &mut |_| true).unwrap())
}

fn bytes(spec: &Spec, window: u32, every: u32) -> Vec<u8> {
    tiny::edited_bytes(spec, |keys, tensors| {
        keys.set("general.architecture", Value::Str(ByteStr::from("gemma2"))).unwrap();
        for name in [
            "context_length",
            "embedding_length",
            "block_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.value_length",
            "attention.layer_norm_rms_epsilon",
            "rope.dimension_count",
            "rope.freq_base",
            "vocab_size",
        ] {
            let value = keys.remove(&format!("llama.{name}")).unwrap();
            keys.set(&format!("gemma2.{name}"), value).unwrap();
        }
        let mut set = |name: &str, value| keys.set(&format!("gemma2.{name}"), value).unwrap();
        set("context_length", Value::U32(4096));
        set("attention.sliding_window", Value::U32(window));
        set("attention.sliding_window_pattern", Value::U32(every));
        set("attn_logit_softcapping", Value::F32(5.0));
        set("final_logit_softcapping", Value::F32(30.0));
        for il in 0..spec.n_layer {
            for (i, norm) in ["post_attention_norm", "post_ffw_norm"].iter().enumerate() {
                let numbers = (0..spec.n_embd).map(|e| 0.5 + ((e * 7 + il + i) % 11) as f32 / 11.0);
                let data: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
                let name = format!("blk.{il}.{norm}.weight");
                tensors.push(Tensor { name, dims: vec![spec.n_embd], ty: F32, data });
            }
        }
    })
}
