//! A context's runs on a card.

use std::sync::Arc;

use super::crossing::Crossing;
use super::lists::{Content, Lists};
use super::slots::Slots;
use super::watch::Watch;
use super::{CardModel, Steps};
use crate::backend::cuda::{Buffer, CudaError};
use crate::engine::kv::KvCache;
use crate::engine::run::Job;
use crate::model::Model;
use crate::plan::{Leg, Plan, SlotId, Step, StepKind};
use crate::sparse::OnCard;

/// What a context has on a card beside its cache.
pub struct CardRun {
    pub(super) card: Arc<CardModel>,
    pub(super) slots: Slots,
    pub(super) lists: Lists,
    /// The ids of as many neurons as a network has here, behind their number.
    pub(super) everything: Option<Buffer>,
    pub(super) crossing: Crossing,
    /// Where statistics are wanted.
    pub(super) watch: Option<Watch>,
    /// The plan's steps, by place.
    legs: Vec<Leg>,
    /// Slots that the host needs in f32.
    shared: Vec<SlotId>,
}

impl CardRun {
    /// For the steps of a plan that the card can run. Keys and values have their places.
    pub fn new(card: &Arc<CardModel>, model: &Model, plan: &Plan, kv: &KvCache) -> Self {
        let has_kv = |layer: usize| kv.layer(layer).k.card().is_some();
        let layers = plan.layers_of_steps();
        let steps = Steps { card, model, plan, layers, has_kv: &has_kv };
        let legs = plan.legs(|i| steps.on_card(i));
        let slots = Slots::new(plan, &legs);
        let shared = shared(plan, &legs);
        let (card, lists, crossing) = (Arc::clone(card), Lists::default(), Crossing::default());
        Self { card, slots, lists, everything: None, crossing, watch: None, legs, shared }
    }

    /// The plan's steps, by place.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// Slots that go from one place to the other: the host needs them in f32.
    pub fn shared(&self) -> &[SlotId] {
        &self.shared
    }

    /// Prepares a ubatch; `watched` when networks of a few tokens are to be looked at
    /// ([`Self::seen`]).
    pub fn begin(
        &mut self,
        job: &Job<'_>,
        content: &Content<'_>,
        watched: bool,
    ) -> Result<(), CudaError> {
        match (watched, &self.watch) {
            (false, _) => self.watch = None,
            (true, None) => {
                let n = job.plan.layers.len();
                self.watch = Some(Watch::new(self.card.stream().device(), n)?);
            }
            (true, Some(_)) => {}
        }
        let (stream, budget) = (self.card.stream(), self.card.budget());
        self.slots.ensure(|slot| job.n_rows(slot), stream, budget)?;
        self.lists.set(content, stream, budget)
    }

    /// What was seen of the networks of the ubatch, when its work is done; and the bytes that went
    /// from the card to the host and back for them.
    pub fn seen(&mut self) -> Result<(Vec<OnCard>, [usize; 2]), CudaError> {
        let seen = match &mut self.watch {
            Some(watch) => watch.take(self.card.stream())?,
            None => Vec::new(),
        };
        Ok((seen, self.crossing.take_bytes()))
    }

    /// Copies a slot's rows to the card.
    pub fn to_card(&self, slot: SlotId, rows: &[f32]) -> Result<(), CudaError> {
        let n = rows.len() / self.slots.width(slot).max(1);
        let view = self.slots.rows(slot, n);
        self.card.stream().upload(view, crate::util::bytes::as_bytes(rows))
    }

    /// Copies a slot's rows to the host, after all work so far.
    pub fn to_host(&self, slot: SlotId, rows: &mut [f32]) -> Result<(), CudaError> {
        let n = rows.len() / self.slots.width(slot).max(1);
        let view = self.slots.rows(slot, n);
        self.card.stream().download(view, crate::util::bytes::as_bytes_mut(rows))
    }
}

fn shared(plan: &Plan, legs: &[Leg]) -> Vec<SlotId> {
    let of_step = |step: &Step| match &step.kind {
        StepKind::SkippingFfn(ffn) => {
            [ffn.src, ffn.dst].into_iter().chain(ffn.predictor.map(|p| p.src)).collect()
        }
        _ => Vec::new(),
    };
    let of_leg = |leg: &Leg| match *leg {
        Leg::ToCard(slot) | Leg::ToHost(slot) => vec![slot],
        Leg::Card(start, end) => plan.steps[start..end].iter().flat_map(of_step).collect(),
        Leg::Host(..) => Vec::new(),
    };
    legs.iter().flat_map(of_leg).collect()
}
