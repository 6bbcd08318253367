//! How often each neuron fires, as a file: what placing neurons on devices starts from.
//!
//! The file is GGUF with architecture `powerinfer.activation` and an I32 tensor
//! `blk.N.activation_count` `[n_ff]` for each layer that can skip neurons. Its keys, after
//! `powerinfer.activation.`:
//!
//! | key | value |
//! |---|---|
//! | `block_count` | u32: layers of the model |
//! | `tokens` | u64: tokens that were counted, 0 when that is not known |
//! | `layer_tokens` | u64 per layer: the last one computes wanted outputs only |
//! | `model_architecture`, `embedding_length` | of the model, where the counts are our own |
//!
//! A model's own file may have the tensors and the keys as well.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::pt;
use crate::gguf::{self, Array, LoadOptions, Magic, Metadata, ModelFiles, Value, Writer};
use crate::model::Model;
use crate::quant::QuantType;

/// `general.architecture` of the file.
const ARCHITECTURE: &str = "powerinfer.activation";
/// More layers than any model has: a folder of other things.
const MAX_LAYERS: usize = 4096;
/// More neurons than a layer has.
const MAX_NEURONS: usize = 1 << 24;
/// What a share of 1 becomes when a folder has shares instead of counts.
const WHOLE: f64 = (1 << 20) as f64;

/// Counts of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerCounts {
    /// Tokens that the layer computed; 0 when that is not known.
    pub tokens: u64,
    /// How often each neuron fired; empty for a layer that cannot skip neurons.
    pub counts: Vec<u32>,
}

/// What a model is to whom counts belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedModel {
    /// `general.architecture`.
    pub architecture: String,
    /// Width of the residual stream.
    pub n_embd: usize,
}

/// How often each neuron of a model fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivationCounts {
    /// The model; `None` for counts from elsewhere.
    pub model: Option<CountedModel>,
    /// Its layers.
    pub layers: Vec<LayerCounts>,
}

/// Why counts cannot be had, read or written.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// Nobody asked for them.
    #[error(
        "activations are not counted: ask for it before the first token \
         (powerinfer_count_activations, or the option count_activations)"
    )]
    NotCounted,
    /// No layer of the model can skip neurons.
    #[error("the model has no layer that can skip neurons: there is nothing to count")]
    NothingToCount,
    /// The system refuses.
    #[error("{path}: cannot {what}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// Counts that cannot be written as GGUF.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
}

impl ActivationCounts {
    /// Writes the file, in place of what is there; readers see the old one or the new one.
    pub fn save(&self, path: &Path) -> Result<(), ActivationError> {
        let io = |what| move |source| ActivationError::Io { path: path.to_owned(), what, source };
        let mut unfinished = OsString::from(path);
        unfinished.push(format!(".{}.tmp", std::process::id()));
        let written = File::create(&unfinished)
            .map_err(io("create the file"))
            .and_then(|file| self.write(file))
            .and_then(|()| std::fs::rename(&unfinished, path).map_err(io("write the file")));
        if written.is_err() {
            // What is left of it, if anything.
            let _ = std::fs::remove_file(&unfinished);
        }
        written
    }

    fn write(&self, file: File) -> Result<(), ActivationError> {
        let mut out = Writer::new(Magic::Gguf);
        let mut set = |key: &str, value| out.set(&format!("{ARCHITECTURE}.{key}"), value);
        let tokens: Vec<u64> = self.layers.iter().map(|layer| layer.tokens).collect();
        set("block_count", Value::U32(self.layers.len() as u32))?;
        set("tokens", Value::U64(tokens.iter().copied().max().unwrap_or(0)))?;
        set("layer_tokens", Value::Array(Array::U64(tokens)))?;
        if let Some(model) = &self.model {
            set("model_architecture", Value::Str(model.architecture.as_str().into()))?;
            set("embedding_length", Value::U32(model.n_embd as u32))?;
        }
        out.set("general.architecture", Value::Str(ARCHITECTURE.into()))?;
        let layers = self.layers.iter().enumerate().filter(|(_, layer)| !layer.counts.is_empty());
        for (il, layer) in layers.clone() {
            let dims = [layer.counts.len() as u64];
            out.add_tensor(&format!("blk.{il}.activation_count"), &dims, QuantType::I32)?;
        }
        let mut out = out.start(BufWriter::new(file))?;
        for (_, layer) in layers {
            // A month of tokens would not be too many for an i32.
            let counts = layer.counts.iter().map(|&n| i32::try_from(n).unwrap_or(i32::MAX));
            let bytes: Vec<u8> = counts.flat_map(i32::to_le_bytes).collect();
            out.write(&bytes)?;
        }
        out.finish()?;
        Ok(())
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ActivationError> {
        let mut files = ModelFiles::open(path, &LoadOptions::default())?;
        let refused = |problem| ActivationError::File { path: path.to_owned(), problem };
        let meta = files.meta();
        let found = meta.require_str("general.architecture")?;
        if found != ARCHITECTURE {
            return Err(refused(format!(
                "architecture '{}', expected '{ARCHITECTURE}'",
                found.escape_debug()
            )));
        }
        let key = |key: &str| format!("{ARCHITECTURE}.{key}");
        let n_layers = meta.require_u32(&key("block_count"))? as usize;
        if n_layers > MAX_LAYERS {
            return Err(refused(format!("{n_layers} layers, expected at most {MAX_LAYERS}")));
        }
        let model = match meta.get_str(&key("model_architecture"))? {
            Some(name) => {
                let n_embd = meta.require_u32(&key("embedding_length"))? as usize;
                Some(CountedModel { architecture: name.to_owned(), n_embd })
            }
            None => None,
        };
        files.load_tensors(&mut |_| true)?;
        let tensor = |name: &str| {
            let info = files.tensor(name)?;
            Some((info.ty, info.shape.dims().to_vec(), files.data(info).ok()?))
        };
        let layers = read_layers(files.meta(), n_layers, tensor).map_err(refused)?;
        Ok(Self { model, layers })
    }

    /// What a model's own file says; `None` when it has no such tensors.
    pub fn of_model(model: &Model) -> Result<Option<Self>, ActivationError> {
        let n_layers = model.plan().map_or(0, |plan| plan.layers.len());
        let tensor = |name: &str| {
            let weight = model.weights().iter().find(|weight| weight.name == name)?;
            Some((weight.ty, weight.shape.dims().to_vec(), weight.data.as_deref()?))
        };
        let problem = |problem| ActivationError::File { path: "the model's file".into(), problem };
        let layers = read_layers(model.meta(), n_layers, tensor).map_err(problem)?;
        let any = layers.iter().any(|layer| !layer.counts.is_empty());
        Ok(any.then_some(Self { model: None, layers }))
    }

    /// Reads PowerInfer's folder of `activation_0.pt`, `activation_1.pt` and so on: for each layer a
    /// tensor with the counts of its neurons, or with shares of tokens.
    pub fn import(folder: &Path) -> Result<Self, ActivationError> {
        let refused = |problem| ActivationError::File { path: folder.to_owned(), problem };
        let n_layers = count_files(folder)?;
        let mut layers = Vec::new();
        for il in 0..n_layers {
            let path = folder.join(format!("activation_{il}.pt"));
            let problem = |problem| ActivationError::File { path: path.clone(), problem };
            let values = pt::read_vector(&path).map_err(problem)?;
            if let Some(bad) = values.iter().find(|x| !matches!(x, 0.0..=2147483647.0)) {
                return Err(problem(format!("found {bad}, expected counts from 0 to 2^31 - 1")));
            }
            layers.push(values);
        }
        let lens: Vec<usize> = layers.iter().map(Vec::len).collect();
        if let Some(il) = lens.iter().position(|&len| len != lens[0]) {
            return Err(refused(format!(
                "activation_{il}.pt has {} neurons and activation_0.pt has {}: not of one model",
                lens[il], lens[0]
            )));
        }
        let all = || layers.iter().flatten().copied();
        let counts = all().all(|x| x.fract() == 0.0);
        if !counts && all().any(|x| x > 1.0) {
            let odd = all().find(|x| x.fract() != 0.0).unwrap_or(0.0);
            return Err(refused(format!(
                "found {odd} and numbers above 1, expected whole counts, or shares of tokens"
            )));
        }
        let (scale, tokens) = if counts { (1.0, 0) } else { (WHOLE, WHOLE as u64) };
        let layers = layers.into_iter().map(|values| LayerCounts {
            tokens,
            counts: values.into_iter().map(|x| (x * scale).round() as u32).collect(),
        });
        Ok(Self { model: None, layers: layers.collect() })
    }
}

/// Counts of layers from tensors: type, extents and data by their names.
fn read_layers<D: Deref<Target = [u8]>>(
    meta: &Metadata,
    n_layers: usize,
    tensor: impl Fn(&str) -> Option<(QuantType, Vec<u64>, D)>,
) -> Result<Vec<LayerCounts>, String> {
    let tokens = match meta.get(&format!("{ARCHITECTURE}.layer_tokens")) {
        None => vec![0; n_layers],
        Some(Value::Array(Array::U64(tokens))) if tokens.len() == n_layers => tokens.clone(),
        Some(other) => {
            let found = other.describe();
            return Err(format!("layer_tokens is {found}, expected {n_layers} numbers (u64)"));
        }
    };
    let layers = tokens.into_iter().enumerate().map(|(il, tokens)| {
        let name = format!("blk.{il}.activation_count");
        let Some((ty, dims, data)) = tensor(&name) else {
            return Ok(LayerCounts { tokens, counts: Vec::new() });
        };
        if ty != QuantType::I32 || dims.len() != 1 || dims[0] > MAX_NEURONS as u64 {
            return Err(format!("tensor '{name}' is {ty} {dims:?}, expected I32 [n_ff]"));
        }
        let counts = data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let counts: Result<Vec<u32>, _> = counts.map(u32::try_from).collect();
        let counts = counts.map_err(|_| format!("tensor '{name}' has a count below 0"))?;
        Ok(LayerCounts { tokens, counts })
    });
    layers.collect()
}

/// How many files `activation_{i}.pt` there are, which have to be all from 0 on. What else is in
/// the folder is refused: PowerInfer's own tools took such files for layers.
fn count_files(folder: &Path) -> Result<usize, ActivationError> {
    let io = |source| ActivationError::Io { path: folder.to_owned(), what: "list it", source };
    let refused = |problem| Err(ActivationError::File { path: folder.to_owned(), problem });
    let mut there = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix("activation_").and_then(|rest| rest.strip_suffix(".pt"));
        let il = number.and_then(|digits| digits.parse().ok());
        match il.filter(|il: &usize| format!("activation_{il}.pt") == name) {
            Some(il) if il < MAX_LAYERS => there.push(il),
            _ => {
                return refused(format!(
                    "found '{}', expected only activation_0.pt, activation_1.pt and so on",
                    name.escape_debug()
                ));
            }
        }
    }
    there.sort_unstable();
    match there.iter().enumerate().find(|(i, il)| i != *il) {
        Some((missing, _)) => refused(format!(
            "activation_{missing}.pt is missing, there are files up to activation_{}.pt",
            there[there.len() - 1]
        )),
        None if there.is_empty() => refused("there is no activation_0.pt".into()),
        None => Ok(there.len()),
    }
}
