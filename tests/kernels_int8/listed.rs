//! Products of listed rows: the bits of the same rows in the whole product.

use super::data::{Pattern, TYPES, activations, weights};
use super::*;

/// Lists over `n_rows` rows: short and long ones around the sizes of groups, ascending with gaps,
/// descending, and with rows that come twice.
pub(crate) fn lists(n_rows: usize) -> Vec<Vec<u32>> {
    let mut lists = Vec::new();
    for len in [0, 1, 15, 16, 17, 33] {
        let spread = |i: usize| (i * (n_rows - 1) / (len.max(2) - 1)) as u32;
        let ascending: Vec<u32> = (0..len).map(spread).collect();
        lists.push(ascending.iter().rev().copied().collect());
        lists.push(ascending);
        lists.push((0..len).map(|i| ((i / 3 * 7) % n_rows) as u32).collect());
    }
    lists
}

/// The product of listed rows as `act.n` rows of `ids.len()`, with untouched margins.
fn listed(
    table: &KernelTable,
    w: &WeightRows<'_>,
    ids: &[u32],
    act: &ActQ8<'_>,
    scratch: &mut AlignedVec<u8>,
) -> Vec<f32> {
    const MARGIN: usize = 3;
    let (width, ld) = (ids.len(), ids.len() + 2 * MARGIN);
    let mut y = vec![-7.5; act.n * ld];
    let mut view = ColsMut::new(&mut y, ld, MARGIN..MARGIN + width);
    table.mul_mat_q8_listed(w, ids, act, &mut view, scratch);
    let mut out = Vec::with_capacity(act.n * width);
    for row in y.chunks_exact(ld) {
        assert!(row[..MARGIN].iter().chain(&row[MARGIN + width..]).all(|&y| y == -7.5));
        out.extend_from_slice(&row[MARGIN..MARGIN + width]);
    }
    out
}

#[test]
fn listed_rows_have_the_bits_of_the_whole_product() {
    const N_ROWS: usize = 70;
    const N_TOKENS: usize = 9;
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        for k in lengths(ty, &[32, 576, 1024]) {
            let data = weights(ty, k, N_ROWS, Pattern::Random);
            let w = WeightRows { ty, data: &data, k, n_rows: N_ROWS };
            let act = Act::new(scalar, k, &activations(k, N_TOKENS, Pattern::Random));
            let whole = mul_mat(scalar, &w, 0..N_ROWS, &act.tokens(0..N_TOKENS), &mut scratch);
            for table in tables() {
                for ids in lists(N_ROWS) {
                    for n in 1..=N_TOKENS {
                        let y = listed(table, &w, &ids, &act.tokens(0..n), &mut scratch);
                        assert_eq!(y.len(), n * ids.len());
                        for (t, y) in y.chunks_exact(ids.len().max(1)).enumerate() {
                            for (&id, &y) in ids.iter().zip(y) {
                                let expected = whole[t * N_ROWS + id as usize];
                                assert!(
                                    same(y, expected),
                                    "{} {ty} k={k} row {id} of {} in a list, token {t} of {n}: \
                                     {y:e}, alone {expected:e}",
                                    table.isa(),
                                    ids.len(),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let data = [0; 36];
    let w = WeightRows { ty: QuantType::Q4_0, data: &data, k: 32, n_rows: 2 };
    let act = ActQ8 { k: 32, n: 1, q: &[0; 32], d: &[0.0], s: &[[0; 2]] };
    type Call<'a> = (WeightRows<'a>, &'a [u32], ActQ8<'a>, usize);
    let wrong: [Call<'_>; 6] = [
        (w, &[0, 2], act, 2),
        (w, &[u32::MAX], act, 1),
        (WeightRows { n_rows: 0, ..w }, &[0], act, 1),
        (w, &[0, 1], act, 1),
        (w, &[], act, 1),
        (w, &[1], ActQ8 { d: &[], ..act }, 1),
    ];
    for table in tables() {
        for (i, (w, ids, act, width)) in wrong.iter().enumerate() {
            let call = std::panic::AssertUnwindSafe(|| {
                let mut y = vec![0.0; act.n * width];
                let mut y = ColsMut::new(&mut y, *width, 0..*width);
                table.mul_mat_q8_listed(w, ids, act, &mut y, &mut AlignedVec::new());
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} call {i}", table.isa());
        }
        let (mut y, mut scratch) = (vec![0.0; 2], AlignedVec::new());
        table.mul_mat_q8_listed(
            &w,
            &[1, 0],
            &act,
            &mut ColsMut::new(&mut y, 2, 0..2),
            &mut scratch,
        );
        table.mul_mat_q8_listed(&w, &[], &act, &mut ColsMut::new(&mut y, 2, 0..0), &mut scratch);
    }
}
