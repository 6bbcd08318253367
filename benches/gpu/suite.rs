//! The tests of kernels and of models (`tests/cuda_ops.rs`, `tests/card_models.rs`) on the card.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::Bundle;
use crate::child::{self, Outcome};
use crate::report::{Report, Verdict, table};

/// The test programs: kernels, and whole models.
const PROGRAMS: [&str; 2] = ["cuda_ops", "card_models"];

fn tests(bundle: &Bundle, program: &str) -> Command {
    let mut command = Command::new(bundle.program(program));
    command.args(&bundle.tests).env("POWERINFER_TEST_GPU", "1");
    command
}

/// Names of the tests with this result.
fn with_result<'a>(outcome: &'a Outcome, result: &str) -> Vec<&'a str> {
    let lines = outcome.stdout.lines().filter_map(|line| {
        let (name, found) = line.strip_prefix("test ")?.split_once(" ... ")?;
        (found.trim() == result).then_some(name)
    });
    lines.collect()
}

/// Each kernel against plain loops, and models against the CPU.
pub fn run(bundle: &Bundle, report: &mut Report) {
    let mut text = String::new();
    for program in PROGRAMS {
        let all = child::run(&mut tests(bundle, program), bundle.time(120));
        let rows = failures(bundle, program, &all);
        let passed = with_result(&all, "ok").len();
        let ended = all.stdout.contains("test result:");
        let note = match ended {
            true => format!("{passed} tests pass, {} fail", rows.len()),
            false => format!("{passed} tests pass, then: {}", all.ending()),
        };
        // Tests that pass alone only point to one that does not.
        let passes = ended && all.succeeded();
        report.check(&format!("{program} on the card"), Verdict::of(passes), note.clone());
        text += &format!("{program}: {note}, {:.1} s\n\n", all.seconds);
        if !rows.is_empty() {
            text += &format!("{}\n", table(&["test", "alone", "message"], rows));
        }
    }
    report.section("Test programs", &text);
}

/// What failed, run again alone: a test that breaks the context fails those that run beside it.
fn failures(bundle: &Bundle, program: &str, all: &Outcome) -> Vec<Vec<String>> {
    let rows = with_result(all, "FAILED").into_iter().map(|name| {
        let mut alone = Command::new(bundle.program(program));
        alone.args(["--exact", name]).env("POWERINFER_TEST_GPU", "1");
        let alone = child::run(&mut alone, bundle.time(30));
        let passes = with_result(&alone, "ok").len() == 1;
        let message = alone.stdout.lines().find(|line| line.contains("panicked")).map(str::trim);
        let result = if passes { "passes".to_owned() } else { alone.ending() };
        vec![name.to_owned(), result, message.unwrap_or_default().to_owned()]
    });
    rows.collect()
}

/// Where compute-sanitizer is: on the PATH, or in a toolkit.
fn sanitizer() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/local/cuda/bin")];
    let folders = std::env::split_paths(&path).chain(usual);
    folders.map(|folder| folder.join("compute-sanitizer")).find(|file| file.is_file())
}

/// The kernels' tests under compute-sanitizer, a tool after the other.
pub fn sanitize(bundle: &Bundle, report: &mut Report) {
    let Some(sanitizer) = sanitizer() else {
        let note = "compute-sanitizer is not installed";
        report.check("compute-sanitizer", Verdict::Open, note);
        report.section("compute-sanitizer", note);
        return;
    };
    let mut rows = Vec::new();
    for (tool, seconds) in [("memcheck", 60), ("racecheck", 45)] {
        let mut command = Command::new(&sanitizer);
        command.args(["--tool", tool, "--error-exitcode", "9"]);
        command.arg(bundle.program("cuda_ops")).args(["--test-threads", "1"]);
        command.args(&bundle.tests).env("POWERINFER_TEST_GPU", "1");
        let outcome = child::run(&mut command, bundle.time(seconds));
        let n = with_result(&outcome, "ok").len();
        let said = |word: &str| {
            outcome.stdout.lines().any(|line| line.starts_with("=========") && line.contains(word))
        };
        let clean = !said("Invalid") && !said("Error:") && !said("hazard") && !said("Race");
        let (verdict, note) = match outcome.status {
            Some(status) if status.success() => (Verdict::Pass, format!("{n} tests, no errors")),
            None if clean => {
                (Verdict::Open, format!("clean for {n} tests, then {}", outcome.ending()))
            }
            _ => (Verdict::Fail, summary(&outcome)),
        };
        report.check(&format!("compute-sanitizer {tool}"), verdict, note.clone());
        rows.push(vec![tool.to_owned(), note]);
    }
    report.section("compute-sanitizer", &table(&["tool", "result"], rows));
}

/// Its own words where it has some.
fn summary(outcome: &Outcome) -> String {
    let found = outcome.stdout.lines().rfind(|line| line.contains("SUMMARY"));
    found.map_or_else(|| outcome.ending(), |line| line.trim_matches(['=', ' ']).to_owned())
}

/// A limit that says that there is no time left.
pub fn no_time(limit: Duration) -> bool {
    limit < Duration::from_secs(2)
}
