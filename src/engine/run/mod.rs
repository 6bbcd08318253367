//! Executes a plan on the CPU: all threads walk the step list together.
//!
//! A step is cut into tasks by outputs; how finely depends on the number of threads, the value of
//! an output never does. To add a step: a variant of `plan::StepKind`, a file here, and its node in
//! `observe/nodes.rs`.

mod attend;
mod cut;
mod experts;
mod legs;
mod mat_mul;
pub mod observe;
mod rows;
mod signs;
mod skipping;
mod streams;

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::batch::Input;
use super::buffers::{self, Slot};
use super::card::CardRun;
use super::kv::KvCache;
use super::token::Token;
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::{Pool, Shared, Worker};
use crate::backend::cpu::table::WeightRows;
use crate::backend::cuda::CudaError;
use crate::model::{Layout, Model, RopeFreqs, Weight};
use crate::plan::{Plan, Rows, SlotId, StepKind, TensorId};
use crate::sparse::{Gates, Sparse, Stats};
use crate::util::aligned::{AlignedVec, OutOfMemory};
use crate::util::bytes;

pub use attend::alibi_slope;
pub use cut::{Class, Work};
use experts::Routing;
use observe::Observer;
pub use skipping::MAX_TOKENS;
use skipping::{Cold, Firing};

/// Asked between steps whether to stop.
pub trait Abort: Send + Sync {
    /// True stops the computation.
    fn should_abort(&self) -> bool;
}

/// A ubatch that has its cells: what the steps need to know of it, beside its content. Its lists
/// are used again for the next one.
#[derive(Debug, Default)]
pub struct Ubatch {
    /// Position of each token.
    pub pos: Vec<i32>,
    /// Row of each token in each part of the cache.
    pub kv_rows: Vec<Vec<usize>>,
    /// Tokens whose output is wanted, ascending.
    pub outputs: Vec<usize>,
    /// How attention is cut up, by class of layers.
    pub works: Vec<Work>,
}

impl Ubatch {
    fn n_tokens(&self) -> usize {
        self.pos.len()
    }

    fn n_rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.n_tokens(),
            Rows::Outputs => self.outputs.len(),
        }
    }
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    /// For the matrix kernels.
    tiles: AlignedVec<u8>,
    /// One row, or a task's part of a product.
    rows: AlignedVec<f32>,
    attend: attend::Scratch,
    route: experts::Scratch,
    lists: skipping::ListScratch,
    /// Signs of one row.
    signs: Vec<u64>,
}

/// The buffers of a plan, and everything that stays the same from ubatch to ubatch.
pub struct Runner {
    table: &'static KernelTable,
    reference: bool,
    /// Whether somebody looks on, see [`observe`].
    readable: bool,
    /// Frequencies of each of the plan's tables.
    ropes: Vec<RopeFreqs>,
    slots: Vec<Slot>,
    /// Cosines and sines of each token's position, by each table.
    cos_sin: Vec<Shared<f32>>,
    /// What layers cut attention up alike, and which of these each layer is of.
    classes: Vec<Class>,
    class_of: Vec<usize>,
    /// Attention's partial results, see [`attend`].
    partials: Vec<Shared<f32>>,
    /// Which tokens the experts of the layer at hand compute.
    routing: Routing,
    /// Which neurons of the layer at hand fire.
    firing: Firing,
    /// What was seen of them.
    stats: Stats,
    /// Their activated gates, where somebody wants to know.
    gates: Option<Gates>,
    scratch: Vec<Mutex<Scratch>>,
    /// Runs some of the steps.
    card: Option<CardRun>,
}

/// Why a ubatch was not computed to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The caller asked for it.
    Aborted,
    /// No memory for the buffers.
    OutOfMemory(OutOfMemory),
    /// The card refused.
    Card(CudaError),
}

impl From<CudaError> for Stop {
    fn from(e: CudaError) -> Self {
        Self::Card(e)
    }
}

impl From<OutOfMemory> for Stop {
    fn from(e: OutOfMemory) -> Self {
        Self::OutOfMemory(e)
    }
}

/// What is to be computed.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Has the weights.
    pub model: &'a Model,
    /// The steps.
    pub plan: &'a Plan,
    /// Weights whose numbers come after the model's: those of adapters.
    pub added: &'a [Weight],
    /// Which neurons are left out.
    pub sparse: &'a Sparse,
    /// Keys and values of earlier tokens.
    pub kv: &'a KvCache,
    /// Content of the ubatch.
    pub input: Input<'a>,
    /// Its tokens.
    pub tokens: &'a [Token],
    /// The rest of it.
    pub ubatch: &'a Ubatch,
    /// Whether a mask hides later tokens.
    pub causal: bool,
}

impl Job<'_> {
    /// Rows that a buffer has.
    pub fn n_rows(&self, id: SlotId) -> usize {
        let slot = self.plan.slot(id);
        self.ubatch.n_rows(slot.rows) * slot.per_row
    }
}

/// A job and the buffers that it uses.
struct Run<'a> {
    runner: &'a Runner,
    job: Job<'a>,
    /// Whether neurons that guesses miss are counted in this run.
    check: bool,
    /// The neurons of the network at hand that this run computes; all when `None`.
    cold: Option<Cold<'a>>,
}

impl<'a> Deref for Run<'a> {
    type Target = Job<'a>;

    fn deref(&self) -> &Job<'a> {
        &self.job
    }
}

impl Runner {
    /// Buffers for a plan over a cache.
    pub fn new(
        plan: &Plan,
        sparse: &Sparse,
        kv: &KvCache,
        table: &'static KernelTable,
        reference: bool,
        ropes: Vec<RopeFreqs>,
    ) -> Result<Self, OutOfMemory> {
        let (classes, class_of) = Class::all(plan, kv);
        let cos_sin = ropes.iter().map(|freqs| Shared::new(0, freqs.inv_freq.len() * 2));
        Ok(Self {
            table,
            reference,
            readable: false,
            cos_sin: cos_sin.collect::<Result<_, _>>()?,
            ropes,
            slots: buffers::for_plan(plan, table, reference, false, &[])?,
            classes,
            class_of,
            partials: attend::partials(plan)?,
            routing: Routing::default(),
            firing: Firing::default(),
            stats: Stats::new(plan, sparse),
            gates: None,
            scratch: Vec::new(),
            card: None,
        })
    }

    /// Changes to a plan of the same model with other steps and slots; the sizes of attention stay.
    /// `card` runs some of its steps.
    pub fn change_plan(&mut self, plan: &Plan, card: Option<CardRun>) -> Result<(), OutOfMemory> {
        let shared = card.as_ref().map_or(&[][..], CardRun::shared);
        let readable = self.readable;
        self.slots = buffers::for_plan(plan, self.table, self.reference, readable, shared)?;
        self.card = card;
        Ok(())
    }

    /// The kernels in use.
    pub fn table(&self) -> &'static KernelTable {
        self.table
    }

    /// Rotation frequencies of each of the plan's tables.
    pub fn ropes(&self) -> &[RopeFreqs] {
        &self.ropes
    }

    /// What was seen of the neurons.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The same, to reset.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// From now on counts how far from zero activated gates are.
    pub fn observe_gates(&mut self) {
        self.gates = Some(Gates::new(self.class_of.len()));
    }

    /// What was counted of them.
    pub fn gates(&self) -> Option<&Gates> {
        self.gates.as_ref()
    }

    /// Bytes of all buffers.
    pub fn n_bytes(&mut self) -> usize {
        self.slots.iter_mut().map(Slot::n_bytes).sum::<usize>()
            + self.routing.n_bytes()
            + self.firing.n_bytes()
            + self.partials.iter_mut().map(Shared::n_bytes).sum::<usize>()
            + self.cos_sin.iter_mut().map(Shared::n_bytes).sum::<usize>()
    }

    /// Rows of a slot after a run.
    pub fn slot(&mut self, id: SlotId) -> &[f32] {
        self.slots[id.0].get()
    }

    /// Cuts up the attention of a ubatch whose tokens have their cells already.
    pub fn cut(
        &self,
        tokens: &[Token],
        kv: &KvCache,
        causal: bool,
        n_threads: usize,
        works: &mut Vec<Work>,
    ) {
        works.resize_with(self.classes.len(), Work::default);
        for (work, class) in works.iter_mut().zip(&self.classes) {
            work.set(tokens, kv, class, causal, n_threads);
        }
    }

    /// Computes a ubatch whose tokens have their cells already.
    pub fn run(
        &mut self,
        pool: &mut Pool,
        job: &Job<'_>,
        abort: Option<&dyn Abort>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<(), Stop> {
        let Job { plan, ubatch, .. } = *job;
        for (slot, spec) in self.slots.iter_mut().zip(&plan.slots) {
            slot.ensure_rows(ubatch.n_rows(spec.rows) * spec.per_row)?;
        }
        for cos_sin in &mut self.cos_sin {
            cos_sin.ensure_rows(ubatch.n_tokens())?;
        }
        for partial in &mut self.partials {
            let layers = plan.layers.iter().zip(&self.class_of);
            let own = layers.filter(|(spec, _)| attend::partial_len(spec) == partial.ld());
            let n_rows = own.map(|(_, &class)| ubatch.works[class].n_partial_rows()).max();
            // They grow with the context: in few steps.
            partial.ensure_rows(n_rows.unwrap_or(0).next_power_of_two())?;
        }
        self.routing.ensure(plan, ubatch.n_tokens())?;
        self.firing.ensure(plan)?;
        self.scratch.resize_with(pool.n_threads().max(self.scratch.len()), Mutex::default);

        if let Some(observer) = observer {
            return self.run_observed(pool, job, abort, observer);
        }
        if let Some(mut card) = self.card.take() {
            let done = self.run_legs(pool, job, abort, &mut card);
            self.card = Some(card);
            return done;
        }
        let check = ubatch.n_tokens() <= MAX_TOKENS && self.stats.begin_small();
        let run = Run { runner: self, job: *job, check, cold: None };
        let stop_at = AtomicUsize::new(usize::MAX);
        pool.run(&|worker| {
            run.rope_tables(worker);
            run.walk(worker, 0..plan.steps.len(), abort, &stop_at);
        });
        match stop_at.into_inner() {
            usize::MAX => Ok(()),
            _ => Err(Stop::Aborted),
        }
    }
}

impl<'a> Run<'a> {
    fn new(runner: &'a Runner, job: &Job<'a>) -> Self {
        Self { runner, job: *job, check: false, cold: None }
    }
}

impl Run<'_> {
    /// One thread's way through some steps.
    fn walk(
        &self,
        worker: &Worker<'_>,
        steps: Range<usize>,
        abort: Option<&dyn Abort>,
        stop_at: &AtomicUsize,
    ) {
        let mut scratch = self.scratch_of(worker);
        for i in steps {
            let step = &self.plan.steps[i];
            // The first thread asks and names the next step, which nobody reaches before the
            // barrier that ends this one: all threads stop at the same step.
            if stop_at.load(Ordering::Acquire) <= i {
                return;
            }
            if worker.index() == 0 && abort.is_some_and(Abort::should_abort) {
                stop_at.fetch_min(i + 1, Ordering::AcqRel);
            }
            self.step(worker, &mut scratch, &step.kind);
        }
    }

    /// One step alone.
    fn alone(&self, worker: &Worker<'_>, step: &StepKind) {
        self.step(worker, &mut self.scratch_of(worker), step);
    }

    fn scratch_of(&self, worker: &Worker<'_>) -> MutexGuard<'_, Scratch> {
        let scratch = &self.runner.scratch[worker.index()];
        scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, worker: &Worker<'_>, scratch: &mut Scratch, step: &StepKind) {
        match step {
            StepKind::Embed { weight, dst, scale, input_scale } => {
                self.embed(worker, *weight, *dst, *scale, *input_scale);
            }
            StepKind::AddRow { table, row, scale, dst } => {
                self.add_row(worker, scratch, *table, *row, *scale, *dst);
            }
            StepKind::Norm { src, norm, dst, add } => {
                self.norm(worker, scratch, *src, norm, *dst, *add);
            }
            StepKind::NormHeads { slot, first, n_head, head_dim, norm } => {
                let cols = *first..*first + n_head * head_dim;
                self.norm_heads(worker, *slot, cols, *head_dim, norm);
            }
            StepKind::MatMul { src, mats, dst, add } => {
                self.mat_mul(worker, scratch, *src, mats, *dst, *add);
            }
            StepKind::StoreKv { layer, qkv } => self.store_kv(worker, scratch, *layer, *qkv),
            StepKind::Attend { layer, qkv, dst } => {
                self.attend(worker, scratch, *layer, *qkv, *dst);
            }
            StepKind::Activate { src, act, gated, dst } => {
                self.activate(worker, scratch, *src, *act, *gated, *dst);
            }
            StepKind::ActivateBy { src, act, by, first, dst } => {
                self.activate_by(worker, scratch, *src, *act, *by, *first, *dst);
            }
            StepKind::CutGates { slot, cutoff } => {
                self.cut_gates(worker, scratch, *slot, *cutoff);
            }
            StepKind::Multiply { src, factors, dst } => {
                self.multiply(worker, scratch, *src, *factors, *dst);
            }
            StepKind::Rescale { src, like, dst, add } => {
                self.rescale(worker, *src, *like, *dst, *add);
            }
            StepKind::MixStreams { streams, coefs } => {
                self.mix_streams(worker, scratch, streams, *coefs);
            }
            StepKind::CorrectStreams { streams, active, src, coefs } => {
                self.correct_streams(worker, scratch, streams, *active, *src, *coefs);
            }
            StepKind::Map { slot, map } => self.map(worker, *slot, *map),
            StepKind::Add { src, gate, dst } => self.add(worker, *src, *gate, *dst),
            StepKind::Route { logits, router } => {
                self.route(worker, scratch, *logits, router);
            }
            StepKind::ToExperts { src, dst } => {
                self.scatter_to_experts(worker, scratch, *src, *dst);
            }
            StepKind::ExpertMatMul { src, mats, dst, add } => {
                self.expert_mat_mul(worker, scratch, *src, mats, *dst, *add);
            }
            StepKind::SkippingExperts(step) => self.skipping_experts(worker, scratch, step),
            StepKind::FromExperts { src, scale, dst } => {
                self.sum_experts(worker, *src, *scale, *dst);
            }
            StepKind::SkippingFfn(ffn) => self.observed_ffn(worker, scratch, ffn),
            StepKind::FinishProducts { mats, slot } => {
                self.finish_products(worker, mats, *slot);
            }
            StepKind::Rotate { slot, first, n_head, head_dim, rope } => {
                let cols = *first..*first + n_head * head_dim;
                self.rotate_heads(worker, *slot, cols, *head_dim, rope);
            }
            StepKind::Accumulate { src, scale, dst } => {
                self.accumulate(worker, *src, *scale, *dst);
            }
            StepKind::Copy { src, dst } => self.copy(worker, scratch, *src, *dst),
        }
    }

    fn table(&self) -> &'static KernelTable {
        self.runner.table
    }

    fn slot(&self, id: SlotId) -> &Slot {
        &self.runner.slots[id.0]
    }

    fn weight(&self, id: TensorId) -> &Weight {
        let model = self.model.weights();
        model.get(id.0).unwrap_or_else(|| &self.added[id.0 - model.len()])
    }

    fn bytes_of(&self, id: TensorId) -> &[u8] {
        self.weight(id).data.as_deref().unwrap_or(&[])
    }

    /// How a weight lies.
    fn layout(&self, id: TensorId) -> Layout {
        self.weight(id).layout
    }

    /// A weight as rows of outputs.
    fn rows_of(&self, id: TensorId) -> WeightRows<'_> {
        let weight = self.weight(id);
        let ne = weight.shape.ne();
        WeightRows {
            ty: weight.ty,
            data: self.bytes_of(id),
            k: ne[0] as usize,
            n_rows: weight.shape.n_rows() as usize,
        }
    }

    /// Elements of an F32 vector.
    fn vector(&self, id: TensorId) -> &[f32] {
        bytes::cast(self.bytes_of(id)).expect("the plan takes F32 only, the file aligns tensors")
    }
}
