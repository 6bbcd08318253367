//! Counting signs that differ: the plain loop, compiled for this instruction set.

use crate::backend::cpu::kernels::scalar;

/// # Safety
/// As [`scalar::signs::CountDifferentFn`] says.
#[target_feature(enable = "avx2,popcnt")]
pub(crate) unsafe fn count_different(rows: &[u64], x: &[u64], out: &mut [f32]) {
    scalar::signs::count_different(rows, x, out);
}
