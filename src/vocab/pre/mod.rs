//! Pre-tokenizers: how a BPE vocabulary cuts text into words before merging.
//!
//! Model files name theirs in `tokenizer.ggml.pre`, and llama.cpp knows for each name one or
//! several regular expressions. They are applied one after the other: the first cuts the text into
//! its matches and what lies between them, the next does the same with each of those pieces, as if
//! nothing were around it. Here each expression is a function written by hand that finds the match
//! at a place in time linear in its length. `plain.rs`, `cased.rs` and `deepseek.rs` have those
//! that take text apart into words, `cuts.rs` and `scripts.rs` those that cut out one thing, and
//! `parts.rs` the alternatives that they share.
//!
//! To add one: list its name in `names.rs` with the options that it implies and its stages; if an
//! expression is new, write its function in one of the files above. Then add its expressions to
//! `tests/vocab_support/expressions.rs`, against which the words are checked, and write the
//! goldens again (`tests/tools/vocab_golden.py --pre`).

mod cased;
mod cuts;
mod deepseek;
mod names;
mod parts;
mod plain;
mod scripts;

use super::unicode::{self, Classified};

/// Finds the end of the match at a position in a piece, if there is one. A match is not empty.
type MatchAt = for<'a> fn(&Classified<'a>, usize) -> Option<usize>;
/// Calls a function with the parts of a piece in order; none of them is empty.
type CutUp = for<'a> fn(&'a [u8], &mut dyn FnMut(&'a [u8]));

/// One expression.
#[derive(Clone, Copy)]
enum Stage {
    Match(MatchAt),
    /// Where a match depends on what follows it far away.
    Cut(CutUp),
}

impl Stage {
    fn cut<'a>(self, piece: &'a [u8], part: &mut dyn FnMut(&'a [u8])) {
        let match_at = match self {
            Stage::Cut(cut) => return cut(piece, part),
            Stage::Match(match_at) => match_at,
        };
        let text = Classified::new(piece);
        let (mut unmatched, mut pos) = (0, 0);
        while pos < piece.len() {
            let Some(end) = match_at(&text, pos) else {
                pos += text.at(pos).1;
                continue;
            };
            if unmatched < pos {
                part(&piece[unmatched..pos]);
            }
            part(&piece[pos..end]);
            unmatched = end;
            pos = end;
        }
        if unmatched < pos {
            part(&piece[unmatched..]);
        }
    }
}

fn cut_up<'a>(stages: &[Stage], piece: &'a [u8], word: &mut dyn FnMut(&'a [u8])) {
    match stages {
        [] => word(piece),
        [first, rest @ ..] => first.cut(piece, &mut |part| cut_up(rest, part, word)),
    }
}

/// How tokens spell text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each byte by a printable character (`Ġhello`).
    ByteLevel,
    /// As it is. Characters without a token become the tokens of their bytes, `<0xE2>`.
    Characters,
    /// As [`Spelling::Characters`], spaces by U+2581 (`▁hello`).
    Escaped,
    /// As [`Spelling::Escaped`]; line breaks that are a token together are taken whole, and a BOS
    /// is added whatever the file says.
    Gemma4,
}

/// What the name in `tokenizer.ggml.pre` implies.
#[derive(Clone, Copy)]
pub(crate) struct PreTokenizer {
    stages: &'static [Stage],
    pub(crate) spelling: Spelling,
    /// A word that is a token is taken whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Default of `add_bos_token`.
    pub(crate) add_bos: bool,
    /// Default of `add_sep_token`.
    pub(crate) add_sep: bool,
    /// Detokenized text is cleaned of spaces before punctuation.
    pub(crate) clean_spaces: bool,
    /// There is no BOS token unless the file names one.
    pub(crate) no_default_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer of a name in `tokenizer.ggml.pre`; that of files without one is `""`.
    pub(crate) fn by_name(name: &str) -> Option<PreTokenizer> {
        names::by_name(name)
    }

    /// Calls `word` with the words of `text` (generalised UTF-8) in order; joined they are `text`.
    pub(crate) fn split<'a>(&self, text: &'a [u8], mut word: impl FnMut(&'a [u8])) {
        cut_up(self.stages, text, &mut word);
    }
}

/// The words into which the pre-tokenizer of this name cuts a text, which may be any bytes
/// (damaged UTF-8 becomes U+FFFD). `None` if there is no such pre-tokenizer.
///
/// A look inside, for tests and tools: [`super::Vocab::tokenize`] does this itself.
pub fn pre_tokenize(name: &str, text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let pre = PreTokenizer::by_name(name)?;
    let mut words = Vec::new();
    pre.split(&unicode::repair(text), |word| words.push(word.to_vec()));
    Some(words)
}
