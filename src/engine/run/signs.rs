//! Guesses of the neurons that fire by signs alone, see [`SignPlanes`].

use super::{Run, Scratch};
use crate::backend::cpu::pool::{Grid, Shared, Task, Worker};
use crate::engine::buffers::uses_q8;
use crate::plan::{Mat, SkippingFfn};
use crate::sparse::{LayerStats, SignPlanes, set_signs};

impl Run<'_> {
    /// The scores of the neurons for `n` tokens, 0 and more for those that are to be computed:
    /// `n_equal * alpha - n_different`.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    pub(super) fn score_by_signs(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        planes: &SignPlanes,
        alpha: f32,
        n: usize,
        out: &Shared<f32>,
    ) {
        let k = planes.k();
        // Few tasks: each packs the tokens' signs for itself.
        let cols = ffn.n_ff.div_ceil(2 * worker.n_threads());
        let grid = Grid { rows: usize::MAX, cols };
        if worker.index() == 0 {
            LayerStats::add(&self.runner.stats.layer(ffn.layer).bytes, planes.n_bytes());
        }
        worker.step(ffn.n_ff.div_ceil(cols), |task| {
            let mut tile = out.tile(task, n, grid);
            let part = tile.cols.start..tile.cols.end.min(ffn.n_ff);
            let signs = &mut scratch.signs;
            signs.resize(k.div_ceil(64), 0);
            for t in 0..n {
                self.input_signs(task, ffn, ffn.first(), t, signs);
                let scores = &mut tile.view.row(t)[..part.len()];
                self.table().count_different(planes.rows(part.clone()), signs, scores);
                for score in scores {
                    let different = *score;
                    *score = (k as f32 - different) * alpha - different;
                }
            }
        });
    }

    /// The signs of a token's input in the form in which `mat` reads it.
    fn input_signs(&self, task: &Task, ffn: &SkippingFfn, mat: &Mat, t: usize, signs: &mut [u64]) {
        let src = self.slot(ffn.src);
        match uses_q8(self.table(), mat.ty, self.runner.reference) {
            true => set_signs(src.act_q8(task, t..t + 1).q.iter().map(|&q| q < 0), signs),
            false => {
                let x = src.read(task, t..t + 1);
                set_signs(x.iter().map(|x| x.is_sign_negative()), signs);
            }
        }
    }
}
