//! Skipping neurons changes nothing: models with exact gates give the bytes of the dense run,
//! whatever the type of weights, the number of tokens at once, the number of threads and the lengths
//! of lists.

mod common;

use std::sync::Arc;

use common::tiny::{self, Spec, Tensor};
use common::tiny_archs;
use powerinfer::engine::{Batch, Context, ContextParams, Input};
use powerinfer::gguf::{LoadOptions, ModelFiles, Value};
use powerinfer::model::Model;
use powerinfer::quant::{QuantType, can_quantize, dequantize_row};
use powerinfer::sparse::{Mode, Options, Sparse};

const PROMPT: usize = 21;

/// A model in one of the ways to run it.
struct Way {
    model: Arc<Model>,
    sparse: Arc<Sparse>,
}

fn way(bytes: &[u8], options: &Options) -> Way {
    let file = tiny::unnamed_file(bytes);
    let files = ModelFiles::open_file(file, "tiny.gguf", &LoadOptions::default()).unwrap();
    let model = Model::load(files, false, options.skipping(), &mut |_| true).unwrap();
    let sparse = Arc::new(Sparse::new(model.plan(), options));
    Way { model: Arc::new(model), sparse }
}

fn mode(mode: Mode) -> Options {
    Options { mode, ..Options::default() }
}

impl Way {
    /// Logits of a prompt, and of tokens after it, so many at once.
    fn run(&self, at_once: usize, change: impl FnOnce(&mut ContextParams)) -> Vec<Vec<u32>> {
        let model = Arc::clone(&self.model);
        let params = common::params(|p| {
            p.n_ctx = 256;
            change(p);
        });
        let mut ctx = Context::new(model, Arc::clone(&self.sparse), params).unwrap();
        let n_vocab = self.model.hparams().unwrap().n_vocab;
        let tokens = tiny::tokens(PROMPT + 16, n_vocab);
        let mut all = Vec::new();
        let (prompt, rest) = tokens.split_at(PROMPT);
        for part in [prompt].into_iter().chain(rest.chunks(at_once)) {
            let first = all.len() as i32;
            let pos: Vec<i32> = (first..first + part.len() as i32).collect();
            let outputs = vec![true; part.len()];
            let (pos, outputs) = (Some(&pos[..]), Some(&outputs[..]));
            let batch = Batch { input: Input::Tokens(part), pos, seq_ids: None, outputs };
            ctx.decode(&batch).unwrap();
            for i in 0..part.len() {
                let logits = ctx.outputs().logits_ith(i as i32).unwrap();
                assert!(logits.iter().all(|x| x.is_finite()));
                all.push(logits.iter().map(|x| x.to_bits()).collect());
            }
        }
        all
    }
}

fn assert_same(a: &[Vec<u32>], b: &[Vec<u32>], what: &str) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let n = a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert_eq!(n, 0, "{what}: {n} logits differ at token {i}");
    }
}

/// Largest difference of a logit.
fn difference(a: &[Vec<u32>], b: &[Vec<u32>]) -> f32 {
    let numbers = |x: &[Vec<u32>]| x.concat().into_iter().map(f32::from_bits).collect::<Vec<_>>();
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Holds a model whose neurons are skipped to the dense one. `summed_in_order`: the way back sums
/// neurons in another order than the dense product, which only reference mode may not.
fn check(name: &str, bytes: &[u8], summed_in_order: bool) {
    let (dense, exact) = (way(bytes, &mode(Mode::Off)), way(bytes, &mode(Mode::Exact)));
    assert_ne!(exact.sparse.n_layers(), 0, "{name} skips nothing");
    let truth = dense.run(1, |p| p.reference = true);
    assert_same(&truth, &exact.run(1, |p| p.reference = true), &format!("{name}, reference"));
    let normal = dense.run(1, |_| {});
    let ours = exact.run(1, |_| {});
    match summed_in_order {
        false => assert_same(&normal, &ours, name),
        true => {
            let worst = difference(&normal, &ours);
            assert!(worst < 1e-3, "{name}: {worst}");
        }
    }
    for at_once in 2..=9 {
        let run = exact.run(at_once, |p| p.n_threads_batch = 1 + at_once % 4);
        assert_same(&ours, &run, &format!("{name}, {at_once} tokens at once"));
    }
    for all_rows_from in [1e-9, 0.2, 0.5, 1.0, 2.0] {
        let sparse = Arc::new(exact.sparse.with_all_rows_from(all_rows_from));
        let way = Way { model: Arc::clone(&exact.model), sparse };
        for at_once in [1, 3, 8] {
            let what = format!("{name}, all rows from {all_rows_from}, {at_once} tokens at once");
            assert_same(&ours, &way.run(at_once, |p| p.n_threads = 3), &what);
        }
    }
}

/// Plain numbers are summed neuron by neuron when neurons are skipped.
fn is_plain(ty: QuantType) -> bool {
    matches!(ty, QuantType::F32 | QuantType::F16 | QuantType::BF16)
}

#[test]
fn architectures_with_silent_neurons() {
    for name in ["arcee", "nemotron", "opt", "bamboo", "bitnet-b1.58"] {
        let spec = tiny_archs::spec(name);
        check(name, &tiny_archs::bytes(&spec), true);
    }
    // The way back of experts is the dense product.
    check("smallthinker", &tiny_archs::bytes(&tiny_archs::spec("smallthinker")), false);
}

/// Gates that do not stand out, in the first ten of 12 layers: many enough to make much of the order
/// of a sum, so that the way back is of a type whose sums are the dense ones.
#[test]
fn gates_that_must_stand_out() {
    let spec = tiny_archs::Spec { n_layer: 12, ..tiny_archs::spec("gemma3n") };
    let bytes = tiny_archs::edited_bytes(&spec, |_, all| {
        for t in all.iter_mut().filter(|t| t.name.ends_with("ffn_down.weight")) {
            let mut numbers = vec![0.0; t.dims.iter().product()];
            dequantize_row(t.ty, &t.data, &mut numbers).unwrap();
            (t.ty, t.data) = (QuantType::Q8_0, tiny::quantized(QuantType::Q8_0, &numbers));
        }
    });
    check("gemma3n", &bytes, false);
    let way = way(&bytes, &mode(Mode::Exact));
    assert_eq!(way.sparse.n_layers(), 10);
    assert!((0..10).all(|il| way.sparse.layer(il).is_some()));
}

/// A llama with ReLU whose matrices are all of this type.
fn relu_llama(ty: QuantType) -> Vec<u8> {
    let spec = Spec {
        n_embd: 256,
        n_ff: 512,
        n_layer: 2,
        head_dim_k: 64,
        head_dim_v: 64,
        n_rot: 64,
        types: &[QuantType::F32],
        seed: 71,
        ..tiny::spec("gqa")
    };
    tiny::edited_bytes(&spec, |keys, all: &mut Vec<Tensor>| {
        keys.set("powerinfer.activation", Value::Str("relu".into())).unwrap();
        for t in all.iter_mut().filter(|t| t.dims.len() == 2) {
            let numbers: Vec<f32> =
                t.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            t.data = tiny::quantized(ty, &numbers);
            t.ty = ty;
        }
    })
}

#[test]
fn every_type_of_weights() {
    use QuantType as T;
    for info in powerinfer::quant::types::TYPES {
        let ty = info.ty;
        let weights = !matches!(ty, T::I8 | T::I16 | T::I32 | T::I64 | T::F64 | T::Q8_1 | T::Q8_K);
        if weights && can_quantize(ty) {
            check(&ty.to_string(), &relu_llama(ty), is_plain(ty));
        }
    }
}
