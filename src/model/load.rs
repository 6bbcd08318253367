//! A loaded model: metadata, hyper-parameters, weights, plan.

use std::collections::HashMap;

use super::arch::{self, ArchSpec};
use super::{Error, Fingerprint, Ftype, Hparams, Layout, layout};
use crate::gguf::{Magic, Metadata, ModelFiles, Progress, TensorData, TensorInfo};
use crate::plan::{Builder, Plan, RopeStyle, Skipping, TensorFacts, TensorId, Tensors};
use crate::quant::QuantType;
use crate::tensor::Shape;

/// One tensor of the file.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name.
    pub name: String,
    /// Number format.
    pub ty: QuantType,
    /// Extents, contiguous dimension first.
    pub shape: Shape,
    /// How the bytes lie.
    pub layout: Layout,
    /// The bytes; `None` when only metadata was loaded.
    pub data: Option<TensorData>,
}

/// An immutable model. A clone shares the weights' bytes.
#[derive(Clone, Debug)]
pub struct Model {
    meta: Metadata,
    arch_name: String,
    core: Option<Core>,
    ftype: Ftype,
    weights: Vec<Weight>,
    n_bytes: u64,
    n_params: u64,
}

/// What a model has unless it was loaded for its vocabulary only.
#[derive(Clone, Debug)]
struct Core {
    arch: &'static ArchSpec,
    hparams: Hparams,
    plan: Plan,
    /// The weights are in memory, not only their names.
    has_data: bool,
    /// Of the weights as they are in the file; `None` without them.
    fingerprint: Option<Fingerprint>,
}

/// Whether the engine computes with weights of this format: all but integers, F64 and the formats
/// of activations, which no file has as weights.
pub fn can_compute(ty: QuantType) -> bool {
    use QuantType as T;
    !matches!(ty, T::I8 | T::I16 | T::I32 | T::I64 | T::F64 | T::Q8_1 | T::Q8_K)
}

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
        can_compute(ty)
    }
}

impl Model {
    /// Checks the files' metadata against the architecture, then brings the weights into memory.
    ///
    /// `vocab_only` looks at metadata alone, so that any architecture will do. `skipping` says which
    /// feed-forward networks may skip neurons.
    pub fn load(
        mut files: ModelFiles,
        vocab_only: bool,
        skipping: Skipping,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let arch_name = files.meta().require_str("general.architecture")?.to_owned();
        let weight = |t: &TensorInfo| Weight {
            name: t.name.to_string(),
            ty: t.ty,
            shape: t.shape,
            layout: Layout::Rows,
            data: None,
        };
        let mut weights: Vec<Weight> = files.tensors().iter().map(weight).collect();
        let ftype = match files.meta().get_u32("general.file_type")? {
            Some(id) => Ftype { id, guessed: false },
            None => Ftype::guess(weights.iter().map(|w| w.ty)),
        };
        let n_bytes = files.tensors().iter().map(|t| t.n_bytes).sum();
        let n_params = weights.iter().map(|w| w.shape.n_elements()).sum();
        let mut core = None;
        if !vocab_only {
            let arch = arch::find(&arch_name)?;
            let hparams = (arch.hparams)(files.meta())?;
            let predictors = files.meta().magic() == Magic::Pwri;
            let mut plan = plan_of(arch, &hparams, &weights, skipping, predictors)?;
            files.load_tensors(progress)?;
            for (weight, info) in weights.iter_mut().zip(files.tensors()) {
                weight.data = files.data(info).ok();
            }
            let has_data = weights.iter().all(|w| w.data.is_some());
            let fingerprint = has_data.then(|| Fingerprint::of(files.meta(), &weights));
            layout::by_neurons(&mut plan, &mut weights)?;
            core = Some(Core { arch, hparams, plan, has_data, fingerprint });
        }
        let meta = files.into_meta();
        Ok(Self { meta, arch_name, core, ftype, weights, n_bytes, n_params })
    }

    /// The same model as if it had been loaded with [`Skipping::Small`], which takes in whatever
    /// skips neurons already. Down projections stay as they lie.
    pub fn with_small_skipping(&self) -> Result<Self, Error> {
        let mut model = self.clone();
        let Some(core) = &mut model.core else { return Ok(model) };
        let predictors = self.meta.magic() == Magic::Pwri;
        let as_filed: Vec<Weight> = self.weights.iter().map(Weight::as_filed).collect();
        core.plan = plan_of(core.arch, &core.hparams, &as_filed, Skipping::Small, predictors)?;
        layout::keep(&mut core.plan, &self.weights);
        Ok(model)
    }

    /// Tells the model from others; `None` without weights.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.core.as_ref()?.fingerprint
    }

    /// The file's key-value pairs.
    pub fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// `general.architecture`.
    pub fn arch_name(&self) -> &str {
        &self.arch_name
    }

    /// Sizes and constants; `None` for a model loaded for its vocabulary only.
    pub fn hparams(&self) -> Option<&Hparams> {
        self.core.as_ref().map(|c| &c.hparams)
    }

    /// Pairs of the architecture's rotary embedding, if it has one.
    pub fn rope_style(&self) -> Option<RopeStyle> {
        self.core.as_ref().and_then(|c| c.arch.rope)
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
        self.core.as_ref().map(|c| &c.plan)
    }

    /// Whether the weights are in memory.
    pub fn has_data(&self) -> bool {
        self.core.as_ref().is_some_and(|c| c.has_data)
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
        let size = self.core.as_ref().map_or("?B", |c| (c.arch.size_name)(&c.hparams));
        format!("{} {size} {}", self.arch_name, self.ftype.name())
    }
}

fn plan_of(
    arch: &ArchSpec,
    hparams: &Hparams,
    weights: &[Weight],
    skipping: Skipping,
    predictors: bool,
) -> Result<Plan, Error> {
    let (plan, used) = built(arch, hparams, weights, skipping, predictors)?;
    for (i, weight) in weights.iter().enumerate() {
        // `input_scale` belongs to activation formats of other engines and does not change results;
        // how often neurons fire (`activation_count`) says where to place them.
        let known = [".input_scale", ".activation_count"];
        if !used.contains(&TensorId(i)) && !known.iter().any(|end| weight.name.ends_with(end)) {
            crate::log_warn!(
                "tensor '{}' is not used by architecture '{}'",
                weight.name,
                arch.name
            );
        }
    }
    Ok(plan)
}

/// The plan, and the weights that it asked for in their order.
fn built(
    arch: &ArchSpec,
    hparams: &Hparams,
    weights: &[Weight],
    skipping: Skipping,
    predictors: bool,
) -> Result<(Plan, Vec<TensorId>), Error> {
    let index = weights.iter().enumerate().map(|(i, w)| (w.name.as_str(), i)).collect();
    let by_name = ByName { weights, index };
    let mut builder = Builder::new(&by_name).with_skipping(skipping, predictors);
    (arch.build)(hparams, &mut builder)?;
    Ok(builder.finish())
}

/// Numbers of the weights that a dense plan asks for, in that order.
pub(super) fn plan_uses(
    arch: &ArchSpec,
    hparams: &Hparams,
    weights: &[Weight],
) -> Result<Vec<usize>, Error> {
    let (_, used) = built(arch, hparams, weights, Skipping::AsStored, false)?;
    Ok(used.into_iter().map(|id| id.0).collect())
}
