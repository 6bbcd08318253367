//! Tensors as plain structs, and the contexts that own them. A program meets them in eval
//! callbacks and when it reads or writes GGUF files; they are never computed with.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;

use super::numbers::type_info;
use crate::ffi::guard;
use crate::ffi::strings::c_str;
use crate::ffi::types::{
    GGML_MAX_DIMS, GGML_MAX_NAME, cbool, ggml_init_params, ggml_op, ggml_tensor, ggml_type,
    ggml_type_e,
};
use crate::log_error;
use crate::util::aligned::AlignedVec;

/// Owner of tensors and, unless it was made with `no_alloc`, of their data. Every tensor is
/// allocated on its own, so the memory size that C suggests is not a limit.
pub struct ggml_context {
    tensors: Vec<*mut ggml_tensor>,
    data: Vec<AlignedVec<u8>>,
    no_alloc: bool,
}

impl ggml_context {
    /// A context without tensors.
    pub(crate) fn new(no_alloc: bool) -> Self {
        Self { tensors: Vec::new(), data: Vec::new(), no_alloc }
    }

    /// Adds a tensor of a type and shape, with data (zeros) unless the context is `no_alloc`;
    /// the error says what is wrong with the shape.
    pub(crate) fn add(
        &mut self,
        ty: ggml_type_e,
        ne: [i64; GGML_MAX_DIMS],
        name: &[u8],
    ) -> Result<*mut ggml_tensor, String> {
        let info = type_info(ty).ok_or_else(|| format!("{ty} is no type of tensors"))?;
        let bad = || format!("a tensor cannot have shape {ne:?} of {}", info.name);
        let size = |n: i64| usize::try_from(n).map_err(|_| bad());
        let row = info.ty.row_bytes(u64::try_from(ne[0]).map_err(|_| bad())?).ok_or_else(bad)?;
        let mut nb = [info.block_bytes, usize::try_from(row).map_err(|_| bad())?, 0, 0];
        nb[2] = nb[1].checked_mul(size(ne[1])?).ok_or_else(bad)?;
        nb[3] = nb[2].checked_mul(size(ne[2])?).ok_or_else(bad)?;
        let bytes = nb[3].checked_mul(size(ne[3])?).ok_or_else(bad)?;

        let mut text = [0; GGML_MAX_NAME];
        for (to, from) in text[..GGML_MAX_NAME - 1].iter_mut().zip(name) {
            *to = *from as c_char;
        }
        let mut data = ptr::null_mut();
        if !self.no_alloc {
            let mut memory = AlignedVec::<u8>::try_zeroed(bytes).map_err(|e| e.to_string())?;
            data = memory.as_mut_ptr().cast();
            self.data.push(memory);
        }
        let tensor = ggml_tensor { r#type: ty, ne, nb, data, name: text, ..blank() };
        let tensor = Box::into_raw(Box::new(tensor));
        self.tensors.push(tensor);
        Ok(tensor)
    }
}

impl Drop for ggml_context {
    fn drop(&mut self) {
        for &tensor in &self.tensors {
            // SAFETY: made by Box::into_raw in `add`, and freed here only.
            drop(unsafe { Box::from_raw(tensor) });
        }
    }
}

/// A tensor of one F32 element, without name and data.
pub(in crate::ffi) fn blank() -> ggml_tensor {
    ggml_tensor {
        r#type: ggml_type::GGML_TYPE_F32 as c_int,
        buffer: ptr::null_mut(),
        ne: [1; GGML_MAX_DIMS],
        nb: [size_of::<f32>(); GGML_MAX_DIMS],
        op: ggml_op::GGML_OP_NONE as c_int,
        op_params: [0; 16],
        flags: 0,
        src: [ptr::null_mut(); 10],
        view_src: ptr::null_mut(),
        view_offs: 0,
        data: ptr::null_mut(),
        name: [0; GGML_MAX_NAME],
        extra: ptr::null_mut(),
        padding: [0; 8],
    }
}

/// Makes a context that owns tensors; with no_alloc they have no data. Memory is taken as tensors
/// come: mem_size is no limit and mem_buffer is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_init(params: ggml_init_params) -> *mut ggml_context {
    guard::call(ptr::null_mut(), "ggml_init", || {
        Box::into_raw(Box::new(ggml_context::new(params.no_alloc != 0)))
    })
}

/// Frees a context and its tensors. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_free(ctx: *mut ggml_context) {
    guard::call((), "ggml_free", || {
        if !ctx.is_null() {
            // SAFETY: a context of ggml_init, freed once.
            drop(unsafe { Box::from_raw(ctx) });
        }
    });
}

/// Makes a matrix of ne1 rows of ne0 elements; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_new_tensor_2d(
    ctx: *mut ggml_context,
    r#type: ggml_type_e,
    ne0: i64,
    ne1: i64,
) -> *mut ggml_tensor {
    guard::call(ptr::null_mut(), "ggml_new_tensor_2d", || {
        // SAFETY: NULL or a context of ggml_init that no one else uses now.
        let Some(ctx) = (unsafe { ctx.as_mut() }) else { return ptr::null_mut() };
        ctx.add(r#type, [ne0, ne1, 1, 1], b"").unwrap_or_else(|error| {
            log_error!("ggml_new_tensor_2d: {error}");
            ptr::null_mut()
        })
    })
}

/// The oldest tensor of a context; NULL when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_first_tensor(ctx: *const ggml_context) -> *mut ggml_tensor {
    // SAFETY: NULL or a context.
    let ctx = unsafe { ctx.as_ref() };
    ctx.and_then(|ctx| ctx.tensors.first().copied()).unwrap_or(ptr::null_mut())
}

/// The tensor made after this one; NULL at the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_next_tensor(
    ctx: *const ggml_context,
    tensor: *mut ggml_tensor,
) -> *mut ggml_tensor {
    // SAFETY: NULL or a context.
    let Some(ctx) = (unsafe { ctx.as_ref() }) else { return ptr::null_mut() };
    let mut rest = ctx.tensors.iter().skip_while(|t| **t != tensor);
    rest.nth(1).copied().unwrap_or(ptr::null_mut())
}

/// The tensor with this name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_tensor(
    ctx: *mut ggml_context,
    name: *const c_char,
) -> *mut ggml_tensor {
    // SAFETY: NULL or a context; NULL or a C string.
    let (ctx, name) = unsafe { (ctx.as_ref(), c_str(name)) };
    let (Some(ctx), Some(name)) = (ctx, name) else { return ptr::null_mut() };
    let called = |t: &&*mut ggml_tensor| {
        // SAFETY: the context's own tensor; C keeps its name terminated.
        unsafe { CStr::from_ptr((***t).name.as_ptr()) == name }
    };
    ctx.tensors.iter().find(called).copied().unwrap_or(ptr::null_mut())
}

/// Number of elements of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nelements(tensor: *const ggml_tensor) -> i64 {
    // SAFETY: NULL or a tensor.
    unsafe { tensor.as_ref() }.map_or(0, |t| t.ne.iter().fold(1, |n: i64, &e| n.saturating_mul(e)))
}

/// Number of rows of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nrows(tensor: *const ggml_tensor) -> i64 {
    // SAFETY: NULL or a tensor.
    unsafe { tensor.as_ref() }
        .map_or(0, |t| t.ne[1..].iter().fold(1, |n: i64, &e| n.saturating_mul(e)))
}

/// Bytes from the first element of a tensor to the end of its last; 0 for an empty one.
pub(crate) fn n_bytes(t: &ggml_tensor) -> usize {
    let Some(info) = type_info(t.r#type) else { return 0 };
    if t.ne.iter().any(|&n| n <= 0) {
        return 0;
    }
    let steps = |d: usize| usize::try_from(t.ne[d] - 1).unwrap_or(0).saturating_mul(t.nb[d]);
    let first_row = match info.block_len {
        1 => info.block_bytes.saturating_add(steps(0)),
        len => usize::try_from(t.ne[0]).unwrap_or(0).saturating_mul(t.nb[0]) / len,
    };
    (1..GGML_MAX_DIMS).fold(first_row, |bytes, d| bytes.saturating_add(steps(d)))
}

/// Bytes from the first element of a tensor to the end of its last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_nbytes(tensor: *const ggml_tensor) -> usize {
    // SAFETY: NULL or a tensor.
    unsafe { tensor.as_ref() }.map_or(0, n_bytes)
}

/// Bytes of a block of the tensor's type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_element_size(tensor: *const ggml_tensor) -> usize {
    // SAFETY: NULL or a tensor.
    let ty = unsafe { tensor.as_ref() }.and_then(|t| type_info(t.r#type));
    ty.map_or(0, |t| t.block_bytes)
}

/// Dimensions of a tensor up to the last that is not 1, at least 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_n_dims(tensor: *const ggml_tensor) -> c_int {
    // SAFETY: NULL or a tensor.
    let Some(t) = (unsafe { tensor.as_ref() }) else { return 1 };
    t.ne.iter().rposition(|&n| n > 1).map_or(1, |last| last as c_int + 1)
}

/// Bytes that a tensor takes in a context besides its data, as programs count them for
/// ggml_init_params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_tensor_overhead() -> usize {
    size_of::<ggml_tensor>() + 4 * size_of::<usize>()
}

/// Bytes that a graph of `size` nodes would take in a context: its nodes and leaves, the hash
/// table that finds them, and with grads two more lists.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_graph_overhead_custom(size: usize, grads: cbool) -> usize {
    let lists: usize = if grads != 0 { 8 } else { 5 };
    size.saturating_mul(lists * size_of::<usize>()).saturating_add(512)
}

/// Data of an F32 tensor; NULL for another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_data_f32(tensor: *const ggml_tensor) -> *mut f32 {
    // SAFETY: NULL or a tensor.
    match unsafe { tensor.as_ref() } {
        Some(t) if t.r#type == ggml_type::GGML_TYPE_F32 as c_int => t.data.cast(),
        _ => ptr::null_mut(),
    }
}

/// An element of a tensor in host memory as a float; NaN past its end, without data, or in a
/// type whose elements do not stand alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_f32_nd(
    tensor: *const ggml_tensor,
    i0: c_int,
    i1: c_int,
    i2: c_int,
    i3: c_int,
) -> f32 {
    guard::call(f32::NAN, "ggml_get_f32_nd", || {
        // SAFETY: NULL or a tensor.
        let Some(t) = (unsafe { tensor.as_ref() }) else { return f32::NAN };
        let index = [i0, i1, i2, i3];
        let inside = index.iter().zip(t.ne).all(|(&i, n)| i >= 0 && i64::from(i) < n);
        if !inside || t.data.is_null() {
            return f32::NAN;
        }
        let offset = index.iter().zip(t.nb).try_fold(0usize, |sum, (&i, step)| {
            usize::try_from(i).ok()?.checked_mul(step)?.checked_add(sum)
        });
        let Some(offset) = offset else { return f32::NAN };
        let at: *const c_void = t.data.wrapping_byte_add(offset);
        // SAFETY: inside the tensor, whose data is in host memory.
        unsafe {
            match t.r#type {
                ty if ty == ggml_type::GGML_TYPE_F32 as c_int => at.cast::<f32>().read_unaligned(),
                ty if ty == ggml_type::GGML_TYPE_F16 as c_int => {
                    half::f16::from_bits(at.cast::<u16>().read_unaligned()).to_f32()
                }
                ty if ty == ggml_type::GGML_TYPE_BF16 as c_int => {
                    half::bf16::from_bits(at.cast::<u16>().read_unaligned()).to_f32()
                }
                ty if ty == ggml_type::GGML_TYPE_I8 as c_int => f32::from(at.cast::<i8>().read()),
                ty if ty == ggml_type::GGML_TYPE_I16 as c_int => {
                    f32::from(at.cast::<i16>().read_unaligned())
                }
                ty if ty == ggml_type::GGML_TYPE_I32 as c_int => {
                    at.cast::<i32>().read_unaligned() as f32
                }
                _ => f32::NAN,
            }
        }
    })
}

/// Copies `size` bytes of a tensor from `offset` on; nothing (and a line in the log) when the
/// tensor does not have them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_tensor_get(
    tensor: *const ggml_tensor,
    data: *mut c_void,
    offset: usize,
    size: usize,
) {
    guard::call((), "ggml_backend_tensor_get", || {
        if size == 0 {
            return;
        }
        // SAFETY: NULL or a tensor.
        let tensor = unsafe { tensor.as_ref() };
        let inside = |t: &&ggml_tensor| {
            !t.data.is_null() && offset.checked_add(size).is_some_and(|end| end <= n_bytes(t))
        };
        match tensor.filter(inside) {
            // SAFETY: the range is inside the tensor's data in host memory, and the caller gives
            // room for it.
            Some(t) if !data.is_null() => unsafe {
                let from = t.data.cast::<u8>().add(offset);
                ptr::copy(from, data.cast::<u8>(), size);
            },
            _ => log_error!(
                "ggml_backend_tensor_get: the tensor does not have {size} bytes at {offset}"
            ),
        }
    });
}
