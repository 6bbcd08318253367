//! IQ2_XXS, IQ2_XS and IQ2_S: 256 numbers, 8 at a time as a point of magnitudes and 8 signs.
//!
//! | type | bytes of a block |
//! |---|---|
//! | IQ2_XXS (2.06 bits) | half `d`, 8 times for 32 numbers: 4 bytes of points, 32 bits `s` |
//! | IQ2_XS (2.31 bits) | half `d`, 32 words `q`, 16 scales in nibbles |
//! | IQ2_S (2.56 bits) | half `d`, 32 bytes of points, 32 bytes of signs, 8 bytes `h`, 16 scales in nibbles |
//!
//! A number is `d * (0.5 + scale) / 4 * ±magnitude`; here `d` takes an eighth, which leaves the
//! odd integer `2 * scale + 1`.
//!
//! IQ2_XXS: `s` has 7 bits of signs ([`grid::even_signs`]) for each of the 4 points, and in the top
//! 4 bits the scale of the 32 numbers. IQ2_XS: `q` has 9 bits of the point and 7 bits of signs.
//! IQ2_S: all 8 signs are there; byte `i` of `h` has the high 2 bits of points `4 * i..`. Scales
//! in nibbles are of 16 numbers each, low nibbles first.

use super::{IntBlock, QK, grid, half_at, odd_nibble, signed, u16_at, u32_at};
use crate::quant::QuantType;

pub(super) const XXS_BYTES: usize = 2 + QK / 32 * 8;
pub(super) const XS_BYTES: usize = 2 + QK / 8 * 2 + QK / 32;
pub(super) const S_BYTES: usize = 2 + QK / 8 + QK / 8 + QK / 32 + QK / 32;

const _: () = {
    let (xxs, xs) = (QuantType::IQ2_XXS.info(), QuantType::IQ2_XS.info());
    let s = QuantType::IQ2_S.info();
    assert!(xxs.block_len == QK && xxs.block_bytes == XXS_BYTES);
    assert!(xs.block_len == QK && xs.block_bytes == XS_BYTES);
    assert!(s.block_len == QK && s.block_bytes == S_BYTES);
};

pub(super) fn iq2_xxs(block: &[u8; XXS_BYTES], out: &mut IntBlock) {
    out.d = half_at(block, 0) * 0.125;
    for (i, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let at = 2 + 8 * i;
        let s = u32_at(block, at + 4);
        for (j, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let point = grid::IQ2_XXS[usize::from(block[at + j])];
            *codes = signed(point, grid::even_signs(s >> (7 * j)));
        }
        out.scales[2 * i..][..2].fill((2 * (s >> 28) + 1) as i8);
    }
}

pub(super) fn iq2_xs(block: &[u8; XS_BYTES], out: &mut IntBlock) {
    out.d = half_at(block, 0) * 0.125;
    for (i, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let q = u16_at(block, 2 + 2 * i);
        let point = grid::IQ2_XS[usize::from(q & 511)];
        *codes = signed(point, grid::even_signs(u32::from(q >> 9)));
    }
    nibble_scales(&block[66..], out);
}

pub(super) fn iq2_s(block: &[u8; S_BYTES], out: &mut IntBlock) {
    let (qs, signs, h) = (&block[2..34], &block[34..66], &block[66..74]);
    out.d = half_at(block, 0) * 0.125;
    for (i, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(h[i / 4] >> (2 * (i % 4)) & 3);
        let point = grid::IQ2_S[usize::from(qs[i]) | high << 8];
        *codes = signed(point, signs[i]);
    }
    nibble_scales(&block[74..], out);
}

fn nibble_scales(nibbles: &[u8], out: &mut IntBlock) {
    for (i, scale) in out.scales.iter_mut().enumerate() {
        *scale = odd_nibble(nibbles, i);
    }
}
