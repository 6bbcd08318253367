//! Any bytes as a sequence of C calls: see `api_calls/mod.rs`.
#![no_main]
#![allow(unsafe_code, reason = "calls the C functions")]
#![allow(dead_code, reason = "tests use the rest")]

#[path = "../api_calls/mod.rs"]
mod api_calls;
#[path = "../../common/tiny.rs"]
mod tiny;
#[path = "../../common/tiny_archs.rs"]
mod tiny_archs;
#[path = "../../common/tiny_lora.rs"]
mod tiny_lora;
#[path = "../../common/tiny_sparse.rs"]
mod tiny_sparse;

use libfuzzer_sys::fuzz_target;

fn init() {
    api_calls::shared();
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for seed in 0..200 {
        let path = std::path::Path::new(&dir).join(format!("made-up-{seed}"));
        std::fs::write(path, api_calls::made_up(seed, 400)).expect("the seeds can be written");
    }
}

fuzz_target!(init: init(), |bytes: &[u8]| api_calls::run(bytes));
