//! Integer mat-mul with AVX-512: 16 weight rows side by side, one per 32-bit lane.
//!
//! A block of 16 rows is unpacked into 8 registers; register `j` holds in lane `r` the codes
//! `4j..4j+4` of row `r`. Then one dot step with four activation codes, broadcast, advances 16
//! outputs by four steps of K: a `vpdpbusd` where there is VNNI, else as on AVX2. For few tokens
//! the unpacked block is used where it is, in registers; for many it goes to a tile in L1 first,
//! and the tile meets all tokens.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use super::int8_unpack::{Block16, Format, LANES, Q4_0, Q4_1, Q8_0};
use crate::backend::cpu::kernels::int8::{
    Act, Ahead, BLOCK, Clamped, Even, Int8Kernels, MulMatQ8, Rows, Sums, sums,
};
use crate::quant::QuantType;

/// With VNNI.
pub(crate) const KERNELS_VNNI: Int8Kernels = Int8Kernels {
    quantize,
    rows: &[
        (QuantType::Q4_0, mul_mat_vnni::<Q4_0>),
        (QuantType::Q4_1, mul_mat_vnni::<Q4_1>),
        (QuantType::Q8_0, mul_mat_vnni::<Q8_0>),
        (QuantType::Q5_0, mul_mat_vnni::<Q5_0>),
        (QuantType::Q5_1, mul_mat_vnni::<Q5_1>),
        (QuantType::IQ4_NL, mul_mat_vnni::<IQ4_NL>),
        (QuantType::MXFP4, mul_mat_vnni::<MXFP4>),
    ],
    scratch_bytes,
};

/// Without VNNI.
pub(crate) const KERNELS: Int8Kernels = Int8Kernels {
    quantize,
    rows: &[
        (QuantType::Q4_0, mul_mat_bw::<Q4_0>),
        (QuantType::Q4_1, mul_mat_bw::<Q4_1>),
        (QuantType::Q8_0, mul_mat_bw::<Q8_0>),
        (QuantType::Q5_0, mul_mat_bw::<Q5_0>),
        (QuantType::Q5_1, mul_mat_bw::<Q5_1>),
        (QuantType::IQ4_NL, mul_mat_bw::<IQ4_NL>),
        (QuantType::MXFP4, mul_mat_bw::<MXFP4>),
    ],
    scratch_bytes,
};

const fn scratch_bytes(_n_blocks: usize) -> usize {
    GROUPS * CHUNK * size_of::<Block16>()
}

/// Groups that share the activations of a micro-kernel.
const GROUPS: usize = 2;
/// Tokens of a micro-kernel: 2 x 4 integer and 2 x 4 float sums leave room for the operands.
const TOKENS: usize = 4;
/// Blocks along K that are unpacked at a time; the tiles of two groups then take 25 KB of L1.
const CHUNK: usize = 20;
/// Up to this many tokens blocks are multiplied as they are unpacked.
const FEW_TOKENS: usize = 4;

/// The exact sum of a block's products, four of them per step and lane.
trait Dot {
    type Sum: Copy;
    /// # Safety
    /// The instructions of the implementation; likewise below.
    unsafe fn start(isum: __m512i) -> Self::Sum;
    /// # Safety
    /// As for `start`.
    unsafe fn step<F: Format>(sum: Self::Sum, codes: __m512i, q: __m512i) -> Self::Sum;
    /// # Safety
    /// As for `start`; `isum` is what was given there.
    unsafe fn finish<F: Format>(sum: Self::Sum, isum: __m512i) -> __m512i;
}

/// `vpdpbusd`.
struct Vnni;

impl Dot for Vnni {
    type Sum = __m512i;
    #[inline(always)]
    unsafe fn start(isum: __m512i) -> __m512i {
        isum
    }
    #[inline(always)]
    unsafe fn step<F: Format>(sum: __m512i, codes: __m512i, q: __m512i) -> __m512i {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_dpbusd_epi32(sum, codes, q) }
    }
    #[inline(always)]
    unsafe fn finish<F: Format>(sum: __m512i, _isum: __m512i) -> __m512i {
        sum
    }
}

/// `vpmaddubsw` on nibbles: 8 steps of at most 2 * 15 * 128 fit into 16 bits. So do 4 steps with
/// codes of 5 bits.
struct Nibbles;

impl Dot for Nibbles {
    /// Sums over the low and over the high nibbles of the codes; for 5 bits, over every other
    /// step, the next one first.
    type Sum = [__m512i; 2];
    #[inline(always)]
    unsafe fn start(_isum: __m512i) -> Self::Sum {
        // SAFETY: as the caller vouches.
        unsafe { [_mm512_setzero_si512(); 2] }
    }
    #[inline(always)]
    unsafe fn step<F: Format>(sum: Self::Sum, codes: __m512i, q: __m512i) -> Self::Sum {
        // SAFETY: as the caller vouches.
        unsafe {
            if F::BITS <= 4 {
                return [_mm512_add_epi16(sum[0], _mm512_maddubs_epi16(codes, q)), sum[1]];
            }
            if F::BITS == 5 {
                return [sum[1], _mm512_add_epi16(sum[0], _mm512_maddubs_epi16(codes, q))];
            }
            let mask = _mm512_set1_epi8(15);
            let lo = _mm512_and_si512(codes, mask);
            let hi = _mm512_and_si512(_mm512_srli_epi32::<4>(codes), mask);
            [
                _mm512_add_epi16(sum[0], _mm512_maddubs_epi16(lo, q)),
                _mm512_add_epi16(sum[1], _mm512_maddubs_epi16(hi, q)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn finish<F: Format>(sum: Self::Sum, isum: __m512i) -> __m512i {
        // SAFETY: as the caller vouches.
        unsafe {
            let lo = _mm512_madd_epi16(sum[0], _mm512_set1_epi16(1));
            let isum = _mm512_add_epi32(isum, lo);
            if F::BITS <= 4 {
                return isum;
            }
            let weight = if F::BITS == 5 { 1 } else { 16 };
            _mm512_add_epi32(isum, _mm512_madd_epi16(sum[1], _mm512_set1_epi16(weight)))
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
        let s = _mm512_set1_epi32(act.s.cast::<i32>().read_unaligned());
        Factors {
            isum: _mm512_madd_epi16(s, _mm512_set1_epi16(-F::OFFSET as i16)),
            d,
            sx: _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_madd_epi16(s, _mm512_set1_epi16(1)))),
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
/// AVX-512 F, BW and what `D` needs; 16 rows of `act.n_blocks` blocks, `T` tokens, 16 outputs for each.
#[inline(always)]
unsafe fn few_tokens<D: Dot, F: Format, const T: usize>(
    rows: Even,
    act: Act,
    y: *mut f32,
    ld: usize,
) {
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
                let mut sum = D::start(f.isum);
                for j in 0..8 {
                    sum = D::step::<F>(sum, block.codes[j], broadcast4(act.q, j));
                }
                let isum = D::finish::<F>(sum, f.isum);
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
/// AVX-512 F, BW and what `D` needs; `G` tiles of `n` blocks at distance [`CHUNK`], `T` tokens of `n` blocks at
/// `act`, outputs for them.
#[inline(always)]
unsafe fn micro<D: Dot, F: Format, const G: usize, const T: usize>(
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
            let mut sum = [[D::start(_mm512_setzero_si512()); T]; G];
            let mut f = [Factors::zero(); T];
            for t in 0..T {
                f[t] = factors::<F>(act.at(t, b));
                for sum in &mut sum {
                    sum[t] = D::start(f[t].isum);
                }
            }
            for j in 0..8 {
                let mut q = [_mm512_setzero_si512(); T];
                for (t, q) in q.iter_mut().enumerate() {
                    *q = broadcast4(act.at(t, b).q, j);
                }
                for (g, sum) in sum.iter_mut().enumerate() {
                    let codes = (*tile.add(g * CHUNK)).codes[j];
                    for (sum, q) in sum.iter_mut().zip(q) {
                        *sum = D::step::<F>(*sum, codes, q);
                    }
                }
            }
            for (g, acc) in acc.iter_mut().enumerate() {
                let block = tile.add(g * CHUNK);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let (scale, min) = ((*block).scale, (*block).min);
                    let isum = D::finish::<F>(sum[g][t], f[t].isum);
                    *acc = accumulate::<F>(*acc, isum, scale, min, f[t]);
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
#[inline(always)]
unsafe fn all_tokens<D: Dot, F: Format, const G: usize>(
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
                1 => micro::<D, F, G, 1>(tile, n, act, out),
                2 => micro::<D, F, G, 2>(tile, n, act, out),
                3 => micro::<D, F, G, 3>(tile, n, act, out),
                _ => micro::<D, F, G, TOKENS>(tile, n, act, out),
            }
        }
        t += TOKENS;
    }
}

/// Unpacks `n` blocks of 16 rows.
///
/// # Safety
/// AVX-512 F, BW; the rows have `n` blocks and `tile` has room for them.
#[inline(always)]
unsafe fn unpack<F: Format>(rows: impl Rows, n: usize, tile: *mut Block16) {
    // SAFETY: as the caller vouches.
    unsafe {
        for b in 0..n {
            *tile.add(b) = F::unpack(rows.advance(b * F::BLOCK_BYTES));
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says, with what `D` needs. Inlined, like all
/// it calls, into a function that has those instructions enabled.
#[inline(always)]
unsafe fn mul_mat<D: Dot, F: Format>(a: &MulMatQ8) {
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
                    1 => few_tokens::<D, F, 1>(rows, act, y, a.ld),
                    2 => few_tokens::<D, F, 2>(rows, act, y, a.ld),
                    3 => few_tokens::<D, F, 3>(rows, act, y, a.ld),
                    _ => few_tokens::<D, F, FEW_TOKENS>(rows, act, y, a.ld),
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
                    all_tokens::<D, F, GROUPS>(tile, n, act, a.n_tokens, out);
                } else if left >= LANES {
                    unpack::<F>(rows, n, tile);
                    all_tokens::<D, F, 1>(tile, n, act, a.n_tokens, out);
                } else {
                    unpack::<F>(Clamped { rows, last: left - 1 }, n, tile);
                    let out = Out { mask: (1 << left) - 1, ..out };
                    all_tokens::<D, F, 1>(tile, n, act, a.n_tokens, out);
                }
            }
            i += if left >= GROUPS * LANES { GROUPS * LANES } else { LANES };
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn mul_mat_vnni<F: Format>(a: &MulMatQ8) {
    // SAFETY: as the caller vouches.
    unsafe { mul_mat::<Vnni, F>(a) };
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn mul_mat_bw<F: Format>(a: &MulMatQ8) {
    // SAFETY: as the caller vouches.
    unsafe { mul_mat::<Nibbles, F>(a) };
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::QuantizeFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn quantize(x: *const f32, n_blocks: usize, q: *mut i8, d: *mut f32, s: *mut Sums) {
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
                *s.add(b) = [0; 2];
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
            let both = _mm512_add_epi32(i0, _mm512_slli_epi32::<16>(i1));
            *s.add(b) = sums(_mm512_reduce_add_epi32(both));
        }
    }
}
