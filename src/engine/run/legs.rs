//! Runs a plan in legs: parts on the processor, parts on a card, buffers that go between them.

use std::sync::atomic::AtomicUsize;

use super::{Abort, Job, Run, Runner, Stop, skipping};
use crate::backend::cpu::pool::Pool;
use crate::engine::card::{CardRun, Content};
use crate::plan::Leg;

impl Runner {
    /// Computes a ubatch whose tokens have their cells already.
    pub(super) fn run_legs(
        &mut self,
        pool: &mut Pool,
        job: &Job<'_>,
        abort: Option<&dyn Abort>,
        card: &mut CardRun,
    ) -> Result<(), Stop> {
        let check = job.ubatch.n_tokens() <= skipping::MAX_TOKENS && self.stats.begin_small();
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
        )?;
        let mut has_ropes = false;
        for i in 0..card.legs().len() {
            if abort.is_some_and(Abort::should_abort) {
                return Err(Stop::Aborted);
            }
            match card.legs()[i].clone() {
                Leg::Host(start, end) => {
                    let run = Run { runner: self, job: *job, check };
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
                    for step in start..end {
                        card.step(job, &self.class_of, step)?;
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
        Ok(())
    }
}
