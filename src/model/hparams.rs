//! Hyper-parameters that architectures share, read from `<arch>.*` keys.

use crate::gguf::Metadata;

use super::Error;
use super::rope::{RopeScaling, RopeTraining};

/// How outputs of a sequence become one embedding; the numbers are `enum llama_pooling_type`.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Pooling {
    None = 0,
    Mean = 1,
    Cls = 2,
    Last = 3,
    Rank = 4,
}

impl Pooling {
    /// The pooling with this number.
    pub fn from_id(id: i32) -> Option<Self> {
        [Self::None, Self::Mean, Self::Cls, Self::Last, Self::Rank]
            .into_iter()
            .find(|p| *p as i32 == id)
    }
}

/// Most layers that a file may claim; real models have up to 126.
const MAX_LAYERS: u32 = 1024;

/// Sizes and constants of a model. Lengths are in elements.
#[derive(Clone, Debug)]
pub struct Hparams {
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Context length of the training, in tokens.
    pub n_ctx_train: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Query heads per layer.
    pub n_head: Vec<usize>,
    /// Key and value heads per layer.
    pub n_head_kv: Vec<usize>,
    /// Neurons of the feed-forward network per layer.
    pub n_ff: Vec<usize>,
    /// Elements of a query or key head.
    pub head_dim_k: usize,
    /// Elements of a value head.
    pub head_dim_v: usize,
    /// Elements of a head that are rotated.
    pub n_rot: usize,
    /// Experts per layer; 0 when the feed-forward network is one.
    pub n_expert: u32,
    /// Added to the mean square in RMS norms.
    pub rms_eps: f32,
    /// Rotary embedding of the training.
    pub rope: RopeTraining,
    /// Whether a token sees only earlier ones.
    pub causal: bool,
    /// Default pooling of embeddings.
    pub pooling: Pooling,
}

impl Hparams {
    /// Reads what decoder models share.
    pub fn read(meta: &Metadata, arch: &str) -> Result<Self, Error> {
        let key = |name: &str| format!("{arch}.{name}");
        let size = |name: &str| -> Result<usize, Error> {
            match meta.require_u32(&key(name))? {
                0 => Err(bad(&key(name), "0", "a positive number")),
                n => Ok(n as usize),
            }
        };
        let n_layer = size("block_count")?;
        if n_layer > MAX_LAYERS as usize {
            let expected = format!("at most {MAX_LAYERS}");
            return Err(bad(&key("block_count"), &n_layer.to_string(), &expected));
        }
        let per_layer = |name: &str| -> Result<Vec<usize>, Error> {
            let values = meta.get_u32_per_layer(&key(name), n_layer)?;
            let values = values.ok_or_else(|| bad(&key(name), "nothing", "a number"))?;
            match values.contains(&0) {
                true => Err(bad(&key(name), "0", "a positive number")),
                false => Ok(values.into_iter().map(|v| v as usize).collect()),
            }
        };
        let n_embd = size("embedding_length")?;
        let n_head = per_layer("attention.head_count")?;
        let n_head_kv = match meta.get(&key("attention.head_count_kv")) {
            None => n_head.clone(),
            Some(_) => per_layer("attention.head_count_kv")?,
        };
        for (h, kv) in n_head.iter().zip(&n_head_kv) {
            if h % kv != 0 {
                let expected = format!("a divisor of the {h} query heads");
                return Err(bad(&key("attention.head_count_kv"), &kv.to_string(), &expected));
            }
        }
        let optional_size = |name: &str, default: usize| -> Result<usize, Error> {
            Ok(meta.get_u32(&key(name))?.filter(|&n| n > 0).map_or(default, |n| n as usize))
        };
        let head_dim = n_embd / n_head[0];
        let head_dim_k = optional_size("attention.key_length", head_dim)?;
        let head_dim_v = optional_size("attention.value_length", head_dim)?;
        if head_dim_k == 0 || head_dim_v == 0 {
            return Err(bad(&key("attention.head_count"), &n_head[0].to_string(), "fewer heads"));
        }
        let n_rot = optional_size("rope.dimension_count", head_dim_k)?;
        if n_rot > head_dim_k || n_rot % 2 != 0 {
            let expected = format!("an even number up to {head_dim_k}");
            return Err(bad(&key("rope.dimension_count"), &n_rot.to_string(), &expected));
        }
        let n_ctx_train = size("context_length")?;
        let n_vocab = match meta.get_array("tokenizer.ggml.tokens")? {
            Some(tokens) => tokens.len(),
            None => size("vocab_size")?,
        };
        let pooling = match meta.get_i64(&key("pooling_type"))? {
            // "Unspecified" is -1, which some files hold as an unsigned number.
            None | Some(-1 | 0xffff_ffff) => Pooling::None,
            Some(id) => i32::try_from(id)
                .ok()
                .and_then(Pooling::from_id)
                .ok_or_else(|| bad(&key("pooling_type"), &id.to_string(), "0 to 4"))?,
        };
        Ok(Self {
            n_vocab,
            n_ctx_train,
            n_embd,
            n_layer,
            n_ff: per_layer("feed_forward_length")?,
            head_dim_k,
            head_dim_v,
            n_rot,
            n_expert: meta.get_u32(&key("expert_count"))?.unwrap_or(0),
            rms_eps: meta.get_f32(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(0.0),
            rope: read_rope(meta, arch, n_ctx_train)?,
            causal: meta.get_bool(&key("attention.causal"))?.unwrap_or(true),
            pooling,
            n_head,
            n_head_kv,
        })
    }
}

fn read_rope(meta: &Metadata, arch: &str, n_ctx_train: usize) -> Result<RopeTraining, Error> {
    let key = |name: &str| format!("{arch}.rope.{name}");
    let scaling = match meta.get_str(&key("scaling.type"))? {
        None | Some("linear") => RopeScaling::Linear,
        Some("none") => RopeScaling::None,
        Some("yarn") => RopeScaling::Yarn,
        Some(other) => {
            return Err(bad(&key("scaling.type"), other, "none, linear or yarn"));
        }
    };
    let factor = match meta.get_f32(&key("scaling.factor"))? {
        Some(factor) => factor,
        None => meta.get_f32(&key("scale_linear"))?.unwrap_or(0.0),
    };
    let n_ctx_orig = meta.get_u32(&key("scaling.original_context_length"))?;
    Ok(RopeTraining {
        freq_base: meta.get_f32(&key("freq_base"))?.unwrap_or(10000.0),
        freq_scale: if factor == 0.0 { 1.0 } else { 1.0 / factor },
        scaling,
        n_ctx_orig: n_ctx_orig.filter(|&n| n > 0).map_or(n_ctx_train, |n| n as usize),
        attn_factor: meta.get_f32(&key("scaling.attn_factor"))?.unwrap_or(1.0),
        yarn_beta_fast: meta.get_f32(&key("scaling.yarn_beta_fast"))?.unwrap_or(32.0),
        yarn_beta_slow: meta.get_f32(&key("scaling.yarn_beta_slow"))?.unwrap_or(1.0),
        yarn_ext_factor: meta.get_f32(&key("scaling.yarn_ext_factor"))?.unwrap_or(-1.0),
    })
}

fn bad(key: &str, found: &str, expected: &str) -> Error {
    Error::BadHparam { key: key.into(), found: found.into(), expected: expected.into() }
}
