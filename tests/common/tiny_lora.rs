//! LoRA adapters for tiny models, made in memory from the tensor tables of their files: a pair for
//! every matrix that llama.cpp adapts.

use std::sync::Arc;

use powerinfer::adapter::{Error, Lora};
use powerinfer::gguf::{LoadOptions, Magic, ModelFiles, Value, Writer};
use powerinfer::model::Model;
use powerinfer::quant::QuantType::{self, F32};

use super::tiny::{Rng, Tensor, quantized, unnamed_file, write};

/// What an adapter is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rank: usize,
    pub alpha: Option<f32>,
    /// Of both matrices; `rank` has to be whole blocks of it.
    pub ty: QuantType,
    /// How large what it adds is, beside products of about 1.
    pub gain: f32,
    pub seed: u64,
}

/// An adapter of all that can be adapted.
pub fn bytes(model: &[u8], shape: Shape) -> Vec<u8> {
    edited_bytes(model, shape, |_, _| {})
}

/// The file with other keys and tensors than it should have.
pub fn edited_bytes(
    model: &[u8],
    shape: Shape,
    edit: impl FnOnce(&mut Writer, &mut Vec<Tensor>),
) -> Vec<u8> {
    let options = LoadOptions { no_alloc: true, ..LoadOptions::default() };
    let files = ModelFiles::open_file(unnamed_file(model), "tiny.gguf", &options).unwrap();
    let mut keys = Writer::new(Magic::Gguf);
    let mut set = |key: &str, value| keys.set(key, value).unwrap();
    let arch = files.meta().require_str("general.architecture").unwrap();
    set("general.architecture", Value::Str(arch.into()));
    set("general.type", Value::Str("adapter".into()));
    set("adapter.type", Value::Str("lora".into()));
    if let Some(alpha) = shape.alpha {
        set("adapter.lora.alpha", Value::F32(alpha));
    }
    let mut rng = Rng(shape.seed << 32 | 77);
    let mut tensors = Vec::new();
    // llama.cpp cannot multiply with pairs for lookups.
    let tied = files.tensor("output.weight").is_none();
    for info in files.tensors() {
        let (name, ne) = (&*info.name, info.shape.ne().map(|d| d as usize));
        let others = ["norm", "position", "token_types", "cls", "fc1", "fc2"];
        let is_looked_up = name.ends_with("token_embd.weight");
        if ne[1] == 1
            || !name.ends_with(".weight")
            || others.iter().any(|other| name.contains(other))
            || (tied && name == "token_embd.weight")
        {
            continue;
        }
        // PowerInfer's files have the way back by neurons; adapters have it as it is elsewhere.
        let turned = name.contains("ffn_down_t");
        let name = name.replace("ffn_down_t", "ffn_down");
        let (n_in, n_out) = if turned { (ne[1], ne[0]) } else { (ne[0], ne[1]) };
        let a = if is_looked_up { [shape.rank, ne[1]] } else { [n_in, shape.rank] };
        let b = if is_looked_up { [shape.rank, ne[0]] } else { [shape.rank, n_out] };
        let per_in = if is_looked_up { 1.0 } else { 1.0 / (n_in as f32).sqrt() };
        let gains = [per_in, shape.gain / (shape.rank as f32).sqrt()];
        for ((half, [k, n]), gain) in [("lora_a", a), ("lora_b", b)].into_iter().zip(gains) {
            let dims = match ne[2] {
                1 => vec![k, n],
                n_expert => vec![k, n, n_expert],
            };
            let data = quantized(shape.ty, &rng.numbers(dims.iter().product(), 0.0, gain));
            tensors.push(Tensor { name: format!("{name}.{half}"), dims, ty: shape.ty, data });
        }
    }
    edit(&mut keys, &mut tensors);
    write(&keys, &tensors)
}

/// Loads an adapter from memory.
pub fn load(bytes: &[u8], model: &Model) -> Result<Arc<Lora>, Error> {
    let file = unnamed_file(bytes);
    let files = ModelFiles::open_file(file, "adapter.gguf", &Lora::load_options())?;
    Lora::load(files, model).map(Arc::new)
}

/// The two adapters that goldens have: with alpha and without, of different ranks.
pub fn pair(model: &[u8], seed: u64) -> [Vec<u8>; 2] {
    pair_as_strong_as(1.0, model, seed)
}

/// The same with another strength: what is added to each of many layers grows from layer to layer,
/// and so does what was rounded.
pub fn pair_as_strong_as(strength: f32, model: &[u8], seed: u64) -> [Vec<u8>; 2] {
    let first = Shape { rank: 4, alpha: Some(6.0), ty: F32, gain: 0.3 * strength, seed };
    let second = Shape { rank: 7, alpha: None, gain: 0.5 * strength, seed: seed + 1000, ..first };
    [bytes(model, first), bytes(model, second)]
}

/// A control vector for all layers but the first.
pub fn control_vector(n_embd: usize, n_layer: usize, seed: u64) -> Vec<f32> {
    Rng(seed << 32 | 78).numbers(n_embd * (n_layer - 1), 0.0, 0.5)
}
