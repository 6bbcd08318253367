//! `kernels/select.cu` and `kernels/sample.cu`

use powerinfer::backend::cuda::launch::{
    Select, TopK, select_above, select_beyond, select_nonzero, top_k, top_k_scratch,
};

use super::cuda_support::every_order;
use super::gear::{Gear, random};

#[test]
fn neurons_in_order() {
    every_order(|| {
        let gear = Gear::new();
        let (n_tokens, n) = (3, 2500);
        let mut scores = random(n_tokens * n, 1);
        scores[n..2 * n].fill(-1.0); // nobody
        (scores[7], scores[8], scores[9]) = (f32::NAN, 0.5, -0.5);
        scores.iter_mut().for_each(|s| *s = if *s < -0.7 { 0.0 } else { *s });
        let d = gear.put(&scores);
        let (ids, counts) = (gear.scratch(n_tokens * n * 4), gear.scratch(n_tokens * 4));
        let a = Select { scores: d.view(), ids: ids.view(), counts: counts.view(), n_tokens, n };
        let holds = |chosen: &dyn Fn(f32) -> bool| {
            let counts: Vec<i32> = gear.get(counts.view(), n_tokens);
            let ids: Vec<i32> = gear.get(ids.view(), n_tokens * n);
            for t in 0..n_tokens {
                let row = &scores[t * n..][..n];
                let want: Vec<i32> = (0..n as i32).filter(|&i| chosen(row[i as usize])).collect();
                assert_eq!(ids[t * n..][..counts[t] as usize], want, "token {t}");
            }
        };
        select_above(&gear.stream, &a, 0.25).unwrap();
        holds(&|s| s >= 0.25);
        select_nonzero(&gear.stream, &a).unwrap();
        holds(&|s| s != 0.0);
        select_beyond(&gear.stream, &a, 0.5).unwrap();
        holds(&|s| s.abs() >= 0.5 || s.is_nan());
    });
}

/// One chunk and several; equal numbers, infinities, fewer numbers than are asked for.
#[test]
fn largest_of_rows() {
    every_order(|| {
        let gear = Gear::new();
        for (n_rows, n, k) in [(2, 5000, 40), (1, 9000, 1), (2, 3, 5), (1, 2048, 64)] {
            let mut x = random(n_rows * n, n as u32);
            x.iter_mut().for_each(|v| *v = (*v * 500.0).trunc()); // many are equal
            x[1] = f32::NEG_INFINITY;
            x[2] = f32::NAN;
            let d = gear.put(&x);
            let bytes = top_k_scratch(n_rows, n, k).unwrap();
            let scratch = [gear.scratch(bytes), gear.scratch(bytes)];
            let (values, ids) = (gear.scratch(n_rows * k * 4), gear.scratch(n_rows * k * 4));
            let a = TopK {
                x: d.view(),
                n_rows,
                n,
                k,
                scratch: [scratch[0].view(), scratch[1].view()],
                values: values.view(),
                ids: ids.view(),
            };
            top_k(&gear.stream, &a).unwrap();
            let ids: Vec<i32> = gear.get(ids.view(), n_rows * k);
            let values: Vec<f32> = gear.get(values.view(), n_rows * k);
            for r in 0..n_rows {
                let row = &x[r * n..][..n];
                let rank = |i: i32| match row[i as usize] {
                    v if v.is_nan() => (true, 0.0),
                    v => (false, v),
                };
                let mut want: Vec<i32> = (0..n as i32).collect();
                want.sort_by(|&a, &b| {
                    let ((an, av), (bn, bv)) = (rank(a), rank(b));
                    an.cmp(&bn).then(bv.partial_cmp(&av).unwrap()).then(a.cmp(&b))
                });
                want.resize(n.max(k), -1);
                assert_eq!(ids[r * k..][..k], want[..k], "row {r} of {n}");
                for (id, value) in ids[r * k..][..k].iter().zip(&values[r * k..]) {
                    let expected = if *id < 0 { 0.0 } else { row[*id as usize] };
                    assert!(expected.is_nan() || *value == expected);
                }
            }
        }
    });
}
