//! Programs that nobody here wrote as clients of `examples-c/server`: the official `openai` packages for
//! Python and Node, Hugging Face's client, curl with the lines of the README. And how the calls of
//! functions are read, on which they build.
//!
//! The scripts are in `tests/server`; `make clients-fetch` fetches what they need into `target/clients`,
//! and what is not there is skipped with a line. The server is built with AddressSanitizer and
//! UndefinedBehaviorSanitizer.
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;
mod server_support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use c_programs::{has, model, repository, succeed, target};
use server_support::{Server, program};

/// A server with these arguments; `None`: it cannot be built here, or there is no model.
fn server(arguments: &[&str]) -> Option<Server> {
    let (Some(program), Some(model)) = (program(), model()) else { return None };
    Some(Server::start(&program, &model, arguments))
}

/// One whose chat template has tools in this format of calls; that of the model has none.
fn server_with_tools(format: &str) -> Option<Server> {
    let template = repository().join(format!("tests/server/templates/{format}.jinja"));
    let template = template.to_str().unwrap();
    server(&["-np", "4", "-c", "4096", "--chat-template-file", template])
}

/// What `make clients-fetch` puts there, if this file is in it.
fn fetched(folder: &str, file: &str) -> Option<PathBuf> {
    let folder = target().join("clients").join(folder);
    let there = folder.join(file).exists();
    if !there {
        eprintln!("skipped: {file} is not there (`make clients-fetch` fetches it)");
    }
    there.then_some(folder)
}

/// Python with the packages `openai` and `huggingface_hub`.
fn python() -> Option<PathBuf> {
    Some(fetched("openai", "is")?.join("bin/python"))
}

/// A folder from which Node finds the package `openai`.
fn node() -> Option<PathBuf> {
    fetched("openai-node", "node_modules/openai/package.json").filter(|_| has("node"))
}

/// Reading and demanding calls in a format, also by OpenAI's package.
fn calls_work(format: &str) {
    let Some(server) = server_with_tools(format) else { return };
    server.script("python3".as_ref(), "tool_calls.py", &[format]);
    if let Some(python) = python() {
        server.script(&python, "openai_tools.py", &[format]);
    }
    server.end();
}

#[test]
fn calls_in_the_format_of_hermes_work() {
    calls_work("hermes");
}

#[test]
fn calls_in_the_format_of_llama_3_work() {
    calls_work("llama3");
}

#[test]
fn calls_in_the_format_of_mistral_work() {
    calls_work("mistral");
}

#[test]
fn openais_python_package_is_served() {
    let Some(python) = python() else { return };
    let Some(server) = server(&["-np", "4", "-c", "4096"]) else { return };
    server.script(&python, "openai_client.py", &[]);
    server.end();
}

#[test]
fn openais_python_package_is_refused_as_it_expects() {
    let Some(python) = python() else { return };
    let options = ["-np", "1", "-c", "1024", "--max-queue", "1", "--api-key", "secret"];
    let Some(server) = server(&options) else { return };
    server.script(&python, "openai_refusals.py", &["secret"]);
    server.end();
}

#[test]
fn openais_node_package_is_served() {
    let Some(folder) = node() else { return };
    let Some(server) = server_with_tools("hermes") else { return };
    // Packages are looked for beside the script.
    let script = folder.join("openai_client.mjs");
    fs::copy(repository().join("tests/server/node/openai_client.mjs"), &script).unwrap();
    let said = succeed(Command::new("node").arg(script).arg(&server.url));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 9, "{said}");
    server.end();
}

#[test]
fn hugging_faces_client_is_served() {
    let Some(python) = python() else { return };
    let Some(server) = server_with_tools("hermes") else { return };
    server.script(&python, "hub_client.py", &[]);
    server.end();
}

#[test]
fn two_servers_do_not_share_a_port() {
    let Some(server) = server(&["-np", "1", "-c", "256"]) else { return };
    let (program, model) = (program().unwrap(), model().unwrap());
    let port = server.url.rsplit(':').next().unwrap();
    let second = c_programs::run(&program, &["-m", model.to_str().unwrap(), "--port", port]);
    assert!(second.refusal().contains("cannot listen"), "{second:?}");
    server.end();
}

// ---- the README ----

/// The code blocks of its section "Serve", each with its language.
fn readme_blocks() -> Vec<(String, String)> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let section = readme.split_once("\n## Serve\n").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let parts = section.split("```").skip(1).step_by(2);
    parts.map(|part| part.split_once('\n').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

/// The block in this language that has these words.
fn readme_block(language: &str, words: &str, server: &Server) -> String {
    let block =
        readme_blocks().into_iter().find(|(of, text)| of == language && text.contains(words));
    block.unwrap().1.replace("http://127.0.0.1:8080", &server.url)
}

#[test]
fn the_readmes_lines_for_curl_work() {
    if !has("curl") {
        eprintln!("skipped: no curl");
        return;
    }
    let Some(server) = server(&["-np", "2", "-c", "2048"]) else { return };
    let block = readme_block("", "curl ", &server);
    let mut answers = Vec::new();
    for line in block.split("\ncurl ") {
        let line = line.trim_start_matches("curl ");
        let command = format!("curl --silent --show-error --fail-with-body {line}");
        answers.push(succeed(Command::new("sh").args(["-c", &command])));
    }
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let [models, chat, stream, schema, embedding, infinite @ ..] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(infinite.is_empty(), "a line that is not checked: {infinite:?}");
    assert!(json(models)["data"][0]["id"].is_string(), "{models}");
    let answer = &json(chat)["choices"][0]["message"];
    assert!(!answer["content"].as_str().unwrap().is_empty(), "{chat}");
    let events: Vec<&str> = stream.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"), "{stream}");
    for event in &events[..events.len() - 1] {
        let event = json(event.strip_prefix("data: ").unwrap());
        assert!(event["choices"][0]["text"].is_string(), "{event}");
    }
    let answer = json(schema)["choices"][0]["message"]["content"].clone();
    assert!(json(answer.as_str().unwrap())["city"].is_string(), "{schema}");
    assert_eq!(json(embedding)["data"].as_array().unwrap().len(), 2, "{embedding}");
    server.end();
}

#[test]
fn the_readmes_python_works() {
    let Some(python) = python() else { return };
    let Some(server) = server(&["-np", "2", "-c", "2048"]) else { return };
    let block = readme_block("python", "openai", &server);
    assert!(succeed(Command::new(python).args(["-c", &block])).len() > 20);
    server.end();
}

#[test]
fn the_readmes_node_works() {
    let Some(folder) = node() else { return };
    let Some(server) = server(&["-np", "2", "-c", "2048"]) else { return };
    let block = readme_block("js", "openai", &server);
    let mut node = Command::new("node");
    node.current_dir(folder).args(["--input-type=module", "--eval", &block]);
    assert!(succeed(&mut node).len() > 20);
    server.end();
}
