//! Safe functions for the kernels, a file for each source in `kernels/`: every length is checked
//! against its view, then the kernel is launched.
//!
//! To add one: a struct of operands, a function that asserts their lengths, and one launch whose
//! safety comment says why what the kernel touches lies within them.

mod attend;
mod elementwise;
mod embed;
mod mat_mul;
mod mat_vec;
mod norm;
mod product;
mod quantize;
mod rope;
mod sample;
mod select;
mod sparse;

pub use attend::{ATTEND_KEYS, Attend, Slopes, attend, attend_scratch};
pub use elementwise::{Activate, accumulate, activate, add, gather, multiply, scale, softcap};
pub use embed::{Embed, embed, embeds};
pub use mat_mul::mat_mul;
pub use mat_vec::{MAT_VEC_TOKENS, mat_vec};
pub use norm::{Norm, Rows, norm};
pub use product::{Acts, Matrix, Output, Product};
pub use quantize::quantize_q8;
pub use rope::{CacheType, Rope, Store, rope, store};
pub use sample::{MAX_TOP_K, TopK, top_k, top_k_scratch};
pub use select::{Select, select_above, select_beyond, select_nonzero};
pub use sparse::{
    GateUp, List, ListRows, MAX_SLICES, SparseDown, gate_up, list_rows, sparse_down,
    sparse_down_scratch,
};

use super::{Arg, View};
use crate::tensor::Activation;

/// An `int` operand.
///
/// # Panics
/// When the number does not fit.
fn int(n: usize) -> Arg<'static> {
    Arg::I32(i32::try_from(n).unwrap_or_else(|_| panic!("{n} is too large for a kernel")))
}

/// An `int64_t` operand: operands lie in 8 bytes each, the upper ones zero.
///
/// # Panics
/// When the number does not fit in the lower ones.
fn wide(n: usize) -> Arg<'static> {
    Arg::U32(u32::try_from(n).unwrap_or_else(|_| panic!("{n} is too large for a kernel")))
}

/// The number that kernels know an activation by (kernels/pi_act.cuh): its place in
/// [`Activation::ALL`], or the one after.
fn number(act: Option<Activation>) -> Arg<'static> {
    let place = act.and_then(|act| Activation::ALL.iter().position(|other| *other == act));
    int(place.unwrap_or(Activation::ALL.len()))
}

/// An operand that may be missing.
fn optional(view: Option<View<'_>>) -> Arg<'_> {
    view.map_or(Arg::Null, Arg::View)
}

/// Blocks of a grid's first dimension, or threads.
fn dim(n: usize) -> u32 {
    u32::try_from(n).unwrap_or_else(|_| panic!("{n} blocks are too many for a grid"))
}

/// # Panics
/// When a view is shorter than what the kernel reads or writes in it.
fn check(what: &str, view: View<'_>, bytes: Option<usize>) {
    assert!(
        bytes.is_some_and(|bytes| bytes <= view.len()),
        "{what} need {} bytes, the view has {}",
        bytes.map_or("uncountable".into(), |bytes| bytes.to_string()),
        view.len()
    );
}

/// Bytes of `n` rows, `stride` elements of 4 bytes apart, of which each has `width`.
fn rows_bytes(n: usize, stride: usize, width: usize) -> Option<usize> {
    let Some(before) = n.checked_sub(1) else { return Some(0) };
    stride.checked_mul(before)?.checked_add(width)?.checked_mul(size_of::<f32>())
}
