//! Attention: tiles, merging of chunks, and what keys outside the valid range may hold.

use std::ops::Range;

use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::table::attn::{AttnState, AttnTile, TILE};
use proptest::prelude::*;

use crate::guard::Guarded;
use crate::{Rng, bits, reference};

/// A sequence's keys and values, and queries that each see a range of them.
#[derive(Clone)]
struct Case {
    dk: usize,
    dv: usize,
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    valid: Vec<Range<usize>>,
    scale: f32,
    softcap: f32,
    /// Summand for each query and key, or none.
    bias: Vec<f32>,
}

impl Case {
    fn new(dk: usize, dv: usize, n_keys: usize, valid: Vec<Range<usize>>) -> Self {
        let mut rng = Rng::new((dk * 7 + dv * 3 + n_keys) as u64);
        Self {
            dk,
            dv,
            k: rng.floats(n_keys * dk),
            v: rng.floats(n_keys * dv),
            q: rng.floats(valid.len() * dk).iter().map(|v| v * 8.0).collect(),
            valid,
            scale: 1.0 / (dk as f32).sqrt(),
            softcap: 0.0,
            bias: Vec::new(),
        }
    }

    /// The case with penalties on the distance from each query's last key.
    fn biased(self) -> Self {
        let mut bias = Vec::new();
        for (i, valid) in self.valid.iter().enumerate() {
            let slope = 1.0 / (1 << (i % 6)) as f32;
            bias.extend((0..self.n_keys()).map(|j| -slope * (valid.end as f32 - j as f32).abs()));
        }
        Self { bias, ..self }
    }

    /// Ranges of all kinds: empty, one key, all keys, causal edges.
    fn mixed(dk: usize, dv: usize, n_keys: usize, n_q: usize) -> Self {
        let mut rng = Rng::new((n_keys * 100 + n_q) as u64);
        let valid = (0..n_q).map(|i| match i % 8 {
            0 | 1 => 0..n_keys,
            2 | 3 => 0..(n_keys / 2 + i).min(n_keys),
            4 => {
                let lo = rng.below(n_keys);
                lo..lo + 1
            }
            5 => 0..0,
            _ => {
                let (a, b) = (rng.below(n_keys + 1), rng.below(n_keys + 1));
                a.min(b)..a.max(b)
            }
        });
        Self::new(dk, dv, n_keys, valid.collect())
    }

    fn n_keys(&self) -> usize {
        self.v.len() / self.dv
    }

    /// The case of queries `q` alone.
    fn only(&self, q: Range<usize>) -> Self {
        Self {
            q: self.q[q.start * self.dk..q.end * self.dk].to_vec(),
            bias: match self.bias.len() {
                0 => Vec::new(),
                _ => self.bias[q.start * self.n_keys()..q.end * self.n_keys()].to_vec(),
            },
            valid: self.valid[q].to_vec(),
            ..self.clone()
        }
    }

    /// Walks the keys `keys`, a range that starts at a tile, from an empty state.
    fn states(&self, table: &KernelTable, keys: Range<usize>) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let n_q = self.valid.len();
        let (mut m, mut l) = (vec![f32::NEG_INFINITY; n_q], vec![0.0; n_q]);
        let mut acc = Guarded::new(&vec![0.0; n_q * self.dv]);
        let q = Guarded::new(&self.q);
        for at in keys.clone().step_by(TILE) {
            let n_keys = TILE.min(keys.end - at);
            let valid: Vec<Range<u8>> = self
                .valid
                .iter()
                .map(|r| {
                    let part = |x: usize| x.clamp(at, at + n_keys) as u8 - at as u8;
                    part(r.start)..part(r.end)
                })
                .collect();
            // What lies in places without a key has no meaning.
            let mut bias = vec![f32::NAN; if self.bias.is_empty() { 0 } else { n_q * TILE }];
            let own = self.bias.chunks(self.n_keys()).map(|row| &row[at..at + n_keys]);
            for (row, own) in bias.chunks_mut(TILE).zip(own) {
                row[..n_keys].copy_from_slice(own);
            }
            let tile = AttnTile {
                head_dim_k: self.dk,
                head_dim_v: self.dv,
                n_keys,
                k: &Guarded::new(&self.k[at * self.dk..][..n_keys * self.dk]),
                v: &Guarded::new(&self.v[at * self.dv..][..n_keys * self.dv]),
                q: &q,
                valid: &valid,
                scale: self.scale,
                softcap: self.softcap,
                bias: &Guarded::new(&bias),
            };
            let mut st = AttnState { m: &mut m, l: &mut l, acc: &mut acc };
            table.attn_tile(&tile, &mut st);
        }
        (m, l, acc.to_vec())
    }

    fn run(&self, table: &KernelTable) -> Vec<f32> {
        let (_, l, acc) = self.states(table, 0..self.n_keys());
        let mut out = vec![f32::NAN; acc.len()];
        for (i, l) in l.iter().enumerate() {
            let at = i * self.dv..(i + 1) * self.dv;
            table.attn_finish(*l, &Guarded::new(&acc[at.clone()]), &mut out[at]);
        }
        out
    }

    /// Plain softmax in f64.
    fn expected(&self) -> Vec<f64> {
        let mut out = Vec::new();
        for (i, (q, valid)) in self.q.chunks(self.dk).zip(&self.valid).enumerate() {
            let scores: Vec<f64> = valid
                .clone()
                .map(|j| {
                    let k = &self.k[j * self.dk..][..self.dk];
                    let dot: f64 =
                        q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let (s, cap) = (dot * f64::from(self.scale), f64::from(self.softcap));
                    let s = if cap == 0.0 { s } else { cap * (s / cap).tanh() };
                    s + f64::from(*self.bias.get(i * self.n_keys() + j).unwrap_or(&0.0))
                })
                .collect();
            let m = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - m).exp()).sum();
            out.extend((0..self.dv).map(|d| {
                let weighed = scores.iter().zip(valid.clone());
                let weighed =
                    weighed.map(|(s, j)| (s - m).exp() * f64::from(self.v[j * self.dv + d]));
                if valid.is_empty() { 0.0 } else { weighed.sum::<f64>() / sum }
            }));
        }
        out
    }

    fn check(&self, table: &KernelTable) {
        for (i, (got, want)) in self.run(table).iter().zip(self.expected()).enumerate() {
            // Values are up to 1. NaN fails.
            assert!(
                (f64::from(*got) - want).abs() <= 3e-6,
                "{} dims {}/{} keys {} query {}/{} element {}: {got} for {want}",
                table.isa(),
                self.dk,
                self.dv,
                self.n_keys(),
                i / self.dv,
                self.valid.len(),
                i % self.dv,
            );
        }
    }
}

const HEADS: [(usize, usize); 14] = [
    (1, 1),
    (3, 5),
    (8, 8),
    (15, 17),
    (16, 16),
    (64, 64),
    (64, 128),
    (80, 80),
    (96, 96),
    (112, 112),
    (128, 128),
    (130, 33),
    (192, 128),
    (257, 256),
];
const N_KEYS: [usize; 9] = [1, 2, 8, 15, 16, 17, 31, 32, 107];
const N_Q: [usize; 10] = [1, 2, 3, 4, 5, 6, 7, 13, 48, 65];

#[test]
fn tiles_equal_a_plain_softmax() {
    for table in KernelTable::all_supported() {
        for (dk, dv) in HEADS {
            for n_keys in N_KEYS {
                for n_q in [1, 3, 8, 13] {
                    Case::mixed(dk, dv, n_keys, n_q).check(table);
                }
            }
        }
        for n_q in N_Q {
            Case::mixed(64, 64, 70, n_q).check(table);
        }
    }
}

#[test]
fn scores_can_be_capped() {
    for table in KernelTable::all_supported() {
        for softcap in [0.5, 5.0, 50.0] {
            Case { softcap, ..Case::mixed(64, 64, 70, 9) }.check(table);
            // Scores far outside the cap.
            Case { softcap, scale: 20.0, ..Case::mixed(64, 64, 70, 9) }.check(table);
        }
    }
}

#[test]
fn scores_can_be_biased() {
    for table in KernelTable::all_supported() {
        for (n_keys, n_q) in [(1, 1), (70, 9), (64, 66), (33, 5)] {
            Case::mixed(64, 48, n_keys, n_q).biased().check(table);
            // After the cap.
            Case { softcap: 2.0, ..Case::mixed(64, 64, n_keys, n_q) }.biased().check(table);
        }
    }
}

/// A sink is merged in as a key with its score, whose value is zero.
#[test]
fn a_sink_takes_its_share() {
    for table in KernelTable::all_supported() {
        let case = Case::mixed(64, 80, 70, 11);
        let plain = case.expected();
        let (m, l, acc) = case.states(table, 0..70);
        for sink in [-1e30, -80.0, -1.0, 0.5, 3.0, 80.0] {
            for (i, valid) in case.valid.iter().enumerate() {
                let (mut m, mut l, at) = (m[i], l[i], i * 80..(i + 1) * 80);
                let (before, mut acc) = ((m, l), acc[at.clone()].to_vec());
                table.attn_merge(sink, 1.0, &[0.0; 80], (&mut m, &mut l, &mut acc));
                let mut out = vec![f32::NAN; 80];
                table.attn_finish(l, &acc, &mut out);
                let own = f64::from(before.1) * f64::from(before.0).exp();
                let own = if valid.is_empty() { 0.0 } else { own };
                let share = own / (own + f64::from(sink).exp()).max(1e-300);
                for (got, plain) in out.iter().zip(&plain[at]) {
                    assert!(
                        (f64::from(*got) - plain * share).abs() <= 3e-6,
                        "{} sink {sink} query {i}: {got} for {}",
                        table.isa(),
                        plain * share
                    );
                }
            }
        }
    }
}

#[test]
fn a_query_does_not_depend_on_its_company() {
    for table in KernelTable::all_supported() {
        for (dk, dv) in HEADS {
            for (n_keys, n_q) in [(32, 13), (75, 66)] {
                let case = Case::mixed(dk, dv, n_keys, n_q).biased();
                let (m, l, acc) = case.states(table, 0..n_keys);
                for width in [1, 2, 3, 4, 5, 6, 7, 64] {
                    for q in (0..n_q).step_by(if width == 1 { 1 } else { 11 }) {
                        let q = q..(q + width).min(n_q);
                        let (m1, l1, acc1) = case.only(q.clone()).states(table, 0..n_keys);
                        assert_eq!(bits(&m1), bits(&m[q.clone()]));
                        assert_eq!(bits(&l1), bits(&l[q.clone()]));
                        let acc = &acc[q.start * dv..q.end * dv];
                        assert_eq!(bits(&acc1), bits(acc), "{} {dk}/{dv} {q:?}", table.isa());
                    }
                }
            }
        }
    }
}

#[test]
fn keys_outside_the_valid_range_have_no_influence() {
    for table in KernelTable::all_supported() {
        for (dk, dv) in HEADS {
            for n_keys in [1, 7, 16, 20, 32, 70] {
                let n_q = 9;
                let mut case = Case::mixed(dk, dv, n_keys, n_q);
                case.valid = (0..n_q).map(|i| n_keys / 3..n_keys - (n_keys / 4).min(i)).collect();
                let want = case.states(table, 0..n_keys);
                // Garbage before the first valid key and after each query's last one.
                for i in 0..n_q {
                    let mut one = case.only(i..i + 1);
                    for j in (0..n_keys).filter(|j| !case.valid[i].contains(j)) {
                        let junk = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38][j % 4];
                        one.k[j * dk..][..dk].fill(junk);
                        one.v[j * dv..][..dv].fill(junk);
                    }
                    let got = one.states(table, 0..n_keys);
                    assert_eq!(got.0[0].to_bits(), want.0[i].to_bits());
                    assert_eq!(got.1[0].to_bits(), want.1[i].to_bits());
                    let want = &want.2[i * dv..][..dv];
                    assert_eq!(bits(&got.2), bits(want), "{} {dk}/{dv} {n_keys}", table.isa());
                    // Or absent, where they come last.
                    let seen = case.valid[i].end.max(1);
                    let got = case.only(i..i + 1).states(table, 0..seen);
                    assert_eq!(bits(&got.2), bits(want), "{} short tile", table.isa());
                }
            }
        }
    }
}

#[test]
fn a_masked_neighbour_is_not_multiplied_with() {
    // Six queries in one register tile; only the last sees the NaN value.
    for table in KernelTable::all_supported() {
        let mut case = Case::new(64, 64, 32, vec![0..31, 0..31, 0..30, 0..31, 2..31, 0..32]);
        case.v[31 * 64 + 9] = f32::NAN;
        let out = case.run(table);
        for (i, v) in out.iter().enumerate() {
            assert_eq!(v.is_nan(), i == 5 * 64 + 9, "{} {i}", table.isa());
        }
        // A NaN key spoils the whole row of who sees it, and nobody else's.
        case.k[31 * 64 + 9] = f32::NAN;
        let out = case.run(table);
        for (i, v) in out.iter().enumerate() {
            assert_eq!(v.is_nan(), i / 64 == 5, "{} {i}", table.isa());
        }
    }
}

#[test]
fn chunks_merge_to_the_whole() {
    for table in KernelTable::all_supported() {
        let (dk, dv, n_keys, n_q) = (64, 80, 200, 11);
        let case = Case::mixed(dk, dv, n_keys, n_q);
        let (mut m, mut l, mut acc) = case.states(table, 0..64);
        for chunk in [64..128, 128..192, 192..200] {
            let (m1, l1, acc1) = case.states(table, chunk);
            for i in 0..n_q {
                let before = (m[i], l[i], acc[i * dv..][..dv].to_vec());
                let part = &acc1[i * dv..][..dv];
                let into = (&mut m[i], &mut l[i], &mut acc[i * dv..][..dv]);
                table.attn_merge(m1[i], l1[i], part, into);
                let after = (m[i], l[i], acc[i * dv..][..dv].to_vec());
                if l1[i] == 0.0 {
                    assert_eq!(after, before, "an empty chunk changes nothing");
                } else if before.1 == 0.0 {
                    assert_eq!(after, (m1[i], l1[i], part.to_vec()), "the first chunk is copied");
                }
            }
        }
        let want = case.expected();
        let mut out = vec![f32::NAN; dv];
        for i in 0..n_q {
            table.attn_finish(l[i], &acc[i * dv..][..dv], &mut out);
            for (got, want) in out.iter().zip(&want[i * dv..]) {
                assert!((f64::from(*got) - want).abs() <= 3e-6, "{} query {i}", table.isa());
            }
        }
    }
}

#[test]
fn a_query_without_keys_gives_zeros() {
    for table in KernelTable::all_supported() {
        let case = Case::new(16, 20, 40, vec![0..0, 0..40, 40..40]);
        let (m, l, _) = case.states(table, 0..40);
        assert_eq!((m[0], l[0], m[2], l[2]), (f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0));
        let out = case.run(table);
        assert!(out[..20].iter().chain(&out[40..]).all(|v| v.to_bits() == 0));
        assert!(out[20..40].iter().all(|v| v.is_finite()));
    }
}

#[test]
fn huge_and_tiny_scores_do_not_overflow() {
    for table in KernelTable::all_supported() {
        for scale in [1e-30, 1.0, 1e3, 1e30] {
            let case = Case { scale, ..Case::new(16, 16, 64, vec![0..64; 3]) };
            let out = case.run(table);
            assert!(out.iter().all(|v| v.is_finite() && v.abs() <= 1.0), "{}", table.isa());
        }
    }
}

#[test]
#[should_panic(expected = "keys in a tile")]
fn tiles_are_checked() {
    let tile = AttnTile {
        head_dim_k: 1,
        head_dim_v: 1,
        n_keys: 33,
        k: &[0.0; 33],
        v: &[0.0; 33],
        q: &[0.0; 2],
        valid: &[0..33, 0..33],
        scale: 1.0,
        softcap: 0.0,
        bias: &[],
    };
    let mut st = AttnState { m: &mut [0.0; 2], l: &mut [0.0; 2], acc: &mut [0.0; 2] };
    reference().attn_tile(&tile, &mut st);
}

proptest! {
    // A found failure becomes a named test, not a seed file.
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_shape(dk in 1usize..140, dv in 1usize..140, n_keys in 1usize..100, n_q in 1usize..20) {
        let case = Case::mixed(dk, dv, n_keys, n_q);
        for table in KernelTable::all_supported() {
            case.check(table);
        }
    }
}
