//! Pre-tokenizers: the words of each family against its expressions, and the ids that follow from
//! each name against llama.cpp.

#[path = "vocab_support/expressions.rs"]
mod expressions;
mod vocab_support;

use std::collections::HashSet;

use expressions::{Expressions, FAMILIES};
use powerinfer::vocab::{Token, pre_tokenize};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

/// Pieces of text that meet every branch of the expressions.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}\u{200b}\u{feff}]{1,4}",
        4 => " {1,20}",
        2 => "[\r\n]{1,3}",
        1 => "[!.]{1,2}[\r\n/]{1,3}",
        4 => "'(s|t|re|ve|m|ll|d|S|T|RE|Ve|M|lL|D|x|r|v|l|ſ)?",
        4 => "[a-zA-Zéßñжя你好가اक]{1,4}",
        4 => "[aBzZÀñЖ一ǅªʰ\u{301}]{1,8}",
        4 => "[a \u{301}\u{93f}\u{200b}\u{e0100}]{1,6}",
        4 => "[0-9]{1,12}",
        3 => "[0-9²½٣५Ⅷ〇一]{1,5}",
        3 => "[!-/:-@_~`^|“”…—€+=<>🦙👍🏽\u{200d}\u{fe0f}\u{301}\u{93f}]{1,4}",
        3 => "[。、（）「」ーゝ・ァがㄅㆍᄀ！～‘…।۔،]{1,4}",
        3 => vec(any::<char>(), 1..4).prop_map(String::from_iter),
        2 => vec(proptest::char::range('\u{80}', '\u{33ff}'), 1..4).prop_map(String::from_iter),
        1 => prop::sample::select(vec![
            "<sentinel:12>", "<sentinel:>", "IMGIMGABCZ", "IMGIMGABCDEZ", "IMGIMGZ", "你 好 a b",
        ])
        .prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn words_are_those_of_the_expressions() {
    for family in Expressions::all() {
        let config = Config { failure_persistence: None, ..Config::with_cases(400) };
        let name = family.name;
        let check = |text: String| {
            prop_assume!(family.knows(&text));
            let want = family.words(&text).expect("short texts are no trouble");
            let got = pre_tokenize(name, text.as_bytes()).unwrap();
            let got: Vec<&str> = got.iter().map(|w| std::str::from_utf8(w).unwrap()).collect();
            prop_assert_eq!(got, want, "{}", name);
            Ok(())
        };
        TestRunner::new_with_rng(config.clone(), rng()).run(&text(), check).unwrap();
    }
}

fn rng() -> proptest::test_runner::TestRng {
    proptest::test_runner::TestRng::deterministic_rng(Default::default())
}

#[test]
fn words_of_any_bytes_make_up_the_text() {
    let config = Config { failure_persistence: None, ..Config::with_cases(60) };
    let bytes = vec(any::<u8>(), 0..64);
    let check = |bytes: Vec<u8>| {
        let whole = pre_tokenize("gemma4", &bytes).unwrap().concat();
        for (name, _) in FAMILIES {
            let words = pre_tokenize(name, &bytes).unwrap();
            prop_assert!(words.iter().all(|word| !word.is_empty()), "{}", name);
            prop_assert_eq!(words.concat(), &whole[..], "{}", name);
        }
        Ok(())
    };
    TestRunner::new_with_rng(config, rng()).run(&bytes, check).unwrap();
}

/// A splitter that looks ahead without bounds would take minutes here.
#[test]
fn much_of_one_thing() {
    let units = [
        "a",
        "A",
        " ",
        "\n",
        "\r\n",
        "7",
        "٣",
        "🦙",
        "\u{301}",
        "\u{200b}",
        "一",
        "é",
        "'s",
        "!",
        "a ",
        " 7",
        "aB",
        "éB",
        "\u{3000}",
        "IMGIMG",
        "<sentinel:1",
        "  a",
        "1a",
        "\u{301}B",
    ];
    for unit in units {
        let text = unit.repeat((1 << 16) / unit.len());
        for (name, _) in FAMILIES {
            let words = pre_tokenize(name, text.as_bytes()).unwrap();
            assert_eq!(words.iter().map(Vec::len).sum::<usize>(), text.len(), "{name} {unit:?}");
        }
    }
}

/// One word of a megabyte, spelt by bytes and by characters.
#[test]
fn a_megabyte_of_one_letter() {
    for name in ["superbpe", "gemma4"] {
        let vocab = vocab_support::gpt2_with("tokenizer.ggml.pre", name);
        let n = 1 << 20;
        for unit in ["a", "7", "abcdefgh"] {
            let text = unit.repeat(n / unit.len());
            let tokens = vocab.tokenize(text.as_bytes(), false, false).unwrap();
            let back = vocab.join_pieces(&tokens, false, false);
            assert!(back == text.as_bytes(), "{name} {unit}");
        }
    }
}

#[test]
fn families_are_all_known_and_others_are_not() {
    let names: HashSet<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for name in ["gpt2", "llama", "Qwen2", "no such"] {
        assert!(pre_tokenize(name, b"").is_none());
    }
}

/// FNV-1a over the ids, cut to 32 bits: how the golden tells ids apart.
fn fnv(ids: &[Token]) -> u64 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    let hash = bytes.fold(0xcbf29ce484222325, |hash: u64, byte| {
        (hash ^ byte as u64).wrapping_mul(0x100000001b3)
    });
    hash & 0xffff_ffff
}

/// The committed GPT-2 vocabulary under every name that llama.cpp knows. The golden is written by
/// `tests/tools/vocab_golden.py --pre`.
#[test]
fn ids_and_options_of_every_name() {
    let data = vocab_support::repository().join("tests/data/vocabs");
    let golden: Value =
        serde_json::from_slice(&std::fs::read(data.join("pre.json")).unwrap()).unwrap();
    let list = |key: &str| golden[key].as_array().unwrap();
    let texts: Vec<Vec<u8>> =
        list("texts").iter().map(|hex| vocab_support::bytes(hex.as_str().unwrap())).collect();
    let names = golden["names"].as_object().unwrap();
    assert!(names.len() > 90 && texts.len() > 100, "{} names, {} texts", names.len(), texts.len());
    for (name, want) in names {
        let vocab = vocab_support::gpt2_with("tokenizer.ggml.pre", name);
        let add = [vocab.add_bos(), vocab.add_eos(), vocab.add_sep()];
        assert_eq!(Value::from(add.to_vec()), want["add"], "{name}");
        assert_eq!(vocab.special_ids().bos.unwrap_or(-1), want["bos"], "{name}");
        assert_eq!(vocab.special_ids().nl.unwrap_or(-1), want["nl"], "{name}");
        let cleaned = vocab.detokenize(&[995, 764, 705, 82, 5145], false, false);
        assert_eq!(cleaned, vocab_support::bytes(want["cleaned"].as_str().unwrap()), "{name}");
        let hashes = list("ids")[want["ids"].as_u64().unwrap() as usize].as_array().unwrap();
        assert_eq!(hashes.len(), texts.len());
        for (text, hash) in texts.iter().zip(hashes) {
            let text = match name.as_str() {
                // llama.cpp stops the process at white space in a word.
                "whitespace" => &text.iter().copied().filter(|b| !b" \n".contains(b)).collect(),
                _ => text,
            };
            let ids = vocab.tokenize(text, false, false).unwrap();
            assert_eq!(fnv(&ids), hash.as_u64().unwrap(), "{name}: {}", text.escape_ascii());
        }
    }
}
