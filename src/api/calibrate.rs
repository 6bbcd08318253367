//! Finding and keeping the thresholds of the sparse mode `magnitude`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::places;
use super::{Error, Model};
use crate::engine::ContextError;
use crate::sparse::{Magnitude, SidecarError};
use crate::tools::calibrate::{self, CalibrateError};

/// Why a calibration failed.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The model has no plan that skips neurons.
    #[error(transparent)]
    Model(#[from] Error),
    /// Running the text.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// The result has no place.
    #[error("the thresholds cannot be kept: {0}")]
    Sidecar(#[from] SidecarError),
}

impl Model {
    /// Finds the thresholds that make `target_sparsity` (0 to 1) of the neurons silent on a text,
    /// and keeps them in the model's sidecar, at `sidecar`, where the model's options have it, or
    /// beside the model, for the mode `magnitude` of later loads. This model stays as it is, whatever its own mode.
    ///
    /// Gives what was found and measured, and where it was written. See
    /// [`calibrate`](calibrate::calibrate).
    pub fn calibrate(
        &self,
        tokens: &[i32],
        target_sparsity: f32,
        n_threads: usize,
        sidecar: Option<&Path>,
    ) -> Result<(Magnitude, PathBuf), CalibrationError> {
        let model = Arc::new(self.inner.with_small_skipping().map_err(Error::from)?);
        let sidecar = sidecar.or(self.options.sidecar.as_deref());
        let places = places(&model, self.path.as_deref(), sidecar);
        let places = places.ok_or(CalibrateError::Context(ContextError::NoWeights))?;
        let bos = self.vocab.special_ids().bos.filter(|_| self.vocab.add_bos());
        let found = calibrate::calibrate(&model, bos, tokens, target_sparsity, n_threads)?;
        let mut kept = places.read();
        kept.magnitude = Some(found.clone());
        let path = places.write(&kept)?;
        Ok((found, path))
    }
}
