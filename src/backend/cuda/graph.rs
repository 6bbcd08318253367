//! Graphs: launches that are recorded once and then run as one, which costs the host one call.

use std::sync::Arc;

use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::{Buffer, Called, CudaError, Device, Stream};

/// Recorded work. It keeps the memory that it works on.
pub struct Graph {
    device: Arc<Device>,
    raw: CUgraphExec,
    n_nodes: usize,
    _memory: Vec<Arc<Buffer>>,
}

// SAFETY: graphs may be launched from any thread; `launch` takes them by reference, and the driver
// orders launches of the same one.
unsafe impl Send for Graph {}

impl Stream {
    /// Records what `work` asks of this stream instead of running it: launches, copies on the card
    /// and zeroing, in the buffers of `memory` and nowhere else. Kernels should have run before, so
    /// that they are loaded.
    ///
    /// # Errors
    /// What `work` returns, and when it asks for something that cannot be recorded.
    pub fn capture(
        &self,
        memory: &[Arc<Buffer>],
        work: impl FnOnce(&Self) -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        self.device().bind()?;
        // Relaxed: other threads, and loading of kernels in this one, do not disturb.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.keep(Some(memory.to_vec()))?;
        // SAFETY: the stream lives; the capture is ended below, whatever `work` does.
        let begun = unsafe { stream::begin_capture(self.raw(), mode) };
        if let Err(error) = begun.call("cuStreamBeginCapture") {
            self.keep(None)?;
            return Err(error);
        }
        let mut capture = Capture { stream: self, open: true };
        let worked = work(self);
        let recorded = capture.end();
        // What went wrong first is what counts.
        let made = worked.and_then(|()| Graph::new(self.device(), recorded.clone()?, memory));
        let Ok(recorded) = recorded else { return made };
        // SAFETY: it was made by the end of the capture, and what was made of it stands alone.
        let _ = unsafe { graph::destroy(recorded) };
        made
    }

    /// Runs recorded work after all work so far.
    pub fn run(&self, graph: &Graph) -> Result<(), CudaError> {
        self.refuse_capture("another graph")?;
        self.device().bind()?;
        // SAFETY: both live; the memory that the graph works on does, too.
        unsafe { graph::launch(graph.raw, self.raw()) }.call("cuGraphLaunch")
    }
}

/// A capture that ends, also when the work panics.
struct Capture<'a> {
    stream: &'a Stream,
    open: bool,
}

impl Capture<'_> {
    fn end(&mut self) -> Result<cudarc::driver::sys::CUgraph, CudaError> {
        self.open = false;
        // SAFETY: a capture of this stream was begun.
        let recorded = unsafe { stream::end_capture(self.stream.raw()) };
        self.stream.keep(None)?;
        recorded.call("cuStreamEndCapture")
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.open
            && let Ok(recorded) = self.end()
        {
            // SAFETY: made just now, and nothing else knows it.
            let _ = unsafe { graph::destroy(recorded) };
        }
    }
}

impl Graph {
    fn new(
        device: &Arc<Device>,
        recorded: cudarc::driver::sys::CUgraph,
        memory: &[Arc<Buffer>],
    ) -> Result<Self, CudaError> {
        let mut n_nodes = 0;
        // SAFETY: the graph lives; without a list the driver writes only how many there are.
        let counted = unsafe {
            cudarc::driver::sys::cuGraphGetNodes(recorded, std::ptr::null_mut(), &raw mut n_nodes)
        };
        counted.result().call("cuGraphGetNodes")?;
        // SAFETY: the graph lives.
        let raw = unsafe { graph::instantiate(recorded, CUgraphInstantiate_flags(0)) };
        let raw = raw.call("cuGraphInstantiate")?;
        Ok(Self { device: Arc::clone(device), raw, n_nodes, _memory: memory.to_vec() })
    }

    /// Pieces of work.
    pub fn n_nodes(&self) -> usize {
        self.n_nodes
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // It may be running.
        if self.device.synchronize().is_ok() {
            // SAFETY: made by `new`, and it does not run.
            let _ = unsafe { graph::exec_destroy(self.raw) };
        }
    }
}
