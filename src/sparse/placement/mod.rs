//! Where neurons live: which of each layer's neurons are hot, with their weights on the GPU, and
//! which stay on the CPU.
//!
//! What is made small is the predicted time of a token. Both devices work on a layer at the same
//! time, each through the neurons of its own that fire, so with `b` bytes of them read per token
//!
//! ```text
//! layer = max(b_hot / gpu_bytes_per_s, b_cold / cpu_bytes_per_s) + crossing
//! ```
//!
//! where the crossing is paid unless the layer is wholly on the device that computes its attention
//! ([`Home`]). The sum over layers is made small subject to `sum of bytes <= cap`. That is not
//! PowerInfer's rule, which takes the neurons that fire most of all layers together: it goes on
//! adding to a layer whose CPU part has long ended before the GPU's, and does not see that the last
//! few neurons of a layer save it its crossing.
//!
//! 1. `curve`: within a layer the neurons that fire most come first, in groups of [`GROUP`]. How
//!    many groups are hot is a layer's only choice; each has its bytes and its time. Up to the
//!    balance of the two devices time falls, ever slower; after that only all of them can be better.
//! 2. `solve`: one choice per layer within the cap, a multiple-choice knapsack. Its relaxation (a
//!    price for bytes, found by bisection) leaves at most one layer between two choices; branch and
//!    bound decides such layers, to one part in 10^4.
//! 3. `even`: without counts every layer gets the same share of its neurons, from the first on.
//!
//! What groups lose: against the best sets of single neurons, at most the CPU time of its busiest
//! group per layer. (Such a set can at best hit the balance exactly, and the groups before and after
//! it are not farther away than that; and it can use the bytes that are too few for a group.)
//!
//! [`find_counts`] is where counts come from; [`IndexPlaces::place`] keeps placements in a file
//! beside the model (`index`) and knows PowerInfer's (`powerinfer`); [`Placement::predict`] says what
//! one is worth, in figures and words. Everything is deterministic. Nothing here knows a device:
//! figures come in, lists go out.

mod curve;
mod even;
mod find;
mod index;
mod powerinfer;
mod predict;
mod solve;
#[cfg(test)]
mod tests;
mod top_k;

pub use find::{IndexPlaces, find_counts};
pub use index::{GpuIndex, IndexError, MadeFor};
pub use predict::{LayerPrediction, Prediction, TokenTime};

use rayon::prelude::*;

use super::LayerCounts;
use curve::Curve;

/// Neurons that become hot together: a warp's width, by which the device makes its lists. 32 neurons
/// of a 4096-wide Q4_0 model are 216 KiB, so that of a budget of 4 GiB less than 0.01 % stays
/// unused.
pub const GROUP: usize = 32;
/// Relative distance from the optimum that is good enough.
const TOLERANCE: f64 = 1e-4;
/// Relaxations that are solved at most, each in less than 0.1 ms for 80 layers of 28672 neurons. Most
/// problems need a handful; those that end here were within 0.3 % of their bound.
const MAX_NODES: usize = 200;

/// Where the rest of a layer runs: what comes before and after its feed-forward network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// On the GPU: cold neurons cost a crossing.
    #[default]
    Gpu,
    /// On the CPU: hot neurons do.
    Cpu,
}

/// A layer's feed-forward network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layer<'a> {
    /// Neurons.
    pub n_ff: usize,
    /// Bytes of one neuron's rows of gate, up and down as they lie on the device, with what else is
    /// kept there per neuron.
    pub neuron_bytes: u64,
    /// Share of these bytes that is read for a neuron that does not fire, 0 to 1: 0 behind a
    /// predictor, 1/3 where all gates of three matrices are read, 1 where nothing is skipped.
    pub always_read: f64,
    /// Where its attention runs.
    pub home: Home,
    /// How often each neuron fired; `None`, or no counts, where that is not known.
    pub counts: Option<&'a LayerCounts>,
}

impl<'a> Layer<'a> {
    fn known(&self) -> Option<&'a LayerCounts> {
        self.counts.filter(|layer| !layer.counts.is_empty())
    }
}

/// What the devices can do, by measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Bytes of weights that the GPU goes through per second.
    pub gpu_bytes_per_s: f64,
    /// The same of the CPU.
    pub cpu_bytes_per_s: f64,
    /// What it costs, in seconds, to give a layer's input to the other device and to get its sum
    /// back, beyond the work of the devices.
    pub crossing_s: f64,
}

/// What is to be placed, and where.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// The layers of the model.
    pub layers: Vec<Layer<'a>>,
    /// The machine.
    pub machine: Machine,
    /// Bytes of device memory that neurons may take.
    pub cap: u64,
}

/// A problem that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadProblem {
    /// A figure of the machine.
    #[error("placement: {what} is {found}, expected {expected}")]
    Machine {
        /// Which.
        what: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        expected: &'static str,
    },
    /// A layer has more neurons than lists on devices can name, or a share that is none.
    #[error("placement: layer {layer} has {found}, expected {expected}")]
    Layer {
        /// The layer.
        layer: usize,
        /// What was found.
        found: String,
        /// What would do.
        expected: String,
    },
}

/// By what neurons were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// By how often they fired.
    Counts,
    /// By nothing: a part of each layer.
    Even,
    /// By PowerInfer's solver.
    PowerInfer,
}

impl Basis {
    /// All of them with their names.
    const ALL: [(Basis, &'static str); 3] =
        [(Basis::Counts, "counts"), (Basis::Even, "even"), (Basis::PowerInfer, "powerinfer")];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(basis, _)| *basis == self).map_or("", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, n)| *n == name).map(|(basis, _)| basis)
    }
}

/// Which neurons are hot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Ids of each layer's hot neurons, ascending.
    pub hot: Vec<Vec<u32>>,
    /// By what they were chosen.
    pub basis: Basis,
}

/// The time of one layer for one token, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerTime {
    /// Of the GPU.
    pub gpu: f64,
    /// Of the CPU.
    pub cpu: f64,
    /// Of crossings.
    pub crossing: f64,
}

impl LayerTime {
    /// From begin to end.
    pub fn total(&self) -> f64 {
        self.gpu.max(self.cpu) + self.crossing
    }
}

/// Which neurons become hot, within the problem's cap.
///
/// # Errors
/// When a figure makes no sense.
pub fn place(problem: &Problem<'_>) -> Result<Placement, BadProblem> {
    problem.check()?;
    let Some(shares) = Shares::of(problem) else {
        return Ok(Placement { hot: even::split(problem, GROUP), basis: Basis::Even });
    };
    let hot = place_by(problem, &shares, GROUP, TOLERANCE, MAX_NODES);
    Ok(Placement { hot, basis: Basis::Counts })
}

fn place_by(
    problem: &Problem<'_>,
    shares: &Shares,
    group: usize,
    tolerance: f64,
    max_nodes: usize,
) -> Vec<Vec<u32>> {
    let curves: Vec<Curve> = (0..problem.layers.len())
        .into_par_iter()
        .map(|il| Curve::new(problem, il, shares, group))
        .collect();
    let start = curves.iter().zip(top_k::n_hot(problem, &curves));
    let start: Vec<usize> = start.map(|(curve, n_hot)| curve.fastest(n_hot)).collect();
    let solved = solve::solve(&curves, problem.cap, &start, tolerance, max_nodes);
    curves.iter().zip(solved.choice).map(|(curve, at)| curve.hot(at)).collect()
}

impl Problem<'_> {
    fn check(&self) -> Result<(), BadProblem> {
        let machine = &self.machine;
        for (what, found) in [
            ("bytes per second of the GPU", machine.gpu_bytes_per_s),
            ("bytes per second of the CPU", machine.cpu_bytes_per_s),
        ] {
            if !(found.is_finite() && found > 0.0) {
                let expected = "a number above 0";
                return Err(BadProblem::Machine { what, found, expected });
            }
        }
        let found = machine.crossing_s;
        if !(found.is_finite() && found >= 0.0) {
            let (what, expected) = ("the cost of a crossing", "seconds, from 0 on");
            return Err(BadProblem::Machine { what, found, expected });
        }
        let mut total = 0u64;
        for (layer, facts) in self.layers.iter().enumerate() {
            let bad = |found, expected| Err(BadProblem::Layer { layer, found, expected });
            if facts.n_ff > i32::MAX as usize {
                return bad(format!("{} neurons", facts.n_ff), "below 2^31".into());
            }
            let bytes = facts.neuron_bytes.checked_mul(facts.n_ff as u64);
            total = match bytes.and_then(|bytes| total.checked_add(bytes)) {
                Some(total) if facts.neuron_bytes > 0 || facts.n_ff == 0 => total,
                _ => {
                    let found = format!("{} neurons of {} bytes", facts.n_ff, facts.neuron_bytes);
                    return bad(found, "bytes, below 2^64 in all layers".into());
                }
            };
            if !(0.0..=1.0).contains(&facts.always_read) {
                let found = format!("a share of {} that is always read", facts.always_read);
                return bad(found, "0 to 1".into());
            }
            if let Some(counts) = facts.known()
                && counts.counts.len() != facts.n_ff
            {
                let found = format!("counts of {} neurons", counts.counts.len());
                return bad(found, format!("of {}", facts.n_ff));
            }
        }
        Ok(())
    }

    /// The time of a layer with so many hot neurons, for which the GPU and the CPU read so many
    /// bytes.
    fn time(&self, il: usize, n_hot: usize, hot: f64, cold: f64) -> LayerTime {
        let layer = &self.layers[il];
        let stays = match layer.home {
            Home::Gpu => n_hot == layer.n_ff,
            Home::Cpu => n_hot == 0,
        };
        LayerTime {
            gpu: hot / self.machine.gpu_bytes_per_s,
            cpu: cold / self.machine.cpu_bytes_per_s,
            crossing: if stays { 0.0 } else { self.machine.crossing_s },
        }
    }
}

/// Shares of tokens for which neurons fire.
#[derive(Clone, Debug)]
struct Shares {
    /// Tokens by layer, where it has counts.
    tokens: Vec<u64>,
    /// What a layer without counts is taken for.
    usual: f64,
}

impl Shares {
    /// `None` where nothing is known of the neurons that can be skipped.
    fn of(problem: &Problem<'_>) -> Option<Self> {
        let counted = || problem.layers.iter().filter_map(Layer::known);
        let can_skip = problem.layers.iter().any(|layer| layer.always_read < 1.0);
        if can_skip && counted().next().is_none() {
            return None;
        }
        // Where the tokens were not counted: no neuron fired for more of them than there were, and
        // models have some that nearly always fire.
        let uncounted = counted().filter(|layer| layer.tokens == 0);
        let most = uncounted.flat_map(|layer| &layer.counts).copied().max().unwrap_or(0);
        let tokens = problem.layers.iter().map(|layer| match layer.known() {
            Some(LayerCounts { tokens: 0, .. }) | None => u64::from(most),
            Some(LayerCounts { tokens, .. }) => *tokens,
        });
        let mut shares = Self { tokens: tokens.collect(), usual: 1.0 };
        let (mut sum, mut n) = (0.0, 0);
        for (il, layer) in problem.layers.iter().enumerate() {
            for &count in layer.known().into_iter().flat_map(|layer| &layer.counts) {
                sum += shares.of_count(il, count);
                n += 1;
            }
        }
        if n > 0 {
            shares.usual = sum / f64::from(n);
        }
        Some(shares)
    }

    /// The share behind a count. Half a token more each way (Jeffreys' prior): what was not seen in
    /// a few tokens may fire in the next.
    fn of_count(&self, il: usize, count: u32) -> f64 {
        ((f64::from(count) + 0.5) / (self.tokens[il] as f64 + 1.0)).min(1.0)
    }

    /// Bytes of a neuron that are read per token.
    fn load(&self, problem: &Problem<'_>, il: usize, id: u32) -> f64 {
        let layer = &problem.layers[il];
        let share = match layer.known() {
            Some(counts) => self.of_count(il, counts.counts[id as usize]),
            None => self.usual,
        };
        layer.neuron_bytes as f64 * (layer.always_read + (1.0 - layer.always_read) * share)
    }
}
