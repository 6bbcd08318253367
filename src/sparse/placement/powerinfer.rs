//! PowerInfer's own index, `<model>.generated.gpuidx`, made by its solver.
//!
//! A GGUF with PowerInfer's magic, `general.architecture` = `generic.gpu_index`, the layers in
//! `generic.gpu_index.block_count`, and for each layer I32 tensors `blk.N.gpu_idx` `[n_ff]`, 1 for a
//! neuron on the GPU and 0 for one on the CPU, and `blk.N.gpu_bucket`, the ids of the former. It does
//! not say which model it is for; layers and neurons have to be as many as the model's.

use std::path::Path;

use super::index::{IndexError, ids, numbers};
use super::{Basis, Placement, Problem};
use crate::gguf::{LoadOptions, Magic, ModelFiles};

/// What PowerInfer puts behind the model's path.
pub(super) const SUFFIX: &str = ".generated.gpuidx";
const ARCHITECTURE: &str = "generic.gpu_index";

/// Reads a file for a model with the problem's layers. Whether it fits is not asked here.
pub(super) fn read(path: &Path, problem: &Problem<'_>) -> Result<Placement, IndexError> {
    let mut files = ModelFiles::open(path, &LoadOptions::default())?;
    let bad = |problem| IndexError::Bad { file: path.display().to_string(), problem };
    let meta = files.meta();
    let found = meta.require_str("general.architecture")?;
    if (found, meta.magic()) != (ARCHITECTURE, Magic::Pwri) {
        let (found, magic) = (found.escape_debug(), meta.magic().bytes().escape_ascii());
        return Err(bad(format!(
            "architecture '{found}' and magic {magic}, expected '{ARCHITECTURE}' and PWRI"
        )));
    }
    let n_layers = meta.require_u32(&format!("{ARCHITECTURE}.block_count"))? as usize;
    if n_layers != problem.layers.len() {
        let expected = problem.layers.len();
        return Err(bad(format!("{n_layers} layers, the model has {expected}")));
    }
    files.load_tensors(&mut |_| true)?;
    let hot = problem.layers.iter().enumerate().map(|(il, layer)| {
        let name = format!("blk.{il}.gpu_idx");
        let on_gpu = numbers(&files, &name, layer.n_ff)?;
        if on_gpu.len() != layer.n_ff || on_gpu.iter().any(|x| !matches!(x, 0 | 1)) {
            let (n, n_ff) = (on_gpu.len(), layer.n_ff);
            return Err(format!("tensor '{name}' has {n} numbers, expected {n_ff}, each 0 or 1"));
        }
        let hot = (0..).zip(on_gpu).filter(|(_, on)| *on == 1).map(|(id, _)| id);
        let hot: Vec<u32> = hot.collect();
        let bucket = format!("blk.{il}.gpu_bucket");
        if files.tensor(&bucket).is_some() && ids(&files, &bucket, layer.n_ff)? != hot {
            return Err(format!("tensor '{bucket}' names other neurons than '{name}'"));
        }
        Ok(hot)
    });
    let hot = hot.collect::<Result<_, _>>().map_err(bad)?;
    Ok(Placement { hot, basis: Basis::PowerInfer })
}
