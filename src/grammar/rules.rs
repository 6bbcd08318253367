//! A grammar as the automaton reads it: all rules in one row of elements.

use super::parse::{Item, Parser};
use super::{Error, recursion};
use crate::util::utf8::Partial;
use crate::vocab::Vocab;

/// A set of characters: ranges in ascending order that do not touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CharSet {
    negated: bool,
    any: bool,
    ranges: Vec<(u32, u32)>,
}

impl CharSet {
    /// The characters of the ranges (both ends included), or all others. A range whose end comes
    /// before its start has none.
    pub(super) fn new(negated: bool, mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Self { negated, any: false, ranges: merged }
    }

    /// Every character.
    pub(super) fn any() -> Self {
        Self { negated: false, any: true, ranges: Vec::new() }
    }

    /// Is there a character between the two, both included, in the ranges?
    fn meets(&self, low: u32, high: u32) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < low);
        self.ranges.get(at).is_some_and(|&(first, _)| first <= high)
    }

    /// Is the character in the set?
    pub(super) fn contains(&self, c: u32) -> bool {
        self.any || self.meets(c, c) != self.negated
    }

    /// Can what is open become a character of the set? As in llama.cpp, one excluded character that
    /// it could become is enough for no.
    pub(super) fn may_contain(&self, open: Partial) -> bool {
        let Some((low, high)) = open.range() else { return false };
        self.any || self.meets(low, high) != self.negated
    }
}

/// An element of a rule, and the end of an alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elem {
    End,
    Rule(u32),
    Chars(u32),
    Token(u32),
    NotToken(u32),
}

/// A compiled grammar. It never changes and is shared by all that match with it.
#[derive(Debug)]
pub struct Grammar {
    /// The first one stands for the end of the text.
    elems: Vec<Elem>,
    /// Where the alternatives of each rule start, and where in that list each rule does.
    alternatives: Vec<u32>,
    rules: Vec<u32>,
    root: u32,
    /// By rule: those that begin with others have greater numbers than these.
    heights: Vec<u32>,
    sets: Vec<CharSet>,
    has_tokens: bool,
    /// Where the ranges of characters begin that no set tells apart.
    kinds: Vec<u32>,
    /// Kinds of the first characters.
    low_kinds: [u32; 128],
}

/// Place of an element.
pub(super) type Pos = u32;

/// The end of the text, as a place.
pub(super) const FINISH: Pos = 0;

impl Grammar {
    /// Reads GBNF, up to its end or a NUL. `vocab` is for tokens that are named by their text.
    ///
    /// # Errors
    /// What is no grammar, uses undefined rules, or begins rules with themselves.
    pub fn parse(text: &[u8], root: &[u8], vocab: Option<&Vocab>) -> Result<Self, Error> {
        Parser::parse(text, root, vocab)
    }

    /// Lays rules out. `None` is a rule that nothing uses.
    pub(super) fn new<'a>(
        rules: impl Iterator<Item = Option<&'a [Item]>>,
        sets: &[CharSet],
        root: u32,
        name: &dyn Fn(usize) -> String,
    ) -> Result<Self, Error> {
        let mut grammar = Self {
            elems: vec![Elem::End],
            alternatives: Vec::new(),
            rules: Vec::new(),
            root,
            heights: Vec::new(),
            sets: sets.to_vec(),
            has_tokens: false,
            kinds: kinds(sets),
            low_kinds: [0; 128],
        };
        for rule in rules {
            grammar.rules.push(grammar.alternatives.len() as u32);
            for alternative in
                rule.iter().flat_map(|items| items.split(|i| *i == Item::Alternative))
            {
                grammar.alternatives.push(grammar.elems.len() as u32);
                grammar.elems.extend(alternative.iter().map(|item| match *item {
                    Item::Rule(rule) => Elem::Rule(rule),
                    Item::Chars(set) => Elem::Chars(set),
                    Item::Token(token) => Elem::Token(token),
                    Item::NotToken(token) => Elem::NotToken(token),
                    Item::Alternative => Elem::End, // split away
                }));
                grammar.elems.push(Elem::End);
            }
        }
        grammar.rules.push(grammar.alternatives.len() as u32);
        let is_token = |elem: &Elem| matches!(elem, Elem::Token(_) | Elem::NotToken(_));
        grammar.has_tokens = grammar.elems.iter().any(is_token);
        for c in 0..128 {
            grammar.low_kinds[c as usize] = grammar.search_kind(c);
        }
        grammar.heights = recursion::heights(&grammar)
            .map_err(|rule| Error::LeftRecursion { name: name(rule as usize) })?;
        Ok(grammar)
    }

    /// Number of rules, with those that groups and repetitions became.
    pub(super) fn n_rules(&self) -> usize {
        self.rules.len() - 1
    }

    /// The rule to start with.
    pub(super) fn root(&self) -> u32 {
        self.root
    }

    /// Where the alternatives of a rule start.
    pub(super) fn alternatives(&self, rule: u32) -> &[Pos] {
        let rule = rule as usize;
        &self.alternatives[self.rules[rule] as usize..self.rules[rule + 1] as usize]
    }

    /// The element at a place.
    pub(super) fn elem(&self, pos: Pos) -> Elem {
        self.elems[pos as usize]
    }

    /// The elements of the alternative that starts at a place.
    pub(super) fn alternative(&self, start: Pos) -> impl Iterator<Item = Elem> {
        self.elems[start as usize..].iter().copied().take_while(|elem| *elem != Elem::End)
    }

    /// A number by which rules can be taken in an order in which what a rule begins with comes
    /// after it: the greatest first.
    pub(super) fn height(&self, rule: u32) -> u32 {
        self.heights[rule as usize]
    }

    /// A set of characters.
    pub(super) fn set(&self, set: u32) -> &CharSet {
        &self.sets[set as usize]
    }

    /// Does it name tokens?
    pub(super) fn has_tokens(&self) -> bool {
        self.has_tokens
    }

    /// Number of kinds of characters.
    pub(super) fn n_kinds(&self) -> usize {
        self.kinds.len()
    }

    /// The kind of a character: all of one kind are in the same sets.
    #[inline]
    pub(super) fn kind(&self, c: u32) -> u32 {
        self.low_kinds.get(c as usize).copied().unwrap_or_else(|| self.search_kind(c))
    }

    fn search_kind(&self, c: u32) -> u32 {
        self.kinds.partition_point(|&start| start <= c) as u32 - 1
    }

    /// A character of a kind.
    pub(super) fn of_kind(&self, kind: u32) -> u32 {
        self.kinds[kind as usize]
    }
}

/// Where kinds of characters begin; the first is 0.
fn kinds(sets: &[CharSet]) -> Vec<u32> {
    let ranges = sets.iter().flat_map(|set| &set.ranges);
    let edges = ranges.flat_map(|&(first, last)| [Some(first), last.checked_add(1)]);
    let mut kinds: Vec<u32> = edges.flatten().chain([0]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
