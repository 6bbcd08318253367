//! Thresholds on the activated gate of ordinary gated networks (CATS, arXiv 2404.08763).
//!
//! SiLU and GELU give no zeros, but many values near it. Neurons whose activated gate is nearer to
//! zero than their layer's threshold count as silent: an approximation that the user asks for by
//! the mode [`Mode::Magnitude`]. A calibration over a text
//! (`tools::calibrate`) finds the thresholds for a share of silent neurons and says what they cost.

use super::{Mode, Options, Places};
use crate::gguf::{self, Array, Metadata, Value, Writer};
use crate::model::Model;
use crate::plan::StepKind;

/// Key of the thresholds, in models and sidecars: an array of F32, one per layer.
pub const THRESHOLDS: &str = "powerinfer.magnitude.thresholds";
const TARGET: &str = "powerinfer.magnitude.target_sparsity";
const SPARSITY: &str = "powerinfer.magnitude.sparsity";
const DENSE: &str = "powerinfer.magnitude.perplexity_dense";
const SPARSE: &str = "powerinfer.magnitude.perplexity_sparse";

/// Thresholds, and what a calibration measured of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Magnitude {
    /// Least |act(gate)| of a neuron that is computed, by layer. 0 skips zeros alone.
    pub thresholds: Vec<f32>,
    /// Share of silent neurons that was asked for, 0 to 1.
    pub target_sparsity: Option<f32>,
    /// The share on text that the thresholds were not chosen by.
    pub sparsity: Option<f32>,
    /// Perplexity of that text with all neurons.
    pub perplexity_dense: Option<f64>,
    /// The same with the thresholds.
    pub perplexity_sparse: Option<f64>,
}

/// Why thresholds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadMagnitude {
    /// The key has something else.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// Nobody gave any.
    #[error(
        "sparse mode 'magnitude' needs thresholds for each layer, and neither the model (key \
         '{THRESHOLDS}') nor a file beside it has them: make them from a text with \
         `main --calibrate FILE` or powerinfer_calibrate()"
    )]
    Missing,
    /// Their number is not that of the layers.
    #[error("'{THRESHOLDS}' has {found} thresholds, the model has {expected} layers")]
    WrongNumber {
        /// Thresholds.
        found: usize,
        /// Layers.
        expected: usize,
    },
    /// One is no number that a magnitude can be compared with.
    #[error("'{THRESHOLDS}': layer {layer} has {found}, expected a number from 0 on")]
    BadNumber {
        /// Layer.
        layer: usize,
        /// Its threshold.
        found: f32,
    },
    /// No network of the model has a gate that stands alone.
    #[error(
        "sparse mode 'magnitude' is for feed-forward networks with a gate of their own, and \
         architecture '{arch}' has none here"
    )]
    NoGates {
        /// The architecture.
        arch: String,
    },
}

impl Magnitude {
    /// The thresholds in a file's keys; `None` when it has none.
    pub fn from_meta(meta: &Metadata) -> Result<Option<Self>, gguf::Error> {
        let Some(thresholds) = meta.get_f32s(THRESHOLDS)? else { return Ok(None) };
        let number = |key: &str| Ok::<_, gguf::Error>(meta.get(key).and_then(Value::as_float));
        Ok(Some(Self {
            thresholds: thresholds.into_owned(),
            target_sparsity: meta.get_f32(TARGET)?,
            sparsity: meta.get_f32(SPARSITY)?,
            perplexity_dense: number(DENSE)?,
            perplexity_sparse: number(SPARSE)?,
        }))
    }

    /// Puts them into a file's keys.
    pub fn put(&self, out: &mut Writer) -> Result<(), gguf::Error> {
        out.set(THRESHOLDS, Value::Array(Array::F32(self.thresholds.clone())))?;
        for (key, share) in [(TARGET, self.target_sparsity), (SPARSITY, self.sparsity)] {
            share.map_or(Ok(()), |x| out.set(key, Value::F32(x)))?;
        }
        for (key, perplexity) in [(DENSE, self.perplexity_dense), (SPARSE, self.perplexity_sparse)]
        {
            perplexity.map_or(Ok(()), |x| out.set(key, Value::F64(x)))?;
        }
        Ok(())
    }

    /// Checks the thresholds against a model.
    pub fn check(&self, model: &Model) -> Result<(), BadMagnitude> {
        let gated = |kind: &StepKind| matches!(kind, StepKind::SkippingFfn(f) if f.gate.is_some());
        let Some(plan) = model.plan() else { return Ok(()) };
        if !plan.steps.iter().any(|step| gated(&step.kind)) {
            return Err(BadMagnitude::NoGates { arch: model.arch_name().to_owned() });
        }
        let (found, expected) = (self.thresholds.len(), plan.layers.len());
        if found != expected {
            return Err(BadMagnitude::WrongNumber { found, expected });
        }
        // Infinity silences a layer.
        match self.thresholds.iter().position(|x| !matches!(x, 0.0..)) {
            Some(layer) => Err(BadMagnitude::BadNumber { layer, found: self.thresholds[layer] }),
            None => Ok(()),
        }
    }
}

impl Options {
    /// In mode `magnitude`: takes the thresholds from the model's sidecar, or from its keys.
    ///
    /// # Errors
    /// When there are none, or they are not for this model.
    pub fn find_thresholds(
        &mut self,
        model: &Model,
        places: Option<&Places>,
    ) -> Result<(), BadMagnitude> {
        if self.mode != Mode::Magnitude || !model.has_data() {
            return Ok(());
        }
        let measured = places.and_then(|places| places.read().magnitude);
        let found = match measured {
            Some(found) => Some(found),
            None => Magnitude::from_meta(model.meta())?,
        };
        let found = found.ok_or(BadMagnitude::Missing)?;
        found.check(model)?;
        self.magnitude = Some(found);
        Ok(())
    }

    /// Least |act(gate)| of a neuron that counts, in a layer.
    pub(super) fn threshold_of(&self, layer: usize) -> f32 {
        let thresholds = self.magnitude.as_ref().map_or(&[][..], |found| &found.thresholds);
        thresholds.get(layer).copied().unwrap_or(0.0)
    }
}
