//! Operations on vectors of f32: plain loops.

/// `y = x / sqrt(mean(x^2) + eps) * w`, the mean taken in f64.
pub(crate) fn rms_norm(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    let sum: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let scale = rms_scale(sum, x.len(), eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
        *y = x * scale * w;
    }
}

/// `1 / sqrt(sum_of_squares / n + eps)`, shared by all instruction sets.
pub(crate) fn rms_scale(sum_of_squares: f64, n: usize, eps: f32) -> f32 {
    let mean = (sum_of_squares / n as f64) as f32;
    1.0 / (mean + eps).sqrt()
}

/// `y += x`
pub(crate) fn add(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `y *= a`
pub(crate) fn scale(a: f32, y: &mut [f32]) {
    for y in y {
        *y *= a;
    }
}

/// `out = gate / (1 + exp(-gate)) * up`
pub(crate) fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, g), up) in out.iter_mut().zip(gate).zip(up) {
        *out = g / (1.0 + (-g).exp()) * up;
    }
}

/// Rotates the adjacent pairs of each head by the angles of `cos_sin`.
pub(crate) fn rope_norm(x: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
    for head in x.chunks_exact_mut(head_dim) {
        for (pair, cs) in head.chunks_exact_mut(2).zip(cos_sin.chunks_exact(2)) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * cs[0] - b * cs[1];
            pair[1] = a * cs[1] + b * cs[0];
        }
    }
}
