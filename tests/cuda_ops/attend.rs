//! `kernels/attend.cu`

use powerinfer::backend::cuda::launch::{Attend, CacheType, Slopes, attend, attend_scratch};

use super::cuda_support::every_order;
use super::gear::{Gear, close, random};
use super::rope::{decoded, encoded};

struct Case {
    kind_k: CacheType,
    kind_v: CacheType,
    n_head: usize,
    n_head_kv: usize,
    dim_k: usize,
    dim_v: usize,
    softcap: f32,
    alibi: bool,
    sinks: bool,
    /// Parts of the list, one for each token.
    ranges: Vec<[i32; 2]>,
}

fn holds(case: &Case) {
    let gear = Gear::new();
    let (n_rows, n_list, split_keys) = (301, 300, 128);
    let (n_tokens, n_head) = (case.ranges.len(), case.n_head);
    let shared_by = n_head / case.n_head_kv;
    let (width_k, width_v) = (case.n_head_kv * case.dim_k, case.n_head_kv * case.dim_v);
    // Rows of the cache in an order of their own; those that are not listed hold NaNs.
    let list: Vec<i32> = (0..n_list).map(|i| (i * 7 + 3) % n_rows).collect();
    let rows = |kind: CacheType, width: usize, seed: u32| -> Vec<u8> {
        let row = |r: i32| {
            let x = random(width, seed + r as u32);
            let listed = list.contains(&r);
            encoded(kind, &if listed { x } else { vec![f32::NAN; width] })
        };
        (0..n_rows).flat_map(row).collect()
    };
    let (k, v) = (rows(case.kind_k, width_k, 1000), rows(case.kind_v, width_v, 2000));
    // Keys and values stand behind a token's queries.
    let q_stride = n_head * case.dim_k + 16;
    let q: Vec<f32> = random(n_tokens * q_stride, 3).iter().map(|x| x * 3.0).collect();
    let (slopes, sinks) = (random(n_head, 4), random(n_head, 5));
    let key_pos: Vec<i32> = (0..n_list).collect();
    let query_pos: Vec<i32> = (0..n_tokens as i32).map(|t| t + 100).collect();
    let ranges: Vec<i32> = case.ranges.iter().flatten().copied().collect();
    let max_keys = case.ranges.iter().map(|[a, b]| (b - a) as usize).max().unwrap();

    let (dq, dk, dv) = (gear.put(&q), gear.put(&k), gear.put(&v));
    let (dranges, dlist) = (gear.put(&ranges), gear.put(&list));
    let (dslopes, dkey, dquery) = (gear.put(&slopes), gear.put(&key_pos), gear.put(&query_pos));
    let dsinks = gear.put(&sinks);
    let scratch = attend_scratch(n_tokens, n_head, case.dim_v, max_keys, split_keys).unwrap();
    let (partials, dst) = (gear.scratch(scratch), gear.scratch(n_tokens * n_head * case.dim_v * 4));
    let scale = 1.0 / (case.dim_k as f32).sqrt();
    let a = Attend {
        q: dq.view(),
        q_stride,
        k: dk.view(),
        v: dv.view(),
        kind_k: case.kind_k,
        kind_v: case.kind_v,
        n_rows: n_rows as usize,
        ranges: dranges.view(),
        list: dlist.view(),
        n_list: n_list as usize,
        max_keys,
        alibi: case.alibi.then(|| Slopes {
            slopes: dslopes.view(),
            key_pos: dkey.view(),
            query_pos: dquery.view(),
        }),
        sinks: case.sinks.then(|| dsinks.view()),
        partials: partials.view(),
        dst: dst.view(),
        n_tokens,
        n_head,
        n_head_kv: case.n_head_kv,
        dim_k: case.dim_k,
        dim_v: case.dim_v,
        split_keys,
        scale,
        softcap: case.softcap,
    };
    attend(&gear.stream, &a).unwrap();

    let row_of = |kind: CacheType, bytes: &[u8], width: usize, i: usize| -> Vec<f32> {
        let n = kind.row_bytes(width).unwrap();
        decoded(kind, &bytes[list[i] as usize * n..][..n])
    };
    let mut want = vec![0.0_f64; n_tokens * n_head * case.dim_v];
    for (t, &[begin, end]) in case.ranges.iter().enumerate() {
        let of_range = |kind: CacheType, bytes: &[u8], width: usize| -> Vec<Vec<f32>> {
            (begin..end).map(|i| row_of(kind, bytes, width, i as usize)).collect()
        };
        let keys = of_range(case.kind_k, &k, width_k);
        let values = of_range(case.kind_v, &v, width_v);
        for h in 0..n_head {
            let query = &q[t * q_stride + h * case.dim_k..][..case.dim_k];
            let kv = h / shared_by;
            let score = |j: usize, key: &Vec<f32>| -> f64 {
                let key = &key[kv * case.dim_k..][..case.dim_k];
                let dot: f64 =
                    query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let mut s = dot * f64::from(scale);
                if case.softcap > 0.0 {
                    s = f64::from(case.softcap) * (s / f64::from(case.softcap)).tanh();
                }
                if case.alibi {
                    let away = key_pos[begin as usize + j] - query_pos[t];
                    s -= f64::from(slopes[h]) * f64::from(away.abs());
                }
                s
            };
            let scores: Vec<f64> = keys.iter().enumerate().map(|(j, key)| score(j, key)).collect();
            let sink = if case.sinks { f64::from(sinks[h]) } else { f64::NEG_INFINITY };
            let largest = scores.iter().fold(sink, |m, &s| m.max(s));
            let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum::<f64>()
                + if case.sinks { (sink - largest).exp() } else { 0.0 };
            for (s, value) in scores.iter().zip(&values) {
                let share = (s - largest).exp() / total;
                let to = &mut want[(t * n_head + h) * case.dim_v..][..case.dim_v];
                for (sum, v) in to.iter_mut().zip(&value[kv * case.dim_v..]) {
                    *sum += share * f64::from(*v);
                }
            }
        }
    }
    close(&gear.get(dst.view(), want.len()), &want, 2e-5);
}

const BASE: Case = Case {
    kind_k: CacheType::F16,
    kind_v: CacheType::F16,
    n_head: 6,
    n_head_kv: 2,
    dim_k: 32,
    dim_v: 32,
    softcap: 0.0,
    alibi: false,
    sinks: false,
    ranges: Vec::new(),
};

#[test]
fn grouped_heads_over_splits() {
    every_order(|| {
        for (kind, ranges) in [
            (CacheType::F16, vec![[0, 1], [10, 74], [0, 65], [5, 5], [0, 300]]),
            (CacheType::Q8_0, vec![[3, 200]]),
            (CacheType::F32, vec![[0, 130]]),
        ] {
            holds(&Case { kind_k: kind, kind_v: kind, ranges, ..BASE });
        }
    });
}

/// Keys and values that are kept in different ways.
#[test]
fn mixed_caches() {
    const KINDS: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
    every_order(|| {
        for kind_k in KINDS {
            for kind_v in KINDS.into_iter().filter(|kind| *kind != kind_k) {
                holds(&Case { kind_k, kind_v, ranges: vec![[5, 80]], ..BASE });
                let ranges = (1..10).map(|t| [0, 20 * t]).collect();
                holds(&Case { kind_k, kind_v, dim_k: 64, ranges, ..BASE });
            }
        }
    });
}

/// More heads over one of keys than a block takes; values of another width; everything optional.
#[test]
fn caps_slopes_and_sinks() {
    every_order(|| {
        let optional = Case {
            n_head: 11,
            n_head_kv: 1,
            dim_k: 72,
            dim_v: 40,
            softcap: 2.0,
            alibi: true,
            sinks: true,
            ..BASE
        };
        holds(&Case { ranges: vec![[0, 100], [7, 7]], ..optional });
    });
}

/// Enough tokens for tiles of queries: tokens of one sequence, and of several with windows, whose
/// keys do not begin at tiles of keys; a token without keys; heads of all widths.
#[test]
fn many_tokens() {
    every_order(|| {
        let causal: Vec<_> = (0..40).map(|t| [0, 200 + t]).collect();
        holds(&Case { ranges: causal.clone(), ..BASE });
        holds(&Case { dim_k: 128, dim_v: 96, n_head: 2, n_head_kv: 1, ranges: causal, ..BASE });

        let mut several: Vec<_> = (0..20).map(|t| [t, 60 + t]).collect();
        several.extend((0..20).map(|t| [150 + t / 2, 290 + t / 2]));
        several[3] = [9, 9];
        let optional = Case {
            n_head: 5,
            n_head_kv: 1,
            dim_k: 72,
            dim_v: 40,
            softcap: 2.0,
            alibi: true,
            sinks: true,
            ..BASE
        };
        holds(&Case { ranges: several.clone(), ..optional });
        let q8 = CacheType::Q8_0;
        holds(&Case { kind_k: q8, kind_v: q8, dim_v: 64, ranges: several, ..BASE });
    });
}
