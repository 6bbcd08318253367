//! Is there a driver, and which devices does it have?

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use cudarc::driver::result::{self, ctx, device, primary_ctx};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute as Attribute};
use once_cell::sync::Lazy;

use super::module::Loaded;
use super::{Called, CudaError};

/// Oldest driver that will do: CUDA 12.0 (525), as `cuDriverGetVersion` counts.
pub const MIN_DRIVER: i32 = 12000;

/// Least compute capability that the kernels are made for.
pub const MIN_COMPUTE: (u32, u32) = (7, 5);

/// What [`absence`] says on a machine without a driver.
pub const NO_DRIVER: &str = "no NVIDIA driver";

/// What a device is like.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// The driver's number of it.
    pub ordinal: i32,
    /// What its maker calls it.
    pub name: String,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Bytes of memory.
    pub total_bytes: usize,
    /// Streaming multiprocessors.
    pub n_sms: usize,
    /// Bytes per second of its memory as it is built; 0 where the driver does not say.
    pub bandwidth: f64,
    /// Address on the PCI bus, as `0000:01:00.0`.
    pub pci: String,
}

/// Devices that will do, or why there are none.
static FOUND: Lazy<Result<Vec<DeviceInfo>, String>> = Lazy::new(|| {
    // SAFETY: opens and closes a library whose initialisation has no demands on its caller.
    if !unsafe { sys::is_culib_present() } {
        return Err(NO_DRIVER.into());
    }
    // A symbol that a library of this name lacks makes the bindings panic.
    catch_unwind(find).unwrap_or_else(|_| Err("the NVIDIA driver lacks functions".into()))
});

/// Why there is no device; `None` when there are some.
pub fn absence() -> Option<&'static str> {
    match &*FOUND {
        Ok(found) if found.is_empty() => Some("no NVIDIA card that will do"),
        Ok(_) => None,
        Err(why) => Some(why),
    }
}

fn find() -> Result<Vec<DeviceInfo>, String> {
    let mut version = 0;
    // SAFETY: writes one integer, and may be called before all else.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    answer.result().call("cuDriverGetVersion").map_err(|e| e.to_string())?;
    if version < MIN_DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(format!(
            "the NVIDIA driver is for CUDA {major}.{minor}, and 12.0 (driver 525) is needed"
        ));
    }
    result::init().call("cuInit").map_err(|e| e.to_string())?;
    let n = device::get_count().call("cuDeviceGetCount").map_err(|e| e.to_string())?;
    let all: Vec<_> = (0..n).filter_map(|i| DeviceInfo::of(i).ok()).collect();
    let (good, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|d| d.compute >= MIN_COMPUTE);
    match (good.is_empty(), old.first()) {
        (true, Some(DeviceInfo { name, compute: (major, minor), .. })) => {
            Err(format!("{name} has compute capability {major}.{minor}, and 7.5 is needed"))
        }
        _ => Ok(good),
    }
}

impl DeviceInfo {
    fn of(ordinal: i32) -> Result<Self, CudaError> {
        let raw = device::get(ordinal).call("cuDeviceGet")?;
        let get = |attribute| {
            // SAFETY: a device that the driver just named.
            unsafe { device::get_attribute(raw, attribute) }.call("cuDeviceGetAttribute")
        };
        let major = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32;
        let minor = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32;
        let khz = get(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0);
        let bits = get(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH).unwrap_or(0);
        let pci = |attribute| get(attribute).unwrap_or(0);
        Ok(Self {
            ordinal,
            name: device::get_name(raw).call("cuDeviceGetName")?,
            compute: (major, minor),
            // SAFETY: as above.
            total_bytes: unsafe { device::total_mem(raw) }.call("cuDeviceTotalMem")?,
            n_sms: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1) as usize,
            // Two transfers a clock.
            bandwidth: f64::from(khz) * 1e3 * 2.0 * f64::from(bits) / 8.0,
            pci: format!(
                "{:04x}:{:02x}:{:02x}.0",
                pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
                pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
                pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)
            ),
        })
    }
}

/// An opened device. The driver's own context on it lives as long as this does.
pub struct Device {
    info: DeviceInfo,
    raw: CUdevice,
    context: CUcontext,
    pub(super) loaded: Mutex<Loaded>,
}

// SAFETY: contexts may be current in any number of threads, and every call makes it so first.
unsafe impl Send for Device {}
// SAFETY: as above; what changes is behind the lock.
unsafe impl Sync for Device {}

impl Device {
    /// The devices that will do; empty without a driver.
    pub fn list() -> &'static [DeviceInfo] {
        FOUND.as_deref().unwrap_or(&[])
    }

    /// Opens a device of the list.
    pub fn open(index: usize) -> Result<Arc<Self>, CudaError> {
        let info = Self::list().get(index).cloned().ok_or_else(|| {
            let why = absence().map_or_else(|| format!("no GPU {index}"), str::to_owned);
            CudaError::NoDevice(why)
        })?;
        let open = || {
            let raw = device::get(info.ordinal).call("cuDeviceGet")?;
            // SAFETY: a device that the driver just named; released once, on drop.
            let context = unsafe { primary_ctx::retain(raw) }.call("cuDevicePrimaryCtxRetain")?;
            let loaded = Mutex::new(Loaded::default());
            Ok(Arc::new(Self { info: info.clone(), raw, context, loaded }))
        };
        let lacks = || CudaError::NoDevice("the NVIDIA driver lacks functions".into());
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(lacks()))
    }

    /// What it is like.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Bytes that are free now, and all.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        result::mem_get_info().call("cuMemGetInfo")
    }

    /// Waits for all that was asked of the device.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.bind()?;
        ctx::synchronize().call("cuCtxSynchronize")
    }

    /// Makes the context current in this thread.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is released only on drop.
        unsafe { ctx::set_current(self.context) }.call("cuCtxSetCurrent")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.bind().is_ok() {
            let loaded = self.loaded.get_mut().unwrap_or_else(|e| e.into_inner());
            loaded.unload();
        }
        // SAFETY: retained once, and nothing that uses it outlives this.
        let _ = unsafe { primary_ctx::release(self.raw) };
    }
}
