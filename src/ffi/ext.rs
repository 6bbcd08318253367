//! The C++ functions of llama.cpp's internal `llama-ext.h` that its own tools link to, under
//! their Itanium-mangled names. All but one have plain C signatures. They concern things that
//! this library does not have (extra prediction layers), so they answer "none"; setters say so in
//! the log. Others say what a model takes of which memory.

use core::ffi::{c_int, c_void};
use core::ptr;

use super::context::with;
use super::ggml::buffer::ggml_backend_cpu_buffer_type;
use super::ggml::cards;
use super::guard;
use super::load::model_ref;
use super::types::{ggml_backend_buffer_type_t, ggml_backend_dev_t, llama_context, llama_model};
use crate::log_error;

/// The context given as `ctx_other`: none.
#[unsafe(export_name = "_Z19llama_get_ctx_otherP13llama_context")]
pub unsafe extern "C" fn llama_get_ctx_other(_ctx: *mut llama_context) -> *mut llama_context {
    ptr::null_mut()
}

/// Number of experts of a model; 0 for a dense one.
#[unsafe(export_name = "_Z20llama_model_n_expertPK11llama_model")]
pub unsafe extern "C" fn llama_model_n_expert(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    let hparams = unsafe { model_ref(model) }.and_then(|m| m.model.hparams());
    hparams.and_then(|h| i32::try_from(h.n_expert).ok()).unwrap_or(0)
}

/// Number of devices beside the processor that a model is on, or would be with its weights.
#[unsafe(export_name = "_Z21llama_model_n_devicesPK11llama_model")]
pub unsafe extern "C" fn llama_model_n_devices(model: *const llama_model) -> i32 {
    // SAFETY: NULL or a model.
    i32::from(unsafe { model_ref(model) }.is_some_and(|m| m.card.is_some()))
}

/// The i-th of those devices; NULL when there are fewer.
#[unsafe(export_name = "_Z22llama_model_get_devicePK11llama_modeli")]
pub unsafe extern "C" fn llama_model_get_device(
    model: *const llama_model,
    i: c_int,
) -> ggml_backend_dev_t {
    // SAFETY: NULL or a model.
    let card = unsafe { model_ref(model) }.and_then(|m| m.card).filter(|_| i == 0);
    card.and_then(cards::handle_of).unwrap_or(ptr::null_mut())
}

/// Hidden states for the layers that predict further tokens: none.
#[unsafe(export_name = "_Z26llama_get_embeddings_nextnP13llama_context")]
pub unsafe extern "C" fn llama_get_embeddings_nextn(_ctx: *mut llama_context) -> *mut f32 {
    ptr::null_mut()
}

/// The i-th of those: none.
#[unsafe(export_name = "_Z30llama_get_embeddings_nextn_ithP13llama_contexti")]
pub unsafe extern "C" fn llama_get_embeddings_nextn_ith(
    _ctx: *mut llama_context,
    _i: i32,
) -> *mut f32 {
    ptr::null_mut()
}

/// Asks for those hidden states: not there yet.
#[unsafe(export_name = "_Z26llama_set_embeddings_nextnP13llama_contextbb")]
pub unsafe extern "C" fn llama_set_embeddings_nextn(
    _ctx: *mut llama_context,
    _value: u8,
    _masked: u8,
) {
    log_error!("llama_set_embeddings_nextn: this version of libpowerinfer does not have it yet");
}

/// Chooses the first layer that predicts further tokens: not there yet.
#[unsafe(export_name = "_Z28llama_set_nextn_layer_offsetP13llama_contexti")]
pub unsafe extern "C" fn llama_set_nextn_layer_offset(_ctx: *mut llama_context, _offset: i32) {
    log_error!("llama_set_nextn_layer_offset: this version of libpowerinfer does not have it yet");
}

/// Layers of a target model whose inputs a draft model reads: none.
#[unsafe(export_name = "_Z28llama_model_target_layer_idsPK11llama_model")]
pub unsafe extern "C" fn llama_model_target_layer_ids(_model: *const llama_model) -> *const i32 {
    ptr::null()
}

/// Number of those layers.
#[unsafe(export_name = "_Z30llama_model_target_layer_ids_nPK11llama_model")]
pub unsafe extern "C" fn llama_model_target_layer_ids_n(_model: *const llama_model) -> u32 {
    0
}

/// Input of a layer: none kept.
#[unsafe(export_name = "_Z30llama_get_embeddings_layer_inpP13llama_contextj")]
pub unsafe extern "C" fn llama_get_embeddings_layer_inp(
    _ctx: *mut llama_context,
    _layer: u32,
) -> *mut f32 {
    ptr::null_mut()
}

/// Asks for the input of a layer: not there yet.
#[unsafe(export_name = "_Z30llama_set_embeddings_layer_inpP13llama_contextjb")]
pub unsafe extern "C" fn llama_set_embeddings_layer_inp(
    _ctx: *mut llama_context,
    _layer: u32,
    _value: u8,
) {
    log_error!(
        "llama_set_embeddings_layer_inp: this version of libpowerinfer does not have it yet"
    );
}

/// How many candidates a draft model's selector keeps: it has none.
#[unsafe(export_name = "_Z33llama_model_dflash_selector_top_kPK11llama_model")]
pub unsafe extern "C" fn llama_model_dflash_selector_top_k(_model: *const llama_model) -> i32 {
    0
}

/// Writes the table of token embeddings as floats, row after row, and gives their number; with NULL
/// only the number. 0 when the table is not in memory.
#[unsafe(export_name = "_Z24llama_model_get_tok_embdPK11llama_modelPf")]
pub unsafe extern "C" fn llama_model_get_tok_embd(model: *const llama_model, out: *mut f32) -> u32 {
    guard::call(0, "llama_model_get_tok_embd", || {
        // SAFETY: NULL or a model.
        let model = unsafe { model_ref(model) }.map(|handle| &handle.model);
        let n = model.and_then(|model| model.n_token_embeddings()).unwrap_or(0);
        let Ok(n_told) = u32::try_from(n) else { return 0 };
        if let (Some(model), false) = (model, out.is_null()) {
            // SAFETY: the caller asked for the number first and has room for as many.
            let out = unsafe { core::slice::from_raw_parts_mut(out, n) };
            if !model.read_token_embeddings(out) {
                return 0;
            }
        }
        n_told
    })
}

/// A node of libstdc++'s `std::map` from buffer types to how much memory is for what.
#[repr(C)]
struct MapNode {
    /// 1: black, 0: red.
    colour: usize,
    parent: usize,
    left: usize,
    right: usize,
    buffer_type: ggml_backend_buffer_type_t,
    /// Bytes of weights, of the KV cache and of activations.
    model: usize,
    context: usize,
    compute: usize,
}

/// Memory for a C++ object that the caller's destructors free.
fn operator_new(bytes: usize) -> *mut c_void {
    // SAFETY: a terminated name; what is found under it is C++'s operator new, which every program
    // with a std::map has, and malloc's memory is what the usual one gives.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"_Znwm".as_ptr());
        if found.is_null() {
            return libc::malloc(bytes);
        }
        let new: unsafe extern "C" fn(usize) -> *mut c_void = core::mem::transmute(found);
        new(bytes)
    }
}

/// What a buffer type holds, in bytes.
struct Held {
    buffer_type: ggml_backend_buffer_type_t,
    model: usize,
    context: usize,
    compute: usize,
}

/// Memory by buffer type, a `std::map` returned by value: the caller passes 48 bytes for libstdc++'s
/// tree, whose header is at byte 8. The processor's memory and that of the GPU, if the model is on
/// one; nothing for NULL.
#[unsafe(export_name = "_Z26llama_get_memory_breakdownPK13llama_context")]
pub unsafe extern "C" fn llama_get_memory_breakdown(
    result: *mut [usize; 6],
    ctx: *const llama_context,
) -> *mut [usize; 6] {
    if result.is_null() {
        return result;
    }
    // SAFETY: ctx is NULL or a context; nothing of it is changed.
    let held = unsafe {
        with(ctx.cast_mut(), Vec::new(), "llama_get_memory_breakdown", |c| {
            let memory = c.inner.memory_use();
            let host = Held {
                buffer_type: ggml_backend_cpu_buffer_type(),
                model: usize::try_from(memory.weights).unwrap_or(usize::MAX),
                context: memory.kv,
                compute: memory.compute,
            };
            let card = memory.card.and_then(|card| {
                Some(Held {
                    buffer_type: cards::buffer_type_of(card.index)?,
                    model: card.weights,
                    context: card.kv,
                    compute: card.compute,
                })
            });
            card.into_iter().chain([host]).collect()
        })
    };
    // SAFETY: the caller's hidden pointer has room for the map.
    unsafe { write_map(result, held) };
    result
}

/// Makes a map of at most two entries: the root, and a right child that is greater.
///
/// # Safety
/// `map` has room for 48 bytes, and whoever gets it frees its nodes.
unsafe fn write_map(map: *mut [usize; 6], mut held: Vec<Held>) {
    held.sort_by_key(|held| held.buffer_type as usize);
    let header = map as usize + size_of::<usize>();
    let (mut root, mut last) = (0, header);
    let mut n = 0;
    for Held { buffer_type, model, context, compute } in held.into_iter().take(2) {
        let node: *mut MapNode = operator_new(size_of::<MapNode>()).cast();
        if node.is_null() {
            break;
        }
        let colour = usize::from(n == 0);
        // SAFETY: new memory, and the root was written before.
        unsafe {
            *node = MapNode {
                colour,
                parent: last,
                left: 0,
                right: 0,
                buffer_type,
                model,
                context,
                compute,
            };
            if n == 0 {
                root = node as usize;
            } else {
                (*(root as *mut MapNode)).right = node as usize;
            }
        }
        last = node as usize;
        n += 1;
    }
    let first = if n == 0 { header } else { root };
    // SAFETY: the caller's promise. The header is [colour, root, leftmost, rightmost], after the
    // comparator and before the size.
    unsafe { *map = [0, 0, root, first, last, n] };
}
