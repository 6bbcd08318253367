//! `llama_sampler_sample` on the real model: from a context's outputs to an accepted token.
#![allow(unsafe_code, reason = "calls the C functions")]

mod common;

use std::ffi::CString;
use std::ptr::null_mut;

use powerinfer::ffi::batch::llama_batch_get_one;
use powerinfer::ffi::context::{llama_context, llama_free, llama_init_from_model};
use powerinfer::ffi::decode::{llama_decode, llama_get_logits_ith};
use powerinfer::ffi::load::{llama_model_free, llama_model_load_from_file};
use powerinfer::ffi::params::{llama_context_default_params, llama_model_default_params};
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::types::*;

use common::log::one_error;

/// Runs `body` with a context in which three tokens were decoded; skips without a model.
fn with_context(body: impl FnOnce(*mut llama_context)) {
    let Some(path) = common::model_path() else { return };
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: handles are used while they live and freed once.
    unsafe {
        let model = llama_model_load_from_file(path.as_ptr(), llama_model_default_params());
        assert!(!model.is_null());
        let ctx = llama_init_from_model(model, llama_context_default_params());
        assert!(!ctx.is_null());
        decode(ctx, &mut [504, 2365, 6354]);
        body(ctx);
        llama_free(ctx);
        llama_model_free(model);
    }
}

fn decode(ctx: *mut llama_context, tokens: &mut [i32]) {
    // SAFETY: the batch points to the tokens, which live during the call.
    unsafe {
        let batch = llama_batch_get_one(tokens.as_mut_ptr(), tokens.len() as i32);
        assert_eq!(llama_decode(ctx, batch), 0);
    }
}

/// The context's logits for its last token.
fn logits(ctx: *mut llama_context) -> Vec<f32> {
    const N_VOCAB: usize = 49152;
    // SAFETY: a row has as many logits as the model's vocabulary has tokens.
    unsafe { std::slice::from_raw_parts(llama_get_logits_ith(ctx, -1), N_VOCAB).to_vec() }
}

#[test]
fn samples_what_the_samplers_choose_and_accepts_it() {
    with_context(|ctx| {
        // SAFETY: samplers are valid until freed, and each is freed once.
        unsafe {
            let greedy = llama_sampler_init_greedy();
            let best = common::argmax(&logits(ctx)) as i32;
            assert_eq!(llama_sampler_sample(greedy, ctx, -1), best);
            assert_eq!(llama_sampler_sample(greedy, ctx, 2), best, "the batch's last token");
            llama_sampler_free(greedy);

            // Accepted exactly once: one penalty a time, until another token is the best.
            let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 0 });
            llama_sampler_chain_add(chain, llama_sampler_init_penalties(49152, 9, 1.0, 100.0, 0.0));
            llama_sampler_chain_add(chain, llama_sampler_init_greedy());
            let mut tokens: Vec<i32> =
                (0..8).map(|_| llama_sampler_sample(chain, ctx, -1)).collect();
            assert_eq!(tokens[0], best);
            tokens.sort_unstable();
            tokens.dedup();
            assert_eq!(tokens.len(), 8);
            assert_eq!(llama_perf_sampler(chain).n_sample, 8);
            llama_sampler_free(chain);

            // The same as by hand.
            let seeded = || {
                let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 1 });
                llama_sampler_chain_add(chain, llama_sampler_init_top_k(40));
                llama_sampler_chain_add(chain, llama_sampler_init_temp(1.5));
                llama_sampler_chain_add(chain, llama_sampler_init_dist(5));
                chain
            };
            let (a, b) = (seeded(), seeded());
            for _ in 0..8 {
                let mut rows: Vec<llama_token_data> = (0..)
                    .zip(logits(ctx))
                    .map(|(id, logit)| llama_token_data { id, logit, p: 0.0 })
                    .collect();
                let (data, size) = (rows.as_mut_ptr(), rows.len());
                let mut list = llama_token_data_array { data, size, selected: -1, sorted: 0 };
                llama_sampler_apply(b, &mut list);
                let token = (*list.data.add(list.selected as usize)).id;
                assert_eq!(llama_sampler_sample(a, ctx, -1), token);
                decode(ctx, &mut [token]);
            }
            llama_sampler_free(a);
            llama_sampler_free(b);
        }
    });
}

#[test]
fn what_cannot_be_sampled_is_no_token() {
    with_context(|ctx| {
        // SAFETY: NULL and bad indices are what is tested; samplers are freed once.
        unsafe {
            let greedy = llama_sampler_init_greedy();
            for idx in [0, 1, 3, i32::MAX, -2, i32::MIN] {
                assert_eq!(llama_sampler_sample(greedy, ctx, idx), LLAMA_TOKEN_NULL, "{idx}");
            }
            for (smpl, ctx) in [(greedy, null_mut()), (null_mut(), ctx)] {
                one_error("is NULL", || {
                    assert_eq!(llama_sampler_sample(smpl, ctx, -1), LLAMA_TOKEN_NULL);
                });
            }
            llama_sampler_free(greedy);

            // The original aborts here.
            let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 1 });
            llama_sampler_chain_add(chain, llama_sampler_init_top_k(40));
            assert_eq!(llama_sampler_sample(chain, ctx, -1), LLAMA_TOKEN_NULL);
            assert_eq!(llama_perf_sampler(chain).n_sample, 0, "nothing was accepted");
            llama_sampler_chain_add(chain, llama_sampler_init_greedy());
            assert_ne!(llama_sampler_sample(chain, ctx, -1), LLAMA_TOKEN_NULL);
            llama_sampler_free(chain);
        }
    });
}
