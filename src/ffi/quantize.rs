//! Model files in other number formats.

use core::ffi::c_char;

use super::guard;
use super::load::{c_path, overrides};
use super::strings::{array, c_str};
use super::types::{
    ggml_type, ggml_type_e, llama_model_imatrix_data, llama_model_quantize_params,
    llama_model_tensor_override,
};
use crate::api::{FileType, Imatrix, QuantizeParams, TypePattern, quantize};
use crate::log_error;
use crate::quant::QuantType;

const NAME: &str = "llama_model_quantize";
/// A list with more entries has no end.
const MAX_ENTRIES: usize = 1 << 20;

/// Writes a model file in other number formats. 0 on success, 1 on failure.
///
/// Which type each tensor gets is llama.cpp's choice for the ftype; those of less than 3 bits need
/// params.imatrix. Predictors of PowerInfer's files (`blk.N.fc1`, `blk.N.fc2`) keep their type, unless
/// an entry of tt_overrides names them. The file has its name only when it is whole; fname_inp and
/// fname_out have to differ. With keep_split fname_out is the prefix of the files' names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_quantize(
    fname_inp: *const c_char,
    fname_out: *const c_char,
    params: *const llama_model_quantize_params,
) -> u32 {
    guard::call(1, NAME, || {
        // SAFETY: the module's contract.
        let (input, output, c) = unsafe { (c_str(fname_inp), c_str(fname_out), params.as_ref()) };
        let (Some(input), Some(c)) = (input, c) else {
            log_error!("{NAME}: the input's path or the parameters are NULL");
            return 1;
        };
        // A dry run writes nothing.
        let output = match output {
            Some(output) => c_path(output),
            None if c.dry_run != 0 => c_path(c""),
            None => {
                log_error!("{NAME}: the output's path is NULL");
                return 1;
            }
        };
        // SAFETY: the module's contract, also for what the parameters point to.
        let made = unsafe { converted(c) };
        let done = made.and_then(|params| {
            quantize(c_path(input), output, &params).map_err(|error| error.to_string())
        });
        match done {
            Ok(_) => 0,
            Err(error) => {
                log_error!("{NAME}: failed to quantize '{}': {error}", c_path(input).display());
                1
            }
        }
    })
}

/// # Safety
/// The lists are NULL or end as the header says.
unsafe fn converted(c: &llama_model_quantize_params) -> Result<QuantizeParams, String> {
    let file_type = FileType::from_id(c.ftype)
        .ok_or_else(|| format!("invalid output file type {}", c.ftype))?;
    // SAFETY: the caller's promise.
    let (imatrix, kv_overrides, tensor_types, prune_layers) = unsafe {
        (
            imatrix(c.imatrix)?,
            overrides(c.kv_overrides).ok_or("a bad metadata override")?,
            tensor_types(c.tt_overrides)?,
            layers(c.prune_layers)?,
        )
    };
    Ok(QuantizeParams {
        n_threads: usize::try_from(c.nthread).unwrap_or(0),
        output_tensor_type: wanted("output_tensor_type", c.output_tensor_type)?,
        token_embedding_type: wanted("token_embedding_type", c.token_embedding_type)?,
        allow_requantize: c.allow_requantize != 0,
        quantize_output_tensor: c.quantize_output_tensor != 0,
        only_copy: c.only_copy != 0,
        pure: c.pure != 0,
        keep_split: c.keep_split != 0,
        dry_run: c.dry_run != 0,
        imatrix,
        kv_overrides,
        tensor_types,
        prune_layers,
        max_buf_size: c.max_buf_size,
        ..QuantizeParams::new(file_type)
    })
}

/// A type that may be left open.
fn wanted(what: &str, id: ggml_type_e) -> Result<Option<QuantType>, String> {
    match id == ggml_type::GGML_TYPE_COUNT as ggml_type_e {
        true => Ok(None),
        false => named_type(what, id).map(Some),
    }
}

fn named_type(what: &str, id: ggml_type_e) -> Result<QuantType, String> {
    let ty = u32::try_from(id).ok().and_then(QuantType::from_id);
    ty.ok_or_else(|| format!("{what}: unknown type {id}"))
}

/// # Safety
/// `list` is NULL or ends with an entry without a name.
unsafe fn imatrix(list: *const llama_model_imatrix_data) -> Result<Option<Imatrix>, String> {
    if list.is_null() {
        return Ok(None);
    }
    let mut all = Imatrix::new();
    for i in 0..MAX_ENTRIES {
        // SAFETY: the caller's list goes on up to an entry without a name; an entry has `size`
        // numbers.
        let (name, entry) = unsafe {
            let entry = &*list.add(i);
            (c_str(entry.name), entry)
        };
        let Some(name) = name else { return Ok(Some(all)) };
        let name = name.to_string_lossy().into_owned();
        if entry.size > isize::MAX as usize / size_of::<f32>()
            || (entry.data.is_null() && entry.size > 0)
        {
            return Err(format!("the importances of '{name}' are no {} numbers", entry.size));
        }
        // SAFETY: as above.
        let values = unsafe { array(entry.data, entry.size) };
        all.entry(name).or_insert_with(|| values.to_vec());
    }
    Err("the importance matrix has no end".into())
}

/// # Safety
/// `list` is NULL or ends with an entry without a pattern.
unsafe fn tensor_types(
    list: *const llama_model_tensor_override,
) -> Result<Vec<TypePattern>, String> {
    let mut all = Vec::new();
    if list.is_null() {
        return Ok(all);
    }
    for i in 0..MAX_ENTRIES {
        // SAFETY: the caller's list goes on up to an entry without a pattern.
        let (pattern, id) = unsafe {
            let entry = &*list.add(i);
            (c_str(entry.pattern), entry.r#type)
        };
        let Some(pattern) = pattern else { return Ok(all) };
        let pattern = pattern.to_str().map_err(|_| "a tensor override is not UTF-8")?;
        let ty = named_type(pattern, id)?;
        all.push(TypePattern::new(pattern, ty).map_err(|error| error.to_string())?);
    }
    Err("the tensor overrides have no end".into())
}

/// # Safety
/// `list` is NULL or ends with -1.
unsafe fn layers(list: *const i32) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    if list.is_null() {
        return Ok(all);
    }
    for i in 0..MAX_ENTRIES {
        // SAFETY: the caller's list goes on up to a -1.
        match unsafe { *list.add(i) } {
            -1 => return Ok(all),
            layer => {
                all.push(u32::try_from(layer).map_err(|_| format!("no layer {layer} to prune"))?);
            }
        }
    }
    Err("the layers to prune have no end".into())
}
