//! Threads that walk a list of steps together, and memory that they share safely while doing so.
//!
//! A [`Pool`] runs one closure on all its threads; inside, every thread calls
//! [`Worker::step`] for the same steps in the same order. The tasks of a step are handed out one
//! by one, and a barrier ends it. A thread that waits spins for a bounded time, then sleeps, so
//! the pool also works when there are more threads than processors.
//!
//! Buffers that the threads write together are [`Shared`]: within one step such a buffer is
//! either read by all, or written, each task getting its own tile. That is checked at run time by
//! two atomic operations per access, so the code that executes steps needs no `unsafe`.
#![allow(unsafe_code, reason = "threads write disjoint parts of one buffer")]

mod cols;
mod runs;
mod shared;
mod sync;
mod threads;

pub use cols::ColsMut;
pub use shared::{Grid, Shared, Tile};
pub use threads::{Pool, Task, Worker};
