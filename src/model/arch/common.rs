//! Layer forms that architectures share.

use super::{Error, Hparams};
use crate::plan::{
    Attention, Builder, Experts, FfnShape, Gating, Map, NormKind, Rope, RopeStyle, RopeTable,
    Router, RowOf, SlotId,
};
use crate::tensor::Activation;

/// A feed-forward network.
#[derive(Clone, Copy)]
pub(super) enum Ffn {
    /// `down(act(gate) * up)`
    Gated(Activation),
    /// `down(act(up))`
    Plain(Activation),
    /// Gated networks of experts, of which each token takes some.
    Experts(Experts),
    /// The same beside one gated network that computes every token, times a gate of its own.
    ExpertsAndShared(Experts),
}

/// Layers that norm what goes into attention and into the feed-forward network, one after the
/// other (Llama's form).
pub(super) struct PreNorm {
    /// Kind of all norms.
    pub norm: NormKind,
    /// Rotation of all layers.
    pub rope: Option<Rope>,
    /// Norm of each query and key head.
    pub qk_norm: Option<NormKind>,
    /// The feed-forward network.
    pub ffn: Ffn,
}

impl PreNorm {
    /// Lays out all layers and the output.
    pub(super) fn build(
        &self,
        hp: &Hparams,
        b: &mut Builder<'_>,
        x: SlotId,
    ) -> Result<SlotId, Error> {
        self.build_with(hp, b, x, |il| hp.attention(il, self.rope))
    }

    /// The same with attention of one's own per layer. Returns the logits.
    pub(super) fn build_with(
        &self,
        hp: &Hparams,
        b: &mut Builder<'_>,
        mut x: SlotId,
        attention: impl Fn(usize) -> Attention,
    ) -> Result<SlotId, Error> {
        let (n_embd, scale) = (hp.n_embd, hp.residual_scale);
        for il in 0..hp.n_layer {
            let spec = attention(il);
            let norm = pre_norm(hp, b, il, "attn_norm", self.norm, x)?;
            let qkv = qkv(hp, b, il, &spec, norm)?;
            if let Some(kind) = self.qk_norm {
                b.qk_norm(il, &spec, qkv, kind, eps(hp, kind))?;
            }
            let mut attn = b.attend(spec, qkv);
            if il + 1 == hp.n_layer {
                [attn, x] = b.select_outputs([attn, x]);
            }
            let out = b.attn_output(il, &spec, n_embd)?;
            b.mat_mul_add_scaled(&format!("ffn_inp-{il}"), attn, out, scale, x);

            let seen = b.predictor_input(il, x);
            let norm = pre_norm(hp, b, il, "ffn_norm", self.norm, x)?;
            self.ffn.build(hp, b, il, norm, seen, x)?;
        }
        logits(hp, b, self.norm, x)
    }
}

/// Layers whose attention and feed-forward network stand side by side over one norm (Falcon's
/// form); `attn_norm_2` gives attention a norm of its own.
pub(super) struct Parallel {
    /// Kind of all norms.
    pub norm: NormKind,
    /// Rotation of all layers.
    pub rope: Option<Rope>,
    /// Norm of each query and key head.
    pub qk_norm: Option<NormKind>,
    /// The feed-forward network.
    pub ffn: Ffn,
}

impl Parallel {
    /// Lays out all layers and the output. Returns the logits.
    pub(super) fn build(
        &self,
        hp: &Hparams,
        b: &mut Builder<'_>,
        mut x: SlotId,
    ) -> Result<SlotId, Error> {
        for il in 0..hp.n_layer {
            let spec = hp.attention(il, self.rope);
            // What the layer gets, attention not yet added.
            let mut seen = b.predictor_input(il, x);
            let mut norm = pre_norm(hp, b, il, "attn_norm", self.norm, x)?;
            let own = format!("blk.{il}.attn_norm_2");
            let attn_in = match b.has(&format!("{own}.weight")) {
                true => {
                    let weights = b.norm_weights(self.norm, &own, hp.n_embd, eps(hp, self.norm))?;
                    b.norm_to(&format!("attn_norm_2-{il}"), "attn_norm_2", x, weights)
                }
                false => norm,
            };
            let qkv = qkv(hp, b, il, &spec, attn_in)?;
            if let Some(kind) = self.qk_norm {
                b.qk_norm(il, &spec, qkv, kind, eps(hp, kind))?;
            }
            let mut attn = b.attend(spec, qkv);
            if il + 1 == hp.n_layer {
                [attn, x, norm] = b.select_outputs([attn, x, norm]);
                seen = seen.map(|seen| b.select_outputs([seen])[0]);
            }
            let out = b.attn_output(il, &spec, hp.n_embd)?;
            b.mat_mul_add(&format!("attn_out-{il}"), attn, out, x);
            self.ffn.build(hp, b, il, norm, seen, x)?;
        }
        logits(hp, b, self.norm, x)
    }
}

/// Layers that norm what goes into each block and what comes out of it (Gemma 2's form).
pub(super) struct Sandwich {
    /// Rotation of layers without a window, and of those with one.
    pub ropes: (Rope, Rope),
    /// Norm of each query and key head.
    pub qk_norm: bool,
    /// Cap on scores; 0 for none.
    pub softcap: f32,
    /// Activation of the gated feed-forward network.
    pub act: Activation,
}

impl Sandwich {
    /// Lays out all layers and the output, over RMS norms. Returns the logits.
    pub(super) fn build(
        &self,
        hp: &Hparams,
        b: &mut Builder<'_>,
        mut x: SlotId,
    ) -> Result<SlotId, Error> {
        let kind = NormKind::Rms;
        for il in 0..hp.n_layer {
            let rope = if hp.is_swa[il] { self.ropes.1 } else { self.ropes.0 };
            let plain = hp.attention(il, Some(rope));
            let scale = hp.attention_scale.unwrap_or(plain.scale);
            let spec = Attention { scale, softcap: self.softcap, ..plain };
            let norm = pre_norm(hp, b, il, "attn_norm", kind, x)?;
            let qkv = qkv(hp, b, il, &spec, norm)?;
            if self.qk_norm {
                b.qk_norm(il, &spec, qkv, kind, hp.rms_eps)?;
            }
            let mut attn = b.attend(spec, qkv);
            if il + 1 == hp.n_layer {
                [attn, x] = b.select_outputs([attn, x]);
            }
            let out = b.attn_output(il, &spec, hp.n_embd)?;
            let out = b.mat_mul(&format!("attn_out-{il}"), "block_out", attn, vec![out]);
            post_norm(hp, b, il, ("post_attention_norm", "sa_out"), out, x)?;

            let norm = pre_norm(hp, b, il, "ffn_norm", kind, x)?;
            let out = gated_ffn(hp, b, il, norm, (self.act, None))?;
            post_norm(hp, b, il, ("post_ffw_norm", "l_out"), out, x)?;
        }
        logits(hp, b, kind, x)
    }
}

/// A layer's gated network over `src`, for layers that norm its output, with a cutoff on its gates
/// if there is one.
pub(super) fn gated_ffn(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    src: SlotId,
    (act, cutoff): (Activation, Option<f32>),
) -> Result<SlotId, Error> {
    let (n_ff, out) = (hp.n_ff[il], "block_out");
    let shape = FfnShape { n_ff, gated: true, act, cutoff, norm: None, scale: 1.0 };
    if b.skips(il, &shape) {
        return Ok(b.skipping_ffn_alone(il, src, &shape, out)?);
    }
    let act = match cutoff {
        Some(cutoff) => b.ffn_cut(il, src, n_ff, act, cutoff)?,
        None => b.ffn_gated(il, src, n_ff, act)?,
    };
    let down = b.ffn_down(il, n_ff, hp.n_embd)?;
    Ok(b.mat_mul(&format!("ffn_out-{il}"), out, act, vec![down]))
}

/// Embeddings of tokens, of token type 0 (a single sentence) and, with `positions`, of positions,
/// normed: what encoders of BERT's form start from.
pub(super) fn encoder_input(
    hp: &Hparams,
    b: &mut Builder<'_>,
    positions: bool,
) -> Result<SlotId, Error> {
    let x = b.embed(hp.n_embd, hp.n_vocab)?;
    if b.has("token_types.weight") {
        let row = RowOf::Fixed(0);
        b.add_row("inp_types", "token_types.weight", hp.n_token_types, row, x)?;
    }
    if positions {
        let row = RowOf::Position(0);
        b.add_row("inp_pos_embd", "position_embd.weight", hp.n_ctx_train, row, x)?;
    }
    let norm = b.norm_weights(NormKind::Layer, "token_embd_norm", hp.n_embd, hp.norm_eps)?;
    Ok(b.norm_to("inp_norm", STREAM, x, norm))
}

/// The state between layers that norm sums; what is summed after attention is in `residual`.
const STREAM: &str = "stream";

/// Layers that norm the sum of each block's input and output (BERT's form).
pub(super) struct PostNorm {
    /// Rotation of all layers.
    pub rope: Option<Rope>,
    /// The feed-forward network.
    pub ffn: Ffn,
}

impl PostNorm {
    /// Lays out all layers and ends the plan: the last norm's output is the embedding.
    pub(super) fn build(&self, hp: &Hparams, b: &mut Builder<'_>, x: SlotId) -> Result<(), Error> {
        let kind = NormKind::Layer;
        for il in 0..hp.n_layer {
            let tensor = |name: &str| format!("blk.{il}.{name}");
            let spec = hp.attention(il, self.rope);
            let input = b.copy(&format!("attn_inp-{il}"), "norm", x);
            let qkv = qkv(hp, b, il, &spec, input)?;
            let attn = b.attend(spec, qkv);
            let out = b.attn_output(il, &spec, hp.n_embd)?;
            b.mat_mul_add(&format!("attn_res-{il}"), attn, out, x);
            let norm = b.norm_weights(kind, &tensor("attn_output_norm"), hp.n_embd, hp.norm_eps)?;
            let y = b.norm_to(&format!("ffn_inp-{il}"), "residual", x, norm);

            let input = b.copy(&format!("ffn_inp_copy-{il}"), "norm", y);
            self.ffn.build(hp, b, il, input, None, y)?;
            let norm =
                b.norm_weights(kind, &tensor("layer_output_norm"), hp.n_embd, hp.norm_eps)?;
            b.norm_to(&format!("layer_out-{il}"), STREAM, y, norm);
        }
        b.encoder_outputs(x);
        Ok(())
    }
}

/// Rotation of layers with a window, by constants of their own.
pub(super) fn rope_swa(hp: &Hparams, b: &mut Builder<'_>, style: RopeStyle) -> Rope {
    b.rope_table(RopeTable { n_rot: hp.n_rot, fixed: Some(hp.rope_swa), factors: None }, style)
}

/// Caps logits, if the model does.
pub(super) fn cap(hp: &Hparams, b: &mut Builder<'_>, logits: SlotId) {
    if hp.final_softcap > 0.0 {
        b.map("result_output", logits, Map::SoftCap(hp.final_softcap));
    }
}

impl Ffn {
    /// Adds a layer's network over `src` to the residual stream `x`. `seen` is what its predictor
    /// looks at, if it has one.
    pub(super) fn build(
        self,
        hp: &Hparams,
        b: &mut Builder<'_>,
        il: usize,
        src: SlotId,
        seen: Option<SlotId>,
        x: SlotId,
    ) -> Result<(), Error> {
        let (n_ff, scale) = (hp.n_ff[il], hp.residual_scale);
        if let Self::Gated(act) | Self::Plain(act) = self {
            let gated = matches!(self, Self::Gated(_));
            let shape = FfnShape { n_ff, gated, act, cutoff: None, norm: None, scale };
            if b.skips(il, &shape) {
                return Ok(b.skipping_ffn(il, src, seen, &shape, x)?);
            }
        }
        let act = match self {
            Self::Gated(act) => b.ffn_gated(il, src, n_ff, act)?,
            Self::Plain(act) => b.ffn_plain(il, src, n_ff, act)?,
            Self::Experts(experts) => return Ok(b.experts(il, src, &experts, scale, x)?),
            Self::ExpertsAndShared(experts) => {
                b.experts(il, src, &experts, scale, x)?;
                return Ok(b.shared_expert(il, src, hp.n_ff_shexp, experts.act, x)?);
            }
        };
        let down = b.ffn_down(il, n_ff, hp.n_embd)?;
        b.mat_mul_add_scaled(&format!("l_out-{il}"), act, down, scale, x);
        Ok(())
    }

    /// Experts, beside one that computes every token.
    pub(super) fn with_shared(self) -> Self {
        match self {
            Self::Experts(experts) => Self::ExpertsAndShared(experts),
            other => other,
        }
    }

    /// The model's experts, routed by a softmax over all, or `dense` when it has none.
    pub(super) fn experts_or(self, hp: &Hparams, normalized: bool, scales: bool) -> Self {
        let Self::Gated(act) = self else { return self };
        if hp.n_expert == 0 {
            return self;
        }
        let router = Router {
            n_used: hp.n_expert_used,
            gating: Gating::Softmax,
            normalized,
            scale: hp.expert_scale,
            bias: None,
        };
        let n_ff = if hp.n_ff_exp > 0 { hp.n_ff_exp } else { hp.n_ff[0] };
        Self::Experts(Experts { n_expert: hp.n_expert, n_ff, router, act, scales })
    }
}

/// The constant of a kind of norm.
pub(super) fn eps(hp: &Hparams, kind: NormKind) -> f32 {
    match kind {
        NormKind::Rms => hp.rms_eps,
        NormKind::Layer => hp.norm_eps,
    }
}

/// The residual stream through a layer's norm `name`.
pub(super) fn pre_norm(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    name: &str,
    kind: NormKind,
    x: SlotId,
) -> Result<SlotId, Error> {
    let norm = b.norm_weights(kind, &format!("blk.{il}.{name}"), hp.n_embd, eps(hp, kind))?;
    Ok(b.norm(&format!("{name}-{il}"), x, norm))
}

/// Adds a block's output `src` through a layer's norm `name` to the residual stream `x`.
pub(super) fn post_norm(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    (name, node): (&str, &str),
    src: SlotId,
    x: SlotId,
) -> Result<(), Error> {
    let kind = NormKind::Rms;
    let norm = b.norm_weights(kind, &format!("blk.{il}.{name}"), hp.n_embd, eps(hp, kind))?;
    b.norm_add(&format!("{node}-{il}"), src, norm, x);
    Ok(())
}

/// Queries, keys and values of a layer side by side.
pub(super) fn qkv(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    spec: &Attention,
    src: SlotId,
) -> Result<SlotId, Error> {
    let mats = b.qkv(il, hp.n_embd, spec)?;
    Ok(b.mat_mul(&format!("qkv-{il}"), "qkv", src, mats))
}

/// The last norm and the logits.
pub(super) fn logits(
    hp: &Hparams,
    b: &mut Builder<'_>,
    kind: NormKind,
    x: SlotId,
) -> Result<SlotId, Error> {
    let norm = b.norm_weights(kind, "output_norm", hp.n_embd, eps(hp, kind))?;
    let norm = b.norm("result_norm", x, norm);
    let output = b.output_mat(hp.n_embd, hp.n_vocab)?;
    Ok(b.outputs(norm, output))
}
