//! Random numbers that any element can be asked for alone, and what is known of normal ones.
//!
//! Everything here is exact or in `libm`, so that every machine makes the same file.

/// Normal numbers by their index: no state, so that rows can be made in any order and in parallel.
#[derive(Clone, Copy)]
pub struct Normals {
    key: u64,
}

impl Normals {
    /// The numbers of one matrix of one layer.
    pub fn new(seed: u64, layer: usize, matrix: u64) -> Self {
        let key = mix(mix(mix(seed) ^ layer as u64) ^ matrix << 32);
        Self { key }
    }

    /// Number `i`: a sum of four uniform ones, which a model cannot tell from a normal one. Its
    /// mean is 0, its variance 1.
    pub fn at(self, i: u64) -> f32 {
        /// The standard deviation of the sum: `sqrt(4 * (65536^2 - 1) / 12)`.
        const DEVIATION: f32 = 37_837.227;
        let bits = mix(self.key.wrapping_add(i.wrapping_mul(GOLDEN)));
        let quarter = |shift: u32| (bits >> shift & 0xffff) as i32;
        let sum = quarter(0) + quarter(16) + quarter(32) + quarter(48);
        (sum - 2 * 65535) as f32 * (1.0 / DEVIATION)
    }

    /// Bits for other uses, such as an order.
    pub fn bits(self, i: u64) -> u64 {
        mix(!self.key ^ mix(i))
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The last step of SplitMix64: each bit of the result depends on all of `z`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Share of normal numbers below `x`.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The number below which this share of normal numbers is, by bisection.
pub fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Mean of `max(z + m, 0)^2` over normal `z`.
pub fn rectified_square(m: f64) -> f64 {
    (1.0 + m * m) * normal_cdf(m) + m * density(m)
}

/// Mean of `max(z + m, 0)^4` over normal `z`.
pub fn rectified_fourth(m: f64) -> f64 {
    let m2 = m * m;
    (m2 * m2 + 6.0 * m2 + 3.0) * normal_cdf(m) + (m2 + 5.0) * m * density(m)
}

fn density(x: f64) -> f64 {
    libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * std::f64::consts::PI)
}

/// How often each of `n` neurons fires, in random order: a power law with this mean, of which the
/// 26 % busiest neurons have 80 %, cut at both ends so that none is always or never at work.
pub fn firing_rates(n: usize, mean: f64, order: Normals) -> Vec<f64> {
    const BUSIEST: f64 = 0.26;
    const THEIR_SHARE: f64 = 0.80;
    let exponent = 1.0 - libm::log(THEIR_SHARE) / libm::log(BUSIEST);
    let (least, most) = (f64::min(1e-3, mean / 10.0), f64::max(0.98, mean));
    let powers: Vec<f64> =
        (0..n).map(|i| libm::pow((i as f64 + 0.5) / n as f64, -exponent)).collect();
    let rates = |scale: f64| powers.iter().map(move |p| (scale * p).clamp(least, most));
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if rates(middle).sum::<f64>() < mean * n as f64 { low = middle } else { high = middle }
    }
    let mut places: Vec<usize> = (0..n).collect();
    places.sort_by_key(|&i| order.bits(i as u64));
    let mut shuffled = vec![0.0; n];
    places.iter().zip(rates(0.5 * (low + high))).for_each(|(&place, rate)| shuffled[place] = rate);
    shuffled
}
