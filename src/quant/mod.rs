//! Block formats: the type table and the reference codecs.
//!
//! The codecs are plain loops that round as the format's reference does, and what kernels are
//! held to. Tests compare them bit for bit with the `gguf` Python package and with llama.cpp,
//! which decides where the two differ. Formats with one scale per block round to it directly;
//! the others, and all of them when numbers have importances, look for scales as in `search`.
//!
//! To add a type: a row in [`types`], a codec in the file of its family and its line in `codec`,
//! an arm in `validate`, kernels under `backend/cpu/kernels`, golden blocks from an
//! independent implementation (`tests/goldens/gen_quant_reference.py`).

mod bits;
mod blocks;
mod error;
mod float;
mod fp4;
pub mod iq;
mod k;
mod q4;
mod q5;
mod q8;
mod search;
mod ternary;
pub mod tiles;
pub mod types;
mod validate;

pub use error::Error;
pub(crate) use fp4::half_of_ue4m3;
pub use types::{QuantType, TypeInfo};
pub use validate::validate;

/// Whole blocks to as many numbers as they hold.
type Dequantize = fn(&[u8], &mut [f32]);

/// A row of numbers to as many blocks as hold them. The second slice, as long as the row, says
/// how much each number's error counts; formats whose reference takes no weights ignore it.
type Quantize = fn(&[f32], Option<&[f32]>, &mut [u8]);

/// The two directions of one type, for lengths that fit each other.
struct Codec {
    dequantize: Dequantize,
    /// None for integers and F64.
    quantize: Option<Quantize>,
}

fn codec(ty: QuantType) -> Codec {
    match ty {
        QuantType::F32 => float::F32,
        QuantType::F16 => float::F16,
        QuantType::BF16 => float::BF16,
        QuantType::Q4_0 => q4::Q4_0,
        QuantType::Q4_1 => q4::Q4_1,
        QuantType::Q5_0 => q5::Q5_0,
        QuantType::Q5_1 => q5::Q5_1,
        QuantType::Q8_0 => q8::Q8_0,
        QuantType::Q8_1 => q8::Q8_1,
        QuantType::Q2_K => k::Q2_K,
        QuantType::Q3_K => k::Q3_K,
        QuantType::Q4_K => k::Q4_K,
        QuantType::Q5_K => k::Q5_K,
        QuantType::Q6_K => k::Q6_K,
        QuantType::Q8_K => q8::Q8_K,
        QuantType::I8 => float::I8,
        QuantType::I16 => float::I16,
        QuantType::I32 => float::I32,
        QuantType::I64 => float::I64,
        QuantType::F64 => float::F64,
        QuantType::TQ1_0 => ternary::TQ1_0,
        QuantType::TQ2_0 => ternary::TQ2_0,
        QuantType::MXFP4 => fp4::MXFP4,
        QuantType::NVFP4 => fp4::NVFP4,
        QuantType::Q1_0 => bits::Q1_0,
        QuantType::Q2_0 => bits::Q2_0,
        QuantType::IQ1_S => iq::IQ1_S,
        QuantType::IQ1_M => iq::IQ1_M,
        QuantType::IQ2_XXS => iq::IQ2_XXS,
        QuantType::IQ2_XS => iq::IQ2_XS,
        QuantType::IQ2_S => iq::IQ2_S,
        QuantType::IQ3_XXS => iq::IQ3_XXS,
        QuantType::IQ3_S => iq::IQ3_S,
        QuantType::IQ4_NL => iq::IQ4_NL,
        QuantType::IQ4_XS => iq::IQ4_XS,
    }
}

/// What [`dequantize_row`] does for a type, without its checks: blocks and numbers that do not
/// fit each other are decoded as far as both go.
pub fn decoder(ty: QuantType) -> fn(&[u8], &mut [f32]) {
    codec(ty).dequantize
}

/// Whether [`quantize_row`] knows the type.
pub fn can_quantize(ty: QuantType) -> bool {
    codec(ty).quantize.is_some()
}

/// Whether [`quantize_row`] needs importances for the type: with so few bits, numbers that are
/// rounded without them are of no use.
pub fn needs_importance(ty: QuantType) -> bool {
    matches!(ty, QuantType::IQ2_XXS | QuantType::IQ2_XS | QuantType::IQ1_S)
}

/// The numbers of `src`, which has to hold exactly as many elements as `dst`.
pub fn dequantize_row(ty: QuantType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    let codec = fitting_codec(ty, src.len(), dst.len())?;
    (codec.dequantize)(src, dst);
    Ok(())
}

/// Rounds the numbers of `src`, one row of a matrix, into `dst`, which has to be exactly large
/// enough.
///
/// `importance`, as long as the row, says how much the error of each number counts (the squares
/// of the activations that it meets, for example). Formats without a search for scales have no
/// use for it, and some [need it](needs_importance). Numbers that are not finite give some block, never a panic.
pub fn quantize_row(
    ty: QuantType,
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    let codec = fitting_codec(ty, dst.len(), src.len())?;
    let quantize = codec.quantize.ok_or(Error::NoQuantizer { ty })?;
    if let Some(found) = importance.map(<[f32]>::len).filter(|n| *n != src.len()) {
        return Err(Error::Importance { found, expected: src.len() });
    }
    if importance.is_none() && needs_importance(ty) {
        return Err(Error::NeedsImportance { ty });
    }
    quantize(src, importance, dst);
    Ok(())
}

fn fitting_codec(ty: QuantType, bytes: usize, len: usize) -> Result<Codec, Error> {
    let codec = codec(ty);
    match ty.row_bytes(len as u64) {
        Some(expected) if expected == bytes as u64 => Ok(codec),
        expected => {
            let expected = expected.map_or_else(
                || format!("a multiple of {} elements", ty.block_len()),
                |n| n.to_string(),
            );
            Err(Error::RowSize { ty, bytes, len, expected })
        }
    }
}
