//! How far from zero activated gates are: what a calibration chooses thresholds by.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the mantissa that tell buckets apart: 64 buckets from one power of two to the next, each
/// 1 to 1.6 % wide.
const SUB_BITS: u32 = 6;
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - SUB_BITS;
/// All magnitudes, from 0 to infinity.
const BUCKETS: usize = (f32::INFINITY.to_bits() >> SHIFT) as usize + 1;

/// A histogram of |act(gate)| for each layer. Counts do not depend on the order in which threads
/// add to them.
#[derive(Debug)]
pub struct Gates {
    layers: Vec<Vec<AtomicU64>>,
}

impl Gates {
    /// Empty ones: 128 KiB a layer.
    pub fn new(n_layer: usize) -> Self {
        let empty = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { layers: (0..n_layer).map(|_| empty()).collect() }
    }

    /// Counts values of a layer; NaN is none.
    pub(crate) fn add(&self, layer: usize, acted: &[f32]) {
        for x in acted.iter().filter(|x| !x.is_nan()) {
            let bucket = (x.abs().to_bits() >> SHIFT) as usize;
            self.layers[layer][bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The magnitude that this share of a layer's values is below, to the width of a bucket, within
    /// which they count as evenly spread. 0 for a layer that was not seen.
    pub fn quantile(&self, layer: usize, share: f32) -> f32 {
        let counts = self.layers[layer].iter().map(|n| n.load(Ordering::Relaxed));
        let total: u64 = counts.clone().sum();
        let mut wanted = total as f64 * f64::from(share);
        if wanted <= 0.0 {
            return 0.0;
        }
        for (bucket, n) in counts.enumerate() {
            if n > 0 && wanted <= n as f64 {
                let edge = |bucket: usize| f64::from(f32::from_bits((bucket as u32) << SHIFT));
                let (low, high) = (edge(bucket), edge((bucket + 1).min(BUCKETS - 1)));
                if low.is_infinite() {
                    break;
                }
                return (low + (high - low) * wanted / n as f64) as f32;
            }
            wanted -= n as f64;
        }
        f32::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let gates = Gates::new(2);
        let values: Vec<f32> =
            (1..=1000).map(|i| i as f32 * if i % 2 == 0 { 0.01 } else { -0.01 }).collect();
        gates.add(1, &values);
        gates.add(1, &[f32::NAN]);
        for share in [0.01, 0.1, 0.5, 0.9, 1.0] {
            let (found, exact) = (gates.quantile(1, share), 10.0 * share);
            assert!((found / exact - 1.0).abs() < 0.016 + 0.001 / share, "{share}: {found}");
        }
        assert_eq!((gates.quantile(0, 0.5), gates.quantile(1, 0.0)), (0.0, 0.0));
    }

    #[test]
    fn zeros_and_infinity_have_buckets() {
        let gates = Gates::new(1);
        gates.add(0, &[0.0, -0.0, 0.0, f32::INFINITY]);
        let least = gates.quantile(0, 0.5);
        assert!(least > 0.0 && least < 1e-37, "silences zeros alone: {least}");
        assert_eq!(gates.quantile(0, 1.0), f32::INFINITY);
    }
}
