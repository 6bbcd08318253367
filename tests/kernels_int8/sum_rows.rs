//! Weighted sums of rows: all instruction sets to the bit, and what the numbers mean.

use super::data::{Pattern, Random, TYPES, dequantise, weights};
#[cfg(unix)]
use super::guarded::Pages;
use super::*;

/// Types that are summed as integers, with their largest code and the largest integer that its
/// scale is multiplied by.
const INTEGER: [(QuantType, f64, f64); 9] = [
    (QuantType::Q4_0, 8.0, 1.0),
    (QuantType::Q4_1, 15.0, 1.0),
    (QuantType::Q5_0, 16.0, 1.0),
    (QuantType::Q5_1, 31.0, 1.0),
    (QuantType::Q8_0, 128.0, 1.0),
    (QuantType::IQ4_NL, 127.0, 1.0),
    (QuantType::Q4_K, 15.0, 63.0),
    (QuantType::Q5_K, 31.0, 63.0),
    (QuantType::Q6_K, 32.0, 128.0),
];
const PLAIN: [QuantType; 3] = [QuantType::F32, QuantType::F16, QuantType::BF16];
const N_ROWS: usize = 23;
const LENGTHS: [usize; 7] = [0, 1, 3, 4, 5, 8, 33];

/// A matrix, a list with factors, and what the sums are added to.
struct Case {
    ty: QuantType,
    k: usize,
    data: Vec<u8>,
    ids: Vec<u32>,
    h: Vec<f32>,
    y: Vec<f32>,
}

impl Case {
    fn new(ty: QuantType, k: usize, n: usize, pattern: Pattern) -> Self {
        let mut random = Random(0x6a09_e667_f3bc_c909 ^ (k as u64) << 20 ^ n as u64);
        let data = if PLAIN.contains(&ty) {
            plain(ty, k * N_ROWS, &mut random)
        } else {
            weights(ty, k, N_ROWS, pattern)
        };
        // Not ascending, and with repetitions.
        let ids = (0..n).map(|_| (random.next() % N_ROWS as u64) as u32).collect();
        let h = (0..n).map(|i| if i % 7 == 5 { 0.0 } else { random.unit() }).collect();
        let y = (0..k).map(|_| random.unit()).collect();
        Self { ty, k, data, ids, h, y }
    }

    fn w(&self) -> WeightRows<'_> {
        WeightRows { ty: self.ty, data: &self.data, k: self.k, n_rows: N_ROWS }
    }

    fn sum(&self, table: &KernelTable, cols: Range<usize>, exact: bool) -> Vec<f32> {
        let mut y = self.y[cols.clone()].to_vec();
        let mut scratch = AlignedVec::new();
        table.sum_rows(&self.w(), &self.ids, &self.h, cols, &mut y, exact, &mut scratch);
        y
    }

    /// The weights of a row of the list.
    fn row(&self, i: usize) -> Vec<f64> {
        let row_bytes = self.w().row_bytes();
        let bytes = &self.data[self.ids[i] as usize * row_bytes..][..row_bytes];
        let blocks = bytes.chunks_exact(self.ty.info().block_bytes);
        blocks.flat_map(|block| dequantise(self.ty, block)).collect()
    }

    #[track_caller]
    fn assert_same(&self, table: &KernelTable, whole: &[f32], cols: Range<usize>, exact: bool) {
        for (c, y) in cols.clone().zip(self.sum(table, cols.clone(), exact)) {
            assert!(
                same(y, whole[c]),
                "{} {} k={} {} entries, columns {cols:?}, exact {exact}: y[{c}] = {y:e}, scalar {:e}",
                table.isa(),
                self.ty,
                self.k,
                self.ids.len(),
                whole[c]
            );
        }
    }
}

/// Random numbers of a plain type.
fn plain(ty: QuantType, n: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..n {
        let x = random.unit();
        match ty {
            QuantType::F32 => bytes.extend(x.to_le_bytes()),
            QuantType::F16 => bytes.extend(f16::from_f32(x).to_le_bytes()),
            _ => bytes.extend(half::bf16::from_f32(x).to_le_bytes()),
        }
    }
    bytes
}

fn scalar() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).unwrap()
}

/// Whole rows, and parts that begin and end inside.
fn parts(k: usize) -> Vec<Range<usize>> {
    let step = KernelTable::SUM_COLS;
    let mut parts = vec![0..k, 0..0, k..k];
    if k > step {
        parts.extend([0..step, step..k, k / step * step..k]);
    }
    if k > 4 * step {
        parts.extend([step..4 * step, 2 * step..k]);
    }
    parts
}

#[test]
fn any_columns_any_isa_same_bits() {
    let integer = INTEGER.map(|(ty, ..)| ty);
    let types = integer.into_iter().chain(PLAIN).chain([QuantType::Q2_K, QuantType::MXFP4]);
    for ty in types {
        for k in lengths(ty, &[32, 96, 256, 800, 2304, 4096]) {
            for pattern in [Pattern::Random, Pattern::AllOnes, Pattern::Lowest, Pattern::NonFinite]
            {
                for n in LENGTHS {
                    let case = Case::new(ty, k, n, pattern);
                    for exact in [false, true] {
                        let whole = case.sum(scalar(), 0..k, exact);
                        for table in tables() {
                            for cols in parts(k) {
                                case.assert_same(table, &whole, cols, exact);
                            }
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    /// Any bytes as weights, any floats as factors.
    #[test]
    fn any_bits_any_isa_same_bits(
        ty in proptest::sample::select(INTEGER.map(|(ty, ..)| ty).to_vec()),
        n_blocks in 1usize..80,
        h in proptest::collection::vec(any::<f32>(), 0..13),
        seed in 1u64..,
    ) {
        let k = lengths(ty, &[32 * n_blocks])[0];
        let mut case = Case::new(ty, k, h.len(), Pattern::Random);
        let mut random = Random(seed);
        case.data.fill_with(|| random.byte());
        case.h = h;
        let whole = case.sum(scalar(), 0..k, false);
        for table in tables() {
            for cols in parts(k) {
                case.assert_same(table, &whole, cols, false);
            }
        }
    }
}

/// The scalar kernel against f64, within what the contract promises: half a unit of the integer
/// factors for each code, and the rounding of the floats.
#[test]
fn as_close_as_the_contract_says() {
    for (ty, max_code, max_scale) in INTEGER {
        assert!(scalar().has_int_sums(ty));
        let k = 1024;
        for n in [1, 4, 33] {
            let case = Case::new(ty, k, n, Pattern::Random);
            let rows: Vec<Vec<f64>> = (0..n).map(|i| case.row(i)).collect();
            let y = case.sum(scalar(), 0..k, false);
            // The patterns' scales are below 0.01.
            let scale = 0.01 * max_scale;
            let (mut error, mut power) = (0.0, 0.0);
            for (c, &y) in y.iter().enumerate() {
                let products = rows.iter().zip(&case.h).map(|(row, &h)| f64::from(h) * row[c]);
                let exact: f64 = products.clone().sum();
                let size: f64 = products.map(f64::abs).sum::<f64>() + f64::from(case.y[c].abs());
                let groups = case.h.chunks(4).map(|h| {
                    let s = h.iter().fold(0.0, |s, h| f64::max(s, f64::from(h.abs()))) * scale;
                    4.0 * max_code * s * (1.0 / 65024.0 + 4.0 * f64::from(f32::EPSILON))
                });
                let rounding = size * f64::from(f32::EPSILON) * (n + 4) as f64;
                let bound = groups.sum::<f64>() + rounding;
                let miss = f64::from(y) - f64::from(case.y[c]) - exact;
                assert!(
                    miss.abs() <= bound,
                    "{ty} {n} entries: y[{c}] misses by {miss:e}, {bound:e}"
                );
                (error, power) = (error + miss * miss, power + exact * exact);
            }
            // 16 bits of factors; 8 would give 1e-5.
            assert!(error / power < 1e-8, "{ty} {n} entries: NMSE {:e}", error / power);
        }
    }
}

/// `exact`, and types without integer sums: one fused multiply-add per entry, in the list's order.
#[test]
fn exact_sums_are_multiply_adds_in_order() {
    let quantised = TYPES.into_iter().chain([QuantType::TQ1_0, QuantType::NVFP4]);
    for ty in quantised.chain(PLAIN) {
        let k = lengths(ty, &[2400])[0];
        let case = Case::new(ty, k, 11, Pattern::Random);
        let mut want = case.y.clone();
        let (row_bytes, mut row) = (case.w().row_bytes(), vec![0.0; k]);
        for (&id, &h) in case.ids.iter().zip(&case.h) {
            let bytes = &case.data[id as usize * row_bytes..][..row_bytes];
            scalar().dequant_row(ty, bytes, &mut row);
            want.iter_mut().zip(&row).for_each(|(y, w)| *y = h.mul_add(*w, *y));
        }
        for table in tables() {
            for cols in parts(k) {
                case.assert_same(table, &want, cols.clone(), true);
                if !table.has_int_sums(ty) {
                    case.assert_same(table, &want, cols, false);
                }
            }
        }
    }
}

/// One block of Q4_0: two rows, with factors that are integers.
#[test]
fn hand_computed_sum() {
    let mut data = vec![0x88; 36];
    data[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
    data[18..20].copy_from_slice(&f16::from_f32(-2.0).to_le_bytes());
    // Column 0 is 0.5 * (15 - 8) in row 0; column 17 is -2 * (0 - 8) in row 1 and -3.5 in row 0.
    data[2] = 0x8f;
    data[3] = 0x18;
    data[18 + 3] = 0x08;
    let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
    for table in tables() {
        let mut y = [1.0; 32];
        // p = 2 * 0.5 and 0.5 * -2: S = 1, c = 32512 and -32512; the sums come out even.
        table.sum_rows(&w, &[0, 1], &[2.0, 0.5], 0..32, &mut y, false, &mut AlignedVec::new());
        let mut want = [1.0; 32];
        want[0] += 7.0;
        want[17] += 2.0 * -3.5 + 0.5 * 16.0;
        let close = |(y, want): (&f32, &f32)| (y - want).abs() <= 4.0 * f32::EPSILON;
        assert!(y.iter().zip(&want).all(close), "{} {y:?}", table.isa());
    }
}

#[test]
fn special_factors() {
    for (ty, ..) in INTEGER {
        let k = lengths(ty, &[96])[0];
        let mut case = Case::new(ty, k, 6, Pattern::Random);
        for table in tables() {
            // What cannot be added stays out, and what cannot be known is NaN.
            for none in [0.0, -0.0, 1e-42, -f32::from_bits(1)] {
                case.h.fill(none);
                let y = case.sum(table, 0..k, false);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-30;
                assert!(y.iter().zip(&case.y).all(near), "{} {ty} {none:e}", table.isa());
            }
            for unknown in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                case.h.fill(0.5);
                case.h[5] = unknown;
                let y = case.sum(table, 0..k, false);
                assert!(y.iter().all(|y| y.is_nan()), "{} {ty} {unknown}", table.isa());
            }
            // Large numbers do not overflow on the way.
            case.h = vec![1e30, -1e30, 3e29, 1e25, 1.0, 1e30];
            let y = case.sum(table, 0..k, false);
            assert!(y.iter().all(|y| y.is_finite()), "{} {ty}", table.isa());
            assert!(y.iter().any(|y| y.abs() > 1e27), "{} {ty}", table.isa());
        }
    }
}

/// A scale that is infinite in one row and one block makes the columns of its block NaN, no others.
#[test]
fn an_infinite_scale_stays_in_its_block() {
    let mut case = Case::new(QuantType::Q4_0, 96, 5, Pattern::Random);
    case.ids = vec![0, 1, 2, 3, 4];
    let row_bytes = case.w().row_bytes();
    case.data[2 * row_bytes + 18..][..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
    for table in tables() {
        let y = case.sum(table, 0..96, false);
        for (c, y) in y.iter().enumerate() {
            assert_eq!(y.is_nan(), (32..64).contains(&c), "{} y[{c}] = {y}", table.isa());
        }
    }
}

#[cfg(unix)]
#[test]
fn only_the_listed_columns_are_touched() {
    let types = INTEGER.map(|(ty, ..)| ty).into_iter().chain(PLAIN).chain([QuantType::Q3_K]);
    for ty in types {
        for k in lengths(ty, &[32, 96, 256, 1024, 2304]) {
            let case = Case::new(ty, k, 7, Pattern::Random);
            let row_bytes = case.w().row_bytes();
            let (mut w_pages, mut y_pages) = (Pages::new(case.data.len()), Pages::new(4 * k));
            for at_end in [false, true] {
                let data = w_pages.slice::<u8>(row_bytes, at_end);
                data.copy_from_slice(&case.data[..row_bytes]);
                let w = WeightRows { ty, data, k, n_rows: 1 };
                for cols in parts(k) {
                    let n = cols.len();
                    let run = |table: &KernelTable, y: &mut [f32]| {
                        y.copy_from_slice(&case.y[cols.clone()]);
                        let (ids, h) = ([0; 7], &case.h);
                        table.sum_rows(&w, &ids, h, cols.clone(), y, false, &mut AlignedVec::new());
                    };
                    let mut want = vec![0.0; n];
                    run(scalar(), &mut want);
                    for table in tables() {
                        let y = y_pages.slice::<f32>(n, at_end);
                        run(table, y);
                        assert!(y.iter().zip(&want).all(|(&a, &b)| same(a, b)), "{ty} {cols:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn sums_that_do_not_fit_are_refused() {
    let data = [0; 2 * 18 * 24];
    let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 24 * 32, n_rows: 2 };
    type Call<'a> = (WeightRows<'a>, &'a [u32], &'a [f32], Range<usize>, usize);
    let wrong: [Call<'_>; 8] = [
        (WeightRows { n_rows: 3, ..w }, &[0], &[1.0], 0..768, 768),
        (w, &[0, 2], &[1.0; 2], 0..768, 768),
        (w, &[0], &[1.0; 2], 0..768, 768),
        (w, &[0], &[1.0], 0..800, 800),
        (w, &[0], &[1.0], 32..768, 736),
        (w, &[0], &[1.0], 0..288, 288),
        (w, &[0], &[1.0], 0..768, 767),
        #[allow(clippy::reversed_empty_ranges, reason = "what is to be refused")]
        (w, &[0], &[1.0], 512..256, 0),
    ];
    for table in tables() {
        for (i, (w, ids, h, cols, n)) in wrong.iter().cloned().enumerate() {
            let call = std::panic::AssertUnwindSafe(|| {
                let (mut y, mut scratch) = (vec![0.0; n], AlignedVec::new());
                table.sum_rows(&w, ids, h, cols, &mut y, false, &mut scratch);
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} call {i}", table.isa());
        }
        // No rows at all, no columns at all: nothing happens.
        let mut y = [7.0; 768];
        table.sum_rows(&w, &[], &[], 0..768, &mut y, false, &mut AlignedVec::new());
        table.sum_rows(&w, &[1], &[1.0], 256..256, &mut [], true, &mut AlignedVec::new());
        assert_eq!(y, [7.0; 768]);
    }
}
