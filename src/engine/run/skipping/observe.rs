//! What is seen of networks that skip neurons while they run, beside the counts that cost nothing.

use std::time::Instant;

use super::super::{Run, Scratch};
use crate::backend::cpu::pool::Worker;
use crate::plan::SkippingFfn;
use crate::sparse::{LayerStats, Selector};

impl Run<'_> {
    /// The network, with its time when that is wanted. Between two barriers all threads take as
    /// long as the first one.
    pub(in super::super) fn observed_ffn(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
    ) {
        let n = self.n_rows(ffn.dst);
        if worker.index() != 0 || n == 0 {
            return self.adapted_ffn(worker, scratch, ffn);
        }
        let stats = self.runner.stats.layer(ffn.layer);
        let weights = ffn.gate.iter().chain([&ffn.up]).map(|mat| mat.weight);
        let dense = weights.chain([ffn.down.weight]).map(|id| self.rows_of(id).data.len()).sum();
        LayerStats::add(&stats.tokens, n);
        LayerStats::add(&stats.dense_bytes, dense);
        // A check is no part of the network.
        let start = (self.runner.stats.detailed() && !self.check).then(Instant::now);
        self.adapted_ffn(worker, scratch, ffn);
        if let Some(start) = start {
            LayerStats::add(&stats.nanos, start.elapsed().as_nanos() as usize);
            LayerStats::add(&stats.timed, n);
        }
    }

    /// Computes the first projection of all neurons, to count which of those that fire were
    /// guessed. The outputs of up are not there yet: their room serves.
    pub(super) fn check_guesses(
        &self,
        worker: &Worker<'_>,
        scratch: &mut Scratch,
        ffn: &SkippingFfn,
        selector: &Selector,
        n: usize,
    ) {
        let m = self.runner.firing.made();
        let stats = self.runner.stats.layer(ffn.layer);
        let first = ffn.first();
        self.project_rows(worker, scratch, ffn.src, first, ffn.adapted(first), None, n, &m.up);
        worker.step(n, |task| {
            let t = task.index();
            let first = &m.up.read_rows(task, t..t + 1)[..ffn.n_ff];
            let n_firing = self.firing(ffn, selector, first, &mut scratch.lists);
            let mut guessed = m.guessed.read(task, t).iter().peekable();
            let firing = scratch.lists.places[..n_firing].iter();
            let found = firing.filter(|&id| {
                while guessed.next_if(|&g| g < id).is_some() {}
                guessed.peek() == Some(id).as_ref()
            });
            LayerStats::add(&stats.found, found.count());
            LayerStats::add(&stats.checked, n_firing);
        });
    }
}
