//! What the pool is built from. `tests/loom` puts loom's versions of it in its place, to try every
//! order in which threads can meet.

pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
pub(super) use std::thread;
