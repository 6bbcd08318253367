//! Files of PowerInfer against a forward pass in numpy (`tools/sparse_goldens.py`): the neurons that
//! predictors ask for, the neurons that the gates ask for, and all of them, on tiny models of each
//! architecture, with ranks and widths that are multiples of nothing and mixed types.

mod common;

use common::tiny;
use common::tiny_sparse::{self, N_VOCAB, SPECS, Spec};
use powerinfer::api::{Batch, Context, ContextParams, Input, LoadOptions, Model};
use powerinfer::gguf::{KvOverride, OverrideValue};
use powerinfer::sparse::Mode;
use serde_json::{Map, Value};

/// Tokens of the goldens, and those whose logits they have.
const N_TOKENS: usize = 24;
const COMPARED: [usize; 2] = [7, 23];
/// Up to this many tokens at once have lists of neurons.
const LISTED: [usize; 4] = [1, 2, 5, 8];

fn goldens() -> Map<String, Value> {
    let text = include_str!("data/sparse.json");
    match serde_json::from_str::<Value>(text).unwrap()["models"].take() {
        Value::Object(models) => models,
        other => panic!("{other}"),
    }
}

fn load(bytes: &[u8], mode: Mode, threshold: Option<f32>) -> Model {
    let key = |key: &str, value| KvOverride { key: key.into(), value };
    let mut kv_overrides =
        vec![key("powerinfer.sparse", OverrideValue::Str(mode.name().to_owned()))];
    if let Some(threshold) = threshold {
        let value = OverrideValue::Float(threshold.into());
        kv_overrides.push(key("powerinfer.sparse_threshold", value));
    }
    tiny::load(bytes, &LoadOptions { kv_overrides, ..LoadOptions::default() }).unwrap()
}

/// What a run gave.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Logits of every token.
    logits: Vec<Vec<f32>>,
    /// Neurons that were asked for and that fired, per layer, over all tokens.
    guessed: Vec<u64>,
    fired: Vec<u64>,
}

/// Decodes the goldens' tokens, so many at once.
fn run(model: &Model, at_once: usize, reference: bool, n_threads: usize) -> Seen {
    let params = ContextParams {
        n_ctx: 64,
        n_threads,
        n_threads_batch: n_threads,
        reference,
        ..ContextParams::default()
    };
    let mut ctx = model.context(params).unwrap();
    let mut logits = Vec::new();
    for tokens in tiny::tokens(N_TOKENS, N_VOCAB).chunks(at_once) {
        decode(&mut ctx, tokens);
        let rows = 0..tokens.len() as i32;
        logits.extend(rows.map(|i| ctx.outputs().logits_ith(i).unwrap().to_vec()));
    }
    let reports = ctx.sparse_stats();
    let guessed = reports.iter().map(|layer| layer.guessed).collect();
    let fired = reports.iter().map(|layer| layer.fired).collect();
    Seen { logits, guessed, fired }
}

fn decode(ctx: &mut Context, tokens: &[i32]) {
    let outputs = vec![true; tokens.len()];
    let input = Input::Tokens(tokens);
    let batch = Batch { input, pos: None, seq_ids: None, outputs: Some(&outputs) };
    ctx.decode(&batch).unwrap();
}

/// Squared error relative to the truth's power.
fn nmse(ours: &Seen, truth: &Value) -> f64 {
    let ours = COMPARED.iter().flat_map(|&i| &ours.logits[i]);
    let truth = truth["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    let (mut error, mut power, mut n) = (0.0, 0.0, 0);
    for (a, b) in ours.zip(truth) {
        let b = b.as_f64().unwrap();
        error += (f64::from(*a) - b).powi(2);
        power += b * b;
        n += 1;
    }
    assert_eq!(n, COMPARED.len() * N_VOCAB);
    error / power
}

fn counts(golden: &Value) -> Vec<u64> {
    golden.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// Runs `check` on every model; all failures are reported.
fn for_each(check: impl Fn(&Spec, &Value) -> Result<(), String>) {
    let goldens = goldens();
    let failures: Vec<String> = SPECS
        .iter()
        .filter_map(|spec| {
            Some(format!("{}: {}", spec.name, check(spec, &goldens[spec.name]).err()?))
        })
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Only the order of sums in F32 differs.
fn close(what: &str, ours: &Seen, truth: &Value) -> Result<(), String> {
    let error = nmse(ours, truth);
    let ok = error < 1e-10;
    ok.then_some(()).ok_or_else(|| format!("{what}: NMSE {error:e}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, truth: T) -> Result<(), String> {
    let text = format!("{what}: {ours:?}, expected {truth:?}");
    (ours == truth).then_some(()).ok_or(text)
}

#[test]
fn the_generator_makes_the_models_of_the_goldens() {
    let goldens = goldens();
    for spec in SPECS {
        let golden = &goldens[spec.name];
        let again = "run tests/tools/sparse_goldens.py";
        let model = tiny::fingerprint(&tiny_sparse::bytes(spec));
        let twin = tiny::fingerprint(&tiny_sparse::twin_bytes(spec));
        assert_eq!(golden["model"], model, "{}: {again}", spec.name);
        assert_eq!(golden["twin"], twin, "{}: {again}", spec.name);
    }
    assert_eq!(goldens.len(), SPECS.len());
}

/// A few tokens at once: each has the neurons that its own scores ask for, and no others.
#[test]
fn predicted_neurons_are_powerinfers() {
    for_each(|spec, golden| {
        let model = load(&tiny_sparse::bytes(spec), Mode::Predictor, None);
        let golden = &golden["predicted"];
        for at_once in LISTED {
            let what = format!("{at_once} at once");
            let ours = run(&model, at_once, true, 2);
            close(&what, &ours, golden)?;
            same(&what, &ours.guessed, &counts(&golden["guessed"]))?;
            same(&what, &ours.fired, &counts(&golden["fired"]))?;
        }
        Ok(())
    });
}

/// The gate skips only what adds nothing.
#[test]
fn exact_gates_lose_nothing() {
    for_each(|spec, golden| {
        let golden = &golden["all"];
        let all = vec![(N_TOKENS * spec.n_ff) as u64; spec.n_layer];
        for (bytes, file) in
            [(tiny_sparse::bytes(spec), "sparse"), (tiny_sparse::twin_bytes(spec), "ordinary")]
        {
            let exact = load(&bytes, Mode::Exact, None);
            for at_once in LISTED {
                let what = format!("{file} file, {at_once} at once");
                let ours = run(&exact, at_once, true, 2);
                close(&what, &ours, golden)?;
                same(&what, &ours.guessed, &all)?;
                same(&what, &ours.fired, &counts(&golden["fired"]))?;
            }
            for mode in [Mode::Exact, Mode::Off] {
                let what = format!("{file} file, {}", mode.name());
                let model = load(&bytes, mode, None);
                close(&what, &run(&model, N_TOKENS, true, 2), golden)?;
                close(&what, &run(&model, 1, true, 2), golden)?;
            }
        }
        Ok(())
    });
}

/// Predictors that ask for every neuron, in the arithmetic that users run.
#[test]
fn without_a_threshold_the_exact_gates_bytes() {
    for_each(|spec, _| {
        let bytes = tiny_sparse::bytes(spec);
        let predictor = load(&bytes, Mode::Predictor, Some(f32::NEG_INFINITY));
        let exact = load(&bytes, Mode::Exact, None);
        for (at_once, reference) in [(1, false), (3, false), (8, false), (1, true), (8, true)] {
            let (ours, truth) =
                (run(&predictor, at_once, reference, 2), run(&exact, at_once, reference, 2));
            same(&format!("{at_once} at once"), ours == truth, true)?;
        }
        Ok(())
    });
}

/// Nobody fires: the biases and nothing else.
#[test]
fn a_threshold_that_none_reaches() {
    for_each(|spec, _| {
        let model = load(&tiny_sparse::bytes(spec), Mode::Predictor, Some(f32::INFINITY));
        for at_once in [1, 4] {
            let seen = run(&model, at_once, false, 2);
            same("fired", seen.fired, vec![0; spec.n_layer])?;
            same("guessed", seen.guessed, vec![0; spec.n_layer])?;
            same("finite", seen.logits.iter().flatten().all(|x| x.is_finite()), true)?;
        }
        Ok(())
    });
}

/// Which thread computes what changes no bit.
#[test]
fn the_same_bytes_at_any_number_of_threads() {
    for_each(|spec, _| {
        for mode in [Mode::Predictor, Mode::Exact] {
            let model = load(&tiny_sparse::bytes(spec), mode, None);
            for at_once in [1, 5] {
                let one = run(&model, at_once, false, 1);
                for n_threads in [2, 3, 4, 8] {
                    let what = format!("{}, {n_threads} threads", mode.name());
                    same(&what, run(&model, at_once, false, n_threads) == one, true)?;
                }
            }
        }
        Ok(())
    });
}

/// Weights' own types and quantised activations stay near the truth.
#[test]
fn normal_mode_is_near() {
    for_each(|spec, golden| {
        let model = load(&tiny_sparse::bytes(spec), Mode::Exact, None);
        for at_once in [1, 8, N_TOKENS] {
            let error = nmse(&run(&model, at_once, false, 2), &golden["all"]);
            same(&format!("NMSE {error:e}, {at_once} at once"), error < 1e-3, true)?;
        }
        Ok(())
    });
}

#[test]
fn an_unknown_mode_is_refused_by_name() {
    let value = OverrideValue::Str("fast".into());
    let kv_overrides = vec![KvOverride { key: "powerinfer.sparse".into(), value }];
    let options = LoadOptions { kv_overrides, ..LoadOptions::default() };
    let bytes = tiny_sparse::bytes(&tiny_sparse::MICRO);
    let error = tiny::load(&bytes, &options).err().unwrap().to_string();
    assert!(error.starts_with("powerinfer.sparse: str \"fast\" is not auto, exact"), "{error}");
}

/// Writes the models for `tools/sparse_goldens.py` into the folder `TINY_MODELS`.
#[test]
#[ignore = "makes files for tests/tools/sparse_goldens.py"]
fn write_models() {
    let dir = std::path::PathBuf::from(std::env::var_os("TINY_MODELS").unwrap());
    for spec in SPECS {
        let path = |suffix: &str| dir.join(format!("{}.{suffix}.gguf", spec.name));
        std::fs::write(path("sparse"), tiny_sparse::bytes(spec)).unwrap();
        std::fs::write(path("twin"), tiny_sparse::twin_bytes(spec)).unwrap();
    }
}
