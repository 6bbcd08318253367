//! Products of matrices with one token: bytes of weights a second, as a share of what copying on the
//! card moves.

use std::error::Error;

use powerinfer::backend::cuda::launch::{self, Acts, Matrix, Output, Product};
use powerinfer::backend::cuda::{Budget, Buffer, CudaError, Device, Event, Purpose, Stream, pack};
use powerinfer::quant::{QuantType, quantize_row};
use serde_json::{Value, json};

use crate::Bundle;
use crate::child;
use crate::report::{Report, Verdict, table};

const TYPES: [QuantType; 9] = [
    QuantType::Q4_0,
    QuantType::Q8_0,
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q4_K,
    QuantType::Q5_K,
    QuantType::Q6_K,
];

/// The types that are held to [`WANTED`].
const HELD: [&str; 3] = ["q4_0", "q8_0", "f16"];

/// Share of the copy bandwidth.
const WANTED: f64 = 0.8;

/// Width of the residual stream, and neurons.
const SHAPES: [(usize, usize); 3] = [(4096, 11008), (4096, 14336), (8192, 28672)];

pub fn run(bundle: &Bundle, report: &mut Report) {
    let outcome = child::run(&mut bundle.measuring("bandwidth"), bundle.time(75));
    let lines = outcome.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut rows, mut worst, mut copy) = (Vec::new(), Vec::new(), 0.0);
    for line in lines {
        if let Some(rate) = line["copy"].as_f64() {
            copy = rate;
            continue;
        }
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let rate = line["rate"].as_f64().unwrap_or(0.0);
        let share = rate / copy;
        if HELD.contains(&text("type").to_lowercase().as_str()) {
            worst.push((share, format!("{} {}", text("type"), text("shape"))));
        }
        let us = line["us"].as_f64().unwrap_or(0.0);
        let cells = [text("type"), text("shape"), format!("{us:.1}"), format!("{rate:.0}")];
        rows.push([&cells[..], &[format!("{:.0} %", share * 100.0)]].concat());
    }
    let n_held = 2 * HELD.len() * SHAPES.len();
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slow = worst.iter().filter(|(share, _)| *share < WANTED).count();
    let (verdict, note) = match worst.first() {
        _ if !outcome.succeeded() && outcome.status.is_some() => (Verdict::Fail, outcome.ending()),
        _ if bundle.small => (Verdict::Open, "shapes are tiny".to_owned()),
        Some((share, what)) => {
            let passes = slow == 0 && worst.len() == n_held;
            let note = format!(
                "{} of {n_held} products reach 80 %; the slowest, {what}, {:.0} %",
                worst.len() - slow,
                share * 100.0
            );
            (Verdict::of(passes), note)
        }
        None => (Verdict::Open, outcome.ending()),
    };
    report.check("products reach 80 % of the copy bandwidth (Q4_0, Q8_0, F16)", verdict, note);
    let text = format!(
        "Copying on the card moves {copy:.0} GB/s, read and written. One token; matrices of rows x \
         columns, as many that no cache holds them; medians.\n\n{}",
        table(&["type", "matrix", "us", "GB/s", "share"], rows)
    );
    report.section("Bandwidth of products", &text);
}

/// A card with buffers.
pub struct Gear {
    pub device: std::sync::Arc<Device>,
    pub stream: Stream,
    budget: std::sync::Arc<Budget>,
}

impl Gear {
    pub fn new() -> Result<Self, CudaError> {
        let device = Device::open(0)?;
        let stream = Stream::new(&device)?;
        Ok(Self { device, stream, budget: Budget::new(usize::MAX) })
    }

    pub fn alloc(&self, bytes: usize) -> Result<Buffer, CudaError> {
        self.device.alloc(&self.budget, Purpose::Compute, bytes)
    }

    /// Microseconds that `work` takes on the card, each time of `n`; the median.
    pub fn time(
        &self,
        n: usize,
        mut work: impl FnMut(usize) -> Result<(), CudaError>,
    ) -> Result<f64, CudaError> {
        let mut times = Vec::new();
        for i in 0..=n {
            let (from, to) = (Event::timed(&self.device)?, Event::timed(&self.device)?);
            self.stream.record(&from)?;
            work(i)?;
            self.stream.record(&to)?;
            to.synchronize()?;
            // The first compiles kernels and warms up.
            if i > 0 {
                times.push(f64::from(to.ms_since(&from)?) * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

/// Prints a line of JSON for each product, so that what was measured is kept when time is up.
pub fn measure(small: bool) -> Result<(), Box<dyn Error>> {
    let gear = Gear::new()?;
    let (bytes, rounds) = if small { (1 << 16, 1) } else { (1 << 30, 9) };
    let (from, to) = (gear.alloc(bytes)?, gear.alloc(bytes)?);
    gear.stream.zero(from.view())?;
    let us = gear.time(rounds, |_| gear.stream.copy(to.view(), from.view()))?;
    println!("{}", json!({ "copy": 2.0 * bytes as f64 / us / 1e3 }));
    drop((from, to));

    let shapes: &[(usize, usize)] = if small { &[(256, 512)] } else { &SHAPES };
    for &ty in &TYPES {
        for &(n_embd, n_ff) in shapes {
            for (n_rows, k) in [(n_ff, n_embd), (n_embd, n_ff)] {
                let (us, rate) = product(&gear, ty, n_rows, k, small)?;
                let shape = format!("{n_rows} x {k}");
                println!(
                    "{}",
                    json!({ "type": ty.to_string(), "shape": shape, "us": us, "rate": rate })
                );
            }
        }
    }
    Ok(())
}

/// Microseconds of a product with a matrix, and GB of weights a second.
fn product(
    gear: &Gear,
    ty: QuantType,
    n_rows: usize,
    k: usize,
    small: bool,
) -> Result<(f64, f64), Box<dyn Error>> {
    let no_kernel = || format!("no kernel for rows of {k} numbers of type {ty}");
    let stride = pack::row_stride(ty, k).ok_or_else(no_kernel)?;
    let matrix_bytes = stride * n_rows;
    // More than any cache holds, so that each product reads its weights from memory.
    let n = if small { 2 } else { (1usize << 30).div_ceil(matrix_bytes).max(4) };
    let weights = gear.alloc(n * matrix_bytes)?;
    fill(gear, &weights, ty, k, stride)?;

    let x = gear.alloc(k * 4)?;
    gear.stream.upload(x.view().slice(0..k * 4), &floats(k))?;
    let (codes, scales) = (gear.alloc(k)?, gear.alloc(k / 32 * 8)?);
    launch::quantize_q8(&gear.stream, x.view(), codes.view(), scales.view(), k)?;
    let acts = match pack::takes_q8(ty) {
        true => Acts::Q8 { codes: codes.view(), scales: scales.view() },
        false => Acts::F32(x.view()),
    };
    let dst = gear.alloc(n_rows * 4)?;
    let out = Output { dst: dst.view(), stride: n_rows, bias: None, add: None };
    // All matrices in a row, so that what the driver needs for a launch is hidden by the one before.
    let us = gear.time(if small { 1 } else { 5 }, |_| {
        (0..n).try_for_each(|i| {
            let data = weights.view().slice(i * matrix_bytes..(i + 1) * matrix_bytes);
            let weights = Matrix { ty, n_rows, k, data };
            let product = Product { weights, acts, n_tokens: 1, scale: 1.0, out };
            launch::mat_vec(&gear.stream, &product)
        })
    })?;
    let us = us / n as f64;
    Ok((us, matrix_bytes as f64 / us / 1e3))
}

/// Numbers from -1 to 1 as they lie in memory.
fn floats(n: usize) -> Vec<u8> {
    numbers(n).into_iter().flat_map(f32::to_le_bytes).collect()
}

fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The same few rows again and again.
fn fill(
    gear: &Gear,
    weights: &Buffer,
    ty: QuantType,
    k: usize,
    stride: usize,
) -> Result<(), Box<dyn Error>> {
    const ROWS: usize = 32;
    let row_bytes = ty.row_bytes(k as u64).ok_or("rows of whole blocks")? as usize;
    let mut rows = vec![0; ROWS * row_bytes];
    quantize_row(ty, &numbers(ROWS * k), None, &mut rows)?;
    let mut packed = vec![0; ROWS * stride];
    pack::pack(ty, k, &rows, &mut packed);
    let all = weights.view();
    let mut done = packed.len().min(all.len());
    gear.stream.upload(all.slice(0..done), &packed[..done])?;
    while done < all.len() {
        let n = done.min(all.len() - done);
        gear.stream.copy(all.slice(done..done + n), all.slice(0..n))?;
        done += n;
    }
    Ok(())
}
