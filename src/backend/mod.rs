//! Devices. Today the CPU; CUDA joins as a sibling folder that does not know this one.
//!
//! To add a device: a folder here with its memory and its kernels, the execution of
//! `plan::StepKind` for it beside `engine/run`, and its entry in the device registry of
//! `ffi/ggml/device.rs`.

pub mod cpu;
