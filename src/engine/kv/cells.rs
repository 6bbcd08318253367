//! Which token of which sequences each cell of a cache holds.

/// Most sequences of a context (`llama_max_parallel_sequences`).
pub const MAX_SEQS: usize = 256;

/// A set of sequence numbers below [`MAX_SEQS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqSet([u64; MAX_SEQS / 64]);

impl SeqSet {
    /// The set of one sequence.
    pub fn one(seq: usize) -> Self {
        let mut set = Self::default();
        set.insert(seq);
        set
    }

    /// Adds a sequence.
    pub fn insert(&mut self, seq: usize) {
        self.0[seq / 64] |= 1 << (seq % 64);
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, seq: usize) {
        self.0[seq / 64] &= !(1 << (seq % 64));
    }

    /// Whether the sequence is in the set.
    pub fn contains(&self, seq: usize) -> bool {
        self.0[seq / 64] >> (seq % 64) & 1 == 1
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_SEQS / 64]
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The sequences in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(i * 64 + bit)
            })
        })
    }
}

/// A token of a sequence: its position and where its keys and values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Position in the sequence.
    pub pos: i32,
    /// Cell of the cache.
    pub cell: u32,
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellState {
    /// Position.
    pub pos: i32,
    /// Rotation that the keys still lack, in positions: they are rotated as for `pos - shift`.
    pub shift: i32,
    /// Sequences that it belongs to, at least one.
    pub seqs: SeqSet,
}

/// The cells of one stream. A cell without sequences is free.
///
/// The lists are as long as cells were ever used: a context can be made for far more tokens than
/// it will see.
#[derive(Clone, Debug)]
pub struct Cells {
    n_cells: usize,
    pos: Vec<i32>,
    seqs: Vec<SeqSet>,
    /// Rotation that a cell's keys still lack, in positions.
    shift: Vec<i32>,
    has_shift: bool,
    /// Per sequence its tokens in order of position: what attention walks.
    by_seq: Vec<Vec<Entry>>,
    n_used: usize,
    /// Where to look for a free cell first.
    head: usize,
}

impl Cells {
    /// `n_cells` free cells for sequences below `n_seqs`.
    pub fn new(n_cells: usize, n_seqs: usize) -> Self {
        Self {
            n_cells,
            pos: Vec::new(),
            seqs: Vec::new(),
            shift: Vec::new(),
            has_shift: false,
            by_seq: vec![Vec::new(); n_seqs],
            n_used: 0,
            head: 0,
        }
    }

    /// Sequences that cells can belong to.
    pub fn n_seqs(&self) -> usize {
        self.by_seq.len()
    }

    /// Position and sequences of every cell that holds a token.
    pub fn used(&self) -> impl Iterator<Item = (i32, &SeqSet)> {
        let all = self.pos.iter().copied().zip(&self.seqs);
        all.filter(|(_, seqs)| !seqs.is_empty())
    }

    /// The cells that hold a token, with their numbers, in ascending order.
    pub fn states(&self) -> impl Iterator<Item = (u32, CellState)> {
        let all = (0..self.seqs.len() as u32).filter(|&c| !self.seqs[c as usize].is_empty());
        all.map(|cell| (cell, self.state(cell)))
    }

    /// What a cell holds that is not free.
    pub fn state(&self, cell: u32) -> CellState {
        let c = cell as usize;
        CellState { pos: self.pos[c], shift: self.shift[c], seqs: self.seqs[c] }
    }

    /// Cells without a token.
    pub fn n_free(&self) -> usize {
        self.n_cells - self.n_used
    }

    /// The tokens of a sequence in order of position.
    pub fn of(&self, seq: usize) -> &[Entry] {
        &self.by_seq[seq]
    }

    /// Smallest position of a sequence; -1 when it is empty.
    pub fn pos_min(&self, seq: usize) -> i32 {
        self.by_seq[seq].first().map_or(-1, |e| e.pos)
    }

    /// Greatest position of a sequence; -1 when it is empty.
    pub fn pos_max(&self, seq: usize) -> i32 {
        self.by_seq[seq].last().map_or(-1, |e| e.pos)
    }

    /// Gives a token a free cell; `None` when there is none.
    pub fn place(&mut self, pos: i32, seqs: SeqSet) -> Option<u32> {
        let cell = self.take(pos, seqs)?;
        for seq in seqs.iter() {
            insert_sorted(&mut self.by_seq[seq], Entry { pos, cell });
        }
        Some(cell)
    }

    /// Gives tokens in any order of positions free cells, in ascending order; `None`, and some of
    /// them are placed, when there are too few.
    pub fn place_all(&mut self, tokens: &[CellState]) -> Option<Vec<u32>> {
        let mut touched = SeqSet::default();
        let cells: Option<Vec<u32>> = tokens
            .iter()
            .map(|token| {
                let cell = self.take(token.pos, token.seqs)?;
                self.set_pending_shift(cell, token.shift);
                for seq in token.seqs.iter() {
                    self.by_seq[seq].push(Entry { pos: token.pos, cell });
                    touched.insert(seq);
                }
                Some(cell)
            })
            .collect();
        touched.iter().for_each(|seq| self.by_seq[seq].sort_unstable());
        cells
    }

    /// Makes a free cell a token's, but for the lists of the sequences.
    fn take(&mut self, pos: i32, seqs: SeqSet) -> Option<u32> {
        if self.n_free() == 0 {
            return None;
        }
        let n = self.seqs.len();
        let is_free = |c: &usize| self.seqs[*c].is_empty();
        let at = match (self.head..n).find(is_free) {
            Some(at) => at,
            None if n < self.n_cells => {
                self.pos.push(-1);
                self.seqs.push(SeqSet::default());
                self.shift.push(0);
                n
            }
            None => (0..n).find(is_free)?,
        };
        self.head = at + 1;
        self.n_used += 1;
        (self.pos[at], self.seqs[at], self.shift[at]) = (pos, seqs, 0);
        Some(at as u32)
    }

    /// Frees cells, whatever sequences they belong to.
    pub fn free(&mut self, cells: &[u32]) {
        for &cell in cells {
            for seq in self.seqs[cell as usize].iter() {
                self.by_seq[seq].retain(|e| e.cell != cell);
            }
            self.release(cell as usize, SeqSet::default());
        }
    }

    /// Sets a used cell's sequences, and frees the cell when there are none left.
    fn release(&mut self, cell: usize, left: SeqSet) {
        self.seqs[cell] = left;
        if left.is_empty() {
            self.pos[cell] = -1;
            self.n_used -= 1;
            self.head = self.head.min(cell);
        }
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        self.pos.clear();
        self.seqs.clear();
        self.shift.clear();
        self.by_seq.iter_mut().for_each(Vec::clear);
        (self.has_shift, self.n_used, self.head) = (false, 0, 0);
    }

    /// Takes the positions `p0..p1` out of a sequence.
    pub fn seq_rm(&mut self, seq: usize, p0: i32, p1: i32) {
        let mut list = std::mem::take(&mut self.by_seq[seq]);
        let start = list.partition_point(|e| e.pos < p0);
        let end = list.partition_point(|e| e.pos < p1).max(start);
        for entry in list.drain(start..end) {
            let mut left = self.seqs[entry.cell as usize];
            left.remove(seq);
            self.release(entry.cell as usize, left);
        }
        self.by_seq[seq] = list;
    }

    /// Frees cells until there are `n` free ones: takes tokens before the position `first` of
    /// their sequence out of it, those that are the farthest before it first.
    pub fn make_room(&mut self, n: usize, first: &[i32]) {
        while self.n_free() < n {
            let gone =
                self.by_seq.iter().zip(first).enumerate().filter_map(|(seq, (list, first))| {
                    let pos = list.first()?.pos;
                    (pos < *first).then(|| (first - pos, seq, pos))
                });
            let Some((_, seq, pos)) = gone.max() else { return };
            self.seq_rm(seq, 0, pos + 1);
        }
    }

    /// Lets the positions `p0..p1` of a sequence belong to another one too.
    pub fn seq_cp(&mut self, src: usize, dst: usize, p0: i32, p1: i32) {
        let chosen = self.by_seq[src].iter().copied().filter(|e| (p0..p1).contains(&e.pos));
        for entry in chosen.collect::<Vec<_>>() {
            let seqs = &mut self.seqs[entry.cell as usize];
            if !seqs.contains(dst) {
                seqs.insert(dst);
                insert_sorted(&mut self.by_seq[dst], entry);
            }
        }
    }

    /// Takes out every other sequence.
    pub fn seq_keep(&mut self, seq: usize) {
        for other in 0..self.by_seq.len() {
            if other != seq {
                self.seq_rm(other, 0, i32::MAX);
            }
        }
    }

    /// Moves the positions `p0..p1` of a sequence by `delta`; what falls below zero is freed.
    /// The keys are rotated later, see [`Self::take_shifts`].
    pub fn seq_add(&mut self, seq: usize, p0: i32, p1: i32, delta: i32) {
        // The last position must have a next one.
        self.seq_move(seq, p0, p1, |pos| pos.saturating_add(delta).min(i32::MAX - 1));
    }

    /// Divides the positions `p0..p1` of a sequence by `d`.
    pub fn seq_div(&mut self, seq: usize, p0: i32, p1: i32, d: i32) {
        self.seq_move(seq, p0, p1, |pos| pos / d);
    }

    fn seq_move(&mut self, seq: usize, p0: i32, p1: i32, to: impl Fn(i32) -> i32) {
        let moved = self.by_seq[seq].iter().copied().filter(|e| (p0..p1).contains(&e.pos));
        let mut gone = Vec::new();
        for entry in moved.collect::<Vec<_>>() {
            let cell = entry.cell as usize;
            let pos = to(entry.pos);
            if pos < 0 {
                gone.push(entry.cell);
                continue;
            }
            self.shift[cell] += pos - entry.pos;
            self.pos[cell] = pos;
            self.has_shift = true;
        }
        self.free(&gone);
        // A moved cell may belong to other sequences too: put every list in order again.
        for list in &mut self.by_seq {
            for entry in list.iter_mut() {
                entry.pos = self.pos[entry.cell as usize];
            }
            list.sort_unstable();
        }
    }

    /// Whether keys have to be rotated.
    pub fn has_shifts(&self) -> bool {
        self.has_shift
    }

    /// The cells whose keys have to be rotated, with the positions to rotate by; forgets them.
    pub fn take_shifts(&mut self) -> Vec<(u32, i32)> {
        if !std::mem::take(&mut self.has_shift) {
            return Vec::new();
        }
        let all = self.shift.iter_mut().enumerate().filter(|(_, d)| **d != 0);
        all.map(|(cell, d)| (cell as u32, std::mem::take(d))).collect()
    }

    /// The rotation that a cell's keys still lack.
    pub fn pending_shift(&self, cell: u32) -> i32 {
        self.shift[cell as usize]
    }

    /// Notes a rotation that a copied cell's keys still lack.
    pub fn set_pending_shift(&mut self, cell: u32, delta: i32) {
        self.shift[cell as usize] = delta;
        self.has_shift |= delta != 0;
    }
}

fn insert_sorted(list: &mut Vec<Entry>, entry: Entry) {
    let at = match list.last() {
        Some(last) if *last > entry => list.partition_point(|e| *e < entry),
        _ => list.len(),
    };
    list.insert(at, entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(c: &Cells, seq: usize) -> Vec<i32> {
        c.of(seq).iter().map(|e| e.pos).collect()
    }

    fn filled(n: i32) -> Cells {
        let mut c = Cells::new(8, 4);
        for pos in 0..n {
            c.place(pos, SeqSet::one(0)).unwrap();
        }
        c
    }

    #[test]
    fn removing_frees_cells_and_they_are_found_again() {
        let mut c = filled(8);
        assert_eq!(c.place(8, SeqSet::one(0)), None);
        c.seq_rm(0, 2, 4);
        assert_eq!((positions(&c, 0), c.n_free()), (vec![0, 1, 4, 5, 6, 7], 2));
        assert_eq!(c.place(8, SeqSet::one(1)), Some(2));
        assert_eq!((c.pos_min(1), c.pos_max(1), c.pos_max(0), c.pos_min(3)), (8, 8, 7, -1));
    }

    #[test]
    fn a_shared_cell_lives_until_its_last_sequence_goes() {
        let mut c = filled(4);
        c.seq_cp(0, 2, 1, 3);
        assert_eq!(positions(&c, 2), [1, 2]);
        c.seq_rm(0, 0, i32::MAX);
        assert_eq!((c.n_free(), positions(&c, 2)), (6, vec![1, 2]));
        c.seq_keep(1);
        assert_eq!(c.n_free(), 8);
    }

    #[test]
    fn shifts_add_up_and_reach_every_sequence_of_a_cell() {
        let mut c = filled(4);
        c.seq_cp(0, 1, 0, 4);
        c.seq_rm(0, 0, 2);
        c.seq_add(0, 2, 4, -1);
        c.seq_add(0, 0, 2, -1);
        assert_eq!((positions(&c, 0), positions(&c, 1)), (vec![0, 2], vec![0, 0, 1, 2]));
        assert_eq!(c.take_shifts(), [(2, -2), (3, -1)]);
        assert_eq!(c.take_shifts(), []);
        c.seq_add(0, 0, 10, -1);
        assert_eq!(positions(&c, 0), [1]);
        c.seq_div(1, 0, 10, 2);
        assert_eq!(positions(&c, 1), [0, 0, 0]);
    }

    #[test]
    fn tokens_placed_together_are_as_if_placed_one_by_one() {
        let mut one = filled(6);
        one.seq_rm(0, 1, 3);
        let mut all = one.clone();
        let both = {
            let mut both = SeqSet::one(1);
            both.insert(0);
            both
        };
        let token = |pos, shift, seqs| CellState { pos, shift, seqs };
        let tokens = [token(9, 2, both), token(7, 0, SeqSet::one(1)), token(8, -3, SeqSet::one(1))];
        let cells: Vec<u32> = tokens.iter().map(|t| one.place(t.pos, t.seqs).unwrap()).collect();
        cells.iter().zip(&tokens).for_each(|(&c, t)| one.set_pending_shift(c, t.shift));
        assert_eq!(all.place_all(&tokens), Some(cells));
        assert_eq!((all.of(0), all.of(1)), (one.of(0), one.of(1)));
        assert_eq!(positions(&all, 1), [7, 8, 9]);
        assert!(all.states().eq(one.states()) && all.states().count() == 7);
        assert_eq!(all.take_shifts(), one.take_shifts());
        assert_eq!(all.place_all(&tokens), None, "one cell is free");
    }

    #[test]
    fn sets_of_sequences() {
        let mut s = SeqSet::one(255);
        s.insert(3);
        assert_eq!((s.iter().collect::<Vec<_>>(), s.len()), (vec![3, 255], 2));
        s.remove(255);
        assert!(!s.contains(255) && !s.is_empty());
    }
}
