//! Q5_0 and Q5_1: blocks of 32 numbers in 5 bits each.
//!
//! | type | bytes of a block | value of the 5 bits `q` |
//! |---|---|---|
//! | Q5_0 | half `d`, 4 bytes of fifth bits, 16 bytes of low bits | `d * (q - 16)` |
//! | Q5_1 | half `d`, half `m`, 4 bytes of fifth bits, 16 bytes of low bits | `d * q + m` |
//!
//! The fifth bit of number `j` is bit `j` of a little-endian word; the four low bits are placed
//! as in Q4_0.

use super::blocks::{assert_block, decode, encode, encode_weighted, half, put_half};
use super::blocks::{farthest, inverse, min_max};
use super::search::{self, Loss, WEIGHTED_STEPS};
use super::{Codec, QuantType};

const LEN: usize = 32;
const HALF: usize = LEN / 2;
/// Fifth bits and low bits.
const CODES: usize = 4 + HALF;
const Q5_0_BYTES: usize = 2 + CODES;
const Q5_1_BYTES: usize = 2 + 2 + CODES;

const _: () = assert_block(QuantType::Q5_0, LEN, Q5_0_BYTES);
const _: () = assert_block(QuantType::Q5_1, LEN, Q5_1_BYTES);

pub(super) const Q5_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q5_0_BYTES], y: &mut [f32; LEN]| {
            let d = half(block, 0);
            *y = unpack(&block[2..]).map(|q| d * (f32::from(q) - 16.0));
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q5_0_BYTES]| {
            // The number farthest from zero, with its sign, becomes -16 exactly.
            let d = farthest(x) / -16.0;
            let id = inverse(d);
            put_half(block, 0, d);
            pack(&x.map(|v| ((v * id + 16.5) as u8).min(31)), &mut block[2..]);
        }),
        Some(importance) => {
            let sigma2 = search::mean_square(src);
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q5_0_BYTES]| {
                let weights = search::with_magnitude(x, importance, sigma2);
                let mut codes = [0; LEN];
                let d = search::symmetric(16, x, &weights, &mut codes);
                put_half(block, 0, d);
                pack(&codes, &mut block[2..]);
            });
        }
    }),
};

pub(super) const Q5_1: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q5_1_BYTES], y: &mut [f32; LEN]| {
            let (d, m) = (half(block, 0), half(block, 2));
            *y = unpack(&block[4..]).map(|q| d * f32::from(q) + m);
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q5_1_BYTES]| {
            let (min, max) = min_max(x);
            let d = (max - min) / 31.0;
            let id = inverse(d);
            put_half(block, 0, d);
            put_half(block, 2, min);
            pack(&x.map(|v| (((v - min) * id + 0.5) as u8).min(31)), &mut block[4..]);
        }),
        Some(importance) => {
            let sigma2 = search::mean_square(src);
            encode_weighted(src, importance, dst, |x, importance, block: &mut [u8; Q5_1_BYTES]| {
                let weights = search::with_magnitude(x, importance, sigma2);
                let mut codes = [0; LEN];
                let fit =
                    search::affine(31, x, &weights, &WEIGHTED_STEPS, Loss::Square, &mut codes);
                put_half(block, 0, fit.scale);
                put_half(block, 2, -fit.min);
                pack(&codes, &mut block[4..]);
            });
        }
    }),
};

fn unpack(bytes: &[u8]) -> [u8; LEN] {
    let (high, low) = bytes.split_at(4);
    std::array::from_fn(|j| {
        let nibble = low[j % HALF] >> (4 * (j / HALF)) & 15;
        nibble | (high[j / 8] >> (j % 8) & 1) << 4
    })
}

fn pack(codes: &[u8; LEN], bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(4);
    for (i, byte) in high.iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, j| bits | (codes[8 * i + j] >> 4) << j);
    }
    for (j, byte) in low.iter_mut().enumerate() {
        *byte = codes[j] & 15 | codes[j + HALF] << 4;
    }
}
