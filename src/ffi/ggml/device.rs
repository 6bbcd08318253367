//! Devices and their families: the GPUs that will do, and the processor. Programs ask for them to
//! list hardware, to see how much memory there is, to say where a model goes, and to fetch functions
//! by name; nothing is computed through these handles.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use once_cell::sync::OnceCell;
use std::ffi::CString;

use super::buffer::{ggml_backend_buffer, ggml_backend_buffer_type};
use super::cards::{self, Card};
use super::opened;
use super::threadpool::{ggml_threadpool_free, ggml_threadpool_new};
use crate::ffi::strings::c_str;
use crate::ffi::types::{
    ggml_backend_buffer_t, ggml_backend_buffer_type_t, ggml_backend_dev_caps,
    ggml_backend_dev_props, ggml_backend_dev_t, ggml_backend_dev_type as DevType,
    ggml_backend_dev_type_e, ggml_backend_feature, ggml_backend_reg_t, ggml_numa_strategy_e,
    ggml_tensor,
};
use crate::ffi::{guard, system};
use crate::util::sys;

/// A device.
pub struct ggml_backend_device {
    pub(super) name: &'static CStr,
    /// Number of the GPU; `None` is the processor.
    pub(super) card: Option<usize>,
}

/// A family of devices.
pub struct ggml_backend_reg {
    name: &'static CStr,
    /// Whether its devices are GPUs.
    is_cards: bool,
}

pub(super) static CPU_DEVICE: ggml_backend_device =
    ggml_backend_device { name: c"CPU", card: None };
static CPU_FAMILY: ggml_backend_reg = ggml_backend_reg { name: c"CPU", is_cards: false };
static CARD_FAMILY: ggml_backend_reg = ggml_backend_reg { name: c"CUDA", is_cards: true };
pub(super) static CPU_BUFFER_TYPE: ggml_backend_buffer_type =
    ggml_backend_buffer_type { name: c"CPU", card: None };

/// The handle of the processor.
pub(in crate::ffi) fn cpu_device() -> ggml_backend_dev_t {
    (&raw const CPU_DEVICE).cast_mut()
}

fn cpu_family() -> ggml_backend_reg_t {
    (&raw const CPU_FAMILY).cast_mut()
}

fn card_family() -> ggml_backend_reg_t {
    (&raw const CARD_FAMILY).cast_mut()
}

fn cpu_buffer_type() -> ggml_backend_buffer_type_t {
    (&raw const CPU_BUFFER_TYPE).cast_mut()
}

/// The GPU of a handle; `None` for the processor and for NULL.
///
/// # Safety
/// `device` is NULL or a device of this library.
unsafe fn card_of(device: ggml_backend_dev_t) -> Option<&'static Card> {
    // SAFETY: the caller's promise.
    let device = unsafe { device.as_ref() }?;
    cards::all().get(device.card?)
}

/// Free memory and all of it, in bytes.
///
/// # Safety
/// As for [`card_of`].
unsafe fn memory_of(device: ggml_backend_dev_t) -> (usize, usize) {
    if device.is_null() {
        return (0, 0);
    }
    // SAFETY: the caller's promise.
    unsafe { card_of(device) }.map_or_else(sys::host_memory, Card::memory)
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

/// Number of devices: the GPUs and the processor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_count() -> usize {
    guard::call(1, "ggml_backend_dev_count", || cards::count() + 1)
}

/// A device, the GPUs first; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_get(index: usize) -> ggml_backend_dev_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_get", || {
        let is_cpu = index == cards::count();
        cards::handle_of(index).unwrap_or(if is_cpu { cpu_device() } else { ptr::null_mut() })
    })
}

/// A device by its name, in any case; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_name(name: *const c_char) -> ggml_backend_dev_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_by_name", || {
        // SAFETY: NULL or a C string.
        let Some(name) = (unsafe { c_str(name) }) else { return ptr::null_mut() };
        let same = |n: &CStr| n.to_bytes().eq_ignore_ascii_case(name.to_bytes());
        if same(CPU_DEVICE.name) {
            return cpu_device();
        }
        let card = cards::all().iter().find(|card| same(card.device.name));
        card.map_or(ptr::null_mut(), |card| (&raw const card.device).cast_mut())
    })
}

/// The first device of a kind; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_by_type(
    r#type: ggml_backend_dev_type_e,
) -> ggml_backend_dev_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_by_type", || match DevType::try_from(r#type) {
        Ok(DevType::GGML_BACKEND_DEVICE_TYPE_CPU) => cpu_device(),
        Ok(DevType::GGML_BACKEND_DEVICE_TYPE_GPU) => cards::handle_of(0).unwrap_or(ptr::null_mut()),
        _ => ptr::null_mut(),
    })
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
        if device.is_null() {
            return c"".as_ptr();
        }
        // SAFETY: a device.
        unsafe { card_of(device) }
            .map_or_else(|| cpu_description().as_ptr(), |card| card.description.as_ptr())
    })
}

/// Free and total memory of a device in bytes; 0 where the system does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_memory(
    device: ggml_backend_dev_t,
    free: *mut usize,
    total: *mut usize,
) {
    let memory = guard::call((0, 0), "ggml_backend_dev_memory", || {
        // SAFETY: NULL or a device.
        unsafe { memory_of(device) }
    });
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
    device: ggml_backend_dev_t,
) -> ggml_backend_dev_type_e {
    // SAFETY: NULL or a device.
    type_of(unsafe { device.as_ref() }.and_then(|d| d.card)) as c_int
}

fn type_of(card: Option<usize>) -> DevType {
    match card {
        Some(_) => DevType::GGML_BACKEND_DEVICE_TYPE_GPU,
        None => DevType::GGML_BACKEND_DEVICE_TYPE_CPU,
    }
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
        // SAFETY: a device.
        let (card, (memory_free, memory_total)) = unsafe { (card_of(device), memory_of(device)) };
        let caps = |is_card: bool| ggml_backend_dev_caps {
            r#async: u8::from(is_card),
            host_buffer: u8::from(is_card),
            buffer_from_host_ptr: u8::from(!is_card),
            events: u8::from(is_card),
            mmap_support: 1,
        };
        let all = ggml_backend_dev_props {
            name: card.map_or(CPU_DEVICE.name, |card| card.device.name).as_ptr(),
            description: card.map_or_else(cpu_description, |card| &card.description).as_ptr(),
            memory_free,
            memory_total,
            r#type: type_of(card.and_then(|card| card.device.card)) as c_int,
            device_id: card.map_or(ptr::null(), |card| card.id.as_ptr()),
            caps: caps(card.is_some()),
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
    // SAFETY: NULL or a device.
    match unsafe { device.as_ref() } {
        None => ptr::null_mut(),
        Some(device) if device.card.is_some() => card_family(),
        Some(_) => cpu_family(),
    }
}

/// The usual memory of a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_buffer_type", || {
        if device.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: a device.
        unsafe { card_of(device) }
            .map_or_else(cpu_buffer_type, |card| (&raw const card.buffer_type).cast_mut())
    })
}

/// Host memory that a device reaches fast; NULL for the processor, which needs no special one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_host_buffer_type(
    device: ggml_backend_dev_t,
) -> ggml_backend_buffer_type_t {
    // SAFETY: NULL or a device.
    match unsafe { device.as_ref() }.and_then(|d| d.card) {
        Some(_) => (&raw const cards::PINNED_TYPE).cast_mut(),
        None => ptr::null_mut(),
    }
}

/// Wraps the caller's memory as a buffer; NULL on failure, and for a GPU, which has its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_dev_buffer_from_host_ptr(
    device: ggml_backend_dev_t,
    ptr: *mut c_void,
    size: usize,
    _max_tensor_size: usize,
) -> ggml_backend_buffer_t {
    guard::call(ptr::null_mut(), "ggml_backend_dev_buffer_from_host_ptr", || {
        // SAFETY: NULL or a device.
        let is_cpu = unsafe { device.as_ref() }.is_some_and(|d| d.card.is_none());
        if !is_cpu || ptr.is_null() {
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
    // SAFETY: NULL or a device, NULL or a buffer type.
    match unsafe { (device.as_ref(), buft.as_ref()) } {
        (Some(device), Some(buft)) => device.card == buft.card,
        _ => false,
    }
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

/// Number of families of devices: that of the GPUs, if there are some, and that of the processor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_count() -> usize {
    guard::call(1, "ggml_backend_reg_count", || 1 + usize::from(cards::count() > 0))
}

/// A family of devices; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_get(index: usize) -> ggml_backend_reg_t {
    guard::call(ptr::null_mut(), "ggml_backend_reg_get", || {
        let cards = (cards::count() > 0).then(card_family);
        cards.into_iter().chain([cpu_family()]).nth(index).unwrap_or(ptr::null_mut())
    })
}

/// A family of devices by its name; NULL when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_by_name(name: *const c_char) -> ggml_backend_reg_t {
    guard::call(ptr::null_mut(), "ggml_backend_reg_by_name", || {
        // SAFETY: NULL or a C string.
        let Some(name) = (unsafe { c_str(name) }) else { return ptr::null_mut() };
        let same = |n: &CStr| n.to_bytes().eq_ignore_ascii_case(name.to_bytes());
        match () {
            () if same(CPU_FAMILY.name) => cpu_family(),
            () if same(CARD_FAMILY.name) && cards::count() > 0 => card_family(),
            () => ptr::null_mut(),
        }
    })
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
    // SAFETY: NULL or a family.
    match unsafe { reg.as_ref() } {
        None => 0,
        Some(reg) if reg.is_cards => cards::count(),
        Some(_) => 1,
    }
}

/// A device of a family; NULL past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_reg_dev_get(
    reg: ggml_backend_reg_t,
    index: usize,
) -> ggml_backend_dev_t {
    // SAFETY: NULL or a family.
    match unsafe { reg.as_ref() } {
        Some(reg) if reg.is_cards => cards::handle_of(index).unwrap_or(ptr::null_mut()),
        Some(_) if index == 0 => cpu_device(),
        _ => ptr::null_mut(),
    }
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
    // SAFETY: NULL or a family.
    let Some(reg) = (unsafe { reg.as_ref() }) else { return ptr::null_mut() };
    let address: *const () = match name.to_bytes() {
        b"ggml_backend_get_features" => features as *const (),
        _ if reg.is_cards => ptr::null(),
        b"ggml_threadpool_new" => ggml_threadpool_new as *const (),
        b"ggml_threadpool_free" => ggml_threadpool_free as *const (),
        b"ggml_backend_set_n_threads" => opened::set_n_threads as *const (),
        b"ggml_backend_set_abort_callback" => opened::set_abort_callback as *const (),
        b"ggml_backend_cpu_set_threadpool" => opened::set_threadpool as *const (),
        b"ggml_backend_dev_get_extra_bufts" => extra_buffer_types as *const (),
        b"ggml_backend_cpu_numa_init" => numa_init as *const (),
        b"ggml_backend_cpu_is_numa" => is_numa as *const (),
        _ => ptr::null(),
    };
    address.cast_mut().cast()
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

/// What a family can do as name and value, up to one without a name.
unsafe extern "C" fn features(reg: ggml_backend_reg_t) -> *mut ggml_backend_feature {
    struct List(Vec<ggml_backend_feature>);
    // SAFETY: immutable, and so are the strings that it points to.
    unsafe impl Send for List {}
    // SAFETY: as above.
    unsafe impl Sync for List {}
    static OF_CPU: OnceCell<List> = OnceCell::new();
    static OF_CARDS: OnceCell<List> = OnceCell::new();
    guard::call(ptr::null_mut(), "ggml_backend_get_features", || {
        // SAFETY: NULL or a family.
        let is_cards = unsafe { reg.as_ref() }.is_some_and(|reg| reg.is_cards);
        let list = if is_cards { &OF_CARDS } else { &OF_CPU }.get_or_init(|| {
            // The strings live as long as the process, like the list.
            let text = |s: &str| CString::new(s).unwrap_or_default().into_raw().cast_const();
            let all = if is_cards { cards::features() } else { system::features() };
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
