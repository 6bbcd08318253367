//! Models that are written as files and models that programs make.
#![allow(unsafe_code, reason = "calls the C interface")]

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::{process, ptr, thread};

use powerinfer::ffi::types::*;
use powerinfer::ffi::{
    context::*, decode::*, gguf::read::*, gguf::write::*, load::*, model::*, model_make::*,
    params::*,
};
use powerinfer::gguf::{self, LoadOptions, ModelFiles};
use powerinfer::model::{Layout, Model};
use powerinfer::plan::Skipping;
use powerinfer::quant::QuantType::{self, *};

use common::log::{errors, one_error};
use common::tiny::{self, Spec};
use common::{tiny_archs, tiny_sparse};

fn temp(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("model-make-{name}"))
}

fn c_path(path: &std::path::Path) -> CString {
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

/// Name, extents, type and bytes of a tensor.
type Filed = (String, Vec<u64>, QuantType, Vec<u8>);

/// What a file has: pairs, and tensors with their bytes.
fn contents(bytes: &[u8]) -> (Vec<String>, Vec<Filed>) {
    let header = gguf::parse(bytes, "test").unwrap();
    let pairs = header.meta.iter().map(|(key, value)| format!("{key} = {value:?}"));
    let tensors = header.tensors.iter().map(|t| {
        let start = (header.data_offset + t.offset) as usize;
        let data = bytes[start..start + t.n_bytes as usize].to_vec();
        (t.name.to_string(), t.shape.dims().to_vec(), t.ty, data)
    });
    (pairs.collect(), tensors.collect())
}

fn assert_same(a: &[u8], b: &[u8], what: &str) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.0, b.0, "{what}");
    assert_eq!(a.1.len(), b.1.len(), "{what}");
    for (a, b) in a.1.iter().zip(&b.1) {
        assert_eq!((&a.0, &a.1, a.2), (&b.0, &b.1, b.2), "{what}");
        assert!(a.3 == b.3, "{what}: {}", a.0);
    }
}

/// However weights lie in memory, they are written as they were filed.
#[test]
fn every_layout_is_filed_as_it_was() {
    let gqa = tiny::spec("gqa");
    let kinds: [(&'static [QuantType], Layout); 13] = [
        (&[F32], Layout::Neurons),
        (&[F16], Layout::Neurons),
        (&[BF16], Layout::Neurons),
        (&[Q4_0], Layout::Tiles),
        (&[Q4_1], Layout::Tiles),
        (&[Q5_0], Layout::Tiles),
        (&[Q5_1], Layout::Tiles),
        (&[Q8_0], Layout::Tiles),
        (&[IQ4_NL], Layout::Tiles),
        (&[MXFP4], Layout::Tiles),
        (&[Q4_K], Layout::Tiles),
        (&[Q5_K], Layout::Tiles),
        (&[Q6_K], Layout::Tiles),
    ];
    for (types, layout) in kinds {
        // More rows than are brought in order together.
        let spec = Spec { n_embd: 1056, n_ff: 64, n_layer: 1, n_vocab: 16, types, ..gqa };
        // All rows are whole blocks of 256.
        let (head_dim_k, head_dim_v, n_rot) = (64, 64, 64);
        let spec = match types[0].block_len() {
            256 => Spec { n_embd: 256, n_ff: 512, head_dim_k, head_dim_v, n_rot, ..spec },
            _ => spec,
        };
        let bytes = tiny::bytes(&spec);
        let options = LoadOptions::default();
        let file = tiny::unnamed_file(&bytes);
        let files = ModelFiles::open_file(file, "tiny.gguf", &options).unwrap();
        let model = Model::load(files, false, Skipping::Small, &mut |_| true).unwrap();
        let n = model.weights().iter().filter(|w| w.layout == layout).count();
        assert_eq!(n, 1, "{types:?}: one down projection lies otherwise");
        let path = temp(&format!("layout-{types:?}.gguf"));
        model.save(&path).unwrap();
        assert_same(&std::fs::read(&path).unwrap(), &bytes, &format!("{types:?}"));
    }
}

#[test]
fn files_of_powerinfer_too() {
    for spec in tiny_sparse::SPECS {
        let bytes = tiny_sparse::bytes(spec);
        let (path, saved) = (temp("pwri.gguf"), temp("pwri-saved.gguf"));
        std::fs::write(&path, &bytes).unwrap();
        let model = load(&path, |_| {});
        // SAFETY: the model is alive.
        unsafe {
            llama_model_save_to_file(model, c_path(&saved).as_ptr());
            llama_model_free(model);
        }
        let saved = std::fs::read(&saved).unwrap();
        assert_eq!(saved[..4], *b"PWRI");
        assert_same(&saved, &bytes, spec.name);
    }
}

fn load(path: &std::path::Path, change: impl FnOnce(&mut llama_model_params)) -> *mut llama_model {
    // SAFETY: default parameters, and what the test makes of them.
    unsafe {
        let mut params = llama_model_default_params();
        change(&mut params);
        llama_model_load_from_file(c_path(path).as_ptr(), params)
    }
}

#[test]
fn a_model_can_replace_its_own_file() {
    let path = temp("own.gguf");
    let bytes = tiny::bytes(&tiny::spec("gqa"));
    std::fs::write(&path, &bytes).unwrap();
    let model = load(&path, |_| {});
    let before = next(model);
    // SAFETY: the model is alive.
    unsafe { llama_model_save_to_file(model, c_path(&path).as_ptr()) };
    assert_eq!(next(model), before, "its weights are still mapped");
    assert_same(&std::fs::read(&path).unwrap(), &bytes, "own file");
    let again = load(&path, |_| {});
    assert_eq!(next(again), before);
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with("model-make-own") && name.ends_with(".tmp")
    });
    assert_eq!(left.count(), 0, "nothing unfinished is left");
    // SAFETY: nobody uses them any more.
    unsafe {
        llama_model_free(model);
        llama_model_free(again);
    }
}

#[test]
fn overrides_are_written() {
    let (path, saved) = (temp("override.gguf"), temp("overridden.gguf"));
    std::fs::write(&path, tiny::bytes(&tiny::MICRO)).unwrap();
    // SAFETY: zeros are a value of this plain structure.
    let mut overrides: [llama_model_kv_override; 2] = unsafe { std::mem::zeroed() };
    for (to, from) in overrides[0].key.iter_mut().zip(b"llama.context_length") {
        *to = *from as c_char;
    }
    overrides[0].value.val_i64 = 77;
    let model = load(&path, |p| p.kv_overrides = overrides.as_ptr());
    // SAFETY: the model is alive.
    unsafe {
        llama_model_save_to_file(model, c_path(&saved).as_ptr());
        llama_model_free(model);
        let model = load(&saved, |_| {});
        assert_eq!(llama_model_n_ctx_train(model), 77);
        llama_model_free(model);
    }
}

#[test]
fn what_cannot_be_written() {
    let path = temp("only.gguf");
    std::fs::write(&path, tiny::bytes(&tiny::MICRO)).unwrap();
    let out = c_path(&temp("not-written.gguf"));
    let vocab = load(&path, |p| p.vocab_only = 1);
    let bare = load(&path, |p| p.no_alloc = 1);
    let model = load(&path, |_| {});
    // SAFETY: NULL or live handles.
    unsafe {
        for model in [vocab, bare] {
            one_error("without its weights", || llama_model_save_to_file(model, out.as_ptr()));
        }
        one_error("NULL", || llama_model_save_to_file(ptr::null(), out.as_ptr()));
        one_error("NULL", || llama_model_save_to_file(model, ptr::null()));
        let nowhere = c_path(&temp("no/such/folder.gguf"));
        one_error("cannot create the file", || llama_model_save_to_file(model, nowhere.as_ptr()));
        let folder = CString::new(env!("CARGO_TARGET_TMPDIR")).unwrap();
        one_error("cannot replace the file", || llama_model_save_to_file(model, folder.as_ptr()));
        for model in [vocab, bare, model] {
            llama_model_free(model);
        }
    }
    assert!(!temp("not-written.gguf").exists());
}

/// The logits of a token after another.
fn next(model: *mut llama_model) -> Vec<f32> {
    assert!(!model.is_null());
    let mut tokens = [3, 5];
    // SAFETY: the model is alive; a row has n_vocab numbers.
    unsafe {
        let mut params = llama_context_default_params();
        (params.n_ctx, params.n_threads, params.n_threads_batch) = (256, 1, 1);
        let ctx = llama_init_from_model(model, params);
        let batch = powerinfer::ffi::batch::llama_batch_get_one(tokens.as_mut_ptr(), 2);
        assert_eq!(llama_decode(ctx, batch), 0);
        let n_vocab = powerinfer::ffi::vocab::llama_vocab_n_tokens(llama_model_get_vocab(model));
        let row = std::slice::from_raw_parts(llama_get_logits_ith(ctx, -1), n_vocab as usize);
        let row = row.to_vec();
        llama_free(ctx);
        row
    }
}

/// What a program fills tensors with, and which it was asked for.
#[derive(Default)]
struct Filler {
    data: HashMap<String, Vec<u8>>,
    asked: RefCell<Vec<(String, [i64; 4], c_int)>>,
}

unsafe extern "C" fn fill(tensor: *mut ggml_tensor, user: *mut c_void) {
    // SAFETY: the tests pass a filler; the tensor has all its bytes.
    unsafe {
        let (filler, tensor) = (&*user.cast::<Filler>(), &mut *tensor);
        let name = CStr::from_ptr(tensor.name.as_ptr()).to_str().unwrap().to_owned();
        filler.asked.borrow_mut().push((name.clone(), tensor.ne, tensor.r#type));
        if let Some(data) = filler.data.get(&name) {
            let n = powerinfer::ffi::ggml::tensor::ggml_nbytes(tensor);
            assert_eq!(n, data.len(), "{name}");
            ptr::copy_nonoverlapping(data.as_ptr(), tensor.data.cast(), n);
        }
        // A program may do what it wants with the structure.
        tensor.data = ptr::null_mut();
        tensor.ne = [-1; 4];
    }
}

impl Filler {
    fn of(bytes: &[u8]) -> Self {
        let data = contents(bytes).1.into_iter().map(|(name, _, _, data)| (name, data)).collect();
        Self { data, ..Self::default() }
    }

    fn make(
        &self,
        metadata: *mut gguf_context,
        change: impl FnOnce(&mut llama_model_params),
    ) -> *mut llama_model {
        let user = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the metadata is alive, and so is the filler while the model is made.
        unsafe {
            let mut params = llama_model_default_params();
            change(&mut params);
            llama_model_init_from_user(metadata, Some(fill), user, params)
        }
    }
}

/// The metadata of a file, with its tensor table.
fn metadata(bytes: &[u8]) -> *mut gguf_context {
    let path = temp(&format!("meta-{}-{:?}.gguf", process::id(), thread::current().id()));
    std::fs::write(&path, bytes).unwrap();
    let params = gguf_init_params { no_alloc: 1, ctx: ptr::null_mut() };
    // SAFETY: a terminated path.
    let meta = unsafe { gguf_init_from_file(c_path(&path).as_ptr(), params) };
    assert!(!meta.is_null());
    meta
}

/// The same pairs without a table.
fn pairs(of: *mut gguf_context) -> *mut gguf_context {
    // SAFETY: both contexts are alive.
    unsafe {
        let pairs = gguf_init_empty();
        gguf_set_kv(pairs, of);
        pairs
    }
}

#[test]
fn a_model_that_a_program_fills() {
    let llamas = ["gqa", "biases", "fused-bias", "factors", "tied"].map(tiny::spec);
    let llamas = llamas.iter().map(|spec| (spec.name, tiny::bytes(spec)));
    let others = tiny_archs::SPECS.iter().map(|spec| (spec.name, tiny_archs::bytes(spec)));
    for (name, bytes) in llamas.chain(others) {
        let path = temp(&format!("{name}.gguf"));
        std::fs::write(&path, &bytes).unwrap();
        let (filler, meta, filed) = (Filler::of(&bytes), metadata(&bytes), load(&path, |_| {}));
        let made = filler.make(meta, |_| {});
        assert_eq!(next(made), next(filed), "{name}");
        assert_eq!(filler.asked.borrow().len(), filler.data.len(), "{name}: each once");
        // Written and loaded it is the file, but for the order of the tensors.
        let saved = temp(&format!("{name}-saved.gguf"));
        // SAFETY: live handles, which nobody uses any more then.
        unsafe {
            llama_model_save_to_file(made, c_path(&saved).as_ptr());
            let again = load(&saved, |_| {});
            assert_eq!(next(again), next(filed), "{name}");
            for model in [made, filed, again] {
                llama_model_free(model);
            }
            gguf_free(meta);
        }
    }
}

#[test]
fn a_model_of_metadata_alone() {
    let bytes = tiny::bytes(&tiny::spec("biases"));
    let table = metadata(&bytes);
    let meta = pairs(table);
    let filler = Filler::default();
    let model = filler.make(meta, |_| {});
    // Nothing but zeros.
    assert!(next(model).iter().all(|&x| x == 0.0));
    let asked = filler.asked.borrow();
    let f32 = F32 as c_int;
    assert!(asked.iter().all(|(_, _, ty)| *ty == f32), "{asked:?}");
    let find = |name: &str| asked.iter().find(|(n, ..)| n == name).map(|(_, ne, _)| *ne);
    assert_eq!(asked[0].0, "token_embd.weight");
    assert_eq!(find("blk.0.attn_k.weight"), Some([64, 32, 1, 1]));
    assert_eq!(find("blk.2.ffn_down.weight"), Some([96, 64, 1, 1]));
    assert_eq!(find("output_norm.weight"), Some([64, 1, 1, 1]));
    for optional in ["output.weight", "blk.0.attn_k.bias", "rope_freqs.weight"] {
        assert_eq!(find(optional), None, "{optional}");
    }
    assert_eq!(asked.len(), 2 + 3 * 9, "embeddings, norm, nine for each layer");
    // SAFETY: nobody uses them any more.
    unsafe {
        llama_model_free(model);
        gguf_free(meta);
        gguf_free(table);
    }
}

/// As in llama.cpp the table says a tensor's type; its shape follows from the metadata.
#[test]
fn the_table_gives_types_not_shapes() {
    use powerinfer::ffi::ggml::tensor::{ggml_free, ggml_init, ggml_new_tensor_2d};
    let table = metadata(&tiny::bytes(&tiny::spec("gqa")));
    let meta = pairs(table);
    // SAFETY: live handles.
    unsafe {
        let params = ggml_init_params { mem_size: 4096, mem_buffer: ptr::null_mut(), no_alloc: 1 };
        let ctx = ggml_init(params);
        let tensor = ggml_new_tensor_2d(ctx, Q8_0 as c_int, 32, 1);
        let name = b"blk.1.attn_output.weight\0";
        for (to, from) in (*tensor).name.iter_mut().zip(name) {
            *to = *from as c_char;
        }
        gguf_add_tensor(meta, tensor);
        let filler = Filler::default();
        let model = filler.make(meta, |_| {});
        assert!(!model.is_null());
        let asked = filler.asked.borrow();
        let typed = asked.iter().find(|(name, ..)| name == "blk.1.attn_output.weight");
        assert_eq!(typed.map(|(_, ne, ty)| (*ne, *ty)), Some(([64, 64, 1, 1], Q8_0 as c_int)));
        llama_model_free(model);
        ggml_free(ctx);
        gguf_free(meta);
        gguf_free(table);
    }
}

#[test]
fn what_cannot_be_made() {
    let bytes = tiny::bytes(&tiny::MICRO);
    let (meta, filler) = (metadata(&bytes), Filler::of(&bytes));
    let refused = |text: &str, meta: *mut gguf_context| {
        one_error(text, || assert!(filler.make(meta, |_| {}).is_null()));
        assert!(filler.asked.take().is_empty());
    };
    refused("the metadata is NULL", ptr::null_mut());
    // SAFETY: live handles.
    unsafe {
        let empty = gguf_init_empty();
        refused("general.architecture", empty);
        gguf_set_val_str(empty, c"general.architecture".as_ptr(), c"none".as_ptr());
        refused("unsupported architecture 'none'", empty);
        let params = llama_model_default_params();
        one_error("there is no function that fills the tensors", || {
            let made = llama_model_init_from_user(meta, None, ptr::null_mut(), params);
            assert!(made.is_null());
        });
        // Without tensors nobody is asked.
        for change in
            [(|p| p.vocab_only = 1) as fn(&mut llama_model_params), |p: &mut llama_model_params| {
                p.no_alloc = 1
            }]
        {
            let model = filler.make(meta, change);
            assert!(!model.is_null() && filler.asked.borrow().is_empty());
            llama_model_free(model);
        }
        // Extents that no memory has.
        gguf_set_val_u32(meta, c"llama.feed_forward_length".as_ptr(), u32::MAX / 32 * 32);
        let seen = errors(|| assert!(filler.make(meta, |_| {}).is_null()));
        assert_eq!(seen.len(), 1, "{seen:?}");
        gguf_free(empty);
        gguf_free(meta);
    }
}
