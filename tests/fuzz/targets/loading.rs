//! What the targets that load whole models share.

use std::sync::Arc;

use powerinfer::api::{Batch, ContextParams, Input, LoadMode, LoadOptions};
use powerinfer::util::log::{Level, Sink, set_sink};

use crate::tiny;

/// Takes the warnings about millions of damaged files.
struct Quiet;

impl Sink for Quiet {
    fn write(&self, _: Level, text: &str) {
        assert!(text.len() < 4096, "a message as long as a file");
    }
}

/// Silences the log and writes seeds into the folder that `FUZZ_SEEDS` names: libFuzzer learns from
/// them what a whole model looks like.
pub fn init(seeds: impl FnOnce() -> Vec<(&'static str, Vec<u8>)>) {
    set_sink(Some(Arc::new(Quiet)));
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (name, bytes) in seeds() {
        let path = std::path::Path::new(&dir).join(format!("{name}.gguf"));
        std::fs::write(path, bytes).expect("the seeds can be written");
    }
}

/// Loads a model and, if that works, uses its vocabulary and decodes 3 tokens, then one.
pub fn load_and_decode(bytes: &[u8], options: LoadOptions) {
    let odd = bytes.len() % 2 == 1;
    let mode = if odd { LoadMode::None } else { LoadMode::Mmap };
    let options = LoadOptions { mode, prefetch: false, ..options };
    let Ok(model) = tiny::load(bytes, &options) else { return };
    let _ = model.description();
    if let Ok(tokens) = model.vocab().tokenize(b"the <|im_end|> and\n", true, true) {
        let _ = model.vocab().detokenize(&tokens, false, true);
    }
    let params = ContextParams {
        n_ctx: 256,
        n_threads: 1,
        n_threads_batch: 1,
        embeddings: odd,
        reference: odd,
        ..ContextParams::default()
    };
    let Ok(mut ctx) = model.context(params) else { return };
    let n_vocab = model.hparams().map_or(0, |h| h.n_vocab) as i32;
    let tokens: Vec<i32> = (0..4).map(|i| i * 7 % n_vocab).collect();
    for input in [Input::Tokens(&tokens[..3]), Input::Tokens(&tokens[3..])] {
        let batch = Batch { input, pos: None, seq_ids: None, outputs: None };
        ctx.decode(&batch).expect("a model that loads decodes");
    }
    assert_eq!(ctx.outputs().logits_ith(-1).map(|x| x.len()), Some(n_vocab as usize));
}
