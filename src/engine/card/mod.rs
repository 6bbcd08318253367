//! Layers on a card: the weights that are there, which steps of a plan they let run there, and the
//! runs.
//!
//! As in llama.cpp the last layers go to the card, the output first of all; what a card has no
//! kernel for runs on the processor, with its buffers copied there and back
//! ([`crate::plan::Plan::legs`]). The host keeps all weights, which costs no memory where they are
//! mapped: so a context can leave the card at any time and go on without it.

mod crossing;
mod ffn;
mod figures;
mod lists;
mod neurons;
mod run;
mod slots;
mod speed;
mod steps;
mod watch;
mod weights;

pub use ffn::Share;
pub use figures::{CardUse, compute, expected_context, kv_bytes};
pub use lists::Content;
pub use neurons::{can_split, layer_bytes, neuron_bytes};
pub use run::CardRun;
pub use weights::{CardModel, CardRequest};

use crate::model::Model;
use crate::plan::{Mat, Plan, SkippingFfn, StepKind, TensorId};
use crate::quant::QuantType;

/// Formats of keys and values that the card attends to.
const KV_TYPES: [QuantType; 3] = [QuantType::F16, QuantType::Q8_0, QuantType::F32];

/// Which steps of a plan a card can run.
pub struct Steps<'a> {
    /// What is there.
    pub card: &'a CardModel,
    /// The model of the plan.
    pub model: &'a Model,
    /// The plan.
    pub plan: &'a Plan,
    /// The layers of its steps: [`Plan::layers_of_steps`].
    pub layers: Vec<Option<usize>>,
    /// Whether a layer's keys and values are there.
    pub has_kv: &'a dyn Fn(usize) -> bool,
}

impl Steps<'_> {
    /// Whether step `i` runs on the card.
    pub fn on_card(&self, i: usize) -> bool {
        let step = &self.plan.steps[i];
        let has = |id: Option<_>| id.is_none_or(|id| self.card.has(id));
        match &step.kind {
            StepKind::Norm { norm, .. } | StepKind::NormHeads { norm, .. } => {
                self.is_late(i) && has(norm.weight) && has(norm.bias) && self.fits_heads(&step.kind)
            }
            StepKind::MatMul { mats, .. } => {
                // Operands begin at multiples of 16 bytes.
                let aligned =
                    mats[1..].iter().zip(mats).all(|(_, mat)| mat.n_out.is_multiple_of(4));
                aligned && mats.iter().all(|mat| self.has_mat(mat))
            }
            StepKind::StoreKv { layer, .. } | StepKind::Attend { layer, .. } => {
                (self.has_kv)(*layer) && has(self.plan.layers[*layer].sinks)
            }
            // Operands begin at multiples of 16 bytes.
            StepKind::Activate { dst, gated, .. } => {
                self.is_late(i) && (!*gated || self.plan.slot(*dst).width.is_multiple_of(4))
            }
            StepKind::Map { .. } | StepKind::Accumulate { .. } | StepKind::Copy { .. } => {
                self.is_late(i)
            }
            StepKind::SkippingFfn(ffn) => self.has_ffn(ffn),
            _ => false,
        }
    }

    fn has_ffn(&self, ffn: &SkippingFfn) -> bool {
        if self.card.hot(ffn.layer).is_some() {
            return can_split(self.model, ffn);
        }
        let has =
            |mat: &Mat| self.card.has(mat.weight) && mat.bias.is_none_or(|b| self.card.has(b));
        neurons::can_be_whole(ffn) && ffn.inputs().iter().all(has) && has(&ffn.down.mat(0))
    }

    /// Whether the step belongs to a layer of the card, or to the output.
    fn is_late(&self, i: usize) -> bool {
        self.layers[i].is_some_and(|layer| layer >= self.card.first_layer())
    }

    /// Whether weights of a norm are as wide as what is normed, not as all heads together.
    fn fits_heads(&self, step: &StepKind) -> bool {
        let StepKind::NormHeads { first, head_dim, norm, .. } = step else { return true };
        let mut weights = norm.weight.iter().chain(&norm.bias);
        let fits = |id: &TensorId| self.model.weight(*id).shape.n_elements() == *head_dim as u64;
        first.is_multiple_of(4) && weights.all(fits)
    }

    fn has_mat(&self, mat: &Mat) -> bool {
        let has = |id: Option<_>| id.is_none_or(|id| self.card.has(id));
        // A factor that comes after the bias is not in the kernels.
        let plain = !(mat.scale_last && mat.scale.is_some() && mat.bias.is_some());
        plain && self.card.has(mat.weight) && has(mat.bias)
    }
}

/// Whether a card can keep a layer's keys and values.
pub fn keeps_kv(plan: &Plan, layer: usize, types: (QuantType, QuantType)) -> bool {
    let spec = &plan.layers[layer];
    let dims = [spec.head_dim_k, spec.head_dim_v];
    let known = KV_TYPES.contains(&types.0) && KV_TYPES.contains(&types.1);
    known
        && spec.temperature.is_none()
        && dims.iter().all(|dim| dim.is_multiple_of(8) && *dim <= 256)
}
