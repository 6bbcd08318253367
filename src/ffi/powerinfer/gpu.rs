//! What of a GPU is in use, and how it shares the work with the processor.

use core::ptr;
use core::time::Duration;

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
    // SAFETY: the caller has a structure of struct_size bytes there.
    unsafe { give(found, out, struct_size, NAME) }
}

/// Networks whose neurons the GPU and the CPU share, in small batches since the context was made or
/// powerinfer_reset_stats was called. Sums; divide by `tokens`. Zeros without the option
/// `powerinfer.stats`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct powerinfer_gpu_stats {
    /// Tokens.
    pub tokens: u64,
    /// Neurons of which the GPU read all rows.
    pub hot: u64,
    /// Neurons of which the CPU did.
    pub cold: u64,
    /// Nanoseconds from begin to end of the batches.
    pub time_ns: u64,
    /// In which the GPU worked on networks.
    pub gpu_ns: u64,
    /// In which the CPU did.
    pub cpu_ns: u64,
    /// In which the GPU waited for the CPU's part.
    pub exposed_ns: u64,
    /// Bytes that went from the GPU to the CPU for networks.
    pub to_cpu: u64,
    /// Bytes that came back.
    pub to_gpu: u64,
}

/// Says how the GPU and the CPU shared the work. `struct_size` is sizeof(struct powerinfer_gpu_stats).
/// False, and nothing is written, when the context is on the CPU alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_get_gpu_stats(
    ctx: *const llama_context,
    out: *mut powerinfer_gpu_stats,
    struct_size: usize,
) -> bool {
    const NAME: &str = "powerinfer_get_gpu_stats";
    // SAFETY: the module's contract; nothing of the context is changed.
    let found = unsafe {
        with(ctx.cast_mut(), None, NAME, |c| {
            c.inner.card_budget()?;
            let seen = c.inner.split_stats();
            let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            Some(powerinfer_gpu_stats {
                tokens: seen.tokens,
                hot: seen.hot,
                cold: seen.cold,
                time_ns: ns(seen.whole),
                gpu_ns: ns(seen.card),
                cpu_ns: ns(seen.host),
                exposed_ns: ns(seen.exposed),
                to_cpu: seen.to_host,
                to_gpu: seen.to_card,
            })
        })
    };
    // SAFETY: the caller has a structure of struct_size bytes there.
    unsafe { give(found, out, struct_size, NAME) }
}

/// Writes as much of a structure as the caller knows, and zeros behind it. False without one, or a
/// place for it.
///
/// # Safety
/// There are `struct_size` bytes at `out`, if it is not null.
unsafe fn give<T>(found: Option<T>, out: *mut T, struct_size: usize, name: &str) -> bool {
    let Some(found) = found else { return false };
    if out.is_null() {
        log_error!("{name}: no place to write to");
        return false;
    }
    let known = struct_size.min(size_of::<T>());
    // SAFETY: the caller's word; `found` is plain numbers.
    unsafe {
        ptr::write_bytes(out.cast::<u8>(), 0, struct_size);
        ptr::copy_nonoverlapping((&raw const found).cast::<u8>(), out.cast::<u8>(), known);
    }
    true
}
