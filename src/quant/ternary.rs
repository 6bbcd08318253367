//! TQ1_0 and TQ2_0: 256 numbers of which each is `-d`, 0 or `d`, codes 0, 1, 2.
//!
//! TQ2_0: 64 bytes of 2 bits per number in strips as the K formats have them (code 3 is `2 * d`),
//! then half `d`.
//!
//! TQ1_0: five base-3 digits to a byte: 32 bytes with digit `n` of byte `m` for number
//! `32 * n + m`, 16 bytes for the next 80 numbers in the same way, 4 bytes with four digits each
//! for the last 16; then half `d`. A byte is the number of five digits, first digit highest,
//! times 256/243 rounded up: a digit comes out of the top when it is multiplied by 3.

use super::blocks::{assert_block, decode, encode, half, inverse, max_abs, put_half};
use super::{Codec, QuantType};

const LEN: usize = 256;
const TQ1_D: usize = 32 + 16 + 4;
const TQ1_BYTES: usize = TQ1_D + 2;
const TQ2_D: usize = LEN / 4;
const TQ2_BYTES: usize = TQ2_D + 2;

const _: () = assert_block(QuantType::TQ1_0, LEN, TQ1_BYTES);
const _: () = assert_block(QuantType::TQ2_0, LEN, TQ2_BYTES);

/// Runs of bytes in TQ1_0: first byte, bytes, digits, first number.
const RUNS: [(usize, usize, usize, usize); 3] = [(0, 32, 5, 0), (32, 16, 5, 160), (48, 4, 4, 240)];
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

pub(super) const TQ1_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; TQ1_BYTES], y: &mut [f32; LEN]| {
            let d = half(block, TQ1_D);
            for (at, width, digits, first) in RUNS {
                for (n, power) in POWERS[..digits].iter().enumerate() {
                    for m in 0..width {
                        let rest = block[at + m].wrapping_mul(*power);
                        let digit = (u16::from(rest) * 3) >> 8;
                        y[first + width * n + m] = (f32::from(digit) - 1.0) * d;
                    }
                }
            }
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; LEN], block: &mut [u8; TQ1_BYTES]| {
            let d = max_abs(x);
            let id = inverse(d);
            put_half(block, TQ1_D, d);
            for (at, width, digits, first) in RUNS {
                for m in 0..width {
                    let digit =
                        |n| if n < digits { code(x[first + width * n + m] * id) } else { 0 };
                    let value = (0..5).fold(0u8, |v, n| v.wrapping_mul(3).wrapping_add(digit(n)));
                    block[at + m] = (u16::from(value) * 256).div_ceil(243) as u8;
                }
            }
        });
    }),
};

pub(super) const TQ2_0: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; TQ2_BYTES], y: &mut [f32; LEN]| {
            let d = half(block, TQ2_D);
            for (i, y) in y.iter_mut().enumerate() {
                let code = block[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
                *y = (f32::from(code) - 1.0) * d;
            }
        });
    },
    quantize: Some(|src, _, dst| {
        encode(src, dst, |x: &[f32; LEN], block: &mut [u8; TQ2_BYTES]| {
            let d = max_abs(x);
            let id = inverse(d);
            put_half(block, TQ2_D, d);
            for (i, byte) in block[..TQ2_D].iter_mut().enumerate() {
                let first = 128 * (i / 32) + i % 32;
                let part = |n: usize| (code(x[first + 32 * n] * id) & 3) << (2 * n);
                *byte = (0..4).fold(0, |bits, n| bits | part(n));
            }
        });
    }),
};

/// The code of a number in units of `d`, halves away from zero.
fn code(v: f32) -> u8 {
    (v.round() as i32).wrapping_add(1) as u8
}
