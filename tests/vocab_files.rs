//! Token ids of real vocabularies on llama.cpp's own test texts: `NAME.gguf.inp` has the texts,
//! `NAME.gguf.out` the ids, one line a text. Those of GPT-2, Phi 3 and BGE are in the
//! repository, the others are extra data.

mod vocab_support;

use std::path::Path;

use powerinfer::vocab::{Token, VocabType};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn check(gguf: &Path) {
    let vocab = vocab_support::vocab(gguf);
    let read = |suffix| {
        let path = format!("{}.{suffix}", gguf.display());
        String::from_utf8(std::fs::read(path).unwrap()).unwrap()
    };
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split(SEPARATOR).collect();
    let lines: Vec<&str> = ids.lines().collect();
    assert!(texts.len() > 30, "{} texts", texts.len());
    assert_eq!(texts.len() - 1, lines.len(), "texts and lines of ids");
    for (text, line) in texts.iter().zip(lines) {
        let want: Vec<Token> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let got = vocab.tokenize(text.as_bytes(), false, false).unwrap();
        assert_eq!(got, want, "{}: {text:?}", gguf.display());
        if vocab.kind() != VocabType::Wpm {
            let back = vocab.join_pieces(&got, false, false);
            assert_eq!(String::from_utf8_lossy(&back), **text, "{}", gguf.display());
        }
    }
}

#[test]
fn gpt2_ids() {
    check(&vocab_support::repository().join("tests/data/vocabs/ggml-vocab-gpt-2.gguf"));
}

#[test]
fn llama3_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-llama-bpe.gguf") {
        check(&file);
    }
}

#[test]
fn starcoder_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-starcoder.gguf") {
        check(&file);
    }
}

#[test]
fn phi3_ids() {
    check(&vocab_support::repository().join("tests/data/vocabs/ggml-vocab-phi-3.gguf"));
}

#[test]
fn bert_bge_ids() {
    check(&vocab_support::repository().join("tests/data/vocabs/ggml-vocab-bert-bge.gguf"));
}

/// The prompts of the model's reference logits.
#[test]
fn gemma3_prompts() {
    let file = vocab_support::extra("data/golden/llamacpp-gemma3.json");
    let (Some(file), Some(model)) = (file, vocab_support::gemma3()) else { return };
    let vocab = vocab_support::vocab(&model);
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let prompts = golden["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 12);
    for prompt in prompts {
        let text = prompt["text"].as_str().unwrap();
        let got = vocab.tokenize(text.as_bytes(), true, false).unwrap();
        assert_eq!(serde_json::json!(got), prompt["tokens"], "{text:?}");
    }
}

#[test]
fn llama2_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-llama-spm.gguf") {
        check(&file);
    }
}

#[test]
fn qwen2_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-qwen2.gguf") {
        check(&file);
    }
}

#[test]
fn falcon_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-falcon.gguf") {
        check(&file);
    }
}

#[test]
fn deepseek_llm_ids() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-deepseek-llm.gguf") {
        check(&file);
    }
}
