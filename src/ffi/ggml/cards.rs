//! Handles of the GPUs: what [`super::device`] and [`super::buffer`] know of them. The driver is
//! asked when the first caller wants devices, and never before.

use core::ffi::CStr;
use once_cell::sync::OnceCell;
use std::ffi::CString;
use std::sync::{Arc, Mutex};

use super::buffer::ggml_backend_buffer_type;
use super::device::ggml_backend_device;
use crate::backend::cuda::{CudaError, Device, DeviceInfo};
use crate::ffi::types::{ggml_backend_buffer_type_t, ggml_backend_dev_t};
use crate::log_warn;

/// As many as ggml knows, `GGML_CUDA_MAX_DEVICES`; what `llama_max_devices` says.
pub(in crate::ffi) const MAX_CARDS: usize = 16;

/// A GPU as programs see it.
pub(super) struct Card {
    /// What programs have pointers to.
    pub device: ggml_backend_device,
    /// Its memory.
    pub buffer_type: ggml_backend_buffer_type,
    /// What its maker calls it.
    pub description: CString,
    /// Address on the PCI bus.
    pub id: CString,
    info: &'static DeviceInfo,
    /// Kept open once somebody asked for its memory: to open it takes a good part of a second.
    opened: Mutex<Option<Arc<Device>>>,
}

/// The GPUs. They are never freed: programs keep pointers to them.
pub(super) fn all() -> &'static [Card] {
    static CARDS: OnceCell<Vec<Card>> = OnceCell::new();
    CARDS.get_or_init(|| {
        let found = Device::list().iter().take(MAX_CARDS).enumerate();
        found.map(|(index, info)| Card::new(index, info)).collect()
    })
}

/// Memory of the host that is pinned for the GPUs.
pub(super) static PINNED_TYPE: ggml_backend_buffer_type =
    ggml_backend_buffer_type { name: c"CUDA_Host", card: None };

/// Number of a GPU in the driver's list; `None` for any other handle.
pub(in crate::ffi) fn index_of(device: ggml_backend_dev_t) -> Option<usize> {
    all().iter().position(|card| core::ptr::eq(&raw const card.device, device))
}

/// The handle of a GPU.
pub(in crate::ffi) fn handle_of(index: usize) -> Option<ggml_backend_dev_t> {
    Some((&raw const all().get(index)?.device).cast_mut())
}

/// The memory of a GPU.
pub(in crate::ffi) fn buffer_type_of(index: usize) -> Option<ggml_backend_buffer_type_t> {
    Some((&raw const all().get(index)?.buffer_type).cast_mut())
}

/// Whether this is the memory of a GPU.
pub(in crate::ffi) fn is_buffer_type(buft: ggml_backend_buffer_type_t) -> bool {
    all().iter().any(|card| core::ptr::eq(&raw const card.buffer_type, buft))
}

/// How a GPU is called in messages: `CUDA0 (NVIDIA GeForce RTX 4090)`.
pub(in crate::ffi) fn title_of(index: usize) -> String {
    all().get(index).map_or_else(String::new, |card| {
        format!("{} ({})", card.device.name.to_string_lossy(), card.info.name)
    })
}

impl Card {
    fn new(index: usize, info: &'static DeviceInfo) -> Self {
        // A few bytes that live as long as the process, like the handles.
        let name: &'static CStr =
            Box::leak(CString::new(format!("CUDA{index}")).unwrap_or_default().into_boxed_c_str());
        let text = |text: &str| CString::new(text.replace('\0', "")).unwrap_or_default();
        Self {
            device: ggml_backend_device { name, card: Some(index) },
            buffer_type: ggml_backend_buffer_type { name, card: Some(index) },
            description: text(&info.name),
            id: text(&info.pci),
            info,
            opened: Mutex::new(None),
        }
    }

    /// The opened device.
    fn open(&self, index: usize) -> Result<Arc<Device>, CudaError> {
        let mut opened = self.opened.lock().unwrap_or_else(|e| e.into_inner());
        match &*opened {
            Some(device) => Ok(Arc::clone(device)),
            None => Ok(Arc::clone(opened.insert(Device::open(index)?))),
        }
    }

    /// Bytes that are free now, and all. Nothing is free on a card that does not answer.
    pub fn memory(&self) -> (usize, usize) {
        let index = self.device.card.unwrap_or_default();
        let asked = self.open(index).and_then(|device| device.memory()).or_else(|_| {
            // After a fault the driver begins anew when all have let go of the device.
            *self.opened.lock().unwrap_or_else(|e| e.into_inner()) = None;
            self.open(index)?.memory()
        });
        asked.unwrap_or_else(|error| {
            log_warn!("{}: its free memory is not known: {error}", title_of(index));
            (0, self.info.total_bytes)
        })
    }

    /// Memory of the host that the card reads and writes fast.
    pub fn pinned(&self, n_bytes: usize) -> Result<crate::backend::cuda::Pinned, CudaError> {
        self.open(self.device.card.unwrap_or_default())?.pinned(n_bytes)
    }
}

/// What kernels there are, as `llama_print_system_info` shows it.
pub(in crate::ffi) fn features() -> Vec<(&'static str, String)> {
    vec![("ARCHS", "750,800".to_owned())]
}

/// Number of GPUs that can be used.
pub(in crate::ffi) fn count() -> usize {
    all().len()
}
