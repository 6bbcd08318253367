//! Keywords that apply to one value, and the types that they leave.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::Error;

/// Longest place that is told in full, and longest name in it: names may be megabytes.
pub(super) const MOST_PLACE: usize = 1000;
const MOST_NAME: usize = 100;

/// A place in a place: what a keyword has.
pub(super) fn below(place: &str, keyword: &str) -> Rc<str> {
    if place.len() > MOST_PLACE { place.into() } else { format!("{place}/{keyword}").into() }
}

/// The place of an item of a keyword, by its number or name.
pub(super) fn item_of(place: &str, keyword: &str, item: &str) -> Rc<str> {
    let mut item = item.replace('~', "~0").replace('/', "~1");
    if let Some((end, _)) = item.char_indices().nth(MOST_NAME) {
        item.truncate(end);
        item.push('…');
    }
    below(&below(place, keyword), &item)
}

/// A schema and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) schema: &'a Value,
    pub(super) place: Rc<str>,
}

/// Keywords of one schema object. All parts of a value apply at once.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) place: Rc<str>,
}

/// Types of JSON values, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const OBJECT: Self = Self(1);
    pub(super) const ARRAY: Self = Self(2);
    pub(super) const STRING: Self = Self(4);
    pub(super) const INTEGER: Self = Self(8);
    /// Numbers that are no integers.
    pub(super) const FRACTION: Self = Self(16);
    pub(super) const BOOLEAN: Self = Self(32);
    pub(super) const NULL: Self = Self(64);
    pub(super) const NUMBER: Self = Self(8 | 16);
    pub(super) const ALL: Self = Self(127);

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            "string" => Self::STRING,
            "number" => Self::NUMBER,
            "integer" => Self::INTEGER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            _ => return None,
        })
    }

    /// The type of a value. 1.0 is an integer.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(n) if n.as_f64().is_some_and(|n| n.fract() == 0.0) => Self::INTEGER,
            Value::Number(_) => Self::FRACTION,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0 && other != Self::NONE
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Keywords by the type that they are about.
const OF_OBJECTS: &[&str] = &[
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
];
const OF_ARRAYS: &[&str] = &["items", "prefixItems", "additionalItems", "minItems", "maxItems"];
const OF_STRINGS: &[&str] = &["pattern", "minLength", "maxLength"];
const OF_NUMBERS: &[&str] =
    &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const OF_ALL: &[&str] = &["type", "enum", "const"];
/// Keywords about what is in objects and arrays.
pub(super) const OF_CONTENTS: [&[&str]; 2] = [OF_OBJECTS, OF_ARRAYS];

/// Keywords that no grammar is made of.
const NOT_ENFORCED: &[&str] = &[
    "not",
    "if",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "contains",
    "unevaluatedItems",
];

/// Formats of strings that a grammar is made of.
pub(super) const FORMATS: &[&str] =
    &["date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5"];

/// A keyword's value that is not what it should be.
pub(super) fn wrong(place: &str, keyword: &str, expected: &'static str, found: &Value) -> Error {
    let mut found = found.to_string();
    if let Some((end, _)) = found.char_indices().nth(60) {
        found.truncate(end);
        found.push('…');
    }
    Error::Value { place: below(place, keyword).to_string(), expected, found }
}

impl<'a> Part<'a> {
    pub(super) fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.map.get(keyword)
    }

    pub(super) fn wrong(&self, keyword: &str, expected: &'static str) -> Error {
        let found = self.get(keyword).unwrap_or(&Value::Null);
        wrong(&self.place, keyword, expected, found)
    }

    /// A number of things.
    pub(super) fn count(&self, keyword: &str) -> Result<Option<u64>, Error> {
        const MOST: f64 = 9_007_199_254_740_992.0;
        let Some(value) = self.get(keyword) else { return Ok(None) };
        let whole = |n: f64| n.fract() == 0.0 && (0.0..=MOST).contains(&n);
        let n = value.as_f64().filter(|&n| whole(n));
        let n = n.ok_or_else(|| self.wrong(keyword, "a whole number from 0 to 2^53"))?;
        Ok(Some(n as u64))
    }

    pub(super) fn string(&self, keyword: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(keyword, "a string"))
    }

    pub(super) fn object(&self, keyword: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        value.as_object().map(Some).ok_or_else(|| self.wrong(keyword, "an object"))
    }

    /// A list of at least one value.
    pub(super) fn list(&self, keyword: &str) -> Result<Option<&'a [Value]>, Error> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        match value.as_array() {
            Some(list) if !list.is_empty() => Ok(Some(list)),
            _ => Err(self.wrong(keyword, "an array that is not empty")),
        }
    }

    /// The schema that a keyword has.
    pub(super) fn node(&self, keyword: &str) -> Option<Node<'a>> {
        let schema = self.get(keyword)?;
        Some(Node { schema, place: below(&self.place, keyword) })
    }

    fn has_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.map.contains_key(*keyword))
    }

    /// Does it say more than what is put together of others?
    pub(super) fn restricts(&self) -> bool {
        let lists = [OF_ALL, OF_OBJECTS, OF_ARRAYS, OF_STRINGS, OF_NUMBERS, NOT_ENFORCED];
        lists.iter().any(|list| self.has_any(list))
            || self.has_any(&["format", "uniqueItems", "nullable"])
    }

    /// The types that it names.
    fn types(&self) -> Result<Option<Types>, Error> {
        const EXPECTED: &str =
            "object, array, string, number, integer, boolean, null or an array of those";
        let Some(value) = self.get("type") else { return Ok(None) };
        let named = |name: &Value| name.as_str().and_then(Types::named);
        let types = match value {
            Value::Array(names) if !names.is_empty() => {
                let add = |all: Types, name| Some(all.or(named(name)?));
                names.iter().try_fold(Types::NONE, add)
            }
            name => named(name),
        };
        let types = types.ok_or_else(|| self.wrong("type", EXPECTED))?;
        // OpenAPI 3.0 says it this way.
        let nullable = self.get("nullable").and_then(Value::as_bool) == Some(true);
        Ok(Some(if nullable { types.or(Types::NULL) } else { types }))
    }

    /// The types that its keywords are about.
    fn about(&self) -> Types {
        let formats = || self.get("format").and_then(Value::as_str);
        let string = || formats().is_some_and(|format| FORMATS.contains(&format));
        [
            (self.has_any(OF_OBJECTS), Types::OBJECT),
            (self.has_any(OF_ARRAYS), Types::ARRAY),
            (self.has_any(OF_STRINGS) || string(), Types::STRING),
            (self.has_any(OF_NUMBERS), Types::NUMBER),
        ]
        .into_iter()
        .filter(|(is, _)| *is)
        .fold(Types::NONE, |all, (_, types)| all.or(types))
    }

    /// The keywords that it has and no grammar is made of.
    pub(super) fn not_enforced(&self) -> impl Iterator<Item = &'static str> {
        let unique = self.get("uniqueItems").and_then(Value::as_bool) == Some(true);
        let known = NOT_ENFORCED.iter().copied().filter(|keyword| self.map.contains_key(*keyword));
        known.chain(unique.then_some("uniqueItems"))
    }
}

/// The types that all parts leave.
pub(super) fn types(parts: &[Part<'_>]) -> Result<Types, Error> {
    let mut types = Types::ALL;
    let mut is_given = false;
    for part in parts {
        if let Some(named) = part.types()? {
            types = types.and(named);
            is_given = true;
        }
        is_given |= part.has_any(&["enum", "const"]);
    }
    let about = parts.iter().fold(Types::NONE, |all, part| all.or(part.about()));
    Ok(if is_given || about == Types::NONE { types } else { about })
}

/// The parts that have keywords about one type.
pub(super) fn about<'a>(parts: &[Part<'a>], types: Types) -> Vec<Part<'a>> {
    parts.iter().filter(|part| part.about().and(types) != Types::NONE).cloned().collect()
}
