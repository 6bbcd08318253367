//! The edges of the house: which folder of `src` may use which, where `unsafe` is allowed, and
//! how long a file may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A folder and what it may use beside itself and `util`. Data flows one way: the table has no
/// cycles, and nothing uses `ffi`.
const EDGES: &[(&str, &[&str])] = &[
    // The boundary: the façade, and the plain types that cross it.
    ("ffi", &["api", "sampler", "chat", "grammar", "vocab", "gguf", "quant", "backend", "tensor"]),
    (
        "api",
        &[
            "tools", "engine", "sampler", "chat", "adapter", "vocab", "sparse", "model", "plan",
            "backend", "gguf", "quant", "tensor",
        ],
    ),
    ("tools", &["engine", "model", "vocab", "sparse", "plan", "quant", "gguf", "tensor"]),
    ("sampler", &["grammar", "vocab"]),
    ("chat", &["vocab"]),
    ("grammar", &["vocab"]),
    ("engine", &["adapter", "plan", "model", "sparse", "backend", "quant", "tensor"]),
    ("adapter", &["plan", "model", "gguf", "quant", "tensor"]),
    ("sparse", &["plan", "model", "backend", "gguf", "quant", "tensor"]),
    ("model", &["plan", "gguf", "quant", "tensor"]),
    ("plan", &["quant", "tensor"]),
    ("vocab", &["gguf", "tensor"]),
    ("backend", &["quant", "tensor"]),
    ("gguf", &["quant", "tensor"]),
    ("quant", &["tensor"]),
    ("tensor", &[]),
    ("util", &[]),
];

/// Folders inside `backend` that must not know each other.
const STRANGERS: &[(&str, &str)] = &[("backend/cpu", "backend/cuda")];

/// Modules that may allow `unsafe` code, as paths under `src` without suffix.
const UNSAFE: &[&str] = &[
    "ffi",
    "backend/cpu/kernels",
    "backend/cpu/pool",
    "backend/cpu/table",
    "backend/cuda",
    "gguf/mmap",
    "util/aligned",
    "util/bytes",
    "util/sys",
];

const MAX_LINES: usize = 1000;

/// A source file: its path under `src` with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The folder right under `src`, or the file's name without suffix.
    fn layer(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or("")
    }

    /// Module path of the file: `["backend", "cpu", "pool"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').filter(|part| *part != "lib").collect()
    }
}

fn sources() -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "only {} source files", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8 source");
            let path = path.strip_prefix(root).expect("under src").to_string_lossy();
            found.push(Source { path: path.replace('\\', "/"), text });
        }
    }
}

/// Source text without comments, string contents and everything from the file's test module on
/// (tests may look anywhere).
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let without_comments = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    without_comments.collect::<Vec<_>>().join("\n")
}

/// Absolute module paths that a file's code names, each as far as it goes: from `crate::a::b`,
/// `super::super::b` and lists like `crate::{a::b, c}`. `$crate` counts.
fn used_paths(source: &Source) -> BTreeSet<Vec<String>> {
    let code = code(&source.text);
    let module: Vec<String> = source.module().iter().map(|s| (*s).to_owned()).collect();
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue; // another word
        }
        follow(&code[start + "crate::".len()..], Vec::new(), &mut found);
    }
    for (start, _) in code.match_indices("super::") {
        if code[..start].ends_with("super::") {
            continue; // counted from the first one
        }
        let mut rest = &code[start..];
        let mut base = module.clone();
        while let Some(next) = rest.strip_prefix("super::") {
            base.pop();
            rest = next;
        }
        follow(rest, base, &mut found);
    }
    found
}

/// Reads `a::b::{c, d::e}` behind a module path and adds every path that it names.
fn follow(text: &str, base: Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
            if c == ',' && depth == 0 {
                follow(&std::mem::take(&mut item), base.clone(), found);
            } else {
                item.push(c);
            }
        }
        return follow(&item, base, found);
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut path = base;
    if !word.is_empty() {
        path.push(word.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(rest) if !word.is_empty() => follow(rest, path, found),
        _ => {
            found.insert(path);
        }
    }
}

/// What is wrong with the edges of one file.
fn bad_edges(source: &Source) -> Vec<String> {
    let layer = source.layer();
    if layer == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("src/{}: `{layer}` is not in the table of edges", source.path)];
    };
    let here = source.module().join("/");
    let mut bad = Vec::new();
    for path in used_paths(source) {
        let target = path.first().map_or("", String::as_str);
        let is_layer = EDGES.iter().any(|(name, _)| *name == target);
        if is_layer && target != layer && target != "util" && !allowed.contains(&target) {
            bad.push(format!("src/{}: {layer} may not use {}", source.path, path.join("::")));
        }
        let there = path.join("/");
        let meets = |a: &str, b: &str| here.starts_with(a) && there.starts_with(b);
        if STRANGERS.iter().any(|(a, b)| meets(a, b) || meets(b, a)) {
            bad.push(format!("src/{}: may not know {}", source.path, path.join("::")));
        }
    }
    bad
}

/// Whether a file allows `unsafe` without being on the list.
fn bad_unsafe(source: &Source) -> bool {
    let module = source.module().join("/");
    let listed =
        UNSAFE.iter().any(|name| module == *name || module.starts_with(&format!("{name}/")));
    let code = code(&source.text).replace(char::is_whitespace, "");
    let allows = ["allow(", "expect(", "warn("]
        .iter()
        .flat_map(|word| code.split(word).skip(1))
        .any(|rest| rest.split([')', ']']).next().unwrap_or("").contains("unsafe_code"));
    allows && !listed
}

#[test]
fn edges_are_in_the_table() {
    let bad: Vec<String> = sources().iter().flat_map(bad_edges).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn the_table_has_no_cycles() {
    // A folder may only use what stands below it.
    for (row, (name, uses)) in EDGES.iter().enumerate() {
        for used in *uses {
            let below = EDGES[row + 1..].iter().any(|(lower, _)| lower == used);
            assert!(below, "{name} uses {used}, which does not stand below it");
        }
    }
}

#[test]
fn every_folder_is_in_the_table() {
    let layers: BTreeSet<String> = sources().iter().map(|s| s.layer().to_owned()).collect();
    let known = EDGES.iter().map(|(name, _)| (*name).to_owned());
    let known: BTreeSet<String> = known.chain(["lib".to_owned()]).collect();
    assert_eq!(layers, known);
}

#[test]
fn unsafe_is_where_it_may_be() {
    let bad: Vec<String> =
        sources().into_iter().filter(bad_unsafe).map(|source| source.path).collect();
    assert!(bad.is_empty(), "these may not allow unsafe code: {bad:?}");
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");
}

/// The scanner itself sees what it must see.
#[test]
fn the_scanner_finds_forbidden_edges() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let bad = [
        ("engine/run.rs", "use crate::ffi::types::x;"),
        ("engine/run.rs", "let m = crate::api::Model::new();"),
        (
            "engine/run.rs",
            "use crate::{\n    util::log,\n    plan::{self, Step}, sampler::Chain,\n};",
        ),
        ("gguf/mod.rs", "use super::model::Hparams;"),
        ("gguf/read/keys.rs", "use super::super::super::vocab::Vocab;"),
        ("backend/cpu/run.rs", "use super::super::cuda::Stream;"),
        ("backend/cuda/mod.rs", "use crate::backend::{cpu::pool, quant};"),
        ("novel/mod.rs", ""),
    ];
    for (path, text) in bad {
        assert!(!bad_edges(&source(path, text)).is_empty(), "{path}: {text}");
    }
    let good = [
        ("engine/run.rs", "use crate::{plan::Step, util::log};\nuse super::batch::Batch;"),
        ("engine/run.rs", "// crate::ffi is above\n#[cfg(test)]\nmod tests { use crate::api::X; }"),
        ("gguf/read/keys.rs", "use super::super::value::Value;"),
        ("backend/cpu/run.rs", "use super::pool::Pool;\nmycrate::ffi::f();"),
    ];
    for (path, text) in good {
        assert_eq!(bad_edges(&source(path, text)), Vec::<String>::new(), "{path}: {text}");
    }
    assert!(bad_unsafe(&source("engine/run.rs", "#![allow(unsafe_code, reason = \"x\")]")));
    assert!(bad_unsafe(&source("engine/run.rs", "#[expect(dead_code,\n unsafe_code)]")));
    assert!(!bad_unsafe(&source("gguf/mmap.rs", "#![allow(unsafe_code)]")));
    assert!(!bad_unsafe(&source("ffi/ggml/mod.rs", "#![allow(unsafe_code)]")));
    assert!(bad_unsafe(&source("ffix/mod.rs", "#![allow(unsafe_code)]")));
}
