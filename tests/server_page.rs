//! The page of `examples-c/server` in Chromium: `server_page/*.test.mjs`, run by Node.
//!
//! Against a server without a model (`server_page/mock.mjs`), whose pace and faults each test chooses, and
//! against the real one.
//! What is needed beside Node and Chromium is fetched by `make clients-fetch`; what is not there is said
//! in a line, and the test is skipped. By hand, in `tests/server_page`:
//!
//! ```text
//! PAGE_PACKAGES=<target>/clients/page node --test            # all; --test-name-pattern=... for some
//! node mock.mjs 8080                                         # the page, to look at
//! ```
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;
mod common;
mod server_support;

use std::path::PathBuf;
use std::process::Command;

use c_programs::{has, keep, model, repository, scratch, succeed, target};
use common::tiny_sparse;
use server_support::{Server, program};

/// A Chromium, under one of its names.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let known = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = named.into_iter().chain(known).find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: no chromium");
    }
    found
}

/// Node on a test file; `None`: something that it needs is not there.
fn node(file: &str) -> Option<Command> {
    let packages = target().join("clients/page");
    if !packages.join("node_modules/playwright-core").exists() {
        eprintln!("skipped: playwright-core is not there (`make clients-fetch` fetches it)");
        return None;
    }
    let chromium = chromium().filter(|_| has("node"))?;
    let mut node = Command::new("node");
    node.current_dir(repository().join("tests/server_page"));
    node.env("PAGE_PACKAGES", packages).env("CHROMIUM", chromium);
    node.args(["--test", "--test-reporter=tap", file]);
    Some(node)
}

/// So many tests ran and passed; the others were skipped.
#[track_caller]
fn passes(node: &mut Command, tests: usize) {
    let said = succeed(node);
    assert!(said.contains(&format!("# pass {tests}\n")), "{said}");
}

#[test]
fn conversations() {
    let Some(mut node) = node("chat.test.mjs") else { return };
    passes(&mut node, 14);
}

#[test]
fn faults_of_servers_models_and_storage() {
    let Some(mut node) = node("faults.test.mjs") else { return };
    passes(&mut node, 12);
}

#[test]
fn markdown_themes_phones_and_accessibility() {
    let Some(mut node) = node("look.test.mjs") else { return };
    passes(&mut node, 12);
}

#[test]
fn on_the_real_server() {
    let Some(mut node) = node("real.test.mjs") else { return };
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let server = Server::start(&program, &model, &["-np", "2", "-c", "4096"]);
    passes(node.env("POWERINFER_SERVER", &server.url), 4);
    server.end();
}

#[test]
fn on_the_real_server_with_a_sparse_model() {
    let Some(mut node) = node("real.test.mjs") else { return };
    let Some(program) = program() else { return };
    let model = scratch("page").join("sparse.gguf");
    keep(&model, &tiny_sparse::bytes(&tiny_sparse::spec("llama")));
    let server = Server::start(&program, &model, &["-np", "1"]);
    passes(node.env("POWERINFER_SPARSE", &server.url), 1);
    server.end();
}
