//! Which GPU a model goes to, by the parameters of `llama.h`.
//!
//! A model uses one GPU and the processor. Where a program would divide it between several, one of
//! them gets the layers: that with the greatest share of `tensor_split`, else `main_gpu`.

use core::slice;

use super::ggml::cards::{self, MAX_CARDS};
use super::ggml::device::cpu_device;
use super::types::{llama_model_params, llama_split_mode};
use crate::api::{CardRequest, Model};
use crate::backend::cuda::{Purpose, absence};
use crate::{log_error, log_info, log_warn};

/// What parameters say about GPUs.
pub(super) struct Offload {
    /// Number of the GPU; `None` for the processor alone.
    card: Option<usize>,
    /// Layers that go there, the output counted as one; all that fit when negative.
    n_layers: i32,
}

impl Offload {
    /// Reads parameters; `None`, with a line in the log, when one makes no sense. Nobody asks the
    /// driver when no layer is to go to a GPU.
    ///
    /// # Safety
    /// The pointers of `params` are NULL or valid: `devices` ends with NULL, `tensor_split` has as many
    /// elements as `llama_max_devices` says, and the overrides end with an entry without a pattern.
    pub(super) unsafe fn of(params: &llama_model_params) -> Option<Self> {
        let n_layers = params.n_gpu_layers;
        let none = Some(Self { card: None, n_layers });
        if n_layers == 0 || params.vocab_only != 0 {
            return none;
        }
        let among = match params.devices.is_null() {
            true => (0..cards::count()).collect(),
            // SAFETY: the caller's promise.
            false => unsafe { listed(params) }?,
        };
        if among.is_empty() {
            match absence() {
                _ if !params.devices.is_null() => {}
                Some(why) if n_layers > 0 => {
                    log_info!("no GPU is in use, {why}: n_gpu_layers = {n_layers} has no effect");
                }
                Some(why) if why != crate::backend::cuda::NO_DRIVER => {
                    log_info!("no GPU is in use: {why}");
                }
                _ => {}
            }
            return none;
        }
        let main = usize::try_from(params.main_gpu).ok();
        let card = match llama_split_mode::try_from(params.split_mode) {
            Ok(llama_split_mode::LLAMA_SPLIT_MODE_NONE) => match main {
                None => return none,
                Some(main) if main >= among.len() => {
                    let n = among.len();
                    log_error!("main_gpu is {main}, and there are {n} GPUs to choose from");
                    return None;
                }
                Some(main) => among[main],
            },
            _ if among.len() == 1 => among[0],
            mode => {
                // SAFETY: the caller's promise.
                let by_share = unsafe { greatest_share(params, among.len()) };
                let chosen = by_share.or(main).filter(|&i| i < among.len()).unwrap_or(0);
                let how = mode.map_or_else(|e| e.to_string(), |mode| format!("{mode:?}"));
                log_info!(
                    "{how}: models are not divided between GPUs, {} gets what {} would",
                    cards::title_of(among[chosen]),
                    among.len()
                );
                among[chosen]
            }
        };
        // SAFETY: the caller's promise: NULL, or entries up to one without a pattern.
        if unsafe { params.tensor_buft_overrides.as_ref() }.is_some_and(|o| !o.pattern.is_null()) {
            log_info!("tensor_buft_overrides: what goes to the GPU is said by n_gpu_layers alone");
        }
        Some(Self { card: Some(card), n_layers })
    }

    /// Brings the layers to the GPU and says in the log what is there; gives its number, or `None`
    /// when the model stays with the processor.
    pub(super) fn bring(&self, model: &mut Model) -> Option<usize> {
        let Some(index) = self.card else {
            for name in model.gpu_options() {
                log_info!("no GPU is in use: {name} has no effect");
            }
            return None;
        };
        let title = cards::title_of(index);
        let request = CardRequest { index, n_layers: self.n_layers, ..CardRequest::default() };
        let n = match model.offload(&request) {
            Ok(n) => n,
            Err(error) => {
                log_warn!("{title} cannot be used, the model runs on the CPU: {error}");
                return None;
            }
        };
        let n_all = model.hparams().map_or(0, |hp| hp.n_layer) + 1;
        match model.card_budget() {
            Some(budget) => log_info!(
                "{n} of {n_all} layers are on {title}: weights {:.1} MiB, {:.1} MiB are left for \
                 keys and values and activations",
                mib(budget.used_for(Purpose::Weights) + budget.used_for(Purpose::Neurons)),
                mib(budget.left())
            ),
            None if model.is_without_weights() => {}
            None => log_info!(
                "0 of {n_all} layers are on {title}: there is no room for one, or no kernel for \
                 its weights"
            ),
        }
        if let Some((n_hot, n_all)) = model.hot_neurons() {
            log_info!("{n_hot} of {n_all} neurons are on {title}, the CPU computes the others");
        }
        Some(index)
    }
}

/// Bytes in MiB.
pub(super) fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The GPUs of the caller's list; the processor may be in it and is there anyway.
///
/// # Safety
/// `devices` ends with NULL.
unsafe fn listed(params: &llama_model_params) -> Option<Vec<usize>> {
    let mut list = Vec::new();
    for i in 0.. {
        // SAFETY: entries up to the NULL are there.
        let device = unsafe { *params.devices.add(i) };
        if device.is_null() {
            break;
        }
        match cards::index_of(device) {
            Some(index) => list.push(index),
            None if device == cpu_device() => {}
            None => {
                log_error!("devices: entry {i} is no device of ggml_backend_dev_get");
                return None;
            }
        }
    }
    Some(list)
}

/// Which of `n` GPUs is to have the most; `None` when nothing is said about it.
///
/// # Safety
/// `tensor_split` is NULL or has [`MAX_CARDS`] elements.
unsafe fn greatest_share(params: &llama_model_params, n: usize) -> Option<usize> {
    if params.tensor_split.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let shares = unsafe { slice::from_raw_parts(params.tensor_split, n.min(MAX_CARDS)) };
    let mut best: Option<(usize, f32)> = None;
    for (i, &share) in shares.iter().enumerate() {
        if share > best.map_or(0.0, |(_, most)| most) {
            best = Some((i, share));
        }
    }
    best.map(|(i, _)| i)
}
