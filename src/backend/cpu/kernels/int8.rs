//! The contract of the integer mat-mul kernels: quantised weights times 8-bit activations.
//!
//! # The arithmetic
//!
//! It is the same on every instruction set, to the bit, and does not depend on how many tokens or
//! rows are computed together. Along K both sides come in blocks of [`BLOCK`] = 32 elements.
//!
//! Activations, from f32 `x`:
//! - `amax = max |x|`. A block with a NaN or an infinity gets `d = NaN`, `q = 0`, `s = 0`, so that
//!   its outputs are NaN instead of silently wrong.
//! - `inv = 127 / amax`. When that is infinite (`amax` is zero, or below about 3.7e-37) the block
//!   is zero: `d = 0`, `q = 0`, `s = 0`.
//! - otherwise `d = amax / 127` in f32, `q = x * inv` rounded to the nearest integer, ties to even
//!   (it lies in -127..=127), `s` = sums of the first 16 and of the last 16 `q`.
//!
//! Weights: integer codes `u` with an offset `o` that is common to the type, a scale `dw` and for
//! some types a minimum `m`. In types with blocks of 32 both are f16 in the file (for MXFP4 an
//! exponent) and widened exactly. Super-blocks of 256 elements are 8 blocks; theirs are products of an f16 of the
//! super-block and a small integer of the block, rounded to f32 once. Where integers belong to
//! 16 elements, they weigh the halves of a block exactly: `a` the products, `b` the sums.
//!
//! | type | code | offset | `dw` | `m` | `a` | `b` |
//! |---|---|---|---|---|---|---|
//! | Q4_0 | 0..=15 | 8 | f16 | | | |
//! | Q4_1 | 0..=15 | 0 | f16 | f16 | | |
//! | Q5_0 | 0..=31 | 16 | f16 | | | |
//! | Q5_1 | 0..=31 | 0 | f16 | f16 | | |
//! | Q8_0 | signed byte + 128 | 128 | f16 | | | |
//! | IQ4_NL | [`IQ4_NL_VALUES`] of a nibble + 128 | 128 | f16 | | | |
//! | MXFP4 | [`MXFP4_VALUES`] of a nibble + 12 | 12 | [`mxfp4_scale`] | | | |
//! | Q4_K | 0..=15 | 0 | d * 0..=63 | -(dmin * 0..=63) | | |
//! | Q5_K | 0..=31 | 0 | d * 0..=63 | -(dmin * 0..=63) | | |
//! | Q6_K | 0..=63 | 32 | d | | -128..=127 | |
//! | Q3_K | 0..=7 | 4 | d | | -32..=31 | |
//! | Q2_K | 0..=3 | 0 | d | -dmin | 0..=15 | 0..=15 |
//! | IQ4_XS | [`IQ4_NL_VALUES`] of a nibble + 128 | 128 | d * -32..=31 | | | |
//! | Q1_0 | 2 times a bit | 1 | f16 | | | |
//! | Q2_0, TQ2_0 | 0..=3 | 1 | f16 | | | |
//! | TQ1_0 | base-3 digit | 1 | f16 | | | |
//! | IQ1_S, IQ1_M | 8 times a point's -1, 0, 1, plus or minus 1 | | two: d * 1/8 * 1..=15 | | | |
//! | IQ2_XXS, IQ2_XS, IQ2_S | ±8, ±25, ±43 | | two: d * 1/8 * 1..=31 | | | |
//! | IQ3_XXS | ±4..=62 | | two: d * 1/4 * 1..=31 | | | |
//! | IQ3_S | ±1..=15 | | two: d * 1..=31 | | | |
//! | NVFP4 | [`MXFP4_VALUES`] of a nibble | | two: half a UE4M3 | | | |
//!
//! An output starts at `acc = +0.0`, and for every block in ascending order, with a sum over its
//! halves `h` (`a` and `b` are 1 in types without them)
//!
//! ```text
//! isum = sum of a[h] * (u - o) * q            exact in i32
//! acc  = fma(isum as f32, dw * d, acc)        dw * d rounded to f32 once
//! msum = sum of b[h] * s[h]                   exact in i32, for types with a minimum
//! acc  = fma(m, d * (msum as f32), acc)       d * msum rounded to f32 once
//! ```
//!
//! Types with two scales in a block add its halves one after the other, first `h = 0`, then `1`:
//!
//! ```text
//! acc = fma((sum of (u - o) * q over half h) as f32, dw[h] * d, acc)
//! ```
//!
//! Their codes are decoded by table look-ups, in plain code that all instruction sets share
//! ([`super::int8_decoded`]); the scales are exact products.
//!
//! `|isum| <= 2^24` (Q6_K comes closest: 32 products of 128 * 32 * 128), so its conversion is exact
//! too. The SIMD kernels keep one output per lane all the way: there is one chain of fused
//! multiply-adds per output and no sum across float lanes.
//!
//! # Adding a type
//!
//! A line in the `rows` of each instruction set: the scalar kernel wants a function that decodes
//! one block, a SIMD kernel one that unpacks a block of 8 or 16 rows so that 32-bit lane `r` of
//! register `j` holds codes `4j..4j+4` of row `r`. The rest of each kernel is generic over that.
//! Types with blocks of 32 are in `int8` and `int8_unpack`, those with super-blocks in `int8_k`.
//! A type that is decoded by look-ups joins the others of its kind in [`super::int8_decoded`].

use crate::quant::QuantType;

/// Elements along K that share a scale, in weights and in activations.
pub(crate) const BLOCK: usize = 32;

/// What the nibbles of IQ4_NL and IQ4_XS stand for (the formats' definition).
pub(crate) const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// What the nibbles of MXFP4 and NVFP4 stand for: E2M1 numbers (OCP Microscaling Formats v1.0),
/// doubled to be integers.
pub(crate) const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The scale of [`MXFP4_VALUES`] for an E8M0 exponent: `2^(e - 128)`, exact (0 and 1 are
/// subnormal), as GGUF has it also for 255, which is NaN in E8M0.
pub(crate) const fn mxfp4_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e as u32 - 1) << 23 })
}

/// A table of codes less their offset, as the unsigned bytes that a product wants.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn unsigned_values(values: [i8; 16], offset: i32) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 16 {
        out[i] = (values[i] as i32 + offset) as u8;
        i += 1;
    }
    out
}

/// Sums of the codes of the first and of the last 16 elements of an activation block.
pub(crate) type Sums = [i16; 2];

/// Both sums from `first + 65536 * last`, one reduction of registers instead of two.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn sums(both: i32) -> Sums {
    let first = both as i16;
    [first, (both.wrapping_sub(i32::from(first)) >> 16) as i16]
}

/// One call of a mat-mul kernel: `n_rows` weight rows times `n_tokens` activation rows.
#[derive(Clone, Copy)]
pub(crate) struct MulMatQ8<'a> {
    /// Type of the weights, for kernels that serve several.
    pub(crate) ty: QuantType,
    /// Row 0 of the weights.
    pub(crate) w: *const u8,
    /// Distance between weight rows; a row is blocks of the type without gaps.
    pub(crate) row_bytes: usize,
    /// Weight rows, at least 1.
    pub(crate) n_rows: usize,
    /// Which rows of the weights, `n_rows` of them; without a list the first ones.
    pub(crate) ids: Option<&'a [u32]>,
    /// Blocks of 32 in a row, at least 1; a multiple of 8 for types with super-blocks.
    pub(crate) n_blocks: usize,
    /// Activation codes, `n_tokens` rows of `32 * n_blocks`.
    pub(crate) q: *const i8,
    /// Activation scales, `n_tokens` rows of `n_blocks`.
    pub(crate) d: *const f32,
    /// Sums of the activation codes, laid out like `d`.
    pub(crate) s: *const Sums,
    /// Activation rows, at least 1.
    pub(crate) n_tokens: usize,
    /// Output: weight row `i` of the call times token `t` goes to `y[t * ld + i]`.
    pub(crate) y: *mut f32,
    /// Distance between output rows in elements.
    pub(crate) ld: usize,
    /// Work space of [`Int8Kernels::scratch_bytes`], aligned to 64 bytes.
    pub(crate) scratch: *mut u8,
}

impl MulMatQ8<'_> {
    /// Weight row `i` of the call.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> *const u8 {
        let row = self.ids.map_or(i, |ids| ids[i] as usize);
        self.w.wrapping_add(row * self.row_bytes)
    }

    /// Rows `i` and following of a call that has no list.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn even_rows_from(&self, i: usize) -> Even {
        Even { base: self.w.wrapping_add(i * self.row_bytes), stride: self.row_bytes }
    }

    /// Rows `i` and following; the last one stands in for those that do not exist.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn rows_from(&self, i: usize) -> [*const u8; MAX_LANES] {
        let last = self.n_rows - 1;
        match self.ids {
            Some(_) => std::array::from_fn(|r| self.row((i + r).min(last))),
            None => {
                let (first, last) = (self.row(i), last - i.min(last));
                std::array::from_fn(|r| first.wrapping_add(r.min(last) * self.row_bytes))
            }
        }
    }

    /// What to fetch while groups of `n_rows` of a list are computed.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn ahead(&self, n_rows: usize) -> Ahead<'_> {
        match self.ids {
            Some(_) => Ahead::new(self.w, self.row_bytes, self.ids, n_rows),
            None => Ahead::nothing(),
        }
    }
}

/// Computes a [`MulMatQ8`].
///
/// # Safety
/// The processor has the kernel's instruction set and every pointer is valid for what its field
/// says; `y` and `scratch` are not touched by anyone else meanwhile. Nothing but the bytes of the
/// `n_rows` weight rows is read from the weights.
pub(crate) type MulMatFn = unsafe fn(&MulMatQ8<'_>);

/// Quantises `n_blocks` blocks of `x` to codes `q`, scales `d` and code sums `s`.
///
/// # Safety
/// The processor has the kernel's instruction set; `x` and `q` are valid for `32 * n_blocks`
/// elements and `d` and `s` for `n_blocks`.
pub(crate) type QuantizeFn =
    unsafe fn(x: *const f32, n_blocks: usize, q: *mut i8, d: *mut f32, s: *mut Sums);

/// The integer kernels of one instruction set.
pub(crate) struct Int8Kernels {
    /// Activations to 8 bits.
    pub(crate) quantize: QuantizeFn,
    /// Mat-mul by weight type.
    pub(crate) rows: &'static [(QuantType, MulMatFn)],
    /// Work space in bytes that a mat-mul with rows of this many blocks of a type wants.
    pub(crate) scratch_bytes: fn(ty: QuantType, n_blocks: usize) -> usize,
}

/// The most weight rows that a kernel works on side by side.
#[cfg(target_arch = "x86_64")]
pub(crate) const MAX_LANES: usize = 16;

/// Addresses of the rows of a group, one per SIMD lane.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Rows: Copy {
    /// Row `r` of the group.
    fn row(self, r: usize) -> *const u8;
    /// The same rows, `bytes` further along K.
    fn advance(self, bytes: usize) -> Self;
}

/// Rows at an even distance: two registers. Addresses that are read from a list instead cost a
/// product of one token a tenth of its speed.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Even {
    base: *const u8,
    stride: usize,
}

#[cfg(target_arch = "x86_64")]
impl Rows for Even {
    #[inline(always)]
    fn row(self, r: usize) -> *const u8 {
        self.base.wrapping_add(r * self.stride)
    }
    #[inline(always)]
    fn advance(self, bytes: usize) -> Self {
        Self { base: self.base.wrapping_add(bytes), ..self }
    }
}

/// Rows anywhere.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Scattered<'a> {
    starts: &'a [*const u8; MAX_LANES],
    offset: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Scattered<'a> {
    /// Rows that start at these addresses.
    pub(crate) fn new(starts: &'a [*const u8; MAX_LANES]) -> Self {
        Self { starts, offset: 0 }
    }
}

#[cfg(target_arch = "x86_64")]
impl Rows for Scattered<'_> {
    #[inline(always)]
    fn row(self, r: usize) -> *const u8 {
        self.starts[r].wrapping_add(self.offset)
    }
    #[inline(always)]
    fn advance(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

/// Activations from some token and block on.
#[derive(Clone, Copy)]
pub(crate) struct Act {
    pub(crate) q: *const i8,
    pub(crate) d: *const f32,
    pub(crate) s: *const Sums,
    /// Blocks of a token.
    pub(crate) n_blocks: usize,
}

impl Act {
    /// All activations of a call.
    pub(crate) fn of(a: &MulMatQ8<'_>) -> Self {
        Self { q: a.q, d: a.d, s: a.s, n_blocks: a.n_blocks }
    }

    /// The activations `t` tokens and `b` blocks further.
    #[inline(always)]
    pub(crate) fn at(self, t: usize, b: usize) -> Self {
        let i = t * self.n_blocks + b;
        Self {
            q: self.q.wrapping_add(i * BLOCK),
            d: self.d.wrapping_add(i),
            s: self.s.wrapping_add(i),
            ..self
        }
    }
}

/// Fetches rows that will be needed soon into L2.
///
/// The rows of a group are read side by side, too many streams for the processor to foresee. So
/// what comes next is fetched line by line while a group is computed, one row after the other as
/// they lie in memory. It must go to L2: in L1 it would throw out lines of the group in use.
/// Measured from RAM with one token, this is 1.5x faster than L1 as the target at K = 4096, and
/// 1.3x faster than only one group ahead at K = 576.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Fetch: Clone {
    /// Fetches the next `bytes` bytes of the rows.
    fn fetch(&mut self, bytes: usize);
}

/// How far ahead, in bytes: what RAM delivers in about a microsecond.
#[cfg(target_arch = "x86_64")]
const DISTANCE: usize = 16 << 10;
/// Bytes that come from memory together.
#[cfg(target_arch = "x86_64")]
pub(crate) const LINE: usize = 64;

/// Leaves it to the processor: for rows that are multiplied with more tokens than memory is the
/// limit for.
#[cfg(target_arch = "x86_64")]
impl Fetch for () {
    #[inline(always)]
    fn fetch(&mut self, _bytes: usize) {}
}

/// Fetches what lies ahead of a group of rows at an even distance.
#[cfg(target_arch = "x86_64")]
#[derive(Clone)]
pub(crate) struct Onwards(*const u8);

#[cfg(target_arch = "x86_64")]
impl Onwards {
    /// To be used beside a group of `n_rows` rows.
    #[inline(always)]
    pub(crate) fn of(rows: Even, n_rows: usize) -> Self {
        let group = n_rows * rows.stride;
        Self(rows.base.wrapping_add(DISTANCE.next_multiple_of(group)))
    }
}

#[cfg(target_arch = "x86_64")]
impl Fetch for Onwards {
    #[inline(always)]
    fn fetch(&mut self, bytes: usize) {
        for line in 0..bytes.div_ceil(LINE) {
            to_l2(self.0.wrapping_add(LINE * line));
        }
        self.0 = self.0.wrapping_add(bytes);
    }
}

/// Fetches the rows of a list, or rows that lie one behind the other.
///
/// Rows of a list are in pages of their own, whose addresses the processor must look up first. That
/// takes about as long as reading the row, and a fetch that waits for it holds up what comes after
/// it. So the pages of a group of rows are asked for at once: 1.4x faster in pages of 4 KB, and about
/// what huge pages would give.
#[cfg(target_arch = "x86_64")]
#[derive(Clone)]
pub(crate) struct Ahead<'a> {
    /// The next byte to fetch.
    at: *const u8,
    /// Where its row ends; never, for rows that lie one behind the other.
    end: *const u8,
    /// Row 0 of the matrix that `ids` are rows of.
    w: *const u8,
    row_bytes: usize,
    /// Rows after this one.
    ids: std::slice::Iter<'a, u32>,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Ahead<'a> {
    /// The smallest page there is.
    const PAGE: usize = 4096;

    /// To be used from row 0 of a product on, `n_rows` of which are computed side by side.
    pub(crate) fn new(
        w: *const u8,
        row_bytes: usize,
        ids: Option<&'a [u32]>,
        n_rows: usize,
    ) -> Self {
        let distance = DISTANCE.next_multiple_of((n_rows * row_bytes).max(1));
        let Some(ids) = ids else {
            let (at, end) = (w.wrapping_add(distance), std::ptr::without_provenance(usize::MAX));
            return Self { at, end, w, row_bytes, ids: [].iter() };
        };
        let n_now = (distance / row_bytes.max(1)).min(ids.len());
        let (now, ids) = ids.split_at(n_now);
        let mut ahead = Self { at: w, end: w, w, row_bytes, ids: now.iter() };
        ahead.ask_for_pages(now.len());
        ahead.ids = ids.iter();
        ahead
    }

    /// Fetches nothing.
    pub(crate) fn nothing() -> Self {
        Self::new(std::ptr::null(), 0, Some(&[]), 1)
    }

    /// Fetches a line of every page that the next `n_rows` rows are in; before each group of rows,
    /// as it is too much for inside of a kernel.
    pub(crate) fn ask_for_pages(&self, n_rows: usize) {
        for &id in self.ids.as_slice().iter().take(n_rows) {
            let row = self.row(id);
            (0..self.row_bytes).step_by(Self::PAGE).for_each(|at| to_l2(row.wrapping_add(at)));
            to_l2(row.wrapping_add(self.row_bytes.saturating_sub(1)));
        }
    }

    #[inline(always)]
    fn row(&self, id: u32) -> *const u8 {
        self.w.wrapping_add(id as usize * self.row_bytes)
    }
}

#[cfg(target_arch = "x86_64")]
impl Fetch for Ahead<'_> {
    #[inline(always)]
    fn fetch(&mut self, bytes: usize) {
        let mut left = bytes;
        loop {
            let here = self.end.addr() - self.at.addr();
            if left <= here {
                for line in 0..bytes.div_ceil(LINE) {
                    to_l2(self.at.wrapping_add(line * LINE));
                }
                self.at = self.at.wrapping_add(left);
                return;
            }
            for line in 0..here.div_ceil(LINE) {
                to_l2(self.at.wrapping_add(line * LINE));
            }
            left -= here;
            let Some(&id) = self.ids.next() else {
                self.at = self.end;
                return;
            };
            self.at = self.row(id);
            self.end = self.at.wrapping_add(self.row_bytes);
        }
    }
}

/// Fetches the line that this byte is in.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn to_l2(p: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: prefetches are part of SSE, which all x86-64 has, and never fault.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) };
}
