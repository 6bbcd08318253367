//! Integer mat-mul with AVX2: 8 weight rows side by side, one per 32-bit lane.
//!
//! The layout is that of the AVX-512 kernels with half the rows: register `j` of an unpacked block
//! holds in lane `r` the codes `4j..4j+4` of row `r`. The product is `vpmaddubsw`, whose 16-bit
//! sums would saturate with codes of 8 bits. So codes come as planes of 4 bits: a plane's 8
//! products of at most 2 * 15 * 128 fit into 16 bits together, and are widened once per block.
//! Codes of 5 and 6 bits are one plane that is widened twice and four times per block.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::int8_bits::{Q1_0, Q2_0, TQ1_0, TQ2_0};
use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use super::int8_decoded::Decoded;
use super::int8_iq::IQ4_XS;
use super::int8_k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
use super::int8_unpack::{Block8, Blocks, HalfWeights, Halves, Q4_0, Q4_1, Q8_0, Sink};
use crate::backend::cpu::kernels::int8::{
    Act, BLOCK, Fetch, Int8Kernels, MulMatQ8, Onwards, Rows, Scattered, Sums, sums,
};
use crate::backend::cpu::kernels::int8_decoded;
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
        (QuantType::Q2_K, mul_mat::<Q2_K, 1, 1, 3>),
        (QuantType::Q3_K, mul_mat::<Q3_K, 1, 1, 3>),
        (QuantType::Q4_K, mul_mat::<Q4_K, 1, 2, 2>),
        (QuantType::Q5_K, mul_mat::<Q5_K, 1, 2, 2>),
        (QuantType::Q6_K, mul_mat::<Q6_K, 1, 1, 3>),
        (QuantType::IQ4_XS, mul_mat::<IQ4_XS, 2, 1, 3>),
        (QuantType::Q1_0, mul_mat::<Q1_0, 1, 2, 2>),
        (QuantType::Q2_0, mul_mat::<Q2_0, 1, 2, 2>),
        (QuantType::TQ1_0, mul_mat::<TQ1_0, 1, 2, 2>),
        (QuantType::TQ2_0, mul_mat::<TQ2_0, 1, 2, 2>),
        (QuantType::IQ1_S, mul_mat_decoded),
        (QuantType::IQ1_M, mul_mat_decoded),
        (QuantType::IQ2_XXS, mul_mat_decoded),
        (QuantType::IQ2_XS, mul_mat_decoded),
        (QuantType::IQ2_S, mul_mat_decoded),
        (QuantType::IQ3_XXS, mul_mat_decoded),
        (QuantType::IQ3_S, mul_mat_decoded),
        (QuantType::NVFP4, mul_mat_decoded),
    ],
    scratch_bytes: |ty, n_blocks| SCRATCH + int8_decoded::scratch_bytes(ty, n_blocks),
};

/// Weight rows in a group.
pub(super) const LANES: usize = 8;
/// Blocks along K that are unpacked at a time, a multiple of the `n` that come together; the tiles
/// then take 12 KB of L1.
pub(super) const fn chunk(n: usize) -> usize {
    if n == 1 { 20 } else { 16 }
}
/// Up to this many tokens blocks are multiplied as they are unpacked.
const FEW_TOKENS: usize = 2;

/// Bytes of the tiles of any type.
const SCRATCH: usize = 2 * chunk(1) * size_of::<Tile8<1, ()>>();

/// An unpacked block in memory.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tile8<const PLANES: usize, H> {
    pub(super) block: Block8<PLANES>,
    pub(super) halves: H,
}

/// Steps of which the sums fit into 16 bits, with `2 * (2^bits - 1) * 128` at most for each;
/// a divisor of 4 when the halves of a block have weights.
const fn steps(plane_bits: u32, halves: bool) -> usize {
    match plane_bits {
        7 => 1,
        6 => 2,
        5 => 4,
        _ if halves => 4,
        _ => 8,
    }
}

/// The weight of the products of a block's `last` or first half, in both words of a lane.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn weight<H: HalfWeights>(halves: H, last: bool) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe {
        let a = halves.get().a;
        match (H::SOME, last) {
            (false, _) => a,
            (true, false) => _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(a)),
            (true, true) => _mm256_blend_epi16::<0b0101_0101>(a, _mm256_srli_epi32::<16>(a)),
        }
    }
}

/// Adds a block to `T` outputs of 8 rows of `G` groups, as the contract says.
///
/// # Safety
/// AVX2, FMA; `G` blocks at distance [`chunk`] can be read, `T` tokens at `act` have a block.
#[inline(always)]
unsafe fn accumulate<F: Blocks<P>, const P: usize, const G: usize, const T: usize>(
    acc: &mut [[__m256; T]; G],
    tile: *const Tile8<P, F::Halves>,
    act: Act,
) {
    let steps = steps(F::PLANE_BITS, F::Halves::SOME);
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sum16 = [[[_mm256_setzero_si256(); P]; T]; G];
        let mut isum = [[_mm256_setzero_si256(); T]; G];
        for j in 0..8 {
            for t in 0..T {
                let q = act.at(t, 0).q.add(4 * j).cast::<i32>().read_unaligned();
                let q = _mm256_set1_epi32(q);
                for g in 0..G {
                    for p in 0..P {
                        let codes = (*tile.add(g * chunk(F::N))).block.planes[p][j];
                        let product = _mm256_maddubs_epi16(codes, q);
                        sum16[g][t][p] = match j % steps {
                            0 => product,
                            _ => _mm256_add_epi16(sum16[g][t][p], product),
                        };
                    }
                }
            }
            if !(j + 1).is_multiple_of(steps) {
                continue;
            }
            for g in 0..G {
                let weight = weight((*tile.add(g * chunk(F::N))).halves, j >= 4);
                for p in 0..P {
                    let weight = if p == 0 { weight } else { _mm256_slli_epi16::<4>(weight) };
                    for t in 0..T {
                        let plane = _mm256_madd_epi16(sum16[g][t][p], weight);
                        isum[g][t] = _mm256_add_epi32(isum[g][t], plane);
                    }
                }
            }
            if F::TWO_SCALES && j == 3 {
                // The first half is complete.
                for t in 0..T {
                    let act = act.at(t, 0);
                    let d = _mm256_set1_ps(*act.d);
                    let offset = _mm256_set1_epi32(F::OFFSET * i32::from((*act.s)[0]));
                    for g in 0..G {
                        let dw = _mm256_mul_ps((*tile.add(g * chunk(F::N))).block.scale, d);
                        let first = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[g][t], offset));
                        acc[g][t] = _mm256_fmadd_ps(first, dw, acc[g][t]);
                        isum[g][t] = _mm256_setzero_si256();
                    }
                }
            }
        }
        for t in 0..T {
            let act = act.at(t, 0);
            let d = _mm256_set1_ps(*act.d);
            let s = _mm256_set1_epi32(act.s.cast::<i32>().read_unaligned());
            for g in 0..G {
                let Tile8 { block: Block8 { scale, min, .. }, halves } =
                    &*tile.add(g * chunk(F::N));
                let Halves { a, b } = halves.get();
                let (scale, offset) = if F::TWO_SCALES {
                    (min, _mm256_set1_epi32(F::OFFSET * i32::from((*act.s)[1])))
                } else {
                    let offset = _mm256_madd_epi16(a, s);
                    (scale, _mm256_mullo_epi32(offset, _mm256_set1_epi32(F::OFFSET)))
                };
                let isum = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum[g][t], offset));
                acc[g][t] = _mm256_fmadd_ps(isum, _mm256_mul_ps(*scale, d), acc[g][t]);
                if F::HAS_MIN {
                    let msum = _mm256_cvtepi32_ps(_mm256_madd_epi16(b, s));
                    acc[g][t] = _mm256_fmadd_ps(*min, _mm256_mul_ps(d, msum), acc[g][t]);
                }
            }
        }
    }
}

/// Multiplies blocks with `T` tokens as they come.
struct Multiply<F, A, const T: usize> {
    act: Act,
    acc: [[__m256; T]; 1],
    ahead: A,
    kind: PhantomData<F>,
}

impl<F: Blocks<P>, A: Fetch, const P: usize, const T: usize> Sink<P, F::Halves>
    for Multiply<F, A, T>
{
    #[inline(always)]
    unsafe fn take(&mut self, block: Block8<P>, halves: F::Halves) {
        self.ahead.fetch(LANES * F::BYTES / F::N);
        let tile = Tile8 { block, halves };
        // SAFETY: as the caller vouches.
        unsafe { accumulate::<F, P, 1, T>(&mut self.acc, &raw const tile, self.act) };
        self.act = self.act.at(0, 1);
    }
}

/// All of K for 8 rows and `T` tokens, straight from the weights.
///
/// # Safety
/// AVX2, FMA, F16C; 8 rows of `act.n_blocks` blocks, `T` tokens, outputs for them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few_tokens<F: Blocks<P>, A: Fetch, const P: usize, const T: usize>(
    rows: impl Rows,
    act: Act,
    ahead: &mut A,
    out: Out,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut rows = rows;
        let acc = [[_mm256_setzero_ps(); T]];
        let mut sink = Multiply::<F, A, T> { act, acc, ahead: ahead.clone(), kind: PhantomData };
        for _ in 0..act.n_blocks / F::N {
            F::each(rows, &mut sink);
            rows = rows.advance(F::BYTES);
        }
        for (t, acc) in sink.acc[0].iter().enumerate() {
            out.store(t, 0, *acc);
        }
        *ahead = sink.ahead;
    }
}

/// Where a micro-kernel's outputs go.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) y: *mut f32,
    pub(super) ld: usize,
    /// Lanes of the (only) group that exist.
    pub(super) n_lanes: usize,
    /// The outputs start at zero: this is the first chunk of K.
    pub(super) fresh: bool,
}

impl Out {
    /// # Safety
    /// AVX2.
    #[inline(always)]
    unsafe fn mask(self) -> __m256i {
        // SAFETY: as the caller vouches.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(self.n_lanes as i32), lanes)
        }
    }

    /// The outputs of token `t` and group `g`.
    #[inline(always)]
    fn at(self, t: usize, g: usize) -> *mut f32 {
        self.y.wrapping_add(t * self.ld + g * LANES)
    }

    /// # Safety
    /// AVX2; these outputs exist.
    #[inline(always)]
    unsafe fn store(self, t: usize, g: usize, acc: __m256) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self.n_lanes {
                LANES => _mm256_storeu_ps(self.at(t, g), acc),
                _ => _mm256_maskstore_ps(self.at(t, g), self.mask(), acc),
            }
        }
    }
}

/// A chunk of K for `G` unpacked groups of rows and `T` tokens.
///
/// # Safety
/// AVX2, FMA; `G` tiles of `n` blocks at distance [`chunk`], `T` tokens of `n` blocks at `act`,
/// outputs for them.
#[inline(always)]
unsafe fn micro<F: Blocks<P>, const P: usize, const G: usize, const T: usize>(
    tile: *const Tile8<P, F::Halves>,
    n: usize,
    act: Act,
    out: Out,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); T]; G];
        if !out.fresh {
            for (g, acc) in acc.iter_mut().enumerate() {
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm256_maskload_ps(out.at(t, g), out.mask());
                }
            }
        }
        for b in 0..n {
            accumulate::<F, P, G, T>(&mut acc, tile.add(b), act.at(0, b));
        }
        for (g, acc) in acc.iter().enumerate() {
            for (t, acc) in acc.iter().enumerate() {
                out.store(t, g, *acc);
            }
        }
    }
}

/// A chunk of K for `G` unpacked groups and all tokens, `T` of them (2 or 3) at a time.
///
/// # Safety
/// As for [`micro`], with `n_tokens` tokens.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn all_tokens<F: Blocks<P>, const P: usize, const G: usize, const T: usize>(
    tile: *const Tile8<P, F::Halves>,
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

/// Writes blocks one behind the other.
struct Store<F: Blocks<P>, A, const P: usize> {
    tile: *mut Tile8<P, F::Halves>,
    ahead: A,
}

impl<F: Blocks<P>, A: Fetch, const P: usize> Sink<P, F::Halves> for Store<F, A, P> {
    #[inline(always)]
    unsafe fn take(&mut self, block: Block8<P>, halves: F::Halves) {
        self.ahead.fetch(LANES * F::BYTES / F::N);
        // SAFETY: as the caller vouches.
        unsafe {
            self.tile.write(Tile8 { block, halves });
            self.tile = self.tile.add(1);
        }
    }
}

/// Unpacks `n` blocks of 8 rows.
///
/// # Safety
/// AVX2, F16C; the rows have `n` blocks and `tile` has room for them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<F: Blocks<P>, A: Fetch, const P: usize>(
    rows: impl Rows,
    n: usize,
    tile: *mut Tile8<P, F::Halves>,
    ahead: &mut A,
) {
    let (mut rows, mut sink) = (rows, Store::<F, A, P> { tile, ahead: ahead.clone() });
    for _ in 0..n / F::N {
        // SAFETY: as the caller vouches.
        unsafe { F::each(rows, &mut sink) };
        rows = rows.advance(F::BYTES);
    }
    *ahead = sink.ahead;
}

/// `G` groups of rows times `T` tokens is what the registers hold: integer sums by plane, float
/// sums, and the operands. Weights of halves are operands too: one group and three tokens are 1.2
/// times as fast there as two and two.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mul_mat<F: Blocks<P>, const P: usize, const G: usize, const T: usize>(a: &MulMatQ8<'_>) {
    const { assert!(G * chunk(F::N) * size_of::<Tile8<P, F::Halves>>() <= SCRATCH) };
    let act = Act::of(a);
    let tile = a.scratch.cast::<Tile8<P, F::Halves>>();
    let few = a.n_tokens <= FEW_TOKENS;
    let mut ahead = a.ahead(if few { LANES } else { G * LANES });
    let mut i = 0;
    while i < a.n_rows {
        let left = a.n_rows - i;
        // Groups that are not full take the last row several times.
        let even = a.ids.is_none() && left >= LANES;
        let out = Out { y: a.y.wrapping_add(i), ld: a.ld, n_lanes: left.min(LANES), fresh: true };
        // SAFETY: as the caller vouches; no more rows are written than are left.
        unsafe {
            if few && even {
                let rows = a.even_rows_from(i);
                let ahead = &mut Onwards::of(rows, LANES);
                match a.n_tokens {
                    1 => few_tokens::<F, _, P, 1>(rows, act, ahead, out),
                    _ => few_tokens::<F, _, P, FEW_TOKENS>(rows, act, ahead, out),
                }
                i += LANES;
                continue;
            }
            if few {
                ahead.ask_for_pages(LANES);
                let (rows, ahead) = (a.rows_from(i), &mut ahead);
                let rows = Scattered::new(&rows);
                match a.n_tokens {
                    1 => few_tokens::<F, _, P, 1>(rows, act, ahead, out),
                    _ => few_tokens::<F, _, P, FEW_TOKENS>(rows, act, ahead, out),
                }
                i += LANES;
                continue;
            }
            let n_groups = if left >= G * LANES { G } else { 1 };
            ahead.ask_for_pages(n_groups * LANES);
            let starts: [_; G] = std::array::from_fn(|g| a.rows_from(i + g * LANES));
            for b in (0..a.n_blocks).step_by(chunk(F::N)) {
                let n = chunk(F::N).min(a.n_blocks - b);
                let byte = b / F::N * F::BYTES;
                for (g, starts) in starts[..n_groups].iter().enumerate() {
                    let tile = tile.add(g * chunk(F::N));
                    if even {
                        let rows = a.even_rows_from(i + g * LANES).advance(byte);
                        unpack::<F, _, P>(rows, n, tile, &mut ());
                    } else {
                        let rows = Scattered::new(starts).advance(byte);
                        unpack::<F, _, P>(rows, n, tile, &mut ahead);
                    }
                }
                let (act, out) = (act.at(0, b), Out { fresh: b == 0, ..out });
                if n_groups == G {
                    all_tokens::<F, P, G, T>(tile, n, act, a.n_tokens, out);
                } else {
                    all_tokens::<F, P, 1, T>(tile, n, act, a.n_tokens, out);
                }
            }
            i += n_groups * LANES;
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
unsafe fn mul_mat_decoded(a: &MulMatQ8<'_>) {
    // SAFETY: as the caller vouches.
    unsafe { int8_decoded::mul_mat(a, mul_mat::<Decoded, 1, 2, 2>) };
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
