//! A caller's batch, and the checks that make it tokens that can be computed.

use super::DecodeError;
use super::kv::{KvCache, SeqSet};
use super::token::Token;

/// What a caller hands in; the parts of `struct llama_batch`.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token ids, or embeddings to start from.
    pub input: Input<'a>,
    /// Position of each token; the next ones of its sequence when `None`.
    pub pos: Option<&'a [i32]>,
    /// Sequences of each token; sequence 0 when `None`.
    pub seq_ids: Option<&'a [&'a [i32]]>,
    /// Which tokens' outputs are wanted; the last token's when `None`.
    pub outputs: Option<&'a [bool]>,
}

/// The content of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Token ids.
    Tokens(&'a [i32]),
    /// Embeddings, `n_embd` numbers per token.
    Embeddings(&'a [f32]),
}

/// Limits to check a batch against.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Width of embeddings.
    pub n_embd: usize,
    /// Most tokens.
    pub n_batch: usize,
    /// Most sequences.
    pub n_seq_max: usize,
    /// Every token's output is wanted, whatever the batch says.
    pub all_outputs: bool,
}

fn bad<T>(text: String) -> Result<T, DecodeError> {
    Err(DecodeError::InvalidBatch(text))
}

/// Checks a batch by llama.h's rules and fills in what it leaves out.
pub fn check(batch: &Batch<'_>, limits: &Limits, kv: &KvCache) -> Result<Vec<Token>, DecodeError> {
    let n = match batch.input {
        Input::Tokens(ids) => ids.len(),
        Input::Embeddings(x) => x.len() / limits.n_embd,
    };
    if let Input::Embeddings(x) = batch.input
        && !x.len().is_multiple_of(limits.n_embd)
    {
        let n_embd = limits.n_embd;
        return bad(format!("the batch has {} numbers, no whole embeddings of {n_embd}", x.len()));
    }
    if n == 0 {
        return bad("the batch has no tokens".into());
    }
    if n > limits.n_batch {
        return bad(format!("the batch has {n} tokens, n_batch is {}", limits.n_batch));
    }
    if let Input::Tokens(ids) = batch.input
        && let Some((i, id)) = ids
            .iter()
            .enumerate()
            .find(|(_, id)| !(0..limits.n_vocab as i64).contains(&i64::from(**id)))
    {
        return bad(format!(
            "token {i} of the batch is {id}, the vocabulary has {}",
            limits.n_vocab
        ));
    }
    let lengths = [
        batch.pos.map(<[i32]>::len),
        batch.seq_ids.map(<[&[i32]]>::len),
        batch.outputs.map(<[bool]>::len),
    ];
    if lengths.iter().flatten().any(|&l| l != n) {
        return bad(format!("the batch has {n} tokens but other lists have {lengths:?} elements"));
    }
    let mut tokens = Vec::with_capacity(n);
    let mut next: Vec<i32> = (0..limits.n_seq_max).map(|s| pos_max(kv, s) + 1).collect();
    for i in 0..n {
        let ids = batch.seq_ids.map_or(&[0][..], |ids| ids[i]);
        let seqs = sequences(i, ids, limits.n_seq_max)?;
        let Some(seq) = seqs.iter().next() else { continue };
        let pos = batch.pos.map_or(next[seq], |p| p[i]);
        // The one after it has to be a position too.
        if !(0..i32::MAX).contains(&pos) {
            return bad(format!("token {i} of the batch has position {pos}"));
        }
        for s in seqs.iter() {
            next[s] = pos + 1;
        }
        let output = limits.all_outputs || batch.outputs.map_or(i + 1 == n, |o| o[i]);
        tokens.push(Token { pos, seqs, seq, output });
    }
    check_positions(&tokens, limits.n_seq_max, kv)?;
    Ok(tokens)
}

fn pos_max(kv: &KvCache, seq: usize) -> i32 {
    kv.stream(kv.stream_of(seq)).pos_max(seq)
}

fn sequences(i: usize, ids: &[i32], n_seq_max: usize) -> Result<SeqSet, DecodeError> {
    let mut set = SeqSet::default();
    for &id in ids {
        match usize::try_from(id) {
            Ok(seq) if seq < n_seq_max => set.insert(seq),
            _ => return bad(format!("token {i} is of sequence {id}, there are {n_seq_max}")),
        }
    }
    if ids.is_empty() {
        return bad(format!("token {i} of the batch is of no sequence"));
    }
    Ok(set)
}

/// The positions that a batch gives a sequence must go on where the cache ends, without gaps, and
/// never go back.
fn check_positions(tokens: &[Token], n_seq_max: usize, kv: &KvCache) -> Result<(), DecodeError> {
    #[derive(Clone, Copy)]
    struct Span {
        min: i32,
        max: i32,
        n: usize,
    }
    let mut spans: Vec<Option<Span>> = vec![None; n_seq_max];
    for t in tokens {
        for s in t.seqs.iter() {
            let span = spans[s].get_or_insert(Span { min: t.pos, max: t.pos, n: 0 });
            if t.pos < span.max {
                return bad(format!(
                    "sequence {s} goes back from position {} to {} in the batch",
                    span.max, t.pos
                ));
            }
            *span = Span { min: span.min.min(t.pos), max: span.max.max(t.pos), n: span.n + 1 };
        }
    }
    for (s, span) in spans.iter().enumerate() {
        let Some(span) = span else { continue };
        let last = pos_max(kv, s);
        if last >= 0 && span.min != last + 1 {
            return bad(format!(
                "sequence {s} ends at position {last} but the batch goes on at {}",
                span.min
            ));
        }
        if i64::from(span.max) - i64::from(span.min) + 1 > span.n as i64 {
            return bad(format!(
                "sequence {s} has positions {} to {} in the batch but only {} tokens",
                span.min, span.max, span.n
            ));
        }
    }
    for t in tokens {
        let first = pos_max(kv, t.seq);
        if let Some(other) = t.seqs.iter().find(|&s| pos_max(kv, s) != first) {
            return bad(format!(
                "sequences {} and {other} share a token but end at positions {first} and {}",
                t.seq,
                pos_max(kv, other)
            ));
        }
    }
    Ok(())
}
