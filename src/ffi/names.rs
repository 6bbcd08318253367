//! Names of enum values, and names of split files.

use core::ffi::{c_char, c_int};
use std::ffi::CString;

use once_cell::sync::OnceCell;

use super::guard;
use super::strings::{c_str, snprintf};
use super::types::{
    llama_flash_attn_type as FlashAttn, llama_flash_attn_type_e, llama_ftype_e,
    llama_load_mode as LoadMode, llama_load_mode_e, llama_model_meta_key as MetaKey,
    llama_model_meta_key_e,
};
use crate::api::Ftype;
use crate::log_error;

/// Name of a file type, for example "Q4_0". The bit GUESSED puts "(guessed) " before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_ftype_name(ftype: llama_ftype_e) -> *const c_char {
    /// More than there are types: a greater number has no name.
    const N: u32 = 64;
    static NAMES: OnceCell<[Vec<CString>; 2]> = OnceCell::new();
    guard::call(c"".as_ptr(), "llama_ftype_name", || {
        let ftype = Ftype::from_c_id(ftype.cast_unsigned());
        let names = NAMES.get_or_init(|| {
            [false, true].map(|guessed| {
                let name = |id| CString::new(Ftype { id, guessed }.name()).unwrap_or_default();
                (0..=N).map(name).collect()
            })
        });
        names[usize::from(ftype.guessed)][ftype.id.min(N) as usize].as_ptr()
    })
}

/// "auto", "disabled" or "enabled"; "unknown" for another number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_flash_attn_type_name(
    flash_attn_type: llama_flash_attn_type_e,
) -> *const c_char {
    use FlashAttn::*;
    match FlashAttn::try_from(flash_attn_type) {
        Ok(LLAMA_FLASH_ATTN_TYPE_AUTO) => c"auto",
        Ok(LLAMA_FLASH_ATTN_TYPE_DISABLED) => c"disabled",
        Ok(LLAMA_FLASH_ATTN_TYPE_ENABLED) => c"enabled",
        Err(_) => c"unknown",
    }
    .as_ptr()
}

/// Every load mode with its name.
const LOAD_MODES: [(LoadMode, &core::ffi::CStr); 6] = [
    (LoadMode::LLAMA_LOAD_MODE_AUTO, c"auto"),
    (LoadMode::LLAMA_LOAD_MODE_NONE, c"none"),
    (LoadMode::LLAMA_LOAD_MODE_MMAP, c"mmap"),
    (LoadMode::LLAMA_LOAD_MODE_MLOCK, c"mlock"),
    (LoadMode::LLAMA_LOAD_MODE_MMAP_MLOCK, c"mmap+mlock"),
    (LoadMode::LLAMA_LOAD_MODE_DIRECT_IO, c"dio"),
];

/// Name of a load mode; "unknown" for another number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_load_mode_name(load_mode: llama_load_mode_e) -> *const c_char {
    let found = LOAD_MODES.iter().find(|(mode, _)| *mode as c_int == load_mode);
    found.map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// The load mode with this name; AUTO (and a line in the log) when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_load_mode_from_str(str: *const c_char) -> llama_load_mode_e {
    let auto = LoadMode::LLAMA_LOAD_MODE_AUTO as c_int;
    guard::call(auto, "llama_load_mode_from_str", || {
        // SAFETY: a C string argument.
        let wanted = unsafe { c_str(str) }.unwrap_or_default();
        match LOAD_MODES.iter().find(|(_, name)| *name == wanted) {
            Some((mode, _)) => *mode as c_int,
            None => {
                log_error!("llama_load_mode_from_str: unknown load mode {wanted:?}");
                auto
            }
        }
    })
}

/// Name of a well-known metadata key; NULL when the number is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_key_str(key: llama_model_meta_key_e) -> *const c_char {
    use MetaKey::*;
    let Ok(key) = MetaKey::try_from(key) else { return core::ptr::null() };
    match key {
        LLAMA_MODEL_META_KEY_SAMPLING_SEQUENCE => c"general.sampling.sequence",
        LLAMA_MODEL_META_KEY_SAMPLING_TOP_K => c"general.sampling.top_k",
        LLAMA_MODEL_META_KEY_SAMPLING_TOP_P => c"general.sampling.top_p",
        LLAMA_MODEL_META_KEY_SAMPLING_MIN_P => c"general.sampling.min_p",
        LLAMA_MODEL_META_KEY_SAMPLING_XTC_PROBABILITY => c"general.sampling.xtc_probability",
        LLAMA_MODEL_META_KEY_SAMPLING_XTC_THRESHOLD => c"general.sampling.xtc_threshold",
        LLAMA_MODEL_META_KEY_SAMPLING_TEMP => c"general.sampling.temp",
        LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_LAST_N => c"general.sampling.penalty_last_n",
        LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_REPEAT => c"general.sampling.penalty_repeat",
        LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT => c"general.sampling.mirostat",
        LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_TAU => c"general.sampling.mirostat_tau",
        LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_ETA => c"general.sampling.mirostat_eta",
    }
    .as_ptr()
}

/// What stands behind the prefix of split number `no`, counted from 0.
fn split_suffix(no: i32, count: i32) -> String {
    format!("-{:05}-of-{count:05}.gguf", i64::from(no) + 1)
}

/// Writes the name of split number split_no (from 0) of split_count; returns its length, 0 when
/// it does not fit into maxlen bytes with its NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_split_path(
    split_path: *mut c_char,
    maxlen: usize,
    path_prefix: *const c_char,
    split_no: i32,
    split_count: i32,
) -> i32 {
    guard::call(0, "llama_split_path", || {
        // SAFETY: a C string argument.
        let Some(prefix) = (unsafe { c_str(path_prefix) }) else { return 0 };
        let path = [prefix.to_bytes(), split_suffix(split_no, split_count).as_bytes()].concat();
        // SAFETY: the caller gives maxlen bytes.
        let len = unsafe { snprintf(split_path, maxlen, &path) };
        if path.len() < maxlen { len } else { 0 }
    })
}

/// Writes the prefix of a split file's name; returns its length, 0 when the name is not that of
/// split number split_no (from 0) of split_count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_split_prefix(
    split_prefix: *mut c_char,
    maxlen: usize,
    split_path: *const c_char,
    split_no: i32,
    split_count: i32,
) -> i32 {
    guard::call(0, "llama_split_prefix", || {
        // SAFETY: a C string argument.
        let Some(path) = (unsafe { c_str(split_path) }) else { return 0 };
        let suffix = split_suffix(split_no, split_count);
        match path.to_bytes().strip_suffix(suffix.as_bytes()) {
            // SAFETY: the caller gives maxlen bytes.
            Some(prefix) if !prefix.is_empty() => unsafe { snprintf(split_prefix, maxlen, prefix) },
            _ => 0,
        }
    })
}
