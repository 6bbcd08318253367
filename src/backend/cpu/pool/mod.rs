//! Threads that walk a list of steps together, and memory that they share safely while doing so.
#![allow(unsafe_code, reason = "threads write disjoint parts of one buffer")]

mod cols;

pub use cols::ColsMut;
