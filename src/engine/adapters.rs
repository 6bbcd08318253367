//! What a context adds to its model: LoRA adapters, a control vector, and the plan with both.

use std::sync::Arc;

use super::Context;
use super::run::observe::Observer;
use crate::adapter::{Adapted, ControlVector, Error, Lora};
use crate::log_error;
use crate::model::{Model, Weight};
use crate::plan::Plan;

/// A context's adapters.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    /// Each with its scale.
    loras: Vec<(Arc<Lora>, f32)>,
    control: ControlVector,
    /// The model's plan with them; `None` for the model's own.
    adapted: Option<Adapted>,
    /// That plan in small steps, where somebody looks on.
    unfused: Option<Plan>,
}

impl Adapters {
    /// The plan that the context runs, and its weights beside the model's.
    pub(super) fn plan<'a>(&'a self, model: &'a Model) -> Option<(&'a Plan, &'a [Weight])> {
        let (plan, weights) = match &self.adapted {
            Some(Adapted { plan, weights }) => (plan, &weights[..]),
            None => (model.plan()?, &[][..]),
        };
        Some((self.unfused.as_ref().unwrap_or(plan), weights))
    }

    /// Lets the plan be in small steps from now on.
    fn unfuse(&mut self, model: &Model) {
        self.unfused = None;
        self.unfused = self.plan(model).map(|(plan, _)| plan.unfused());
    }

    fn are(&self, loras: &[(Arc<Lora>, f32)]) -> bool {
        let same =
            |a: &(Arc<Lora>, f32), b: &(Arc<Lora>, f32)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1;
        loras.len() == self.loras.len() && loras.iter().zip(&self.loras).all(|(a, b)| same(a, b))
    }
}

impl Context {
    /// Replaces the LoRA adapters, each with its scale, from the next batch on; what is in the cache
    /// stays as it was computed. Those with a scale of zero, and an adapter's later mentions, do not
    /// count. On an error the context keeps the ones it has.
    pub fn set_loras(&mut self, wanted: &[(Arc<Lora>, f32)]) -> Result<(), Error> {
        let mut loras: Vec<(Arc<Lora>, f32)> = Vec::with_capacity(wanted.len());
        for (lora, scale) in wanted {
            if *scale != 0.0 && !loras.iter().any(|(known, _)| Arc::ptr_eq(known, lora)) {
                loras.push((Arc::clone(lora), *scale));
            }
        }
        if self.adapters.are(&loras) {
            return Ok(());
        }
        let control = self.adapters.control.clone();
        self.adapt(loras, control)
    }

    /// Adds directions to the layers `start` to `end`, from the next batch on: `n_embd` numbers for
    /// each layer from the second on, see [`ControlVector::set`]. On an error nothing changes.
    pub fn set_control_vector(&mut self, data: &[f32], start: i32, end: i32) -> Result<(), Error> {
        let hp = self.model.hparams().ok_or(Error::NoWeights)?;
        let mut control = self.adapters.control.clone();
        control.set(hp.n_embd, hp.n_layer, data, start, end);
        self.adapt(self.adapters.loras.clone(), control)
    }

    /// Takes the control vector away.
    pub fn clear_control_vector(&mut self) -> Result<(), Error> {
        if !self.adapters.control.is_set() {
            return Ok(());
        }
        let mut control = self.adapters.control.clone();
        control.clear();
        self.adapt(self.adapters.loras.clone(), control)
    }

    /// Shows every step of later batches to somebody; all of them are computed then, one by one.
    pub fn observe(&mut self, observer: Box<dyn Observer>) -> Result<(), Error> {
        // Every step is shown where it runs: on the host.
        if let Err(error) = self.leave_card() {
            log_error!("keys and values on the GPU are lost: {error}");
            self.kv_mut().clear(false);
        }
        self.adapters.unfuse(&self.model);
        self.runner.make_readable();
        if let Some((plan, _)) = self.adapters.plan(&self.model) {
            self.runner.change_plan(plan, None)?;
        }
        self.observer = Some(observer);
        Ok(())
    }

    /// Lays the plan out anew.
    fn adapt(&mut self, loras: Vec<(Arc<Lora>, f32)>, control: ControlVector) -> Result<(), Error> {
        let all = loras.iter().map(|(lora, scale)| (&**lora, *scale));
        let adapted = Adapted::new(&self.model, all, &control)?;
        let mut new = Adapters { loras, control, adapted, unfused: None };
        if self.adapters.unfused.is_some() {
            new.unfuse(&self.model);
        }
        let (plan, _) = new.plan(&self.model).ok_or(Error::NoWeights)?;
        let card = self.card_run(plan);
        self.runner.change_plan(plan, card)?;
        self.adapters = new;
        Ok(())
    }
}
