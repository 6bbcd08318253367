//! What the shared library exports: exactly the functions of `tests/abi` and of `powerinfer.h`,
//! under the right SONAME.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library of this build. Cargo makes it together with the library that tests link,
/// beside the test programs; `cargo build` puts a link one folder up.
fn library() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this test");
    let deps = program.parent().expect("a folder");
    let found = deps.ancestors().take(2).map(|f| f.join("libpowerinfer.so")).find(|f| f.exists());
    found.unwrap_or_else(|| panic!("no libpowerinfer.so in or above {}", deps.display()))
}

fn run(program: &str, args: &[&str], file: &Path) -> String {
    let out = Command::new(program).args(args).arg(file).output();
    let out = out.unwrap_or_else(|e| panic!("{program} (binutils): {e}"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

fn facts(file: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root().join("tests/abi").join(file)).expect("tests/abi");
    serde_json::from_str(&text).expect("a JSON list")
}

/// Functions that a generated header declares with this prefix.
fn declared(header: &str, prefix: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("include").join(header)).expect("a header");
    let before_paren = text.split('(').filter_map(|part| part.split([' ', '*', '\n']).next_back());
    before_paren.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("text").to_owned()
}

#[test]
fn exports_are_exactly_the_interface() {
    let functions = facts("functions.json").iter().map(|f| text(&f["name"])).collect::<Vec<_>>();
    assert_eq!(functions.iter().filter(|name| name.starts_with("llama_")).count(), 255);
    assert_eq!(functions.iter().filter(|name| !name.starts_with("llama_")).count(), 93 + 59);
    let ours = declared("powerinfer.h", "powerinfer_");
    assert!(ours.contains("powerinfer_version"), "{ours:?}");

    let mut expected: BTreeSet<String> = functions.into_iter().chain(ours).collect();
    expected.extend(facts("ext_symbols.json").iter().map(text));

    let listing = run("nm", &["-D", "--defined-only"], &library());
    let exported = listing.lines().filter_map(|line| line.split_whitespace().nth(2));
    let exported: BTreeSet<String> = exported.map(str::to_owned).collect();

    let missing: Vec<_> = expected.difference(&exported).collect();
    let surplus: Vec<_> = exported.difference(&expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
}

#[test]
fn the_headers_declare_every_function() {
    let functions = facts("functions.json");
    let declared: BTreeSet<String> = ["llama_", "ggml_", "gguf_"]
        .iter()
        .flat_map(|prefix| declared("powerinfer-abi.h", prefix))
        .collect();
    for name in functions.iter().map(|f| text(&f["name"])) {
        assert!(declared.contains(&name), "{name} is not in powerinfer-abi.h");
    }
}

#[test]
fn soname() {
    let dynamic = run("readelf", &["-d"], &library());
    assert!(dynamic.contains("Library soname: [libpowerinfer.so.0]"), "{dynamic}");
}
