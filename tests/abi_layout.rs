//! The headers in `include/` agree with `tests/abi`: struct sizes and offsets, enum values, macro
//! values, function types. A C compiler judges; and Rust's own idea of the structs is the same.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use powerinfer::ffi::types;
use serde_json::Value;

/// Structs that only functions outside of tiers A to C mention.
const NOT_OURS: [&str; 7] = [
    "ggml_type_traits",
    "ggml_type_traits_cpu",
    "ggml_tallocr",
    "ggml_cplan",
    "ggml_backend_meta_split_state",
    "ggml_backend_graph_copy",
    "ggml_opt_params",
];

fn facts(file: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/abi").join(file);
    let text = std::fs::read_to_string(&path).expect("tests/abi is complete");
    serde_json::from_str(&text).expect("valid JSON")
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().expect("an object").iter()
}

/// Compiles C text as C11, without linking; the compiler's complaints are the error.
fn compile(name: &str, text: &str) -> Result<(), String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(format!("{name}.c"));
    std::fs::write(&source, text).expect("the target folder is writable");
    let out = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"])
        .args(["-fsyntax-only", "-I"])
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&source)
        .output()
        .expect("a C compiler is installed");
    match out.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

fn must_compile(name: &str, text: &str) {
    compile(name, text).unwrap_or_else(|errors| panic!("{errors}"));
}

const PROLOGUE: &str = "#include <llama.h>\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n";

#[test]
fn structs() {
    let layout = facts("layout.json");
    let mut c = PROLOGUE.to_owned();
    let mut n = 0;
    for (name, s) in entries(&layout["structs"]) {
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        n += 1;
        let _ = writeln!(c, "SAME(sizeof(struct {name}), {});", s["size"]);
        let _ = writeln!(c, "SAME(_Alignof(struct {name}), {});", s["align"]);
        for field in s["fields"].as_array().expect("a list") {
            let member = field["name"].as_str().expect("a name");
            let _ = writeln!(c, "SAME(offsetof(struct {name}, {member}), {});", field["offset"]);
            let size = &field["size"];
            let _ = writeln!(c, "SAME(sizeof(((struct {name} *)0)->{member}), {size});");
        }
    }
    assert_eq!(n, 30, "structs that our functions need");
    must_compile("abi_structs", &c);
}

#[test]
fn enums() {
    let layout = facts("layout.json");
    let mut c = PROLOGUE.to_owned();
    for (name, e) in entries(&layout["enums"]) {
        let _ = writeln!(c, "SAME(sizeof(enum {name}), {});", e["size"]);
        let _ = writeln!(c, "SAME((long long)(enum {name})-1 < 0, {});", e["signed"]);
        for (variant, value) in entries(&e["values"]) {
            let _ = writeln!(c, "SAME({variant}, {value});");
        }
    }
    must_compile("abi_enums", &c);
}

#[test]
fn macros() {
    let layout = facts("layout.json");
    let mut c = PROLOGUE.to_owned();
    let mut n = 0;
    for (name, m) in entries(&layout["macros"]) {
        let value = m["value"].as_str().expect("text");
        let number = value.trim_matches(['(', ')']);
        if number.starts_with(|ch: char| ch.is_ascii_digit() || ch == '-') {
            n += 1;
            let _ = writeln!(c, "SAME({name}, {value});");
        } else if value.starts_with('"') {
            n += 1;
            let _ = writeln!(c, "const char {name}_is[sizeof({value})] = {name};");
        }
    }
    assert!(n >= 35, "only {n} macros have values");
    must_compile("abi_macros", &c);
}

#[test]
fn function_types() {
    // Declaring a function again with another type is an error in C.
    let mut c = PROLOGUE.to_owned();
    let functions = facts("functions.json");
    let functions = functions.as_array().expect("a list");
    for f in functions {
        let signature = f["signature"].as_str().expect("text");
        let _ = writeln!(c, "{};", signature.replace("_Noreturn extern", "extern"));
    }
    assert_eq!(functions.len(), 407);
    must_compile("abi_functions", &c);
}

/// The judge itself can fail.
#[test]
fn a_wrong_fact_does_not_compile() {
    let wrong = [
        "SAME(sizeof(struct llama_batch), 57);",
        "SAME(offsetof(struct llama_model_params, main_gpu), 28);",
        "SAME(LLAMA_POOLING_TYPE_RANK, 5);",
        "int32_t llama_n_ctx(const struct llama_context *ctx);",
    ];
    for line in wrong {
        let c = format!("{PROLOGUE}{line}\n");
        assert!(compile("abi_wrong", &c).is_err(), "{line}");
    }
}

/// Sizes and offsets that Rust gives the structs. The headers are made from the same source, but
/// `llama_model_kv_override` is written by hand there.
#[test]
fn rust_structs() {
    macro_rules! sizes {
        ($($name:ident)*) => {[$(
            (stringify!($name), size_of::<types::$name>(), align_of::<types::$name>()),
        )*]};
    }
    let layout = facts("layout.json");
    let ours = sizes!(ggml_bf16_t ggml_type_traits ggml_init_params ggml_tensor ggml_threadpool_params
        ggml_backend_dev_caps ggml_backend_dev_props ggml_backend_feature ggml_opt_optimizer_params
        gguf_init_params llama_token_data llama_token_data_array llama_batch
        llama_model_kv_override llama_model_tensor_buft_override llama_model_params
        llama_sampler_seq_config llama_context_params llama_model_tensor_override
        llama_model_imatrix_data llama_model_quantize_params llama_logit_bias
        llama_sampler_chain_params llama_chat_message llama_embd llama_sampler_data
        llama_sampler_i llama_sampler llama_perf_context_data llama_perf_sampler_data
        llama_opt_params);
    for (name, size, align) in ours {
        let fact = &layout["structs"][name];
        assert_eq!(fact["size"], size, "{name}");
        assert_eq!(fact["align"], align, "{name}");
    }
    use types::llama_model_kv_override as Override;
    assert_eq!(std::mem::offset_of!(Override, key), 4);
    assert_eq!(std::mem::offset_of!(Override, value), 136);
}
