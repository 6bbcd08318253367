//! Flags in memory that host and card both see: either side can wait for the other without a call
//! to the driver.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::result;
use cudarc::driver::sys::{
    self, CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE, CUstreamWaitValue_flags,
    CUstreamWriteValue_flags,
};

use super::{Called, CudaError, Device, Stream};

/// Each flag has a cache line of its own.
const STRIDE: usize = 64;

/// Numbers that begin at zero.
pub struct Flags {
    device: Arc<Device>,
    host: NonNull<u8>,
    on_card: u64,
    len: usize,
}

// SAFETY: atomic numbers that the value alone owns.
unsafe impl Send for Flags {}
// SAFETY: as above.
unsafe impl Sync for Flags {}

impl Device {
    /// `n` flags, all zero.
    pub fn flags(self: &Arc<Self>, n: usize) -> Result<Flags, CudaError> {
        self.bind()?;
        let bytes = n.max(1).saturating_mul(STRIDE);
        let how = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the context is current; freed once, on drop.
        let host = unsafe { result::malloc_host(bytes, how) }.call("cuMemHostAlloc")?;
        let null = || CudaError::NoDevice("the driver gave no pinned memory".into());
        let host = NonNull::new(host.cast::<u8>()).ok_or_else(null)?;
        // SAFETY: as many bytes, just allocated.
        unsafe { host.write_bytes(0, bytes) };
        let mut flags = Flags { device: Arc::clone(self), host, on_card: 0, len: n };
        // SAFETY: mapped memory, allocated above.
        let mapped = unsafe {
            sys::cuMemHostGetDevicePointer_v2(&raw mut flags.on_card, host.as_ptr().cast(), 0)
        };
        mapped.result().call("cuMemHostGetDevicePointer")?;
        Ok(flags)
    }
}

impl Flags {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn flag(&self, at: usize) -> &AtomicU32 {
        assert!(at < self.len, "flag {at} of {}", self.len);
        // SAFETY: within the memory, aligned to its stride, and only used atomically.
        unsafe { self.host.add(at * STRIDE).cast().as_ref() }
    }

    /// What a flag is now. What the card wrote before it set the flag is seen, too.
    pub fn get(&self, at: usize) -> u32 {
        self.flag(at).load(Ordering::Acquire)
    }

    /// Sets a flag; what was written before is seen by who waits for it.
    pub fn set(&self, at: usize, value: u32) {
        self.flag(at).store(value, Ordering::Release);
    }

    fn address(&self, at: usize) -> u64 {
        assert!(at < self.len, "flag {at} of {}", self.len);
        self.on_card + (at * STRIDE) as u64
    }
}

impl Stream {
    /// Sets a flag after all work so far. The flags must live until then: waited for on drop.
    pub fn set_flag(&self, flags: &Flags, at: usize, value: u32) -> Result<(), CudaError> {
        self.refuse_capture("flags")?;
        self.device().bind()?;
        let how = CUstreamWriteValue_flags::CU_STREAM_WRITE_VALUE_DEFAULT as u32;
        // SAFETY: mapped memory, which is freed only after all work.
        unsafe { sys::cuStreamWriteValue32_v2(self.raw(), flags.address(at), value, how) }
            .result()
            .call("cuStreamWriteValue32")
    }

    /// Lets work from here on wait until a flag has at least this value. Somebody has to set it:
    /// else the stream, and all that waits for it, waits for ever.
    pub fn wait_flag(&self, flags: &Flags, at: usize, value: u32) -> Result<(), CudaError> {
        self.refuse_capture("flags")?;
        self.device().bind()?;
        let how = CUstreamWaitValue_flags::CU_STREAM_WAIT_VALUE_GEQ as u32;
        // SAFETY: as above.
        unsafe { sys::cuStreamWaitValue32_v2(self.raw(), flags.address(at), value, how) }
            .result()
            .call("cuStreamWaitValue32")
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        // Streams may still write or wait.
        if self.device.synchronize().is_ok() {
            // SAFETY: allocated by `Device::flags`; no work uses it.
            let _ = unsafe { result::free_host(self.host.as_ptr().cast()) };
        }
    }
}
