//! Plain numbers, little-endian in the file: floats, rounded to nearest even, and integers, whose
//! nearest float is their value and which nothing is quantised to.

use half::{bf16, f16};

use super::Codec;

pub(super) const F32: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = f32::from_le_bytes(*x);
        }
    },
    quantize: Some(|src, _, dst| {
        for (y, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
            *y = x.to_le_bytes();
        }
    }),
};

pub(super) const F16: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = f16::from_le_bytes(*x).to_f32();
        }
    },
    quantize: Some(|src, _, dst| {
        for (y, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
            *y = f16::from_f32(*x).to_le_bytes();
        }
    }),
};

pub(super) const BF16: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = bf16::from_le_bytes(*x).to_f32();
        }
    },
    quantize: Some(|src, _, dst| {
        for (y, x) in dst.as_chunks_mut().0.iter_mut().zip(src) {
            *y = bf16::from_f32(*x).to_le_bytes();
        }
    }),
};

pub(super) const F64: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = f64::from_le_bytes(*x) as f32;
        }
    },
    quantize: None,
};

pub(super) const I8: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src) {
            *y = f32::from(*x as i8);
        }
    },
    quantize: None,
};

pub(super) const I16: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = f32::from(i16::from_le_bytes(*x));
        }
    },
    quantize: None,
};

pub(super) const I32: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = i32::from_le_bytes(*x) as f32;
        }
    },
    quantize: None,
};

pub(super) const I64: Codec = Codec {
    dequantize: |src, dst| {
        for (y, x) in dst.iter_mut().zip(src.as_chunks().0) {
            *y = i64::from_le_bytes(*x) as f32;
        }
    },
    quantize: None,
};
