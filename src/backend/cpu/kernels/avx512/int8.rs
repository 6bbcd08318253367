//! Integer mat-mul with AVX-512 VNNI: 16 weight rows side by side, one per 32-bit lane.
//!
//! A block of 16 rows is unpacked into 8 registers; register `j` holds in lane `r` the codes
//! `4j..4j+4` of row `r`. Then one `vpdpbusd` with four activation codes, broadcast, advances 16
//! outputs by four steps of K. For few tokens the unpacked block is used where it is, in
//! registers; for many it goes to a tile in L1 first, and the tile meets all tokens.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use crate::backend::cpu::kernels::int8::{
    Act, Ahead, BLOCK, Clamped, Even, Int8Kernels, MulMatQ8, Rows,
};
use crate::quant::QuantType;

pub(crate) const KERNELS: Int8Kernels = Int8Kernels {
    quantize,
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0>),
        (QuantType::Q4_1, mul_mat::<Q4_1>),
        (QuantType::Q8_0, mul_mat::<Q8_0>),
    ],
    scratch_bytes: |_| GROUPS * CHUNK * size_of::<Block16>(),
};

/// Weight rows in a group.
const LANES: usize = 16;
/// Groups that share the activations of a micro-kernel.
const GROUPS: usize = 2;
/// Tokens of a micro-kernel: 2 x 4 integer and 2 x 4 float sums leave room for the operands.
const TOKENS: usize = 4;
/// Blocks along K that are unpacked at a time; the tiles of two groups then take 25 KB of L1.
const CHUNK: usize = 20;
/// Up to this many tokens blocks are multiplied as they are unpacked.
const FEW_TOKENS: usize = 4;

/// A block of 16 rows, unpacked.
#[derive(Clone, Copy)]
#[repr(C)]
struct Block16 {
    /// Lane `r` of register `j`: codes `4j..4j+4` of row `r`, as unsigned bytes.
    codes: [__m512i; 8],
    scale: __m512,
    /// Unused by types without a minimum.
    min: __m512,
}

/// What differs between weight types.
///
/// # Safety
/// `unpack` reads only `BLOCK_BYTES` bytes at each row.
unsafe trait Format {
    const BLOCK_BYTES: usize;
    const OFFSET: i32;
    const HAS_MIN: bool;
    /// # Safety
    /// AVX-512 F, BW; a whole block can be read at every row.
    unsafe fn unpack(rows: impl Rows) -> Block16;
}

/// 16 bytes at `offset` of each block: row `4i + p` in 128-bit lane `i` of register `p`.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
unsafe fn load_16x16(rows: impl Rows, offset: usize) -> [__m512i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut x = [_mm512_setzero_si512(); 4];
        for (p, x) in x.iter_mut().enumerate() {
            let row = |i: usize| rows.row(4 * i + p).wrapping_add(offset).cast();
            *x = _mm512_castsi128_si512(_mm_loadu_si128(row(0)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0x00f0, _mm_loadu_si128(row(1)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0x0f00, _mm_loadu_si128(row(2)));
            *x = _mm512_mask_broadcast_i32x4(*x, 0xf000, _mm_loadu_si128(row(3)));
        }
        x
    }
}

/// From 16 bytes of 16 rows as [`load_16x16`] gives them to their dwords `j`, one row per lane.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn transpose(x: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let lo01 = _mm512_unpacklo_epi32(x[0], x[1]);
        let hi01 = _mm512_unpackhi_epi32(x[0], x[1]);
        let lo23 = _mm512_unpacklo_epi32(x[2], x[3]);
        let hi23 = _mm512_unpackhi_epi32(x[2], x[3]);
        [
            _mm512_unpacklo_epi64(lo01, lo23),
            _mm512_unpackhi_epi64(lo01, lo23),
            _mm512_unpacklo_epi64(hi01, hi23),
            _mm512_unpackhi_epi64(hi01, hi23),
        ]
    }
}

/// The first four bytes of each block, one row per lane: scale, and what follows it.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
unsafe fn heads(rows: impl Rows) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let head = |r: usize| rows.row(r).cast::<i32>().read_unaligned();
        _mm512_setr_epi32(
            head(0),
            head(1),
            head(2),
            head(3),
            head(4),
            head(5),
            head(6),
            head(7),
            head(8),
            head(9),
            head(10),
            head(11),
            head(12),
            head(13),
            head(14),
            head(15),
        )
    }
}

/// The f16 in the low half of each lane.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn low_halves(x: __m512i) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)) }
}

/// Codes in nibbles, element `i` low and element `16 + i` high in byte `i`.
///
/// # Safety
/// AVX-512 F; the 16 bytes at `offset` of each row can be read.
#[inline(always)]
unsafe fn nibbles(rows: impl Rows, offset: usize) -> [__m512i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let bytes = transpose(load_16x16(rows, offset));
        let mask = _mm512_set1_epi8(15);
        let mut codes = [mask; 8];
        for j in 0..4 {
            codes[j] = _mm512_and_si512(bytes[j], mask);
            codes[4 + j] = _mm512_and_si512(_mm512_srli_epi32::<4>(bytes[j]), mask);
        }
        codes
    }
}

struct Q4_0;
// SAFETY: reads 4 and 16 of 18 bytes.
unsafe impl Format for Q4_0 {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 8;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            Block16 {
                codes: nibbles(rows, 2),
                scale: low_halves(heads(rows)),
                min: _mm512_setzero_ps(),
            }
        }
    }
}

struct Q4_1;
// SAFETY: reads 4 and 16 of 20 bytes.
unsafe impl Format for Q4_1 {
    const BLOCK_BYTES: usize = 20;
    const OFFSET: i32 = 0;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let heads = heads(rows);
            Block16 {
                codes: nibbles(rows, 4),
                scale: low_halves(heads),
                min: low_halves(_mm512_srli_epi32::<16>(heads)),
            }
        }
    }
}

struct Q8_0;
// SAFETY: reads 4 and twice 16 of 34 bytes.
unsafe impl Format for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const OFFSET: i32 = 128;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block16 {
        // SAFETY: as the caller vouches.
        unsafe {
            let lo = transpose(load_16x16(rows, 2));
            let hi = transpose(load_16x16(rows, 18));
            // Adding 128 modulo 256 makes signed codes unsigned.
            let sign = _mm512_set1_epi8(-128);
            let mut codes = [sign; 8];
            for j in 0..4 {
                codes[j] = _mm512_xor_si512(lo[j], sign);
                codes[4 + j] = _mm512_xor_si512(hi[j], sign);
            }
            Block16 { codes, scale: low_halves(heads(rows)), min: _mm512_setzero_ps() }
        }
    }
}

/// What an activation block contributes besides its codes, in all lanes.
#[derive(Clone, Copy)]
struct Factors {
    /// Start of the integer sum, which takes the weights' offset out.
    isum: __m512i,
    d: __m512,
    /// `d * s`, for types with a minimum.
    sx: __m512,
}

impl Factors {
    /// # Safety
    /// AVX-512 F.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            Self { isum: _mm512_setzero_si512(), d: _mm512_setzero_ps(), sx: _mm512_setzero_ps() }
        }
    }
}

/// # Safety
/// AVX-512 F; `act` points at a block.
#[inline(always)]
unsafe fn factors<F: Format>(act: Act) -> Factors {
    // SAFETY: as the caller vouches.
    unsafe {
        let d = _mm512_set1_ps(*act.d);
        let s = _mm512_set1_epi32(*act.s);
        Factors {
            isum: match F::OFFSET {
                0 => _mm512_setzero_si512(),
                offset => _mm512_mullo_epi32(s, _mm512_set1_epi32(-offset)),
            },
            d,
            sx: _mm512_mul_ps(d, _mm512_cvtepi32_ps(s)),
        }
    }
}

/// Adds a block's exact sum to the outputs, as the contract says.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn accumulate<F: Format>(
    acc: __m512,
    isum: __m512i,
    scale: __m512,
    min: __m512,
    f: Factors,
) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe {
        let acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(scale, f.d), acc);
        if F::HAS_MIN { _mm512_fmadd_ps(min, f.sx, acc) } else { acc }
    }
}

/// Four activation codes in all lanes.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline(always)]
unsafe fn broadcast4(q: *const i8, j: usize) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_set1_epi32(q.add(4 * j).cast::<i32>().read_unaligned()) }
}

/// All of K for 16 rows and `T` tokens, straight from the weights.
///
/// # Safety
/// AVX-512 F, BW, VNNI; 16 rows of `act.n_blocks` blocks, `T` tokens, 16 outputs for each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn few_tokens<F: Format, const T: usize>(rows: Even, act: Act, y: *mut f32, ld: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut rows = rows;
        let mut ahead = Ahead::of(rows, LANES);
        let mut acc = [_mm512_setzero_ps(); T];
        for b in 0..act.n_blocks {
            ahead.fetch(LANES * F::BLOCK_BYTES);
            let block = F::unpack(rows);
            rows = rows.advance(F::BLOCK_BYTES);
            for (t, acc) in acc.iter_mut().enumerate() {
                let act = act.at(t, b);
                let f = factors::<F>(act);
                let mut even = f.isum;
                let mut odd = _mm512_setzero_si512();
                for j in (0..8).step_by(2) {
                    even = _mm512_dpbusd_epi32(even, block.codes[j], broadcast4(act.q, j));
                    odd = _mm512_dpbusd_epi32(odd, block.codes[j + 1], broadcast4(act.q, j + 1));
                }
                let isum = _mm512_add_epi32(even, odd);
                *acc = accumulate::<F>(*acc, isum, block.scale, block.min, f);
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            _mm512_storeu_ps(y.add(t * ld), *acc);
        }
    }
}

/// Where a micro-kernel's outputs go.
#[derive(Clone, Copy)]
struct Out {
    y: *mut f32,
    ld: usize,
    /// Lanes of the (only) group that exist.
    mask: __mmask16,
    /// The outputs start at zero: this is the first chunk of K.
    fresh: bool,
}

/// A chunk of K for `G` unpacked groups of rows and `T` tokens.
///
/// # Safety
/// AVX-512 F, BW, VNNI; `G` tiles of `n` blocks at distance [`CHUNK`], `T` tokens of `n` blocks at
/// `act`, outputs for them.
#[inline(always)]
unsafe fn micro<F: Format, const G: usize, const T: usize>(
    tile: *const Block16,
    n: usize,
    act: Act,
    out: Out,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let y = |g: usize, t: usize| out.y.wrapping_add(t * out.ld + g * LANES);
        let mut acc = [[_mm512_setzero_ps(); T]; G];
        if !out.fresh {
            for (g, acc) in acc.iter_mut().enumerate() {
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_maskz_loadu_ps(out.mask, y(g, t));
                }
            }
        }
        for b in 0..n {
            let tile = tile.add(b);
            let mut isum = [[_mm512_setzero_si512(); T]; G];
            let mut f = [Factors::zero(); T];
            for t in 0..T {
                f[t] = factors::<F>(act.at(t, b));
                for isum in &mut isum {
                    isum[t] = f[t].isum;
                }
            }
            for j in 0..8 {
                let mut q = [_mm512_setzero_si512(); T];
                for (t, q) in q.iter_mut().enumerate() {
                    *q = broadcast4(act.at(t, b).q, j);
                }
                for (g, isum) in isum.iter_mut().enumerate() {
                    let codes = (*tile.add(g * CHUNK)).codes[j];
                    for (isum, q) in isum.iter_mut().zip(q) {
                        *isum = _mm512_dpbusd_epi32(*isum, codes, q);
                    }
                }
            }
            for (g, acc) in acc.iter_mut().enumerate() {
                let block = tile.add(g * CHUNK);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let (scale, min) = ((*block).scale, (*block).min);
                    *acc = accumulate::<F>(*acc, isum[g][t], scale, min, f[t]);
                }
            }
        }
        for (g, acc) in acc.iter().enumerate() {
            for (t, acc) in acc.iter().enumerate() {
                _mm512_mask_storeu_ps(y(g, t), out.mask, *acc);
            }
        }
    }
}

/// A chunk of K for `G` unpacked groups and all tokens.
///
/// # Safety
/// As for [`micro`], with `n_tokens` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn all_tokens<F: Format, const G: usize>(
    tile: *const Block16,
    n: usize,
    act: Act,
    n_tokens: usize,
    out: Out,
) {
    let at = |t: usize| (act.at(t, 0), Out { y: out.y.wrapping_add(t * out.ld), ..out });
    let mut t = 0;
    while t < n_tokens {
        let (act, out) = at(t);
        // SAFETY: as the caller vouches; each micro-kernel takes no more tokens than there are.
        unsafe {
            match n_tokens - t {
                1 => micro::<F, G, 1>(tile, n, act, out),
                2 => micro::<F, G, 2>(tile, n, act, out),
                3 => micro::<F, G, 3>(tile, n, act, out),
                _ => micro::<F, G, TOKENS>(tile, n, act, out),
            }
        }
        t += TOKENS;
    }
}

/// Unpacks `n` blocks of 16 rows.
///
/// # Safety
/// AVX-512 F, BW; the rows have `n` blocks and `tile` has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn unpack<F: Format>(rows: impl Rows, n: usize, tile: *mut Block16) {
    // SAFETY: as the caller vouches.
    unsafe {
        for b in 0..n {
            *tile.add(b) = F::unpack(rows.advance(b * F::BLOCK_BYTES));
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn mul_mat<F: Format>(a: &MulMatQ8) {
    let act = Act::of(a);
    let tile = a.scratch.cast::<Block16>();
    let mut i = 0;
    while i < a.n_rows {
        let rows = Even { base: a.w.wrapping_add(i * a.row_bytes), stride: a.row_bytes };
        let y = a.y.wrapping_add(i);
        let left = a.n_rows - i;
        // SAFETY: as the caller vouches; each branch takes no more rows than are left.
        unsafe {
            if left >= LANES && a.n_tokens <= FEW_TOKENS {
                match a.n_tokens {
                    1 => few_tokens::<F, 1>(rows, act, y, a.ld),
                    2 => few_tokens::<F, 2>(rows, act, y, a.ld),
                    3 => few_tokens::<F, 3>(rows, act, y, a.ld),
                    _ => few_tokens::<F, FEW_TOKENS>(rows, act, y, a.ld),
                }
                i += LANES;
                continue;
            }
            for b in (0..a.n_blocks).step_by(CHUNK) {
                let n = CHUNK.min(a.n_blocks - b);
                let (rows, act) = (rows.advance(b * F::BLOCK_BYTES), act.at(0, b));
                let out = Out { y, ld: a.ld, mask: !0, fresh: b == 0 };
                if left >= GROUPS * LANES {
                    for g in 0..GROUPS {
                        unpack::<F>(rows.advance(g * LANES * a.row_bytes), n, tile.add(g * CHUNK));
                    }
                    all_tokens::<F, GROUPS>(tile, n, act, a.n_tokens, out);
                } else if left >= LANES {
                    unpack::<F>(rows, n, tile);
                    all_tokens::<F, 1>(tile, n, act, a.n_tokens, out);
                } else {
                    unpack::<F>(Clamped { rows, last: left - 1 }, n, tile);
                    let out = Out { mask: (1 << left) - 1, ..out };
                    all_tokens::<F, 1>(tile, n, act, a.n_tokens, out);
                }
            }
            i += if left >= GROUPS * LANES { GROUPS * LANES } else { LANES };
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::QuantizeFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn quantize(x: *const f32, n_blocks: usize, q: *mut i8, d: *mut f32, s: *mut i32) {
    for b in 0..n_blocks {
        // SAFETY: the caller vouches for n_blocks blocks.
        unsafe {
            let x0 = _mm512_loadu_ps(x.add(b * BLOCK));
            let x1 = _mm512_loadu_ps(x.add(b * BLOCK + 16));
            let magnitude = _mm512_set1_epi32(0x7fff_ffff);
            let m0 = _mm512_and_si512(_mm512_castps_si512(x0), magnitude);
            let m1 = _mm512_and_si512(_mm512_castps_si512(x1), magnitude);
            // As integers, infinities and NaNs come out above every number.
            let bits = _mm512_reduce_max_epi32(_mm512_max_epi32(m0, m1));
            let amax = f32::from_bits(bits.cast_unsigned());
            let inv = 127.0 / amax;
            let out = q.add(b * BLOCK);
            if !amax.is_finite() || !inv.is_finite() {
                *d.add(b) = if amax.is_finite() { 0.0 } else { f32::NAN };
                *s.add(b) = 0;
                out.write_bytes(0, BLOCK);
                continue;
            }
            let inv = _mm512_set1_ps(inv);
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            let i0 = _mm512_cvt_roundps_epi32::<NEAREST>(_mm512_mul_ps(x0, inv));
            let i1 = _mm512_cvt_roundps_epi32::<NEAREST>(_mm512_mul_ps(x1, inv));
            _mm_storeu_si128(out.cast(), _mm512_cvtepi32_epi8(i0));
            _mm_storeu_si128(out.add(16).cast(), _mm512_cvtepi32_epi8(i1));
            *d.add(b) = amax / 127.0;
            *s.add(b) = _mm512_reduce_add_epi32(_mm512_add_epi32(i0, i1));
        }
    }
}
