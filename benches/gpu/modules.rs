//! How long the driver compiles the kernels of each source file: once, when it keeps them, and what
//! it takes when it has them.

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use powerinfer::backend::cuda::{Device, Module};
use serde_json::{Value, json};

use crate::Bundle;
use crate::child;
use crate::report::{Report, Verdict, table};

pub fn run(bundle: &Bundle, report: &mut Report) {
    // What the other parts have compiled is there already.
    let kept = child::run(&mut bundle.measuring("modules"), bundle.time(20));
    let mut anew = bundle.measuring("modules");
    let anew = child::run(anew.env("CUDA_CACHE_DISABLE", "1"), bundle.time(40));
    let times = |text: &str| -> HashMap<String, f64> {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter_map(|line| Some((line["module"].as_str()?.to_owned(), line["ms"].as_f64()?)))
            .collect()
    };
    let (kept_ms, anew_ms) = (times(&kept.stdout), times(&anew.stdout));
    let cell = |times: &HashMap<String, f64>, name: &str| {
        times.get(name).map_or_else(|| "-".into(), |ms| format!("{ms:.1}"))
    };
    let rows = Module::ALL.iter().map(|module| {
        let name = module.file();
        vec![format!("{name}.cu"), cell(&anew_ms, name), cell(&kept_ms, name)]
    });
    let text = table(&["source", "compiled, ms", "kept, ms"], rows);
    let (verdict, note) = match kept.status {
        Some(status) => (
            Verdict::of(status.success()),
            if status.success() { String::new() } else { kept.ending() },
        ),
        None => (Verdict::Open, kept.ending()),
    };
    report.check("the driver compiles every kernel", verdict, note);
    report.section("Loading kernels", &text);
}

/// Prints a line of JSON for each module.
pub fn measure() -> Result<(), Box<dyn Error>> {
    let device = Device::open(0)?;
    device.memory()?;
    for &module in Module::ALL {
        let start = Instant::now();
        device.preload(module)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("{}", json!({ "module": module.file(), "ms": ms }));
    }
    Ok(())
}
