//! The server of `examples-c/server`: what it answers, to whom, under load, and to nonsense.
//!
//! The scripts in `tests/server` ask it; the server is built with AddressSanitizer and
//! UndefinedBehaviorSanitizer.
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;
mod server_support;

use std::path::Path;

use c_programs::{Build, example, model, scratch};
use server_support::{Server, program};

#[test]
fn every_endpoint_answers_as_it_should() {
    let (Some(program), Some(model)) = (program(Build::Sanitized), model()) else { return };
    let folder = scratch("server-slots");
    let folder = folder.to_str().unwrap();
    let options = ["-np", "4", "-c", "4096", "--slot-save-path", folder, "--max-body", "1"];
    let server = Server::start(&program, &model, &options);
    let main = example("main");
    server.script(
        Path::new("python3"),
        "endpoints.py",
        &[main.to_str().unwrap(), model.to_str().unwrap()],
    );
    server.end();
}
