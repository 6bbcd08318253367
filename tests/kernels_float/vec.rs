//! Norms, sums and rotary positions.

use powerinfer::backend::cpu::KernelTable;

use crate::guard::Guarded;
use crate::{LENGTHS, Rng, bits, reference};

#[test]
fn rms_norm_equals_f64() {
    for table in KernelTable::all_supported() {
        for n in LENGTHS {
            for (size, eps) in [(1.0, 1e-5), (1e-4, 1e-5), (1e15, 1e-6), (0.0, 1e-5)] {
                let mut rng = Rng::new(n as u64);
                let x: Vec<f32> = rng.floats(n).iter().map(|v| v * size).collect();
                let w = Guarded::new(&rng.floats(n));
                for w in [None, Some(&*w)] {
                    let mut y = Guarded::new(&vec![f32::NAN; n]);
                    table.rms_norm(&Guarded::new(&x), w, eps, &mut y);
                    let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
                    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                    for i in 0..n {
                        let want = f64::from(x[i]) * scale * w.map_or(1.0, |w| f64::from(w[i]));
                        let error = (f64::from(y[i]) - want).abs();
                        assert!(error <= 4e-7 * want.abs(), "{} {n} {want} {}", table.isa(), y[i]);
                    }
                    let mut here = Guarded::new(&x);
                    table.rms_norm_in_place(w, eps, &mut here);
                    assert_eq!(bits(&here), bits(&y), "{} {n} in place", table.isa());
                }
            }
        }
    }
}

#[test]
fn layer_norm_equals_f64() {
    for table in KernelTable::all_supported() {
        for n in LENGTHS {
            // The third is far from 0 and narrow: f32 means would lose half of the digits.
            for (at, size, eps) in [(0.0, 1.0, 1e-5), (0.3, 1e-4, 1e-5), (1000.0, 0.5, 0.0)] {
                let mut rng = Rng::new(n as u64);
                let x: Vec<f32> = rng.floats(n).iter().map(|v| at + v * size).collect();
                if n == 1 && eps == 0.0 {
                    continue; // 0 / 0
                }
                let (w, b) = (Guarded::new(&rng.floats(n)), Guarded::new(&rng.floats(n)));
                let (w, b) = (&*w, &*b);
                for (w, b) in [(None, None), (Some(w), None), (None, Some(b)), (Some(w), Some(b))] {
                    let mut y = Guarded::new(&vec![f32::NAN; n]);
                    table.layer_norm(&Guarded::new(&x), w, b, eps, &mut y);
                    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
                    let squares = x.iter().map(|v| (f64::from(*v) - mean).powi(2));
                    let scale = 1.0 / (squares.sum::<f64>() / n as f64 + f64::from(eps)).sqrt();
                    for i in 0..n {
                        let (w, b) = (w.map_or(1.0, |w| w[i]), b.map_or(0.0, |b| b[i]));
                        let (w, b) = (f64::from(w), f64::from(b));
                        let normed = (f64::from(x[i]) - mean) * scale * w;
                        let error = (f64::from(y[i]) - (normed + b)).abs();
                        // Where x is the mean, what is left of it is exact to 2^-48 of the mean.
                        let lost = 4e-15 * f64::from(at) * scale;
                        assert!(
                            error <= 5e-7 * (normed.abs() + b.abs()) + lost,
                            "{} {n} at {at}: {normed} + {b} {}",
                            table.isa(),
                            y[i]
                        );
                    }
                    let mut here = Guarded::new(&x);
                    table.layer_norm_in_place(w, b, eps, &mut here);
                    assert_eq!(bits(&here), bits(&y), "{} {n} in place", table.isa());
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
            let mut more = Guarded::new(&y);
            table.axpy(0.3, &Guarded::new(&x), &mut more);
            for i in 0..n {
                let want = f64::from(0.3f32) * f64::from(x[i]) + f64::from(y[i]);
                // At most a rounding of the product and one of the sum, both below 2.
                assert!((f64::from(more[i]) - want).abs() <= 9e-8, "{} {want}", table.isa());
            }
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
fn both_orders_of_pairs_rotate_to_the_same_bits() {
    let shapes = [(2, 2), (64, 64), (80, 32), (96, 96), (33, 30), (128, 2), (256, 256), (70, 66)];
    for table in KernelTable::all_supported() {
        for (head_dim, n_rot) in shapes.into_iter().chain([(16, 16), (7, 0)]) {
            let n_heads = 3;
            let mut rng = Rng::new(head_dim as u64);
            let adjacent = rng.floats(n_heads * head_dim);
            let cos_sin = rng.floats(n_rot);
            // Where an element of a head lies in the order of GPT-NeoX.
            let place = |i: usize| if i < n_rot { i / 2 + i % 2 * (n_rot / 2) } else { i };
            let mut apart = Guarded::new(&adjacent);
            for (i, x) in adjacent.iter().enumerate() {
                apart[i / head_dim * head_dim + place(i % head_dim)] = *x;
            }
            let mut want = adjacent;
            table.rope_norm(&mut want, head_dim, &cos_sin);
            table.rope_neox(&mut apart, head_dim, &Guarded::new(&cos_sin));
            for (i, want) in want.iter().enumerate() {
                let got = apart[i / head_dim * head_dim + place(i % head_dim)];
                assert_eq!(got.to_bits(), want.to_bits(), "{} {head_dim} {i}", table.isa());
            }
        }
    }
}

#[test]
#[should_panic(expected = "left == right")]
fn lengths_are_checked() {
    reference().add(&[1.0; 3], &mut [0.0; 4]);
}
