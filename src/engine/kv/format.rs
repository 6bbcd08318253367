//! Number formats of a cache: which there are, and how rows get into them.

use half::f16;

use crate::backend::cpu::KernelTable;
use crate::backend::cpu::kernels::int8::BLOCK;
use crate::plan::Attention;
use crate::quant::{self, QuantType};
use crate::util::bytes;

/// Number formats that a cache can have: those that llama.cpp's programs offer.
pub const TYPES: &[QuantType] = &[
    QuantType::F32,
    QuantType::F16,
    QuantType::BF16,
    QuantType::Q8_0,
    QuantType::Q5_1,
    QuantType::Q5_0,
    QuantType::Q4_1,
    QuantType::Q4_0,
    QuantType::IQ4_NL,
];

/// Says why a cache of these layers cannot be of the formats of keys and values, if so. Heads are
/// stored one after the other, each in whole blocks.
pub fn check(layers: &[Attention], (ty_k, ty_v): (QuantType, QuantType)) -> Result<(), String> {
    for (name, ty) in [("K", ty_k), ("V", ty_v)] {
        if !TYPES.contains(&ty) {
            let names: Vec<_> = TYPES.iter().map(|t| t.to_string()).collect();
            let names = names.join(", ");
            return Err(format!("{name} cache of type {ty} is not supported ({names} are)"));
        }
        for (il, layer) in layers.iter().enumerate() {
            let head_dim = if name == "K" { layer.head_dim_k } else { layer.head_dim_v };
            if !head_dim.is_multiple_of(ty.block_len()) {
                let block = ty.block_len();
                return Err(format!(
                    "{name} cache of type {ty} has blocks of {block}, \
                     heads of {head_dim} elements (layer {il}) are not whole blocks"
                ));
            }
        }
    }
    Ok(())
}

/// Rounds numbers to a cache's format.
///
/// # Panics
/// When [`check`] does not let the format pass or `out` has another size.
pub fn store_row(table: &KernelTable, ty: QuantType, x: &[f32], out: &mut [u8]) {
    match ty {
        QuantType::F32 => out.copy_from_slice(bytes::as_bytes(x)),
        QuantType::F16 => table.store_f16(x, bytes::cast_mut(out).expect("rows are even bytes")),
        QuantType::Q8_0 => store_q8_0(table, x, out),
        ty => {
            quant::quantize_row(ty, x, None, out).expect("the format was checked with the context")
        }
    }
}

/// As [`quant::quantize_row`] but for halves, which go to the even code, by the vector kernel.
fn store_q8_0(table: &KernelTable, x: &[f32], out: &mut [u8]) {
    const BYTES: usize = 2 + BLOCK;
    assert_eq!(x.len() / BLOCK * BYTES, out.len());
    for (x, out) in x.chunks_exact(BLOCK).zip(out.as_chunks_mut::<BYTES>().0) {
        let (mut codes, mut scale, mut sum) = ([0; BLOCK], [0.0], [[0; 2]]);
        table.quantize_q8(x, &mut codes, &mut scale, &mut sum);
        out[..2].copy_from_slice(&f16::from_f32(scale[0]).to_le_bytes());
        out[2..].copy_from_slice(&codes.map(|q| q as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formats differ in how halves round, and so at most in the last code.
    #[test]
    fn the_vector_kernel_rounds_q8_0_as_the_codec_does() {
        let x: Vec<f32> = (0..96).map(|i| ((i * i * 37) % 101) as f32 / 7.0 - 6.0).collect();
        for table in KernelTable::all_supported() {
            let (mut ours, mut theirs) = (vec![0; 102], vec![0; 102]);
            store_row(table, QuantType::Q8_0, &x, &mut ours);
            quant::quantize_row(QuantType::Q8_0, &x, None, &mut theirs).unwrap();
            let off = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert!(off <= 3, "{}: {off} bytes differ", table.isa());
        }
    }

    #[test]
    fn every_format_is_stored_and_read() {
        let x: Vec<f32> = (0..64).map(|i| ((i * 29) % 64) as f32 / 32.0 - 1.0).collect();
        for table in KernelTable::all_supported() {
            for &ty in TYPES {
                let mut row = vec![0; ty.row_bytes(64).unwrap() as usize];
                store_row(table, ty, &x, &mut row);
                let mut back = vec![f32::NAN; 64];
                table.dequant_row(ty, &row, &mut back);
                let worst = x.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Half of the widest step of a block, whose numbers are below 1.
                let bits = ty.info().block_bytes as f32 * 8.0 / ty.block_len() as f32;
                assert!(worst <= 4.0 / bits.floor().exp2(), "{ty}: {worst}");
            }
        }
    }
}
