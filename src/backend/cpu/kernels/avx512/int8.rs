//! Integer mat-mul with AVX-512: 16 weight rows side by side, one per 32-bit lane.
//!
//! A block of 16 rows is unpacked into 8 registers; register `j` holds in lane `r` the codes
//! `4j..4j+4` of row `r`. Then one dot step with four activation codes, broadcast, advances 16
//! outputs by four steps of K: a `vpdpbusd` where there is VNNI, else `vpmaddubsw`. For few tokens
//! the unpacked block is used where it is, in registers; for many it goes to a tile in L1 first,
//! and the tile meets all tokens.
#![allow(clippy::needless_range_loop, reason = "index loops unroll into registers, zips may not")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::int8_bits::{Q1_0, Q2_0, TQ1_0, TQ2_0};
use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use super::int8_decoded::Decoded;
use super::int8_iq::IQ4_XS;
use super::int8_k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
use super::int8_unpack::{Block16, Blocks, HalfWeights, Halves, LANES, Q4_0, Q4_1, Q8_0, Sink};
use crate::backend::cpu::kernels::int8::{
    Act, Ahead, BLOCK, Fetch, Int8Kernels, MulMatQ8, Onwards, Rows, Scattered, Sums, sums,
};
use crate::backend::cpu::kernels::int8_decoded;
use crate::quant::QuantType;

/// The table's rows: the kernel `$mul_mat` for every type, or `$decoded` for those that are decoded
/// to memory first.
macro_rules! rows {
    ($mul_mat:ident, $decoded:ident) => {
        rows!($mul_mat: Q4_0 Q4_1 Q8_0 Q5_0 Q5_1 IQ4_NL MXFP4 Q2_K Q3_K Q4_K Q5_K Q6_K
            IQ4_XS Q1_0 Q2_0 TQ1_0 TQ2_0; $decoded: IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S
            NVFP4)
    };
    ($mul_mat:ident: $($ty:ident)*; $decoded:ident: $($of:ident)*) => {
        &[$((QuantType::$ty, $mul_mat::<$ty>),)* $((QuantType::$of, $decoded)),*]
    };
}

/// With VNNI.
pub(crate) const KERNELS_VNNI: Int8Kernels =
    Int8Kernels { quantize, rows: rows!(mul_mat_vnni, decoded_vnni), scratch_bytes };

/// Without VNNI.
pub(crate) const KERNELS: Int8Kernels =
    Int8Kernels { quantize, rows: rows!(mul_mat_bw, decoded_bw), scratch_bytes };

fn scratch_bytes(ty: QuantType, n_blocks: usize) -> usize {
    let plain = chunk(1) * size_of::<Tile16<()>>();
    let super_blocks = chunk(8) * size_of::<Tile16<Halves>>();
    GROUPS * plain.max(super_blocks) + int8_decoded::scratch_bytes(ty, n_blocks)
}

/// Groups that share the activations of a micro-kernel.
pub(super) const GROUPS: usize = 2;
/// Tokens of a micro-kernel: 2 x 4 integer and 2 x 4 float sums leave room for the operands.
const TOKENS: usize = 4;
/// Blocks along K that are unpacked at a time, a multiple of the `n` that come together; the tiles
/// of two groups then take 25 KB of L1.
pub(super) const fn chunk(n: usize) -> usize {
    if n == 1 { 20 } else { 16 }
}

/// An unpacked block in memory.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tile16<H> {
    pub(super) block: Block16,
    pub(super) halves: H,
}

/// Up to this many tokens blocks are multiplied as they are unpacked.
const FEW_TOKENS: usize = 4;

/// The exact sum of a block's products, four of them per step and lane.
pub(super) trait Dot {
    type Sum: Copy;
    /// From the activations' sums `s` in all lanes.
    ///
    /// # Safety
    /// The instructions of the implementation; likewise below.
    unsafe fn start<F: Blocks>(s: __m512i) -> Self::Sum;
    /// Step `j` of 0..8, in ascending order.
    ///
    /// # Safety
    /// As for `start`.
    unsafe fn step<F: Blocks>(
        sum: Self::Sum,
        j: usize,
        codes: __m512i,
        q: __m512i,
        halves: F::Halves,
    ) -> Self::Sum;
    /// # Safety
    /// As for `start`; `s` is what was given there.
    unsafe fn finish<F: Blocks>(sum: Self::Sum, s: __m512i, halves: F::Halves) -> [__m512i; 2];
}

/// `vpdpbusd`.
pub(super) struct Vnni;

impl Dot for Vnni {
    /// The sums over the halves of the block, or (and nothing) over all of it.
    type Sum = [__m512i; 2];
    #[inline(always)]
    unsafe fn start<F: Blocks>(s: __m512i) -> Self::Sum {
        // SAFETY: as the caller vouches.
        unsafe {
            if F::Halves::SOME || F::TWO_SCALES {
                let first = _mm512_madd_epi16(s, _mm512_set1_epi32(-F::OFFSET & 0xffff));
                [first, _mm512_madd_epi16(s, _mm512_set1_epi32(-F::OFFSET << 16))]
            } else {
                let all = _mm512_madd_epi16(s, _mm512_set1_epi16(-F::OFFSET as i16));
                [all, _mm512_setzero_si512()]
            }
        }
    }
    #[inline(always)]
    unsafe fn step<F: Blocks>(
        sum: Self::Sum,
        j: usize,
        codes: __m512i,
        q: __m512i,
        _halves: F::Halves,
    ) -> Self::Sum {
        // SAFETY: as the caller vouches.
        unsafe {
            if (F::Halves::SOME || F::TWO_SCALES) && j >= 4 {
                [sum[0], _mm512_dpbusd_epi32(sum[1], codes, q)]
            } else {
                [_mm512_dpbusd_epi32(sum[0], codes, q), sum[1]]
            }
        }
    }
    #[inline(always)]
    unsafe fn finish<F: Blocks>(sum: Self::Sum, _s: __m512i, halves: F::Halves) -> [__m512i; 2] {
        // SAFETY: as the caller vouches.
        unsafe {
            if !F::Halves::SOME {
                return sum;
            }
            let a = halves.get().a;
            let first = _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(a));
            let last = _mm512_srai_epi32::<16>(a);
            let products = [_mm512_mullo_epi32(sum[0], first), _mm512_mullo_epi32(sum[1], last)];
            [_mm512_add_epi32(products[0], products[1]), _mm512_setzero_si512()]
        }
    }
}

/// `vpmaddubsw`, whose sums in 16 bits are widened before they overflow. Codes of 8 bits are
/// multiplied by nibbles.
struct Words;

/// Sums of [`Words`].
#[derive(Clone, Copy)]
struct WordSums {
    /// In words, over the low bits of the codes and, of nibbles, over the high ones.
    words: [__m512i; 2],
    /// By halves of the block, or all in one.
    total: [__m512i; 2],
}

impl Words {
    /// Steps of which the sums fit into 16 bits, with `2 * (2^bits - 1) * 128` at most for each;
    /// a divisor of 4 when the halves of a block have weights.
    const fn steps(bits: u32, halves: bool) -> usize {
        match bits {
            7 => 1,
            6 => 2,
            5 => 4,
            _ if halves => 4,
            _ => 8,
        }
    }
}

impl Dot for Words {
    type Sum = WordSums;
    #[inline(always)]
    unsafe fn start<F: Blocks>(s: __m512i) -> WordSums {
        // SAFETY: as the caller vouches.
        unsafe {
            let zero = _mm512_setzero_si512();
            // Where halves have weights, the offset is taken out at the end.
            let total = match F::Halves::SOME {
                true => [zero; 2],
                false => Vnni::start::<F>(s),
            };
            WordSums { words: [zero; 2], total }
        }
    }
    #[inline(always)]
    unsafe fn step<F: Blocks>(
        sum: WordSums,
        j: usize,
        codes: __m512i,
        q: __m512i,
        halves: F::Halves,
    ) -> WordSums {
        let steps = Self::steps(F::BITS, F::Halves::SOME);
        // SAFETY: as the caller vouches.
        unsafe {
            let add = |sum: __m512i, codes: __m512i| {
                let product = _mm512_maddubs_epi16(codes, q);
                if j.is_multiple_of(steps) { product } else { _mm512_add_epi16(sum, product) }
            };
            let mut sum = sum;
            if F::BITS > 7 {
                let mask = _mm512_set1_epi8(15);
                let high = _mm512_and_si512(_mm512_srli_epi32::<4>(codes), mask);
                sum.words[0] = add(sum.words[0], _mm512_and_si512(codes, mask));
                sum.words[1] = add(sum.words[1], high);
            } else {
                sum.words[0] = add(sum.words[0], codes);
            }
            if !(j + 1).is_multiple_of(steps) {
                return sum;
            }
            // The weight of this half in both words.
            let weight = match (F::Halves::SOME, j < 4) {
                (false, _) => _mm512_set1_epi16(1),
                (true, true) => {
                    let a = halves.get().a;
                    _mm512_mask_blend_epi16(0xaaaa_aaaa, a, _mm512_slli_epi32::<16>(a))
                }
                (true, false) => {
                    let a = halves.get().a;
                    _mm512_mask_blend_epi16(0x5555_5555, a, _mm512_srli_epi32::<16>(a))
                }
            };
            let total = &mut sum.total[usize::from(F::TWO_SCALES && j >= 4)];
            *total = _mm512_add_epi32(*total, _mm512_madd_epi16(sum.words[0], weight));
            if F::BITS > 7 {
                let weight = _mm512_slli_epi16::<4>(weight);
                *total = _mm512_add_epi32(*total, _mm512_madd_epi16(sum.words[1], weight));
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn finish<F: Blocks>(sum: WordSums, s: __m512i, halves: F::Halves) -> [__m512i; 2] {
        if !F::Halves::SOME {
            return sum.total;
        }
        // SAFETY: as the caller vouches.
        unsafe {
            let offset = _mm512_madd_epi16(halves.get().a, s);
            let offset = _mm512_mullo_epi32(offset, _mm512_set1_epi32(F::OFFSET));
            [_mm512_sub_epi32(sum.total[0], offset), sum.total[1]]
        }
    }
}

/// What an activation block contributes besides its codes, in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    d: __m512,
    /// The two sums of its codes.
    pub(super) s: __m512i,
}

impl Factors {
    /// # Safety
    /// AVX-512 F.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: as the caller vouches.
        unsafe { Self { d: _mm512_setzero_ps(), s: _mm512_setzero_si512() } }
    }

    /// # Safety
    /// AVX-512 F; `act` points at a block.
    #[inline(always)]
    pub(super) unsafe fn of(act: Act) -> Self {
        // SAFETY: as the caller vouches.
        unsafe {
            Self {
                d: _mm512_set1_ps(*act.d),
                s: _mm512_set1_epi32(act.s.cast::<i32>().read_unaligned()),
            }
        }
    }
}

/// Adds a block's exact sum, or those of its halves, to the outputs, as the contract says.
///
/// # Safety
/// AVX-512 F, BW.
#[inline(always)]
pub(super) unsafe fn accumulate<F: Blocks>(
    acc: __m512,
    isum: [__m512i; 2],
    (scale, min, halves): (__m512, __m512, F::Halves),
    f: Factors,
) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe {
        let acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum[0]), _mm512_mul_ps(scale, f.d), acc);
        if F::TWO_SCALES {
            return _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum[1]), _mm512_mul_ps(min, f.d), acc);
        }
        if !F::HAS_MIN {
            return acc;
        }
        let msum = _mm512_madd_epi16(halves.get().b, f.s);
        _mm512_fmadd_ps(min, _mm512_mul_ps(f.d, _mm512_cvtepi32_ps(msum)), acc)
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

/// Multiplies blocks with `T` tokens as they come.
struct Multiply<F, D, A, const T: usize> {
    act: Act,
    acc: [__m512; T],
    ahead: A,
    kind: PhantomData<(F, D)>,
}

impl<F: Blocks, D: Dot, A: Fetch, const T: usize> Sink<F::Halves> for Multiply<F, D, A, T> {
    #[inline(always)]
    unsafe fn take(&mut self, block: Block16, halves: F::Halves) {
        self.ahead.fetch(LANES * F::BYTES / F::N);
        // SAFETY: as the caller vouches.
        unsafe {
            for t in 0..T {
                let act = self.act.at(t, 0);
                let f = Factors::of(act);
                let mut sum = D::start::<F>(f.s);
                for j in 0..8 {
                    sum = D::step::<F>(sum, j, block.codes[j], broadcast4(act.q, j), halves);
                }
                let isum = D::finish::<F>(sum, f.s, halves);
                let factors = (block.scale, block.min, halves);
                self.acc[t] = accumulate::<F>(self.acc[t], isum, factors, f);
            }
        }
        self.act = self.act.at(0, 1);
    }
}

/// All of K for 16 rows and `T` tokens, straight from the weights.
///
/// # Safety
/// AVX-512 F, BW and what `D` needs; 16 rows of `act.n_blocks` blocks, `T` tokens, outputs for them.
#[inline(always)]
unsafe fn few_tokens<D: Dot, F: Blocks, A: Fetch, const T: usize>(
    rows: impl Rows,
    act: Act,
    ahead: &mut A,
    out: Out,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut rows = rows;
        let acc = [_mm512_setzero_ps(); T];
        let mut sink = Multiply::<F, D, A, T> { act, acc, ahead: ahead.clone(), kind: PhantomData };
        for _ in 0..act.n_blocks / F::N {
            F::each(rows, &mut sink);
            rows = rows.advance(F::BYTES);
        }
        for (t, acc) in sink.acc.iter().enumerate() {
            _mm512_mask_storeu_ps(out.y.wrapping_add(t * out.ld), out.mask, *acc);
        }
        *ahead = sink.ahead;
    }
}

/// The same for rows that lie anywhere and `n_tokens` tokens, four together or one: less to
/// compile, and the others are rare.
///
/// # Safety
/// As for [`few_tokens`].
#[inline(always)]
unsafe fn few_tokens_scattered<D: Dot, F: Blocks>(
    rows: Scattered<'_>,
    act: Act,
    n_tokens: usize,
    ahead: &mut Ahead<'_>,
    out: Out,
) {
    // The first tokens fetch for all.
    let (mut t, mut ahead, mut nothing) = (0, ahead, Ahead::nothing());
    while t < n_tokens {
        let (act, out) = (act.at(t, 0), Out { y: out.y.wrapping_add(t * out.ld), ..out });
        // SAFETY: as the caller vouches; t and the tokens taken stay within n_tokens.
        unsafe {
            if n_tokens - t >= FEW_TOKENS {
                few_tokens::<D, F, _, FEW_TOKENS>(rows, act, ahead, out);
                t += FEW_TOKENS;
            } else {
                few_tokens::<D, F, _, 1>(rows, act, ahead, out);
                t += 1;
            }
        }
        ahead = &mut nothing;
    }
}

/// Where a micro-kernel's outputs go.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) y: *mut f32,
    pub(super) ld: usize,
    /// Lanes of the (only) group that exist.
    pub(super) mask: __mmask16,
    /// The outputs start at zero: this is the first chunk of K.
    pub(super) fresh: bool,
}

/// A chunk of K for `G` unpacked groups of rows and `T` tokens.
///
/// # Safety
/// AVX-512 F, BW and what `D` needs; `G` tiles of `n` blocks at distance [`chunk`], `T` tokens of `n` blocks at
/// `act`, outputs for them.
#[inline(always)]
unsafe fn micro<D: Dot, F: Blocks, const G: usize, const T: usize>(
    tile: *const Tile16<F::Halves>,
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
            let mut sum = [[D::start::<F>(_mm512_setzero_si512()); T]; G];
            let mut f = [Factors::zero(); T];
            for t in 0..T {
                f[t] = Factors::of(act.at(t, b));
                for sum in &mut sum {
                    sum[t] = D::start::<F>(f[t].s);
                }
            }
            for j in 0..8 {
                let mut q = [_mm512_setzero_si512(); T];
                for (t, q) in q.iter_mut().enumerate() {
                    *q = broadcast4(act.at(t, b).q, j);
                }
                for (g, sum) in sum.iter_mut().enumerate() {
                    let tile = tile.add(g * chunk(F::N));
                    let (codes, halves) = ((*tile).block.codes[j], (*tile).halves);
                    for (sum, q) in sum.iter_mut().zip(q) {
                        *sum = D::step::<F>(*sum, j, codes, q, halves);
                    }
                }
            }
            for (g, acc) in acc.iter_mut().enumerate() {
                let tile = tile.add(g * chunk(F::N));
                for (t, acc) in acc.iter_mut().enumerate() {
                    let halves = (*tile).halves;
                    let factors = ((*tile).block.scale, (*tile).block.min, halves);
                    let isum = D::finish::<F>(sum[g][t], f[t].s, halves);
                    *acc = accumulate::<F>(*acc, isum, factors, f[t]);
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
pub(super) unsafe fn all_tokens<D: Dot, F: Blocks, const G: usize>(
    tile: *const Tile16<F::Halves>,
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

/// Writes blocks one behind the other.
struct Store<F: Blocks, A> {
    tile: *mut Tile16<F::Halves>,
    ahead: A,
}

impl<F: Blocks, A: Fetch> Sink<F::Halves> for Store<F, A> {
    #[inline(always)]
    unsafe fn take(&mut self, block: Block16, halves: F::Halves) {
        self.ahead.fetch(LANES * F::BYTES / F::N);
        // SAFETY: as the caller vouches.
        unsafe {
            self.tile.write(Tile16 { block, halves });
            self.tile = self.tile.add(1);
        }
    }
}

/// Unpacks `n` blocks of 16 rows.
///
/// # Safety
/// AVX-512 F, BW; the rows have `n` blocks and `tile` has room for them.
#[inline(always)]
unsafe fn unpack<F: Blocks, A: Fetch>(
    rows: impl Rows,
    n: usize,
    tile: *mut Tile16<F::Halves>,
    ahead: &mut A,
) {
    let (mut rows, mut sink) = (rows, Store::<F, A> { tile, ahead: ahead.clone() });
    for _ in 0..n / F::N {
        // SAFETY: as the caller vouches.
        unsafe { F::each(rows, &mut sink) };
        rows = rows.advance(F::BYTES);
    }
    *ahead = sink.ahead;
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says, with what `D` needs. Inlined, like all
/// it calls, into a function that has those instructions enabled.
#[inline(always)]
unsafe fn mul_mat<D: Dot, F: Blocks>(a: &MulMatQ8<'_>) {
    let act = Act::of(a);
    let tile = a.scratch.cast::<Tile16<F::Halves>>();
    let few = a.n_tokens <= FEW_TOKENS;
    let mut ahead = a.ahead(if few { LANES } else { GROUPS * LANES });
    let mut i = 0;
    while i < a.n_rows {
        let left = a.n_rows - i;
        // Groups that are not full take the last row several times.
        let even = a.ids.is_none() && left >= LANES;
        let mask = if left < LANES { (1 << left) - 1 } else { !0 };
        let out = Out { y: a.y.wrapping_add(i), ld: a.ld, mask, fresh: true };
        // SAFETY: as the caller vouches; no more rows are written than are left.
        unsafe {
            if few && even {
                let rows = a.even_rows_from(i);
                let ahead = &mut Onwards::of(rows, LANES);
                match a.n_tokens {
                    1 => few_tokens::<D, F, _, 1>(rows, act, ahead, out),
                    2 => few_tokens::<D, F, _, 2>(rows, act, ahead, out),
                    3 => few_tokens::<D, F, _, 3>(rows, act, ahead, out),
                    _ => few_tokens::<D, F, _, FEW_TOKENS>(rows, act, ahead, out),
                }
                i += LANES;
                continue;
            }
            if few {
                ahead.ask_for_pages(LANES);
                let rows = a.rows_from(i);
                let rows = Scattered::new(&rows);
                few_tokens_scattered::<D, F>(rows, act, a.n_tokens, &mut ahead, out);
                i += LANES;
                continue;
            }
            let n_groups = if left >= GROUPS * LANES { GROUPS } else { 1 };
            ahead.ask_for_pages(n_groups * LANES);
            let starts: [_; GROUPS] = std::array::from_fn(|g| a.rows_from(i + g * LANES));
            for b in (0..a.n_blocks).step_by(chunk(F::N)) {
                let n = chunk(F::N).min(a.n_blocks - b);
                let byte = b / F::N * F::BYTES;
                for (g, starts) in starts[..n_groups].iter().enumerate() {
                    let tile = tile.add(g * chunk(F::N));
                    if even {
                        let rows = a.even_rows_from(i + g * LANES).advance(byte);
                        unpack::<F, _>(rows, n, tile, &mut ());
                    } else {
                        let rows = Scattered::new(starts).advance(byte);
                        unpack::<F, _>(rows, n, tile, &mut ahead);
                    }
                }
                let (act, out) = (act.at(0, b), Out { fresh: b == 0, ..out });
                match n_groups {
                    1 => all_tokens::<D, F, 1>(tile, n, act, a.n_tokens, out),
                    _ => all_tokens::<D, F, GROUPS>(tile, n, act, a.n_tokens, out),
                }
            }
            i += n_groups * LANES;
        }
    }
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn mul_mat_vnni<F: Blocks>(a: &MulMatQ8<'_>) {
    // SAFETY: as the caller vouches.
    unsafe { mul_mat::<Vnni, F>(a) };
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn mul_mat_bw<F: Blocks>(a: &MulMatQ8<'_>) {
    // SAFETY: as the caller vouches.
    unsafe { mul_mat::<Words, F>(a) };
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
unsafe fn decoded_vnni(a: &MulMatQ8<'_>) {
    // SAFETY: as the caller vouches.
    unsafe { int8_decoded::mul_mat(a, mul_mat_vnni::<Decoded>) };
}

/// # Safety
/// As [`crate::backend::cpu::kernels::int8::MulMatFn`] says.
unsafe fn decoded_bw(a: &MulMatQ8<'_>) {
    // SAFETY: as the caller vouches.
    unsafe { int8_decoded::mul_mat(a, mul_mat_bw::<Decoded>) };
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
