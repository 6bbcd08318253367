//! The models of the tokenizers behind one call.

use super::bpe::Bpe;
use super::hashed::Hashed;
use super::plamo2::Plamo2;
use super::rwkv::Rwkv;
use super::spm::Spm;
use super::texts::Texts;
use super::ugm::Ugm;
use super::wpm::Wpm;
use super::{Error, Flags, Token, TokenAttr};

/// What turns text without special tokens into tokens.
pub(super) enum Model {
    None,
    Spm(Spm),
    Bpe(Bpe),
    Wpm(Wpm),
    Ugm(Ugm),
    Rwkv(Rwkv),
    Plamo2(Plamo2),
    Hashed(Hashed),
}

/// What the models need to know of the vocabulary that they belong to.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) texts: &'a Texts,
    /// By token; empty if all are 0.
    pub(super) scores: &'a [f32],
    pub(super) attrs: &'a [TokenAttr],
    /// Stands for text that has no token.
    pub(super) unk: Option<Token>,
    pub(super) flags: Flags,
}

impl Context<'_> {
    /// Score of a token.
    pub(super) fn score(&self, token: Token) -> f32 {
        self.scores.get(token as usize).copied().unwrap_or(0.0)
    }
}

impl Model {
    /// Appends the tokens of `text`. `after_special`: it stands at the beginning or after a
    /// special token.
    pub(super) fn tokenize(
        &self,
        ctx: &Context<'_>,
        text: &[u8],
        after_special: bool,
        out: &mut Vec<Token>,
    ) -> Result<(), Error> {
        match self {
            Self::None => return Err(Error::NoVocab),
            Self::Spm(spm) => {
                spm.tokenize(ctx, text, after_special && ctx.flags.add_space_prefix, out);
            }
            Self::Bpe(bpe) => bpe.tokenize(ctx.texts, text, out),
            Self::Wpm(wpm) => wpm.tokenize(ctx, text, out),
            Self::Ugm(ugm) => return ugm.tokenize(ctx, text, out),
            Self::Rwkv(rwkv) => rwkv.tokenize(ctx, text, out),
            Self::Plamo2(plamo2) => plamo2.tokenize(text, out),
            Self::Hashed(hashed) => hashed.tokenize(text, out),
        }
        Ok(())
    }

    /// The token of a line feed. `pad` stands in for it where the vocabulary cannot express one.
    pub(super) fn line_feed(
        &self,
        ctx: &Context<'_>,
        pad: Option<Token>,
    ) -> Result<Option<Token>, Error> {
        let mut tokens = Vec::new();
        match self {
            Self::None | Self::Wpm(_) => {}
            Self::Spm(spm) => tokens.extend(spm.byte_token(b'\n')),
            _ => self.tokenize(ctx, b"\n", true, &mut tokens)?,
        }
        let is_token = |&token: &Token| (token as usize) < ctx.attrs.len();
        Ok(tokens.first().copied().or(pad).filter(is_token))
    }
}
