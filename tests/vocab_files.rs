//! Token ids of real vocabularies on llama.cpp's own test texts: `NAME.gguf.inp` has the texts,
//! `NAME.gguf.out` the ids, one line a text. GPT-2's files are in the repository, the others are
//! extra data.

mod vocab_support;

use std::path::Path;

use powerinfer::vocab::Token;

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
        let back = vocab.join_pieces(&got, false, false);
        assert_eq!(String::from_utf8_lossy(&back), **text, "{}", gguf.display());
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

#[test]
fn others_are_refused_by_name() {
    for (file, message) in [("bert-bge", "unsupported tokenizer 'bert'")] {
        let path = format!("data/vocabs/ggml-vocab-{file}.gguf");
        let Some(path) = vocab_support::extra(&path) else { continue };
        let bytes = std::fs::read(&path).unwrap();
        let header = powerinfer::gguf::parse(&bytes, file).unwrap();
        let error = powerinfer::vocab::Vocab::from_meta(&header.meta).err().unwrap();
        assert_eq!(error.to_string(), message);
    }
}
