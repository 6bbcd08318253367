//! The IQ types against the `gguf` Python package (decoding) and llama.cpp (rounding), bit for
//! bit: `goldens/gen_quant_iq.py` says what is hashed and how the inputs come about.

use powerinfer::quant::iq::{IntBlock, SUB, decode_block};
use powerinfer::quant::{self, QuantType, types::TYPES};
use serde_json::Value;

const N_BLOCKS: usize = 1024;

/// A type and its record.
fn goldens() -> Vec<(QuantType, Value)> {
    let json: Value = serde_json::from_str(include_str!("goldens/quant_iq.json")).unwrap();
    let types = json["types"].as_object().unwrap();
    let ty = |name: &str| TYPES.iter().find(|t| t.name == name).unwrap().ty;
    types.iter().map(|(name, g)| (ty(name), g.clone())).collect()
}

fn strings(v: &Value) -> Vec<String> {
    v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
}

fn fnv(words: impl IntoIterator<Item = u32>) -> String {
    let start = 0xcbf2_9ce4_8422_2325u64;
    let step = |h: u64, w: u32| (h ^ u64::from(w)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", words.into_iter().fold(start, step))
}

fn words(n: usize, mut state: u64) -> impl Iterator<Item = u32> {
    (0..n).map(move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    })
}

fn blocks_of(ty: QuantType) -> Vec<u8> {
    let size = ty.info().block_bytes;
    let painted = (0..16 * size).map(|i| (i % 251) as u8);
    let random = words((N_BLOCKS - 16) * size, ty as u64).map(|w| (w >> 24) as u8);
    let mut blocks: Vec<u8> = painted.chain(random).collect();
    for block in blocks[16 * size..64 * size].chunks_mut(size) {
        if ty == QuantType::IQ1_M {
            for (at, nibble) in [(51, 0x5), (53, 0xc), (55, 0x2)] {
                block[at] = block[at] & 15 | nibble << 4;
            }
        } else {
            block[1] = 0x2c;
        }
    }
    blocks
}

fn inputs(n: usize) -> Vec<f32> {
    let mut words = words(2 * n * 256, 77);
    let mut bell = || {
        let two = [words.next().unwrap(), words.next().unwrap()];
        let sum: i32 = two.iter().flat_map(|w| w.to_le_bytes()).map(i32::from).sum();
        (sum - 1020) as f32
    };
    let mut x: Vec<f32> = (0..n * 256).map(|_| bell()).collect();
    for (i, x) in x.chunks_mut(256).enumerate() {
        x.iter_mut().for_each(|v| *v *= 2f32.powi(i as i32 % 24 - 20));
        match i % 8 {
            3 => x[32..96].fill(0.0),
            5 => x.iter_mut().for_each(|v| {
                *v = if *v == 0.0 { 0.0 } else { v.signum() * 0.75 };
            }),
            6 => x[64..128].iter_mut().for_each(|v| *v *= 2f32.powi(-60)),
            7 => x.iter_mut().step_by(5).for_each(|v| *v *= 16.0),
            _ => {}
        }
        if i == n - 1 {
            x.fill(0.0);
        }
    }
    x
}

fn round(ty: QuantType, x: &[f32], y: &mut [u8]) {
    quant::quantize_row(ty, x, y).unwrap();
}

#[test]
fn decoding_is_the_reference_bit_for_bit() {
    let goldens = goldens();
    assert_eq!(goldens.len(), 9);
    for (ty, golden) in goldens {
        let mut y = vec![0.0; N_BLOCKS * ty.block_len()];
        quant::dequantize_row(ty, &blocks_of(ty), &mut y).unwrap();
        let first = &y[16 * ty.block_len()..][..32];
        let hex: String =
            first.iter().flat_map(|x| x.to_le_bytes()).map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden["first"].as_str().unwrap(), "{ty}: {first:?}");
        let bits = |x: &f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        let hashes: Vec<_> =
            y.chunks(64 * ty.block_len()).map(|y| fnv(y.iter().map(bits))).collect();
        assert_eq!(hashes, strings(&golden["decoded"]), "{ty}");
    }
}

/// What integer kernels compute with is what the floats are made of, in any order.
#[test]
fn integers_times_the_scale_are_the_numbers() {
    for (ty, _) in goldens() {
        let len = ty.block_len();
        let mut y = vec![0.0; len];
        let mut ints = IntBlock::ZERO;
        // Only finite scales: infinity times zero is not what infinity times a product is.
        for block in blocks_of(ty).chunks(ty.info().block_bytes) {
            if quant::validate(ty, block).is_err() {
                continue;
            }
            quant::dequantize_row(ty, block, &mut y).unwrap();
            assert!(decode_block(ty, block, &mut ints));
            for (i, y) in y.iter().enumerate() {
                let product = i32::from(ints.scales[i / SUB]) * i32::from(ints.codes[i]);
                assert_eq!(*y, ints.d * product as f32, "{ty}");
            }
        }
    }
}

#[test]
fn rounding_is_llama_cpps_byte_for_byte() {
    let x = inputs(192);
    let mut n_types = 0;
    for (ty, golden) in goldens() {
        if golden["rounded"].is_null() {
            assert!(!quant::can_quantize(ty), "{ty}");
            continue;
        }
        n_types += 1;
        let mut y = vec![0xa5; ty.row_bytes(1024).unwrap() as usize];
        for (i, (x, hash)) in x.chunks(1024).zip(strings(&golden["rounded"])).enumerate() {
            round(ty, x, &mut y);
            assert_eq!(fnv(y.iter().map(|b| u32::from(*b))), hash, "{ty} row {i}");
        }
    }
    assert_eq!(n_types, 2);
}

#[test]
fn numbers_that_are_not_finite_round_without_panic() {
    for ty in [QuantType::IQ4_NL, QuantType::IQ4_XS] {
        let mut y = vec![0; ty.row_bytes(1024).unwrap() as usize];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE] {
            let mut x = inputs(4);
            x[5] = bad;
            round(ty, &x, &mut y);
            x.fill(bad);
            round(ty, &x, &mut y);
        }
    }
}
