//! JSON Schema to GBNF: the grammar of the JSON texts that a schema accepts.
//!
//! 1. `convert.rs` walks the schema from its root, a queue of places, each of which becomes one
//!    rule. What applies to one value (`$ref`, `allOf`, the chosen branch of `anyOf` and `oneOf`)
//!    is put together first, `keywords.rs` reads it, and a file for each type makes an expression
//!    of it: `object.rs`, `array.rs`, `string.rs` (with `pattern.rs` for regular expressions),
//!    `number.rs` and `literal.rs` for `enum` and `const`. `choices.rs` looks whether the branches of
//!    `oneOf` exclude each other.
//! 2. `expr.rs` holds the rules, drops what nothing can match, and writes them as text.
//! 3. The text is read by our own parser before it is given away.
//!
//! A schema comes from anywhere, so it may be hostile: nothing recurses deeper than a constant,
//! the work and the text are bounded.
//!
//! What a schema leaves open is settled as llama.cpp does, for a model writes better JSON when it
//! cannot wander off: an object with `properties` has no others unless `additionalProperties` says
//! so, `prefixItems` are all there unless `minItems` says otherwise, a schema without `type` is of
//! the type that its keywords are about. Numbers have at most 16 digits before and after the point,
//! white space is a space or up to two line ends and 20 spaces or tabs. Properties come in the
//! order in which the schema has them.
//!
//! # Adding a keyword
//!
//! Take it off the list `NOT_ENFORCED` in `keywords.rs`, put it on the one of its type, and read it
//! in that type's file. The cases in `tests/tools/schema_goldens.py` get texts that
//! it accepts and refuses; that program asks an independent validator and llama.cpp about them.

mod array;
mod choices;
mod convert;
mod expr;
mod keywords;
mod literal;
mod number;
mod object;
mod pattern;
mod string;

use super::Grammar;

/// Most bytes of a grammar: the parser's own limit of elements, as text.
const MAX_TEXT: usize = 4 << 20;

/// Why there is no grammar of a schema. A place is a JSON pointer with `#` before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON, or nests more than 127 levels.
    #[error("the schema is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A keyword has a value that it cannot have.
    #[error("{place}: expected {expected}, found {found}")]
    Value {
        /// Where.
        place: String,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A `$ref` that leads nowhere or out of the schema.
    #[error("{place}: cannot follow '{reference}': {reason}")]
    Reference {
        /// Where it stands.
        place: String,
        /// What it says.
        reference: String,
        /// Why not.
        reason: &'static str,
    },
    /// A schema that refers to itself for the same value.
    #[error("{place} refers to itself without a step into the value")]
    Circular {
        /// Where the circle was seen.
        place: String,
    },
    /// A `pattern` is no regular expression.
    #[error("{place}: '{pattern}' is no regular expression: {reason}")]
    Pattern {
        /// Where it stands.
        place: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No JSON text satisfies the schema.
    #[error("{place}: no value satisfies the schema")]
    Impossible {
        /// Where the contradiction is.
        place: String,
    },
    /// References or choices go too deep.
    #[error("{place}: references and choices nest more than {} levels", convert::MAX_DEPTH)]
    TooDeep {
        /// Where the limit was reached.
        place: String,
    },
    /// The grammar would be too large.
    #[error("{place}: the schema makes too large a grammar")]
    TooLarge {
        /// Where the limit was reached.
        place: String,
    },
    /// The grammar is refused by our own parser.
    #[error("the grammar of the schema: {0}")]
    Grammar(#[from] super::Error),
}

/// A grammar of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// GBNF; its first rule is `root`.
    pub grammar: String,
    /// Places of keywords that the grammar does not enforce: it accepts more than the schema.
    pub not_enforced: Vec<String>,
}

/// The grammar of the JSON texts that a schema accepts.
///
/// # Errors
/// What is no schema, refers to what is not in it, accepts nothing, or makes too large a grammar.
pub fn to_grammar(schema: &str) -> Result<Converted, Error> {
    let schema: serde_json::Value = serde_json::from_str(schema)?;
    let converted = convert::convert(&schema)?;
    Grammar::parse(converted.grammar.as_bytes(), b"root", None)?;
    Ok(converted)
}
