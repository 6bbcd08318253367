//! Memory of a card, and pinned memory of the host that it reads and writes, counted.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::result;
use cudarc::driver::sys::{CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE};

use super::stream::Event;
use super::{Called, CudaError, Device};

/// Views of a kernel's operands begin at a multiple of this.
pub(super) const ALIGN: usize = 16;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Attention, norms, output: all weights but those of neurons.
    Weights,
    /// Hot neurons.
    Neurons,
    /// Keys and values.
    Kv,
    /// Activations and what steps keep for themselves.
    Compute,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Weights, Self::Neurons, Self::Kv, Self::Compute];

    fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Neurons => "hot neurons",
            Self::Kv => "keys and values",
            Self::Compute => "activations",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of a card that may be used, and that are. What is allocated never exceeds the limit.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    by_purpose: [AtomicUsize; Purpose::ALL.len()],
}

impl Budget {
    /// A limit in bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), by_purpose: Default::default() })
    }

    /// Bytes that may be used.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes in use for one purpose.
    pub fn used_for(&self, purpose: Purpose) -> usize {
        self.by_purpose[purpose as usize].load(Ordering::Relaxed)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.limit - self.used()
    }

    fn take(&self, purpose: Purpose, bytes: usize) -> Result<(), CudaError> {
        let more = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|used| CudaError::OverBudget {
            purpose,
            wanted: bytes,
            left: self.limit - used,
        })?;
        self.by_purpose[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, purpose: Purpose, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.by_purpose[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory of a card. Freed, and taken off its budget, on drop.
pub struct Buffer {
    device: Arc<Device>,
    budget: Arc<Budget>,
    purpose: Purpose,
    ptr: u64,
    len: usize,
}

impl Device {
    /// Memory for a purpose; its content is not defined. Lengths are rounded up to whole granules of
    /// 256 bytes, and these are what counts.
    pub fn alloc(
        self: &Arc<Self>,
        budget: &Arc<Budget>,
        purpose: Purpose,
        len: usize,
    ) -> Result<Buffer, CudaError> {
        let too_much = CudaError::OverBudget { purpose, wanted: len, left: budget.left() };
        let len = len.max(1).checked_next_multiple_of(256).ok_or(too_much)?;
        budget.take(purpose, len)?;
        let allocated = self.bind().and_then(|()| {
            // SAFETY: the context is current; freed once, on drop.
            unsafe { result::malloc_sync(len) }.call("cuMemAlloc")
        });
        let ptr = allocated.inspect_err(|_| budget.give_back(purpose, len))?;
        let (device, budget) = (Arc::clone(self), Arc::clone(budget));
        Ok(Buffer { device, budget, purpose, ptr, len })
    }
}

impl Buffer {
    /// All of it.
    pub fn view(&self) -> View<'_> {
        View { ptr: self.ptr, len: self.len, of: PhantomData }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a buffer has at least a granule.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Work that was asked for may still use it. Where the card is gone there is none.
        let _ = self.device.synchronize();
        // SAFETY: allocated by `Device::alloc`, and no view outlives the buffer.
        let _ = unsafe { result::free_sync(self.ptr) };
        self.budget.give_back(self.purpose, self.len);
    }
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) ptr: u64,
    len: usize,
    of: PhantomData<&'a Buffer>,
}

impl<'a> View<'a> {
    /// Bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether all of it is this buffer's.
    pub(super) fn is_within(self, buffer: &Buffer) -> bool {
        let Some(from) = self.ptr.checked_sub(buffer.ptr) else { return false };
        from <= buffer.len as u64 && self.len as u64 <= buffer.len as u64 - from
    }

    /// Some bytes of it.
    ///
    /// # Panics
    /// When the range is not within, or begins where no operand may begin.
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len && range.start.is_multiple_of(ALIGN),
            "bytes {range:?} of a view of {}",
            self.len
        );
        View { ptr: self.ptr + range.start as u64, len: range.len(), of: PhantomData }
    }

    /// From here on.
    ///
    /// # Panics
    /// As [`Self::slice`].
    pub fn from(self, start: usize) -> View<'a> {
        self.slice(start..self.len)
    }
}

/// Memory of the host that stays where it is, so that the card copies it while the host goes on.
pub struct Pinned {
    device: Arc<Device>,
    ptr: NonNull<u8>,
    len: usize,
    /// After the last copy that used it.
    last: Event,
}

// SAFETY: plain bytes that the value alone owns; waiting for an event is allowed anywhere.
unsafe impl Send for Pinned {}
// SAFETY: through a shared reference copies are asked for, which the driver orders; bytes are looked
// at through an exclusive one.
unsafe impl Sync for Pinned {}

impl Device {
    /// Pinned memory, zeroed. Ordinary cached memory, which the processor reads fast.
    pub fn pinned(self: &Arc<Self>, len: usize) -> Result<Pinned, CudaError> {
        let len = len.max(1);
        self.bind()?;
        let flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the context is current; freed once, on drop.
        let ptr = unsafe { result::malloc_host(len, flags) }.call("cuMemHostAlloc")?;
        let null = || CudaError::NoDevice("the driver gave no pinned memory".into());
        let ptr = NonNull::new(ptr.cast::<u8>()).ok_or_else(null)?;
        // SAFETY: `len` bytes that were just allocated.
        unsafe { ptr.write_bytes(0, len) };
        let last = Event::new(self).inspect_err(|_| {
            // SAFETY: allocated above.
            let _ = unsafe { result::free_host(ptr.as_ptr().cast()) };
        })?;
        Ok(Pinned { device: Arc::clone(self), ptr, len, last })
    }
}

impl Pinned {
    /// Its bytes, after the copies that use them.
    pub fn bytes(&mut self) -> Result<&mut [u8], CudaError> {
        self.last.synchronize()?;
        // SAFETY: `len` bytes that this value owns; no copy is under way, and a new one needs it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: it has at least one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn raw(&self) -> (NonNull<u8>, &Event) {
        (self.ptr, &self.last)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.last.synchronize();
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `Device::pinned`; no copy is under way.
            let _ = unsafe { result::free_host(self.ptr.as_ptr().cast()) };
        }
    }
}
