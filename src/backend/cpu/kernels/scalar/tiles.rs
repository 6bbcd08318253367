//! Products with neuron tiles in plain loops: blocks are put together as the file has them, from
//! the codes that are needed, and decoded by the functions of the row kernels.

use super::int8::Blocks;
use super::int8::{Q4_0, Q4_1, Q8_0};
use super::int8_blocks::{IQ4_NL, MXFP4, Q5_0, Q5_1};
use super::int8_k::{Q4_K, Q5_K, Q6_K};
use crate::backend::cpu::kernels::int8::BLOCK;
use crate::backend::cpu::kernels::tiles::{MulMatTiles, TileKernels};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;
use crate::quant::tiles::{read_block, tile_bytes};

pub(crate) const KERNELS: TileKernels = TileKernels {
    rows: &[
        (QuantType::Q4_0, mul_mat::<Q4_0>),
        (QuantType::Q4_1, mul_mat::<Q4_1>),
        (QuantType::Q5_0, mul_mat::<Q5_0>),
        (QuantType::Q5_1, mul_mat::<Q5_1>),
        (QuantType::Q8_0, mul_mat::<Q8_0>),
        (QuantType::IQ4_NL, mul_mat::<IQ4_NL>),
        (QuantType::MXFP4, mul_mat::<MXFP4>),
        (QuantType::Q4_K, mul_mat::<Q4_K>),
        (QuantType::Q5_K, mul_mat::<Q5_K>),
        (QuantType::Q6_K, mul_mat::<Q6_K>),
    ],
    scratch_bytes: 0,
};

/// # Safety
/// None needed: the type is that of all kernels.
unsafe fn mul_mat<F: Blocks>(a: &MulMatTiles<'_>, y: &mut ColsMut<'_, f32>, _: &mut [u8]) {
    (0..a.n_tokens).for_each(|t| y.row(t).fill(0.0));
    let mut bytes = [0; 256];
    let bytes = &mut bytes[..F::BYTES];
    let len = F::N * BLOCK;
    for (b0, tile) in
        (0..a.n_blocks).step_by(F::N).zip(a.tiles.chunks_exact(tile_bytes(a.ty, a.n_embd)))
    {
        // Neurons that any token wants, and whether any block has to be added at all.
        let mut wanted = [false; 256];
        let mut any = false;
        for (t, i) in (0..a.n_tokens).flat_map(|t| (0..F::N).map(move |i| (t, i))) {
            let (q, d, _) = a.act(t, b0 + i);
            any |= d != 0.0;
            wanted[i * BLOCK..].iter_mut().zip(q).for_each(|(wanted, &q)| *wanted |= q != 0);
        }
        if !any {
            continue;
        }
        for (i, row) in a.rows.clone().enumerate() {
            read_block(a.ty, tile, a.n_embd, row, (0..len).filter(|&i| wanted[i]), bytes);
            for b in 0..F::N {
                let block = F::decode(bytes, b);
                let weights = F::min_weights(bytes, b);
                for t in 0..a.n_tokens {
                    let (q, d, s) = a.act(t, b0 + b);
                    if d == 0.0 {
                        continue;
                    }
                    let y = &mut y.row(t)[i];
                    let products = block.codes.iter().zip(q).map(|(&u, &q)| u * i32::from(q));
                    *y = (products.sum::<i32>() as f32).mul_add(block.scale * d, *y);
                    if F::HAS_MIN {
                        let msum: i32 = weights.iter().zip(s).map(|(&b, s)| b * i32::from(s)).sum();
                        *y = block.min.mul_add(d * msum as f32, *y);
                    }
                }
            }
        }
    }
}
