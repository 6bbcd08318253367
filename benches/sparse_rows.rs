//! Products of a few rows out of gigabytes, as a share of the sequential read that the same run
//! measures: what sparse layers ask of memory.
//!
//! `cargo bench --bench sparse_rows -- [--gib 4] [--threads 2] [--rounds 15] [--call 512]
//! [--types q4_0,q8_0,q4_K,f16] [--shares 0.1,0.3] [--down]` prints a table, and a JSON line.
//! Rows have 4096 elements; lists ascend; each thread has a part of the list and asks for `--call`
//! rows at a time, about what a thread gets of a layer. A round reads a part of the weights from front
//! to back and then runs each kernel once; rates and their ratios are medians over the rounds. One
//! token.
#![allow(clippy::print_stdout, reason = "a program")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use powerinfer::backend::cpu::KernelTable;
use powerinfer::backend::cpu::pool::ColsMut;
use powerinfer::backend::cpu::table::{ActF32, ActQ8, WeightRows};
use powerinfer::quant::QuantType;
use powerinfer::util::aligned::AlignedVec;

/// Elements of a row.
const K: usize = 4096;

/// What the command line says.
struct Options {
    gib: f64,
    n_threads: usize,
    n_rounds: usize,
    call_rows: usize,
    types: Vec<QuantType>,
    shares: Vec<f64>,
    down: bool,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self {
            gib: 4.0,
            n_threads: 2,
            n_rounds: 15,
            call_rows: 512,
            types: vec![QuantType::Q4_0, QuantType::Q8_0, QuantType::Q4_K, QuantType::F16],
            shares: vec![0.1, 0.3],
            down: false,
        };
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} wants a value"));
            match arg.as_str() {
                "--gib" => options.gib = number(&value()),
                "--threads" => options.n_threads = number(&value()),
                "--rounds" => options.n_rounds = number(&value()),
                "--call" => options.call_rows = number(&value()),
                "--types" => options.types = value().split(',').map(quant_type).collect(),
                "--shares" => options.shares = value().split(',').map(number).collect(),
                "--down" => options.down = true,
                _ => panic!("{arg}: no such option"),
            }
        }
        options
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

fn quant_type(name: &str) -> QuantType {
    let all = powerinfer::quant::types::TYPES.iter().map(|info| info.ty);
    let found = all.into_iter().find(|ty| ty.to_string().eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("no type is called {name}"))
}

/// xorshift64: small and repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The weights, and one token in the forms that the kernels want.
struct Bench {
    table: &'static KernelTable,
    ty: QuantType,
    data: Vec<u8>,
    n_rows: usize,
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    s: Vec<[i16; 2]>,
}

impl Bench {
    /// Random codes with small, finite scales, in memory that an earlier bench may have had.
    fn new(ty: QuantType, mut data: Vec<u8>, n_bytes: usize) -> Self {
        let row_bytes = ty.row_bytes(K as u64).expect("whole blocks") as usize;
        let n_rows = n_bytes / row_bytes;
        let info = ty.info();
        let mut random = Random(1);
        let mut pattern = vec![0; row_bytes * 64];
        pattern.fill_with(|| (random.next() >> 32) as u8);
        for block in pattern.chunks_exact_mut(info.block_bytes) {
            match ty {
                QuantType::F32 | QuantType::F16 | QuantType::BF16 => {
                    block[info.block_bytes - 1] = 0x31;
                }
                QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4_K | QuantType::Q5_K => {
                    (block[1], block[3]) = (0x21, 0xa1);
                }
                QuantType::Q6_K => block[209] = 0x21,
                _ => block[1] = 0x21,
            }
        }
        data.resize(n_bytes, 0);
        for part in data.chunks_mut(pattern.len()) {
            part.copy_from_slice(&pattern[..part.len()]);
        }
        let table = KernelTable::detect();
        let x: Vec<f32> = (0..K).map(|i| (i % 251) as f32 - 125.0).collect();
        let (mut q, mut d, mut s) = (vec![0; K], vec![0.0; K / 32], vec![[0; 2]; K / 32]);
        table.quantize_q8(&x, &mut q, &mut d, &mut s);
        Self { table, ty, data, n_rows, x, q, d, s }
    }

    fn weights(&self) -> WeightRows<'_> {
        WeightRows { ty: self.ty, data: &self.data, k: K, n_rows: self.n_rows }
    }

    /// Each row with this probability, ascending.
    fn list(&self, share: f64) -> Vec<u32> {
        let mut random = Random(7);
        let mut is_in = || (random.next() >> 11) as f64 / (1u64 << 53) as f64 <= share;
        (0..self.n_rows as u32).filter(|_| is_in()).collect()
    }

    /// Bytes of part `round` of the weights, in turns.
    fn span(&self, round: usize) -> std::ops::Range<usize> {
        const PARTS: usize = 8;
        let lines = part(self.data.len() / 64, round % PARTS, PARTS);
        lines.start * 64..lines.end * 64
    }

    /// Reads a thread's part of `span` from front to back.
    fn read(&self, span: std::ops::Range<usize>, (thread, n_threads): (usize, usize)) {
        let lines = self.data[span].as_chunks::<64>().0;
        let mut sums = [0u64; 8];
        for line in &lines[part(lines.len(), thread, n_threads)] {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
        black_box(sums);
    }

    /// Gate or up: products of listed rows, each thread a part of the list.
    fn dot(&self, ids: &[u32], call_rows: usize, y: &mut [f32], scratch: &mut AlignedVec<u8>) {
        let w = self.weights();
        let y = &mut y[..ids.len()];
        for (ids, y) in ids.chunks(call_rows).zip(y.chunks_mut(call_rows)) {
            let mut y = ColsMut::new(y, ids.len(), 0..ids.len());
            if self.table.has_int8(self.ty) {
                let act = ActQ8 { k: K, n: 1, q: &self.q, d: &self.d, s: &self.s };
                self.table.mul_mat_q8_listed(&w, ids, &act, &mut y, scratch);
            } else {
                let act = ActF32 { k: K, n: 1, x: &self.x };
                self.table.mul_mat_f32_listed(&w, ids, &act, &mut y, scratch);
            }
        }
    }

    /// Down: sums of listed rows, each thread a part of the columns.
    fn down(
        &self,
        ids: &[u32],
        (thread, n_threads): (usize, usize),
        call_rows: usize,
        y: &mut [f32],
        scratch: &mut AlignedVec<u8>,
    ) {
        let w = self.weights();
        let unit = KernelTable::SUM_COLS;
        let cols = part(K / unit, thread, n_threads);
        let cols = cols.start * unit..cols.end * unit;
        let h: Vec<f32> = (0..call_rows).map(|i| 0.01 * (i % 17) as f32).collect();
        for ids in ids.chunks(call_rows) {
            let (h, y) = (&h[..ids.len()], &mut y[..cols.len()]);
            self.table.sum_rows(&w, ids, h, cols.clone(), y, false, scratch);
        }
    }
}

/// Part `i` of `n` of so many things.
fn part(len: usize, i: usize, n: usize) -> std::ops::Range<usize> {
    len * i / n..len * (i + 1) / n
}

/// Runs `work(thread, y, scratch)` on threads that start together: until the last one ends.
fn time(
    n_threads: usize,
    n_outputs: usize,
    work: impl Fn(usize, &mut [f32], &mut AlignedVec<u8>) + Sync,
) -> Duration {
    let start = Barrier::new(n_threads);
    let run = |thread| {
        let (mut y, mut scratch) = (AlignedVec::zeroed(n_outputs), AlignedVec::new());
        scratch.ensure(1 << 20);
        start.wait();
        let started = Instant::now();
        work(thread, &mut y, &mut scratch);
        black_box(&y);
        (started, Instant::now())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|i| scope.spawn(move || run(i))).collect();
        let times: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        let started = times.iter().map(|t| t.0).min().expect("a thread");
        times.iter().map(|t| t.1).max().expect("a thread") - started
    })
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = Options::from_args();
    let n_bytes = (options.gib * (1u64 << 30) as f64) as usize;
    let n = options.n_threads;
    println!("| type | share | kernel | GB/s | of sequential |\n|---|---|---|---|---|");
    let mut json = Vec::new();
    let mut data = Vec::new();
    for &ty in &options.types {
        let bench = Bench::new(ty, data, n_bytes);
        let row_bytes = bench.weights().row_bytes();
        let lists: Vec<Vec<u32>> = options.shares.iter().map(|&s| bench.list(s)).collect();
        let mut read = Vec::new();
        let mut dot = vec![Vec::new(); lists.len()];
        let mut down = vec![Vec::new(); lists.len()];
        // The first round warms up.
        for round in 0..=options.n_rounds {
            let gbps = |bytes: usize, time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
            let keep = |rates: &mut Vec<f64>, rate| {
                if round > 0 {
                    rates.push(rate);
                }
            };
            let span = bench.span(round);
            let took = time(n, 0, |thread, _, _| bench.read(span.clone(), (thread, n)));
            keep(&mut read, gbps(span.len(), took));
            for (i, ids) in lists.iter().enumerate() {
                let bytes = ids.len() * row_bytes;
                let took = time(n, ids.len() / n + 1, |thread, y, scratch| {
                    let ids = &ids[part(ids.len(), thread, n)];
                    bench.dot(ids, options.call_rows, y, scratch);
                });
                keep(&mut dot[i], gbps(bytes, took));
                if options.down {
                    let took = time(n, K, |thread, y, scratch| {
                        bench.down(ids, (thread, n), options.call_rows, y, scratch);
                    });
                    keep(&mut down[i], gbps(bytes, took));
                }
            }
        }
        println!("| {ty} | 1 | sequential read | {:.1} | 1 |", median(&read));
        for (i, share) in options.shares.iter().enumerate() {
            for (kernel, rates) in [("dot", &dot[i]), ("down", &down[i])] {
                if rates.is_empty() {
                    continue;
                }
                let ratios: Vec<f64> = rates.iter().zip(&read).map(|(rate, r)| rate / r).collect();
                let (rate, ratio) = (median(rates), median(&ratios));
                println!("| {ty} | {share} | {kernel} | {rate:.1} | {ratio:.2} |");
                json.push(format!(
                    "{{\"type\":\"{ty}\",\"share\":{share},\"kernel\":\"{kernel}\",\
                     \"gb_per_s\":{rate:.2},\"sequential_gb_per_s\":{:.2},\"ratio\":{ratio:.3}}}",
                    median(&read)
                ));
            }
        }
        data = bench.data;
    }
    println!(
        "{{\"bench\":\"sparse_rows\",\"isa\":\"{}\",\"threads\":{n},\"gib\":{},\"call_rows\":{},\
         \"results\":[{}]}}",
        KernelTable::detect().isa(),
        options.gib,
        options.call_rows,
        json.join(",")
    );
}
