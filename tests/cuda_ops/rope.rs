//! `kernels/rope.cu`

use powerinfer::backend::cuda::launch::{CacheType, Rope, Store, rope, store};

use super::cuda_support::every_order;
use super::gear::{Gear, close, random};

#[test]
fn heads_are_rotated() {
    every_order(|| {
        let gear = Gear::new();
        let (n_tokens, n_heads, head_dim, stride) = (3, 2, 40, 100);
        for (halves, n_rot) in [(false, 40), (true, 40), (true, 24), (false, 0)] {
            let x = random(n_tokens * stride, 1);
            let table: Vec<f32> = (0..n_tokens * n_rot / 2)
                .flat_map(|i| {
                    let angle = i as f32 * 0.37;
                    [angle.cos(), angle.sin()]
                })
                .collect();
            let (d, t) = (gear.put(&x), gear.put(&table));
            let (view, table_view) = (d.view(), t.view());
            let a = Rope {
                x: view,
                table: table_view,
                n_tokens,
                n_heads,
                head_dim,
                n_rot,
                stride,
                halves,
            };
            rope(&gear.stream, &a).unwrap();
            let mut want: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            for t in 0..n_tokens {
                for h in 0..n_heads {
                    for i in 0..n_rot / 2 {
                        let head = t * stride + h * head_dim;
                        let (a, b) = if halves { (i, i + n_rot / 2) } else { (2 * i, 2 * i + 1) };
                        let turn = &table[(t * n_rot / 2 + i) * 2..][..2];
                        let [cos, sin] = [turn[0], turn[1]].map(f64::from);
                        let [u, v] = [x[head + a], x[head + b]].map(f64::from);
                        want[head + a] = u * cos - v * sin;
                        want[head + b] = u * sin + v * cos;
                    }
                }
            }
            close(&gear.get(d.view(), x.len()), &want, 1e-6);
        }
    });
}

/// Rows land where they are told to, in the format of files; others keep what they have.
#[test]
fn rows_of_the_cache() {
    every_order(|| {
        let gear = Gear::new();
        let (n_tokens, width, stride, n_rows) = (4, 96, 128, 5);
        let mut x = random(n_tokens * stride, 2);
        x[..32].fill(0.0);
        let to = [4_i32, -1, 1, 5];
        for kind in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
            let row_bytes = kind.row_bytes(width).unwrap();
            let (d, rows) = (gear.put(&x), gear.put(&to));
            let cache = gear.put(&vec![0xAB_u8; n_rows * row_bytes]);
            let a = Store {
                x: d.view(),
                cache: cache.view(),
                kind,
                rows: rows.view(),
                n_rows,
                n_tokens,
                width,
                stride,
            };
            store(&gear.stream, &a).unwrap();
            let got: Vec<u8> = gear.get(cache.view(), n_rows * row_bytes);
            for (row, bytes) in got.chunks(row_bytes).enumerate() {
                let Some(t) = to.iter().position(|&r| r == row as i32) else {
                    assert!(bytes.iter().all(|&b| b == 0xAB), "row {row} is not touched");
                    continue;
                };
                assert_eq!(bytes, encoded(kind, &x[t * stride..][..width]), "{kind:?} {row}");
            }
        }
    });
}

/// A row as files have it.
pub fn encoded(kind: CacheType, row: &[f32]) -> Vec<u8> {
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes();
    match kind {
        CacheType::F32 => row.iter().flat_map(|v| v.to_le_bytes()).collect(),
        CacheType::F16 => row.iter().flat_map(|&v| half(v)).collect(),
        CacheType::Q8_0 => {
            let block = |x: &[f32]| {
                let d = x.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / 127.0;
                let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
                let mut bytes = half(d).to_vec();
                bytes.extend(x.iter().map(|v| (v * inverse).round() as i8 as u8));
                bytes
            };
            row.chunks(32).flat_map(block).collect()
        }
    }
}

/// What a row of [`encoded`] says.
pub fn decoded(kind: CacheType, row: &[u8]) -> Vec<f32> {
    let half = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
    match kind {
        CacheType::F32 => {
            row.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        }
        CacheType::F16 => row.chunks(2).map(half).collect(),
        CacheType::Q8_0 => {
            let block = |b: &[u8]| {
                let d = half(b);
                b[2..].iter().map(move |&q| d * f32::from(q as i8)).collect::<Vec<_>>()
            };
            row.chunks(34).flat_map(block).collect()
        }
    }
}
