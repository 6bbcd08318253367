//! The two functions with `...` that clients call: `ggml_abort` (behind every GGML_ASSERT) and
//! `ggml_format_name`. Stable Rust cannot define variadic functions, so on x86-64 System V a few
//! instructions gather the arguments into a `va_list` and hand it to Rust, which lets libc format
//! it. Elsewhere the format itself is shown, without its arguments.

use core::ffi::{CStr, c_char, c_int, c_void};

use crate::ffi::types::{GGML_MAX_NAME, ggml_tensor};
use crate::log_error;

/// Arguments of a variadic call, for `vsnprintf`. NULL where they could not be gathered.
type VaList = *mut c_void;

unsafe extern "C" {
    fn vsnprintf(buf: *mut c_char, size: usize, format: *const c_char, args: VaList) -> c_int;
}

/// Formats into `buf`, always terminated.
///
/// # Safety
/// `format` is NULL or a C string, and `args` fits it.
unsafe fn format_into(buf: &mut [u8], format: *const c_char, args: VaList) {
    let Some(last) = buf.len().checked_sub(1) else { return };
    buf.fill(0);
    if format.is_null() {
        return;
    }
    if args.is_null() {
        // SAFETY: a C string, not NULL.
        let text = unsafe { CStr::from_ptr(format) }.to_bytes();
        let n = text.len().min(last);
        buf[..n].copy_from_slice(&text[..n]);
        return;
    }
    // SAFETY: the buffer has that many bytes; the caller promises the rest.
    unsafe { vsnprintf(buf.as_mut_ptr().cast(), buf.len(), format, args) };
}

/// Logs where and why, then ends the process.
///
/// # Safety
/// `file` and `format` are NULL or C strings, and `args` fits `format`.
unsafe extern "C" fn abort_with(
    file: *const c_char,
    line: c_int,
    format: *const c_char,
    args: VaList,
) -> ! {
    let mut text = [0; 2048];
    // SAFETY: the caller's promise is passed on.
    unsafe { format_into(&mut text, format, args) };
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy();
    // SAFETY: as above.
    let file = unsafe { crate::ffi::strings::c_str(file) }.unwrap_or_default().to_string_lossy();
    log_error!("{file}:{line}: {text}");
    std::process::abort()
}

/// Writes the name of a tensor and returns the tensor.
///
/// # Safety
/// `tensor` is NULL or a tensor, `format` NULL or a C string, and `args` fits `format`.
unsafe extern "C" fn set_name(
    tensor: *mut ggml_tensor,
    format: *const c_char,
    args: VaList,
) -> *mut ggml_tensor {
    let mut name = [0; GGML_MAX_NAME];
    // SAFETY: the caller's promise is passed on.
    unsafe { format_into(&mut name, format, args) };
    // SAFETY: as above.
    if let Some(tensor) = unsafe { tensor.as_mut() } {
        tensor.name = name.map(|b| b as c_char);
    }
    tensor
}

/// Spills the argument registers, builds the System V `va_list` ({gp_offset, fp_offset, stack
/// arguments, spilled registers}) and calls `$target` with it as an argument in `$va_register`
/// after `$named` named ones.
#[cfg(all(target_arch = "x86_64", unix))]
macro_rules! gather_arguments {
    ($target:ident, $named:literal, $va_register:literal) => {
        core::arch::naked_asm!(
            // 176 bytes of spilled registers and 24 of va_list; 216 keeps the stack aligned.
            "sub rsp, 216",
            "mov [rsp], rdi",
            "mov [rsp + 8], rsi",
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], rcx",
            "mov [rsp + 32], r8",
            "mov [rsp + 40], r9",
            "movaps [rsp + 48], xmm0",
            "movaps [rsp + 64], xmm1",
            "movaps [rsp + 80], xmm2",
            "movaps [rsp + 96], xmm3",
            "movaps [rsp + 112], xmm4",
            "movaps [rsp + 128], xmm5",
            "movaps [rsp + 144], xmm6",
            "movaps [rsp + 160], xmm7",
            "mov dword ptr [rsp + 176], 8 * {named}",
            "mov dword ptr [rsp + 180], 48",
            "lea rax, [rsp + 224]",
            "mov [rsp + 184], rax",
            "mov [rsp + 192], rsp",
            concat!("lea ", $va_register, ", [rsp + 176]"),
            "call {target}",
            "add rsp, 216",
            "ret",
            named = const $named,
            target = sym $target,
        )
    };
}

/// `void ggml_abort(const char * file, int line, const char * fmt, ...)`: logs and aborts.
#[cfg(all(target_arch = "x86_64", unix))]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn ggml_abort(_file: *const c_char, _line: c_int, _fmt: *const c_char) -> ! {
    gather_arguments!(abort_with, 3, "rcx")
}

/// `struct ggml_tensor * ggml_format_name(struct ggml_tensor * tensor, const char * fmt, ...)`.
#[cfg(all(target_arch = "x86_64", unix))]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn ggml_format_name(
    _tensor: *mut ggml_tensor,
    _fmt: *const c_char,
) -> *mut ggml_tensor {
    gather_arguments!(set_name, 2, "rdx")
}

/// `void ggml_abort(const char * file, int line, const char * fmt, ...)`: logs and aborts.
#[cfg(not(all(target_arch = "x86_64", unix)))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_abort(file: *const c_char, line: c_int, fmt: *const c_char) -> ! {
    // SAFETY: the caller's promise is passed on.
    unsafe { abort_with(file, line, fmt, core::ptr::null_mut()) }
}

/// `struct ggml_tensor * ggml_format_name(struct ggml_tensor * tensor, const char * fmt, ...)`.
#[cfg(not(all(target_arch = "x86_64", unix)))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_format_name(
    tensor: *mut ggml_tensor,
    fmt: *const c_char,
) -> *mut ggml_tensor {
    // SAFETY: the caller's promise is passed on.
    unsafe { set_name(tensor, fmt, core::ptr::null_mut()) }
}
