//! MXFP4 and NVFP4: 4-bit floats (e2m1) behind 8-bit scales.
//!
//! | type | bytes of a block |
//! |---|---|
//! | MXFP4 | scale `e` (e8m0: `2^(e - 127)`), 16 bytes of codes for 32 numbers |
//! | NVFP4 | four scales (e4m3 without sign), 32 bytes of codes: 8 bytes for each 16 numbers |
//!
//! The first half of the numbers behind a scale has the low halves of its bytes. Sources: OCP
//! Microscaling Formats (MX) 1.0; OCP 8-bit floating point (e4m3).

use super::blocks::{assert_block, decode, encode, max_abs};
use super::{Codec, QuantType};

const MX_LEN: usize = 32;
const MX_BYTES: usize = 1 + MX_LEN / 2;
const NV_LEN: usize = 64;
const NV_GROUP: usize = 16;
const NV_SCALES: usize = NV_LEN / NV_GROUP;
const NV_BYTES: usize = NV_SCALES + NV_LEN / 2;

const _: () = assert_block(QuantType::MXFP4, MX_LEN, MX_BYTES);
const _: () = assert_block(QuantType::NVFP4, NV_LEN, NV_BYTES);

/// Twice the values of e2m1; scales are halved instead.
const VALUES: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

pub(super) const MXFP4: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |[e, codes @ ..]: &[u8; MX_BYTES], y: &mut [f32; MX_LEN]| {
            unpack(codes, half_of_e8m0(*e), y);
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; MX_LEN], [e, codes @ ..]: &mut [u8; MX_BYTES]| {
            let max = max_abs(x);
            // The exponent that puts the largest number into the top binade of e2m1, 4 to 8;
            // the logarithm is rounded to f32 first, as in the reference.
            let exponent = || f64::from(max).log2() as f32;
            *e = if max > 0.0 { (exponent().floor() - 2.0 + 127.0) as u8 } else { 0 };
            pack(x, half_of_e8m0(*e), codes);
        });
    }),
};

pub(super) const NVFP4: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; NV_BYTES], y: &mut [f32; NV_LEN]| {
            let (scales, codes) = block.split_at(NV_SCALES);
            let groups = y.chunks_exact_mut(NV_GROUP).zip(codes.chunks_exact(NV_GROUP / 2));
            for ((y, codes), scale) in groups.zip(scales) {
                unpack(codes, half_of_ue4m3(*scale), y);
            }
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; NV_LEN], block: &mut [u8; NV_BYTES]| {
            let (scales, codes) = block.split_at_mut(NV_SCALES);
            let groups = x.chunks_exact(NV_GROUP).zip(codes.chunks_exact_mut(NV_GROUP / 2));
            for ((x, codes), scale) in groups.zip(scales) {
                *scale = to_ue4m3(max_abs(x) / 6.0);
                pack(x, half_of_ue4m3(*scale), codes);
            }
        });
    }),
};

fn unpack(codes: &[u8], d: f32, y: &mut [f32]) {
    let half = codes.len();
    for (j, code) in codes.iter().enumerate() {
        y[j] = d * VALUES[usize::from(code & 15)];
        y[j + half] = d * VALUES[usize::from(code >> 4)];
    }
}

fn pack(x: &[f32], d: f32, codes: &mut [u8]) {
    let half = codes.len();
    let values = VALUES.map(|v| v * d);
    for (j, code) in codes.iter_mut().enumerate() {
        *code = closest(&values, x[j]) | closest(&values, x[j + half]) << 4;
    }
}

/// Index of the closest value; the first of equals.
fn closest(values: &[f32; 16], x: f32) -> u8 {
    let mut best = (0, (values[0] - x).abs());
    for (i, value) in values.iter().enumerate().skip(1) {
        let error = (value - x).abs();
        if error < best.1 {
            best = (i as u8, error);
        }
    }
    best.0
}

/// Half of `2^(e - 127)`. 255, which stands for NaN, gives the next power of two.
fn half_of_e8m0(e: u8) -> f32 {
    // The two smallest are subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Half of an e4m3 number, the sign bit counted into the exponent's byte but not used. 127, which
/// stands for NaN, gives 0.
pub(crate) const fn half_of_ue4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = ((byte >> 3 & 15) as u32, (byte & 7) as u32);
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa as f32 / 1024.0,
        _ => f32::from_bits((exponent + 127 - 8) << 23 | mantissa << 20),
    }
}

/// The e4m3 number next to `x`, halves away from zero; 448 at most, 0 for what is not positive.
fn to_ue4m3(x: f32) -> u8 {
    const MAX: u8 = 0x7e;
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    let bits = x.min(448.0).to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Exponent and three bits of mantissa, rounded up by the fourth; a carry is right as it is.
    let rounded = ((bits >> 20) + (bits >> 19 & 1)) as i32 - ((127 - 7) << 3);
    if exponent >= 15 || rounded >= 15 << 3 { MAX } else { rounded as u8 }
}
