//! The page of `examples-c/server` in Chromium: `server_page/*.test.mjs`, run by Node.
//!
//! Against a server without a model (`server_page/mock.mjs`), whose pace and faults each test chooses.
//! What is needed beside Node and Chromium is fetched by `make clients-fetch`; what is not there is said
//! in a line, and the test is skipped. By hand, in `tests/server_page`:
//!
//! ```text
//! PAGE_PACKAGES=<target>/clients/page node --test            # all; --test-name-pattern=... for some
//! node mock.mjs 8080                                         # the page, to look at
//! ```
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;

use std::path::PathBuf;
use std::process::Command;

use c_programs::{has, repository, succeed, target};

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

/// Passes all tests of a file.
#[track_caller]
fn page_passes(file: &str, tests: usize) {
    let packages = target().join("clients/page");
    if !packages.join("node_modules/playwright-core").exists() {
        eprintln!("skipped: playwright-core is not there (`make clients-fetch` fetches it)");
        return;
    }
    let Some(chromium) = chromium().filter(|_| has("node")) else { return };
    let said = succeed(
        Command::new("node")
            .current_dir(repository().join("tests/server_page"))
            .env("PAGE_PACKAGES", packages)
            .env("CHROMIUM", chromium)
            .args(["--test", "--test-reporter=tap", file]),
    );
    let passed = format!("# pass {tests}\n");
    assert!(said.contains(&passed) && said.contains("# skipped 0\n"), "{said}");
}

#[test]
fn conversations() {
    page_passes("chat.test.mjs", 14);
}

#[test]
fn faults_of_servers_models_and_storage() {
    page_passes("faults.test.mjs", 12);
}

#[test]
fn markdown_themes_phones_and_accessibility() {
    page_passes("look.test.mjs", 12);
}
