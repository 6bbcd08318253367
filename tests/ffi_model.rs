//! Models and contexts through the C interface, on a tiny model that the test writes, on the
//! GPT-2 vocabulary, and on the real model where it is.
#![allow(unsafe_code, reason = "calls the C interface")]

mod common;

use std::ffi::{CStr, CString, c_char};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::ptr;

use powerinfer::ffi::types::*;
use powerinfer::ffi::{
    batch::*, chat::*, context::*, decode::*, load::*, memory::*, model::*, model_meta::*,
    params::*, state::*, vocab::*,
};
use powerinfer::gguf::{Array, Magic, Value, Writer};
use powerinfer::quant::QuantType;

fn text(s: *const c_char) -> String {
    assert!(!s.is_null());
    // SAFETY: a terminated string of the library.
    unsafe { CStr::from_ptr(s) }.to_str().expect("UTF-8").to_owned()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

/// Writes a llama of two layers with random weights and a vocabulary of 64 hashes.
fn tiny_model(name: &str) -> CString {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (n_vocab, n_embd, n_ff) = (64u64, 32u64, 64u64);
    let mut file = Writer::new(Magic::Gguf);
    let mut set = |key: &str, value| file.set(key, value).expect("a good key");
    let tokens = (0..n_vocab).map(|i| format!("t{i}"));
    set("general.architecture", Value::Str("llama".into()));
    set("general.name", Value::Str("tiny".into()));
    set("llama.block_count", Value::U32(2));
    set("llama.context_length", Value::U32(512));
    set("llama.embedding_length", Value::U32(n_embd as u32));
    set("llama.feed_forward_length", Value::U32(n_ff as u32));
    set("llama.attention.head_count", Value::U32(4));
    set("llama.attention.head_count_kv", Value::U32(2));
    set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    set("test.flag", Value::Bool(true));
    set("test.negative", Value::I8(-7));
    set("tokenizer.ggml.model", Value::Str("test".into()));
    set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens.collect())));
    set("tokenizer.chat_template", Value::Str("{% <|im_start|> %}".into()));
    set("tokenizer.chat_template.tool", Value::Str("tool template".into()));

    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![n_embd, n_vocab]),
        ("output_norm.weight".to_owned(), vec![n_embd]),
    ];
    for i in 0..2 {
        let mut add = |name: &str, dims: &[u64]| {
            tensors.push((format!("blk.{i}.{name}.weight"), dims.to_vec()));
        };
        add("attn_norm", &[n_embd]);
        add("attn_q", &[n_embd, n_embd]);
        add("attn_k", &[n_embd, n_embd / 2]);
        add("attn_v", &[n_embd, n_embd / 2]);
        add("attn_output", &[n_embd, n_embd]);
        add("ffn_norm", &[n_embd]);
        add("ffn_gate", &[n_embd, n_ff]);
        add("ffn_up", &[n_embd, n_ff]);
        add("ffn_down", &[n_ff, n_embd]);
    }
    for (name, dims) in &tensors {
        file.add_tensor(name, dims, QuantType::F32).expect("a good tensor");
    }
    let out = std::fs::File::create(&path).expect("the target folder is writable");
    let mut data = file.start(BufWriter::new(out)).expect("a header");
    let mut seed = 1u32;
    for (_, dims) in &tensors {
        let n: u64 = dims.iter().product();
        let numbers = (0..n).flat_map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes()
        });
        data.write(&numbers.collect::<Vec<u8>>()).expect("tensor data");
    }
    data.finish().expect("a whole file").flush().expect("written");
    c_path(&path)
}

/// # Safety
/// The path is a C string.
unsafe fn load(path: &CStr, vocab_only: bool) -> *mut llama_model {
    // SAFETY: default parameters hold no bad pointers.
    unsafe {
        let mut params = llama_model_default_params();
        params.vocab_only = u8::from(vocab_only);
        llama_model_load_from_file(path.as_ptr(), params)
    }
}

#[test]
fn facts_of_a_model() {
    let path = tiny_model("facts.gguf");
    // SAFETY: the model is freed last.
    unsafe {
        let m = load(&path, false);
        assert!(!m.is_null());
        assert_eq!(llama_model_n_ctx_train(m), 512);
        assert_eq!((llama_model_n_embd(m), llama_model_n_embd_inp(m)), (32, 32));
        assert_eq!(
            (llama_model_n_layer(m), llama_model_n_head(m), llama_model_n_head_kv(m)),
            (2, 4, 2)
        );
        assert_eq!(llama_model_rope_type(m), 0);
        assert_eq!(llama_model_rope_freq_scale_train(m), 1.0);
        assert_eq!(llama_model_n_params(m), 32 * 64 + 32 + 2 * (64 + 3 * 1024 + 3 * 2048));
        assert_eq!(llama_model_size(m), 4 * llama_model_n_params(m));
        assert_eq!(llama_model_ftype(m), 1024, "no file type in the file: guessed, all F32");
        assert!(llama_model_has_decoder(m) && !llama_model_has_encoder(m));
        assert_eq!(llama_model_decoder_start_token(m), -1);
        assert_eq!(text(llama_model_chat_template(m, ptr::null())), "{% <|im_start|> %}");
        assert_eq!(text(llama_model_chat_template(m, c"tool".as_ptr())), "tool template");
        assert!(llama_model_chat_template(m, c"none".as_ptr()).is_null());
        assert!(llama_model_cls_label(m, 0).is_null());
        llama_model_free(m);
    }
}

#[test]
fn metadata_as_text() {
    let path = tiny_model("meta.gguf");
    let mut buf = [0x55 as c_char; 64];
    let b = buf.as_mut_ptr();
    // SAFETY: the buffer is as large as each call says.
    unsafe {
        let m = load(&path, true);
        let get = |key: &CStr, size| llama_model_meta_val_str(m, key.as_ptr(), b, size);
        assert_eq!((get(c"general.name", 64), text(b)), (4, "tiny".into()));
        assert_eq!((get(c"general.name", 3), text(b)), (4, "ti".into()), "cut, full length");
        assert_eq!((get(c"test.flag", 64), text(b)), (4, "true".into()));
        assert_eq!((get(c"test.negative", 64), text(b)), (2, "-7".into()));
        let eps = c"llama.attention.layer_norm_rms_epsilon";
        assert_eq!((get(eps, 64), text(b)), (8, "0.000010".into()));
        assert_eq!((get(c"missing", 64), text(b)), (-1, String::new()));
        assert_eq!(get(c"tokenizer.ggml.tokens", 64), -1, "arrays are not served");
        assert_eq!(llama_model_meta_val_str(m, ptr::null(), b, 64), -1);
        assert_eq!(llama_model_meta_val_str(m, c"general.name".as_ptr(), ptr::null_mut(), 0), 4);

        let n = llama_model_meta_count(m);
        assert_eq!(n, 14, "all but the array");
        let mut seen = Vec::new();
        for i in 0..n {
            let len = llama_model_meta_key_by_index(m, i, b, 64);
            assert_eq!(len as usize, text(b).len());
            seen.push(text(b));
            assert!(llama_model_meta_val_str_by_index(m, i, b, 64) > 0);
        }
        assert!(seen.contains(&"test.negative".to_owned()), "{seen:?}");
        for bad in [-1, n, i32::MAX, i32::MIN] {
            assert_eq!(llama_model_meta_key_by_index(m, bad, b, 64), -1);
            assert_eq!(
                (llama_model_meta_val_str_by_index(m, bad, b, 64), text(b)),
                (-1, String::new())
            );
        }
        assert!(llama_model_desc(m, b, 64) > 0 && text(b).ends_with("(guessed) all F32"));
        llama_model_free(m);
    }
}

#[test]
fn null_models_are_answered() {
    let none: *mut llama_model = ptr::null_mut();
    let mut byte = 1 as c_char;
    // SAFETY: NULL is what these functions must bear.
    unsafe {
        assert_eq!((llama_model_n_embd(none), llama_model_n_ctx_train(none)), (0, 0));
        assert_eq!((llama_model_size(none), llama_model_meta_count(none)), (0, 0));
        assert!(llama_model_get_vocab(none).is_null());
        assert!(llama_model_chat_template(none, ptr::null()).is_null());
        assert_eq!((llama_model_desc(none, &mut byte, 1), byte), (-1, 0));
        llama_model_free(none);
        llama_free(ptr::null_mut());
        assert!(llama_init_from_model(none, llama_context_default_params()).is_null());
        let params = llama_model_default_params();
        assert!(llama_model_load_from_file(ptr::null(), params).is_null());
        assert!(llama_model_load_from_file(c"/nonexistent.gguf".as_ptr(), params).is_null());
        assert!(llama_model_load_from_splits(ptr::null_mut(), 3, params).is_null());
        assert!(llama_model_load_from_file_ptr(ptr::null_mut(), params).is_null());

        let none: *const llama_vocab = ptr::null();
        assert_eq!((llama_vocab_n_tokens(none), llama_vocab_type(none)), (0, 0));
        assert_eq!((llama_vocab_bos(none), llama_vocab_fim_sep(none)), (-1, -1));
        assert!(llama_vocab_get_text(none, 0).is_null() && !llama_vocab_is_eog(none, 0));
        assert_eq!(llama_tokenize(none, c"x".as_ptr(), 1, ptr::null_mut(), 0, 1, 1), i32::MIN);
        assert_eq!(llama_token_to_piece(none, 0, ptr::null_mut(), 0, 0, 0), 0);
        assert_eq!(llama_detokenize(none, ptr::null(), 0, ptr::null_mut(), 0, 0, 0), 0);
        assert_eq!(
            (llama_memory_seq_pos_max(ptr::null_mut(), 0), llama_memory_can_shift(ptr::null_mut())),
            (-1, false)
        );
        assert!(llama_memory_seq_rm(ptr::null_mut(), 0, 0, -1));
    }
}

#[test]
fn vocabulary() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vocabs/ggml-vocab-gpt-2.gguf");
    let path = c_path(Path::new(file));
    let hello = "Hello, wörld!\u{1F600}";
    // SAFETY: buffers are as large as each call says; the model is freed last.
    unsafe {
        let m = load(&path, true);
        let v = llama_model_get_vocab(m);
        assert_eq!((llama_vocab_type(v), llama_vocab_n_tokens(v)), (2, 50257));
        assert_eq!(
            (llama_vocab_bos(v), llama_vocab_eos(v), llama_vocab_nl(v)),
            (50256, 50256, 198)
        );
        assert!(llama_vocab_is_eog(v, 50256) && llama_vocab_is_control(v, 50256));
        assert_eq!(text(llama_vocab_get_text(v, 995)), "\u{120}world");
        for bad in [-1, 50257, i32::MAX, i32::MIN] {
            assert!(llama_vocab_get_text(v, bad).is_null());
            assert_eq!((llama_vocab_get_attr(v, bad), llama_vocab_get_score(v, bad)), (0, 0.0));
            assert!(!llama_vocab_is_eog(v, bad) && !llama_vocab_is_control(v, bad));
            assert_eq!(llama_token_to_piece(v, bad, ptr::null_mut(), 0, 0, 1), 0);
        }
        let mut n = 9;
        assert!(llama_vocab_get_suppress_tokens(v, &mut n).is_null());
        assert_eq!(n, 0);

        let (s, len) = (hello.as_ptr().cast::<c_char>(), hello.len() as i32);
        let needed = -llama_tokenize(v, s, len, ptr::null_mut(), 0, 0, 0);
        assert!(needed > 4);
        let mut tokens = vec![-5; needed as usize];
        assert_eq!(llama_tokenize(v, s, len, tokens.as_mut_ptr(), needed - 1, 0, 0), -needed);
        assert!(tokens.iter().all(|&t| t == -5), "nothing is written");
        assert_eq!(llama_tokenize(v, s, len, tokens.as_mut_ptr(), needed, 0, 0), needed);
        assert_eq!(llama_tokenize(v, s, -1, tokens.as_mut_ptr(), needed, 0, 0), i32::MIN);
        assert_eq!(llama_tokenize(v, ptr::null(), 5, tokens.as_mut_ptr(), needed, 0, 0), i32::MIN);
        assert_eq!(llama_tokenize(v, ptr::null(), 0, ptr::null_mut(), 0, 0, 0), 0);

        let mut buf = vec![0x55u8; 64];
        let b = buf.as_mut_ptr().cast::<c_char>();
        assert_eq!(llama_detokenize(v, tokens.as_ptr(), needed, b, len - 1, 0, 0), -len);
        assert_eq!(llama_detokenize(v, tokens.as_ptr(), needed, b, len, 0, 0), len);
        assert_eq!(&buf[..hello.len()], hello.as_bytes());
        assert_eq!(buf[hello.len()], 0x55, "no NUL");
        let b = buf.as_mut_ptr().cast::<c_char>();
        assert_eq!(llama_detokenize(v, tokens.as_ptr(), -1, b, 64, 0, 0), 0);
        assert_eq!(llama_token_to_piece(v, 995, b, 6, 0, 0), 6, " world");
        assert_eq!(llama_token_to_piece(v, 995, b, 5, 0, 0), -6);
        assert_eq!(llama_token_to_piece(v, 995, b, 5, 1, 0), 5, "without the space");
        assert_eq!(llama_token_to_piece(v, 50256, b, 64, 0, 0), 0, "control tokens are silent");
        assert_eq!(llama_token_to_piece(v, 50256, b, 64, 0, 1), 13);

        // A model without weights has no contexts that compute, but facts that say so.
        assert_eq!((llama_model_n_embd(m), llama_model_n_head(m)), (0, 0));
        llama_model_free(m);
    }
}

#[test]
fn chat_templates() {
    let chat = [
        llama_chat_message { role: c"user".as_ptr(), content: c"hi".as_ptr() },
        llama_chat_message { role: c"assistant".as_ptr(), content: ptr::null() },
    ];
    let expected = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    let mut buf = [0x55u8; 128];
    let b = buf.as_mut_ptr().cast::<c_char>();
    // SAFETY: the buffer is as large as each call says.
    unsafe {
        let len = expected.len() as i32;
        assert_eq!(llama_chat_apply_template(ptr::null(), chat.as_ptr(), 1, 1, b, 128), len);
        assert_eq!(text(b), expected);
        *b.add(8) = 0x55;
        assert_eq!(llama_chat_apply_template(c"chatml".as_ptr(), chat.as_ptr(), 1, 1, b, 8), len);
        assert_eq!(*b.add(8), 0x55, "cut, no NUL");
        assert_eq!(llama_chat_apply_template(c"no such".as_ptr(), chat.as_ptr(), 1, 1, b, 128), -1);
        assert_eq!(llama_chat_apply_template(ptr::null(), chat.as_ptr(), 2, 1, b, 128), -1);
        assert_eq!(llama_chat_apply_template(ptr::null(), ptr::null(), 2, 1, b, 128), -1);
        assert_eq!(
            llama_chat_apply_template(ptr::null(), chat.as_ptr(), 1, 1, ptr::null_mut(), 0),
            len
        );

        let n = llama_chat_builtin_templates(ptr::null_mut(), 0);
        assert_eq!(n, 54);
        let mut names = vec![ptr::null(); n as usize];
        assert_eq!(llama_chat_builtin_templates(names.as_mut_ptr(), 2), n);
        assert!(!names[1].is_null() && names[2].is_null());
        assert_eq!(llama_chat_builtin_templates(names.as_mut_ptr(), n as usize), n);
        assert!(names.iter().any(|&name| text(name) == "llama3"));
    }
}

#[test]
fn a_model_decodes() {
    let path = tiny_model("decode.gguf");
    // SAFETY: handles are used before they are freed.
    unsafe {
        let m = load(&path, false);
        let mut params = llama_context_default_params();
        params.n_ctx = 256;
        params.n_seq_max = 2;
        params.kv_unified = 1;
        let ctx = llama_init_from_model(m, params);
        assert!(!ctx.is_null());
        assert_eq!(llama_get_model(ctx), m.cast_const());
        let mem = llama_get_memory(ctx);
        assert_eq!(llama_memory_seq_pos_max(mem, 0), -1);

        let mut tokens = [3, 1, 4, 1, 5];
        assert_eq!(llama_decode(ctx, llama_batch_get_one(tokens.as_mut_ptr(), 5)), 0);
        assert_eq!(llama_memory_seq_pos_max(mem, 0), 4);
        let row = |i| std::slice::from_raw_parts(llama_get_logits_ith(ctx, i), 64).to_vec();
        let last = row(-1);
        assert_eq!(last, row(4), "the last token has the one output");
        assert!(last.iter().all(|x| x.is_finite()) && last.iter().any(|&x| x != last[0]));
        assert!(llama_get_logits_ith(ctx, 0).is_null() && llama_get_logits_ith(ctx, 99).is_null());
        assert!(llama_get_logits_ith(ctx, -2).is_null());
        assert!(llama_get_embeddings_ith(ctx, -1).is_null(), "embeddings are off");

        // Bad batches change nothing.
        let bad =
            |tokens: &mut [i32], n| llama_decode(ctx, llama_batch_get_one(tokens.as_mut_ptr(), n));
        assert_eq!(bad(&mut [64], 1), -1);
        assert_eq!(bad(&mut [-1], 1), -1);
        assert_eq!(bad(&mut [1], 0), -1);
        assert_eq!(bad(&mut [1], -3), -1);
        assert_eq!(llama_decode(ctx, llama_batch_get_one(ptr::null_mut(), 1)), -1);
        let nowhere = llama_batch_get_one(tokens.as_mut_ptr(), 1);
        assert!(llama_decode(ptr::null_mut(), nowhere) < 0);
        assert_eq!(llama_memory_seq_pos_max(mem, 0), 4);
        assert_eq!(bad(&mut vec![1; 300], 300), -1, "more than n_batch");
        assert_eq!(bad(&mut vec![1; 252], 252), 1, "no room in the cache");
        assert_eq!(llama_memory_seq_pos_max(mem, 0), 4);

        // The same tokens again, in two calls, give the same numbers.
        llama_memory_clear(mem, 1);
        assert_eq!(llama_decode(ctx, llama_batch_get_one(tokens.as_mut_ptr(), 2)), 0);
        assert_eq!(llama_decode(ctx, llama_batch_get_one(tokens[2..].as_mut_ptr(), 3)), 0);
        assert_eq!(row(-1), last);
        llama_memory_seq_cp(mem, 0, 1, -1, -1);
        assert_eq!(llama_memory_seq_pos_max(mem, 1), 4);
        assert!(llama_memory_seq_rm(mem, 0, 3, -1));
        assert_eq!((llama_memory_seq_pos_max(mem, 0), llama_memory_seq_pos_max(mem, 1)), (2, 4));
        assert_eq!(llama_memory_seq_pos_max(mem, 2), -1, "no such sequence");
        llama_free(ctx);

        // Parameters that make no sense make no context.
        let refused = |change: fn(&mut llama_context_params)| {
            let mut params = llama_context_default_params();
            change(&mut params);
            assert!(llama_init_from_model(m, params).is_null());
        };
        refused(|p| (p.n_batch, p.n_ubatch) = (0, 0));
        refused(|p| p.pooling_type = 77);
        refused(|p| p.type_k = 77);
        // 6 is Q5_0, 10 is Q2_K, 8 is Q8_0: its blocks are longer than this model's heads.
        refused(|p| p.type_v = 10);
        refused(|p| p.type_k = 8);
        refused(|p| (p.type_v, p.flash_attn_type) = (8, 0));
        refused(|p| p.rope_scaling_type = -9);
        llama_model_free(m);
    }
}

/// llama-cpp-python makes one for every model, also for those that it opens to tokenize.
#[test]
fn a_context_over_a_vocabulary_alone() {
    let path = tiny_model("only-vocabulary.gguf");
    // SAFETY: what is freed is not used again; the token outlives the call.
    unsafe {
        let m = load(&path, true);
        for n_ctx in [0, 64] {
            let mut params = llama_context_default_params();
            params.n_ctx = n_ctx;
            let ctx = llama_init_from_model(m, params);
            assert!(!ctx.is_null());
            assert_eq!(llama_n_ctx(ctx), 256);
            assert!(ptr::eq(llama_get_model(ctx), m) && llama_get_memory(ctx).is_null());
            let mut token = 1;
            assert!(llama_decode(ctx, llama_batch_get_one(&raw mut token, 1)) < 0);
            assert!(llama_encode(ctx, llama_batch_get_one(&raw mut token, 1)) < 0);
            assert!(llama_get_logits(ctx).is_null());
            let size = llama_state_get_size(ctx);
            let mut state = vec![0; size];
            assert_eq!(llama_state_get_data(ctx, state.as_mut_ptr(), size), size);
            assert_eq!(llama_state_set_data(ctx, state.as_ptr(), size), size);
            llama_free(ctx);
        }
        llama_model_free(m);
    }
}

/// Facts of SmolLM2-135M-Instruct Q4_1 as llama.cpp 0c1e570 tells them.
#[test]
fn the_real_model_has_the_same_facts() {
    let Some(path) = common::model_path() else { return };
    let mut buf = [0 as c_char; 64];
    let b = buf.as_mut_ptr();
    // SAFETY: the buffer is as large as each call says; the model is freed last.
    unsafe {
        let m = load(&c_path(&path), false);
        assert_eq!((llama_model_meta_count(m), llama_model_n_ctx_train(m)), (29, 8192));
        assert_eq!((llama_model_size(m), llama_model_n_params(m)), (96_576_768, 134_515_008));
        assert_eq!(
            (llama_model_n_head(m), llama_model_n_head_kv(m), llama_model_ftype(m)),
            (9, 3, 3)
        );
        assert_eq!((llama_model_desc(m, b, 64), text(b)), (15, "llama 256M Q4_1".into()));
        let base = c"llama.rope.freq_base".as_ptr();
        assert_eq!(
            (llama_model_meta_val_str(m, base, b, 64), text(b)),
            (13, "100000.000000".into())
        );
        let v = llama_model_get_vocab(m);
        let special = [
            llama_vocab_bos(v),
            llama_vocab_eos(v),
            llama_vocab_eot(v),
            llama_vocab_sep(v),
            llama_vocab_nl(v),
            llama_vocab_pad(v),
            llama_vocab_mask(v),
            llama_vocab_fim_pre(v),
            llama_vocab_fim_rep(v),
        ];
        assert_eq!(special, [1, 2, 0, -1, 198, 2, -1, -1, 4]);
        assert_eq!((llama_vocab_get_attr(v, 0), llama_vocab_get_attr(v, 100)), (8, 4));
        llama_model_free(m);
    }
}
