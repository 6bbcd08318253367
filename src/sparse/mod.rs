//! Which neurons fire: the choice of neurons that a feed-forward network computes, and what was
//! seen of them.
//!
//! A network with ReLU (or its kin) gives zero for most neurons. The gate says which: reading it
//! alone is enough to skip the other two matrices of a silent neuron ([`Guess::None`], exact). A
//! guess in front of it skips the gate of most silent neurons as well, and may miss some that fire.
//! Whatever was guessed, the true gate decides whether up and down are read.
//!
//! Where neurons live, on the GPU or on the CPU, is [`placement`]'s matter.
//!
//! [`Options`] come from the caller, the file and the environment; with a model's plan they become
//! [`Sparse`], a [`Selector`] for each layer, which `engine` follows and never changes.
//!
//! To add a way to guess: a variant of [`Guess`], its name in [`Mode`], and the scores that it
//! makes in `engine/run/skipping.rs`.

mod activation;
mod beside;
mod gates;
mod magnitude;
mod options;
pub mod placement;
mod pt;
mod sidecar;
mod signs;
mod stats;
mod tuning;

pub use activation::{ActivationCounts, ActivationError, CountedModel, LayerCounts};
pub use beside::FileError;
pub use gates::Gates;
pub use magnitude::{BadMagnitude, Magnitude};
pub use options::{BadOption, Mode, Options, Request};
pub use sidecar::{Places, Sidecar, SidecarError};
pub use signs::{SIGN_ALPHA, SignPlanes, set_signs};
pub use stats::{LayerReport, LayerStats, OnCard, SplitStats, Stats};
pub use tuning::Tuning;

use std::sync::Arc;

use crate::model::Model;
use crate::plan::{Plan, SkippingFfn, StepKind};
use crate::{log_info, log_warn};

/// How the neurons to compute are guessed before the gate is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Guess {
    /// Not at all: the gate of every neuron is computed.
    None,
    /// By the file's predictor: neurons whose score is not below this.
    LowRank {
        /// In the predictor's units.
        threshold: f32,
    },
    /// By the signs of gate weights and inputs: neurons with
    /// `n_equal * alpha >= n_different` (SparseInfer, arXiv 2411.12692).
    Sign {
        /// 1 weighs both alike; more computes more neurons and misses fewer.
        alpha: f32,
    },
}

/// How one layer chooses its neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// What comes before the gate.
    pub guess: Guess,
    /// Neurons whose activated gate is nearer to zero than this count as silent; at 0 only those
    /// at zero do.
    pub least: f32,
    /// Share of the rows of gate or up from which on reading all is as fast as reading those of a
    /// list. Results do not depend on it.
    pub all_rows_from: f32,
}

impl Selector {
    /// The mode that says the same for one layer.
    pub fn mode(&self) -> Mode {
        match self.guess {
            _ if self.all_rows_from <= 0.0 => Mode::Off,
            Guess::LowRank { .. } => Mode::Predictor,
            Guess::Sign { .. } => Mode::Sign,
            Guess::None if self.least > 0.0 => Mode::Magnitude,
            Guess::None => Mode::Exact,
        }
    }
}

/// How a model's layers choose their neurons.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    mode: Mode,
    stats: bool,
    count_activations: bool,
    layers: Vec<Option<Selector>>,
    /// Signs of gates, for the layers that guess by them.
    signs: Arc<Vec<Option<SignPlanes>>>,
}

impl Sparse {
    /// Selectors for the layers of a plan that can skip neurons; none for a model without a plan.
    pub fn new(plan: Option<&Plan>, options: &Options) -> Self {
        let mut layers = vec![None; plan.map_or(0, |plan| plan.layers.len())];
        for step in plan.into_iter().flat_map(|plan| &plan.steps) {
            let (layer, has_predictor, has_signs) = match &step.kind {
                StepKind::SkippingFfn(ffn) => (ffn.layer, ffn.predictor.is_some(), signs_tell(ffn)),
                StepKind::SkippingExperts(experts) => (experts.layer, false, false),
                _ => continue,
            };
            let guess = match (options.mode, has_predictor) {
                (Mode::Auto | Mode::Predictor, true) => {
                    Guess::LowRank { threshold: options.threshold }
                }
                (Mode::Sign, _) if has_signs => {
                    Guess::Sign { alpha: options.sign_alpha.unwrap_or(SIGN_ALPHA) }
                }
                _ => Guess::None,
            };
            let from = if options.mode == Mode::Off { 0.0 } else { 0.6 };
            // Of experts only zeros are skipped.
            let least = match (options.mode, &step.kind) {
                (Mode::Magnitude, StepKind::SkippingFfn(_)) => options.threshold_of(layer),
                _ => 0.0,
            };
            layers[layer] = Some(Selector { guess, least, all_rows_from: from });
        }
        let Options { mode, stats, count_activations, .. } = *options;
        Self { mode, stats, count_activations, layers, signs: Arc::default() }
    }

    /// The same with another share of rows from which on all are read: see
    /// [`Selector::all_rows_from`]. Layers that read all rows always go on doing so.
    pub fn with_all_rows_from(&self, share: f32) -> Self {
        let mut sparse = self.clone();
        for selector in sparse.layers.iter_mut().flatten() {
            if selector.all_rows_from > 0.0 {
                selector.all_rows_from = share;
            }
        }
        sparse
    }

    /// Makes the signs of the gates of layers that guess by them, if any do. Where they are missing
    /// every gate is computed.
    pub fn with_signs(mut self, model: &Model) -> Self {
        let mut signs = vec![None; self.layers.len()];
        for step in model.plan().into_iter().flat_map(|plan| &plan.steps) {
            if let StepKind::SkippingFfn(ffn) = &step.kind
                && let (Some(gate), Some(Selector { guess: Guess::Sign { .. }, .. })) =
                    (&ffn.gate, self.layer(ffn.layer))
            {
                signs[ffn.layer] = SignPlanes::new(model, gate);
            }
        }
        self.signs = Arc::new(signs);
        match self.signs.iter().flatten().count() {
            0 => log_warn!(
                "sparse mode 'sign' is for gated networks with ReLU, and architecture '{}' has \
                 none here: gates are computed exactly",
                model.arch_name()
            ),
            n => log_info!("signs of {n} gates: {:.1} MiB", self.n_bytes() as f64 / 1_048_576.0),
        }
        self
    }

    /// Signs of a layer's gate.
    pub fn signs(&self, il: usize) -> Option<&SignPlanes> {
        self.signs.get(il)?.as_ref()
    }

    /// Bytes of what was made at load.
    pub fn n_bytes(&self) -> usize {
        self.signs.iter().flatten().map(SignPlanes::n_bytes).sum()
    }

    /// What was asked for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How a layer chooses; `None` for layers that compute all neurons.
    pub fn layer(&self, il: usize) -> Option<&Selector> {
        self.layers.get(il)?.as_ref()
    }

    /// Whether times and recall are measured.
    pub fn stats(&self) -> bool {
        self.stats
    }

    /// Whether it is counted how often each neuron fires.
    pub fn counts_activations(&self) -> bool {
        self.count_activations
    }

    /// Whether measuring would change how the layers run: see [`Tuning`].
    pub fn can_be_tuned(&self) -> bool {
        self.layers.iter().flatten().any(|selector| selector.all_rows_from > 0.0)
    }

    /// Layers that can skip neurons.
    pub fn n_layers(&self) -> usize {
        self.layers.iter().flatten().count()
    }
}

/// Whether the signs of a gate's weights say something of which neurons fire.
fn signs_tell(ffn: &SkippingFfn) -> bool {
    ffn.gate.is_some() && ffn.act.gives_zeros()
}
