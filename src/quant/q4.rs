//! Q4_0 and Q4_1: blocks of 32 numbers in 4 bits each.
//!
//! | type | bytes of a block | value of the 4 bits `q` |
//! |---|---|---|
//! | Q4_0 | half `d`, 16 bytes of `q` | `d * (q - 8)` |
//! | Q4_1 | half `d`, half `m`, 16 bytes of `q` | `d * q + m` |
//!
//! Byte `j` of the 16 holds number `j` in its low half and number `j + 16` in its high half.

use half::f16;

use super::{Codec, QuantType};

const LEN: usize = 32;
const HALF: usize = LEN / 2;
const Q4_0_BYTES: usize = 2 + HALF;
const Q4_1_BYTES: usize = 2 + 2 + HALF;

const _: () = {
    let (a, b) = (QuantType::Q4_0.info(), QuantType::Q4_1.info());
    assert!(a.block_len == LEN && a.block_bytes == Q4_0_BYTES);
    assert!(b.block_len == LEN && b.block_bytes == Q4_1_BYTES);
};

pub(super) const Q4_0: Codec = Codec {
    dequantize: |src, dst| {
        let blocks = src.as_chunks::<Q4_0_BYTES>().0;
        for (y, [d0, d1, qs @ ..]) in dst.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let d = f16::from_le_bytes([*d0, *d1]).to_f32();
            for (j, q) in qs.iter().enumerate() {
                y[j] = d * (f32::from(q & 15) - 8.0);
                y[j + HALF] = d * (f32::from(q >> 4) - 8.0);
            }
        }
    },
    quantize: Some(|src, _, dst| {
        let blocks = dst.as_chunks_mut::<Q4_0_BYTES>().0;
        for ([d0, d1, qs @ ..], x) in blocks.iter_mut().zip(src.as_chunks::<LEN>().0) {
            // The number farthest from zero, with its sign, becomes -8 exactly.
            let max = x.iter().fold(0.0f32, |m, v| if v.abs() > m.abs() { *v } else { m });
            let d = max / -8.0;
            let id = inverse(d);
            [*d0, *d1] = f16::from_f32(d).to_le_bytes();
            let level = |v: f32| ((v * id + 8.5) as u8).min(15);
            for (j, q) in qs.iter_mut().enumerate() {
                *q = level(x[j]) | level(x[j + HALF]) << 4;
            }
        }
    }),
};

pub(super) const Q4_1: Codec = Codec {
    dequantize: |src, dst| {
        let blocks = src.as_chunks::<Q4_1_BYTES>().0;
        for (y, [d0, d1, m0, m1, qs @ ..]) in dst.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let d = f16::from_le_bytes([*d0, *d1]).to_f32();
            let m = f16::from_le_bytes([*m0, *m1]).to_f32();
            for (j, q) in qs.iter().enumerate() {
                y[j] = d * f32::from(q & 15) + m;
                y[j + HALF] = d * f32::from(q >> 4) + m;
            }
        }
    },
    quantize: Some(|src, _, dst| {
        let blocks = dst.as_chunks_mut::<Q4_1_BYTES>().0;
        for ([d0, d1, m0, m1, qs @ ..], x) in blocks.iter_mut().zip(src.as_chunks::<LEN>().0) {
            let min = x.iter().copied().fold(f32::INFINITY, f32::min);
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let d = (max - min) / 15.0;
            let id = inverse(d);
            [*d0, *d1] = f16::from_f32(d).to_le_bytes();
            [*m0, *m1] = f16::from_f32(min).to_le_bytes();
            let level = |v: f32| (((v - min) * id + 0.5) as u8).min(15);
            for (j, q) in qs.iter_mut().enumerate() {
                *q = level(x[j]) | level(x[j + HALF]) << 4;
            }
        }
    }),
};

/// `1 / d`, or 0 for a block of equal numbers.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
