//! Zeroed, 64-byte aligned, growable memory for scratch, caches and outputs.
#![allow(unsafe_code, reason = "owns a raw allocation with an alignment Vec cannot give")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::util::sys;

/// Cache-line and AVX-512 register size.
pub const ALIGN: usize = 64;

mod sealed {
    pub trait Pod: Copy + Send + Sync + 'static {}
    impl Pod for u8 {}
    impl Pod for i8 {}
    impl Pod for u16 {}
    impl Pod for i32 {}
    impl Pod for u32 {}
    impl Pod for f32 {}
    impl Pod for [i16; 2] {}
}
/// Plain numbers for which all-zero bytes are a value.
pub trait Pod: sealed::Pod {}
impl<T: sealed::Pod> Pod for T {}

/// A slice of `T` that starts at a 64-byte boundary. New elements are zero.
pub struct AlignedVec<T: Pod> {
    ptr: NonNull<T>,
    len: usize,
    own: PhantomData<T>,
}

// SAFETY: AlignedVec owns its memory exclusively, like Vec; T is a plain number.
unsafe impl<T: Pod> Send for AlignedVec<T> {}
// SAFETY: shared access gives only &[T].
unsafe impl<T: Pod> Sync for AlignedVec<T> {}

/// The allocator had no memory for a buffer of this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: a buffer of {bytes} bytes could not be allocated")]
pub struct OutOfMemory {
    /// Size that was asked for; `usize::MAX` when the size itself overflows.
    pub bytes: usize,
}

impl<T: Pod> AlignedVec<T> {
    /// An empty buffer; allocates nothing.
    pub const fn new() -> Self {
        Self { ptr: NonNull::dangling(), len: 0, own: PhantomData }
    }

    /// A buffer of `len` zeros. Aborts the process when memory runs out, like `vec![0; len]`.
    pub fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len)
            .unwrap_or_else(|_| handle_alloc_error(Self::layout(len).unwrap_or(Layout::new::<T>())))
    }

    /// A buffer of `len` zeros, or an error that names the size.
    pub fn try_zeroed(len: usize) -> Result<Self, OutOfMemory> {
        if len == 0 {
            return Ok(Self::new());
        }
        let layout = Self::layout(len).ok_or(OutOfMemory { bytes: usize::MAX })?;
        // SAFETY: the layout has a non-zero size because len > 0 and T is not zero-sized.
        let ptr = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(ptr.cast::<T>()).ok_or(OutOfMemory { bytes: layout.size() })?;
        Ok(Self { ptr, len, own: PhantomData })
    }

    /// As [`Self::try_zeroed`], in huge pages where the system gives them: for weights of which rows
    /// here and there are read, each of them in a page whose address must be looked up.
    pub fn try_zeroed_in_huge_pages(len: usize) -> Result<Self, OutOfMemory> {
        if len == 0 {
            return Ok(Self::new());
        }
        let layout = Self::layout(len).ok_or(OutOfMemory { bytes: usize::MAX })?;
        let n_bytes = layout.size();
        // SAFETY: the layout has a non-zero size because len > 0 and T is not zero-sized.
        let ptr = unsafe { alloc(layout) };
        let ptr = NonNull::new(ptr).ok_or(OutOfMemory { bytes: n_bytes })?;
        // SAFETY: the allocation is n_bytes long, and nothing else knows of it.
        let memory = unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr().cast(), n_bytes) };
        // Pages are taken when they are first touched: advice comes before the zeros.
        sys::advise_huge_pages(memory);
        memory.fill(MaybeUninit::new(0));
        Ok(Self { ptr: ptr.cast(), len, own: PhantomData })
    }

    /// Makes the buffer at least `len` long; contents are zeroed when it has to grow.
    pub fn ensure(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len);
        }
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<T>())?;
        Layout::from_size_align(bytes, ALIGN).ok()
    }
}

impl<T: Pod> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        if let (true, Some(layout)) = (self.len > 0, Self::layout(self.len)) {
            // SAFETY: ptr came from the allocator with this very layout and is freed once.
            unsafe { dealloc(self.ptr.as_ptr().cast(), layout) };
        }
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: ptr is valid for len initialised elements (dangling only when len == 0).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in deref, and &mut self makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_grows() {
        let mut v = AlignedVec::<f32>::zeroed(3);
        assert_eq!(v.as_ptr() as usize % ALIGN, 0);
        assert_eq!(&v[..], &[0.0; 3]);
        v[1] = 2.0;
        v.ensure(2);
        assert_eq!(v[1], 2.0);
        v.ensure(100);
        assert_eq!(&v[..], &[0.0; 100]);
    }

    #[test]
    fn huge_pages_are_zeroed_and_aligned_too() {
        for len in [0, 1, 5000, (4 << 20) + 3] {
            let mut v = AlignedVec::<u8>::try_zeroed_in_huge_pages(len).unwrap();
            assert_eq!(v.len(), len);
            assert!(len == 0 || (v.as_ptr() as usize).is_multiple_of(ALIGN));
            assert!(v.iter().all(|&x| x == 0));
            v.fill(1);
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(AlignedVec::<f32>::try_zeroed_in_huge_pages(usize::MAX / 2).is_err());
        assert!(AlignedVec::<f32>::try_zeroed(usize::MAX / 2).is_err());
        assert!(AlignedVec::<u8>::try_zeroed(0).is_ok());
    }
}
