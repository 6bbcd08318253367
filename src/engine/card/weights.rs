//! Weights on a card.

use std::fmt;
use std::sync::Arc;

use crate::backend::cuda::pack::{self, row_stride};
use crate::backend::cuda::{Budget, Buffer, CudaError, Device, Purpose, Stream, View};
use crate::model::{Layout, Model, Weight};
use crate::plan::{Mat, Norm, Plan, StepKind, TensorId};
use crate::quant::QuantType;

/// What a caller wants of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardRequest {
    /// Number of the card in [`Device::list`].
    pub index: usize,
    /// Layers that go there, the output counted as one; as many as there are when negative.
    pub n_layers: i32,
    /// Bytes that may be used; what is free, less a margin, when `None`.
    pub budget: Option<usize>,
}

/// What stays free of a card when nobody says how much may be used: the driver and other programs
/// want some too.
pub(super) const MARGIN: usize = 512 << 20;

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
        let wanted = usize::try_from(request.n_layers).unwrap_or(n_all).min(n_all);
        if wanted == 0 {
            return Ok(None);
        }
        let device = Device::open(request.index)?;
        let stream = Arc::new(Stream::new(&device)?);
        let (free, _) = device.memory()?;
        let budget =
            Budget::new(request.budget.unwrap_or(usize::MAX).min(free.saturating_sub(MARGIN)));
        for first_layer in n_all - wanted..n_all {
            let (places, n_bytes) = places(model, plan, first_layer);
            if n_bytes == 0 || n_bytes > budget.left() {
                continue;
            }
            let weights = match device.alloc(&budget, Purpose::Weights, n_bytes) {
                Err(error) if error.is_out_of_memory() => continue,
                buffer => buffer?,
            };
            let card = Self { stream, budget, weights, places, first_layer };
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
            pack::pack(place.ty, place.k, data, &mut packed);
            let view = self.weights.view().slice(place.at..place.at + packed.len());
            self.stream.upload(view, &packed)?;
        }
        self.stream.synchronize()
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
) -> (Vec<Option<Place>>, usize) {
    let mut places = vec![None; model.weights().len()];
    let mut end = 0;
    for (i, step) in plan.steps.iter().enumerate() {
        if plan.layer_of(i).is_none_or(|layer| layer < first_layer) {
            continue;
        }
        for id in weights_of(&step.kind, plan) {
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
        let stride = row_stride(ty, k).filter(|_| weight.layout == Layout::Rows)?;
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
        StepKind::Attend { layer, .. } => plan.layers[*layer].sinks.into_iter().collect(),
        _ => Vec::new(),
    }
}
