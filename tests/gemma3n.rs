//! What is special about Gemma 3n beside its logits, which `tiny_models.rs` holds to llama.cpp's:
//! layers that share keys and values, inputs by token, the keys that say its sizes.

mod common;

use std::sync::Arc;

use common::tiny_archs::{self, Key, N_VOCAB, Spec};
use common::{context, tiny};
use powerinfer::engine::{Batch, Context, Input};
use powerinfer::gguf::{Array, LoadOptions, ModelFiles, Value, Writer};
use powerinfer::model::Model;
use powerinfer::plan::Skipping;
use powerinfer::quant::dequantize_row;

/// Seven layers, of which two see the keys and values of the fourth and fifth.
fn spec() -> Spec {
    Spec { n_layer: 7, ..tiny_archs::spec("gemma3n") }
}

fn with_keys(edit: impl FnOnce(&mut Writer)) -> Vec<u8> {
    tiny_archs::edited_bytes(&spec(), |keys, _| edit(keys))
}

fn model() -> Arc<Model> {
    tiny::bare_model_of(&tiny_archs::bytes(&spec()))
}

/// Feeds tokens of a long text as sequences `seqs`, from `pos.start` on; the last logits.
fn go(ctx: &mut Context, pos: std::ops::Range<i32>, seqs: &[i32]) -> Vec<f32> {
    let text = tiny::tokens(pos.end as usize, N_VOCAB);
    let tokens = &text[pos.start as usize..];
    let (pos, seqs): (Vec<i32>, _) = (pos.collect(), vec![seqs; tokens.len()]);
    let (pos, seq_ids) = (Some(&pos[..]), Some(&seqs[..]));
    ctx.decode(&Batch { input: Input::Tokens(tokens), pos, seq_ids, outputs: None }).unwrap();
    ctx.outputs().logits_ith(-1).unwrap().to_vec()
}

/// What a fresh context says to the first `n` tokens.
fn fresh(model: &Arc<Model>, n: i32) -> Vec<f32> {
    go(&mut context(model, |_| ()), 0..n, &[0])
}

#[test]
fn layers_without_keys_and_values_have_no_memory() {
    let mut ctx = context(&model(), |_| ());
    // 5 layers, 2 heads of 16 elements, keys and values, 2 bytes each.
    assert_eq!(ctx.memory_use().kv, 5 * 1024 * 2 * 16 * 2 * 2);
}

#[test]
fn tokens_are_taken_out_copied_and_forgotten() {
    let model = model();
    // Windows are of 12 tokens.
    for swa_full in [true, false] {
        let mut ctx = context(&model, |p| {
            (p.swa_full, p.n_ubatch, p.n_seq_max) = (swa_full, 32, 3);
        });
        go(&mut ctx, 0..80, &[0]);
        // Another end, then back to the first one.
        ctx.kv_mut().seq_rm(Some(0), 70, i32::MAX);
        assert!(go(&mut ctx, 70..90, &[0]) == fresh(&model, 90), "removed, {swa_full}");
        assert!(ctx.kv_mut().seq_cp(0, 1, 0, i32::MAX));
        ctx.kv_mut().seq_rm(Some(0), 0, i32::MAX);
        assert!(go(&mut ctx, 90..95, &[1]) == fresh(&model, 95), "copied, {swa_full}");
        assert!(go(&mut ctx, 0..40, &[2]) == fresh(&model, 40), "beside, {swa_full}");
        ctx.kv_mut().seq_keep(1);
        for pos in 95..99 {
            go(&mut ctx, pos..pos + 1, &[1]);
        }
        assert!(go(&mut ctx, 99..100, &[1]) == fresh(&model, 100), "kept, {swa_full}");
    }
}

/// Layers that share keys see them rotated once.
#[test]
fn moved_positions_are_those_of_a_later_start() {
    let model = model();
    let mut ctx = context(&model, |_| ());
    let expected = go(&mut ctx, 0..50, &[0]);
    let mut ctx = context(&model, |_| ());
    go(&mut ctx, 0..49, &[0]);
    ctx.kv_mut().seq_add(0, 0, i32::MAX, 7);
    let text = tiny::tokens(50, N_VOCAB);
    let (pos, seqs) = ([56], [&[0][..]]);
    let (pos, seq_ids) = (Some(&pos[..]), Some(&seqs[..]));
    ctx.decode(&Batch { input: Input::Tokens(&text[49..]), pos, seq_ids, outputs: None }).unwrap();
    let moved = ctx.outputs().logits_ith(-1).unwrap();
    let error: f32 = moved.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
    let nmse = error / expected.iter().map(|b| b * b).sum::<f32>();
    // Keys in F16 were rounded twice.
    assert!(nmse < 1e-4, "{nmse}");
}

/// Embeddings that the caller gives have the table's row 0.
#[test]
fn embeddings_have_the_input_of_token_0() {
    let model = model();
    let n_embd = model.hparams().unwrap().n_embd;
    let table = model.weights().iter().find(|w| w.name == "token_embd.weight").unwrap();
    let row_bytes = table.ty.row_bytes(n_embd as u64).unwrap() as usize;
    let scaled = |id: usize| {
        let mut row = vec![0.0; n_embd];
        let bytes = &table.data.as_deref().unwrap()[id * row_bytes..][..row_bytes];
        dequantize_row(table.ty, bytes, &mut row).unwrap();
        row.iter_mut().for_each(|x| *x *= (n_embd as f32).sqrt());
        row
    };
    let run = |input: Input<'_>| {
        let mut ctx = context(&model, |_| ());
        ctx.decode(&Batch { input, pos: None, seq_ids: None, outputs: None }).unwrap();
        ctx.outputs().logits_ith(-1).unwrap().to_vec()
    };
    assert_eq!(run(Input::Embeddings(&scaled(0))), run(Input::Tokens(&[0])));
    assert_ne!(run(Input::Embeddings(&scaled(5))), run(Input::Tokens(&[5])));
}

#[test]
fn what_the_file_does_not_say_is_as_in_llama_cpp() {
    let said = fresh(&model(), 40);
    let unsaid = with_keys(|keys| {
        for name in ["num_inputs", "active_idx"] {
            keys.remove(&format!("gemma3n.altup.{name}")).unwrap();
        }
        for name in ["embedding_length_per_layer_input", "final_logit_softcapping"] {
            keys.remove(&format!("gemma3n.{name}")).unwrap();
        }
    });
    assert_eq!(fresh(&tiny::bare_model_of(&unsaid), 40), said);
    // Shared layers are those from the 21st on.
    let all = Spec { keys: &KEYS_OF_NEW_FILES, ..tiny_archs::spec("gemma3n") };
    let model = tiny::bare_model_of(&tiny_archs::bytes(&all));
    assert_eq!(model.hparams().unwrap().n_layer_kv, 20);
    let no_more = Spec { n_layer: 7, ..all };
    assert_eq!(tiny::bare_model_of(&tiny_archs::bytes(&no_more)).hparams().unwrap().n_layer_kv, 7);
}

const KEYS_OF_NEW_FILES: [Key; 3] = [
    Key::U("attention.sliding_window", 12),
    Key::U("attention.sliding_window_pattern", 2),
    Key::F("rope.freq_base", 1e6),
];

fn cutoffs(values: Vec<f32>) -> Vec<u8> {
    let value = Value::Array(Array::F32(values));
    with_keys(|keys| keys.set("gemma3n.activation_sparsity_scale", value).unwrap())
}

#[test]
fn cutoffs_are_those_of_the_file() {
    let plain = fresh(&model(), 40);
    let run = |bytes: &[u8]| fresh(&tiny::bare_model_of(bytes), 40);
    assert_eq!(run(&cutoffs(vec![1.644_853_6; 7])), plain);
    assert_ne!(run(&cutoffs(vec![1.3; 7])), plain);
    let mut some = vec![f32::NEG_INFINITY; 7];
    some[2] = 1.644_853_6;
    let model = tiny::bare_model_of(&cutoffs(some));
    assert_eq!(common::sparse(&model).n_layers(), 1);
    assert_ne!(fresh(&model, 40), plain);
}

#[test]
fn any_stream_can_be_the_active_one() {
    let first = fresh(&model(), 40);
    let third = with_keys(|keys| keys.set("gemma3n.altup.active_idx", Value::U32(2)).unwrap());
    let third = fresh(&tiny::bare_model_of(&third), 40);
    assert!(third.iter().all(|x| x.is_finite()));
    assert_ne!(third, first);
}

#[test]
fn sizes_that_make_no_sense_are_refused_by_name() {
    let with = |key: &str, value: u32| {
        let key = format!("gemma3n.{key}");
        (with_keys(|keys| keys.set(&key, Value::U32(value)).unwrap()), key)
    };
    let scale = || "gemma3n.activation_sparsity_scale".to_owned();
    for (bytes, key) in [
        with("altup.num_inputs", 1),
        with("altup.num_inputs", 9),
        with("altup.active_idx", 4),
        with("embedding_length_per_layer_input", 0),
        with("embedding_length_per_layer_input", u32::MAX),
        with("attention.shared_kv_layers", 7),
        // No layer without a window would have keys and values.
        with("attention.shared_kv_layers", 6),
        (cutoffs(vec![1.0; 6]), scale()),
        (cutoffs(vec![f32::NAN; 7]), scale()),
        (cutoffs(vec![f32::INFINITY; 7]), scale()),
    ] {
        let file = tiny::unnamed_file(&bytes);
        let files = ModelFiles::open_file(file, "tiny.gguf", &LoadOptions::default()).unwrap();
        let error = Model::load(files, false, Skipping::default(), &mut |_| true).unwrap_err();
        assert!(error.to_string().contains(&key), "{key}: {error}");
    }
}
