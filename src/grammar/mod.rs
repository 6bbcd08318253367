//! GBNF grammars: which tokens can go on with a text that must belong to a language.
//!
//! The notation and its meaning are those of llama.cpp, to the last allowed token; golden files
//! made by that library hold it (`tests/grammar_golden.rs`). The way there is another:
//!
//! 1. `parse.rs` reads the notation, `rules.rs` lays the rules out flat and numbers the characters
//!    by the ranges that the grammar tells apart, `recursion.rs` refuses left recursion.
//! 2. What can follow a text is a set of stacks of places in the rules. Ambiguity makes many
//!    stacks, so `stacks.rs` keeps a set as a graph in which equal parts are one and equal sets
//!    have equal numbers.
//! 3. `automaton.rs` makes of it a finite automaton that grows as it is used: a state is a set of
//!    stacks, a step reads a character.
//! 4. `matcher.rs` takes the automaton over the tree of all tokens' texts
//!    ([`crate::vocab::PieceTrie`]) and keeps the tokens allowed in each state.
//! 5. `trigger.rs` finds in the text where a lazy grammar begins, with the regular expressions of
//!    `regex.rs`.
//!
//! # Adding a construct to the notation
//!
//! Read it in `parse.rs`. If it can be said with what is there, that is all, as for repetitions.
//! If it matches something new, give it an `Elem` in `rules.rs` and say in `automaton.rs` how it
//! reads a character and in `matcher.rs` which tokens it takes. A line in
//! `tests/tools/grammar_goldens.py` records what llama.cpp makes of it.

mod automaton;
mod matcher;
mod parse;
mod recursion;
mod regex;
mod rules;
mod stacks;
mod trigger;

pub mod schema;

pub use matcher::{Mask, Matcher};
pub use rules::Grammar;
pub use trigger::{Trigger, Triggers};

/// Why a grammar is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a grammar.
    #[error("line {line}, column {column}: expected {expected}, found {found}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What could stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Nothing but spaces and comments.
    #[error("the grammar has no rules")]
    Empty,
    /// A rule is used and nowhere defined.
    #[error("rule '{name}' is not defined")]
    Undefined {
        /// Its name.
        name: String,
    },
    /// The rule to start with does not exist.
    #[error("the grammar has no rule '{name}' to start with")]
    NoRoot {
        /// Its name.
        name: String,
    },
    /// A rule can begin with itself, so there is no end to what it begins with.
    #[error("rule '{name}' begins with itself (left recursion)")]
    LeftRecursion {
        /// Its name.
        name: String,
    },
    /// Repetitions make too much of a small text.
    #[error(
        "the grammar needs more than {} elements when its repetitions are written out",
        parse::MAX_ELEMENTS
    )]
    TooLarge,
    /// A trigger of a lazy grammar is not a regular expression.
    #[error("trigger pattern '{pattern}': {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}
