//! LoRA adapters and control vectors against llama.cpp, and in sparse runs against dense ones, on
//! tiny models.
//!
//! `data/adapters.json` has llama.cpp's logits of models' twins in F32 with one adapter, with two,
//! and with a control vector, made by `tools/adapter_goldens.py`.

mod common;

use std::sync::Arc;

use common::tiny_lora::{self, Shape};
use common::{decode, nmse, tiny, tiny_archs, tiny_sparse};
use powerinfer::adapter::{Adapted, ControlVector, Error, Lora};
use powerinfer::engine::{Context, ContextParams};
use powerinfer::gguf::{Array, LoadOptions, ModelFiles, Value as GgufValue};
use powerinfer::model::Model;
use powerinfer::plan::StepKind;
use powerinfer::quant::QuantType::{self, F32};
use powerinfer::quant::dequantize_row;
use powerinfer::sparse::{Mode, Options, Sparse};
use serde_json::Value;

/// Tokens decoded at once, of which the last one's logits are compared; single ones follow.
const BATCH: usize = 24;
const SINGLE: usize = 4;

/// A model, its twin, and what is added to it.
struct Case {
    name: &'static str,
    n_vocab: usize,
    model: Vec<u8>,
    twin: Vec<u8>,
    adapters: [Vec<u8>; 2],
    control: Vec<f32>,
}

/// Attention apart, fused, with biases; gates, plain, parallel, sandwiched, normed networks; experts
/// with biases, factors and one that computes every token; scaled and tied embeddings.
const LLAMAS: &[&str] = &["gqa", "fused-biases-apart"];
const OTHERS: &[&str] = &[
    "arcee",
    "bitnet",
    "falcon-40b",
    "gemma2",
    "gemma3n",
    "gpt-oss",
    "gpt2",
    "granite",
    "mixtral",
    "qwen2moe",
    "smallthinker",
];

const ROUTED: &[&str] = &["gpt-oss", "mixtral", "qwen2moe", "smallthinker"];

fn cases() -> Vec<Case> {
    let case = |name, n_vocab, (n_embd, n_layer), seed, model, twin: Vec<u8>| Case {
        name,
        n_vocab,
        model,
        // Gemma 3n has 22 layers.
        adapters: tiny_lora::pair_as_strong_as(if n_layer > 9 { 0.25 } else { 1.0 }, &twin, seed),
        control: tiny_lora::control_vector(n_embd, n_layer, seed),
        twin,
    };
    let llamas = LLAMAS.iter().map(|name| {
        let s = tiny::spec(name);
        let shape = (s.n_embd, s.n_layer);
        case(s.name, s.n_vocab, shape, s.seed, tiny::bytes(&s), tiny::twin_bytes(&s))
    });
    let others = OTHERS.iter().map(|name| {
        let s = tiny_archs::spec(name);
        let (n_vocab, shape) = (tiny_archs::N_VOCAB, (tiny_archs::N_EMBD, s.n_layer));
        case(s.name, n_vocab, shape, s.seed, tiny_archs::bytes(&s), tiny_archs::twin_bytes(&s))
    });
    llamas.chain(others).collect()
}

/// Logits of the last token of a batch, and of the last one of single tokens after it.
fn logits(ctx: &mut Context, n_vocab: usize) -> Vec<Vec<f32>> {
    ctx.kv_mut().clear(false);
    let tokens = tiny::tokens(BATCH + SINGLE, n_vocab);
    decode(ctx, &tokens[..BATCH], false);
    let mut all = vec![ctx.outputs().logits_ith(-1).unwrap().to_vec()];
    for token in &tokens[BATCH..] {
        decode(ctx, &[*token], true);
    }
    all.push(ctx.outputs().logits_ith(-1).unwrap().to_vec());
    all
}

fn rows(truth: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| -> Vec<f32> {
        row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    truth.as_array().unwrap().iter().map(row).collect()
}

/// What a run has: adapters with scales, layers of the control vector.
type Added<'a> = (&'a str, &'a [(usize, f32)], Option<(i32, i32)>);

/// As in `tools/adapter_goldens.py`.
const RUNS: [Added<'static>; 4] = [
    ("plain", &[], None),
    ("one", &[(0, 1.0)], None),
    ("two", &[(0, 0.75), (1, -0.5)], None),
    ("control", &[(1, 0.5)], Some((1, 2))),
];

fn set(ctx: &mut Context, loras: &[Arc<Lora>], control: &[f32], (_, wanted, layers): Added<'_>) {
    let wanted: Vec<_> = wanted.iter().map(|&(i, scale)| (Arc::clone(&loras[i]), scale)).collect();
    ctx.set_loras(&wanted).unwrap();
    match layers {
        Some((start, end)) => ctx.set_control_vector(control, start, end).unwrap(),
        None => ctx.clear_control_vector().unwrap(),
    }
}

fn bound(name: &str, reference: bool) -> f64 {
    match (reference, name) {
        // What is rounded adds up over 22 layers.
        (false, "gemma3n") => 3e-3,
        (false, _) => 1e-3,
        // llama.cpp looks GELU up in a table of F16.
        (_, "falcon-40b" | "gemma2" | "gemma3n" | "gpt2") => 1e-6,
        _ => 1e-10,
    }
}

#[test]
fn logits_equal_llama_cpp() {
    let goldens: Value = serde_json::from_str(include_str!("data/adapters.json")).unwrap();
    let mut failures = Vec::new();
    for case in cases() {
        let golden = &goldens["models"][case.name];
        for (file, bytes) in ["twin", "lora-0", "lora-1"].iter().zip([
            &case.twin,
            &case.adapters[0],
            &case.adapters[1],
        ]) {
            let again = "run tests/tools/adapter_goldens.py";
            assert_eq!(golden[file], tiny::fingerprint(bytes), "{} {file}: {again}", case.name);
        }
        for reference in [true, false] {
            if !reference && ROUTED.contains(&case.name) {
                continue; // what is rounded turns a router here and there
            }
            let model = tiny::bare_model_of(&case.model);
            let mut ctx = common::context(&model, |p| (p.reference, p.n_ctx) = (reference, 64));
            let loras = case.adapters.each_ref().map(|a| tiny_lora::load(a, &model).unwrap());
            let mut plain = Vec::new();
            for run in RUNS {
                set(&mut ctx, &loras, &case.control, run);
                let ours = logits(&mut ctx, case.n_vocab);
                if run.0 == "plain" {
                    plain = ours;
                    continue;
                }
                let error = nmse(&ours, &rows(&golden[run.0]));
                if error.is_nan() || error >= bound(case.name, reference) {
                    failures.push(format!("{} {}: NMSE {error:e}", case.name, run.0));
                }
                // Else nothing was tested.
                assert!(nmse(&ours, &plain) > 1e-2, "{} {}", case.name, run.0);
            }
            set(&mut ctx, &loras, &case.control, RUNS[0]);
            assert_eq!(logits(&mut ctx, case.n_vocab), plain, "{}: taken away again", case.name);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A way to run a model.
fn context(bytes: &[u8], mode: Mode, change: impl FnOnce(&mut ContextParams)) -> Context {
    context_with(bytes, mode, None, change)
}

fn context_with(
    bytes: &[u8],
    mode: Mode,
    all_rows_from: Option<f32>,
    change: impl FnOnce(&mut ContextParams),
) -> Context {
    let options = Options { mode, ..Options::default() };
    let file = tiny::unnamed_file(bytes);
    let files = ModelFiles::open_file(file, "tiny.gguf", &LoadOptions::default()).unwrap();
    let model = Model::load(files, false, options.skipping(), &mut |_| true).unwrap();
    let mut sparse = Sparse::new(model.plan(), &options);
    if let Some(all_rows_from) = all_rows_from {
        sparse = sparse.with_all_rows_from(all_rows_from);
    }
    let params = common::params(|p| {
        p.n_ctx = 64;
        change(p);
    });
    Context::new(Arc::new(model), Arc::new(sparse), params).unwrap()
}

/// Logits of all tokens, so many at once after a prompt.
fn run(ctx: &mut Context, n_vocab: usize, at_once: usize) -> Vec<Vec<f32>> {
    let tokens = tiny::tokens(34, n_vocab);
    let mut all = Vec::new();
    for part in [&tokens[..10]].into_iter().chain(tokens[10..].chunks(at_once)) {
        decode(ctx, part, true);
        let rows = (0..part.len()).map(|i| ctx.outputs().logits_ith(i as i32).unwrap().to_vec());
        all.extend(rows);
    }
    all
}

fn adapt(ctx: &mut Context, adapters: &[Vec<u8>; 2]) {
    let loras = adapters.each_ref().map(|a| tiny_lora::load(a, ctx.model()).unwrap());
    ctx.set_loras(&[(Arc::clone(&loras[0]), 1.0), (Arc::clone(&loras[1]), 0.5)]).unwrap();
}

/// Which neurons fire is decided by the adapted gates: an exact run with adapters is the dense run
/// with adapters, by lists or by whole matrices, with any number of threads and tokens at once.
#[test]
fn exact_gates_see_the_adapters() {
    for name in ["arcee", "nemotron", "bamboo", "bitnet-b1.58", "llama-relu", "smallthinker"] {
        let spec = tiny_archs::spec(name);
        let (bytes, n_vocab) = (tiny_archs::bytes(&spec), tiny_archs::N_VOCAB);
        let adapters = tiny_lora::pair(&bytes, 1);
        let run_as = |mode, all_rows_from, at_once, reference| {
            let mut ctx = context_with(&bytes, mode, all_rows_from, |p| {
                (p.reference, p.n_threads, p.n_threads_batch) = (reference, 2, at_once % 4 + 1);
                // A last bit must not turn the rounding of a key or value.
                (p.type_k, p.type_v) = (F32, F32);
            });
            adapt(&mut ctx, &adapters);
            run(&mut ctx, n_vocab, at_once)
        };
        let truth = run_as(Mode::Off, None, 1, true);
        assert_eq!(truth, run_as(Mode::Exact, None, 1, true), "{name}, reference");
        let dense = run_as(Mode::Off, None, 1, false);
        let ours = run_as(Mode::Exact, Some(2.0), 1, false);
        // The way back sums neurons in another order than the dense product.
        assert!(nmse(&ours, &dense) < 1e-10, "{name}: {}", nmse(&ours, &dense));
        let error = nmse(&dense, &truth);
        assert!(error < 1e-3 || ROUTED.contains(&name), "{name}: {error:e}");
        for (all_rows_from, at_once) in [(2.0, 3), (2.0, 8), (1e-9, 1), (0.4, 5), (2.0, 12)] {
            let run = run_as(Mode::Exact, Some(all_rows_from), at_once, false);
            assert_eq!(ours, run, "{name}, lists below {all_rows_from}, {at_once} at once");
        }
    }
}

/// Files of PowerInfer, whose way back lies by neurons: all neurons, or those that fire, with the
/// same adapters as the ordinary file of the same numbers.
#[test]
fn files_of_powerinfer_take_the_adapters_of_ordinary_ones() {
    for name in ["llama", "llama-q4_0", "falcon-40b", "bamboo", "opt-q8_0"] {
        let spec = tiny_sparse::spec(name);
        let (bytes, twin) = (tiny_sparse::bytes(&spec), tiny_sparse::twin_bytes(&spec));
        let adapters = tiny_lora::pair(&twin, 6);
        let run_as = |bytes: &[u8], mode, reference| {
            let mut ctx = context(bytes, mode, |p| p.reference = reference);
            let plain = run(&mut ctx, tiny_sparse::N_VOCAB, 1);
            ctx.kv_mut().clear(false);
            adapt(&mut ctx, &adapters);
            let ours = run(&mut ctx, tiny_sparse::N_VOCAB, 3);
            assert!(nmse(&ours, &plain) > 1e-2, "{name}");
            ours
        };
        let truth = run_as(&twin, Mode::Off, true);
        for mode in [Mode::Off, Mode::Exact] {
            let error = nmse(&run_as(&bytes, mode, true), &truth);
            assert!(error < 1e-10, "{name}, {mode:?}, reference: {error:e}");
            let error = nmse(&run_as(&bytes, mode, false), &truth);
            assert!(error < 2e-3, "{name}, {mode:?}: {error:e}");
        }
        // Guesses are the file's; what is added counts all the same.
        run_as(&bytes, Mode::Predictor, false);
    }
}

/// The same numbers in every type give the same bits; what tokens are together in a batch, and how
/// many threads compute them, changes nothing.
#[test]
fn types_batches_and_threads_change_nothing() {
    let spec = tiny::spec("gqa");
    let model = tiny::bytes(&spec);
    for ty in [QuantType::F16, QuantType::BF16, QuantType::Q8_0, QuantType::Q4_0] {
        let shape = Shape { rank: 32, alpha: Some(16.0), ty, gain: 0.5, seed: 9 };
        let typed = tiny_lora::bytes(&model, shape);
        let plain = tiny_lora::edited_bytes(&model, shape, |_, tensors| {
            for t in tensors {
                let mut numbers = vec![0.0; t.dims.iter().product()];
                dequantize_row(ty, &t.data, &mut numbers).unwrap();
                (t.ty, t.data) = (F32, tiny::quantized(F32, &numbers));
            }
        });
        let run_as = |adapter: &[u8], at_once, n_threads| {
            let mut ctx = context(&model, Mode::Off, |p| {
                (p.n_threads, p.n_threads_batch) = (n_threads, n_threads);
            });
            let lora = tiny_lora::load(adapter, ctx.model()).unwrap();
            ctx.set_loras(&[(lora, 1.0)]).unwrap();
            run(&mut ctx, spec.n_vocab, at_once)
        };
        let truth = run_as(&plain, 1, 1);
        assert_eq!(truth, run_as(&typed, 1, 1), "{ty}");
        assert_eq!(truth, run_as(&typed, 8, 3), "{ty}, 8 tokens at once in 3 threads");
    }
}

/// Logits with pairs for the embeddings alone are those of a model whose table has them added in;
/// where the table makes logits too, it is adapted as embeddings alone, as PEFT does it.
#[test]
fn embeddings_are_looked_up_with_what_is_added() {
    for name in ["gemma2", "mixtral"] {
        let spec = tiny_archs::spec(name);
        let model = tiny_archs::twin_bytes(&spec);
        let (n_embd, n_vocab, rank) = (tiny_archs::N_EMBD, tiny_archs::N_VOCAB, 3);
        let mut rng = tiny::Rng(17);
        let a = rng.numbers(rank * n_vocab, 0.0, 1.0);
        let b = rng.numbers(rank * n_embd, 0.0, 1.0);
        let shape = Shape { rank, alpha: None, ty: F32, gain: 1.0, seed: 1 };
        let adapter = tiny_lora::edited_bytes(&model, shape, |_, tensors| {
            let half = |half: &str, n, numbers: &[f32]| tiny::Tensor {
                name: format!("token_embd.weight.{half}"),
                dims: vec![rank, n],
                ty: F32,
                data: tiny::quantized(F32, numbers),
            };
            *tensors = vec![half("lora_a", n_vocab, &a), half("lora_b", n_embd, &b)];
        });
        let model = tiny::bare_model_of(&model);
        let params = |p: &mut ContextParams| (p.reference, p.n_ctx) = (true, 64);
        let mut ctx = common::context(&model, params);
        let plain = logits(&mut ctx, n_vocab);
        ctx.set_loras(&[(tiny_lora::load(&adapter, &model).unwrap(), 0.5)]).unwrap();
        let ours = logits(&mut ctx, n_vocab);

        let id = model.weights().iter().position(|w| w.name == "token_embd.weight").unwrap();
        let table: Vec<f32> = model.weights()[id]
            .data
            .as_deref()
            .unwrap()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let tokens = tiny::tokens(BATCH + SINGLE, n_vocab);
        let mut embeddings = Vec::new();
        for t in tokens {
            for i in 0..n_embd {
                let added: f32 =
                    (0..rank).map(|k| a[t as usize * rank + k] * b[i * rank + k] * 0.5).sum();
                embeddings.push(table[t as usize * n_embd + i] + added);
            }
        }
        // Embeddings that the caller gives are what they are, the adapter still set.
        ctx.kv_mut().clear(false);
        let mut given = |x: &[f32]| {
            let n = x.len() / n_embd;
            let outputs: Vec<bool> = (0..n).map(|i| i + 1 == n).collect();
            let input = powerinfer::engine::Input::Embeddings(x);
            let batch = powerinfer::engine::Batch {
                input,
                pos: None,
                seq_ids: None,
                outputs: Some(&outputs),
            };
            ctx.decode(&batch).unwrap();
            ctx.outputs().logits_ith(-1).unwrap().to_vec()
        };
        let first = given(&embeddings[..BATCH * n_embd]);
        let rest: Vec<_> = embeddings[BATCH * n_embd..].chunks(n_embd).map(&mut given).collect();
        let truth = [first, rest[SINGLE - 1].clone()];
        let error = nmse(&ours, &truth);
        assert!(error < 1e-10, "{name}: {error:e}");
        assert!(nmse(&ours, &plain) > 1e-2, "{name}");
    }
}

/// Every layer but the first gets its direction, in each of the streams that leave it.
#[test]
fn every_architecture_has_ends_of_layers() {
    for spec in tiny_archs::SPECS {
        let model = tiny::bare_model_of(&tiny_archs::bytes(spec));
        let mut control = ControlVector::default();
        let directions = vec![1.0; tiny_archs::N_EMBD * (spec.n_layer - 1)];
        control.set(tiny_archs::N_EMBD, spec.n_layer, &directions, 0, 1000);
        let plan = Adapted::new(&model, [], &control).unwrap().unwrap().plan;
        let n_streams = if spec.arch == "gemma3n" { 4 } else { 1 };
        let added: Vec<(&str, &str)> = plan
            .steps
            .iter()
            .filter(|s| s.name.starts_with("cvec-"))
            .map(|step| match &step.kind {
                StepKind::AddRow { dst, .. } => (&*step.name, plan.slot(*dst).name),
                other => panic!("{}: {other:?}", spec.name),
            })
            .collect();
        assert_eq!(added.len(), n_streams * (spec.n_layer - 1), "{}: {added:?}", spec.name);
        for (i, (step, slot)) in added.iter().enumerate() {
            // Bloom's stream is what comes out of the embeddings' norm.
            let first = if spec.arch == "bloom" { "normed_residual" } else { "residual" };
            let slots = [first, "altup_1", "altup_2", "altup_3"];
            let expected = (format!("cvec-{}", i / n_streams + 1), slots[i % n_streams]);
            assert_eq!((step.to_string(), *slot), expected, "{}", spec.name);
        }
    }
}

/// Layers outside of the range get nothing, the first one never does, and data that is too short
/// leaves what was there.
#[test]
fn control_vectors_have_layers() {
    let case = cases().swap_remove(0);
    let model = tiny::bare_model_of(&case.model);
    let mut ctx = common::context(&model, |p| p.n_ctx = 64);
    let plain = logits(&mut ctx, case.n_vocab);
    let mut with = |data: &[f32], start, end| {
        ctx.set_control_vector(data, start, end).unwrap();
        logits(&mut ctx, case.n_vocab)
    };
    let n_embd = case.control.len() / 2;
    let all = with(&case.control, 0, 2);
    for (start, end) in [(i32::MIN, i32::MAX), (1, 2), (1, 100)] {
        assert_eq!(with(&case.control, start, end), all);
    }
    for (start, end) in [(0, 0), (3, 9), (2, 1), (-5, 0), (i32::MAX, i32::MIN)] {
        assert_eq!(with(&case.control, start, end), plain, "{start} to {end}");
    }
    let second = with(&case.control, 2, 2);
    assert_ne!(second, all);
    assert_eq!(with(&[], 1, 2), all, "nothing new: what was there");
    let mut zero_first = vec![0.0; n_embd];
    assert_eq!(with(&zero_first, 1, 2), second, "the first half is new");
    zero_first.extend(vec![0.0; n_embd + 10]);
    assert_eq!(with(&zero_first, 1, 2), plain);
    ctx.clear_control_vector().unwrap();
    assert_eq!(logits(&mut ctx, case.n_vocab), plain);
}

/// What the sets of a context mean: zero is nothing, an adapter counts once, order is nothing.
#[test]
fn sets_of_adapters() {
    let case = cases().swap_remove(0);
    let model = tiny::bare_model_of(&case.model);
    let mut ctx = common::context(&model, |p| (p.reference, p.n_ctx) = (true, 64));
    let plain = logits(&mut ctx, case.n_vocab);
    let [a, b] = case.adapters.each_ref().map(|a| tiny_lora::load(a, &model).unwrap());
    let mut with = |list: &[(&Arc<Lora>, f32)]| {
        let list: Vec<_> = list.iter().map(|(lora, scale)| (Arc::clone(lora), *scale)).collect();
        ctx.set_loras(&list).unwrap();
        logits(&mut ctx, case.n_vocab)
    };
    let one = with(&[(&a, 1.0)]);
    assert_ne!(one, plain);
    assert_eq!(with(&[(&b, 0.0), (&a, 1.0)]), one);
    assert_eq!(with(&[(&a, 1.0), (&a, 3.0)]), one);
    let two = with(&[(&a, 1.0), (&b, 1.0)]);
    assert!(nmse(&with(&[(&b, 1.0), (&a, 1.0)]), &two) < 1e-10);
    assert_ne!(with(&[(&a, 2.0)]), one);
    assert_eq!(with(&[(&a, 0.0)]), plain);
    assert_eq!(with(&[]), plain);
}

#[test]
fn bad_files_are_refused_by_what_is_wrong() {
    let spec = tiny::spec("gqa");
    let bytes = tiny::bytes(&spec);
    let model = tiny::bare_model_of(&bytes);
    let shape = Shape { rank: 4, alpha: Some(4.0), ty: F32, gain: 1.0, seed: 3 };
    let error = |edit: &dyn Fn(&mut powerinfer::gguf::Writer, &mut Vec<tiny::Tensor>)| {
        let file = tiny_lora::edited_bytes(&bytes, shape, edit);
        tiny_lora::load(&file, &model).map(|_| ()).map_err(|e: Error| e.to_string())
    };
    assert_eq!(error(&|_, _| {}), Ok(()));
    let set = |key: &'static str, value: &'static str| {
        error(&move |keys, _| keys.set(key, GgufValue::Str(value.into())).unwrap()).unwrap_err()
    };
    assert!(set("general.type", "model").contains("'general.type' is 'model'"));
    assert!(set("adapter.type", "ia3").contains("'adapter.type' is 'ia3'"));
    let arch = set("general.architecture", "qwen2");
    assert!(arch.contains("'qwen2', expected 'llama'"), "{arch}");
    assert!(set("adapter.lora.alpha", "one").contains("alpha"));
    assert!(set("adapter.alora.invocation_tokens", "1 2").contains("no array of u32"));
    let i32s = error(&|keys, _| {
        let ids = GgufValue::Array(Array::I32(vec![1, 2]));
        keys.set("adapter.alora.invocation_tokens", ids).unwrap();
    });
    assert!(i32s.unwrap_err().contains("no array of u32"));

    let named = |from: &'static str, to: &'static str| {
        error(&move |_, all| {
            let tensor = all.iter_mut().find(|t| t.name == from).unwrap();
            tensor.name = to.into();
        })
    };
    let (a, b) = ("blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b");
    assert!(named(a, "blk.1.attn_q.weight.lora_c").unwrap_err().contains("lora_c' ends neither"));
    assert!(named(b, "blk.9.attn_q.weight.lora_b").unwrap_err().contains("has no lora_"));
    assert_eq!(named(a, "attn_norm.weight").unwrap_err(), "'blk.1.attn_q.weight' has no lora_a");
    let unknown = error(&|_, all| {
        all.iter_mut().for_each(|t| t.name = t.name.replace("blk.2", "blk.3"));
    });
    assert!(unknown.unwrap_err().contains("no tensor 'blk.3."));

    let shaped = |name: &'static str, dims: &'static [usize]| {
        error(&move |_, all| {
            let tensor = all.iter_mut().find(|t| t.name == name).unwrap();
            let data = vec![0.0; dims.iter().product()];
            (tensor.dims, tensor.data) = (dims.to_vec(), tiny::quantized(F32, &data));
        })
    };
    assert_eq!(shaped(a, &[64, 4]), Ok(()));
    for dims in [&[32, 4][..], &[64, 5], &[4, 64], &[64, 4, 2], &[64]] {
        let text = shaped(a, dims).unwrap_err();
        assert!(text.contains("do not fit"), "{dims:?}: {text}");
    }
    for dims in [&[4, 63][..], &[5, 64], &[64, 4], &[4, 64, 3]] {
        assert!(shaped(b, dims).unwrap_err().contains("do not fit"), "{dims:?}");
    }
    let of_type = error(&|_, all| {
        let tensor = all.iter_mut().find(|t| t.name == a).unwrap();
        tensor.ty = QuantType::I32;
    });
    assert!(of_type.unwrap_err().contains("type i32"));

    let file = tiny_lora::bytes(&bytes, shape);
    for cut in [0, 3, 24, 100, file.len() / 2, file.len() - 1] {
        assert!(tiny_lora::load(&file[..cut], &model).is_err(), "{cut} bytes");
    }
    assert!(tiny_lora::load(&bytes, &model).is_err(), "a model is no adapter");
}

/// Norms that come along are left out, and so are pairs for what is never multiplied.
#[test]
fn what_is_not_adapted_is_left_out() {
    let spec = tiny_archs::spec("gpt2");
    let bytes = tiny_archs::bytes(&spec);
    let model = tiny::bare_model_of(&bytes);
    let shape = Shape { rank: 4, alpha: None, ty: F32, gain: 1.0, seed: 3 };
    let adapter = tiny_lora::edited_bytes(&bytes, shape, |_, all| {
        let tensor = |name: &str, dims: &[usize]| tiny::Tensor {
            name: name.into(),
            dims: dims.to_vec(),
            ty: F32,
            data: tiny::quantized(F32, &vec![1.0; dims.iter().product()]),
        };
        *all = vec![
            tensor("blk.0.attn_norm.weight", &[tiny_archs::N_EMBD]),
            tensor("position_embd.weight.lora_a", &[tiny_archs::N_EMBD, 4]),
            tensor("position_embd.weight.lora_b", &[4, 256]),
        ];
    });
    let mut ctx = common::context(&model, |p| p.n_ctx = 64);
    let plain = logits(&mut ctx, tiny_archs::N_VOCAB);
    ctx.set_loras(&[(tiny_lora::load(&adapter, &model).unwrap(), 1.0)]).unwrap();
    assert_eq!(logits(&mut ctx, tiny_archs::N_VOCAB), plain);
}

/// An adapter for another model is refused by a context, which keeps what it had.
#[test]
fn an_adapter_of_another_model_is_refused() {
    let [small, large] = ["gqa", "tied"].map(|name| tiny::bytes(&tiny::spec(name)));
    let model = tiny::bare_model_of(&small);
    let other = tiny::bare_model_of(&large);
    let adapters = [tiny_lora::pair(&small, 1), tiny_lora::pair(&large, 1)];
    let own = tiny_lora::load(&adapters[0][0], &model).unwrap();
    let foreign = tiny_lora::load(&adapters[1][0], &other).unwrap();
    let mut ctx = common::context(&model, |p| p.n_ctx = 64);
    ctx.set_loras(&[(Arc::clone(&own), 1.0)]).unwrap();
    let ours = logits(&mut ctx, 96);
    assert!(ctx.set_loras(&[(own, 1.0), (foreign, 1.0)]).is_err());
    assert_eq!(logits(&mut ctx, 96), ours);
}

/// Writes what `tools/adapter_goldens.py` wants.
#[test]
#[ignore = "a tool: TINY_MODELS=folder"]
fn write_adapters() {
    let dir = std::path::PathBuf::from(std::env::var_os("TINY_MODELS").unwrap());
    for case in cases() {
        let write = |what: &str, bytes: &[u8]| {
            std::fs::write(dir.join(format!("{}.{what}", case.name)), bytes).unwrap();
        };
        write("twin.gguf", &case.twin);
        write("lora-0.gguf", &case.adapters[0]);
        write("lora-1.gguf", &case.adapters[1]);
        let control: Vec<u8> = case.control.iter().flat_map(|x| x.to_le_bytes()).collect();
        write("control.f32", &control);
    }
}
