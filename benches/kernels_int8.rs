//! Integer mat-mul: GB/s of weights for one token, 10^9 multiply-adds x 2 per second for many.
//!
//! `cargo bench --bench kernels_int8 -- 'avx2/q4_0'` runs a part.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActQ8, WeightRows};
use powerinfer::quant::QuantType;
use powerinfer::util::aligned::AlignedVec;
use std::hint::black_box;
use std::time::Duration;

const TYPES: [QuantType; 23] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q8_0,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::IQ4_NL,
    QuantType::MXFP4,
    QuantType::Q2_K,
    QuantType::Q3_K,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
    QuantType::IQ4_XS,
    QuantType::TQ1_0,
    QuantType::TQ2_0,
    QuantType::IQ1_S,
    QuantType::IQ1_M,
    QuantType::IQ2_XXS,
    QuantType::IQ2_XS,
    QuantType::IQ2_S,
    QuantType::IQ3_XXS,
    QuantType::IQ3_S,
    QuantType::NVFP4,
];

/// Random codes with small, finite scales.
fn weights(ty: QuantType, n_bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut data: Vec<u8> = (0..n_bytes)
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    for block in data.chunks_exact_mut(ty.info().block_bytes) {
        match ty {
            QuantType::MXFP4 => block[0] = 0x78,
            QuantType::NVFP4 => block[..4].fill(0x38),
            QuantType::IQ1_M => (block[53], block[55]) = (0x10, 0x20),
            QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => {
                (block[1], block[3]) = (0x21, 0xa1);
            }
            QuantType::Q2_K => (block[81], block[83]) = (0x21, 0x21),
            QuantType::Q3_K => block[109] = 0x21,
            QuantType::Q6_K => block[209] = 0x21,
            QuantType::TQ1_0 => block[53] = 0x21,
            QuantType::TQ2_0 => block[65] = 0x21,
            _ => block[1] = 0x21,
        }
    }
    data
}

fn bench(c: &mut Criterion) {
    // (k, rows, tokens): 4 MB and 64 MB of 4-bit weights for one token, then small batches, then
    // prompts.
    let shapes = [
        (576, 1536, 1),
        (576, 13_000, 1),
        (4096, 1800, 1),
        (4096, 28_000, 1),
        (576, 1536, 4),
        (576, 1536, 8),
        (576, 1536, 512),
        (1536, 576, 512),
        (4096, 1024, 512),
    ];
    let mut scratch = AlignedVec::new();
    for table in KernelTable::all_supported().into_iter().rev() {
        for ty in TYPES {
            let mut group = c.benchmark_group(format!("{}/{ty}", table.isa()));
            group.sample_size(20).warm_up_time(Duration::from_millis(200));
            group.measurement_time(Duration::from_millis(800));
            for (k, n_rows, n) in shapes {
                // The reference in plain loops is not worth the wait on the large shapes.
                if table.isa().name() == "scalar" && n * k * n_rows > 10_000_000 {
                    continue;
                }
                let Some(row_bytes) = ty.row_bytes(k as u64) else { continue };
                let n_bytes = row_bytes as usize * n_rows;
                let data = weights(ty, n_bytes);
                let w = WeightRows { ty, data: &data, k, n_rows };
                let x: Vec<f32> = (0..n * k).map(|i| (i % 251) as f32 - 125.0).collect();
                let (mut q, nb) = (vec![0; n * k], n * k / 32);
                let (mut d, mut s) = (vec![0.0; nb], vec![[0; 2]; nb]);
                table.quantize_q8(&x, &mut q, &mut d, &mut s);
                let act = ActQ8 { k, n, q: &q, d: &d, s: &s };
                let mut y = vec![0.0; n * n_rows];
                group.throughput(match n {
                    1 => Throughput::Bytes(n_bytes as u64),
                    _ => Throughput::Elements(2 * (n * k * n_rows) as u64),
                });
                let id = BenchmarkId::from_parameter(format!("{k}x{n_rows}x{n}"));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        let mut y = ColsMut::new(&mut y, n_rows, 0..n_rows);
                        table.mul_mat_q8(&w, 0..n_rows, &act, &mut y, &mut scratch);
                        black_box(y.row(0)[0])
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
