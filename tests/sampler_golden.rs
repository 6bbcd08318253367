//! Samplers against llama.cpp itself: same made-up logits, same seeds, same tokens and lists.
//!
//! `tests/data/sampler/goldens.json` comes from `tests/tools/sampler_goldens.py`. Ids, sizes, marks
//! and selections are compared exactly. Probabilities and logits may differ by one unit in the
//! last place, for a C library whose `expf` rounds otherwise than glibc's.

mod sampler_support;
mod vocab_support;

use std::sync::{Arc, LazyLock};

use powerinfer::sampler::*;
use powerinfer::vocab::Vocab;
use sampler_support::logits;
use serde_json::Value;

/// For the samplers that look at texts.
static GPT2: LazyLock<Arc<Vocab>> = LazyLock::new(|| {
    let file = vocab_support::repository().join("tests/data/vocabs/ggml-vocab-gpt-2.gguf");
    Arc::new(vocab_support::vocab(&file))
});

fn build(stage: &Value) -> Box<dyn Sampler> {
    let f = |i: usize| stage[i].as_f64().unwrap() as f32;
    let i = |i: usize| i32::try_from(stage[i].as_i64().unwrap()).unwrap();
    let u = |i: usize| u32::try_from(stage[i].as_u64().unwrap()).unwrap();
    let n = |i: usize| usize::try_from(stage[i].as_u64().unwrap()).unwrap();
    match stage[0].as_str().unwrap() {
        "greedy" => Box::new(Greedy::new()),
        "dist" => Box::new(Dist::new(u(1))),
        "top_k" => Box::new(TopK::new(i(1))),
        "top_p" => Box::new(TopP::new(f(1), n(2))),
        "min_p" => Box::new(MinP::new(f(1), n(2))),
        "typical" => Box::new(Typical::new(f(1), n(2))),
        "temp" => Box::new(Temp::new(f(1))),
        "temp_ext" => Box::new(TempExt::new(f(1), f(2), f(3))),
        "xtc" => Box::new(Xtc::new(f(1), f(2), n(3), u(4))),
        "top_n_sigma" => Box::new(TopNSigma::new(f(1))),
        "mirostat" => Box::new(Mirostat::new(i(1), u(2), f(3), f(4), i(5))),
        "mirostat_v2" => Box::new(MirostatV2::new(u(1), f(2), f(3))),
        "penalties" => Box::new(Penalties::new(i(2), f(3), f(4), f(5))),
        "adaptive_p" => Box::new(AdaptiveP::new(f(1), f(2), u(3))),
        "logit_bias" => {
            let bias = |b: &Value| (b[0].as_i64().unwrap() as i32, b[1].as_f64().unwrap() as f32);
            Box::new(LogitBias::new(stage[2].as_array().unwrap().iter().map(bias).collect()))
        }
        "dry" => {
            let texts = stage[5].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
            let texts: Vec<&[u8]> = texts.map(str::as_bytes).collect();
            let breakers = Breakers::find(&GPT2, &texts).unwrap();
            Box::new(Dry::new(f(1), f(2), i(3), i(4), breakers))
        }
        "infill" => Box::new(Infill::new(Arc::clone(&GPT2))),
        other => panic!("no sampler {other}"),
    }
}

/// Runs one case and says where it differs.
fn check(case: &Value) -> Result<(), String> {
    let kind = case["logits"].as_str().unwrap();
    let n = case["n"].as_u64().unwrap() as usize;
    let stages = case["chain"].as_array().unwrap();
    let steps = case["steps"].as_u64().unwrap();
    let mut chain = Chain::new(true);
    stages.iter().for_each(|stage| chain.push(build(stage)));

    let mut tokens = Vec::new();
    let mut buffer = Vec::new();
    for step in 0..steps {
        let logits = logits(kind, n, step);
        let mut list = Candidates::from_logits(&mut buffer, &logits);
        tokens.extend(sample(&mut chain, &mut list));
        if step + 1 < steps {
            continue;
        }
        let found = (tokens.as_slice(), list.len(), hash(&list), list.is_sorted());
        let want: Vec<Token> = serde_json::from_value(case["tokens"].clone()).unwrap();
        let size = case["size"].as_u64().unwrap() as usize;
        let want_hash = u64::from_str_radix(case["hash"].as_str().unwrap(), 16).unwrap();
        let sorted = case["sorted"].as_bool().unwrap();
        let wanted = (want.as_slice(), size, want_hash, sorted);
        if found != wanted {
            return Err(format!("found {found:?}\nwanted {wanted:?}"));
        }
        for (i, c) in list.iter().enumerate().take(8) {
            for (found, wanted) in [(c.logit, "logit_bits"), (c.p, "p_bits")] {
                let bits = u32::from_str_radix(case[wanted][i].as_str().unwrap(), 16).unwrap();
                let want = f32::from_bits(bits);
                let both_nan = found.is_nan() && want.is_nan();
                if found.to_bits().abs_diff(bits) > 1 && !both_nan {
                    return Err(format!("{wanted} of row {i}: found {found:e}, wanted {want:e}"));
                }
            }
        }
    }
    Ok(())
}

fn hash(list: &[TokenData]) -> u64 {
    list.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, c| (hash ^ c.id as u64).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn every_sampler_does_what_llama_cpp_does() {
    let goldens: Value = serde_json::from_str(include_str!("data/sampler/goldens.json")).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    assert!(cases.len() > 900, "the file is complete");
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let what = || format!("{} of {}: {}", case["logits"], case["n"], case["chain"]);
            check(case).err().map(|error| format!("{}\n{error}", what()))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases differ:\n{}",
        failures.len(),
        cases.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}
