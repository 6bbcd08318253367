//! A tiny model of which one knows by construction which neurons fire and which are guessed.
//!
//! A llama with ReLU whose gates have no weights, only biases: one neuron in [`FIRES`] is above zero
//! for every token. Its predictors see `|x|` of some direction in their hidden layer, times a
//! positive number for one neuron in [`GUESSED`] and a negative one for the others.

use powerinfer::gguf::Value;
use powerinfer::quant::QuantType::F32;

use super::tiny::{Rng, Tensor, quantized};
use super::tiny_archs::{self, Ffn, Spec};

pub const N_LAYER: usize = 3;
pub const N_FF: usize = 96;
pub const N_EMBD: usize = 64;
/// Every so manieth neuron fires: 24 of 96.
pub const FIRES: usize = 4;
/// Every so manieth is guessed: 32 of 96, 8 of them fire.
pub const GUESSED: usize = 3;

/// The file.
pub fn bytes() -> Vec<u8> {
    let spec = Spec {
        name: "known-neurons",
        ffn: Ffn::Gated,
        ffn_bias: true,
        keys: &[],
        ..tiny_archs::spec("mixtral")
    };
    assert_eq!(spec.n_layer, N_LAYER);
    tiny_archs::edited_bytes(&spec, |keys, tensors| {
        keys.set("powerinfer.activation", Value::Str("relu".into())).unwrap();
        let every = |n: usize, yes: f32| {
            (0..N_FF).map(|i| if i % n == 0 { yes } else { -0.5 }).collect::<Vec<f32>>()
        };
        for tensor in tensors.iter_mut() {
            let numbers = if tensor.name.ends_with("ffn_gate.weight") {
                vec![0.0; N_EMBD * N_FF]
            } else if tensor.name.ends_with("ffn_gate.bias") {
                every(FIRES, 0.25)
            } else {
                continue;
            };
            (tensor.ty, tensor.data) = (F32, quantized(F32, &numbers));
        }
        for il in 0..N_LAYER {
            let direction = Rng(77 + il as u64).numbers(N_EMBD, 0.0, 1.0);
            let both = direction.iter().copied().chain(direction.iter().map(|x| -x));
            let fc1: Vec<f32> = both.collect();
            let fc2: Vec<f32> = every(GUESSED, 1.0).iter().flat_map(|&c| [c, c]).collect();
            for (name, dims, numbers) in [("fc1", [N_EMBD, 2], fc1), ("fc2", [2, N_FF], fc2)] {
                let data = quantized(F32, &numbers);
                let name = format!("blk.{il}.{name}.weight");
                tensors.push(Tensor { name, dims: dims.to_vec(), ty: F32, data });
            }
        }
    })
}
