//! The part of ggml's C interface that programs written for `llama.h` use: type facts, tensors as
//! plain structs, the device registry, thread pool settings. No graphs.

pub mod buffer;
pub mod cards;
pub mod device;
pub mod numbers;
pub mod opened;
pub mod system;
pub mod tensor;
pub mod threadpool;
pub mod traits;
pub mod variadic;
