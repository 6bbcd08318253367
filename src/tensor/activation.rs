//! Activation functions of feed-forward layers: which one a model uses is part of its plan, how
//! it is computed is the backend's.

/// The nonlinearity between the two halves of a feed-forward layer.
///
/// Alone it is `out = act(gate)`; in a gated layer (GLU) it is `out = act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`, also called swish; gated it is SwiGLU (Elfwing et al., arXiv 1702.03118;
    /// Shazeer, arXiv 2002.05202).
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: the approximation that GELU's
    /// paper gives (Hendrycks and Gimpel, arXiv 1606.08415), and what `GELU` means in ggml. There
    /// the CPU looks it up in a table of half precision numbers, up to 2^-10 off; here it is
    /// computed. `GeluQuick` likewise.
    Gelu,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`: GELU itself (Hendrycks and Gimpel, arXiv 1606.08415).
    GeluErf,
    /// `x * sigmoid(1.702 x)`: the paper's other approximation of GELU (arXiv 1606.08415).
    GeluQuick,
    /// `max(x, 0)`; gated it is ReGLU (Shazeer, arXiv 2002.05202).
    Relu,
    /// `max(x, 0)^2` (So et al., Primer, arXiv 2109.08668).
    ReluSquared,
    /// gpt-oss's SwiGLU, gated only: with `gate` clamped to at most 7 and `up` to -7..7, it is
    /// `gate * sigmoid(1.702 gate) * (up + 1)` (OpenAI, arXiv 2508.10925).
    SwigluOai,
    /// Bamboo's and TurboSparse's dReLU, gated only: `max(gate, 0) * max(up, 0)` (Song et al.,
    /// arXiv 2406.05955).
    DoubleRelu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 8] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluErf,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::SwigluOai,
        Activation::DoubleRelu,
    ];

    /// Whether it is exactly zero for much of its input, so that neurons can be skipped.
    pub fn gives_zeros(self) -> bool {
        matches!(self, Activation::Relu | Activation::ReluSquared | Activation::DoubleRelu)
    }

    /// What it makes of the gate alone: zero where the whole is, whatever the other half.
    pub fn of_gate(self) -> Self {
        match self {
            Activation::DoubleRelu => Activation::Relu,
            act => act,
        }
    }

    /// Whether it has no meaning without the other half of a gated layer.
    pub fn is_gated_only(self) -> bool {
        matches!(self, Activation::SwigluOai | Activation::DoubleRelu)
    }
}
