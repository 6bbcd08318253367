//! Builds the server of `examples-c/server` as a user does, with cmake against an installation of
//! the library under test, and starts it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::c_programs::{has, library, library_folder, repository, scratch, succeed};

/// Whether what the server is built from is there; says so when it is not.
fn buildable() -> bool {
    let headers = ["httplib.h", "nlohmann/json.hpp"];
    let there = headers.iter().all(|header| {
        let mut cpp = Command::new("c++");
        cpp.args(["-E", "-x", "c++", "-include", header, "/dev/null"]).stdout(Stdio::null());
        cpp.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    if !there {
        eprintln!("skipped: no cpp-httplib or nlohmann-json");
    }
    there && has("cmake") && has("ninja") && has("pkg-config")
}

/// The program, with AddressSanitizer and UndefinedBehaviorSanitizer; `None`: it cannot be built on
/// this machine.
pub(crate) fn program() -> Option<PathBuf> {
    if !buildable() {
        return None;
    }
    let flags = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all";
    let folder = scratch("server");
    let stage = folder.join("stage");
    // Tests that run side by side build it once.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let mut make = Command::new("make");
    make.current_dir(repository()).arg("install-library");
    make.arg(format!("LIBRARY={}", library().display()));
    make.arg(format!("PREFIX={}", stage.display()));
    make.arg(format!("WORK={}", folder.join("work").display()));
    for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DESTDIR"] {
        make.env_remove(inherited);
    }
    succeed(&mut make);
    let build = folder.join("build");
    if !build.join("build.ninja").exists() {
        let mut cmake = Command::new("cmake");
        cmake.arg("-S").arg(repository().join("examples-c")).arg("-B").arg(&build);
        cmake.args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug"]);
        cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", stage.display()));
        cmake.arg(format!("-DCMAKE_C_FLAGS={flags}")).arg(format!("-DCMAKE_CXX_FLAGS={flags}"));
        succeed(&mut cmake);
    }
    let mut cmake = Command::new("cmake");
    succeed(cmake.arg("--build").arg(&build).args(["--target", "server"]));
    Some(build.join("server/server"))
}

/// A server that runs; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    lines: mpsc::Receiver<String>,
    /// What it wrote to stderr.
    said: Vec<String>,
}

impl Server {
    /// Starts it on a free port, and waits until the model is loaded.
    pub(crate) fn start(program: &Path, model: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.arg("-m").arg(model).args(["--port", "0"]).args(arguments);
        command.env("LD_LIBRARY_PATH", library_folder());
        // The sanitizer's own memory is not to be taken for the server's.
        command.env("ASAN_OPTIONS", "quarantine_size_mb=4:thread_local_quarantine_size_kb=16");
        command.env("UBSAN_OPTIONS", "print_stacktrace=1");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        let mut server = Self { child, url: String::new(), lines, said: Vec::new() };
        let listening = server.wait_for(" listening on ");
        server.url = listening.rsplit(' ').next().unwrap().to_owned();
        server.wait_for(" ready: ");
        server
    }

    /// Waits until it says a line with this in it; the line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(why) => panic!("no '{what}' ({why}) in\n{}", self.said.join("\n")),
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        succeed(Command::new("kill").arg("-TERM").arg(self.id().to_string()));
    }

    /// Sends SIGTERM; it must drain and end with 0, and the sanitizers find nothing.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.terminate();
        self.ended_well();
    }

    /// Waits for the end after a signal.
    #[track_caller]
    pub(crate) fn ended_well(&mut self) {
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        assert!(status.success(), "{status}\n{}", self.said.join("\n"));
    }

    /// Runs a script of `tests/server` with Python: its arguments are the server's URL and these.
    #[track_caller]
    pub(crate) fn script(&self, python: &Path, name: &str, arguments: &[&str]) {
        let mut command = Command::new(python);
        command.arg(repository().join("tests/server").join(name)).arg(&self.url).args(arguments);
        let said = succeed(&mut command);
        eprintln!("{said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
