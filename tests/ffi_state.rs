//! States through the C interface: what programs do with them, and what they must not be able to
//! break.
#![allow(unsafe_code, reason = "calls the C interface")]
#![allow(deprecated, reason = "old names work too")]

mod common;

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::{process, ptr, thread};

use powerinfer::ffi::types::*;
use powerinfer::ffi::{context::*, decode::*, load::*, memory::*, params::*, state::*};

use common::log::logged;
use common::tiny::{self, Spec};

fn temp(name: &str) -> CString {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ffi-state-{name}"));
    CString::new(path.to_str().expect("UTF-8")).expect("no NUL")
}

fn read(path: &CStr) -> Vec<u8> {
    std::fs::read(path.to_str().expect("UTF-8")).expect("it was written")
}

fn write(path: &CStr, bytes: &[u8]) {
    std::fs::write(path.to_str().expect("UTF-8"), bytes).expect("the folder is there");
}

/// A model and a context of two sequences.
struct Session {
    model: *mut llama_model,
    ctx: *mut llama_context,
}

impl Session {
    fn new(spec: &Spec) -> Self {
        let path =
            temp(&format!("{}-{}-{:?}.gguf", spec.name, process::id(), thread::current().id()));
        write(&path, &tiny::bytes(spec));
        // SAFETY: default parameters; the handles live as long as this.
        unsafe {
            let model = llama_model_load_from_file(path.as_ptr(), llama_model_default_params());
            let mut params = llama_context_default_params();
            (params.n_ctx, params.n_seq_max, params.n_threads) = (512, 2, 1);
            (params.n_threads_batch, params.kv_unified) = (1, 1);
            let ctx = llama_init_from_model(model, params);
            assert!(!ctx.is_null());
            Self { model, ctx }
        }
    }

    fn tiny() -> Self {
        Self::new(&tiny::MICRO)
    }

    /// Decodes tokens of sequence 0 at its next positions; the logits of the last one.
    fn go(&self, tokens: &[i32]) -> Vec<f32> {
        let mut tokens = tokens.to_vec();
        // SAFETY: the batch is over the tokens; a row has n_vocab numbers.
        unsafe {
            let batch = powerinfer::ffi::batch::llama_batch_get_one(
                tokens.as_mut_ptr(),
                tokens.len() as i32,
            );
            assert_eq!(llama_decode(self.ctx, batch), 0);
            let logits = llama_get_logits_ith(self.ctx, -1);
            std::slice::from_raw_parts(logits, tiny::MICRO.n_vocab).to_vec()
        }
    }

    fn pos_max(&self, seq: i32) -> i32 {
        // SAFETY: the context is alive.
        unsafe { llama_memory_seq_pos_max(llama_get_memory(self.ctx), seq) }
    }

    /// A copy of the state, as programs take it.
    fn state(&self) -> Vec<u8> {
        // SAFETY: the buffer is as large as was said.
        unsafe {
            let size = llama_state_get_size(self.ctx);
            let mut bytes = vec![0; size];
            assert_eq!(llama_state_get_data(self.ctx, bytes.as_mut_ptr(), size), size);
            bytes
        }
    }

    fn set(&self, bytes: &[u8]) -> usize {
        // SAFETY: a slice.
        unsafe { llama_state_set_data(self.ctx, bytes.as_ptr(), bytes.len()) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: nobody uses them any more.
        unsafe {
            llama_free(self.ctx);
            llama_model_free(self.model);
        }
    }
}

/// Asserts that a call fails with one line in the log that has this text.
#[track_caller]
fn refused(text: &str, call: impl FnOnce() -> usize) {
    let ((), seen) = logged(|| assert_eq!(call(), 0, "{text}"));
    assert!(matches!(&seen[..], [(4, line)] if line.contains(text)), "{seen:?}, not '{text}'");
}

/// What llama-cpp-python's save_state and load_state do.
#[test]
fn a_python_session() {
    let session = Session::tiny();
    let (prompt, next) = (tiny::tokens(6, 30), tiny::tokens(9, 30));
    session.go(&prompt);
    // SAFETY: buffers are as large as each call says.
    unsafe {
        let size = llama_state_get_size(session.ctx);
        let mut buffer = vec![0xaau8; size + 16];
        let n = llama_state_get_data(session.ctx, buffer.as_mut_ptr(), size);
        assert_eq!(n, size, "exact");
        assert_eq!(buffer[size..], [0xaa; 16], "and no more");
        let truth = session.go(&next);
        llama_memory_clear(llama_get_memory(session.ctx), 1);
        session.go(&next);
        assert_eq!(llama_state_set_data(session.ctx, buffer.as_ptr(), n), n);
        assert_eq!(session.pos_max(0), 5);
        assert_eq!(session.go(&next), truth);
    }
}

#[test]
fn old_names() {
    let session = Session::tiny();
    session.go(&[1, 2, 3]);
    let (file, mut n) = (temp("old.bin"), 0);
    let mut tokens = [0; 4];
    // SAFETY: buffers are as large as they have to be.
    unsafe {
        let size = llama_get_state_size(session.ctx);
        let mut bytes = vec![0; size];
        assert_eq!(llama_copy_state_data(session.ctx, bytes.as_mut_ptr()), size);
        assert!(bytes == session.state());
        session.go(&[4]);
        assert_eq!(llama_set_state_data(session.ctx, bytes.as_ptr()), size);
        assert_eq!(session.pos_max(0), 2);
        assert!(llama_save_session_file(session.ctx, file.as_ptr(), [7, 8].as_ptr(), 2));
        session.go(&[4]);
        let load = llama_load_session_file;
        assert!(load(session.ctx, file.as_ptr(), tokens.as_mut_ptr(), 4, &mut n));
    }
    assert_eq!((n, tokens, session.pos_max(0)), (2, [7, 8, 0, 0], 2));
}

#[test]
fn session_files() {
    let session = Session::tiny();
    let tokens = tiny::tokens(7, 30);
    session.go(&tokens);
    let file = temp("session.bin");
    let next = [5, 6];
    // SAFETY: arrays are as long as each call says.
    unsafe {
        let save = |n| llama_state_save_file(session.ctx, file.as_ptr(), tokens.as_ptr(), n);
        assert!(save(7));
        let bytes = read(&file);
        assert_eq!(bytes.len(), 12 + 4 * 7 + llama_state_get_size(session.ctx));
        let number = |i: usize| u32::from_le_bytes(bytes[i * 4..i * 4 + 4].try_into().unwrap());
        assert_eq!([number(0), number(1), number(2)], [0x6767_736e, 10, 7]);

        let truth = session.go(&next);
        let other = Session::tiny();
        let (mut out, mut n) = ([-1; 9], 99);
        let mut load = |capacity: usize, n: *mut usize| {
            let out = out.as_mut_ptr();
            llama_state_load_file(other.ctx, file.as_ptr(), out, capacity, n)
        };
        refused("7 tokens, there is room for 6", || usize::from(load(6, &mut n)));
        assert_eq!(n, 99);
        assert!(load(7, &mut n) && load(9, ptr::null_mut()));
        assert_eq!((n, &out[..7], out[7]), (7, &tokens[..], -1));
        assert_eq!(other.go(&next), truth);

        // Without tokens.
        assert!(llama_state_save_file(session.ctx, file.as_ptr(), ptr::null(), 0));
        let load = llama_state_load_file;
        assert!(load(other.ctx, file.as_ptr(), ptr::null_mut(), 0, &mut n) && n == 0);
        refused("3 tokens at NULL", || {
            usize::from(llama_state_save_file(session.ctx, file.as_ptr(), ptr::null(), 3))
        });
        assert!(save(2));
        refused("2 tokens, there is room for 0", || {
            usize::from(load(other.ctx, file.as_ptr(), ptr::null_mut(), 9, &mut n))
        });
    }
}

#[test]
fn sequence_files() {
    let session = Session::tiny();
    let tokens = tiny::tokens(5, 30);
    session.go(&tokens);
    let file = temp("sequence.bin");
    let (mut out, mut n) = ([-1; 9], 99);
    // SAFETY: arrays are as long as each call says.
    unsafe {
        let save = llama_state_seq_save_file;
        let written = save(session.ctx, file.as_ptr(), 0, tokens.as_ptr(), 5);
        assert_eq!(written, 12 + 4 * 5 + llama_state_seq_get_size(session.ctx, 0));
        assert_eq!((written, &read(&file)[..8]), (read(&file).len(), &b"qsgg\x03\0\0\0"[..]));

        let other = Session::tiny();
        other.go(&[9, 9]);
        let load = |seq, out: *mut i32, capacity, n: &mut usize| {
            llama_state_seq_load_file(other.ctx, file.as_ptr(), seq, out, capacity, n)
        };
        // Only the number of tokens, whatever the sequence.
        assert_eq!((load(77, ptr::null_mut(), 0, &mut n), n), (12, 5));
        assert_eq!((other.pos_max(0), other.pos_max(1)), (1, -1));
        refused("5 tokens, there is room for 4", || load(1, out.as_mut_ptr(), 4, &mut n));
        refused("there is no sequence 2", || load(2, out.as_mut_ptr(), 9, &mut n));
        refused("there is no sequence -1", || load(-1, out.as_mut_ptr(), 9, &mut n));
        n = 99;
        assert_eq!(load(1, out.as_mut_ptr(), 9, &mut n), written);
        assert_eq!((n, &out[..5], out[5]), (5, &tokens[..], -1));
        assert_eq!((other.pos_max(0), other.pos_max(1)), (1, 4));

        // A session is no sequence, and the other way round.
        refused("unknown magic and version (67677371, 3), expected (6767736e, 10)", || {
            let out = out.as_mut_ptr();
            usize::from(llama_state_load_file(other.ctx, file.as_ptr(), out, 9, &mut n))
        });
        assert!(llama_state_save_file(session.ctx, file.as_ptr(), tokens.as_ptr(), 5));
        refused("unknown magic and version (6767736e, 10)", || {
            load(0, out.as_mut_ptr(), 9, &mut n)
        });
        refused("unknown magic", || load(0, ptr::null_mut(), 0, &mut n));
    }
}

#[test]
fn damaged_files() {
    let session = Session::tiny();
    session.go(&tiny::tokens(3, 30));
    let (good, bad) = (temp("good.bin"), temp("bad.bin"));
    let (mut out, mut n) = ([-1; 9], 99);
    // SAFETY: arrays are as long as each call says.
    unsafe {
        assert!(llama_state_save_file(session.ctx, good.as_ptr(), [3, 4].as_ptr(), 2));
        session.go(&[8]);
        let (bytes, before) = (read(&good), session.state());
        let mut load = |bytes: &[u8]| {
            write(&bad, bytes);
            llama_state_load_file(session.ctx, bad.as_ptr(), out.as_mut_ptr(), 9, &mut n)
        };
        let ((), seen) = logged(|| {
            for len in 0..bytes.len() {
                assert!(!load(&bytes[..len]), "{len} bytes");
            }
            let mut other = bytes.clone();
            for i in 0..bytes.len() {
                other[i] ^= 1 << (i % 8);
                assert!(!load(&other), "byte {i}, a token's too");
                other[i] = bytes[i];
            }
            assert!(!load(&[&bytes[..], &[0]].concat()), "one byte more");
            assert!(!load(&[&bytes[..4], &9u32.to_le_bytes(), &bytes[8..]].concat()), "older");
        });
        assert_eq!(seen.len(), 2 * bytes.len() + 2, "one line each");
        assert!(seen.iter().all(|(_, text)| text.starts_with("llama_state_load_file: '")));
        assert!(session.state() == before);
        assert!(load(&bytes));
        assert_eq!((n, &out[..3], session.pos_max(0)), (2, &[3, 4, -1][..], 2));

        let written = llama_state_seq_save_file(session.ctx, good.as_ptr(), 0, out.as_ptr(), 2);
        let mut bytes = read(&good);
        write(&bad, &[&bytes[..], &[0]].concat());
        let (o, n_out) = (out.as_mut_ptr(), &raw mut n);
        let load = || llama_state_seq_load_file(session.ctx, bad.as_ptr(), 0, o, 9, n_out);
        assert_eq!(load(), written, "more behind a sequence is not looked at");
        // A number of tokens that no file has.
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        write(&bad, &bytes);
        let load = |out: *mut i32, n: &mut usize| {
            llama_state_seq_load_file(session.ctx, bad.as_ptr(), 0, out, usize::MAX, n)
        };
        refused("cut off", || load(ptr::null_mut(), &mut n));
        refused("cut off", || load(out.as_mut_ptr(), &mut n));
    }
}

#[test]
fn wrong_arguments() {
    let session = Session::tiny();
    session.go(&[1, 2, 3]);
    let (ctx, bytes) = (session.ctx, session.state());
    let mut buffer = vec![0x55u8; bytes.len()];
    let (buf, len) = (buffer.as_mut_ptr(), bytes.len());
    let none = ptr::null_mut();
    // SAFETY: NULL, or buffers as large as each call says, or larger than is said.
    unsafe {
        refused("llama_state_get_size: the context is NULL", || llama_state_get_size(none));
        refused("context is NULL", || llama_state_get_data(none, buf, len));
        refused("context is NULL", || llama_state_set_data(none, bytes.as_ptr(), len));
        refused("context is NULL", || llama_state_seq_get_size(none, 0));
        refused("context is NULL", || llama_state_seq_get_data(none, buf, len, 0));
        refused("context is NULL", || llama_state_seq_set_data(none, buf, len, 0));
        refused("buffer is NULL", || llama_state_get_data(ctx, ptr::null_mut(), len));
        refused("buffer is NULL", || llama_copy_state_data(ctx, ptr::null_mut()));
        refused("buffer is NULL", || llama_state_set_data(ctx, ptr::null(), len));
        refused("buffer is NULL", || llama_set_state_data(ctx, ptr::null()));
        let text = format!("the state has {len} bytes, the buffer {}", len - 1);
        refused(&text, || llama_state_get_data(ctx, buf, len - 1));
        refused("the buffer 0", || llama_state_get_data(ctx, buf, 0));
        for seq in [2, 300, i32::MAX] {
            refused(&format!("there is no sequence {seq}"), || llama_state_seq_get_size(ctx, seq));
            refused("no sequence", || llama_state_seq_get_data(ctx, buf, len, seq));
            refused("no sequence", || llama_state_seq_set_data(ctx, bytes.as_ptr(), len, seq));
        }
        for seq in [-2, i32::MIN] {
            refused("there is no sequence -2", || llama_state_seq_get_size(ctx, seq));
        }
        for flags in [4, 1 << 31, u32::MAX] {
            refused("flags", || llama_state_seq_get_size_ext(ctx, 0, flags));
            refused("flags", || llama_state_seq_get_data_ext(ctx, buf, len, 0, flags));
            refused("flags", || llama_state_seq_set_data_ext(ctx, buf, len, 0, flags));
        }
        let (mut out, mut n) = ([0; 4], 0);
        let o = out.as_mut_ptr();
        let load = |path: &CStr, n: &mut usize| {
            usize::from(llama_state_load_file(ctx, path.as_ptr(), o, 4, n))
        };
        refused("No such file", || load(&temp("none.bin"), &mut n));
        let folder = CString::new(env!("CARGO_TARGET_TMPDIR")).expect("no NUL");
        refused("irectory", || load(&folder, &mut n));
        refused("the path is NULL", || {
            usize::from(llama_state_load_file(ctx, ptr::null(), o, 4, &mut n))
        });
        refused("the path is NULL", || {
            llama_state_seq_load_file(ctx, ptr::null(), 0, o, 4, &mut n)
        });
        refused("the path is NULL", || usize::from(llama_state_save_file(ctx, ptr::null(), o, 4)));
        refused("the path is NULL", || llama_state_seq_save_file(ctx, ptr::null(), 0, o, 4));
        let nowhere = temp("no/such/folder");
        refused("No such file", || llama_state_seq_save_file(ctx, nowhere.as_ptr(), 0, o, 4));
    }
    assert!(buffer.iter().all(|&b| b == 0x55), "nothing was written");
    assert!(session.state() == bytes);
}

#[test]
fn flags() {
    let session = Session::tiny();
    session.go(&[1, 2, 3]);
    let (partial, on_device) = (1, 2);
    let sizes = |flags| {
        // SAFETY: the context is alive.
        unsafe { llama_state_seq_get_size_ext(session.ctx, 0, flags) }
    };
    // A model without windows has no less to save, but no less on the device.
    assert_eq!(sizes(partial), sizes(0));
    assert!(sizes(on_device) < 100 && sizes(on_device | partial) == sizes(on_device));
    let mut buffer = vec![0u8; sizes(0)];
    for flags in 0..4 {
        let len = sizes(flags);
        // SAFETY: no size is greater than the buffer.
        unsafe {
            let (buf, ctx) = (buffer.as_mut_ptr(), session.ctx);
            assert_eq!(llama_state_seq_get_data_ext(ctx, buf, len, 0, flags), len);
            let truth = session.go(&[4, 5]);
            for other in (0..4).filter(|&other| other != flags) {
                refused("llama_state_seq_set_data: the state does not fit", || {
                    llama_state_seq_set_data_ext(ctx, buf, len, 0, other)
                });
            }
            assert_eq!(llama_state_seq_set_data_ext(ctx, buf, len, 0, flags), len);
            assert_eq!(session.pos_max(0), 2);
            assert_eq!(session.go(&[4, 5]), truth);
            assert_eq!(llama_state_seq_set_data_ext(ctx, buf, len, 0, flags), len);
        }
    }
}

/// Sequence -1 stands for all of them.
#[test]
fn all_sequences_as_one() {
    let session = Session::tiny();
    session.go(&[1, 2, 3]);
    // SAFETY: the buffer is as large as was said.
    unsafe {
        let ctx = session.ctx;
        llama_memory_seq_cp(llama_get_memory(ctx), 0, 1, 0, 2);
        let len = llama_state_seq_get_size(ctx, -1);
        let mut bytes = vec![0; len];
        assert_eq!(llama_state_seq_get_data(ctx, bytes.as_mut_ptr(), len, -1), len);
        llama_memory_clear(llama_get_memory(ctx), 0);
        assert_eq!(llama_state_seq_set_data(ctx, bytes.as_ptr(), len, -1), len);
        assert_eq!((session.pos_max(0), session.pos_max(1)), (2, 1));
        assert_eq!(session.set(&bytes), len);
    }
}

#[test]
fn states_of_other_models() {
    let session = Session::tiny();
    session.go(&[1, 2, 3]);
    let other = Session::new(&Spec { name: "two-layers", n_layer: 2, ..tiny::MICRO });
    other.go(&[1]);
    let (state, before) = (session.state(), other.state());
    refused("it has 1 layers, expected 2", || other.set(&state));
    // What llama.cpp writes begins with the length of a name.
    refused("no state of this library", || other.set(b"\x05\0\0\0llama\x01\0\0\0\0\0\0\0"));
    refused("cut off", || other.set(&[]));
    assert!(other.state() == before);
    other.go(&[2]);
}
