//! A placement kept beside its model: `<model>.gpuidx`.
//!
//! It is a file of its own, not a part of the sidecar: it is made for one budget, is megabytes large
//! with the largest models, and is thrown away without a thought (`powerinfer.reset_gpu_index`), while
//! the sidecar keeps what took a calibration.
//!
//! The file is GGUF with architecture `powerinfer.gpu_index` and an I32 tensor `blk.N.hot` with the
//! ascending ids of each layer that has hot neurons. Its keys, after `powerinfer.gpu_index.`:
//!
//! | key | value |
//! |---|---|
//! | `version` | u32 |
//! | `model` | the model's fingerprint |
//! | `machine` | names of the devices that the figures are of |
//! | `weights` | types of the networks' weights on the device |
//! | `budget` | u64: bytes of device memory that neurons may take |
//! | `n_ff`, `neuron_bytes` | u32, u64 per layer |
//! | `activity` | u64: hash of the counts, and of what is always read of each layer and where it is |
//! | `basis` | `counts`, `even` or `powerinfer` |
//! | `gpu_bytes_per_s`, `cpu_bytes_per_s`, `crossing_s` | f64: the figures used |
//!
//! An index is used again on the machine that it was made on, for the same model, activity and
//! nearly the same budget. The figures need not be the same: they are measured and differ a little
//! every time, and another placement means another order of sums.

use std::path::Path;

use super::super::beside::{self, FileError};
use super::{Basis, Home, Machine, Placement, Problem};
use crate::gguf::{self, Array, LoadOptions, Magic, Metadata, ModelFiles, Value, Writer};
use crate::model::Fingerprint;
use crate::quant::QuantType;
use crate::util::bytes;
use crate::util::hash::Hash;

const ARCHITECTURE: &str = "powerinfer.gpu_index";
/// Raised when old readers would take a file wrongly; new keys alone are no reason.
const THIS_VERSION: u32 = 1;
/// More layers than any model has.
const MAX_LAYERS: usize = 4096;
/// Part of the budget by which it may differ: what is free on a card is never quite the same.
const SLACK: u64 = 64;

/// Why an index cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] FileError),
    /// No GGUF file, or not with the right types.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// Something else, or damaged.
    #[error("{file}: {problem}")]
    Bad {
        /// Path.
        file: String,
        /// What was found and what was expected.
        problem: String,
    },
}

/// What an index is of use for.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeFor {
    /// The model.
    pub fingerprint: String,
    /// Names of the devices.
    pub machine: String,
    /// Types of the networks' weights on the device.
    pub weights: String,
    /// Bytes that neurons may take.
    pub cap: u64,
    /// Neurons of each layer.
    pub n_ff: Vec<u32>,
    /// Bytes of one, by layer.
    pub neuron_bytes: Vec<u64>,
    /// Hash of what else of the problem the choice hangs on.
    pub activity: u64,
}

impl MadeFor {
    /// What an index for this problem would be of use for.
    pub fn new(
        problem: &Problem<'_>,
        fingerprint: Fingerprint,
        machine: &str,
        weights: &str,
    ) -> Self {
        let mut hash = Hash::default();
        for layer in &problem.layers {
            hash.add_number(layer.always_read.to_bits());
            hash.add_number(u64::from(layer.home == Home::Gpu));
            hash.add_number(layer.known().map_or(0, |counts| counts.tokens));
            hash.add(bytes::as_bytes(layer.known().map_or(&[], |counts| &counts.counts[..])));
        }
        Self {
            fingerprint: fingerprint.to_string(),
            machine: machine.to_owned(),
            weights: weights.to_owned(),
            cap: problem.cap,
            n_ff: problem.layers.iter().map(|layer| layer.n_ff as u32).collect(),
            neuron_bytes: problem.layers.iter().map(|layer| layer.neuron_bytes).collect(),
            activity: hash.0,
        }
    }
}

/// A placement with what it was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuIndex {
    /// What it is of use for.
    pub made_for: MadeFor,
    /// The figures that it was made by.
    pub figures: Machine,
    /// The placement.
    pub placement: Placement,
}

impl GpuIndex {
    /// Whether the index is of use now, or why not.
    pub fn is_for(&self, now: &MadeFor) -> Result<(), String> {
        let made = &self.made_for;
        let differs = |what: &str, made: &str, now: &str| {
            Err(format!("made for {what} '{}', this is '{now}'", made.escape_debug()))
        };
        if made.fingerprint != now.fingerprint {
            return differs("model", &made.fingerprint, &now.fingerprint);
        }
        if made.machine != now.machine {
            return differs("machine", &made.machine, &now.machine);
        }
        if made.weights != now.weights {
            return differs("weights of type", &made.weights, &now.weights);
        }
        if (&made.n_ff, &made.neuron_bytes) != (&now.n_ff, &now.neuron_bytes) {
            return Err("made for layers of other shapes".into());
        }
        if made.activity != now.activity {
            return Err("made for other counts of activations".into());
        }
        let whole = self.placement.hot.iter().zip(&made.n_ff).all(|(h, n)| h.len() == *n as usize);
        let near = made.cap.abs_diff(now.cap) <= made.cap / SLACK || whole && made.cap <= now.cap;
        if self.bytes() > now.cap || !near {
            return Err(format!("made for a budget of {} bytes, this is {}", made.cap, now.cap));
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let layers = self.placement.hot.iter().zip(&self.made_for.neuron_bytes);
        let bytes = layers.map(|(hot, bytes)| bytes.saturating_mul(hot.len() as u64));
        bytes.fold(0, u64::saturating_add)
    }

    /// Whether a file is such an index, of any version and for whatever model.
    pub(super) fn is_one(path: &Path) -> bool {
        let Ok(files) = ModelFiles::open(path, &LoadOptions::default()) else { return false };
        let found = files.meta().get_str("general.architecture");
        matches!(found, Ok(Some(ARCHITECTURE)))
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, IndexError> {
        let mut files = ModelFiles::open(path, &LoadOptions::default())?;
        let bad = |problem| IndexError::Bad { file: path.display().to_string(), problem };
        let meta = files.meta();
        let found = meta.require_str("general.architecture")?;
        if found != ARCHITECTURE {
            let found = found.escape_debug();
            return Err(bad(format!("architecture '{found}', expected '{ARCHITECTURE}'")));
        }
        let version = meta.require_u32(&key("version"))?;
        if version != THIS_VERSION {
            return Err(bad(format!("version {version} of the format, expected {THIS_VERSION}")));
        }
        let (made_for, figures, basis) = Self::from_meta(meta, &bad)?;
        // Before anything is read for it.
        let n_layers = made_for.n_ff.len();
        for tensor in files.tensors() {
            let il = tensor.name.strip_prefix("blk.").and_then(|name| name.strip_suffix(".hot"));
            let il = il.and_then(|il| il.parse().ok()).filter(|il: &usize| *il < n_layers);
            if il.is_none() {
                let found = tensor.name.escape_debug();
                return Err(bad(format!("tensor '{found}', expected hot neurons of a layer")));
            }
        }
        files.load_tensors(&mut |_| true)?;
        let hot = (0..n_layers).map(|il| {
            let name = format!("blk.{il}.hot");
            match files.tensor(&name) {
                Some(_) => ids(&files, &name, made_for.n_ff[il] as usize),
                None => Ok(Vec::new()),
            }
        });
        let hot = hot.collect::<Result<_, _>>().map_err(&bad)?;
        let index = Self { made_for, figures, placement: Placement { hot, basis } };
        if index.bytes() > index.made_for.cap {
            let cap = index.made_for.cap;
            return Err(bad(format!("{} bytes, more than its budget of {cap}", index.bytes())));
        }
        Ok(index)
    }

    fn from_meta(
        meta: &Metadata,
        bad: &impl Fn(String) -> IndexError,
    ) -> Result<(MadeFor, Machine, Basis), IndexError> {
        let text = |name: &str| meta.require_str(&key(name)).map(str::to_owned);
        let figure = |name: &str| {
            let found = meta.get(&key(name)).and_then(Value::as_float);
            found.filter(|x| x.is_finite()).ok_or_else(|| bad(format!("no figure '{name}'")))
        };
        let n_ff = meta.require_u32s(&key("n_ff"))?.into_owned();
        let Array::U64(neuron_bytes) = meta.require_array(&key("neuron_bytes"))? else {
            return Err(bad("neuron_bytes is no array of u64".into()));
        };
        if n_ff.len() != neuron_bytes.len() || n_ff.len() > MAX_LAYERS {
            let (n, m) = (n_ff.len(), neuron_bytes.len());
            return Err(bad(format!(
                "shapes of {n} and {m} layers, expected one number and up to {MAX_LAYERS}"
            )));
        }
        let basis = text("basis")?;
        let Some(basis) = Basis::from_name(&basis) else {
            let found = basis.escape_debug();
            return Err(bad(format!("basis '{found}', expected counts, even or powerinfer")));
        };
        let made_for = MadeFor {
            fingerprint: text("model")?,
            machine: text("machine")?,
            weights: text("weights")?,
            cap: meta.require_u64(&key("budget"))?,
            n_ff,
            neuron_bytes: neuron_bytes.clone(),
            activity: meta.require_u64(&key("activity"))?,
        };
        let figures = Machine {
            gpu_bytes_per_s: figure("gpu_bytes_per_s")?,
            cpu_bytes_per_s: figure("cpu_bytes_per_s")?,
            crossing_s: figure("crossing_s")?,
        };
        Ok((made_for, figures, basis))
    }

    /// Writes the file, in place of what is there.
    pub fn write(&self, path: &Path) -> Result<(), IndexError> {
        Ok(beside::replace(path, &self.bytes_of_file()?)?)
    }

    pub(super) fn bytes_of_file(&self) -> Result<Vec<u8>, gguf::Error> {
        let made = &self.made_for;
        let text = |text: &str| Value::Str(text.into());
        let mut out = Writer::new(Magic::Gguf);
        out.set("general.architecture", text(ARCHITECTURE))?;
        for (name, value) in [
            ("version", Value::U32(THIS_VERSION)),
            ("model", text(&made.fingerprint)),
            ("machine", text(&made.machine)),
            ("weights", text(&made.weights)),
            ("budget", Value::U64(made.cap)),
            ("n_ff", Value::Array(Array::U32(made.n_ff.clone()))),
            ("neuron_bytes", Value::Array(Array::U64(made.neuron_bytes.clone()))),
            ("activity", Value::U64(made.activity)),
            ("basis", text(self.placement.basis.name())),
            ("gpu_bytes_per_s", Value::F64(self.figures.gpu_bytes_per_s)),
            ("cpu_bytes_per_s", Value::F64(self.figures.cpu_bytes_per_s)),
            ("crossing_s", Value::F64(self.figures.crossing_s)),
        ] {
            out.set(&key(name), value)?;
        }
        let lists = self.placement.hot.iter().enumerate().filter(|(_, hot)| !hot.is_empty());
        for (il, hot) in lists.clone() {
            out.add_tensor(&format!("blk.{il}.hot"), &[hot.len() as u64], QuantType::I32)?;
        }
        let mut out = out.start(Vec::new())?;
        for (_, hot) in lists {
            out.write(bytes::as_bytes(hot))?;
        }
        out.finish()
    }
}

fn key(name: &str) -> String {
    format!("{ARCHITECTURE}.{name}")
}

/// The numbers of an I32 tensor of one dimension and at most so many elements.
pub(super) fn numbers(files: &ModelFiles, name: &str, most: usize) -> Result<Vec<i32>, String> {
    let tensor = files.tensor(name).ok_or_else(|| format!("tensor '{name}' is missing"))?;
    let dims = tensor.shape.dims();
    if tensor.ty != QuantType::I32 || dims.len() != 1 || dims[0] > most as u64 {
        let ty = tensor.ty;
        return Err(format!("tensor '{name}' is {ty} {dims:?}, expected I32 [up to {most}]"));
    }
    let data = files.data(tensor).map_err(|error| error.to_string())?;
    Ok(data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The same of ascending ids of a layer's neurons.
pub(super) fn ids(files: &ModelFiles, name: &str, n_ff: usize) -> Result<Vec<u32>, String> {
    let numbers = numbers(files, name, n_ff)?;
    let good = numbers.is_sorted_by(|a, b| a < b)
        && numbers.first().is_none_or(|&id| id >= 0)
        && numbers.last().is_none_or(|&id| (id as usize) < n_ff);
    match good {
        true => Ok(numbers.into_iter().map(|id| id as u32).collect()),
        false => Err(format!("tensor '{name}' is no ascending list of ids from 0 to {n_ff}")),
    }
}
