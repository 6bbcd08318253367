//! The operands that products with matrices share.

use super::super::pack::{row_stride, takes_q8};
use super::super::{Arg, View};
use super::{check, int, optional, rows_bytes};
use crate::quant::QuantType;

/// The name of a type's kernel: `kernel_of!(ty, "mat_mul_", "")`.
macro_rules! kernel_of {
    ($ty:expr, $before:literal, $after:literal) => {
        match $ty {
            QuantType::F32 => concat!($before, "f32", $after),
            QuantType::F16 => concat!($before, "f16", $after),
            QuantType::BF16 => concat!($before, "bf16", $after),
            QuantType::Q8_0 => concat!($before, "q8_0", $after),
            QuantType::Q4_0 => concat!($before, "q4_0", $after),
            QuantType::Q4_1 => concat!($before, "q4_1", $after),
            QuantType::Q5_0 => concat!($before, "q5_0", $after),
            QuantType::Q4_K => concat!($before, "q4_k", $after),
            QuantType::Q5_K => concat!($before, "q5_k", $after),
            QuantType::Q6_K => concat!($before, "q6_k", $after),
            ty => panic!("no kernel for weights of type {ty}"),
        }
    };
}
pub(super) use kernel_of;

/// Rows of weights, packed ([`super::super::pack`]).
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Type.
    pub ty: QuantType,
    /// Rows.
    pub n_rows: usize,
    /// Numbers of a row.
    pub k: usize,
    /// `n_rows` packed rows.
    pub data: View<'a>,
}

impl<'a> Matrix<'a> {
    /// Bytes from row to row.
    pub(super) fn stride(&self) -> usize {
        row_stride(self.ty, self.k)
            .unwrap_or_else(|| panic!("rows of {} numbers of type {}", self.k, self.ty))
    }

    /// # Panics
    /// When the view is too short.
    pub(super) fn check(&self) {
        check("rows of weights", self.data, self.stride().checked_mul(self.n_rows));
    }

    /// Chunks of 16 bytes of codes that a row has (kernels/pi_weights.cuh).
    pub(super) fn n_chunks(&self) -> usize {
        match self.ty {
            QuantType::F32 => self.k.div_ceil(4),
            QuantType::F16 | QuantType::BF16 => self.k.div_ceil(8),
            QuantType::Q8_0 => self.k / 16,
            _ => self.k / 32,
        }
    }

    /// How many lanes work on a row: fewer where rows are short, so that all have work.
    pub(super) fn lanes(&self) -> usize {
        match self.n_chunks() {
            128.. => 32,
            48..128 => 16,
            _ => 8,
        }
    }

    /// Its operands: address, stride, rows, numbers of a row.
    pub(super) fn args(&self) -> [Arg<'a>; 4] {
        [Arg::View(self.data), int(self.stride()), int(self.n_rows), int(self.k)]
    }
}

/// Activations of some tokens, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Acts<'a> {
    /// In 8 bits ([`super::quantize_q8`]), for weights in blocks.
    Q8 {
        /// `n * k` signed bytes.
        codes: View<'a>,
        /// `n * k / 32` pairs of floats.
        scales: View<'a>,
    },
    /// `n * k` floats, for weights that are plain numbers.
    F32(View<'a>),
}

impl<'a> Acts<'a> {
    /// # Panics
    /// When they are not what weights of the type take, or too short.
    pub(super) fn check(&self, ty: QuantType, n: usize, k: usize) {
        match (*self, takes_q8(ty)) {
            (Acts::Q8 { codes, scales }, true) => {
                check("codes of activations", codes, n.checked_mul(k));
                check("scales of activations", scales, n.checked_mul(k / 32 * 8));
            }
            (Acts::F32(x), false) => check("activations", x, rows_bytes(n, k, k)),
            (_, q8) => panic!("weights of type {ty} take activations in 8 bits: {q8}"),
        }
    }

    pub(super) fn push(&self, args: &mut Vec<Arg<'a>>) {
        match *self {
            Acts::Q8 { codes, scales } => args.extend([Arg::View(codes), Arg::View(scales)]),
            Acts::F32(x) => args.push(Arg::View(x)),
        }
    }
}

/// Where a product `y` goes: `dst = y`, or `dst += factor * y`.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Rows of floats, one for each token.
    pub dst: View<'a>,
    /// Floats from row to row.
    pub stride: usize,
    /// Added to `y`.
    pub bias: Option<View<'a>>,
    /// The factor, where `y` is added to what is there.
    pub add: Option<f32>,
}

impl<'a> Output<'a> {
    /// # Panics
    /// When rows overlap or a view is too short.
    pub(super) fn check(&self, n_tokens: usize, width: usize) {
        assert!(self.stride >= width, "rows of {width} floats, {} apart", self.stride);
        check("outputs", self.dst, rows_bytes(n_tokens, self.stride, width));
        if let Some(bias) = self.bias {
            check("biases", bias, rows_bytes(1, width, width));
        }
    }

    /// `add` and `factor`.
    pub(super) fn mode(&self) -> [Arg<'a>; 2] {
        [Arg::I32(self.add.is_some().into()), Arg::F32(self.add.unwrap_or(1.0))]
    }
}

/// A matrix times the activations of some tokens: `y[t][r] = scale * (row r . token t) + bias[r]`.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// Weights.
    pub weights: Matrix<'a>,
    /// Activations.
    pub acts: Acts<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Factor of the products.
    pub scale: f32,
    /// Where they go.
    pub out: Output<'a>,
}

impl<'a> Product<'a> {
    /// # Panics
    /// When something is too short.
    pub(super) fn check(&self) {
        self.weights.check();
        self.acts.check(self.weights.ty, self.n_tokens, self.weights.k);
        self.out.check(self.n_tokens, self.weights.n_rows);
    }

    /// The operands of mat_vec's and mat_mul's kernels.
    pub(super) fn args(&self) -> Vec<Arg<'a>> {
        let mut args = self.weights.args().to_vec();
        self.acts.push(&mut args);
        let out = &self.out;
        args.extend([int(self.n_tokens), Arg::View(out.dst), int(out.stride)]);
        args.extend([Arg::F32(self.scale), optional(out.bias)]);
        args.extend(out.mode());
        args
    }
}
