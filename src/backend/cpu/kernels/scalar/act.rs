//! Activation functions: plain loops.

use crate::tensor::Activation;

/// `sqrt(2 / pi)`
pub(crate) const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// The cubic term of GELU's approximation by tanh.
pub(crate) const GELU_CUBIC: f32 = 0.044715;
/// The factor of GELU's approximation by a sigmoid.
pub(crate) const QUICK: f32 = 1.702;
/// Where gpt-oss clamps.
pub(crate) const OAI_LIMIT: f32 = 7.0;

/// `out = act(gate) * up`, or `act(gate)` without `up`.
pub(crate) fn activate(act: Activation, gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    match up {
        Some(up) => {
            for ((out, &g), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gated(act, g, up);
            }
        }
        None => {
            for (out, &g) in out.iter_mut().zip(gate) {
                *out = plain(act, g);
            }
        }
    }
}

fn gated(act: Activation, gate: f32, up: f32) -> f32 {
    match act {
        Activation::SwigluOai => plain(act, gate) * (up.clamp(-OAI_LIMIT, OAI_LIMIT) + 1.0),
        Activation::DoubleRelu => relu(gate) * relu(up),
        _ => plain(act, gate) * up,
    }
}

/// The factor of the gate. Comparisons are such that NaN stays NaN.
fn plain(act: Activation, x: f32) -> f32 {
    match act {
        Activation::Silu => times_sigmoid(x, x),
        // (1 + tanh u) / 2 is sigmoid(2 u), which loses nothing for negative numbers.
        Activation::Gelu => times_sigmoid(x, 2.0 * SQRT_2_OVER_PI * x * (1.0 + GELU_CUBIC * x * x)),
        Activation::GeluErf => {
            let x = f64::from(x);
            (0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)) as f32
        }
        Activation::GeluQuick => times_sigmoid(x, QUICK * x),
        Activation::Relu | Activation::DoubleRelu => relu(x),
        Activation::ReluSquared => relu(x) * relu(x),
        Activation::SwigluOai => {
            let x = if x > OAI_LIMIT { OAI_LIMIT } else { x };
            times_sigmoid(x, QUICK * x)
        }
    }
}

fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `x * sigmoid(t)`
fn times_sigmoid(x: f32, t: f32) -> f32 {
    x / (1.0 + (-t).exp())
}
