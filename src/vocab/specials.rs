//! Finding special tokens in text before the tokenizer proper sees it.

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;

use super::texts::Texts;
use super::{Error, Token, TokenAttr};

/// A piece of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// Text for the tokenizer.
    Text(&'a [u8]),
    /// A special token.
    Token(Token),
}

struct Special {
    token: Token,
    attr: TokenAttr,
    finder: Finder<'static>,
}

/// The special tokens of a vocabulary: control, unknown and user-defined ones.
pub(super) struct Specials {
    /// In the order in which they claim text: longest first, then by id.
    by_length: Vec<Special>,
    /// Finds which of them occur at all (patterns are in the order of `by_length`). None where
    /// the texts are too long for one: then each is looked for.
    occurring: Option<AhoCorasick>,
}

/// Most bytes of special tokens that are compiled into an automaton, which takes a multiple of
/// it. Real vocabularies have up to some 100 KB.
const MAX_COMPILED: usize = 4 << 20;

impl Specials {
    /// Collects the special tokens.
    pub(super) fn new(texts: &Texts, attrs: &[TokenAttr]) -> Result<Self, Error> {
        let special = TokenAttr::CONTROL | TokenAttr::USER_DEFINED | TokenAttr::UNKNOWN;
        let mut found: Vec<(Token, TokenAttr, &[u8])> = attrs
            .iter()
            .enumerate()
            .filter(|(_, attr)| attr.any(special))
            .filter_map(|(i, attr)| Some((i as Token, *attr, texts.get(i as u32)?)))
            .collect();
        found.sort_by_key(|(_, _, text)| std::cmp::Reverse(text.len()));
        let bytes: usize = found.iter().map(|(_, _, text)| text.len()).sum();
        let occurring = match bytes {
            1..=MAX_COMPILED => Some(AhoCorasick::new(found.iter().map(|(_, _, text)| text))?),
            _ => None,
        };
        let by_length = found
            .into_iter()
            .map(|(token, attr, text)| Special {
                token,
                attr,
                finder: Finder::new(text).into_owned(),
            })
            .collect();
        Ok(Self { by_length, occurring })
    }

    /// Attributes that only matter here and are known only after the tokens.
    pub(super) fn set_strip(&mut self, attrs: &[TokenAttr]) {
        for special in &mut self.by_length {
            special.attr = attrs[special.token as usize];
        }
    }

    /// The special tokens, longest first.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.by_length.iter().map(|s| s.token)
    }

    /// Cuts `text` at special tokens: the longest token claims all its places first, from left to
    /// right, then the next longest what remains. Without `parse_special` only user-defined
    /// tokens are looked for.
    pub(super) fn cut<'a>(&self, text: &'a [u8], parse_special: bool) -> Vec<Fragment<'a>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut fragments = vec![Fragment::Text(text)];
        for i in self.occurring_in(text, parse_special) {
            self.by_length[i].cut(&mut fragments);
        }
        fragments
    }

    /// Indices into `by_length`, ascending.
    fn occurring_in(&self, text: &[u8], parse_special: bool) -> Vec<usize> {
        let hidden = TokenAttr::CONTROL | TokenAttr::UNKNOWN;
        let wanted = |special: &Special| parse_special || !special.attr.any(hidden);
        if !self.by_length.iter().any(wanted) {
            return Vec::new();
        }
        let mut seen = vec![self.occurring.is_none(); self.by_length.len()];
        for hit in self.occurring.iter().flat_map(|o| o.find_overlapping_iter(text)) {
            seen[hit.pattern().as_usize()] = true;
        }
        (0..seen.len()).filter(|&i| seen[i] && wanted(&self.by_length[i])).collect()
    }
}

impl Special {
    /// Replaces this token's occurrences in the text fragments.
    fn cut(&self, fragments: &mut Vec<Fragment<'_>>) {
        let mut cut = Vec::with_capacity(fragments.len() + 2);
        for fragment in fragments.drain(..) {
            let Fragment::Text(mut text) = fragment else {
                cut.push(fragment);
                continue;
            };
            while let Some(at) = self.finder.find(text) {
                let (mut left, mut right) = (&text[..at], &text[at + self.finder.needle().len()..]);
                if self.attr.any(TokenAttr::LSTRIP) {
                    left = trim_end(left);
                }
                if self.attr.any(TokenAttr::RSTRIP) {
                    right = trim_start(right);
                }
                if !left.is_empty() {
                    cut.push(Fragment::Text(left));
                }
                cut.push(Fragment::Token(self.token));
                text = right;
                if text.is_empty() {
                    break;
                }
            }
            if !text.is_empty() {
                cut.push(Fragment::Text(text));
            }
        }
        *fragments = cut;
    }
}

/// White space of C's `isspace`: unlike Rust's ASCII set it has the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

fn trim_start(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|&&b| is_space(b)).count();
    &text[n..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let n = text.iter().rev().take_while(|&&b| is_space(b)).count();
    &text[..text.len() - n]
}
