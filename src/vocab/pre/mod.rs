//! Pre-tokenizers: how a BPE vocabulary cuts text into words before merging.
//!
//! To add one: if its expression is new, write a splitter beside `gpt2.rs` and a variant of
//! [`Splitter`]; then list every name under which model files ask for it in [`BY_NAME`], with the
//! options that the name implies.

mod gpt2;
mod llama3;

use super::unicode::{Class, Classified};

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Splitter {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Every number character alone, then as [`Splitter::Gpt2`] between them.
    Digits,
    /// `'(?i:[stmd]|re|ve|ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
}

impl Splitter {
    /// Calls `word` with the words of `text` (generalised UTF-8) in order; joined they are `text`.
    pub(crate) fn split<'a>(self, text: &'a [u8], mut word: impl FnMut(&'a [u8])) {
        match self {
            Splitter::Gpt2 => each_word(text, gpt2::word_end, &mut word),
            Splitter::Llama3 => each_word(text, llama3::word_end, &mut word),
            Splitter::Digits => {
                let classified = Classified::new(text);
                let mut pos = 0;
                while pos < text.len() {
                    let number = classified.run(pos, |c| c != Class::END && !c.is_number());
                    each_word(&text[pos..number], gpt2::word_end, &mut word);
                    let (_, len) = classified.at(number);
                    if len > 0 {
                        word(&text[number..number + len]);
                    }
                    pos = number + len;
                }
            }
        }
    }
}

/// Cuts `text` with a function that finds the end of the word at a position.
fn each_word<'a>(
    text: &'a [u8],
    word_end: impl Fn(&Classified<'a>, usize) -> usize,
    word: &mut impl FnMut(&'a [u8]),
) {
    let classified = Classified::new(text);
    let mut pos = 0;
    while pos < text.len() {
        let end = word_end(&classified, pos);
        word(&text[pos..end]);
        pos = end;
    }
}

/// Length of an English contraction at the start of `text`, 0 if there is none. `text` starts
/// with the apostrophe.
fn contraction(text: &[u8], fold: impl Fn(&u8) -> u8) -> usize {
    match text.get(1).map(&fold) {
        Some(b's' | b't' | b'm' | b'd') => 2,
        Some(first) => match (first, text.get(2).map(&fold)) {
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => 3,
            _ => 0,
        },
        None => 0,
    }
}

/// End of the word of white space at `pos`: all of it at the end of the text; before other text
/// the last character stays with what follows, unless it is the only one.
fn white_end(text: &Classified<'_>, pos: usize) -> usize {
    let (mut last, mut end) = (pos, pos);
    loop {
        let (class, len) = text.at(end);
        if !class.is_white() {
            break;
        }
        last = end;
        end += len;
    }
    let more_follows = end < text.text().len();
    if more_follows && last > pos { last } else { end }
}

/// What the name in `tokenizer.ggml.pre` implies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PreTokenizer {
    pub(crate) splitter: Splitter,
    /// A word that is a token is taken whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Default of `add_bos_token`.
    pub(crate) add_bos: bool,
    /// Default of `add_sep_token`.
    pub(crate) add_sep: bool,
    /// Detokenized text is cleaned of spaces before punctuation.
    pub(crate) clean_spaces: bool,
}

const fn plain(splitter: Splitter) -> PreTokenizer {
    PreTokenizer {
        splitter,
        ignore_merges: false,
        add_bos: false,
        add_sep: false,
        clean_spaces: true,
    }
}

const GPT2: PreTokenizer = plain(Splitter::Gpt2);
const GPT2_SEP: PreTokenizer = PreTokenizer { add_sep: true, ..GPT2 };
const GPT2_RAW: PreTokenizer = PreTokenizer { clean_spaces: false, ..GPT2 };
const DIGITS: PreTokenizer = plain(Splitter::Digits);
const DIGITS_RAW: PreTokenizer = PreTokenizer { clean_spaces: false, ..DIGITS };
const LLAMA3: PreTokenizer =
    PreTokenizer { ignore_merges: true, add_bos: true, ..plain(Splitter::Llama3) };
const LLAMA3_MERGES: PreTokenizer = plain(Splitter::Llama3);

/// All names that model files use, by what they mean in llama.cpp.
static BY_NAME: &[(&[&str], PreTokenizer)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
        ],
        GPT2,
    ),
    (&["jina-v1-en", "jina-v2-code", "roberta-bpe"], GPT2_SEP),
    (&["trillion", "granite-docling"], GPT2_RAW),
    (&["starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"], DIGITS),
    (&["smollm", "command-r"], DIGITS_RAW),
    (
        &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        LLAMA3,
    ),
    (&["dbrx", "smaug-bpe", "glm4", "glm5", "chatglm-bpe"], LLAMA3_MERGES),
];

impl PreTokenizer {
    /// The pre-tokenizer of a name in `tokenizer.ggml.pre`.
    pub(crate) fn by_name(name: &str) -> Option<PreTokenizer> {
        BY_NAME.iter().find(|(names, _)| names.contains(&name)).map(|(_, pre)| *pre)
    }

    /// Names whose vocabularies have no BOS token unless the file names one.
    pub(crate) fn has_no_default_bos(name: &str) -> bool {
        matches!(name, "glm4" | "glm5" | "chatglm-bpe")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use fancy_regex::Regex;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::vocab::unicode::Classes;

    const GPT2: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    fn by_regex<'a>(expression: &'static str, text: &'a str) -> Vec<&'a str> {
        thread_local!(static COMPILED: RefCell<HashMap<&'static str, Regex>> = RefCell::default());
        let regex = COMPILED.with_borrow_mut(|compiled| {
            compiled.entry(expression).or_insert_with(|| Regex::new(expression).unwrap()).clone()
        });
        regex.find_iter(text).map(|word| word.unwrap().as_str()).collect()
    }

    /// Number characters alone, the rest by GPT-2's expression.
    fn digits_by_regex(text: &str) -> Vec<&str> {
        let parts = by_regex(r"\p{N}|\P{N}+", text);
        parts.into_iter().flat_map(|part| by_regex(GPT2, part)).collect()
    }

    fn by_hand(splitter: Splitter, text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        splitter.split(text.as_bytes(), |word| words.push(std::str::from_utf8(word).unwrap()));
        words
    }

    /// Any character that means the same in the regex crate's newer Unicode.
    fn character() -> impl Strategy<Value = char> {
        any::<char>().prop_filter("assigned in Unicode 15.1", |&c| Classes::get().is_assigned(c))
    }

    /// Pieces of text that meet every branch of the expressions.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}\u{200b}\u{feff}]{1,4}",
            3 => " {1,3}",
            2 => "[\r\n]{1,3}",
            4 => "'(s|t|re|ve|m|ll|d|S|T|RE|Ve|M|lL|D|x|r|v|l|ſ)?",
            4 => "[a-zA-Zéßñжя你好가اक]{1,4}",
            3 => "[0-9²½٣५Ⅷ〇一]{1,5}",
            3 => "[!-/:-@_~“”…—€+=<>🦙👍🏽\u{200d}\u{fe0f}\u{301}\u{93f}]{1,4}",
            3 => vec(character(), 1..4).prop_map(String::from_iter),
            1 => "\\PC{0,8}",
        ]
        .prop_filter("assigned in Unicode 15.1", |text| {
            text.chars().all(|c| Classes::get().is_assigned(c))
        })
    }

    fn text() -> impl Strategy<Value = String> {
        vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn words_are_those_of_the_expressions(text in text()) {
            prop_assert_eq!(by_hand(Splitter::Gpt2, &text), by_regex(GPT2, &text));
            prop_assert_eq!(by_hand(Splitter::Llama3, &text), by_regex(LLAMA3, &text));
            prop_assert_eq!(by_hand(Splitter::Digits, &text), digits_by_regex(&text));
        }

        #[test]
        fn words_of_any_bytes_make_up_the_text(bytes in vec(any::<u8>(), 0..64)) {
            for splitter in [Splitter::Gpt2, Splitter::Digits, Splitter::Llama3] {
                let mut joined = Vec::new();
                splitter.split(&bytes, |word| {
                    assert!(!word.is_empty());
                    joined.extend_from_slice(word);
                });
                prop_assert_eq!(&joined, &bytes);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> =
            BY_NAME.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        names.sort_unstable();
        let n = names.len();
        names.dedup();
        assert_eq!(names.len(), n);
        assert!(PreTokenizer::by_name("gpt2").is_none(), "llama.cpp calls it gpt-2");
    }
}
