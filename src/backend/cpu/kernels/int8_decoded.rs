//! Integer mat-mul for weights whose codes take table look-ups to decode: a group of rows is
//! decoded to memory by plain code, and the kernel of each instruction set multiplies that.
//!
//! So all these types share one compiled kernel per instruction set. What it reads are
//! [`DecodedBlock`]s, of which a group of rows stays in L2.
//!
//! To add a type: what decodes it in [`decode_row`], its name in `TYPES`, and a line in the `rows`
//! of each instruction set.

use super::int8::{BLOCK, MXFP4_VALUES, MulMatFn, MulMatQ8};
use crate::quant::iq::{IntBlock, SUB, decode_block};
use crate::quant::{QuantType, half_of_ue4m3};

/// The types that this module is for.
#[cfg(target_arch = "x86_64")]
const TYPES: [QuantType; 8] = [
    QuantType::IQ1_S,
    QuantType::IQ1_M,
    QuantType::IQ2_XXS,
    QuantType::IQ2_XS,
    QuantType::IQ2_S,
    QuantType::IQ3_XXS,
    QuantType::IQ3_S,
    QuantType::NVFP4,
];

/// What is added to codes to make them unsigned: magnitudes go up to 62 (IQ3_XXS).
pub(crate) const OFFSET: i8 = 64;

/// A block of 32 elements; element `i` is `scales[i / 16] * (codes[i] - OFFSET)`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct DecodedBlock {
    pub(crate) scales: [f32; 2],
    /// 2..=126.
    pub(crate) codes: [u8; BLOCK],
}

impl DecodedBlock {
    pub(crate) const ZERO: Self = Self { scales: [0.0; 2], codes: [0; BLOCK] };
    /// Bytes of one.
    pub(crate) const BYTES: usize = size_of::<Self>();
}

/// Weight rows that are decoded together: what the widest kernel multiplies at a time.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 32;

/// Work space in bytes for rows of `n_blocks` blocks, a multiple of 64; none for types that are
/// multiplied as they are.
#[cfg(target_arch = "x86_64")]
pub(crate) fn scratch_bytes(ty: QuantType, n_blocks: usize) -> usize {
    let decoded = ROWS * n_blocks * DecodedBlock::BYTES;
    if TYPES.contains(&ty) { decoded.next_multiple_of(64) } else { 0 }
}

/// Decodes whole blocks of the file, of a type that this module is for.
pub(crate) fn decode_row(ty: QuantType, bytes: &[u8], out: &mut [DecodedBlock]) {
    let info = ty.info();
    let blocks = bytes.chunks_exact(info.block_bytes);
    let outs = out.chunks_exact_mut(info.block_len / BLOCK);
    if ty == QuantType::NVFP4 {
        blocks.zip(outs).for_each(|(block, out)| decode_nvfp4(block, out));
        return;
    }
    let mut ints = IntBlock::ZERO;
    for (block, out) in blocks.zip(outs) {
        let known = decode_block(ty, block, &mut ints);
        debug_assert!(known, "{ty} has no decoder to integers");
        let scales = ints.scales.as_chunks::<{ BLOCK / SUB }>().0;
        let codes = ints.codes.as_chunks::<BLOCK>().0;
        for (out, (scales, codes)) in out.iter_mut().zip(scales.iter().zip(codes)) {
            // Exact: 11 bits of the half times 6 of the scale.
            out.scales = scales.map(|scale| ints.d * f32::from(scale));
            out.codes = codes.map(|code| code.wrapping_add(OFFSET).cast_unsigned());
        }
    }
}

/// Four scales, then codes: 8 bytes for 16 elements, the first 8 of which are in the low nibbles.
fn decode_nvfp4(block: &[u8], out: &mut [DecodedBlock]) {
    static SCALES: [f32; 256] = {
        let mut scales = [0.0; 256];
        let mut i = 0;
        while i < 256 {
            scales[i] = half_of_ue4m3(i as u8);
            i += 1;
        }
        scales
    };
    let (scales, bytes) = block.split_at(2 * out.len());
    for (i, out) in out.iter_mut().enumerate() {
        out.scales = [2 * i, 2 * i + 1].map(|h| SCALES[usize::from(scales[h])]);
        let halves = out.codes.as_chunks_mut::<SUB>().0.iter_mut();
        for (codes, bytes) in halves.zip(bytes[BLOCK / 2 * i..].chunks_exact(SUB / 2)) {
            for (j, byte) in bytes.iter().enumerate() {
                let code = |nibble: u8| MXFP4_VALUES[usize::from(nibble)] + OFFSET;
                codes[j] = code(byte & 15).cast_unsigned();
                codes[SUB / 2 + j] = code(byte >> 4).cast_unsigned();
            }
        }
    }
}

/// Decodes the weights in groups of rows and has `mul_mat` multiply [`DecodedBlock`]s.
///
/// # Safety
/// As [`MulMatFn`] says, with a work space of [`scratch_bytes`] and behind it that of `mul_mat`.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn mul_mat(a: &MulMatQ8<'_>, mul_mat: MulMatFn) {
    let n_blocks = a.n_blocks;
    let info = a.ty.info();
    let n_bytes = n_blocks * BLOCK / info.block_len * info.block_bytes;
    for i in (0..a.n_rows).step_by(ROWS) {
        let n_rows = ROWS.min(a.n_rows - i);
        // SAFETY: the caller vouches for n_rows weight rows of n_blocks blocks. The work space has
        // room for ROWS decoded rows at its start, where any bytes are valid blocks, and is aligned.
        unsafe {
            let decoded = a.scratch.cast::<DecodedBlock>();
            for r in 0..n_rows {
                let bytes = std::slice::from_raw_parts(a.row(i + r), n_bytes);
                let out = std::slice::from_raw_parts_mut(decoded.add(r * n_blocks), n_blocks);
                decode_row(a.ty, bytes, out);
            }
            mul_mat(&MulMatQ8 {
                w: decoded.cast(),
                row_bytes: n_blocks * DecodedBlock::BYTES,
                n_rows,
                ids: None,
                y: a.y.wrapping_add(i),
                scratch: a.scratch.wrapping_add(scratch_bytes(a.ty, n_blocks)),
                ..*a
            });
        }
    }
}
