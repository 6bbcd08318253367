//! Streams: copies, launches and events that run one after the other, while the host goes on.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::result::{self, event, stream};
use cudarc::driver::sys::{self, CUevent, CUevent_flags, CUresult, CUstream};

use super::module::Kernel;
use super::{Buffer, Called, CudaError, Device, Pinned, View};

/// Work in order.
pub struct Stream {
    device: Arc<Device>,
    raw: CUstream,
    /// Whether work is being recorded, and the memory that it may use (graph.rs).
    captures: AtomicBool,
    kept: Mutex<Vec<Arc<Buffer>>>,
}

// SAFETY: streams may be used from any thread; the driver orders the calls.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of shared memory whose size the kernel does not say.
    pub shared: u32,
}

/// An operand of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// Address of device memory.
    View(View<'a>),
    /// The address 0: an operand that is not there.
    Null,
    /// `int`
    I32(i32),
    /// `unsigned`
    U32(u32),
    /// `float`
    F32(f32),
}

impl Stream {
    /// A stream of its own, which does not wait for others.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let raw = stream::create(stream::StreamKind::NonBlocking).call("cuStreamCreate")?;
        let (captures, kept) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { device: Arc::clone(device), raw, captures, kept })
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Begins (with the memory that recorded work may use) and ends a capture.
    pub(super) fn keep(&self, memory: Option<Vec<Arc<Buffer>>>) -> Result<(), CudaError> {
        let captures = memory.is_some();
        if captures && self.captures.swap(true, Ordering::Relaxed) {
            return Err(CudaError::NoDevice("a recording cannot be part of a graph".into()));
        }
        *self.kept.lock().unwrap_or_else(|e| e.into_inner()) = memory.unwrap_or_default();
        self.captures.store(captures, Ordering::Relaxed);
        Ok(())
    }

    /// What uses memory of the host, or waits, cannot be recorded.
    pub(super) fn refuse_capture(&self, what: &str) -> Result<(), CudaError> {
        match self.captures.load(Ordering::Relaxed) {
            true => Err(CudaError::NoDevice(format!("{what} cannot be part of a graph"))),
            false => Ok(()),
        }
    }

    /// Recorded work outlives the borrow of its operands, so these must be of memory that the graph
    /// keeps.
    fn admit(&self, view: View<'_>) -> Result<(), CudaError> {
        if !self.captures.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if kept.iter().any(|buffer| view.is_within(buffer)) {
            return Ok(());
        }
        Err(CudaError::NoDevice("a graph uses memory that it does not keep".into()))
    }

    /// Where it runs.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Copies bytes of the host, which may change as soon as this returns.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn upload(&self, dst: View<'_>, src: &[u8]) -> Result<(), CudaError> {
        assert_eq!(dst.len(), src.len(), "bytes to upload");
        if src.is_empty() {
            return Ok(());
        }
        self.refuse_capture("memory of the host")?;
        self.device.bind()?;
        // SAFETY: as many bytes on both sides; pageable memory is read before the call returns.
        unsafe { result::memcpy_htod_async(dst.ptr, src, self.raw) }.call("cuMemcpyHtoDAsync")
    }

    /// Copies to the host, after all work so far.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn download(&self, src: View<'_>, dst: &mut [u8]) -> Result<(), CudaError> {
        assert_eq!(src.len(), dst.len(), "bytes to download");
        if dst.is_empty() {
            return Ok(());
        }
        self.refuse_capture("memory of the host")?;
        self.device.bind()?;
        // SAFETY: as many bytes on both sides, and waited for below.
        unsafe { result::memcpy_dtoh_async(dst, src.ptr, self.raw) }.call("cuMemcpyDtoHAsync")?;
        self.synchronize()
    }

    /// Copies pinned memory to the card while the host goes on.
    pub fn send(&self, dst: View<'_>, src: &Pinned, at: Range<usize>) -> Result<(), CudaError> {
        assert!(
            at.start <= at.end && at.end <= src.len() && dst.len() == at.len(),
            "bytes to send"
        );
        self.refuse_capture("memory of the host")?;
        self.device.bind()?;
        let (ptr, last) = src.raw();
        // SAFETY: within the memory, which `Pinned` keeps from change until the event has come.
        let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr().add(at.start), at.len()) };
        // SAFETY: as many bytes on both sides.
        unsafe { result::memcpy_htod_async(dst.ptr, bytes, self.raw) }.call("cuMemcpyHtoDAsync")?;
        self.record(last)
    }

    /// Copies from the card to pinned memory while the host goes on.
    pub fn fetch(&self, src: View<'_>, dst: &Pinned, at: Range<usize>) -> Result<(), CudaError> {
        assert!(
            at.start <= at.end && at.end <= dst.len() && src.len() == at.len(),
            "bytes to fetch"
        );
        self.refuse_capture("memory of the host")?;
        self.device.bind()?;
        let (ptr, last) = dst.raw();
        // SAFETY: within the memory, which nobody looks at until the event has come.
        let bytes = unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr().add(at.start), at.len()) };
        // SAFETY: as many bytes on both sides.
        unsafe { result::memcpy_dtoh_async(bytes, src.ptr, self.raw) }.call("cuMemcpyDtoHAsync")?;
        self.record(last)
    }

    /// Copies on the card.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn copy(&self, dst: View<'_>, src: View<'_>) -> Result<(), CudaError> {
        assert_eq!(dst.len(), src.len(), "bytes to copy");
        self.admit(dst)?;
        self.admit(src)?;
        self.device.bind()?;
        // SAFETY: as many bytes on both sides; the driver allows overlap of equal ranges alone, and
        // others give bytes of one of both.
        let copied = unsafe { result::memcpy_dtod_async(dst.ptr, src.ptr, src.len(), self.raw) };
        copied.call("cuMemcpyDtoDAsync")
    }

    /// Sets all bytes to zero.
    pub fn zero(&self, dst: View<'_>) -> Result<(), CudaError> {
        self.admit(dst)?;
        self.device.bind()?;
        // SAFETY: the view's own bytes.
        unsafe { result::memset_d8_async(dst.ptr, 0, dst.len(), self.raw) }.call("cuMemsetD8Async")
    }

    /// Runs a kernel after all work so far.
    ///
    /// # Safety
    /// The operands are those of the kernel's signature, in order, and what it reads and writes with
    /// these numbers lies within the views.
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        dims: Dims,
        args: &[Arg<'_>],
    ) -> Result<(), CudaError> {
        if dims.grid.contains(&0) {
            return Ok(());
        }
        for arg in args {
            if let Arg::View(view) = arg {
                self.admit(*view)?;
            }
        }
        let function = self.device.function(kernel)?;
        // Every operand in 8 bytes of its own, of which the driver reads as many as it has.
        let mut values: Vec<u64> = args.iter().map(Arg::bits).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        let [grid, block] = [dims.grid, dims.block].map(|[x, y, z]| (x, y, z));
        // SAFETY: the caller vouches for the operands; the lists live until the call returns.
        let launched = unsafe {
            result::launch_kernel(function, grid, block, dims.shared, self.raw, &mut places)
        };
        launched.call(kernel.name)
    }

    /// Marks this point of the stream.
    pub fn record(&self, event: &Event) -> Result<(), CudaError> {
        // Whoever waits for it would be recorded too, without being asked what it uses.
        self.refuse_capture("an event")?;
        self.device.bind()?;
        // SAFETY: both live, on the same device.
        unsafe { event::record(event.raw, self.raw) }.call("cuEventRecord")
    }

    /// Lets work from here on wait until the event has come.
    pub fn wait(&self, event: &Event) -> Result<(), CudaError> {
        self.refuse_capture("an event")?;
        self.device.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both live, on the same device.
        unsafe { stream::wait_event(self.raw, event.raw, flags) }.call("cuStreamWaitEvent")
    }

    /// Whether all work so far is done. Does not wait.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.device.bind()?;
        // SAFETY: the stream lives.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            answer => answer.result().call("cuStreamQuery").map(|()| true),
        }
    }

    /// Waits for all work so far.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the stream lives.
        unsafe { stream::synchronize(self.raw) }.call("cuStreamSynchronize")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.synchronize();
        // SAFETY: made by `new`, and no work is under way.
        let _ = unsafe { stream::destroy(self.raw) };
    }
}

impl Arg<'_> {
    /// Its bytes, low ones first.
    fn bits(&self) -> u64 {
        match *self {
            Self::View(view) => view.ptr,
            Self::Null => 0,
            Self::I32(x) => u64::from(x.cast_unsigned()),
            Self::U32(x) => u64::from(x),
            Self::F32(x) => u64::from(x.to_bits()),
        }
    }
}

/// A point of a stream.
pub struct Event {
    device: Arc<Device>,
    raw: CUevent,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// One that has come already. It has no time.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        Self::with(device, CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// One that knows when it came.
    pub fn timed(device: &Arc<Device>) -> Result<Self, CudaError> {
        Self::with(device, CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn with(device: &Arc<Device>, flags: CUevent_flags) -> Result<Self, CudaError> {
        device.bind()?;
        let raw = event::create(flags).call("cuEventCreate")?;
        Ok(Self { device: Arc::clone(device), raw })
    }

    /// Milliseconds from an earlier event to this one. Both are timed, and have come.
    pub fn ms_since(&self, earlier: &Self) -> Result<f32, CudaError> {
        self.device.bind()?;
        // SAFETY: both live.
        unsafe { event::elapsed(earlier.raw, self.raw) }.call("cuEventElapsedTime")
    }

    /// Waits until it has come.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the event lives.
        unsafe { event::synchronize(self.raw) }.call("cuEventSynchronize")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `new`.
            let _ = unsafe { event::destroy(self.raw) };
        }
    }
}
