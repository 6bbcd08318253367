//! The model's tokenizer: another file's, or a small one of bytes.

use std::path::Path;

use powerinfer::gguf::{Array, LoadOptions, ModelFiles, StrArray, Value};

use crate::Error;

/// Keys of a tokenizer, and how many tokens it has.
pub type Tokenizer = (Vec<(String, Value)>, usize);

const TOKENS: &str = "tokenizer.ggml.tokens";

/// The tokenizer of a file, without its chat template.
pub fn copied(path: &Path) -> Result<Tokenizer, Error> {
    let options = LoadOptions { vocab_only: true, ..LoadOptions::default() };
    let files = ModelFiles::open(path, &options)?;
    let n = files.meta().require_strs(TOKENS)?.len();
    let ours = |key: &str| key.starts_with("tokenizer.") && !key.contains("chat_template");
    let keys = files.meta().iter().filter(|(key, _)| ours(key));
    Ok((keys.map(|(key, value)| (key.to_owned(), value.clone())).collect(), n))
}

/// SentencePiece with three control tokens, the 256 bytes, the ASCII letters and, up to `n`
/// tokens, pairs and triples of letters.
pub fn bytes(n: usize) -> Result<Tokenizer, Error> {
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    let mut tokens: Vec<(String, i32)> =
        vec![("<unk>".into(), 2), ("<s>".into(), CONTROL), ("</s>".into(), CONTROL)];
    tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    let ascii = (b'!'..=b'~').map(|c| char::from(c).to_string());
    tokens.extend(std::iter::once("\u{2581}".to_owned()).chain(ascii).map(|piece| (piece, 1)));
    if n < tokens.len() {
        return Err(Error::Option(format!("--vocab-size of {} or more", tokens.len())));
    }
    let letters = || ('a'..='z').chain('A'..='Z');
    let pairs = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
    let triples = pairs.clone().flat_map(|ab| letters().map(move |c| format!("{ab}{c}")));
    let missing = n - tokens.len();
    tokens.extend(pairs.chain(triples).take(missing).map(|piece| (piece, 1)));
    if n > tokens.len() {
        return Err(Error::Option(format!("--vocab-size of at most {}", tokens.len())));
    }
    let texts: StrArray = tokens.iter().map(|(text, _)| text.as_bytes()).collect();
    // Shorter pieces are merged first.
    let scores = (0..n).map(|i| -(i as f32)).collect();
    let types = tokens.iter().map(|&(_, ty)| ty).collect();
    let keys = [
        ("tokenizer.ggml.model", Value::Str("llama".into())),
        ("tokenizer.ggml.pre", Value::Str("default".into())),
        (TOKENS, Value::Array(Array::Str(texts))),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ];
    Ok((keys.map(|(key, value)| (key.to_owned(), value)).into(), n))
}
