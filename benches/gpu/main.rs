//! Checks the library on a machine with an NVIDIA card, and prints one report in Markdown.
//!
//! `make gpu-bundle` puts it, as `bin/gpu_check` behind `gpu-check.sh`, into a folder with all that
//! it runs. Each part runs other programs of the folder under a time limit, so that a part that
//! hangs or crashes is a line of the report:
//!
//! | file | part |
//! |---|---|
//! | `suite.rs` | the tests of kernels and models on the card, also under compute-sanitizer where that is installed |
//! | `tokens.rs` | the same text from the CPU and from the card, dense and hybrid |
//! | `bandwidth.rs` | products with matrices, as a share of the copy bandwidth |
//! | `modules.rs` | how long the driver compiles kernels |
//! | `latency.rs` | what launches, graphs, events and flags cost |
//! | `speed.rs` | hybrid against CPU alone and against whole layers, on models of real sizes |
//! | `machine.rs`, `child.rs`, `report.rs` | the machine, other programs, what is printed |
//!
//! To add a part: a file with a function that takes [`Bundle`] and [`Report`], and its line in
//! [`PARTS`].
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a program")]

mod bandwidth;
mod child;
mod latency;
mod machine;
mod modules;
mod report;
mod speed;
mod suite;
mod tokens;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use powerinfer::backend::cuda::{Device, absence};

use report::Report;

#[derive(Parser)]
#[command(about = "Checks the library on an NVIDIA card and prints a report in Markdown")]
struct Options {
    /// Seconds that all parts together may take
    #[arg(long, default_value_t = 465)]
    limit: u64,
    /// Tiny shapes, whose speed says nothing: to try the check itself
    #[arg(long)]
    small: bool,
    /// Only these parts: suite, sanitizer, dense, bandwidth, latency, hybrid, speed, modules
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where models may be written; memory or the temporary folder, whichever has room, if not given
    #[arg(long)]
    work: Option<PathBuf>,
    /// Only the tests whose names have this in them
    #[arg(long)]
    tests: Option<String>,
    /// Measures in this process, for the program itself
    #[arg(long, hide = true)]
    measure: Option<String>,
}

/// The folder of programs, and what the command line says.
pub struct Bundle {
    /// Programs, each under a name or where a variable such as `GPU_CHECK_MAIN` says.
    bin: PathBuf,
    /// Models are written here.
    work: PathBuf,
    small: bool,
    tests: Option<String>,
    end: Instant,
}

impl Bundle {
    /// This program, to measure something in a process of its own.
    pub fn measuring(&self, what: &str) -> Command {
        let own = std::env::current_exe().unwrap_or_else(|_| self.program("gpu_check"));
        let mut command = Command::new(own);
        command.args(["--measure", what]).args(self.small.then_some("--small"));
        command
    }

    pub fn program(&self, name: &str) -> PathBuf {
        let variable = format!("GPU_CHECK_{}", name.to_uppercase());
        std::env::var_os(variable).map_or_else(|| self.bin.join(name), PathBuf::from)
    }

    /// What is left of the time, at most `most` seconds.
    pub fn time(&self, most: u64) -> Duration {
        self.end.saturating_duration_since(Instant::now()).min(Duration::from_secs(most))
    }
}

type Part = fn(&Bundle, &mut Report);

/// In the order in which they run.
const PARTS: [(&str, Part); 8] = [
    ("suite", suite::run),
    ("sanitizer", suite::sanitize),
    ("dense", tokens::dense),
    ("hybrid", tokens::hybrid),
    ("bandwidth", bandwidth::run),
    ("latency", latency::run),
    ("speed", speed::run),
    ("modules", modules::run),
];

/// Exit code of a machine that has nothing to check; test programs use it for "skipped".
const NO_DEVICE: u8 = 77;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(unknown) = options.only.iter().find(|o| PARTS.iter().all(|(name, _)| name != o)) {
        eprintln!("gpu-check: no part is called '{unknown}' (--help lists them)");
        return ExitCode::from(2);
    }
    if Device::list().is_empty() {
        eprintln!("gpu-check: {}: nothing to check", absence().unwrap_or("no device"));
        return ExitCode::from(NO_DEVICE);
    }
    if let Some(what) = &options.measure {
        return measure(what, options.small);
    }
    match check(&options) {
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::from(u8::from(report.failed()))
        }
        Err(error) => {
            eprintln!("gpu-check: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(what: &str, small: bool) -> ExitCode {
    let measured = match what {
        "bandwidth" => bandwidth::measure(small),
        "latency" => latency::measure(small),
        "modules" => modules::measure(),
        _ => machine::hold_a_context(),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(options: &Options) -> Result<Report, std::io::Error> {
    let start = Instant::now();
    let own = std::env::current_exe()?;
    let bin = own.parent().map_or_else(PathBuf::new, PathBuf::from);
    let work = machine::work_folder(options.work.as_deref())?;
    if let Some(cache) = machine::kernel_cache(work.path()) {
        let _ = child::CACHE.set(cache);
    }
    let bundle = Bundle {
        bin,
        work: work.path().to_owned(),
        small: options.small,
        tests: options.tests.clone(),
        end: start + Duration::from_secs(options.limit),
    };
    let mut report = Report::new(machine::facts(&bundle));
    for (name, part) in PARTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let begun = Instant::now();
        eprintln!("gpu-check: {name} ({} s of {})", start.elapsed().as_secs(), options.limit);
        part(&bundle, &mut report);
        report.took(name, begun.elapsed());
    }
    report.took("all", start.elapsed());
    Ok(report)
}
