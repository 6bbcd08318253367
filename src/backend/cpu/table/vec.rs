//! Operations on vectors of f32: norms, sums, activations, rotary positions.

use super::{Isa, KernelTable};
use crate::backend::cpu::kernels::scalar;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};

/// The vector kernels of an instruction set.
pub(super) struct VecKernels {
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    add: unsafe fn(&[f32], &mut [f32]),
    scale: unsafe fn(f32, &mut [f32]),
    silu_mul: unsafe fn(&[f32], &[f32], &mut [f32]),
    rope_norm: unsafe fn(&mut [f32], usize, &[f32]),
}

impl VecKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => Self {
                rms_norm: avx512::float::rms_norm,
                add: avx512::float::add,
                scale: avx512::float::scale,
                silu_mul: avx512::float::silu_mul,
                rope_norm: avx512::float::rope_norm,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                rms_norm: avx2::float::rms_norm,
                add: avx2::float::add,
                scale: avx2::float::scale,
                silu_mul: avx2::float::silu_mul,
                rope_norm: avx2::float::rope_norm,
            },
            _ => Self {
                rms_norm: scalar::vec::rms_norm,
                add: scalar::vec::add,
                scale: scalar::vec::scale,
                silu_mul: scalar::vec::silu_mul,
                rope_norm: scalar::vec::rope_norm,
            },
        }
    }
}

impl KernelTable {
    /// Root mean square norm of one token: `y = x / sqrt(mean(x^2) + eps) * w`
    /// (Zhang and Sennrich, 2019), the mean taken in f64.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm(&self, x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
        assert!(x.len() == w.len() && x.len() == y.len());
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.rms_norm)(x, w, eps, y) }
    }

    /// `y += x`: residuals and biases.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.add)(x, y) }
    }

    /// `y *= a`
    pub fn scale(&self, a: f32, y: &mut [f32]) {
        // SAFETY: the processor has the table's instruction set.
        unsafe { (self.vec.scale)(a, y) }
    }

    /// SwiGLU: `out = gate / (1 + exp(-gate)) * up` (Shazeer, 2020).
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn silu_mul(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len());
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.silu_mul)(gate, up, out) }
    }

    /// Rotary position embedding (Su et al., 2021) of adjacent pairs, in place.
    ///
    /// `x` holds the heads of one token, `head_dim` numbers each. `cos_sin` holds the cosine and
    /// sine of each pair's angle, interleaved; pairs beyond it stay as they are.
    ///
    /// # Panics
    /// When `x` is not whole heads, or `cos_sin` is not whole pairs inside a head.
    pub fn rope_norm(&self, x: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
        assert!(head_dim > 0 && x.len().is_multiple_of(head_dim));
        assert!(cos_sin.len().is_multiple_of(2) && cos_sin.len() <= head_dim);
        // SAFETY: the processor has the table's instruction set, the lengths fit.
        unsafe { (self.vec.rope_norm)(x, head_dim, cos_sin) }
    }
}
