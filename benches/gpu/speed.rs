//! Hybrid decoding against the CPU alone and against whole layers on the card, on models of real
//! sizes that are made on the spot.

use std::fs;
use std::path::Path;

use powerinfer::backend::cuda::Device;

use crate::Bundle;
use crate::child;
use crate::machine::{self, GIB};
use crate::report::{Report, Verdict, table};
use crate::tokens::{Generated, NOT_ON_CARD, Request, generate, make, with_suffix, words};

/// A model to be.
struct Shape {
    name: &'static str,
    options: &'static str,
    n_layers: usize,
    /// Bytes of a layer, and of what is outside layers, in the file.
    layer: u64,
    rest: u64,
}

/// Bytes of so many numbers in Q4_0.
const fn q4_0(numbers: u64) -> u64 {
    numbers / 32 * 18
}

/// Llama's 7B.
const SEVEN: Shape = Shape {
    name: "7B",
    options: "--embd 4096 --ff 11008 --heads 32 --pred 1024 --vocab-size 32000",
    n_layers: 32,
    layer: q4_0(4 * 4096 * 4096 + 3 * 4096 * 11008 + 1024 * (4096 + 11008)),
    rest: q4_0(4096 * 32000) + 4096 * 32000 / 256 * 210,
};

/// Falcon's 40B.
const FORTY: Shape = Shape {
    name: "40B",
    options: "--arch falcon --embd 8192 --ff 32768 --heads 128 --kv-heads 8 --pred 1024 \
              --vocab-size 32000",
    n_layers: 60,
    layer: q4_0(2 * 8192 * 8192 + 8192 * 1024 + 2 * 8192 * 32768 + 1024 * (8192 + 32768)),
    rest: q4_0(8192 * 32000) + 8192 * 32000 / 256 * 210,
};

const SMALL: Shape = Shape {
    name: "tiny",
    options: "--embd 256 --ff 512 --heads 4 --pred 64 --vocab-size 400",
    n_layers: 3,
    layer: q4_0(4 * 256 * 256 + 3 * 256 * 512 + 64 * 768),
    rest: q4_0(256 * 400) + 256 * 400 / 256 * 210,
};

const SMALL_FALCON: Shape = Shape {
    name: "tiny Falcon",
    options: "--arch falcon --embd 256 --ff 512 --heads 4 --pred 64 --vocab-size 400",
    n_layers: 3,
    layer: q4_0(3 * 256 * 256 + 2 * 256 * 512 + 64 * 768),
    rest: q4_0(256 * 400) + 256 * 400 / 256 * 210,
};

/// How much faster than whole layers hybrid decoding has to be, at half of the model on the card and
/// a tenth of the neurons.
const WANTED: f64 = 4.0;

/// What has been measured.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    skipped: Vec<String>,
    /// What `main` says of the most telling run.
    said: String,
    /// Whole layers by hybrid, where [`WANTED`] is to be had: with the same selectors, and with all
    /// neurons computed.
    ratios: Option<(f64, Option<f64>)>,
    /// By how much what a run took of the card was more than its budget and the context.
    over: Vec<String>,
    measured: bool,
    on_cpu: bool,
}

pub fn run(bundle: &Bundle, report: &mut Report) {
    let mut result = Table::default();
    let context = context_bytes(bundle);
    if bundle.small {
        result.model(bundle, &SMALL, 10, &[50, 25, 75], context);
        result.model(bundle, &SMALL_FALCON, 10, &[50], context);
    } else {
        // What matters most goes first: time may run out.
        result.model(bundle, &SEVEN, 10, &[50, 25, 75], context);
        result.model(bundle, &FORTY, 10, &[50], context);
        result.model(bundle, &SEVEN, 5, &[50, 25, 75], context);
        result.model(bundle, &SEVEN, 20, &[50, 25, 75], context);
    }
    result.report(bundle, report);
}

/// Bytes that a context alone takes of the card.
fn context_bytes(bundle: &Bundle) -> usize {
    child::run(&mut bundle.measuring("context"), bundle.time(20)).card_bytes
}

/// Layers for which there is room, or why there are too few.
fn fitting(bundle: &Bundle, shape: &Shape) -> Result<usize, String> {
    let disk = machine::free_disk(&bundle.work).unwrap_or(u64::MAX) / 100 * 95;
    // The file has to stay in memory, beside what the library keeps of it.
    let memory = machine::memory("MemAvailable") / 100 * 60;
    let room = disk.min(memory).saturating_sub(shape.rest);
    let n = usize::try_from(room / shape.layer).unwrap_or(usize::MAX).min(shape.n_layers);
    if n * 4 >= shape.n_layers {
        return Ok(n);
    }
    let bytes = (shape.layer * shape.n_layers as u64 + shape.rest) as f64 / GIB;
    Err(format!(
        "{}: {bytes:.1} GiB do not fit ({:.1} GiB of disk, {:.1} GiB of memory may be used)",
        shape.name,
        disk as f64 / GIB,
        memory as f64 / GIB
    ))
}

impl Table {
    fn model(
        &mut self,
        bundle: &Bundle,
        shape: &Shape,
        active: usize,
        shares: &[u64],
        context: usize,
    ) {
        let made = fitting(bundle, shape).and_then(|n| {
            if n < shape.n_layers {
                let (name, all) = (shape.name, shape.n_layers);
                self.skipped.push(format!("{name}: {n} of {all} layers, for which there is room"));
            }
            let options = format!(
                "--pwi --type q4_0 --layers {n} --distinct 2 --counts 10000 --active {} {}",
                active as f64 / 100.0,
                shape.options
            );
            Ok((make(bundle, "speed", &words(&options), 120)?, n))
        });
        match made {
            Ok((prefix, n)) => {
                let model = with_suffix(&prefix, ".pwi.gguf");
                self.points(bundle, shape, (&model, n), active, shares, context);
                for suffix in ["", ".activation.gguf", ".sparse.gguf", ".gpuidx"] {
                    let _ = fs::remove_file(with_suffix(&model, suffix));
                }
            }
            Err(why) => self.skipped.push(format!("{}, {active} % active: {why}", shape.name)),
        }
    }

    fn points(
        &mut self,
        bundle: &Bundle,
        shape: &Shape,
        (model, n_layers): (&Path, usize),
        active: usize,
        shares: &[u64],
        context: usize,
    ) {
        let bytes = fs::metadata(model).map_or(0, |m| m.len());
        let title = format!("{}, {active} % active", shape.name);
        let run = |arguments: String| {
            let n_tokens = if bundle.small { 6 } else { 32 };
            let arguments = words(&arguments);
            let request = Request { model, prompt: "hello world", n_tokens, arguments };
            generate(bundle, &request, 60)
        };
        let alone = run("-ngl 0 --sparse predictor".into());
        let cpu_ms = alone.as_ref().ok().map(|found| found.ms);
        if let Err(why) = &alone {
            self.skipped.push(format!("{title}, CPU alone: {why}"));
        }
        for &share in shares {
            let budget = bytes * share / 100;
            let on_card = Device::list().first().map_or(0, |info| info.total_bytes as u64);
            if budget + (1 << 30) > on_card && !bundle.small {
                self.skipped.push(format!("{title}, {share} %: more than the card has"));
                continue;
            }
            let n_whole = ((budget / shape.layer) as usize).min(n_layers);
            let hybrid =
                run(format!("--vram-budget {:.6} --sparse predictor", budget as f64 / GIB));
            let whole = run(format!("-ngl {n_whole} --sparse predictor"));
            let dense = (share == 50).then(|| run(format!("-ngl {n_whole} --sparse off")));
            let hybrid = match hybrid {
                Ok(hybrid) => hybrid,
                Err(why) => {
                    self.skipped.push(format!("{title}, {share} %, hybrid: {why}"));
                    continue;
                }
            };
            self.point(&title, share, budget, (&hybrid, whole.ok(), dense), cpu_ms, context);
            if active == 10 && share == 50 && self.said.is_empty() {
                self.said = hybrid.said;
            }
        }
    }

    fn point(
        &mut self,
        title: &str,
        share: u64,
        budget: u64,
        (hybrid, whole, dense): (&Generated, Option<Generated>, Option<Result<Generated, String>>),
        cpu_ms: Option<f64>,
        context: usize,
    ) {
        self.measured = true;
        self.on_cpu |= hybrid.layers.is_none();
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".into(), |ms| format!("{ms:.2}"));
        let times =
            |ms: Option<f64>| ms.map_or_else(|| "-".into(), |ms| format!("{:.2}x", ms / hybrid.ms));
        let whole = whole.map(|found| found.ms);
        let dense = dense.and_then(Result::ok).map(|found| found.ms);
        if title.starts_with("7B, 10 %") && share == 50 {
            let dense = dense.map(|dense| dense / hybrid.ms);
            self.ratios = whole.map(|whole| (whole / hybrid.ms, dense));
        }
        let used = hybrid.card_bytes.saturating_sub(context) as u64;
        // Compiled kernels and the driver's own pages come on top.
        if used > budget + (64 << 20) {
            self.over.push(format!("{title}, {share} %: {} MiB", used >> 20));
        }
        self.rows.push(vec![
            title.to_owned(),
            format!("{share} %, {:.2} GiB", budget as f64 / GIB),
            format!("{:.2}", used as f64 / GIB),
            format!("{:.2}", hybrid.ms),
            ms(cpu_ms),
            ms(whole),
            ms(dense),
            times(cpu_ms),
            times(whole),
            times(dense),
        ]);
    }

    fn report(self, bundle: &Bundle, report: &mut Report) {
        let open = match () {
            () if bundle.small => Some("shapes are tiny"),
            () if self.on_cpu => Some(NOT_ON_CARD),
            () if !self.measured => Some("nothing was measured"),
            () => None,
        };
        let name =
            "hybrid is 4 times as fast as whole layers (half of 7B on the card, 10 % active)";
        match (open, self.ratios) {
            (Some(why), _) => report.check(name, Verdict::Open, why),
            (None, None) => report.check(name, Verdict::Open, "not measured: see what was skipped"),
            (None, Some((ratio, dense))) => {
                let dense = dense.map_or_else(String::new, |dense| {
                    format!("; {dense:.2} times, where whole layers compute all neurons")
                });
                let note = format!("{ratio:.2} times{dense}");
                report.check(name, Verdict::of(ratio >= WANTED), note);
            }
        }
        let name = "memory of the card within the budget";
        match open {
            Some(why) => report.check(name, Verdict::Open, why),
            None => report.check(name, Verdict::of(self.over.is_empty()), self.over.join("; ")),
        }
        let titles = [
            "model",
            "budget",
            "GiB taken",
            "hybrid ms",
            "CPU ms",
            "layers ms",
            "dense layers ms",
            "CPU / hybrid",
            "layers / hybrid",
            "dense layers / hybrid",
        ];
        let mut text = format!(
            "Milliseconds of a token. 'layers': as many whole layers on the card as the budget \
             holds (-ngl); 'dense layers': the same, and all neurons computed. What was taken of \
             the card is without the driver's context.\n\n{}",
            table(&titles, self.rows)
        );
        if !self.skipped.is_empty() {
            text += &format!("\nSkipped:\n\n- {}\n", self.skipped.join("\n- "));
        }
        if !self.said.is_empty() {
            text += &format!(
                "\nWhat `main` says of the hybrid run with half of the model:\n\n```\n{}\n```\n",
                self.said.trim()
            );
        }
        report.section("Hybrid against CPU and whole layers", &text);
    }
}
