//! Programs on a GPU: the fake driver's, beside the library.

mod c_programs;
mod common;
mod cuda_support;

use std::fs;
use std::path::{Path, PathBuf};

use c_programs::{Build, Run, command, compile, example, scratch};
use common::tiny;

/// Runs a program where the fake driver is; `None` where that cannot be built.
fn run(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Option<Run> {
    let mut command = command(program);
    command.env("LD_LIBRARY_PATH", cuda_support::fake_driver()?);
    let output = command.args(arguments).envs(settings.iter().copied()).output();
    Some(output.expect("it starts").into())
}

/// A tiny model in a file of the test's own.
fn model(test: &str) -> PathBuf {
    let path = scratch("gpu").join(format!("{test}.gguf"));
    fs::write(&path, tiny::bytes(&tiny::spec("gqa"))).unwrap();
    path
}

#[test]
fn devices_are_listed() {
    let settings = [("FAKE_CUDA_DEVICES", "2"), ("FAKE_CUDA_MEMORY", "2147483648")];
    let Some(run) = run(&example("bench"), &["--list-devices"], &settings) else { return };
    let lines: Vec<_> = run.text().lines().collect();
    assert_eq!(lines[0], "devices:");
    assert_eq!(lines[1], "  CUDA0: Fake CUDA device 0 (2048 MiB, 2048 MiB free)");
    assert_eq!(lines[2], "  CUDA1: Fake CUDA device 1 (2048 MiB, 2048 MiB free)");
    assert!(lines[3].starts_with("  CPU: "), "{lines:?}");
}

#[test]
fn a_device_is_chosen_by_its_name() {
    let model = model("chosen");
    let bench = |device: &str| {
        let flags = ["-p", "4", "-n", "1", "-r", "1", "--device", device, "-nkvo", "-m"];
        let flags = [&flags[..], &[model.to_str().unwrap(), "--vram-budget", "0.1"]].concat();
        run(&example("bench"), &flags, &[])
    };
    for device in ["CUDA0", "none"] {
        let Some(run) = bench(device) else { return };
        assert!(run.text().contains("pp4"), "{run:?}");
    }
    let refusal = bench("CUDA7").unwrap();
    assert_eq!(refusal.refusal(), "bench: there is no device 'CUDA7' (--list-devices shows them)");
}

#[test]
fn main_reports_the_memory_of_the_gpu() {
    let model = model("main");
    let flags = ["-p", "the sea", "-n", "3", "--ignore-eos", "-ngl", "99", "-c", "256", "-m"];
    let flags = [&flags[..], &[model.to_str().unwrap()]].concat();
    let Some(run) = run(&example("main"), &flags, &[]) else { return };
    run.text();
    assert!(run.stderr.contains("GPU memory"), "{run:?}");
    assert!(run.stderr.contains("neurons 0.0, KV cache 0."), "{run:?}");
}

/// The map of the C++ function has a second entry, which C++ takes for its own.
#[test]
fn memory_by_type_of_buffer_is_a_map_of_cpp() {
    let program = compile("tests/c_programs/extended.cpp", Build::Plain);
    let model = model("extended");
    let Some(run) = run(&program, &[model.to_str().unwrap()], &[]) else { return };
    let mut lines: Vec<_> = run.text().lines().take(3).collect();
    lines[..2].sort_unstable();
    assert_eq!(lines, ["CPU: 0 0", "CUDA0: 0 1", "2 0"]);
}
