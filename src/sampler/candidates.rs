//! The list that samplers work on.

use std::ops::{Deref, DerefMut};

use super::sort;
use crate::vocab::Token;

/// One candidate; the layout is `llama_token_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct TokenData {
    /// Which token.
    pub id: Token,
    /// Its log-odds.
    pub logit: f32,
    /// Its probability; valid after a sampler that computes it.
    pub p: f32,
}

/// The candidates for the next token, in memory of the caller. Samplers reorder, shorten and
/// rescale it in place.
pub struct Candidates<'a> {
    data: &'a mut [TokenData],
    selected: Option<usize>,
    sorted: bool,
}

impl<'a> Candidates<'a> {
    /// Candidates in any order, none selected.
    pub fn new(data: &'a mut [TokenData]) -> Self {
        Self { data, selected: None, sorted: false }
    }

    /// One candidate per logit, the index being the token; `buffer` is overwritten.
    pub fn from_logits(buffer: &'a mut Vec<TokenData>, logits: &[f32]) -> Self {
        buffer.clear();
        buffer.extend((0..).zip(logits).map(|(id, &logit)| TokenData { id, logit, p: 0.0 }));
        Self::new(buffer)
    }

    /// Candidates as they come over the C boundary, with their two marks.
    pub fn with_marks(data: &'a mut [TokenData], selected: Option<usize>, sorted: bool) -> Self {
        Self { data, selected, sorted }
    }

    /// Whether the logits are known to be in descending order.
    pub fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// To be called after a change that may break the descending order of the logits.
    pub fn mark_unsorted(&mut self) {
        self.sorted = false;
    }

    /// Index of the candidate that a sampler chose.
    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    /// The token that a sampler chose; `None` also when the index is not of this list.
    pub fn selected_token(&self) -> Option<Token> {
        self.data.get(self.selected?).map(|candidate| candidate.id)
    }

    /// Chooses the candidate at `index`; `None` takes a choice back.
    pub fn select(&mut self, index: Option<usize>) {
        self.selected = index;
    }

    /// Keeps the first `n`.
    pub fn truncate(&mut self, n: usize) {
        if n < self.data.len() {
            self.data = &mut std::mem::take(&mut self.data)[..n];
        }
    }

    /// Drops the first `n`.
    pub fn skip(&mut self, n: usize) {
        let n = n.min(self.data.len());
        self.data = &mut std::mem::take(&mut self.data)[n..];
    }

    /// Keeps the candidates for which `keep` holds, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&TokenData) -> bool) {
        let mut n = 0;
        for i in 0..self.data.len() {
            if keep(&self.data[i]) {
                self.data[n] = self.data[i];
                n += 1;
            }
        }
        self.truncate(n);
    }

    /// Keeps the `k` (at least 1) highest logits, in descending order.
    pub fn keep_top(&mut self, k: usize) {
        let k = k.clamp(1, self.data.len().max(1));
        if !self.sorted {
            self.sort_top(k);
        }
        self.truncate(k);
    }

    /// Puts all candidates in descending order of their logits.
    pub fn sort(&mut self) {
        if !self.sorted {
            self.sort_top(self.data.len());
        }
    }

    /// Keeps the first `n`, which the caller put in descending order.
    pub(super) fn keep_sorted_prefix(&mut self, n: usize) {
        self.truncate(n);
        self.sorted = true;
    }

    fn sort_top(&mut self, k: usize) {
        // Where heap selection stops and buckets start decides the order of equal logits.
        if k <= 128 {
            sort::partial_sort(self.data, k, by_logit);
        } else {
            let mut top = Vec::new();
            bucket_sort_top(self.data, k, &mut top);
            let k = k.min(top.len());
            self.data[..k].copy_from_slice(&top[..k]);
        }
        self.truncate(k);
        self.sorted = true;
    }

    /// The highest logit; `start` when there is no higher one.
    pub(super) fn max_logit(&self, start: f32) -> f32 {
        self.data.iter().fold(start, |max, c| if max < c.logit { c.logit } else { max })
    }

    /// Computes every `p` from the logits (softmax, in f32), in the present order.
    pub fn softmax(&mut self) {
        let Some(first) = self.data.first() else { return };
        let max = if self.sorted { first.logit } else { self.max_logit(first.logit) };
        let mut sum = 0.0;
        for c in &mut *self.data {
            c.p = (c.logit - max).exp();
            sum += c.p;
        }
        for c in &mut *self.data {
            c.p /= sum;
        }
    }
}

impl Deref for Candidates<'_> {
    type Target = [TokenData];
    fn deref(&self) -> &[TokenData] {
        self.data
    }
}

impl DerefMut for Candidates<'_> {
    fn deref_mut(&mut self) -> &mut [TokenData] {
        self.data
    }
}

/// The order of candidates: the higher logit first.
fn by_logit(a: &TokenData, b: &TokenData) -> bool {
    a.logit > b.logit
}

/// Writes at least the `k` highest candidates to `top`, the first `k` of them in order. Logits
/// usually lie within ±10, so that range is cut into 128 buckets and only the buckets that are
/// needed are sorted; what lies outside falls into the first or last one.
pub(super) fn bucket_sort_top(data: &[TokenData], k: usize, top: &mut Vec<TokenData>) {
    const BUCKETS: usize = 128;
    const SCALE: f32 = BUCKETS as f32 / 20.0;
    // The cast saturates and takes NaN to 0.
    let bucket = |c: &TokenData| ((SCALE * c.logit + 10.0 * SCALE) as i32).clamp(0, 127) as usize;

    let mut counts = [0usize; BUCKETS];
    for c in data {
        counts[bucket(c)] += 1;
    }
    // From the top bucket down to the one in which the k-th candidate lies.
    let mut starts = [0usize; BUCKETS];
    let (mut n, mut lowest) = (0, BUCKETS);
    while lowest > 0 && n < k {
        lowest -= 1;
        starts[lowest] = n;
        n += counts[lowest];
    }
    top.clear();
    top.resize(n, TokenData::default());
    let mut ends = starts;
    for c in data {
        let b = bucket(c);
        if b >= lowest {
            top[ends[b]] = *c;
            ends[b] += 1;
        }
    }
    for b in (lowest..BUCKETS).rev() {
        let run = &mut top[starts[b]..ends[b]];
        if b > lowest {
            sort::sort(run, by_logit);
        } else {
            sort::partial_sort(run, k - starts[b], by_logit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(logits: &[f32]) -> Vec<TokenData> {
        let mut buffer = Vec::new();
        Candidates::from_logits(&mut buffer, logits);
        buffer
    }

    #[test]
    fn top_k_by_heap_and_by_buckets_agree_on_distinct_logits() {
        let logits: Vec<f32> =
            (0..5000).map(|i| ((i * 7919) % 5000) as f32 * 0.01 - 25.0).collect();
        for k in [1, 128, 129, 1000, 4999, 5000] {
            let mut data = list(&logits);
            let mut c = Candidates::new(&mut data);
            c.keep_top(k);
            assert_eq!(c.len(), k);
            assert!(c.is_sorted());
            let want: Vec<f32> = (0..k).map(|i| (4999 - i) as f32 * 0.01 - 25.0).collect();
            assert!(c.iter().map(|c| c.logit).eq(want), "k = {k}");
        }
    }

    #[test]
    fn infinite_and_nan_logits_are_sorted_without_loss() {
        let mut logits = vec![0.5; 300];
        logits[7] = f32::INFINITY;
        logits[9] = f32::NEG_INFINITY;
        let mut data = list(&logits);
        let mut c = Candidates::new(&mut data);
        c.sort();
        assert_eq!((c[0].id, c[299].id), (7, 9));
        let mut data = list(&[f32::NAN; 300]);
        let mut c = Candidates::new(&mut data);
        c.sort();
        assert_eq!(c.len(), 300);
    }

    #[test]
    fn shortening_keeps_the_right_end() {
        let mut data = list(&[0.0, 1.0, 2.0, 3.0]);
        let mut c = Candidates::new(&mut data);
        c.skip(1);
        c.truncate(2);
        assert!(c.iter().map(|c| c.id).eq([1, 2]));
        c.retain(|c| c.id == 2);
        assert_eq!(c[0].id, 2);
        c.skip(9);
        assert!(c.is_empty());
        c.softmax();
    }

    #[test]
    fn an_empty_list_survives_everything() {
        let mut c = Candidates::new(&mut []);
        c.keep_top(5);
        c.sort();
        c.softmax();
        c.select(Some(0));
        assert_eq!(c.selected_token(), None);
    }
}
