//! Reading a vocabulary from GGUF metadata.

use std::sync::OnceLock;

use crate::gguf::{Array, Metadata, Value};

use super::charsmap::Charsmap;
use super::hashed::Hashed;
use super::plamo2::Plamo2;
use super::pre::PreTokenizer;
use super::rwkv::Rwkv;
use super::special_ids::Roles;
use super::spm::Spm;
use super::ugm::Ugm;
use super::wpm::Wpm;
use super::{
    Context, Error, Flags, Model, Pieces, SpecialIds, Specials, Texts, Token, TokenAttr, Vocab,
    VocabType, bpe,
};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SEP: &str = "tokenizer.ggml.add_sep_token";

impl Vocab {
    /// Reads the vocabulary of a model file (`tokenizer.*` keys).
    ///
    /// # Errors
    /// A kind of tokenizer that is not supported (named in the message), or keys that are missing,
    /// of another type or contradictory.
    pub fn from_meta(meta: &Metadata) -> Result<Vocab, Error> {
        let name = meta.require_str(MODEL)?;
        let pre = meta.get_str("tokenizer.ggml.pre")?.unwrap_or_default();
        let n_token_types = meta.get_u32("tokenizer.ggml.token_type_count")?.unwrap_or(0);
        if matches!(name, "no_vocab" | "none") {
            return no_vocab(meta, n_token_types);
        }
        let kind = match name {
            "llama" => VocabType::Spm,
            "gpt2" | "gemma4" => VocabType::Bpe,
            "bert" => VocabType::Wpm,
            "t5" => VocabType::Ugm,
            "rwkv" => VocabType::Rwkv,
            "plamo2" => VocabType::Plamo2,
            "test" => VocabType::Test,
            _ => {
                return Err(Error::UnsupportedTokenizer { name: name.to_owned() });
            }
        };
        let mut texts = read_texts(meta)?;
        let n_tokens = texts.len();
        let scores = read_scores(meta, n_tokens)?;
        let mut attrs = read_attrs(meta, n_tokens)?;

        let (model, mut flags, defaults) = match kind {
            VocabType::Bpe => read_bpe(meta, pre, &mut texts)?,
            _ => {
                let model = read_model(meta, kind, &texts, &scores, &attrs)?;
                (model, usual_flags(kind), usual_ids(kind))
            }
        };
        read_flags(meta, &mut flags)?;
        flags.add_bos |= matches!(&model, Model::Bpe(bpe) if bpe.always_adds_bos());
        let context =
            Context { texts: &texts, scores: &scores, attrs: &attrs, unk: defaults.unk, flags };
        let nl = model.line_feed(&context, defaults.pad)?;

        let mut roles = Roles { texts: &texts, attrs: &mut attrs, ids: defaults };
        roles.read(meta)?;
        roles.ids.nl = nl;
        check_added(kind, &flags, &roles.ids)?;
        roles.find_by_text();
        let end_of_generation = roles.end_of_generation();
        let ids = roles.ids;

        // Some BPE vocabularies spell their tokens as SentencePiece does.
        let spelling = match &model {
            Model::Bpe(bpe) if bpe.escapes_spaces() => VocabType::Spm,
            _ => kind,
        };
        let pieces = Pieces::new(spelling, &texts, &attrs)?;
        let mut specials = Specials::new(&texts, &attrs)?;
        strip_by_model_name(meta, pre, &texts, &specials, &mut attrs)?;
        specials.set_strip(&attrs);

        Ok(Vocab {
            kind,
            model,
            n_tokens,
            n_token_types,
            texts,
            scores,
            attrs,
            pieces,
            specials,
            ids,
            end_of_generation,
            suppressed: read_suppressed(meta, n_tokens)?,
            flags,
            piece_trie: OnceLock::new(),
        })
    }
}

/// The model of a kind that needs nothing but the tokens.
fn read_model(
    meta: &Metadata,
    kind: VocabType,
    texts: &Texts,
    scores: &[f32],
    attrs: &[TokenAttr],
) -> Result<Model, Error> {
    Ok(match kind {
        VocabType::Spm => Model::Spm(Spm::new(texts)),
        VocabType::Wpm => {
            let lowercase = meta.get_bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
            let accents = meta.get_bool("tokenizer.ggml.normalizer.strip_accents")?;
            Model::Wpm(Wpm::new(texts, lowercase, accents.unwrap_or(lowercase)))
        }
        VocabType::Ugm => Model::Ugm(Ugm::new(texts, scores, attrs, read_charsmap(meta)?)),
        VocabType::Rwkv => Model::Rwkv(Rwkv::new(texts)),
        VocabType::Plamo2 => Model::Plamo2(Plamo2::new(texts, scores, attrs)?),
        _ => Model::Hashed(Hashed::new(texts.len() as u32)),
    })
}

fn read_charsmap(meta: &Metadata) -> Result<Charsmap, Error> {
    const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
    match meta.get(KEY).and_then(Value::as_array) {
        Some(Array::U8(bytes)) => Charsmap::new(bytes),
        Some(Array::I8(bytes)) => Charsmap::new(crate::util::bytes::as_bytes(bytes)),
        _ if meta.get(KEY).is_none() => Ok(Charsmap::default()),
        _ => Err(Error::Charsmap { reason: "expected an array of u8 or i8".to_owned() }),
    }
}

/// What files of a kind mean when they say nothing.
fn usual_flags(kind: VocabType) -> Flags {
    let none = Flags::default();
    match kind {
        VocabType::Spm => Flags { add_space_prefix: true, add_bos: true, ..none },
        VocabType::Wpm => Flags { add_bos: true, add_sep: true, clean_spaces: true, ..none },
        VocabType::Ugm => Flags { add_eos: true, ..none },
        _ => none,
    }
}

/// The special tokens of a kind whose files name none: those of the model that it was made for.
fn usual_ids(kind: VocabType) -> SpecialIds {
    let none = SpecialIds::default();
    match kind {
        VocabType::Spm => SpecialIds { bos: Some(1), eos: Some(2), unk: Some(0), ..none },
        VocabType::Wpm => SpecialIds {
            bos: Some(101),
            unk: Some(100),
            sep: Some(102),
            pad: Some(0),
            mask: Some(103),
            ..none
        },
        VocabType::Ugm => SpecialIds { eos: Some(1), unk: Some(2), pad: Some(0), ..none },
        VocabType::Plamo2 => {
            SpecialIds { bos: Some(1), eos: Some(2), unk: Some(0), pad: Some(3), ..none }
        }
        _ => none,
    }
}

/// A model that works on ids only.
fn no_vocab(meta: &Metadata, n_token_types: u32) -> Result<Vocab, Error> {
    let arch = meta.get_str("general.architecture")?.unwrap_or_default();
    let n_tokens = meta.get_u32(&format!("{arch}.vocab_size"))?.unwrap_or(0) as usize;
    let texts = Texts::with_capacity(0, 0);
    Ok(Vocab {
        kind: VocabType::None,
        model: Model::None,
        n_tokens,
        n_token_types,
        pieces: Pieces::new(VocabType::None, &texts, &[])?,
        specials: Specials::new(&texts, &[])?,
        texts,
        scores: Vec::new(),
        attrs: Vec::new(),
        ids: SpecialIds::default(),
        end_of_generation: Vec::new(),
        suppressed: Vec::new(),
        flags: Flags::default(),
        piece_trie: OnceLock::new(),
    })
}

fn read_texts(meta: &Metadata) -> Result<Texts, Error> {
    let tokens = meta.require_strs(TOKENS)?;
    let mut texts = Texts::with_capacity(tokens.len(), tokens.iter().map(<[u8]>::len).sum());
    for (i, text) in tokens.iter().enumerate() {
        let stand_in;
        let text = match text {
            [] => {
                crate::log_warn!("vocabulary: token {i} is empty");
                stand_in = format!("[EMPTY_{i}]");
                stand_in.as_bytes()
            }
            text => text,
        };
        let (first, is_new) = texts.insert(text)?;
        if !is_new {
            let text = String::from_utf8_lossy(text).into_owned();
            return Err(Error::Duplicate { text, first, second: i as u32 });
        }
    }
    Ok(texts)
}

/// The scores; none at all if the file has none or all are 0.
fn read_scores(meta: &Metadata, n_tokens: usize) -> Result<Vec<f32>, Error> {
    let Some(scores) = meta.get_f32s(SCORES)? else {
        return Ok(Vec::new());
    };
    let scores = covering(SCORES, &scores, n_tokens)?;
    Ok(if scores.iter().any(|&s| s != 0.0) { scores.to_vec() } else { Vec::new() })
}

fn read_attrs(meta: &Metadata, n_tokens: usize) -> Result<Vec<TokenAttr>, Error> {
    let Some(types) = meta.get_i32s(TOKEN_TYPE)? else {
        return Ok(vec![TokenAttr::NORMAL; n_tokens]);
    };
    let types = covering(TOKEN_TYPE, &types, n_tokens)?;
    Ok(types.iter().map(|&t| TokenAttr::of_token_type(t)).collect())
}

/// The values of the tokens; there may be more.
fn covering<'a, T>(key: &'static str, values: &'a [T], n_tokens: usize) -> Result<&'a [T], Error> {
    values.get(..n_tokens).ok_or(Error::TooShort { key, found: values.len(), n_tokens })
}

fn read_bpe(
    meta: &Metadata,
    pre_name: &str,
    texts: &mut Texts,
) -> Result<(Model, Flags, SpecialIds), Error> {
    let is_gemma4 = meta.require_str(MODEL)? == "gemma4";
    let pre_name = if is_gemma4 { "gemma4" } else { pre_name };
    let pre = PreTokenizer::by_name(pre_name)
        .ok_or_else(|| Error::UnsupportedPreTokenizer { name: pre_name.to_owned() })?;
    if pre_name.is_empty() {
        crate::log_warn!(
            "vocabulary: the file names no pre-tokenizer (tokenizer.ggml.pre); the default one may not be the model's, and its answers then are worse"
        );
    }
    let no_merges = pre_name == "kimi-k2" && meta.get(MERGES).is_none();
    let model = match no_merges {
        true => bpe::Bpe::new(texts, std::iter::empty(), pre)?,
        false => bpe::Bpe::new(texts, meta.require_strs(MERGES)?.iter(), pre)?,
    };
    let flags = Flags {
        add_bos: pre.add_bos,
        add_sep: pre.add_sep,
        clean_spaces: pre.clean_spaces,
        ..Flags::default()
    };
    // Defaults of llama.cpp for files that name none: GPT-2's of old conversions.
    let bos = (!is_gemma4 && !pre.no_default_bos).then_some(11);
    let eos = (!is_gemma4).then_some(11);
    Ok((Model::Bpe(model), flags, SpecialIds { bos, eos, ..SpecialIds::default() }))
}

fn read_flags(meta: &Metadata, flags: &mut Flags) -> Result<(), Error> {
    let keys: [(&str, &mut bool); 5] = [
        ("tokenizer.ggml.add_space_prefix", &mut flags.add_space_prefix),
        ("tokenizer.ggml.remove_extra_whitespaces", &mut flags.remove_extra_whitespaces),
        (ADD_BOS, &mut flags.add_bos),
        (ADD_EOS, &mut flags.add_eos),
        (ADD_SEP, &mut flags.add_sep),
    ];
    for (key, flag) in keys {
        *flag = meta.get_bool(key)?.unwrap_or(*flag);
    }
    Ok(())
}

/// What a kind adds to texts must be known.
fn check_added(kind: VocabType, flags: &Flags, ids: &SpecialIds) -> Result<(), Error> {
    let bos = (flags.add_bos, ids.bos, ADD_BOS, "tokenizer.ggml.bos_token_id");
    let eos = (flags.add_eos, ids.eos, ADD_EOS, "tokenizer.ggml.eos_token_id");
    let sep = (flags.add_sep, ids.sep, ADD_SEP, "tokenizer.ggml.seperator_token_id");
    let added: &[_] = match kind {
        VocabType::Spm | VocabType::Bpe | VocabType::Ugm => &[bos, eos],
        VocabType::Wpm => &[bos, sep],
        _ => &[],
    };
    match added.iter().find(|(add, token, ..)| *add && token.is_none()) {
        Some(&(_, _, flag, id)) => Err(Error::NoTokenToAdd { flag, id }),
        None => Ok(()),
    }
}

fn read_suppressed(meta: &Metadata, n_tokens: usize) -> Result<Vec<Token>, Error> {
    let listed = meta.get_i32s("tokenizer.ggml.suppress_tokens")?.unwrap_or_default();
    let is_token = |&id: &Token| usize::try_from(id).is_ok_and(|id| id < n_tokens);
    Ok(listed.iter().copied().filter(is_token).collect())
}

/// Files do not say which special tokens swallow white space beside them; llama.cpp knows it of
/// some models by name.
fn strip_by_model_name(
    meta: &Metadata,
    pre: &str,
    texts: &Texts,
    specials: &Specials,
    attrs: &mut [TokenAttr],
) -> Result<(), Error> {
    let name = meta.get_str("general.name")?.unwrap_or_default().to_ascii_lowercase();
    let arch = meta.get_str("general.architecture")?.unwrap_or_default();
    let contains_any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if contains_any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
        || contains_any(arch, &["nomic-bert-moe", "jina-bert-v3"])
    {
        set_strip(texts, attrs, "<mask>", TokenAttr::LSTRIP, true);
    } else if contains_any(&name, &["phi-3", "phi3"]) {
        for token in specials.tokens() {
            attrs[token as usize].set(TokenAttr::RSTRIP, true);
        }
        set_strip(texts, attrs, "</s>", TokenAttr::RSTRIP, true);
        for text in ["<unk>", "<s>", "<|endoftext|>"] {
            set_strip(texts, attrs, text, TokenAttr::RSTRIP, false);
        }
    } else if contains_any(&name, &["modern-bert"]) {
        set_strip(texts, attrs, "[MASK]", TokenAttr::LSTRIP, true);
    }
    Ok(())
}

fn set_strip(texts: &Texts, attrs: &mut [TokenAttr], text: &str, strip: TokenAttr, on: bool) {
    if let Some(attr) = texts.find(text.as_bytes()).and_then(|n| attrs.get_mut(n as usize)) {
        attr.set(strip, on);
    }
}
