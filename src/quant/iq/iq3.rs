//! IQ3_XXS and IQ3_S: 256 numbers, 4 at a time as a point of magnitudes, and signs.
//!
//! | type | bytes of a block |
//! |---|---|
//! | IQ3_XXS (3.06 bits) | half `d`, 64 bytes of points, 8 times 32 bits `s` |
//! | IQ3_S (3.44 bits) | half `d`, 64 bytes: low 8 bits of points, 8 bytes `h`, 32 bytes of signs, 8 scales in nibbles |
//!
//! An IQ3_XXS number is `d * (0.5 + scale) / 2 * ±magnitude`, here with a quarter taken into `d`;
//! an IQ3_S number is `d * (2 * scale + 1) * ±magnitude`. A scale is for 32 numbers.
//!
//! IQ3_XXS: `s[i]` is for numbers `32 * i..`: 7 bits of signs ([`grid::even_signs`]) for every 8,
//! the scale in the top 4 bits. IQ3_S: bit `j` of `h[i]` is the highest bit of point `8 * i + j`;
//! scales come low nibbles first.

use super::{IntBlock, QK, grid, half_at, odd_nibble, signed, u32_at};
use crate::quant::QuantType;

pub(super) const XXS_BYTES: usize = 2 + QK / 4 + QK / 32 * 4;
pub(super) const S_BYTES: usize = 2 + QK / 4 + QK / 32 + QK / 8 + QK / 64;

const _: () = {
    let (xxs, s) = (QuantType::IQ3_XXS.info(), QuantType::IQ3_S.info());
    assert!(xxs.block_len == QK && xxs.block_bytes == XXS_BYTES);
    assert!(s.block_len == QK && s.block_bytes == S_BYTES);
};

pub(super) fn iq3_xxs(block: &[u8; XXS_BYTES], out: &mut IntBlock) {
    out.d = half_at(block, 0) * 0.25;
    for (i, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let s = u32_at(block, 66 + 4 * i);
        for (j, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let point = |at: usize| u64::from(grid::IQ3_XXS[usize::from(block[at])]);
            let at = 2 + 8 * i + 2 * j;
            let points = point(at) | point(at + 1) << 32;
            *codes = signed(points, grid::even_signs(s >> (7 * j)));
        }
        out.scales[2 * i..][..2].fill((2 * (s >> 28) + 1) as i8);
    }
}

pub(super) fn iq3_s(block: &[u8; S_BYTES], out: &mut IntBlock) {
    let (qs, h, signs) = (&block[2..66], &block[66..74], &block[74..106]);
    out.d = half_at(block, 0);
    let point = |i: usize| {
        let high = usize::from(h[i / 8] >> (i % 8) & 1);
        u64::from(grid::IQ3_S[usize::from(qs[i]) | high << 8])
    };
    for (i, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *codes = signed(point(2 * i) | point(2 * i + 1) << 32, signs[i]);
    }
    for (i, scale) in out.scales.iter_mut().enumerate() {
        *scale = odd_nibble(&block[106..], i / 2);
    }
}
