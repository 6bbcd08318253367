//! Where counts and placements come from, and where placements are kept.

use std::path::{Path, PathBuf};

use super::super::beside;
use super::index::{GpuIndex, MadeFor};
use super::{BadProblem, Placement, Problem, even, place, powerinfer};
use crate::model::{Fingerprint, Model};
use crate::sparse::{ActivationCounts, ActivationError};
use crate::{log_info, log_warn};

/// How often the neurons of a model fire, by the first of these that is there and fits: tensors in
/// its own file, `<model>.activation.gguf` (where `powerinfer_save_activation` may put its file), and
/// PowerInfer's folder `activation` beside the model. What does not fit is named in the log.
///
/// `n_ff` are the neurons of each layer, 0 where none can be skipped.
pub fn find_counts(model: &Model, path: Option<&Path>, n_ff: &[usize]) -> Option<ActivationCounts> {
    let fitting = |counts: ActivationCounts, from: &str| match misfit(&counts, model, n_ff) {
        None => {
            log_info!("placement: counts of activations from {from}");
            Some(counts)
        }
        Some(problem) => {
            log_warn!("placement: counts in {from} are not used: {problem}");
            None
        }
    };
    let tried = |counts: Result<ActivationCounts, ActivationError>, from: &str| match counts {
        Ok(counts) => fitting(counts, from),
        Err(error) => {
            log_warn!("placement: counts are not used: {error}");
            None
        }
    };
    let of_model = ActivationCounts::of_model(model).transpose();
    if let Some(counts) = of_model.and_then(|counts| tried(counts, "the model's file")) {
        return Some(counts);
    }
    let path = path?;
    let saved = beside::with_suffix(path, ".activation.gguf");
    let folder = path.with_file_name("activation");
    let saved = saved.is_file().then(|| tried(ActivationCounts::load(&saved), &name(&saved)));
    let imported = || {
        let counts = || tried(ActivationCounts::import(&folder), &name(&folder));
        folder.is_dir().then(counts).flatten()
    };
    saved.flatten().or_else(imported)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Why counts are of no use for a model; `None` when they are.
fn misfit(counts: &ActivationCounts, model: &Model, n_ff: &[usize]) -> Option<String> {
    if counts.layers.len() != n_ff.len() {
        return Some(format!("{} layers, the model has {}", counts.layers.len(), n_ff.len()));
    }
    if let Some(of) = &counts.model
        && of.architecture != model.arch_name()
    {
        let (of, is) = (of.architecture.escape_debug(), model.arch_name());
        return Some(format!("made for architecture '{of}', the model is '{is}'"));
    }
    let found = counts.layers.iter().zip(n_ff).enumerate();
    let wrong =
        |counts: &[u32], n_ff: usize| n_ff > 0 && !counts.is_empty() && counts.len() != n_ff;
    let mut wrong = found.filter(|(_, (layer, n_ff))| wrong(&layer.counts, **n_ff));
    wrong.next().map(|(il, (layer, n_ff))| {
        format!("layer {il} has {} neurons, in the model {n_ff}", layer.counts.len())
    })
}

/// Where the placements of a model are kept.
#[derive(Clone, Debug)]
pub struct IndexPlaces {
    own: Vec<PathBuf>,
    /// Whether the user named the file.
    named: bool,
    /// Where PowerInfer keeps its own.
    powerinfers: Option<PathBuf>,
}

impl IndexPlaces {
    /// At `explicit` and nowhere else, or beside the model (`None` when it has no path) and in the
    /// caches' folder.
    pub fn new(fingerprint: Fingerprint, model: Option<&Path>, explicit: Option<&Path>) -> Self {
        let beside = model.filter(|_| explicit.is_none());
        Self {
            own: beside::places(fingerprint, model, explicit, ".gpuidx"),
            named: explicit.is_some(),
            powerinfers: beside.map(|path| beside::with_suffix(path, powerinfer::SUFFIX)),
        }
    }

    /// The problem's placement: one that is kept and of use, else, without counts, PowerInfer's with
    /// what the budget has left over, else a new one. The latter two are kept, so that later runs have
    /// the same whatever is free by then. With `reset` nothing that is kept is looked at.
    ///
    /// A file of PowerInfer's that the user named is taken as it is, and is never written over.
    ///
    /// # Errors
    /// When a figure of the problem makes no sense.
    pub fn place(
        &self,
        problem: &Problem<'_>,
        made_for: MadeFor,
        reset: bool,
    ) -> Result<Placement, BadProblem> {
        problem.check()?;
        let mut theirs = None;
        if !reset {
            if let Some(placement) = self.kept(problem, &made_for) {
                return Ok(placement);
            }
            theirs = self.of_powerinfer(problem);
        }
        let placement = theirs.map_or_else(|| place(problem), Ok)?;
        self.keep(&GpuIndex { made_for, figures: problem.machine, placement: placement.clone() });
        Ok(placement)
    }

    fn kept(&self, problem: &Problem<'_>, made_for: &MadeFor) -> Option<Placement> {
        for path in beside::newest_first(&self.own) {
            if self.named && !GpuIndex::is_one(path) {
                return read_powerinfers(path, problem);
            }
            if self.powerinfers_for(problem).is_some_and(|theirs| newer(theirs, path)) {
                log_info!("placement: {} is older than PowerInfer's", path.display());
                continue;
            }
            match GpuIndex::read(path).map(|index| (index.is_for(made_for), index)) {
                Ok((Ok(()), index)) => {
                    log_info!("placement: as kept in {}", path.display());
                    return Some(index.placement);
                }
                Ok((Err(why), _)) => log_info!("placement: {} is {why}", path.display()),
                Err(error) => log_warn!("placement: index ignored: {error}"),
            }
        }
        None
    }

    /// PowerInfer's index beside the model, where nothing better is known.
    fn powerinfers_for(&self, problem: &Problem<'_>) -> Option<&Path> {
        let counted = problem.layers.iter().any(|layer| layer.known().is_some());
        self.powerinfers.as_deref().filter(|path| !counted && path.is_file())
    }

    fn of_powerinfer(&self, problem: &Problem<'_>) -> Option<Placement> {
        let path = self.powerinfers_for(problem)?;
        let mut placement = read_powerinfers(path, problem)?;
        placement.hot = even::fill(problem, placement.hot, super::GROUP);
        Some(placement)
    }

    fn keep(&self, index: &GpuIndex) {
        let mut failed = None;
        for path in &self.own {
            if self.named && path.exists() && !GpuIndex::is_one(path) {
                log_warn!("placement: {} is no index of ours: left as it is", path.display());
                return;
            }
            match index.write(path) {
                Ok(()) => return log_info!("placement: kept in {}", path.display()),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            log_warn!("placement: it cannot be kept: {error}");
        }
    }
}

/// Whether the first of two files was written after the second.
fn newer(first: &Path, second: &Path) -> bool {
    let written = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    written(first) > written(second)
}

/// PowerInfer's index where it is for such a model and within the budget; else a line in the log.
fn read_powerinfers(path: &Path, problem: &Problem<'_>) -> Option<Placement> {
    let placement = match powerinfer::read(path, problem) {
        Ok(placement) => placement,
        Err(error) => {
            log_warn!("placement: index ignored: {error}");
            return None;
        }
    };
    let bytes = placement.predict(problem).bytes();
    if bytes > problem.cap {
        let (path, cap) = (path.display(), problem.cap);
        log_warn!("placement: {path} ignored: {bytes} bytes, {cap} are there for neurons");
        return None;
    }
    log_info!("placement: PowerInfer's, {}", path.display());
    Some(placement)
}
