//! Options of sparse execution, and loading with them.

use core::ffi::{c_char, c_int};
use core::mem::{MaybeUninit, offset_of};
use core::ptr;
use std::path::PathBuf;

use super::super::load::{c_path, llama_model, load_with};
use super::super::strings::c_str;
use super::super::types::{llama_model_params, try_from_int};
use super::super::{guard, types::BadEnum};
use crate::api::{Model, SparseMode, SparseRequest};
use crate::log_error;

/// How the neurons to compute are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "C names; each is explained")]
pub enum powerinfer_sparse_mode {
    /// Not given: as the overrides, the environment or the file say, else auto.
    POWERINFER_SPARSE_MODE_DEFAULT = 0,
    /// The cheapest that the model allows, layer by layer.
    POWERINFER_SPARSE_MODE_AUTO = 1,
    /// By the true gate: the same text as with all neurons.
    POWERINFER_SPARSE_MODE_EXACT = 2,
    /// By the file's predictors.
    POWERINFER_SPARSE_MODE_PREDICTOR = 3,
    /// By the signs of gate weights and inputs.
    POWERINFER_SPARSE_MODE_SIGN = 4,
    /// By thresholds on the activated gate.
    POWERINFER_SPARSE_MODE_MAGNITUDE = 5,
    /// All neurons are computed.
    POWERINFER_SPARSE_MODE_OFF = 6,
}
/// [`powerinfer_sparse_mode`] as C passes it: any number.
pub type powerinfer_sparse_mode_e = c_int;

try_from_int!(powerinfer_sparse_mode:
    POWERINFER_SPARSE_MODE_DEFAULT,
    POWERINFER_SPARSE_MODE_AUTO,
    POWERINFER_SPARSE_MODE_EXACT,
    POWERINFER_SPARSE_MODE_PREDICTOR,
    POWERINFER_SPARSE_MODE_SIGN,
    POWERINFER_SPARSE_MODE_MAGNITUDE,
    POWERINFER_SPARSE_MODE_OFF,
);

/// A flag that need not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "C names")]
pub enum powerinfer_switch {
    POWERINFER_SWITCH_DEFAULT = 0,
    POWERINFER_SWITCH_ON = 1,
    POWERINFER_SWITCH_OFF = 2,
}
/// [`powerinfer_switch`] as C passes it: any number.
pub type powerinfer_switch_e = c_int;

try_from_int!(powerinfer_switch:
    POWERINFER_SWITCH_DEFAULT, POWERINFER_SWITCH_ON, POWERINFER_SWITCH_OFF,
);

/// Options of sparse execution. What is not given here is taken from the overrides
/// "powerinfer.*", the environment POWERINFER_*, or the model's file.
///
/// Begin with powerinfer_default_params, which gives nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct powerinfer_params {
    /// sizeof(struct powerinfer_params) of the program.
    pub size: usize,
    /// How neurons are chosen.
    pub sparse: powerinfer_sparse_mode_e,
    /// Least score of a predictor at which a neuron is computed; NAN: not given.
    pub sparse_threshold: f32,
    /// Where what was measured of the model is kept; NULL: not given, beside the model.
    pub sidecar: *const c_char,
    /// Which neurons the GPU gets, a file; NULL: not given, beside the model.
    pub placement: *const c_char,
    /// GPU memory to use at most, in GiB; NAN: not given.
    pub vram_budget_gib: f32,
    /// Whether neurons move between devices while running. No effect yet.
    pub adaptive: powerinfer_switch_e,
    /// Whether times and recall are measured, for powerinfer_get_stats.
    pub stats: powerinfer_switch_e,
    /// Whether it is counted how often each neuron fires, for powerinfer_save_activation.
    pub count_activations: powerinfer_switch_e,
}

impl Default for powerinfer_params {
    fn default() -> Self {
        Self {
            size: size_of::<Self>(),
            sparse: 0,
            sparse_threshold: f32::NAN,
            sidecar: ptr::null(),
            placement: ptr::null(),
            vram_budget_gib: f32::NAN,
            adaptive: 0,
            stats: 0,
            count_activations: 0,
        }
    }
}

/// Where each field ends, in bytes.
const ENDS: [usize; 9] = [
    offset_of!(powerinfer_params, sparse),
    offset_of!(powerinfer_params, sparse_threshold),
    offset_of!(powerinfer_params, sidecar),
    offset_of!(powerinfer_params, placement),
    offset_of!(powerinfer_params, vram_budget_gib),
    offset_of!(powerinfer_params, adaptive),
    offset_of!(powerinfer_params, stats),
    offset_of!(powerinfer_params, count_activations),
    size_of::<powerinfer_params>(),
];

impl powerinfer_params {
    /// The parameters of a program that may be older or newer than this library.
    ///
    /// # Safety
    /// `params` is NULL or points to as many bytes as it says.
    unsafe fn read(params: *const Self) -> Result<Self, String> {
        let mut own = Self::default();
        if params.is_null() {
            return Ok(own);
        }
        // SAFETY: the size is the first field, which all versions have.
        let size = unsafe { params.cast::<usize>().read_unaligned() };
        let Some(known) = ENDS.into_iter().rfind(|end| *end <= size) else {
            return Err(format!("size is {size}, expected {} (sizeof)", size_of::<Self>()));
        };
        for i in size_of::<Self>()..size {
            // SAFETY: the caller has `size` bytes.
            if unsafe { *params.cast::<u8>().add(i) } != 0 {
                return Err(format!(
                    "size is {size} and byte {i} is not zero: an option that this version, with \
                     {} bytes, does not have",
                    size_of::<Self>()
                ));
            }
        }
        // SAFETY: both have `known` bytes, in whole fields for which any bytes will do.
        unsafe {
            ptr::copy_nonoverlapping(params.cast::<u8>(), (&raw mut own).cast::<u8>(), known);
        }
        Ok(own)
    }

    /// What they ask for.
    ///
    /// # Safety
    /// Strings are NULL or terminated.
    unsafe fn request(&self) -> Result<SparseRequest, String> {
        use powerinfer_sparse_mode::*;
        let wrong = |error: BadEnum| error.to_string();
        let mode = match powerinfer_sparse_mode::try_from(self.sparse).map_err(wrong)? {
            POWERINFER_SPARSE_MODE_DEFAULT => None,
            POWERINFER_SPARSE_MODE_AUTO => Some(SparseMode::Auto),
            POWERINFER_SPARSE_MODE_EXACT => Some(SparseMode::Exact),
            POWERINFER_SPARSE_MODE_PREDICTOR => Some(SparseMode::Predictor),
            POWERINFER_SPARSE_MODE_SIGN => Some(SparseMode::Sign),
            POWERINFER_SPARSE_MODE_MAGNITUDE => Some(SparseMode::Magnitude),
            POWERINFER_SPARSE_MODE_OFF => Some(SparseMode::Off),
        };
        let switch = |value: c_int| match powerinfer_switch::try_from(value).map_err(wrong)? {
            powerinfer_switch::POWERINFER_SWITCH_DEFAULT => Ok(None),
            powerinfer_switch::POWERINFER_SWITCH_ON => Ok(Some(true)),
            powerinfer_switch::POWERINFER_SWITCH_OFF => Ok::<_, String>(Some(false)),
        };
        // SAFETY: the caller's promise.
        let path = |text| unsafe { c_str(text) }.map(|text| PathBuf::from(c_path(text)));
        let number = |x: f32| (!x.is_nan()).then_some(x);
        Ok(SparseRequest {
            mode,
            threshold: number(self.sparse_threshold),
            vram_budget_gib: number(self.vram_budget_gib),
            sidecar: path(self.sidecar),
            placement: path(self.placement),
            // These come by the other routes alone.
            reset_gpu_index: None,
            disable_gpu_index: None,
            adaptive: switch(self.adaptive)?,
            stats: switch(self.stats)?,
            count_activations: switch(self.count_activations)?,
        })
    }
}

/// The enum that says how a layer chooses.
pub(super) fn mode_to_c(mode: SparseMode) -> powerinfer_sparse_mode {
    use powerinfer_sparse_mode::*;
    match mode {
        SparseMode::Auto => POWERINFER_SPARSE_MODE_AUTO,
        SparseMode::Exact => POWERINFER_SPARSE_MODE_EXACT,
        SparseMode::Predictor => POWERINFER_SPARSE_MODE_PREDICTOR,
        SparseMode::Sign => POWERINFER_SPARSE_MODE_SIGN,
        SparseMode::Magnitude => POWERINFER_SPARSE_MODE_MAGNITUDE,
        SparseMode::Off => POWERINFER_SPARSE_MODE_OFF,
    }
}

/// Fills a structure of `size` bytes, which is sizeof(struct powerinfer_params), with "not given".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_default_params(params: *mut powerinfer_params, size: usize) {
    const NAME: &str = "powerinfer_default_params";
    guard::call((), NAME, || {
        if params.is_null() || size < size_of::<usize>() {
            log_error!("{NAME}: no structure, or one of only {size} bytes");
            return;
        }
        let own = powerinfer_params { size, ..Default::default() };
        let known = size.min(size_of::<powerinfer_params>());
        // SAFETY: the caller has `size` bytes; of ours none is read beyond its end.
        unsafe {
            ptr::write_bytes(params.cast::<u8>(), 0, size);
            let own = (&raw const own).cast::<MaybeUninit<u8>>();
            ptr::copy_nonoverlapping(own, params.cast::<MaybeUninit<u8>>(), known);
        }
    });
}

/// As llama_model_load_from_file, with options of sparse execution; NULL for `sparse`: none is
/// given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn powerinfer_model_load_from_file(
    path_model: *const c_char,
    params: llama_model_params,
    sparse: *const powerinfer_params,
) -> *mut llama_model {
    const NAME: &str = "powerinfer_model_load_from_file";
    guard::call(ptr::null_mut(), NAME, || {
        // SAFETY: NULL or a structure of the size that it says, with terminated strings.
        let request = unsafe { powerinfer_params::read(sparse).and_then(|own| own.request()) };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                log_error!("{NAME}: powerinfer_params: {error}");
                return ptr::null_mut();
            }
        };
        // SAFETY: NULL or a terminated string.
        let Some(path) = (unsafe { c_str(path_model) }) else {
            log_error!("{NAME}: the path is NULL");
            return ptr::null_mut();
        };
        // SAFETY: the caller's parameters.
        unsafe {
            load_with(NAME, &params, |options, progress| {
                Model::load_sparse(c_path(path), options, &request, progress)
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure as another version has it: ours and `more` bytes of `value`.
    fn grown(more: usize, value: u8) -> Vec<u64> {
        let own = powerinfer_params { sparse: 2, stats: 1, ..Default::default() };
        let size = size_of::<powerinfer_params>() + more;
        let mut bytes = vec![value; size.next_multiple_of(8)];
        // SAFETY: the bytes of ours, of which there is no padding inside.
        let own = unsafe {
            core::slice::from_raw_parts((&raw const own).cast::<u8>(), size_of_val(&own))
        };
        bytes[..own.len()].copy_from_slice(own);
        bytes[..8].copy_from_slice(&size.to_ne_bytes());
        bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    fn read(words: &[u64]) -> Result<SparseRequest, String> {
        // SAFETY: as many bytes as the first word says, strings are NULL.
        unsafe { powerinfer_params::read(words.as_ptr().cast()).and_then(|own| own.request()) }
    }

    #[test]
    fn programs_of_other_versions_are_understood() {
        let asked = SparseRequest {
            mode: Some(SparseMode::Exact),
            stats: Some(true),
            ..Default::default()
        };
        assert_eq!(read(&grown(0, 0)).unwrap(), asked);
        assert_eq!(read(&grown(16, 0)).unwrap(), asked);
        let error = read(&grown(16, 1)).unwrap_err();
        assert!(error.contains("is not zero: an option that this version"), "{error}");

        // An older program: up to the end of a field, or into the next one.
        for size in [offset_of!(powerinfer_params, stats), offset_of!(powerinfer_params, stats) + 3]
        {
            let mut words = grown(0, 0);
            words[0] = size as u64;
            assert_eq!(read(&words).unwrap(), SparseRequest { stats: None, ..asked.clone() });
        }
        for size in [0, 7] {
            let mut words = grown(0, 0);
            words[0] = size;
            let error = read(&words).unwrap_err();
            assert!(error.starts_with(&format!("size is {size}, expected 48")), "{error}");
        }
        // SAFETY: NULL gives nothing.
        let none = unsafe { powerinfer_params::read(ptr::null()).unwrap().request() };
        assert_eq!(none.unwrap(), SparseRequest::default());
    }

    #[test]
    fn defaults_fit_structures_of_any_size() {
        for size in [8, 20, 48, 72] {
            let mut words = [u64::MAX; 12];
            // SAFETY: there is room for all sizes.
            unsafe { powerinfer_default_params(words.as_mut_ptr().cast(), size) };
            assert_eq!(words[0], size as u64);
            assert_eq!(words[size.div_ceil(8)..], [u64::MAX; 12][size.div_ceil(8)..]);
            assert!(words[6..].iter().take(size.saturating_sub(48) / 8).all(|word| *word == 0));
            // SAFETY: as above.
            let read = unsafe { powerinfer_params::read(words.as_ptr().cast()).unwrap().request() };
            assert_eq!(read.unwrap(), SparseRequest::default());
        }
    }

    #[test]
    fn numbers_that_are_no_enum_values_are_named() {
        let own = powerinfer_params { sparse: 99, ..Default::default() };
        // SAFETY: strings are NULL.
        let error = unsafe { own.request() }.unwrap_err();
        assert_eq!(error, "99 is no value of enum powerinfer_sparse_mode");
        let own = powerinfer_params { stats: -1, ..Default::default() };
        // SAFETY: strings are NULL.
        let error = unsafe { own.request() }.unwrap_err();
        assert_eq!(error, "-1 is no value of enum powerinfer_switch");
    }
}
