//! One model, several threads: contexts of their own, the vocabulary and the metadata from
//! everywhere. What a thread computes is what it computes alone.
#![allow(unsafe_code, reason = "calls the C functions")]

mod common;

use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use std::sync::Barrier;

use common::{tiny, tiny_archs, tiny_lora, tiny_sparse};
use powerinfer::ffi::adapter::*;
use powerinfer::ffi::batch::*;
use powerinfer::ffi::context::*;
use powerinfer::ffi::decode::*;
use powerinfer::ffi::load::*;
use powerinfer::ffi::memory::*;
use powerinfer::ffi::model::*;
use powerinfer::ffi::model_meta::*;
use powerinfer::ffi::params::*;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::state::*;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::*;
use powerinfer::quant::QuantType;

const THREADS: u32 = 4;

/// A model for all threads.
#[derive(Clone, Copy)]
struct Model {
    model: *mut llama_model,
    adapter: *mut llama_adapter_lora,
}
// SAFETY: a model and its adapters may be used from every thread.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

/// What one thread saw.
#[derive(PartialEq)]
struct Seen {
    tokens: Vec<i32>,
    logits: Vec<u32>,
    state: Vec<u8>,
    texts: Vec<Vec<u8>>,
}

fn text(n: usize, call: impl Fn(*mut c_char, usize) -> i32) -> Vec<u8> {
    let mut buffer = vec![0u8; n];
    let length = call(buffer.as_mut_ptr().cast(), n);
    buffer.truncate(usize::try_from(length).unwrap_or(0));
    buffer
}

/// Questions that any thread may ask at any time.
fn ask(model: *const llama_model, round: i32) -> Vec<Vec<u8>> {
    // SAFETY: the model lives, buffers are as long as said.
    unsafe {
        let vocab = llama_model_get_vocab(model);
        let i = round % llama_model_meta_count(model);
        let mut tokens = [0; 64];
        let input = b"the quick and the dead";
        let (start, len) = (input.as_ptr().cast(), input.len() as i32);
        let n = llama_tokenize(vocab, start, len, tokens.as_mut_ptr(), 64, 1, 1);
        assert!(n > 0);
        let piece = |token| text(64, |b, n| llama_token_to_piece(vocab, token, b, n as i32, 0, 1));
        let mut texts: Vec<_> = tokens[..n as usize].iter().map(|&token| piece(token)).collect();
        texts.push(text(256, |b, n| llama_model_desc(model, b, n)));
        texts.push(text(4096, |b, n| llama_model_meta_key_by_index(model, i, b, n)));
        texts.push(text(4096, |b, n| llama_model_meta_val_str_by_index(model, i, b, n)));
        texts
            .push(text(256, |b, n| llama_detokenize(vocab, tokens.as_ptr(), 5, b, n as i32, 0, 1)));
        texts
    }
}

/// A thread's life: a context, 24 tokens drawn with its own seed, its state saved and put back in
/// the middle, an adapter for some of the time.
fn live(Model { model, adapter }: Model, seed: u32) -> Seen {
    let mut seen =
        Seen { tokens: Vec::new(), logits: Vec::new(), state: Vec::new(), texts: Vec::new() };
    // SAFETY: the context and the sampler are this thread's; the model and the adapter live.
    unsafe {
        let mut params = llama_context_default_params();
        (params.n_ctx, params.n_batch, params.n_ubatch) = (128, 32, 8);
        (params.n_threads, params.n_threads_batch) = (1 + seed as i32 % 2, 2);
        let ctx = llama_init_from_model(model, params);
        let n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model)) as usize;
        let chain = llama_sampler_chain_init(llama_sampler_chain_params { no_perf: 0 });
        llama_sampler_chain_add(chain, llama_sampler_init_penalties(0, 16, 1.1, 0.0, 0.0));
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(0.95, 1));
        llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
        let mut batch: Vec<i32> = (0..11).map(|i| (i * 7 + seed as i32) % n_vocab as i32).collect();
        for round in 0..24 {
            match round {
                6 if !adapter.is_null() => {
                    let (mut list, mut scale) = ([adapter], [0.5]);
                    let set =
                        llama_set_adapters_lora(ctx, list.as_mut_ptr(), 1, scale.as_mut_ptr());
                    assert_eq!(set, 0);
                }
                12 => {
                    let mut state = vec![0; llama_state_get_size(ctx)];
                    let n = llama_state_get_data(ctx, state.as_mut_ptr(), state.len());
                    state.truncate(n);
                    llama_memory_clear(llama_get_memory(ctx), 1);
                    assert_eq!(llama_state_set_data(ctx, state.as_ptr(), n), n);
                    seen.state = state;
                }
                18 => assert_eq!(llama_set_adapters_lora(ctx, null_mut(), 0, null_mut()), 0),
                _ => {}
            }
            let next = llama_batch_get_one(batch.as_mut_ptr(), batch.len() as i32);
            assert_eq!(llama_decode(ctx, next), 0);
            let logits = std::slice::from_raw_parts(llama_get_logits_ith(ctx, -1), n_vocab);
            seen.logits.extend(logits.iter().map(|x| x.to_bits()));
            let token = llama_sampler_sample(chain, ctx, -1);
            seen.tokens.push(token);
            batch = vec![token];
            seen.texts.extend(ask(model, round));
        }
        llama_sampler_free(chain);
        llama_free(ctx);
    }
    seen
}

/// The same lives one after the other and side by side.
fn compare(name: &str, bytes: &[u8], with_adapter: bool) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |suffix: &str, bytes: &[u8]| {
        let path = folder.join(format!("threads-{name}{suffix}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        CString::new(path.to_str().unwrap()).unwrap()
    };
    // SAFETY: the model outlives what uses it, and is freed once.
    unsafe {
        let path = write("", bytes);
        let model = llama_model_load_from_file(path.as_ptr(), llama_model_default_params());
        assert!(!model.is_null());
        let mut shared = Model { model, adapter: null_mut() };
        if with_adapter {
            let ty = QuantType::F32;
            let shape = tiny_lora::Shape { rank: 2, alpha: Some(2.0), ty, gain: 0.3, seed: 5 };
            let path = write("-lora", &tiny_lora::bytes(bytes, shape));
            shared.adapter = llama_adapter_lora_init(model, path.as_ptr());
            assert!(!shared.adapter.is_null());
        }
        let alone: Vec<Seen> = (0..THREADS).map(|seed| live(shared, seed)).collect();
        assert!(alone[0].tokens != alone[1].tokens, "the threads do different things");
        for _ in 0..4 {
            let start = Barrier::new(THREADS as usize);
            let start = &start;
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|seed| {
                        scope.spawn(move || {
                            start.wait();
                            live(shared, seed)
                        })
                    })
                    .collect();
                for (seed, (thread, alone)) in threads.into_iter().zip(&alone).enumerate() {
                    let together = thread.join().unwrap();
                    assert!(together.tokens == alone.tokens, "{name}: tokens of thread {seed}");
                    assert!(together.logits == alone.logits, "{name}: logits of thread {seed}");
                    assert!(together.state == alone.state, "{name}: state of thread {seed}");
                    assert!(together.texts == alone.texts, "{name}: texts of thread {seed}");
                }
            });
        }
        llama_model_free(model);
    }
}

#[test]
fn contexts_of_a_dense_model_with_an_adapter() {
    compare("dense", &tiny::bytes(&tiny::spec("gqa")), true);
}

#[test]
fn contexts_of_a_model_with_windows() {
    compare("windowed", &tiny_archs::bytes(&tiny_archs::spec("gemma3")), false);
}

#[test]
fn contexts_of_a_sparse_model() {
    compare("sparse", &tiny_sparse::bytes(&tiny_sparse::SPECS[0]), false);
}
