//! Models that lie or are damaged: cut anywhere, any bit of the metadata flipped, bits of the
//! weights flipped, sizes that make no sense. Loading answers with an error that says what is
//! wrong, or gives a model that computes something; never a panic, and never time or memory out
//! of proportion to the file.
#![allow(unsafe_code, dead_code, reason = "counts what loading allocates")]

mod common;
#[path = "common/meter.rs"]
mod meter;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use common::tiny::{self, MICRO, Rope, Spec, Tensor};
use common::{tiny_archs, tiny_sparse};
use powerinfer::api::{Batch, ContextParams, Input, LoadMode, LoadOptions, Model};
use powerinfer::gguf::{Array, ByteStr, Value, Writer, parse};
use powerinfer::quant::QuantType;
use powerinfer::util::log::{Level, Sink, set_sink};

/// Loads a file and, if that works, uses the model: the vocabulary, then 8 tokens.
fn try_model(bytes: &[u8], options: &LoadOptions) -> Result<(), String> {
    let model = tiny::load(bytes, options).map_err(|e| e.to_string())?;
    let _ = (model.description(), model.chat_template(None));
    let text = b"the <|im_end|> and\n";
    if let Ok(tokens) = model.vocab().tokenize(text, true, true) {
        let _ = model.vocab().detokenize(&tokens, false, true);
    }
    decode(&model)
}

fn decode(model: &Model) -> Result<(), String> {
    let params = ContextParams {
        n_ctx: 256,
        n_threads: 1,
        n_threads_batch: 1,
        reference: false,
        ..ContextParams::default()
    };
    let mut ctx = model.context(params).map_err(|e| e.to_string())?;
    let n_vocab = model.hparams().unwrap().n_vocab as i32;
    let tokens: Vec<i32> = (0..8).map(|i| i * 5 % n_vocab).collect();
    for input in [Input::Tokens(&tokens[..7]), Input::Tokens(&tokens[7..])] {
        let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
        ctx.decode(&batch).map_err(|e| e.to_string())?;
    }
    assert_eq!(ctx.outputs().logits_ith(-1).unwrap().len(), n_vocab as usize);
    Ok(())
}

/// Takes the warnings about thousands of damaged files, which are to be short too.
struct Quiet;

impl Sink for Quiet {
    fn write(&self, _: Level, text: &str) {
        assert!(text.len() < 1000, "a message as long as a file: {text}");
    }
}

/// The same, watched.
fn check(bytes: &[u8], what: impl Fn() -> String) -> Result<(), String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| set_sink(Some(Arc::new(Quiet))));
    let start = Instant::now();
    let options = LoadOptions { prefetch: false, ..LoadOptions::default() };
    let run = || catch_unwind(AssertUnwindSafe(|| try_model(bytes, &options)));
    let (result, peak) = meter::peak(run);
    let result = result.unwrap_or_else(|_| panic!("{}: panicked, see above", what()));
    let took = start.elapsed();
    assert!(peak < 64 << 20, "{}: {peak} bytes allocated", what());
    assert!(took < Duration::from_secs(5), "{}: took {took:?}", what());
    if let Err(text) = &result {
        assert!(text.len() > 10 && text.len() < 1000, "{}: '{text}'", what());
    }
    result
}

#[test]
fn an_undamaged_model_runs() {
    check(&tiny::bytes(&MICRO), || "micro".into()).unwrap();
}

/// Where the last tensor ends, before padding.
fn end_of_data(bytes: &[u8]) -> usize {
    let header = parse(bytes, "micro").unwrap();
    let last = header.tensors.last().unwrap();
    (header.data_offset + last.offset + last.n_bytes) as usize
}

#[test]
fn cut_anywhere() {
    let bytes = tiny::bytes(&MICRO);
    let end = end_of_data(&bytes);
    for len in (0..end).step_by(end / 200).chain([end - 1]) {
        let error = check(&bytes[..len], || format!("the first {len} bytes")).unwrap_err();
        assert!(error.contains("tiny.gguf"), "{error}");
    }
}

#[test]
fn any_bit_of_the_metadata() {
    let mut bytes = tiny::bytes(&MICRO);
    let n_bits = parse(&bytes, "micro").unwrap().data_offset as usize * 8;
    let mut n_run = 0;
    for bit in 0..n_bits {
        let flip = 1 << (bit % 8);
        bytes[bit / 8] ^= flip;
        n_run += usize::from(check(&bytes, || format!("bit {bit}")).is_ok());
        bytes[bit / 8] ^= flip;
    }
    // Letters of names and texts can change, lengths and types cannot.
    assert!(n_bits / 10 < n_run && n_run < n_bits * 9 / 10, "{n_run} of {n_bits} models run");
}

#[test]
fn bits_of_the_weights() {
    for name in ["micro", "gqa"] {
        let mut bytes = tiny::bytes(&tiny::spec(name));
        let data = parse(&bytes, "tiny").unwrap().data_offset as usize;
        for (i, token) in tiny::tokens(1000, (bytes.len() - data) * 8).into_iter().enumerate() {
            let bit = data * 8 + token as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Scales become infinite or NaN on the way: still no reason to fail.
            check(&bytes, || format!("{name}: the first {i} bits")).unwrap();
        }
    }
}

#[test]
fn reading_instead_of_mapping() {
    let bytes = tiny::bytes(&MICRO);
    for mode in [LoadMode::None, LoadMode::Mmap, LoadMode::DirectIo] {
        let options = LoadOptions { mode, ..LoadOptions::default() };
        try_model(&bytes, &options).unwrap();
        for len in [0, 100, bytes.len() / 2, end_of_data(&bytes) - 1] {
            assert!(try_model(&bytes[..len], &options).is_err(), "{mode:?}: {len} bytes");
        }
    }
}

/// The error about a model with another value of a key, or without it.
fn with_key(key: &str, value: Option<Value>) -> String {
    let edit = |w: &mut Writer, _: &mut Vec<Tensor>| match value {
        Some(value) => w.set(key, value).unwrap(),
        None => drop(w.remove(key)),
    };
    let bytes = tiny::edited_bytes(&MICRO, edit);
    let result = check(&bytes, || key.into());
    result.expect_err("loading refuses")
}

#[test]
fn sizes_that_make_no_sense_are_refused_by_key() {
    let big = u32::MAX;
    let sizes: &[(&str, &[u32], &str)] = &[
        ("context_length", &[0, big], "a number from 1 to 67108864"),
        ("embedding_length", &[0, 1 << 19, big], "a number from 1 to 262144"),
        ("block_count", &[0, 1025, big], "a number from 1 to 1024"),
        ("feed_forward_length", &[0, 1 << 19, big], "a number from 1 to 262144"),
        ("attention.head_count", &[0, 4097, big], "a number from 1 to 4096"),
        ("attention.head_count_kv", &[0, 4097, big], "a number from 1 to 4096"),
        ("attention.head_count_kv", &[3], "a divisor of the 2 query heads"),
        ("attention.key_length", &[1 << 18, big], "at most 131072"),
        ("attention.value_length", &[1 << 18, big], "at most 131072"),
        ("rope.dimension_count", &[15, 18, big], "an even number up to 16"),
        ("pooling_type", &[5, 77], "0 to 4"),
    ];
    for &(name, values, expected) in sizes {
        for &value in values {
            let key = format!("llama.{name}");
            let error = with_key(&key, Some(Value::U32(value)));
            assert_eq!(error, format!("key '{key}' has {value}, expected {expected}"));
        }
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused_by_key() {
    let keys = [
        "attention.layer_norm_rms_epsilon",
        "rope.freq_base",
        "rope.scaling.factor",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_ext_factor",
    ];
    for key in keys {
        let key = format!("llama.{key}");
        let of_any_sign = key.contains("attn_factor") || key.contains("ext_factor");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            if value == -1.0 && of_any_sign {
                continue;
            }
            let error = with_key(&key, Some(Value::F32(value)));
            assert!(error.starts_with(&format!("key '{key}' has {value}, expected")), "{error}");
        }
    }
    // Would be infinite in F32.
    let error = with_key("llama.rope.freq_base", Some(Value::F64(1e300)));
    assert!(error.starts_with("key 'llama.rope.freq_base' has inf"), "{error}");
    assert!(with_key("llama.rope.freq_base", Some(Value::F32(0.0))).contains("has 0, expected"));
}

#[test]
fn other_values_are_refused_by_key() {
    let text = |text: &str| Some(Value::Str(ByteStr::from(text)));
    let list = |list: Vec<u32>| Some(Value::Array(Array::U32(list)));
    let cases = [
        ("general.architecture", None, "key 'general.architecture' is missing"),
        ("general.architecture", text("lama"), "unsupported architecture 'lama'"),
        ("llama.embedding_length", None, "key 'llama.embedding_length' is missing"),
        ("llama.attention.layer_norm_rms_epsilon", None, "layer_norm_rms_epsilon' is missing"),
        ("llama.embedding_length", text("64"), "found str \"64\", expected u32"),
        ("llama.embedding_length", Some(Value::I32(-32)), "found i32 -32, expected u32"),
        ("llama.embedding_length", Some(Value::U64(1 << 32)), "found u64 4294967296, expected u32"),
        ("llama.block_count", Some(Value::U32(2)), "tensor 'blk.1.attn_norm.weight' is missing"),
        ("llama.embedding_length", Some(Value::U32(64)), "tensor 'token_embd.weight' has shape"),
        ("llama.attention.head_count", list(vec![2, 2]), "found 2 elements, expected 1"),
        ("llama.attention.head_count", Some(Value::U32(4)), "'blk.0.attn_q.weight' has shape"),
        ("llama.attention.key_length", Some(Value::U32(17)), "'blk.0.attn_q.weight' has shape"),
        (
            "llama.rope.scaling.type",
            text("banana"),
            "has banana, expected none, linear, yarn or longrope",
        ),
        ("llama.expert_count", Some(Value::U32(2)), "expert_used_count' has 0, expected 1 to"),
        ("tokenizer.ggml.model", text("banana"), "banana"),
    ];
    for (key, value, expected) in cases {
        let error = with_key(key, value);
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let error_with = |name: &str, edit: &dyn Fn(&mut Tensor)| {
        let bytes = tiny::edited_bytes(&MICRO, |_, all| {
            edit(all.iter_mut().find(|t| t.name == name).unwrap());
        });
        check(&bytes, || name.into()).unwrap_err()
    };
    let renamed = |t: &mut Tensor| t.name.push('x');
    let resized = |t: &mut Tensor| {
        t.dims = vec![32];
        t.data.resize(t.ty.row_bytes(32).unwrap() as usize, 0);
    };
    let retyped = |t: &mut Tensor| {
        t.ty = QuantType::BF16;
        t.data.resize(t.dims.iter().product::<usize>() * 2, 0);
    };
    let unknown = |t: &mut Tensor| {
        t.ty = QuantType::Q6_K;
        t.dims = vec![256, 4];
        t.data.resize(4 * 210, 0);
    };
    for name in ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight"] {
        let missing = format!("tensor '{name}' is missing");
        assert!(error_with(name, &renamed).starts_with(&missing), "{name}");
        let shape = format!("tensor '{name}' has shape [32], expected [32, ");
        assert!(error_with(name, &resized).starts_with(&shape), "{name}");
        let error = error_with(name, &unknown);
        assert!(error.starts_with(&format!("tensor '{name}' has shape [256, 4]")), "{error}");
    }
    // What steps read number by number has to be plain numbers.
    for name in ["output_norm.weight", "rope_freqs.weight", "blk.0.attn_norm.weight"] {
        let error = format!("tensor '{name}' has type bf16, which is not supported");
        assert_eq!(error_with(name, &retyped), error);
    }
    // Nothing computes with these as weights.
    for ty in [QuantType::F64, QuantType::I16] {
        let error = error_with("blk.0.attn_q.weight", &|t: &mut Tensor| {
            t.ty = ty;
            let n = t.dims.iter().product::<usize>() as u64;
            t.data.resize(ty.row_bytes(n).unwrap() as usize, 0);
        });
        let named = format!("tensor 'blk.0.attn_q.weight' has type {ty}, which is not supported");
        assert_eq!(error, named);
    }
    let short = error_with("rope_freqs.weight", &|t| (t.dims, t.data) = (vec![7], vec![0; 28]));
    assert_eq!(short, "tensor 'rope_freqs.weight' has shape [7], expected [8]");
}

/// Every tensor of every architecture is asked for: without it, or with one row too many, the
/// error names it. Those that a file may do without change what the model says, not whether.
#[test]
fn tensors_of_every_architecture_are_refused_by_name() {
    let may_lack = |arch: &str, name: &str| {
        let bias = [".bias", ".scale"].iter().any(|end| name.ends_with(end))
            || name.starts_with("rope_factors");
        let choices = match arch {
            "falcon" => &["blk.0.attn_norm_2.weight"][..],
            "qwen2moe" => &["blk.0.ffn_gate_inp_shexp.weight"],
            "stablelm" => &["blk.0.ffn_norm.weight", "blk.0.attn_q_norm.weight"],
            _ => &[],
        };
        bias || choices.contains(&name)
    };
    for spec in tiny_archs::SPECS {
        // Enough for every kind of layer.
        let spec = &tiny_archs::Spec { n_layer: spec.n_layer.min(5), ..*spec };
        let mut names = Vec::new();
        let whole = tiny_archs::edited_bytes(spec, |_, all| {
            names = all.iter().map(|t| t.name.clone()).collect();
        });
        check(&whole, || spec.name.into()).unwrap();
        // One layer is as good as another.
        for (at, name) in names
            .iter()
            .enumerate()
            .filter(|(_, n)| !n.starts_with("blk.") || n.starts_with("blk.0."))
        {
            let without = tiny_archs::edited_bytes(spec, |_, all| drop(all.remove(at)));
            let what = || format!("{} without {name}", spec.name);
            match check(&without, what) {
                Ok(()) => {
                    assert!(may_lack(spec.arch, name) || name == "output.weight", "{}", what())
                }
                Err(error) => {
                    // Without all in one, those that it is made of are asked for.
                    let mut name = name.replace("attn_qkv", "attn_q");
                    if ["glm4", "phi3"].contains(&spec.arch) {
                        name = name.replace("ffn_up", "ffn_gate");
                    }
                    assert!(error.contains(&format!("'{name}' is missing")), "{}: {error}", what());
                }
            }
            let larger = tiny_archs::edited_bytes(spec, |_, all| {
                let t = &mut all[at];
                let first = t.dims[0] as u64;
                match t.dims.len() {
                    1 => t.dims[0] += 1,
                    last => t.dims[last - 1] += 1,
                }
                let n = if t.dims.len() == 1 { t.dims[0] as u64 } else { first };
                let n_rows: usize = t.dims[1..].iter().product();
                t.data.resize(t.ty.row_bytes(n).unwrap() as usize * n_rows, 0);
            });
            let what = || format!("{} with a larger {name}", spec.name);
            match check(&larger, what) {
                // The table of OPT has as many positions as it has.
                Ok(()) => assert!(spec.arch == "opt" && name.starts_with("position"), "{}", what()),
                Err(error) => {
                    assert!(error.contains(&format!("'{name}' has shape")), "{}: {error}", what())
                }
            }
        }
    }
}

/// The error about an architecture's model with another value of a key.
fn with_key_of(name: &str, key: &str, value: u32) -> Result<(), String> {
    let spec = tiny_archs::spec(name);
    let key = format!("{}.{key}", spec.arch);
    let bytes = tiny_archs::edited_bytes(&spec, |w, _| w.set(&key, Value::U32(value)).unwrap());
    check(&bytes, || format!("{name}: {key} = {value}"))
}

#[test]
fn experts_that_make_no_sense_are_refused_by_key() {
    let big = u32::MAX;
    let cases: &[(&str, &str, u32, &str)] = &[
        ("mixtral", "expert_count", 0, "expert_used_count' has 2, expected"),
        ("qwen3moe", "expert_count", 1, "expert_used_count' has 2, expected"),
        ("qwen3moe", "expert_count", 9, "'blk.0.ffn_gate_inp.weight' has shape [64, 8]"),
        ("qwen3moe", "expert_count", big, "expert_count' has 4294967295, expected at most 4096"),
        ("qwen3moe", "expert_used_count", 0, "expert_used_count' has 0, expected"),
        ("qwen3moe", "expert_used_count", 9, "expert_used_count' has 9, expected"),
        ("qwen3moe", "expert_used_count", big, "expert_used_count' has 4294967295, expected"),
        ("qwen3moe", "expert_feed_forward_length", 33, "'blk.0.ffn_gate_exps.weight' has shape"),
        ("qwen3moe", "expert_feed_forward_length", big, "'blk.0.ffn_gate_exps.weight' has shape"),
        ("qwen2moe", "expert_shared_feed_forward_length", big, "shexp.weight' has shape"),
        ("gpt-oss", "expert_count", 9, "'blk.0.ffn_gate_inp.weight' has shape [64, 8]"),
    ];
    for &(name, key, value, expected) in cases {
        let error = with_key_of(name, key, value).expect_err(expected);
        assert!(error.contains(expected), "{name} {key} {value}: {error}");
    }
    // All of them is a choice too.
    with_key_of("qwen3moe", "expert_used_count", 8).unwrap();
}

#[test]
fn windows_of_any_size_are_harmless() {
    for name in ["gemma2", "gemma3", "gpt-oss", "olmo3"] {
        for window in [0, 1, 2, 1 << 20, 1 << 31, u32::MAX] {
            with_key_of(name, "attention.sliding_window", window).unwrap();
        }
        for pattern in [0, 1, 2, 77, u32::MAX] {
            with_key_of(name, "attention.sliding_window_pattern", pattern).unwrap();
        }
    }
}

#[test]
fn tables_of_positions_are_as_long_as_they_are() {
    // GPT-2's has to have the context's length.
    let error = with_key_of("gpt2", "context_length", 300).unwrap_err();
    assert_eq!(error, "tensor 'position_embd.weight' has shape [64, 256], expected [64, 300]");
    // OPT's need not: the converter always says 2050.
    let opt = tiny_archs::spec("opt");
    let model_of = |n_rows: usize| {
        tiny_archs::edited_bytes(&opt, |w, all| {
            w.set("opt.context_length", Value::U32(2050)).unwrap();
            let t = all.iter_mut().find(|t| t.name == "position_embd.weight").unwrap();
            t.dims[1] = n_rows;
            t.data.resize(t.ty.row_bytes(64).unwrap() as usize * n_rows, 0);
        })
    };
    check(&model_of(10), || "8 positions".into()).unwrap();
    let error = check(&model_of(9), || "7 positions".into()).unwrap_err();
    assert!(error.contains("position 7: the model has 7 learned positions"), "{error}");
    let error = check(&model_of(2), || "no position".into()).unwrap_err();
    assert_eq!(error, "tensor 'position_embd.weight' has shape [64, 2], expected [64, 3]");
    let model = tiny::load(&model_of(10), &LoadOptions::default()).unwrap();
    assert_eq!(model.hparams().unwrap().n_ctx_train, 2048);
}

#[test]
fn sparse_models_are_not_dense_ones() {
    let mut bytes = tiny_archs::bytes(&tiny_archs::spec("bamboo"));
    bytes[..4].copy_from_slice(b"PWRI");
    let error = check(&bytes, || "PWRI".into()).unwrap_err();
    let expected = "tensor 'blk.0.ffn_down_t.weight' is missing (expected shape [64, 96])";
    assert_eq!(error, expected);
}

/// The error about a sparse model with another tensor of this name, or without it.
fn with_sparse_tensor(name: &str, edit: Option<&dyn Fn(&mut Tensor)>) -> String {
    let bytes = tiny_sparse::edited_bytes(&tiny_sparse::MICRO, |_, all| match edit {
        Some(edit) => edit(all.iter_mut().find(|t| t.name == name).unwrap()),
        None => all.retain(|t| t.name != name),
    });
    check(&bytes, || name.into()).expect_err("loading refuses")
}

#[test]
fn sparse_models_want_all_they_are_made_of() {
    check(&tiny_sparse::bytes(&tiny_sparse::MICRO), || "sparse".into()).unwrap();
    for part in ["fc1", "fc2", "ffn_down_t", "ffn_gate", "ffn_up"] {
        let name = format!("blk.0.{part}.weight");
        let error = with_sparse_tensor(&name, None);
        assert!(error.starts_with(&format!("tensor '{name}' is missing")), "{error}");
    }
}

#[test]
fn predictors_that_do_not_fit_are_refused_by_name() {
    // n_embd and rank are 32, n_ff is 20.
    let shaped = |dims: &'static [usize]| {
        move |t: &mut Tensor| {
            let n_bytes = dims.iter().product::<usize>() * 2;
            (t.dims, t.ty, t.data) = (dims.to_vec(), QuantType::F16, vec![0; n_bytes]);
        }
    };
    let cases: &[(&str, &'static [usize], &str)] = &[
        ("fc1", &[64, 16], "has shape [64, 16], expected [32, 16]"),
        ("fc1", &[32], "'blk.0.fc2.weight' has shape [32, 20], expected [1, 20]"),
        ("fc1", &[32, 2, 3], "has shape [32, 2, 3], expected [32, 6]"),
        ("fc1", &[32, 31], "'blk.0.fc2.weight' has shape [32, 20], expected [31, 20]"),
        ("fc2", &[32, 19], "has shape [32, 19], expected [32, 20]"),
        ("fc2", &[32, 21], "has shape [32, 21], expected [32, 20]"),
        ("fc2", &[20, 32], "has shape [20, 32], expected [32, 20]"),
        ("fc2", &[32], "has shape [32], expected [32, 20]"),
        ("ffn_down_t", &[20, 32], "has shape [20, 32], expected [32, 20]"),
        ("ffn_down_t", &[32, 21], "has shape [32, 21], expected [32, 20]"),
    ];
    for &(part, dims, expected) in cases {
        let edit = shaped(dims);
        let error = with_sparse_tensor(&format!("blk.0.{part}.weight"), Some(&edit));
        assert!(error.starts_with("tensor 'blk.0.f"), "{part} {dims:?}: {error}");
        assert!(error.contains(expected), "{part} {dims:?}: {error}");
    }
    // Of no rank, or of more than the file can hold.
    let none = |t: &mut Tensor| (t.dims, t.data) = (vec![32, 0], Vec::new());
    let error = with_sparse_tensor("blk.0.fc1.weight", Some(&none));
    assert_eq!(error, "tensor 'blk.0.fc1.weight' has shape [32, 0], expected [32, 1]");
    for rank in [1 << 40, 1 << 58] {
        let mut bytes = tiny_sparse::bytes(&tiny_sparse::MICRO);
        patch_rank(&mut bytes, "blk.0.fc1.weight", rank);
        let error = check(&bytes, || format!("rank {rank}")).unwrap_err();
        assert!(error.contains("tensor 'blk.0.fc"), "{rank}: {error}");
    }
    // Nothing computes with these.
    for part in ["fc1", "fc2", "ffn_down_t", "ffn_gate", "ffn_up"] {
        for ty in [QuantType::F64, QuantType::I32, QuantType::Q8_1] {
            let name = format!("blk.0.{part}.weight");
            let error = with_sparse_tensor(
                &name,
                Some(&|t: &mut Tensor| {
                    t.ty = ty;
                    t.dims[0] = 32;
                    let row = ty.row_bytes(32).unwrap() as usize;
                    t.data = vec![0; t.dims[1] * row];
                }),
            );
            let expected = format!("tensor '{name}' has type {ty}, which is not supported");
            assert_eq!(error, expected);
        }
    }
}

/// Puts another number of rows into the tensor table.
fn patch_rank(bytes: &mut [u8], name: &str, rank: u64) {
    let at = bytes.windows(name.len()).position(|w| w == name.as_bytes()).unwrap();
    // Behind the name: number of dimensions, the first, the second.
    let at = at + name.len() + 4 + 8;
    bytes[at..at + 8].copy_from_slice(&rank.to_le_bytes());
}

#[test]
fn thresholds_that_are_no_numbers_are_refused_by_key() {
    let with = |value: Value| {
        let bytes = tiny_sparse::edited_bytes(&tiny_sparse::MICRO, |w, _| {
            w.set("powerinfer.sparse_threshold", value).unwrap();
        });
        check(&bytes, || "threshold".into())
    };
    for value in [Value::F32(f32::NAN), Value::F64(f64::NAN), Value::Str("much".into())] {
        let error = with(value).unwrap_err();
        assert!(error.starts_with("powerinfer.sparse_threshold: "), "{error}");
        assert!(error.ends_with(" is not a number"), "{error}");
    }
    // All neurons, none, whole numbers: choices.
    for value in [Value::F32(f32::NEG_INFINITY), Value::F32(f32::INFINITY), Value::I32(-1)] {
        with(value).unwrap();
    }
}

/// Damaged predictors and neurons: NaN scores, infinite gates, scales of any size.
#[test]
fn bits_of_sparse_models() {
    let specs = [tiny_sparse::MICRO, tiny_sparse::spec("opt"), tiny_sparse::spec("llama-small")];
    for spec in specs {
        let mut bytes = tiny_sparse::bytes(&spec);
        let data = parse(&bytes, "tiny").unwrap().data_offset as usize;
        for bit in (0..data * 8).step_by(13) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = check(&bytes, || format!("{}: bit {bit}", spec.name));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for (i, token) in tiny::tokens(500, (bytes.len() - data) * 8).into_iter().enumerate() {
            let bit = data * 8 + token as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&bytes, || format!("{}: the first {i} bits", spec.name)).unwrap();
        }
    }
}

/// Sizes inside the limits that the file has no numbers for.
#[test]
fn the_largest_allowed_sizes_take_no_memory() {
    // What a process makes once, such as the tables of Unicode, is not the files' doing.
    tiny::load(&tiny::bytes(&MICRO), &LoadOptions::default()).unwrap();
    for (key, value) in [
        ("embedding_length", 1 << 18),
        ("block_count", 1024),
        ("feed_forward_length", 1 << 18),
        ("attention.head_count", 4096),
        ("attention.key_length", 1 << 17),
        ("vocab_size", u32::MAX),
    ] {
        let bytes = tiny::edited_bytes(&MICRO, |w, _| {
            w.set(&format!("llama.{key}"), Value::U32(value)).unwrap();
            if key == "vocab_size" {
                w.set("tokenizer.ggml.model", Value::Str(ByteStr::from("none"))).unwrap();
                w.remove("tokenizer.ggml.tokens").unwrap();
            }
        });
        let (result, peak) = meter::peak(|| check(&bytes, || key.into()));
        assert!(result.is_err(), "{key}");
        assert!(peak < 1 << 20, "{key}: {peak} bytes");
    }
}

#[test]
fn an_empty_vocabulary_is_refused() {
    let bytes = tiny::edited_bytes(&MICRO, |w, _| {
        w.set("tokenizer.ggml.tokens", Value::Array(Array::Str(<_>::default()))).unwrap();
        w.set("tokenizer.ggml.add_bos_token", Value::Bool(false)).unwrap();
    });
    let error = check(&bytes, || "no tokens".into()).unwrap_err();
    assert_eq!(error, "key 'tokenizer.ggml.tokens' has 0 tokens, expected 1 to 16777216");
}

/// The longest context that a file can claim costs what is used of it.
#[test]
fn a_long_context_costs_what_is_used_of_it() {
    let bytes = tiny::edited_bytes(&MICRO, |w, _| {
        w.set("llama.context_length", Value::U32(1 << 24)).unwrap();
    });
    let model = tiny::load(&bytes, &LoadOptions::default()).unwrap();
    let params = ContextParams { n_ctx: 0, n_threads_batch: 1, ..ContextParams::default() };
    let (ctx, peak) = meter::peak(|| model.context(params));
    let mut ctx = ctx.unwrap();
    assert_eq!(ctx.sizes().n_ctx, 1 << 24);
    // Keys and values of 32 bytes each, which the system gives when they are written.
    let kv = (2 * 32) << 24;
    assert!(peak < kv + (1 << 20), "{peak}");
    let batch = Batch { input: Input::Tokens(&[1, 2]), pos: None, seq_ids: None, outputs: None };
    ctx.decode(&batch).unwrap();
}

/// A context that no machine has the addresses for, of heads as wide as a small file can have.
#[test]
fn a_context_too_long_for_memory_is_refused() {
    let (head_dim_k, head_dim_v) = (16384, 16384);
    let wide = Spec { n_head: 1, head_dim_k, head_dim_v, rope: Rope::Plain, ..MICRO };
    let model = tiny::load(&tiny::bytes(&wide), &LoadOptions::default()).unwrap();
    decode(&model).unwrap();
    let (type_k, type_v) = (QuantType::F32, QuantType::F32);
    for n_seq_max in [1, 256] {
        let params = ContextParams { n_ctx: u32::MAX, n_seq_max, type_k, type_v, ..<_>::default() };
        let error = model.context(params).err().unwrap().to_string();
        assert!(error.starts_with("out of memory"), "{error}");
    }
}
