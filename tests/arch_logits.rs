//! Tiny random models of whole architectures against logits of llama.cpp, where the extra test
//! data is there: 60 tokens at once, logits at positions 5, 40 and 59, then 20 single tokens.
#![allow(clippy::print_stdout, reason = "says what is skipped")]

mod common;

use std::path::PathBuf;

use powerinfer::api::{ContextParams, LoadOptions, Model};
use serde_json::Value;

/// Files of the extra data whose architectures run here.
const RUN: &[&str] = &[
    "arcee-dense",
    "command-r-dense",
    "falcon-dense",
    "gemma-dense",
    "gemma2-dense",
    "gemma3-dense",
    "glm4-dense",
    "gpt2-dense",
    "granite-dense",
    "llama-dense",
    "llama-moe",
    "mistral3-dense",
    "nemotron-dense",
    "olmo2-dense",
    "phi3-dense",
    "qwen2-dense",
    "qwen3-dense",
    "stablelm-dense",
    "smallthinker-moe",
    "starcoder2-dense",
];

fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("POWERINFER_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
        .join("data/archs");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no test data in {}", dir.display());
    None
}

fn logits_of(model: &Model) -> Vec<f32> {
    let n_vocab = model.vocab().n_tokens() as i64;
    let params = ContextParams {
        n_ctx: 256,
        n_batch: 128,
        n_ubatch: 128,
        n_threads: 1,
        n_threads_batch: 1,
        reference: false,
        ..ContextParams::default()
    };
    let mut ctx = model.context(params).unwrap();
    let tokens: Vec<i32> = (0..80i64).map(|i| ((7 * i * i + 3 * i + 5) % n_vocab) as i32).collect();
    common::decode(&mut ctx, &tokens[..60], true);
    let mut all = Vec::new();
    for i in [5, 40, 59] {
        all.extend_from_slice(ctx.outputs().logits_ith(i).unwrap());
    }
    for token in &tokens[60..] {
        common::decode(&mut ctx, &[*token], true);
    }
    all.extend_from_slice(ctx.outputs().logits_ith(-1).unwrap());
    all
}

#[test]
fn tiny_models_equal_llama_cpp() {
    let Some(dir) = data() else { return };
    let json = std::fs::read_to_string(dir.join("logits.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let mut failures = Vec::new();
    for (name, expected) in json.as_object().unwrap() {
        if !RUN.contains(&name.as_str()) {
            continue;
        }
        let path = dir.join(format!("{name}.gguf"));
        let model = match Model::load(path, &LoadOptions::default(), &mut |_| true) {
            Ok(model) => model,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let truth = expected["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
        let truth: Vec<f64> = truth.collect();
        let ours = logits_of(&model);
        assert_eq!(ours.len(), truth.len(), "{name}");
        let error: f64 = ours.iter().zip(&truth).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        let nmse = error / truth.iter().map(|b| b * b).sum::<f64>();
        println!("{name}: NMSE {nmse:.2e}");
        if nmse.is_nan() || nmse >= 1e-4 {
            failures.push(format!("{name}: NMSE {nmse}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
