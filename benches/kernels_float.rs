//! Speed of the float kernels of every instruction set here: bytes of weights per second for
//! mat-vec, operations per second for products and attention.
//!
//! `cargo bench --bench kernels_float -- avx512` runs one instruction set.
//!
//! Times are processor time of the thread, so that other work on the machine disturbs little.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::attn::{AttnState, AttnTile, TILE};
use powerinfer::backend::cpu::table::{ActF32, WeightRows};
use powerinfer::quant::QuantType;
use powerinfer::tensor::Activation;
use powerinfer::util::aligned::AlignedVec;

/// Numbers of ordinary size, from a linear congruential generator.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn weights(ty: QuantType, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(n as u64).expect("whole blocks") as usize];
    powerinfer::quant::quantize_row(ty, &numbers(n), None, &mut bytes).expect("the lengths fit");
    bytes
}

/// One token: bound by memory when the weights are larger than the caches.
fn mat_vec(c: &mut Criterion<CpuTime>) {
    for table in KernelTable::all_supported() {
        for ty in [QuantType::F32, QuantType::F16, QuantType::BF16] {
            for (k, n_rows) in [(576, 1536), (4096, 8192)] {
                let data = weights(ty, k * n_rows);
                let w = WeightRows { ty, data: &data, k, n_rows };
                let act = ActF32 { k, n: 1, x: &numbers(k) };
                let (mut y, mut scratch) = (vec![0.0; n_rows], AlignedVec::new());
                let mut group = c.benchmark_group(format!("mat_vec/{}", table.isa()));
                group.throughput(Throughput::Bytes(data.len() as u64));
                group.bench_function(format!("{ty}/{k}x{n_rows}"), |b| {
                    b.iter(|| {
                        let mut y = ColsMut::new(&mut y, n_rows, 0..n_rows);
                        table.mul_mat_f32(&w, 0..n_rows, &act, &mut y, &mut scratch);
                    });
                });
            }
        }
    }
}

/// Many tokens; an element is one multiplication and one addition.
fn mul_mat(c: &mut Criterion<CpuTime>) {
    for table in KernelTable::all_supported() {
        for ty in [QuantType::F32, QuantType::F16, QuantType::Q4_0] {
            for (k, n_rows, n) in [(576, 1536, 512), (4096, 256, 128)] {
                let data = weights(ty, k * n_rows);
                let w = WeightRows { ty, data: &data, k, n_rows };
                let act = ActF32 { k, n, x: &numbers(k * n) };
                let (mut y, mut scratch) = (vec![0.0; n_rows * n], AlignedVec::new());
                let mut group = c.benchmark_group(format!("mul_mat/{}", table.isa()));
                group.throughput(Throughput::Elements((2 * k * n_rows * n) as u64));
                group.bench_function(format!("{ty}/{k}x{n_rows}x{n}"), |b| {
                    b.iter(|| {
                        let mut y = ColsMut::new(&mut y, n_rows, 0..n_rows);
                        table.mul_mat_f32(&w, 0..n_rows, &act, &mut y, &mut scratch);
                    });
                });
            }
        }
    }
}

/// One tile; an element is one multiplication and one addition of the two products.
fn attention(c: &mut Criterion<CpuTime>) {
    for table in KernelTable::all_supported() {
        for (head_dim, n_q) in [(64, 1), (64, 3), (64, 48), (128, 1), (128, 64), (80, 32)] {
            let (k, v) = (numbers(TILE * head_dim), numbers(TILE * head_dim));
            let q = numbers(n_q * head_dim);
            let tile = AttnTile {
                head_dim_k: head_dim,
                head_dim_v: head_dim,
                n_keys: TILE,
                k: &k,
                v: &v,
                q: &q,
                valid: &vec![0..32; n_q],
                scale: 0.125,
                softcap: 0.0,
                bias: &[],
            };
            let (mut m, mut l) = (vec![f32::NEG_INFINITY; n_q], vec![0.0; n_q]);
            let mut acc = vec![0.0; n_q * head_dim];
            let mut group = c.benchmark_group(format!("attn/{}", table.isa()));
            group.throughput(Throughput::Elements((4 * TILE * head_dim * n_q) as u64));
            group.bench_function(format!("{head_dim}/{n_q}"), |b| {
                b.iter(|| {
                    let mut st = AttnState { m: &mut m, l: &mut l, acc: &mut acc };
                    table.attn_tile(&tile, &mut st);
                });
            });
        }
    }
}

/// Bytes of f32 that are read and written.
fn vectors(c: &mut Criterion<CpuTime>) {
    for table in KernelTable::all_supported() {
        let n = 1536;
        let (x, w, half) = (numbers(n), numbers(n), weights(QuantType::F16, n));
        let (mut y, mut bits) = (numbers(n), vec![0; n]);
        let mut group = c.benchmark_group(format!("vec/{}", table.isa()));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function("rms_norm", |b| b.iter(|| table.rms_norm(&x, Some(&w), 1e-5, &mut y)));
        for act in Activation::ALL {
            group.bench_function(format!("{act:?}"), |b| {
                b.iter(|| table.activate(act, &x, Some(&w), &mut y));
            });
        }
        group.bench_function("layer_norm", |b| {
            b.iter(|| table.layer_norm(&x, Some(&w), Some(&w), 1e-5, &mut y));
        });
        group.bench_function("soft_cap", |b| b.iter(|| table.soft_cap(30.0, &mut y)));
        group.bench_function("axpy", |b| b.iter(|| table.axpy(1e-3, &x, &mut y)));
        group.bench_function("rope_neox", |b| b.iter(|| table.rope_neox(&mut y, 64, &x[..64])));
        group.bench_function("rope_norm", |b| b.iter(|| table.rope_norm(&mut y, 64, &x[..64])));
        group.bench_function("load_f16", |b| {
            b.iter(|| table.dequant_row(QuantType::F16, &half, &mut y));
        });
        group.bench_function("store_f16", |b| b.iter(|| table.store_f16(&x, &mut bits)));
    }
}

/// Processor time of this thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    #[allow(unsafe_code, reason = "asks the system for the thread's clock")]
    fn start(&self) -> Duration {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: t is a valid, writable timespec.
        let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
        assert_eq!(rc, 0, "the thread's clock exists");
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = mat_vec, mul_mat, attention, vectors
}
criterion_main!(benches);
