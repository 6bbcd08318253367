//! An allocator that counts. A test program that declares this module uses it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

/// Bytes that all threads asked for so far, and how many times.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(old: usize, new: usize) {
    if new > 0 {
        BYTES.fetch_add(new, Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    let _ = NOW.try_with(|now| {
        now.set(now.get() + new as isize - old as isize);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: hands everything on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller's promises, unchanged.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller's promises, unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: the caller's promises, unchanged.
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: the caller's promises, unchanged.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What `run` gives, and the most bytes that this thread had on top of what it had before.
pub fn peak<T>(run: impl FnOnce() -> T) -> (T, isize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = run();
    (result, PEAK.get() - before)
}

/// Bytes that all threads asked for while `run` ran, and how many times.
pub fn total(run: impl FnOnce()) -> (usize, usize) {
    let now = || (BYTES.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
    let before = now();
    run();
    (now().0 - before.0, now().1 - before.1)
}
