//! Sets of stacks of places in a grammar, as graphs.
//!
//! A set is a list of entries, ascending and each place once: the place on top of some stacks, and
//! the set of what lies below it in those stacks. Equal lists get one number, so equal sets are
//! equal numbers and common parts exist once: a set is the smallest automaton that reads its
//! stacks from the top. An ambiguous text, with a number of stacks that doubles at every
//! character, makes a set that grows by a few entries.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use super::rules::{FINISH, Pos};

/// Number of a set.
pub(super) type Set = u32;

/// The set without stacks.
pub(super) const NONE: Set = 0;
/// The set of the empty stack.
pub(super) const EMPTY_STACK: Set = 1;

/// A place on top and what lies below.
pub(super) type Entry = (Pos, Set);

/// Entries at which sets are no longer made: 16 MB. A grammar whose ambiguity needs more in one
/// step is given up.
const MOST_ENTRIES: usize = 1 << 21;

/// All sets that were made. A set has a greater number than those in it.
#[derive(Clone)]
pub(super) struct Stacks {
    entries: Vec<Entry>,
    /// Where each set's entries end.
    ends: Vec<u32>,
    /// The last set by hash of its entries, and by set the one before with the same hash.
    last: FxHashMap<u64, Set>,
    before: Vec<Set>,
    unions: FxHashMap<(Set, Set), Set>,
    is_full: bool,
}

impl Stacks {
    pub(super) fn new() -> Self {
        let mut stacks = Self {
            entries: Vec::new(),
            ends: vec![0],
            last: FxHashMap::default(),
            before: vec![NONE],
            unions: FxHashMap::default(),
            is_full: false,
        };
        let empty_stack = stacks.intern(&[(FINISH, NONE)]);
        debug_assert_eq!(empty_stack, EMPTY_STACK);
        stacks
    }

    /// The entries of a set.
    pub(super) fn entries(&self, set: Set) -> &[Entry] {
        let start = (set as usize).checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.entries[start..self.ends[set as usize] as usize]
    }

    /// Does the set contain the empty stack?
    pub(super) fn has_empty(&self, set: Set) -> bool {
        // The place that stands for it is the least.
        self.entries(set).first().is_some_and(|&(pos, _)| pos == FINISH)
    }

    /// Number of entries of all sets.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Was there a set too many? Results after that are wrong.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The set with these entries, which are ascending and each place once.
    pub(super) fn intern(&mut self, entries: &[Entry]) -> Set {
        if entries.is_empty() {
            return NONE;
        }
        let mut hasher = FxHasher::default();
        entries.hash(&mut hasher);
        let hash = hasher.finish();
        let last = self.last.get(&hash).copied().unwrap_or(NONE);
        let mut found = last;
        while found != NONE {
            if self.entries(found) == entries {
                return found;
            }
            found = self.before[found as usize];
        }
        if self.entries.len() + entries.len() > MOST_ENTRIES {
            self.is_full = true;
            return NONE;
        }
        let set = self.ends.len() as Set;
        self.entries.extend_from_slice(entries);
        self.ends.push(self.entries.len() as u32);
        self.before.push(last);
        self.last.insert(hash, set);
        set
    }

    /// The set of the stacks of a list of entries in any order.
    pub(super) fn collect(&mut self, entries: &mut [Entry]) -> Set {
        entries.sort_unstable();
        let same_place = |a: &Entry, b: &Entry| a.0 == b.0;
        let mut merged = Vec::with_capacity(entries.len());
        for same in entries.chunk_by(same_place) {
            let mut rests: Vec<Set> = same.iter().map(|&(_, rest)| rest).collect();
            merged.push((same[0].0, self.union_all(&mut rests)));
        }
        self.intern(&merged)
    }

    /// All stacks of many sets, which are used up. In pairs, so that a thousand sets of one stack
    /// make ten times a thousand entries and not half a million.
    pub(super) fn union_all(&mut self, sets: &mut Vec<Set>) -> Set {
        sets.sort_unstable();
        sets.dedup();
        while sets.len() > 1 {
            let n_pairs = sets.len() / 2;
            for i in 0..n_pairs {
                sets[i] = self.union(sets[2 * i], sets[2 * i + 1]);
            }
            if sets.len() % 2 == 1 {
                sets[n_pairs] = sets[2 * n_pairs];
            }
            sets.truncate(sets.len().div_ceil(2));
        }
        sets.first().copied().unwrap_or(NONE)
    }

    /// All stacks of both sets.
    pub(super) fn union(&mut self, a: Set, b: Set) -> Set {
        if let Some(known) = self.known_union(a, b) {
            return known;
        }
        // Sets as deep as the text: no recursion.
        let mut open = vec![Merge::new(a, b)];
        let mut done: Option<Set> = None;
        while let Some(merge) = open.last_mut() {
            if let (Some(rest), Some(top)) = (done.take(), merge.entries.last_mut()) {
                top.1 = rest;
            }
            match merge.advance(self) {
                Some((a, b)) => open.push(Merge::new(a, b)),
                None => {
                    let set = self.intern(&merge.entries);
                    self.unions.insert((merge.a, merge.b), set);
                    open.pop();
                    done = Some(set);
                }
            }
            if self.is_full {
                return NONE;
            }
        }
        done.unwrap_or(NONE)
    }

    fn known_union(&self, a: Set, b: Set) -> Option<Set> {
        match (a.min(b), a.max(b)) {
            (NONE, set) => Some(set),
            (a, b) if a == b => Some(a),
            pair => self.unions.get(&pair).copied(),
        }
    }

    /// Copies of the given sets and what is in them; `sets` gets their new numbers.
    pub(super) fn only(&self, sets: &mut [Set]) -> Self {
        let mut wanted = vec![false; self.ends.len()];
        sets.iter().for_each(|&set| wanted[set as usize] = true);
        // What is in a set has a smaller number.
        for set in (0..self.ends.len()).rev().filter(|&set| set > 0) {
            if wanted[set] {
                self.entries(set as Set).iter().for_each(|&(_, rest)| wanted[rest as usize] = true);
            }
        }
        let mut copy = Self::new();
        let mut numbers = vec![NONE; self.ends.len()];
        let mut entries = Vec::new();
        for set in (1..self.ends.len()).filter(|&set| wanted[set]) {
            entries.clear();
            let old = self.entries(set as Set).iter();
            entries.extend(old.map(|&(pos, rest)| (pos, numbers[rest as usize])));
            numbers[set] = copy.intern(&entries);
        }
        sets.iter_mut().for_each(|set| *set = numbers[*set as usize]);
        copy
    }
}

/// A union that is being made.
struct Merge {
    a: Set,
    b: Set,
    /// Entries of either set that are done.
    at: (usize, usize),
    entries: Vec<Entry>,
}

impl Merge {
    fn new(a: Set, b: Set) -> Self {
        Self { a: a.min(b), b: a.max(b), at: (0, 0), entries: Vec::new() }
    }

    /// Goes on to the end, or to a pair of sets whose union is the rest of the last entry.
    fn advance(&mut self, stacks: &Stacks) -> Option<(Set, Set)> {
        let (a, b) = (stacks.entries(self.a), stacks.entries(self.b));
        loop {
            let next = (a.get(self.at.0).copied(), b.get(self.at.1).copied());
            let (entry, unknown) = match next {
                (None, None) => return None,
                (Some(x), Some(y)) if x.0 == y.0 => {
                    let known = stacks.known_union(x.1, y.1);
                    ((x.0, known.unwrap_or(NONE)), known.is_none().then_some((x.1, y.1)))
                }
                (Some(x), Some(y)) => (x.min(y), None),
                (Some(x), None) | (None, Some(x)) => (x, None),
            };
            let takes = |side: Option<Entry>| usize::from(side.is_some_and(|e| e.0 == entry.0));
            self.at = (self.at.0 + takes(next.0), self.at.1 + takes(next.1));
            self.entries.push(entry);
            if unknown.is_some() {
                return unknown;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The set of these stacks, tops first.
    fn set(stacks: &mut Stacks, all: &[&[Pos]]) -> Set {
        let mut whole = NONE;
        for stack in all {
            let one =
                stack.iter().rev().fold(EMPTY_STACK, |rest, &pos| stacks.intern(&[(pos, rest)]));
            whole = stacks.union(whole, one);
        }
        whole
    }

    /// All stacks of a set, tops first, sorted.
    fn stacks_of(stacks: &Stacks, set: Set) -> Vec<Vec<Pos>> {
        let mut found = Vec::new();
        for &(pos, rest) in stacks.entries(set) {
            if pos == FINISH {
                found.push(Vec::new());
            }
            found.extend(
                stacks_of(stacks, rest).into_iter().map(|below| [vec![pos], below].concat()),
            );
        }
        found.sort();
        found
    }

    #[test]
    fn equal_sets_have_equal_numbers_whatever_their_making() {
        let stacks = &mut Stacks::new();
        let all: [&[Pos]; 5] = [&[1, 2, 3], &[1, 2], &[4, 2, 3], &[1, 5, 3], &[]];
        let a = set(stacks, &all);
        let b = set(stacks, &[all[4], all[2], all[0], all[3], all[1]]);
        assert_eq!(a, b);
        let mut sorted: Vec<Vec<Pos>> = all.iter().map(|s| s.to_vec()).collect();
        sorted.sort();
        assert_eq!(stacks_of(stacks, a), sorted);
        assert!(stacks.has_empty(a));
        let without = set(stacks, &all[..4]);
        assert!(!stacks.has_empty(without));
        assert_eq!(stacks.union(without, EMPTY_STACK), a);
        let mut entries = [(4, NONE), (1, EMPTY_STACK), (4, EMPTY_STACK), (1, EMPTY_STACK)];
        let collected = stacks.collect(&mut entries);
        assert_eq!(stacks_of(stacks, collected), [[1], [4]]);
    }

    #[test]
    fn stacks_that_double_at_every_step_take_little_room() {
        let stacks = &mut Stacks::new();
        let mut below = EMPTY_STACK;
        for _ in 0..10_000 {
            let (a, b) = (stacks.intern(&[(1, below)]), stacks.intern(&[(2, below)]));
            below = stacks.union(a, b);
        }
        // 10,000 choices of two: a union that must go all the way down.
        let other = set(stacks, &[&[1; 9_999]]);
        assert_ne!(stacks.union(below, other), below);
        assert!(stacks.len() < 100_000, "{}", stacks.len());
    }

    #[test]
    fn a_copy_of_some_sets_has_no_others() {
        let stacks = &mut Stacks::new();
        let a = set(stacks, &[&[1, 2, 3], &[4, 3]]);
        set(stacks, &[&[7, 8, 9]]);
        let mut sets = [NONE, a];
        let copy = stacks.only(&mut sets);
        assert_eq!(stacks_of(&copy, sets[1]), stacks_of(stacks, a));
        assert_eq!(sets[0], NONE);
        assert!(copy.len() < stacks.len());
    }
}
