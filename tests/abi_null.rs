//! Every exported function of C with NULL for every pointer, and 0, -1 and a huge number for every
//! number: what each answers is listed in `tests/data/null_answers.txt`, and no sanitizer objects.
//!
//! The program is made from `tests/abi/functions.json`, so that no function is forgotten. After a
//! change that is meant: `UPDATE_NULL_ANSWERS=1 cargo test --test abi_null`, and read the difference.

mod c_programs;

use std::fmt::Write;
use std::fs;

use c_programs::{Build, Run, command, compile, repository, scratch};

/// Pointers that do not look like one.
const POINTERS: [&str; 12] = [
    "callback",
    "llama_memory_t",
    "ggml_threadpool_t",
    "ggml_backend_t",
    "ggml_backend_buffer_t",
    "ggml_backend_buffer_type_t",
    "ggml_backend_dev_t",
    "ggml_backend_reg_t",
    "ggml_opt_",
    "ggml_guid_t",
    "llama_sampler_context_t",
    "llama_model_set_tensor_data_t",
];
/// Numbers that change from call to call.
const CLOCKS: [&str; 3] = ["llama_time_us", "ggml_time_us", "ggml_time_ms"];

fn is_pointer(ty: &str) -> bool {
    let is_value = ty.starts_with("struct ") || ty.starts_with("enum ");
    ty.contains('*') || (!is_value && POINTERS.iter().any(|name| ty.contains(name)))
}

/// What C writes for a parameter: NULL, zeros, or the number.
fn argument(parameter: &str) -> String {
    match parameter.trim() {
        pointer if is_pointer(pointer) => "0".into(),
        "ggml_bf16_t" => "(ggml_bf16_t){0}".into(),
        value if value.starts_with("struct ") => {
            let name = value.split_whitespace().nth(1).unwrap();
            format!("(struct {name}){{0}}")
        }
        _ => "n".into(),
    }
}

/// The statement that calls a function and prints what it answered.
fn call(name: &str, signature: &str) -> String {
    let (before, parameters) = signature.split_once(&format!("{name}(")).unwrap();
    let parameters = parameters.strip_suffix(')').unwrap();
    let arguments: Vec<String> = match parameters {
        "void" => Vec::new(),
        list => list.split(',').filter(|p| p.trim() != "...").map(argument).collect(),
    };
    let call = format!("{name}({})", arguments.join(", "));
    let result = before.trim();
    // What is made is freed, so that leaks show.
    let free = match result {
        "struct llama_sampler *" => "llama_sampler_free(made)",
        "struct gguf_context *" => "gguf_free(made)",
        "struct ggml_context *" => "ggml_free(made)",
        "struct ggml_threadpool *" => "ggml_threadpool_free(made)",
        "ggml_backend_t" => "ggml_backend_free(made)",
        "ggml_backend_buffer_t" => "ggml_backend_buffer_free(made)",
        _ => "(void) made",
    };
    match result {
        "void" => format!("{call}; printf(\"nothing\");"),
        _ if CLOCKS.contains(&name) => format!("(void) {call}; printf(\"a time\");"),
        "struct llama_batch" => {
            format!("llama_batch_free({call}); printf(\"a struct\");")
        }
        ty if is_pointer(ty) => {
            format!("{{ {ty} made = {call}; printf(made ? \"a pointer\" : \"NULL\"); {free}; }}")
        }
        ty if ty.starts_with("struct ") => format!("(void) {call}; printf(\"a struct\");"),
        "_Bool" => format!("printf({call} ? \"true\" : \"false\");"),
        "float" | "double" => format!("printf(\"%g\", (double) {call});"),
        _ => format!("printf(\"%lld\", (long long) {call});"),
    }
}

fn program() -> String {
    let functions = fs::read_to_string(repository().join("tests/abi/functions.json")).unwrap();
    let functions: serde_json::Value = serde_json::from_str(&functions).unwrap();
    let mut c = String::from(
        "#include <stdio.h>\n#include \"llama.h\"\n#include \"ggml.h\"\n#include \"ggml-backend.h\"\n\
         #include \"ggml-cpu.h\"\n#include \"ggml-opt.h\"\n#include \"gguf.h\"\n\
         #pragma GCC diagnostic ignored \"-Wdeprecated-declarations\"\n\
         #pragma GCC diagnostic ignored \"-Wmissing-field-initializers\"\n\
         static const long long numbers[] = {0, -1, 0x7fffffff};\n",
    );
    let mut main = String::from("int main(void) {\nsetvbuf(stdout, NULL, _IONBF, 0);\n");
    for function in functions.as_array().unwrap() {
        let name = function["name"].as_str().unwrap();
        // Ends the program, as it must.
        if name == "ggml_abort" {
            continue;
        }
        let call = call(name, function["signature"].as_str().unwrap());
        // Each in a function of its own: one that makes all calls takes a compiler minutes.
        writeln!(
            c,
            "static void call_{name}(void) {{\nprintf(\"{name}:\");\n\
             for (int i = 0; i < 3; i++) {{ long long n = numbers[i]; (void) n; \
             printf(\" \"); {call} printf(i < 2 ? \",\" : \"\\n\"); }}\n}}"
        )
        .unwrap();
        writeln!(main, "call_{name}();").unwrap();
    }
    c + &main + "return 0;\n}\n"
}

#[test]
fn every_function_answers_null_and_wild_numbers() {
    let source = scratch("abi-null").join("null_answers.c");
    let program = program();
    if fs::read_to_string(&source).ok().as_ref() != Some(&program) {
        fs::write(&source, program).unwrap();
    }
    let mut program = command(&compile(source.to_str().unwrap(), Build::Sanitized));
    // Memory for a huge number of values is refused, as on a small machine.
    program.env("ASAN_OPTIONS", "allocator_may_return_null=1:max_allocation_size_mb=1024");
    let run = Run::from(program.output().unwrap());
    // Three times the same is said once.
    let said = run.stdout.lines().map(|line| {
        let (name, answers) = line.split_once(": ").unwrap_or((line, ""));
        let all: Vec<&str> = answers.split(", ").collect();
        match all.as_slice() {
            [a, b, c] if a == b && b == c => format!("{name}: {a}\n"),
            _ => format!("{name}: {answers}\n"),
        }
    });
    let found: String = said.collect();
    assert_eq!(run.code, Some(0), "after {:?}: {}", found.lines().last(), run.stderr);

    let file = repository().join("tests/data/null_answers.txt");
    if std::env::var_os("UPDATE_NULL_ANSWERS").is_some() {
        fs::write(&file, &found).unwrap();
    }
    let want = fs::read_to_string(&file).unwrap_or_default();
    let differs = |a: &str, b: &str| {
        a.lines()
            .filter(|line| !b.lines().any(|l| l == *line))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    };
    assert!(
        found == want,
        "found other than in null_answers.txt:\n{}there instead:\n{}",
        differs(&found, &want),
        differs(&want, &found)
    );
}
