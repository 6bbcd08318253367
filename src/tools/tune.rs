//! Measures how a model's layers run fastest, once per machine and model.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{
    Batch, Context, ContextError, ContextParams, DecodeError, Input, all_rows_from,
};
use crate::model::Model;
use crate::plan::Plan;
use crate::sparse::{Mode, Options, Sparse, Tuning};

/// Tokens that are timed in each way; the fastest counts.
const TIMED: usize = 5;
/// The first one brings weights and buffers into memory.
const WARM: usize = 1;

/// What a predictor has to find of the firing neurons when nobody says: text then hardly differs.
/// PowerInfer's own predictors are trained for that (arXiv 2312.12456, section 5.1).
const MIN_RECALL: f32 = 0.95;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// No context to measure in.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The sample was not decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// One way to run the model.
struct Way {
    mode: Mode,
    ctx: Context,
    /// Fastest time of each layer.
    fastest: Vec<Duration>,
    /// Neurons that fired in each layer.
    fired: Vec<u64>,
}

/// Runs `sample` in every way that the model allows, and says which is the fastest for each layer.
///
/// A predictor has to find at least `options.min_recall` of the neurons that fire, by number, or the
/// layer does without it.
pub fn tune(
    model: &Arc<Model>,
    options: &Options,
    sample: &[i32],
    n_threads: usize,
) -> Result<Tuning, TuneError> {
    let rows = all_rows_from(model, n_threads).map_err(ContextError::from)?.unwrap_or(1.0);
    let mut tuning =
        Tuning { machine: Tuning::this_machine(), all_rows_from: rows, layers: Vec::new() };
    let mut modes = vec![Mode::Off, Mode::Exact];
    if model.plan().is_some_and(Plan::has_predictors) {
        modes.push(Mode::Predictor);
    }
    let way = |mode: Mode| -> Result<Way, TuneError> {
        let options = Options { mode, stats: true, ..options.clone() };
        let sparse = Sparse::new(model.plan(), &options).tuned(&tuning);
        let n = model.plan().map_or(0, |plan| plan.layers.len());
        let params = ContextParams {
            n_ctx: 256,
            n_batch: 8,
            n_ubatch: 8,
            n_threads,
            n_threads_batch: n_threads,
            reference: false,
            ..ContextParams::default()
        };
        let ctx = Context::new(Arc::clone(model), Arc::new(sparse), params)?;
        Ok(Way { mode, ctx, fastest: vec![Duration::MAX; n], fired: vec![0; n] })
    };
    let mut ways = modes.into_iter().map(way).collect::<Result<Vec<_>, _>>()?;
    // In turns, so that a machine that is busy for a while is so for all.
    for (i, &token) in sample.iter().cycle().take(WARM + TIMED).enumerate() {
        for way in &mut ways {
            way.step(token, i as i32, i >= WARM)?;
        }
    }
    let exact = ways.iter().position(|way| way.mode == Mode::Exact).unwrap_or(0);
    let fired = ways[exact].fired.clone();
    tuning.layers = (0..fired.len())
        .map(|il| {
            let finds = |way: &&Way| {
                way.mode != Mode::Predictor
                    || way.fired[il] as f64
                        >= f64::from(options.min_recall.unwrap_or(MIN_RECALL)) * fired[il] as f64
            };
            let best = ways.iter().filter(finds).min_by_key(|way| way.fastest[il]);
            best.map_or(Mode::Exact, |way| way.mode)
        })
        .collect();
    Ok(tuning)
}

impl Way {
    fn step(&mut self, token: i32, pos: i32, timed: bool) -> Result<(), DecodeError> {
        let before = self.ctx.sparse_stats();
        let (tokens, positions) = ([token], [pos]);
        let batch = Batch {
            input: Input::Tokens(&tokens),
            pos: Some(&positions),
            seq_ids: None,
            outputs: Some(&[true]),
        };
        self.ctx.decode(&batch)?;
        if timed {
            for (now, before) in self.ctx.sparse_stats().iter().zip(&before) {
                if now.timed > before.timed {
                    let fastest = &mut self.fastest[now.layer];
                    *fastest = (now.time - before.time).min(*fastest);
                }
                self.fired[now.layer] += now.fired - before.fired;
            }
        }
        Ok(())
    }
}
