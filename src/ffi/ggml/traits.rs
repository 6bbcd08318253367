//! What a program can do with a number format: turn rows of it into floats, and back.

use core::ffi::{c_char, c_void};
use once_cell::sync::OnceCell;

use super::numbers::{ggml_type_name, type_info};
use crate::ffi::guard;
use crate::ffi::types::{cbool, ggml_type_e, ggml_type_traits};
use crate::log_error;
use crate::quant::{self, QuantType};

/// One more than the greatest number of a type.
const N: usize = QuantType::Q2_0 as usize + 1;

/// The table that programs get pointers into; a number without a type has `None`.
struct Table([Option<ggml_type_traits>; N]);

// SAFETY: the pointers in it are to names that stay, and nothing is changed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Traits of a type, for as long as the process lives; NULL for a number that is no type. to_float is
/// NULL for F32, for integers, F64, and what only activations are rounded to; from_float_ref also for
/// types that need importances.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_get_type_traits(r#type: ggml_type_e) -> *const ggml_type_traits {
    static TABLE: OnceCell<Table> = OnceCell::new();
    guard::call(core::ptr::null(), "ggml_get_type_traits", || {
        let table = TABLE.get_or_init(|| Table(core::array::from_fn(traits)));
        let found = usize::try_from(r#type).ok().and_then(|i| table.0.get(i)?.as_ref());
        found.map_or(core::ptr::null(), |traits| traits)
    })
}

fn traits(number: usize) -> Option<ggml_type_traits> {
    let number = ggml_type_e::try_from(number).ok()?;
    let info = type_info(number)?;
    // SAFETY: any number is allowed; the names stay.
    let type_name: *const c_char = unsafe { ggml_type_name(number) };
    let (to_float, from_float_ref) = converters(info.ty);
    Some(ggml_type_traits {
        type_name,
        blck_size: info.block_len as i64,
        blck_size_interleave: 0,
        type_size: info.block_bytes,
        is_quantized: cbool::from(info.block_len > 1),
        to_float,
        from_float_ref,
    })
}

type ToFloat = unsafe extern "C" fn(*const c_void, *mut f32, i64);
type FromFloat = unsafe extern "C" fn(*const f32, *mut c_void, i64);

/// The functions of a type that ggml has there.
fn converters(ty: QuantType) -> (Option<ToFloat>, Option<FromFloat>) {
    use QuantType::*;
    macro_rules! of {
        ($($ty:ident)*) => {
            match ty {
                $($ty => (Some(to_float::<{ $ty as u32 }> as ToFloat),
                          Some(from_float::<{ $ty as u32 }> as FromFloat)),)*
                _ => (None, None),
            }
        };
    }
    let (to, from) = of!(F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K
        IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS IQ1_M TQ1_0 TQ2_0 MXFP4 NVFP4
        Q1_0 Q2_0);
    let has_from = !quant::needs_importance(ty) && ty != IQ1_M && quant::can_quantize(ty);
    (to.filter(|_| ty != Q8_1), from.filter(|_| has_from))
}

/// The type of this number, and the bytes of a row of `k` elements.
fn row(number: u32, k: i64) -> Option<(QuantType, usize, usize)> {
    let ty = QuantType::from_id(number)?;
    let bytes = ty.row_bytes(u64::try_from(k).ok()?)?;
    Some((ty, usize::try_from(k).ok()?, usize::try_from(bytes).ok()?))
}

/// Decodes a row of `k` elements, whole blocks of them.
unsafe extern "C" fn to_float<const TYPE: u32>(x: *const c_void, y: *mut f32, k: i64) {
    guard::call((), "to_float", || {
        let Some((ty, n, bytes)) = row(TYPE, k).filter(|_| !x.is_null() && !y.is_null()) else {
            log_error!("to_float: bad arguments (type {TYPE}, {k} elements)");
            return;
        };
        // SAFETY: the caller's row and output have k elements.
        let (from, to) = unsafe {
            let from = core::slice::from_raw_parts(x.cast::<u8>(), bytes);
            (from, core::slice::from_raw_parts_mut(y, n))
        };
        if let Err(error) = quant::dequantize_row(ty, from, to) {
            log_error!("to_float: {error}");
        }
    });
}

/// Encodes a row of `k` elements, whole blocks of them, without importances.
unsafe extern "C" fn from_float<const TYPE: u32>(x: *const f32, y: *mut c_void, k: i64) {
    guard::call((), "from_float_ref", || {
        let Some((ty, n, bytes)) = row(TYPE, k).filter(|_| !x.is_null() && !y.is_null()) else {
            log_error!("from_float_ref: bad arguments (type {TYPE}, {k} elements)");
            return;
        };
        // SAFETY: the caller's row and output have k elements.
        let (from, to) = unsafe {
            let to = core::slice::from_raw_parts_mut(y.cast::<u8>(), bytes);
            (core::slice::from_raw_parts(x, n), to)
        };
        if let Err(error) = quant::quantize_row(ty, from, None, to) {
            log_error!("from_float_ref: {error}");
        }
    });
}
