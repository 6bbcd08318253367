//! Made-up logits, the same here as in `tests/tools/sampler_goldens.py`.

/// Fractions of 24 bits from splitmix64 of seed, seed + 1, …
fn uniform(seed: u64, i: u64) -> f64 {
    let mut z = (i + seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f64 / 16_777_216.0
}

/// The same as `logits` of the script.
pub(crate) fn logits(kind: &str, n: usize, seed: u64) -> Vec<f32> {
    let bell = |i: usize| {
        let part = |k: u64| uniform(seed * 4_000_037 + k * 1_000_003, i as u64);
        part(0) + part(1) + part(2) + part(3) - 2.0
    };
    let logit = |i| match kind {
        "normal" => bell(i) * 6.0,
        "ties" => (bell(i) * 6.0).floor(),
        "wide" => bell(i) * 60.0,
        "huge" => bell(i) * 1.5e38,
        "peaked" if i == seed as usize % n => bell(i) + 12.0,
        "peaked" => bell(i),
        "ending" if i == n - 1 => 10.0 + seed as f64 * 0.25,
        "flat" => bell(i) * 0.0,
        "silent" => f64::NEG_INFINITY,
        "masked" if i % 3 == 0 => f64::NEG_INFINITY,
        "masked" | "ending" => bell(i) * 6.0,
        _ => panic!("no logits of kind {kind}"),
    };
    (0..n).map(|i| logit(i) as f32).collect()
}
