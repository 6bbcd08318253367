//! Integer mat-mul in plain loops: the arithmetic of [`crate::backend::cpu::kernels::int8`] word
//! by word, and what every other kernel is compared with.

use half::f16;

use super::int8_bits::{Q1_0, Q2_0, TQ1_0, TQ2_0};
use super::int8_blocks::{IQ4_NL, IQ4_XS, MXFP4, Q5_0, Q5_1};
use super::int8_k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
use crate::backend::cpu::kernels::int8::{BLOCK, Int8Kernels, MulMatQ8, Sums};
use crate::backend::cpu::kernels::int8_decoded::{DecodedBlock, OFFSET, decode_row};
use crate::quant::QuantType;

pub(crate) const KERNELS: Int8Kernels = Int8Kernels {
    quantize,
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0>),
        (QuantType::Q4_1, mul_mat::<Q4_1>),
        (QuantType::Q8_0, mul_mat::<Q8_0>),
        (QuantType::Q5_0, mul_mat::<Q5_0>),
        (QuantType::Q5_1, mul_mat::<Q5_1>),
        (QuantType::IQ4_NL, mul_mat::<IQ4_NL>),
        (QuantType::MXFP4, mul_mat::<MXFP4>),
        (QuantType::Q2_K, mul_mat::<Q2_K>),
        (QuantType::Q3_K, mul_mat::<Q3_K>),
        (QuantType::Q4_K, mul_mat::<Q4_K>),
        (QuantType::Q5_K, mul_mat::<Q5_K>),
        (QuantType::Q6_K, mul_mat::<Q6_K>),
        (QuantType::IQ4_XS, mul_mat::<IQ4_XS>),
        (QuantType::Q1_0, mul_mat::<Q1_0>),
        (QuantType::Q2_0, mul_mat::<Q2_0>),
        (QuantType::TQ1_0, mul_mat::<TQ1_0>),
        (QuantType::TQ2_0, mul_mat::<TQ2_0>),
        (QuantType::IQ1_S, mul_mat_decoded),
        (QuantType::IQ1_M, mul_mat_decoded),
        (QuantType::IQ2_XXS, mul_mat_decoded),
        (QuantType::IQ2_XS, mul_mat_decoded),
        (QuantType::IQ2_S, mul_mat_decoded),
        (QuantType::IQ3_XXS, mul_mat_decoded),
        (QuantType::IQ3_S, mul_mat_decoded),
        (QuantType::NVFP4, mul_mat_decoded),
    ],
    scratch_bytes: |_, _| 0,
};

/// A decoded block: codes less their offset and times the weight of their half, scale, minimum.
pub(super) struct Block {
    pub(super) codes: [i32; BLOCK],
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// A type with blocks of 32.
pub(super) trait Format {
    const BLOCK_BYTES: usize;
    const HAS_MIN: bool;
    fn decode(block: &[u8]) -> Block;
}

/// A type with one or more blocks of 32 in a block of the file.
pub(super) trait Blocks {
    /// Blocks of 32.
    const N: usize;
    /// Bytes of `N` of them.
    const BYTES: usize;
    const HAS_MIN: bool;
    /// Block `i` of `N`.
    fn decode(bytes: &[u8], i: usize) -> Block;
    /// What the sums of a block's halves count in its minimum.
    fn min_weights(_bytes: &[u8], _i: usize) -> [i32; 2] {
        [1; 2]
    }
}

impl<F: Format> Blocks for F {
    const N: usize = 1;
    const BYTES: usize = F::BLOCK_BYTES;
    const HAS_MIN: bool = F::HAS_MIN;
    fn decode(bytes: &[u8], _i: usize) -> Block {
        F::decode(bytes)
    }
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q8_0;

pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Element `i` is the low nibble of byte `i`, element `16 + i` the high one.
pub(super) fn nibbles(bytes: &[u8], offset: i32) -> [i32; BLOCK] {
    std::array::from_fn(|i| {
        let byte = bytes[i % 16];
        i32::from(if i < 16 { byte & 15 } else { byte >> 4 }) - offset
    })
}

impl Format for Q4_0 {
    const BLOCK_BYTES: usize = 18;
    const HAS_MIN: bool = false;
    fn decode(block: &[u8]) -> Block {
        Block { codes: nibbles(&block[2..], 8), scale: half_at(block, 0), min: 0.0 }
    }
}

impl Format for Q4_1 {
    const BLOCK_BYTES: usize = 20;
    const HAS_MIN: bool = true;
    fn decode(block: &[u8]) -> Block {
        Block { codes: nibbles(&block[4..], 0), scale: half_at(block, 0), min: half_at(block, 2) }
    }
}

impl Format for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const HAS_MIN: bool = false;
    fn decode(block: &[u8]) -> Block {
        let codes = std::array::from_fn(|i| i32::from(block[2 + i].cast_signed()));
        Block { codes, scale: half_at(block, 0), min: 0.0 }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::QuantizeFn`] says.
unsafe fn quantize(x: *const f32, n_blocks: usize, q: *mut i8, d: *mut f32, s: *mut Sums) {
    // SAFETY: the caller vouches for these sizes.
    let (x, q, d, s) = unsafe {
        (
            std::slice::from_raw_parts(x, n_blocks * BLOCK),
            std::slice::from_raw_parts_mut(q, n_blocks * BLOCK),
            std::slice::from_raw_parts_mut(d, n_blocks),
            std::slice::from_raw_parts_mut(s, n_blocks),
        )
    };
    let blocks = x.chunks_exact(BLOCK).zip(q.chunks_exact_mut(BLOCK));
    for ((x, q), (d, s)) in blocks.zip(d.iter_mut().zip(s)) {
        // The largest magnitude; as integers, infinities and NaNs come out above every number.
        let bits = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let amax = f32::from_bits(bits);
        let inv = 127.0 / amax;
        if !amax.is_finite() || !inv.is_finite() {
            *d = if amax.is_finite() { 0.0 } else { f32::NAN };
            *s = [0; 2];
            q.fill(0);
            continue;
        }
        for (q, x) in q.iter_mut().zip(x) {
            *q = (x * inv).round_ties_even() as i8;
        }
        *d = amax / 127.0;
        let sum = |q: &[i8]| q.iter().map(|&q| i16::from(q)).sum();
        *s = [sum(&q[..BLOCK / 2]), sum(&q[BLOCK / 2..])];
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
unsafe fn mul_mat<F: Blocks>(a: &MulMatQ8<'_>) {
    let (k, nb) = (a.n_blocks * BLOCK, a.n_blocks);
    for i in 0..a.n_rows {
        // SAFETY: the caller vouches for n_rows rows of n_blocks blocks.
        let row = unsafe { std::slice::from_raw_parts(a.row(i), nb / F::N * F::BYTES) };
        // A block is decoded once for all tokens; the outputs themselves carry the sums.
        for b in 0..nb {
            let bytes = &row[b / F::N * F::BYTES..][..F::BYTES];
            let block = F::decode(bytes, b % F::N);
            let weights = F::min_weights(bytes, b % F::N);
            for t in 0..a.n_tokens {
                // SAFETY: the caller vouches for n_tokens rows of k codes, of n_blocks scales and
                // sums, and of n_rows outputs at distance ld.
                let (q, d, s, y) = unsafe {
                    (
                        std::slice::from_raw_parts(a.q.add(t * k + b * BLOCK), BLOCK),
                        *a.d.add(t * nb + b),
                        *a.s.add(t * nb + b),
                        &mut *a.y.add(t * a.ld + i),
                    )
                };
                let isum: i32 = block.codes.iter().zip(q).map(|(&u, &q)| u * i32::from(q)).sum();
                let acc = if b == 0 { 0.0 } else { *y };
                let acc = (isum as f32).mul_add(block.scale * d, acc);
                let msum: i32 = weights.iter().zip(s).map(|(&b, s)| b * i32::from(s)).sum();
                *y = if F::HAS_MIN { block.min.mul_add(d * msum as f32, acc) } else { acc };
            }
        }
    }
}

/// Types whose halves of a block have scales of their own.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
unsafe fn mul_mat_decoded(a: &MulMatQ8<'_>) {
    let (k, nb, info) = (a.n_blocks * BLOCK, a.n_blocks, a.ty.info());
    let mut decoded = [DecodedBlock::ZERO; 8];
    let decoded = &mut decoded[..info.block_len / BLOCK];
    for i in 0..a.n_rows {
        let n_bytes = k / info.block_len * info.block_bytes;
        // SAFETY: the caller vouches for n_rows rows of n_blocks blocks.
        let row = unsafe { std::slice::from_raw_parts(a.row(i), n_bytes) };
        for (j, bytes) in row.chunks_exact(info.block_bytes).enumerate() {
            decode_row(a.ty, bytes, decoded);
            for (b, block) in (j * decoded.len()..).zip(decoded.iter()) {
                for t in 0..a.n_tokens {
                    // SAFETY: the caller vouches for n_tokens rows of k codes, of n_blocks scales,
                    // and of n_rows outputs at distance ld.
                    let (q, d, y) = unsafe {
                        (
                            std::slice::from_raw_parts(a.q.add(t * k + b * BLOCK), BLOCK),
                            *a.d.add(t * nb + b),
                            &mut *a.y.add(t * a.ld + i),
                        )
                    };
                    let mut acc = if b == 0 { 0.0 } else { *y };
                    for (h, scale) in block.scales.iter().enumerate() {
                        let half = BLOCK / 2 * h..BLOCK / 2 * (h + 1);
                        let products = block.codes[half.clone()].iter().zip(&q[half]);
                        let isum: i32 = products
                            .map(|(&u, &q)| (i32::from(u) - i32::from(OFFSET)) * i32::from(q))
                            .sum();
                        acc = (isum as f32).mul_add(scale * d, acc);
                    }
                    *y = acc;
                }
            }
        }
    }
}
