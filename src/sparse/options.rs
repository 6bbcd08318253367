//! What callers, files and the environment say about sparse execution.

use crate::gguf::Metadata;
use crate::plan::Skipping;

/// How neurons are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The cheapest that the model allows, layer by layer.
    #[default]
    Auto,
    /// By the true gate.
    Exact,
    /// By the file's predictors.
    Predictor,
    /// By the signs of gate weights and inputs (SparseInfer, arXiv 2411.12692).
    Sign,
    /// By thresholds on the activated gate (CATS, arXiv 2404.08763).
    Magnitude,
    /// Not at all.
    Off,
}

impl Mode {
    /// All of them with their names.
    pub const ALL: [(Mode, &'static str); 6] = [
        (Mode::Auto, "auto"),
        (Mode::Exact, "exact"),
        (Mode::Predictor, "predictor"),
        (Mode::Sign, "sign"),
        (Mode::Magnitude, "magnitude"),
        (Mode::Off, "off"),
    ];

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, n)| *n == name).map(|(mode, _)| mode)
    }

    /// Its name in options.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| name)
    }
}

/// An option with a value that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {found} is not {expected}")]
pub struct BadOption {
    /// Where it came from: a key or a variable.
    pub option: String,
    /// Its value.
    pub found: String,
    /// What would do.
    pub expected: String,
}

/// What counts after all routes were asked: the caller's function, overrides of the file's keys,
/// environment variables, the file itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How neurons are chosen.
    pub mode: Mode,
    /// Least score of a predictor at which a neuron is computed.
    pub threshold: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { mode: Mode::Auto, threshold: 0.0 }
    }
}

/// Key of the mode, in overrides and files.
const MODE: &str = "powerinfer.sparse";
/// Key of the threshold, in overrides and files: PowerInfer's own.
const THRESHOLD: &str = "powerinfer.sparse_threshold";

impl Options {
    /// Reads overrides, environment and file, in this order.
    pub fn read(meta: &Metadata) -> Result<Self, BadOption> {
        let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let mut options = Self::default();
        let overridden = |key: &str| meta.get(key) != meta.file_value(key);
        let by_env = env("POWERINFER_SPARSE").filter(|_| !overridden(MODE));
        let from_file = || meta.get_str(MODE).ok().flatten().map(str::to_owned);
        let option = if by_env.is_some() { "POWERINFER_SPARSE" } else { MODE };
        if let Some(name) = by_env.or_else(from_file) {
            options.mode = Mode::from_name(&name).ok_or_else(|| {
                let names = Mode::ALL.map(|(_, name)| name).join(", ");
                BadOption { option: option.into(), found: name, expected: names }
            })?;
        }
        let names = ["POWERINFER_SPARSE_THRESHOLD", "LLAMA_SPARSE_PRED_THRESHOLD"];
        let by_env = names.into_iter().find_map(|name| Some((name, env(name)?)));
        options.threshold = match by_env.filter(|_| !overridden(THRESHOLD)) {
            Some((name, text)) => number(name, &text)?,
            None => match meta.get(THRESHOLD) {
                None => 0.0,
                Some(value) => {
                    let found = meta.get_f32(THRESHOLD).ok().flatten();
                    let found = found.filter(|x| !x.is_nan());
                    found.ok_or_else(|| bad_number(THRESHOLD, &value.describe()))?
                }
            },
        };
        Ok(options)
    }

    /// Which feed-forward networks have to be able to skip neurons.
    pub fn skipping(&self) -> Skipping {
        match self.mode {
            Mode::Off => Skipping::AsStored,
            Mode::Magnitude => Skipping::Small,
            _ => Skipping::Zeros,
        }
    }
}

fn number(option: &str, text: &str) -> Result<f32, BadOption> {
    let x = text.trim().parse().ok().filter(|x: &f32| !x.is_nan());
    x.ok_or_else(|| bad_number(option, text))
}

fn bad_number(option: &str, found: &str) -> BadOption {
    BadOption { option: option.into(), found: found.into(), expected: "a number".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for (mode, name) in Mode::ALL {
            assert_eq!((Mode::from_name(name), mode.name()), (Some(mode), name));
        }
        assert_eq!(Mode::from_name("fast"), None);
    }
}
