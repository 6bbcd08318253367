//! A cache's state from bytes: read and fitted to the cache first, put in place last.

use std::rc::Rc;

use super::part::Part;
use super::save::{LayerFacts, NO_LIST};
use super::{CellState, Cells, KvCache, MAX_SEQS, SeqSet};
use crate::engine::StateError;
use crate::engine::state::StateScope;
use crate::engine::state::wire::In;

/// Most parts that a cache has.
const MAX_LISTS: usize = 2;

/// A state that fits a cache, and where it goes.
pub struct Restored<'a> {
    /// New cells of streams: the part, the stream.
    cells: Vec<(usize, usize, Cells)>,
    layers: Vec<LayerRows<'a>>,
}

/// Where rows of a layer go.
struct LayerRows<'a> {
    layer: usize,
    k: &'a [u8],
    v: &'a [u8],
    /// A row of the state and the buffers' row that it becomes.
    moves: Rc<[(usize, usize)]>,
}

/// Where a token of a list goes: its number in the list, and the buffers' row.
type Placed = Vec<(usize, usize)>;

/// What a state says of a layer.
struct LayerOf<'a> {
    /// The list that its rows are of; none when it is not part of the state.
    list: Option<usize>,
    k: &'a [u8],
    v: &'a [u8],
}

impl KvCache {
    /// Reads what [`Self::write_state`] wrote, and finds a place for it. Nothing is changed.
    pub fn read_state<'a>(
        &self,
        scope: &StateScope,
        src: &mut In<'a>,
    ) -> Result<Restored<'a>, StateError> {
        for (name, own) in [("K", self.ty_k), ("V", self.ty_v)] {
            let found = src.u32()?;
            if found != own as u32 {
                return mismatch(format!("its {name} cache is of type {found}, expected {own}"));
            }
        }
        let lists_of = self.read_layers(src)?;
        let n_lists = src.u32()? as usize;
        if !(1..=MAX_LISTS).contains(&n_lists) {
            return malformed(format!("{n_lists} lists of cells"));
        }
        let lists: Vec<Vec<CellState>> =
            (0..n_lists).map(|_| self.read_cells(scope, src)).collect::<Result<_, _>>()?;
        let mut layers = Vec::new();
        for (layer, list) in self.layers.iter().zip(lists_of) {
            let Some(list) = list else {
                layers.push(LayerOf { list, k: &[], v: &[] });
                continue;
            };
            let Some(cells) = lists.get(list) else {
                return malformed(format!("a layer has list {list} of {n_lists}"));
            };
            let mut rows = |ld: usize| {
                let n = cells.len().checked_mul(ld);
                src.bytes(n.ok_or_else(|| StateError::Malformed("too many rows".into()))?)
            };
            layers.push(LayerOf {
                list: Some(list),
                k: rows(layer.k.ld())?,
                v: rows(layer.v.ld())?,
            });
        }
        self.fit(scope, &lists, &layers)
    }

    /// Each layer's list of cells, after a check that the layers are the cache's.
    fn read_layers(&self, src: &mut In<'_>) -> Result<Vec<Option<usize>>, StateError> {
        let n_layer = src.u32()? as usize;
        if n_layer != self.layers.len() {
            return mismatch(format!("it has {n_layer} layers, expected {}", self.layers.len()));
        }
        let read = |(il, spec)| {
            let list = src.u32()?;
            let (found, own) = (LayerFacts::get(src)?, LayerFacts::of(spec));
            if found != own {
                return mismatch(format!("layer {il} is {found:?}, expected {own:?}"));
            }
            Ok((list != NO_LIST).then_some(list as usize))
        };
        self.specs.iter().enumerate().map(read).collect()
    }

    fn read_cells(
        &self,
        scope: &StateScope,
        src: &mut In<'_>,
    ) -> Result<Vec<CellState>, StateError> {
        let n_cells = src.u32()? as usize;
        // Nothing is allocated for cells that are not there.
        let least = if scope.seq.is_some() { 8 } else { 16 };
        if n_cells > src.0.len() / least {
            return malformed(format!("{n_cells} cells in {} bytes", src.0.len()));
        }
        let read = |_| {
            let (pos, shift) = (src.i32()?, src.i32()?);
            // Keys were rotated for a position too. The last position must have a next one.
            let is_pos = |pos: i64| (0..i64::from(i32::MAX)).contains(&pos);
            if !is_pos(pos.into()) || !is_pos(i64::from(pos) - i64::from(shift)) {
                return malformed(format!("position {pos}, moved by {shift}"));
            }
            let seqs = match scope.seq {
                Some(seq) => SeqSet::one(seq),
                None => self.read_seqs(src)?,
            };
            Ok(CellState { pos, shift, seqs })
        };
        (0..n_cells).map(read).collect()
    }

    fn read_seqs(&self, src: &mut In<'_>) -> Result<SeqSet, StateError> {
        let n = src.u32()?;
        let mut seqs = SeqSet::default();
        for _ in 0..n {
            let seq = src.u32()? as usize;
            if seq >= self.n_seq_max {
                return mismatch(format!("it has sequence {seq}, n_seq_max is {}", self.n_seq_max));
            }
            if seqs.contains(seq) {
                return malformed(format!("a cell is of sequence {seq} twice"));
            }
            seqs.insert(seq);
        }
        if seqs.is_empty() {
            return malformed("a cell is of no sequence".into());
        }
        Ok(seqs)
    }

    /// Finds cells for the lists, and a row for every row.
    fn fit<'a>(
        &self,
        scope: &StateScope,
        lists: &[Vec<CellState>],
        layers: &[LayerOf<'a>],
    ) -> Result<Restored<'a>, StateError> {
        let mut restored = Restored { cells: Vec::new(), layers: Vec::new() };
        let parts = self.parts_of(scope);
        for part in parts.clone() {
            // A cache that is cut in parts takes a state that was not, and the other way round.
            let own = (part - parts.start).min(lists.len() - 1);
            let (cells, placed) = self.parts[part].fit(scope.seq, &lists[own])?;
            restored.cells.extend(cells.into_iter().map(|(stream, c)| (part, stream, c)));
            let mut moves: [Option<Rc<[(usize, usize)]>>; MAX_LISTS] = [None, None];
            for (il, _) in self.layers.iter().enumerate().filter(|(_, layer)| layer.part == part) {
                let Some(list) = layers[il].list else {
                    return mismatch(format!(
                        "it has nothing of layer {il}: it was taken of a cache that keeps less of \
                         other layers (swa_full, n_ctx)"
                    ));
                };
                let moves = match &moves[list] {
                    Some(moves) => moves.clone(),
                    None => {
                        let order = same_tokens(&lists[own], &lists[list]).ok_or_else(|| {
                            StateError::Mismatch(format!(
                                "layer {il} has forgotten what this context keeps (swa_full, n_ctx)"
                            ))
                        })?;
                        let new: Rc<[_]> = placed.iter().map(|&(i, row)| (order(i), row)).collect();
                        moves[list].insert(new).clone()
                    }
                };
                let LayerOf { k, v, .. } = layers[il];
                restored.layers.push(LayerRows { layer: il, k, v, moves });
            }
        }
        Ok(restored)
    }

    /// Puts a state in place that [`Self::read_state`] found to fit this cache, which was not
    /// changed since.
    pub fn restore(&mut self, restored: Restored<'_>) {
        for (part, stream, cells) in restored.cells {
            self.parts[part].streams[stream] = cells;
        }
        for LayerRows { layer, k, v, moves } in restored.layers {
            let layer = &mut self.layers[layer];
            for (buffer, rows) in [(&mut layer.k, k), (&mut layer.v, v)] {
                let ld = buffer.ld();
                let to = buffer.bytes();
                for &(i, row) in moves.iter() {
                    to[row * ld..(row + 1) * ld].copy_from_slice(&rows[i * ld..(i + 1) * ld]);
                }
            }
        }
    }
}

impl Part {
    /// New cells for the streams that a list goes to, and where each of its tokens comes to be.
    /// Tokens that no later one sees go nowhere when there is no room for them.
    fn fit(
        &self,
        seq: Option<usize>,
        list: &[CellState],
    ) -> Result<(Vec<(usize, Cells)>, Placed), StateError> {
        let mut cells = Vec::new();
        let mut placed = Vec::new();
        let streams = match seq {
            Some(seq) => self.stream_of(seq)..self.stream_of(seq) + 1,
            None => 0..self.streams.len(),
        };
        let mut of_stream: Vec<Vec<usize>> = vec![Vec::new(); self.streams.len()];
        for (i, token) in list.iter().enumerate() {
            let mut streams = token.seqs.iter().map(|seq| self.stream_of(seq));
            let Some(stream) = streams.next() else { continue };
            if streams.any(|other| other != stream) {
                return mismatch(
                    "sequences share cells in it, here they cannot (kv_unified)".into(),
                );
            }
            of_stream[stream].push(i);
        }
        for stream in streams {
            let old = &self.streams[stream];
            let mut new = match seq {
                Some(_) => old.clone(),
                None => Cells::new(self.n_cells, old.n_seqs()),
            };
            if let Some(seq) = seq {
                new.seq_rm(seq, 0, i32::MAX);
            }
            let mut chosen = std::mem::take(&mut of_stream[stream]);
            if self.forgets() && chosen.len() > new.n_free() {
                let last = last_positions(list, &chosen);
                chosen.retain(|&i| {
                    let token = &list[i];
                    token.seqs.iter().any(|seq| token.pos >= self.first_seen(last[seq]))
                });
                if chosen.len() > new.n_free() {
                    let first = self.first_needed(&new, &[], &[]);
                    new.make_room(chosen.len(), &first);
                }
            }
            let tokens: Vec<CellState> = chosen.iter().map(|&i| list[i]).collect();
            let (needed, free) = (tokens.len(), new.n_free());
            let found = if needed <= free { new.place_all(&tokens) } else { None };
            let found = found.ok_or(StateError::NoRoom { needed, free })?;
            let rows = found.into_iter().map(|cell| stream * self.n_cells + cell as usize);
            placed.extend(chosen.into_iter().zip(rows));
            cells.push((stream, new));
        }
        Ok((cells, placed))
    }
}

/// The last position of each sequence of some tokens of a list.
fn last_positions(list: &[CellState], chosen: &[usize]) -> Vec<i32> {
    let mut last = vec![-1; MAX_SEQS];
    for token in chosen.iter().map(|&i| &list[i]) {
        token.seqs.iter().for_each(|seq| last[seq] = last[seq].max(token.pos));
    }
    last
}

/// Where each token of `a` is in `b`; `None` when they are not the same tokens.
fn same_tokens(a: &[CellState], b: &[CellState]) -> Option<impl Fn(usize) -> usize> {
    let mut at = Vec::new();
    if a != b {
        let sorted = |list: &[CellState]| {
            let mut order: Vec<usize> = (0..list.len()).collect();
            order.sort_by_key(|&i| (list[i].pos, list[i].shift, list[i].seqs));
            order
        };
        let (order_a, order_b) = (sorted(a), sorted(b));
        if a.len() != b.len() || order_a.iter().zip(&order_b).any(|(&i, &j)| a[i] != b[j]) {
            return None;
        }
        at = vec![0; a.len()];
        order_a.into_iter().zip(order_b).for_each(|(i, j)| at[i] = j);
    }
    Some(move |i: usize| at.get(i).copied().unwrap_or(i))
}

fn mismatch<T>(text: String) -> Result<T, StateError> {
    Err(StateError::Mismatch(text))
}

fn malformed<T>(text: String) -> Result<T, StateError> {
    Err(StateError::Malformed(text))
}
