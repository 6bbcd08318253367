//! Every kind of tokenizer: hostile vocabularies, long texts, and the C interface. The ids
//! themselves are held in vocab_golden.rs and vocab_files.rs.
#![allow(unsafe_code, reason = "calls the C interface")]

mod vocab_support;

use std::ffi::CString;
use std::ptr;

use powerinfer::ffi::types::*;
use powerinfer::ffi::{load::*, model::*, params::*, vocab::*};
use powerinfer::gguf::{self, Array, Magic, Value, Writer};
use powerinfer::vocab::{Error, Token, Vocab, VocabType};
use proptest::prelude::*;

const KINDS: [&str; 5] = ["llama", "bert", "t5", "rwkv", "plamo2"];

/// A vocabulary of a few tokens; those of PLaMo 2 have all bytes behind them.
fn small(kind: &str) -> Writer {
    let mut tokens: Vec<String> =
        ["<unk>", "<s>", "</s>", "a", "aa", "aaaa", "▁", "▁a", "▁b", "b", "ab", "ba", "\\n", "世"]
            .map(String::from)
            .to_vec();
    let mut types = vec![2, 3, 3];
    types.resize(tokens.len(), 1);
    if kind == "plamo2" {
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        types.resize(tokens.len(), 6);
    }
    let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
    let mut file = Writer::new(Magic::Gguf);
    file.set("general.architecture", Value::Str("llama".into())).unwrap();
    file.set("tokenizer.ggml.model", Value::Str(kind.into())).unwrap();
    set(&mut file, "tokens", Value::Array(Array::Str(tokens.iter().map(String::as_str).collect())));
    set(&mut file, "token_type", Value::Array(Array::I32(types)));
    set(&mut file, "scores", Value::Array(Array::F32(scores)));
    for (key, id) in [("bos", 1), ("eos", 2), ("seperator", 2), ("unknown", 0)] {
        set(&mut file, &format!("{key}_token_id"), Value::U32(id));
    }
    file
}

fn set(file: &mut Writer, key: &str, value: Value) {
    file.set(&format!("tokenizer.ggml.{key}"), value).unwrap();
}

fn texts(list: &[&str]) -> Value {
    Value::Array(Array::Str(list.iter().copied().collect()))
}

fn read(file: &Writer) -> Result<Vocab, Error> {
    let bytes = file.header().unwrap();
    Vocab::from_meta(&gguf::parse(&bytes, "test").unwrap().meta)
}

fn message(result: Result<Vocab, Error>) -> String {
    result.err().expect("an error").to_string()
}

fn synthetic(name: &str) -> Vocab {
    let file = format!("tests/data/vocabs/synthetic-{name}.gguf");
    vocab_support::vocab(&vocab_support::repository().join(file))
}

fn ids(vocab: &Vocab, text: &str) -> Vec<Token> {
    vocab.tokenize(text.as_bytes(), false, false).unwrap()
}

#[test]
fn small_vocabularies_are_in_order() {
    let kinds =
        [VocabType::Spm, VocabType::Wpm, VocabType::Ugm, VocabType::Rwkv, VocabType::Plamo2];
    // Merged by score, the longest from the left, the best sum, the longest, the best sum.
    let want: [&[Token]; 5] = [&[6, 5, 9], &[7, 4, 10], &[5, 9], &[5, 9], &[5, 9]];
    for ((name, kind), want) in KINDS.into_iter().zip(kinds).zip(want) {
        let vocab = read(&small(name)).unwrap();
        assert_eq!(vocab.kind(), kind);
        assert_eq!(ids(&vocab, "aaaab"), want, "{name}");
    }
}

#[test]
fn scores_may_be_missing_but_not_short() {
    for kind in KINDS {
        let mut file = small(kind);
        file.remove("tokenizer.ggml.scores").unwrap();
        let vocab = read(&file).unwrap();
        assert_eq!(vocab.score(5), Some(0.0));
        assert!(!ids(&vocab, "aaaab").is_empty(), "{kind}");
        set(&mut file, "scores", Value::Array(Array::F32(vec![-1.0; 13])));
        assert!(message(read(&file)).contains("tokenizer.ggml.scores has 13 values"), "{kind}");
        set(&mut file, "scores", texts(&["x"]));
        assert!(message(read(&file)).contains("tokenizer.ggml.scores"), "{kind}");
    }
}

#[test]
fn scores_that_are_no_numbers_end_nowhere() {
    for kind in KINDS {
        for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -1000.0] {
            let mut file = small(kind);
            let n = read(&file).unwrap().n_tokens();
            set(&mut file, "scores", Value::Array(Array::F32(vec![score; n])));
            let vocab = read(&file).unwrap();
            for text in ["", "aaaab", "ab ba 世界", "\u{feff}"] {
                let tokens = ids(&vocab, text);
                assert!(tokens.iter().all(|&t| vocab.attr(t).is_some()), "{kind} {score} {text}");
            }
        }
    }
}

#[test]
fn vocabularies_without_tokens() {
    for kind in KINDS {
        let mut file = small(kind);
        set(&mut file, "tokens", texts(&[]));
        set(&mut file, "add_bos_token", Value::Bool(false));
        set(&mut file, "add_eos_token", Value::Bool(false));
        set(&mut file, "add_sep_token", Value::Bool(false));
        if kind == "plamo2" {
            assert!(matches!(read(&file), Err(Error::NoByteToken { byte: 0 })));
            continue;
        }
        let vocab = read(&file).unwrap();
        assert_eq!(vocab.tokenize("ab 世\n\x00".as_bytes(), true, true).unwrap(), [0; 0], "{kind}");
        assert_eq!(vocab.special_ids().nl, None);
    }
}

#[test]
fn what_a_kind_adds_must_be_known() {
    for (kind, id, key) in [
        ("llama", "bos", "bos"),
        ("bert", "bos", "bos"),
        ("bert", "seperator", "sep"),
        ("t5", "eos", "eos"),
    ] {
        let mut file = small(kind);
        file.remove(&format!("tokenizer.ggml.{id}_token_id")).unwrap();
        // The ids that are taken for granted are no tokens of a vocabulary as small as this one.
        set(&mut file, "tokens", texts(&["x"]));
        let want = format!(
            "tokenizer.ggml.add_{key}_token is true, but tokenizer.ggml.{id}_token_id is not set"
        );
        let got = message(read(&file));
        assert!(got == want || id == "seperator" && got.contains("is not set"), "{kind}: {got}");
    }
    for kind in ["rwkv", "plamo2"] {
        let mut file = small(kind);
        set(&mut file, "add_bos_token", Value::Bool(true));
        let vocab = read(&file).unwrap();
        assert_eq!(vocab.tokenize(b"a", true, false).unwrap(), [3], "{kind} adds nothing");
    }
}

#[test]
fn text_without_tokens_is_unknown_or_left_out() {
    for kind in ["llama", "bert", "t5", "rwkv"] {
        let mut file = small(kind);
        let vocab = read(&file).unwrap();
        assert!(ids(&vocab, "zz").contains(&0), "{kind}");
        set(&mut file, "unknown_token_id", Value::U32(0));
        if kind == "rwkv" {
            file.remove("tokenizer.ggml.unknown_token_id").unwrap();
            assert_eq!(ids(&read(&file).unwrap(), "zazz"), [3], "it has no unknown token");
        }
    }
    let vocab = read(&small("plamo2")).unwrap();
    let byte = |byte: u8| 14 + byte as Token;
    assert_eq!(ids(&vocab, "é"), [byte(0xc3), byte(0xa9)]);
}

/// llama.cpp starts again at the beginning of the text when the way to a long token breaks off.
#[test]
fn rwkv_tokens_that_only_begin_to_match() {
    let mut file = small("rwkv");
    set(&mut file, "tokens", texts(&["<u>", "abc", "b"]));
    set(&mut file, "token_type", Value::Array(Array::I32(vec![2, 1, 1])));
    for key in ["bos", "eos", "seperator"] {
        file.remove(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
    }
    assert_eq!(ids(&read(&file).unwrap(), "abbabcab"), [0, 2, 2, 1, 0, 2]);
}

#[test]
fn plamo2_needs_a_token_for_every_byte() {
    let mut file = small("plamo2");
    let mut types = vec![1; 14 + 256];
    types[14..].fill(6);
    types[14 + 0x41] = 1;
    set(&mut file, "token_type", Value::Array(Array::I32(types)));
    let want = "no token for the byte 0x41, expected one of type BYTE with the text <0x41>";
    assert_eq!(message(read(&file)), want);
}

/// A charsmap of these units, with the replacement "x" at position 0 and none after it.
fn charsmap(units: &[u32], replacements: &[u8]) -> Value {
    let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
    units.iter().for_each(|unit| bytes.extend(unit.to_le_bytes()));
    bytes.extend(replacements);
    Value::Array(Array::U8(bytes))
}

fn with_charsmap(value: Value) -> Result<Vocab, Error> {
    let mut file = small("t5");
    set(&mut file, "precompiled_charsmap", value);
    read(&file)
}

#[test]
fn charsmaps_that_are_cut_short_or_mistyped() {
    for bytes in [&[][..], &[0; 3], &[0; 4], &[8, 0, 0, 0, 1, 2, 3, 4], &[0xff; 40]] {
        let error = message(with_charsmap(Value::Array(Array::U8(bytes.to_vec()))));
        assert!(error.starts_with("tokenizer.ggml.precompiled_charsmap is broken"), "{error}");
    }
    for value in [Value::U32(1), Value::Array(Array::I32(vec![0; 8]))] {
        assert!(message(with_charsmap(value)).contains("expected an array of u8"));
    }
    let signed = Value::Array(Array::I8(vec![0, 0, 0, 0, 120, 0]));
    assert_eq!(ids(&with_charsmap(signed).unwrap(), "ab"), [10]);
}

#[test]
fn charsmaps_that_lead_out_of_themselves() {
    // Children of the root at 1 ^ label; 'a' is at 96.
    let mut units = vec![0u32; 256];
    units[0] = 1 << 10;
    let a = 1 ^ b'a' as usize;
    // The key "a" is whole, its replacement at unit a ^ 130.
    units[a] = 130 << 10 | 1 << 8 | b'a' as u32;
    units[a ^ 130] = 1 << 31;
    let vocab = with_charsmap(charsmap(&units, b"b\0")).unwrap();
    assert_eq!(ids(&vocab, "aa"), [9, 9], "a becomes b");

    let fails = |units: &[u32], replacements: &[u8]| {
        let vocab = with_charsmap(charsmap(units, replacements)).unwrap();
        vocab.tokenize(b"xax", false, false).unwrap_err().to_string()
    };
    assert!(fails(&units, b"b").contains("no text ended by a NUL at position 0 of 1 bytes"));
    units[a ^ 130] = 1 << 31 | 77;
    assert!(fails(&units, b"b\0").contains("position 77 of 2 bytes"));
    units[a] = 0x1f_ffff << 10 | 1 << 8 | b'a' as u32;
    assert!(fails(&units, b"b\0").contains("but there are 256"));
    units[0] = 1 << 20;
    let root = with_charsmap(charsmap(&units, b"b\0"));
    assert!(message(root).contains("unit 1034 is asked for, but there are 256"));
}

/// Every 'a' leads back to the same unit: without a bound each look-up would read all the text.
#[test]
fn charsmaps_that_lead_round_in_circles() {
    let mut units = vec![0u32; 256];
    units[0] = 1 << 10;
    let a = 1 ^ b'a' as usize;
    units[a] = (a as u32 ^ 1) << 10 | b'a' as u32;
    let vocab = with_charsmap(charsmap(&units, b"b\0")).unwrap();
    let n = 1 << 16;
    assert_eq!(ids(&vocab, &"a".repeat(n)), vec![5; n / 4]);
}

/// Quadratic searching would take minutes to hours here.
#[test]
fn a_megabyte_of_one_letter() {
    let n = 1 << 20;
    for name in ["spm", "wpm-plain", "ugm", "ugm-plain", "rwkv", "plamo2"] {
        let vocab = synthetic(name);
        for text in [vec![b'a'; n], vec![b' '; n], vec![0xff; n], "世".repeat(n / 3).into_bytes()]
        {
            let tokens = vocab.tokenize(&text, false, true).unwrap();
            // U+FFFD for a damaged byte may be three byte tokens.
            assert!(tokens.len() <= 3 * n, "{name}");
            let back = vocab.join_pieces(&tokens, false, true);
            // Two spaces are a token here, of which the first space counts as put before the text.
            let spaces = name == "spm" && text[0] == b' ';
            if ["spm", "rwkv", "plamo2"].contains(&name) && text[0] != 0xff && !spaces {
                assert_eq!(back.len(), text.len(), "{name} {:#x}", text[0]);
            }
        }
    }
}

/// A token as long as the text, and all its halves.
#[test]
fn very_long_tokens() {
    for kind in KINDS {
        let mut file = small(kind);
        let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
        tokens.extend((0..15).map(|i| "a".repeat(1 << i)));
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        let mut types = vec![2, 3, 3];
        types.resize(3 + 15, 1);
        types.resize(tokens.len(), 6);
        let scores = (0..tokens.len()).map(|i| i as f32 / 1000.0).collect();
        let list = tokens.iter().map(String::as_str).collect();
        set(&mut file, "tokens", Value::Array(Array::Str(list)));
        set(&mut file, "token_type", Value::Array(Array::I32(types)));
        set(&mut file, "scores", Value::Array(Array::F32(scores)));
        set(&mut file, "add_space_prefix", Value::Bool(false));
        let vocab = read(&file).unwrap();
        let got = ids(&vocab, &"a".repeat((1 << 14) + (1 << 10)));
        match kind {
            "bert" => assert_eq!(got, [0], "no token begins a word"),
            "t5" | "plamo2" => assert!(!got.is_empty()),
            _ => assert_eq!(got, [17, 13], "{kind}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_and_any_tokens_are_taken(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        text in "[ ab世\u{e9}\n]{0,40}",
        tokens in prop::collection::vec(-2..300i32, 0..30),
        table in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        for kind in KINDS {
            let mut file = small(kind);
            let mut charsmap = vec![0, 4, 0, 0];
            charsmap.extend(&table);
            if table.len() > 1024 {
                set(&mut file, "precompiled_charsmap", Value::Array(Array::U8(charsmap)));
            }
            // A table of random bytes may be refused, at once or by a text.
            let Ok(vocab) = read(&file) else { continue };
            for text in [&bytes[..], text.as_bytes()] {
                for (add, parse) in [(false, false), (true, true)] {
                    let Ok(got) = vocab.tokenize(text, add, parse) else { continue };
                    prop_assert!(got.iter().all(|&token| vocab.attr(token).is_some()));
                }
            }
            vocab.detokenize(&tokens, true, false);
        }
    }

    #[test]
    fn text_comes_back(text in "[ -~\u{a0}-\u{2ff}\u{3041}-\u{3090}\n]{0,60}") {
        for name in ["spm", "rwkv", "plamo2"] {
            let vocab = synthetic(name);
            let tokens = vocab.tokenize(text.as_bytes(), false, false).unwrap();
            let back = vocab.join_pieces(&tokens, false, false);
            prop_assert_eq!(String::from_utf8_lossy(&back), &text[..], "{}", name);
        }
    }
}

// ---- the C interface --------------------------------------------------------------------------

/// A vocabulary loaded as programs do it.
fn load(name: &str) -> *mut llama_model {
    let path = vocab_support::repository().join(format!("tests/data/vocabs/{name}.gguf"));
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a terminated path and parameters as the library made them.
    let model = unsafe {
        let mut params = llama_model_default_params();
        params.vocab_only = 1;
        llama_model_load_from_file(path.as_ptr(), params)
    };
    assert!(!model.is_null(), "{name}");
    model
}

#[test]
fn the_c_interface_knows_all_kinds() {
    for (name, kind, add_sep, sep) in [
        ("ggml-vocab-phi-3", 1, false, -1),
        ("ggml-vocab-gpt-2", 2, false, -1),
        ("ggml-vocab-bert-bge", 3, true, 102),
        ("synthetic-ugm", 4, false, -1),
        ("synthetic-rwkv", 5, false, -1),
        ("synthetic-plamo2", 6, false, -1),
        ("synthetic-test", 7, false, -1),
    ] {
        let model = load(name);
        // SAFETY: a model, its vocabulary, and buffers of the sizes that are given.
        unsafe {
            let vocab = llama_model_get_vocab(model);
            assert_eq!(llama_vocab_type(vocab), kind, "{name}");
            assert_eq!(llama_vocab_get_add_sep(vocab), add_sep, "{name}");
            assert_eq!(llama_vocab_sep(vocab), sep, "{name}");
            let text = "Hello, world 123".as_bytes();
            let (at, len) = (text.as_ptr().cast(), text.len() as i32);
            let n = -llama_tokenize(vocab, at, len, ptr::null_mut(), 0, 1, 0);
            assert!(n > 1, "{name}");
            let mut tokens = vec![-7; n as usize];
            assert_eq!(llama_tokenize(vocab, at, len, tokens.as_mut_ptr(), n - 1, 1, 0), -n);
            assert!(tokens.iter().all(|&token| token == -7), "nothing is written");
            assert_eq!(llama_tokenize(vocab, at, len, tokens.as_mut_ptr(), n, 1, 0), n);
            let mut back = [0u8; 200];
            let back_len =
                llama_detokenize(vocab, tokens.as_ptr(), n, back.as_mut_ptr().cast(), 200, 1, 0);
            assert!(back_len > 0, "{name}");
            // Without its BOS, the first word keeps the space that was put before it.
            let want = if kind == 1 { &b" Hello, world 123"[..] } else { text };
            if [1, 2].contains(&kind) {
                assert_eq!(&back[..back_len as usize], want, "{name}");
            }
            let needed = llama_detokenize(vocab, tokens.as_ptr(), n, ptr::null_mut(), 0, 1, 0);
            assert!(needed < 0 && -needed >= back_len, "{name}");
            llama_model_free(model);
        }
    }
}

#[test]
fn the_c_interface_gives_scores_and_fill_in_the_middle() {
    let model = load("synthetic-spm");
    // SAFETY: a model and its vocabulary.
    unsafe {
        let vocab = llama_model_get_vocab(model);
        let find = |text: &str| {
            (0..llama_vocab_n_tokens(vocab)).find(|&token| {
                let at = llama_vocab_get_text(vocab, token);
                std::ffi::CStr::from_ptr(at).to_bytes() == text.as_bytes()
            })
        };
        assert_eq!(llama_vocab_get_score(vocab, find("hell").unwrap()), -2.25);
        assert_eq!(llama_vocab_get_score(vocab, -1), 0.0);
        assert_eq!(Some(llama_vocab_fim_pre(vocab)), find("▁<PRE>"));
        assert_eq!(llama_vocab_fim_suf(vocab), -1);
        // Of two candidates the one that llama.cpp comes upon first; both end generation.
        assert_eq!(Some(llama_vocab_eot(vocab)), find("<|endoftext|>"));
        assert!(llama_vocab_is_eog(vocab, find("<end_of_turn>").unwrap()));
        assert!(llama_vocab_is_eog(vocab, llama_vocab_eot(vocab)));
        assert!(llama_vocab_get_add_bos(vocab) && llama_vocab_get_add_eos(vocab));
        llama_model_free(model);
    }
}
