//! Adapters through the C interface, on a tiny model: handles, metadata, sets of a context, bad
//! arguments, and what is freed when.
#![allow(unsafe_code, reason = "calls the C interface")]

mod common;

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr;

use common::tiny_lora::{self, Shape};
use common::{tiny, tiny_archs};
use powerinfer::ffi::types::*;
use powerinfer::ffi::{adapter::*, batch::*, context::*, decode::*, load::*, memory::*, params::*};
use powerinfer::gguf::{Array, Value};
use powerinfer::quant::QuantType::F32;

const SHAPE: Shape = Shape { rank: 4, alpha: Some(2.5), ty: F32, gain: 0.5, seed: 3 };

fn written(name: &str, bytes: &[u8]) -> CString {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    CString::new(path.to_str().unwrap()).unwrap()
}

fn model_bytes() -> Vec<u8> {
    tiny_archs::bytes(&tiny_archs::spec("mixtral"))
}

/// The model and a context.
unsafe fn model(name: &str) -> (*mut llama_model, *mut llama_context) {
    let path = written(name, &model_bytes());
    // SAFETY: default parameters hold no bad pointers.
    unsafe {
        let model = llama_model_load_from_file(path.as_ptr(), llama_model_default_params());
        assert!(!model.is_null());
        let mut params = llama_context_default_params();
        (params.n_ctx, params.n_threads, params.n_threads_batch) = (64, 2, 2);
        let ctx = llama_init_from_model(model, params);
        assert!(!ctx.is_null());
        (model, ctx)
    }
}

/// Logits of the last of some tokens.
unsafe fn logits(ctx: *mut llama_context) -> Vec<f32> {
    let mut tokens = tiny::tokens(12, tiny_archs::N_VOCAB);
    // SAFETY: the tokens outlive the call; there are logits of the last one.
    unsafe {
        llama_memory_clear(llama_get_memory(ctx), 1);
        let batch = llama_batch_get_one(tokens.as_mut_ptr(), tokens.len() as i32);
        assert_eq!(llama_decode(ctx, batch), 0);
        let logits = llama_get_logits_ith(ctx, -1);
        std::slice::from_raw_parts(logits, tiny_archs::N_VOCAB).to_vec()
    }
}

unsafe fn set(
    ctx: *mut llama_context,
    adapters: &[*mut llama_adapter_lora],
    scales: &[f32],
) -> i32 {
    let (mut adapters, mut scales) = (adapters.to_vec(), scales.to_vec());
    // SAFETY: lists of one length.
    unsafe {
        llama_set_adapters_lora(ctx, adapters.as_mut_ptr(), adapters.len(), scales.as_mut_ptr())
    }
}

/// As llama-cpp-python does it: load, set, run; at its end adapter, context, model.
#[test]
fn sets_of_a_context() {
    let bytes = model_bytes();
    let [a, b] = tiny_lora::pair(&bytes, 2);
    let (a, b) = (written("set-a.gguf", &a), written("set-b.gguf", &b));
    // SAFETY: handles are freed once, the model last.
    unsafe {
        let (m, ctx) = model("set.gguf");
        let plain = logits(ctx);
        let a = llama_adapter_lora_init(m, a.as_ptr());
        let b = llama_adapter_lora_init(m, b.as_ptr());
        assert!(!a.is_null() && !b.is_null());
        assert_eq!(logits(ctx), plain, "loaded is not set");
        assert_eq!(set(ctx, &[a], &[1.0]), 0);
        let one = logits(ctx);
        assert_ne!(one, plain);
        assert_eq!(set(ctx, &[a, b], &[1.0, 0.5]), 0);
        let two = logits(ctx);
        assert_ne!(two, one);
        assert_eq!(set(ctx, &[b, a], &[0.0, 1.0]), 0);
        assert_eq!(logits(ctx), one, "replaced; zero is nothing");

        // What cannot be set leaves what is.
        assert_eq!(set(ctx, &[a, ptr::null_mut()], &[1.0, 1.0]), -1);
        let (mut list, mut scales) = ([a], [1.0]);
        let (list, scales) = (list.as_mut_ptr(), scales.as_mut_ptr());
        assert_eq!(llama_set_adapters_lora(ctx, ptr::null_mut(), 1, scales), -1);
        assert_eq!(llama_set_adapters_lora(ctx, list, 1, ptr::null_mut()), -1);
        assert_eq!(llama_set_adapters_lora(ctx, list, usize::MAX, scales), -1);
        assert_eq!(set(ptr::null_mut(), &[a], &[1.0]), -1);
        assert_eq!(logits(ctx), one);
        assert_eq!(set(ctx, &[ptr::null_mut()], &[0.0]), 0, "a scale of zero is not looked up");
        assert_eq!(logits(ctx), plain);

        // Freed while it is set: the context keeps it until it gets others.
        assert_eq!(set(ctx, &[a], &[1.0]), 0);
        llama_adapter_lora_free(a);
        assert_eq!(logits(ctx), one);
        assert_eq!(llama_set_adapters_lora(ctx, ptr::null_mut(), 0, ptr::null_mut()), 0);
        assert_eq!(logits(ctx), plain);
        llama_adapter_lora_free(ptr::null_mut());
        // The other one goes with the model, the context after it.
        assert_eq!(set(ctx, &[b], &[1.0]), 0);
        let last = logits(ctx);
        llama_model_free(m);
        assert_eq!(logits(ctx), last);
        llama_free(ctx);
    }
}

#[test]
fn metadata_and_invocation_tokens() {
    let adapter = tiny_lora::edited_bytes(&model_bytes(), SHAPE, |keys, _| {
        let ids = Value::Array(Array::U32(vec![7, 9, 11]));
        keys.set("adapter.alora.invocation_tokens", ids).unwrap();
        keys.set("general.name", Value::Str("tiny adapter".into())).unwrap();
    });
    let plain = written("meta-plain.gguf", &tiny_lora::bytes(&model_bytes(), SHAPE));
    let path = written("meta-adapter.gguf", &adapter);
    let mut buf = [0x55 as c_char; 32];
    let b = buf.as_mut_ptr();
    // SAFETY: the buffer is as large as each call says; handles are alive.
    unsafe {
        let text = || CStr::from_ptr(b).to_str().unwrap().to_owned();
        let (m, ctx) = model("meta.gguf");
        let adapter = llama_adapter_lora_init(m, path.as_ptr());
        let get = |key: &CStr, size| llama_adapter_meta_val_str(adapter, key.as_ptr(), b, size);
        assert_eq!((get(c"general.name", 32), text()), (12, "tiny adapter".into()));
        assert_eq!((get(c"general.name", 5), text()), (12, "tiny".into()), "cut, full length");
        assert_eq!((get(c"adapter.lora.alpha", 32), text()), (8, "2.500000".into()));
        assert_eq!((get(c"missing", 32), text()), (-1, String::new()));
        assert_eq!(get(c"adapter.alora.invocation_tokens", 32), -1, "arrays are not served");
        assert_eq!(llama_adapter_meta_val_str(adapter, ptr::null(), b, 32), -1);
        let name = c"general.name".as_ptr();
        assert_eq!(llama_adapter_meta_val_str(adapter, name, ptr::null_mut(), 0), 12);
        assert_eq!(llama_adapter_meta_val_str(ptr::null(), name, b, 32), -1);

        let n = llama_adapter_meta_count(adapter);
        assert_eq!(n, 5, "all but the array");
        let mut seen = Vec::new();
        for i in 0..n {
            assert!(llama_adapter_meta_key_by_index(adapter, i, b, 32) > 0);
            let key = text();
            assert!(llama_adapter_meta_val_str_by_index(adapter, i, b, 32) > 0);
            seen.push((key, text()));
        }
        assert!(seen.contains(&("general.type".into(), "adapter".into())), "{seen:?}");
        assert!(seen.contains(&("adapter.type".into(), "lora".into())), "{seen:?}");
        for i in [-1, n, i32::MAX, i32::MIN] {
            buf[0] = 1;
            assert_eq!(llama_adapter_meta_key_by_index(adapter, i, b, 32), -1);
            assert_eq!(buf[0], 0);
            buf[0] = 1;
            assert_eq!(llama_adapter_meta_val_str_by_index(adapter, i, b, 32), -1);
            assert_eq!(buf[0], 0);
        }
        assert_eq!(llama_adapter_meta_count(ptr::null()), 0);
        assert_eq!(llama_adapter_meta_key_by_index(ptr::null(), 0, b, 32), -1);
        assert_eq!(llama_adapter_meta_val_str_by_index(ptr::null(), 0, b, 32), -1);

        assert_eq!(llama_adapter_get_alora_n_invocation_tokens(adapter), 3);
        let tokens = llama_adapter_get_alora_invocation_tokens(adapter);
        assert_eq!(std::slice::from_raw_parts(tokens, 3), [7, 9, 11]);
        let plain = llama_adapter_lora_init(m, plain.as_ptr());
        for none in [plain.cast_const(), ptr::null()] {
            assert_eq!(llama_adapter_get_alora_n_invocation_tokens(none), 0);
            assert!(llama_adapter_get_alora_invocation_tokens(none).is_null());
        }
        llama_free(ctx);
        llama_model_free(m);
    }
}

#[test]
fn bad_files_give_null() {
    let bytes = model_bytes();
    let good = tiny_lora::bytes(&bytes, SHAPE);
    let wrong_arch = tiny_lora::edited_bytes(&bytes, SHAPE, |keys, _| {
        keys.set("general.architecture", Value::Str("qwen2".into())).unwrap();
    });
    let half = tiny_lora::edited_bytes(&bytes, SHAPE, |_, tensors| {
        tensors.retain(|t| t.name != "blk.0.attn_q.weight.lora_b");
    });
    let bad: [(&str, &[u8]); 6] = [
        ("empty", &[]),
        ("cut", &good[..good.len() / 2]),
        ("cut-header", &good[..200]),
        ("wrong-arch", &wrong_arch),
        ("half", &half),
        ("a-model", &bytes),
    ];
    // SAFETY: the model and the streams are alive.
    unsafe {
        let (m, ctx) = model("bad.gguf");
        for (name, bytes) in bad {
            let path = written(&format!("bad-{name}.gguf"), bytes);
            assert!(llama_adapter_lora_init(m, path.as_ptr()).is_null(), "{name}");
            let file = libc::fopen(path.as_ptr(), c"rb".as_ptr());
            assert!(llama_adapter_lora_init_from_file_ptr(m, file).is_null(), "{name}");
            libc::fclose(file);
        }
        let path = written("bad-not.gguf", &good);
        assert!(llama_adapter_lora_init(ptr::null_mut(), path.as_ptr()).is_null());
        assert!(llama_adapter_lora_init(m, ptr::null()).is_null());
        assert!(llama_adapter_lora_init(m, c"/no/such/file.gguf".as_ptr()).is_null());
        assert!(llama_adapter_lora_init(m, c"/".as_ptr()).is_null());
        assert!(llama_adapter_lora_init_from_file_ptr(m, ptr::null_mut()).is_null());
        let file = libc::fopen(path.as_ptr(), c"rb".as_ptr());
        assert!(llama_adapter_lora_init_from_file_ptr(ptr::null_mut(), file).is_null());
        let adapter = llama_adapter_lora_init_from_file_ptr(m, file);
        assert!(!adapter.is_null());
        assert_eq!(libc::fclose(file), 0, "the stream stays the program's");
        assert_eq!(set(ctx, &[adapter], &[1.0]), 0);
        logits(ctx);
        llama_free(ctx);
        llama_adapter_lora_free(adapter);
        llama_model_free(m);
    }
}

#[test]
fn control_vectors() {
    let n_embd = tiny_archs::N_EMBD as i32;
    let data = tiny_lora::control_vector(tiny_archs::N_EMBD, 3, 4);
    // SAFETY: data of that length, or a NULL that is allowed.
    unsafe {
        let (m, ctx) = model("control.gguf");
        let plain = logits(ctx);
        let set = |ctx, n: usize, n_embd, start, end| {
            llama_set_adapter_cvec(ctx, data.as_ptr(), n, n_embd, start, end)
        };
        assert_eq!(set(ctx, data.len(), n_embd, 1, 3), 0);
        let all = logits(ctx);
        assert_ne!(all, plain);
        for n_embd in [0, -1, n_embd + 1, i32::MAX, i32::MIN] {
            assert_eq!(set(ctx, data.len(), n_embd, 1, 3), -1);
        }
        assert_eq!(set(ctx, usize::MAX, n_embd, 1, 3), -1);
        assert_eq!(set(ptr::null_mut(), data.len(), n_embd, 1, 3), -1);
        assert_eq!(logits(ctx), all, "failures change nothing");
        assert_eq!(set(ctx, data.len(), n_embd, 5, 1), 0, "no layers");
        assert_eq!(logits(ctx), plain);
        assert_eq!(set(ctx, 0, n_embd, i32::MIN, i32::MAX), 0, "no data: what was there");
        assert_eq!(logits(ctx), all);
        for _ in 0..2 {
            assert_eq!(llama_set_adapter_cvec(ctx, ptr::null(), 0, 0, 0, 0), 0);
            assert_eq!(logits(ctx), plain);
        }
        llama_free(ctx);
        llama_model_free(m);
    }
}
