//! Contexts: making them, batches of both kinds, outputs, the cache, states, adapters, threads.
#![allow(deprecated, reason = "they are there")]

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use powerinfer::ffi::adapter::*;
use powerinfer::ffi::batch::*;
use powerinfer::ffi::batch_ext::*;
use powerinfer::ffi::context::*;
use powerinfer::ffi::decode::*;
use powerinfer::ffi::ggml::threadpool::*;
use powerinfer::ffi::memory::*;
use powerinfer::ffi::model::*;
use powerinfer::ffi::params::*;
use powerinfer::ffi::sampling::*;
use powerinfer::ffi::state::*;
use powerinfer::ffi::types::*;
use powerinfer::ffi::vocab::*;

use super::args::{Args, touch};
use super::{World, pick, users};

unsafe extern "C" fn abort_at_once(_: *mut c_void) -> cbool {
    1
}
unsafe extern "C" fn never_abort(data: *mut c_void) -> cbool {
    cbool::from(!data.is_null())
}

/// A context of one of the models, with parameters that are mostly small.
pub fn make(world: &mut World, args: &mut Args<'_>) {
    if world.contexts.len() >= 3 {
        return;
    }
    let model = world.model(args);
    // SAFETY: no arguments.
    let mut params = unsafe { llama_context_default_params() };
    (params.n_ctx, params.n_batch, params.n_ubatch) = (64, 32, 16);
    (params.n_seq_max, params.n_threads, params.n_threads_batch) = (3, 1, 1);
    let mut attached: Vec<llama_sampler_seq_config> = Vec::new();
    for _ in 0..args.byte() % 5 {
        match args.byte() % 32 {
            0 => params.n_ctx = args.uint(),
            1 => params.n_batch = args.uint(),
            2 => params.n_ubatch = args.uint(),
            3 => params.n_seq_max = args.uint(),
            4 => params.n_outputs_max = args.uint(),
            5 => params.n_outputs_max_per_seq = args.uint(),
            6 => params.n_threads = args.pick(&[0, 1, 2, -1, i32::MIN]),
            7 => params.ctx_type = args.int(),
            8 => params.rope_scaling_type = args.int(),
            9 => params.pooling_type = args.int(),
            10 => params.attention_type = args.int(),
            11 => params.flash_attn_type = args.int(),
            12 => params.rope_freq_base = args.float(),
            13 => params.rope_freq_scale = args.float(),
            14 => params.yarn_ext_factor = args.float(),
            15 => params.yarn_attn_factor = args.float(),
            16 => params.yarn_beta_fast = args.float(),
            17 => params.yarn_orig_ctx = args.uint(),
            18 | 19 => params.type_k = args.int(),
            20 => params.type_v = args.int(),
            21 => {
                params.abort_callback =
                    args.pick(&[None, Some(abort_at_once as _), Some(never_abort as _)])
            }
            22 => params.embeddings = args.flag(),
            23 => params.kv_unified = args.flag(),
            24 => params.swa_full = args.flag(),
            25 => params.no_perf = args.flag(),
            26 => params.defrag_thold = args.float(),
            27 => params.n_rs_seq = args.uint(),
            28 | 29 => {
                params.cb_eval = Some(users::watch);
                params.cb_eval_user_data = args.byte() as usize as *mut c_void;
            }
            _ => {
                let config = |seq_id, sampler| llama_sampler_seq_config { seq_id, sampler };
                attached.push(config(0, pick(&world.samplers, args).unwrap_or(null_mut())));
                if args.one_in(4) {
                    let seq = args.int();
                    attached.push(config(seq, pick(&world.samplers, args).unwrap_or(null_mut())));
                }
            }
        }
    }
    (params.samplers, params.n_samplers) = (attached.as_mut_ptr(), attached.len());
    if args.one_in(64) {
        (params.samplers, params.n_samplers) = (null_mut(), args.small());
    }
    // SAFETY: NULL or a model that lives; NULLs and values are what is tested.
    let ctx = unsafe { llama_init_from_model(model, params) };
    if !ctx.is_null() {
        world.contexts.push((ctx, model));
        world.attached.extend(attached.iter().map(|config| (ctx, config.seq_id, config.sampler)));
    }
}

/// Decodes or encodes a batch that may be anything.
fn decode(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    // SAFETY: arrays are as long as the batch says, or the batch has none.
    unsafe {
        let model = llama_get_model(ctx);
        let n = args.pick(&[1, 2, 3, 5, 17, 33, 0]);
        let n_embd = llama_model_n_embd_inp(model).max(0) as usize;
        let mut tokens: Vec<i32> = (0..n).map(|i| (args.byte() as i32 + i) % 39).collect();
        if args.one_in(8) {
            tokens = args.ints(n as usize);
        }
        let wild = args.one_in(4);
        let mut embd = if args.one_in(8) { args.floats(n as usize * n_embd) } else { Vec::new() };
        let start = args.int();
        let mut pos: Vec<i32> = if wild {
            args.ints(n as usize)
        } else {
            (0..n).map(|i| start.wrapping_add(i)).collect()
        };
        let mut lists: Vec<Vec<i32>> = (0..n)
            .map(|_| {
                if wild {
                    let n = args.small() % 6;
                    args.ints(n)
                } else {
                    vec![args.byte() as i32 % 3; 1]
                }
            })
            .collect();
        let mut n_seq_id: Vec<i32> = lists.iter().map(|list| list.len() as i32).collect();
        if args.one_in(16) && n > 0 {
            n_seq_id[0] = args.pick(&[-1, i32::MIN]);
        }
        let mut seq_id: Vec<*mut i32> = lists.iter_mut().map(Vec::as_mut_ptr).collect();
        if args.one_in(16) && n > 0 {
            seq_id[0] = null_mut();
        }
        let mut logits: Vec<i8> = (0..n).map(|_| args.flag() as i8).collect();
        let mut batch = llama_batch_get_one(tokens.as_mut_ptr(), n);
        if args.one_in(2) {
            batch.pos = pos.as_mut_ptr();
        }
        if args.one_in(2) {
            batch.n_seq_id = n_seq_id.as_mut_ptr();
            batch.seq_id = seq_id.as_mut_ptr();
        }
        if args.one_in(2) {
            batch.logits = logits.as_mut_ptr();
        }
        if !embd.is_empty() {
            batch.embd = embd.as_mut_ptr();
            if !args.one_in(4) {
                batch.token = null_mut();
            }
        }
        if args.one_in(16) {
            batch = llama_batch_get_one(null_mut(), args.int());
        }
        if args.one_in(32) {
            batch.n_tokens = args.pick(&[-1, i32::MIN, 0]);
        }
        let code = users::in_context(ctx, || {
            if args.one_in(4) { llama_encode(ctx, batch) } else { llama_decode(ctx, batch) }
        });
        assert!((-3..=2).contains(&code), "code {code}");
        outputs(ctx, args);
    }
}

/// Reads outputs as far as they go.
///
/// # Safety
/// `ctx` is NULL or a context.
pub unsafe fn outputs(ctx: *mut llama_context, args: &mut Args<'_>) {
    let i = args.int();
    // SAFETY: the library promises rows of these lengths.
    unsafe {
        let model = llama_get_model(ctx);
        let n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model)).max(0) as usize;
        let n_embd = llama_model_n_embd_out(model).max(0) as usize;
        touch(llama_get_logits(ctx), n_vocab);
        touch(llama_get_logits_ith(ctx, i), n_vocab);
        touch(llama_get_embeddings(ctx), n_embd);
        touch(llama_get_embeddings_ith(ctx, i), n_embd);
        let ranked = llama_pooling_type(ctx) == 4;
        let n_cls = llama_model_n_cls_out(model) as usize;
        touch(llama_get_embeddings_seq(ctx, i), if ranked { n_cls } else { n_embd });
        llama_get_sampled_token_ith(ctx, i);
        touch(
            llama_get_sampled_probs_ith(ctx, i),
            llama_get_sampled_probs_count_ith(ctx, i) as usize,
        );
        touch(
            llama_get_sampled_logits_ith(ctx, i),
            llama_get_sampled_logits_count_ith(ctx, i) as usize,
        );
        let n = llama_get_sampled_candidates_count_ith(ctx, i) as usize;
        touch(llama_get_sampled_candidates_ith(ctx, i), n);
    }
}

/// Fills and processes the batch that grows.
fn batch_ext(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    // SAFETY: batches live, data is as long as said.
    unsafe {
        if world.batches.len() < 2 && args.one_in(2) {
            let batch = llama_batch_ext_init(ctx);
            if !batch.is_null() {
                world.batches.push(batch);
            }
        }
        let batch = pick(&world.batches, args).unwrap_or(null_mut());
        for _ in 0..args.byte() % 8 {
            let (i, id) = (args.int(), args.int());
            let n_embd = if args.one_in(2) { 32 } else { args.small() };
            let data = args.floats(n_embd);
            let (n_rows, n_embd) = args.pick(&[(1, n_embd), (n_embd, 1), (0, n_embd), (0, 0)]);
            let mut embd = llama_embd { data: data.as_ptr(), n_rows, n_embd };
            if args.one_in(8) {
                embd = llama_embd { data: null(), n_rows: usize::MAX, n_embd: args.int() as usize };
            }
            match args.byte() % 10 {
                0 => drop(llama_batch_ext_add(batch, id)),
                1..=3 => drop(llama_batch_ext_add_token(batch, i, id)),
                4 => drop(llama_batch_ext_add_embd(batch, id, embd)),
                5 => drop(llama_batch_ext_add_seq(batch, i, id)),
                6 => drop(llama_batch_ext_set_embd_token(batch, i, embd)),
                7 => drop(llama_batch_ext_set_embd_state(batch, i, embd)),
                8 => {
                    llama_batch_ext_set_output_embd(batch, i, args.flag());
                    llama_batch_ext_set_output_logits(batch, i, args.flag());
                }
                _ => {
                    let pos = args.ints(4);
                    llama_batch_ext_set_pos(
                        batch,
                        i,
                        if args.one_in(8) { null() } else { pos.as_ptr() },
                    );
                }
            }
        }
        let kind = args.int();
        // The batch may be of another context, with more sequences or tokens than this one has.
        let batch_or_none = if args.one_in(16) { null_mut() } else { batch };
        users::in_context(ctx, || llama_process(ctx, kind, batch_or_none));
        outputs(ctx, args);
        match args.byte() % 4 {
            0 => llama_batch_ext_clear(batch),
            1 => {
                world.batches.retain(|other| *other != batch);
                llama_batch_ext_free(batch);
            }
            _ => {}
        }
    }
}

fn memory(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    // SAFETY: NULL or the memory of a context that lives.
    unsafe {
        let mem = llama_get_memory(ctx);
        let (seq, p0, p1) = (args.int(), args.int(), args.int());
        match args.byte() % 8 {
            0 => llama_memory_clear(mem, args.flag()),
            1 => drop(llama_memory_seq_rm(mem, seq, p0, p1)),
            2 => llama_memory_seq_cp(mem, seq, args.int(), p0, p1),
            3 => llama_memory_seq_keep(mem, seq),
            4 | 5 => llama_memory_seq_add(mem, seq, p0, p1, args.int()),
            6 => llama_memory_seq_div(mem, seq, p0, p1, args.int()),
            _ => drop(llama_memory_can_shift(mem)),
        }
        llama_memory_seq_pos_min(mem, seq);
        llama_memory_seq_pos_max(mem, seq);
    }
}

fn state(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    let (seq, flags) = (args.int(), args.pick(&[0, 0, 1, 2, 3, u32::MAX]));
    let path = CString::new(world.shared.folder.join("state").to_str().unwrap()).unwrap();
    let path = if args.one_in(8) { args.text().0 } else { Some(path) };
    // What others may have written there is none of this run's.
    let path = path
        .filter(|path| path.to_bytes().starts_with(b"/"))
        .or_else(|| args.one_in(2).then(CString::default));
    let path = path.as_ref().map_or(null(), |path| path.as_ptr());
    // SAFETY: buffers are as long as said.
    unsafe {
        match args.byte() % 12 {
            0 | 1 => {
                let size = llama_state_get_size(ctx).min(1 << 22);
                let mut room = vec![0; size];
                let told = args.pick(&[size, size, size / 2, 0, size.saturating_sub(1)]);
                let written = llama_state_get_data(ctx, room.as_mut_ptr(), told);
                room.truncate(written);
                world.state = room;
            }
            2 | 3 => {
                let size = llama_state_seq_get_size_ext(ctx, seq, flags).min(1 << 22);
                let mut room = vec![0; size];
                let written =
                    llama_state_seq_get_data_ext(ctx, room.as_mut_ptr(), size, seq, flags);
                room.truncate(written);
                world.state = room;
            }
            4..=6 => {
                let mut bytes = world.state.clone();
                for _ in 0..args.byte() % 4 {
                    let (at, value) =
                        (args.uint() as usize ^ usize::from(args.byte()), args.byte());
                    let n = bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(at % n) {
                        *byte = value;
                    }
                }
                if args.one_in(4) {
                    bytes.truncate(args.small());
                }
                let bytes = bytes.into_boxed_slice();
                if args.one_in(2) {
                    llama_state_set_data(ctx, bytes.as_ptr(), bytes.len());
                } else {
                    llama_state_seq_set_data_ext(ctx, bytes.as_ptr(), bytes.len(), seq, flags);
                }
            }
            7 => {
                let n = args.int() as usize;
                llama_state_get_data(ctx, null_mut(), n);
                llama_state_set_data(ctx, null(), n);
                llama_state_seq_get_data(ctx, null_mut(), n, seq);
                llama_state_seq_set_data(ctx, null(), n, seq);
                llama_copy_state_data(ctx, null_mut());
                llama_set_state_data(ctx, null());
            }
            8 => {
                let n = args.small();
                let tokens = args.ints(n);
                llama_state_save_file(ctx, path, tokens.as_ptr(), n);
                llama_state_save_file(ctx, path, null(), args.int() as usize);
            }
            9 => {
                let n = args.small();
                let tokens = args.ints(n);
                llama_state_seq_save_file(ctx, path, seq, tokens.as_ptr(), n);
            }
            _ => {
                let (mut tokens, mut n) = (vec![0; args.small()], 0);
                let (out, room) = if args.one_in(8) {
                    (null_mut(), args.small())
                } else {
                    (tokens.as_mut_ptr(), tokens.len())
                };
                let n_out = if args.one_in(8) { null_mut() } else { &raw mut n };
                if args.one_in(2) {
                    llama_state_load_file(ctx, path, out, room, n_out);
                } else {
                    llama_state_seq_load_file(ctx, path, seq, out, room, n_out);
                }
                // Without room for tokens the question is how many there are.
                assert!(n <= room || out.is_null());
            }
        }
    }
}

fn adapters(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    // SAFETY: lists are as long as said; adapters live.
    unsafe {
        if args.one_in(2) {
            let n_embd = args.pick(&[32, 64, 0, -1, i32::MAX]);
            let len = args.pick(&[0, 32, 64, 128, 31]);
            let data = args.floats(len);
            let data_ptr = if args.one_in(8) { null() } else { data.as_ptr() };
            llama_set_adapter_cvec(ctx, data_ptr, data.len(), n_embd, args.int(), args.int());
            return;
        }
        let mut list: Vec<_> = (0..args.byte() % 3)
            .filter_map(|_| pick(&world.adapters, args))
            .map(|(a, _)| a)
            .collect();
        if args.one_in(16) {
            list.push(null_mut());
        }
        let mut scales = args.floats(list.len());
        match args.byte() % 8 {
            0 => llama_set_adapters_lora(ctx, null_mut(), args.int() as usize, scales.as_mut_ptr()),
            _ => llama_set_adapters_lora(ctx, list.as_mut_ptr(), list.len(), scales.as_mut_ptr()),
        };
    }
}

fn settings(world: &mut World, args: &mut Args<'_>) {
    let ctx = world.context(args);
    // SAFETY: NULL or a context; pools live until the end of the run.
    unsafe {
        match args.byte() % 9 {
            0 => llama_set_n_threads(ctx, args.pick(&[1, 0, -1, 2]), args.pick(&[1, 0, i32::MIN])),
            1 => llama_set_embeddings(ctx, args.flag()),
            2 => llama_set_causal_attn(ctx, args.flag()),
            3 => llama_set_warmup(ctx, args.flag()),
            4 => {
                let callback = args.pick(&[None, Some(abort_at_once as _), Some(never_abort as _)]);
                llama_set_abort_callback(
                    ctx,
                    callback,
                    args.pick(&[null_mut(), 16 as *mut c_void]),
                );
            }
            5 => {
                if world.pools.len() < 2 {
                    let mut params = ggml_threadpool_params_default(args.pick(&[1, 2, 0, -1]));
                    params.prio = args.int();
                    params.poll = args.uint();
                    let pool =
                        ggml_threadpool_new(if args.one_in(8) { null_mut() } else { &mut params });
                    if !pool.is_null() {
                        world.pools.push(pool);
                    }
                }
                let pool = pick(&world.pools, args).unwrap_or(null_mut());
                llama_attach_threadpool(ctx, pool, if args.one_in(2) { null_mut() } else { pool });
            }
            6 => llama_detach_threadpool(ctx),
            7 => {
                llama_perf_context(ctx);
                llama_perf_context_print(ctx);
                llama_perf_context_reset(ctx);
                llama_synchronize(ctx);
            }
            _ => {
                llama_n_ctx(ctx);
                llama_n_ctx_seq(ctx);
                llama_n_batch(ctx);
                llama_n_ubatch(ctx);
                llama_n_seq_max(ctx);
                llama_n_rs_seq(ctx);
                llama_n_threads(ctx);
                llama_n_threads_batch(ctx);
                llama_get_causal_attn(ctx);
                llama_batch_free(llama_batch_init(
                    args.int().min(4096),
                    args.int().min(4096),
                    args.int().min(64),
                ));
            }
        }
    }
}

pub fn step(world: &mut World, args: &mut Args<'_>) {
    match args.byte() % 16 {
        0 => make(world, args),
        1 => {
            let ctx = world.context(args);
            world.free_context(ctx);
        }
        2..=5 => decode(world, args),
        6 | 7 => batch_ext(world, args),
        8 | 9 => memory(world, args),
        10..=12 => state(world, args),
        13 => adapters(world, args),
        _ => settings(world, args),
    }
}
