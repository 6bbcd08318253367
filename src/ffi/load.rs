//! Loading and freeing models.

use core::ffi::{CStr, c_char, c_void};
use core::mem::ManuallyDrop;
use core::ptr;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::adapter::Owned;
use super::ggml::buffer::ggml_backend_cpu_buffer_type;
use super::ggml::cards;
use super::guard;
use super::offload::Offload;
use super::strings::c_str;
use super::types::{
    llama_model_kv_override, llama_model_kv_override_type, llama_model_params,
    llama_model_tensor_buft_override, llama_progress_callback,
};
use crate::api::{Error, KvOverride, LoadMode, LoadOptions, Model, OverrideValue, Progress};
use crate::util::log::{Level, emit};
use crate::util::sys::time_us;
use crate::{log_error, log_info};

/// A loaded model.
pub struct llama_model {
    /// The model itself.
    pub model: Model,
    /// Number of the GPU that layers of it are on, or would be with memory.
    pub(super) card: Option<usize>,
    /// Time that loading took, in microseconds.
    pub t_load_us: i64,
    /// Adapters that were loaded for it and not freed.
    pub(super) adapters: Arc<Owned>,
}

/// The model behind a handle; `None` for NULL.
///
/// # Safety
/// `model` is NULL or a model that was not freed and outlives `'a`.
pub(super) unsafe fn model_ref<'a>(model: *const llama_model) -> Option<&'a llama_model> {
    // SAFETY: the caller's promise; a model is never changed.
    unsafe { model.as_ref() }
}

/// Tells a program how far loading is; without a callback prints dots through the log.
struct CallProgress {
    callback: llama_progress_callback,
    user_data: *mut c_void,
    dots: u32,
}

impl Progress for CallProgress {
    fn update(&mut self, done: f32) -> bool {
        match self.callback {
            // SAFETY: the caller gave the function together with its data.
            Some(callback) => unsafe { callback(done, self.user_data) != 0 },
            None => {
                let dots = (done * 100.0) as u32;
                for dot in self.dots..dots {
                    emit(Level::Cont, format_args!("{}", if dot == 99 { ".\n" } else { "." }));
                }
                self.dots = self.dots.max(dots);
                true
            }
        }
    }
}

/// Converts parameters; `None`, with a line in the log, when one makes no sense here.
///
/// # Safety
/// The pointers of `params` are NULL or valid, and its overrides end with an empty key.
unsafe fn options(params: &llama_model_params) -> Option<LoadOptions> {
    let Some(mode) = LoadMode::from_id(params.load_mode) else {
        log_error!("unknown load mode {}", params.load_mode);
        return None;
    };
    // SAFETY: the caller's list is NULL or ends with an entry without a pattern.
    unsafe { check_places(params.tensor_buft_overrides) }?;
    Some(LoadOptions {
        mode,
        // SAFETY: the caller's promise.
        kv_overrides: unsafe { overrides(params.kv_overrides) }?,
        vocab_only: params.vocab_only != 0,
        no_alloc: params.no_alloc != 0,
        check_tensors: params.check_tensors != 0,
        ..LoadOptions::default()
    })
}

/// Tensors that are asked to be in the processor's memory are there anyway; for what a GPU gets as
/// well see [`Offload`].
///
/// # Safety
/// `list` is NULL or ends with an entry without a pattern.
unsafe fn check_places(mut list: *const llama_model_tensor_buft_override) -> Option<()> {
    // SAFETY: by contract.
    while let Some(entry) = unsafe { list.as_ref() }.filter(|entry| !entry.pattern.is_null()) {
        // SAFETY: a function without conditions.
        let on_cpu = entry.buft == unsafe { ggml_backend_cpu_buffer_type() };
        if !on_cpu && !cards::is_buffer_type(entry.buft) {
            log_error!("tensor_buft_overrides: no buffer type of a device of this library");
            return None;
        }
        // SAFETY: this was not the last entry.
        list = unsafe { list.add(1) };
    }
    Some(())
}

/// # Safety
/// `list` is NULL or ends with an empty key.
pub(super) unsafe fn overrides(list: *const llama_model_kv_override) -> Option<Vec<KvOverride>> {
    use llama_model_kv_override_type::*;
    let mut result = Vec::new();
    if list.is_null() {
        return Some(result);
    }
    for i in 0.. {
        // SAFETY: entries up to the one with the empty key are there.
        let entry = unsafe { &*list.add(i) };
        let key = text(&entry.key);
        if key.is_empty() {
            return Some(result);
        }
        // SAFETY: reading a member of the union that the tag names; all bytes are initialised,
        // and every member is a plain number or text.
        let value = unsafe {
            match llama_model_kv_override_type::try_from(entry.tag) {
                Ok(LLAMA_KV_OVERRIDE_TYPE_INT) => OverrideValue::Int(entry.value.val_i64),
                Ok(LLAMA_KV_OVERRIDE_TYPE_FLOAT) => OverrideValue::Float(entry.value.val_f64),
                Ok(LLAMA_KV_OVERRIDE_TYPE_BOOL) => OverrideValue::Bool(entry.value.val_bool != 0),
                Ok(LLAMA_KV_OVERRIDE_TYPE_STR) => OverrideValue::Str(text(&entry.value.val_str)),
                Err(_) => {
                    log_error!("override of '{key}' has the unknown type {}", entry.tag);
                    return None;
                }
            }
        };
        result.push(KvOverride { key, value });
    }
    None
}

/// Text of a fixed-size field, up to its NUL or its end.
fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|&c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path of any bytes.
pub(super) fn c_path(text: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

/// Loads with converted parameters and makes a handle, or logs why not and gives NULL.
///
/// # Safety
/// As for [`options`].
pub(super) unsafe fn load_with(
    name: &str,
    params: &llama_model_params,
    load: impl FnOnce(&LoadOptions, &mut dyn Progress) -> Result<Model, Error>,
) -> *mut llama_model {
    let start = time_us();
    // SAFETY: the caller's promise.
    let Some(options) = (unsafe { options(params) }) else { return ptr::null_mut() };
    // SAFETY: the caller's promise.
    let Some(offload) = (unsafe { Offload::of(params) }) else { return ptr::null_mut() };
    let mut progress = CallProgress {
        callback: params.progress_callback,
        user_data: params.progress_callback_user_data,
        dots: 0,
    };
    match load(&options, &mut progress) {
        Ok(mut model) => {
            let card = offload.bring(&mut model);
            let t_load_us = time_us() - start;
            log_info!("{name}: loaded {} in {} ms", model.description(), t_load_us / 1000);
            Box::into_raw(Box::new(llama_model {
                model,
                card,
                t_load_us,
                adapters: Arc::default(),
            }))
        }
        Err(error) => {
            log_error!("{name}: {error}");
            ptr::null_mut()
        }
    }
}

/// Loads a model; NULL when that fails. A file of a split set must be the first one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_load_from_file(
    path_model: *const c_char,
    params: llama_model_params,
) -> *mut llama_model {
    guard::call(ptr::null_mut(), "llama_model_load_from_file", || {
        // SAFETY: the caller passes NULL or a terminated string.
        let Some(path) = (unsafe { c_str(path_model) }) else {
            log_error!("llama_model_load_from_file: the path is NULL");
            return ptr::null_mut();
        };
        let path = c_path(path);
        let load = |options: &LoadOptions, progress: &mut dyn Progress| {
            Model::load(path, options, progress)
        };
        // SAFETY: the caller's parameters.
        unsafe { load_with("llama_model_load_from_file", &params, load) }
    })
}

/// Loads a model; NULL when that fails.
#[deprecated(note = "use llama_model_load_from_file instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_load_model_from_file(
    path_model: *const c_char,
    params: llama_model_params,
) -> *mut llama_model {
    // SAFETY: the same contract.
    unsafe { llama_model_load_from_file(path_model, params) }
}

/// Loads a model from splits in their order; NULL when that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_load_from_splits(
    paths: *mut *const c_char,
    n_paths: usize,
    params: llama_model_params,
) -> *mut llama_model {
    const NAME: &str = "llama_model_load_from_splits";
    guard::call(ptr::null_mut(), NAME, || {
        if paths.is_null() || n_paths == 0 {
            log_error!("{NAME}: no paths");
            return ptr::null_mut();
        }
        let mut list = Vec::new();
        for i in 0..n_paths {
            // SAFETY: the caller passes n_paths strings.
            let Some(path) = (unsafe { c_str(*paths.add(i)) }) else {
                log_error!("{NAME}: path {i} is NULL");
                return ptr::null_mut();
            };
            list.push(c_path(path));
        }
        let load = |options: &LoadOptions, progress: &mut dyn Progress| {
            Model::load_splits(&list, options, progress)
        };
        // SAFETY: the caller's parameters.
        unsafe { load_with(NAME, &params, load) }
    })
}

/// Loads a model from an open file, which stays open; NULL when that fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_load_from_file_ptr(
    file: *mut libc::FILE,
    params: llama_model_params,
) -> *mut llama_model {
    const NAME: &str = "llama_model_load_from_file_ptr";
    guard::call(ptr::null_mut(), NAME, || {
        if file.is_null() {
            log_error!("{NAME}: the file is NULL");
            return ptr::null_mut();
        }
        let load = |options: &LoadOptions, progress: &mut dyn Progress| {
            // SAFETY: the caller passes an open stream; the descriptor stays the stream's own.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(libc::fileno(file)) });
            let file = file.try_clone().map_err(|e| Error::File(e.to_string()))?;
            Model::load_file(file, "(open file)", options, progress)
        };
        // SAFETY: the caller's parameters.
        unsafe { load_with(NAME, &params, load) }
    })
}

/// Frees a model and its adapters. Contexts over it that still exist stay usable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_free(model: *mut llama_model) {
    guard::call((), "llama_model_free", || {
        if !model.is_null() {
            // SAFETY: the caller gives back a model of ours that nobody uses any more.
            let model = unsafe { Box::from_raw(model) };
            // SAFETY: and its adapters with it.
            unsafe { model.adapters.free() };
        }
    });
}

/// Frees a model.
#[deprecated(note = "use llama_model_free instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_free_model(model: *mut llama_model) {
    // SAFETY: the same contract.
    unsafe { llama_model_free(model) }
}
