//! Every variant of llama and every other architecture against llama.cpp, on tiny random models
//! that need no download.
//!
//! `data/tiny.json` has llama.cpp's logits of each model's twin in F32 (see `common/tiny.rs` and
//! `common/tiny_archs.rs`), made by `tools/tiny_goldens.py`; `data/tiny_flax.json` those of
//! transformers for what llama.cpp does not have, made by `tools/tiny_goldens_flax.py`.

mod common;

use common::{context, decode};
use common::{tiny, tiny_archs};
use powerinfer::engine::Context;
use powerinfer::gguf::Value::Str;
use powerinfer::gguf::{LoadOptions, ModelFiles};
use powerinfer::model::Model;
use powerinfer::plan::Skipping;
use serde_json::{Map, Value};

/// Tokens decoded at once; 8 single ones follow.
const BATCH: usize = 100;
const SINGLE: usize = 8;
/// Tokens of the batch whose logits are compared; those of the last single one come after them.
const COMPARED: [i32; 3] = [5, 50, 99];

/// Goldens by the models' names.
fn goldens() -> Map<String, Value> {
    let files = [include_str!("data/tiny.json"), include_str!("data/tiny_flax.json")];
    let models = |text| match serde_json::from_str::<Value>(text).unwrap()["models"].take() {
        Value::Object(models) => models,
        other => panic!("{other}"),
    };
    files.into_iter().flat_map(models).collect()
}

/// A model and its twin.
struct Case {
    name: &'static str,
    n_vocab: usize,
    model: Vec<u8>,
    twin: Vec<u8>,
}

/// All models that have goldens.
fn cases() -> Vec<Case> {
    let llamas = tiny::SPECS.iter().map(|s| Case {
        name: s.name,
        n_vocab: s.n_vocab,
        model: tiny::bytes(s),
        twin: tiny::twin_bytes(s),
    });
    let others = tiny_archs::SPECS.iter().map(|s| Case {
        name: s.name,
        n_vocab: tiny_archs::N_VOCAB,
        model: tiny_archs::bytes(s),
        twin: tiny_archs::twin_bytes(s),
    });
    llamas.chain(others).collect()
}

fn logits(case: &Case, reference: bool) -> Vec<Vec<f32>> {
    let mut ctx = context(&tiny::bare_model_of(&case.model), |p| {
        (p.reference, p.n_ctx, p.n_batch) = (reference, 256, 256);
    });
    let tokens = tiny::tokens(BATCH + SINGLE, case.n_vocab);
    decode(&mut ctx, &tokens[..BATCH], true);
    let row = |ctx: &mut Context, i: i32| ctx.outputs().logits_ith(i).unwrap().to_vec();
    let mut all: Vec<Vec<f32>> = COMPARED.iter().map(|&i| row(&mut ctx, i)).collect();
    for token in &tokens[BATCH..] {
        decode(&mut ctx, &[*token], true);
    }
    all.push(row(&mut ctx, -1));
    all
}

/// Squared error relative to the truth's power, over all compared logits.
fn nmse(ours: &[Vec<f32>], truth: &Value) -> f64 {
    let truth: Vec<f64> = truth
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|x| x.as_f64().unwrap())
        .collect();
    let ours: Vec<f64> = ours.concat().into_iter().map(f64::from).collect();
    assert_eq!(ours.len(), truth.len());
    let error: f64 = ours.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum();
    error / truth.iter().map(|b| b * b).sum::<f64>()
}

#[test]
fn the_generator_makes_the_models_of_the_goldens() {
    let goldens = goldens();
    let cases = cases();
    for case in &cases {
        let golden = &goldens[case.name];
        let again = "run tests/tools/tiny_goldens.py";
        assert_eq!(golden["model"], tiny::fingerprint(&case.model), "{}: {again}", case.name);
        assert_eq!(golden["twin"], tiny::fingerprint(&case.twin), "{}: {again}", case.name);
    }
    assert_eq!(goldens.len(), cases.len());
}

/// How far two computations in F32 can be apart: 1e-12 is measured.
fn bound(name: &str) -> f64 {
    match name {
        // llama.cpp looks GELU up in a table of F16.
        "bloom" | "phi2" | "falcon-7b" | "falcon-40b" | "gemma" | "gemma2" | "gemma3"
        | "gemma3n" | "gpt2" | "starcoder2" => 1e-6,
        _ => 1e-10,
    }
}

/// Both compute in F32, so that only the order of sums differs: what is measured is 1e-12.
#[test]
fn reference_mode_equals_llama_cpp_in_f32() {
    let goldens = goldens();
    let mut failures = Vec::new();
    for case in cases() {
        let error = nmse(&logits(&case, true), &goldens[case.name]["logits"]);
        if error.is_nan() || error >= bound(case.name) {
            failures.push(format!("{}: NMSE {error:e}", case.name));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Both round weights, activations and cache, each in its own way. The noise of one model is luck;
/// over all models it must not be larger than llama.cpp's by more than on real models.
#[test]
fn normal_mode_is_as_close_as_llama_cpp() {
    let goldens = goldens();
    let (mut log_ratios, mut n) = (0.0, 0);
    for case in cases() {
        let golden = &goldens[case.name];
        let error = nmse(&logits(&case, false), &golden["logits"]);
        assert!(error < 1e-3, "{}: NMSE {error:e}", case.name);
        if let Some(theirs) = golden["llama_cpp_nmse"].as_f64() {
            assert!(error < 1.5 * theirs, "{}: NMSE {error:e}, theirs {theirs:e}", case.name);
            // Where weights are plain numbers we are far more exact, which must not hide the rest.
            log_ratios += (error / theirs).max(0.7).ln();
            n += 1;
        }
    }
    assert!(n >= 15, "{n}");
    let mean = (log_ratios / f64::from(n)).exp();
    assert!(mean < 1.15, "geometric mean of the ratios: {mean}");
}

/// The model of this name, with `powerinfer.activation`.
fn with_activation(name: &str, activation: &str) -> Vec<u8> {
    tiny_archs::edited_bytes(&tiny_archs::spec(name), |keys, _| {
        keys.set("powerinfer.activation", Str(activation.into())).unwrap();
    })
}

fn logits_of(model: &[u8]) -> Vec<Vec<f32>> {
    let (name, n_vocab, twin) = ("", tiny_archs::N_VOCAB, Vec::new());
    logits(&Case { name, n_vocab, model: model.to_vec(), twin }, false)
}

/// `llama-relu` and `bitnet-b1.58` have goldens; here is who listens at all.
#[test]
fn an_activation_is_chosen_where_there_is_a_choice() {
    for (name, own, other) in [
        ("falcon-7b", "gelu", "relu"),
        ("opt", "relu", "relu2"),
        ("llama-relu", "relu", "silu"),
        ("bitnet", "silu", "relu2"),
        ("bitnet-b1.58", "relu2", "silu"),
    ] {
        let plain = logits_of(&tiny_archs::bytes(&tiny_archs::spec(name)));
        assert_eq!(plain, logits_of(&with_activation(name, own)), "{name} has {own}");
        assert_ne!(plain, logits_of(&with_activation(name, other)), "{name} with {other}");
    }
    for (name, other) in [("nemotron", "relu"), ("arcee", "silu"), ("bamboo", "relu")] {
        let plain = logits_of(&tiny_archs::bytes(&tiny_archs::spec(name)));
        assert_eq!(plain, logits_of(&with_activation(name, other)), "{name} has no choice");
    }
}

#[test]
fn unknown_activations_are_refused_by_name() {
    for name in ["llama-relu", "nemotron"] {
        let file = tiny::unnamed_file(&with_activation(name, "relu3"));
        let files = ModelFiles::open_file(file, "tiny.gguf", &LoadOptions::default()).unwrap();
        let error = Model::load(files, false, Skipping::default(), &mut |_| true).unwrap_err();
        let text = error.to_string();
        for part in ["powerinfer.activation", "relu3", "relu2"] {
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}

/// Writes the models where `tools/tiny_goldens.py` wants them.
#[test]
#[ignore = "a tool: TINY_MODELS=folder"]
fn write_models() {
    let dir = std::path::PathBuf::from(std::env::var_os("TINY_MODELS").unwrap());
    for case in cases() {
        std::fs::write(dir.join(format!("{}.gguf", case.name)), case.model).unwrap();
        std::fs::write(dir.join(format!("{}.twin.gguf", case.name)), case.twin).unwrap();
    }
}
