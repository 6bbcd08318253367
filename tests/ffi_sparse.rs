//! Options and counts of sparse execution as programs in C meet them: by `powerinfer.h`, by
//! overrides, and by the environment of a program that knows nothing of them.

mod c_programs;
mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use c_programs::{Build, Run, command, compile, example, sanitized, scratch};
use common::{known_neurons, tiny};

/// The model, for one test.
fn model(test: &str) -> PathBuf {
    let path = scratch("sparse").join(format!("{test}.gguf"));
    std::fs::write(&path, known_neurons::bytes()).unwrap();
    path
}

/// Runs the C program under an environment with nothing of ours but this.
fn sparse(model: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Run {
    let program = compile("tests/c_programs/sparse.c", Build::Sanitized);
    output(&program, &[&[model.to_str().unwrap()], arguments].concat(), env).into()
}

fn output(program: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = command(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POWERINFER_SPARSE")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(env.iter().copied()).output().unwrap()
}

/// Tokens, and the counts of the first layer.
fn first_layer(run: &Run) -> (String, String) {
    let mut lines = run.text().lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

const EXACT: &str = "0 exact neurons 96 tokens 5 guessed 480 fired 120 checked 0 found 0 less 1";
const GUESSED: &str = "0 predictor neurons 96 tokens 5 guessed 160 fired 40";

#[test]
fn all_routes_say_the_same() {
    let model = model("routes");
    let (tokens, counts) = first_layer(&sparse(&model, &["params", "exact", "-"], &[]));
    assert_eq!(counts, format!("{EXACT} timed 1"));
    let by_kv = sparse(&model, &["kv", "exact", "-"], &[]);
    assert_eq!(first_layer(&by_kv), (tokens.clone(), format!("{EXACT} timed 0")));
    let by_env = sparse(&model, &["none", "-", "-"], &[("POWERINFER_SPARSE", "exact")]);
    assert_eq!(first_layer(&by_env), first_layer(&by_kv));

    // With predictors: 32 of 96 guessed, 8 of the 24 that fire found.
    let env = [("POWERINFER_SPARSE", "predictor"), ("POWERINFER_STATS", "1")];
    let by_env = first_layer(&sparse(&model, &["none", "-", "-"], &env));
    assert_eq!(by_env.1, format!("{GUESSED} checked 24 found 8 less 1 timed 1"));
    assert_eq!(first_layer(&sparse(&model, &["params", "predictor", "-"], &[])), by_env);
    // `auto` takes the cheapest, which can be either; as a flag it is the same as by its name.
    let auto = first_layer(&sparse(&model, &["kv", "auto", "-"], &[]));
    assert_eq!(first_layer(&sparse(&model, &["flag", "true", "-"], &[])), auto);
    std::fs::remove_file(model).unwrap();
}

#[test]
fn the_first_route_wins() {
    let model = model("first");
    let env = [("POWERINFER_SPARSE", "predictor"), ("POWERINFER_SPARSE_THRESHOLD", "inf")];
    let fired = |route: &str, mode: &str, threshold: &str| {
        let (_, counts) = first_layer(&sparse(&model, &[route, mode, threshold], &env));
        let words: Vec<&str> = counts.split(' ').collect();
        (words[1].to_owned(), words[7].to_owned(), words[9].to_owned())
    };
    let is = |found: (String, String, String), mode: &str, guessed: &str, fired: &str| {
        assert_eq!((&found.0[..], &found.1[..], &found.2[..]), (mode, guessed, fired));
    };
    is(fired("none", "-", "-"), "predictor", "0", "0");
    is(fired("kv", "exact", "-"), "exact", "480", "120");
    is(fired("kv", "predictor", "0"), "predictor", "160", "40");
    is(fired("params", "default", "0"), "predictor", "160", "40");
    is(fired("params", "default", "-inf"), "predictor", "480", "120");
    is(fired("params", "off", "-"), "off", "480", "120");
    std::fs::remove_file(model).unwrap();
}

#[test]
fn options_that_make_no_sense_are_named() {
    let model = model("bad");
    let refused = |arguments: &[&str], env: &[(&str, &str)], message: &str| {
        let run = sparse(&model, arguments, env);
        assert_eq!((run.code, &run.stdout[..]), (Some(1), ""), "{run:?}");
        assert!(run.stderr.contains(message), "{run:?}");
    };
    refused(&["params", "fast", "-"], &[], "99 is no value of enum powerinfer_sparse_mode");
    refused(&["kv", "fast", "-"], &[], "powerinfer.sparse: str \"fast\" is not auto, exact,");
    refused(&["kv", "exact", "nan"], &[], "powerinfer.sparse_threshold: f64 nan is not a number");
    let env = [("POWERINFER_SPARSE", "fast")];
    refused(&["none", "-", "-"], &env, "POWERINFER_SPARSE: fast is not auto, exact,");
    let env = [("POWERINFER_VRAM_BUDGET", "-1")];
    refused(&["params", "exact", "-"], &env, "POWERINFER_VRAM_BUDGET: -1 is not a size in GiB");

    // A key that does not exist changes nothing and is named, with those that do.
    let run = sparse(&model, &["flag", "true", "-"], &[]);
    run.text();
    let warning = "there is no option 'powerinfer.sprase'; there are powerinfer.sparse, ";
    assert!(run.stderr.contains(warning), "{run:?}");
    std::fs::remove_file(model).unwrap();
}

#[test]
fn counts_are_saved_and_misuse_is_harmless() {
    let model = model("saved");
    let counts = model.with_extension("counts");
    let arguments = ["params", "exact", "-", counts.to_str().unwrap()];
    sparse(&model, &arguments, &[]).text();
    let bytes = std::fs::read(&counts).unwrap();
    let header = powerinfer::gguf::parse(&bytes, "counts").unwrap();
    assert_eq!(header.meta.require_u64("powerinfer.activation.tokens").unwrap(), 5);
    assert_eq!(header.tensors.len(), known_neurons::N_LAYER);
    let first: Vec<u8> = [5i32, 0, 0, 0, 5].iter().flat_map(|n| n.to_le_bytes()).collect();
    let at = header.data_offset as usize + header.tensors[0].offset as usize;
    assert_eq!(bytes[at..at + 20], first);
    std::fs::remove_file(model).unwrap();
    std::fs::remove_file(counts).unwrap();
}

#[test]
fn a_program_that_knows_nothing_obeys_the_environment() {
    let model = model("unmodified");
    let simple = example("simple");
    let text = |env: &[(&str, &str)]| {
        let arguments = ["-m", model.to_str().unwrap(), "-n", "8", "the ring"];
        let output = output(&simple, &arguments, env);
        (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let off = text(&[("POWERINFER_SPARSE", "off")]);
    let exact = text(&[("POWERINFER_SPARSE", "exact")]);
    assert_eq!((off.0, exact.0), (Some(0), Some(0)), "{off:?} {exact:?}");
    assert_eq!(off.1, exact.1);
    let (code, _, stderr) = text(&[("POWERINFER_SPARSE", "fast")]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("POWERINFER_SPARSE: fast is not auto"), "{stderr}");
    std::fs::remove_file(model).unwrap();
}

#[test]
fn a_calibration_is_found_by_the_next_load() {
    let model = scratch("sparse").join("calibrate.gguf");
    let spec = tiny::spec("gqa");
    std::fs::write(&model, tiny::bytes(&spec)).unwrap();
    let sidecar = model.with_extension("thresholds");
    let _ = std::fs::remove_file(&sidecar);
    let program = compile("tests/c_programs/calibrate.c", Build::Sanitized);
    let fired = |target: &str| {
        let arguments = [model.to_str().unwrap(), sidecar.to_str().unwrap(), target];
        let run: Run = output(&program, &arguments, &[]).into();
        for message in ["the model is NULL", "no 2000 tokens", "has 100 tokens", "sparsity NaN"] {
            assert!(run.stderr.contains(message), "{run:?}");
        }
        let mut lines = run.text().lines();
        let silent = lines.next().unwrap().strip_prefix("silent ").unwrap().parse::<f32>().unwrap();
        let target: f32 = target.parse().unwrap();
        assert!((silent - target).abs() < 0.03, "{run:?}");
        let layers = format!("layers {} fired ", spec.n_layer);
        lines.next().unwrap().strip_prefix(&layers[..]).unwrap().parse::<f32>().unwrap()
    };
    // Eight tokens are a small sample of the text.
    for (target, expected) in [("0", 1.0), ("0.4", 0.6), ("0.8", 0.2)] {
        let found = fired(target);
        assert!((found - expected).abs() < 0.1, "{target}: {found}");
    }
    std::fs::remove_file(model).unwrap();
    std::fs::remove_file(sidecar).unwrap();
}

/// The line of the table that begins with this.
fn table_line<'a>(stderr: &'a str, start: &str) -> Vec<&'a str> {
    let mut lines = stderr.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.rfind(|words| words.first() == Some(&start)).unwrap_or_else(|| panic!("{stderr}"))
}

#[test]
fn main_shows_what_it_skipped() {
    let model = model("main");
    let counts = model.with_extension("counts");
    let run = |more: &[&str]| {
        let base = ["-m", model.to_str().unwrap(), "-p", "the ring", "-n", "6", "--temp", "0"];
        let base = [&base[..], &["-c", "64", "--ignore-eos"], more].concat();
        let output = output(&sanitized("main"), &base, &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = run(&["--sparse", "predictor", "--sparse-stats"]);
    assert_eq!(code, Some(0), "{stderr}");
    let layer = table_line(&stderr, "0");
    assert_eq!(layer[1..5], ["predictor", "8.33%", "33.33%", "33.33%"], "{stderr}");
    let all = table_line(&stderr, "all");
    assert_eq!(all[1..4], ["8.33%", "33.33%", "33.33%"], "{stderr}");
    let mib = |i: usize| all[i].parse::<f64>().unwrap();
    assert!(mib(4) > 0.0 && mib(5) > 0.0 && mib(6) > 0.0, "{stderr}");

    let (_, stderr) =
        run(&["--sparse", "predictor", "--sparse-threshold", "1e9", "--sparse-stats"]);
    assert_eq!(table_line(&stderr, "all")[1..4], ["0.00%", "0.00%", "0.00%"], "{stderr}");

    let (code, stderr) = run(&["--save-activation", counts.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    let bytes = std::fs::read(&counts).unwrap();
    let header = powerinfer::gguf::parse(&bytes, "counts").unwrap();
    assert!(header.meta.require_u64("powerinfer.activation.tokens").unwrap() > 6);

    let (code, stderr) = run(&["--sparse", "fast"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("powerinfer.sparse: str \"fast\" is not auto, exact"), "{stderr}");
    std::fs::remove_file(model).unwrap();
    std::fs::remove_file(counts).unwrap();
}
