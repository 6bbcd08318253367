//! Memory that ends at a page nobody may touch: an over-read or over-write kills the test.
#![allow(unsafe_code, reason = "maps pages and protects the last one")]

use std::ops::{Deref, DerefMut};

/// A slice whose last element is followed by an inaccessible page.
pub(crate) struct Guarded<T: Copy> {
    map: *mut u8,
    map_len: usize,
    first: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    pub(crate) fn new(data: &[T]) -> Self {
        let page = 65536;
        let body = size_of_val(data).next_multiple_of(page);
        let map_len = body + page;
        // SAFETY: a fresh private mapping; its last page is protected before use. The data fits
        // into `body` and ends at its end, so it is aligned as its size is a multiple of T's.
        unsafe {
            let map = libc::mmap(
                std::ptr::null_mut(),
                map_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let map = map.cast::<u8>();
            assert_eq!(libc::mprotect(map.add(body).cast(), page, libc::PROT_NONE), 0);
            let first = map.add(body - size_of_val(data)).cast::<T>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), first, data.len());
            Self { map, map_len, first, len: data.len() }
        }
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: len elements were written at first.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in deref; &mut self makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and unmapped once.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
    }
}
