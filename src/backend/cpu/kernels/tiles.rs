//! The contract of the kernels for neuron tiles ([`crate::quant::tiles`]).
//!
//! An output is what the contract of [`super::int8`] says of the row that the tiles hold, to the
//! bit, on every instruction set. But codes of neurons whose activation has the code 0 are not read
//! where that is cheaper: they add nothing to an exact sum of integers. Blocks whose activations
//! have the scale 0 are skipped altogether, their scales included: they would add zeros. So the same
//! kernel serves sparse and dense activations, and its result does not depend on which they are.
//!
//! Two conditions: scales of the weights are finite (0 times infinity would be NaN in a row), and a
//! zero may have the other sign where a product was too small for a float.

use std::ops::Range;

use super::int8::{BLOCK, Sums};
use crate::backend::cpu::pool::ColsMut;
use crate::quant::QuantType;

/// One call: outputs `rows` of a tiled matrix for `n_tokens` activation rows.
#[derive(Clone)]
pub(crate) struct MulMatTiles<'a> {
    /// Type of the weights.
    pub(crate) ty: QuantType,
    /// All tiles.
    pub(crate) tiles: &'a [u8],
    /// Outputs of the matrix, a multiple of 32.
    pub(crate) n_embd: usize,
    /// Outputs that are wanted: from one multiple of 32 to another.
    pub(crate) rows: Range<usize>,
    /// Blocks of 32 neurons; whole tiles.
    pub(crate) n_blocks: usize,
    /// Activation codes, `n_tokens` rows of `32 * n_blocks`.
    pub(crate) q: &'a [i8],
    /// Activation scales, `n_tokens` rows of `n_blocks`.
    pub(crate) d: &'a [f32],
    /// Sums of the activation codes, laid out like `d`.
    pub(crate) s: &'a [Sums],
    pub(crate) n_tokens: usize,
}

impl<'a> MulMatTiles<'a> {
    /// Codes, scale and sums of block `b` of token `t`.
    #[inline(always)]
    pub(crate) fn act(&self, t: usize, b: usize) -> (&'a [i8], f32, Sums) {
        let i = t * self.n_blocks + b;
        (&self.q[i * BLOCK..][..BLOCK], self.d[i], self.s[i])
    }
}

/// Computes a [`MulMatTiles`] into `n_tokens` rows of `rows.len()`.
///
/// # Safety
/// The processor has the kernel's instruction set; the lengths in the call are what their fields
/// say; `scratch` is aligned to 64 bytes and has [`TileKernels::scratch_bytes`].
pub(crate) type MulMatTilesFn =
    unsafe fn(&MulMatTiles<'_>, y: &mut ColsMut<'_, f32>, scratch: &mut [u8]);

/// The kernels of one instruction set.
pub(crate) struct TileKernels {
    /// By weight type; all that [`crate::quant::tiles::can_tile`] knows.
    pub(crate) rows: &'static [(QuantType, MulMatTilesFn)],
    /// Work space in bytes, for any type and size.
    pub(crate) scratch_bytes: usize,
}

/// Up to this many neurons with codes that are not zero, over all tokens and in multiples of all
/// neurons, are added one by one; more are multiplied as tiles in L1 are, with all tokens at once.
#[cfg(target_arch = "x86_64")]
const FEW: usize = 4;

/// What the drivers have to know about a type and the kernel of an instruction set.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Blocks of 32 in a tile.
    pub(crate) n: usize,
    /// Halves of a block have weights: their products are summed apart.
    pub(crate) halves: bool,
    /// Bytes of a neuron's codes for 32 outputs.
    pub(crate) chunk_bytes: usize,
}

/// Four neurons of the same block (or half of it), or fewer: the first then stands in with the
/// activation 0.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Default)]
pub(crate) struct Quad {
    /// Where the neurons' codes start in the tile, in bytes.
    pub(crate) at: [u32; 4],
    /// Their activations.
    pub(crate) q: i32,
}

/// The most units of a tile: halves of 8 blocks.
#[cfg(target_arch = "x86_64")]
const UNITS: usize = 16;

/// The neurons of a tile that a token wants.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Wanted {
    quads: [Quad; 64],
    /// Where the quads of each unit, a block or half a block, end.
    ends: [usize; UNITS + 1],
}

#[cfg(target_arch = "x86_64")]
impl Wanted {
    const NONE: Self = Self { quads: [Quad { at: [0; 4], q: 0 }; 64], ends: [0; UNITS + 1] };

    /// Finds those of the tile that starts with block `b0` for token `t`; a neuron's codes take
    /// `stride` bytes.
    fn find(&mut self, a: &MulMatTiles<'_>, t: usize, b0: usize, kind: Kind, stride: usize) {
        let (mut n, mut unit) = (0, 0);
        for b in 0..kind.n {
            let (q, _, _) = a.act(t, b0 + b);
            let all = nonzero(q);
            let parts = if kind.halves { [all & 0xffff, all & 0xffff_0000] } else { [all, 0] };
            for mut mask in parts.into_iter().take(1 + usize::from(kind.halves)) {
                while mask != 0 {
                    let mut quad = Quad::default();
                    for j in 0..4 {
                        let i = mask.trailing_zeros() as usize;
                        if i < BLOCK {
                            quad.at[j] = ((b * BLOCK + i) * stride) as u32;
                            quad.q |= i32::from(q[i].cast_unsigned()) << (8 * j);
                            mask &= mask - 1;
                        } else {
                            quad.at[j] = quad.at[0];
                        }
                    }
                    self.quads[n] = quad;
                    n += 1;
                }
                unit += 1;
                self.ends[unit] = n;
            }
        }
        self.ends[unit..].fill(n);
    }

    /// All quads.
    #[inline(always)]
    pub(crate) fn all(&self) -> &[Quad] {
        &self.quads[..self.ends[UNITS].min(64)]
    }

    /// Those of a unit.
    #[inline(always)]
    pub(crate) fn unit(&self, unit: usize) -> &[Quad] {
        &self.quads[self.ends[unit]..self.ends[unit + 1]]
    }
}

/// Bit `i` is set when code `i` of a block is not zero.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn nonzero(q: &[i8]) -> u32 {
    use std::arch::x86_64::*;
    assert!(q.len() == BLOCK);
    // SAFETY: SSE2 is part of x86-64; 32 bytes can be read.
    unsafe {
        let zero = _mm_setzero_si128();
        let zeros = |at: usize| {
            let x = _mm_loadu_si128(q.as_ptr().add(at).cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(x, zero)).cast_unsigned()
        };
        !(zeros(0) | zeros(16) << 16)
    }
}

/// A tile to be added to the outputs of a token.
#[cfg(target_arch = "x86_64")]
pub(crate) struct AddTile<'a> {
    /// The tile, from the first wanted output on: its codes and its other fields.
    pub(crate) codes: *const u8,
    pub(crate) fields: Fields,
    pub(crate) wanted: &'a Wanted,
    /// Scales and sums of the activations, for each block of the tile.
    pub(crate) d: &'a [f32],
    pub(crate) s: &'a [Sums],
    /// Outputs that are wanted, in chunks of 32.
    pub(crate) n_chunks: usize,
    pub(crate) y: *mut f32,
    pub(crate) ahead: Ahead<'a>,
}

/// The fields of a tile other than codes, from some output on.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Fields {
    /// Start of the first field.
    base: *const u8,
    n_embd: usize,
    /// The output.
    row: usize,
}

#[cfg(target_arch = "x86_64")]
impl Fields {
    /// Those of a tile whose fields start at `base`, from output `row` on.
    #[inline(always)]
    pub(crate) fn of(base: *const u8, n_embd: usize, row: usize) -> Self {
        Self { base, n_embd, row }
    }

    /// The fields of the outputs from `rows` outputs further on.
    #[inline(always)]
    pub(crate) fn skip(self, rows: usize) -> Self {
        Self { row: self.row + rows, ..self }
    }

    /// The field of `width` bytes that is `before` bytes into a block's fields.
    #[inline(always)]
    pub(crate) fn at(self, before: usize, width: usize) -> *const u8 {
        self.base.wrapping_add(before * self.n_embd + self.row * width)
    }
}

/// Fetches what comes next into L2: the same neurons some chunks of outputs further, or the next
/// tile's.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    /// Chunks ahead; at most those of a tile.
    distance: usize,
    next: Option<(&'a Wanted, *const u8, Fields)>,
    active: bool,
}

/// Bytes that are to be on their way: what RAM delivers in about a microsecond.
#[cfg(target_arch = "x86_64")]
const IN_FLIGHT: usize = 16 << 10;

#[cfg(target_arch = "x86_64")]
impl AddTile<'_> {
    /// To be called beside the outputs of `n` chunks from `chunk` on; `field_bytes` are those of an
    /// output.
    #[inline(always)]
    pub(crate) fn fetch(&self, chunk: usize, n: usize, chunk_bytes: usize, field_bytes: usize) {
        if !self.ahead.active {
            return;
        }
        let there = chunk + self.ahead.distance;
        let (wanted, codes, fields, chunk) = match self.ahead.next {
            _ if there < self.n_chunks => (self.wanted, self.codes, self.fields, there),
            Some((wanted, codes, fields)) => (wanted, codes, fields, there - self.n_chunks),
            None => return,
        };
        for quad in wanted.all() {
            for at in quad.at {
                fetch(codes.wrapping_add(at as usize + chunk * chunk_bytes), n * chunk_bytes);
            }
        }
        // Fields have 4 bytes each, but for a first one that is shorter.
        let mut before = 0;
        while before < field_bytes {
            let width = match field_bytes % 4 {
                first if before == 0 && first > 0 => first,
                _ => 4,
            };
            fetch(fields.skip(chunk * BLOCK).at(before, width), n * BLOCK * width);
            before += width;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(from: *const u8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for at in (0..bytes).step_by(64) {
        // SAFETY: prefetches are part of SSE, which all x86-64 has, and never fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
}

/// Whether a call is done by [`add_tiles`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_few(a: &MulMatTiles<'_>) -> bool {
    a.n_tokens <= FEW || count(a) <= FEW * a.n_blocks * BLOCK
}

/// Activation codes that are not zero.
#[cfg(target_arch = "x86_64")]
fn count(a: &MulMatTiles<'_>) -> usize {
    a.q.chunks_exact(BLOCK).map(|q| nonzero(q).count_ones() as usize).sum()
}

/// Adds tile after tile to the outputs of each token in turn: a tile is read from RAM once.
///
/// # Safety
/// `add` is for the call's type and can be called on this processor; the call is what
/// [`MulMatTilesFn`] says.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn add_tiles(
    a: &MulMatTiles<'_>,
    y: &mut ColsMut<'_, f32>,
    kind: Kind,
    add: unsafe fn(&AddTile<'_>),
) {
    (0..a.n_tokens).for_each(|t| y.row(t).fill(0.0));
    let stride = a.n_embd / BLOCK * kind.chunk_bytes;
    let tile_bytes = crate::quant::tiles::tile_bytes(a.ty, a.n_embd);
    let codes_bytes = kind.n * BLOCK * stride;
    let n_chunks = a.rows.len() / BLOCK;
    // Tiles with any activation; a scale is NaN where one is.
    let is_wanted = |t: usize, b0: usize| (0..kind.n).any(|b| a.act(t, b0 + b).1 != 0.0);
    let mut tiles = (0..a.n_blocks)
        .step_by(kind.n)
        .filter(|&b0| (0..a.n_tokens).any(|t| is_wanted(t, b0)))
        .peekable();
    let place = |b0: usize| {
        let tile = a.tiles[b0 / kind.n * tile_bytes..][..tile_bytes].as_ptr();
        let codes = tile.wrapping_add(a.rows.start / BLOCK * kind.chunk_bytes);
        let fields = Fields::of(tile.wrapping_add(codes_bytes), a.n_embd, a.rows.start);
        (codes, fields)
    };
    // Chunks of outputs, in all neurons that are wanted of a tile, that make up what is in flight.
    let n_tiles = a.n_blocks / kind.n;
    let bytes = count(a) / a.n_tokens * kind.chunk_bytes / n_tiles + tile_bytes / a.n_embd;
    let distance = (IN_FLIGHT / bytes.max(1)).clamp(1, n_chunks);
    let (mut wanted, mut coming) = (Wanted::NONE, Wanted::NONE);
    if let Some(&b0) = tiles.peek() {
        coming.find(a, 0, b0, kind, stride);
    }
    while let Some(b0) = tiles.next() {
        std::mem::swap(&mut wanted, &mut coming);
        let next = tiles.peek().map(|&b0| {
            coming.find(a, 0, b0, kind, stride);
            let (codes, fields) = place(b0);
            (&coming, codes, fields)
        });
        for t in 0..a.n_tokens {
            if t > 0 {
                wanted.find(a, t, b0, kind, stride);
            }
            if !is_wanted(t, b0) {
                continue;
            }
            let at = t * a.n_blocks + b0;
            let (codes, fields) = place(b0);
            let tile = AddTile {
                codes,
                fields,
                wanted: &wanted,
                d: &a.d[at..at + kind.n],
                s: &a.s[at..at + kind.n],
                n_chunks,
                y: y.row(t).as_mut_ptr(),
                ahead: Ahead { distance, next, active: t == 0 },
            };
            // SAFETY: as the caller vouches; the tile was cut out of all tiles.
            unsafe { add(&tile) };
        }
    }
}
