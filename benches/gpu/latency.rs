//! What it costs to launch, to wait and to hand over.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use powerinfer::backend::cuda::{CudaError, Event, Stream, launch};
use serde_json::{Value, json};

use crate::Bundle;
use crate::bandwidth::Gear;
use crate::child;
use crate::report::{Report, Verdict, table};

pub fn run(bundle: &Bundle, report: &mut Report) {
    let outcome = child::run(&mut bundle.measuring("latency"), bundle.time(25));
    let lines = outcome.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let rows = lines.map(|line| {
        let us = line["us"].as_f64().map_or_else(
            || line["error"].as_str().unwrap_or("?").to_owned(),
            |us| format!("{us:.2}"),
        );
        vec![line["what"].as_str().unwrap_or_default().to_owned(), us]
    });
    let text = table(&["what", "us"], rows);
    let (verdict, note) = match outcome.succeeded() {
        true => (Verdict::Pass, String::new()),
        false => (Verdict::Fail, outcome.ending()),
    };
    report.check("launches, graphs, events and flags work", verdict, note);
    report.section("Latency", &format!("Medians.\n\n{text}"));
}

/// Launches of a graph: about those of 32 layers.
const NODES: usize = 320;

pub fn measure(small: bool) -> Result<(), Box<dyn Error>> {
    let (nodes, turns) = if small { (8, 3) } else { (NODES, 200) };
    let gear = Gear::new()?;
    let other = Stream::new(&gear.device)?;
    let x = Arc::new(gear.alloc(4096)?);
    let tiny = |stream: &Stream| launch::scale(stream, x.view(), x.view(), 1024, 1.0, 0.0);
    gear.stream.zero(x.view())?;
    tiny(&gear.stream)?;
    gear.stream.synchronize()?;

    let many = |stream: &Stream| (0..nodes).try_for_each(|_| tiny(stream));
    let per_node = |us: f64| us / nodes as f64;
    let line = |what: &str, us: f64| println!("{}", json!({ "what": what, "us": us }));

    let us = host(turns.min(20), || many(&gear.stream), || gear.stream.synchronize())?;
    line("launch: time of the host, each of many", per_node(us));
    let us = gear.time(turns.min(20), |_| many(&gear.stream))?;
    line("launch: time on the card, each of many", per_node(us));
    let graph = gear.stream.capture(&[Arc::clone(&x)], many)?;
    let us = host(turns.min(20), || gear.stream.run(&graph), || gear.stream.synchronize())?;
    line(&format!("graph of {} launches: time of the host", graph.n_nodes()), us);
    let us = gear.time(turns.min(20), |_| gear.stream.run(&graph))?;
    line(&format!("graph of {} launches: time on the card, each", graph.n_nodes()), per_node(us));

    let done = Event::new(&gear.device)?;
    let us = host(
        turns,
        || {
            tiny(&gear.stream)?;
            gear.stream.record(&done)?;
            done.synchronize()
        },
        || Ok(()),
    )?;
    line("launch, event, host has waited for it", us);
    let us = gear.time(turns.min(20), |_| {
        (0..nodes).try_for_each(|_| {
            tiny(&gear.stream)?;
            gear.stream.record(&done)?;
            other.wait(&done)?;
            tiny(&other)?;
            other.record(&done)?;
            gear.stream.wait(&done)
        })
    })?;
    line("event: from one stream to another and back, with two launches", per_node(us));

    let page = gear.device.pinned(16 << 10)?;
    let place = gear.alloc(16 << 10)?;
    let us = host(
        turns,
        || {
            gear.stream.fetch(place.view(), &page, 0..16 << 10)?;
            gear.stream.send(place.view(), &page, 0..16 << 10)?;
            gear.stream.synchronize()
        },
        || Ok(()),
    )?;
    line("copy 16 KiB to the host and back, host has waited", us);

    match flags(&gear, turns) {
        Ok(us) => line(
            "flag: the host sets one, the card waits for it and sets another, the host sees it",
            us,
        ),
        // Some platforms have no such waits.
        Err(error) => println!("{}", json!({ "what": "flags", "error": error.to_string() })),
    }
    Ok(())
}

/// Microseconds of the host that `work` takes; the median. `settle` is not counted.
fn host(
    n: usize,
    mut work: impl FnMut() -> Result<(), CudaError>,
    settle: impl Fn() -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    let mut times = Vec::new();
    for i in 0..=n {
        let start = Instant::now();
        work()?;
        let us = start.elapsed().as_secs_f64() * 1e6;
        settle()?;
        if i > 0 {
            times.push(us);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Microseconds of a turn; the median.
fn flags(gear: &Gear, turns: usize) -> Result<f64, CudaError> {
    let flags = gear.device.flags(2)?;
    let mut times = Vec::new();
    for turn in 1..=turns as u32 {
        gear.stream.wait_flag(&flags, 0, turn)?;
        gear.stream.set_flag(&flags, 1, turn)?;
        let start = Instant::now();
        flags.set(0, turn);
        while flags.get(1) < turn {
            // Asking the driver now and then also moves a card that is emulated.
            for _ in 0..1000 {
                if flags.get(1) >= turn {
                    break;
                }
                std::hint::spin_loop();
            }
            if flags.get(1) < turn {
                gear.stream.is_done()?;
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
