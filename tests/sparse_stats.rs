//! What contexts say of their neurons, against a model of which it is known.

mod common;

use common::known_neurons::{self, FIRES, GUESSED, N_FF, N_LAYER};
use common::{params, tiny};
use powerinfer::api::{Context, KvOverride, LayerReport, LoadOptions, OverrideValue, SparseMode};
use powerinfer::gguf::ModelFiles;

/// A context with these options.
fn context(options: &[(&str, &str)], n_threads: usize) -> Context {
    let overrides = options.iter().map(|(key, value)| KvOverride {
        key: format!("powerinfer.{key}"),
        value: OverrideValue::Str((*value).into()),
    });
    let options = LoadOptions { kv_overrides: overrides.collect(), ..LoadOptions::default() };
    let model = tiny::load(&known_neurons::bytes(), &options).unwrap();
    let params = params(|p| (p.n_threads, p.n_threads_batch) = (n_threads, n_threads));
    model.context(params).unwrap()
}

/// 20 tokens at once, of which the last layer computes one, then 33 single ones.
fn run(ctx: &mut Context) {
    let prompt: Vec<i32> = (3..23).collect();
    common::decode(ctx, &prompt, false);
    (0..33).for_each(|i| common::decode(ctx, &[5 + i], false));
}

/// Counts that do not depend on the machine.
fn counts(report: &LayerReport) -> [u64; 6] {
    let r = report;
    [r.tokens, r.guessed, r.fired, r.checked, r.found, r.dense_bytes]
}

#[test]
fn the_gate_finds_what_fires() {
    let mut ctx = context(&[("sparse", "exact")], 2);
    run(&mut ctx);
    let reports = ctx.sparse_stats();
    assert_eq!(reports.len(), N_LAYER);
    for (il, report) in reports.iter().enumerate() {
        let tokens = if il + 1 == N_LAYER { 34 } else { 53 };
        assert_eq!((report.layer, report.mode, report.n_ff), (il, SparseMode::Exact, N_FF));
        assert_eq!(report.tokens, tokens);
        assert_eq!(report.fired, tokens * (N_FF / FIRES) as u64, "layer {il}");
        assert_eq!(report.guessed, tokens * N_FF as u64, "nothing guesses");
        assert_eq!((report.checked, report.found), (0, 0));
        assert_eq!((report.timed, report.time.as_nanos()), (0, 0), "nobody asked for times");
        assert!(report.bytes < report.dense_bytes, "{report:?}");
    }
}

#[test]
fn guesses_are_checked_now_and_then() {
    let mut ctx = context(&[("sparse", "predictor"), ("stats", "on")], 2);
    // Small batches only, since with many tokens nothing is guessed.
    let tokens = |ctx: &mut Context| (0..33).for_each(|i| common::decode(ctx, &[5 + i], false));
    tokens(&mut ctx);
    let both = (N_FF / (FIRES * GUESSED)) as u64;
    for report in ctx.sparse_stats() {
        assert_eq!(report.mode, SparseMode::Predictor);
        assert_eq!(report.tokens, 33);
        assert_eq!(report.guessed, 33 * (N_FF / GUESSED) as u64);
        assert_eq!(report.fired, 33 * both, "what is not guessed does not fire");
        // The batches 0, 16 and 32.
        assert_eq!(report.checked, 3 * (N_FF / FIRES) as u64);
        assert_eq!(report.found, 3 * both);
        assert_eq!(report.timed, 30);
        assert!(report.time.as_nanos() > 0);
    }
    ctx.reset_sparse_stats();
    assert!(ctx.sparse_stats().iter().all(|r| counts(r) == [0; 6] && r.bytes == 0));
    tokens(&mut ctx);
    assert_eq!(ctx.sparse_stats()[0].checked, 3 * (N_FF / FIRES) as u64);

    // A batch of several tokens is checked token by token.
    let mut ctx = context(&[("sparse", "predictor"), ("stats", "on")], 3);
    common::decode(&mut ctx, &[7, 8, 9, 10, 11], true);
    for report in ctx.sparse_stats() {
        assert_eq!((report.checked, report.found), (5 * (N_FF / FIRES) as u64, 5 * both));
    }
}

#[test]
fn checks_and_times_change_no_output() {
    let logits = |stats: &str| {
        let mut ctx = context(&[("sparse", "predictor"), ("stats", stats)], 2);
        run(&mut ctx);
        let logits = ctx.outputs().logits().iter().map(|x| x.to_bits());
        logits.collect::<Vec<u32>>()
    };
    assert_eq!(logits("on"), logits("off"));
}

#[test]
fn counts_are_the_same_at_any_number_of_threads() {
    let run = |mode: &str, n_threads| {
        let options = [("sparse", mode), ("stats", "1"), ("count_activations", "1")];
        let mut ctx = context(&options, n_threads);
        run(&mut ctx);
        let reports: Vec<_> = ctx.sparse_stats().iter().map(|r| (counts(r), r.bytes)).collect();
        (reports, ctx.activation_counts().unwrap())
    };
    for mode in ["auto", "exact", "predictor", "off"] {
        let one = run(mode, 1);
        for n_threads in [2, 3, 8] {
            assert_eq!(run(mode, n_threads), one, "{mode}, {n_threads} threads");
        }
    }
}

/// Tensors of a file of counts, by layer.
fn saved(path: &std::path::Path) -> (ModelFiles, Vec<Vec<i32>>) {
    let mut files = ModelFiles::open(path, &LoadOptions::default()).unwrap();
    files.load_tensors(&mut |_| true).unwrap();
    let read = |il: usize| {
        let tensor = files.tensor(&format!("blk.{il}.activation_count")).unwrap();
        let data = files.data(tensor).unwrap();
        data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let layers = (0..files.tensors().len()).map(read).collect();
    (files, layers)
}

#[test]
fn counts_of_each_neuron_are_saved() {
    let folder = tempfile("activation");
    let path = folder.join("counts.gguf");
    let mut ctx = context(&[("sparse", "exact"), ("count_activations", "true")], 2);
    run(&mut ctx);
    ctx.reset_sparse_stats(); // another count
    ctx.activation_counts().unwrap().save(&path).unwrap();
    let (files, layers) = saved(&path);
    let meta = files.meta();
    let key = |name: &str| format!("powerinfer.activation.{name}");
    assert_eq!(meta.require_str("general.architecture").unwrap(), "powerinfer.activation");
    assert_eq!(meta.require_u64(&key("tokens")).unwrap(), 53);
    assert_eq!(meta.require_u32s(&key("layer_tokens")).unwrap()[..], [53, 53, 34]);
    assert_eq!(meta.require_u32(&key("block_count")).unwrap(), 3);
    assert_eq!(meta.require_u32(&key("embedding_length")).unwrap(), 64);
    assert_eq!(meta.require_str(&key("model_architecture")).unwrap(), "llama");
    assert_eq!(layers.len(), N_LAYER);
    for (il, layer) in layers.iter().enumerate() {
        let tokens = if il + 1 == N_LAYER { 34 } else { 53 };
        let fires = |i: usize| if i.is_multiple_of(FIRES) { tokens } else { 0 };
        assert_eq!(*layer, (0..N_FF).map(fires).collect::<Vec<_>>(), "layer {il}");
    }

    // Counting ends and begins anew.
    ctx.count_activations(false);
    let error = ctx.activation_counts().unwrap_err().to_string();
    assert!(error.contains("not counted"), "{error}");
    ctx.count_activations(true);
    common::decode(&mut ctx, &[9], false);
    let counts = ctx.activation_counts().unwrap();
    assert_eq!(counts.layers[0].tokens, 1);
    assert_eq!(counts.layers[0].counts[..5], [1, 0, 0, 0, 1]);
    let error = counts.save(&folder.join("no/such/folder")).unwrap_err().to_string();
    assert!(error.contains("no/such/folder: cannot create the file"), "{error}");
}

#[test]
fn a_model_without_such_layers_says_so() {
    let model = tiny::load(&tiny::bytes(&tiny::spec("gqa")), &LoadOptions::default()).unwrap();
    let mut ctx = model.context(params(|_| ())).unwrap();
    ctx.count_activations(true);
    common::decode(&mut ctx, &[1, 2], false);
    assert!(ctx.sparse_stats().is_empty());
    let error = ctx.activation_counts().unwrap_err().to_string();
    assert!(error.contains("no layer that can skip neurons"), "{error}");
}

fn tempfile(name: &str) -> std::path::PathBuf {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sparse-stats");
    let folder = folder.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
