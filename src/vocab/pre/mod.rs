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
