//! Llama 1 to 3, Mistral, SmolLM2: pre-norm attention with rotated adjacent pairs, SwiGLU.

use super::{ArchSpec, Error, Hparams};
use crate::gguf::Metadata;
use crate::plan::{Attention, Builder};

pub(super) const SPEC: ArchSpec = ArchSpec { name: "llama", hparams, build, size_name };

fn hparams(meta: &Metadata) -> Result<Hparams, Error> {
    meta.require_f32("llama.attention.layer_norm_rms_epsilon")?;
    let hp = Hparams::read(meta, "llama")?;
    if hp.n_expert > 0 {
        return Err(Error::Unsupported(format!("llama with {} experts", hp.n_expert)));
    }
    Ok(hp)
}

fn build(hp: &Hparams, b: &mut Builder<'_>) -> Result<(), Error> {
    let n_embd = hp.n_embd;
    b.rope_factors("rope_freqs.weight", hp.n_rot)?;
    let mut x = b.embed(n_embd, hp.n_vocab)?;
    for il in 0..hp.n_layer {
        let tensor = |name: &str| format!("blk.{il}.{name}");
        let node = |name: &str| format!("{name}-{il}");
        let attention = Attention {
            n_head: hp.n_head[il],
            n_head_kv: hp.n_head_kv[il],
            head_dim_k: hp.head_dim_k,
            head_dim_v: hp.head_dim_v,
            n_rot: hp.n_rot,
            scale: 1.0 / (hp.head_dim_k as f32).sqrt(),
        };

        let norm = b.rms_norm(&node("attn_norm"), x, &tensor("attn_norm.weight"), hp.rms_eps)?;
        let qkv = b.qkv(il, n_embd, &attention)?;
        let qkv = b.mat_mul(&node("qkv"), "qkv", norm, qkv);
        let mut attn = b.attend(attention, qkv);
        if il + 1 == hp.n_layer {
            (attn, x) = b.select_outputs(attn, x);
        }
        let n_attn = attention.n_head * attention.head_dim_v;
        let out = b.mat(&tensor("attn_output"), n_attn, n_embd)?;
        b.mat_mul_add(&node("ffn_inp"), attn, out, x);

        let n_ff = hp.n_ff[il];
        let norm = b.rms_norm(&node("ffn_norm"), x, &tensor("ffn_norm.weight"), hp.rms_eps)?;
        let gate_up = vec![
            b.ffn_mat(&tensor("ffn_gate"), n_embd, n_ff)?,
            b.ffn_mat(&tensor("ffn_up"), n_embd, n_ff)?,
        ];
        let gate_up = b.mat_mul(&node("ffn_gate_up"), "ffn_gate_up", norm, gate_up);
        let act = b.silu_mul(&node("ffn_swiglu"), gate_up);
        let down = b.ffn_mat(&tensor("ffn_down"), n_ff, n_embd)?;
        b.mat_mul_add(&node("l_out"), act, down, x);
    }
    let norm = b.rms_norm("result_norm", x, "output_norm.weight", hp.rms_eps)?;
    let output = match b.optional("output.weight", &[n_embd, hp.n_vocab])? {
        Some(_) => b.mat("output", n_embd, hp.n_vocab)?,
        None => b.mat("token_embd", n_embd, hp.n_vocab)?, // tied embeddings
    };
    b.outputs(norm, output);
    Ok(())
}

fn size_name(hp: &Hparams) -> &'static str {
    match hp.n_layer {
        16 | 22 => "1B",
        26 | 28 => "3B",
        30 => "256M",
        32 if hp.n_vocab < 40000 => "7B",
        32 => "8B",
        40 => "13B",
        48 => "34B",
        60 => "30B",
        80 if hp.n_head[0] == hp.n_head_kv[0] => "65B",
        80 => "70B",
        _ => "?B",
    }
}
