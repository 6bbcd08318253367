//! Writes a model file in other number formats, one tensor after the other.
//!
//! | file | what it is |
//! |---|---|
//! | `file_type` | the mixes, by their numbers in files |
//! | `role`, `names` | what a tensor's name says: its part in the model, its layer |
//! | `mix` | which type each tensor gets |
//! | `plan` | the new file or files, before anything is written: keys, tensors, checks |
//! | `convert` | rows of one type to rows of another, on all threads |
//! | `output` | files that have their names when they are whole |
//!
//! Everything that can be refused is refused by the plan, before a file exists. Data are then mapped,
//! converted in slabs and written in order, so that memory does not grow with the model.
//!
//! To add a mix: a line in `file_type`, its name in `model::Ftype`, its rules in `mix`, and
//! `tests/tools/quantize_goldens.py`.

mod convert;
mod error;
mod file_type;
mod mix;
mod names;
mod output;
mod plan;
mod role;

use std::collections::HashMap;
use std::path::Path;

use fancy_regex::Regex;

pub use error::QuantizeError;
pub use file_type::FileType;

use crate::gguf::{KvOverride, LoadOptions, ModelFiles};
use crate::quant::QuantType;
use crate::util::sys;
use crate::{log_info, log_warn};
use convert::Converter;
use output::Output;
use plan::{Part, Plan, Target};

/// Most threads that are started.
const MAX_THREADS: usize = 256;

/// Importances of the columns of tensors, by name; those of all experts one after the other.
pub type Imatrix = HashMap<String, Vec<f32>>;

/// What and how. The names are those of `llama_model_quantize_params`.
#[derive(Clone, Debug)]
pub struct Params {
    /// Threads; 0 for as many as there are processors.
    pub n_threads: usize,
    /// The mix.
    pub file_type: FileType,
    /// Type of `output.weight`, and of embeddings that are the output matrix.
    pub output_tensor_type: Option<QuantType>,
    /// Type of the token embeddings.
    pub token_embedding_type: Option<QuantType>,
    /// Tensors that are quantised already may be quantised to another type.
    pub allow_requantize: bool,
    /// `output.weight` is quantised too.
    pub quantize_output_tensor: bool,
    /// No tensor changes its type.
    pub only_copy: bool,
    /// All tensors get the mix's own type.
    pub pure: bool,
    /// As many files as the model has; the output's path is the prefix of their names.
    pub keep_split: bool,
    /// Says what would be written.
    pub dry_run: bool,
    /// Importances of columns. That there are some changes types, whatever is in it.
    pub imatrix: Option<Imatrix>,
    /// Keys of the new file.
    pub kv_overrides: Vec<KvOverride>,
    /// Types of tensors by name, the first that fits counts.
    pub tensor_types: Vec<TypePattern>,
    /// Layers to leave out, by number.
    pub prune_layers: Vec<u32>,
    /// Most bytes of rows that are in memory at once, beside a row for each thread; 0 for what is
    /// good.
    pub max_buf_size: usize,
}

impl Params {
    /// The defaults for a mix.
    pub fn new(file_type: FileType) -> Self {
        Self {
            n_threads: 0,
            file_type,
            output_tensor_type: None,
            token_embedding_type: None,
            allow_requantize: false,
            quantize_output_tensor: true,
            only_copy: false,
            pure: false,
            keep_split: false,
            dry_run: false,
            imatrix: None,
            kv_overrides: Vec::new(),
            tensor_types: Vec::new(),
            prune_layers: Vec::new(),
            max_buf_size: 0,
        }
    }
}

/// The type for tensors whose names have a match of a regular expression.
#[derive(Clone, Debug)]
pub struct TypePattern {
    pattern: Regex,
    ty: QuantType,
}

impl TypePattern {
    /// Compiles the expression.
    pub fn new(pattern: &str, ty: QuantType) -> Result<Self, QuantizeError> {
        let pattern = Regex::new(pattern).map_err(|error| QuantizeError::Pattern {
            pattern: pattern.into(),
            error: error.to_string(),
        })?;
        Ok(Self { pattern, ty })
    }
}

/// What was written, or would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name, old and new type of each tensor, in the order of the new file.
    pub tensors: Vec<(String, QuantType, QuantType)>,
    /// Bytes of all tensors that stay, before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
}

/// Writes the model `input` as `output` in the types that `params` say.
///
/// The output has its name only when it is whole; what was there before stays until then. With
/// [`Params::dry_run`] nothing is written.
pub fn quantize(input: &Path, output: &Path, params: &Params) -> Result<Summary, QuantizeError> {
    let options = LoadOptions {
        kv_overrides: params.kv_overrides.clone(),
        no_alloc: params.dry_run,
        prefetch: false,
        ..LoadOptions::default()
    };
    let mut files = ModelFiles::open(input, &options)?;
    let plan = Plan::new(&files, params)?;
    let summary = plan.summary();
    log_info!("quantizing '{}' to {}", input.display(), plan.name(params));
    if params.dry_run {
        let n = plan.n_tensors();
        for (i, target) in plan.targets().enumerate() {
            report(i, n, target);
        }
    } else {
        let n_threads = match params.n_threads {
            0 => sys::n_cpus(),
            n => n.min(MAX_THREADS),
        };
        let converter = Converter::new(n_threads, params.max_buf_size)?;
        let mut outputs = plan
            .parts
            .iter()
            .map(|part| Output::create(&plan.path_of(part, output), &files))
            .collect::<Result<Vec<_>, _>>()?;
        files.load_tensors(&mut |_| true)?;
        let mut done = 0;
        for (part, output) in plan.parts.iter().zip(&mut outputs) {
            write(part, output, &files, &converter, (&mut done, plan.n_tensors()))?;
        }
        outputs.into_iter().try_for_each(Output::keep)?;
    }
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let bits = |bytes: u64| bytes as f64 * 8.0 / plan.n_elements().max(1) as f64;
    let Summary { bytes_before, bytes_after, .. } = summary;
    log_info!("model size = {:8.2} MiB ({:.2} BPW)", mib(bytes_before), bits(bytes_before));
    log_info!("quant size = {:8.2} MiB ({:.2} BPW)", mib(bytes_after), bits(bytes_after));
    if plan.n_fallback > 0 {
        let n = plan.n_tensors();
        log_warn!("{} of {n} tensors required fallback quantization", plan.n_fallback);
    }
    Ok(summary)
}

/// Writes one of the files.
fn write(
    part: &Part,
    output: &mut Output,
    files: &ModelFiles,
    converter: &Converter,
    (done, n): (&mut usize, usize),
) -> Result<(), QuantizeError> {
    let path = output.path().to_owned();
    let mut out = part.header.start(output)?;
    for target in &part.targets {
        let data = files.data(&target.source)?;
        converter.convert(target, &data, &mut |bytes| Ok(out.write(bytes)?))?;
        data.release();
        report(*done, n, target);
        *done += 1;
    }
    out.finish()?.end().map_err(QuantizeError::io("write the file", path))
}

/// A line about a tensor that is done.
fn report(i: usize, n: usize, target: &Target) {
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let [a, b, c, d] = *target.source.shape.ne();
    let (from, to) = (target.source.ty, target.ty);
    let sizes = match from == to {
        true => format!("size = {:8.3} MiB", mib(target.source.n_bytes)),
        false => format!(
            "size = {:8.2} MiB -> {:8.2} MiB ({to})",
            mib(target.source.n_bytes),
            mib(target.n_bytes)
        ),
    };
    let name = &target.name;
    log_info!(
        "[{:4}/{n:4}] {name:36} - [{a:5}, {b:5}, {c:5}, {d:5}], type = {from:>6}, {sizes}",
        i + 1
    );
}
