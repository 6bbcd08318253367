//! Weighted sums of rows in plain loops: the arithmetic of
//! [`crate::backend::cpu::kernels::sum_rows`] word by word.

use half::{bf16, f16};

use super::int8::{Blocks, Q4_0, Q4_1, Q8_0};
use super::int8_blocks::{IQ4_NL, Q5_0, Q5_1};
use super::int8_k::{self, Q4_K, Q5_K, Q6_K};
use crate::backend::cpu::kernels::int8::BLOCK;
use crate::backend::cpu::kernels::sum_rows::{C_MAX, GROUP, SumKernels, SumRows};
use crate::quant::QuantType;

pub(crate) const KERNELS: SumKernels = SumKernels {
    rows: &[
        (QuantType::Q4_0, sum_rows::<Q4_0>),
        (QuantType::Q4_1, sum_rows::<Q4_1>),
        (QuantType::Q5_0, sum_rows::<Q5_0>),
        (QuantType::Q5_1, sum_rows::<Q5_1>),
        (QuantType::Q8_0, sum_rows::<Q8_0>),
        (QuantType::IQ4_NL, sum_rows::<IQ4_NL>),
        (QuantType::Q4_K, sum_rows::<Q4_K>),
        (QuantType::Q5_K, sum_rows::<Q5_K>),
        (QuantType::Q6_K, sum_rows::<Q6_K>),
    ],
    plain: &[(QuantType::F32, sum_f32), (QuantType::F16, sum_f16), (QuantType::BF16, sum_bf16)],
};

/// Columns of a block that always share a scale.
const HALF: usize = BLOCK / 2;

/// A block with codes less their offset only, and a scale for each half.
struct Scaled {
    codes: [i32; BLOCK],
    scales: [f32; 2],
    min: f32,
}

/// Decoding for sums.
trait Format {
    const N: usize;
    const BYTES: usize;
    const HAS_MIN: bool;
    /// Block `i` of `N`.
    fn scaled(bytes: &[u8], i: usize) -> Scaled;
}

macro_rules! one_scale {
    ($($ty:ident)*) => {$(
        impl Format for $ty {
            const N: usize = <$ty as Blocks>::N;
            const BYTES: usize = <$ty as Blocks>::BYTES;
            const HAS_MIN: bool = <$ty as Blocks>::HAS_MIN;
            fn scaled(bytes: &[u8], i: usize) -> Scaled {
                let block = <$ty as Blocks>::decode(bytes, i);
                Scaled { codes: block.codes, scales: [block.scale; 2], min: block.min }
            }
        }
    )*};
}
one_scale!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q4_K Q5_K);

impl Format for Q6_K {
    const N: usize = <Q6_K as Blocks>::N;
    const BYTES: usize = <Q6_K as Blocks>::BYTES;
    const HAS_MIN: bool = false;
    fn scaled(bytes: &[u8], i: usize) -> Scaled {
        let (codes, a, d) = int8_k::q6_k(bytes, i);
        Scaled { codes, scales: a.map(|a| d * a as f32), min: 0.0 }
    }
}

/// Integer factors of a group of rows, and what their sums are multiplied by.
fn factors(p: [f32; GROUP]) -> ([i32; GROUP], f32) {
    // As integers, infinities and NaNs come out above every number.
    let bits = p.map(|p| p.to_bits() & 0x7fff_ffff).into_iter().fold(0, u32::max);
    let s = f32::from_bits(bits);
    let inv = C_MAX / s;
    if !s.is_finite() {
        return ([0; GROUP], f32::NAN);
    }
    if !inv.is_finite() {
        return ([0; GROUP], 0.0);
    }
    (p.map(|p| (p * inv).round_ties_even() as i32), s * (1.0 / C_MAX))
}

/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says.
unsafe fn sum_rows<F: Format>(a: &SumRows<'_>) {
    // SAFETY: the caller vouches for y.
    let y = unsafe { std::slice::from_raw_parts_mut(a.y, a.n_cols) };
    for i in (0..a.ids.len()).step_by(GROUP) {
        let (rows, h) = a.group(i);
        // SAFETY: the caller vouches for rows of n_cols columns, which are whole blocks.
        let rows = rows.map(|row| unsafe {
            std::slice::from_raw_parts(row, a.n_cols / (BLOCK * F::N) * F::BYTES)
        });
        for (b, y) in y.chunks_exact_mut(BLOCK).enumerate() {
            let at = b / F::N * F::BYTES;
            let blocks = rows.map(|row| F::scaled(&row[at..at + F::BYTES], b % F::N));
            let mut min = h[0] * blocks[0].min;
            for r in 1..GROUP {
                min = h[r].mul_add(blocks[r].min, min);
            }
            for (half, y) in y.chunks_exact_mut(HALF).enumerate() {
                let (c, f) = factors(std::array::from_fn(|r| h[r] * blocks[r].scales[half]));
                for (i, y) in (HALF * half..).zip(y) {
                    let isum: i32 = (0..GROUP).map(|r| c[r] * blocks[r].codes[i]).sum();
                    *y = (isum as f32).mul_add(f, *y);
                    if F::HAS_MIN {
                        *y += min;
                    }
                }
            }
        }
    }
}

/// Numbers of `B` bytes.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says.
unsafe fn sum_plain<const B: usize>(a: &SumRows<'_>, number: fn([u8; B]) -> f32) {
    // SAFETY: the caller vouches for y.
    let y = unsafe { std::slice::from_raw_parts_mut(a.y, a.n_cols) };
    for (i, &h) in a.h.iter().enumerate() {
        // SAFETY: the caller vouches for rows of n_cols columns.
        let row = unsafe { std::slice::from_raw_parts(a.row(i), B * a.n_cols) };
        for (y, bytes) in y.iter_mut().zip(row.as_chunks::<B>().0) {
            *y = h.mul_add(number(*bytes), *y);
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says; likewise below.
unsafe fn sum_f32(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain(a, f32::from_le_bytes) }
}

/// # Safety
/// As above.
unsafe fn sum_f16(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain(a, |bytes| f16::from_le_bytes(bytes).to_f32()) }
}

/// # Safety
/// As above.
unsafe fn sum_bf16(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain(a, |bytes| bf16::from_le_bytes(bytes).to_f32()) }
}
