//! Any bytes as text for vocabularies of every kind: no panic, only tokens that exist; and where
//! tokens are spelt by bytes, the text comes back.
//!
//! The first byte chooses the vocabulary, the rest are text.
#![no_main]

#[path = "../../vocab_support/expressions.rs"]
mod expressions;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use powerinfer::gguf::{self, Metadata, Value, Writer};
use powerinfer::util::log::{Level, Sink, set_sink};
use powerinfer::vocab::{Vocab, pre_tokenize};

/// Takes the warnings about texts with two BOS tokens.
struct Quiet;

impl Sink for Quiet {
    fn write(&self, _: Level, _: &str) {}
}

const GPT2: &[u8] = include_bytes!("../../data/vocabs/ggml-vocab-gpt-2.gguf");
const OTHERS: [&[u8]; 5] = [
    include_bytes!("../../data/vocabs/ggml-vocab-phi-3.gguf"),
    include_bytes!("../../data/vocabs/synthetic-overlap.gguf"),
    include_bytes!("../../data/vocabs/synthetic-missing.gguf"),
    include_bytes!("../../data/vocabs/synthetic-mask.gguf"),
    include_bytes!("../../data/vocabs/synthetic-test.gguf"),
];

/// Vocabularies, and whether tokens give back their text.
fn vocabularies() -> Vec<(Vocab, bool)> {
    set_sink(Some(Arc::new(Quiet)));
    let parse = |bytes: &[u8]| -> Metadata { gguf::parse(bytes, "vocabulary").unwrap().meta };
    let gpt2 = parse(GPT2);
    let as_family = |name: &str| {
        let mut file = Writer::copy_of(&gpt2);
        file.set("tokenizer.ggml.pre", Value::Str(name.into())).unwrap();
        let vocab = Vocab::from_meta(&parse(&file.header().unwrap())).unwrap();
        (vocab, !matches!(name, "gemma4" | "whitespace"))
    };
    let families = expressions::FAMILIES.iter().map(|(name, _)| as_family(name));
    let others = OTHERS.iter().map(|bytes| (Vocab::from_meta(&parse(bytes)).unwrap(), false));
    families.chain(others).collect()
}

static ALL: LazyLock<Vec<(Vocab, bool)>> = LazyLock::new(vocabularies);

fuzz_target!(
    // Before the first input: it takes longer than an input may.
    init: { LazyLock::force(&ALL); },
    |bytes: &[u8]| {
    let all = &*ALL;
    let Some((&which, text)) = bytes.split_first() else { return };
    let (vocab, comes_back) = &all[which as usize % all.len()];
    for (add, parse) in [(false, false), (true, true)] {
        let tokens = vocab.tokenize(text, add, parse).unwrap();
        assert!(tokens.iter().all(|&token| vocab.text(token).is_some()));
        vocab.detokenize(&tokens, add, parse);
        if *comes_back && !add {
            // Of damaged UTF-8 what it counts as comes back.
            let repaired = pre_tokenize("gemma4", text).unwrap().concat();
            assert_eq!(vocab.join_pieces(&tokens, false, true), repaired);
        }
    }
}
);
