//! The safe façade that the C boundary and Rust users call.
