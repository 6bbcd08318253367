//! What the model's numbers are.
//!
//! Channel 0 of the residual stream is the constant `K = sqrt(n_embd)` for every token and in
//! every layer: all embeddings have it and no block writes to it. The other channels are normal.
//! The row of gate `i` is `beta_i e0 + C_i V` with `V [rank, n_embd]` common to the layer, so it
//! is positive, before and after the norm, where `beta_i K + C_i V x` is: with the probability
//! that `beta_i` is chosen for. The predictor says the same with the stream as it is:
//! `fc1 = [V; -V; e0; 0]`, `fc2 = [C, -C, beta, 0]`, `fc2 relu(fc1 x) = gate x`.
//!
//! A layer norm takes the stream's mean off first. `V`'s rows therefore sum to zero, and there
//! `e0` in `fc1` is `e0 - 1 / n_embd`.

use crate::arch::Arch;
use crate::numbers::{Normals, firing_rates, normal_quantile, rectified_fourth, rectified_square};
use crate::product::Panels;

/// Sizes and dials of a model.
#[derive(Clone, Copy)]
pub struct Shape {
    pub arch: Arch,
    pub n_layer: usize,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub n_vocab: usize,
    /// Rows of `fc1`.
    pub n_pred: usize,
    /// Share of neurons that fire, on average.
    pub active: f64,
    /// Layers with numbers of their own; those behind them repeat them (`repeat`).
    pub n_distinct: usize,
    pub seed: u64,
}

impl Shape {
    pub fn n_kv(&self) -> usize {
        self.n_embd / self.n_head * self.n_head_kv
    }

    /// Rank of the gates without their constant: `V` and `-V` fit into the predictor.
    fn rank(&self) -> usize {
        (self.n_pred - 1) / 2
    }

    /// The layer whose numbers a layer has.
    pub fn original(&self, layer: usize) -> usize {
        layer % self.n_distinct
    }

    /// What channel 0 of the residual stream holds.
    fn constant(&self) -> f32 {
        (self.n_embd as f32).sqrt()
    }
}

/// The numbers of a tensor, row by row.
#[derive(Clone, Copy)]
pub enum Content {
    All(f32),
    /// Normal numbers of this deviation.
    Normal(Matrix, f32),
    /// The same, with zeros in column 0: does not see the constant.
    Blind(Matrix, f32),
    /// The same, with zeros in row 0 (element 0 of a vector): does not change the constant.
    Silent(Matrix, f32),
    /// Normal numbers with the constant in column 0.
    Embedding,
    Gate,
    /// Row `i` is what neuron `i` adds.
    DownT,
    /// The same the other way round.
    Down,
    Fc1,
    Fc2,
}

/// Which random numbers a tensor has.
#[derive(Clone, Copy)]
pub enum Matrix {
    Embedding,
    Positions,
    Output,
    Query,
    Key,
    Value,
    /// All three.
    Qkv,
    AttnOutput,
    Up,
    Down,
    Bias,
    /// `V`
    Basis,
    /// `C`
    Mix,
    /// Which neuron has which firing rate.
    Order,
}

/// What a layer's tensors have in common.
pub struct Layer {
    index: usize,
    shape: Shape,
    /// `V [rank, n_embd]` by rows, and laid out for products.
    basis: Vec<f32>,
    panels: Panels,
    beta: Vec<f32>,
    /// Deviation of the down projection.
    down: f32,
    /// How often each neuron fires.
    pub rates: Vec<f64>,
}

impl Layer {
    pub fn new(shape: Shape, index: usize) -> Self {
        let (n_embd, rank) = (shape.n_embd, shape.rank());
        let original = shape.original(index);
        let basis = basis(Normals::new(shape.seed, original, Matrix::Basis as u64), n_embd, rank);
        let variance = variance(&shape, index);
        let order = Normals::new(shape.seed, index, Matrix::Order as u64);
        let rates = firing_rates(shape.n_ff, shape.active, order);
        let means: Vec<f64> = rates.iter().map(|&rate| normal_quantile(rate)).collect();
        let scale = libm::sqrt(variance) / f64::from(shape.constant());
        Self {
            index: original,
            shape,
            panels: Panels::new(&basis, n_embd),
            basis,
            beta: means.iter().map(|m| (m * scale) as f32).collect(),
            down: down_deviation(shape.arch, &means, variance) as f32,
            rates,
        }
    }

    /// Share of neurons that fire.
    pub fn active(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    /// The column that says how often a neuron fires, and what stands in it: where a layer differs
    /// from the one that it repeats.
    pub fn own_column(&self, content: Content) -> Option<(usize, &[f32])> {
        match content {
            Content::Gate => Some((0, &self.beta)),
            Content::Fc2 => Some((2 * self.shape.rank(), &self.beta)),
            _ => None,
        }
    }

    /// Rows from `first` on of a tensor with rows of `n_cols`, as many as `out` has room for.
    pub fn fill(&self, content: Content, first: usize, n_cols: usize, out: &mut [f32]) {
        if let Content::Gate = content {
            return self.fill_gate(first, out);
        }
        for (i, row) in out.chunks_exact_mut(n_cols).enumerate() {
            self.fill_row(content, first + i, row);
        }
    }

    fn fill_row(&self, content: Content, at: usize, row: &mut [f32]) {
        match content {
            Content::All(value) => row.fill(value),
            Content::Normal(matrix, deviation) => self.normal_row(matrix, deviation, at, row),
            Content::Blind(matrix, deviation) => {
                self.normal_row(matrix, deviation, at, row);
                row[0] = 0.0;
            }
            Content::Silent(_, _) if at == 0 && row.len() == self.shape.n_embd => row.fill(0.0),
            Content::Silent(matrix, deviation) => self.normal_row(matrix, deviation, at, row),
            Content::Embedding => {
                self.normal_row(Matrix::Embedding, 1.0, at, row);
                row[0] = self.shape.constant();
            }
            Content::DownT => {
                self.normal_row(Matrix::Down, self.down, at, row);
                row[0] = 0.0;
            }
            Content::Down if at == 0 => row.fill(0.0),
            Content::Down => {
                let numbers = self.normals(Matrix::Down);
                for (neuron, x) in row.iter_mut().enumerate() {
                    *x = self.down * numbers.at((neuron * self.shape.n_embd + at) as u64);
                }
            }
            Content::Fc1 => self.fc1_row(at, row),
            Content::Fc2 => self.fc2_row(at, row),
            Content::Gate => unreachable!("made in blocks"),
        }
    }

    fn normals(&self, matrix: Matrix) -> Normals {
        Normals::new(self.shape.seed, self.index, matrix as u64)
    }

    fn normal_row(&self, matrix: Matrix, deviation: f32, at: usize, row: &mut [f32]) {
        let numbers = self.normals(matrix);
        let first = (at * row.len()) as u64;
        row.iter_mut().zip(first..).for_each(|(x, i)| *x = deviation * numbers.at(i));
    }

    /// Row `neuron` of `C`.
    fn mix_row(&self, neuron: usize, row: &mut [f32]) {
        let deviation = 1.0 / (self.shape.rank() as f32).sqrt();
        self.normal_row(Matrix::Mix, deviation, neuron, row);
    }

    fn fill_gate(&self, first: usize, out: &mut [f32]) {
        let (n_embd, rank) = (self.shape.n_embd, self.shape.rank());
        let mut mix = vec![0.0; out.len() / n_embd * rank];
        for (i, row) in mix.chunks_exact_mut(rank).enumerate() {
            self.mix_row(first + i, row);
        }
        self.panels.multiply(&mix, out);
        for (row, &beta) in out.chunks_exact_mut(n_embd).zip(&self.beta[first..]) {
            row[0] = beta;
        }
    }

    fn fc1_row(&self, at: usize, row: &mut [f32]) {
        let (n_embd, rank) = (self.shape.n_embd, self.shape.rank());
        let basis = |k: usize| &self.basis[k * n_embd..(k + 1) * n_embd];
        row.fill(0.0);
        if at < rank {
            row.copy_from_slice(basis(at));
        } else if at < 2 * rank {
            row.iter_mut().zip(basis(at - rank)).for_each(|(x, v)| *x = -v);
        } else if at == 2 * rank {
            row.fill(if self.shape.arch.layer_norm() { -1.0 / n_embd as f32 } else { 0.0 });
            row[0] += 1.0;
        }
    }

    fn fc2_row(&self, neuron: usize, row: &mut [f32]) {
        let rank = self.shape.rank();
        let (plus, rest) = row.split_at_mut(rank);
        let (minus, rest) = rest.split_at_mut(rank);
        self.mix_row(neuron, plus);
        minus.iter_mut().zip(plus).for_each(|(m, p)| *m = -*p);
        rest.fill(0.0);
        rest[0] = self.beta[neuron];
    }
}

/// How large what a feed-forward network adds is, embeddings being 1.
const FFN_GAIN: f64 = 0.3;
/// Of the attention's output projection, for values of size 1.
pub const ATTN_GAIN: f32 = 0.3;
/// The variance that attention adds, roughly.
const ATTN_VARIANCE: f64 = 0.02;

/// The variance of a layer's channels beside the constant: embeddings have 1, and each block before
/// this one added its part. Attention averages values, so it adds little.
fn variance(shape: &Shape, layer: usize) -> f64 {
    let made = layer.min(shape.n_distinct);
    let first = |n: usize| 1.0 + n as f64 * (FFN_GAIN * FFN_GAIN + ATTN_VARIANCE);
    (made..layer).fold(first(made), |variance, il| {
        // The down projection is the other layer's: made for the variance there.
        let made_for = first(shape.original(il));
        let gain = FFN_GAIN * FFN_GAIN * normed_power(shape.arch, variance)
            / normed_power(shape.arch, made_for);
        variance + gain + ATTN_VARIANCE
    })
}

/// What the norm makes of a variance, as it goes into the square of what neurons say.
fn normed_power(arch: Arch, variance: f64) -> f64 {
    let normed = variance / (1.0 + variance);
    match arch {
        Arch::Falcon | Arch::Opt => normed,
        Arch::Llama | Arch::Bamboo | Arch::Nemotron | Arch::Arcee => normed * normed,
    }
}

/// Rows that sum to zero and do not see the constant.
fn basis(numbers: Normals, n_embd: usize, rank: usize) -> Vec<f32> {
    let deviation = 1.0 / (n_embd as f32).sqrt();
    let mut basis: Vec<f32> =
        (0..(rank * n_embd) as u64).map(|i| deviation * numbers.at(i)).collect();
    for row in basis.chunks_exact_mut(n_embd) {
        row[0] = 0.0;
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / (n_embd - 1) as f64;
        row[1..].iter_mut().for_each(|x| *x -= mean as f32);
    }
    basis
}

/// The deviation with which the network adds [`FFN_GAIN`]: gates, seen by the norm, are normal
/// around `means` times their deviation, ups around 0.
fn down_deviation(arch: Arch, means: &[f64], variance: f64) -> f64 {
    let power = normed_power(arch, variance);
    let sum: f64 = means
        .iter()
        .map(|&m| match arch {
            Arch::Llama | Arch::Falcon | Arch::Opt => power * rectified_square(m),
            Arch::Bamboo => 0.5 * power * rectified_square(m),
            Arch::Nemotron | Arch::Arcee => power * rectified_fourth(m),
        })
        .sum();
    FFN_GAIN / libm::sqrt(sum)
}
