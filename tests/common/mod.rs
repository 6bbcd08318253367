//! What the tests on the real model share.
#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "each test uses its own part; says what it skips"
)]

pub mod known_neurons;
pub mod log;
pub mod tiny;
pub mod tiny_archs;
pub mod tiny_lora;
pub mod tiny_sparse;
pub mod windowed;

use std::path::PathBuf;
use std::sync::Arc;

use powerinfer::engine::{Batch, Context, ContextParams, Input};
use powerinfer::gguf::{LoadOptions, ModelFiles};
use powerinfer::model::Model;
use powerinfer::sparse::{Options, Sparse};

/// SmolLM2-135M-Instruct Q4_1: `POWERINFER_TEST_MODEL`, or where `make run` keeps it.
pub fn model_path() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/models/smollm2-135m-instruct-Q4_1.gguf");
    let path = std::env::var_os("POWERINFER_TEST_MODEL").map_or(default.into(), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no model at {} (`make model` fetches it)", path.display());
    None
}

/// The model, or `None` with a line that says so.
pub fn model() -> Option<Arc<Model>> {
    let files = ModelFiles::open(model_path()?, &LoadOptions::default()).unwrap();
    Some(Arc::new(Model::load(files, false, Default::default(), &mut |_| true).unwrap()))
}

/// The model with its vocabulary, or `None` with a line that says so.
pub fn model_with_vocab() -> Option<powerinfer::api::Model> {
    let options = LoadOptions::default();
    Some(powerinfer::api::Model::load(model_path()?, &options, &mut |_| true).unwrap())
}

/// Parameters of a context of 1024 tokens.
pub fn params(change: impl FnOnce(&mut ContextParams)) -> ContextParams {
    let mut params = ContextParams {
        n_ctx: 1024,
        n_batch: 1024,
        n_threads: 2,
        n_threads_batch: 2,
        reference: false,
        ..ContextParams::default()
    };
    change(&mut params);
    params
}

/// A context with [`params`].
pub fn context(model: &Arc<Model>, change: impl FnOnce(&mut ContextParams)) -> Context {
    Context::new(Arc::clone(model), sparse(model), params(change)).unwrap()
}

/// How a model's layers choose their neurons when nobody says anything.
pub fn sparse(model: &Model) -> Arc<Sparse> {
    Arc::new(Sparse::new(model.plan(), &Options::default()))
}

/// Decodes tokens of sequence 0 at the next positions; all outputs or the last one's.
pub fn decode(ctx: &mut Context, tokens: &[i32], all: bool) {
    let outputs = vec![true; tokens.len()];
    let batch = Batch {
        input: Input::Tokens(tokens),
        pos: None,
        seq_ids: None,
        outputs: all.then_some(&outputs[..]),
    };
    ctx.decode(&batch).unwrap();
}

/// Mean negative log-likelihood of the second half of a chunk, given all before.
pub fn chunk_nll(ctx: &mut Context, chunk: &[i32]) -> f64 {
    ctx.kv_mut().clear(false);
    decode(ctx, chunk, true);
    let scored = chunk.len() / 2..chunk.len() - 1;
    let n = scored.len() as f64;
    let nll = scored.map(|i| {
        let logits = ctx.outputs().logits_ith(i as i32).unwrap();
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
        sum.ln() + f64::from(max) - f64::from(logits[chunk[i + 1] as usize])
    });
    nll.sum::<f64>() / n
}

/// Index of the greatest element.
pub fn argmax(x: &[f32]) -> usize {
    (0..x.len()).max_by(|&a, &b| x[a].total_cmp(&x[b])).unwrap()
}

/// Squared difference of logits relative to the power of what is expected.
pub fn nmse(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let (mut error, mut power, mut n) = (0.0, 0.0, 0);
    for (&a, &b) in pairs {
        error += (f64::from(a) - f64::from(b)).powi(2);
        power += f64::from(b).powi(2);
        n += 1;
    }
    assert_eq!(n, expected.concat().len());
    assert!(f64::is_finite(error / power), "{error} of {power}");
    error / power
}
