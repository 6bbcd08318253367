//! What reading rows costs on this machine: by list, as a share of reading them all. Results never
//! depend on it.

use std::time::{Duration, Instant};

use super::buffers::uses_q8;
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::{Grid, Pool, Shared};
use crate::backend::cpu::table::{ActF32, ActQ8, WeightRows};
use crate::model::Model;
use crate::plan::{Mat, StepKind};
use crate::util::aligned::{AlignedVec, OutOfMemory};

/// Of the list that is timed, one row in so many.
const EVERY: usize = 5;
/// Rounds, of which the fastest counts.
const ROUNDS: usize = 4;
/// Matrices that are read in turns, so that none is still in a cache.
const MATRICES: usize = 8;

/// Share of the rows of gate and up projections from which on reading all of them is as fast as
/// reading those of a list: in a model's layers that can skip neurons, with so many threads. `None`
/// where there are no such layers or weights.
pub fn all_rows_from(model: &Model, n_threads: usize) -> Result<Option<f32>, OutOfMemory> {
    let steps = model.plan().into_iter().flat_map(|plan| &plan.steps);
    let mats = steps.filter_map(|step| match &step.kind {
        StepKind::SkippingFfn(ffn) => Some(ffn.up),
        _ => None,
    });
    let mats: Vec<Mat> = mats.take(MATRICES).collect();
    if mats.is_empty() || !model.has_data() {
        return Ok(None);
    }
    let mut bench = Bench::new(model, &mats, n_threads)?;
    let mut fastest = [Duration::MAX; 2];
    for round in 0..ROUNDS {
        for half in 0..2 {
            let listed = (round + half) % 2;
            let time = bench.time(model, &mats, listed == 1);
            fastest[listed] = fastest[listed].min(time);
        }
    }
    let [all, listed] = fastest.map(|time| time.as_secs_f32());
    Ok(Some((all / (listed * EVERY as f32)).clamp(0.0, 1.0)))
}

/// Inputs and outputs of products that nobody looks at.
struct Bench {
    table: &'static KernelTable,
    pool: Pool,
    ids: Vec<u32>,
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<[i16; 2]>,
    y: Shared<f32>,
}

impl Bench {
    fn new(model: &Model, mats: &[Mat], n_threads: usize) -> Result<Self, OutOfMemory> {
        let table = KernelTable::detect();
        let k = |mat: &Mat| model.weight(mat.weight).shape.ne()[0] as usize;
        let k = mats.iter().map(k).max().unwrap_or(0).next_multiple_of(32);
        let n_rows = mats.iter().map(|mat| mat.n_out).max().unwrap_or(0);
        let x: Vec<f32> = (0..k).map(|i| (i % 7) as f32 - 3.0).collect();
        let (mut q, mut d, mut s) = (vec![0; k], vec![0.0; k / 32], vec![[0; 2]; k / 32]);
        table.quantize_q8(&x, &mut q, &mut d, &mut s);
        let ids = (0..n_rows as u32).step_by(EVERY).collect();
        let y = Shared::new(1, n_rows)?;
        Ok(Self { table, pool: Pool::new(n_threads), ids, x, q, d, s, y })
    }

    /// Products of all matrices, whole or by the list.
    fn time(&mut self, model: &Model, mats: &[Mat], listed: bool) -> Duration {
        let Self { table, pool, ids, x, q, d, s, y } = self;
        let start = Instant::now();
        pool.run(&|worker| {
            let mut scratch = AlignedVec::new();
            for mat in mats {
                let weight = model.weight(mat.weight);
                let k = weight.shape.ne()[0] as usize;
                let data = weight.data.as_deref().unwrap_or(&[]);
                let n_rows = weight.shape.n_rows() as usize;
                let w = WeightRows { ty: weight.ty, data, k, n_rows };
                let ids = &ids[..mat.n_out.div_ceil(EVERY)];
                let width = if listed { ids.len() } else { mat.n_out };
                let cols = width.div_ceil(8 * worker.n_threads()).next_multiple_of(16);
                let grid = Grid { rows: usize::MAX, cols };
                let q8 = uses_q8(table, w.ty, false);
                worker.step(width.div_ceil(cols), |task| {
                    let mut tile = y.tile(task, 1, grid);
                    let part = tile.cols.start..tile.cols.end.min(width);
                    let y = &mut tile.view.narrow(0..part.len());
                    let (q, d, s) = (&q[..k], &d[..k / 32], &s[..k / 32]);
                    let q8_act = ActQ8 { k, n: 1, q, d, s };
                    let f32_act = ActF32 { k, n: 1, x: &x[..k] };
                    match (q8, listed) {
                        (true, false) => table.mul_mat_q8(&w, part, &q8_act, y, &mut scratch),
                        (false, false) => table.mul_mat_f32(&w, part, &f32_act, y, &mut scratch),
                        (true, true) => {
                            table.mul_mat_q8_listed(&w, &ids[part], &q8_act, y, &mut scratch);
                        }
                        (false, true) => {
                            table.mul_mat_f32_listed(&w, &ids[part], &f32_act, y, &mut scratch);
                        }
                    }
                });
            }
        });
        start.elapsed()
    }
}
