//! Counting signs that differ.

/// Writes for each row of `rows` the number of bits in which it differs from `x`.
///
/// # Safety
/// The processor has the kernel's instruction set; `rows` is as long as `x` times `out`, and `x` is
/// not empty.
pub(crate) type CountDifferentFn = unsafe fn(rows: &[u64], x: &[u64], out: &mut [f32]);

/// The plain loop, which compilers know how to do with any instruction set.
#[inline(always)]
pub(crate) fn count_different(rows: &[u64], x: &[u64], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(x.len()).zip(out) {
        let differing = row.iter().zip(x).map(|(a, b)| u64::from((a ^ b).count_ones()));
        *out = differing.sum::<u64>() as f32;
    }
}
