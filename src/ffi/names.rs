//! Names of enum values, and names of split files.

use core::ffi::{c_char, c_int};

use super::guard;
use super::strings::{c_str, snprintf};
use super::types::{
    llama_flash_attn_type as FlashAttn, llama_flash_attn_type_e, llama_ftype as Ftype,
    llama_ftype_e, llama_load_mode as LoadMode, llama_load_mode_e, llama_model_meta_key as MetaKey,
    llama_model_meta_key_e,
};
use crate::log_error;

/// Name of a file type, for example "Q4_0". The bit GUESSED puts "(guessed) " before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_ftype_name(ftype: llama_ftype_e) -> *const c_char {
    const GUESSED: c_int = Ftype::LLAMA_FTYPE_GUESSED as c_int;
    const PREFIX: usize = "(guessed) ".len();
    let guessed = ftype & GUESSED != 0;
    let name = ftype_name(ftype & !GUESSED).to_bytes_with_nul();
    // The names begin with the prefix; an ordinary one starts behind it.
    name[if guessed { 0 } else { PREFIX }..].as_ptr().cast()
}

fn ftype_name(ftype: c_int) -> &'static core::ffi::CStr {
    use Ftype::*;
    match Ftype::try_from(ftype) {
        Ok(LLAMA_FTYPE_ALL_F32) => c"(guessed) all F32",
        Ok(LLAMA_FTYPE_MOSTLY_F16) => c"(guessed) F16",
        Ok(LLAMA_FTYPE_MOSTLY_BF16) => c"(guessed) BF16",
        Ok(LLAMA_FTYPE_MOSTLY_Q1_0) => c"(guessed) Q1_0",
        Ok(LLAMA_FTYPE_MOSTLY_Q2_0) => c"(guessed) Q2_0",
        Ok(LLAMA_FTYPE_MOSTLY_Q4_0) => c"(guessed) Q4_0",
        Ok(LLAMA_FTYPE_MOSTLY_Q4_1) => c"(guessed) Q4_1",
        Ok(LLAMA_FTYPE_MOSTLY_Q5_0) => c"(guessed) Q5_0",
        Ok(LLAMA_FTYPE_MOSTLY_Q5_1) => c"(guessed) Q5_1",
        Ok(LLAMA_FTYPE_MOSTLY_Q8_0) => c"(guessed) Q8_0",
        Ok(LLAMA_FTYPE_MOSTLY_Q2_K) => c"(guessed) Q2_K - Medium",
        Ok(LLAMA_FTYPE_MOSTLY_Q2_K_S) => c"(guessed) Q2_K - Small",
        Ok(LLAMA_FTYPE_MOSTLY_Q3_K_S) => c"(guessed) Q3_K - Small",
        Ok(LLAMA_FTYPE_MOSTLY_Q3_K_M) => c"(guessed) Q3_K - Medium",
        Ok(LLAMA_FTYPE_MOSTLY_Q3_K_L) => c"(guessed) Q3_K - Large",
        Ok(LLAMA_FTYPE_MOSTLY_Q4_K_S) => c"(guessed) Q4_K - Small",
        Ok(LLAMA_FTYPE_MOSTLY_Q4_K_M) => c"(guessed) Q4_K - Medium",
        Ok(LLAMA_FTYPE_MOSTLY_Q5_K_S) => c"(guessed) Q5_K - Small",
        Ok(LLAMA_FTYPE_MOSTLY_Q5_K_M) => c"(guessed) Q5_K - Medium",
        Ok(LLAMA_FTYPE_MOSTLY_Q6_K) => c"(guessed) Q6_K",
        Ok(LLAMA_FTYPE_MOSTLY_IQ2_XXS) => c"(guessed) IQ2_XXS - 2.0625 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ2_XS) => c"(guessed) IQ2_XS - 2.3125 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ2_S) => c"(guessed) IQ2_S - 2.5 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ2_M) => c"(guessed) IQ2_M - 2.7 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ3_XS) => c"(guessed) IQ3_XS - 3.3 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ3_XXS) => c"(guessed) IQ3_XXS - 3.0625 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ3_S) => c"(guessed) IQ3_S - 3.4375 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ3_M) => c"(guessed) IQ3_S mix - 3.66 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ1_S) => c"(guessed) IQ1_S - 1.5625 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ1_M) => c"(guessed) IQ1_M - 1.75 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ4_NL) => c"(guessed) IQ4_NL - 4.5 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_IQ4_XS) => c"(guessed) IQ4_XS - 4.25 bpw",
        Ok(LLAMA_FTYPE_MOSTLY_TQ1_0) => c"(guessed) TQ1_0 - 1.69 bpw ternary",
        Ok(LLAMA_FTYPE_MOSTLY_TQ2_0) => c"(guessed) TQ2_0 - 2.06 bpw ternary",
        Ok(LLAMA_FTYPE_MOSTLY_MXFP4_MOE) => c"(guessed) MXFP4 MoE",
        Ok(LLAMA_FTYPE_MOSTLY_NVFP4) => c"(guessed) NVFP4",
        Ok(LLAMA_FTYPE_GUESSED) | Err(_) => c"(guessed) unknown, may not work",
    }
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
