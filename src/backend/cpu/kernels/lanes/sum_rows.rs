//! Weighted sums of rows, by the contract in [`crate::backend::cpu::kernels::sum_rows`].
//!
//! The bytes of 16 columns of four rows, a quad, are interleaved, so that a 32-bit lane has the four
//! rows of one column. Widened to words, two dot products of pairs with the integer factors make a
//! column's sum over the quad; a group has two quads. The factors of all units of a strip of columns are computed before, 16 side by
//! side; the sums of the strip stay in L1.
//!
//! No closures where intrinsics are: a closure that is not inlined has no instruction set, and its
//! intrinsics become calls.

use std::ops::Range;

use super::sum_formats::Format;
use crate::backend::cpu::kernels::int8::{BLOCK, LINE, to_l2};
use crate::backend::cpu::kernels::sum_rows::{GROUP, SumRows};

/// Rows whose bytes fit in a lane of 32 bits.
pub(in super::super) const QUAD: usize = 4;
/// Quads of a group.
pub(in super::super) const QUADS: usize = GROUP / QUAD;
/// Addresses of the rows of a quad.
pub(in super::super) type Quad = [*const u8; QUAD];

/// 16 lanes of 32 bits: of four bytes or two words, one for a row each.
///
/// # Safety
/// Every method needs the instruction set; those with pointers need what they read and write.
pub(in super::super) trait Words: Copy {
    /// 16 lanes of f32.
    type F: Copy;
    /// Places of bytes that `interleave` shuffles by.
    type Order: Copy;

    unsafe fn order() -> Self::Order;
    /// The 16 bytes at `at` of each row: lane `i` has byte `i` of rows 0, 1, 2, 3.
    unsafe fn interleave(order: Self::Order, rows: Quad, at: usize) -> Self;
    unsafe fn splat(x: i32) -> Self;
    unsafe fn broadcast(p: *const i32) -> Self;
    unsafe fn and(self, b: Self) -> Self;
    unsafe fn or(self, b: Self) -> Self;
    /// Shifts of words, `n` a constant.
    unsafe fn shl(self, n: i32) -> Self;
    unsafe fn shr(self, n: i32) -> Self;
    /// Shift of signed words.
    unsafe fn sar(self, n: i32) -> Self;
    /// What the bytes, all below 16, stand for.
    unsafe fn look_up(self, table: &[i8; 16]) -> Self;
    /// Sets the bits of `value` in the bytes where bit `at + i` of row `r`'s word is set, for byte
    /// `r` of lane `i`.
    unsafe fn with_bits(self, words: [u32; QUAD], at: usize, value: i8) -> Self;
    /// Sums of the products of the two signed words of each lane.
    unsafe fn dot(self, b: Self) -> Self;
    /// Sums of dwords.
    unsafe fn add(self, b: Self) -> Self;
    /// `y[i] = fma(lane i, f, y[i])`, then plus `min` where there is one.
    unsafe fn add_to(self, f: *const f32, min: Option<*const f32>, y: *mut f32);

    /// The half at `p`.
    unsafe fn half(p: *const u8) -> f32;
    /// The halves at the first of `n` places at this distance, each within the first four bytes of a
    /// block of `stride` bytes that can be read; lanes from `n` on repeat the last.
    unsafe fn halves(p: *const u8, stride: usize, n: usize) -> Self::F;
    /// `d[i / 8] * x[i]`
    unsafe fn unsigned(x: [u8; 16], d: [f32; 2]) -> Self::F;
    /// `d * x[i]`
    unsafe fn signed(x: *const i8, d: f32) -> Self::F;
    unsafe fn negated(x: Self::F) -> Self::F;
    /// `h * x`
    unsafe fn scaled(h: f32, x: Self::F) -> Self::F;
    /// `fma(h, x, sum)`
    unsafe fn add_scaled(h: f32, x: Self::F, sum: Self::F) -> Self::F;
    unsafe fn store(x: Self::F, p: *mut f32);
    /// The factors of 16 units from their `p`.
    unsafe fn factors(p: [Self::F; GROUP], offset: i32, unit: usize, out: *mut Factors);
}

/// Columns that are gone through with all rows before the next: 8 KB of sums.
pub(super) const STRIP: usize = 2048;
/// Units of a strip: columns that share a scale in each row.
const UNITS: usize = STRIP / 16;

/// Factors of all units of a strip.
#[repr(C, align(64))]
pub(in super::super) struct Factors {
    /// Of each quad, rows 0 (low word) and 2, then rows 1 and 3.
    pub(in super::super) c: [[[i32; UNITS]; 2]; QUADS],
    /// What the codes' offset takes from their sum.
    pub(in super::super) bias: [i32; UNITS],
    /// What sums are multiplied by.
    pub(in super::super) f: [f32; UNITS],
    /// The minimums' sum.
    pub(in super::super) min: [f32; UNITS],
}

/// Fetches rows that will be needed soon, while others are summed.
///
/// The list jumps, so that the processor foresees nothing. Into L2: few lines can be on their way
/// to L1 at a time, and from RAM that is 1.5x slower. A fetch that has to wait for the address of
/// its page holds up what comes after it, so the pages are asked for still earlier, a line of each.
pub(super) struct Ahead {
    rows: [*const u8; GROUP],
    /// Bytes of each row that were asked for.
    asked: usize,
}

impl Ahead {
    /// Groups ahead.
    const DISTANCE: usize = 2;

    /// To be used beside the group that begins at entry `i` of the list; `n_bytes` bytes of each
    /// row are wanted, from `byte` on.
    #[inline(always)]
    pub(super) fn of(a: &SumRows<'_>, i: usize, byte: usize, n_bytes: usize) -> Self {
        let n_ahead = GROUP * Self::DISTANCE;
        if i == 0 {
            Self::start(a, byte, n_bytes);
        }
        Self::ask_for_pages(a, i + 2 * n_ahead..i + 2 * n_ahead + GROUP, byte, n_bytes);
        let last = a.ids.len() - 1;
        let mut rows = [a.w; GROUP];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = a.row((i + n_ahead + r).min(last)).wrapping_add(byte);
        }
        Self { rows, asked: 0 }
    }

    /// Fetches the first groups, which no other is before.
    #[inline(never)]
    fn start(a: &SumRows<'_>, byte: usize, n_bytes: usize) {
        let n_ahead = GROUP * Self::DISTANCE;
        Self::ask_for_pages(a, 0..2 * n_ahead, byte, n_bytes);
        for i in 0..n_ahead.min(a.ids.len()) {
            let row = a.row(i).wrapping_add(byte);
            (0..n_bytes).step_by(LINE).for_each(|at| to_l2(row.wrapping_add(at)));
        }
    }

    /// Fetches a line of every page of these entries' rows, of those that exist.
    #[inline(always)]
    fn ask_for_pages(a: &SumRows<'_>, entries: Range<usize>, byte: usize, n_bytes: usize) {
        /// The smallest page there is.
        const PAGE: usize = 4096;
        for i in entries.start..entries.end.min(a.ids.len()) {
            let row = a.row(i).wrapping_add(byte);
            (0..n_bytes).step_by(PAGE).for_each(|at| to_l2(row.wrapping_add(at)));
            to_l2(row.wrapping_add(n_bytes.saturating_sub(1)));
        }
    }

    /// Fetches the bytes of each row up to the `end`th.
    #[inline(always)]
    pub(super) fn fetch(&mut self, end: usize) {
        while self.asked < end {
            for row in self.rows {
                to_l2(row.wrapping_add(self.asked));
            }
            self.asked += LINE;
        }
    }
}

/// Takes the codes of a strip in ascending order of columns.
pub(in super::super) struct Sink<'a, V: Words> {
    pub(super) order: V::Order,
    factors: &'a Factors,
    /// Of the next column.
    unit: usize,
    y: *mut f32,
}

impl<V: Words> Sink<'_, V> {
    /// The next 32 columns, of each quad: registers of 16, of rows 0 and 2, and of rows 1 and 3.
    ///
    /// # Safety
    /// The instruction set of `V`, and room for them.
    #[inline(always)]
    pub(super) unsafe fn take<F: Format>(&mut self, codes: [[[V; 2]; 2]; QUADS]) {
        let (u, f) = (self.unit, self.factors);
        // SAFETY: as the caller vouches.
        unsafe {
            for i in 0..2 {
                let u = u + i * (F::UNITS - 1);
                let mut sum = match F::OFFSET {
                    0 => V::splat(0),
                    _ => V::broadcast(f.bias.as_ptr().add(u)),
                };
                for (codes, c) in codes.iter().zip(&f.c) {
                    let even = codes[i][0].dot(V::broadcast(c[0].as_ptr().add(u)));
                    let odd = codes[i][1].dot(V::broadcast(c[1].as_ptr().add(u)));
                    sum = sum.add(even.add(odd));
                }
                let min = if F::HAS_MIN { Some(f.min.as_ptr().add(u)) } else { None };
                sum.add_to(f.f.as_ptr().add(u), min, self.y.add(16 * i));
            }
        }
        self.unit += F::UNITS;
        self.y = self.y.wrapping_add(BLOCK);
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::sum_rows::SumRowsFn`] says, with the instruction set of `V`.
#[inline(always)]
pub(in super::super) unsafe fn sum_rows<V: Words, F: Format>(a: &SumRows<'_>) {
    let mut factors = Factors {
        c: [[[0; UNITS]; 2]; QUADS],
        bias: [0; UNITS],
        f: [0.0; UNITS],
        min: [0.0; UNITS],
    };
    // SAFETY: the caller vouches for the instruction set.
    let order = unsafe { V::order() };
    for col in (0..a.n_cols).step_by(STRIP) {
        let n_blocks = STRIP.min(a.n_cols - col) / BLOCK;
        let byte = col / BLOCK / F::N * F::BYTES;
        let n_bytes = n_blocks / F::N * F::BYTES;
        for i in (0..a.ids.len()).step_by(GROUP) {
            let (mut rows, h) = a.group(i);
            for row in &mut rows {
                *row = row.wrapping_add(byte);
            }
            let mut ahead = Ahead::of(a, i, byte, n_bytes);
            // SAFETY: the caller vouches for rows and y of n_cols columns; units of a strip fit
            // into Factors, also when 16 are computed together, as 16 divides UNITS.
            unsafe {
                let n_units = n_blocks * F::UNITS;
                for unit in (0..n_units).step_by(16) {
                    // Twice, so that one is compiled for a constant.
                    match n_units - unit {
                        16.. => unit_factors::<V, F>(rows, h, unit, 16, &raw mut factors),
                        n => unit_factors::<V, F>(rows, h, unit, n, &raw mut factors),
                    }
                }
                let y = a.y.add(col);
                let quads =
                    [[rows[0], rows[1], rows[2], rows[3]], [rows[4], rows[5], rows[6], rows[7]]];
                let mut sink = Sink::<V> { order, factors: &factors, unit: 0, y };
                for b in 0..n_blocks / F::N {
                    ahead.fetch((b + 1) * F::BYTES);
                    // Rows stay and a place in them moves: there are not registers for more.
                    F::each(quads, b * F::BYTES, &mut sink);
                }
            }
        }
    }
}

/// The factors of `n` of 16 units of a group of rows.
///
/// # Safety
/// The instruction set of `V`; rows with units up to `unit + n`, room for 16 at `unit`.
#[inline(always)]
unsafe fn unit_factors<V: Words, F: Format>(
    rows: [*const u8; GROUP],
    h: [f32; GROUP],
    unit: usize,
    n: usize,
    out: *mut Factors,
) {
    let byte = unit / F::UNITS / F::N * F::BYTES;
    // SAFETY: as the caller vouches.
    unsafe {
        let first = F::scales::<V>(rows[0].wrapping_add(byte), n);
        let (mut p, mut sum) = ([V::scaled(h[0], first.0); GROUP], V::scaled(h[0], first.1));
        for r in 1..GROUP {
            let (scale, min) = F::scales::<V>(rows[r].wrapping_add(byte), n);
            p[r] = V::scaled(h[r], scale);
            sum = V::add_scaled(h[r], min, sum);
        }
        V::factors(p, F::OFFSET, unit, out);
        if F::HAS_MIN {
            V::store(sum, (&raw mut (*out).min).cast::<f32>().add(unit));
        }
    }
}
