//! What a tensor is, by its name: which rule chooses its type, and whether it is quantised at all.

use super::names::layer_range;

/// What a tensor is to the rules of the mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    TokenEmbd,
    Output,
    AttnQ,
    AttnK,
    /// `attn_v`, or a matrix that has the values among others: all are sensitive.
    AttnV,
    AttnOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    /// A predictor of PowerInfer's files.
    Predictor,
    Other,
}

/// Parts of names and the role of tensors that have them; the first that fits counts.
const PARTS: &[(&str, Role)] = &[
    ("attn_qkv.weight", Role::AttnV),
    ("attn_kv_b.weight", Role::AttnV),
    ("attn_v.weight", Role::AttnV),
    ("attn_k.weight", Role::AttnK),
    ("attn_q.weight", Role::AttnQ),
    ("attn_output.weight", Role::AttnOutput),
    ("ffn_up", Role::FfnUp),
    ("ffn_gate", Role::FfnGate),
    ("ffn_down", Role::FfnDown), // also `ffn_down_t`, and those of experts
];

pub(super) const PER_LAYER_EMBD: &str = "per_layer_token_embd.weight";

impl Role {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "output.weight" => return Self::Output,
            "token_embd.weight" | PER_LAYER_EMBD => return Self::TokenEmbd,
            _ if is_predictor(name) => return Self::Predictor,
            _ => {}
        }
        PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |(_, role)| *role)
    }
}

fn is_predictor(name: &str) -> bool {
    let of_layer = name.starts_with("blk.").then(|| layer_range(name)).flatten();
    let rest = of_layer.and_then(|digits| name.get(digits.end..));
    matches!(rest, Some(".fc1.weight" | ".fc2.weight"))
}

/// Names of tensors that keep their type.
const KEPT: &[&str] = &["position_embd.weight", "token_types.weight"];

/// Parts of names of tensors that keep their type: small ones, and those of which a small error
/// decides much.
const KEPT_PARTS: &[&str] = &[
    "_norm.weight",
    // Routers of experts, and their tables by token.
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    // Gemma 3n.
    "altup",
    "laurel",
    "per_layer_model_proj",
    // Convolutions of state-space models.
    "ssm_conv1d",
    "shortconv.conv.weight",
    // Indexers of sparse attention.
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    // RWKV.
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    // Relative positions of T5.
    "attn_rel_b.weight",
    // Images and audio.
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// The same, of the architecture `glm5-next`.
const KEPT_PARTS_GLM5_NEXT: &[&str] = &[
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
];

/// Whether a matrix of this name may change its type.
pub(super) fn may_change(arch: &str, name: &str) -> bool {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let kept = KEPT.contains(&name)
        || has(KEPT_PARTS)
        || (arch == "glm5-next" && has(KEPT_PARTS_GLM5_NEXT));
    name.ends_with("weight") && !kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_tensor_is() {
        let roles = [
            ("output.weight", Role::Output),
            ("token_embd.weight", Role::TokenEmbd),
            ("blk.3.attn_qkv.weight", Role::AttnV),
            ("blk.3.attn_v.bias", Role::Other),
            ("blk.3.ffn_down_exps.weight", Role::FfnDown),
            ("blk.3.ffn_down_t.weight", Role::FfnDown),
            ("blk.13.fc1.weight", Role::Predictor),
            ("blk.13.fc2.weight", Role::Predictor),
            ("blk.13.fc2.bias", Role::Other),
            ("blk..fc2.weight", Role::Other),
            ("v.blk.0.fc1.weight", Role::Other),
        ];
        for (name, role) in roles {
            assert_eq!(Role::of(name), role, "{name}");
        }
        assert!(may_change("llama", "blk.0.attn_q.weight"));
        assert!(!may_change("llama", "blk.0.attn_norm.weight"));
        assert!(!may_change("llama", "blk.0.attn_q.scale"));
        assert!(may_change("llama", "blk.0.attn_k_b.weight"));
        assert!(!may_change("glm5-next", "blk.0.attn_k_b.weight"));
    }
}
