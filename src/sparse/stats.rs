//! What a context saw of its neurons.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one layer.
#[derive(Debug, Default)]
pub struct LayerStats {
    /// Tokens that went through it.
    pub tokens: AtomicU64,
    /// Neurons that were guessed to fire, summed over tokens; all of them where nothing guesses.
    pub guessed: AtomicU64,
    /// Neurons that fired, likewise.
    pub fired: AtomicU64,
    /// Bytes of weights read by its feed-forward network.
    pub bytes: AtomicU64,
}

/// Counts of all layers, from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    layers: Vec<LayerStats>,
}

impl Stats {
    /// Zeros for this many layers.
    pub fn new(n_layer: usize) -> Self {
        Self { layers: (0..n_layer).map(|_| LayerStats::default()).collect() }
    }

    /// Layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Counts of a layer.
    pub fn layer(&self, il: usize) -> &LayerStats {
        &self.layers[il]
    }
}

impl LayerStats {
    /// Adds to a count. The order in which threads do so does not matter.
    pub(crate) fn add(count: &AtomicU64, n: usize) {
        count.fetch_add(n as u64, Ordering::Relaxed);
    }
}
