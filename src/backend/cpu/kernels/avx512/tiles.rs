//! Products with neuron tiles: 16 outputs side by side, one per 32-bit lane, as in the row kernels.
//!
//! Codes of four neurons become one operand of `vpdpbusd`: 16 bytes of each are interleaved, which
//! is 16 or, of 4-bit codes, 32 outputs. With few activations that are not zero, four neurons that
//! are wanted are taken at a time; for many tokens the operands go to a tile in L1 first, in the
//! form in which the row kernels have them, and meet all tokens.
//!
//! To add a type: [`Tiled`] for its row format, and a line in `KERNELS`.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;

use super::int8::{Dot, Factors, GROUPS, Out, Tile16, Vnni, accumulate, all_tokens, chunk};
use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1, mxfp4_scales};
use super::int8_k::{Q4_K, Q5_K, Q6_K, scale_and_minimum, words};
use super::int8_unpack::{Blocks, HalfWeights, Halves, LANES, Q4_0, Q4_1, Q8_0, low_halves};
use crate::backend::cpu::kernels::int8::{
    Act, BLOCK, IQ4_NL_VALUES, MXFP4_VALUES, unsigned_values,
};
use crate::backend::cpu::kernels::tiles::{
    AddTile, Fields, Kind, MulMatTiles, TileKernels, add_tiles, is_few,
};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;

/// With VNNI.
pub(crate) const KERNELS_VNNI: TileKernels = TileKernels {
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0>),
        (QuantType::Q4_1, mul_mat::<Q4_1>),
        (QuantType::Q5_0, mul_mat::<Q5_0>),
        (QuantType::Q5_1, mul_mat::<Q5_1>),
        (QuantType::Q8_0, mul_mat::<Q8_0>),
        (QuantType::IQ4_NL, mul_mat::<IQ4_NL>),
        (QuantType::MXFP4, mul_mat::<MXFP4>),
        (QuantType::Q4_K, mul_mat::<Q4_K>),
        (QuantType::Q5_K, mul_mat::<Q5_K>),
        (QuantType::Q6_K, mul_mat::<Q6_K>),
    ],
    scratch_bytes: {
        let plain = chunk(1) * size_of::<Tile16<()>>();
        let super_blocks = chunk(8) * size_of::<Tile16<Halves>>();
        GROUPS * if plain > super_blocks { plain } else { super_blocks }
    },
};

/// A row format whose tiles can be read.
///
/// # Safety
/// `codes` reads only `CHUNK_BYTES` at each neuron, and `factors` the fields of 16 outputs.
unsafe trait Tiled: Blocks {
    /// Bytes of a neuron's codes for 32 outputs.
    const CHUNK_BYTES: usize = 16;
    /// Codes of 32 outputs from four neurons, 16 outputs in each; unsigned.
    ///
    /// # Safety
    /// AVX-512 F, BW; the bytes can be read.
    unsafe fn codes(neurons: [*const u8; 4]) -> [__m512i; 2];
    /// Scale, minimum and weights of block `b` of a tile.
    ///
    /// # Safety
    /// AVX-512 F, BW; the fields of 16 outputs can be read.
    unsafe fn factors(fields: Fields, b: usize) -> (__m512, __m512, Self::Halves);
}

/// 16 bytes from each of four neurons: byte `n` of lane `r` is byte `r` of neuron `n`.
///
/// # Safety
/// AVX-512 F, BW; the bytes at `offset` can be read.
#[inline(always)]
unsafe fn interleave(neurons: [*const u8; 4], offset: usize) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let load = |n: usize| _mm_loadu_si128(neurons[n].add(offset).cast());
        let x = _mm512_castsi128_si512(load(0));
        let x = _mm512_mask_broadcast_i32x4(x, 0x00f0, load(1));
        let x = _mm512_mask_broadcast_i32x4(x, 0x0f00, load(2));
        let x = _mm512_mask_broadcast_i32x4(x, 0xf000, load(3));
        // Dword i of each neuron side by side, then their bytes.
        let dwords = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        interleave4(_mm512_permutexvar_epi32(dwords, x))
    }
}

/// Four times four bytes in each 128-bit lane, transposed.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
unsafe fn interleave4(x: __m512i) -> __m512i {
    // SAFETY: as the caller vouches.
    unsafe {
        let bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(bytes))
    }
}

/// A plane of 4 bits at the start of the chunk.
///
/// # Safety
/// AVX-512 F, BW; 16 bytes can be read at each neuron.
#[inline(always)]
unsafe fn nibbles(neurons: [*const u8; 4]) -> [__m512i; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let (x, mask) = (interleave(neurons, 0), _mm512_set1_epi8(15));
        [_mm512_and_si512(x, mask), _mm512_and_si512(_mm512_srli_epi32::<4>(x), mask)]
    }
}

/// What a plane of 4 bits stands for.
///
/// # Safety
/// As for [`nibbles`].
#[inline(always)]
unsafe fn looked_up(neurons: [*const u8; 4], table: &[u8; 16]) -> [__m512i; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        nibbles(neurons).map(|x| _mm512_shuffle_epi8(table, x))
    }
}

/// A plane of 4 bits, and one of 1 bit behind it.
///
/// # Safety
/// AVX-512 F, BW; 20 bytes can be read at each neuron.
#[inline(always)]
unsafe fn five_bits(neurons: [*const u8; 4]) -> [__m512i; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let [lo, hi] = nibbles(neurons);
        let dword = |n: usize| neurons[n].add(16).cast::<i32>().read_unaligned();
        let x = _mm_setr_epi32(dword(0), dword(1), dword(2), dword(3));
        // Bit f of byte c belongs to output 4f + c: lane 4f + c, or that of the other 16 outputs.
        let x = interleave4(_mm512_broadcast_i32x4(x));
        let (mask, four) = (_mm512_set1_epi8(16), _mm512_set1_epi32(4));
        let f = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        let first = _mm512_rolv_epi32(x, _mm512_sub_epi32(four, f));
        let last = _mm512_rorv_epi32(x, f);
        [
            _mm512_or_si512(lo, _mm512_and_si512(first, mask)),
            _mm512_or_si512(hi, _mm512_and_si512(last, mask)),
        ]
    }
}

/// A plane of 4 bits, and one of 2 bits behind it.
///
/// # Safety
/// AVX-512 F, BW; 24 bytes can be read at each neuron.
#[inline(always)]
unsafe fn six_bits(neurons: [*const u8; 4]) -> [__m512i; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let [lo, hi] = nibbles(neurons);
        let qword = |n: usize| _mm_loadl_epi64(neurons[n].add(16).cast());
        let x = _mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(_mm_unpacklo_epi64(qword(0), qword(1))),
            _mm_unpacklo_epi64(qword(2), qword(3)),
        );
        // Two bits f of byte c belong to output 8f + c: lane 8f + c, or that of the other outputs.
        let dwords = _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7);
        let x = interleave4(_mm512_permutexvar_epi32(dwords, _mm512_castsi256_si512(x)));
        let mask = _mm512_set1_epi8(0x30);
        let left = _mm512_setr_epi32(4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2);
        let right = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
        let (first, last) = (_mm512_rolv_epi32(x, left), _mm512_rorv_epi32(x, right));
        [
            _mm512_or_si512(lo, _mm512_and_si512(first, mask)),
            _mm512_or_si512(hi, _mm512_and_si512(last, mask)),
        ]
    }
}

/// A scale in half precision.
///
/// # Safety
/// AVX-512 F; the fields of 16 outputs can be read.
#[inline(always)]
unsafe fn half_scale(fields: Fields) -> (__m512, __m512, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let scale = _mm512_cvtph_ps(_mm256_loadu_si256(fields.at(0, 2).cast()));
        (scale, _mm512_setzero_ps(), ())
    }
}

/// Scale and minimum in half precision.
///
/// # Safety
/// AVX-512 F; the fields of 16 outputs can be read.
#[inline(always)]
unsafe fn half_scale_and_minimum(fields: Fields) -> (__m512, __m512, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let x = _mm512_loadu_si512(fields.at(0, 4).cast());
        (low_halves(x), low_halves(_mm512_srli_epi32::<16>(x)), ())
    }
}

/// Scale and minimum of a block of Q4_K or Q5_K.
///
/// # Safety
/// AVX-512 F, BW; the fields of 16 outputs can be read.
#[inline(always)]
unsafe fn k_scale_and_minimum(fields: Fields, b: usize) -> (__m512, __m512, ()) {
    // SAFETY: as the caller vouches.
    unsafe {
        let field = |i: usize| _mm512_loadu_si512(fields.at(4 * i, 4).cast());
        let [scale, min] = scale_and_minimum([field(0), field(1), field(2), field(3)], b);
        (scale, min, ())
    }
}

macro_rules! tiled {
    ($($ty:ident $bytes:literal, |$neurons:ident| $codes:expr, |$fields:ident, $b:ident| $factors:expr;)*) => {$(
        // SAFETY: reads a whole chunk and the fields of 16 outputs.
        unsafe impl Tiled for $ty {
            const CHUNK_BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn codes($neurons: [*const u8; 4]) -> [__m512i; 2] {
                // SAFETY: as the caller vouches.
                unsafe { $codes }
            }
            #[inline(always)]
            unsafe fn factors($fields: Fields, $b: usize) -> (__m512, __m512, Self::Halves) {
                // SAFETY: as the caller vouches.
                unsafe { $factors }
            }
        }
    )*};
}
tiled! {
    Q4_0 16, |x| nibbles(x), |f, _b| half_scale(f);
    Q4_1 16, |x| nibbles(x), |f, _b| half_scale_and_minimum(f);
    Q5_0 20, |x| five_bits(x), |f, _b| half_scale(f);
    Q5_1 20, |x| five_bits(x), |f, _b| half_scale_and_minimum(f);
    Q8_0 32,
        // Adding 128 modulo 256 makes signed codes unsigned.
        |x| [interleave(x, 0), interleave(x, 16)].map(|x| _mm512_xor_si512(x, _mm512_set1_epi8(-128))),
        |f, _b| half_scale(f);
    IQ4_NL 16,
        |x| looked_up(x, const { &unsigned_values(IQ4_NL_VALUES, <IQ4_NL as Blocks>::OFFSET) }),
        |f, _b| half_scale(f);
    MXFP4 16,
        |x| looked_up(x, const { &unsigned_values(MXFP4_VALUES, <MXFP4 as Blocks>::OFFSET) }),
        |f, _b| {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(f.at(0, 1).cast()));
            (mxfp4_scales(e), _mm512_setzero_ps(), ())
        };
    Q4_K 16, |x| nibbles(x), |f, b| k_scale_and_minimum(f, b);
    Q5_K 20, |x| five_bits(x), |f, b| k_scale_and_minimum(f, b);
    Q6_K 24, |x| six_bits(x),
        |f, b| {
            let (scale, min, ()) = half_scale(f);
            let a = words(_mm512_loadu_si512(f.at(2 + b / 2 * 4, 4).cast()), b % 2, true);
            (scale, min, Halves { a, b: a })
        };
}

/// Adds a tile to `C` chunks of outputs from `chunk` on.
///
/// # Safety
/// AVX-512 F, BW, VNNI; as [`AddTile`] says.
#[inline(always)]
unsafe fn add_chunks<F: Tiled, const C: usize>(a: &AddTile<'_>, chunk: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        a.fetch(chunk, C, F::CHUNK_BYTES, field_bytes::<F>());
        let codes = a.codes.wrapping_add(chunk * F::CHUNK_BYTES);
        let fields = a.fields.skip(chunk * BLOCK);
        let y = |c: usize, g: usize| a.y.wrapping_add((chunk + c) * BLOCK + g * LANES);
        let mut acc = [[_mm512_setzero_ps(); GROUPS]; C];
        for c in 0..C {
            for g in 0..GROUPS {
                acc[c][g] = _mm512_loadu_ps(y(c, g));
            }
        }
        for (b, (d, s)) in a.d.iter().zip(a.s).enumerate() {
            if *d == 0.0 {
                continue;
            }
            let act = Act { q: std::ptr::null(), d, s, n_blocks: 0 };
            let f = Factors::of(act);
            let none = F::factors(fields, b).2;
            let mut sum = [[Vnni::start::<F>(f.s); GROUPS]; C];
            let units = 1 + usize::from(F::Halves::SOME);
            for half in 0..units {
                for quad in a.wanted.unit(b * units + half) {
                    let neurons = quad.at.map(|at| codes.wrapping_add(at as usize));
                    let q = _mm512_set1_epi32(quad.q);
                    for c in 0..C {
                        let codes = F::codes(neurons.map(|n| n.wrapping_add(c * F::CHUNK_BYTES)));
                        for g in 0..GROUPS {
                            sum[c][g] = Vnni::step::<F>(sum[c][g], 4 * half, codes[g], q, none);
                        }
                    }
                }
            }
            for c in 0..C {
                for g in 0..GROUPS {
                    let factors = F::factors(fields.skip(c * BLOCK + g * LANES), b);
                    let isum = Vnni::finish::<F>(sum[c][g], f.s, factors.2);
                    acc[c][g] = accumulate::<F>(acc[c][g], isum, factors, f);
                }
            }
        }
        for c in 0..C {
            for g in 0..GROUPS {
                _mm512_storeu_ps(y(c, g), acc[c][g]);
            }
        }
    }
}

/// Bytes of a block that are not codes.
const fn field_bytes<F: Tiled>() -> usize {
    F::BYTES - F::N * F::CHUNK_BYTES
}

/// # Safety
/// AVX-512 F, BW, VNNI; as [`AddTile`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn add_tile<F: Tiled>(a: &AddTile<'_>) {
    let mut chunk = 0;
    while chunk < a.n_chunks {
        // A cache line of codes at a time, as many sums as the registers hold.
        let left = a.n_chunks - chunk;
        // SAFETY: as the caller vouches.
        unsafe {
            if !F::Halves::SOME && left >= 4 {
                add_chunks::<F, 4>(a, chunk);
                chunk += 4;
            } else if F::Halves::SOME && left >= 2 {
                add_chunks::<F, 2>(a, chunk);
                chunk += 2;
            } else {
                add_chunks::<F, 1>(a, chunk);
                chunk += 1;
            }
        }
    }
}

/// Outputs whose codes are read together when tiles are unpacked: at least a cache line.
const WIDE: usize = 4;

/// # Safety
/// As [`crate::backend::cpu::kernels::tiles::MulMatTilesFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn many_tokens<F: Tiled>(a: &MulMatTiles<'_>, y: *mut f32, ld: usize, scratch: *mut u8) {
    let tile16 = scratch.cast::<Tile16<F::Halves>>();
    let stride = a.n_embd / BLOCK * F::CHUNK_BYTES;
    let act = Act { q: a.q.as_ptr(), d: a.d.as_ptr(), s: a.s.as_ptr(), n_blocks: a.n_blocks };
    let (first, n_chunks) = (a.rows.start / BLOCK, a.rows.len() / BLOCK);
    for wide in (0..n_chunks).step_by(WIDE) {
        for b0 in (0..a.n_blocks).step_by(chunk(F::N)) {
            let n = chunk(F::N).min(a.n_blocks - b0);
            for c in wide..n_chunks.min(wide + WIDE) {
                // SAFETY: as the caller vouches.
                unsafe {
                    for b in 0..n {
                        let tile = (b0 + b) / F::N * F::BYTES * a.n_embd;
                        let tile = a.tiles.as_ptr().wrapping_add(tile);
                        let fields = Fields::of(
                            tile.wrapping_add(F::N * BLOCK * stride),
                            a.n_embd,
                            (first + c) * BLOCK,
                        );
                        let b_in = (b0 + b) % F::N;
                        let codes =
                            tile.wrapping_add(b_in * BLOCK * stride + (first + c) * F::CHUNK_BYTES);
                        unpack::<F>(codes, stride, fields, b_in, tile16.add(b));
                    }
                    let out = Out { y: y.wrapping_add(c * BLOCK), ld, mask: !0, fresh: b0 == 0 };
                    all_tokens::<Vnni, F, GROUPS>(tile16, n, act.at(0, b0), a.n_tokens, out);
                }
            }
        }
    }
}

/// Unpacks a block of 32 outputs to the two tiles that the row kernels would make of it.
///
/// # Safety
/// AVX-512 F, BW; 32 neurons at distance `stride` have codes for 32 outputs at `codes`, and `tile`
/// has room for both groups.
#[inline(always)]
unsafe fn unpack<F: Tiled>(
    codes: *const u8,
    stride: usize,
    fields: Fields,
    b: usize,
    tile: *mut Tile16<F::Halves>,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        for g in 0..GROUPS {
            let (scale, min, halves) = F::factors(fields.skip(g * LANES), b);
            let tile = tile.add(g * chunk(F::N));
            (&raw mut (*tile).block.scale).write(scale);
            (&raw mut (*tile).block.min).write(min);
            (&raw mut (*tile).halves).write(halves);
        }
        for j in 0..8 {
            let neurons = [0, 1, 2, 3].map(|n| codes.wrapping_add((4 * j + n) * stride));
            let codes = F::codes(neurons);
            for g in 0..GROUPS {
                (&raw mut (*tile.add(g * chunk(F::N))).block.codes[j]).write(codes[g]);
            }
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::tiles::MulMatTilesFn`] says.
unsafe fn mul_mat<F: Tiled>(a: &MulMatTiles<'_>, y: &mut ColsMut<'_, f32>, scratch: &mut [u8]) {
    let kind = Kind { n: F::N, halves: F::Halves::SOME, chunk_bytes: F::CHUNK_BYTES };
    // SAFETY: as the caller vouches.
    unsafe {
        if is_few(a) {
            add_tiles(a, y, kind, add_tile::<F>);
        } else {
            let (y, ld) = y.as_raw();
            many_tokens::<F>(a, y, ld, scratch.as_mut_ptr());
        }
    }
}
