//! Which buffers a step reads and which it changes: what has to be where it runs.

use super::{Plan, SlotId, Step, StepKind};

/// The buffers of a step. One that it changes without writing all of it is among both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Looked at, or added to.
    pub reads: Vec<SlotId>,
    /// Different afterwards.
    pub writes: Vec<SlotId>,
}

impl Flow {
    fn new(reads: &[SlotId], writes: &[SlotId]) -> Self {
        Self { reads: reads.to_vec(), writes: writes.to_vec() }
    }

    /// The same, adding to what is in a buffer.
    fn adding(mut self, adds: bool, dst: SlotId) -> Self {
        if adds {
            self.reads.push(dst);
        }
        self
    }
}

impl StepKind {
    /// Buffers that a step uses for itself: nobody looks at them afterwards.
    pub fn own_slots(&self) -> Vec<SlotId> {
        match self {
            Self::SkippingFfn(ffn) => vec![ffn.gate_up, ffn.acted],
            _ => Vec::new(),
        }
    }

    /// What it reads and changes.
    pub fn flow(&self) -> Flow {
        match self {
            Self::Embed { dst, .. } => Flow::new(&[], &[*dst]),
            Self::AddRow { dst, .. } => Flow::new(&[*dst], &[*dst]),
            Self::Norm { src, dst, add, .. } => Flow::new(&[*src], &[*dst]).adding(*add, *dst),
            Self::NormHeads { slot, .. }
            | Self::CutGates { slot, .. }
            | Self::Map { slot, .. }
            | Self::FinishProducts { slot, .. }
            | Self::Rotate { slot, .. } => Flow::new(&[*slot], &[*slot]),
            Self::MatMul { src, dst, add, .. } => {
                Flow::new(&[*src], &[*dst]).adding(add.is_some(), *dst)
            }
            Self::StoreKv { qkv, .. } => Flow::new(&[*qkv], &[]),
            Self::Attend { qkv, dst, .. } => Flow::new(&[*qkv], &[*dst]),
            Self::Activate { src, dst, .. }
            | Self::Multiply { src, dst, .. }
            | Self::ToExperts { src, dst }
            | Self::Copy { src, dst } => Flow::new(&[*src], &[*dst]),
            Self::ActivateBy { src, by, dst, .. } => Flow::new(&[*src, *by], &[*dst]),
            Self::Rescale { src, like, dst, add } => {
                Flow::new(&[*src, *like], &[*dst]).adding(*add, *dst)
            }
            Self::MixStreams { streams, coefs } => {
                let mut flow = Flow::new(streams, streams);
                flow.reads.push(*coefs);
                flow
            }
            Self::CorrectStreams { streams, src, coefs, .. } => {
                let mut flow = Flow::new(streams, streams);
                flow.reads.extend([*src, *coefs]);
                flow
            }
            Self::Add { src, gate, dst } => Flow::new(&[*src, *gate, *dst], &[*dst]),
            Self::Route { logits, .. } => Flow::new(&[*logits], &[]),
            Self::ExpertMatMul { src, dst, add, .. } => {
                Flow::new(&[*src], &[*dst]).adding(*add, *dst)
            }
            Self::FromExperts { src, dst, .. } | Self::Accumulate { src, dst, .. } => {
                Flow::new(&[*src, *dst], &[*dst])
            }
            Self::SkippingExperts(step) => {
                Flow::new(&[step.src], &[step.gate_up, step.acted, step.dst])
            }
            Self::SkippingFfn(ffn) => {
                let mut flow = Flow::new(&[ffn.src], &[ffn.gate_up, ffn.acted, ffn.dst]);
                flow.reads.extend(ffn.predictor.map(|p| p.src));
                flow.reads.extend(ffn.fed.then_some(ffn.gate_up));
                flow.adding(ffn.add, ffn.dst)
            }
        }
    }
}

/// A part of a plan that runs in one place, or what goes from place to place between such parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Steps `start..end` on the processor.
    Host(usize, usize),
    /// Steps `start..end` on the card.
    Card(usize, usize),
    /// A buffer's rows go to the card.
    ToCard(SlotId),
    /// A buffer's rows go to the host.
    ToHost(SlotId),
}

impl Plan {
    /// The layer that each step belongs to, as its name says; steps behind the last layer's are of the
    /// output and count as one more, those before the first layer's are of none.
    pub fn layers_of_steps(&self) -> Vec<Option<usize>> {
        let named = |step: &Step| step.name.rsplit_once('-')?.1.parse::<usize>().ok();
        let mut layers: Vec<_> = self.steps.iter().map(named).collect();
        let n_named = layers.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut before = None;
        for layer in &mut layers[..n_named] {
            // Between two layers' steps: the earlier one's.
            *layer = layer.or(before);
            before = *layer;
        }
        let output = (n_named > 0).then_some(self.layers.len());
        layers[n_named..].fill(output);
        layers
    }

    /// The plan as parts that run on the host or, for those steps that `on_card` names, on the card.
    /// A buffer is copied when a step elsewhere is about to read it, and once for all such readers.
    /// What the plan gives ends up on the host.
    pub fn legs(&self, on_card: impl Fn(usize) -> bool) -> Vec<Leg> {
        let mut legs = Vec::new();
        // Where the content of each buffer is: on the host, on the card.
        let mut places = vec![[true, false]; self.slots.len()];
        let bring = |slot: SlotId, card: bool, places: &mut [[bool; 2]], legs: &mut Vec<Leg>| {
            let place = &mut places[slot.0][usize::from(card)];
            if !*place {
                *place = true;
                legs.push(if card { Leg::ToCard(slot) } else { Leg::ToHost(slot) });
            }
        };
        for (i, step) in self.steps.iter().enumerate() {
            let card = on_card(i);
            let flow = step.kind.flow();
            for &slot in &flow.reads {
                bring(slot, card, &mut places, &mut legs);
            }
            for &slot in &flow.writes {
                places[slot.0] = [!card, card];
            }
            match (legs.last_mut(), card) {
                (Some(Leg::Host(_, end)), false) | (Some(Leg::Card(_, end)), true) => *end = i + 1,
                (_, false) => legs.push(Leg::Host(i, i + 1)),
                (_, true) => legs.push(Leg::Card(i, i + 1)),
            }
        }
        for slot in [self.embeddings, self.logits].into_iter().flatten() {
            bring(slot, false, &mut places, &mut legs);
        }
        legs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Map, Rows, Slot};

    fn plan(steps: Vec<StepKind>, n_slots: usize, logits: usize) -> Plan {
        let slot = Slot { per_row: 1, name: "slot", width: 4, rows: Rows::Tokens };
        let step = |kind| Step { name: String::new(), kind };
        Plan {
            steps: steps.into_iter().map(step).collect(),
            slots: vec![slot; n_slots],
            logits: Some(SlotId(logits)),
            ..Plan::default()
        }
    }

    fn copy(src: usize, dst: usize) -> StepKind {
        StepKind::Copy { src: SlotId(src), dst: SlotId(dst) }
    }

    fn accumulate(src: usize, dst: usize) -> StepKind {
        StepKind::Accumulate { src: SlotId(src), scale: 1.0, dst: SlotId(dst) }
    }

    #[test]
    fn a_plan_on_the_host_is_one_leg() {
        let plan = plan(vec![copy(0, 1), copy(1, 2)], 3, 2);
        assert_eq!(plan.legs(|_| false), [Leg::Host(0, 2)]);
    }

    #[test]
    fn buffers_go_where_they_are_read_and_come_back() {
        let plan = plan(vec![copy(0, 1), copy(1, 2), copy(2, 3)], 4, 3);
        let expected =
            [Leg::Host(0, 1), Leg::ToCard(SlotId(1)), Leg::Card(1, 3), Leg::ToHost(SlotId(3))];
        assert_eq!(plan.legs(|i| i > 0), expected);
    }

    #[test]
    fn a_buffer_is_copied_once_until_it_changes() {
        // The residual stream 0 is read on the card twice, changed on the host in between.
        let steps = vec![copy(0, 1), copy(0, 2), accumulate(1, 0), copy(0, 3)];
        let plan = plan(steps, 4, 3);
        let expected = [
            Leg::ToCard(SlotId(0)),
            Leg::Card(0, 2),
            Leg::ToHost(SlotId(1)),
            Leg::Host(2, 3),
            Leg::ToCard(SlotId(0)),
            Leg::Card(3, 4),
            Leg::ToHost(SlotId(3)),
        ];
        assert_eq!(plan.legs(|i| i != 2), expected);
    }

    #[test]
    fn what_is_added_to_must_be_there() {
        let plan = plan(vec![StepKind::Map { slot: SlotId(0), map: Map::Scale(2.0) }], 1, 0);
        let expected = [Leg::ToCard(SlotId(0)), Leg::Card(0, 1), Leg::ToHost(SlotId(0))];
        assert_eq!(plan.legs(|_| true), expected);
    }

    #[test]
    fn steps_without_a_layers_name_belong_to_the_one_before() {
        let mut plan = plan((0..7).map(|_| copy(0, 1)).collect(), 2, 1);
        let names = ["embd", "norm-3", "", "l_out-3", "norm-4", "result_norm", "result"];
        for (step, name) in plan.steps.iter_mut().zip(names) {
            step.name = name.into();
        }
        // One behind the last of the plan's layers, of which this one has none.
        let (three, four, output) = (Some(3), Some(4), Some(0));
        assert_eq!(plan.layers_of_steps(), [None, three, three, three, four, output, output]);
        plan.steps.truncate(1);
        assert_eq!(plan.layers_of_steps(), [None]);
    }
}
