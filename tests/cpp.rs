//! A C++ program that uses the library as llama.cpp's own programs do.

mod c_programs;

use c_programs::{compile_cpp, model, run};

#[test]
fn a_program_in_the_style_of_upstream_runs() {
    let program = compile_cpp("tests/c_programs/upstream_style.cpp");
    let Some(model) = model() else { return };
    let run = run(&program, &[model.to_str().unwrap(), "Once upon a time"]);
    assert!(run.text().trim().len() > 10, "{run:?}");
}
