//! Neuron tiles: the down projection of ordinary files, laid out so that a neuron can be read
//! without its neighbours.
//!
//! `ffn_down` has a row for every output, and the blocks of a row run across 32 or 256 neurons.
//! A tile is one block of all rows. In it the codes come first, neuron by neuron: each neuron's
//! codes for all outputs without a gap. The other fields of the blocks follow, field by field, each
//! for all outputs. Nothing is added or lost: a tile is as long as its blocks, and [`unpack_rows`]
//! gives the file's bytes back.
//!
//! # Codes
//!
//! A neuron's codes come in chunks of [`CHUNK`] = 32 outputs. Bits of a code lie together in planes
//! of `w` = 8, 4, 2 or 1 bits, the lowest bits first; a plane of a chunk is `4 * w` bytes, and its
//! byte `j` holds, from its lowest bits on, outputs `j`, `4w + j`, `8w + j` and so on. 4 bits: the low
//! nibble of byte `j` of 16 belongs to output `j`, the high one to output `16 + j`.
//!
//! | type | neurons in a tile | planes | fields, by their place in the file's block |
//! |---|---|---|---|
//! | Q4_0, IQ4_NL | 32 | 4 | 0..2 |
//! | Q4_1 | 32 | 4 | 0..4 |
//! | Q5_0 | 32 | 4, 1 | 0..2 |
//! | Q5_1 | 32 | 4, 1 | 0..4 |
//! | Q8_0 | 32 | 8 | 0..2 |
//! | MXFP4 | 32 | 4 | 0..1 |
//! | Q4_K | 256 | 4 | 0..4, 4..8, 8..12, 12..16 |
//! | Q5_K | 256 | 4, 1 | 0..4, 4..8, 8..12, 12..16 |
//! | Q6_K | 256 | 4, 2 | 208..210, 192..196, 196..200, 200..204, 204..208 |
//!
//! To add a type: its line in `layout`, and kernels in `backend/cpu/kernels` (module `tiles`).

use std::ops::Range;

use super::QuantType;

/// Outputs whose codes lie together.
pub const CHUNK: usize = 32;

/// The most neurons of a tile.
const MAX_NEURONS: usize = 256;

/// Where a block of the file has some bits of its codes: the bytes come in runs, and a run's lowest
/// bits, byte by byte, come before its higher ones.
struct Plane {
    at: usize,
    /// Bytes of a run.
    run: usize,
    bits: usize,
}

impl Plane {
    /// Byte of the block, and bit in it, of element `i`.
    fn place(&self, i: usize) -> (usize, usize) {
        let per_run = self.run * 8 / self.bits;
        let (run, part) = (i / per_run, i % per_run / self.run);
        (self.at + run * self.run + i % self.run, part * self.bits)
    }

    fn mask(&self) -> u8 {
        (0xffu16 >> (8 - self.bits)) as u8
    }
}

/// How blocks of a type are taken apart.
struct Layout {
    planes: &'static [Plane],
    /// Place and length of each field that is not codes.
    fields: &'static [(usize, usize)],
}

fn layout(ty: QuantType) -> Option<Layout> {
    const fn plane(at: usize, run: usize, bits: usize) -> Plane {
        Plane { at, run, bits }
    }
    let (planes, fields): (&'static [Plane], &'static [_]) = match ty {
        QuantType::Q4_0 | QuantType::IQ4_NL => (&const { [plane(2, 16, 4)] }, &[(0, 2)]),
        QuantType::Q4_1 => (&const { [plane(4, 16, 4)] }, &[(0, 4)]),
        QuantType::Q5_0 => (&const { [plane(6, 16, 4), plane(2, 1, 1)] }, &[(0, 2)]),
        QuantType::Q5_1 => (&const { [plane(8, 16, 4), plane(4, 1, 1)] }, &[(0, 4)]),
        QuantType::Q8_0 => (&const { [plane(2, 32, 8)] }, &[(0, 2)]),
        QuantType::MXFP4 => (&const { [plane(1, 16, 4)] }, &[(0, 1)]),
        QuantType::Q4_K => (&const { [plane(16, 32, 4)] }, &[(0, 4), (4, 4), (8, 4), (12, 4)]),
        QuantType::Q5_K => {
            (&const { [plane(48, 32, 4), plane(16, 32, 1)] }, &[(0, 4), (4, 4), (8, 4), (12, 4)])
        }
        QuantType::Q6_K => (
            &const { [plane(0, 64, 4), plane(128, 32, 2)] },
            &[(208, 2), (192, 4), (196, 4), (200, 4), (204, 4)],
        ),
        _ => return None,
    };
    Some(Layout { planes, fields })
}

impl Layout {
    /// Bytes of a neuron's codes for a chunk of outputs.
    fn chunk_bytes(&self) -> usize {
        self.planes.iter().map(|plane| CHUNK / 8 * plane.bits).sum()
    }
}

/// Whether a matrix with `n_embd` rows of `n_ff` elements of this type can be tiled.
pub fn can_tile(ty: QuantType, n_ff: usize, n_embd: usize) -> bool {
    let bytes = || ty.row_bytes(n_ff as u64)?.checked_mul(n_embd as u64);
    layout(ty).is_some()
        && n_ff > 0
        && n_embd > 0
        && n_embd.is_multiple_of(CHUNK)
        && bytes().is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

/// Neurons of a tile.
pub fn neurons(ty: QuantType) -> usize {
    ty.block_len()
}

/// Bytes of a tile of a matrix with `n_embd` rows.
pub fn tile_bytes(ty: QuantType, n_embd: usize) -> usize {
    ty.info().block_bytes * n_embd
}

/// Bytes that hold `n` neurons, at most: their codes, and the other fields of as many tiles.
pub fn bytes_of(ty: QuantType, n_ff: usize, n_embd: usize, n: usize) -> usize {
    let codes = checked(ty, n_ff, n_embd).chunk_bytes() * (n_embd / CHUNK);
    let fields = tile_bytes(ty, n_embd) - codes * neurons(ty);
    n * codes + n.min(n_ff / neurons(ty)) * fields
}

/// [`layout`] of a shape that was checked.
fn checked(ty: QuantType, n_ff: usize, n_embd: usize) -> Layout {
    match layout(ty) {
        Some(layout) if can_tile(ty, n_ff, n_embd) => layout,
        _ => panic!("{n_embd} rows of {n_ff} {ty} elements cannot be tiled"),
    }
}

/// Makes the tiles `tiles` of the matrix `rows`, which has `n_embd` rows of `n_ff` elements.
///
/// Ranges of tiles can be made in parallel; ranges of about 8 tiles of 32 neurons (or one of 256)
/// read and write whole cache lines.
///
/// # Panics
/// When [`can_tile`] is false, there are no such tiles, or `rows` or `out` have another size than
/// that of the matrix and of the tiles.
pub fn pack(
    ty: QuantType,
    rows: &[u8],
    n_ff: usize,
    n_embd: usize,
    tiles: Range<usize>,
    out: &mut [u8],
) {
    let layout = checked(ty, n_ff, n_embd);
    let (len, block_bytes, n_tiles) = (neurons(ty), ty.info().block_bytes, n_ff / neurons(ty));
    assert!(tiles.start <= tiles.end && tiles.end <= n_tiles, "tiles {tiles:?} of {n_tiles}");
    assert_eq!(rows.len(), n_tiles * block_bytes * n_embd, "bytes of the matrix");
    assert_eq!(out.len(), tiles.len() * tile_bytes(ty, n_embd), "bytes of {tiles:?}");
    let mut blocks: [&[u8]; CHUNK] = [&[]; CHUNK];
    for chunk in 0..n_embd / CHUNK {
        let outs = out.chunks_exact_mut(tile_bytes(ty, n_embd));
        for (tile, out) in tiles.clone().zip(outs) {
            for (c, block) in blocks.iter_mut().enumerate() {
                let at = ((chunk * CHUNK + c) * n_tiles + tile) * block_bytes;
                *block = &rows[at..at + block_bytes];
            }
            pack_chunk(&layout, len, n_embd, chunk, &blocks, out);
        }
    }
}

/// Puts the blocks of a chunk of outputs into a tile of `len` neurons.
fn pack_chunk(
    layout: &Layout,
    len: usize,
    n_embd: usize,
    chunk: usize,
    blocks: &[&[u8]; CHUNK],
    tile: &mut [u8],
) {
    let chunk_bytes = layout.chunk_bytes();
    let (codes, mut fields) = tile.split_at_mut(len * (n_embd / CHUNK) * chunk_bytes);
    let slices = codes.chunks_exact_mut(n_embd / CHUNK * chunk_bytes);
    let slices = slices.map(|slice| &mut slice[chunk * chunk_bytes..][..chunk_bytes]);
    // Byte j of a plane, for all neurons.
    let mut lines = [[0u8; MAX_NEURONS]; CHUNK];
    let mut n_lines = 0;
    for plane in layout.planes {
        let n_bytes = CHUNK / 8 * plane.bits;
        let plane_lines = &mut lines[n_lines..n_lines + n_bytes];
        for (c, block) in blocks.iter().enumerate() {
            let shift = c / n_bytes * plane.bits;
            add_codes(plane, block, shift, &mut plane_lines[c % n_bytes][..len]);
        }
        n_lines += n_bytes;
    }
    for (i, slice) in slices.enumerate() {
        for (byte, line) in slice.iter_mut().zip(&lines) {
            *byte = line[i];
        }
    }
    for &(at, width) in layout.fields {
        let (field, rest) = fields.split_at_mut(n_embd * width);
        let out = field[chunk * CHUNK * width..].chunks_exact_mut(width);
        out.zip(blocks).for_each(|(out, block)| out.copy_from_slice(&block[at..at + width]));
        fields = rest;
    }
}

/// Adds a plane's bits of a block's elements to `out`, shifted.
fn add_codes(plane: &Plane, block: &[u8], shift: usize, out: &mut [u8]) {
    let mask = plane.mask();
    let per_run = plane.run * 8 / plane.bits;
    let runs = block[plane.at..].chunks_exact(plane.run);
    for (out, run) in out.chunks_exact_mut(per_run).zip(runs) {
        for (part, out) in out.chunks_exact_mut(plane.run).enumerate() {
            for (out, byte) in out.iter_mut().zip(run) {
                *out |= (byte >> (part * plane.bits) & mask) << shift;
            }
        }
    }
}

/// Gives back the rows `rows` of the matrix of which `tiles` are all tiles.
///
/// # Panics
/// When [`can_tile`] is false, there are no such rows, or `tiles` or `out` have another size than
/// that of the matrix and of the rows.
pub fn unpack_rows(
    ty: QuantType,
    tiles: &[u8],
    n_ff: usize,
    n_embd: usize,
    rows: Range<usize>,
    out: &mut [u8],
) {
    checked(ty, n_ff, n_embd);
    let (block_bytes, n_tiles) = (ty.info().block_bytes, n_ff / neurons(ty));
    assert!(rows.start <= rows.end && rows.end <= n_embd, "rows {rows:?} of {n_embd}");
    assert_eq!(tiles.len(), n_tiles * block_bytes * n_embd, "bytes of the matrix");
    assert_eq!(out.len(), rows.len() * n_tiles * block_bytes, "bytes of rows {rows:?}");
    for (b, tile) in tiles.chunks_exact(tile_bytes(ty, n_embd)).enumerate() {
        for (i, row) in rows.clone().enumerate() {
            let block = &mut out[(i * n_tiles + b) * block_bytes..][..block_bytes];
            read_block(ty, tile, n_embd, row, 0..neurons(ty), block);
        }
    }
}

/// The block of row `row` in a tile, as the file has it but with zeros for the bits of codes of
/// neurons that are not among `of`: those are not read.
///
/// # Panics
/// When the type has no tiles, or `tile` or `block` is not as long as one.
pub(crate) fn read_block(
    ty: QuantType,
    tile: &[u8],
    n_embd: usize,
    row: usize,
    of: impl Iterator<Item = usize>,
    block: &mut [u8],
) {
    let layout = checked(ty, neurons(ty), n_embd);
    assert!(tile.len() == tile_bytes(ty, n_embd) && row < n_embd);
    assert_eq!(block.len(), ty.info().block_bytes);
    block.fill(0);
    let chunk_bytes = layout.chunk_bytes();
    let slice_bytes = n_embd / CHUNK * chunk_bytes;
    let (codes, mut fields) = tile.split_at(neurons(ty) * slice_bytes);
    for i in of {
        let mut chunk = &codes[i * slice_bytes + row / CHUNK * chunk_bytes..];
        for plane in layout.planes {
            let n_bytes = CHUNK / 8 * plane.bits;
            let from = row % CHUNK / n_bytes * plane.bits;
            let (at, to) = plane.place(i);
            block[at] |= (chunk[row % n_bytes] >> from & plane.mask()) << to;
            chunk = &chunk[n_bytes..];
        }
    }
    for &(at, width) in layout.fields {
        let (field, rest) = fields.split_at(n_embd * width);
        block[at..at + width].copy_from_slice(&field[row * width..][..width]);
        fields = rest;
    }
}

/// Turns `n_embd` rows of `n_ff` elements of `N` bytes into rows of neurons: rows `neurons` of the
/// `n_ff` rows of `n_embd` elements. Ranges of neurons can be made in parallel; those of 64 bytes
/// and more read whole cache lines.
///
/// # Panics
/// When there are no such neurons, or `rows` or `out` have another size than that of the matrix and
/// of the neurons' rows.
pub fn transpose<const N: usize>(
    rows: &[u8],
    n_ff: usize,
    n_embd: usize,
    neurons: Range<usize>,
    out: &mut [u8],
) {
    /// Elements of a side of the squares that are transposed at a time.
    const SIDE: usize = 32;
    assert!(neurons.start <= neurons.end && neurons.end <= n_ff, "neurons {neurons:?} of {n_ff}");
    let bytes = |rows: usize, len: usize| rows.checked_mul(len)?.checked_mul(N);
    assert_eq!(Some(rows.len()), bytes(n_embd, n_ff), "bytes of the matrix");
    assert_eq!(Some(out.len()), bytes(neurons.len(), n_embd), "bytes of neurons {neurons:?}");
    let (rows, out) = (rows.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    for first in neurons.clone().step_by(SIDE) {
        let side = SIDE.min(neurons.end - first);
        for row0 in (0..n_embd).step_by(SIDE) {
            let square = row0..n_embd.min(row0 + SIDE);
            for i in first..first + side {
                let out = &mut out[(i - neurons.start) * n_embd..][square.clone()];
                for (out, row) in out.iter_mut().zip(square.clone()) {
                    *out = rows[row * n_ff + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TYPES: [QuantType; 10] = [
        QuantType::Q4_0,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5_1,
        QuantType::Q8_0,
        QuantType::IQ4_NL,
        QuantType::MXFP4,
        QuantType::Q4_K,
        QuantType::Q5_K,
        QuantType::Q6_K,
    ];

    fn random_bytes(n: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut byte = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| byte()).collect()
    }

    #[test]
    fn rows_come_back() {
        for ty in TYPES {
            for blocks in [1, 2, 9] {
                for n_embd in [32, 64, 96, 256, 576] {
                    let n_ff = blocks * ty.block_len();
                    assert!(can_tile(ty, n_ff, n_embd));
                    let bytes = ty.row_bytes(n_ff as u64).unwrap() as usize;
                    let rows = random_bytes(bytes * n_embd);
                    let mut tiles = vec![0x55; rows.len()];
                    // In two parts, as threads would.
                    let (a, b) = tiles.split_at_mut(blocks / 2 * tile_bytes(ty, n_embd));
                    pack(ty, &rows, n_ff, n_embd, 0..blocks / 2, a);
                    pack(ty, &rows, n_ff, n_embd, blocks / 2..blocks, b);
                    let mut back = vec![0xaa; rows.len()];
                    unpack_rows(ty, &tiles, n_ff, n_embd, 0..n_embd, &mut back);
                    assert!(back == rows, "{ty} {n_ff} x {n_embd}");
                    let part = 5..n_embd - 3;
                    let mut back = vec![0xaa; bytes * part.len()];
                    unpack_rows(ty, &tiles, n_ff, n_embd, part, &mut back);
                    assert!(back == rows[5 * bytes..(n_embd - 3) * bytes], "{ty} part");
                }
            }
        }
    }

    /// The layout itself, on codes that name their place: other programs may come to read it.
    #[test]
    fn codes_of_a_neuron_lie_together() {
        let (n_ff, n_embd) = (64, 64);
        // Q8_0: neuron i of output c has the code i + c, modulo 256; scales count up.
        let mut rows = Vec::new();
        for c in 0..n_embd {
            for b in 0..n_ff / 32 {
                rows.extend([c as u8, 100 + b as u8]);
                rows.extend((0..32).map(|i| (32 * b + i + c) as u8));
            }
        }
        let mut tiles = vec![0; rows.len()];
        pack(QuantType::Q8_0, &rows, n_ff, n_embd, 0..2, &mut tiles);
        let mut expected = Vec::new();
        for b in 0..2 {
            for i in 32 * b..32 * (b + 1) {
                expected.extend((0..n_embd).map(|c| (i + c) as u8));
            }
            expected.extend((0..n_embd).flat_map(|c| [c as u8, 100 + b as u8]));
        }
        assert!(tiles == expected);

        // Q5_0, one tile: neuron 3 has the code c % 32 for output c, all others 0.
        let mut rows = vec![0; 22 * n_embd];
        for (c, block) in rows.chunks_exact_mut(22).enumerate() {
            block[2] = (c as u8 % 32) >> 4 << 3;
            block[6 + 3] = c as u8 % 16;
        }
        let mut tile = vec![0; rows.len()];
        pack(QuantType::Q5_0, &rows, 32, n_embd, 0..1, &mut tile);
        let neuron = n_embd / 32 * 20;
        let mut chunk: Vec<u8> = (0..16).map(|j| 17 * j).collect();
        // Outputs 16.. have the fifth bit: the upper half of each byte's fields.
        chunk.extend([0xf0; 4]);
        assert_eq!(tile[3 * neuron..4 * neuron], [&chunk[..], &chunk[..]].concat());
        assert!(tile[..3 * neuron].iter().chain(&tile[4 * neuron..]).all(|&byte| byte == 0));
    }

    #[test]
    fn shapes_without_tiles() {
        assert!(!can_tile(QuantType::Q4_0, 32, 48));
        assert!(!can_tile(QuantType::Q4_0, 48, 32));
        assert!(!can_tile(QuantType::Q4_0, 0, 32));
        assert!(!can_tile(QuantType::Q4_0, 32, 0));
        assert!(!can_tile(QuantType::Q4_K, 32, 32));
        assert!(!can_tile(QuantType::F16, 32, 32));
        assert!(!can_tile(QuantType::Q4_0, usize::MAX - 31, usize::MAX - 31));
    }

    #[test]
    fn transposes() {
        for (n_ff, n_embd) in [(1, 1), (5, 70), (70, 5), (64, 33)] {
            let rows = random_bytes(4 * n_ff * n_embd);
            let mut out = vec![0; rows.len()];
            let (a, b) = out.split_at_mut(n_ff / 2 * n_embd * 4);
            transpose::<4>(&rows, n_ff, n_embd, 0..n_ff / 2, a);
            transpose::<4>(&rows, n_ff, n_embd, n_ff / 2..n_ff, b);
            for i in 0..n_ff {
                for row in 0..n_embd {
                    assert_eq!(
                        out[4 * (i * n_embd + row)..][..4],
                        rows[4 * (row * n_ff + i)..][..4]
                    );
                }
            }
            let mut back = vec![0; rows.len()];
            transpose::<2>(
                &rows[..2 * n_ff * n_embd],
                n_ff,
                n_embd,
                0..n_ff,
                &mut out[..2 * n_ff * n_embd],
            );
            transpose::<2>(
                &out[..2 * n_ff * n_embd],
                n_embd,
                n_ff,
                0..n_embd,
                &mut back[..2 * n_ff * n_embd],
            );
            assert_eq!(back[..2 * n_ff * n_embd], rows[..2 * n_ff * n_embd]);
        }
    }
}
