//! What the vocabulary tests share: finding files and reading vocabularies from them.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

use powerinfer::gguf::{self, Metadata, Value, Writer};
use powerinfer::vocab::Vocab;

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the extra test data that does not come with the repository; `None`, with a note,
/// where it is absent.
pub(crate) fn extra(path: &str) -> Option<PathBuf> {
    let base = std::env::var_os("POWERINFER_TEST_DATA")
        .map_or_else(|| repository().join("../shared"), PathBuf::from);
    let file = base.join(path);
    let there = file.exists();
    if !there {
        println!("skipped: no {}", file.display());
    }
    there.then_some(file)
}

/// The real model, where it has been fetched.
pub(crate) fn model() -> Option<PathBuf> {
    let file = std::env::var_os("POWERINFER_TEST_MODEL")
        .map_or_else(|| repository().join("models/smollm2-135m-instruct-Q4_1.gguf"), PathBuf::from);
    let there = file.exists();
    if !there {
        println!("skipped: no model at {}", file.display());
    }
    there.then_some(file)
}

/// Gemma 3, where it has been put beside the real model.
pub(crate) fn gemma3() -> Option<PathBuf> {
    let file = model()?.with_file_name("gemma3-270m-Q4_K_M.gguf");
    let there = file.exists();
    if !there {
        println!("skipped: no {}", file.display());
    }
    there.then_some(file)
}

/// The vocabulary of a model file.
pub(crate) fn vocab(path: &std::path::Path) -> Vocab {
    // A model is mostly tensors; its metadata lies in the first megabytes.
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.by_ref().take(32 << 20).read_to_end(&mut bytes).unwrap();
    let header = gguf::parse_prefix(&bytes, len, &path.display().to_string()).unwrap();
    Vocab::from_meta(&header.meta).unwrap()
}

/// The committed GPT-2 vocabulary.
pub(crate) fn gpt2() -> Vocab {
    vocab(&repository().join("tests/data/vocabs/ggml-vocab-gpt-2.gguf"))
}

/// The committed GPT-2 vocabulary with another value of a text in its metadata.
pub(crate) fn gpt2_with(key: &str, value: &str) -> Vocab {
    static FILE: OnceLock<Metadata> = OnceLock::new();
    let meta = FILE.get_or_init(|| {
        let path = repository().join("tests/data/vocabs/ggml-vocab-gpt-2.gguf");
        gguf::parse(&std::fs::read(path).unwrap(), "gpt-2").unwrap().meta
    });
    let mut file = Writer::copy_of(meta);
    file.set(key, Value::Str(value.into())).unwrap();
    Vocab::from_meta(&gguf::parse(&file.header().unwrap(), value).unwrap().meta).unwrap()
}

/// The bytes that a golden writes in hex.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}
