//! What of a GPU is in use.

use core::ptr;

use super::super::context::{llama_context, with};
use crate::backend::cuda::Purpose;
use crate::log_error;

/// Memory of the GPU that a context is on, in bytes. What is in use is that of the model and of all
/// contexts over it; what the driver keeps for itself comes on top.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct powerinfer_gpu_memory {
    /// What may be used.
    pub budget: u64,
    /// Weights but those of neurons.
    pub weights: u64,
    /// Hot neurons.
    pub neurons: u64,
    /// Keys and values.
    pub kv: u64,
    /// Activations.
    pub compute: u64,
}

/// Says how much memory of the GPU is in use for what. `struct_size` is
/// sizeof(struct powerinfer_gpu_memory). False, and nothing is written, when the context is on the
/// CPU alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_get_gpu_memory(
    ctx: *const llama_context,
    out: *mut powerinfer_gpu_memory,
    struct_size: usize,
) -> bool {
    const NAME: &str = "powerinfer_get_gpu_memory";
    // SAFETY: the module's contract; nothing of the context is changed.
    let found = unsafe {
        with(ctx.cast_mut(), None, NAME, |c| {
            let budget = c.inner.card_budget()?;
            let of = |purpose| budget.used_for(purpose) as u64;
            Some(powerinfer_gpu_memory {
                budget: budget.limit() as u64,
                weights: of(Purpose::Weights),
                neurons: of(Purpose::Neurons),
                kv: of(Purpose::Kv),
                compute: of(Purpose::Compute),
            })
        })
    };
    let Some(found) = found else { return false };
    if out.is_null() {
        log_error!("{NAME}: no place to write to");
        return false;
    }
    let known = struct_size.min(size_of_val(&found));
    // SAFETY: the caller has a structure of struct_size bytes there.
    unsafe {
        ptr::write_bytes(out.cast::<u8>(), 0, struct_size);
        ptr::copy_nonoverlapping((&raw const found).cast::<u8>(), out.cast::<u8>(), known);
    }
    true
}
