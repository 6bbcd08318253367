//! Activation functions: one type for each, so that one loop serves all of them.

use super::vec::each;
use super::{Lanes, exp};
use crate::backend::cpu::kernels::scalar;
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
            Activation::GeluErf => scalar::act::activate(act, gate, up, out),
            Activation::GeluQuick => run::<V, GeluQuick>(gate, up, out),
            Activation::Relu => run::<V, Relu>(gate, up, out),
            Activation::ReluSquared => run::<V, ReluSquared>(gate, up, out),
            Activation::SwigluOai => run::<V, SwigluOai>(gate, up, out),
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
struct GeluQuick;
struct Relu;
struct ReluSquared;
struct SwigluOai;

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
