//! Hyper-parameters that architectures share, read from `<arch>.*` keys.

use std::ops::RangeInclusive;

use crate::gguf::{Magic, Metadata, Value};
use crate::plan::{Attention, FixedRope, Rope, Temperature, Window};
use crate::tensor::Activation;

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

/// What a file may claim, beyond which it is damaged or means harm. Buffers are as wide as these
/// say; how wide one can be at most, the tiles of the thread pool decide.
mod limits {
    /// Layers; real models have up to 126.
    pub const LAYERS: usize = 1024;
    /// Width of the residual stream, of all heads together, of the feed-forward network; real
    /// models have up to 53248.
    pub const WIDTH: usize = 1 << 18;
    /// Heads; real models have up to 128.
    pub const HEADS: usize = 4096;
    /// Experts of a layer; real models have up to 512.
    pub const EXPERTS: usize = 4096;
    /// Tokens of a vocabulary; real models have up to 262144.
    pub const VOCAB: usize = 1 << 24;
    /// Tokens of context; real models have up to ten million.
    pub const CONTEXT: usize = 1 << 26;
}

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
    pub n_expert: usize,
    /// Experts that compute a token.
    pub n_expert_used: usize,
    /// Neurons of an expert; 0 when the file does not say.
    pub n_ff_exp: usize,
    /// Neurons of the experts that compute every token; 0 when there are none or unsaid.
    pub n_ff_shexp: usize,
    /// `expert_gating_func` of the file; its use is the architecture's.
    pub expert_gating: Option<u32>,
    /// Factor on experts' shares.
    pub expert_scale: f32,
    /// Added to the mean square in RMS norms.
    pub rms_eps: f32,
    /// Added to the variance in layer norms.
    pub norm_eps: f32,
    /// Rotary embedding of the training.
    pub rope: RopeTraining,
    /// Whether rotation goes by several coordinates of a token, which for text are the same.
    pub mrope: bool,
    /// Whether a token sees only earlier ones.
    pub causal: bool,
    /// Default pooling of embeddings.
    pub pooling: Pooling,
    /// Outputs of a classifier: 1 when the file has no names for them.
    pub n_cls_out: usize,
    /// Token types (sentences of a pair); 0 when the file does not say.
    pub n_token_types: usize,
    /// Window of the layers that have one, in positions; 0 when none has.
    pub n_swa: usize,
    /// Which layers see only a window.
    pub is_swa: Vec<bool>,
    /// Rotation of layers with a window, for architectures where these have their own.
    pub rope_swa: FixedRope,
    /// Factor on logits as the file says it, 0 when it does not. Its use is the architecture's.
    pub logit_scale: f32,
    /// Factor on the residual stream's summands; 1 when the file says nothing.
    pub residual_scale: f32,
    /// Factor on embeddings; 1 when the file says nothing.
    pub embedding_scale: f32,
    /// Factor on attention scores, in place of the usual one.
    pub attention_scale: Option<f32>,
    /// Soft cap on attention scores; 0 for none.
    pub attn_softcap: f32,
    /// Soft cap on logits; 0 for none.
    pub final_softcap: f32,
    /// Activation that the file gives in `powerinfer.activation`, for architectures that have a
    /// choice.
    pub activation: Option<Activation>,
    /// Greatest slope of ALiBi; 0 for none.
    pub max_alibi_bias: f32,
    /// Factor on queries by position, for architectures that have one.
    pub temperature: Option<Temperature>,
    /// Residual streams.
    pub n_streams: usize,
    /// The stream that layers compute; they predict the others.
    pub active_stream: usize,
    /// Elements of the input that each layer has for itself; 0 when there is none.
    pub n_embd_per_layer: usize,
    /// Layers with keys and values of their own; the later ones see those of earlier ones.
    pub n_layer_kv: usize,
    /// How far a gate of each layer has to stand out, in standard deviations.
    pub cutoffs: Vec<Option<f32>>,
}

impl Hparams {
    /// Reads what decoder models share.
    pub fn read(meta: &Metadata, arch: &str) -> Result<Self, Error> {
        let key = |name: &str| format!("{arch}.{name}");
        let within = |name: &str, n: u32, most: usize| -> Result<usize, Error> {
            let size = usize::try_from(n).ok().filter(|n| (1..=most).contains(n));
            let expected = || format!("a number from 1 to {most}");
            size.ok_or_else(|| bad(&key(name), &n.to_string(), &expected()))
        };
        let size = |name: &str, most: usize| within(name, meta.require_u32(&key(name))?, most);
        let n_layer = size("block_count", limits::LAYERS)?;
        let per_layer = |name: &str, most: usize| -> Result<Vec<usize>, Error> {
            let values = meta.get_u32_per_layer(&key(name), n_layer)?;
            let values = values.ok_or_else(|| bad(&key(name), "nothing", "a number"))?;
            values.into_iter().map(|n| within(name, n, most)).collect()
        };
        let n_embd = size("embedding_length", limits::WIDTH)?;
        let n_head = per_layer("attention.head_count", limits::HEADS)?;
        let n_head_kv = match meta.get(&key("attention.head_count_kv")) {
            None => n_head.clone(),
            Some(_) => per_layer("attention.head_count_kv", limits::HEADS)?,
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
        let most = limits::WIDTH / n_head.iter().max().unwrap_or(&1);
        for (name, dim) in
            [("attention.key_length", head_dim_k), ("attention.value_length", head_dim_v)]
        {
            if dim > most {
                return Err(bad(&key(name), &dim.to_string(), &format!("at most {most}")));
            }
        }
        let n_rot = optional_size("rope.dimension_count", head_dim_k)?;
        if n_rot > head_dim_k || n_rot % 2 != 0 {
            let expected = format!("an even number up to {head_dim_k}");
            return Err(bad(&key("rope.dimension_count"), &n_rot.to_string(), &expected));
        }
        let n_ctx_train = size("context_length", limits::CONTEXT)?;
        let n_vocab = match meta.get_array("tokenizer.ggml.tokens")? {
            Some(tokens) if (1..=limits::VOCAB).contains(&tokens.len()) => tokens.len(),
            Some(tokens) => {
                let found = format!("{} tokens", tokens.len());
                let expected = format!("1 to {}", limits::VOCAB);
                return Err(bad("tokenizer.ggml.tokens", &found, &expected));
            }
            None => size("vocab_size", limits::VOCAB)?,
        };
        let rope = read_rope(meta, arch, n_ctx_train)?;
        let n_expert = meta.get_u32(&key("expert_count"))?.unwrap_or(0) as usize;
        let n_expert_used = meta.get_u32(&key("expert_used_count"))?.unwrap_or(0) as usize;
        if n_expert > limits::EXPERTS {
            let expected = format!("at most {}", limits::EXPERTS);
            return Err(bad(&key("expert_count"), &n_expert.to_string(), &expected));
        }
        if n_expert_used > n_expert || n_expert > 0 && n_expert_used == 0 {
            let expected = format!("1 to the {n_expert} experts");
            return Err(bad(&key("expert_used_count"), &n_expert_used.to_string(), &expected));
        }
        let factor = |name: &str| number(meta, &key(name), f32::MIN..=f32::MAX);
        let n_ff = match meta.get(&key("feed_forward_length")) {
            // Models of experts alone may do without.
            None => vec![0; n_layer],
            Some(_) => per_layer("feed_forward_length", limits::WIDTH)?,
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
            n_ff,
            head_dim_k,
            head_dim_v,
            n_rot,
            n_expert,
            n_expert_used,
            n_ff_exp: optional_size("expert_feed_forward_length", 0)?.min(limits::WIDTH),
            n_ff_shexp: optional_size("expert_shared_feed_forward_length", 0)?.min(limits::WIDTH),
            expert_gating: meta.get_u32(&key("expert_gating_func"))?,
            expert_scale: factor("expert_weights_scale")?.filter(|x| *x != 0.0).unwrap_or(1.0),
            rms_eps: number(meta, &key("attention.layer_norm_rms_epsilon"), 0.0..=1.0)?
                .unwrap_or(0.0),
            norm_eps: number(meta, &key("attention.layer_norm_epsilon"), 0.0..=1.0)?.unwrap_or(0.0),
            rope,
            mrope: false,
            causal: meta.get_bool(&key("attention.causal"))?.unwrap_or(true),
            pooling,
            n_cls_out: meta
                .get_strs(&classifier_labels(arch))?
                .map_or(1, |labels| labels.len().max(1)),
            n_token_types: meta.get_u32("tokenizer.ggml.token_type_count")?.unwrap_or(0) as usize,
            n_head,
            n_head_kv,
            n_swa: 0,
            is_swa: vec![false; n_layer],
            rope_swa: FixedRope {
                freq_base: rope.freq_base,
                freq_scale: rope.freq_scale,
                scaled: true,
            },
            logit_scale: factor("logit_scale")?.unwrap_or(0.0),
            residual_scale: factor("residual_scale")?.filter(|x| *x != 0.0).unwrap_or(1.0),
            embedding_scale: factor("embedding_scale")?.filter(|x| *x != 0.0).unwrap_or(1.0),
            attention_scale: factor("attention.scale")?.filter(|x| *x != 0.0),
            attn_softcap: factor("attn_logit_softcapping")?.unwrap_or(0.0),
            final_softcap: factor("final_logit_softcapping")?.unwrap_or(0.0),
            activation: read_activation(meta, arch)?,
            max_alibi_bias: factor("attention.max_alibi_bias")?.unwrap_or(0.0),
            temperature: None,
            n_streams: 1,
            active_stream: 0,
            n_embd_per_layer: 0,
            n_layer_kv: n_layer,
            cutoffs: vec![None; n_layer],
        })
    }

    /// Asks for `tokenizer.ggml.token_type_count`, which encoders must have.
    pub fn require_token_types(&self) -> Result<(), Error> {
        match self.n_token_types {
            0 => Err(bad("tokenizer.ggml.token_type_count", "0", "a number of token types")),
            _ => Ok(()),
        }
    }

    /// Reads the sizes of an expert: its neurons, of which some files say only the sum over the
    /// experts that compute a token.
    pub fn require_experts(&mut self, arch: &str) -> Result<(), Error> {
        if self.n_expert == 0 {
            return Err(bad(&format!("{arch}.expert_count"), "0", "a number of experts"));
        }
        if self.n_ff_exp == 0 {
            self.n_ff_exp = self.n_ff[0] / self.n_expert_used;
        }
        Ok(())
    }

    /// Reads `attention.sliding_window` and which layers have it: `sliding_window_pattern` says so
    /// per layer, or every how many layers (`every` when it says nothing) one sees all. `n_swa`
    /// and `rope_swa` keep what they are where the file says nothing.
    pub fn read_window(&mut self, meta: &Metadata, arch: &str, every: usize) -> Result<(), Error> {
        let key = |name: &str| format!("{arch}.{name}");
        let n_swa = meta.get_u32(&key("attention.sliding_window"))?;
        self.n_swa = n_swa.map_or(self.n_swa, |n| n as usize).min(limits::CONTEXT);
        if self.n_swa == 0 {
            return Ok(());
        }
        let pattern = key("attention.sliding_window_pattern");
        let per_layer = meta.get_u32_per_layer(&pattern, self.n_layer);
        self.is_swa = match meta.get(&pattern) {
            Some(Value::Array(_)) => per_layer?.into_iter().flatten().map(|x| x != 0).collect(),
            _ => {
                let every = meta.get_u32(&pattern)?.map_or(every, |n| n as usize);
                (0..self.n_layer).map(|il| every == 0 || il % every < every - 1).collect()
            }
        };
        let base = number(meta, &key("rope.freq_base_swa"), f32::MIN_POSITIVE..=f32::MAX)?;
        self.rope_swa.freq_base = base.unwrap_or(self.rope_swa.freq_base);
        Ok(())
    }

    /// The most that [`Self::n_embd_per_layer`] can be: all layers' stand side by side.
    pub fn widest_per_layer(&self) -> usize {
        limits::WIDTH / self.n_layer
    }

    /// The window of a layer that looks back, if it has one.
    pub fn window(&self, il: usize) -> Option<Window> {
        self.is_swa[il].then_some(Window::Sliding(self.n_swa))
    }

    /// Attention of a layer, rotated or not, with the model's window and ALiBi. Scores have the
    /// usual factor and no cap: where a model has its own, its architecture says so.
    pub fn attention(&self, il: usize, rope: Option<Rope>) -> Attention {
        Attention {
            rope,
            window: self.window(il),
            max_alibi_bias: self.max_alibi_bias,
            ..Attention::new(self.n_head[il], self.n_head_kv[il], self.head_dim_k, self.head_dim_v)
        }
    }
}

/// Key of the names of a classifier's outputs.
pub fn classifier_labels(arch: &str) -> String {
    format!("{arch}.classifier.output_labels")
}

/// The activation of feed-forward networks in `powerinfer.activation`; a sparse model of PowerInfer
/// has ReLU where it says nothing.
fn read_activation(meta: &Metadata, arch: &str) -> Result<Option<Activation>, Error> {
    const KEY: &str = "powerinfer.activation";
    const WITH_CHOICE: [&str; 6] =
        ["bitnet", "bitnet-25", "bitnet-b1.58", "falcon", "llama", "opt"];
    let act = match meta.get_str(KEY)? {
        None if meta.magic() == Magic::Pwri => Activation::Relu,
        None => return Ok(None),
        Some("relu") => Activation::Relu,
        Some("relu2") => Activation::ReluSquared,
        Some("silu") => Activation::Silu,
        Some("gelu") => Activation::Gelu,
        Some(other) => return Err(bad(KEY, other, "relu, relu2, silu or gelu")),
    };
    if WITH_CHOICE.contains(&arch) {
        return Ok(Some(act));
    }
    // ReLU on gate and up is what bamboo is.
    if meta.get(KEY).is_some() && !(arch == "bamboo" && act == Activation::Relu) {
        crate::log_warn!("key '{KEY}' has no effect on architecture '{arch}'");
    }
    Ok(None)
}

fn read_rope(meta: &Metadata, arch: &str, n_ctx_train: usize) -> Result<RopeTraining, Error> {
    let key = |name: &str| format!("{arch}.rope.{name}");
    let scaling = match meta.get_str(&key("scaling.type"))? {
        None | Some("linear") => RopeScaling::Linear,
        Some("none") => RopeScaling::None,
        Some("yarn") => RopeScaling::Yarn,
        Some("longrope") => RopeScaling::LongRope,
        Some(other) => {
            return Err(bad(&key("scaling.type"), other, "none, linear, yarn or longrope"));
        }
    };
    let any = f32::MIN..=f32::MAX;
    let positive = f32::MIN_POSITIVE..=f32::MAX;
    let factor = match number(meta, &key("scaling.factor"), 0.0..=f32::MAX)? {
        Some(factor) => factor,
        None => number(meta, &key("scale_linear"), 0.0..=f32::MAX)?.unwrap_or(0.0),
    };
    let n_ctx_orig = meta.get_u32(&key("scaling.original_context_length"))?;
    Ok(RopeTraining {
        freq_base: number(meta, &key("freq_base"), positive.clone())?.unwrap_or(10000.0),
        freq_scale: if factor == 0.0 { 1.0 } else { 1.0 / factor },
        scaling,
        n_ctx_orig: n_ctx_orig.filter(|&n| n > 0).map_or(n_ctx_train, |n| n as usize),
        attn_factor: number(meta, &key("scaling.attn_factor"), any.clone())?.unwrap_or(1.0),
        yarn_beta_fast: number(meta, &key("scaling.yarn_beta_fast"), positive.clone())?
            .unwrap_or(32.0),
        yarn_beta_slow: number(meta, &key("scaling.yarn_beta_slow"), positive)?.unwrap_or(1.0),
        yarn_log_mul: number(meta, &key("scaling.yarn_log_multiplier"), any.clone())?
            .unwrap_or(0.0),
        finetuned: meta.get_bool(&key("scaling.finetuned"))?,
        yarn_ext_factor: number(meta, &key("scaling.yarn_ext_factor"), any)?.unwrap_or(-1.0),
    })
}

/// A number in this range, so never NaN or infinite.
pub(super) fn number(
    meta: &Metadata,
    key: &str,
    range: RangeInclusive<f32>,
) -> Result<Option<f32>, Error> {
    match meta.get_f32(key)? {
        Some(x) if !range.contains(&x) => {
            let expected = format!("a number from {:e} to {:e}", range.start(), range.end());
            Err(bad(key, &x.to_string(), &expected))
        }
        x => Ok(x),
    }
}

pub(super) fn bad(key: &str, found: &str, expected: &str) -> Error {
    Error::BadHparam { key: key.into(), found: found.into(), expected: expected.into() }
}
