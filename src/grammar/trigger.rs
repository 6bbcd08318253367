//! Where a lazy grammar begins: at a token, or in the text.

use std::sync::Arc;

use fancy_regex::Regex;

use super::{Error, regex};
use crate::vocab::Token;

/// A regular expression that starts a grammar.
#[derive(Debug)]
struct Pattern {
    /// Anywhere in the text.
    search: Regex,
    /// The whole text; tried first, for patterns from `^` to `$`.
    whole: Option<Regex>,
}

impl Pattern {
    fn new(pattern: &[u8]) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Pattern {
            pattern: String::from_utf8_lossy(pattern).into_owned(),
            reason,
        };
        let translated = regex::translate(pattern).map_err(refuse)?;
        let compile = |text: &str| Regex::new(text).map_err(|error| refuse(error.to_string()));
        let is_framed = pattern.starts_with(b"^") && pattern.ends_with(b"$");
        Ok(Self {
            search: compile(&translated)?,
            whole: is_framed.then(|| compile(&format!(r"\A(?:{translated})\z"))).transpose()?,
        })
    }

    /// Where the grammar begins: at the first group that matched some text, or else where the
    /// pattern matched. A match that takes too many steps is none.
    fn find(&self, text: &str) -> Option<usize> {
        let run = |regex: &Regex| {
            regex.captures(text).ok().flatten().map(|found| {
                let mut groups =
                    found.iter().skip(1).flatten().filter(|group| !group.range().is_empty());
                groups.next().or(found.get(0)).map_or(0, |group| group.start())
            })
        };
        self.whole.as_ref().and_then(run).or_else(|| run(&self.search))
    }
}

/// What starts a lazy grammar.
#[derive(Debug, Default)]
pub struct Triggers {
    patterns: Vec<Pattern>,
    tokens: Vec<Token>,
}

impl Triggers {
    /// `patterns` are regular expressions as C++ has them. The text from the first group that
    /// matched something, or from the whole match, belongs to the grammar.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a [u8]>,
        tokens: &[Token],
    ) -> Result<Self, Error> {
        let patterns = patterns.into_iter().map(Pattern::new).collect::<Result<_, _>>()?;
        Ok(Self { patterns, tokens: tokens.to_vec() })
    }

    /// The pattern that begins a grammar at the first of some words.
    pub fn words_pattern<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let escaped = words.into_iter().map(|word| {
            let escape = |&byte: &u8| match byte {
                b'.' | b'^' | b'$' | b'|' | b'(' | b')' | b'*' | b'+' | b'?' | b'[' | b']'
                | b'{' | b'}' | b'\\' => vec![b'\\', byte],
                _ => vec![byte],
            };
            word.iter().flat_map(escape).collect::<Vec<u8>>()
        });
        let words = escaped.collect::<Vec<_>>().join(&b'|');
        [&br"[\s\S]*?("[..], &words, br")[\s\S]*"].concat()
    }
}

/// The text of a lazy grammar before it begins.
#[derive(Clone, Debug)]
pub struct Trigger {
    triggers: Arc<Triggers>,
    /// The text, each byte as the character of that number.
    text: String,
    bytes: Vec<u8>,
    /// Tokens and where their texts end.
    tokens: Vec<(Token, usize)>,
}

impl Trigger {
    /// Before any text.
    pub fn new(triggers: Arc<Triggers>) -> Self {
        Self { triggers, text: String::new(), bytes: Vec::new(), tokens: Vec::new() }
    }

    /// Forgets the text.
    pub fn reset(&mut self) {
        *self = Self::new(Arc::clone(&self.triggers));
    }

    /// Adds a token with its text. When that starts the grammar: the tokens that belong
    /// to it, each with its text or, for the first, what of it does.
    pub fn accept(&mut self, token: Token, piece: &[u8]) -> Option<Vec<(Token, Vec<u8>)>> {
        if self.triggers.tokens.contains(&token) {
            return Some(vec![(token, piece.to_vec())]);
        }
        self.bytes.extend_from_slice(piece);
        self.text.extend(piece.iter().map(|&byte| char::from(byte)));
        self.tokens.push((token, self.bytes.len()));
        let start = self.triggers.patterns.iter().find_map(|pattern| pattern.find(&self.text))?;
        let start = self.text[..start].chars().count();
        let mut from = 0;
        let mut replayed = Vec::new();
        for &(token, end) in &self.tokens {
            if end > start {
                replayed.push((token, self.bytes[from.max(start)..end].to_vec()));
            }
            from = end;
        }
        Some(replayed)
    }
}
