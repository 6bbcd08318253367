//! Bytes of a card by what they are for: those in use, and those that would be if a model without
//! its weights had them.

use super::steps::most_partials;
use super::weights::places;
use super::{CardModel, CardRequest, keeps_kv};
use crate::backend::cuda::launch::MAX_SLICES;
use crate::backend::cuda::{CudaError, Device, Purpose};
use crate::engine::kv::KvCache;
use crate::engine::params::Sizes;
use crate::engine::run::MAX_TOKENS;
use crate::model::{Hparams, Model};
use crate::plan::{Attention, Plan, SlotId, StepKind};
use crate::quant::QuantType;

/// What a context, and the model that it is over, have on a card, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardUse {
    /// Number of the card in [`Device::list`].
    pub index: usize,
    /// Weights of the model.
    pub weights: usize,
    /// What the host needs not keep of them.
    pub weights_in_file: u64,
    /// Keys and values.
    pub kv: usize,
    /// Activations; of all contexts over the model, which share them with the card's budget.
    pub compute: usize,
}

impl CardModel {
    /// What is in use.
    pub fn in_use(&self, model: &Model, kv: &KvCache) -> CardUse {
        let (budget, info) = (self.budget(), self.stream().device().info());
        let index = Device::list().iter().position(|known| known.ordinal == info.ordinal);
        let has = |i: usize| self.has(crate::plan::TensorId(i));
        CardUse {
            index: index.unwrap_or(0),
            weights: budget.used_for(Purpose::Weights) + budget.used_for(Purpose::Neurons),
            weights_in_file: file_bytes(model, has),
            kv: kv.n_bytes_on_card(),
            compute: budget.used_for(Purpose::Compute),
        }
    }
}

/// What contexts that nobody has made yet are expected to want at least: tokens of context and of a
/// ubatch.
const EXPECTED: (usize, usize) = (4096, 512);

impl CardRequest {
    /// As many of the layers that it asks for as there is room for, with keys and values and
    /// activations of an ordinary context beside them.
    pub fn fitting(&self, model: &Model) -> Result<Self, CudaError> {
        let none = Self { n_layers: 0, ..*self };
        let (Some(plan), Some(hp)) = (model.plan(), model.hparams()) else { return Ok(none) };
        let first = self.first_layer(plan);
        // A batch that stands alone is computed on the processor.
        if plan.stateless || first > plan.layers.len() {
            return Ok(none);
        }
        let limit = self.limit()?;
        let fits = |first: &usize| {
            let (_, weights) = places(model, plan, *first, self.split);
            weights + expected_context(plan, hp, *first) <= limit
        };
        let first = (first..=plan.layers.len()).find(fits);
        let n_layers = first.map_or(0, |first| plan.layers.len() + 1 - first);
        Ok(Self { n_layers: i32::try_from(n_layers).unwrap_or(i32::MAX), ..*self })
    }

    /// First layer that is asked for; the output is one layer behind the last, and nothing behind
    /// that.
    pub(super) fn first_layer(&self, plan: &Plan) -> usize {
        let n_all = plan.layers.len() + 1;
        n_all - usize::try_from(self.n_layers).unwrap_or(n_all).min(n_all)
    }

    /// What would be in use, were there room for all that is asked for: what programs go by that fit
    /// a model to the memory there is. `kv` is in the host's memory. Of the buffers that grow with
    /// use, what the largest ubatch with the fullest cache needs.
    pub fn planned(
        &self,
        model: &Model,
        plan: &Plan,
        kv: &mut KvCache,
        offload_kqv: bool,
        sizes: &Sizes,
    ) -> CardUse {
        let first = self.first_layer(plan);
        let (places, weights) = places(model, plan, first, self.split);
        let types = kv.types();
        CardUse {
            index: self.index,
            weights,
            weights_in_file: file_bytes(model, |i| places[i].is_some()),
            kv: kv.n_bytes_of(|il| offload_kqv && il >= first && keeps_kv(plan, il, types)),
            compute: compute(plan, first, sizes),
        }
    }
}

fn file_bytes(model: &Model, has: impl Fn(usize) -> bool) -> u64 {
    let there = model.weights().iter().enumerate().filter(|(i, _)| has(*i));
    let bytes = there.map(|(_, weight)| {
        let row = weight.ty.row_bytes(weight.shape.ne()[0]);
        row.map_or(0, |row| row * weight.shape.n_rows())
    });
    bytes.sum()
}

/// Bytes that an ordinary context takes of a card with layers from `first` on.
pub fn expected_context(plan: &Plan, hp: &Hparams, first: usize) -> usize {
    let n_ctx = hp.n_ctx_train.clamp(1, EXPECTED.0);
    let sizes = Sizes {
        n_ctx,
        n_ctx_seq: n_ctx,
        n_batch: EXPECTED.1,
        n_ubatch: EXPECTED.1.min(n_ctx),
        n_seq_max: 1,
    };
    expected_kv(plan, first, n_ctx) + compute(plan, first, &sizes)
}

/// Keys and values in F16 of `n_ctx` tokens, for layers from `first` on.
fn expected_kv(plan: &Plan, first: usize, n_ctx: usize) -> usize {
    let types = (QuantType::F16, QuantType::F16);
    let layers = plan.layers.iter().enumerate().skip(first);
    let own = layers.filter(|(il, spec)| spec.kv_of.is_none() && keeps_kv(plan, *il, types));
    own.map(|(_, spec)| kv_bytes(spec, types, n_ctx)).sum()
}

/// Bytes of a layer's keys and values of `n_ctx` tokens.
pub fn kv_bytes(spec: &Attention, (ty_k, ty_v): (QuantType, QuantType), n_ctx: usize) -> usize {
    let row = |ty: QuantType, width: usize| ty.row_bytes(width as u64).unwrap_or(0) as usize;
    (row(ty_k, spec.n_embd_k()) + row(ty_v, spec.n_embd_v())).saturating_mul(n_ctx)
}

/// Bytes of the buffers that layers from `first` on need for a whole ubatch, with the cache full.
pub fn compute(plan: &Plan, first: usize, sizes: &Sizes) -> usize {
    let rows = |slot: SlotId| sizes.n_ubatch * plan.slot(slot).per_row;
    let floats = |slot: SlotId| rows(slot) * plan.slot(slot).width;
    let mut used = vec![false; plan.slots.len()];
    let (mut codes, mut product, mut neurons) = (0, 0, 0);
    for (step, layer) in plan.steps.iter().zip(plan.layers_of_steps()) {
        if layer.is_none_or(|layer| layer < first) {
            continue;
        }
        let flow = step.kind.flow();
        flow.reads.iter().chain(&flow.writes).for_each(|slot| used[slot.0] = true);
        match &step.kind {
            StepKind::MatMul { src, .. } => codes = codes.max(floats(*src)),
            StepKind::Norm { dst, add: true, .. } => product = product.max(4 * floats(*dst)),
            StepKind::SkippingFfn(ffn) => {
                let width = plan.slot(ffn.src).width.max(plan.slot(ffn.dst).width);
                let rank = ffn.predictor.map_or(0, |p| p.fc1.n_out);
                codes = codes.max(sizes.n_ubatch * width.max(ffn.n_ff).max(rank));
                neurons = neurons.max(of_neurons(sizes.n_ubatch, width, ffn.n_ff, rank));
            }
            _ => {}
        }
    }
    let slots = (0..plan.slots.len()).map(SlotId).filter(|slot| used[slot.0]);
    let slots: usize =
        slots.map(|slot| rows(slot).next_power_of_two() * plan.slot(slot).width * 4).sum();
    let partials = plan
        .layers
        .iter()
        .skip(first)
        .map(|spec| most_partials(sizes.n_ubatch, spec, sizes.n_ctx_seq));
    // Rows and positions of what is seen, twice where layers differ in it, and rotations.
    let n_rot: usize = plan.ropes.iter().map(|table| table.n_rot).sum();
    let lists = 4 * (4 * sizes.n_ctx + sizes.n_ubatch * (n_rot + 16));
    let steps = codes + codes / 4 + product + neurons + partials.max().unwrap_or(0);
    // Lengths are rounded up, each by itself.
    slots + steps + lists.next_power_of_two() + plan.slots.len() * 256 + (8 << 10)
}

/// Most bytes that a network of `n_ff` neurons, hot or cold, keeps for itself beside codes: a few
/// numbers of each neuron for each token; lists of them, and partial sums, for few tokens.
fn of_neurons(n: usize, width: usize, n_ff: usize, rank: usize) -> usize {
    let few = n.min(MAX_TOKENS);
    let per_token = 3 * n_ff + rank + width;
    let per_listed = 3 * n_ff + MAX_SLICES * width;
    4 * (n * per_token + few * per_listed + n_ff)
}
