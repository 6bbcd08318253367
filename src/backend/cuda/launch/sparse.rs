//! `kernels/sparse.cu` and `sparse_down.cu`: feed-forward layers whose active neurons a list on
//! the card names. Nothing here waits for the list: grids do not depend on its length.

use super::super::{Arg, CudaError, Dims, Kernel, Module, Stream, View};
use super::product::kernel_of;
use super::{Acts, Matrix, Output, check, dim, int, number, optional, rows_bytes};
use crate::quant::QuantType;
use crate::tensor::Activation;

const THREADS: usize = 128;
/// Blocks for each multiprocessor that go through a list.
const BLOCKS_PER_SM: usize = 8;

/// Lists of rows on the card.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Row numbers (`i32`), ascending; those of token `t` from `t * stride` on.
    pub ids: View<'a>,
    /// How many there are (`i32`) for each token, at most `capacity`.
    pub counts: View<'a>,
    /// Entries from list to list; 0 when all tokens share one list and one count.
    pub stride: usize,
    /// The most entries of a list. No more are looked at.
    pub capacity: usize,
}

impl<'a> List<'a> {
    fn check(&self, n_tokens: usize) {
        let lists = if self.stride == 0 { n_tokens.min(1) } else { n_tokens };
        assert!(
            self.stride == 0 || self.stride >= self.capacity,
            "lists of {} entries, {} apart",
            self.capacity,
            self.stride
        );
        check("lists", self.ids, rows_bytes(lists, self.stride, self.capacity));
        check("counts", self.counts, rows_bytes(lists, 1, 1));
    }

    fn args(&self) -> [Arg<'a>; 4] {
        [Arg::View(self.ids), Arg::View(self.counts), int(self.stride), int(self.capacity)]
    }
}

/// A grid that goes through lists of up to `capacity` entries, `lanes` lanes to each.
fn dims(stream: &Stream, capacity: usize, lanes: usize, n_tokens: usize) -> Dims {
    let most = stream.device().info().n_sms.max(1) * BLOCKS_PER_SM;
    let blocks = capacity.saturating_mul(lanes).div_ceil(THREADS).clamp(1, most);
    Dims { grid: [dim(blocks), dim(n_tokens), 1], block: [THREADS as u32, 1, 1], shared: 0 }
}

/// Products with listed rows: `dst[t][i] = act(row ids[i] . token t + bias[ids[i]])`.
#[derive(Clone, Copy, Debug)]
pub struct ListRows<'a> {
    /// Weights.
    pub weights: Matrix<'a>,
    /// Activations.
    pub acts: Acts<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Which rows.
    pub list: List<'a>,
    /// One for each row of the matrix.
    pub bias: Option<View<'a>>,
    /// Not one that is gated only; `None` leaves the sums as they are.
    pub act: Option<Activation>,
    /// Floats, by place in the list. What lies past a list's end is not written.
    pub dst: View<'a>,
    /// Floats from token to token.
    pub stride: usize,
}

/// Multiplies listed rows.
///
/// # Panics
/// When the type has no kernel, or a view is too short.
pub fn list_rows(stream: &Stream, a: &ListRows<'_>) -> Result<(), CudaError> {
    let w = &a.weights;
    assert!(!a.act.is_some_and(Activation::is_gated_only), "{:?} without a gate", a.act);
    check_neurons(w, &a.acts, a.n_tokens, &a.list, &[a.bias], a.dst, a.stride);
    if a.n_tokens == 0 || w.n_rows == 0 {
        return Ok(());
    }
    let mut args = w.args().to_vec();
    a.acts.push(&mut args);
    args.extend(a.list.args());
    args.extend([optional(a.bias), number(a.act), Arg::View(a.dst), int(a.stride)]);
    args.push(int(w.lanes()));
    let kernel = Kernel { module: Module::Sparse, name: kernel_of!(w.ty, "list_rows_", "") };
    // SAFETY: the kernel keeps entries and rows within `capacity` and `n_rows`, for which the
    // views are long enough.
    unsafe { stream.launch(kernel, dims(stream, a.list.capacity, w.lanes(), a.n_tokens), &args) }
}

/// Listed neurons of a gated layer: `dst[t][i] = act(gate) * up`, where gate and up are the
/// products of rows `ids[i]` with token `t`, plus their biases.
#[derive(Clone, Copy, Debug)]
pub struct GateUp<'a> {
    /// Weights of the gate.
    pub gate: Matrix<'a>,
    /// Weights of the other half, of the same type and shape.
    pub up: Matrix<'a>,
    /// Activations.
    pub acts: Acts<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Which neurons.
    pub list: List<'a>,
    /// One for each neuron of the gate.
    pub gate_bias: Option<View<'a>>,
    /// One for each neuron of the other half.
    pub up_bias: Option<View<'a>>,
    /// Activation of the layer.
    pub act: Activation,
    /// Floats, by place in the list. What lies past a list's end is not written.
    pub dst: View<'a>,
    /// Floats from token to token.
    pub stride: usize,
}

/// Gate, up and activation of listed neurons.
///
/// # Panics
/// When the halves differ, the type has no kernel, or a view is too short.
pub fn gate_up(stream: &Stream, a: &GateUp<'_>) -> Result<(), CudaError> {
    let (gate, up) = (&a.gate, &a.up);
    assert!(
        (gate.ty, gate.n_rows, gate.k) == (up.ty, up.n_rows, up.k),
        "a gate of {} rows of {} in {}, the other half of {} rows of {} in {}",
        gate.n_rows,
        gate.k,
        gate.ty,
        up.n_rows,
        up.k,
        up.ty
    );
    gate.check();
    check_neurons(up, &a.acts, a.n_tokens, &a.list, &[a.gate_bias, a.up_bias], a.dst, a.stride);
    if a.n_tokens == 0 || up.n_rows == 0 {
        return Ok(());
    }
    let mut args = vec![Arg::View(gate.data)];
    args.extend(up.args());
    a.acts.push(&mut args);
    args.extend(a.list.args());
    args.extend([optional(a.gate_bias), optional(a.up_bias), number(Some(a.act))]);
    args.extend([Arg::View(a.dst), int(a.stride), int(up.lanes())]);
    let kernel = Kernel { module: Module::Sparse, name: kernel_of!(up.ty, "gate_up_", "") };
    // SAFETY: as in `list_rows`.
    unsafe { stream.launch(kernel, dims(stream, a.list.capacity, up.lanes(), a.n_tokens), &args) }
}

fn check_neurons(
    w: &Matrix<'_>,
    acts: &Acts<'_>,
    n_tokens: usize,
    list: &List<'_>,
    biases: &[Option<View<'_>>],
    dst: View<'_>,
    stride: usize,
) {
    w.check();
    acts.check(w.ty, n_tokens, w.k);
    list.check(n_tokens);
    for bias in biases.iter().flatten() {
        check("biases", *bias, rows_bytes(1, w.n_rows, w.n_rows));
    }
    assert!(stride >= list.capacity, "rows of {} floats, {stride} apart", list.capacity);
    check("outputs", dst, rows_bytes(n_tokens, stride, list.capacity));
}

/// The down projection of listed neurons: `y[t][c] = sum over i of h[t][i] * W[ids[i]][c]`, plus
/// the output's bias.
#[derive(Clone, Copy, Debug)]
pub struct SparseDown<'a> {
    /// Weights with a row of `n_embd` numbers for each neuron.
    pub weights: Matrix<'a>,
    /// What [`gate_up`] or [`list_rows`] made.
    pub h: View<'a>,
    /// Floats from token to token in `h`.
    pub h_stride: usize,
    /// Tokens.
    pub n_tokens: usize,
    /// Which neurons.
    pub list: List<'a>,
    /// Room for partial sums, of [`sparse_down_scratch`] bytes.
    pub scratch: View<'a>,
    /// Where the sums go.
    pub out: Output<'a>,
}

/// Warps of a block, each with a slice of the list (`WARPS` of kernels/sparse_down.cu).
const WARPS: usize = 4;
/// Blocks that share a list, when rows are cut into few pieces. Not a matter of the card, so that
/// sums are the same on all.
const BLOCKS: usize = 256;
/// Most groups of slices of a list, each with sums of its own.
pub const MAX_SLICES: usize = 64;

/// Pieces of a row, 32 chunks each, and groups of slices of the list.
fn pieces_and_slices(weights: &Matrix<'_>) -> (usize, usize) {
    let pieces = weights.n_chunks().div_ceil(32).max(1);
    let slices = (BLOCKS / pieces).clamp(1, MAX_SLICES);
    // No more than have an entry each when all neurons are listed.
    (pieces, slices.min(weights.n_rows.div_ceil(WARPS)).max(1))
}

/// Bytes of scratch memory that [`sparse_down`] needs.
pub fn sparse_down_scratch(weights: &Matrix<'_>, n_tokens: usize) -> usize {
    n_tokens * pieces_and_slices(weights).1 * weights.k * size_of::<f32>()
}

/// Multiplies listed neurons with their rows and adds up, in an order that the shapes alone decide.
///
/// # Panics
/// When the type has no kernel, or a view is too short.
pub fn sparse_down(stream: &Stream, a: &SparseDown<'_>) -> Result<(), CudaError> {
    let w = &a.weights;
    w.check();
    a.list.check(a.n_tokens);
    a.out.check(a.n_tokens, w.k);
    assert!(a.h_stride >= a.list.capacity, "h of {}, {} apart", a.list.capacity, a.h_stride);
    check("h", a.h, rows_bytes(a.n_tokens, a.h_stride, a.list.capacity));
    check("scratch", a.scratch, Some(sparse_down_scratch(w, a.n_tokens)));
    if a.n_tokens == 0 {
        return Ok(());
    }
    let (pieces, slices) = pieces_and_slices(w);
    // Without rows there is nothing to read, and the sums are zeros.
    let list = List { capacity: if w.n_rows == 0 { 0 } else { a.list.capacity }, ..a.list };
    let mut args = w.args().to_vec();
    args.extend([Arg::View(a.h), int(a.h_stride)]);
    args.extend(list.args());
    args.push(Arg::View(a.scratch));
    let kernel = Kernel { module: Module::SparseDown, name: kernel_of!(w.ty, "sparse_down_", "") };
    let dims = Dims {
        grid: [dim(pieces), dim(slices), dim(a.n_tokens)],
        block: [(WARPS * 32) as u32, 1, 1],
        shared: 0,
    };
    // SAFETY: the kernel keeps entries and rows within `capacity` and `n_rows`, and writes `slices`
    // rows of partial sums for each token, for which the views are long enough.
    unsafe { stream.launch(kernel, dims, &args) }?;

    let mut args = vec![Arg::View(a.scratch), int(slices), int(w.k)];
    args.extend([Arg::View(a.out.dst), int(a.out.stride), optional(a.out.bias)]);
    args.extend(a.out.mode());
    let kernel = Kernel { module: Module::SparseDown, name: "sparse_down_sum" };
    let dims =
        Dims { grid: [dim(w.k.div_ceil(256)), dim(a.n_tokens), 1], block: [256, 1, 1], shared: 0 };
    // SAFETY: reads what the kernel above wrote, and writes `n_tokens` rows of `k` floats.
    unsafe { stream.launch(kernel, dims, &args) }
}
