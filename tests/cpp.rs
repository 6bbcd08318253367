//! A C++ program that uses the library as llama.cpp's own programs do.

mod c_programs;
mod common;

use std::fs;

use c_programs::{Build, compile, model, run, scratch};
use common::tiny;

#[test]
fn a_program_in_the_style_of_upstream_runs() {
    let program = compile("tests/c_programs/upstream_style.cpp", Build::Sanitized);
    let Some(model) = model() else { return };
    let run = run(&program, &[model.to_str().unwrap(), "Once upon a time"]);
    assert!(run.text().trim().len() > 10, "{run:?}");
}

#[test]
fn the_functions_that_are_cpp_by_their_signatures() {
    let program = compile("tests/c_programs/extended.cpp", Build::Sanitized);
    let file = scratch("cpp").join("gqa.gguf");
    let spec = tiny::spec("gqa");
    fs::write(&file, tiny::bytes(&spec)).unwrap();
    let n = spec.n_vocab * spec.n_embd;
    assert_eq!(run(&program, &[&file]).text(), format!("CPU: 1 1\n1 0\n{n} {n}\n1\n"));
}
