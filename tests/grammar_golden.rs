//! Grammars against llama.cpp itself: the same grammars are refused, and where they allow tokens
//! they allow the same ones.
//!
//! `tests/data/grammar.json` comes from `tests/tools/grammar_goldens.py`.

mod vocab_support;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use powerinfer::grammar::{Grammar, Triggers};
use powerinfer::sampler::{self, Candidates, Sampler};
use powerinfer::vocab::{Token, Vocab};
use serde_json::Value;

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = vocab_support::repository().join("tests/data/grammar.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

fn vocab(name: &str) -> Arc<Vocab> {
    let path = vocab_support::repository().join("tests/data/vocabs").join(name);
    Arc::new(vocab_support::vocab(&path))
}

fn compile(vocab: &Vocab, text: &[u8]) -> Arc<Grammar> {
    Arc::new(Grammar::parse(text, b"root", Some(vocab)).unwrap())
}

fn numbers(list: &Value) -> Vec<Token> {
    serde_json::from_value(list.clone()).unwrap()
}

/// The tokens among `candidates` that the sampler leaves alone.
fn allowed(sampler: &mut dyn Sampler, candidates: impl Iterator<Item = Token>) -> Vec<Token> {
    let row = |id| sampler::TokenData { id, logit: 0.0, p: 0.0 };
    let mut rows: Vec<_> = candidates.map(row).collect();
    sampler.apply(&mut Candidates::new(&mut rows));
    assert!(rows.iter().all(|row| row.logit == 0.0 || row.logit == f32::NEG_INFINITY));
    rows.iter().filter(|row| row.logit == 0.0).map(|row| row.id).collect()
}

/// Follows a walk and says where it differs.
fn follow(vocab: &Vocab, sampler: &mut dyn Sampler, walk: &Value) -> Result<(), String> {
    let n_tokens = vocab.n_tokens() as Token;
    let tokens = numbers(&walk["tokens"]);
    let counts = numbers(&walk["counts"]);
    assert!(!counts.is_empty());
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (step, &count) in counts.iter().enumerate() {
        // Few at a time must be treated like all at once, and leave no trace.
        let few = n_tokens / 100;
        let some = (0..few).map(|i| (i * 97 + step as Token) % n_tokens);
        let one_by_one = allowed(&mut *sampler.clone_box(), some.clone());
        let ids = allowed(sampler, 0..n_tokens);
        let expected: Vec<Token> = some.filter(|id| ids.binary_search(id).is_ok()).collect();
        if one_by_one != expected {
            return Err(format!("step {step}: alone {one_by_one:?}, among all {expected:?}"));
        }
        for id in [ids.len() as Token].iter().chain(&ids) {
            hash = (hash ^ *id as u64).wrapping_mul(0x0100_0000_01b3);
        }
        if ids.len() != count as usize {
            let first = &ids[..ids.len().min(20)];
            return Err(format!("step {step}: {} allowed, expected {count}; {first:?}", ids.len()));
        }
        if let Some(&token) = tokens.get(step) {
            sampler.accept(token);
        }
    }
    let expected = walk["hash"].as_str().unwrap();
    let found = format!("{hash:016x}");
    if found == expected { Ok(()) } else { Err(format!("hash {found}, expected {expected}")) }
}

#[test]
fn the_same_tokens_are_allowed_at_every_step() {
    let mut vocabs: HashMap<&str, Arc<Vocab>> = HashMap::new();
    let mut wrong = Vec::new();
    let walks = GOLDEN["walks"].as_array().unwrap();
    assert!(walks.len() > 100, "{}", walks.len());
    for (i, walk) in walks.iter().enumerate() {
        let name = walk["vocab"].as_str().unwrap();
        let vocab = vocabs.entry(name).or_insert_with(|| vocab(name));
        let grammar = walk["grammar"].as_str().unwrap();
        let text = vocab_support::bytes(GOLDEN["grammars"][grammar].as_str().unwrap());
        let mut sampler = sampler::Grammar::new(Arc::clone(vocab), compile(vocab, &text), None);
        if let Err(error) = follow(vocab, &mut sampler, walk) {
            wrong.push(format!("walk {i}, {grammar} with {name}: {error}"));
        }
        // And once more from the start.
        sampler.reset();
        follow(vocab, &mut sampler, walk).unwrap_or_else(|e| wrong.push(format!("again: {e}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lazy_grammars_start_at_the_same_token() {
    let vocab = vocab("ggml-vocab-gpt-2.gguf");
    let mut wrong = Vec::new();
    for (i, walk) in GOLDEN["lazy"].as_array().unwrap().iter().enumerate() {
        let texts: Vec<String> = serde_json::from_value(walk["triggers"].clone()).unwrap();
        let texts = texts.iter().map(String::as_bytes);
        let tokens = numbers(&walk["trigger_tokens"]);
        let triggers = match walk["kind"].as_str().unwrap() {
            "words" => Triggers::new([&Triggers::words_pattern(texts)[..]], &tokens),
            _ => Triggers::new(texts, &tokens),
        };
        let grammar = compile(&vocab, walk["grammar"].as_str().unwrap().as_bytes());
        let mut sampler =
            sampler::Grammar::new(Arc::clone(&vocab), grammar, Some(triggers.unwrap()));
        for _ in 0..2 {
            let done = follow(&vocab, &mut sampler, walk);
            done.unwrap_or_else(|error| wrong.push(format!("lazy {i}: {error}")));
            sampler.reset();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn patterns_match_as_those_of_cpp() {
    let vocab = vocab("ggml-vocab-gpt-2.gguf");
    // The first 256 tokens are the bytes.
    let token = |byte: u8| {
        let is_it = |&id: &Token| vocab.token_to_piece(id, 0, true) == Some(&[byte]);
        (0..256).find(is_it).unwrap()
    };
    let grammar = compile(&vocab, br#"root ::= [^\x01]* "\x01""#);
    let texts: Vec<String> = serde_json::from_value(GOLDEN["pattern_texts"].clone()).unwrap();
    let eos = vocab.special_ids().eos.unwrap();
    let mut wrong = Vec::new();
    for case in GOLDEN["patterns"].as_array().unwrap() {
        let pattern = case["pattern"].as_str().unwrap();
        let Ok(triggers) = Triggers::new([pattern.as_bytes()], &[]) else {
            wrong.push(format!("{pattern} is refused"));
            continue;
        };
        let start = sampler::Grammar::new(Arc::clone(&vocab), Arc::clone(&grammar), Some(triggers));
        for (text, expected) in texts.iter().zip(numbers(&case["starts"])) {
            let mut sampler = start.clone();
            let found = text.bytes().position(|byte| {
                sampler.accept(token(byte));
                allowed(&mut sampler, [eos].into_iter()).is_empty()
            });
            let found = found.map_or(-1, |at| at as Token);
            if found != expected {
                wrong.push(format!("{pattern} in {text:?}: at {found}, expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_grammars_are_refused() {
    let vocab = vocab("ggml-vocab-gpt-2.gguf");
    let mut wrong = Vec::new();
    let mut n_refused = 0;
    for parse in GOLDEN["parses"].as_array().unwrap() {
        let text = |key: &str| parse[key].as_str().unwrap();
        let (grammar, root) = (text("grammar"), text("root"));
        if grammar.is_empty() {
            continue; // the sampler's affair: it allows everything
        }
        let found = Grammar::parse(grammar.as_bytes(), root.as_bytes(), Some(&vocab));
        let expected = parse["ok"].as_bool().unwrap();
        n_refused += usize::from(!expected);
        if found.is_ok() != expected {
            let found = found.map_or_else(|error| error.to_string(), |_| "accepted".to_owned());
            wrong.push(format!("{grammar:?} from {root:?}: {found}"));
        }
    }
    assert!(n_refused >= 60, "{n_refused}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
