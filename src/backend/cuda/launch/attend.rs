//! `kernels/attend.cu` and `attend_many.cu`, and which of them a batch takes.

use super::super::{CudaError, Dims, Kernel, Module, Stream, View};
use super::{Arg, CacheType, MAT_VEC_TOKENS, check, dim, int, optional, rows_bytes};

/// Keys that a block takes at a time; splits are multiples of it.
pub const ATTEND_KEYS: usize = 64;
/// Query heads of a block.
const MAX_HEADS: usize = 8;
/// Numbers of a head.
const MAX_DIM: usize = 256;
const THREADS: u32 = 256;
/// Queries, and threads, of a block of attend_many.cu.
const MANY_QUERIES: usize = 64;
const MANY_THREADS: u32 = 128;

/// Penalties that grow with the distance in positions (ALiBi, arXiv 2108.12409).
#[derive(Clone, Copy, Debug)]
pub struct Slopes<'a> {
    /// f32 `[n_head]`
    pub slopes: View<'a>,
    /// i32, the positions of `Attend::list`.
    pub key_pos: View<'a>,
    /// i32 `[n_tokens]`
    pub query_pos: View<'a>,
}

/// Attention of tokens over rows of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Attend<'a> {
    /// f32 `[n_tokens][q_stride]`, of which the first `n_head * dim_k` are queries.
    pub q: View<'a>,
    /// Numbers from a token's queries to the next's.
    pub q_stride: usize,
    /// Rows of `[n_head_kv][dim_k]`.
    pub k: View<'a>,
    /// Rows of `[n_head_kv][dim_v]`.
    pub v: View<'a>,
    /// How keys are kept.
    pub kind_k: CacheType,
    /// How values are kept.
    pub kind_v: CacheType,
    /// Rows of the cache.
    pub n_rows: usize,
    /// i32 pairs `[n_tokens][2]`: begin and end of the token's part of `list`.
    pub ranges: View<'a>,
    /// i32: rows of the cache in order of position.
    pub list: View<'a>,
    /// Of the list.
    pub n_list: usize,
    /// Most keys of a token.
    pub max_keys: usize,
    /// Penalties of distance.
    pub alibi: Option<Slopes<'a>>,
    /// f32 `[n_head]`: scores of a key that has no value.
    pub sinks: Option<View<'a>>,
    /// Scratch of [`attend_scratch`] bytes.
    pub partials: View<'a>,
    /// f32 `[n_tokens][n_head][dim_v]`
    pub dst: View<'a>,
    /// Tokens.
    pub n_tokens: usize,
    /// Query heads.
    pub n_head: usize,
    /// Heads of keys and values, a divisor of `n_head`.
    pub n_head_kv: usize,
    /// Numbers of a query and a key, at most 256.
    pub dim_k: usize,
    /// Numbers of a value, at most 256.
    pub dim_v: usize,
    /// Keys of a split, a multiple of [`ATTEND_KEYS`].
    pub split_keys: usize,
    /// Of the products of queries and keys.
    pub scale: f32,
    /// `cap * tanh(score / cap)`; 0: not capped.
    pub softcap: f32,
}

impl Attend<'_> {
    /// The kernel of attend_many.cu that takes this batch: where many tokens attend over the same
    /// keys, of at most 128 numbers. Elsewhere, with few tokens or with tokens of many sequences,
    /// blocks of one token have more to do at a time; and single precision they read as it is.
    fn many(&self) -> Option<&'static str> {
        let dim = self.dim_k.max(self.dim_v);
        // Tokens that a key is for, on average.
        let sharing = self.n_tokens.saturating_mul(self.max_keys) / self.n_list.max(1);
        let fits = self.dim_k.is_multiple_of(8) && self.dim_v.is_multiple_of(8);
        if self.n_tokens <= MAT_VEC_TOKENS || sharing < 4 || !fits {
            return None;
        }
        let halves = match (self.kind_k, self.kind_v) {
            (CacheType::F32, _) | (_, CacheType::F32) => return None,
            (k, v) => k == CacheType::F16 && v == CacheType::F16,
        };
        match (dim, halves) {
            (..=64, true) => Some("attend_many_halves_64"),
            (..=64, false) => Some("attend_many_any_64"),
            (..=128, true) => Some("attend_many_halves_128"),
            (..=128, false) => Some("attend_many_any_128"),
            _ => None,
        }
    }
}

/// Bytes that [`attend`] needs beside its operands.
pub fn attend_scratch(
    n_tokens: usize,
    n_head: usize,
    dim_v: usize,
    max_keys: usize,
    split_keys: usize,
) -> Option<usize> {
    let splits = max_keys.div_ceil(split_keys).max(1);
    n_tokens
        .checked_mul(n_head)?
        .checked_mul(splits)?
        .checked_mul(dim_v.checked_add(2)?)?
        .checked_mul(4)
}

/// Attends. Ranges and rows on the device that lead out of the list or the cache are cut off.
///
/// # Panics
/// When a view is too short, or the shapes are not those the kernel is made for.
pub fn attend(stream: &Stream, a: &Attend<'_>) -> Result<(), CudaError> {
    assert!(
        a.n_head_kv > 0 && a.n_head.is_multiple_of(a.n_head_kv),
        "{} heads over {}",
        a.n_head,
        a.n_head_kv
    );
    assert!(
        (1..=MAX_DIM).contains(&a.dim_k) && (1..=MAX_DIM).contains(&a.dim_v),
        "heads of {} and {}",
        a.dim_k,
        a.dim_v
    );
    assert!(
        a.split_keys > 0 && a.split_keys.is_multiple_of(ATTEND_KEYS),
        "splits of {}",
        a.split_keys
    );
    let heads = a.n_tokens.checked_mul(a.n_head);
    let numbers = |dim: usize| heads.and_then(|heads| heads.checked_mul(dim)?.checked_mul(4));
    let n_q = a.n_head.saturating_mul(a.dim_k);
    check("queries", a.q, rows_bytes(a.n_tokens, a.q_stride, n_q));
    assert!(a.n_rows > 0, "a cache without rows");
    check("results", a.dst, numbers(a.dim_v));
    let sides = [("keys", a.k, a.dim_k, a.kind_k), ("values", a.v, a.dim_v, a.kind_v)];
    for (what, view, dim, kind) in sides {
        let row = a.n_head_kv.checked_mul(dim).and_then(|width| kind.row_bytes(width));
        check(what, view, row.and_then(|row| row.checked_mul(a.n_rows)));
    }
    check("ranges", a.ranges, a.n_tokens.checked_mul(8));
    check("list", a.list, a.n_list.checked_mul(4));
    if let Some(alibi) = a.alibi {
        check("slopes", alibi.slopes, a.n_head.checked_mul(4));
        check("positions of keys", alibi.key_pos, a.n_list.checked_mul(4));
        check("positions of queries", alibi.query_pos, a.n_tokens.checked_mul(4));
    }
    if let Some(sinks) = a.sinks {
        check("sinks", sinks, a.n_head.checked_mul(4));
    }
    let scratch = attend_scratch(a.n_tokens, a.n_head, a.dim_v, a.max_keys, a.split_keys);
    check("partial results", a.partials, scratch);

    let splits = a.max_keys.div_ceil(a.split_keys).max(1);
    let mut args = vec![
        Arg::View(a.q),
        Arg::View(a.k),
        Arg::View(a.v),
        Arg::View(a.ranges),
        Arg::View(a.list),
        optional(a.alibi.map(|alibi| alibi.slopes)),
        optional(a.alibi.map(|alibi| alibi.key_pos)),
        optional(a.alibi.map(|alibi| alibi.query_pos)),
        Arg::View(a.partials),
        int(a.n_head),
        int(a.n_head_kv),
        int(a.dim_k),
        int(a.dim_v),
        int(a.split_keys),
        int(splits),
        Arg::F32(a.scale),
        Arg::F32(a.softcap),
        int(a.q_stride),
        int(a.n_list),
        int(a.n_rows),
        a.kind_k.number(),
        a.kind_v.number(),
    ];
    let shared_by = a.n_head / a.n_head_kv;
    let (kernel, dims) = if let Some(name) = a.many() {
        args.push(int(a.n_tokens));
        let tiles = (a.n_tokens * shared_by).div_ceil(MANY_QUERIES);
        let grid = [dim(splits), dim(a.n_head_kv), dim(tiles)];
        let dims = Dims { grid, block: [MANY_THREADS, 1, 1], shared: 0 };
        (Kernel { module: Module::AttendMany, name }, dims)
    } else {
        let groups = a.n_head_kv * shared_by.div_ceil(MAX_HEADS);
        let grid = [dim(splits), dim(groups), dim(a.n_tokens)];
        let dims = Dims { grid, block: [THREADS, 1, 1], shared: 0 };
        (Kernel { module: Module::Attend, name: "attend" }, dims)
    };
    // SAFETY: the operands are as long as the numbers say, as checked, and the kernel holds what
    // stands on the device to them.
    unsafe { stream.launch(kernel, dims, &args) }?;

    let grid = [dim(a.n_head), dim(a.n_tokens), 1];
    let args = [
        Arg::View(a.partials),
        Arg::View(a.ranges),
        optional(a.sinks),
        Arg::View(a.dst),
        int(a.n_head),
        int(a.dim_v),
        int(a.split_keys),
        int(splits),
    ];
    let kernel = Kernel { module: Module::Attend, name: "attend_combine" };
    // SAFETY: as above; of the partial results, only those are read that the first kernel wrote.
    unsafe { stream.launch(kernel, Dims { grid, block: [THREADS, 1, 1], shared: 0 }, &args) }
}
