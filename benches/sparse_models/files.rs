//! The files of a model, written side by side, each tensor a few rows at a time.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use powerinfer::gguf::{DataWriter, Magic, Value, Writer};
use powerinfer::model::Ftype;
use powerinfer::quant::{QuantType, quantize_row};
use rayon::prelude::*;

use crate::Error;
use crate::arch::{self, In, Tensor};
use crate::recipe::{Layer, Shape};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For PowerInfer: predictors, and the down projection by neurons.
    Pwi,
    /// An ordinary file.
    Dense,
    /// An ordinary file that says that its activation is ReLU.
    Relu,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Pwi => ".pwi.gguf",
            Self::Dense => ".dense.gguf",
            Self::Relu => ".relu.gguf",
        }
    }

    fn has(self, tensors: In) -> bool {
        match tensors {
            In::All => true,
            In::Sparse => self == Self::Pwi,
            In::Dense => self != Self::Pwi,
        }
    }
}

/// Number formats of a model.
#[derive(Clone, Copy)]
pub struct Types {
    pub weights: QuantType,
    pub predictors: QuantType,
}

impl Types {
    fn of(self, t: &Tensor) -> QuantType {
        arch::type_of(t.class, self.weights, self.predictors, t.dims[0])
    }
}

/// A file being written.
struct Output {
    kind: Kind,
    data: DataWriter<BufWriter<File>>,
}

/// Writes the files `prefix` + suffix, and gives their paths.
pub fn write(
    prefix: &str,
    kinds: &[Kind],
    shape: &Shape,
    types: Types,
    threshold: f32,
    tokenizer: &[(String, Value)],
) -> Result<Vec<PathBuf>, Error> {
    let tensors = arch::tensors(shape);
    let file_type = Ftype::guess(std::iter::once(types.weights)).id;
    let mut keys = arch::keys(shape, file_type);
    keys.extend_from_slice(tokenizer);

    let mut paths = Vec::new();
    let mut outputs = Vec::new();
    for &kind in kinds {
        let header = header(kind, &keys, &tensors, types, threshold)?;
        let path = PathBuf::from(format!("{prefix}{}", kind.suffix()));
        let file = File::create(&path).map_err(|e| Error::Create(path.display().to_string(), e))?;
        outputs.push(Output { kind, data: header.start(BufWriter::new(file))? });
        paths.push(path);
    }

    let mut layer = Layer::new(*shape, 0);
    for (i, t) in tensors.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| tensors[i].layer);
        if before.is_some_and(|layer| layer != t.layer) {
            layer = Layer::new(*shape, t.layer);
        }
        if before < Some(t.layer) {
            eprintln!("layer {}: {:.1} % of neurons fire", t.layer, layer.active * 100.0);
        }
        write_tensor(&mut outputs, &layer, t, types.of(t))?;
    }
    for output in outputs {
        output.data.finish()?;
    }
    Ok(paths)
}

fn header(
    kind: Kind,
    keys: &[(String, Value)],
    tensors: &[Tensor],
    types: Types,
    threshold: f32,
) -> Result<Writer, Error> {
    let magic = if kind == Kind::Pwi { Magic::Pwri } else { Magic::Gguf };
    let mut header = Writer::new(magic);
    for (key, value) in keys {
        header.set(key, value.clone())?;
    }
    match kind {
        Kind::Pwi => header.set("powerinfer.sparse_threshold", Value::F32(threshold))?,
        Kind::Relu => header.set("powerinfer.activation", Value::Str("relu".into()))?,
        Kind::Dense => {}
    }
    for t in tensors.iter().filter(|t| kind.has(t.files)) {
        let dims: Vec<u64> = t.dims.iter().map(|&n| n as u64).collect();
        header.add_tensor(&t.name, &dims, types.of(t))?;
    }
    Ok(header)
}

/// Numbers that one thread makes at once.
const BLOCK: usize = 1 << 18;

fn write_tensor(
    outputs: &mut [Output],
    layer: &Layer,
    t: &Tensor,
    ty: QuantType,
) -> Result<(), Error> {
    if !outputs.iter().any(|o| o.kind.has(t.files)) {
        return Ok(());
    }
    let n_cols = t.dims[0];
    let n_rows = t.dims.get(1).copied().unwrap_or(1);
    let step = (BLOCK / n_cols).clamp(1, n_rows);
    let starts: Vec<usize> = (0..n_rows).step_by(step).collect();
    // A few blocks for each thread, then they are written.
    for starts in starts.chunks(4 * rayon::current_num_threads()) {
        let blocks: Vec<Vec<u8>> = starts
            .par_iter()
            .map(|&first| block(layer, t, ty, first, step.min(n_rows - first)))
            .collect::<Result<_, _>>()?;
        for output in outputs.iter_mut().filter(|o| o.kind.has(t.files)) {
            for bytes in &blocks {
                output.data.write(bytes)?;
            }
        }
    }
    Ok(())
}

/// Rows `first .. first + n` as they are in the file.
fn block(
    layer: &Layer,
    t: &Tensor,
    ty: QuantType,
    first: usize,
    n: usize,
) -> Result<Vec<u8>, Error> {
    let n_cols = t.dims[0];
    let mut numbers = vec![0.0; n * n_cols];
    layer.fill(t.content, first, n_cols, &mut numbers);
    // Whole blocks in a row, so all rows are like one; the header has checked it.
    let mut bytes = vec![0; ty.row_bytes(numbers.len() as u64).unwrap_or(0) as usize];
    quantize_row(ty, &numbers, None, &mut bytes)?;
    Ok(bytes)
}
