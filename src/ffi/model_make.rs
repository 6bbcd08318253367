//! Models that no file was loaded for, and files that are written of loaded models.

use core::ffi::{c_char, c_void};
use core::ptr;
use std::fs::File;
use std::io::{BufWriter, Write};

use super::ggml::tensor::ggml_context;
use super::guard;
use super::load::{c_path, llama_model, load_with, model_ref};
use super::strings::{array, c_str};
use super::types::{
    GGML_MAX_DIMS, ggml_tensor, gguf_context, llama_load_mode, llama_model_params,
    llama_model_set_tensor_data_t,
};
use crate::api::{Error, LoadOptions, Model, Progress, Wanted};
use crate::gguf::Writer;
use crate::log_error;
use crate::util::sys::memory_file;

/// Writes a model as one GGUF file, with the metadata and the tensors of its file; overrides
/// become the file's values. Errors are logged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_save_to_file(
    model: *const llama_model,
    path_model: *const c_char,
) {
    const NAME: &str = "llama_model_save_to_file";
    guard::call((), NAME, || {
        // SAFETY: the module's contract.
        let (model, path) = unsafe { (model_ref(model), c_str(path_model)) };
        let (Some(model), Some(path)) = (model, path) else {
            log_error!("{NAME}: the model or the path is NULL");
            return;
        };
        if let Err(error) = model.model.save(c_path(path)) {
            log_error!("{NAME}: '{}': {error}", c_path(path).display());
        }
    });
}

/// Makes a model from metadata alone; the callback fills each tensor. NULL on failure.
///
/// There are the tensors that the architecture cannot do without, as F32. A tensor of the same name
/// in the metadata's table gives it another type; tensors that a model may do without, such as
/// biases or an output matrix of its own, exist if the table names them. Data that the callback
/// leaves alone are zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_init_from_user(
    metadata: *mut gguf_context,
    set_tensor_data: llama_model_set_tensor_data_t,
    set_tensor_data_ud: *mut c_void,
    params: llama_model_params,
) -> *mut llama_model {
    const NAME: &str = "llama_model_init_from_user";
    guard::call(ptr::null_mut(), NAME, || {
        // SAFETY: the module's contract.
        let Some(metadata) = (unsafe { metadata.as_ref() }) else {
            log_error!("{NAME}: the metadata is NULL");
            return ptr::null_mut();
        };
        let mut params = params;
        params.load_mode = llama_load_mode::LLAMA_LOAD_MODE_AUTO as i32;
        let load = |options: &LoadOptions, progress: &mut dyn Progress| {
            // SAFETY: the caller gave the function together with its data, and lets it have tensors
            // whose data can be written.
            let fill = set_tensor_data.map(|f| move |t| unsafe { f(t, set_tensor_data_ud) });
            let file = make(metadata, options, fill).map_err(Error::File)?;
            Model::load_file(file, "(made by the program)", options, progress)
        };
        // SAFETY: the module's contract, also for what the parameters point to.
        unsafe { load_with(NAME, &params, load) }
    })
}

/// The file of a model with this metadata, its data as `fill` leaves them.
fn make(
    metadata: &gguf_context,
    options: &LoadOptions,
    fill: Option<impl Fn(*mut ggml_tensor)>,
) -> Result<File, String> {
    let [mut header, mut table] = metadata.writers()?;
    for key in ["split.no", "split.count", "split.tensors.count"] {
        header.remove(key);
        table.remove(key);
    }
    let wanted = match options.vocab_only {
        true => Vec::new(),
        false => Model::wanted(without_data(&table)?, "metadata", options).map_err(text)?,
    };
    for Wanted { name, dims, ty } in &wanted {
        header.add_tensor(name, dims, *ty).map_err(text)?;
    }
    if options.no_alloc || wanted.is_empty() {
        return without_data(&header);
    }
    let fill = fill.ok_or("there is no function that fills the tensors")?;
    let file = memory_file().map_err(text)?;
    let mut out = header.start(BufWriter::new(&file)).map_err(text)?;
    for Wanted { name, dims, ty } in &wanted {
        let mut context = ggml_context::new(false);
        let mut ne = [1; GGML_MAX_DIMS];
        ne.iter_mut().zip(dims).for_each(|(ne, &n)| *ne = i64::try_from(n).unwrap_or(i64::MAX));
        let tensor = context.add(*ty as i32, ne, name.as_bytes())?;
        let n_bytes = out.expects().map_or(0, |info| info.n_bytes) as usize;
        // SAFETY: the context has the tensor and as many bytes for it; the function that fills it
        // may have written anything to either.
        let bytes = unsafe {
            let data = (*tensor).data.cast::<u8>();
            fill(tensor);
            array(data, n_bytes)
        };
        out.write(bytes).map_err(text)?;
    }
    out.finish().map_err(text)?;
    Ok(file)
}

/// A file of the right length whose data are zeros that take no memory.
fn without_data(header: &Writer) -> Result<File, String> {
    let bytes = header.header().map_err(text)?;
    let layout = header.layout().map_err(text)?;
    let n_data = layout.last().map_or(Some(0), |last| last.offset.checked_add(last.n_bytes));
    let len = n_data.and_then(|n| n.checked_add(bytes.len() as u64)).ok_or("too much data")?;
    let file = memory_file().map_err(text)?;
    (&file).write_all(&bytes).and_then(|()| file.set_len(len)).map_err(text)?;
    Ok(file)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
