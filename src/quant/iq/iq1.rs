//! IQ1_S and IQ1_M: 256 numbers, 8 at a time as one of 2048 points of -1, 0, 1, plus or minus 1/8.
//!
//! | type | bytes of a block |
//! |---|---|
//! | IQ1_S (1.56 bits) | half `d`, 32 bytes: low 8 bits of the point, 8 words `h` |
//! | IQ1_M (1.75 bits) | 32 bytes: low 8 bits of the point, 16 bytes `h`, 4 words `s` |
//!
//! A number is `d * (2 * scale + 1) * (point ± 1/8)`; here the eighth is taken into `d`, so codes
//! are `8 * point ± 1`.
//!
//! IQ1_S: word `h[i]` is for numbers `32 * i..`: bits 0..12 the high 3 bits of their 4 points, bits
//! 12..15 the scale, bit 15 set for minus 1/8. IQ1_M: nibble `i` of `h` (low ones first) is for
//! numbers `8 * i..`: bits 0..3 the high bits of the point, bit 3 set for minus. Word `s[i]` is for
//! numbers `64 * i..`: four scales of 3 bits for 16 numbers each; its top 4 bits are bits
//! `4 * i..` of the half `d`.

use half::f16;

use super::{IntBlock, QK, grid, half_at, u16_at};
use crate::quant::QuantType;

pub(super) const S_BYTES: usize = 2 + QK / 8 + QK / 16;
pub(super) const M_BYTES: usize = QK / 8 + QK / 16 + QK / 32;

const _: () = {
    let (s, m) = (QuantType::IQ1_S.info(), QuantType::IQ1_M.info());
    assert!(s.block_len == QK && s.block_bytes == S_BYTES);
    assert!(m.block_len == QK && m.block_bytes == M_BYTES);
};

pub(super) fn iq1_s(block: &[u8; S_BYTES], out: &mut IntBlock) {
    let qs = &block[2..34];
    out.d = half_at(block, 0) * 0.125;
    for (i, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let h = u16_at(block, 34 + 2 * (i / 4));
        let high = h >> (3 * (i % 4)) & 7;
        *codes = shifted(u16::from(qs[i]) | high << 8, h >> 15 == 1);
        out.scales[i / 2] = (2 * (h >> 12 & 7) + 1) as i8;
    }
}

pub(super) fn iq1_m(block: &[u8; M_BYTES], out: &mut IntBlock) {
    let s: [u16; 4] = std::array::from_fn(|i| u16_at(block, 48 + 2 * i));
    let d = s[0] >> 12 | s[1] >> 12 << 4 | s[2] >> 12 << 8 | s[3] >> 12 << 12;
    out.d = f16::from_bits(d).to_f32() * 0.125;
    for (i, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let h = u16::from(block[32 + i / 2] >> (4 * (i % 2)));
        *codes = shifted(u16::from(block[i]) | (h & 7) << 8, h & 8 != 0);
    }
    for (i, scale) in out.scales.iter_mut().enumerate() {
        *scale = (2 * (s[i / 4] >> (3 * (i % 4)) & 7) + 1) as i8;
    }
}

/// The point in eighths, shifted by one.
fn shifted(point: u16, down: bool) -> [i8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // In each byte, times 8; one more is the lowest bit, one less is computed without carries.
    let eighths = (grid::IQ1[usize::from(point)] & (ONES * 0x1f)) << 3;
    let codes = match down {
        true => ((eighths & (ONES * 0x7f)) + ONES * 0x7f) ^ (!eighths & (ONES * 0x80)),
        false => eighths | ONES,
    };
    codes.to_le_bytes().map(u8::cast_signed)
}
