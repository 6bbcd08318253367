//! All block types against the `gguf` Python package (decoding) and llama.cpp (rounding), bit for
//! bit: `goldens/gen_quant_reference.py` says what is hashed and how the inputs come about.

use powerinfer::quant::iq::{IntBlock, SUB, decode_block};
use powerinfer::quant::{self, QuantType, types::TYPES};
use serde_json::Value;

const N_BLOCKS: usize = 1024;

/// A type and its record.
fn goldens() -> Vec<(QuantType, Value)> {
    let json: Value = serde_json::from_str(include_str!("goldens/quant_reference.json")).unwrap();
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
        for &(at, byte) in ordinary_scale(ty) {
            block[at] = byte;
        }
    }
    blocks
}

/// Where a block of a type has its scale, and the byte there that makes it an ordinary one.
fn ordinary_scale(ty: QuantType) -> &'static [(usize, u8)] {
    use QuantType as T;
    match ty {
        T::Q4_1 | T::Q5_1 | T::Q4_K | T::Q5_K => &[(1, 0x2c), (3, 0x2c)],
        T::Q2_K => &[(81, 0x2c), (83, 0x2c)],
        T::Q3_K => &[(109, 0x2c)],
        T::Q6_K => &[(209, 0x2c)],
        T::Q8_K => &[(3, 0x3c)],
        T::TQ1_0 => &[(53, 0x2c)],
        T::TQ2_0 => &[(65, 0x2c)],
        T::MXFP4 => &[(0, 0x7a)],
        T::NVFP4 => &[],
        T::IQ1_M => &[(49, 0x50), (51, 0x50), (53, 0xc0), (55, 0x20)],
        _ => &[(1, 0x2c)],
    }
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
            1 => x.iter_mut().for_each(|v| *v = v.abs()),
            2 => x.iter_mut().for_each(|v| *v = -v.abs() - 2f32.powi(i as i32 % 24 - 20)),
            // Zeros of both signs: which one is the minimum is part of the format's bytes.
            3 => {
                x[32..96].iter_mut().step_by(2).for_each(|v| *v = 0.0);
                x[33..96].iter_mut().step_by(2).for_each(|v| *v = -0.0);
            }
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

fn importance(n: usize) -> Vec<f32> {
    words(n, 99).map(|w| (w >> 24) as f32 + 0.25).collect()
}

/// Where `inputs` has a super-block of about normal numbers whose scales fit into a half.
const ORDINARY: std::ops::Range<usize> = 20 * 256..21 * 256;

/// Types that numbers can be rounded to, but for the plain ones.
fn rounding_types() -> impl Iterator<Item = QuantType> {
    TYPES.iter().filter(|t| t.block_len > 1).map(|t| t.ty).filter(|ty| quant::can_quantize(*ty))
}

fn rounded(ty: QuantType, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut y = vec![0xa5; ty.row_bytes(x.len() as u64).unwrap() as usize];
    quant::quantize_row(ty, x, importance, &mut y).unwrap();
    y
}

fn numbers(ty: QuantType, blocks: &[u8]) -> Vec<f32> {
    let mut y = vec![0.0; blocks.len() / ty.info().block_bytes * ty.block_len()];
    quant::dequantize_row(ty, blocks, &mut y).unwrap();
    y
}

#[test]
fn decoding_is_the_reference_bit_for_bit() {
    let goldens = goldens();
    assert_eq!(goldens.len(), TYPES.iter().filter(|t| t.block_len > 1).count());
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
    for (ty, _) in goldens().iter().filter(|(ty, _)| ty.info().name.starts_with("iq")) {
        let (ty, len) = (*ty, ty.block_len());
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
    let (x, weights) = (inputs(96), importance(1024));
    for (ty, golden) in goldens() {
        assert!(quant::can_quantize(ty));
        assert_eq!(quant::needs_importance(ty), golden["rounded"].is_null(), "{ty}");
        for (key, weights) in [("rounded", None), ("weighted", Some(&weights[..]))] {
            if golden[key].is_null() {
                continue;
            }
            let hashes = strings(&golden[key]);
            assert_eq!(hashes.len(), x.len() / 1024);
            for (i, (x, hash)) in x.chunks(1024).zip(hashes).enumerate() {
                if ty == QuantType::IQ3_S
                    && x.chunks(32).any(|group| group.iter().all(|v| *v == 0.0))
                {
                    continue; // see `groups_of_zeros_stay_where_they_are`
                }
                let y = rounded(ty, x, weights);
                assert_eq!(fnv(y.iter().map(|b| u32::from(*b))), hash, "{ty} {key} row {i}");
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite_round_without_panic() {
    for ty in rounding_types() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45]
        {
            let mut x = inputs(1);
            for weights in [None, Some(&[1.0; 256][..]), Some(&[0.0; 256]), Some(&[f32::NAN; 256])]
            {
                if weights.is_none() && quant::needs_importance(ty) {
                    continue;
                }
                x[5] = bad;
                rounded(ty, &x, weights);
                rounded(ty, &[bad; 256], weights);
            }
        }
    }
}

/// After 32 zeros llama.cpp stores the other numbers of an IQ3_S block in the wrong places. Here they
/// stay where they are.
#[test]
fn groups_of_zeros_stay_where_they_are() {
    let x = &inputs(96)[19 * 256..20 * 256];
    assert!(x[32..96].iter().all(|v| *v == 0.0) && x[96..].iter().any(|v| *v != 0.0));
    for ty in [QuantType::IQ3_S, QuantType::IQ3_XXS] {
        for weights in [None, Some(&[1.0; 256][..])] {
            let y = numbers(ty, &rounded(ty, x, weights));
            let square = |sum: f64, v: f32| sum + f64::from(v).powi(2);
            let energy = x.iter().copied().fold(0.0, square);
            let error = x.iter().zip(&y).map(|(x, y)| x - y).fold(0.0, square);
            assert!(error < 0.05 * energy, "{ty}: {error} of {energy}");
        }
    }
}

/// Root mean square error of Gaussian-like numbers, relative to theirs: about half of what the
/// next smaller type has, and never what a wrong bit would make of it.
#[test]
fn errors_are_those_of_the_types_bits() {
    use QuantType as T;
    let x = inputs(96);
    let x = &x[ORDINARY];
    let energy: f64 = x.iter().map(|v| f64::from(v * v)).sum();
    let bounds = [
        (T::IQ1_S, 0.60),
        (T::IQ1_M, 0.65),
        (T::IQ2_XXS, 0.45),
        (T::IQ2_XS, 0.40),
        (T::IQ2_S, 0.35),
        (T::Q1_0, 0.70),
        (T::Q2_0, 0.75),
        (T::TQ1_0, 0.95),
        (T::TQ2_0, 0.95),
        (T::Q2_K, 0.35),
        (T::Q3_K, 0.20),
        (T::IQ3_XXS, 0.25),
        (T::IQ3_S, 0.20),
        (T::Q4_0, 0.10),
        (T::Q4_1, 0.09),
        (T::IQ4_NL, 0.09),
        (T::IQ4_XS, 0.09),
        (T::Q4_K, 0.085),
        (T::MXFP4, 0.15),
        (T::NVFP4, 0.13),
        (T::Q5_0, 0.05),
        (T::Q5_1, 0.045),
        (T::Q5_K, 0.045),
        (T::Q6_K, 0.025),
        (T::Q8_0, 0.008),
        (T::Q8_1, 0.008),
        (T::Q8_K, 0.012),
    ];
    assert_eq!(bounds.len(), rounding_types().count());
    for (ty, bound) in bounds {
        for weights in [None, Some(&[1.0; 256][..])] {
            if weights.is_none() && quant::needs_importance(ty) {
                continue;
            }
            let y = numbers(ty, &rounded(ty, x, weights));
            let error: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            let relative = (error / energy).sqrt();
            assert!(relative < bound && relative > bound / 3.0, "{ty}: {relative:.4}");
        }
    }
}

/// The numbers of a block are numbers of the type: rounding them again with the scale that they
/// came with loses nothing where that scale is found again.
#[test]
fn rounding_twice_is_rounding_once() {
    use QuantType as T;
    let x = inputs(96);
    for ty in [T::Q4_0, T::Q5_0, T::Q8_0, T::Q1_0, T::TQ1_0, T::TQ2_0, T::MXFP4] {
        for x in x.chunks(256) {
            let once = numbers(ty, &rounded(ty, x, None));
            if once.iter().any(|v| !v.is_finite()) {
                continue; // the scale does not fit into a half
            }
            let twice = numbers(ty, &rounded(ty, &once, None));
            assert_eq!(once, twice, "{ty}");
        }
    }
}

/// Importance moves the error to where it matters less.
#[test]
fn important_numbers_lose_less() {
    let x = inputs(96);
    let x = &x[ORDINARY];
    let weights: Vec<f32> = (0..256).map(|i| if i % 4 == 0 { 100.0 } else { 1.0 }).collect();
    let error = |y: &[f32]| -> f64 {
        let term = |i: usize| f64::from(weights[i]) * f64::from(x[i] - y[i]).powi(2);
        (0..256).map(term).sum()
    };
    use QuantType as T;
    for ty in
        [T::Q4_0, T::Q4_1, T::Q5_0, T::Q5_1, T::Q2_K, T::Q3_K, T::Q4_K, T::Q5_K, T::Q6_K, T::IQ4_NL]
    {
        let plain = error(&numbers(ty, &rounded(ty, x, None)));
        let weighted = error(&numbers(ty, &rounded(ty, x, Some(&weights))));
        assert!(weighted < plain, "{ty}: {weighted} with weights, {plain} without");
    }
}
