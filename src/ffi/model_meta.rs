//! Metadata of a model as text: scalar values of the file, without arrays. All functions behave
//! like `snprintf`: the full length is returned, what is written is cut to the buffer and ends
//! with a NUL; -1 and an empty string when there is nothing.

use core::ffi::c_char;

use super::guard;
use super::load::{llama_model, model_ref};
use super::strings::{c_str, text_or_miss};
use crate::gguf::{Metadata, Value};

/// The entries that these functions number: all but arrays, in the order of the file.
pub(super) fn entries(meta: &Metadata) -> impl Iterator<Item = (&str, &Value)> {
    meta.iter().filter(|(_, value)| !matches!(value, Value::Array(_)))
}

/// One of them.
pub(super) fn entry(meta: &Metadata, i: i32) -> Option<(&str, &Value)> {
    entries(meta).nth(usize::try_from(i).ok()?)
}

/// A scalar as programs expect it: floats with six decimals.
pub(super) fn text(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Str(text) => text.as_bytes().to_vec(),
        Value::Bool(flag) => flag.to_string().into_bytes(),
        Value::F32(number) => format!("{number:.6}").into_bytes(),
        Value::F64(number) => format!("{number:.6}").into_bytes(),
        Value::Array(_) => return None,
        integer => integer.as_int()?.to_string().into_bytes(),
    })
}

/// Metadata value as text: its length, or -1 and an empty string when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_val_str(
    model: *const llama_model,
    key: *const c_char,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_model_meta_val_str", || {
        // SAFETY: NULL or a model; NULL or a C string.
        let (model, key) = unsafe { (model_ref(model), c_str(key)) };
        let found = model
            .zip(key)
            .and_then(|(model, key)| text(model.model.meta().file_value(key.to_str().ok()?)?));
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, found.as_deref()) }
    })
}

/// Number of metadata entries, arrays not counted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_count(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    let n = unsafe { model_ref(model) }.map_or(0, |model| entries(model.model.meta()).count());
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Name of the i-th metadata entry: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_key_by_index(
    model: *const llama_model,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_model_meta_key_by_index", || {
        // SAFETY: NULL or a model.
        let model = unsafe { model_ref(model) };
        let key = model.and_then(|model| entry(model.model.meta(), i)).map(|e| e.0);
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, key.map(str::as_bytes)) }
    })
}

/// Value of the i-th metadata entry as text: its length, or -1 and an empty string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_val_str_by_index(
    model: *const llama_model,
    i: i32,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_model_meta_val_str_by_index", || {
        // SAFETY: NULL or a model.
        let model = unsafe { model_ref(model) };
        let entry = model.and_then(|model| entry(model.model.meta(), i));
        let value = entry.and_then(|(_, value)| text(value));
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, value.as_deref()) }
    })
}

/// Describes the model, for example "llama 8B Q4_0"; returns the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_desc(
    model: *const llama_model,
    buf: *mut c_char,
    buf_size: usize,
) -> i32 {
    guard::call(-1, "llama_model_desc", || {
        // SAFETY: NULL or a model.
        let text = unsafe { model_ref(model) }.map(|model| model.model.description());
        // SAFETY: the caller's buffer has buf_size bytes.
        unsafe { text_or_miss(buf, buf_size, text.as_deref().map(str::as_bytes)) }
    })
}
