//! Weighted sums of rows of plain numbers.

use super::Lanes;
use super::float::{Brain, Half, Plain, Single};
use super::sum_rows::{Ahead, STRIP};
use crate::backend::cpu::kernels::sum_rows::{GROUP, SumRows};

/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says, with the instruction set of `V`;
/// likewise below.
#[inline(always)]
pub(in super::super) unsafe fn sum_f32<V: Lanes>(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain::<V, Single>(a) }
}

/// # Safety
/// As for `sum_f32`.
#[inline(always)]
pub(in super::super) unsafe fn sum_f16<V: Lanes>(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain::<V, Half>(a) }
}

/// # Safety
/// As for `sum_f32`.
#[inline(always)]
pub(in super::super) unsafe fn sum_bf16<V: Lanes>(a: &SumRows<'_>) {
    // SAFETY: the caller's promise.
    unsafe { sum_plain::<V, Brain>(a) }
}

/// Four rows in a pass over the sums of a strip, then what is left one by one.
///
/// # Safety
/// As for `sum_f32`.
#[inline(always)]
unsafe fn sum_plain<V: Lanes, W: Plain>(a: &SumRows<'_>) {
    for col in (0..a.n_cols).step_by(STRIP) {
        let n = STRIP.min(a.n_cols - col);
        let (y, byte) = (a.y.wrapping_add(col), col * W::BYTES);
        let whole = a.ids.len() / GROUP * GROUP;
        // SAFETY: the caller vouches for the rows and for y.
        unsafe {
            for i in (0..whole).step_by(GROUP) {
                let (rows, h) = a.group(i);
                let rows = rows.map(|row| row.wrapping_add(byte));
                add::<V, W, GROUP>(rows, h, n, y, Ahead::of(a, i, byte, n * W::BYTES));
            }
            for i in whole..a.ids.len() {
                let row = a.row(i).wrapping_add(byte);
                add::<V, W, 1>([row], [a.h[i]], n, y, Ahead::of(a, i, byte, n * W::BYTES));
            }
        }
    }
}

/// Adds `R` rows of `n` numbers.
///
/// # Safety
/// The instruction set of `V`; rows and `y` of `n` numbers.
#[inline(always)]
unsafe fn add<V: Lanes, W: Plain, const R: usize>(
    rows: [*const u8; R],
    h: [f32; R],
    n: usize,
    y: *mut f32,
    mut ahead: Ahead,
) {
    // SAFETY: as the caller vouches; i stays below n, and the last, partial step reads n - i.
    unsafe {
        let mut i = 0;
        while i + V::N <= n {
            ahead.fetch((i + V::N) * W::BYTES);
            let mut sum = V::load(y.add(i));
            for (row, h) in rows.into_iter().zip(h) {
                sum = V::splat(h).fma(W::load::<V>(row.add(i * W::BYTES)), sum);
            }
            sum.store(y.add(i));
            i += V::N;
        }
        if i < n {
            let mut sum = V::load_part(y.add(i), n - i);
            for (row, h) in rows.into_iter().zip(h) {
                sum = V::splat(h).fma(W::load_part::<V>(row.add(i * W::BYTES), n - i), sum);
            }
            sum.store_part(y.add(i), n - i);
        }
    }
}
