//! Weights and activations of every kind, and what the weights stand for.

use std::ops::Range;

use half::f16;
use powerinfer::quant::QuantType;

/// Types with an integer kernel.
pub const TYPES: [QuantType; 25] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q8_0,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::IQ4_NL,
    QuantType::MXFP4,
    QuantType::Q2_K,
    QuantType::Q3_K,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
    QuantType::IQ4_XS,
    QuantType::Q1_0,
    QuantType::Q2_0,
    QuantType::TQ1_0,
    QuantType::TQ2_0,
    QuantType::IQ1_S,
    QuantType::IQ1_M,
    QuantType::IQ2_XXS,
    QuantType::IQ2_XS,
    QuantType::IQ2_S,
    QuantType::IQ3_XXS,
    QuantType::IQ3_S,
    QuantType::NVFP4,
];

/// xorshift64: small, repeatable, good enough for test data.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// What the weights look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Bytes counting 0..251 over everything, scales included.
    Painted,
    /// All codes at their largest, scales at the largest half (MXFP4: 2^60, NVFP4: 224).
    AllOnes,
    /// All codes at their lowest, scales at the most negative half (MXFP4: 2^-128, NVFP4: 2^-10).
    /// Of IQ1, IQ2 and IQ3, whose codes are points of tables: point 0, all signs positive.
    Lowest,
    /// Random codes, scales around 0.01.
    Random,
    /// Random codes; some scales and minimums are infinite or NaN.
    NonFinite,
}

pub const PATTERNS: [Pattern; 5] =
    [Pattern::Painted, Pattern::AllOnes, Pattern::Lowest, Pattern::Random, Pattern::NonFinite];

/// Where a block has its halves: scale, and minimum where there is one.
pub fn halves(ty: QuantType) -> &'static [usize] {
    match ty {
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => &[0, 2],
        QuantType::Q2_K => &[80, 82],
        QuantType::Q3_K => &[108],
        QuantType::Q6_K => &[208],
        QuantType::TQ1_0 => &[52],
        QuantType::TQ2_0 => &[64],
        QuantType::MXFP4 | QuantType::NVFP4 | QuantType::IQ1_M => &[],
        _ => &[0],
    }
}

/// Where a super-block has the scales of its blocks, and their bytes at the extremes: the most
/// positive scale, and that which makes most of the lowest codes.
fn small_scales(ty: QuantType) -> (Range<usize>, u8, u8) {
    match ty {
        QuantType::Q2_K => (0..16, 0xff, 0xff),
        QuantType::Q3_K => (96..108, 0xff, 0),
        QuantType::Q4_K | QuantType::Q5_K => (4..16, 0xff, 0xff),
        QuantType::Q6_K => (192..208, 0x7f, 0x80),
        QuantType::NVFP4 => (0..4, 0x7e, 0x01),
        _ => (0..0, 0, 0),
    }
}

pub fn weights(ty: QuantType, k: usize, n_rows: usize, pattern: Pattern) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (k as u64) << 20 ^ n_rows as u64);
    let info = ty.info();
    let mut data = vec![0u8; k / info.block_len * info.block_bytes * n_rows];
    if pattern == Pattern::Painted {
        data.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8);
        return data;
    }
    let (scales, largest, lowest) = small_scales(ty);
    for block in data.chunks_exact_mut(info.block_bytes) {
        block.fill_with(|| match (pattern, ty) {
            (Pattern::AllOnes, QuantType::Q8_0) => 127,
            (Pattern::AllOnes, QuantType::MXFP4 | QuantType::NVFP4) => 0x77,
            (Pattern::AllOnes, _) => 0xff,
            (Pattern::Lowest, QuantType::Q8_0) => 0x80,
            (Pattern::Lowest, QuantType::MXFP4 | QuantType::NVFP4) => 0xff,
            (Pattern::Lowest, _) => 0,
            _ => random.byte(),
        });
        match pattern {
            Pattern::AllOnes => block[scales.clone()].fill(largest),
            Pattern::Lowest => block[scales.clone()].fill(lowest),
            _ => {}
        }
        if ty == QuantType::MXFP4 {
            block[0] = match pattern {
                Pattern::AllOnes => 188,
                Pattern::Lowest => 0,
                Pattern::NonFinite => [0, 1, 2, 3, 127, 255][random.next() as usize % 6],
                _ => 118 + random.byte() % 6,
            };
        }
        let mut half = || match pattern {
            Pattern::AllOnes => f16::MAX,
            Pattern::Lowest => f16::MIN,
            Pattern::NonFinite if random.next().is_multiple_of(64) => {
                [f16::INFINITY, f16::NEG_INFINITY, f16::NAN][random.next() as usize % 3]
            }
            _ => f16::from_f32(0.01 * random.unit()),
        };
        for &at in halves(ty) {
            block[at..at + 2].copy_from_slice(&half().to_le_bytes());
        }
        if ty == QuantType::IQ1_M {
            // A nibble of the half in the top of each of four words.
            let bits = half().to_bits();
            for i in 0..4 {
                let top = &mut block[49 + 2 * i];
                *top = *top & 15 | ((bits >> (4 * i) & 15) as u8) << 4;
            }
        }
    }
    data
}

/// Activations with whole blocks at the extremes among random ones.
pub fn activations(k: usize, n: usize, pattern: Pattern) -> Vec<f32> {
    let mut random = Random(0x2545_f491_4f6c_dd1d ^ (k as u64) << 20 ^ n as u64);
    let mut x: Vec<f32> = (0..n * k).map(|_| random.unit()).collect();
    let extremes = matches!(pattern, Pattern::AllOnes | Pattern::Lowest);
    for (i, block) in x.chunks_exact_mut(32).enumerate() {
        match i % 7 {
            _ if extremes && i % 5 < 3 => block.fill(1.0),
            _ if extremes => block.fill(-0.3),
            3 => block.fill(0.0),
            5 if pattern == Pattern::NonFinite && random.next().is_multiple_of(8) => {
                block[7] = f32::NAN
            }
            _ => {}
        }
    }
    x
}

/// The weights that a block stands for, from the format's description alone.
pub fn dequantise(ty: QuantType, block: &[u8]) -> Vec<f64> {
    let half = |at: usize| f64::from(f16::from_le_bytes([block[at], block[at + 1]]));
    let nibble = |at: usize, i: usize| f64::from(block[at + i % 16] >> (4 * (i / 16)) & 15);
    let bit = |at: usize, i: usize| f64::from(block[at + i / 8] >> (i % 8) & 1);
    match ty {
        QuantType::Q4_0 => (0..32).map(|i| half(0) * (nibble(2, i) - 8.0)).collect(),
        QuantType::Q4_1 => (0..32).map(|i| half(0) * nibble(4, i) + half(2)).collect(),
        QuantType::Q5_0 => {
            (0..32).map(|i| half(0) * (nibble(6, i) + 16.0 * bit(2, i) - 16.0)).collect()
        }
        QuantType::Q5_1 => {
            (0..32).map(|i| half(0) * (nibble(8, i) + 16.0 * bit(4, i)) + half(2)).collect()
        }
        QuantType::IQ4_NL => {
            let values = [
                -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89.,
                113.,
            ];
            (0..32).map(|i| half(0) * values[nibble(2, i) as usize]).collect()
        }
        QuantType::MXFP4 => {
            let scale = 2f64.powi(i32::from(block[0]) - 127);
            (0..32).map(|i| scale * e2m1(nibble(1, i) as usize)).collect()
        }
        QuantType::NVFP4 => {
            // Four bits of exponent, three of mantissa; 127 would be NaN and counts as 0.
            let e4m3 = |byte: u8| match (byte >> 3 & 15, f64::from(byte & 7)) {
                _ if byte == 127 => 0.0,
                (0, mantissa) => mantissa / 8.0 * 2f64.powi(-6),
                (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f64.powi(i32::from(exponent) - 7),
            };
            // Eight bytes of codes for each scale.
            let code = |i: usize| block[4 + i / 16 * 8 + i % 8] >> (4 * (i % 16 / 8)) & 15;
            (0..64).map(|i| e4m3(block[i / 16]) * e2m1(code(i).into())).collect()
        }
        QuantType::Q8_0 => {
            block[2..].iter().map(|&b| half(0) * f64::from(b.cast_signed())).collect()
        }
        QuantType::Q1_0 => (0..128).map(|i| half(0) * (2.0 * bit(2, i) - 1.0)).collect(),
        QuantType::Q2_0 => {
            let code = |i: usize| bit(2, 2 * i) + 2.0 * bit(2, 2 * i + 1);
            (0..64).map(|i| half(0) * (code(i) - 1.0)).collect()
        }
        QuantType::TQ1_0 => ternary(block).iter().map(|&t| half(52) * f64::from(t)).collect(),
        // Their codecs are held to another implementation elsewhere.
        _ if ty.info().name.starts_with("iq") => {
            let mut values = vec![0.0; ty.block_len()];
            powerinfer::quant::dequantize_row(ty, block, &mut values).unwrap();
            values.into_iter().map(f64::from).collect()
        }
        _ => super_block(ty, block),
    }
}

/// Sign, two bits of exponent, one of mantissa.
fn e2m1(code: usize) -> f64 {
    let value = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][code % 8];
    if code < 8 { value } else { -value }
}

/// TQ1_0: bytes `b` have the digits of `b * 243 / 256` in base 3, the highest first; runs of 32,
/// 16 and 4 bytes go through all bytes for each digit.
fn ternary(block: &[u8]) -> Vec<i32> {
    let mut codes = Vec::new();
    for (run, n_digits) in [(&block[..32], 5), (&block[32..48], 5), (&block[48..52], 4)] {
        for digit in 0..n_digits {
            let power = 3i32.pow(4 - digit);
            codes.extend(run.iter().map(|&b| i32::from(b) * 243 / 256 / power % 3 - 1));
        }
    }
    codes
}

/// Written from the layout of the bits: each field is spread over its elements in turn.
fn super_block(ty: QuantType, block: &[u8]) -> Vec<f64> {
    let half = |at: usize| f64::from(f16::from_le_bytes([block[at], block[at + 1]]));
    let mut codes = [0i32; 256];
    // `bits` bits of each byte of `bytes`, runs of `run` bytes: first the lowest bits of a run.
    let mut spread = |bytes: &[u8], run: usize, bits: u32, shift: u32| {
        let mut at = 0;
        for run in bytes.chunks_exact(run) {
            for part in 0..8 / bits {
                for byte in run {
                    let code = i32::from(byte >> (part * bits)) % (1 << bits);
                    codes[at] |= code << shift;
                    at += 1;
                }
            }
        }
        assert_eq!(at, 256);
    };
    // Scales of 16 elements, minimums of 16 elements, offset of the codes.
    let (scales, minimums, offset): (Vec<f64>, Vec<f64>, i32) = match ty {
        QuantType::Q2_K => {
            spread(&block[16..80], 32, 2, 0);
            let scales = block[..16].iter().map(|b| half(80) * f64::from(b % 16));
            let minimums = block[..16].iter().map(|b| half(82) * f64::from(b / 16));
            (scales.collect(), minimums.collect(), 0)
        }
        QuantType::TQ2_0 => {
            spread(&block[..64], 32, 2, 0);
            (vec![half(64); 16], vec![0.0; 16], 1)
        }
        QuantType::Q3_K => {
            spread(&block[32..96], 32, 2, 0);
            spread(&block[..32], 32, 1, 2);
            let low = block[96..104].iter().map(|b| b % 16);
            let low = low.chain(block[96..104].iter().map(|b| b / 16));
            let high = (0..4).flat_map(|part| block[104..108].iter().map(move |b| b >> (2 * part)));
            let scale = |(low, high): (u8, u8)| half(108) * (f64::from(low + high % 4 * 16) - 32.0);
            (low.zip(high).map(scale).collect(), vec![0.0; 16], 4)
        }
        QuantType::Q4_K | QuantType::Q5_K => {
            if ty == QuantType::Q4_K {
                spread(&block[16..], 32, 4, 0);
            } else {
                spread(&block[48..], 32, 4, 0);
                spread(&block[16..48], 32, 1, 4);
            }
            // Three groups of four bytes: a a a a b b b b c c c c.
            let (a, b, c) = (&block[4..8], &block[8..12], &block[12..16]);
            let joined = |first: &[u8], rest: Vec<u8>| {
                let tops = first.iter().zip(rest).map(|(top, low)| top / 64 * 16 + low);
                first.iter().map(|x| x % 64).chain(tops).flat_map(|x| [f64::from(x); 2]).collect()
            };
            let scales: Vec<f64> = joined(a, c.iter().map(|x| x % 16).collect());
            let minimums: Vec<f64> = joined(b, c.iter().map(|x| x / 16).collect());
            let times = |d: f64, x: Vec<f64>| x.into_iter().map(|x| d * x).collect();
            (times(half(0), scales), times(half(2), minimums), 0)
        }
        QuantType::Q6_K => {
            spread(&block[..128], 64, 4, 0);
            spread(&block[128..192], 32, 2, 4);
            let scale = |b: &u8| half(208) * f64::from(b.cast_signed());
            (block[192..208].iter().map(scale).collect(), vec![0.0; 16], 32)
        }
        _ => panic!("{ty} has no super-blocks"),
    };
    let value =
        |(i, code): (usize, &i32)| scales[i / 16] * f64::from(code - offset) - minimums[i / 16];
    codes.iter().enumerate().map(value).collect()
}
