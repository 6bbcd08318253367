//! Vocabularies that are odd, broken or meant to break something.

mod vocab_support;

use powerinfer::gguf::{self, Array, Magic, Value, Writer};
use powerinfer::vocab::{Error, TokenAttr, Vocab, VocabType};
use proptest::prelude::*;

/// A small byte-level vocabulary that is in order, to be spoilt.
fn small() -> Writer {
    let mut file = Writer::new(Magic::Gguf);
    file.set("general.architecture", Value::Str("llama".into())).unwrap();
    file.set("tokenizer.ggml.model", Value::Str("gpt2".into())).unwrap();
    file.set("tokenizer.ggml.pre", Value::Str("gpt-2".into())).unwrap();
    file.set("tokenizer.ggml.tokens", texts(["a", "b", "c", "ab", "abc", "Ġ", "<s>"])).unwrap();
    file.set("tokenizer.ggml.token_type", ints([1, 1, 1, 1, 1, 1, 3])).unwrap();
    file.set("tokenizer.ggml.merges", texts(["a b", "ab c"])).unwrap();
    file
}

fn texts<const N: usize>(list: [&str; N]) -> Value {
    Value::Array(Array::Str(list.into_iter().collect()))
}

fn ints<const N: usize>(list: [i32; N]) -> Value {
    Value::Array(Array::I32(list.to_vec()))
}

fn read(file: &Writer) -> Result<Vocab, Error> {
    let bytes = file.header().unwrap();
    Vocab::from_meta(&gguf::parse(&bytes, "test").unwrap().meta)
}

/// The small vocabulary with one key changed, or removed.
fn spoilt(key: &str, value: Option<Value>) -> Result<Vocab, Error> {
    let mut file = small();
    match value {
        Some(value) => file.set(key, value).unwrap(),
        None => {
            file.remove(key).unwrap();
        }
    }
    read(&file)
}

fn message(result: Result<Vocab, Error>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn the_small_vocabulary_is_in_order() {
    let vocab = read(&small()).unwrap();
    assert_eq!(vocab.kind(), VocabType::Bpe);
    assert_eq!(vocab.tokenize(b"abcab<s>ca", false, true).unwrap(), [4, 3, 6, 2, 0]);
    assert_eq!(
        vocab.tokenize(b"xyz", false, true).unwrap(),
        [0; 0],
        "bytes without a token vanish"
    );
    assert_eq!(vocab.special_ids().bos, None, "the default id 11 is no token here");
}

#[test]
fn unsupported_kinds_are_refused_by_name() {
    for name in ["", "GPT2", "spm"] {
        let value = Some(Value::Str(name.into()));
        let want = format!("unsupported tokenizer '{name}'");
        assert_eq!(message(spoilt("tokenizer.ggml.model", value)), want);
    }
    for name in ["gpt2", "Qwen2", "no such"] {
        let value = Some(Value::Str(name.into()));
        let want = format!("unsupported pre-tokenizer '{name}'");
        assert_eq!(message(spoilt("tokenizer.ggml.pre", value)), want);
    }
    for missing in [None, Some(Value::Str("".into())), Some(Value::Str("default".into()))] {
        spoilt("tokenizer.ggml.pre", missing).expect("the default pre-tokenizer");
    }
}

#[test]
fn missing_and_mistyped_keys_are_named() {
    for key in ["tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"] {
        assert!(message(spoilt(key, None)).contains(key));
        assert!(message(spoilt(key, Some(Value::Bool(true)))).contains(key));
    }
    for key in ["tokens", "merges", "scores", "token_type", "suppress_tokens"] {
        let key = format!("tokenizer.ggml.{key}");
        let wrong = match key.ends_with("tokens") || key.ends_with("merges") {
            true if !key.contains("suppress") => ints([1, 2]),
            _ => texts(["x"]),
        };
        assert!(message(spoilt(&key, Some(wrong))).contains(&key));
    }
    for key in ["bos_token_id", "add_bos_token", "add_space_prefix"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(message(spoilt(&key, Some(Value::Str("1".into())))).contains(&key));
    }
}

#[test]
fn arrays_must_cover_all_tokens() {
    let short = spoilt("tokenizer.ggml.token_type", Some(ints([1, 1])));
    assert_eq!(
        message(short),
        "tokenizer.ggml.token_type has 2 values, expected one for each of the 7 tokens"
    );
    let scores = Value::Array(Array::F32(vec![1.0; 3]));
    assert!(message(spoilt("tokenizer.ggml.scores", Some(scores))).contains("3 values"));
    let more = ints([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let vocab = spoilt("tokenizer.ggml.scores", Some(more)).unwrap();
    assert_eq!(vocab.score(6), Some(7.0), "whole numbers are scores too");
}

#[test]
fn duplicate_and_empty_tokens() {
    let twice = spoilt("tokenizer.ggml.tokens", Some(texts(["a", "b", "c", "d", "b", "e", "f"])));
    assert_eq!(message(twice), "duplicate token in vocabulary: 'b' has ids 1 and 4");
    let empty = spoilt("tokenizer.ggml.tokens", Some(texts(["a", "", "c", "", "e", "f", "g"])));
    let vocab = empty.unwrap();
    assert_eq!(vocab.text(3), Some(&b"[EMPTY_3]"[..]));
    assert_eq!(vocab.text_with_nul(0), Some(&b"a\0"[..]));
}

#[test]
fn a_vocabulary_without_tokens_works() {
    let mut file = small();
    file.set("tokenizer.ggml.tokens", texts([])).unwrap();
    let vocab = read(&file).unwrap();
    assert_eq!(vocab.n_tokens(), 0);
    assert_eq!(vocab.tokenize(b"abc abc", true, true).unwrap(), [0; 0]);
    assert_eq!(vocab.special_ids().nl, None);
    file.set("tokenizer.ggml.model", Value::Str("test".into())).unwrap();
    assert_eq!(read(&file).unwrap().tokenize(b"abc abc", true, true).unwrap(), [0; 0]);
}

#[test]
fn merges_that_make_no_sense_do_nothing() {
    let odd = texts(["", " ", "  ", "a", "a ", " a", "a b", "a b c", "ab c", "\0 \0", "a b"]);
    let vocab = spoilt("tokenizer.ggml.merges", Some(odd)).unwrap();
    assert_eq!(vocab.tokenize(b"abc ab", false, false).unwrap(), [4, 5, 3]);
}

#[test]
fn special_ids_that_are_no_tokens_are_ignored() {
    for id in [7, 1 << 20, u32::MAX] {
        let vocab = spoilt("tokenizer.ggml.bos_token_id", Some(Value::U32(id))).unwrap();
        assert_eq!(vocab.special_ids().bos, None);
    }
    let suppressed = ints([-1, 3, 7, i32::MAX, i32::MIN, 0]);
    let vocab = spoilt("tokenizer.ggml.suppress_tokens", Some(suppressed)).unwrap();
    assert_eq!(vocab.suppressed_tokens(), [3, 0]);
}

#[test]
fn a_token_to_add_must_be_known() {
    let added = spoilt("tokenizer.ggml.add_bos_token", Some(Value::Bool(true)));
    assert_eq!(
        message(added),
        "tokenizer.ggml.add_bos_token is true, but tokenizer.ggml.bos_token_id is not set"
    );
    let mut file = small();
    file.set("tokenizer.ggml.add_bos_token", Value::Bool(true)).unwrap();
    file.set("tokenizer.ggml.add_eos_token", Value::Bool(true)).unwrap();
    file.set("tokenizer.ggml.bos_token_id", Value::U32(6)).unwrap();
    file.set("tokenizer.ggml.eos_token_id", Value::U32(2)).unwrap();
    let vocab = read(&file).unwrap();
    assert_eq!(vocab.tokenize(b"", true, false).unwrap(), [6, 2]);
    assert!(vocab.is_eog(2) && !vocab.is_eog(6) && !vocab.is_eog(-1));
}

#[test]
fn ids_that_are_no_tokens_have_nothing() {
    let vocab = read(&small()).unwrap();
    for token in [-1, 7, i32::MAX, i32::MIN] {
        assert_eq!(vocab.text(token), None);
        assert_eq!(vocab.attr(token), None);
        assert_eq!(vocab.score(token), None);
        assert_eq!(vocab.token_to_piece(token, 0, true), None);
        assert!(!vocab.is_eog(token) && !vocab.is_control(token));
    }
    assert_eq!(vocab.detokenize(&[-1, 4, 7, 5, 0, i32::MIN], true, true), b"abc a");
    assert_eq!(vocab.attr(6), Some(TokenAttr::CONTROL));
    assert_eq!(vocab.find("Ġ".as_bytes()), Some(5));
    assert_eq!(vocab.find("Ċ".as_bytes()), None, "known to the merges, but no token");
}

#[test]
fn a_model_without_vocabulary() {
    for name in ["none", "no_vocab"] {
        let mut file = small();
        file.set("tokenizer.ggml.model", Value::Str(name.into())).unwrap();
        file.set("llama.vocab_size", Value::U32(32000)).unwrap();
        let vocab = read(&file).unwrap();
        assert_eq!(vocab.kind(), VocabType::None);
        assert_eq!(vocab.n_tokens(), 32000);
        assert_eq!(vocab.text(1), None);
        assert_eq!(vocab.special_ids().bos, None);
        assert!(matches!(vocab.tokenize(b"x", true, true), Err(Error::NoVocab)));
        assert_eq!(vocab.detokenize(&[1, 2], false, true), b"");
    }
}

/// llama.cpp spells out each character that is no byte, with the whole token: the square of its
/// length.
#[test]
fn undecodable_tokens_do_not_eat_all_memory() {
    let long = "一".repeat(1 << 20);
    let vocab =
        spoilt("tokenizer.ggml.tokens", Some(texts(["一a", &long, "c", "ab", "e", "f", "g"])));
    let vocab = vocab.unwrap();
    assert_eq!(vocab.token_to_piece(0, 0, false), Some("[UNK_BYTE_0xe4b880一a]a".as_bytes()));
    assert!(vocab.token_to_piece(1, 0, false).unwrap().len() < 32 << 20);
}

/// More text of special tokens than is worth an automaton.
#[test]
fn very_long_special_tokens_are_found() {
    let long = "x".repeat(5 << 20);
    let mut file = small();
    let tokens = ["a", "b", "c", "ab", "abc", &long, "<s>"];
    file.set("tokenizer.ggml.tokens", texts(tokens)).unwrap();
    file.set("tokenizer.ggml.token_type", ints([1, 1, 1, 1, 1, 4, 3])).unwrap();
    let vocab = read(&file).unwrap();
    let text = format!("ab<s>{long}<s>c");
    assert_eq!(vocab.tokenize(text.as_bytes(), false, true).unwrap(), [3, 6, 5, 6, 2]);
}

/// Quadratic merging would take an hour here.
#[test]
fn a_megabyte_of_one_letter_or_space() {
    let vocab = vocab_support::gpt2();
    let n = 1 << 20;
    assert_eq!(vocab.tokenize(&vec![b'a'; n], false, false).unwrap().len(), n / 4);
    assert_eq!(vocab.tokenize(&vec![0xff; n], false, false).unwrap().len(), n / 4);
    let letters = b"abcdefghijklmnopqrstuvwxyz".repeat(n / 26);
    let tokens = vocab.tokenize(&letters, false, false).unwrap();
    assert_eq!(vocab.join_pieces(&tokens, false, false), letters);
}

#[test]
fn vocabularies_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let vocab = vocab_support::gpt2();
    shared(&vocab);
    let want = vocab.tokenize(b"the same for all", false, false).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let got = vocab.tokenize(b"the same for all", false, false).unwrap();
                    assert_eq!(got, want);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn text_comes_back(texts in prop::collection::vec(".{0,60}", 20)) {
        let vocab = vocab_support::gpt2();
        for text in texts {
            let tokens = vocab.tokenize(text.as_bytes(), false, false).unwrap();
            prop_assert_eq!(vocab.join_pieces(&tokens, false, false), text.as_bytes());
        }
    }

    #[test]
    fn any_bytes_and_any_tokens_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), tokens in prop::collection::vec(-2..60000i32, 0..50)) {
        let vocab = read(&small()).unwrap();
        for (add, parse) in [(false, false), (true, true)] {
            let got = vocab.tokenize(&bytes, add, parse).unwrap();
            prop_assert!(got.iter().all(|&token| vocab.text(token).is_some()));
            vocab.detokenize(&tokens, add, parse);
        }
    }
}
