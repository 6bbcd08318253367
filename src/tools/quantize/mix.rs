//! Which type each tensor gets: the rules of the mixes.
//!
//! A mix is named by the type of most of its tensors; those whose errors hurt most get more bits:
//! the values of the attention, the down projections (of some layers), the output matrix. How much
//! depends on the architecture, on the number of experts and on how many query heads share a key
//! head. Rules that speak of "the third down projection" count the tensors in the order in which
//! they are written. The choices are llama.cpp's (commit 0c1e570), which tests hold them to.

use super::error::QuantizeError;
use super::file_type::FileType;
use super::names;
use super::role::{PER_LAYER_EMBD, Role, may_change};
use super::{Params, TypePattern};
use crate::gguf::{Metadata, TensorInfo, Value};
use crate::quant::QuantType;
use crate::{log_info, log_warn};

/// What the rules ask about a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub arch: String,
    pub n_layer: u32,
    pub n_expert: u32,
    /// Query heads per key head in the first layer; 0 where there are none.
    pub n_gqa: u32,
    /// Models of 70 billion weights, whose value matrices are few.
    is_70b: bool,
}

impl Facts {
    pub(super) fn of(meta: &Metadata) -> Result<Self, QuantizeError> {
        let arch = meta.require_str("general.architecture")?.to_owned();
        let number = |key: &str| -> Result<Option<u32>, QuantizeError> {
            let key = format!("{arch}.{key}");
            match meta.get(&key) {
                // A number for each layer: the first one's.
                Some(Value::Array(_)) => {
                    Ok(meta.get_u32s(&key)?.and_then(|all| all.first().copied()))
                }
                _ => Ok(meta.get_u32(&key)?),
            }
        };
        let n_layer = number("block_count")?.unwrap_or(0);
        let n_head = number("attention.head_count")?.unwrap_or(0);
        let n_head_kv = number("attention.head_count_kv")?.unwrap_or(n_head);
        let is_70b = match arch.as_str() {
            "llama" => n_layer == 80 && n_head != n_head_kv,
            "qwen2" | "deci" | "olmo" => n_layer == 80,
            "jais2" => n_layer == 68,
            _ => false,
        };
        let n_expert = number("expert_count")?.unwrap_or(0);
        let n_gqa = n_head.checked_div(n_head_kv).unwrap_or(0);
        Ok(Self { arch, n_layer, n_expert, n_gqa, is_70b })
    }

    fn is_falcon(&self) -> bool {
        self.arch == "falcon"
    }
}

/// Chooses the types of a model's tensors, one after the other.
pub(super) struct Mixer<'a> {
    params: &'a Params,
    facts: &'a Facts,
    /// The output matrix is that of the token embeddings.
    tied: bool,
    n_attn_v: u32,
    // How many tensors of a role were chosen for.
    i_attn_v: u32,
    i_down: u32,
    i_gate: u32,
    i_up: u32,
    /// Tensors whose rows are no whole blocks of what they should have become.
    pub n_fallback: usize,
}

impl<'a> Mixer<'a> {
    /// For a model with tensors of these names.
    pub(super) fn new<'n>(
        params: &'a Params,
        facts: &'a Facts,
        names: impl Iterator<Item = &'n str>,
    ) -> Self {
        let (mut tied, mut n_attn_v) = (true, 0);
        for role in names.map(Role::of) {
            tied &= role != Role::Output;
            n_attn_v += u32::from(role == Role::AttnV);
        }
        let (i_attn_v, i_down, i_gate, i_up) = (0, 0, 0, 0);
        Self { params, facts, tied, n_attn_v, i_attn_v, i_down, i_gate, i_up, n_fallback: 0 }
    }

    /// Whether a tensor may change its type.
    pub(super) fn may_change(&self, name: &str, info: &TensorInfo) -> bool {
        let is_matrix = info.shape.ne()[1..].iter().any(|&n| n > 1);
        !self.params.only_copy
            && is_matrix
            && may_change(&self.facts.arch, name)
            && (self.params.quantize_output_tensor || name != "output.weight")
    }

    /// The type that a tensor gets under its new name.
    pub(super) fn choose(
        &mut self,
        name: &str,
        info: &TensorInfo,
    ) -> Result<QuantType, QuantizeError> {
        if !self.may_change(name, info) {
            return Ok(info.ty);
        }
        let role = Role::of(name);
        let named = self.params.tensor_types.iter().find_map(|p| p.fits(name).transpose());
        let named = named.transpose()?;
        let asked = match role {
            // A large table of its own, which an override may name.
            Role::TokenEmbd if name == PER_LAYER_EMBD && named.is_some() => None,
            Role::TokenEmbd => self.params.token_embedding_type,
            Role::Output => self.params.output_tensor_type,
            // What a predictor loses costs neurons: only who names it changes it.
            Role::Predictor => {
                return named.map_or(Ok(info.ty), |ty| self.fitting(name, info.shape.ne()[0], ty));
            }
            _ => None,
        };
        if let Some(ty) = asked {
            return Ok(ty);
        }
        let base = self.params.file_type.base();
        if base.block_len() == 1 {
            return Ok(base);
        }
        let ty = match named {
            Some(ty) => {
                if ty != base {
                    log_info!("{name}: {ty} instead of {base}, by a tensor override");
                }
                ty
            }
            None if self.params.pure => base,
            None => self.by_rules(name, info, role)?,
        };
        self.fitting(name, info.shape.ne()[0], ty)
    }

    /// The type, or one whose blocks fit rows of `n_cols`.
    fn fitting(
        &mut self,
        name: &str,
        n_cols: u64,
        ty: QuantType,
    ) -> Result<QuantType, QuantizeError> {
        use QuantType as T;
        let fits = |ty: QuantType| n_cols.is_multiple_of(ty.block_len() as u64);
        if fits(ty) {
            return Ok(ty);
        }
        self.n_fallback += 1;
        let smaller = match ty {
            T::IQ1_S
            | T::IQ1_M
            | T::IQ2_XXS
            | T::IQ2_XS
            | T::IQ2_S
            | T::IQ3_XXS
            | T::IQ3_S
            | T::IQ4_XS => T::IQ4_NL,
            T::Q2_0 | T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
            T::Q4_K => T::Q5_0,
            T::Q5_K => T::Q5_1,
            T::Q6_K => T::Q8_0,
            _ if ty.block_len() <= 32 => T::F16,
            _ => return Err(QuantizeError::NoFallback { tensor: name.into(), ty, n_cols }),
        };
        let found = if fits(smaller) { smaller } else { T::F16 };
        log_warn!(
            "{name}: rows of {n_cols} are not divisible by {}, as {ty} requires; falling back to \
             {found}",
            ty.block_len()
        );
        Ok(found)
    }

    fn by_rules(
        &mut self,
        name: &str,
        info: &TensorInfo,
        role: Role,
    ) -> Result<QuantType, QuantizeError> {
        use FileType as F;
        use QuantType as T;
        let (mix, base) = (self.params.file_type, self.params.file_type.base());
        let protected = ["attn_q_a", "attn_q_b", "nextn.eh_proj"];
        if self.facts.arch == "glm5-next" && protected.iter().any(|part| name.contains(part)) {
            return Ok(T::Q8_0);
        }
        if role == Role::Output || (role == Role::TokenEmbd && self.tied) {
            return Ok(self.output(info));
        }
        if mix == F::MXFP4_MOE {
            let is_ffn = matches!(role, Role::FfnUp | Role::FfnGate | Role::FfnDown);
            let of_experts = info.shape.ne()[2] > 1 && (self.facts.arch != "bailingmoe3" || is_ffn);
            return Ok(if of_experts { T::MXFP4 } else { T::Q8_0 });
        }
        if role == Role::TokenEmbd {
            return Ok(match mix {
                F::IQ2_XXS | F::IQ2_XS | F::IQ1_S | F::IQ1_M => T::Q2_K,
                F::IQ2_S | F::IQ2_M | F::IQ3_XXS => T::IQ3_S,
                F::TQ1_0 | F::TQ2_0 | F::Q2_0 => T::Q4_K,
                _ => base,
            });
        }
        if below_three_bits(mix) {
            return Ok(self.below_three_bits(role));
        }
        Ok(match role {
            Role::AttnV => self.attn_v(),
            Role::AttnK | Role::AttnQ => self.attn_qk(role),
            Role::AttnOutput => self.attn_output(),
            Role::FfnDown => {
                let layer = self.layer(name, self.i_down)?;
                self.i_down += 1;
                self.ffn_down(layer)
            }
            Role::FfnGate | Role::FfnUp => {
                let count = if role == Role::FfnGate { &mut self.i_gate } else { &mut self.i_up };
                let i = *count;
                *count += 1;
                let (layer, n) = (self.layer(name, i)?, self.facts.n_layer);
                let inner = layer >= n / 8 && u64::from(layer) < 7 * u64::from(n) / 8;
                if mix == F::IQ3_XS && inner { T::IQ3_XXS } else { base }
            }
            _ => base,
        })
    }

    /// The layer of a tensor of a feed-forward network: the count of those before it, but what its
    /// name says where a layer has more than one.
    fn layer(&self, name: &str, count: u32) -> Result<u32, QuantizeError> {
        if self.facts.n_expert <= 1 {
            return Ok(count);
        }
        names::layer(name).filter(|&layer| layer < self.facts.n_layer).ok_or_else(|| {
            QuantizeError::BadLayer { tensor: name.into(), n_layer: self.facts.n_layer }
        })
    }

    fn output(&self, info: &TensorInfo) -> QuantType {
        use FileType as F;
        use QuantType as T;
        if let Some(ty) = self.params.output_tensor_type {
            return ty; // also that of embeddings that are the output matrix
        }
        let (mix, base) = (self.params.file_type, self.params.file_type.base());
        let whole = info.shape.ne()[0].is_multiple_of(base.block_len() as u64);
        match mix {
            F::MXFP4_MOE => T::Q8_0,
            _ if self.facts.is_falcon() || !whole => T::Q8_0,
            _ if mix == F::IQ3_XXS || below_three_bits(mix) => T::Q5_K,
            F::Q8_0 => T::Q8_0,
            _ => T::Q6_K,
        }
    }

    /// IQ1 and IQ2 mixes.
    fn below_three_bits(&mut self, role: Role) -> QuantType {
        use FileType as F;
        use QuantType as T;
        let (mix, eight) = (self.params.file_type, self.facts.n_expert == 8);
        let larger = matches!(mix, F::IQ2_S | F::IQ2_M);
        let more = if larger { T::IQ3_S } else { T::Q2_K };
        match role {
            Role::AttnV if self.facts.n_gqa >= 4 || self.facts.n_expert >= 4 => T::Q4_K,
            Role::AttnV => more,
            Role::AttnK if eight => T::Q4_K,
            Role::FfnDown => {
                let first = self.i_down < self.facts.n_layer / 8;
                self.i_down += 1;
                if first { more } else { mix.base() }
            }
            Role::AttnOutput if eight => T::Q5_K,
            Role::AttnOutput if matches!(mix, F::IQ1_S | F::IQ1_M) => T::IQ2_XXS,
            Role::AttnOutput if larger => T::IQ3_S,
            _ => mix.base(),
        }
    }

    fn attn_v(&mut self) -> QuantType {
        use FileType as F;
        use QuantType as T;
        let (mix, i) = (self.params.file_type, self.i_attn_v);
        let shared = self.facts.n_gqa >= 4;
        self.i_attn_v += 1;
        if self.facts.n_expert == 8 {
            return T::Q8_0; // little beside the experts
        }
        let ty = match mix {
            F::Q2_K | F::Q2_K_S | F::IQ3_XXS | F::IQ3_XS | F::IQ3_S if shared => T::Q4_K,
            F::Q2_K => T::Q3_K,
            F::IQ3_XXS if self.params.imatrix.is_none() => T::IQ3_S,
            F::IQ3_M => T::Q4_K,
            F::Q3_K_M if i < 2 => T::Q5_K,
            F::Q3_K_M => T::Q4_K,
            F::Q3_K_L => T::Q5_K,
            F::IQ4_NL | F::IQ4_XS if shared => T::Q5_K,
            F::Q4_K_M | F::Q5_K_M if gets_more(i, self.n_attn_v) => T::Q6_K,
            F::Q4_K_S if i < 4 => T::Q5_K,
            _ => mix.base(),
        };
        if self.facts.is_70b && matches!(ty, T::Q3_K | T::Q4_K) { T::Q5_K } else { ty }
    }

    fn attn_qk(&self, role: Role) -> QuantType {
        match self.params.file_type {
            _ if role == Role::AttnK && self.facts.n_expert == 8 => QuantType::Q8_0,
            FileType::IQ3_XS => QuantType::IQ3_XXS,
            FileType::IQ3_XXS => QuantType::IQ2_S,
            mix => mix.base(),
        }
    }

    fn attn_output(&self) -> QuantType {
        use FileType as F;
        use QuantType as T;
        let mix = self.params.file_type;
        if self.facts.is_falcon() {
            return if mix == F::Q3_K_L { T::Q4_K } else { mix.base() };
        }
        if self.facts.n_expert == 8 {
            return match mix {
                F::Q2_K
                | F::Q3_K_S
                | F::Q3_K_M
                | F::Q4_K_S
                | F::Q4_K_M
                | F::IQ3_XXS
                | F::IQ3_XS
                | F::IQ3_S
                | F::IQ3_M
                | F::IQ4_NL
                | F::IQ4_XS => T::Q5_K,
                _ => mix.base(),
            };
        }
        match mix {
            F::Q2_K => T::Q3_K,
            F::IQ3_XXS => T::IQ3_S,
            F::Q3_K_M | F::IQ3_M => T::Q4_K,
            F::Q3_K_L => T::Q5_K,
            _ => mix.base(),
        }
    }

    fn ffn_down(&self, layer: u32) -> QuantType {
        use FileType as F;
        use QuantType as T;
        let (mix, n) = (self.params.file_type, self.facts.n_layer);
        let (falcon, weighted) = (self.facts.is_falcon(), self.params.imatrix.is_some());
        let (first_eighth, first_sixteenth) = (layer < n / 8, layer < n / 16);
        let more = gets_more(layer, n);
        match mix {
            F::Q2_K => T::Q3_K,
            F::Q2_K_S if first_eighth => T::Q4_K,
            F::IQ3_XXS if !weighted => {
                if first_eighth {
                    T::Q4_K
                } else {
                    T::Q3_K
                }
            }
            F::Q3_K_M if first_sixteenth => T::Q5_K,
            F::Q3_K_M if !falcon || more => T::Q4_K,
            F::IQ3_M if first_eighth || (self.facts.n_expert == 8 && more) => T::Q4_K,
            F::Q3_K_L => {
                if falcon {
                    T::Q4_K
                } else {
                    T::Q5_K
                }
            }
            F::Q4_K_M if falcon && first_sixteenth => T::Q6_K,
            F::Q4_K_M if more => {
                if falcon {
                    T::Q5_K
                } else {
                    T::Q6_K
                }
            }
            F::IQ4_NL | F::IQ4_XS if first_eighth && !weighted => T::Q5_K,
            F::Q5_K_M if more => T::Q6_K,
            F::Q4_K_S if first_eighth && !falcon => T::Q5_K,
            // Importances can lead these two astray in the first layers.
            F::Q4_0 if first_eighth && weighted => T::Q4_1,
            F::Q5_0 if first_eighth && weighted => T::Q5_1,
            _ => mix.base(),
        }
    }
}

impl TypePattern {
    /// The type for a tensor of this name.
    fn fits(&self, name: &str) -> Result<Option<QuantType>, QuantizeError> {
        let found = self.pattern.is_match(name).map_err(|error| QuantizeError::Pattern {
            pattern: self.pattern.as_str().into(),
            error: error.to_string(),
        })?;
        Ok(found.then_some(self.ty))
    }
}

fn below_three_bits(mix: FileType) -> bool {
    use FileType as F;
    matches!(mix, F::IQ1_S | F::IQ1_M | F::IQ2_XXS | F::IQ2_XS | F::IQ2_S | F::IQ2_M)
}

/// The layers that the medium mixes give more bits: the first and the last eighth, and every third
/// between.
fn gets_more(layer: u32, n: u32) -> bool {
    let first = n / 8;
    layer < first || u64::from(layer) >= 7 * u64::from(n) / 8 || (layer - first) % 3 == 2
}

/// Whether the result would be useless without importances.
pub(super) fn needs_imatrix(name: &str, ty: QuantType, mix: FileType) -> bool {
    use QuantType as T;
    match ty {
        _ if matches!(Role::of(name), Role::TokenEmbd | Role::Output) => false,
        T::IQ3_XXS | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ1_M | T::IQ1_S => true,
        T::Q2_K => mix == FileType::Q2_K_S,
        _ => false,
    }
}
