//! Rotary position embedding: rotation frequencies with linear and YaRN scaling.
//!
//! Sources: RoFormer (arXiv 2104.09864); position interpolation (arXiv 2306.15595); YaRN
//! (arXiv 2309.00071), "NTK by parts" with its attention factor.

/// How positions beyond the training length are handled.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeScaling {
    None,
    Linear,
    Yarn,
    /// Frequencies have divisors in the file, by the context's length (arXiv 2402.13753).
    LongRope,
}

/// What the model file says about its rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeTraining {
    /// Base of the geometric series of frequencies.
    pub freq_base: f32,
    /// Factor on positions: 1 / the context extension.
    pub freq_scale: f32,
    /// Kind of scaling.
    pub scaling: RopeScaling,
    /// Context length before extension, in tokens.
    pub n_ctx_orig: usize,
    /// Factor on the magnitude of rotated elements.
    pub attn_factor: f32,
    /// Rotations over the original context above which YaRN extrapolates.
    pub yarn_beta_fast: f32,
    /// Rotations over the original context below which YaRN interpolates.
    pub yarn_beta_slow: f32,
    /// Share of YaRN's mix; negative means: 1 for YaRN, 0 for the others.
    pub yarn_ext_factor: f32,
    /// Takes back this part of YaRN's sharpening (DeepSeek's `mscale_all_dim`).
    pub yarn_log_mul: f32,
    /// Whether the model was trained with the scaling, if the file says so.
    pub finetuned: Option<bool>,
}

/// A context's wishes; `None` and negative values stand for the model's own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RopeParams {
    /// Kind of scaling.
    pub scaling: Option<RopeScaling>,
    /// Frequency base.
    pub freq_base: Option<f32>,
    /// Factor on positions.
    pub freq_scale: Option<f32>,
    /// Share of YaRN's mix.
    pub yarn_ext_factor: Option<f32>,
    /// Factor on the magnitude.
    pub yarn_attn_factor: Option<f32>,
    /// See [`RopeTraining::yarn_beta_fast`].
    pub yarn_beta_fast: Option<f32>,
    /// See [`RopeTraining::yarn_beta_slow`].
    pub yarn_beta_slow: Option<f32>,
    /// Context length before extension, in tokens.
    pub yarn_orig_ctx: Option<usize>,
}

/// Angle per position of each pair, and the magnitude of the rotated pair.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeFreqs {
    /// Radians per position, `n_rot / 2` of them.
    pub inv_freq: Vec<f64>,
    /// Factor on cosine and sine.
    pub magnitude: f32,
}

impl RopeFreqs {
    /// Frequencies of `n_rot / 2` pairs. `factors` divide them one by one (Llama 3.1).
    pub fn new(
        n_rot: usize,
        train: &RopeTraining,
        params: &RopeParams,
        factors: Option<&[f32]>,
    ) -> Self {
        let base = f64::from(params.freq_base.unwrap_or(train.freq_base));
        let scaling = params.scaling.unwrap_or(train.scaling);
        let scale = match scaling {
            RopeScaling::None => 1.0,
            _ => f64::from(params.freq_scale.unwrap_or(train.freq_scale)),
        };
        let mix = params.yarn_ext_factor.or(Some(train.yarn_ext_factor).filter(|x| *x >= 0.0));
        let mix = f64::from(mix.unwrap_or(f32::from(u8::from(scaling == RopeScaling::Yarn))));
        let n_ctx_orig = params.yarn_orig_ctx.unwrap_or(train.n_ctx_orig) as f64;
        // The pair that turns `beta` times over the original context.
        let pair_of = |beta: f32| {
            let turns = f64::from(beta) * std::f64::consts::TAU;
            n_rot as f64 * (n_ctx_orig / turns).ln() / (2.0 * base.ln())
        };
        let fast = pair_of(params.yarn_beta_fast.unwrap_or(train.yarn_beta_fast)).floor().max(0.0);
        let slow = pair_of(params.yarn_beta_slow.unwrap_or(train.yarn_beta_slow)).ceil();
        let slow = slow.min(n_rot as f64 - 1.0);
        let inv_freq = (0..n_rot / 2)
            .map(|i| {
                let plain = base.powf(-2.0 * i as f64 / n_rot as f64)
                    / factors.map_or(1.0, |f| f64::from(f[i]));
                let ramp = 1.0 - ((i as f64 - fast) / (slow - fast).max(0.001)).clamp(0.0, 1.0);
                let extrapolated = ramp * mix;
                plain * (scale * (1.0 - extrapolated) + extrapolated)
            })
            .collect();
        // YaRN 3.4: attention is sharpened by 0.1 ln(extension) + 1.
        let sharpening = match mix != 0.0 && scale < 1.0 {
            true => {
                let sharper = |part: f64| 1.0 + 0.1 * part * (1.0 / scale).ln();
                sharper(1.0) / sharper(f64::from(train.yarn_log_mul))
            }
            false => f64::from(params.yarn_attn_factor.unwrap_or(1.0)),
        };
        Self { inv_freq, magnitude: (sharpening * f64::from(train.attn_factor)) as f32 }
    }

    /// Writes cosine and sine of every pair at a position: `n_rot` numbers, interleaved.
    pub fn cos_sin(&self, pos: i32, out: &mut [f32]) {
        for (pair, inv_freq) in out.chunks_exact_mut(2).zip(&self.inv_freq) {
            let (sin, cos) = (f64::from(pos) * inv_freq).sin_cos();
            pair[0] = cos as f32 * self.magnitude;
            pair[1] = sin as f32 * self.magnitude;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RopeTraining = RopeTraining {
        freq_base: 10000.0,
        freq_scale: 1.0,
        scaling: RopeScaling::Linear,
        n_ctx_orig: 4096,
        attn_factor: 1.0,
        yarn_beta_fast: 32.0,
        yarn_beta_slow: 1.0,
        yarn_ext_factor: -1.0,
        yarn_log_mul: 0.0,
        finetuned: None,
    };

    #[test]
    fn plain_frequencies_are_a_geometric_series() {
        let f = RopeFreqs::new(4, &PLAIN, &RopeParams::default(), None);
        assert_eq!(f.inv_freq, [1.0, 0.01]);
        let mut table = [0.0; 4];
        f.cos_sin(100, &mut table);
        assert_eq!(table[2..], [1f64.cos() as f32, 1f64.sin() as f32]);
    }

    #[test]
    fn linear_scaling_divides_positions_and_factors_divide_frequencies() {
        let train = RopeTraining { freq_scale: 0.25, ..PLAIN };
        let f = RopeFreqs::new(4, &train, &RopeParams::default(), Some(&[1.0, 8.0]));
        assert_eq!(f.inv_freq, [0.25, 0.01 / 8.0 * 0.25]);
        let none = RopeParams { scaling: Some(RopeScaling::None), ..RopeParams::default() };
        assert_eq!(RopeFreqs::new(4, &train, &none, None).inv_freq, [1.0, 0.01]);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
        let train = RopeTraining { freq_scale: 0.25, scaling: RopeScaling::Yarn, ..PLAIN };
        let f = RopeFreqs::new(128, &train, &RopeParams::default(), None);
        let plain = RopeFreqs::new(128, &PLAIN, &RopeParams::default(), None);
        assert_eq!(f.inv_freq[0], plain.inv_freq[0]);
        assert_eq!(f.inv_freq[63], plain.inv_freq[63] * 0.25);
        assert!((f.magnitude - (1.0 + 0.1 * 4f32.ln())).abs() < 1e-6);
    }
}
