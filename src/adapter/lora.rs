//! LoRA adapters as llama.cpp's `convert_lora_to_gguf.py` writes them.
//!
//! A GGUF file with `general.type = "adapter"`, `adapter.type = "lora"`, the model's architecture and
//! for each adapted tensor of the model a pair: `<tensor>.lora_a` `[n_in, rank]` and
//! `<tensor>.lora_b` `[rank, n_out]`, with a third extent for tensors of experts. Of
//! `token_embd.weight`, whose rows are looked up, `lora_a` is `[rank, n_vocab]`.

use std::collections::{BTreeMap, HashSet};

use super::Error;
use super::adapt::adaptable;
use crate::gguf::{
    Array, ByteStr, LoadOptions, Metadata, ModelFiles, TensorData, TensorInfo, Value,
};
use crate::model::{Model, can_compute};
use crate::plan::TensorId;
use crate::quant::{QuantType, decoder};
use crate::tensor::Shape;
use crate::{log_info, log_warn};

const TOKEN_EMBD: &str = "token_embd.weight";
const STREAMS: [&str; 3] = ["altup_proj", "altup_unembd_proj", "per_layer_model_proj"];
const INVOCATION_TOKENS: &str = "adapter.alora.invocation_tokens";

/// One matrix of a pair.
#[derive(Debug)]
pub(super) struct Matrix {
    ty: QuantType,
    shape: Shape,
    data: TensorData,
}

impl Matrix {
    /// Decodes row `i`, of all rows of all experts.
    pub(super) fn row(&self, i: usize, out: &mut [f32]) {
        let bytes = self.data.len() / (self.shape.n_rows() as usize).max(1);
        decoder(self.ty)(&self.data[i * bytes..][..bytes], out);
    }

    fn ne(&self, i: usize) -> usize {
        self.shape.ne()[i] as usize
    }
}

/// What an adapter adds to one tensor of the model.
#[derive(Debug)]
pub(super) struct Pair {
    /// The tensor.
    name: String,
    pub(super) a: Matrix,
    pub(super) b: Matrix,
}

impl Pair {
    /// Extent that the matrices have in common.
    pub(super) fn rank(&self) -> usize {
        self.b.ne(0)
    }

    /// Rows of an expert's `b`: outputs of the model's tensor.
    pub(super) fn n_out(&self) -> usize {
        self.b.ne(1)
    }

    /// Matrices in one: for each expert.
    pub(super) fn n_expert(&self) -> usize {
        self.b.ne(2)
    }

    /// Whether rows of `a` are looked up, not multiplied.
    pub(super) fn is_looked_up(&self) -> bool {
        self.name.ends_with(TOKEN_EMBD)
    }

    /// Whether the tensor is one of Gemma 3n's that mix its streams: llama.cpp takes them as they are.
    fn is_of_streams(&self) -> bool {
        let name = self.name.rsplit_once(".weight").map_or(&*self.name, |(name, _)| name);
        STREAMS.contains(&name) || name.ends_with(".altup_router")
    }

    /// The tensor of this model that the pair is for.
    pub(super) fn target(&self, model: &Model) -> Result<TensorId, Error> {
        let Some((id, shape)) = find(model, &self.name) else {
            return Err(Error::Unknown { name: self.name.clone() });
        };
        let (w, a, b) = (shape.ne(), self.a.shape.ne(), self.b.shape.ne());
        let fits = match self.is_looked_up() {
            true => w[0] == b[1] && w[1] == a[1] && a[0] == b[0],
            false => w[0] == a[0] && w[1] == b[1] && a[1] == b[0],
        };
        if !fits || a[2..] != w[2..] || b[2..] != w[2..] || b[0] == 0 {
            let shapes = Box::new([shape, self.a.shape, self.b.shape]);
            return Err(Error::WrongShape { name: self.name.clone(), shapes });
        }
        Ok(id)
    }
}

/// The model's tensor of this name, and its extents as in ordinary files. PowerInfer's files have
/// `ffn_down` the other way round, as `ffn_down_t`.
fn find(model: &Model, name: &str) -> Option<(TensorId, Shape)> {
    let find = |name: &str| {
        let id = model.weights().iter().position(|w| w.name == name)?;
        Some((TensorId(id), model.weights()[id].filed_shape()))
    };
    let turned = || {
        let (id, shape) = find(&name.replace(".ffn_down.", ".ffn_down_t."))?;
        Some((id, Shape::new(&[shape.ne()[1], shape.ne()[0]])?))
    };
    // By its own name it would be adapted in rows of neurons, which no converter writes.
    let found = if name.contains(".ffn_down_t.") { None } else { find(name) };
    found.or_else(turned)
}

/// A LoRA adapter: immutable, shared by the contexts that use it.
#[derive(Debug)]
pub struct Lora {
    meta: Metadata,
    alpha: f32,
    pairs: Vec<Pair>,
    invocation_tokens: Vec<i32>,
}

impl Lora {
    /// How adapter files are opened: read, so that nobody can cut them off under a running model.
    pub fn load_options() -> LoadOptions {
        LoadOptions { mode: crate::gguf::LoadMode::None, ..LoadOptions::default() }
    }

    /// Takes an adapter for this model from a file opened with [`Self::load_options`].
    pub fn load(mut files: ModelFiles, model: &Model) -> Result<Self, Error> {
        let meta = files.meta();
        expect(meta, "general.type", "adapter")?;
        expect(meta, "general.architecture", model.arch_name())?;
        expect(meta, "adapter.type", "lora")?;
        let alpha = meta.get_f32("adapter.lora.alpha")?.unwrap_or(0.0);
        let invocation_tokens = invocation_tokens(meta)?;
        files.load_tensors(&mut |_| true)?;
        let plan = model.plan().ok_or(Error::NoWeights)?;
        let adaptable: HashSet<TensorId> = adaptable(plan).collect();
        let mut adapting = Vec::new();
        for pair in pairs(&files)? {
            let adapts = adaptable.contains(&pair.target(model)?) && !pair.is_of_streams();
            match adapts {
                true => adapting.push(pair),
                false => log_warn!("'{}' is no product that is adapted", pair.name),
            }
        }
        let pairs = adapting;
        log_info!("LoRA adapter: {} tensors, alpha = {alpha}", 2 * pairs.len());
        Ok(Self { meta: files.into_meta(), alpha, pairs, invocation_tokens })
    }

    /// The file's key-value pairs.
    pub fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// Tokens that switch an activated LoRA on; none for an ordinary one.
    pub fn invocation_tokens(&self) -> &[i32] {
        &self.invocation_tokens
    }

    /// What is added, and the factor on it for a context's `scale`.
    pub(super) fn pairs(&self, scale: f32) -> impl Iterator<Item = (&Pair, f32)> {
        self.pairs.iter().map(move |pair| match self.alpha {
            0.0 => (pair, scale),
            alpha => (pair, scale * alpha / pair.rank() as f32),
        })
    }
}

fn expect(meta: &Metadata, key: &'static str, expected: &str) -> Result<(), Error> {
    let found = meta.get_bytes(key)?.map(ByteStr::to_string_lossy).unwrap_or_default();
    match found == expected {
        true => Ok(()),
        false => Err(Error::Kind { key, found: found.into(), expected: expected.into() }),
    }
}

fn invocation_tokens(meta: &Metadata) -> Result<Vec<i32>, Error> {
    match meta.get(INVOCATION_TOKENS) {
        None => Ok(Vec::new()),
        Some(Value::Array(Array::U32(ids))) => Ok(ids.iter().map(|id| id.cast_signed()).collect()),
        Some(_) => Err(Error::InvocationTokens { key: INVOCATION_TOKENS }),
    }
}

/// The pairs of a file, by name. Norms that some adapters bring along are left out, as in
/// llama.cpp.
fn pairs(files: &ModelFiles) -> Result<Vec<Pair>, Error> {
    let mut halves: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in files.tensors() {
        if let Some(name) = tensor.name.strip_suffix(".lora_a") {
            halves.entry(name).or_default()[0] = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(".lora_b") {
            halves.entry(name).or_default()[1] = Some(tensor);
        } else if !tensor.name.ends_with("_norm.weight") {
            return Err(Error::Suffix { name: tensor.name.to_string() });
        }
    }
    let matrix = |name: &str, tensor: Option<&TensorInfo>, missing| {
        let tensor = tensor.ok_or_else(|| Error::Half { name: name.to_owned(), missing })?;
        let (ty, shape) = (tensor.ty, tensor.shape);
        if !can_compute(ty) {
            return Err(Error::UnsupportedType { name: name.to_owned(), found: ty });
        }
        Ok(Matrix { ty, shape, data: files.data(tensor)? })
    };
    let pair = |(name, [a, b]): (&str, [Option<&TensorInfo>; 2])| {
        let (a, b) = (matrix(name, a, "lora_a")?, matrix(name, b, "lora_b")?);
        Ok(Pair { name: name.to_owned(), a, b })
    };
    halves.into_iter().map(pair).collect()
}
