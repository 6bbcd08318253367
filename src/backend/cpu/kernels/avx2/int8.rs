//! Integer mat-mul with AVX2: 8 weight rows side by side, one per 32-bit lane.
//!
//! The layout is that of the AVX-512 kernels with half the rows: register `j` of an unpacked block
//! holds in lane `r` the codes `4j..4j+4` of row `r`. The product is `vpmaddubsw`, whose 16-bit
//! sums would saturate with codes of 8 bits. So codes come as planes of 4 bits: a plane's 8
//! products of at most 2 * 15 * 128 fit into 16 bits together, and are widened once per block.
//! Codes of 5 bits are one plane that is widened twice per block.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use crate::backend::cpu::kernels::int8::{
    Act, Ahead, BLOCK, Clamped, Even, Int8Kernels, MulMatQ8, Rows, Sums, sums,
};
use crate::quant::QuantType;

pub(crate) const KERNELS: Int8Kernels = Int8Kernels {
    quantize,
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0, 1, 2, 2>),
        (QuantType::Q4_1, mul_mat::<Q4_1, 1, 2, 2>),
        (QuantType::Q8_0, mul_mat::<Q8_0, 2, 1, 3>),
        (QuantType::Q5_0, mul_mat::<Q5_0, 1, 2, 2>),
        (QuantType::Q5_1, mul_mat::<Q5_1, 1, 2, 2>),
        (QuantType::IQ4_NL, mul_mat::<IQ4_NL, 2, 1, 3>),
        (QuantType::MXFP4, mul_mat::<MXFP4, 1, 2, 2>),
    ],
    scratch_bytes: |_| (2 * CHUNK * size_of::<Block8<1>>()).max(CHUNK * size_of::<Block8<2>>()),
};

/// Weight rows in a group.
const LANES: usize = 8;
/// Blocks along K that are unpacked at a time; the tiles then take 12 KB of L1.
const CHUNK: usize = 20;
/// Up to this many tokens blocks are multiplied as they are unpacked.
const FEW_TOKENS: usize = 2;

/// A block of 8 rows, unpacked.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Block8<const PLANES: usize> {
    /// The codes' bits `4p..4p+4`; lane `r` of register `j` of a plane: codes `4j..4j+4` of row `r`.
    pub(super) planes: [[__m256i; 8]; PLANES],
    pub(super) scale: __m256,
    /// Unused by types without a minimum.
    pub(super) min: __m256,
}

/// What differs between weight types.
///
/// # Safety
/// `unpack` reads only `BLOCK_BYTES` bytes at each row.
pub(super) unsafe trait Format<const PLANES: usize> {
    const BLOCK_BYTES: usize;
    const OFFSET: i32;
    /// Bits of a plane that can be set: 4 or 5.
    const PLANE_BITS: u32 = 4;
    const HAS_MIN: bool;
    /// # Safety
    /// AVX2, F16C; a whole block can be read at every row.
    unsafe fn unpack(rows: impl Rows) -> Block8<PLANES>;
}

/// 16 bytes at `offset` of each block, as their dwords `j`, one row per lane.
///
/// # Safety
/// AVX2; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn dwords(rows: impl Rows, offset: usize) -> [__m256i; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        // Rows p and 4 + p in the two halves of register p; then two 4x4 transpositions.
        let mut x = [_mm256_setzero_si256(); 4];
        for (p, x) in x.iter_mut().enumerate() {
            let row = |r: usize| rows.row(r).wrapping_add(offset).cast();
            *x = _mm256_castsi128_si256(_mm_loadu_si128(row(p)));
            *x = _mm256_inserti128_si256::<1>(*x, _mm_loadu_si128(row(4 + p)));
        }
        let lo01 = _mm256_unpacklo_epi32(x[0], x[1]);
        let hi01 = _mm256_unpackhi_epi32(x[0], x[1]);
        let lo23 = _mm256_unpacklo_epi32(x[2], x[3]);
        let hi23 = _mm256_unpackhi_epi32(x[2], x[3]);
        [
            _mm256_unpacklo_epi64(lo01, lo23),
            _mm256_unpackhi_epi64(lo01, lo23),
            _mm256_unpacklo_epi64(hi01, hi23),
            _mm256_unpackhi_epi64(hi01, hi23),
        ]
    }
}

/// The f16 at `offset` of each block, one row per lane.
///
/// # Safety
/// AVX2, F16C; the bytes can be read.
#[inline(always)]
pub(super) unsafe fn halves(rows: impl Rows, offset: usize) -> __m256 {
    // SAFETY: as the caller vouches.
    unsafe {
        let at = |r: usize| rows.row(r).add(offset).cast::<i16>().read_unaligned();
        let halves = _mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
        _mm256_cvtph_ps(halves)
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn low_nibbles(x: __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_and_si256(x, _mm256_set1_epi8(15)) }
}

/// # Safety
/// AVX2.
#[inline(always)]
pub(super) unsafe fn high_nibbles(x: __m256i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { low_nibbles(_mm256_srli_epi32::<4>(x)) }
}

/// Codes in nibbles, element `i` low and element `16 + i` high in byte `i`.
///
/// # Safety
/// AVX2; the 16 bytes at `offset` of each row can be read.
#[inline(always)]
pub(super) unsafe fn nibble_codes(rows: impl Rows, offset: usize) -> [__m256i; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = dwords(rows, offset);
        let mut codes = [_mm256_setzero_si256(); 8];
        for j in 0..4 {
            codes[j] = low_nibbles(x[j]);
            codes[4 + j] = high_nibbles(x[j]);
        }
        codes
    }
}

struct Q4_0;
// SAFETY: reads 2 and 16 of 18 bytes.
unsafe impl Format<1> for Q4_0 {
    const BLOCK_BYTES: usize = 18;
    const OFFSET: i32 = 8;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [nibble_codes(rows, 2)];
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}

struct Q4_1;
// SAFETY: reads 4 and 16 of 20 bytes.
unsafe impl Format<1> for Q4_1 {
    const BLOCK_BYTES: usize = 20;
    const OFFSET: i32 = 0;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<1> {
        // SAFETY: as the caller vouches.
        unsafe {
            let planes = [nibble_codes(rows, 4)];
            Block8 { planes, scale: halves(rows, 0), min: halves(rows, 2) }
        }
    }
}

struct Q8_0;
// SAFETY: reads 2 and twice 16 of 34 bytes.
unsafe impl Format<2> for Q8_0 {
    const BLOCK_BYTES: usize = 34;
    const OFFSET: i32 = 128;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn unpack(rows: impl Rows) -> Block8<2> {
        // SAFETY: as the caller vouches.
        unsafe {
            let (lo, hi) = (dwords(rows, 2), dwords(rows, 18));
            // Adding 128 modulo 256 makes signed codes unsigned.
            let sign = _mm256_set1_epi8(-128);
            let mut planes = [[sign; 8]; 2];
            for j in 0..8 {
                let codes = _mm256_xor_si256(if j < 4 { lo[j] } else { hi[j - 4] }, sign);
                planes[0][j] = low_nibbles(codes);
                planes[1][j] = high_nibbles(codes);
            }
            Block8 { planes, scale: halves(rows, 0), min: _mm256_setzero_ps() }
        }
    }
}

/// Adds the sums over the planes to those of the codes.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn widen<const P: usize, const G: usize, const T: usize>(
    isum: &mut [[__m256i; T]; G],
    sum16: &[[[__m256i; P]; T]; G],
) {
    // SAFETY: as the caller vouches.
    unsafe {
        for p in 0..P {
            let weight = _mm256_set1_epi16(1 << (4 * p));
            for g in 0..G {
                for t in 0..T {
                    let plane = _mm256_madd_epi16(sum16[g][t][p], weight);
                    isum[g][t] = _mm256_add_epi32(isum[g][t], plane);
                }
            }
        }
    }
}

/// Adds a block to `T` outputs of 8 rows of `G` groups, as the contract says.
///
/// # Safety
/// AVX2, FMA; `G` blocks at distance [`CHUNK`] can be read, `T` tokens at `act` have a block.
#[inline(always)]
unsafe fn accumulate<F: Format<P>, const P: usize, const G: usize, const T: usize>(
    acc: &mut [[__m256; T]; G],
    block: *const Block8<P>,
    act: Act,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sum16 = [[[_mm256_setzero_si256(); P]; T]; G];
        let mut isum = [[_mm256_setzero_si256(); T]; G];
        for j in 0..8 {
            if F::PLANE_BITS > 4 && j == 4 {
                widen(&mut isum, &sum16);
                sum16 = [[[_mm256_setzero_si256(); P]; T]; G];
            }
            for t in 0..T {
                let q = act.at(t, 0).q.add(4 * j).cast::<i32>().read_unaligned();
                let q = _mm256_set1_epi32(q);
                for g in 0..G {
                    for p in 0..P {
                        let codes = (*block.add(g * CHUNK)).planes[p][j];
                        let product = _mm256_maddubs_epi16(codes, q);
                        sum16[g][t][p] = _mm256_add_epi16(sum16[g][t][p], product);
                    }
                }
            }
        }
        widen(&mut isum, &sum16);
        for t in 0..T {
            let act = act.at(t, 0);
            let d = _mm256_set1_ps(*act.d);
            let s = _mm256_set1_epi32(act.s.cast::<i32>().read_unaligned());
            let offset = _mm256_madd_epi16(s, _mm256_set1_epi16(F::OFFSET as i16));
            let s = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
            let sx = _mm256_mul_ps(d, _mm256_cvtepi32_ps(s));
            for g in 0..G {
                let isum = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[g][t], offset));
                let scale = _mm256_mul_ps((*block.add(g * CHUNK)).scale, d);
                acc[g][t] = _mm256_fmadd_ps(isum, scale, acc[g][t]);
                if F::HAS_MIN {
                    acc[g][t] = _mm256_fmadd_ps((*block.add(g * CHUNK)).min, sx, acc[g][t]);
                }
            }
        }
    }
}

/// All of K for 8 rows and `T` tokens, straight from the weights.
///
/// # Safety
/// AVX2, FMA, F16C; 8 rows of `act.n_blocks` blocks, `T` tokens, 8 outputs for each.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few_tokens<F: Format<P>, const P: usize, const T: usize>(
    rows: Even,
    act: Act,
    y: *mut f32,
    ld: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut rows = rows;
        let mut ahead = Ahead::of(rows, LANES);
        let mut acc = [[_mm256_setzero_ps(); T]];
        for b in 0..act.n_blocks {
            ahead.fetch(LANES * F::BLOCK_BYTES);
            let block = F::unpack(rows);
            rows = rows.advance(F::BLOCK_BYTES);
            accumulate::<F, P, 1, T>(&mut acc, &raw const block, act.at(0, b));
        }
        for (t, acc) in acc[0].iter().enumerate() {
            _mm256_storeu_ps(y.add(t * ld), *acc);
        }
    }
}

/// Where a micro-kernel's outputs go.
#[derive(Clone, Copy)]
struct Out {
    y: *mut f32,
    ld: usize,
    /// Lanes of the (only) group that exist.
    n_lanes: usize,
    /// The outputs start at zero: this is the first chunk of K.
    fresh: bool,
}

/// A chunk of K for `G` unpacked groups of rows and `T` tokens.
///
/// # Safety
/// AVX2, FMA; `G` tiles of `n` blocks at distance [`CHUNK`], `T` tokens of `n` blocks at `act`,
/// outputs for them.
#[inline(always)]
unsafe fn micro<F: Format<P>, const P: usize, const G: usize, const T: usize>(
    tile: *const Block8<P>,
    n: usize,
    act: Act,
    out: Out,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(out.n_lanes as i32), lanes);
        let y = |g: usize, t: usize| out.y.wrapping_add(t * out.ld + g * LANES);
        let mut acc = [[_mm256_setzero_ps(); T]; G];
        if !out.fresh {
            for (g, acc) in acc.iter_mut().enumerate() {
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm256_maskload_ps(y(g, t), mask);
                }
            }
        }
        for b in 0..n {
            accumulate::<F, P, G, T>(&mut acc, tile.add(b), act.at(0, b));
        }
        for (g, acc) in acc.iter().enumerate() {
            for (t, acc) in acc.iter().enumerate() {
                match out.n_lanes {
                    LANES => _mm256_storeu_ps(y(g, t), *acc),
                    _ => _mm256_maskstore_ps(y(g, t), mask, *acc),
                }
            }
        }
    }
}

/// A chunk of K for `G` unpacked groups and all tokens, `T` of them (2 or 3) at a time.
///
/// # Safety
/// As for [`micro`], with `n_tokens` tokens.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn all_tokens<F: Format<P>, const P: usize, const G: usize, const T: usize>(
    tile: *const Block8<P>,
    n: usize,
    act: Act,
    n_tokens: usize,
    out: Out,
) {
    for t in (0..n_tokens).step_by(T) {
        let (act, out) = (act.at(t, 0), Out { y: out.y.wrapping_add(t * out.ld), ..out });
        // SAFETY: as the caller vouches; each micro-kernel takes no more tokens than there are.
        unsafe {
            match n_tokens - t {
                left if left >= T => micro::<F, P, G, T>(tile, n, act, out),
                2 => micro::<F, P, G, 2>(tile, n, act, out),
                _ => micro::<F, P, G, 1>(tile, n, act, out),
            }
        }
    }
}

/// Unpacks `n` blocks of 8 rows.
///
/// # Safety
/// AVX2, F16C; the rows have `n` blocks and `tile` has room for them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<F: Format<P>, const P: usize>(rows: impl Rows, n: usize, tile: *mut Block8<P>) {
    // SAFETY: as the caller vouches.
    unsafe {
        for b in 0..n {
            *tile.add(b) = F::unpack(rows.advance(b * F::BLOCK_BYTES));
        }
    }
}

/// `G` groups of rows times `T` tokens is what the registers hold: integer sums by plane, float
/// sums, and the operands.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mul_mat<F: Format<P>, const P: usize, const G: usize, const T: usize>(a: &MulMatQ8) {
    let act = Act::of(a);
    let tile = a.scratch.cast::<Block8<P>>();
    let mut i = 0;
    while i < a.n_rows {
        let rows = Even { base: a.w.wrapping_add(i * a.row_bytes), stride: a.row_bytes };
        let y = a.y.wrapping_add(i);
        let left = a.n_rows - i;
        // SAFETY: as the caller vouches; each branch takes no more rows than are left.
        unsafe {
            if left >= LANES && a.n_tokens <= FEW_TOKENS {
                match a.n_tokens {
                    1 => few_tokens::<F, P, 1>(rows, act, y, a.ld),
                    _ => few_tokens::<F, P, FEW_TOKENS>(rows, act, y, a.ld),
                }
                i += LANES;
                continue;
            }
            for b in (0..a.n_blocks).step_by(CHUNK) {
                let n = CHUNK.min(a.n_blocks - b);
                let (rows, act) = (rows.advance(b * F::BLOCK_BYTES), act.at(0, b));
                let out = Out { y, ld: a.ld, n_lanes: LANES, fresh: b == 0 };
                if left >= G * LANES {
                    for g in 0..G {
                        let rows = rows.advance(g * LANES * a.row_bytes);
                        unpack::<F, P>(rows, n, tile.add(g * CHUNK));
                    }
                    all_tokens::<F, P, G, T>(tile, n, act, a.n_tokens, out);
                } else if left >= LANES {
                    unpack::<F, P>(rows, n, tile);
                    all_tokens::<F, P, 1, T>(tile, n, act, a.n_tokens, out);
                } else {
                    unpack::<F, P>(Clamped { rows, last: left - 1 }, n, tile);
                    let out = Out { n_lanes: left, ..out };
                    all_tokens::<F, P, 1, T>(tile, n, act, a.n_tokens, out);
                }
            }
            i += if left >= G * LANES { G * LANES } else { LANES };
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::QuantizeFn`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantize(x: *const f32, n_blocks: usize, q: *mut i8, d: *mut f32, s: *mut Sums) {
    for b in 0..n_blocks {
        // SAFETY: the caller vouches for n_blocks blocks.
        unsafe {
            let x = x.add(b * BLOCK);
            let x = [
                _mm256_loadu_ps(x),
                _mm256_loadu_ps(x.add(8)),
                _mm256_loadu_ps(x.add(16)),
                _mm256_loadu_ps(x.add(24)),
            ];
            // As integers, infinities and NaNs come out above every number.
            let magnitude = _mm256_set1_epi32(0x7fff_ffff);
            let mut bits = [magnitude; 4];
            for (bits, x) in bits.iter_mut().zip(x) {
                *bits = _mm256_and_si256(_mm256_castps_si256(x), magnitude);
            }
            let max = _mm256_max_epi32(
                _mm256_max_epi32(bits[0], bits[1]),
                _mm256_max_epi32(bits[2], bits[3]),
            );
            let amax = f32::from_bits(reduce_max(max).cast_unsigned());
            let inv = 127.0 / amax;
            let out = q.add(b * BLOCK);
            if !amax.is_finite() || !inv.is_finite() {
                *d.add(b) = if amax.is_finite() { 0.0 } else { f32::NAN };
                *s.add(b) = [0; 2];
                out.write_bytes(0, BLOCK);
                continue;
            }
            let inv = _mm256_set1_ps(inv);
            // The conversion rounds to nearest, ties to even: the mode Rust code runs in.
            let mut i = [magnitude; 4];
            for (i, x) in i.iter_mut().zip(x) {
                *i = _mm256_cvtps_epi32(_mm256_mul_ps(x, inv));
            }
            let bytes =
                _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
            // Packing works in 128-bit halves: put the groups of four codes back in order.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_storeu_si256(out.cast(), _mm256_permutevar8x32_epi32(bytes, order));
            *d.add(b) = amax / 127.0;
            let (first, last) = (_mm256_add_epi32(i[0], i[1]), _mm256_add_epi32(i[2], i[3]));
            let both = _mm256_add_epi32(first, _mm256_slli_epi32::<16>(last));
            *s.add(b) = sums(reduce_add(both));
        }
    }
}

/// The largest of 8 lanes.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn reduce_max(x: __m256i) -> i32 {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b0100_1110>(x));
        _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32::<0b1011_0001>(x)))
    }
}

/// The sum of 8 lanes.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn reduce_add(x: __m256i) -> i32 {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b0100_1110>(x));
        _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b1011_0001>(x)))
    }
}
