//! `kernels/norm.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int, optional, rows_bytes};

/// Rows of numbers inside a matrix, possibly several of them in a row of it (heads).
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// How many.
    pub n: usize,
    /// Numbers of each.
    pub width: usize,
    /// How many lie one behind the other, and
    pub per_group: usize,
    /// after how many numbers the next so many begin.
    pub group_stride: usize,
}

impl Rows {
    /// One behind the other.
    pub fn plain(n: usize, width: usize) -> Self {
        Self { n, width, per_group: 1, group_stride: width }
    }

    /// Bytes from the first to the last.
    fn bytes(&self) -> Option<usize> {
        let groups = self.n.div_ceil(self.per_group);
        rows_bytes(groups, self.group_stride, self.per_group.checked_mul(self.width)?)
    }
}

/// `dst = norm(x + add) * weight + bias`, in f32.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Where the rows of `x`, `add`, `sum` and `dst` are.
    pub rows: Rows,
    /// What is normed.
    pub x: View<'a>,
    /// Added to it before.
    pub add: Option<View<'a>>,
    /// `[width]`
    pub weight: Option<View<'a>>,
    /// `[width]`
    pub bias: Option<View<'a>>,
    /// Where `x + add` is kept; may be `x`.
    pub sum: Option<View<'a>>,
    /// Where the result goes; may be `x`.
    pub dst: View<'a>,
    /// Where it goes in 8 bits too: codes `[n][width]`, then a pair `{d, s}` for each 32.
    pub q8: Option<(View<'a>, View<'a>)>,
    /// Added to the mean of squares.
    pub eps: f32,
    /// Layer norm, which takes the mean off, not RMS norm.
    pub mean: bool,
}

/// Norms rows.
///
/// # Panics
/// When a view is too short, and when 8 bits are asked of rows that are not whole blocks of 32.
pub fn norm(stream: &Stream, a: &Norm<'_>) -> Result<(), CudaError> {
    let rows = a.rows;
    assert!(rows.per_group > 0 && rows.width > 0, "rows of {} in {}", rows.width, rows.per_group);
    let bytes = rows.bytes();
    check("rows", a.x, bytes);
    check("results", a.dst, bytes);
    for view in [a.add, a.sum].into_iter().flatten() {
        check("added rows", view, bytes);
    }
    for view in [a.weight, a.bias].into_iter().flatten() {
        check("weights of a norm", view, rows.width.checked_mul(4));
    }
    if let Some((codes, scales)) = a.q8 {
        assert!(rows.width.is_multiple_of(32), "8 bits of rows of {}", rows.width);
        let n = rows.n.checked_mul(rows.width);
        check("codes", codes, n);
        check("scales", scales, n.and_then(|n| (n / 32).checked_mul(8)));
    }
    let (codes, scales) = a.q8.unzip();
    let threads = rows.width.next_multiple_of(32).clamp(32, 256);
    let dims = Dims { grid: [dim(rows.n), 1, 1], block: [dim(threads), 1, 1], shared: 0 };
    let args = [
        Arg::View(a.x),
        optional(a.add),
        optional(a.weight),
        optional(a.bias),
        optional(a.sum),
        Arg::View(a.dst),
        optional(codes),
        optional(scales),
        int(rows.width),
        int(rows.per_group),
        int(rows.group_stride),
        Arg::F32(a.eps),
        Arg::I32(i32::from(a.mean)),
    ];
    let kernel = Kernel { module: Module::Norm, name: "norm" };
    // SAFETY: the rows lie within the views, as checked; a thread touches its own numbers of one
    // row, so results may take the place of operands.
    unsafe { stream.launch(kernel, dims, &args) }
}
