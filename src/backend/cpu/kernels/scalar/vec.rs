//! Operations on vectors of f32: plain loops.

/// `y = x / sqrt(mean(x^2) + eps) * w`, the mean taken in f64; `x` is `y` itself when `None`.
pub(crate) fn rms_norm(x: Option<&[f32]>, w: Option<&[f32]>, eps: f32, y: &mut [f32]) {
    if let Some(x) = x {
        y.copy_from_slice(x);
    }
    let sum: f64 = y.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    scale(rms_scale(sum, y.len(), eps), y);
    if let Some(w) = w {
        mul(w, y);
    }
}

/// `y = (x - mean(x)) / sqrt(variance(x) + eps) * w + b`; `x` is `y` itself when `None`.
pub(crate) fn layer_norm(
    x: Option<&[f32]>,
    w: Option<&[f32]>,
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) {
    if let Some(x) = x {
        y.copy_from_slice(x);
    }
    let mean = Mean::of(y.iter().map(|&v| f64::from(v)).sum(), y.len());
    for y in &mut *y {
        *y = *y - mean.hi - mean.lo;
    }
    let sum: f64 = y.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    scale(rms_scale(sum, y.len(), eps), y);
    if let Some(w) = w {
        mul(w, y);
    }
    if let Some(b) = b {
        add(b, y);
    }
}

/// A mean that was taken in f64, as the sum of two f32: numbers near it lose nothing when both
/// parts are subtracted, one after the other.
pub(crate) struct Mean {
    pub(crate) hi: f32,
    pub(crate) lo: f32,
}

impl Mean {
    pub(crate) fn of(sum: f64, n: usize) -> Self {
        let mean = sum / n as f64;
        let hi = mean as f32;
        Self { hi, lo: (mean - f64::from(hi)) as f32 }
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

/// `y *= x`
fn mul(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y *= x;
    }
}

/// `y += a * x`
pub(crate) fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
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

/// Rotates the pairs `(i, i + n_rot / 2)` of each head by the angles of `cos_sin`.
pub(crate) fn rope_neox(x: &mut [f32], head_dim: usize, cos_sin: &[f32]) {
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(cos_sin.len() / 2);
        for ((a, b), cs) in first.iter_mut().zip(second).zip(cos_sin.chunks_exact(2)) {
            (*a, *b) = (*a * cs[0] - *b * cs[1], *a * cs[1] + *b * cs[0]);
        }
    }
}

/// `y = cap * tanh(y / cap)`
pub(crate) fn soft_cap(cap: f32, y: &mut [f32]) {
    for y in y {
        *y = cap * (*y / cap).tanh();
    }
}

/// `y = max(x - mean(x) - n_std * deviation(x), 0)`
pub(crate) fn beyond(n_std: f32, x: &[f32], y: &mut [f32]) {
    let mean = (sum(x, |x| x) / x.len() as f64) as f32;
    let squares = sum(x, |x| (x - f64::from(mean)) * (x - f64::from(mean)));
    let deviation = (squares / x.len().saturating_sub(1).max(1) as f64).sqrt() as f32;
    let cutoff = mean + n_std * deviation;
    for (y, x) in y.iter_mut().zip(x) {
        // NaN is not below.
        *y = if x - cutoff < 0.0 { 0.0 } else { x - cutoff };
    }
}

/// The sum of `f(x)`, in as many running sums as the compiler can keep apart.
fn sum(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let (blocks, rest) = x.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f(f64::from(x));
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f(f64::from(x))).sum::<f64>()
}

/// `y = exp(y - max(y)) / sum(exp(y - max(y)))`
pub(crate) fn softmax(y: &mut [f32]) {
    let greatest = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for y in &mut *y {
        *y = (*y - greatest).exp();
        sum += f64::from(*y);
    }
    scale((1.0 / sum) as f32, y);
}
