//! What was measured of a model on one machine: the choices of [`Mode::Auto`], kept so that they,
//! and with them the text, are the same in every later run.

use super::{Guess, Mode, Sparse};
use crate::backend::cpu::KernelTable;
use crate::gguf::{self, Array, Metadata, Value, Writer};
use crate::util::sys;

const MACHINE: &str = "powerinfer.tuning.machine";
const ALL_ROWS_FROM: &str = "powerinfer.tuning.all_rows_from";
/// Names of the modes, one per layer of the model.
const LAYERS: &str = "powerinfer.tuning.layers";

/// Choices for a model on a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Processor and instruction set that this was measured on.
    pub machine: String,
    /// See [`super::Selector::all_rows_from`].
    pub all_rows_from: f32,
    /// How each layer chooses its neurons: `Exact`, `Predictor` or `Off`.
    pub layers: Vec<Mode>,
}

impl Tuning {
    /// The name of this machine: what a measurement depends on.
    pub fn this_machine() -> String {
        let isa = KernelTable::detect().isa();
        format!("{}, {} CPUs, {isa}", sys::cpu_name(), sys::n_cpus())
    }

    pub(super) fn from_meta(meta: &Metadata) -> Result<Option<Self>, gguf::Error> {
        let (Some(machine), Some(layers)) = (meta.get_str(MACHINE)?, meta.get_strs(LAYERS)?) else {
            return Ok(None);
        };
        let mode = |name: &[u8]| std::str::from_utf8(name).ok().and_then(Mode::from_name);
        let layers: Option<Vec<Mode>> = layers.iter().map(mode).collect();
        let all_rows_from = meta.require_f32(ALL_ROWS_FROM)?;
        // Nothing is lost by measuring again.
        let valid = (0.0..=1.0).contains(&all_rows_from);
        Ok(layers.filter(|_| valid).map(|layers| Self {
            machine: machine.to_owned(),
            all_rows_from,
            layers,
        }))
    }

    pub(super) fn put(&self, out: &mut Writer) -> Result<(), gguf::Error> {
        out.set(MACHINE, Value::Str(self.machine.as_str().into()))?;
        out.set(ALL_ROWS_FROM, Value::F32(self.all_rows_from))?;
        let names = self.layers.iter().map(|mode| mode.name());
        out.set(LAYERS, Value::Array(Array::Str(names.collect())))
    }

    /// Whether this was measured here, for a model with so many layers.
    pub fn is_for(&self, n_layer: usize) -> bool {
        self.machine == Self::this_machine() && self.layers.len() == n_layer
    }
}

impl Sparse {
    /// The same with what was measured. Choices count only where nobody asked for a mode.
    pub fn tuned(&self, tuning: &Tuning) -> Self {
        let mut sparse = self.with_all_rows_from(tuning.all_rows_from);
        if self.mode == Mode::Auto {
            for (selector, mode) in sparse.layers.iter_mut().zip(&tuning.layers) {
                match (selector, mode) {
                    (Some(selector), Mode::Off) => selector.all_rows_from = 0.0,
                    (Some(selector), Mode::Exact) => selector.guess = Guess::None,
                    _ => {}
                }
            }
        }
        sparse
    }
}

#[cfg(test)]
mod tests {
    use super::super::Selector;
    use super::*;

    #[test]
    fn choices_count_only_in_auto() {
        let guess = Guess::LowRank { threshold: 0.5 };
        let selector = Selector { guess: guess.clone(), least: 0.0, all_rows_from: 0.6 };
        let layers = vec![None, Some(selector.clone()), Some(selector.clone()), Some(selector)];
        let tuning = Tuning {
            machine: String::new(),
            all_rows_from: 0.25,
            layers: vec![Mode::Off, Mode::Off, Mode::Exact, Mode::Predictor],
        };
        let seen = |mode: Mode| {
            let sparse = Sparse { mode, layers: layers.clone(), ..Sparse::default() };
            let tuned = sparse.tuned(&tuning);
            assert!(tuned.layer(0).is_none());
            [1, 2, 3].map(|il| tuned.layer(il).map(|s| (s.guess.clone(), s.all_rows_from)).unwrap())
        };
        let auto = [(guess.clone(), 0.0), (Guess::None, 0.25), (guess.clone(), 0.25)];
        assert_eq!(seen(Mode::Auto), auto);
        assert_eq!(seen(Mode::Predictor), [0.25; 3].map(|share| (guess.clone(), share)));
    }
}
