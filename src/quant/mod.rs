//! Block formats: the type table and the reference codecs.
//!
//! The codecs are plain loops that round as the format's reference does, and what kernels are
//! held to. Tests compare them bit for bit with the `gguf` Python package.
//!
//! To add a type: a row in [`types`], a codec in the file of its family and its line in `codec`,
//! an arm in `validate`, kernels under `backend/cpu/kernels`, golden blocks from an
//! independent implementation (`tests/goldens/gen_quant.py`).

mod error;
mod float;
pub mod iq;
mod q4;
mod q8;
pub mod types;
mod validate;

pub use error::Error;
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
    /// None for formats that nobody rounds to here.
    quantize: Option<Quantize>,
}

fn codec(ty: QuantType) -> Option<Codec> {
    Some(match ty {
        QuantType::F32 => float::F32,
        QuantType::F16 => float::F16,
        QuantType::BF16 => float::BF16,
        QuantType::Q4_0 => q4::Q4_0,
        QuantType::Q4_1 => q4::Q4_1,
        QuantType::Q8_0 => q8::Q8_0,
        QuantType::IQ1_S => iq::IQ1_S,
        QuantType::IQ1_M => iq::IQ1_M,
        QuantType::IQ2_XXS => iq::IQ2_XXS,
        QuantType::IQ2_XS => iq::IQ2_XS,
        QuantType::IQ2_S => iq::IQ2_S,
        QuantType::IQ3_XXS => iq::IQ3_XXS,
        QuantType::IQ3_S => iq::IQ3_S,
        QuantType::IQ4_NL => iq::IQ4_NL,
        QuantType::IQ4_XS => iq::IQ4_XS,
        _ => return None,
    })
}

/// Whether [`dequantize_row`] knows the type.
pub fn is_supported(ty: QuantType) -> bool {
    codec(ty).is_some()
}

/// Whether [`quantize_row`] knows the type.
pub fn can_quantize(ty: QuantType) -> bool {
    codec(ty).is_some_and(|c| c.quantize.is_some())
}

/// The numbers of `src`, which has to hold exactly as many elements as `dst`.
pub fn dequantize_row(ty: QuantType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
    let codec = fitting_codec(ty, src.len(), dst.len())?;
    (codec.dequantize)(src, dst);
    Ok(())
}

/// Rounds the numbers of `src` into `dst`, which has to be exactly large enough.
///
/// Numbers that are not finite give some block, never a panic.
pub fn quantize_row(ty: QuantType, src: &[f32], dst: &mut [u8]) -> Result<(), Error> {
    let codec = fitting_codec(ty, dst.len(), src.len())?;
    let quantize = codec.quantize.ok_or(Error::NoQuantizer { ty })?;
    quantize(src, None, dst);
    Ok(())
}

fn fitting_codec(ty: QuantType, bytes: usize, len: usize) -> Result<Codec, Error> {
    let codec = codec(ty).ok_or(Error::Unsupported { ty })?;
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
