//! The parts of the C interface that need no model, called as C calls them.
#![allow(unsafe_code, reason = "calls the C interface")]

#[path = "common/log.rs"]
mod log;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Mutex;

use powerinfer::ffi::ggml::variadic::{ggml_abort, ggml_format_name};
use powerinfer::ffi::ggml::{
    buffer::*, device::*, numbers::*, opened::*, tensor::*, threadpool::*, traits::*,
};
use powerinfer::ffi::types::*;
use powerinfer::ffi::{batch::*, log::*, names::*, params::*, powerinfer::*, system::*};
use powerinfer::quant::{QuantType, dequantize_row, quantize_row};
use powerinfer::util::log::{Level, line};
use powerinfer::util::sys::peak_rss;

use log::{Lines, collect, logged, turn};

fn text(s: *const c_char) -> String {
    assert!(!s.is_null());
    // SAFETY: a terminated string of the library.
    unsafe { CStr::from_ptr(s) }.to_str().expect("UTF-8").to_owned()
}

#[test]
fn versions_and_limits() {
    // SAFETY: no arguments.
    unsafe {
        llama_backend_init();
        assert_eq!(text(llama_version()), "0.5.0-dev");
        assert_eq!(text(powerinfer_version()), env!("CARGO_PKG_VERSION"));
        assert!(powerinfer_peak_rss() > 1 << 20);
        assert_eq!(llama_max_devices(), 16);
        let info = text(llama_print_system_info());
        assert!(info.starts_with("CPU : ") && info.contains("KERNELS = "), "{info}");
        let t = llama_time_us();
        assert!(llama_time_us() >= t);
        llama_backend_free();
    }
}

#[test]
fn names_of_enums() {
    // SAFETY: any number is allowed.
    unsafe {
        assert_eq!(text(llama_ftype_name(15)), "Q4_K - Medium");
        assert_eq!(text(llama_ftype_name(1024 + 2)), "(guessed) Q4_0");
        assert_eq!(text(llama_ftype_name(5)), "unknown, may not work");
        assert_eq!(text(llama_ftype_name(41)), "Q2_0");
        assert_eq!(text(llama_ftype_name(1024 + 99)), "(guessed) unknown, may not work");
        for bad in [-1, c_int::MIN, c_int::MAX] {
            assert!(text(llama_ftype_name(bad)).ends_with("unknown, may not work"));
        }
        assert_eq!(text(llama_flash_attn_type_name(-1)), "auto");
        assert_eq!(text(llama_flash_attn_type_name(99)), "unknown");
        for mode in -1..=4 {
            assert_eq!(llama_load_mode_from_str(llama_load_mode_name(mode)), mode);
        }
        assert_eq!(text(llama_load_mode_name(5)), "unknown");
        assert_eq!(llama_load_mode_from_str(c"nonsense".as_ptr()), -1);
        assert_eq!(llama_load_mode_from_str(ptr::null()), -1);
        assert_eq!(text(llama_model_meta_key_str(6)), "general.sampling.temp");
        assert!(llama_model_meta_key_str(12).is_null());
        assert!(llama_model_meta_key_str(-1).is_null());
    }
}

#[test]
fn split_names() {
    let mut buf = [0 as c_char; 100];
    let b = buf.as_mut_ptr();
    let prefix = c"/m/abc".as_ptr();
    let name = c"/m/abc-00002-of-00004.gguf".as_ptr();
    // SAFETY: the buffer is as large as each call says.
    unsafe {
        assert_eq!(llama_split_path(b, 100, prefix, 1, 4), 26);
        assert_eq!(text(b), "/m/abc-00002-of-00004.gguf");
        assert_eq!(llama_split_path(b, 27, prefix, 1, 4), 26);
        assert_eq!(llama_split_path(b, 26, prefix, 1, 4), 0, "no room for the NUL");
        assert_eq!(llama_split_path(ptr::null_mut(), 0, ptr::null(), 1, 4), 0);
        assert_eq!(llama_split_path(b, 100, prefix, c_int::MAX, c_int::MIN), 37);
        assert_eq!(llama_split_prefix(b, 100, name, 1, 4), 6);
        assert_eq!(text(b), "/m/abc");
        assert_eq!(llama_split_prefix(b, 100, name, 0, 4), 0, "another split");
        assert_eq!(llama_split_prefix(b, 100, c"-00002-of-00004.gguf".as_ptr(), 1, 4), 0);
        assert_eq!(llama_split_prefix(b, 100, ptr::null(), 1, 4), 0);
    }
}

#[test]
fn defaults_that_programs_read_back() {
    // SAFETY: no arguments.
    let (m, c, q) = unsafe {
        (
            llama_model_default_params(),
            llama_context_default_params(),
            llama_model_quantize_default_params(),
        )
    };
    assert_eq!((m.n_gpu_layers, m.split_mode, m.load_mode, m.lazy_mode), (-1, 1, -1, 1));
    assert_eq!((m.use_extra_bufts, m.vocab_only, m.no_alloc), (1, 0, 0));
    assert_eq!((c.n_ctx, c.n_batch, c.n_ubatch, c.n_seq_max), (512, 2048, 512, 1));
    assert_eq!((c.n_outputs_max, c.n_outputs_max_per_seq), (0, 1));
    assert_eq!((c.n_threads, c.n_threads_batch), (4, 4));
    assert_eq!((c.type_k, c.type_v, c.flash_attn_type, c.pooling_type), (1, 1, -1, -1));
    assert_eq!((c.no_perf, c.offload_kqv, c.op_offload, c.swa_full, c.kv_unified), (1, 1, 1, 1, 0));
    assert_eq!((q.ftype, q.output_tensor_type, q.max_buf_size), (7, 43, 8 << 30));
}

#[test]
fn batches() {
    let mut tokens = [5, 6, 7];
    // SAFETY: the batch is used within its size and freed once.
    unsafe {
        let one = llama_batch_get_one(tokens.as_mut_ptr(), 3);
        assert_eq!((one.n_tokens, one.token), (3, tokens.as_mut_ptr()));
        assert!(one.pos.is_null() && one.seq_id.is_null() && one.logits.is_null());

        let b = llama_batch_init(4, 0, 2);
        assert_eq!(b.n_tokens, 0);
        assert!(b.embd.is_null() && !b.token.is_null());
        for i in 0..4 {
            b.token.add(i).write(1);
            b.pos.add(i).write(0);
            b.n_seq_id.add(i).write(2);
            b.logits.add(i).write(0);
            (*b.seq_id.add(i)).add(1).write(3);
        }
        assert!((*b.seq_id.add(4)).is_null(), "the list ends with NULL");
        llama_batch_free(b);

        let b = llama_batch_init(2, 8, 1);
        assert!(b.token.is_null());
        b.embd.add(15).write(1.0);
        llama_batch_free(b);
    }
}

#[test]
fn a_batch_larger_than_the_memory_is_refused_before_anything_is_taken() {
    for (n_tokens, embd, n_seq_max) in [
        (-1, 0, 1),
        (1, -1, 1),
        (1, 0, -1),
        (i32::MAX, i32::MAX, 1),
        (i32::MAX, 0, i32::MAX),
        // A list of 4 MB for each of so many tokens: they never are all there.
        (i32::MAX, 0, 1 << 20),
    ] {
        let before = peak_rss();
        // SAFETY: numbers; the batch is freed once.
        let ((), seen) = logged(|| unsafe {
            let b = llama_batch_init(n_tokens, embd, n_seq_max);
            assert!(b.token.is_null() && b.embd.is_null() && b.pos.is_null());
            assert!(b.n_seq_id.is_null() && b.seq_id.is_null() && b.logits.is_null());
            llama_batch_free(b);
        });
        assert!(matches!(&seen[..], [(4, line)] if line.contains("cannot allocate")), "{seen:?}");
        assert!(peak_rss() - before < 64 << 20, "{n_tokens} {embd} {n_seq_max}");
    }
}

unsafe extern "C" fn collect_and_ask(level: c_int, text: *const c_char, user: *mut c_void) {
    // SAFETY: the test passes lines; text is terminated. There are places to write to.
    unsafe {
        collect(level, text, user);
        // A callback may log itself: no lock may be held while it runs.
        llama_log_get(&mut None, &mut ptr::null_mut());
    }
}

#[test]
fn log_callback() {
    let _turn = turn();
    let seen: Mutex<Lines> = Mutex::default();
    let user = (&raw const seen).cast_mut().cast::<c_void>();
    // SAFETY: the vector outlives the callback, which is removed at the end.
    unsafe {
        let (mut default, mut data) = (None, user);
        llama_log_get(&mut default, &mut data);
        assert!(default.is_some() && data.is_null(), "there is always one to chain to");

        llama_log_set(Some(collect_and_ask), user);
        line(Level::Warn, format_args!("with a \0 inside"));
        assert!(llama_model_meta_key_str(99).is_null());
        let (mut current, mut data) = (None, ptr::null_mut());
        llama_log_get(&mut current, &mut data);
        assert!(current.is_some_and(|f| ptr::fn_addr_eq(f, collect_and_ask as RawLog)));
        assert_eq!(data, user);
        llama_log_get(ptr::null_mut(), ptr::null_mut());

        // What a program saved before gives it back.
        llama_log_set(default, ptr::null_mut());
        line(Level::Debug, format_args!("not seen"));
        ggml_log_set(None, ptr::null_mut());
    }
    let mut seen = seen.into_inner().expect("not poisoned");
    seen.retain(|(_, text)| text.contains("with a") || text.contains("not seen"));
    assert_eq!(seen, [(3, "with a \u{fffd} inside\n".to_owned())]);
}
type RawLog = unsafe extern "C" fn(c_int, *const c_char, *mut c_void);

#[test]
fn missing_functions_say_so_and_fail() {
    use powerinfer::ffi::unimplemented::llama::llama_opt_param_filter_all;
    // SAFETY: NULL arguments.
    let (answer, mut seen) =
        logged(|| unsafe { llama_opt_param_filter_all(ptr::null(), ptr::null_mut()) });
    assert!(answer);
    seen.retain(|(_, text)| text.contains("llama_opt"));
    assert_eq!(seen.len(), 1);
    assert!(seen[0].0 == 4 && seen[0].1.starts_with("llama_opt_param_filter_all: "), "{seen:?}");
}

#[test]
#[allow(deprecated, reason = "deprecated functions work too")]
fn number_formats() {
    // SAFETY: any number is allowed.
    unsafe {
        let facts = |t| (text(ggml_type_name(t)), ggml_blck_size(t), ggml_type_size(t));
        assert_eq!(facts(0), ("f32".into(), 1, 4));
        assert_eq!(facts(2), ("q4_0".into(), 32, 18));
        assert_eq!(facts(14), ("q6_K".into(), 256, 210));
        for bad in [-1, 4, 31, 1000, c_int::MIN, c_int::MAX] {
            assert_eq!(facts(bad), ("NONE".into(), 0, 0), "{bad}");
            assert!(!ggml_is_quantized(bad));
        }
        assert!(ggml_is_quantized(2) && !ggml_is_quantized(1));
        assert_eq!((ggml_row_size(8, 64), ggml_row_size(8, 63), ggml_row_size(0, -1)), (68, 0, 0));
        assert_eq!(ggml_type_sizef(2), 0.5625);
        assert_eq!(ggml_fp16_to_fp32(0x3C00), 1.0);
        assert_eq!(ggml_bf16_to_fp32(ggml_bf16_t { bits: 0xC000 }), -2.0);
        assert_eq!(text(ggml_op_name(29)), "MUL_MAT");
        assert_eq!(text(ggml_op_name(101)), "NONE");
        assert_eq!(text(ggml_opt_optimizer_name(1)), "sgd");
    }
}

/// Rows of every type through the functions of its traits: what this library's own functions make.
#[test]
fn number_formats_become_floats_and_come_back() {
    let numbers: Vec<f32> = (0..512).map(|i| ((i * 7919 % 1009) as f32 / 500.0) - 1.0).collect();
    let mut n_both = 0;
    for id in -1..50 {
        // SAFETY: any number is allowed; rows have as many numbers as are said.
        unsafe {
            let Some(traits) = ggml_get_type_traits(id).as_ref() else {
                assert_eq!(ggml_blck_size(id), 0, "{id}");
                continue;
            };
            assert_eq!(text(traits.type_name), text(ggml_type_name(id)));
            assert_eq!(traits.blck_size, ggml_blck_size(id), "{id}");
            assert_eq!(traits.type_size, ggml_type_size(id), "{id}");
            assert_eq!(traits.is_quantized != 0, ggml_is_quantized(id), "{id}");
            let ty = QuantType::from_id(id as u32).unwrap();
            let mut row = vec![0u8; ggml_row_size(id, 512)];
            if let Some(from_float) = traits.from_float_ref {
                let mut expected = row.clone();
                quantize_row(ty, &numbers, None, &mut expected).unwrap();
                from_float(numbers.as_ptr(), row.as_mut_ptr().cast(), 512);
                assert!(row == expected, "{ty}");
            }
            let Some(to_float) = traits.to_float else { continue };
            n_both += usize::from(traits.from_float_ref.is_some());
            let (mut out, mut expected) = (vec![0.0; 512], vec![0.0; 512]);
            dequantize_row(ty, &row, &mut expected).unwrap();
            to_float(row.as_ptr().cast(), out.as_mut_ptr(), 512);
            assert_eq!(out, expected, "{ty}");
            // No whole blocks, no numbers, no memory: nothing is written.
            let bad = [-1, i64::MIN, traits.blck_size + 1];
            for k in bad.into_iter().filter(|k| *k < 0 || traits.blck_size > 1) {
                out.fill(7.0);
                to_float(row.as_ptr().cast(), out.as_mut_ptr(), k);
                assert!(out.iter().all(|x| *x == 7.0), "{ty}, {k}");
            }
            to_float(ptr::null(), out.as_mut_ptr(), 512);
            to_float(row.as_ptr().cast(), ptr::null_mut(), 512);
        }
    }
    // As in llama.cpp: not F32, integers, F64 and Q8_K; one way only Q8_1 and four that need importances.
    assert_eq!(n_both, 23);
}

#[test]
fn tensors() {
    // SAFETY: the context is freed last, and handles are used within it.
    unsafe {
        let ctx =
            ggml_init(ggml_init_params { mem_size: 16, mem_buffer: ptr::null_mut(), no_alloc: 0 });
        assert!(ggml_get_first_tensor(ctx).is_null());
        let a = ggml_new_tensor_2d(ctx, 0, 3, 2);
        let b = ggml_new_tensor_2d(ctx, 2, 64, 2);
        for (ty, ne0, ne1) in
            [(2, 33, 1), (0, -1, 1), (0, i64::MAX, 2), (-1, 1, 1), (0, 1 << 50, 1)]
        {
            assert!(ggml_new_tensor_2d(ctx, ty, ne0, ne1).is_null(), "{ty} {ne0} {ne1}");
        }
        assert_eq!(
            (ggml_nelements(a), ggml_nrows(a), ggml_nbytes(a), ggml_n_dims(a)),
            (6, 2, 24, 2)
        );
        assert_eq!((ggml_nbytes(b), ggml_element_size(b)), (72, 18));
        let data = ggml_get_data_f32(a);
        data.add(4).write(2.5);
        assert_eq!(ggml_get_f32_nd(a, 1, 1, 0, 0), 2.5);
        assert!(
            ggml_get_f32_nd(a, 3, 0, 0, 0).is_nan() && ggml_get_f32_nd(a, -1, 0, 0, 0).is_nan()
        );
        assert!(ggml_get_data_f32(b).is_null());

        let mut out = [0f32; 2];
        ggml_backend_tensor_get(a, out.as_mut_ptr().cast(), 16, 8);
        assert_eq!(out, [2.5, 0.0]);
        ggml_backend_tensor_get(a, out.as_mut_ptr().cast(), 20, 8);
        assert_eq!(out, [2.5, 0.0], "past the end: nothing is copied");

        assert_eq!(ggml_get_first_tensor(ctx), a);
        assert_eq!(ggml_get_next_tensor(ctx, a), b);
        assert!(ggml_get_next_tensor(ctx, b).is_null());
        (*b).name[0] = b'x' as c_char;
        assert_eq!(ggml_get_tensor(ctx, c"x".as_ptr()), b);
        assert!(ggml_get_tensor(ctx, c"y".as_ptr()).is_null());

        (*a).op = ggml_op::GGML_OP_UNARY as c_int;
        (*a).op_params[0] = ggml_unary_op::GGML_UNARY_OP_SILU as c_int;
        assert_eq!(text(ggml_op_desc(a)), "SILU");
        ggml_free(ctx);
        ggml_free(ptr::null_mut());
    }
}

#[test]
fn null_handles_are_answered() {
    // SAFETY: NULL is what these functions must bear.
    unsafe {
        let none: *const ggml_tensor = ptr::null();
        assert_eq!((ggml_nelements(none), ggml_nbytes(none), ggml_n_dims(none)), (0, 0, 1));
        assert_eq!(text(ggml_op_desc(none)), "NONE");
        assert!(ggml_new_tensor_2d(ptr::null_mut(), 0, 1, 1).is_null());
        assert!(ggml_threadpool_new(ptr::null_mut()).is_null());
        assert!(ggml_backend_dev_init(ptr::null_mut(), ptr::null()).is_null());
        assert!(ggml_backend_init_by_name(ptr::null(), ptr::null()).is_null());
        assert!(ggml_backend_buft_alloc_buffer(ptr::null_mut(), 8).is_null());
        assert!(ggml_backend_reg_get_proc_address(ptr::null_mut(), c"x".as_ptr()).is_null());
        assert_eq!(text(ggml_backend_dev_name(ptr::null_mut())), "");
        ggml_backend_dev_memory(ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ggml_backend_dev_get_props(ptr::null_mut(), ptr::null_mut());
        ggml_backend_free(ptr::null_mut());
        ggml_backend_buffer_free(ptr::null_mut());
        ggml_threadpool_free(ptr::null_mut());
        ggml_threadpool_params_init(ptr::null_mut(), 1);
    }
}

#[test]
fn devices() {
    // SAFETY: handles of the library.
    unsafe {
        ggml_backend_load_all();
        assert_eq!((ggml_backend_dev_count(), ggml_backend_reg_count()), (1, 1));
        let dev = ggml_backend_dev_get(0);
        assert!(ggml_backend_dev_get(1).is_null());
        assert_eq!(ggml_backend_dev_by_name(c"cpu".as_ptr()), dev);
        assert_eq!(ggml_backend_dev_by_type(0), dev);
        assert!(ggml_backend_dev_by_type(1).is_null());
        let mut props = std::mem::MaybeUninit::uninit();
        ggml_backend_dev_get_props(dev, props.as_mut_ptr());
        let props = props.assume_init();
        assert_eq!(text(props.name), "CPU");
        assert!(props.memory_total >= props.memory_free && props.memory_free > 0);
        assert_eq!(ggml_backend_buft_get_device(ggml_backend_cpu_buffer_type()), dev);

        let backend = ggml_backend_init_best();
        assert_eq!(ggml_backend_get_device(backend), dev);
        let buffer = ggml_backend_alloc_buffer(backend, 100);
        assert_eq!(ggml_backend_buffer_get_size(buffer), 100);
        ggml_backend_buffer_clear(buffer, 7);
        assert_eq!(*ggml_backend_buffer_get_base(buffer).cast::<u8>().add(99), 7);
        assert!(ggml_backend_alloc_buffer(backend, usize::MAX).is_null());
        ggml_backend_buffer_free(buffer);
        ggml_backend_free(backend);
    }
}

#[test]
fn functions_by_name() {
    // SAFETY: the functions are called as what they are.
    unsafe {
        let reg = ggml_backend_dev_backend_reg(ggml_backend_dev_get(0));
        let get = |name: &CStr| ggml_backend_reg_get_proc_address(reg, name.as_ptr());
        for name in [
            c"ggml_threadpool_new",
            c"ggml_threadpool_free",
            c"ggml_backend_set_n_threads",
            c"ggml_backend_set_abort_callback",
            c"ggml_backend_cpu_numa_init",
            c"ggml_backend_cpu_is_numa",
        ] {
            assert!(!get(name).is_null(), "{name:?}");
        }
        assert!(get(c"ggml_nonsense").is_null());

        let new: unsafe extern "C" fn(*mut ggml_threadpool_params) -> *mut ggml_threadpool =
            std::mem::transmute(get(c"ggml_threadpool_new"));
        let mut params = ggml_threadpool_params_default(2);
        assert!(ggml_threadpool_params_match(&params, &ggml_threadpool_params_default(2)));
        assert!(!ggml_threadpool_params_match(&params, &ggml_threadpool_params_default(3)));
        let pool = new(&mut params);
        assert!(!pool.is_null());
        ggml_threadpool_free(pool);
        for bad in [0, -1, 513] {
            params.n_threads = bad;
            assert!(new(&mut params).is_null(), "{bad} threads");
        }

        let bufts: unsafe extern "C" fn(ggml_backend_dev_t) -> *mut ggml_backend_buffer_type_t =
            std::mem::transmute(get(c"ggml_backend_dev_get_extra_bufts"));
        assert!((*bufts(ggml_backend_dev_get(0))).is_null());

        let features: unsafe extern "C" fn(ggml_backend_reg_t) -> *mut ggml_backend_feature =
            std::mem::transmute(get(c"ggml_backend_get_features"));
        let mut feature = features(reg);
        let mut names = Vec::new();
        while !(*feature).name.is_null() {
            names.push(text((*feature).name));
            feature = feature.add(1);
        }
        assert!(names.contains(&"KERNELS".to_owned()), "{names:?}");
    }
}

#[cfg(all(target_arch = "x86_64", unix))]
#[test]
fn variadic_names_are_formatted() {
    type Variadic = unsafe extern "C" fn(*mut ggml_tensor, *const c_char, ...) -> *mut ggml_tensor;
    // SAFETY: the function is variadic in C; the arguments fit the format.
    unsafe {
        let format: Variadic = std::mem::transmute(ggml_format_name as *const ());
        let ctx =
            ggml_init(ggml_init_params { mem_size: 0, mem_buffer: ptr::null_mut(), no_alloc: 1 });
        let t = ggml_new_tensor_2d(ctx, 0, 1, 1);
        // More integers and floats than there are registers for them.
        let s = CString::new("s").expect("no NUL");
        format(
            t,
            c"%s %d %d %d %d %d %.1f %.1f %.1f %.1f %.1f %.1f %.1f %.1f %.1f %d".as_ptr(),
            s.as_ptr(),
            1 as c_int,
            2 as c_int,
            3 as c_int,
            4 as c_int,
            5 as c_int,
            0.1f64,
            0.2f64,
            0.3f64,
            0.4f64,
            0.5f64,
            0.6f64,
            0.7f64,
            0.8f64,
            0.9f64,
            6 as c_int,
        );
        assert_eq!(text((*t).name.as_ptr()), "s 1 2 3 4 5 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 6");
        let long = CString::new("x".repeat(100)).expect("no NUL");
        assert_eq!(format(t, c"%s".as_ptr(), long.as_ptr()), t);
        assert_eq!(text((*t).name.as_ptr()).len(), 63);
        assert!(format(ptr::null_mut(), c"%d".as_ptr(), 1 as c_int).is_null());
        ggml_free(ctx);
    }
}

/// Not a test of its own: [`abort_shows_the_message`] runs it in another process.
#[cfg(all(target_arch = "x86_64", unix))]
#[test]
#[ignore = "ends the process"]
fn aborting_child() {
    type Variadic = unsafe extern "C" fn(*const c_char, c_int, *const c_char, ...) -> !;
    // SAFETY: the function is variadic in C; the arguments fit the format.
    unsafe {
        let abort: Variadic = std::mem::transmute(ggml_abort as *const ());
        abort(c"file.c".as_ptr(), 12, c"GGML_ASSERT(%s) failed: %d".as_ptr(), c"x > 0".as_ptr(), 7)
    }
}

#[cfg(all(target_arch = "x86_64", unix))]
#[test]
fn abort_shows_the_message() {
    use std::os::unix::process::ExitStatusExt;
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "aborting_child", "--ignored", "--nocapture"])
        .output()
        .expect("this program runs");
    assert_eq!(child.status.signal(), Some(6), "SIGABRT");
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(stderr.contains("file.c:12: GGML_ASSERT(x > 0) failed: 7"), "{stderr}");
}
