//! Any tokens in grammars of every kind: what is allowed for all at once is what is allowed alone,
//! what is allowed can be accepted, and the end is allowed where the text is complete.
//!
//! The first byte chooses grammar and vocabulary, the others are tokens, by their place among the
//! allowed ones or, every eighth, among all.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use powerinfer::gguf;
use powerinfer::grammar::{Grammar, Triggers};
use powerinfer::sampler::{self, Candidates, Sampler, TokenData};
use powerinfer::util::log::{Level, Sink, set_sink};
use powerinfer::vocab::{Token, Vocab};

struct Quiet;

impl Sink for Quiet {
    fn write(&self, _: Level, _: &str) {}
}

const VOCABS: [&[u8]; 4] = [
    include_bytes!("../../data/vocabs/synthetic-spm.gguf"),
    include_bytes!("../../data/vocabs/synthetic-plamo2.gguf"),
    include_bytes!("../../data/vocabs/synthetic-rwkv.gguf"),
    include_bytes!("../../data/vocabs/synthetic-overlap.gguf"),
];
const GRAMMARS: [&str; 8] = [
    "root ::= \"{\" ws (pair (\",\" ws pair)*)? \"}\"\npair ::= string \":\" ws (root | string | [0-9]+)\n\
     string ::= \"\\\"\" [^\"\\\\]* \"\\\"\" ws\nws ::= [ \\n]{0,3}",
    "root ::= .*",
    "root ::= [^a-e] root [\\u0080-\\U0010ffff]? | \"the\"? \"he\" | \"\"",
    "root ::= (\"a\" | \"b\"? \"ab\"){0,9} (\" \" [a-zé]+){2,}",
    "root ::= <[7]> .* !<[300]> (<[70]> | \"a\")",
    "root ::= (\"a\" !<[99]> | \"b\" <[100]> | .)*",
    "root ::= \"a\" root \"b\" | . root \"a\" | .? root2\nroot2 ::= (\" \" root)?",
    "root ::= (\"ぁ\" | [ぁ-ゟ] | \"😀\" | [^一])*",
];

type Case = (Arc<Vocab>, Arc<Grammar>);

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    set_sink(Some(Arc::new(Quiet)));
    let vocab = |bytes: &&[u8]| {
        let meta = gguf::parse(bytes, "vocabulary").unwrap().meta;
        Arc::new(Vocab::from_meta(&meta).unwrap())
    };
    let vocabs: Vec<Arc<Vocab>> = VOCABS.iter().map(vocab).collect();
    let pairs = vocabs.iter().flat_map(|vocab| GRAMMARS.iter().map(move |text| (vocab, text)));
    pairs
        .map(|(vocab, text)| {
            let grammar = Grammar::parse(text.as_bytes(), b"root", Some(vocab)).unwrap();
            (Arc::clone(vocab), Arc::new(grammar))
        })
        .collect()
});

fn allowed(sampler: &mut dyn Sampler, tokens: impl Iterator<Item = Token>) -> Vec<Token> {
    let mut rows: Vec<_> = tokens.map(|id| TokenData { id, logit: 0.0, p: 0.0 }).collect();
    sampler.apply(&mut Candidates::new(&mut rows));
    rows.iter().filter(|row| row.logit == 0.0).map(|row| row.id).collect()
}

fuzz_target!(
    init: { LazyLock::force(&CASES); },
    |bytes: &[u8]| {
    let Some((&which, choices)) = bytes.split_first() else { return };
    let (vocab, grammar) = &CASES[which as usize % CASES.len()];
    // Only some triggers are there, so the other grammars begin at once.
    let lazy = which >= 192;
    let triggers = lazy.then(|| Triggers::new([&b"(h)e|\\w{2,}?(.)\\2"[..]], &[65]).unwrap());
    let mut sampler = sampler::Grammar::new(Arc::clone(vocab), Arc::clone(grammar), triggers);
    let n_tokens = vocab.n_tokens() as Token;
    for (step, &choice) in choices.iter().take(24).enumerate() {
        let all = allowed(&mut sampler.clone(), 0..n_tokens);
        let alone = (0..n_tokens).filter(|&id| !allowed(&mut sampler.clone(), [id].into_iter()).is_empty());
        if step % 4 == 0 {
            assert_eq!(all, alone.collect::<Vec<_>>());
        }
        let from_all = choice % 8 == 7;
        let token = match all.len() {
            0 => Token::from(choice),
            _ if from_all => Token::from(choice) * 3 % n_tokens,
            n => all[choice as usize * 31 % n],
        };
        sampler.accept(token);
    }
    sampler.reset();
    allowed(&mut sampler, 0..n_tokens);
});
