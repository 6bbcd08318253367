//! The kernels. Each module is the PTX of one source file, for two levels of cards; the driver
//! compiles it when the first of its kernels is launched, so that only what is used is loaded.

use std::collections::HashMap;
use std::ffi::CString;

use cudarc::driver::result::module;
use cudarc::driver::sys::{CUfunction, CUmodule};

use super::{Called, CudaError, Device};

/// The modules with the names of their source files.
macro_rules! modules {
    ($($(#[$doc:meta])* $module:ident = $file:literal,)*) => {
        /// A source file of kernels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Module {
            $($(#[$doc])* $module,)*
        }

        impl Module {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$module),*];

            /// Its file in `kernels/`, without suffix.
            pub fn file(self) -> &'static str {
                match self {
                    $(Self::$module => $file,)*
                }
            }

            /// PTX for compute capability 7.5, and for 8.0 and more, as build.rs packs it.
            fn ptx(self) -> [&'static [u8]; 2] {
                match self {
                    $(Self::$module => [
                        include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".compute_75.ptx.z")),
                        include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".compute_80.ptx.z")),
                    ],)*
                }
            }
        }
    };
}

modules! {
    /// Activations to 8 bits.
    Quantize = "quantize",
    /// Matrix times few tokens, types with blocks of 32.
    MatVec = "mat_vec",
    /// The same for K-quants.
    MatVecK = "mat_vec_k",
    /// The same for plain numbers.
    MatVecPlain = "mat_vec_plain",
    /// Matrix times many tokens, types with blocks of 32.
    MatMul = "mat_mul",
    /// The same for K-quants.
    MatMulK = "mat_mul_k",
    /// The same for plain numbers.
    MatMulPlain = "mat_mul_plain",
    /// Listed rows, and gate and up of listed neurons.
    Sparse = "sparse",
    /// The down projection of listed neurons.
    SparseDown = "sparse_down",
    /// Norms of rows.
    Norm = "norm",
    /// Rotation, and keys and values into the cache.
    Rope = "rope",
    /// Attention.
    Attend = "attend",
    /// Attention of many tokens over the same keys.
    AttendMany = "attend_many",
    /// Activations, sums, factors.
    Elementwise = "elementwise",
    /// Rows of the token table.
    Embed = "embed",
    /// Lists of neurons.
    Select = "select",
    /// The largest of a row.
    Sample = "sample",
}

/// A kernel of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Where it is.
    pub module: Module,
    /// Its name there.
    pub name: &'static str,
}

/// What a device has loaded so far.
#[derive(Default)]
pub(super) struct Loaded {
    modules: HashMap<Module, CUmodule>,
    functions: HashMap<Kernel, CUfunction>,
}

// SAFETY: handles, which any thread may use.
unsafe impl Send for Loaded {}

impl Loaded {
    /// Lets go of everything; the context is current.
    pub(super) fn unload(&mut self) {
        self.functions.clear();
        for (_, raw) in self.modules.drain() {
            // SAFETY: loaded by `Device::function`, and none of its kernels runs any more.
            let _ = unsafe { module::unload(raw) };
        }
    }
}

impl Device {
    /// A kernel, loaded when it is first asked for. The context is current afterwards.
    pub(super) fn function(&self, kernel: Kernel) -> Result<CUfunction, CudaError> {
        self.bind()?;
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(&function) = loaded.functions.get(&kernel) {
            return Ok(function);
        }
        let raw = self.loaded_module(&mut loaded, kernel.module)?;
        let bad = |_| CudaError::NoDevice(format!("'{}' names no kernel", kernel.name));
        let name = CString::new(kernel.name).map_err(bad)?;
        // SAFETY: the module is loaded.
        let function = unsafe { module::get_function(raw, name) }.call("cuModuleGetFunction")?;
        loaded.functions.insert(kernel, function);
        Ok(function)
    }

    /// Loads a module now instead of at its first launch: the driver may have to compile it, which
    /// takes seconds.
    pub fn preload(&self, module: Module) -> Result<(), CudaError> {
        self.bind()?;
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        self.loaded_module(&mut loaded, module).map(|_| ())
    }

    fn loaded_module(&self, loaded: &mut Loaded, wanted: Module) -> Result<CUmodule, CudaError> {
        if let Some(&raw) = loaded.modules.get(&wanted) {
            return Ok(raw);
        }
        let raw = self.load(wanted)?;
        loaded.modules.insert(wanted, raw);
        Ok(raw)
    }

    fn load(&self, wanted: Module) -> Result<CUmodule, CudaError> {
        let [old, new] = wanted.ptx();
        let ptx = if self.info().compute >= (8, 0) { new } else { old };
        let damaged = || CudaError::NoDevice(format!("the PTX of '{}' is damaged", wanted.file()));
        let text = miniz_oxide::inflate::decompress_to_vec(ptx).map_err(|_| damaged())?;
        let image = CString::new(text).map_err(|_| damaged())?;
        // SAFETY: text with a NUL at its end, which the driver has read when it returns.
        unsafe { module::load_data(image.as_ptr().cast()) }.call("cuModuleLoadData")
    }
}
