//! Norms, sums, activations and rotary positions.

use powerinfer::backend::cpu::KernelTable;
use powerinfer::tensor::Activation;

use crate::guard::Guarded;
use crate::{LENGTHS, Rng, bits, bits_or_nan, reference};

/// Distance in units of the last place of `want`'s f32, subnormals included.
fn ulps(got: f32, want: f64) -> f64 {
    let near = want as f32;
    let ulp = (f64::from(near.abs()) * f64::from(f32::EPSILON) / 2.0).max(2f64.powi(-149));
    (f64::from(got) - want).abs() / ulp
}

#[test]
fn rms_norm_equals_f64() {
    for table in KernelTable::all_supported() {
        for n in LENGTHS {
            for (size, eps) in [(1.0, 1e-5), (1e-4, 1e-5), (1e15, 1e-6), (0.0, 1e-5)] {
                let mut rng = Rng::new(n as u64);
                let x: Vec<f32> = rng.floats(n).iter().map(|v| v * size).collect();
                let w = rng.floats(n);
                let mut y = Guarded::new(&vec![f32::NAN; n]);
                table.rms_norm(&Guarded::new(&x), Some(&Guarded::new(&w)), eps, &mut y);
                let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
                let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                for i in 0..n {
                    let want = f64::from(x[i]) * scale * f64::from(w[i]);
                    let error = (f64::from(y[i]) - want).abs();
                    assert!(error <= 4e-7 * want.abs(), "{} {n} {want} {}", table.isa(), y[i]);
                }
            }
        }
    }
}

#[test]
fn sums_and_products_are_exact() {
    for table in KernelTable::all_supported() {
        for n in LENGTHS {
            let mut rng = Rng::new(n as u64);
            let (x, y) = (rng.floats(n), rng.floats(n));
            let mut sum = Guarded::new(&y);
            table.add(&Guarded::new(&x), &mut sum);
            let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(bits(&sum), bits(&want));
            let mut scaled = Guarded::new(&y);
            table.scale(0.3, &mut scaled);
            let want: Vec<f32> = y.iter().map(|y| y * 0.3).collect();
            assert_eq!(bits(&scaled), bits(&want));
        }
    }
}

#[test]
fn silu_is_within_4_ulp_everywhere() {
    // From where e^-x overflows through subnormal results to where it is nothing beside 1.
    let mut gate: Vec<f32> = (-110_000..110_000).map(|i| i as f32 * 1e-3 + 3e-5).collect();
    gate.extend((0..200).map(|i| 2f32.powi(i - 149)));
    gate.extend([0.0, -0.0, f32::MAX, f32::MIN_POSITIVE]);
    for table in KernelTable::all_supported() {
        let up = vec![1.0; gate.len()];
        let mut out = vec![f32::NAN; gate.len()];
        table.activate(Activation::Silu, &gate, Some(&up), &mut out);
        for (g, got) in gate.iter().zip(&out) {
            // e^88.73 overflows in f32, so the quotient is 0 where f64 has 1e-37.
            let wide = f64::from(*g);
            let want = if *g < -88.7 { 0.0 } else { wide / (1.0 + (-wide).exp()) };
            let small = *g < -88.7 && got.abs() < 1e-36;
            assert!(small || ulps(*got, want) <= 4.0, "{} silu({g}) = {got}", table.isa());
        }
    }
}

#[test]
fn silu_at_the_ends() {
    let gate = [f32::NAN, 1e30, -1e30, f32::INFINITY, 0.0, -0.0, 200.0, -200.0];
    for table in KernelTable::all_supported() {
        for n in 1..=gate.len() {
            let mut out = Guarded::new(&vec![7.0; n]);
            let (gate, up) = (Guarded::new(&gate[..n]), Guarded::new(&vec![2.0; n]));
            table.activate(Activation::Silu, &gate, Some(&up), &mut out);
            let want = [f32::NAN, 2e30, -0.0, f32::INFINITY, 0.0, -0.0, 400.0, -0.0];
            assert_eq!(bits_or_nan(&out), bits_or_nan(&want[..n]), "{}", table.isa());
        }
    }
}

#[test]
fn silu_does_not_depend_on_the_place() {
    for table in KernelTable::all_supported() {
        let mut rng = Rng::new(9);
        let gate: Vec<f32> = rng.floats(61).iter().map(|v| v * 20.0).collect();
        let up = rng.floats(61);
        let mut all = vec![0.0; 61];
        table.activate(Activation::Silu, &gate, Some(&up), &mut all);
        for i in 0..61 {
            let mut one = [0.0];
            table.activate(Activation::Silu, &gate[i..=i], Some(&up[i..=i]), &mut one);
            assert_eq!(one[0].to_bits(), all[i].to_bits(), "{} {i}", table.isa());
        }
    }
}

#[test]
fn rope_rotates_adjacent_pairs() {
    for table in KernelTable::all_supported() {
        for (head_dim, n_rot) in [(2, 2), (64, 64), (80, 32), (96, 96), (33, 30), (128, 2), (7, 0)]
        {
            let n_heads = 3;
            let mut rng = Rng::new(head_dim as u64);
            let x = rng.floats(n_heads * head_dim);
            let angles = rng.floats(n_rot / 2);
            let cos_sin: Vec<f32> =
                angles.iter().flat_map(|a| [(3.0 * a).cos(), (3.0 * a).sin()]).collect();
            let mut y = Guarded::new(&x);
            table.rope_norm(&mut y, head_dim, &Guarded::new(&cos_sin));
            for h in 0..n_heads {
                let (x, y) = (&x[h * head_dim..][..head_dim], &y[h * head_dim..][..head_dim]);
                for i in 0..n_rot / 2 {
                    let [a, b, c, s] =
                        [x[2 * i], x[2 * i + 1], cos_sin[2 * i], cos_sin[2 * i + 1]].map(f64::from);
                    let errors = [
                        f64::from(y[2 * i]) - (a * c - b * s),
                        f64::from(y[2 * i + 1]) - (a * s + b * c),
                    ];
                    assert!(errors.iter().all(|e| e.abs() < 1.2e-7), "{} {errors:?}", table.isa());
                }
                assert_eq!(bits(&x[n_rot..]), bits(&y[n_rot..]), "{} tail", table.isa());
                let mut alone = x.to_vec();
                table.rope_norm(&mut alone, head_dim, &cos_sin);
                assert_eq!(bits(&alone), bits(y), "{} head {h} alone", table.isa());
            }
        }
    }
}

#[test]
#[should_panic(expected = "left == right")]
fn lengths_are_checked() {
    reference().add(&[1.0; 3], &mut [0.0; 4]);
}
