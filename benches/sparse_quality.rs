//! What choosing neurons costs in quality and gains in speed, on one model and one text: each mode
//! against all neurons.
//!
//! `cargo bench --bench sparse_quality -- MODEL TEXT [TOKENS] [THREADS]` prints a Markdown table.
//! Every token is decoded alone, as when text is generated; modes take turns chunk by chunk.
#![allow(clippy::print_stdout, reason = "a program")]

use std::time::{Duration, Instant};

use powerinfer::api::{
    Batch, Context, ContextParams, Input, KvOverride, LoadOptions, Model, OverrideValue,
};

/// Tokens that see each other.
const CHUNK: usize = 256;

/// One mode and what was seen of it.
struct Way {
    mode: &'static str,
    _model: Model,
    ctx: Context,
    nll: f64,
    /// Squared error of logits, and the power of those of all neurons.
    error: f64,
    power: f64,
    time: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let (Some(path), Some(text)) = (args.first(), args.get(1)) else {
        println!("usage: cargo bench --bench sparse_quality -- MODEL TEXT [TOKENS] [THREADS]");
        return;
    };
    let number =
        |i: usize, default: usize| args.get(i).map_or(default, |a| a.parse().expect("a number"));
    let (n_tokens, n_threads) = (number(2, 1024), number(3, 2));
    let text = std::fs::read(text).expect("a text");

    // Magnitude needs thresholds: of a calibration, beside the model.
    let modes = ["off", "exact", "predictor", "sign", "magnitude", "auto"];
    let mut ways: Vec<Way> = modes.into_iter().filter_map(|m| way(path, m, n_threads)).collect();
    let vocab = ways[0]._model.vocab();
    let tokens = vocab.tokenize(&text, true, true).expect("tokens");
    let tokens = tokens[..n_tokens.min(tokens.len())].to_vec();

    let mut counted = 0;
    for chunk in tokens.chunks(CHUNK).filter(|chunk| chunk.len() > 1) {
        let mut dense: Vec<Vec<f32>> = Vec::new();
        for way in &mut ways {
            way.ctx.kv_mut().clear(false);
            for (i, pair) in chunk.windows(2).enumerate() {
                let start = Instant::now();
                let input = Input::Tokens(&pair[..1]);
                let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
                way.ctx.decode(&batch).expect("room for a token");
                way.time += start.elapsed();
                let logits = way.ctx.outputs().logits_ith(-1).expect("logits");
                way.nll += nll(logits, pair[1] as usize);
                if way.mode == "off" {
                    dense.push(logits.to_vec());
                }
                let pairs = || dense[i].iter().zip(logits.iter());
                way.error += pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                way.power += pairs().map(|(a, _)| f64::from(*a).powi(2)).sum::<f64>();
            }
        }
        counted += chunk.len() - 1;
    }

    println!(
        "| neurons | perplexity | NMSE of logits | recall | read of the network | active | tokens/s |"
    );
    println!("|---|---|---|---|---|---|---|");
    for way in &ways {
        let perplexity = (way.nll / counted as f64).exp();
        let speed = counted as f64 / way.time.as_secs_f64();
        println!(
            "| {} | {perplexity:.2} | {:.1e} | {} | {speed:.1} |",
            way.mode,
            way.error / way.power,
            seen(&way.ctx),
        );
    }
}

/// The model in a mode; `None` when it does not have that.
fn way(path: &str, mode: &'static str, n_threads: usize) -> Option<Way> {
    let option = |key: &str, value| KvOverride { key: key.into(), value };
    let options = LoadOptions {
        kv_overrides: vec![
            option("powerinfer.sparse", OverrideValue::Str(mode.into())),
            option("powerinfer.stats", OverrideValue::Bool(true)),
        ],
        ..LoadOptions::default()
    };
    let model = Model::load(path, &options, &mut |_| true).ok()?;
    let params = ContextParams {
        n_ctx: 512,
        n_threads,
        n_threads_batch: n_threads,
        ..ContextParams::default()
    };
    let ctx = model.context(params).expect("a context");
    let (nll, error, power, time) = (0.0, 0.0, 0.0, Duration::ZERO);
    Some(Way { mode, _model: model, ctx, nll, error, power, time })
}

/// Recall, bytes read and active share over all layers, as columns of the table.
fn seen(ctx: &Context) -> String {
    let reports = ctx.sparse_stats();
    let sum = |f: fn(&powerinfer::sparse::LayerReport) -> u64| reports.iter().map(f).sum::<u64>();
    let share = |a: u64, b: u64| match b {
        0 => "–".to_owned(),
        b => format!("{:.1} %", 100.0 * a as f64 / b as f64),
    };
    format!(
        "{} | {} | {}",
        share(sum(|r| r.found), sum(|r| r.checked)),
        share(sum(|r| r.bytes), sum(|r| r.dense_bytes)),
        share(sum(|r| r.fired), sum(|r| r.tokens * r.n_ff as u64)),
    )
}

/// Negative log-likelihood of a token.
fn nll(logits: &[f32], token: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[token] - max)
}
