//! Structs, enums and callbacks of `ggml-backend.h`, `ggml-cpu.h` and `ggml-alloc.h`.
#![allow(missing_docs, reason = "fields and variants carry the names of the C header")]

use core::ffi::{c_char, c_int, c_void};

use super::{
    cbool, ggml_abort_callback, ggml_backend, ggml_backend_buffer, ggml_backend_buffer_type,
    ggml_backend_device, ggml_backend_event, ggml_backend_reg, ggml_backend_sched, ggml_gallocr,
    ggml_tensor, ggml_threadpool, try_from_int,
};

/// A kind of memory.
pub type ggml_backend_buffer_type_t = *mut ggml_backend_buffer_type;
/// A piece of memory of some kind.
pub type ggml_backend_buffer_t = *mut ggml_backend_buffer;
/// A device that was opened for computing.
pub type ggml_backend_t = *mut ggml_backend;
/// A point in the work of a device.
pub type ggml_backend_event_t = *mut ggml_backend_event;
/// A prepared graph.
pub type ggml_backend_graph_plan_t = *mut c_void;
/// A family of devices.
pub type ggml_backend_reg_t = *mut ggml_backend_reg;
/// A device.
pub type ggml_backend_dev_t = *mut ggml_backend_device;
/// Divides a graph between backends.
pub type ggml_backend_sched_t = *mut ggml_backend_sched;
/// Allocates the tensors of a graph.
pub type ggml_gallocr_t = *mut ggml_gallocr;
/// A thread pool that a client made.
pub type ggml_threadpool_t = *mut ggml_threadpool;
/// Sees tensors as they are computed: first asked whether it wants one (`ask`), then shown it;
/// false from the second call stops the computation.
pub type ggml_backend_sched_eval_callback =
    Option<unsafe extern "C" fn(t: *mut ggml_tensor, ask: cbool, user_data: *mut c_void) -> cbool>;
/// What `ggml_backend_reg_get_proc_address` returns for `ggml_backend_set_n_threads`.
pub type ggml_backend_set_n_threads_t =
    Option<unsafe extern "C" fn(backend: ggml_backend_t, n_threads: c_int)>;
/// What `ggml_backend_reg_get_proc_address` returns for `ggml_backend_dev_get_extra_bufts`.
pub type ggml_backend_dev_get_extra_bufts_t =
    Option<unsafe extern "C" fn(device: ggml_backend_dev_t) -> *mut ggml_backend_buffer_type_t>;
/// What `ggml_backend_reg_get_proc_address` returns for `ggml_backend_set_abort_callback`.
pub type ggml_backend_set_abort_callback_t = Option<
    unsafe extern "C" fn(
        backend: ggml_backend_t,
        abort_callback: ggml_abort_callback,
        abort_callback_data: *mut c_void,
    ),
>;
/// What `ggml_backend_reg_get_proc_address` returns for `ggml_backend_get_features`.
pub type ggml_backend_get_features_t =
    Option<unsafe extern "C" fn(reg: ggml_backend_reg_t) -> *mut ggml_backend_feature>;
/// What `ggml_backend_reg_get_proc_address` returns for `ggml_backend_split_buffer_type`.
pub type ggml_backend_split_buffer_type_t = Option<
    unsafe extern "C" fn(
        main_device: c_int,
        tensor_split: *const f32,
    ) -> ggml_backend_buffer_type_t,
>;

/// What a buffer is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_backend_buffer_usage {
    GGML_BACKEND_BUFFER_USAGE_ANY = 0,
    GGML_BACKEND_BUFFER_USAGE_WEIGHTS = 1,
    GGML_BACKEND_BUFFER_USAGE_COMPUTE = 2,
}
/// [`ggml_backend_buffer_usage`] as C passes it: any number.
pub type ggml_backend_buffer_usage_e = c_int;

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_backend_dev_type {
    GGML_BACKEND_DEVICE_TYPE_CPU = 0,
    GGML_BACKEND_DEVICE_TYPE_GPU = 1,
    GGML_BACKEND_DEVICE_TYPE_IGPU = 2,
    GGML_BACKEND_DEVICE_TYPE_ACCEL = 3,
    GGML_BACKEND_DEVICE_TYPE_META = 4,
}
/// [`ggml_backend_dev_type`] as C passes it: any number.
pub type ggml_backend_dev_type_e = c_int;
try_from_int!(ggml_backend_dev_type: GGML_BACKEND_DEVICE_TYPE_CPU, GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU, GGML_BACKEND_DEVICE_TYPE_ACCEL, GGML_BACKEND_DEVICE_TYPE_META);

/// Axis along which a tensor is divided between devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_backend_meta_split_axis {
    GGML_BACKEND_SPLIT_AXIS_0 = 0,
    GGML_BACKEND_SPLIT_AXIS_1 = 1,
    GGML_BACKEND_SPLIT_AXIS_2 = 2,
    GGML_BACKEND_SPLIT_AXIS_3 = 3,
    GGML_BACKEND_SPLIT_AXIS_MIRRORED = 10,
    GGML_BACKEND_SPLIT_AXIS_PARTIAL = 11,
    GGML_BACKEND_SPLIT_AXIS_NONE = 98,
    GGML_BACKEND_SPLIT_AXIS_UNKNOWN = 99,
}
/// [`ggml_backend_meta_split_axis`] as C passes it: any number.
pub type ggml_backend_meta_split_axis_e = c_int;

/// How threads and memory are placed on NUMA nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum ggml_numa_strategy {
    GGML_NUMA_STRATEGY_DISABLED = 0,
    GGML_NUMA_STRATEGY_DISTRIBUTE = 1,
    GGML_NUMA_STRATEGY_ISOLATE = 2,
    GGML_NUMA_STRATEGY_NUMACTL = 3,
    GGML_NUMA_STRATEGY_MIRROR = 4,
    GGML_NUMA_STRATEGY_COUNT = 5,
}
/// [`ggml_numa_strategy`] as C passes it: any number.
pub type ggml_numa_strategy_e = c_int;
try_from_int!(ggml_numa_strategy: GGML_NUMA_STRATEGY_DISABLED, GGML_NUMA_STRATEGY_DISTRIBUTE, GGML_NUMA_STRATEGY_ISOLATE, GGML_NUMA_STRATEGY_NUMACTL, GGML_NUMA_STRATEGY_MIRROR, GGML_NUMA_STRATEGY_COUNT);

/// What a device can do.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_backend_dev_caps {
    pub r#async: cbool,
    pub host_buffer: cbool,
    pub buffer_from_host_ptr: cbool,
    pub events: cbool,
    pub mmap_support: cbool,
}

/// Description of a device; sizes in bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_backend_dev_props {
    pub name: *const c_char,
    pub description: *const c_char,
    pub memory_free: usize,
    pub memory_total: usize,
    pub r#type: ggml_backend_dev_type_e,
    pub device_id: *const c_char,
    pub caps: ggml_backend_dev_caps,
}

/// A named property of a backend, such as an instruction set.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ggml_backend_feature {
    pub name: *const c_char,
    pub value: *const c_char,
}
