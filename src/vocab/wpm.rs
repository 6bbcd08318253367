//! WordPiece (`tokenizer.ggml.model = "bert"`): text is normalised and cut into words, and each
//! word becomes the longest tokens from left to right, or the unknown token if that gets stuck.
//!
//! In the file a token that begins a word starts with `▁`; those that continue one have lost
//! their `##`.

use super::spm::ESCAPED_SPACE;
use super::texts::Texts;
use super::trie::Trie;
use super::unicode::{self, Class, Classes};
use super::{Context, Token};

/// The normaliser's options and the tokens to match.
pub(super) struct Wpm {
    trie: Trie,
    lowercase: bool,
    strip_accents: bool,
}

impl Wpm {
    /// Over the tokens in `texts`.
    pub(super) fn new(texts: &Texts, lowercase: bool, strip_accents: bool) -> Self {
        let tokens = (0..texts.len() as u32).filter_map(|n| Some((texts.get(n)?, n)));
        Self { trie: Trie::new(tokens), lowercase, strip_accents }
    }

    /// Appends the tokens of `text`.
    pub(super) fn tokenize(&self, ctx: &Context<'_>, text: &[u8], out: &mut Vec<Token>) {
        let classes = Classes::get();
        let mut word = ESCAPED_SPACE.to_vec();
        for (cp, _) in unicode::code_points(text) {
            let cp = if self.strip_accents { unicode::base_character(cp) } else { cp };
            let class = classes.of(cp);
            if class.is_white() {
                self.finish(ctx, &mut word, out);
                continue;
            }
            if self.is_dropped(cp, class) {
                continue;
            }
            let alone =
                class.is_punctuation() || (cp < 0x7f && class.is_symbol()) || is_chinese(cp);
            if alone {
                self.finish(ctx, &mut word, out);
            }
            let lower = if self.lowercase { unicode::lowercase(cp) } else { cp };
            unicode::encode(lower, &mut word);
            if alone {
                self.finish(ctx, &mut word, out);
            }
        }
        self.finish(ctx, &mut word, out);
    }

    /// Control characters, U+FFFD (also for what is no code point), and accents.
    fn is_dropped(&self, cp: u32, class: Class) -> bool {
        let replacement = char::REPLACEMENT_CHARACTER as u32;
        cp == 0
            || cp == replacement
            || cp > char::MAX as u32
            || class.is_control()
            || (self.strip_accents && class.is_mark())
    }

    /// Appends the tokens of `word`, which has its `▁` in front, and starts the next word.
    fn finish(&self, ctx: &Context<'_>, word: &mut Vec<u8>, out: &mut Vec<Token>) {
        if word.len() == ESCAPED_SPACE.len() {
            return;
        }
        let before = out.len();
        let mut rest = &word[..];
        while let Some((len, token)) = self.trie.prefixes(rest).last() {
            out.push(token as Token);
            rest = &rest[len..];
        }
        if !rest.is_empty() {
            out.truncate(before);
            out.extend(ctx.unk);
        }
        word.truncate(ESCAPED_SPACE.len());
    }
}

/// Characters that are words of their own: the blocks of BERT's normaliser (the last but two
/// begins where Hugging Face's code has it, at U+2B920).
fn is_chinese(cp: u32) -> bool {
    matches!(
        cp,
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
