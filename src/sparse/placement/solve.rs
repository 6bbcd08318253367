//! One choice per layer so that the sum of times is least and the sum of bytes within a cap: a
//! multiple-choice knapsack (Sinha and Zoltners, Operations Research 27, 1979), by branch and bound
//! over its linear relaxation.

use super::curve::{Curve, Hull, first_fastest};

/// Segments of hulls that are sorted rather than told apart by another step of the bisection.
const FEW: usize = 64;

/// A choice within the cap.
pub(super) struct Solved {
    /// Numbers of the points that are chosen, by layer.
    pub choice: Vec<usize>,
    /// No choice takes less time than this, in seconds.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the choice against it"))]
    pub bound: f64,
}

/// The fastest choice within the cap. `start` is one, to be bettered; the time of the result is
/// within the relative tolerance of the least if `max_nodes` relaxations are enough to show it.
/// Before that it is within what one segment of one hull saves: the relaxation splits no more.
pub(super) fn solve(
    curves: &[Curve],
    cap: u64,
    start: &[usize],
    tolerance: f64,
    max_nodes: usize,
) -> Solved {
    let hulls = curves.iter().map(|curve| curve.hull(0..curve.points.len())).collect();
    let cap = cap - cap % unit(curves).max(1);
    let mut search = Search {
        curves,
        cap,
        hulls,
        best: start.to_vec(),
        best_seconds: seconds(curves, start),
        tolerance,
        nodes_left: max_nodes,
    };
    // With all choices left: the first node's.
    let bound = search.relax().map_or(0.0, |relaxed| relaxed.seconds);
    search.node();
    Solved { choice: search.best, bound }
}

/// Bytes that all choices take a multiple of: a cap between two multiples is no better than the
/// lower one, and says less.
fn unit(curves: &[Curve]) -> u64 {
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let points = |curve: &'_ Curve| {
        let [first, .., last] = curve.points[..] else { return [0; 2] };
        [curve.points[1].bytes - first.bytes, last.bytes]
    };
    curves.iter().flat_map(points).fold(0, gcd)
}

fn seconds(curves: &[Curve], choice: &[usize]) -> f64 {
    curves.iter().zip(choice).map(|(curve, &at)| curve.points[at].seconds).sum()
}

/// The best mixture of choices.
struct Relaxed {
    /// Its time: no choice takes less.
    seconds: f64,
    /// What is left of it when the mixed layer takes the choice below: within the cap.
    choice: Vec<usize>,
    /// The layer that is mixed, and the last of its points that the bytes are enough for.
    split: Option<(usize, usize)>,
}

struct Search<'a> {
    curves: &'a [Curve],
    cap: u64,
    /// Of the choices that are left to each layer.
    hulls: Vec<Hull>,
    best: Vec<usize>,
    best_seconds: f64,
    tolerance: f64,
    nodes_left: usize,
}

impl Search<'_> {
    fn node(&mut self) {
        if self.nodes_left == 0 {
            return;
        }
        self.nodes_left -= 1;
        let Some(relaxed) = self.relax() else { return };
        let found = seconds(self.curves, &relaxed.choice);
        if found < self.best_seconds {
            (self.best, self.best_seconds) = (relaxed.choice, found);
        }
        let Some((il, at)) = relaxed.split else { return };
        // No choice takes the bytes of the mixture: each takes less, or more.
        let range = self.hulls[il].range.clone();
        for part in [range.start..at + 1, at + 1..range.end] {
            if relaxed.seconds >= self.best_seconds * (1.0 - self.tolerance) {
                return;
            }
            let whole = std::mem::replace(&mut self.hulls[il], self.curves[il].hull(part));
            self.node();
            self.hulls[il] = whole;
        }
    }

    /// The best mixture; `None` when the least choices are too many bytes.
    fn relax(&self) -> Option<Relaxed> {
        // Segments that save more per byte than the price are taken, `below` up to the cap.
        let n_taken = |price: f64| -> Vec<usize> {
            self.hulls.iter().map(|hull| hull.gains.partition_point(|&g| g > price)).collect()
        };
        let bytes_of = |n_taken: &[usize]| -> u64 {
            let layers = self.hulls.iter().zip(self.curves).zip(n_taken);
            layers.map(|((hull, curve), &n)| curve.points[hull.at[n]].bytes).sum()
        };
        let (mut low, mut high) = (0.0f64, f64::INFINITY);
        let (mut taken, mut all) = (vec![0; self.hulls.len()], n_taken(low));
        let mut bytes = bytes_of(&taken);
        if bytes > self.cap {
            return None;
        }
        if bytes_of(&all) <= self.cap {
            taken = all;
        } else {
            loop {
                let n_open: usize = all.iter().zip(&taken).map(|(all, n)| all - n).sum();
                // Positive floats are ordered as their bits are.
                let middle = low.to_bits().midpoint(high.to_bits());
                if n_open <= FEW || middle == low.to_bits() {
                    break;
                }
                let price = f64::from_bits(middle);
                let n = n_taken(price);
                match bytes_of(&n) {
                    sum if sum <= self.cap => (high, taken, bytes) = (price, n, sum),
                    _ => (low, all) = (price, n),
                }
            }
            return Some(self.fill(taken, &all, bytes));
        }
        let choice = self.points_at(&taken);
        Some(Relaxed { seconds: seconds(self.curves, &choice), choice, split: None })
    }

    /// Takes the segments up to `all`, dearest first, until one does not fit.
    fn fill(&self, mut taken: Vec<usize>, all: &[usize], mut bytes: u64) -> Relaxed {
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (il, (&from, &to)) in taken.iter().zip(all).enumerate() {
            open.extend((from..to).map(|n| (il, n)));
        }
        // Stable: of equals the lower layer, and a layer's own in their order.
        open.sort_by(|a, b| self.hulls[b.0].gains[b.1].total_cmp(&self.hulls[a.0].gains[a.1]));
        for (il, n) in open {
            let (hull, points) = (&self.hulls[il], &self.curves[il].points);
            let (from, to) = (hull.at[n], hull.at[n + 1]);
            let more = points[to].bytes - points[from].bytes;
            if bytes + more <= self.cap {
                (taken[il], bytes) = (n + 1, bytes + more);
                continue;
            }
            let left = self.cap - bytes;
            let mut choice = self.points_at(&taken);
            let mixed = seconds(self.curves, &choice) - hull.gains[n] * left as f64;
            // Points between the two are above the hull, but may be better than the lower end.
            let fits = points[from..to].partition_point(|p| p.bytes - points[from].bytes <= left);
            choice[il] = first_fastest(points, from..from + fits);
            return Relaxed { seconds: mixed, choice, split: Some((il, from + fits - 1)) };
        }
        let choice = self.points_at(&taken);
        Relaxed { seconds: seconds(self.curves, &choice), choice, split: None }
    }

    fn points_at(&self, n_taken: &[usize]) -> Vec<usize> {
        self.hulls.iter().zip(n_taken).map(|(hull, &n)| hull.at[n]).collect()
    }
}
