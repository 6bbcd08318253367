//! Q6_K: 128 bytes of low bits, 64 bytes of strips (the high two bits), 16 signed bytes of
//! scales, half `d`.
//!
//! Of each 128 numbers, byte `l` of 64 holds the low four bits of number `l` in its low half and
//! of number `l + 64` in its high half.

use super::super::blocks::{
    assert_block, decode, encode, encode_weighted, farthest, half, put_half,
};
use super::super::search::{self, NEGLIGIBLE, nearest};
use super::super::{Codec, QuantType};
use super::{LEN, groups, put_strips, round_signed, strip};

const GROUP: usize = 16;
const GROUPS: usize = LEN / GROUP;
const QH: usize = LEN / 2;
const SCALES: usize = QH + LEN / 4;
const D: usize = SCALES + GROUPS;
const BYTES: usize = D + 2;
const _: () = assert_block(QuantType::Q6_K, LEN, BYTES);

pub(in super::super) const Q6_K: Codec = Codec {
    dequantize: |src, dst| {
        decode(src, dst, |block: &[u8; BYTES], y: &mut [f32; LEN]| {
            let d = half(block, D);
            for (g, y) in y.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                let scale = d * f32::from(block[SCALES + g] as i8);
                for (j, y) in y.iter_mut().enumerate() {
                    let i = GROUP * g + j;
                    let low = block[64 * (i / 128) + i % 64] >> (4 * (i % 128 / 64)) & 15;
                    let code = low | strip(&block[QH..SCALES], i) << 4;
                    *y = scale * (f32::from(code) - 32.0);
                }
            }
        });
    },
    quantize: Some(|src, importance, dst| match importance {
        None => encode(src, dst, |x, block| quantize(x, &x.map(|v| v * v), block)),
        // The importance alone, without the numbers' magnitudes, as the reference has it.
        Some(importance) => encode_weighted(src, importance, dst, quantize),
    }),
};

fn quantize(x: &[f32; LEN], weights: &[f32; LEN], block: &mut [u8; BYTES]) {
    let mut codes = [0u8; LEN];
    let mut scales = [0.0; GROUPS];
    let weights = weights.as_chunks().0;
    for (g, (x, codes)) in groups::<GROUP>(x, &mut codes).enumerate() {
        scales[g] = search::symmetric(32, x, &weights[g], codes);
    }
    block.fill(0);
    let max = farthest(&scales);
    if max.abs() < NEGLIGIBLE {
        return;
    }
    let inverse = -128.0 / max;
    let d = put_half(block, D, 1.0 / inverse);
    for (g, (x, codes)) in groups::<GROUP>(x, &mut codes).enumerate() {
        let scale = nearest(inverse * scales[g]).min(127) as i8;
        block[SCALES + g] = scale as u8;
        round_signed(x, d * f32::from(scale), 32, codes);
    }
    for (i, byte) in block[..QH].iter_mut().enumerate() {
        let first = 128 * (i / 64) + i % 64;
        *byte = codes[first] & 15 | codes[first + 64] << 4;
    }
    put_strips(|i| codes[i] >> 4, &mut block[QH..SCALES]);
}
