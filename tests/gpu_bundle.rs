//! What `make gpu-bundle` puts together, on the fake driver with tiny shapes: `gpu-check.sh` prints
//! its whole report, says FAIL where something fails, and ends with one line where there is no card.

mod c_programs;
mod cuda_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use c_programs::{example, library_folder, repository, scratch};
use serde_json::Value;

/// The programs of this build that cargo makes, by asking it: they may be missing or old where this
/// test alone is run.
fn programs() -> Vec<PathBuf> {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments).args(["--quiet", "--message-format", "json"]);
        let output = cargo.current_dir(repository()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter_map(|line| line["executable"].as_str().map(PathBuf::from))
            .collect::<Vec<PathBuf>>()
    };
    let examples = ["build", "--example", "gpu_check", "--example", "make_sparse_model"];
    let tests = ["test", "--no-run", "--test", "cuda_ops", "--test", "card_models"];
    [cargo(&examples), cargo(&tests)].concat()
}

/// A folder like that of `make gpu-bundle`, of this build.
fn bundle(name: &str) -> PathBuf {
    let folder = scratch(name);
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let mut found = programs();
    found.push(example("main"));
    for program in found {
        // cuda_ops-0123456789abcdef
        let file = program.file_name().unwrap().to_str().unwrap();
        let place = bin.join(file.split('-').next().unwrap());
        let _ = fs::remove_file(&place);
        fs::hard_link(&program, &place)
            .or_else(|_| fs::copy(&program, &place).map(|_| ()))
            .unwrap();
    }
    let script = repository().join("benches/gpu/gpu-check.sh");
    fs::copy(script, folder.join("gpu-check.sh")).unwrap();
    let link = folder.join("lib");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(library_folder(), link).unwrap();
    folder
}

fn check(bundle: &Path, driver: &Path) -> Command {
    let mut command = Command::new(bundle.join("gpu-check.sh"));
    command.args(["--small", "--work"]).arg(bundle).env("LD_LIBRARY_PATH", driver);
    // Nothing that a machine may have.
    command.env("PATH", format!("{}:/usr/bin:/bin", bundle.join("tools").display()));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The result and the note of a check.
#[track_caller]
fn result_of<'a>(report: &'a str, check: &str) -> (&'a str, &'a str) {
    let start = format!("| {check} | ");
    let line = report.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("no '{check}' in\n{report}"));
    line.trim_end_matches(" |").split_once(" | ").unwrap_or((line, ""))
}

#[test]
fn the_report_is_whole() {
    let Some(driver) = cuda_support::fake_driver() else { return };
    let folder = bundle("gpu-bundle");
    // Says what the real one says when nothing is wrong.
    let sanitizer = folder.join("tools/compute-sanitizer");
    fs::create_dir_all(sanitizer.parent().unwrap()).unwrap();
    fs::write(&sanitizer, "#!/bin/sh\n[ \"$1\" = --tool ] || exit 3\nshift 4\nexec \"$@\"\n")
        .unwrap();
    fs::set_permissions(&sanitizer, fs::Permissions::from_mode(0o755)).unwrap();

    let output = check(&folder, driver).args(["--tests", "norm"]).output().unwrap();
    let (report, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{report}\n{said}");
    assert!(report.starts_with("# GPU check\n"), "{report}");
    for fact in
        ["| date | 20", "| device | Fake CUDA device 0, compute capability 8.0", "| driver | "]
    {
        assert!(report.contains(fact), "no '{fact}' in\n{report}");
    }
    for section in [
        "Checks",
        "Test programs",
        "compute-sanitizer",
        "Dense models",
        "Hybrid models",
        "Hybrid models, run twice",
        "Bandwidth of products",
        "Latency",
        "Hybrid against CPU and whole layers",
        "Loading kernels",
        "Time",
    ] {
        assert!(report.contains(&format!("\n## {section}\n")), "no '{section}' in\n{report}");
    }

    let (result, note) = result_of(&report, "cuda_ops on the card");
    assert!(result == "PASS" && !note.starts_with("0 tests"), "{result}: {note}");
    assert_eq!(result_of(&report, "card_models on the card").0, "PASS");
    for tool in ["memcheck", "racecheck"] {
        let (result, note) = result_of(&report, &format!("compute-sanitizer {tool}"));
        assert!(result == "PASS" && !note.starts_with("0 tests"), "{result}: {note}");
    }
    assert_eq!(result_of(&report, "launches, graphs, events and flags work").0, "PASS");
    assert_eq!(result_of(&report, "the driver compiles every kernel").0, "PASS");
    let bandwidth = "products reach 80 % of the copy bandwidth (Q4_0, Q8_0, F16)";
    assert_eq!(result_of(&report, bandwidth), ("not judged", "shapes are tiny"));
    for ty in ["q4_0", "q8_0", "f16", "bf16", "q4_1", "q5_0", "q4_K", "q5_K", "q6_K"] {
        assert!(report.contains(&format!("| {ty} | 512 x 256 | ")), "no {ty} in\n{report}");
    }
    assert!(report.contains("| graph of 8 launches: time on the card, each | "), "{report}");
    assert!(report.contains("| flag: the host sets one, "), "{report}");
    for row in ["| tiny, 10 % active | 50 %", "| tiny, 10 % active | 75 %", "| tiny Falcon, 10 %"] {
        assert!(report.contains(row), "no '{row}' in\n{report}");
    }
    for texts in [
        "dense: CPU and card write the same",
        "hybrid: CPU and both write the same",
        "hybrid: two runs write the same",
    ] {
        let (result, note) = result_of(&report, texts);
        assert_eq!((result, note), ("PASS", "2 of 2 models"), "{texts}\n{report}");
    }
    assert!(report.contains("the same; 3 of 3 layers are on CUDA0"), "{report}");
    let left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("gpu-check-"))
        .collect();
    assert!(left.is_empty(), "models are left: {left:?}");
}

#[test]
fn what_fails_is_said() {
    let Some(driver) = cuda_support::fake_driver() else { return };
    let folder = bundle("gpu-bundle-failing");
    let run = |settings: &[(&str, &str)], arguments: &[&str]| -> Output {
        let settings = settings.iter().copied();
        check(&folder, driver).envs(settings).args(arguments).output().unwrap()
    };
    // Every launch fails.
    let lost = [
        ("FAKE_CUDA_FAIL_AT", "1"),
        ("FAKE_CUDA_FAIL_NAME", "cuLaunchKernel"),
        ("FAKE_CUDA_LOST", "1"),
    ];
    let output = run(&lost, &["--only", "suite,latency", "--tests", "norm"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(result_of(&report, "cuda_ops on the card").0, "FAIL");
    assert_eq!(result_of(&report, "launches, graphs, events and flags work").0, "FAIL");

    // Parts that have no time say so, and what was not seen does not pass.
    let output = run(&[], &["--limit", "0", "--only", "suite,bandwidth,speed"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let (result, note) = result_of(&report, "cuda_ops on the card");
    assert!(result == "FAIL" && note.contains("stopped after 0 s"), "{result}: {note}");
    assert!(report.contains("Skipped:\n\n- tiny, 10 % active: no time left"), "{report}");

    let output = run(&[("FAKE_CUDA_DEVICES", "0")], &[]);
    assert_eq!(output.status.code(), Some(77));
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(said.starts_with("gpu-check: ") && said.lines().count() == 1, "{said}");

    let output = run(&[], &["--only", "nothing"]);
    assert_eq!(output.status.code(), Some(2));
}

/// Layers that repeat another are turned the same way in files that hold the down projection by
/// neurons and in files that hold it by channels.
#[test]
fn repeated_layers_are_the_same_in_both_files() {
    let folder = bundle("gpu-bundle-repeated");
    let prefix = folder.join("model");
    let shape = "--layers 4 --distinct 1 --embd 64 --ff 1024 --heads 2 --vocab-size 400 --pred 32";
    let mut make = Command::new(folder.join("bin/make_sparse_model"));
    make.arg("--out")
        .arg(&prefix)
        .args(shape.split(' '))
        .args(["--pwi", "--relu", "--counts", "10"]);
    let made = make.output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let texts = ["pwi", "relu"].map(|kind| {
        let model = format!("{}.{kind}.gguf", prefix.display());
        assert!(Path::new(&format!("{model}.activation.gguf")).is_file());
        let mut main = Command::new(folder.join("bin/main"));
        main.env("LD_LIBRARY_PATH", folder.join("lib"))
            .args(["-m", &model, "-p", "ab", "-n", "24"]);
        main.args(["--temp", "0", "--ignore-eos", "--sparse", "off", "-ngl", "0"]);
        let output = main.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    });
    assert!(
        texts[0].len() > 24 && texts[0] == texts[1],
        "{}\n{}",
        text(&texts[0]),
        text(&texts[1])
    );
}
