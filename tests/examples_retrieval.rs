//! The example program `retrieval`: what it cuts out of files, and what is nearest.

mod c_programs;
mod common;

use std::fs;

use c_programs::{example, model, run, run_with_input, sanitized, scratch};
use common::tiny_archs;
use serde_json::Value;

/// A file of this test's own.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = scratch("retrieval").join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn bert(test: &str) -> String {
    file(&format!("{test}.gguf"), &tiny_archs::bytes(&tiny_archs::spec("bert")))
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Chunks by where they begin.
fn chunks(answer: &Value) -> Vec<(String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let results = answer["results"].as_array().unwrap().iter();
    let mut chunks: Vec<_> = results
        .map(|r| (text(&r["filename"]), r["filepos"].as_u64().unwrap(), text(&r["textdata"])))
        .collect();
    chunks.sort();
    chunks
}

fn similarities(answer: &Value) -> Vec<f64> {
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|r| r["similarity"].as_f64().unwrap()).collect()
}

/// A vector by the program `embedding`.
fn vector(model: &str, pooling: &str, text: &str) -> Vec<f64> {
    let flags = ["-m", model, "-p", text, "--pooling", pooling, "--no-escape"];
    let more = ["--embd-separator", "\u{1}", "--embd-output-format", "array"];
    let found = run(&example("embedding"), &[&flags[..], &more].concat());
    serde_json::from_str::<Vec<Vec<f64>>>(found.text()).unwrap().remove(0)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn files_are_cut_at_separators() {
    let model = bert("cut");
    let a = file("a.txt", b"the sea.is.a.ring and.here.on an iron hat");
    let b = file("b.txt", b"hat");
    let program = sanitized("retrieval");
    let find = |size: &str, files: &[&str]| {
        let base = ["-m", &model, "-p", "the sea", "--json", "--chunk-separator", "."];
        let found = run(&program, &[&base[..], &["--chunk-size", size], files].concat());
        chunks(&json_lines(found.text())[0])
    };
    let own = |from: usize, text: &str| (a.clone(), from as u64, text.to_owned());
    let other = (b.clone(), 0, "hat".to_owned());
    let list = format!("{a},{b}");
    assert_eq!(
        find("1", &["--context-file", &list]),
        [
            own(0, "the sea."),
            own(8, "is."),
            own(11, "a."),
            own(13, "ring and."),
            own(22, "here.on an iron hat"),
            other.clone()
        ]
    );
    // Longer than the size, not as long; what is left joins the last one; and the files one by one.
    assert_eq!(
        find("8", &["--context-file", &a, "--context-file", &b]),
        [own(0, "the sea.is."), own(11, "a.ring and.here.on an iron hat"), other.clone()]
    );
    assert_eq!(
        find("1000", &["--context-file", &list]),
        [own(0, "the sea.is.a.ring and.here.on an iron hat"), other]
    );
}

#[test]
fn the_nearest_come_first_with_the_vectors_of_embedding() {
    let model = bert("nearest");
    let lines = ["the sea is here", "an iron hat", "a ring and a ring", "the hat on the sea"];
    let text = file("nearest.txt", (lines.join("\n") + "\n").as_bytes());
    let base = ["-m", &model, "--context-file", &text, "--chunk-size", "1", "--pooling", "mean"];
    let program = sanitized("retrieval");
    let ask =
        |more: &[&str], input: &str| run_with_input(&program, &[&base[..], more].concat(), input);
    // A batch of 24 tokens takes the lines in pieces.
    for batch in ["2048", "24"] {
        let found = ask(&["--json", "-b", batch], "the sea\n\nan iron ring\r\n");
        let answers = json_lines(found.text());
        assert_eq!(answers.len(), 2);
        for (answer, query) in answers.iter().zip(["the sea", "an iron ring"]) {
            assert_eq!(answer["query"], query);
            let asked = vector(&model, "mean", query);
            let found = similarities(answer);
            assert_eq!(found.len(), 4);
            assert!(found.is_sorted_by(|a, b| a >= b), "{answer}");
            for (result, found) in answer["results"].as_array().unwrap().iter().zip(found) {
                let text = result["textdata"].as_str().unwrap();
                let expected = cosine(&asked, &vector(&model, "mean", text));
                assert!((found - expected).abs() < 1e-5, "{text:?}: {found} {expected}");
            }
        }
    }
    let one = ask(&["-p", "an iron hat", "--top-k", "1"], "");
    let (at, alike) = (lines[0].len() + 1, one.text().lines().nth(3).unwrap());
    let expected =
        cosine(&vector(&model, "mean", "an iron hat"), &vector(&model, "mean", "an iron hat\n"));
    let found: f64 = alike.strip_prefix("similarity: ").unwrap().parse().unwrap();
    assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    let shown = format!(
        "Top 1 similar chunks:\nfilename: {text}\nfilepos: {at}\n{alike}\n\
         textdata:\nan iron hat\n\n--------------------\n"
    );
    assert_eq!(one.text(), shown);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let model = bert("refused");
    let text = file("refused.txt", b"the sea is a ring and here on an iron hat");
    let empty = file("empty.txt", b"");
    for (arguments, reason) in [
        (&["-m", "x"][..], "--context-file"),
        (&["-m", "x", "--context-file", "absent.txt"], "absent.txt"),
        (&["-m", "x", "--context-file", &empty], "no text in the files"),
        (&["-m", "absent.gguf", "--context-file", &text], "absent.gguf"),
        (&["-m", &model, "--context-file", &text, "--pooling", "max"], "model, none, mean"),
        (&["-m", &model, "--context-file", &text, "--pooling", "none"], "no vector of a text"),
        (&["-m", &model, "--context-file", &text, "--chunk-separator", ""], "separator is empty"),
        (&["-m", &model, "--context-file", &text, "-b", "4"], "a batch 4"),
        (&["-m", &model, "--context-file", &text, "--top-k", "0"], "--top-k needs"),
    ] {
        let refused = run(&example("retrieval"), arguments);
        assert!(refused.refusal().contains(reason), "{refused:?}");
    }
    // A question that is too long: the next one is answered all the same.
    let short = file("short.txt", b"a ring");
    let base = ["-m", &model, "--context-file", &short, "-b", "6", "--json"];
    let long = "the sea and the sea and the sea and the sea";
    let found = run_with_input(&sanitized("retrieval"), &base, &format!("{long}\na ring\n"));
    assert_eq!(json_lines(found.text()).len(), 1);
    assert!(found.stderr.contains("tokens, a batch from 1 to"), "{found:?}");
    let alone = run(&example("retrieval"), &[&base[..], &["-p", long]].concat());
    assert!(alone.refusal().contains("tokens, a batch from 1 to"), "{alone:?}");
    assert!(run(&example("retrieval"), &["-h"]).text().contains("--context-file FILE,..."));
}

/// llama.cpp (commit 0c1e57098, through llama-cpp-python 0.3.36): cosines of the means of token
/// embeddings. Both round activations to 8 bits, each in its way.
const SIMILARITIES: [f64; 3] = [0.976911, 0.687325, 0.674353];

#[test]
fn similarities_are_those_of_llama_cpp() {
    let Some(model) = model() else { return };
    let passages = [
        "Whales are the largest animals that live in the sea.",
        "The violin has four strings and is played with a bow.",
        "Bread is baked from flour, water, salt and yeast.",
    ];
    let text = file("passages.txt", (passages.join("\n") + "\n").as_bytes());
    let flags = ["-m", model.to_str().unwrap(), "--context-file", &text, "--pooling", "mean"];
    let more =
        ["--chunk-size", "10", "--json", "-p", "A violin is played with a bow and has strings."];
    let found = run(&example("retrieval"), &[&flags[..], &more].concat());
    let answer = &json_lines(found.text())[0];
    assert_eq!(answer["results"][0]["textdata"], format!("{}\n", passages[1]));
    for (found, expected) in similarities(answer).iter().zip(SIMILARITIES) {
        assert!((found - expected).abs() < 0.015, "{answer}");
    }
}
