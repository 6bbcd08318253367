//! Signed bytes behind a scale; a number is `d * q`.
//!
//! | type | bytes of a block |
//! |---|---|
//! | Q8_0 | half `d`, 32 bytes `q` |
//! | Q8_1 | half `d`, half `s = d * sum(q)`, 32 bytes `q` |
//! | Q8_K | float `d`, 256 bytes `q`, the sums of each 16 of them as 16-bit integers |
//!
//! Q8_1 and Q8_K are formats of activations: their sums save work in products and say nothing
//! about the numbers.

use super::blocks::{assert_block, decode, encode, farthest, half, inverse, max_abs, put_half};
use super::search::nearest;
use super::{Codec, QuantType};

const LEN: usize = 32;
const Q8_0_BYTES: usize = 2 + LEN;
const Q8_1_BYTES: usize = 2 + 2 + LEN;
const K_LEN: usize = 256;
const K_BYTES: usize = 4 + K_LEN + 2 * K_LEN / 16;

const _: () = assert_block(QuantType::Q8_0, LEN, Q8_0_BYTES);
const _: () = assert_block(QuantType::Q8_1, LEN, Q8_1_BYTES);
const _: () = assert_block(QuantType::Q8_K, K_LEN, K_BYTES);

pub(super) const Q8_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q8_0_BYTES], y: &mut [f32; LEN]| {
            scale(half(block, 0), &block[2..], y);
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q8_0_BYTES]| {
            let d = round(x, &mut block[2..]);
            put_half(block, 0, d);
        });
    }),
};

pub(super) const Q8_1: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q8_1_BYTES], y: &mut [f32; LEN]| {
            scale(half(block, 0), &block[4..], y);
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; LEN], block: &mut [u8; Q8_1_BYTES]| {
            let d = round(x, &mut block[4..]);
            let sum: i32 = block[4..].iter().map(|q| i32::from(*q as i8)).sum();
            put_half(block, 0, d);
            put_half(block, 2, sum as f32 * d);
        });
    }),
};

pub(super) const Q8_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; K_BYTES], y: &mut [f32; K_LEN]| {
            let [d0, d1, d2, d3, qs @ ..] = block;
            scale(f32::from_le_bytes([*d0, *d1, *d2, *d3]), &qs[..K_LEN], y);
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; K_LEN], block: &mut [u8; K_BYTES]| {
            block.fill(0);
            // The number farthest from zero, with its sign, becomes -127.
            let max = farthest(x);
            if max == 0.0 {
                return;
            }
            let id = -127.0 / max;
            let (d, rest) = block.split_at_mut(4);
            let (qs, sums) = rest.split_at_mut(K_LEN);
            d.copy_from_slice(&(1.0 / id).to_le_bytes());
            for (q, v) in qs.iter_mut().zip(x) {
                *q = nearest(id * v).min(127) as u8;
            }
            for (sum, qs) in sums.as_chunks_mut().0.iter_mut().zip(qs.chunks(16)) {
                *sum = qs.iter().map(|q| i16::from(*q as i8)).sum::<i16>().to_le_bytes();
            }
        });
    }),
};

fn scale(d: f32, qs: &[u8], y: &mut [f32]) {
    for (y, q) in y.iter_mut().zip(qs) {
        *y = d * f32::from(*q as i8);
    }
}

/// Rounds to bytes with the scale that is returned.
fn round(x: &[f32; LEN], qs: &mut [u8]) -> f32 {
    let d = max_abs(x) / 127.0;
    let id = inverse(d);
    for (q, v) in qs.iter_mut().zip(x) {
        *q = (v * id).round() as i8 as u8; // halves away from zero
    }
    d
}
