//! The sparse mode `sign`: guesses by the signs of gate weights and inputs.
#![allow(clippy::print_stderr, reason = "says what is skipped and what was measured")]

mod common;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::tiny_sparse::{self, Spec};
use common::{decode, params, tiny, tiny_archs};
use powerinfer::api::{
    Context, KvOverride, LayerReport, LoadOptions, Model, OverrideValue, SparseMode,
};
use powerinfer::quant::dequantize_row;
use powerinfer::util::log::{self, Level, Sink};

const TOKENS: [i32; 20] = [3, 7, 1, 30, 12, 9, 5, 22, 17, 31, 2, 8, 6, 4, 11, 13, 29, 10, 15, 20];
/// One with widths of half a word, others of one and four.
const GATED: [&str; 6] =
    ["llama", "llama-q4_0", "llama-mixed", "llama-k", "llama-small", "bamboo-q4_0"];

/// Overrides of keys of ours.
fn options(pairs: &[(&str, &str)]) -> LoadOptions {
    let overrides = pairs.iter().map(|(key, value)| KvOverride {
        key: format!("powerinfer.{key}"),
        value: OverrideValue::Str((*value).into()),
    });
    LoadOptions { kv_overrides: overrides.collect(), ..LoadOptions::default() }
}

fn context(bytes: &[u8], pairs: &[(&str, &str)], reference: bool, n_threads: usize) -> Context {
    let model = tiny::load(bytes, &options(pairs)).unwrap();
    let params = params(|p| {
        (p.reference, p.n_threads, p.n_threads_batch) = (reference, n_threads, n_threads);
    });
    model.context(params).unwrap()
}

/// Logits of all tokens, given `step` at a time.
fn logits(ctx: &mut Context, step: usize) -> Vec<u32> {
    let mut all = Vec::new();
    for part in TOKENS.chunks(step) {
        decode(ctx, part, true);
        for i in 0..part.len() {
            let logits = ctx.outputs().logits_ith(i as i32).unwrap().iter();
            all.extend(logits.map(|x| x.to_bits()));
        }
    }
    all
}

#[test]
fn with_an_alpha_without_end_it_is_exact_to_the_bit() {
    for name in GATED {
        let bytes = tiny_sparse::bytes(&tiny_sparse::spec(name));
        for reference in [false, true] {
            for step in [1, 3, 8] {
                let run = |pairs: &[(&str, &str)]| {
                    logits(&mut context(&bytes, pairs, reference, 2), step)
                };
                let exact = run(&[("sparse", "exact")]);
                let what = format!("{name}, {reference}, {step} at a time");
                for alpha in ["1e30", "inf"] {
                    let all = run(&[("sparse", "sign"), ("sign_alpha", alpha)]);
                    assert!(all == exact, "{what}, alpha {alpha}");
                }
                let none = run(&[("sparse", "sign"), ("sign_alpha", "0")]);
                assert!(none != exact, "{what}: the guess does nothing");
            }
        }
    }
}

/// What plain code finds for the first layer: neurons guessed, those that fire, and those of both.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    guessed: u64,
    fire: u64,
    both: u64,
}

/// A model whose first feed-forward network sees the tokens' embeddings, and nothing else.
fn without_attention(spec: &Spec) -> (Vec<u8>, Vec<tiny::Tensor>) {
    let mut kept = Vec::new();
    let bytes = tiny_sparse::edited_bytes(spec, |_, tensors| {
        let output = tensors.iter_mut().find(|t| t.name == "blk.0.attn_output.weight").unwrap();
        output.data.fill(0);
        for t in tensors.iter() {
            let (name, dims, data) = (t.name.clone(), t.dims.clone(), t.data.clone());
            kept.push(tiny::Tensor { name, dims, ty: t.ty, data });
        }
    });
    (bytes, kept)
}

/// One by one, as the paper says it; `in_8_bits`: of inputs that are rounded to 8 bits.
fn plain(spec: &Spec, tensors: &[tiny::Tensor], alpha: f64, in_8_bits: bool) -> Counts {
    let numbers = |name: &str| {
        let t = tensors.iter().find(|t| t.name == name).unwrap();
        let mut x = vec![0.0; t.dims.iter().product()];
        dequantize_row(t.ty, &t.data, &mut x).unwrap();
        x
    };
    let embeddings = numbers("token_embd.weight");
    let norm = numbers("blk.0.ffn_norm.weight");
    let gate = numbers("blk.0.ffn_gate.weight");
    let n = spec.n_embd;
    let mut counts = Counts::default();
    for &token in &TOKENS[..16] {
        let x = &embeddings[token as usize * n..][..n];
        let square = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n as f64;
        let scale = 1.0 / (square + 1e-5).sqrt();
        let x: Vec<f64> =
            x.iter().zip(&norm).map(|(&x, &w)| f64::from(x) * scale * f64::from(w)).collect();
        let largest = |i: usize| x[i / 32 * 32..][..32].iter().fold(0f64, |m, x| m.max(x.abs()));
        let is_negative = |i: usize| match in_8_bits {
            true => (x[i] / largest(i) * 127.0).round() < 0.0,
            false => x[i] < 0.0,
        };
        for row in gate.chunks_exact(n) {
            let equal = (0..n).filter(|&i| row[i].is_sign_negative() == is_negative(i)).count();
            let guessed = equal as f64 * alpha >= (n - equal) as f64;
            let fires = row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum::<f64>() > 0.0;
            counts.guessed += u64::from(guessed);
            counts.fire += u64::from(fires);
            counts.both += u64::from(guessed && fires);
        }
    }
    counts
}

/// What contexts say of the first layer: two batches of eight, or sixteen of one.
fn seen(bytes: &[u8], alpha: &str, reference: bool, step: usize, n_threads: usize) -> Counts {
    let pairs = [("sparse", "sign"), ("sign_alpha", alpha), ("stats", "1")];
    let mut ctx = context(bytes, &pairs, reference, n_threads);
    let mut counts = Counts::default();
    for part in TOKENS[..16].chunks(step) {
        // The first batch after a reset is checked.
        ctx.reset_sparse_stats();
        decode(&mut ctx, part, true);
        let report = &ctx.sparse_stats()[0];
        assert_eq!((report.mode, report.tokens), (SparseMode::Sign, step as u64));
        counts.guessed += report.guessed;
        counts.fire += report.checked;
        counts.both += report.found;
        // What fires of the guessed ones, no matter for which token they were computed.
        assert_eq!(report.fired, report.found);
    }
    counts
}

#[test]
fn recall_is_what_plain_code_counts() {
    for name in GATED {
        let spec = tiny_sparse::spec(name);
        let (bytes, tensors) = without_attention(&spec);
        for alpha in ["0.9", "1", "1.3"] {
            let number: f64 = alpha.parse().unwrap();
            let expected = plain(&spec, &tensors, number, false);
            assert!(expected.both > 0 && expected.both <= expected.guessed, "{expected:?}");
            for (step, n_threads) in [(1, 1), (8, 1), (8, 2), (8, 5)] {
                let what = format!("{name}, alpha {alpha}, {step} at once, {n_threads} threads");
                assert_eq!(seen(&bytes, alpha, true, step, n_threads), expected, "{what}");
            }
            let rounds = tensors.iter().any(|t| {
                t.name == "blk.0.ffn_gate.weight" && !matches!(t.ty.to_string().as_str(), "f16")
            });
            let expected = plain(&spec, &tensors, number, rounds);
            let found = seen(&bytes, alpha, false, 8, 2);
            assert_eq!(found.guessed, expected.guessed, "{name}, alpha {alpha}, in 8 bits");
        }
    }
}

#[test]
fn the_text_does_not_depend_on_threads() {
    let bytes = tiny_sparse::bytes(&tiny_sparse::spec("llama-q4_0"));
    let pairs = [("sparse", "sign"), ("stats", "on")];
    let run = |n_threads| {
        let mut ctx = context(&bytes, &pairs, false, n_threads);
        let logits = logits(&mut ctx, 1);
        let count = |r: &LayerReport| (r.guessed, r.fired, r.checked, r.found, r.bytes);
        (logits, ctx.sparse_stats().iter().map(count).collect::<Vec<_>>())
    };
    let one = run(1);
    for n_threads in [2, 3, 8] {
        assert!(run(n_threads) == one, "{n_threads} threads");
    }
    // Guesses save bytes, and are not free: the signs are read for every token.
    let (n_embd, n_ff) = (64, 1056);
    for (guessed, fired, .., bytes) in one.1 {
        let row = n_embd / 32 * 18;
        let tokens = TOKENS.len() as u64;
        assert!(bytes >= tokens * n_embd * n_ff / 8 + (guessed + fired) * row, "{bytes}");
        assert!(bytes < tokens * 3 * n_ff * row, "{bytes}");
    }
}

/// Lines of warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Sink for Warnings {
    fn write(&self, level: Level, text: &str) {
        if level == Level::Warn {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

#[test]
fn networks_whose_signs_say_nothing_run_exactly_and_one_line_says_so() {
    let warnings = Arc::new(Warnings::default());
    log::set_sink(Some(Arc::clone(&warnings) as Arc<dyn Sink>));
    let models = [
        ("llama", tiny::bytes(&tiny::spec("gqa"))), // SiLU
        ("nemotron", tiny_archs::bytes(&tiny_archs::spec("nemotron"))), // no gate
        ("falcon", tiny_archs::bytes(&tiny_archs::spec("falcon-7b"))), // GELU, no gate
        ("opt", tiny_sparse::bytes(&tiny_sparse::spec("opt"))),
    ];
    for (name, bytes) in models {
        warnings.0.lock().unwrap().clear();
        let mut sign = context(&bytes, &[("sparse", "sign")], false, 2);
        let lines = std::mem::take(&mut *warnings.0.lock().unwrap());
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        assert!(lines[0].contains("'sign'") && lines[0].contains(name), "{lines:?}");
        let mut exact = context(&bytes, &[("sparse", "exact")], false, 2);
        assert!(logits(&mut sign, 1) == logits(&mut exact, 1), "{name}");
        assert!(sign.sparse_stats().iter().all(|r| r.mode == SparseMode::Exact), "{name}");
    }
    // Not a word where signs do say something.
    context(&tiny_sparse::bytes(&tiny_sparse::spec("bamboo")), &[("sparse", "sign")], false, 2);
    assert_eq!(*warnings.0.lock().unwrap(), [""; 0]);
    log::set_sink(None);
}

#[test]
fn an_alpha_that_makes_no_sense_is_named() {
    let bytes = tiny_sparse::bytes(&tiny_sparse::spec("llama"));
    for alpha in ["-1", "much", "nan"] {
        let error = tiny::load(&bytes, &options(&[("sign_alpha", alpha)])).err().unwrap();
        assert!(error.to_string().contains("powerinfer.sign_alpha"), "{error}");
    }
}

/// Shares of the neurons of a real model with ReLU.
#[test]
fn a_real_model_is_guessed_well() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let data = std::env::var_os("POWERINFER_TEST_DATA").map_or(default.into(), PathBuf::from);
    let path = data.join("data/models/smollm2-135m-instruct-relu-Q4_0-tied.pwi.gguf");
    let text = std::fs::read(data.join("data/golden/text.txt")).unwrap_or_default();
    if !path.is_file() || text.is_empty() {
        return eprintln!("skipped: no {}, or no text", path.display());
    }
    let share = |alpha: &[(&str, &str)]| {
        let pairs = [&[("sparse", "sign"), ("stats", "1")], alpha].concat();
        let model = Model::load(&path, &options(&pairs), &mut |_| true).unwrap();
        let tokens = model.vocab().tokenize(&text, false, false).unwrap();
        let mut ctx = model.context(params(|_| ())).unwrap();
        // The first of the small batches is checked.
        tokens[..64].chunks(8).for_each(|part| {
            ctx.reset_sparse_stats();
            decode(&mut ctx, part, true);
        });
        let reports = ctx.sparse_stats();
        let sum = |of: fn(&LayerReport) -> u64| reports.iter().map(of).sum::<u64>() as f64;
        let recall = sum(|r| r.found) / sum(|r| r.checked);
        let guessed = sum(|r| r.guessed) / sum(|r| r.tokens * r.n_ff as u64);
        eprintln!("{alpha:?}: recall {recall:.3}, guessed {guessed:.3}");
        (recall, guessed)
    };
    let (recall, guessed) = share(&[]);
    assert!((0.74..0.86).contains(&recall) && (0.46..0.58).contains(&guessed));
    let (recall, guessed) = share(&[("sign_alpha", "1.1")]);
    assert!((0.94..0.99).contains(&recall) && (0.77..0.88).contains(&guessed));
}
