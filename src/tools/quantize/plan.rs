//! What the new file or files will be.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::mix::{Facts, Mixer, needs_imatrix};
use super::names::{self, Pruning};
use super::role::Role;
use super::{Params, QuantizeError, Summary};
use crate::gguf::{
    Array, Metadata, ModelFiles, OverrideValue, TensorInfo, Value, Writer, split_path,
};
use crate::model::Ftype;
use crate::quant::{QuantType, can_quantize, needs_importance};
use crate::{log_info, log_warn};

/// Version of the block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;
const FILE_TYPE: &str = "general.file_type";
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];
/// Keys after `<arch>.` whose values may be one for each layer.
const PER_LAYER: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
    "attention.indexer.types",
    "feed_forward_length",
    "expert_feed_forward_length",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
    "activation_sparsity_scale",
];

/// A tensor of the new file.
pub(super) struct Target {
    pub name: String,
    /// The tensor that it is made of.
    pub source: TensorInfo,
    pub ty: QuantType,
    /// Size in the new type.
    pub n_bytes: u64,
    /// Importances of its columns, one row of them for each expert.
    pub importance: Option<Vec<f32>>,
}

/// A file to be.
pub(super) struct Part {
    no: u32,
    pub header: Writer,
    pub targets: Vec<Target>,
}

/// All files to be.
pub(super) struct Plan {
    pub parts: Vec<Part>,
    /// They get names of splits.
    split_names: bool,
    file_type: u32,
    /// Tensors that got another type than they should because of their rows.
    pub n_fallback: usize,
}

impl Plan {
    pub(super) fn new(files: &ModelFiles, params: &Params) -> Result<Self, QuantizeError> {
        let facts = Facts::of(files.meta())?;
        check_imatrix(params)?;
        let mut pruning = Pruning::new(&params.prune_layers);
        for layer in pruning.layers().iter().filter(|&&layer| layer >= facts.n_layer) {
            log_warn!("no layer {layer} to prune: the model has {}", facts.n_layer);
        }
        let sources = ordered(files, &mut pruning, params.keep_split);
        if pruning.is_wanted() && pruning.n_layer() == 0 && facts.n_layer > 0 {
            return Err(QuantizeError::NoLayers { n_layer: facts.n_layer });
        }

        let names = sources.iter().map(|(name, _)| name.as_str());
        let mut mixer = Mixer::new(params, &facts, names);
        let mut targets = Vec::with_capacity(sources.len());
        let mut lacking = None;
        for (name, source) in sources {
            let ty = mixer.choose(&name, &source)?;
            let may_change = mixer.may_change(&name, &source);
            let (target, error) = target(name, source, ty, may_change, params);
            match error {
                Some(error) if !params.dry_run => return Err(error),
                error => lacking = lacking.or(error),
            }
            targets.push(target);
        }
        if let Some(error) = lacking {
            log_warn!("this is a dry run, quantizing would fail: {error}");
        }

        let file_type = match params.only_copy {
            true => file_type_of(files)?,
            false => params.file_type as u32,
        };
        let header = first_header(files, params, &facts, &pruning, file_type)?;
        let n_fallback = mixer.n_fallback;
        let parts = parts(header, targets, params.keep_split)?;
        Ok(Self { parts, split_names: params.keep_split, file_type, n_fallback })
    }

    /// What the new files are called in messages.
    pub(super) fn name(&self, params: &Params) -> String {
        let name = Ftype::from_c_id(self.file_type).name();
        let also = |on, what| if on { what } else { "" };
        format!(
            "{name}{}{}{}",
            also(params.pure, ", pure"),
            also(params.imatrix.is_some(), ", with importances"),
            also(params.dry_run, " (dry run)")
        )
    }

    /// Where a part is written.
    pub(super) fn path_of(&self, part: &Part, output: &Path) -> PathBuf {
        if !self.split_names {
            return output.to_owned();
        }
        let mut path = OsString::from(output);
        path.push(split_path("", part.no, self.parts.len() as u32));
        path.into()
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.parts.iter().flat_map(|part| &part.targets)
    }

    pub(super) fn n_tensors(&self) -> usize {
        self.targets().count()
    }

    pub(super) fn n_elements(&self) -> u64 {
        self.targets().map(|t| t.source.shape.n_elements()).fold(0, u64::saturating_add)
    }

    pub(super) fn summary(&self) -> Summary {
        let sum =
            |bytes: fn(&Target) -> u64| self.targets().map(bytes).fold(0, u64::saturating_add);
        Summary {
            tensors: self.targets().map(|t| (t.name.clone(), t.source.ty, t.ty)).collect(),
            bytes_before: sum(|t| t.source.n_bytes),
            bytes_after: sum(|t| t.n_bytes),
        }
    }
}

fn check_imatrix(params: &Params) -> Result<(), QuantizeError> {
    let Some(imatrix) = &params.imatrix else { return Ok(()) };
    log_info!("importance matrix with {} entries", imatrix.len());
    let mut bad = imatrix.iter().filter(|(_, values)| values.iter().any(|v| !v.is_finite()));
    match bad.next() {
        Some((name, _)) => Err(QuantizeError::ImatrixValue { tensor: name.clone() }),
        None => Ok(()),
    }
}

/// The tensors that stay, with their new names, in the order of the new file.
fn ordered(
    files: &ModelFiles,
    pruning: &mut Pruning,
    keep_split: bool,
) -> Vec<(String, TensorInfo)> {
    let mut tensors: Vec<&TensorInfo> = files.tensors().iter().collect();
    tensors.sort_by(|a, b| names::order(&a.name, &b.name));
    let renamed = |t: &TensorInfo| Some((pruning.rename(&t.name)?, t.clone()));
    let mut kept: Vec<_> = tensors.into_iter().filter_map(renamed).collect();
    if keep_split {
        kept.sort_by_key(|(_, t)| (t.split, t.offset));
    }
    kept
}

/// A tensor to be, and why it cannot be made where it cannot.
fn target(
    name: String,
    source: TensorInfo,
    ty: QuantType,
    may_change: bool,
    params: &Params,
) -> (Target, Option<QuantizeError>) {
    let [n_cols, _, n_expert, n_outer] = *source.shape.ne();
    let tensor = || name.clone();
    let changes = source.ty != ty;
    let n_importances = n_cols.saturating_mul(n_expert);
    let given = params.imatrix.as_ref().filter(|_| changes).map(|all| all.get(&*source.name));
    let mut error = None;
    let importance = match given {
        Some(Some(values)) if values.len() as u64 == n_importances && n_outer == 1 => {
            Some(values.clone())
        }
        // Those of the embeddings are counted by token, of which they are not made.
        Some(Some(values)) if Role::of(&name) != Role::TokenEmbd => {
            let (found, expected) = (values.len(), n_importances);
            error = Some(QuantizeError::ImatrixSize { tensor: tensor(), found, expected });
            None
        }
        Some(_) => {
            log_info!("no importances for {name}");
            None
        }
        None => None,
    };
    let required = (may_change && needs_imatrix(&name, ty, params.file_type))
        || (changes && needs_importance(ty));
    let lacks = importance.is_none() && (changes || params.imatrix.is_none());
    let is_float = |ty: QuantType| matches!(ty, QuantType::F32 | QuantType::F16 | QuantType::BF16);
    if error.is_none() && required && lacks {
        error = Some(QuantizeError::NeedsImatrix { tensor: tensor(), ty });
    } else if error.is_none() && changes {
        error = if is_integer(source.ty) {
            Some(QuantizeError::NotFloat { tensor: tensor(), ty: source.ty })
        } else if !can_be_made(ty) {
            Some(QuantizeError::NoQuantizer { tensor: tensor(), ty })
        } else if !is_float(source.ty) && !params.allow_requantize {
            Some(QuantizeError::Requantize { tensor: tensor(), ty: source.ty })
        } else {
            None
        };
    }
    let row_bytes = ty.row_bytes(n_cols);
    let n_bytes = row_bytes.and_then(|n| n.checked_mul(source.shape.n_rows()));
    if n_bytes.is_none() {
        error = Some(QuantizeError::NoFallback { tensor: tensor(), ty, n_cols });
    }
    let n_bytes = n_bytes.unwrap_or(0);
    (Target { name, source, ty, n_bytes, importance }, error)
}

fn is_integer(ty: QuantType) -> bool {
    use QuantType as T;
    matches!(ty, T::I8 | T::I16 | T::I32 | T::I64 | T::F64)
}

/// Whether files may have the type and there is an encoder.
fn can_be_made(ty: QuantType) -> bool {
    can_quantize(ty) && !matches!(ty, QuantType::Q8_1 | QuantType::Q8_K)
}

/// What the file says of itself, or what its tensors say.
fn file_type_of(files: &ModelFiles) -> Result<u32, QuantizeError> {
    let mut tensors: Vec<&TensorInfo> = files.tensors().iter().collect();
    tensors.sort_by(|a, b| names::order(&a.name, &b.name));
    let guess = || Ftype::guess(tensors.iter().map(|t| t.ty)).c_id();
    Ok(files.meta().get_u32(FILE_TYPE)?.unwrap_or_else(guess))
}

/// The keys of the new file, or of the first one.
fn first_header(
    files: &ModelFiles,
    params: &Params,
    facts: &Facts,
    pruning: &Pruning,
    file_type: u32,
) -> Result<Writer, QuantizeError> {
    let meta = files.meta();
    let mut header = Writer::copy_of(meta);
    // Keys that are set come last, as in llama.cpp's files.
    let set = |header: &mut Writer, key: &str, value: Value| {
        header.remove(key);
        header.set(key, value)
    };
    set(&mut header, "general.quantization_version", Value::U32(QUANTIZATION_VERSION))?;
    set(&mut header, FILE_TYPE, Value::U32(file_type))?;
    for key in SPLIT_KEYS {
        header.remove(key);
    }
    for kv in &params.kv_overrides {
        let value = match &kv.value {
            // Most integers of metadata are of this type.
            OverrideValue::Int(v) => Value::U32(v.unsigned_abs() as u32),
            OverrideValue::Float(v) => Value::F32(*v as f32),
            OverrideValue::Bool(v) => Value::Bool(*v),
            OverrideValue::Str(v) => Value::Str(v.as_str().into()),
        };
        set(&mut header, &kv.key, value)?;
    }
    if pruning.is_wanted() {
        let key = format!("{}.block_count", facts.arch);
        set(&mut header, &key, Value::U32(pruning.n_layer()))?;
        for key in PER_LAYER {
            prune_list(&mut header, &format!("{}.{key}", facts.arch), facts, pruning, meta)?;
        }
    }
    Ok(header)
}

/// Leaves the pruned layers out of a list with a value for each layer.
fn prune_list(
    header: &mut Writer,
    key: &str,
    facts: &Facts,
    pruning: &Pruning,
    meta: &Metadata,
) -> Result<(), QuantizeError> {
    fn without<T: Clone>(list: &[T], pruning: &Pruning) -> Vec<T> {
        let kept = list.iter().zip(0..).filter(|(_, layer)| !pruning.leaves_out(*layer));
        kept.map(|(value, _)| value.clone()).collect()
    }
    let Some(list) = meta.file_value(key).and_then(Value::as_array) else { return Ok(()) };
    if list.len() as u64 != u64::from(facts.n_layer) {
        return Ok(());
    }
    let pruned = match list {
        Array::U32(list) => Array::U32(without(list, pruning)),
        Array::I32(list) => Array::I32(without(list, pruning)),
        Array::F32(list) => Array::F32(without(list, pruning)),
        Array::Bool(list) => Array::Bool(without(list, pruning)),
        _ => return Ok(()),
    };
    Ok(header.set(key, Value::Array(pruned))?)
}

/// Distributes the tensors over the files.
fn parts(
    header: Writer,
    targets: Vec<Target>,
    keep_split: bool,
) -> Result<Vec<Part>, QuantizeError> {
    let n_tensors = targets.len();
    let split_of = |t: &Target| if keep_split { u32::from(t.source.split) } else { 0 };
    let n = targets.iter().map(split_of).max().unwrap_or(0) + 1;
    let magic = header.magic();
    let mut parts: Vec<Part> =
        (0..n).map(|no| Part { no, header: Writer::new(magic), targets: Vec::new() }).collect();
    parts[0].header = header;
    for target in targets {
        let part = &mut parts[split_of(&target) as usize];
        part.header.add_tensor(&target.name, target.source.shape.dims(), target.ty)?;
        part.targets.push(target);
    }
    if n > 1 {
        let count = i32::try_from(n_tensors).unwrap_or(i32::MAX);
        for (no, part) in parts.iter_mut().enumerate() {
            let values = [Value::U16(no as u16), Value::U16(n as u16), Value::I32(count)];
            for (key, value) in SPLIT_KEYS.into_iter().zip(values) {
                part.header.set(key, value)?;
            }
        }
    }
    Ok(parts)
}
