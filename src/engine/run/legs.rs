//! Runs a plan in legs: parts on the processor, parts on a card, buffers that go between them.

use std::sync::atomic::AtomicUsize;

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
        let check = job.ubatch.n_tokens() <= MAX_TOKENS && self.stats.begin_small();
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
        let share = card.ffn(job, ffn)?;
        let n = job.n_rows(ffn.dst);
        let (table, src) = (self.table, &mut self.slots[ffn.src.0]);
        let cold = match share {
            Share::Whole => return Ok(()),
            Share::Hot => {
                let (arrived, ids) = card.arrived(job, ffn, n)?;
                src.fill::<Stop>(table, n, |rows| {
                    rows.copy_from_slice(arrived.rows);
                    Ok(())
                })?;
                Some(Cold { ids, lists: arrived.lists })
            }
            Share::Nothing => {
                src.fill(table, n, |rows| card.to_host(ffn.src, rows))?;
                None
            }
        };
        let run = Run { runner: self, job: *job, check: false, cold };
        pool.run(&|worker| run.cold_ffn(worker, ffn));
        let dst = &mut self.slots[ffn.dst.0];
        let len = n * dst.width;
        card.merge(job, ffn, &dst.get()[..len])?;
        Ok(())
    }
}
