//! Changing metadata and tensor table, and writing files. What cannot be done is left out with a
//! line in the log.

use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use std::fs::File;
use std::io::{BufWriter, Write};

use super::{Entry, Tensor, gguf_context};
use crate::ffi::ggml::numbers::type_info;
use crate::ffi::ggml::tensor::n_bytes;
use crate::ffi::guard;
use crate::ffi::strings::{array, c_str};
use crate::ffi::types::{GGML_MAX_DIMS, cbool, ggml_tensor};
use crate::gguf::{Array, ByteStr, Magic, StrArray, Value, Writer};
use crate::log_error;

const ALIGNMENT_KEY: &str = "general.alignment";

/// Sets an entry: a new one at the end, also for a key that was there.
///
/// # Safety
/// `ctx` is NULL or a context that no one else uses now, `key` NULL or a C string.
unsafe fn set(ctx: *mut gguf_context, key: *const c_char, name: &str, value: Option<Value>) {
    guard::call((), name, || {
        // SAFETY: the caller's promise.
        let (ctx, key) = unsafe { (ctx.as_mut(), c_str(key)) };
        let (Some(ctx), Some(key), Some(value)) = (ctx, key, value) else {
            log_error!("{name}: no context, key or value");
            return;
        };
        if let Err(error) = ctx.set(key, value) {
            log_error!("{name}: {error}");
        }
    });
}

impl gguf_context {
    fn set(&mut self, key: &CStr, value: Value) -> Result<(), String> {
        let text = key.to_str().map_err(|e| format!("key {key:?}: {e}"))?;
        let mut probe = Writer::new(Magic::Gguf);
        probe.set(text, value.clone()).map_err(|e| e.to_string())?;
        if text == ALIGNMENT_KEY {
            self.alignment = probe.alignment();
        }
        if let Some(old) = self.find(key) {
            self.entries.remove(old);
        }
        self.entries.push(Entry { key: key.to_owned(), value });
        Ok(())
    }

    /// The file without its data, padded to where that begins.
    fn header(&self) -> Result<Vec<u8>, String> {
        let [_, all] = self.writers()?;
        let mut bytes = all.header().map_err(|e| e.to_string())?;
        bytes.resize(self.pad(bytes.len() as u64) as usize, 0);
        Ok(bytes)
    }

    /// A writer of the same pairs, and one of the tensor table too.
    pub(in crate::ffi) fn writers(&self) -> Result<[Writer; 2], String> {
        let mut pairs = Writer::new(Magic::Gguf);
        for entry in &self.entries {
            let key = entry.key.to_str().map_err(|e| e.to_string())?;
            pairs.set(key, entry.value.clone()).map_err(|e| e.to_string())?;
        }
        let mut all = pairs.clone();
        for tensor in &self.tensors {
            let name = tensor.name.to_str().map_err(|e| e.to_string())?;
            all.add_tensor(name, &tensor.dims, tensor.ty).map_err(|e| e.to_string())?;
        }
        Ok([pairs, all])
    }

    fn pad(&self, offset: u64) -> u64 {
        offset.next_multiple_of(self.alignment.max(1))
    }

    fn add(&mut self, tensor: &ggml_tensor) -> Result<(), String> {
        // SAFETY: C keeps the name of a tensor terminated.
        let name = unsafe { CStr::from_ptr(tensor.name.as_ptr()) };
        if self.find_tensor(name).is_some() {
            return Err(format!("a tensor {name:?} is there already"));
        }
        let info = type_info(tensor.r#type).ok_or("the tensor has no known type")?;
        let mut dims = Vec::with_capacity(GGML_MAX_DIMS);
        for n in tensor.ne {
            dims.push(u64::try_from(n).map_err(|_| format!("{name:?}: shape {:?}", tensor.ne))?);
        }
        let last = dims.iter().rposition(|&n| n != 1).unwrap_or(0);
        dims.truncate(last + 1);
        let offset = self.tensors.last().map_or(0, |t| self.pad(t.offset + t.n_bytes));
        let n_bytes = n_bytes(tensor) as u64;
        let data = tensor.data.cast_const();
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dims,
            ty: info.ty,
            n_bytes,
            offset,
            data,
        });
        Ok(())
    }

    fn write(&self, path: &str, only_meta: bool) -> Result<(), String> {
        let header = self.header()?;
        let mut out = BufWriter::new(File::create(path).map_err(|e| format!("{path}: {e}"))?);
        out.write_all(&header).map_err(|e| format!("{path}: {e}"))?;
        for tensor in self.tensors.iter().filter(|_| !only_meta) {
            if tensor.data.is_null() && tensor.n_bytes > 0 {
                return Err(format!("{path}: tensor {:?} has no data", tensor.name));
            }
            let size = usize::try_from(tensor.n_bytes).map_err(|e| e.to_string())?;
            // SAFETY: the tensor that was added had that many bytes, and C keeps them until here.
            let bytes = unsafe { array(tensor.data.cast::<u8>(), size) };
            let padding = vec![0; (self.pad(tensor.n_bytes) - tensor.n_bytes) as usize];
            out.write_all(bytes)
                .and_then(|()| out.write_all(&padding))
                .map_err(|e| e.to_string())?;
        }
        out.flush().map_err(|e| format!("{path}: {e}"))
    }
}

/// Sets a UINT8 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u8(ctx: *mut gguf_context, key: *const c_char, val: u8) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_u8", Some(Value::U8(val))) }
}

/// Sets an INT8 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i8(ctx: *mut gguf_context, key: *const c_char, val: i8) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_i8", Some(Value::I8(val))) }
}

/// Sets a UINT16 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u16(ctx: *mut gguf_context, key: *const c_char, val: u16) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_u16", Some(Value::U16(val))) }
}

/// Sets an INT16 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i16(ctx: *mut gguf_context, key: *const c_char, val: i16) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_i16", Some(Value::I16(val))) }
}

/// Sets a UINT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u32(ctx: *mut gguf_context, key: *const c_char, val: u32) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_u32", Some(Value::U32(val))) }
}

/// Sets an INT32 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i32(ctx: *mut gguf_context, key: *const c_char, val: i32) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_i32", Some(Value::I32(val))) }
}

/// Sets a UINT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_u64(ctx: *mut gguf_context, key: *const c_char, val: u64) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_u64", Some(Value::U64(val))) }
}

/// Sets an INT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_i64(ctx: *mut gguf_context, key: *const c_char, val: i64) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_i64", Some(Value::I64(val))) }
}

/// Sets a FLOAT64 entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_f64(ctx: *mut gguf_context, key: *const c_char, val: f64) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_f64", Some(Value::F64(val))) }
}

/// Sets a BOOL entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_bool(ctx: *mut gguf_context, key: *const c_char, val: cbool) {
    // SAFETY: passed on.
    unsafe { set(ctx, key, "gguf_set_val_bool", Some(Value::Bool(val != 0))) }
}

/// Sets a STRING entry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_val_str(
    ctx: *mut gguf_context,
    key: *const c_char,
    val: *const c_char,
) {
    // SAFETY: passed on; the value is NULL or a C string.
    unsafe {
        let text = c_str(val).map(|val| Value::Str(ByteStr::new(val.to_bytes())));
        set(ctx, key, "gguf_set_val_str", text);
    }
}

/// Sets an array of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_arr_str(
    ctx: *mut gguf_context,
    key: *const c_char,
    data: *mut *const c_char,
    n: usize,
) {
    // SAFETY: passed on; data has n C strings.
    unsafe {
        let items = array(data.cast_const(), n);
        let texts: Option<StrArray> = items.iter().map(|&s| c_str(s).map(CStr::to_bytes)).collect();
        let whole = items.len() == n;
        let value = texts.filter(|_| whole).map(|texts| Value::Array(Array::Str(texts)));
        set(ctx, key, "gguf_set_arr_str", value);
    }
}

/// Copies all entries of another file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_set_kv(ctx: *mut gguf_context, src: *const gguf_context) {
    guard::call((), "gguf_set_kv", || {
        if ptr::eq(ctx, src) {
            return; // it has them
        }
        // SAFETY: NULL or contexts; they are two.
        let (Some(ctx), Some(src)) = (unsafe { (ctx.as_mut(), src.as_ref()) }) else {
            log_error!("gguf_set_kv: no context");
            return;
        };
        for entry in &src.entries {
            if let Err(error) = ctx.set(&entry.key, entry.value.clone()) {
                log_error!("gguf_set_kv: {error}");
            }
        }
    });
}

/// Adds a tensor to the table. Its data is read when the file is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_add_tensor(ctx: *mut gguf_context, tensor: *const ggml_tensor) {
    guard::call((), "gguf_add_tensor", || {
        // SAFETY: NULL or a context that no one else uses now; NULL or a tensor.
        let (Some(ctx), Some(tensor)) = (unsafe { (ctx.as_mut(), tensor.as_ref()) }) else {
            log_error!("gguf_add_tensor: no context or tensor");
            return;
        };
        if let Err(error) = ctx.add(tensor) {
            log_error!("gguf_add_tensor: {error}");
        }
    });
}

/// Writes the file, or only its metadata; false on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_write_to_file(
    ctx: *const gguf_context,
    fname: *const c_char,
    only_meta: cbool,
) -> bool {
    guard::call(false, "gguf_write_to_file", || {
        // SAFETY: NULL or a context; NULL or a C string.
        let (Some(ctx), Some(fname)) = (unsafe { (ctx.as_ref(), c_str(fname)) }) else {
            log_error!("gguf_write_to_file: no context or file name");
            return false;
        };
        let written = ctx.write(&fname.to_string_lossy(), only_meta != 0);
        written.map_err(|error| log_error!("gguf_write_to_file: {error}")).is_ok()
    })
}

/// Bytes of metadata and tensor table, padded to where data begins; 0 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_meta_size(ctx: *const gguf_context) -> usize {
    guard::call(0, "gguf_get_meta_size", || {
        // SAFETY: NULL or a context.
        let header = unsafe { ctx.as_ref() }.ok_or("no context".to_owned());
        match header.and_then(gguf_context::header) {
            Ok(bytes) => bytes.len(),
            Err(error) => {
                log_error!("gguf_get_meta_size: {error}");
                0
            }
        }
    })
}

/// Copies metadata and tensor table, gguf_get_meta_size bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gguf_get_meta_data(ctx: *const gguf_context, data: *mut c_void) {
    guard::call((), "gguf_get_meta_data", || {
        // SAFETY: NULL or a context.
        let header = unsafe { ctx.as_ref() }.ok_or("no context".to_owned());
        match header.and_then(gguf_context::header) {
            // SAFETY: the caller gives room for as many bytes as gguf_get_meta_size says.
            Ok(bytes) if !data.is_null() => unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), bytes.len());
            },
            Ok(_) => log_error!("gguf_get_meta_data: nowhere to copy to"),
            Err(error) => log_error!("gguf_get_meta_data: {error}"),
        }
    });
}
