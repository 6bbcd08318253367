//! Q8_0: blocks of 32 signed bytes `q` behind a half `d`; a number is `d * q`.

use half::f16;

use super::{Codec, QuantType};

const LEN: usize = 32;
const BYTES: usize = 2 + LEN;

const _: () = {
    let info = QuantType::Q8_0.info();
    assert!(info.block_len == LEN && info.block_bytes == BYTES);
};

pub(super) const Q8_0: Codec = Codec {
    dequantize: |src, dst| {
        let blocks = src.as_chunks::<BYTES>().0;
        for (y, [d0, d1, qs @ ..]) in dst.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let d = f16::from_le_bytes([*d0, *d1]).to_f32();
            for (y, q) in y.iter_mut().zip(qs) {
                *y = d * f32::from(*q as i8);
            }
        }
    },
    quantize: Some(|src, _, dst| {
        let blocks = dst.as_chunks_mut::<BYTES>().0;
        for ([d0, d1, qs @ ..], x) in blocks.iter_mut().zip(src.as_chunks::<LEN>().0) {
            let max = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let d = max / 127.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            [*d0, *d1] = f16::from_f32(d).to_le_bytes();
            for (q, v) in qs.iter_mut().zip(x) {
                *q = (v * id).round() as i8 as u8; // halves away from zero
            }
        }
    }),
};
