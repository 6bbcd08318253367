//! Embeddings and scores of encoders, and of decoders used as such, against llama.cpp, on tiny
//! random models that need no download.
//!
//! `data/embeddings.json` has what llama.cpp makes of each model's twin in F32 (see
//! `common/tiny_archs.rs`), made by `tools/embedding_goldens.py`.

mod common;

use std::sync::Arc;

use common::tiny_archs::{self, EMBEDDERS, N_VOCAB, Spec};
use common::{context, tiny};
use powerinfer::engine::{Batch, Context, ContextParams, DecodeError, Input};
use powerinfer::model::{Model, Pooling};
use serde_json::Value;

/// Lengths of the sequences of the batch, whose tokens take turns.
const LENGTHS: [usize; 5] = [1, 2, 17, 40, 100];
/// Tokens of the batch whose own embeddings are compared.
const COMPARED: [i32; 3] = [0, 33, 159];
/// Elements of each embedding that are compared.
const WIDTH: usize = 16;

fn goldens() -> Value {
    serde_json::from_str(include_str!("data/embeddings.json")).unwrap()
}

fn spec(name: &str) -> &'static Spec {
    EMBEDDERS.iter().find(|s| s.name == name).unwrap()
}

fn model(spec: &Spec) -> Arc<Model> {
    tiny::bare_model_of(&tiny_archs::bytes(spec))
}

/// Tokens with their sequences and positions.
#[derive(Clone, Default)]
struct Tokens {
    ids: Vec<i32>,
    seqs: Vec<Vec<i32>>,
    pos: Vec<i32>,
}

impl Tokens {
    /// Sequences of these lengths that take turns.
    fn interleaved(lengths: &[usize]) -> Self {
        let mut all = Self::default();
        for pos in 0..*lengths.iter().max().unwrap() {
            for (seq, &len) in lengths.iter().enumerate() {
                if pos < len {
                    all.seqs.push(vec![seq as i32]);
                    all.pos.push(pos as i32);
                }
            }
        }
        all.ids = tiny::tokens(all.pos.len(), N_VOCAB);
        all
    }

    /// The tokens of one sequence, as another one.
    fn of(&self, seq: i32, now: i32) -> Self {
        let mut own = Self::default();
        for i in (0..self.ids.len()).filter(|&i| self.seqs[i] == [seq]) {
            own.ids.push(self.ids[i]);
            own.seqs.push(vec![now]);
            own.pos.push(self.pos[i]);
        }
        own
    }

    fn decode(&self, ctx: &mut Context) -> Result<(), DecodeError> {
        let seqs: Vec<&[i32]> = self.seqs.iter().map(|s| &s[..]).collect();
        ctx.decode(&Batch {
            input: Input::Tokens(&self.ids),
            pos: Some(&self.pos),
            seq_ids: Some(&seqs),
            outputs: None,
        })
    }
}

fn embedder(model: &Arc<Model>, change: impl FnOnce(&mut ContextParams)) -> Context {
    context(model, |p| {
        (p.embeddings, p.n_ctx, p.n_batch, p.n_ubatch) = (true, 256, 256, 256);
        (p.n_seq_max, p.kv_unified) = (5, true);
        change(p);
    })
}

const POOLINGS: [(&str, Pooling); 5] = [
    ("none", Pooling::None),
    ("mean", Pooling::Mean),
    ("cls", Pooling::Cls),
    ("last", Pooling::Last),
    ("rank", Pooling::Rank),
];

/// What a pooling gives for the batch of [`LENGTHS`].
fn rows(model: &Arc<Model>, pooling: Pooling, reference: bool) -> Vec<Vec<f32>> {
    let mut ctx = embedder(model, |p| (p.pooling, p.reference) = (Some(pooling), reference));
    Tokens::interleaved(&LENGTHS).decode(&mut ctx).unwrap();
    let outputs = ctx.outputs();
    match pooling {
        Pooling::None => {
            assert!(outputs.embeddings_seq(0).is_none());
            let row = |i| outputs.embeddings_ith(i).unwrap().to_vec();
            COMPARED.into_iter().map(row).collect()
        }
        _ => (0..LENGTHS.len()).map(|s| outputs.embeddings_seq(s).unwrap().to_vec()).collect(),
    }
}

fn numbers(rows: &Value) -> Vec<f64> {
    let rows = rows.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    rows.map(|x| x.as_f64().unwrap()).collect()
}

/// Squared error relative to the truth's power.
fn nmse(ours: &[Vec<f32>], truth: &Value) -> f64 {
    let truth = numbers(truth);
    let ours = ours.iter().flat_map(|row| &row[..row.len().min(WIDTH)]);
    let ours: Vec<f64> = ours.map(|&x| f64::from(x)).collect();
    assert_eq!(ours.len(), truth.len());
    let error: f64 = ours.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum();
    error / truth.iter().map(|b| b * b).sum::<f64>()
}

#[test]
fn the_generator_makes_the_models_of_the_goldens() {
    let goldens = goldens();
    for spec in EMBEDDERS {
        let golden = &goldens["models"][spec.name];
        let again = "run tests/tools/embedding_goldens.py";
        let (model, twin) = (tiny_archs::bytes(spec), tiny_archs::twin_bytes(spec));
        assert_eq!(golden["model"], tiny::fingerprint(&model), "{}: {again}", spec.name);
        assert_eq!(golden["twin"], tiny::fingerprint(&twin), "{}: {again}", spec.name);
    }
    assert_eq!(goldens["models"].as_object().unwrap().len(), EMBEDDERS.len());
}

/// Both compute in F32. llama.cpp looks GELU up in a table of F16.
#[test]
fn reference_mode_equals_llama_cpp_in_f32() {
    let goldens = goldens();
    let mut failures = Vec::new();
    for spec in EMBEDDERS {
        let model = model(spec);
        for (name, pooling) in POOLINGS {
            if pooling == Pooling::Rank && spec.classifier.is_empty() {
                continue;
            }
            let error = nmse(
                &rows(&model, pooling, true),
                &goldens["models"][spec.name]["embeddings"][name],
            );
            let bound = if spec.ffn == tiny_archs::Ffn::Plain { 1e-6 } else { 1e-10 };
            if error.is_nan() || error >= bound {
                failures.push(format!("{} {name}: NMSE {error:e}", spec.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Both round weights and activations, each in its own way. What is compared are 48 numbers of each
/// model, whose noise is luck within a factor of about two.
#[test]
fn normal_mode_is_as_close_as_llama_cpp() {
    let goldens = goldens();
    let mut log_ratios = 0.0;
    for spec in EMBEDDERS {
        let golden = &goldens["models"][spec.name];
        let error = nmse(&rows(&model(spec), Pooling::None, false), &golden["embeddings"]["none"]);
        let theirs = golden["llama_cpp_nmse"].as_f64().unwrap();
        assert!(error < 2.0 * theirs, "{}: NMSE {error:e}, theirs {theirs:e}", spec.name);
        log_ratios += (error / theirs).ln();
    }
    let mean = (log_ratios / EMBEDDERS.len() as f64).exp();
    assert!(mean < 1.3, "geometric mean of the ratios: {mean}");
}

/// Pooled embeddings of a batch as bits.
fn bits(model: &Arc<Model>, tokens: &Tokens, n_threads: usize) -> Vec<Option<Vec<u32>>> {
    let mut ctx = embedder(model, |p| {
        (p.pooling, p.n_threads, p.n_threads_batch) = (Some(Pooling::Mean), n_threads, n_threads);
    });
    tokens.decode(&mut ctx).unwrap();
    let bits = |x: &mut [f32]| x.iter().map(|x| x.to_bits()).collect();
    (0..LENGTHS.len()).map(|seq| ctx.outputs().embeddings_seq(seq).map(bits)).collect()
}

#[test]
fn an_embedding_depends_on_its_sequence_alone() {
    for spec in EMBEDDERS {
        let model = model(spec);
        let all = Tokens::interleaved(&LENGTHS);
        let together = bits(&model, &all, 1);
        for n_threads in [2, 3, 8] {
            assert_eq!(bits(&model, &all, n_threads), together, "{} threads", spec.name);
        }
        for (seq, expected) in together.iter().enumerate() {
            let alone = bits(&model, &all.of(seq as i32, 2), 2);
            assert_eq!(alone[2], *expected, "{}: sequence {seq}", spec.name);
            assert_eq!(alone.iter().flatten().count(), 1);
        }
    }
}

#[test]
fn encoders_remember_nothing_and_have_no_logits() {
    let model = model(spec("bert"));
    let mut ctx = embedder(&model, |p| p.pooling = Some(Pooling::Mean));
    assert!(!ctx.has_memory());
    let pooled = |ctx: &mut Context| ctx.outputs().embeddings_seq(0).unwrap().to_vec();
    let long = Tokens::interleaved(&[50]);
    let short = Tokens::interleaved(&[7]);
    short.decode(&mut ctx).unwrap();
    let first = pooled(&mut ctx);
    long.decode(&mut ctx).unwrap();
    assert_ne!(pooled(&mut ctx), first);
    // The same positions again, which a cache would refuse.
    short.decode(&mut ctx).unwrap();
    assert_eq!(pooled(&mut ctx), first);
    // Without positions they begin at 0, each time.
    for _ in 0..2 {
        let input = Input::Tokens(&short.ids);
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
        assert_eq!(pooled(&mut ctx), first);
    }
    // Every token is an output, whatever the batch says; none has logits.
    assert_eq!(ctx.outputs().embeddings().len(), 7 * 64);
    assert!(ctx.outputs().embeddings_ith(3).is_some());
    assert!(ctx.outputs().logits().is_empty());
    assert!(ctx.outputs().logits_ith(3).is_none());

    let mut quiet = embedder(&model, |p| p.embeddings = false);
    short.decode(&mut quiet).unwrap();
    assert!(quiet.outputs().embeddings().is_empty());
    assert!(quiet.outputs().embeddings_seq(0).is_none());
}

#[test]
fn encoders_have_no_mask_whatever_the_caller_says() {
    let model = model(spec("nomic-bert"));
    let tokens = Tokens::interleaved(&[20]);
    let run = |causal| {
        let mut ctx = embedder(&model, |p| (p.pooling, p.causal) = (Some(Pooling::Cls), causal));
        assert_eq!(ctx.causal(), causal.unwrap_or(false));
        tokens.decode(&mut ctx).unwrap();
        ctx.outputs().embeddings_seq(0).unwrap().to_vec()
    };
    let own = run(None);
    assert_eq!(run(Some(true)), own);
    assert_eq!(run(Some(false)), own);
}

#[test]
fn a_shared_token_attends_in_its_first_sequence() {
    let model = model(spec("bert"));
    let mut tokens = Tokens::interleaved(&[6, 6]);
    let run = |tokens: &Tokens| {
        let mut ctx = embedder(&model, |p| p.pooling = Some(Pooling::Last));
        tokens.decode(&mut ctx).unwrap();
        let last = |ctx: &mut Context, s| ctx.outputs().embeddings_seq(s).unwrap().to_vec();
        (last(&mut ctx, 0), last(&mut ctx, 1))
    };
    let apart = run(&tokens);
    // A seventh token of both: the last of each, computed with the tokens of sequence 0.
    tokens.ids.push(5);
    tokens.seqs.push(vec![0, 1]);
    tokens.pos.push(6);
    let shared = run(&tokens);
    assert_eq!(shared.0, shared.1);
    assert_ne!(shared.0, apart.0);
    let mut alone = tokens.of(0, 0);
    alone.ids.push(5);
    alone.seqs.push(vec![0]);
    alone.pos.push(6);
    let mut ctx = embedder(&model, |p| p.pooling = Some(Pooling::Last));
    alone.decode(&mut ctx).unwrap();
    assert_eq!(ctx.outputs().embeddings_seq(0).unwrap(), shared.0);
}

#[test]
fn what_encoders_refuse() {
    let model = model(spec("bert"));
    let mut ctx = embedder(&model, |p| (p.n_ubatch, p.pooling) = (30, Some(Pooling::Cls)));
    let mut refused = |tokens: &Tokens, what: &str| {
        let error = tokens.decode(&mut ctx).unwrap_err();
        assert_eq!(error.code(), -1, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(&Tokens::interleaved(&[31]), "31 tokens, n_ubatch is 30");
    let mut gap = Tokens::interleaved(&[4]);
    gap.pos[3] = 9;
    refused(&gap, "positions 0 to 9");
    let mut beyond = Tokens::interleaved(&[4]);
    beyond.pos.iter_mut().for_each(|p| *p += 253);
    refused(&beyond, "256 learned positions");
    Tokens::interleaved(&[30]).decode(&mut ctx).unwrap();

    // n_batch may be more than the context, as in llama.cpp.
    let ctx = embedder(&model, |p| (p.n_batch, p.n_ubatch) = (600, 600));
    assert_eq!((ctx.sizes().n_batch, ctx.sizes().n_ubatch), (600, 600));

    let plain = self::model(spec("nomic-bert"));
    let params = common::params(|p| p.pooling = Some(Pooling::Rank));
    let error =
        Context::new(Arc::clone(&plain), common::sparse(&plain), params).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no classifier"), "{error}");
}

#[test]
fn what_encoders_must_have() {
    let load = |edit: fn(&mut Vec<tiny::Tensor>)| {
        let bytes = tiny_archs::edited_bytes(spec("bert"), |_, tensors| edit(tensors));
        tiny::load(&bytes, &Default::default()).map(|_| ())
    };
    let message = |edit| load(edit).unwrap_err().to_string();
    let error = message(|t| t.retain(|t| t.name != "token_embd_norm.weight"));
    assert!(error.contains("'token_embd_norm.weight' is missing"), "{error}");
    let error = message(|t| t.retain(|t| t.name != "blk.1.layer_output_norm.weight"));
    assert!(error.contains("'blk.1.layer_output_norm.weight' is missing"), "{error}");
    let error = message(|t| t.retain(|t| t.name != "position_embd.weight"));
    assert!(error.contains("'position_embd.weight' is missing"), "{error}");
    // Models of single sentences have no types, and few classify.
    load(|t| t.retain(|t| t.name != "token_types.weight" && !t.name.starts_with("cls"))).unwrap();
}

/// Writes the models where `tools/embedding_goldens.py` wants them.
#[test]
#[ignore = "a tool: TINY_MODELS=folder"]
fn write_models() {
    let dir = std::path::PathBuf::from(std::env::var_os("TINY_MODELS").unwrap());
    for spec in EMBEDDERS {
        let write =
            |end: &str, bytes| std::fs::write(dir.join(format!("{}{end}", spec.name)), bytes);
        write(".gguf", tiny_archs::bytes(spec)).unwrap();
        write(".twin.gguf", tiny_archs::twin_bytes(spec)).unwrap();
    }
}
