//! Decoding rows, half precision, and matrix products.

use std::ops::Range;

use half::{bf16, f16};
use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActF32, WeightRows};
use powerinfer::quant::QuantType::{self, BF16, F16, F32, Q4_0, Q4_1, Q8_0};
use powerinfer::quant::types::TYPES as ALL_TYPES;
use powerinfer::quant::{dequantize_row, quantize_row};
use powerinfer::util::aligned::AlignedVec;
use proptest::prelude::*;

use crate::guard::Guarded;
use crate::{LENGTHS, Rng, bits, bits_or_nan, reference};

const TYPES: [QuantType; 6] = [F32, F16, BF16, Q4_0, Q4_1, Q8_0];

/// Row lengths that a type can have.
fn lengths(ty: QuantType) -> Vec<usize> {
    let mut n: Vec<usize> = LENGTHS.iter().map(|n| n.next_multiple_of(ty.block_len())).collect();
    n.dedup();
    n
}

fn row_bytes(ty: QuantType, k: usize) -> usize {
    ty.row_bytes(k as u64).unwrap() as usize
}

/// Weights of ordinary size: uniform quants, scales up to 0.01 for quantised types.
fn weights(ty: QuantType, k: usize, rows: usize, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    let scale = |out: &mut Vec<u8>, rng: &mut Rng| {
        out.extend(f16::from_f32(rng.float() * 0.01).to_le_bytes());
    };
    for _ in 0..k * rows / ty.block_len() {
        match ty {
            F32 => out.extend(rng.float().to_le_bytes()),
            F16 => out.extend(f16::from_f32(rng.float()).to_le_bytes()),
            BF16 => out.extend(bf16::from_f32(rng.float()).to_le_bytes()),
            _ => {
                scale(&mut out, rng);
                if ty == Q4_1 {
                    scale(&mut out, rng);
                }
                let quants = if ty == Q8_0 { 32 } else { 16 };
                out.extend((0..quants).map(|_| rng.next() as u8));
            }
        }
    }
    out
}

/// All rows, decoded by the codecs of `quant`.
fn decoded(ty: QuantType, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    dequantize_row(ty, bytes, &mut out).unwrap();
    out
}

#[test]
fn decoding_equals_the_codecs_bit_for_bit() {
    for table in KernelTable::all_supported() {
        // Types without a kernel of their own among them.
        for ty in ALL_TYPES.iter().map(|t| t.ty) {
            for k in lengths(ty) {
                let mut rng = Rng::new(k as u64);
                // Any bytes at all: infinite, subnormal and NaN scales are among them.
                let noise: Vec<u8> = (0..row_bytes(ty, k)).map(|_| rng.next() as u8).collect();
                let ordinary = TYPES.contains(&ty).then(|| weights(ty, k, 1, &mut rng));
                for bytes in [Some(noise), ordinary].into_iter().flatten() {
                    let bytes = Guarded::new(&bytes);
                    let mut out = Guarded::new(&vec![f32::NAN; k]);
                    table.dequant_row(ty, &bytes, &mut out);
                    let want = bits_or_nan(&decoded(ty, &bytes, k));
                    assert_eq!(bits_or_nan(&out), want, "{} {ty} {k}", table.isa());
                }
            }
        }
    }
}

/// Whatever the weights' type, the product is that of the decoded weights, bit for bit.
#[test]
fn products_of_all_types_are_those_of_their_numbers() {
    let (k, n_rows, n) = (512, 6, 3);
    let mut rng = Rng::new(5);
    let numbers: Vec<f32> = (0..k * n_rows).map(|_| rng.float()).collect();
    let x: Vec<f32> = (0..k * n).map(|_| rng.float()).collect();
    let act = ActF32 { k, n, x: &x };
    let product = |table: &KernelTable, ty, data: &[u8]| {
        let mut y = vec![f32::NAN; n_rows * n];
        let w = WeightRows { ty, data, k, n_rows };
        let mut scratch = AlignedVec::new();
        table.mul_mat_f32(
            &w,
            0..n_rows,
            &act,
            &mut ColsMut::new(&mut y, n_rows, 0..n_rows),
            &mut scratch,
        );
        bits(&y)
    };
    for ty in ALL_TYPES.iter().map(|t| t.ty) {
        let mut w = vec![0x35; row_bytes(ty, k * n_rows)];
        let _ = quantize_row(ty, &numbers, None, &mut w); // or any bytes
        let plain: Vec<u8> =
            decoded(ty, &w, k * n_rows).iter().flat_map(|v| v.to_le_bytes()).collect();
        for table in KernelTable::all_supported() {
            assert_eq!(product(table, ty, &w), product(table, F32, &plain), "{} {ty}", table.isa());
        }
    }
}

#[test]
fn every_half_survives_a_round_trip() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = all.iter().flat_map(|h| h.to_le_bytes()).collect();
    for table in KernelTable::all_supported() {
        let mut wide = vec![0.0; all.len()];
        table.dequant_row(F16, &bytes, &mut wide);
        let mut back = vec![0; all.len()];
        table.store_f16(&wide, &mut back);
        for ((h, w), b) in all.iter().zip(&wide).zip(&back) {
            let h = f16::from_bits(*h);
            if h.is_nan() {
                assert!(w.is_nan() && f16::from_bits(*b).is_nan());
            } else {
                assert_eq!(w.to_bits(), h.to_f32().to_bits(), "{}", table.isa());
                assert_eq!(*b, h.to_bits(), "{}", table.isa());
            }
        }
    }
}

#[test]
fn halves_round_to_nearest_even() {
    let ulp = 2f32.powi(-10);
    let mut x = vec![
        (1.0 + ulp / 2.0, 1.0),
        (1.0 + ulp * 1.5, 1.0 + 2.0 * ulp),
        (1.0 + ulp * 0.501, 1.0 + ulp),
        (65504.0, 65504.0),
        (65519.9, 65504.0),
        (65520.0, f32::INFINITY),
        (-1e10, f32::NEG_INFINITY),
        (2f32.powi(-24), 2f32.powi(-24)),
        (2f32.powi(-25), 0.0),
        (-2f32.powi(-25), -0.0),
        (2f32.powi(-25) * 1.001, 2f32.powi(-24)),
    ];
    while x.len() < 37 {
        x.push(x[x.len() % 11]);
    }
    for table in KernelTable::all_supported() {
        for n in 0..x.len() {
            let input: Vec<f32> = x[..n].iter().map(|p| p.0).collect();
            let mut out = Guarded::new(&vec![0u16; n]);
            table.store_f16(&Guarded::new(&input), &mut out);
            for (got, want) in out.iter().zip(&x) {
                assert_eq!(f16::from_bits(*got).to_f32().to_bits(), want.1.to_bits(), "{want:?}");
            }
        }
    }
}

/// One product, everything in guarded memory.
fn product(
    table: &KernelTable,
    w: &WeightRows<'_>,
    rows: Range<usize>,
    k: usize,
    x: &[f32],
) -> Vec<f32> {
    let n = x.len() / k;
    // A view of no columns still has a row for each token.
    let ld = rows.len().max(1);
    let mut y = Guarded::new(&vec![f32::NAN; n * ld]);
    let data = Guarded::new(w.data);
    let x = Guarded::new(x);
    table.mul_mat_f32(
        &WeightRows { data: &data, ..*w },
        rows.clone(),
        &ActF32 { k, n, x: &x },
        &mut ColsMut::new(&mut y, ld, 0..rows.len()),
        &mut AlignedVec::new(),
    );
    y.to_vec()
}

/// Each value against f64, within the bound for a sum of `k / 8` roundings and a final tree.
fn check_product(table: &KernelTable, ty: QuantType, k: usize, rows: usize, n: usize) {
    let mut rng = Rng::new((k * 1000 + rows * 10 + n) as u64);
    let data = weights(ty, k, rows, &mut rng);
    let x = rng.floats(n * k);
    let w = WeightRows { ty, data: &data, k, n_rows: rows };
    let y = product(table, &w, 0..rows, k, &x);
    let wide = decoded(ty, &data, rows * k);
    let (mut error, mut power) = (0.0, 0.0);
    for t in 0..n {
        for r in 0..rows {
            let pairs = || wide[r * k..][..k].iter().zip(&x[t * k..][..k]);
            let want: f64 = pairs().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = pairs().map(|(a, b)| f64::from((a * b).abs())).sum();
            let got = f64::from(y[t * rows + r]);
            let bound = size * (k as f64 / 8.0 + 8.0) * f64::from(f32::EPSILON) / 2.0;
            assert!(
                (got - want).abs() <= bound,
                "{} {ty} k {k} row {r}/{rows} token {t}/{n}: {got} for {want}",
                table.isa()
            );
            error += (got - want).powi(2);
            power += want.powi(2);
        }
    }
    assert!(error <= 1e-11 * power, "{} {ty} k {k}: NMSE {}", table.isa(), error / power);
}

#[test]
fn products_equal_f64_within_rounding() {
    for table in KernelTable::all_supported() {
        for ty in TYPES {
            for k in lengths(ty) {
                for (rows, n) in [(1, 1), (5, 1), (4, 2), (7, 3), (9, 7), (37, 13)] {
                    check_product(table, ty, k, rows, n);
                }
            }
            check_product(table, ty, 4096, 6, 8);
        }
    }
}

#[test]
fn a_value_does_not_depend_on_its_company() {
    for table in KernelTable::all_supported() {
        for ty in TYPES {
            for k in lengths(ty) {
                let (rows, n) = (39, 14);
                let mut rng = Rng::new(k as u64);
                let data = weights(ty, k, rows, &mut rng);
                let x = rng.floats(n * k);
                let w = WeightRows { ty, data: &data, k, n_rows: rows };
                let all = product(table, &w, 0..rows, k, &x);
                let what = || format!("{} {ty} {k}", table.isa());
                for t in 0..n {
                    let one = product(table, &w, 0..rows, k, &x[t * k..][..k]);
                    assert_eq!(bits(&one), bits(&all[t * rows..][..rows]), "{} token {t}", what());
                }
                let mut r = 0;
                for width in [1, 2, 3, 4, 5, 6, 7, 11] {
                    let part = product(table, &w, r..r + width, k, &x);
                    for t in 0..n {
                        let (part, all) = (&part[t * width..][..width], &all[t * rows + r..]);
                        assert_eq!(bits(part), bits(&all[..width]), "{} rows {r}", what());
                    }
                    r += width;
                }
                for at in 0..n - 6 {
                    let some = product(table, &w, 3..8, k, &x[at * k..][..(2 + at % 5) * k]);
                    for (i, v) in some.iter().enumerate() {
                        let want = all[(at + i / 5) * rows + 3 + i % 5];
                        assert_eq!(v.to_bits(), want.to_bits(), "{} tokens from {at}", what());
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_but_the_view_is_written() {
    for table in KernelTable::all_supported() {
        let mut rng = Rng::new(3);
        let (k, n, ld) = (33, 8, 20);
        let data = weights(F16, k, 16, &mut rng);
        let x = rng.floats(n * k);
        let w = WeightRows { ty: F16, data: &data, k, n_rows: 16 };
        let mut y = vec![7.5; n * ld];
        let mut view = ColsMut::new(&mut y, ld, 4..15);
        let act = ActF32 { k, n, x: &x };
        table.mul_mat_f32(&w, 2..13, &act, &mut view, &mut AlignedVec::new());
        for (i, v) in y.iter().enumerate() {
            assert_eq!(*v == 7.5, !(4..15).contains(&(i % ld)), "{} element {i}", table.isa());
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row_and_token() {
    for table in KernelTable::all_supported() {
        for (ty, k) in [(F32, 33), (F16, 33), (BF16, 33), (Q8_0, 64)] {
            let (rows, n) = (9, 8);
            let mut rng = Rng::new(5);
            let mut data = weights(ty, k, rows, &mut rng);
            let nan = match ty {
                F32 => f32::NAN.to_le_bytes().to_vec(),
                BF16 => bf16::NAN.to_le_bytes().to_vec(),
                _ => f16::NAN.to_le_bytes().to_vec(),
            };
            data[2 * row_bytes(ty, k)..][..nan.len()].copy_from_slice(&nan);
            let mut x = rng.floats(n * k);
            x[5 * k + 32] = f32::INFINITY;
            let w = WeightRows { ty, data: &data, k, n_rows: rows };
            let y = product(table, &w, 0..rows, k, &x);
            for t in 0..n {
                for r in 0..rows {
                    let v = y[t * rows + r];
                    assert_eq!(v.is_nan(), r == 2 || (t == 5 && v.is_nan()));
                    assert_eq!(!v.is_finite(), r == 2 || t == 5, "{} {ty} {r} {t}", table.isa());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "differ in length")]
fn shapes_are_checked() {
    let w = WeightRows { ty: F32, data: &[0; 32], k: 4, n_rows: 2 };
    let act = ActF32 { k: 5, n: 1, x: &[0.0; 5] };
    let mut y = [0.0; 2];
    let mut y = ColsMut::new(&mut y, 2, 0..2);
    reference().mul_mat_f32(&w, 0..2, &act, &mut y, &mut AlignedVec::new());
}

proptest! {
    // A found failure becomes a named test, not a seed file.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_shape_and_split(
        ty in prop::sample::select(TYPES.to_vec()),
        k in 1usize..700,
        rows in 1usize..70,
        n in 1usize..20,
        cut in 0usize..70,
        seed: u64,
    ) {
        let k = k.next_multiple_of(ty.block_len());
        let cut = cut.min(rows);
        let mut rng = Rng::new(seed);
        let data = weights(ty, k, rows, &mut rng);
        let x = rng.floats(n * k);
        let w = WeightRows { ty, data: &data, k, n_rows: rows };
        let scalar = product(reference(), &w, 0..rows, k, &x);
        for table in KernelTable::all_supported() {
            let all = product(table, &w, 0..rows, k, &x);
            let (left, right) =
                (product(table, &w, 0..cut, k, &x), product(table, &w, cut..rows, k, &x));
            for t in 0..n {
                let row = bits(&all[t * rows..][..rows]);
                prop_assert_eq!(&row[..cut], &bits(&left[t * cut..][..cut])[..]);
                let width = rows - cut;
                prop_assert_eq!(&row[cut..], &bits(&right[t * width..][..width])[..]);
            }
            let (mut error, mut power) = (0.0, 1e-30);
            for (a, b) in all.iter().zip(&scalar) {
                error += f64::from(a - b).powi(2);
                power += f64::from(*b).powi(2);
            }
            prop_assert!(error <= 1e-11 * power, "{} {} NMSE {}", table.isa(), ty, error / power);
        }
    }
}
