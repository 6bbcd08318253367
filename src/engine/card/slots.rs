//! Activations on a card: those slots that steps there use, in f32, and one row of them in 8 bits
//! for the product at hand.

use std::sync::Arc;

use crate::backend::cuda::{Budget, Buffer, CudaError, Purpose, Stream, View};
use crate::plan::{Leg, Plan, SlotId};

/// One slot.
struct Slot {
    /// Whether steps on the card use it.
    used: bool,
    width: usize,
    rows: Option<Buffer>,
}

/// All slots of a plan.
pub struct Slots {
    slots: Vec<Slot>,
    /// Scratch of the steps, by use.
    scratch: Vec<Option<Buffer>>,
}

/// What scratch memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Codes of activations.
    Codes,
    /// Their scales.
    Scales,
    /// Partial results of attention.
    Partials,
    /// A product before it is added.
    Product,
    /// The hidden layer of a predictor.
    Hidden,
    /// Scores, or outputs of the first projection, of a network's neurons.
    First,
    /// The neurons that fire, by token.
    Ids,
    /// How many they are.
    Counts,
    /// The same of neurons that are not here.
    ColdScores,
    /// Likewise.
    ColdIds,
    /// Likewise.
    ColdCounts,
    /// Outputs of neurons.
    Neurons,
    /// Partial sums of the way back.
    Sums,
    /// What the processor made of a network.
    Partial,
}

const N_USES: usize = Use::Partial as usize + 1;

impl Slots {
    /// Slots of a plan that runs in these legs; without memory yet.
    pub fn new(plan: &Plan, legs: &[Leg]) -> Self {
        let mut used = vec![false; plan.slots.len()];
        for leg in legs {
            match *leg {
                Leg::Card(start, end) => {
                    for step in &plan.steps[start..end] {
                        let flow = step.kind.flow();
                        let own = step.kind.own_slots();
                        let slots = flow.reads.iter().chain(&flow.writes);
                        slots.filter(|slot| !own.contains(slot)).for_each(|s| used[s.0] = true);
                    }
                }
                Leg::ToCard(slot) | Leg::ToHost(slot) => used[slot.0] = true,
                Leg::Host(..) => {}
            }
        }
        let slots = plan.slots.iter().zip(used);
        let slots = slots.map(|(slot, used)| Slot { used, width: slot.width, rows: None });
        Self { slots: slots.collect(), scratch: (0..N_USES).map(|_| None).collect() }
    }

    /// Makes room for a ubatch. Memory grows in few steps and stays.
    pub fn ensure(
        &mut self,
        n_rows: impl Fn(SlotId) -> usize,
        stream: &Arc<Stream>,
        budget: &Arc<Budget>,
    ) -> Result<(), CudaError> {
        for (i, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.used) {
            let n_bytes = n_rows(SlotId(i)).next_power_of_two() * slot.width * 4;
            grow(&mut slot.rows, n_bytes, stream, budget)?;
        }
        Ok(())
    }

    /// The first `n` rows of a slot. Of a slot without rows, nothing.
    ///
    /// # Panics
    /// When [`Self::ensure`] made no room for them.
    pub fn rows(&self, id: SlotId, n: usize) -> View<'_> {
        let slot = &self.slots[id.0];
        let rows = slot.rows.as_ref().expect("made for the steps that use it");
        rows.view().slice(0..n * slot.width * 4)
    }

    /// Elements of a row.
    pub fn width(&self, id: SlotId) -> usize {
        self.slots[id.0].width
    }

    /// Makes room for a step's own use.
    pub fn ensure_scratch(
        &mut self,
        of: Use,
        n_bytes: usize,
        stream: &Arc<Stream>,
        budget: &Arc<Budget>,
    ) -> Result<(), CudaError> {
        grow(&mut self.scratch[of as usize], n_bytes, stream, budget)
    }

    /// `n_bytes` for a step's own use.
    ///
    /// # Panics
    /// When [`Self::ensure_scratch`] made no room for them.
    pub fn scratch(&self, of: Use, n_bytes: usize) -> View<'_> {
        let scratch = self.scratch[of as usize].as_ref().expect("room was made");
        scratch.view().slice(0..n_bytes)
    }
}

/// Makes room for bytes of activations, or of what steps need to know.
pub(super) fn grow(
    buffer: &mut Option<Buffer>,
    n_bytes: usize,
    stream: &Arc<Stream>,
    budget: &Arc<Budget>,
) -> Result<(), CudaError> {
    if buffer.as_ref().is_none_or(|buffer| buffer.len() < n_bytes) {
        // Freed first: the old and the new need not exist together.
        *buffer = None;
        *buffer = Some(stream.device().alloc(budget, Purpose::Compute, n_bytes)?);
    }
    Ok(())
}
