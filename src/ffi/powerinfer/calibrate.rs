//! Thresholds of the mode magnitude, from a text.

use core::ffi::c_char;
use core::{ptr, slice};

use super::super::guard;
use super::super::load::{c_path, llama_model, model_ref};
use super::super::strings::c_str;
use crate::log_error;
use crate::util::sys;

/// What powerinfer_calibrate found, on the last quarter of its text, which the thresholds were not
/// chosen by.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct powerinfer_calibration {
    /// Perplexity with all neurons.
    pub perplexity_dense: f64,
    /// Perplexity without those below the thresholds.
    pub perplexity_sparse: f64,
    /// Share of the neurons below them, 0 to 1.
    pub sparsity: f32,
    /// The share that was asked for.
    pub target_sparsity: f32,
}

/// Finds for each layer of an ordinary gated model (SiLU, GELU) the threshold below which
/// `target_sparsity` (0 to 1, without 1) of its activated gates lie in a text, measures what
/// skipping these neurons costs, and keeps the thresholds in the model's sidecar, from where the
/// next load in the mode magnitude takes them.
///
/// `tokens` is the text without special tokens, at least 128 of them and better some thousands.
/// `sidecar_path` is NULL for the place that powerinfer.sidecar names when the model is loaded,
/// else `<model>.sparse.gguf` beside the model, or the user's folder for caches where that cannot
/// be written. `result` may be NULL; `result_size` is sizeof(struct powerinfer_calibration).
/// Returns 0, and -1 on an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_calibrate(
    model: *const llama_model,
    tokens: *const i32,
    n_tokens: usize,
    target_sparsity: f32,
    sidecar_path: *const c_char,
    result: *mut powerinfer_calibration,
    result_size: usize,
) -> i32 {
    const NAME: &str = "powerinfer_calibrate";
    guard::call(-1, NAME, || {
        // SAFETY: the module's contract.
        let Some(model) = (unsafe { model_ref(model) }) else {
            log_error!("{NAME}: the model is NULL");
            return -1;
        };
        if tokens.is_null() || n_tokens > isize::MAX as usize / size_of::<i32>() {
            log_error!("{NAME}: no {n_tokens} tokens");
            return -1;
        }
        // SAFETY: the caller passes n_tokens tokens, and NULL or a terminated string.
        let (tokens, path) =
            unsafe { (slice::from_raw_parts(tokens, n_tokens), c_str(sidecar_path)) };
        let path = path.map(c_path);
        match model.model.calibrate(tokens, target_sparsity, sys::n_cpus(), path) {
            Ok((found, _)) => {
                let own = powerinfer_calibration {
                    perplexity_dense: found.perplexity_dense.unwrap_or(f64::NAN),
                    perplexity_sparse: found.perplexity_sparse.unwrap_or(f64::NAN),
                    sparsity: found.sparsity.unwrap_or(f32::NAN),
                    target_sparsity,
                };
                if !result.is_null() {
                    let known = result_size.min(size_of_val(&own));
                    // SAFETY: the caller has a structure of result_size bytes there.
                    unsafe {
                        ptr::write_bytes(result.cast::<u8>(), 0, result_size);
                        ptr::copy_nonoverlapping(
                            (&raw const own).cast::<u8>(),
                            result.cast::<u8>(),
                            known,
                        );
                    }
                }
                0
            }
            Err(error) => {
                log_error!("{NAME}: {error}");
                -1
            }
        }
    })
}
