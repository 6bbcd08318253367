//! Which tokens are special: from the metadata, else by their well-known texts.

use crate::gguf::Metadata;

use super::texts::Texts;
use super::{Error, Token, TokenAttr, map_order};

/// Ids of the tokens with a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Beginning of sequence.
    pub bos: Option<Token>,
    /// End of sequence.
    pub eos: Option<Token>,
    /// End of turn.
    pub eot: Option<Token>,
    /// End of message.
    pub eom: Option<Token>,
    /// Unknown text.
    pub unk: Option<Token>,
    /// Separator of sentences.
    pub sep: Option<Token>,
    /// Padding.
    pub pad: Option<Token>,
    /// Masked text.
    pub mask: Option<Token>,
    /// Line feed.
    pub nl: Option<Token>,
    /// Fill in the middle: what comes before the gap.
    pub fim_pre: Option<Token>,
    /// Fill in the middle: what comes after the gap.
    pub fim_suf: Option<Token>,
    /// Fill in the middle: the gap.
    pub fim_mid: Option<Token>,
    /// Fill in the middle: padding.
    pub fim_pad: Option<Token>,
    /// Fill in the middle: repository name.
    pub fim_rep: Option<Token>,
    /// Fill in the middle: file separator.
    pub fim_sep: Option<Token>,
}

type Role = fn(&mut SpecialIds) -> &mut Option<Token>;

/// Metadata keys (under `tokenizer.ggml.`) and what they set, in the order they are read.
const KEYS: [(&str, Role); 17] = [
    ("bos_token_id", |ids| &mut ids.bos),
    ("eos_token_id", |ids| &mut ids.eos),
    ("eot_token_id", |ids| &mut ids.eot),
    ("eom_token_id", |ids| &mut ids.eom),
    ("unknown_token_id", |ids| &mut ids.unk),
    ("seperator_token_id", |ids| &mut ids.sep), // sic
    ("padding_token_id", |ids| &mut ids.pad),
    ("mask_token_id", |ids| &mut ids.mask),
    ("fim_pre_token_id", |ids| &mut ids.fim_pre),
    ("fim_suf_token_id", |ids| &mut ids.fim_suf),
    ("fim_mid_token_id", |ids| &mut ids.fim_mid),
    ("fim_pad_token_id", |ids| &mut ids.fim_pad),
    ("fim_rep_token_id", |ids| &mut ids.fim_rep),
    ("fim_sep_token_id", |ids| &mut ids.fim_sep),
    // Names of old files.
    ("prefix_token_id", |ids| &mut ids.fim_pre),
    ("suffix_token_id", |ids| &mut ids.fim_suf),
    ("middle_token_id", |ids| &mut ids.fim_mid),
];

/// Texts that give a token a role which the metadata leaves open.
const TEXTS: [(Role, &[&str]); 8] = [
    (
        |ids| &mut ids.eot,
        &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
    ),
    (|ids| &mut ids.eom, &["<|eom_id|>"]),
    (
        |ids| &mut ids.fim_pre,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        |ids| &mut ids.fim_suf,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        |ids| &mut ids.fim_mid,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (|ids| &mut ids.fim_pad, &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        |ids| &mut ids.fim_rep,
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    (|ids| &mut ids.fim_sep, &["<|file_sep|>"]),
];

/// Texts of tokens that end generation.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts of the harmony format's tokens, which are always shown.
const ALWAYS_SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// The tokens of a vocabulary as far as roles are concerned.
pub(super) struct Roles<'a> {
    pub(super) texts: &'a Texts,
    pub(super) attrs: &'a mut [TokenAttr],
    pub(super) ids: SpecialIds,
}

impl Roles<'_> {
    /// Takes the ids that the metadata names; one that is no token leaves the default.
    pub(super) fn read(&mut self, meta: &Metadata) -> Result<(), Error> {
        let is_token = |&id: &Token| (id as usize) < self.attrs.len();
        for (name, role) in KEYS {
            let role = role(&mut self.ids);
            *role = role.filter(is_token);
            let key = key(name);
            let Some(id) = meta.get_u32(&key)? else {
                continue;
            };
            match Token::try_from(id).ok().filter(is_token) {
                Some(id) => *role = Some(id),
                None => crate::log_warn!(
                    "vocabulary: {key} is {id}, but there are {} tokens; ignored",
                    self.attrs.len()
                ),
            }
        }
        Ok(())
    }

    /// Finds what is still open by text and makes those tokens control tokens.
    pub(super) fn find_by_text(&mut self) {
        for (role, texts) in TEXTS {
            if role(&mut self.ids).is_none()
                && let Some(id) = self.first(texts)
            {
                *role(&mut self.ids) = Some(id);
                self.make_control(id);
            }
        }
        for (attr, n) in self.attrs.iter_mut().zip(0..) {
            let text = self.texts.get(n).unwrap_or_default();
            if attr.any(TokenAttr::CONTROL) && memchr::memmem::find(text, b"unused").is_some() {
                *attr |= TokenAttr::UNUSED;
            }
        }
    }

    /// The tokens that end generation, ascending.
    pub(super) fn end_of_generation(&mut self) -> Vec<Token> {
        let mut set = std::collections::BTreeSet::new();
        set.extend([self.ids.fim_pad, self.ids.fim_rep, self.ids.fim_sep].into_iter().flatten());
        for text in END_OF_GENERATION {
            if let Some(id) = self.find(text) {
                set.insert(id);
                self.make_control(id);
            }
        }
        for id in ALWAYS_SHOWN.iter().filter_map(|text| self.find(text)).collect::<Vec<_>>() {
            self.attrs[id as usize] = TokenAttr::USER_DEFINED;
        }
        set.extend([self.ids.eos, self.ids.eot, self.ids.eom].into_iter().flatten());

        // Formats in which one of the usual texts ends a part of the answer only.
        let has = |text| self.find(text).is_some_and(|id| set.contains(&id));
        let call = has("<|call|>") || has("<|calls|>");
        let harmony = call && (has("<|return|>") || has("<|flush|>"));
        // Gemma 4 and PLaMo, where </s> is text.
        let plain_s = has("<|tool_response>") || has("<|plamo:eos|>");
        let mut exclude = |text, attr| {
            if let Some(id) = self.find(text).filter(|id| set.remove(id)) {
                self.attrs[id as usize] = attr;
            }
        };
        if harmony {
            exclude("<|end|>", TokenAttr::USER_DEFINED);
        }
        if plain_s {
            exclude("</s>", TokenAttr::NORMAL);
        }
        set.into_iter().collect()
    }

    fn find(&self, text: &str) -> Option<Token> {
        let n = self.texts.find(text.as_bytes())?;
        ((n as usize) < self.attrs.len()).then_some(n as Token)
    }

    /// The token with one of these texts; of several the one that llama.cpp comes upon first.
    fn first(&self, texts: &[&str]) -> Option<Token> {
        let found: Vec<Token> = texts.iter().filter_map(|text| self.find(text)).collect();
        if let [] | [_] = found[..] {
            return found.first().copied();
        }
        let all = (0..self.attrs.len() as u32).filter_map(|n| self.texts.get(n));
        map_order::iteration_order(all).map(|n| n as Token).find(|id| found.contains(id))
    }

    fn make_control(&mut self, id: Token) {
        let attr = &mut self.attrs[id as usize];
        if !attr.any(TokenAttr::CONTROL) {
            let text = self.texts.get(id as u32).unwrap_or_default();
            crate::log_warn!(
                "vocabulary: token {id} '{}' looks like a control token but is not marked as one; treated as one",
                String::from_utf8_lossy(text)
            );
            *attr |= TokenAttr::CONTROL;
        }
    }
}
