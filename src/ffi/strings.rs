//! Strings and arrays on their way through the C boundary.

use core::ffi::{CStr, c_char};

/// A C string argument; `None` for NULL.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that outlives `'a`.
pub(super) unsafe fn c_str<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller promises a terminated string.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// A C array argument; an empty slice for NULL.
///
/// # Safety
/// `data` is NULL or points to `len` values that outlive `'a`.
pub(super) unsafe fn array<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller promises `len` values.
    unsafe { core::slice::from_raw_parts(data, len) }
}

/// Writes text as `snprintf` does: cut to `size` - 1 bytes, always terminated (unless `size` is
/// 0), and the full length returned.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
pub(super) unsafe fn snprintf(buf: *mut c_char, size: usize, text: &[u8]) -> i32 {
    if !buf.is_null() && size > 0 {
        let n = text.len().min(size - 1);
        // SAFETY: n + 1 <= size bytes are writable, and text is not inside the caller's buffer.
        unsafe {
            core::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), n);
            *buf.add(n) = 0;
        }
    }
    i32::try_from(text.len()).unwrap_or(i32::MAX)
}

/// Writes text as `strncpy` does: cut to `length` bytes and terminated only where there is room. The
/// full length, or -1 when that is not an `i32`.
///
/// # Safety
/// `buf` is NULL or has room for `length` bytes.
pub(super) unsafe fn strncpy(buf: *mut c_char, length: i32, text: &[u8]) -> i32 {
    let room = usize::try_from(length).unwrap_or(0);
    if !buf.is_null() && room > 0 {
        let n = text.len().min(room);
        // SAFETY: the caller's buffer has `length` bytes, and text is not inside it.
        unsafe {
            core::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), n);
            if n < room {
                *buf.add(n) = 0;
            }
        }
    }
    i32::try_from(text.len()).unwrap_or(-1)
}

/// The answer of the `meta_*` functions: text as by [`snprintf`], or -1 and an empty string.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
pub(super) unsafe fn text_or_miss(buf: *mut c_char, size: usize, text: Option<&[u8]>) -> i32 {
    match text {
        // SAFETY: the caller's promise is passed on.
        Some(text) => unsafe { snprintf(buf, size, text) },
        None => {
            // SAFETY: the caller's promise is passed on.
            unsafe { snprintf(buf, size, b"") };
            -1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snprintf_cuts_and_terminates() {
        let mut buf = [b'x' as c_char; 4];
        // SAFETY: the buffer has four bytes, then none.
        unsafe {
            assert_eq!(snprintf(buf.as_mut_ptr(), 4, b"hello"), 5);
            assert_eq!(c_str(buf.as_ptr()).map(CStr::to_bytes), Some(&b"hel"[..]));
            assert_eq!(snprintf(core::ptr::null_mut(), 0, b"hello"), 5);
        }
    }
}
