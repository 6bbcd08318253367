//! Activations in 8 bits, and products of whole matrices.

use powerinfer::backend::cuda::launch::{self, Output, Product};
use powerinfer::quant::QuantType;

use crate::cuda_support::{every_order, said, with_settings};
use crate::gear::{Gear, Random, TYPES, Tokens, UNWRITTEN, Weights, assert_close, quantized};

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
            let weights = Weights::new(&gear, &mut random, ty, 70, 256);
            check(&gear, &mut random, &weights, 66);
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
