//! A synthetic sparse model of PowerInfer's format whose greedy text is known from PowerInfer itself
//! and from an independent forward pass in numpy: the same at any number of threads, every time.
//!
//! Needs `tools/make_sparse_model.py` and `data/vocabs/ggml-vocab-llama-spm.gguf` in the folder
//! `POWERINFER_TEST_DATA`, and Python with numpy (`target/python`, or `python3`); skipped with a
//! line without them.
#![allow(clippy::print_stderr, reason = "says what it skips")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use common::argmax;
use powerinfer::api::{Batch, ContextParams, Input, LoadOptions, Model};
use powerinfer::gguf::{KvOverride, OverrideValue};
use powerinfer::sparse::Mode;

const PROMPT: [i32; 5] = [1, 10994, 590, 1024, 338];
/// Greedy, token 2 never chosen.
const CONTINUATION: [i32; 24] = [
    5139, 16317, 6645, 17879, 9279, 25806, 12299, 19609, 20955, 26685, 6962, 166, 10624, 4785,
    6774, 959, 30962, 12438, 2413, 25412, 3901, 1484, 9805, 11783,
];
const NEVER: usize = 2;

/// A Python that has numpy.
fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("python/bin/python3");
    [own, "python3".into()].into_iter().find(|python| {
        let mut import = Command::new(python);
        import.args(["-c", "import numpy"]).stdout(Stdio::null()).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    })
}

/// The model, made when it is not there yet.
fn model_path() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let data = std::env::var_os("POWERINFER_TEST_DATA").map_or_else(beside, PathBuf::from);
    let tool = data.join("tools/make_sparse_model.py");
    let vocab = data.join("data/vocabs/ggml-vocab-llama-spm.gguf");
    if !tool.is_file() || !vocab.is_file() {
        eprintln!("skipped: no {} and {}", tool.display(), vocab.display());
        return None;
    }
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join("synthetic.pwi.gguf");
    if path.is_file() {
        return Some(path);
    }
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with numpy");
        return None;
    };
    // Processes with tests run side by side: the name is given when the file is whole.
    let own = dir.join(format!("synthetic-{}", std::process::id()));
    let made = Command::new(python)
        .arg(tool)
        .args(["--layers", "4", "--embd", "256", "--ff", "1024", "--pred", "128", "--vocab"])
        .arg(vocab)
        .arg("--out")
        .arg(&own)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let file = |suffix: &str| PathBuf::from(format!("{}.{suffix}.gguf", own.display()));
    std::fs::remove_file(file("dense")).unwrap();
    std::fs::rename(file("pwi"), &path).unwrap();
    Some(path)
}

fn load(path: &Path, mode: Mode) -> Model {
    let value = OverrideValue::Str(mode.name().into());
    let kv_overrides = vec![KvOverride { key: "powerinfer.sparse".into(), value }];
    let options = LoadOptions { kv_overrides, ..LoadOptions::default() };
    Model::load(path, &options, &mut |_| true).unwrap()
}

fn continuation(model: &Model, n_threads: usize) -> Vec<i32> {
    let params = ContextParams {
        n_ctx: 64,
        n_threads,
        n_threads_batch: n_threads,
        reference: false,
        ..ContextParams::default()
    };
    let mut ctx = model.context(params).unwrap();
    let mut next = PROMPT.to_vec();
    let mut out = Vec::new();
    while out.len() < CONTINUATION.len() {
        let input = Input::Tokens(&next);
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
        let mut logits = ctx.outputs().logits_ith(-1).unwrap().to_vec();
        logits[NEVER] = f32::NEG_INFINITY;
        next = vec![argmax(&logits) as i32];
        out.extend(&next);
    }
    out
}

#[test]
fn fifty_runs_of_fifty_at_any_number_of_threads() {
    let Some(path) = model_path() else { return };
    let model = load(&path, Mode::Auto);
    for run in 0..10 {
        for n_threads in [1, 2, 3, 4, 8] {
            let text = continuation(&model, n_threads);
            assert_eq!(text, CONTINUATION, "run {run} at {n_threads} threads");
        }
    }
}

#[test]
fn every_choice_of_neurons_gives_the_text() {
    let Some(path) = model_path() else { return };
    for mode in [Mode::Predictor, Mode::Exact, Mode::Off] {
        let model = load(&path, mode);
        for n_threads in [1, 2, 3] {
            let text = continuation(&model, n_threads);
            assert_eq!(text, CONTINUATION, "{} at {n_threads} threads", mode.name());
        }
    }
}
