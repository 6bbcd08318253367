//! From a schema to rules, one for each place in it.

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::expr::{Expr, RuleId, Rules};
use super::keywords::{self, MOST_PLACE, Node, Part, Types, below, item_of};
use super::{Converted, Error};

/// Most references and choices within each other for one value.
pub(super) const MAX_DEPTH: usize = 100;
/// Most schemas, properties and values that are looked at, each as often as it is: about a second.
const MAX_WORK: usize = 1 << 18;

/// What applies to one value.
#[derive(Clone, Default)]
struct Together<'a> {
    parts: Vec<Part<'a>>,
    /// `anyOf` and `oneOf`: one of each list has to apply too.
    choices: Vec<(Part<'a>, &'static str)>,
    seen: FxHashSet<usize>,
    /// A part accepts nothing.
    never: Option<Rc<str>>,
}

/// A conversion.
pub(super) struct Converter<'a> {
    document: &'a Value,
    pub(super) rules: Rules,
    /// Rules by the addresses of the schemas that they are of.
    known: FxHashMap<Vec<usize>, RuleId>,
    queue: VecDeque<(RuleId, Vec<Node<'a>>)>,
    work: usize,
    not_enforced: Vec<String>,
    /// Regular expressions that names and given values were held against.
    pub(super) expressions: FxHashMap<&'a str, Option<fancy_regex::Regex>>,
}

/// The grammar of a schema.
pub(super) fn convert(schema: &Value) -> Result<Converted, Error> {
    let mut converter = Converter {
        document: schema,
        rules: Rules::default(),
        known: FxHashMap::default(),
        queue: VecDeque::new(),
        work: 0,
        not_enforced: Vec::new(),
        expressions: FxHashMap::default(),
    };
    let root = Node { schema, place: "#".into() };
    converter.rule(vec![root])?;
    while let Some((rule, nodes)) = converter.queue.pop_front() {
        let body = converter.body(rule, &nodes)?;
        converter.rules.define(rule, body);
    }
    Ok(Converted { grammar: converter.rules.write()?, not_enforced: converter.not_enforced })
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

impl<'a> Converter<'a> {
    /// The rule for a value to which all of these apply, made when its turn comes.
    pub(super) fn rule(&mut self, nodes: Vec<Node<'a>>) -> Result<Expr, Error> {
        let mut nodes = nodes.into_iter().map(|n| self.behind(n)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = FxHashSet::default();
        nodes.retain(|node| seen.insert(address(node.schema)));
        let mut key: Vec<usize> = nodes.iter().map(|node| address(node.schema)).collect();
        key.sort_unstable();
        if let Some(&rule) = self.known.get(&key) {
            return Ok(Expr::Rule(rule));
        }
        let place = nodes.first().map_or_else(|| "#".into(), |node| Rc::clone(&node.place));
        let hint = if self.queue.is_empty() && self.known.is_empty() {
            "root".into()
        } else {
            hint(&place)
        };
        let rule = self.rules.reserve(&hint, &place);
        self.known.insert(key, rule);
        self.queue.push_back((rule, nodes));
        Ok(Expr::Rule(rule))
    }

    /// What a schema that only refers to another refers to.
    pub(super) fn behind(&self, mut node: Node<'a>) -> Result<Node<'a>, Error> {
        for _ in 0..MAX_DEPTH {
            let Value::Object(map) = node.schema else { return Ok(node) };
            let part = Part { map, place: Rc::clone(&node.place) };
            let more = ["allOf", "anyOf", "oneOf"].iter().any(|keyword| map.contains_key(*keyword));
            if !map.contains_key("$ref") || more || part.restricts() {
                return Ok(node);
            }
            node = self.target(&part)?;
        }
        Err(Error::Circular { place: node.place.to_string() })
    }

    /// Where a `$ref` leads to.
    fn target(&self, part: &Part<'a>) -> Result<Node<'a>, Error> {
        let reference = part.string("$ref")?.unwrap_or_default();
        let bad = |reason| {
            let place = below(&part.place, "$ref").to_string();
            Error::Reference { place, reference: reference.to_owned(), reason }
        };
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(bad("only references into the schema itself (#/…) are followed"));
        };
        if !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err(bad("anchors are not followed, only pointers (#/…)"));
        }
        let pointer = percent_decoded(pointer).ok_or_else(|| bad("it is not percent-encoded"))?;
        let schema =
            self.document.pointer(&pointer).ok_or_else(|| bad("there is nothing there"))?;
        let mut place = format!("#{pointer}");
        place.truncate(place.floor_char_boundary(MOST_PLACE));
        Ok(Node { schema, place: place.into() })
    }

    /// Counts work, so that a small schema cannot make much.
    pub(super) fn work(&mut self, n: usize, place: &str) -> Result<(), Error> {
        self.work += n;
        if self.work > MAX_WORK {
            return Err(Error::TooLarge { place: place.to_owned() });
        }
        Ok(())
    }

    /// Notes a keyword that the grammar does not enforce.
    pub(super) fn lose(&mut self, part: &Part<'_>, keyword: &str) {
        let place = below(&part.place, keyword).to_string();
        if !self.not_enforced.contains(&place) && self.not_enforced.len() < 1000 {
            self.not_enforced.push(place);
        }
    }

    /// The same for all parts that have the keyword.
    pub(super) fn lose_all(&mut self, parts: &[Part<'_>], keyword: &str) {
        parts.iter().filter(|part| part.get(keyword).is_some()).for_each(|p| self.lose(p, keyword));
    }

    /// What a rule stands for.
    fn body(&mut self, rule: RuleId, nodes: &[Node<'a>]) -> Result<Expr, Error> {
        let mut together = Together::default();
        for node in nodes {
            self.add(node, &mut together, &mut Vec::new())?;
        }
        self.branches(rule, together, 0)
    }

    /// Adds a schema to what applies to a value, with all that it refers to for the same value.
    fn add(
        &mut self,
        node: &Node<'a>,
        together: &mut Together<'a>,
        path: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let map = match node.schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => {
                together.never = Some(Rc::clone(&node.place));
                return Ok(());
            }
            Value::Object(map) => map,
            other => {
                let (place, found) = (node.place.to_string(), other.to_string());
                return Err(Error::Value { place, expected: "a schema", found });
            }
        };
        let id = address(node.schema);
        if path.contains(&id) {
            return Err(Error::Circular { place: node.place.to_string() });
        }
        if !together.seen.insert(id) {
            return Ok(());
        }
        if path.len() >= MAX_DEPTH {
            return Err(Error::TooDeep { place: node.place.to_string() });
        }
        self.work(1, &node.place)?;
        path.push(id);
        let part = Part { map, place: Rc::clone(&node.place) };
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if let Some(reference) = part.string(keyword)? {
                let place = below(&part.place, keyword).to_string();
                let reason = "only $ref is followed";
                return Err(Error::Reference { place, reference: reference.into(), reason });
            }
        }
        if map.contains_key("$ref") {
            let target = self.target(&part)?;
            self.add(&target, together, path)?;
        }
        for (i, schema) in part.list("allOf")?.unwrap_or_default().iter().enumerate() {
            let place = item_of(&part.place, "allOf", &i.to_string());
            self.add(&Node { schema, place }, together, path)?;
        }
        for keyword in ["anyOf", "oneOf"] {
            if part.list(keyword)?.is_some() {
                together.choices.push((part.clone(), keyword));
            }
        }
        if part.restricts() {
            together.parts.push(part);
        }
        path.pop();
        Ok(())
    }

    /// Chooses one of each list, in all ways.
    fn branches(
        &mut self,
        rule: RuleId,
        mut together: Together<'a>,
        depth: usize,
    ) -> Result<Expr, Error> {
        if together.never.is_some() {
            return Ok(Expr::NEVER);
        }
        let Some((part, keyword)) = together.choices.pop() else {
            return self.value(rule, &together.parts);
        };
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep { place: part.place.to_string() });
        }
        let list = part.list(keyword)?.unwrap_or_default();
        if keyword == "oneOf" {
            self.check_one_of(&part, list)?;
        }
        let alone = together.parts.is_empty() && together.choices.is_empty();
        let mut all = Vec::new();
        for (i, schema) in list.iter().enumerate() {
            let node = Node { schema, place: item_of(&part.place, keyword, &i.to_string()) };
            self.work(1 + together.parts.len(), &node.place)?;
            all.push(if alone {
                self.rule(vec![node])?
            } else {
                let mut branch = together.clone();
                self.add(&node, &mut branch, &mut Vec::new())?;
                self.branches(rule, branch, depth + 1)?
            });
        }
        Ok(Expr::any(all))
    }

    /// A value to which all parts apply.
    fn value(&mut self, rule: RuleId, parts: &[Part<'a>]) -> Result<Expr, Error> {
        for part in parts {
            part.not_enforced().for_each(|keyword| self.lose(part, keyword));
        }
        let types = keywords::types(parts)?;
        if let Some(values) = self.enumerated(parts, types)? {
            return Ok(values);
        }
        let about = |types| keywords::about(parts, types);
        if types == Types::ALL && about(Types::ALL).is_empty() {
            return Ok(Expr::Named("value"));
        }
        let mut all = Vec::new();
        if types.has(Types::OBJECT) {
            all.push(self.object(rule, &about(Types::OBJECT))?);
        }
        if types.has(Types::ARRAY) {
            all.push(self.array(rule, &about(Types::ARRAY))?);
        }
        if types.has(Types::STRING) {
            let formats = |part: &&Part<'_>| part.map.contains_key("format");
            let mut of_strings = about(Types::STRING);
            let known = |part: &Part<'a>| of_strings.iter().any(|p| std::ptr::eq(p.map, part.map));
            let more: Vec<_> =
                parts.iter().filter(formats).filter(|part| !known(part)).cloned().collect();
            of_strings.extend(more);
            all.push(self.string(rule, &of_strings)?);
        }
        if types.has(Types::FRACTION) {
            all.push(self.number(&about(Types::NUMBER))?);
        } else if types.has(Types::INTEGER) {
            all.push(self.integer(&about(Types::NUMBER))?);
        }
        if types.has(Types::BOOLEAN) {
            all.push(Expr::Named("boolean"));
        }
        if types.has(Types::NULL) {
            all.push(Expr::Named("null"));
        }
        Ok(Expr::any(all))
    }
}

/// A name for the rule of a place: `#/properties/a/items` is `a-item`.
fn hint(place: &str) -> String {
    let mut name = String::new();
    for word in place.split('/').skip(1) {
        let word = match word {
            "properties" | "$defs" | "definitions" => continue,
            "anyOf" | "oneOf" => "alternative",
            "items" => "item",
            "prefixItems" => "tuple",
            "additionalProperties" => "additional",
            word => word,
        };
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(word);
    }
    name
}

/// A fragment of a URI without its %XX.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}
