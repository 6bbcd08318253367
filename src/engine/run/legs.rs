//! Runs a plan in legs: parts on the processor, parts on a card, buffers that go between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::skipping::Cold;
use super::{Abort, Job, MAX_TOKENS, Run, Runner, Stop};
use crate::backend::cpu::pool::Pool;
use crate::engine::card::{CardRun, Content, Share};
use crate::plan::{Leg, SkippingFfn, StepKind};

impl Runner {
    /// Computes a ubatch whose tokens have their cells already.
    pub(super) fn run_legs(
        &mut self,
        pool: &mut Pool,
        job: &Job<'_>,
        abort: Option<&dyn Abort>,
        card: &mut CardRun,
    ) -> Result<(), Stop> {
        let small = job.ubatch.n_tokens() <= MAX_TOKENS;
        let check = small && self.stats.begin_small();
        let watched = (small && self.stats.detailed()).then(Instant::now);
        card.begin(
            job,
            &Content {
                plan: job.plan,
                tokens: job.tokens,
                ubatch: job.ubatch,
                kv: job.kv,
                classes: &self.classes,
                causal: job.causal,
                ropes: &self.ropes,
            },
            watched.is_some(),
        )?;
        let mut has_ropes = false;
        for i in 0..card.legs().len() {
            if abort.is_some_and(Abort::should_abort) {
                return Err(Stop::Aborted);
            }
            match card.legs()[i].clone() {
                Leg::Host(start, end) => {
                    let run = Run { runner: self, job: *job, check, cold: None };
                    let stop_at = AtomicUsize::new(usize::MAX);
                    pool.run(&|worker| {
                        if !has_ropes {
                            run.rope_tables(worker);
                        }
                        run.walk(worker, start..end, abort, &stop_at);
                    });
                    has_ropes = true;
                    if stop_at.into_inner() != usize::MAX {
                        return Err(Stop::Aborted);
                    }
                }
                Leg::Card(start, end) => {
                    for i in start..end {
                        match &job.plan.steps[i].kind {
                            StepKind::SkippingFfn(ffn) => self.split_ffn(pool, job, card, ffn)?,
                            _ => card.step(job, &self.class_of, i)?,
                        }
                    }
                }
                Leg::ToCard(slot) => {
                    let len = job.n_rows(slot) * self.slots[slot.0].width;
                    card.to_card(slot, &self.slots[slot.0].get()[..len])?;
                }
                Leg::ToHost(slot) => {
                    let n = job.n_rows(slot);
                    let table = self.table;
                    self.slots[slot.0].fill(table, n, |rows| card.to_host(slot, rows))?;
                }
            }
        }
        if let Some(start) = watched {
            let (seen, [to_host, to_card]) = card.seen()?;
            seen.iter().for_each(|seen| self.stats.add_on_card(seen));
            let split = &mut self.stats.split;
            split.tokens += job.ubatch.n_tokens() as u64;
            split.to_host += to_host as u64;
            split.to_card += to_card as u64;
            split.whole += start.elapsed();
        }
        Ok(())
    }

    /// A network whose neurons the card has, or the hot ones: both work at the same time.
    fn split_ffn(
        &mut self,
        pool: &mut Pool,
        job: &Job<'_>,
        card: &mut CardRun,
        ffn: &SkippingFfn,
    ) -> Result<(), Stop> {
        // Whoever counts what fires looks at all neurons, here.
        let on_host = self.stats.counting() || self.gates.is_some();
        let share = card.ffn(job, ffn, on_host)?;
        let n = job.n_rows(ffn.dst);
        let table = self.table;
        let cold = match share {
            Share::Whole => return Ok(()),
            Share::Hot => {
                let (arrived, ids) = card.arrived(job, ffn, n)?;
                self.slots[ffn.src.0].fill::<Stop>(table, n, |rows| {
                    rows.copy_from_slice(arrived.rows);
                    Ok(())
                })?;
                Some(Cold { ids, lists: arrived.lists })
            }
            Share::Nothing => {
                for slot in [ffn.src].into_iter().chain(ffn.predictor.map(|p| p.src)) {
                    self.slots[slot.0].fill(table, n, |rows| card.to_host(slot, rows))?;
                }
                None
            }
        };
        let fired = || self.stats.layer(ffn.layer).fired.load(Ordering::Relaxed);
        let listed = cold.as_ref().and_then(|cold| cold.lists);
        let listed = listed.map(|lists| lists.iter().map(|list| list.len() as u64).sum::<u64>());
        let (before, is_cold) = (fired(), cold.is_some());
        let start = Instant::now();
        let run = Run { runner: self, job: *job, check: false, cold };
        pool.run(&|worker| run.cold_ffn(worker, ffn));
        if is_cold && self.stats.detailed() {
            let listed = listed.unwrap_or_else(|| fired() - before);
            self.stats.split.cold += listed;
            self.stats.split.host += start.elapsed();
        }
        let dst = &mut self.slots[ffn.dst.0];
        let len = n * dst.width;
        card.merge(job, ffn, &dst.get()[..len])?;
        Ok(())
    }
}
