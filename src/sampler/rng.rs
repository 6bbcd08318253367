//! The random numbers of C++'s `<random>` as libstdc++ computes them, so that a seed gives the
//! same tokens here as in llama.cpp.

use std::hash::{BuildHasher, RandomState};

/// `LLAMA_DEFAULT_SEED`: stands for "a seed of the library's own, different each time".
pub const DEFAULT_SEED: u32 = u32::MAX;

const N: usize = 624;
const M: usize = 397;

/// A seed as the user gave it, and the generator that it started.
#[derive(Clone)]
pub(super) struct Rng {
    wanted: u32,
    current: u32,
    state: Box<[u32; N]>,
    next: usize,
}

impl Rng {
    /// A generator for `seed`; [`DEFAULT_SEED`] draws a random one.
    pub(super) fn new(seed: u32) -> Self {
        let mut rng = Self { wanted: seed, current: seed, state: Box::new([0; N]), next: N };
        rng.reset();
        rng
    }

    /// Starts over from the seed that the user gave, so [`DEFAULT_SEED`] draws a new one.
    pub(super) fn reset(&mut self) {
        self.current = match self.wanted {
            DEFAULT_SEED => random_seed(),
            seed => seed,
        };
        self.state[0] = self.current;
        for i in 1..N {
            let last = self.state[i - 1];
            let mixed = (last ^ (last >> 30)).wrapping_mul(1_812_433_253);
            // i < 624 fits u32
            self.state[i] = mixed.wrapping_add(i as u32);
        }
        self.next = N;
    }

    /// The seed in use.
    pub(super) fn seed(&self) -> u32 {
        self.current
    }

    /// The next 32 bits of the Mersenne Twister (Matsumoto and Nishimura 1998).
    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// `uniform_real_distribution<double>(0, 1)`: two draws, the first one the low half.
    pub(super) fn uniform_f64(&mut self) -> f64 {
        const TWO_32: f64 = 4_294_967_296.0;
        let low = f64::from(self.next_u32());
        let x = (low + f64::from(self.next_u32()) * TWO_32) / (TWO_32 * TWO_32);
        // Rounding can give exactly 1, which is outside [0, 1).
        x.min(1.0f64.next_down())
    }

    /// `uniform_real_distribution<float>(0, 1)`: one draw.
    pub(super) fn uniform_f32(&mut self) -> f32 {
        let x = self.next_u32() as f32 / 4_294_967_296.0;
        x.min(1.0f32.next_down())
    }

    /// `discrete_distribution<int>`: an index with probability proportional to its weight. A single
    /// weight takes no draw. The result is below `weights.len()`, or 0 when there are none.
    pub(super) fn discrete(
        &mut self,
        weights: impl ExactSizeIterator<Item = f32> + Clone,
    ) -> usize {
        let n = weights.len();
        if n < 2 {
            return 0;
        }
        let sum: f64 = weights.clone().fold(0.0, |sum, w| sum + f64::from(w));
        let mut run = 0.0;
        let mut bounds: Vec<f64> = weights
            .map(|w| {
                run += f64::from(w) / sum;
                run
            })
            .collect();
        bounds[n - 1] = 1.0; // whatever the rounding was
        let draw = self.uniform_f64();
        bounds.partition_point(|&bound| bound < draw).min(n - 1)
    }
}

/// 32 bits from the operating system, through the keys that the standard library draws for its
/// hash maps.
fn random_seed() -> u32 {
    let bits = RandomState::new().hash_one(std::time::Instant::now());
    // DEFAULT_SEED itself would say "no seed" to who asks for the seed in use.
    ((bits >> 32) as u32).min(DEFAULT_SEED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_mt19937() {
        // The C++ standard fixes the 10000th output of the default seed 5489.
        let mut rng = Rng::new(5489);
        let last = (0..10_000).map(|_| rng.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn default_seed_is_random_and_reset_draws_anew() {
        let (mut a, b) = (Rng::new(DEFAULT_SEED), Rng::new(DEFAULT_SEED));
        assert_ne!(a.seed(), b.seed());
        let first = a.seed();
        a.reset();
        assert_ne!(a.seed(), first);
        assert_ne!(a.seed(), DEFAULT_SEED);
    }

    #[test]
    fn reset_starts_over_and_clone_goes_on() {
        let mut rng = Rng::new(7);
        let first = rng.uniform_f64();
        let mut twin = rng.clone();
        assert_eq!(rng.uniform_f64(), twin.uniform_f64());
        rng.reset();
        assert_eq!(rng.uniform_f64(), first);
    }

    #[test]
    fn discrete_follows_the_weights_and_stays_in_range() {
        let mut rng = Rng::new(1);
        let mut hits = [0; 3];
        for _ in 0..10_000 {
            hits[rng.discrete([1.0, 0.0, 3.0].into_iter())] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!((2300..2700).contains(&hits[0]), "a quarter of 10000: {hits:?}");
        for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            assert!(rng.discrete([bad, bad, bad].into_iter()) < 3);
        }
        let before = rng.clone().next_u32();
        assert_eq!(rng.discrete([0.3].into_iter()), 0);
        assert_eq!(rng.next_u32(), before, "one weight takes no draw");
    }
}
