//! `gguf.h` as C programs use it: read, ask, change, write, read again.
#![allow(unsafe_code, reason = "calls the C interface")]

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::ptr;

use powerinfer::ffi::ggml::numbers::ggml_quantize_chunk;
use powerinfer::ffi::ggml::tensor::*;
use powerinfer::ffi::gguf::{read::*, write::*};
use powerinfer::ffi::types::*;
use powerinfer::quant::{QuantType, quantize_row};

const META_ONLY: gguf_init_params = gguf_init_params { no_alloc: 1, ctx: ptr::null_mut() };

fn text(s: *const c_char) -> String {
    assert!(!s.is_null());
    // SAFETY: a terminated string of the library.
    unsafe { CStr::from_ptr(s) }.to_str().expect("UTF-8").to_owned()
}

fn path(name: &str) -> CString {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

/// A file with all entry types that C can set and two tensors, written to `name`.
///
/// # Safety
/// Calls the C interface with its own handles only.
unsafe fn write_sample(name: &CStr, only_meta: bool) -> bool {
    // SAFETY: handles are made and freed here.
    unsafe {
        let g = gguf_init_empty();
        gguf_set_val_str(g, c"general.architecture".as_ptr(), c"test".as_ptr());
        gguf_set_val_u8(g, c"u8".as_ptr(), 200);
        gguf_set_val_i8(g, c"i8".as_ptr(), -3);
        gguf_set_val_u16(g, c"u16".as_ptr(), 65000);
        gguf_set_val_i16(g, c"i16".as_ptr(), -300);
        gguf_set_val_u32(g, c"u32".as_ptr(), 4_000_000_000);
        gguf_set_val_i32(g, c"i32".as_ptr(), -5);
        gguf_set_val_u64(g, c"u64".as_ptr(), 1 << 60);
        gguf_set_val_i64(g, c"i64".as_ptr(), -(1 << 60));
        gguf_set_val_f64(g, c"f64".as_ptr(), 0.5);
        gguf_set_val_bool(g, c"bool".as_ptr(), 2);
        let mut words = [c"a".as_ptr(), c"".as_ptr(), c"long word".as_ptr()];
        gguf_set_arr_str(g, c"words".as_ptr(), words.as_mut_ptr(), 3);

        let ctx =
            ggml_init(ggml_init_params { mem_size: 0, mem_buffer: ptr::null_mut(), no_alloc: 0 });
        for (name, rows) in [(c"first", 1), (c"second", 3)] {
            let t = ggml_new_tensor_2d(ctx, 0, 5, rows);
            ptr::copy(name.as_ptr(), (*t).name.as_mut_ptr(), name.to_bytes_with_nul().len());
            for i in 0..5 * rows {
                ggml_get_data_f32(t).add(i as usize).write(i as f32 + rows as f32);
            }
            gguf_add_tensor(g, t);
            gguf_add_tensor(g, t); // the name is taken: left out
        }
        let written = gguf_write_to_file(g, name.as_ptr(), u8::from(only_meta));
        ggml_free(ctx);
        gguf_free(g);
        written
    }
}

#[test]
fn written_files_read_back() {
    let name = path("roundtrip.gguf");
    // SAFETY: handles are used before they are freed.
    unsafe {
        assert!(write_sample(&name, false));
        let mut ctx: *mut ggml_context = ptr::null_mut();
        let g = gguf_init_from_file(name.as_ptr(), gguf_init_params { no_alloc: 0, ctx: &mut ctx });
        assert!(!g.is_null() && !ctx.is_null());
        assert_eq!((gguf_get_n_kv(g), gguf_get_n_tensors(g)), (12, 2));
        let id = |key: &CStr| gguf_find_key(g, key.as_ptr());
        assert_eq!(text(gguf_get_val_str(g, id(c"general.architecture"))), "test");
        assert_eq!(gguf_get_val_u16(g, id(c"u16")), 65000);
        assert_eq!(gguf_get_val_u32(g, id(c"u32")), 4_000_000_000);
        assert_eq!(gguf_get_val_i32(g, id(c"i32")), -5);
        assert_eq!(gguf_get_val_u64(g, id(c"u64")), 1 << 60);
        let types = [(c"u8", 0), (c"i8", 1), (c"i16", 3), (c"bool", 7), (c"i64", 11), (c"f64", 12)];
        for (key, ty) in types {
            assert_eq!(gguf_get_kv_type(g, id(key)), ty, "{key:?}");
        }
        let words = id(c"words");
        assert_eq!((gguf_get_kv_type(g, words), gguf_get_arr_type(g, words)), (9, 8));
        assert_eq!(gguf_get_arr_n(g, words), 3);
        assert_eq!(text(gguf_get_arr_str(g, words, 2)), "long word");
        assert_eq!(text(gguf_get_key(g, words)), "words");

        assert_eq!(text(gguf_get_tensor_name(g, 1)), "second");
        assert_eq!(gguf_find_tensor(g, c"second".as_ptr()), 1);
        assert_eq!((gguf_get_tensor_offset(g, 0), gguf_get_tensor_offset(g, 1)), (0, 32));
        assert_eq!(gguf_get_data_offset(g) % 32, 0);
        assert_eq!(gguf_get_meta_size(g), gguf_get_data_offset(g));
        let second = ggml_get_tensor(ctx, c"second".as_ptr());
        assert_eq!(ggml_get_f32_nd(second, 4, 2, 0, 0), 17.0);
        assert_eq!(ggml_n_dims(ggml_get_first_tensor(ctx)), 1);

        // The header alone is what meta_data gives.
        let bytes = std::fs::read(name.to_str().expect("UTF-8")).expect("the file");
        let mut meta = vec![0u8; gguf_get_meta_size(g)];
        gguf_get_meta_data(g, meta.as_mut_ptr().cast());
        assert!(bytes.starts_with(&meta));

        // From memory it is the same.
        let mut from_memory: *mut ggml_context = ptr::null_mut();
        let params = gguf_init_params { no_alloc: 0, ctx: &mut from_memory };
        let b = gguf_init_from_buffer(bytes.as_ptr().cast(), bytes.len(), params);
        let second = ggml_get_tensor(from_memory, c"second".as_ptr());
        assert_eq!(ggml_get_f32_nd(second, 0, 0, 0, 0), 3.0);
        ggml_free(from_memory);
        gguf_free(b);
        ggml_free(ctx);
        gguf_free(g);
    }
}

#[test]
fn entries_are_replaced_and_copied() {
    // SAFETY: handles are made and freed here.
    unsafe {
        let (a, b) = (gguf_init_empty(), gguf_init_empty());
        gguf_set_val_u32(a, c"x".as_ptr(), 1);
        gguf_set_val_u32(a, c"y".as_ptr(), 2);
        gguf_set_val_str(a, c"x".as_ptr(), c"text".as_ptr());
        assert_eq!((gguf_get_n_kv(a), gguf_find_key(a, c"x".as_ptr())), (2, 1));
        gguf_set_kv(b, a);
        gguf_set_kv(b, b);
        assert_eq!(text(gguf_get_val_str(b, gguf_find_key(b, c"x".as_ptr()))), "text");
        // What a file cannot have is refused.
        gguf_set_val_str(b, c"x".as_ptr(), ptr::null());
        gguf_set_val_u32(b, c"general.alignment".as_ptr(), 7);
        gguf_set_val_u32(b, ptr::null(), 7);
        assert_eq!(gguf_get_n_kv(b), 2);
        gguf_set_val_u32(b, c"general.alignment".as_ptr(), 64);
        assert_eq!(gguf_get_meta_size(b) % 64, 0);
        gguf_free(a);
        gguf_free(b);
    }
}

#[test]
fn wrong_questions_get_harmless_answers() {
    let name = path("questions.gguf");
    // SAFETY: handles are made and freed here; NULL must be borne.
    unsafe {
        assert!(write_sample(&name, true));
        let g = gguf_init_from_file(name.as_ptr(), META_ONLY);
        assert!(g.is_null(), "the file ends before the data of its tensors");
        assert!(write_sample(&name, false));
        let g = gguf_init_from_file(name.as_ptr(), META_ONLY);
        for id in [-1, 12, i64::MIN, i64::MAX] {
            assert!(gguf_get_key(g, id).is_null());
            assert!(gguf_get_val_str(g, id).is_null());
            assert!(gguf_get_tensor_name(g, id).is_null());
            assert_eq!((gguf_get_kv_type(g, id), gguf_get_val_u32(g, id)), (13, 0));
            assert_eq!(gguf_get_tensor_offset(g, id), 0);
        }
        let u32_id = gguf_find_key(g, c"u32".as_ptr());
        assert_eq!((gguf_get_val_i32(g, u32_id), gguf_get_arr_n(g, u32_id)), (0, 0));
        assert!(gguf_get_val_str(g, u32_id).is_null());
        assert!(gguf_get_arr_str(g, gguf_find_key(g, c"words".as_ptr()), 3).is_null());
        assert_eq!(gguf_find_key(g, c"nothing".as_ptr()), -1);
        assert_eq!(gguf_find_key(g, ptr::null()), -1);
        gguf_free(g);

        let none = ptr::null_mut();
        assert_eq!(
            (gguf_get_n_kv(none), gguf_get_n_tensors(none), gguf_get_meta_size(none)),
            (0, 0, 0)
        );
        assert!(gguf_init_from_file(ptr::null(), META_ONLY).is_null());
        assert!(gguf_init_from_buffer(ptr::null(), 100, META_ONLY).is_null());
        assert!(!gguf_write_to_file(none, name.as_ptr(), 0));
        gguf_add_tensor(none, ptr::null());
        gguf_free(none);
        let mut ctx = ptr::dangling_mut();
        let params = gguf_init_params { no_alloc: 0, ctx: &mut ctx };
        assert!(gguf_init_from_file(c"/nonexistent".as_ptr(), params).is_null());
        assert!(ctx.is_null(), "no context is given out");
        assert!(gguf_init_from_file(c"/".as_ptr(), META_ONLY).is_null(), "a directory");
    }
}

#[test]
fn chunks_are_quantised_row_by_row_with_importances() {
    const WIDTH: usize = 256;
    let x: Vec<f32> = (0..3 * WIDTH).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    let importance: Vec<f32> = (0..WIDTH).map(|i| 1.0 + (i % 7) as f32).collect();
    let row = QuantType::Q4_K.row_bytes(WIDTH as u64).unwrap() as usize;
    let chunk = |ty, start, rows, weights: Option<&[f32]>| {
        let mut y = vec![0xa5u8; 3 * row];
        let weights = weights.map_or(ptr::null(), <[f32]>::as_ptr);
        let (x, out) = (x.as_ptr(), y.as_mut_ptr().cast());
        // SAFETY: x and y hold three rows, the importances are one row.
        let n = unsafe { ggml_quantize_chunk(ty, x, out, start, rows, WIDTH as i64, weights) };
        (n, y)
    };
    let q4_k = QuantType::Q4_K as i32;
    for weights in [None, Some(&importance[..])] {
        // The first row is not asked for and stays as it is.
        let (n, y) = chunk(q4_k, WIDTH as i64, 2, weights);
        assert_eq!((n, &y[..row]), (2 * row, &vec![0xa5; row][..]));
        for r in 1..3 {
            let mut want = vec![0; row];
            quantize_row(QuantType::Q4_K, &x[r * WIDTH..][..WIDTH], weights, &mut want).unwrap();
            assert_eq!(y[r * row..][..row], want);
        }
    }
    assert_ne!(chunk(q4_k, 0, 3, None), chunk(q4_k, 0, 3, Some(&importance)));
    // No such type, a type that nothing is rounded to, a start inside a row, a negative count.
    for (ty, start, rows) in [(99, 0, 1), (QuantType::I8 as i32, 0, 1), (q4_k, 5, 1), (q4_k, 0, -1)]
    {
        assert_eq!(chunk(ty, start, rows, None), (0, vec![0xa5; 3 * row]));
    }
}
