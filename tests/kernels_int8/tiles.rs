//! Neuron tiles against the same matrix as rows: the same bits, dense and sparse.

use powerinfer::backend::cpu::table::{ActF32, TiledRows};
use powerinfer::quant::tiles;

use super::*;

/// Types that have tiles.
const TILED: [QuantType; 10] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q8_0,
    QuantType::IQ4_NL,
    QuantType::MXFP4,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
];

fn pack(w: &WeightRows<'_>) -> Vec<u8> {
    let mut out = vec![0; w.data.len()];
    tiles::pack(w.ty, w.data, w.k, w.n_rows, 0..w.k / w.ty.block_len(), &mut out);
    out
}

/// As [`super::mul_mat`], from tiles.
fn mul_mat_tiles(
    table: &KernelTable,
    w: &TiledRows<'_>,
    rows: Range<usize>,
    act: &ActQ8<'_>,
    scratch: &mut AlignedVec<u8>,
) -> Vec<f32> {
    const MARGIN: usize = 3;
    let (width, ld) = (rows.len(), rows.len() + 2 * MARGIN);
    let mut y = vec![-7.5; act.n * ld];
    let mut view = ColsMut::new(&mut y, ld, MARGIN..MARGIN + width);
    table.mul_mat_tiles_q8(w, rows, act, &mut view, scratch);
    let mut out = Vec::with_capacity(act.n * width);
    for row in y.chunks_exact(ld) {
        assert!(row[..MARGIN].iter().chain(&row[MARGIN + width..]).all(|&y| y == -7.5));
        out.extend_from_slice(&row[MARGIN..MARGIN + width]);
    }
    out
}

/// Compares tiles with rows for all tables: outputs `rows`, tokens `tokens`.
fn check_tiles(
    w: &WeightRows<'_>,
    tiled: &TiledRows<'_>,
    act: &Act,
    (rows, tokens): (Range<usize>, Range<usize>),
    what: &str,
    scratch: &mut AlignedVec<u8>,
) {
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let act = act.tokens(tokens);
    let expected = mul_mat(scalar, w, rows.clone(), &act, scratch);
    for table in tables() {
        let y = mul_mat_tiles(table, tiled, rows.clone(), &act, scratch);
        for (j, (&y, &expected)) in y.iter().zip(&expected).enumerate() {
            assert!(
                same(y, expected),
                "{} {} {what}, {} x {}, rows {rows:?}, {} tokens: y[{}][{}] = {y:e} ({:#x}), \
                 as rows {expected:e} ({:#x})",
                table.isa(),
                w.ty,
                w.k,
                w.n_rows,
                act.n,
                j / rows.len(),
                j % rows.len(),
                y.to_bits(),
                expected.to_bits()
            );
        }
    }
}

#[test]
fn same_bits_as_rows() {
    let mut scratch = AlignedVec::new();
    for ty in TILED {
        for (k, n_embd) in [(32, 32), (64, 160), (1024, 96), (1536 + 32, 64), (96, 576)] {
            let k = lengths(ty, &[k])[0];
            for pattern in PATTERNS {
                let data = weights(ty, k, n_embd, pattern);
                let w = WeightRows { ty, data: &data, k, n_rows: n_embd };
                let tiled = TiledRows { ty, data: &pack(&w), k, n_rows: n_embd };
                let mut x = activations(k, 33, pattern);
                if matches!(pattern, Pattern::Painted | Pattern::NonFinite) {
                    // Scales that are not finite, times nothing: NaN in a row, left out of tiles.
                    x.chunks_exact_mut(32).filter(|x| x[0] == 0.0).for_each(|x| x[9] = 1.0);
                }
                let act = Act::new(tables()[0], k, &x);
                for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 33] {
                    let rows = if n % 2 == 0 { 0..n_embd } else { n_embd / 64 * 32..n_embd };
                    let part = (rows, 33 - n..33);
                    check_tiles(&w, &tiled, &act, part, "dense", &mut scratch);
                }
            }
        }
    }
}

/// Lists of active neurons of every kind, the same for no two tokens.
#[test]
fn sparse_activations_same_bits_as_rows() {
    const N: usize = 6;
    let mut scratch = AlignedVec::new();
    for ty in TILED {
        for (k, n_embd) in [(256, 32), (1536, 160), (1024, 576)] {
            let data = weights(ty, k, n_embd, Pattern::Random);
            let w = WeightRows { ty, data: &data, k, n_rows: n_embd };
            let tiled = TiledRows { ty, data: &pack(&w), k, n_rows: n_embd };
            let all = activations(k, N, Pattern::Random);
            let mut random = Random(77);
            for active in ["no", "one", "first", "last", "10 %", "30 %", "a NaN", "an infinite"] {
                let mut x = vec![0.0; N * k];
                for (x, all) in x.chunks_exact_mut(k).zip(all.chunks_exact(k)) {
                    let at = random.next() as usize % k;
                    let percent = if active == "30 %" { 30 } else { 10 };
                    for i in 0..k {
                        if match active {
                            "no" => false,
                            "one" => i == at,
                            "first" => i == 0,
                            "last" => i == k - 1,
                            _ => random.next() % 100 < percent,
                        } {
                            x[i] = all[i];
                        }
                    }
                    match active {
                        "a NaN" => x[at] = f32::NAN,
                        "an infinite" => x[at] = f32::INFINITY,
                        _ => {}
                    }
                }
                let act = Act::new(tables()[0], k, &x);
                for tokens in [0..1, 1..2, 2..3, 0..2, 1..4, 2..6, 0..N] {
                    let part = (n_embd / 64 * 32..n_embd, tokens);
                    let what = format!("{active} active");
                    check_tiles(&w, &tiled, &act, part, &what, &mut scratch);
                }
                if active.ends_with("N") || active.ends_with("infinite") {
                    let y =
                        mul_mat_tiles(tables()[0], &tiled, 0..32, &act.tokens(0..1), &mut scratch);
                    assert!(y.iter().all(|y| y.is_nan()), "{active} neuron must be seen");
                }
            }
        }
    }
}

/// 16-bit partial sums at their limits, also with the code -128 that quantising never gives.
#[test]
fn extreme_codes_do_not_saturate_in_tiles() {
    let (k, n_embd) = (256, 64);
    let mut scratch = AlignedVec::new();
    for ty in TILED {
        for pattern in [Pattern::AllOnes, Pattern::Lowest, Pattern::Random] {
            let data = weights(ty, k, n_embd, pattern);
            let w = WeightRows { ty, data: &data, k, n_rows: n_embd };
            let tiled = TiledRows { ty, data: &pack(&w), k, n_rows: n_embd };
            for q in [-128, -127, 127] {
                let act = Act {
                    k,
                    q: vec![q; 7 * k],
                    d: vec![1.5; 7 * k / 32],
                    s: vec![[16 * i16::from(q); 2]; 7 * k / 32],
                };
                for n in [1, 2, 7] {
                    check_tiles(&w, &tiled, &act, (0..n_embd, 0..n), "extreme", &mut scratch);
                }
            }
        }
    }
}

#[test]
fn f32_products_same_bits_as_rows() {
    let mut scratch = AlignedVec::new();
    for ty in TILED {
        let (k, n_embd, n) = (512, 96, 3);
        let data = weights(ty, k, n_embd, Pattern::Random);
        let w = WeightRows { ty, data: &data, k, n_rows: n_embd };
        let tiled = TiledRows { ty, data: &pack(&w), k, n_rows: n_embd };
        let x = activations(k, n, Pattern::Random);
        let act = ActF32 { k, n, x: &x };
        for table in tables() {
            for rows in [0..n_embd, 32..64, 64..64] {
                let width = rows.len();
                let mut expected = vec![0.0; n * width];
                let mut y = vec![1.0; n * width];
                let mut view = ColsMut::new(&mut expected, width, 0..width);
                if width == 0 {
                    continue;
                }
                table.mul_mat_f32(&w, rows.clone(), &act, &mut view, &mut scratch);
                let mut view = ColsMut::new(&mut y, width, 0..width);
                table.mul_mat_tiles_f32(&tiled, rows, &act, &mut view, &mut scratch);
                assert_eq!(y, expected, "{} {ty}", table.isa());
            }
        }
    }
}

#[test]
fn sizes_of_tiles_that_do_not_fit_are_refused() {
    let data = [0; 18 * 64];
    let w = TiledRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 64 };
    let act = ActQ8 { k: 32, n: 1, q: &[0; 32], d: &[0.0], s: &[[0; 2]] };
    type Call<'a> = (TiledRows<'a>, Range<usize>, ActQ8<'a>, usize);
    let wrong: [Call<'_>; 10] = [
        (TiledRows { data: &data[1..], ..w }, 0..64, act, 64),
        (TiledRows { k: 64, ..w }, 0..64, act, 64),
        (TiledRows { n_rows: 48, ..w }, 0..32, act, 32),
        (TiledRows { ty: QuantType::F16, n_rows: 32, ..w }, 0..32, act, 32),
        (w, 0..96, act, 96),
        (w, 16..48, act, 32),
        (w, 0..64, act, 32),
        (w, 0..64, ActQ8 { n: 2, ..act }, 64),
        (w, 0..64, ActQ8 { d: &[], ..act }, 64),
        (w, 0..64, ActQ8 { s: &[], ..act }, 64),
    ];
    for table in tables() {
        for (i, (w, rows, act, width)) in wrong.iter().cloned().enumerate() {
            let call = std::panic::AssertUnwindSafe(|| {
                let mut y = vec![0.0; act.n * width];
                let mut y = ColsMut::new(&mut y, width, 0..width);
                table.mul_mat_tiles_q8(&w, rows, &act, &mut y, &mut AlignedVec::new());
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} call {i}", table.isa());
        }
    }
}

#[cfg(unix)]
#[test]
fn nothing_outside_the_tiles_is_touched() {
    use super::guarded::{ActPages, Pages};
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TILED {
        for (k, n_embd) in [(32, 32), (96, 160), (1024, 96)] {
            let k = lengths(ty, &[k])[0];
            let source = weights(ty, k, n_embd, Pattern::Random);
            let w = WeightRows { ty, data: &source, k, n_rows: n_embd };
            let packed = pack(&w);
            let mut w_pages = Pages::new(packed.len());
            for (n, at_end) in [(1, false), (1, true), (3, true), (9, false), (9, true)] {
                let data = w_pages.slice::<u8>(packed.len(), at_end);
                data.copy_from_slice(&packed);
                let tiled = TiledRows { ty, data, k, n_rows: n_embd };
                let act = Act::new(scalar, k, &activations(k, n, Pattern::Random));
                let mut pages = ActPages::new(&act);
                let guarded = pages.guarded(&act, at_end);
                let expected = mul_mat(scalar, &w, 0..n_embd, &guarded, &mut scratch);
                let mut y_pages = Pages::new(4 * n * n_embd);
                for table in tables() {
                    let y = y_pages.slice::<f32>(n * n_embd, at_end);
                    let mut view = ColsMut::new(y, n_embd, 0..n_embd);
                    table.mul_mat_tiles_q8(&tiled, 0..n_embd, &guarded, &mut view, &mut scratch);
                    assert!(y.iter().zip(&expected).all(|(&a, &b)| same(a, b)));
                }
            }
        }
    }
}
