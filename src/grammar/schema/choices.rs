//! `oneOf`: whether its branches exclude each other, so that taking any of them is taking one.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::Error;
use super::convert::Converter;
use super::keywords::{self, Node, Part, Types};
use super::literal::canonical;

/// Most branches that are compared with each other.
const MOST_BRANCHES: usize = 100;

/// What tells a branch from others.
struct Branch<'a> {
    types: Types,
    /// The values that it has, if they are given.
    values: Option<FxHashSet<String>>,
    /// Of objects: properties that are there, those that may be, and the values of some.
    required: FxHashSet<&'a str>,
    named: FxHashSet<&'a str>,
    is_closed: bool,
    given: FxHashMap<&'a str, FxHashSet<String>>,
}

/// The values of `const` or `enum`.
fn given(map: &Map<String, Value>) -> Option<FxHashSet<String>> {
    if let Some(value) = map.get("const") {
        return Some(FxHashSet::from_iter([canonical(value)]));
    }
    Some(map.get("enum")?.as_array()?.iter().map(canonical).collect())
}

impl<'a> Branch<'a> {
    fn new(part: &Part<'a>) -> Result<Self, Error> {
        let properties = part.object("properties")?;
        let required = part.get("required").and_then(Value::as_array).map(Vec::as_slice);
        let required: FxHashSet<&str> =
            required.unwrap_or_default().iter().filter_map(Value::as_str).collect();
        let is_closed = match part.get("additionalProperties") {
            None => properties.is_some(),
            Some(schema) => *schema == Value::Bool(false),
        };
        let of_property = |(name, schema): (&'a String, &'a Value)| {
            Some((name.as_str(), given(schema.as_object()?)?))
                .filter(|(name, _)| required.contains(name))
        };
        Ok(Self {
            types: keywords::types(std::slice::from_ref(part))?,
            values: given(part.map),
            named: properties.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect(),
            given: properties.into_iter().flatten().filter_map(of_property).collect(),
            required,
            is_closed,
        })
    }

    /// Does a text of one branch never satisfy the other?
    fn excludes(&self, other: &Self) -> bool {
        let apart = |a: &FxHashSet<String>, b: &FxHashSet<String>| a.is_disjoint(b);
        let common = self.types.and(other.types);
        if common == Types::NONE {
            return true;
        }
        if let (Some(own), Some(others)) = (&self.values, &other.values)
            && apart(own, others)
        {
            return true;
        }
        let lacks = |a: &Self, b: &Self| {
            b.is_closed
                && a.required
                    .iter()
                    .any(|name| !b.named.contains(name) && !b.required.contains(name))
        };
        let by_value = || {
            let differs = |(name, own): (&&str, &FxHashSet<String>)| {
                other.given.get(*name).is_some_and(|others| apart(own, others))
            };
            self.given.iter().any(differs)
        };
        common == Types::OBJECT && (by_value() || (lacks(self, other) && lacks(other, self)))
    }
}

impl<'a> Converter<'a> {
    /// Notes a `oneOf` of which a text may satisfy several.
    pub(super) fn check_one_of(&mut self, part: &Part<'a>, list: &'a [Value]) -> Result<(), Error> {
        let mut branches = Vec::new();
        for schema in list.iter().take(MOST_BRANCHES + 1) {
            let node = self.behind(Node { schema, place: part.place.clone() })?;
            let Value::Object(map) = node.schema else { continue };
            let combined = ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|k| map.contains_key(*k));
            if combined || branches.len() == MOST_BRANCHES {
                self.lose(part, "oneOf");
                return Ok(());
            }
            branches.push(Branch::new(&Part { map, place: node.place })?);
        }
        self.work(branches.len() * branches.len() / 8, &part.place)?;
        let pairs = branches.iter().enumerate();
        let overlap = |(i, a): (usize, &Branch<'_>)| branches[..i].iter().any(|b| !a.excludes(b));
        if pairs.into_iter().any(overlap) {
            self.lose(part, "oneOf");
        }
        Ok(())
    }
}
