//! Models in other types, mixed as llama.cpp's `llama-quantize` mixes them without an importance
//! matrix: some tensors in more bits than the type's name says, and another type for rows that are
//! no multiple of its block. For dense models.

use std::io::{BufWriter, Write};
use std::path::Path;

use powerinfer::gguf::{Metadata, ModelFiles, TensorInfo, Value, Writer};
use powerinfer::quant::{self, QuantType};
use rayon::prelude::*;

/// What tensors become: a name of `llama-quantize` without its size suffix, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// The type of most tensors.
    pub ty: QuantType,
    /// What else there is.
    pub size: Size,
}

/// How many tensors of a K type get more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    Medium,
    Large,
}

impl Mix {
    /// By name: `Q4_K_M`, `IQ4_XS`. Q2_K without a suffix is medium.
    pub fn named(name: &str) -> Self {
        let (base, size) = match name {
            "Q2_K" => (name, Size::Medium),
            _ if name.ends_with("_K_S") => (&name[..name.len() - 2], Size::Small),
            _ if name.ends_with("_K_M") => (&name[..name.len() - 2], Size::Medium),
            _ if name.ends_with("_K_L") => (&name[..name.len() - 2], Size::Large),
            _ => (name, Size::Small),
        };
        let mut types = quant::types::TYPES.iter();
        let ty = types.find(|t| t.name.eq_ignore_ascii_case(base)).expect("a known type").ty;
        Self { ty, size }
    }
}

/// What the choice depends on besides the tensor.
struct Shape {
    n_layer: u64,
    /// Heads that share a KV head.
    n_gqa: u64,
    /// The token embeddings are the output matrix too.
    tied: bool,
}

impl Shape {
    fn of(files: &ModelFiles) -> Self {
        let meta = files.meta();
        let arch = text(meta, "general.architecture");
        let n_layer = number(meta, &format!("{arch}.block_count")).expect("a number of layers");
        let n_head = number(meta, &format!("{arch}.attention.head_count")).unwrap_or(1);
        let n_kv = number(meta, &format!("{arch}.attention.head_count_kv")).unwrap_or(n_head);
        Self { n_layer, n_gqa: n_head / n_kv, tied: files.tensor("output.weight").is_none() }
    }
}

fn text(meta: &Metadata, key: &str) -> String {
    match meta.get(key) {
        Some(Value::Str(s)) => s.to_string(),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(meta: &Metadata, key: &str) -> Option<u64> {
    match meta.get(key) {
        Some(Value::U32(n)) => Some(u64::from(*n)),
        _ => None,
    }
}

/// Matrices are quantised, but neither norms nor routers of experts.
fn is_matrix(t: &TensorInfo) -> bool {
    let kept =
        ["_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight"];
    t.shape.dims().len() >= 2
        && t.name.ends_with("weight")
        && !kept.iter().any(|end| t.name.ends_with(end))
}

/// The type that a tensor gets.
fn type_of(t: &TensorInfo, mix: Mix, shape: &Shape) -> QuantType {
    if !is_matrix(t) {
        return t.ty;
    }
    let n_cols = t.shape.dims()[0];
    let ty = match mix.ty {
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => return mix.ty,
        _ => preferred(t, n_cols, mix, shape),
    };
    if n_cols.is_multiple_of(ty.block_len() as u64) {
        return ty;
    }
    use QuantType as T;
    let smaller = match ty {
        T::IQ4_XS => T::IQ4_NL,
        T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        other => other,
    };
    if n_cols.is_multiple_of(smaller.block_len() as u64) { smaller } else { T::F16 }
}

/// The type for rows of any length.
fn preferred(t: &TensorInfo, n_cols: u64, mix: Mix, shape: &Shape) -> QuantType {
    use QuantType as T;
    use Size::{Large, Medium, Small};
    let n = shape.n_layer;
    let i = t.name.split('.').nth(1).and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
    let first_eighth = i < n / 8;
    let more_bits = first_eighth || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    let is = |part: &str| t.name.contains(part);
    let is_iq4 = matches!(mix.ty, T::IQ4_NL | T::IQ4_XS);

    if &*t.name == "output.weight" || (shape.tied && &*t.name == "token_embd.weight") {
        let fits = n_cols.is_multiple_of(mix.ty.block_len() as u64);
        return if mix.ty == T::Q8_0 || !fits { T::Q8_0 } else { T::Q6_K };
    }
    if is("attn_v.weight") {
        return match (mix.ty, mix.size) {
            (T::Q2_K, Medium) if shape.n_gqa >= 4 => T::Q4_K,
            (T::Q2_K, Medium) => T::Q3_K,
            (T::Q2_K, Small) if shape.n_gqa >= 4 => T::Q4_K,
            (T::Q3_K, Medium) => {
                if i < 2 {
                    T::Q5_K
                } else {
                    T::Q4_K
                }
            }
            (T::Q3_K, Large) => T::Q5_K,
            (T::Q4_K | T::Q5_K, Medium) if more_bits => T::Q6_K,
            (T::Q4_K, Small) if i < 4 => T::Q5_K,
            _ if is_iq4 && shape.n_gqa >= 4 => T::Q5_K,
            (ty, _) => ty,
        };
    }
    if is("ffn_down") {
        return match (mix.ty, mix.size) {
            (T::Q2_K, Medium) => T::Q3_K,
            (T::Q2_K, Small) if first_eighth => T::Q4_K,
            (T::Q3_K, Medium) => {
                if i < n / 16 {
                    T::Q5_K
                } else {
                    T::Q4_K
                }
            }
            (T::Q3_K, Large) => T::Q5_K,
            (T::Q4_K | T::Q5_K, Medium) if more_bits => T::Q6_K,
            (T::Q4_K, Small) if first_eighth => T::Q5_K,
            _ if is_iq4 && first_eighth => T::Q5_K,
            (ty, _) => ty,
        };
    }
    if is("attn_output.weight") {
        return match (mix.ty, mix.size) {
            (T::Q2_K, Medium) => T::Q3_K,
            (T::Q3_K, Medium) => T::Q4_K,
            (T::Q3_K, Large) => T::Q5_K,
            (ty, _) => ty,
        };
    }
    if is("attn_qkv.weight") {
        return match (mix.ty, mix.size) {
            (T::Q3_K, Medium | Large) => T::Q4_K,
            (T::Q4_K, Medium) => T::Q5_K,
            (T::Q5_K, Medium) => T::Q6_K,
            (ty, _) => ty,
        };
    }
    mix.ty
}

/// Writes a model (with its data loaded) in another mix of types to `path`.
pub fn requantize(files: &ModelFiles, mix: Mix, path: &Path) {
    let shape = Shape::of(files);
    let mut writer = Writer::copy_of(files.meta());
    writer.remove("general.file_type"); // else the description would be the source's
    for t in files.tensors() {
        writer.add_tensor(&t.name, t.shape.dims(), type_of(t, mix, &shape)).unwrap();
    }
    let mut out = writer.start(BufWriter::new(std::fs::File::create(path).unwrap())).unwrap();
    for t in files.tensors() {
        let bytes = converted(t, &files.data(t).unwrap(), type_of(t, mix, &shape));
        out.write(&bytes).unwrap();
    }
    out.finish().unwrap().flush().unwrap();
}

/// The rows of a tensor in another type, by way of f32.
fn converted(t: &TensorInfo, data: &[u8], ty: QuantType) -> Vec<u8> {
    if t.ty == ty {
        return data.to_vec();
    }
    let n_cols = t.shape.dims()[0];
    let row_bytes = |ty: QuantType| ty.row_bytes(n_cols).unwrap() as usize;
    let rows: Vec<Vec<u8>> = data
        .par_chunks(row_bytes(t.ty))
        .map(|row| {
            let mut numbers = vec![0.0; n_cols as usize];
            let mut out = vec![0; row_bytes(ty)];
            quant::dequantize_row(t.ty, row, &mut numbers).unwrap();
            quant::quantize_row(ty, &numbers, None, &mut out).unwrap();
            out
        })
        .collect();
    rows.concat()
}
