//! The integer kernels, mat-mul and sums of rows, of every instruction set against the scalar ones, bit for bit.
//!
//! `REQUIRE_ISA=avx512vnni` makes it a failure when that instruction set is not available, so that
//! a machine cannot skip it in silence.

mod data;
#[cfg(unix)]
mod guarded;
mod listed;
mod quantise;
mod sum_rows;
mod tiles;

use std::ops::Range;

use half::f16;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActQ8, WeightRows};
use powerinfer::backend::cpu::{Isa, KernelTable};
use powerinfer::quant::QuantType;
use powerinfer::util::aligned::AlignedVec;
use proptest::prelude::*;

use data::{PATTERNS, Pattern, Random, TYPES, activations, dequantise, weights};

/// Quantised activations that own their memory.
struct Act {
    k: usize,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<[i16; 2]>,
}

impl Act {
    fn new(table: &KernelTable, k: usize, x: &[f32]) -> Self {
        let n_blocks = x.len() / 32;
        let mut act =
            Self { k, q: vec![0; x.len()], d: vec![0.0; n_blocks], s: vec![[0; 2]; n_blocks] };
        table.quantize_q8(x, &mut act.q, &mut act.d, &mut act.s);
        act
    }
    fn tokens(&self, t: Range<usize>) -> ActQ8<'_> {
        let (k, nb) = (self.k, self.k / 32);
        ActQ8 {
            k,
            n: t.len(),
            q: &self.q[t.start * k..t.end * k],
            d: &self.d[t.start * nb..t.end * nb],
            s: &self.s[t.start * nb..t.end * nb],
        }
    }
}

/// The product as `act.n` rows of `rows.len()`, computed into a wider matrix whose other columns
/// must stay untouched.
fn mul_mat(
    table: &KernelTable,
    w: &WeightRows<'_>,
    rows: Range<usize>,
    act: &ActQ8<'_>,
    scratch: &mut AlignedVec<u8>,
) -> Vec<f32> {
    const MARGIN: usize = 3;
    let (width, ld) = (rows.len(), rows.len() + 2 * MARGIN);
    let mut y = vec![-7.5; act.n * ld];
    let mut view = ColsMut::new(&mut y, ld, MARGIN..MARGIN + width);
    table.mul_mat_q8(w, rows, act, &mut view, scratch);
    let mut out = Vec::with_capacity(act.n * width);
    for row in y.chunks_exact(ld.max(1)) {
        assert!(row[..MARGIN].iter().chain(&row[MARGIN + width..]).all(|&y| y == -7.5));
        out.extend_from_slice(&row[MARGIN..MARGIN + width]);
    }
    out
}

/// Equal to the bit; a NaN equals any NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// These lengths, rounded up to whole blocks of the type.
fn lengths(ty: QuantType, k: &[usize]) -> Vec<usize> {
    let mut k: Vec<usize> = k.iter().map(|k| k.next_multiple_of(ty.block_len())).collect();
    k.dedup();
    k
}

fn tables() -> Vec<&'static KernelTable> {
    let tables = KernelTable::all_supported();
    if let Ok(name) = std::env::var("REQUIRE_ISA") {
        let isa = Isa::from_name(&name).expect("REQUIRE_ISA names an instruction set");
        assert!(tables.iter().any(|t| t.isa() == isa), "{isa} is not available here");
    }
    tables
}

/// Compares a part of a product with the same part of the scalar kernel's whole product.
fn check(
    table: &KernelTable,
    w: &WeightRows<'_>,
    act: &Act,
    whole: &[f32],
    (rows, tokens): (Range<usize>, Range<usize>),
    scratch: &mut AlignedVec<u8>,
) {
    let y = mul_mat(table, w, rows.clone(), &act.tokens(tokens.clone()), scratch);
    for (t, y) in tokens.clone().zip(y.chunks_exact(rows.len().max(1))) {
        for (i, &y) in rows.clone().zip(y) {
            let expected = whole[t * w.n_rows + i];
            assert!(
                same(y, expected),
                "{} {} k={} rows {rows:?} tokens {tokens:?}: y[{t}][{i}] = {y:e} ({:#x}), \
                 scalar alone {expected:e} ({:#x})",
                table.isa(),
                w.ty,
                w.k,
                y.to_bits(),
                expected.to_bits()
            );
        }
    }
}

/// Every instruction set gives the scalar kernel's bits, whichever rows and tokens are asked for
/// together.
#[test]
fn any_company_any_isa_same_bits() {
    const N_ROWS: usize = 64 + 5;
    const N_TOKENS: usize = 33;
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        for k in lengths(ty, &[32, 64, 96, 576, 1536, 2048 + 32]) {
            for pattern in PATTERNS {
                let data = weights(ty, k, N_ROWS, pattern);
                let w = WeightRows { ty, data: &data, k, n_rows: N_ROWS };
                let act = Act::new(scalar, k, &activations(k, N_TOKENS, pattern));
                let whole = mul_mat(scalar, &w, 0..N_ROWS, &act.tokens(0..N_TOKENS), &mut scratch);
                if pattern != Pattern::NonFinite && pattern != Pattern::Painted {
                    assert!(whole.iter().all(|y| y.is_finite()));
                    let zeros = whole.iter().filter(|&&y| y == 0.0).count();
                    assert!(zeros <= whole.len() / 6, "the comparison would be an empty one");
                }
                for table in tables() {
                    for n_rows in [1, 2, 15, 16, 17, 31, 33, 64] {
                        for n in [1, 2, 3, 4, 5, 7, 8, 9, 16, 33] {
                            // Alternate between both ends, so that every offset meets every type.
                            let row0 = (n_rows + n + k / 32) % 6;
                            let token0 = if n_rows % 2 == 0 { 0 } else { N_TOKENS - n };
                            let part = (row0..row0 + n_rows, token0..token0 + n);
                            check(table, &w, &act, &whole, part, &mut scratch);
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_shapes_same_bits(
        ty in proptest::sample::select(&TYPES[..]),
        n_blocks in 1usize..50,
        rows in (0usize..40, 0usize..70),
        n in 0usize..20,
        x in proptest::collection::vec(any::<f32>(), 64),
        seed in 1u64..,
    ) {
        let (k, n_rows) = (lengths(ty, &[32 * n_blocks])[0], rows.0 + rows.1);
        let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
        let mut random = Random(seed);
        let n_bytes = ty.row_bytes(k as u64).unwrap() as usize * n_rows;
        let data: Vec<u8> = (0..n_bytes).map(|_| random.byte()).collect();
        let w = WeightRows { ty, data: &data, k, n_rows };
        let x: Vec<f32> = (0..n * k).map(|_| x[random.next() as usize % x.len()]).collect();
        let act = Act::new(scalar, k, &x);
        let mut scratch = AlignedVec::new();
        let whole = mul_mat(scalar, &w, 0..n_rows, &act.tokens(0..n), &mut scratch);
        for table in tables() {
            check(table, &w, &act, &whole, (rows.0..n_rows, 0..n), &mut scratch);
        }
    }
}

/// All the above hold kernels to one another; this holds them to what the numbers mean.
#[test]
fn close_to_the_dequantised_product() {
    let (k, n_rows, n) = (1536, 48, 9);
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        let row_bytes = ty.row_bytes(k as u64).unwrap() as usize;
        let data = weights(ty, k, n_rows, Pattern::Random);
        let exact: Vec<Vec<f64>> = data
            .chunks_exact(row_bytes)
            .map(|row| {
                let blocks = row.chunks_exact(ty.info().block_bytes);
                blocks.flat_map(|block| dequantise(ty, block)).collect()
            })
            .collect();
        let w = WeightRows { ty, data: &data, k, n_rows };
        let x = activations(k, n, Pattern::Random);
        for table in tables() {
            let act = Act::new(table, k, &x);
            let y = mul_mat(table, &w, 0..n_rows, &act.tokens(0..n), &mut scratch);
            let (mut error, mut power) = (0.0, 0.0);
            for (j, &y) in y.iter().enumerate() {
                let (x, row) = (&x[j / n_rows * k..], &exact[j % n_rows]);
                let exact: f64 = row.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum();
                error += (f64::from(y) - exact).powi(2);
                power += exact.powi(2);
            }
            let nmse = error / power;
            assert!(nmse < 1e-4, "{} {ty}: NMSE {nmse:e}", table.isa());
        }
    }
}

#[test]
fn hand_computed_block() {
    let mut data = vec![0u8; 20];
    data[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
    data[2..4].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
    // Element 0 is 3, element 16 is 10, all others 0.
    data[4] = 0xa3;
    let w = WeightRows { ty: QuantType::Q4_1, data: &data, k: 32, n_rows: 1 };
    let mut x = [0.0; 32];
    (x[0], x[16], x[31]) = (127.0, 4.0, -1.0);
    for table in tables() {
        let act = Act::new(table, 32, &x);
        let y = mul_mat(table, &w, 0..1, &act.tokens(0..1), &mut AlignedVec::new());
        // 0.5 * (3 * 127 + 10 * 4) - 2 * (127 + 4 - 1)
        assert_eq!(y, [210.5 - 260.0], "{}", table.isa());
    }
}

/// 16-bit partial sums at their limits. Quantising never gives the code -128, callers might.
#[test]
fn extreme_codes_do_not_saturate() {
    const K: usize = 256;
    let mut scratch = AlignedVec::new();
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    for (ty, pattern) in TYPES.into_iter().flat_map(|ty| PATTERNS.map(|p| (ty, p))) {
        let data = weights(ty, K, 17, pattern);
        let w = WeightRows { ty, data: &data, k: K, n_rows: 17 };
        for q in [-128, -127, 127] {
            let n = 7;
            let act = Act {
                k: K,
                q: vec![q; n * K],
                d: vec![1.5; n * K / 32],
                s: vec![[16 * i16::from(q); 2]; n * K / 32],
            };
            let whole = mul_mat(scalar, &w, 0..17, &act.tokens(0..n), &mut scratch);
            for table in tables() {
                for n in [1, n] {
                    check(table, &w, &act, &whole, (0..17, 0..n), &mut scratch);
                }
            }
        }
    }
}

#[test]
fn empty_products() {
    let mut scratch = AlignedVec::new();
    for table in tables() {
        assert!(table.has_int8(QuantType::Q4_0) && !table.has_int8(QuantType::F16));
        let w = WeightRows { ty: QuantType::Q4_0, data: &[], k: 0, n_rows: 3 };
        let act = ActQ8 { k: 0, n: 2, q: &[], d: &[], s: &[] };
        assert_eq!(mul_mat(table, &w, 1..3, &act, &mut scratch), [0.0; 4]);
        let data = [0; 36];
        let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
        let act = ActQ8 { k: 32, n: 0, q: &[], d: &[], s: &[] };
        assert!(mul_mat(table, &w, 0..2, &act, &mut scratch).is_empty());
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let data = [0; 36];
    let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
    let act = ActQ8 { k: 32, n: 1, q: &[0; 32], d: &[0.0], s: &[[0; 2]] };
    type Call<'a> = (WeightRows<'a>, Range<usize>, ActQ8<'a>, usize);
    let wrong: [Call<'_>; 8] = [
        (WeightRows { n_rows: 3, ..w }, 0..2, act, 2),
        (WeightRows { k: 64, n_rows: 1, ..w }, 0..1, act, 1),
        (WeightRows { k: usize::MAX - 31, ..w }, 0..1, act, 1),
        (w, 0..3, act, 3),
        (w, 0..2, act, 1),
        (w, 0..2, ActQ8 { n: 2, ..act }, 2),
        (w, 0..2, ActQ8 { d: &[], ..act }, 2),
        (w, 0..2, ActQ8 { s: &[], ..act }, 2),
    ];
    for table in tables() {
        for (i, (w, rows, act, width)) in wrong.iter().cloned().enumerate() {
            let call = std::panic::AssertUnwindSafe(|| {
                let mut y = vec![0.0; act.n * width];
                let mut y = ColsMut::new(&mut y, width, 0..width);
                table.mul_mat_q8(&w, rows, &act, &mut y, &mut AlignedVec::new());
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} call {i}", table.isa());
        }
    }
}

/// Scratch depends on type and K only, so that a run never allocates after its first token.
#[test]
fn scratch_does_not_grow_with_rows_or_tokens() {
    for ty in TYPES {
        for table in tables() {
            let k = 1536;
            let data = weights(ty, k, 64, Pattern::Random);
            let w = WeightRows { ty, data: &data, k, n_rows: 64 };
            let act = Act::new(table, k, &activations(k, 40, Pattern::Random));
            let mut scratch = AlignedVec::new();
            mul_mat(table, &w, 0..1, &act.tokens(0..1), &mut scratch);
            let before = (scratch.as_ptr(), scratch.len());
            mul_mat(table, &w, 0..64, &act.tokens(0..40), &mut scratch);
            assert_eq!((scratch.as_ptr(), scratch.len()), before, "{}", table.isa());
        }
    }
}
