//! The CPU backend: a kernel table per instruction set, and a thread pool. The steps of a plan are
//! executed with them in `engine/run`.
//!
//! Promise: the same bytes for any number of threads, in any batch company and ubatch size. Every
//! kernel of an instruction set sums an output value in one order, and work is split by outputs.

pub mod kernels;
pub mod pool;
pub mod table;

pub use table::{Isa, KernelTable};
