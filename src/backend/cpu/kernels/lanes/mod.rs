//! Float kernels written once for every vector width.
//!
//! [`Lanes`] is one register of f32; an instruction set implements it and makes its kernels with
//! [`lane_kernels`], which wraps the generic code of this folder into functions that enable the
//! instruction set. Everything between such a function and the intrinsics is `#[inline(always)]`
//! and enables nothing itself, so that it all ends up in one function (a lost inline would be
//! correct and slow: the benches would show it).
//!
//! Order of sums: a product along K keeps lane `i` for the elements `i, i + N, ...`, one chain of
//! fused multiply-adds each, and ends in one tree. Whatever else is in the call does not matter.
//!
//! To add an instruction set: implement [`Lanes`], invoke the macro, name the kernels in `table`.
#![allow(clippy::needless_range_loop, reason = "register tiles are indexed by position")]

pub(super) mod act;
pub(super) mod attn;
pub(super) mod float;
pub(super) mod sum_formats;
pub(super) mod sum_plain;
pub(super) mod sum_rows;
pub(super) mod vec;

/// One vector register of f32.
///
/// # Safety
/// Every method needs the instruction set; those with pointers need as many valid elements, at
/// any alignment, as they say.
pub(super) trait Lanes: Copy {
    /// Elements of a register: 8 or 16.
    const N: usize;
    /// Accumulators in f64, one for each lane.
    type Wide: Copy;

    unsafe fn splat(x: f32) -> Self;
    /// The IEEE half precision number at `p`.
    unsafe fn splat_f16(p: *const u8) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// `self * b + c` with one rounding.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// The smaller; `b` when one is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// The greater; `b` when one is NaN.
    unsafe fn max(self, b: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    unsafe fn copysign(self, sign: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `self * 2^n` with one rounding, for integers `n` in -150..=128 and `self` in 0.5..2.
    unsafe fn scale_pow2(self, n: Self) -> Self;
    /// `yes` in the lanes where `self < b`, else `no`.
    unsafe fn select_lt(self, b: Self, yes: Self, no: Self) -> Self;
    /// `self` in lanes `lo..hi` (`lo, hi <= N`), `other` in the rest.
    unsafe fn keep(self, lo: usize, hi: usize, other: Self) -> Self;

    /// Greatest lane.
    unsafe fn greatest(self) -> f32;
    /// Sum of the lanes: halves are added until one is left.
    unsafe fn sum(self) -> f32;
    /// The same tree for four registers at once.
    unsafe fn sum4(v: [Self; 4]) -> [f32; 4];

    unsafe fn wide_zero() -> Self::Wide;
    /// Adds the lanes, in f64.
    unsafe fn wide_add(self, acc: Self::Wide) -> Self::Wide;
    /// Adds the squares of the lanes, exact in f64 but for the sum's rounding.
    unsafe fn wide_add_squares(self, acc: Self::Wide) -> Self::Wide;
    unsafe fn wide_sum(acc: Self::Wide) -> f64;

    /// `N` elements.
    unsafe fn load(p: *const f32) -> Self;
    /// `n <= N` elements, zeros after them; touches no more memory than that.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn store_part(self, p: *mut f32, n: usize);
    /// `N` IEEE half precision numbers.
    unsafe fn load_f16(p: *const u16) -> Self;
    unsafe fn load_f16_part(p: *const u16, n: usize) -> Self;
    /// Rounds to half precision, ties to even.
    unsafe fn store_f16(self, p: *mut u16);
    unsafe fn store_f16_part(self, p: *mut u16, n: usize);
    unsafe fn load_bf16(p: *const u16) -> Self;
    unsafe fn load_bf16_part(p: *const u16, n: usize) -> Self;
    /// `N` signed bytes.
    unsafe fn load_i8(p: *const i8) -> Self;
    /// `N` bytes: their low nibbles and their high nibbles.
    unsafe fn load_nibbles(p: *const u8) -> (Self, Self);

    /// Pairs of lanes `(a, b)` times pairs `(cos, sin)`: `(a cos - b sin, a sin + b cos)`.
    unsafe fn rotate_pairs(self, cos_sin: Self) -> Self;
    /// The even and the odd elements of `2 N` that lie in two registers.
    unsafe fn deinterleave(a: Self, b: Self) -> (Self, Self);
    /// Reads a block of `n_rows` x `n_cols` (both at most `N`) with rows `ld` apart and writes
    /// its `n_cols` columns, each as `N` elements with zeros for absent rows, `ld_out` apart.
    unsafe fn transpose(
        p: *const f32,
        ld: usize,
        n_rows: usize,
        n_cols: usize,
        out: *mut f32,
        ld_out: usize,
    );
}

/// `e^x`, within 2 units in the last place, through subnormal results; NaN stays NaN.
///
/// Range reduction by Cody and Waite, polynomial of the Cephes library (`expf`).
///
/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn exp<V: Lanes>(x: V) -> V {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // SAFETY: the caller's promise.
    unsafe {
        // Below and above lie 0 and infinity. A NaN is the second operand and survives.
        let x = V::splat(89.0).min(V::splat(-104.0).max(x));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(V::splat(-LN2_HI), x);
        let r = n.fma(V::splat(-LN2_LO), r);
        let mut p = V::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.fma(r, V::splat(c));
        }
        let p = p.fma(r.mul(r), r).add(V::splat(1.0));
        p.scale_pow2(n)
    }
}

/// `tanh(x)`, a few units in the last place: Cephes' polynomial near 0, else through [`exp`].
///
/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn tanh<V: Lanes>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let z = x.mul(x);
        let mut p = V::splat(-5.704_988_7e-3);
        for c in [2.063_908_8e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1] {
            p = p.fma(z, V::splat(c));
        }
        let near = p.mul(z).fma(x, x);
        let e = exp(x.abs().add(x.abs()));
        let far = V::splat(1.0).sub(V::splat(2.0).div(e.add(V::splat(1.0))));
        x.abs().select_lt(V::splat(0.625), near, far).copysign(x)
    }
}

/// Makes the kernels of an instruction set from the generic ones: the register type, the features
/// to enable, tokens in a tile of [`float::mul_mat`] and queries in a tile of [`attn::attn_tile`].
macro_rules! lane_kernels {
    ($v:ty, $features:literal, $tokens:literal, $queries:literal) => {
        use $crate::backend::cpu::kernels::lanes;
        use $crate::backend::cpu::kernels::scalar::attn::{AttnState, AttnTile};
        use $crate::backend::cpu::kernels::scalar::float::{self as plain, DequantRow, MatF32};
        use $crate::backend::cpu::kernels::sum_rows::{SumRows, SumRowsFn};
        use $crate::backend::cpu::pool::ColsMut;
        use $crate::quant::QuantType;
        use $crate::tensor::Activation;

        lane_kernels! { @wrap $v, $features;
            fn dequant_f16 in float(bytes: &[u8], out: &mut [f32]);
            fn dequant_bf16 in float(bytes: &[u8], out: &mut [f32]);
            fn dequant_q4_0 in float(bytes: &[u8], out: &mut [f32]);
            fn dequant_q4_1 in float(bytes: &[u8], out: &mut [f32]);
            fn dequant_q8_0 in float(bytes: &[u8], out: &mut [f32]);
            fn store_f16 in float(x: &[f32], out: &mut [u16]);
            fn rms_norm in vec(x: Option<&[f32]>, w: Option<&[f32]>, eps: f32, y: &mut [f32]);
            fn layer_norm in vec(
                x: Option<&[f32]>,
                w: Option<&[f32]>,
                b: Option<&[f32]>,
                eps: f32,
                y: &mut [f32]
            );
            fn add in vec(x: &[f32], y: &mut [f32]);
            fn scale in vec(a: f32, y: &mut [f32]);
            fn axpy in vec(a: f32, x: &[f32], y: &mut [f32]);
            fn soft_cap in vec(cap: f32, y: &mut [f32]);
            fn activate in act(
                act: Activation,
                gate: &[f32],
                up: Option<&[f32]>,
                out: &mut [f32]
            );
            fn rope_norm in vec(x: &mut [f32], head_dim: usize, cos_sin: &[f32]);
            fn rope_neox in vec(x: &mut [f32], head_dim: usize, cos_sin: &[f32]);
            fn blend in vec(a: f32, total: &mut [f32], b: f32, part: &[f32]);
            fn divide in vec(acc: &[f32], l: f32, out: &mut [f32]);
            fn sum_f32 in sum_plain(a: &SumRows<'_>);
            fn sum_f16 in sum_plain(a: &SumRows<'_>);
            fn sum_bf16 in sum_plain(a: &SumRows<'_>);
        }

        /// Weighted sums of rows of plain numbers.
        pub(super) const SUM_PLAIN: &[(QuantType, SumRowsFn)] = &[
            (QuantType::F32, sum_f32),
            (QuantType::F16, sum_f16),
            (QuantType::BF16, sum_bf16),
        ];

        /// The decoder of a type: plain loops where there is none of this instruction set.
        pub(crate) fn dequant(ty: QuantType) -> DequantRow {
            match ty {
                QuantType::F16 => dequant_f16,
                QuantType::BF16 => dequant_bf16,
                QuantType::Q4_0 => dequant_q4_0,
                QuantType::Q4_1 => dequant_q4_1,
                QuantType::Q8_0 => dequant_q8_0,
                _ => plain::dequant(ty),
            }
        }

        /// # Safety
        /// The instruction set is there and all lengths fit.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn mul_mat(
            m: &MatF32<'_>,
            y: &mut ColsMut<'_, f32>,
            scratch: &mut [f32],
        ) {
            // SAFETY: the caller's promise.
            unsafe { lanes::float::mul_mat::<$v, $tokens>(m, y, scratch, dequant) }
        }

        /// # Safety
        /// The instruction set is there and all lengths fit.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn attn_tile(tile: &AttnTile<'_>, st: &mut AttnState<'_>) {
            // SAFETY: the caller's promise.
            unsafe { lanes::attn::attn_tile::<$v, $queries>(tile, st) }
        }
    };
    (@wrap $v:ty, $features:literal;
     $(fn $name:ident in $module:ident ($($arg:ident: $ty:ty),*);)*) => {$(
        /// # Safety
        /// The instruction set is there and all lengths fit.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn $name($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { lanes::$module::$name::<$v>($($arg),*) }
        }
    )*};
}
pub(super) use lane_kernels;

#[cfg(test)]
mod tests {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Lanes, exp, tanh};
    use crate::backend::cpu::{Isa, KernelTable};

    /// # Safety
    /// Needs the instruction set of `V`; whole registers.
    #[inline(always)]
    unsafe fn map<V: Lanes>(x: &[f32], exps: &mut [f32], tanhs: &mut [f32]) {
        for i in (0..x.len()).step_by(V::N) {
            // SAFETY: the caller's promise.
            unsafe {
                let v = V::load(x.as_ptr().add(i));
                exp(v).store(exps.as_mut_ptr().add(i));
                tanh(v).store(tanhs.as_mut_ptr().add(i));
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn map_avx2(x: &[f32], exps: &mut [f32], tanhs: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { map::<__m256>(x, exps, tanhs) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn map_avx512(x: &[f32], exps: &mut [f32], tanhs: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { map::<__m512>(x, exps, tanhs) }
    }

    /// Error in units of the last place of the f32 next to `want`.
    fn ulps(got: f32, want: f64) -> f64 {
        let exponent = want.abs().log2().floor().max(-126.0);
        (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
    }

    #[test]
    fn exp_and_tanh_are_accurate_everywhere() {
        // Every 997th number between -110 and 100, and all the edges.
        let spread = |lo: f32, hi: f32| (lo.to_bits()..hi.to_bits()).step_by(997);
        let mut x: Vec<f32> = spread(0.0, 100.0).map(f32::from_bits).collect();
        x.extend(spread(-0.0, -110.0).map(f32::from_bits));
        x.extend([-104.0, -103.98, -103.96, -103.0, -87.4, 88.722_83, 88.722_84, 89.0, 1e30]);
        x.extend([-1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 0.0, -0.0]);
        x.resize(x.len().next_multiple_of(16), 0.625);
        let runs = [
            (Isa::Avx2, map_avx2 as unsafe fn(&[f32], &mut [f32], &mut [f32])),
            (Isa::Avx512, map_avx512),
        ];
        for (isa, map) in runs {
            if KernelTable::for_isa(isa).is_none() {
                continue;
            }
            let (mut exps, mut tanhs) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            // SAFETY: the processor has the instruction set; 16 divides the lengths.
            unsafe { map(&x, &mut exps, &mut tanhs) };
            for ((x, e), t) in x.iter().zip(exps).zip(tanhs) {
                let (exact_e, exact_t) = (f64::from(*x).exp(), f64::from(*x).tanh());
                if x.is_nan() {
                    assert!(e.is_nan() && t.is_nan());
                    continue;
                }
                // Where f32 ends, the rounded value decides.
                let end = (exact_e as f32).is_infinite() || exact_e as f32 == 0.0;
                assert!(
                    if end { e == exact_e as f32 } else { ulps(e, exact_e) <= 1.5 },
                    "{isa} e^{x} = {e}"
                );
                assert!(
                    t.abs() <= 1.0 && t.is_sign_negative() == x.is_sign_negative(),
                    "{isa} tanh {x} = {t}"
                );
                assert!(exact_t == 0.0 || ulps(t, exact_t) <= 3.0, "{isa} tanh {x} = {t}");
            }
        }
    }
}
