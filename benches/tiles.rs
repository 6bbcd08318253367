//! Neuron tiles: the dense product against the same matrix as rows, and the share of the dense time
//! that sparse activations take. GB/s are those of the bytes that a product needs.
//!
//! `cargo bench --bench tiles -- q4_0` runs a part.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActQ8, TiledRows, WeightRows};
use powerinfer::quant::{QuantType, tiles};
use powerinfer::util::aligned::AlignedVec;
use std::hint::black_box;
use std::time::Duration;

const TYPES: [QuantType; 4] = [QuantType::Q4_0, QuantType::Q8_0, QuantType::Q4_K, QuantType::Q6_K];

/// Neurons and outputs of a 7B model.
const N_FF: usize = 11_008;
const N_EMBD: usize = 4096;

fn bench(c: &mut Criterion) {
    let table = KernelTable::detect();
    let mut scratch = AlignedVec::new();
    for ty in TYPES {
        let info = ty.info();
        let n_bytes = N_FF / info.block_len * info.block_bytes * N_EMBD;
        // Scales are small numbers, codes are whatever comes.
        let rows: Vec<u8> = (0..n_bytes).map(|i| (i % 59) as u8).collect();
        let mut packed = vec![0; n_bytes];
        tiles::pack(ty, &rows, N_FF, N_EMBD, 0..N_FF / info.block_len, &mut packed);
        let w = WeightRows { ty, data: &rows, k: N_FF, n_rows: N_EMBD };
        let tiled = TiledRows { ty, data: &packed, k: N_FF, n_rows: N_EMBD };
        let mut group = c.benchmark_group(format!("{}/{ty}", table.isa()));
        group.sample_size(10).warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1));
        for (n, percent) in [(1, 100), (1, 30), (1, 10), (1, 5), (4, 100), (8, 100), (128, 100)] {
            let x: Vec<f32> = (0..n * N_FF)
                .map(|i| if i * 7919 % 100 < percent { (i % 251) as f32 + 1.0 } else { 0.0 })
                .collect();
            let (mut q, nb) = (vec![0; x.len()], x.len() / 32);
            let (mut d, mut s) = (vec![0.0; nb], vec![[0; 2]; nb]);
            table.quantize_q8(&x, &mut q, &mut d, &mut s);
            let act = ActQ8 { k: N_FF, n, q: &q, d: &d, s: &s };
            let mut y = vec![0.0; n * N_EMBD];
            let field_bytes = info.block_bytes - code_bytes(ty);
            let needed =
                N_FF / info.block_len * N_EMBD * (field_bytes * 100 + code_bytes(ty) * percent)
                    / 100;
            group.throughput(Throughput::Bytes(needed as u64));
            let id = |what| BenchmarkId::new(what, format!("{n} tokens, {percent} %"));
            group.bench_function(id("tiles"), |b| {
                b.iter(|| {
                    let mut y = ColsMut::new(&mut y, N_EMBD, 0..N_EMBD);
                    table.mul_mat_tiles_q8(&tiled, 0..N_EMBD, &act, &mut y, &mut scratch);
                    black_box(y.row(0)[0])
                });
            });
            if percent == 100 {
                group.bench_function(id("rows"), |b| {
                    b.iter(|| {
                        let mut y = ColsMut::new(&mut y, N_EMBD, 0..N_EMBD);
                        table.mul_mat_q8(&w, 0..N_EMBD, &act, &mut y, &mut scratch);
                        black_box(y.row(0)[0])
                    });
                });
            }
        }
        group.finish();
    }
}

/// Bytes of a block that are codes.
fn code_bytes(ty: QuantType) -> usize {
    match ty {
        QuantType::Q8_0 => 32,
        QuantType::Q6_K => 192,
        _ => ty.block_len() / 2,
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
