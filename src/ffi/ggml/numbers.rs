//! Facts about number formats and operations.

use core::ffi::{CStr, c_char, c_int, c_void};
use once_cell::sync::OnceCell;
use std::ffi::CString;
use std::fmt::Debug;

use crate::ffi::guard;
use crate::ffi::types::{
    ggml_bf16_t, ggml_fp16_t, ggml_glu_op, ggml_op, ggml_op_e, ggml_opt_adamw_params,
    ggml_opt_optimizer_params, ggml_opt_optimizer_type, ggml_opt_optimizer_type_e,
    ggml_opt_sgd_params, ggml_tensor, ggml_type_e, ggml_unary_op,
};
use crate::log_error;
use crate::quant::{self, QuantType, TypeInfo};

/// The format of this number in `enum ggml_type`.
pub(crate) fn type_info(ty: ggml_type_e) -> Option<&'static TypeInfo> {
    u32::try_from(ty).ok().and_then(QuantType::from_id).map(QuantType::info)
}

/// An IEEE half as a float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_fp16_to_fp32(value: ggml_fp16_t) -> f32 {
    half::f16::from_bits(value).to_f32()
}

/// A bfloat16 as a float.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_bf16_to_fp32(value: ggml_bf16_t) -> f32 {
    half::bf16::from_bits(value.bits).to_f32()
}

/// Elements in a block of a type; 0 for a number that is no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_blck_size(r#type: ggml_type_e) -> i64 {
    type_info(r#type).map_or(0, |t| t.block_len as i64)
}

/// Bytes of a block of a type; 0 for a number that is no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_size(r#type: ggml_type_e) -> usize {
    type_info(r#type).map_or(0, |t| t.block_bytes)
}

/// Bytes of ne elements of a type; 0 when they are no whole number of blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_row_size(r#type: ggml_type_e, ne: i64) -> usize {
    let bytes = || type_info(r#type)?.ty.row_bytes(u64::try_from(ne).ok()?);
    bytes().and_then(|b| usize::try_from(b).ok()).unwrap_or(0)
}

/// Bytes of one element of a type, with fraction.
#[deprecated(note = "use ggml_row_size instead")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_sizef(r#type: ggml_type_e) -> f64 {
    type_info(r#type).map_or(0.0, |t| t.block_bytes as f64 / t.block_len as f64)
}

/// Whether a type packs several elements into blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_is_quantized(r#type: ggml_type_e) -> bool {
    type_info(r#type).is_some_and(|t| t.block_len > 1)
}

/// Names as C strings, by number.
struct Names(OnceCell<Vec<CString>>);

impl Names {
    /// The name of `number`, from a table that `of` fills for 0, 1, … up to its first error of
    /// 200; "NONE" for a number without one.
    fn get(&self, number: c_int, of: impl Fn(c_int) -> Option<String>) -> *const c_char {
        let fill = || (0..200).map(|i| CString::new(of(i).unwrap_or_default()).unwrap_or_default());
        let table = self.0.get_or_init(|| fill().collect());
        let found = usize::try_from(number).ok().and_then(|i| table.get(i));
        found.filter(|name| !name.is_empty()).map_or(c"NONE", |name| name.as_c_str()).as_ptr()
    }

    /// The name of a variant: what stands behind the prefix of its enum.
    fn of_enum<T>(&self, number: c_int, prefix: &str) -> *const c_char
    where
        T: TryFrom<c_int> + Debug,
    {
        self.get(number, |i| {
            let variant = format!("{:?}", T::try_from(i).ok()?);
            variant.strip_prefix(prefix).filter(|name| *name != "COUNT").map(str::to_owned)
        })
    }
}

/// Name of a type; "NONE" for a number that is no type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_type_name(r#type: ggml_type_e) -> *const c_char {
    static NAMES: Names = Names(OnceCell::new());
    guard::call(c"NONE".as_ptr(), "ggml_type_name", || {
        NAMES.get(r#type, |i| type_info(i).map(|t| t.name.to_owned()))
    })
}

fn op_name(op: ggml_op_e) -> *const c_char {
    static NAMES: Names = Names(OnceCell::new());
    NAMES.of_enum::<ggml_op>(op, "GGML_OP_")
}

/// Name of an operation in capitals; "NONE" also for a number that is no operation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_op_name(op: ggml_op_e) -> *const c_char {
    guard::call(c"NONE".as_ptr(), "ggml_op_name", || op_name(op))
}

/// What computes a tensor: the operation, or the function of a unary or gated one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_op_desc(t: *const ggml_tensor) -> *const c_char {
    static UNARY: Names = Names(OnceCell::new());
    static GLU: Names = Names(OnceCell::new());
    guard::call(c"NONE".as_ptr(), "ggml_op_desc", || {
        // SAFETY: NULL or a tensor.
        let Some(t) = (unsafe { t.as_ref() }) else { return c"NONE".as_ptr() };
        match ggml_op::try_from(t.op) {
            Ok(ggml_op::GGML_OP_UNARY) => {
                UNARY.of_enum::<ggml_unary_op>(t.op_params[0], "GGML_UNARY_OP_")
            }
            Ok(ggml_op::GGML_OP_GLU) => GLU.of_enum::<ggml_glu_op>(t.op_params[0], "GGML_GLU_OP_"),
            _ => op_name(t.op),
        }
    })
}

/// Quantises rows `start / n_per_row` to before that plus `nrows` of a matrix of floats; returns
/// the bytes written, 0 on failure. `imatrix`, when not NULL, weighs the errors of the columns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_quantize_chunk(
    r#type: ggml_type_e,
    src: *const f32,
    dst: *mut c_void,
    start: i64,
    nrows: i64,
    n_per_row: i64,
    imatrix: *const f32,
) -> usize {
    guard::call(0, "ggml_quantize_chunk", || {
        let plan = || {
            let info = type_info(r#type)?;
            let (start, width) = (usize::try_from(start).ok()?, usize::try_from(n_per_row).ok()?);
            let rows = usize::try_from(nrows).ok()?;
            let row_bytes = usize::try_from(info.ty.row_bytes(width as u64)?).ok()?;
            let whole =
                width > 0 && start.is_multiple_of(width) && !src.is_null() && !dst.is_null();
            rows.checked_mul(row_bytes)?;
            whole.then_some((info.ty, start, width, rows, row_bytes))
        };
        let Some((ty, start, width, rows, row_bytes)) = plan() else {
            log_error!(
                "ggml_quantize_chunk: bad arguments (type {}, {nrows} x {n_per_row})",
                r#type
            );
            return 0;
        };
        let importance = if imatrix.is_null() {
            None
        } else {
            // SAFETY: the caller's importances are one for each column.
            Some(unsafe { core::slice::from_raw_parts(imatrix, width) })
        };
        for row in 0..rows {
            let first = start + row * width;
            // SAFETY: the caller's matrix and output hold these rows.
            let (from, to) = unsafe {
                let to = dst.cast::<u8>().add(first / width * row_bytes);
                (
                    core::slice::from_raw_parts(src.add(first), width),
                    core::slice::from_raw_parts_mut(to, row_bytes),
                )
            };
            if let Err(error) = quant::quantize_row(ty, from, importance, to) {
                log_error!("ggml_quantize_chunk: {error}");
                return 0;
            }
        }
        rows * row_bytes
    })
}

/// Default hyper-parameters of the optimisers; they do not depend on userdata.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_get_default_optimizer_params(
    _userdata: *mut c_void,
) -> ggml_opt_optimizer_params {
    ggml_opt_optimizer_params {
        adamw: ggml_opt_adamw_params { alpha: 0.001, beta1: 0.9, beta2: 0.999, eps: 1e-8, wd: 0.0 },
        sgd: ggml_opt_sgd_params { alpha: 0.001, wd: 0.0 },
    }
}

/// Name of an optimiser; "undefined" for a number that is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_opt_optimizer_name(
    optimizer: ggml_opt_optimizer_type_e,
) -> *const c_char {
    use ggml_opt_optimizer_type::*;
    let name: &CStr = match ggml_opt_optimizer_type::try_from(optimizer) {
        Ok(GGML_OPT_OPTIMIZER_TYPE_ADAMW) => c"adamw",
        Ok(GGML_OPT_OPTIMIZER_TYPE_SGD) => c"sgd",
        Ok(GGML_OPT_OPTIMIZER_TYPE_COUNT) | Err(_) => c"undefined",
    };
    name.as_ptr()
}
