//! `kernels/embed.cu`

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, check, dim, int, wide};
use crate::quant::QuantType;

/// Rows of a packed table, by id.
#[derive(Clone, Copy, Debug)]
pub struct Embed<'a> {
    /// `[n_rows]` packed rows.
    pub table: View<'a>,
    /// F32, F16 or Q8_0.
    pub kind: QuantType,
    /// Rows of the table.
    pub n_rows: usize,
    /// Bytes from a row to the next.
    pub row_bytes: usize,
    /// i32 `[n_ids]`
    pub ids: View<'a>,
    /// How many.
    pub n_ids: usize,
    /// f32 `[n_ids][width]`
    pub dst: View<'a>,
    /// Numbers of a row.
    pub width: usize,
}

/// The kernel for a type; `None`: there is none.
fn name(kind: QuantType) -> Option<(&'static str, usize)> {
    match kind {
        QuantType::F32 => Some(("embed_f32", 128)),
        QuantType::F16 => Some(("embed_f16", 64)),
        QuantType::Q8_0 => Some(("embed_q8_0", 34)),
        _ => None,
    }
}

/// Whether [`embed`] takes tables of this type.
pub fn embeds(kind: QuantType) -> bool {
    name(kind).is_some()
}

/// Looks rows up.
///
/// # Safety
/// The ids on the device are in `0..n_rows`.
///
/// # Panics
/// When a view is too short, or [`embeds`] says no.
pub unsafe fn embed(stream: &Stream, a: &Embed<'_>) -> Result<(), CudaError> {
    let (name, block) = name(a.kind).unwrap_or_else(|| panic!("no table of {:?}", a.kind));
    assert!(
        a.row_bytes.is_multiple_of(16) && a.row_bytes / block >= a.width / 32,
        "rows of {} in {} bytes",
        a.width,
        a.row_bytes
    );
    check("table", a.table, a.n_rows.checked_mul(a.row_bytes));
    check("ids", a.ids, a.n_ids.checked_mul(4));
    check("rows", a.dst, a.n_ids.checked_mul(a.width).and_then(|n| n.checked_mul(4)));
    let dims = Dims { grid: [dim(a.n_ids), 1, 1], block: [256, 1, 1], shared: 0 };
    let args =
        [Arg::View(a.table), Arg::View(a.ids), Arg::View(a.dst), int(a.width), wide(a.row_bytes)];
    // SAFETY: rows and results lie within the views, as checked; ids by the caller's word.
    unsafe { stream.launch(Kernel { module: Module::Embed, name }, dims, &args) }
}
