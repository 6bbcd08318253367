//! `kernels/elementwise.cu` and `kernels/embed.cu`

use powerinfer::backend::cuda::launch::{
    Embed, accumulate, activate, add, embed, gather, multiply, scale, softcap,
};
use powerinfer::quant::QuantType;
use powerinfer::tensor::Activation;

use super::cuda_support::every_order;
use super::support::{Gpu, close, random};

fn activated(act: Activation, x: f64) -> f64 {
    let sigmoid = |y: f64| 1.0 / (1.0 + (-y).exp());
    match act {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::GeluErf => 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2),
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Relu | Activation::DoubleRelu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::SwigluOai => x.min(7.0) * sigmoid(1.702 * x.min(7.0)),
    }
}

#[test]
fn activations() {
    every_order(|| {
        let gpu = Gpu::open();
        let n = 700;
        let far = |seed| random(n, seed).iter().map(|x| x * 12.0).collect::<Vec<f32>>();
        let (gate, up) = (far(1), far(2));
        let (dg, du, dst) = (gpu.upload(&gate), gpu.upload(&up), gpu.scratch(n * 4));
        for act in Activation::ALL {
            for gated in [true, false] {
                if !gated && matches!(act, Activation::SwigluOai | Activation::DoubleRelu) {
                    continue;
                }
                let other = gated.then(|| du.view());
                activate(&gpu.stream, act, dg.view(), other, dst.view(), n).unwrap();
                let want = |(&g, &u): (&f32, &f32)| {
                    let (g, u) = (activated(act, f64::from(g)), f64::from(u));
                    match (gated, act) {
                        (false, _) => g,
                        (_, Activation::DoubleRelu) => g * u.max(0.0),
                        (_, Activation::SwigluOai) => g * (u.clamp(-7.0, 7.0) + 1.0),
                        _ => g * u,
                    }
                };
                let want: Vec<f64> = gate.iter().zip(&up).map(want).collect();
                close(&gpu.download(&dst, n), &want, 1e-6);
            }
        }
    });
}

#[test]
fn sums_and_factors() {
    every_order(|| {
        let gpu = Gpu::open();
        let (n, period) = (600, 100);
        let (x, y) = (random(n, 1), random(period, 2));
        let (dx, dy, dst) = (gpu.upload(&x), gpu.upload(&y), gpu.scratch(n * 4));
        let holds = |f: &dyn Fn(usize) -> f32| {
            let want: Vec<f64> = (0..n).map(|i| f64::from(f(i))).collect();
            close(&gpu.download(&dst, n), &want, 1e-6);
        };
        let stream = &gpu.stream;
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
        let ids = gpu.upload(&[5_i32, 0, 2]);
        // SAFETY: there are six rows.
        unsafe { gather(stream, dx.view(), 6, ids.view(), dst.view(), 3, 100) }.unwrap();
        let want: Vec<f32> = [5, 0, 2].iter().flat_map(|&r| x[r * 100..][..100].to_vec()).collect();
        assert_eq!(gpu.download::<f32>(&dst, 300), want);
    });
}

/// Packed rows: F32 and F16 as they are, Q8_0 with the scales behind the codes.
#[test]
fn rows_of_a_table() {
    every_order(|| {
        let gpu = Gpu::open();
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
            let (d, i) = (gpu.upload(&table), gpu.upload(&ids));
            let dst = gpu.scratch(ids.len() * width * 4);
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
            unsafe { embed(&gpu.stream, &a) }.unwrap();
            let want: Vec<f32> =
                ids.iter().flat_map(|&r| numbers[r as usize * width..][..width].to_vec()).collect();
            assert_eq!(gpu.download::<f32>(&dst, want.len()), want, "{kind:?}");
        }
    });
}
