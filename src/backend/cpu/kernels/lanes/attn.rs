//! One tile of attention with an online softmax.
//!
//! Keys are transposed so that a lane is a key: a score is two chains of fused multiply-adds,
//! over the even and the odd elements of the head, and no sum across lanes. It depends neither
//! on the key's neighbours nor on the number of queries. Values are used as they lie: a lane is
//! an element of the result, with one chain over the query's own keys in their order.

use std::mem::MaybeUninit;

use super::{Lanes, exp, tanh};
use crate::backend::cpu::kernels::scalar::attn::{AttnState, AttnTile, TILE};

/// Queries that share one transposition.
const QUERIES: usize = 64;
/// Head elements that are transposed at a time; even, so that chains go on in the next block.
const DIMS: usize = 128;

/// Registers of keys that are worked on together.
const SIDE: usize = 2;

/// One number for each key of a tile.
type Row = [f32; TILE];

/// Working memory of a call, on the stack.
#[repr(align(64))]
struct Work {
    /// Keys, transposed: a row for each head element.
    keys: [MaybeUninit<Row>; DIMS],
    /// Each query's scores, later weights. Between blocks of a long head: the even chain.
    even: [MaybeUninit<Row>; QUERIES],
    /// Between blocks of a long head: the odd chain.
    odd: [MaybeUninit<Row>; QUERIES],
    /// What each query's earlier sums are multiplied with.
    decay: [f32; QUERIES],
}

/// Calls `$f::<V, Q>(q, …)` for runs of `Q` queries, `Q` from large to small.
macro_rules! in_runs {
    ($n:expr, $max:ident, $f:ident::<$v:ident>($($arg:expr),*)) => {{
        let n = $n;
        let mut q = 0;
        while q < n {
            q += match n - q {
                6.. if $max >= 6 => { $f::<$v, 6>(q, $($arg),*); 6 }
                4.. if $max >= 6 => { $f::<$v, 4>(q, $($arg),*); 4 }
                3.. => { $f::<$v, 3>(q, $($arg),*); 3 }
                2 => { $f::<$v, 2>(q, $($arg),*); 2 }
                _ => { $f::<$v, 1>(q, $($arg),*); 1 }
            };
        }
    }};
}

/// Feeds a tile to the states of its queries, `Q` of them in a register tile.
///
/// # Safety
/// Needs the instruction set of `V`; all lengths fit.
#[inline(always)]
pub(in super::super) unsafe fn attn_tile<V: Lanes, const Q: usize>(
    t: &AttnTile<'_>,
    st: &mut AttnState<'_>,
) {
    let mut work = MaybeUninit::<Work>::uninit();
    let work = work.as_mut_ptr();
    for q0 in (0..t.valid.len()).step_by(QUERIES) {
        let n_q = QUERIES.min(t.valid.len() - q0);
        let valid = &t.valid[q0..q0 + n_q];
        // SAFETY: the caller's promise: queries q0 .. q0 + n_q have their parts of q and state.
        // `work` is only written through raw pointers before it is read.
        unsafe {
            scores::<V, Q>(t, t.q.as_ptr().add(q0 * t.head_dim_k), n_q, work);
            for (i, valid) in valid.iter().enumerate() {
                if !valid.is_empty() {
                    let (m, l) = (&mut st.m[q0 + i], &mut st.l[q0 + i]);
                    let row = (&raw mut (*work).even[i]).cast();
                    (&raw mut (*work).decay[i]).write(softmax::<V>(
                        t,
                        q0 + i,
                        row,
                        usize::from(valid.start)..usize::from(valid.end),
                        m,
                        l,
                    ));
                }
            }
            let values = Values {
                v: t.v.as_ptr(),
                head_dim: t.head_dim_v,
                valid: valid.as_ptr(),
                p: (&raw const (*work).even).cast(),
                decay: (&raw const (*work).decay).cast(),
                acc: st.acc.as_mut_ptr().add(q0 * t.head_dim_v),
            };
            in_runs!(n_q, Q, weigh::<V>(&values));
        }
    }
}

/// Writes `q . k` of all queries and keys to `work.even`; what it writes for keys beyond
/// `n_keys` has no meaning.
///
/// # Safety
/// Needs the instruction set of `V` and `n_q` queries at `q`.
#[inline(always)]
unsafe fn scores<V: Lanes, const Q: usize>(
    t: &AttnTile<'_>,
    q: *const f32,
    n_q: usize,
    work: *mut Work,
) {
    // SAFETY: the caller's promise; d and key stay inside the tile.
    unsafe {
        let keys: *mut f32 = (&raw mut (*work).keys).cast();
        let mut d0 = 0;
        // A head of no elements still needs its scores, which are 0.
        while d0 == 0 || d0 < t.head_dim_k {
            let n_d = DIMS.min(t.head_dim_k - d0);
            // Absent keys are zeros, up to the registers that `block_scores` works on together.
            for key in (0..t.n_keys.next_multiple_of(SIDE * V::N)).step_by(V::N) {
                let n = t.n_keys.saturating_sub(key).min(V::N);
                for d in (0..n_d).step_by(V::N) {
                    V::transpose(
                        t.k.as_ptr().wrapping_add(key * t.head_dim_k + d0 + d),
                        t.head_dim_k,
                        n,
                        V::N.min(n_d - d),
                        keys.add(d * TILE + key),
                        TILE,
                    );
                }
            }
            let block = Block {
                keys,
                n_keys: t.n_keys,
                q: q.add(d0),
                ld: t.head_dim_k,
                n_d,
                even: (&raw mut (*work).even).cast(),
                odd: (&raw mut (*work).odd).cast(),
                first: d0 == 0,
                last: d0 + n_d == t.head_dim_k,
            };
            in_runs!(n_q, Q, block_scores::<V>(&block));
            d0 += DIMS;
        }
    }
}

/// Some head elements of all queries and the transposed keys.
struct Block {
    keys: *const f32,
    n_keys: usize,
    q: *const f32,
    ld: usize,
    n_d: usize,
    even: *mut f32,
    odd: *mut f32,
    first: bool,
    last: bool,
}

/// The block's share in the scores of queries `q .. q + Q`.
///
/// # Safety
/// Needs the instruction set of `V`; the pointers of `b` fit its lengths.
#[inline(always)]
unsafe fn block_scores<V: Lanes, const Q: usize>(q: usize, b: &Block) {
    // SAFETY: the caller's promise; rows of work have TILE elements, and 2 N divides TILE.
    unsafe {
        for key in (0..b.n_keys).step_by(SIDE * V::N) {
            let at = |q: usize, v: usize| q * TILE + key + v * V::N;
            let mut even = [[V::splat(0.0); SIDE]; Q];
            let mut odd = even;
            if !b.first {
                for i in 0..Q {
                    for v in 0..SIDE {
                        even[i][v] = V::load(b.even.add(at(q + i, v)));
                        odd[i][v] = V::load(b.odd.add(at(q + i, v)));
                    }
                }
            }
            let mut d = 0;
            while d + 2 <= b.n_d {
                step::<V, Q>(b, q, key, d, &mut even);
                step::<V, Q>(b, q, key, d + 1, &mut odd);
                d += 2;
            }
            if d < b.n_d {
                step::<V, Q>(b, q, key, d, &mut even);
            }
            for i in 0..Q {
                for v in 0..SIDE {
                    if b.last {
                        even[i][v].add(odd[i][v]).store(b.even.add(at(q + i, v)));
                    } else {
                        even[i][v].store(b.even.add(at(q + i, v)));
                        odd[i][v].store(b.odd.add(at(q + i, v)));
                    }
                }
            }
        }
    }
}

/// One head element of `Q` queries times `SIDE` registers of keys.
///
/// # Safety
/// As [`block_scores`].
#[inline(always)]
unsafe fn step<V: Lanes, const Q: usize>(
    b: &Block,
    q: usize,
    key: usize,
    d: usize,
    acc: &mut [[V; SIDE]; Q],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut k = [V::splat(0.0); SIDE];
        for v in 0..SIDE {
            k[v] = V::load(b.keys.add(d * TILE + key + v * V::N));
        }
        for i in 0..Q {
            let x = V::splat(*b.q.add((q + i) * b.ld + d));
            for v in 0..SIDE {
                acc[i][v] = x.fma(k[v], acc[i][v]);
            }
        }
    }
}

/// Turns the dot products of query `q` into weights `exp(score - m)`, zero for other keys than `keys`;
/// updates `m` and `l` and gives the factor on what was summed before.
///
/// # Safety
/// Needs the instruction set of `V` and a row at `row`.
#[inline(always)]
unsafe fn softmax<V: Lanes>(
    t: &AttnTile<'_>,
    q: usize,
    row: *mut f32,
    keys: std::ops::Range<usize>,
    m: &mut f32,
    l: &mut f32,
) -> f32 {
    // SAFETY: the caller's promise; registers of row that hold no key of `keys` are not read.
    unsafe {
        let none = V::splat(f32::NEG_INFINITY);
        let lanes = |at: usize| {
            (keys.start.saturating_sub(at).min(V::N), keys.end.saturating_sub(at).min(V::N))
        };
        let mut s = [none; TILE];
        let mut greatest = V::splat(*m);
        for (i, at) in (0..TILE).step_by(V::N).enumerate() {
            let (lo, hi) = lanes(at);
            if lo < hi {
                let mut x = V::load(row.add(at)).mul(V::splat(t.scale));
                if t.softcap != 0.0 {
                    let cap = V::splat(t.softcap);
                    x = tanh(x.div(cap)).mul(cap);
                }
                if !t.bias.is_empty() {
                    x = x.add(V::load(t.bias.as_ptr().add(q * TILE + at)));
                }
                s[i] = x.keep(lo, hi, none);
                greatest = greatest.max(s[i]);
            }
        }
        let greatest = V::splat(greatest.greatest());
        let mut sum = V::splat(0.0);
        for (i, at) in (0..TILE).step_by(V::N).enumerate() {
            let (lo, hi) = lanes(at);
            if lo < hi {
                let p = exp(s[i].sub(greatest)).keep(lo, hi, V::splat(0.0));
                p.store(row.add(at));
                sum = sum.add(p);
            }
        }
        let decay = exp(V::splat(*m).sub(greatest)).greatest();
        *m = greatest.greatest();
        *l = *l * decay + sum.sum();
        decay
    }
}

/// Values, and the queries that weigh them.
struct Values {
    v: *const f32,
    head_dim: usize,
    valid: *const std::ops::Range<u8>,
    p: *const f32,
    decay: *const f32,
    acc: *mut f32,
}

/// `acc = acc * decay + p . v` for queries `q .. q + Q`: the keys that all of them see together,
/// before and after those each query's others alone.
///
/// # Safety
/// Needs the instruction set of `V`; the pointers of `x` fit.
#[inline(always)]
unsafe fn weigh<V: Lanes, const Q: usize>(q: usize, x: &Values) {
    // SAFETY: the caller's promise; valid ranges lie inside the tile.
    unsafe {
        let range = |i: usize| {
            let r = &*x.valid.add(q + i);
            usize::from(r.start)..usize::from(r.end)
        };
        let (mut lo, mut hi, mut all) = (0, TILE, true);
        for i in 0..Q {
            (lo, hi, all) =
                (lo.max(range(i).start), hi.min(range(i).end), all && !range(i).is_empty());
        }
        if !all || lo >= hi {
            for i in 0..Q {
                if !range(i).is_empty() {
                    weigh_keys::<V, 1>(x, q + i, range(i), [*x.decay.add(q + i)]);
                }
            }
            return;
        }
        let mut decay = [0.0; Q];
        for i in 0..Q {
            decay[i] = *x.decay.add(q + i);
            if range(i).start < lo {
                weigh_keys::<V, 1>(x, q + i, range(i).start..lo, [decay[i]]);
                decay[i] = 1.0;
            }
        }
        weigh_keys::<V, Q>(x, q, lo..hi, decay);
        for i in 0..Q {
            if hi < range(i).end {
                weigh_keys::<V, 1>(x, q + i, hi..range(i).end, [1.0]);
            }
        }
    }
}

/// All columns of `keys` for `Q` queries that see every one of them.
///
/// # Safety
/// As [`weigh`].
#[inline(always)]
unsafe fn weigh_keys<V: Lanes, const Q: usize>(
    x: &Values,
    q: usize,
    keys: std::ops::Range<usize>,
    decay: [f32; Q],
) {
    // SAFETY: the caller's promise; columns stay inside the head.
    unsafe {
        let mut d = 0;
        while d + 4 * V::N <= x.head_dim {
            weigh_cols::<V, Q, 4>(x, q, keys.clone(), decay, d, V::N);
            d += 4 * V::N;
        }
        if d + 2 * V::N <= x.head_dim {
            weigh_cols::<V, Q, 2>(x, q, keys.clone(), decay, d, V::N);
            d += 2 * V::N;
        }
        while d < x.head_dim {
            weigh_cols::<V, Q, 1>(x, q, keys.clone(), decay, d, V::N.min(x.head_dim - d));
            d += V::N;
        }
    }
}

/// `C` registers of columns from column `d` on, `n` elements in each.
///
/// # Safety
/// As [`weigh`]; the columns lie inside the head.
#[inline(always)]
unsafe fn weigh_cols<V: Lanes, const Q: usize, const C: usize>(
    x: &Values,
    q: usize,
    keys: std::ops::Range<usize>,
    decay: [f32; Q],
    d: usize,
    n: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = |i: usize, c: usize| x.acc.add((q + i) * x.head_dim + d + c * V::N);
        let mut acc = [[V::splat(0.0); C]; Q];
        for i in 0..Q {
            for c in 0..C {
                acc[i][c] = load_n::<V>(at(i, c), n).mul(V::splat(decay[i]));
            }
        }
        for j in keys {
            let v = x.v.add(j * x.head_dim + d);
            let mut p = [V::splat(0.0); Q];
            for i in 0..Q {
                p[i] = V::splat(*x.p.add((q + i) * TILE + j));
            }
            for c in 0..C {
                let v = load_n::<V>(v.add(c * V::N), n);
                for i in 0..Q {
                    acc[i][c] = p[i].fma(v, acc[i][c]);
                }
            }
        }
        for i in 0..Q {
            for c in 0..C {
                if n == V::N {
                    acc[i][c].store(at(i, c));
                } else {
                    acc[i][c].store_part(at(i, c), n);
                }
            }
        }
    }
}

/// A whole register, or `n` elements of it.
///
/// # Safety
/// Needs the instruction set of `V` and `n <= N` elements at `p`.
#[inline(always)]
unsafe fn load_n<V: Lanes>(p: *const f32, n: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if n == V::N { V::load(p) } else { V::load_part(p, n) } }
}
