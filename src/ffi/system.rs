//! The library itself: version, clock, limits, processor.

use core::ffi::c_char;
use once_cell::sync::OnceCell;
use std::ffi::CString;

use super::ggml::cards::{self, MAX_CARDS};
use super::guard;
use super::types::{ggml_numa_strategy, ggml_numa_strategy_e};
use crate::api::MAX_SEQS;
use crate::util::sys;
use crate::{log_error, log_warn};

/// Version of the llama.h interface that this library offers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_version() -> *const c_char {
    c"0.5.0-dev".as_ptr()
}

/// Prepares the library; once, before anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_backend_init() {
    guard::call((), "llama_backend_init", || {
        sys::time_us(); // starts the clock
    });
}

/// Releases what llama_backend_init took; nothing, here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_backend_free() {}

/// Places threads and memory on NUMA nodes. Nothing is placed yet: a strategy other than DISABLED
/// gets a line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_numa_init(numa: ggml_numa_strategy_e) {
    guard::call((), "llama_numa_init", || match ggml_numa_strategy::try_from(numa) {
        Ok(ggml_numa_strategy::GGML_NUMA_STRATEGY_DISABLED) => {}
        Ok(strategy) => log_warn!("llama_numa_init: {strategy:?} is not supported yet"),
        Err(error) => log_error!("llama_numa_init: {error}"),
    });
}

/// Microseconds on a clock that never goes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_time_us() -> i64 {
    guard::call(0, "llama_time_us", sys::time_us)
}

/// Most devices that a list of them can have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_max_devices() -> usize {
    MAX_CARDS
}

/// Most sequences in a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_max_parallel_sequences() -> usize {
    MAX_SEQS
}

/// Most entries in a list of buffer type overrides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_max_tensor_buft_overrides() -> usize {
    4096
}

/// Whether model files can be mapped into memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_supports_mmap() -> bool {
    cfg!(any(unix, windows))
}

/// Whether model memory can be pinned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_supports_mlock() -> bool {
    cfg!(unix)
}

/// Whether a GPU can be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_supports_gpu_offload() -> bool {
    guard::call(false, "llama_supports_gpu_offload", || cards::count() > 0)
}

/// Whether other machines can be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_supports_rpc() -> bool {
    false
}

/// One line about the GPUs, if there are some, and the processor with its instruction sets, valid
/// for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_print_system_info() -> *const c_char {
    guard::call(c"".as_ptr(), "llama_print_system_info", || {
        static INFO: OnceCell<CString> = OnceCell::new();
        INFO.get_or_init(|| CString::new(system_info()).unwrap_or_default()).as_ptr()
    })
}

/// `CUDA : ARCHS = 750,800 | CPU : AVX2 = 1 | FMA = 1 | ... | KERNELS = avx512vnni | `, the layout
/// that programs parse.
fn system_info() -> String {
    let cards = (cards::count() > 0).then(|| ("CUDA", cards::features()));
    let mut line = String::new();
    for (family, features) in cards.into_iter().chain([("CPU", features())]) {
        line += &format!("{family} : ");
        for (name, value) in features {
            line += &format!("{name} = {value} | ");
        }
    }
    line
}

/// What of the processor the kernels can use, as name and value.
pub(super) fn features() -> Vec<(&'static str, String)> {
    let mut list: Vec<(&'static str, String)> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("SSE3", is_x86_feature_detected!("sse3")),
            ("SSSE3", is_x86_feature_detected!("ssse3")),
            ("AVX", is_x86_feature_detected!("avx")),
            ("AVX_VNNI", is_x86_feature_detected!("avxvnni")),
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("F16C", is_x86_feature_detected!("f16c")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("BMI2", is_x86_feature_detected!("bmi2")),
            ("AVX512", is_x86_feature_detected!("avx512f")),
            ("AVX512_VBMI", is_x86_feature_detected!("avx512vbmi")),
            ("AVX512_VNNI", is_x86_feature_detected!("avx512vnni")),
            ("AVX512_BF16", is_x86_feature_detected!("avx512bf16")),
        ];
        list.extend(found.iter().filter(|f| f.1).map(|f| (f.0, "1".to_owned())));
    }
    #[cfg(target_arch = "aarch64")]
    list.push(("NEON", "1".to_owned()));
    list.push(("KERNELS", crate::backend::cpu::KernelTable::detect().isa().name().to_owned()));
    list
}
