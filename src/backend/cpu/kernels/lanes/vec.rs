//! Operations on vectors of f32, element by element but for the sum of squares.

use super::{Lanes, tanh};
use crate::backend::cpu::kernels::scalar::vec::rms_scale;

/// Runs `$one` over slices of equal length `$n`: whole registers, then one part.
/// `$load` slices are read, `$out` is written; `$arg`s are the same for all.
macro_rules! each {
    ($v:ty, $n:expr, $out:expr, $($one:ident)::+ ($($arg:expr),*; $($load:expr),*)) => {{
        let (n, out) = ($n, $out);
        let mut i = 0;
        while i + <$v>::N <= n {
            $($one)::+($($arg,)* $(<$v>::load($load.add(i))),*).store(out.add(i));
            i += <$v>::N;
        }
        if i < n {
            $($one)::+($($arg,)* $(<$v>::load_part($load.add(i), n - i)),*)
                .store_part(out.add(i), n - i);
        }
    }};
}
pub(super) use each;

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn rms_norm<V: Lanes>(
    x: Option<&[f32]>,
    w: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) {
    let (n, y) = (y.len(), y.as_mut_ptr());
    let x = x.map_or(y.cast_const(), <[f32]>::as_ptr);
    // SAFETY: the caller's promise; i stays inside the equal lengths. x and y are the same or
    // apart, and every register is read before it is written.
    unsafe {
        let mut sum = V::wide_zero();
        let mut i = 0;
        while i + V::N <= n {
            sum = V::load(x.add(i)).wide_add_squares(sum);
            i += V::N;
        }
        sum = V::load_part(x.add(i), n - i).wide_add_squares(sum);
        let scale = V::splat(rms_scale(V::wide_sum(sum), n, eps));
        match w.map(<[f32]>::as_ptr) {
            Some(w) => each!(V, n, y, product3(scale; x, w)),
            None => each!(V, n, y, mul2(scale; x)),
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn product3<V: Lanes>(scale: V, x: V, w: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.mul(scale).mul(w) }
}

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn add<V: Lanes>(x: &[f32], y: &mut [f32]) {
    let (n, x, y) = (y.len(), x.as_ptr(), y.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, y, add2(; x, y)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn add2<V: Lanes>(x: V, y: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { y.add(x) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub(in super::super) unsafe fn scale<V: Lanes>(a: f32, y: &mut [f32]) {
    let (n, y) = (y.len(), y.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, y, mul2(V::splat(a); y)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn mul2<V: Lanes>(a: V, y: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { y.mul(a) }
}

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn axpy<V: Lanes>(a: f32, x: &[f32], y: &mut [f32]) {
    let (n, x, y) = (y.len(), x.as_ptr(), y.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, y, axpy2(V::splat(a); x, y)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn axpy2<V: Lanes>(a: V, x: V, y: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.fma(a, y) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub(in super::super) unsafe fn soft_cap<V: Lanes>(cap: f32, y: &mut [f32]) {
    let (n, y) = (y.len(), y.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, y, cap2(V::splat(cap); y)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn cap2<V: Lanes>(cap: V, y: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { tanh(y.div(cap)).mul(cap) }
}

/// # Safety
/// Needs the instruction set of `V`; `x` is whole heads, `cos_sin` fits into one.
#[inline(always)]
pub(in super::super) unsafe fn rope_norm<V: Lanes>(
    x: &mut [f32],
    head_dim: usize,
    cos_sin: &[f32],
) {
    let (n, cs) = (cos_sin.len(), cos_sin.as_ptr());
    for head in x.chunks_exact_mut(head_dim) {
        let head = head.as_mut_ptr();
        // SAFETY: the caller's promise: cos_sin is not longer than a head.
        unsafe { each!(V, n, head, rotate(; head, cs)) }
    }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn rotate<V: Lanes>(x: V, cos_sin: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.rotate_pairs(cos_sin) }
}

/// `total = total * a + part * b`
///
/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn blend<V: Lanes>(a: f32, total: &mut [f32], b: f32, part: &[f32]) {
    let (n, total, part) = (total.len(), total.as_mut_ptr(), part.as_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, total, blend2(V::splat(a), V::splat(b); total, part)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn blend2<V: Lanes>(a: V, b: V, total: V, part: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { total.fma(a, part.mul(b)) }
}

/// `out = acc / l`
///
/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn divide<V: Lanes>(acc: &[f32], l: f32, out: &mut [f32]) {
    let (n, acc, out) = (out.len(), acc.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe { each!(V, n, out, div2(V::splat(l); acc)) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn div2<V: Lanes>(l: V, acc: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { acc.div(l) }
}
