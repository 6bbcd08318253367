//! Ids, pieces and texts against llama.cpp: the files are written by tests/tools/vocab_golden.py.

mod vocab_support;

use std::fs;
use std::path::Path;

use powerinfer::vocab::{Token, Vocab};
use serde_json::Value;

/// Pairs of flags in the order of the files.
const FLAGS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn bytes(hex: &Value) -> Vec<u8> {
    vocab_support::bytes(hex.as_str().unwrap())
}

fn ids(list: &Value) -> Vec<Token> {
    list.as_array().unwrap().iter().map(|id| id.as_i64().unwrap() as Token).collect()
}

/// The entries of a list, which must not be empty.
fn entries<'a>(golden: &'a Value, key: &str) -> &'a [Value] {
    let list = golden[key].as_array().unwrap();
    assert!(!list.is_empty(), "{key}");
    list
}

fn show(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

fn check(vocab: &Vocab, golden: &Path) {
    let name = golden.display();
    let golden: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    check_facts(vocab, &golden["facts"]);
    for entry in entries(&golden, "tokenize") {
        let text = bytes(&entry[0]);
        for (i, (add_special, parse_special)) in FLAGS.into_iter().enumerate() {
            assert_eq!(
                vocab.tokenize(&text, add_special, parse_special).unwrap(),
                ids(&entry[1][i]),
                "{name}: \"{}\" add_special {add_special} parse_special {parse_special}",
                show(&text)
            );
        }
    }
    for entry in entries(&golden, "pieces") {
        let token = entry[0].as_i64().unwrap() as Token;
        let lstrip = entry[1].as_i64().unwrap() as i32;
        let got = vocab.token_to_piece(token, lstrip, entry[2].as_bool().unwrap()).unwrap();
        assert_eq!(show(got), show(&bytes(&entry[3])), "{name}: {entry}");
    }
    for entry in entries(&golden, "detokenize") {
        let tokens = ids(&entry[0]);
        for (i, (remove, unparse)) in FLAGS.into_iter().enumerate() {
            let (want, needed) = (bytes(&entry[1][i][0]), &entry[1][i][1]);
            let what = format!("{name}: {tokens:?} remove {remove} unparse {unparse}");
            assert_eq!(show(&vocab.detokenize(&tokens, remove, unparse)), show(&want), "{what}");
            let joined = vocab.join_pieces(&tokens, remove, unparse);
            assert_eq!(joined.len() as u64, needed.as_u64().unwrap(), "{what}");
        }
    }
}

fn check_facts(vocab: &Vocab, facts: &Value) {
    assert_eq!(vocab.n_tokens() as u64, facts["n_tokens"].as_u64().unwrap());
    assert_eq!(vocab.kind() as i64, facts["type"].as_i64().unwrap());
    let special = vocab.special_ids();
    for (role, want) in facts["roles"].as_object().unwrap() {
        let got = match role.as_str() {
            "bos" => special.bos,
            "eos" => special.eos,
            "eot" => special.eot,
            "sep" => special.sep,
            "nl" => special.nl,
            "pad" => special.pad,
            "mask" => special.mask,
            "fim_pre" => special.fim_pre,
            "fim_suf" => special.fim_suf,
            "fim_mid" => special.fim_mid,
            "fim_pad" => special.fim_pad,
            "fim_rep" => special.fim_rep,
            "fim_sep" => special.fim_sep,
            other => panic!("{other}"),
        };
        assert_eq!(got.unwrap_or(-1) as i64, want.as_i64().unwrap(), "{role}");
    }
    let add = [vocab.add_bos(), vocab.add_eos(), vocab.add_sep()];
    assert_eq!(Value::from(add.to_vec()), facts["add"], "add_bos, add_eos, add_sep");
    assert_eq!(vocab.eog_tokens(), ids(&facts["eog"]));
    let odd: Vec<Vec<i64>> = (0..vocab.n_tokens() as Token)
        .map(|token| vec![token as i64, vocab.attr(token).unwrap().bits() as i64])
        .filter(|entry| entry[1] != 4)
        .take(400)
        .collect();
    assert_eq!(
        Value::from(odd.into_iter().map(Value::from).collect::<Vec<_>>()),
        facts["attr_not_normal"]
    );
}

fn data(name: &str) -> std::path::PathBuf {
    vocab_support::repository().join("tests/data/vocabs").join(name)
}

#[test]
fn synthetic_vocabularies() {
    for name in [
        "overlap",
        "missing",
        "mask",
        "rstrip",
        "test",
        "spm",
        "spm-phi3",
        "wpm-accents",
        "wpm-cased",
        "wpm-plain",
        "ugm",
        "ugm-keep",
        "ugm-merge",
        "ugm-plain",
        "rwkv",
        "rwkv-ids",
        "plamo2",
        "plamo2-ids",
    ] {
        let vocab = vocab_support::vocab(&data(&format!("synthetic-{name}.gguf")));
        check(&vocab, &data(&format!("synthetic-{name}.json")));
    }
}

#[test]
fn gpt2() {
    check(&vocab_support::gpt2(), &data("gpt-2.json"));
}

#[test]
fn smollm2() {
    if let Some(model) = vocab_support::model() {
        check(&vocab_support::vocab(&model), &data("smollm2.json"));
    }
}

#[test]
fn llama3() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-llama-bpe.gguf") {
        check(&vocab_support::vocab(&file), &data("llama-bpe.json"));
    }
}

#[test]
fn phi3() {
    check(&vocab_support::vocab(&data("ggml-vocab-phi-3.gguf")), &data("phi-3.json"));
}

#[test]
fn bert_bge() {
    let vocab = vocab_support::vocab(&data("ggml-vocab-bert-bge.gguf"));
    check(&vocab, &data("bert-bge.json"));
    let golden: Value = serde_json::from_slice(&fs::read(data("bert-bge.json")).unwrap()).unwrap();
    let mut digest = 0u64;
    for c in '\0'..=char::MAX {
        for id in vocab.tokenize(format!("x{c}y").as_bytes(), false, false).unwrap() {
            digest = digest.wrapping_mul(31).wrapping_add(id as u64 + 1);
        }
    }
    assert_eq!(digest.to_string(), golden["facts"]["every_code_point"].as_str().unwrap());
}

#[test]
fn llama2() {
    if let Some(file) = vocab_support::extra("data/vocabs/ggml-vocab-llama-spm.gguf") {
        check(&vocab_support::vocab(&file), &data("llama-spm.json"));
    }
}

#[test]
fn gemma3() {
    if let Some(model) = vocab_support::gemma3() {
        check(&vocab_support::vocab(&model), &data("gemma3.json"));
    }
}

/// A longer golden made on the spot, see the script: `VOCAB_GOLDEN=golden.json:vocab.gguf`.
#[test]
fn golden_of_the_day() {
    let Some(given) = std::env::var_os("VOCAB_GOLDEN") else { return };
    for pair in given.to_str().unwrap().split(',') {
        let (golden, vocab) = pair.split_once(':').unwrap();
        check(&vocab_support::vocab(Path::new(vocab)), Path::new(golden));
    }
}
