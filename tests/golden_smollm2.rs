//! SmolLM2 held to the logits of an independent implementation.
//!
//! `data/golden/truth-smollm2.json`: 12 prompts of up to 64 greedy steps, each with the 20 best
//! [id, logit] of llama.cpp 0c1e570 on the same weights dequantised to F32, with F32 activations
//! and F32 KV cache; checked against PyTorch in float32 (all logits within 0.0001). The truth's
//! tokens are fed at every step. Perplexity: 16 chunks of 512 tokens of `text.txt`, the second
//! half of each scored.

mod common;

use common::{argmax, context, decode, model};
use powerinfer::engine::Context;
use serde_json::Value;

/// Mean |logit - truth| of llama.cpp 0c1e570 itself on the quantised file, over the same numbers.
const LLAMACPP_MEAN_ERROR: f64 = 0.168;

struct Step {
    token: i32,
    best: Vec<(usize, f32)>,
}

struct Prompt {
    tokens: Vec<i32>,
    steps: Vec<Step>,
}

fn truth() -> (Vec<Prompt>, Value) {
    let text = include_str!("data/golden/truth-smollm2.json");
    let json: Value = serde_json::from_str(text).unwrap();
    let ids = |v: &Value| -> Vec<i32> {
        v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect()
    };
    let prompts = json["prompts"].as_array().unwrap().iter().map(|p| {
        let steps = p["steps"].as_array().unwrap().iter().zip(ids(&p["greedy"]));
        let steps = steps.map(|(best, token)| {
            let best = best.as_array().unwrap().iter();
            let best =
                best.map(|x| (x[0].as_u64().unwrap() as usize, x[1].as_f64().unwrap() as f32));
            Step { token, best: best.collect() }
        });
        Prompt { tokens: ids(&p["tokens"]), steps: steps.collect() }
    });
    (prompts.collect(), json["ppl"].clone())
}

/// Runs all prompts and hands each step's logits to `check`.
fn each_step(ctx: &mut Context, mut check: impl FnMut(&Step, &[f32])) {
    let (prompts, _) = truth();
    assert_eq!(prompts.iter().map(|p| p.steps.len()).sum::<usize>(), 676);
    for prompt in &prompts {
        ctx.kv_mut().clear(false);
        decode(ctx, &prompt.tokens, false);
        for step in &prompt.steps {
            check(step, ctx.outputs().logits_ith(-1).unwrap());
            decode(ctx, &[step.token], false);
        }
    }
}

fn margin(step: &Step) -> f32 {
    step.best[0].1 - step.best[1].1
}

#[test]
fn reference_mode_equals_the_truth() {
    let Some(model) = model() else { return };
    let mut ctx = context(&model, |p| p.reference = true);
    let mut worst = 0f32;
    each_step(&mut ctx, |step, logits| {
        for &(id, truth) in &step.best {
            worst = worst.max((logits[id] - truth).abs());
        }
        if margin(step) > 0.005 {
            assert_eq!(argmax(logits), step.best[0].0);
        }
    });
    assert!(worst < 0.002, "largest difference {worst}");
}

#[test]
fn normal_mode_is_as_close_to_the_truth_as_llama_cpp() {
    let Some(model) = model() else { return };
    let mut ctx = context(&model, |_| {});
    let (mut sum, mut n, mut clear) = (0f64, 0, 0);
    each_step(&mut ctx, |step, logits| {
        for &(id, truth) in &step.best {
            sum += f64::from((logits[id] - truth).abs());
            n += 1;
        }
        if margin(step) > 0.5 {
            assert_eq!(argmax(logits), step.best[0].0, "margin {}", margin(step));
            clear += 1;
        }
    });
    assert_eq!(clear, 529);
    let mean = sum / f64::from(n);
    assert!(mean <= 1.15 * LLAMACPP_MEAN_ERROR, "mean difference {mean}");
}

/// Mean negative log-likelihood of the second half of a chunk, given all before.
fn chunk_nll(ctx: &mut Context, chunk: &[i32]) -> f64 {
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

#[test]
fn perplexity_is_the_truths() {
    let Some(model) = common::model_with_vocab() else { return };
    let text = include_str!("data/golden/text.txt");
    let tokens = model.vocab().tokenize(text.as_bytes(), false, true).unwrap();
    let (_, truth) = truth();
    let truth_nll = truth["nll"].as_array().unwrap();
    let mut ctx = model.context(common::params(|_| {})).unwrap();
    let nll: Vec<f64> =
        tokens.chunks(512).take(truth_nll.len()).map(|c| chunk_nll(&mut ctx, c)).collect();
    let ppl = (nll.iter().sum::<f64>() / nll.len() as f64).exp();
    let truth_ppl = truth["ppl"].as_f64().unwrap();
    assert!((ppl / truth_ppl - 1.0).abs() < 0.005, "{ppl}, the truth is {truth_ppl}");
}

#[test]
fn prompts_tokenize_to_the_truths_ids() {
    let Some(model) = common::model_with_vocab() else { return };
    let json: Value = serde_json::from_str(include_str!("data/golden/truth-smollm2.json")).unwrap();
    let (prompts, _) = truth();
    for (prompt, record) in prompts.iter().zip(json["prompts"].as_array().unwrap()) {
        let text = record["text"].as_str().unwrap();
        let ids = model.vocab().tokenize(text.as_bytes(), true, true).unwrap();
        assert_eq!(ids, prompt.tokens, "{text}");
    }
}
