//! Gemma 3n: Gemma 3's layers around several residual streams (AltUp, arXiv 2301.13310), of which a
//! layer computes one and predicts the others. Beside attention stands a product of low rank
//! (LAuReL, arXiv 2411.07501); each layer has an embedding of the token for itself; the last layers
//! see keys and values of earlier ones; in the first ones only gates that stand out pass, some 5 %.

use super::common::{gated_ffn, logits, post_norm, pre_norm, qkv, rope_swa};
use super::{ArchSpec, Error, Hparams, bad};
use crate::gguf::Metadata;
use crate::plan::{Builder, FixedRope, Map, NormKind, Rope, RopeStyle, RowOf, STREAMS, SlotId};
use crate::tensor::Activation;

pub(super) const SPEC: ArchSpec =
    ArchSpec { name: "gemma3n", rope: Some(RopeStyle::Neox), hparams, build, size_name };

const NORM: NormKind = NormKind::Rms;
const ACT: Activation = Activation::Gelu;

/// Layers whose gates must stand out, and by how many standard deviations (the 95th percentile of a
/// Gaussian), where the file does not say it.
const CUT_LAYERS: usize = 10;
const CUTOFF: f32 = 1.644_853_6;
/// Layers with keys and values of their own, likewise.
const KV_LAYERS: usize = 20;

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    let key = |name: &str| format!("gemma3n.{name}");
    meta.require_f32(&key("attention.layer_norm_rms_epsilon"))?;
    meta.require_u32(&key("attention.sliding_window"))?;
    let mut hp = Hparams::read(meta, "gemma3n")?;
    hp.rope_swa = FixedRope { freq_base: 10000.0, freq_scale: 1.0, scaled: true };
    hp.read_window(meta, "gemma3n", 5)?;
    if hp.final_softcap <= 0.0 {
        hp.final_softcap = 30.0;
    }
    let size = |name: &str, default: usize, from: usize, to: usize| -> Result<usize, Error> {
        let n = meta.get_u32(&key(name))?.map_or(default, |n| n as usize);
        let expected = || format!("a number from {from} to {to}");
        let fits = (from..=to).contains(&n).then_some(n);
        fits.ok_or_else(|| bad(&key(name), &n.to_string(), &expected()))
    };
    hp.n_streams = size("altup.num_inputs", 4, 2, STREAMS.len())?;
    hp.active_stream = size("altup.active_idx", 0, 0, hp.n_streams - 1)?;
    hp.n_embd_per_layer = size("embedding_length_per_layer_input", 256, 1, hp.widest_per_layer())?;
    let n_shared = hp.n_layer.saturating_sub(KV_LAYERS);
    let n_shared = size("attention.shared_kv_layers", n_shared, 0, hp.n_layer - 1)?;
    hp.n_layer_kv = hp.n_layer - n_shared;
    if let Some(il) = (hp.n_layer_kv..hp.n_layer).find(|&il| kv_of(&hp, il).is_none()) {
        let expected = format!("an earlier layer like layer {il}, with the same window");
        return Err(bad(&key("attention.shared_kv_layers"), &n_shared.to_string(), &expected));
    }
    hp.cutoffs = cutoffs(meta, "gemma3n.activation_sparsity_scale", hp.n_layer)?;
    Ok(hp)
}

/// How far gates must stand out, layer by layer.
fn cutoffs(meta: &Metadata, key: &str, n_layer: usize) -> Result<Vec<Option<f32>>, Error> {
    let Some(all) = meta.get_f32s(key)? else {
        return Ok((0..n_layer).map(|il| (il < CUT_LAYERS).then_some(CUTOFF)).collect());
    };
    if all.len() != n_layer {
        let expected = format!("one for each of {n_layer} layers");
        return Err(bad(key, &format!("{} numbers", all.len()), &expected));
    }
    // Minus infinity where all pass.
    let of_layer = |&x: &f32| match x {
        f32::NEG_INFINITY => Ok(None),
        x if x.is_finite() => Ok(Some(x)),
        x => Err(bad(key, &x.to_string(), "standard deviations, or -inf for none")),
    };
    all.iter().map(of_layer).collect()
}

/// The layer whose keys and values a layer sees that has none of its own: the last one with the
/// same window.
fn kv_of(hp: &Hparams, il: usize) -> Option<usize> {
    (0..hp.n_layer_kv).rev().find(|&earlier| hp.is_swa[earlier] == hp.is_swa[il])
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let style = RopeStyle::Neox;
    let ropes = (b.rope(style, hp.n_rot)?, rope_swa(hp, b, style));
    // Embeddings that the caller gives (images) are scaled already.
    let x = b.embed_scaled(hp.n_embd, hp.n_vocab, (hp.n_embd as f32).sqrt(), 1.0)?;
    let input = b.copy("inp_scaled", "norm", x);
    let mut per_layer = per_layer_inputs(hp, b, input)?;
    let mut streams = vec![x];
    let mats = b.mats("altup_proj", hp.n_embd, hp.n_embd, hp.n_streams - 1)?;
    for (i, mat) in mats.into_iter().enumerate() {
        let projected = b.mat_mul("altup_added", "block_out", input, vec![mat]);
        streams.push(b.stream("inp_stacked", i + 1, projected, x));
    }
    for il in 0..hp.n_layer {
        (streams, per_layer) = layer(hp, b, il, ropes, streams, per_layer)?;
    }

    let merged = b.copy("unembd_merged", "layer", streams[0]);
    let mats = b.mats("altup_unembd_proj", hp.n_embd, hp.n_embd, hp.n_streams - 1)?;
    for (&stream, mat) in streams[1..].iter().zip(mats) {
        let input = b.copy("altup_copy", "norm", stream);
        let projected = b.mat_mul("altup_unembd", "block_out", input, vec![mat]);
        b.add_rescaled("unembd_merged", projected, streams[hp.active_stream], merged);
    }
    b.map("unembd_merged", merged, Map::Scale(1.0 / hp.n_streams as f32));
    let logits = logits(hp, b, NORM, merged)?;
    b.map("result_output", logits, Map::SoftCap(hp.final_softcap));
    Ok(())
}

/// The inputs that layers have for themselves, side by side: from the token's embedding, and from a
/// table by its id.
fn per_layer_inputs(hp: &Hparams, b: &mut Builder<'_>, input: SlotId) -> Result<SlotId, Error> {
    let (n, n_layer) = (hp.n_embd_per_layer, hp.n_layer);
    let mat = b.mat("per_layer_model_proj", hp.n_embd, n * n_layer)?;
    let inputs = b.mat_mul("per_layer_proj", "per_layer", input, vec![mat]);
    b.map("per_layer_proj", inputs, Map::Scale(1.0 / (hp.n_embd as f32).sqrt()));
    let (name, eps) = ("per_layer_proj_norm", hp.rms_eps);
    b.norm_heads("per_layer_proj", inputs, 0, n_layer, n, NORM, name, eps)?;
    let (table, scale) = ("per_layer_token_embd.weight", (n as f32).sqrt());
    b.add_row_scaled("inp_per_layer", table, hp.n_vocab, RowOf::Token, scale, inputs)?;
    b.map("inp_per_layer", inputs, Map::Scale(0.5f32.sqrt()));
    Ok(inputs)
}

/// One layer. Returns the buffers of the streams and of the layers' inputs, which are others behind
/// the last layer's attention.
fn layer(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    ropes: (Rope, Rope),
    mut streams: Vec<SlotId>,
    mut per_layer: SlotId,
) -> Result<(Vec<SlotId>, SlotId), Error> {
    let node = |name: &str| format!("{name}-{il}");
    let tensor = |name: &str| format!("blk.{il}.{name}");
    let (n, n_embd) = (hp.n_streams, hp.n_embd);
    let coefs = coefficients(hp, b, il, ("altup_predict_coef", n * n), streams[hp.active_stream])?;
    b.mix_streams(&node("predictions"), &streams, coefs);

    // The prediction, and what low rank and attention make of its norm.
    let active = streams[hp.active_stream];
    let mut sum = b.copy(&node("active_prediction"), "layer", active);
    post_norm(hp, b, il, ("attn_norm", "laurel_in"), active, sum)?;
    let norm = pre_norm(hp, b, il, "attn_norm", NORM, active)?;
    let rank = b.row_len(&tensor("laurel_r.weight")).unwrap_or(0).max(1);
    let up = b.mat(&tensor("laurel_r"), rank, n_embd)?;
    let down = b.mat(&tensor("laurel_l"), n_embd, rank)?;
    let low = b.mat_mul(&node("laurel_l"), "laurel", norm, vec![down]);
    let low = b.copy(&node("laurel_l"), "laurel_copy", low);
    let out = b.mat_mul(&node("laurel_r"), "block_out", low, vec![up]);
    post_norm(hp, b, il, ("laurel_post_norm", "laurel_out"), out, sum)?;

    let mut attn = attention(hp, b, il, ropes, norm)?;
    if il + 1 == hp.n_layer {
        [attn, sum, per_layer] = b.select_outputs([attn, sum, per_layer]);
        streams.iter_mut().for_each(|stream| [*stream] = b.select_outputs([*stream]));
    }
    let active = streams[hp.active_stream];
    let out = b.attn_output(il, &hp.attention(il, None), n_embd)?;
    let out = b.mat_mul(&node("attn_out"), "block_out", attn, vec![out]);
    post_norm(hp, b, il, ("post_attention_norm", "attn_gated"), out, sum)?;
    b.map(&node("attn_laurel"), sum, Map::Scale(0.5f32.sqrt()));

    let norm = pre_norm(hp, b, il, "ffn_norm", NORM, sum)?;
    let out = gated_ffn(hp, b, il, norm, (ACT, hp.cutoffs[il]))?;
    post_norm(hp, b, il, ("post_ffw_norm", "attn_ffw_laurel_gated"), out, sum)?;
    let coefs = coefficients(hp, b, il, ("altup_correct_coef", n), sum)?;
    b.correct_streams(&node("corrected"), &streams, hp.active_stream, sum, coefs);

    // The layer's own input opens to the other streams what the first one says.
    let scale = tensor("altup_correct_scale.weight");
    let scaled = b.multiply(&node("first_prediction"), "norm", active, &scale)?;
    let gate = b.mat(&tensor("inp_gate"), n_embd, hp.n_embd_per_layer)?;
    let gate = b.mat_mul(&node("inp_gate"), "per_layer_gate", scaled, vec![gate]);
    let own = (per_layer, il * hp.n_embd_per_layer);
    let acted = b.activate_by(&node("first_prediction_scaled"), "per_layer_act", (gate, ACT), own);
    let proj = b.mat(&tensor("proj"), hp.n_embd_per_layer, n_embd)?;
    let out = b.mat_mul(&node("first_prediction_out"), "block_out", acted, vec![proj]);
    for &stream in &streams[1..] {
        post_norm(hp, b, il, ("post_norm", "l_out"), out, stream)?;
    }
    Ok((streams, per_layer))
}

/// Coefficients of the streams, by what a router over `src` says.
fn coefficients(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    (tensor, n_coefs): (&str, usize),
    src: SlotId,
) -> Result<SlotId, Error> {
    let name = format!("blk.{il}.altup_router");
    let norm = b.norm_weights(NORM, &format!("{name}_norm"), hp.n_embd, hp.rms_eps)?;
    let normed = b.norm_to(&format!("altup_router_norm-{il}"), "router_in", src, norm);
    let router = b.mat(&name, hp.n_embd, hp.n_streams)?;
    let modalities = b.mat_mul(&format!("modalities-{il}"), "modalities", normed, vec![router]);
    b.map(&format!("modalities-{il}"), modalities, Map::Tanh(1.0 / hp.n_embd as f32));
    let mat = b.mat(&format!("blk.{il}.{tensor}"), hp.n_streams, n_coefs)?;
    Ok(b.mat_mul(&format!("all_coefs-{il}"), "altup_coefs", modalities, vec![mat]))
}

/// Attention over `norm`, with values normed too, to the layer's own keys and values or to those of
/// an earlier one.
fn attention(
    hp: &Hparams,
    b: &mut Builder<'_>,
    il: usize,
    ropes: (Rope, Rope),
    norm: SlotId,
) -> Result<SlotId, Error> {
    let rope = if hp.is_swa[il] { ropes.1 } else { ropes.0 };
    let mut spec = hp.attention(il, Some(rope));
    spec.scale = 1.0;
    let qkv = if il < hp.n_layer_kv {
        qkv(hp, b, il, &spec, norm)?
    } else {
        spec.kv_of = kv_of(hp, il);
        let queries = b.queries(il, hp.n_embd, &spec)?;
        b.mat_mul(&format!("Qcur-{il}"), "queries", norm, vec![queries])
    };
    b.qk_norm(il, &spec, qkv, NORM, hp.rms_eps)?;
    if spec.kv_of.is_none() {
        b.norm_values(il, &spec, qkv, NORM, hp.rms_eps);
    }
    Ok(b.attend(spec, qkv))
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        30 => "E2B",
        35 => "E4B",
        _ => "?B",
    }
}
