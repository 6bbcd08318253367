//! Models: loading, questions, saving, quantising; adapters.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};

use powerinfer::ffi::adapter::*;
use powerinfer::ffi::ext::*;
use powerinfer::ffi::gguf::read::{gguf_free, gguf_init_empty};
use powerinfer::ffi::load::*;
use powerinfer::ffi::model::*;
use powerinfer::ffi::model_make::*;
use powerinfer::ffi::model_meta::*;
use powerinfer::ffi::params::*;
use powerinfer::ffi::quantize::*;
use powerinfer::ffi::types::*;

use super::args::{Args, touch};
use super::{World, pick};

unsafe extern "C" fn stop(_: f32, _: *mut c_void) -> cbool {
    0
}
unsafe extern "C" fn go_on(_: f32, _: *mut c_void) -> cbool {
    7
}

/// Copies text into an array, without a terminator when it is longer.
fn fill(array: &mut [c_char; 128], text: &[u8]) {
    array.iter_mut().zip(text).for_each(|(to, from)| *to = *from as c_char);
}

/// One override that may be anything, and the end of the list.
fn overrides(args: &mut Args<'_>) -> [llama_model_kv_override; 2] {
    let value = llama_model_kv_override_value { val_str: [0; 128] };
    let mut list = [llama_model_kv_override { tag: 0, key: [0; 128], value }; 2];
    let key = args.pick(&[
        &b"llama.context_length"[..],
        b"llama.rope.freq_base",
        b"tokenizer.ggml.bos_token_id",
        b"llama.block_count",
        b"general.name",
        &[b'x'; 200],
        b"\xff",
    ]);
    fill(&mut list[0].key, key);
    list[0].tag = args.int();
    list[0].value = match args.byte() % 3 {
        0 => llama_model_kv_override_value { val_i64: i64::from(args.int()) },
        1 => llama_model_kv_override_value { val_f64: f64::from(args.float()) },
        _ => {
            let mut text = [0; 128];
            fill(&mut text, args.pick(&[&b"a text"[..], &[b'y'; 128]]));
            llama_model_kv_override_value { val_str: text }
        }
    };
    list
}

fn load(world: &mut World, args: &mut Args<'_>) {
    if world.models.len() >= 2 {
        return;
    }
    // SAFETY: no arguments.
    let mut params = unsafe { llama_model_default_params() };
    let list = overrides(args);
    let split = args.floats(16);
    for _ in 0..args.byte() % 4 {
        match args.byte() % 14 {
            0 => params.n_gpu_layers = args.int(),
            1 => params.split_mode = args.int(),
            2 => params.load_mode = args.int(),
            3 => params.lazy_mode = args.int(),
            4 => params.main_gpu = args.int(),
            5 => params.tensor_split = split.as_ptr(),
            6 => params.progress_callback = args.pick(&[Some(stop as _), Some(go_on as _), None]),
            7 | 8 => params.kv_overrides = list.as_ptr(),
            9 => params.vocab_only = args.flag(),
            10 => params.check_tensors = args.flag(),
            11 => params.no_alloc = args.flag(),
            12 => params.load_mtp = args.flag(),
            _ => params.use_extra_bufts = args.flag(),
        }
    }
    let (base, own) = (world.base(args), args.text());
    let adapter = base.adapter.as_ref().unwrap_or(&base.file);
    let path =
        args.pick(&[base.file.as_ptr(), base.file.as_ptr(), own.ptr(), adapter.as_ptr(), null()]);
    // SAFETY: texts are terminated, lists end as they must, the stream is open.
    let model = unsafe {
        match args.byte() % 8 {
            0 => {
                let mut paths = [path, own.ptr()];
                let n = args.byte() as usize % 3;
                let (list, n) = if args.one_in(8) {
                    (null_mut(), args.small())
                } else {
                    (paths.as_mut_ptr(), n)
                };
                llama_model_load_from_splits(list, n, params)
            }
            1 => {
                let file =
                    if path.is_null() { null_mut() } else { libc::fopen(path, c"rb".as_ptr()) };
                let model = llama_model_load_from_file_ptr(file, params);
                if !file.is_null() {
                    libc::fclose(file);
                }
                model
            }
            2 => {
                let metadata = gguf_init_empty();
                let model = llama_model_init_from_user(
                    if args.one_in(2) { null_mut() } else { metadata },
                    None,
                    null_mut(),
                    params,
                );
                gguf_free(metadata);
                model
            }
            _ => llama_model_load_from_file(path, params),
        }
    };
    if !model.is_null() {
        world.models.push(model);
    }
}

/// All that can be asked of a model, sized buffers included.
fn ask(world: &World, args: &mut Args<'_>) {
    let (model, i) = (world.model(args), args.int());
    let (key, mut room) = (args.text(), args.room());
    let (buf, size) = (room.ptr(), room.len());
    // SAFETY: NULL or a model; texts are terminated, buffers as long as said.
    unsafe {
        for number in [
            llama_model_n_ctx_train,
            llama_model_n_embd,
            llama_model_n_embd_inp,
            llama_model_n_embd_out,
            llama_model_n_layer,
            llama_model_n_layer_nextn,
            llama_model_n_head,
            llama_model_n_head_kv,
            llama_model_n_swa,
            llama_model_meta_count,
            llama_model_decoder_start_token,
            llama_model_rope_type,
            llama_model_ftype,
            llama_model_n_expert,
        ] {
            number(model);
        }
        for flag in [
            llama_model_has_encoder,
            llama_model_has_decoder,
            llama_model_is_recurrent,
            llama_model_is_hybrid,
            llama_model_is_diffusion,
        ] {
            flag(model);
        }
        llama_model_size(model);
        llama_model_n_params(model);
        llama_model_rope_freq_scale_train(model);
        touch(llama_model_cls_label(model, i as u32), 1);
        touch(llama_model_chat_template(model, key.ptr()), 1);
        match args.byte() % 4 {
            0 => llama_model_meta_val_str(model, key.ptr(), buf, size),
            1 => llama_model_meta_key_by_index(model, i, buf, size),
            2 => llama_model_meta_val_str_by_index(model, i, buf, size),
            _ => llama_model_desc(model, buf, size),
        };
    }
}

fn quantize(world: &World, args: &mut Args<'_>) {
    // SAFETY: no arguments.
    let mut params = unsafe { llama_model_quantize_default_params() };
    params.nthread = 1;
    let list = overrides(args);
    let name = args.text();
    let types = [
        llama_model_tensor_override { pattern: name.ptr(), r#type: args.int() },
        llama_model_tensor_override { pattern: null(), r#type: 0 },
    ];
    let layers = [args.int().max(0), -1];
    let data = args.floats(32);
    let imatrix = [
        llama_model_imatrix_data { name: name.ptr(), data: data.as_ptr(), size: data.len() },
        llama_model_imatrix_data { name: null(), data: null(), size: 0 },
    ];
    for _ in 0..args.byte() % 5 {
        match args.byte() % 13 {
            0..=2 => params.ftype = args.int(),
            3 => params.output_tensor_type = args.int(),
            4 => params.token_embedding_type = args.int(),
            5 => params.pure = args.flag(),
            6 => params.only_copy = args.flag(),
            7 => params.dry_run = args.flag(),
            8 => params.kv_overrides = list.as_ptr(),
            9 => params.tt_overrides = types.as_ptr(),
            10 => params.prune_layers = layers.as_ptr(),
            11 => params.imatrix = imatrix.as_ptr(),
            _ => params.max_buf_size = args.int() as usize,
        }
    }
    let output = CString::new(world.shared.folder.join("quantized").to_str().unwrap()).unwrap();
    let base = world.base(args);
    let input = args.pick(&[base.file.as_ptr(), base.file.as_ptr(), c"/nowhere".as_ptr(), null()]);
    let output = args.pick(&[output.as_ptr(), output.as_ptr(), c"/nowhere/x".as_ptr(), null()]);
    // SAFETY: texts are terminated, lists end as they must.
    unsafe { llama_model_quantize(input, output, if args.one_in(16) { null() } else { &params }) };
}

fn adapter(world: &mut World, args: &mut Args<'_>) {
    // SAFETY: NULL or what lives; texts are terminated, buffers as long as said.
    unsafe {
        if world.adapters.len() < 3 && args.one_in(2) {
            let (model, own) = (world.model(args), args.text());
            let file = world.shared.models[0].adapter.as_ref().map_or(null(), |file| file.as_ptr());
            let path = args.pick(&[file, file, world.shared.models[1].file.as_ptr(), own.ptr()]);
            let adapter = llama_adapter_lora_init(model, path);
            if !adapter.is_null() {
                world.adapters.push((adapter, model));
            }
            return;
        }
        let adapter = pick(&world.adapters, args).map_or(null_mut(), |(adapter, _)| adapter);
        let (i, key, mut room) = (args.int(), args.text(), args.room());
        let (buf, size) = (room.ptr(), room.len());
        match args.byte() % 6 {
            0 => drop(llama_adapter_meta_val_str(adapter, key.ptr(), buf, size)),
            1 => drop(llama_adapter_meta_key_by_index(adapter, i, buf, size)),
            2 => drop(llama_adapter_meta_val_str_by_index(adapter, i, buf, size)),
            3 => {
                let n = llama_adapter_get_alora_n_invocation_tokens(adapter);
                touch(llama_adapter_get_alora_invocation_tokens(adapter), n as usize);
                llama_adapter_meta_count(adapter);
            }
            4 => {
                world.adapters.retain(|other| other.0 != adapter);
                llama_adapter_lora_free(adapter);
            }
            _ => drop(llama_adapter_lora_init_from_file_ptr(world.model(args), null_mut())),
        }
    }
}

pub fn step(world: &mut World, args: &mut Args<'_>) {
    match args.byte() % 16 {
        0..=3 => load(world, args),
        4 | 5 => {
            let model = pick(&world.models, args);
            world.free_model(model.unwrap_or(null_mut()));
        }
        6..=9 => ask(world, args),
        10 => quantize(world, args),
        11 => {
            let path = CString::new(world.shared.folder.join("saved").to_str().unwrap()).unwrap();
            let path = args.pick(&[path.as_ptr(), null(), c"/nowhere/x".as_ptr()]);
            // SAFETY: NULL or a model; a terminated text.
            unsafe { llama_model_save_to_file(world.model(args), path) };
        }
        _ => adapter(world, args),
    }
}
