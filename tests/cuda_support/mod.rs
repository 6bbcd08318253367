//! CUDA code proved without a GPU: builds a `libcuda.so.1` from `tests/cuda` and `kernels/*.cu`
//! with g++, and runs a test again in a child process that loads it.
//!
//! A test of device code is one call: `cuda_support::every_order(|| { ... })`. What is inside runs
//! in children, once for each order of threads that the emulator knows, and unchanged on a real
//! card when `POWERINFER_TEST_GPU=1`.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Orders in which the emulator runs threads and blocks: up, down, shuffled, warp by warp.
pub const ORDERS: [&str; 4] = ["0", "1", "2", "3"];

/// Set in a child: it is to run the test's body.
const CHILD: &str = "POWERINFER_TEST_CUDA_CHILD";

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the fake driver, for `LD_LIBRARY_PATH`; built when a source is newer. `None`
/// with a line where there is no g++, or a real card instead.
pub fn fake_driver() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        if has_card() {
            eprintln!("skipped on a card: what the emulator alone catches");
            return None;
        }
        if !has_compiler() {
            eprintln!("skipped: no g++ to build the CUDA emulator with");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
        build_modules(&manifest().join("kernels"), &folder)
            .unwrap_or_else(|error| panic!("{error}"));
        Some(folder)
    };
    BUILT.get_or_init(build).as_deref()
}

fn has_compiler() -> bool {
    let mut compiler = Command::new("g++");
    compiler.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    compiler.status().is_ok_and(|status| status.success())
}

/// Builds `folder`/libcuda.so.1 with the kernels of the files `kernels`/*.cu and of
/// `tests/cuda/probe.cu`.
///
/// # Errors
/// What g++ says.
pub fn build_modules(kernels: &Path, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).expect("target is writable");
    // Tests that run side by side build it once.
    let lock = File::create(folder.join("lock")).expect("target is writable");
    lock.lock().expect("a file can be locked");
    let emulator = manifest().join("tests/cuda");
    let shared = newest(&headers(kernels).chain(headers(&emulator)).collect::<Vec<_>>());

    let mut sources = with_suffix(kernels, "cu");
    sources.push(emulator.join("probe.cu"));
    let mut compiles = Vec::new();
    let mut objects = Vec::new();
    for source in &sources {
        let module = source.file_stem().expect("a .cu file").to_string_lossy().into_owned();
        let object = folder.join(format!("{module}.o"));
        objects.push(object.clone());
        if modified(&object) > shared.max(modified(source)) {
            continue;
        }
        let unit = folder.join(format!("{module}.cpp"));
        let names = scan(source, kernels)?;
        fs::write(&unit, unit_text(source, &module, &names)).expect("target is writable");
        compiles.push((unit, object));
    }
    let driver = folder.join("fake_libcuda.o");
    let source = emulator.join("fake_libcuda.cpp");
    if modified(&driver) <= shared.max(modified(&source)) {
        compiles.push((source, driver.clone()));
    }
    objects.push(driver);
    compile_all(&compiles, kernels)?;

    let library = folder.join("libcuda.so.1");
    if !compiles.is_empty() || modified(&library) <= newest(&objects) {
        let unfinished = folder.join("libcuda.so.new");
        run(compiler(kernels).arg("-shared").args(&objects).arg("-o").arg(&unfinished))?;
        fs::rename(&unfinished, &library).expect("target is writable");
        let plain = folder.join("libcuda.so"); // the name that is looked for first
        let _ = fs::remove_file(&plain);
        std::os::unix::fs::symlink("libcuda.so.1", &plain).expect("target is writable");
    }
    Ok(())
}

/// Optimised; a misaligned wide load and an index outside an array end the process.
fn compiler(kernels: &Path) -> Command {
    let mut compiler = Command::new("g++");
    compiler
        .args(["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-pthread"])
        .args(["-fno-strict-aliasing", "-ffp-contract=off"])
        .args(["-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"])
        .arg("-I")
        .arg(kernels)
        .arg("-I")
        .arg(manifest().join("tests/cuda"));
    compiler
}

/// Two at a time: on a small machine more would wait for memory.
fn compile_all(units: &[(PathBuf, PathBuf)], kernels: &Path) -> Result<(), String> {
    for two in units.chunks(2) {
        let children: Vec<_> = two
            .iter()
            .map(|(unit, object)| {
                let mut command = compiler(kernels);
                command.arg("-c").arg(unit).arg("-o").arg(object).stderr(Stdio::piped());
                command.spawn().expect("g++ starts")
            })
            .collect();
        for child in children {
            finished(child.wait_with_output().expect("g++ ends"))?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<Output, String> {
    finished(command.output().expect("g++ starts"))
}

fn finished(output: Output) -> Result<Output, String> {
    if output.status.success() {
        return Ok(output);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The kernels of a file: their names and what stands in `KERNEL((...))`. The preprocessor is run,
/// so kernels that macros write are among them.
fn scan(source: &Path, kernels: &Path) -> Result<Vec<(String, String)>, String> {
    let output = run(compiler(kernels).args(["-E", "-P", "-DEMU_SCAN", "-x", "c++"]).arg(source))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<_> = text
        .split("EMU_ENTRY")
        .skip(1)
        .map(|rest| {
            let (bounds, rest) = rest.split_once(" void").expect("KERNEL((threads)) before a name");
            let name = rest.split_once('(').expect("a kernel has arguments").0;
            (name.trim().to_owned(), bounds.trim().to_owned())
        })
        .collect();
    if found.is_empty() {
        return Err(format!("{}: no KERNEL((threads)) name(...) in it", source.display()));
    }
    Ok(found)
}

/// A file that compiles a module and puts its kernels into the table.
fn unit_text(source: &Path, module: &str, kernels: &[(String, String)]) -> String {
    let section = format!("emu_shared_{module}");
    let hidden = "__attribute__((weak, visibility(\"hidden\")))";
    let mut text = format!(
        "#define EMU_SECTION \"{section}\"\n#include \"cuda_emu.h\"\n#include \"kernel_table.h\"\n\
         extern \"C\" {hidden} unsigned char __start_{section}[], __stop_{section}[];\n\
         namespace {{\n#include \"{}\"\n\
         const emu::SharedMemory shared{{__start_{section}, __stop_{section}}};\n",
        source.display()
    );
    for (i, (name, bounds)) in kernels.iter().enumerate() {
        text += &format!(
            "fake::Kernel kernel_{i}(\"{name}\", fake::bind<{name}>, fake::bounds{bounds}, shared);\n"
        );
    }
    text + "}\n"
}

fn with_suffix(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == suffix))
        .collect();
    found.sort();
    found
}

fn headers(folder: &Path) -> impl Iterator<Item = PathBuf> {
    // This file writes the units: a change here makes them new too.
    let this = manifest().join("tests/cuda_support/mod.rs");
    with_suffix(folder, "h").into_iter().chain(with_suffix(folder, "cuh")).chain([this])
}

fn modified(path: &Path) -> SystemTime {
    let when = fs::metadata(path).and_then(|metadata| metadata.modified());
    when.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn newest(paths: &[PathBuf]) -> SystemTime {
    paths.iter().map(|path| modified(path)).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// This test program, ready to run the test `name` alone with the fake driver; `None` with a line
/// where that cannot be built.
pub fn child(name: &str) -> Option<Command> {
    fake_driver().map(|driver| child_with(driver, name))
}

/// The same with the driver in this folder.
pub fn child_with(driver: &Path, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", name, "--nocapture", "--include-ignored"]);
    command.env("LD_LIBRARY_PATH", driver).env(CHILD, "1");
    command
}

/// Whether this process is such a child.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The name of the test that a closure is written in, as the test program knows it.
pub fn test_name<F>(_: &F) -> &'static str {
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").expect("a closure is in a crate").1;
    name.split("::{{closure}}").next().expect("the part before")
}

/// Runs the test that this is called from in a child with these settings of the fake driver, and
/// returns what the child did; the child runs `body` and ends. `None` where there is no compiler.
/// A test has one such body.
pub fn with_settings<F: FnOnce()>(settings: &[(&str, &str)], body: F) -> Option<Output> {
    let name = test_name(&body);
    if is_child() {
        body();
        std::process::exit(0); // the test around it is the parent's
    }
    let mut command = child(name)?;
    let output = command.envs(settings.iter().copied()).output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("running 0 tests"), "{name}: no such test\n{said}");
    Some(output)
}

/// As [`with_settings`], for a body that must succeed.
pub fn passes_with<F: FnOnce()>(settings: &[(&str, &str)], body: F) {
    if let Some(output) = with_settings(settings, body) {
        assert!(output.status.success(), "with {settings:?}:\n{}", said(&output));
    }
}

/// Whether tests are to run on the machine's own card.
fn has_card() -> bool {
    std::env::var_os("POWERINFER_TEST_GPU").is_some_and(|value| value == "1")
}

/// Runs `body` on the emulator in a child of the test that this is called from, or in this process
/// on a real card as [`every_order`] does: for what is too long to run in every order.
pub fn once<F: FnOnce()>(body: F) {
    match has_card() && !is_child() {
        true => body(),
        false => passes_with(&[], body),
    }
}

/// Runs `body` on the emulator in each order of threads, in children of the test that this is
/// called from; and in this process, on a real card, when `POWERINFER_TEST_GPU=1`.
pub fn every_order<F: Fn()>(body: F) {
    if is_child() {
        return body();
    }
    if has_card() {
        return body();
    }
    for order in ORDERS {
        passes_with(&[("FAKE_CUDA_ORDER", order)], &body);
    }
}

/// Everything that a child wrote.
pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}
