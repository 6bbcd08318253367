//! Q1_0 and Q2_0: plain codes of 1 or 2 bits behind a half `d`, lowest bits first.
//!
//! | type | numbers | value of code `q` |
//! |---|---|---|
//! | Q1_0 | 128 | `-d` for 0, `d` for 1 |
//! | Q2_0 | 64 | `d * (q - 1)`: -1, 0, 1, 2 |

use super::blocks::{assert_block, decode, encode, half, inverse, max_abs, put_half};
use super::{Codec, QuantType};

const Q1_LEN: usize = 128;
const Q1_BYTES: usize = 2 + Q1_LEN / 8;
const Q2_LEN: usize = 64;
const Q2_BYTES: usize = 2 + Q2_LEN / 4;

const _: () = assert_block(QuantType::Q1_0, Q1_LEN, Q1_BYTES);
const _: () = assert_block(QuantType::Q2_0, Q2_LEN, Q2_BYTES);

pub(super) const Q1_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q1_BYTES], y: &mut [f32; Q1_LEN]| {
            let d = half(block, 0);
            for (i, y) in y.iter_mut().enumerate() {
                *y = if block[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
            }
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; Q1_LEN], block: &mut [u8; Q1_BYTES]| {
            let sum = x.iter().fold(0.0f32, |sum, v| sum + v.abs());
            put_half(block, 0, sum / Q1_LEN as f32);
            for (byte, x) in block[2..].iter_mut().zip(x.as_chunks::<8>().0) {
                *byte = (0..8).fold(0, |bits, i| bits | u8::from(x[i] >= 0.0) << i);
            }
        });
    }),
};

pub(super) const Q2_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; Q2_BYTES], y: &mut [f32; Q2_LEN]| {
            let d = half(block, 0);
            for (i, y) in y.iter_mut().enumerate() {
                let code = block[2 + i / 4] >> (2 * (i % 4)) & 3;
                *y = (f32::from(code) - 1.0) * d;
            }
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; Q2_LEN], block: &mut [u8; Q2_BYTES]| {
            let d = max_abs(x);
            let id = inverse(d);
            put_half(block, 0, d);
            let code = |v: f32| ((v * id).round().clamp(-1.0, 2.0) + 1.0) as u8;
            for (byte, x) in block[2..].iter_mut().zip(x.as_chunks::<4>().0) {
                *byte = (0..4).fold(0, |bits, i| bits | code(x[i]) << (2 * i));
            }
        });
    }),
};
