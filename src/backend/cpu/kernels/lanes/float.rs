//! Rows of weights as f32, f32 to half, and matrix products with f32 activations.

use super::Lanes;
use crate::backend::cpu::kernels::int8::{Ahead, Fetch};
use crate::backend::cpu::kernels::scalar::float::{DequantRow, MatF32, SCRATCH_PAD};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;

/// Elements of a block of the quantised types here.
const BLOCK: usize = 32;

/// # Safety
/// Needs the instruction set of `V`; `bytes` are `out.len()` numbers.
#[inline(always)]
pub(in super::super) unsafe fn dequant_f16<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { widen::<V, Half>(bytes, out) }
}

/// # Safety
/// Needs the instruction set of `V`; `bytes` are `out.len()` numbers.
#[inline(always)]
pub(in super::super) unsafe fn dequant_bf16<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { widen::<V, Brain>(bytes, out) }
}

/// # Safety
/// Needs the instruction set of `V`; `bytes` are `out.len()` numbers.
#[inline(always)]
unsafe fn widen<V: Lanes, W: Plain>(bytes: &[u8], out: &mut [f32]) {
    let (n, p, out) = (out.len(), bytes.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller's promise; i stays inside the equal lengths.
    unsafe {
        let mut i = 0;
        while i + V::N <= n {
            W::load::<V>(p.add(i * W::BYTES)).store(out.add(i));
            i += V::N;
        }
        if i < n {
            W::load_part::<V>(p.add(i * W::BYTES), n - i).store_part(out.add(i), n - i);
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`; equal lengths.
#[inline(always)]
pub(in super::super) unsafe fn store_f16<V: Lanes>(x: &[f32], out: &mut [u16]) {
    let (n, x, out) = (out.len(), x.as_ptr(), out.as_mut_ptr());
    // SAFETY: the caller's promise; i stays inside the equal lengths.
    unsafe {
        let mut i = 0;
        while i + V::N <= n {
            V::load(x.add(i)).store_f16(out.add(i));
            i += V::N;
        }
        if i < n {
            V::load_part(x.add(i), n - i).store_f16_part(out.add(i), n - i);
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`; `bytes` are blocks of `out.len()` elements.
#[inline(always)]
pub(in super::super) unsafe fn dequant_q4_0<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.chunks_exact(18).zip(out.chunks_exact_mut(BLOCK)) {
        let (p, out) = (block.as_ptr(), out.as_mut_ptr());
        // SAFETY: the caller's promise; a block has 2 + 16 bytes and 32 elements.
        unsafe {
            let d = V::splat_f16(p);
            for i in (0..BLOCK / 2).step_by(V::N) {
                let (lo, hi) = V::load_nibbles(p.add(2 + i));
                lo.sub(V::splat(8.0)).mul(d).store(out.add(i));
                hi.sub(V::splat(8.0)).mul(d).store(out.add(BLOCK / 2 + i));
            }
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`; `bytes` are blocks of `out.len()` elements.
#[inline(always)]
pub(in super::super) unsafe fn dequant_q4_1<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.chunks_exact(20).zip(out.chunks_exact_mut(BLOCK)) {
        let (p, out) = (block.as_ptr(), out.as_mut_ptr());
        // SAFETY: the caller's promise; a block has 4 + 16 bytes and 32 elements.
        unsafe {
            let (d, m) = (V::splat_f16(p), V::splat_f16(p.add(2)));
            for i in (0..BLOCK / 2).step_by(V::N) {
                let (lo, hi) = V::load_nibbles(p.add(4 + i));
                lo.mul(d).add(m).store(out.add(i));
                hi.mul(d).add(m).store(out.add(BLOCK / 2 + i));
            }
        }
    }
}

/// # Safety
/// Needs the instruction set of `V`; `bytes` are blocks of `out.len()` elements.
#[inline(always)]
pub(in super::super) unsafe fn dequant_q8_0<V: Lanes>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.chunks_exact(34).zip(out.chunks_exact_mut(BLOCK)) {
        let (p, out) = (block.as_ptr(), out.as_mut_ptr());
        // SAFETY: the caller's promise; a block has 2 + 32 bytes and 32 elements.
        unsafe {
            let d = V::splat_f16(p);
            for i in (0..BLOCK).step_by(V::N) {
                V::load_i8(p.add(2 + i).cast()).mul(d).store(out.add(i));
            }
        }
    }
}

/// A number format that a product reads straight into registers.
pub(super) trait Plain {
    const BYTES: usize;
    /// # Safety
    /// Needs the instruction set of `V` and `N` numbers at `p`.
    unsafe fn load<V: Lanes>(p: *const u8) -> V;
    /// # Safety
    /// Needs the instruction set of `V` and `n` numbers at `p`.
    unsafe fn load_part<V: Lanes>(p: *const u8, n: usize) -> V;
}

macro_rules! plain {
    ($name:ident $bytes:literal $load:ident $load_part:ident) => {
        pub(super) struct $name;
        impl Plain for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn load<V: Lanes>(p: *const u8) -> V {
                // SAFETY: the caller's promise.
                unsafe { V::$load(p.cast()) }
            }
            #[inline(always)]
            unsafe fn load_part<V: Lanes>(p: *const u8, n: usize) -> V {
                // SAFETY: the caller's promise.
                unsafe { V::$load_part(p.cast(), n) }
            }
        }
    };
}
plain!(Single 4 load load_part);
plain!(Half 2 load_f16 load_f16_part);
plain!(Brain 2 load_bf16 load_bf16_part);

/// Weight rows of a register tile.
const ROWS: usize = 4;
/// The most weight rows that pass all tokens together.
const GROUP: usize = 32;
/// Up to this many tokens memory is the limit, and rows are fetched ahead of their use; listed rows
/// always are.
const FETCH_TOKENS: usize = 2;

/// The product of [`MatF32`], with at most `T` tokens in a register tile.
///
/// Rows go in groups that stay in the L2 cache while all tokens pass by. Plain numbers that only
/// few tokens want are read as they are; the rest is decoded into `scratch` first, which gives
/// the same numbers.
///
/// # Safety
/// Needs the instruction set of `V`; all lengths fit, `scratch` holds 4 rows with
/// [`SCRATCH_PAD`] each, or more.
#[inline(always)]
pub(in super::super) unsafe fn mul_mat<V: Lanes, const T: usize>(
    m: &MatF32<'_>,
    y: &mut ColsMut<'_, f32>,
    scratch: &mut [f32],
    dequant: fn(QuantType) -> DequantRow,
) {
    let (y, ld) = y.as_raw();
    // Decoded rows lie a little apart, or rows of a power of two would share few cache sets.
    let stride = m.k + SCRATCH_PAD;
    let group = (scratch.len() / stride).clamp(ROWS, GROUP) / ROWS * ROWS;
    let few = m.n_tokens <= T;
    let dequant = dequant(m.ty);
    let mut ahead = match m.ids {
        None if m.n_tokens > FETCH_TOKENS => Ahead::nothing(),
        ids => Ahead::new(m.w.as_ptr(), m.row_bytes, ids, ROWS),
    };
    for r0 in (0..m.n_rows).step_by(group) {
        let n_rows = group.min(m.n_rows - r0);
        let mut rows = [std::ptr::null(); GROUP];
        let rows = &mut rows[..n_rows];
        ahead.ask_for_pages(n_rows);
        for (r, row) in rows.iter_mut().enumerate() {
            *row = m.row(r0 + r).as_ptr();
        }
        // SAFETY: the caller's promise: rows r0 .. r0 + n_rows and columns of y exist.
        unsafe {
            let y = y.add(r0);
            match m.ty {
                QuantType::F32 if few => {
                    group_product::<V, Single, T>(m, rows, &mut ahead, y, ld);
                }
                QuantType::F16 if few => {
                    group_product::<V, Half, T>(m, rows, &mut ahead, y, ld);
                }
                QuantType::BF16 if few => {
                    group_product::<V, Brain, T>(m, rows, &mut ahead, y, ld);
                }
                _ => {
                    for (r, row) in rows.iter_mut().enumerate() {
                        ahead.fetch(m.row_bytes);
                        let decoded = &mut scratch[r * stride..][..m.k];
                        dequant(m.row(r0 + r), decoded);
                        *row = decoded.as_ptr().cast();
                    }
                    group_product::<V, Single, T>(m, rows, &mut Ahead::nothing(), y, ld);
                }
            }
        }
    }
}

/// Multiplies rows of a group with all tokens.
///
/// # Safety
/// As [`mul_mat`]; `y` points to the value of the first row and token, tokens are `ld` apart.
#[inline(always)]
unsafe fn group_product<V: Lanes, W: Plain, const T: usize>(
    m: &MatF32<'_>,
    rows: &[*const u8],
    ahead: &mut Ahead<'_>,
    y: *mut f32,
    ld: usize,
) {
    let mut t = 0;
    while t < m.n_tokens {
        // The first tokens to pass fetch for all.
        let mut nothing = Ahead::nothing();
        let ahead = if t == 0 { &mut *ahead } else { &mut nothing };
        // SAFETY: the caller's promise; t and the tile's tokens lie below n_tokens.
        unsafe {
            let (x, y) = (m.x.as_ptr().add(t * m.k), y.add(t * ld));
            t += match m.n_tokens - t {
                6.. if T >= 6 => strip::<V, W, 6>(rows, ahead, x, m.k, y, ld),
                4.. if T >= 6 => strip::<V, W, 4>(rows, ahead, x, m.k, y, ld),
                3.. => strip::<V, W, 3>(rows, ahead, x, m.k, y, ld),
                2 => strip::<V, W, 2>(rows, ahead, x, m.k, y, ld),
                _ => strip::<V, W, 1>(rows, ahead, x, m.k, y, ld),
            };
        }
    }
}

/// Multiplies all rows of a group with `T` tokens; gives `T`.
///
/// # Safety
/// As [`group_product`].
#[inline(always)]
unsafe fn strip<V: Lanes, W: Plain, const T: usize>(
    rows: &[*const u8],
    ahead: &mut Ahead<'_>,
    x: *const f32,
    k: usize,
    y: *mut f32,
    ld: usize,
) -> usize {
    let (tiles, rest) = rows.as_chunks::<ROWS>();
    // SAFETY: the caller's promise; r stays below the number of rows.
    unsafe {
        for (i, rows) in tiles.iter().enumerate() {
            let sums = tile::<V, W, ROWS, T>(*rows, ahead, x, k);
            for (t, sums) in sums.iter().enumerate() {
                y.add(t * ld + i * ROWS).cast::<[f32; ROWS]>().write_unaligned(*sums);
            }
        }
        for (r, row) in (tiles.len() * ROWS..).zip(rest) {
            let sums = tile::<V, W, 1, T>([*row], ahead, x, k);
            for (t, sums) in sums.iter().enumerate() {
                y.add(t * ld + r).write(sums[0]);
            }
        }
    }
    T
}

/// The register tile: `R` rows times `T` tokens, all sums by one chain per lane and one tree.
///
/// # Safety
/// Needs the instruction set of `V`, `R` rows of `k` and `T` rows of `k` at `x`.
#[inline(always)]
unsafe fn tile<V: Lanes, W: Plain, const R: usize, const T: usize>(
    rows: [*const u8; R],
    fetch: &mut Ahead<'_>,
    x: *const f32,
    k: usize,
) -> [[f32; ROWS]; T] {
    // SAFETY: the caller's promise; i stays below k, and the last, partial step reads k - i.
    unsafe {
        let mut acc = [[V::splat(0.0); ROWS]; T];
        let mut ahead = fetch.clone();
        let mut i = 0;
        while i + V::N <= k {
            let mut xs = [V::splat(0.0); T];
            for t in 0..T {
                xs[t] = V::load(x.add(t * k + i));
            }
            ahead.fetch(R * V::N * W::BYTES);
            for r in 0..R {
                let w = W::load::<V>(rows[r].add(i * W::BYTES));
                for t in 0..T {
                    acc[t][r] = w.fma(xs[t], acc[t][r]);
                }
            }
            i += V::N;
        }
        if i < k {
            for r in 0..R {
                let w = W::load_part::<V>(rows[r].add(i * W::BYTES), k - i);
                for t in 0..T {
                    acc[t][r] = w.fma(V::load_part(x.add(t * k + i), k - i), acc[t][r]);
                }
            }
        }
        *fetch = ahead;
        let mut sums = [[0.0; ROWS]; T];
        for t in 0..T {
            sums[t] = V::sum4(acc[t]);
        }
        sums
    }
}
