//! What [`super::sum_rows`] has to know of each type: where scales are, and how interleaved bytes
//! become codes.

#![allow(non_camel_case_types, reason = "the types are spelt so everywhere")]

use super::sum_rows::{QUAD, QUADS, Quad, Sink, Words};
use crate::backend::cpu::kernels::int8::IQ4_NL_VALUES;

/// A type with integer codes.
///
/// # Safety
/// Only the `BYTES` of blocks are read: of one by `each`, of those that have `n` units by `scales`.
pub(in super::super) unsafe trait Format {
    /// Blocks of 32 elements in one of the file.
    const N: usize;
    /// Bytes of one of the file.
    const BYTES: usize;
    /// Scales for 32 elements: 1 or 2.
    const UNITS: usize;
    /// Offset of the codes, 0 when they come out signed.
    const OFFSET: i32;
    const HAS_MIN: bool;
    /// Scales and minimums of the first `n` of 16 units from `row` on; `n` is below 16 only at a
    /// row's end.
    ///
    /// # Safety
    /// The instruction set of `V`; `n` units from `row` on.
    unsafe fn scales<V: Words>(row: *const u8, n: usize) -> (V::F, V::F);
    /// Hands the codes of the block of the file at byte `at` of each row to `sink`.
    ///
    /// # Safety
    /// The instruction set of `V`; a block at each row, room for it in `sink`.
    unsafe fn each<V: Words>(quads: [Quad; QUADS], at: usize, sink: &mut Sink<'_, V>);
}

/// Bytes as words: those of rows 0 and 2, those of rows 1 and 3.
///
/// # Safety
/// The instruction set of `V`; likewise below.
#[inline(always)]
unsafe fn widen<V: Words>(bytes: V) -> [V; 2] {
    // SAFETY: as the caller vouches.
    unsafe { [bytes.and(V::splat(0x00ff_00ff)), bytes.shr(8)] }
}

/// Signed bytes as words.
///
/// # Safety
/// As for `widen`.
#[inline(always)]
unsafe fn widen_signed<V: Words>(bytes: V) -> [V; 2] {
    // SAFETY: as the caller vouches.
    unsafe { [bytes.shl(8).sar(8), bytes.sar(8)] }
}

/// The low and the high nibbles as words.
///
/// # Safety
/// As for `widen`.
#[inline(always)]
unsafe fn nibble_words<V: Words>(bytes: V) -> [[V; 2]; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mask = V::splat(0x000f_000f);
        [[bytes.and(mask), bytes.shr(8).and(mask)], [bytes.shr(4).and(mask), bytes.shr(12)]]
    }
}

/// The low and the high nibbles as bytes.
///
/// # Safety
/// As for `widen`.
#[inline(always)]
unsafe fn nibbles<V: Words>(bytes: V) -> [V; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mask = V::splat(0x0f0f_0f0f);
        [bytes.and(mask), bytes.shr(4).and(mask)]
    }
}

/// Blocks of 32 with a half at byte 0, and another, the minimum, at byte 2 where there is one.
macro_rules! blocks_of_32 {
    ($(#[doc = $doc:literal] $ty:ident $bytes:literal $offset:literal $min:literal
       |$rows:ident, $at:ident, $sink:ident| $codes:expr;)*) => {$(
        #[doc = $doc]
        pub(in super::super) struct $ty;
        // SAFETY: scales are read at the start of each block; codes as the list says.
        unsafe impl Format for $ty {
            const N: usize = 1;
            const BYTES: usize = $bytes;
            const UNITS: usize = 1;
            const OFFSET: i32 = $offset;
            const HAS_MIN: bool = $min;
            #[inline(always)]
            unsafe fn scales<V: Words>(row: *const u8, n: usize) -> (V::F, V::F) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let scales = V::halves(row, $bytes, n);
                    let min = if $min { V::halves(row.wrapping_add(2), $bytes, n) } else { scales };
                    (scales, min)
                }
            }
            #[inline(always)]
            unsafe fn each<V: Words>(quads: [Quad; QUADS], $at: usize, $sink: &mut Sink<'_, V>) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let of_first = { let $rows = quads[0]; $codes };
                    let of_last = { let $rows = quads[1]; $codes };
                    $sink.take::<Self>([of_first, of_last]);
                }
            }
        }
    )*};
}

blocks_of_32! {
    #[doc = "Nibbles at 2."]
    Q4_0 18 8 false |rows, at, sink| nibble_words(V::interleave(sink.order, rows, at + 2));
    #[doc = "Nibbles at 4."]
    Q4_1 20 0 true |rows, at, sink| nibble_words(V::interleave(sink.order, rows, at + 4));
    #[doc = "Fifth bits at 2, nibbles at 6."]
    Q5_0 22 16 false |rows, at, sink| five_bits(sink.order, rows, at + 2);
    #[doc = "Fifth bits at 4, nibbles at 8."]
    Q5_1 24 0 true |rows, at, sink| five_bits(sink.order, rows, at + 4);
    #[doc = "Bytes at 2."]
    Q8_0 34 0 false |rows, at, sink| [
        widen_signed(V::interleave(sink.order, rows, at + 2)),
        widen_signed(V::interleave(sink.order, rows, at + 18)),
    ];
    #[doc = "Nibbles at 2."]
    IQ4_NL 18 0 false |rows, at, sink| {
        let [lo, hi] = nibbles(V::interleave(sink.order, rows, at + 2));
        [widen_signed(lo.look_up(&IQ4_NL_VALUES)), widen_signed(hi.look_up(&IQ4_NL_VALUES))]
    };
}

/// A dword of fifth bits at `at` and nibbles behind it.
///
/// # Safety
/// As for `widen`; the bytes can be read.
#[inline(always)]
unsafe fn five_bits<V: Words>(order: V::Order, rows: Quad, at: usize) -> [[V; 2]; 2] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut fifth = [0; QUAD];
        for (fifth, row) in fifth.iter_mut().zip(rows) {
            *fifth = row.add(at).cast::<u32>().read_unaligned();
        }
        let [lo, hi] = nibbles(V::interleave(order, rows, at + 4));
        [widen(lo.with_bits(fifth, 0, 16)), widen(hi.with_bits(fifth, 16, 16))]
    }
}

/// Scales and minimums of one or two super-blocks of Q4_K or Q5_K.
///
/// # Safety
/// The instruction set of `V`; 16 bytes can be read at `row`, and `bytes` further when `n` is 16.
#[inline(always)]
unsafe fn packed_scales<V: Words>(row: *const u8, bytes: usize, n: usize) -> (V::F, V::F) {
    const SIX: u64 = 0x3f3f_3f3f;
    const FOUR: u64 = 0x0f0f_0f0f;
    let (mut d, mut dmin, mut scales, mut mins) = ([0.0; 2], [0.0; 2], [0; 16], [0; 16]);
    for i in 0..2 {
        let row = row.wrapping_add(if n > 8 { i * bytes } else { 0 });
        // SAFETY: as the caller vouches.
        let (a, b, c) = unsafe {
            (d[i], dmin[i]) = (V::half(row), V::half(row.add(2)));
            let dword = |i: usize| u64::from(row.cast::<u32>().add(i).read_unaligned());
            (dword(1), dword(2), dword(3))
        };
        // Six bits each; those of the last four blocks are nibbles and the tops of the first.
        let last = c & FOUR | (a >> 2 & (SIX ^ FOUR));
        scales[8 * i..][..8].copy_from_slice(&(a & SIX | last << 32).to_le_bytes());
        let last = c >> 4 & FOUR | (b >> 2 & (SIX ^ FOUR));
        mins[8 * i..][..8].copy_from_slice(&(b & SIX | last << 32).to_le_bytes());
    }
    // SAFETY: as the caller vouches.
    unsafe { (V::unsigned(scales, d), V::negated(V::unsigned(mins, dmin))) }
}

/// Super-blocks of 256: halves, 12 bytes of scales, nibbles at 16; 32 bytes have two blocks.
pub(in super::super) struct Q4_K;
// SAFETY: reads the first 16 bytes and eight times 16 from byte 16 on, of 144.
unsafe impl Format for Q4_K {
    const N: usize = 8;
    const BYTES: usize = 144;
    const UNITS: usize = 1;
    const OFFSET: i32 = 0;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn scales<V: Words>(row: *const u8, n: usize) -> (V::F, V::F) {
        // SAFETY: as the caller vouches.
        unsafe { packed_scales::<V>(row, Self::BYTES, n) }
    }
    #[inline(always)]
    unsafe fn each<V: Words>(quads: [Quad; QUADS], at: usize, sink: &mut Sink<'_, V>) {
        // SAFETY: as the caller vouches.
        unsafe {
            for i in 0..4 {
                let at = at + 16 + 32 * i;
                // Of the low and of the high nibbles.
                let mut codes = [[[[V::splat(0); 2]; 2]; QUADS]; 2];
                for (q, rows) in quads.into_iter().enumerate() {
                    for half in 0..2 {
                        let bytes = V::interleave(sink.order, rows, at + 16 * half);
                        [codes[0][q][half], codes[1][q][half]] = nibble_words(bytes);
                    }
                }
                codes.into_iter().for_each(|codes| sink.take::<Self>(codes));
            }
        }
    }
}

/// As Q4_K with the fifth bits of all blocks in 32 bytes at 16, nibbles at 48.
pub(in super::super) struct Q5_K;
// SAFETY: reads the first 16 bytes and ten times 16 from byte 16 on, of 176.
unsafe impl Format for Q5_K {
    const N: usize = 8;
    const BYTES: usize = 176;
    const UNITS: usize = 1;
    const OFFSET: i32 = 0;
    const HAS_MIN: bool = true;
    #[inline(always)]
    unsafe fn scales<V: Words>(row: *const u8, n: usize) -> (V::F, V::F) {
        // SAFETY: as the caller vouches.
        unsafe { packed_scales::<V>(row, Self::BYTES, n) }
    }
    #[inline(always)]
    unsafe fn each<V: Words>(quads: [Quad; QUADS], at: usize, sink: &mut Sink<'_, V>) {
        // SAFETY: as the caller vouches.
        unsafe {
            let bit = V::splat(0x1010_1010);
            let (mut fifth, mut bytes) = ([[bit; 2]; QUADS], [[[bit; 2]; 2]; QUADS]);
            for (fifth, rows) in fifth.iter_mut().zip(quads) {
                *fifth = [
                    V::interleave(sink.order, rows, at + 16),
                    V::interleave(sink.order, rows, at + 32),
                ];
            }
            for i in 0..4 {
                for (bytes, rows) in bytes.iter_mut().zip(quads) {
                    let at = at + 48 + 32 * i;
                    bytes[0] = nibbles(V::interleave(sink.order, rows, at));
                    bytes[1] = nibbles(V::interleave(sink.order, rows, at + 16));
                }
                for high in 0..2 {
                    let block = 2 * i as i32 + high as i32;
                    let mut codes = [[[bit; 2]; 2]; QUADS];
                    for q in 0..QUADS {
                        for half in 0..2 {
                            let fifth = fifth[q][half];
                            let place =
                                if block < 4 { fifth.shl(4 - block) } else { fifth.shr(block - 4) };
                            codes[q][half] = widen(bytes[q][half][high].or(place.and(bit)));
                        }
                    }
                    sink.take::<Self>(codes);
                }
            }
        }
    }
}

/// Super-blocks of 256: nibbles, two bits at 128, a byte for 16 elements at 192, a half at 208.
pub(in super::super) struct Q6_K;
// SAFETY: reads twelve times 16 bytes, 16 bytes at 192 and 2 at 208, of 210.
unsafe impl Format for Q6_K {
    const N: usize = 8;
    const BYTES: usize = 210;
    const UNITS: usize = 2;
    const OFFSET: i32 = 32;
    const HAS_MIN: bool = false;
    #[inline(always)]
    unsafe fn scales<V: Words>(row: *const u8, _n: usize) -> (V::F, V::F) {
        // SAFETY: as the caller vouches.
        unsafe {
            let scales = V::signed(row.add(192).cast(), V::half(row.add(208)));
            (scales, scales)
        }
    }
    #[inline(always)]
    unsafe fn each<V: Words>(quads: [Quad; QUADS], at: usize, sink: &mut Sink<'_, V>) {
        // SAFETY: as the caller vouches.
        unsafe {
            let bits = V::splat(0x3030_3030);
            for part in 0..2 {
                let (mut high, mut low) = ([[bits; 2]; QUADS], [[[bits; 2]; 4]; QUADS]);
                for (q, rows) in quads.into_iter().enumerate() {
                    for (half, high) in high[q].iter_mut().enumerate() {
                        let at = at + 128 + 32 * part + 16 * half;
                        *high = V::interleave(sink.order, rows, at);
                    }
                    for (i, low) in low[q].iter_mut().enumerate() {
                        *low = nibbles(V::interleave(sink.order, rows, at + 16 * i + 64 * part));
                    }
                }
                // Four blocks: low nibbles of two, then high nibbles; two bits of `high` for each.
                for block in 0..4 {
                    let mut codes = [[[bits; 2]; 2]; QUADS];
                    for q in 0..QUADS {
                        for half in 0..2 {
                            let top = match block {
                                0 | 1 => high[q][half].shl(4 - 2 * block as i32),
                                _ => high[q][half].shr(2 * block as i32 - 4),
                            };
                            let low = low[q][2 * (block % 2) + half][block / 2];
                            codes[q][half] = widen(low.or(top.and(bits)));
                        }
                    }
                    sink.take::<Self>(codes);
                }
            }
        }
    }
}
