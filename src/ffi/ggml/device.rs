//! Devices, their families and opened devices: one processor. Programs ask for them to list
//! hardware and to fetch functions by name; nothing is computed through these handles.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use once_cell::sync::OnceCell;
use std::ffi::CString;

use super::buffer::{ggml_backend_buffer, ggml_backend_buffer_type};
use super::threadpool::{ggml_threadpool, ggml_threadpool_free, ggml_threadpool_new};
use crate::ffi::strings::c_str;
use crate::ffi::types::{
    ggml_abort_callback, ggml_backend_buffer_t, ggml_backend_buffer_type_t, ggml_backend_dev_caps,
    ggml_backend_dev_props, ggml_backend_dev_t, ggml_backend_dev_type as DevType,
    ggml_backend_dev_type_e, ggml_backend_feature, ggml_backend_reg_t, ggml_backend_t, ggml_guid,
    ggml_guid_t, ggml_numa_strategy_e, ggml_tensor,
};
use crate::ffi::{guard, system};
use crate::util::aligned::ALIGN;
use crate::util::sys;

/// A device.
pub struct ggml_backend_device {
    name: &'static CStr,
}

/// A family of devices.
pub struct ggml_backend_reg {
    name: &'static CStr,
}

/// A device that was opened. It carries settings that programs make, and computes nothing.
pub struct ggml_backend {
    n_threads: c_int,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
    threadpool: *mut ggml_threadpool,
}

static CPU_DEVICE: ggml_backend_device = ggml_backend_device { name: c"CPU" };
static CPU_FAMILY: ggml_backend_reg = ggml_backend_reg { name: c"CPU" };
pub(super) static CPU_BUFFER_TYPE: ggml_backend_buffer_type =
    ggml_backend_buffer_type { name: c"CPU" };

/// Names this library's processor backend, so that programs do not take it for ggml's.
static CPU_GUID: ggml_guid = *b"powerinfer-cpu-1";

/// The handle of the processor.
pub(super) fn cpu_device() -> ggml_backend_dev_t {
    (&raw const CPU_DEVICE).cast_mut()
}

fn cpu_family() -> ggml_backend_reg_t {
    (&raw const CPU_FAMILY).cast_mut()
}

fn cpu_buffer_type() -> ggml_backend_buffer_type_t {
    (&raw const CPU_BUFFER_TYPE).cast_mut()
}

/// What the system calls the processor, for example "AMD EPYC 9555".
fn cpu_description() -> &'static CStr {
    static TEXT: OnceCell<CString> = OnceCell::new();
    TEXT.get_or_init(|| {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        CString::new(model.map_or("CPU", |(_, name)| name.trim())).unwrap_or_default()
    })
}

/// Number of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_count() -> usize {
    1
}

/// A device; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_get(index: usize) -> ggml_backend_dev_t {
    if index == 0 { cpu_device() } else { ptr::null_mut() }
}

/// A device by its name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_name(name: *const c_char) -> ggml_backend_dev_t {
    // SAFETY: NULL or a C string.
    let name = unsafe { c_str(name) };
    let same = |n: &CStr| n.to_bytes().eq_ignore_ascii_case(CPU_DEVICE.name.to_bytes());
    if name.is_some_and(same) { cpu_device() } else { ptr::null_mut() }
}

/// The first device of a kind; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_type(
    r#type: ggml_backend_dev_type_e,
) -> ggml_backend_dev_t {
    let cpu = r#type == DevType::GGML_BACKEND_DEVICE_TYPE_CPU as c_int;
    if cpu { cpu_device() } else { ptr::null_mut() }
}

/// Short name of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_name(device: ggml_backend_dev_t) -> *const c_char {
    // SAFETY: NULL or a device.
    unsafe { device.as_ref() }.map_or(c"".as_ptr(), |d| d.name.as_ptr())
}

/// Longer name of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_description(device: ggml_backend_dev_t) -> *const c_char {
    guard::call(c"".as_ptr(), "ggml_backend_dev_description", || {
        if device.is_null() { c"".as_ptr() } else { cpu_description().as_ptr() }
    })
}

/// Free and total memory of a device in bytes; 0 where the system does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_memory(
    device: ggml_backend_dev_t,
    free: *mut usize,
    total: *mut usize,
) {
    let memory = if device.is_null() { (0, 0) } else { sys::host_memory() };
    // SAFETY: NULL or places to write to.
    if let Some(free) = unsafe { free.as_mut() } {
        *free = memory.0;
    }
    // SAFETY: as above.
    if let Some(total) = unsafe { total.as_mut() } {
        *total = memory.1;
    }
}

/// Kind of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_type(
    _device: ggml_backend_dev_t,
) -> ggml_backend_dev_type_e {
    DevType::GGML_BACKEND_DEVICE_TYPE_CPU as c_int
}

/// Everything about a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_get_props(
    device: ggml_backend_dev_t,
    props: *mut ggml_backend_dev_props,
) {
    guard::call((), "ggml_backend_dev_get_props", || {
        if device.is_null() || props.is_null() {
            return;
        }
        let (memory_free, memory_total) = sys::host_memory();
        let all = ggml_backend_dev_props {
            name: CPU_DEVICE.name.as_ptr(),
            description: cpu_description().as_ptr(),
            memory_free,
            memory_total,
            r#type: DevType::GGML_BACKEND_DEVICE_TYPE_CPU as c_int,
            device_id: ptr::null(),
            caps: ggml_backend_dev_caps {
                r#async: 0,
                host_buffer: 0,
                buffer_from_host_ptr: 1,
                events: 0,
                mmap_support: 1,
            },
        };
        // SAFETY: the caller gives room for the properties, initialised or not.
        unsafe { props.write(all) };
    });
}

/// The family of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_backend_reg(
    device: ggml_backend_dev_t,
) -> ggml_backend_reg_t {
    if device.is_null() { ptr::null_mut() } else { cpu_family() }
}

/// The usual memory of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    if device.is_null() { ptr::null_mut() } else { cpu_buffer_type() }
}

/// Host memory that a device reaches fast; NULL: the processor needs no special one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_host_buffer_type(
    _device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    ptr::null_mut()
}

/// Wraps the caller's memory as a buffer; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_from_host_ptr(
    device: ggml_backend_dev_t,
    ptr: *mut c_void,
    size: usize,
    _max_tensor_size: usize,
) -> ggml_backend_buffer_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_buffer_from_host_ptr", || {
        if device.is_null() || ptr.is_null() {
            return ptr::null_mut();
        }
        ggml_backend_buffer::around(ptr, size)
    })
}

/// Whether a device can run an operation that a client built: none can.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_supports_op(
    _device: ggml_backend_dev_t,
    _op: *const ggml_tensor,
) -> bool {
    false
}

/// Whether a device can compute in a kind of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_supports_buft(
    device: ggml_backend_dev_t,
    buft: ggml_backend_buffer_type_t,
) -> bool {
    !device.is_null() && !buft.is_null()
}

/// Whether a device wants an operation whose weights are in host memory: the processor is no
/// accelerator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_offload_op(
    _device: ggml_backend_dev_t,
    _op: *const ggml_tensor,
) -> bool {
    false
}

/// Number of families of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_count() -> usize {
    1
}

/// A family of devices; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_get(index: usize) -> ggml_backend_reg_t {
    if index == 0 { cpu_family() } else { ptr::null_mut() }
}

/// A family of devices by its name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_by_name(name: *const c_char) -> ggml_backend_reg_t {
    // SAFETY: NULL or a C string.
    let name = unsafe { c_str(name) };
    let same = |n: &CStr| n.to_bytes().eq_ignore_ascii_case(CPU_FAMILY.name.to_bytes());
    if name.is_some_and(same) { cpu_family() } else { ptr::null_mut() }
}

/// Name of a family of devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_name(reg: ggml_backend_reg_t) -> *const c_char {
    // SAFETY: NULL or a family.
    unsafe { reg.as_ref() }.map_or(c"".as_ptr(), |r| r.name.as_ptr())
}

/// Number of devices in a family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_dev_count(reg: ggml_backend_reg_t) -> usize {
    usize::from(!reg.is_null())
}

/// A device of a family; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_dev_get(
    reg: ggml_backend_reg_t,
    index: usize,
) -> ggml_backend_dev_t {
    if reg.is_null() || index > 0 { ptr::null_mut() } else { cpu_device() }
}

/// Loads all backends; they are built in here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load_all() {}

/// Loads all backends of a folder; they are built in here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load_all_from_path(_dir_path: *const c_char) {}

/// A function that only this family has; NULL when there is none. Programs call what they get
/// for the thread pool functions without a check.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_get_proc_address(
    reg: ggml_backend_reg_t,
    name: *const c_char,
) -> *mut c_void {
    // SAFETY: NULL or a C string.
    let Some(name) = (unsafe { c_str(name) }) else { return ptr::null_mut() };
    if reg.is_null() {
        return ptr::null_mut();
    }
    let address: *const () = match name.to_bytes() {
        b"ggml_threadpool_new" => ggml_threadpool_new as *const (),
        b"ggml_threadpool_free" => ggml_threadpool_free as *const (),
        b"ggml_backend_set_n_threads" => set_n_threads as *const (),
        b"ggml_backend_set_abort_callback" => set_abort_callback as *const (),
        b"ggml_backend_cpu_set_threadpool" => set_threadpool as *const (),
        b"ggml_backend_dev_get_extra_bufts" => extra_buffer_types as *const (),
        b"ggml_backend_get_features" => features as *const (),
        b"ggml_backend_cpu_numa_init" => numa_init as *const (),
        b"ggml_backend_cpu_is_numa" => is_numa as *const (),
        _ => ptr::null(),
    };
    address.cast_mut().cast()
}

unsafe extern "C" fn set_n_threads(backend: ggml_backend_t, n_threads: c_int) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.n_threads = n_threads.max(1);
    }
}

unsafe extern "C" fn set_abort_callback(
    backend: ggml_backend_t,
    abort_callback: ggml_abort_callback,
    abort_callback_data: *mut c_void,
) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.abort_callback = abort_callback;
        backend.abort_callback_data = abort_callback_data;
    }
}

unsafe extern "C" fn set_threadpool(backend: ggml_backend_t, threadpool: *mut ggml_threadpool) {
    // SAFETY: NULL or an opened device that no one else uses now.
    if let Some(backend) = unsafe { backend.as_mut() } {
        backend.threadpool = threadpool;
    }
}

/// Further kinds of memory of the processor: none, so the list only has its NULL.
unsafe extern "C" fn extra_buffer_types(
    _device: ggml_backend_dev_t,
) -> *mut ggml_backend_buffer_type_t {
    struct List([*const c_void; 1]);
    // SAFETY: an immutable list that holds no pointer.
    unsafe impl Sync for List {}
    static NONE: List = List([ptr::null()]);
    (&raw const NONE.0).cast_mut().cast()
}

/// Instruction sets as name and value, up to one without a name.
unsafe extern "C" fn features(_reg: ggml_backend_reg_t) -> *mut ggml_backend_feature {
    struct List(Vec<ggml_backend_feature>);
    // SAFETY: immutable, and so are the strings that it points to.
    unsafe impl Send for List {}
    // SAFETY: as above.
    unsafe impl Sync for List {}
    static LIST: OnceCell<List> = OnceCell::new();
    guard::call(ptr::null_mut(), "ggml_backend_get_features", || {
        let list = LIST.get_or_init(|| {
            // The strings live as long as the process, like the list.
            let text = |s: &str| CString::new(s).unwrap_or_default().into_raw().cast_const();
            let all = system::features();
            let named =
                all.iter().map(|(n, v)| ggml_backend_feature { name: text(n), value: text(v) });
            let end = ggml_backend_feature { name: ptr::null(), value: ptr::null() };
            List(named.chain([end]).collect())
        });
        list.0.as_ptr().cast_mut()
    })
}

unsafe extern "C" fn numa_init(strategy: ggml_numa_strategy_e) {
    // SAFETY: takes any number.
    unsafe { system::llama_numa_init(strategy) };
}

unsafe extern "C" fn is_numa() -> bool {
    false
}

/// Opens a device; NULL on failure. No device here takes parameters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_init(
    device: ggml_backend_dev_t,
    _params: *const c_char,
) -> ggml_backend_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_init", || {
        if device.is_null() {
            return ptr::null_mut();
        }
        Box::into_raw(Box::new(ggml_backend {
            n_threads: c_int::try_from(sys::n_cpus()).unwrap_or(c_int::MAX),
            abort_callback: None,
            abort_callback_data: ptr::null_mut(),
            threadpool: ptr::null_mut(),
        }))
    })
}

/// Opens a device by its name; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_name(
    name: *const c_char,
    params: *const c_char,
) -> ggml_backend_t {
    // SAFETY: the arguments are passed on; NULL gives NULL.
    unsafe { ggml_backend_dev_init(ggml_backend_dev_by_name(name), params) }
}

/// Opens the first device of a kind; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_by_type(
    r#type: ggml_backend_dev_type_e,
    params: *const c_char,
) -> ggml_backend_t {
    // SAFETY: the arguments are passed on; NULL gives NULL.
    unsafe { ggml_backend_dev_init(ggml_backend_dev_by_type(r#type), params) }
}

/// Opens the fastest device; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_init_best() -> ggml_backend_t {
    // SAFETY: the processor is a device.
    unsafe { ggml_backend_dev_init(cpu_device(), ptr::null()) }
}

/// Frees an opened device. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_free(backend: ggml_backend_t) {
    guard::call((), "ggml_backend_free", || {
        if !backend.is_null() {
            // SAFETY: opened by this library, freed once.
            drop(unsafe { Box::from_raw(backend) });
        }
    });
}

/// Sixteen bytes that name a backend; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_guid(backend: ggml_backend_t) -> ggml_guid_t {
    if backend.is_null() { ptr::null_mut() } else { (&raw const CPU_GUID).cast_mut() }
}

/// Name of an opened device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_name(backend: ggml_backend_t) -> *const c_char {
    if backend.is_null() { c"NULL".as_ptr() } else { CPU_DEVICE.name.as_ptr() }
}

/// The usual memory of an opened device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_default_buffer_type(
    backend: ggml_backend_t,
) -> ggml_backend_buffer_type_t {
    if backend.is_null() { ptr::null_mut() } else { cpu_buffer_type() }
}

/// Allocates a buffer in the usual memory; NULL on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_alloc_buffer(
    backend: ggml_backend_t,
    size: usize,
) -> ggml_backend_buffer_t {
    // SAFETY: the handle is passed on; NULL gives NULL.
    unsafe {
        let buft = ggml_backend_get_default_buffer_type(backend);
        super::buffer::ggml_backend_buft_alloc_buffer(buft, size)
    }
}

/// Alignment of tensors in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_alignment(_backend: ggml_backend_t) -> usize {
    ALIGN
}

/// Largest buffer in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_max_size(_backend: ggml_backend_t) -> usize {
    usize::MAX
}

/// Whether an opened device can compute in a kind of memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_supports_buft(
    backend: ggml_backend_t,
    buft: ggml_backend_buffer_type_t,
) -> bool {
    !backend.is_null() && !buft.is_null()
}

/// The device that was opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_get_device(backend: ggml_backend_t) -> ggml_backend_dev_t {
    if backend.is_null() { ptr::null_mut() } else { cpu_device() }
}
