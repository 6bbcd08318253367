//! Products of listed rows, and lists of places.

use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActF32, WeightRows};
use powerinfer::quant::QuantType::{self, BF16, F16, F32};
use powerinfer::quant::quantize_row;
use powerinfer::quant::types::TYPES as ALL_TYPES;
use powerinfer::util::aligned::AlignedVec;

use crate::guard::Guarded;
use crate::{LENGTHS, Rng, bits};

/// `n_rows` rows of some type: numbers of ordinary size, or any bytes where nothing encodes it.
fn weights(ty: QuantType, k: usize, n_rows: usize, rng: &mut Rng) -> Vec<u8> {
    let numbers = rng.floats(k * n_rows);
    let mut data = vec![0x35; ty.row_bytes((k * n_rows) as u64).unwrap() as usize];
    let _ = quantize_row(ty, &numbers, None, &mut data); // or any bytes
    data
}

fn check(ty: QuantType, k: usize, lists: &[&[u32]], n_tokens: std::ops::RangeInclusive<usize>) {
    const N_ROWS: usize = 35;
    let mut rng = Rng::new(k as u64);
    let data = Guarded::new(&weights(ty, k, N_ROWS, &mut rng));
    let w = WeightRows { ty, data: &data, k, n_rows: N_ROWS };
    let mut scratch = AlignedVec::new();
    for n in n_tokens {
        let x = Guarded::new(&rng.floats(n * k));
        let act = ActF32 { k, n, x: &x };
        for table in KernelTable::all_supported() {
            let mut whole = vec![0.0; n * N_ROWS];
            let mut y = ColsMut::new(&mut whole, N_ROWS, 0..N_ROWS);
            table.mul_mat_f32(&w, 0..N_ROWS, &act, &mut y, &mut scratch);
            for ids in lists {
                let (width, ld) = (ids.len(), ids.len() + 2);
                let mut y = vec![-7.5; n * ld];
                let mut view = ColsMut::new(&mut y, ld, 1..1 + width);
                table.mul_mat_f32_listed(&w, ids, &act, &mut view, &mut scratch);
                for (t, y) in y.chunks_exact(ld).enumerate() {
                    assert_eq!((y[0], y[ld - 1]), (-7.5, -7.5), "a margin was written");
                    let expected: Vec<f32> =
                        ids.iter().map(|&id| whole[t * N_ROWS + id as usize]).collect();
                    let got = bits(&y[1..=width]);
                    assert_eq!(got, bits(&expected), "{} {ty} {k} {n} {ids:?}", table.isa());
                }
            }
        }
    }
}

#[test]
fn listed_rows_have_the_bits_of_the_whole_product() {
    let all: Vec<u32> = (0..35).collect();
    let gaps: Vec<u32> = (0..17).map(|i| 2 * i).collect();
    let down: Vec<u32> = (0..33).rev().collect();
    let lists: [&[u32]; 8] =
        [&[], &[34], &gaps[..15], &gaps[..16], &gaps, &down, &all, &[3, 3, 0, 34, 34, 34, 0, 7]];
    for ty in [F32, F16, BF16] {
        for k in LENGTHS {
            check(ty, k, &lists, 1..=9);
        }
    }
    for ty in ALL_TYPES.iter().map(|info| info.ty) {
        check(ty, 256, &lists, 1..=2);
        check(ty, 512, &lists, 9..=9);
    }
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let w = WeightRows { ty: F32, data: &[0; 32], k: 4, n_rows: 2 };
    let act = ActF32 { k: 4, n: 1, x: &[1.0; 4] };
    for table in KernelTable::all_supported() {
        for (ids, width) in [(&[2][..], 1), (&[0, u32::MAX], 2), (&[0, 1], 1), (&[], 1)] {
            let call = std::panic::AssertUnwindSafe(|| {
                let mut y = vec![0.0; width];
                let mut y = ColsMut::new(&mut y, width, 0..width);
                table.mul_mat_f32_listed(&w, ids, &act, &mut y, &mut AlignedVec::new());
            });
            assert!(std::panic::catch_unwind(call).is_err(), "{} {ids:?}", table.isa());
        }
    }
}

#[test]
fn places_are_those_of_a_plain_loop() {
    let special = [f32::NAN, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, 0.5];
    let mut rng = Rng::new(11);
    for len in 0..=70 {
        // All of them ordinary, some special, all alike.
        for kind in 0..4 {
            let x: Vec<f32> = (0..len)
                .map(|i| match kind {
                    0 => rng.float(),
                    1 if rng.below(2) == 0 => special[rng.below(special.len())],
                    1 => rng.float(),
                    2 => f32::NAN,
                    _ => [0.0, -0.0][i % 2],
                })
                .collect();
            let x = Guarded::new(&x);
            let expected = |passes: &dyn Fn(f32) -> bool| -> Vec<u32> {
                (0..len).filter(|&i| passes(x[i])).map(|i| i as u32).collect()
            };
            for table in KernelTable::all_supported() {
                for spare in [0, 5] {
                    let mut places = Guarded::new(&vec![u32::MAX; len + spare]);
                    for than in [0.0, -0.0, 0.25, -0.5, 1e-45].into_iter().chain([
                        f32::NAN,
                        f32::INFINITY,
                        f32::NEG_INFINITY,
                    ]) {
                        let n = table.places_from(&x, than, &mut places);
                        let want = expected(&|x| x >= than || x.is_nan() || than.is_nan());
                        assert_eq!(places[..n], want, "{} {x:?} from {than}", table.isa(), x = &*x);
                    }
                    let n = table.places_nonzero(&x, &mut places);
                    let want = expected(&|x| x.is_nan() || x.abs() > 0.0);
                    assert_eq!(places[..n], want, "{} nonzero {x:?}", table.isa(), x = &*x);
                    assert!(places[len..].iter().all(|&p| p == u32::MAX), "written behind");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "2 places for 3 elements")]
fn places_must_have_room() {
    KernelTable::detect().places_nonzero(&[1.0; 3], &mut [0; 2]);
}
