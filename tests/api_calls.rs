//! Long sequences of C calls made from bytes, as wrong as C can express: no crash, no panic behind
//! the boundary. The fuzz target `api_calls` looks for such sequences; here are those that it found
//! before they were mended, and some thousand made-up ones.
#![allow(unsafe_code, reason = "calls the C functions")]
#![allow(clippy::print_stderr, reason = "says why it stops")]

#[path = "fuzz/api_calls/mod.rs"]
mod api_calls;
mod common;

use common::{tiny, tiny_archs, tiny_lora, tiny_sparse};

#[test]
fn made_up_sequences_do_no_harm() {
    for seed in 0..800 {
        api_calls::run(&api_calls::made_up(seed, 400));
    }
}
