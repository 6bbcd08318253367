//! The IQ types: numbers on a grid of points, or on one curve, that suits trained weights.
//!
//! | types | codes | file |
//! |---|---|---|
//! | IQ1_S, IQ1_M | 8 of -1, 0, 1 from a table of 2048 points, all shifted by an eighth | [`iq1`], to them [`fit1`] |
//! | IQ2_XXS, IQ2_XS, IQ2_S | 8 magnitudes from a table of 256, 512, 1024 points, and signs | [`iq2`], to them [`fit2`] |
//! | IQ3_XXS, IQ3_S | 4 magnitudes from a table of 256, 512 points, and signs | [`iq3`], to them [`fit3`] |
//! | IQ4_NL, IQ4_XS | one of 16 values of a curve | [`iq4`] |
//!
//! However packed, all of them say the same: **a small integer, times a small integer that 16 or
//! 32 neighbours share, times the block's scale**. So there is one decoder per type, to the
//! [`IntBlock`]; dequantisation and integer kernels both start from that.
//!
//! # Why integers suffice
//!
//! The formats are specified with fractions: a sub-scale is `(0.5 + s) / 4` or `(0.5 + s) / 2`, the
//! shift of IQ1 is `±1/8`. Taking the powers of two into the block's scale leaves odd integers
//! `2s + 1` and codes `8g ± 1`. A half has 11 significant bits, a sub-scale at most 6 and a code at
//! most 7: the products fit into f32's 24, so every order of multiplication gives the same bits.
//! And in 32 neighbours times activations of at most 127 in magnitude, the sum of
//! `scale * code * q` stays below 2^24 for every type (the closest is IQ4_XS: 32 * 32 * 127 * 127
//! = 16,516,096), so it is exact in i32 and in f32.
//!
//! Source: the `gguf` Python package (`quants.py`), to which tests compare bit for bit; the grids
//! are data of the format, extracted from it by `tests/goldens/gen_quant_reference.py`.
//!
//! To add a type: its decoder in one of the files (or a new one), a line in [`decode_block`] and in
//! `mod.rs` above, and its name in `gen_quant_reference.py`.

mod fit1;
mod fit2;
mod fit3;
pub mod grid;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod points;

use half::f16;

use super::{Codec, Dequantize, QuantType, Quantize};

pub use iq4::VALUES as IQ4_VALUES;

/// Elements of a super-block: of every IQ type but IQ4_NL.
const QK: usize = 256;

/// Elements that share a scale in an [`IntBlock`].
pub const SUB: usize = 16;

/// A block as integers: element `i` is `d * scales[i / 16] * codes[i]`.
///
/// IQ4_NL blocks have 32 elements and fill the first 32 codes and 2 scales.
#[derive(Clone, Debug, PartialEq)]
pub struct IntBlock {
    /// Scale of the block: the file's half, times a power of two that depends on the type.
    pub d: f32,
    /// Scales of 16 elements each, -32..=31; those of types that scale 32 together come in pairs.
    pub scales: [i8; QK / SUB],
    /// Codes, -127..=113.
    pub codes: [i8; QK],
}

impl IntBlock {
    /// All zero.
    pub const ZERO: Self = Self { d: 0.0, scales: [0; QK / SUB], codes: [0; QK] };
}

/// Decodes one block of an IQ type; any bytes stand for something.
///
/// `false`, with `out` left alone, when `ty` is no IQ type or `block` has not its size.
pub fn decode_block(ty: QuantType, block: &[u8], out: &mut IntBlock) -> bool {
    match ty {
        QuantType::IQ1_S => sized(block, out, iq1::iq1_s),
        QuantType::IQ1_M => sized(block, out, iq1::iq1_m),
        QuantType::IQ2_XXS => sized(block, out, iq2::iq2_xxs),
        QuantType::IQ2_XS => sized(block, out, iq2::iq2_xs),
        QuantType::IQ2_S => sized(block, out, iq2::iq2_s),
        QuantType::IQ3_XXS => sized(block, out, iq3::iq3_xxs),
        QuantType::IQ3_S => sized(block, out, iq3::iq3_s),
        QuantType::IQ4_NL => sized(block, out, iq4::iq4_nl),
        QuantType::IQ4_XS => sized(block, out, iq4::iq4_xs),
        _ => false,
    }
}

pub(super) const IQ1_S: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq1::iq1_s), fit1::quantize_s);
pub(super) const IQ1_M: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq1::iq1_m), fit1::quantize_m);
pub(super) const IQ2_XXS: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq2::iq2_xxs), fit2::quantize_xxs);
pub(super) const IQ2_XS: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq2::iq2_xs), fit2::quantize_xs);
pub(super) const IQ2_S: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq2::iq2_s), fit2::quantize_s);
pub(super) const IQ3_XXS: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq3::iq3_xxs), fit3::quantize_xxs);
pub(super) const IQ3_S: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq3::iq3_s), fit3::quantize_s);
pub(super) const IQ4_NL: Codec =
    codec(|x, y| dequantize::<_, { iq4::LEN }>(x, y, iq4::iq4_nl), iq4::quantize_nl);
pub(super) const IQ4_XS: Codec =
    codec(|x, y| dequantize::<_, QK>(x, y, iq4::iq4_xs), iq4::quantize_xs);

const fn codec(dequantize: Dequantize, quantize: Quantize) -> Codec {
    Codec { dequantize, quantize: Some(quantize) }
}

fn sized<const N: usize>(
    block: &[u8],
    out: &mut IntBlock,
    decode: impl Fn(&[u8; N], &mut IntBlock),
) -> bool {
    block.as_array().is_some_and(|block| {
        decode(block, out);
        true
    })
}

/// Numbers of whole blocks of `N` bytes and `LEN` elements.
fn dequantize<const N: usize, const LEN: usize>(
    src: &[u8],
    dst: &mut [f32],
    decode: impl Fn(&[u8; N], &mut IntBlock),
) {
    let mut block = IntBlock::ZERO;
    let blocks = src.as_chunks::<N>().0;
    for (y, bytes) in dst.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
        decode(bytes, &mut block);
        let subs = y.as_chunks_mut::<SUB>().0.iter_mut();
        for ((y, codes), scale) in subs.zip(block.codes.as_chunks::<SUB>().0).zip(block.scales) {
            let dl = block.d * f32::from(scale);
            for (y, code) in y.iter_mut().zip(codes) {
                *y = dl * f32::from(*code);
            }
        }
    }
}

/// The half at this offset.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from(u16_at(block, at)) | u32::from(u16_at(block, at + 2)) << 16
}

/// Scale `i` of 4 bits each as the odd number that it stands for.
fn odd_nibble(bytes: &[u8], i: usize) -> i8 {
    (2 * (bytes[i / 2] >> (4 * (i % 2)) & 15) + 1) as i8
}

/// Eight magnitudes, a byte each, with the signs of the bits of `signs`: set means negative.
fn signed(magnitudes: u64, signs: u8) -> [i8; 8] {
    // No magnitude is zero, so adding one to a complement never carries into the next byte.
    let negative = grid::BYTES_OF_BITS[usize::from(signs)];
    let sum = (magnitudes ^ negative).wrapping_add(negative & 0x0101_0101_0101_0101);
    sum.to_le_bytes().map(u8::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::types::TYPES;

    fn iq_types() -> impl Iterator<Item = QuantType> {
        TYPES.iter().filter(|t| t.name.starts_with("iq")).map(|t| t.ty)
    }

    /// The bounds that the module's text promises to integer kernels, over blocks of any bytes.
    #[test]
    fn products_of_32_neighbours_are_exact_in_f32() {
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let mut n_types = 0;
        for ty in iq_types() {
            n_types += 1;
            let mut out = IntBlock::ZERO;
            for round in 0..200 {
                let block: Vec<u8> = (0..ty.info().block_bytes)
                    .map(|_| match round {
                        0 => 0,
                        1 => 0xff,
                        _ => byte(),
                    })
                    .collect();
                assert!(decode_block(ty, &block, &mut out));
                for (scales, codes) in
                    out.scales.as_chunks::<2>().0.iter().zip(out.codes.as_chunks::<32>().0)
                {
                    let scale = |i: usize| i64::from(scales[i / SUB]).abs();
                    let sum: i64 =
                        (0..32).map(|i| scale(i) * i64::from(codes[i]).abs() * 127).sum();
                    assert!(sum < 1 << 24, "{ty}: {sum}");
                }
            }
        }
        assert_eq!(n_types, 9);
    }

    #[test]
    fn other_types_and_sizes_are_refused() {
        let mut out = IntBlock { d: 7.0, ..IntBlock::ZERO };
        for info in TYPES {
            let is_iq = iq_types().any(|ty| ty == info.ty);
            assert_eq!(decode_block(info.ty, &vec![0; info.block_bytes], &mut out.clone()), is_iq);
            assert!(!decode_block(info.ty, &vec![0; info.block_bytes + 1], &mut out));
            assert!(!decode_block(info.ty, &vec![0; info.block_bytes - 1], &mut out));
        }
        assert_eq!(out, IntBlock { d: 7.0, ..IntBlock::ZERO });
    }
}
