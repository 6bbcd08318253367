//! Weights on a card.

use std::fmt;
use std::sync::Arc;

use super::neurons::{HotLayer, can_be_whole, can_split};
use crate::backend::cuda::pack::{self, row_stride};
use crate::backend::cuda::{Budget, Buffer, CudaError, Device, Purpose, Stream, View};
use crate::model::{Layout, Model, Weight};
use crate::plan::{Mat, Norm, Plan, StepKind, TensorId};
use crate::quant::{QuantType, tiles};

/// What a caller wants of a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardRequest {
    /// Number of the card in [`Device::list`].
    pub index: usize,
    /// Layers that go there, the output counted as one; as many as there are when negative.
    pub n_layers: i32,
    /// Bytes that may be used; what is free, less a margin, when `None`.
    pub budget: Option<usize>,
    /// Networks that can be split stay on the host until their hot neurons are chosen
    /// ([`CardModel::bring_neurons`]).
    pub split: bool,
}

/// What stays free of a card when nobody says how much may be used: the driver and other programs
/// want some too.
const MARGIN: usize = 512 << 20;

impl CardRequest {
    /// Bytes of the card that may be used: see [`Self::budget`].
    pub fn limit(&self) -> Result<usize, CudaError> {
        let (free, _) = Device::open(self.index)?.memory()?;
        Ok(self.budget.unwrap_or(usize::MAX).min(free.saturating_sub(MARGIN)))
    }
}

/// A weight on the card, in rows as [`pack`] lays them out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: usize,
    stride: usize,
    n_rows: usize,
    k: usize,
    ty: QuantType,
}

/// Rows of a matrix on the card.
#[derive(Clone, Copy)]
pub struct CardRows<'a> {
    /// Number format.
    pub ty: QuantType,
    /// The rows.
    pub data: View<'a>,
    /// Bytes from row to row.
    pub stride: usize,
    /// Elements of a row.
    pub k: usize,
}

/// The weights of a model's last layers on a card.
pub struct CardModel {
    stream: Arc<Stream>,
    budget: Arc<Budget>,
    weights: Buffer,
    /// By number of the tensor.
    places: Vec<Option<Place>>,
    first_layer: usize,
    /// Hot neurons, by layer.
    hot: Vec<Option<HotLayer>>,
}

impl fmt::Debug for CardModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layers from {} on, on {}", self.first_layer, self.stream.device().info().name)
    }
}

impl CardModel {
    /// Brings the last layers to a card: as many of those asked for as there is room for. `None`
    /// when none is asked for or there is room for none.
    pub fn new(model: &Model, request: &CardRequest) -> Result<Option<Self>, CudaError> {
        let Some(plan) = model.plan().filter(|_| model.has_data()) else { return Ok(None) };
        let n_all = plan.layers.len() + 1;
        let first = request.first_layer(plan);
        if first == n_all {
            return Ok(None);
        }
        let device = Device::open(request.index)?;
        let stream = Arc::new(Stream::new(&device)?);
        let budget = Budget::new(request.limit()?);
        for first_layer in first..n_all {
            let (places, n_bytes) = places(model, plan, first_layer, request.split);
            if n_bytes == 0 || n_bytes > budget.left() {
                continue;
            }
            let weights = match device.alloc(&budget, Purpose::Weights, n_bytes) {
                Err(error) if error.is_out_of_memory() => continue,
                buffer => buffer?,
            };
            let card = Self { stream, budget, weights, places, first_layer, hot: Vec::new() };
            card.upload(model)?;
            return Ok(Some(card));
        }
        Ok(None)
    }

    fn upload(&self, model: &Model) -> Result<(), CudaError> {
        let mut packed = Vec::new();
        for (weight, place) in model.weights().iter().zip(&self.places) {
            let (Some(place), Some(data)) = (place, weight.data.as_deref()) else { continue };
            packed.clear();
            packed.resize(place.stride * place.n_rows, 0);
            let Place { ty, k, n_rows, .. } = *place;
            match weight.layout {
                Layout::Tiles => {
                    let mut rows = vec![0; data.len()];
                    tiles::unpack_rows(ty, data, k, n_rows, 0..n_rows, &mut rows);
                    pack::pack(ty, k, &rows, &mut packed);
                }
                Layout::Rows | Layout::Neurons => pack::pack(ty, k, data, &mut packed),
            }
            let view = self.weights.view().slice(place.at..place.at + packed.len());
            self.stream.upload(view, &packed)?;
        }
        self.stream.synchronize()
    }

    /// Brings neurons to the card: of each layer's network those whose ids are listed, ascending. With
    /// `predicts` a layer's predictor as well. What [`can_split`] refuses stays where it is.
    pub fn bring_neurons(
        &mut self,
        model: &Model,
        hot: &[Vec<u32>],
        predicts: impl Fn(usize) -> bool,
    ) -> Result<(), CudaError> {
        let Some(plan) = model.plan() else { return Ok(()) };
        let mut layers: Vec<_> = plan.layers.iter().map(|_| None).collect();
        for step in &plan.steps {
            let StepKind::SkippingFfn(ffn) = &step.kind else { continue };
            let Some(ids) = hot.get(ffn.layer).filter(|ids| !ids.is_empty()) else { continue };
            if can_split(model, ffn) {
                let predicts = predicts(ffn.layer);
                let (stream, budget) = (&self.stream, &self.budget);
                let layer = HotLayer::new(model, ffn, ids, predicts, stream, budget)?;
                layers[ffn.layer] = Some(layer);
            }
        }
        self.hot = layers;
        self.stream.synchronize()
    }

    /// Neurons here, and of all layers that are split; `None` when none is.
    pub fn hot_neurons(&self) -> Option<(usize, usize)> {
        let split = || self.hot.iter().flatten();
        let n_hot: usize = split().map(HotLayer::n_hot).sum();
        let n_cold: usize = split().map(HotLayer::n_cold).sum();
        (n_hot > 0).then_some((n_hot, n_hot + n_cold))
    }

    /// The hot neurons of a layer.
    pub fn hot(&self, layer: usize) -> Option<&HotLayer> {
        self.hot.get(layer)?.as_ref()
    }

    /// First layer whose weights are here; the number of layers when only the output is.
    pub fn first_layer(&self) -> usize {
        self.first_layer
    }

    /// Work of contexts over the model, in order.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What may be used, and is.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether a weight is here.
    pub fn has(&self, id: TensorId) -> bool {
        self.places.get(id.0).is_some_and(Option::is_some)
    }

    /// A weight as rows.
    pub(super) fn rows(&self, id: TensorId) -> Option<CardRows<'_>> {
        let Place { at, stride, n_rows, k, ty } = (*self.places.get(id.0)?)?;
        let data = self.weights.view().slice(at..at + stride * n_rows);
        Some(CardRows { ty, data, stride, k })
    }
}

/// Where the weights of these and later layers go, and the bytes that they take.
pub(super) fn places(
    model: &Model,
    plan: &Plan,
    first_layer: usize,
    split: bool,
) -> (Vec<Option<Place>>, usize) {
    let mut places = vec![None; model.weights().len()];
    let mut end = 0;
    for (step, layer) in plan.steps.iter().zip(plan.layers_of_steps()) {
        if layer.is_none_or(|layer| layer < first_layer) {
            continue;
        }
        let ids = match &step.kind {
            // Its neurons come later.
            StepKind::SkippingFfn(ffn) if split && can_split(model, ffn) => {
                ffn.down.bias.into_iter().collect()
            }
            kind => weights_of(kind, plan),
        };
        for id in ids {
            let Some(place) = places.get_mut(id.0).filter(|place| place.is_none()) else {
                continue;
            };
            *place = Place::of(model.weight(id), &mut end);
        }
    }
    (places, end)
}

impl Place {
    /// A place behind `end`; `None` for what no kernel reads.
    fn of(weight: &Weight, end: &mut usize) -> Option<Self> {
        let (ty, k) = (weight.ty, weight.shape.ne()[0] as usize);
        let n_rows = weight.shape.n_rows() as usize;
        let stride = row_stride(ty, k)?;
        let at = end.next_multiple_of(256);
        *end = at.checked_add(stride.checked_mul(n_rows)?)?;
        Some(Self { at, stride, n_rows, k, ty })
    }
}

/// The weights of a step that can run on a card.
fn weights_of(step: &StepKind, plan: &Plan) -> Vec<TensorId> {
    let of_norm = |norm: &Norm| norm.weight.into_iter().chain(norm.bias).collect();
    match step {
        StepKind::Norm { norm, .. } | StepKind::NormHeads { norm, .. } => of_norm(norm),
        StepKind::MatMul { mats, .. } => {
            mats.iter().flat_map(|mat: &Mat| [Some(mat.weight), mat.bias]).flatten().collect()
        }
        StepKind::SkippingFfn(ffn) if can_be_whole(ffn) => {
            let down = ffn.down.mat(0);
            let predictor = ffn.predictor.into_iter().flat_map(|p| [p.fc1, p.fc2]);
            let mats = ffn.inputs().into_iter().chain([down]).chain(predictor);
            mats.flat_map(|mat| [Some(mat.weight), mat.bias]).flatten().collect()
        }
        StepKind::Attend { layer, .. } => plan.layers[*layer].sinks.into_iter().collect(),
        _ => Vec::new(),
    }
}
