//! The activation buffers of a plan: which number formats each needs, and views of its tiles.

use std::ops::Range;

use crate::backend::cpu::KernelTable;
use crate::backend::cpu::kernels::int8::BLOCK;
use crate::backend::cpu::pool::{Grid, Shared, Task, Tile};
use crate::backend::cpu::table::{ActF32, ActQ8};
use crate::plan::{DownRows, Plan, SlotId, StepKind};
use crate::quant::QuantType;
use crate::util::aligned::OutOfMemory;

/// One activation buffer: a row per token or output, in the formats that its readers want.
pub struct Slot {
    /// Elements of a row.
    pub width: usize,
    f32: Option<Shared<f32>>,
    q8: Option<Q8>,
}

/// Activations in 8 bits, see [`ActQ8`].
struct Q8 {
    q: Shared<i8>,
    d: Shared<f32>,
    s: Shared<[i16; 2]>,
}

/// Whether a matrix is multiplied with 8-bit activations.
pub fn uses_q8(table: &KernelTable, ty: QuantType, reference: bool) -> bool {
    !reference && table.has_int8(ty)
}

/// Formats that each slot is kept in.
#[derive(Clone, PartialEq)]
struct Formats {
    f32: Vec<bool>,
    q8: Vec<bool>,
}

/// Makes the buffers of a plan, without rows yet; to be read by somebody else too, all are in f32,
/// or those of `crossing`.
pub fn for_plan(
    plan: &Plan,
    table: &KernelTable,
    reference: bool,
    readable: bool,
    crossing: &[SlotId],
) -> Result<Vec<Slot>, OutOfMemory> {
    let n = plan.slots.len();
    let mut formats = Formats { f32: vec![readable; n], q8: vec![false; n] };
    for slot in plan.embeddings.iter().chain(crossing) {
        formats.f32[slot.0] = true;
    }
    // Layers share slots, and a copy needs what its readers need: until nothing new comes up.
    loop {
        let before = formats.clone();
        for step in plan.steps.iter().rev() {
            formats.add(&step.kind, plan, &|ty| uses_q8(table, ty, reference));
        }
        if formats == before {
            break;
        }
    }
    let slots = plan.slots.iter().zip(formats.f32.into_iter().zip(formats.q8));
    slots.map(|(slot, (f32, q8))| Slot::new(slot.width, f32, q8)).collect()
}

impl Formats {
    /// Adds what a step reads and changes.
    fn add(&mut self, step: &StepKind, plan: &Plan, uses_q8: &dyn Fn(QuantType) -> bool) {
        let f32 = &mut self.f32;
        match step {
            StepKind::Embed { dst, .. } | StepKind::AddRow { dst, .. } => f32[dst.0] = true,
            StepKind::Norm { src, dst, add, .. } => {
                f32[src.0] = true;
                f32[dst.0] |= add;
            }
            StepKind::Activate { src, .. } | StepKind::Multiply { src, .. } => f32[src.0] = true,
            StepKind::NormHeads { slot, .. }
            | StepKind::FinishProducts { slot, .. }
            | StepKind::Rotate { slot, .. }
            | StepKind::Map { slot, .. }
            | StepKind::CutGates { slot, .. } => f32[slot.0] = true,
            StepKind::ActivateBy { src, by, .. } => (f32[src.0], f32[by.0]) = (true, true),
            StepKind::Accumulate { src, dst, .. } => (f32[src.0], f32[dst.0]) = (true, true),
            StepKind::Add { src, gate: other, dst }
            | StepKind::Rescale { src, like: other, dst, .. } => {
                for slot in [src, other, dst] {
                    f32[slot.0] = true;
                }
            }
            StepKind::MixStreams { streams, coefs } => {
                for slot in streams.iter().chain([coefs]) {
                    f32[slot.0] = true;
                }
            }
            StepKind::CorrectStreams { streams, src, coefs, .. } => {
                for slot in streams.iter().chain([src, coefs]) {
                    f32[slot.0] = true;
                }
            }
            StepKind::MatMul { src, mats, dst, .. } => {
                f32[dst.0] = true;
                mats.iter().for_each(|mat| self.add_product(*src, uses_q8(mat.ty)));
            }
            StepKind::ExpertMatMul { src, mats, dst, .. } => {
                f32[dst.0] = true;
                mats.iter().for_each(|mat| self.add_product(*src, uses_q8(mat.ty)));
            }
            StepKind::SkippingFfn(ffn) => {
                (f32[ffn.dst.0], f32[ffn.gate_up.0]) = (true, true);
                // Neurons are looked up one by one, outputs are a product.
                match ffn.down.rows {
                    DownRows::Neurons => f32[ffn.acted.0] = true,
                    DownRows::Outputs => self.add_product(ffn.acted, uses_q8(ffn.down.ty)),
                }
                for mat in ffn.gate.iter().chain([&ffn.up]) {
                    self.add_product(ffn.src, uses_q8(mat.ty));
                }
                for (src, added) in [(ffn.src, &ffn.adapted_in), (ffn.acted, &ffn.adapted_out)] {
                    self.add_low_rank(src, added.as_ref().map(|added| added.hidden));
                }
                if let Some(predictor) = &ffn.predictor {
                    self.f32[predictor.hidden.0] = true;
                    self.add_product(predictor.src, uses_q8(predictor.fc1.ty));
                    self.add_product(predictor.acted, uses_q8(predictor.fc2.ty));
                }
            }
            StepKind::SkippingExperts(step) => {
                (f32[step.gate_up.0], f32[step.dst.0]) = (true, true);
                for mat in [&step.gate, &step.up] {
                    self.add_product(step.src, uses_q8(mat.ty));
                }
                self.add_product(step.acted, uses_q8(step.down.ty));
                for (src, added) in [(step.src, &step.adapted_in), (step.acted, &step.adapted_out)]
                {
                    self.add_low_rank(src, added.as_ref().map(|added| added.hidden));
                }
            }
            StepKind::Route { logits, .. } => f32[logits.0] = true,
            StepKind::FromExperts { src, dst, .. } => (f32[src.0], f32[dst.0]) = (true, true),
            StepKind::StoreKv { qkv, .. } | StepKind::Attend { qkv, .. } => f32[qkv.0] = true,
            // Rows of 8 bits are copied where the source has them, else made from its f32.
            StepKind::Copy { src, dst } | StepKind::ToExperts { src, dst } => {
                f32[src.0] |= f32[dst.0] || plan.is_f32_alone(*src);
                self.q8[src.0] |= self.q8[dst.0] && !plan.is_f32_alone(*src);
            }
        }
    }

    fn add_product(&mut self, src: SlotId, q8: bool) {
        let of_type = if q8 { &mut self.q8 } else { &mut self.f32 };
        of_type[src.0] = true;
    }

    /// Matrices of adapters are F32.
    fn add_low_rank(&mut self, src: SlotId, hidden: Option<SlotId>) {
        if let Some(hidden) = hidden {
            (self.f32[src.0], self.f32[hidden.0]) = (true, true);
        }
    }
}

impl Slot {
    fn new(width: usize, f32: bool, q8: bool) -> Result<Self, OutOfMemory> {
        let mut slot = Self { width, f32: None, q8: None };
        if f32 {
            slot.f32 = Some(Shared::new(0, width)?);
        }
        if q8 {
            slot.q8 = Some(Q8 {
                q: Shared::new(0, width)?,
                d: Shared::new(0, width / BLOCK)?,
                s: Shared::new(0, width / BLOCK)?,
            });
        }
        Ok(slot)
    }

    /// Makes room for `n` rows.
    pub fn ensure_rows(&mut self, n: usize) -> Result<(), OutOfMemory> {
        if let Some(x) = &mut self.f32 {
            x.ensure_rows(n)?;
        }
        if let Some(Q8 { q, d, s }) = &mut self.q8 {
            q.ensure_rows(n)?;
            d.ensure_rows(n)?;
            s.ensure_rows(n)?;
        }
        Ok(())
    }

    /// Bytes of memory.
    pub fn n_bytes(&mut self) -> usize {
        let f32 = self.f32.as_mut().map_or(0, Shared::n_bytes);
        let q8 = self.q8.as_mut().map_or(0, |x| x.q.n_bytes() + x.d.n_bytes() + x.s.n_bytes());
        f32 + q8
    }

    fn f32(&self) -> &Shared<f32> {
        self.f32.as_ref().expect("for_plan gave the slot the formats that its readers want")
    }

    /// Rows in f32, outside of a run.
    pub fn get(&mut self) -> &[f32] {
        self.f32.as_mut().map_or(&[], |x| x.get())
    }

    /// Fills the first `n` rows from elsewhere, outside of a run.
    pub fn fill<E>(
        &mut self,
        table: &KernelTable,
        n: usize,
        fill: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(f32) = &mut self.f32 else { return Ok(()) };
        let x = &mut f32.get_mut()[..n * self.width];
        fill(x)?;
        if let Some(Q8 { q, d, s }) = &mut self.q8 {
            let n_blocks = x.len() / BLOCK;
            let (d, s) = (&mut d.get_mut()[..n_blocks], &mut s.get_mut()[..n_blocks]);
            table.quantize_q8(x, &mut q.get_mut()[..x.len()], d, s);
        }
        Ok(())
    }

    /// Rows in f32, to read in this step.
    pub fn read<'t>(&'t self, task: &'t Task, rows: Range<usize>) -> &'t [f32] {
        self.f32().read_rows(task, rows)
    }

    /// Rows `rows` in f32.
    pub fn act_f32<'t>(&'t self, task: &'t Task, rows: Range<usize>) -> ActF32<'t> {
        ActF32 { k: self.width, n: rows.len(), x: self.read(task, rows) }
    }

    /// Rows `rows` in 8 bits.
    pub fn act_q8<'t>(&'t self, task: &'t Task, rows: Range<usize>) -> ActQ8<'t> {
        let q8 =
            self.q8.as_ref().expect("for_plan gave the slot the formats that its readers want");
        ActQ8 {
            k: self.width,
            n: rows.len(),
            q: q8.q.read_rows(task, rows.clone()),
            d: q8.d.read_rows(task, rows.clone()),
            s: q8.s.read_rows(task, rows),
        }
    }

    /// This task's tile in f32 alone, to write or add to.
    pub fn tile_f32<'t>(&'t self, task: &'t Task, n: usize, grid: Grid) -> Tile<'t, f32> {
        self.f32().tile(task, n, grid)
    }

    /// This task's tile in all formats. Columns of the grid are a multiple of 32, or all.
    pub fn tile<'t>(&'t self, task: &'t Task, n: usize, grid: Grid) -> SlotTile<'t> {
        let blocks = Grid { rows: grid.rows, cols: grid.cols.div_ceil(BLOCK) };
        SlotTile {
            f32: self.f32.as_ref().map(|x| x.tile(task, n, grid)),
            q8: self.q8.as_ref().map(|x| Q8Tile {
                q: x.q.tile(task, n, grid),
                d: x.d.tile(task, n, blocks),
                s: x.s.tile(task, n, blocks),
            }),
        }
    }
}

/// A task's part of a slot.
pub struct SlotTile<'t> {
    f32: Option<Tile<'t, f32>>,
    q8: Option<Q8Tile<'t>>,
}

struct Q8Tile<'t> {
    q: Tile<'t, i8>,
    d: Tile<'t, f32>,
    s: Tile<'t, [i16; 2]>,
}

impl SlotTile<'_> {
    /// Rows of the matrix that the tile covers.
    pub fn rows(&self) -> Range<usize> {
        match (&self.f32, &self.q8) {
            (Some(t), _) => t.rows.clone(),
            (_, Some(t)) => t.q.rows.clone(),
            _ => 0..0,
        }
    }

    /// Columns of the matrix that the tile covers.
    pub fn cols(&self) -> Range<usize> {
        match (&self.f32, &self.q8) {
            (Some(t), _) => t.cols.clone(),
            (_, Some(t)) => t.q.cols.clone(),
            _ => 0..0,
        }
    }

    /// Computes row `r` of the tile with `fill` and stores it in every format. `scratch` has the
    /// tile's width and is used when the row itself is not kept in f32.
    pub fn put(
        &mut self,
        table: &KernelTable,
        r: usize,
        scratch: &mut [f32],
        fill: impl FnOnce(&mut [f32]),
    ) {
        let x: &mut [f32] = match &mut self.f32 {
            Some(tile) => tile.view.row(r),
            None => scratch,
        };
        fill(x);
        if let Some(Q8Tile { q, d, s }) = &mut self.q8 {
            table.quantize_q8(x, q.view.row(r), d.view.row(r), s.view.row(r));
        }
    }

    /// Copies row `from` of another slot to row `r`, in every format that this one has.
    pub fn copy(
        &mut self,
        table: &KernelTable,
        r: usize,
        scratch: &mut [f32],
        src: &Slot,
        task: &Task,
        from: usize,
    ) {
        let row = from..from + 1;
        let (Some(tile), Some(q8)) = (&mut self.q8, &src.q8) else {
            let x = src.read(task, row);
            return self.put(table, r, scratch, |y| y.copy_from_slice(x));
        };
        tile.q.view.row(r).copy_from_slice(q8.q.read_rows(task, row.clone()));
        tile.d.view.row(r).copy_from_slice(q8.d.read_rows(task, row.clone()));
        tile.s.view.row(r).copy_from_slice(q8.s.read_rows(task, row.clone()));
        if let Some(tile) = &mut self.f32 {
            tile.view.row(r).copy_from_slice(src.read(task, row));
        }
    }
}
