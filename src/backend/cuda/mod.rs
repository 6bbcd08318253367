//! NVIDIA cards through the driver alone: no toolkit is needed to build or to run.
//!
//! The driver's library is opened when the first caller asks for devices. Where there is none, or
//! it is too old, or no card is good enough, [`Device::list`] is empty and [`absence`] says why in
//! one line. Nothing here panics on what a driver answers.
//!
//! | file | what it has |
//! |---|---|
//! | `driver.rs` | is there a driver; devices and what they are like |
//! | `memory.rs` | device and pinned memory, counted against a [`Budget`] |
//! | `stream.rs` | copies, launches and events, in order |
//! | `graph.rs` | launches that are recorded once and run as one |
//! | `flags.rs` | numbers that host and card both see, to wait for each other |
//! | `module.rs` | the kernels: PTX that is embedded, compiled by the driver when first used |
//! | `pack.rs` | weights as the kernels want them: every row 16-byte aligned |
//! | `launch/` | a safe function for each kernel, which checks every length |
//!
//! To add a kernel: its source in `kernels/<op>.cu`, PTX made by `make kernels`, its module in
//! `module.rs`, its function in `launch/<op>.rs`, and a case in `tests/cuda_ops`.
#![allow(unsafe_code, reason = "calls the driver")]

mod driver;
mod flags;
mod graph;
pub mod launch;
mod memory;
mod module;
pub mod pack;
mod stream;

pub use driver::{Device, DeviceInfo, MIN_COMPUTE, MIN_DRIVER, NO_DRIVER, absence};
pub use flags::Flags;
pub use graph::Graph;
pub use memory::{Budget, Buffer, Pinned, Purpose, View};
pub use module::{Kernel, Module};
pub use stream::{Arg, Dims, Event, Stream};

use cudarc::driver::sys::CUresult;

/// Why something was not done on a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver refused.
    #[error("{call}: {words} ({code})")]
    Driver {
        /// What was asked of it.
        call: &'static str,
        /// In its own words.
        words: String,
        /// Its number.
        code: u32,
    },
    /// The budget is used up.
    #[error("{purpose} need {wanted} bytes of GPU memory, {left} of the budget are left")]
    OverBudget {
        /// What for.
        purpose: Purpose,
        /// Bytes.
        wanted: usize,
        /// Bytes.
        left: usize,
    },
    /// There is no such device.
    #[error("{0}")]
    NoDevice(String),
}

impl CudaError {
    /// Whether the card is out of memory, or the budget; anything else is a fault.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OverBudget { .. } => true,
            Self::Driver { code, .. } => *code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32,
            Self::NoDevice(_) => false,
        }
    }
}

/// Names the call that a driver's error comes from.
trait Called<T> {
    fn call(self, call: &'static str) -> Result<T, CudaError>;
}

impl<T> Called<T> for Result<T, cudarc::driver::DriverError> {
    fn call(self, call: &'static str) -> Result<T, CudaError> {
        self.map_err(|e| {
            let words = e.error_string().map_or("unknown error".into(), |s| s.to_string_lossy());
            CudaError::Driver { call, words: words.into_owned(), code: e.0 as u32 }
        })
    }
}
