//! `llama_model_quantize` as C calls it: what it refuses, what it writes, what it says.
#![allow(unsafe_code, reason = "calls the C interface")]

mod common;

use std::ffi::{CString, c_char};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::null;

use common::log::{Lines, logged};
use common::tiny;
use powerinfer::ffi::types::*;
use powerinfer::ffi::{load::*, params::*, quantize::*};
use powerinfer::gguf;
use powerinfer::quant::QuantType;

/// Calls the function: its answer, and what it logged.
fn call(
    input: Option<&Path>,
    output: Option<&Path>,
    params: *const llama_model_quantize_params,
) -> (u32, Lines) {
    let c = |path: Option<&Path>| path.map(|p| CString::new(p.to_str().unwrap()).unwrap());
    let (input, output) = (c(input), c(output));
    let pointer = |path: &Option<CString>| path.as_ref().map_or(null(), |p| p.as_ptr());
    // SAFETY: strings and parameters live until the end.
    logged(|| unsafe { llama_model_quantize(pointer(&input), pointer(&output), params) })
}

/// Calls it in vain: one error, and no file.
#[track_caller]
fn refused(input: &Path, output: &Path, params: &llama_model_quantize_params, expected: &str) {
    let (result, lines) = call(Some(input), Some(output), params);
    let errors: Vec<_> = lines.iter().filter(|(level, _)| *level == 4).collect();
    assert_eq!(result, 1, "{expected}");
    assert!(
        matches!(errors[..], [(_, text)] if text.contains(expected) && text.ends_with('\n')),
        "{errors:?}, not '{expected}'"
    );
    assert!(!output.exists(), "{expected}");
}

fn params(change: impl FnOnce(&mut llama_model_quantize_params)) -> llama_model_quantize_params {
    // SAFETY: takes nothing.
    let mut params = unsafe { llama_model_quantize_default_params() };
    params.nthread = 2;
    params.allow_requantize = 1;
    change(&mut params);
    params
}

/// A folder with a model and a name for what becomes of it.
fn files(name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ffi-quantize-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let input = dir.join("in.gguf");
    fs::write(&input, tiny::bytes(&tiny::spec("gqa"))).unwrap();
    let output = dir.join("out.gguf");
    (dir, input, output)
}

fn types(path: &Path) -> Vec<(String, QuantType)> {
    let bytes = fs::read(path).unwrap();
    let header = gguf::parse(&bytes, "out").unwrap();
    header.tensors.iter().map(|t| (t.name.to_string(), t.ty)).collect()
}

fn type_of(path: &Path, name: &str) -> QuantType {
    types(path).into_iter().find(|t| t.0 == name).unwrap().1
}

#[test]
fn a_model_becomes_another_that_loads() {
    let (_, input, output) = files("plain");
    let (result, lines) = call(Some(&input), Some(&output), &params(|_| ()));
    assert_eq!(result, 0, "{lines:?}");
    assert_eq!(type_of(&output, "blk.0.attn_q.weight"), QuantType::Q8_0);
    assert_eq!(type_of(&output, "blk.0.attn_norm.weight"), QuantType::F32);
    // A line for each tensor, and no other level than information.
    let of_tensors = lines.iter().filter(|(_, text)| text.starts_with('[')).count();
    assert_eq!(of_tensors, types(&output).len(), "{lines:?}");
    assert!(lines.iter().all(|(level, text)| *level == 2 && text.ends_with('\n')), "{lines:?}");
    let path = CString::new(output.to_str().unwrap()).unwrap();
    // SAFETY: a terminated path and the default parameters; the model is freed once.
    unsafe {
        let model = llama_model_load_from_file(path.as_ptr(), llama_model_default_params());
        assert!(!model.is_null());
        llama_model_free(model);
    }
}

#[test]
fn missing_arguments_are_refused() {
    let (_, input, output) = files("null");
    let good = params(|_| ());
    for (input, output, params) in [
        (None, Some(&*output), &raw const good),
        (Some(&*input), None, &raw const good),
        (Some(&*input), Some(&*output), null()),
        (None, None, null()),
    ] {
        let (result, lines) = call(input, output, params);
        assert_eq!(result, 1);
        assert!(matches!(&lines[..], [(4, text)] if text.contains("NULL")), "{lines:?}");
    }
    // Nothing is written in a dry run.
    let (result, _) = call(Some(&input), None, &params(|p| p.dry_run = 1));
    assert_eq!(result, 0);
}

#[test]
fn bad_arguments_are_refused() {
    let (dir, input, output) = files("bad");
    for ftype in [-1, 4, 5, 6, 33, 34, 35, 39, 42, 1024, i32::MIN, i32::MAX] {
        refused(&input, &output, &params(|p| p.ftype = ftype), "invalid output file type");
    }
    for ty in [-1, 4, 1000, i32::MAX] {
        refused(&input, &output, &params(|p| p.output_tensor_type = ty), "unknown type");
        refused(&input, &output, &params(|p| p.token_embedding_type = ty), "unknown type");
    }
    refused(&input, &output, &params(|p| p.output_tensor_type = 26), "cannot quantise");
    refused(&dir.join("none"), &output, &params(|_| ()), "none");
    refused(&dir, &output, &params(|_| ()), "not a");
    refused(&input, &dir.join("none/out"), &params(|_| ()), "cannot create");
    let (result, _) = call(Some(&input), Some(&input), &params(|_| ()));
    assert_eq!(result, 1);
    assert_eq!(fs::read(&input).unwrap(), tiny::bytes(&tiny::spec("gqa")));
    for nthread in [i32::MIN, i32::MAX] {
        let (result, _) = call(Some(&input), Some(&output), &params(|p| p.nthread = nthread));
        assert_eq!(result, 0);
    }
}

#[test]
fn quantised_files_stay_what_they_are() {
    let (_, input, output) = files("requantize");
    let strict = |ftype| params(|p| (p.ftype, p.allow_requantize) = (ftype, 0));
    refused(&input, &output, &strict(2), "requantizing from type");
    // A dry run only counts.
    let (result, lines) =
        call(Some(&input), Some(&output), &params(|p| (p.allow_requantize, p.dry_run) = (0, 1)));
    assert_eq!(result, 0);
    assert!(lines.iter().any(|(level, text)| *level == 3 && text.contains("dry run")), "{lines:?}");
    assert!(!output.exists());
    let (result, _) = call(Some(&input), Some(&output), &params(|p| p.only_copy = 1));
    assert_eq!(result, 0);
    let sorted = |path| {
        let mut types = types(path);
        types.sort_by(|a, b| a.0.cmp(&b.0));
        types
    };
    assert_eq!(sorted(&output), sorted(&input));
}

#[test]
fn lists_are_read_to_their_ends() {
    let (_, input, output) = files("lists");
    let types = [
        llama_model_tensor_override { pattern: c"attn_q".as_ptr(), r#type: 1 },
        llama_model_tensor_override { pattern: c"attn_.\\.".as_ptr(), r#type: 30 },
        llama_model_tensor_override { pattern: null(), r#type: -1 },
    ];
    let (result, _) =
        call(Some(&input), Some(&output), &params(|p| p.tt_overrides = types.as_ptr()));
    assert_eq!(result, 0);
    let found = ["attn_q", "attn_k", "attn_output"]
        .map(|name| type_of(&output, &format!("blk.0.{name}.weight")));
    assert_eq!(found, [QuantType::F16, QuantType::BF16, QuantType::Q8_0]);
    fs::remove_file(&output).unwrap();

    for (pattern, ty, expected) in [
        (c"(", 1, "pattern"),
        (c"\xff", 1, "UTF-8"),
        (c"attn", 4, "unknown type"),
        (c"attn", 24, "cannot"),
    ] {
        let types = [
            llama_model_tensor_override { pattern: pattern.as_ptr(), r#type: ty },
            llama_model_tensor_override { pattern: null(), r#type: 0 },
        ];
        refused(&input, &output, &params(|p| p.tt_overrides = types.as_ptr()), expected);
    }

    let wrong = [1.0f32; 3];
    let name = c"blk.0.attn_q.weight".as_ptr();
    let end = llama_model_imatrix_data { name: null(), data: null(), size: 0 };
    for (data, size, expected) in [
        (wrong.as_ptr(), 3, "3 importances"),
        (null(), 3, "no 3 numbers"),
        (wrong.as_ptr(), usize::MAX, "numbers"),
        ([f32::INFINITY].as_ptr(), 1, "not finite"),
    ] {
        let imatrix = [llama_model_imatrix_data { name, data, size }, end];
        refused(&input, &output, &params(|p| p.imatrix = imatrix.as_ptr()), expected);
    }
    let (result, _) = call(Some(&input), Some(&output), &params(|p| p.imatrix = &raw const end));
    assert_eq!(result, 0);
    fs::remove_file(&output).unwrap();

    let layers = [-7, -1];
    refused(&input, &output, &params(|p| p.prune_layers = layers.as_ptr()), "no layer -7");
    let n_layer = tiny::spec("gqa").n_layer as i32;
    let layers: Vec<i32> = (0..n_layer).chain([-1]).collect();
    refused(&input, &output, &params(|p| p.prune_layers = layers.as_ptr()), "none of the");
    let (result, _) =
        call(Some(&input), Some(&output), &params(|p| p.prune_layers = [0, -1].as_ptr()));
    assert_eq!(result, 0);
    let bytes = fs::read(&output).unwrap();
    let header = gguf::parse(&bytes, "out").unwrap();
    assert_eq!(header.meta.get_u32("llama.block_count").unwrap(), Some(n_layer as u32 - 1));
    fs::remove_file(&output).unwrap();
}

#[test]
fn keys_are_overridden() {
    let (_, input, output) = files("keys");
    let key = |text: &str| {
        let mut key = [0; 128];
        key.iter_mut().zip(text.bytes()).for_each(|(k, b)| *k = b as c_char);
        key
    };
    let entry = |tag, name: &str, value| llama_model_kv_override { tag, key: key(name), value };
    let mut list = [
        entry(0, "test.int", llama_model_kv_override_value { val_i64: -3 }),
        entry(3, "general.name", llama_model_kv_override_value { val_str: key("new") }),
        entry(9, "", llama_model_kv_override_value { val_i64: 0 }),
    ];
    let (result, _) =
        call(Some(&input), Some(&output), &params(|p| p.kv_overrides = list.as_ptr()));
    assert_eq!(result, 0);
    let bytes = fs::read(&output).unwrap();
    let header = gguf::parse(&bytes, "out").unwrap();
    assert_eq!(header.meta.get_u32("test.int").unwrap(), Some(3));
    assert_eq!(header.meta.get_str("general.name").unwrap(), Some("new"));
    fs::remove_file(&output).unwrap();
    list[0].tag = 9;
    let (result, _) =
        call(Some(&input), Some(&output), &params(|p| p.kv_overrides = list.as_ptr()));
    assert_eq!((result, output.exists()), (1, false));
}

#[test]
fn splits_are_named_after_the_output() {
    let (dir, input, output) = files("split");
    let (result, _) = call(Some(&input), Some(&output), &params(|p| p.keep_split = 1));
    assert_eq!((result, output.exists()), (0, false));
    assert!(dir.join("out.gguf-00001-of-00001.gguf").is_file());
}
