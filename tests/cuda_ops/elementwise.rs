//! `kernels/elementwise.cu` and `kernels/embed.cu`

use powerinfer::backend::cuda::launch::{
    Activate, Embed, accumulate, activate, add, embed, gather, multiply, scale, softcap,
};
use powerinfer::quant::QuantType;
use powerinfer::tensor::Activation;

use super::cuda_support::every_order;
use super::gear::{Gear, activated, close, random};

#[test]
fn activations() {
    every_order(|| {
        let gear = Gear::new();
        // Rows of a gate, an up and four numbers that are neither.
        let (n, width, stride) = (7, 100, 204);
        let x: Vec<f32> = random(n * stride, 1).iter().map(|x| x * 12.0).collect();
        let (dx, dst) = (gear.put(&x), gear.scratch(n * width * 4));
        for act in Activation::ALL {
            for gated in [true, false] {
                if !gated && act.is_gated_only() {
                    continue;
                }
                let up = gated.then(|| dx.view().from(width * 4));
                let a = Activate { gate: dx.view(), up, stride, n, width, dst: dst.view() };
                activate(&gear.stream, act, &a).unwrap();
                let want = x.chunks(stride).flat_map(|row| {
                    let pairs = row[..width].iter().zip(&row[width..2 * width]);
                    pairs.map(|(&g, &u)| {
                        activated(act, f64::from(g), if gated { f64::from(u) } else { 1.0 })
                    })
                });
                close(&gear.get(dst.view(), n * width), &want.collect::<Vec<f64>>(), 1e-6);
            }
        }
    });
}

#[test]
fn sums_and_factors() {
    every_order(|| {
        let gear = Gear::new();
        let (n, period) = (600, 100);
        let (x, y) = (random(n, 1), random(period, 2));
        let (dx, dy, dst) = (gear.put(&x), gear.put(&y), gear.scratch(n * 4));
        let holds = |f: &dyn Fn(usize) -> f32| {
            let want: Vec<f64> = (0..n).map(|i| f64::from(f(i))).collect();
            close(&gear.get(dst.view(), n), &want, 1e-6);
        };
        let stream = &gear.stream;
        add(stream, dx.view(), dy.view(), dst.view(), n, period).unwrap();
        holds(&|i| x[i] + y[i % period]);
        multiply(stream, dx.view(), dy.view(), dst.view(), n, period).unwrap();
        holds(&|i| x[i] * y[i % period]);
        scale(stream, dx.view(), dst.view(), n, 3.0, 0.5).unwrap();
        holds(&|i| x[i] * 3.0 + 0.5);
        accumulate(stream, dx.view(), dst.view(), n, -2.0).unwrap();
        holds(&|i| x[i] + 0.5);
        softcap(stream, dx.view(), dst.view(), n, 0.3).unwrap();
        holds(&|i| 0.3 * (x[i] / 0.3).tanh());
        // Ids that lead out of the six rows are those of the last and the first.
        let ids = gear.put(&[77_i32, 0, 2, -3]);
        gather(stream, dx.view(), 6, ids.view(), dst.view(), 4, 100).unwrap();
        let want: Vec<f32> =
            [5, 0, 2, 0].iter().flat_map(|&r| x[r * 100..][..100].to_vec()).collect();
        assert_eq!(gear.get::<f32>(dst.view(), 400), want);
    });
}

/// Packed rows: F32 and F16 as they are, Q8_0 with the scales behind the codes.
#[test]
fn rows_of_a_table() {
    every_order(|| {
        let gear = Gear::new();
        let (n_rows, width) = (7, 96);
        for kind in [QuantType::F32, QuantType::F16, QuantType::Q8_0] {
            let (mut table, mut numbers) = (Vec::new(), Vec::new());
            let mut row_bytes = 0;
            for r in 0..n_rows {
                let x = random(width, r as u32);
                let half = |v: f32| half::f16::from_f32(v);
                let begin = table.len();
                match kind {
                    QuantType::F32 => {
                        table.extend(x.iter().flat_map(|v| v.to_le_bytes()));
                        numbers.extend(x);
                    }
                    QuantType::F16 => {
                        table.extend(x.iter().flat_map(|&v| half(v).to_le_bytes()));
                        numbers.extend(x.iter().map(|&v| half(v).to_f32()));
                    }
                    _ => {
                        let code = |v: f32| (v * 100.0) as i8;
                        let d = |i: usize| half(0.01 * (i / 32 + 1) as f32);
                        table.extend(x.iter().map(|&v| code(v) as u8));
                        table.extend((0..width / 32).flat_map(|b| d(b * 32).to_le_bytes()));
                        let at = |(i, &v): (usize, &f32)| d(i).to_f32() * f32::from(code(v));
                        numbers.extend(x.iter().enumerate().map(at));
                    }
                }
                table.resize(table.len().next_multiple_of(16), 0);
                row_bytes = table.len() - begin;
            }
            let ids = [6_i32, 0, 3, 6];
            let (d, i) = (gear.put(&table), gear.put(&ids));
            let dst = gear.scratch(ids.len() * width * 4);
            let a = Embed {
                table: d.view(),
                kind,
                n_rows,
                row_bytes,
                ids: i.view(),
                n_ids: ids.len(),
                dst: dst.view(),
                width,
            };
            // SAFETY: all ids are less than 7.
            unsafe { embed(&gear.stream, &a) }.unwrap();
            let want: Vec<f32> =
                ids.iter().flat_map(|&r| numbers[r as usize * width..][..width].to_vec()).collect();
            assert_eq!(gear.get::<f32>(dst.view(), want.len()), want, "{kind:?}");
        }
    });
}
