//! Comparing the signs of vectors, 64 to a word.

use super::{Isa, KernelTable};
use crate::backend::cpu::kernels::scalar;
use crate::backend::cpu::kernels::scalar::signs::CountDifferentFn;
#[cfg(target_arch = "x86_64")]
use crate::backend::cpu::kernels::{avx2, avx512};

pub(super) const fn kernel(isa: Isa) -> CountDifferentFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Vnni => avx512::signs::count_different,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::signs::count_different,
        _ => scalar::signs::count_different,
    }
}

impl KernelTable {
    /// Writes for each row of `rows`, each as long as `x`, the number of bits in which it differs
    /// from `x`.
    ///
    /// # Panics
    /// When `x` is empty, or `rows` is not as long as `x` times `out`.
    pub fn count_different(&self, rows: &[u64], x: &[u64], out: &mut [f32]) {
        assert!(!x.is_empty() && rows.len() == x.len() * out.len());
        // SAFETY: the processor has the table's instruction set; the lengths are checked.
        unsafe { (self.count_different)(rows, x, out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_counts_the_same() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state ^ state >> 29
        };
        for n_words in 1..40 {
            let x: Vec<u64> = (0..n_words).map(|_| next()).collect();
            let n_rows = 7;
            let mut rows: Vec<u64> = (0..n_words * n_rows).map(|_| next()).collect();
            // All the same, and all different.
            rows[..n_words].copy_from_slice(&x);
            rows[n_words..2 * n_words].iter_mut().zip(&x).for_each(|(y, x)| *y = !x);
            let one_by_one = |row: usize| {
                let row = &rows[row * n_words..(row + 1) * n_words];
                let bits = (0..64 * n_words)
                    .filter(|i| (row[i / 64] >> (i % 64) & 1) != (x[i / 64] >> (i % 64) & 1));
                bits.count() as f32
            };
            let expected: Vec<f32> = (0..n_rows).map(one_by_one).collect();
            assert_eq!(expected[..2], [0.0, 64.0 * n_words as f32]);
            for table in KernelTable::all_supported() {
                let mut out = vec![-1.0; n_rows];
                table.count_different(&rows, &x, &mut out);
                assert_eq!(out, expected, "{}, {n_words} words", table.isa());
            }
        }
    }
}
