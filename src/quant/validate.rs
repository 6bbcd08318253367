//! Looks for numbers that are not finite in tensor data, without decoding it.

use half::{bf16, f16};

use super::error::Error;
use super::types::QuantType;

/// How a block's scales are stored, by their byte offsets in the block.
enum Scales {
    /// No scale, any byte is a number.
    None,
    F16(&'static [usize]),
    Bf16(&'static [usize]),
    F32(&'static [usize]),
    F64(&'static [usize]),
    /// Exponents of which 255 is NaN.
    E8M0(&'static [usize]),
    /// Unsigned e4m3 of which 127 is NaN; the sign bit is not used.
    UE4M3(&'static [usize]),
    /// A half whose four nibbles are the tops of four 16-bit words.
    Iq1M {
        at: usize,
    },
}

fn scales(ty: QuantType) -> Scales {
    use QuantType as T;
    match ty {
        T::F32 => Scales::F32(&[0]),
        T::F64 => Scales::F64(&[0]),
        T::F16 => Scales::F16(&[0]),
        T::BF16 => Scales::Bf16(&[0]),
        T::I8 | T::I16 | T::I32 | T::I64 => Scales::None,
        T::Q4_0 | T::Q5_0 | T::Q8_0 | T::IQ4_NL | T::IQ4_XS | T::Q1_0 | T::Q2_0 => {
            Scales::F16(&[0])
        }
        T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S | T::IQ1_S => Scales::F16(&[0]),
        T::Q4_1 | T::Q5_1 | T::Q8_1 | T::Q4_K | T::Q5_K => Scales::F16(&[0, 2]),
        T::Q2_K => Scales::F16(&[80, 82]),
        T::Q3_K => Scales::F16(&[108]),
        T::Q6_K => Scales::F16(&[208]),
        T::Q8_K => Scales::F32(&[0]),
        T::TQ1_0 => Scales::F16(&[52]),
        T::TQ2_0 => Scales::F16(&[64]),
        T::MXFP4 => Scales::E8M0(&[0]),
        T::NVFP4 => Scales::UE4M3(&[0, 1, 2, 3]),
        T::IQ1_M => Scales::Iq1M { at: 48 },
    }
}

/// Checks that all values (of float types) or scales (of block types) are finite.
pub fn validate(ty: QuantType, data: &[u8]) -> Result<(), Error> {
    let info = ty.info();
    if !data.len().is_multiple_of(info.block_bytes) {
        return Err(Error::BlockSize { ty, found: data.len(), expected: info.block_bytes });
    }
    let scales = scales(ty);
    if matches!(scales, Scales::None) {
        return Ok(());
    }
    let mut blocks = data.chunks_exact(info.block_bytes);
    match blocks.position(|block| !is_finite(block, &scales)) {
        None => Ok(()),
        Some(block) => Err(Error::NotFinite { ty, element: block * info.block_len }),
    }
}

fn is_finite(block: &[u8], scales: &Scales) -> bool {
    match *scales {
        Scales::None => true,
        Scales::F16(at) => at.iter().all(|&i| f16::from_le_bytes(bytes(block, i)).is_finite()),
        Scales::Bf16(at) => at.iter().all(|&i| bf16::from_le_bytes(bytes(block, i)).is_finite()),
        Scales::F32(at) => at.iter().all(|&i| f32::from_le_bytes(bytes(block, i)).is_finite()),
        Scales::F64(at) => at.iter().all(|&i| f64::from_le_bytes(bytes(block, i)).is_finite()),
        Scales::E8M0(at) => at.iter().all(|&i| block[i] != 0xff),
        Scales::UE4M3(at) => at.iter().all(|&i| block[i] & 0x7f != 0x7f),
        Scales::Iq1M { at } => {
            let top = |i: usize| u16::from_le_bytes(bytes(block, at + 2 * i)) >> 12;
            let bits = top(0) | top(1) << 4 | top(2) << 8 | top(3) << 12;
            f16::from_bits(bits).is_finite()
        }
    }
}

fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&block[at..at + N]);
    out
}
