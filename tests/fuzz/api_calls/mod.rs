//! Sequences of C calls made from bytes, as wrong as C can express without dangling pointers: NULL,
//! numbers out of range, values that no enum has, text that is no UTF-8, sizes that do not fit.
//! Nothing may crash, hang, leak or panic: a panic that the boundary caught ends the run too.
//!
//! Used by the fuzz target `api_calls` and, with made-up bytes, by `tests/api_calls.rs`. To add a
//! function: an arm in the file of its subject.

mod args;
mod contexts;
mod models;
mod samplers;
mod texts;
mod users;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use args::Args;
use powerinfer::ffi::adapter::*;
use powerinfer::ffi::batch_ext::*;
use powerinfer::ffi::context::*;
use powerinfer::ffi::load::*;
use powerinfer::ffi::log::*;
use powerinfer::ffi::model::*;
use powerinfer::ffi::params::*;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::sampling::llama_set_sampler;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::llama_vocab;
use powerinfer::quant::QuantType;

use crate::{tiny, tiny_archs, tiny_lora, tiny_sparse};

/// A model, its file, and an adapter's file.
pub struct Base {
    pub model: *mut llama_model,
    pub file: CString,
    pub adapter: Option<CString>,
}

/// What all runs share. None of it is freed.
pub struct Shared {
    pub models: Vec<Base>,
    pub folder: PathBuf,
}

// SAFETY: models may be used by every thread.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// A model that a run loaded, and freed contexts and adapters of which do not outlive it.
pub type Owned<T> = (T, *mut llama_model);

/// The objects of one run.
pub struct World {
    pub shared: &'static Shared,
    pub models: Vec<*mut llama_model>,
    pub contexts: Vec<Owned<*mut llama_context>>,
    pub adapters: Vec<Owned<*mut llama_adapter_lora>>,
    pub batches: Vec<*mut llama_batch_ext>,
    pub samplers: Vec<*mut llama_sampler>,
    /// Samplers that a context may still use for a sequence.
    pub attached: Vec<(*mut llama_context, llama_seq_id, *mut llama_sampler)>,
    /// The functions of user-made samplers.
    pub tables: Vec<*mut llama_sampler_i>,
    pub pools: Vec<ggml_threadpool_t>,
    /// The last state that was saved.
    pub state: Vec<u8>,
}

/// Every message is a terminated text of sane length, and none tells of a caught panic.
unsafe extern "C" fn listen(_: c_int, text: *const c_char, _: *mut c_void) {
    // SAFETY: the library passes a terminated text.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    assert!(text.len() < 1 << 16, "a message of {} bytes", text.len());
    if text.contains("internal error") {
        eprintln!("{text}");
        std::process::abort();
    }
}

/// Loads the models, once.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = option_env!("CARGO_TARGET_TMPDIR").map_or(std::env::temp_dir(), PathBuf::from);
        let folder = folder.join(format!("api-calls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, bytes: Vec<u8>| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).unwrap();
            CString::new(path.to_str().unwrap()).unwrap()
        };
        // SAFETY: the texts are terminated, and the callback lives for ever.
        let base = |name: &str, bytes: Vec<u8>, with_adapter: bool| unsafe {
            let adapter = with_adapter.then(|| {
                let ty = QuantType::F32;
                let shape = tiny_lora::Shape { rank: 2, alpha: Some(1.0), ty, gain: 0.1, seed: 1 };
                file(&format!("{name}-lora.gguf"), tiny_lora::bytes(&bytes, shape))
            });
            let file = file(&format!("{name}.gguf"), bytes);
            let model = llama_model_load_from_file(file.as_ptr(), llama_model_default_params());
            assert!(!model.is_null(), "{name}");
            Base { model, file, adapter }
        };
        // SAFETY: the callback lives for ever.
        unsafe { llama_log_set(Some(listen), null_mut()) };
        let models = vec![
            base("dense", tiny::bytes(&tiny::MICRO), true),
            base("windowed", tiny_archs::bytes(&tiny_archs::spec("gemma3")), false),
            base("encoder", tiny_archs::bytes(&tiny_archs::EMBEDDERS[0]), false),
            base("ranker", tiny_archs::bytes(&tiny_archs::EMBEDDERS[3]), false),
            base("sparse", tiny_sparse::bytes(&tiny_sparse::MICRO), false),
        ];
        Shared { models, folder }
    })
}

impl World {
    pub fn new() -> Self {
        Self {
            shared: shared(),
            models: Vec::new(),
            contexts: Vec::new(),
            adapters: Vec::new(),
            batches: Vec::new(),
            samplers: Vec::new(),
            attached: Vec::new(),
            tables: Vec::new(),
            pools: Vec::new(),
            state: Vec::new(),
        }
    }

    pub fn base(&self, args: &mut Args<'_>) -> &'static Base {
        &self.shared.models[args.byte() as usize % self.shared.models.len()]
    }

    /// A model, sometimes one of this run, rarely NULL.
    pub fn model(&self, args: &mut Args<'_>) -> *mut llama_model {
        match args.byte() {
            255 => null_mut(),
            byte @ 200.. if !self.models.is_empty() => {
                self.models[byte as usize % self.models.len()]
            }
            byte => self.shared.models[byte as usize % self.shared.models.len()].model,
        }
    }

    /// A vocabulary that lives for ever, rarely NULL: samplers keep it.
    pub fn vocab(&self, args: &mut Args<'_>) -> *const llama_vocab {
        if args.one_in(32) {
            return null();
        }
        // SAFETY: a model that lives.
        unsafe { llama_model_get_vocab(self.base(args).model) }
    }

    /// A context, rarely NULL; one is made when there is none.
    pub fn context(&mut self, args: &mut Args<'_>) -> *mut llama_context {
        if self.contexts.is_empty() {
            contexts::make(self, args);
        }
        if args.one_in(64) {
            return null_mut();
        }
        pick(&self.contexts, args).map_or(null_mut(), |(ctx, _)| ctx)
    }

    /// Frees a model of this run and what must not outlive it.
    pub fn free_model(&mut self, model: *mut llama_model) {
        let (contexts, others) =
            std::mem::take(&mut self.contexts).into_iter().partition(|c| c.1 == model);
        self.contexts = others;
        let contexts: Vec<_> = contexts;
        contexts.into_iter().for_each(|(ctx, _)| self.free_context(ctx));
        // Adapters go with their model.
        self.adapters.retain(|adapter| adapter.1 != model);
        self.models.retain(|other| *other != model);
        // SAFETY: it is in no list any more.
        unsafe { llama_model_free(model) };
    }

    pub fn free_context(&mut self, ctx: *mut llama_context) {
        self.contexts.retain(|other| other.0 != ctx);
        self.attached.retain(|other| other.0 != ctx);
        // SAFETY: it is in no list any more.
        unsafe { llama_free(ctx) };
    }

    /// Lets a sampler work inside of a context until it is freed.
    pub fn attach(&mut self, ctx: *mut llama_context, seq: i32, smpl: *mut llama_sampler) {
        // SAFETY: NULL or what lives.
        if unsafe { llama_set_sampler(ctx, seq, smpl) } {
            self.attached.retain(|other| (other.0, other.1) != (ctx, seq));
            self.attached.push((ctx, seq, smpl));
        }
    }

    /// Frees a sampler that no chain owns: contexts let go of it before.
    pub fn free_sampler(&mut self, smpl: *mut llama_sampler) {
        self.samplers.retain(|other| *other != smpl);
        let attached = std::mem::take(&mut self.attached);
        let (of_this, others) = attached.into_iter().partition(|other| other.2 == smpl);
        self.attached = others;
        let of_this: Vec<_> = of_this;
        for (ctx, seq, _) in of_this {
            // SAFETY: the context lives.
            assert!(unsafe { llama_set_sampler(ctx, seq, null_mut()) });
        }
        // SAFETY: NULL, or a sampler that is in no list any more.
        unsafe { llama_sampler_free(smpl) };
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (ctx, _) in std::mem::take(&mut self.contexts) {
            self.free_context(ctx);
        }
        for smpl in std::mem::take(&mut self.samplers) {
            self.free_sampler(smpl);
        }
        for table in std::mem::take(&mut self.tables) {
            // SAFETY: made by a box, and no sampler uses it any more.
            drop(unsafe { Box::from_raw(table) });
        }
        for batch in std::mem::take(&mut self.batches) {
            // SAFETY: a batch of this run.
            unsafe { llama_batch_ext_free(batch) };
        }
        for (adapter, _) in std::mem::take(&mut self.adapters) {
            // SAFETY: its model is there.
            unsafe { llama_adapter_lora_free(adapter) };
        }
        for model in std::mem::take(&mut self.models) {
            self.free_model(model);
        }
        for pool in std::mem::take(&mut self.pools) {
            // SAFETY: no context uses it any more.
            unsafe { powerinfer::ffi::ggml::threadpool::ggml_threadpool_free(pool) };
        }
    }
}

/// One of a list.
pub fn pick<T: Copy>(list: &[T], args: &mut Args<'_>) -> Option<T> {
    let n = list.len().max(1);
    list.get(args.byte() as usize % n).copied()
}

/// Bytes of splitmix64, to begin with.
pub fn made_up(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Makes the calls that the bytes say, and frees all in the end.
pub fn run(bytes: &[u8]) {
    users::start();
    let mut world = World::new();
    let mut args = Args(bytes);
    for _ in 0..64 {
        if args.is_empty() {
            break;
        }
        match args.byte() % 16 {
            0..=5 => contexts::step(&mut world, &mut args),
            6..=9 => samplers::step(&mut world, &mut args),
            10..=12 => texts::step(&world, &mut args),
            _ => models::step(&mut world, &mut args),
        }
    }
}
