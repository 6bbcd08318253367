//! What every layer may use: the log sink, aligned memory, checked byte reads, a hash, system calls,
//! characters cut into pieces.

pub mod aligned;
pub mod bytes;
pub mod hash;
pub mod log;
pub mod sys;
pub mod utf8;
