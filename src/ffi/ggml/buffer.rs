//! Buffers: pieces of host memory, ordinary or pinned for the GPUs. What is on a GPU belongs to
//! models and contexts; programs only see how much it is.

use core::ffi::{c_char, c_int, c_void};
use core::ptr;

use super::cards::{self, PINNED_TYPE};
use super::device::{CPU_BUFFER_TYPE, cpu_device};
use super::tensor::n_bytes;
use crate::backend::cuda::Pinned;
use crate::ffi::guard;
use crate::ffi::types::{
    ggml_backend_buffer_t, ggml_backend_buffer_type_t, ggml_backend_buffer_usage_e,
    ggml_backend_dev_t, ggml_status, ggml_status_e, ggml_tensor,
};
use crate::util::aligned::{ALIGN, AlignedVec};
use crate::{log_error, log_warn};

/// Alignment of tensors on a GPU in bytes, as ggml has it.
const CARD_ALIGN: usize = 128;

/// A kind of memory.
pub struct ggml_backend_buffer_type {
    pub(super) name: &'static core::ffi::CStr,
    /// Number of the GPU that it is on; `None` for host memory.
    pub(super) card: Option<usize>,
}

/// A piece of memory.
pub struct ggml_backend_buffer {
    buft: &'static ggml_backend_buffer_type,
    /// First byte: in `owned`, or the caller's.
    base: *mut c_void,
    size: usize,
    usage: ggml_backend_buffer_usage_e,
    _owned: Owned,
}

/// Memory of a buffer.
enum Owned {
    /// It is the caller's.
    Not,
    Host {
        _memory: AlignedVec<u8>,
    },
    Pinned {
        _memory: Pinned,
    },
}

impl ggml_backend_buffer {
    /// A buffer around memory that the caller keeps alive.
    pub(in crate::ffi) fn around(base: *mut c_void, size: usize) -> ggml_backend_buffer_t {
        Self::new(&CPU_BUFFER_TYPE, base, size, Owned::Not)
    }

    fn new(
        buft: &'static ggml_backend_buffer_type,
        base: *mut c_void,
        size: usize,
        owned: Owned,
    ) -> ggml_backend_buffer_t {
        Box::into_raw(Box::new(Self { buft, base, size, usage: 0, _owned: owned }))
    }

    /// A buffer of zeros.
    fn zeroed(buft: &'static ggml_backend_buffer_type, size: usize) -> ggml_backend_buffer_t {
        if buft.card.is_some() {
            log_error!(
                "{}: programs cannot place tensors on a GPU through this library",
                buft.name.to_string_lossy()
            );
            return ptr::null_mut();
        }
        if let Some(card) = cards::all().first().filter(|_| ptr::eq(buft, &raw const PINNED_TYPE)) {
            let pinned = card.pinned(size).and_then(|mut memory| {
                let base = memory.bytes()?.as_mut_ptr().cast();
                Ok(Self::new(buft, base, size, Owned::Pinned { _memory: memory }))
            });
            match pinned {
                Ok(buffer) => return buffer,
                Err(error) => {
                    log_warn!("no {size} bytes of pinned memory, others will do: {error}")
                }
            }
        }
        match AlignedVec::<u8>::try_zeroed(size) {
            Ok(mut memory) => {
                let base = memory.as_mut_ptr().cast();
                Self::new(&CPU_BUFFER_TYPE, base, size, Owned::Host { _memory: memory })
            }
            Err(error) => {
                log_error!("ggml_backend_buft_alloc_buffer: {error}");
                ptr::null_mut()
            }
        }
    }
}

/// The processor's memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_cpu_buffer_type() -> ggml_backend_buffer_type_t {
    (&raw const CPU_BUFFER_TYPE).cast_mut()
}

/// Name of a buffer type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_name(buft: ggml_backend_buffer_type_t) -> *const c_char {
    // SAFETY: NULL or a buffer type.
    unsafe { buft.as_ref() }.map_or(c"".as_ptr(), |b| b.name.as_ptr())
}

/// Allocates a buffer of zeros; NULL on failure, and for the memory of a GPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_alloc_buffer(
    buft: ggml_backend_buffer_type_t,
    size: usize,
) -> ggml_backend_buffer_t {
    guard::call(ptr::null_mut(), "ggml_backend_buft_alloc_buffer", || {
        // SAFETY: NULL or a buffer type, which live as long as the process.
        let buft: Option<&'static _> = unsafe { buft.as_ref() };
        buft.map_or(ptr::null_mut(), |buft| ggml_backend_buffer::zeroed(buft, size))
    })
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_alignment(
    buft: ggml_backend_buffer_type_t,
) -> usize {
    // SAFETY: NULL or a buffer type.
    match unsafe { buft.as_ref() }.and_then(|b| b.card) {
        Some(_) => CARD_ALIGN,
        None => ALIGN,
    }
}

/// Largest buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_max_size(
    _buft: ggml_backend_buffer_type_t,
) -> usize {
    usize::MAX
}

/// Bytes to allocate for a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_alloc_size(
    _buft: ggml_backend_buffer_type_t,
    tensor: *const ggml_tensor,
) -> usize {
    // SAFETY: NULL or a tensor.
    unsafe { tensor.as_ref() }.map_or(0, n_bytes)
}

/// Whether the processor can address the memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_is_host(buft: ggml_backend_buffer_type_t) -> bool {
    // SAFETY: NULL or a buffer type.
    unsafe { buft.as_ref() }.is_some_and(|b| b.card.is_none())
}

/// The device of a buffer type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buft_get_device(
    buft: ggml_backend_buffer_type_t,
) -> ggml_backend_dev_t {
    // SAFETY: NULL or a buffer type.
    let Some(buft) = (unsafe { buft.as_ref() }) else { return ptr::null_mut() };
    let of_first = ptr::eq(buft, &raw const PINNED_TYPE).then_some(0);
    buft.card.or(of_first).and_then(cards::handle_of).unwrap_or_else(cpu_device)
}

/// Name of a buffer's type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_name(buffer: ggml_backend_buffer_t) -> *const c_char {
    // SAFETY: NULL or a buffer.
    unsafe { buffer.as_ref() }.map_or(c"", |b| b.buft.name).as_ptr()
}

/// Frees a buffer. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_free(buffer: ggml_backend_buffer_t) {
    guard::call((), "ggml_backend_buffer_free", || {
        if !buffer.is_null() {
            // SAFETY: a buffer of this library, freed once.
            drop(unsafe { Box::from_raw(buffer) });
        }
    });
}

/// First byte of a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_base(
    buffer: ggml_backend_buffer_t,
) -> *mut c_void {
    // SAFETY: NULL or a buffer.
    unsafe { buffer.as_ref() }.map_or(ptr::null_mut(), |b| b.base)
}

/// Size of a buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_size(buffer: ggml_backend_buffer_t) -> usize {
    // SAFETY: NULL or a buffer.
    unsafe { buffer.as_ref() }.map_or(0, |b| b.size)
}

/// Prepares a tensor that was placed in a buffer: nothing to do in host memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_init_tensor(
    buffer: ggml_backend_buffer_t,
    tensor: *mut ggml_tensor,
) -> ggml_status_e {
    let missing = buffer.is_null() || tensor.is_null();
    let status =
        if missing { ggml_status::GGML_STATUS_FAILED } else { ggml_status::GGML_STATUS_SUCCESS };
    status as c_int
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_alignment(
    _buffer: ggml_backend_buffer_t,
) -> usize {
    ALIGN
}

/// Largest buffer of this type in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_max_size(_buffer: ggml_backend_buffer_t) -> usize {
    usize::MAX
}

/// Bytes to allocate for a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_alloc_size(
    _buffer: ggml_backend_buffer_t,
    tensor: *const ggml_tensor,
) -> usize {
    // SAFETY: NULL or a tensor.
    unsafe { tensor.as_ref() }.map_or(0, n_bytes)
}

/// Fills a buffer with one byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_clear(buffer: ggml_backend_buffer_t, value: u8) {
    // SAFETY: NULL or a buffer.
    if let Some(buffer) = unsafe { buffer.as_ref() }
        && buffer.size > 0
    {
        // SAFETY: base points to size writable bytes.
        unsafe { ptr::write_bytes(buffer.base.cast::<u8>(), value, buffer.size) };
    }
}

/// Whether the processor can address the memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_is_host(buffer: ggml_backend_buffer_t) -> bool {
    !buffer.is_null()
}

/// Says what a buffer is used for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_set_usage(
    buffer: ggml_backend_buffer_t,
    usage: ggml_backend_buffer_usage_e,
) {
    // SAFETY: NULL or a buffer that no one else uses now.
    if let Some(buffer) = unsafe { buffer.as_mut() } {
        buffer.usage = usage;
    }
}

/// What a buffer is used for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_usage(
    buffer: ggml_backend_buffer_t,
) -> ggml_backend_buffer_usage_e {
    // SAFETY: NULL or a buffer.
    unsafe { buffer.as_ref() }.map_or(0, |b| b.usage)
}

/// The type of a buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_get_type(
    buffer: ggml_backend_buffer_t,
) -> ggml_backend_buffer_type_t {
    // SAFETY: NULL or a buffer.
    unsafe { buffer.as_ref() }.map_or(ptr::null_mut(), |b| ptr::from_ref(b.buft).cast_mut())
}

/// Forgets the tensors that were placed in a buffer: host memory keeps no record of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_buffer_reset(_buffer: ggml_backend_buffer_t) {}
