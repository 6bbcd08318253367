//! Compiles the C programs of `examples-c` with `cc` against the library under test, and runs them.
//!
//! The programs land in the target folder and are compiled again when a source, a header or the
//! library is newer. Set `POWERINFER_TEST_LIBRARY` to another libllama to see what it does in the
//! same tests.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests may write; every test file names its own folder in it.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The real model, where it has been fetched.
pub(crate) fn model() -> Option<PathBuf> {
    let file = std::env::var_os("POWERINFER_TEST_MODEL")
        .map_or_else(|| repository().join("models/smollm2-135m-instruct-Q4_1.gguf"), PathBuf::from);
    let there = file.exists();
    if !there {
        eprintln!("skipped: no model at {}", file.display());
    }
    there.then_some(file)
}

/// The library under test: the one that cargo built beside this test.
pub(crate) fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("POWERINFER_TEST_LIBRARY") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libpowerinfer.so")
}

/// A folder with the library under the names that programs ask for.
pub(crate) fn library_folder() -> PathBuf {
    let library = library();
    if std::env::var_os("POWERINFER_TEST_LIBRARY").is_some() {
        return library.parent().unwrap().to_path_buf();
    }
    let folder = scratch("library");
    for name in ["libllama.so", "libpowerinfer.so", "libpowerinfer.so.0"] {
        let link = folder.join(name);
        let right = || fs::read_link(&link).is_ok_and(|target| target == library);
        if !right() {
            let _ = fs::remove_file(&link);
            // Another test may have been quicker.
            let made = std::os::unix::fs::symlink(&library, &link);
            assert!(made.is_ok() || right(), "{made:?}");
        }
    }
    folder
}

/// The target folder of this build: where make keeps what it fetched.
pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// PATH as make sees it.
fn path() -> String {
    format!("{}:{}", std::env::var("PATH").unwrap(), target().join("tools/bin").display())
}

/// Whether a program is on that PATH; says so when it is not.
pub(crate) fn has(tool: &str) -> bool {
    let there = std::env::split_paths(&path()).any(|folder| folder.join(tool).is_file());
    if !there {
        eprintln!("skipped: no {tool}");
    }
    there
}

/// Runs a command that must work, with that PATH; what it printed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let done = command.env("PATH", path()).output().unwrap();
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(done.status.success(), "{command:?}\n{}\n{}", said[0], said[1]);
    said[0].clone()
}

/// Makes a file of tests that run side by side: it is there whole or not at all.
pub(crate) fn keep(file: &Path, bytes: &[u8]) {
    if fs::read(file).is_ok_and(|there| there == bytes) {
        return;
    }
    let part = file.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, bytes).unwrap();
    fs::rename(&part, file).unwrap();
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Plain,
    /// With AddressSanitizer (leaks too) and UndefinedBehaviorSanitizer.
    Sanitized,
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|m| m.modified()).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// What the examples share.
const SHARED: [&str; 12] = [
    "adapters",
    "chunks",
    "common",
    "container",
    "dialogue",
    "embed",
    "generate",
    "importance",
    "measure",
    "report",
    "session",
    "tasks",
];

/// Compiles `source`, a path in the repository: C with what the examples share, or C++ alone.
pub(crate) fn compile(source: &str, build: Build) -> PathBuf {
    let (repository, library) = (repository(), library());
    let source = repository.join(source);
    let name = source.file_stem().unwrap().to_string_lossy().into_owned();
    let folder = match (build, std::env::var_os("POWERINFER_TEST_LIBRARY")) {
        (Build::Plain, None) => "programs",
        (Build::Sanitized, None) => "programs-sanitized",
        // A program that was linked to one library is not asked about another.
        (_, Some(_)) => "programs-other",
    };
    // Programs of different folders may have one name.
    let parent = source.parent().and_then(Path::file_name).unwrap();
    let folder = scratch(&format!("{folder}/{}", parent.to_string_lossy()));
    let program = folder.join(&name);

    // One compiler at a time for each program, whoever runs these tests side by side.
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();

    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let (compiler, standard) = if cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let examples = repository.join("examples-c");
    let shared = SHARED.iter().filter(|_| !cpp).map(|name| examples.join(name));
    let shared_headers = shared.clone().map(|file| file.with_extension("h"));
    let shared = shared.map(|file| file.with_extension("c"));
    let inputs = [source.clone(), library.clone()].into_iter();
    let inputs = inputs.chain(shared.clone()).chain(shared_headers);
    let headers = fs::read_dir(repository.join("include")).unwrap().map(|e| e.unwrap().path());
    let newest = inputs.chain(headers).map(|p| modified(&p)).max().unwrap();
    if program.exists() && modified(&program) > newest {
        return program;
    }

    let mut cc = Command::new(compiler);
    cc.args([standard, "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]);
    if build == Build::Sanitized {
        cc.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
    cc.arg("-I").arg(repository.join("include")).arg("-I").arg(&examples);
    cc.arg(&source).args(shared).arg(&library);
    if std::env::var_os("POWERINFER_TEST_LIBRARY").is_some() {
        // Others have ggml in libraries of its own.
        let more = ["libggml.so", "libggml-base.so", "libggml-cpu.so"];
        let more = more.map(|name| library.with_file_name(name));
        cc.args(more.iter().filter(|path| path.exists()));
    }
    cc.arg(format!("-Wl,-rpath,{}", library_folder().display()));
    // The library's own dependencies are its business.
    cc.args(["-lm", "-Wl,--allow-shlib-undefined", "-o"]).arg(&program);
    let done = cc.output().unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(done.status.success(), "{cc:?}\n{}", String::from_utf8_lossy(&done.stderr));
    program
}

pub(crate) fn example(name: &str) -> PathBuf {
    compile(&format!("examples-c/{name}.c"), Build::Plain)
}

pub(crate) fn sanitized(name: &str) -> PathBuf {
    compile(&format!("examples-c/{name}.c"), Build::Sanitized)
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `None`: killed by a signal.
    pub(crate) code: Option<i32>,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).expect("the output is UTF-8"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }
}

impl Run {
    /// It worked; its output.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// It refused with exit code 1, one line on stderr and nothing on stdout; the line.
    #[track_caller]
    pub(crate) fn refusal(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_default();
        assert!(!line.is_empty() && !line.contains('\n'), "not one line: {self:?}");
        line
    }
}

pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("UBSAN_OPTIONS", "print_stacktrace=1");
    command
}

pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(program: &Path, arguments: &[S]) -> Run {
    command(program).args(arguments).output().unwrap().into()
}

/// Runs with text on stdin.
pub(crate) fn run_with_input(program: &Path, arguments: &[&str], input: &str) -> Run {
    use std::io::Write;
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}
