//! Writes a loaded model as a file: what was read, as it was filed, however it lies in memory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::load::{Model, Weight};
use super::{Layout, layout};
use crate::gguf::{self, Writer};
use crate::quant::tiles;

/// Rows that are brought into the file's order together.
const TOGETHER: usize = 1024;

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// There is nothing to write.
    #[error("the model was loaded without its weights")]
    NoWeights,
    /// The system refused an operation.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The container cannot be written.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
}

impl Model {
    /// Writes the model to one file, in place of what is there: readers see the old one or the new
    /// one. Overrides are written as the file's values.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        let io = |action| move |source| SaveError::Io { action, source };
        if !self.has_data() {
            return Err(SaveError::NoWeights);
        }
        // The weights may be mapped from the very file that is replaced.
        let mut unfinished = OsString::from(path);
        unfinished.push(format!(".{}.tmp", std::process::id()));
        let written = File::create(&unfinished)
            .map_err(io("create the file"))
            .and_then(|file| self.write(BufWriter::with_capacity(1 << 20, file)))
            .and_then(|()| std::fs::rename(&unfinished, path).map_err(io("replace the file")));
        if written.is_err() {
            // What is left of it, if anything.
            let _ = std::fs::remove_file(&unfinished);
        }
        written
    }

    fn write(&self, out: impl Write) -> Result<(), SaveError> {
        let mut file = Writer::copy_of(self.meta());
        for key in self.meta().override_keys() {
            if let Some(value) = self.meta().get(key) {
                file.set(key, value.clone())?;
            }
        }
        for key in ["split.no", "split.count", "split.tensors.count"] {
            file.remove(key);
        }
        for weight in self.weights() {
            file.add_tensor(&weight.name, weight.as_filed().shape.dims(), weight.ty)?;
        }
        let mut out = file.start(out)?;
        for weight in self.weights() {
            write_weight(weight, &mut |bytes| out.write(bytes))?;
        }
        out.finish()?;
        Ok(())
    }
}

/// Gives `put` the bytes of a weight in the file's order.
fn write_weight(
    weight: &Weight,
    put: &mut dyn FnMut(&[u8]) -> gguf::Result<()>,
) -> Result<(), SaveError> {
    let data = weight.data.as_deref().ok_or(SaveError::NoWeights)?;
    if weight.layout == Layout::Rows {
        return Ok(put(data)?);
    }
    let shape = weight.as_filed().shape;
    let (n_in, n_out) = (shape.ne()[0] as usize, shape.n_rows() as usize);
    let row_bytes = data.len() / n_out.max(1);
    let mut rows = vec![0; row_bytes * TOGETHER.min(n_out)];
    for start in (0..n_out).step_by(TOGETHER) {
        let n = TOGETHER.min(n_out - start);
        let rows = &mut rows[..n * row_bytes];
        const PIECE: usize = 32;
        rows.par_chunks_mut(PIECE * row_bytes).enumerate().for_each(|(i, piece)| {
            let first = start + i * PIECE;
            let range = first..first + piece.len() / row_bytes;
            filed_rows(weight, data, (n_in, n_out), range, piece);
        });
        put(rows)?;
    }
    Ok(())
}

/// Rows of the file's matrix of `n_out` rows of `n_in` elements.
fn filed_rows(
    weight: &Weight,
    data: &[u8],
    (n_in, n_out): (usize, usize),
    rows: Range<usize>,
    out: &mut [u8],
) {
    match (weight.layout, layout::plain_size(weight.ty)) {
        (Layout::Neurons, Some(4)) => tiles::transpose::<4>(data, n_out, n_in, rows, out),
        (Layout::Neurons, _) => tiles::transpose::<2>(data, n_out, n_in, rows, out),
        _ => tiles::unpack_rows(weight.ty, data, n_in, n_out, rows, out),
    }
}
