//! Those who look on see every step of a run, by llama.cpp's names, and change nothing.

mod common;

use std::sync::{Arc, Mutex};

use common::tiny_archs;
use common::{context, decode, params, tiny, tiny_lora, tiny_sparse};
use powerinfer::api::{Content, Context, LoadOptions, Model, Node, Observer, Op};
use powerinfer::quant::dequantize_row;

/// Numbers of a value.
type Numbers = (String, [usize; 4], Vec<f32>);

#[derive(Clone)]
struct Seen {
    op: Op,
    value: Numbers,
    sources: Vec<Numbers>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    /// How many more nodes are looked at; the last one ends the run.
    left: Option<usize>,
}

struct Recorder(Arc<Mutex<Log>>);

fn numbers(value: &powerinfer::api::Value<'_>) -> Numbers {
    let x = match value.content {
        Content::F32(x) => x.to_vec(),
        Content::I32(x) => x.iter().map(|&x| x as f32).collect(),
        Content::Weight(ty, bytes) => {
            let n = if bytes.is_empty() { 0 } else { value.ne.iter().product() };
            let mut x = vec![0.0; n];
            let row_bytes = ty.row_bytes(value.ne[0] as u64).unwrap() as usize;
            for (row, x) in bytes.chunks_exact(row_bytes).zip(x.chunks_exact_mut(value.ne[0])) {
                dequantize_row(ty, row, x).unwrap();
            }
            x
        }
    };
    (value.name.to_owned(), value.ne, x)
}

impl Observer for Recorder {
    fn wants(&mut self, node: &Node<'_>) -> bool {
        assert!(!node.sources.is_empty(), "{}", node.value.name);
        true
    }

    fn see(&mut self, node: &Node<'_>) -> bool {
        let mut log = self.0.lock().unwrap();
        let sources = node.sources.iter().map(numbers).collect();
        log.seen.push(Seen { op: node.op, value: numbers(&node.value), sources });
        if let Some(left) = &mut log.left {
            *left -= 1;
            return *left > 0;
        }
        true
    }
}

const TOKENS: usize = 20;

/// Whether products round their inputs to 8 bits; without that, sums alone are rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numerics {
    Fast,
    Reference,
}

fn new_context(model: &Model, numerics: Numerics) -> Context {
    let reference = numerics == Numerics::Reference;
    model.context(params(|p| (p.n_ctx, p.reference) = (256, reference))).unwrap()
}

/// Logits of the last of some tokens, and what was seen on the way.
fn observed(model: &Model, numerics: Numerics, left: Option<usize>) -> (Vec<f32>, Vec<Seen>) {
    let log = Arc::new(Mutex::new(Log { left, ..Log::default() }));
    let mut ctx = new_context(model, numerics);
    ctx.observe(Box::new(Recorder(Arc::clone(&log)))).unwrap();
    decode(&mut ctx, &tiny::tokens(TOKENS, tiny_archs::N_VOCAB), false);
    let logits = ctx.outputs().logits_ith(-1).unwrap().to_vec();
    let seen = log.lock().unwrap().seen.clone();
    (logits, seen)
}

fn plain(model: &Model, numerics: Numerics) -> Vec<f32> {
    let mut ctx = new_context(model, numerics);
    decode(&mut ctx, &tiny::tokens(TOKENS, tiny_archs::N_VOCAB), false);
    ctx.outputs().logits_ith(-1).unwrap().to_vec()
}

/// Distance relative to the greatest number.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |d, (a, b)| d.max((a - b).abs())) / most
}

fn load(bytes: &[u8]) -> Model {
    tiny::load(bytes, &LoadOptions::default()).unwrap()
}

#[test]
fn who_looks_on_changes_nothing() {
    for spec in tiny_archs::SPECS {
        let model = load(&tiny_archs::bytes(spec));
        // A sum in another order may round to another of the 255 steps of 8 bits.
        for (numerics, bound) in [(Numerics::Reference, 1e-5), (Numerics::Fast, 1e-2)] {
            let (logits, seen) = observed(&model, numerics, None);
            let d = apart(&logits, &plain(&model, numerics));
            assert!(d < bound, "{}, {numerics:?}: logits are {d} apart", spec.name);
            assert_eq!(output(&seen), logits, "{}", spec.name);
        }
    }
}

/// Files with predictors guess as long as nobody looks on; then all neurons are computed.
#[test]
fn predictors_do_not_count_for_who_looks_on() {
    for spec in tiny_sparse::SPECS {
        let (logits, seen) = observed(&load(&tiny_sparse::bytes(spec)), Numerics::Reference, None);
        let dense = load(&tiny_sparse::twin_bytes(spec));
        let d = apart(&logits, &plain(&dense, Numerics::Reference));
        assert!(d < 1e-4, "{}: logits are {d} apart from those of the dense twin", spec.name);
        assert_eq!(output(&seen), logits, "{}", spec.name);
    }
}

fn output(seen: &[Seen]) -> &[f32] {
    &seen.iter().rfind(|s| s.value.0 == "result_output").unwrap().value.2
}

/// A product is what its sources say, but for the rounding of sums.
fn check_product(model: &str, seen: &Seen) {
    let [weight, input, ..] = &seen.sources[..] else { panic!("{model}: a product of one") };
    let (n_in, n_out) = (input.1[0], seen.value.1[0]);
    // Laid out anew, or a part of one.
    if weight.2.is_empty() || weight.1[1] != n_out || weight.1[2] > 1 {
        return;
    }
    for (row, (x, y)) in
        input.2.chunks_exact(n_in).zip(seen.value.2.chunks_exact(n_out)).enumerate()
    {
        let truth: Vec<f32> = weight.2[..n_in * n_out]
            .chunks_exact(n_in)
            .map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect();
        let d = apart(y, &truth);
        assert!(d < 1e-5, "{model}: {} row {row} is {d} off", seen.value.0);
    }
}

#[test]
fn products_are_those_of_what_is_shown() {
    for spec in tiny_archs::SPECS {
        let (_, seen) = observed(&load(&tiny_archs::bytes(spec)), Numerics::Reference, None);
        let products: Vec<_> = seen.iter().filter(|s| s.op == Op::MulMat).collect();
        assert!(products.len() >= 4 * spec.n_layer, "{}: {}", spec.name, products.len());
        products.iter().for_each(|seen| check_product(spec.name, seen));
    }
}

#[test]
fn products_of_experts_come_in_the_order_of_tokens() {
    let (_, seen) = observed(
        &load(&tiny_archs::bytes(&tiny_archs::spec("mixtral"))),
        Numerics::Reference,
        None,
    );
    let mut n_seen = 0;
    for seen in seen.iter().filter(|s| s.op == Op::MulMatId) {
        let [weight, input, ids] = &seen.sources[..] else { panic!("three sources") };
        let ([n_in, per_token, n_tokens, _], [n_out, n_used, ..]) = (input.1, seen.value.1);
        assert_eq!(ids.1, [n_used, n_tokens, 1, 1]);
        assert!(per_token == 1 || per_token == n_used);
        for (i, (y, &expert)) in seen.value.2.chunks_exact(n_out).zip(&ids.2).enumerate() {
            let at = i / n_used * per_token + i % n_used % per_token;
            let x = &input.2[at * n_in..][..n_in];
            let w = &weight.2[expert as usize * n_in * n_out..][..n_in * n_out];
            let rows = w.chunks_exact(n_in);
            let truth: Vec<f32> = rows.map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
            let d = apart(y, &truth);
            assert!(d < 1e-5, "{} of token {} is {d} off", seen.value.0, i / n_used);
            n_seen += 1;
        }
    }
    assert!(n_seen > 100, "{n_seen}");
}

/// Names, operations and extents of a layer and of the end, as llama.cpp 0c1e57098 says them, but
/// for views and the cache.
#[test]
fn nodes_have_the_names_of_llama_cpp() {
    let (_, seen) = observed(&load(&tiny::bytes(&tiny::spec("mha"))), Numerics::Fast, None);
    let said: Vec<String> = seen.iter().map(|s| format!("{} {:?}", s.value.0, s.op)).collect();
    let first = [
        "embd GetRows",
        "norm-0 RmsNorm",
        "attn_norm-0 Mul",
        "Qcur-0 MulMat",
        "Kcur-0 MulMat",
        "Vcur-0 MulMat",
        "Qcur-0 Rope",
        "Kcur-0 Rope",
        "kqv_out-0 Attention",
        "attn_out-0 MulMat",
        "ffn_inp-0 Add",
        "norm-0 RmsNorm",
        "ffn_norm-0 Mul",
        "ffn_gate-0 MulMat",
        "ffn_up-0 MulMat",
        "ffn_swiglu-0 Glu(Silu)",
        "ffn_out-0 MulMat",
        "l_out-0 Add",
    ];
    assert_eq!(said[..first.len()], first);
    assert_eq!(said[said.len() - 3..], ["norm RmsNorm", "result_norm Mul", "result_output MulMat"]);
    let find = |name: &str| seen.iter().find(|s| s.value.0 == name).unwrap();
    // All tokens are projected in the last layer too; what follows is of those asked for.
    assert_eq!(find("attn_out-1").value.1, [64, TOKENS, 1, 1]);
    assert_eq!(find("ffn_inp-1").value.1, [64, 1, 1, 1]);
    assert_eq!(find("ffn_out-0").sources[0].0, "blk.0.ffn_down.weight");
    assert_eq!(find("ffn_out-0").sources[1].0, "ffn_swiglu-0");
    let rope = seen.iter().find(|s| s.op == Op::Rope).unwrap();
    assert_eq!(rope.value.1, [16, 4, TOKENS, 1]);
    // Sums are sums: what was there before is what the last node of the same buffer showed.
    let (inp, out) = (find("ffn_inp-0"), find("attn_out-0"));
    let sum: Vec<f32> = out.value.2.iter().zip(&find("embd").value.2).map(|(a, b)| a + b).collect();
    assert_eq!(inp.value.2, sum);
}

#[test]
fn who_looks_on_can_end_a_run() {
    let model = load(&tiny::bytes(&tiny::spec("mha")));
    let (logits, seen) = observed(&model, Numerics::Fast, Some(5));
    assert_eq!(seen.len(), 5);
    assert_ne!(logits, plain(&model, Numerics::Fast));
}

/// Adapters act alike, whether somebody looks on or not, and whoever came first.
#[test]
fn adapters_act_for_who_looks_on() {
    for name in ["smollm3", "mixtral", "llama-relu", "gemma2", "gpt2"] {
        let bytes = tiny_archs::bytes(&tiny_archs::spec(name));
        let model = tiny::bare_model_of(&bytes);
        let lora = tiny_lora::load(&tiny_lora::pair(&bytes, 3)[0], &model).unwrap();
        let logits = |observer_first: Option<bool>| {
            let mut ctx = context(&model, |p| (p.n_ctx, p.reference) = (256, true));
            let log = Arc::new(Mutex::new(Log::default()));
            let observe = |ctx: &mut Context| {
                ctx.observe(Box::new(Recorder(Arc::clone(&log)))).unwrap();
            };
            if observer_first == Some(true) {
                observe(&mut ctx);
            }
            ctx.set_loras(&[(Arc::clone(&lora), 1.0)]).unwrap();
            if observer_first == Some(false) {
                observe(&mut ctx);
            }
            decode(&mut ctx, &tiny::tokens(TOKENS, tiny_archs::N_VOCAB), false);
            assert_eq!(log.lock().unwrap().seen.is_empty(), observer_first.is_none());
            ctx.outputs().logits_ith(-1).unwrap().to_vec()
        };
        let adapted = logits(None);
        let without = plain(&load(&bytes), Numerics::Reference);
        assert!(apart(&adapted, &without) > 0.01, "{name}: the adapter does nothing");
        for first in [true, false] {
            let d = apart(&logits(Some(first)), &adapted);
            assert!(d < 1e-5, "{name}: logits are {d} apart");
        }
    }
}
