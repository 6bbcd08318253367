//! One tile of attention with an online softmax: plain loops.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), in the form of
//! FlashAttention (Dao et al., 2022): a query carries the greatest score so far, the sum of
//! `exp(score - greatest)` and the equally weighted sum of values.

use std::ops::Range;

use super::float::dot;

/// Keys in a tile at most. Tiles lie at fixed positions of a sequence, so that a key's place in
/// its tile, and with it the order of all sums, does not depend on the call.
pub const TILE: usize = 32;

/// Keys and values of one tile, and the queries that look at them. All matrices are row-major.
#[derive(Clone, Copy, Debug)]
pub struct AttnTile<'a> {
    /// Elements of a key and a query.
    pub head_dim_k: usize,
    /// Elements of a value and a result.
    pub head_dim_v: usize,
    /// Keys in this tile, 1 to [`TILE`].
    pub n_keys: usize,
    /// `n_keys` x `head_dim_k`
    pub k: &'a [f32],
    /// `n_keys` x `head_dim_v`
    pub v: &'a [f32],
    /// `n_q` x `head_dim_k`
    pub q: &'a [f32],
    /// For each query the keys that it sees, possibly none. What the other keys and values hold
    /// has no influence, not even NaN.
    pub valid: &'a [Range<u8>],
    /// Factor on `q . k`.
    pub scale: f32,
    /// Cap: scores become `softcap * tanh(score / softcap)`; 0 for none.
    pub softcap: f32,
    /// Added to the scores after the cap, `n_q` x [`TILE`]; or nothing.
    pub bias: &'a [f32],
}

/// What the queries of an [`AttnTile`] have seen so far.
#[derive(Debug)]
pub struct AttnState<'a> {
    /// Greatest score of each query; minus infinity before the first key.
    pub m: &'a mut [f32],
    /// Sum of `exp(score - m)` of each query; 0 before the first key.
    pub l: &'a mut [f32],
    /// `n_q` x `head_dim_v`: sum of `exp(score - m) * value`; 0 before the first key.
    pub acc: &'a mut [f32],
}

/// Feeds a tile to the states of its queries.
pub(crate) fn attn_tile(t: &AttnTile<'_>, st: &mut AttnState<'_>) {
    for (i, valid) in t.valid.iter().enumerate() {
        let keys = usize::from(valid.start)..usize::from(valid.end);
        if keys.is_empty() {
            continue;
        }
        let q = &t.q[i * t.head_dim_k..][..t.head_dim_k];
        let acc = &mut st.acc[i * t.head_dim_v..][..t.head_dim_v];
        let mut p = [0f32; TILE];
        let mut m = st.m[i];
        for j in keys.clone() {
            p[j] = score(t, q, &t.k[j * t.head_dim_k..][..t.head_dim_k]);
            p[j] += t.bias.get(i * TILE + j).unwrap_or(&0.0);
            m = m.max(p[j]);
        }
        let c = (st.m[i] - m).exp();
        st.m[i] = m;
        st.l[i] *= c;
        acc.iter_mut().for_each(|a| *a *= c);
        for j in keys {
            let p = (p[j] - m).exp();
            st.l[i] += p;
            for (a, v) in acc.iter_mut().zip(&t.v[j * t.head_dim_v..]) {
                *a += p * v;
            }
        }
    }
}

fn score(t: &AttnTile<'_>, q: &[f32], k: &[f32]) -> f32 {
    let s = t.scale * dot(q, k);
    if t.softcap == 0.0 { s } else { t.softcap * (s / t.softcap).tanh() }
}

/// `total = total * a + part * b`
pub(crate) fn blend(a: f32, total: &mut [f32], b: f32, part: &[f32]) {
    for (total, part) in total.iter_mut().zip(part) {
        *total = *total * a + part * b;
    }
}

/// `out = acc / l`
pub(crate) fn divide(acc: &[f32], l: f32, out: &mut [f32]) {
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = acc / l;
    }
}
