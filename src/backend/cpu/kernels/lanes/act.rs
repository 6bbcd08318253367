//! Activation functions: one type for each, so that one loop serves all of them.

use super::vec::each;
use super::{Lanes, exp};
use crate::backend::cpu::kernels::scalar::act::{GELU_CUBIC, OAI_LIMIT, QUICK, SQRT_2_OVER_PI};
use crate::tensor::Activation;

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn activate<V: Lanes>(
    act: Activation,
    gate: &[f32],
    up: Option<&[f32]>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match act {
            Activation::Silu => run::<V, Silu>(gate, up, out),
            Activation::Gelu => run::<V, Gelu>(gate, up, out),
            Activation::GeluErf => run::<V, GeluErf>(gate, up, out),
            Activation::GeluQuick => run::<V, GeluQuick>(gate, up, out),
            Activation::Relu => run::<V, Relu>(gate, up, out),
            Activation::ReluSquared => run::<V, ReluSquared>(gate, up, out),
            Activation::SwigluOai => run::<V, SwigluOai>(gate, up, out),
            Activation::DoubleRelu => run::<V, DoubleRelu>(gate, up, out),
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
unsafe fn run<V: Lanes, A: Act>(gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    let (n, gate, out) = (out.len(), gate.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller's promise.
    unsafe {
        match up.map(<[f32]>::as_ptr) {
            Some(up) => each!(V, n, out, A::gated(; gate, up)),
            None => each!(V, n, out, A::plain(; gate)),
        }
    }
}

/// An activation function of a register; NaN stays NaN.
///
/// # Safety
/// Every method needs the instruction set of `V`.
trait Act {
    unsafe fn plain<V: Lanes>(gate: V) -> V;

    #[inline(always)]
    unsafe fn gated<V: Lanes>(gate: V, up: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { Self::plain(gate).mul(up) }
    }
}

struct Silu;
struct Gelu;
struct GeluErf;
struct GeluQuick;
struct Relu;
struct ReluSquared;
struct SwigluOai;
struct DoubleRelu;

impl Act for Silu {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { times_sigmoid(x, x) }
    }
}

impl Act for Gelu {
    /// `(1 + tanh(u)) / 2` is `sigmoid(2 u)`, which loses nothing where x is negative.
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let linear = V::splat(2.0 * SQRT_2_OVER_PI);
            let cubic = V::splat(2.0 * SQRT_2_OVER_PI * GELU_CUBIC);
            times_sigmoid(x, x.mul(x).fma(cubic, linear).mul(x))
        }
    }
}

impl Act for GeluErf {
    /// `max(x, 0) - a Q(a)` with `a = |x|` and the upper tail `Q` of the normal distribution:
    /// nothing cancels, unlike in `1 + erf(x / sqrt(2))`. Within 8 units in the last place.
    ///
    /// `Q(a) = exp(-a^2 / 2) t P(t)` with `t = 1 / (1 + 0.4 a)`, in the manner of Hastings (1955).
    /// `P` was fitted for the smallest relative error over a in 0..14.6, which is 1.5e-8.
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        const P: [f32; 10] = [
            0.032_227_68,
            -0.176_874_1,
            0.382_408_17,
            -0.374_100_54,
            0.119_476_44,
            -0.026_792_828,
            0.091_304_01,
            0.133_149_12,
            0.159_626_1,
            0.159_575_97,
        ];
        // SAFETY: the caller's promise. A NaN is the second operand of min and survives.
        unsafe {
            // From 14.6 on a Q(a) is 0; infinity may not reach the quotient.
            let a = V::splat(20.0).min(x.abs());
            let d = a.fma(V::splat(0.4), V::splat(1.0));
            let t = V::splat(1.0).div(d);
            let mut p = V::splat(P[0]);
            for c in &P[1..] {
                p = p.fma(t, V::splat(*c));
            }
            // What the square loses by rounding matters: e^(s + r) is e^s (1 + r).
            let square = a.mul(a);
            let half = V::splat(-0.5);
            let lost = a.fma(a, V::splat(-0.0).sub(square)).mul(half);
            let tail = a.mul(t).mul(p).mul(exp(square.mul(half)));
            let tail = tail.fma(lost, tail);
            let positive = x.select_lt(V::splat(0.0), x.mul(V::splat(0.0)), x);
            positive.sub(tail)
        }
    }
}

impl Act for GeluQuick {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { times_sigmoid(x, x.mul(V::splat(QUICK))) }
    }
}

impl Act for Relu {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.select_lt(V::splat(0.0), V::splat(0.0), x) }
    }
}

impl Act for ReluSquared {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let x = Relu::plain(x);
            x.mul(x)
        }
    }
}

impl Act for SwigluOai {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise. A NaN is the second operand of min and survives.
        unsafe { GeluQuick::plain(V::splat(OAI_LIMIT).min(x)) }
    }

    #[inline(always)]
    unsafe fn gated<V: Lanes>(gate: V, up: V) -> V {
        // SAFETY: as above.
        unsafe {
            let up = V::splat(-OAI_LIMIT).max(V::splat(OAI_LIMIT).min(up));
            Self::plain(gate).mul(up.add(V::splat(1.0)))
        }
    }
}

impl Act for DoubleRelu {
    #[inline(always)]
    unsafe fn plain<V: Lanes>(x: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { Relu::plain(x) }
    }

    #[inline(always)]
    unsafe fn gated<V: Lanes>(gate: V, up: V) -> V {
        // SAFETY: as above.
        unsafe { Relu::plain(gate).mul(Relu::plain(up)) }
    }
}

/// `x * sigmoid(t)`
///
/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
unsafe fn times_sigmoid<V: Lanes>(x: V, t: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let e = exp(V::splat(-0.0).sub(t));
        x.div(e.add(V::splat(1.0)))
    }
}
