//! Activations, soft caps and the softmax of routers.

use powerinfer::backend::cpu::KernelTable;
use powerinfer::tensor::Activation;

use crate::guard::Guarded;
use crate::{LENGTHS, Rng, bits, bits_or_nan, reference};

/// Distance in units of 2^-24 of `want`, which is half a unit of its last place or one; steps of
/// subnormal numbers are whole units.
fn ulps(got: f32, want: f64) -> f64 {
    let near = want as f32;
    let ulp = (f64::from(near.abs()) * f64::from(f32::EPSILON) / 2.0).max(2f64.powi(-149));
    (f64::from(got) - want).abs() / ulp
}

/// Probability that a normal variable is below `x`: a series near 0, a continued fraction beyond.
fn normal_cdf(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let a = x.abs();
    if a < 2.0 {
        let mut term = a;
        let mut sum = a;
        for k in 1..60 {
            term *= a * a / f64::from(2 * k + 1);
            sum += term;
        }
        return 0.5 + (density * sum).copysign(x);
    }
    let tail = density / (1..200).rev().fold(a, |below, k| a + f64::from(k) / below);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[test]
fn the_normal_distribution_of_these_tests_is_right() {
    // Abramowitz and Stegun, tables 26.1 and 26.2.
    for (x, want) in [
        (0.0, 0.5),
        (0.5, 0.691_462_461_274_013),
        (1.0, 0.841_344_746_068_543),
        (-2.0, 0.022_750_131_948_179),
        (-3.0, 0.001_349_898_031_630),
    ] {
        assert!((normal_cdf(x) - want).abs() < 1e-14, "{x} {}", normal_cdf(x));
    }
    assert!((normal_cdf(-10.0) / 7.619_853_024_160_47e-24 - 1.0).abs() < 1e-12);
}

/// `act(x)` in f64, and how many units in the last place its f32 may be off.
fn expected(act: Activation, x: f64) -> (f64, f64) {
    // A rounding of the exponent's argument t moves e^t by up to |t| units.
    let times_sigmoid =
        |t: f64, roundings: f64| (x / (1.0 + (-t).exp()), 4.0 + roundings * t.abs());
    match act {
        Activation::Silu => times_sigmoid(x, 0.0),
        Activation::Gelu => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            // Seven of them in the plain loop, which do not all go the same way.
            times_sigmoid(2.0 * u, 4.0)
        }
        Activation::GeluErf => (x * normal_cdf(x), 8.0),
        Activation::GeluQuick => times_sigmoid(1.702 * x, 2.0),
        Activation::Relu | Activation::DoubleRelu => (x.max(0.0), 0.0),
        Activation::ReluSquared => (x.max(0.0).powi(2), 1.0),
        // With `up` 0 the other factor is 1.
        Activation::SwigluOai => expected(Activation::GeluQuick, x.min(7.0)),
    }
}

/// Halves that make a gated layer equal to a plain one, whatever the activation.
fn neutral(act: Activation, n: usize) -> Vec<f32> {
    vec![if act == Activation::SwigluOai { 0.0 } else { 1.0 }; n]
}

#[test]
fn activations_are_accurate_everywhere() {
    // From where e^-x overflows through subnormal results to where it is nothing beside 1.
    let mut gate: Vec<f32> = (-55_000..55_000).map(|i| i as f32 * 2e-3 + 3e-5).collect();
    gate.extend((-40_000..40_000).map(|i| i as f32 * 4e-4 + 7e-6));
    gate.extend((0..200).flat_map(|i| [2f32.powi(i - 149), -(2f32.powi(i - 149))]));
    gate.extend([0.0, -0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE]);
    for table in KernelTable::all_supported() {
        for act in Activation::ALL {
            let up = neutral(act, gate.len());
            let mut out = vec![f32::NAN; gate.len()];
            table.activate(act, &gate, Some(&up), &mut out);
            if !act.is_gated_only() {
                let mut plain = vec![f32::NAN; gate.len()];
                table.activate(act, &gate, None, &mut plain);
                assert_eq!(bits(&plain), bits(&out), "{} {act:?} without up", table.isa());
            }
            for (g, got) in gate.iter().zip(&out) {
                let (want, bound) = expected(act, f64::from(*g));
                // e^88.73 overflows in f32, so the quotient is 0 where f64 has 1e-37.
                let small = got.abs() < 1e-36 && want.abs() < 1e-36 && *g < -5.0;
                assert!(
                    small || ulps(*got, want) <= bound,
                    "{} {act:?}({g}) = {got}, not {want}: {} units",
                    table.isa(),
                    ulps(*got, want)
                );
            }
        }
    }
}

#[test]
fn activations_at_the_ends() {
    let inf = f32::INFINITY;
    let gate = [f32::NAN, 1e15, -1e15, inf, 0.0, -0.0, 200.0, -200.0, f32::MIN];
    for act in Activation::ALL {
        let want = match act {
            Activation::ReluSquared => {
                [f32::NAN, 1e15 * 1e15, 0.0, inf, 0.0, 0.0, 40000.0, 0.0, 0.0]
            }
            // 7 / (1 + e^(-7 * 1.702))
            Activation::SwigluOai => {
                let most = 6.999_953;
                [f32::NAN, most, -0.0, most, 0.0, -0.0, most, -0.0, -0.0]
            }
            Activation::Relu | Activation::DoubleRelu => {
                [f32::NAN, 1e15, 0.0, inf, 0.0, -0.0, 200.0, 0.0, 0.0]
            }
            _ => [f32::NAN, 1e15, -0.0, inf, 0.0, -0.0, 200.0, -0.0, -0.0],
        };
        for table in KernelTable::all_supported() {
            for n in 1..=gate.len() {
                let mut out = Guarded::new(&vec![7.0; n]);
                let up = Guarded::new(&neutral(act, n));
                table.activate(act, &Guarded::new(&gate[..n]), Some(&up), &mut out);
                for (i, (got, want)) in out.iter().zip(want).enumerate() {
                    let same = bits_or_nan(&[*got]) == bits_or_nan(&[want]);
                    let near = act == Activation::SwigluOai && (got - want).abs() < 2e-6;
                    assert!(same || near, "{} {act:?}({}) = {got}", table.isa(), gate[i]);
                }
            }
            let mut out = [7.0];
            table.activate(act, &[-inf], Some(&neutral(act, 1)), &mut out);
            let zero =
                matches!(act, Activation::Relu | Activation::ReluSquared | Activation::DoubleRelu);
            assert_eq!(
                bits_or_nan(&out),
                bits_or_nan(&[if zero { 0.0 } else { f32::NAN }]),
                "{} {act:?}(-inf)",
                table.isa()
            );
        }
    }
}

#[test]
fn gated_layers_multiply_with_the_other_half() {
    let mut rng = Rng::new(4);
    for table in KernelTable::all_supported() {
        for act in Activation::ALL {
            for n in LENGTHS {
                let gate: Vec<f32> = rng.floats(n).iter().map(|v| v * 9.0).collect();
                let up: Vec<f32> = rng.floats(n).iter().map(|v| v * 9.0).collect();
                let mut out = Guarded::new(&vec![f32::NAN; n]);
                table.activate(act, &Guarded::new(&gate), Some(&Guarded::new(&up)), &mut out);
                for i in 0..n {
                    let (want, bound) = expected(act, f64::from(gate[i]));
                    let factor = match act {
                        Activation::SwigluOai => f64::from(up[i]).clamp(-7.0, 7.0) + 1.0,
                        Activation::DoubleRelu => f64::from(up[i]).max(0.0),
                        _ => f64::from(up[i]),
                    };
                    let error = (f64::from(out[i]) - want * factor).abs();
                    // The sum in `up + 1` is rounded before it cancels.
                    let allowed =
                        (bound + 2.0) * 1.2e-7 * (want * factor).abs() + 1e-7 * want.abs();
                    assert!(error <= allowed, "{} {act:?} {} {}", table.isa(), gate[i], up[i]);
                }
            }
        }
        let mut out = [0.0; 3];
        let up = [f32::NAN, 1e30, -1e30];
        table.activate(Activation::SwigluOai, &[9.0; 3], Some(&up), &mut out);
        assert!(out[0].is_nan() && (out[1] - 55.9996).abs() < 1e-3, "{out:?}");
        assert!((out[2] + 41.9997).abs() < 1e-3, "{out:?}");
        let gate = [3.0, f32::NAN, -3.0, 3.0, 3.0, -0.0];
        let up = [f32::NAN, 2.0, -2.0, -2.0, f32::INFINITY, -2.0];
        let mut out = [7.0; 6];
        table.activate(Activation::DoubleRelu, &gate, Some(&up), &mut out);
        let want = [f32::NAN, f32::NAN, 0.0, 0.0, f32::INFINITY, -0.0];
        assert_eq!(bits_or_nan(&out), bits_or_nan(&want), "{}", table.isa());
    }
}

#[test]
fn activations_and_caps_do_not_depend_on_the_place() {
    for table in KernelTable::all_supported() {
        let mut rng = Rng::new(9);
        let gate: Vec<f32> = rng.floats(61).iter().map(|v| v * 20.0).collect();
        let up = rng.floats(61);
        for act in Activation::ALL {
            let mut all = vec![0.0; 61];
            table.activate(act, &gate, Some(&up), &mut all);
            for i in 0..61 {
                let mut one = [0.0];
                table.activate(act, &gate[i..=i], Some(&up[i..=i]), &mut one);
                assert_eq!(one[0].to_bits(), all[i].to_bits(), "{} {act:?} {i}", table.isa());
            }
        }
        let mut all = gate.clone();
        table.soft_cap(5.0, &mut all);
        for i in 0..61 {
            let mut one = [gate[i]];
            table.soft_cap(5.0, &mut one);
            assert_eq!(one[0].to_bits(), all[i].to_bits(), "{} {i}", table.isa());
        }
    }
}

#[test]
fn soft_caps_are_within_6_ulp() {
    let mut x: Vec<f32> = (-40_000..40_000).map(|i| i as f32 * 0.01 + 3e-4).collect();
    x.extend((0..160).map(|i| 2f32.powi(i - 120)));
    for table in KernelTable::all_supported() {
        for cap in [30.0, 50.0] {
            let mut y = Guarded::new(&x);
            table.soft_cap(cap, &mut y);
            for (x, got) in x.iter().zip(&*y) {
                let want = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                assert!(ulps(*got, want) <= 6.0, "{} {x} {got} {want}", table.isa());
            }
        }
        let mut ends = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0];
        table.soft_cap(30.0, &mut ends);
        assert_eq!(bits_or_nan(&ends), bits_or_nan(&[30.0, -30.0, f32::NAN, -0.0]));
    }
}

#[test]
fn softmax_equals_f64() {
    for n in LENGTHS {
        let x: Vec<f32> = Rng::new(n as u64).floats(n).iter().map(|v| 300.0 + v * 40.0).collect();
        let mut y = x.clone();
        reference().softmax(&mut y);
        let greatest = f64::from(x.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = x.iter().map(|v| (f64::from(*v) - greatest).exp()).sum();
        for (x, got) in x.iter().zip(&y) {
            let want = (f64::from(*x) - greatest).exp() / sum;
            assert!((f64::from(*got) - want).abs() <= 4e-7 * want, "{n} {got} {want}");
        }
    }
    let mut y = [f32::NEG_INFINITY, 2.0, 2.0];
    reference().softmax(&mut y);
    assert_eq!(y, [0.0, 0.5, 0.5]);
    let mut y = [f32::NAN, 1.0];
    reference().softmax(&mut y);
    assert!(y.iter().all(|v| v.is_nan()));
    reference().softmax(&mut []);
}

/// `max(x - mean - n_std * deviation, 0)`, step by step in f64.
fn beyond_f64(n_std: f64, x: &[f32]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares: f64 = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    let cutoff = mean + n_std * (squares / (n - 1.0)).sqrt();
    x.iter().map(|&x| (f64::from(x) - cutoff).max(0.0)).collect()
}

#[test]
fn what_stands_out_is_beyond_the_cutoff() {
    for n in LENGTHS.into_iter().filter(|&n| n > 1) {
        let x: Vec<f32> = Rng::new(n as u64).floats(n).iter().map(|v| 3.0 + v * 2.0).collect();
        for n_std in [1.644_853_6, 0.0, -1.0] {
            let mut y = vec![9.0; n];
            reference().beyond(n_std, &x, &mut y);
            for (got, want) in y.iter().zip(beyond_f64(f64::from(n_std), &x)) {
                assert!((f64::from(*got) - want).abs() < 2e-6, "{n}, {n_std}: {got} {want}");
            }
        }
    }
    // A sum of twelve even numbers is nearly a Gaussian's.
    let mut rng = Rng::new(1);
    let x: Vec<f32> = (0..20_000).map(|_| rng.floats(12).iter().sum()).collect();
    let mut y = vec![0.0; x.len()];
    reference().beyond(1.644_853_6, &x, &mut y);
    let share = y.iter().filter(|y| **y > 0.0).count() as f64 / y.len() as f64;
    assert!((share - 0.05).abs() < 0.006, "{share}");
}

#[test]
fn what_stands_out_of_the_same_numbers_is_nothing() {
    let mut y = [1.0; 3];
    reference().beyond(1.0, &[2.0; 3], &mut y);
    assert_eq!(y, [0.0; 3]);
    reference().beyond(1.0, &[2.0], &mut y[..1]);
    reference().beyond(1.0, &[], &mut []);
    assert_eq!(y[0], 0.0);
    let mut y = [0.0; 20];
    let mut x = [1.0; 20];
    x[17] = f32::NAN;
    reference().beyond(1.0, &x, &mut y);
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
#[should_panic(expected = "SwigluOai needs both halves")]
fn gated_only_means_it() {
    reference().activate(Activation::SwigluOai, &[1.0], None, &mut [0.0]);
}

#[test]
#[should_panic(expected = "DoubleRelu needs both halves")]
fn half_a_double_relu_is_none() {
    reference().activate(Activation::DoubleRelu, &[1.0], None, &mut [0.0]);
}
