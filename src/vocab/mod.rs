//! Tokenizers: text → token ids and back, as the model's authors (and llama.cpp) do it.
//!
//! A [`Vocab`] is read once from GGUF metadata, then never changes and is shared by all threads.
//! `tokenize` first cuts out special tokens (`specials.rs`), then hands the text between them to
//! the model of the vocabulary: byte pair encoding over bytes (`bpe.rs` with the pre-tokenizers in
//! `pre/`) or as SentencePiece does it (`spm.rs`), WordPiece (`wpm.rs`), unigrams (`ugm.rs`,
//! `plamo2.rs`), RWKV's longest match (`rwkv.rs`) or the hash of synthetic test files
//! (`hashed.rs`).
//!
//! # Adding a kind of tokenizer
//!
//! Write its model in a file of its own beside `bpe.rs` (a constructor over the texts of
//! `texts.rs` and a `tokenize` that appends to a `Vec<Token>`), add it to `model.rs` and to the kinds
//! in `load.rs` (with the flags and special tokens that its files take for granted), and its way
//! back to text to `pieces.rs`. A pre-tokenizer of BPE is
//! described in `pre/mod.rs`, a role for a token in `special_ids.rs`.

mod attr;
mod bpe;
mod byte_level;
mod charsmap;
mod hashed;
mod load;
mod map_order;
mod model;
mod piece_trie;
mod pieces;
mod plamo2;
mod pre;
mod rwkv;
mod special_ids;
mod specials;
mod spm;
mod texts;
mod trie;
mod ugm;
mod unicode;
mod wpm;

pub use attr::TokenAttr;
pub use piece_trie::{Node as PieceNode, PieceTrie};
pub use pre::pre_tokenize;
pub use special_ids::SpecialIds;

use std::sync::OnceLock;

use model::{Context, Model};
use pieces::Pieces;
use specials::{Fragment, Specials};
use texts::Texts;

/// A token: an index into the vocabulary (`llama_token`). Negative numbers are no tokens.
pub type Token = i32;

/// What is wrong with a vocabulary or with a request to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metadata lacks a key or has another type for it.
    #[error(transparent)]
    Meta(#[from] crate::gguf::Error),
    /// `tokenizer.ggml.model` is one we cannot run.
    #[error("unsupported tokenizer '{name}'")]
    UnsupportedTokenizer {
        /// The value.
        name: String,
    },
    /// `tokenizer.ggml.pre` is one we cannot run.
    #[error("unsupported pre-tokenizer '{name}'")]
    UnsupportedPreTokenizer {
        /// The value.
        name: String,
    },
    /// Two tokens have the same text.
    #[error("duplicate token in vocabulary: '{text}' has ids {first} and {second}")]
    Duplicate {
        /// The text.
        text: String,
        /// The one id.
        first: u32,
        /// The other.
        second: u32,
    },
    /// An array by token that does not cover all tokens.
    #[error("{key} has {found} values, expected one for each of the {n_tokens} tokens")]
    TooShort {
        /// Metadata key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// Number of tokens.
        n_tokens: usize,
    },
    /// A token is to be added to every text but is not known.
    #[error("{flag} is true, but {id} is not set")]
    NoTokenToAdd {
        /// Metadata key of the flag.
        flag: &'static str,
        /// Metadata key of the id.
        id: &'static str,
    },
    /// The vocabulary's texts do not fit the 32-bit offsets used for them.
    #[error("vocabulary too large: {bytes} bytes of text, expected at most {}", u32::MAX)]
    TooLarge {
        /// Size that was asked for.
        bytes: usize,
    },
    /// The special tokens could not be compiled into a matcher.
    #[error("special tokens: {0}")]
    Specials(#[from] aho_corasick::BuildError),
    /// The table that text is normalised with leads out of itself.
    #[error("tokenizer.ggml.precompiled_charsmap is broken: {reason}")]
    Charsmap {
        /// What was found and what was expected.
        reason: String,
    },
    /// A vocabulary that must be able to spell every byte is not.
    #[error(
        "no token for the byte {byte:#04x}, expected one of type BYTE with the text <0x{byte:02X}>"
    )]
    NoByteToken {
        /// The byte.
        byte: u8,
    },
    /// The file comes without a vocabulary.
    #[error("the model has no vocabulary: text cannot be tokenized")]
    NoVocab,
    /// A text longer than a token count can express.
    #[error("text of {bytes} bytes is too long to tokenize, expected at most {MAX_TEXT}")]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Most bytes of a text: normalised it takes up to three times as many, which 32-bit offsets and
/// a signed token count must be able to express.
const MAX_TEXT: usize = i32::MAX as usize / 3;

/// Kind of vocabulary; the numbers are `enum llama_vocab_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum VocabType {
    /// The file has none.
    None = 0,
    /// SentencePiece byte pair encoding with byte fallback.
    Spm = 1,
    /// Byte pair encoding over bytes.
    Bpe = 2,
    /// WordPiece.
    Wpm = 3,
    /// Unigram.
    Ugm = 4,
    /// RWKV's greedy longest match.
    Rwkv = 5,
    /// PLaMo 2.
    Plamo2 = 6,
    /// Hashes of pieces of text, for synthetic models.
    Test = 7,
}

/// What is added to a text and removed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    add_space_prefix: bool,
    clean_spaces: bool,
    remove_extra_whitespaces: bool,
}

/// A vocabulary and its tokenizer. Made by [`Vocab::from_meta`].
pub struct Vocab {
    kind: VocabType,
    model: Model,
    n_tokens: usize,
    n_token_types: u32,
    /// Texts of the tokens, then those that only the model needs.
    texts: Texts,
    /// By token; empty if all are 0.
    scores: Vec<f32>,
    attrs: Vec<TokenAttr>,
    pieces: Pieces,
    specials: Specials,
    ids: SpecialIds,
    /// Ascending.
    end_of_generation: Vec<Token>,
    suppressed: Vec<Token>,
    flags: Flags,
    /// Made when first asked for.
    piece_trie: OnceLock<PieceTrie>,
}

impl Vocab {
    /// Tokens of `text`, which may be any bytes (damaged UTF-8 counts as U+FFFD).
    ///
    /// `add_special` adds the tokens that the model wants around a text (BOS, EOS).
    /// `parse_special` recognises control tokens such as `<|im_end|>` in the text; without it they
    /// are text like any other. User-defined tokens are recognised in both cases.
    pub fn tokenize(
        &self,
        text: &[u8],
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<Token>, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::TextTooLong { bytes: text.len() });
        }
        // Byte-level text has three to five bytes a token.
        let mut out = Vec::with_capacity(text.len() / 3 + 4);
        let (first, last) = if add_special { self.added() } else { (None, None) };
        out.extend(first);
        let context = self.context();
        // SentencePiece puts a space before a text and after each special token.
        let mut after_special = true;
        for fragment in self.specials.cut(text, parse_special) {
            match fragment {
                Fragment::Token(token) => out.push(token),
                Fragment::Text(text) => {
                    self.model.tokenize(&context, text, after_special, &mut out)?;
                }
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        out.extend(last);
        self.warn_of_doubles(&out, first, last);
        Ok(out)
    }

    fn context(&self) -> Context<'_> {
        Context {
            texts: &self.texts,
            scores: &self.scores,
            attrs: &self.attrs,
            unk: self.ids.unk,
            flags: self.flags,
        }
    }

    /// What goes before and after a text. BERT has its own frame whatever the flags say, and some
    /// kinds have none.
    fn added(&self) -> (Option<Token>, Option<Token>) {
        match self.kind {
            VocabType::Spm | VocabType::Bpe | VocabType::Ugm => {
                (self.added_bos(), self.added_eos())
            }
            VocabType::Wpm => (self.ids.bos, self.ids.sep),
            VocabType::None | VocabType::Rwkv | VocabType::Plamo2 | VocabType::Test => (None, None),
        }
    }

    fn added_bos(&self) -> Option<Token> {
        self.ids.bos.filter(|_| self.flags.add_bos)
    }

    fn added_eos(&self) -> Option<Token> {
        self.ids.eos.filter(|_| self.flags.add_eos)
    }

    fn warn_of_doubles(&self, tokens: &[Token], bos: Option<Token>, eos: Option<Token>) {
        if bos.is_some() && tokens.get(1).copied() == bos {
            crate::log_warn!(
                "tokenize: the model wants a BOS token before the text and the text starts with one: now there are two"
            );
        }
        if let [.., last, _] = tokens
            && Some(*last) == eos
        {
            crate::log_warn!(
                "tokenize: the model wants an EOS token after the text and the text ends with one: now there are two"
            );
        }
    }

    /// The bytes that `token` stands for, without up to `lstrip` leading spaces. Control and
    /// unknown tokens are empty unless `special`. `None` if there is no such token.
    pub fn token_to_piece(&self, token: Token, lstrip: i32, special: bool) -> Option<&[u8]> {
        let attr = self.attr(token)?;
        if !special && attr.any(TokenAttr::UNKNOWN | TokenAttr::CONTROL) {
            return Some(&[]);
        }
        let piece = self.pieces.get(token)?;
        Some(pieces::strip_left(piece, lstrip.max(0) as usize))
    }

    /// The texts of all tokens (control tokens included) as a tree of characters. The first call
    /// builds it, which takes some ten milliseconds for a hundred thousand tokens.
    pub fn piece_trie(&self) -> &PieceTrie {
        self.piece_trie.get_or_init(|| PieceTrie::new(self))
    }

    /// The text of `tokens`: [`Vocab::join_pieces`] and then [`Vocab::clean_spaces`].
    pub fn detokenize(
        &self,
        tokens: &[Token],
        remove_special: bool,
        unparse_special: bool,
    ) -> Vec<u8> {
        let mut text = self.join_pieces(tokens, remove_special, unparse_special);
        self.clean_spaces(&mut text);
        text
    }

    /// The pieces of `tokens` one after the other. `remove_special` leaves out the BOS and EOS
    /// that `tokenize` adds, `unparse_special` shows control tokens as text. Ids that are no
    /// tokens are left out.
    ///
    /// `llama_detokenize` asks for a buffer of this length even if cleaning makes the text shorter.
    pub fn join_pieces(
        &self,
        mut tokens: &[Token],
        remove_special: bool,
        unparse_special: bool,
    ) -> Vec<u8> {
        let mut lstrip = self.flags.add_space_prefix as i32;
        if remove_special {
            if let (Some(bos), [first, rest @ ..]) = (self.added_bos(), tokens)
                && *first == bos
            {
                tokens = rest;
                lstrip = 0;
            }
            if let (Some(eos), [rest @ .., last]) = (self.added_eos(), tokens)
                && *last == eos
            {
                tokens = rest;
            }
        }
        let mut text = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            text.extend_from_slice(
                self.token_to_piece(token, lstrip, unparse_special).unwrap_or_default(),
            );
            lstrip = 0;
        }
        text
    }

    /// Removes the spaces that this vocabulary's tokenizer puts before punctuation, if it does.
    pub fn clean_spaces(&self, text: &mut Vec<u8>) {
        if self.flags.clean_spaces {
            pieces::clean_spaces(text);
        }
    }

    /// Kind of vocabulary.
    pub fn kind(&self) -> VocabType {
        self.kind
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Number of token types (segments) of BERT-like models.
    pub fn n_token_types(&self) -> u32 {
        self.n_token_types
    }

    /// The token as the vocabulary spells it (`Ġhello`), which is not the text it stands for.
    pub fn text(&self, token: Token) -> Option<&[u8]> {
        self.texts.get(self.index(token)? as u32)
    }

    /// [`Vocab::text`] with a NUL behind it, for C. The memory lives as long as the vocabulary.
    pub fn text_with_nul(&self, token: Token) -> Option<&[u8]> {
        self.texts.get_with_nul(self.index(token)? as u32)
    }

    /// The token that the vocabulary spells `text`.
    pub fn find(&self, text: &[u8]) -> Option<Token> {
        let n = self.texts.find(text)?;
        ((n as usize) < self.attrs.len()).then_some(n as Token)
    }

    /// Score of a token: its rank or log probability, 0 where the file has none.
    pub fn score(&self, token: Token) -> Option<f32> {
        let i = self.index(token)?;
        Some(self.scores.get(i).copied().unwrap_or(0.0))
    }

    /// Attributes of a token.
    pub fn attr(&self, token: Token) -> Option<TokenAttr> {
        self.attrs.get(usize::try_from(token).ok()?).copied()
    }

    /// Does the token end generation?
    pub fn is_eog(&self, token: Token) -> bool {
        self.end_of_generation.binary_search(&token).is_ok()
    }

    /// All tokens that end generation, ascending.
    pub fn eog_tokens(&self) -> &[Token] {
        &self.end_of_generation
    }

    /// Is it a control token?
    pub fn is_control(&self, token: Token) -> bool {
        self.attr(token).is_some_and(|attr| attr.any(TokenAttr::CONTROL))
    }

    /// Tokens that the model asks never to be sampled.
    pub fn suppressed_tokens(&self) -> &[Token] {
        &self.suppressed
    }

    /// Ids of all tokens with a role.
    pub fn special_ids(&self) -> &SpecialIds {
        &self.ids
    }

    /// Does `tokenize` put BOS before a text?
    pub fn add_bos(&self) -> bool {
        self.flags.add_bos
    }

    /// Does `tokenize` put EOS after a text?
    pub fn add_eos(&self) -> bool {
        self.flags.add_eos
    }

    /// Does the model want a separator between two texts?
    pub fn add_sep(&self) -> bool {
        self.flags.add_sep
    }

    /// Does the tokenizer put a space before the first word?
    pub fn add_space_prefix(&self) -> bool {
        self.flags.add_space_prefix
    }

    /// Does detokenizing remove spaces before punctuation?
    pub fn cleans_spaces(&self) -> bool {
        self.flags.clean_spaces
    }

    /// Does the tokenizer fold runs of spaces into one?
    pub fn remove_extra_whitespaces(&self) -> bool {
        self.flags.remove_extra_whitespaces
    }

    fn index(&self, token: Token) -> Option<usize> {
        usize::try_from(token).ok().filter(|&i| i < self.attrs.len())
    }
}
