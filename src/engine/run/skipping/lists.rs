//! Lists of neurons, and the numbers that go with them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::MAX_TOKENS;
use crate::backend::cpu::pool::{Grid, Shared, Task};
use crate::plan::{Plan, StepKind};
use crate::util::aligned::{AlignedVec, OutOfMemory};

/// Ascending lists of neurons, one per row.
pub(super) struct Lists {
    ids: Shared<u32>,
    len: Vec<AtomicU32>,
}

impl Lists {
    fn new(rows: usize, n_ff: usize) -> Result<Self, OutOfMemory> {
        let len = (0..rows).map(|_| AtomicU32::new(0)).collect();
        Ok(Self { ids: Shared::new(rows, n_ff)?, len })
    }

    /// The longest that a list can be.
    pub(super) fn width(&self) -> usize {
        self.ids.ld()
    }

    /// Length of a list that an earlier step made.
    pub(super) fn len(&self, row: usize) -> usize {
        self.len[row].load(Ordering::Acquire) as usize
    }

    pub(super) fn read<'t>(&'t self, task: &'t Task, row: usize) -> &'t [u32] {
        &self.ids.read_rows(task, row..row + 1)[..self.len(row)]
    }

    /// Makes the list of this task's row: `fill` writes it and returns its length.
    pub(super) fn write(&self, task: &Task, fill: impl FnOnce(&mut [u32]) -> usize) {
        let grid = Grid { rows: 1, cols: self.ids.ld() };
        let mut tile = self.ids.tile(task, self.len.len(), grid);
        let n = fill(tile.view.row(0));
        self.len[tile.rows.start].store(n as u32, Ordering::Release);
    }

    /// Leaves in the list of this task's row only what is in `ids` too.
    pub(super) fn keep(&self, task: &Task, ids: &[u32]) {
        let n = self.len(task.index());
        self.write(task, |list| {
            let (mut kept, mut ids) = (0, ids.iter().copied().peekable());
            for i in 0..n {
                while ids.next_if(|&id| id < list[i]).is_some() {}
                list[kept] = list[i];
                kept += usize::from(ids.peek() == Some(&list[i]));
            }
            kept
        });
    }
}

/// What layers that skip neurons share, one after the other.
#[derive(Default)]
pub(in super::super) struct Firing {
    made: Option<Made>,
}

pub(super) struct Made {
    /// Neurons that were guessed to fire, by token, and for any of them.
    pub(super) guessed: Lists,
    pub(super) guessed_any: Lists,
    /// Neurons that fire, likewise.
    pub(super) fired: Lists,
    pub(super) fired_any: Lists,
    /// Neurons with an output that is not zero.
    pub(super) down: Lists,
    /// Scores of guesses, then outputs of the first projection: all neurons, or those of a list.
    pub(super) first: Shared<f32>,
    /// The gate's outputs for the neurons that fire.
    pub(super) gate: Shared<f32>,
    /// Outputs of up, like `first`.
    pub(super) up: Shared<f32>,
    /// Outputs of the neurons of `down`.
    pub(super) h: Shared<f32>,
}

/// Memory of one thread for lists.
#[derive(Default)]
pub(in super::super) struct ListScratch {
    pub(super) places: AlignedVec<u32>,
    pub(super) values: AlignedVec<f32>,
    /// Gates beyond a cutoff.
    pub(super) gates: AlignedVec<f32>,
    pub(super) bits: Vec<u64>,
}

impl Firing {
    /// Makes room, if the plan has networks that skip neurons.
    pub(in super::super) fn ensure(&mut self, plan: &Plan) -> Result<(), OutOfMemory> {
        let widths = plan.steps.iter().filter_map(|step| match &step.kind {
            StepKind::SkippingFfn(ffn) => Some(ffn.n_ff),
            _ => None,
        });
        if let (None, Some(n_ff)) = (&self.made, widths.max()) {
            let lists = |rows| Lists::new(rows, n_ff);
            let floats = || Shared::new(MAX_TOKENS, n_ff);
            self.made = Some(Made {
                guessed: lists(MAX_TOKENS)?,
                guessed_any: lists(1)?,
                fired: lists(MAX_TOKENS)?,
                fired_any: lists(1)?,
                down: lists(MAX_TOKENS)?,
                first: floats()?,
                gate: floats()?,
                up: floats()?,
                h: floats()?,
            });
        }
        Ok(())
    }

    /// Bytes of memory.
    pub(in super::super) fn n_bytes(&mut self) -> usize {
        let Some(made) = &mut self.made else { return 0 };
        let Made { guessed, guessed_any, fired, fired_any, down, first, gate, up, h } = made;
        let lists = [guessed, guessed_any, fired, fired_any, down];
        let floats = [first, gate, up, h];
        lists.into_iter().map(|l| l.ids.n_bytes()).sum::<usize>()
            + floats.into_iter().map(Shared::n_bytes).sum::<usize>()
    }

    pub(super) fn made(&self) -> &Made {
        self.made.as_ref().expect("ensure() made the lists of a plan with such networks")
    }
}
