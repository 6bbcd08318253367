//! The server of `examples-c/server`: what it answers, to whom, under load, and to nonsense.
//!
//! The scripts in `tests/server` ask it; the server is built with AddressSanitizer and
//! UndefinedBehaviorSanitizer.
#![allow(clippy::print_stderr, reason = "says what is skipped")]

mod c_programs;
mod common;
mod server_support;

use std::path::Path;
use std::process::Command;

use c_programs::{example, has, keep, model, run, scratch, succeed};
use common::tiny_archs::{self, EMBEDDERS};
use server_support::{Server, program};

#[test]
fn every_endpoint_answers_as_it_should() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
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

#[test]
fn eight_busy_slots_write_what_main_writes() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let server = Server::start(&program, &model, &["-np", "8", "-c", "2048"]);
    let main = example("main");
    let arguments = [main.to_str().unwrap(), model.to_str().unwrap()];
    server.script(Path::new("python3"), "busy.py", &arguments);
    server.end();
}

#[test]
fn an_encoder_makes_vectors_only() {
    let Some(program) = program() else { return };
    let model = scratch("server-encoder").join("bert.gguf");
    let bert = EMBEDDERS.iter().find(|spec| spec.name == "bert").unwrap();
    keep(&model, &tiny_archs::bytes(bert));
    let server = Server::start(&program, &model, &["-np", "2", "-c", "256"]);
    server.script(Path::new("python3"), "encoder.py", &[]);
    server.end();
}

/// Seconds of load and malformed requests: more with `make test-long`.
fn effort(short: &'static str, long: &'static str) -> &'static str {
    if std::env::var_os("POWERINFER_TEST_LONG").is_some() { long } else { short }
}

#[test]
fn keys_queues_and_time_limits_hold() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let (key, origin) = ("a secret word", "https://app.example");
    let options = ["-np", "1", "-c", "256", "--max-queue", "2", "--request-timeout", "4"];
    let more = ["--context-shift", "--api-key", "another", "--api-key", key, "--cors", origin];
    let server = Server::start(&program, &model, &[&options[..], &more].concat());
    server.script(Path::new("python3"), "limits.py", &[key, origin]);
    server.end();
}

#[test]
fn https_is_served_with_a_certificate() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    if !(has("openssl") && has("curl")) {
        return;
    }
    let folder = scratch("server-https");
    let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| folder.join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]);
    succeed(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let [key, certificate] = [&key, &certificate].map(|path| path.to_str().unwrap());
    let options = ["-np", "1", "-c", "512", "--ssl-key-file", key, "--ssl-cert-file", certificate];
    let server = Server::start(&program, &model, &options);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let url = format!("{}/v1/completions", server.url.replace("127.0.0.1", "localhost"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-4", "--cacert", certificate, &url, "-d"]);
    let answer = succeed(curl.arg(r#"{"prompt": "One two", "max_tokens": 4, "temperature": 0}"#));
    assert!(answer.contains("text_completion"), "{answer}");
    server.end();
}

#[test]
fn sigterm_lets_answers_be_finished() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let mut server = Server::start(&program, &model, &["-np", "2", "-c", "1024"]);
    let id = server.id().to_string();
    server.script(Path::new("python3"), "drain.py", &[&id]);
    server.ended_well();
}

#[test]
fn a_crowd_of_clients_gets_what_one_alone_gets() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let server = Server::start(&program, &model, &["-np", "4", "-c", "4096"]);
    let id = server.id().to_string();
    server.script(Path::new("python3"), "load.py", &[&id, effort("30", "600"), "64"]);
    server.end();
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let folder = scratch("server-nonsense");
    let options = ["-np", "4", "-c", "4096", "-n", "4", "--max-body", "1", "--slot-save-path"];
    let options = [&options[..], &[folder.to_str().unwrap()]].concat();
    let server = Server::start(&program, &model, &options);
    server.script(Path::new("python3"), "malformed.py", &[effort("500", "10000")]);
    server.end();
}

#[test]
fn what_is_wrong_at_the_start_is_said_in_one_line() {
    let (Some(program), Some(model)) = (program(), model()) else { return };
    let model = model.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: [(&[&str], &str); 7] = [
        (&[], "-m"),
        (&["-m", model, "--pooling", "best"], "best"),
        (&["-m", model, "--port", &port], "cannot listen"),
        (&["-m", model, "--ssl-cert-file", "x"], "--ssl-key-file"),
        (&["-m", model, "--chat-template-file", "no/such/file"], "no/such/file"),
        (&["-m", model, "--slot-save-path", "no/such/folder"], "no/such/folder"),
        (&["-m", model, "--api-key-file", "/dev/null"], "no key"),
    ];
    for (arguments, word) in cases {
        let run = run(&program, arguments);
        assert!(run.refusal().contains(word), "{run:?}");
    }
    // The address is known before the model is.
    let run = run(&program, &["-m", "no/such/model.gguf", "--port", "0"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.lines().last().unwrap().contains("no/such/model.gguf"), "{run:?}");
}
