//! Products with neuron tiles: 8 outputs side by side, one per 32-bit lane, as in the row kernels.
//!
//! Codes of four neurons become operands of `vpmaddubsw`: 16 bytes of each are interleaved, which
//! is 16 or, of 4-bit codes, 32 outputs. With few activations that are not zero, four neurons that
//! are wanted are taken at a time; for many tokens the operands go to a tile in L1 first, in the
//! form in which the row kernels have them, and meet all tokens.
//!
//! To add a type: [`Tiled`] for its row format, and a line in `KERNELS`.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8::{LANES, Out, Tile8, all_tokens, chunk};
use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use super::int8_k::{Q4_K, Q5_K, Q6_K, low_halves, scale_and_minimum, words};
use super::int8_unpack::{
    Block8, Blocks, HalfWeights, Halves, Q4_0, Q4_1, Q8_0, high_nibbles, low_nibbles,
};
use crate::backend::cpu::kernels::int8::{
    Act, BLOCK, IQ4_NL_VALUES, MXFP4_VALUES, mxfp4_scale, unsigned_values,
};
use crate::backend::cpu::kernels::tiles::{
    AddTile, Fields, Kind, MulMatTiles, TileKernels, add_tiles, is_few,
};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;

pub(crate) const KERNELS: TileKernels = TileKernels {
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0, 1, 2, 2>),
        (QuantType::Q4_1, mul_mat::<Q4_1, 1, 2, 2>),
        (QuantType::Q5_0, mul_mat::<Q5_0, 1, 2, 2>),
        (QuantType::Q5_1, mul_mat::<Q5_1, 1, 2, 2>),
        (QuantType::Q8_0, mul_mat::<Q8_0, 2, 1, 3>),
        (QuantType::IQ4_NL, mul_mat::<IQ4_NL, 2, 1, 3>),
        (QuantType::MXFP4, mul_mat::<MXFP4, 1, 2, 2>),
        (QuantType::Q4_K, mul_mat::<Q4_K, 1, 2, 2>),
        (QuantType::Q5_K, mul_mat::<Q5_K, 1, 2, 2>),
        (QuantType::Q6_K, mul_mat::<Q6_K, 1, 1, 3>),
    ],
    scratch_bytes: {
        let plain = chunk(1) * size_of::<Tile8<2, ()>>();
        let super_blocks = chunk(8) * size_of::<Tile8<1, Halves>>();
        GROUPS * if plain > super_blocks { plain } else { super_blocks }
    },
};

/// Groups of outputs in a chunk.
const GROUPS: usize = 4;

/// Codes of 32 outputs from four neurons, 8 outputs in each register.
type Quads = [__m256i; GROUPS];

/// A row format whose tiles can be read.
///
/// # Safety
/// `codes` reads only `CHUNK_BYTES` at each neuron, and `factors` the fields of 8 outputs.
unsafe trait Tiled<const P: usize>: Blocks<P> {
    /// Bytes of a neuron's codes for 32 outputs.
    const CHUNK_BYTES: usize;
    /// Codes of 32 outputs from four neurons, plane by plane.
    ///
    /// # Safety
    /// AVX2; the bytes can be read.
    unsafe fn codes(neurons: [*const u8; 4]) -> [Quads; P];
    /// Scale, minimum and weights of block `b` of a tile.
    ///
    /// # Safety
    /// AVX2, F16C; the fields of 8 outputs can be read.
    unsafe fn factors(fields: Fields, b: usize) -> (__m256, __m256, Self::Halves);
}

/// 16 bytes from each of four neurons: byte `n` of lane `r` is byte `r` of neuron `n`, the first 8
/// and the last.
///
/// # Safety
/// AVX2; the bytes at `offset` can be read.
#[inline(always)]
unsafe fn interleave(neurons: [*const u8; 4], offset: usize) -> [__m256i; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let load = |n: usize| _mm_loadu_si128(neurons[n].add(offset).cast());
        let (a, b, c, d) = (load(0), load(1), load(2), load(3));
        [
            joined(_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d)),
            joined(_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d)),
        ]
    }
}

/// Words of both in turn.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn joined(a: __m128i, b: __m128i) -> __m256i {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b)) }
}

/// A plane of 4 bits at the start of the chunk.
///
/// # Safety
/// AVX2; 16 bytes can be read at each neuron.
#[inline(always)]
unsafe fn nibbles(neurons: [*const u8; 4]) -> Quads {
    // SAFETY: as the caller vouches.
    unsafe {
        let [a, b] = interleave(neurons, 0);
        [low_nibbles(a), low_nibbles(b), high_nibbles(a), high_nibbles(b)]
    }
}

/// What a plane of 4 bits stands for.
///
/// # Safety
/// As for [`nibbles`].
#[inline(always)]
unsafe fn looked_up(neurons: [*const u8; 4], table: &[u8; 16]) -> Quads {
    // SAFETY: as the caller vouches.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        nibbles(neurons).map(|x| _mm256_shuffle_epi8(table, x))
    }
}

/// A plane of 4 bits, and one of 1 bit behind it.
///
/// # Safety
/// AVX2; 20 bytes can be read at each neuron.
#[inline(always)]
unsafe fn five_bits(neurons: [*const u8; 4]) -> Quads {
    // SAFETY: as the caller vouches.
    unsafe {
        let dword = |n: usize| neurons[n].add(16).cast::<i32>().read_unaligned();
        let x = _mm_setr_epi32(dword(0), dword(1), dword(2), dword(3));
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let x = _mm256_broadcastsi128_si256(_mm_shuffle_epi8(x, order));
        // Bit f of byte c belongs to output 4f + c: two of them to a register.
        let mut out = nibbles(neurons);
        for g in 0..GROUPS {
            let f = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
            let x = if g < 2 {
                _mm256_sllv_epi32(x, _mm256_sub_epi32(_mm256_set1_epi32(4 - 2 * g as i32), f))
            } else {
                _mm256_srlv_epi32(x, _mm256_add_epi32(_mm256_set1_epi32(2 * g as i32 - 4), f))
            };
            out[g] = _mm256_or_si256(out[g], _mm256_and_si256(x, _mm256_set1_epi8(16)));
        }
        out
    }
}

/// A plane of 4 bits, and one of 2 bits behind it.
///
/// # Safety
/// AVX2; 24 bytes can be read at each neuron.
#[inline(always)]
unsafe fn six_bits(neurons: [*const u8; 4]) -> Quads {
    // SAFETY: as the caller vouches.
    unsafe {
        let qword = |n: usize| _mm_loadl_epi64(neurons[n].add(16).cast());
        let x =
            joined(_mm_unpacklo_epi8(qword(0), qword(1)), _mm_unpacklo_epi8(qword(2), qword(3)));
        // Two bits g of byte c belong to output 8g + c.
        let high =
            [_mm256_slli_epi32::<4>(x), _mm256_slli_epi32::<2>(x), x, _mm256_srli_epi32::<2>(x)];
        let mut out = nibbles(neurons);
        for g in 0..GROUPS {
            let high = _mm256_and_si256(high[g], _mm256_set1_epi8(0x30));
            out[g] = _mm256_or_si256(out[g], high);
        }
        out
    }
}

/// Codes of 8 bits as two planes.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn planes(codes: Quads) -> [Quads; 2] {
    // SAFETY: as the caller vouches.
    unsafe { [codes.map(|x| low_nibbles(x)), codes.map(|x| high_nibbles(x))] }
}

/// A scale in half precision.
///
/// # Safety
/// AVX2, F16C; the fields of 8 outputs can be read.
#[inline(always)]
unsafe fn half_scale(fields: Fields) -> (__m256, __m256, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let scale = _mm256_cvtph_ps(_mm_loadu_si128(fields.at(0, 2).cast()));
        (scale, _mm256_setzero_ps(), ())
    }
}

/// Scale and minimum in half precision.
///
/// # Safety
/// AVX2, F16C; the fields of 8 outputs can be read.
#[inline(always)]
unsafe fn half_scale_and_minimum(fields: Fields) -> (__m256, __m256, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm256_loadu_si256(fields.at(0, 4).cast());
        (low_halves(x), low_halves(_mm256_srli_epi32::<16>(x)), ())
    }
}

/// Scale and minimum of a block of Q4_K or Q5_K.
///
/// # Safety
/// AVX2, F16C; the fields of 8 outputs can be read.
#[inline(always)]
unsafe fn k_scale_and_minimum(fields: Fields, b: usize) -> (__m256, __m256, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let field = |i: usize| _mm256_loadu_si256(fields.at(4 * i, 4).cast());
        let [scale, min] = scale_and_minimum([field(0), field(1), field(2), field(3)], b);
        (scale, min, ())
    }
}

macro_rules! tiled {
    ($($ty:ident $planes:literal $bytes:literal, |$neurons:ident| $codes:expr,
        |$fields:ident, $b:ident| $factors:expr;)*) => {$(
        // SAFETY: reads a whole chunk and the fields of 8 outputs.
        unsafe impl Tiled<$planes> for $ty {
            const CHUNK_BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn codes($neurons: [*const u8; 4]) -> [Quads; $planes] {
                // SAFETY: as the caller vouches.
                unsafe { $codes }
            }
            #[inline(always)]
            unsafe fn factors($fields: Fields, $b: usize) -> (__m256, __m256, Self::Halves) {
                // SAFETY: as the caller vouches.
                unsafe { $factors }
            }
        }
    )*};
}
tiled! {
    Q4_0 1 16, |x| [nibbles(x)], |f, _b| half_scale(f);
    Q4_1 1 16, |x| [nibbles(x)], |f, _b| half_scale_and_minimum(f);
    Q5_0 1 20, |x| [five_bits(x)], |f, _b| half_scale(f);
    Q5_1 1 20, |x| [five_bits(x)], |f, _b| half_scale_and_minimum(f);
    Q8_0 2 32,
        |x| {
            let ([a, b], [c, d]) = (interleave(x, 0), interleave(x, 16));
            // Adding 128 modulo 256 makes signed codes unsigned.
            planes([a, b, c, d].map(|x| _mm256_xor_si256(x, _mm256_set1_epi8(-128))))
        },
        |f, _b| half_scale(f);
    IQ4_NL 2 16,
        |x| {
            const TABLE: [u8; 16] = unsigned_values(IQ4_NL_VALUES, <IQ4_NL as Blocks<2>>::OFFSET);
            planes(looked_up(x, &TABLE))
        },
        |f, _b| half_scale(f);
    MXFP4 1 16,
        |x| {
            const TABLE: [u8; 16] = unsigned_values(MXFP4_VALUES, <MXFP4 as Blocks<1>>::OFFSET);
            [looked_up(x, &TABLE)]
        },
        |f, _b| {
            let s = |r: usize| mxfp4_scale(*f.at(0, 1).add(r));
            let scale = _mm256_setr_ps(s(0), s(1), s(2), s(3), s(4), s(5), s(6), s(7));
            (scale, _mm256_setzero_ps(), ())
        };
    Q4_K 1 16, |x| [nibbles(x)], |f, b| k_scale_and_minimum(f, b);
    Q5_K 1 20, |x| [five_bits(x)], |f, b| k_scale_and_minimum(f, b);
    Q6_K 1 24, |x| [six_bits(x)],
        |f, b| {
            let (scale, min, ()) = half_scale(f);
            let a = words(_mm256_loadu_si256(f.at(2 + b / 2 * 4, 4).cast()), b % 2, true);
            (scale, min, Halves { a, b: a })
        };
}

/// The exact sums of a block's products, 32 outputs, from the neurons that are wanted.
///
/// # Safety
/// AVX2; as [`AddTile`] says, with `codes` those of the first output.
#[inline(always)]
unsafe fn products<F: Tiled<P>, const P: usize>(
    a: &AddTile<'_>,
    codes: *const u8,
    unit: usize,
) -> Quads {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sum = [_mm256_setzero_si256(); GROUPS];
        for quad in a.wanted.unit(unit) {
            let q = _mm256_set1_epi32(quad.q);
            let codes = F::codes(quad.at.map(|at| codes.wrapping_add(at as usize)));
            for (p, codes) in codes.into_iter().enumerate() {
                let weight = _mm256_set1_epi16(1 << (4 * p));
                for g in 0..GROUPS {
                    let words = _mm256_maddubs_epi16(codes[g], q);
                    sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(words, weight));
                }
            }
        }
        sum
    }
}

/// # Safety
/// AVX2, FMA, F16C; as [`AddTile`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_tile<F: Tiled<P>, const P: usize>(a: &AddTile<'_>) {
    for chunk in 0..a.n_chunks {
        // SAFETY: as the caller vouches.
        unsafe {
            a.fetch(chunk, 1, F::CHUNK_BYTES, F::BYTES - F::N * F::CHUNK_BYTES);
            let codes = a.codes.wrapping_add(chunk * F::CHUNK_BYTES);
            let fields = a.fields.skip(chunk * BLOCK);
            let y = a.y.wrapping_add(chunk * BLOCK);
            for (b, (d, s)) in a.d.iter().zip(a.s).enumerate() {
                if *d == 0.0 {
                    continue;
                }
                let d = _mm256_set1_ps(*d);
                let s = _mm256_set1_epi32((&raw const *s).cast::<i32>().read_unaligned());
                let sums = if F::Halves::SOME {
                    [products::<F, P>(a, codes, 2 * b), products::<F, P>(a, codes, 2 * b + 1)]
                } else {
                    [products::<F, P>(a, codes, b), [_mm256_setzero_si256(); GROUPS]]
                };
                for g in 0..GROUPS {
                    let (scale, min, halves) = F::factors(fields.skip(g * LANES), b);
                    let Halves { a, b } = halves.get();
                    let offset = _mm256_madd_epi16(a, s);
                    let offset = _mm256_mullo_epi32(offset, _mm256_set1_epi32(F::OFFSET));
                    let isum = if F::Halves::SOME {
                        let first = _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(a));
                        let last = _mm256_srai_epi32::<16>(a);
                        _mm256_add_epi32(
                            _mm256_mullo_epi32(sums[0][g], first),
                            _mm256_mullo_epi32(sums[1][g], last),
                        )
                    } else {
                        sums[0][g]
                    };
                    let isum = _mm256_cvtepi32_ps(_mm256_sub_epi32(isum, offset));
                    let y = y.wrapping_add(g * LANES);
                    let mut acc =
                        _mm256_fmadd_ps(isum, _mm256_mul_ps(scale, d), _mm256_loadu_ps(y));
                    if F::HAS_MIN {
                        let msum = _mm256_cvtepi32_ps(_mm256_madd_epi16(b, s));
                        acc = _mm256_fmadd_ps(min, _mm256_mul_ps(d, msum), acc);
                    }
                    _mm256_storeu_ps(y, acc);
                }
            }
        }
    }
}

/// Chunks whose codes are read one after the other when tiles are unpacked: a cache line at least.
const WIDE: usize = 4;

/// `G` groups of outputs and `T` tokens at a time, as the row kernel of the type has it.
///
/// # Safety
/// As [`crate::backend::cpu::kernels::tiles::MulMatTilesFn`] says.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many_tokens<F: Tiled<P>, const P: usize, const G: usize, const T: usize>(
    a: &MulMatTiles<'_>,
    y: *mut f32,
    ld: usize,
    scratch: *mut u8,
) {
    // Four groups with two planes would not stay in L1 otherwise.
    let n_at_once = chunk(F::N) / P;
    let tile8 = scratch.cast::<Tile8<P, F::Halves>>();
    let stride = a.n_embd / BLOCK * F::CHUNK_BYTES;
    let act = Act { q: a.q.as_ptr(), d: a.d.as_ptr(), s: a.s.as_ptr(), n_blocks: a.n_blocks };
    let (first, n_chunks) = (a.rows.start / BLOCK, a.rows.len() / BLOCK);
    for wide in (0..n_chunks).step_by(WIDE) {
        for b0 in (0..a.n_blocks).step_by(n_at_once) {
            let n = n_at_once.min(a.n_blocks - b0);
            for c in wide..n_chunks.min(wide + WIDE) {
                // SAFETY: as the caller vouches.
                unsafe {
                    for b in 0..n {
                        let tile = (b0 + b) / F::N * F::BYTES * a.n_embd;
                        let tile = a.tiles.as_ptr().wrapping_add(tile);
                        let base = tile.wrapping_add(F::N * BLOCK * stride);
                        let fields = Fields::of(base, a.n_embd, (first + c) * BLOCK);
                        let b_in = (b0 + b) % F::N;
                        let codes = b_in * BLOCK * stride + (first + c) * F::CHUNK_BYTES;
                        let codes = tile.wrapping_add(codes);
                        unpack::<F, P>(codes, stride, fields, b_in, tile8.add(b));
                    }
                    for g in (0..GROUPS).step_by(G) {
                        let y = y.wrapping_add(c * BLOCK + g * LANES);
                        let out = Out { y, ld, n_lanes: LANES, fresh: b0 == 0 };
                        let tile = tile8.add(g * chunk(F::N));
                        all_tokens::<F, P, G, T>(tile, n, act.at(0, b0), a.n_tokens, out);
                    }
                }
            }
        }
    }
}

/// Unpacks a block of 32 outputs to the four tiles that the row kernels would make of it.
///
/// # Safety
/// AVX2, F16C; 32 neurons at distance `stride` have codes for 32 outputs at `codes`, and `tile` has
/// room for all groups.
#[inline(always)]
unsafe fn unpack<F: Tiled<P>, const P: usize>(
    codes: *const u8,
    stride: usize,
    fields: Fields,
    b: usize,
    tile: *mut Tile8<P, F::Halves>,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        for g in 0..GROUPS {
            let (scale, min, halves) = F::factors(fields.skip(g * LANES), b);
            let block = Block8 { planes: [[_mm256_setzero_si256(); 8]; P], scale, min };
            tile.add(g * chunk(F::N)).write(Tile8 { block, halves });
        }
        for j in 0..8 {
            let neurons = [0, 1, 2, 3].map(|n| codes.wrapping_add((4 * j + n) * stride));
            for (p, codes) in F::codes(neurons).into_iter().enumerate() {
                for g in 0..GROUPS {
                    (*tile.add(g * chunk(F::N))).block.planes[p][j] = codes[g];
                }
            }
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::tiles::MulMatTilesFn`] says.
unsafe fn mul_mat<F: Tiled<P>, const P: usize, const G: usize, const T: usize>(
    a: &MulMatTiles<'_>,
    y: &mut ColsMut<'_, f32>,
    scratch: &mut [u8],
) {
    let kind = Kind { n: F::N, halves: F::Halves::SOME, chunk_bytes: F::CHUNK_BYTES };
    // SAFETY: as the caller vouches.
    unsafe {
        if is_few(a) {
            add_tiles(a, y, kind, add_tile::<F, P>);
        } else {
            let (y, ld) = y.as_raw();
            many_tokens::<F, P, G, T>(a, y, ld, scratch.as_mut_ptr());
        }
    }
}
