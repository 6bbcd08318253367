//! Logits and embeddings of the last batch.

use crate::model::Pooling;
use crate::util::aligned::{AlignedVec, OutOfMemory};

use super::token::Token;

/// What the last batch gave. Rows are packed in the order of the batch.
#[derive(Default)]
pub struct Outputs {
    /// Row of each token of the batch that has one.
    rows: Vec<Option<usize>>,
    /// Sequence of each row: the first one of its token.
    seqs: Vec<usize>,
    /// Rows written so far.
    n_done: usize,
    n_rows: usize,
    n_vocab: usize,
    n_embd: usize,
    logits: AlignedVec<f32>,
    /// Empty unless embeddings were asked for.
    embeddings: AlignedVec<f32>,
    /// Pooled embedding of each sequence of the batch.
    pooled: Vec<(usize, Vec<f32>)>,
}

impl Outputs {
    /// Makes room for a batch's outputs.
    pub fn begin(
        &mut self,
        tokens: &[Token],
        n_vocab: usize,
        n_embd: Option<usize>,
    ) -> Result<(), OutOfMemory> {
        let mut n_rows = 0;
        self.rows.clear();
        self.rows.extend(tokens.iter().map(|t| {
            n_rows += usize::from(t.output);
            t.output.then(|| n_rows - 1)
        }));
        self.seqs.clear();
        self.seqs.extend(tokens.iter().filter(|t| t.output).map(|t| t.seq));
        (self.n_rows, self.n_done, self.n_vocab) = (n_rows, 0, n_vocab);
        self.n_embd = n_embd.unwrap_or(0);
        self.pooled.clear();
        grow(&mut self.logits, n_rows * n_vocab)?;
        grow(&mut self.embeddings, n_rows * self.n_embd)
    }

    /// Takes the logits of a ubatch's `n` rows.
    pub fn push_logits(&mut self, n: usize, logits: &[f32]) {
        let at = self.n_done * self.n_vocab;
        let len = n * self.n_vocab;
        self.logits[at..at + len].copy_from_slice(&logits[..len]);
    }

    /// Takes the embeddings of a ubatch's `n` rows.
    pub fn push_embeddings(&mut self, n: usize, embeddings: &[f32]) {
        let at = self.n_done * self.n_embd;
        let len = n * self.n_embd;
        self.embeddings[at..at + len].copy_from_slice(&embeddings[..len]);
    }

    /// Makes the `n` rows of a ubatch visible.
    pub fn advance(&mut self, n: usize) {
        self.n_done += n;
    }

    /// Pools the embeddings of each sequence over its tokens of this batch. What a classifier
    /// reads is the first token's, with a causal mask the last one's, which alone saw all others.
    pub fn pool(&mut self, tokens: &[Token], pooling: Pooling, causal: bool) {
        let pooling = match pooling {
            Pooling::Rank if causal => Pooling::Last,
            Pooling::Rank => Pooling::Cls,
            other => other,
        };
        let mut seqs: Vec<usize> = tokens.iter().flat_map(|t| t.seqs.iter()).collect();
        seqs.sort_unstable();
        seqs.dedup();
        for seq in seqs {
            let rows = tokens.iter().zip(&self.rows).filter(|(t, _)| t.seqs.contains(seq));
            let mut rows: Vec<(i32, usize)> =
                rows.filter_map(|(t, row)| Some((t.pos, (*row)?))).collect();
            rows.sort_unstable();
            let chosen = match pooling {
                Pooling::Cls => &rows[..rows.len().min(1)],
                Pooling::Last => &rows[rows.len().saturating_sub(1)..],
                _ => &rows[..],
            };
            let mut sum = vec![0f32; self.n_embd];
            for &(_, row) in chosen {
                for (s, x) in sum.iter_mut().zip(&self.embeddings[row * self.n_embd..]) {
                    *s += x;
                }
            }
            let n = chosen.len().max(1) as f32;
            sum.iter_mut().for_each(|s| *s /= n);
            self.pooled.push((seq, sum));
        }
    }

    /// Pooled embeddings, to become scores.
    pub fn pooled_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.pooled.iter_mut().map(|(_, x)| x)
    }

    /// Row of a token: `i >= 0` counts tokens of the batch, `i < 0` counts rows from the end.
    pub fn row(&self, i: i32) -> Option<usize> {
        let row = match usize::try_from(i) {
            Ok(i) => (*self.rows.get(i)?)?,
            Err(_) => self.n_rows.checked_sub(i.unsigned_abs() as usize)?,
        };
        (row < self.n_done).then_some(row)
    }

    /// All logits, `[rows, n_vocab]`; empty for models that only embed.
    pub fn logits(&mut self) -> &mut [f32] {
        &mut self.logits[..self.n_done * self.n_vocab]
    }

    /// Sequence of each row: the first one of its token.
    pub fn seqs(&self) -> &[usize] {
        &self.seqs[..self.n_done]
    }

    /// Logits of a token.
    pub fn logits_ith(&mut self, i: i32) -> Option<&mut [f32]> {
        self.logits_row(self.row(i)?)
    }

    /// Logits of a row.
    pub fn logits_row(&mut self, row: usize) -> Option<&mut [f32]> {
        let x = self.logits.get_mut(row * self.n_vocab..(row + 1) * self.n_vocab)?;
        (!x.is_empty()).then_some(x)
    }

    /// All embeddings, `[rows, n_embd]`; empty when they were not asked for.
    pub fn embeddings(&mut self) -> &mut [f32] {
        &mut self.embeddings[..self.n_done * self.n_embd]
    }

    /// Embedding of a token.
    pub fn embeddings_ith(&mut self, i: i32) -> Option<&mut [f32]> {
        let row = self.row(i)?;
        let x = self.embeddings.get_mut(row * self.n_embd..(row + 1) * self.n_embd)?;
        (!x.is_empty()).then_some(x)
    }

    /// Pooled embedding of a sequence.
    pub fn embeddings_seq(&mut self, seq: usize) -> Option<&mut [f32]> {
        self.pooled.iter_mut().find(|(s, _)| *s == seq).map(|(_, x)| x.as_mut_slice())
    }
}

fn grow(x: &mut AlignedVec<f32>, len: usize) -> Result<(), OutOfMemory> {
    if x.len() < len {
        *x = AlignedVec::new();
        *x = AlignedVec::try_zeroed(len)?;
    }
    Ok(())
}
