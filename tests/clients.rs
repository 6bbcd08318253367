//! Programs that nobody here wrote, and bindings for users to copy, on the library under test:
//! llama-cpp-python (its Python part, its own tests, its server), the Node and the Go example.
//!
//! `make clients` fetches what they need into `target/clients` and runs these tests; what is not there
//! is skipped with a line. The tests of Python are in `clients/python`, those of Node and Go beside the
//! examples. Against llama.cpp's own library, for the answers that are kept:
//!
//! ```text
//! RECORD_GOLDENS=1 POWERINFER_TEST_LIBRARY=<its libllama.so> cargo test --test clients python_
//! ```
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;
mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use c_programs::{example, has, keep, library_folder, model, repository, scratch, succeed, target};
use common::tiny_lora::Shape;
use common::{tiny_archs, tiny_lora};
use powerinfer::quant::QuantType::F32;

/// Where `make clients` puts what it fetches.
fn fetched() -> PathBuf {
    target().join("clients")
}

// ---- Python ----

/// Python with llama-cpp-python on the library under test, and the files that its tests use.
fn python() -> Option<Command> {
    let python = fetched().join("python/bin/python");
    if !python.exists() {
        eprintln!("skipped: llama-cpp-python is not there (`make clients` fetches it)");
        return None;
    }
    let model = model()?;
    let files = scratch("clients-files");
    // Its effect is as large as what it acts on.
    let shape = Shape { rank: 4, alpha: Some(4.0), ty: F32, gain: 0.3, seed: 5 };
    keep(&files.join("adapter.gguf"), &tiny_lora::bytes(&fs::read(&model).unwrap(), shape));
    let bert = tiny_archs::EMBEDDERS.iter().find(|spec| spec.name == "nomic-bert").unwrap();
    keep(&files.join("bert.gguf"), &tiny_archs::twin_bytes(bert));

    let mut command = Command::new(python);
    command
        .env("LLAMA_CPP_LIB_PATH", library_folder())
        .env("CLIENT_MODEL", model)
        .env("CLIENT_FILES", files)
        .env("PYTHONPATH", repository().join("tests/clients/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    Some(command)
}

/// Passes the test files of this repository.
#[track_caller]
fn python_passes(files: &[&str]) {
    let Some(mut python) = python() else { return };
    let folder = repository().join("tests/clients/python");
    succeed(python.current_dir(&folder).args(files));
}

#[test]
fn python_binds_the_library_and_writes_text() {
    python_passes(&["test_import.py", "test_text.py"]);
}

#[test]
fn python_chooses_tokens() {
    python_passes(&["test_sampling.py"]);
}

#[test]
fn python_chats_by_grammars_and_schemas() {
    python_passes(&["test_chat.py"]);
}

#[test]
fn python_embeds_saves_and_adapts() {
    python_passes(&["test_model.py"]);
}

#[test]
fn pythons_server_answers() {
    python_passes(&["test_server.py"]);
}

#[test]
fn llama_cpp_pythons_own_tests_succeed() {
    let sources = fetched().join("llama-cpp-python");
    if !sources.join("tests/test_llama.py").exists() {
        eprintln!("skipped: the tests of llama-cpp-python are not there (`make clients`)");
        return;
    }
    let Some(mut python) = python() else { return };
    let said = succeed(python.current_dir(&sources).args(["-p", "on_our_models", "tests"]));
    // 16 cases, and 10 with recurrent or hybrid models.
    assert!(said.contains("16 passed, 10 skipped"), "{said}");
}

// ---- Node ----

#[test]
fn the_node_example_passes_its_tests() {
    let folder = fetched().join("node");
    if !folder.join("node_modules/koffi").exists() {
        eprintln!("skipped: koffi is not there (`make clients` fetches it)");
        return;
    }
    let Some(model) = model().filter(|_| has("node")) else { return };
    let sources = repository().join("examples-c/node");
    let names = ["powerinfer.js", "complete.js", "powerinfer.test.js"];
    for name in names {
        fs::copy(sources.join(name), folder.join(name)).unwrap();
    }
    let node = || {
        let mut node = Command::new("node");
        node.current_dir(&folder)
            .env("POWERINFER_LIBRARY", library_folder().join("libpowerinfer.so"));
        node
    };
    let said = succeed(
        node()
            .env("POWERINFER_TEST_MODEL", &model)
            .env("POWERINFER_SIMPLE", example("simple"))
            .env("POWERINFER_LAYOUT", repository().join("tests/abi/layout.json"))
            .args(["--test", "--test-reporter=tap", "powerinfer.test.js"]),
    );
    assert!(said.contains("# pass 11\n") && said.contains("# skipped 0\n"), "{said}");

    let prompt = "The three primary colours are";
    let options = ["--temperature", "0", "--max-tokens", "12"];
    let text = succeed(node().arg("complete.js").arg(&model).arg(prompt).args(options));
    assert!(text.starts_with(prompt) && text.len() > prompt.len() + 20, "{text}");
    let refused = node().args(["complete.js", "absent.gguf", "a"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("complete.js: cannot load absent.gguf: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

// ---- Go ----

#[test]
fn the_go_example_passes_its_tests() {
    let Some(model) = model().filter(|_| has("go")) else { return };
    let libraries = library_folder();
    let shown = libraries.display();
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(repository().join("examples-c/go"))
            .env("GOFLAGS", "")
            .env("GOPATH", fetched().join("go"))
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOCACHE", fetched().join("go-cache"))
            .env("CGO_ENABLED", "1")
            .env("POWERINFER_TEST_MODEL", &model);
        go
    };
    // As pkg-config gives it, where there is one; by flags otherwise.
    let package = scratch("clients-package");
    let text = format!(
        "Name: powerinfer\nDescription: the library under test\nVersion: 0\nCflags: -I{}\n\
         Libs: -L{shown} -lpowerinfer\n",
        repository().join("include").display()
    );
    fs::write(package.join("powerinfer.pc"), text).unwrap();
    let by_package = has("pkg-config");
    let configured = |mut go: Command| {
        if by_package {
            go.env("PKG_CONFIG_PATH", &package);
        } else {
            let include = format!("-I{}", repository().join("include").display());
            go.env("CGO_CFLAGS", include).env("CGO_LDFLAGS", format!("-L{shown} -lpowerinfer"));
        }
        go.env("LD_LIBRARY_PATH", &libraries);
        go
    };
    let tags: &[&str] = if by_package { &[] } else { &["-tags", "powerinfer_flags"] };
    succeed(configured(go()).env("POWERINFER_SIMPLE", example("simple")).arg("test").args(tags));

    let programs = scratch("clients-go");
    succeed(configured(go()).arg("build").args(tags).arg("-o").arg(&programs).arg("./cmd/..."));
    let run = |name: &str| {
        let mut program = Command::new(programs.join(name));
        program.env("LD_LIBRARY_PATH", &libraries);
        program
    };
    let prompt = "The three primary colours are";
    let text =
        succeed(run("complete").arg("-m").arg(&model).args(["-temp", "0", "-n", "12", prompt]));
    assert!(text.starts_with(prompt) && text.len() > prompt.len() + 20, "{text}");
    let table = succeed(run("embed").arg("-m").arg(&model).args(["-mean", "a cat", "a kitten"]));
    assert_eq!(table.matches("1.000").count(), 2, "{table}");
    let refused = run("complete").args(["-m", "absent.gguf", "a"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("powerinfer: cannot load absent.gguf: "), "{said}");
}
