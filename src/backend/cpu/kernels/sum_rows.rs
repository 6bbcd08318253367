//! The contract of weighted sums of rows: `y[c] += sum over i of h[i] * w[ids[i]][c]`, the down
//! projection of the neurons that fire, where a neuron's weights are a row.
//!
//! A float multiply-add for every weight is bound by arithmetic long before memory. Here eight rows
//! are summed as integers, and one conversion and one multiply-add serve the eight.
//!
//! # The arithmetic
//!
//! It is the same on every instruction set, to the bit, and does not depend on which columns are
//! computed together. The list is taken in groups of [`GROUP`] = 8 entries in a row; where the last
//! group is short, its first row stands in for what is missing, with `h = 0`.
//!
//! Weights are codes `u` with an offset `o`, a scale `dw` and for some types a minimum `m`, as in
//! the table of [`super::int8`]; where that has weights `a` of half blocks (Q6_K), `dw` is `d * a`,
//! an exact product, and belongs to 16 columns. For every group, and all columns that share a scale
//! in each row:
//!
//! ```text
//! p[r]   = h[r] * dw[r]                       rounded to f32
//! S      = max |p[r]|
//! inv    = 32512 / S                          rounded to f32; 32512 = 127 * 256
//! c[r]   = p[r] * inv                         rounded to f32, then to an integer, ties to even
//! f      = S * (1 / 32512)                    1 / 32512 and the product rounded to f32
//! ```
//!
//! - When a `p[r]` is infinite or NaN, all `c` are 0 and `f` is NaN: so are the outputs.
//! - When `inv` is infinite (`S` is zero, or below about 9.6e-35), all `c` and `f` are 0.
//!
//! So the factors have 16 bits with their sign, against 8 of activations in a mat-mul. A column
//! then gets
//!
//! ```text
//! isum = sum over r of c[r] * (u[r] - o)      exact in i32
//! y    = fma(isum as f32, f, y)
//! ```
//!
//! and in types with a minimum after that `y = y + s` with `s = h[0] * m[0]`, then
//! `s = fma(h[r], m[r], s)` for `r` = 1 to 7.
//!
//! `|isum| <= 8 * 32512 * 128 < 2^25`; its conversion rounds to the nearest f32, ties to even, and is
//! exact for codes of fewer than 8 bits. In exact arithmetic `c[r] * f` would miss `p[r]` by at most
//! `S / 65024`.
//!
//! # Weights that are multiplied as numbers
//!
//! F32, F16 and BF16, and all types when the caller wants f32 arithmetic: `y = fma(h[i], w, y)` for
//! the entries `i` of the list in order, with the dequantised `w`.
//!
//! # Adding a type
//!
//! A decoder of blocks in `scalar/sum_rows.rs`, a `Format` in `lanes/sum_formats.rs`, and a line in
//! the `ROWS` of each instruction set.

use crate::quant::QuantType;

/// Entries of the list that are summed as integers together.
pub(crate) const GROUP: usize = 8;

/// The largest `|c|`.
pub(crate) const C_MAX: f32 = 32512.0;

/// One call: a list of rows, a range of columns.
#[derive(Clone, Copy)]
pub(crate) struct SumRows<'a> {
    /// The first of the columns in row 0; at a whole block.
    pub(crate) w: *const u8,
    /// Distance between rows.
    pub(crate) row_bytes: usize,
    /// Places of the rows.
    pub(crate) ids: &'a [u32],
    /// A factor for each of `ids`.
    pub(crate) h: &'a [f32],
    /// Columns, whole blocks.
    pub(crate) n_cols: usize,
    /// `n_cols` sums, added to.
    pub(crate) y: *mut f32,
}

impl SumRows<'_> {
    /// Where the columns of the `i`th row of the list begin.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> *const u8 {
        self.w.wrapping_add(self.ids[i] as usize * self.row_bytes)
    }

    /// The rows and the factors of the group that begins at entry `i`.
    #[inline(always)]
    pub(crate) fn group(&self, i: usize) -> ([*const u8; GROUP], [f32; GROUP]) {
        let (mut rows, mut h) = ([self.row(i); GROUP], [0.0; GROUP]);
        for r in 0..GROUP.min(self.ids.len() - i) {
            (rows[r], h[r]) = (self.row(i + r), self.h[i + r]);
        }
        (rows, h)
    }
}

/// Computes a [`SumRows`].
///
/// # Safety
/// The processor has the kernel's instruction set; all rows of the list and `y` are valid for
/// `n_cols` columns, and `y` is not touched by anyone else meanwhile. Nothing but these columns of
/// these rows is read from the weights.
pub(crate) type SumRowsFn = unsafe fn(&SumRows<'_>);

/// The kernels of one instruction set.
pub(crate) struct SumKernels {
    /// Integer sums by type.
    pub(crate) rows: &'static [(QuantType, SumRowsFn)],
    /// Sums of plain numbers by type: F32, F16, BF16.
    pub(crate) plain: &'static [(QuantType, SumRowsFn)],
}
