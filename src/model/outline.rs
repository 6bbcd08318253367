//! Which weights a model has that is made without a file.

use std::collections::HashSet;

use super::load::{Weight, plan_uses};
use super::{Error, Layout, arch};
use crate::gguf::ModelFiles;
use crate::plan::BuildError;
use crate::quant::QuantType;
use crate::tensor::Shape;

/// A weight to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Extents, contiguous dimension first.
    pub dims: Vec<u64>,
    /// Number format.
    pub ty: QuantType,
}

/// The weights of a model with this metadata, in the order in which the architecture asks for them.
///
/// Those that it cannot do without are F32. The tensor table may name some: then they have the
/// number format that it says; and weights that a model may do without, such as biases or an
/// output matrix apart from the embeddings, exist only if the table names them. Extents follow from
/// the metadata where they do.
pub fn wanted(files: &ModelFiles) -> Result<Vec<Wanted>, Error> {
    let arch = arch::find(files.meta().require_str("general.architecture")?)?;
    let hparams = (arch.hparams)(files.meta())?;
    let weight = |name: &str, ty: QuantType, shape: Shape| Weight {
        name: name.to_owned(),
        ty,
        shape,
        layout: Layout::Rows,
        data: None,
    };
    let named = files.tensors().iter();
    let mut weights: Vec<Weight> = named.map(|t| weight(&t.name, t.ty, t.shape)).collect();
    // Asks again and again, each time with one weight more or put right.
    let mut put_right = HashSet::new();
    let used = loop {
        match plan_uses(arch, &hparams, &weights) {
            Ok(used) => break used,
            Err(Error::Build(BuildError::Missing { name, expected })) => {
                let shape = Shape::new(&expected).ok_or_else(|| no_shape(&name, &expected))?;
                weights.push(weight(&name, QuantType::F32, shape));
            }
            Err(Error::Build(BuildError::WrongShape { name, expected, .. })) => {
                let shape = Shape::new(&expected).ok_or_else(|| no_shape(&name, &expected))?;
                match weights.iter_mut().find(|w| w.name == name) {
                    Some(found) if put_right.insert(name.clone()) => found.shape = shape,
                    _ => return Err(no_shape(&name, &expected)),
                }
            }
            Err(error) => return Err(error),
        }
    };
    let mut seen = vec![false; weights.len()];
    let first = |id: &usize| !std::mem::replace(&mut seen[*id], true);
    let wanted = used.into_iter().filter(first).map(|id| Wanted {
        name: weights[id].name.clone(),
        dims: weights[id].shape.dims().to_vec(),
        ty: weights[id].ty,
    });
    Ok(wanted.collect())
}

fn no_shape(name: &str, expected: &[u64]) -> Error {
    Error::Unsupported(format!("tensor '{name}' cannot have shape {expected:?}"))
}
