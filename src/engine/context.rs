//! A context: one caller's state over a shared model.

use std::sync::Arc;

use super::adapters::Adapters;
use super::batch::{self, Batch, Input, Limits};
use super::card::{self, CardModel, CardRun, CardUse};
use super::classify::classify;
use super::kv::{self, KvCache, KvSizes, SeqSet};
use super::outputs::Outputs;
use super::params::{ContextParams, Sizes};
use super::perf::Perf;
use super::run::observe::Observer;
use super::run::{Abort, Job, Runner, Stop, Ubatch};
use super::state::KeptStates;
use super::token::Token;
use super::{ContextError, DecodeError};
use crate::backend::cpu::KernelTable;
use crate::backend::cpu::pool::Pool;
use crate::backend::cuda::{Budget, CudaError};
use crate::log_warn;
use crate::model::{Model, Pooling, RopeFreqs, RopeParams, RopeScaling, RopeTraining};
use crate::plan::{Plan, RopeFactors, Slot};
use crate::quant::QuantType;
use crate::sparse::{
    ActivationCounts, ActivationError, CountedModel, Gates, LayerReport, Sparse, SplitStats,
};
use crate::util::bytes;
use crate::util::sys::time_us;

/// Memory of a context and its model, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights that only the host has.
    pub weights: u64,
    /// KV cache of the host.
    pub kv: usize,
    /// Activation buffers of the host.
    pub compute: usize,
    /// What is on a card; of a model without weights, what would be.
    pub card: Option<CardUse>,
}

/// One caller's state: cache, buffers, threads, outputs.
pub struct Context {
    pub(super) model: Arc<Model>,
    sparse: Arc<Sparse>,
    params: ContextParams,
    sizes: Sizes,
    pooling: Pooling,
    causal: bool,
    kv: KvCache,
    pub(super) runner: Runner,
    pub(super) adapters: Adapters,
    ubatch: Ubatch,
    outputs: Outputs,
    kept_states: KeptStates,
    perf: Perf,
    abort: Option<Box<dyn Abort>>,
    pub(super) observer: Option<Box<dyn Observer>>,
    /// Threads for single tokens; made when they are first needed.
    pool: Option<Pool>,
    /// Threads for several tokens, when their number is another.
    pool_batch: Option<Pool>,
}

impl Context {
    /// A context. Over a model without its weights (`no_alloc`) it cannot decode; over a vocabulary
    /// alone it has no memory either.
    pub fn new(
        model: Arc<Model>,
        sparse: Arc<Sparse>,
        params: ContextParams,
    ) -> Result<Self, ContextError> {
        // Of a vocabulary alone nothing is computed, and so nothing kept.
        let nothing = Plan { stateless: true, ..Plan::default() };
        let (plan, hp) = (model.plan().unwrap_or(&nothing), model.hparams());
        let sizes = params.sizes(hp)?;
        let pooling = params.pooling.unwrap_or(hp.map_or(Pooling::None, |hp| hp.pooling));
        if pooling == Pooling::Rank && plan.classifier.is_none() {
            let text =
                format!("architecture '{}' has no classifier to rank with", model.arch_name());
            return Err(ContextError::Invalid(text));
        }
        let ropes = hp.map_or_else(Vec::new, |hp| {
            ropes(&model, plan, &hp.rope, &params.rope, sizes.n_ctx_seq)
        });
        // Without a memory it is for one batch only, and grows with the longest.
        let n_cells = if plan.stateless { 0 } else { sizes.n_ctx_seq };
        let (types, kv_sizes) = kv_shape(plan, &params, &sizes, n_cells);
        kv::check_types(&plan.layers, types).map_err(ContextError::Invalid)?;
        let card = params.card.filter(|_| !params.reference && !plan.stateless);
        // Activations come later, and must find room too.
        let needed = card.as_ref().map_or(0, |c| card::compute(plan, c.first_layer(), &sizes));
        let card = card.filter(|card| has_room(card, needed, &sizes));
        let has = |layer| {
            let late = |card: &Arc<CardModel>| layer >= card.first_layer();
            let fits = |card: &Arc<CardModel>| {
                let kv = card::kv_bytes(&plan.layers[layer], types, sizes.n_ctx);
                kv.saturating_add(needed) <= card.budget().left()
            };
            let has = |card| late(card) && card::keeps_kv(plan, layer, types) && fits(card);
            params.offload_kqv && card.as_ref().is_some_and(has)
        };
        let kv_card = card.as_ref().map(|card| kv::KvCard {
            stream: card.stream(),
            budget: card.budget(),
            has: &has,
        });
        let kv = KvCache::new(&plan.layers, types, &kv_sizes, kv_card.as_ref())?;
        let table = KernelTable::detect();
        let mut runner = Runner::new(plan, &sparse, &kv, table, params.reference, ropes)?;
        if let Some(card) = &card {
            runner.change_plan(plan, Some(CardRun::new(card, &model, plan, &kv)))?;
        }
        let causal = params.causal.unwrap_or(hp.is_none_or(|hp| hp.causal));
        Ok(Self {
            sizes,
            pooling,
            causal,
            kv,
            runner,
            adapters: Adapters::default(),
            ubatch: Ubatch::default(),
            outputs: Outputs::default(),
            kept_states: KeptStates::default(),
            perf: Perf::start(),
            abort: None,
            observer: None,
            pool: None,
            pool_batch: None,
            params: ContextParams { card, ..params },
            sparse,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Sizes that the context settled on.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// How embeddings of a sequence are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Whether tokens see only earlier ones.
    pub fn causal(&self) -> bool {
        self.causal
    }

    /// Sets whether tokens see only earlier ones.
    pub fn set_causal(&mut self, causal: bool) {
        self.causal = causal;
    }

    /// Whether embeddings are given; then every token is an output.
    pub fn embeddings(&self) -> bool {
        self.params.embeddings
    }

    /// Sets whether embeddings are given.
    pub fn set_embeddings(&mut self, embeddings: bool) {
        self.params.embeddings = embeddings;
    }

    /// Threads for single tokens and for several.
    pub fn n_threads(&self) -> (usize, usize) {
        (self.params.n_threads, self.params.n_threads_batch)
    }

    /// Sets the number of threads, from the next batch on.
    pub fn set_n_threads(&mut self, single: usize, batch: usize) {
        (self.params.n_threads, self.params.n_threads_batch) = (single, batch);
    }

    /// Sets who is asked between steps whether to stop.
    pub fn set_abort(&mut self, abort: Option<Box<dyn Abort>>) {
        self.abort = abort;
    }

    /// Whether tokens of one batch are remembered in the next.
    pub fn has_memory(&self) -> bool {
        self.model.plan().is_some_and(|plan| !plan.stateless)
    }

    /// The cache.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    /// The cache, to change.
    pub fn kv_mut(&mut self) -> &mut KvCache {
        &mut self.kv
    }

    /// States that stay with the context.
    pub(super) fn kept_states(&mut self) -> &mut KeptStates {
        &mut self.kept_states
    }

    /// What the last batch gave.
    pub fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    /// Times and counts.
    pub fn perf(&self) -> &Perf {
        &self.perf
    }

    /// What was seen of networks that a card and the processor share.
    pub fn split_stats(&self) -> SplitStats {
        self.runner.stats().split()
    }

    /// What was seen of the neurons, for each layer that can skip some.
    pub fn sparse_stats(&self) -> Vec<LayerReport> {
        self.runner.stats().report(&self.sparse)
    }

    /// Begins these counts anew.
    pub fn reset_sparse_stats(&mut self) {
        self.runner.stats_mut().reset();
    }

    /// Begins, at zero, or ends counting how often each neuron fires.
    pub fn count_activations(&mut self, on: bool) {
        self.runner.stats_mut().count_activations(on);
    }

    /// How often each neuron fired so far.
    pub fn activation_counts(&self) -> Result<ActivationCounts, ActivationError> {
        let model = self.model.hparams().map(|hp| CountedModel {
            architecture: self.model.arch_name().to_owned(),
            n_embd: hp.n_embd,
        });
        self.runner.stats().activations(model)
    }

    /// From now on counts how far from zero activated gates are. Slow, for calibrations.
    pub fn observe_gates(&mut self) {
        self.runner.observe_gates();
    }

    /// What [`Self::observe_gates`] counted.
    pub fn gates(&self) -> Option<&Gates> {
        self.runner.gates()
    }

    /// Begins counting anew.
    pub fn reset_perf(&mut self) {
        self.perf = Perf::start();
    }

    /// Memory of cache and buffers now. Over a model without weights, what a context over the
    /// weights could need.
    pub fn memory_use(&mut self) -> MemoryUse {
        let card = match (&self.params.card, self.params.planned, self.model.plan()) {
            (Some(card), _, _) => Some(card.in_use(&self.model, &self.kv)),
            (None, Some(request), Some(plan)) => Some(request.planned(
                &self.model,
                plan,
                &mut self.kv,
                self.params.offload_kqv,
                &self.sizes,
            )),
            _ => None,
        };
        let on_card = card.unwrap_or_default();
        // What was read into memory stays there, for contexts that leave the card.
        let in_ram = self.model.weights().iter().filter_map(|weight| weight.data.as_ref());
        let in_file =
            if in_ram.clone().any(|data| !data.is_mapped()) { 0 } else { on_card.weights_in_file };
        let slots = self.model.plan().filter(|_| !self.model.has_data()).map_or(0, |plan| {
            let rows = |slot: &Slot| slot.width * slot.per_row * self.sizes.n_ubatch;
            plan.slots.iter().map(|slot| rows(slot) * 4).sum()
        });
        MemoryUse {
            weights: self.model.n_bytes().saturating_sub(in_file),
            kv: self.kv.n_bytes().saturating_sub(on_card.kv),
            compute: self.runner.n_bytes().max(slots),
            card,
        }
    }

    /// What may be used of the card that the context is on, and what is, by all contexts over the
    /// model; `None` without a card.
    pub fn card_budget(&self) -> Option<&Arc<Budget>> {
        self.params.card.as_ref().map(|card| card.budget())
    }

    /// Computes a batch. On an error nothing, or whole ubatches of it, remain in the cache.
    pub fn decode(&mut self, batch: &Batch<'_>) -> Result<(), DecodeError> {
        let start = if self.params.no_perf { 0 } else { time_us() };
        let model = Arc::clone(&self.model);
        let hp = model.hparams().ok_or(DecodeError::NoWeights)?;
        let plan = model.plan().ok_or(DecodeError::NoWeights)?;
        let limits = Limits {
            n_vocab: hp.n_vocab,
            n_embd: hp.n_embd,
            n_batch: self.sizes.n_batch,
            n_seq_max: self.sizes.n_seq_max,
            all_outputs: self.params.embeddings || plan.stateless,
        };
        if !model.has_data() {
            return Err(DecodeError::NoWeights);
        }
        if hp.mrope && matches!(batch.input, Input::Embeddings(_)) {
            let text = "embeddings with several coordinates are not supported";
            return Err(DecodeError::InvalidBatch(text.into()));
        }
        if plan.stateless {
            self.kv.clear(false);
        }
        let tokens = batch::check(batch, &limits, &self.kv)?;
        if let Some(n_pos) = plan.n_pos
            && let Some(token) = tokens.iter().find(|t| t.pos as usize >= n_pos)
        {
            let text = format!("position {}: the model has {n_pos} learned positions", token.pos);
            return Err(DecodeError::InvalidBatch(text));
        }
        let n_ubatch = self.ubatch_len(tokens.len())?;
        let own = plan.stateless.then(|| self.begin_alone(plan, &tokens)).transpose()?;
        let placed = own.as_deref().unwrap_or(&tokens);
        self.check_room(placed, n_ubatch)?;
        self.kv.apply_shifts(self.runner.table(), self.runner.ropes());
        let n_embd = self.params.embeddings.then_some(hp.n_embd);
        let n_logits = plan.logits.map_or(0, |_| hp.n_vocab);
        self.outputs.begin(&tokens, n_logits, n_embd)?;
        let width = hp.n_embd;
        for (i, part) in placed.chunks(n_ubatch).enumerate() {
            let part_of = |width: usize| i * n_ubatch * width..(i * n_ubatch + part.len()) * width;
            let input = match batch.input {
                Input::Tokens(ids) => Input::Tokens(&ids[part_of(1)]),
                Input::Embeddings(x) => Input::Embeddings(&x[part_of(width)]),
            };
            self.compute_or_free(input, &placed[i * n_ubatch..], part.len())?;
        }
        if self.params.embeddings && self.pooling != Pooling::None {
            self.outputs.pool(&tokens, self.pooling, self.is_causal(plan));
            if let (Pooling::Rank, Some(classifier)) = (self.pooling, &plan.classifier) {
                classify(classifier, &model, self.runner.table(), &mut self.outputs);
            }
        }
        let elapsed = if self.params.no_perf { 0 } else { time_us() - start };
        self.perf.count(tokens.len(), elapsed);
        Ok(())
    }

    /// Whether a mask hides later tokens. Encoders never have one, whatever the caller says.
    fn is_causal(&self, plan: &Plan) -> bool {
        self.causal && !plan.stateless
    }

    /// Prepares the cache for a batch that stands alone: the tokens with the one sequence that
    /// each attends in.
    fn begin_alone(&mut self, plan: &Plan, tokens: &[Token]) -> Result<Vec<Token>, DecodeError> {
        if self.kv.n_rows(0) < tokens.len() {
            let n_cells = tokens.len().next_power_of_two();
            let (types, sizes) = kv_shape(plan, &self.params, &self.sizes, n_cells);
            self.kv = KvCache::new(&plan.layers, types, &sizes, None)?;
        }
        Ok(tokens.iter().map(|t| Token { seqs: SeqSet::one(t.seq), ..*t }).collect())
    }

    /// Tokens of a ubatch. Without a causal mask all tokens must be in the cache before the first
    /// is computed, so the batch is not cut.
    fn ubatch_len(&self, n_tokens: usize) -> Result<usize, DecodeError> {
        let n_ubatch = self.sizes.n_ubatch;
        if !self.model.plan().is_some_and(|plan| self.is_causal(plan)) && n_tokens > n_ubatch {
            return Err(DecodeError::InvalidBatch(format!(
                "non-causal attention needs the whole batch in one ubatch: \
                 it has {n_tokens} tokens, n_ubatch is {n_ubatch}"
            )));
        }
        Ok(n_ubatch)
    }

    /// Checks that the cache has or can free a cell for every token.
    fn check_room(&self, tokens: &[Token], n_ubatch: usize) -> Result<(), DecodeError> {
        if !self.kv.is_unified() && tokens.iter().any(|token| token.seqs.len() > 1) {
            crate::log_error!("a token of several sequences needs a unified cache (kv_unified)");
            return Err(DecodeError::NoSlot { needed: 1, free: 0 });
        }
        let no_slot = |(needed, free)| DecodeError::NoSlot { needed, free };
        self.kv.check_room(tokens, n_ubatch).map_err(no_slot)
    }

    /// Computes the first `n` tokens as one ubatch and takes its outputs; on an error their cells
    /// are freed again. The other tokens come later.
    fn compute_or_free(
        &mut self,
        input: Input<'_>,
        tokens: &[Token],
        n: usize,
    ) -> Result<(), DecodeError> {
        // `check_room` saw to it that there are enough cells.
        let result = match self.kv.place(tokens, n, &mut self.ubatch.kv_rows) {
            true => self.compute_somewhere(input, &tokens[..n]),
            false => Err(DecodeError::NoSlot { needed: n, free: self.ubatch.kv_rows[0].len() }),
        };
        if result.is_err() {
            self.kv.free_rows(&self.ubatch.kv_rows);
        }
        if matches!(result, Err(DecodeError::Card(_))) {
            self.kv.clear(false);
        }
        result
    }

    /// Computes on the card what can be; when it fails, on the host from then on. The card's error
    /// when the cache could not be brought home.
    fn compute_somewhere(&mut self, input: Input<'_>, tokens: &[Token]) -> Result<(), DecodeError> {
        match self.compute(input, tokens) {
            Err(DecodeError::Card(error)) => {
                if self.leave_card().is_err() {
                    return Err(DecodeError::Card(error));
                }
                log_warn!("the GPU is left, the CPU goes on: {error}");
                self.compute(input, tokens)
            }
            done => done,
        }
    }

    /// Runs of a plan on the context's card, if it has one.
    pub(super) fn card_run(&self, plan: &Plan) -> Option<CardRun> {
        let card = self.params.card.as_ref()?;
        Some(CardRun::new(card, &self.model, plan, &self.kv))
    }

    /// Goes on without the card. An error when what is in its memory is lost.
    pub(super) fn leave_card(&mut self) -> Result<(), CudaError> {
        self.params.card = None;
        let left = self.kv.leave_card();
        if let Some((plan, _)) = self.adapters.plan(&self.model) {
            // Slots only lose formats: no memory is asked for.
            let _ = self.runner.change_plan(plan, None);
        }
        left
    }

    fn compute(&mut self, input: Input<'_>, tokens: &[Token]) -> Result<(), DecodeError> {
        self.kv.return_to_card().map_err(DecodeError::Card)?;
        let (plan, added) = self.adapters.plan(&self.model).ok_or(DecodeError::NoWeights)?;
        let causal = self.is_causal(plan);
        let (single, several) = (self.params.n_threads.max(1), self.params.n_threads_batch.max(1));
        let (pool, wanted) = match tokens.len() == 1 || single == several {
            true => (&mut self.pool, single),
            false => (&mut self.pool_batch, several),
        };
        if pool.as_ref().is_none_or(|p| p.n_threads() != wanted) {
            *pool = Some(Pool::new(wanted));
        }
        let pool = pool.as_mut().expect("made above");
        let ubatch = &mut self.ubatch;
        ubatch.pos.clear();
        ubatch.pos.extend(tokens.iter().map(|t| t.pos));
        ubatch.outputs.clear();
        ubatch.outputs.extend((0..tokens.len()).filter(|&i| tokens[i].output));
        let runner = &mut self.runner;
        runner.cut(tokens, &self.kv, causal, pool.n_threads(), &mut ubatch.works);
        let abort = self.abort.as_deref();
        let job = Job {
            model: &self.model,
            plan,
            added,
            sparse: &self.sparse,
            kv: &self.kv,
            input,
            tokens,
            ubatch,
            causal,
        };
        let observer = self.observer.as_deref_mut().map(|o| o as &mut dyn Observer);
        let run = runner.run(pool, &job, abort, observer);
        run.map_err(|stop| match stop {
            Stop::Aborted => DecodeError::Aborted,
            Stop::OutOfMemory(e) => DecodeError::OutOfMemory(e),
            Stop::Card(e) => DecodeError::Card(e),
        })?;
        let n = ubatch.outputs.len();
        if n == 0 {
            return Ok(());
        }
        if let Some(logits) = plan.logits {
            self.outputs.push_logits(n, runner.slot(logits));
        }
        if let Some(embeddings) = plan.embeddings.filter(|_| self.params.embeddings) {
            self.outputs.push_embeddings(n, runner.slot(embeddings));
        }
        self.outputs.advance(n);
        Ok(())
    }
}

/// Whether a context's activations, of this many bytes, find room on a card.
fn has_room(card: &CardModel, needed: usize, sizes: &Sizes) -> bool {
    let left = card.budget().left();
    if needed > left {
        log_warn!(
            "the context runs on the CPU: {needed} bytes of GPU memory are needed for activations of \
             {} tokens (n_ubatch) over {}, and {left} are left",
            sizes.n_ubatch,
            sizes.n_ctx_seq
        );
    }
    needed <= left
}

/// Number formats and sizes of a cache with `n_cells` for each sequence, or for all. Without a
/// memory it is unified, in f32, and keeps the whole batch.
fn kv_shape(
    plan: &Plan,
    params: &ContextParams,
    sizes: &Sizes,
    n_cells: usize,
) -> ((QuantType, QuantType), KvSizes) {
    let types = match params.reference || plan.stateless {
        true => (QuantType::F32, QuantType::F32),
        false => (params.type_k, params.type_v),
    };
    let sizes = KvSizes {
        n_ctx_seq: n_cells,
        n_seq_max: sizes.n_seq_max,
        unified: params.kv_unified || plan.stateless,
        n_ubatch: sizes.n_ubatch,
        swa_full: params.swa_full || plan.stateless,
    };
    (types, sizes)
}

/// Frequencies of the plan's tables for a context of `n_ctx_seq` tokens.
fn ropes(
    model: &Model,
    plan: &Plan,
    train: &RopeTraining,
    params: &RopeParams,
    n_ctx_seq: usize,
) -> Vec<RopeFreqs> {
    let tables = plan.ropes.iter();
    let freqs = tables.map(|table| {
        let factors = table.factors.map(|factors| match factors {
            RopeFactors::One(one) => one,
            RopeFactors::ByLength { long, .. } if n_ctx_seq > train.n_ctx_orig => long,
            RopeFactors::ByLength { short, .. } => short,
        });
        let factors = factors.and_then(|id| model.weight(id).data.as_deref());
        let (mut train, mut params) = (*train, *params);
        if let Some(fixed) = table.fixed {
            (train.freq_base, train.freq_scale) = (fixed.freq_base, fixed.freq_scale);
            (params.freq_base, params.freq_scale) = (None, None);
            if !fixed.scaled {
                (train.scaling, train.attn_factor) = (RopeScaling::Linear, 1.0);
                params = RopeParams::default();
            }
        }
        RopeFreqs::new(table.n_rot, &train, &params, factors.and_then(bytes::cast::<f32>))
    });
    freqs.collect()
}
