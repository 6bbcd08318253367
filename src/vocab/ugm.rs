//! SentencePiece's unigram model (`tokenizer.ggml.model = "t5"`): of all ways to cut the text into
//! tokens, the one with the greatest sum of scores (log probabilities), found as in T. Kudo,
//! "Subword Regularization", 2018 (arXiv:1804.10959), section 3.1, by Viterbi's algorithm. It
//! looks from every character as far as the longest token reaches.

use super::charsmap::Charsmap;
use super::spm::ESCAPED_SPACE;
use super::texts::Texts;
use super::trie::Trie;
use super::{Context, Error, MAX_TEXT, Token, TokenAttr, unicode};

/// How much worse an unknown character is than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The tokens to match and how text is normalised.
pub(super) struct Ugm {
    tokens: Trie,
    user_defined: Trie,
    charsmap: Charsmap,
    unknown_score: f32,
}

/// The best way to reach a place of the text.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// The last token; `None` for unknown text.
    token: Option<Token>,
    /// Where it begins.
    start: u32,
}

impl Ugm {
    /// Over the tokens in `texts`; `scores` and `attrs` are by token, `scores` empty if all are 0.
    pub(super) fn new(
        texts: &Texts,
        scores: &[f32],
        attrs: &[TokenAttr],
        charsmap: Charsmap,
    ) -> Self {
        let with = |wanted: TokenAttr| {
            let chosen = attrs.iter().zip(0..).filter(move |(attr, _)| attr.any(wanted));
            chosen.filter_map(|(_, n)| Some((texts.get(n)?, n)))
        };
        let in_text = TokenAttr::NORMAL | TokenAttr::USER_DEFINED | TokenAttr::UNUSED;
        let worst = with(TokenAttr::NORMAL)
            .map(|(_, n)| scores.get(n as usize).copied().unwrap_or(0.0))
            .fold(f32::MAX, f32::min);
        Self {
            tokens: Trie::new(with(in_text)),
            user_defined: Trie::new(with(TokenAttr::USER_DEFINED)),
            charsmap,
            unknown_score: worst - UNKNOWN_PENALTY,
        }
    }

    /// Appends the tokens of `text`.
    ///
    /// # Errors
    /// A normalisation table that is broken at a place where this text leads to.
    pub(super) fn tokenize(
        &self,
        ctx: &Context<'_>,
        text: &[u8],
        out: &mut Vec<Token>,
    ) -> Result<(), Error> {
        let text = self.normalize(ctx, text)?;
        let best = self.search(ctx, &text);
        let first = out.len();
        let mut at = text.len();
        let mut after_unknown = false;
        while at > 0 {
            let Best { token, start, .. } = best[at];
            // Neighbouring unknown characters are one unknown token.
            let token = token.filter(|_| token != ctx.unk);
            match token {
                Some(token) => out.push(token),
                None if !after_unknown => out.extend(ctx.unk),
                None => {}
            }
            after_unknown = token.is_none();
            at = start as usize;
        }
        out[first..].reverse();
        Ok(())
    }

    /// By place: the best way to get there.
    fn search(&self, ctx: &Context<'_>, text: &[u8]) -> Vec<Best> {
        let unreached = Best { score: -f64::MAX, token: None, start: 0 };
        let mut best = vec![unreached; text.len() + 1];
        best[0].score = 0.0;
        let mut start = 0;
        while let Some(&lead) = text.get(start) {
            let so_far = best[start].score;
            let mut offer = |len: usize, score: f64, token: Option<Token>| {
                let champion = &mut best[start + len];
                if so_far + score > champion.score {
                    *champion = Best { score: so_far + score, token, start: start as u32 };
                }
            };
            let character = unicode::len_by_lead(lead).min(text.len() - start);
            let mut has_token = false;
            for (len, token) in self.tokens.prefixes(&text[start..]) {
                has_token |= len == character;
                let token = token as Token;
                let user_defined = ctx.attrs[token as usize].any(TokenAttr::USER_DEFINED);
                let score = if user_defined { 0.0 } else { ctx.score(token) as f64 };
                offer(len, score, Some(token));
            }
            if !has_token {
                offer(character, self.unknown_score as f64, None);
            }
            start += character;
        }
        best
    }

    /// Replaces what the table says and writes spaces as `▁`: those of the text, or one between
    /// words where extra white space is removed, and one before the text where that is wanted.
    fn normalize(&self, ctx: &Context<'_>, mut text: &[u8]) -> Result<Vec<u8>, Error> {
        let merge = ctx.flags.remove_extra_whitespaces;
        let mut to_prepend = ctx.flags.add_space_prefix;
        let mut normalized = Vec::with_capacity(text.len() + text.len() / 2 + ESCAPED_SPACE.len());
        let mut in_word = false;
        while !text.is_empty() {
            let (len, replacement) = self.normalize_prefix(text)?;
            for &byte in replacement {
                if byte == b' ' {
                    in_word = false;
                    if !merge {
                        normalized.extend_from_slice(ESCAPED_SPACE);
                    }
                    continue;
                }
                if !in_word && (to_prepend || merge) {
                    normalized.extend_from_slice(ESCAPED_SPACE);
                    to_prepend = false;
                }
                in_word = true;
                normalized.push(byte);
            }
            if normalized.len() > 3 * MAX_TEXT {
                return Err(Error::TextTooLong { bytes: normalized.len() });
            }
            text = &text[len..];
        }
        Ok(normalized)
    }

    /// How many bytes are next and what they become. Text that begins a user-defined token stays
    /// as it is, as far as it does.
    fn normalize_prefix<'a>(&'a self, text: &'a [u8]) -> Result<(usize, &'a [u8]), Error> {
        let kept = self.user_defined.matching(text);
        if kept > 0 {
            return Ok((kept, &text[..kept]));
        }
        if let Some(replaced) = self.charsmap.replace(text)? {
            return Ok(replaced);
        }
        Ok(match unicode::decode(text) {
            Some((_, len)) => (len, &text[..len]),
            None => (1, "\u{fffd}".as_bytes()),
        })
    }
}
