//! A loaded model: metadata, hyper-parameters, weights, plan.

use std::collections::HashMap;

use super::arch::{self, ArchSpec};
use super::{Error, Ftype, Hparams};
use crate::gguf::{Metadata, ModelFiles, Progress, TensorData};
use crate::plan::{Builder, Plan, TensorFacts, TensorId, Tensors};
use crate::quant::QuantType;
use crate::tensor::Shape;

/// One tensor of the file.
#[derive(Debug)]
pub struct Weight {
    /// Name.
    pub name: String,
    /// Number format.
    pub ty: QuantType,
    /// Extents, contiguous dimension first.
    pub shape: Shape,
    /// The bytes; `None` when only metadata was loaded.
    pub data: Option<TensorData>,
}

/// An immutable model.
#[derive(Debug)]
pub struct Model {
    meta: Metadata,
    arch: &'static ArchSpec,
    hparams: Hparams,
    ftype: Ftype,
    weights: Vec<Weight>,
    /// `None` for a model loaded for its vocabulary only.
    plan: Option<Plan>,
    n_bytes: u64,
    n_params: u64,
}

/// Number formats that the engine computes with.
pub const COMPUTE_TYPES: &[QuantType] = &[
    QuantType::F32,
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q8_0,
];

struct ByName<'a> {
    weights: &'a [Weight],
    index: HashMap<&'a str, usize>,
}

impl Tensors for ByName<'_> {
    fn find(&self, name: &str) -> Option<TensorFacts> {
        let at = *self.index.get(name)?;
        let w = &self.weights[at];
        Some(TensorFacts { id: TensorId(at), ty: w.ty, shape: w.shape })
    }

    fn can_compute(&self, ty: QuantType) -> bool {
        COMPUTE_TYPES.contains(&ty)
    }
}

impl Model {
    /// Checks the files' metadata against the architecture, then brings the weights into memory.
    ///
    /// `vocab_only` stops before the weights: such a model has no plan.
    pub fn load(
        mut files: ModelFiles,
        vocab_only: bool,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let arch = arch::find(files.meta().require_str("general.architecture")?)?;
        let hparams = (arch.hparams)(files.meta())?;
        let mut weights: Vec<Weight> = files
            .tensors()
            .iter()
            .map(|t| Weight { name: t.name.to_string(), ty: t.ty, shape: t.shape, data: None })
            .collect();
        let ftype = match files.meta().get_u32("general.file_type")? {
            Some(id) => Ftype { id, guessed: false },
            None => Ftype::guess(weights.iter().map(|w| w.ty)),
        };
        let n_bytes = files.tensors().iter().map(|t| t.n_bytes).sum();
        let n_params = weights.iter().map(|w| w.shape.n_elements()).sum();
        let mut plan = None;
        if !vocab_only {
            plan = Some(plan_of(arch, &hparams, &weights)?);
            files.load_tensors(progress)?;
            for (weight, info) in weights.iter_mut().zip(files.tensors()) {
                weight.data = files.data(info).ok();
            }
        }
        let meta = files.into_meta();
        Ok(Self { meta, arch, hparams, ftype, weights, plan, n_bytes, n_params })
    }

    /// The file's key-value pairs.
    pub fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// Name of the architecture.
    pub fn arch_name(&self) -> &'static str {
        self.arch.name
    }

    /// Sizes and constants.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// Overall quantisation.
    pub fn ftype(&self) -> Ftype {
        self.ftype
    }

    /// Tensors in the order of the file.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The weight of a plan's step.
    pub fn weight(&self, id: TensorId) -> &Weight {
        &self.weights[id.0]
    }

    /// The forward pass; `None` for a model loaded for its vocabulary only.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Whether the weights are in memory.
    pub fn has_data(&self) -> bool {
        self.plan.is_some() && self.weights.iter().all(|w| w.data.is_some())
    }

    /// Bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Elements of all tensors.
    pub fn n_params(&self) -> u64 {
        self.n_params
    }

    /// Architecture, size and quantisation in a few words: `llama 8B Q4_0`.
    pub fn description(&self) -> String {
        let size = (self.arch.size_name)(&self.hparams);
        format!("{} {size} {}", self.arch.name, self.ftype.name())
    }
}

fn plan_of(arch: &ArchSpec, hparams: &Hparams, weights: &[Weight]) -> Result<Plan, Error> {
    let index = weights.iter().enumerate().map(|(i, w)| (w.name.as_str(), i)).collect();
    let by_name = ByName { weights, index };
    let mut builder = Builder::new(&by_name);
    (arch.build)(hparams, &mut builder)?;
    let (plan, used) = builder.finish();
    for (i, weight) in weights.iter().enumerate() {
        // `input_scale` belongs to activation formats of other engines and does not change results.
        if !used.contains(&TensorId(i)) && !weight.name.ends_with(".input_scale") {
            crate::log_warn!(
                "tensor '{}' is not used by architecture '{}'",
                weight.name,
                arch.name
            );
        }
    }
    Ok(plan)
}
