//! The kernels of `kernels/*.cu`, each against plain loops in doubles or the CPU's own kernels: on
//! the emulator in four orders of threads, and unchanged on a card (`POWERINFER_TEST_GPU=1`).
//!
//! To add an operation: a file in `cuda_ops/` with its tests, of which each has one
//! `cuda_support::every_order`.
#![allow(clippy::print_stderr, reason = "says what is skipped")]
#![allow(unsafe_code, reason = "some launches trust what lies on the device")]

mod cuda_support;

#[path = "cuda_ops/attend.rs"]
mod attend;
#[path = "cuda_ops/elementwise.rs"]
mod elementwise;
#[path = "cuda_ops/gear.rs"]
mod gear;
#[path = "cuda_ops/injected.rs"]
mod injected;
#[path = "cuda_ops/lists.rs"]
mod lists;
#[path = "cuda_ops/matrices.rs"]
mod matrices;
#[path = "cuda_ops/norm.rs"]
mod norm;
#[path = "cuda_ops/order.rs"]
mod order;
#[path = "cuda_ops/rope.rs"]
mod rope;
#[path = "cuda_ops/sparse.rs"]
mod sparse;
