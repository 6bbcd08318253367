//! Activations in 8 bits, and products of whole matrices.

use powerinfer::backend::cuda::launch::{self, Acts, Output, Product};
use powerinfer::quant::QuantType;

use crate::cuda_support::{every_order, said, with_settings};
use crate::gear::{
    Gear, ORDER, Random, TYPES, Tokens, UNWRITTEN, Weights, assert_close, quantized,
};

#[test]
fn activations_round_as_on_the_cpu() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(1);
        for n_blocks in [1, 5, 32, 70] {
            let mut x = random.floats(32 * n_blocks);
            // Numbers of all sizes, down to where the inverse of the scale overflows.
            for (i, x) in x.iter_mut().enumerate() {
                *x *= 10f32.powi(i as i32 / 32 * 7 % 80 - 44);
            }
            if n_blocks > 8 {
                x[32..64].fill(0.0);
                x[70] = f32::NAN;
                x[100] = f32::NEG_INFINITY;
                // Ties: codes of n + 1/2.
                for (i, x) in x[128..160].iter_mut().enumerate() {
                    *x = if i == 0 { 127.0 } else { i as f32 - 15.5 };
                }
                x[160..192].fill(f32::MAX);
            }
            let (codes, scales, _) = quantized(&x);
            let from = gear.put(&x);
            let to =
                (gear.put(&vec![-99i8; x.len() + 1]), gear.put(&vec![UNWRITTEN; 2 * n_blocks + 1]));
            launch::quantize_q8(&gear.stream, from.view(), to.0.view(), to.1.view(), x.len())
                .unwrap();

            let mut found: Vec<i8> = gear.get(to.0.view(), x.len() + 1);
            assert_eq!(found.pop(), Some(-99), "written past the end");
            assert_eq!(found, codes);
            let found: Vec<f32> = gear.get(to.1.view(), 2 * n_blocks + 1);
            assert_eq!(found[2 * n_blocks], UNWRITTEN, "written past the end");
            for (found, expected) in found.chunks(2).zip(&scales) {
                let same = found[0].to_bits() == expected[0].to_bits() && found[1] == expected[1];
                let nan = expected[0].is_nan() && found[0].is_nan() && found[1].is_nan();
                assert!(same || nan, "{found:?}, the CPU has {expected:?}");
            }
        }
    });
}

/// What tiles of many tokens do not have of an activation: with BF16 they take it as the sum of two
/// such numbers, of 8 bits each with those signs (kernels/mat_mul_plain.cu).
fn lost(ty: QuantType, n_tokens: usize) -> f64 {
    let halves = ty == QuantType::BF16 && n_tokens > launch::MAT_VEC_TOKENS;
    if halves { 2f64.powi(-18) } else { 0.0 }
}

/// One product with everything that can be asked of its output.
fn check(gear: &Gear, random: &mut Random, weights: &Weights, n_tokens: usize) {
    let (ty, n_rows, k) = (weights.ty, weights.n_rows, weights.k);
    let tokens = Tokens::new(gear, random, ty, n_tokens, k);
    let stride = n_rows + 3;
    let bias = random.floats(n_rows);
    let bias_on_card = gear.put(&bias);
    for (scale, with_bias, add) in [(1.0, false, None), (1.5, true, None), (0.5, true, Some(0.25))]
    {
        let before = match add {
            Some(_) => random.floats(n_tokens * stride),
            None => vec![UNWRITTEN; n_tokens * stride],
        };
        let dst = gear.put(&before);
        let product = Product {
            weights: weights.matrix(),
            acts: tokens.acts(),
            n_tokens,
            scale,
            out: Output {
                dst: dst.view(),
                stride,
                bias: with_bias.then(|| bias_on_card.view()),
                add,
            },
        };
        launch::mat_mul(&gear.stream, &product).unwrap();
        let after: Vec<f32> = gear.get(dst.view(), before.len());
        for (i, (found, before)) in after.iter().zip(&before).enumerate() {
            let (t, row) = (i / stride, i % stride);
            if row >= n_rows {
                assert_eq!(found, before, "written beside the output");
                continue;
            }
            let (sum, magnitude) = tokens.product(weights, row, t);
            let mut y = f64::from(scale) * sum;
            if with_bias {
                y += f64::from(bias[row]);
            }
            let y = add.map_or(y, |factor| f64::from(*before) + f64::from(factor) * y);
            let magnitude = magnitude * (1.0 + lost(ty, n_tokens) / ORDER);
            let what = format!("{ty}, {n_rows} x {k}, {n_tokens} tokens: row {row}, token {t}");
            assert_close(*found, y, magnitude, &what);
        }
    }
}

/// Lengths of rows of a type among these, and some that only plain numbers have.
fn lengths(ty: QuantType, of: &[usize]) -> Vec<usize> {
    let odd: &[usize] = if ty.block_len() == 1 { &[7, 100] } else { &[] };
    let whole = of.iter().filter(|k| k.is_multiple_of(ty.block_len()));
    whole.chain(odd).copied().collect()
}

#[test]
fn few_tokens() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(2);
        for ty in TYPES {
            for k in lengths(ty, &[32, 96, 256, 512]) {
                for n_rows in [1, 31] {
                    let weights = Weights::new(&gear, &mut random, ty, n_rows, k);
                    for n_tokens in [1, 2, 3, 8] {
                        check(&gear, &mut random, &weights, n_tokens);
                    }
                }
            }
            // So long that a group of 32 lanes comes around more than once.
            let k = if ty.block_len() == 256 { 4096 + 256 } else { 4096 + 32 };
            let weights = Weights::new(&gear, &mut random, ty, 3, k);
            check(&gear, &mut random, &weights, 1);
            check(&gear, &mut random, &weights, 6);
        }
    });
}

#[test]
fn many_tokens() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(3);
        for ty in TYPES {
            for k in lengths(ty, &[32, 160, 256, 768]) {
                let weights = Weights::new(&gear, &mut random, ty, 31, k);
                check(&gear, &mut random, &weights, 9);
            }
        }
    });
}

/// More rows and tokens than a tile has, and just as many.
#[test]
fn several_tiles() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(6);
        for ty in TYPES {
            let weights = Weights::new(&gear, &mut random, ty, 130, 256);
            check(&gear, &mut random, &weights, 66);
        }
        let weights = Weights::new(&gear, &mut random, QuantType::Q4_0, 128, 64);
        for n_tokens in [32, 33, 64] {
            check(&gear, &mut random, &weights, n_tokens);
        }
    });
}

#[test]
fn blocks_in_many_steps() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(7);
        let weights = Weights::new(&gear, &mut random, QuantType::Q4_0, 40, 800);
        check(&gear, &mut random, &weights, 40);
    });
}

/// A token's numbers are the same, bit for bit, in every tile.
#[test]
fn other_tokens_change_nothing() {
    every_order(|| {
        let gear = Gear::new();
        let (n_rows, k) = (40, 512);
        for ty in [QuantType::Q6_K, QuantType::Q4_1, QuantType::F16, QuantType::F32] {
            let weights = Weights::new(&gear, &mut Random(9), ty, n_rows, k);
            let product = |n_tokens| {
                let tokens = Tokens::new(&gear, &mut Random(10), ty, n_tokens, k);
                let dst = gear.put(&vec![UNWRITTEN; n_tokens * n_rows]);
                let out = Output { dst: dst.view(), stride: n_rows, bias: None, add: None };
                let (weights, acts) = (weights.matrix(), tokens.acts());
                let product = Product { weights, acts, n_tokens, scale: 1.0, out };
                launch::mat_mul(&gear.stream, &product).unwrap();
                gear.get::<f32>(dst.view(), 9 * n_rows)
            };
            let few = product(9);
            assert!(few == product(40) && few == product(70), "{ty}");
        }
    });
}

/// Activations beyond the range of halves, or where these have few bits, small ones before large
/// ones; and infinite ones, which are nothing to other tokens.
#[test]
fn plain_numbers_of_all_sizes() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(8);
        let (n_rows, n, k) = (20, 40, 100);
        for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
            let weights = Weights::new(&gear, &mut random, ty, n_rows, k);
            let mut x = random.floats(n * k);
            for (i, x) in x.iter_mut().enumerate() {
                let (t, j) = (i / k, i % k);
                *x *= match t % 8 {
                    0 => 1.0,
                    1 => 1e30,
                    2 => 1e-30,
                    3 if j < 40 => 0.0,
                    3 => 1e9,
                    4 => 10f32.powi(j as i32 * 3 / 5 - 30),
                    5 => 10f32.powi(30 - j as i32 * 3 / 5),
                    6 => 50_000.0,
                    _ if j == 77 => f32::INFINITY,
                    _ => 1.0,
                };
            }
            let (acts, dst) = (gear.put(&x), gear.put(&vec![UNWRITTEN; n * n_rows]));
            let out = Output { dst: dst.view(), stride: n_rows, bias: None, add: None };
            let acts = Acts::F32(acts.view());
            let product = Product { weights: weights.matrix(), acts, n_tokens: n, scale: 1.0, out };
            launch::mat_mul(&gear.stream, &product).unwrap();
            for (i, found) in gear.get::<f32>(dst.view(), n * n_rows).into_iter().enumerate() {
                let (t, row) = (i / n_rows, i % n_rows);
                let products = weights.numbers[row * k..][..k].iter().zip(&x[t * k..]);
                let products = products.map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, magnitude) =
                    products.fold((0.0, 0.0), |(sum, all), p: f64| (sum + p, all + p.abs()));
                if magnitude.is_infinite() {
                    assert!(!found.is_finite(), "{ty}, token {t}: {found}");
                    continue;
                }
                let off = (f64::from(found) - sum).abs();
                let bar = (ORDER + lost(ty, n)) * magnitude;
                assert!(off <= bar, "{ty}, row {row}, token {t}: {found}, expected {sum}");
            }
        }
    });
}

#[test]
fn no_rows_or_tokens() {
    every_order(|| {
        let gear = Gear::new();
        let mut random = Random(4);
        let weights = Weights::new(&gear, &mut random, QuantType::Q4_0, 0, 64);
        check(&gear, &mut random, &weights, 1);
        let weights = Weights::new(&gear, &mut random, QuantType::Q4_0, 5, 64);
        check(&gear, &mut random, &weights, 0);
    });
}

#[test]
fn short_outputs_are_refused() {
    let refused = with_settings(&[], || {
        let gear = Gear::new();
        let mut random = Random(5);
        let weights = Weights::new(&gear, &mut random, QuantType::Q8_0, 200, 32);
        let tokens = Tokens::new(&gear, &mut random, QuantType::Q8_0, 1, 32);
        let dst = gear.put(&[0.0f32; 10]);
        let out = Output { dst: dst.view(), stride: 200, bias: None, add: None };
        let (weights, acts) = (weights.matrix(), tokens.acts());
        let product = Product { weights, acts, n_tokens: 1, scale: 1.0, out };
        launch::mat_vec(&gear.stream, &product).unwrap();
    });
    let Some(output) = refused else { return };
    assert!(!output.status.success() && said(&output).contains("outputs need 800 bytes"));
}
