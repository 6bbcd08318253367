//! Devices: the CPU, and NVIDIA cards. Neither folder knows the other.
//!
//! To add a device: a folder here with its memory and its kernels, the execution of
//! `plan::StepKind` for it beside `engine/run`, and its entry in the device registry of
//! `ffi/ggml/device.rs`.

pub mod cpu;
pub mod cuda;
