//! IQ4_NL and IQ4_XS: numbers on a curve of 16 values, denser around zero.
//!
//! | type | bytes of a block |
//! |---|---|
//! | IQ4_NL (4.5 bits) | half `d`, 16 bytes of codes for 32 numbers |
//! | IQ4_XS (4.25 bits) | half `d`, word `h`, 4 bytes `l`, 8 times 16 bytes of codes for 32 numbers |
//!
//! A number is `d * VALUES[code]`, for IQ4_XS `d * (scale - 32) * VALUES[code]`. Byte `j` of 16
//! holds the code of number `j` in its low half and of number `j + 16` in its high half. Scale `i`
//! has its low 4 bits in nibble `i` of `l` (low ones first), its high 2 bits in bits `2 * i..` of
//! `h`.
//!
//! # Rounding to them
//!
//! Gives the same bytes as `ggml_quantize_chunk` of llama.cpp, with and without importance
//! weights; so the order of operations in f32 is part of it. For 32 numbers it looks for the scale
//! with the least weighted square error among 16: the one that maps the number farthest from zero
//! to +127, and those that map it to -134, -133, .. -120, each improved by a linear fit to the
//! codes that it leads to.

use half::f16;

use super::{IntBlock, QK, half_at, u16_at};
use crate::quant::QuantType;
use crate::quant::blocks::{farthest, inverse};
use crate::quant::search::{self, NEGLIGIBLE};

pub(super) const LEN: usize = 32;
const NL_BYTES: usize = 2 + LEN / 2;
const XS_BYTES: usize = 2 + 2 + QK / 64 + QK / 2;

const _: () = {
    let (nl, xs) = (QuantType::IQ4_NL.info(), QuantType::IQ4_XS.info());
    assert!(nl.block_len == LEN && nl.block_bytes == NL_BYTES);
    assert!(xs.block_len == QK && xs.block_bytes == XS_BYTES);
};

/// What the 16 codes stand for.
pub const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// How many scales are tried to either side of the one that maps the extreme to -127.
const TRIES: i8 = 7;

pub(super) fn iq4_nl(block: &[u8; NL_BYTES], out: &mut IntBlock) {
    out.d = half_at(block, 0);
    out.scales[..2].fill(1);
    unpack(&block[2..], &mut out.codes[..LEN]);
}

pub(super) fn iq4_xs(block: &[u8; XS_BYTES], out: &mut IntBlock) {
    out.d = half_at(block, 0);
    let h = u16_at(block, 2);
    for i in 0..QK / LEN {
        let low = block[4 + i / 2] >> (4 * (i % 2)) & 15;
        let high = (h >> (2 * i) & 3) as u8;
        out.scales[2 * i..][..2].fill((low | high << 4) as i8 - 32);
        unpack(&block[8 + 16 * i..][..16], &mut out.codes[LEN * i..][..LEN]);
    }
}

fn unpack(bytes: &[u8], codes: &mut [i8]) {
    let (low, high) = codes.split_at_mut(LEN / 2);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = VALUES[usize::from(byte & 15)];
        *high = VALUES[usize::from(byte >> 4)];
    }
}

fn pack(codes: &[u8; LEN], bytes: &mut [u8]) {
    let (low, high) = codes.split_at(LEN / 2);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low | high << 4;
    }
}

pub(super) fn quantize_nl(src: &[f32], weights: Option<&[f32]>, dst: &mut [u8]) {
    let blocks = dst.as_chunks_mut::<NL_BYTES>().0;
    for (i, (out, x)) in blocks.iter_mut().zip(src.as_chunks::<LEN>().0).enumerate() {
        let weights = weights.and_then(|w| w.as_chunks::<LEN>().0.get(i));
        let scale = best_scale(x, &error_weights(x, 2.0 * search::mean_square(x), weights));
        out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        pack(&nearest(x, inverse(scale)), &mut out[2..]);
    }
}

pub(super) fn quantize_xs(src: &[f32], weights: Option<&[f32]>, dst: &mut [u8]) {
    let blocks = dst.as_chunks_mut::<XS_BYTES>().0;
    for (i, (out, x)) in blocks.iter_mut().zip(src.as_chunks::<QK>().0).enumerate() {
        let weights = weights.and_then(|w| w.as_chunks::<QK>().0.get(i));
        quantize_xs_block(x, weights, out);
    }
}

fn quantize_xs_block(x: &[f32; QK], weights: Option<&[f32; QK]>, out: &mut [u8; XS_BYTES]) {
    let mean_square_2 = 2.0 * search::mean_square(x);
    let subs = x.as_chunks::<LEN>().0;
    let scales: [f32; QK / LEN] = std::array::from_fn(|i| {
        let weights = weights.map(|w| &w.as_chunks::<LEN>().0[i]);
        best_scale(&subs[i], &error_weights(&subs[i], mean_square_2, weights))
    });
    // The scale farthest from zero becomes -32 exactly.
    let d = -farthest(&scales) / 32.0;
    let id = inverse(d);
    let mut h = 0u16;
    for (i, x) in subs.iter().enumerate() {
        let scale = (id * scales[i]).round_ties_even().clamp(-32.0, 31.0);
        pack(&nearest(x, inverse(d * scale)), &mut out[8 + 16 * i..][..16]);
        let bits = (scale as i8 + 32) as u8;
        let low = (bits & 15) << (4 * (i % 2));
        out[4 + i / 2] = if i % 2 == 0 { low } else { out[4 + i / 2] | low };
        h |= u16::from(bits >> 4) << (2 * i);
    }
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    out[2..4].copy_from_slice(&h.to_le_bytes());
}

/// How much the error of each number counts.
fn error_weights(
    x: &[f32; LEN],
    mean_square_2: f32,
    importance: Option<&[f32; LEN]>,
) -> [f32; LEN] {
    match importance {
        Some(w) => search::with_magnitude(x, w, mean_square_2),
        None => x.map(|v| v * v),
    }
}

/// The scale with the least weighted square error among those that are tried.
fn best_scale(x: &[f32; LEN], weights: &[f32; LEN]) -> f32 {
    let extreme = farthest(x);
    if extreme.abs() < NEGLIGIBLE {
        return 0.0;
    }
    let to_first = f32::from(VALUES[0]);
    let (xq, qq) = correlations(x, weights, 1.0 / (-extreme / to_first));
    let mut scale = if qq > 0.0 { xq / qq } else { 0.0 };
    // The error is a constant less this.
    let mut gain = scale * xq;
    for shift in -TRIES..=TRIES {
        let (xq, qq) = correlations(x, weights, (f32::from(shift) + to_first) / extreme);
        if qq > 0.0 && xq * xq > gain * qq {
            scale = xq / qq;
            gain = scale * xq;
        }
    }
    scale
}

/// Weighted sums of `x * q` and `q * q`, with `q` the values nearest to `x * inverse_scale`.
fn correlations(x: &[f32; LEN], weights: &[f32; LEN], inverse_scale: f32) -> (f32, f32) {
    let codes = nearest(x, inverse_scale);
    let (mut xq, mut qq) = (0.0, 0.0);
    for ((x, w), code) in x.iter().zip(weights).zip(codes) {
        let q = f32::from(VALUES[usize::from(code & 15)]);
        xq += w * q * x;
        qq += w * q * q;
    }
    (xq, qq)
}

/// Codes of the values nearest to `x * inverse_scale`, the greater one of two as near.
fn nearest(x: &[f32; LEN], inverse_scale: f32) -> [u8; LEN] {
    // Halves of small integers, so exact, as are differences from numbers close to them.
    const MIDDLES: [f32; 15] = {
        let mut middles = [0.0; 15];
        let mut i = 0;
        while i < 15 {
            middles[i] = (VALUES[i] as f32 + VALUES[i + 1] as f32) / 2.0;
            i += 1;
        }
        middles
    };
    x.map(|x| {
        let v = x * inverse_scale;
        MIDDLES.iter().map(|middle| u8::from(v >= *middle)).sum()
    })
}
