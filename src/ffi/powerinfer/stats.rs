//! What was seen of the neurons.

use core::ptr;

use super::super::context::{llama_context, with};
use super::params::{mode_to_c, powerinfer_sparse_mode_e};
use crate::api::LayerReport;
use crate::log_error;

/// What was seen of one layer since its context was made or powerinfer_reset_stats was called.
/// Sums are over tokens: fired / (tokens * n_neurons) is the share that is active,
/// found / checked the recall.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct powerinfer_layer_stats {
    /// Number of the layer in the model, from 0.
    pub layer: i32,
    /// How it chooses: exact, predictor, sign, magnitude or off.
    pub mode: powerinfer_sparse_mode_e,
    /// Neurons of the layer.
    pub n_neurons: u64,
    /// Tokens that it computed.
    pub tokens: u64,
    /// Neurons that were guessed to fire; all of them where nothing guesses.
    pub guessed: u64,
    /// Neurons that fired.
    pub fired: u64,
    /// With the option stats, in every 16th small batch: neurons that fire, guessed or not.
    pub checked: u64,
    /// Those of them that were guessed.
    pub found: u64,
    /// Bytes of weights that its feed-forward network read.
    pub bytes: u64,
    /// Bytes that it would have read without skipping any neuron.
    pub dense_bytes: u64,
    /// With the option stats: tokens whose time was taken,
    pub timed: u64,
    /// and their time in the feed-forward network, in nanoseconds.
    pub time_ns: u64,
}

impl From<&LayerReport> for powerinfer_layer_stats {
    fn from(report: &LayerReport) -> Self {
        Self {
            layer: i32::try_from(report.layer).unwrap_or(i32::MAX),
            mode: mode_to_c(report.mode) as powerinfer_sparse_mode_e,
            n_neurons: report.n_ff as u64,
            tokens: report.tokens,
            guessed: report.guessed,
            fired: report.fired,
            checked: report.checked,
            found: report.found,
            bytes: report.bytes,
            dense_bytes: report.dense_bytes,
            timed: report.timed,
            time_ns: u64::try_from(report.time.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// Writes what was seen of the layers that can skip neurons, in their order, at most `n_layers` of
/// them. `struct_size` is sizeof(struct powerinfer_layer_stats). Returns how many such layers
/// there are, 0 for a model without any, and -1 on an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_get_stats(
    ctx: *mut llama_context,
    out: *mut powerinfer_layer_stats,
    n_layers: usize,
    struct_size: usize,
) -> i32 {
    const NAME: &str = "powerinfer_get_stats";
    // SAFETY: the module's contract.
    unsafe {
        with(ctx, -1, NAME, |c| {
            let reports = c.inner.sparse_stats();
            if n_layers > 0 && (out.is_null() || struct_size == 0) {
                log_error!("{NAME}: no room for {n_layers} layers");
                return -1;
            }
            for (i, report) in reports.iter().take(n_layers).enumerate() {
                let own = powerinfer_layer_stats::from(report);
                let known = struct_size.min(size_of_val(&own));
                let to = out.cast::<u8>().add(i * struct_size);
                ptr::write_bytes(to, 0, struct_size);
                ptr::copy_nonoverlapping((&raw const own).cast::<u8>(), to, known);
            }
            i32::try_from(reports.len()).unwrap_or(i32::MAX)
        })
    }
}

/// Begins these counts anew. Those of powerinfer_count_activations go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_reset_stats(ctx: *mut llama_context) {
    // SAFETY: the module's contract.
    unsafe { with(ctx, (), "powerinfer_reset_stats", |c| c.inner.reset_sparse_stats()) }
}
