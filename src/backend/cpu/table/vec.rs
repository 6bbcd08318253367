//! Operations on vectors of f32: norms, sums, activations, rotary positions.

use super::{Isa, KernelTable};
use crate::backend::cpu::kernels::scalar;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};
use crate::tensor::Activation;

/// Where a norm reads, its weight, its bias (layer norm only), epsilon, where it writes. It works
/// in place when there is nothing to read from.
type RmsNorm = unsafe fn(Option<&[f32]>, Option<&[f32]>, f32, &mut [f32]);
type LayerNorm = unsafe fn(Option<&[f32]>, Option<&[f32]>, Option<&[f32]>, f32, &mut [f32]);
type Activate = unsafe fn(Activation, &[f32], Option<&[f32]>, &mut [f32]);

/// The vector kernels of an instruction set.
pub(super) struct VecKernels {
    rms_norm: RmsNorm,
    layer_norm: LayerNorm,
    add: unsafe fn(&[f32], &mut [f32]),
    axpy: unsafe fn(f32, &[f32], &mut [f32]),
    scale: unsafe fn(f32, &mut [f32]),
    soft_cap: unsafe fn(f32, &mut [f32]),
    activate: Activate,
    rope_norm: unsafe fn(&mut [f32], usize, &[f32]),
    rope_neox: unsafe fn(&mut [f32], usize, &[f32]),
}

impl VecKernels {
    pub(super) const fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => Self {
                rms_norm: avx512::float::rms_norm,
                layer_norm: avx512::float::layer_norm,
                add: avx512::float::add,
                axpy: avx512::float::axpy,
                scale: avx512::float::scale,
                soft_cap: avx512::float::soft_cap,
                activate: avx512::float::activate,
                rope_norm: avx512::float::rope_norm,
                rope_neox: avx512::float::rope_neox,
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self {
                rms_norm: avx2::float::rms_norm,
                layer_norm: avx2::float::layer_norm,
                add: avx2::float::add,
                axpy: avx2::float::axpy,
                scale: avx2::float::scale,
                soft_cap: avx2::float::soft_cap,
                activate: avx2::float::activate,
                rope_norm: avx2::float::rope_norm,
                rope_neox: avx2::float::rope_neox,
            },
            _ => Self {
                rms_norm: scalar::vec::rms_norm,
                layer_norm: scalar::vec::layer_norm,
                add: scalar::vec::add,
                axpy: scalar::vec::axpy,
                scale: scalar::vec::scale,
                soft_cap: scalar::vec::soft_cap,
                activate: scalar::act::activate,
                rope_norm: scalar::vec::rope_norm,
                rope_neox: scalar::vec::rope_neox,
            },
        }
    }
}

/// Whether what is there has `n` elements.
fn has_len(x: Option<&[f32]>, n: usize) -> bool {
    x.is_none_or(|x| x.len() == n)
}

impl KernelTable {
    /// Root mean square norm of one token or head: `y = x / sqrt(mean(x^2) + eps) * w`
    /// (Zhang and Sennrich, arXiv 1910.07467), the mean taken in f64; no `w` is a weight of 1.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm(&self, x: &[f32], w: Option<&[f32]>, eps: f32, y: &mut [f32]) {
        assert!(x.len() == y.len() && has_len(w, y.len()));
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.rms_norm)(Some(x), w, eps, y) }
    }

    /// [`Self::rms_norm`] of `y`, in place; the same bits.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm_in_place(&self, w: Option<&[f32]>, eps: f32, y: &mut [f32]) {
        assert!(has_len(w, y.len()));
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.rms_norm)(None, w, eps, y) }
    }

    /// Layer norm of one token or head: `y = (x - mean(x)) / sqrt(variance(x) + eps) * w + b`
    /// (Ba et al., arXiv 1607.06450), mean and variance taken in f64; no `w` is a weight of 1, no
    /// `b` a bias of 0.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn layer_norm(
        &self,
        x: &[f32],
        w: Option<&[f32]>,
        b: Option<&[f32]>,
        eps: f32,
        y: &mut [f32],
    ) {
        assert!(x.len() == y.len() && has_len(w, y.len()) && has_len(b, y.len()));
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.layer_norm)(Some(x), w, b, eps, y) }
    }

    /// [`Self::layer_norm`] of `y`, in place; the same bits.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn layer_norm_in_place(
        &self,
        w: Option<&[f32]>,
        b: Option<&[f32]>,
        eps: f32,
        y: &mut [f32],
    ) {
        assert!(has_len(w, y.len()) && has_len(b, y.len()));
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.layer_norm)(None, w, b, eps, y) }
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

    /// `y += a * x`: weighted sums, as of experts. One or two roundings, by instruction set.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn axpy(&self, a: f32, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.axpy)(a, x, y) }
    }

    /// `y *= a`
    pub fn scale(&self, a: f32, y: &mut [f32]) {
        // SAFETY: the processor has the table's instruction set.
        unsafe { (self.vec.scale)(a, y) }
    }

    /// `y = cap * tanh(y / cap)`: keeps logits inside `-cap..cap` (Gemma 2, arXiv 2408.00118).
    pub fn soft_cap(&self, cap: f32, y: &mut [f32]) {
        // SAFETY: the processor has the table's instruction set.
        unsafe { (self.vec.soft_cap)(cap, y) }
    }

    /// `y = exp(y - max(y)) / sum(exp(y - max(y)))`, the sum taken in f64: for the short vectors
    /// of routers, so it is the same plain loop in every instruction set. NaN, or nothing but
    /// `-inf`, makes all of it NaN.
    pub fn softmax(&self, y: &mut [f32]) {
        scalar::vec::softmax(y);
    }

    /// `y = max(x - cutoff, 0)` with the cutoff `n_std` sample standard deviations above the mean
    /// of `x`: of numbers that are spread like a Gaussian's it leaves a fixed share (Gemma 3n's
    /// top-k). Mean and variance are taken in f64, by the same plain loop in every instruction set.
    /// NaN anywhere in `x` makes all of `y` NaN.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn beyond(&self, n_std: f32, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        scalar::vec::beyond(n_std, x, y);
    }

    /// Activation of a feed-forward layer: `out = act(gate)`, times `up` when the layer is gated.
    ///
    /// NaN stays NaN, and `-inf` becomes NaN in those functions that multiply it with 0.
    ///
    /// # Panics
    /// When the lengths differ, or an activation that is gated only has no `up`.
    pub fn activate(&self, act: Activation, gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
        assert!(gate.len() == out.len() && has_len(up, out.len()));
        assert!(up.is_some() || !act.is_gated_only(), "{act:?} needs both halves");
        // SAFETY: the processor has the table's instruction set, the lengths are equal.
        unsafe { (self.vec.activate)(act, gate, up, out) }
    }

    /// Rotary position embedding (Su et al., arXiv 2104.09864) of adjacent pairs, in place.
    ///
    /// `x` holds the heads of one token, `head_dim` numbers each. `cos_sin` holds the cosine and
    /// sine of each pair's angle, interleaved; pairs beyond it stay as they are.
    ///
    /// # Panics
    /// When `x` is not whole heads, or `cos_sin` is not whole pairs inside a head.
    pub fn rope_norm(&self, x: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
        check_heads(x, head_dim, cos_sin);
        // SAFETY: the processor has the table's instruction set, the lengths fit.
        unsafe { (self.vec.rope_norm)(x, head_dim, cos_sin) }
    }

    /// As [`Self::rope_norm`] with the pairs `(i, i + cos_sin.len() / 2)` of each head, the order
    /// of GPT-NeoX (Black et al., arXiv 2204.06745). A pair becomes the same bits in both orders.
    ///
    /// # Panics
    /// When `x` is not whole heads, or `cos_sin` is not whole pairs inside a head.
    pub fn rope_neox(&self, x: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
        check_heads(x, head_dim, cos_sin);
        // SAFETY: the processor has the table's instruction set, the lengths fit.
        unsafe { (self.vec.rope_neox)(x, head_dim, cos_sin) }
    }
}

fn check_heads(x: &[f32], head_dim: usize, cos_sin: &[f32]) {
    assert!(head_dim > 0 && x.len().is_multiple_of(head_dim));
    assert!(cos_sin.len().is_multiple_of(2) && cos_sin.len() <= head_dim);
}
