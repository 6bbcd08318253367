//! Devices. Today the CPU; CUDA joins as a sibling folder that does not know this one.

pub mod cpu;
