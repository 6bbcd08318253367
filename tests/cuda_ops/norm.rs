//! `kernels/norm.cu`

use powerinfer::backend::cuda::launch::{Norm, Rows, norm};

use super::cuda_support::every_order;
use super::gear::{Gear, close, random};

fn expected(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, mean: bool) -> Vec<f64> {
    let n = x.len() as f64;
    let middle = if mean { x.iter().map(|&v| f64::from(v)).sum::<f64>() / n } else { 0.0 };
    let squares = x.iter().map(|&v| (f64::from(v) - middle).powi(2)).sum::<f64>() / n;
    let factor = 1.0 / (squares + f64::from(1e-5_f32)).sqrt();
    let of = |w: Option<&[f32]>, i: usize, otherwise: f64| w.map_or(otherwise, |w| f64::from(w[i]));
    let at = |(i, &v): (usize, &f32)| {
        (f64::from(v) - middle) * factor * of(weight, i, 1.0) + of(bias, i, 0.0)
    };
    x.iter().enumerate().map(at).collect()
}

#[test]
fn rows_with_and_without_everything() {
    every_order(|| {
        let gear = Gear::new();
        for (n, width) in [(1, 32), (3, 96), (2, 1000), (2, 576)] {
            for all in [false, true] {
                let x = random(n * width, 1);
                let (extra, w, b) = (random(n * width, 2), random(width, 3), random(width, 4));
                let (dx, de) = (gear.put(&x), gear.put(&extra));
                let (dw, db) = (gear.put(&w), gear.put(&b));
                let (sum, dst) = (gear.scratch(n * width * 4), gear.scratch(n * width * 4));
                let a = Norm {
                    rows: Rows::plain(n, width),
                    x: dx.view(),
                    add: all.then(|| de.view()),
                    weight: all.then(|| dw.view()),
                    bias: all.then(|| db.view()),
                    sum: all.then(|| sum.view()),
                    dst: dst.view(),
                    q8: None,
                    eps: 1e-5,
                    mean: all,
                };
                norm(&gear.stream, &a).unwrap();
                let added: Vec<f32> =
                    x.iter().zip(&extra).map(|(a, b)| if all { a + b } else { *a }).collect();
                if all {
                    assert_eq!(gear.get::<f32>(sum.view(), n * width), added);
                }
                let (w, b) = (all.then_some(&w[..]), all.then_some(&b[..]));
                let rows = added.chunks(width).flat_map(|row| expected(row, w, b, all));
                close(&gear.get(dst.view(), n * width), &rows.collect::<Vec<_>>(), 1e-5);
            }
        }
    });
}

/// Two heads of each of three rows that are wider, where they stand.
#[test]
fn heads_in_place() {
    every_order(|| {
        let gear = Gear::new();
        let (stride, width) = (200, 64);
        let x = random(3 * stride, 5);
        let d = gear.put(&x);
        let rows = Rows { n: 6, width, per_group: 2, group_stride: stride };
        let view = d.view();
        let a = Norm {
            rows,
            x: view,
            add: None,
            weight: None,
            bias: None,
            sum: None,
            dst: view,
            q8: None,
            eps: 1e-5,
            mean: false,
        };
        norm(&gear.stream, &a).unwrap();
        let mut want: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        for head in 0..6 {
            let at = head / 2 * stride + head % 2 * width;
            let normed = expected(&x[at..at + width], None, None, false);
            want[at..at + width].copy_from_slice(&normed);
        }
        close(&gear.get(d.view(), x.len()), &want, 1e-5);
    });
}

/// The fused codes are those of the result, rounded as the CPU rounds.
#[test]
fn codes_beside_the_result() {
    every_order(|| {
        let gear = Gear::new();
        let (n, width) = (2, 160);
        let mut x = random(n * width, 6);
        x[..32].fill(0.0);
        let d = gear.put(&x);
        let (dst, codes) = (gear.scratch(n * width * 4), gear.scratch(n * width));
        let scales = gear.scratch(n * width / 32 * 8);
        let a = Norm {
            rows: Rows::plain(n, width),
            x: d.view(),
            add: None,
            weight: None,
            bias: None,
            sum: None,
            dst: dst.view(),
            q8: Some((codes.view(), scales.view())),
            eps: 1e-5,
            mean: false,
        };
        norm(&gear.stream, &a).unwrap();
        let y: Vec<f32> = gear.get(dst.view(), n * width);
        let codes: Vec<i8> = gear.get(codes.view(), n * width);
        let scales: Vec<f32> = gear.get(scales.view(), n * width / 32 * 2);
        for (b, block) in y.chunks(32).enumerate() {
            let amax = block.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let inverse = 127.0 / amax;
            let want = block
                .iter()
                .map(|v| if amax == 0.0 { 0 } else { (v * inverse).round_ties_even() as i8 });
            let want: Vec<i8> = want.collect();
            assert_eq!(codes[b * 32..][..32], want[..]);
            let sum: i32 = want.iter().map(|&c| i32::from(c)).sum();
            let scale = amax / 127.0;
            assert_eq!(scales[b * 2..][..2], [scale, scale * sum as f32]);
        }
    });
}
