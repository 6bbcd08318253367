//! Which of a model goes to a card: whole layers, or all layers without the cold neurons of their
//! networks.

use std::path::Path;

use crate::backend::cuda::CudaError;
use crate::engine::card::{self, CardModel, CardRequest};
use crate::model::Model;
use crate::plan::{Plan, SkippingFfn, StepKind};
use crate::sparse::placement::{
    BadProblem, Home, IndexPlaces, Layer, MadeFor, Placement, Problem, find_counts,
};
use crate::sparse::{ActivationCounts, Guess, Mode, Options, Sparse};
use crate::util::sys;
use crate::{log_info, log_warn};

/// How often a placement is made smaller when the card has less room than it said.
const TRIES: usize = 6;

/// A model that goes to a card.
pub(super) struct Offload<'a> {
    pub(super) model: &'a Model,
    pub(super) sparse: &'a Sparse,
    pub(super) options: &'a Options,
    /// Where it was loaded from.
    pub(super) path: Option<&'a Path>,
}

impl Offload<'_> {
    /// Brings what was asked for, as far as there is room: layers by their number, or, when nobody
    /// gave one and not all find room, all layers with as many of their neurons as are worth it.
    pub(super) fn bring(&self, request: &CardRequest) -> Result<Option<CardModel>, CudaError> {
        let layers = request.fitting(self.model)?;
        let n_all = self.model.plan().map_or(0, |plan| plan.layers.len() + 1);
        let all = usize::try_from(layers.n_layers).is_ok_and(|n| n == n_all);
        let splits = request.n_layers < 0 && !all && !self.options.disable_gpu_index;
        if splits && !self.networks().is_empty() {
            let split = CardRequest { split: true, ..*request };
            let split = split.fitting(self.model)?;
            if let Some(mut card) = CardModel::new(self.model, &split)? {
                self.bring_neurons(&mut card)?;
                return Ok(Some(card));
            }
        }
        CardModel::new(self.model, &layers)
    }

    /// Networks whose neurons can be split.
    fn networks(&self) -> Vec<&SkippingFfn> {
        let steps = self.model.plan().into_iter().flat_map(|plan| &plan.steps);
        let networks = steps.filter_map(|step| match &step.kind {
            StepKind::SkippingFfn(ffn) if card::can_split(self.model, ffn) => Some(&**ffn),
            _ => None,
        });
        networks.collect()
    }

    fn bring_neurons(&self, card: &mut CardModel) -> Result<(), CudaError> {
        let (Some(plan), Some(hp)) = (self.model.plan(), self.model.hparams()) else {
            return Ok(());
        };
        let networks = self.networks();
        let beside: usize = networks
            .iter()
            .map(|ffn| card::layer_bytes(self.model, ffn, self.predicts(ffn.layer)))
            .sum();
        let context = card::expected_context(plan, hp, card.first_layer());
        let cap = card.budget().left().saturating_sub(context + beside) as u64;
        let machine = card.measure(hp.n_embd)?;
        let counts = self.counts(plan, &networks);
        let layers = self.layers(plan, &networks, card, counts.as_ref());
        let mut problem = Problem { layers, machine, cap };
        for _ in 0..TRIES {
            let placement = match self.place(&problem, &networks, card) {
                Ok(placement) => placement,
                Err(error) => {
                    log_warn!("no neurons go to the GPU: {error}");
                    return Ok(());
                }
            };
            match card.bring_neurons(self.model, &placement.hot, |il| self.predicts(il)) {
                Err(error) if error.is_out_of_memory() => {
                    log_warn!(
                        "fewer neurons go to the GPU, it has less room than it said: {error}"
                    );
                    problem.cap -= problem.cap / 4;
                }
                done => return done,
            }
        }
        log_warn!("no neurons go to the GPU: there is no room for them");
        Ok(())
    }

    fn predicts(&self, layer: usize) -> bool {
        let selector = self.sparse.layer(layer);
        selector.is_some_and(|selector| matches!(selector.guess, Guess::LowRank { .. }))
    }

    /// How often neurons fire, where that is known.
    fn counts(&self, plan: &Plan, networks: &[&SkippingFfn]) -> Option<ActivationCounts> {
        let mut n_ff = vec![0; plan.layers.len()];
        networks.iter().for_each(|ffn| n_ff[ffn.layer] = ffn.n_ff);
        find_counts(self.model, self.path, &n_ff)
    }

    /// What placing has to know of the layers.
    fn layers<'a>(
        &self,
        plan: &Plan,
        networks: &[&SkippingFfn],
        card: &CardModel,
        counts: Option<&'a ActivationCounts>,
    ) -> Vec<Layer<'a>> {
        let nothing = Layer { neuron_bytes: 1, ..Layer::default() };
        let mut layers = vec![nothing; plan.layers.len()];
        for ffn in networks {
            let home = match ffn.layer >= card.first_layer() {
                true => Home::Gpu,
                false => Home::Cpu,
            };
            layers[ffn.layer] = Layer {
                n_ff: ffn.n_ff,
                neuron_bytes: card::neuron_bytes(self.model, ffn).max(1) as u64,
                always_read: self.always_read(ffn),
                home,
                counts: counts.and_then(|counts| counts.layers.get(ffn.layer)),
            };
        }
        layers
    }

    /// Which neurons are worth their bytes.
    fn place(
        &self,
        problem: &Problem<'_>,
        networks: &[&SkippingFfn],
        card: &CardModel,
    ) -> Result<Placement, BadProblem> {
        let placement = match self.model.fingerprint() {
            Some(fingerprint) => {
                let gpu = &card.stream().device().info().name;
                let names = format!("{gpu}, {}", sys::cpu_name());
                let made_for = MadeFor::new(problem, fingerprint, &names, &self.types(networks));
                let explicit = self.options.placement.as_deref();
                let places = IndexPlaces::new(fingerprint, self.path, explicit);
                places.place(problem, made_for, self.options.reset_gpu_index)?
            }
            None => crate::sparse::placement::place(problem)?,
        };
        log_info!("placement: {}", placement.predict(problem));
        Ok(placement)
    }

    /// Share of a neuron's bytes that is read although it does not fire.
    fn always_read(&self, ffn: &SkippingFfn) -> f64 {
        let exact = if ffn.gate.is_some() { 1.0 / 3.0 } else { 0.5 };
        match self.sparse.layer(ffn.layer).map(|selector| selector.mode()) {
            Some(Mode::Off) | None => 1.0,
            Some(Mode::Predictor) => 0.0,
            Some(_) => exact,
        }
    }

    /// Types of the networks' weights, for the index.
    fn types(&self, networks: &[&SkippingFfn]) -> String {
        let mut types: Vec<String> = Vec::new();
        for ffn in networks {
            let mats = ffn.inputs().into_iter().map(|mat| mat.ty).chain([ffn.down.ty]);
            types.push(mats.map(|ty| ty.to_string()).collect::<Vec<_>>().join("/"));
        }
        types.dedup();
        types.join(" ")
    }
}
