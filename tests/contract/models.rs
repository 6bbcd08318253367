//! The models that lines are asked of.

use std::path::PathBuf;

use powerinfer::gguf::{Array, ByteStr, StrArray, Value, Writer};

use crate::c_programs::{keep, scratch};
use crate::common::tiny::Tensor;
use crate::common::{tiny, tiny_archs, tiny_lora};

fn set(keys: &mut Writer, name: &str, value: Value) {
    keys.set(name, value).unwrap();
}

fn text(s: &str) -> Value {
    Value::Str(ByteStr::from(s))
}

fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
    let mut array = StrArray::with_capacity(0, 0);
    texts.into_iter().for_each(|t| array.push(t.as_bytes()));
    Value::Array(Array::Str(array))
}

/// A vocabulary of SentencePiece's kind with what its rules are about: `<unk>`, control tokens, a
/// user's token, bytes, pieces that begin with a space.
fn sentencepiece(keys: &mut Writer) {
    const PIECES: [&str; 34] = [
        "▁", "▁▁", "▁hello", "hello", "▁world", "world", "▁the", "he", "ll", "o", "h", "e", "l",
        "w", "r", "d", "t", "▁t", "▁h", "▁w", "or", "ld", "wor", "lo", "hel", ".", ",", "!", "?",
        "▁.", "▁?", "'", "▁'", "s",
    ];
    const N_BYTES: usize = 96 - 8 - PIECES.len();
    // Those of texts that lines are about first, then any.
    let wanted = b"\n </>|[]USERX\xe2\x96\x81";
    let others = (0..=255).filter(|b| !wanted.contains(b));
    let all = wanted.iter().copied().chain(others);
    let mut bytes: Vec<String> = all.map(|b| format!("<0x{b:02X}>")).collect();
    bytes.truncate(N_BYTES);
    let special = ["<unk>", "<s>", "</s>", "<pad>", "<|user|>", "[USER]", " [X] ", "<eot>"];
    let pieces = special.into_iter().chain(PIECES).chain(bytes.iter().map(String::as_str));
    let types = [2, 3, 3, 3, 3, 4, 4, 3].into_iter().chain([1; 34]).chain([6; N_BYTES]).collect();
    let score = |i: usize| if i < 8 { 0.0 } else { -((i * 37 % 50) as f32) };
    let scores = (0..96).map(score).collect();
    set(keys, "tokenizer.ggml.model", text("llama"));
    keys.remove("tokenizer.ggml.pre");
    keys.remove("tokenizer.ggml.merges");
    set(keys, "tokenizer.ggml.tokens", strings(pieces));
    set(keys, "tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    set(keys, "tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    set(keys, "tokenizer.ggml.unknown_token_id", Value::U32(0));
    set(keys, "tokenizer.ggml.bos_token_id", Value::U32(1));
    set(keys, "tokenizer.ggml.eos_token_id", Value::U32(2));
    set(keys, "tokenizer.ggml.padding_token_id", Value::U32(3));
}

/// What a model says of itself: every kind of value, templates by name.
fn metadata(keys: &mut Writer) {
    set(keys, "contract.text", text("some text"));
    set(keys, "contract.u8", Value::U8(200));
    set(keys, "contract.i64", Value::I64(-5_000_000_000));
    set(keys, "contract.f32", Value::F32(0.1));
    set(keys, "contract.f64", Value::F64(1e-300));
    set(keys, "contract.bool", Value::Bool(true));
    set(keys, "contract.numbers", Value::Array(Array::I32(vec![1, 2, 3])));
    set(keys, "contract.texts", strings(["a", "b\"c"]));
    set(keys, "tokenizer.chat_template", text("{{ '<|im_start|>' }}"));
    set(keys, "tokenizer.chat_template.tool_use", text("of tools"));
    set(keys, "general.sampling.temp", Value::F32(0.5));
}

fn llama(edit: impl FnOnce(&mut Writer, &mut Vec<Tensor>)) -> Vec<u8> {
    tiny::edited_bytes(&tiny::spec("gqa"), |keys, tensors| {
        metadata(keys);
        edit(keys, tensors);
    })
}

/// A folder with all of them.
pub(crate) fn folder() -> PathBuf {
    let folder = scratch("contract-models");
    let put = |name: &str, bytes: &[u8]| keep(&folder.join(name), bytes);
    let plain = llama(|_, _| ());
    put("llama.gguf", &plain);
    put("pieces.gguf", &llama(|keys, _| sentencepiece(keys)));
    put("window.gguf", &tiny_archs::bytes(&tiny_archs::spec("gemma2")));
    put("bert.gguf", &tiny_archs::bytes(&tiny_archs::spec("bert")));
    put("rank.gguf", &tiny_archs::bytes(&tiny_archs::spec("qwen3-reranker")));
    put("lora.gguf", &tiny_lora::pair(&plain, 7)[0]);
    put("cut.gguf", &plain[..plain.len() - 100]);
    put("words.txt", b"not a model");
    folder
}
