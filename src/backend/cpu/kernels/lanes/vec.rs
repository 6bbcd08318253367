//! Operations on vectors of f32, element by element but for the sum of squares.

use super::{Lanes, tanh};
use crate::backend::cpu::kernels::scalar::vec::{Mean, rms_scale};

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
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn layer_norm<V: Lanes>(
    x: Option<&[f32]>,
    w: Option<&[f32]>,
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) {
    let (n, y) = (y.len(), y.as_mut_ptr());
    let x = x.map_or(y.cast_const(), <[f32]>::as_ptr);
    // SAFETY: as in rms_norm.
    unsafe {
        let mut sum = V::wide_zero();
        let mut i = 0;
        while i + V::N <= n {
            sum = V::load(x.add(i)).wide_add(sum);
            i += V::N;
        }
        sum = V::load_part(x.add(i), n - i).wide_add(sum);
        let mean = Mean::of(V::wide_sum(sum), n);
        let (hi, lo) = (V::splat(mean.hi), V::splat(mean.lo));

        let mut sum = V::wide_zero();
        let mut i = 0;
        while i + V::N <= n {
            sum = V::load(x.add(i)).sub(hi).sub(lo).wide_add_squares(sum);
            i += V::N;
        }
        let rest = V::load_part(x.add(i), n - i).sub(hi).sub(lo);
        sum = rest.keep(0, n - i, V::splat(0.0)).wide_add_squares(sum);
        let scale = V::splat(rms_scale(V::wide_sum(sum), n, eps));

        match (w.map(<[f32]>::as_ptr), b.map(<[f32]>::as_ptr)) {
            (None, None) => each!(V, n, y, center1(hi, lo, scale; x)),
            (Some(w), None) => each!(V, n, y, center2(hi, lo, scale; x, w)),
            (None, Some(b)) => each!(V, n, y, center_add(hi, lo, scale; x, b)),
            (Some(w), Some(b)) => each!(V, n, y, center3(hi, lo, scale; x, w, b)),
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn center1<V: Lanes>(hi: V, lo: V, scale: V, x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.sub(hi).sub(lo).mul(scale) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn center2<V: Lanes>(hi: V, lo: V, scale: V, x: V, w: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { center1(hi, lo, scale, x).mul(w) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn center_add<V: Lanes>(hi: V, lo: V, scale: V, x: V, b: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { center1(hi, lo, scale, x).add(b) }
}

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn center3<V: Lanes>(hi: V, lo: V, scale: V, x: V, w: V, b: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { center1(hi, lo, scale, x).fma(w, b) }
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

/// # Safety
/// Needs the instruction set of `V`; `x` is whole heads, `cos_sin` fits into one.
#[inline(always)]
pub(in super::super) unsafe fn rope_neox<V: Lanes>(
    x: &mut [f32],
    head_dim: usize,
    cos_sin: &[f32],
) {
    let (n_pairs, cs) = (cos_sin.len() / 2, cos_sin.as_ptr());
    let mut i = 0;
    while i < n_pairs {
        let n = V::N.min(n_pairs - i);
        // SAFETY: the caller's promise: pairs i .. i + n are 2 n numbers of cos_sin, and lie
        // inside every head. An empty part reads nothing, wherever it points.
        unsafe {
            let (a, b) = (cs.add(2 * i), cs.wrapping_add(2 * i + V::N));
            let (cos, sin) = if n == V::N {
                V::deinterleave(V::load(a), V::load(b))
            } else {
                let n_b = (2 * n).saturating_sub(V::N);
                V::deinterleave(V::load_part(a, V::N.min(2 * n)), V::load_part(b, n_b))
            };
            let minus_sin = V::splat(-0.0).sub(sin);
            for head in x.chunks_exact_mut(head_dim) {
                let first = head.as_mut_ptr().add(i);
                let second = first.add(n_pairs);
                // The roundings of rotate_pairs, so that both orders of pairs give the same bits.
                let turn = |a: V, b: V| (a.fma(cos, b.mul(minus_sin)), b.fma(cos, a.mul(sin)));
                if n == V::N {
                    let (a, b) = turn(V::load(first), V::load(second));
                    a.store(first);
                    b.store(second);
                } else {
                    let (a, b) = turn(V::load_part(first, n), V::load_part(second, n));
                    a.store_part(first, n);
                    b.store_part(second, n);
                }
            }
        }
        i += n;
    }
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
