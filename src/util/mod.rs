//! What every layer may use: the log sink, aligned memory, checked byte reads, system calls.

pub mod aligned;
pub mod bytes;
pub mod log;
pub mod sys;
