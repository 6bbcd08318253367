//! What a context saw of its neurons.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{ActivationCounts, ActivationError, CountedModel, LayerCounts, Mode, Sparse};
use crate::plan::{Plan, StepKind};

/// One in so many small batches is checked for neurons that guesses missed.
const CHECK_EVERY: u64 = 16;

/// Counts of one layer.
#[derive(Debug, Default)]
pub struct LayerStats {
    /// Neurons of a token: those of its experts; 0 for a layer that cannot skip any.
    n_ff: usize,
    /// Neurons whose firing can be counted one by one: not those of experts.
    n_counted: usize,
    /// Tokens that went through it.
    pub tokens: AtomicU64,
    /// Neurons that were guessed to fire, summed over tokens; all of them where nothing guesses.
    pub guessed: AtomicU64,
    /// Neurons that fired, likewise: those whose activated gate is not silent.
    pub fired: AtomicU64,
    /// Bytes of weights read by its feed-forward network.
    pub bytes: AtomicU64,
    /// Bytes that it would have read without skipping any.
    pub dense_bytes: AtomicU64,
    /// Neurons that fire in the tokens that were checked.
    pub checked: AtomicU64,
    /// Those of them that were guessed.
    pub found: AtomicU64,
    /// Tokens whose time was taken.
    pub timed: AtomicU64,
    /// The time, in nanoseconds.
    pub nanos: AtomicU64,
    /// How often each neuron fired, where that is counted.
    counts: Vec<AtomicU32>,
    /// Tokens for which it was.
    counted: AtomicU64,
}

impl LayerStats {
    /// Adds to a count. The order in which threads do so does not matter.
    pub(crate) fn add(count: &AtomicU64, n: usize) {
        count.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Counts the neurons that fired for one token.
    pub(crate) fn add_fired(&self, ids: impl ExactSizeIterator<Item = u32>) {
        Self::add(&self.fired, ids.len());
        if !self.counts.is_empty() {
            Self::add(&self.counted, 1);
            for id in ids {
                self.counts[id as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn report(&self, layer: usize, mode: Mode) -> LayerReport {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LayerReport {
            layer,
            mode,
            n_ff: self.n_ff,
            tokens: get(&self.tokens),
            guessed: get(&self.guessed),
            fired: get(&self.fired),
            checked: get(&self.checked),
            found: get(&self.found),
            bytes: get(&self.bytes),
            dense_bytes: get(&self.dense_bytes),
            timed: get(&self.timed),
            time: Duration::from_nanos(get(&self.nanos)),
        }
    }
}

/// What was seen of one layer, since the context was made or its counts were reset. Sums are over
/// tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Its number in the model.
    pub layer: usize,
    /// How it chooses neurons: anything but `Auto`.
    pub mode: Mode,
    /// Neurons.
    pub n_ff: usize,
    /// Tokens.
    pub tokens: u64,
    /// Neurons that were guessed to fire; all of them where nothing guesses.
    pub guessed: u64,
    /// Neurons that fired.
    pub fired: u64,
    /// Neurons that fire in the tokens that were checked.
    pub checked: u64,
    /// Those of them that were guessed.
    pub found: u64,
    /// Bytes of weights that were read, also those of predictors.
    pub bytes: u64,
    /// Bytes that would have been read without skipping.
    pub dense_bytes: u64,
    /// Tokens whose time was taken.
    pub timed: u64,
    /// Their time in the feed-forward network.
    pub time: Duration,
}

/// What was seen of a network on a card, for a few tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OnCard {
    /// Its layer.
    pub layer: usize,
    /// Tokens.
    pub n: usize,
    /// Whether the processor had a part in it.
    pub is_split: bool,
    /// Neurons there that were guessed to fire, over tokens; all of them where nothing guesses.
    pub guessed: usize,
    /// Neurons there of which all rows were read.
    pub listed: usize,
    /// Those of them that fired.
    pub fired: usize,
    /// The card's work.
    pub card: Duration,
    /// From there until the processor's part had come.
    pub exposed: Duration,
}

/// Networks whose neurons a card and the processor share, in small batches; sums over them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SplitStats {
    /// Tokens.
    pub tokens: u64,
    /// The batches from begin to end.
    pub whole: Duration,
    /// Neurons on the card of which all rows were read.
    pub hot: u64,
    /// The same with the processor.
    pub cold: u64,
    /// The card's work on networks.
    pub card: Duration,
    /// The processor's.
    pub host: Duration,
    /// In which the card waited for what the processor made.
    pub exposed: Duration,
    /// Bytes that crossed for networks, to the processor.
    pub to_host: u64,
    /// The same to the card.
    pub to_card: u64,
}

/// Counts of all layers, from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    layers: Vec<LayerStats>,
    /// Of networks that are split.
    pub(crate) split: SplitStats,
    /// Whether times and recall are measured.
    detailed: bool,
    /// Whether it is counted how often each neuron fires.
    counting: bool,
    /// Small batches so far.
    n_small: u64,
}

impl Stats {
    /// Zeros for the layers of a plan.
    pub fn new(plan: &Plan, sparse: &Sparse) -> Self {
        let mut layers: Vec<LayerStats> = plan.layers.iter().map(|_| Default::default()).collect();
        for step in &plan.steps {
            match &step.kind {
                StepKind::SkippingFfn(ffn) => {
                    let layer = &mut layers[ffn.layer];
                    (layer.n_ff, layer.n_counted) = (ffn.n_ff, ffn.n_ff);
                }
                StepKind::SkippingExperts(experts) => {
                    let n_used = plan.slot(experts.acted).per_row;
                    layers[experts.layer].n_ff = n_used * experts.up.n_out;
                }
                _ => {}
            }
        }
        let mut stats = Self { layers, detailed: sparse.stats(), ..Self::default() };
        stats.count_activations(sparse.counts_activations());
        stats
    }

    /// Layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Counts of a layer.
    pub fn layer(&self, il: usize) -> &LayerStats {
        &self.layers[il]
    }

    /// Whether times and recall are measured.
    pub fn detailed(&self) -> bool {
        self.detailed
    }

    /// Whether it is counted how often each neuron fires.
    pub fn counting(&self) -> bool {
        self.counting
    }

    /// Networks that a card and the processor share; zeros where there are none, or nobody measures.
    pub fn split(&self) -> SplitStats {
        self.split
    }

    /// Adds what was seen of a network on a card.
    pub(crate) fn add_on_card(&mut self, seen: &OnCard) {
        let layer = &self.layers[seen.layer];
        LayerStats::add(&layer.guessed, seen.guessed);
        LayerStats::add(&layer.fired, seen.fired);
        if !seen.is_split {
            LayerStats::add(&layer.tokens, seen.n);
        }
        self.split.hot += seen.listed as u64;
        self.split.card += seen.card;
        self.split.exposed += seen.exposed;
    }

    /// Begins a small batch: whether what its guesses miss is to be counted.
    pub(crate) fn begin_small(&mut self) -> bool {
        let check = self.detailed && self.n_small.is_multiple_of(CHECK_EVERY);
        self.n_small += 1;
        check
    }

    /// Begins anew, but goes on counting how often neurons fire.
    pub fn reset(&mut self) {
        self.n_small = 0;
        self.split = SplitStats::default();
        for layer in &mut self.layers {
            let old = std::mem::take(layer);
            *layer = LayerStats {
                n_ff: old.n_ff,
                n_counted: old.n_counted,
                counts: old.counts,
                counted: old.counted,
                ..Default::default()
            };
        }
    }

    /// Begins, at zero, or ends counting how often each neuron fires.
    pub fn count_activations(&mut self, on: bool) {
        self.counting = on;
        for layer in &mut self.layers {
            let n = if on { layer.n_counted } else { 0 };
            layer.counts = (0..n).map(|_| AtomicU32::new(0)).collect();
            layer.counted = AtomicU64::new(0);
        }
    }

    /// How often each neuron of each layer of the model fired.
    pub fn activations(
        &self,
        model: Option<CountedModel>,
    ) -> Result<ActivationCounts, ActivationError> {
        if self.layers.iter().all(|layer| layer.n_counted == 0) {
            return Err(ActivationError::NothingToCount);
        }
        if !self.counting {
            return Err(ActivationError::NotCounted);
        }
        let layers = self.layers.iter().map(|layer| LayerCounts {
            tokens: layer.counted.load(Ordering::Relaxed),
            counts: layer.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
        });
        Ok(ActivationCounts { model, layers: layers.collect() })
    }

    /// What was seen of the layers that can skip neurons.
    pub fn report(&self, sparse: &Sparse) -> Vec<LayerReport> {
        let layers = self.layers.iter().enumerate();
        let seen =
            layers.filter_map(|(il, layer)| Some(layer.report(il, sparse.layer(il)?.mode())));
        seen.collect()
    }
}
