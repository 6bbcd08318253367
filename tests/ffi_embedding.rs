//! Embeddings through the C interface, by a C program.

mod c_programs;
mod common;

use std::path::{Path, PathBuf};

use c_programs::{Build, compile, run};
use common::tiny_archs::{self, EMBEDDERS};
use common::{params, tiny};
use powerinfer::engine::{Batch, Input};
use powerinfer::model::Pooling;

const TEXTS: [&str; 3] = ["the ring and the king", "or else", "a"];

fn program() -> PathBuf {
    compile("tests/c_programs/embedding.c", Build::Sanitized)
}

fn model_file(name: &str, test: &str) -> PathBuf {
    let spec = EMBEDDERS.iter().find(|s| s.name == name).unwrap();
    let path = c_programs::scratch("embedding").join(format!("{name}-{test}.gguf"));
    std::fs::write(&path, tiny_archs::bytes(spec)).unwrap();
    path
}

/// What the program printed: the lines, as numbers.
fn embeddings(model: &Path, pooling: Pooling, call: &str) -> Vec<Vec<f32>> {
    let pooling = (pooling as i32).to_string();
    let arguments = [&[model.to_str().unwrap(), &pooling, call][..], &TEXTS].concat();
    let run = run(&program(), &arguments);
    let rows = run.text().lines().filter(|line| !line.starts_with("red "));
    rows.map(|line| line.split(' ').map(|x| x.parse().unwrap()).collect()).collect()
}

/// The same by the engine itself, one text after the other.
fn by_the_engine(name: &str, pooling: Pooling) -> Vec<Vec<f32>> {
    let spec = EMBEDDERS.iter().find(|s| s.name == name).unwrap();
    let model = tiny::load(&tiny_archs::bytes(spec), &Default::default()).unwrap();
    let mut ctx =
        model.context(params(|p| (p.embeddings, p.pooling) = (true, Some(pooling)))).unwrap();
    let mut all = Vec::new();
    for text in TEXTS {
        let tokens = model.vocab().tokenize(text.as_bytes(), true, true).unwrap();
        let input = Input::Tokens(&tokens);
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
        match pooling {
            Pooling::None => {
                all.extend(ctx.outputs().embeddings().chunks(64).map(<[f32]>::to_vec));
            }
            _ => all.push(ctx.outputs().embeddings_seq(0).unwrap().to_vec()),
        }
    }
    all
}

#[test]
fn a_c_program_embeds_texts() {
    for name in ["bert", "nomic-bert"] {
        let model = model_file(name, "embeds");
        for pooling in [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let expected = by_the_engine(name, pooling);
            assert_eq!(embeddings(&model, pooling, "encode"), expected, "{name} {pooling:?}");
            assert_eq!(embeddings(&model, pooling, "decode"), expected, "{name} {pooling:?}");
        }
        std::fs::remove_file(model).unwrap();
    }
}

#[test]
fn a_c_program_ranks_texts() {
    let model = model_file("bert", "ranks");
    let scores = embeddings(&model, Pooling::Rank, "encode");
    assert_eq!(scores, by_the_engine("bert", Pooling::Rank));
    assert_eq!(scores[0].len(), 3);
    let arguments = [model.to_str().unwrap(), "4", "encode", "a"];
    assert!(run(&program(), &arguments).text().starts_with("red green blue\n"));
    std::fs::remove_file(model).unwrap();

    let plain = model_file("nomic-bert", "ranks");
    let arguments = [plain.to_str().unwrap(), "4", "encode", "a"];
    let refused = run(&program(), &arguments);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no classifier"), "{refused:?}");
    std::fs::remove_file(plain).unwrap();
}
