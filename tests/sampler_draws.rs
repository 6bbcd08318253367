//! Same seed, same tokens as llama.cpp: every sampler and chains as programs build them, ten seeds
//! of 1,000 draws each, through the C functions.
//!
//! `tests/data/sampler/draws.json` comes from `tests/tools/sampler_draws.py`. Both sides make their
//! logits by the same exact formula, so no noise of a model plays a part.
#![allow(unsafe_code, reason = "calls the C functions")]

mod sampler_support;

use std::ffi::{CString, c_char};

use powerinfer::ffi::load::{llama_model_free, llama_model_load_from_file};
use powerinfer::ffi::model::llama_model_get_vocab;
use powerinfer::ffi::params::llama_model_default_params;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::llama_vocab;
use sampler_support::logits;
use serde_json::Value;

/// What the file says of all cases.
struct Goldens {
    cases: Vec<Value>,
    seeds: Vec<u32>,
    /// Draws of a run, and of each of the short runs after it.
    draws: usize,
    more: usize,
    /// Arrays of logits that take turns.
    bank: usize,
}

fn goldens() -> Goldens {
    let file: Value = serde_json::from_str(include_str!("data/sampler/draws.json")).unwrap();
    let number = |name: &str| file[name].as_u64().unwrap() as usize;
    Goldens {
        cases: file["cases"].as_array().unwrap().clone(),
        seeds: serde_json::from_value(file["seeds"].clone()).unwrap(),
        draws: number("draws"),
        more: number("more"),
        bank: number("bank"),
    }
}

/// One sampler of a chain, as the file describes it.
struct Stage<'a> {
    parts: &'a [Value],
    seed: u32,
    vocab: *const llama_vocab,
}

impl Stage<'_> {
    fn f(&self, i: usize) -> f32 {
        self.parts[i].as_f64().unwrap() as f32
    }
    fn i(&self, i: usize) -> i32 {
        i32::try_from(self.parts[i].as_i64().unwrap()).unwrap()
    }
    /// A seed, or the one of the run.
    fn u(&self, i: usize) -> u32 {
        self.parts[i].as_u64().map_or(self.seed, |seed| u32::try_from(seed).unwrap())
    }
    fn n(&self, i: usize) -> usize {
        usize::try_from(self.parts[i].as_u64().unwrap()).unwrap()
    }
    fn texts(&self, i: usize) -> Vec<CString> {
        let texts = self.parts[i].as_array().unwrap().iter();
        texts.map(|text| CString::new(text.as_str().unwrap()).unwrap()).collect()
    }

    fn build(&self) -> *mut llama_sampler {
        let name = self.parts[0].as_str().unwrap();
        // SAFETY: the vocabulary outlives the samplers, and pointers are valid during the calls.
        unsafe {
            match name {
                "greedy" => llama_sampler_init_greedy(),
                "dist" => llama_sampler_init_dist(self.u(1)),
                "top_k" => llama_sampler_init_top_k(self.i(1)),
                "top_p" => llama_sampler_init_top_p(self.f(1), self.n(2)),
                "min_p" => llama_sampler_init_min_p(self.f(1), self.n(2)),
                "typical" => llama_sampler_init_typical(self.f(1), self.n(2)),
                "temp" => llama_sampler_init_temp(self.f(1)),
                "temp_ext" => llama_sampler_init_temp_ext(self.f(1), self.f(2), self.f(3)),
                "xtc" => llama_sampler_init_xtc(self.f(1), self.f(2), self.n(3), self.u(4)),
                "top_n_sigma" => llama_sampler_init_top_n_sigma(self.f(1)),
                "mirostat" => {
                    let (n_vocab, seed) = (self.i(1), self.u(2));
                    llama_sampler_init_mirostat(n_vocab, seed, self.f(3), self.f(4), self.i(5))
                }
                "mirostat_v2" => llama_sampler_init_mirostat_v2(self.u(1), self.f(2), self.f(3)),
                "adaptive_p" => llama_sampler_init_adaptive_p(self.f(1), self.f(2), self.u(3)),
                "penalties" => {
                    let (n_vocab, last_n) = (self.i(1), self.i(2));
                    llama_sampler_init_penalties(n_vocab, last_n, self.f(3), self.f(4), self.f(5))
                }
                "logit_bias" => {
                    let bias = |bias: &Value| llama_logit_bias {
                        token: bias[0].as_i64().unwrap() as i32,
                        bias: bias[1].as_f64().unwrap() as f32,
                    };
                    let biases: Vec<_> =
                        self.parts[2].as_array().unwrap().iter().map(bias).collect();
                    llama_sampler_init_logit_bias(self.i(1), biases.len() as i32, biases.as_ptr())
                }
                "dry" => {
                    let texts = self.texts(5);
                    let mut list = pointers(&texts);
                    let (breakers, n) = (list.as_mut_ptr(), list.len());
                    let (f1, f2, i3, i4) = (self.f(1), self.f(2), self.i(3), self.i(4));
                    llama_sampler_init_dry(self.vocab, f1, f2, i3, i4, breakers, n)
                }
                "infill" => llama_sampler_init_infill(self.vocab),
                grammar => self.build_grammar(grammar),
            }
        }
    }

    fn build_grammar(&self, name: &str) -> *mut llama_sampler {
        let text = CString::new(self.parts[1].as_str().unwrap()).unwrap();
        let (text, root, vocab) = (text.as_ptr(), c"root".as_ptr(), self.vocab);
        if name == "grammar" {
            // SAFETY: the vocabulary outlives the sampler, and texts are terminated.
            return unsafe { llama_sampler_init_grammar(vocab, text, root) };
        }
        let texts = self.texts(2);
        let mut list = pointers(&texts);
        let tokens: Vec<i32> = serde_json::from_value(self.parts[3].clone()).unwrap();
        #[allow(deprecated, reason = "programs still call it")]
        let init = match name {
            "grammar_lazy" => llama_sampler_init_grammar_lazy,
            "grammar_lazy_patterns" => llama_sampler_init_grammar_lazy_patterns,
            other => panic!("no sampler {other}"),
        };
        let (triggers, n) = (list.as_mut_ptr(), list.len());
        // SAFETY: as above, and lists come with their lengths.
        unsafe { init(vocab, text, root, triggers, n, tokens.as_ptr(), tokens.len()) }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

/// Arrays of logits that take turns.
struct Bank {
    arrays: Vec<Vec<llama_token_data>>,
    rows: Vec<llama_token_data>,
}

impl Bank {
    fn new(kind: &str, n: usize, turns: usize) -> Self {
        let row = |(id, logit)| llama_token_data { id, logit, p: 0.0 };
        let array = |i| (0..).zip(logits(kind, n, i)).map(row).collect();
        Self { arrays: (0..turns as u64).map(array).collect(), rows: Vec::new() }
    }

    /// The tokens that the sampler draws at these steps.
    fn draw(&mut self, smpl: *mut llama_sampler, steps: std::ops::Range<usize>) -> Vec<i32> {
        let step = |step: usize| {
            self.rows.clone_from(&self.arrays[step % self.arrays.len()]);
            let (data, size) = (self.rows.as_mut_ptr(), self.rows.len());
            let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
            // SAFETY: a valid sampler and array; the index is checked.
            unsafe {
                llama_sampler_apply(smpl, &mut list);
                assert!((0..list.size as i64).contains(&list.selected), "something is selected");
                let token = (*list.data.add(list.selected as usize)).id;
                llama_sampler_accept(smpl, token);
                token
            }
        };
        steps.map(step).collect()
    }
}

fn hash(tokens: &[i32]) -> String {
    let step = |hash: u64, &token: &i32| (hash ^ token as u64).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", tokens.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Runs one case with every seed and says where it differs.
fn check(goldens: &Goldens, case: &Value, vocab: *const llama_vocab) -> Result<(), String> {
    let mut bank = Bank::new(
        case["logits"].as_str().unwrap(),
        case["n"].as_u64().unwrap() as usize,
        goldens.bank,
    );
    let stages = case["chain"].as_array().unwrap();
    for (i, &seed) in goldens.seeds.iter().enumerate() {
        // SAFETY: samplers are used while they live and freed once.
        let (first, found) = unsafe {
            let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 1 });
            for stage in stages {
                let stage = Stage { parts: stage.as_array().unwrap(), seed, vocab }.build();
                assert!(!stage.is_null(), "{stages:?}");
                llama_sampler_chain_add(chain, stage);
            }
            let tokens = bank.draw(chain, 0..goldens.draws);
            let seedless = case["seedless"].as_bool() == Some(true);
            let want = if seedless { LLAMA_DEFAULT_SEED } else { seed };
            assert_eq!(llama_sampler_get_seed(chain), want, "{stages:?}");

            let twin = llama_sampler_clone(chain);
            let later = goldens.draws..goldens.draws + goldens.more;
            let of_twin = hash(&bank.draw(twin, later.clone()));
            let of_original = hash(&bank.draw(chain, later));
            llama_sampler_reset(chain);
            let again = hash(&bank.draw(chain, 0..goldens.more));
            llama_sampler_free(twin);
            llama_sampler_free(chain);
            let short = [of_twin, of_original, again].map(|hash| hash[..8].to_owned());
            (tokens[..20].to_vec(), format!("{} {}", hash(&tokens), short.join(" ")))
        };
        let want: Vec<i32> = serde_json::from_value(case["first"].clone()).unwrap();
        if i == 0 && first != want {
            return Err(format!("seed {seed} begins with {first:?}\nwanted {want:?}"));
        }
        let want = case["hashes"][i].as_str().unwrap();
        if found != want {
            return Err(format!(
                "seed {seed}: 1000 draws, then of a clone, the original, after reset:\n\
                 found  {found}\nwanted {want}"
            ));
        }
    }
    Ok(())
}

/// Checks every case whose number leaves `part` when divided by two: two processes share the work.
fn check_half(part: usize) {
    let goldens = goldens();
    assert!(goldens.cases.len() > 80 && goldens.seeds.len() == 10 && goldens.draws == 1000);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vocabs/ggml-vocab-gpt-2.gguf");
    let file = CString::new(file).unwrap();
    // SAFETY: the model lives while its vocabulary is used.
    unsafe {
        let mut params = llama_model_default_params();
        params.vocab_only = 1;
        let model = llama_model_load_from_file(file.as_ptr(), params);
        let vocab = llama_model_get_vocab(model);
        assert!(!vocab.is_null());
        let cases = goldens.cases.iter().skip(part).step_by(2);
        let failures: Vec<String> = cases
            .filter_map(|case| {
                let what = || format!("{} of {}: {}", case["logits"], case["n"], case["chain"]);
                let error = check(&goldens, case, vocab).err()?;
                Some(format!("{}\n{error}", what()))
            })
            .collect();
        assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
        llama_model_free(model);
    }
}

#[test]
fn same_seed_same_tokens_as_llama_cpp_even_cases() {
    check_half(0);
}

#[test]
fn same_seed_same_tokens_as_llama_cpp_odd_cases() {
    check_half(1);
}
