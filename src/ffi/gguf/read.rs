//! Opening files and asking what is in them. An index or type that is not what the file has
//! gives 0 or NULL and a line in the log; ggml would end the process.

use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::gguf_context;
use crate::ffi::ggml::tensor::ggml_context;
use crate::ffi::guard;
use crate::ffi::strings::{array, c_str};
use crate::ffi::types::{GGML_MAX_DIMS, gguf_init_params, gguf_type, gguf_type_e};
use crate::gguf::{Array, Error, Header, Value, parse, parse_prefix};
use crate::log_error;

/// Makes an empty GGUF file in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_empty() -> *mut gguf_context {
    guard::call(ptr::null_mut(), "gguf_init_empty", || {
        Box::into_raw(Box::new(gguf_context::empty()))
    })
}

/// Frees what a gguf_init function made. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_free(ctx: *mut gguf_context) {
    guard::call((), "gguf_free", || {
        if !ctx.is_null() {
            // SAFETY: made by this library, freed once.
            drop(unsafe { Box::from_raw(ctx) });
        }
    });
}

/// Reads the header of a file, taking more of it until it is complete.
fn read_header(file: &mut File, name: &str) -> Result<Header, String> {
    let len = file.metadata().map_err(|e| format!("{name}: {e}"))?.len();
    let mut bytes = Vec::new();
    let mut want = 1 << 20;
    loop {
        let missing = want.min(len).saturating_sub(bytes.len() as u64);
        let read =
            file.take(missing).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
        match parse_prefix(&bytes, len, name) {
            Ok(header) => return Ok(header),
            Err(error) => match error.cause() {
                Error::Truncated { need, .. } if *need <= len && read > 0 => {
                    want = (*need).max(2 * bytes.len() as u64);
                }
                _ => return Err(error.to_string()),
            },
        }
    }
}

/// Makes a ggml context with the tensors of a file; `fill` reads the data of one, given where it
/// begins in the file.
fn tensors_of(
    header: &Header,
    no_alloc: bool,
    mut fill: impl FnMut(u64, &mut [u8]) -> Result<(), String>,
) -> Result<ggml_context, String> {
    let mut ctx = ggml_context::new(no_alloc);
    for t in &header.tensors {
        let mut ne = [1; GGML_MAX_DIMS];
        for (to, from) in ne.iter_mut().zip(t.shape.ne()) {
            *to = i64::try_from(*from).map_err(|e| e.to_string())?;
        }
        let tensor = ctx.add(t.ty as c_int, ne, t.name.as_bytes())?;
        if !no_alloc {
            let size = usize::try_from(t.n_bytes).map_err(|e| e.to_string())?;
            // SAFETY: `add` allocated the data of this type and shape, which no one else sees.
            let data =
                unsafe { core::slice::from_raw_parts_mut((*tensor).data.cast::<u8>(), size) };
            fill(header.data_offset + t.offset, data).map_err(|e| format!("{}: {e}", t.name))?;
        }
    }
    Ok(ctx)
}

/// Gives the handles out, or logs why not.
///
/// # Safety
/// `params.ctx` is NULL or a place to write to.
unsafe fn hand_out(
    name: &str,
    params: &gguf_init_params,
    opened: Result<(Header, Option<ggml_context>), String>,
) -> *mut gguf_context {
    // SAFETY: the caller's promise.
    let place = unsafe { params.ctx.as_mut() };
    match opened {
        Ok((header, tensors)) => {
            if let Some(place) = place {
                *place = tensors.map_or(ptr::null_mut(), |ctx| Box::into_raw(Box::new(ctx)));
            }
            Box::into_raw(Box::new(gguf_context::of(&header)))
        }
        Err(error) => {
            log_error!("{name}: {error}");
            if let Some(place) = place {
                *place = ptr::null_mut();
            }
            ptr::null_mut()
        }
    }
}

/// Reads metadata and tensor table of one file (splits are separate files); NULL on failure. When
/// params.ctx is not NULL it receives a ggml context with the tensors, and unless no_alloc is set
/// their data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_from_file(
    fname: *const c_char,
    params: gguf_init_params,
) -> *mut gguf_context {
    guard::call(ptr::null_mut(), "gguf_init_from_file", || {
        let open = || {
            // SAFETY: NULL or a C string.
            let name = unsafe { c_str(fname) }.ok_or("no file name")?.to_string_lossy();
            let mut file = File::open(&*name).map_err(|e| format!("{name}: {e}"))?;
            let header = read_header(&mut file, &name)?;
            if params.ctx.is_null() {
                return Ok((header, None));
            }
            let tensors = tensors_of(&header, params.no_alloc != 0, |at, data| {
                let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(data));
                read.map_err(|e| format!("{name}: {e}"))
            })?;
            Ok((header, Some(tensors)))
        };
        let opened = open();
        // SAFETY: the caller gives NULL or a place.
        unsafe { hand_out("gguf_init_from_file", &params, opened) }
    })
}

/// Reads metadata and tensor table from memory; NULL on failure. params as in
/// gguf_init_from_file. The memory is not needed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_init_from_buffer(
    data: *const c_void,
    size: usize,
    params: gguf_init_params,
) -> *mut gguf_context {
    guard::call(ptr::null_mut(), "gguf_init_from_buffer", || {
        // SAFETY: NULL or `size` bytes.
        let bytes = unsafe { array(data.cast::<u8>(), size) };
        let open = || {
            let header = parse(bytes, "buffer").map_err(|e| e.to_string())?;
            if params.ctx.is_null() {
                return Ok((header, None));
            }
            let tensors = tensors_of(&header, params.no_alloc != 0, |at, to| {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..to.len()));
                to.copy_from_slice(from.ok_or("the buffer ends inside the data")?);
                Ok(())
            })?;
            Ok((header, Some(tensors)))
        };
        let opened = open();
        // SAFETY: the caller gives NULL or a place.
        unsafe { hand_out("gguf_init_from_buffer", &params, opened) }
    })
}

/// An answer about a context; `None` becomes a line in the log and the fallback.
///
/// # Safety
/// `ctx` is NULL or a context.
unsafe fn ask<'a, T>(
    ctx: *const gguf_context,
    fallback: T,
    name: &str,
    question: impl FnOnce(&'a gguf_context) -> Option<T>,
) -> T {
    // SAFETY: the caller's promise.
    match unsafe { ctx.as_ref() }.and_then(question) {
        Some(answer) => answer,
        None => {
            log_error!("{name}: no context, or the index or type is not what the file has");
            fallback
        }
    }
}

impl gguf_context {
    fn value(&self, key_id: i64) -> Option<&Value> {
        self.entries.get(usize::try_from(key_id).ok()?).map(|entry| &entry.value)
    }

    fn array(&self, key_id: i64) -> Option<&Array> {
        self.value(key_id)?.as_array()
    }
}

/// Where tensor data begins in the file, in bytes; 0 for a file that was not read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_data_offset(ctx: *const gguf_context) -> usize {
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_data_offset", |c| usize::try_from(c.data_offset).ok()) }
}

/// Number of metadata entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_n_kv(ctx: *const gguf_context) -> i64 {
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_n_kv", |c| i64::try_from(c.entries.len()).ok()) }
}

/// Index of a metadata entry; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_find_key(ctx: *const gguf_context, key: *const c_char) -> i64 {
    // SAFETY: NULL or a context; NULL or a C string.
    let (ctx, key) = unsafe { (ctx.as_ref(), c_str(key)) };
    let found = ctx.zip(key).and_then(|(ctx, key)| ctx.find(key));
    found.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1)
}

/// Name of a metadata entry, valid until the context changes; NULL for a bad index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_key(ctx: *const gguf_context, key_id: i64) -> *const c_char {
    let key = |c: &gguf_context| Some(c.entries.get(usize::try_from(key_id).ok()?)?.key.as_ptr());
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, ptr::null(), "gguf_get_key", key) }
}

const NO_TYPE: gguf_type_e = gguf_type::GGUF_TYPE_COUNT as gguf_type_e;

/// Type of a metadata entry; GGUF_TYPE_COUNT for a bad index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_kv_type(ctx: *const gguf_context, key_id: i64) -> gguf_type_e {
    let ty = |c: &gguf_context| Some(c.value(key_id)?.gguf_type() as gguf_type_e);
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, NO_TYPE, "gguf_get_kv_type", ty) }
}

/// Element type of an array entry; GGUF_TYPE_COUNT for another entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_type(ctx: *const gguf_context, key_id: i64) -> gguf_type_e {
    let ty = |c: &gguf_context| Some(c.array(key_id)?.elem_type() as gguf_type_e);
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, NO_TYPE, "gguf_get_arr_type", ty) }
}

/// Value of a UINT16 entry; 0 for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u16(ctx: *const gguf_context, key_id: i64) -> u16 {
    let value = |c: &gguf_context| match c.value(key_id)? {
        Value::U16(v) => Some(*v),
        _ => None,
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_val_u16", value) }
}

/// Value of a UINT32 entry; 0 for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u32(ctx: *const gguf_context, key_id: i64) -> u32 {
    let value = |c: &gguf_context| match c.value(key_id)? {
        Value::U32(v) => Some(*v),
        _ => None,
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_val_u32", value) }
}

/// Value of an INT32 entry; 0 for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_i32(ctx: *const gguf_context, key_id: i64) -> i32 {
    let value = |c: &gguf_context| match c.value(key_id)? {
        Value::I32(v) => Some(*v),
        _ => None,
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_val_i32", value) }
}

/// Value of a UINT64 entry; 0 for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_u64(ctx: *const gguf_context, key_id: i64) -> u64 {
    let value = |c: &gguf_context| match c.value(key_id)? {
        Value::U64(v) => Some(*v),
        _ => None,
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_val_u64", value) }
}

/// Value of a STRING entry, valid until the context changes; NULL for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_val_str(ctx: *const gguf_context, key_id: i64) -> *const c_char {
    let text = |c: &gguf_context| {
        Some(c.value(key_id)?.as_byte_str()?.as_bytes_with_nul().as_ptr().cast())
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, ptr::null(), "gguf_get_val_str", text) }
}

/// Number of elements of an array entry; 0 for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_n(ctx: *const gguf_context, key_id: i64) -> usize {
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_arr_n", |c| Some(c.array(key_id)?.len())) }
}

/// The i-th element of an array of strings, valid until the context changes; NULL past the end
/// or for another entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_arr_str(
    ctx: *const gguf_context,
    key_id: i64,
    i: usize,
) -> *const c_char {
    let text = |c: &gguf_context| match c.array(key_id)? {
        Array::Str(strings) => Some(strings.get_with_nul(i)?.as_ptr().cast()),
        _ => None,
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, ptr::null(), "gguf_get_arr_str", text) }
}

/// Number of tensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_n_tensors(ctx: *const gguf_context) -> i64 {
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_n_tensors", |c| i64::try_from(c.tensors.len()).ok()) }
}

/// Index of a tensor; -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_find_tensor(ctx: *const gguf_context, name: *const c_char) -> i64 {
    // SAFETY: NULL or a context; NULL or a C string.
    let (ctx, name) = unsafe { (ctx.as_ref(), c_str(name)) };
    let found = ctx.zip(name).and_then(|(ctx, name)| ctx.find_tensor(name));
    found.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1)
}

/// Where a tensor's data begins, counted from the data offset; 0 for a bad index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_tensor_offset(ctx: *const gguf_context, tensor_id: i64) -> usize {
    let offset = |c: &gguf_context| {
        usize::try_from(c.tensors.get(usize::try_from(tensor_id).ok()?)?.offset).ok()
    };
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, 0, "gguf_get_tensor_offset", offset) }
}

/// Name of a tensor, valid until the context changes; NULL for a bad index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_tensor_name(
    ctx: *const gguf_context,
    tensor_id: i64,
) -> *const c_char {
    let name =
        |c: &gguf_context| Some(c.tensors.get(usize::try_from(tensor_id).ok()?)?.name.as_ptr());
    // SAFETY: NULL or a context.
    unsafe { ask(ctx, ptr::null(), "gguf_get_tensor_name", name) }
}
