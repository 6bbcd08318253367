//! The files of a model, written side by side, each tensor a few rows at a time.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use powerinfer::gguf::{DataWriter, Magic, Value, Writer};
use powerinfer::model::Ftype;
use powerinfer::quant::{QuantType, quantize_row};
use powerinfer::sparse::{ActivationCounts, CountedModel, LayerCounts};
use rayon::prelude::*;

use crate::Error;
use crate::arch::{self, In, Tensor};
use crate::recipe::{Layer, Shape};
use crate::repeat::Originals;

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

/// Writes the files `prefix` + suffix; gives their paths, and how often the neurons of each layer
/// fire.
pub fn write(
    prefix: &str,
    kinds: &[Kind],
    shape: &Shape,
    types: Types,
    threshold: f32,
    tokenizer: &[(String, Value)],
) -> Result<(Vec<PathBuf>, Vec<Vec<f64>>), Error> {
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

    let mut originals = Originals::new(shape);
    let mut rates = Vec::new();
    let mut layer = Layer::new(*shape, 0);
    for (i, t) in tensors.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| tensors[i].layer);
        if before.is_some_and(|layer| layer != t.layer) {
            layer = Layer::new(*shape, t.layer);
        }
        if before < Some(t.layer) {
            eprintln!("layer {}: {:.1} % of neurons fire", t.layer, layer.active() * 100.0);
            rates.push(layer.rates.clone());
        }
        if outputs.iter().any(|o| o.kind.has(t.files)) {
            write_tensor(&mut outputs, &mut originals, &layer, t, types.of(t))?;
        }
    }
    for output in outputs {
        output.data.finish()?;
    }
    Ok((paths, rates))
}

/// Writes how often the neurons fire in so many tokens, where the library looks for it.
pub fn write_counts(
    model: &Path,
    shape: &Shape,
    rates: &[Vec<f64>],
    n_tokens: u32,
) -> Result<(), Error> {
    let count = |rate: &f64| (rate * f64::from(n_tokens)).round() as u32;
    let layers = rates.iter().map(|rates| LayerCounts {
        tokens: n_tokens.into(),
        counts: rates.iter().map(count).collect(),
    });
    let architecture = shape.arch.name().to_owned();
    let counts = ActivationCounts {
        model: Some(CountedModel { architecture, n_embd: shape.n_embd }),
        layers: layers.collect(),
    };
    let mut path = model.as_os_str().to_owned();
    path.push(".activation.gguf");
    Ok(counts.save(Path::new(&path))?)
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
    originals: &mut Originals,
    layer: &Layer,
    t: &Tensor,
    ty: QuantType,
) -> Result<(), Error> {
    let mut write = |bytes: &[u8]| {
        let mut wanting = outputs.iter_mut().filter(|o| o.kind.has(t.files));
        wanting.try_for_each(|output| output.data.write(bytes))
    };
    if let Some(bytes) = originals.repeated(layer, t, ty)? {
        return Ok(write(&bytes)?);
    }
    let n_cols = t.dims[0];
    let n_rows = t.dims.get(1).copied().unwrap_or(1);
    let step = (BLOCK / n_cols).clamp(1, n_rows);
    let starts: Vec<usize> = (0..n_rows).step_by(step).collect();
    // A few blocks for each thread, then they are written.
    for starts in starts.chunks(4 * rayon::current_num_threads()) {
        let blocks: Vec<(Vec<u8>, Vec<f32>)> = starts
            .par_iter()
            .map(|&first| block(layer, t, ty, first, step.min(n_rows - first)))
            .collect::<Result<_, _>>()?;
        for (bytes, own) in &blocks {
            write(bytes)?;
            originals.keep(t, bytes, own);
        }
    }
    Ok(())
}

/// Rows `first .. first + n` as they are in the file, and of each row the numbers of the block that
/// a layer which repeats this one has to make anew.
fn block(
    layer: &Layer,
    t: &Tensor,
    ty: QuantType,
    first: usize,
    n: usize,
) -> Result<(Vec<u8>, Vec<f32>), Error> {
    let n_cols = t.dims[0];
    let mut numbers = vec![0.0; n * n_cols];
    layer.fill(t.content, first, n_cols, &mut numbers);
    // Whole blocks in a row, so all rows are like one; the header has checked it.
    let mut bytes = vec![0; ty.row_bytes(numbers.len() as u64).unwrap_or(0) as usize];
    quantize_row(ty, &numbers, None, &mut bytes)?;
    let own = layer.own_column(t.content).map_or_else(Vec::new, |(column, _)| {
        let len = ty.block_len();
        let from = column / len * len;
        numbers.chunks(n_cols).flat_map(|row| row[from..from + len].to_vec()).collect()
    });
    Ok((bytes, own))
}
