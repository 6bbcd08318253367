//! Signs of gate weights, by which the mode `sign` guesses (SparseInfer, arXiv 2411.12692).
//!
//! A gate's output is a sum of products. Without their sizes the guess is that it is positive where
//! not fewer of them are positive than negative: a neuron is computed when
//! `n_equal * alpha >= n_different`, with `n_equal` the places where weight and input have the same
//! sign. That needs no training and reads one bit per weight.

use rayon::prelude::*;

use crate::model::Model;
use crate::plan::Mat;
use crate::quant::dequantize_row;

/// How careful guesses are when nobody says (`powerinfer.sign_alpha`): inside of what the paper uses,
/// 1.00 to 1.03. What is found of the neurons that fire, what is guessed of all, the weights that
/// are read, and the perplexity against that of exact gates, over 208 tokens of prose with a
/// SmolLM2-135M refitted to ReLU (26 % of its neurons fire):
///
/// | alpha | found | guessed | bytes | perplexity |
/// |---|---|---|---|---|
/// | 1.00 | 0.734 | 0.451 | 0.354 | 1.95x |
/// | 1.02 | 0.790 | 0.516 | 0.389 | 1.42x |
/// | 1.05 | 0.896 | 0.675 | 0.558 | 1.18x |
/// | 1.10 | 0.965 | 0.829 | 0.576 | 1.07x |
/// | 1.20 | 0.998 | 0.978 | 0.581 | 1.01x |
/// | exact | 1 | 1 | 0.582 | 1 |
///
/// The bytes jump where so many are guessed that all rows of the gate are read. This model is
/// narrow, and there the guess is weak: a row has 576 signs. With 4096, the width of models that
/// were made sparse, the same alpha reaches 2.7 times as far beyond one half, in units of the spread
/// of random signs: 1.02 there is as careful as 1.05 here.
pub const SIGN_ALPHA: f32 = 1.02;

/// Sign bits of a matrix: bit `i % 64` of word `i / 64` of a row is set where element `i` is
/// negative (or -0). What is behind the last element is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct SignPlanes {
    words: Vec<u64>,
    words_per_row: usize,
    k: usize,
}

impl SignPlanes {
    /// The signs of a weight of any type, made by all threads; `None` where its bytes are not in
    /// memory.
    pub fn new(model: &Model, mat: &Mat) -> Option<Self> {
        let weight = model.weight(mat.weight);
        let data = weight.data.as_deref()?;
        let k = weight.shape.ne()[0] as usize;
        let words_per_row = k.div_ceil(64);
        let row_bytes = data.len() / weight.shape.n_rows().max(1) as usize;
        let rows = data.get(mat.first_row * row_bytes..(mat.first_row + mat.n_out) * row_bytes)?;
        let mut words = vec![0; words_per_row * mat.n_out];
        let pairs = words.par_chunks_mut(words_per_row).zip(rows.par_chunks(row_bytes));
        let made = pairs.try_for_each_init(
            || vec![0.0; k],
            |row, (signs, bytes)| {
                dequantize_row(weight.ty, bytes, row)?;
                set_signs(row.iter().map(|x| x.is_sign_negative()), signs);
                Ok::<_, crate::quant::Error>(())
            },
        );
        made.ok()?;
        Some(Self { words, words_per_row, k })
    }

    /// Elements of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The words of some rows.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> &[u64] {
        &self.words[rows.start * self.words_per_row..rows.end * self.words_per_row]
    }

    /// Bytes of memory.
    pub fn n_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

/// Packs signs into words as [`SignPlanes`] has them.
pub fn set_signs(negative: impl Iterator<Item = bool>, words: &mut [u64]) {
    words.fill(0);
    for (i, negative) in negative.enumerate() {
        words[i / 64] |= u64::from(negative) << (i % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_negative_elements_are() {
        let mut words = [u64::MAX; 2];
        set_signs((0..70).map(|i| i % 3 == 1), &mut words);
        for i in 0..128 {
            assert_eq!(words[i / 64] >> (i % 64) & 1 == 1, i < 70 && i % 3 == 1, "{i}");
        }
    }
}
