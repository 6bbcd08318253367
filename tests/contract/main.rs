//! What llama.h does beyond its prototypes, line by line, held to what llama.cpp answers.
//!
//! The `.c` files beside this one hold the lines: a sentence and a few calls each, see `contract.h`.
//! `reference.txt` is what the programs printed with llama.cpp's library. Where ours answers
//! something else on purpose, `ours.txt` has the answer and the reason; nothing else may differ.
//!
//! `make contract REFERENCE=folder` records the answers of the libllama in that folder again: lines
//! may only be added or changed with it.
//!
//! Not asked: what recurrent and multi-modal memories do (no such model runs here), and values that
//! depend on rounding, which `tests/tiny_models.rs` and `tests/sampler_draws.rs` are about.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tells the counts")]

#[path = "../c_programs/mod.rs"]
mod c_programs;
#[path = "../common/mod.rs"]
mod common;
mod models;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use c_programs::{Build, compile, repository, run, scratch};

const PROGRAMS: [&str; 7] = ["batch", "outputs", "memory", "state", "text", "samplers", "system"];

fn folder() -> PathBuf {
    repository().join("tests/contract")
}

/// `name: answer` of every line, by program.
fn answers(program: &str, build: Build) -> Vec<(String, String)> {
    let models = models::folder();
    let scratch = scratch("contract-files");
    let program = compile(&format!("tests/contract/{program}.c"), build);
    let done = run(&program, &[&models, &scratch]);
    let lines = done.text().lines().map(|line| {
        let (name, answer) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
        assert!(!answer.contains("BROKEN"), "{line}");
        (name.to_owned(), answer.trim().to_owned())
    });
    lines.collect()
}

/// The lines of a list, `name: answer`; `#` begins a comment.
fn list(name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parsed = lines.map(|line| {
        let (name, answer) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
        (name.to_owned(), answer.trim().to_owned())
    });
    parsed.collect()
}

#[test]
fn every_line_is_answered_as_llama_cpp_does() {
    let reference = std::env::var_os("UPDATE_CONTRACT").is_some();
    assert!(
        !reference || std::env::var_os("POWERINFER_TEST_LIBRARY").is_some(),
        "only another library's answers are recorded"
    );
    let seen: Vec<_> = PROGRAMS.map(|p| (p, answers(p, Build::Plain))).into_iter().collect();
    if reference {
        let mut text = String::from("# Recorded by `make contract`, see main.rs.\n");
        for (program, lines) in &seen {
            writeln!(text, "\n# {program}").unwrap();
            lines.iter().for_each(|(name, answer)| writeln!(text, "{name}: {answer}").unwrap());
        }
        fs::write(folder().join("reference.txt"), text).unwrap();
        return;
    }
    let (mut theirs, mut ours) = (list("reference.txt"), list("ours.txt"));
    let (mut n_equal, mut wrong) = (0, String::new());
    let seen: Vec<_> = seen.into_iter().flat_map(|(_, lines)| lines).collect();
    for (name, answer) in &seen {
        let reference = theirs.remove(name);
        let own = ours.remove(name);
        assert!(own.is_none() || own != reference, "{name} in ours.txt is llama.cpp's answer");
        let expected = own.or(reference.clone());
        n_equal += usize::from(reference.as_ref() == Some(answer));
        if expected.as_ref() != Some(answer) {
            let expected = expected.unwrap_or_else(|| "nothing on record".into());
            writeln!(wrong, "{name}\n    expected: {expected}\n    answered: {answer}").unwrap();
        }
    }
    let counts = format!("{} lines, {n_equal} of them answered as llama.cpp does", seen.len());
    println!("contract: {counts}");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(theirs.is_empty() && ours.is_empty(), "nobody asks these: {theirs:?} {ours:?}");
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains(&counts), "the README tells other numbers than: {counts}");
}
