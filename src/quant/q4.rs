//! Q4_0 and Q4_1: blocks of 32 numbers in 4 bits each.
//!
//! | type | bytes of a block | value of the 4 bits `q` |
//! |---|---|---|
//! | Q4_0 | half `d`, 16 bytes of `q` | `d * (q - 8)` |
//! | Q4_1 | half `d`, half `m`, 16 bytes of `q` | `d * q + m` |
//!
//! Byte `j` of the 16 holds number `j` in its low half and number `j + 16` in its high half.

use super::blocks::{assert_block, decode, encode, encode_weighted, half, put_half};
use super::blocks::{farthest, inverse, min_max};
use super::search::{self, Loss, WEIGHTED_STEPS};
use super::{Codec, QuantType};

const LEN: usize = 32;
const HALF: usize = LEN / 2;
const Q4_0_BYTES: usize = 2 + HALF;
const Q4_1_BYTES: usize = 2 + 2 + HALF;

const _: () = assert_block(QuantType::Q4_0, LEN, Q4_0_BYTES);
const _: () = assert_block(QuantType::Q4_1, LEN, Q4_1_BYTES);

pub(super) const Q4_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q4_0_BYTES], y: &mut [f32; LEN]| {
            let d = half(block, 0);
            for (j, q) in block[2..].iter().enumerate() {
                y[j] = d * (f32::from(q & 15) - 8.0);
                y[j + HALF] = d * (f32::from(q >> 4) - 8.0);
            }
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q4_0_BYTES]| {
            // The number farthest from zero, with its sign, becomes -8 exactly.
            let d = farthest(x) / -8.0;
            let id = inverse(d);
            put_half(block, 0, d);
            pack(&x.map(|v| ((v * id + 8.5) as u8).min(15)), &mut block[2..]);
        }),
        Some(importance) => {
            let sigma2 = search::mean_square(src);
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q4_0_BYTES]| {
                let weights = search::with_magnitude(x, importance, sigma2);
                let mut codes = [0; LEN];
                let d = search::symmetric(8, x, &weights, &mut codes);
                put_half(block, 0, d);
                pack(&codes, &mut block[2..]);
            });
        }
    }),
};

pub(super) const Q4_1: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q4_1_BYTES], y: &mut [f32; LEN]| {
            let (d, m) = (half(block, 0), half(block, 2));
            for (j, q) in block[4..].iter().enumerate() {
                y[j] = d * f32::from(q & 15) + m;
                y[j + HALF] = d * f32::from(q >> 4) + m;
            }
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q4_1_BYTES]| {
            let (min, max) = min_max(x);
            let d = (max - min) / 15.0;
            let id = inverse(d);
            put_half(block, 0, d);
            put_half(block, 2, min);
            pack(&x.map(|v| (((v - min) * id + 0.5) as u8).min(15)), &mut block[4..]);
        }),
        Some(importance) => {
            let sigma2 = search::mean_square(src);
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q4_1_BYTES]| {
                let weights = search::with_magnitude(x, importance, sigma2);
                let mut codes = [0; LEN];
                let fit =
                    search::affine(15, x, &weights, &WEIGHTED_STEPS, Loss::Square, &mut codes);
                put_half(block, 0, fit.scale);
                put_half(block, 2, -fit.min);
                pack(&codes, &mut block[4..]);
            });
        }
    }),
};

/// Codes of 4 bits into 16 bytes.
fn pack(codes: &[u8; LEN], bytes: &mut [u8]) {
    for (j, byte) in bytes.iter_mut().enumerate() {
        *byte = codes[j] | codes[j + HALF] << 4;
    }
}
