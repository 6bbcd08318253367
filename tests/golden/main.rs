//! Real models held to the logits of an independent implementation.
//!
//! A truth has 12 prompts of up to 64 greedy steps, each with the 20 best [id, logit] of llama.cpp
//! 0c1e570 on the same weights dequantised to F32, with F32 activations and F32 KV cache. The
//! truth's tokens are fed at every step. Perplexity: chunks of 512 tokens of `text.txt`, the
//! second half of each scored, given the first.

#[path = "../common/mod.rs"]
mod common;
mod gemma3;
mod relu;
mod smollm2;

use common::{argmax, chunk_nll, decode};
use powerinfer::api::Model;
use powerinfer::engine::Context;
use serde_json::Value;

struct Step {
    token: i32,
    best: Vec<(usize, f32)>,
}

struct Prompt {
    text: String,
    tokens: Vec<i32>,
    steps: Vec<Step>,
}

struct Truth {
    prompts: Vec<Prompt>,
    /// Mean negative log-likelihood of each chunk.
    nll: Vec<f64>,
}

impl Truth {
    fn new(json: &str) -> Self {
        let json: Value = serde_json::from_str(json).unwrap();
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
            let text = p["text"].as_str().unwrap().to_owned();
            Prompt { text, tokens: ids(&p["tokens"]), steps: steps.collect() }
        });
        let nll = json["ppl"]["nll"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
        Self { prompts: prompts.collect(), nll: nll.collect() }
    }

    fn n_steps(&self) -> usize {
        self.prompts.iter().map(|p| p.steps.len()).sum()
    }

    /// Mean distance of the logits of a file that was fed the same tokens.
    fn mean_error_of(&self, other: &Self) -> f64 {
        let steps = |t: &Self| -> Vec<f32> {
            let steps = t.prompts.iter().flat_map(|p| &p.steps);
            steps.flat_map(|s| s.best.iter().map(|b| b.1)).collect()
        };
        let (a, b) = (steps(self), steps(other));
        assert_eq!(a.len(), b.len());
        a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64
    }

    /// Runs all prompts and hands each step's logits to `check`.
    fn each_step(&self, ctx: &mut Context, mut check: impl FnMut(&Step, &[f32])) {
        for prompt in &self.prompts {
            ctx.kv_mut().clear(false);
            decode(ctx, &prompt.tokens, false);
            for step in &prompt.steps {
                check(step, ctx.outputs().logits_ith(-1).unwrap());
                decode(ctx, &[step.token], false);
            }
        }
    }

    /// The largest difference of a logit; the best one is the truth's where it is clear.
    fn largest_difference(&self, ctx: &mut Context) -> f32 {
        let mut worst = 0f32;
        self.each_step(ctx, |step, logits| {
            for &(id, truth) in &step.best {
                worst = worst.max((logits[id] - truth).abs());
            }
            if margin(step) > 0.005 {
                assert_eq!(argmax(logits), step.best[0].0);
            }
        });
        worst
    }

    /// The mean difference of a logit, and how many steps had a clear best one, which was found.
    fn mean_difference(&self, ctx: &mut Context) -> (f64, usize) {
        let (mut sum, mut n, mut clear) = (0f64, 0, 0);
        self.each_step(ctx, |step, logits| {
            for &(id, truth) in &step.best {
                sum += f64::from((logits[id] - truth).abs());
                n += 1;
            }
            if margin(step) > 0.5 {
                assert_eq!(argmax(logits), step.best[0].0, "margin {}", margin(step));
                clear += 1;
            }
        });
        (sum / f64::from(n), clear)
    }

    /// Our perplexity divided by the truth's.
    fn perplexity_ratio(&self, model: &Model, text: &str) -> f64 {
        let vocab = model.vocab();
        let tokens = vocab.tokenize(text.as_bytes(), false, true).unwrap();
        let mut ctx = model.context(common::params(|_| {})).unwrap();
        let chunks = tokens.chunks(512).take(self.nll.len());
        let nll: f64 = chunks
            .map(|chunk| {
                let mut chunk = chunk.to_vec();
                if let Some(bos) = vocab.special_ids().bos.filter(|_| vocab.add_bos()) {
                    chunk[0] = bos;
                }
                chunk_nll(&mut ctx, &chunk)
            })
            .sum();
        ((nll - self.nll.iter().sum::<f64>()) / self.nll.len() as f64).exp()
    }

    fn check_prompt_ids(&self, model: &Model) {
        for prompt in &self.prompts {
            let ids = model.vocab().tokenize(prompt.text.as_bytes(), true, true).unwrap();
            assert_eq!(ids, prompt.tokens, "{}", prompt.text);
        }
    }
}

fn margin(step: &Step) -> f32 {
    step.best[0].1 - step.best[1].1
}
