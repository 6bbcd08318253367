//! Weights as the kernels want them. In the file a block's scale lies between the codes of two
//! blocks, at odd places; on the card the codes of a row are one region and its scales another,
//! each padded to 16 bytes, so that a lane loads 16 bytes at once. `kernels/pi_weights.cuh` has
//! the table and reads it.
//!
//! To add a type: its line in `sections`, and its struct in `kernels/pi_weights.cuh`.

use std::ops::Range;

use crate::quant::QuantType;

/// Sections of a row begin, and rows end, at multiples of this many bytes.
const ALIGN: usize = 16;

/// Which bytes of a file's block each section of a row has, block after block. `None` for types
/// without kernels.
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges")]
fn sections(ty: QuantType) -> Option<&'static [Range<usize>]> {
    Some(match ty {
        QuantType::F32 => &[0..4],
        QuantType::F16 | QuantType::BF16 => &[0..2],
        // Codes, and what scales them.
        QuantType::Q8_0 => &[2..34, 0..2],
        QuantType::Q4_0 => &[2..18, 0..2],
        QuantType::Q4_1 => &[4..20, 0..4],
        // Low bits, high bits, scales.
        QuantType::Q5_0 => &[6..22, 2..6, 0..2],
        // Whole blocks: they are multiples of 16 bytes.
        QuantType::Q4_K => &[0..144],
        QuantType::Q5_K => &[0..176],
        // Low bits, high bits, scales of groups, their scale.
        QuantType::Q6_K => &[0..128, 128..192, 192..208, 208..210],
        _ => return None,
    })
}

/// Whether the card has kernels for weights of this type.
pub fn has_kernels(ty: QuantType) -> bool {
    sections(ty).is_some()
}

/// Whether the kernels multiply weights of this type with activations in 8 bits; the others, plain
/// numbers, take them as floats.
pub fn takes_q8(ty: QuantType) -> bool {
    has_kernels(ty) && ty.block_len() > 1
}

/// Bytes of a row of `k` numbers on the card. `None` for types without kernels, and when `k` is
/// not a whole number of blocks or too large.
pub fn row_stride(ty: QuantType, k: usize) -> Option<usize> {
    let blocks = ty.row_bytes(k as u64).and_then(|bytes| usize::try_from(bytes).ok())?;
    let blocks = blocks / ty.info().block_bytes;
    let sizes = sections(ty)?.iter().map(|section| section_bytes(section, blocks));
    sizes.sum::<Option<usize>>()
}

fn section_bytes(section: &Range<usize>, blocks: usize) -> Option<usize> {
    section.len().checked_mul(blocks)?.checked_next_multiple_of(ALIGN)
}

/// Packs rows of `k` numbers as they are in the file; `dst` has [`row_stride`] bytes for each.
/// Padding is zeros.
///
/// # Panics
/// When the type has no kernels, or the lengths are not those of the same number of rows.
pub fn pack(ty: QuantType, k: usize, rows: &[u8], dst: &mut [u8]) {
    let Some((sections, stride)) = sections(ty).zip(row_stride(ty, k)) else {
        panic!("rows of {k} numbers of type {ty} have no form on the card");
    };
    if k == 0 {
        assert!(rows.is_empty() && dst.is_empty(), "rows of nothing have no bytes");
        return;
    }
    let info = ty.info();
    let blocks = k / info.block_len;
    let row_bytes = blocks * info.block_bytes;
    assert!(
        rows.len().is_multiple_of(row_bytes) && dst.len() == rows.len() / row_bytes * stride,
        "{} bytes of rows of {row_bytes} pack to rows of {stride}, not to {} bytes",
        rows.len(),
        dst.len()
    );
    for (row, dst) in rows.chunks_exact(row_bytes).zip(dst.chunks_exact_mut(stride)) {
        let mut rest = dst;
        for section in sections {
            let size = blocks * section.len();
            let (mine, next) = rest.split_at_mut(size.next_multiple_of(ALIGN));
            let (filled, padding) = mine.split_at_mut(size);
            let from = row.chunks_exact(info.block_bytes);
            for (to, block) in filled.chunks_exact_mut(section.len()).zip(from) {
                to.copy_from_slice(&block[section.clone()]);
            }
            padding.fill(0);
            rest = next;
        }
    }
}

/// The rows of the file again.
#[cfg(test)]
fn unpack(ty: QuantType, k: usize, packed: &[u8]) -> Vec<u8> {
    let (sections, stride) = sections(ty).zip(row_stride(ty, k)).expect("a type with kernels");
    let (len, bytes) = (ty.info().block_len, ty.info().block_bytes);
    let mut rows = Vec::new();
    for row in packed.chunks_exact(stride) {
        for i in 0..k / len {
            let mut block = vec![0; bytes];
            let mut start = 0;
            for section in sections {
                let at = start + i * section.len();
                block[section.clone()].copy_from_slice(&row[at..at + section.len()]);
                start += (k / len * section.len()).next_multiple_of(ALIGN);
            }
            rows.extend(block);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::quant::{self, types::TYPES};

    /// Bytes of which each says where it is.
    fn some_bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 37 + i / 251 * 11 + 5) as u8).collect()
    }

    fn types() -> impl Iterator<Item = QuantType> {
        TYPES.iter().map(|info| info.ty).filter(|ty| has_kernels(*ty))
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(types().count(), 10);
        for ty in types() {
            for blocks in [1, 2, 3, 5, 8, 17] {
                let k = blocks * ty.block_len();
                let bytes = blocks * ty.info().block_bytes;
                let stride = row_stride(ty, k).expect("whole blocks");
                assert!(stride.is_multiple_of(ALIGN) && stride >= bytes, "{ty}: {stride}");
                for n_rows in [0, 1, 3] {
                    let rows = some_bytes(n_rows * bytes);
                    let mut packed = vec![0xCD; n_rows * stride];
                    pack(ty, k, &rows, &mut packed);
                    assert_eq!(unpack(ty, k, &packed), rows, "{ty}, {blocks} blocks");
                    let zeros = stride - bytes;
                    let more = packed.iter().filter(|b| **b == 0).count();
                    let had = rows.iter().filter(|b| **b == 0).count();
                    assert_eq!(more, had + n_rows * zeros, "{ty}: padding is zeros");
                }
            }
        }
    }

    /// The layout as `kernels/pi_weights.cuh` has it, read here in the plainest way.
    #[test]
    fn numbers_are_where_the_kernels_look() {
        for (ty, k) in [
            (QuantType::Q8_0, 96),
            (QuantType::Q4_0, 96),
            (QuantType::Q4_1, 96),
            (QuantType::Q5_0, 96),
            (QuantType::Q6_K, 768),
        ] {
            let x: Vec<f32> = (0..k).map(|i| ((i * 29 % 64) as f32 - 30.0) / 16.0).collect();
            let mut row = vec![0; ty.row_bytes(k as u64).expect("whole blocks") as usize];
            quant::quantize_row(ty, &x, None, &mut row).expect("it fits");
            let mut expected = vec![0.0; k];
            quant::dequantize_row(ty, &row, &mut expected).expect("it fits");
            let mut packed = vec![0; row_stride(ty, k).expect("whole blocks")];
            pack(ty, k, &row, &mut packed);
            let found: Vec<f32> = (0..k).map(|i| number(ty, k, &packed, i)).collect();
            assert_eq!(found, expected, "{ty}");
        }
    }

    fn number(ty: QuantType, k: usize, row: &[u8], i: usize) -> f32 {
        let half = |at: usize| f16::from_le_bytes([row[at], row[at + 1]]).to_f32();
        let pad = |n: usize| n.div_ceil(16) * 16;
        let (b, j) = (i / 32, i % 32);
        let nibble = |at: usize| row[at + j % 16] >> (j / 16 * 4) & 15;
        match ty {
            QuantType::Q8_0 => half(k + 2 * b) * f32::from(row[i] as i8),
            QuantType::Q4_0 => half(k / 2 + 2 * b) * (f32::from(nibble(16 * b)) - 8.0),
            QuantType::Q4_1 => {
                let at = k / 2 + 4 * b;
                half(at) * f32::from(nibble(16 * b)) + half(at + 2)
            }
            QuantType::Q5_0 => {
                let fifth = row[k / 2 + i / 8] >> (i % 8) & 1;
                let d = half(k / 2 + pad(k / 8) + 2 * b);
                d * (f32::from(nibble(16 * b) | fifth << 4) - 16.0)
            }
            QuantType::Q6_K => {
                let (half_block, l) = (i / 128, i % 128);
                let low = row[64 * half_block + l % 64] >> (l / 64 * 4) & 15;
                let high = row[k / 2 + 32 * half_block + l % 32] >> (l / 32 * 2) & 3;
                let scale = row[k / 2 + k / 4 + i / 16] as i8;
                let d = half(k / 2 + k / 4 + k / 16 + 2 * (i / 256));
                d * f32::from(scale) * (f32::from(low | high << 4) - 32.0)
            }
            _ => unreachable!("not in the test"),
        }
    }

    #[test]
    fn what_has_no_form_is_refused() {
        assert_eq!(row_stride(QuantType::Q4_0, 33), None);
        assert_eq!(row_stride(QuantType::IQ4_NL, 32), None);
        assert_eq!(row_stride(QuantType::F16, 3), Some(16));
        assert_eq!(row_stride(QuantType::Q5_0, 32), Some(48));
        assert!(!takes_q8(QuantType::BF16) && takes_q8(QuantType::Q6_K));
        let short = std::panic::catch_unwind(|| pack(QuantType::Q4_0, 32, &[0; 18], &mut [0; 16]));
        assert!(short.is_err(), "a row of 32 numbers needs 32 bytes");
    }
}
