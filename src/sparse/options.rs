//! What callers, files and the environment say about sparse execution.
//!
//! An option comes by the first of these routes that has it: the caller's [`Request`], an override
//! of its key, its environment variable, its key in the file. All but the first give text, a number
//! or a flag, whichever the route can carry; what counts is what it says.
//!
//! To add an option: its `Key` in `KEYS`, a field of [`Request`] and [`Options`], and a line in
//! `Options::by`.

use std::fmt::Display;
use std::path::PathBuf;

use super::Magnitude;
use crate::gguf::{Metadata, Value};
use crate::plan::Skipping;
use crate::{log_info, log_warn};

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

    /// The mode of this name, or of a flag.
    fn parse(text: &str) -> Option<Self> {
        let by_flag = || flag(text).map(|on| if on { Self::Auto } else { Self::Off });
        Self::from_name(text).or_else(by_flag)
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

/// What a caller asks for; `None` leaves it to the other routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// How neurons are chosen.
    pub mode: Option<Mode>,
    /// Least score of a predictor at which a neuron is computed.
    pub threshold: Option<f32>,
    /// GPU memory to use at most, in GiB.
    pub vram_budget_gib: Option<f32>,
    /// Where what was measured of the model is kept.
    pub sidecar: Option<PathBuf>,
    /// Which neurons the GPU gets.
    pub placement: Option<PathBuf>,
    /// Whether which neurons the GPU gets is worked out anew, whatever is kept beside the model.
    pub reset_gpu_index: Option<bool>,
    /// Whether no layer's neurons are split between devices.
    pub disable_gpu_index: Option<bool>,
    /// Whether neurons move between devices while running.
    pub adaptive: Option<bool>,
    /// Whether times and recall are measured.
    pub stats: Option<bool>,
    /// Whether it is counted how often each neuron fires.
    pub count_activations: Option<bool>,
}

/// What counts after all routes were asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// How neurons are chosen.
    pub mode: Mode,
    /// Least score of a predictor at which a neuron is computed.
    pub threshold: f32,
    /// Share of the firing neurons that a predictor has to find where nobody asked for predictors.
    pub min_recall: Option<f32>,
    /// Thresholds of the mode `magnitude`: see [`Options::find_thresholds`].
    pub magnitude: Option<Magnitude>,
    /// How careful guesses by signs are: see [`Guess::Sign`](super::Guess::Sign).
    pub sign_alpha: Option<f32>,
    /// Where what was measured of the model is kept; beside the model when nobody says.
    pub sidecar: Option<PathBuf>,
    /// GPU memory to use at most, in bytes; what is free less a margin when nobody says.
    pub vram_budget: Option<u64>,
    /// A file that says which neurons the GPU gets; beside the model when nobody says.
    pub placement: Option<PathBuf>,
    /// Whether that is worked out anew, whatever such a file says.
    pub reset_gpu_index: bool,
    /// Whether no layer's neurons are split between devices.
    pub disable_gpu_index: bool,
    /// Whether times and recall are measured.
    pub stats: bool,
    /// Whether it is counted how often each neuron fires.
    pub count_activations: bool,
}

/// Names of an option.
struct Key {
    /// In overrides and files.
    name: &'static str,
    /// In the environment; the first one that is set counts.
    vars: &'static [&'static str],
}

const MODE: Key = Key { name: "powerinfer.sparse", vars: &["POWERINFER_SPARSE"] };
/// The key and the second variable are PowerInfer's own.
const THRESHOLD: Key = Key {
    name: "powerinfer.sparse_threshold",
    vars: &["POWERINFER_SPARSE_THRESHOLD", "LLAMA_SPARSE_PRED_THRESHOLD"],
};
const RECALL: Key = Key { name: "powerinfer.min_recall", vars: &["POWERINFER_MIN_RECALL"] };
const BUDGET: Key = Key { name: "powerinfer.vram_budget_gib", vars: &["POWERINFER_VRAM_BUDGET"] };
const SIDECAR: Key = Key { name: "powerinfer.sidecar", vars: &["POWERINFER_SIDECAR"] };
const PLACEMENT: Key = Key { name: "powerinfer.placement", vars: &["POWERINFER_PLACEMENT"] };
const RESET: Key =
    Key { name: "powerinfer.reset_gpu_index", vars: &["POWERINFER_RESET_GPU_INDEX"] };
const DISABLE: Key =
    Key { name: "powerinfer.disable_gpu_index", vars: &["POWERINFER_DISABLE_GPU_INDEX"] };
const ADAPTIVE: Key = Key { name: "powerinfer.adaptive", vars: &["POWERINFER_ADAPTIVE"] };
const STATS: Key = Key { name: "powerinfer.stats", vars: &["POWERINFER_STATS"] };
const COUNT: Key =
    Key { name: "powerinfer.count_activations", vars: &["POWERINFER_COUNT_ACTIVATIONS"] };
const ALPHA: Key = Key { name: "powerinfer.sign_alpha", vars: &["POWERINFER_SIGN_ALPHA"] };
/// A key of files that `model` reads.
const ACTIVATION: Key = Key { name: "powerinfer.activation", vars: &[] };

/// All options.
const KEYS: [Key; 13] = [
    MODE, THRESHOLD, RECALL, ALPHA, BUDGET, SIDECAR, PLACEMENT, RESET, DISABLE, ADAPTIVE, STATS,
    COUNT, ACTIVATION,
];

impl Options {
    /// What the request, the overrides, the environment and the file say, in this order.
    pub fn read(meta: &Metadata, request: &Request) -> Result<Self, BadOption> {
        let env = |name: &str| {
            let text = std::env::var_os(name)?.to_string_lossy().into_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        Self::by(&Routes { meta, env: &env }, request)
    }

    fn by(routes: &Routes<'_>, request: &Request) -> Result<Self, BadOption> {
        routes.warn_of_unknown();
        let names = Mode::ALL.map(|(_, name)| name).join(", ");
        let path = |text: &str| Some(PathBuf::from(text));
        let path_of = |key: &Key, given: &Option<PathBuf>| {
            routes.find(key, given.clone(), path, "a path").map(|found| found.map(|f| f.value))
        };
        let flag_of = |key: &Key, given: Option<bool>| routes.find(key, given, flag, "a flag");
        let number_of = |key: &Key, given: Option<f32>| routes.find(key, given, number, "a number");

        let mode = routes.find(&MODE, request.mode, Mode::parse, &names)?;
        let threshold = number_of(&THRESHOLD, request.threshold)?;
        let recall = number_of(&RECALL, None)?;
        if let Some(recall) = &recall {
            recall.check(|x| (0.0..=1.0).contains(x), "a share from 0 to 1")?;
        }
        let alpha = number_of(&ALPHA, None)?;
        if let Some(alpha) = &alpha {
            alpha.check(|x| *x >= 0.0, "a number from 0 on")?;
        }
        let budget = number_of(&BUDGET, request.vram_budget_gib)?;
        if let Some(budget) = &budget {
            budget.check(|x| *x >= 0.0, "a size in GiB")?;
        }
        let adaptive = flag_of(&ADAPTIVE, request.adaptive)?;
        let placement = path_of(&PLACEMENT, &request.placement)?;
        let reset = flag_of(&RESET, request.reset_gpu_index)?;
        let disable = flag_of(&DISABLE, request.disable_gpu_index)?;
        if adaptive.is_some() {
            log_info!("neurons stay where they were placed: {} has no effect yet", ADAPTIVE.name);
        }
        Ok(Self {
            mode: mode.map_or(Mode::Auto, |found| found.value),
            threshold: threshold.map_or(0.0, |found| found.value),
            min_recall: recall.map(|found| found.value),
            sign_alpha: alpha.map(|found| found.value),
            magnitude: None,
            sidecar: path_of(&SIDECAR, &request.sidecar)?,
            vram_budget: budget.map(|found| bytes_of_gib(found.value)),
            placement,
            reset_gpu_index: reset.is_some_and(|found| found.value),
            disable_gpu_index: disable.is_some_and(|found| found.value),
            stats: flag_of(&STATS, request.stats)?.is_some_and(|found| found.value),
            count_activations: flag_of(&COUNT, request.count_activations)?
                .is_some_and(|found| found.value),
        })
    }

    /// Names of the options that say something of a GPU.
    pub fn of_gpus(&self) -> Vec<&'static str> {
        let given = [
            (&BUDGET, self.vram_budget.is_some()),
            (&PLACEMENT, self.placement.is_some()),
            (&RESET, self.reset_gpu_index),
            (&DISABLE, self.disable_gpu_index),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key.name).collect()
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

/// Where options come from, beside the caller's request.
struct Routes<'a> {
    meta: &'a Metadata,
    env: &'a dyn Fn(&str) -> Option<String>,
}

/// A value, and the name under which it was given.
struct Found<T> {
    option: &'static str,
    value: T,
}

impl<T: Display> Found<T> {
    fn check(&self, good: impl Fn(&T) -> bool, expected: &str) -> Result<(), BadOption> {
        match good(&self.value) {
            true => Ok(()),
            false => Err(bad(self.option, &self.value, expected)),
        }
    }
}

impl Routes<'_> {
    /// The value of an option by the first route that has it.
    fn find<T>(
        &self,
        key: &Key,
        given: Option<T>,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<Found<T>>, BadOption> {
        if let Some(value) = given {
            return Ok(Some(Found { option: key.name, value }));
        }
        let shown = |value: &Value| (key.name, text_of(value), value.describe());
        let by_override = || self.meta.override_of(key.name).map(shown);
        let by_env = || {
            key.vars.iter().find_map(|var| {
                let text = (self.env)(var)?;
                Some((*var, Some(text.clone()), text))
            })
        };
        let by_file = || self.meta.file_value(key.name).map(shown);
        let Some((option, text, found)) = by_override().or_else(by_env).or_else(by_file) else {
            return Ok(None);
        };
        match text.and_then(|text| parse(text.trim())) {
            Some(value) => Ok(Some(Found { option, value })),
            None => Err(bad(option, found, expected)),
        }
    }

    /// A misspelt key would otherwise change nothing, silently.
    fn warn_of_unknown(&self) {
        let known = |key: &&str| {
            key.starts_with("powerinfer.magnitude.") || KEYS.iter().any(|known| known.name == *key)
        };
        let keys = self.meta.override_keys().into_iter();
        for key in keys.filter(|key| key.starts_with("powerinfer.")).filter(|key| !known(key)) {
            let names = KEYS.map(|key| key.name).join(", ");
            log_warn!("there is no option '{key}'; there are {names}");
        }
    }
}

fn bad(option: &str, found: impl Display, expected: &str) -> BadOption {
    BadOption { option: option.into(), found: found.to_string(), expected: expected.into() }
}

/// A single value as text; `None` for an array, and for text that is not UTF-8.
fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Str(text) => text.to_str()?.to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        value => value.as_int()?.to_string(),
    })
}

fn number(text: &str) -> Option<f32> {
    text.parse().ok().filter(|x: &f32| !x.is_nan())
}

/// Whole bytes; infinity is as many as there can be.
fn bytes_of_gib(gib: f32) -> u64 {
    (f64::from(gib) * f64::from(1u32 << 30)) as u64
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "on" | "yes" => Some(true),
        "0" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{self, KvOverride, Magic, OverrideValue, Writer};
    use OverrideValue::{Bool, Float, Int, Str};

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    /// Options of a file with these keys, under these overrides and variables.
    fn read(
        file: &[(&str, Value)],
        overrides: &[(&str, OverrideValue)],
        env: Pairs<'_>,
        request: &Request,
    ) -> Result<Options, String> {
        let mut writer = Writer::new(Magic::Gguf);
        for (key, value) in file {
            writer.set(key, value.clone()).unwrap();
        }
        let bytes = writer.start(Vec::new()).unwrap().finish().unwrap();
        let overrides = overrides
            .iter()
            .map(|(key, value)| KvOverride { key: (*key).into(), value: value.clone() });
        let mut meta = gguf::parse(&bytes, "test").unwrap().meta;
        meta.set_overrides(&overrides.collect::<Vec<_>>());
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, t)| (*t).to_owned());
        Options::by(&Routes { meta: &meta, env: &env }, request).map_err(|e| e.to_string())
    }

    #[test]
    fn modes_have_names() {
        for (mode, name) in Mode::ALL {
            assert_eq!((Mode::parse(name), mode.name()), (Some(mode), name));
        }
        assert_eq!(Mode::parse("fast"), None);
        assert_eq!((Mode::parse("1"), Mode::parse("false")), (Some(Mode::Auto), Some(Mode::Off)));
    }

    fn with(
        file: &[(&str, Value)],
        overrides: &[(&str, OverrideValue)],
        env: Pairs<'_>,
    ) -> Result<Options, String> {
        read(file, overrides, env, &Request::default())
    }

    #[test]
    fn the_first_route_wins() {
        let (key, var) = (THRESHOLD.name, THRESHOLD.vars[0]);
        let old_var = "LLAMA_SPARSE_PRED_THRESHOLD";
        let file = [(key, Value::F32(0.1))];
        let all_env = [(var, "0.3"), (old_var, "0.2")];
        let threshold = |overrides: &[(&str, OverrideValue)], env: Pairs<'_>, given| {
            let request = Request { threshold: given, ..Request::default() };
            read(&file, overrides, env, &request).unwrap().threshold
        };
        assert_eq!(with(&[], &[], &[]).unwrap(), Options::default());
        assert_eq!(threshold(&[], &[], None), 0.1);
        assert_eq!(threshold(&[], &all_env[1..], None), 0.2);
        assert_eq!(threshold(&[], &all_env, None), 0.3);
        assert_eq!(threshold(&[(key, Float(0.4))], &all_env, None), 0.4);
        assert_eq!(threshold(&[(key, Float(0.4))], &all_env, Some(0.5)), 0.5);
        // An override wins even where it says what the file says.
        assert_eq!(threshold(&[(key, Float(f64::from(0.1f32)))], &all_env, None), 0.1);
        // So does a request with the value that nobody has to say.
        let (off, auto) = ([(MODE.vars[0], "off")], Some(Mode::Auto));
        let request = Request { mode: auto, ..Request::default() };
        assert_eq!(read(&[], &[], &off, &request).unwrap().mode, Mode::Auto);
    }

    #[test]
    fn any_kind_that_says_it_will_do() {
        let threshold = |value| with(&[], &[(THRESHOLD.name, value)], &[]).unwrap().threshold;
        assert_eq!(threshold(Float(-0.25)), -0.25);
        assert_eq!(threshold(Int(2)), 2.0);
        assert_eq!(threshold(Str(" 0.75 ".into())), 0.75);
        assert_eq!(threshold(Float(f64::NEG_INFINITY)), f32::NEG_INFINITY);
        assert_eq!(threshold(Str("-inf".into())), f32::NEG_INFINITY);
        // Also where the file has another kind.
        let file = [(THRESHOLD.name, Value::F32(0.5))];
        assert_eq!(with(&file, &[(THRESHOLD.name, Int(3))], &[]).unwrap().threshold, 3.0);

        let mode = |value| with(&[], &[(MODE.name, value)], &[]).unwrap().mode;
        assert_eq!(mode(Str("predictor".into())), Mode::Predictor);
        assert_eq!((mode(Bool(false)), mode(Bool(true))), (Mode::Off, Mode::Auto));
        assert_eq!((mode(Int(0)), mode(Int(1))), (Mode::Off, Mode::Auto));

        let stats = |value| with(&[], &[(STATS.name, value)], &[]).unwrap().stats;
        assert!(stats(Bool(true)) && stats(Int(1)) && stats(Str("on".into())));
        assert!(!stats(Bool(false)) && !stats(Int(0)) && !stats(Str("no".into())));
        assert!(with(&[], &[], &[("POWERINFER_STATS", "1")]).unwrap().stats);
    }

    #[test]
    fn where_neurons_live() {
        let env = [
            ("POWERINFER_VRAM_BUDGET", "1.5"),
            ("POWERINFER_PLACEMENT", "a file.gpuidx"),
            ("POWERINFER_RESET_GPU_INDEX", "on"),
            ("POWERINFER_DISABLE_GPU_INDEX", "0"),
        ];
        let options = with(&[], &[], &env).unwrap();
        assert_eq!(options.vram_budget, Some(3 << 29));
        assert_eq!(options.placement, Some(PathBuf::from("a file.gpuidx")));
        assert_eq!((options.reset_gpu_index, options.disable_gpu_index), (true, false));

        let overrides = [(RESET.name, Bool(false)), (DISABLE.name, Int(1)), (BUDGET.name, Int(0))];
        let options = with(&[], &overrides, &env).unwrap();
        assert_eq!((options.reset_gpu_index, options.disable_gpu_index), (false, true));
        assert_eq!(options.vram_budget, Some(0));
        let request = Request {
            vram_budget_gib: Some(f32::INFINITY),
            reset_gpu_index: Some(true),
            disable_gpu_index: Some(false),
            ..Request::default()
        };
        let options = read(&[], &overrides, &env, &request).unwrap();
        assert_eq!((options.reset_gpu_index, options.disable_gpu_index), (true, false));
        assert_eq!(options.vram_budget, Some(u64::MAX));
        assert_eq!(with(&[], &[], &[]).unwrap().vram_budget, None);

        let error = with(&[], &[(DISABLE.name, Str("never".into()))], &[]).unwrap_err();
        assert_eq!(error, r#"powerinfer.disable_gpu_index: str "never" is not a flag"#);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_with_its_origin() {
        let error = |overrides: &[(&str, OverrideValue)], env: Pairs<'_>| {
            with(&[], overrides, env).unwrap_err()
        };
        let text = error(&[], &[("POWERINFER_SPARSE", "fast")]);
        let modes = "auto, exact, predictor, sign, magnitude, off";
        assert_eq!(text, format!("POWERINFER_SPARSE: fast is not {modes}"));
        let text = error(&[(MODE.name, Float(0.5))], &[]);
        assert!(text.starts_with("powerinfer.sparse: f64 0.500000 is not auto"), "{text}");
        let text = error(&[], &[("LLAMA_SPARSE_PRED_THRESHOLD", "0,5")]);
        assert_eq!(text, "LLAMA_SPARSE_PRED_THRESHOLD: 0,5 is not a number");
        let text = error(&[(THRESHOLD.name, Float(f64::NAN))], &[]);
        assert_eq!(text, "powerinfer.sparse_threshold: f64 nan is not a number");
        let text = error(&[], &[("POWERINFER_VRAM_BUDGET", "-2")]);
        assert!(text.ends_with("-2 is not a size in GiB"), "{text}");
        let text = error(&[(STATS.name, Int(2))], &[]);
        assert_eq!(text, "powerinfer.stats: i64 2 is not a flag");
        let array = Value::Array(gguf::Array::F32(vec![0.5]));
        let text = with(&[(THRESHOLD.name, array)], &[], &[]).unwrap_err();
        assert!(text.starts_with("powerinfer.sparse_threshold: an array"), "{text}");
        // What is wrong in a route that does not count does not matter.
        let request = Request { threshold: Some(1.0), ..Request::default() };
        let env = [("POWERINFER_SPARSE_THRESHOLD", "x")];
        assert_eq!(read(&[], &[], &env, &request).unwrap().threshold, 1.0);
    }
}
