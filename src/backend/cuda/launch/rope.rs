//! `kernels/rope.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int, rows_bytes};

/// Heads to rotate, in place.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// `[n_tokens][stride]` numbers, of which the heads are the first.
    pub x: View<'a>,
    /// `{cos, sin}` as f32: `[n_tokens][n_rot / 2][2]`.
    pub table: View<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Heads of a token.
    pub n_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Those that are rotated, the first of each head.
    pub n_rot: usize,
    /// Numbers from a token to the next.
    pub stride: usize,
    /// Pairs are `i` and `i + n_rot / 2` (neox), not `2i` and `2i + 1`.
    pub halves: bool,
}

/// Rotates queries or keys by their positions.
///
/// # Panics
/// When a view is too short, or `n_rot` odd or larger than a head.
pub fn rope(stream: &Stream, a: &Rope<'_>) -> Result<(), CudaError> {
    assert!(a.n_rot.is_multiple_of(2) && a.n_rot <= a.head_dim, "{} of {}", a.n_rot, a.head_dim);
    let width = a.n_heads.saturating_mul(a.head_dim);
    check("heads", a.x, rows_bytes(a.n_tokens, a.stride, width));
    check("cosines", a.table, rows_bytes(a.n_tokens, a.n_rot, a.n_rot));
    if a.n_rot == 0 {
        return Ok(());
    }
    let threads = (a.n_rot / 2).next_multiple_of(32).min(128);
    let dims =
        Dims { grid: [dim(a.n_tokens), dim(a.n_heads), 1], block: [dim(threads), 1, 1], shared: 0 };
    let args = [
        Arg::View(a.x),
        Arg::View(a.table),
        int(a.head_dim),
        int(a.n_rot),
        int(a.stride),
        Arg::I32(i32::from(a.halves)),
    ];
    let kernel = Kernel { module: Module::Rope, name: "rope" };
    // SAFETY: every head and its token's part of the table lie within the views, as checked.
    unsafe { stream.launch(kernel, dims, &args) }
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Blocks of 34 bytes, as in files.
    Q8_0,
}

impl CacheType {
    /// What kernels know it by (`Kind` in kernels/pi_attend.cuh).
    pub(super) fn number(self) -> Arg<'static> {
        Arg::I32(match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 2,
        })
    }

    /// Bytes of a row of so many numbers; `None`: not whole blocks, or uncountable.
    pub fn row_bytes(self, width: usize) -> Option<usize> {
        match self {
            Self::F32 => width.checked_mul(4),
            Self::F16 => width.checked_mul(2),
            Self::Q8_0 if width.is_multiple_of(32) => (width / 32).checked_mul(34),
            Self::Q8_0 => None,
        }
    }
}

/// Keys or values to put into the cache.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// f32 `[n_tokens][stride]`, of which the first `width` are stored.
    pub x: View<'a>,
    /// Rows of `width` numbers.
    pub cache: View<'a>,
    /// How they are kept.
    pub kind: CacheType,
    /// i32 `[n_tokens]`: the row of each; others than those of the cache are not stored.
    pub rows: View<'a>,
    /// Rows of the cache.
    pub n_rows: usize,
    /// Tokens.
    pub n_tokens: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Numbers from a token to the next.
    pub stride: usize,
}

/// Stores keys or values. Rows on the device that the cache does not have are left out.
///
/// # Panics
/// When a view is too short.
pub fn store(stream: &Stream, a: &Store<'_>) -> Result<(), CudaError> {
    check("keys or values", a.x, rows_bytes(a.n_tokens, a.stride, a.width));
    let row_bytes = a.kind.row_bytes(a.width);
    check("cache rows", a.cache, row_bytes.and_then(|bytes| bytes.checked_mul(a.n_rows)));
    check("rows of tokens", a.rows, a.n_tokens.checked_mul(4));
    let name = match a.kind {
        CacheType::F32 => "store_f32",
        CacheType::F16 => "store_f16",
        CacheType::Q8_0 => "store_q8_0",
    };
    let dims = Dims { grid: [dim(a.n_tokens), 1, 1], block: [256, 1, 1], shared: 0 };
    let args = [
        Arg::View(a.x),
        Arg::View(a.cache),
        Arg::View(a.rows),
        int(a.width),
        int(a.stride),
        int(a.n_rows),
    ];
    // SAFETY: the tokens lie within the views, as checked; the kernel stores no other rows.
    unsafe { stream.launch(Kernel { module: Module::Rope, name }, dims, &args) }
}
