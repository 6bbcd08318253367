//! The plan of a model with what adapters and control vectors add.

use std::collections::{BTreeMap, HashMap};

use super::lora::Pair;
use super::pack::{self, Outs, Part};
use super::{ControlVector, Error, Lora};
use crate::log_warn;
use crate::model::{Model, Weight};
use crate::plan::{
    ExpertMat, LowRank, Mat, Plan, RowOf, SkippingExperts, SkippingFfn, Slot, SlotId, Step,
    StepKind, TensorId,
};
use crate::quant::QuantType;
use crate::util::aligned::OutOfMemory;
use crate::util::bytes;

/// A plan with additional steps, and their weights.
#[derive(Debug)]
pub struct Adapted {
    /// The steps. Buffers of the model's plan have the numbers that they have there.
    pub plan: Plan,
    /// Weights whose numbers come after the model's.
    pub weights: Vec<Weight>,
}

impl Adapted {
    /// The model's plan with these adapters, each times its scale, and directions; `None` when
    /// nothing is added.
    pub fn new<'a>(
        model: &Model,
        loras: impl IntoIterator<Item = (&'a Lora, f32)>,
        control: &ControlVector,
    ) -> Result<Option<Self>, Error> {
        let plan = model.plan().ok_or(Error::NoWeights)?;
        let mut pairs: HashMap<TensorId, Vec<(&Pair, f32)>> = HashMap::new();
        for (pair, factor) in loras.into_iter().flat_map(|(lora, scale)| lora.pairs(scale)) {
            pairs.entry(pair.target(model)?).or_default().push((pair, factor));
        }
        let new = Plan { steps: Vec::with_capacity(plan.steps.len()), ..plan.clone() };
        let mut adapting = Adapting { model, pairs, plan: new, weights: Vec::new() };
        let directions = adapting.directions(control)?;
        let ends = layer_ends(plan);
        for (i, step) in plan.steps.iter().enumerate() {
            adapting.step(step)?;
            let Some((table, (il, streams))) = directions.zip(ends.get(&i)) else { continue };
            for &dst in streams.iter().filter(|_| control.acts_on(*il)) {
                let kind = StepKind::AddRow { table, row: RowOf::Fixed(*il), scale: 1.0, dst };
                adapting.plan.steps.push(Step { name: format!("cvec-{il}"), kind });
            }
        }
        let Adapting { plan, weights, .. } = adapting;
        Ok((!weights.is_empty()).then_some(Self { plan, weights }))
    }
}

/// Weights of products that a plan computes, whose results can be added to.
pub(super) fn adaptable(plan: &Plan) -> impl Iterator<Item = TensorId> {
    plan.steps.iter().flat_map(|step| match &step.kind {
        StepKind::Embed { weight, .. } => vec![*weight],
        StepKind::MatMul { mats, .. } => mats.iter().map(|mat| mat.weight).collect(),
        StepKind::ExpertMatMul { mats, .. } => mats.iter().map(|mat| mat.weight).collect(),
        StepKind::SkippingExperts(step) => {
            [step.gate, step.up, step.down].map(|mat| mat.weight).into()
        }
        StepKind::SkippingFfn(ffn) => {
            ffn.inputs().iter().map(|mat| mat.weight).chain([ffn.down.weight]).collect()
        }
        _ => Vec::new(),
    })
}

/// Last steps of layers, with the layer and the state that leaves it: those whose node is the last
/// one with the layer's number.
fn layer_ends(plan: &Plan) -> HashMap<usize, (usize, Vec<SlotId>)> {
    let mut last: BTreeMap<usize, (usize, Vec<SlotId>)> = BTreeMap::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let layer = step.name.rsplit_once('-').and_then(|(_, il)| il.parse::<usize>().ok());
        let Some(il) = layer else { continue };
        let (end, streams) = last.entry(il).or_default();
        *end = i;
        match &step.kind {
            StepKind::CorrectStreams { streams: all, .. } => streams.clone_from(all),
            // One of several.
            _ if streams.len() > 1 => {}
            StepKind::MatMul { dst, .. }
            | StepKind::Norm { dst, .. }
            | StepKind::Add { dst, .. }
            | StepKind::FromExperts { dst, .. } => *streams = vec![*dst],
            StepKind::SkippingFfn(ffn) => *streams = vec![ffn.dst],
            _ => streams.clear(),
        }
    }
    last.into_iter().map(|(il, (end, streams))| (end, (il, streams))).collect()
}

/// A plan in the making.
struct Adapting<'a> {
    model: &'a Model,
    pairs: HashMap<TensorId, Vec<(&'a Pair, f32)>>,
    plan: Plan,
    weights: Vec<Weight>,
}

/// A matrix of a product.
struct Target {
    weight: TensorId,
    outs: Outs,
    /// What the model does to the product before it goes on.
    factor: f32,
}

/// [`LowRank`] by its weights.
struct Packed {
    a: TensorId,
    rank: usize,
    hidden: SlotId,
    b: Vec<TensorId>,
}

impl Adapting<'_> {
    /// A step and what is added to its output.
    fn step(&mut self, step: &Step) -> Result<(), Error> {
        let mut step = step.clone();
        let mut added = Vec::new();
        match &mut step.kind {
            StepKind::Embed { weight, dst, scale, .. } => {
                added = self.looked_up(*weight, *dst, *scale)?;
            }
            StepKind::MatMul { src, mats, dst, add } => {
                let scale = add.unwrap_or(1.0);
                if let Some(LowRank { a, hidden, b }) = self.products(*src, mats, scale, *dst)? {
                    let (dst, add) = (*dst, Some(1.0));
                    added = vec![
                        StepKind::MatMul { src: *src, mats: vec![a], dst: hidden, add: None },
                        StepKind::MatMul { src: hidden, mats: b, dst, add },
                    ];
                }
            }
            StepKind::ExpertMatMul { src, mats, dst, .. } => {
                if let Some(LowRank { a, hidden, b }) = self.experts(*src, mats, *dst)? {
                    let (src, dst, mats) = (*src, *dst, vec![a]);
                    added = vec![
                        StepKind::ExpertMatMul { src, mats, dst: hidden, add: false },
                        StepKind::ExpertMatMul { src: hidden, mats: b, dst, add: true },
                    ];
                }
            }
            StepKind::SkippingExperts(step) => {
                let SkippingExperts { src, gate, up, down, acted, dst, .. } = **step;
                step.adapted_in = self.experts(src, &[gate, up], step.gate_up)?;
                step.adapted_out = self.experts(acted, &[down], dst)?;
            }
            StepKind::SkippingFfn(ffn) => {
                let SkippingFfn { src, acted, dst, scale, .. } = **ffn;
                ffn.adapted_in = self.products(src, &ffn.inputs(), 1.0, dst)?;
                let down = ffn.down.mat(self.plan.slot(dst).width);
                ffn.adapted_out = self.products(acted, &[down], scale, dst)?;
            }
            _ => {}
        }
        let name = lora_name(&step.name);
        self.plan.steps.push(step);
        let added = added.into_iter().map(|kind| Step { name: name.clone(), kind });
        self.plan.steps.extend(added);
        Ok(())
    }

    /// Low rank for matrices over `src`, side by side; rows as `like` has them.
    fn products(
        &mut self,
        src: SlotId,
        mats: &[Mat],
        scale: f32,
        like: SlotId,
    ) -> Result<Option<LowRank<Mat>>, Error> {
        let targets = mats.iter().map(|mat| {
            // A factor that comes before the bias is for the model's own product alone.
            let own = mat.scale.filter(|_| mat.scale_last).map_or(1.0, |id| self.number(id));
            let outs = Outs { first: mat.first_row, n: mat.n_out };
            Target { weight: mat.weight, outs, factor: scale * own }
        });
        let targets: Vec<Target> = targets.collect();
        let packed = self.pack(src, &targets, 1, like)?;
        let mat = |weight, n_out| Mat::plain(weight, QuantType::F32, n_out);
        Ok(packed.map(|Packed { a, rank, hidden, b }| LowRank {
            a: mat(a, rank),
            hidden,
            b: b.into_iter().zip(mats).map(|(b, own)| mat(b, own.n_out)).collect(),
        }))
    }

    /// The same for matrices of experts.
    fn experts(
        &mut self,
        src: SlotId,
        mats: &[ExpertMat],
        like: SlotId,
    ) -> Result<Option<LowRank<ExpertMat>>, Error> {
        let target = |mat: &ExpertMat| Target {
            weight: mat.weight,
            outs: Outs { first: 0, n: mat.n_out },
            factor: 1.0,
        };
        let targets: Vec<Target> = mats.iter().map(target).collect();
        let n_expert = mats.first().map_or(0, |mat| self.model.weight(mat.weight).shape.ne()[2]);
        let packed = self.pack(src, &targets, n_expert as usize, like)?;
        let mat = |weight, n_out| ExpertMat {
            weight,
            ty: QuantType::F32,
            n_out,
            scale: None,
            bias: None,
        };
        Ok(packed.map(|Packed { a, rank, hidden, b }| LowRank {
            a: mat(a, rank),
            hidden,
            b: b.into_iter().zip(mats).map(|(b, own)| mat(b, own.n_out)).collect(),
        }))
    }

    /// Steps that add to rows which tokens look up.
    fn looked_up(
        &mut self,
        weight: TensorId,
        dst: SlotId,
        scale: f32,
    ) -> Result<Vec<StepKind>, Error> {
        let pairs = self.pairs.get(&weight).map_or(&[][..], Vec::as_slice);
        let looked_up = pairs.iter().filter(|(pair, _)| pair.is_looked_up());
        let parts: Vec<Part<'_>> = looked_up
            .map(|&(pair, factor)| Part { pair, mat: 0, factor: factor * scale })
            .collect();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let n_vocab = self.model.weight(weight).shape.n_rows() as usize;
        let (rank, n_out) = (pack::rank(&parts), self.plan.slot(dst).width);
        let a = pack::looked_up_a(&parts, n_vocab)?;
        let b = pack::b(&parts, 0, Outs { first: 0, n: n_out }, 1)?;
        let hidden = self.hidden(rank, dst);
        let (a, weight) = (self.push(a), self.push(b));
        let mat = Mat::plain(weight, QuantType::F32, n_out);
        // Embeddings that the caller gives are what they are.
        Ok(vec![
            StepKind::Embed { weight: a, dst: hidden, scale: 1.0, input_scale: None },
            StepKind::MatMul { src: hidden, mats: vec![mat], dst, add: Some(1.0) },
        ])
    }

    fn pack(
        &mut self,
        src: SlotId,
        targets: &[Target],
        n_expert: usize,
        like: SlotId,
    ) -> Result<Option<Packed>, OutOfMemory> {
        let mut parts = Vec::new();
        for (mat, target) in targets.iter().enumerate() {
            let pairs = self.pairs.get(&target.weight).map_or(&[][..], Vec::as_slice);
            // Embeddings that make logits too are adapted as embeddings alone.
            let multiplied = |pair: &Pair| !pair.is_looked_up() && pair.n_expert() == n_expert;
            for &(pair, factor) in pairs.iter().filter(|(pair, _)| multiplied(pair)) {
                parts.push(Part { pair, mat, factor: factor * target.factor });
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let n_in = self.plan.slot(src).width;
        let a = pack::a(&parts, n_in, n_expert)?;
        let b = targets.iter().enumerate().map(|(i, t)| pack::b(&parts, i, t.outs, n_expert));
        let b: Vec<Weight> = b.collect::<Result<_, _>>()?;
        let rank = pack::rank(&parts);
        let hidden = self.hidden(rank, like);
        let (a, b) = (self.push(a), b.into_iter().map(|b| self.push(b)).collect());
        Ok(Some(Packed { a, rank, hidden, b }))
    }

    /// A buffer of hidden numbers, with rows as `like` has them.
    fn hidden(&mut self, width: usize, like: SlotId) -> SlotId {
        let Slot { rows, per_row, .. } = *self.plan.slot(like);
        let slot = Slot { per_row, name: "adapter", width, rows };
        let slots = &mut self.plan.slots;
        let at = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
            slots.push(slot);
            slots.len() - 1
        });
        SlotId(at)
    }

    fn push(&mut self, weight: Weight) -> TensorId {
        self.weights.push(weight);
        TensorId(self.model.weights().len() + self.weights.len() - 1)
    }

    /// The weight of one element.
    fn number(&self, id: TensorId) -> f32 {
        let data = self.model.weight(id).data.as_deref();
        data.and_then(bytes::cast::<f32>).and_then(|x| x.first()).copied().unwrap_or(1.0)
    }

    /// The table of directions, if any layer gets one. Encoders get none, as in llama.cpp.
    fn directions(&mut self, control: &ControlVector) -> Result<Option<TensorId>, OutOfMemory> {
        let n_layer = self.plan.layers.len();
        if !(0..n_layer).any(|il| control.acts_on(il)) {
            return Ok(None);
        }
        if self.plan.stateless {
            log_warn!("architecture '{}' takes no control vectors", self.model.arch_name());
            return Ok(None);
        }
        let n_embd = control.rows().len() / n_layer;
        let rows = |row: usize, out: &mut [f32]| {
            out.copy_from_slice(&control.rows()[row * n_embd..][..n_embd]);
        };
        let table = pack::matrix([n_embd, n_layer, 1], rows)?;
        Ok(Some(self.push(table)))
    }
}

/// Node of what adapters add to a node's output: its layer is the same.
fn lora_name(node: &str) -> String {
    match node.rsplit_once('-') {
        Some((node, layer)) => format!("{node}_lora-{layer}"),
        None => format!("{node}_lora"),
    }
}
