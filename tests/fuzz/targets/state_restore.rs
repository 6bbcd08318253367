//! Any bytes as a state: restoring one neither panics nor takes long, what is refused changes
//! nothing, and what is taken computes and can be saved again.
//!
//! The first byte chooses the context and what is restored; the hash at the end is made right.
#![no_main]
#![allow(dead_code, reason = "tests use the rest")]

#[path = "../../common/tiny.rs"]
mod tiny;

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use powerinfer::engine::state::rehash;
use powerinfer::engine::{Batch, Context, ContextParams, Input, StateScope};
use powerinfer::model::Model;
use powerinfer::sparse::{Options, Sparse};

const SCOPES: [StateScope; 3] = [
    StateScope::ALL,
    StateScope { seq: Some(1), partial: false },
    StateScope { seq: Some(0), partial: true },
];

fn context(unified: bool) -> Context {
    static MODEL: OnceLock<(Arc<Model>, Arc<Sparse>)> = OnceLock::new();
    let (model, sparse) = MODEL.get_or_init(|| {
        let model = tiny::bare_model(&tiny::MICRO);
        let sparse = Arc::new(Sparse::new(model.plan(), &Options::default()));
        (model, sparse)
    });
    let params = ContextParams {
        n_ctx: 256,
        n_seq_max: 2,
        n_threads: 1,
        n_threads_batch: 1,
        kv_unified: unified,
        ..ContextParams::default()
    };
    Context::new(Arc::clone(model), Arc::clone(sparse), params).expect("good parameters")
}

/// Decodes two tokens of a sequence, if it has two positions left; the last one's logits.
fn go(ctx: &mut Context, seq: i32) -> Vec<f32> {
    let first = ctx.kv().pos_max(seq as usize) + 1;
    if first > i32::MAX - 4 {
        return Vec::new();
    }
    let (pos, seq) = ([first, first + 1], [seq]);
    let ids = [&seq[..]; 2];
    let input = Input::Tokens(&[3, 7]);
    let batch = Batch { input, pos: Some(&pos), seq_ids: Some(&ids), outputs: None };
    // Only a full cache may refuse them.
    match ctx.decode(&batch) {
        Ok(()) => ctx.outputs().logits_ith(-1).expect("the last token's").to_vec(),
        Err(error) => {
            assert_eq!(error.code(), 1, "{error}");
            Vec::new()
        }
    }
}

fn state(ctx: &mut Context, scope: StateScope) -> Vec<u8> {
    let mut bytes = Vec::new();
    ctx.write_state(&scope, &mut bytes).expect("there is memory");
    bytes
}

fn init() {
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for choice in 0..2 * SCOPES.len() {
        let mut ctx = context(choice % 2 == 0);
        for seq in [0, 1, 0] {
            go(&mut ctx, seq);
        }
        ctx.kv_mut().seq_rm(Some(0), 0, 1);
        ctx.kv_mut().seq_add(0, 1, 9, -1);
        let mut bytes = vec![choice as u8];
        bytes.extend(state(&mut ctx, SCOPES[choice / 2]));
        let path = std::path::Path::new(&dir).join(format!("state-{choice}"));
        std::fs::write(path, bytes).expect("the seeds can be written");
    }
}

fuzz_target!(init: init(), |bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let choice = usize::from(choice) % (2 * SCOPES.len());
    let mut ctx = context(choice % 2 == 0);
    go(&mut ctx, 0);
    go(&mut ctx, 1);
    let (scope, mut bytes) = (SCOPES[choice / 2], bytes.to_vec());
    rehash(&mut bytes);
    let before = state(&mut ctx, StateScope::ALL);
    if ctx.read_state(&scope, &bytes).is_err() {
        assert!(state(&mut ctx, StateScope::ALL) == before, "a refused state changes nothing");
        return;
    }
    let (mut other, taken) = (context(choice % 2 == 0), state(&mut ctx, StateScope::ALL));
    other.read_state(&StateScope::ALL, &taken).expect("what was taken can be given");
    for ctx in [&mut ctx, &mut other] {
        ctx.kv_mut().seq_add(1, 0, i32::MAX, -1);
        ctx.kv_mut().seq_div(0, 0, i32::MAX, 3);
    }
    assert!(state(&mut ctx, StateScope::ALL) == state(&mut other, StateScope::ALL));
    for seq in [0, 1] {
        let (a, b) = (go(&mut ctx, seq), go(&mut other, seq));
        let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
        assert!(a.len() == b.len() && a.iter().zip(&b).all(same), "the same logits");
    }
});
