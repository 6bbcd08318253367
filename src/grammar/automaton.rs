//! A grammar as a finite automaton that is made as far as it is used.
//!
//! A state is a set of stacks whose tops match characters or tokens, or that are empty. A step
//! replaces the tops that match the character by what follows them, then rules by their
//! alternatives and ends by what lies below, until tops match characters again. The result is kept
//! by state and kind of character.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::rules::{Elem, FINISH, Grammar, Pos};
use super::stacks::{EMPTY_STACK, Entry, NONE, Set, Stacks};
use crate::util::utf8::Partial;

/// A state; [`DEAD`] has no way on.
pub(super) type State = u32;

/// No text goes on from here.
pub(super) const DEAD: State = 0;

/// Steps that are kept in a table of states by kinds of characters; others are kept one by one.
const TABLE_CELLS: usize = 1 << 18;
/// When there are more states, or more entries of sets, those that are not in use are forgotten.
const MANY_STATES: usize = 1 << 16;
const MANY_ENTRIES: usize = 1 << 19;

const UNKNOWN: State = State::MAX;

/// The states that were reached so far.
#[derive(Clone)]
pub(super) struct Automaton {
    grammar: Arc<Grammar>,
    stacks: Stacks,
    sets: Vec<Set>,
    states: FxHashMap<Set, State>,
    table: Vec<State>,
    steps: FxHashMap<(State, u32), State>,
    /// Entries right after things were forgotten.
    n_kept: usize,
}

impl Automaton {
    /// The automaton and its first state.
    pub(super) fn new(grammar: Arc<Grammar>) -> (Self, State) {
        let mut automaton = Self::with(grammar, Stacks::new());
        let root = automaton.grammar.root();
        let set = automaton.expand_rule(root);
        let start = if automaton.is_full() { DEAD } else { automaton.state(set) };
        (automaton, start)
    }

    fn with(grammar: Arc<Grammar>, stacks: Stacks) -> Self {
        let mut automaton = Self {
            grammar,
            n_kept: stacks.len(),
            stacks,
            sets: Vec::new(),
            states: FxHashMap::default(),
            table: Vec::new(),
            steps: FxHashMap::default(),
        };
        automaton.state(NONE);
        automaton
    }

    pub(super) fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Was the grammar too ambiguous? Then all further states are [`DEAD`].
    pub(super) fn is_full(&self) -> bool {
        self.stacks.is_full()
    }

    /// Can the text end here?
    pub(super) fn is_end(&self, state: State) -> bool {
        self.stacks.has_empty(self.sets[state as usize])
    }

    /// Are there so many states that it is time to forget those that are not in use?
    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        let many_entries = MANY_ENTRIES.max(2 * self.n_kept);
        self.sets.len() >= MANY_STATES || self.stacks.len() >= many_entries
    }

    /// Forgets all other states. These get new numbers.
    pub(super) fn forget_others(&mut self, states: &mut [State]) {
        let mut sets: Vec<Set> = states.iter().map(|&state| self.sets[state as usize]).collect();
        let stacks = self.stacks.only(&mut sets);
        *self = Self::with(Arc::clone(&self.grammar), stacks);
        for (state, set) in states.iter_mut().zip(sets) {
            *state = self.state(set);
        }
    }

    fn state(&mut self, set: Set) -> State {
        if let Some(&state) = self.states.get(&set) {
            return state;
        }
        let state = self.sets.len() as State;
        self.sets.push(set);
        self.states.insert(set, state);
        let n_cells = self.table.len() + self.grammar.n_kinds();
        if n_cells <= TABLE_CELLS && self.table.len() == state as usize * self.grammar.n_kinds() {
            self.table.resize(n_cells, UNKNOWN);
        }
        state
    }

    /// The state after a character. Tops that match tokens do not go on.
    #[inline]
    pub(super) fn step(&mut self, state: State, c: u32) -> State {
        let kind = self.grammar.kind(c);
        let cell = state as usize * self.grammar.n_kinds() + kind as usize;
        match self.table.get(cell) {
            Some(&next) if next != UNKNOWN => next,
            _ => self.find_step(state, kind, cell),
        }
    }

    #[cold]
    fn find_step(&mut self, state: State, kind: u32, cell: usize) -> State {
        let in_table = cell < self.table.len();
        if !in_table && let Some(&next) = self.steps.get(&(state, kind)) {
            return next;
        }
        let c = self.grammar.of_kind(kind);
        let tops = self.stacks.entries(self.sets[state as usize]);
        let grammar = &self.grammar;
        let matching = tops.iter().filter(|&&(pos, _)| match grammar.elem(pos) {
            Elem::Chars(set) => grammar.set(set).contains(c),
            _ => false,
        });
        let after: Vec<Entry> = matching.map(|&(pos, rest)| (pos + 1, rest)).collect();
        let next = self.close(after);
        if in_table {
            self.table[cell] = next;
        } else {
            self.steps.insert((state, kind), next);
        }
        next
    }

    /// Can a character of which this is the beginning come next?
    pub(super) fn may_step(&self, state: State, open: Partial) -> bool {
        let tops = self.stacks.entries(self.sets[state as usize]).iter();
        tops.into_iter().any(|&(pos, _)| match self.grammar.elem(pos) {
            Elem::Chars(set) => self.grammar.set(set).may_contain(open),
            _ => false,
        })
    }

    /// The state after a token that is matched as such.
    pub(super) fn step_token(&mut self, state: State, token: u32) -> State {
        let tops = self.stacks.entries(self.sets[state as usize]).iter();
        let matching = tops.filter(|&&(pos, _)| match self.grammar.elem(pos) {
            Elem::Token(wanted) => wanted == token,
            Elem::NotToken(unwanted) => unwanted != token,
            _ => false,
        });
        let after: Vec<Entry> = matching.map(|&(pos, rest)| (pos + 1, rest)).collect();
        self.close(after)
    }

    /// The stacks that wait for a character.
    pub(super) fn waiting(&mut self, state: State) -> State {
        let tops = self.stacks.entries(self.sets[state as usize]).iter().copied();
        let waits = |&(pos, _): &Entry| matches!(self.grammar.elem(pos), Elem::Chars(_));
        let waiting: Vec<Entry> = tops.filter(waits).collect();
        let set = self.stacks.intern(&waiting);
        self.state(set)
    }

    /// All stacks of both states.
    pub(super) fn either(&mut self, a: State, b: State) -> State {
        let set = self.stacks.union(self.sets[a as usize], self.sets[b as usize]);
        self.state(set)
    }

    /// The tokens that the state matches as such: `Ok` one, `Err` all but one.
    pub(super) fn tokens(&self, state: State) -> impl Iterator<Item = Result<u32, u32>> {
        let tops = self.stacks.entries(self.sets[state as usize]).iter();
        tops.filter_map(|&(pos, _)| match self.grammar.elem(pos) {
            Elem::Token(token) => Some(Ok(token)),
            Elem::NotToken(token) => Some(Err(token)),
            _ => None,
        })
    }

    fn expand_rule(&mut self, rule: u32) -> Set {
        let mut closure = Closure::default();
        closure.rules.insert(self.grammar.height(rule), (rule, vec![EMPTY_STACK]));
        closure.run(&self.grammar, &mut self.stacks)
    }

    fn close(&mut self, after: Vec<Entry>) -> State {
        if after.is_empty() {
            return DEAD;
        }
        let mut closure = Closure { todo: after, ..Closure::default() };
        let set = closure.run(&self.grammar, &mut self.stacks);
        let set = if self.stacks.is_full() { NONE } else { set };
        self.state(set)
    }
}

/// Takes stacks to those with characters, tokens or nothing on top.
#[derive(Default)]
struct Closure {
    /// Stacks to go on with; their tops may be anything.
    todo: Vec<Entry>,
    /// Rules on top, with what lies below in all their stacks, by height. A rule is taken
    /// when all those that can begin with it are done, so that it is gone through once for all
    /// (and again, if it comes to the top once more because what follows it was empty).
    rules: BTreeMap<u32, (u32, Vec<Set>)>,
    /// Rules that were gone through, each with what was below.
    expanded: FxHashSet<(u32, Set)>,
    /// Sets whose stacks came to the top, and the entries of all of them: what can be empty a
    /// thousand times uncovers the same entries in a thousand sets.
    uncovered: (FxHashSet<Set>, FxHashSet<Entry>),
    /// The result.
    found: Vec<Entry>,
}

impl Closure {
    fn run(&mut self, grammar: &Grammar, stacks: &mut Stacks) -> Set {
        loop {
            while let Some((pos, rest)) = self.todo.pop() {
                self.sort_out(pos, rest, grammar, stacks);
            }
            let Some((_, (rule, mut rests))) = self.rules.pop_last() else { break };
            let rest = stacks.union_all(&mut rests);
            if stacks.is_full() {
                return NONE;
            }
            if !self.expanded.insert((rule, rest)) {
                continue; // rules that end with each other and can be empty
            }
            self.todo.extend(grammar.alternatives(rule).iter().map(|&start| (start, rest)));
        }
        stacks.collect(&mut self.found)
    }

    fn sort_out(&mut self, pos: Pos, rest: Set, grammar: &Grammar, stacks: &mut Stacks) {
        match grammar.elem(pos) {
            Elem::Chars(_) | Elem::Token(_) | Elem::NotToken(_) => self.found.push((pos, rest)),
            Elem::End if pos == FINISH => self.found.push((pos, rest)),
            Elem::End => {
                let (sets, entries) = &mut self.uncovered;
                if sets.insert(rest) {
                    let new = stacks.entries(rest).iter().filter(|&&entry| entries.insert(entry));
                    self.todo.extend(new);
                }
            }
            Elem::Rule(rule) => {
                // A rule at the end of an alternative leaves nothing behind: tails do not grow.
                let below = match grammar.elem(pos + 1) {
                    Elem::End => rest,
                    _ => stacks.intern(&[(pos + 1, rest)]),
                };
                let waiting = self.rules.entry(grammar.height(rule));
                waiting.or_insert_with(|| (rule, Vec::new())).1.push(below);
            }
        }
    }
}
