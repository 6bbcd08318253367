//! What a program brings itself: samplers of its own functions, and somebody who watches a run.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use powerinfer::ffi::context::llama_get_memory;
use powerinfer::ffi::ggml::numbers::ggml_op_desc;
use powerinfer::ffi::ggml::tensor::*;
use powerinfer::ffi::memory::*;
use powerinfer::ffi::sampler::*;
use powerinfer::ffi::sampling::*;
use powerinfer::ffi::types::*;

use super::args::{Args, touch};
use super::{World, contexts};

thread_local! {
    /// The context that computes or samples now; NULL when none does.
    static NOW: Cell<*mut llama_context> = const { Cell::new(null_mut()) };
    /// Nodes that were seen in this run.
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// Forgets the last run.
pub fn start() {
    SEEN.set(0);
}

/// Calls with the context known to the samplers.
pub fn in_context<T>(ctx: *mut llama_context, call: impl FnOnce() -> T) -> T {
    NOW.set(ctx);
    let result = call();
    NOW.set(null_mut());
    result
}

// ---- samplers ----

/// The data of a sampler with functions of its own.
struct User {
    /// What its functions do.
    ways: [u8; 3],
    accepted: u32,
    /// Candidates to put in the place of those that it is given.
    own: [llama_token_data; 3],
}

/// A sampler with some of the functions. It has data only when it frees them.
pub fn make(world: &mut World, args: &mut Args<'_>) -> *mut llama_sampler {
    let (has, also) = (args.byte(), args.byte());
    let table = llama_sampler_i {
        name: (has & 1 != 0).then_some(name),
        accept: (has & 2 != 0).then_some(accept),
        apply: (has & 4 != 0 || also & 16 != 0).then_some(apply),
        reset: (has & 8 != 0).then_some(reset),
        clone: (has & 16 != 0).then_some(clone),
        free: (has & 32 != 0).then_some(free),
        backend_init: (also & 1 != 0).then_some(backend_init),
        backend_set_input: (also & 2 != 0).then_some(reset),
        backend_reset: (also & 4 != 0).then_some(reset),
        copy_state: (also & 8 != 0).then_some(copy_state),
        ..Default::default()
    };
    let table = Box::into_raw(Box::new(table));
    world.tables.push(table);
    let ids = [1, args.int(), 2];
    let own = ids.map(|id| llama_token_data { id, logit: args.float(), p: args.float() });
    let user = User { ways: [args.byte(), args.byte(), args.byte()], accepted: 0, own };
    let data = match has & (32 | 64) {
        32 => Box::into_raw(Box::new(user)),
        _ => null_mut(),
    };
    // SAFETY: the table outlives all samplers of the run.
    unsafe { llama_sampler_init(table, data.cast()) }
}

/// # Safety
/// A sampler that lives, with functions of this file; it is in no other use.
unsafe fn user<'a>(smpl: *const llama_sampler) -> Option<&'a mut User> {
    // SAFETY: by contract.
    unsafe { (*smpl).ctx.cast::<User>().as_mut() }
}

unsafe extern "C" fn name(smpl: *const llama_sampler) -> *const c_char {
    // SAFETY: called with its own sampler.
    match unsafe { user(smpl) }.map_or(0, |user| user.ways[0] % 3) {
        0 => c"user".as_ptr(),
        1 => c"\xff%s".as_ptr(),
        _ => null(),
    }
}

unsafe extern "C" fn accept(smpl: *mut llama_sampler, token: llama_token) {
    // SAFETY: called with its own sampler.
    if let Some(user) = unsafe { user(smpl) } {
        user.accepted = user.accepted.wrapping_add(token.cast_unsigned());
    }
}

unsafe extern "C" fn reset(smpl: *mut llama_sampler) {
    // SAFETY: called with its own sampler.
    if let Some(user) = unsafe { user(smpl) } {
        user.accepted = 0;
    }
}

unsafe extern "C" fn clone(smpl: *const llama_sampler) -> *mut llama_sampler {
    // SAFETY: called with its own sampler; the copy gets data of its own.
    unsafe {
        let Some(user) = user(smpl) else { return llama_sampler_init((*smpl).iface, null_mut()) };
        if user.ways[1] % 4 == 3 {
            return null_mut();
        }
        let copy = User { ways: user.ways, accepted: user.accepted, own: user.own };
        llama_sampler_init((*smpl).iface, Box::into_raw(Box::new(copy)).cast())
    }
}

unsafe extern "C" fn free(smpl: *mut llama_sampler) {
    // SAFETY: called once, with its own sampler.
    unsafe {
        if !(*smpl).ctx.is_null() {
            drop(Box::from_raw((*smpl).ctx.cast::<User>()));
        }
    }
}

unsafe extern "C" fn copy_state(from: *const llama_sampler, to: *mut llama_sampler) {
    // SAFETY: called with two samplers of this file.
    if let (Some(from), Some(to)) = unsafe { (user(from), user(to)) } {
        to.accepted = from.accepted;
    }
}

unsafe extern "C" fn backend_init(
    _: *mut llama_sampler,
    _: ggml_backend_buffer_type_t,
    _: u32,
) -> cbool {
    1
}

/// Leaves candidates of many kinds, none of which is more memory than there is.
unsafe extern "C" fn apply(smpl: *mut llama_sampler, list: *mut llama_token_data_array) {
    // SAFETY: called with its own sampler and a whole list.
    let (user, list) = unsafe { (user(smpl), &mut *list) };
    let (way, more) = user.as_ref().map_or((0, 0), |user| (user.ways[1], user.ways[2]));
    let size = list.size as i64;
    match way % 12 {
        0 => list.selected = 0,
        1 => list.selected = size - 1,
        2 => list.selected = [-1, -2, i64::MIN, i64::MAX, size, size + 1][more as usize % 6],
        3 => list.size = 0,
        4 => (list.size, list.sorted) = (list.size / 2, more),
        5 => list.data = null_mut(),
        6 => list.data = list.data.wrapping_byte_add(1),
        7 | 8 => {
            let Some(user) = user else { return };
            (list.data, list.size) = (user.own.as_mut_ptr(), user.own.len());
            list.selected = i64::from(more % 4) - 1;
        }
        9 => {
            for i in 0..list.size.min(usize::from(more)) {
                // SAFETY: inside of the list.
                let row = unsafe { &mut *list.data.add(i) };
                row.logit = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0][i % 4];
                row.id = [i32::MAX, i32::MIN, -1, 1 << 20][more as usize % 4];
            }
        }
        // It may ask the context, and leave it.
        _ => ask(more),
    }
}

/// Asks the context whose outputs are sampled.
fn ask(how: u8) {
    let ctx = NOW.get();
    if ctx.is_null() {
        return;
    }
    // SAFETY: the context lives, and the library has let go of it.
    unsafe {
        match how % 4 {
            0 | 1 => contexts::outputs(ctx, &mut Args(&[how, how / 2])),
            2 => drop(llama_set_sampler(ctx, i32::from(how % 3), null_mut())),
            _ => {
                llama_memory_seq_rm(llama_get_memory(ctx), i32::from(how % 5) - 1, 0, -1);
            }
        }
    }
}

// ---- evaluation callback ----

/// Asks for nodes as the data says, reads them, and at times ends the run.
pub unsafe extern "C" fn watch(node: *mut ggml_tensor, ask: cbool, how: *mut c_void) -> cbool {
    let (how, seen) = (how as usize, SEEN.get());
    SEEN.set(seen.wrapping_add(1));
    // SAFETY: a whole node, with its sources.
    unsafe {
        if ask == 0 || how & 16 != 0 {
            read(node);
        }
        if ask == 0 {
            for source in (*node).src.into_iter().filter(|source| !source.is_null()) {
                read(source);
            }
        }
    }
    cbool::from(match (ask != 0, how % 4, how / 4 % 4) {
        (true, 0, _) => false,
        (true, 1, _) => seen.is_multiple_of(3),
        (true, 2, _) => seen.is_multiple_of(7),
        (true, _, _) => true,
        (false, _, 0 | 1) => true,
        (false, _, 2) => !seen.is_multiple_of(50),
        (false, _, _) => false,
    })
}

/// Reads all that a tensor says of itself.
///
/// # Safety
/// A whole tensor.
unsafe fn read(tensor: *const ggml_tensor) {
    // SAFETY: by contract; the room is as large as the copy.
    unsafe {
        let n = ggml_nbytes(tensor);
        assert!(n < 1 << 24, "a tensor of {n} bytes");
        if !(*tensor).data.is_null() {
            let mut room = vec![0u8; n].into_boxed_slice();
            ggml_backend_tensor_get(tensor, room.as_mut_ptr().cast(), 0, n);
            ggml_backend_tensor_get(tensor, room.as_mut_ptr().cast(), n / 2, n - n / 2);
            touch((*tensor).data.cast::<u8>(), n);
        }
        // Not there: refused with a line in the log.
        ggml_backend_tensor_get(tensor, [0u8; 8].as_mut_ptr().cast(), n, 1);
        ggml_backend_tensor_get(tensor, null_mut(), 0, n);
        ggml_get_f32_nd(tensor, 0, 0, 0, 0);
        ggml_get_f32_nd(tensor, -1, i32::MAX, 0, 0);
        ggml_nelements(tensor);
        ggml_nrows(tensor);
        ggml_n_dims(tensor);
        touch(ggml_get_data_f32(tensor), 1);
        for text in [(*tensor).name.as_ptr(), ggml_op_desc(tensor)] {
            assert!(CStr::from_ptr(text).count_bytes() < 64);
        }
    }
}
