//! Real files: all of the shared test data opens, and says what independent readers said.
#![allow(clippy::print_stdout, reason = "says what is skipped")]

use std::path::PathBuf;

use powerinfer::gguf::{LoadMode, LoadOptions, Magic, ModelFiles};
use powerinfer::quant::QuantType;

/// The shared test data, where this machine has it.
fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("POWERINFER_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
        .join("data");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no test data in {}", dir.display());
    None
}

#[test]
fn every_shared_file_loads() {
    let Some(data) = shared() else { return };
    let mut n = 0;
    for dir in ["vocabs", "archs", "models"] {
        for entry in std::fs::read_dir(data.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            // What a run measured of a model may lie beside it: that is no model.
            let measured = path.to_string_lossy().ends_with(".sparse.gguf");
            if measured || path.extension().is_none_or(|e| e != "gguf") {
                continue;
            }
            let options = LoadOptions { check_tensors: true, ..LoadOptions::default() };
            let mut files = ModelFiles::open(&path, &options).unwrap();
            let pwri = path.to_string_lossy().contains(".pwi.");
            assert_eq!(files.meta().magic() == Magic::Pwri, pwri, "{}", path.display());
            assert!(files.meta().get_str("general.architecture").unwrap().is_some());
            assert_eq!(files.tensors().is_empty(), dir == "vocabs", "{}", path.display());
            files.load_tensors(&mut |_| true).unwrap();
            for t in files.tensors() {
                assert_eq!(files.data(t).unwrap().len() as u64, t.n_bytes);
            }
            n += 1;
        }
    }
    assert!(n > 25, "only {n} files found");
}

#[test]
fn the_gpt2_vocabulary_is_as_published() {
    let Some(data) = shared() else { return };
    let options = LoadOptions { vocab_only: true, ..LoadOptions::default() };
    let files = ModelFiles::open(data.join("vocabs/ggml-vocab-gpt-2.gguf"), &options).unwrap();
    let meta = files.meta();
    assert_eq!(meta.require_str("tokenizer.ggml.pre").unwrap(), "gpt-2");
    let tokens = meta.require_strs("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 50257);
    assert_eq!(tokens.get(0), Some(&b"!"[..]));
    assert_eq!(tokens.get(50256), Some(&b"<|endoftext|>"[..]));
    assert_eq!(meta.require_strs("tokenizer.ggml.merges").unwrap().len(), 50000);
    assert_eq!(meta.require_u32("tokenizer.ggml.eos_token_id").unwrap(), 50256);
    assert_eq!(meta.require_i32s("tokenizer.ggml.token_type").unwrap().len(), 50257);
}

#[test]
fn every_load_mode_gives_the_same_bytes() {
    let Some(data) = shared() else { return };
    let path = data.join("archs/llama-dense.gguf");
    let load = |mode| {
        let options = LoadOptions { mode, ..LoadOptions::default() };
        let mut files = ModelFiles::open(&path, &options).unwrap();
        files.load_tensors(&mut |_| true).unwrap();
        let bytes: Vec<_> = files.tensors().iter().map(|t| files.data(t).unwrap()).collect();
        (files.tensors().to_vec(), bytes)
    };
    let (tensors, mapped) = load(LoadMode::Mmap);
    assert!(tensors.iter().any(|t| t.ty == QuantType::F16));
    for mode in
        [LoadMode::Auto, LoadMode::None, LoadMode::Mlock, LoadMode::MmapMlock, LoadMode::DirectIo]
    {
        let (same, read) = load(mode);
        assert_eq!(tensors, same);
        for ((a, b), t) in mapped.iter().zip(&read).zip(&tensors) {
            assert!(a[..] == b[..], "{mode:?}: {}", t.name);
        }
    }
}
