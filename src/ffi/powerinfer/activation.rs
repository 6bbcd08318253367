//! How often each neuron fires.

use core::ffi::c_char;

use super::super::context::{llama_context, with};
use super::super::guard;
use super::super::load::c_path;
use super::super::strings::c_str;
use super::super::types::cbool;
use crate::api::ActivationCounts;
use crate::{log_error, log_info};

/// Begins, at zero, or ends counting how often each neuron fires.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_count_activations(ctx: *mut llama_context, on: cbool) {
    const NAME: &str = "powerinfer_count_activations";
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), NAME, |c| c.inner.count_activations(on != 0)) }
}

/// Writes the counts to a GGUF file, for tools that place neurons: a tensor
/// "blk.N.activation_count" for each layer that can skip neurons. False on an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_save_activation(
    ctx: *mut llama_context,
    path: *const c_char,
) -> bool {
    const NAME: &str = "powerinfer_save_activation";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, false, NAME, |c| {
            let Some(path) = c_str(path) else {
                log_error!("{NAME}: the path is NULL");
                return false;
            };
            let counts = c.inner.activation_counts();
            match counts.and_then(|counts| counts.save(c_path(path))) {
                Ok(()) => true,
                Err(error) => {
                    log_error!("{NAME}: {error}");
                    false
                }
            }
        })
    }
}

/// Writes the counts of PowerInfer's files activation_0.pt, activation_1.pt, ... in a folder to a
/// GGUF file as powerinfer_save_activation does. False on an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_import_activation(
    folder: *const c_char,
    path: *const c_char,
) -> bool {
    const NAME: &str = "powerinfer_import_activation";
    guard::call(false, NAME, || {
        // SAFETY: NULL or terminated strings.
        let (Some(folder), Some(path)) = (unsafe { (c_str(folder), c_str(path)) }) else {
            log_error!("{NAME}: a path is NULL");
            return false;
        };
        let counts = ActivationCounts::import(c_path(folder));
        match counts.and_then(|counts| counts.save(c_path(path)).map(|()| counts)) {
            Ok(counts) => {
                log_info!("{NAME}: {} layers", counts.layers.len());
                true
            }
            Err(error) => {
                log_error!("{NAME}: {error}");
                false
            }
        }
    })
}
